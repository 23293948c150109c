//! The journal: a durable log of every transition.
//!
//! The engine writes through the trait [`Journal`]; `sqlite` (feature `journal`) is the file that users can query, [`Nowhere`] is none at all.

#[cfg(feature = "journal")]
pub mod sqlite;

use crate::chunk::ChunkId;
use crate::fsm::{EventId, Machine, StateId};
use crate::sink::Position;
use crate::source::RangeDone;
use crate::trouble::Trouble;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// Where transitions are written down.
pub trait Journal: Send + Sync {
    /// A run begins. Called once, before anything else.
    ///
    /// # Errors
    /// When the journal cannot be written.
    fn begin(&self, machine: &Arc<Machine>) -> Result<(), Trouble>;

    /// Takes these entries out of `entries`; they are readable by others soon (100 ms), and durable with the next checkpoint. Blocks
    /// only when the writer is far behind.
    fn record(&self, entries: &mut Vec<Entry>);

    /// Makes these entries and everything recorded before them durable, together with how far the outputs have come. Blocks until it
    /// is done.
    ///
    /// # Errors
    /// After a passing trouble it is called again with the same: `entries` are left as they were then.
    fn checkpoint(&self, entries: &mut Vec<Entry>, positions: &[Position]) -> Result<(), Trouble>;

    /// The run is about to give its outputs their final names.
    ///
    /// # Errors
    /// As [`Journal::checkpoint`].
    fn intend_finish(&self) -> Result<(), Trouble>;

    /// The run has ended. `complete` says that the outputs have their final names. Of a run that was stopped where it was, a thread that
    /// was still at something may [record](Journal::record) it after this: that is lost, as if the process had been killed instead.
    ///
    /// # Errors
    /// As [`Journal::checkpoint`].
    fn end(&self, ending: &Ending) -> Result<(), Trouble>;
}

/// The event by which a chunk that an earlier run has left is read again and starts anew.
pub const RECOVERED: &str = "sluicegate.recovered";

/// The event that ends the walk of a chunk whose range is given up, to be read again as a whole. No machine knows it.
pub const DISCARDED: &str = "sluicegate.discarded";

/// The event by which a chunk ends of which some row is at fault, and goes on as two halves.
pub const SPLIT: &str = "sluicegate.split";

/// The state in which it ends: the engine's own, and not the definition's.
pub const SPLIT_STATE: &str = "split";

/// How a run ended, for its journal.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The final state of the run's own lifecycle.
    pub status: String,
    /// Whether the outputs have their final names.
    pub complete: bool,
    /// The error it ended with.
    pub error: Option<String>,
    /// The run's sum.
    pub rows: RowSum,
}

/// Every row that was read ends in one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RowSum {
    /// As the origin counts them, for the ranges that were read to their end. Of a run that was stopped in the middle of one,
    /// [`MetricsSnapshot::rows_admitted`](crate::engine::MetricsSnapshot::rows_admitted) says how many came in.
    pub read: u64,
    /// Counted at the sink.
    pub written: u64,
    /// Taken out by a handler because they are not wanted.
    pub filtered: u64,
    /// Set aside with their reason.
    pub dead_lettered: u64,
    /// In chunks that were cancelled.
    pub cancelled: u64,
}

impl fmt::Display for RowSum {
    /// As a sum: `100 read = 90 written + 0 filtered + 10 dead-lettered + 0 cancelled`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RowSum { read, written, filtered, dead_lettered, cancelled } = self;
        let sign = if self.is_equal() { "=" } else { "≠" };
        write!(f, "{read} read {sign} {written} written + {filtered} filtered + {dead_lettered} dead-lettered + {cancelled} cancelled")
    }
}

impl RowSum {
    /// Whether every row is accounted for.
    pub fn is_equal(&self) -> bool {
        self.read == self.written + self.filtered + self.dead_lettered + self.cancelled
    }
}

