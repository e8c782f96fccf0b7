//! Which copy has a write when its client is answered, and who remembers that another one lacks it.

use std::time::Duration;

use super::*;
use crate::config::options::Protocol;
use crate::node::rules::StateResult;
use crate::wire::StateWord;

fn protocol(protocol: Protocol) -> NetOptions {
    NetOptions { protocol, ..plain() }
}

/// The disk operations of a node end, and are reported; no packet arrives anywhere.
fn disk_ends(world: &mut World, host: usize) {
    while let Some((ticket, result)) = world.hosts[host].done.pop_front() {
        world.input(host, Input::DiskDone { ticket, result });
    }
}

/// I1, I2, D30: A wants it in the network, B in the peer's memory, C on the peer's disk; all on the own disk.
#[test]
fn no_write_is_answered_earlier_than_its_protocol_allows() {
    for (which, waits_for_peer, waits_for_its_disk) in
        [(Protocol::A, false, false), (Protocol::B, true, false), (Protocol::C, true, true)]
    {
        let mut world = World::synced(protocol(which));
        world.write(0, 3, 1); // The extent is hot.
        world.settle();
        world.hosts[1].keeps = writes_data;
        let write = world.submit(0, write_of(3, 7));
        disk_ends(&mut world, 0);
        assert_eq!(world.reply(0, write), None, "{which:?}: the network has not taken it");
        let socket = world.hosts[0].node.link().data.unwrap();
        world.input(0, Input::SendQueueEmpty(socket));
        assert_eq!(world.reply(0, write).is_none(), waits_for_peer, "{which:?}");
        world.deliver_all();
        assert_eq!(world.hosts[1].disk[3 * 4096], 1, "its disk does not end");
        assert_eq!(world.reply(0, write).is_none(), waits_for_its_disk, "{which:?}\n{}", world.logs());
        world.release(1);
        world.deliver_all();
        assert_eq!(world.reply(0, write), Some(Ok(None)));
        assert_eq!([0, 1].map(|host| world.hosts[host].disk[3 * 4096]), [7, 7]);
        // And the own disk is waited for, whatever the peer says.
        world.hosts[0].keeps = writes_data;
        let write = world.submit(0, write_of(3, 8));
        world.deliver_all();
        assert_eq!(world.reply(0, write), None, "{which:?}");
        world.release(0);
        world.deliver_all();
        assert_eq!(world.reply(0, write), Some(Ok(None)));
    }
}

/// I3: a leg that fails is no failure, and it is remembered: by a bit of the node that has the data, or by the
/// activity log of the Primary's disk.
#[test]
fn a_copy_that_failed_is_remembered() {
    for failing in 0..2 {
        let mut world = World::synced(plain());
        world.write(0, 3, 1);
        world.settle();
        world.hosts[failing].fails = |device, op| writes_data(device, op).then_some(DiskFault::Os(5));
        world.write(0, 3, 7);
        world.settle();
        let survivor = 1 - failing;
        assert!(world.hosts[failing].state().contains("Diskless"), "{}", world.logs());
        assert_eq!(world.hosts[survivor].disk[3 * 4096], 7);
        assert!(failing == 0 || world.is_out_of_sync(survivor, 3), "{}", world.logs());
        world.hosts[failing].fails = |_, _| None;
        world.hosts[failing].apply_al();
        world.attach(failing);
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!(world.hosts[failing].disk[3 * 4096], 7);
        world.assert_equal_disks();
    }
}

/// I3, I35: its own copy went with the disk, and the peer did not say that it has it.
#[test]
fn a_write_that_only_a_detached_disk_has_is_no_success() {
    let mut world = World::synced(plain());
    world.write(0, 3, 1);
    world.settle();
    world.hosts[1].keeps = writes_data;
    let write = world.submit(0, write_of(3, 7));
    world.deliver_all();
    assert_eq!((world.reply(0, write), world.hosts[0].disk[3 * 4096]), (None, 7));
    let detach = Command::Detach { volume: VOLUME, force: true };
    world.input(0, Input::Command { id: CommandId(999), command: detach });
    world.step_until(|world| world.hosts[0].state().contains("Diskless"));
    assert_eq!(world.reply(0, write), None, "the peer may still write it");
    world.cut();
    assert_eq!(world.reply(0, write), Some(Err(ReplyError::Io)), "{}", world.logs());
}

