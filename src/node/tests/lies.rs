//! A peer that says what is not so (F9): it loses the connection, and nothing else happens.

use super::*;
use crate::node::transfer_log::ReqKey;
use crate::wire::packet::{BlockAck, BlockId, BlockRange, BlockRequest, DpFlags};

/// A write of two blocks that the peer's disk does not end: its id and its key.
fn begin_write(world: &mut World, fill: u8) -> (u64, ReqKey) {
    world.hosts[1].keeps = writes_data;
    let extent = Extent::new(Sector::new(5 * 8), 16).unwrap();
    let write = Request::Write { extent, data: Buf::copied(&[fill; 8192]), fua: false };
    let id = world.submit(0, write);
    world.step_until(|world| !world.hosts[1].kept.is_empty());
    let keys = world.hosts[0].node.log.keys();
    assert_eq!(keys.len(), 1, "{}", world.logs());
    (id, keys[0])
}

/// A pair in sync with such a write.
fn writing() -> (World, u64, ReqKey) {
    let mut world = World::synced(plain());
    world.write(0, 3, 7);
    world.settle();
    let (id, key) = begin_write(&mut world, 8);
    (world, id, key)
}

fn ack(sector: u64, key: ReqKey, size: u32) -> BlockAck {
    BlockAck { sector: Sector::new(sector), block_id: key.block_id(), size, seq: 0 }
}

fn is_connected(world: &World, host: usize) -> bool {
    world.hosts[host].node.link().is_up()
}

/// I24, F9: acks of what does not exist, of another place, of another kind.
#[test]
fn acks_that_fit_nothing_end_the_connection_and_no_write() {
    /// What is said of a write at sector 40 with this key.
    type Lie = fn(ReqKey) -> Packet;
    let lies: [Lie; 13] = [
        |key| Packet::WriteAck(ack(40, ReqKey(key.0 + 1), 8192)),
        |key| Packet::WriteAck(ack(40, ReqKey(key.0 - 1), 8192)),
        |key| Packet::WriteAck(ack(48, key, 8192)),
        |_| Packet::RecvAck(ack(40, ReqKey(0), 8192)),
        |key| Packet::RsWriteAck(ack(u64::MAX, ReqKey(key.0 + 1), u32::MAX)),
        |key| Packet::Superseded(ack(40, ReqKey(key.0 + 1), 8192)),
        |key| Packet::RetryWrite(ack(48, key, 8192)),
        |key| Packet::NegAck(ack(u64::MAX, ReqKey(key.0 + 1), u32::MAX)),
        |key| Packet::NegDreply(ack(40, key, 8192)),
        |_| Packet::BarrierAck { barrier: [0xff; 4], count: 1 },
        |_| Packet::BarrierAck { barrier: [0; 4], count: u32::MAX },
        |key| Packet::DataReply { sector: Sector::new(40), block_id: key.block_id(), digest: vec![] },
        |_| Packet::RsDataReply { sector: Sector::new(40), block_id: BlockId::RESYNC, digest: vec![] },
    ];
    let mut world = World::synced(plain());
    for (fill, lie) in (1..).zip(lies) {
        let (id, key) = begin_write(&mut world, fill);
        let lie = lie(key);
        let text = format!("{lie:?}");
        let payload = lie.carries_payload().then(|| Buf::copied(&[99; 8192]));
        world.hear(0, payload.is_none(), lie, payload);
        assert!(!is_connected(&world, 0), "{text}");
        assert_eq!(world.hosts[0].disk[5 * 4096], fill, "{text}");
        world.release(1);
        world.settle();
        assert_eq!(world.reply(0, id), Some(Ok(None)), "{text}\n{}", world.logs());
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        world.assert_equal_disks();
        assert_eq!(world.hosts[1].disk[5 * 4096], fill, "{text}");
    }
}

/// I24, D73: the only late ack that may be about something, and then it is about its range.
#[test]
fn a_late_negative_ack_marks_what_it_names() {
    let (mut world, _, key) = writing();
    world.hear(0, true, Packet::NegAck(ack(800, ReqKey(key.0 - 1), 4096)), None);
    assert!(is_connected(&world, 0) && world.is_out_of_sync(0, 100));
}

/// T19: a peer without a disk says how long the payload was, which is nothing for a trim.
#[test]
fn the_size_of_a_negative_ack_is_not_believed() {
    for size in [0, 512, 1 << 30] {
        let (mut world, id, key) = writing();
        let epoch = world.hosts[0].node.log.get(key).unwrap().epoch;
        world.hear(0, true, Packet::NegAck(ack(40, key, size)), None);
        while world.reply(0, id).is_none() && world.step() {} // A new generation tells that the peer lacks it.
        assert_eq!(world.reply(0, id), Some(Ok(None)), "the own disk has it");
        // The barrier goes out, which the peer's stuck disk leaves without an answer of its own.
        let barrier = epoch.to_be_bytes();
        let sent = |world: &World| world.hosts[0].said.contains(&Packet::Barrier(barrier));
        for _ in 0..100 {
            if sent(&world) {
                break;
            }
            world.step();
        }
        assert!(sent(&world), "{}", world.logs());
        world.hear(0, true, Packet::BarrierAck { barrier, count: 1 }, None);
        assert!(is_connected(&world, 0), "{}", world.logs());
        assert_eq!([4, 5, 6, 7].map(|block| world.is_out_of_sync(0, block)), [false, true, true, false]);
    }
}

