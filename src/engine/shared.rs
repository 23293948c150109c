//! What the threads of one run share, and what they tell its main loop.

use super::intake::InFlight;
use super::lifecycle::{Cell, Splitting};
use super::metrics::Metrics;
use super::registry::Registry;
use super::timers::{TimerKey, Timers};
use crate::budget::{Budget, Hold};
use crate::chunk::{ChunkId, Payload};
use crate::clock::Clock;
use crate::fsm::{Context, EventId, InvocationId, Machine, StateId, TimerId};
use crate::journal::{AsRead, Journal, SPLIT, SPLIT_STATE, Split, Transition};
use crate::processor::{CancelToken, HandlerError};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, Sender, TrySendError};
use crate::trouble::{Stop, Trouble};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What the threads of one run share.
pub(super) struct Shared<P> {
    pub machine: Arc<Machine>,
    pub registry: Registry<P>,
    /// Where every chunk starts from.
    pub initial: Context,
    pub init_event: EventId,
    /// Chunks that an earlier run has begun.
    pub recovered: HashMap<ChunkId, Recovered>,
    /// Chunks that an earlier run has split, and their parts that have come to their end in one.
    pub split_before: HashMap<ChunkId, AsRead>,
    pub parts_ended: HashSet<ChunkId>,
    /// How chunks are split; none if they are not.
    pub splitting: Option<Splitting<P>>,
    /// Whether a chunk that only an outside event could move is left where it is.
    pub leaves_parked: bool,
    pub clock: Clock,
    pub budget: Budget,
    pub metrics: Metrics,
    pub in_flight: InFlight<P>,
    /// Tells who feeds by hand what became of chunks; gone when nobody listens.
    pub settled: Mutex<Option<Sender<Settled>>>,
    pub timers: Timers<(Weak<Cell<P>>, Due)>,
    pub journal: Arc<dyn Journal>,
    pub stop: Stop,
    /// To the main loop. Never blocks: there is room for everything that is in flight.
    pub back: Sender<Back<P>>,
    pub subscribers: Subscribers,
}

/// How an earlier run left a chunk that is read again.
pub(super) struct Recovered {
    pub left_in: StateId,
    pub not_before_micros: Option<u64>,
    pub context: Map<String, Value>,
}

/// What is due when an alarm of a chunk is.
#[derive(Clone, Copy)]
pub(super) enum Due {
    /// A timer of its machine.
    Timer(TimerId),
    /// Its work, which an earlier run had put off until then.
    Work,
}

/// The back edge: what the main loop is told.
pub(super) enum Back<P> {
    /// A lane has no more, or was stopped.
    LaneEnded,
    /// Chunks have come to their end.
    Settled,
    /// These chunks cannot go on in this run, because reading stopped before them.
    Left(Vec<Arc<Cell<P>>>),
    /// Only an outside event can move this chunk, and none will come.
    Parked(Arc<Cell<P>>),
    /// A handler that nobody waited for has returned.
    Returned,
    /// A watcher has ended.
    Watched { cell: Arc<Cell<P>>, invocation: InvocationId, cancel: CancelToken, result: Result<(), HandlerError> },
    /// A component is in passing trouble, or well again; nothing is read meanwhile.
    Trouble { hold: Hold, message: Option<String> },
    /// A component is in trouble; the run cannot go on.
    Failed(Trouble),
    /// A thread of the engine panicked, which is a fault of ours.
    Panicked(String),
    /// The outputs have their final names.
    Finished,
    /// Somebody asks for something.
    Command(Command),
    /// Look at the clock.
    Wake,
}

/// What a handle asks for.
pub(super) enum Command {
    Pause,
    Resume,
    /// Read nothing more, finish what is in flight.
    Drain,
    /// Stop where things are.
    StopNow,
    CancelRun,
    Send {
        chunk: ChunkId,
        event: String,
        payload: Map<String, Value>,
    },
}

impl<P: Payload> Shared<P> {
    /// Arms a timer of a chunk; wakes the main loop if it would look too late.
    pub fn arm(&self, cell: &Arc<Cell<P>>, timer: TimerId, delay: Duration) -> TimerKey {
        self.alarm(cell, Due::Timer(timer), delay)
    }

    fn alarm(&self, cell: &Arc<Cell<P>>, due: Due, delay: Duration) -> TimerKey {
        let (key, wake) = self.timers.arm(self.clock.now().after(delay), (Arc::downgrade(cell), due));
        if wake {
            let _ = self.back.send(Back::Wake);
        }
        key
    }

    /// Puts a chunk's work off if an earlier run had done so, until the same time. Says whether it did.
    pub fn puts_off(&self, cell: &Arc<Cell<P>>) -> bool {
        let not_before = self.recovered.get(&cell.id).and_then(|recovered| recovered.not_before_micros);
        let left = not_before.and_then(|due| due.checked_sub(self.clock.unix_micros(self.clock.now()))).filter(|left| *left > 0);
        if let Some(left) = left {
            self.alarm(cell, Due::Work, Duration::from_micros(left));
        }
        left.is_some()
    }

