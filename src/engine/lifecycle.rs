//! One chunk's life: its machine instance, its payload, and what a step of the machine makes the engine do.

use super::metrics::Move;
use super::registry::{Role, View};
use super::shared::{Back, Shared};
use super::timers::TimerKey;
use crate::budget::Permit;
use crate::chunk::{ChunkId, Payload};
use crate::clock::Moment;
use crate::fsm::{
    Action, Context, Effect, Effects, Event, EventData, EventId, GuardId, Host, Instance, InvocationId, Jitter, Machine, Microstep,
    StateId, Status, StepError, TimerId,
};
use crate::journal::{ChunkRows, Entry, Placed, Settled, Transition};
use crate::processor::{CancelToken, HandlerError, Rejected};
use crate::source::Incoming;
use crate::trouble::{Trouble, TroubleKind};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A chunk in flight.
pub(super) struct Cell<P> {
    pub id: ChunkId,
    pub part: u32,
    pub origin: Arc<str>,
    /// Rows it had when it was read.
    pub rows: u64,
    pub life: Mutex<Life<P>>,
}

/// What of a chunk changes.
pub(super) struct Life<P> {
    instance: Instance,
    pub payload: Option<Arc<P>>,
    permit: Option<Permit>,
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
    end_is_told: bool,
    pub rows: ChunkRows,
    pub rejected: Vec<Rejected>,
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

/// Lets the machine ask for guards and actions of the program, and remembers its moves.
struct Stage<'a, P> {
    shared: &'a Shared<P>,
    moves: &'a mut Vec<(StateId, StateId, EventId)>,
}

impl<P: Payload> Host for Stage<'_, P> {
    fn guard(&mut self, guard: GuardId, params: Option<&Value>, context: &Context, event: &Event<'_>) -> bool {
        self.shared.registry.guard(guard, &View { machine: &self.shared.machine, context, event, params })
    }

    fn action(&mut self, action: &Action, context: &Context, event: &Event<'_>) {
        let params = action.params.as_ref();
        self.shared.registry.act(action.id, &View { machine: &self.shared.machine, context, event, params });
    }

    fn microstep(&mut self, step: &Microstep<'_>) {
        if step.transition.is_some() {
            self.moves.push((step.from, step.to, step.event.id));
        }
    }
}

/// What made a machine step, beyond the event.
#[derive(Clone, Copy, Default)]
struct Cause<'a> {
    /// The event's spelling.
    name: Option<&'a str>,
    error: Option<&'a str>,
}

impl<P: Payload> Cell<P> {
    /// Starts a chunk's life in the definition's initial state.
    ///
    /// # Errors
    /// When the definition's first step does not come to an end.
    pub fn start(incoming: Incoming<P>, shared: &Shared<P>, book: &mut Notebook) -> Result<Arc<Cell<P>>, StepError> {
        let Incoming { id, part, origin, payload, permit } = incoming;
        let now = shared.clock.now();
        book.moves.clear();
        let mut stage = Stage { shared, moves: &mut book.moves };
        let instance = shared.machine.start(shared.initial.clone(), &mut stage, &mut book.effects)?;
        let rows = payload.rows();
        let life = Life {
            instance,
            payload: Some(Arc::new(payload)),
            permit: Some(permit),
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
            end_is_told: false,
            rows: ChunkRows::default(),
            rejected: Vec::new(),
            errors: Vec::new(),
            placed: Placed::default(),
        };
        let cell = Arc::new(Cell { id, part, origin, rows, life: Mutex::new(life) });
        let mut life = cell.life.lock();
        let first = book.moves.first().map_or(life.instance.state(), |(from, ..)| *from);
        life.note(&cell, shared, book, now, (None, first, shared.init_event), (0, Cause::default()));
        life.after_step(&cell, shared, book, now, Cause::default());
        drop(life);
        Ok(cell)
    }

