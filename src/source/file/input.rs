//! One input: what it is, whether it is still the same, and its bytes, unpacked.

use crate::trouble::{Trouble, TroubleKind};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Compressed bytes are read so many at a time.
const PACKED_BYTES: usize = 64 << 10;

/// A zstd frame may ask for a window of 2 to this power at most: 16 MiB. All levels but the `--ultra` and `--long` ones need less.
#[cfg(feature = "compression")]
const WINDOW_LOG_MAX: u32 = 24;

/// How an input is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Not at all.
    None,
    /// gzip, in one member or several.
    Gzip,
    /// zstd, in one frame or several.
    Zstd,
}

impl Packing {
    /// What a file with this name should be.
    pub fn of_name(path: &Path) -> Option<Packing> {
        match path.extension()?.to_str()? {
            "gz" | "gzip" => Some(Packing::Gzip),
            "zst" | "zstd" => Some(Packing::Zstd),
            _ => None,
        }
    }

    /// What bytes that begin like this are.
    pub fn of_magic(head: &[u8]) -> Packing {
        match head {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            // A skippable frame may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
            _ => Packing::None,
        }
    }

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Packing::None => "not compressed",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        }
    }
}

/// A file, or something that bytes come out of only once.
#[derive(Clone, Debug)]
pub struct Input {
    /// Where it is; `-` is standard input.
    pub path: PathBuf,
    /// The same for people.
    pub shown: Arc<str>,
    /// How it is compressed.
    pub packing: Packing,
    /// What a file was when the run was planned. None for what cannot be read again.
    pub stamp: Option<Stamp>,
    /// Where rows begin, in unpacked bytes: behind a byte order mark and the header.
    pub data_start: u64,
}

/// By what a file is known to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its size.
    pub bytes: u64,
    /// When it was last changed, in nanoseconds since the Unix epoch.
    pub modified: i128,
}

impl Stamp {
    fn of(file: &File) -> io::Result<Stamp> {
        let metadata = file.metadata()?;
        Ok(Stamp { bytes: metadata.len(), modified: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()) })
    }

    /// What has become of a file since, if anything.
    pub fn change(self, now: Stamp) -> Option<String> {
        let (then, bytes) = (self.bytes, now.bytes);
        match bytes.cmp(&then) {
            std::cmp::Ordering::Less => Some(format!("it shrank from {then} to {bytes} bytes")),
            std::cmp::Ordering::Greater => Some(format!("it grew from {then} to {bytes} bytes")),
            std::cmp::Ordering::Equal if now.modified != self.modified => Some("it was written to".to_owned()),
            std::cmp::Ordering::Equal => None,
        }
    }
}

/// An input's bytes from some place on, unpacked.
pub(super) struct Opened {
    from: Box<dyn Read + Send>,
    /// The file itself, to see whether it is still the same.
    file: File,
    /// For what pauses: to wait on.
    waits: Option<OwnedFd>,
    /// Place of the next byte, in unpacked bytes.
    pub at: u64,
    /// No more bytes come.
    pub ended: bool,
    packed: bool,
    /// A plain file is read as far as it went when the run was planned.
    end: Option<u64>,
}

/// What came of an attempt to read.
pub(super) enum Got {
    /// So many bytes; at the end none.
    Bytes(usize),
    /// Nothing came in time.
    Nothing,
}

fn io(path: &str, what: &str, error: io::Error) -> Trouble {
    let lasting = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::IsADirectory);
    let message = format!("{path}: {what}");
    let trouble = if lasting { Trouble::lasting(TroubleKind::Io, message) } else { Trouble::passing(TroubleKind::Io, message) };
    trouble.because(error)
}

impl Input {
    /// Looks at what is at `path`, and how it is compressed unless `packing` says it. What it begins with is given too: for what cannot be
    /// read again, that must not be lost.
    pub(super) fn look(path: &Path, packing: Option<Packing>) -> Result<(Input, Opened, Vec<u8>), Trouble> {
        let is_stdin = path == Path::new("-");
        let shown: Arc<str> = if is_stdin { "standard input".into() } else { path.to_string_lossy().into() };
        let mut file = open(path, &shown)?;
        let kind = file.metadata().map_err(|error| io(&shown, "cannot be looked at", error))?.file_type();
        if kind.is_dir() {
            return Err(Trouble::lasting(TroubleKind::Configuration, format!("{shown} is a directory; name a file in it")));
        }
        let stamp = if kind.is_file() && !is_stdin {
            Some(Stamp::of(&file).map_err(|error| io(&shown, "cannot be looked at", error))?)
        } else {
            None
        };
        let waits = kind.is_fifo() || kind.is_socket() || kind.is_char_device();
        let mut magic = Vec::new();
        let head = Read::by_ref(&mut file).take(4).read_to_end(&mut magic);
        head.map_err(|error| io(&shown, "cannot be read", error))?;
        let found = Packing::of_magic(&magic);
        let packing = packing.or_else(|| Packing::of_name(path)).unwrap_or(found);
        if packing != found && !magic.is_empty() && packing != Packing::None {
            let begins: String = magic.iter().map(|byte| format!("{byte:02x}")).collect();
            let message = format!("{shown} should be {}, but begins with the bytes {begins}", packing.word());
            return Err(Trouble::lasting(TroubleKind::Configuration, message));
        }
        let input = Input { path: path.to_owned(), shown, packing, stamp, data_start: 0 };
        if stamp.is_some() {
            file.seek(SeekFrom::Start(0)).map_err(|error| io(&input.shown, "cannot be read", error))?;
            magic.clear();
        }
        // What a pipe has given must not hide from who waits on it.
        let head = if packing == Packing::None { std::mem::take(&mut magic) } else { Vec::new() };
        let mut opened = input.unpack(file, magic, waits)?;
        opened.at = head.len() as u64;
        Ok((input, opened, head))
    }

