//! What holds while blocks are fetched, before the first and after the last.

use std::time::Duration;

use super::*;
use crate::config::options::OnIoError;
use crate::meta::superblock::MetaFlags;
use crate::node::link::Features;
use crate::wire::packet::{BlockAck, BlockId};

/// The target lacks these blocks, and the link is whole again.
fn joined(blocks: std::ops::Range<u64>) -> World {
    let mut world = World::synced(plain());
    world.cut();
    for block in blocks {
        world.write(0, block, 42);
    }
    for host in &mut world.hosts {
        host.began.clear();
        host.said.clear();
    }
    world.cut = false;
    world
}

/// Where the superblock is, and how it is to be read.
fn superblock_byte() -> usize {
    let layout = Layout::new(Placement::Internal, DISK_BYTES as u64 / 512, Striping::DEFAULT).unwrap();
    layout.superblock_byte() as usize
}

fn is_consistent(superblock: &[u8]) -> bool {
    let block: [u8; 4096] = superblock.try_into().unwrap();
    let decoded = Superblock::decode(&block, Placement::Internal, DISK_BYTES as u64 / 512);
    decoded.unwrap().0.flags.contains(MetaFlags::CONSISTENT)
}

/// What the superblock on a machine's disk says.
pub(super) fn is_consistent_on_disk(world: &World, host: usize) -> bool {
    let at = superblock_byte();
    is_consistent(&world.hosts[host].disk[at..at + 4096])
}

/// Whether an operation writes a superblock that says so, or that does not.
fn writes_superblock(device: Device, op: &DiskOp, consistent: bool) -> bool {
    match op {
        DiskOp::Write { offset, data, .. } if device == Device::Meta => {
            *offset as usize == superblock_byte() && is_consistent(data.bytes()) == consistent
        }
        _ => false,
    }
}

fn has_begun(world: &World, host: usize, op: &str) -> bool {
    world.hosts[host].began.iter().any(|begun| begun.starts_with(op))
}

/// I34, the beginning.
#[test]
fn no_block_is_written_before_the_superblock_says_inconsistent() {
    let mut world = joined(0..8);
    world.hosts[1].keeps = writes_data;
    world.step_until(|world| has_begun(world, 1, "Data Write"));
    assert!(!is_consistent_on_disk(&world, 1), "{}", world.logs());
    world.release(1);
    world.settle();
    world.assert_equal_disks();
    // And while it is being written, no block is.
    let mut world = joined(0..8);
    world.hosts[1].keeps = |device, op| writes_superblock(device, op, false);
    world.run_for(Duration::from_secs(5));
    assert!(!world.hosts[1].kept.is_empty() && !has_begun(&world, 1, "Data Write"), "{}", world.logs());
    world.release(1);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
}

/// I34, the end: the blocks are flushed, then the superblock says so, then the nodes do.
#[test]
fn the_superblock_says_consistent_only_of_blocks_that_were_flushed() {
    let mut world = joined(0..8);
    world.step_until(|world| has_begun(world, 1, "Data Write"));
    world.hosts[1].keeps = flushes_data;
    world.run_for(Duration::from_secs(5));
    assert!(!world.hosts[1].kept.is_empty() && !is_consistent_on_disk(&world, 1), "{}", world.logs());
    assert!(world.states()[1].starts_with("SyncTarget"), "{:?}", world.states());
    assert_eq!(world.bits(0), 8, "nothing is called in sync that may be lost");
    world.release(1);
    world.hosts[1].keeps = |device, op| writes_superblock(device, op, true);
    world.run_for(Duration::from_secs(5));
    assert!(!world.hosts[1].kept.is_empty() && !is_consistent_on_disk(&world, 1), "{}", world.logs());
    assert!(world.states()[1].starts_with("SyncTarget"), "{:?}", world.states());
    assert!(world.states()[0].starts_with("SyncSource"), "{:?}", world.states());
    world.release(1);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert!(is_consistent_on_disk(&world, 1));
}

