//! Where a scenario is played: two nodes, of whatever kind, on which steps are carried out and watched.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::allowed;
use super::compare::Judge;
use super::scenario::{After, Scenario, Step};

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 4096;
/// A write is given up after so long.
pub(crate) const WRITE_PATIENCE: Duration = Duration::from_secs(20);
/// Without a change for so long, both nodes are quiet.
pub(crate) const QUIET: Duration = Duration::from_millis(500);
/// The slowest resync of the recordings takes half of it.
pub(crate) const NEVER_QUIET: Duration = Duration::from_secs(420);
/// The handlers whose calls were recorded.
pub(crate) const HANDLERS: [&str; 5] =
    ["initial-split-brain", "split-brain", "pri-lost", "pri-lost-after-sb", "fence-peer"];
/// What all resource files of the recordings had in `net`.
pub(crate) const COMMON_NET: &str = "connect-int 2; ping-int 2; ping-timeout 10; timeout 15;";

/// Two nodes with fresh metadata, down.
pub(crate) trait Stage {
    /// Carries out a step and waits until both nodes are quiet; what is to be seen then.
    fn play(&mut self, step: &Step) -> After;
    /// What a block begins with on a node's disk: the tag of a write, nothing for zeroes.
    fn tag(&self, host: usize, block: u64) -> String;
}

/// The tag in the first bytes of a block.
pub(crate) fn tag_of(bytes: [u8; 8]) -> String {
    String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n']).to_owned()
}

/// Whether nothing is going on, by the states of both nodes; `whole`: the link is.
pub(crate) fn is_quiet(states: &[String; 2], whole: bool) -> bool {
    const AT_REST: [&str; 5] = ["StandAlone", "WFConnection", "Connected", "PausedSyncS", "PausedSyncT"];
    let conns = states.each_ref().map(|state| state.split(' ').next().unwrap_or_default());
    let absent = |conn: &str| ["down", "absent", "Unconfigured"].contains(&conn);
    let resting = conns.iter().all(|conn| AT_REST.contains(conn) || absent(conn));
    let seeking = conns.iter().all(|conn| *conn == "WFConnection");
    let alone = !whole || conns.iter().any(|conn| absent(conn));
    let connected = conns.iter().any(|conn| *conn == "Connected" || conn.starts_with("Paused"));
    resting && !(seeking && whole) && !(connected && alone)
}

/// What came of one scenario.
pub(crate) struct Verdict {
    pub(crate) id: String,
    /// Why steps may and do differ from their recording.
    pub(crate) allowed: Vec<&'static str>,
    pub(crate) failure: Option<String>,
}

/// Plays a scenario and compares after every step. `tell` hears of each of them.
pub(crate) fn replay(scenario: &Scenario, stage: &mut dyn Stage, mut tell: impl FnMut(String)) -> Verdict {
    let mut judge = Judge::new(scenario);
    let mut failure = None;
    for (number, step) in scenario.trace.iter().enumerate() {
        if allowed::is_unrecorded_write(&scenario.id, step) {
            continue;
        }
        let seen = stage.play(&step.step);
        tell(format!("{} {:?}\n      {seen}", number + 1, step.step));
        if let Err(why) = judge.compare(step, &seen) {
            failure = Some(format!("step {} {:?}: {why}", number + 1, step.step));
            break;
        }
    }
    if failure.is_none()
        && let Err(why) = judge.compare_data(scenario, stage)
    {
        failure = Some(why);
    }
    Verdict { id: scenario.id.clone(), allowed: judge.allowed, failure }
}

/// How many lines of each group agreed, with how many races and excuses.
#[derive(Default)]
pub(crate) struct Tally {
    groups: BTreeMap<String, [u32; 3]>,
    failures: String,
}

impl Tally {
    /// Counts a line. `excuse`: why it may fail.
    pub(crate) fn count(&mut self, group: &str, verdict: &Verdict, excuse: Option<&str>) {
        let [lines, races, excused] = self.groups.entry(group.to_owned()).or_default();
        *lines += 1;
        match (&verdict.failure, excuse) {
            (None, _) => *races += u32::from(!verdict.allowed.is_empty()),
            (Some(_), Some(_)) => *excused += 1,
            (Some(why), None) => writeln!(self.failures, "## {}\n   {why}", verdict.id).unwrap(),
        }
    }

    /// Prints the table; a line that differs without an excuse fails the test.
    pub(crate) fn finish(&self) {
        println!("{:24} {:>5} {:>5} {:>7}", "group", "lines", "races", "excused");
        let mut sum = [0; 3];
        for (group, [lines, races, excused]) in &self.groups {
            println!("{group:24} {lines:>5} {races:>5} {excused:>7}");
            sum = [sum[0] + lines, sum[1] + races, sum[2] + excused];
        }
        println!("{:24} {:>5} {:>5} {:>7}", "all", sum[0], sum[1], sum[2]);
        assert!(self.failures.is_empty(), "\n{}", self.failures);
    }
}
