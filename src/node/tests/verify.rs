//! Online verify between two nodes, and against a peer that lies (datapath.md section 7, W184 to W189).

use super::*;
use crate::node::state::Conn;
use crate::wire::packet::{BlockAck, BlockId, BlockRequest};

fn comparing() -> NetOptions {
    let mut options = plain();
    options.set("verify-alg", Some("crc32c")).expect("valid");
    options
}

/// Two nodes in sync with a little data; their disks differ in these blocks.
fn differing(blocks: &[u64]) -> World {
    let mut world = World::synced(comparing());
    for block in 0..4 {
        world.write(0, block * 10, 7);
    }
    world.settle();
    for &block in blocks {
        world.hosts[1].disk[block as usize * 4096 + 99] ^= 1;
    }
    world
}

fn verify(world: &mut World, host: usize, start: Option<u64>, stop: Option<u64>) -> i32 {
    let (start, stop) = (start.map(Sector::new), stop.map(Sector::new));
    world.command(host, Command::Verify { volume: VOLUME, start, stop }).code
}

fn out_of_sync(world: &World) -> [u64; 2] {
    [0, 1].map(|host| world.hosts[host].node.status().volumes[0].counters.oos / 4)
}

fn said(world: &World, host: usize, text: &str) -> bool {
    world.hosts[host].log.iter().any(|line| line.contains(text))
}

fn blocks(world: &World) -> u64 {
    world.hosts[0].node.status().volumes[0].size_sectors.div_ceil(8)
}

/// Steps until a verify has judged some blocks and not all.
fn run_to_the_middle(world: &mut World) {
    world.step_until(|world| {
        let status = world.hosts[0].node.status();
        status.volumes[0].resync.is_some_and(|verify| {
            verify.left_bits < verify.total_bits * 3 / 4 && verify.left_bits > verify.total_bits / 4
        })
    });
}

/// Slow enough to be interrupted.
fn slow(mut world: World) -> World {
    for host in 0..2 {
        let options =
            DiskOptions { c_plan_ahead_ds: 0, resync_rate_kib_s: 4 << 10, ..DiskOptions::default() };
        let command = Command::ChangeDiskOptions { volume: VOLUME, options: Box::new(options) };
        assert!(world.command(host, command).is_success());
    }
    world.settle();
    world
}

#[test]
fn equal_disks_are_found_equal_from_either_side() {
    for host in 0..2 {
        let mut world = differing(&[]);
        assert_eq!(verify(&mut world, host, None, None), 1, "{}", world.logs());
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!(out_of_sync(&world), [0, 0]);
        for host in 0..2 {
            assert!(said(&world, host, "Online verify done (total "), "{}", world.logs());
            assert!(!said(&world, host, "out of sync"), "{}", world.logs());
        }
    }
}

/// I32
#[test]
fn exactly_the_blocks_that_differ_are_marked_on_both_nodes_and_a_reconnect_repairs_them() {
    for host in 0..2 {
        let mut world = differing(&[3, 4, 500]);
        verify(&mut world, host, None, None);
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!(out_of_sync(&world), [3, 3], "no resync by itself (D143)");
        for host in 0..2 {
            for line in [
                "Out of sync: start=24, size=16 (sectors)",
                "Out of sync: start=4000, size=8 (sectors)",
                "Online verify found 3 4k block out of sync!",
            ] {
                assert!(said(&world, host, line), "{line}\n{}", world.logs());
            }
        }
        assert!(world.command(0, Command::Disconnect { force: false }).is_success());
        world.connect(0);
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!(out_of_sync(&world), [0, 0]);
        assert!(said(&world, 1, "will sync 12 KB [3 bits set]"), "{}", world.logs());
        world.assert_equal_disks();
    }
}

#[test]
fn the_last_block_may_be_a_part_of_one() {
    let last = blocks(&differing(&[])) - 1;
    let mut world = differing(&[last]);
    verify(&mut world, 0, None, None);
    world.settle();
    assert_eq!(out_of_sync(&world), [1, 1], "{}", world.logs());
}

