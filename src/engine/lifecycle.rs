//! One chunk's life: its machine instance, its payload, and what a step of the machine makes the engine do.

mod account;
mod invocations;
mod split;
mod steps;

pub(super) use split::Splitting;

use super::family::Family;
use super::registry::Role;
use super::shared::Shared;
use super::timers::TimerKey;
use crate::budget::{Permit, Place, SharedBytes};
use crate::chunk::{ChunkId, Payload};
use crate::clock::Moment;
use crate::fsm::{Effects, EventId, Instance, InvocationId, Machine, StateId, Status, StepError, TimerId};
use crate::journal::{ChunkRows, Entry, Placed, RECOVERED};
use crate::processor::{CancelToken, HandlerError, Rejected};
use crate::source::Incoming;
use crate::sync::Mutex;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use steps::{Cause, Stage};

/// A chunk in flight.
pub(super) struct Cell<P> {
    pub id: ChunkId,
    pub part: u32,
    pub origin: Arc<str>,
    /// Rows it had when it was read.
    pub rows: u64,
    /// And bytes.
    pub bytes: u64,
    /// What it belongs to if it is a part of a chunk that was split.
    pub family: Option<Arc<Family<P>>>,
    pub life: Mutex<Life<P>>,
}

/// What of a chunk changes.
pub(super) struct Life<P> {
    instance: Instance,
    pub payload: Option<Arc<P>>,
    /// Its payload as it was read, where that is kept.
    as_read: Option<Arc<P>>,
    /// Whether a handler has made another payload of it.
    changed: bool,
    permit: Option<Permit>,
    /// Of a part that has ended: its place, for another one.
    place: Option<Place>,
    /// When it entered its present state.
    entered: Moment,
    /// How many transitions it has made.
    seq: u32,
    /// Rows and bytes as the metrics have them.
    metered: (u64, u64),
    /// The payload handler that is, or waits to be, under way.
    running: Option<Running>,
    watching: Vec<(InvocationId, CancelToken)>,
    /// Counts invocations, so that a late result can be told from a timely one.
    epoch: u64,
    armed: Vec<(TimerId, TimerKey)>,
    /// How often each invocation was started.
    starts: Vec<(InvocationId, u32)>,
    /// What came while an ordered handler was at it; looked at when its outcome is known.
    deferred: VecDeque<Deferred>,
    /// Handlers that were left behind and have not returned: they still see the payload.
    abandoned: u32,
    /// Of a chunk that was split: what these look at.
    left_over: Option<Arc<SharedBytes>>,
    end_is_told: bool,
    /// It has ended in favour of its halves.
    is_split: bool,
    pub rows: ChunkRows,
    pub rejected: Vec<Rejected>,
    /// The first ones and the latest.
    pub errors: Vec<HandlerError>,
    /// What the sink took.
    pub placed: Placed,
}

struct Running {
    invocation: InvocationId,
    cancel: CancelToken,
    /// Timers of the invocation's own state: armed when the handler really starts.
    timers: Vec<(TimerId, Duration)>,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nobody knows of it yet.
    New,
    /// It waits for a worker or for its turn.
    Queued,
    /// A worker (from 1) is at it, or the committer (0).
    Begun { worker: u32 },
}

enum Deferred {
    Event(String, Map<String, Value>),
    Timer(TimerId, TimerKey),
}

/// What is to be done with a chunk after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A worker has to run its invocation.
    Work,
    /// The committer has to run its invocation.
    Commit,
    /// Nothing: somebody is still at it, or a timer or an outside event will come.
    Wait,
    /// Nothing, and only an outside event can change that.
    Park,
    /// It has come to an end.
    Final,
}

/// A handler's start: everything it needs.
pub(super) struct Begun<P> {
    pub invocation: InvocationId,
    pub epoch: u64,
    pub attempt: u32,
    pub payload: Arc<P>,
    pub cancel: CancelToken,
}

/// Buffers that a thread uses again and again, and where its steps are written down.
#[derive(Default)]
pub(super) struct Notebook {
    pub entries: Vec<Entry>,
    /// Workers (from 1) whose handler's result nobody waits for any more.
    pub abandoned: Vec<u32>,
    effects: Effects,
    moves: Vec<(StateId, StateId, EventId)>,
    /// Who steps: a worker from 1, or 0.
    pub worker: u32,
}

