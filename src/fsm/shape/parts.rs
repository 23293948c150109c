//! The leaves of the format: calls, transitions, invocations.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::reader::Reader;
use crate::fsm::definition::{Call, Invoke, Transition};
use crate::fsm::finding;
use crate::fsm::names;

impl Reader {
    /// `on` and `after`. `check` looks at a key and says whether strings are refused inside its list.
    pub fn table(&mut self, value: &Value, mut check: impl FnMut(&mut Reader, &str) -> bool) -> Option<IndexMap<String, Vec<Transition>>> {
        let map = self.any_object(value)?;
        let mut table = IndexMap::new();
        for (key, value) in map {
            self.under(key, |reader| {
                let refuse_strings = check(reader, key) && value.is_array();
                let list = reader.each(value, |reader, item| {
                    if refuse_strings && item.is_string() {
                        let message = "a string inside an `after` list loses its target in XState; write {\"target\": …}";
                        reader.fail(finding::STRING_IN_AFTER, message);
                    }
                    reader.transition(item)
                });
                table.insert(key.clone(), list);
            });
        }
        Some(table)
    }

    pub fn transitions(&mut self, value: &Value) -> Option<Vec<Transition>> {
        Some(self.each(value, Reader::transition))
    }

    fn transition(&mut self, value: &Value) -> Option<Transition> {
        if value.is_string() {
            return Some(Transition { target: self.target(value), ..Transition::default() });
        }
        if !value.is_object() {
            self.wrong_type(value, "a target or {target, …}");
            return None;
        }
        let keys = &["target", "guard", "actions", "reenter", "description", "meta"];
        let map = self.object(value, "a transition", &[keys])?;
        Some(Transition {
            target: self.member(map, "target", Reader::target),
            guard: self.member(map, "guard", Reader::guard),
            actions: self.member(map, "actions", Reader::calls).unwrap_or_default(),
            reenter: self.member(map, "reenter", Reader::bool).unwrap_or_default(),
            description: self.member(map, "description", Reader::string),
            meta: self.member(map, "meta", |reader, value| reader.any_object(value).cloned()).unwrap_or_default(),
        })
    }

    fn target(&mut self, value: &Value) -> Option<String> {
        if value.is_array() {
            self.fail(finding::LEFT_OUT, "several targets at once are left out: a chunk is sequential");
            return None;
        }
        let target = self.string(value)?;
        if !names::is_target(&target) {
            let forms = "`sibling`, `sibling.child`, `.child`, `#id` or `#id.child`";
            self.fail(finding::BAD_TARGET, format!("`{target}` is not a target: {forms} is"));
            return None;
        }
        Some(target)
    }

    pub fn calls(&mut self, value: &Value) -> Option<Vec<Call>> {
        Some(self.each(value, Reader::call))
    }

    fn call(&mut self, value: &Value) -> Option<Call> {
        if value.is_string() {
            return Some(Call::new(self.dotted(value)?));
        }
        if !value.is_object() {
            self.wrong_type(value, "a name or {type, params}");
            return None;
        }
        let map = self.object(value, "a guard or an action", &[&["type", "params"]])?;
        Some(Call {
            name: self.required(map, "type", Reader::dotted)?,
            params: self.member(map, "params", |reader, value| reader.any_object(value).cloned()),
        })
    }

    fn guard(&mut self, value: &Value) -> Option<Call> {
        let mut call = self.call(value)?;
        canonical_guard(&call.name, call.params.as_mut());
        Some(call)
    }

    pub fn invokes(&mut self, value: &Value) -> Option<Vec<Invoke>> {
        Some(self.each(value, Reader::invoke))
    }

    fn invoke(&mut self, value: &Value) -> Option<Invoke> {
        let map = self.object(value, "an invocation", &[&["src", "id", "input", "onDone", "onError"]])?;
        Some(Invoke {
            src: self.required(map, "src", Reader::dotted).unwrap_or_default(),
            id: self.member(map, "id", Reader::dotted),
            input: map.get("input").cloned(),
            on_done: self.member(map, "onDone", Reader::transitions).unwrap_or_default(),
            on_error: self.member(map, "onError", Reader::transitions).unwrap_or_default(),
        })
    }
}

/// Inner guards may be strings too; the canonical form has objects. What is not a guard stays for the check of params.
fn canonical_guard(name: &str, params: Option<&mut Map<String, Value>>) {
    let Some(params) = params else { return };
    let inner: &mut [Value] = match name {
        "fsm.and" | "fsm.or" => match params.get_mut("guards") {
            Some(Value::Array(guards)) => guards,
            _ => return,
        },
        "fsm.not" => params.get_mut("guard").map_or(&mut [], std::slice::from_mut),
        _ => return,
    };
    for guard in inner {
        if let Value::String(name) = guard {
            *guard = Value::Object(Map::from_iter([("type".to_owned(), Value::from(std::mem::take(name)))]));
        } else if let Value::Object(map) = guard {
            let name = map.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
            canonical_guard(&name, map.get_mut("params").and_then(Value::as_object_mut));
        }
    }
}
