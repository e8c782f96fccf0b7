//! The worked scenarios C3 to C13, where the traces of C14 do not show them.

use serde_json::json;

use super::scenario::Step;
use super::stage::Stage;
use super::trace::{RESYNCED, RESYNCED_PRIMARY, Trace, resync_of_fifty_runs};

#[test]
fn c4_two_secondaries_that_were_parted_have_nothing_to_do() {
    let mut trace = Trace::synced(json!({}));
    trace.play("a adm secondary r0");
    let parted = "WFConnection Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · 0";
    trace.step("a cut; quiet", parted, parted);
    let met = "Connected Secondary/Secondary UpToDate/UpToDate · g1:0:r1:JC · 0";
    trace.step("a join", met, met);
}

#[test]
fn c3c_two_primaries_that_crashed_resync_what_either_wrote() {
    let mut trace = Trace::synced(json!({"net": "allow-two-primaries yes;"}));
    trace.play("b adm primary r0; a write 0 1; b write 1500 1; ab crash; ab boot; a adm up r0");
    trace.forget_handlers();
    // The one that connected first is the source (rule 40); both extents of the log are marked.
    trace.step(
        "b adm up r0",
        "Connected Secondary/Secondary UpToDate/UpToDate · g1:0:r2:r1 · 0 · before-resync-source",
        "Connected Secondary/Secondary UpToDate/UpToDate · g1:0:r2:r1 · 0 \
         · before-resync-target, after-resync-target",
    );
}

#[test]
fn c6_two_primaries_that_were_parted_have_a_split_brain_even_if_neither_wrote() {
    let mut trace = Trace::synced(json!({"net": "allow-two-primaries yes;"}));
    trace.play("b adm primary r0");
    let a = "WFConnection Primary/Unknown UpToDate/DUnknown · g2*:g1*:r1:JC · 0";
    let b = "WFConnection Primary/Unknown UpToDate/DUnknown · g3*:g1*:r1:JC · 0";
    trace.step("a cut; quiet", a, b);
    let split = " · initial-split-brain, split-brain";
    let alone = |row: &str| row.replace("WFConnection", "StandAlone") + split;
    trace.step("a join", &alone(a), &alone(b));
}

#[test]
fn c7_a_demotion_that_the_peer_did_not_hear_of_makes_no_generation() {
    let mut trace = Trace::synced(json!({}));
    let parted = "WFConnection Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · 0";
    trace.step("a cut; a adm secondary r0; quiet", parted, parted);
    let met = "Connected Secondary/Secondary UpToDate/UpToDate · g1:0:r1:JC · 0";
    trace.step("a join", met, met);
}

#[test]
fn c7_a_demotion_after_the_loss_does_not_undo_its_generation() {
    let mut trace = Trace::synced(json!({}));
    let a = "WFConnection Secondary/Unknown UpToDate/DUnknown · g2:g1*:r1:JC · 0";
    let b = "WFConnection Primary/Unknown UpToDate/DUnknown · g3*:g1:r1:JC · 0";
    trace.step("a cut; quiet; a adm secondary r0; b adm primary r0", a, b);
    let split = " · initial-split-brain, split-brain";
    let alone = |row: &str| row.replace("WFConnection", "StandAlone") + split;
    trace.step("a join", &alone(a), &alone(b));
}

#[test]
fn c7_a_demotion_before_the_loss_leaves_one_history() {
    let mut trace = Trace::synced(json!({}));
    trace.step(
        "a adm secondary r0; a cut; quiet; b adm primary r0",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · 0",
        "WFConnection Primary/Unknown UpToDate/DUnknown · g2*:g1:r1:JC · 0",
    );
    trace.step(
        "a join",
        "Connected Secondary/Primary UpToDate/UpToDate · g2:0:g1+:g1 · 0 \
         · before-resync-target, after-resync-target",
        "Connected Primary/Secondary UpToDate/UpToDate · g2*:0:g1+:g1 · 0 · before-resync-source",
    );
}

#[test]
fn c7_a_promotion_under_way_when_the_link_breaks_goes_on_alone() {
    let mut trace = Trace::synced(json!({}));
    trace.step(
        "a adm secondary r0; a cut; b adm primary r0",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · 0",
        "WFConnection Primary/Unknown UpToDate/DUnknown · g2*:g1:r1:JC · 0",
    );
}

#[test]
fn c7_a_second_promotion_of_a_node_on_its_own_makes_no_further_generation() {
    let mut trace = Trace::synced(json!({}));
    let alone = "WFConnection Primary/Unknown UpToDate/DUnknown · g2*:g1*:r1:JC · 0";
    let other = "WFConnection Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · 0";
    trace.step("a cut; quiet", alone, other);
    trace.step("a adm secondary r0; a adm primary r0", alone, other);
}

