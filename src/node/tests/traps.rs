//! Traps of the data path with a peer that does what only a kernel does.

use super::*;
use crate::node::state::{Conn, Disk, Role, State};
use crate::wire::packet::{BlockRange, StateWord};

/// The target of a resync that lacks some blocks, which it cannot write yet.
pub(super) fn syncing() -> World {
    let mut world = World::synced(plain());
    world.cut();
    for block in 0..8 {
        world.write(0, block * 2, 42);
    }
    world.hosts[1].keeps = |device, op| device == Device::Data && matches!(op, DiskOp::Write { .. });
    world.cut = false;
    world.step_until(|world| !world.hosts[1].kept.is_empty());
    assert!(world.hosts[0].state().starts_with("SyncSource"), "{}", world.logs());
    world
}

/// What a target says that is Connected again with a disk that is worth so much.
fn connected_with(disk: Disk) -> Packet {
    let state = State {
        role: Role::Secondary,
        peer: Role::Primary,
        conn: Conn::Connected,
        disk,
        pdsk: Disk::UpToDate,
        ..State::NEW
    };
    Packet::State(StateWord(state.to_word()))
}

/// T36, of a source. Holds `target_has_failed` in `receive_state`; a kernel's target does not drop the
/// connection after a run in which blocks failed, and its source would wait for ever.
#[test]
fn a_source_ends_the_run_when_its_target_ended_it_with_failures() {
    let mut world = syncing();
    let before = world.uuids(0);
    world.hear(0, false, connected_with(Disk::Inconsistent), None);
    assert_eq!(world.hosts[0].state(), "Connected Primary/Secondary UpToDate/Inconsistent");
    assert_eq!(world.uuids(0), before, "the UUIDs say that blocks are missing");
    let bits = world.bits(0);
    assert!(bits > 0);
    // T21: a write now is for this disk alone, and only this bitmap knows.
    world.hosts[0].said.clear();
    world.write(0, 100, 9);
    assert!(world.is_out_of_sync(0, 100) && world.bits(0) == bits + 1);
    let sent = |packet: &Packet| matches!(packet, Packet::Data { .. } | Packet::OutOfSync(_));
    assert!(!world.hosts[0].said.iter().any(sent), "{:?}", world.hosts[0].said);
}

/// T5, of a target. Holds `outdate` in `on_out_of_sync`: a source that is ahead says that a block is out of sync
/// while its older content is being written here; that it is written does not make it in sync.
#[test]
fn a_block_that_went_out_of_sync_while_it_was_fetched_stays_so() {
    let mut world = syncing();
    let sector = Sector::new(4 * 8);
    world.hear(1, false, Packet::OutOfSync(BlockRange { sector, size: 4096 }), None);
    let is_set = |world: &World| {
        let volume = &world.hosts[1].node.volumes[&VOLUME];
        volume.disk.as_ref().unwrap().bitmap.is_set(sector.bit())
    };
    world.release(1);
    // The first round, and what the two nodes make of it, before a later one fetches the block again.
    world.step_until(|world| world.hosts[1].node.status().volumes[0].counters.oos < 8 * 4);
    assert!(is_set(&world), "{}", world.logs());
    world.settle();
    assert!(!is_set(&world));
    world.assert_equal_disks();
}
