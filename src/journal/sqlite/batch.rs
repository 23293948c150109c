//! Entries as rows.

use crate::chunk::ChunkId;
use crate::clock::Clock;
use crate::fsm::{Machine, StateId};
use crate::journal::{Admitted, Ending, Entry, RunTransition, SPLIT, SPLIT_STATE, Settled, Split, Transition, Waiting};
use crate::sink::Position;
use crate::source::RangeDone;
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Writes the entries of one run.
pub(super) struct Batch {
    run: i64,
    machine: Arc<Machine>,
    clock: Clock,
}

/// What a batch says about one chunk, so that each is written once.
#[derive(Default)]
struct Latest<'a> {
    admitted: Option<&'a Admitted>,
    moved: Option<&'a Transition>,
    settled: Option<&'a Settled>,
    split: Option<&'a Split>,
    /// None if it has moved since.
    waiting: Option<&'a Waiting>,
}

/// An unsigned number as SQLite stores it.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A digest as it is stored.
pub(super) fn hexadecimal(digest: u64) -> String {
    format!("{digest:016x}")
}

const INSERT_TRANSITION: &str = "INSERT INTO transitions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

impl Batch {
    pub fn new(run: i64, machine: Arc<Machine>, clock: Clock) -> Batch {
        Batch { run, machine, clock }
    }

    fn now(&self) -> i64 {
        integer(self.clock.unix_micros(self.clock.now()))
    }

    pub fn write(&self, connection: &Connection, entries: &[Entry]) -> rusqlite::Result<()> {
        // In order: a chunk comes before its parts.
        let mut latest: BTreeMap<ChunkId, Latest<'_>> = BTreeMap::new();
        for entry in entries {
            match entry {
                Entry::Admitted(admitted) => latest.entry(admitted.chunk).or_default().admitted = Some(admitted),
                Entry::Waiting(waiting) => latest.entry(waiting.chunk).or_default().waiting = Some(waiting),
                Entry::Settled(settled) => latest.entry(settled.chunk).or_default().settled = Some(settled),
                Entry::Transition(transition) => {
                    let chunk = latest.entry(transition.chunk).or_default();
                    if chunk.moved.is_none_or(|other| other.seq < transition.seq) {
                        (chunk.moved, chunk.waiting) = (Some(transition), None);
                    }
                    self.transition(connection, transition)?;
                }
                Entry::Split(split) => {
                    latest.entry(split.chunk).or_default().split = Some(split);
                    self.split(connection, split)?;
                }
                Entry::RangeDone(done) => self.range(connection, done)?,
                Entry::Run(transition) => self.run_transition(connection, transition)?,
            }
        }
        latest.iter().try_for_each(|(chunk, latest)| self.chunk(connection, *chunk, latest))
    }

    fn transition(&self, connection: &Connection, transition: &Transition) -> rusqlite::Result<()> {
        let event = transition.event_name.as_deref().unwrap_or_else(|| self.machine.event_name(transition.event));
        connection.prepare_cached(INSERT_TRANSITION)?.execute(params![
            self.run,
            transition.chunk.range,
            transition.chunk.index,
            transition.chunk.split(),
            transition.seq,
            integer(transition.at_micros),
            event,
            transition.from.map(|state| self.machine.state_name(state)),
            self.machine.state_name(transition.to),
            transition.microstep,
            transition.attempt,
            transition.worker,
            integer(transition.in_state_micros),
            transition.error.as_deref(),
        ])?;
        Ok(())
    }

    fn split(&self, connection: &Connection, split: &Split) -> rusqlite::Result<()> {
        connection.prepare_cached(INSERT_TRANSITION)?.execute(params![
            self.run,
            split.chunk.range,
            split.chunk.index,
            split.chunk.split(),
            split.seq,
            integer(split.at_micros),
            SPLIT,
            self.machine.state_name(split.from),
            SPLIT_STATE,
            0,
            split.attempt,
            split.worker,
            integer(split.in_state_micros),
            &*split.error,
        ])?;
        Ok(())
    }

