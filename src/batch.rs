//! The payload of the built-in parts: rows as they came, then bytes as they go.

use crate::chunk::{Halves, Payload};
use crate::format::{Compression, Records, Scan};
use crate::memory::Buffer;

/// Rows of one origin.
pub struct Batch {
    content: Content,
    rows: u64,
}

/// What form the rows are in.
pub enum Content {
    /// `CopyData` messages of the Postgres protocol, one row each, with [`PADDING`](crate::format::PADDING) bytes behind them.
    Frames(Buffer),
    /// Rows of a text format, each with its line end, with [`PADDING`](crate::format::PADDING) behind them.
    Rows(TextRows),
    /// Bytes for a sink: JSON lines, or rows of another text format.
    Encoded {
        /// The rows, compressed or not.
        buffer: Buffer,
        /// How.
        compression: Compression,
        /// XXH3 (64 bits) of the buffer.
        digest: u64,
        /// Where rows end, once they are unpacked.
        records: Records,
        /// What the rows were before.
        came: &'static str,
    },
}

/// The name of the form of rows as a Postgres server sends them: a row of `COPY … (FORMAT text)` without its line feed.
pub const COPY_ROW: &str = "copy";

/// The name of the form of such rows once they are encoded: a line of JSON without its line feed.
pub const JSON_LINE: &str = "json";

/// Rows of a text format as they came.
pub struct TextRows {
    /// Whole rows.
    pub buffer: Buffer,
    /// Where each of them ends.
    pub records: Records,
    /// Where in its input the first of them begins, in bytes, unpacked.
    pub at: u64,
    /// A row (from 0) that could not be read as a whole, and why: what is there of it is its beginning.
    pub fault: Option<(u64, Box<str>)>,
    /// Where the rows come from, if some were taken out before.
    pub places: Option<Box<[Place]>>,
}

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number in the chunk as it was read, from 0.
    pub row: u64,
    /// Where in its input it begins, in bytes, unpacked.
    pub at: u64,
}

impl Batch {
    /// Rows as the server sent them.
    pub fn frames(buffer: Buffer, rows: u64) -> Batch {
        Batch { content: Content::Frames(buffer), rows }
    }

    /// So many rows of a text format.
    pub fn text(text: TextRows, rows: u64) -> Batch {
        Batch { content: Content::Rows(text), rows }
    }

    /// Rows of a server as a sink writes them, one a line.
    pub fn encoded(buffer: Buffer, compression: Compression, rows: u64) -> Batch {
        Batch::encoded_as(buffer, compression, Records::Lines, COPY_ROW, rows)
    }

    /// Rows that were of the form `came`, as a sink writes them, in any format.
    pub fn encoded_as(buffer: Buffer, compression: Compression, records: Records, came: &'static str, rows: u64) -> Batch {
        let digest = xxhash_rust::xxh3::xxh3_64(buffer.bytes());
        Batch { content: Content::Encoded { buffer, compression, digest, records, came }, rows }
    }

    /// What a row's bytes are, as it came.
    pub fn came(&self) -> &'static str {
        match &self.content {
            Content::Frames(_) => COPY_ROW,
            Content::Rows(text) => text.records.form(),
            Content::Encoded { came, .. } => came,
        }
    }

    /// What a row's bytes are by now.
    pub fn form(&self) -> &'static str {
        match &self.content {
            Content::Encoded { came: COPY_ROW, .. } => JSON_LINE,
            Content::Encoded { records, .. } => records.form(),
            _ => self.came(),
        }
    }

    /// The rows.
    pub fn content(&self) -> &Content {
        &self.content
    }

    fn buffer(&self) -> &Buffer {
        match &self.content {
            Content::Frames(buffer) | Content::Rows(TextRows { buffer, .. }) | Content::Encoded { buffer, .. } => buffer,
        }
    }

    /// Calls `each` with the bytes of every row, without its line end.
    pub fn each_row(&self, each: &mut dyn FnMut(&[u8])) {
        match &self.content {
            Content::Frames(buffer) => rows(buffer.bytes()).for_each(|(start, end)| each(without_line_end(&buffer.bytes()[start..end]))),
            Content::Rows(TextRows { buffer, records, .. }) => records.each(buffer.bytes(), |row| each(without_line_end(row))),
            Content::Encoded { buffer, compression, records, .. } => match compression.unpack(buffer.bytes()) {
                Ok(bytes) => records.each(&bytes, |row| each(without_line_end(row))),
                // Packed by this very process: only memory can be at fault. Better one strange record than none.
                Err(_) => each(buffer.bytes()),
            },
        }
    }
}

fn without_line_end(row: &[u8]) -> &[u8] {
    row.strip_suffix(b"\n").unwrap_or(row)
}

/// Bytes of a protocol message before the row: its kind and its length.
pub(crate) const HEAD: usize = 5;

/// The rows of a buffer of whole protocol messages: where each begins and ends.
pub(crate) fn rows(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let head: &[u8; HEAD] = bytes.get(at..)?.first_chunk()?;
        // The length counts itself, but not the kind before it.
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize + 1;
        let row = (at + HEAD, at + length);
        at += length;
        Some(row)
    })
}

