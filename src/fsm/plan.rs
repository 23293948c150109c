//! What the tables of a machine hold: guards and effects, resolved to numbers ahead of time.

use serde_json::Value;

use super::builtin::Order;
use super::context::{Context, Slot};
use super::definition::Jitter;
use super::machine::{Event, EventData, EventId, GuardId, InvocationId, Machine, StateId, TimerId, TransitionId};
use super::step::Host;
use super::value::{self, View};

/// No guard, no action to announce.
pub(super) const NONE: u32 = u32::MAX;
/// In place of a guard: there is no candidate at all.
const NOBODY: u32 = u32::MAX - 1;

/// A part of one of the machine's arrays.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    #[inline]
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The candidates of one leaf for one event, in the order in which their guards are asked. The first stands here and not
/// behind an index, because it is nearly always the one that is wanted.
#[derive(Copy, Clone, Debug)]
#[repr(align(32))]
pub(super) struct Choice {
    pub first: Plan,
    /// The others; into `plans`.
    pub rest: Span,
}

impl Choice {
    pub const NOBODY: Choice = Choice { first: Plan::NOWHERE, rest: Span { start: 0, end: 0 } };

    #[inline]
    pub fn is_nobody(&self) -> bool {
        self.first.test == NOBODY
    }
}

/// One transition as seen from one leaf: when it is taken and what it does.
#[derive(Copy, Clone, Debug)]
pub(super) struct Plan {
    /// Into `tests`; [`NONE`] holds always.
    pub test: u32,
    /// Into `ops`.
    pub ops: Span,
    /// The leaf afterwards.
    pub to: StateId,
    pub transition: TransitionId,
    /// Another round of `always` follows.
    pub changes: bool,
    /// The machine is done.
    pub finishes: bool,
}

impl Plan {
    pub const NOWHERE: Plan = Plan {
        test: NOBODY,
        ops: Span { start: 0, end: 0 },
        to: StateId::ROOT,
        transition: TransitionId(0),
        changes: false,
        finishes: false,
    };
}

/// One operation of a plan. 16 bytes, so that a plan is a few cache lines.
///
/// `action` is an index into `actions`, for telling the host; [`NONE`] in all but the first op of an assign.
#[derive(Copy, Clone, Debug)]
pub(super) enum Op {
    Custom {
        action: u32,
    },
    SetNumber {
        slot: Slot,
        action: u32,
        value: f64,
    },
    SetLiteral {
        slot: Slot,
        action: u32,
        literal: u32,
    },
    Increment {
        slot: Slot,
        action: u32,
        by: f64,
    },
    /// Into `paths`.
    SetEvent {
        slot: Slot,
        action: u32,
        path: u32,
    },
    /// Into `assigns`: several keys that read each other.
    Assign {
        action: u32,
        assign: u32,
    },
    /// Into `internals`.
    Raise {
        action: u32,
        internal: u32,
    },
    /// Into `internals`.
    Queue {
        internal: u32,
    },
    Cancel {
        timer: TimerId,
    },
    Stop {
        invocation: InvocationId,
    },
    Arm {
        timer: TimerId,
        delay_ms: f64,
    },
    ArmBackoff {
        timer: TimerId,
    },
    Start {
        invocation: InvocationId,
    },
    /// [`Op::Cancel`] and [`Op::Stop`]: leaving a state with one timer and one invocation, the common case.
    CancelStop {
        timer: TimerId,
        invocation: InvocationId,
    },
    /// [`Op::Arm`] and [`Op::Start`]: entering such a state.
    ArmStart {
        timer: TimerId,
        invocation: InvocationId,
        delay_ms: f64,
    },
}

impl Op {
    /// Two operations in one, where that exists.
    pub fn fused(self, next: Op) -> Option<Op> {
        match (self, next) {
            (Op::Cancel { timer }, Op::Stop { invocation }) => Some(Op::CancelStop { timer, invocation }),
            (Op::Arm { timer, delay_ms }, Op::Start { invocation }) => Some(Op::ArmStart { timer, invocation, delay_ms }),
            _ => None,
        }
    }
}

/// An event that the machine sends to itself.
#[derive(Clone, Debug)]
pub(super) struct Internal {
    pub id: EventId,
    pub data: InternalData,
}

