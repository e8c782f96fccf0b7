//! Both nodes are Primary and write to the same sectors (datapath.md section 11).

use super::frozen::resynced_to_a_kernel;
use super::*;

/// Two primaries in sync.
fn both_primary() -> World {
    let mut options = plain();
    options.set("allow-two-primaries", None).unwrap();
    let mut world = World::synced(options);
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.settle();
    world.assert_states(
        "Connected Primary/Primary UpToDate/UpToDate",
        "Connected Primary/Primary UpToDate/UpToDate",
    );
    world
}

fn blocks(first: u64, count: u64, fill: u8) -> Request {
    let extent = Extent::new(Sector::new(first * 8), count as u32 * 8).unwrap();
    Request::Write { extent, data: Buf::copied(&vec![fill; count as usize * 4096]), fua: false }
}

/// Lets both nodes write at the same moment, and everything end.
fn write_both(world: &mut World, a: Request, b: Request) {
    let ids = [world.submit(0, a), world.submit(1, b)];
    world.settle();
    for (host, id) in ids.into_iter().enumerate() {
        assert_eq!(world.reply(host, id), Some(Ok(None)), "{}", world.logs());
    }
    world.assert_states(
        "Connected Primary/Primary UpToDate/UpToDate",
        "Connected Primary/Primary UpToDate/UpToDate",
    );
    world.assert_equal_disks();
    for host in 0..2 {
        let out_of_sync = world.hosts[host].node.status().volumes[0].counters.oos;
        assert_eq!(out_of_sync, 0, "{}", world.logs());
    }
}

/// I26, F13
#[test]
fn of_two_equal_writes_the_resolvers_stays() {
    let mut world = both_primary();
    let resolver = usize::from(world.hosts[1].node.link().resolver);
    write_both(&mut world, blocks(3, 1, 10), blocks(3, 1, 11));
    assert_eq!(world.hosts[0].disk[3 * 4096], 10 + resolver as u8, "W147");
}

/// I26, F13
#[test]
fn a_write_that_is_not_covered_by_the_resolvers_goes_again() {
    let mut world = both_primary();
    let resolver = usize::from(world.hosts[1].node.link().resolver);
    write_both(&mut world, blocks(4, 4, 20), blocks(6, 4, 21));
    // The loser's write came last: all of it is there (W150).
    let loser = 21 - resolver as u8;
    let first = if resolver == 0 { 6 } else { 4 };
    let disk = &world.hosts[0].disk;
    assert!((first..first + 4).all(|block| disk[block * 4096] == loser));
}

/// T8, of a resolver: what it refused does not keep the epoch, and all later ones, from being acked.
#[test]
fn a_flush_after_a_conflict_is_answered() {
    let mut world = both_primary();
    for round in 0..4 {
        write_both(&mut world, blocks(8 + round, 2, 1), blocks(9, 2, 2));
        for host in 0..2 {
            assert_eq!(world.request(host, Request::Flush), Ok(None), "{}", world.logs());
        }
    }
    for host in 0..2 {
        let down = world.command(host, Command::Secondary { volume: VOLUME });
        assert!(down.is_success(), "no request is left over: {down:?}\n{}", world.logs());
    }
}

#[test]
fn writes_that_were_to_go_again_end_when_the_connection_is_lost() {
    let mut world = both_primary();
    let loser = usize::from(world.hosts[0].node.link().resolver);
    // The resolver's write does not reach the loser's disk: the loser's own waits for it.
    world.hosts[loser].keeps = |device, op| device == Device::Data && matches!(op, DiskOp::Write { .. });
    let ids = [world.submit(0, blocks(4, 4, 20)), world.submit(1, blocks(6, 4, 21))];
    for _ in 0..20 {
        world.deliver(0);
        world.deliver(1);
    }
    world.cut();
    world.release(loser);
    world.settle();
    for (host, id) in ids.into_iter().enumerate() {
        assert_eq!(world.reply(host, id), Some(Ok(None)), "D181\n{}", world.logs());
    }
}

/// A write of one node that the other one has, and that is done on its own disk, but frozen by an administrator of these
/// nodes.
fn frozen_write(world: &mut World, host: usize, count: u64, frozen: &[usize]) -> u64 {
    world.hosts[host].keeps = writes_data;
    let write = world.submit(host, blocks(3, count, 1));
    world.deliver_all();
    for frozen in frozen {
        assert!(world.command(*frozen, Command::SuspendIo { volume: VOLUME }).is_success());
    }
    world.release(host);
    world.settle();
    write
}

