//! The journal file's tables, and how a file is told from others.

use rusqlite::Connection;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Marks a SQLite file as a sluicegate journal (`PRAGMA application_id`): "slui".
pub const APPLICATION_ID: i32 = 0x736c_7569;

/// Version of the tables (`PRAGMA user_version`). A newer one is refused.
pub const VERSION: i32 = 1;

/// The tables. `docs/journal.md` says what each column means.
const TABLES: &str = "
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    status TEXT NOT NULL,
    phase TEXT NOT NULL,
    pid INTEGER NOT NULL,
    program TEXT NOT NULL,
    target TEXT NOT NULL,
    source TEXT NOT NULL,
    snapshot TEXT,
    plan TEXT NOT NULL,
    settings TEXT NOT NULL,
    definition TEXT NOT NULL,
    definition_hash TEXT NOT NULL,
    rows_read INTEGER,
    rows_written INTEGER,
    rows_filtered INTEGER,
    rows_dead_lettered INTEGER,
    rows_cancelled INTEGER,
    error TEXT
) STRICT;

CREATE TABLE run_transitions (
    run INTEGER NOT NULL REFERENCES runs,
    at INTEGER NOT NULL,
    event TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state TEXT NOT NULL,
    reason TEXT
) STRICT;

CREATE TABLE ranges (
    range INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs,
    part INTEGER NOT NULL,
    origin TEXT NOT NULL,
    chunks INTEGER NOT NULL,
    rows INTEGER NOT NULL
) STRICT;

CREATE TABLE chunks (
    range INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    split TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES runs,
    part INTEGER NOT NULL,
    origin TEXT NOT NULL,
    state TEXT NOT NULL,
    final INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    source_digest TEXT,
    rows_written INTEGER,
    rows_filtered INTEGER,
    rows_dead_lettered INTEGER,
    rows_cancelled INTEGER,
    output_at INTEGER,
    output_bytes INTEGER,
    digest TEXT,
    waits_until INTEGER,
    context TEXT,
    PRIMARY KEY (range, idx, split)
) STRICT, WITHOUT ROWID;

CREATE TABLE transitions (
    run INTEGER NOT NULL,
    range INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    split TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    event TEXT NOT NULL,
    from_state TEXT,
    to_state TEXT NOT NULL,
    microstep INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    in_state INTEGER NOT NULL,
    error TEXT
) STRICT;

CREATE TABLE checkpoints (
    run INTEGER NOT NULL REFERENCES runs,
    at INTEGER NOT NULL,
    output TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    rows INTEGER NOT NULL
) STRICT;

CREATE VIEW chunk_list AS
    SELECT range || '.' || idx || split AS chunk, * FROM chunks ORDER BY range, idx, split;

CREATE VIEW walk AS
    SELECT range || '.' || idx || split AS chunk, run, seq,
        strftime('%Y-%m-%dT%H:%M:%S', at / 1000000, 'unixepoch') || printf('.%06dZ', at % 1000000) AS time,
        event, from_state, to_state, microstep, attempt, worker, in_state / 1000.0 AS in_state_ms, error
    FROM transitions ORDER BY run, range, idx, split, seq;
";

/// What a SQLite file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// There is nothing in it yet.
    Empty,
    /// A journal of this version.
    Journal,
    /// A journal of another version.
    OtherVersion(i32),
    /// Somebody else's database.
    Foreign,
}

/// Looks what `connection` is connected to.
///
/// # Errors
/// When it is no SQLite file, or a damaged one.
pub fn file_kind(connection: &Connection) -> rusqlite::Result<FileKind> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (number("application_id")?, number("user_version")?, tables) {
        (APPLICATION_ID, VERSION, _) => FileKind::Journal,
        (APPLICATION_ID, other, _) => FileKind::OtherVersion(other),
        (0, 0, 0) => FileKind::Empty,
        _ => FileKind::Foreign,
    })
}

/// Whether the file at `path` has a journal's mark, be it damaged or of another version. The mark's place is part of SQLite's file format.
pub fn is_marked(path: &Path) -> bool {
    let mut head = [0; 72];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.starts_with(b"SQLite format 3\0") && head[68..] == APPLICATION_ID.to_be_bytes()
}

/// Makes an empty file a journal.
///
/// # Errors
/// When it cannot be written.
pub fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {TABLES} COMMIT;"))
}