/// T33: without a disk there is no bitmap; the node that has the data remembers.
#[test]
fn what_is_written_without_a_disk_is_marked_where_the_data_is() {
    let mut world = World::synced(plain());
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.write(0, 3, 7);
    world.settle();
    assert_eq!([0, 1].map(|host| world.is_out_of_sync(host, 3)), [false, true], "{}", world.logs());
    // Nobody is left who could: that is no success.
    world.cut();
    assert_eq!(world.request(0, write_of(4, 8)), Err(ReplyError::Io));
}

/// T7: a read that the peer refuses leaves nothing behind.
#[test]
fn a_read_that_neither_node_can_serve_is_answered_and_forgotten() {
    let mut world = World::synced(plain());
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.hosts[1].fails = |device, op| {
        (device == Device::Data && matches!(op, DiskOp::Read { .. })).then_some(DiskFault::Os(5))
    };
    let extent = Extent::new(Sector::new(24), 8).unwrap();
    assert_eq!(world.request(0, Request::Read { extent }), Err(ReplyError::Io), "{}", world.logs());
    assert_eq!(world.hosts[0].node.log.len(), 0);
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
}

/// T4: of protocol A, "sent" says nothing. What went into a network that lost it is found again, although it was
/// answered and the I/O was frozen meanwhile.
#[test]
fn what_protocol_a_answered_and_the_network_lost_is_sent_again_after_a_freeze() {
    let mut world = World::synced(protocol(Protocol::A));
    world.write(0, 3, 1);
    world.settle();
    world.cut = true; // Nobody notices yet.
    world.write(0, 3, 7);
    assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
    world.cut();
    world.join();
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    // Its bit may be all that is left of it: a new connection brings the block at the latest.
    if world.bits(0) > 0 {
        assert!(world.is_out_of_sync(0, 3));
        world.cut();
        world.join();
    }
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(world.hosts[1].disk[3 * 4096], 7, "{}", world.logs());
    world.assert_equal_disks();
}

/// T32: while I/O is frozen the peer's acks count, epochs end, and only the answer is withheld.
#[test]
fn acks_are_taken_while_io_is_frozen() {
    let mut world = World::synced(plain());
    world.write(0, 3, 1);
    world.settle();
    world.hosts[1].keeps = writes_data;
    let write = world.submit(0, write_of(3, 7));
    assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
    let key = world.hosts[0].node.log.keys()[0];
    world.release(1);
    world.run_for(Duration::from_secs(5));
    let net = world.hosts[0].node.log.get(key).map(|req| req.net);
    assert!(net.is_some_and(|net| net.ok && !net.pending), "{net:?}\n{}", world.logs());
    assert_eq!(world.reply(0, write), None);
    assert!(!world.hosts[0].node.volumes[&VOLUME].disk.as_ref().unwrap().al.is_idle(), "its extent stays");
    let before = world.now;
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.deliver_all();
    assert_eq!((world.reply(0, write), world.now), (Some(Ok(None)), before), "{}", world.logs());
}

