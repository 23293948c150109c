//! Definitions written in Rust.
//!
//! The methods here only fill the fields of [`Definition`] and its parts; what they build is equal to what the same
//! JSON reads as, and is checked the same way.
//!
//! ```
//! use sluicegate::fsm::builder::{Backoff, Invoke, State, assign, gt, increment, to};
//! use sluicegate::fsm::{CompileOptions, Definition, compile};
//!
//! let definition = Definition::new(
//!     "delivery",
//!     State::starting_in("sending")
//!         .on("CANCEL", ".cancelled")
//!         .state("sending", State::new()
//!             .entry(increment("attempt"))
//!             .invoke(Invoke::new("sink").on_done("sent").on_error("waiting"))
//!             .after("timeout", "waiting"))
//!         .state("waiting", State::new()
//!             .always(to("failed").when(gt("attempt", 5)))
//!             .after("backoff", "sending"))
//!         .state("sent", State::end().tag("ok"))
//!         .state("failed", State::end().tag("error"))
//!         .state("cancelled", State::end()),
//! )
//! .context("attempt", 0)
//! .delay("timeout", 30_000)
//! .delay("backoff", Backoff::new(100).max(5_000).by("attempt"));
//! let machine = compile(definition, &CompileOptions::default())?;
//! # Ok::<(), sluicegate::fsm::Report>(())
//! ```

mod calls;

use serde_json::Value;

pub use calls::{all, any, assign, eq, event_in, from_context, from_event, gt, gte, increment, lt, lte, not, raise, raise_with};

pub use super::definition::{Backoff, Call, Definition, Delay, Initial, Invoke, Jitter, State, Transition};

/// One transition, several in the order in which they are tried, or just a target.
#[derive(Clone, Debug, Default)]
pub struct Transitions(Vec<Transition>);

impl From<Transition> for Transitions {
    fn from(transition: Transition) -> Transitions {
        Transitions(vec![transition])
    }
}

impl From<&str> for Transitions {
    fn from(target: &str) -> Transitions {
        to(target).into()
    }
}

impl From<Vec<Transition>> for Transitions {
    fn from(list: Vec<Transition>) -> Transitions {
        Transitions(list)
    }
}

impl<const N: usize> From<[Transition; N]> for Transitions {
    fn from(list: [Transition; N]) -> Transitions {
        Transitions(list.into())
    }
}

impl From<&str> for Call {
    fn from(name: &str) -> Call {
        Call::new(name)
    }
}

impl Definition {
    /// A machine with this id and root state.
    pub fn new(id: impl Into<String>, root: State) -> Definition {
        Definition { id: id.into(), root, ..Definition::default() }
    }

    /// Sets `version`.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Definition {
        self.version = Some(version.into());
        self
    }

    /// Sets `$schema`.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Definition {
        self.schema = Some(schema.into());
        self
    }

    /// Adds a key to the context.
    #[must_use]
    pub fn context(mut self, key: impl Into<String>, value: impl Into<Value>) -> Definition {
        self.context.insert(key.into(), value.into());
        self
    }

    /// Defines a named delay: milliseconds or a [`Backoff`].
    #[must_use]
    pub fn delay(mut self, name: impl Into<String>, delay: impl Into<Delay>) -> Definition {
        self.delays.insert(name.into(), delay.into());
        self
    }

    /// Accepts a finding: `code` or `code@path`.
    #[must_use]
    pub fn allow(mut self, finding: impl Into<String>) -> Definition {
        self.allow.push(finding.into());
        self
    }

    /// Sets `options.maxIterations`.
    #[must_use]
    pub fn max_iterations(mut self, limit: u32) -> Definition {
        self.max_iterations = Some(limit);
        self
    }
}

impl State {
    /// An atomic state.
    pub fn new() -> State {
        State::default()
    }

    /// A compound state that enters this child by default.
    pub fn starting_in(child: impl Into<String>) -> State {
        State { initial: Some(Initial { target: child.into(), actions: Vec::new() }), ..State::default() }
    }

    /// A final state.
    pub fn end() -> State {
        State { is_final: true, ..State::default() }
    }

