//! One output file: written under a provisional name, made durable at checkpoints, and renamed when it is complete.

use crate::claim::{FileClaim, claim};
use crate::failpoint::{durable_file, durable_names, step};
use crate::trouble::{Trouble, TroubleKind};
use rustix::fs::OFlags;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
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
    /// Permissions of a new file.
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

    /// Begins `target` anew. `role` is what it is to the run, for tests that have its steps fail.
    ///
    /// # Errors
    /// [`TroubleKind::Io`] when the file cannot be created; [`TroubleKind::Configuration`] when the target exists and may not be replaced,
    /// or another process is writing it.
    pub fn create(role: &'static str, target: &Path, options: FileOptions) -> Result<OutputFile, Trouble> {
        if !options.replace && target.symlink_metadata().is_ok() {
            return Err(exists(target));
        }
        let file = OutputFile::open(role, target, options)?;
        step(role, "empty", || file.file.set_len(0)).map_err(|error| file.trouble("cannot be emptied", error))?;
        Ok(file)
    }

    /// Goes on with `target` behind its first `length` bytes: what stands there beyond was never said to be durable, and goes.
    ///
    /// # Errors
    /// [`TroubleKind::Configuration`] when these bytes are not there; else as [`OutputFile::create`].
    pub fn resume(role: &'static str, target: &Path, options: FileOptions, length: u64) -> Result<OutputFile, Trouble> {
        let partial = partial_name(target);
        let found = partial.symlink_metadata().map(|metadata| metadata.len()).map_err(|error| {
            let message = format!("{} is gone, in which an earlier run wrote {length} bytes", partial.display());
            Trouble::lasting(TroubleKind::Configuration, message).because(error)
        })?;
        if found < length {
            let message = format!("{} has {found} bytes, but an earlier run wrote {length}", partial.display());
            return Err(Trouble::lasting(TroubleKind::Configuration, message));
        }
        let mut file = OutputFile::open(role, target, options)?;
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

    fn open(role: &'static str, target: &Path, options: FileOptions) -> Result<OutputFile, Trouble> {
        let partial = partial_name(target);
        let open = |flags: OFlags| {
            let flags = (flags | OFlags::NOFOLLOW).bits();
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(options.mode)
                .custom_flags(flags.cast_signed())
                .open(&partial)
        };
        let wants_direct = options.direct && suits_direct(target);
        let opened = step(role, "open", || {
            let direct = if wants_direct { open(OFlags::DIRECT) } else { Err(ErrorKind::Unsupported.into()) };
            let is_direct = direct.is_ok();
            io::Result::Ok((direct.or_else(|_| open(OFlags::empty()))?, is_direct))
        });
        let (file, is_direct) = opened.map_err(|error| cannot_create(&partial, error))?;
        claim(&file, &partial)?;
        Ok(OutputFile {
            role,
            file,
            partial,
            target: target.to_owned(),
            options,
            direct: is_direct,
            named: false,
            stage: Stage::new(),
            written: 0,
            started: 0,
            taken: 0,
        })
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
                let flags = rustix::fs::fcntl_getfl(&self.file)?;
                rustix::fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT)?;
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
        if !self.is_at(&self.target) {
            if !self.is_at(&self.partial) {
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

    /// Whether the name at `path` stands for this file.
    fn is_at(&self, path: &Path) -> bool {
        let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let ours = self.file.metadata().map(place);
        path.symlink_metadata().map(place).is_ok_and(|there| ours.is_ok_and(|ours| ours == there))
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

fn cannot_create(partial: &Path, error: io::Error) -> Trouble {
    let folder = partial.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let message = match error.kind() {
        ErrorKind::NotFound => format!("the directory {} does not exist", folder.display()),
        ErrorKind::PermissionDenied => format!("the directory {} is not writable for this user", folder.display()),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            format!("{} is a symbolic link, which is not followed", partial.display())
        }
        _ => format!("{} cannot be created", partial.display()),
    };
    Trouble::lasting(TroubleKind::Io, message).because(error)
}

/// Makes sure that nobody is writing `target`, for as long as the answer lives. `None` when it was not begun.
///
/// # Errors
/// [`TroubleKind::Busy`], naming the process that does.
pub fn claim_partial(target: &Path) -> Result<Option<FileClaim>, Trouble> {
    let partial = partial_name(target);
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    // What else is wrong with it is found when it is opened to be written.
    let Ok(file) = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&partial) else { return Ok(None) };
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