/// T35: a frozen write that was never meant for the peer is not sent to it, and ends.
#[test]
fn a_write_of_one_leg_ends_when_io_goes_on() {
    let mut world = World::synced(plain());
    world.cut();
    world.hosts[0].keeps = writes_data;
    let write = world.submit(0, write_of(3, 7));
    world.step_until(|world| !world.hosts[0].kept.is_empty());
    assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
    world.release(0);
    world.hosts[0].said.clear();
    world.join();
    assert_eq!(world.reply(0, write), None);
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    assert!(!world.hosts[0].said.iter().any(|packet| matches!(packet, Packet::Data { .. })));
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// T24: nothing is given up that a disk has not ended. A forced detach waits for it, with its buffer; how it ends
/// makes no difference then.
#[test]
fn a_detach_waits_for_what_is_on_the_disk() {
    let mut world = World::synced(plain());
    world.write(0, 3, 1);
    world.settle();
    world.hosts[0].keeps = writes_data;
    let write = world.submit(0, write_of(3, 7));
    let detach = Command::Detach { volume: VOLUME, force: true };
    world.input(0, Input::Command { id: CommandId(999), command: detach });
    world.run_for(Duration::from_secs(5));
    assert!(world.hosts[0].state().contains(" Failed/"), "{}", world.hosts[0].state());
    assert_eq!(world.hosts[0].disk[3 * 4096], 1);
    world.release(0);
    world.settle();
    assert!(world.hosts[0].state().contains(" Diskless/"), "{}", world.hosts[0].state());
    assert_eq!(world.reply(0, write), Some(Ok(None)), "the peer has it\n{}", world.logs());
    world.write(0, 3, 8);
    world.reattach(0);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
    assert_eq!(world.hosts[0].disk[3 * 4096], 8);
}

/// T30: each write keeps to the protocol it was sent by.
#[test]
fn a_change_of_protocol_is_for_later_writes() {
    let mut world = World::synced(protocol(Protocol::C));
    world.hosts[1].keeps = writes_data;
    let first = world.submit(0, write_of(3, 7));
    world.deliver_all();
    for host in 0..2 {
        let options = Box::new(protocol(Protocol::B));
        world.input(
            host,
            Input::Command { id: CommandId(999), command: Command::ChangeNetOptions { options } },
        );
    }
    let second = world.submit(0, write_of(4, 8));
    world.deliver_all();
    assert_eq!(world.reply(0, first), None, "it waits for the peer's disk\n{}", world.logs());
    assert_eq!(world.reply(0, second), Some(Ok(None)), "{}", world.logs());
    world.release(1);
    world.settle();
    assert_eq!(world.reply(0, first), Some(Ok(None)));
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
}

/// T34: what a node announces is no promise of its peer's.
#[test]
fn a_write_longer_than_the_disk_takes_at_once_is_written() {
    let mut world = World::new(plain());
    for host in 0..2 {
        world.command(host, Command::NewMinor { volume: VOLUME, minor: 1 });
        let disk = DiskFacts { max_io_bytes: 65536, ..facts(DISK_BYTES as u64, MetaPlace::Internal) };
        let options = Box::new(world.disk_options.clone());
        assert!(world.command(host, Command::Attach { volume: VOLUME, disk, options }).is_success());
        world.connect(host);
    }
    world.settle();
    assert!(world.command(0, Command::Primary { volume: VOLUME, force: true }).is_success());
    world.settle();
    let extent = Extent::new(Sector::new(8), 2048).unwrap();
    let data: Vec<u8> = (0..1 << 20).map(|at: u32| (at / 512) as u8).collect();
    let write = Request::Write { extent, data: Buf::copied(&data), fua: false };
    assert_eq!(world.request(0, write), Ok(None), "{}", world.logs());
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert!(world.hosts[1].disk[4096..][..1 << 20] == data);
    world.assert_equal_disks();
}

/// T9: with an integrity algorithm the feature is not announced, and zeroes are not told in this way.
#[test]
fn zeroes_have_no_packet_of_their_own_with_an_integrity_algorithm() {
    for (algorithm, told) in [(None, true), (Some("crc32c"), false)] {
        let mut options = plain();
        if algorithm.is_some() {
            options.set("data-integrity-alg", algorithm).unwrap();
        }
        let mut world = World::synced(options);
        world.write(0, 3, 7);
        let extent = Extent::new(Sector::new(24), 8).unwrap();
        let zeroes = Request::WriteZeroes { extent, fua: false, may_trim: false };
        assert_eq!(world.request(0, zeroes), Ok(None));
        world.settle();
        let said = world.hosts[0].said.iter().any(|packet| matches!(packet, Packet::Zeroes { .. }));
        assert_eq!(said, told, "{algorithm:?}");
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!(world.hosts[1].disk[3 * 4096], 0);
        world.assert_equal_disks();
    }
}

/// T20: the peer's rates replace ours, and are no reason to part.
#[test]
fn a_peer_with_other_rates_is_taken_at_its_word() {
    let mut world = World::synced(plain());
    let options = DiskOptions {
        c_plan_ahead_ds: 7,
        resync_rate_kib_s: 1234,
        c_max_rate_kib_s: 99_999,
        ..DiskOptions::default()
    };
    let command = Command::ChangeDiskOptions { volume: VOLUME, options: Box::new(options) };
    assert!(world.command(0, command).is_success());
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    let theirs = &world.hosts[1].node.volumes[&VOLUME].disk.as_ref().unwrap().options;
    let rates = (theirs.c_plan_ahead_ds, theirs.resync_rate_kib_s, theirs.c_max_rate_kib_s);
    assert_eq!(rates, (7, 1234, 99_999));
}

/// F12: epochs and sequence numbers have 32 bits, and go on behind the last one.
#[test]
fn epochs_and_sequence_numbers_wrap() {
    let mut world = World::synced(plain());
    world.hosts[0].node.log.begin_at_epoch(u32::MAX - 2);
    for host in 0..2 {
        world.hosts[host].node.volumes.get_mut(&VOLUME).unwrap().seq_sent = u32::MAX - 5;
    }
    for round in 0..10 {
        world.write(0, round, 7);
        assert_eq!(world.request(0, Request::Flush), Ok(None), "{}", world.logs());
    }
    world.settle();
    assert!(world.hosts[0].node.log.current_epoch() < 20);
    assert_eq!(world.hosts[0].node.log.len(), 0, "all barriers are acked");
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// F12: more writes under way than the peer has buffers for.
#[test]
fn more_writes_than_there_are_buffers_wait_and_are_all_answered() {
    let mut options = plain();
    options.set("max-buffers", Some("32")).unwrap();
    options.set("max-epoch-size", Some("3")).unwrap();
    let mut world = World::synced(options);
    world.hosts[1].keeps = writes_data;
    let ids: Vec<u64> = (0..200).map(|block| world.submit(0, write_of(block, 7))).collect();
    world.deliver_all();
    assert!(world.hosts[0].node.log.len() <= 33, "{}", world.hosts[0].node.log.len());
    world.release(1);
    world.settle();
    assert!(ids.iter().all(|id| world.reply(0, *id) == Some(Ok(None))), "{}", world.logs());
    world.assert_equal_disks();
}

/// S31, Z5: what the clients of a Primary without a disk have seen is newer, and it goes; the older disk stays what
/// it is until then, and makes no generation of its own.
#[test]
fn an_old_disk_that_meets_a_primary_without_one_is_not_called_good() {
    let mut world = World::synced(plain());
    let before = world.uuids(1);
    world.cut();
    assert!(world.command(1, Command::Outdate { volume: VOLUME }).is_success());
    world.write(0, 3, 7);
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: true }).is_success());
    world.join();
    assert!(world.hosts[0].state().starts_with("StandAlone"), "{}", world.logs());
    assert!(world.hosts[1].state().contains(" Outdated/"), "{}", world.logs());
    assert!(!world.logs().contains("disk( Outdated -> UpToDate )"), "{}", world.logs());
    assert_eq!(world.uuids(1), before, "{}", world.logs());
    world.reattach(0);
    world.connect(0);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(world.hosts[1].disk[3 * 4096], 7);
    world.assert_equal_disks();
}