impl Notebook {
    pub fn of(worker: u32) -> Notebook {
        Notebook { worker, ..Notebook::default() }
    }
}

impl<P: Payload> Cell<P> {
    /// Starts a chunk's life in the definition's initial state.
    ///
    /// # Errors
    /// When the definition's first step does not come to an end.
    fn start(
        incoming: Incoming<P>,
        family: Option<Arc<Family<P>>>,
        shared: &Shared<P>,
        book: &mut Notebook,
    ) -> Result<Arc<Cell<P>>, StepError> {
        let Incoming { id, part, origin, payload, permit } = incoming;
        let now = shared.clock.now();
        book.moves.clear();
        let mut stage = Stage { shared, moves: &mut book.moves };
        let recovered = shared.recovered.get(&id);
        let mut context = shared.initial.clone();
        for (key, value) in recovered.iter().flat_map(|recovered| &recovered.context) {
            shared.machine.context_slot(key).into_iter().for_each(|slot| context.set(slot, value));
        }
        let instance = shared.machine.start(context, &mut stage, &mut book.effects)?;
        let (rows, bytes) = (payload.rows(), payload.bytes() as u64);
        let payload = Arc::new(payload);
        let life = Life {
            instance,
            as_read: shared.splitting.as_ref().filter(|splitting| splitting.keeps_as_read).map(|_| payload.clone()),
            payload: Some(payload),
            changed: false,
            permit: Some(permit),
            place: None,
            entered: now,
            seq: 0,
            metered: (0, 0),
            running: None,
            watching: Vec::new(),
            epoch: 0,
            armed: Vec::new(),
            starts: Vec::new(),
            deferred: VecDeque::new(),
            abandoned: 0,
            left_over: None,
            end_is_told: false,
            is_split: false,
            rows: ChunkRows::default(),
            rejected: Vec::new(),
            errors: Vec::new(),
            placed: Placed::default(),
        };
        let cell = Arc::new(Cell { id, part, origin, rows, bytes, family, life: Mutex::new(life) });
        let mut life = cell.life.lock();
        let first = book.moves.first().map_or(life.instance.state(), |(from, ..)| *from);
        let left_in = recovered.map(|recovered| recovered.left_in);
        let cause = Cause { name: left_in.map(|_| RECOVERED), left_in, ..Cause::default() };
        life.note(&cell, shared, book, now, (None, first, shared.init_event), (0, cause));
        life.after_step(&cell, shared, book, now, Cause::default());
        drop(life);
        Ok(cell)
    }

    /// Sends an outside event to the chunk. `None` if it was split meanwhile: its halves are in flight instead.
    pub fn send(self: &Arc<Self>, shared: &Shared<P>, book: &mut Notebook, name: &str, payload: &Map<String, Value>) -> Option<Next> {
        let mut life = self.life.lock();
        if life.is_split {
            return None;
        }
        if life.is_committing() {
            life.deferred.push_back(Deferred::Event(name.to_owned(), payload.clone()));
        } else {
            life.outside(self, shared, book, name, payload);
        }
        Some(life.next(shared))
    }

    /// A timer of the chunk has fallen due.
    pub fn fire(self: &Arc<Self>, shared: &Shared<P>, book: &mut Notebook, timer: TimerId, key: TimerKey) -> Next {
        let mut life = self.life.lock();
        if life.is_committing() {
            life.deferred.push_back(Deferred::Timer(timer, key));
        } else {
            life.due(self, shared, book, timer, key);
        }
        life.next(shared)
    }

    /// A handler starts now: its state's timers are armed with it. `None` when the chunk has moved on since.
    pub fn begin(self: &Arc<Self>, shared: &Shared<P>, worker: u32) -> Option<Begun<P>> {
        let mut guard = self.life.lock();
        let life = &mut *guard;
        let running = life.running.as_mut().filter(|running| running.progress == Progress::Queued)?;
        running.progress = Progress::Begun { worker };
        let (invocation, cancel) = (running.invocation, running.cancel.clone());
        for (timer, delay) in std::mem::take(&mut running.timers) {
            life.armed.push((timer, shared.arm(self, timer, delay)));
        }
        let attempt = count(&mut life.starts, invocation);
        if attempt > 1 {
            shared.metrics.retried(life.instance.state());
        }
        let payload = life.payload.clone()?;
        Some(Begun { invocation, epoch: life.epoch, attempt, payload, cancel })
    }

