//! Putting a run together, and waiting for it.

use super::committer::{GroupLimits, Outlet, Purpose};
#[cfg(feature = "async")]
use super::handle::Handle;
use super::intake::InFlight;
use super::lifecycle::Splitting;
use super::metrics::Metrics;
use super::order::Order;
use super::patience::Patience;
use super::registry::{ActionFn, Guard, Registry, Role, View};
use super::report::{RunError, RunReport};
use super::running::Running;
use super::shared::{Back, Recovered, Shared, Subscribers};
use super::timers::Timers;
use crate::budget::{Budget, MemoryBand};
use crate::chunk::{ChunkId, Halves, Payload};
use crate::clock::Clock;
use crate::fsm::{self, CompileOptions, Context, Definition, Machine, Use, Vocabulary};
use crate::journal::{CarriedOver, Journal, LeftOff, Nowhere};
use crate::processor::{Handler, Watcher};
use crate::sink::Sink;
use crate::source::Source;
use crate::sync::{Mutex, unbounded};
use crate::trouble::{Stop, Trouble, TroubleKind};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What an embedding program may use unless it says otherwise.
const DEFAULT_MEMORY_LIMIT: usize = 256 << 20;

/// Chunks in flight at most, those included that wait for a flush without bytes.
const DEFAULT_MAX_CHUNKS: usize = 2048;

/// A run in the making: a definition, and what the program registers for the names in it.
///
/// See the [crate's front page](crate) for an example.
pub struct Orchestrator<P: Payload> {
    definition: Definition,
    context: Vec<(String, Value)>,
    vocabulary: Vocabulary,
    source: Option<Box<dyn Source<P>>>,
    roles: BTreeMap<String, Role<P>>,
    outlets: Vec<Outlet<P>>,
    guards: BTreeMap<String, Guard>,
    actions: BTreeMap<String, ActionFn>,
    journal: Arc<dyn Journal>,
    clock: Clock,
    carried: CarriedOver,
    splitting: Option<Splitting<P>>,
    settings: Settings,
}

/// How a run is run. None of it changes what a chunk's rows become.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub workers: usize,
    pub memory_limit: usize,
    pub max_chunks: usize,
    pub ordered: bool,
    pub leaves_parked: bool,
    pub patience: Patience,
    pub group: GroupLimits,
}