/// X4: a Secondary without a disk cannot say that its data were not newer.
#[test]
fn an_old_disk_that_meets_a_secondary_without_one_is_not_called_good_either() {
    let mut world = World::synced(plain());
    world.cut();
    assert!(world.command(1, Command::Outdate { volume: VOLUME }).is_success());
    world.write(0, 3, 7);
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: true }).is_success());
    world.join();
    world.assert_states(
        "Connected Secondary/Secondary Diskless/Outdated",
        "Connected Secondary/Secondary Outdated/Diskless",
    );
    for host in [0, 1] {
        let promoted = world.command(host, Command::Primary { volume: VOLUME, force: false });
        assert_eq!(promoted.code, StateResult::NoUpToDateDisk.code(), "{}", world.logs());
    }
    world.reattach(0);
    world.settle();
    let in_sync = "Connected Secondary/Secondary UpToDate/UpToDate";
    world.assert_states(in_sync, in_sync);
    assert_eq!(world.hosts[1].disk[3 * 4096], 7);
    world.assert_equal_disks();
}

/// X4, S44: the one without a disk hears of it, or it would become Primary through that copy.
#[test]
fn a_node_without_a_disk_hears_that_the_only_copy_is_outdated() {
    let mut world = World::synced(plain());
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    let before = world.uuids(1);
    assert!(world.command(1, Command::Outdate { volume: VOLUME }).is_success());
    let states = ["Diskless/Outdated", "Outdated/Diskless"];
    let states = states.map(|disks| format!("Connected Secondary/Secondary {disks}"));
    world.assert_states(&states[0], &states[1]);
    let promoted = world.command(0, Command::Primary { volume: VOLUME, force: false });
    assert_eq!(promoted.code, StateResult::NoUpToDateDisk.code(), "{}", world.logs());
    world.hear(1, false, Packet::StateChgReq { mask: StateWord(3), value: StateWord(1) }, None);
    assert!(
        world.hosts[1].state().contains(" Secondary/Secondary Outdated/"),
        "a kernel asks\n{}",
        world.logs()
    );
    assert_eq!(world.uuids(1), before);
}

