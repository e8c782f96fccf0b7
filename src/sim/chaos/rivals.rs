//! Courses in which writes of two Primaries to the same sectors meet (datapath.md section 11), and the link, a disk or both
//! programs are lost then.

use super::super::events::HostId;
use super::cues::Cue;
use super::plan::{Action, Admin};
use super::script::{Gap, Script};
use super::setup::Setup;
use super::workload::{Asked, Taste};
use crate::node::steps::Step;

/// D179, I26: a write of one of two Primaries is frozen, and done at the peer, which loses the link and its disk and writes
/// there again.
pub(super) fn frozen_under_a_later_one(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.volumes = 1;
    setup.be_two_primaries();
    let (primary, other) = (script.primary, script.other);
    promote_the_other(script);
    script.clients_write(&[Taste::OnePlace]);
    script.slow(primary);
    script.wait(Cue::Writing(primary), 200);
    script.pause(20);
    script.admin(Gap::Now, primary, Admin::SuspendIo);
    script.wait(Cue::Frozen(primary), 300);
    for _ in 0..2 + script.way(6) {
        script.wait(Cue::Answered(Asked::Write), 300); // The peer writes over it.
    }
    if script.way(3) > 0 {
        script.admin(Gap::Now, other, Admin::Detach { force: true });
        script.wait(Cue::Unfit(other), 300);
    }
    script.act(Gap::Later, Action::Break);
    script.wait(Cue::Lonely(other), 3_000);
    for _ in 0..1 + script.way(4) {
        script.wait(Cue::Answered(Asked::Write), 2_000);
    }
    script.clients(&[Taste::Nothing, Taste::All]);
    script.admin(Gap::Soon, primary, Admin::ResumeIo);
    script.admin(Gap::Later, other, Admin::Attach);
    script.wait_for_peace();
}

/// I26, F13: writes of two Primaries to the same few sectors cross each other on their way, and acks are late.
pub(super) fn writes_collide(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.be_two_primaries();
    setup.set("c-plan-ahead", "0");
    setup.set("resync-rate", "400M"); // A run that precedes it is soon over.
    setup.depth = setup.depth.max(6);
    match script.way(7) {
        0 => return rivals_at_a_loss(script),
        1 => return one_block_at_a_loss(script, setup),
        2..4 => return behind_a_rival_at_a_loss(script, setup),
        4 => return killed_with_a_superseded_write(script, setup),
        _ => {}
    }
    let primary = script.primary;
    promote_the_other(script);
    script.clients_write(&[Taste::OnePlace]);
    for _ in 0..6 {
        script.jitter(30);
        script.clients(&[Taste::OnePlace]);
        script.pause(60);
        script.clients(&[Taste::Nothing]); // What is written next would hide what differs.
        for _ in 0..3 {
            script.wait(Cue::Answered(Asked::Write), 100);
        }
        if script.way(12) == 0 {
            script.act(Gap::Now, Action::Break);
            script.wait(Cue::Whole, 2_000);
        }
    }
    script.clients(&[Taste::Nothing]);
    script.wait(Cue::Lonely(primary), 20_000); // It does not come: nobody waits for ever.
    script.wait_for_peace();
}

/// I26, I8, D11, D179: the link is lost while writes of two Primaries wait for each other. Either they are alone for long,
/// or the I/O of both is frozen, and goes on at one of them first, which may lose its disk before the other one's does.
fn rivals_at_a_loss(script: &mut Script<'_>) {
    promote_the_other(script);
    let [one, two] = in_any_order(script);
    let late = 20 + script.way(60) as u32;
    script.act(Gap::Now, Action::Jitter(late));
    script.clients(&[Taste::OnePlace]);
    script.pause(60);
    script.wait(Cue::Amid(one, Step::Conflict), 3_000);
    script.act(Gap::Now, Action::Cut); // Not a break: no answer gets through, and they do not meet at once.
    script.clients(&[Taste::Nothing]); // What is written next would hide what differs, or wake what waits.
    script.act(Gap::Now, Action::Jitter(0));
    let frozen = script.way(3) > 0;
    if frozen {
        script.admin(Gap::Now, one, Admin::SuspendIo); // The loss is found out by a ping, later than that.
        script.admin(Gap::Now, two, Admin::SuspendIo);
    }
    script.wait(Cue::Lonely(one), 5_000);
    script.wait(Cue::Lonely(two), 5_000);
    if !frozen {
        script.wait(Cue::Whole, 7_000); // It does not come: the clients have time to lose patience.
        script.act(Gap::Now, Action::Join);
        return script.wait_for_peace();
    }
    script.act(Gap::Now, Action::Join);
    script.wait(Cue::Whole, 8_000);
    script.admin(Gap::Now, one, Admin::ResumeIo); // What it sends again meets what is frozen.
    if script.way(2) == 0 {
        script.clients(&[Taste::OnePlace]);
        script.wait(Cue::Amid(two, Step::Conflict), 500);
        script.pause(20); // It has heard that its write is to go again.
        script.clients(&[Taste::Nothing]);
        script.admin(Gap::Now, one, Admin::Detach { force: true });
        script.wait(Cue::Doubtful(two), 500); // Else the frozen write would go to it, and be refused.
    } else {
        script.pause(100);
    }
    script.admin(Gap::Now, two, Admin::ResumeIo);
    script.wait(Cue::Lonely(two), 2_000); // It comes, or there is time to compare.
    script.wait_for_peace();
}

