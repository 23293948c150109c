//! Handlers: the code behind an invocation of the machine.

#[cfg(feature = "pipeline")]
pub mod rows;

use crate::chunk::ChunkId;
use crate::sync::atomic::{AtomicBool, Ordering};
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;

/// Work on one chunk: what a state's `invoke.src` names.
///
/// A closure is one. It says what it takes, which is how the payload's type gets known:
///
/// ```
/// use sluicegate::{Done, HandlerError, Work};
///
/// let keep_positive = |work: &Work<Vec<i64>>| -> Result<Done<Vec<i64>>, HandlerError> {
///     let kept: Vec<i64> = work.payload.iter().copied().filter(|number| *number > 0).collect();
///     let dropped = work.payload.len() - kept.len();
///     Ok(Done::with(kept).filtering(dropped as u64))
/// };
/// ```
///
/// Rows are added up, so those that a handler takes out must be told: as [filtered](Done::filtering) or
/// [rejected](Done::rejecting). A handler that loses rows silently has failed, which is an error of that chunk.
///
/// Who only knows that *some* row of the chunk is at fault says so with [`HandlerError::of_some_row`]: the engine then halves the chunk until
/// the bad rows are alone, if the run [splits chunks](crate::Orchestrator::split_chunks).
///
/// Runs on any worker, several at a time on different chunks. A panic is an error of that chunk. A handler that outlives its
/// state's timeout is abandoned: its result is thrown away, its [`CancelToken`] says so, and its thread is lost to the run until
/// it returns.
pub trait Handler<P>: Send + Sync {
    /// Does the work.
    ///
    /// # Errors
    /// What is wrong with *this chunk*: the machine gets it as the invocation's error event.
    fn run(&self, work: &Work<P>) -> Result<Done<P>, HandlerError>;
}

impl<P, F> Handler<P> for F
where
    F: Fn(&Work<P>) -> Result<Done<P>, HandlerError> + Send + Sync,
{
    fn run(&self, work: &Work<P>) -> Result<Done<P>, HandlerError> {
        self(work)
    }
}

/// An invocation without payload that runs beside a handler: a lease to renew, a limit to watch. Each has a thread of its own.
pub trait Watcher: Send + Sync {
    /// Watches until there is something to say or `cancel` says that the chunk has moved on.
    ///
    /// # Errors
    /// The machine gets it as the invocation's error event.
    fn watch(&self, cancel: &CancelToken) -> Result<(), HandlerError>;
}

impl<F: Fn(&CancelToken) -> Result<(), HandlerError> + Send + Sync> Watcher for F {
    fn watch(&self, cancel: &CancelToken) -> Result<(), HandlerError> {
        self(cancel)
    }
}

/// What a handler gets to see.
pub struct Work<P> {
    /// Which chunk.
    pub id: ChunkId,
    /// Where it came from, in its source's words.
    pub origin: Arc<str>,
    /// How often this invocation has been started for this chunk, this time included.
    pub attempt: u32,
    /// The chunk's rows. Shared and immutable: a retry starts from the same.
    pub payload: Arc<P>,
    /// Says when the result is no longer wanted.
    pub cancel: CancelToken,
    /// The `input` that the definition gives this invocation.
    pub input: Option<Value>,
}

/// What a handler has done.
pub struct Done<P> {
    /// The chunk's new payload; `None` when it stays as it is.
    pub payload: Option<P>,
    /// Rows that are not in the payload any more because something is wrong with them. They go to the dead letter.
    pub rejected: Vec<Rejected>,
    /// Rows that are not in the payload any more because they are not wanted.
    pub filtered: u64,
    /// What guards may look at as `event.output`.
    pub output: Option<Value>,
}

impl<P> Done<P> {
    /// The chunk is fine as it is.
    pub fn same() -> Done<P> {
        Done { payload: None, rejected: Vec::new(), filtered: 0, output: None }
    }

    /// The chunk goes on as `payload`.
    pub fn with(payload: P) -> Done<P> {
        Done { payload: Some(payload), ..Done::same() }
    }

    /// And these rows were taken out of it, each for its reason.
    #[must_use]
    pub fn rejecting(mut self, rejected: Vec<Rejected>) -> Done<P> {
        self.rejected = rejected;
        self
    }

    /// And this many rows were taken out of it because they are not wanted.
    #[must_use]
    pub fn filtering(mut self, rows: u64) -> Done<P> {
        self.filtered = rows;
        self
    }
}

/// A row that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in the chunk as it was read, from 0; of a chunk that was split, in the half that the handler was given.
    pub row: u64,
    /// Why, for a person.
    pub reason: String,
    /// The row as it came.
    pub raw: Box<[u8]>,
}

/// What is wrong with a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerError {
    /// A word that guards can look at as `event.error.kind`.
    pub kind: String,
    /// What, where and what to do, for a person.
    pub message: String,
    /// Whether some row of the chunk is at fault, and it is not known which. Guards can look at it as `event.error.someRow`.
    pub some_row: bool,
}

impl Rejected {
    /// A row, by its place in the chunk as it was read (from 0), that cannot go on for this reason.
    pub fn new(row: u64, reason: impl Into<String>, raw: impl Into<Vec<u8>>) -> Rejected {
        Rejected { row, reason: reason.into(), raw: raw.into().into() }
    }
}

impl HandlerError {
    /// The kind of an error that came as a panic.
    pub const PANIC: &'static str = "panic";
    /// The kind of an error of a handler that was left behind.
    pub const TIMEOUT: &'static str = "timeout";

    /// An error of this kind.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> HandlerError {
        HandlerError { kind: kind.into(), message: message.into(), some_row: false }
    }

    /// And some row of the chunk is at fault, but it is not known which: the others would do.
    ///
    /// A run that [splits chunks](crate::Orchestrator::split_chunks) halves the chunk at once, before the machine hears of the error, and
    /// lets each half start anew; so only the rows that are really bad get to the machine's error event, each alone in its chunk. Where the
    /// chunk cannot be halved, the machine gets the event as for any other error.
    #[must_use]
    pub fn of_some_row(mut self) -> HandlerError {
        self.some_row = true;
        self
    }

    /// The error as the machine's guards see it.
    pub(crate) fn to_event(&self) -> Value {
        json!({ "kind": self.kind, "message": self.message, "someRow": self.some_row })
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for HandlerError {}

/// Says whether somebody still waits for the result.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Whether the result is no longer wanted. A long handler looks now and then and returns.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The result is no longer wanted.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_same(&self, other: &CancelToken) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
