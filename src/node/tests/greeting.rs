//! A peer that is quicker than the work this node has to do before it introduces itself.

use super::*;
use crate::node::greeting::Greeting;
use crate::node::link::Phase;

/// Host 0 has work that its disk does not end, and looks for its peer.
fn busy(options: NetOptions) -> World {
    let mut world = World::new(options);
    for host in 0..2 {
        world.command(host, Command::NewMinor { volume: VOLUME, minor: 1 });
        world.attach(host);
    }
    world.connect(0);
    world.hosts[0].keeps = |device, _| device == Device::Meta;
    let command = Command::Primary { volume: VOLUME, force: true };
    world.input(0, Input::Command { id: CommandId(99), command });
    assert!(!world.hosts[0].kept.is_empty());
    world
}

#[test]
fn a_peer_that_introduces_itself_first_is_listened_to_later() {
    for options in [plain(), authenticated()] {
        let mut world = busy(options);
        world.connect(1);
        world.step_until(|world| world.hosts[0].log.iter().any(|line| line.starts_with("agreed on")));
        for _ in 0..20 {
            world.step();
        }
        world.release(0);
        world.settle();
        world.assert_states(
            "Connected Primary/Secondary UpToDate/UpToDate",
            "Connected Secondary/Primary UpToDate/UpToDate",
        );
        let once = |host: &Host| host.log.iter().filter(|line| line.starts_with("agreed on")).count() == 1;
        assert!(world.hosts.iter().all(once), "they met once\n{}", world.logs());
    }
}

#[test]
fn an_introduction_is_for_the_peer_that_was_authenticated() {
    let mut world = busy(authenticated());
    world.connect(1);
    let knows = |world: &World| world.hosts[0].log.iter().any(|line| line.starts_with("the peer knows"));
    world.step_until(knows);
    world.cut();
    assert!(world.command(1, Command::Disconnect { force: true }).is_success());
    world.options.set("shared-secret", Some("guessed")).unwrap();
    world.cut = false;
    world.connect(1);
    world.step_until(|world| matches!(world.hosts[0].node.link().phase, Phase::Greeting(Greeting { .. })));
    world.release(0);
    world.deliver(0);
    assert!(!matches!(world.hosts[0].node.link().phase, Phase::Up), "{}", world.logs());
    world.settle();
    world.assert_states(
        "StandAlone Primary/Unknown UpToDate/DUnknown",
        "StandAlone Secondary/Unknown Inconsistent/DUnknown",
    );
}