#[test]
fn a_verify_begins_and_stops_where_it_is_told() {
    let mut world = differing(&[2, 50, 99, 100]);
    verify(&mut world, 0, Some(10 * 8 + 3), Some(100 * 8));
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(out_of_sync(&world), [2, 2], "{}", world.logs());
    assert!(said(&world, 0, "Starting Online Verify from sector 80"), "rounded down (S47)");
    assert!(said(&world, 1, "Online Verify start sector: 80"));
    assert!(said(&world, 0, "Online Verify reached sector 800"), "{}", world.logs());
    // The next one goes on there, and the one after the end at the beginning (D145).
    for (line, found) in [("from sector 800", 3), ("from sector 0", 4)] {
        verify(&mut world, 0, None, None);
        world.settle();
        assert!(said(&world, 0, line), "{line}\n{}", world.logs());
        assert_eq!(out_of_sync(&world), [found, found]);
    }
}

#[test]
fn a_verify_that_runs_can_be_told_to_stop() {
    let mut world = slow(differing(&[blocks(&differing(&[])) - 1]));
    verify(&mut world, 0, None, None);
    run_to_the_middle(&mut world);
    assert_eq!(verify(&mut world, 0, None, Some(0)), 2, "it runs already (S47)");
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(out_of_sync(&world), [0, 0], "it did not come to the last block");
    assert!(said(&world, 0, "Online Verify reached sector "), "{}", world.logs());
}

#[test]
fn behind_the_end_only_the_last_block_is_compared() {
    let world = differing(&[]);
    let last = blocks(&world) - 1;
    let mut world = differing(&[0, last]);
    verify(&mut world, 0, Some(1 << 40), None);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!(out_of_sync(&world), [1, 1], "D138");
}

#[test]
fn a_lost_connection_ends_it_and_the_next_goes_on_there() {
    for asker in 0..2 {
        let mut world = slow(differing(&[1]));
        verify(&mut world, asker, None, None);
        run_to_the_middle(&mut world);
        world.cut();
        for host in 0..2 {
            assert!(said(&world, host, "Online Verify reached sector "), "{}", world.logs());
            assert_eq!(world.hosts[host].node.volumes[&VOLUME].ranges.len(), 0);
        }
        let from = world.hosts[asker].node.volumes[&VOLUME].verify_wish.start.get();
        assert!(from > 0);
        world.join();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        world.assert_equal_disks(); // What it had found until then.
        verify(&mut world, asker, None, None);
        world.settle();
        assert!(said(&world, asker, &format!("Starting Online Verify from sector {from}")));
        assert!(said(&world, asker, "Online verify done"), "{}", world.logs());
    }
}

/// T25: a verify is not carried on without one of the disks, as if all the rest were equal.
#[test]
fn a_disk_that_is_detached_ends_it() {
    for (asker, detached) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut world = slow(differing(&[]));
        verify(&mut world, asker, None, None);
        run_to_the_middle(&mut world);
        assert!(world.command(detached, Command::Detach { volume: VOLUME, force: false }).is_success());
        world.settle();
        let states = world.states();
        assert!(states.iter().all(|state| state.starts_with("Connected")), "{states:?}\n{}", world.logs());
        for host in &world.hosts {
            let v = &host.node.volumes[&VOLUME];
            assert!(v.verify.is_none());
            assert_eq!((v.ranges.len(), v.counters.pe), (0, 0), "nothing is asked for any more (I36)");
        }
        world.write(0, 1, 1);
    }
}

#[test]
fn a_pause_does_not_concern_it_and_a_disconnect_ends_it() {
    let mut world = slow(differing(&[]));
    verify(&mut world, 1, None, None);
    run_to_the_middle(&mut world);
    world.command(0, Command::PauseSync { volume: VOLUME });
    world.step();
    assert!(world.states()[1].starts_with("VerifyS"), "{:?}", world.states());
    assert!(world.command(0, Command::Disconnect { force: false }).is_success(), "{}", world.logs());
    world.settle();
    assert!(world.hosts.iter().all(|host| host.node.volumes[&VOLUME].verify.is_none()));
}

/// I32
#[test]
fn writes_under_way_are_not_taken_for_differences() {
    for protocol in ["A", "B", "C"] {
        for asker in 0..2 {
            let mut options = comparing();
            options.set("protocol", Some(protocol)).expect("valid");
            let mut world = slow(World::synced(options));
            verify(&mut world, asker, None, None);
            let mut ids = Vec::new();
            for round in 0..400_u64 {
                let block = round * 37 % 200;
                ids.push(world.submit(0, write_of(block, round as u8)));
                if round % 7 == 0 {
                    // One disk is slower than the other, in turns.
                    let host = (round / 7 % 2) as usize;
                    world.hosts[host].keeps =
                        |device, op| device == Device::Data && matches!(op, DiskOp::Write { .. });
                    world.step();
                    world.step();
                    world.release(host);
                }
                world.step();
            }
            world.settle();
            assert!(ids.iter().all(|&id| world.reply(0, id) == Some(Ok(None))), "{}", world.logs());
            assert!(said(&world, asker, "Online verify done"), "{}", world.logs());
            assert_eq!(out_of_sync(&world), [0, 0], "protocol {protocol}\n{}", world.logs());
            world.assert_equal_disks();
        }
    }
}

