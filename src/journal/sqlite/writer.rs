//! The thread that writes, and the desk where it finds what to write.

use super::batch::Batch;
use super::schema::{self, FileKind};
use super::{RunRecord, trouble};
#[cfg(unix)]
use crate::claim::FileClaim;
use crate::clock::Clock;
use crate::failpoint::{durable_journal, step};
use crate::fsm::Machine;
use crate::journal::{Ending, Entry};
use crate::sink::Position;
use crate::trouble::{Trouble, TroubleKind};
use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OpenFlags, params};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an entry waits for company at most.
const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// So many entries waiting, and who brings more has to wait too.
const FULL_DESK: usize = 16_384;

/// How long who brings entries waits for a writer that is far behind.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long another program may lock the file before that counts as trouble.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of a run waits for readers to let the file go. One that follows the run does so within 200 ms.
const READERS_GRACE: Duration = Duration::from_secs(1);

/// How often it looks whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(20);

type Outcome = Result<(), Arc<rusqlite::Error>>;

/// How a request came out, with its entries when they were not written.
type Answer = (Outcome, Vec<Entry>);

/// Where entries wait for the writer.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<DeskState>,
    /// Something urgent lies on the desk, or it is full, or closed.
    urgent: Condvar,
    /// The writer has answered, or cleared the desk.
    cleared: Condvar,
}

#[derive(Default)]
struct DeskState {
    entries: Vec<Entry>,
    order: Option<Order>,
    answer: Option<Answer>,
    open: bool,
    closing: bool,
}

/// Something to be done at once, as the writer gets it.
enum Order {
    Checkpoint { entries: Vec<Entry>, positions: Vec<Position> },
    IntendFinish,
    End(Ending),
}

/// The same, as it is asked for.
pub(super) enum Request<'a> {
    Checkpoint { entries: &'a mut Vec<Entry>, positions: &'a [Position] },
    IntendFinish,
    End(&'a Ending),
}

impl Desk {
    /// Leaves entries for the next commit.
    pub fn record(&self, entries: &mut Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        if state.entries.len() >= FULL_DESK && state.open {
            self.urgent.notify_one();
            // Not for ever: who waits here may hold what the end of the run needs. What is in flight is bounded, and so is the desk.
            self.cleared.wait_for(&mut state, LONGEST_WAIT);
        }
        state.entries.append(entries);
    }

    /// Asks for something and waits until it is durable. What belongs to it comes behind everything recorded before.
    pub fn request(&self, request: Request<'_>) -> Outcome {
        let mut state = self.state.lock();
        while state.order.is_some() && state.open {
            self.cleared.wait(&mut state);
        }
        if !state.open {
            return Ok(());
        }
        let mut lent = None;
        state.order = Some(match request {
            Request::Checkpoint { entries, positions } => {
                let order = Order::Checkpoint { entries: std::mem::take(entries), positions: positions.to_vec() };
                lent = Some(entries);
                order
            }
            Request::IntendFinish => Order::IntendFinish,
            Request::End(ending) => Order::End(ending.clone()),
        });
        self.urgent.notify_one();
        loop {
            if let Some((outcome, unwritten)) = state.answer.take() {
                // Entries that did not get through go back: only together with their positions do they mean anything.
                if let Some(entries) = lent {
                    *entries = unwritten;
                }
                self.cleared.notify_all();
                return outcome;
            }
            self.cleared.wait(&mut state);
        }
    }

    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        self.urgent.notify_one();
        while state.open {
            self.cleared.wait(&mut state);
        }
    }

    /// Waits for something to do, for up to [`COMMIT_EVERY`]. `None` when the desk is closed and empty.
    fn collect(&self) -> Option<(Vec<Entry>, Option<Order>)> {
        let mut state = self.state.lock();
        if state.order.is_none() && state.entries.len() < FULL_DESK && !state.closing {
            self.urgent.wait_for(&mut state, COMMIT_EVERY);
        }
        if state.closing && state.entries.is_empty() && state.order.is_none() {
            return None;
        }
        let order = state.order.take();
        Some((std::mem::take(&mut state.entries), order))
    }

    /// The writer is done with what it collected. Entries that could not be written come back.
    fn done(&self, mut unwritten: Vec<Entry>, answer: Option<Answer>) {
        let mut state = self.state.lock();
        if !unwritten.is_empty() {
            unwritten.append(&mut state.entries);
            state.entries = unwritten;
        }
        if answer.is_some() {
            state.answer = answer;
        }
        self.cleared.notify_all();
    }

    fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    fn set_open(&self, open: bool) {
        self.state.lock().open = open;
        self.cleared.notify_all();
    }
}

