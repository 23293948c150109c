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
    let lines = Lines::of(reader)?;
    let mut chunks = reader.chunks(None)?;
    chunks.retain(|chunk| chunk.is_final && chunk.output_at.is_some());
    chunks.sort_by_key(|chunk| (chunk.part, chunk.output_at));
    let mut verified = Verified::default();
    for chunks in chunks.chunk_by(|a, b| a.part == b.part) {
        let Some(file) = usize::try_from(chunks[0].part).ok().and_then(|part| files.get(part)) else {
            verified.problems.push(format!("part {} has no file", chunks[0].part));
            continue;
        };
        if let Err(error) = output(file, chunks, lines, &mut verified) {
            verified.problems.push(format!("{} cannot be read: {error}", file.display()));
        }
    }
    Ok(verified)
}

/// How lines are counted: as they are, or unpacked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    Plain,
    Gzip,
    Zstd,
}

impl Lines {
    fn of(reader: &Reader) -> Result<Lines, Trouble> {
        let run = reader.runs()?.pop().ok_or_else(|| Trouble::lasting(TroubleKind::Configuration, "the journal holds no run"))?;
        let compression = run.settings["compression"].to_string();
        Ok(match compression {
            text if text.contains("gzip") => Lines::Gzip,
            text if text.contains("zstd") => Lines::Zstd,
            _ => Lines::Plain,
        })
    }

    fn count(self, from: impl BufRead) -> io::Result<u64> {
        match self {
            Lines::Plain => count_lines(from),
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
fn output(path: &Path, chunks: &[ChunkRow], lines: Lines, verified: &mut Verified) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut end = 0;
    for chunk in chunks {
        let (Some(at), Some(bytes)) = (chunk.output_at, chunk.output_bytes) else { continue };
        let mut problem = |what: String| verified.problems.push(format!("{}: chunk {} {what}", path.display(), chunk.chunk));
        if at != end {
            problem(format!("begins at byte {at}, but the one before it ends at {end}"));
            return Ok(());
        }
        end = at + bytes;
        let found = part_of(&mut file, bytes.unsigned_abs(), lines);
        let written = chunk.rows_by_end.map_or(0, |rows| rows.written);
        match found {
            Ok((read, _, _)) if read < bytes.unsigned_abs() => {
                problem(format!("should end at byte {end}, but the file ends before"));
                return Ok(());
            }
            Ok((_, digest, _)) if Some(&digest) != chunk.digest.as_ref() => {
                problem(format!("(bytes {at} to {end}) is not what was written"))
            }
            Ok((_, _, rows)) if rows != written => problem(format!("has {rows} lines, but {written} rows were written")),
            Ok(_) => {}
            Err(error) => problem(format!("(bytes {at} to {end}) cannot be read: {error}")),
        }
        verified.chunks += 1;
        verified.bytes += bytes.unsigned_abs();
        verified.rows += written;
        if verified.problems.len() >= MOST_PROBLEMS {
            return Ok(());
        }
    }
    Ok(())
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
