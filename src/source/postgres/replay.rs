//! Rows of a dead-letter file as a source: the same bytes as the server sent once, for the same machine.

use super::transcode::push_row;
use crate::batch::{Batch, COPY_ROW, JSON_LINE};
use crate::budget::{Budget, Permit};
use crate::chunk::ChunkId;
use crate::format::copy_text::PADDING;
use crate::format::{Compression, Output};
use crate::memory::Buffer;
use crate::sink::{DeadLetters, DeadRecord, IdSet, Records};
use crate::source::{ChunkLimits, Incoming, Lane, RangeDone, Read, Source, Stop};
use crate::trouble::{Trouble, TroubleKind};
use std::sync::Arc;

/// What a chunk may need, as a multiple of its size: the rows as they came and, somewhat larger, as they go.
const ROOM_PER_CHUNK: usize = 5;

/// What stands before the ids in a chunk's origin, and behind.
const ORIGIN: (&str, &str) = ("records ", " of ");

/// The records that a chunk consists of, in the order of its rows, by the chunk's origin.
pub fn replayed_records(origin: &str) -> Option<IdSet> {
    let (ids, _) = origin.strip_prefix(ORIGIN.0)?.split_once(ORIGIN.1)?;
    ids.parse().ok()
}

/// Why a record cannot be run through a machine, if it cannot.
pub fn why_not_replayable(record: &DeadRecord) -> Option<String> {
    if record.raw.contains(&b'\n') {
        return Some("its row has a line break in it, which no such row has".into());
    }
    match &*record.form {
        COPY_ROW => {
            let escapes = record.raw.iter().rev().take_while(|byte| **byte == b'\\').count();
            (escapes % 2 == 1).then(|| "its row ends in the middle of an escape".into())
        }
        JSON_LINE => {
            serde_json::from_slice::<serde::de::IgnoredAny>(&record.raw).err().map(|error| format!("its row is not JSON: {error}"))
        }
        other => Some(format!("its row is of the form `{other}`, which no replay knows")),
    }
}

/// Reads rows of a dead-letter file, on one lane.
pub struct ReplaySource {
    lane: Option<ReplayLane>,
}

impl ReplaySource {
    /// Reads the records `wanted`, of which none may be one that [is not replayable](why_not_replayable). Rows that are encoded
    /// already are compressed as the others will be.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn new(letters: &DeadLetters, wanted: IdSet, limits: ChunkLimits, compression: Compression) -> Result<ReplaySource, Trouble> {
        let name = letters.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let lane =
            ReplayLane { records: letters.records()?, name, wanted, limits, compression, carry: None, chunks: 0, rows: 0, ended: false };
        Ok(ReplaySource { lane: Some(lane) })
    }

    /// Reads nothing: an earlier run has read everything.
    pub fn nothing() -> ReplaySource {
        ReplaySource { lane: None }
    }
}

impl Source<Batch> for ReplaySource {
    fn lanes(&mut self, budget: &Budget) -> Result<Vec<Box<dyn Lane<Batch>>>, Trouble> {
        let Some(lane) = self.lane.take() else { return Ok(vec![Box::new(Nothing)]) };
        budget.enter(0);
        // What was read beyond a chunk's end waits in the lane.
        budget.reserve(lane.limits.bytes);
        Ok(vec![Box::new(lane)])
    }
}

struct Nothing;

impl Lane<Batch> for Nothing {
    fn read(&mut self, _: &Budget, _: &Stop) -> Result<Read<Batch>, Trouble> {
        Ok(Read::End)
    }
}

struct ReplayLane {
    records: Records,
    name: String,
    wanted: IdSet,
    limits: ChunkLimits,
    compression: Compression,
    /// Read already, for the next chunk.
    carry: Option<DeadRecord>,
    chunks: u32,
    rows: u64,
    ended: bool,
}

impl ReplayLane {
    /// The next record that is wanted.
    fn next(&mut self) -> Result<Option<DeadRecord>, Trouble> {
        if let Some(record) = self.carry.take() {
            return Ok(Some(record));
        }
        loop {
            match self.records.read()? {
                Some(record) if !self.wanted.contains(record.id) => {}
                found => return Ok(found),
            }
        }
    }

    /// Rows of one form, as many as a chunk may have.
    fn fill(&mut self) -> Result<Option<(Batch, IdSet)>, Trouble> {
        let Some(first) = self.next()? else { return Ok(None) };
        let is_encoded = first.form == JSON_LINE;
        let (mut bytes, mut ids, mut rows) = (Vec::new(), IdSet::default(), 0);
        let form = first.form.clone();
        let mut next = Some(first);
        while let Some(mut record) = next {
            let is_full = rows > 0 && (bytes.len() + record.raw.len() > self.limits.bytes || rows == self.limits.rows);
            if is_full || record.form != form {
                self.carry = Some(record);
                break;
            }
            record.raw.push(b'\n');
            if is_encoded {
                bytes.extend_from_slice(&record.raw)
            } else {
                push_row(&record.raw, &mut bytes)
            }
            ids.insert(record.id, record.id);
            rows += 1;
            next = self.next()?;
        }
        let batch = if is_encoded { self.encoded(&bytes, rows)? } else { Batch::frames(Buffer::copy_of(&bytes, PADDING), rows) };
        Ok(Some((batch, ids)))
    }

    fn encoded(&self, lines: &[u8], rows: u64) -> Result<Batch, Trouble> {
        let mut packed = Output::default();
        self.compression
            .pack(lines, &mut packed)
            .map_err(|error| Trouble::lasting(TroubleKind::Configuration, "rows cannot be compressed").because(error))?;
        Ok(Batch::encoded(Buffer::copy_of(packed.bytes(), 0), self.compression, rows))
    }

    fn chunk(&mut self, mut permit: Permit) -> Result<Read<Batch>, Trouble> {
        let Some((payload, ids)) = self.fill()? else {
            drop(permit);
            return self.end();
        };
        permit.resize(crate::chunk::Payload::bytes(&payload) * ROOM_PER_CHUNK);
        let id = ChunkId::new(0, self.chunks);
        self.chunks += 1;
        self.rows += ids.len();
        let origin: Arc<str> = format!("{}{ids}{}{}", ORIGIN.0, ORIGIN.1, self.name).into();
        Ok(Read::Chunk(Incoming { id, part: 0, origin, payload, permit }))
    }

    fn end(&mut self) -> Result<Read<Batch>, Trouble> {
        self.ended = true;
        if self.rows != self.wanted.len() {
            let message = format!("{} has changed meanwhile: {} of {} records were there", self.name, self.rows, self.wanted.len());
            return Err(Trouble::lasting(TroubleKind::Configuration, message));
        }
        Ok(Read::RangeDone(RangeDone { range: 0, part: 0, chunks: self.chunks, rows: self.rows, origin: self.name.as_str().into() }))
    }
}

impl Lane<Batch> for ReplayLane {
    fn read(&mut self, budget: &Budget, stop: &Stop) -> Result<Read<Batch>, Trouble> {
        if self.ended {
            return Ok(Read::End);
        }
        let Ok(permit) = budget.acquire(0, self.limits.bytes * ROOM_PER_CHUNK) else { return Ok(Read::Stopped) };
        if stop.is_draining() {
            return Ok(Read::Stopped);
        }
        let read = self.chunk(permit)?;
        if self.ended {
            budget.leave(0);
        }
        Ok(read)
    }
}
