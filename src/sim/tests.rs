use std::time::Duration;

use super::chaos::{apply_al, create_md};
use super::client::{Client, Wish};
use super::disk::SimDisk;
use super::events::HostId;
use super::random::Random;
use super::world::World;
use crate::config::options::{DiskOptions, NetOptions, ResourceOptions};
use crate::node::command::{Command, Outcome};
use crate::units::VolumeId;

const VOLUME: VolumeId = VolumeId(0);
const DISK_BYTES: usize = 8 << 20;
const LIMIT: Duration = Duration::from_secs(30);

fn disk() -> SimDisk {
    let disk = SimDisk::zeroed("/dev/false", DISK_BYTES);
    create_md(&disk);
    disk
}

fn net_options() -> NetOptions {
    let mut options = NetOptions::default();
    options.set("verify-alg", Some("crc32c")).unwrap();
    options
}

/// A pair that is connected and in sync, the first Primary.
fn synced(seed: u64) -> World {
    synced_volumes(seed, 1, &DiskOptions::default())
}

/// The same with so many volumes.
fn synced_volumes(seed: u64, volumes: u16, disk_options: &DiskOptions) -> World {
    let mut world = World::new(seed);
    for host in [0, 1] {
        world.new_resource(host, ResourceOptions::default());
        for volume in 0..volumes {
            world.add_disk(host, volume, disk());
            let (volume, minor) = (VolumeId(volume), u32::from(volume) + 1);
            command(&mut world, host, Command::NewMinor { volume, minor });
            let attach = world.start_attach(host, volume, disk_options.clone()).unwrap();
            assert!(world.finish(&attach, LIMIT).unwrap().is_success());
        }
        let (local, peer) = (world.address(host), world.address(1 - host));
        let options = Box::new(net_options());
        let connect = Command::Connect { local, peer, options, discard_my_data: false, tentative: false };
        command(&mut world, host, connect);
    }
    assert!(world.run_until(LIMIT, |world| states(world)[0].starts_with("Connected")));
    for volume in 0..volumes {
        command(&mut world, 0, Command::Primary { volume: VolumeId(volume), force: true });
    }
    for volume in 0..volumes {
        reaches(&mut world, VolumeId(volume), IN_SYNC);
    }
    world
}

const IN_SYNC: [&str; 2] =
    ["Connected Primary/Secondary UpToDate/UpToDate", "Connected Secondary/Primary UpToDate/UpToDate"];

#[track_caller]
fn command(world: &mut World, host: HostId, command: Command) {
    let outcome = world.command(host, command, LIMIT);
    assert!(outcome.as_ref().is_some_and(Outcome::is_success), "{outcome:?}");
}

/// Waits until both nodes show the volume like that.
#[track_caller]
fn reaches(world: &mut World, volume: VolumeId, expected: [&str; 2]) {
    let there = world.run_until(LIMIT * 10, |world| states_of(world, volume) == expected);
    assert!(there, "{:?}, not {expected:?}", states_of(world, volume));
}

fn states(world: &mut World) -> [String; 2] {
    states_of(world, VOLUME)
}

fn states_of(world: &mut World, volume: VolumeId) -> [String; 2] {
    [0, 1].map(|host| {
        let status = world.status(host).unwrap();
        let v = &status.volumes[usize::from(volume.0)];
        format!("{} {}/{} {}/{}", v.cstate, v.role, v.peer_role, v.disk, v.peer_disk)
    })
}

/// Starts a write of one block of these bytes.
fn write(world: &mut World, client: &mut Client, block: u64, byte: u8) -> u64 {
    world.ask(client, Wish::Write { offset: block * 4096, data: &[byte; 4096] })
}

fn uuids(world: &mut World, host: HostId) -> Vec<[u64; 4]> {
    world.status(host).unwrap().volumes.iter().map(|v| v.uuids).collect()
}