/// Opens the file, and makes it a journal if it is new or empty. A new one gets the permissions `mode`.
pub(super) fn open(path: &Path, mode: u32) -> Result<(Connection, Claim), Trouble> {
    let failed = |error: rusqlite::Error| trouble(path, &Arc::new(error));
    create_file(path, mode)?;
    let claim = claim(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let wrong = |what: String| Err(Trouble::lasting(TroubleKind::Configuration, format!("{}: {what}", path.display())));
    match schema::file_kind(&connection).map_err(failed)? {
        FileKind::Journal => {
            step("journal", "mode", || choose_journal_mode(&connection, path)).map_err(failed)?;
            step("journal", "settle", || settle(&connection)).map_err(failed)?;
        }
        FileKind::Empty => {
            step("journal", "mode", || choose_journal_mode(&connection, path)).map_err(failed)?;
            step("journal", "create", || schema::create(&connection)).map_err(failed)?;
        }
        FileKind::OtherVersion(version) => {
            return wrong(format!(
                "a journal of version {version}; this program knows version {}. Use another --journal, or the program that wrote it",
                schema::VERSION
            ));
        }
        FileKind::Foreign => return wrong("an SQLite database, but not a journal; choose another --journal".into()),
    }
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok((connection, claim))
}

/// Moves what an earlier run left in the write-ahead log into the file itself. If a sync of the log has failed, all of it can be read and
/// some of it may never get to the disk; what is written behind it would be lost with it.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A reader that is in the way now will not be when the log is large enough to be moved by itself.
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Says that nobody else writes a journal, for as long as it lives. Must outlive the connection: closing any descriptor of a file gives up
/// SQLite's own locks on it.
pub struct Claim(#[expect(dead_code, reason = "it is held, not used")] Option<Held>);

#[cfg(unix)]
type Held = FileClaim;
#[cfg(not(unix))]
type Held = ();

/// Claims the journal at `path` for this process.
///
/// # Errors
/// [`TroubleKind::Busy`], naming the process that writes it.
#[cfg(target_os = "linux")]
pub fn claim(path: &Path) -> Result<Claim, Trouble> {
    // Over a network such a lock and those of SQLite are of one kind, and in each other's way.
    if is_on_network(path) {
        return Ok(Claim(None));
    }
    let Ok(file) = std::fs::OpenOptions::new().read(true).write(true).open(path) else { return Ok(Claim(None)) };
    Ok(Claim(Some(FileClaim::of(file, path)?)))
}

/// Elsewhere such a lock and those of SQLite may be of one kind, and in each other's way.
#[cfg(not(target_os = "linux"))]
pub fn claim(_: &Path) -> Result<Claim, Trouble> {
    Ok(Claim(None))
}

/// Makes an empty file, if there is none, with exactly these permissions. SQLite would give it those that the umask leaves, which is more
/// than others should have; what it puts beside the file gets those of the file. A link is not followed: it may lead anywhere.
fn create_file(path: &Path, mode: u32) -> Result<(), Trouble> {
    let failed =
        |what: &str, error: std::io::Error| Trouble::lasting(TroubleKind::Io, format!("{}: {what}", path.display())).because(error);
    if path.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
        let message =
            format!("{}: the journal is a symbolic link, which is not followed; name the file itself, or remove it", path.display());
        return Err(Trouble::lasting(TroubleKind::Io, message));
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    match step("journal", "make", || options.open(path)) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("the journal cannot be created", error)),
        #[cfg(unix)]
        Ok(file) => {
            let exactly = file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
            exactly.map_err(|error| failed("its permissions cannot be set", error))
        }
        #[cfg(not(unix))]
        Ok(_) => Ok(()),
    }
}

/// WAL lets others read while we write, but needs shared memory, which network file systems do not have.
fn choose_journal_mode(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    let set = |mode: &str| connection.pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0));
    let mut mode = String::new();
    if !is_on_network(path) {
        // The change is a mark on one page. A file for taking it back would make the journal unreadable for who may only read, if we were
        // killed at this very moment.
        set("MEMORY")?;
        mode = set("WAL")?;
    }
    if mode != "wal" {
        mode = set("DELETE")?;
        tracing::warn!("{}: no write-ahead log here ({mode}): reading the journal while the run is on may have to wait", path.display());
    }
    Ok(())
}

/// Whether `path` is on NFS, SMB or a FUSE file system. The magic numbers are those of statfs(2).
#[cfg(target_os = "linux")]
fn is_on_network(path: &Path) -> bool {
    const NETWORK: [i64; 5] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546];
    rustix::fs::statfs(path).is_ok_and(|stat| NETWORK.contains(&stat.f_type))
}

#[cfg(not(target_os = "linux"))]
fn is_on_network(_: &Path) -> bool {
    false
}

