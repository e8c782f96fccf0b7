//! Frozen I/O: nothing is answered, nothing is lost, and nothing stays behind when it goes on.

use std::time::Duration;

use super::*;
use crate::config::options::{Fencing, OnNoDataAccessible};
use crate::node::handlers::Waiter;
use crate::node::link::Features;
use crate::node::worker::Work;

/// A pair in sync whose Primary freezes its I/O when the peer is lost.
fn fenced() -> World {
    let mut world = World::new(plain());
    world.disk_options.fencing = Fencing::ResourceAndStonith;
    world.in_sync()
}

/// A pair in sync whose Primary freezes its I/O when no good data is left.
fn patient() -> World {
    patient_with(Fencing::DontCare)
}

fn patient_with(fencing: Fencing) -> World {
    let mut world = World::new(plain());
    world.disk_options.fencing = fencing;
    let options = ResourceOptions {
        on_no_data_accessible: OnNoDataAccessible::SuspendIo,
        ..ResourceOptions::default()
    };
    for host in 0..2 {
        let options = Box::new(options.clone());
        assert!(world.command(host, Command::ChangeResourceOptions { options }).is_success());
    }
    world.in_sync()
}

/// Both copies are equal, and no request is left that could keep a demotion from ending.
fn assert_settled(world: &mut World) {
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(world.hosts[0].node.status().volumes[0].counters.oos, 0, "{}", world.logs());
    world.assert_equal_disks();
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
}

#[test]
fn writes_that_were_answered_before_a_frozen_outage_are_settled_after_it() {
    // D80: the peer did not restart.
    let mut world = fenced();
    world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Flush);
    world.write(0, 3, 7);
    world.cut();
    world.release(1);
    world.join();
    assert_settled(&mut world);
}

#[test]
fn a_write_in_flight_is_sent_again_and_a_flush_waits_for_its_barrier() {
    // S26, T3
    let mut world = fenced();
    world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Write { .. });
    let write = world.submit(0, write_of(3, 7));
    world.cut();
    world.release(1);
    world.settle();
    assert_eq!(world.reply(0, write), None);
    world.hosts[1].keeps = flushes_data;
    world.cut = false;
    world.step_until(|world| !world.hosts[0].replies.is_empty());
    assert_eq!(world.reply(0, write), Some(Ok(None)));
    let flush = world.submit(0, Request::Flush);
    for _ in 0..20 {
        world.deliver(0);
        world.deliver(1);
    }
    assert_eq!(world.reply(0, flush), None, "the peer has not flushed");
    world.release(1);
    world.settle();
    assert_eq!(world.reply(0, flush), Some(Ok(None)));
    assert_settled(&mut world);
}

#[test]
fn a_write_that_waits_for_the_activity_log_is_not_written_alone_while_frozen() {
    // D13: without a new generation nobody would learn that only one node has it.
    let mut world = fenced();
    world.hosts[0].keeps = |device, op| device == Device::Meta && matches!(op, DiskOp::Write { .. });
    let write = world.submit(0, write_of(1500, 7));
    world.cut();
    world.release(0);
    world.settle();
    assert_eq!(world.reply(0, write), None);
    world.join();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    assert_settled(&mut world);
}

#[test]
fn a_demotion_does_not_wait_for_the_barrier_ack_of_a_peer_that_is_gone() {
    let mut world = fenced();
    world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Flush);
    world.write(0, 3, 7);
    world.cut();
    let refused = world.command(0, Command::Secondary { volume: VOLUME });
    assert!(refused.info.iter().any(|text| text.contains("resume-io first")), "{refused:?}");
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success(), "{}", world.logs());
}

/// The other machine starts anew, with such a disk.
fn restart_with(world: &mut World, disk: Vec<u8>) {
    let mut host = Host::new(9);
    host.disk = disk;
    world.hosts[1] = host;
    assert!(world.command(1, Command::NewMinor { volume: VOLUME, minor: 1 }).is_success());
    world.reattach(1);
    world.connect(1);
}

