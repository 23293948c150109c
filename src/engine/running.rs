//! A run under way: its threads, and its end.

use super::committer::{Committer, Outlet, Pending, ToCommitter};
use super::handle::{Handle, Remote};
use super::intake::{Intake, Progress, Settled};
use super::lifecycle::Notebook;
use super::orchestrator::Settings;
use super::order::Order;
use super::patience::Patience;
use super::report::{Outcome, RunError, RunReport, unequal};
use super::resident::Guard;
use super::run_state::RunState;
use super::shared::{Back, Shared};
use super::worker::{Routes, Worker};
use crate::chunk::Payload;
use crate::journal::Ending;
use crate::source::{Lane, Read};
use crate::trouble::{Trouble, TroubleKind};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the end of a run waits for a committer that is still at something.
const COMMITTER_GRACE: Duration = Duration::from_secs(5);

/// A run under way.
pub struct Running {
    handle: Handle,
    settled: Receiver<Settled>,
    main: JoinHandle<Result<RunReport, RunError>>,
}

impl Running {
    pub(super) fn launch<P: Payload>(
        shared: Arc<Shared<P>>,
        outlets: Vec<Outlet<P>>,
        settings: &Settings,
        lanes: Vec<Box<dyn Lane<P>>>,
        part_starts: &[u32],
        back: Receiver<Back<P>>,
    ) -> Running {
        let (work, queue) = unbounded();
        let (committer, inbox) = unbounded();
        let (settled_sender, settled) = unbounded();
        let routes = Routes { work, committer };
        let guard = Guard::new(settings.memory_limit);
        let run = RunState::new();
        let remote = Remote { shared: shared.clone(), status: run.view(), resident: guard.resident(), memory_limit: settings.memory_limit };
        let handle = Handle::new(remote);
        let mut order = Order::new(settings.ordered);
        for (part, first_range) in (0..).zip(part_starts) {
            order.begin(part, *first_range);
        }
        let committer = Committer {
            shared: shared.clone(),
            outlets,
            inbox,
            routes: routes.clone(),
            group_limits: settings.group,
            patience: settings.patience,
            order,
            pending: Pending::default(),
            book: Notebook::of(0),
        };
        let workers = u32::try_from(settings.workers).unwrap_or(u32::MAX);
        for number in 1..=workers {
            let worker = Worker { number, queue: queue.clone(), routes: routes.clone(), shared: shared.clone() };
            spawn(format!("worker-{number}"), move || worker.run());
        }
        let (sender, incoming) = bounded(lanes.len().max(1));
        let open_lanes = lanes.len();
        for (number, lane) in lanes.into_iter().enumerate() {
            spawn_lane(number, lane, shared.clone(), settings.patience, sender.clone());
        }
        let intake = Intake {
            shared,
            lanes: incoming,
            back,
            routes,
            queue,
            workers,
            run,
            guard,
            open_lanes,
            in_flight: HashMap::new(),
            ranges: BTreeMap::new(),
            settled: Some(settled_sender),
            state: Progress::default(),
            book: Notebook::of(0),
        };
        let control = handle.clone();
        let main = spawn("intake".into(), move || conclude(intake, committer, &control));
        Running { handle, settled, main }
    }

    /// A hand on the run.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The next chunk that has come to its end, in the order they did; waits up to `timeout`. `None` when none did, or none ever will.
    pub fn next_settled(&self, timeout: Duration) -> Option<Settled> {
        self.settled.recv_timeout(timeout).ok()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// [`RunError::Failed`] when the run did not come to a good end; stopped or cancelled is a good end.
    pub fn wait(self) -> Result<RunReport, RunError> {
        drop(self.settled);
        self.main.join().unwrap_or_else(|_| Err(RunError::Setup(Trouble::lasting(TroubleKind::Internal, "the run's main loop panicked"))))
    }
}

fn spawn<T: Send + 'static>(name: String, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::Builder::new().name(name).spawn(work).expect("the system gives another thread")
}

fn spawn_lane<P: Payload>(number: usize, lane: Box<dyn Lane<P>>, shared: Arc<Shared<P>>, patience: Patience, intake: Sender<Read<P>>) {
    spawn(format!("lane-{number}"), move || super::lane::run(lane, &shared, patience, &intake));
}

/// The run's main thread, to the report.
fn conclude<P: Payload>(mut intake: Intake<P>, committer: Committer<P>, handle: &Handle) -> Result<RunReport, RunError> {
    let shared = intake.shared.clone();
    let began = shared.clock.now();
    let (committer_lives, committer_ended) = bounded::<()>(0);
    spawn("committer".into(), move || {
        committer.run();
        drop(committer_lives);
    });
    let finished = intake.run();
    dismiss(&intake, &committer_ended);
    let rows = shared.metrics.rows();
    let failure = intake.state.failure.take().or_else(|| (finished && !rows.is_equal()).then(|| unequal(rows)));
    let status = intake.run.name();
    let ending = Ending { status: status.clone(), complete: finished, error: failure.as_ref().map(Trouble::chain), rows };
    let ended = shared.journal.end(&ending);
    let outcome = match (&failure, finished) {
        (Some(_), _) => Outcome::Failed,
        (None, true) if rows.dead_lettered > 0 => Outcome::CompleteWithDeadLetters,
        (None, true) => Outcome::Complete,
        (None, false) if status == "cancelled" => Outcome::Cancelled,
        (None, false) => Outcome::Stopped,
    };
    let report = RunReport { outcome, rows, seconds: shared.clock.now().since(began).as_secs_f64(), metrics: handle.metrics() };
    match failure.or(ended.err()) {
        Some(trouble) => Err(RunError::Failed { trouble, report: Box::new(report) }),
        None => Ok(report),
    }
}

/// Sends the run's threads home. One that is at something gets a moment if it is the committer, and ends by itself otherwise.
fn dismiss<P: Payload>(intake: &Intake<P>, committer_ended: &Receiver<()>) {
    if !intake.has_finished() {
        intake.shared.stop.now();
    }
    for _ in 0..intake.workers {
        let _ = intake.routes.work.send(None);
    }
    let _ = intake.routes.committer.send(ToCommitter::End);
    let _ = committer_ended.recv_timeout(COMMITTER_GRACE);
}
