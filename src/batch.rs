//! The payload of the built-in parts: rows as they came, then lines as they go.

use crate::chunk::Payload;
use crate::format::Compression;
use crate::memory::Buffer;

/// Rows of one table.
pub struct Batch {
    content: Content,
    rows: u64,
}

/// What form the rows are in.
pub enum Content {
    /// `CopyData` messages of the Postgres protocol, one row each, with [`PADDING`](crate::format::copy_text::PADDING) behind them.
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
