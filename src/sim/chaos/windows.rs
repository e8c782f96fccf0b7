//! Courses whose window is between two nodes: what one of them has said, and the other one has not done yet, or
//! has not heard.

use super::cues::Cue;
use super::plan::{Action, Admin, DiskError};
use super::reach::OnTheWay;
use super::script::{Gap, Script};
use super::setup::Setup;
use super::workload::{Asked, Taste};

/// I2: in protocol B the peer has said that it has a write, which waits there for an older one to the same place, and
/// loses the Primary.
pub(super) fn acked_while_it_waits(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "B");
    setup.depth = setup.depth.max(4);
    if script.way(3) == 0 {
        return read_behind_what_waits(script, setup);
    }
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::OnePlace]);
    let lost = script.way(4) > 0;
    // A machine that is lost tells nobody: the peer's disk stands still until that has found it out by a ping.
    let ms = if lost { 2_500 + script.way(1_500) } else { 1 + script.way(400) };
    script.act(Gap::Now, Action::Stall(other, ms as u32));
    for _ in 0..3 + script.way(3) {
        script.wait(Cue::Answered(Asked::Write), 200);
    }
    if lost {
        script.lose(Gap::Now, primary);
        script.wait(Cue::Lonely(other), 6_000);
        script.admin(Gap::Now, other, Admin::Promote);
        script.wait(Cue::Primary(other), 2_000);
        script.boot(Gap::Soon, primary);
    } else {
        script.part(Gap::Now);
        script.take_over();
    }
    script.wait_for_peace();
}

/// I25, D66: in protocol B the peer has said that it has writes, which wait there for older ones. The Primary's disk is
/// given up, and its clients read there.
fn read_behind_what_waits(script: &mut Script<'_>, setup: &mut Setup) {
    setup.volumes = 1;
    setup.depth = 12; // Writes wait for the peer's disk from then on, and reads have to find a place beside them.
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::OnePlace]);
    let factor = 100 + script.way(100) as u32;
    script.act(Gap::Now, Action::Slow(other, factor));
    for _ in 0..8 + script.way(8) {
        script.wait(Cue::Answered(Asked::Write), 100);
    }
    script.admin(Gap::Now, primary, Admin::Detach { force: true });
    script.wait(Cue::Unfit(primary), 300);
    for _ in 0..3 {
        script.wait(Cue::Answered(Asked::Write), 1_000);
    }
    script.act(Gap::Now, Action::Slow(other, 1));
    script.admin(Gap::Now, primary, Admin::Attach);
    script.wait_for_peace();
}

/// T10, I6: the peer's disk has failed and is still open, when the barrier comes behind what it acked.
pub(super) fn barrier_at_a_failed_disk(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "C");
    setup.set("on-io-error", if script.way(2) == 0 { "call-local-io-error" } else { "detach" });
    let other = script.other;
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    script.slow(other);
    script.wait(Cue::Answered(Asked::Write), 300);
    script.wait(Cue::Unflushed(other), 50);
    script.wait(Cue::Writing(other), 100); // It keeps the disk open.
    if script.way(2) == 0 {
        script.admin(Gap::Now, other, Admin::Detach { force: true });
    } else {
        script.data_errors(other, DiskError::Write, 1);
    }
    script.wait(Cue::Unfit(other), 300);
    script.wait(Cue::OnTheWay(script.primary, OnTheWay::BarrierAck), 300);
    script.pause(2);
    script.lose_power(Gap::Now, other);
    script.clients(&[Taste::Nothing]); // What is written from now on would hide what was lost.
    script.act(Gap::Now, Action::Mend(other));
    script.boot(Gap::Soon, other);
    script.wait_for_peace();
}