/// T4, F7: the exchange that comes to nothing is that with a new disk; then the old one is put back, which has lost with its
/// power what it acked, and no generation was made while I/O was frozen.
#[test]
fn what_a_disk_that_is_put_back_has_lost_is_sent_again() {
    put_back_amid_the_exchange(|_, op| matches!(op, DiskOp::Flush));
}

/// T4, F7: the same, when it had not acked the write, which the new one gets.
#[test]
fn what_a_disk_that_is_put_back_never_got_is_sent_again() {
    put_back_amid_the_exchange(|_, op| matches!(op, DiskOp::Write { .. }));
}

fn put_back_amid_the_exchange(keeps: fn(Device, &DiskOp) -> bool) {
    let mut world = fenced();
    for fill in 1..4 {
        // Generations, until the history does not go back to the first one.
        world.cut();
        assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
        world.write(0, 3, fill);
        world.join();
    }
    world.hosts[1].keeps = keeps;
    let old = world.hosts[1].disk.clone();
    let write = world.submit(0, write_of(3, 7));
    world.deliver_all();
    world.cut();
    world.cut = false;
    restart_with(&mut world, Host::new(2).disk);
    world.step_until(|world| {
        world.hosts[0].state().starts_with("WFBitMapS") && !world.hosts[0].replies.is_empty()
    });
    assert_eq!(world.reply(0, write), Some(Ok(None)));
    world.cut();
    world.cut = false;
    restart_with(&mut world, old);
    world.settle();
    assert_settled(&mut world);
}

/// A write that the peer has not acked when an administrator suspends I/O, and the link breaks and is there again.
fn frozen_over_an_outage() -> (World, u64) {
    let mut world = World::synced(plain());
    world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Write { .. });
    let write = world.submit(0, write_of(3, 7));
    world.deliver_all();
    assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
    world.cut();
    world.release(1);
    world.join();
    (world, write)
}

/// I7: nothing is answered while I/O is suspended, and each request once.
#[test]
fn a_write_survives_an_outage_while_an_administrator_holds_io() {
    let (mut world, write) = frozen_over_an_outage();
    assert_eq!(world.reply(0, write), None);
    let before = world.now;
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.step_until(|world| !world.hosts[0].replies.is_empty());
    assert_eq!((world.reply(0, write), world.now), (Some(Ok(None)), before), "{}", world.logs());
    world.settle();
    world.assert_equal_disks();
}

/// A9, I5: the generation that is due when the peer is lost is for what is written without it. It came back before that,
/// and the other node may be Primary by the time I/O goes on.
#[test]
fn a_generation_is_not_due_any_more_when_the_peer_is_back() {
    let mut world = World::synced(plain());
    let before = world.uuids(0);
    assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
    world.cut();
    world.join();
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success(), "{}", world.logs());
    world.cut();
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    assert_eq!(world.uuids(0), before, "{}", world.logs());
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.write(1, 3, 7);
    world.join();
    world.assert_states(IN_SYNC[1], IN_SYNC[0]);
    world.assert_equal_disks();
}

#[test]
fn a_write_that_met_a_dead_disk_goes_on_with_the_next_one() {
    // A4, S89
    let mut world = patient();
    world.cut();
    world.hosts[0].fails = |_, op| matches!(op, DiskOp::Write { .. }).then_some(DiskFault::Os(5));
    let write = world.submit(0, write_of(3, 7));
    world.settle();
    assert_eq!(world.reply(0, write), None, "{}", world.logs());
    world.hosts[0].fails = |_, _| None;
    world.reattach(0);
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    world.join();
    world.assert_equal_disks();
}

#[test]
fn io_stays_frozen_while_connected_to_a_peer_that_lost_its_disk_too() {
    // A4, Z8
    let mut world = patient();
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.hosts[1].fails = |_, op| matches!(op, DiskOp::Write { .. }).then_some(DiskFault::Os(5));
    let write = world.submit(0, write_of(3, 7));
    world.settle();
    assert_eq!(world.reply(0, write), None, "{}", world.logs());
    world.hosts[1].fails = |_, _| None;
    world.reattach(1);
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    assert_eq!(world.hosts[1].disk[3 * 4096], 7);
}