    /// These chunks have come to their end, and the journal has it. Gives parts of them that were held back until now.
    #[must_use]
    pub fn settle(&self, cells: &[Arc<Cell<P>>]) -> Vec<Arc<Cell<P>>> {
        self.in_flight.remove(cells);
        let mut settled = self.settled.lock();
        for cell in cells {
            let news = match &cell.family {
                None if settled.is_none() => None,
                None => Some(cell.settled(&self.machine)),
                Some(family) => family.ended(cell.settled(&self.machine)),
            };
            if let (Some(news), Some(sender)) = (news, &*settled)
                && sender.send(news).is_err()
            {
                *settled = None;
            }
        }
        drop(settled);
        let freed = Shared::hand_over(cells);
        let _ = self.back.send(Back::Settled);
        freed
    }

    /// These chunks leave, whatever becomes of them. Gives parts of them that go on in their places.
    #[must_use]
    pub fn hand_over(cells: &[Arc<Cell<P>>]) -> Vec<Arc<Cell<P>>> {
        let place = |cell: &Arc<Cell<P>>| cell.family.as_ref()?.hand_over(cell.life.lock().take_place());
        cells.iter().filter_map(place).collect()
    }

    /// A component is in passing trouble, or well again.
    pub fn trouble(&self, hold: Hold, trouble: Option<&Trouble>) {
        self.budget.hold(hold, trouble.is_some());
        let _ = self.back.send(Back::Trouble { hold, message: trouble.map(Trouble::chain) });
    }

    pub fn publish(&self, transition: &Transition) {
        self.subscribers.publish(|| TransitionEvent {
            chunk: transition.chunk,
            seq: transition.seq,
            at_micros: transition.at_micros,
            event: transition.event_name.as_deref().unwrap_or_else(|| self.machine.event_name(transition.event)).to_owned(),
            from: transition.from.map(|state| self.machine.state_name(state).to_owned()),
            to: self.machine.state_name(transition.to).to_owned(),
            error: transition.error.as_deref().map(str::to_owned),
            missed: 0,
        });
    }

    pub fn publish_split(&self, split: &Split) {
        self.subscribers.publish(|| TransitionEvent {
            chunk: split.chunk,
            seq: split.seq,
            at_micros: split.at_micros,
            event: SPLIT.to_owned(),
            from: Some(self.machine.state_name(split.from).to_owned()),
            to: SPLIT_STATE.to_owned(),
            error: Some(split.error.to_string()),
            missed: 0,
        });
    }
}

/// A chunk that has come to its end, for who feeds by hand: one for each chunk that was fed. Of a chunk that was split this is told when its
/// last part has come to its end, of the parts themselves nothing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Settled {
    /// Which chunk.
    pub chunk: ChunkId,
    /// Its final state; `split` if it was split.
    pub state: String,
    /// Where its rows went, those of all its parts.
    pub rows: crate::journal::ChunkRows,
    /// What went wrong on the way: of many errors the first eight and the last eight.
    pub errors: Vec<String>,
}

/// A transition as it happens, for who subscribed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TransitionEvent {
    /// Which chunk.
    pub chunk: ChunkId,
    /// Its how many-th transition, from 0.
    pub seq: u32,
    /// Microseconds since the Unix epoch.
    pub at_micros: u64,
    /// What happened.
    pub event: String,
    /// The state before; none at the start.
    pub from: Option<String>,
    /// The state after; `split`, by the event `sluicegate.split`, if the chunk goes on as two halves.
    pub to: String,
    /// The error that caused it.
    pub error: Option<String>,
    /// How many transitions this subscriber missed before this one because it was slow.
    pub missed: u64,
}

/// Who wants to see transitions. Looking whether there is anybody costs one load.
pub(super) struct Subscribers {
    any: AtomicBool,
    /// None once the run is over.
    list: Mutex<Option<Vec<Subscriber>>>,
}

struct Subscriber {
    sender: Sender<TransitionEvent>,
    missed: u64,
}

impl Default for Subscribers {
    fn default() -> Self {
        Subscribers { any: AtomicBool::new(false), list: Mutex::new(Some(Vec::new())) }
    }
}

impl Subscribers {
    /// To one who comes when the run is over, there is nothing to say.
    pub fn add(&self, sender: Sender<TransitionEvent>) {
        if let Some(list) = &mut *self.list.lock() {
            list.push(Subscriber { sender, missed: 0 });
            self.any.store(true, Ordering::Release);
        }
    }

    /// The run is over: who listens is told so by the channel's end.
    pub fn dismiss(&self) {
        *self.list.lock() = None;
        self.any.store(false, Ordering::Release);
    }

    fn publish(&self, event: impl FnOnce() -> TransitionEvent) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let event = event();
        let mut list = self.list.lock();
        let Some(list) = &mut *list else { return };
        list.retain_mut(|subscriber| {
            let event = TransitionEvent { missed: subscriber.missed, ..event.clone() };
            match subscriber.sender.try_send(event) {
                Ok(()) => subscriber.missed = 0,
                Err(TrySendError::Full(_)) => subscriber.missed += 1,
                Err(TrySendError::Disconnected(_)) => return false,
            }
            true
        });
        self.any.store(!list.is_empty(), Ordering::Release);
    }
}
