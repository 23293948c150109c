//! Reading a journal: opened read-only, left as it is, also while a run is writing it.

use super::schema::{self, FileKind};
use crate::chunk::ChunkId;
use crate::journal::{ChunkRows, RowSum};
use crate::trouble::{Trouble, TroubleKind};
use rusqlite::{Connection, OpenFlags, Row, params_from_iter};
use serde::Serialize;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a reader waits for a writer, where they cannot work side by side.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A journal, open for reading.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

/// One run of the program, as in the table `runs`.
#[derive(Clone, Debug, Serialize)]
pub struct RunRow {
    /// Its number in this journal, from 1.
    pub run: i64,
    /// Microseconds since the Unix epoch.
    pub started_at: i64,
    /// The same; none while it is on, or if it was killed.
    pub ended_at: Option<i64>,
    /// State of the run's own lifecycle.
    pub status: String,
    /// `running`, `finishing`, `complete` or `ended`.
    pub phase: String,
    /// The process.
    pub pid: u32,
    /// Who wrote it.
    pub program: String,
    /// Where the output goes.
    pub target: String,
    /// What is read.
    pub source: serde_json::Value,
    /// The snapshot it is read under.
    pub snapshot: serde_json::Value,
    /// How it is cut.
    pub plan: serde_json::Value,
    /// What decides how the output looks.
    pub settings: serde_json::Value,
    /// The definition that chunks live by, as JSON text.
    #[serde(skip)]
    pub definition: String,
    /// Its hash.
    pub definition_hash: String,
    /// Where its rows ended; none before its end.
    pub rows: Option<RowSum>,
    /// The error it ended with.
    pub error: Option<String>,
}

/// Chunks of one state.
#[derive(Clone, Debug, Serialize)]
pub struct StateCount {
    /// The state.
    pub state: String,
    /// Chunks in it.
    pub chunks: i64,
    /// Their rows.
    pub rows: i64,
    /// Their bytes, as read.
    pub bytes: i64,
}

/// Ranges that were read to their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RangesDone {
    /// How many.
    pub done: i64,
    /// Their rows, by the origin's count.
    pub rows: i64,
}

/// A chunk that took long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlowChunk {
    /// Its id.
    pub chunk: String,
    /// Its state.
    pub state: String,
    /// Microseconds from its first transition to its last.
    pub micros: i64,
}

/// An error and how often it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// The error, as the journal has it.
    pub error: String,
    /// How often.
    pub count: i64,
}

/// One chunk, as in the table `chunks`.
#[derive(Clone, Debug, Serialize)]
pub struct ChunkRow {
    /// Its id.
    pub chunk: String,
    /// The run in which it last moved.
    pub run: i64,
    /// The output it belongs to.
    pub part: i64,
    /// Where it came from.
    pub origin: String,
    /// Its state.
    pub state: String,
    /// Whether that is final.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// How often its latest invocation was started.
    pub attempt: i64,
    /// Its rows, as read.
    pub rows: i64,
    /// Its bytes, as read.
    pub bytes: i64,
    /// Where they ended; none before the chunk's end, and none of a chunk that was split: its parts have them.
    pub rows_by_end: Option<ChunkRows>,
    /// Where it begins in its output.
    pub output_at: Option<i64>,
    /// How many bytes of the output it is.
    pub output_bytes: Option<i64>,
    /// Digest of these (XXH3, hexadecimal).
    pub digest: Option<String>,
}

impl ChunkRow {
    /// Whether it has ended in favour of its halves.
    pub fn is_split(&self) -> bool {
        self.is_final && self.rows_by_end.is_none()
    }
}

