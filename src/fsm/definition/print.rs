//! The canonical form: objects instead of shorthands, and a list of one as its element.

use indexmap::IndexMap;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Number, Value};

use super::{Call, Definition, Delay, Initial, Invoke, Jitter, State, Transition};

/// Writes the members that are there, in a fixed order.
struct Members<M>(M);

impl<M: SerializeMap> Members<M> {
    fn put<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), M::Error> {
        self.0.serialize_entry(key, value)
    }

    fn some<T: Serialize>(&mut self, key: &str, value: Option<&T>) -> Result<(), M::Error> {
        value.map_or(Ok(()), |value| self.put(key, value))
    }

    fn list<T: Serialize>(&mut self, key: &str, list: &[T]) -> Result<(), M::Error> {
        if list.is_empty() { Ok(()) } else { self.put(key, &OneOrMany(list)) }
    }

    fn map(&mut self, key: &str, map: &Map<String, Value>) -> Result<(), M::Error> {
        if map.is_empty() { Ok(()) } else { self.put(key, map) }
    }
}

/// A list of one is written as its element.
struct OneOrMany<'a, T>(&'a [T]);

impl<T: Serialize> Serialize for OneOrMany<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

struct Table<'a>(&'a IndexMap<String, Vec<Transition>>);

impl Serialize for Table<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, list)| (key, OneOrMany(list))))
    }
}

impl Serialize for Definition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = Members(serializer.serialize_map(None)?);
        members.some("$schema", self.schema.as_ref())?;
        members.put("id", &self.id)?;
        members.some("version", self.version.as_ref())?;
        members.some("description", self.root.description.as_ref())?;
        members.map("meta", &self.whole_meta())?;
        if let Some(limit) = self.max_iterations {
            members.put("options", &Map::from_iter([("maxIterations".to_owned(), limit.into())]))?;
        }
        members.map("context", &self.context)?;
        self.root.behaviour(&mut members)?;
        members.0.end()
    }
}

impl Definition {
    /// The root's `meta` with `fsm` put back in.
    fn whole_meta(&self) -> Map<String, Value> {
        let mut ours = Map::new();
        if !self.delays.is_empty() {
            let delays = self.delays.iter().map(|(name, delay)| (name.clone(), delay.to_json())).collect();
            ours.insert("delays".to_owned(), Value::Object(delays));
        }
        if !self.allow.is_empty() {
            ours.insert("allow".to_owned(), self.allow.clone().into());
        }
        let mut meta = Map::new();
        if !ours.is_empty() {
            meta.insert("fsm".to_owned(), Value::Object(ours));
        }
        meta.extend(self.root.meta.clone());
        meta
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = Members(serializer.serialize_map(None)?);
        if self.is_final {
            members.put("type", "final")?;
        }
        members.some("id", self.id.as_ref())?;
        members.some("description", self.description.as_ref())?;
        members.map("meta", &self.meta)?;
        self.behaviour(&mut members)?;
        members.0.end()
    }
}

impl State {
    /// The keys that the root shares with all other states.
    fn behaviour<M: SerializeMap>(&self, members: &mut Members<M>) -> Result<(), M::Error> {
        if !self.tags.is_empty() {
            members.put("tags", &self.tags)?;
        }
        members.some("initial", self.initial.as_ref())?;
        members.list("entry", &self.entry)?;
        members.list("exit", &self.exit)?;
        members.list("invoke", &self.invoke)?;
        members.list("always", &self.always)?;
        if !self.on.is_empty() {
            members.put("on", &Table(&self.on))?;
        }
        if !self.after.is_empty() {
            members.put("after", &Table(&self.after))?;
        }
        members.list("onDone", &self.on_done)?;
        members.some("output", self.output.as_ref())?;
        if !self.states.is_empty() {
            members.put("states", &self.states)?;
        }
        Ok(())
    }
}

impl Serialize for Transition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = Members(serializer.serialize_map(None)?);
        members.some("description", self.description.as_ref())?;
        members.some("guard", self.guard.as_ref())?;
        members.some("target", self.target.as_ref())?;
        members.list("actions", &self.actions)?;
        if self.reenter {
            members.put("reenter", &true)?;
        }
        members.map("meta", &self.meta)?;
        members.0.end()
    }
}

impl Serialize for Call {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = Members(serializer.serialize_map(None)?);
        members.put("type", &self.name)?;
        members.some("params", self.params.as_ref())?;
        members.0.end()
    }
}

impl Serialize for Invoke {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = Members(serializer.serialize_map(None)?);
        members.some("id", self.id.as_ref())?;
        members.put("src", &self.src)?;
        members.some("input", self.input.as_ref())?;
        members.list("onDone", &self.on_done)?;
        members.list("onError", &self.on_error)?;
        members.0.end()
    }
}

impl Serialize for Initial {
    /// A string when there are no actions: XState and its editor show that form best, and the v6 alpha takes both.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.actions.is_empty() {
            return serializer.serialize_str(&self.target);
        }
        let mut members = Members(serializer.serialize_map(None)?);
        members.put("target", &self.target)?;
        members.list("actions", &self.actions)?;
        members.0.end()
    }
}

impl Delay {
    /// The delay as it stands in `meta.fsm.delays`.
    pub fn to_json(&self) -> Value {
        let backoff = match self {
            Delay::Constant(ms) => return number(*ms),
            Delay::Backoff(backoff) => backoff,
        };
        let mut map = Map::new();
        map.insert("base".to_owned(), number(backoff.base));
        let mut put = |key: &str, value: Option<Value>| value.map(|value| map.insert(key.to_owned(), value));
        put("factor", backoff.factor.map(number));
        put("max", backoff.max.map(number));
        put("by", backoff.by.clone().map(Value::String));
        put("jitter", backoff.jitter.map(|jitter| Value::from(jitter.name())));
        Value::Object(map)
    }
}

impl Jitter {
    /// `"none"` or `"full"`.
    pub fn name(self) -> &'static str {
        match self {
            Jitter::None => "none",
            Jitter::Full => "full",
        }
    }
}

/// A JSON number without a needless `.0`; `null` for what JSON cannot say.
pub fn number(value: f64) -> Value {
    #[allow(clippy::cast_possible_truncation, reason = "whole and below 2^53: exact")]
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