/// I31
#[test]
fn a_block_that_is_written_all_the_time_is_compared_all_the_same() {
    let mut world = slow(World::synced(comparing()));
    world.write(0, 0, 1);
    let mut last = [0; 2].map(|_| world.submit(0, write_of(0, 2)));
    verify(&mut world, 0, None, None);
    for round in 0..10_000_u64 {
        let at = (round % 2) as usize;
        if world.reply(0, last[at]).is_some() {
            last[at] = world.submit(0, write_of(0, round as u8));
        }
        world.deliver(0);
        world.deliver(1);
        world.now = world.now.after(std::time::Duration::from_millis(1));
        for host in 0..2 {
            world.input(host, Input::Timeout);
        }
        if world.hosts[0].node.volumes[&VOLUME].verify.is_none() {
            break;
        }
    }
    assert!(said(&world, 0, "Online verify done"), "{}", world.logs());
    assert_eq!(out_of_sync(&world), [0, 0]);
}

#[test]
fn what_cannot_be_read_counts_as_different() {
    for host in 0..2 {
        let mut world = slow(differing(&[]));
        let pass_on = DiskOptions {
            c_plan_ahead_ds: 0,
            resync_rate_kib_s: 400 << 10,
            on_io_error: crate::config::options::OnIoError::PassOn,
            ..DiskOptions::default()
        };
        let command = Command::ChangeDiskOptions { volume: VOLUME, options: Box::new(pass_on) };
        assert!(world.command(host, command).is_success());
        world.hosts[host].fails = |_, op| match op {
            DiskOp::Read { offset: 40960, .. } => Some(DiskFault::Os(5)),
            _ => None,
        };
        verify(&mut world, 0, None, None);
        world.settle();
        assert!(said(&world, 0, "Out of sync: start=80, size=8 (sectors)"), "{}", world.logs());
    }
}

#[test]
fn it_is_refused_where_it_makes_no_sense() {
    let mut world = World::synced(plain());
    assert_eq!(verify(&mut world, 0, None, None), -14, "no verify-alg (V11)");
    let mut world = World::up(comparing());
    assert_eq!(verify(&mut world, 0, None, None), -2, "Inconsistent copies stay that (X9)");
    world.assert_states(
        "Connected Secondary/Secondary Inconsistent/Inconsistent",
        "Connected Secondary/Secondary Inconsistent/Inconsistent",
    );
    let mut world = differing(&[]);
    world.cut();
    assert_eq!(verify(&mut world, 0, None, None), -15, "not connected (T9)");
    let mut world = slow(differing(&[]));
    verify(&mut world, 0, None, None);
    run_to_the_middle(&mut world);
    assert_eq!(verify(&mut world, 1, None, None), -8, "it is being asked from there (T10)");
    let mut options = comparing();
    options.set("verify-alg", Some("md5")).expect("valid");
    let command = Command::ChangeNetOptions { options: Box::new(options) };
    assert_eq!(world.command(0, command).code, 149);
}

/// Gives host 0 a packet, as if from the peer.
fn inject(world: &mut World, meta: bool, packet: Packet) {
    world.hear(0, meta, packet, None);
}

fn block(sector: u64, size: u32) -> BlockRequest {
    BlockRequest { sector: Sector::new(sector), block_id: BlockId::RESYNC, size }
}

fn is_connected(world: &World) -> bool {
    world.hosts[0].node.volumes[&VOLUME].state.conn >= Conn::Connected
}

