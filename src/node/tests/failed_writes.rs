//! Writes that a disk could not take, and copies that are about to be thrown away: nothing is answered that the next
//! power failure would take back.

use super::resyncing::is_consistent_on_disk;
use super::*;
use crate::config::options::{Fencing, OnIoError, Protocol};
use crate::node::state::{Conn, Disk, State};
use crate::node::worker::Work;

/// A pair in sync whose disks stay in use when they fail.
fn lenient() -> World {
    lenient_with(Protocol::C)
}

fn lenient_with(protocol: Protocol) -> World {
    let mut world = World::new(NetOptions { protocol, ..plain() });
    world.disk_options.on_io_error = OnIoError::PassOn;
    world.in_sync()
}

/// Node 1 is the target of a resync, until what it keeps is released.
fn begin_a_resync_that_lasts(world: &mut World) {
    world.cut();
    world.write(0, 700, 9);
    world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Write { offset, .. } if *offset == 700 * 4096);
    world.cut = false;
    world.step_until(|world| !world.hosts[1].kept.is_empty());
}

fn data_cannot_be_written(device: Device, op: &DiskOp) -> Option<DiskFault> {
    let write = device == Device::Data && matches!(op, DiskOp::Write { .. });
    write.then_some(DiskFault::Os(5))
}

fn writes_meta(device: Device, op: &DiskOp) -> bool {
    device == Device::Meta && matches!(op, DiskOp::Write { .. })
}

fn generation(world: &World, host: usize) -> u64 {
    world.hosts[host].node.volumes[&VOLUME].uuids()[0]
}

/// T21, I35: the Primary would go on alone without a new generation, and a power failure of the peer would bring
/// back a disk that is called UpToDate and has the old block.
#[test]
fn a_write_is_refused_by_a_disk_that_is_durably_inconsistent() {
    for host in [1, 0] {
        let mut world = lenient();
        world.write(0, 2, 1); // Its extent is in the activity log from now on.
        world.settle();
        world.hosts[host].fails = data_cannot_be_written;
        world.hosts[host].keeps = writes_meta;
        world.hosts[host].said.clear();
        let write = world.submit(0, write_of(3, 7));
        world.deliver_all();
        assert!(world.hosts[host].state().contains(" Inconsistent/"), "{}", world.hosts[host].state());
        assert_eq!(world.reply(0, write), None, "{}", world.logs());
        let told = |packet: &Packet| matches!(packet, Packet::NegAck(_) | Packet::State(_));
        assert!(!world.hosts[host].said.iter().any(told), "{:?}", world.hosts[host].said);
        world.hosts[host].fails = |_, _| None;
        world.release(host);
        world.settle();
        assert_eq!(world.reply(0, write), Some(Ok(None)), "the other disk has it\n{}", world.logs());
        assert!(world.is_out_of_sync(0, 3));
    }
}

/// Two writes fail while the superblock is being written: the one that tells of the first, or an older one.
fn two_are_refused(older: bool) -> (World, [u64; 2]) {
    let mut world = World::synced(plain());
    world.write(0, 2, 1);
    world.settle();
    let flushes_meta = |device, op: &DiskOp| device == Device::Meta && matches!(op, DiskOp::Flush);
    world.hosts[0].keeps = writes_data;
    let writes = [3, 4].map(|block| world.submit(0, write_of(block, 7)));
    world.deliver_all();
    world.hosts[0].keeps = flushes_meta;
    if older {
        world.hosts[0].node.mark_meta(VOLUME);
        world.hosts[0].node.worker.push(Work::SyncMeta { volume: VOLUME });
        world.input(0, Input::Timeout);
    }
    let flush = if older { world.hosts[0].kept.pop_back() } else { None };
    world.hosts[0].fails = data_cannot_be_written;
    world.release(0);
    world.hosts[0].keeps = flushes_meta;
    world.deliver_all();
    world.hosts[0].kept.extend(flush);
    assert_eq!(world.hosts[0].kept.len(), 1, "{:?}", world.hosts[0].began);
    world.release(0);
    world.hosts[0].keeps = writes_meta;
    world.deliver_all();
    (world, writes)
}

