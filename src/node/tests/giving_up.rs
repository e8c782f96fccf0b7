//! Copies that are given up by order of an administrator, here or at the peer: the other one is durable before.

use super::durability::{is_answered, meta_cannot_be_written};
use super::*;
use crate::node::rules::StateResult;
use crate::node::state::{Conn, StateChange};
use crate::wire::StateWord;

fn invalidate() -> Command {
    Command::Invalidate { volume: VOLUME }
}

/// T38, I1: what the peer has only in a cache must not be all that is left.
#[test]
fn the_own_copy_is_given_up_only_when_the_peers_is_durable() {
    let commands = [invalidate(), Command::Detach { volume: VOLUME, force: false }];
    for command in commands {
        let mut world = World::synced(plain());
        world.hosts[1].keeps = flushes_data;
        world.write(0, 3, 7);
        world.input(0, Input::Command { id: CommandId(999), command: command.clone() });
        world.deliver_all();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        world.release(1);
        world.step_until(|world| world.hosts[0].outcomes.contains_key(&999));
        assert!(world.hosts[0].outcomes[&999].is_success(), "{command:?}\n{}", world.logs());
        assert_ne!(world.hosts[0].state(), IN_SYNC[0]);
        world.settle();
        assert_eq!(world.hosts[1].disk[3 * 4096], 7);
    }
}

/// T38, I1: the copy that stays is durable, with what its own node wrote to it, whoever orders the other one to be
/// given up.
#[test]
fn the_copy_that_stays_is_flushed_first() {
    let mut options = plain();
    options.set("allow-two-primaries", None).unwrap();
    let orders = [
        (0, invalidate()),
        (0, Command::Detach { volume: VOLUME, force: false }),
        (1, Command::InvalidateRemote { volume: VOLUME }),
    ];
    for (host, command) in orders {
        let mut world = World::synced(options.clone());
        assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
        world.write(1, 3, 7);
        let before = world.states();
        world.hosts[1].keeps = flushes_data;
        world.input(host, Input::Command { id: CommandId(999), command: command.clone() });
        world.deliver_all();
        assert!(!world.hosts[1].kept.is_empty(), "{command:?}\n{}", world.logs());
        assert_eq!(world.states(), before, "{command:?}");
        let late = world.submit(0, write_of(4, 8)); // The copy that stays would have it in a cache only.
        assert!(host == 1 || !is_answered(&mut world, late), "{command:?}");
        world.hosts[1].keeps = |_, _| false;
        world.release(1);
        world.settle();
        assert!(world.hosts[host].outcomes[&999].is_success(), "{command:?}\n{}", world.logs());
        assert_eq!(world.reply(0, late), Some(Ok(None)), "{}", world.logs());
        assert_eq!((world.hosts[1].disk[3 * 4096], world.hosts[1].disk[4 * 4096]), (7, 8));
    }
}

/// T38: a connection that ends while a copy is being made durable for the peer's sake leaves nothing closed.
#[test]
fn a_change_that_the_peer_has_asked_for_is_forgotten_with_the_connection() {
    let mut world = World::synced(plain());
    world.hosts[1].keeps = flushes_data;
    world.write(0, 3, 7);
    world.input(
        1,
        Input::Command { id: CommandId(999), command: Command::InvalidateRemote { volume: VOLUME } },
    );
    world.deliver_all();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.cut();
    world.hosts[1].keeps = |_, _| false;
    world.release(1);
    world.settle();
    world.write(0, 4, 8);
    assert_eq!(world.hosts[0].node.volumes[&VOLUME].gate, 0);
    world.join();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.assert_equal_disks();
}

/// X9, S66.5: the copy was given up, and no UUID tells: its disk does.
#[test]
fn a_copy_given_up_for_a_run_that_did_not_begin_is_made_anew() {
    let mut world = World::synced(plain());
    world.input(0, Input::Command { id: CommandId(999), command: invalidate() });
    world.step_until(|world| world.hosts[0].state().starts_with("WFSyncUUID"));
    let before = world.uuids(0);
    world.cut();
    assert_eq!(world.hosts[0].state(), "WFConnection Primary/Unknown Inconsistent/DUnknown");
    assert_eq!(world.uuids(0), before, "the sync UUID has arrived");
    world.join();
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    assert_eq!([world.bits(0), world.bits(1)], [0, 0], "{}", world.logs());
}

