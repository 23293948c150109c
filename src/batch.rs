//! The payload of the built-in parts: rows as they came, then lines as they go.

use crate::chunk::Payload;
use parking_lot::Mutex;
use std::sync::Arc;

/// Rows of one table.
pub struct Batch {
    content: Content,
    rows: u64,
}

/// What form the rows are in.
pub enum Content {
    /// `CopyData` messages of the Postgres protocol, one row each, with [`PADDING`](crate::format::copy_text::PADDING) behind them.
    Frames(Buffer),
    /// Bytes for a sink: JSON lines, compressed or not, and their digest (XXH3, 64 bits).
    Encoded(Buffer, u64),
}

impl Batch {
    /// Rows as the server sent them.
    pub fn frames(buffer: Buffer, rows: u64) -> Batch {
        Batch { content: Content::Frames(buffer), rows }
    }

    /// Rows as a sink writes them.
    pub fn encoded(buffer: Buffer, rows: u64) -> Batch {
        let digest = xxhash_rust::xxh3::xxh3_64(buffer.bytes());
        Batch { content: Content::Encoded(buffer, digest), rows }
    }

    /// The rows.
    pub fn content(&self) -> &Content {
        &self.content
    }
}

impl Payload for Batch {
    fn bytes(&self) -> usize {
        self.as_ref().len()
    }

    fn resident_bytes(&self) -> usize {
        match &self.content {
            Content::Frames(buffer) | Content::Encoded(buffer, _) => buffer.capacity(),
        }
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn digest(&self) -> Option<u64> {
        match self.content {
            Content::Frames(_) => None,
            Content::Encoded(_, digest) => Some(digest),
        }
    }
}

/// What a sink writes.
impl AsRef<[u8]> for Batch {
    fn as_ref(&self) -> &[u8] {
        match &self.content {
            Content::Frames(buffer) | Content::Encoded(buffer, _) => buffer.bytes(),
        }
    }
}

/// Memory that goes back to its pool.
pub struct Buffer {
    memory: Vec<u8>,
    length: usize,
    pool: Option<Pool>,
}

impl Buffer {
    /// The first `length` bytes of `memory`, which belongs to `pool`.
    pub fn new(memory: Vec<u8>, length: usize, pool: &Pool) -> Buffer {
        debug_assert!(length <= memory.len());
        Buffer { memory, length, pool: Some(pool.clone()) }
    }

    /// `memory`, which belongs to no pool.
    pub fn of(memory: Vec<u8>) -> Buffer {
        Buffer { length: memory.len(), memory, pool: None }
    }

    /// The same, with [`PADDING`](crate::format::copy_text::PADDING) behind it.
    pub fn with_padding(mut memory: Vec<u8>) -> Buffer {
        let length = memory.len();
        memory.resize(length + crate::format::copy_text::PADDING, 0);
        Buffer { memory, length, pool: None }
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.length]
    }

    /// What is in it and the padding behind.
    pub fn padded(&self) -> &[u8] {
        &self.memory
    }

    /// How much memory it holds.
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give_back(std::mem::take(&mut self.memory));
        }
    }
}

/// Buffers of about one size, used again and again: memory that is given back to the allocator from other threads than took it tends
/// to be neither used again nor returned to the system.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Shelf>,
}

struct Shelf {
    idle: Mutex<Vec<Vec<u8>>>,
    /// Buffers that are larger are not kept.
    largest: usize,
    /// No more than this many are kept.
    most: usize,
}

impl Pool {
    /// Keeps up to `most` idle buffers of up to `largest` bytes each.
    pub fn new(largest: usize, most: usize) -> Pool {
        Pool { inner: Arc::new(Shelf { idle: Mutex::default(), largest, most }) }
    }

    /// A buffer of at least `length` initialised bytes, with anything in them.
    pub fn take(&self, length: usize) -> Vec<u8> {
        let mut memory = self.inner.idle.lock().pop().unwrap_or_default();
        if memory.len() < length {
            // Nothing in it is worth copying to a larger place.
            memory.clear();
            memory.reserve_exact(length);
            memory.resize(length, 0);
        }
        memory
    }

    fn give_back(&self, memory: Vec<u8>) {
        let mut idle = self.inner.idle.lock();
        if memory.capacity() <= self.inner.largest && idle.len() < self.inner.most {
            idle.push(memory);
        }
    }
}
