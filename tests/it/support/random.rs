//! Random choices that can be made again.

use std::time::{SystemTime, UNIX_EPOCH};

/// A stream of numbers from a seed (SplitMix64).
pub struct Random(u64);

impl Random {
    /// From the seed in `SLUICEGATE_SEED`, or a fresh one. It is printed.
    pub fn seeded(test: &str) -> Random {
        let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos().into());
        let seed = std::env::var("SLUICEGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(fresh);
        println!("{test}: SLUICEGATE_SEED={seed}");
        Random(seed)
    }

    /// Another stream, which does not depend on how much is taken from this one.
    pub fn branch(&self, number: u64) -> Random {
        Random(self.0 ^ (number + 1).wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `limit`, which must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
