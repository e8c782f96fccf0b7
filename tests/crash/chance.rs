//! Chance from one seed, so that a round's plan can be had again.

use std::time::{Duration, Instant};

use urbd::sim::random::Random;

/// A source of chance.
#[derive(Clone, Debug)]
pub(crate) struct Chance(Random);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `end`.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// True once in `times`.
    pub(crate) const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A source for somebody else.
    pub(crate) const fn split(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// Keeps the processor busy for a random time below `end`: finer than a sleep, for a moment between two events.
    pub(crate) fn spin(&mut self, end: Duration) {
        let end = Instant::now() + Duration::from_micros(self.below(end.as_micros() as u64 + 1));
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }
}
