//! What must be durable, or known to both nodes, before somebody is told so; and that nothing
//! stays behind when disk or peer go and come back.

use super::giving_up::peer_detaches_unheard;
use super::*;
use crate::config::options::Protocol;
use crate::meta::superblock::MetaFlags;
use crate::node::state::{Disk, StateChange};

fn protocol(protocol: Protocol) -> NetOptions {
    NetOptions { protocol, ..plain() }
}

pub(super) fn meta_cannot_be_written(device: Device, op: &DiskOp) -> Option<DiskFault> {
    let write = device == Device::Meta && matches!(op, DiskOp::Write { .. } | DiskOp::Flush);
    write.then_some(DiskFault::Os(5))
}

/// Whether a request was answered as soon as all that is under way has been delivered.
pub(super) fn is_answered(world: &mut World, id: u64) -> bool {
    world.deliver_all();
    world.reply(0, id).is_some()
}

#[test]
fn a_protocol_a_write_is_answered_once_the_network_has_it() {
    // D30, I2
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

/// I25, D30: the only disk does not have the write yet, whatever the protocol; a kernel would have answered it.
#[test]
fn a_read_at_the_peer_waits_for_the_writes_before_it() {
    let mut world = World::synced(protocol(Protocol::B));
    world.write(0, 3, 1);
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.settle();
    world.hosts[1].keeps = |device, op| device == Device::Data && matches!(op, DiskOp::Write { .. });
    let write = world.submit(0, write_of(3, 7));
    assert!(!is_answered(&mut world, write), "{}", world.logs());
    let extent = Extent::new(Sector::new(3 * 8), 8).unwrap();
    let read = world.submit(0, Request::Read { extent });
    assert!(!is_answered(&mut world, read), "{}", world.logs());
    world.release(1);
    assert!(is_answered(&mut world, write) && is_answered(&mut world, read), "{}", world.logs());
    let data = world.reply(0, read).unwrap().unwrap().unwrap();
    assert_eq!(data.bytes()[0], 7);
}

#[test]
fn a_disk_may_come_back_before_the_writes_of_its_last_life_are_settled() {
    // D82: the activity log of the new life knows nothing of them.
    let mut world = World::synced(plain());
    world.hosts[1].keeps = |_, op| matches!(op, DiskOp::Flush);
    world.write(0, 3, 7);
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: true }).is_success());
    world.reattach(0);
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

#[test]
fn a_resync_to_a_primary_ends_although_its_writes_are_slow_at_the_peer() {
    // I28: the source must not be asked for a block that it is still to write.
    const SLOW_BLOCK: u64 = 700;
    let mut world = World::synced(protocol(Protocol::A));
    let outcome = world.command(0, Command::Invalidate { volume: VOLUME });
    assert!(outcome.is_success(), "{outcome:?}\n{}", world.logs());
    world.step_until(|world| world.hosts[0].state().starts_with("SyncTarget"));
    world.hosts[1].keeps = |_, op| match op {
        DiskOp::Write { offset, .. } => *offset == SLOW_BLOCK * 4096,
        DiskOp::Read { .. } | DiskOp::Flush | DiskOp::Discard { .. } | DiskOp::Zero { .. } => false,
    };
    let write = world.submit(0, write_of(SLOW_BLOCK, 9));
    let until = world.now.after(std::time::Duration::from_secs(2));
    while world.now < until && world.step() {}
    assert_eq!(world.reply(0, write), None, "the disk of a target is no good one, whatever the protocol");
    world.release(1);
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)));
    world.assert_states(
        "Connected Primary/Secondary UpToDate/UpToDate",
        "Connected Secondary/Primary UpToDate/UpToDate",
    );
    assert_eq!(world.hosts[0].disk[SLOW_BLOCK as usize * 4096], 9);
    world.assert_equal_disks();
}

#[test]
fn nothing_is_written_before_the_superblock_says_primary() {
    // M86
    let mut world = World::synced(plain());
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
    world.settle();
    world.hosts[0].keeps = |device, op| device == Device::Meta && matches!(op, DiskOp::Write { .. });
    let command = Command::Primary { volume: VOLUME, force: false };
    world.input(0, Input::Command { id: CommandId(999), command });
    world.step_until(|world| world.hosts[0].state().contains("Primary/Secondary"));
    let write = world.submit(0, write_of(0, 7));
    assert!(!is_answered(&mut world, write));
    assert_eq!((world.hosts[0].disk[0], world.hosts[1].disk[0]), (0, 0));
    world.release(0);
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)));
    world.assert_equal_disks();
}

