//! Are the outputs what the journal says of them? Every chunk's bytes are read again and compared with its digest and its rows.

use super::query::{ChunkRow, Reader};
use crate::trouble::{Trouble, TroubleKind};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Bytes that are read at a time.
const READ_BYTES: usize = 256 << 10;

/// More problems than this are not looked for.
const MOST_PROBLEMS: usize = 100;

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Chunks whose bytes were read.
    pub chunks: u64,
    /// These bytes.
    pub bytes: u64,
    /// Rows in them, by the journal.
    pub rows: u64,
    /// What is not as it should be.
    pub problems: Vec<String>,
}

/// Reads the outputs, `files[part]` being that of each part, and compares them with the journal. Bytes behind the last chunk are no
/// problem: a run that was killed may leave some, and a complete file's length is known to the caller.
///
/// # Errors
/// When the journal cannot be read. That a file cannot be read is a problem found.
pub fn outputs(reader: &Reader, files: &[PathBuf]) -> Result<Verified, Trouble> {
    let (lines, head) = Lines::of(reader)?;
    let heads = head.unsigned_abs() * files.len() as u64;
    let mut verified = Verified { bytes: heads, ..Verified::default() };
    let mut output: Option<Output<'_>> = None;
    reader.placed(|chunk| {
        if output.as_ref().is_none_or(|output| output.part != chunk.part) {
            output = Some(Output::open(chunk.part, files, head, &mut verified));
        }
        if let Some(output) = &mut output {
            output.look(&chunk, lines, &mut verified);
        }
        Ok(())
    })?;
    Ok(verified)
}

/// How lines are counted: as they are, or unpacked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    Plain,
    Gzip,
    Zstd,
    /// Rows may hold line ends: only bytes are compared.
    Uncounted,
}

impl Lines {
    /// That, and how many bytes stand before the first chunk.
    fn of(reader: &Reader) -> Result<(Lines, i64), Trouble> {
        let run = reader.runs()?.pop().ok_or_else(|| Trouble::lasting(TroubleKind::Configuration, "the journal holds no run"))?;
        let compression = run.settings["compression"].to_string();
        let lines = match compression {
            _ if run.settings["rows_are_lines"] == false => Lines::Uncounted,
            text if text.contains("gzip") => Lines::Gzip,
            text if text.contains("zstd") => Lines::Zstd,
            _ => Lines::Plain,
        };
        Ok((lines, run.settings["head_bytes"].as_i64().unwrap_or(0)))
    }

    fn count(self, from: impl BufRead) -> io::Result<u64> {
        match self {
            Lines::Plain | Lines::Uncounted => count_lines(from),
            #[cfg(feature = "compression")]
            Lines::Gzip => count_lines(BufReader::with_capacity(READ_BYTES, flate2::bufread::MultiGzDecoder::new(from))),
            #[cfg(feature = "compression")]
            Lines::Zstd => count_lines(BufReader::with_capacity(READ_BYTES, zstd::stream::read::Decoder::with_buffer(from)?)),
            #[cfg(not(feature = "compression"))]
            Lines::Gzip | Lines::Zstd => Err(io::Error::other("this program was built without the feature `compression`")),
        }
    }
}

fn count_lines(mut from: impl BufRead) -> io::Result<u64> {
    let mut lines = 0;
    loop {
        let bytes = from.fill_buf()?;
        if bytes.is_empty() {
            return Ok(lines);
        }
        lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let read = bytes.len();
        from.consume(read);
    }
}

/// Passes bytes on and digests them.
struct Digesting<R> {
    from: R,
    digest: Xxh3,
    bytes: u64,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.digest.update(&into[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// One file: its chunks must lie one behind the other from its beginning.
struct Output<'a> {
    part: i64,
    path: &'a Path,
    /// None when it makes no sense to go on with it.
    file: Option<File>,
    /// Where the last chunk ended.
    end: i64,
}

impl<'a> Output<'a> {
    fn open(part: i64, files: &'a [PathBuf], head: i64, verified: &mut Verified) -> Output<'a> {
        let path = usize::try_from(part).ok().and_then(|part| files.get(part));
        let file = match path.map(File::open) {
            None => Err(format!("part {part} has no file")),
            Some(opened) => {
                opened.map_err(|error| format!("{} cannot be read: {error}", path.map_or("".into(), |path| path.display().to_string())))
            }
        };
        let mut file = file.map_err(|problem| verified.problems.push(problem)).ok();
        if let Some(file) = file.as_mut().filter(|_| head > 0) {
            // What cannot be read is missed with the first chunk.
            let _ = io::Seek::seek(file, io::SeekFrom::Start(head.unsigned_abs()));
        }
        Output { part, path: path.map_or(Path::new(""), PathBuf::as_path), file, end: head }
    }

    fn look(&mut self, chunk: &ChunkRow, lines: Lines, verified: &mut Verified) {
        let (Some(at), Some(bytes), Some(file)) = (chunk.output_at, chunk.output_bytes, &mut self.file) else { return };
        if verified.problems.len() >= MOST_PROBLEMS {
            return;
        }
        let mut problem = |what: String| verified.problems.push(format!("{}: chunk {} {what}", self.path.display(), chunk.chunk));
        if at != self.end {
            problem(format!("begins at byte {at}, but the one before it ends at {}", self.end));
            self.file = None;
            return;
        }
        let end = at + bytes;
        self.end = end;
        let written = chunk.rows_by_end.map_or(0, |rows| rows.written);
        match part_of(file, bytes.unsigned_abs(), lines) {
            Ok((read, _, _)) if read < bytes.unsigned_abs() => {
                problem(format!("should end at byte {end}, but the file ends before"));
                self.file = None;
                return;
            }
            Ok((_, digest, _)) if Some(&digest) != chunk.digest.as_ref() => {
                problem(format!("(bytes {at} to {end}) is not what was written"))
            }
            Ok((_, _, rows)) if rows != written && lines != Lines::Uncounted => {
                problem(format!("has {rows} lines, but {written} rows were written"))
            }
            Ok(_) => {}
            Err(error) => problem(format!("(bytes {at} to {end}) cannot be read: {error}")),
        }
        verified.chunks += 1;
        verified.bytes += bytes.unsigned_abs();
        verified.rows += written;
    }
}

/// Reads the next `bytes` bytes: how many there were, their digest, and how many lines are in them.
fn part_of(file: &mut File, bytes: u64, lines: Lines) -> io::Result<(u64, String, u64)> {
    let digesting = Digesting { from: Read::by_ref(file).take(bytes), digest: Xxh3::new(), bytes: 0 };
    let mut from = BufReader::with_capacity(READ_BYTES, digesting);
    let counted = lines.count(&mut from);
    // Whatever a decoder left unread belongs to the digest too.
    io::copy(&mut from, &mut io::sink())?;
    let Digesting { digest, bytes: read, .. } = from.into_inner();
    let digest = format!("{:016x}", digest.digest());
    // Damaged bytes that cannot be unpacked have another digest, which says more.
    Ok((read, digest, counted.unwrap_or(0)))
}