/// I26, D179: each of two Primaries writes the same block when the link is lost, one of the two waits for the other, and the
/// I/O of both is frozen. The one whose write came second goes on first: it is the only one that goes out again.
fn one_block_at_a_loss(script: &mut Script<'_>, setup: &mut Setup) {
    setup.depth = 1;
    promote_the_other(script);
    let [one, two] = in_any_order(script);
    let late = 20 + script.way(60) as u32;
    script.act(Gap::Now, Action::Jitter(late));
    script.clients(&[Taste::OneBlock]);
    script.wait(Cue::Holds(one), 3_000);
    script.act(Gap::Now, Action::Cut); // It is not told what becomes of its own.
    script.clients(&[Taste::Nothing]); // What is written next would hide what differs.
    script.act(Gap::Now, Action::Jitter(0));
    script.admin(Gap::Now, one, Admin::SuspendIo); // The loss is found out by a ping, later than that.
    script.admin(Gap::Now, two, Admin::SuspendIo);
    script.wait(Cue::Lonely(one), 5_000);
    script.wait(Cue::Lonely(two), 5_000);
    script.act(Gap::Now, Action::Join);
    script.wait(Cue::Whole, 8_000);
    script.admin(Gap::Now, one, Admin::ResumeIo);
    script.pause(200);
    script.admin(Gap::Now, two, Admin::ResumeIo);
    script.wait(Cue::Lonely(two), 2_000); // It does not come: time to compare.
    script.wait_for_peace();
}

/// I8, D11: a write waits for one of the peer's that waits for another own one, and goes with the link: no other one of the
/// peer's is there, at whose end all that wait would go on.
fn behind_a_rival_at_a_loss(script: &mut Script<'_>, setup: &mut Setup) {
    setup.depth = 2;
    promote_the_other(script);
    let [one, _] = in_any_order(script);
    let late = 20 + script.way(60) as u32;
    script.act(Gap::Now, Action::Jitter(late));
    script.clients(&[Taste::OnePlace]);
    script.wait(Cue::Amid(one, Step::Conflict), 3_000);
    script.wait(Cue::Holds(one), 10);
    script.act(Gap::Now, Action::Cut);
    script.clients(&[Taste::Nothing]); // What is written next would wake what waits.
    script.act(Gap::Now, Action::Jitter(0));
    script.wait(Cue::Lonely(one), 5_000);
    script.wait(Cue::Whole, 7_000); // It does not come: the clients have time to lose patience.
    script.act(Gap::Now, Action::Join);
    script.wait_for_peace();
}

/// I1, D179: a write of one of two Primaries is superseded, and its client is told, while the write of the other one that
/// takes its place is under way to a slow disk. Both programs are killed, and this one is the first to return.
fn killed_with_a_superseded_write(script: &mut Script<'_>, setup: &mut Setup) {
    setup.depth = 1;
    promote_the_other(script);
    let [one, two] = in_any_order(script);
    script.clients(&[Taste::Nothing]);
    script.pause(50);
    let factor = 6_000 + script.way(6_000) as u32; // A write takes 0.2 to 2 s.
    script.act(Gap::Now, Action::Slow(one, factor));
    let late = 100 + script.way(100) as u32; // The first ones cross each other on their way.
    script.act(Gap::Now, Action::Jitter(late));
    script.clients(&[Taste::OneBlock]);
    script.wait(Cue::Judges(one), 3_000);
    script.wait(Cue::Answered(Asked::Write), 250);
    script.act(Gap::Now, Action::Kill(one)); // Their caches survive: all that was answered is there.
    script.act(Gap::Now, Action::Kill(two));
    script.clients(&[Taste::Nothing]); // What is written next would hide what is lost.
    script.act(Gap::Now, Action::Slow(one, 1));
    script.act(Gap::Now, Action::Jitter(0));
    script.boot(Gap::Now, one);
    script.wait(Cue::Whole, 500); // It does not come: this one is alone.
    script.admin(Gap::Now, one, Admin::Promote);
    script.wait(Cue::Primary(one), 2_000);
    script.boot(Gap::Soon, two);
    script.wait_for_peace();
}

fn promote_the_other(script: &mut Script<'_>) {
    let other = script.other;
    script.admin(Gap::Now, other, Admin::Promote);
    script.wait(Cue::Primary(other), 2_000);
}

fn in_any_order(script: &mut Script<'_>) -> [HostId; 2] {
    if script.way(2) == 0 { [script.primary, script.other] } else { [script.other, script.primary] }
}
