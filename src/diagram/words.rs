//! Guards, actions and delays in readable form.
//!
//! Nothing here fails: a call that the machine would refuse is shown as it is written.

use serde_json::{Map, Value};

use super::units;
use crate::fsm::definition::{Backoff, Call, Delay, State};
use crate::fsm::{Definition, Jitter};

/// How tightly a guard holds together: what binds less than its surroundings gets brackets.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Or,
    And,
    Tight,
}

/// A guard without the square brackets: `attempt > maxAttempts`, `error.kind in io, timeout`.
pub(super) fn guard(call: &Call) -> String {
    guard_parts(&call.name, call.params.as_ref()).0
}

fn guard_parts(name: &str, params: Option<&Map<String, Value>>) -> (String, Binding) {
    let get = |key: &str| params.and_then(|params| params.get(key));
    let comparison = match name {
        "fsm.lt" => Some("<"),
        "fsm.lte" => Some("≤"),
        "fsm.gt" => Some(">"),
        "fsm.gte" => Some("≥"),
        "fsm.eq" => Some("="),
        _ => None,
    };
    if let (Some(sign), Some(Value::String(key)), Some(value)) = (comparison, get("key"), get("value")) {
        return (format!("{key} {sign} {}", operand(value)), Binding::Tight);
    }
    match (name, get("path"), get("values"), get("guards"), get("guard")) {
        ("fsm.eventIn", Some(Value::String(path)), Some(Value::Array(values)), _, _) => {
            let values: Vec<_> = values.iter().map(operand).collect();
            (format!("{path} in {}", values.join(", ")), Binding::Tight)
        }
        ("fsm.and", _, _, Some(Value::Array(guards)), _) => joined(guards, " and ", Binding::And),
        ("fsm.or", _, _, Some(Value::Array(guards)), _) => joined(guards, " or ", Binding::Or),
        ("fsm.not", _, _, _, Some(inner)) => (format!("not {}", inner_guard(inner, Binding::Tight)), Binding::Tight),
        _ => (with_params(name, params), Binding::Tight),
    }
}

fn joined(guards: &[Value], word: &str, binding: Binding) -> (String, Binding) {
    match guards {
        [] => (if binding == Binding::And { "true" } else { "false" }.to_owned(), Binding::Tight),
        [one] => (inner_guard(one, Binding::Or), Binding::Or),
        many => (many.iter().map(|guard| inner_guard(guard, binding)).collect::<Vec<_>>().join(word), binding),
    }
}

fn inner_guard(value: &Value, around: Binding) -> String {
    let (text, binding) = match value {
        Value::Object(call) => {
            let name = call.get("type").and_then(Value::as_str).unwrap_or("?");
            guard_parts(name, call.get("params").and_then(Value::as_object))
        }
        other => (operand(other), Binding::Tight),
    };
    if binding < around { format!("({text})") } else { text }
}

/// An action: `attempt += 1`, `error := error.kind`, `raise ASSIGN`, `notify(level = 2)`.
pub(super) fn action(call: &Call) -> String {
    match (call.name.as_str(), &call.params) {
        ("fsm.assign", Some(changes)) => changes.iter().map(|(key, value)| change(key, value)).collect::<Vec<_>>().join(", "),
        ("fsm.raise", Some(params)) => {
            let event = params.get("event");
            let name = event.and_then(|event| event.get("type").unwrap_or(event).as_str());
            format!("raise {}", name.unwrap_or("?"))
        }
        (name, params) => with_params(name, params.as_ref()),
    }
}

fn change(key: &str, value: &Value) -> String {
    match value.get("$inc").and_then(Value::as_f64) {
        Some(by) if by < 0.0 => format!("{key} −= {}", units::number(-by)),
        Some(by) => format!("{key} += {}", units::number(by)),
        None => format!("{key} := {}", operand(value)),
    }
}

fn with_params(name: &str, params: Option<&Map<String, Value>>) -> String {
    let Some(params) = params.filter(|params| !params.is_empty()) else { return name.to_owned() };
    let params: Vec<_> = params.iter().map(|(key, value)| format!("{key} = {}", operand(value))).collect();
    format!("{name}({})", params.join(", "))
}

/// A value, or where it is read. Strings that look like a word go without quotes.
fn operand(value: &Value) -> String {
    let is_word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
    let path = value.as_object().filter(|map| map.len() == 1).and_then(|map| map.get("$context").or(map.get("$event")));
    match (path, value) {
        (Some(Value::String(path)), _) => path.clone(),
        (_, Value::String(text)) if is_word(text) => text.clone(),
        (_, other) => other.to_string(),
    }
}

