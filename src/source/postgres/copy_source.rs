//! An export as a source: how many lanes read it, and how its rows are cut into chunks.

use super::connect::Connector;
use super::export::Export;
use super::lane::CopyLane;
use super::session::Session;
use super::transcode::Transcoder;
use super::view::View;
use crate::batch::Batch;
use crate::budget::{Budget, MemoryBand};
use crate::chunk::{ChunkId, Payload};
use crate::clock::Clock;
use crate::format::copy_text::PADDING;
use crate::memory::{Expansion, Pool};
use crate::source::{ChunkLimits, Lane, Read, Seen, Source, Stop};
use crate::trouble::Trouble;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// The end of a range and the beginning of the next lie in one buffer; this much room is always left for what a server says between.
pub(super) const HEADROOM: usize = 4096;

/// A sample ends with the chunk that makes it larger than this, as the server sends it: most ranges are smaller.
const SAMPLED_BYTES: usize = 4 << 20;

/// What a look into one range found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Ranges that the export has.
    ranges: usize,
    /// Chunks that were read.
    pub chunks: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes that they become at the sink.
    pub output_bytes: u64,
    /// Whether that was all of the range.
    is_whole: bool,
}

impl Sample {
    /// Rows that the whole export may have, if its ranges are alike; none if the range was not read to its end.
    pub fn all_rows(&self) -> Option<u64> {
        self.is_whole.then(|| self.rows * self.ranges as u64)
    }

    /// Bytes that so many rows may become.
    pub fn bytes_of(&self, rows: u64) -> Option<u64> {
        if self.rows == 0 {
            return (rows == 0).then_some(0);
        }
        u64::try_from(u128::from(rows) * u128::from(self.output_bytes) / u128::from(self.rows)).ok()
    }
}

/// Reads an [`Export`] on several connections.
pub struct CopySource {
    pub(super) connector: Connector,
    pub(super) view: Arc<View>,
    pub(super) export: Arc<Export>,
    limits: ChunkLimits,
    connections: usize,
    pub(super) pool: Pool,
    pub(super) expansion: Arc<Expansion>,
    finished: HashSet<u32>,
    pub(super) ended: Arc<HashMap<ChunkId, Seen>>,
}

impl CopySource {
    /// Reads `export` on up to `connections` connections under the session's snapshot, which must live as long as the run does. By key, and
    /// where the server stands still, neither is needed.
    pub fn new(session: &Session, export: Arc<Export>, limits: ChunkLimits, connections: usize) -> CopySource {
        let connector = session.connector().clone();
        let connections = connections.min(export.ranges.len()).max(1);
        let view = Arc::new(session.view(&export));
        let pool = Pool::new(limits.bytes + PADDING + HEADROOM, connections * 2 + 4);
        CopySource {
            connector,
            view,
            export,
            limits,
            connections,
            pool,
            expansion: Arc::default(),
            finished: HashSet::new(),
            ended: Arc::default(),
        }
    }

    /// Leaves out what earlier runs have done: `finished` ranges are not read, and chunks in `ended`, which had so many rows and bytes
    /// and this digest ([`Payload::digest`] of what was read), are read and not given again.
    #[must_use]
    pub fn without(mut self, finished: impl IntoIterator<Item = u32>, ended: HashMap<ChunkId, Seen>) -> CopySource {
        self.finished = finished.into_iter().collect();
        self.ended = Arc::new(ended);
        self
    }

    pub(super) fn expansion(&self) -> Arc<Expansion> {
        self.expansion.clone()
    }

    /// What it reads.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// How it cuts.
    pub fn limits(&self) -> ChunkLimits {
        self.limits
    }

    /// On how many connections it reads.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Reads the range in the middle, or the beginning of a large one, and makes of it what would be written: a proof that the export can
    /// be begun, and a measure.
    ///
    /// # Errors
    /// When it cannot.
    pub fn sample(&self, transcoder: &Transcoder) -> Result<Sample, Trouble> {
        let budget = Budget::new(MemoryBand::under(usize::MAX / 2), 16, Clock::real());
        let ranges = self.export.ranges.len();
        let queue = Arc::new(Mutex::new(VecDeque::from([ranges / 2])));
        let mut lane = CopyLane::new(self, 0, self.limits, &queue, None);
        let mut sample = Sample { ranges, ..Sample::default() };
        let mut bytes = 0;
        loop {
            match lane.read(&budget, &Stop::default())? {
                Read::Chunk(chunk) => {
                    sample.rows += chunk.payload.rows();
                    sample.output_bytes += transcoder.measure(&chunk.payload)?;
                    sample.chunks += 1;
                    bytes += chunk.payload.bytes();
                    if bytes > SAMPLED_BYTES {
                        return Ok(sample);
                    }
                }
                _ => return Ok(Sample { is_whole: true, ..sample }),
            }
        }
    }
}

impl Source<Batch> for CopySource {
    fn lanes(&mut self, budget: &Budget) -> Result<Vec<Box<dyn Lane<Batch>>>, Trouble> {
        // What was read beyond a chunk's end waits in the lane.
        budget.reserve(self.connections * (self.limits.bytes + HEADROOM));
        let per_part = self.export.part_starts.len() > 1;
        let is_left = |range: &usize| !self.finished.contains(&self.export.ranges[*range].number);
        let whole = Arc::new(Mutex::new((0..self.export.ranges.len()).filter(is_left).collect::<VecDeque<_>>()));
        let lanes = if per_part { self.export.part_starts.len() } else { self.connections };
        // With a file for each, no lane can do without another.
        let rest = (!per_part).then(|| Arc::new(AtomicUsize::new(lanes)));
        let lane = |number: usize| {
            let of_part = |part: usize| {
                (0..self.export.ranges.len()).filter(is_left).filter(|range| self.export.ranges[*range].part as usize == part).collect()
            };
            let queue = if per_part { Arc::new(Mutex::new(of_part(number))) } else { whole.clone() };
            Box::new(CopyLane::new(self, number, self.limits, &queue, rest.clone())) as Box<dyn Lane<Batch>>
        };
        Ok((0..lanes).map(lane).collect())
    }

    fn part_starts(&self) -> Vec<u32> {
        self.export.part_starts.clone()
    }
}
