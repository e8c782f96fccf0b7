//! The table at the end: urbd beside the bare disks.

use std::fmt::Write;
use std::time::Duration;

use super::load::{Kind, Load};

/// The fewest samples that criterion takes. So many rounds at the end are measurements; before them it warms up,
/// and where there are fewer it only tried whether the benchmark works.
const ROUNDS: usize = 10;

/// The same requests on all contenders, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// How many requests.
    pub requests: u64,
    /// Through urbd, from NBD to the answer.
    pub urbd: Duration,
    /// On one bare disk.
    pub one_disk: Duration,
    /// On two bare disks at once, as a mirror must; only for writes.
    pub both_disks: Option<Duration>,
}

/// All rounds of one load.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was asked for.
    pub load: Load,
    /// In the order of time, criterion's warm-up included.
    pub rounds: Vec<Round>,
}

/// The rows that hold a measurement; `None` if there is none.
pub fn table(rows: &[Row]) -> Option<String> {
    let mut text = format!(
        "{:22} {:>12} {:>12} {:>12} {:>10} {:>11} {:>11}\n",
        "", "one disk", "both disks", "urbd", "latency", "urbd/one", "urbd/both"
    );
    let mut found = false;
    for row in rows {
        let Some(rounds) = row.rounds.last_chunk::<ROUNDS>() else { continue };
        found = true;
        let speed = |time: fn(&Round) -> Option<Duration>| {
            let per_second = |round| Some(round_speed(round, time(round)?));
            median(rounds.iter().filter_map(per_second))
                .map_or_else(|| "-".to_owned(), |speed| amount(row.load, speed))
        };
        let ratio = |time: fn(&Round) -> Option<Duration>| {
            let of = |round: &Round| Some(time(round)?.as_secs_f64() / round.urbd.as_secs_f64());
            median(rounds.iter().filter_map(of)).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
        };
        let urbd =
            |round: &Round| round.urbd.as_secs_f64() * 1e6 * row.load.depth as f64 / round.requests as f64;
        let latency = median(rounds.iter().map(urbd)).unwrap_or_default();
        let _ = writeln!(
            text,
            "{:22} {:>12} {:>12} {:>12} {:>10} {:>11} {:>11}",
            row.load.to_string(),
            speed(|round| Some(round.one_disk)),
            speed(|round| round.both_disks),
            speed(|round| Some(round.urbd)),
            format!("{latency:.0} µs"),
            ratio(|round| Some(round.one_disk)),
            ratio(|round| round.both_disks),
        );
    }
    found.then_some(text)
}

/// Requests a second.
fn round_speed(round: &Round, time: Duration) -> f64 {
    round.requests as f64 / time.as_secs_f64()
}

/// Small requests are counted, large ones weighed.
fn amount(load: Load, per_second: f64) -> String {
    if load.bytes < 1 << 20 {
        format!("{per_second:.0}/s")
    } else {
        format!("{:.0} MiB/s", per_second * f64::from(load.bytes) / f64::from(1 << 20))
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Whether a load is also measured on two disks at once.
pub fn takes_both_disks(load: Load) -> bool {
    load.kind == Kind::Write
}