/// F9: sizes and places that no write, request or notice may have. (What is too long for any device is refused by the
/// codec, `tests/wire.rs`.)
#[test]
fn what_lies_outside_the_device_is_not_touched() {
    let end = World::synced(plain()).hosts[1].node.status().volumes[0].size_sectors;
    let data = |sector: u64| Packet::Data {
        sector: Sector::new(sector),
        block_id: BlockId::from_number(77),
        seq: 99,
        flags: DpFlags::SEND_WRITE_ACK,
        digest: vec![],
    };
    let block = |sector: u64, size: u32| BlockRequest {
        sector: Sector::new(sector),
        block_id: BlockId::from_number(77),
        size,
    };
    let (block_id, seq, flags) = (BlockId::from_number(77), 99, DpFlags::SEND_WRITE_ACK | DpFlags::DISCARD);
    let trim =
        |sector: u64, size: u32| Packet::Trim { sector: Sector::new(sector), block_id, seq, flags, size };
    let zeroes =
        |sector: u64, size: u32| Packet::Zeroes { sector: Sector::new(sector), block_id, seq, flags, size };
    let lies = [
        data(end),
        data(end - 4),
        data(u64::MAX - 3),
        trim(end - 8, 8192),
        trim(0, u32::MAX),
        zeroes(end, 4096),
        zeroes(3, 100),
        Packet::DataRequest(block(end, 4096)),
        Packet::DataRequest(block(0, 0)),
        Packet::RsDataRequest(block(end - 1, 4096)),
        Packet::RsDataRequest(block(u64::MAX, 4096)),
        Packet::RsDeallocated(BlockRange { sector: Sector::new(0), size: 4096 }),
        Packet::OutOfSync(BlockRange { sector: Sector::new(end), size: 4096 }),
        Packet::OutOfSync(BlockRange { sector: Sector::new(u64::MAX), size: u32::MAX }),
    ];
    let mut world = World::synced(plain());
    world.write(0, 0, 7);
    world.settle();
    for lie in lies {
        let before = world.hosts[1].disk[..end as usize * 512].to_vec();
        let text = format!("{lie:?}");
        let payload = lie.carries_payload().then(|| Buf::copied(&[9; 4096]));
        world.hear(1, false, lie, payload);
        assert!(!is_connected(&world, 1), "{text}");
        assert!(world.hosts[1].disk[..end as usize * 512] == before, "{text}");
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        world.assert_equal_disks();
    }
}

/// T18: a block of zeroes is checked like any other: it must be what was asked for.
#[test]
fn zeroes_longer_than_the_block_asked_for_are_refused() {
    let mut world = super::traps::syncing();
    let asked = world.hosts[1].node.volumes[&VOLUME].resync.as_ref().unwrap().exchanges[0].extent;
    let range = BlockRange { sector: asked.start(), size: 1 << 20 };
    world.hear(1, false, Packet::RsDeallocated(range), None);
    assert!(!is_connected(&world, 1));
    world.release(1);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
    assert_eq!(world.hosts[1].disk[0], 42);
}

/// F9: with `data-integrity-alg` what was changed on the way is not written; a resync brings what was meant. (Without
/// it nobody can tell, and TCP's checksum is all there is.)
#[test]
fn a_payload_that_was_changed_on_the_way_is_not_written() {
    let mut options = plain();
    options.set("data-integrity-alg", Some("crc32c")).unwrap();
    let mut world = World::synced(options);
    world.write(0, 3, 7);
    world.settle();
    let write = world.submit(0, write_of(3, 8));
    let end =
        world.hosts[1].ends.values_mut().find(|end| end.inbox.len() > 4096).expect("a write is on its way");
    *end.inbox.last_mut().unwrap() ^= 1;
    world.step_until(|world| !world.hosts[1].node.link().is_up());
    assert_eq!(world.hosts[1].disk[3 * 4096..4 * 4096], [7; 4096]);
    assert!(world.hosts[1].log.iter().any(|line| line.contains("changed on the way")), "{}", world.logs());
    world.settle();
    assert_eq!(world.reply(0, write), Some(Ok(None)));
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(world.hosts[1].disk[3 * 4096], 8);
    world.assert_equal_disks();
}
