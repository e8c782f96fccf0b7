use std::time::Duration;

use super::client::Wish;
use super::disk::SimDisk;
use super::random::Random;
use super::world::World;
use crate::config::options::{DiskOptions, NetOptions, ResourceOptions};
use crate::meta::layout::{Layout, Placement, Striping};
use crate::meta::superblock::Superblock;
use crate::node::command::Command;
use crate::units::VolumeId;

const VOLUME: VolumeId = VolumeId(0);
const DISK_BYTES: usize = 8 << 20;
const LIMIT: Duration = Duration::from_secs(30);

fn disk() -> SimDisk {
    let disk = SimDisk::zeroed("/dev/false", DISK_BYTES);
    let layout = Layout::new(Placement::Internal, DISK_BYTES as u64 / 512, Striping::DEFAULT).unwrap();
    disk.write_at(layout.superblock_byte(), &Superblock::just_created(4096).encode(&layout)).unwrap();
    disk
}

/// A pair that is connected and in sync, the first Primary.
fn synced(seed: u64) -> World {
    let mut world = World::new(seed);
    for host in [0, 1] {
        world.add_disk(host, 0, disk());
        world.new_resource(host, ResourceOptions::default());
        assert!(
            world.command(host, Command::NewMinor { volume: VOLUME, minor: 1 }, LIMIT).unwrap().is_success()
        );
        let attach = world.start_attach(host, VOLUME, DiskOptions::default()).unwrap();
        assert!(world.finish(&attach, LIMIT).unwrap().is_success());
        let (local, peer) = (world.address(host), world.address(1 - host));
        let options = Box::new(NetOptions::default());
        let connect = Command::Connect { local, peer, options, discard_my_data: false, tentative: false };
        assert!(world.command(host, connect, LIMIT).unwrap().is_success());
    }
    assert!(world.run_until(LIMIT, |world| states(world)[0].starts_with("Connected")));
    assert!(world.command(0, Command::Primary { volume: VOLUME, force: true }, LIMIT).unwrap().is_success());
    let in_sync = "Connected Primary/Secondary UpToDate/UpToDate";
    assert!(world.run_until(LIMIT * 10, |world| states(world)[0] == in_sync), "{:?}", states(&mut world));
    world
}

fn states(world: &mut World) -> [String; 2] {
    [0, 1].map(|host| {
        let status = world.status(host).unwrap();
        let v = &status.volumes[0];
        format!("{} {}/{} {}/{}", v.cstate, v.role, v.peer_role, v.disk, v.peer_disk)
    })
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
