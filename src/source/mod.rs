//! Where chunks come from.

mod feed;
#[cfg(all(feature = "pipeline", unix))]
pub mod file;
mod items;
#[cfg(feature = "postgres")]
pub mod postgres;

pub use feed::{Feeder, PushError, feed};
pub use items::{Items, items};

use crate::budget::{Budget, Permit};
use crate::chunk::ChunkId;
use crate::trouble::Trouble;
use std::sync::Arc;

/// Where chunks come from: one or more lanes that read side by side, each on its own thread.
pub trait Source<P>: Send {
    /// The lanes. Called once, when the run starts, with the budget that they will read under.
    ///
    /// # Errors
    /// When nothing can be read at all.
    fn lanes(&mut self, budget: &Budget) -> Result<Vec<Box<dyn Lane<P>>>, Trouble>;

    /// The first range of each output, where there are several; known once the lanes are.
    fn part_starts(&self) -> Vec<u32> {
        vec![0]
    }
}

/// One reader. *Not asking* is the backpressure: [`Lane::read`] takes its permit from the budget before it reads, and waits there.
pub trait Lane<P>: Send {
    /// Reads the next chunk, or says that a range or the lane is at its end. Blocks until there is something to say.
    ///
    /// Chunks of one range come in order, from index 0, and its [`Read::RangeDone`] behind them; ranges are told to the budget by
    /// [`Budget::enter`] and [`Budget::leave`]. A lane that has to stop (see `stop`) answers [`Read::Stopped`], which need not be
    /// at a range's end.
    ///
    /// # Errors
    /// After a passing trouble the engine pauses the run, waits and calls again: the lane goes on where it was, and gives no
    /// chunk twice. After a lasting one the run ends.
    fn read(&mut self, budget: &Budget, stop: &Stop) -> Result<Read<P>, Trouble>;
}

/// What a lane has to say.
pub enum Read<P> {
    /// A chunk.
    Chunk(Incoming<P>),
    /// The range has no more chunks.
    RangeDone(RangeDone),
    /// The lane has no more ranges.
    End,
    /// The lane was asked to stop, and has.
    Stopped,
}

/// A chunk as its lane hands it over.
pub struct Incoming<P> {
    /// Which chunk.
    pub id: ChunkId,
    /// Which output it belongs to, where there are several (a file for each lane); 0 otherwise.
    pub part: u32,
    /// Where it came from, enough to read it again.
    pub origin: Arc<str>,
    /// Its rows.
    pub payload: P,
    /// The right to its bytes, taken before it was read.
    pub permit: Permit,
}

/// A range was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeDone {
    /// Which range.
    pub range: u32,
    /// Which output it belongs to.
    pub part: u32,
    /// How many chunks it had.
    pub chunks: u32,
    /// How many rows the *origin* says it had: the left side of the run's sum.
    pub rows: u64,
    /// Where it came from, enough to read it again.
    pub origin: Arc<str>,
}

/// How rows are cut into chunks. Journaled: the same limits give the same chunks. By default 256 KiB and any number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ChunkLimits {
    /// A chunk ends before the row that would make it larger than this, as it comes.
    pub bytes: usize,
    /// And before the row behind this many.
    pub rows: u64,
}

impl Default for ChunkLimits {
    fn default() -> ChunkLimits {
        ChunkLimits { bytes: 256 << 10, rows: u64::MAX }
    }
}

/// What an earlier run has seen of a chunk: its rows, its bytes and their digest.
pub type Seen = (u64, usize, Option<u64>);

pub use crate::trouble::Stop;