/// S90: the same disk, outdated for nothing: the Primary knows its UUIDs, and goes on through it.
#[test]
fn a_primary_without_a_disk_goes_on_through_one_that_was_outdated_for_nothing() {
    let mut world = World::synced(plain());
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.write(0, 3, 7);
    world.cut();
    assert!(world.command(1, Command::Outdate { volume: VOLUME }).is_success());
    world.join();
    world.assert_states(
        "Connected Primary/Secondary Diskless/UpToDate",
        "Connected Secondary/Primary UpToDate/Diskless",
    );
    world.write(0, 4, 8);
    world.settle();
    assert_eq!([3, 4].map(|block| world.hosts[1].disk[block * 4096]), [7, 8]);
}

/// T29, I10: a write that its client takes for done is refused by a peer whose disk went and comes back: the bitmap
/// of the resync has it.
#[test]
fn what_a_peer_refuses_late_is_in_the_bitmap() {
    for which in [Protocol::A, Protocol::B] {
        let mut world = World::synced(protocol(which));
        world.hold(1, true); // Its data socket stands still.
        let write = world.submit(0, write_of(3, 7));
        let socket = world.hosts[0].node.link().data.unwrap();
        world.input(0, Input::SendQueueEmpty(socket));
        world.deliver_all();
        assert_eq!(world.reply(0, write).is_some(), which == Protocol::A);
        assert!(world.command(1, Command::Detach { volume: VOLUME, force: true }).is_success());
        world.begin_attach(1, 999);
        world.deliver_all();
        world.hold(1, false);
        world.settle();
        assert_eq!(world.reply(0, write), Some(Ok(None)), "{which:?}\n{}", world.logs());
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!(world.hosts[1].disk[3 * 4096], 7, "{which:?}\n{}", world.logs());
        world.assert_equal_disks();
    }
}

