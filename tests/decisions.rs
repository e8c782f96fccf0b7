//! What two in-kernel DRBD 8.4.11 nodes did in 316 scenarios, against two urbd nodes in the false world.
//!
//! `tests/data/decisions.jsonl.gz` has a line for each scenario: the configuration, the steps, and after each
//! step the states, generation UUIDs, metadata flags, handlers and exit codes of both nodes, in the end the
//! data. The lines are replayed on whole resources, in virtual time, and compared after every step.
//!
//! `URBD_SCENARIO=name` replays only the scenarios whose name contains that, and prints what happens
//! (`RUST_LOG=info` adds the nodes' logs); `URBD_SEED=n` replays them with that seed.

#![allow(clippy::unwrap_used)]

#[path = "decisions/allowed.rs"]
mod allowed;
#[path = "decisions/compare.rs"]
mod compare;
#[path = "decisions/lab.rs"]
mod lab;
#[path = "decisions/scenario.rs"]
mod scenario;
#[path = "decisions/trace.rs"]
mod trace;
#[path = "decisions/traces.rs"]
mod traces;
#[path = "decisions/worked.rs"]
mod worked;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use compare::Judge;
use lab::Lab;
use scenario::{Scenario, scenarios};

/// What came of one scenario.
struct Verdict {
    id: String,
    /// Steps whose recording urbd may and does differ from, with the reason.
    allowed: Vec<&'static str>,
    failure: Option<String>,
}

fn replay(scenario: &Scenario, seed: u64) -> Verdict {
    let id = scenario.id.clone();
    let mut lab = Lab::new(&scenario.config, seed);
    let mut judge = Judge::new(scenario);
    let mut failure = None;
    for (number, step) in scenario.trace.iter().enumerate() {
        if allowed::is_unrecorded_write(&scenario.id, step) {
            continue;
        }
        let seen = lab.play(&step.step);
        if std::env::var_os("URBD_SCENARIO").is_some() {
            println!("  {} {:?}", number + 1, step.step);
            println!("      {seen}");
        }
        if let Err(why) = judge.compare(step, &seen) {
            failure = Some(format!("step {} {:?}: {why}", number + 1, step.step));
            break;
        }
    }
    if failure.is_none()
        && let Err(why) = judge.compare_data(scenario, &lab)
    {
        failure = Some(why);
    }
    Verdict { id, allowed: judge.allowed, failure }
}

/// Replays all lines whose number leaves this remainder: the whole is shared among a few tests, which
/// run side by side.
fn replay_part(part: usize, parts: usize) {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .without_time()
        .with_target(false)
        .try_init();
    let only = std::env::var("URBD_SCENARIO").ok();
    let seed = std::env::var("URBD_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut groups: BTreeMap<String, [u32; 3]> = BTreeMap::new();
    let (mut failures, mut obsolete) = (String::new(), String::new());
    for (number, scenario) in scenarios().iter().enumerate() {
        let wanted = only.as_ref().map_or(number % parts == part, |only| scenario.id.contains(only.as_str()));
        if !wanted || (only.is_some() && part != 0) {
            continue;
        }
        let verdict = replay(scenario, seed);
        let tally = groups.entry(scenario.group().to_owned()).or_default();
        tally[0] += 1;
        match (&verdict.failure, allowed::not_yet(&verdict.id)) {
            (None, None) => tally[1] += u32::from(!verdict.allowed.is_empty()),
            (None, Some(reason)) => {
                writeln!(obsolete, "{} agrees now; it was excused: {reason}", verdict.id).unwrap();
            }
            (Some(_), Some(_)) => tally[2] += 1,
            (Some(why), None) => writeln!(failures, "## {}\n   {why}", verdict.id).unwrap(),
        }
    }
    println!("{:24} {:>5} {:>5} {:>7}", "group", "lines", "races", "not yet");
    for (group, [lines, races, excused]) in &groups {
        println!("{group:24} {lines:>5} {races:>5} {excused:>7}");
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(obsolete.is_empty(), "\n{obsolete}");
}

#[test]
fn urbd_decides_as_the_kernels_did_1_of_4() {
    replay_part(0, 4);
}

#[test]
fn urbd_decides_as_the_kernels_did_2_of_4() {
    replay_part(1, 4);
}

#[test]
fn urbd_decides_as_the_kernels_did_3_of_4() {
    replay_part(2, 4);
}

#[test]
fn urbd_decides_as_the_kernels_did_4_of_4() {
    replay_part(3, 4);
}

#[test]
fn every_excuse_names_a_scenario_that_exists() {
    let known: Vec<String> = scenarios().into_iter().map(|scenario| scenario.id).collect();
    assert_eq!(known.len(), 316);
    for (id, _) in allowed::NOT_YET {
        assert!(known.iter().any(|known| known == id), "there is no scenario {id}");
    }
}