/// One transition, as in the table `transitions`.
#[derive(Clone, Debug, Serialize)]
pub struct TransitionRow {
    /// Place in the journal.
    pub id: i64,
    /// The run.
    pub run: i64,
    /// The chunk.
    pub chunk: String,
    /// Its how many-th transition in this run, from 0.
    pub seq: i64,
    /// Microseconds since the Unix epoch.
    pub at: i64,
    /// What happened.
    pub event: String,
    /// The state before.
    pub from: Option<String>,
    /// The state after.
    pub to: String,
    /// Place in the macrostep.
    pub microstep: i64,
    /// How often the latest invocation had been started.
    pub attempt: i64,
    /// Worker, or 0.
    pub worker: i64,
    /// Microseconds spent in the state before.
    pub in_state: i64,
    /// The error that caused it.
    pub error: Option<String>,
}

/// Which transitions to show.
#[derive(Clone, Debug, Default)]
pub struct TransitionFilter {
    /// From or to this state.
    pub state: Option<String>,
    /// Caused by this event.
    pub event: Option<String>,
    /// At this moment (microseconds since the Unix epoch) or later.
    pub since: Option<i64>,
    /// Of this chunk.
    pub chunk: Option<ChunkId>,
    /// Behind this place in the journal.
    pub after: Option<i64>,
}

impl Reader {
    /// Opens the journal at `path`.
    ///
    /// # Errors
    /// When there is none, or the file is something else, damaged, or from another version.
    pub fn open(path: &Path) -> Result<Reader, Trouble> {
        let empty = || Trouble::lasting(TroubleKind::Configuration, format!("{}: an empty file, and no journal", path.display()));
        Reader::open_unless_empty(path)?.ok_or_else(empty)
    }

