//! Requests that wait, and bitmaps that wait for the network.

use super::*;

#[test]
fn requests_that_nobody_waits_for_never_begin() {
    let mut world = World::synced(plain());
    let begun = world.submit(0, write_of(1, 1));
    let queued = world.submit(0, write_of(1, 2));
    let behind = world.submit(0, write_of(1, 3));
    assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
    let parked = world.submit(0, write_of(2, 2));
    let flush = world.submit(0, Request::Flush);
    world.input(0, Input::Abandon([begun, queued, parked, flush].map(RequestId).into()));
    for id in [queued, parked, flush] {
        assert_eq!(world.reply(0, id), Some(Err(ReplyError::Shutdown)));
    }
    world.settle();
    assert_eq!((world.reply(0, begun), world.reply(0, behind)), (None, None), "held back");
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    world.settle();
    assert_eq!((world.reply(0, begun), world.reply(0, behind)), (Some(Ok(None)), Some(Ok(None))));
    assert_eq!((world.read(0, 1), world.read(0, 2)), (3, 0));
    world.assert_equal_disks();
}

#[test]
fn requests_held_back_keep_no_command_waiting() {
    let mut world = World::synced(plain());
    world.write(0, 2, 2); // The extent is hot: the next write there begins at once.
    let held = world.submit(0, write_of(1, 1));
    assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
    world.settle();
    let refused = world.command(0, Command::Secondary { volume: VOLUME });
    assert!(refused.code == -12 && refused.info[0].contains("resume-io"), "{refused:?}");
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
    assert_eq!(world.reply(0, held), None);
    assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
    assert_eq!(world.reply(0, held), Some(Ok(None)));
    assert_eq!(world.read(0, 1), 1, "from the peer");
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
}

#[test]
fn a_volume_that_is_given_up_or_removed_answers_those_who_wait() {
    for down in [true, false] {
        let mut world = World::synced(plain());
        assert!(world.command(0, Command::SuspendIo { volume: VOLUME }).is_success());
        let parked = [world.submit(0, write_of(1, 1)), world.submit(0, Request::Flush)];
        if down {
            let outcome = world.command(0, Command::Down);
            assert!(outcome.is_success(), "{outcome:?}");
        } else {
            assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
            assert!(world.command(0, Command::ResumeIo { volume: VOLUME }).is_success());
        }
        for id in parked {
            assert_eq!(world.reply(0, id), Some(Err(ReplyError::Shutdown)), "{}", world.logs());
        }
        world.settle();
        assert_eq!(world.hosts[1].disk[4096], 0);
    }
}

#[test]
fn the_bitmap_of_a_huge_device_is_sent_in_pieces_that_the_network_takes() {
    let mut options = plain();
    options.set("use-rle", Some("no")).expect("valid");
    let mut world = World::new(options);
    let layout = Layout::new(Placement::Flexible, DISK_BYTES as u64 / 512, Striping::DEFAULT).expect("valid");
    for host in 0..2 {
        world.command(host, Command::NewMinor { volume: VOLUME, minor: 1 });
        world.hosts[host].disk[..4096].copy_from_slice(&Superblock::just_created(4096).encode(&layout));
        world.hosts[host].meta_only = true;
        world.attach_disk(host, 64 << 30, MetaPlace::FlexExternal);
        world.command(host, Command::PauseSync { volume: VOLUME });
        world.connect(host);
    }
    world.settle();
    assert!(world.command(0, Command::Primary { volume: VOLUME, force: true }).is_success());
    world.settle();
    world.assert_states(
        "PausedSyncS Primary/Secondary UpToDate/Inconsistent",
        "PausedSyncT Secondary/Primary Inconsistent/UpToDate",
    );
    for host in &world.hosts {
        let volume = &host.node.status().volumes[0];
        assert_eq!(volume.counters.oos, volume.size_sectors / 2, "all bits are set");
        // 2 MiB of bitmap.
        assert!((4096..1 << 19).contains(&host.most_unsent), "{} bytes waited", host.most_unsent);
    }
}