/// I29, T6: on either node a client's write waits until the block under way is settled: written, flushed, its
/// bits cleared on both sides.
#[test]
fn a_write_to_a_block_that_is_being_fetched_waits_until_its_bit_is_cleared() {
    for primary_is_target in [false, true] {
        let mut world = if primary_is_target { World::synced(plain()) } else { joined(0..8) };
        let target = usize::from(!primary_is_target);
        if primary_is_target {
            assert!(world.command(0, Command::Invalidate { volume: VOLUME }).is_success());
        }
        world.step_until(|world| world.states().iter().any(|state| state.starts_with("SyncTarget")));
        world.hosts[target].keeps = flushes_data;
        let fetched = |world: &World, block: u64| {
            let resync = world.hosts[0].node.volumes[&VOLUME].resync.as_ref();
            let extent = Extent::new(Sector::new(block * 8), 8).unwrap();
            resync.is_some_and(|resync| resync.exchanges.iter().any(|e| e.extent.overlaps(extent)))
        };
        world.step_until(|world| {
            !world.hosts[usize::from(world.states()[1].starts_with("SyncTarget"))].kept.is_empty()
        });
        assert!(fetched(&world, 2), "{}", world.logs());
        world.hosts[0].began.clear();
        let write = world.submit(0, write_of(2, 9));
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.reply(0, write), None, "{}", world.logs());
        assert!(!has_begun(&world, 0, "Data Write"), "{:?}", world.hosts[0].began);
        assert!(fetched(&world, 2) && world.is_out_of_sync(0, 2));
        world.release(target);
        world.settle();
        assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!([0, 1].map(|host| world.hosts[host].disk[2 * 4096]), [9, 9]);
        world.assert_equal_disks();
    }
}

/// I33: of the states that only announce writes there is WFBitMapS here.
#[test]
fn a_write_after_the_bitmap_went_out_is_marked_and_announced_before_it_begins() {
    let mut world = joined(0..8);
    world.step_until(|world| world.states()[0].starts_with("WFBitMapS"));
    // The target is kept from going on until the announcement is there.
    world.step_until(|world| {
        let sent = |packet: &Packet| matches!(packet, Packet::Bitmap(_) | Packet::CompressedBitmap(_));
        world.hosts[0].said.iter().any(sent)
    });
    assert!(world.states()[0].starts_with("WFBitMapS"), "{:?}", world.states());
    world.hosts[0].keeps = writes_data;
    let write = world.submit(0, write_of(3, 9));
    let other = world.submit(0, write_of(20, 9));
    world.step_until(|world| world.hosts[0].kept.len() == 2);
    assert!(world.is_out_of_sync(0, 3) && world.is_out_of_sync(0, 20), "before it begins");
    world.step_until(|world| world.states()[1].starts_with("SyncTarget"));
    assert!(world.is_out_of_sync(1, 20), "before the target asks for anything\n{}", world.logs());
    world.release(0);
    world.settle();
    assert_eq!([write, other].map(|id| world.reply(0, id)), [Some(Ok(None)), Some(Ok(None))]);
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!([3, 20].map(|block: usize| world.hosts[1].disk[block * 4096]), [9, 9]);
    world.assert_equal_disks();
}