/// T17, I35: the source of a full sync that was asked for has not begun, and its clients write; the target does not
/// know yet that its copy is no good any more.
pub(super) fn full_sync_begins(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "C");
    setup.volumes = 1;
    if script.way(2) == 0 {
        return source_begins_alone(script);
    }
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::Durable, Taste::OnePlace]);
    let factor = 100 + script.way(100) as u32; // That its copy is no good gets to its disk late.
    script.act(Gap::Now, Action::Slow(other, factor));
    let (asks, admin) =
        [(primary, Admin::InvalidateRemote), (other, Admin::Invalidate)][script.way(2) as usize];
    script.admin(Gap::Now, asks, admin);
    script.wait(Cue::Doubtful(primary), 3_000); // The source prepares itself, for some 20 ms.
    script.wait(Cue::Answered(Asked::Write), 15);
    if script.way(4) == 0 {
        script.lose(Gap::Now, primary);
        script.lose(Gap::Now, other);
    } else {
        script.act(Gap::Now, Action::Kill(primary)); // Its cache survives, and with it the promise.
        script.act(Gap::Now, Action::Kill(other));
    }
    script.clients(&[Taste::Nothing]); // What the other one writes would hide what is lost.
    script.other_returns(false);
}

/// T40, I35: the source has begun and the target has not: it never hears that it may, or nothing of it gets to its disk.
/// The source goes on alone and is lost, and the other one returns as if nothing had been.
fn source_begins_alone(script: &mut Script<'_>) {
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace, Taste::Durable]);
    let unheard = script.way(2) == 0;
    if unheard {
        script.jitter(20); // The answer is on its way for a while.
        script.admin(Gap::Now, other, Admin::Invalidate);
        script.wait(Cue::Doubtful(primary), 3_000); // It answers at this moment, and begins some 25 ms later.
        script.act(Gap::Now, Action::Cut); // Not a break: they would meet again at once.
    } else {
        let factor = 100 + script.way(100) as u32; // That its copy is no good gets to its disk late,
        script.act(Gap::Now, Action::Slow(other, factor));
        let (asks, admin) =
            [(primary, Admin::InvalidateRemote), (other, Admin::Invalidate)][script.way(2) as usize];
        script.admin(Gap::Now, asks, admin);
        script.wait(Cue::Doubtful(primary), 3_000);
        script.act(Gap::Now, Action::Stall(other, 1_000)); // ... or never.
        script.wait(Cue::OnTheWay(primary, OnTheWay::SyncUuid), 500); // The source has begun.
        script.act(Gap::Now, Action::Kill(other)); // Its cache survives: all that it had acked is there.
    }
    script.wait(Cue::Lonely(primary), 5_000);
    script.wait(Cue::Answered(Asked::Write), 2_000);
    script.clients(&[Taste::Nothing]); // What the other one writes would hide what is lost.
    script.act(Gap::Now, Action::Kill(primary)); // Its cache survives, and with it the promise.
    if unheard {
        script.wait(Cue::Lonely(other), 5_000); // Before the link is whole: the answer would still arrive.
    }
    script.act(Gap::Now, Action::Join);
    script.other_returns(false);
}

/// T38, W196: the node whose copy stays is asked first, and makes it durable; that goes at that moment, or fails.
pub(super) fn copy_that_stays_is_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "C");
    setup.volumes = 1;
    if script.way(2) == 0 {
        return asked_copy_is_lost(script, setup);
    }
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    let fails = script.way(2) == 0;
    if fails {
        script.slow(primary);
    }
    script.wait(Cue::Unflushed(primary), 50);
    let way = script.way(3);
    let (asks, admin) = match way {
        0 => (other, Admin::Detach { force: false }),
        1 => (other, Admin::Invalidate),
        _ => (primary, Admin::InvalidateRemote),
    };
    script.admin(Gap::Now, asks, admin);
    if fails {
        script.wait(Cue::OnTheWay(asks, OnTheWay::Request), 500);
        script.pause(5);
        script.admin(Gap::Now, primary, Admin::Detach { force: true });
        script.wait(Cue::Unfit(primary), 100);
    } else {
        script.wait(Cue::Obeyed(asks), 500);
    }
    if script.way(2) == 0 {
        script.clients(&[Taste::Nothing]);
    }
    let lost = if fails && script.way(2) == 0 { other } else { primary };
    script.lose_power(Gap::Now, lost);
    script.boot(Gap::Soon, primary);
    script.boot(Gap::Soon, other);
    script.admin(Gap::Later, primary, Admin::Attach);
    script.admin(Gap::Later, other, Admin::Attach);
    script.wait_for_peace();
}

