//! Memory for chunks: taken from the system and given back to it, without an allocator in between.
//!
//! An allocator keeps what large buffers leave behind for later, in the size of the largest, and a memory limit cannot hold. Pages
//! that the system gives cost nothing until they are touched, so a buffer may be larger than what it probably has to hold.

use memmap2::MmapMut;
use parking_lot::Mutex;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
#[cfg(any(feature = "files", feature = "postgres"))]
use std::sync::atomic::{AtomicUsize, Ordering};

/// Zeroed pages.
#[derive(Default)]
pub struct Memory {
    /// `None` is none at all.
    pages: Option<MmapMut>,
}

impl Memory {
    /// At least `length` bytes.
    ///
    /// # Panics
    /// When the system has no memory left, as any allocation does.
    pub fn of(length: usize) -> Memory {
        Memory { pages: (length > 0).then(|| MmapMut::map_anon(length).expect("the system has memory")) }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.pages.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.pages.as_deref_mut().unwrap_or_default()
    }
}

/// Memory with something in its beginning, which goes back to its pool; or a part of that.
pub struct Buffer {
    whole: Arc<Whole>,
    content: Range<usize>,
    is_part: bool,
}

/// What the parts of a buffer share.
struct Whole {
    memory: Memory,
    pool: Option<Pool>,
}

impl Buffer {
    /// The first `length` bytes of `memory`, which belongs to `pool`.
    pub fn new(memory: Memory, length: usize, pool: &Pool) -> Buffer {
        debug_assert!(length <= memory.len());
        Buffer { whole: Arc::new(Whole { memory, pool: Some(pool.clone()) }), content: 0..length, is_part: false }
    }

    /// A copy of `bytes` with `padding` zeros behind it, which belongs to no pool.
    pub fn copy_of(bytes: &[u8], padding: usize) -> Buffer {
        let mut memory = Memory::of(bytes.len() + padding);
        memory[..bytes.len()].copy_from_slice(bytes);
        Buffer { whole: Arc::new(Whole { memory, pool: None }), content: 0..bytes.len(), is_part: false }
    }

    /// Two buffers that share this one's memory: what is before `at`, and what is from there on. The memory goes back when both are gone.
    pub fn parted(&self, at: usize) -> [Buffer; 2] {
        let at = self.content.start + at.min(self.content.len());
        [self.content.start..at, at..self.content.end].map(|content| Buffer { whole: self.whole.clone(), content, is_part: true })
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.whole.memory[self.content.clone()]
    }

    /// What is in it and everything behind.
    pub fn padded(&self) -> &[u8] {
        &self.whole.memory[self.content.start..]
    }

    /// How much memory it takes: all of what has been used again and again, of other memory what was written to. Of a part, its share.
    pub fn resident_bytes(&self) -> usize {
        let Whole { memory, pool } = &*self.whole;
        if !self.is_part && pool.as_ref().is_some_and(|pool| pool.keeps(memory)) { memory.len() } else { self.content.len() }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give_back(std::mem::take(&mut self.memory));
        }
    }
}

/// Memory of about one size, used again and again: touching fresh pages is most of what a small buffer costs.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Shelf>,
}

struct Shelf {
    idle: Mutex<Vec<Memory>>,
    /// Larger memory is not kept.
    largest: usize,
    /// No more than this many are kept.
    most: usize,
}

impl Pool {
    /// Keeps up to `most` idle pieces of up to `largest` bytes each.
    pub fn new(largest: usize, most: usize) -> Pool {
        Pool { inner: Arc::new(Shelf { idle: Mutex::default(), largest, most }) }
    }

    /// At least `length` bytes, with anything in them.
    pub fn take(&self, length: usize) -> Memory {
        let kept = if length <= self.inner.largest { self.inner.idle.lock().pop() } else { None };
        kept.filter(|memory| memory.len() >= length).unwrap_or_else(|| Memory::of(length))
    }

    fn keeps(&self, memory: &Memory) -> bool {
        memory.len() <= self.inner.largest
    }

    fn give_back(&self, memory: Memory) {
        let mut idle = self.inner.idle.lock();
        if self.keeps(&memory) && idle.len() < self.inner.most {
            idle.push(memory);
        }
    }
}

/// A chunk above this size, whatever was asked for, is one giant row.
#[cfg(any(feature = "files", feature = "postgres"))]
const GIANT_CHUNK: usize = 4 << 20;

/// How much larger rows get on their way to the sink: what a chunk must be given room for before it is read.
#[cfg(any(feature = "files", feature = "postgres"))]
pub(crate) struct Expansion {
    /// Output bytes for 16 input bytes.
    sixteenths: AtomicUsize,
}

#[cfg(any(feature = "files", feature = "postgres"))]
impl Default for Expansion {
    fn default() -> Expansion {
        Expansion { sixteenths: AtomicUsize::new(48) }
    }
}

#[cfg(any(feature = "files", feature = "postgres"))]
impl Expansion {
    /// Room for the output of `input` bytes. A giant row gets little at first: it probably is one long text, and more can be had.
    pub(crate) fn room(&self, input: usize) -> usize {
        let expected = input / 16 * self.sixteenths.load(Ordering::Relaxed);
        if input > GIANT_CHUNK { expected.min(input + input / 8) } else { expected }
    }

    /// A chunk's `input` bytes needed `output` bytes. Grows at once, shrinks slowly.
    pub(crate) fn learn(&self, input: usize, output: usize) {
        let seen = (output * 16).div_ceil(input.max(1)) + 1;
        let known = self.sixteenths.load(Ordering::Relaxed);
        self.sixteenths.store(if seen > known { seen } else { (known * 15 + seen) / 16 }, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_buffer_share_its_memory_until_both_are_gone() {
        let pool = Pool::new(100, 1);
        let mut memory = pool.take(10);
        memory[..6].copy_from_slice(b"abcdef");
        let whole = Buffer::new(memory, 6, &pool);
        let [first, rest] = whole.parted(2);
        let [second, third] = rest.parted(1);
        drop((whole, rest, second));
        assert_eq!((first.bytes(), third.bytes(), &third.padded()[..4]), (&b"ab"[..], &b"def"[..], &b"def\0"[..]));
        drop(first);
        assert_eq!(pool.inner.idle.lock().len(), 0);
        drop(third);
        assert_eq!(pool.inner.idle.lock().len(), 1);
    }
}