/// What earlier runs of the same target have done: what a run that goes on from there need not do again.
#[derive(Clone, Debug, Default)]
pub struct CarriedOver {
    /// The rows of ranges that are finished (`read`), and where the rows of all chunks ended that have come to their end.
    pub rows: RowSum,
    /// Finished ranges, with the output they belong to.
    pub ranges: Vec<(u32, u32)>,
    /// Chunks that have come to their end in ranges that are not finished, with the output they belong to. Of a chunk that was split: its
    /// parts, as far as they have.
    pub ended: Vec<(u32, ChunkId)>,
    /// Chunks, and parts of chunks, that were split in ranges that are not finished. They are split alike again.
    pub split: HashMap<ChunkId, AsRead>,
    /// Chunks that were begun and have to be read again.
    pub begun: HashMap<ChunkId, LeftOff>,
}

impl CarriedOver {
    /// Chunks, as they are read, of which nothing is left to be done: a source leaves them out.
    pub fn need_not_be_read(&self) -> HashSet<ChunkId> {
        let ended: HashSet<ChunkId> = self.ended.iter().map(|(_, chunk)| *chunk).collect();
        let is_done = |chunk: &ChunkId| !self.split.contains_key(chunk) || self.has_ended(*chunk, &ended);
        ended.iter().map(|chunk| chunk.whole()).filter(is_done).collect()
    }

    /// Whether all parts of a chunk have.
    fn has_ended(&self, chunk: ChunkId, ended: &HashSet<ChunkId>) -> bool {
        let halves = if self.split.contains_key(&chunk) { chunk.halves() } else { None };
        halves.map_or_else(|| ended.contains(&chunk), |halves| halves.iter().all(|half| self.has_ended(*half, ended)))
    }
}

/// What a chunk was when an earlier run read it. It must be the same now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsRead {
    /// The output it belongs to.
    pub part: u32,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Their digest, if there is one.
    pub digest: Option<u64>,
}

/// How an earlier run left a chunk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeftOff {
    /// The state it was in.
    pub state: String,
    /// If it was waiting for a timer: when that would have been due, in microseconds since the Unix epoch. It is not worked on before.
    pub not_before_micros: Option<u64>,
    /// If it was waiting: the context of its machine, so that attempts are counted on.
    pub context: Map<String, Value>,
}

/// One line of the journal.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A chunk, or a half of one, was read and starts its life.
    Admitted(Admitted),
    /// A chunk went from one state to another.
    Transition(Transition),
    /// A chunk has ended in favour of its halves, which are admitted behind this, in the same call of [`Journal::record`]: a journal keeps both or
    /// nothing of that.
    Split(Split),
    /// A chunk waits for a timer, and nobody works on it.
    Waiting(Waiting),
    /// A chunk is in a final state.
    Settled(Settled),
    /// A range was read to its end.
    RangeDone(RangeDone),
    /// The run itself went from one state to another.
    Run(RunTransition),
}

/// See [`Entry::Admitted`].
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Which chunk.
    pub chunk: ChunkId,
    /// Which output it belongs to.
    pub part: u32,
    /// Where it came from.
    pub origin: Arc<str>,
    /// How many rows it has.
    pub rows: u64,
    /// How many bytes it had when it was read.
    pub bytes: u64,
    /// Their digest.
    pub digest: Option<u64>,
}

/// See [`Entry::Transition`].
#[derive(Clone, Debug)]
pub struct Transition {
    /// Which chunk.
    pub chunk: ChunkId,
    /// Its how many-th transition, from 0.
    pub seq: u32,
    /// Microseconds since the Unix epoch.
    pub at_micros: u64,
    /// What happened.
    pub event: EventId,
    /// The event's name where `event` is a class of names.
    pub event_name: Option<Box<str>>,
    /// The state before.
    pub from: Option<StateId>,
    /// The state after.
    pub to: StateId,
    /// Its place in the macrostep, from 0: more than 0 for what followed at once.
    pub microstep: u32,
    /// How often the chunk's latest invocation had been started.
    pub attempt: u32,
    /// Which worker (from 1); 0 is the committer or a timer.
    pub worker: u32,
    /// Microseconds spent in the state before.
    pub in_state_micros: u64,
    /// The error that caused it.
    pub error: Option<Box<str>>,
}