#[test]
fn a_flush_without_any_copy_fails() {
    // D21
    let mut world = World::synced(plain());
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    assert_eq!(world.request(0, Request::Flush), Ok(None));
    world.cut();
    assert_eq!(world.request(0, Request::Flush), Err(ReplyError::Io));
}

#[test]
fn a_flush_that_fails_on_one_of_two_copies_does_not_reach_the_client() {
    // D31
    let mut world = World::synced(plain());
    world.write(0, 3, 7);
    world.hosts[0].fails = |device, op| flushes_data(device, op).then_some(DiskFault::Os(5));
    assert_eq!(world.request(0, Request::Flush), Ok(None), "{}", world.logs());
    world.settle();
    world.assert_states(
        "Connected Primary/Secondary Diskless/UpToDate",
        "Connected Secondary/Primary UpToDate/Diskless",
    );
}

/// A write that is frozen by the administrator, and that the bitmap of the handshake with a peer that is behind waits for.
fn frozen_beside_an_older_peer() -> (World, u64) {
    let mut world = fenced();
    world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Write { .. });
    let write = world.submit(0, write_of(3, 7));
    world.deliver_all();
    assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
    world.cut();
    world.release(1);
    assert!(world.command(1, Command::Disconnect { force: true }).is_success());
    assert!(world.command(1, Command::Invalidate { volume: VOLUME }).is_success());
    world.connect(1);
    world.join();
    (world, write)
}

/// T17, A4: the generation that was due is not any more, and what waited for it goes on.
#[test]
fn writes_go_on_after_resume_io_although_the_peer_is_behind() {
    let (mut world, write) = frozen_beside_an_older_peer();
    assert_eq!(world.reply(0, write), None, "{}", world.logs());
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    assert_settled(&mut world);
}

/// T41, I8: the frozen writes that the bitmap of one volume waits for go on when the other volume is connected, too; its
/// handshake has found a split brain, and waits for the handler.
#[test]
fn a_handler_of_another_volume_is_called_before_a_bitmap_that_waits_for_it() {
    let (mut world, write) = frozen_beside_an_older_peer();
    assert!(world.hosts[0].state().starts_with("WFBitMapS"), "{}", world.logs());
    world.hosts[0].slow_handlers = true;
    world.hosts[0].node.await_handler("initial-split-brain", Some(VolumeId(1)), Waiter::Handshake);
    world.input(0, Input::Timeout);
    world.deliver_all();
    assert_eq!(world.hosts[0].calls.len(), 1, "{}", world.logs());
    assert_eq!(world.reply(0, write), None, "{}", world.logs());
    world.end_handlers(0);
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    assert_settled(&mut world);
}

/// A pair in sync again after a resync of one block, whose source takes the target for a kernel.
pub(super) fn resynced_to_a_kernel(options: NetOptions) -> World {
    let mut world = World::synced(options);
    world.cut();
    world.write(0, 3, 7);
    world.cut = false;
    world.step_until(|world| world.hosts[0].state().starts_with("WFBitMapS"));
    world.hosts[0].node.link_mut().features = Features(13); // A kernel.
    world.settle();
    assert_eq!(world.hosts[1].disk[3 * 4096], 7);
    world
}

/// T1, T4: nothing says that the peer did not restart while I/O was frozen.
#[test]
fn what_a_resync_brought_is_brought_again_if_the_peer_may_have_lost_it() {
    let mut world = resynced_to_a_kernel(plain());
    assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
    world.cut();
    world.hosts[1].disk[3 * 4096] = 0;
    world.join();
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    assert_settled(&mut world);
}

