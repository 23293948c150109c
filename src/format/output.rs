//! The growing end of an encoded chunk.

use crate::memory::Memory;
use std::io::{self, Write};

/// Bytes being encoded: a buffer whose initialised part runs ahead of what has been written, so that an encoder can store
/// whole words past its position and let the slice's own bounds check be the check for room.
///
/// An encoder works on `spare` and calls `commit` when a row is complete. When it runs out of room it
/// gives up on that row, the caller calls `grow`, and the row starts again: growing is rare, because buffers are
/// used again, and the hot loop carries no capacity logic at all.
#[derive(Default)]
pub struct Output {
    memory: Memory,
    written: usize,
}

impl Output {
    /// Takes over `memory`, whose length is the room there is at first; what it holds is overwritten.
    pub fn reusing(memory: Memory) -> Output {
        Output { memory, written: 0 }
    }

    /// What has been written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.written]
    }

    /// How many bytes have been written so far.
    pub fn len(&self) -> usize {
        self.written
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// Room behind what has been written.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        &mut self.memory[self.written..]
    }

    /// Keeps the first `count` bytes of [`Output::spare`].
    pub(crate) fn commit(&mut self, count: usize) {
        debug_assert!(self.written + count <= self.memory.len());
        self.written += count;
    }

    /// Takes back what was written behind the first `length` bytes.
    #[cfg(feature = "postgres")]
    pub(crate) fn truncate(&mut self, length: usize) {
        self.written = self.written.min(length);
    }

    /// Makes room for at least `expected` more bytes, and doubles it in any case: what is not used costs nothing.
    #[cold]
    pub(crate) fn grow(&mut self, expected: usize) {
        let mut memory = Memory::of((self.memory.len() * 2).max(self.written + expected).max(4096));
        memory[..self.written].copy_from_slice(self.bytes());
        self.memory = memory;
    }

    /// The memory and how much of it was written.
    pub fn into_parts(self) -> (Memory, usize) {
        (self.memory, self.written)
    }
}

/// For encoders that push, like compressors.
impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.spare().len() < bytes.len() {
            self.grow(bytes.len());
        }
        self.spare()[..bytes.len()].copy_from_slice(bytes);
        self.commit(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
