//! What earlier runs have done, for a run that goes on from there.

use super::query::{Reader, RunRow};
use super::schema;
use crate::chunk::ChunkId;
use crate::failpoint::step;
use crate::journal::{AsRead, CarriedOver, LeftOff, RowSum};
use crate::sink::Position;
use crate::trouble::{Trouble, TroubleKind};
use rusqlite::{Connection, OpenFlags, Row};
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
    /// Where the last chunk of each part ends in its output.
    pub lengths: HashMap<u32, u64>,
    was_finishing: bool,
    /// A chunk that is in the output but has not come to its end: it cannot be read again without being written again.
    pub written_twice: Option<ChunkId>,
}

/// A range is finished when it was read to its end and all of its chunks, and all parts of them, have come to theirs.
const FINISHED: &str = "SELECT r.range, r.part, r.rows FROM ranges r
    WHERE r.chunks = (SELECT count(*) FROM chunks c WHERE c.range = r.range AND c.split = '' AND c.final)
    AND NOT EXISTS (SELECT 1 FROM chunks c WHERE c.range = r.range AND NOT c.final) ORDER BY r.range";

const CHUNKS: &str = "SELECT range, idx, split, part, state, final, rows, bytes, coalesce(rows_written, 0), coalesce(rows_filtered, 0),
    coalesce(rows_dead_lettered, 0), coalesce(rows_cancelled, 0), waits_until, context, source_digest, final AND rows_written IS NULL FROM chunks";

const POSITIONS: &str = "SELECT output, bytes, rows FROM checkpoints WHERE rowid IN (SELECT max(rowid) FROM checkpoints GROUP BY output)";

const LENGTHS: &str = "SELECT part, max(output_at + output_bytes) FROM chunks WHERE final AND output_at IS NOT NULL GROUP BY part";

/// A sink's `done` is written down with the checkpoint that covers it, so it tells what is in the output.
const WRITTEN: &str = "SELECT c.range || '.' || c.idx || c.split FROM chunks c JOIN transitions t
    ON t.run = c.run AND t.range = c.range AND t.idx = c.idx AND t.split = c.split
    WHERE NOT c.final AND t.event IN (SELECT value FROM json_each(?1)) LIMIT 1";

/// A chunk as the journal has it.
struct Known {
    id: Option<ChunkId>,
    part: u32,
    left: LeftOff,
    is_final: bool,
    /// It goes on as two halves.
    is_split: bool,
    rows: u64,
    bytes: usize,
    ends: RowSum,
    source_digest: Option<u64>,
}

/// A chunk that has come to its end.
#[derive(Debug)]
struct Ended {
    id: ChunkId,
    part: u32,
    rows: u64,
    bytes: usize,
    source_digest: Option<u64>,
}

impl Earlier {
    /// Reads the journal at `path`; `None` when there is none, or no run has begun in it. `written` are the events that say that
    /// a sink has a chunk.
    ///
    /// # Errors
    /// When the file is no journal, or cannot be read.
    pub fn read(path: &Path, written: &[String]) -> Result<Option<Earlier>, Trouble> {
        if !path.exists() {
            return Ok(None);
        }
        roll_back(path);
        match Reader::open_unless_empty(path)? {
            Some(reader) => reader.at_once(|reader| Earlier::of(reader, written)),
            None => Ok(None),
        }
    }

