//! How many rounds a test has, and from which seeds.
//!
//! `URBD_CRASH_ROUNDS=50` asks for so many rounds in place of those that fit in [`TIME`]; `URBD_CRASH_SEED=0x12ab` for
//! the seed of the first one, each further one has the next number.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::chance::Chance;

const ROUNDS: &str = "URBD_CRASH_ROUNDS";
const SEED: &str = "URBD_CRASH_SEED";
/// Rounds that begin later than this after the first one are left out, unless a number was asked for.
const TIME: Duration = Duration::from_secs(18);
/// But so many are always led.
const AT_LEAST: u64 = 2;
/// A round that takes longer has hung: several resyncs, boots of a guest, and lost connections that are noticed late.
const ROUND_LIMIT: Duration = Duration::from_secs(150);

/// The rounds of a test.
pub(crate) struct Budget {
    rounds: Option<u64>,
    first: u64,
    begun: Instant,
}

impl Budget {
    /// As the environment asks for.
    pub(crate) fn wanted() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            let hex = text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
            Some(hex.unwrap_or_else(|| text.parse()).unwrap_or_else(|error| panic!("{name}={text}: {error}")))
        };
        let of_now = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            Chance::new(now.as_nanos() as u64).next() >> 32
        };
        Self { rounds: number(ROUNDS), first: number(SEED).unwrap_or_else(of_now), begun: Instant::now() }
    }

    /// How long the whole test may take.
    pub(crate) fn limit(&self) -> Duration {
        TIME + ROUND_LIMIT * self.rounds.unwrap_or(AT_LEAST) as u32
    }

    /// Leads rounds, each with its seed, and says how to lead the same one again if it fails. `test` is the name of the
    /// test.
    pub(crate) fn lead(&self, test: &str, mut round: impl FnMut(Chance)) -> u64 {
        let mut led = 0;
        loop {
            let enough = match self.rounds {
                Some(rounds) => led >= rounds,
                None => led >= AT_LEAST && self.begun.elapsed() >= TIME,
            };
            if enough {
                return led;
            }
            let seed = self.first.wrapping_add(led);
            println!("--- round {led}, seed {seed:#x}");
            let _again = Again { test, seed };
            round(Chance::new(seed));
            led += 1;
        }
    }
}

/// Says, when a round fails, how to have its plan again.
struct Again<'a> {
    test: &'a str,
    seed: u64,
}

impl Drop for Again<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { test, seed } = self;
            println!(
                "the plan again: {SEED}={seed:#x} {ROUNDS}=1 cargo test --test crash {test} -- --exact --nocapture"
            );
        }
    }
}
