//! What clients were promised, and what is left of it when the power fails: I1, I4, I5, I6.

use std::time::Duration;

use urbd::node::command::Command;
use urbd::sim::client::Wish;

use crate::machines::{A, B, BLOCK, IN_SYNC, Machines, VOLUME};

/// Both lose power; one comes back alone, and is believed.
#[track_caller]
fn alone_after_a_power_failure(mut machines: Machines, host: usize) -> Machines {
    machines.lose_power(A);
    machines.lose_power(B);
    machines.boot(host);
    machines.command(host, Command::Primary { volume: VOLUME, force: true });
    machines
}

/// I1, I6: a durable write is on both media at the moment when it is answered, without any flush.
#[test]
fn a_durable_write_is_on_both_media_when_it_is_answered() {
    for survivor in [A, B] {
        let mut machines = Machines::in_sync();
        machines.write(A, 7..8, 1);
        let wish = Wish::WriteDurably { offset: 7 * BLOCK, data: &[5; BLOCK as usize] };
        let write = machines.ask(A, wish);
        machines.answered(write);
        let mut machines = alone_after_a_power_failure(machines, survivor);
        assert_eq!(machines.read(survivor, 7), 5, "of machine {survivor}");
    }
}

/// I4, I6: what was answered before a flush was asked for is on both media when that is answered, however slow one
/// of them is.
#[test]
fn what_was_flushed_is_on_both_media() {
    for survivor in [A, B] {
        let mut machines = Machines::in_sync();
        machines.write(A, 0..8, 5);
        machines.stall(&machines.data(survivor), Duration::from_secs(1));
        let flush = machines.ask(A, Wish::Flush);
        machines.answered(flush);
        let mut machines = alone_after_a_power_failure(machines, survivor);
        assert!((0..8).all(|block| machines.read(survivor, block) == 5), "of machine {survivor}");
    }
}

/// I5: one node fails, whichever, and the other has all that was answered; when the first returns it has it, too.
#[test]
fn what_was_answered_survives_the_failure_of_one_node() {
    for lost in [A, B] {
        let mut machines = Machines::in_sync();
        machines.write(A, 0..8, 5);
        machines.lose_power(lost);
        let survivor = 1 - lost;
        machines.run_until("it is noticed", |machines| machines.shows(survivor).starts_with("WFConnection"));
        if survivor == B {
            machines.promote(B);
        }
        assert!((0..8).all(|block| machines.read(survivor, block) == 5));
        machines.boot(lost);
        let shows = if survivor == A { IN_SYNC } else { [IN_SYNC[1], IN_SYNC[0]] };
        machines.reach(shows);
        machines.assert_equal();
        assert!((0..8).all(|block| machines.on_disk(lost, block) == 5));
    }
}