#[test]
fn a_disk_whose_activity_log_cannot_be_written_is_given_up() {
    // I17, D163: whatever the error is called.
    let mut world = World::synced(plain());
    world.hosts[0].fails = |device, op| {
        let log = device == Device::Meta && matches!(op, DiskOp::Write { .. });
        log.then_some(DiskFault::Unsupported)
    };
    world.write(0, 1500, 7);
    world.settle();
    world.assert_states(
        "Connected Primary/Secondary Diskless/UpToDate",
        "Connected Secondary/Primary UpToDate/Diskless",
    );
    assert_eq!((world.hosts[0].disk[1500 * 4096], world.hosts[1].disk[1500 * 4096]), (0, 7));
}

#[test]
fn a_disk_that_cannot_discard_after_all_is_filled_with_zeroes() {
    // T22
    let mut world = World::synced(plain());
    world.write(0, 3, 7);
    world.hosts[1].fails = |_, op| matches!(op, DiskOp::Discard { .. }).then_some(DiskFault::Unsupported);
    let extent = Extent::new(Sector::new(24), 8).unwrap();
    assert_eq!(world.request(0, Request::Trim { extent, fua: false }), Ok(None));
    world.settle();
    world.assert_states(
        "Connected Primary/Secondary UpToDate/UpToDate",
        "Connected Secondary/Primary UpToDate/UpToDate",
    );
    world.assert_equal_disks();
}

#[test]
fn nothing_is_written_to_a_new_disk_before_its_superblock_says_attached() {
    // M93: a Primary without a disk gets one while clients write.
    let mut world = World::synced(plain());
    world.cut();
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: true }).is_success());
    world.hosts[0].keeps = |device, op| device == Device::Meta && matches!(op, DiskOp::Write { .. });
    world.begin_attach(0, 999);
    world.step_until(|world| world.hosts[0].state().contains("UpToDate/"));
    let write = world.submit(0, write_of(0, 7));
    for _ in 0..20 {
        world.deliver(0);
    }
    assert_eq!((world.reply(0, write), world.hosts[0].disk[0]), (None, 0));
    world.release(0);
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
}

#[test]
fn al_updates_are_not_switched_under_the_extents_in_use() {
    // I13, D92
    let mut world = World::synced(plain());
    world.cut();
    let options = Box::new(DiskOptions { al_updates: false, ..world.disk_options.clone() });
    assert!(world.command(0, Command::ChangeDiskOptions { volume: VOLUME, options }).is_success());
    world.hosts[0].began.clear();
    world.write(0, 1500, 7);
    let log = world.hosts[0].began.iter().position(|op| op.starts_with("Meta Write"));
    let data = world.hosts[0].began.iter().position(|op| op.starts_with("Data Write"));
    assert!(log.is_some() && log < data, "{:?}", world.hosts[0].began);
}

/// S57: a sync UUID may be on its way when its run comes to nothing.
#[test]
fn the_sync_uuid_of_a_run_that_came_to_nothing_is_not_that_of_the_next() {
    let mut world = World::synced(plain());
    world.hear(1, false, Packet::SyncUuid(0xabcd_0000_0000_0000), None);
    world.settle();
    assert!(world.command(1, Command::Invalidate { volume: VOLUME }).is_success());
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(world.uuids(0)[0] & !1, world.uuids(1)[0] & !1);
    assert!(!world.logs().contains("ABCD000000000000:"), "{}", world.logs());
}

/// S37.7: node 0 does not take its own disk into use.
fn refuses_its_disk(world: &mut World) {
    world.hosts[0].apply_al();
    world.begin_attach(0, 999);
    world.step_until(|world| world.hosts[0].outcomes.contains_key(&999));
    assert_eq!(world.hosts[0].outcomes[&999].code, 150, "{}", world.logs());
}

/// S31, S37.7: clients have seen newer data than the own disk has, though this node was Secondary when it met them.
#[test]
fn a_disk_is_not_taken_back_when_the_peer_has_shown_newer_data() {
    let mut world = World::synced(plain());
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
    world.cut();
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.write(1, 3, 7);
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: true }).is_success());
    assert!(world.command(1, Command::Secondary { volume: VOLUME }).is_success());
    world.join();
    assert!(world.command(0, Command::Primary { volume: VOLUME, force: false }).is_success());
    assert_eq!(world.read(0, 3), 7);
    world.cut();
    refuses_its_disk(&mut world);
    world.join();
    world.assert_states(
        "Connected Primary/Secondary Diskless/UpToDate",
        "Connected Secondary/Primary UpToDate/Diskless",
    );
}

