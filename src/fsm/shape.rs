//! JSON to [`Definition`]: every spelling in, one form out, all faults of shape collected on the way.
//!
//! What is broken is reported and left out, so that the rest can still be checked. The leaves of the format (names,
//! calls, transitions) are read in `shape/parts.rs`.

mod parts;
mod reader;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::definition::{Backoff, Definition, Delay, Initial, Jitter, State, Transition};
use super::finding::{self, Draft};
use super::names;
use reader::Reader;

/// States inside states, at most. `serde_json` itself stops at 128 levels of JSON, two of which make one state.
pub(super) const MAX_DEPTH: usize = 60;
/// The largest `after` key that JavaScript orders as an integer.
const MAX_INTEGER_KEY: u64 = 4_294_967_294;

const COMMON: &[&str] = &["id", "description", "tags", "meta", "entry", "exit"];
const ACTIVE: &[&str] = &["on", "after", "always", "invoke"];
const ROOT: &[&str] = &["type", "$schema", "version", "context", "options", "initial", "states"];
const COMPOUND: &[&str] = &["type", "initial", "states", "onDone"];
const FINAL: &[&str] = &["type", "output"];

/// The definition as far as it has the right shape, and everything that has not. `None` when there is no object.
pub(super) fn read_all(value: &Value) -> (Option<Definition>, Vec<Draft>) {
    let mut reader = Reader::default();
    let definition = reader.definition(value);
    (definition, reader.drafts)
}

/// Delays by themselves, and what is wrong with them.
pub(super) fn read_delays(given: &Map<String, Value>) -> (IndexMap<String, Delay>, Vec<Draft>) {
    let mut reader = Reader::default();
    let delays = reader.under("delays", |reader| reader.delays(given));
    (delays, reader.drafts)
}

/// # Errors
/// The first fault of shape, as a sentence.
pub(super) fn read(value: &Value) -> Result<Definition, String> {
    let (definition, drafts) = read_all(value);
    match (drafts.first(), definition) {
        (None, Some(definition)) => Ok(definition),
        (Some(first), _) => Err(first.sentence()),
        (None, None) => Err("not a definition".to_owned()),
    }
}

impl Reader {
    fn definition(&mut self, value: &Value) -> Option<Definition> {
        let map = self.object(value, "the root", &[ROOT, COMMON, ACTIVE])?;
        self.refuse_type(map);
        let mut definition = Definition {
            schema: self.member(map, "$schema", Reader::string),
            id: self.required(map, "id", Reader::name).unwrap_or_default(),
            version: self.member(map, "version", Reader::string),
            context: self.member(map, "context", Reader::context).unwrap_or_default(),
            max_iterations: self.member(map, "options", Reader::options),
            ..Definition::default()
        };
        let mut root = State::default();
        self.common(map, &mut root);
        self.active(map, &mut root);
        self.compound(map, &mut root);
        root.id = None;
        root.meta = self.member(map, "meta", |reader, meta| reader.meta(meta, &mut definition)).unwrap_or_default();
        definition.root = root;
        Some(definition)
    }

    fn context(&mut self, value: &Value) -> Option<Map<String, Value>> {
        let map = self.any_object(value)?;
        if map.contains_key("__proto__") {
            self.fail(finding::BAD_NAME, "`__proto__` is not an ordinary key in JavaScript");
        }
        Some(map.clone())
    }

    fn options(&mut self, value: &Value) -> Option<u32> {
        let map = self.object(value, "`options`", &[&["maxIterations"]])?;
        self.member(map, "maxIterations", |reader, value| {
            let whole = value.as_f64().filter(|limit| limit.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(limit));
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
            let limit = whole.map(|limit| limit as u32);
            if limit.is_none() {
                reader.fail(finding::BAD_VALUE, "a whole number from 1 to 4294967295 is needed");
            }
            limit
        })
    }

