//! Built-in guards and actions, and the values they take.

use serde_json::{Map, Value};

use crate::fsm::definition::Call;

impl Call {
    /// Adds a parameter.
    #[must_use]
    pub fn param(mut self, key: impl Into<String>, value: impl Into<Value>) -> Call {
        self.params.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    /// The call as it stands in JSON.
    fn into_value(self) -> Value {
        let mut map = Map::from_iter([("type".to_owned(), Value::String(self.name))]);
        map.extend(self.params.map(|params| ("params".to_owned(), Value::Object(params))));
        Value::Object(map)
    }
}

fn compare(name: &str, key: impl Into<String>, value: impl Into<Value>) -> Call {
    Call::new(name).param("key", key.into()).param("value", value)
}

/// Guard: the context at `key` is less than `value`.
pub fn lt(key: impl Into<String>, value: impl Into<Value>) -> Call {
    compare("fsm.lt", key, value)
}

/// Guard: the context at `key` is at most `value`.
pub fn lte(key: impl Into<String>, value: impl Into<Value>) -> Call {
    compare("fsm.lte", key, value)
}

/// Guard: the context at `key` is greater than `value`.
pub fn gt(key: impl Into<String>, value: impl Into<Value>) -> Call {
    compare("fsm.gt", key, value)
}

/// Guard: the context at `key` is at least `value`.
pub fn gte(key: impl Into<String>, value: impl Into<Value>) -> Call {
    compare("fsm.gte", key, value)
}

/// Guard: the context at `key` is `value`.
pub fn eq(key: impl Into<String>, value: impl Into<Value>) -> Call {
    compare("fsm.eq", key, value)
}

/// Guard: the event at `path` (such as `error.kind`) is one of `values`.
pub fn event_in<V: Into<Value>>(path: impl Into<String>, values: impl IntoIterator<Item = V>) -> Call {
    Call::new("fsm.eventIn").param("path", path.into()).param("values", values.into_iter().map(Into::into).collect::<Vec<Value>>())
}

/// Guard: all hold.
pub fn all(guards: impl IntoIterator<Item = Call>) -> Call {
    Call::new("fsm.and").param("guards", guards.into_iter().map(Call::into_value).collect::<Vec<Value>>())
}

/// Guard: at least one holds.
pub fn any(guards: impl IntoIterator<Item = Call>) -> Call {
    Call::new("fsm.or").param("guards", guards.into_iter().map(Call::into_value).collect::<Vec<Value>>())
}

/// Guard: the other does not hold.
pub fn not(guard: impl Into<Call>) -> Call {
    Call::new("fsm.not").param("guard", guard.into().into_value())
}

/// Action: sets a context key to a literal, to [`from_event`] or to [`from_context`]. More keys by [`Call::param`].
pub fn assign(key: impl Into<String>, value: impl Into<Value>) -> Call {
    Call::new("fsm.assign").param(key, value)
}

/// Action: adds 1 to a context key.
pub fn increment(key: impl Into<String>) -> Call {
    assign(key, Value::Object(Map::from_iter([("$inc".to_owned(), 1.into())])))
}

/// Action: sends an event without payload to the machine itself.
pub fn raise(event: impl Into<String>) -> Call {
    raise_with(event, Map::new())
}

/// Action: sends an event with a payload to the machine itself.
pub fn raise_with(event: impl Into<String>, payload: Map<String, Value>) -> Call {
    let mut map = Map::from_iter([("type".to_owned(), Value::String(event.into()))]);
    map.extend(payload);
    Call::new("fsm.raise").param("event", map)
}

/// Value: what the event has at `path`, such as `error.kind`, `output.rows`, `type`.
pub fn from_event(path: impl Into<String>) -> Value {
    Value::Object(Map::from_iter([("$event".to_owned(), Value::String(path.into()))]))
}

/// Value: what the context has at `path`.
pub fn from_context(path: impl Into<String>) -> Value {
    Value::Object(Map::from_iter([("$context".to_owned(), Value::String(path.into()))]))
}
