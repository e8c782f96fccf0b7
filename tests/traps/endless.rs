//! What must come to its end: T14, T29, T31, T36, T39, T41.

use std::time::Duration;

use urbd::sim::store::Faults;

use crate::machines::{A, B, IN_SYNC, Machines};

/// Forty blocks are out of sync, and ten of them are asked for every tenth of a second.
fn slow_resync(disk: &[(&str, &str)]) -> Machines {
    let options: Vec<_> = [("resync-rate", "400")].iter().chain(disk).copied().collect();
    let mut machines = Machines::with(&[], &options);
    machines.part();
    machines.write(A, 0..40, 1);
    machines.world.join();
    machines.run_until("half of it", |machines| {
        machines.shows(B).starts_with("SyncTarget") && machines.bits(B) < 25
    });
    machines
}

/// The next write on this machine's data device fails.
fn fail_a_write(machines: &Machines, host: usize) {
    machines.data(host).set_faults(Faults { write: true, times: 1, ..Faults::default() });
}

/// T14, I31. Holds `rescanned` in `target_progress`: a block that went out of sync behind the cursor is fetched in
/// the same run.
#[test]
fn a_block_that_failed_behind_the_cursor_is_fetched_before_the_run_ends() {
    let mut machines = slow_resync(&[("on-io-error", "pass_on")]);
    machines.run_until("no block comes", |machines| machines.world.on_the_way() == 0);
    fail_a_write(&machines, B);
    machines.write(A, 5..6, 7);
    assert_ne!(machines.on_disk(B, 5), 7, "another write failed");
    let mut broke = false;
    machines.run_until("in sync", |machines| {
        broke |= machines.shows(A).starts_with("WFConnection");
        [A, B].map(|host| machines.shows(host)) == IN_SYNC
    });
    assert!(!broke, "it took another connection");
    assert_eq!(machines.on_disk(B, 5), 7);
    machines.assert_equal();
}

/// T36, of a target. Holds the reset after a run with failures (`resync_durable`): the next run brings what is
/// missing. `src/node/tests/traps.rs` has the source's half.
#[test]
fn a_run_whose_last_blocks_fail_ends_and_the_next_one_brings_them() {
    let mut machines = slow_resync(&[("on-io-error", "pass_on")]);
    machines.data(B).set_faults(Faults { write: true, ..Faults::default() });
    machines.run_until("the run ends", |machines| !machines.shows(B).starts_with("SyncTarget"));
    machines.data(B).set_faults(Faults::default());
    machines.reach(IN_SYNC);
    machines.assert_equal();
}

/// T29 and T31. Holds `Answer::Failed` in `on_block_ack`: the bit of a write that was answered when the peer
/// had received it, and that its disk then refused; and the size of an epoch (`Epochs::finished`), which counts
/// such writes: with any other the barrier ack would end the connection.
#[test]
fn a_write_that_the_peer_received_and_could_not_write_is_made_good() {
    let mut machines = Machines::with(&[("protocol", "B")], &[("on-io-error", "pass_on")]);
    fail_a_write(&machines, B);
    machines.write(A, 7..8, 5);
    let before = machines.status(A).uuids;
    machines.world.run_for(Duration::from_secs(5));
    assert_eq!(machines.shows(A), "Connected Primary/Secondary UpToDate/Inconsistent");
    assert_eq!(machines.bits(A), 1, "{before:x?}");
    machines.lose_power(B);
    machines.boot(B);
    machines.reach(IN_SYNC);
    assert_eq!(machines.on_disk(B, 7), 5);
    machines.assert_equal();
}

/// T39, I31. Holds both cures, of which one is enough between two of ours: the source remembers that the target
/// said it is done (`target_said_done`), and the target asks with its last ping only when no epoch without a
/// barrier ack contains a write that it marked in sync (`in_sync_writes` in `target_progress`).
#[test]
fn a_target_that_is_done_before_the_source_cleared_its_last_bit_is_heard() {
    let mut machines = slow_resync(&[]);
    // A client writes all blocks that are left, and the barrier ack for the last ones takes long.
    machines.write(A, 0..40, 7);
    machines.stall(&machines.data(B), Duration::from_secs(2));
    machines.reach(IN_SYNC);
    machines.assert_equal();
}

/// T41. Holds `v.live > 0` in `send_bitmap`: no bitmap is sent while a write is under way whose bit is not
/// set yet.
#[test]
fn a_write_under_way_when_the_nodes_meet_again_is_in_the_bitmap() {
    let mut machines = Machines::in_sync();
    machines.part();
    machines.write(A, 0..10, 1);
    machines.stall(&machines.data(A), Duration::from_secs(10));
    let write = machines.start_write(A, 20, 9);
    machines.world.run_for(Duration::from_millis(10));
    machines.world.join();
    machines.answered(write);
    machines.reach(IN_SYNC);
    assert_eq!(machines.on_disk(B, 20), 9);
    machines.assert_equal();
}