#[test]
fn a_write_of_an_nbd_client_is_on_both_disks_when_it_is_answered() {
    let mut world = synced(1);
    let mut client = world.open(0, VOLUME).unwrap();
    let mut data = vec![0; 300_000 / 512 * 512];
    Random::new(7).fill(&mut data);
    let cookie = world.ask(&mut client, Wish::Write { offset: 4096, data: &data });
    assert_eq!(world.answer(&mut client, cookie, LIMIT).unwrap().error, 0);
    for host in [0, 1] {
        let mut there = vec![0; data.len()];
        world.disk(host, 0).unwrap().read_at(4096, &mut there).unwrap();
        assert!(there == data, "machine {host}");
    }
    let cookie = world.ask(&mut client, Wish::Read { offset: 4096, len: data.len() as u32 });
    assert!(world.answer(&mut client, cookie, LIMIT).unwrap().data == data);
    let cookie = world.ask(&mut client, Wish::Flush);
    assert_eq!(world.answer(&mut client, cookie, LIMIT).unwrap().error, 0);
}

#[test]
fn nodes_notice_a_link_that_drops_everything_and_meet_again_when_it_is_whole() {
    let mut world = synced(2);
    world.cut();
    world.run_for(Duration::from_secs(60));
    assert_eq!(
        states(&mut world),
        [
            "WFConnection Primary/Unknown UpToDate/DUnknown",
            "WFConnection Secondary/Unknown UpToDate/DUnknown"
        ]
    );
    world.join();
    let together = "Connected Primary/Secondary UpToDate/UpToDate";
    assert!(world.run_until(LIMIT * 2, |world| states(world)[0] == together), "{:?}", states(&mut world));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = synced(seed);
        world.cut();
        world.run_for(Duration::from_secs(60));
        world.join();
        world.run_for(Duration::from_secs(60));
        let uuids = [0, 1].map(|host| world.status(host).unwrap().volumes[0].uuids);
        (uuids, world.changed_at(), states(&mut world))
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).0, run(4).0);
}

#[test]
fn a_crashed_machine_says_nothing_and_one_that_is_back_resets_old_connections() {
    let mut world = synced(5);
    world.crash(1);
    assert!(!world.is_up(1) && !world.has_resource(1));
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.status(0).unwrap().volumes[0].cstate, "Connected", "nobody knows yet");
    world.boot(1);
    world.run_for(Duration::from_secs(12));
    assert_eq!(world.status(0).unwrap().volumes[0].cstate, "WFConnection");
}

/// A Primary without its peer waits until that is fenced.
fn stonith() -> DiskOptions {
    let mut options = DiskOptions::default();
    options.set("fencing", Some("resource-and-stonith")).unwrap();
    options
}

/// Both volumes are in sync, and hold these bytes in this block on both machines.
#[track_caller]
fn reach_with(world: &mut World, number: u64, byte: u8) {
    for volume in [0, 1] {
        reaches(world, VolumeId(volume), IN_SYNC);
        let blocks = [0, 1].map(|host| {
            let mut block = [0; 4096];
            world.disk(host, volume).unwrap().read_at(number * 4096, &mut block).unwrap();
            block
        });
        assert!(blocks == [[byte; 4096]; 2], "volume {volume}");
    }
}

#[test]
fn all_volumes_of_a_fencing_primary_are_frozen_and_go_on_with_a_generation_of_their_own() {
    let options = stonith();
    let mut world = synced_volumes(1, 2, &options);
    world.set_exit(0, "fence-peer", 7);
    let mut clients = [0, 1].map(|volume| world.open(0, VolumeId(volume)).unwrap());
    let before = uuids(&mut world, 0);
    world.take_handler_calls(0);
    world.cut();
    let cookies = clients.each_mut().map(|client| write(&mut world, client, 5, 7));
    for (client, cookie) in clients.iter_mut().zip(cookies) {
        assert_eq!(world.answer(client, cookie, LIMIT * 4).unwrap().error, 0);
    }
    // One handler, for the resource; a new generation for each volume.
    let calls: Vec<_> =
        world.take_handler_calls(0).into_iter().map(|call| (call.name, call.volume)).collect();
    assert_eq!(calls, [("fence-peer", None)]);
    let after = uuids(&mut world, 0);
    for (volume, (before, after)) in before.into_iter().zip(after).enumerate() {
        assert!(after[0] != before[0] && after[1] == before[0], "volume {volume}: {before:x?} {after:x?}");
    }
    let alone = "WFConnection Primary/Unknown UpToDate/Outdated";
    assert_eq!([0, 1].map(|volume| states_of(&mut world, VolumeId(volume))[0].clone()), [alone; 2]);
    world.join();
    reach_with(&mut world, 5, 7);
}