#[test]
fn a_peer_that_lies_loses_the_connection_and_nothing_else() {
    let lies: [(usize, Packet); 8] = [
        (1, Packet::OvRequest(block(1 << 40, 4096))),
        (1, Packet::OvRequest(block(8, 1 << 20))),
        (1, Packet::OvRequest(block(7, 4096))),
        (1, Packet::OvRequest(block(8, 512))),
        (1, Packet::OvRequest(block(u64::MAX - 1, 4096))),
        (0, Packet::OvReply { request: block(1 << 40, 4096), digest: vec![0; 4] }),
        (0, Packet::OvReply { request: block(0, 4096), digest: vec![0; 3] }),
        (0, Packet::OvReply { request: block(0, 0), digest: vec![0; 4] }),
    ];
    for (asker, lie) in lies {
        let mut world = slow(differing(&[]));
        verify(&mut world, asker, None, None);
        run_to_the_middle(&mut world);
        let text = format!("{lie:?}");
        inject(&mut world, false, lie);
        assert!(!is_connected(&world), "{text}");
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!(out_of_sync(&world), [0, 0], "{text}");
        world.write(0, 1, 1);
    }
}

#[test]
fn results_and_replies_that_nobody_asked_for_change_nothing() {
    let mut world = differing(&[]);
    let ack = |sector| BlockAck {
        sector: Sector::new(sector),
        block_id: BlockId::OV_DIFFERENT,
        size: 4096,
        seq: 0,
    };
    for sector in [0, 8, 1 << 40, u64::MAX] {
        inject(&mut world, true, Packet::OvResult(ack(sector)));
        inject(&mut world, false, Packet::OvReply { request: block(sector, 4096), digest: vec![1; 4] });
    }
    assert!(is_connected(&world));
    assert_eq!(out_of_sync(&world), [0, 0]);
    let mut world = slow(world);
    verify(&mut world, 1, None, None);
    run_to_the_middle(&mut world);
    inject(&mut world, true, Packet::OvResult(ack(0)));
    inject(&mut world, true, Packet::OvResult(ack(u64::MAX)));
    world.settle();
    assert_eq!(out_of_sync(&world), [0, 0], "{}", world.logs());
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
}

#[test]
fn a_peer_that_asks_without_end_is_cut_off() {
    let mut world = slow(differing(&[]));
    verify(&mut world, 1, None, None);
    world.hosts[0].keeps = |device, op| device == Device::Data && matches!(op, DiskOp::Read { .. });
    let blocks = blocks(&world);
    let at_most = |world: &World| world.hosts[0].kept.len() <= 256;
    for number in (1000..blocks).chain(1000..blocks) {
        if !is_connected(&world) {
            break;
        }
        inject(&mut world, false, Packet::OvRequest(block(number * 8, 4096)));
        assert!(at_most(&world), "reads are bounded");
    }
    assert!(!is_connected(&world), "no block twice at a time");
    world.release(0);
    world.settle();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
}

/// I11, I32: the peer had marked a write in sync before its block was compared, and found to differ: neither node takes that
/// for an answer when the epoch of the write is durable.
#[test]
fn an_older_write_does_not_clear_the_bit_of_a_block_that_differs() {
    for host in 0..2 {
        let mut world = slow(differing(&[]));
        world.hosts[1].keeps = flushes_data;
        verify(&mut world, host, None, None);
        let block = blocks(&world) / 2;
        let write = world.submit(0, write_of(block, 8));
        world.deliver_all();
        assert_eq!(world.reply(0, write), Some(Ok(None)), "{}", world.logs());
        world.hosts[1].disk[block as usize * 4096 + 99] ^= 1;
        world.step_until(|world| (0..2).all(|host| said(world, host, "Out of sync: start")));
        world.release(1);
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!(out_of_sync(&world), [1, 1], "{host}\n{}", world.logs());
    }
}

/// D45, I25: with `pass_on` the peer serves what the own disk cannot, a verify or not.
#[test]
fn a_read_that_fails_during_a_verify_is_served_by_the_peer() {
    let mut world = differing(&[]);
    let options = Box::new(DiskOptions {
        c_plan_ahead_ds: 0,
        resync_rate_kib_s: 4 << 10,
        on_io_error: crate::config::options::OnIoError::PassOn,
        ..DiskOptions::default()
    });
    assert!(world.command(0, Command::ChangeDiskOptions { volume: VOLUME, options }).is_success());
    assert_eq!(verify(&mut world, 0, None, None), 1);
    run_to_the_middle(&mut world);
    world.hosts[0].fails = |_, op| matches!(op, DiskOp::Read { .. }).then_some(DiskFault::Os(5));
    assert_eq!(world.read(0, 10), 7, "{}", world.logs());
    assert!(world.hosts[0].state().contains("Inconsistent/UpToDate"), "{}", world.logs());
}