#[test]
fn c8_a_target_that_lost_its_source_is_promoted_by_force_only_and_then_it_is_a_split_brain() {
    let mut trace = resync_of_fifty_runs();
    let a = "WFConnection Primary/Unknown UpToDate/Inconsistent · g2*:g1+*:g1*:r1 · <50";
    let b = "WFConnection Secondary/Unknown Inconsistent/DUnknown · g1+:0:r1:JC · <50";
    trace.step("a cut; quiet; b adm primary r0", a, b);
    let forced = "WFConnection Primary/Unknown UpToDate/DUnknown · g4*:g1+:r1:JC · <50";
    trace.step("b adm primary --force r0", a, forced);
    trace.step(
        "a join",
        "StandAlone Primary/Unknown UpToDate/Inconsistent · g2*:g1+*:g1*:r1 · <50 \
         · initial-split-brain, split-brain",
        &(forced.replace("WFConnection", "StandAlone") + " · initial-split-brain, split-brain"),
    );
}

#[test]
fn c8b_a_sync_uuid_that_got_lost_is_made_good_by_both() {
    let mut trace = Trace::slowly_synced(json!({}));
    trace.play("a cut; a write 0 50");
    trace.lab.lose_sync_uuid();
    trace.step(
        "a cut; quiet",
        "WFConnection Primary/Unknown UpToDate/Inconsistent · g2*:g1+*:g1*:r1 · 50 · before-resync-source",
        "WFConnection Secondary/Unknown Outdated/DUnknown · g1:0:r1:JC · 50",
    );
    trace.play("a join");
    trace.forget_handlers();
    trace.shows("rules 51 and 71", RESYNCED_PRIMARY, RESYNCED.trim_end_matches(" · after-resync-target"));
}

#[test]
fn c9_a_target_whose_source_crashed_waits_for_it() {
    let mut trace = resync_of_fifty_runs();
    let behind = "WFConnection Secondary/Unknown Inconsistent/DUnknown · g1+:0:r1:JC · <50";
    trace.step("a crash; b adm primary r0", "down", behind);
    trace.play("a boot; a adm new r0");
    trace.step(
        "a adm attach r0",
        "StandAlone Secondary/Unknown UpToDate/Outdated · g2:g1+*:g1*:r1 · AL",
        behind,
    );
    trace.step(
        "a adm connect r0",
        "Connected Secondary/Secondary UpToDate/UpToDate · g2:0:g1++*:g1+* · 0 · before-resync-source",
        "Connected Secondary/Secondary UpToDate/UpToDate · g2:0:g1++:g1+* · 0 \
         · before-resync-target, after-resync-target",
    );
}

#[test]
fn c10_a_fencing_primary_that_leaves_outdates_its_peer() {
    let mut trace = Trace::synced(json!({"disk": "fencing resource-only;"}));
    trace.step(
        "a adm disconnect r0",
        "StandAlone Primary/Unknown UpToDate/Outdated · g2*:g1*:r1:JC · 0",
        "WFConnection Secondary/Unknown Outdated/DUnknown · g1:0:r1:JC · 0",
    );
}

#[test]
fn c10_a_frozen_primary_of_two_is_the_source_of_the_one_that_crashed() {
    let mut trace = Trace::synced(json!({
        "net": "allow-two-primaries yes;",
        "disk": "fencing resource-and-stonith;",
        "handler_exit": {"fence-peer": 1},
    }));
    trace.play("b adm primary r0; b write 0 1; b crash; quiet");
    trace.forget_handlers();
    let frozen = "WFConnection Primary/Unknown UpToDate/DUnknown s--- · g1*:0:r1:JC · 0";
    trace.shows("the second crashed", frozen, "down");
    trace.play("b boot; b adm up r0");
    trace.forget_handlers();
    let seen = trace.lab.look(Vec::new());
    let met = "Connected Primary/Secondary UpToDate/UpToDate";
    assert_eq!(seen.a.as_deref(), Some(met), "{seen}");
    assert!(!trace.lab.tag(0, 0).is_empty() && trace.lab.tag(0, 0) == trace.lab.tag(1, 0));
}

#[test]
fn c10_after_both_restarted_a_fencing_pair_is_up_to_date_once_it_has_met() {
    let mut trace =
        Trace::synced(json!({"disk": "fencing resource-only;", "handler_exit": {"fence-peer": 5}}));
    trace.play("a adm secondary r0; ab crash; ab boot; a adm up r0");
    trace.forget_handlers();
    let alone = "WFConnection Secondary/Unknown Consistent/DUnknown · g1:0:r1:JC · 0";
    trace.shows("the first is back", alone, "absent");
    // Exit code 5 says that the peer cannot be reached: not enough for a disk that is only Consistent.
    let refused = format!("{alone} · fence-peer, fence-peer, fence-peer, fence-peer");
    trace.step("a adm primary r0", &refused, "absent");
    let met = "Connected Secondary/Secondary UpToDate/UpToDate · g1:0:r1:JC · 0";
    trace.step("b adm up r0", met, met);
}