    /// Reads `fsm` out of the root's `meta` and returns the rest.
    fn meta(&mut self, value: &Value, definition: &mut Definition) -> Option<Map<String, Value>> {
        let mut rest = self.any_object(value)?.clone();
        if let Some(ours) = rest.shift_remove("fsm") {
            self.under("fsm", |reader| {
                let Some(map) = reader.object(&ours, "`meta.fsm`", &[&["delays", "allow"]]) else { return };
                definition.delays = reader
                    .member(map, "delays", |reader, value| reader.any_object(value).map(|map| reader.delays(map)))
                    .unwrap_or_default();
                definition.allow = reader.member(map, "allow", Reader::strings).unwrap_or_default();
            });
        }
        Some(rest)
    }

    fn delays(&mut self, map: &Map<String, Value>) -> IndexMap<String, Delay> {
        let mut delays = IndexMap::new();
        for (name, value) in map {
            self.under(name, |reader| {
                reader.check_name(name, "a delay");
                if let Some(delay) = reader.delay(value) {
                    delays.insert(name.clone(), delay);
                }
            });
        }
        delays
    }

    fn delay(&mut self, value: &Value) -> Option<Delay> {
        if value.is_number() {
            return self.at_least(value, 0.0).map(Delay::Constant);
        }
        if !value.is_object() {
            self.wrong_type(value, "milliseconds or an object with `base`");
            return None;
        }
        let map = self.object(value, "a delay", &[&["base", "factor", "max", "by", "jitter"]])?;
        let base = self.required(map, "base", |reader, value| {
            let base = reader.at_least(value, 0.0)?;
            if base == 0.0 {
                reader.fail(finding::BAD_VALUE, "`base` must be above 0");
            }
            Some(base)
        })?;
        Some(Delay::Backoff(Backoff {
            base,
            factor: self.member(map, "factor", |reader, value| reader.at_least(value, 1.0)),
            max: self.member(map, "max", |reader, value| reader.at_least(value, 0.0)),
            by: self.member(map, "by", Reader::value_path),
            jitter: self.member(map, "jitter", Reader::jitter),
        }))
    }

    fn jitter(&mut self, value: &Value) -> Option<Jitter> {
        match value.as_str() {
            Some("none") => Some(Jitter::None),
            Some("full") => Some(Jitter::Full),
            _ => {
                self.fail(finding::BAD_VALUE, "`jitter` is \"none\" or \"full\"");
                None
            }
        }
    }

