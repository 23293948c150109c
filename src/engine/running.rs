//! A run under way: its threads, and its end.

use super::committer::{Committer, Outlet, Pending, ToCommitter};
use super::conductor::{Conductor, Progress};
use super::handle::{Handle, Remote};
use super::intake::Intake;
use super::lifecycle::{Cell, Notebook};
use super::orchestrator::Settings;
use super::order::Order;
use super::report::{Outcome, RunError, RunReport};
use super::resident::Guard;
use super::run_state::RunState;
use super::shared::{Back, Settled, Shared};
use super::worker::{Routes, Worker};
use crate::chunk::Payload;
use crate::journal::Ending;
use crate::source::Lane;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Receiver, bounded, unbounded};
use crate::trouble::{Trouble, TroubleKind};
use std::sync::Arc;
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
        order: Order<Arc<Cell<P>>>,
        back: Receiver<Back<P>>,
        settled: Receiver<Settled>,
    ) -> Running {
        let (work, queue) = unbounded();
        let (committer, inbox) = unbounded();
        let routes = Routes { work, committer };
        let guard = Guard::new(settings.memory_limit);
        let run = RunState::new();
        let remote = Remote { shared: shared.clone(), status: run.view(), resident: guard.resident(), memory_limit: settings.memory_limit };
        let handle = Handle::new(remote);
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
        let open_lanes = lanes.len();
        for (number, lane) in lanes.into_iter().enumerate() {
            let intake = Intake { shared: shared.clone(), routes: routes.clone(), book: Notebook::of(0) };
            let patience = settings.patience;
            spawn(format!("lane-{number}"), move || super::lane::run(lane, patience, intake));
        }
        let conductor = Conductor {
            shared,
            back,
            routes,
            queue,
            workers,
            ordered: settings.ordered,
            run,
            guard,
            open_lanes,
            state: Progress::default(),
            book: Notebook::of(0),
        };
        let control = handle.clone();
        let main = spawn("conductor".into(), move || conclude(conductor, committer, &control));
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
    thread::Builder::new().name(name).spawn(work).expect("the system gives another thread")
}

/// The run's main thread, to the report.
fn conclude<P: Payload>(mut conductor: Conductor<P>, committer: Committer<P>, handle: &Handle) -> Result<RunReport, RunError> {
    let shared = conductor.shared.clone();
    let began = shared.clock.now();
    let (committer_lives, committer_ended) = bounded::<()>(0);
    spawn("committer".into(), move || {
        committer.run();
        drop(committer_lives);
    });
    let finished = conductor.run();
    *shared.settled.lock() = None;
    dismiss(&conductor, &committer_ended);
    shared.subscribers.dismiss();
    let rows = shared.metrics.rows();
    let failure = conductor.state.failure.take();
    let status = conductor.run.name();
    let ending = Ending { status: status.clone(), complete: finished, error: failure.as_ref().map(Trouble::chain), rows };
    let ended = shared.journal.end(&ending);
    let outcome = match (&failure, finished) {
        (Some(_), _) => Outcome::Failed,
        (None, true) if rows.dead_lettered > 0 => Outcome::CompleteWithDeadLetters,
        (None, true) => Outcome::Complete,
        (None, false) if status == "cancelled" => Outcome::Cancelled,
        (None, false) => Outcome::Stopped,
    };
    let stopped_because = conductor.state.parked.reason().filter(|_| outcome == Outcome::Stopped);
    let seconds = shared.clock.now().since(began).as_secs_f64();
    let report = RunReport { outcome, stopped_because, rows, seconds, metrics: handle.metrics() };
    match failure.or(ended.err()) {
        Some(trouble) => Err(RunError::Failed { trouble, report: Box::new(report) }),
        None => Ok(report),
    }
}

/// Sends the run's threads home. One that is at something gets a moment if it is the committer, and ends by itself otherwise.
fn dismiss<P: Payload>(conductor: &Conductor<P>, committer_ended: &Receiver<()>) {
    if !conductor.has_finished() {
        conductor.shared.stop.now();
    }
    for _ in 0..conductor.workers {
        let _ = conductor.routes.work.send(None);
    }
    let _ = conductor.routes.committer.send(ToCommitter::End);
    let _ = committer_ended.recv_timeout(COMMITTER_GRACE);
}
