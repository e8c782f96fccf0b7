//! Chance from one seed, so that a round's plan can be had again.

use std::time::{Duration, Instant};

/// A source of chance (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `times`.
    pub(crate) const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A source for somebody else.
    pub(crate) const fn split(&mut self) -> Self {
        Self::new(self.next())
    }

    /// Keeps the processor busy for a random time below `end`: finer than a sleep, for a moment between two events.
    pub(crate) fn spin(&mut self, end: Duration) {
        let end = Instant::now() + Duration::from_micros(self.below(end.as_micros() as u64 + 1));
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }
}