/// D179, I26: what the peer had acked before the connection was lost it wrote before what it sends on the next one. That is
/// no rival of it, and an administrator who lets frozen I/O go on does not send the old write over the new one.
#[test]
fn a_frozen_write_that_the_peer_had_does_not_take_the_place_of_a_later_one() {
    for frozen in 0..2 {
        let mut world = both_primary();
        let other = 1 - frozen;
        let old = frozen_write(&mut world, frozen, 1, &[frozen]);
        assert!(world.command(other, Command::Detach { volume: VOLUME, force: true }).is_success());
        world.settle();
        world.cut();
        world.join();
        world.write(other, 3, 2);
        assert_eq!(world.hosts[frozen].disk[3 * 4096], 2, "{}", world.logs());
        assert_eq!(world.reply(frozen, old), None);
        assert!(world.command(frozen, Command::ResumeIo { volume: VOLUME }).is_success());
        world.settle();
        assert_eq!(world.reply(frozen, old), Some(Ok(None)), "{}", world.logs());
        assert_eq!(world.read(other, 3), 2);
        world.reattach(other);
        world.settle();
        world.assert_equal_disks();
        assert_eq!(world.hosts[frozen].disk[3 * 4096], 2);
    }
}

/// D11: the peer's write never began here, and goes with the connection.
#[test]
fn a_write_behind_one_of_the_peers_goes_on_when_that_is_dropped() {
    let mut world = both_primary();
    let resolver = usize::from(world.hosts[1].node.link().resolver);
    let other = 1 - resolver;
    // The resolver's write is under way at the other node when its peer's comes, which waits for it.
    world.hosts[other].keeps = |device, op| device == Device::Data && matches!(op, DiskOp::Write { .. });
    let first = world.submit(other, blocks(5, 1, 1));
    world.submit(resolver, blocks(4, 2, 2));
    world.deliver_all();
    let second = world.submit(other, blocks(4, 1, 3));
    world.deliver_all();
    world.cut();
    world.release(other);
    world.settle();
    for id in [first, second] {
        assert_eq!(world.reply(other, id), Some(Ok(None)), "{}", world.logs());
    }
}

/// One disk operation ends, or one packet arrives, whichever chance picks. False if there is none.
fn deliver_one(world: &mut World, chance: &mut Chance) -> bool {
    let host = chance.below(2) as usize;
    if chance.below(2) == 0 && !world.hosts[host].done.is_empty() {
        let at = chance.below(world.hosts[host].done.len() as u64) as usize;
        let (ticket, result) = world.hosts[host].done.remove(at).unwrap();
        world.input(host, Input::DiskDone { ticket, result });
        return true;
    }
    let sockets: Vec<SocketId> = world.hosts[host].ends.keys().copied().collect();
    let socket = sockets[chance.below(sockets.len() as u64) as usize];
    world.deliver_packet(host, socket)
}

/// I26, F13; T26: what arrives on the one connection may be older or younger than what arrives on the other.
#[test]
fn any_order_of_packets_and_disks_leaves_both_disks_equal() {
    let seeds = std::env::var("URBD_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    for seed in 1..=seeds {
        let mut world = both_primary();
        let mut chance = Chance(seed);
        let mut ids = Vec::new();
        for number in 0..60_u64 {
            let host = chance.below(2) as usize;
            let request = blocks(chance.below(6), 1 + chance.below(3), number as u8 + 1);
            ids.push((host, world.submit(host, request)));
            for _ in 0..chance.below(12) {
                deliver_one(&mut world, &mut chance);
            }
        }
        world.settle();
        for (host, id) in ids {
            assert_eq!(world.reply(host, id), Some(Ok(None)), "seed {seed}\n{}", world.logs());
        }
        world.assert_equal_disks();
        let connected = world.hosts[0].log.iter().filter(|line| line.contains("-> WFReportParams")).count();
        assert_eq!(connected, 2, "seed {seed}: the connection was lost\n{}", world.logs());
        assert_eq!(world.hosts[0].node.status().volumes[0].counters.oos, 0, "seed {seed}");
    }
}

/// D80: what the peer had of a write it may have lost since, where its next one does not go.
#[test]
fn what_a_peer_may_have_lost_is_not_settled_by_a_part_of_it() {
    let mut world = World::synced(NetOptions { allow_two_primaries: true, ..plain() });
    frozen_write(&mut world, 0, 2, &[0]);
    world.cut();
    world.hosts[1].disk[3 * 4096..5 * 4096].fill(0);
    world.join();
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.submit(1, blocks(3, 1, 2));
    world.deliver_all();
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    world.assert_equal_disks();
    assert_eq!(world.hosts[1].disk[4 * 4096], 1);
}