/// T38: a disk that cannot be made durable is not the one that stays.
#[test]
fn no_copy_is_given_up_for_one_that_cannot_be_flushed() {
    let mut world = World::synced(plain());
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success());
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.write(1, 3, 7);
    world.hosts[1].fails = |device, op| flushes_data(device, op).then_some(DiskFault::Os(5));
    let outcome = world.command(0, invalidate());
    assert_ne!(outcome.code, StateResult::Success.code(), "{}", world.logs());
    world.settle();
    assert!(world.hosts[0].state().contains(" UpToDate/Diskless"), "{}", world.hosts[0].state());
    assert_eq!(world.read(1, 3), 7);
}

/// W196a: a peer that asks for something else has given up the first.
#[test]
fn requests_of_the_peer_are_answered_in_their_order() {
    let mut world = World::synced(plain());
    world.hosts[1].keeps = flushes_data;
    world.write(0, 3, 7);
    let (mask, value) = StateChange::conn(Conn::StartingSyncT).to_words();
    let request = Packet::StateChgReq { mask: StateWord(mask), value: StateWord(value) };
    world.hosts[1].said.clear();
    for _ in 0..2 {
        world.hear(1, false, request.clone(), None);
    }
    let answers = |world: &World| {
        let code =
            |packet: &Packet| if let Packet::StateChgReply(code) = packet { Some(*code) } else { None };
        world.hosts[1].said.iter().filter_map(code).collect::<Vec<i32>>()
    };
    assert_eq!(answers(&world), [StateResult::InTransientState.code()]);
    world.release(1);
    world.hosts[1].keeps = |_, _| false;
    world.deliver_all();
    assert_eq!(answers(&world), [StateResult::InTransientState.code(), StateResult::Success.code()]);
}

/// S18: both nodes want to be the target; neither waits for ever, and one of them at least has its way.
#[test]
fn two_nodes_that_both_give_their_copy_up_come_to_an_end() {
    let mut world = World::synced(plain());
    world.write(0, 3, 7);
    for host in 0..2 {
        world.input(host, Input::Command { id: CommandId(999), command: invalidate() });
    }
    world.settle();
    let outcomes = [0, 1].map(|host| world.hosts[host].outcomes[&999].is_success());
    assert!(outcomes.contains(&true), "{outcomes:?}\n{}", world.logs());
    world.assert_states(IN_SYNC[0], IN_SYNC[1]);
    world.write(0, 4, 8);
    world.assert_equal_disks();
}

/// S37, Z6: the peer did not know that this disk went and comes back without its last writes, when it gave its own
/// copy up for it.
#[test]
fn nothing_is_given_up_for_a_disk_that_negotiates() {
    for conn in [Conn::StartingSyncS, Conn::StartingSyncT, Conn::VerifyT] {
        let mut world = World::synced(plain());
        assert!(world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success());
        world.write(0, 3, 7);
        world.settle();
        world.hold(1, true);
        world.begin_attach(0, 999);
        world.step_until(|world| world.hosts[0].state().contains("Negotiating/"));
        let (mask, value) = StateChange::conn(conn).mirrored().to_words();
        let request = Packet::StateChgReq { mask: StateWord(mask), value: StateWord(value) };
        world.hear(0, false, request, None);
        assert!(world.hosts[0].state().contains("Negotiating/"), "{conn:?}\n{}", world.logs());
        world.hold(1, false);
        world.settle();
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!(world.hosts[0].disk[3 * 4096], 7, "{conn:?}");
        world.assert_equal_disks();
    }
}

/// I3: two administrators at the same moment; the copy that stays is not the one that is just gone.
#[test]
fn no_copy_is_given_up_for_a_disk_that_fails() {
    let mut world = World::synced(plain());
    world.hold(0, true);
    world.input(1, Input::Command { id: CommandId(999), command: invalidate() });
    world.deliver_all();
    let detach = Command::Detach { volume: VOLUME, force: true };
    world.hosts[0].keeps = writes_data;
    world.submit(0, write_of(3, 7)); // The disk is Failed until that has ended.
    world.input(0, Input::Command { id: CommandId(998), command: detach });
    assert!(world.hosts[0].state().contains(" Failed/"), "{}", world.logs());
    world.hosts[1].ends.values_mut().for_each(|end| end.held = true);
    world.hold(0, false);
    world.deliver_all();
    let consents = |packet: &Packet| matches!(packet, Packet::StateChgReply(code) if *code >= 1);
    assert!(!world.hosts[0].said.iter().any(consents), "{:?}", world.hosts[0].said);
    world.hold(1, false);
    world.release(0);
    world.settle();
    assert!(world.hosts[1].state().contains(" UpToDate/"), "{}", world.logs());
}

