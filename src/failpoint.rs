//! Steps that change what a crash leaves behind, each with a name: a test may have the process crash before or after one, have one fail,
//! or find out what of the files would survive a loss of power. Compiled in only with the feature `failpoints`, which releases do not have.
//!
//! `SLUICEGATE_CRASH_AT=STEP.before:N`, or `.after:N`, aborts the process before or after it takes the step for the `N`-th time, counted
//! from 1, without any clearing up. `SLUICEGATE_FAIL_AT=STEP:N:ERROR` has that step fail with the error of this number (errno(3)) instead;
//! with `N+` all later ones too, with `late` behind another colon only after it was done, as a lost answer would have it, and with `sync`
//! there as SQLite says it of a sync.
//! `SLUICEGATE_STEPS=FILE` writes down every place that is reached, one a line. `SLUICEGATE_DISK=FOLDER` keeps there what is durable: a
//! copy of every file as it was when it was last synced, by inode, and the names of every directory that was.

#[cfg(feature = "failpoints")]
pub(crate) use on::{durable_file, durable_journal, durable_names, step};

#[cfg(not(feature = "failpoints"))]
#[cfg_attr(not(feature = "journal"), expect(unused_imports, reason = "who keeps no journal has none to tell of"))]
pub(crate) use off::{durable_file, durable_journal, durable_names, step};

/// What a program for users has.
#[cfg(not(feature = "failpoints"))]
mod off {
    use std::path::Path;

    /// Takes the step.
    #[inline(always)]
    pub(crate) fn step<T, E>(_: &'static str, _: &'static str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        work()
    }

    /// Nothing.
    #[inline(always)]
    pub(crate) fn durable_file(_: &Path) {}

    /// Nothing.
    #[inline(always)]
    pub(crate) fn durable_names(_: &Path) {}

    /// Nothing.
    #[inline(always)]
    #[cfg_attr(not(feature = "journal"), expect(dead_code, reason = "who keeps no journal has none to tell of"))]
    pub(crate) fn durable_journal(_: Option<&str>) {}
}

#[cfg(feature = "failpoints")]
mod on {
    use parking_lot::{Mutex, MutexGuard};
    use std::collections::HashMap;
    use std::fs::File;
    use std::io::{self, Write};
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    /// An error that a test has asked for.
    #[derive(Clone, Copy)]
    pub(crate) struct Fault {
        /// As in errno(3).
        number: i32,
        /// The step is taken all the same.
        late: bool,
        /// SQLite could write, but not sync.
        sync: bool,
    }

    impl From<Fault> for io::Error {
        fn from(fault: Fault) -> io::Error {
            io::Error::from_raw_os_error(fault.number)
        }
    }

    #[cfg(feature = "journal")]
    impl From<Fault> for rusqlite::Error {
        fn from(fault: Fault) -> rusqlite::Error {
            let is_full = fault.number == rustix::io::Errno::NOSPC.raw_os_error();
            let code = match fault.sync {
                _ if is_full => rusqlite::ffi::SQLITE_FULL,
                false => rusqlite::ffi::SQLITE_IOERR_WRITE,
                true => rusqlite::ffi::SQLITE_IOERR_FSYNC,
            };
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)
        }
    }

    /// Takes the step `what` of the file or journal `who`, unless a test wants something else to happen.
    pub(crate) fn step<T, E: From<Fault>>(who: &'static str, what: &'static str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let name = format!("{who}.{what}");
        let times = reach(&format!("{name}.before"));
        let fault = fault(&name, times);
        if let Some(fault) = fault.filter(|fault| !fault.late) {
            return Err(fault.into());
        }
        let done = work()?;
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        reach(&format!("{name}.after"));
        Ok(done)
    }

    /// Counts, notes, and crashes here if this place and this time were asked for.
    fn reach(place: &str) -> u64 {
        static REACHED: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);
        let mut reached = REACHED.lock();
        let times = reached.get_or_insert_default().entry(place.to_owned()).or_default();
        *times += 1;
        if let Some(path) = std::env::var_os("SLUICEGATE_STEPS") {
            let file = File::options().create(true).append(true).open(path);
            file.and_then(|mut file| writeln!(file, "{place}")).expect("the list of steps can be written");
        }
        if std::env::var("SLUICEGATE_CRASH_AT").is_ok_and(|wanted| wanted == format!("{place}:{times}")) {
            // Not in the middle of a copy.
            let _disk = disk();
            std::process::abort();
        }
        *times
    }

    /// The error that is wanted of this step at this time.
    fn fault(name: &str, times: u64) -> Option<Fault> {
        let wanted = std::env::var("SLUICEGATE_FAIL_AT").ok()?;
        let mut words = wanted.split(':');
        if words.next() != Some(name) {
            return None;
        }
        let when = words.next()?;
        let from: u64 = when.trim_end_matches('+').parse().ok()?;
        let is_due = if when.ends_with('+') { times >= from } else { times == from };
        let number = words.next()?.parse().ok()?;
        let how = words.next();
        is_due.then(|| Fault { number, late: how == Some("late"), sync: how == Some("sync") })
    }

    /// Where to keep what is durable, for one thread at a time.
    fn disk() -> (Option<PathBuf>, MutexGuard<'static, ()>) {
        static DISK: Mutex<()> = Mutex::new(());
        (std::env::var_os("SLUICEGATE_DISK").map(PathBuf::from), DISK.lock())
    }

    /// A transaction of the journal at `path` has just been synced: with it the write-ahead log and, before that, the file. The first sync
    /// of a log is one of its directory, too.
    pub(crate) fn durable_journal(path: Option<&str>) {
        static KNOWN: Mutex<bool> = Mutex::new(false);
        let Some(path) = path else { return };
        durable_file(path.as_ref());
        durable_file(format!("{path}-wal").as_ref());
        if !std::mem::replace(&mut *KNOWN.lock(), true) {
            durable_names(path.as_ref());
        }
    }

    /// What is in the file at `path` has just been synced.
    pub(crate) fn durable_file(path: &Path) {
        let (Some(disk), _only) = disk() else { return };
        // A write-ahead log is there only while it is needed.
        let Ok(inode) = path.metadata().map(|metadata| metadata.ino()) else { return };
        std::fs::copy(path, disk.join(inode.to_string())).expect("a synced file can be copied");
    }

    /// The directory that `path` is in has just been synced: its names and what they stand for.
    pub(crate) fn durable_names(path: &Path) {
        let (Some(disk), _only) = disk() else { return };
        let folder = path.parent().expect("tests write into directories");
        let entries = std::fs::read_dir(folder).expect("the directory is there").map(|entry| entry.expect("an entry"));
        let names = entries.map(|entry| {
            let inode = entry.metadata().expect("it is there").ino();
            format!("{inode} {}\n", entry.file_name().to_string_lossy())
        });
        std::fs::write(disk.join("names"), names.collect::<String>()).expect("the names can be written");
    }
}