/// Writes the run's first row and starts the thread.
pub(super) fn begin(
    (connection, claim): (Connection, Claim),
    record: RunRecord,
    machine: Arc<Machine>,
    clock: &Clock,
    desk: &Arc<Desk>,
) -> rusqlite::Result<()> {
    let definition = serde_json::to_string(machine.definition()).unwrap_or_default();
    let hash = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(definition.as_bytes()));
    let insert = || {
        connection.execute(
        "INSERT INTO runs (started_at, status, phase, pid, program, target, source, snapshot, plan, settings, definition, definition_hash)
         VALUES (?1, 'idle', 'running', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            super::batch::integer(clock.unix_micros(clock.now())),
            std::process::id(),
            concat!("sluicegate ", env!("CARGO_PKG_VERSION")),
            record.target,
            record.source.to_string(),
            record.snapshot.map(|snapshot| snapshot.to_string()),
            record.plan.to_string(),
            record.settings.to_string(),
            definition,
            hash,
        ],
    )
    };
    step("journal", "begin", insert)?;
    let run = connection.last_insert_rowid();
    desk.set_open(true);
    let (desk, clock) = (desk.clone(), clock.clone());
    let write = move || {
        let last = write(&connection, &Batch::new(run, machine, clock), &desk);
        drop(connection);
        drop(claim);
        // Only now: who hears of the end may open the journal again.
        desk.done(Vec::new(), last);
        desk.set_open(false);
    };
    std::thread::Builder::new().name("journal".into()).spawn(write).expect("the system gives another thread");
    Ok(())
}

/// Writes until the end. Gives the answer to the last request, if that was the end.
fn write(connection: &Connection, batch: &Batch, desk: &Desk) -> Option<Answer> {
    while let Some((entries, order)) = desk.collect() {
        if entries.is_empty() && order.is_none() {
            continue;
        }
        let result = commit(connection, batch, &entries, order.as_ref()).map_err(Arc::new);
        if let (Err(error), None) = (&result, &order) {
            if desk.is_closing() {
                // Nobody waits for these any more, and a full disk may stay full. What they tell is done again by the next run.
                tracing::warn!("the journal lacks the last {} entries of the run: {error}", entries.len());
                return None;
            }
            // The next checkpoint meets the same trouble and reports it; until then nothing is lost.
            tracing::debug!("the journal cannot be written: {error}");
            std::thread::sleep(COMMIT_EVERY);
        }
        let ended = result.is_ok() && matches!(order, Some(Order::End(_)));
        if ended && let Err(error) = step("journal", "rest", || lay_to_rest(connection)) {
            tracing::debug!("the journal is complete, but not in a single file, because somebody reads it: {error}");
        }
        let unwritten = if result.is_ok() { Vec::new() } else { entries };
        let answer = order.map(|order| match (&result, order) {
            (Err(_), Order::Checkpoint { entries, .. }) => (result.clone(), entries),
            _ => (result.clone(), Vec::new()),
        });
        if ended {
            return answer;
        }
        desk.done(unwritten, answer);
    }
    None
}

/// Makes a finished journal one plain file, which can be copied, and read where nothing can be written. What stays if readers do not let
/// it go, a write-ahead log with nothing new in it, harms nobody.
fn lay_to_rest(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.busy_timeout(Duration::ZERO)?;
    let checkpoint = || connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    // As on the way in: without a file that would have to be undone if we were killed here.
    let leave = || connection.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()));
    let deadline = Instant::now() + READERS_GRACE;
    loop {
        match checkpoint().and_then(|()| leave()) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            result => return result,
        }
    }
}

/// What tests call a commit.
fn name_of(order: Option<&Order>) -> &'static str {
    match order {
        None => "entries",
        Some(Order::Checkpoint { .. }) => "checkpoint",
        Some(Order::IntendFinish) => "intent",
        Some(Order::End(_)) => "end",
    }
}

fn commit(connection: &Connection, batch: &Batch, entries: &[Entry], order: Option<&Order>) -> rusqlite::Result<()> {
    if order.is_some() {
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    let transaction = connection.unchecked_transaction()?;
    step("journal", "rows", || {
        batch.write(&transaction, entries)?;
        match order {
            None => Ok(()),
            Some(Order::Checkpoint { entries, positions }) => {
                batch.write(&transaction, entries)?;
                batch.checkpoint(&transaction, positions)
            }
            Some(Order::IntendFinish) => batch.phase(&transaction, "finishing"),
            Some(Order::End(ending)) => batch.end(&transaction, ending),
        }
    })?;
    step("journal", name_of(order), || transaction.commit())?;
    if order.is_some() {
        durable_journal(connection.path());
        connection.pragma_update(None, "synchronous", "NORMAL")?;
    }
    Ok(())
}