/// W104: the source answers both announcements of a disk that was detached and attached within a packet's time, and
/// the second answer comes when the first is settled.
#[test]
fn a_second_bitmap_counts_as_well_and_breaks_nothing() {
    let mut world = joined(0..8);
    world.hosts[0].slow_handlers = true; // `before-resync-source` keeps the source from its next step.
    world.step_until(|world| world.states()[1].starts_with("WFSyncUUID"));
    let is_bitmap = |packet: &&Packet| matches!(packet, Packet::Bitmap(_) | Packet::CompressedBitmap(_));
    let again = world.hosts[0].said.iter().rev().find(is_bitmap).cloned().unwrap();
    world.hear(1, false, again, None);
    assert!(world.states()[1].starts_with("WFSyncUUID"), "{}", world.logs());
    world.end_handlers(0);
    world.settle();
    assert!(!world.logs().contains("ProtocolError"), "{}", world.logs());
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// I18: both wrote, one gives its data up: what only the loser has is in the source's bitmap as well.
#[test]
fn the_source_knows_every_block_that_either_node_wrote() {
    let mut world = World::synced(plain());
    world.cut();
    world.write(0, 1, 1);
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.write(1, 2, 2);
    assert!(world.command(1, Command::Secondary { volume: VOLUME }).is_success());
    for host in 0..2 {
        world.command(host, Command::Disconnect { force: true });
    }
    world.hosts[1].keeps = writes_data;
    world.cut = false;
    world.connect_with(1, true);
    world.connect(0);
    world.step_until(|world| !world.hosts[1].kept.is_empty());
    assert_eq!([1, 2].map(|block| world.is_out_of_sync(0, block)), [true, true], "{}", world.logs());
    world.release(1);
    world.settle();
    world.assert_equal_disks();
    assert_eq!(world.hosts[1].disk[2 * 4096], 0);
}

/// I27: a block that fails stays out of sync on both, and the target is not called UpToDate.
#[test]
fn a_run_with_a_failed_block_leaves_its_bits_and_an_inconsistent_target() {
    let mut world = World::new(plain());
    world.disk_options.on_io_error = OnIoError::PassOn;
    let mut world = world.in_sync();
    world.cut();
    for block in 0..8 {
        world.write(0, block * 2, 42);
    }
    world.hosts[1].fails = |_, op| match op {
        DiskOp::Write { offset: 16384, .. } => Some(DiskFault::Os(5)),
        _ => None,
    };
    world.cut = false;
    let said =
        |world: &World, host: usize| world.hosts[host].log.iter().any(|line| line.contains("failed blocks"));
    for _ in 0..10_000 {
        if said(&world, 1) {
            break;
        }
        assert!(world.step(), "{}", world.logs());
        assert!(!world.states()[1].contains(" UpToDate/UpToDate"), "{:?}", world.states());
    }
    assert!(said(&world, 1), "{}", world.logs());
    assert_eq!([0, 1].map(|host| world.is_out_of_sync(host, 4)), [true, true]);
    assert_eq!(world.bits(1), 1, "the others are done");
    world.hosts[1].fails = |_, _| None;
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!([0, 1].map(|host| world.bits(host)), [0, 0]);
    world.assert_equal_disks();
}

/// D124: what could not be written in a run that was broken off says nothing of the next, however late it is heard.
#[test]
fn a_negative_ack_of_an_earlier_run_is_none_of_this_one() {
    let mut world = joined(0..1);
    let sends = |world: &World| {
        let run = world.hosts[0].node.volumes[&VOLUME].resync.as_ref();
        run.is_some_and(|run| !run.exchanges.is_empty())
    };
    world.step_until(sends);
    world.hold(1, true);
    world.hold(0, true);
    assert!(world.command(1, Command::Detach { volume: VOLUME, force: true }).is_success());
    world.hold(1, false);
    world.hold(0, false);
    world.settle();
    world.reattach(1);
    world.step_until(sends);
    let late = BlockAck { sector: Sector::new(0), block_id: BlockId::RESYNC, size: 4096, seq: 0 };
    world.hear(0, true, Packet::NegAck(late), None);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!([0, 1].map(|host| world.bits(host)), [0, 0]);
    world.assert_equal_disks();
}

/// T12: refusals are answers. With a window of 16 blocks all of them are refused; the target goes on asking.
#[test]
fn refused_blocks_do_not_use_up_the_window() {
    let mut options = plain();
    options.set("max-buffers", Some("32")).unwrap();
    let mut world = World::synced(options);
    world.cut();
    for block in 0..100 {
        world.write(0, block * 2, 42);
    }
    world.hosts[0].keeps = |device, op| device == Device::Data && matches!(op, DiskOp::Read { .. });
    world.cut = false;
    world.step_until(|world| !world.hosts[0].kept.is_empty());
    let mut refused = std::collections::BTreeSet::new();
    for _ in 0..200 {
        world.run_for(Duration::from_millis(100));
        let Some(resync) = world.hosts[1].node.volumes[&VOLUME].resync.as_ref() else { break };
        let asked: Vec<Extent> = resync.exchanges.iter().map(|exchange| exchange.extent).collect();
        assert!(asked.len() <= 16, "I30");
        for extent in asked {
            refused.insert(extent.start().get());
            let (sector, size) = (extent.start(), extent.bytes() as u32);
            let refusal = BlockAck { sector, block_id: BlockId::RESYNC, size, seq: 0 };
            if world.hosts[1].node.link().is_up() {
                world.hear(1, true, Packet::NegRsDreply(refusal), None);
            }
        }
    }
    assert_eq!(refused.len(), 100, "{}", world.logs());
    world.release(0);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// I30: as much as the rate allows in a tenth of a second, and nothing is under way when the run ends.
#[test]
fn a_resync_asks_for_no_more_than_its_rate_allows() {
    let mut world = joined(0..100);
    for host in 0..2 {
        let options = DiskOptions { c_plan_ahead_ds: 0, resync_rate_kib_s: 400, ..DiskOptions::default() };
        let command = Command::ChangeDiskOptions { volume: VOLUME, options: Box::new(options) };
        assert!(world.command(host, command).is_success());
    }
    world.step_until(|world| world.states()[1].starts_with("SyncTarget"));
    let began = world.now;
    let mut last = 0;
    while world.states()[1].starts_with("SyncTarget") {
        assert!(world.step());
        if let Some(resync) = &world.hosts[1].node.volumes[&VOLUME].resync {
            last = resync.unanswered;
        }
        let asked = |packet: &Packet| match packet {
            Packet::RsDataRequest(request) => u64::from(request.size) / 4096,
            _ => 0,
        };
        let asked: u64 = world.hosts[1].said.iter().map(asked).sum();
        let ticks = world.now.since(began).as_millis() as u64 / 100 + 1;
        assert!(asked <= ticks * 10, "{asked} blocks in {ticks} tenths of a second");
    }
    assert_eq!(last, 0, "asked for and not answered");
    assert!(world.now.since(began) >= Duration::from_millis(800), "{:?}", world.now.since(began));
    world.settle();
    world.assert_equal_disks();
}

/// I12, T27: a write of a part of a block brings that part; the block stays out of sync until all of it is there.
#[test]
fn a_part_of_a_block_does_not_make_it_in_sync() {
    let mut world = joined(0..8);
    world.hosts[0].keeps = |device, op| device == Device::Data && matches!(op, DiskOp::Read { .. });
    world.step_until(|world| world.states()[0].starts_with("SyncSource") && !world.hosts[0].kept.is_empty());
    // A block that was not asked for, or its write would wait: marked by a peer that says so.
    let range = crate::wire::packet::BlockRange { sector: Sector::new(100 * 8), size: 8192 };
    for host in 0..2 {
        world.hear(host, false, Packet::OutOfSync(range), None);
    }
    let extent = Extent::new(Sector::new(100 * 8 + 3), 13).unwrap();
    let write = Request::Write { extent, data: Buf::copied(&[9; 13 * 512]), fua: false };
    let id = world.submit(0, write);
    world.run_for(Duration::from_millis(500));
    assert_eq!(world.reply(0, id), Some(Ok(None)), "{}", world.logs());
    for host in 0..2 {
        let bits = [100, 101].map(|block| world.is_out_of_sync(host, block));
        assert_eq!(bits, [true, false], "node {host}: only the second was written whole");
    }
    world.release(0);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// S58: the nodes have met anew, and what the handler was asked about is over.
#[test]
fn a_handler_that_ends_late_does_not_begin_the_next_run() {
    let mut world = joined(0..8);
    world.hosts[1].slow_handlers = true;
    world.step_until(|world| !world.hosts[1].calls.is_empty());
    assert!(world.hosts[1].state().starts_with("WFSyncUUID"), "{}", world.logs());
    let command = Command::Detach { volume: VOLUME, force: true };
    world.input(0, Input::Command { id: CommandId(998), command });
    world.deliver_all();
    assert!(
        world.hosts[1].state().starts_with("Connected Secondary/Primary Inconsistent/"),
        "{}",
        world.logs()
    );
    world.begin_attach(0, 999);
    world.step_until(|world| world.hosts[1].state().starts_with("WFBitMapT"));
    world.end_handlers(1);
    world.settle();
    assert!(!world.logs().contains("ProtocolError"), "{}", world.logs());
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// S64, A7: the source has not heard that the run is over, and meets the target without a disk, which then attaches it.
#[test]
fn a_disk_that_is_attached_after_an_unheard_end_is_resynced() {
    let mut world = joined(3..6);
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success()); // No new generation, then.
    world.step_until(|world| world.hosts[1].state().starts_with("SyncTarget"));
    world.step_until(|world| world.hosts[1].state().starts_with("Connected"));
    assert!(world.hosts[0].state().starts_with("SyncSource"), "{}", world.logs());
    world.cut();
    assert!(world.command(1, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.join();
    world.reattach(1);
    world.settle();
    assert!(!world.logs().contains("ProtocolError"), "{}", world.logs());
    let in_sync = "Connected Secondary/Secondary UpToDate/UpToDate";
    world.assert_states(in_sync, in_sync);
    world.assert_equal_disks();
    assert_eq!(world.bits(0), 0, "{}", world.logs());
}

/// T1, T38: what a kernel has may be lost as long as the run lasts. After it a Secondary makes no generation by which
/// marks would count, and they would stay for good.
#[test]
fn a_source_that_is_secondary_distrusts_a_kernel_until_the_run_has_ended() {
    for (demoted_late, ends) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut world = joined(3..4);
        world.write(0, 700, 7);
        world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Write { offset, .. } if *offset == 700 * 4096);
        let demote = |world: &mut World| {
            assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
        };
        if !demoted_late {
            demote(&mut world);
        }
        world.step_until(|world| world.hosts[0].state().starts_with("SyncSource"));
        world.hosts[0].node.link_mut().features = Features(13); // A kernel's.
        world.step_until(|world| world.bits(0) == 1);
        if demoted_late {
            demote(&mut world);
        }
        assert!(world.hosts[0].state().starts_with("SyncSource"), "{}", world.logs());
        if ends {
            world.release(1);
            world.settle();
        }
        world.cut();
        assert_eq!(world.bits(0), if ends { 0 } else { 2 }, "{}", world.logs());
        world.release(1);
        world.join();
        world.settle();
        assert_eq!(world.bits(0), 0, "{}", world.logs());
        world.assert_equal_disks();
    }
}

/// I25: a write is on the peer and not here yet; a read of a block that only the peer has, and of that one, would see it.
#[test]
fn a_read_of_a_target_waits_for_the_writes_to_its_sectors() {
    let mut world = World::synced(plain());
    world.hosts[1].keeps =
        |device, op| device == Device::Data && matches!(op, DiskOp::Read { offset: 0, .. });
    assert!(world.command(0, Command::Invalidate { volume: VOLUME }).is_success());
    let edge = |world: &World| {
        (1..2038).find(|block| world.is_out_of_sync(0, block - 1) && !world.is_out_of_sync(0, *block))
    };
    world.step_until(|world| world.hosts[0].state().starts_with("SyncTarget"));
    for _ in 0..1_000 {
        if edge(&world).is_some() || !world.step() {
            break;
        }
    }
    let block = edge(&world).expect("a block in sync behind one that is not");
    world.hosts[0].keeps = writes_data;
    let write = world.submit(0, write_of(block, 7));
    world.deliver_all();
    let extent = Extent::new(Sector::new((block - 1) * 8), 16).unwrap();
    let read = world.submit(0, Request::Read { extent });
    world.deliver_all();
    assert_eq!((world.reply(0, write), world.reply(0, read)), (None, None), "{}", world.logs());
    world.release(0);
    world.deliver_all();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    world.release(1);
    world.settle();
    let data = world.reply(0, read).unwrap().unwrap().unwrap();
    assert_eq!(data.bytes()[4096..], [7; 4096]);
}

/// I10, S64: the source has cleared bits for the disk that it has filled in part, and in its place comes one that has none of
/// that. Its generation is the one before the sync UUID, as if it had missed just that.
#[test]
fn a_disk_that_is_put_back_in_the_middle_of_a_resync_gets_all_blocks() {
    let mut world = World::synced(plain());
    world.cut();
    let old = world.hosts[1].disk.clone();
    world.write(0, 3, 42);
    world.write(0, 700, 43);
    world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Write { offset, .. } if *offset == 700 * 4096);
    world.cut = false;
    world.step_until(|world| !world.hosts[1].kept.is_empty() && world.bits(0) == 1);
    world.cut();
    world.release(1);
    assert!(world.command(1, Command::Detach { volume: VOLUME, force: true }).is_success());
    world.hosts[1].disk = old;
    world.reattach(1);
    world.join();
    assert!(world.logs().contains("uuid_compare()=2 by rule 80"), "{}", world.logs());
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// S64, rule 71: who has missed the sync UUID, and nothing else, gets the blocks that the bits tell of.
#[test]
fn a_target_that_missed_the_sync_uuid_gets_what_the_bits_tell_of() {
    let mut world = joined(3..5);
    world.hosts[0].slow_handlers = true;
    world.step_until(|world| world.hosts[1].state().contains("WFSyncUUID"));
    world.deliver_all();
    world.hold(1, true);
    world.end_handlers(0);
    world.deliver_all();
    let told = |packet: &Packet| matches!(packet, Packet::SyncUuid(_));
    assert!(world.hosts[0].said.iter().any(told), "{}", world.logs());
    world.cut();
    world.join();
    assert!(world.logs().contains("uuid_compare()=1 by rule 71"), "{}", world.logs());
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}
