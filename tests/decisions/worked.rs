//! The worked scenarios of the specification (C1 to C12): states and all handlers after each step.

use serde_json::json;

use super::lab::Lab;
use super::scenario::{Config, Step};

/// Both nodes in sync, the first Primary.
const SYNCED: [&str; 2] =
    ["Connected Primary/Secondary UpToDate/UpToDate", "Connected Secondary/Primary UpToDate/UpToDate"];
const SOURCE: &str = "before-resync-source";
const TARGET: [&str; 2] = ["before-resync-target", "after-resync-target"];

/// A pair on which steps are played.
struct Pair(Lab);

impl Pair {
    /// Both up, the first made Primary by force: C1.
    fn synced(config: serde_json::Value) -> Self {
        let config: Config = serde_json::from_value(config).unwrap();
        let mut pair = Self(Lab::new(&config, 1));
        pair.0.all_handlers = true;
        let fresh = "Connected Secondary/Secondary Inconsistent/Inconsistent";
        pair.adm("ab", "up r0", [fresh, fresh], [&[], &[]]);
        let unfence: &[&str] = if config.disk.is_empty() { &[SOURCE] } else { &[SOURCE, "unfence-peer"] };
        pair.adm("a", "primary --force r0", SYNCED, [unfence, &TARGET]);
        pair
    }

    fn adm(&mut self, who: &str, command: &str, states: [&str; 2], handlers: [&[&str]; 2]) {
        self.play(json!([who, "adm", command]), states, handlers);
    }

    #[track_caller]
    fn play(&mut self, step: serde_json::Value, states: [&str; 2], handlers: [&[&str]; 2]) {
        let step: Step = serde_json::from_value(step).unwrap();
        let seen = self.0.play(&step);
        if step.op() != "cut" {
            assert_eq!([seen.a.as_deref(), seen.b.as_deref()], states.map(Some), "after {step:?}");
            assert_eq!(
                [seen.handlers_a, seen.handlers_b],
                handlers.map(|names| names.to_vec()),
                "after {step:?}"
            );
        }
    }
}

#[test]
fn c2_a_switchover_needs_no_resync() {
    let mut pair = Pair::synced(json!({}));
    let none = "Connected Secondary/Secondary UpToDate/UpToDate";
    pair.adm("a", "secondary r0", [none, none], [&[], &[]]);
    pair.adm("b", "primary r0", [SYNCED[1], SYNCED[0]], [&[], &[]]);
}

#[test]
fn c3_a_crashed_primary_returns_as_the_target_of_the_node_promoted_meanwhile() {
    let mut pair = Pair::synced(json!({}));
    let alone = "WFConnection Secondary/Unknown UpToDate/DUnknown";
    pair.play(json!(["a", "crash"]), ["down", alone], [&[], &[]]);
    let primary = "WFConnection Primary/Unknown UpToDate/DUnknown";
    pair.adm("b", "primary r0", ["down", primary], [&[], &[]]);
    pair.play(json!(["a", "boot"]), ["absent", primary], [&[], &[]]);
    pair.adm("a", "up r0", [SYNCED[1], SYNCED[0]], [&TARGET, &[SOURCE]]);
}

#[test]
fn c4_after_a_partition_the_primary_is_the_source_even_of_nothing() {
    let mut pair = Pair::synced(json!({}));
    pair.play(json!(["a", "cut"]), ["", ""], [&[], &[]]);
    pair.play(json!(["a", "join"]), SYNCED, [&[SOURCE], &TARGET]);
}

#[test]
fn c5_a_split_brain_waits_for_a_victim() {
    let mut pair = Pair::synced(json!({}));
    let apart =
        ["WFConnection Primary/Unknown UpToDate/DUnknown", "StandAlone Secondary/Unknown UpToDate/DUnknown"];
    pair.adm("b", "disconnect r0", apart, [&[], &[]]);
    let both = [apart[0], "StandAlone Primary/Unknown UpToDate/DUnknown"];
    pair.adm("b", "primary r0", both, [&[], &[]]);
    let split: &[&str] = &["initial-split-brain", "split-brain"];
    let refused = "StandAlone Primary/Unknown UpToDate/DUnknown";
    pair.adm("b", "connect r0", [refused, refused], [split, split]);
    pair.adm("b", "secondary r0", [refused, apart[1]], [&[], &[]]);
    let waits = "WFConnection Secondary/Unknown UpToDate/DUnknown";
    pair.adm("b", "-- --discard-my-data connect r0", [refused, waits], [&[], &[]]);
    let first = "initial-split-brain";
    pair.adm("a", "connect r0", SYNCED, [&[first, SOURCE], &[first, TARGET[0], TARGET[1]]]);
}

#[test]
fn c10_a_secondary_that_leaves_a_fencing_primary_is_outdated_until_it_is_back() {
    let mut pair = Pair::synced(json!({"disk": "fencing resource-only;"}));
    let left =
        ["WFConnection Primary/Unknown UpToDate/Outdated", "StandAlone Secondary/Unknown Outdated/DUnknown"];
    pair.adm("b", "disconnect r0", left, [&[], &[]]);
    pair.adm("b", "primary r0", left, [&[], &[]]);
    pair.adm("b", "connect r0", SYNCED, [&[SOURCE, "unfence-peer"], &TARGET]);
}

#[test]
fn c10_a_frozen_primary_thaws_without_a_resync_when_the_same_peer_is_back() {
    let config = json!({"disk": "fencing resource-and-stonith;", "handler_exit": {"fence-peer": 1}});
    let mut pair = Pair::synced(config);
    pair.play(json!(["a", "cut"]), ["", ""], [&[], &[]]);
    pair.play(json!(["a", "join"]), SYNCED, [&["fence-peer"], &[]]);
}

#[test]
fn c11_a_primary_that_attaches_its_disk_again_is_the_target() {
    let mut pair = Pair::synced(json!({}));
    let detached =
        ["Connected Primary/Secondary Diskless/UpToDate", "Connected Secondary/Primary UpToDate/Diskless"];
    pair.adm("a", "detach r0", detached, [&[], &[]]);
    pair.adm("a", "attach r0", SYNCED, [&TARGET, &[SOURCE]]);
}

#[test]
fn c12_invalidate_fetches_everything_from_the_peer() {
    let mut pair = Pair::synced(json!({}));
    pair.adm("b", "invalidate r0", SYNCED, [&[SOURCE], &TARGET]);
}

#[test]
fn a_handler_that_forbids_the_resync_ends_the_connection_before_any_data_is_touched() {
    let config: Config =
        serde_json::from_value(json!({"handler_exit": {"before-resync-target": 1}})).unwrap();
    let mut pair = Pair(Lab::new(&config, 1));
    pair.0.all_handlers = true;
    let fresh = "Connected Secondary/Secondary Inconsistent/Inconsistent";
    pair.adm("ab", "up r0", [fresh, fresh], [&[], &[]]);
    let source = "WFConnection Primary/Unknown UpToDate/Inconsistent";
    let refused = "StandAlone Secondary/Unknown Inconsistent/DUnknown";
    pair.adm("a", "primary --force r0", [source, refused], [&[SOURCE], &TARGET[..1]]);
}
