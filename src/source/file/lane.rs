//! Reading ranges: bytes of inputs straight into chunk buffers, cut where rows end.

use super::input::{Got, Opened};
use super::plan::{FilePlan, FileRange};
use super::{Cutting, FileSource, HEADROOM};
use crate::batch::{Batch, TextRows};
use crate::budget::{Budget, Permit};
use crate::chunk::ChunkId;
use crate::format::{PADDING, Records, Scan};
use crate::memory::{Buffer, Expansion, Memory, Pool};
use crate::source::{Incoming, Lane, RangeDone, Read, Seen, Stop};
use crate::trouble::{Trouble, TroubleKind};
use memchr::{memchr, memchr_iter};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a lane that waits for input looks whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Bytes read beyond a range's end at a time, to see its last row whole.
const OVERRUN: usize = 16 << 10;

/// Bytes kept of a row that is too long.
const KEPT: usize = 1024;

/// How long an input's end by an error waits for what came before it to be written.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

/// One reader.
pub(super) struct FileLane {
    plan: Arc<FilePlan>,
    cutting: Cutting,
    pool: Pool,
    expansion: Arc<Expansion>,
    /// Ranges that no lane has taken yet.
    queue: Arc<Mutex<VecDeque<usize>>>,
    /// Chunks that earlier runs have brought to their end, with their rows, bytes and digest.
    ended: Arc<HashMap<ChunkId, Seen>>,
    range: Option<Taken>,
    opened: Option<Opened>,
    filling: Option<Filling>,
    /// Read already, beyond the chunk that it was read with.
    carry: Vec<u8>,
    /// To be said next.
    ready: VecDeque<Read<Batch>>,
    /// To be said when all that was given has come to its end.
    trouble: Option<Trouble>,
}

/// The range of this lane, and how far it is.
struct Taken {
    range: FileRange,
    /// Place of the next row, in unpacked bytes.
    at: u64,
    /// Whether a row begins there. A range may begin in the middle of one, which is the range's before it.
    aligned: bool,
    chunks: u32,
    rows: u64,
    /// Rows by another count: of line ends, where rows are lines.
    counted: u64,
}

/// A chunk being read.
struct Filling {
    permit: Permit,
    memory: Memory,
    /// Bytes in `memory`.
    filled: usize,
    /// Of these, bytes of whole rows.
    whole: usize,
    rows: u64,
    scan: Scan,
    /// Place of the first row.
    start: u64,
    /// Bytes of a row that is too long, passed over so far.
    skipped: Option<u64>,
    fault: Option<(u64, Box<str>)>,
    since: Instant,
}

/// What the next look into the buffer finds.
enum Found {
    /// The chunk is full: a row that does not fit in follows.
    ChunkFull,
    /// No more rows of this range.
    RangeEnd,
    /// More must be read first.
    Need,
}

impl Lane<Batch> for FileLane {
    fn read(&mut self, budget: &Budget, stop: &Stop) -> Result<Read<Batch>, Trouble> {
        loop {
            if let Some(read) = self.ready.pop_front() {
                return Ok(read);
            }
            if let Some(trouble) = self.trouble.take() {
                wait_until_settled(budget, stop);
                return Err(trouble);
            }
            if stop.is_draining() {
                return Ok(Read::Stopped);
            }
            if self.range.is_none() && !self.take_range(budget) {
                return Ok(Read::End);
            }
            match self.advance(budget, stop) {
                Ok(true) => {}
                Ok(false) => {
                    // Rows of a pipe cannot be had again.
                    let keeps = self.range.as_ref().is_some_and(|taken| !self.plan.inputs()[taken.range.input].repeats());
                    if !keeps || self.filling.as_ref().is_none_or(|filling| filling.rows == 0) {
                        return Ok(Read::Stopped);
                    }
                    self.chunk_done()?;
                }
                Err(trouble) if trouble.is_passing() => return Err(trouble),
                Err(trouble) => {
                    if self.filling.as_ref().is_some_and(|filling| filling.rows > 0) {
                        self.chunk_done()?;
                    }
                    self.trouble = Some(trouble);
                }
            }
        }
    }
}