/// T28: epochs are of the connection. A barrier is acked when the disks of all volumes are flushed: the flush of one
/// volume's client waits for the other volume's slow disk.
#[test]
fn a_barrier_waits_for_the_disks_of_all_volumes() {
    let mut world = synced_volumes(4, 2, &DiskOptions::default());
    let mut clients = [0, 1].map(|volume| world.open(0, VolumeId(volume)).unwrap());
    // Of one epoch: asked for together.
    let cookies = clients.each_mut().map(|client| write(&mut world, client, 5, 7));
    for (client, cookie) in clients.iter_mut().zip(cookies) {
        assert_eq!(world.answer(client, cookie, LIMIT).unwrap().error, 0);
    }
    let slow = world.disk(1, 1).unwrap();
    let until = world.now().after(Duration::from_secs(1));
    slow.data().stall(until);
    let cookie = world.ask(&mut clients[0], Wish::Flush);
    assert_eq!(world.answer(&mut clients[0], cookie, LIMIT).unwrap().error, 0);
    assert!(world.now() >= until, "the other volume was not flushed");
    for host in [0, 1] {
        world.lose_power(host, true);
    }
    let mut block = [0; 4096];
    slow.read_at(5 * 4096, &mut block).unwrap();
    assert!(block == [7; 4096], "of volume 1 on the peer");
}

#[test]
fn a_primary_of_one_volume_that_cannot_fence_waits_with_all_of_them() {
    let options = stonith();
    let mut world = synced_volumes(2, 2, &options);
    world.set_exit(0, "fence-peer", 1);
    command(&mut world, 0, Command::Secondary { volume: VolumeId(1) });
    let mut client = world.open(0, VOLUME).unwrap();
    let before = uuids(&mut world, 0);
    world.cut();
    let cookie = write(&mut world, &mut client, 5, 7);
    assert!(world.answer(&mut client, cookie, LIMIT).is_none(), "a frozen write was answered");
    assert_eq!(world.status(0).unwrap().suspended, ["fencing"]);
    world.join();
    assert_eq!(world.answer(&mut client, cookie, LIMIT).unwrap().error, 0);
    assert_eq!(uuids(&mut world, 0), before, "nothing happened that needs a new generation");
    let mixed = ["Connected Secondary/Secondary UpToDate/UpToDate"; 2];
    reaches(&mut world, VOLUME, IN_SYNC);
    reaches(&mut world, VolumeId(1), mixed);
}

/// S46: the suspension is that of all volumes, and so are the generations that it held back.
#[test]
fn resume_io_makes_the_generations_of_all_volumes() {
    let mut world = synced_volumes(5, 2, &DiskOptions::default());
    let mut clients = [0, 1].map(|volume| world.open(0, VolumeId(volume)).unwrap());
    let before = uuids(&mut world, 0);
    command(&mut world, 0, Command::SuspendIo { volume: VOLUME });
    world.cut();
    let cookies = clients.each_mut().map(|client| write(&mut world, client, 5, 7));
    let alone = |world: &mut World| states(world)[0].starts_with("WFConnection");
    assert!(world.run_until(LIMIT, alone), "{:?}", states(&mut world));
    assert_eq!(uuids(&mut world, 0), before, "it is due, and not made");
    command(&mut world, 0, Command::ResumeIo { volume: VOLUME });
    for (client, cookie) in clients.iter_mut().zip(cookies) {
        assert_eq!(world.answer(client, cookie, LIMIT).unwrap().error, 0);
    }
    let after = uuids(&mut world, 0);
    assert!(before.iter().zip(&after).all(|(before, after)| before[0] != after[0]), "{after:x?}");
}