#[derive(Clone, Debug)]
pub(super) enum InternalData {
    None,
    Output(Value),
    Payload(serde_json::Map<String, Value>),
}

impl Internal {
    pub fn event(&self) -> Event<'_> {
        let data = match &self.data {
            InternalData::None => EventData::None,
            InternalData::Output(output) => EventData::Output(output),
            InternalData::Payload(map) => EventData::Payload(map),
        };
        Event { id: self.id, name: None, data }
    }
}

/// Where the value of a key of an assign comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Number(f64),
    Literal(u32),
    Increment(f64),
    Context(ContextPath),
    Event(EventPath),
}

#[derive(Clone, Debug)]
pub(super) struct ContextPath {
    pub slot: Slot,
    pub rest: Box<[Box<str>]>,
}

impl ContextPath {
    #[inline]
    pub fn view<'c>(&self, context: &'c Context) -> View<'c> {
        let view = context.view(self.slot);
        if self.rest.is_empty() { view } else { view.at(&self.rest) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct EventPath {
    pub head: Head,
    pub rest: Box<[Box<str>]>,
}

/// The first key of a path into an event.
#[derive(Clone, Debug)]
pub(super) enum Head {
    Type,
    Output,
    Error,
    Other(Box<str>),
}

impl EventPath {
    pub fn view<'e>(&self, machine: &'e Machine, event: &Event<'e>) -> View<'e> {
        let view = match (&self.head, event.data) {
            (Head::Type, _) => View::Text(machine.spelling(event)),
            (Head::Output, EventData::Output(value)) | (Head::Error, EventData::Error(value)) => View::of(value),
            (head, EventData::Payload(map)) => value::get(map, head.key()).map_or(View::Undefined, View::of),
            _ => View::Undefined,
        };
        view.at(&self.rest)
    }
}

impl Head {
    fn key(&self) -> &str {
        match self {
            Head::Type => "type",
            Head::Output => "output",
            Head::Error => "error",
            Head::Other(key) => key,
        }
    }
}

/// A compiled guard.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Custom { guard: GuardId, params: Option<Value> },
    Compare { order: Order, left: ContextPath, right: Right },
    EventIn { path: EventPath, values: Vec<Value> },
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
}

/// The right side of a comparison.
#[derive(Clone, Debug)]
pub(super) enum Right {
    Number(f64),
    Literal(Value),
    Context(ContextPath),
    Event(EventPath),
}

impl Test {
    pub fn holds<H: Host>(&self, machine: &Machine, context: &Context, event: &Event<'_>, host: &mut H) -> bool {
        match self {
            Test::Custom { guard, params } => host.guard(*guard, params.as_ref(), context, event),
            Test::Compare { order, left, right } => {
                let right = match right {
                    Right::Number(value) => View::Number(*value),
                    Right::Literal(value) => View::of(value),
                    Right::Context(path) => path.view(context),
                    Right::Event(path) => path.view(machine, event),
                };
                value::compare(*order, left.view(context), right)
            }
            Test::EventIn { path, values } => {
                let found = path.view(machine, event);
                values.iter().any(|value| value::equal(View::of(value), found))
            }
            Test::All(tests) => tests.iter().all(|test| test.holds(machine, context, event, host)),
            Test::Any(tests) => tests.iter().any(|test| test.holds(machine, context, event, host)),
            Test::Not(test) => !test.holds(machine, context, event, host),
        }
    }
}

/// A delay that depends on the context; see [`Backoff`](super::definition::Backoff).
#[derive(Clone, Debug)]
pub(super) struct Formula {
    pub base: f64,
    pub factor: f64,
    pub max: f64,
    pub by: ContextPath,
    pub jitter: Jitter,
}

impl Formula {
    /// Milliseconds: never negative, never NaN, but infinite when the formula has no `max` and outgrows a double.
    pub fn delay_ms(&self, context: &Context) -> f64 {
        let count = match self.by.view(context) {
            View::Undefined | View::Null => 1.0,
            // What is no number counts as the first attempt: a timer that never fires would lose the chunk.
            other => Some(other.to_number()).filter(|count| !count.is_nan()).unwrap_or(1.0).max(1.0),
        };
        // Nearly every retry is a first one.
        let growth = if count > 1.0 { self.factor.powf(count - 1.0) } else { 1.0 };
        (self.base * growth).min(self.max)
    }
}