    fn states(&mut self, value: &Value) -> Option<IndexMap<String, State>> {
        let map = self.any_object(value)?;
        if map.is_empty() {
            self.fail(finding::BAD_VALUE, "at least one state is needed");
        }
        let mut states = IndexMap::new();
        for (key, value) in map {
            self.under(key, |reader| {
                if !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit()) {
                    reader.fail(finding::INTEGER_KEY, format!("`{key}` looks like an integer; JavaScript re-orders such keys"));
                    reader.last_at_key();
                } else {
                    reader.check_name(key, "a state");
                }
                if let Some(state) = reader.state(value) {
                    states.insert(key.clone(), state);
                }
            });
        }
        Some(states)
    }

    fn state(&mut self, value: &Value) -> Option<State> {
        if self.depth >= MAX_DEPTH {
            self.fail(finding::TOO_LARGE, format!("more than {MAX_DEPTH} states inside each other"));
            return None;
        }
        let Some(raw) = value.as_object() else {
            self.wrong_type(value, "an object");
            // Targets may mean it all the same.
            return Some(State::default());
        };
        self.depth += 1;
        let mut state = State::default();
        let kind = raw.get("type").and_then(Value::as_str);
        if kind == Some("final") {
            self.object(value, "a final state", &[FINAL, COMMON]);
            state.is_final = true;
            self.common(raw, &mut state);
            state.output = raw.get("output").cloned();
        } else if raw.contains_key("states") || raw.contains_key("initial") {
            self.object(value, "a compound state", &[COMPOUND, COMMON, ACTIVE]);
            self.refuse_type(raw);
            self.common(raw, &mut state);
            self.active(raw, &mut state);
            self.compound(raw, &mut state);
            state.on_done = self.member(raw, "onDone", Reader::transitions).unwrap_or_default();
        } else {
            self.object(value, "an atomic state", &[&["type"], COMMON, ACTIVE]);
            self.refuse_type(raw);
            self.common(raw, &mut state);
            self.active(raw, &mut state);
        }
        self.refuse_inner_fsm(&state.meta);
        self.depth -= 1;
        Some(state)
    }

    /// `type` may only say "final"; what XState has besides is left out or said by the keys.
    fn refuse_type(&mut self, map: &Map<String, Value>) {
        let Some(kind) = map.get("type") else { return };
        self.under("type", |reader| match kind.as_str() {
            Some(kind @ ("parallel" | "history")) => {
                reader.fail(finding::LEFT_OUT, format!("{kind} states are left out: a chunk is sequential"));
            }
            _ => reader.fail(finding::BAD_VALUE, "`type` may only be \"final\", on a state below the root without children"),
        });
    }

    /// Formulas and allowances apply to the whole machine; below the root nobody would read them.
    fn refuse_inner_fsm(&mut self, meta: &Map<String, Value>) {
        if meta.contains_key("fsm") {
            self.under("meta", |reader| {
                reader.under("fsm", |reader| {
                    reader.fail(finding::UNKNOWN_KEY, "`meta.fsm` belongs to the root");
                    reader.last_at_key();
                });
            });
        }
    }

    fn common(&mut self, map: &Map<String, Value>, state: &mut State) {
        state.id = self.member(map, "id", |reader, value| if reader.depth == 0 { None } else { reader.name(value) });
        state.description = self.member(map, "description", Reader::string);
        state.tags = self.member(map, "tags", Reader::strings_or_one).unwrap_or_default();
        if self.depth > 0 {
            state.meta = self.member(map, "meta", |reader, value| reader.any_object(value).cloned()).unwrap_or_default();
        }
        state.entry = self.member(map, "entry", Reader::calls).unwrap_or_default();
        state.exit = self.member(map, "exit", Reader::calls).unwrap_or_default();
    }

    fn active(&mut self, map: &Map<String, Value>, state: &mut State) {
        state.on = self.member(map, "on", Reader::on).unwrap_or_default();
        state.after = self.member(map, "after", Reader::after).unwrap_or_default();
        state.always = self.member(map, "always", Reader::transitions).unwrap_or_default();
        state.invoke = self.member(map, "invoke", Reader::invokes).unwrap_or_default();
    }

    fn compound(&mut self, map: &Map<String, Value>, state: &mut State) {
        let is_parallel = map.get("type").and_then(Value::as_str) == Some("parallel");
        state.initial = if is_parallel { None } else { self.required(map, "initial", Reader::initial) };
        state.states = self.required(map, "states", Reader::states).unwrap_or_default();
    }

    fn initial(&mut self, value: &Value) -> Option<Initial> {
        if value.is_string() {
            return Some(Initial { target: self.name(value)?, actions: Vec::new() });
        }
        let map = self.object(value, "`initial`", &[&["target", "actions"]])?;
        Some(Initial {
            target: self.required(map, "target", Reader::name)?,
            actions: self.member(map, "actions", Reader::calls).unwrap_or_default(),
        })
    }

    fn on(&mut self, value: &Value) -> Option<IndexMap<String, Vec<Transition>>> {
        self.table(value, |reader, descriptor| {
            if names::is_reserved(descriptor) {
                reader.fail(finding::BAD_EVENT, format!("`{descriptor}` is one of XState's own events; use after, onDone, onError"));
                reader.last_at_key();
            } else if !names::is_descriptor(descriptor) {
                reader.fail(finding::BAD_EVENT, format!("`{descriptor}` is not an event: a name, `a.b`, `a.*` or `*` is"));
                reader.last_at_key();
            }
            false
        })
    }

    fn after(&mut self, value: &Value) -> Option<IndexMap<String, Vec<Transition>>> {
        self.table(value, |reader, key| {
            let canonical = key == "0" || (key.bytes().all(|b| b.is_ascii_digit()) && !key.starts_with('0'));
            let short = key.parse::<u64>().is_ok_and(|ms| ms <= MAX_INTEGER_KEY);
            if !(canonical && short || names::is_name(key)) {
                let message = format!("`{key}` is not a delay: whole milliseconds up to {MAX_INTEGER_KEY} or a name is");
                reader.fail(finding::BAD_DELAY, message);
                reader.last_at_key();
            }
            true
        })
    }
}
