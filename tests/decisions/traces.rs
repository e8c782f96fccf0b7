//! The state traces of the worked scenarios (C14).

use serde_json::json;

use super::trace::{IN_SYNC, IN_SYNC_PRIMARY, RESYNCED, RESYNCED_PRIMARY, Trace, resync_of_fifty_runs};

#[test]
fn t1_initial_sync() {
    let mut trace = Trace::new(json!({"resync_rate": "1M"}));
    let fresh = "Connected Secondary/Secondary Inconsistent/Inconsistent · JC:0:0:0 · all";
    trace.step("ab adm up r0", fresh, fresh);
    trace.step(
        "… a adm primary --force r0",
        "SyncSource Primary/Secondary UpToDate/Inconsistent · g1*:r1:JC:0 · <all · before-resync-source",
        "SyncTarget Secondary/Primary Inconsistent/UpToDate · r1:0:0:0 · <all · before-resync-target",
    );
    trace.step(
        "quiet",
        "Connected Primary/Secondary UpToDate/UpToDate · g1*:0:r1:JC · 0",
        "Connected Secondary/Primary UpToDate/UpToDate · g1:0:r1:JC · 0 · after-resync-target",
    );
}

#[test]
fn t2_switchover() {
    let mut trace = Trace::synced(json!({}));
    let secondary = "Connected Secondary/Secondary UpToDate/UpToDate · g1:0:r1:JC · 0";
    trace.step("a adm secondary r0", secondary, secondary);
    trace.step("b adm primary r0", IN_SYNC, IN_SYNC_PRIMARY);
}

#[test]
fn t3_a_primary_crashes_the_other_takes_over_and_the_first_returns() {
    let mut trace = Trace::slowly_synced(json!({}));
    trace.play("a write 0 2");
    trace.step("a crash", "down", "WFConnection Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · 0");
    let taken_over = "WFConnection Primary/Unknown UpToDate/DUnknown · g2*:g1:r1:JC · 30";
    trace.step("b adm primary r0; b write 1500 30", "down", taken_over);
    trace.play("a boot; a adm new r0");
    trace.step(
        "a adm attach r0",
        "StandAlone Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · AL",
        taken_over,
    );
    trace.step(
        "… a adm connect r0",
        "SyncTarget Secondary/Primary Inconsistent/UpToDate · g1+:0:r1:JC · <1054 · before-resync-target",
        "SyncSource Primary/Secondary UpToDate/Inconsistent · g2*:g1+:g1:r1 · <1054 · before-resync-source",
    );
    trace.step(
        "quiet",
        "Connected Secondary/Primary UpToDate/UpToDate · g2:0:g1+:g1 · 0 · after-resync-target",
        "Connected Primary/Secondary UpToDate/UpToDate · g2*:0:g1+:g1 · 0",
    );
}

#[test]
fn t3b_a_crashed_primary_returns_to_a_node_that_was_not_promoted() {
    let mut trace = Trace::slowly_synced(json!({}));
    trace.play("a write 0 1; a crash; a boot; a adm new r0");
    trace.step(
        "a adm attach r0",
        "StandAlone Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · AL",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · 0",
    );
    trace.step(
        "… a adm connect r0",
        "SyncSource Secondary/Secondary UpToDate/Inconsistent · g1:r2:r1:JC · <AL · before-resync-source",
        "SyncTarget Secondary/Secondary Inconsistent/UpToDate · r2:0:r1:JC · <AL · before-resync-target",
    );
    trace.step(
        "quiet",
        "Connected Secondary/Secondary UpToDate/UpToDate · g1:0:r2:r1 · 0",
        "Connected Secondary/Secondary UpToDate/UpToDate · g1:0:r2:r1 · 0 · after-resync-target",
    );
}

#[test]
fn t4_a_partition_with_one_primary() {
    let mut trace = resync_of_fifty_runs();
    trace.step("quiet", RESYNCED_PRIMARY, RESYNCED);
}