    /// Whether what it gives can be had again.
    pub fn repeats(&self) -> bool {
        self.stamp.is_some()
    }

    /// Its bytes from `at` on.
    pub(super) fn open(&self, at: u64) -> Result<Opened, Trouble> {
        let mut file = open(&self.path, &self.shown)?;
        if self.packing == Packing::None {
            file.seek(SeekFrom::Start(at)).map_err(|error| io(&self.shown, "cannot be read", error))?;
        }
        let mut opened = self.unpack(file, Vec::new(), false)?;
        if self.packing == Packing::None {
            opened.at = at;
        } else {
            opened.skip(at, self)?;
        }
        Ok(opened)
    }

    /// Says what has become of a file since the run was planned, as an error.
    pub(super) fn check(&self, opened: &Opened) -> Result<(), Trouble> {
        let Some(stamp) = self.stamp else { return Ok(()) };
        let now = Stamp::of(&opened.file).map_err(|error| io(&self.shown, "cannot be looked at", error))?;
        stamp.change(now).map_or(Ok(()), |change| Err(self.changed(&change)))
    }

    fn changed(&self, change: &str) -> Trouble {
        let message = format!("{} is changing while it is read: {change}. Let it come to rest, and start over with --fresh", self.shown);
        Trouble::lasting(TroubleKind::Configuration, message)
    }

    fn unpack(&self, file: File, head: Vec<u8>, waits: bool) -> Result<Opened, Trouble> {
        let clone = || file.try_clone().map_err(|error| io(&self.shown, "cannot be read", error));
        let waits = if waits {
            Some(clone()?.as_fd().try_clone_to_owned().map_err(|error| io(&self.shown, "cannot be read", error))?)
        } else {
            None
        };
        let plain: Box<dyn Read + Send> =
            if head.is_empty() { Box::new(clone()?) } else { Box::new(io::Cursor::new(head).chain(clone()?)) };
        let from = unpacked(self.packing, plain).map_err(|error| io(&self.shown, "cannot be unpacked", error))?;
        let packed = self.packing != Packing::None;
        let end = self.stamp.map(|stamp| stamp.bytes).filter(|_| !packed);
        Ok(Opened { from, file, waits: waits.filter(|_| !packed), at: 0, ended: false, packed, end })
    }
}

fn open(path: &Path, shown: &str) -> Result<File, Trouble> {
    if path == Path::new("-") {
        let owned = io::stdin().as_fd().try_clone_to_owned().map_err(|error| io(shown, "cannot be read", error))?;
        return Ok(File::from(owned));
    }
    File::open(path).map_err(|error| {
        let what = if error.kind() == ErrorKind::NotFound { "is not there" } else { "cannot be opened" };
        io(shown, what, error)
    })
}

#[cfg(feature = "compression")]
fn unpacked(packing: Packing, plain: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let buffered = |plain| io::BufReader::with_capacity(PACKED_BYTES, plain);
    Ok(match packing {
        Packing::None => plain,
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered(plain))),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered(plain))?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

#[cfg(not(feature = "compression"))]
fn unpacked(packing: Packing, plain: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    match packing {
        Packing::None => Ok(plain),
        _ => Err(io::Error::new(ErrorKind::Unsupported, "this program was built without the feature `compression`")),
    }
}

impl Opened {
    /// Reads into `into`. What pauses is waited for up to `wait`.
    pub fn read(&mut self, into: &mut [u8], wait: Duration, input: &Input) -> Result<Got, Trouble> {
        if self.waits.as_ref().is_some_and(|fd| !is_ready(fd, wait)) {
            return Ok(Got::Nothing);
        }
        let left = self.end.map_or(usize::MAX, |end| usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX));
        let length = into.len().min(left);
        loop {
            match self.from.read(&mut into[..length]) {
                Ok(count) => {
                    self.ended = count == 0;
                    self.at += count as u64;
                    if count == 0 && left > 0 && self.end.is_some() {
                        return Err(input.changed(&format!("it ended at byte {}, which was {} before", self.at, self.at + left as u64)));
                    }
                    return Ok(Got::Bytes(count));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.trouble(error, input)),
            }
        }
    }

    fn trouble(&self, error: io::Error, input: &Input) -> Trouble {
        let Input { shown, packing, .. } = input;
        let (at, word) = (self.at, packing.word());
        let message = match error.kind() {
            _ if !self.packed => return io(shown, "cannot be read", error),
            ErrorKind::UnexpectedEof => format!("{shown}: the {word} data is cut off, {at} bytes of what was packed are there"),
            _ => format!("{shown}: the {word} data is damaged, behind {at} bytes of what was packed"),
        };
        Trouble::lasting(TroubleKind::Io, message).because(error)
    }

    /// Passes over what comes before `at`.
    fn skip(&mut self, at: u64, input: &Input) -> Result<(), Trouble> {
        let mut buffer = vec![0; PACKED_BYTES];
        while self.at < at && !self.ended {
            let length = usize::try_from(at - self.at).unwrap_or(usize::MAX).min(buffer.len());
            self.read(&mut buffer[..length], Duration::ZERO, input)?;
        }
        Ok(())
    }
}

/// Whether there is something to be read, or the end, before `wait` has passed.
fn is_ready(fd: &OwnedFd, wait: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let wait = Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() };
    // Where waiting is not possible, reading waits.
    poll(&mut fds, Some(&wait)).map_or_else(|error| error != rustix::io::Errno::INTR, |ready| ready > 0)
}
