//! Reading ranges: raw protocol messages straight into chunk buffers.

use super::connect::{ConnectErrorKind, Connector};
use super::copy_source::{CopySource, HEADROOM};
use super::export::{Export, Range};
use super::session::connect_trouble;
use super::view::{Unseen, View};
use super::wire::{Frame, Message, RawConnection, ServerError, WireError, frame};
use crate::batch::Batch;
use crate::budget::{Budget, Permit};
use crate::chunk::ChunkId;
use crate::format::copy_text::PADDING;
use crate::memory::{Buffer, Expansion, Memory, Pool};
use crate::source::{ChunkLimits, Incoming, Lane, RangeDone, Read, Seen, Stop};
use crate::trouble::{Trouble, TroubleKind};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often a lane that waits for the server looks whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The kind of message that a row comes in.
const COPY_DATA: u8 = b'd';

/// Bytes of a message's head: its kind and its length.
const HEAD: usize = 5;

/// One connection that reads range after range.
pub(super) struct CopyLane {
    number: usize,
    connector: Connector,
    view: Arc<View>,
    export: Arc<Export>,
    limits: ChunkLimits,
    pool: Pool,
    expansion: Arc<Expansion>,
    /// Ranges that no lane has taken yet.
    queue: Arc<Mutex<VecDeque<usize>>>,
    connection: Option<RawConnection>,
    /// Lanes that can do each other's work and have not given up, this one among them; until it has begun with its own.
    rest: Option<Arc<AtomicUsize>>,
    /// Ranges that were asked for, the one that is being answered first. Asking for the next before this one's end keeps the server busy.
    ranges: VecDeque<Taken>,
    filling: Option<Filling>,
    /// Read already, beyond the chunk that it was read with.
    carry: Vec<u8>,
    /// To be said next.
    ready: VecDeque<Read<Batch>>,
    /// Chunks that earlier runs have brought to their end, with their rows, bytes and digest.
    ended: Arc<HashMap<ChunkId, Seen>>,
}

/// A range of this lane, and how far it is.
struct Taken {
    range: Range,
    /// Chunks that were given to the engine, with their digests where reading again need not give the same.
    chunks: Vec<Given>,
    /// Chunks found in the present answer.
    found: u32,
    /// Rows found in the present answer.
    rows: u64,
    /// The server's own count, from its `COPY n`.
    told: Option<u64>,
    /// How often the server said what the [`View`] wants to hear.
    looks: u32,
    asked: bool,
}

/// What a chunk was, to know it again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Given {
    rows: u64,
    bytes: usize,
    digest: u64,
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
}

/// What the next look into the buffer finds.
enum Found {
    /// The chunk is full: a row that does not fit in follows.
    ChunkFull,
    /// The range's answer is complete.
    RangeEnd,
    /// More must be read first; the next message has so many bytes, as far as is known.
    Need(usize),
}

impl Lane<Batch> for CopyLane {
    fn read(&mut self, budget: &Budget, stop: &Stop) -> Result<Read<Batch>, Trouble> {
        loop {
            if let Some(read) = self.ready.pop_front() {
                return Ok(read);
            }
            if stop.is_draining() {
                return Ok(Read::Stopped);
            }
            if self.rest.is_some() && !self.has_place()? {
                return Ok(Read::End);
            }
            self.take_ranges(budget, stop);
            if self.ranges.is_empty() {
                if let Some(connection) = self.connection.take() {
                    connection.close();
                }
                return Ok(Read::End);
            }
            if let Err(error) = self.ask() {
                return Err(self.give_up_connection(error));
            }
            match self.advance(budget, stop) {
                Ok(true) => {}
                Ok(false) => return Ok(Read::Stopped),
                Err(error) => return Err(self.give_up_connection(error)),
            }
        }
    }
}

/// What ends an attempt to read.
enum Failure {
    Wire(WireError),
    Trouble(Trouble),
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Failure {
        Failure::Wire(error)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        Failure::Trouble(trouble)
    }
}

impl CopyLane {
    /// A lane of `source` that takes its ranges from `queue`, as do the `rest` of them.
    pub fn new(
        source: &CopySource,
        number: usize,
        limits: ChunkLimits,
        queue: &Arc<Mutex<VecDeque<usize>>>,
        rest: Option<Arc<AtomicUsize>>,
    ) -> CopyLane {
        CopyLane {
            number,
            connector: source.connector.clone(),
            view: source.view.clone(),
            export: source.export.clone(),
            limits,
            pool: source.pool.clone(),
            expansion: source.expansion.clone(),
            queue: queue.clone(),
            connection: None,
            rest,
            ranges: VecDeque::new(),
            filling: None,
            carry: Vec::new(),
            ready: VecDeque::new(),
            ended: source.ended.clone(),
        }
    }

