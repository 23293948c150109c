//! One output file: written under a provisional name, made durable at checkpoints, and renamed when it is complete.

use crate::claim::{FileClaim, claim, is_at};
use crate::failpoint::{durable_file, durable_names, step};
use crate::trouble::{Trouble, TroubleKind};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What direct I/O has to be aligned to, in memory and in the file. Logical blocks are 512 or 4,096 bytes.
const ALIGNMENT: usize = 4096;

/// How much is gathered before it is written.
const STAGE_BYTES: usize = 1 << 20;

/// With buffered I/O, the system is told to start writing back after this much, so that the flush does not find everything undone.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// How a file is to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// Whether a file under the final name may be replaced.
    pub replace: bool,
    /// Permissions of a new file, exactly: what the umask takes away is given back.
    pub mode: u32,
    /// Whether the page cache may be passed by.
    pub direct: bool,
}

impl Default for FileOptions {
    fn default() -> FileOptions {
        FileOptions { replace: false, mode: 0o600, direct: true }
    }
}

/// A file in the making.
pub struct OutputFile {
    /// What it is to the run; names the steps that tests have fail.
    role: &'static str,
    file: File,
    partial: PathBuf,
    target: PathBuf,
    options: FileOptions,
    direct: bool,
    /// Whether the provisional name is durable.
    named: bool,
    stage: Stage,
    /// Bytes of the file before the stage.
    written: u64,
    /// Up to where writing back was started.
    started: u64,
    /// How much of an append that failed is in the stage or behind it.
    taken: usize,
}

/// Aligned memory in which writes are gathered.
struct Stage {
    memory: Vec<u8>,
    offset: usize,
    filled: usize,
}

impl Stage {
    fn new() -> Stage {
        let memory = vec![0; STAGE_BYTES + ALIGNMENT];
        let offset = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Stage { memory, offset, filled: 0 }
    }

    fn bytes(&self, length: usize) -> &[u8] {
        &self.memory[self.offset..self.offset + length]
    }

    /// Takes as much of `bytes` as there is room for; gives the rest.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (now, later) = bytes.split_at(bytes.len().min(STAGE_BYTES - self.filled));
        let start = self.offset + self.filled;
        self.memory[start..start + now.len()].copy_from_slice(now);
        self.filled += now.len();
        later
    }
}

