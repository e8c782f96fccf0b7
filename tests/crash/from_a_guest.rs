//! A round with a kernel as Primary: writers in its guest, a daemon as its peer.

use super::chance::Chance;
use super::life::Life;
use crate::harness::node::RESOURCE;
use crate::harness::writers::{RANGE_BYTES, WRITERS, Writers};

/// Writes of each writer before a kill, at most.
const WRITES: u64 = 60;

/// Leads a round on a pair that is well, with the first side as Primary, to its verified end; how many writes the
/// writers were told are done.
pub(crate) fn lead(life: &mut Life<'_>, chance: Chance) -> u64 {
    life.chance = chance;
    let [kernel, daemon] = [0, 1];
    // A range that no round wrote to for long: an older round's writes have the same numbers.
    let ranges = (life.data_bytes() / RANGE_BYTES) as u64;
    let first = (life.tally.verified % ranges) * RANGE_BYTES as u64;
    if life.tally.verified >= ranges {
        life.node(kernel).write(first, &vec![0; RANGE_BYTES]);
    }
    let writers = life.node(kernel).start_writers(first);
    let mut told = some_writes(life, &writers);
    life.kill(daemon);
    if life.chance.one_in(2) {
        told += some_writes(life, &writers);
    }
    let done = if life.chance.one_in(4) {
        life.kill(kernel);
        let done = writers.lost();
        let order = if life.chance.one_in(2) { [kernel, daemon] } else { [daemon, kernel] };
        order.into_iter().for_each(|side| life.revive(side));
        life.node(kernel).adm(&format!("primary {RESOURCE}"));
        done
    } else {
        life.revive(daemon);
        if life.chance.one_in(2) {
            life.await_resync(daemon);
            life.kill(daemon);
            told += some_writes(life, &writers);
            life.revive(daemon);
        }
        told += some_writes(life, &writers);
        writers.stop()
    };
    life.await_sync();
    done.check(&life.node(kernel).read(first, RANGE_BYTES as u32));
    life.compare();
    life.tally.verified += 1;
    told
}

/// Waits for some writes of each writer; of all together.
fn some_writes(life: &mut Life<'_>, writers: &Writers) -> u64 {
    let each = 1 + life.chance.below(WRITES);
    writers.await_writes(each);
    life.chance.spin(std::time::Duration::from_millis(2));
    each * WRITERS as u64
}
