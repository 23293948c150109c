//! The payload of the built-in parts: rows as they came, then bytes as they go.

use crate::chunk::Payload;
use crate::format::{Compression, Records};
use crate::memory::Buffer;

/// Rows of one origin.
pub struct Batch {
    content: Content,
    rows: u64,
}

/// What form the rows are in.
pub enum Content {
    /// `CopyData` messages of the Postgres protocol, one row each, with [`PADDING`](crate::format::PADDING) behind them.
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
    },
}

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

    /// Rows as a sink writes them, one a line.
    pub fn encoded(buffer: Buffer, compression: Compression, rows: u64) -> Batch {
        Batch::encoded_as(buffer, compression, Records::Lines, rows)
    }

    /// Rows as a sink writes them, in any format.
    pub fn encoded_as(buffer: Buffer, compression: Compression, records: Records, rows: u64) -> Batch {
        let digest = xxhash_rust::xxh3::xxh3_64(buffer.bytes());
        Batch { content: Content::Encoded { buffer, compression, digest, records }, rows }
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