/// The name that `target` is written under until it is complete.
pub fn partial_name(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Where the bytes of `target` are: under its final name, or under its provisional one while it is not complete.
pub fn present_name(target: &Path) -> PathBuf {
    let partial = partial_name(target);
    if partial.symlink_metadata().is_ok() { partial } else { target.to_owned() }
}

impl OutputFile {
    /// Bytes of memory that an open file keeps.
    pub const BUFFER_BYTES: usize = STAGE_BYTES + ALIGNMENT;

    /// Begins `target` anew, in a file that nobody else has a name for or has opened. What a run that was given up has left goes. `role` is
    /// what it is to the run, for tests that have its steps fail.
    ///
    /// # Errors
    /// [`TroubleKind::Io`] when the file cannot be created; [`TroubleKind::Configuration`] when the target exists and may not be replaced;
    /// [`TroubleKind::Busy`] when another process is writing it.
    pub fn create(role: &'static str, target: &Path, options: FileOptions) -> Result<OutputFile, Trouble> {
        if !options.replace && target.symlink_metadata().is_ok() {
            return Err(exists(target));
        }
        let file = create_anew(role, &partial_name(target), options.mode)?;
        Ok(OutputFile::of(role, file, target, options))
    }

    /// Goes on with `target` behind its first `length` bytes: what stands there beyond was never said to be durable, and goes.
    ///
    /// # Errors
    /// [`TroubleKind::Configuration`] when these bytes are not there, or under another name too; else as [`OutputFile::create`].
    pub fn resume(role: &'static str, target: &Path, options: FileOptions, length: u64) -> Result<OutputFile, Trouble> {
        let partial = partial_name(target);
        let refused = |message: String| Trouble::lasting(TroubleKind::Configuration, message);
        let file = open_to_write(&partial).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                refused(format!("{} is gone, in which an earlier run wrote {length} bytes", partial.display())).because(error)
            }
            _ => cannot_open(&partial, error),
        })?;
        claim(&file, &partial)?;
        let found = file.metadata().map_err(|error| io_trouble(&partial, "cannot be read", error))?;
        if found.len() < length {
            return Err(refused(format!("{} has {} bytes, but an earlier run wrote {length}", partial.display(), found.len())));
        }
        if found.nlink() > 1 {
            let message = "has another name (a hard link), under which it would change as well; replace it by a copy of itself";
            return Err(refused(format!("{} {message}", partial.display())));
        }
        let mut file = OutputFile::of(role, file, target, options);
        step(role, "truncate", || file.file.set_len(length)).map_err(|error| file.trouble("cannot be truncated", error))?;
        file.load_tail(length).map_err(|error| file.trouble("cannot be read", error))?;
        Ok(file)
    }

    /// Removes what was begun of `target`, if anything was.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn discard(target: &Path) -> Result<(), Trouble> {
        let partial = partial_name(target);
        match step("dead_letter", "discard", || std::fs::remove_file(&partial)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io_trouble(&partial, "cannot be removed", error)),
            _ => Ok(()),
        }
    }

    /// Takes the last, unaligned bytes back into the stage.
    fn load_tail(&mut self, length: u64) -> io::Result<()> {
        let tail = usize::try_from(length % ALIGNMENT as u64).unwrap_or(0);
        self.written = length - tail as u64;
        self.started = self.written;
        if tail > 0 {
            // Without the direct flag, which would not take this length.
            let mut bytes = vec![0; tail];
            File::open(&self.partial)?.read_exact_at(&mut bytes, self.written)?;
            self.stage.fill(&bytes);
        }
        Ok(())
    }

    fn of(role: &'static str, file: File, target: &Path, options: FileOptions) -> OutputFile {
        OutputFile {
            role,
            direct: options.direct && suits_direct(target) && set_direct(&file, true).is_ok(),
            file,
            partial: partial_name(target),
            target: target.to_owned(),
            options,
            named: false,
            stage: Stage::new(),
            written: 0,
            started: 0,
            taken: 0,
        }
    }

    /// Bytes accepted so far.
    pub fn length(&self) -> u64 {
        self.written + self.stage.filled as u64
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// When the system refuses. What was appended before is kept; the next call must bring the same bytes again.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let mut rest = &bytes[self.taken..];
        loop {
            if self.stage.filled == STAGE_BYTES
                && let Err(trouble) = self.write_stage()
            {
                self.taken = bytes.len() - rest.len();
                return Err(trouble);
            }
            if rest.is_empty() {
                self.taken = 0;
                return Ok(());
            }
            rest = self.stage.fill(rest);
        }
    }

    /// Writes a full stage.
    fn write_stage(&mut self) -> Result<(), Trouble> {
        self.check_intact()?;
        step(self.role, "write", || self.write_at(STAGE_BYTES, self.written)).map_err(|error| self.trouble("cannot be written", error))?;
        self.written += STAGE_BYTES as u64;
        self.stage.filled = 0;
        if !self.direct && self.written - self.started >= WRITEBACK_BYTES {
            start_writeback(&self.file, self.started, self.written - self.started);
            self.started = self.written;
        }
        Ok(())
    }

    fn write_at(&mut self, length: usize, at: u64) -> io::Result<()> {
        match self.file.write_all_at(self.stage.bytes(length), at) {
            // The file system takes the flag, but not our alignment: go on through the page cache.
            Err(error) if self.direct && error.kind() == ErrorKind::InvalidInput => {
                self.direct = false;
                set_direct(&self.file, false)?;
                self.file.write_all_at(self.stage.bytes(length), at)
            }
            result => result,
        }
    }

    /// Makes everything that was appended durable. With direct I/O up to a block of zeros may stand behind it until the end.
    ///
    /// # Errors
    /// When the system refuses. Passing trouble may be tried again; a sync that failed lasts.
    pub fn flush(&mut self) -> Result<(), Trouble> {
        let filled = self.stage.filled;
        let length = if self.direct { filled.next_multiple_of(ALIGNMENT) } else { filled };
        let start = self.stage.offset;
        self.stage.memory[start + filled..start + length].fill(0);
        self.check_intact()?;
        if length > 0 {
            let flushed = step(self.role, "flush", || self.write_at(length, self.written));
            flushed.map_err(|error| self.trouble("cannot be written", error))?;
        }
        step(self.role, "sync", || self.file.sync_data()).map_err(|error| not_synced(&self.partial, error))?;
        durable_file(&self.partial);
        if !self.named {
            // The journal will say that these bytes are there: then the name has to be, too.
            sync_folder(self.role, &self.partial)?;
            self.named = true;
        }
        Ok(())
    }

    /// Gives the complete file its final name, durably.
    ///
    /// # Errors
    /// As [`OutputFile::flush`]; [`TroubleKind::Configuration`] when the target has come into being meanwhile, or somebody touched the file.
    pub fn finish(&mut self) -> Result<(), Trouble> {
        self.flush()?;
        step(self.role, "trim", || self.file.set_len(self.length())).map_err(|error| self.trouble("cannot be written", error))?;
        step(self.role, "sync_all", || self.file.sync_all()).map_err(|error| not_synced(&self.partial, error))?;
        durable_file(&self.partial);
        // It may have been renamed before trouble came: then only the directory is left.
        if !is_at(&self.file, &self.target) {
            if !is_at(&self.file, &self.partial) {
                return Err(self.touched("is not the file any more that is being written"));
            }
            if !self.options.replace && self.target.symlink_metadata().is_ok() {
                return Err(exists(&self.target));
            }
            step(self.role, "rename", || std::fs::rename(&self.partial, &self.target))
                .map_err(|error| self.trouble("cannot be renamed", error))?;
        }
        sync_folder(self.role, &self.target)
    }

    /// Makes sure that nobody has removed or cut the file: writing on would leave nothing, or a hole.
    fn check_intact(&self) -> Result<(), Trouble> {
        let found = self.file.metadata().map_err(|error| self.trouble("cannot be looked at", error))?;
        if found.nlink() == 0 {
            return Err(self.touched("was removed while it was being written"));
        }
        if found.len() < self.written {
            return Err(self.touched("was cut while it was being written"));
        }
        Ok(())
    }

    /// Somebody else was at the file: what was written is not there any more.
    fn touched(&self, what: &str) -> Trouble {
        let message = format!("{} {what}; leave it alone, and start over with --fresh", self.partial.display());
        Trouble::lasting(TroubleKind::Configuration, message)
    }

    fn trouble(&self, what: &str, error: io::Error) -> Trouble {
        io_trouble(&self.partial, what, error)
    }
}

