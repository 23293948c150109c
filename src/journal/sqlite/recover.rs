//! What earlier runs have done, for a run that goes on from there.

use super::query::{Reader, RunRow};
use crate::chunk::ChunkId;
use crate::journal::{CarriedOver, LeftOff, RowSum};
use crate::sink::Position;
use crate::trouble::{Trouble, TroubleKind};
use rusqlite::Row;
use std::collections::HashMap;
use std::path::Path;

/// A journal's last run, and how far all of its runs together have come.
#[derive(Debug)]
pub struct Earlier {
    /// The last run.
    pub run: RunRow,
    /// What need not be done again.
    carried: CarriedOver,
    /// Rows of each finished range, by its number.
    pub finished: HashMap<u32, u64>,
    /// Chunks that have come to their end in ranges that are not finished.
    ended: Vec<Ended>,
    /// How far each output is durable.
    pub positions: Vec<Position>,
    /// A chunk that is in the output but has not come to its end: it cannot be read again without being written again.
    pub written_twice: Option<ChunkId>,
}

/// A range is finished when it was read to its end and all of its chunks have come to theirs.
const FINISHED: &str = "SELECT r.range, r.part, r.rows FROM ranges r
    WHERE r.chunks = (SELECT count(*) FROM chunks c WHERE c.range = r.range AND c.split = '' AND c.final) ORDER BY r.range";

const CHUNKS: &str = "SELECT range, idx, split, part, state, final, rows, bytes, coalesce(rows_written, 0), coalesce(rows_filtered, 0),
    coalesce(rows_dead_lettered, 0), coalesce(rows_cancelled, 0), output_at, waits_until, context FROM chunks";

const POSITIONS: &str = "SELECT output, bytes, rows FROM checkpoints WHERE rowid IN (SELECT max(rowid) FROM checkpoints GROUP BY output)";

/// A sink's `done` is written down with the checkpoint that covers it, so it tells what is in the output.
const WRITTEN: &str = "SELECT c.range || '.' || c.idx || c.split FROM chunks c JOIN transitions t
    ON t.run = c.run AND t.range = c.range AND t.idx = c.idx AND t.split = c.split
    WHERE NOT c.final AND t.event = ?1 LIMIT 1";

/// A chunk as the journal has it.
struct Known {
    id: Option<ChunkId>,
    part: u32,
    left: LeftOff,
    is_final: bool,
    rows: u64,
    bytes: usize,
    ends: RowSum,
    output_at: Option<u64>,
}

/// A chunk that has come to its end.
#[derive(Debug)]
struct Ended {
    id: ChunkId,
    part: u32,
    state: String,
    rows: u64,
    bytes: usize,
    ends: RowSum,
    output_at: Option<u64>,
}

impl Earlier {
    /// Reads the journal at `path`; `None` when there is none, or no run has begun in it. `written` is the event that says that a
    /// sink has a chunk.
    ///
    /// # Errors
    /// When the file is no journal, or cannot be read.
    pub fn read(path: &Path, written: &str) -> Result<Option<Earlier>, Trouble> {
        if !path.exists() {
            return Ok(None);
        }
        match Reader::open_unless_empty(path)? {
            Some(reader) => reader.at_once(|reader| Earlier::of(reader, written)),
            None => Ok(None),
        }
    }

