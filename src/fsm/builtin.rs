//! The vocabulary that the machine performs itself: guards and actions named `fsm.*`, in typed form.
//!
//! XState has no JSON form for comparisons, `assign` and `raise`; these names carry them in `params`, so that a
//! definition stays a plain XState config. `conformance/lib.mjs` is the adapter that gives XState the same names.

use serde_json::{Map, Value};

use super::definition::Call;
use super::finding::{self, Code};
use super::names;
use super::path::Path;

pub(super) const GUARDS: &[&str] = &["fsm.lt", "fsm.lte", "fsm.gt", "fsm.gte", "fsm.eq", "fsm.eventIn", "fsm.and", "fsm.or", "fsm.not"];
pub(super) const ACTIONS: &[&str] = &[ASSIGN, RAISE];
pub(super) const ASSIGN: &str = "fsm.assign";
pub(super) const RAISE: &str = "fsm.raise";
/// Guards inside guards, at most.
const MAX_NESTING: usize = 32;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Guard<'d> {
    Custom {
        name: &'d str,
        params: Option<&'d Map<String, Value>>,
    },
    /// The context at `key` against `value`.
    Compare {
        order: Order,
        key: &'d str,
        value: Operand<'d>,
    },
    EventIn {
        path: &'d str,
        values: &'d [Value],
    },
    All(Vec<Guard<'d>>),
    Any(Vec<Guard<'d>>),
    Not(Box<Guard<'d>>),
}

/// Where a value comes from.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) enum Operand<'d> {
    Literal(&'d Value),
    Context(&'d str),
    Event(&'d str),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action<'d> {
    Custom,
    /// Each key of the context with its new value; all are computed before the first is stored.
    Assign(Vec<(&'d str, Change<'d>)>),
    Raise {
        name: &'d str,
        event: &'d Map<String, Value>,
    },
}

#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) enum Change<'d> {
    Set(Operand<'d>),
    Increment(f64),
}

/// What is wrong with a call, and where below it.
#[derive(Debug)]
pub(super) struct Fault {
    pub code: Code,
    pub detail: Path,
    pub message: String,
    pub suggestion: Option<String>,
}

/// Reads calls and keeps what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Parser {
    pub faults: Vec<Fault>,
    detail: Path,
    nesting: usize,
}

/// A guard of a definition that was checked.
pub(super) fn guard(call: &Call) -> Option<Guard<'_>> {
    Parser::default().guard(call)
}

/// An action of a definition that was checked.
pub(super) fn action(call: &Call) -> Option<Action<'_>> {
    Parser::default().action(call)
}

impl Parser {
    fn fail<T>(&mut self, code: Code, message: impl Into<String>) -> Option<T> {
        self.faults.push(Fault { code, detail: self.detail.clone(), message: message.into(), suggestion: None });
        None
    }

    fn bad<T>(&mut self, message: impl Into<String>) -> Option<T> {
        self.fail(finding::BAD_PARAMS, message)
    }

    fn under<T>(&mut self, steps: Path, parse: impl FnOnce(&mut Parser) -> T) -> T {
        let outer = self.detail.clone();
        self.detail = outer.join(&steps);
        let result = parse(self);
        self.detail = outer;
        result
    }

    fn at<T>(&mut self, key: &str, parse: impl FnOnce(&mut Parser) -> T) -> T {
        self.under(Path::root().key(key), parse)
    }

    /// The params of a built-in: an object with exactly these keys.
    fn params<'d>(&mut self, name: &str, params: Option<&'d Map<String, Value>>, keys: &[&str]) -> Option<&'d Map<String, Value>> {
        let Some(params) = params else {
            return self.bad(format!("`{name}` needs params: {}", keys.join(", ")));
        };
        if let Some(missing) = keys.iter().find(|key| !params.contains_key(**key)) {
            return self.bad(format!("`{name}` needs `{missing}`"));
        }
        if let Some(extra) = params.keys().find(|key| !keys.contains(&key.as_str())) {
            let extra = extra.clone();
            self.at("params", |parser| parser.at(&extra, |parser| parser.bad::<()>(format!("`{name}` does not know `{extra}`"))));
            return None;
        }
        Some(params)
    }

    pub fn guard<'d>(&mut self, call: &'d Call) -> Option<Guard<'d>> {
        self.named_guard(&call.name, call.params.as_ref())
    }

    fn named_guard<'d>(&mut self, name: &'d str, params: Option<&'d Map<String, Value>>) -> Option<Guard<'d>> {
        let order = match name {
            "fsm.lt" => Order::Less,
            "fsm.lte" => Order::LessOrEqual,
            "fsm.gt" => Order::Greater,
            "fsm.gte" => Order::GreaterOrEqual,
            "fsm.eq" => Order::Equal,
            "fsm.eventIn" => return self.event_in(name, params),
            "fsm.and" => return Some(Guard::All(self.inner_guards(name, params)?)),
            "fsm.or" => return Some(Guard::Any(self.inner_guards(name, params)?)),
            "fsm.not" => {
                let inner = &self.params(name, params, &["guard"])?["guard"];
                let inner = self.at("params", |parser| parser.at("guard", |parser| parser.inner_guard(inner)))?;
                return Some(Guard::Not(Box::new(inner)));
            }
            _ if name.starts_with("fsm.") => return self.unknown(finding::UNKNOWN_GUARD, name, GUARDS),
            _ => return Some(Guard::Custom { name, params }),
        };
        let params = self.params(name, params, &["key", "value"])?;
        self.at("params", |parser| {
            let key = parser.at("key", |parser| parser.path(&params["key"]))?;
            let value = parser.at("value", |parser| {
                let value = parser.operand(&params["value"])?;
                match value {
                    Operand::Literal(Value::Array(_) | Value::Object(_)) => {
                        parser.bad("only a number, a string, a boolean or null can be compared, or {\"$context\": path}")
                    }
                    value => Some(value),
                }
            })?;
            Some(Guard::Compare { order, key, value })
        })
    }

    fn unknown<T>(&mut self, code: Code, name: &str, known: &[&str]) -> Option<T> {
        let what = if code == finding::UNKNOWN_GUARD { "guard" } else { "action" };
        self.fail::<()>(code, format!("unknown built-in {what} `{name}`"));
        if let Some(fault) = self.faults.last_mut() {
            fault.suggestion = names::nearest(name, known.iter().copied());
        }
        None
    }

    fn event_in<'d>(&mut self, name: &str, params: Option<&'d Map<String, Value>>) -> Option<Guard<'d>> {
        let params = self.params(name, params, &["path", "values"])?;
        self.at("params", |parser| {
            let path = parser.at("path", |parser| parser.path(&params["path"]))?;
            let values = parser.at("values", |parser| match &params["values"] {
                Value::Array(values) if values.iter().all(is_scalar) => Some(values.as_slice()),
                _ => parser.bad("a list of numbers, strings, booleans or nulls is needed"),
            })?;
            Some(Guard::EventIn { path, values })
        })
    }

    fn inner_guards<'d>(&mut self, name: &str, params: Option<&'d Map<String, Value>>) -> Option<Vec<Guard<'d>>> {
        let list = &self.params(name, params, &["guards"])?["guards"];
        self.at("params", |parser| {
            parser.at("guards", |parser| {
                let Value::Array(list) = list else { return parser.bad("a list of guards is needed") };
                let mut guards = Vec::new();
                for (index, inner) in list.iter().enumerate() {
                    guards.push(parser.under(Path::root().item(index, list.len()), |parser| parser.inner_guard(inner)));
                }
                guards.into_iter().collect()
            })
        })
    }

    fn inner_guard<'d>(&mut self, value: &'d Value) -> Option<Guard<'d>> {
        let (name, params) = match value {
            Value::String(name) => (name.as_str(), None),
            Value::Object(map) => {
                let name = map.get("type").and_then(Value::as_str).unwrap_or_default();
                let params = map.get("params");
                let known = map.keys().all(|key| key == "type" || key == "params");
                if !known || params.is_some_and(|params| !params.is_object()) {
                    return self.bad("a guard is a name or {type, params}");
                }
                (name, params.and_then(Value::as_object))
            }
            _ => return self.bad("a guard is a name or {type, params}"),
        };
        if !names::is_dotted(name) {
            return self.fail(finding::BAD_NAME, format!("`{name}` cannot name a guard"));
        }
        if self.nesting >= MAX_NESTING {
            return self.fail(finding::TOO_LARGE, format!("more than {MAX_NESTING} guards inside each other"));
        }
        self.nesting += 1;
        let guard = self.named_guard(name, params);
        self.nesting -= 1;
        guard
    }

    pub fn action<'d>(&mut self, call: &'d Call) -> Option<Action<'d>> {
        match call.name.as_str() {
            ASSIGN => self.assign(call.params.as_ref()),
            RAISE => self.raise(call.params.as_ref()),
            name if name.starts_with("fsm.") => self.unknown(finding::UNKNOWN_ACTION, name, ACTIONS),
            _ => Some(Action::Custom),
        }
    }

    fn assign<'d>(&mut self, params: Option<&'d Map<String, Value>>) -> Option<Action<'d>> {
        let Some(params) = params else { return self.bad("`fsm.assign` needs params: {key: value, …}") };
        self.at("params", |parser| {
            let mut changes = Vec::new();
            for (key, value) in params {
                let change = parser.at(key, |parser| {
                    if !names::is_name(key) {
                        return parser.fail(finding::BAD_NAME, format!("`{key}` cannot name a context key that is assigned"));
                    }
                    parser.change(value)
                });
                changes.push(change.map(|change| (key.as_str(), change)));
            }
            changes.into_iter().collect::<Option<Vec<_>>>().map(Action::Assign)
        })
    }

    fn change<'d>(&mut self, value: &'d Value) -> Option<Change<'d>> {
        match value.get("$inc") {
            Some(by) if value.as_object().is_some_and(|map| map.len() == 1) => match by.as_f64() {
                Some(by) => Some(Change::Increment(by)),
                None => self.bad("`$inc` needs a number"),
            },
            _ => self.operand(value).map(Change::Set),
        }
    }

    fn raise<'d>(&mut self, params: Option<&'d Map<String, Value>>) -> Option<Action<'d>> {
        let event = &self.params(RAISE, params, &["event"])?["event"];
        self.at("params", |parser| {
            parser.at("event", |parser| {
                let Some(event) = event.as_object() else { return parser.bad("an event is an object with `type`") };
                match event.get("type").and_then(Value::as_str) {
                    Some(name) if names::is_event(name) => Some(Action::Raise { name, event }),
                    Some(name) => parser.fail(finding::BAD_EVENT, format!("`{name}` cannot be raised: a name or `a.b` can")),
                    None => parser.bad("an event is an object with `type`"),
                }
            })
        })
    }

    /// A literal, `{$context: path}` or `{$event: path}`.
    fn operand<'d>(&mut self, value: &'d Value) -> Option<Operand<'d>> {
        let Some(map) = value.as_object() else { return Some(Operand::Literal(value)) };
        let Some(marked) = map.keys().find(|key| key.starts_with('$')) else { return Some(Operand::Literal(value)) };
        if map.len() != 1 {
            return self.bad(format!("`{marked}` stands alone in its object"));
        }
        match marked.as_str() {
            "$context" => self.at("$context", |parser| parser.path(&map["$context"])).map(Operand::Context),
            "$event" => self.at("$event", |parser| parser.path(&map["$event"])).map(Operand::Event),
            _ => {
                let known = ["$inc", "$context", "$event"];
                let marked = marked.clone();
                self.bad::<()>(format!("`{marked}` is not known here"));
                if let Some(fault) = self.faults.last_mut() {
                    fault.suggestion = names::nearest(&marked, known);
                }
                None
            }
        }
    }

    fn path<'d>(&mut self, value: &'d Value) -> Option<&'d str> {
        match value.as_str() {
            Some(path) if names::is_value_path(path) => Some(path),
            _ => self.bad("a path is needed: keys joined by dots"),
        }
    }
}

fn is_scalar(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Object(_))
}
