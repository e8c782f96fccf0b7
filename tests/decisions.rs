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
#[path = "decisions/stage.rs"]
mod stage;
#[path = "decisions/trace.rs"]
mod trace;
#[path = "decisions/traces.rs"]
mod traces;
#[path = "decisions/worked.rs"]
mod worked;

use lab::Lab;
use scenario::scenarios;
use stage::{Tally, replay};

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
    let mut tally = Tally::default();
    for (number, scenario) in scenarios().iter().enumerate() {
        let wanted = only.as_ref().map_or(number % parts == part, |only| scenario.id.contains(only.as_str()));
        if !wanted || (only.is_some() && part != 0) {
            continue;
        }
        let mut lab = Lab::new(&scenario.config, seed);
        let verdict = replay(scenario, &mut lab, |step| {
            if only.is_some() {
                println!("  {step}");
            }
        });
        tally.count(scenario.group(), &verdict, None);
    }
    tally.finish();
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
fn no_line_is_missing() {
    assert_eq!(scenarios().len(), 316);
}