impl<P: Payload> Orchestrator<P> {
    /// A run of chunks that live as `definition` says.
    pub fn new(definition: Definition) -> Orchestrator<P> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Orchestrator {
            definition,
            context: Vec::new(),
            vocabulary: Vocabulary::closed(),
            source: None,
            roles: BTreeMap::new(),
            outlets: Vec::new(),
            guards: BTreeMap::new(),
            actions: BTreeMap::new(),
            journal: Arc::new(Nowhere),
            clock: Clock::real(),
            carried: CarriedOver::default(),
            splitting: None,
            settings: Settings {
                workers,
                memory_limit: DEFAULT_MEMORY_LIMIT,
                max_chunks: DEFAULT_MAX_CHUNKS,
                ordered: true,
                leaves_parked: false,
                patience: Patience::default(),
                group: GroupLimits::default(),
            },
        }
    }

    /// Where chunks come from.
    #[must_use]
    pub fn source(mut self, source: impl Source<P> + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The code behind `invoke.src: name`. The definition must use it.
    #[must_use]
    pub fn handler(self, name: &str, handler: impl Handler<P> + 'static) -> Self {
        self.role(name, Use::Required, fsm::Role::Payload, Role::Parallel(Arc::new(handler)))
    }

    /// The same for a handler that a definition may do without.
    #[must_use]
    pub fn optional_handler(self, name: &str, handler: impl Handler<P> + 'static) -> Self {
        self.role(name, Use::Optional, fsm::Role::Payload, Role::Parallel(Arc::new(handler)))
    }

    /// An invocation that runs beside the handlers, without payload.
    #[must_use]
    pub fn watcher(self, name: &str, watcher: impl Watcher + 'static) -> Self {
        self.role(name, Use::Required, fsm::Role::Watcher, Role::Watcher(Arc::new(watcher)))
    }

    /// The sink behind `invoke.src: name`: what it accepts is written. The definition must use it.
    #[must_use]
    pub fn sink(self, name: &str, sink: impl Sink<P> + 'static) -> Self {
        self.outlet(name, Use::Required, Purpose::Output, Box::new(sink))
    }

    /// The sink for what cannot be written: chunks, where the definition invokes `name`, and single rows that handlers reject.
    #[must_use]
    pub fn dead_letter(self, name: &str, sink: impl Sink<P> + 'static) -> Self {
        self.outlet(name, Use::Optional, Purpose::DeadLetter, Box::new(sink))
    }

    /// A guard of the definition. Must be quick and must not block: the chunk is locked while it runs.
    #[must_use]
    pub fn guard(mut self, name: &str, guard: impl Fn(&View<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.vocabulary = self.vocabulary.guard(name);
        self.guards.insert(name.to_owned(), Arc::new(guard));
        self
    }

    /// An action of the definition. Must be quick and must not block: the chunk is locked while it runs.
    #[must_use]
    pub fn action(mut self, name: &str, action: impl Fn(&View<'_>) + Send + Sync + 'static) -> Self {
        self.vocabulary = self.vocabulary.action(name);
        self.actions.insert(name.to_owned(), Arc::new(action));
        self
    }

    /// Overrides a value of the definition's `context`.
    #[must_use]
    pub fn context(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.context.push((key.to_owned(), value.into()));
        self
    }

    /// Where transitions are written down. Nowhere, unless this says so.
    #[must_use]
    pub fn journal(mut self, journal: impl Journal + 'static) -> Self {
        self.journal = Arc::new(journal);
        self
    }

    /// How many threads run handlers. As many as there are processors, unless this says otherwise.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers.max(1);
        self
    }

    /// How many bytes of payload may be in flight. 256 MiB, unless this says otherwise.
    #[must_use]
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.settings.memory_limit = bytes;
        self
    }

    /// How many chunks may be in flight. 2,048, unless this says otherwise.
    #[must_use]
    pub fn max_chunks(mut self, chunks: usize) -> Self {
        self.settings.max_chunks = chunks.max(1);
        // What waits for a flush takes places, too: a flush must come before they are all taken.
        self.settings.group.chunks = self.settings.group.chunks.min((chunks / 2).max(1));
        self
    }

    /// Sinks get chunks as they come, not as they were read.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.settings.ordered = false;
        self
    }

    /// Finds bad rows by halving: a chunk of which a handler or sink says that [some row](crate::HandlerError::of_some_row) is at fault is
    /// *split* at once, instead of its machine getting the error. It ends in the engine's own state `split`; its two halves, named `3.2/0` and
    /// `3.2/1`, start anew in the initial state, in its place in the order. So it goes on until the rows at fault are each alone in a chunk,
    /// whose machine gets the error as any other; the good ones are written.
    ///
    /// A chunk can be split as long as its payload is what was read: no handler has made another of it. Otherwise, and where
    /// [`Halves::halves`] says that it cannot be cut, the machine gets the error.
    ///
    /// Halves share the bytes of the whole. Each counts as a chunk of its own in [`Orchestrator::max_chunks`] and waits while there is no
    /// place for it; what is told of chunks, in the journal and to who listens, is told of each. Events for the whole go to all parts.
    #[must_use]
    pub fn split_chunks(mut self) -> Self
    where
        P: Halves,
    {
        self.splitting = Some(Splitting { halves: P::halves, keeps_as_read: false });
        self
    }

    /// The same also for chunks of which handlers have made another payload: every chunk keeps what was read until a sink has taken it, which
    /// counts against the memory limit. For sinks that refuse a chunk for some row.
    #[must_use]
    pub fn split_chunks_at_any_stage(mut self) -> Self
    where
        P: Halves,
    {
        self.splitting = Some(Splitting { halves: P::halves, keeps_as_read: true });
        self
    }

    /// Does not wait for events from outside, because there is nobody who could send one: a chunk that nothing else can move (*parked*, in a
    /// state with neither invocation nor timer) is left as it is. An ordered run then reads nothing more, since nothing behind that chunk can be
    /// written; any run ends [stopped](super::Outcome::Stopped), and resumable, when all else has come to its end, and
    /// [says](RunReport::stopped_because) which chunks wait in which states.
    #[must_use]
    pub fn leave_parked_chunks(mut self) -> Self {
        self.settings.leaves_parked = true;
        self
    }

    /// How long to put up with a source, sink or journal in trouble.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.settings.patience = patience;
        self
    }

    /// When what was written is made durable.
    #[must_use]
    pub fn group(mut self, limits: GroupLimits) -> Self {
        self.settings.group = limits;
        self
    }

    /// The clock that timers go by.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    fn role(mut self, name: &str, used: Use, kind: fsm::Role, role: Role<P>) -> Self {
        self.vocabulary = self.vocabulary.handler(name, used, kind);
        self.roles.insert(name.to_owned(), role);
        self
    }

    fn outlet(self, name: &str, used: Use, purpose: Purpose, sink: Box<dyn Sink<P>>) -> Self {
        let number = self.outlets.len();
        let mut this = self.role(name, used, fsm::Role::Ordered, Role::Ordered(number));
        this.outlets.push(Outlet { purpose, sink });
        this
    }

    /// Goes on where earlier runs of the same target ended. The source must leave out what is carried over, and the sinks must stand
    /// where the journal says that they did.
    #[must_use]
    pub fn carry_over(mut self, carried: CarriedOver) -> Self {
        self.carried = carried;
        self
    }

    /// Runs to the end, on threads of its own; the caller's thread waits.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn run(self) -> Result<RunReport, RunError> {
        self.start()?.wait()
    }

    /// [`Orchestrator::run`] as a future, for programs on an async runtime. Dropping the future stops the run where it is.
    ///
    /// # Errors
    /// See [`RunError`].
    #[cfg(feature = "async")]
    pub async fn run_async(self) -> Result<RunReport, RunError> {
        let running = self.start()?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut stop = StopOnDrop(Some(running.handle()));
        crate::sync::thread::spawn(move || {
            // Nobody is there to tell when the future was dropped; the run has been stopped then.
            let _ = sender.send(running.wait());
        });
        let result = receiver.await;
        stop.0 = None;
        result.unwrap_or_else(|_| Err(RunError::Setup(Trouble::lasting(TroubleKind::Internal, "the run's thread is gone"))))
    }

    /// Checks everything and starts; returns at once, with the run on threads of its own. Dropping the [`Running`] lets it run on,
    /// unobserved.
    ///
    /// # Errors
    /// [`RunError::Definition`] with every finding, or [`RunError::Setup`]. Nothing was read then.
    pub fn start(mut self) -> Result<Running, RunError> {
        let machine = Arc::new(self.compile()?);
        let initial = self.initial_context(&machine)?;
        let mut source = self.source.take().ok_or_else(|| setup("there is no source: nothing to do"))?;
        let registry = self.registry(&machine);
        let settings = self.settings.clone();
        let budget = Budget::new(MemoryBand::under(settings.memory_limit), settings.max_chunks, self.clock.clone());
        budget.reserve(self.outlets.iter().map(|outlet| outlet.sink.buffer_bytes()).sum());
        self.journal.begin(&machine).map_err(RunError::Setup)?;
        let lanes = source.lanes(&budget).map_err(RunError::Setup)?;
        let mut order = Order::new(settings.ordered);
        for (part, first_range) in (0..).zip(source.part_starts()) {
            order.begin(part, first_range);
        }
        order.carry_over(&self.carried);
        let (back_sender, back) = unbounded();
        let (settled_sender, settled) = unbounded();
        let shared = Arc::new(Shared {
            init_event: machine.event("xstate.init"),
            metrics: Metrics::new(machine.clone(), self.carried.rows),
            parts_ended: self.carried.ended.iter().map(|(_, chunk)| *chunk).filter(|chunk| chunk.is_part()).collect(),
            split_before: std::mem::take(&mut self.carried.split),
            splitting: self.splitting,
            leaves_parked: settings.leaves_parked,
            recovered: recovered(&machine, self.carried)?,
            in_flight: InFlight::new(),
            settled: Mutex::new(Some(settled_sender)),
            machine,
            registry,
            initial,
            clock: self.clock.clone(),
            budget,
            timers: Timers::new(),
            journal: self.journal.clone(),
            stop: Stop::default(),
            back: back_sender,
            subscribers: Subscribers::default(),
        });
        // A clock that is moved faster than anybody can look must not fill the channel.
        let woken = Arc::downgrade(&shared);
        self.clock.on_advance(move |now| {
            let Some(shared) = woken.upgrade() else { return false };
            if shared.timers.wakes_at(now) {
                let _ = shared.back.send(Back::Wake);
            }
            true
        });
        Ok(Running::launch(shared, self.outlets, &settings, lanes, order, back, settled))
    }

    fn compile(&self) -> Result<Machine, RunError> {
        let options = CompileOptions { vocabulary: Some(self.vocabulary.clone()), refuse: fsm::Class::Lint, ..CompileOptions::default() };
        fsm::compile(self.definition.clone(), &options).map_err(RunError::Definition)
    }

    fn initial_context(&self, machine: &Machine) -> Result<Context, RunError> {
        let mut context = machine.initial_context();
        for (key, value) in &self.context {
            let unknown = || setup(format!("the definition's context has no `{key}` that could be set"));
            context.set(machine.context_slot(key).ok_or_else(unknown)?, value);
        }
        Ok(context)
    }

    fn registry(&mut self, machine: &Machine) -> Registry<P> {
        let registered = "the check found every name";
        Registry {
            roles: machine.invocations().map(|id| self.roles.get(&machine.invocation(id).src).expect(registered).clone()).collect(),
            guards: machine.guard_names().map(|(_, name)| self.guards.get(name).expect(registered).clone()).collect(),
            actions: machine.action_names().map(|(_, name)| self.actions.get(name).expect(registered).clone()).collect(),
        }
    }
}

/// The states that earlier runs left chunks in.
fn recovered(machine: &Machine, carried: CarriedOver) -> Result<HashMap<ChunkId, Recovered>, RunError> {
    let recovered = |(chunk, left): (ChunkId, LeftOff)| {
        let LeftOff { state, not_before_micros, context } = left;
        let unknown = || setup(format!("chunk {chunk} was left in state `{state}`, which the definition does not have"));
        Ok((chunk, Recovered { left_in: machine.state(&state).ok_or_else(unknown)?, not_before_micros, context }))
    };
    carried.begun.into_iter().map(recovered).collect()
}

fn setup(message: impl Into<String>) -> RunError {
    RunError::Setup(Trouble::lasting(TroubleKind::Configuration, message))
}

#[cfg(feature = "async")]
struct StopOnDrop(Option<Handle>);

#[cfg(feature = "async")]
impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(Handle::stop_now);
    }
}
