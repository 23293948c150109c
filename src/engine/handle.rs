//! The outside's hand on a run.

use super::metrics::MetricsSnapshot;
use super::resident::Resident;
use super::run_state::RunStatus;
use super::shared::{Back, Command, Shared, TransitionEvent};
use crate::chunk::{ChunkId, Payload};
use crate::sync::{Receiver, RwLock, bounded};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Controls and observes a run, from any thread. Cloning gives a second hand on the same run. What is asked of a run that has ended
/// has no effect.
pub struct Handle {
    inner: Arc<dyn Control>,
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Handle { inner: self.inner.clone() }
    }
}

/// Keeps the payload's type out of the handle's.
trait Control: Send + Sync {
    fn command(&self, command: Command);
    fn status(&self) -> RunStatus;
    fn metrics(&self) -> MetricsSnapshot;
    fn subscribe(&self, room: usize) -> Receiver<TransitionEvent>;
}

pub(super) struct Remote<P> {
    pub shared: Arc<Shared<P>>,
    pub status: Arc<RwLock<RunStatus>>,
    pub resident: Arc<Resident>,
    pub memory_limit: usize,
}

impl<P> Clone for Remote<P> {
    fn clone(&self) -> Self {
        Remote {
            shared: self.shared.clone(),
            status: self.status.clone(),
            resident: self.resident.clone(),
            memory_limit: self.memory_limit,
        }
    }
}

impl<P: Payload> Control for Remote<P> {
    fn command(&self, command: Command) {
        let _ = self.shared.back.send(Back::Command(command));
    }

    fn status(&self) -> RunStatus {
        self.status.read().clone()
    }

    fn metrics(&self) -> MetricsSnapshot {
        let budget = &self.shared.budget;
        self.shared.metrics.snapshot(&budget.status(), self.memory_limit, &self.resident, budget.held())
    }

    fn subscribe(&self, room: usize) -> Receiver<TransitionEvent> {
        let (sender, receiver) = bounded(room.max(1));
        self.shared.subscribers.add(sender);
        receiver
    }
}

impl Handle {
    pub(super) fn new<P: Payload>(remote: Remote<P>) -> Handle {
        Handle { inner: Arc::new(remote) }
    }

    /// Reads nothing more until [`Handle::resume`]. What is in flight goes on.
    pub fn pause(&self) {
        self.inner.command(Command::Pause);
    }

    /// Reads on.
    pub fn resume(&self) {
        self.inner.command(Command::Resume);
    }

    /// Reads nothing more and finishes what is in flight; the run ends resumable. What the first SIGINT does.
    pub fn stop(&self) {
        self.inner.command(Command::Drain);
    }

    /// Stops where things are; the run is still resumable. What the second SIGINT does.
    pub fn stop_now(&self) {
        self.inner.command(Command::StopNow);
    }

    /// Sends `CANCEL` to every chunk and reads nothing more. Their rows are counted as cancelled.
    pub fn cancel_run(&self) {
        self.inner.command(Command::CancelRun);
    }

    /// Sends `CANCEL` to one chunk; to all parts of one that was split.
    pub fn cancel_chunk(&self, chunk: ChunkId) {
        self.send(chunk, "CANCEL", Map::new());
    }

    /// Sends an event of the definition to one chunk; to all parts of one that was split. A chunk that is not in flight, or does not know the event in its state, ignores it.
    /// While a sink is at the chunk, the event waits for the outcome.
    pub fn send(&self, chunk: ChunkId, event: impl Into<String>, payload: Map<String, Value>) {
        self.inner.command(Command::Send { chunk, event: event.into(), payload });
    }

    /// The run's own state.
    pub fn status(&self) -> RunStatus {
        self.inner.status()
    }

    /// Everything that is counted.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.inner.metrics()
    }

    /// Transitions as they happen. Up to `room` wait for a slow reader; what is missed then is counted in the next one.
    /// The channel ends with the run, also for who holds a handle still.
    pub fn subscribe(&self, room: usize) -> Receiver<TransitionEvent> {
        self.inner.subscribe(room)
    }
}
