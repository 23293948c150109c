//! Giving up what was done of ranges that are not finished, so that each is read again as a whole: where a range read later need not have
//! the same rows.
//!
//! Outputs, dead letter and journal are cut back to one place, and the journal first: behind the place that it names, a file may have
//! bytes that do not count.

use super::batch::integer;
use super::{trouble, writer};
use crate::chunk::ChunkId;
use crate::clock::Clock;
use crate::failpoint::{durable_journal, step};
use crate::journal::DISCARDED;
use crate::trouble::{Trouble, TroubleKind};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

/// Every part's lowest range that is not finished, where there is one.
const UNFINISHED: &str =
    "SELECT part, min(range) FROM (SELECT part, range FROM chunks UNION SELECT part, range FROM ranges) WHERE range NOT IN (
        SELECT r.range FROM ranges r WHERE r.chunks = (SELECT count(*) FROM chunks c WHERE c.range = r.range AND c.split = '' AND c.final)
        AND NOT EXISTS (SELECT 1 FROM chunks c WHERE c.range = r.range AND NOT c.final)
    ) GROUP BY part";

const POSITION: &str = "SELECT bytes, rows FROM checkpoints WHERE output = ?1 ORDER BY rowid DESC LIMIT 1";

/// Where the chunks from a range on begin in their output, and how many rows of them it has.
const TAIL: &str = "SELECT min(output_at), coalesce(sum(rows_written), 0) FROM chunks
    WHERE part = ?1 AND range >= ?2 AND final AND output_at IS NOT NULL";

const SET_POSITION: &str = "INSERT INTO checkpoints (run, at, output, bytes, rows) SELECT max(run), ?1, ?2, ?3, ?4 FROM runs";

/// The walks of what is given up end here.
const DISCARD: &str =
    "INSERT INTO transitions (run, range, idx, split, seq, at, event, from_state, to_state, microstep, attempt, worker, in_state)
    SELECT c.run, c.range, c.idx, c.split, 1 + max(t.seq), ?3, ?4, c.state, c.state, 0, c.attempt, 0, 0
    FROM chunks c JOIN transitions t ON (t.run, t.range, t.idx, t.split) = (c.run, c.range, c.idx, c.split)
    WHERE c.part = ?1 AND c.range >= ?2 GROUP BY c.range, c.idx, c.split";

/// What ranges an output has from somewhere on: from which range on each part is given up.
type Cuts = BTreeMap<u32, u32>;

/// A line of the dead letter, but for what does not matter here.
#[derive(Deserialize)]
struct Record {
    chunk: String,
}

/// Gives up everything that the journal at `path` knows of ranges from the lowest unfinished one of each part on. Chunks must have been
/// written in order: then all of that lies at the end of the outputs. `outputs[part]` is the name of each part's output, and
/// `dead_letter` the name and the file of the rows that were set aside.
///
/// Says whether there was anything. Reading the journal again then shows the rest. Nothing but the journal is changed.
///
/// # Errors
/// [`TroubleKind::Busy`] when a run is writing it; else when journal or dead letter cannot be read, or the journal cannot be written.
pub fn unfinished_ranges<N: AsRef<str>>(path: &Path, outputs: &[N], dead_letter: Option<(&str, &Path)>) -> Result<bool, Trouble> {
    let failed = |error: rusqlite::Error| trouble(path, &Arc::new(error));
    // It is there, so that its permissions stay as they are.
    let (connection, _claim) = writer::open(path, 0o600)?;
    let mut cuts = unfinished(&connection).map_err(failed)?;
    if cuts.is_empty() {
        return Ok(false);
    }
    let dead = match dead_letter {
        Some((name, file)) => cut_dead_letter(&connection, &mut cuts, name, file, &failed)?.map(|place| (name, place)),
        None => None,
    };
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    step("journal", "give_up", || cut(&connection, &cuts, outputs, dead)).map_err(failed)?;
    durable_journal(connection.path());
    Ok(true)
}

fn unfinished(connection: &Connection) -> rusqlite::Result<Cuts> {
    connection.prepare(UNFINISHED)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// How far an output is durable: bytes and rows.
fn position(connection: &Connection, output: &str) -> rusqlite::Result<Option<(u64, u64)>> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs()));
    connection.query_row(POSITION, [output], read).optional()
}

/// Finds the place from which on the dead letter is of ranges that are given up. Where records of other ranges stand behind it (each part
/// has its own order), those ranges, and all behind them, are given up too.
fn cut_dead_letter(
    connection: &Connection,
    cuts: &mut Cuts,
    name: &str,
    file: &Path,
    failed: &impl Fn(rusqlite::Error) -> Trouble,
) -> Result<Option<(u64, u64)>, Trouble> {
    let Some((bytes, _)) = position(connection, name).map_err(failed)?.filter(|(bytes, _)| *bytes > 0) else { return Ok(None) };
    let parts = connection.prepare("SELECT DISTINCT range, part FROM chunks").and_then(|mut statement| {
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<BTreeMap<u32, u32>>>()
    });
    let parts = parts.map_err(failed)?;
    let unreadable = |error: std::io::Error| {
        let message = format!("{} cannot be read, in which an earlier run wrote {bytes} bytes", file.display());
        Trouble::lasting(TroubleKind::Configuration, message).because(error)
    };
    loop {
        let mut from = BufReader::new(File::open(file).map_err(unreadable)?.take(bytes));
        let (mut at, mut rows, mut place, mut lowered) = (0, 0, None, false);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).map_err(unreadable)? > 0 {
            let range = serde_json::from_slice(&line).ok().and_then(|record: Record| Some(record.chunk.parse::<ChunkId>().ok()?.range));
            let part = range.and_then(|range| parts.get(&range).copied());
            let (Some(range), Some(part)) = (range, part) else {
                let message = format!("{}: the record at byte {at} is of no chunk that the journal knows", file.display());
                return Err(Trouble::lasting(TroubleKind::Configuration, message));
            };
            if cuts.get(&part).is_some_and(|cut| range >= *cut) {
                place.get_or_insert((at, rows));
            } else if place.is_some() {
                cuts.insert(part, range);
                lowered = true;
            }
            at += line.len() as u64;
            rows += 1;
            line.clear();
        }
        if !lowered {
            return Ok(place);
        }
    }
}

fn cut<N: AsRef<str>>(connection: &Connection, cuts: &Cuts, outputs: &[N], dead: Option<(&str, (u64, u64))>) -> rusqlite::Result<()> {
    let clock = Clock::real();
    let at = integer(clock.unix_micros(clock.now()));
    let transaction = connection.unchecked_transaction()?;
    for (part, range) in cuts {
        let output = usize::try_from(*part).ok().and_then(|part| outputs.get(part)).map(AsRef::as_ref);
        let tail = transaction.query_row(TAIL, [part, range], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, i64>(1)?)))?;
        if let (Some(output), (Some(from), rows)) = (output, tail)
            && let Some((_, rows_before)) = position(&transaction, output)?
        {
            transaction.execute(SET_POSITION, params![at, output, from, integer(rows_before) - rows])?;
        }
        transaction.execute(DISCARD, params![part, range, at, DISCARDED])?;
        transaction.execute("DELETE FROM chunks WHERE part = ?1 AND range >= ?2", [part, range])?;
        transaction.execute("DELETE FROM ranges WHERE part = ?1 AND range >= ?2", [part, range])?;
    }
    if let Some((name, (bytes, rows))) = dead {
        transaction.execute(SET_POSITION, params![at, name, integer(bytes), integer(rows)])?;
    }
    transaction.commit()
}