    fn of(reader: &Reader, written: &[String]) -> Result<Option<Earlier>, Trouble> {
        let mut runs = reader.runs()?;
        let was_finishing = runs.iter().any(|run| run.phase == "finishing");
        let Some(run) = runs.pop() else { return Ok(None) };
        let ranges = reader.all(FINISHED, &[], |row| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?)))?;
        let finished: HashMap<u32, u64> = ranges.iter().map(|(range, _, rows): &(u32, u32, u64)| (*range, *rows)).collect();
        let mut carried = CarriedOver::default();
        carried.rows.read = finished.values().sum();
        carried.ranges = ranges.iter().map(|(range, part, _)| (*part, *range)).collect();
        let mut ended = Vec::new();
        reader.each(CHUNKS, known, |chunk| {
            let id = chunk.id.ok_or_else(|| Trouble::lasting(TroubleKind::Configuration, "the journal has a chunk without a valid id"))?;
            if !chunk.is_final {
                // A chunk in no state yet was read, and nothing more.
                carried.begun.extend((!chunk.left.state.is_empty()).then_some((id, chunk.left)));
                return Ok(());
            }
            if chunk.is_split {
                let Known { part, rows, bytes, source_digest: digest, .. } = chunk;
                let as_read = AsRead { part, rows, bytes: bytes as u64, digest };
                carried.split.extend((!finished.contains_key(&id.range)).then_some((id, as_read)));
                return Ok(());
            }
            add(&mut carried.rows, &chunk.ends);
            if !finished.contains_key(&id.range) {
                let Known { part, rows, bytes, source_digest, .. } = chunk;
                ended.push(Ended { id, part, rows, bytes, source_digest });
            }
            Ok(())
        })?;
        let written = serde_json::to_string(written).unwrap_or_default();
        let written_twice = reader.all(WRITTEN, &[written.into()], |row| row.get::<_, String>(0))?;
        Ok(Some(Earlier {
            run,
            was_finishing,
            lengths: reader.all(LENGTHS, &[], |row| Ok((number(row, 0)?, number(row, 1)?)))?.into_iter().collect(),
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

    /// Rows, bytes and digest, as read, of chunks that have come to their end, with all their parts, in ranges that are not finished.
    pub fn ended(&self) -> HashMap<ChunkId, (u64, usize, Option<u64>)> {
        let carried = self.carried();
        let split =
            carried.split.iter().map(|(id, read)| (*id, (read.rows, usize::try_from(read.bytes).unwrap_or(usize::MAX), read.digest)));
        let whole = self.ended.iter().map(|chunk| (chunk.id, (chunk.rows, chunk.bytes, chunk.source_digest)));
        let done = carried.need_not_be_read();
        whole.chain(split).filter(|(id, _)| done.contains(id)).collect()
    }

    /// Whether the outputs have their final names.
    pub fn is_complete(&self) -> bool {
        self.run.phase == "complete"
    }

    /// Whether a run was cut off while it gave the outputs their final names: nothing is left to be read, however often those behind it
    /// were cut off too.
    pub fn was_finishing(&self) -> bool {
        self.was_finishing
    }
}

/// Undoes what a run was killed in the middle of writing, where there is no write-ahead log. A reader may not do that. What goes wrong
/// here the reader meets too, and says.
fn roll_back(path: &Path) {
    let mut undo = path.as_os_str().to_owned();
    undo.push("-journal");
    if Path::new(&undo).metadata().is_ok_and(|undo| undo.len() > 0) {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let _ = step("journal", "undo", || Connection::open_with_flags(path, flags).and_then(|connection| schema::file_kind(&connection)));
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
            not_before_micros: row.get::<_, Option<i64>>(12)?.map(i64::unsigned_abs),
            context: row.get::<_, Option<String>>(13)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        },
        is_final: row.get(5)?,
        is_split: row.get(15)?,
        rows: number(row, 6)?,
        bytes: number(row, 7)?,
        ends: RowSum {
            read: 0,
            written: number(row, 8)?,
            filtered: number(row, 9)?,
            dead_lettered: number(row, 10)?,
            cancelled: number(row, 11)?,
        },
        source_digest: row.get::<_, Option<String>>(14)?.and_then(|digest| u64::from_str_radix(&digest, 16).ok()),
    })
}

fn add(sum: &mut RowSum, ends: &RowSum) {
    sum.written += ends.written;
    sum.filtered += ends.filtered;
    sum.dead_lettered += ends.dead_lettered;
    sum.cancelled += ends.cancelled;
}

fn position(row: &Row<'_>) -> rusqlite::Result<Position> {
    Ok(Position { output: row.get::<_, String>(0)?.into(), bytes: number(row, 1)?, rows: number(row, 2)? })
}