    /// The same, for who can do without: `None` when the file has nothing in it yet, as a run leaves it that was killed while it began.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_unless_empty(path: &Path) -> Result<Option<Reader>, Trouble> {
        let wrong = |what: &str| Trouble::lasting(TroubleKind::Configuration, format!("{}: {what}", path.display()));
        if !path.is_file() {
            return Err(wrong("there is no such journal"));
        }
        let damaged = |error| wrong("not a journal, or a damaged one").because(error);
        let connection = connect(path).map_err(damaged)?;
        match schema::file_kind(&connection).map_err(damaged)? {
            FileKind::Journal => Ok(Some(Reader { connection, path: path.to_owned() })),
            FileKind::OtherVersion(version) => {
                Err(wrong(&format!("a journal of version {version}; this program reads version {}", schema::VERSION)))
            }
            FileKind::Empty => Ok(None),
            FileKind::Foreign => Err(wrong("an SQLite database, but not a journal")),
        }
    }

    fn failed(&self, error: rusqlite::Error) -> Trouble {
        let shown = self.path.display();
        let trouble = match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                Trouble::lasting(TroubleKind::Configuration, format!("{shown}: the journal is damaged"))
            }
            _ => Trouble::lasting(TroubleKind::Io, format!("{shown}: the journal cannot be read")),
        };
        trouble.because(error)
    }

    pub(super) fn all<T>(
        &self,
        sql: &str,
        values: &[rusqlite::types::Value],
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Trouble> {
        let query = || -> rusqlite::Result<Vec<T>> {
            self.connection.prepare(sql)?.query_map(params_from_iter(values), |row| read(row))?.collect()
        };
        query().map_err(|error| self.failed(error))
    }

    /// Reads several things as they were at one moment, also while a run is on.
    ///
    /// # Errors
    /// When the journal cannot be read, or `read` says so.
    pub fn at_once<T>(&self, read: impl FnOnce(&Reader) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let failed = |error| self.failed(error);
        self.connection.execute_batch("BEGIN").map_err(failed)?;
        let result = read(self);
        // It read only, so that its end cannot lose anything.
        let _ = self.connection.execute_batch("ROLLBACK");
        result
    }

    /// Gives the answer row by row, for what may be too much to be kept.
    pub(super) fn each<T>(
        &self,
        sql: &str,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
        mut each: impl FnMut(T) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let failed = |error| self.failed(error);
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            each(read(row).map_err(failed)?)?;
        }
        Ok(())
    }

    /// The chunks that are in an output, as they lie there, one output behind the other.
    ///
    /// # Errors
    /// When the journal cannot be read, or `each` says so.
    pub(super) fn placed(&self, each: impl FnMut(ChunkRow) -> Result<(), Trouble>) -> Result<(), Trouble> {
        let sql = format!("SELECT {CHUNK} FROM chunks WHERE final AND output_at IS NOT NULL ORDER BY part, output_at, output_bytes");
        self.each(&sql, chunk, each)
    }

    /// All runs, the first one first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn runs(&self) -> Result<Vec<RunRow>, Trouble> {
        let sql = "SELECT run, started_at, ended_at, status, phase, pid, program, target, source, snapshot, plan, settings, definition,
            definition_hash, rows_read, rows_written, rows_filtered, rows_dead_lettered, rows_cancelled, error FROM runs ORDER BY run";
        self.all(sql, &[], |row| {
            let json = |column: usize| {
                Ok::<serde_json::Value, rusqlite::Error>(
                    row.get::<_, Option<String>>(column)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
                )
            };
            let rows = counts(row, 14)?.map(|[read, written, filtered, dead_lettered, cancelled]| RowSum {
                read,
                written,
                filtered,
                dead_lettered,
                cancelled,
            });
            Ok(RunRow {
                run: row.get(0)?,
                started_at: row.get(1)?,
                ended_at: row.get(2)?,
                status: row.get(3)?,
                phase: row.get(4)?,
                pid: row.get(5)?,
                program: row.get(6)?,
                target: row.get(7)?,
                source: json(8)?,
                snapshot: json(9)?,
                plan: json(10)?,
                settings: json(11)?,
                definition: row.get(12)?,
                definition_hash: row.get(13)?,
                rows,
                error: row.get(19)?,
            })
        })
    }

    /// How many chunks are in which state. Rows and bytes of a chunk that was split are counted with its parts.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn states(&self) -> Result<Vec<StateCount>, Trouble> {
        let sql = format!(
            "SELECT state, count(*), coalesce(sum(rows) FILTER (WHERE NOT {IS_SPLIT}), 0), coalesce(sum(bytes) FILTER (WHERE NOT {IS_SPLIT}), 0)
            FROM chunks GROUP BY state ORDER BY min(final), count(*) DESC"
        );
        self.all(&sql, &[], |row| Ok(StateCount { state: row.get(0)?, chunks: row.get(1)?, rows: row.get(2)?, bytes: row.get(3)? }))
    }

    /// The ranges that were read to their end.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn ranges(&self) -> Result<RangesDone, Trouble> {
        let sql = "SELECT count(*), coalesce(sum(rows), 0) FROM ranges";
        let sums = self.all(sql, &[], |row| Ok(RangesDone { done: row.get(0)?, rows: row.get(1)? }))?;
        Ok(sums.first().copied().unwrap_or_default())
    }

    /// The `count` chunks that took longest from their first transition to their last, the slowest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn slowest(&self, count: u32) -> Result<Vec<SlowChunk>, Trouble> {
        let sql = "SELECT range || '.' || idx || split, max(at) - min(at) FROM transitions GROUP BY run, range, idx, split ORDER BY 2 DESC LIMIT ?1";
        let slow = self.all(sql, &[count.into()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let slow_chunk = |(chunk, micros): (String, i64)| {
            let row = chunk.parse().ok().map_or(Ok(None), |id| self.chunk(id))?;
            Ok(SlowChunk { chunk, state: row.map(|row| row.state).unwrap_or_default(), micros })
        };
        slow.into_iter().map(slow_chunk).collect()
    }

    /// The `count` most frequent errors, the most frequent first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn errors(&self, count: u32) -> Result<Vec<ErrorCount>, Trouble> {
        let sql = "SELECT error, count(*) FROM transitions WHERE error IS NOT NULL GROUP BY error ORDER BY 2 DESC, 1 LIMIT ?1";
        self.all(sql, &[count.into()], |row| Ok(ErrorCount { error: row.get(0)?, count: row.get(1)? }))
    }

    /// Chunks in order, those of one state or all.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn chunks(&self, state: Option<&str>) -> Result<Vec<ChunkRow>, Trouble> {
        let filter = if state.is_some() { "WHERE state = ?1" } else { "" };
        let values: Vec<_> = state.iter().map(|state| (*state).to_owned().into()).collect();
        self.all(&format!("SELECT {CHUNK} FROM chunks {filter} ORDER BY range, idx, split"), &values, chunk)
    }

    /// One chunk; none if the journal does not know it.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn chunk(&self, id: ChunkId) -> Result<Option<ChunkRow>, Trouble> {
        let values = [id.range.into(), id.index.into(), id.split().into()];
        let sql = format!("SELECT {CHUNK} FROM chunks WHERE range = ?1 AND idx = ?2 AND split = ?3");
        Ok(self.all(&sql, &values, chunk)?.pop())
    }

    /// One chunk's transitions, in the order in which it made them.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn walk(&self, id: ChunkId) -> Result<Vec<TransitionRow>, Trouble> {
        let mut walk = self.transitions(&TransitionFilter { chunk: Some(id), ..TransitionFilter::default() })?;
        walk.sort_by_key(|row| (row.run, row.seq));
        Ok(walk)
    }

    /// Transitions in the order they were written down: not always the order in which they were made, since each thread of a run gathers
    /// its own for a moment. Those of one chunk are told apart by their `seq`.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn transitions(&self, filter: &TransitionFilter) -> Result<Vec<TransitionRow>, Trouble> {
        let mut conditions = vec!["1"];
        let mut values: Vec<rusqlite::types::Value> = Vec::new();
        let mut add = |condition, value: rusqlite::types::Value| {
            conditions.push(condition);
            values.push(value);
        };
        if let Some(state) = &filter.state {
            add("? IN (from_state, to_state)", state.clone().into());
        }
        if let Some(event) = &filter.event {
            add("event = ?", event.clone().into());
        }
        if let Some(since) = filter.since {
            add("at >= ?", since.into());
        }
        if let Some(after) = filter.after {
            add("rowid > ?", after.into());
        }
        if let Some(id) = filter.chunk {
            add("range = ?", id.range.into());
            add("idx = ?", id.index.into());
            add("split = ?", id.split().into());
        }
        let sql = format!("SELECT {TRANSITION} FROM transitions WHERE {} ORDER BY rowid", conditions.join(" AND "));
        self.all(&sql, &values, transition)
    }

    /// All transitions of all chunks, each chunk's together and in order.
    ///
    /// # Errors
    /// When the journal cannot be read, or `each` says so.
    pub fn walks<E: From<Trouble>>(&self, mut each: impl FnMut(TransitionRow) -> Result<(), E>) -> Result<(), E> {
        let sql = format!("SELECT {TRANSITION} FROM transitions ORDER BY range, idx, split, run, seq");
        let failed = |error| self.failed(error);
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            each(transition(row).map_err(failed)?)?;
        }
        Ok(())
    }

    /// What each range is said to hold, and what of it the journal has.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn range_sums(&self) -> Result<Vec<RangeSum>, Trouble> {
        let sql = "SELECT r.range, r.chunks, r.rows, count(c.idx), coalesce(sum(c.rows), 0)
            FROM ranges r LEFT JOIN chunks c ON c.range = r.range AND c.split = '' GROUP BY r.range ORDER BY r.range";
        self.all(sql, &[], |row| {
            Ok(RangeSum { range: row.get(0)?, chunks: row.get(1)?, rows: row.get(2)?, chunks_found: row.get(3)?, rows_found: row.get(4)? })
        })
    }

    /// Moves of the run itself, in order.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn run_transitions(&self, run: i64) -> Result<Vec<RunMove>, Trouble> {
        let sql = "SELECT at, event, from_state, to_state, reason FROM run_transitions WHERE run = ?1 ORDER BY rowid";
        self.all(sql, &[run.into()], |row| {
            Ok(RunMove { at: row.get(0)?, event: row.get(1)?, from: row.get(2)?, to: row.get(3)?, reason: row.get(4)? })
        })
    }
}

