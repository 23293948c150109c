//! The compiled form of a definition: numbers instead of names, one table instead of a search.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::context::{Cell, Context, Layout, Slot};
use super::definition::Definition;
use super::graph::covers;
use super::plan::{Choice, EventPath, Formula, Internal, NONE, Op, Plan, Source, Test};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
        pub struct $name(pub(super) u16);

        impl $name {
            /// Counts from 0 in document order, without gaps: fit for indexing a table.
            #[inline]
            pub fn index(self) -> usize {
                usize::from(self.0)
            }

            #[allow(clippy::cast_possible_truncation, reason = "check refuses what does not fit")]
            pub(super) fn new(index: usize) -> $name {
                $name(index as u16)
            }
        }
    )*};
}

ids! {
    /// A state of a machine; the root is number 0.
    StateId;
    /// An event, or a class of events that a machine does not tell apart.
    EventId;
    /// An invocation of a definition.
    InvocationId;
    /// A timer of a state.
    TimerId;
    /// A transition of a definition.
    TransitionId;
    /// A guard that the program provides, by name.
    GuardId;
    /// An action by name. Those of the program come first, then `fsm.assign` and `fsm.raise`.
    ActionId;
}

impl StateId {
    /// The root, which is always active.
    pub const ROOT: StateId = StateId(0);
}

impl EventId {
    /// `xstate.init`, the event of the initial macrostep.
    pub const INIT: EventId = EventId(0);
    /// All events that no descriptor of the machine names; only `*` takes them.
    pub const REST: EventId = EventId(1);
}

/// Something that happened to an instance.
#[derive(Copy, Clone, Debug)]
pub struct Event<'a> {
    /// From [`Machine::event`], or [`Invocation::done`], [`Invocation::error`], [`Timer::event`].
    pub id: EventId,
    /// The spelling, needed only when `id` is a class and a guard or an assign reads `type`.
    pub name: Option<&'a str>,
    /// What came with it.
    pub data: EventData<'a>,
}

/// What comes with an event.
#[derive(Copy, Clone, Debug)]
pub enum EventData<'a> {
    /// Nothing: timers, bare names.
    None,
    /// The result of an invocation (`event.output`). Marks it as settled.
    Output(&'a Value),
    /// The failure of an invocation (`event.error`). Marks it as settled.
    Error(&'a Value),
    /// The members of an event from outside.
    Payload(&'a Map<String, Value>),
}

impl<'a> Event<'a> {
    /// An event without data.
    pub fn bare(id: EventId) -> Event<'a> {
        Event { id, name: None, data: EventData::None }
    }
}

/// Work that a state starts when it is entered.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Its name in events.
    pub id: String,
    /// The handler that does it.
    pub src: String,
    /// What the handler is given.
    pub input: Option<Value>,
    /// The state that owns it.
    pub state: StateId,
    /// To be sent with [`EventData::Output`] when it is done.
    pub done: EventId,
    /// To be sent with [`EventData::Error`] when it has failed.
    pub error: EventId,
}

/// A delayed event of a state.
#[derive(Clone, Debug)]
pub struct Timer {
    /// The state that owns it.
    pub state: StateId,
    /// To be sent when it is due.
    pub event: EventId,
    /// As written in `after`: milliseconds, or the name of a delay.
    pub key: String,
}

/// An action with its params.
#[derive(Clone, Debug)]
pub struct Action {
    /// Its name as a number; see [`Machine::action_names`].
    pub id: ActionId,
    /// Its name.
    pub name: String,
    /// An object, if there is one.
    pub params: Option<Value>,
}

/// A transition, as far as a journal or a diagram wants to know it.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The state that has it.
    pub source: StateId,
    /// The state it names; `None` when it only runs actions.
    pub target: Option<StateId>,
    /// It leaves and enters its source.
    pub reenter: bool,
    /// It has a guard.
    pub guarded: bool,
    /// Where it stands in the definition.
    pub path: String,
}

/// What a transition would do in a certain leaf.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub transition: TransitionId,
    /// The state that has it: the leaf or one around it.
    pub source: StateId,
    /// The leaf after this microstep; the same leaf when it has no target.
    pub target: StateId,
    /// It is taken only if a guard holds.
    pub guarded: bool,
}

pub(super) struct State {
    pub name: String,
    pub id: String,
    pub parent: Option<StateId>,
    pub is_final: bool,
    pub is_leaf: bool,
    pub tags: Vec<String>,
    /// Active while this state is, root first.
    pub invocations: Vec<InvocationId>,
}