/// A key of `after`: the name of a delay, or `1.5 s`.
pub(super) fn delay(key: &str) -> String {
    key.parse().map_or_else(|_| key.to_owned(), units::milliseconds)
}

/// What the delay of this name amounts to.
pub(super) fn delay_detail(definition: &Definition, key: &str) -> Option<String> {
    definition.delays.get(key).map(formula)
}

/// `30 s`, or for a backoff `100 ms ×2 … 5 s, full jitter`.
fn formula(delay: &Delay) -> String {
    let backoff = match delay {
        Delay::Constant(ms) => return units::milliseconds(*ms),
        Delay::Backoff(backoff) => backoff,
    };
    let factor = backoff.factor.unwrap_or(Backoff::DEFAULT_FACTOR);
    let mut text = format!("{} ×{}", units::milliseconds(backoff.base), units::number(factor));
    if let Some(max) = backoff.max {
        text += &format!(" … {}", units::milliseconds(max));
    }
    if backoff.jitter == Some(Jitter::Full) {
        text += ", full jitter";
    }
    text
}

/// The state of this name, the root's being empty.
pub(super) fn state<'d>(definition: &'d Definition, name: &str) -> Option<&'d State> {
    let mut keys = name.split('.').filter(|key| !key.is_empty());
    keys.try_fold(&definition.root, |state, key| state.states.get(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(value: &Value) -> Call {
        let params = value.get("params").and_then(Value::as_object).cloned();
        Call { name: value["type"].as_str().unwrap_or_default().to_owned(), params }
    }

    #[test]
    fn guards_read_like_sentences() {
        let less = json!({ "type": "fsm.lt", "params": { "key": "attempt", "value": 3 } });
        let known = json!({ "type": "fsm.eventIn", "params": { "path": "error.kind", "values": ["io", "timeout", "bad one"] } });
        let either = json!({ "type": "fsm.or", "params": { "guards": [less, "enabled"] } });
        let cases = [
            (less.clone(), "attempt < 3"),
            (json!({ "type": "fsm.gt", "params": { "key": "attempt", "value": { "$context": "max" } } }), "attempt > max"),
            (json!({ "type": "fsm.eq", "params": { "key": "stage", "value": "validate" } }), "stage = validate"),
            (json!({ "type": "fsm.eq", "params": { "key": "error", "value": null } }), "error = null"),
            (known, "error.kind in io, timeout, \"bad one\""),
            (json!({ "type": "fsm.and", "params": { "guards": [either, "open"] } }), "(attempt < 3 or enabled) and open"),
            (json!({ "type": "fsm.not", "params": { "guard": either } }), "not (attempt < 3 or enabled)"),
            (json!({ "type": "fsm.not", "params": { "guard": "open" } }), "not open"),
            (json!({ "type": "hasCredit", "params": { "rows": 5 } }), "hasCredit(rows = 5)"),
            (json!({ "type": "fsm.lt", "params": {} }), "fsm.lt"),
        ];
        for (written, read) in cases {
            assert_eq!(guard(&call(&written)), read);
        }
    }

    #[test]
    fn actions_read_like_assignments() {
        let cases = [
            (json!({ "type": "fsm.assign", "params": { "attempt": { "$inc": 1 }, "n": { "$inc": -2 } } }), "attempt += 1, n −= 2"),
            (json!({ "type": "fsm.assign", "params": { "error": { "$event": "error.kind" } } }), "error := error.kind"),
            (json!({ "type": "fsm.assign", "params": { "was": "active" } }), "was := active"),
            (json!({ "type": "fsm.raise", "params": { "event": { "type": "ASSIGN", "to": "me" } } }), "raise ASSIGN"),
            (json!({ "type": "notify" }), "notify"),
        ];
        for (written, read) in cases {
            assert_eq!(action(&call(&written)), read);
        }
    }

    #[test]
    fn delays_show_their_formula() {
        let definition: Definition = serde_json::from_value(json!({
            "id": "m", "initial": "a", "states": { "a": {} },
            "meta": { "fsm": { "delays": {
                "stage": 30000,
                "retry": { "base": 100, "factor": 2, "max": 5000, "by": "attempt", "jitter": "full" },
                "open": { "base": 50 }
            } } }
        }))
        .unwrap();
        assert_eq!(["1500", "stage"].map(delay), ["1.5 s", "stage"]);
        let shown = ["stage", "retry", "open"].map(|key| delay_detail(&definition, key).unwrap_or_default());
        assert_eq!(shown, ["30 s", "100 ms ×2 … 5 s, full jitter", "50 ms ×2"]);
        assert_eq!(delay_detail(&definition, "1500"), None);
    }
}