/// T38: the node that is asked for its consent has a slow disk. It has answered and the other copy is given up, and its power
/// fails before what it does next has flushed its data, too.
fn asked_copy_is_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.separate_meta = true; // A flush of the metadata is none of the data.
    setup.stragglers = None;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::OnePlace]); // No extent leaves the log, which would flush.
    let factor = 60 + script.way(100) as u32; // The generation, or the mark of a full sync, comes behind a flush: a slow one.
    script.act(Gap::Now, Action::Slow(primary, factor));
    for _ in 0..1 + script.way(2) {
        script.wait(Cue::Answered(Asked::Write), 500);
    }
    script.clients(&[Taste::Nothing]); // Nor does a client flush.
    script.wait(Cue::Unflushed(primary), 50);
    let admin = [Admin::Detach { force: false }, Admin::Invalidate][script.way(2) as usize];
    script.admin(Gap::Now, other, admin);
    script.wait(Cue::Obeyed(other), 1_000);
    script.act(Gap::Now, Action::PowerLoss { host: primary, all: true });
    script.boot(Gap::Soon, primary);
    script.wait(Cue::Lonely(other), 3_000);
    script.admin(Gap::Later, other, Admin::Attach);
    script.wait_for_peace();
}

/// T41, I8: I/O of both volumes is frozen, as one has no data any more; the other one is in a resync, and its bitmap waits
/// for what only the first one's news let go.
pub(super) fn two_volumes_thaw(script: &mut Script<'_>, setup: &mut Setup) {
    if script.way(3) == 0 {
        return a_new_disk_thaws(script, setup);
    }
    setup.set("fencing", "dont-care");
    setup.set("on-no-data-accessible", "suspend-io");
    setup.volumes = 2;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    script.slow(other);
    script.admin(Gap::Now, other, Admin::Invalidate);
    script.wait(Cue::Target(other), 2_000);
    script.wait(Cue::Writing(other), 500); // The next command is for the other volume.
    script.admin(Gap::Now, primary, Admin::Detach { force: script.primary == 0 });
    script.wait(Cue::Unfit(primary), 500);
    script.wait(Cue::Answered(Asked::Write), 300); // By now it knows the generation of the data that it shows.
    script.part(Gap::Now);
    script.wait(Cue::Frozen(primary), 3_000);
    if script.way(2) == 0 {
        script.jitter(20);
    }
    script.act(Gap::Soon, Action::Join);
    script.wait_for_peace();
}

/// The same, when what thaws them is the full sync of a new disk.
fn a_new_disk_thaws(script: &mut Script<'_>, setup: &mut Setup) {
    setup.freeze_when_alone();
    setup.volumes = 2;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    script.slow(other);
    script.pause(50);
    script.lose(Gap::Now, other);
    script.wait(Cue::Frozen(primary), 3_000);
    // Which of the two it is depends on chance.
    for _ in 0..=script.way(2) {
        script.act(Gap::Soon, Action::Replace(other));
    }
    script.boot(Gap::Soon, other);
    script.wait_for_peace();
}

/// T21: the Primary's disk refuses a write and is given up; nobody has noted that but this disk when both are lost.
pub(super) fn refused_before_the_generation(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "C");
    setup.set("on-io-error", "detach");
    setup.volumes = 1;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    script.slow(other);
    script.data_errors(primary, DiskError::Write, 1);
    script.wait(Cue::Unfit(primary), 500);
    script.wait(Cue::Answered(Asked::Write), 200);
    script.act(Gap::Now, Action::Kill(other));
    script.lose(Gap::Now, primary);
    script.act(Gap::Now, Action::Mend(primary));
    script.boot(Gap::Soon, primary);
    script.wait(Cue::Lonely(primary), 500);
    script.admin(Gap::Now, primary, Admin::Promote);
    script.wait(Cue::Primary(primary), 500);
    script.boot(Gap::Later, other);
    script.wait_for_peace();
}

