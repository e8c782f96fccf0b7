//! T40: the target of a resync is done, the source has not heard of it, the link breaks.

use urbd::node::command::Command;

use crate::machines::{A, B, IN_SYNC, Machines, VOLUME};

/// A resync of forty blocks from A to B ends on B; the link breaks before A hears of it.
fn ended_unheard(machines: &mut Machines) {
    machines.part();
    machines.write(A, 0..40, 1);
    ends_unheard(machines, IN_SYNC[1]);
}

/// The same, with no Primary.
fn ended_unheard_by_a_secondary(machines: &mut Machines) {
    machines.part();
    machines.write(A, 0..40, 1);
    machines.demote(A);
    ends_unheard(machines, "Connected Secondary/Secondary UpToDate/UpToDate");
}

fn ends_unheard(machines: &mut Machines, b_shows: &str) {
    machines.world.join();
    machines.run_until("B ends the resync", |machines| machines.shows(B) == b_shows);
    assert!(machines.shows(A).starts_with("SyncSource"), "A has heard: {}", machines.shows(A));
    machines.part();
}

/// A writes alone and dies, B is promoted, A returns: whose data count is for an administrator to say.
#[track_caller]
fn b_takes_over_and_a_returns(machines: &mut Machines) {
    machines.write(A, 50..51, 9);
    machines.world.crash(A);
    machines.promote(B);
    machines.write(B, 60..61, 8);
    machines.world.join();
    machines.boot(A);
    machines.settle();
    assert_eq!(machines.on_disk(A, 50), 9, "an answered write is overwritten without a word");
    assert_eq!(machines.on_disk(B, 60), 8);
    let alone = [A, B].iter().any(|host| machines.shows(*host).starts_with("StandAlone"));
    assert!(alone, "{:?}", [A, B].map(|host| machines.shows(host)));
}

/// T40. Holds `Volume::lacks_own_generation`: losing a target that may be done makes a new current UUID
/// beside the bitmap UUID, so that the promoted target is a split brain.
#[test]
fn what_the_source_of_an_unheard_end_wrote_alone_is_not_overwritten_by_the_promoted_target() {
    let mut machines = Machines::in_sync();
    ended_unheard(&mut machines);
    b_takes_over_and_a_returns(&mut machines);
}

/// T40. Holds the same for the promotion of a source that was Secondary when the target was lost (`promoted` in
/// `commands/role.rs`).
#[test]
fn nor_if_the_source_was_promoted_only_after_the_break() {
    let mut machines = Machines::in_sync();
    ended_unheard_by_a_secondary(&mut machines);
    machines.promote(A);
    b_takes_over_and_a_returns(&mut machines);
}

/// T40. Holds `refresh_flags`, which keeps that the end may be unheard in the metadata: it outlasts a second loss of
/// power, and one while the source looks for its target.
#[test]
fn nor_if_the_source_loses_its_power_before_it_is_promoted() {
    for times in [1, 2] {
        let mut machines = Machines::in_sync();
        ended_unheard_by_a_secondary(&mut machines);
        for _ in 0..times {
            machines.lose_power(A);
            machines.boot(A);
            machines.settle();
        }
        machines.promote(A);
        b_takes_over_and_a_returns(&mut machines);
    }
}

/// T40. Holds the `meets_disk` of the transition engine: a target that comes back without its disk tells nothing of
/// what is on it, and when it writes here as Primary that needs a generation of its own.
#[test]
fn nor_if_the_target_returns_without_its_disk_and_writes_through_the_source() {
    let mut machines = Machines::in_sync();
    ended_unheard_by_a_secondary(&mut machines);
    machines.lose_power(A);
    machines.boot(A);
    let before = machines.status(A).uuids[0];
    machines.command(B, Command::Detach { volume: VOLUME, force: true });
    machines.world.join();
    machines.run_until("they meet", |machines| {
        [A, B].iter().all(|h| machines.shows(*h).starts_with("Connected"))
    });
    machines.promote(B);
    machines.write(B, 50..51, 9);
    assert_ne!(machines.status(A).uuids[0] & !1, before & !1, "B's disk would come back as the same data");
}

/// T40. Holds `new_current_beside_bitmap`, which keeps the old current UUID in the history: A's return is rule
/// 80, and the write is on both disks.
#[test]
fn what_the_source_wrote_alone_reaches_a_target_that_was_done() {
    let mut machines = Machines::in_sync();
    ended_unheard(&mut machines);
    machines.write(A, 50..51, 9);
    machines.world.join();
    machines.reach(IN_SYNC);
    assert_eq!([A, B].map(|host| machines.on_disk(host, 50)), [9, 9]);
    machines.assert_equal();
}

/// T40. Holds `count_bits_from_peer`: without the peer's current UUID as bitmap UUID the full sync that breaks
/// before its sync UUID arrives leaves two nodes that know nothing of each other.
#[test]
fn a_second_break_before_the_sync_uuid_arrives_is_made_good_too() {
    let mut machines = Machines::in_sync();
    ended_unheard(&mut machines);
    machines.write(A, 50..51, 9);
    machines.world.join();
    machines.run_until("A becomes the source", |machines| machines.shows(A).starts_with("SyncSource"));
    machines.run_until("A derives a sync UUID", |machines| {
        let [_, bitmap, newest, _] = machines.status(A).uuids;
        bitmap == newest.wrapping_add(1 << 48)
    });
    machines.part();
    assert_ne!(machines.status(B).uuids[0], machines.status(A).uuids[1], "the sync UUID has arrived");
    machines.write(A, 51..52, 9);
    machines.world.join();
    machines.reach(IN_SYNC);
    assert_eq!([50, 51].map(|block| machines.on_disk(B, block)), [9, 9]);
    machines.assert_equal();
}

/// The other side: a target that cannot be done costs no full sync.
#[test]
fn a_break_in_the_middle_of_a_resync_makes_no_new_generation() {
    let mut machines = Machines::with(&[], &[("resync-rate", "400")]);
    machines.part();
    machines.write(A, 0..40, 1);
    machines.world.join();
    machines.run_until("half of it", |machines| {
        machines.shows(B).starts_with("SyncTarget") && machines.bits(B) < 30
    });
    let current = machines.status(A).uuids[0];
    machines.part();
    assert_eq!(machines.status(A).uuids[0], current);
    machines.world.join();
    machines.reach(IN_SYNC);
    machines.assert_equal();
}

/// Holds `doubt_target`: a target that may be done could be promoted, and is fenced like any UpToDate peer.
#[test]
fn a_target_that_may_be_done_is_fenced() {
    let mut machines = Machines::with(&[], &[("fencing", "resource-and-stonith")]);
    machines.world.set_exit(A, "fence-peer", 7);
    ended_unheard(&mut machines);
    machines.write(A, 50..51, 9);
    let calls = machines.world.take_handler_calls(A).into_iter();
    let fenced = calls.filter(|call| call.name == "fence-peer").count();
    assert_eq!(fenced, 2, "at the first break and at the second");
    machines.world.join();
    machines.reach(IN_SYNC);
    machines.assert_equal();
}
