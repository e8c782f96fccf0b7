//! What counts before it is durable: T1, T2, T3, T10, T17, T37, T38.

use std::time::Duration;

use urbd::node::command::Command;
use urbd::sim::client::Wish;
use urbd::sim::store::Faults;

use crate::machines::{A, B, BLOCK, IN_SYNC, LIMIT, Machines, VOLUME};

const IN_SYNC_ON_B: [&str; 2] = [IN_SYNC[1], IN_SYNC[0]];
const AN_HOUR: Duration = Duration::from_secs(3600);

/// T37. Holds the flush of the peer's last writes, which each of three places asks for: the end of a
/// connection (`advance_teardown`), a promotion (`promoted`) and the beginning of a resync (`begin_resync`).
/// With metadata of their own, so does each superblock (`sync_meta`). It fails without all four.
#[test]
fn what_a_survivor_never_flushed_is_not_lost_after_it_became_the_source() {
    let mut machines = Machines::in_sync();
    machines.write(A, 7..8, 5);
    machines.lose_power(A);
    machines.run_until("B notices", |machines| machines.shows(B).starts_with("WFConnection"));
    machines.promote(B);
    machines.boot(A);
    machines.reach(IN_SYNC_ON_B);
    machines.lose_power(B);
    machines.boot(B);
    machines.settle();
    machines.assert_equal();
    assert_eq!(machines.on_disk(B, 7), 5);
}

/// T38. Holds `busy` in `step_secondary`: a demotion waits for the barrier acks.
#[test]
fn a_demotion_waits_until_the_peer_cannot_lose_what_was_answered() {
    let mut machines = Machines::in_sync();
    machines.write(A, 7..8, 5);
    machines.stall(&machines.data(B), AN_HOUR);
    machines.run_until("its client is gone", |machines| machines.status(A).open_count == 0);
    let demotion = machines.world.start(A, Command::Secondary { volume: VOLUME });
    // Without the wait it is demoted now.
    machines.world.run_for(Duration::from_millis(100));
    machines.lose_power(B);
    assert!(machines.world.finish(&demotion, LIMIT).is_some());
    machines.data(B).stall(machines.world.now());
    machines.boot(B);
    machines.settle();
    machines.assert_equal();
    assert_eq!(machines.on_disk(B, 7), 5);
}

/// T1. Holds the flush before the acks of resync blocks (`resync_write_done`).
#[test]
fn a_target_that_loses_power_lacks_nothing_that_it_acknowledged() {
    let mut machines = Machines::with(&[], &[("resync-rate", "400")]);
    machines.part();
    machines.write(A, 0..60, 1);
    machines.world.join();
    machines.run_until("half of it", |machines| {
        machines.shows(A).starts_with("SyncSource") && machines.bits(A) < 30
    });
    machines.lose_power(B);
    machines.boot(B);
    machines.reach(IN_SYNC);
    machines.assert_equal();
}

/// T2, I14. Holds the flush of the data device before an activity-log block that relabels slots
/// (`separate` in `continue_transaction`).
#[test]
fn what_left_the_activity_log_is_durable_on_the_primary() {
    let mut machines = Machines::with_few_slots();
    machines.write(A, 7..8, 5);
    machines.world.run_for(Duration::from_secs(1));
    for extent in 1..10 {
        machines.write(A, extent * 1024..extent * 1024 + 1, 6);
    }
    machines.lose_power(A);
    machines.run_until("B notices", |machines| machines.shows(B).starts_with("WFConnection"));
    machines.promote(B);
    machines.boot(A);
    machines.reach(IN_SYNC_ON_B);
    assert_eq!(machines.on_disk(A, 7), 5);
    machines.assert_equal();
}

/// T3, I4. Holds `epoch` in `start_flush`: a flush waits for the barrier acks of all that was answered before.
#[test]
fn what_was_flushed_survives_on_the_peer_alone() {
    let mut machines = Machines::in_sync();
    machines.write(A, 7..8, 5);
    machines.stall(&machines.data(B), Duration::from_secs(1));
    let flush = machines.ask(A, Wish::Flush);
    machines.answered(flush);
    machines.lose_power(B);
    machines.world.crash(A); // For ever.
    machines.boot(B);
    machines.command(B, Command::Primary { volume: VOLUME, force: true });
    assert_eq!(machines.read(B, 7), 5);
}

/// T10. Holds `epoch_flush_failed`: no barrier ack after a flush that failed.
#[test]
fn a_flush_that_fails_on_the_peer_is_no_flush() {
    let mut machines = Machines::in_sync();
    machines.write(A, 7..8, 5);
    machines.data(B).set_faults(Faults { flush: true, ..Faults::default() });
    machines.world.run_for(Duration::from_millis(100));
    machines.lose_power(B);
    machines.data(B).set_faults(Faults::default());
    machines.boot(B);
    machines.reach(IN_SYNC);
    assert_eq!(machines.on_disk(B, 7), 5);
    machines.assert_equal();
}

/// T17, I35. Holds `hold_unmirrored` in `settle_request`: what the lost peer lacks is not answered before the
/// new generation is durable.
#[test]
fn a_write_that_was_answered_alone_is_not_overwritten_by_a_peer_that_knows_of_no_new_generation() {
    let mut machines = Machines::in_sync();
    machines.write(A, 7..8, 5);
    machines.world.cut();
    machines.run_until("A notices", |machines| machines.shows(A).contains("Unknown"));
    machines.stall(&machines.metadata(A), Duration::from_secs(5));
    let wish = Wish::WriteDurably { offset: 7 * BLOCK, data: &[9; BLOCK as usize] };
    let write = machines.ask(A, wish);
    machines.answered(write);
    machines.lose_power(A);
    machines.run_until("B notices", |machines| machines.shows(B).starts_with("WFConnection"));
    machines.promote(B);
    machines.write(B, 60..61, 8);
    machines.metadata(A).stall(machines.world.now());
    machines.world.join();
    machines.boot(A);
    machines.settle();
    assert_eq!([machines.on_disk(A, 7), machines.on_disk(B, 60)], [9, 8]);
}