/// S32.10, I18: the peer is back with a disk of which nobody knows what it has; the log is of all volumes, also of the one that
/// was connected already.
#[test]
fn a_thaw_that_is_refused_for_one_volume_leaves_no_other_one_different() {
    let options = stonith();
    let mut world = synced_volumes(7, 2, &options);
    world.set_exit(0, "fence-peer", 1);
    let mut clients = [0, 1].map(|volume| world.open(0, VolumeId(volume)).unwrap());
    world.cut();
    let cookies = clients.each_mut().map(|client| write(&mut world, client, 5, 7));
    let parted = |world: &mut World| states(world).iter().all(|state| state.starts_with("WFConnection"));
    assert!(world.run_until(LIMIT, parted), "{:?}", states(&mut world));
    command(&mut world, 1, Command::Detach { volume: VolumeId(1), force: true });
    apply_al(&world.disk(1, 1).unwrap()).unwrap();
    let attach = world.start_attach(1, VolumeId(1), options).unwrap();
    assert!(world.finish(&attach, LIMIT).unwrap().is_success());
    world.join();
    for (client, cookie) in clients.iter_mut().zip(cookies) {
        assert_eq!(world.answer(client, cookie, LIMIT).unwrap().error, 0);
    }
    reach_with(&mut world, 5, 7);
}

/// A4, A5: one volume has its data at the peer, and the other one gets its own disk back.
#[test]
fn io_that_had_no_data_goes_on_when_each_volume_has_some_again() {
    let mut world = synced_volumes(6, 2, &DiskOptions::default());
    let mut options = ResourceOptions::default();
    options.set("on-no-data-accessible", Some("suspend-io")).unwrap();
    command(&mut world, 0, Command::ChangeResourceOptions { options: Box::new(options) });
    let mut client = world.open(0, VOLUME).unwrap();
    let detach = |volume, force| Command::Detach { volume: VolumeId(volume), force };
    command(&mut world, 0, detach(1, false));
    command(&mut world, 1, detach(0, true));
    command(&mut world, 0, detach(0, true));
    let cookie = write(&mut world, &mut client, 5, 7);
    assert!(world.answer(&mut client, cookie, LIMIT).is_none(), "no disk has it");
    assert_eq!(world.status(0).unwrap().suspended, ["no-data"]);
    apply_al(&world.disk(0, 0).unwrap()).unwrap();
    let attach = world.start_attach(0, VOLUME, DiskOptions::default()).unwrap();
    let attached = world.finish(&attach, LIMIT).unwrap();
    assert!(attached.is_success(), "{attached:?}");
    assert_eq!(world.answer(&mut client, cookie, LIMIT).unwrap().error, 0, "{:?}", states(&mut world));
}

#[test]
fn a_split_brain_of_one_volume_keeps_the_whole_resource_apart() {
    let mut world = synced_volumes(3, 2, &DiskOptions::default());
    world.cut();
    let parted = |world: &mut World| states(world).iter().all(|state| state.starts_with("WFConnection"));
    assert!(world.run_until(LIMIT, parted));
    command(&mut world, 1, Command::Primary { volume: VolumeId(1), force: false });
    for host in [0, 1] {
        world.take_handler_calls(host);
    }
    world.join();
    let alone = |world: &mut World| states(world).iter().any(|state| state.starts_with("StandAlone"));
    assert!(world.run_until(LIMIT, alone), "{:?}", states(&mut world));
    let calls: Vec<_> = [0, 1]
        .into_iter()
        .flat_map(|host| world.take_handler_calls(host))
        .map(|c| (c.name, c.volume))
        .collect();
    assert!(calls.contains(&("split-brain", Some(VolumeId(1)))), "{calls:?}");
    assert!(!calls.iter().any(|(_, volume)| *volume == Some(VOLUME)), "{calls:?}");
}

/// A block of a machine's disk.
fn block(world: &World, host: HostId, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    world.disk(host, 0).unwrap().read_at(number * 4096, &mut bytes).unwrap();
    bytes
}

fn written(world: &mut World, host: HostId, blocks: std::ops::Range<u64>, byte: u8) {
    let mut client = world.open(host, VOLUME).unwrap();
    for number in blocks {
        let cookie = write(world, &mut client, number, byte);
        assert_eq!(world.answer(&mut client, cookie, LIMIT).unwrap().error, 0);
    }
    world.close(&client);
}