    fn chunk(&self, connection: &Connection, chunk: ChunkId, latest: &Latest<'_>) -> rusqlite::Result<()> {
        let split = chunk.split();
        if let Some(admitted) = latest.admitted {
            if self.run > 1 && !chunk.is_part() {
                // An earlier run may have split it; what it was read as this time is another matter.
                let delete = "DELETE FROM chunks WHERE range = ?1 AND idx = ?2 AND split <> ''";
                connection.prepare_cached(delete)?.execute(params![chunk.range, chunk.index])?;
            }
            let insert = "INSERT OR REPLACE INTO chunks (range, idx, split, run, part, origin, state, final, attempt, rows, bytes,
                source_digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, '', 0, 0, ?7, ?8, ?9)";
            let size = (integer(admitted.rows), integer(admitted.bytes));
            let digest = admitted.digest.map(hexadecimal);
            let values = params![chunk.range, chunk.index, split, self.run, admitted.part, &*admitted.origin, size.0, size.1, digest];
            connection.prepare_cached(insert)?.execute(values)?;
        }
        let name = |state: StateId| self.machine.state_name(state);
        if let Some(settled) = latest.settled {
            let update = "UPDATE chunks SET run = ?4, state = ?5, final = 1, attempt = ?6, rows_written = ?7, rows_filtered = ?8,
                rows_dead_lettered = ?9, rows_cancelled = ?10, output_at = ?11, output_bytes = ?12, digest = ?13, waits_until = NULL, context = NULL
                WHERE range = ?1 AND idx = ?2 AND split = ?3";
            connection.prepare_cached(update)?.execute(params![
                chunk.range,
                chunk.index,
                split,
                self.run,
                name(settled.state),
                settled.attempt,
                integer(settled.rows.written),
                integer(settled.rows.filtered),
                integer(settled.rows.dead_lettered),
                integer(settled.rows.cancelled),
                settled.placed.at.map(integer),
                integer(settled.placed.bytes),
                settled.placed.digest.map(hexadecimal),
            ])?;
        } else if let Some(ended) = latest.split {
            let update = "UPDATE chunks SET run = ?4, state = ?5, final = 1, attempt = ?6, waits_until = NULL, context = NULL
                WHERE range = ?1 AND idx = ?2 AND split = ?3";
            let values = params![chunk.range, chunk.index, split, self.run, SPLIT_STATE, ended.attempt];
            connection.prepare_cached(update)?.execute(values)?;
        } else if let Some(moved) = latest.moved {
            let update = "UPDATE chunks SET run = ?4, state = ?5, attempt = ?6, waits_until = ?7, context = ?8
                WHERE range = ?1 AND idx = ?2 AND split = ?3 AND NOT final";
            let (until, context) = latest.waiting.map(|waiting| (integer(waiting.until_micros), &*waiting.context)).unzip();
            let values = params![chunk.range, chunk.index, split, self.run, name(moved.to), moved.attempt, until, context];
            connection.prepare_cached(update)?.execute(values)?;
        }
        Ok(())
    }

    fn range(&self, connection: &Connection, done: &RangeDone) -> rusqlite::Result<()> {
        let insert = "INSERT OR REPLACE INTO ranges (range, run, part, origin, chunks, rows) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![done.range, self.run, done.part, &*done.origin, done.chunks, integer(done.rows)];
        connection.prepare_cached(insert)?.execute(values)?;
        Ok(())
    }

    fn run_transition(&self, connection: &Connection, transition: &RunTransition) -> rusqlite::Result<()> {
        let insert = "INSERT INTO run_transitions VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![
            self.run,
            integer(transition.at_micros),
            transition.event,
            &*transition.from,
            &*transition.to,
            transition.reason.as_deref()
        ];
        connection.prepare_cached(insert)?.execute(values)?;
        connection.prepare_cached("UPDATE runs SET status = ?2 WHERE run = ?1")?.execute(params![self.run, &*transition.to])?;
        Ok(())
    }

    pub fn checkpoint(&self, connection: &Connection, positions: &[Position]) -> rusqlite::Result<()> {
        for position in positions {
            let insert = "INSERT INTO checkpoints VALUES (?1, ?2, ?3, ?4, ?5)";
            let values = params![self.run, self.now(), &*position.output, integer(position.bytes), integer(position.rows)];
            connection.prepare_cached(insert)?.execute(values)?;
        }
        Ok(())
    }

    pub fn phase(&self, connection: &Connection, phase: &str) -> rusqlite::Result<()> {
        connection.execute("UPDATE runs SET phase = ?2 WHERE run = ?1", params![self.run, phase])?;
        Ok(())
    }

    pub fn end(&self, connection: &Connection, ending: &Ending) -> rusqlite::Result<()> {
        let update = "UPDATE runs SET ended_at = ?2, status = ?3, phase = ?4, rows_read = ?5, rows_written = ?6, rows_filtered = ?7,
            rows_dead_lettered = ?8, rows_cancelled = ?9, error = ?10 WHERE run = ?1";
        let rows = &ending.rows;
        connection.execute(
            update,
            params![
                self.run,
                self.now(),
                ending.status,
                if ending.complete { "complete" } else { "ended" },
                integer(rows.read),
                integer(rows.written),
                integer(rows.filtered),
                integer(rows.dead_lettered),
                integer(rows.cancelled),
                ending.error,
            ],
        )?;
        Ok(())
    }
}