#[test]
fn t5_a_split_brain_is_repaired_by_hand() {
    let mut trace = Trace::slowly_synced(json!({}));
    let a = "WFConnection Primary/Unknown UpToDate/DUnknown · g2*:g1*:r1:JC · 70";
    let b = "WFConnection Primary/Unknown UpToDate/DUnknown · g3*:g1:r1:JC · 30";
    trace.step("a cut; a write 0 70; b adm primary r0; b write 100 30", a, b);
    trace.play("a join");
    trace.forget_handlers();
    // Which of the two is StandAlone is a race (S75); after this both are.
    trace.play("ab adm disconnect r0; b adm secondary r0; b adm -- --discard-my-data connect r0");
    let stand_alone = "StandAlone Primary/Unknown UpToDate/DUnknown · g2*:g1*:r1:JC · 70";
    let waits = "WFConnection Secondary/Unknown UpToDate/DUnknown · g3:g1:r1:JC · 30";
    trace.shows("the victim waits", stand_alone, waits);
    trace.step(
        "… a adm connect r0",
        "SyncSource Primary/Secondary UpToDate/Inconsistent · g2*:g1+*:g1*:r1 · <100 \
         · initial-split-brain, before-resync-source",
        "SyncTarget Secondary/Primary Inconsistent/UpToDate · g1+:0:r1:JC · <100 \
         · initial-split-brain, before-resync-target",
    );
    trace.step("quiet", RESYNCED_PRIMARY, RESYNCED);
}

#[test]
fn t6_the_younger_primary_loses_when_both_are_secondary() {
    let mut trace = Trace::slowly_synced(json!({"net": "after-sb-0pri discard-younger-primary;"}));
    trace.play("a cut; a write 0 40; a adm secondary r0");
    trace.step(
        "b adm primary r0; b write 100 20; b adm secondary r0",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g2:g1*:r1:JC · 40",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g3:g1:r1:JC · 20",
    );
    trace.step(
        "… a join",
        "SyncSource Secondary/Secondary UpToDate/Inconsistent · g2:g1+*:g1*:r1 · <60 \
         · initial-split-brain, before-resync-source",
        "SyncTarget Secondary/Secondary Inconsistent/UpToDate · g1+:0:r1:JC · <60 \
         · initial-split-brain, before-resync-target",
    );
}

#[test]
fn t7_consensus_lets_the_side_without_changes_lose() {
    let net = "after-sb-0pri discard-zero-changes; after-sb-1pri consensus;";
    let mut trace = Trace::slowly_synced(json!({"net": net}));
    trace.step(
        "a cut; quiet; a adm secondary r0; b adm primary r0; b write 0 20",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g2:g1*:r1:JC · 0",
        "WFConnection Primary/Unknown UpToDate/DUnknown · g3*:g1:r1:JC · 20",
    );
    trace.step(
        "… a join",
        "SyncTarget Secondary/Primary Inconsistent/UpToDate · g1+:0:r1:JC · <20 \
         · initial-split-brain, before-resync-target",
        "SyncSource Primary/Secondary UpToDate/Inconsistent · g3*:g1+:g1:r1 · <20 \
         · initial-split-brain, before-resync-source",
    );
}

#[test]
fn t8_a_primary_that_is_to_lose_cannot_give_up_while_it_is_connected() {
    let net = "allow-two-primaries yes; after-sb-0pri discard-zero-changes; \
               after-sb-2pri call-pri-lost-after-sb;";
    let mut trace = Trace::synced(json!({"net": net}));
    let both = "Connected Primary/Primary UpToDate/UpToDate · g1*:0:r1:JC · 0";
    trace.step("b adm primary r0", both, both);
    let winner = "WFConnection Primary/Unknown UpToDate/DUnknown · g2*:g1*:r1:JC · 20";
    let loser = "WFConnection Primary/Unknown UpToDate/DUnknown · g3*:g1*:r1:JC · 0";
    trace.step("a cut; a write 0 20; quiet", winner, loser);
    trace.step(
        "a join",
        &format!("{winner} · initial-split-brain"),
        "StandAlone Primary/Unknown UpToDate/DUnknown · g3*:g1*:r1:JC · 0 \
         · initial-split-brain, pri-lost-after-sb, split-brain",
    );
}

