//! T1 of a source: a kernel's target acknowledges the blocks of a resync before they are durable, and so do
//! these targets, whose disks have nothing to flush until they are told otherwise.

use std::time::Duration;

use urbd::sim::store::Faults;

use crate::machines::{A, B, IN_SYNC, Machines};

const UNFLUSHED: Faults =
    Faults { idle_flush: true, read: false, write: false, flush: false, discard: false, times: 0 };

/// A wrote to these blocks alone, and B has been told to fetch them.
fn fetching(machines: Machines, blocks: impl IntoIterator<Item = u64>) -> Machines {
    let mut machines = machines;
    machines.part();
    blocks.into_iter().for_each(|block| machines.write(A, block..block + 1, 1));
    machines.data(B).set_faults(UNFLUSHED);
    machines.world.join();
    machines.run_until("the resync begins", |machines| machines.shows(B).starts_with("SyncTarget"));
    machines
}

/// B has no power for a moment.
fn b_fails(machines: &mut Machines) {
    machines.lose_power(B);
    machines.data(B).set_faults(Faults::default());
    machines.boot(B);
}

/// T1. Holds `distrust_peer`, when the connection is lost in the middle of the run.
#[test]
fn what_a_kernel_acknowledged_and_lost_in_the_middle_of_a_resync_is_sent_again() {
    let machines = Machines::of_kernels(&[("resync-rate", "400")]);
    let mut machines = fetching(machines, 0..40);
    machines.run_until("half of it", |machines| machines.bits(A) < 20);
    b_fails(&mut machines);
    machines.reach(IN_SYNC);
    machines.assert_equal();
}

/// T1. Holds the same after the run: what was acknowledged is remembered until a barrier ack.
#[test]
fn what_a_kernel_acknowledged_and_lost_after_the_end_of_a_resync_is_sent_again() {
    let mut machines = fetching(Machines::of_kernels(&[]), 0..40);
    machines.reach(IN_SYNC);
    machines.world.run_for(Duration::from_secs(1));
    assert_eq!(machines.bits(A), 0);
    b_fails(&mut machines);
    machines.reach(IN_SYNC);
    machines.assert_equal();
}

/// T1. Holds `add_to_page`: the bitmap on the source's disk knows it too, if the source crashes as well.
#[test]
fn a_source_that_crashes_with_its_kernel_knows_what_that_may_have_lost() {
    let mut machines = Machines::of_kernels_with_few_slots();
    // The extent of the first blocks leaves the activity log, which would name it after the crash.
    machines = fetching(machines, (0..40).chain((1..5).map(|extent| extent * 1024)));
    machines.reach(IN_SYNC);
    machines.world.run_for(Duration::from_secs(1));
    machines.world.crash(A);
    b_fails(&mut machines);
    machines.boot(A);
    machines.reach(["Connected Secondary/Secondary UpToDate/UpToDate"; 2]);
    machines.assert_equal();
}

/// Holds `shadow_barrier_acked`: the ack of a later barrier says that all of it was flushed.
#[test]
fn what_a_kernel_flushed_with_a_later_write_is_not_sent_again() {
    let mut machines = fetching(Machines::of_kernels(&[]), 0..40);
    machines.reach(IN_SYNC);
    machines.data(B).set_faults(Faults::default());
    machines.write(A, 50..51, 2);
    machines.world.run_for(Duration::from_secs(1));
    machines.part();
    assert_eq!(machines.bits(A), 0);
    machines.world.join();
    machines.reach(IN_SYNC);
    machines.assert_equal();
}

/// Holds `resync_is_durable`: one of ours flushes before it acknowledges, and nothing is sent twice.
#[test]
fn a_target_of_ours_is_trusted() {
    let mut machines = Machines::in_sync();
    machines.part();
    machines.write(A, 0..40, 1);
    machines.world.join();
    machines.reach(IN_SYNC);
    machines.part();
    assert_eq!(machines.bits(A), 0);
}
