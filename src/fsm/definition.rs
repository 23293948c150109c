//! A definition as written, in one canonical form.
//!
//! What the format lets one write in several ways (a string or an object, one or a list) is one thing here: names are
//! [`Call`]s, transitions are lists. Reading takes every spelling, writing prints the object form.
//! Holding a `Definition` promises nothing about its sense; that is for [`check`](super::check()) and
//! [`compile`](super::compile()).

mod print;

use super::finding::{Class, Report};
use indexmap::IndexMap;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

pub(super) use print::number;

/// A whole machine as its author wrote it.
///
/// Two definitions are equal when they say the same, whatever the order of their keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definition {
    /// `$schema`, for editors.
    pub schema: Option<String>,
    /// Names the machine and its root state.
    pub id: String,
    /// The author's version; means nothing to the machine.
    pub version: Option<String>,
    /// The context that every instance starts with: any JSON by key.
    pub context: Map<String, Value>,
    /// `meta.fsm.delays`: what the names used in `after` stand for.
    pub delays: IndexMap<String, Delay>,
    /// `meta.fsm.allow`: findings that the author accepts, as `code` or `code@path`.
    pub allow: Vec<String>,
    /// `options.maxIterations`: microsteps that one event may take.
    pub max_iterations: Option<u32>,
    /// The root state. Its `id` stays `None` (see [`Definition::id`]); its `meta` is the root's `meta` without `fsm`.
    pub root: State,
}

/// A state: atomic, compound when it has `states`, or final.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// `type: "final"`.
    pub is_final: bool,
    /// An explicit id, the `x` of a target `#x`.
    pub id: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Free labels; the engine and the journal may give some of them a meaning.
    pub tags: Vec<String>,
    /// Anything; not ours.
    pub meta: Map<String, Value>,
    /// Actions on entering, in order.
    pub entry: Vec<Call>,
    /// Actions on leaving, in order.
    pub exit: Vec<Call>,
    /// Transitions by event descriptor. `[Transition::default()]`, written `{}`, forbids the event;
    /// an empty list, written `[]`, is as if the key were absent.
    pub on: IndexMap<String, Vec<Transition>>,
    /// Transitions by delay: whole milliseconds, or a name in [`Definition::delays`].
    pub after: IndexMap<String, Vec<Transition>>,
    /// Transitions without event, tried after every microstep.
    pub always: Vec<Transition>,
    /// Work that runs while the state is active.
    pub invoke: Vec<Invoke>,
    /// The child that is entered by default (compound states).
    pub initial: Option<Initial>,
    /// Children, in document order (compound states).
    pub states: IndexMap<String, State>,
    /// Transitions for "a final child was entered" (compound states below the root).
    pub on_done: Vec<Transition>,
    /// What `event.output` of the parent's `onDone` is (final states).
    pub output: Option<Value>,
}

/// What to do about an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transition {
    /// Where to; `None` stays.
    pub target: Option<String>,
    /// Must hold for the transition to be taken.
    pub guard: Option<Call>,
    /// Performed after the exits and before the entries.
    pub actions: Vec<Call>,
    /// Leave and enter the source even when the target is inside it.
    pub reenter: bool,
    /// For people.
    pub description: Option<String>,
    /// Anything; not ours.
    pub meta: Map<String, Value>,
}

/// A guard or an action: its name and what it is called with.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// `type` in JSON. Names below `fsm.` are built in; all others are the program's.
    pub name: String,
    /// An object; `None` and an empty object are told apart.
    pub params: Option<Map<String, Value>>,
}

/// Work that runs while a state is active.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Invoke {
    /// The handler that does it.
    pub src: String,
    /// Names this invocation in events; `INDEX.STATE_ID` when absent.
    pub id: Option<String>,
    /// Handed to the handler.
    pub input: Option<Value>,
    /// Transitions for its success (`event.output`).
    pub on_done: Vec<Transition>,
    /// Transitions for its failure (`event.error`).
    pub on_error: Vec<Transition>,
}

/// The child that a compound state enters by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Initial {
    /// The key of the child.
    pub target: String,
    /// Performed between the entry of the parent and the entry of the child, when the child is entered by default.
    pub actions: Vec<Call>,
}

/// How long a named delay is, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Delay {
    /// Always as long.
    Constant(f64),
    /// Grows with a counter of the context.
    Backoff(Backoff),
}

/// `min(max, base * factor ^ (context[by] - 1))` milliseconds, the counter counting from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// Milliseconds at the first attempt; above 0.
    pub base: f64,
    /// Growth per attempt, at least 1; 2 when absent.
    pub factor: Option<f64>,
    /// Milliseconds at most; no limit when absent.
    pub max: Option<f64>,
    /// The context key that counts attempts; `attempt` when absent.
    pub by: Option<String>,
    /// Spread of the delay; [`Jitter::None`] when absent.
    pub jitter: Option<Jitter>,
}

/// How a computed delay is spread.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Jitter {
    /// Not at all.
    #[default]
    None,
    /// Evenly between 0 and the computed delay. The core leaves the draw to its caller.
    Full,
}

impl Call {
    /// A call without parameters.
    pub fn new(name: impl Into<String>) -> Call {
        Call { name: name.into(), params: None }
    }

    /// True for names below `fsm.`, which the machine itself performs.
    pub fn is_builtin(&self) -> bool {
        self.name.starts_with("fsm.")
    }
}

impl Backoff {
    /// The factor when none is written.
    pub const DEFAULT_FACTOR: f64 = 2.0;
    /// The counter when none is named.
    pub const DEFAULT_BY: &'static str = "attempt";
}

/// From JSON text, with everything that is wrong with it.
///
/// ```
/// use sluicegate::Definition;
///
/// let error = r#"{ "id": "m", "initial": "a", "states": { "a": { "on": { "GO": "bb" } }, "b": { "type": "final" } } }"#
///     .parse::<Definition>()
///     .unwrap_err();
/// assert_eq!(error.findings[0].code, "unknown-target");
/// assert_eq!(error.findings[0].message, "unknown target `bb`");
/// ```
impl std::str::FromStr for Definition {
    type Err = Report;

    /// # Errors
    /// All findings, of every class, when one of them is of class E. What a program registers is not known here: names of handlers,
    /// guards and actions may be anything.
    fn from_str(text: &str) -> Result<Definition, Report> {
        let (definition, report) = super::check_text(text, None);
        definition.filter(|_| report.is_clean(Class::Error)).ok_or(report)
    }
}

impl<'de> Deserialize<'de> for Definition {
    /// # Errors
    /// The first thing that the shape of the format does not allow. [`check_text`](super::check_text) finds all.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Definition, D::Error> {
        super::shape::read(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