#[test]
fn c11_a_primary_without_any_data_waits_for_the_peer_it_lost() {
    let mut trace = Trace::synced(json!({"options": "on-no-data-accessible suspend-io;"}));
    trace.play("a adm detach r0");
    trace.forget_handlers();
    trace.step(
        "a cut; quiet",
        "WFConnection Primary/Unknown Diskless/DUnknown s--- · · · pri-on-incon-degr",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g2:g1:r1:JC · 0",
    );
    trace.step(
        "a join",
        "Connected Primary/Secondary Diskless/UpToDate",
        "Connected Secondary/Primary UpToDate/Diskless · g2:g1:r1:JC · 0",
    );
}

#[test]
fn a_handler_that_forbids_the_resync_ends_the_connection_before_any_data_is_touched() {
    let mut trace = Trace::new(json!({"handler_exit": {"before-resync-target": 1}}));
    trace.play("ab adm up r0");
    trace.step(
        "a adm primary --force r0",
        "WFConnection Primary/Unknown UpToDate/Inconsistent · g1*:r1:JC:0 · all · before-resync-source",
        "StandAlone Secondary/Unknown Inconsistent/DUnknown · r1:0:0:0 · all · before-resync-target",
    );
}

/// What the second node is, `fencing`, the exit code of fence-peer, the steps after T1 that lead there; then
/// for `primary` and `primary --force` the exit code, and what it is afterwards.
type Promotion = (&'static str, &'static str, i32, &'static str, [(i64, &'static str); 2]);

/// Who may be promoted without a peer (C13).
const PROMOTIONS: [Promotion; 10] = [
    (
        "UpToDate",
        "dont-care",
        0,
        "a adm secondary r0; b adm disconnect r0",
        [(0, "Primary/Unknown UpToDate/DUnknown"), (0, "Primary/Unknown UpToDate/DUnknown")],
    ),
    (
        "UpToDate, and the peer can be fenced",
        "resource-only",
        4,
        "a adm secondary r0; b adm disconnect r0",
        [(0, "Primary/Unknown UpToDate/Outdated"), (0, "Primary/Unknown UpToDate/Outdated")],
    ),
    (
        "UpToDate, and the peer cannot be fenced",
        "resource-only",
        1,
        "a adm secondary r0; b adm disconnect r0",
        [(11, "Secondary/Unknown UpToDate/DUnknown"), (0, "Primary/Unknown UpToDate/Outdated")],
    ),
    (
        "UpToDate, and the peer is Outdated",
        "resource-only",
        1,
        "a adm secondary r0; b adm primary r0; a adm disconnect r0; b adm secondary r0",
        [(0, "Primary/Unknown UpToDate/Outdated"), (0, "Primary/Unknown UpToDate/Outdated")],
    ),
    (
        "Consistent, and the peer can be fenced",
        "resource-only",
        4,
        "a adm secondary r0; ab crash; b boot; b adm up r0",
        [(0, "Primary/Unknown UpToDate/Outdated"), (0, "Primary/Unknown UpToDate/Outdated")],
    ),
    (
        "Consistent, and the peer cannot be fenced",
        "resource-only",
        1,
        "a adm secondary r0; ab crash; b boot; b adm up r0",
        [(17, "Secondary/Unknown Consistent/DUnknown"), (0, "Primary/Unknown UpToDate/Outdated")],
    ),
    (
        "Outdated",
        "dont-care",
        0,
        "b adm disconnect r0; b adm outdate r0",
        [(17, "Secondary/Unknown Outdated/DUnknown"), (0, "Primary/Unknown UpToDate/DUnknown")],
    ),
    (
        "Outdated, with fencing",
        "resource-only",
        1,
        "b adm disconnect r0",
        [(17, "Secondary/Unknown Outdated/DUnknown"), (0, "Primary/Unknown UpToDate/Outdated")],
    ),
    (
        "Inconsistent",
        "dont-care",
        0,
        "b adm disconnect r0; b adm invalidate r0",
        [(17, "Secondary/Unknown Inconsistent/DUnknown"), (0, "Primary/Unknown UpToDate/DUnknown")],
    ),
    (
        "Diskless",
        "dont-care",
        0,
        "b adm disconnect r0; b adm detach r0",
        [(17, "Secondary/Unknown Diskless/DUnknown"), (17, "Secondary/Unknown Diskless/DUnknown")],
    ),
];

#[test]
fn c13_who_may_be_promoted_without_a_peer() {
    for (what, fencing, exit, steps, expected) in PROMOTIONS {
        for (command, (code, state)) in ["primary", "primary --force"].into_iter().zip(expected) {
            let config = json!({
                "disk": format!("fencing {fencing};"),
                "handler_exit": {"fence-peer": exit},
            });
            let mut trace = Trace::synced(config);
            trace.play(steps);
            let step: Step = serde_json::from_value(json!(["b", "adm", format!("{command} r0")])).unwrap();
            let seen = trace.lab.play(&step);
            let shown = seen.b.unwrap_or_default();
            assert_eq!(seen.rc[0][0], json!(code), "{what}: {command}, then {shown}");
            assert!(shown.ends_with(state), "{what}: after {command} it is {shown}, not {state}");
        }
    }
}
