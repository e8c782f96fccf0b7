//! How far a resync or verify is, and how fast it was of late (D135, D136, D137).

use std::time::Duration;

use super::status::ResyncStatus;
use crate::units::{BLOCK_BYTES, Moment};

/// Progress marks: at most this many, this far apart (D136).
const MARKS: usize = 8;
const MARK_SPACING: Duration = Duration::from_secs(3);
/// Without progress for so long a run is called stalled (D136).
const STALLED: Duration = Duration::from_secs(180);

/// The books of one run. All counts are of blocks.
#[derive(Debug)]
pub(super) struct Progress {
    /// What there was to do when it began.
    pub(super) total: u64,
    started: Moment,
    paused_since: Option<Moment>,
    paused: Duration,
    marks: Vec<(Moment, u64)>,
}

impl Progress {
    /// A run that begins now.
    pub(super) fn new(now: Moment, total: u64) -> Self {
        Self { total, started: now, paused_since: None, paused: Duration::ZERO, marks: vec![(now, total)] }
    }

    /// It is held (D137).
    pub(super) const fn pause(&mut self, now: Moment) {
        self.paused_since = Some(now);
    }

    /// It goes on (D137).
    pub(super) fn resume(&mut self, now: Moment) {
        if let Some(since) = self.paused_since.take() {
            self.paused += now.since(since);
        }
    }

    /// So much is left.
    pub(super) fn note(&mut self, now: Moment, left: u64) {
        let Some(&(last, value)) = self.marks.last() else { return };
        if self.paused_since.is_none() && left != value && now.since(last) >= MARK_SPACING {
            self.marks.push((now, left));
            if self.marks.len() > MARKS {
                self.marks.remove(0);
            }
        }
    }

    /// The figures for the status (D135, D136).
    pub(super) fn status(&self, now: Moment, left: u64, failed: u64, want_kib_s: u64) -> ResyncStatus {
        let left = left.min(self.total);
        let paused = self.paused + self.paused_since.map_or(Duration::ZERO, |since| now.since(since));
        let elapsed = now.since(self.started);
        let kib = |bits: u64| bits * (BLOCK_BYTES / 1024);
        let (mark_time, mark_left) = self.marks.first().copied().unwrap_or((self.started, self.total));
        let dt = now.since(mark_time).as_secs().max(1);
        let done = mark_left.saturating_sub(left);
        let active = elapsed.saturating_sub(paused).as_secs().max(1);
        let finish_s = (done > 0).then(|| dt * (left / (done / 100 + 1)) / 100);
        ResyncStatus {
            total_bits: self.total,
            left_bits: left,
            failed_bits: failed,
            elapsed_s: elapsed.as_secs(),
            paused_s: paused.as_secs(),
            speed_kib_s: kib(done / dt),
            mean_kib_s: kib(self.total - left) / active,
            want_kib_s,
            finish_s,
            stalled: now.since(mark_time) > STALLED,
        }
    }

    /// The parenthesis of the line that ends a run in which so many blocks were done (D134).
    pub(super) fn summary(&self, now: Moment, done: u64) -> String {
        let status = self.status(now, 0, 0, 0);
        let active = status.elapsed_s.saturating_sub(status.paused_s).max(1);
        let (total, paused) = (status.elapsed_s.max(1), status.paused_s);
        format!("(total {total} sec; paused {paused} sec; {} K/sec)", done * (BLOCK_BYTES / 1024) / active)
    }
}
