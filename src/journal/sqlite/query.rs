//! Reading a journal: opened read-only, left as it is, also while a run is writing it.

use super::schema::{self, FileKind};
use crate::chunk::ChunkId;
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
    /// Rows by where they ended: read, written, filtered, dead-lettered, cancelled. None before the end.
    pub rows: Option<[i64; 5]>,
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
    /// Rows written, filtered, dead-lettered, cancelled; none before the end.
    pub rows_by_end: Option<[i64; 4]>,
    /// Where it begins in its output.
    pub output_at: Option<i64>,
    /// How many bytes of the output it is.
    pub output_bytes: Option<i64>,
    /// Digest of these (XXH3, hexadecimal).
    pub digest: Option<String>,
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
        Trouble::lasting(TroubleKind::Io, format!("{}: the journal cannot be read", self.path.display())).because(error)
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
            let rows = [row.get(14)?, row.get(15)?, row.get(16)?, row.get(17)?, row.get(18)?];
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
                rows: rows.into_iter().collect::<Option<Vec<i64>>>().and_then(|rows| rows.try_into().ok()),
                error: row.get(19)?,
            })
        })
    }

    /// How many chunks are in which state.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn states(&self) -> Result<Vec<StateCount>, Trouble> {
        let sql = "SELECT state, count(*), sum(rows), sum(bytes) FROM chunks GROUP BY state ORDER BY min(final), count(*) DESC";
        self.all(sql, &[], |row| Ok(StateCount { state: row.get(0)?, chunks: row.get(1)?, rows: row.get(2)?, bytes: row.get(3)? }))
    }

    /// How many ranges were read to their end, and their rows by the origin's count.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn ranges(&self) -> Result<(i64, i64), Trouble> {
        let sums = self.all("SELECT count(*), coalesce(sum(rows), 0) FROM ranges", &[], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(sums.first().copied().unwrap_or_default())
    }

    /// The chunks that took longest from their first transition to their last, with that time in microseconds.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn slowest(&self, count: u32) -> Result<Vec<(String, String, i64)>, Trouble> {
        let sql = "SELECT range || '.' || idx || split, max(at) - min(at) FROM transitions GROUP BY run, range, idx, split ORDER BY 2 DESC LIMIT ?1";
        let slow = self.all(sql, &[count.into()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let state = |chunk: &str| self.chunk(chunk.parse().ok()).map(|row| row.map_or(String::new(), |row| row.state));
        slow.into_iter().map(|(chunk, time)| Ok((chunk.clone(), state(&chunk)?, time))).collect()
    }

    /// Errors by how often they came.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn errors(&self, count: u32) -> Result<Vec<(String, i64)>, Trouble> {
        let sql = "SELECT error, count(*) FROM transitions WHERE error IS NOT NULL GROUP BY error ORDER BY 2 DESC, 1 LIMIT ?1";
        self.all(sql, &[count.into()], |row| Ok((row.get(0)?, row.get(1)?)))
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

    /// One chunk.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn chunk(&self, id: Option<ChunkId>) -> Result<Option<ChunkRow>, Trouble> {
        let Some(id) = id else { return Ok(None) };
        let values = [id.range.into(), id.index.into(), id.split().into()];
        let sql = format!("SELECT {CHUNK} FROM chunks WHERE range = ?1 AND idx = ?2 AND split = ?3");
        Ok(self.all(&sql, &values, chunk)?.pop())
    }

    /// Transitions in the order they were written down.
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

    /// Moves of the runs themselves: run, time, event, from, to, reason.
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

const CHUNK: &str = "range || '.' || idx || split, run, part, origin, state, final, attempt, rows, bytes,
    rows_written, rows_filtered, rows_dead_lettered, rows_cancelled, output_at, output_bytes, digest";

fn chunk(row: &Row<'_>) -> rusqlite::Result<ChunkRow> {
    let rows = [row.get(9)?, row.get(10)?, row.get(11)?, row.get(12)?];
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
        rows_by_end: rows.into_iter().collect::<Option<Vec<i64>>>().and_then(|rows| rows.try_into().ok()),
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