/// What came before an error is kept: it gets the time that it needs to become durable.
fn wait_until_settled(budget: &Budget, stop: &Stop) {
    let began = Instant::now();
    while budget.status().chunks > 0 && !stop.is_draining() && began.elapsed() < SETTLE_WAIT {
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl FileLane {
    /// A lane of `source` that takes its ranges from `queue`.
    pub fn new(source: &FileSource, queue: &Arc<Mutex<VecDeque<usize>>>) -> FileLane {
        FileLane {
            plan: source.plan.clone(),
            cutting: source.cutting,
            pool: source.pool.clone(),
            expansion: source.expansion.clone(),
            queue: queue.clone(),
            ended: source.ended.clone(),
            range: None,
            opened: None,
            filling: None,
            carry: Vec::new(),
            ready: VecDeque::new(),
            trouble: None,
        }
    }

    /// Takes the next range. What was read beyond the last one is kept if it is this one's.
    fn take_range(&mut self, budget: &Budget) -> bool {
        let Some(next) = self.queue.lock().pop_front() else { return false };
        let range = self.plan.ranges()[next].clone();
        budget.enter(range.number);
        let input = &self.plan.inputs()[range.input];
        let (at, aligned) = if range.start == input.data_start { (range.start, true) } else { (range.start - 1, false) };
        self.carry.clear();
        self.opened = None;
        self.range = Some(Taken { range, at, aligned, chunks: 0, rows: 0, counted: 0 });
        true
    }

    /// Reads until there is something to say. `false` when the run stops meanwhile.
    fn advance(&mut self, budget: &Budget, stop: &Stop) -> Result<bool, Trouble> {
        self.open()?;
        if self.filling.is_none() {
            match self.new_chunk(budget, 0) {
                Some(filling) => self.filling = Some(filling),
                None => return Ok(false),
            }
        }
        loop {
            match self.look()? {
                Found::ChunkFull => {
                    self.chunk_done()?;
                    return Ok(true);
                }
                Found::RangeEnd => {
                    self.range_done(budget)?;
                    return Ok(true);
                }
                Found::Need => {
                    if !self.make_room(budget)? {
                        return Ok(false);
                    }
                    match self.receive(stop)? {
                        Received::Bytes => {}
                        Received::TooOld => {
                            self.chunk_done()?;
                            return Ok(true);
                        }
                        Received::Stopped => return Ok(false),
                    }
                }
            }
        }
    }

    fn open(&mut self) -> Result<(), Trouble> {
        let (Some(taken), None) = (&self.range, &self.opened) else { return Ok(()) };
        let input = &self.plan.inputs()[taken.range.input];
        if input.repeats() {
            self.opened = Some(input.open(taken.at)?);
        } else if let Some((opened, head)) = self.plan.take_begun(taken.range.input) {
            self.carry = head;
            self.opened = Some(opened);
        } else {
            return Err(Trouble::lasting(TroubleKind::Internal, format!("{} was to be read twice", input.shown)));
        }
        Ok(())
    }

    /// A buffer for the next chunk, with room for a row of `row` bytes at least, and with what was read of it already.
    fn new_chunk(&mut self, budget: &Budget, row: usize) -> Option<Filling> {
        let taken = self.range.as_ref()?;
        let length = self.cutting.limits.bytes.max(row).max(self.carry.len()) + PADDING + HEADROOM;
        let permit = budget.acquire(taken.range.number, length + self.expansion.room(length)).ok()?;
        let mut memory = self.pool.take(length);
        memory[..self.carry.len()].copy_from_slice(&self.carry);
        let filled = self.carry.len();
        self.carry.clear();
        let (start, since) = (taken.at, Instant::now());
        Some(Filling { permit, memory, filled, whole: 0, rows: 0, scan: Scan::default(), start, skipped: None, fault: None, since })
    }

    /// Room for more of the row that is being read. If its buffer is full, a larger one is needed, which may mean waiting. `false` when the
    /// run takes no more chunks.
    fn make_room(&mut self, budget: &Budget) -> Result<bool, Trouble> {
        let Some(filling) = &mut self.filling else { return Ok(true) };
        if filling.filled + PADDING < filling.memory.len() {
            return Ok(true);
        }
        let Some(Filling { permit, memory, filled, scan, .. }) = self.filling.take() else { return Ok(true) };
        self.carry.extend_from_slice(&memory[..filled]);
        drop((permit, memory));
        self.filling = self.new_chunk(budget, (filled * 2).min(self.cutting.longest_row));
        if let Some(filling) = &mut self.filling {
            filling.scan = scan;
        }
        Ok(self.filling.is_some())
    }

    /// Reads once.
    fn receive(&mut self, stop: &Stop) -> Result<Received, Trouble> {
        let (Some(opened), Some(filling), Some(taken)) = (&mut self.opened, &mut self.filling, &self.range) else {
            return Ok(Received::Bytes);
        };
        let input = &self.plan.inputs()[taken.range.input];
        let room = filling.memory.len() - PADDING - filling.filled;
        let wanted = taken
            .range
            .end
            .map_or(usize::MAX, |end| usize::try_from(end.saturating_sub(opened.at)).unwrap_or(usize::MAX).saturating_add(OVERRUN));
        let into = filling.filled..filling.filled + room.min(wanted);
        loop {
            let age = self.cutting.max_age.filter(|_| filling.rows > 0).map(|most| most.saturating_sub(filling.since.elapsed()));
            match opened.read(&mut filling.memory[into.clone()], age.unwrap_or(LOOK_EVERY).min(LOOK_EVERY), input)? {
                Got::Bytes(count) => {
                    if filling.filled == 0 {
                        filling.since = Instant::now();
                    }
                    filling.filled += count;
                    return Ok(Received::Bytes);
                }
                Got::Nothing if stop.is_draining() => return Ok(Received::Stopped),
                Got::Nothing if age.is_some_and(|left| left.is_zero()) => return Ok(Received::TooOld),
                Got::Nothing => {}
            }
        }
    }

    /// Goes through what was read, up to the chunk's or the range's end.
    fn look(&mut self) -> Result<Found, Trouble> {
        let (Some(filling), Some(taken), Some(opened)) = (&mut self.filling, &mut self.range, &self.opened) else {
            return Ok(Found::RangeEnd);
        };
        let end = taken.range.end.unwrap_or(u64::MAX);
        if !taken.aligned && !align(filling, taken, opened.ended, end) {
            return Ok(if taken.at >= end || opened.ended { Found::RangeEnd } else { Found::Need });
        }
        let records = self.plan.reading().records;
        loop {
            if taken.at >= end {
                return Ok(Found::RangeEnd);
            }
            if filling.fault.is_some() && filling.skipped.is_none() {
                return Ok(Found::ChunkFull);
            }
            if filling.skipped.is_some() {
                if !filling.skip(taken, opened.ended) {
                    return Ok(Found::Need);
                }
                continue;
            }
            let rest = &filling.memory[filling.whole..filling.filled];
            let length = match records.end(rest, &mut filling.scan) {
                Some(length) => length,
                None if opened.ended && rest.is_empty() => return Ok(Found::RangeEnd),
                None if opened.ended => {
                    if filling.is_full(rest.len() + 1, &self.cutting) {
                        filling.scan = Scan::default();
                        return Ok(Found::ChunkFull);
                    }
                    filling.last_row(taken);
                    return Ok(Found::RangeEnd);
                }
                None if filling.rows > 0 && filling.is_full(rest.len(), &self.cutting) => {
                    filling.scan = Scan::default();
                    return Ok(Found::ChunkFull);
                }
                None if rest.len() >= self.cutting.longest_row => {
                    too_long(filling, taken, &self.plan, records, self.cutting.longest_row)?;
                    continue;
                }
                None => return Ok(Found::Need),
            };
            filling.scan = Scan::default();
            if filling.is_full(length, &self.cutting) {
                return Ok(Found::ChunkFull);
            }
            filling.whole += length;
            filling.rows += 1;
            taken.at += length as u64;
        }
    }

    /// Gives the rows read so far to the engine, unless it is known what became of them.
    fn chunk_done(&mut self) -> Result<(), Trouble> {
        let (Some(filling), Some(taken)) = (self.filling.take(), &mut self.range) else { return Ok(()) };
        let Filling { mut permit, mut memory, filled, whole, rows, start, fault, .. } = filling;
        self.carry.extend_from_slice(&memory[whole..filled]);
        memory[whole..whole + PADDING].fill(0);
        let index = taken.chunks;
        taken.chunks += 1;
        taken.rows += rows;
        let records = self.plan.reading().records;
        taken.counted += if records == Records::Lines { memchr_iter(b'\n', &memory[..whole]).count() as u64 } else { rows };
        let id = ChunkId::new(taken.range.number, index);
        let shown = &self.plan.inputs()[taken.range.input].shown;
        if let Some((rows_then, bytes_then, digest_then)) = self.ended.get(&id) {
            let is_same = |digest: &u64| *digest == xxhash_rust::xxh3::xxh3_64(&memory[..whole]);
            if (*rows_then, *bytes_then) != (rows, whole) || !digest_then.as_ref().is_none_or(is_same) {
                let message = format!(
                    "chunk {id} ({shown} from byte {start} on) has other rows than when it was read first, so it cannot be continued"
                );
                return Err(Trouble::lasting(TroubleKind::Configuration, message));
            }
            return Ok(());
        }
        let origin = format!("{shown} bytes {start}-{}", taken.at.max(start + 1) - 1).into();
        let buffer = Buffer::new(memory, whole, &self.pool);
        permit.resize(buffer.resident_bytes() + self.expansion.room(whole));
        let payload = Batch::text(TextRows { buffer, records, at: start, fault, places: None }, rows);
        self.ready.push_back(Read::Chunk(Incoming { id, part: 0, origin, payload, permit }));
        Ok(())
    }

    fn range_done(&mut self, budget: &Budget) -> Result<(), Trouble> {
        if self.filling.as_ref().is_some_and(|filling| filling.rows > 0) {
            self.chunk_done()?;
        }
        let ahead = self.carry.len() + self.filling.take().map_or(0, |filling| filling.filled - filling.whole);
        let (Some(taken), Some(opened)) = (self.range.take(), &self.opened) else { return Ok(()) };
        self.plan.inputs()[taken.range.input].check(opened)?;
        let Taken { range, at, aligned, chunks, rows, counted } = taken;
        // Counted in other ways than rows were cut: line ends, and the bytes that the system gave.
        if rows != counted || (aligned && opened.at != at + ahead as u64) {
            let message = format!("{}: {rows} rows up to byte {at} came of {counted} lines up to byte {}", range.origin, opened.at);
            return Err(Trouble::lasting(TroubleKind::Internal, message));
        }
        budget.leave(range.number);
        self.ready.push_back(Read::RangeDone(RangeDone { range: range.number, part: 0, chunks, rows: counted, origin: range.origin }));
        Ok(())
    }
}

/// What came of waiting for input.
enum Received {
    /// Bytes, or the end.
    Bytes,
    /// The chunk has waited long enough.
    TooOld,
    /// The run stops.
    Stopped,
}

/// Passes over what is left of the row in which the range begins. `false` when its end is not there yet.
fn align(filling: &mut Filling, taken: &mut Taken, ended: bool, end: u64) -> bool {
    let Some(length) = memchr(b'\n', &filling.memory[..filling.filled]).map(|at| at + 1) else {
        if taken.at + (filling.filled as u64) < end && !ended {
            // No row of this range begins in what was read so far.
            taken.at += filling.filled as u64;
            filling.filled = 0;
        } else {
            taken.at = end;
        }
        return false;
    };
    filling.memory.copy_within(length..filling.filled, 0);
    filling.filled -= length;
    taken.at += length as u64;
    taken.aligned = true;
    filling.start = taken.at;
    true
}

/// A row is longer than it may be. A line is passed over, its beginning is kept for the dead letter.
fn too_long(filling: &mut Filling, taken: &Taken, plan: &FilePlan, records: Records, longest: usize) -> Result<(), Trouble> {
    let place = format!("byte {} of {}", taken.at, plan.inputs()[taken.range.input].shown);
    if records != Records::Lines {
        let message =
            format!("the row at {place} is longer than {longest} bytes: a quote may never be closed there. `longest_row` allows more");
        return Err(Trouble::lasting(TroubleKind::Configuration, message));
    }
    filling.fault = Some((0, format!("the line at {place} is longer than {longest} bytes; this is its beginning").into()));
    filling.skipped = Some((filling.filled - KEPT) as u64);
    filling.filled = KEPT;
    Ok(())
}

impl Filling {
    /// Whether a row of `bytes` bytes belongs into the next chunk. The first row is taken however large it is.
    fn is_full(&self, bytes: usize, cutting: &Cutting) -> bool {
        self.rows > 0 && (self.whole + bytes > cutting.limits.bytes || self.rows >= cutting.limits.rows)
    }

    /// The input ends without a line end: it gets one.
    fn last_row(&mut self, taken: &mut Taken) {
        taken.at += (self.filled - self.whole) as u64;
        if self.scan.is_unclosed(self.filled - self.whole) {
            self.fault = Some((self.rows, "a quote is never closed, the input ends before".into()));
        }
        self.memory[self.filled] = b'\n';
        self.filled += 1;
        self.whole = self.filled;
        self.rows += 1;
    }

    /// Passes over more of a line that is too long. `false` when its end is not there yet.
    fn skip(&mut self, taken: &mut Taken, ended: bool) -> bool {
        let fresh = &self.memory[KEPT..self.filled];
        let end = memchr(b'\n', fresh).map(|at| at + 1);
        let gone = end.unwrap_or(fresh.len());
        self.skipped = self.skipped.map(|skipped| skipped + gone as u64);
        self.memory.copy_within(KEPT + gone..self.filled, KEPT);
        self.filled -= gone;
        if end.is_none() && !ended {
            return false;
        }
        taken.at += KEPT as u64 + self.skipped.take().unwrap_or(0);
        // In place of what is gone the line gets an end.
        self.memory.copy_within(KEPT..self.filled, KEPT + 1);
        self.memory[KEPT] = b'\n';
        self.filled += 1;
        self.whole = KEPT + 1;
        self.rows = 1;
        true
    }
}