    /// Sends an outside event to the chunk.
    pub fn send(self: &Arc<Self>, shared: &Shared<P>, book: &mut Notebook, name: &str, payload: Map<String, Value>) -> Next {
        let mut life = self.life.lock();
        if life.is_committing() {
            life.deferred.push_back(Deferred::Event(name.to_owned(), payload));
        } else {
            life.outside(self, shared, book, name, &payload);
        }
        life.next(shared)
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

    /// The handler under way has ended: tells the machine, and then what had to wait for it.
    pub fn settle_handler(
        &mut self,
        cell: &Arc<Cell<P>>,
        shared: &Shared<P>,
        book: &mut Notebook,
        result: Result<Option<&Value>, HandlerError>,
    ) {
        let Some(running) = self.running.take() else { return };
        self.outcome(cell, shared, book, running.invocation, result);
        while let Some(deferred) = self.deferred.pop_front() {
            match deferred {
                Deferred::Event(name, payload) => self.outside(cell, shared, book, &name, &payload),
                Deferred::Timer(timer, key) => self.due(cell, shared, book, timer, key),
            }
        }
    }

    fn outcome(
        &mut self,
        cell: &Arc<Cell<P>>,
        shared: &Shared<P>,
        book: &mut Notebook,
        invocation: InvocationId,
        result: Result<Option<&Value>, HandlerError>,
    ) {
        let invocation = shared.machine.invocation(invocation);
        match result {
            Ok(output) => {
                let data = EventData::Output(output.unwrap_or(&Value::Null));
                self.step(cell, shared, book, &Event { id: invocation.done, name: None, data }, Cause::default());
            }
            Err(error) => {
                let (data, text) = (error.to_event(), error.to_string());
                self.errors.push(error);
                let event = Event { id: invocation.error, name: None, data: EventData::Error(&data) };
                self.step(cell, shared, book, &event, Cause { name: None, error: Some(&text) });
            }
        }
    }

    fn outside(&mut self, cell: &Arc<Cell<P>>, shared: &Shared<P>, book: &mut Notebook, name: &str, payload: &Map<String, Value>) {
        let event = Event { id: shared.machine.event(name), name: Some(name), data: EventData::Payload(payload) };
        self.step(cell, shared, book, &event, Cause { name: Some(name), error: None });
    }

    fn due(&mut self, cell: &Arc<Cell<P>>, shared: &Shared<P>, book: &mut Notebook, timer: TimerId, key: TimerKey) {
        let Some(armed) = self.armed.iter().position(|armed| *armed == (timer, key)) else { return };
        self.armed.swap_remove(armed);
        let timer = shared.machine.timer(timer);
        let event = Event { id: timer.event, name: None, data: EventData::None };
        let timeout = self.running.as_ref().map(|running| {
            let handler = &shared.machine.invocation(running.invocation).src;
            HandlerError::new(HandlerError::TIMEOUT, format!("`{handler}` had not ended when `{}` was over", timer.key))
        });
        let text = timeout.as_ref().map(ToString::to_string);
        self.errors.extend(timeout);
        self.step(cell, shared, book, &event, Cause { name: None, error: text.as_deref() });
    }

    fn step(&mut self, cell: &Arc<Cell<P>>, shared: &Shared<P>, book: &mut Notebook, event: &Event<'_>, cause: Cause<'_>) {
        let now = shared.clock.now();
        book.moves.clear();
        let mut stage = Stage { shared, moves: &mut book.moves };
        let before = self.instance.state();
        if shared.machine.send(&mut self.instance, event, &mut stage, &mut book.effects).is_err() {
            let message = format!("the transitions from `{}` come to no end", shared.machine.state_name(before));
            self.errors.push(HandlerError::new("endless", message));
        }
        self.after_step(cell, shared, book, now, cause);
    }

    /// Writes the step's moves down and performs its effects.
    fn after_step(&mut self, cell: &Arc<Cell<P>>, shared: &Shared<P>, book: &mut Notebook, now: Moment, cause: Cause<'_>) {
        let moves = std::mem::take(&mut book.moves);
        for (microstep, &(from, to, event)) in moves.iter().enumerate() {
            let cause = if microstep == 0 { cause } else { Cause::default() };
            self.note(cell, shared, book, now, (Some(from), to, event), (microstep, cause));
        }
        book.moves = moves;
        for effect in book.effects.iter() {
            match *effect {
                Effect::Start(invocation) => self.start_invocation(cell, shared, invocation),
                Effect::Stop(invocation) => book.abandoned.extend(self.stop_invocation(invocation)),
                Effect::Cancel(timer) => self.disarm(shared, timer),
                Effect::Arm { .. } => {}
            }
        }
        // Timers come last: those of a state with a handler wait for the handler's start.
        for effect in book.effects.iter() {
            if let Effect::Arm { timer, delay_ms, jitter } = *effect {
                let delay = self.delay(cell, shared, timer, delay_ms, jitter);
                self.arm(cell, shared, timer, delay);
            }
        }
        if self.instance.status() != Status::Active {
            std::mem::take(&mut self.armed).into_iter().for_each(|(_, key)| shared.timers.cancel(key));
            self.deferred.clear();
        }
    }

    fn start_invocation(&mut self, cell: &Arc<Cell<P>>, shared: &Shared<P>, invocation: InvocationId) {
        let cancel = CancelToken::default();
        if let Role::Watcher(watcher) = shared.registry.role(invocation) {
            self.watching.push((invocation, cancel.clone()));
            let (watcher, cell, back) = (watcher.clone(), cell.clone(), shared.back.clone());
            std::thread::spawn(move || {
                let result = super::worker::contained(|| watcher.watch(&cancel));
                let _ = back.send(Back::Watched { cell, invocation, cancel, result });
            });
        } else {
            self.epoch += 1;
            self.running = Some(Running { invocation, cancel, timers: Vec::new(), progress: Progress::New });
        }
    }

    /// Gives the worker that is left behind, if one is.
    fn stop_invocation(&mut self, invocation: InvocationId) -> Option<u32> {
        self.watching.extract_if(.., |(watched, _)| *watched == invocation).for_each(|(_, cancel)| cancel.cancel());
        let stopped = self.running.take_if(|running| running.invocation == invocation)?;
        stopped.cancel.cancel();
        let Progress::Begun { worker } = stopped.progress else { return None };
        self.abandoned += 1;
        Some(worker)
    }

    fn arm(&mut self, cell: &Arc<Cell<P>>, shared: &Shared<P>, timer: TimerId, delay: Duration) {
        let state = shared.machine.timer(timer).state;
        match &mut self.running {
            Some(running) if shared.machine.invocation(running.invocation).state == state => {
                // A sink's write is never left behind: whether it happened would be unknown. Its I/O has its own patience.
                if matches!(shared.registry.role(running.invocation), Role::Parallel(_)) {
                    running.timers.push((timer, delay));
                }
            }
            _ => self.armed.push((timer, shared.arm(cell, timer, delay))),
        }
    }

    fn disarm(&mut self, shared: &Shared<P>, timer: TimerId) {
        if let Some(armed) = self.armed.iter().position(|(armed, _)| *armed == timer) {
            shared.timers.cancel(self.armed.swap_remove(armed).1);
        }
        if let Some(running) = &mut self.running {
            running.timers.retain(|(pending, _)| *pending != timer);
        }
    }

    /// A delay as it is to be waited. Full jitter is drawn from what names the wait, so that a replay waits as long.
    fn delay(&self, cell: &Cell<P>, shared: &Shared<P>, timer: TimerId, delay_ms: f64, jitter: Jitter) -> Duration {
        let share = match jitter {
            Jitter::None => 1.0,
            Jitter::Full => {
                let name = format!("{}\n{}\n{}", cell.id, shared.machine.timer(timer).key, self.seq);
                #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
                let drawn = (xxhash_rust::xxh3::xxh3_64(name.as_bytes()) >> 11) as f64;
                drawn / 9_007_199_254_740_992.0
            }
        };
        Duration::try_from_secs_f64(delay_ms * share / 1000.0).unwrap_or(Duration::MAX)
    }

    /// Writes one move down: journal, metrics, subscribers. `step` is the move's place in the macrostep and what caused that.
    fn note(
        &mut self,
        cell: &Cell<P>,
        shared: &Shared<P>,
        book: &mut Notebook,
        now: Moment,
        (from, to, event): (Option<StateId>, StateId, EventId),
        (microstep, cause): (usize, Cause<'_>),
    ) {
        let in_state = now.since(self.entered);
        self.entered = now;
        let before = self.metered;
        self.metered = self.payload.as_ref().map_or((0, 0), |payload| (payload.rows(), payload.resident_bytes() as u64));
        shared.metrics.moved(&Move { from, to, event, in_state, before, after: self.metered, error: cause.error.is_some() });
        let transition = Transition {
            chunk: cell.id,
            seq: self.seq,
            at_micros: shared.clock.unix_micros(now),
            event,
            event_name: cause.name.filter(|name| *name != shared.machine.event_name(event)).map(Into::into),
            from,
            to,
            microstep: u32::try_from(microstep).unwrap_or(u32::MAX),
            attempt: self.attempt(),
            worker: book.worker,
            in_state_micros: u64::try_from(in_state.as_micros()).unwrap_or(u64::MAX),
            error: cause.error.map(Into::into),
        };
        self.seq += 1;
        shared.publish(&transition);
        book.entries.push(Entry::Transition(transition));
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
        match &mut self.running {
            Some(running) if running.progress == Progress::New => {
                running.progress = Progress::Queued;
                if matches!(shared.registry.role(running.invocation), Role::Parallel(_)) { Next::Work } else { Next::Commit }
            }
            _ => Next::Wait,
        }
    }

    /// The chunk goes on as this, after a handler made it so.
    pub fn replace(&mut self, payload: P) {
        if let Some(permit) = &mut self.permit
            && self.abandoned == 0
        {
            permit.resize(payload.resident_bytes());
        }
        self.payload = Some(Arc::new(payload));
    }

    /// The payload is where it belongs; its bytes are free.
    pub fn unload(&mut self) {
        self.payload = None;
        self.give_back();
    }

    /// A handler that was left behind has returned, and sees the payload no more.
    pub fn reclaim(&mut self) {
        self.abandoned -= 1;
        match (&self.payload, &mut self.permit) {
            (Some(payload), Some(permit)) if self.abandoned == 0 => permit.resize(payload.resident_bytes()),
            _ => self.give_back(),
        }
    }

    fn give_back(&mut self) {
        if self.abandoned > 0 {
            return;
        }
        if self.instance.status() == Status::Active {
            self.permit.iter_mut().for_each(Permit::empty);
        } else {
            self.permit = None;
        }
    }

    /// The chunk has come to its end: accounts for its rows and gives its bytes back.
    ///
    /// # Errors
    /// When some of its rows went nowhere.
    pub fn settle(&mut self, cell: &Cell<P>, shared: &Shared<P>, entries: &mut Vec<Entry>) -> Result<(), Trouble> {
        let state = self.instance.state();
        if shared.machine.has_tag(state, "cancelled") {
            let elsewhere = self.rows.written + self.rows.filtered + self.rows.dead_lettered;
            self.rows.cancelled = cell.rows.saturating_sub(elsewhere);
        }
        entries.push(Entry::Settled(Settled { chunk: cell.id, state, attempt: self.attempt(), rows: self.rows, placed: self.placed }));
        shared.metrics.settled(&self.rows, self.placed.bytes);
        self.unload();
        let ChunkRows { written, filtered, dead_lettered, cancelled } = self.rows;
        let lost = cell.rows.saturating_sub(written + filtered + dead_lettered + cancelled);
        if lost == 0 {
            return Ok(());
        }
        let (id, state, all) = (cell.id, shared.machine.state_name(state), cell.rows);
        let why = self.errors.last().map_or(String::new(), |error| format!(" ({error})"));
        let message = format!("chunk {id} ended in `{state}`{why}, where {lost} of its {all} rows are neither written nor set aside");
        Err(Trouble::lasting(TroubleKind::Internal, message))
    }

    /// Whether nothing will move it before `limit`: no handler is at it, and no timer is due by then.
    pub fn waits_beyond(&self, limit: Moment) -> bool {
        let soon = self.armed.iter().any(|(_, key)| key.due() <= limit);
        self.running.is_none() && self.watching.is_empty() && !soon && self.instance.status() == Status::Active
    }
}
