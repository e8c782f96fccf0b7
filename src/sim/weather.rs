//! How the network does: how long bytes are on their way, in what pieces they arrive, and how a
//! connection breaks.

use std::time::Duration;

use super::events::HostId;
use super::io::Universe;

/// What the network is like at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The shortest time that bytes are on their way.
    pub least: Duration,
    /// How much longer it may take, drawn anew for each piece and so for each socket.
    pub spread: Duration,
    /// At most so many bytes arrive at once.
    pub piece: usize,
}

impl Default for Weather {
    fn default() -> Self {
        Self { least: Duration::from_micros(50), spread: Duration::from_micros(100), piece: 64 << 10 }
    }
}

impl Universe {
    /// How long bytes are on their way this time.
    pub(super) fn latency(&mut self) -> Duration {
        let spread = self.weather.spread.as_nanos() as u64;
        self.weather.least + Duration::from_nanos(self.random.below(spread))
    }

    /// At most so many bytes arrive at once this time.
    pub(super) fn piece(&mut self) -> usize {
        match self.weather.piece {
            whole @ 65_536.. => whole,
            piece => 1 + self.random.below(piece as u64) as usize,
        }
    }

    /// Breaks one connection between the machines, at some byte in each direction: both ends learn of it
    /// once they have read what got through. Whether there was one.
    pub(super) fn break_one(&mut self) -> bool {
        let ends = self.network.ends_between_hosts();
        if ends.is_empty() {
            return false;
        }
        let (one, other) = ends[self.random.below(ends.len() as u64) as usize];
        for key in [one, other] {
            let on_the_way = self.network.on_the_way_to(key);
            let through = self.random.below(on_the_way as u64 + 1) as usize;
            self.break_end(key, through);
        }
        true
    }

    /// The loop of a machine stands still until then.
    pub(super) fn pause(&mut self, host: HostId, span: Duration) {
        self.hosts[host].paused_until = self.now.after(span);
    }
}