/// Makes the names in the directory of the file at `path` durable: that it is there, or not there any more. `role` is as for
/// [`OutputFile::create`].
///
/// # Errors
/// [`TroubleKind::Io`] when the system refuses.
pub(crate) fn sync_folder(role: &'static str, path: &Path) -> Result<(), Trouble> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(folder).map_err(|error| io_trouble(path, "its directory cannot be opened", error))?;
    step(role, "folder", || folder.sync_all()).map_err(|error| not_synced(path, error))?;
    durable_names(path);
    Ok(())
}

/// The system may have dropped what it could not write, and would call a second try a success: what is durable is not known any more,
/// and the next run goes on from what surely was.
fn not_synced(path: &Path, error: io::Error) -> Trouble {
    Trouble::lasting(TroubleKind::Io, format!("{}: cannot be made durable", path.display())).because(error)
}

/// Trouble with the file at `path`. A disk that is full or fails may be well again later; a permission will not come by waiting.
pub(crate) fn io_trouble(path: &Path, what: &str, error: io::Error) -> Trouble {
    let what = if error.kind() == ErrorKind::StorageFull || error.kind() == ErrorKind::QuotaExceeded {
        "no space left on the device"
    } else {
        what
    };
    let message = format!("{}: {what}", path.display());
    let lasting = matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::ReadOnlyFilesystem);
    let trouble = if lasting { Trouble::lasting(TroubleKind::Io, message) } else { Trouble::passing(TroubleKind::Io, message) };
    trouble.because(error)
}

