//! The journal as one SQLite file: ACID without code of ours, and every tool can query it.
//!
//! One thread writes. Ordinary entries are committed together every 100 ms without waiting for the disk; a checkpoint commits at once
//! and waits for it. While a run is on, SQLite keeps a write-ahead log beside the file; when it has ended, the journal is one plain file.
//! Readers open it read-only and leave it as it is. `docs/journal.md` says what each column means.

pub mod audit;
mod batch;
pub mod figures;
pub mod give_up;
pub mod pieces;
pub mod query;
pub mod recover;
pub mod schema;
pub mod verify;
mod writer;

pub use audit::{Audit, AuditFinding};
pub use query::Reader;
pub use writer::claim;

use crate::clock::Clock;
use crate::fsm::Machine;
use crate::journal::{Ending, Entry, Journal};
use crate::sink::Position;
use crate::trouble::{Trouble, TroubleKind};
use parking_lot::Mutex;
use rusqlite::Connection;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use writer::{Claim, Desk, Request};

/// What a run writes about itself before it starts. Nothing here may hold a secret.
#[derive(Clone, Debug, Default)]
pub struct RunRecord {
    /// Where the output goes.
    pub target: String,
    /// What is read: server, database, role, system identifier.
    pub source: Value,
    /// The snapshot it is read under.
    pub snapshot: Option<Value>,
    /// How it is cut into ranges.
    pub plan: Value,
    /// Settings that decide what the output looks like.
    pub settings: Value,
}

impl RunRecord {
    /// Of a run about which there is nothing to say but where its output goes.
    pub fn new(target: impl Into<String>) -> RunRecord {
        RunRecord { target: target.into(), ..RunRecord::default() }
    }
}

/// A journal file, open for one run.
///
/// ```no_run
/// # use sluicegate::{Orchestrator, clock::Clock, definitions};
/// # use sluicegate::journal::sqlite::{RunRecord, SqliteJournal};
/// let clock = Clock::real();
/// let journal = SqliteJournal::open("orders.journal".as_ref(), 0o600, RunRecord::new("orders"), clock.clone())?;
/// let run = Orchestrator::<String>::new(definitions::chunk()).clock(clock).journal(journal);
/// # Ok::<(), sluicegate::Trouble>(())
/// ```
pub struct SqliteJournal {
    path: PathBuf,
    desk: Arc<Desk>,
    opened: Mutex<Option<((Connection, Claim), RunRecord)>>,
    clock: Clock,
}

impl SqliteJournal {
    /// Opens or creates the journal at `path` for a run, which goes by the same clock. A new file gets the permissions `mode` (as in 0o600),
    /// less the umask.
    ///
    /// # Errors
    /// [`TroubleKind::Configuration`] when the file is something else, from a newer version or damaged; [`TroubleKind::Io`] when it
    /// cannot be opened or written; [`TroubleKind::Busy`] when another run writes it. Nothing is overwritten in any of these cases.
    pub fn open(path: &Path, mode: u32, record: RunRecord, clock: Clock) -> Result<SqliteJournal, Trouble> {
        let connection = writer::open(path, mode)?;
        Ok(SqliteJournal { path: path.to_owned(), desk: Arc::default(), opened: Mutex::new(Some((connection, record))), clock })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn request(&self, request: Request<'_>) -> Result<(), Trouble> {
        self.desk.request(request).map_err(|error| trouble(&self.path, &error))
    }
}

/// A failure of SQLite, in the engine's words.
pub(super) fn trouble(path: &Path, error: &Arc<rusqlite::Error>) -> Trouble {
    let shown = path.display();
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => Trouble::passing(TroubleKind::Io, format!("{shown}: no space left for the journal")),
        // The system may have dropped what it could not write, and would call a second try a success.
        Some(rusqlite::ErrorCode::SystemIoFailure) if is_sync(error) => {
            Trouble::lasting(TroubleKind::Io, format!("{shown}: the journal cannot be made durable"))
        }
        Some(rusqlite::ErrorCode::SystemIoFailure) => Trouble::passing(TroubleKind::Io, format!("{shown}: the journal cannot be written")),
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            Trouble::lasting(TroubleKind::Configuration, format!("{shown}: not a journal, or a damaged one"))
        }
        _ => Trouble::lasting(TroubleKind::Io, format!("{shown}: the journal cannot be written")),
    }
    .because(error.clone())
}

/// Whether a sync has failed.
fn is_sync(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(rusqlite::ffi::SQLITE_IOERR_FSYNC | rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC))
}

impl Journal for SqliteJournal {
    fn begin(&self, machine: &Arc<Machine>) -> Result<(), Trouble> {
        let Some((connection, record)) = self.opened.lock().take() else {
            return Err(Trouble::lasting(TroubleKind::Internal, "a journal was opened for one run and used for two"));
        };
        writer::begin(connection, record, machine.clone(), &self.clock, &self.desk).map_err(|error| trouble(&self.path, &Arc::new(error)))
    }

    fn record(&self, entries: &mut Vec<Entry>) {
        self.desk.record(entries);
    }

    fn checkpoint(&self, entries: &mut Vec<Entry>, positions: &[Position]) -> Result<(), Trouble> {
        self.request(Request::Checkpoint { entries, positions })
    }

    fn intend_finish(&self) -> Result<(), Trouble> {
        self.request(Request::IntendFinish)
    }

    fn end(&self, ending: &Ending) -> Result<(), Trouble> {
        self.request(Request::End(ending))
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.desk.close();
    }
}
