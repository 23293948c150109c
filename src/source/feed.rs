//! Feeding chunks by hand.

use super::items::Tally;
use super::{Incoming, Lane, Read, Source, Stop};
use crate::budget::{Budget, Permit};
use crate::chunk::{ChunkId, Payload};
use crate::sync::{Mutex, Receiver, RecvTimeoutError, Sender, unbounded};
use crate::trouble::Trouble;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How often a lane that waits for food looks whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A source that is fed by hand: give the second half to the engine and push into the first, from any thread. Cannot be read again
/// after a crash.
///
/// ```
/// use sluicegate::{Delivery, Done, Orchestrator, Work, definitions, sink, source};
/// use std::time::Duration;
///
/// let (feeder, source) = source::feed::<String>();
/// let running = Orchestrator::new(definitions::direct())
///     .source(source)
///     .handler("transform", |work: &Work<String>| Ok(Done::with(work.payload.to_uppercase())))
///     .sink("sink", sink::each(|_: &Delivery<String>| Ok(())))
///     .start()?;
/// let id = feeder.push("a line of text".into())?;
/// let settled = running.next_settled(Duration::from_secs(10)).expect("it takes no time");
/// assert_eq!((settled.chunk, settled.state.as_str()), (id, "sunk"));
/// feeder.close();
/// assert_eq!(running.wait()?.rows.written, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn feed<P: Payload>() -> (Feeder<P>, impl Source<P>) {
    let (sender, receiver) = unbounded();
    let desk = Arc::new(Mutex::new(Desk { sender: Some(sender), budget: None, tally: Tally::new("push") }));
    let hands = Arc::new(Hands(desk.clone()));
    (Feeder { desk: desk.clone(), hands }, Feed { desk, receiver: Some(receiver) })
}

/// Pushes chunks into a run. Cloning gives a second hand on the same run; when the last one is dropped, no more chunks come, as after
/// [`Feeder::close`].
pub struct Feeder<P> {
    desk: Arc<Mutex<Desk<P>>>,
    hands: Arc<Hands<P>>,
}

impl<P> Clone for Feeder<P> {
    fn clone(&self) -> Self {
        Feeder { desk: self.desk.clone(), hands: self.hands.clone() }
    }
}

/// What all feeders of a run share, and nobody else: gone with the last of them.
struct Hands<P>(Arc<Mutex<Desk<P>>>);

impl<P> Drop for Hands<P> {
    fn drop(&mut self) {
        self.0.lock().sender = None;
    }
}

struct Desk<P> {
    sender: Option<Sender<Incoming<P>>>,
    budget: Option<Budget>,
    tally: Tally,
}

/// The chunk was not taken; here it is back.
#[derive(Debug)]
pub enum PushError<P> {
    /// No room at present: the memory limit is reached, the run is paused, or it has not started. Try again later.
    Full(P),
    /// The run takes no more chunks.
    Closed(P),
}

impl<P> fmt::Display for PushError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PushError::Full(_) => "there is no room for another chunk at present",
            PushError::Closed(_) => "the run takes no more chunks",
        })
    }
}

impl<P: fmt::Debug> std::error::Error for PushError<P> {}

impl<P> PushError<P> {
    /// The chunk that was not taken.
    pub fn into_payload(self) -> P {
        let (PushError::Full(payload) | PushError::Closed(payload)) = self;
        payload
    }
}

impl<P: Payload> Feeder<P> {
    /// Hands over a chunk without waiting; returns its id.
    ///
    /// # Errors
    /// Gives the chunk back when there is no room for it, or never will be.
    pub fn try_push(&self, payload: P) -> Result<ChunkId, PushError<P>> {
        let mut desk = self.desk.lock();
        let Desk { sender: Some(sender), budget, tally } = &mut *desk else { return Err(PushError::Closed(payload)) };
        let Some(permit) = budget.as_ref().and_then(|budget| budget.try_acquire(0, payload.resident_bytes())) else {
            return Err(PushError::Full(payload));
        };
        hand_over(sender, tally, payload, permit)
    }

    /// Hands over a chunk, and waits until there is room for it; returns its id. Not for a thread that others wait for: a paused run has
    /// no room until it is resumed.
    ///
    /// # Errors
    /// Gives the chunk back when the run has not started, or takes no more chunks.
    pub fn push(&self, payload: P) -> Result<ChunkId, PushError<P>> {
        let budget = match &*self.desk.lock() {
            Desk { sender: None, .. } => return Err(PushError::Closed(payload)),
            Desk { budget: None, .. } => return Err(PushError::Full(payload)),
            Desk { budget: Some(budget), .. } => budget.clone(),
        };
        let Ok(permit) = budget.acquire(0, payload.resident_bytes()) else { return Err(PushError::Closed(payload)) };
        match &mut *self.desk.lock() {
            Desk { sender: Some(sender), tally, .. } => hand_over(sender, tally, payload, permit),
            Desk { sender: None, .. } => Err(PushError::Closed(payload)),
        }
    }

    /// No more chunks come; the run ends when those that were pushed have.
    pub fn close(&self) {
        self.desk.lock().sender = None;
    }
}

fn hand_over<P: Payload>(sender: &Sender<Incoming<P>>, tally: &mut Tally, payload: P, permit: Permit) -> Result<ChunkId, PushError<P>> {
    let (id, origin) = tally.count(payload.rows());
    let sent = sender.send(Incoming { id, part: 0, origin, payload, permit });
    sent.map(|()| id).map_err(|refused| PushError::Closed(refused.into_inner().payload))
}

struct Feed<P> {
    desk: Arc<Mutex<Desk<P>>>,
    receiver: Option<Receiver<Incoming<P>>>,
}

impl<P: Payload> Source<P> for Feed<P> {
    fn lanes(&mut self, budget: &Budget) -> Result<Vec<Box<dyn Lane<P>>>, Trouble> {
        budget.enter(0);
        self.desk.lock().budget = Some(budget.clone());
        let lane = |receiver| Box::new(FeedLane { desk: self.desk.clone(), receiver, ended: false }) as _;
        Ok(self.receiver.take().map(lane).into_iter().collect())
    }
}

struct FeedLane<P> {
    desk: Arc<Mutex<Desk<P>>>,
    receiver: Receiver<Incoming<P>>,
    ended: bool,
}

impl<P: Payload> Lane<P> for FeedLane<P> {
    fn read(&mut self, budget: &Budget, stop: &Stop) -> Result<Read<P>, Trouble> {
        while !self.ended {
            match self.receiver.recv_timeout(LOOK_EVERY) {
                Ok(incoming) => return Ok(Read::Chunk(incoming)),
                // What was pushed was taken on: closing the desk first makes sure that nothing is left behind.
                Err(RecvTimeoutError::Timeout) if stop.is_draining() => self.desk.lock().sender = None,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended = true;
                    budget.leave(0);
                    return Ok(Read::RangeDone(self.desk.lock().tally.done()));
                }
            }
        }
        Ok(Read::End)
    }
}
