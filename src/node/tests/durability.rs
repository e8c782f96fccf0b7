//! What must be durable, or known to both nodes, before somebody is told so; and that nothing
//! stays behind when disk or peer go and come back.

use super::*;
use crate::config::options::Protocol;

fn protocol(protocol: Protocol) -> NetOptions {
    NetOptions { protocol, ..plain() }
}

/// Whether a request was answered as soon as all that is under way has been delivered.
fn is_answered(world: &mut World, id: u64) -> bool {
    for _ in 0..50 {
        world.deliver(0);
        world.deliver(1);
    }
    world.reply(0, id).is_some()
}

#[test]
fn a_protocol_a_write_is_answered_once_the_network_has_it() {
    // D30
    let mut world = World::synced(protocol(Protocol::A));
    world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Write { .. });
    let before = world.now;
    world.write(0, 3, 7);
    world.write(0, 4, 8);
    assert_eq!(world.now, before, "nothing had to be waited for");
    world.release(1);
    assert_eq!(world.request(0, Request::Flush), Ok(None));
    world.assert_equal_disks();
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success(), "{}", world.logs());
}

#[test]
fn a_protocol_b_write_that_was_acknowledged_reaches_the_disk_although_its_sender_is_gone() {
    // I2, D52: the second epoch waits for the first when the link breaks.
    let mut world = World::synced(protocol(Protocol::B));
    world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Write { .. });
    world.write(0, 3, 7);
    world.write(0, 4, 8);
    world.cut();
    world.release(1);
    world.settle();
    assert_eq!((world.hosts[1].disk[3 * 4096], world.hosts[1].disk[4 * 4096]), (7, 8));
}

#[test]
fn a_disk_may_come_back_before_the_writes_of_its_last_life_are_settled() {
    // D82: the activity log of the new life knows nothing of them.
    let mut world = World::synced(plain());
    world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Flush);
    world.write(0, 3, 7);
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.hosts[0].apply_al();
    world.attach(0);
    world.release(1);
    world.settle();
    let both =
        ("Connected Primary/Secondary UpToDate/UpToDate", "Connected Secondary/Primary UpToDate/UpToDate");
    world.assert_states(both.0, both.1);
    world.assert_equal_disks();
}

#[test]
fn a_barrier_is_not_acked_while_the_flush_that_covers_it_is_under_way() {
    // D61: the flush was issued for a resync, and counts only once it has ended.
    const SLOW_BLOCK: u64 = 700;
    let mut world = World::synced(plain());
    world.cut();
    world.write(0, 3, 7);
    world.write(0, SLOW_BLOCK, 7);
    world.hosts[1].keeps = |device, op| match op {
        DiskOp::Write { offset, .. } => *offset == SLOW_BLOCK * 4096,
        DiskOp::Flush => device == Device::Data,
        DiskOp::Read { .. } | DiskOp::Discard { .. } | DiskOp::Zero { .. } => false,
    };
    world.cut = false;
    world.step_until(|world| !world.hosts[1].kept.is_empty());
    world.hosts[0].keeps = |_, op| matches!(op, DiskOp::Write { .. });
    let write = world.submit(0, write_of(5, 8));
    world.step_until(|world| world.hosts[1].kept.len() > 1);
    assert_eq!(world.hosts[1].disk[5 * 4096], 8, "written before the flush began");
    world.release(0);
    assert!(is_answered(&mut world, write), "{}", world.logs());
    let flush = world.submit(0, Request::Flush);
    assert!(!is_answered(&mut world, flush), "{}", world.logs());
    world.release(1);
    assert!(is_answered(&mut world, flush), "{}", world.logs());
}