/// S90, I5, I35: the Primary's disk went while the peer was away, whose own is attached later: what is written there is
/// newer than what the Primary had.
#[test]
fn a_disk_that_is_attached_for_a_primary_without_one_makes_a_generation() {
    let mut world = World::synced(plain());
    let before = world.uuids(0)[0] & !1;
    world.write(0, 3, 1);
    world.settle();
    world.cut = true; // Nobody notices yet: no generation on disk 0.
    let command = Command::Detach { volume: VOLUME, force: true };
    world.input(0, Input::Command { id: CommandId(999), command });
    world.deliver_all();
    assert!(world.hosts[0].state().contains("Diskless/UpToDate"), "{}", world.logs());
    world.cut();
    assert!(world.command(1, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.join();
    world.reattach(1);
    world.settle();
    let [current, bitmap, ..] = world.uuids(1);
    assert!(current & !1 != before && bitmap & !1 == before, "{}", world.logs());
    world.write(0, 3, 7);
    world.reattach(0);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(world.hosts[0].disk[3 * 4096], 7);
    world.assert_equal_disks();
}

/// S31, S37.7: the Primary gives up its disk while it takes the peer's for one that is given up, which is not so. It shows
/// the peer's data then, and its own old ones never again.
#[test]
fn a_primary_that_shows_its_peers_data_does_not_go_back_to_its_own() {
    let mut world = World::synced(plain());
    world.write(0, 3, 1);
    world.settle();
    let command = Command::Invalidate { volume: VOLUME };
    world.input(1, Input::Command { id: CommandId(998), command });
    world.hold(1, true);
    world.step_until(|world| world.hosts[0].state() == "SyncSource Primary/Secondary UpToDate/Inconsistent");
    let command = Command::Detach { volume: VOLUME, force: true };
    world.input(0, Input::Command { id: CommandId(999), command });
    world.step_until(|world| world.hosts[0].state().contains("Diskless/Inconsistent"));
    // The news comes before the answer.
    let data = world.hosts[1].node.link().data.unwrap();
    world.hosts[1].ends.get_mut(&data).unwrap().held = false;
    world.step_until(|world| world.hosts[0].state().contains("Diskless/UpToDate"));
    world.hold(1, false);
    world.write(0, 3, 7);
    world.cut();
    world.hosts[0].apply_al();
    let attach = world.attach_command(DISK_BYTES as u64, MetaPlace::Internal);
    let outcome = world.command(0, attach);
    assert_eq!(outcome.code, 150, "{outcome:?}\n{}", world.logs());
    world.join();
    world.reattach(0);
    world.settle();
    assert_eq!(world.read(0, 3), 7);
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
}

/// S31, A9: what the Primary said before it heard that the old disk is back does not let it in.
#[test]
fn an_old_disk_that_is_attached_waits_for_the_primary_to_let_it_in() {
    let mut world = World::synced(plain());
    let before = world.uuids(1);
    world.cut();
    world.write(0, 3, 7);
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: true }).is_success());
    assert!(world.command(1, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.join();
    assert!(world.hosts[0].state().contains("Diskless/Diskless"), "{}", world.logs());
    world.hold(1, true);
    world.hosts[0].fails = |device, _| (device == Device::Meta).then_some(DiskFault::Os(5));
    world.begin_attach(0, 999); // Comes to nothing, and node 1 is told so.
    world.deliver_all();
    world.hosts[0].fails = |_, _| None;
    world.hold(0, true);
    world.hosts[1].apply_al();
    world.begin_attach(1, 998);
    world.deliver_all();
    world.hold(1, false);
    world.deliver_all();
    assert!(world.hosts[1].state().contains(" Negotiating/"), "{}", world.logs());
    world.hold(0, false);
    world.settle();
    assert!(world.hosts[0].state().starts_with("StandAlone"), "{}", world.logs());
    assert_eq!(world.uuids(1), before, "{}", world.logs());
}

/// D30, D75: the queue of a busy socket is empty only long after the peer had what was in it.
#[test]
fn a_barrier_ack_tells_that_the_network_has_a_write_of_protocol_a() {
    let mut options = protocol(Protocol::A);
    options.set("max-epoch-size", Some("1")).unwrap();
    let mut world = World::synced(options);
    world.hosts[0].network_is_busy = true;
    let write = world.submit(0, write_of(3, 7));
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    assert_eq!(world.hosts[0].node.log.len(), 0);
    assert!(world.hosts[0].node.link().unsent.is_empty());
    assert!(!world.logs().contains("not acked"), "{}", world.logs());
}

/// T33: it would come to the peer behind the bitmap, and neither node would mark it, should the attach come to nothing.
#[test]
fn a_write_that_waited_for_another_is_not_sent_while_the_own_disk_negotiates() {
    let mut world = World::synced(plain());
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    world.settle();
    world.hosts[1].keeps = writes_data;
    let writes = [7, 8].map(|fill| world.submit(0, write_of(4, fill)));
    world.settle();
    let data = world.hosts[0].node.link().data.expect("connected");
    world.hosts[0].ends.get_mut(&data).expect("open").held = true;
    world.begin_attach(0, 999);
    world.deliver_all();
    assert!(world.hosts[0].state().contains(" Negotiating/"), "{}", world.logs());
    world.hosts[0].said.clear();
    world.release(1);
    world.deliver_all();
    assert_eq!(world.reply(0, writes[0]), Some(Ok(None)), "{}", world.logs());
    let sent = world.hosts[0].said.iter().any(|packet| matches!(packet, Packet::Data { .. }));
    assert!(!sent && world.hosts[0].state().contains(" Negotiating/"), "{}", world.logs());
    world.hold(0, false);
    world.settle();
    assert_eq!(world.reply(0, writes[1]), Some(Ok(None)), "{}", world.logs());
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(world.hosts[0].disk[4 * 4096], 8);
    world.assert_equal_disks();
}

/// D30, F6: the peer's ack was on its way before the own disk was given up.
#[test]
fn an_ack_that_comes_after_a_forced_detach_counts() {
    let mut world = World::synced(plain());
    world.hold(0, true);
    let write = world.submit(0, write_of(3, 7));
    world.deliver_all();
    assert_eq!(world.reply(0, write), None);
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: true }).is_success());
    assert_eq!(world.reply(0, write), None);
    world.hold(0, false);
    world.deliver_all();
    assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
    assert_eq!(world.hosts[1].disk[3 * 4096], 7);
}
