//! A round: clients write, a node dies, or both do, perhaps another one while the first one comes back.
//!
//! Who may be promoted follows from what an administrator could know: the node that was Primary last has all that was
//! acknowledged; the other one has it too if both were connected and UpToDate when the Primary died, and after a
//! resync that ended.

use std::time::Duration;

use super::chance::Chance;
use super::life::Life;
use crate::harness::node::RESOURCE;

/// Acknowledged writes before a kill, at most.
const ACKS: u64 = 400;

/// Leads a round on a pair that is well, to its verified end.
pub(crate) fn lead(life: &mut Life<'_>, chance: Chance) {
    life.chance = chance;
    let wanted = life.chance.below(2) as usize;
    if wanted != life.primary && life.can_be_primary(wanted) {
        life.node(life.primary).adm(&format!("secondary {RESOURCE}"));
        life.promote(wanted);
    }
    life.write();
    some_writes(life, ACKS);
    match life.chance.below(5) {
        0 | 1 => secondary_dies(life),
        2 | 3 => primary_dies(life),
        _ => both_die(life),
    }
    some_writes(life, ACKS);
    life.await_sync();
    life.stop_writing();
    life.verify();
}

fn some_writes(life: &mut Life<'_>, most: u64) {
    let acks = 1 + life.chance.below(most);
    life.await_acks(acks);
}

/// The clients go on; perhaps the Primary dies too, or the Secondary once more when it comes back.
fn secondary_dies(life: &mut Life<'_>) {
    let other = life.secondary();
    life.kill(other);
    if life.chance.one_in(2) {
        some_writes(life, ACKS);
    }
    if life.chance.one_in(4) {
        life.kill(life.primary);
        return both_come_back(life);
    }
    life.revive(other);
    perhaps_another_dies(life, other);
}

/// One of them dies while the node that came back is the target of a resync, or none.
fn perhaps_another_dies(life: &mut Life<'_>, target: usize) {
    match life.chance.below(4) {
        0 => {
            life.await_resync(target);
            life.kill(target);
            some_writes(life, ACKS);
            life.revive(target);
        }
        1 => {
            life.await_resync(target);
            primary_dies_with_all(life);
        }
        _ => {}
    }
}

/// The Primary dies, and the survivor has all.
fn primary_dies(life: &mut Life<'_>) {
    let (dead, survivor) = (life.primary, life.secondary());
    life.kill(dead);
    if life.can_be_primary(survivor) && life.chance.one_in(2) {
        life.await_alone(survivor);
        life.promote(survivor);
        life.write();
        if life.chance.one_in(2) {
            some_writes(life, ACKS);
        }
        life.revive(dead);
        perhaps_another_dies(life, dead);
    } else {
        come_back(life, &[dead]);
    }
}

/// The Primary dies while the other one may lack something: nobody else can take over.
fn primary_dies_with_all(life: &mut Life<'_>) {
    life.kill(life.primary);
    come_back(life, &[life.primary]);
}

/// Both die, one after the other.
fn both_die(life: &mut Life<'_>) {
    let first = life.chance.below(2) as usize;
    life.kill(first);
    life.chance.spin(Duration::from_millis(5));
    life.kill(1 - first);
    both_come_back(life);
}

fn both_come_back(life: &mut Life<'_>) {
    let first = life.chance.below(2) as usize;
    come_back(life, &[first, 1 - first]);
}

/// Starts the dead, and makes Primary who was: at once, when it may not have met its peer yet, or, after the resync,
/// either of them.
fn come_back(life: &mut Life<'_>, dead: &[usize]) {
    let at_once = life.chance.one_in(2);
    for &side in dead {
        life.revive(side);
        if at_once && side == life.primary {
            life.promote(side);
            life.write();
        }
    }
    if !at_once {
        life.await_sync();
        let other = life.secondary();
        let next = if life.can_be_primary(other) && life.chance.one_in(2) { other } else { life.primary };
        life.promote(next);
        life.write();
    }
}