/// S37.7: the peer's new generation arrives while the own disk is still in use.
#[test]
fn a_disk_that_was_given_up_is_not_taken_back_without_what_the_peer_wrote_since() {
    let mut world = World::synced(plain());
    world.write(0, 3, 1);
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.settle();
    world.write(0, 3, 7);
    assert_eq!(world.hosts[0].node.volumes[&VOLUME].exposed_uuid & !1, world.uuids(1)[0] & !1);
    world.cut();
    refuses_its_disk(&mut world);
}

/// W100: nothing of a connection that is over is waited for.
#[test]
fn a_disk_is_announced_on_the_next_connection_though_the_last_one_has_not_answered() {
    let mut world = World::synced(plain());
    assert!(world.command(1, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.settle();
    world.hold(0, true);
    world.hosts[1].fails = meta_cannot_be_written;
    world.begin_attach(1, 998);
    world.deliver_all();
    assert!(world.hosts[1].state().contains("Diskless/UpToDate"), "{}", world.logs());
    world.cut();
    world.join();
    world.hosts[1].fails = |_, _| None;
    world.reattach(1);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
}

/// A disk fails while it negotiates, and is attached again while something is held back.
fn attach_again_while_held(hold: fn(&mut World, bool)) {
    let mut world = World::synced(plain());
    assert!(world.command(1, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.write(0, 3, 7);
    world.settle();
    hold(&mut world, true);
    world.hosts[1].fails = meta_cannot_be_written;
    world.begin_attach(1, 998);
    world.deliver_all();
    assert!(world.hosts[1].state().contains("Diskless/UpToDate"), "{}", world.logs());
    world.hosts[1].fails = |_, _| None;
    world.begin_attach(1, 999);
    world.deliver_all();
    assert!(world.hosts[1].state().contains("Diskless/UpToDate"), "{}", world.logs());
    hold(&mut world, false);
    world.settle();
    assert!(!world.logs().contains("ProtocolError"), "{}", world.logs());
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// W100: the answer to an attach that failed meanwhile is not taken for the answer to the next one.
#[test]
fn a_disk_is_announced_once_the_peer_has_answered_the_last_time() {
    attach_again_while_held(|world, held| world.hold(0, held));
}

/// W100: the same, when only the data socket is late: half of a bitmap may be on the way there, and the next one would be
/// taken for the rest of it.
#[test]
fn a_disk_is_not_announced_before_the_answer_to_the_last_time_is_read() {
    attach_again_while_held(|world, held| {
        let data = world.hosts[1].node.link().data.expect("connected");
        world.hosts[1].ends.get_mut(&data).expect("open").held = held;
    });
}

/// S31, I25: clients have seen what the peer's disk refused, when the own one is lost.
#[test]
fn a_disk_that_refused_what_clients_have_seen_is_not_shown_to_them() {
    let mut world = World::synced(plain());
    peer_detaches_unheard(&mut world);
    world.write(0, 3, 7);
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: true }).is_success());
    world.cut();
    world.reattach(1);
    world.join();
    assert!(world.logs().contains("Can only connect to data with current UUID="), "{}", world.logs());
    world.reattach(0);
    world.connect(0);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(world.hosts[1].disk[3 * 4096], 7);
    world.assert_equal_disks();
}

/// The superblock on a machine's disk.
fn noted(world: &World, host: usize) -> Superblock {
    let layout = Layout::new(Placement::Internal, DISK_BYTES as u64 / 512, Striping::DEFAULT).unwrap();
    let at = layout.superblock_byte() as usize;
    let block: [u8; 4096] = world.hosts[host].disk[at..at + 4096].try_into().unwrap();
    Superblock::decode(&block, Placement::Internal, DISK_BYTES as u64 / 512).unwrap().0
}

/// The size of the device that it has, in sectors.
fn noted_size(world: &World, host: usize) -> u64 {
    noted(world, host).la_size.get()
}

/// M48, M81: a superblock with the size of bits that are not durable calls blocks good that nobody has compared.
#[test]
fn a_new_disk_has_a_size_only_once_its_bits_are_durable() {
    let mut world = World::new(plain());
    assert!(world.command(0, Command::NewMinor { volume: VOLUME, minor: 1 }).is_success());
    world.hosts[0].keeps =
        |device, op| device == Device::Meta && matches!(op, DiskOp::Write { fua: false, .. });
    world.begin_attach(0, 999);
    world.deliver_all();
    assert_eq!((world.hosts[0].kept.len(), noted_size(&world, 0)), (1, 0), "{:?}", world.hosts[0].began);
    world.release(0);
    world.settle();
    assert_ne!(noted_size(&world, 0), 0);
    let began = &world.hosts[0].began;
    let first = |fua: &str| began.iter().position(|op| op.starts_with("Meta Write") && op.contains(fua));
    let (bits, superblock) = (first("fua: false").unwrap(), first("fua: true").unwrap());
    let flushed = began[bits..superblock].iter().any(|op| op.starts_with("Meta Flush"));
    assert!(flushed, "{began:?}");
}

/// T38, I5: until the superblock says otherwise this node would come back as a crashed Primary, and be the source.
#[test]
fn a_node_is_secondary_when_its_own_copy_is_durable() {
    let mut world = World::synced(plain());
    world.write(0, 3, 7);
    world.hosts[0].keeps = flushes_data;
    let command = Command::Secondary { volume: VOLUME };
    world.input(0, Input::Command { id: CommandId(999), command });
    world.step_until(|world| !world.hosts[0].kept.is_empty());
    world.deliver_all();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.hosts[0].keeps = |_, _| false;
    world.release(0);
    world.step_until(|world| world.hosts[0].outcomes.contains_key(&999));
    assert!(world.hosts[0].outcomes[&999].is_success());
    assert!(world.hosts[0].state().contains(" Secondary/"), "{}", world.logs());
}

/// A9, T38: the peer's copy is the newer one then.
#[test]
fn a_disk_that_a_demotion_cannot_flush_comes_back_as_the_older_one() {
    let mut world = World::synced(plain());
    world.write(0, 3, 7);
    world.hosts[0].fails = |device, op| flushes_data(device, op).then_some(DiskFault::Os(5));
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success(), "{}", world.logs());
    assert!(world.hosts[0].state().contains(" Diskless/"), "{}", world.logs());
    world.hosts[0].fails = |_, _| None;
    world.hosts[0].disk[3 * 4096] = 0; // What could not be flushed is gone.
    world.reattach(0);
    world.settle();
    let in_sync = "Connected Secondary/Secondary UpToDate/UpToDate";
    world.assert_states(in_sync, in_sync);
    assert_eq!([0, 1].map(|host: usize| world.hosts[host].disk[3 * 4096]), [7, 7], "{}", world.logs());
}

/// A11, M87, I10: nobody looks at the activity log of a disk without the Primary mark, so the bits are there before it
/// goes, whoever writes the superblock: here a source that names its sync UUID.
#[test]
fn the_bits_are_on_disk_before_the_primary_mark_goes() {
    let mut world = World::synced(plain());
    world.cut();
    world.write(0, 3, 7);
    world.hosts[0].slow_handlers = true;
    world.cut = false;
    world.step_until(|world| !world.hosts[0].calls.is_empty());
    let command = Command::Secondary { volume: VOLUME };
    world.input(0, Input::Command { id: CommandId(999), command });
    world.deliver_all();
    world.hosts[0].keeps =
        |device, op| device == Device::Meta && matches!(op, DiskOp::Write { fua: false, .. });
    world.end_handlers(0);
    world.step_until(|world| !world.hosts[0].kept.is_empty());
    assert!(world.hosts[0].state().starts_with("SyncSource Secondary"), "{}", world.logs());
    assert!(noted(&world, 0).flags.contains(MetaFlags::PRIMARY_IND), "{:?}", world.hosts[0].began);
    world.release(0);
    world.step_until(|world| world.hosts[0].outcomes.contains_key(&999));
    assert!(!noted(&world, 0).flags.contains(MetaFlags::PRIMARY_IND));
}

/// T17, I35: that both disks were good is told late, when the peer is lost again; what is only here waits for the
/// generation all the same.
#[test]
fn a_late_word_of_two_good_disks_lets_no_unmirrored_write_go() {
    let mut world = World::synced(plain());
    world.cut();
    world.write(0, 3, 7);
    world.cut = false;
    world.step_until(|world| world.hosts[1].state().starts_with("Connected")); // It has said so.
    world.hosts[0].keeps = flushes_data;
    world.hosts[0].node.start_work(VOLUME, Device::Data, DiskOp::Flush); // The worker stands still.
    world.hosts[0].node.handle(world.now, Input::Timeout);
    world.perform(0);
    world.deliver_all();
    assert_eq!(world.hosts[0].state(), IN_SYNC[0]);
    world.cut = true;
    let sockets: Vec<SocketId> = world.hosts[0].ends.keys().copied().collect();
    for socket in sockets {
        world.hosts[0].ends.remove(&socket);
        world.input(0, Input::SocketEnded { socket, end: SocketEnd::Error(104) });
    }
    world.release(0);
    world.hosts[0].keeps = |device, op| device == Device::Meta && matches!(op, DiskOp::Flush);
    world.deliver_all();
    let write = world.submit(0, write_of(4, 8));
    world.deliver_all();
    assert_eq!(world.reply(0, write), None, "{}", world.logs());
    world.release(0);
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
}

/// M91: a disk that is given up, and whose bits could not be set, is fully out of sync when it comes back.
#[test]
fn a_full_sync_is_not_forgotten_with_bits_that_could_not_be_written() {
    let mut world = World::synced(plain());
    let writes_bits =
        |device, op: &DiskOp| device == Device::Meta && matches!(op, DiskOp::Write { fua: false, .. });
    world.hosts[1].keeps = writes_bits;
    world.input(1, Input::Command { id: CommandId(999), command: Command::Invalidate { volume: VOLUME } });
    world.step_until(|world| !world.hosts[1].kept.is_empty());
    world.hosts[1].node.force(VOLUME, StateChange::disk(Disk::Failed)); // As after a read that failed.
    world.hosts[1].fails = |device, op| {
        let bits = device == Device::Meta && matches!(op, DiskOp::Write { fua: false, .. });
        bits.then_some(DiskFault::Os(5))
    };
    world.release(1);
    world.step_until(|world| world.hosts[1].state().contains("Diskless"));
    assert!(noted(&world, 1).flags.contains(MetaFlags::FULL_SYNC), "{:?}", world.hosts[1].began);
}

/// S31, S37.7: the peer's ack is here, and the generation that the peer made for what only it has is lost on its way: the
/// old disk is not taken for the newest, nor the peer's for another one.
#[test]
fn what_only_the_peer_has_is_known_before_its_generation_is() {
    let mut world = World::synced(plain());
    world.write(0, 3, 1);
    world.settle();
    let data = world.hosts[0].node.link().data.unwrap();
    world.hosts[0].ends.get_mut(&data).unwrap().held = true;
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: true }).is_success());
    world.write(0, 3, 7);
    world.cut();
    refuses_its_disk(&mut world);
    world.join();
    assert_eq!(world.read(0, 3), 7, "{}", world.logs());
    world.reattach(0);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// A2, rule 40: a crash as Primary that is history does not outlast the next one, which would make an old disk the source:
