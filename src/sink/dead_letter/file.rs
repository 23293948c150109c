//! A dead-letter file that is there: read record by record, or written anew without some of them.

use super::super::output_file::{FileOptions, OutputFile, io_trouble, partial_name, sync_folder};
use super::record::{DeadRecord, Replayed, marked};
use crate::claim::{claim, is_at};
use crate::failpoint::{durable_file, step};
use crate::trouble::{Trouble, TroubleKind};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How much is read at a time.
const READ_BYTES: usize = 256 << 10;

/// A dead-letter file, open.
pub struct DeadLetters {
    path: PathBuf,
    file: File,
    /// A run may still be writing it: its last line need not be whole.
    is_live: bool,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<'a> {
    /// It stays as it is.
    Keep,
    /// It stays, with this mark.
    Mark(&'a Replayed),
    /// It goes.
    Drop,
}

fn refused(message: String) -> Trouble {
    Trouble::lasting(TroubleKind::Configuration, message)
}

impl DeadLetters {
    /// Opens the file to be read, also while a run is writing it.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn open(path: &Path) -> Result<DeadLetters, Trouble> {
        let file = File::open(path).map_err(|error| cannot_open(path, error))?;
        if !file.metadata().is_ok_and(|found| found.is_file()) {
            return Err(refused(format!("{} is no file", path.display())));
        }
        let is_live = path.extension().is_some_and(|extension| extension == "partial");
        Ok(DeadLetters { path: path.to_owned(), file, is_live })
    }

    /// Opens the file to be changed. Nobody else changes it for as long as this lives.
    ///
    /// # Errors
    /// As [`DeadLetters::open`]; also when it is a link, when a run is writing it, and [`TroubleKind::Busy`] when somebody else has claimed it.
    pub fn claim(path: &Path) -> Result<DeadLetters, Trouble> {
        if path.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
            return Err(refused(format!("{} is a symbolic link, which is not followed; name the file itself", path.display())));
        }
        let partial = partial_name(path);
        if path.extension().is_some_and(|extension| extension == "partial") || partial.symlink_metadata().is_ok() {
            let shown = if partial.symlink_metadata().is_ok() { &partial } else { path };
            return Err(refused(format!("{} is of a run that is not complete", shown.display())));
        }
        loop {
            let flags = OFlags::NOFOLLOW.bits().cast_signed();
            let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
            let file = file.map_err(|error| cannot_open(path, error))?;
            claim(&file, path)?;
            // Who had it before may have put another in its place meanwhile.
            if is_at(&file, path) {
                return Ok(DeadLetters { path: path.to_owned(), file, is_live: false });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Permissions of the file.
    pub fn mode(&self) -> u32 {
        self.file.metadata().map_or(0o600, |found| found.mode() & 0o777)
    }

    /// Its records, the first one first. One at a time is in memory.
    ///
    /// # Errors
    /// When the process has too many files open.
    pub fn records(&self) -> Result<Records, Trouble> {
        let file = self.file.try_clone().map_err(|error| io_trouble(&self.path, "cannot be read", error))?;
        let reader = BufReader::with_capacity(READ_BYTES, FromStart { file, at: 0 });
        Ok(Records { path: self.path.clone(), is_live: self.is_live, reader, line: Vec::new(), number: 0, last_id: 0 })
    }

    /// Writes the file anew, each record as `fate` says, and puts it in the place of the old one, at once and durably: whenever the system
    /// goes down, either the old file is there or the new one, whole. The new one has the permissions of the old one, and is claimed as
    /// the old one was.
    ///
    /// # Errors
    /// When it cannot be read or written, or is not where it was any more. The old file is there then, as it was.
    pub fn rewrite<'a>(self, fate: impl FnMut(&DeadRecord) -> Fate<'a>) -> Result<DeadLetters, Trouble> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".rewrite");
        let new = PathBuf::from(name);
        let written = self.write_to(&new, fate);
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        written
    }

    fn write_to<'a>(&self, new: &Path, mut fate: impl FnMut(&DeadRecord) -> Fate<'a>) -> Result<DeadLetters, Trouble> {
        let failed = |error: io::Error| io_trouble(new, "cannot be written", error);
        // What a crash has left. Nobody else is at it: the old file is claimed.
        match std::fs::remove_file(new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let file =
            step("dlq", "create", || OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(new)).map_err(failed)?;
        claim(&file, new)?;
        let mut out = BufWriter::with_capacity(READ_BYTES, &file);
        let mut records = self.records()?;
        while let Some(record) = records.read()? {
            match fate(&record) {
                Fate::Keep => out.write_all(records.line()).map_err(failed)?,
                Fate::Mark(replayed) => out.write_all(&marked(records.line(), replayed)).map_err(failed)?,
                Fate::Drop => {}
            }
        }
        step("dlq", "write", || out.flush()).map_err(failed)?;
        drop(out);
        keep_owner_and_mode(&self.file, &file).map_err(failed)?;
        step("dlq", "sync", || file.sync_all()).map_err(failed)?;
        durable_file(new);
        if !is_at(&self.file, &self.path) {
            let message = format!("{} was replaced by another file meanwhile, which is left as it is", self.path.display());
            return Err(Trouble::lasting(TroubleKind::Busy, message));
        }
        step("dlq", "rename", || std::fs::rename(new, &self.path)).map_err(failed)?;
        sync_folder("dlq", &self.path)?;
        Ok(DeadLetters { path: self.path.clone(), file, is_live: false })
    }
}