/// A split brain: the first wrote 1 to blocks 0 to 39, the second 2 to blocks 20 to 59. The second is to
/// give up what it has, and looks for the first.
fn split_brain(seed: u64) -> World {
    let mut world = synced(seed);
    world.cut();
    let parted = |world: &mut World| states(world).iter().all(|state| state.starts_with("WFConnection"));
    assert!(world.run_until(LIMIT, parted));
    command(&mut world, 1, Command::Primary { volume: VOLUME, force: false });
    written(&mut world, 0, 0..40, 1);
    written(&mut world, 1, 20..60, 2);
    world.run_for(Duration::from_millis(10));
    command(&mut world, 1, Command::Secondary { volume: VOLUME });
    command(&mut world, 1, Command::Disconnect { force: true });
    connect(&mut world, 1, true);
    world
}

fn connect(world: &mut World, host: HostId, discard_my_data: bool) {
    let (local, peer) = (world.address(host), world.address(1 - host));
    let options = Box::new(net_options());
    command(world, host, Command::Connect { local, peer, options, discard_my_data, tentative: false });
}

/// Everything that the second node alone had is kept as it was.
#[track_caller]
fn assert_kept(world: &World) {
    let kept = world.kept(1);
    assert!(!kept.is_missing(VOLUME));
    assert_eq!(kept.count(), 40);
    assert!((20..60).all(|number| kept.block(VOLUME, number).unwrap() == [2; 4096]));
}

#[test]
fn what_the_loser_of_a_split_brain_alone_had_is_kept_before_it_is_overwritten() {
    let mut world = split_brain(7);
    let mut client = world.open(0, VOLUME).unwrap();
    world.join();
    // The winner goes on writing to blocks that the loser has not kept yet.
    for number in (20..60).rev() {
        let cookie = write(&mut world, &mut client, number, 3);
        assert_eq!(world.answer(&mut client, cookie, LIMIT).unwrap().error, 0);
    }
    reaches(&mut world, VOLUME, IN_SYNC);
    assert_kept(&world);
    assert!((20..60).all(|number| block(&world, 1, number) == [3; 4096]));
}

#[test]
fn keeping_goes_on_after_a_crash_in_the_middle() {
    let mut met = 0;
    for delay_us in (0..12_000).step_by(600) {
        let mut world = split_brain(8);
        world.join();
        let asked = |world: &mut World| world.kept(1).is_missing(VOLUME);
        assert!(world.run_until(LIMIT, asked), "{:?}", states(&mut world));
        world.run_for(Duration::from_micros(delay_us));
        met += u32::from(world.kept(1).is_missing(VOLUME));
        world.crash(1);
        world.boot(1);
        world.new_resource(1, ResourceOptions::default());
        command(&mut world, 1, Command::NewMinor { volume: VOLUME, minor: 1 });
        super::chaos::apply_al(&world.disk(1, 0).unwrap()).unwrap();
        let attach = world.start_attach(1, VOLUME, DiskOptions::default()).unwrap();
        assert!(world.finish(&attach, LIMIT).unwrap().is_success());
        connect(&mut world, 1, true);
        reaches(&mut world, VOLUME, IN_SYNC);
        assert_kept(&world);
        assert!((40..60).all(|number| block(&world, 1, number) == block(&world, 0, number)));
    }
    assert!(met > 2, "the crash came too late");
}

#[test]
fn without_room_the_data_are_discarded_all_the_same() {
    let mut world = split_brain(9);
    world.kept_mut(1).full = true;
    world.join();
    reaches(&mut world, VOLUME, IN_SYNC);
    assert_eq!(world.kept(1).count(), 0);
}

#[test]
fn an_ordinary_resync_keeps_nothing() {
    let mut world = synced(10);
    world.cut();
    let parted = |world: &mut World| states(world).iter().all(|state| state.starts_with("WFConnection"));
    assert!(world.run_until(LIMIT, parted));
    written(&mut world, 0, 0..40, 1);
    world.join();
    reaches(&mut world, VOLUME, IN_SYNC);
    assert_eq!(world.kept(1).count(), 0);
}