    /// Whether the server has a place for this lane. Asked before it takes anything, so that nothing has to be handed back.
    fn has_place(&mut self) -> Result<bool, Trouble> {
        match self.connector.raw() {
            Ok(connection) => {
                self.rest = None;
                match self.begin(connection) {
                    Ok(connection) => self.connection = Some(connection),
                    Err(failure) => return Err(self.give_up_connection(failure)),
                }
                Ok(true)
            }
            Err(error) if error.kind() == ConnectErrorKind::TooManyConnections && self.leaves_others() => {
                tracing::warn!("going on without connection {}: the server has no place for it", self.number + 1);
                Ok(false)
            }
            Err(error) => Err(connect_trouble(error)),
        }
    }

    /// Gives up, unless this is the last lane there is: that one waits for a place.
    fn leaves_others(&self) -> bool {
        let give_up = |lanes: usize| lanes.checked_sub(1).filter(|left| *left > 0);
        self.rest.as_ref().is_some_and(|rest| rest.fetch_update(Ordering::SeqCst, Ordering::SeqCst, give_up).is_ok())
    }

    /// Keeps two ranges taken: the one being answered and the next.
    fn take_ranges(&mut self, budget: &Budget, stop: &Stop) {
        while self.ranges.len() < 2 && !stop.is_draining() {
            let Some(next) = self.queue.lock().pop_front() else { return };
            let range = self.export.ranges[next].clone();
            budget.enter(range.number);
            self.ranges.push_back(Taken { range, chunks: Vec::new(), found: 0, rows: 0, told: None, looks: 0, asked: false });
        }
    }

    /// Connects if need be, and sends the statements that were not sent yet.
    fn ask(&mut self) -> Result<(), Failure> {
        if self.connection.is_none() {
            self.connection = Some(self.connect()?);
        }
        let connection = self.connection.as_mut().expect("just connected");
        for taken in self.ranges.iter_mut().filter(|taken| !taken.asked) {
            connection.send_query(&self.view.statement(&taken.range.sql)).map_err(WireError::from)?;
            taken.asked = true;
        }
        Ok(())
    }

    fn connect(&self) -> Result<RawConnection, Failure> {
        self.begin(self.connector.raw().map_err(connect_trouble)?)
    }

    /// Has the connection see what the run sees.
    fn begin(&self, mut connection: RawConnection) -> Result<RawConnection, Failure> {
        self.view.enter(&mut connection).map_err(|unseen| match unseen {
            Unseen::Wire(WireError::Server(server)) if server.sqlstate == "22023" || server.sqlstate == "55000" => {
                let message = "the snapshot that this run reads under is gone, and the rows cannot be told apart from later ones";
                Failure::Trouble(Trouble::lasting(TroubleKind::Unavailable, message).because(server))
            }
            Unseen::Wire(error) => Failure::Wire(error),
            Unseen::Trouble(trouble) => Failure::Trouble(trouble),
        })?;
        connection.set_read_timeout(Some(LOOK_EVERY)).map_err(WireError::from)?;
        Ok(connection)
    }

    /// The connection is of no use any more. The range is read again on another, from its beginning, and what the engine has
    /// of it is skipped.
    fn give_up_connection(&mut self, failure: Failure) -> Trouble {
        self.connection = None;
        self.filling = None;
        self.carry.clear();
        for taken in &mut self.ranges {
            (taken.found, taken.rows, taken.told, taken.looks, taken.asked) = (0, 0, None, 0, false);
        }
        let place = self.ranges.front().map_or(String::new(), |taken| format!(" while reading {}", taken.range.origin));
        match failure {
            Failure::Trouble(trouble) => trouble,
            Failure::Wire(WireError::Server(error)) => server_trouble(&error, &place),
            Failure::Wire(error) => {
                let message = format!("connection {} to the server is lost{place}", self.number + 1);
                let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                Trouble::passing(TroubleKind::Unavailable, message).because(cause)
            }
        }
    }