/// See [`Entry::Split`].
#[derive(Clone, Debug)]
pub struct Split {
    /// Which chunk.
    pub chunk: ChunkId,
    /// Its how many-th transition this is, from 0; the last.
    pub seq: u32,
    /// Microseconds since the Unix epoch.
    pub at_micros: u64,
    /// The state before.
    pub from: StateId,
    /// How often the chunk's latest invocation had been started.
    pub attempt: u32,
    /// Which worker (from 1); 0 is the committer.
    pub worker: u32,
    /// Microseconds spent in the state before.
    pub in_state_micros: u64,
    /// The error that caused it.
    pub error: Box<str>,
}

/// See [`Entry::Waiting`].
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Which chunk.
    pub chunk: ChunkId,
    /// When its first timer is due, in microseconds since the Unix epoch.
    pub until_micros: u64,
    /// The context of its machine, as JSON text.
    pub context: Box<str>,
}

/// See [`Entry::Settled`].
#[derive(Clone, Debug)]
pub struct Settled {
    /// Which chunk.
    pub chunk: ChunkId,
    /// Its final state.
    pub state: StateId,
    /// How often its latest invocation had been started.
    pub attempt: u32,
    /// Where its rows went.
    pub rows: ChunkRows,
    /// What the sink took of it.
    pub placed: Placed,
}

/// What a sink took of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// Where it begins in its output, in bytes.
    pub at: Option<u64>,
    /// How many bytes.
    pub bytes: u64,
    /// Their digest.
    pub digest: Option<u64>,
}

/// Where a chunk's rows went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ChunkRows {
    /// To the sink.
    pub written: u64,
    /// Nowhere: they were not wanted.
    pub filtered: u64,
    /// To the dead letter.
    pub dead_lettered: u64,
    /// Nowhere: the chunk was cancelled.
    pub cancelled: u64,
}

/// See [`Entry::Run`].
#[derive(Clone, Debug)]
pub struct RunTransition {
    /// Microseconds since the Unix epoch.
    pub at_micros: u64,
    /// What happened.
    pub event: &'static str,
    /// The state before.
    pub from: Box<str>,
    /// The state after.
    pub to: Box<str>,
    /// Why, for a person.
    pub reason: Option<Box<str>>,
}

/// A journal that somebody else holds as well.
impl<J: Journal + ?Sized> Journal for Arc<J> {
    fn begin(&self, machine: &Arc<Machine>) -> Result<(), Trouble> {
        (**self).begin(machine)
    }

    fn record(&self, entries: &mut Vec<Entry>) {
        (**self).record(entries);
    }

    fn checkpoint(&self, entries: &mut Vec<Entry>, positions: &[Position]) -> Result<(), Trouble> {
        (**self).checkpoint(entries, positions)
    }

    fn intend_finish(&self) -> Result<(), Trouble> {
        (**self).intend_finish()
    }

    fn end(&self, ending: &Ending) -> Result<(), Trouble> {
        (**self).end(ending)
    }
}

/// A journal that writes nothing down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Journal for Nowhere {
    fn begin(&self, _: &Arc<Machine>) -> Result<(), Trouble> {
        Ok(())
    }

    fn record(&self, entries: &mut Vec<Entry>) {
        entries.clear();
    }

    fn checkpoint(&self, entries: &mut Vec<Entry>, _: &[Position]) -> Result<(), Trouble> {
        entries.clear();
        Ok(())
    }

    fn intend_finish(&self) -> Result<(), Trouble> {
        Ok(())
    }

    fn end(&self, _: &Ending) -> Result<(), Trouble> {
        Ok(())
    }
}
