//! The payload of the built-in parts: rows as they came, then lines as they go.

use crate::chunk::{Halves, Payload};
use crate::format::Compression;
use crate::memory::Buffer;

/// Rows of one table.
pub struct Batch {
    content: Content,
    rows: u64,
}

/// What form the rows are in.
pub enum Content {
    /// `CopyData` messages of the Postgres protocol, one row each, with [`PADDING`](crate::format::copy_text::PADDING) bytes behind them.
    Frames(Buffer),
    /// Bytes for a sink: JSON lines.
    Encoded {
        /// The lines, compressed or not.
        buffer: Buffer,
        /// How.
        compression: Compression,
        /// XXH3 (64 bits) of the buffer.
        digest: u64,
    },
}

impl Batch {
    /// Rows as the server sent them.
    pub fn frames(buffer: Buffer, rows: u64) -> Batch {
        Batch { content: Content::Frames(buffer), rows }
    }

    /// Rows as a sink writes them.
    pub fn encoded(buffer: Buffer, compression: Compression, rows: u64) -> Batch {
        let digest = xxhash_rust::xxh3::xxh3_64(buffer.bytes());
        Batch { content: Content::Encoded { buffer, compression, digest }, rows }
    }

    /// The rows.
    pub fn content(&self) -> &Content {
        &self.content
    }
}

impl Payload for Batch {
    fn bytes(&self) -> usize {
        match &self.content {
            Content::Frames(buffer) | Content::Encoded { buffer, .. } => buffer.bytes().len(),
        }
    }

    fn resident_bytes(&self) -> usize {
        match &self.content {
            Content::Frames(buffer) | Content::Encoded { buffer, .. } => buffer.resident_bytes(),
        }
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn digest(&self) -> Option<u64> {
        match self.content {
            Content::Frames(ref buffer) => Some(xxhash_rust::xxh3::xxh3_64(buffer.bytes())),
            Content::Encoded { digest, .. } => Some(digest),
        }
    }
}

/// Bytes of a message's kind.
const KIND: usize = 1;

/// Bytes of a message's length, which counts itself.
const LENGTH: usize = 4;

/// Rows as the server sent them are cut between two messages; the halves share the buffer. Rows as a sink writes them are not cut.
impl Halves for Batch {
    fn halves(&self) -> Option<[Batch; 2]> {
        let Content::Frames(buffer) = &self.content else { return None };
        let first = self.rows / 2;
        if first == 0 {
            return None;
        }
        let mut at = 0;
        for _ in 0..first {
            let length = buffer.bytes().get(at + KIND..at + KIND + LENGTH)?;
            at += KIND + u32::from_be_bytes(length.try_into().ok()?) as usize;
        }
        let [before, behind] = buffer.parted(at);
        Some([Batch::frames(before, first), Batch::frames(behind, self.rows - first)])
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
        let (Content::Frames(buffer) | Content::Encoded { buffer, .. }) = batch.content();
        buffer.bytes()
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
}