/// T4: nor that it has what it acked in a cache, may both be Primary or not: it was none when it was lost.
#[test]
fn what_the_peer_acked_is_sent_again_if_it_may_have_lost_it() {
    for two_primaries in [false, true] {
        let mut world = World::synced(NetOptions { allow_two_primaries: two_primaries, ..plain() });
        world.hosts[1].keeps = flushes_data;
        world.write(0, 3, 7);
        assert_eq!(world.hosts[1].disk[3 * 4096], 7);
        assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
        world.cut();
        world.hosts[1].disk[3 * 4096] = 0;
        world.release(1);
        world.join();
        assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
        world.settle();
        assert_eq!(world.hosts[1].disk[3 * 4096], 7, "{two_primaries}\n{}", world.logs());
        assert_settled(&mut world);
    }
}

/// T35, A4: the write was for the peer alone, and this node has a disk again when it is sent once more.
#[test]
fn a_write_that_was_for_the_peer_alone_gets_to_the_disk_that_came_back() {
    let mut world = patient_with(Fencing::ResourceOnly);
    world.hold(1, true);
    let detach = Command::Detach { volume: VOLUME, force: true };
    world.input(0, Input::Command { id: CommandId(999), command: detach });
    world.deliver_all();
    let write = world.submit(0, write_of(3, 7));
    world.deliver_all();
    world.cut();
    world.reattach(0);
    world.join();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    assert_eq!((world.hosts[0].disk[3 * 4096], world.hosts[1].disk[3 * 4096]), (7, 7));
    assert_settled(&mut world);
}

/// T4: what its activity log has left of a disk that comes back while I/O is frozen is made good.
#[test]
fn a_disk_that_came_back_while_frozen_leaves_no_marks_behind() {
    let mut world = patient_with(Fencing::ResourceAndStonith);
    world.write(0, 3, 7);
    world.cut();
    world.input(
        0,
        Input::Command { id: CommandId(999), command: Command::Detach { volume: VOLUME, force: true } },
    );
    world.settle();
    world.reattach(0);
    assert!(world.bits(0) > 0, "{}", world.logs());
    world.join();
    assert_settled(&mut world);
}

/// Node 0 begins a write alone, when its peer or the peer's disk is `lost` and before its worker has got to that; then
/// its I/O freezes. The write.
fn begun_alone_before_io_froze(world: &mut World, lost: impl FnOnce(&mut World)) -> u64 {
    world.write(0, 3, 1);
    world.settle();
    world.write(0, 3, 2);
    world.settle();
    world.hosts[0].keeps = flushes_data;
    world.hosts[0].node.worker.push(Work::FlushData { volume: VOLUME }); // It stands still.
    lost(world);
    let write = world.submit(0, write_of(4, 8));
    world.deliver_all();
    assert_eq!((world.hosts[0].disk[4 * 4096], world.reply(0, write)), (8, None), "{}", world.logs());
    assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
    world.release(0);
    write
}

/// I/O goes on: the write is on both disks.
fn goes_on_and_is_mirrored(world: &mut World, write: u64) {
    assert_eq!(world.reply(0, write), None, "{}", world.logs());
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!([0, 1].map(|host| world.bits(host)), [0, 0]);
    world.assert_equal_disks();
}

/// I18, T4: written here alone after the peer was lost and before I/O froze, with no generation that tells.
#[test]
fn what_was_begun_alone_before_io_froze_reaches_the_peer() {
    let mut world = World::synced(plain());
    let write = begun_alone_before_io_froze(&mut world, World::cut);
    world.join();
    world.settle();
    goes_on_and_is_mirrored(&mut world, write);
}

/// I18: the same, of a peer that lost its disk only, and has it back before I/O goes on.
#[test]
fn what_was_begun_alone_before_io_froze_reaches_the_peers_disk() {
    let mut world = World::synced(plain());
    let write = begun_alone_before_io_froze(&mut world, |world| {
        assert!(world.command(1, Command::Detach { volume: VOLUME, force: true }).is_success());
        world.deliver_all();
    });
    world.settle();
    world.reattach(1);
    world.settle();
    goes_on_and_is_mirrored(&mut world, write);
}

