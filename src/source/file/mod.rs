//! Files and standard input as a source of rows.
//!
//! A plain file whose rows are lines is cut into ranges of bytes that any number of lanes read side by side; a row belongs to the range in
//! which it begins. Everything else (compressed files, rows that may hold line breaks, pipes) is read from its beginning to its end by one lane.

mod input;
mod lane;
mod plan;

pub use input::{Input, Packing};
pub use plan::{FilePlan, FileRange, Header, Reading};

use crate::batch::Batch;
use crate::budget::{Budget, MemoryBand};
use crate::chunk::{ChunkId, Payload};
use crate::clock::Clock;
use crate::format::PADDING;
use crate::memory::{Expansion, Pool};
use crate::source::{ChunkLimits, Lane, Read, Seen, Source, Stop};
use crate::trouble::Trouble;
use lane::FileLane;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Room that is left in a buffer beyond a chunk's size, so that the row that does not fit in is seen.
const HEADROOM: usize = 4096;

/// How rows of inputs are cut into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutting {
    /// By bytes and rows. The same limits give the same chunks.
    pub limits: ChunkLimits,
    /// Where an input pauses: a chunk that has rows is given on so long after its first one came. What cannot be read again is cut by this.
    pub max_age: Option<Duration>,
    /// A longer row is not taken.
    pub longest_row: usize,
}

impl Default for Cutting {
    fn default() -> Cutting {
        Cutting { limits: ChunkLimits::default(), max_age: Some(Duration::from_millis(100)), longest_row: 16 << 20 }
    }
}

/// Reads the inputs of a [`FilePlan`].
pub struct FileSource {
    plan: Arc<FilePlan>,
    cutting: Cutting,
    lanes: usize,
    pool: Pool,
    expansion: Arc<Expansion>,
    finished: HashSet<u32>,
    ended: Arc<HashMap<ChunkId, Seen>>,
}

impl FileSource {
    /// Reads what was planned on up to `lanes` threads.
    pub fn new(plan: Arc<FilePlan>, cutting: Cutting, lanes: usize) -> FileSource {
        let lanes = lanes.min(plan.ranges().len()).max(1);
        let pool = Pool::new(cutting.limits.bytes + PADDING + HEADROOM, lanes * 2 + 4);
        FileSource { plan, cutting, lanes, pool, expansion: Arc::default(), finished: HashSet::new(), ended: Arc::default() }
    }

    /// Leaves out what earlier runs have done: `finished` ranges are not read, and chunks in `ended`, which had so many rows and bytes
    /// and this digest ([`Payload::digest`] of what was read), are read and not given again.
    #[must_use]
    pub fn without(mut self, finished: impl IntoIterator<Item = u32>, ended: HashMap<ChunkId, Seen>) -> FileSource {
        self.finished = finished.into_iter().collect();
        self.ended = Arc::new(ended);
        self
    }

    /// What it reads.
    pub fn plan(&self) -> &Arc<FilePlan> {
        &self.plan
    }

    /// How it cuts.
    pub fn cutting(&self) -> Cutting {
        self.cutting
    }

    /// On how many threads it reads.
    pub fn lane_count(&self) -> usize {
        self.lanes
    }

    /// Reads the first chunk and gives its number of rows: a proof that reading can be begun. Not of what cannot be read again.
    ///
    /// # Errors
    /// When it cannot.
    pub fn sample(&self) -> Result<u64, Trouble> {
        if !self.plan.repeats() {
            return Ok(0);
        }
        let budget = Budget::new(MemoryBand::under(usize::MAX / 2), 16, Clock::real());
        let queue = Arc::new(Mutex::new(VecDeque::from([0])));
        match FileLane::new(self, &queue).read(&budget, &Stop::default())? {
            Read::Chunk(chunk) => Ok(chunk.payload.rows()),
            _ => Ok(0),
        }
    }

    #[cfg(feature = "pipeline")]
    pub(crate) fn expansion(&self) -> Arc<Expansion> {
        self.expansion.clone()
    }
}

impl Source<Batch> for FileSource {
    fn lanes(&mut self, budget: &Budget) -> Result<Vec<Box<dyn Lane<Batch>>>, Trouble> {
        // What was read beyond a chunk's end waits in the lane.
        budget.reserve(self.lanes * (self.cutting.limits.bytes + HEADROOM));
        let left = (0..self.plan.ranges().len()).filter(|range| !self.finished.contains(&self.plan.ranges()[*range].number));
        let queue = Arc::new(Mutex::new(left.collect::<VecDeque<_>>()));
        Ok((0..self.lanes).map(|_| Box::new(FileLane::new(self, &queue)) as Box<dyn Lane<Batch>>).collect())
    }
}