fn exists(target: &Path) -> Trouble {
    let message = format!("{} exists; give another output, or --force to replace it", target.display());
    Trouble::lasting(TroubleKind::Configuration, message)
}

/// Makes a new, claimed file at `path` with exactly these permissions. A plain file that is there goes, unless somebody is writing it:
/// it may belong to another user, be open elsewhere, or have a second name.
fn create_anew(role: &'static str, path: &Path, mode: u32) -> Result<File, Trouble> {
    loop {
        remove_stale(role, path)?;
        let made = step(role, "open", || OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path));
        let file = match made {
            // Somebody else was quicker, and is found to be writing it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            made => made.map_err(|error| cannot_create(path, error))?,
        };
        claim(&file, path)?;
        if is_at(&file, path) {
            let exactly = file.set_permissions(Permissions::from_mode(mode));
            exactly.map_err(|error| io_trouble(path, "its permissions cannot be set", error))?;
            return Ok(file);
        }
    }
}

/// Removes what a run that was given up has left at `path`.
fn remove_stale(role: &'static str, path: &Path) -> Result<(), Trouble> {
    let file = match open_to_write(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|error| cannot_open(path, error))?,
    };
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err(Trouble::lasting(TroubleKind::Io, format!("{} is no plain file; remove it", path.display())));
    }
    claim(&file, path)?;
    if !is_at(&file, path) {
        return Ok(());
    }
    step(role, "remove", || std::fs::remove_file(path)).map_err(|error| io_trouble(path, "cannot be replaced", error))
}

/// Opens what is there, which must not be a link.
fn open_to_write(path: &Path) -> io::Result<File> {
    // A pipe is not waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path)
}

fn cannot_open(path: &Path, error: io::Error) -> Trouble {
    let what = if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        "is a symbolic link, which is not followed; remove it"
    } else if error.kind() == ErrorKind::IsADirectory {
        "is a directory; remove it"
    } else {
        "is there, and cannot be opened to be written"
    };
    Trouble::lasting(TroubleKind::Io, format!("{} {what}", path.display())).because(error)
}

fn cannot_create(partial: &Path, error: io::Error) -> Trouble {
    let folder = partial.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let message = match error.kind() {
        ErrorKind::NotFound => format!("the directory {} does not exist", folder.display()),
        ErrorKind::PermissionDenied => format!("the directory {} is not writable for this user", folder.display()),
        _ => format!("{} cannot be created", partial.display()),
    };
    Trouble::lasting(TroubleKind::Io, message).because(error)
}

/// Passes the page cache by from now on, or does not.
fn set_direct(file: &File, on: bool) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    let flags = if on { flags | OFlags::DIRECT } else { flags - OFlags::DIRECT };
    Ok(rustix::fs::fcntl_setfl(file, flags)?)
}

/// Makes sure that nobody is writing `target`, for as long as the answer lives. `None` when it was not begun.
///
/// # Errors
/// [`TroubleKind::Busy`], naming the process that does.
pub fn claim_partial(target: &Path) -> Result<Option<FileClaim>, Trouble> {
    let partial = partial_name(target);
    // What else is wrong with it is found when it is opened to be written.
    let Ok(file) = open_to_write(&partial) else { return Ok(None) };
    FileClaim::of(file, &partial).map(Some)
}

/// Whether passing the page cache by is known to be sound and fast on the file system of `target` (statfs(2): ext, XFS).
#[cfg(target_os = "linux")]
fn suits_direct(target: &Path) -> bool {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::statfs(folder).is_ok_and(|stat| matches!(stat.f_type, 0xef53 | 0x5846_5342))
}

#[cfg(not(target_os = "linux"))]
fn suits_direct(_: &Path) -> bool {
    false
}

/// Has the system start writing back, without waiting for it.
#[cfg(target_os = "linux")]
fn start_writeback(file: &File, from: u64, length: u64) {
    let _ = rustix::fs::fadvise(file, from, std::num::NonZero::new(length), rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn start_writeback(_: &File, _: u64, _: u64) {}