    /// Sets an explicit id, for targets `#id`.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> State {
        self.id = Some(id.into());
        self
    }

    /// Sets the description.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> State {
        self.description = Some(text.into());
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> State {
        self.tags.push(tag.into());
        self
    }

    /// Adds a key to `meta`.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<Value>) -> State {
        self.meta.insert(key.into(), value.into());
        self
    }

    /// Adds an entry action.
    #[must_use]
    pub fn entry(mut self, action: impl Into<Call>) -> State {
        self.entry.push(action.into());
        self
    }

    /// Adds an exit action.
    #[must_use]
    pub fn exit(mut self, action: impl Into<Call>) -> State {
        self.exit.push(action.into());
        self
    }

    /// Adds an action to `initial`; only after [`State::starting_in`].
    #[must_use]
    pub fn initially(mut self, action: impl Into<Call>) -> State {
        self.initial.get_or_insert_default().actions.push(action.into());
        self
    }

    /// Adds transitions for an event.
    #[must_use]
    pub fn on(mut self, event: impl Into<String>, transitions: impl Into<Transitions>) -> State {
        self.on.entry(event.into()).or_default().extend(transitions.into().0);
        self
    }

    /// Forbids an event: neither this state nor one around it takes it.
    #[must_use]
    pub fn forbid(self, event: impl Into<String>) -> State {
        self.on(event, stay())
    }

    /// Adds transitions for a delay: milliseconds as digits, or a name.
    #[must_use]
    pub fn after(mut self, delay: impl Into<String>, transitions: impl Into<Transitions>) -> State {
        self.after.entry(delay.into()).or_default().extend(transitions.into().0);
        self
    }

    /// Adds transitions without event.
    #[must_use]
    pub fn always(mut self, transitions: impl Into<Transitions>) -> State {
        self.always.extend(transitions.into().0);
        self
    }

    /// Adds transitions for "a final child was entered".
    #[must_use]
    pub fn on_done(mut self, transitions: impl Into<Transitions>) -> State {
        self.on_done.extend(transitions.into().0);
        self
    }

    /// Adds an invocation.
    #[must_use]
    pub fn invoke(mut self, invoke: Invoke) -> State {
        self.invoke.push(invoke);
        self
    }

    /// Adds a child.
    #[must_use]
    pub fn state(mut self, key: impl Into<String>, state: State) -> State {
        self.states.insert(key.into(), state);
        self
    }

    /// Sets the output of a final state.
    #[must_use]
    pub fn output(mut self, output: impl Into<Value>) -> State {
        self.output = Some(output.into());
        self
    }
}

impl Invoke {
    /// An invocation of a handler, named after it. Use [`Invoke::id`] where two states invoke the same one.
    pub fn new(src: impl Into<String>) -> Invoke {
        let src = src.into();
        Invoke { id: Some(src.clone()), src, ..Invoke::default() }
    }

    /// Sets the id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Invoke {
        self.id = Some(id.into());
        self
    }

    /// Sets what the handler is given.
    #[must_use]
    pub fn input(mut self, input: impl Into<Value>) -> Invoke {
        self.input = Some(input.into());
        self
    }

    /// Adds transitions for its success.
    #[must_use]
    pub fn on_done(mut self, transitions: impl Into<Transitions>) -> Invoke {
        self.on_done.extend(transitions.into().0);
        self
    }

    /// Adds transitions for its failure.
    #[must_use]
    pub fn on_error(mut self, transitions: impl Into<Transitions>) -> Invoke {
        self.on_error.extend(transitions.into().0);
        self
    }
}

/// A transition to `target`: `sibling`, `sibling.child`, `.child`, `#id`, `#id.child`.
pub fn to(target: impl Into<String>) -> Transition {
    Transition { target: Some(target.into()), ..Transition::default() }
}

/// A transition that only runs actions.
pub fn stay() -> Transition {
    Transition::default()
}

impl Transition {
    /// Sets the guard.
    #[must_use]
    pub fn when(mut self, guard: impl Into<Call>) -> Transition {
        self.guard = Some(guard.into());
        self
    }

    /// Adds an action.
    #[must_use]
    pub fn action(mut self, action: impl Into<Call>) -> Transition {
        self.actions.push(action.into());
        self
    }

    /// Leaves and enters the source.
    #[must_use]
    pub fn reenter(mut self) -> Transition {
        self.reenter = true;
        self
    }

    /// Sets the description.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Transition {
        self.description = Some(text.into());
        self
    }
}

impl Backoff {
    /// A backoff that starts with `base` milliseconds.
    pub fn new(base: impl Into<f64>) -> Backoff {
        Backoff { base: base.into(), factor: None, max: None, by: None, jitter: None }
    }

    /// Sets the growth per attempt.
    #[must_use]
    pub fn factor(mut self, factor: impl Into<f64>) -> Backoff {
        self.factor = Some(factor.into());
        self
    }

    /// Sets the most milliseconds.
    #[must_use]
    pub fn max(mut self, max: impl Into<f64>) -> Backoff {
        self.max = Some(max.into());
        self
    }

    /// Sets the context key that counts attempts.
    #[must_use]
    pub fn by(mut self, key: impl Into<String>) -> Backoff {
        self.by = Some(key.into());
        self
    }

    /// Sets the spread.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Backoff {
        self.jitter = Some(jitter);
        self
    }
}

impl From<Backoff> for Delay {
    fn from(backoff: Backoff) -> Delay {
        Delay::Backoff(backoff)
    }
}

impl From<u32> for Delay {
    fn from(ms: u32) -> Delay {
        Delay::Constant(f64::from(ms))
    }
}