impl Payload for Batch {
    fn bytes(&self) -> usize {
        self.buffer().bytes().len()
    }

    fn resident_bytes(&self) -> usize {
        self.buffer().resident_bytes()
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn digest(&self) -> Option<u64> {
        match self.content {
            Content::Frames(ref buffer) | Content::Rows(TextRows { ref buffer, .. }) => Some(xxhash_rust::xxh3::xxh3_64(buffer.bytes())),
            Content::Encoded { digest, .. } => Some(digest),
        }
    }
}

/// Rows as they came are cut between two of them; the halves share the buffer. Rows as a sink writes them are not cut, nor is what lacks
/// some of its rows.
impl Halves for Batch {
    fn halves(&self) -> Option<[Batch; 2]> {
        let first = self.rows / 2;
        let (last, rest) = (usize::try_from(first).ok()?.checked_sub(1)?, self.rows - first);
        match &self.content {
            Content::Frames(buffer) => {
                let (_, at) = rows(buffer.bytes()).nth(last)?;
                let [before, behind] = buffer.parted(at);
                Some([Batch::frames(before, first), Batch::frames(behind, rest)])
            }
            Content::Rows(text) => text.parted(first).map(|[before, behind]| [Batch::text(before, first), Batch::text(behind, rest)]),
            Content::Encoded { .. } => None,
        }
    }
}

impl TextRows {
    /// The first so many rows, and the others.
    fn parted(&self, first: u64) -> Option<[TextRows; 2]> {
        let TextRows { buffer, records, at, fault, places } = self;
        if places.is_some() {
            return None;
        }
        let bytes = buffer.bytes();
        let cut = (0..first).try_fold(0, |cut, _| Some(cut + records.end(&bytes[cut..], &mut Scan::default())?))?;
        let [before, behind] = buffer.parted(cut);
        let fault_from = |from: u64, to: u64| {
            let (row, why) = fault.as_ref().filter(|(row, _)| (from..to).contains(row))?;
            Some((row - from, why.clone()))
        };
        Some([
            TextRows { buffer: before, records: *records, at: *at, fault: fault_from(0, first), places: None },
            TextRows { buffer: behind, records: *records, at: at + cut as u64, fault: fault_from(first, u64::MAX), places: None },
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows as messages.
    fn frames(rows: &[&str]) -> Batch {
        let message = |row: &&str| [&b"d"[..], &(row.len() as u32 + 4).to_be_bytes(), row.as_bytes()].concat();
        let bytes: Vec<u8> = rows.iter().flat_map(message).collect();
        Batch::frames(Buffer::copy_of(&bytes, 8), rows.len() as u64)
    }

    fn bytes(batch: &Batch) -> &[u8] {
        batch.buffer().bytes()
    }

    #[test]
    fn a_batch_is_cut_between_messages_until_one_is_left() {
        let whole = frames(&["one\n", "", "three, which is long\n", "4\n", "fünf\n"]);
        let mut alone = Vec::new();
        let mut left = vec![frames(&["one\n", "", "three, which is long\n", "4\n", "fünf\n"])];
        while let Some(batch) = left.pop() {
            match batch.halves() {
                Some([first, second]) => left.extend([second, first]),
                None => alone.push(batch),
            }
        }
        assert_eq!(alone.iter().map(Payload::rows).collect::<Vec<_>>(), [1; 5]);
        assert_eq!(alone.iter().map(bytes).collect::<Vec<_>>().concat(), bytes(&whole));
        assert_eq!(bytes(&alone[2]), bytes(&frames(&["three, which is long\n"])));
    }

    #[test]
    fn what_is_encoded_is_not_cut() {
        assert!(Batch::encoded(Buffer::copy_of(b"{}\n{}\n", 0), Compression::None, 2).halves().is_none());
    }

    /// Lines of text from byte 100 of their input, the third of which could not be read.
    fn lines(text: &str) -> Batch {
        let fault = Some((2, "too long".into()));
        let buffer = Buffer::copy_of(text.as_bytes(), 8);
        Batch::text(TextRows { buffer, records: Records::Lines, at: 100, fault, places: None }, text.lines().count() as u64)
    }

    #[test]
    fn rows_of_a_text_are_cut_with_their_places_and_faults() {
        let [first, second] = lines("one\n\nthr\n4\nfive").halves().unwrap();
        assert_eq!((bytes(&first), bytes(&second)), (&b"one\n\n"[..], &b"thr\n4\nfive"[..]));
        assert_eq!((first.rows(), second.rows()), (2, 3));
        let at_and_fault = |batch: &Batch| match batch.content() {
            Content::Rows(text) => (text.at, text.fault.as_ref().map(|(row, _)| *row)),
            _ => unreachable!(),
        };
        assert_eq!((at_and_fault(&first), at_and_fault(&second)), ((100, None), (105, Some(0))));
        let [third, _] = second.halves().unwrap();
        assert_eq!((bytes(&third), at_and_fault(&third)), (&b"thr\n"[..], (105, Some(0))));
        assert!(third.halves().is_none());
    }
}