/// A checked definition, ready to run any number of instances at once.
///
/// Made only by [`compile`](super::compile()). Immutable, `Send` and `Sync`: share it in an `Arc`.
pub struct Machine {
    pub(super) definition: Definition,
    pub(super) max_iterations: u32,
    pub(super) states: Vec<State>,
    pub(super) state_index: HashMap<String, StateId>,
    pub(super) events: Vec<String>,
    pub(super) event_index: HashMap<String, EventId>,
    /// Descriptors with a wildcard, longest first.
    pub(super) wildcards: Vec<EventId>,
    /// By event: the invocation that it settles.
    pub(super) settles: Vec<Option<InvocationId>>,
    pub(super) invocations: Vec<Invocation>,
    pub(super) timers: Vec<Timer>,
    /// By timer; `None` where the delay is constant and stands in the op.
    pub(super) formulas: Vec<Option<Formula>>,
    pub(super) transitions: Vec<Transition>,
    pub(super) guards: Vec<String>,
    pub(super) actions: Vec<Action>,
    /// Names of actions; the last two are built in.
    pub(super) action_names: Vec<String>,
    pub(super) layout: Arc<Layout>,
    pub(super) initial_cells: Vec<Cell>,
    /// Rows by state, columns by event; rows are `1 << row_bits` apart, because a shift is quicker than a product.
    pub(super) table: Vec<Choice>,
    pub(super) row_bits: u32,
    /// By state.
    pub(super) always: Vec<Choice>,
    /// One plan may stand in many places: that costs memory, but saves every step a look into another array.
    pub(super) plans: Vec<Plan>,
    pub(super) ops: Vec<Op>,
    pub(super) tests: Vec<Test>,
    pub(super) assigns: Vec<Vec<(Slot, Source)>>,
    pub(super) paths: Vec<EventPath>,
    pub(super) internals: Vec<Internal>,
    pub(super) start: Plan,
}

impl std::fmt::Debug for Machine {
    /// The tables would fill pages and tell nobody anything.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (states, events) = (self.states.len(), self.events.len());
        f.debug_struct("Machine").field("id", &self.definition.id).field("states", &states).field("events", &events).finish_non_exhaustive()
    }
}

impl Machine {
    /// The definition it was compiled from.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Microsteps that one event may take: the definition's limit, or the default of
    /// [`CompileOptions`](super::CompileOptions).
    pub fn max_iterations(&self) -> u32 {
        self.max_iterations
    }

    /// The event of that name. A name that the definition does not mention belongs to the class of the longest wildcard
    /// descriptor that matches it, at last to [`EventId::REST`]; give its spelling in [`Event::name`] then.
    /// Searches by name: resolve once, keep the id.
    pub fn event(&self, name: &str) -> EventId {
        if let Some(id) = self.event_index.get(name) {
            return *id;
        }
        let matching = self.wildcards.iter().find(|id| covers(self.event_name(**id), name));
        matching.copied().unwrap_or(EventId::REST)
    }

    /// Its name, or for a class its descriptor: `x.*`, `*`.
    pub fn event_name(&self, event: EventId) -> &str {
        &self.events[event.index()]
    }

    /// All events and classes of events.
    pub fn events(&self) -> impl Iterator<Item = EventId> + use<> {
        (0..self.events.len()).map(EventId::new)
    }

    /// True when the id stands for many names.
    pub fn is_class(&self, event: EventId) -> bool {
        event == EventId::REST || self.wildcards.contains(&event)
    }

    #[inline]
    pub(super) fn spelling<'e>(&'e self, event: &Event<'e>) -> &'e str {
        event.name.unwrap_or_else(|| self.event_name(event.id))
    }

    /// All states in document order, the root first.
    pub fn states(&self) -> impl Iterator<Item = StateId> + use<> {
        (0..self.states.len()).map(StateId::new)
    }

    /// Keys below the root joined by dots, for example `processing.sinking`; the root's is empty.
    pub fn state_name(&self, state: StateId) -> &str {
        &self.states[state.index()].name
    }

    /// Its id as XState and the names of its events have it: explicit, or `ROOT.path`.
    pub fn state_id(&self, state: StateId) -> &str {
        &self.states[state.index()].id
    }

    /// The state of that name.
    pub fn state(&self, name: &str) -> Option<StateId> {
        self.state_index.get(name).copied()
    }

    /// The state around it; `None` for the root.
    pub fn parent(&self, state: StateId) -> Option<StateId> {
        self.states[state.index()].parent
    }