/// D179, I26: the same when I/O goes on while the later one is on its way.
#[test]
fn a_write_that_the_peer_had_does_not_meet_a_later_one_on_its_way() {
    for frozen in 0..2 {
        let mut world = both_primary();
        let other = 1 - frozen;
        let old = frozen_write(&mut world, frozen, 1, &[0, 1]);
        world.cut();
        world.join();
        assert!(world.command(other, Command::ResumeIo { volume: VOLUME }).is_success());
        world.hold(frozen, true);
        let new = world.submit(other, blocks(3, 1, 2));
        world.deliver_all();
        world.input(
            frozen,
            Input::Command { id: CommandId(999), command: Command::ResumeIo { volume: VOLUME } },
        );
        world.deliver_all();
        world.hold(frozen, false);
        world.settle();
        assert_eq!(world.reply(frozen, old), Some(Ok(None)), "{}", world.logs());
        assert_eq!(world.reply(other, new), Some(Ok(None)), "{}", world.logs());
        assert_eq!(
            [0, 1].map(|host: usize| world.hosts[host].disk[3 * 4096]),
            [2, 2],
            "{frozen}\n{}",
            world.logs()
        );
    }
}

/// T1, D80: the other node is Primary as well, and has lost nothing that a resync brought when it is met again; so it is
/// when this one leaves by command.
#[test]
fn what_a_resync_brought_to_another_primary_is_trusted_after_a_disconnect() {
    let mut world = resynced_to_a_kernel(NetOptions { allow_two_primaries: true, ..plain() });
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.settle();
    for host in 0..2 {
        assert!(world.command(host, Command::SuspendIo { volume: VOLUME }).is_success());
    }
    assert!(world.command(0, Command::Disconnect { force: true }).is_success());
    world.connect(0);
    world.settle();
    assert_eq!(world.states(), ["Connected Primary/Primary UpToDate/UpToDate"; 2], "{}", world.logs());
}

/// A write of one node that is on both disks, and not acked when the connection is lost: I/O is frozen on both, and on a new
/// connection goes on at the other one only, whose clients read it.
fn frozen_without_its_ack(world: &mut World, host: usize, count: u64) -> u64 {
    world.hold(host, true);
    let write = world.submit(host, blocks(3, count, 1));
    world.deliver_all();
    for host in 0..2 {
        assert!(world.command(host, Command::SuspendIo { volume: VOLUME }).is_success());
    }
    world.cut();
    world.join();
    assert!(world.command(1 - host, Command::ResumeIo { volume: VOLUME }).is_success());
    assert_eq!(world.read(1 - host, 3), 1);
    write
}

/// D179, I25: what a client of the other node has seen already is not the later one of two writes.
#[test]
fn a_frozen_write_that_the_peer_may_have_had_does_not_take_the_place_of_a_later_one() {
    for (frozen, crossing) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut world = both_primary();
        let old = frozen_without_its_ack(&mut world, frozen, 1);
        world.hold(frozen, crossing); // It is on its way when the old one goes again.
        let new = world.submit(1 - frozen, blocks(3, 1, 2));
        world.deliver_all();
        assert_eq!(
            world.reply(1 - frozen, new).is_some(),
            !crossing,
            "it waits for nobody\n{}",
            world.logs()
        );
        let command = Command::ResumeIo { volume: VOLUME };
        world.input(frozen, Input::Command { id: CommandId(999), command });
        world.hold(frozen, false);
        world.settle();
        for (host, write) in [(frozen, old), (1 - frozen, new)] {
            assert_eq!(world.reply(host, write), Some(Ok(None)), "{frozen} {crossing}\n{}", world.logs());
        }
        world.assert_equal_disks();
        assert_eq!(world.hosts[frozen].disk[3 * 4096], 2, "{frozen} {crossing}\n{}", world.logs());
    }
}

/// The resolver has a frozen write of two blocks that the peer may have had, and that one a write of the first of them, which
/// is to go behind it. The resolver and both writes.
fn frozen_beside_one_that_waits() -> (World, usize, [u64; 2]) {
    let mut world = both_primary();
    let old = frozen_without_its_ack(&mut world, 1, 2);
    assert!(world.hosts[1].node.link().resolver);
    let new = world.submit(0, blocks(3, 1, 2));
    world.settle();
    assert_eq!(world.reply(0, new), None, "{}", world.logs());
    (world, 1, [old, new])
}

