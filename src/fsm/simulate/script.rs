//! The event script that people write: words for events, time and outcomes.

use std::fmt;

use serde_json::{Map, Value};

use crate::fsm::machine::{GuardId, Machine};
use crate::fsm::names;

/// A word of a script that means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// The word, counted from 1.
    pub number: usize,
    /// As written.
    pub word: String,
    /// What is wrong with it, and what was probably meant.
    pub message: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} `{}`: {}", self.number, self.word, self.message)
    }
}

impl std::error::Error for ScriptError {}

/// One word, understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// `NAME` or `NAME={…}`
    Event { name: String, payload: Option<Map<String, Value>> },
    /// `+100ms`
    Advance { ms: f64 },
    /// `done:WHO` or `done:WHO=JSON`
    Done { who: String, output: Value },
    /// `fail:WHO` or `fail:WHO=KIND`
    Fail { who: String, error: Value },
    /// `guard:NAME=true`
    Guard { guard: GuardId, holds: bool },
}

/// Splits a script into words and reads each. Blanks inside `{}`, `[]` and `""` do not split.
pub(super) fn parse(machine: &Machine, script: &str) -> Result<Vec<(String, Item)>, ScriptError> {
    let read = |(index, word): (usize, String)| match item(machine, &word) {
        Ok(item) => Ok((word, item)),
        Err(message) => Err(ScriptError { number: index + 1, word, message }),
    };
    words(script).into_iter().enumerate().map(read).collect()
}

fn words(script: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for c in script.chars() {
        if c.is_whitespace() && depth == 0 && !quoted {
            words.push(std::mem::take(&mut word));
            continue;
        }
        word.push(c);
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn item(machine: &Machine, word: &str) -> Result<Item, String> {
    if let Some(duration) = word.strip_prefix('+') {
        return milliseconds(duration).map(|ms| Item::Advance { ms });
    }
    let (head, value) = word.split_once('=').map_or((word, None), |(head, value)| (head, Some(value)));
    match head.split_once(':') {
        Some(("done", who)) => Ok(Item::Done { who: invoked(machine, who)?, output: value.map_or(Ok(Value::Null), json)? }),
        Some(("fail", who)) => {
            let error = match value.map(json).transpose()? {
                Some(Value::String(kind)) => kind_of(&kind),
                Some(error) => error,
                None => kind_of("error"),
            };
            Ok(Item::Fail { who: invoked(machine, who)?, error })
        }
        Some(("guard", name)) => {
            let holds = match value {
                Some("true") => true,
                Some("false") => false,
                _ => return Err("say guard:NAME=true or guard:NAME=false".to_owned()),
            };
            let found = machine.guard_names().find(|(_, known)| *known == name);
            let known = machine.guard_names().map(|(_, known)| known);
            found.map(|(guard, _)| Item::Guard { guard, holds }).ok_or_else(|| unknown("guard", name, known))
        }
        Some((other, _)) => {
            let meant = names::nearest(other, ["done", "fail", "guard"]);
            let meant = meant.map(|meant| format!("; did you mean `{meant}:`?")).unwrap_or_default();
            Err(format!("`{other}:` is not known; done:, fail: and guard: are{meant}"))
        }
        None if !names::is_dotted(head) => Err("not an event: a name, +100ms, done:WHO, fail:WHO or guard:NAME=true is".to_owned()),
        None => match value.map(json).transpose()? {
            None => Ok(Item::Event { name: head.to_owned(), payload: None }),
            Some(Value::Object(payload)) => Ok(Item::Event { name: head.to_owned(), payload: Some(payload) }),
            Some(_) => Err("the payload of an event is a JSON object: NAME={\"key\": value}".to_owned()),
        },
    }
}

/// `WHO` is the id or the `src` of an invocation; both must exist, running or not.
fn invoked(machine: &Machine, who: &str) -> Result<String, String> {
    let all = || machine.invocations().map(|id| machine.invocation(id));
    if all().any(|invocation| invocation.id == who || invocation.src == who) {
        return Ok(who.to_owned());
    }
    Err(unknown("invocation", who, all().flat_map(|invocation| [invocation.id.as_str(), invocation.src.as_str()])))
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: std::collections::BTreeSet<&str> = known.collect();
    match names::nearest(name, known.iter().copied()) {
        Some(meant) => format!("unknown {what} `{name}`; did you mean `{meant}`?"),
        None => {
            let list = known.into_iter().collect::<Vec<_>>().join(", ");
            format!("unknown {what} `{name}`; the definition has {}", if list.is_empty() { "none" } else { &list })
        }
    }
}

fn kind_of(kind: &str) -> Value {
    Value::Object(Map::from_iter([("kind".to_owned(), kind.into())]))
}

/// JSON, or a bare word as a string.
fn json(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if names::is_dotted(text) => Ok(text.into()),
        Err(error) => Err(format!("`{text}` is neither a word nor JSON: {error}")),
    }
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        _ => return Err("a duration is a number with ms, s, m or h: +100ms, +1.5s".to_owned()),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let count: Option<f64> = digits.parse().ok().filter(|_| plain);
    count.map(|count| count * unit).ok_or_else(|| format!("`{digits}` is not a number"))
}
