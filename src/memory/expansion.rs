//! How much room rows need on their way to the sink.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A chunk above this size, whatever was asked for, is one giant row.
const GIANT_CHUNK: usize = 4 << 20;

/// How much larger rows get on their way to the sink: what a chunk must be given room for before it is read.
pub(crate) struct Expansion {
    /// Output bytes for 16 input bytes.
    sixteenths: AtomicUsize,
}

impl Default for Expansion {
    fn default() -> Expansion {
        Expansion { sixteenths: AtomicUsize::new(48) }
    }
}

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