/// T21, I35: and none of them is answered before the one that tells is there, nor does an older one come after it.
#[test]
fn no_refused_write_goes_before_the_superblock_that_is_being_written() {
    for older in [false, true] {
        let (mut world, writes) = two_are_refused(older);
        assert_eq!(writes.map(|write| world.reply(0, write)), [None, None], "{older}\n{}", world.logs());
        world.release(0);
        world.settle();
        assert_eq!(writes.map(|write| world.reply(0, write)), [Some(Ok(None)), Some(Ok(None))]);
        assert!(!is_consistent_on_disk(&world, 0), "{older}");
    }
}

/// I3: what an Inconsistent disk has is overwritten by the only good one.
#[test]
fn a_write_that_the_only_good_disk_refuses_fails() {
    let mut world = lenient();
    begin_a_resync_that_lasts(&mut world);
    assert!(world.hosts[0].state().starts_with("SyncSource"), "{}", world.hosts[0].state());
    world.hosts[0].fails = data_cannot_be_written;
    let failed = world.request(0, write_of(3, 7));
    world.hosts[0].fails = |_, _| None;
    assert_eq!(failed, Err(ReplyError::Io), "{}", world.logs());
    world.release(1);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// I3, of a Primary that is the target.
#[test]
fn a_write_that_the_source_refuses_fails() {
    let mut world = lenient();
    assert!(world.command(0, Command::Invalidate { volume: VOLUME }).is_success());
    world.step_until(|world| world.hosts[0].state().starts_with("SyncTarget"));
    world.hosts[1].fails = data_cannot_be_written;
    let failed = world.request(0, write_of(3, 7));
    world.hosts[1].fails = |_, _| None;
    assert_eq!(failed, Err(ReplyError::Io), "{}", world.logs());
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// X11: an Inconsistent disk is the target of whatever comes back. One that is alone with what it has written since
/// is not called that for one bad block.
#[test]
fn a_primary_alone_is_still_the_source_after_a_bad_block() {
    let mut world = lenient();
    world.cut();
    world.write(0, 3, 7);
    world.hosts[0].fails = data_cannot_be_written;
    let failed = world.request(0, write_of(4, 8));
    world.hosts[0].fails = |_, _| None;
    assert_eq!(failed, Err(ReplyError::Io), "{}", world.logs());
    assert_eq!(world.hosts[0].state(), "WFConnection Primary/Unknown UpToDate/DUnknown");
    world.join();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
    assert_eq!(world.hosts[1].disk[3 * 4096], 7);
}

/// T17, I35: the peer has its data until it has thrown them away durably, and may come back with them.
#[test]
fn the_source_of_a_full_sync_that_begins_writes_nothing_alone() {
    let mut world = lenient();
    world.hosts[0].keeps = writes_meta;
    let invalidate = Command::Invalidate { volume: VOLUME };
    world.input(1, Input::Command { id: CommandId(999), command: invalidate });
    world.step_until(|world| world.hosts[0].state().starts_with("StartingSyncS"));
    let write = world.submit(0, write_of(3, 7));
    world.deliver_all();
    assert_eq!((world.reply(0, write), world.hosts[0].disk[3 * 4096]), (None, 0), "{}", world.logs());
    let before = generation(&world, 0);
    world.cut();
    assert_eq!(world.reply(0, write), None, "the new generation is not durable\n{}", world.logs());
    world.release(0);
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    assert_ne!(generation(&world, 0), before);
    world.join();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// T40, at the other end of the run: the target never heard that it is one, and is UpToDate with the same generation.
#[test]
fn a_target_that_has_not_begun_is_not_taken_for_inconsistent() {
    let mut world = lenient();
    let invalidate = Command::Invalidate { volume: VOLUME };
    world.input(1, Input::Command { id: CommandId(999), command: invalidate });
    world.cut = true; // What is sent from now on is lost, the answer to this as well.
    world.step_until(|world| world.hosts[0].state().starts_with("SyncSource"));
    let before = generation(&world, 0);
    world.cut();
    assert_eq!(world.hosts[1].state(), "WFConnection Secondary/Unknown UpToDate/DUnknown");
    assert_eq!(world.hosts[0].state(), "WFConnection Primary/Unknown UpToDate/DUnknown");
    assert_ne!(generation(&world, 0), before, "{}", world.logs());
    world.write(0, 3, 7);
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.write(1, 3, 8);
    world.join();
    let both = [0, 1].map(|host| (world.hosts[host].node.link().cstate, world.hosts[host].disk[3 * 4096]));
    assert_eq!(both, [(Conn::StandAlone, 7), (Conn::StandAlone, 8)], "a split brain\n{}", world.logs());
}

/// No command leads there (154), but the options that a peer tells are taken as they are (S40).
fn fenced_with_protocol_a(al_extents: u32) -> World {
    let mut world = World::new(plain());
    world.disk_options.fencing = Fencing::ResourceAndStonith;
    world.disk_options.al_extents = al_extents;
    let mut world = world.in_sync();
    for host in &mut world.hosts {
        host.node.link_mut().config.as_mut().unwrap().options.protocol = Protocol::A;
    }
    world
}

/// S37, S40, S78: whichever of them comes last.
#[test]
fn protocol_a_and_fencing_that_freezes_do_not_go_together() {
    let code = 154;
    let mut world = lenient_with(Protocol::A);
    assert!(world.command(1, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.disk_options.fencing = Fencing::ResourceAndStonith;
    world.begin_attach(1, 900);
    world.settle();
    assert_eq!(world.hosts[1].outcomes[&900].code, code, "{}", world.logs());

    let mut world = World::new(plain());
    world.disk_options.fencing = Fencing::ResourceAndStonith;
    let mut world = world.in_sync();
    let protocol =
        |protocol| Command::ChangeNetOptions { options: Box::new(NetOptions { protocol, ..plain() }) };
    assert_eq!(world.command(0, protocol(Protocol::A)).code, code);
    assert!(world.command(0, protocol(Protocol::B)).is_success());
}

/// T4: what was answered when the network had it, and never arrived, is known at the next handshake already: a
/// thaw comes too late for it.
#[test]
fn what_protocol_a_answered_before_a_frozen_outage_goes_to_the_peer() {
    let mut world = fenced_with_protocol_a(67);
    world.cut = true; // What is sent from now on is lost.
    world.write(0, 3, 7);
    let before = generation(&world, 0);
    world.cut();
    assert!(world.hosts[0].node.volumes[&VOLUME].state.is_suspended());
    world.join();
    assert_eq!(generation(&world, 0), before, "no new generation");
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
    assert_eq!((world.hosts[1].disk[3 * 4096], world.bits(0)), (7, 0));
}

/// T8, I21: a later epoch does not wait for a write that was refused in an earlier one, once nobody answers.
#[test]
fn a_connection_that_breaks_in_a_conflict_comes_to_its_end() {
    let mut options = plain();
    options.set("allow-two-primaries", None).unwrap();
    let mut world = World::synced(options);
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.settle();
    let resolver = usize::from(world.hosts[1].node.link().resolver);
    let other = 1 - resolver;
    // The other node's disk has the resolver's write under way when its own is refused, and goes on writing.
    world.hosts[other].keeps = |_, op| matches!(op, DiskOp::Write { offset, .. } if *offset == 3 * 4096);
    let (own, rival) = (world.submit(resolver, write_of(3, 1)), world.submit(other, write_of(3, 2)));
    world.deliver_all();
    world.write(other, 9, 4);
    world.hosts[resolver].keeps = |_, op| matches!(op, DiskOp::Write { .. });
    world.submit(other, write_of(10, 5));
    world.deliver_all();
    assert_eq!(world.reply(resolver, own), None, "{}", world.logs());
    world.cut();
    world.release(0);
    world.release(1);
    world.settle();
    for host in 0..2 {
        assert_eq!(world.hosts[host].node.link().cstate, Conn::WFConnection, "{}", world.logs());
    }
    assert_eq!((world.reply(resolver, own), world.reply(other, rival)), (Some(Ok(None)), Some(Ok(None))));
}

/// I25: what the peer writes while it counts this disk for nothing is told to nobody, and no bit is set here.
#[test]
fn a_primary_whose_disk_has_failed_reads_what_the_other_primary_wrote() {
    let mut options = plain();
    options.set("allow-two-primaries", None).unwrap();
    let mut world = World::new(options);
    world.disk_options.on_io_error = OnIoError::PassOn;
    let mut world = world.in_sync();
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.settle();
    world.write(0, 5, 1);
    world.hosts[0].fails = data_cannot_be_written;
    world.write(0, 3, 7);
    world.hosts[0].fails = |_, _| None;
    world.settle();
    assert_eq!(world.hosts[0].state(), "Connected Primary/Primary Inconsistent/UpToDate");
    world.write(1, 5, 2);
    assert_eq!(world.read(0, 5), 2, "{}", world.logs());
}

/// T17, A9: writes of a Primary without a disk do not wait for the I/O of the node that has one.
#[test]
fn the_generation_of_a_peer_without_a_disk_does_not_wait_for_own_io() {
    let mut world = World::synced(plain());
    assert!(world.command(1, Command::SuspendIo { volume: VOLUME }).is_success());
    let before = generation(&world, 1);
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.settle();
    world.write(0, 3, 7);
    assert_eq!(world.hosts[1].disk[3 * 4096], 7);
    assert_ne!(generation(&world, 1), before, "{}", world.logs());
}

/// A7: a peer that has heard of an attach under way says nothing when the disk negotiates.
#[test]
fn a_disk_may_be_attached_while_the_nodes_meet() {
    let mut world = World::synced(plain());
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.settle();
    world.write(0, 3, 7);
    world.cut();
    world.hosts[0].keeps = |device, op| device == Device::Meta && matches!(op, DiskOp::Read { .. });
    world.begin_attach(0, 999);
    world.deliver_all();
    world.join();
    world.assert_states(
        "Connected Primary/Secondary Attaching/UpToDate",
        "Connected Secondary/Primary UpToDate/Diskless",
    );
    world.release(0);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// D35: a resync brings what the disk refused, before the barrier of its epoch is acked.
#[test]
fn a_refused_write_that_a_resync_has_brought_is_not_marked_again() {
    for protocol in [Protocol::B, Protocol::C] {
        let mut world = lenient_with(protocol);
        begin_a_resync_that_lasts(&mut world);
        world.hosts[1].fails = data_cannot_be_written;
        let write = world.submit(0, write_of(3, 7));
        assert!(world.hosts[0].state().starts_with("SyncSource"), "{}", world.logs());
        world.deliver_all();
        assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
        world.hosts[1].fails = |_, _| None;
        world.release(1);
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!(world.bits(0), 0, "protocol {protocol:?}\n{}", world.logs());
        world.assert_equal_disks();
    }
}

/// T21, I35: a loss of power may come before the peer has heard that the disk was given up.
#[test]
fn a_disk_that_is_given_up_is_durably_inconsistent_before_its_failed_write_is_answered() {
    for policy in [OnIoError::Detach, OnIoError::CallLocalIoError] {
        let mut world = World::new(plain());
        world.disk_options.on_io_error = policy;
        let mut world = world.in_sync();
        world.write(0, 2, 1); // Its extent is in the activity log from now on.
        world.settle();
        world.hosts[0].fails = data_cannot_be_written;
        world.hosts[0].keeps = writes_meta;
        let write = world.submit(0, write_of(3, 7));
        world.deliver_all();
        assert_eq!(world.reply(0, write), None, "{}", world.logs());
        world.hosts[0].fails = |_, _| None;
        world.release(0);
        world.settle();
        assert_eq!(world.reply(0, write), Some(Ok(None)), "the other disk has it\n{}", world.logs());
        assert!(world.hosts[0].state().contains(" Diskless/"), "{}", world.hosts[0].state());
        assert!(!is_consistent_on_disk(&world, 0), "{policy:?}");
        world.reattach(0);
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert!(is_consistent_on_disk(&world, 0));
        world.assert_equal_disks();
    }
}

/// I10, I14: a disk that is given up for its metadata keeps the log that tells what only it has.
#[test]
fn the_log_of_a_disk_that_is_given_up_stays_as_it_is() {
    let mut world = fenced_with_protocol_a(1);
    world.cut = true; // What is sent from now on is lost.
    let only_here = world.submit(0, write_of(3, 7));
    let socket = world.hosts[0].node.link().data.unwrap();
    world.input(0, Input::SendQueueEmpty(socket));
    world.deliver_all();
    assert_eq!(world.reply(0, only_here), Some(Ok(None)), "protocol A");
    world.submit(0, write_of(1500, 8)); // It waits for the only slot of the log.
    world.hosts[0].fails =
        |device, op| (device == Device::Meta && matches!(op, DiskOp::Flush)).then_some(DiskFault::Os(5));
    let sockets: Vec<SocketId> = world.hosts[0].ends.keys().copied().collect();
    for socket in sockets {
        world.input(0, Input::SocketEnded { socket, end: SocketEnd::Error(104) });
    }
    world.hosts[0].fails = |_, _| None; // The first flush has failed, and nothing else.
    world.settle();
    assert!(world.hosts[0].state().contains(" Diskless/"), "{}", world.hosts[0].state());
    world.disk_options.fencing = Fencing::ResourceOnly; // Or the attach is refused.
    world.reattach(0);
    assert!(world.is_out_of_sync(0, 3), "only this disk has it\n{}", world.logs());
}

/// I3: a Primary that is the target of a resync loses the source before that has the write.
#[test]
fn a_write_that_only_the_target_of_a_resync_has_is_not_answered_as_done() {
    let mut world = lenient();
    let outcome = world.command(0, Command::Invalidate { volume: VOLUME });
    assert!(outcome.is_success(), "{outcome:?}\n{}", world.logs());
    world.step_until(|world| world.hosts[0].state().starts_with("SyncTarget"));
    world.hosts[1].keeps = |device, op| device == Device::Data && matches!(op, DiskOp::Read { .. });
    world.hold(1, true);
    let write = world.submit(0, write_of(3, 7));
    world.deliver_all();
    assert_eq!((world.reply(0, write), world.hosts[0].disk[3 * 4096]), (None, 7), "{}", world.logs());
    world.cut();
    assert_eq!(world.reply(0, write), Some(Err(ReplyError::Io)), "{}", world.logs());
}

/// T10: while its handler runs, the disk that has failed still has in its cache what it acked before.
#[test]
fn a_barrier_waits_for_the_flush_of_a_disk_that_has_failed() {
    let mut world = World::new(plain());
    world.disk_options.on_io_error = OnIoError::CallLocalIoError;
    let mut world = world.in_sync();
    world.hosts[1].slow_handlers = true;
    world.write(0, 2, 1);
    world.hosts[1].fails = data_cannot_be_written;
    world.hosts[1].keeps = flushes_data;
    world.submit(0, write_of(3, 7));
    world.deliver_all();
    assert!(world.hosts[1].state().contains(" Failed/"), "{}", world.hosts[1].state());
    let flush = world.submit(0, Request::Flush);
    world.deliver_all();
    assert_eq!(world.reply(0, flush), None, "{}", world.logs());
    world.hosts[1].fails = |_, _| None;
    world.hosts[1].keeps = |_, _| false;
    world.release(1);
    world.deliver_all();
    assert!(world.hosts[1].state().contains(" Failed/"), "{}", world.hosts[1].state());
    assert_eq!(world.reply(0, flush), Some(Ok(None)), "{}", world.logs());
}

/// T29, X11: in protocol B the peer hears of nothing any more when its write fails; a Secondary that would be called
/// UpToDate could be promoted with the old block.
#[test]
fn a_secondary_that_could_not_write_what_it_had_acked_is_inconsistent_without_a_connection_too() {
    let mut world = lenient_with(Protocol::B);
    world.hosts[1].keeps = writes_data;
    world.write(0, 3, 7);
    world.cut();
    world.hosts[1].keeps = |_, _| false;
    world.hosts[1].fails = data_cannot_be_written;
    world.release(1);
    world.settle();
    assert!(world.hosts[1].state().contains(" Inconsistent/"), "{}", world.hosts[1].state());
    world.hosts[1].fails = |_, _| None;
    world.join();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// A19, S88: the handler may take its time, and what is written meanwhile may be newer than what the disk has.
#[test]
fn a_disk_that_has_failed_is_not_written_while_its_handler_runs() {
    for host in [0, 1] {
        let mut world = World::new(plain());
        world.disk_options.on_io_error = OnIoError::CallLocalIoError;
        let mut world = world.in_sync();
        world.hosts[host].slow_handlers = true;
        world.hosts[host].fails = data_cannot_be_written;
        let write = world.submit(0, write_of(3, 7));
        world.deliver_all();
        assert!(world.hosts[host].state().contains(" Failed/"), "{}", world.hosts[host].state());
        world.hosts[host].fails = |_, _| None;
        let next = world.submit(0, write_of(4, 8));
        world.deliver_all();
        assert_eq!(world.hosts[host].disk[4 * 4096], 0, "{}", world.logs());
        world.end_handlers(host);
        world.settle();
        let answers = [write, next].map(|id| world.reply(0, id));
        assert_eq!(answers, [Some(Ok(None)), Some(Ok(None))], "the other disk has them\n{}", world.logs());
        assert!(world.hosts[host].state().contains(" Diskless/"), "{}", world.hosts[host].state());
        world.hosts[host].apply_al();
        world.attach(host);
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        world.assert_equal_disks();
    }
}

/// I3: the source of a resync gives its disk up before the target has the write, and nobody has good data then.
#[test]
fn a_write_that_only_an_inconsistent_disk_took_in_the_end_is_not_answered_as_done() {
    let mut world = World::synced(plain());
    begin_a_resync_that_lasts(&mut world);
    world.hosts[1].keeps = writes_data;
    let write = world.submit(0, write_of(3, 7));
    world.deliver_all();
    assert!(world.hosts[0].state().starts_with("SyncSource"), "{}", world.logs());
    world.hosts[0].fails = |_, op| matches!(op, DiskOp::Read { .. }).then_some(DiskFault::Os(5));
    let extent = Extent::of_bytes(Sector::new(8 * 9), 4096).unwrap();
    assert_eq!(world.request(0, Request::Read { extent }), Err(ReplyError::Io), "{}", world.logs());
    world.hosts[0].fails = |_, _| None;
    assert!(world.hosts[0].state().contains(" Diskless/Inconsistent"), "{}", world.hosts[0].state());
    world.release(1);
    world.settle();
    assert_eq!(world.reply(0, write), Some(Err(ReplyError::Io)), "{}", world.logs());
}

/// T21, I35: the peer could note nowhere that its disk is not good any more, and it comes back as if it was: the
/// Primary has made a new generation.
#[test]
fn a_disk_that_could_not_note_its_failure_is_behind() {
    for which in [Protocol::B, Protocol::C] {
        let mut world = lenient_with(which);
        world.write(0, 2, 1); // Its extent is in the activity log from now on.
        world.settle();
        world.hosts[1].said.clear();
        let before = generation(&world, 0);
        world.hosts[1].fails = |_, op| matches!(op, DiskOp::Write { .. }).then_some(DiskFault::Os(5));
        world.write(0, 3, 7);
        world.deliver_all();
        let inconsistent =
            |word: u32| State::from_word(word).is_ok_and(|state| state.disk == Disk::Inconsistent);
        let told = |packet: &Packet| matches!(packet, Packet::State(word) if inconsistent(word.0));
        assert!(!world.hosts[1].said.iter().any(told), "{:?}", world.hosts[1].said);
        world.settle();
        assert_ne!(generation(&world, 0), before, "{which:?}\n{}", world.logs());
        world.cut();
        world.hosts[1].fails = |_, _| None;
        world.reattach(1);
        world.join();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        world.assert_equal_disks();
    }
}

/// T17, T21: what the peer refused only the own disk has, whatever the peer's is called when that fails.
#[test]
fn a_disk_that_has_what_the_peer_refused_stays_the_only_copy() {
    let mut world = lenient();
    super::giving_up::peer_detaches_unheard(&mut world);
    world.write(0, 3, 7);
    world.hosts[0].fails = data_cannot_be_written;
    let failed = world.request(0, write_of(4, 8));
    world.hosts[0].fails = |_, _| None;
    assert_eq!(failed, Err(ReplyError::Io), "{}", world.logs());
    assert!(world.hosts[0].state().contains(" UpToDate/"), "{}", world.logs());
    world.hold(0, false);
    world.reattach(1);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(world.hosts[1].disk[3 * 4096], 7);
}

/// D17, D46: the bits of a failed read are set when the block is written; the target has the bitmap already.
#[test]
fn a_block_that_could_not_be_read_is_announced_to_a_target_that_has_the_bitmap() {
    let mut world = lenient();
    world.cut();
    world.write(0, 3, 7);
    world.hosts[1].slow_handlers = true;
    world.hosts[0].slow_handlers = true;
    world.join();
    assert!(world.hosts[0].state().starts_with("WFBitMapS"), "{}", world.logs());
    world.hosts[0].fails = |device, op| {
        (device == Device::Data && matches!(op, DiskOp::Read { .. })).then_some(DiskFault::Os(5))
    };
    let extent = Extent::new(Sector::new(40), 8).unwrap();
    let read = world.submit(0, Request::Read { extent });
    world.deliver_all();
    assert_eq!(world.reply(0, read), Some(Err(ReplyError::Io)), "{}", world.logs());
    world.hosts[0].fails = |_, _| None;
    let write = world.submit(0, write_of(5, 9));
    world.deliver_all();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    [0, 1].into_iter().for_each(|host| world.end_handlers(host));
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(world.hosts[1].disk[5 * 4096], 9);
    world.assert_equal_disks();
}

/// T8: no resync is coming that a promotion could wait for. What the disk lacks is read from the peer.
#[test]
fn a_node_whose_disk_went_on_after_an_error_can_become_primary() {
    let mut world = lenient();
    world.hosts[1].fails = data_cannot_be_written;
    world.write(0, 3, 7);
    world.hosts[1].fails = |_, _| None;
    assert_eq!(
        world.hosts[1].state(),
        "Connected Secondary/Primary Inconsistent/UpToDate",
        "{}",
        world.logs()
    );
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    assert_eq!(world.read(1, 3), 7, "what it lacks is the peer's\n{}", world.logs());
    world.write(1, 4, 8);
    world.cut();
    world.join();
    world.settle();
    world.assert_states(IN_SYNC[1], IN_SYNC[0]);
    world.assert_equal_disks();
}

/// T10, X11: what the cache had when its flush failed may be gone, and nothing else tells the next resync of it.
#[test]
fn what_a_failed_flush_may_have_lost_is_marked() {
    for al_updates in [true, false] {
        let mut world = World::new(plain());
        world.disk_options.on_io_error = OnIoError::PassOn;
        world.disk_options.al_updates = al_updates;
        let mut world = world.in_sync();
        world.write(0, 3, 7);
        world.hosts[0].fails = |device, op| flushes_data(device, op).then_some(DiskFault::Os(5));
        assert_eq!(world.request(0, Request::Flush), Ok(None), "the peer has it\n{}", world.logs());
        world.hosts[0].fails = |_, _| None;
        world.hosts[0].disk[3 * 4096] = 0; // The cache had it.
        assert!(world.hosts[0].state().contains(" Inconsistent/UpToDate"), "{}", world.logs());
        assert!(world.is_out_of_sync(0, 3), "{}", world.logs());
        assert_eq!(world.read(0, 3), 7);
        world.cut();
        world.join();
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        world.assert_equal_disks();
    }
}

/// T10, X11: the only good copy stays that, and its target may have what it has lost: they are to be the same (I9).
#[test]
fn what_the_source_may_have_lost_is_sent_again() {
    let mut world = World::new(plain());
    world.disk_options.on_io_error = OnIoError::PassOn;
    let mut world = world.in_sync();
    world.write(0, 3, 7);
    world.cut();
    world.write(0, 4, 8);
    assert!(world.command(0, Command::PauseSync { volume: VOLUME }).is_success());
    world.join();
    assert!(world.hosts[0].state().starts_with("PausedSyncS"), "{}", world.logs());
    world.write(0, 5, 9);
    world.hosts[0].fails = |device, op| flushes_data(device, op).then_some(DiskFault::Os(5));
    assert_eq!(world.request(0, Request::Flush), Err(ReplyError::Io), "{}", world.logs());
    world.hosts[0].fails = |_, _| None;
    [3, 5].into_iter().for_each(|block| world.hosts[0].disk[block * 4096] = 0); // The cache had them.
    assert!(world.is_out_of_sync(0, 3), "{}", world.logs());
    world.join();
    assert!(world.command(0, Command::ResumeSync { volume: VOLUME }).is_success());
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// T10: an error is told once, to whoever asks first; the barrier's own flush finds nothing to complain of.
#[test]
fn a_flush_that_failed_for_a_client_counts_for_the_writes_of_the_peer() {
    let mut world = World::new(NetOptions { allow_two_primaries: true, ..plain() });
    world.disk_options.on_io_error = OnIoError::PassOn;
    let mut world = world.in_sync();
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.settle();
    let write = world.submit(1, write_of(3, 7));
    while world.reply(1, write).is_none() && world.step() {}
    world.hosts[0].fails = |device, op| flushes_data(device, op).then_some(DiskFault::Os(5));
    let flush = world.submit(0, Request::Flush);
    while world.reply(0, flush).is_none() && world.step() {}
    world.hosts[0].fails = |_, _| None;
    world.settle();
    assert!(world.logs().contains("the last writes of the peer may not be durable"), "{}", world.logs());
    world.assert_equal_disks();
}