#[test]
fn a_file_left_unfinished_takes_nothing_of_a_later_generation() {
    let mut world = split_brain(8);
    world.join();
    let asked = |world: &mut World| world.kept(1).is_missing(VOLUME);
    assert!(world.run_until(LIMIT, asked));
    // The loser stops in the middle, and its administrator takes the other choice after all.
    world.crash(1);
    world.boot(1);
    assert!(world.kept(1).is_missing(VOLUME), "crash came too late");
    world.new_resource(1, ResourceOptions::default());
    command(&mut world, 1, Command::NewMinor { volume: VOLUME, minor: 1 });
    super::chaos::apply_al(&world.disk(1, 0).unwrap()).unwrap();
    let attach = world.start_attach(1, VOLUME, DiskOptions::default()).unwrap();
    assert!(world.finish(&attach, LIMIT).unwrap().is_success());
    command(&mut world, 1, Command::Primary { volume: VOLUME, force: true });
    written(&mut world, 1, 20..60, 4);
    world.run_for(Duration::from_millis(10));
    command(&mut world, 1, Command::Secondary { volume: VOLUME });
    command(&mut world, 0, Command::Secondary { volume: VOLUME });
    command(&mut world, 0, Command::Disconnect { force: true });
    connect(&mut world, 0, true);
    connect(&mut world, 1, false);
    let both = ["Connected Secondary/Secondary UpToDate/UpToDate"; 2];
    reaches(&mut world, VOLUME, both);
    command(&mut world, 0, Command::Primary { volume: VOLUME, force: false });
    world.cut();
    assert!(world.run_until(LIMIT, |world| states(world).iter().all(|s| s.starts_with("WFConnection"))));
    written(&mut world, 0, 0..10, 5);
    world.join();
    reaches(&mut world, VOLUME, IN_SYNC);
    let wrong: Vec<u64> =
        (20..60).filter(|n| world.kept(1).block(VOLUME, *n).is_some_and(|b| b != [2; 4096])).collect();
    assert!(wrong.is_empty(), "blocks of a later generation in the kept file: {wrong:?}");
}

#[test]
fn a_verify_finds_what_a_disk_lost_and_a_reconnect_brings_it_back() {
    for asker in [0, 1] {
        let mut world = synced(30 + asker as u64);
        let mut client = world.open(0, VOLUME).unwrap();
        for block in 0..8 {
            let cookie = write(&mut world, &mut client, block, 7);
            assert_eq!(world.answer(&mut client, cookie, LIMIT).unwrap().error, 0);
        }
        for block in [2, 3, 700] {
            world.disk(1, 0).unwrap().write_at(block * 4096 + 512, &[0x55; 512]).unwrap();
        }
        command(&mut world, asker, Command::Verify { volume: VOLUME, start: None, stop: None });
        // The client goes on writing elsewhere.
        let cookies: Vec<u64> = (100..140).map(|block| write(&mut world, &mut client, block, 9)).collect();
        for cookie in cookies {
            assert_eq!(world.answer(&mut client, cookie, LIMIT).unwrap().error, 0);
        }
        reaches(&mut world, VOLUME, IN_SYNC);
        for host in [0, 1] {
            assert_eq!(world.status(host).unwrap().volumes[0].counters.oos, 12, "node {host}");
            let calls = world.take_handler_calls(host);
            assert!(calls.iter().any(|call| call.name == "out-of-sync"), "{calls:?}");
        }
        command(&mut world, 0, Command::Disconnect { force: false });
        connect(&mut world, 0, false);
        let healed = |world: &mut World| {
            states(world) == IN_SYNC
                && [0, 1].map(|h| world.status(h).unwrap().volumes[0].counters.oos) == [0, 0]
        };
        assert!(world.run_until(LIMIT * 10, healed), "{:?}", states(&mut world));
        for block in [2_u64, 3, 700] {
            let [mut a, mut b] = [[0; 4096]; 2];
            world.disk(0, 0).unwrap().read_at(block * 4096, &mut a).unwrap();
            world.disk(1, 0).unwrap().read_at(block * 4096, &mut b).unwrap();
            assert!(a == b, "block {block}");
        }
    }
}