    /// Reads until there is something to say. `false` when the run stops meanwhile.
    fn advance(&mut self, budget: &Budget, stop: &Stop) -> Result<bool, Failure> {
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
                Found::Need(bytes) => {
                    if !self.make_room(budget, bytes) {
                        return Ok(false);
                    }
                    if !self.receive(stop)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// A buffer for the next chunk, with room for a row of `row` bytes at least, and with what was read of it already.
    fn new_chunk(&mut self, budget: &Budget, row: usize) -> Option<Filling> {
        let range = self.ranges.front()?.range.number;
        let first = frame(&self.carry).ok().flatten().map_or(0, |frame| frame.len);
        let length = (self.limits.bytes.max(row).max(first).max(self.carry.len())) + PADDING + HEADROOM;
        let permit = budget.acquire(range, length + self.expansion.room(length)).ok()?;
        let mut memory = self.pool.take(length);
        memory[..self.carry.len()].copy_from_slice(&self.carry);
        let filled = self.carry.len();
        self.carry.clear();
        Some(Filling { permit, memory, filled, whole: 0, rows: 0 })
    }

    /// A row of `bytes` bytes follows: is there room for it? If not, its chunk must be larger, which may mean waiting. `false` when the
    /// run takes no more chunks.
    fn make_room(&mut self, budget: &Budget, bytes: usize) -> bool {
        let Some(filling) = &self.filling else { return true };
        if filling.whole + bytes + PADDING <= filling.memory.len() {
            return true;
        }
        let Some(Filling { permit, memory, filled, .. }) = self.filling.take() else { return true };
        self.carry.extend_from_slice(&memory[..filled]);
        drop(permit);
        self.filling = self.new_chunk(budget, bytes);
        self.filling.is_some()
    }

    /// Reads once from the socket. `false` when the run stops meanwhile.
    fn receive(&mut self, stop: &Stop) -> Result<bool, Failure> {
        let (Some(connection), Some(filling)) = (&mut self.connection, &mut self.filling) else { return Ok(true) };
        let end = filling.memory.len() - PADDING;
        loop {
            match connection.read(&mut filling.memory[filling.filled..end]) {
                Ok(0) => return Err(WireError::Closed.into()),
                Ok(count) => {
                    filling.filled += count;
                    return Ok(true);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => {
                    if stop.is_draining() {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(WireError::from(error).into()),
            }
        }
    }

    /// Goes through what was read, up to a chunk's or the range's end.
    fn look(&mut self) -> Result<Found, Failure> {
        let Some(filling) = &mut self.filling else { return Ok(Found::Need(0)) };
        loop {
            let Some(next) = filling.take_rows(self.limits)? else { return Ok(Found::Need(HEAD)) };
            let is_row = next.tag == COPY_DATA;
            if is_row && filling.is_full(next.len, self.limits) {
                return Ok(Found::ChunkFull);
            }
            if is_row || filling.whole + next.len > filling.filled {
                return Ok(Found::Need(next.len));
            }
            let taken = self.ranges.front_mut().expect("an answer belongs to a range");
            let mut said = &filling.memory[filling.whole..filling.filled];
            let mut is_end = false;
            while !is_end
                && let Some(next) = frame(said).map_err(WireError::from)?
                && next.tag != COPY_DATA
                && next.len <= said.len()
            {
                is_end = told(&said[..next.len], taken, &self.view)?;
                said = &said[next.len..];
            }
            // What is no row does not belong into a chunk.
            let rest = filling.filled - said.len();
            filling.memory.copy_within(rest..filling.filled, filling.whole);
            filling.filled -= rest - filling.whole;
            if is_end {
                return Ok(Found::RangeEnd);
            }
        }
    }

    /// Gives the rows read so far to the engine, unless it has them already.
    fn chunk_done(&mut self) -> Result<(), Failure> {
        let Some(Filling { mut permit, memory, filled, whole, rows }) = self.filling.take() else { return Ok(()) };
        let taken = self.ranges.front_mut().expect("a chunk belongs to a range");
        self.carry.extend_from_slice(&memory[whole..filled]);
        let index = taken.found;
        taken.found += 1;
        taken.rows += rows;
        let digest = if self.export.repeats_exactly() { 0 } else { xxhash_rust::xxh3::xxh3_64(&memory[..whole]) };
        let given = Given { rows, bytes: whole, digest };
        if let Some(before) = taken.chunks.get(index as usize) {
            if *before != given {
                return Err(read_otherwise(&taken.range, self.export.is_by_key()).into());
            }
            return Ok(());
        }
        taken.chunks.push(given);
        let id = ChunkId::new(taken.range.number, index);
        if let Some((rows_then, bytes_then, digest_then)) = self.ended.get(&id) {
            // Rows of one length that moved up behind a deleted one give a chunk of the same size.
            let is_same = |digest: &u64| *digest == xxhash_rust::xxh3::xxh3_64(&memory[..whole]);
            if (*rows_then, *bytes_then) != (rows, whole) || !digest_then.as_ref().is_none_or(is_same) {
                let message =
                    format!("chunk {id} ({}) has other rows than when it was exported, so it cannot be continued", taken.range.origin);
                return Err(Trouble::lasting(TroubleKind::Configuration, message).into());
            }
            return Ok(());
        }
        let buffer = Buffer::new(memory, whole, &self.pool);
        permit.resize(buffer.resident_bytes() + self.expansion.room(whole));
        let (part, origin) = (taken.range.part, taken.range.origin.clone());
        self.ready.push_back(Read::Chunk(Incoming { id, part, origin, payload: Batch::frames(buffer, rows), permit }));
        Ok(())
    }

    fn range_done(&mut self, budget: &Budget) -> Result<(), Failure> {
        if self.filling.as_ref().is_some_and(|filling| filling.rows > 0) {
            self.chunk_done()?;
        } else if let Some(Filling { memory, filled, .. }) = self.filling.take() {
            self.carry.extend_from_slice(&memory[..filled]);
        }
        let taken = self.ranges.pop_front().expect("an answer belongs to a range");
        let Taken { range, chunks, rows, told, found, looks, .. } = taken;
        if (found as usize) < chunks.len() {
            return Err(read_otherwise(&range, self.export.is_by_key()).into());
        }
        if told != Some(rows) || looks != self.view.looks() {
            let message = format!("{}: {rows} rows came, but the server says {told:?} ({looks} looks)", range.origin);
            return Err(Trouble::lasting(TroubleKind::Internal, message).into());
        }
        budget.leave(range.number);
        let chunks = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        self.ready.push_back(Read::RangeDone(RangeDone { range: range.number, part: range.part, chunks, rows, origin: range.origin }));
        Ok(())
    }
}

impl Filling {
    /// Takes whole rows in, up to the chunk's limits; gives the message behind them, if its head is there.
    fn take_rows(&mut self, limits: ChunkLimits) -> Result<Option<Frame>, WireError> {
        while let Some(next) = frame(&self.memory[self.whole..self.filled])? {
            if next.tag != COPY_DATA || self.whole + next.len > self.filled || self.is_full(next.len, limits) {
                return Ok(Some(next));
            }
            self.whole += next.len;
            self.rows += 1;
        }
        Ok(None)
    }

    /// Whether a row of `bytes` bytes belongs into the next chunk. The first row is taken however large it is.
    fn is_full(&self, bytes: usize, limits: ChunkLimits) -> bool {
        self.rows > 0 && (self.whole + bytes > limits.bytes || self.rows >= limits.rows)
    }
}

/// A range that was lost on the way was read again and came out otherwise.
///
/// By key that is no wonder, on a table that is being written: who goes on cuts off what there is of the range.
fn read_otherwise(range: &Range, by_key: bool) -> Trouble {
    let message = format!("reading {} again gave other rows than before, so it cannot be continued", range.origin);
    Trouble::lasting(if by_key { TroubleKind::Unavailable } else { TroubleKind::Configuration }, message)
}

/// Takes note of a message that is no row; says whether the answer ends with it.
fn told(message: &[u8], taken: &mut Taken, view: &View) -> Result<bool, Failure> {
    let message = Message::parse(message)?;
    if let Some(rows) = message.copied_rows() {
        // A range may take several statements.
        taken.told = Some(taken.told.unwrap_or(0) + rows);
    }
    match message {
        Message::Error(error) => Err(WireError::Server(error).into()),
        Message::DataRow(row) => {
            view.look(&row.to_texts()?)?;
            taken.looks += 1;
            Ok(false)
        }
        Message::Ready(_) => Ok(true),
        _ => Ok(false),
    }
}

/// A statement that the server refused or gave up.
fn server_trouble(error: &ServerError, place: &str) -> Trouble {
    // 57: operator intervention (terminated, shutting down, starting up). 53: out of connections, memory, disk. 08: connection.
    // 40: rolled back, also for a conflict with recovery on a standby. What was asked for is not at fault there.
    let passes = matches!(error.sqlstate.get(..2), Some("57" | "53" | "08" | "40"));
    let message = format!("the server ended a statement{place}");
    let kind = if matches!(error.sqlstate.get(..2), Some("42" | "22")) { TroubleKind::Configuration } else { TroubleKind::Unavailable };
    let trouble = if passes { Trouble::passing(kind, message) } else { Trouble::lasting(kind, message) };
    trouble.because(error.to_string())
}