#[test]
fn t9_a_resync_is_cut_and_then_the_target_crashes() {
    let mut trace = resync_of_fifty_runs();
    let left = "WFConnection Primary/Unknown UpToDate/Inconsistent · g2*:g1+*:g1*:r1 · <50";
    let behind = "WFConnection Secondary/Unknown Inconsistent/DUnknown · g1+:0:r1:JC · <50";
    trace.step("a cut; quiet", left, behind);
    trace.step(
        "… a join",
        "SyncSource Primary/Secondary UpToDate/Inconsistent · g2*:g1++*:g1+*:g1* · <50 · before-resync-source",
        "SyncTarget Secondary/Primary Inconsistent/UpToDate · g1++:0:r1:JC · <50 · before-resync-target",
    );
    trace.play("b crash; b boot; b adm new r0");
    trace.step(
        "b adm attach r0",
        "WFConnection Primary/Unknown UpToDate/Inconsistent · g2*:g1++*:g1+*:g1* · <50",
        "StandAlone Secondary/Unknown Inconsistent/DUnknown · g1++:0:r1:JC · <50",
    );
    trace.step(
        "… b adm connect r0",
        "SyncSource Primary/Secondary UpToDate/Inconsistent · g2*:g1+++*:g1++*:g1+* · <50 \
         · before-resync-source",
        "SyncTarget Secondary/Primary Inconsistent/UpToDate · g1+++:0:r1:JC · <50 · before-resync-target",
    );
    trace.step(
        "quiet",
        "Connected Primary/Secondary UpToDate/UpToDate · g2*:0:g1+++*:g1++* · 0",
        "Connected Secondary/Primary UpToDate/UpToDate · g2:0:g1+++:g1++* · 0 · after-resync-target",
    );
}

#[test]
fn t10_a_secondary_that_left_a_fencing_primary_is_refused_the_role() {
    let mut trace = Trace::synced(json!({"disk": "fencing resource-only;"}));
    let a = "WFConnection Primary/Unknown UpToDate/Outdated · g2*:g1*:r1:JC · 0";
    let b = "StandAlone Secondary/Unknown Outdated/DUnknown · g1:0:r1:JC · 0";
    trace.step("b adm disconnect r0", a, b);
    trace.step("b adm primary r0", a, b);
    trace.step(
        "b adm connect r0",
        &format!("{RESYNCED_PRIMARY} · before-resync-source, unfence-peer"),
        "Connected Secondary/Primary UpToDate/UpToDate · g2:0:g1+:g1* · 0 \
         · before-resync-target, after-resync-target",
    );
}

#[test]
fn t11_a_primary_goes_on_once_the_peer_is_fenced() {
    let config = json!({"disk": "fencing resource-and-stonith;", "handler_exit": {"fence-peer": 7}});
    let mut trace = Trace::synced(config);
    trace.step(
        "a cut; quiet",
        "WFConnection Primary/Unknown UpToDate/Outdated · g2*:g1*:r1:JC · 0 · fence-peer",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · 0",
    );
}

#[test]
fn t12_a_primary_that_could_not_fence_waits_for_the_same_peer() {
    let config = json!({"disk": "fencing resource-and-stonith;", "handler_exit": {"fence-peer": 1}});
    let mut trace = Trace::synced(config);
    trace.step(
        "a cut; quiet",
        "WFConnection Primary/Unknown UpToDate/DUnknown s--- · g1*:0:r1:JC · 0 · fence-peer",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · 0",
    );
    trace.step("a join", IN_SYNC_PRIMARY, IN_SYNC);
}

#[test]
fn t13_a_peer_that_restarted_meanwhile_is_not_taken_for_the_same() {
    let config = json!({"disk": "fencing resource-and-stonith;", "handler_exit": {"fence-peer": 1}});
    let mut trace = Trace::synced(config);
    trace.play("a cut; quiet; b crash; a join; b boot; b adm new r0");
    trace.forget_handlers();
    trace.step(
        "b adm attach r0",
        "WFConnection Primary/Unknown UpToDate/DUnknown s--- · g1*:0:r1:JC · 0",
        "StandAlone Secondary/Unknown Consistent/DUnknown · g1:0:r1:JC · 0",
    );
    // The first attempt ends when the peer shows that it is not what it was; the second is a resync.
    trace.step(
        "b adm connect r0",
        &format!("{RESYNCED_PRIMARY} · fence-peer, before-resync-source, unfence-peer"),
        "Connected Secondary/Primary UpToDate/UpToDate · g2:0:g1+:g1* · 0 \
         · before-resync-target, after-resync-target",
    );
}