/// A range by its origin's count, and by what the journal has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeSum {
    /// Which range.
    pub range: i64,
    /// Chunks it had.
    pub chunks: i64,
    /// Rows it had.
    pub rows: i64,
    /// Chunks in the journal.
    pub chunks_found: i64,
    /// Their rows.
    pub rows_found: i64,
}

/// One move of a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunMove {
    /// Microseconds since the Unix epoch.
    pub at: i64,
    /// What happened.
    pub event: String,
    /// The state before.
    pub from: String,
    /// The state after.
    pub to: String,
    /// Why.
    pub reason: Option<String>,
}

/// Reading needs no more than the file itself, also where nothing can be written, except in write-ahead mode: SQLite then makes files
/// beside it. Where such a journal has no log, nobody is writing, and it can be told that nothing will change.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let name: String = path
        .to_string_lossy()
        .chars()
        .flat_map(|character| match character {
            '?' => "%3f".chars().collect::<Vec<_>>(),
            '#' => "%23".chars().collect(),
            '%' => "%25".chars().collect(),
            other => vec![other],
        })
        .collect();
    let mode = if expects_log(path) && !log_of(path).exists() { "?immutable=1" } else { "" };
    let prefix = if name.starts_with('/') { "file:" } else { "file:./" };
    let connection = Connection::open_with_flags(format!("{prefix}{name}{mode}"), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// `N` counts side by side, from `column` on; none if one of them is missing.
fn counts<const N: usize>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<[u64; N]>> {
    let counts = (column..column + N).map(|column| Ok(row.get::<_, Option<i64>>(column)?.map(i64::unsigned_abs)));
    Ok(counts.collect::<rusqlite::Result<Option<Vec<u64>>>>()?.and_then(|counts| counts.try_into().ok()))
}

/// Where the write-ahead log is, if there is one.
fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Whether the file is in write-ahead mode: its header's read version is 2 (the SQLite file format, 1.3.3).
fn expects_log(path: &Path) -> bool {
    let mut header = [0; 20];
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).is_ok_and(|()| header[19] == 2)
}