/// neither when both disks are in sync, nor when the peer's data were chosen.
#[test]
fn a_crash_as_primary_is_forgotten_on_disk_when_it_is_history() {
    for chosen in [false, true] {
        let mut world = World::synced(plain());
        if !chosen {
            assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
        }
        world.hosts[1].node.volumes.get_mut(&VOLUME).unwrap().marks.crashed_primary = true;
        world.cut();
        assert!(noted(&world, 1).flags.contains(MetaFlags::CRASHED_PRIMARY));
        if chosen {
            world.write(0, 3, 7);
            world.cut = false;
            world.step_until(|world| world.hosts[1].state().starts_with("WF") && world.bits(1) > 0);
            world.cut();
            assert!(world.hosts[1].state().contains("Outdated/"), "{}", world.logs());
        } else {
            world.join();
        }
        assert!(!noted(&world, 1).flags.contains(MetaFlags::CRASHED_PRIMARY), "{chosen}\n{}", world.logs());
    }
}

/// S31, I25: the peer comes with an older disk, and the Primary's own one is lost between what tells its generation and what
/// tells its state.
#[test]
fn an_older_disk_is_not_shown_whose_uuids_came_while_the_own_one_was_there() {
    let mut world = World::synced(plain());
    assert!(world.command(1, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.write(0, 3, 7);
    world.settle();
    world.hold(0, true);
    world.begin_attach(1, 998);
    world.deliver_all();
    let [.., Packet::Sizes(_), Packet::Uuids(_), Packet::State(_)] = world.hosts[1].said[..] else {
        panic!("{:?}", world.hosts[1].said)
    };
    let data = world.hosts[0].node.link().data.unwrap();
    world.hosts[0].ends.get_mut(&data).unwrap().held = false;
    assert!(world.deliver_packet(0, data) && world.deliver_packet(0, data));
    world.hosts[0].ends.get_mut(&data).unwrap().held = true;
    world.hosts[0].fails = |_, op| (!matches!(op, DiskOp::Read { .. })).then_some(DiskFault::Os(5));
    world.submit(0, write_of(4, 8));
    world.deliver_all();
    assert!(world.hosts[0].state().contains("Diskless/Diskless"), "{}", world.logs());
    world.hold(0, false);
    world.deliver_all();
    assert!(world.logs().contains("Can only connect to data with current UUID="), "{}", world.logs());
    assert!(!world.hosts[0].state().contains("Diskless/UpToDate"), "{}", world.hosts[0].state());
}