/// S31: a disk that is older than what the clients of a Primary have seen, which has none, meets that.
pub(super) fn old_disk_meets_its_primary(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.volumes = 1;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    script.part(Gap::Soon);
    script.wait(Cue::Lonely(primary), 5_000);
    script.wait(Cue::Answered(Asked::Write), 500);
    script.wait(Cue::Lonely(other), 5_000);
    if script.way(2) == 0 {
        script.admin(Gap::Now, other, Admin::Outdate);
    }
    script.admin(Gap::Now, primary, Admin::Detach { force: true });
    script.wait(Cue::Unfit(primary), 300);
    if script.way(2) == 0 {
        script.jitter(20);
    }
    script.act(Gap::Soon, Action::Join);
    script.wait(Cue::OnTheWay(other, OnTheWay::State), 3_000);
    script.pause(50);
    match script.way(3) {
        0 => script.lose(Gap::Soon, other),
        1 => script.part(Gap::Soon),
        _ => {}
    }
    script.admin(Gap::Soon, primary, Admin::Attach);
    script.act(Gap::Soon, Action::Join);
    script.boot(Gap::Soon, other);
    script.wait_for_peace();
}

/// T40: the target is done and the source has not heard; that loses its power twice, and goes on alone.
pub(super) fn end_unheard_twice(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.volumes = 1;
    let (primary, other) = (script.primary, script.other);
    script.part(Gap::Soon);
    script.pause(1_000);
    script.act(Gap::Soon, Action::Join);
    script.wait(Cue::Target(other), 5_000);
    script.jitter(80);
    script.wait(Cue::Unheard(other), 2_000);
    script.lose_the_primary_twice();
    script.wait(Cue::Answered(Asked::Write), 2_000);
    script.lose(Gap::Soon, primary);
    script.take_over();
    script.wait_for_peace();
}

/// T17, T21: the peer's disk refuses a write, and can note nothing of it: nobody but the Primary can tell later that this
/// disk is old.
pub(super) fn refused_and_not_noted(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "C");
    setup.set("on-io-error", "pass_on");
    setup.volumes = 1;
    setup.separate_meta = true;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    script.jitter(40);
    if script.way(2) == 0 {
        script.slow(other);
    }
    let (meta, kind) = (true, DiskError::Write);
    script.act(Gap::Now, Action::DiskErrors { host: other, meta, kind, times: 0 });
    script.data_errors(other, DiskError::Write, 1);
    script.wait(Cue::Unfit(other), 500);
    script.wait(Cue::Answered(Asked::Write), 100);
    script.act(Gap::Now, Action::Kill(other));
    script.act(Gap::Now, Action::Mend(other));
    if script.way(2) == 0 {
        script.lose(Gap::Now, primary);
        script.other_returns_first();
    } else {
        script.boot(Gap::Soon, other);
        script.wait_for_peace();
    }
}

/// T38, I5: a node is shown as Secondary and loses its power at that moment, with what its disk had not flushed.
pub(super) fn demoted_and_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "C");
    let primary = script.primary;
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    if script.way(2) == 0 {
        script.slow(primary);
    }
    script.wait(Cue::Unflushed(primary), 50);
    script.admin(Gap::Now, primary, Admin::Demote);
    script.wait(Cue::Secondary(primary), 1_000);
    script.lose_power(Gap::Now, primary);
    script.boot(Gap::Soon, primary);
    script.wait_for_peace();
}

/// T21, I35: the peer's disk is not good any more and cannot note that; the Primary hears a part of what the peer says of
/// it, goes on alone and is lost, and the peer comes back as if nothing had been.
pub(super) fn half_told_of_a_failed_disk(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "C");
    setup.set("on-io-error", "pass_on");
    setup.volumes = 1;
    setup.separate_meta = true;
    setup.depth = setup.depth.max(3);
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace, Taste::Durable]);
    script.jitter(40); // One word comes before the next, and before the refusal on the other socket.
    let (meta, kind) = (true, DiskError::Write);
    script.act(Gap::Now, Action::DiskErrors { host: other, meta, kind, times: 0 });
    script.data_errors(other, DiskError::Write, 1);
    script.wait(Cue::Doubtful(primary), 500);
    let parts = if script.way(2) == 0 { Action::Cut } else { Action::Silence(other) };
    script.act(Gap::Now, parts); // Not a break: they would meet again at once.
    script.wait(Cue::Lonely(primary), 5_000);
    script.wait(Cue::Answered(Asked::Write), 500);
    script.clients(&[Taste::Nothing]); // What the other one writes would hide what is lost.
    if script.way(4) == 0 {
        script.lose_power(Gap::Now, primary);
    } else {
        script.act(Gap::Now, Action::Kill(primary));
    }
    script.act(Gap::Now, Action::Kill(other)); // Its cache survives: all that it had acked is there.
    script.act(Gap::Now, Action::Mend(other));
    script.act(Gap::Now, Action::Join);
    script.other_returns(false);
}