/// Whether a chunk has ended in favour of its halves.
const IS_SPLIT: &str = "(final AND rows_written IS NULL)";

const CHUNK: &str = "range || '.' || idx || split, run, part, origin, state, final, attempt, rows, bytes,
    rows_written, rows_filtered, rows_dead_lettered, rows_cancelled, output_at, output_bytes, digest";

fn chunk(row: &Row<'_>) -> rusqlite::Result<ChunkRow> {
    let ended = counts(row, 9)?;
    Ok(ChunkRow {
        chunk: row.get(0)?,
        run: row.get(1)?,
        part: row.get(2)?,
        origin: row.get(3)?,
        state: row.get(4)?,
        is_final: row.get(5)?,
        attempt: row.get(6)?,
        rows: row.get(7)?,
        bytes: row.get(8)?,
        rows_by_end: ended.map(|[written, filtered, dead_lettered, cancelled]| ChunkRows { written, filtered, dead_lettered, cancelled }),
        output_at: row.get(13)?,
        output_bytes: row.get(14)?,
        digest: row.get(15)?,
    })
}

const TRANSITION: &str =
    "rowid, run, range || '.' || idx || split, seq, at, event, from_state, to_state, microstep, attempt, worker, in_state, error";

fn transition(row: &Row<'_>) -> rusqlite::Result<TransitionRow> {
    Ok(TransitionRow {
        id: row.get(0)?,
        run: row.get(1)?,
        chunk: row.get(2)?,
        seq: row.get(3)?,
        at: row.get(4)?,
        event: row.get(5)?,
        from: row.get(6)?,
        to: row.get(7)?,
        microstep: row.get(8)?,
        attempt: row.get(9)?,
        worker: row.get(10)?,
        in_state: row.get(11)?,
        error: row.get(12)?,
    })
}