#[test]
fn t14_a_primary_gives_up_its_disk_and_takes_it_back() {
    let mut trace = Trace::slowly_synced(json!({}));
    trace.step(
        "a adm detach r0; a write 0 20",
        "Connected Primary/Secondary Diskless/UpToDate",
        "Connected Secondary/Primary UpToDate/Diskless · g2:g1:r1:JC · 20",
    );
    trace.step(
        "… a adm attach r0",
        "SyncTarget Primary/Secondary Inconsistent/UpToDate · g1+*:0:r1:JC · <20 · before-resync-target",
        "SyncSource Secondary/Primary UpToDate/Inconsistent · g2:g1+:g1:r1 · <20 · before-resync-source",
    );
    trace.step(
        "quiet",
        "Connected Primary/Secondary UpToDate/UpToDate · g2*:0:g1+*:g1 · 0 · after-resync-target",
        "Connected Secondary/Primary UpToDate/UpToDate · g2:0:g1+:g1 · 0",
    );
}

#[test]
fn t15_the_target_has_finished_and_the_source_has_not_heard_of_it() {
    let mut trace = resync_of_fifty_runs();
    trace.play("… a adm secondary r0");
    trace.lab.finish_unheard();
    trace.step(
        "quiet",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g2:g1+*:g1*:r1 · 0",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g2:0:g1+:g1* · 0 · after-resync-target",
    );
    // Rules 34 and 35; the sync UUID is a random one.
    trace.step(
        "a join",
        "Connected Secondary/Secondary UpToDate/UpToDate · g2:0:r2:g1+* · 0 · before-resync-source",
        "Connected Secondary/Secondary UpToDate/UpToDate · g2:0:r2:g1+* · 0 \
         · before-resync-target, after-resync-target",
    );
}

#[test]
fn t15_with_a_primary_that_may_write_alone_the_target_gets_everything_anew() {
    // The kernel would go on with g2, as its peer might as Primary (T40).
    let mut trace = resync_of_fifty_runs();
    trace.lab.finish_unheard();
    trace.step(
        "quiet",
        "WFConnection Primary/Unknown UpToDate/DUnknown · g3*:g1+*:g1*:g2* · 0",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g2:0:g1+:g1* · 0 · after-resync-target",
    );
    // Rules 80 and 60.
    trace.step(
        "… a join",
        "SyncSource Primary/Secondary UpToDate/Inconsistent · g3*:g2+*:g2*:g1+* · <all · before-resync-source",
        "SyncTarget Secondary/Primary Inconsistent/UpToDate · g2+:0:g1+:g1* · <all · before-resync-target",
    );
    trace.step(
        "quiet",
        "Connected Primary/Secondary UpToDate/UpToDate · g3*:0:g2+:g2 · 0",
        "Connected Secondary/Primary UpToDate/UpToDate · g3:0:g2+:g2 · 0 · after-resync-target",
    );
}

#[test]
fn t16_invalidate_fetches_everything() {
    let mut trace = Trace::slowly_synced(json!({}));
    trace.step(
        "… b adm invalidate r0",
        "SyncSource Primary/Secondary UpToDate/Inconsistent · g1*:r2:r1:JC · <all · before-resync-source",
        "SyncTarget Secondary/Primary Inconsistent/UpToDate · r2:0:r1:JC · <all · before-resync-target",
    );
    trace.step(
        "quiet",
        "Connected Primary/Secondary UpToDate/UpToDate · g1*:0:r2:r1 · 0",
        "Connected Secondary/Primary UpToDate/UpToDate · g1:0:r2:r1 · 0 · after-resync-target",
    );
}