    /// `state` and those around it, the root last: what is active while the leaf `state` is.
    pub fn configuration(&self, state: StateId) -> impl Iterator<Item = StateId> + '_ {
        std::iter::successors(Some(state), |state| self.parent(*state))
    }

    /// `type: "final"`. Only a final child of the root ends the machine.
    pub fn is_final(&self, state: StateId) -> bool {
        self.states[state.index()].is_final
    }

    /// It has no children, so an instance can be in it.
    pub fn is_leaf(&self, state: StateId) -> bool {
        self.states[state.index()].is_leaf
    }

    /// Its own tags.
    pub fn tags(&self, state: StateId) -> &[String] {
        &self.states[state.index()].tags
    }

    /// It or a state around it has the tag.
    pub fn has_tag(&self, state: StateId, tag: &str) -> bool {
        self.configuration(state).any(|state| self.tags(state).iter().any(|own| own == tag))
    }

    /// All invocations in document order.
    pub fn invocations(&self) -> impl Iterator<Item = InvocationId> + use<> {
        (0..self.invocations.len()).map(InvocationId::new)
    }

    /// What is known of an invocation.
    pub fn invocation(&self, invocation: InvocationId) -> &Invocation {
        &self.invocations[invocation.index()]
    }

    /// The invocations that are active while `leaf` is, those of the outermost state first.
    pub fn state_invocations(&self, leaf: StateId) -> &[InvocationId] {
        &self.states[leaf.index()].invocations
    }

    /// All timers, by state in document order, in a state in the order in which they are armed.
    pub fn timers(&self) -> impl Iterator<Item = TimerId> + use<> {
        (0..self.timers.len()).map(TimerId::new)
    }

    /// What is known of a timer.
    pub fn timer(&self, timer: TimerId) -> &Timer {
        &self.timers[timer.index()]
    }

    /// All transitions in document order of their states.
    pub fn transitions(&self) -> impl Iterator<Item = TransitionId> + use<> {
        (0..self.transitions.len()).map(TransitionId::new)
    }

    /// What is known of a transition.
    pub fn transition(&self, transition: TransitionId) -> &Transition {
        &self.transitions[transition.index()]
    }

    /// The guards that the program provides, each with its name.
    pub fn guard_names(&self) -> impl Iterator<Item = (GuardId, &str)> + '_ {
        self.guards.iter().enumerate().map(|(index, name)| (GuardId::new(index), name.as_str()))
    }

    /// The actions that the program provides, each with its name.
    pub fn action_names(&self) -> impl Iterator<Item = (ActionId, &str)> + '_ {
        let own = &self.action_names[..self.action_names.len() - super::builtin::ACTIONS.len()];
        own.iter().enumerate().map(|(index, name)| (ActionId::new(index), name.as_str()))
    }

    /// The slot of a context key; `None` when the definition never mentions it.
    pub fn context_slot(&self, key: &str) -> Option<Slot> {
        self.layout.keys.get_index_of(key).and_then(|index| u16::try_from(index).ok()).map(Slot)
    }

    /// The context that the definition gives, for [`Machine::start`]; change it before that to carry something over.
    pub fn initial_context(&self) -> Context {
        Context::new(Arc::clone(&self.layout), &self.initial_cells)
    }

    /// What `event` may do in `leaf`, in the order in which the guards are asked, up to the first without a guard.
    /// Nothing follows when it is empty, or when all are guarded and every guard fails.
    pub fn candidates(&self, leaf: StateId, event: EventId) -> impl Iterator<Item = Candidate> + '_ {
        self.describe(self.choice(leaf, event))
    }

    /// What `always` may do in `leaf`, in the same way.
    pub fn always_candidates(&self, leaf: StateId) -> impl Iterator<Item = Candidate> + '_ {
        self.describe(&self.always[leaf.index()])
    }

    #[inline]
    pub(super) fn choice(&self, leaf: StateId, event: EventId) -> &Choice {
        &self.table[(leaf.index() << self.row_bits) + event.index()]
    }

    fn describe<'m>(&'m self, choice: &'m Choice) -> impl Iterator<Item = Candidate> + 'm {
        let first = Some(&choice.first).filter(|_| !choice.is_nobody());
        first.into_iter().chain(&self.plans[choice.rest.range()]).map(|plan| {
            let source = self.transition(plan.transition).source;
            Candidate { transition: plan.transition, source, target: plan.to, guarded: plan.test != NONE }
        })
    }
}