/// T17, I8: I/O is frozen as one volume has no data when the peer is lost, and goes on without it: the other volume's
/// generation, which was due all the time, is made then.
pub(super) fn thawed_alone(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("on-no-data-accessible", "suspend-io");
    setup.volumes = 2;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    script.admin(Gap::Now, other, Admin::Detach { force: false });
    script.wait(Cue::Unfit(other), 500);
    script.wait(Cue::Answered(Asked::Write), 300);
    script.wait(Cue::Answered(Asked::Write), 300); // The next command is for the same volume.
    script.admin(Gap::Now, primary, Admin::Detach { force: true });
    script.wait(Cue::Frozen(primary), 500);
    let parts = if script.way(2) == 0 { Action::Cut } else { Action::Silence(other) };
    script.act(Gap::Soon, parts);
    script.wait(Cue::Lonely(primary), 5_000);
    for _ in 0..2 {
        script.admin(Gap::Soon, primary, Admin::Attach); // Whichever volume it is.
    }
    script.wait(Cue::Meeting(primary), 7_000); // It does not come: the clients have time to lose patience.
    script.lose(Gap::Now, primary);
    script.other_returns_first();
}

/// W196: the disk of the node that asks to give it up fails by itself while the other one makes its copy durable: the
/// answer is about a disk that is gone by then, or another one, and nobody waits for it.
pub(super) fn answered_too_late(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "C");
    setup.set("on-io-error", "detach");
    setup.volumes = 1;
    setup.disk.al_extents = 2; // Admitted writes wait for the log, and go to the peer after the question.
    setup.depth = setup.depth.max(4);
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::Cold]);
    let factor = 60 + script.way(100) as u32;
    script.act(Gap::Now, Action::Slow(primary, factor));
    for _ in 0..2 {
        script.wait(Cue::Answered(Asked::Write), 500);
    }
    script.admin(Gap::Now, other, Admin::Detach { force: false });
    script.wait(Cue::OnTheWay(other, OnTheWay::Request), 500);
    script.data_errors(other, DiskError::Write, 1);
    script.wait(Cue::Unfit(other), 1_000);
    script.act(Gap::Now, Action::Mend(other));
    if script.way(3) > 0 {
        script.wait(Cue::OnTheWay(other, OnTheWay::Request), 3_000); // The answer.
        script.pause(5);
        script.act(Gap::Now, Action::Slow(primary, 1));
        script.admin(Gap::Now, primary, Admin::Demote); // A new role would be told, and show what is wrong.
        script.wait(Cue::Secondary(primary), 3_000);
    }
    script.admin(Gap::Now, other, Admin::Attach);
    script.wait_for_peace();
}

/// T17, T21: the peer's slow disk has refused a write, and that is being noted; what comes meanwhile it refuses at once.
/// Both are lost before anything of it is on its disk, or was said.
pub(super) fn refused_while_that_is_noted(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "C");
    setup.set("on-io-error", "detach");
    setup.volumes = 1;
    setup.disk.al_extents = 67; // No write waits for a slot that one at the slow peer holds.
    setup.depth = setup.depth.max(4);
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::Durable, Taste::Durable, Taste::All]);
    let factor = 100 + script.way(100) as u32;
    script.act(Gap::Now, Action::Slow(other, factor));
    script.wait(Cue::Writing(other), 300);
    script.data_errors(other, DiskError::Write, 1);
    script.wait(Cue::Unfit(other), 500);
    script.wait(Cue::Answered(Asked::Write), 15);
    if script.way(2) == 0 {
        script.wait(Cue::Answered(Asked::Write), 6);
    }
    script.act(Gap::Now, Action::Kill(other)); // Its cache survives: all that it had acked is there.
    script.act(Gap::Now, Action::Kill(primary));
    script.clients(&[Taste::Nothing]); // What the other one writes would hide what is lost.
    script.act(Gap::Now, Action::Mend(other));
    script.other_returns(false);
}