/// Copies the records that are `chosen`, as they stand there, into a new file at `target`: durably and as a whole, or not at all.
///
/// # Errors
/// When something cannot be read or written, or the target exists.
pub fn write_records(
    letters: &DeadLetters,
    target: &Path,
    options: FileOptions,
    chosen: impl Fn(&DeadRecord) -> bool,
) -> Result<(), Trouble> {
    let mut out = OutputFile::create("dlq", target, options)?;
    let mut records = letters.records()?;
    while let Some(record) = records.read()? {
        if chosen(&record) {
            out.append(records.line())?;
        }
    }
    out.finish()
}

/// Gives the new file what the old one had. Another's file stays another's only if we may give files away; else it is ours, which shows
/// it to nobody who could not see it before.
fn keep_owner_and_mode(old: &File, new: &File) -> io::Result<()> {
    let found = old.metadata()?;
    if new.metadata().is_ok_and(|made| (made.uid(), made.gid()) != (found.uid(), found.gid())) {
        let (owner, group) = (rustix::fs::Uid::from_raw(found.uid()), rustix::fs::Gid::from_raw(found.gid()));
        let _ = rustix::fs::fchown(new, Some(owner), Some(group));
    }
    new.set_permissions(found.permissions())
}

fn cannot_open(path: &Path, error: io::Error) -> Trouble {
    let kind = if error.kind() == io::ErrorKind::NotFound { TroubleKind::Configuration } else { TroubleKind::Io };
    Trouble::lasting(kind, format!("{} cannot be opened", path.display())).because(error)
}

/// Reads a file from its start whatever else is read from it.
struct FromStart {
    file: File,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The records of a file, one after the other.
pub struct Records {
    path: PathBuf,
    is_live: bool,
    reader: BufReader<FromStart>,
    line: Vec<u8>,
    /// Of the line, from 1.
    number: u64,
    last_id: u64,
}

impl Records {
    /// The next record; `None` at the end. What a run has not written to its end yet is no record.
    ///
    /// # Errors
    /// When the file cannot be read, or is no dead-letter file, or a damaged one: says in which line.
    pub fn read(&mut self) -> Result<Option<DeadRecord>, Trouble> {
        self.line.clear();
        let read = self.reader.read_until(b'\n', &mut self.line);
        read.map_err(|error| io_trouble(&self.path, "cannot be read", error))?;
        self.number += 1;
        // Up to a block of zeros may stand behind what is written of a file that is not complete.
        if self.line.is_empty() || self.is_live && (self.line[0] == 0 || self.line.last() != Some(&b'\n')) {
            return Ok(None);
        }
        let place = || format!("{}: line {}", self.path.display(), self.number);
        if self.line.last() != Some(&b'\n') {
            return Err(refused(format!("{} is cut off: the file is not whole", place())));
        }
        let record = DeadRecord::parse(&self.line).map_err(|why| refused(format!("{} is no record of a dead letter: {why}", place())))?;
        if record.id <= self.last_id {
            let message = format!("{} has the id {}, behind {}: the file was put together from others", place(), record.id, self.last_id);
            return Err(refused(message));
        }
        self.last_id = record.id;
        Ok(Some(record))
    }

    /// The line that the last record stood in, with its line feed.
    pub fn line(&self) -> &[u8] {
        &self.line
    }
}