/// Node 1 gives its disk up at once, and node 0 does not hear of it.
pub(super) fn peer_detaches_unheard(world: &mut World) {
    let data = world.hosts[0].node.link().data.expect("connected");
    world.hosts[0].ends.get_mut(&data).expect("open").held = true;
    assert!(world.command(1, Command::Detach { volume: VOLUME, force: true }).is_success());
    assert_eq!(world.hosts[0].state(), IN_SYNC[0]);
}

/// T17, T21, I3: the peer's disk is gone, or has refused a write, whatever it is called here.
#[test]
fn no_copy_is_given_up_for_a_disk_that_is_no_copy() {
    for command in [invalidate(), Command::Detach { volume: VOLUME, force: false }] {
        let mut world = World::synced(plain());
        peer_detaches_unheard(&mut world);
        world.write(0, 3, 7);
        assert_eq!(world.hosts[0].state(), IN_SYNC[0]);
        let outcome = world.command(0, command.clone());
        assert_eq!(outcome.code, StateResult::NoUpToDateDisk.code(), "{command:?}\n{}", world.logs());
        assert!(world.hosts[0].state().contains(" UpToDate/"), "{}", world.logs());
    }
}

/// The peer knows it, though nothing was written yet.
#[test]
fn a_node_without_a_disk_does_not_agree_that_the_primary_gives_up_its_own() {
    let mut world = World::synced(plain());
    peer_detaches_unheard(&mut world);
    let outcome = world.command(0, Command::Detach { volume: VOLUME, force: false });
    assert_eq!(outcome.code, StateResult::CwFailedByPeer.code(), "{}", world.logs());
    assert_eq!(world.hosts[0].state(), IN_SYNC[0]);
}

/// C11, A9: the disk that comes back is older than what its Primary wrote through the peer, which has not noted that
/// yet.
#[test]
fn a_disk_that_comes_back_meets_the_generation_that_is_due() {
    for fails in [true, false] {
        let mut world = World::synced(plain());
        world.write(0, 3, 1); // Something for node 1 to flush.
        world.hosts[1].keeps = flushes_data;
        world.input(1, Input::Command { id: CommandId(999), command: invalidate() }); // Its worker stands still.
        assert!(world.command(0, Command::Detach { volume: VOLUME, force: true }).is_success());
        world.deliver_all();
        let late = world.submit(0, write_of(4, 8)); // Only node 1 will ever have it.
        if fails {
            world.hosts[0].fails = meta_cannot_be_written;
        }
        world.begin_attach(0, 998);
        world.deliver_all();
        assert!(world.hosts[1].state().contains(" UpToDate/"), "{}", world.logs());
        world.hosts[0].fails = |_, _| None;
        world.release(1);
        world.settle();
        assert_eq!(world.reply(0, late), Some(Ok(None)), "{}", world.logs());
        if fails {
            world.begin_attach(0, 997);
            world.settle();
        }
        let logs = world.logs();
        assert!(!logs.contains("rule 41") && !logs.contains("ProtocolError"), "{logs}");
        world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        assert_eq!(world.hosts[0].disk[4 * 4096], 8);
        world.assert_equal_disks();
    }
}

/// W196, I3: the node that asked hears first that the other one's disk is gone, and keeps its copy; which the other one
/// has given up already, by its own word.
#[test]
fn a_full_sync_that_was_agreed_on_and_is_not_made_leaves_no_doubt_about_the_copy() {
    let mut world = World::synced(plain());
    let meta = world.hosts[1].node.link().meta.unwrap();
    world.hosts[1].ends.get_mut(&meta).unwrap().held = true;
    world.input(1, Input::Command { id: CommandId(900), command: Command::Invalidate { volume: VOLUME } });
    world.deliver_all();
    assert!(world.command(0, Command::Detach { volume: VOLUME, force: true }).is_success());
    world.deliver_all();
    world.hold(1, false);
    world.settle();
    world.assert_states(
        "Connected Primary/Secondary Diskless/UpToDate",
        "Connected Secondary/Primary UpToDate/Diskless",
    );
    assert_eq!(world.read(0, 0), world.hosts[1].disk[0], "{}", world.logs());
    let detached = world.command(1, Command::Detach { volume: VOLUME, force: false });
    assert!(!detached.is_success(), "{}", world.logs());
}