    fn of(reader: &Reader, written: &str) -> Result<Option<Earlier>, Trouble> {
        let Some(run) = reader.runs()?.pop() else { return Ok(None) };
        let ranges = reader.all(FINISHED, &[], |row| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?)))?;
        let finished: HashMap<u32, u64> = ranges.iter().map(|(range, _, rows): &(u32, u32, u64)| (*range, *rows)).collect();
        let mut carried = CarriedOver::default();
        carried.rows.read = finished.values().sum();
        carried.ranges = ranges.iter().map(|(range, part, _)| (*part, *range)).collect();
        let mut ended = Vec::new();
        for chunk in reader.all(CHUNKS, &[], known)? {
            let id = chunk.id.ok_or_else(|| Trouble::lasting(TroubleKind::Configuration, "the journal has a chunk without a valid id"))?;
            if !chunk.is_final {
                // A chunk in no state yet was read, and nothing more.
                carried.begun.extend((!chunk.left.state.is_empty()).then_some((id, chunk.left)));
                continue;
            }
            add(&mut carried.rows, &chunk.ends);
            if !finished.contains_key(&id.range) {
                let Known { part, left, rows, bytes, ends, output_at, .. } = chunk;
                ended.push(Ended { id, part, state: left.state, rows, bytes, ends, output_at });
            }
        }
        let written_twice = reader.all(WRITTEN, &[written.to_owned().into()], |row| row.get::<_, String>(0))?;
        Ok(Some(Earlier {
            run,
            carried,
            finished,
            ended,
            positions: reader.all(POSITIONS, &[], position)?,
            written_twice: written_twice.first().and_then(|chunk| chunk.parse().ok()),
        }))
    }

    /// What need not be done again.
    pub fn carried(&self) -> CarriedOver {
        let ended = self.ended.iter().map(|chunk| (chunk.part, chunk.id)).collect();
        CarriedOver { ended, ..self.carried.clone() }
    }

    /// Rows and bytes, as read, of chunks that have come to their end in ranges that are not finished.
    pub fn ended(&self) -> HashMap<ChunkId, (u64, usize)> {
        self.ended.iter().map(|chunk| (chunk.id, (chunk.rows, chunk.bytes))).collect()
    }

    /// Gives up what was done of ranges that are not finished, so that each range is read under one snapshot as a whole. Only where
    /// chunks were written in order: then all of that lies at the end of the outputs. `name` is the output of a part.
    pub fn keep_whole_ranges(&mut self, name: impl Fn(u32) -> Option<String>) {
        for chunk in std::mem::take(&mut self.ended) {
            subtract(&mut self.carried.rows, &chunk.ends);
            let output = name(chunk.part);
            let position = self.positions.iter_mut().find(|position| Some(&*position.output) == output.as_deref());
            if let (Some(position), Some(at)) = (position, chunk.output_at) {
                position.bytes = position.bytes.min(at);
                position.rows -= chunk.ends.written;
            }
            self.carried.begun.insert(chunk.id, LeftOff { state: chunk.state, ..LeftOff::default() });
        }
    }

    /// Whether the outputs have their final names.
    pub fn is_complete(&self) -> bool {
        self.run.phase == "complete"
    }

    /// Whether the last run was about to give the outputs their final names: nothing is left to be read.
    pub fn was_finishing(&self) -> bool {
        self.run.phase == "finishing"
    }
}

/// A number that was stored from an unsigned one.
fn number<T: TryFrom<i64> + Default>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let value: i64 = row.get(column)?;
    T::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn known(row: &Row<'_>) -> rusqlite::Result<Known> {
    let id = format!("{}.{}{}", row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?);
    Ok(Known {
        id: id.parse().ok(),
        part: number(row, 3)?,
        left: LeftOff {
            state: row.get(4)?,
            not_before_micros: row.get::<_, Option<i64>>(13)?.map(i64::unsigned_abs),
            context: row.get::<_, Option<String>>(14)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        },
        is_final: row.get(5)?,
        rows: number(row, 6)?,
        bytes: number(row, 7)?,
        ends: RowSum {
            read: 0,
            written: number(row, 8)?,
            filtered: number(row, 9)?,
            dead_lettered: number(row, 10)?,
            cancelled: number(row, 11)?,
        },
        output_at: row.get::<_, Option<i64>>(12)?.and_then(|at| u64::try_from(at).ok()),
    })
}

fn add(sum: &mut RowSum, ends: &RowSum) {
    sum.written += ends.written;
    sum.filtered += ends.filtered;
    sum.dead_lettered += ends.dead_lettered;
    sum.cancelled += ends.cancelled;
}

fn subtract(sum: &mut RowSum, ends: &RowSum) {
    sum.written -= ends.written;
    sum.filtered -= ends.filtered;
    sum.dead_lettered -= ends.dead_lettered;
    sum.cancelled -= ends.cancelled;
}

fn position(row: &Row<'_>) -> rusqlite::Result<Position> {
    Ok(Position { output: row.get::<_, String>(0)?.into(), bytes: number(row, 1)?, rows: number(row, 2)? })
}