/// T41, I7: what was frozen is sent once more before the bitmap, which waits for it; a read that waits for the write
/// waits on.
#[test]
fn a_frozen_write_of_a_target_goes_before_the_bitmap() {
    let mut world = World::synced(plain());
    assert!(world.command(0, Command::Invalidate { volume: VOLUME }).is_success());
    world.step_until(|world| world.hosts[0].state().starts_with("SyncTarget"));
    world.hosts[0].keeps = |device, op| device == Device::Data && matches!(op, DiskOp::Write { .. });
    world.hold(0, true);
    let write = world.submit(0, write_of(2000, 7));
    let extent = Extent::new(Sector::new(16_000), 8).unwrap();
    let read = world.submit(0, Request::Read { extent });
    world.deliver_all();
    assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
    world.release(0);
    world.cut();
    assert_eq!([write, read].map(|id| world.reply(0, id)), [None, None], "{}", world.logs());
    world.join();
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    assert!(world.reply(0, read).is_some_and(|answer| answer.is_ok()), "{}", world.logs());
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
}

/// S29 f: the nodes meet while a promotion fences, whose handler is queued behind the introduction that waits for it.
#[test]
fn a_promotion_fences_although_the_nodes_are_about_to_meet() {
    let mut world = World::new(plain());
    world.disk_options.fencing = Fencing::ResourceOnly;
    let mut world = world.in_sync();
    world.write(0, 3, 7);
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
    world.cut();
    world.hosts[0].keeps = |_, op| matches!(op, DiskOp::Flush);
    world.hosts[0].node.start_work(VOLUME, Device::Data, DiskOp::Flush); // The worker waits for it.
    world.join();
    let introduced =
        |world: &World| world.hosts[0].node.worker.iter().any(|work| matches!(work, Work::Introduce));
    assert!(introduced(&world), "{}", world.logs());
    world.hosts[0].slow_handlers = true;
    let command = Command::Primary { volume: VOLUME, force: false };
    world.input(0, Input::Command { id: CommandId(999), command });
    world.deliver_all();
    world.release(0);
    world.deliver_all();
    assert_eq!(world.hosts[0].calls.len(), 1, "{}", world.logs());
    world.end_handlers(0);
    world.settle();
    assert!(world.hosts[0].outcomes.contains_key(&999), "{}", world.logs());
    assert!(world.hosts[0].state().starts_with("Connected"), "{}", world.logs());
}

/// D173: what was sent on an earlier connection is no request that this peer does not answer.
#[test]
fn a_frozen_request_does_not_drop_the_next_connection() {
    let (mut world, write) = frozen_over_an_outage();
    world.run_for(Duration::from_secs(300));
    let connected = world.hosts[0].log.iter().filter(|line| line.contains("-> WFReportParams")).count();
    assert_eq!(connected, 4, "{}", world.logs()); // Twice, of the volume and of the link.
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)));
    assert_settled(&mut world);
}

/// A9, I5: with fencing, the disk that a Primary gets back while the peer is away is only Consistent. It is written all
/// the same, with an error for the client, and a generation tells.
#[test]
fn a_consistent_disk_of_a_primary_is_not_written_without_a_generation() {
    let mut world = World::new(plain());
    world.disk_options.fencing = Fencing::ResourceOnly;
    let mut world = world.in_sync();
    let before = world.uuids(0);
    world.hold(1, true); // The peer does not hear of it.
    let detach = Command::Detach { volume: VOLUME, force: true };
    world.input(0, Input::Command { id: CommandId(999), command: detach });
    world.deliver_all();
    world.cut();
    world.hosts[0].apply_al();
    let attach = world.attach_command(DISK_BYTES as u64, MetaPlace::Internal);
    assert!(world.command(0, attach).is_success(), "{}", world.logs());
    world.settle();
    assert!(world.hosts[0].state().contains("Consistent/"), "{}", world.logs());
    _ = world.request(0, write_of(3, 7)); // Whatever the client is told.
    assert_eq!(world.uuids(0)[1], before[0], "{}", world.logs());
    world.join();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}