    /// What became of it.
    pub fn settled(&self, machine: &Machine) -> super::shared::Settled {
        let life = self.life.lock();
        super::shared::Settled {
            chunk: self.id,
            state: machine.state_name(life.instance.state()).to_owned(),
            rows: life.rows,
            errors: life.errors.iter().map(ToString::to_string).collect(),
        }
    }

    /// A watcher has ended.
    pub fn watched(
        self: &Arc<Self>,
        shared: &Shared<P>,
        book: &mut Notebook,
        invocation: InvocationId,
        token: &CancelToken,
        result: Result<(), HandlerError>,
    ) -> Next {
        let mut life = self.life.lock();
        let Some(place) = life.watching.iter().position(|(watched, cancel)| *watched == invocation && cancel.is_same(token)) else {
            return Next::Wait;
        };
        life.watching.swap_remove(place);
        life.outcome(self, shared, book, invocation, result.map(|()| None));
        life.next(shared)
    }
}

/// So many errors of one chunk are kept: half of them the first ones, half of them the latest. One that is tried for ever must not grow.
const KEPT_ERRORS: usize = 16;

/// Keeps an error with those before.
pub(super) fn remember<E>(errors: &mut Vec<E>, error: E) {
    if errors.len() == KEPT_ERRORS {
        errors.remove(KEPT_ERRORS / 2);
    }
    errors.push(error);
}

/// Counts one more start of `invocation`.
fn count(starts: &mut Vec<(InvocationId, u32)>, invocation: InvocationId) -> u32 {
    if let Some((_, count)) = starts.iter_mut().find(|(started, _)| *started == invocation) {
        *count += 1;
        return *count;
    }
    starts.push((invocation, 1));
    1
}

impl<P: Payload> Life<P> {
    /// Whether the handler that began in this epoch is still the one the chunk waits for.
    pub fn awaits(&self, epoch: u64) -> bool {
        self.epoch == epoch && self.running.is_some()
    }

    /// Whether an ordered handler is at it. Its outcome must be known before anything else can happen to the chunk.
    fn is_committing(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.progress == Progress::Begun { worker: 0 })
    }

    /// How often the latest invocation was started.
    fn attempt(&self) -> u32 {
        self.starts.last().map_or(0, |(_, count)| *count)
    }

    /// Who has to do something now. Asking makes it so: each invocation is queued once, and the end is told once.
    pub fn next(&mut self, shared: &Shared<P>) -> Next {
        if self.instance.status() != Status::Active {
            return if std::mem::replace(&mut self.end_is_told, true) { Next::Wait } else { Next::Final };
        }
        if self.is_parked() {
            return Next::Park;
        }
        match &mut self.running {
            Some(running) if running.progress == Progress::New => {
                running.progress = Progress::Queued;
                if matches!(shared.registry.role(running.invocation), Role::Parallel(_)) { Next::Work } else { Next::Commit }
            }
            _ => Next::Wait,
        }
    }

    /// Whether nothing will move it before `limit`: no handler is at it, and no timer is due by then.
    pub fn waits_beyond(&self, limit: Moment) -> bool {
        let soon = self.armed.iter().any(|(_, key)| key.due() <= limit);
        self.running.is_none() && self.watching.is_empty() && !soon && self.is_alive()
    }

    /// Whether only an outside event can move it: no handler is at it, and no timer is armed.
    pub fn is_parked(&self) -> bool {
        self.running.is_none() && self.watching.is_empty() && self.armed.is_empty() && self.is_alive()
    }

    /// Whether it has not come to an end.
    fn is_alive(&self) -> bool {
        self.instance.status() == Status::Active && !self.is_split
    }

    /// The state it is in.
    pub fn state(&self) -> StateId {
        self.instance.state()
    }
}