/// S31, S37.7: the source of a full sync that was asked for loses its disk, and its peer hears of that before it hears that
/// it may begin: so the peer's copy stays, and is what the clients see from then on.
pub(super) fn source_lost_unheard(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "C");
    setup.volumes = 1;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    let late = 150 + script.way(100) as u32;
    script.act(Gap::Now, Action::Jitter(late));
    script.admin(Gap::Now, other, Admin::Invalidate);
    script.wait(Cue::Doubtful(primary), 2_000);
    script.act(Gap::Now, Action::Jitter(0)); // What is said now is soon there, but on the socket of the answer.
    script.pause(60);
    script.admin(Gap::Now, primary, Admin::Detach { force: true });
    script.wait(Cue::Unfit(primary), 300);
    script.wait(Cue::Answered(Asked::Write), 500);
    script.part(Gap::Soon);
    script.wait(Cue::Lonely(primary), 5_000);
    script.admin(Gap::Now, primary, Admin::Attach);
    script.pause(500);
    script.act(Gap::Soon, Action::Join);
    script.admin(Gap::Soon, primary, Admin::Attach);
    script.wait_for_peace();
}

/// T21, I35: the Primary's slow disk refuses two writes that the peer has. The second one is refused while the superblock
/// is being written that tells of the first, and the power fails when one of them is answered.
pub(super) fn two_refused_by_a_slow_disk(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", "C");
    setup.set("on-io-error", if script.way(3) == 0 { "pass_on" } else { "detach" });
    setup.volumes = 1;
    setup.disk.al_extents = 67; // No write waits for a slot.
    setup.depth = setup.depth.max(4);
    let primary = script.primary;
    script.clients_write(&[Taste::All, Taste::Durable]);
    let factor = 60 + script.way(100) as u32;
    script.act(Gap::Now, Action::Slow(primary, factor));
    script.wait(Cue::Answered(Asked::Write), 500);
    script.wait(Cue::Writing(primary), 300);
    script.data_errors(primary, DiskError::Write, 0);
    script.wait(Cue::Unfit(primary), 500);
    script.wait(Cue::Answered(Asked::Write), 200);
    script.lose_power(Gap::Now, primary);
    script.clients(&[Taste::Nothing]);
    script.act(Gap::Now, Action::Mend(primary));
    script.act(Gap::Now, Action::Slow(primary, 1));
    script.boot(Gap::Soon, primary);
    script.wait_for_peace();
}

/// A9, I5: the peer is lost while the Primary's I/O is frozen, and is back before that goes on, on a node that is Secondary
/// by then: what was due is due no more.
pub(super) fn thawed_after_a_change_of_roles(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    script.clients(&[Taste::Nothing]); // What is frozen would keep the node from being Secondary.
    script.pause(50);
    script.admin(Gap::Now, primary, Admin::SuspendIo);
    script.wait(Cue::Frozen(primary), 300);
    script.act(Gap::Now, Action::Break);
    script.wait(Cue::Lonely(primary), 3_000);
    script.wait(Cue::Whole, 5_000);
    script.admin(Gap::Now, primary, Admin::Demote);
    script.wait(Cue::Secondary(primary), 1_000);
    script.act(Gap::Now, Action::Cut);
    script.wait(Cue::Lonely(primary), 3_000);
    script.admin(Gap::Now, primary, Admin::ResumeIo);
    script.wait(Cue::Lonely(other), 3_000);
    script.admin(Gap::Now, other, Admin::Promote);
    script.wait(Cue::Primary(other), 500);
    script.clients(&[Taste::All]);
    script.wait(Cue::Answered(Asked::Write), 500);
    script.act(Gap::Soon, Action::Join);
    script.wait_for_peace();
}