/// D179: the same where the later one does not cover it.
#[test]
fn a_write_of_a_part_waits_for_the_frozen_one_that_goes_again() {
    let (mut world, resolver, [old, new]) = frozen_beside_one_that_waits();
    assert!(world.command(resolver, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    assert_eq!(world.reply(resolver, old), Some(Ok(None)), "{}", world.logs());
    assert_eq!(world.reply(1 - resolver, new), Some(Ok(None)), "{}", world.logs());
    world.assert_equal_disks();
    assert_eq!([3, 4].map(|block: usize| world.hosts[resolver].disk[block * 4096]), [2, 1]);
}

/// D180, D181: the frozen one does not go again, as the peer has no disk any more.
#[test]
fn a_write_does_not_wait_for_a_frozen_one_that_does_not_go_again() {
    let (mut world, resolver, [old, new]) = frozen_beside_one_that_waits();
    assert!(world.command(1 - resolver, Command::Detach { volume: VOLUME, force: true }).is_success());
    world.settle();
    assert!(world.command(resolver, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    assert_eq!(world.reply(resolver, old), Some(Ok(None)), "{}", world.logs());
    assert!(world.reply(1 - resolver, new).is_some(), "{}", world.logs());
}

/// The resolver's write of one block and the other node's of that and the next one, which is to go again; nothing gets to
/// that node yet. The resolver and both writes.
fn rivals_held_at_the_loser() -> (World, usize, [u64; 2]) {
    let mut world = both_primary();
    let resolver = usize::from(world.hosts[1].node.link().resolver);
    world.hold(1 - resolver, true);
    let first = world.submit(resolver, blocks(4, 1, 1));
    let second = world.submit(1 - resolver, blocks(4, 2, 2));
    world.deliver_all();
    (world, resolver, [first, second])
}

/// D180: what it is to wait for comes when the disk is gone, and is refused.
#[test]
fn a_write_that_waits_for_one_of_the_peers_goes_again_when_that_is_refused() {
    let (mut world, resolver, [first, second]) = rivals_held_at_the_loser();
    let other = 1 - resolver;
    let meta = world.hosts[other].node.link().meta.unwrap();
    world.hosts[other].ends.get_mut(&meta).unwrap().held = false;
    world.deliver_all();
    assert!(world.command(other, Command::Detach { volume: VOLUME, force: true }).is_success());
    world.hold(other, false);
    world.settle();
    assert_eq!(world.reply(resolver, first), Some(Ok(None)), "{}", world.logs());
    assert_eq!(world.reply(other, second), Some(Ok(None)), "{}", world.logs());
    assert_eq!(world.hosts[resolver].disk[4 * 4096], 2);
}

/// D180: what it is to wait for was refused, as the disk is gone: it goes again at once.
#[test]
fn a_write_that_is_to_go_again_does_not_wait_for_one_that_was_refused() {
    let (mut world, resolver, [first, second]) = rivals_held_at_the_loser();
    let other = 1 - resolver;
    assert!(world.command(other, Command::Detach { volume: VOLUME, force: true }).is_success());
    let data = world.hosts[other].node.link().data.unwrap();
    world.hosts[other].ends.get_mut(&data).unwrap().held = false;
    world.deliver_all();
    assert_eq!(world.reply(other, second), None, "its fate is not known yet");
    world.hold(other, false);
    world.settle();
    assert_eq!(world.reply(resolver, first), Some(Ok(None)), "{}", world.logs());
    assert_eq!(world.reply(other, second), Some(Ok(None)), "{}", world.logs());
    assert_eq!(world.hosts[resolver].disk[4 * 4096], 2);
}

/// The loser's write, which is inside one of the resolver's that its disk has or not, and what the resolver says to it.
fn verdict(done: bool, fua: bool) -> (World, usize, [u64; 2]) {
    let mut world = both_primary();
    let resolver = usize::from(world.hosts[1].node.link().resolver);
    world.hosts[resolver].said.clear();
    world.hold(1 - resolver, true);
    if !done {
        world.hosts[resolver].keeps = writes_data;
    }
    let own = world.submit(resolver, blocks(4, 2, 1));
    let extent = Extent::new(Sector::new(4 * 8), 8).unwrap();
    let write = Request::Write { extent, data: Buf::copied(&[2; 4096]), fua };
    let other = world.submit(1 - resolver, write);
    world.deliver_all();
    (world, resolver, [own, other])
}

/// I1, I6: the other node's client is answered when it hears that its write is superseded. Were the write that takes its place
/// not on this disk, or were it to be durable here, this copy would lack it after a crash of both.
#[test]
fn a_write_is_superseded_by_what_is_on_the_disk_and_not_if_it_is_to_be_durable() {
    for (done, fua, superseded) in [(true, false, true), (false, false, false), (true, true, false)] {
        let (mut world, resolver, [own, other]) = verdict(done, fua);
        let said = &world.hosts[resolver].said;
        let is = |packet: &Packet| matches!(packet, Packet::Superseded(_));
        let again = |packet: &Packet| matches!(packet, Packet::RetryWrite(_));
        assert_eq!((said.iter().any(is), said.iter().any(again)), (superseded, !superseded), "{done} {fua}");
        world.hold(1 - resolver, false);
        world.release(resolver);
        world.settle();
        assert_eq!(world.reply(resolver, own), Some(Ok(None)), "{}", world.logs());
        assert_eq!(world.reply(1 - resolver, other), Some(Ok(None)), "{}", world.logs());
        let last = if superseded { 1 } else { 2 };
        assert_eq!(world.hosts[resolver].disk[4 * 4096], last);
        world.assert_equal_disks();
    }
}
