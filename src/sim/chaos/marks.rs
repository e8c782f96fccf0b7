//! Templates of losses just when a mark in the metadata is to be written, or has lost its sense: see
//! [`super::templates`].

use super::super::events::HostId;
use super::cues::Cue;
use super::plan::{Action, Admin, DiskError};
use super::reach::OnTheWay;
use super::script::{Gap, Script};
use super::setup::Setup;
use super::workload::{Asked, Taste};
use crate::node::steps::Step;

/// M86, M93: a node becomes Primary, perhaps without its disk, which it takes then; it writes at once, and loses
/// its power. Nothing but the mark on its disk tells that this may differ from the peer's.
pub(super) fn new_primary_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.volumes = 1;
    setup.set("fencing", "dont-care");
    if script.way(4) == 0 {
        return written_before_the_mark(script);
    }
    let (primary, other) = (script.primary, script.other);
    let new = if script.way(2) == 0 { primary } else { other };
    script.clients(&[Taste::Nothing]);
    script.pause(100);
    script.admin(Gap::Soon, primary, Admin::Demote);
    script.wait(Cue::Secondary(primary), 2_000);
    let takes_its_disk = script.way(2) == 0;
    if takes_its_disk {
        script.admin(Gap::Soon, new, Admin::Detach { force: false });
        script.wait(Cue::Unfit(new), 300);
    }
    let at_once = script.way(2) == 0;
    if at_once {
        setup.stragglers = Some(2 + script.way(4)); // The mark may be the last of what began together.
    }
    if at_once && !takes_its_disk {
        writes_at_once(script, new);
    }
    script.admin(Gap::Soon, new, Admin::Promote);
    script.wait(Cue::Primary(new), 2_000);
    if takes_its_disk {
        if at_once {
            writes_at_once(script, new);
        }
        script.admin(Gap::Soon, new, Admin::Attach);
        script.wait(Cue::Whole, 3_000);
    }
    if at_once {
        script.wait(Cue::Writing(new), 200);
        script.pause(8);
    } else {
        match script.way(3) {
            0 => script.slow(1 - new),
            1 => script.jitter(20),
            _ => {}
        }
        script.clients(&[Taste::All, Taste::OnePlace, Taste::Cold]);
        script.wait(Cue::Writing(new), 200);
        if script.way(2) == 0 {
            script.wait(Cue::Answered(Asked::Write), 20);
        }
    }
    script.lose(Gap::Now, new);
    if script.way(3) == 0 {
        script.lose(Gap::Soon, 1 - new);
    }
    script.boot(Gap::Soon, new);
    script.boot(Gap::Soon, 1 - new);
    script.wait_for_peace();
}

/// Clients write while the mark is not on the disk yet, which is slow.
fn writes_at_once(script: &mut Script<'_>, new: HostId) {
    script.clients(&[Taste::All, Taste::OnePlace, Taste::Cold]);
    if script.way(3) == 0 {
        script.stall(Gap::Now, new, 300);
    } else {
        script.slow(new);
    }
}

/// The same on a node that was Primary before: its log has the extent still, and the write is on the disk before anything
/// else is. It is on its way to the peer behind the mark.
fn written_before_the_mark(script: &mut Script<'_>) {
    let primary = script.primary;
    script.wait_for_peace();
    script.clients_write(&[Taste::OnePlace]);
    script.clients(&[Taste::Nothing]);
    script.pause(100);
    script.admin(Gap::Soon, primary, Admin::Demote);
    script.wait(Cue::Obeyed(primary), 2_000); // Clients are let in again.
    script.clients(&[Taste::OnePlace]);
    let factor = 1_000 + script.way(2_000) as u32;
    script.act(Gap::Now, Action::Slow(primary, factor));
    script.admin(Gap::Soon, primary, Admin::Promote);
    script.wait(Cue::Primary(primary), 2_000);
    script.act(Gap::Now, Action::Slow(primary, 1)); // What makes the mark is under way, and takes long.
    script.wait(Cue::Unflushed(primary), 1_000);
    script.act(Gap::Now, Action::Kill(primary)); // Its cache survives.
    script.boot(Gap::Soon, primary);
    script.wait_for_peace();
}

/// M91: a full sync is about to begin, all bits are being written, and both nodes lose their power.
pub(super) fn full_sync_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::Cold]);
    script.pause(300);
    script.lose_power(Gap::Soon, other);
    script.act(Gap::Soon, Action::Replace(other));
    if script.way(2) == 0 {
        script.slow(primary);
    }
    script.boot(Gap::Soon, other);
    script.wait(Cue::Meeting(other), 3_000);
    if script.way(2) == 0 {
        script.wait(Cue::Flushing(other), 20);
    }
    script.lose_power(Gap::Now, other);
    script.lose_power(Gap::Now, primary);
    script.boot(Gap::Soon, primary);
    script.boot(Gap::Soon, other);
    script.wait_for_peace();
    script.lose(Gap::Later, primary);
    script.take_over();
    script.wait_for_peace();
}

/// W199: what begins a resync comes to nothing, as a disk is given up meanwhile; its packets arrive when the disk
/// is back, and another one begins.
pub(super) fn resync_comes_to_nothing(script: &mut Script<'_>, setup: &mut Setup) {
    setup.volumes = 1;
    setup.set("fencing", "dont-care");
    if script.way(2) == 0 {
        return target_begins_too_early(script, setup);
    }
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::OnePlace]);
    script.pause(100);
    script.jitter(60);
    match script.way(4) {
        0 | 1 => script.admin(Gap::Now, other, Admin::Invalidate),
        2 => script.admin(Gap::Now, primary, Admin::InvalidateRemote),
        _ => {
            script.act(Gap::Now, Action::Break);
            script.wait(Cue::Meeting(other), 3_000);
        }
    }
    if script.way(2) == 0 {
        script.wait(Cue::OnTheWay(primary, OnTheWay::SyncUuid), 1_000);
        script.admin(Gap::Now, other, Admin::Detach { force: true });
        script.wait(Cue::Unfit(other), 100);
        script.admin(Gap::Now, other, Admin::Attach);
    } else {
        if script.way(2) == 0 {
            script.wait(Cue::Meeting(other), 500);
        }
        let host = if script.way(4) == 0 { primary } else { other };
        let force = script.way(4) > 0;
        script.admin(Gap::Soon, host, Admin::Detach { force });
        script.admin(Gap::Soon, host, Admin::Attach);
    }
    if script.way(2) == 0 {
        script.admin(Gap::Soon, other, Admin::Invalidate);
    }
    script.wait_for_peace();
    if script.way(2) == 0 {
        script.lose(Gap::Soon, primary);
        script.take_over();
        script.wait_for_peace();
    }
}

/// W199, T40: nothing is to be sent, and the source stands still when it is to begin: a target that took the sync UUID
/// of the run before for that of this one would have ended before that, and nobody would know.
fn target_begins_too_early(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("protocol", "C");
    setup.stragglers = None;
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::Nothing]);
    for _ in 0..2 {
        script.wait(Cue::Answered(Asked::Write), 150); // All epochs are acked: no bit will be set.
    }
    let late = 30 + script.way(30) as u32;
    script.act(Gap::Now, Action::Jitter(late));
    script.act(Gap::Now, Action::Break);
    script.wait(Cue::OnTheWay(primary, OnTheWay::SyncUuid), 5_000);
    script.act(Gap::Now, Action::Jitter(0)); // What is sent now is soon there, but not before that.
    script.admin(Gap::Now, other, Admin::Detach { force: true });
    script.admin(Gap::Now, other, Admin::Attach);
    script.wait(Cue::OnTheWay(primary, OnTheWay::Bitmap), 1_000);
    let ms = 90 + script.way(80) as u32; // Longer than the target's handler, shorter than a ping may take.
    script.act(Gap::Now, Action::Pause(primary, ms));
    script.wait(Cue::Unheard(other), 2_000);
    script.act(Gap::Now, Action::Cut);
    script.clients(&[Taste::All, Taste::OnePlace]);
    script.wait(Cue::Lonely(primary), 5_000);
    script.wait(Cue::Answered(Asked::Write), 500);
    script.clients(&[Taste::Nothing]); // What the other one writes would hide what is lost.
    script.act(Gap::Now, Action::Kill(primary));
    script.wait(Cue::Lonely(other), 5_000);
    script.admin(Gap::Now, other, Admin::Promote);
    script.wait(Cue::Primary(other), 2_000);
    script.act(Gap::Now, Action::Join);
    script.boot(Gap::Soon, primary);
    script.wait_for_peace();
}

/// D90: what the peer has not acked is being written down in the bitmap, on a slow disk, while its extents leave the log
/// of the Primary, which loses its power.
pub(super) fn page_under_way_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    if script.way(3) > 0 {
        return page_of_idle_extents_lost(script, setup);
    }
    setup.disk.al_extents = 2 + script.way(2) as u32;
    setup.stragglers = Some(2);
    setup.depth = setup.depth.max(4);
    setup.set("protocol", "C");
    setup.separate_meta |= script.way(4) > 0;
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::Cold]);
    script.pause(200);
    if script.way(3) > 0 {
        script.stall(Gap::Now, other, 400);
    }
    script.wait(Cue::Writing(other), 200);
    script.pause(10);
    if script.way(4) > 0 {
        script.lose_power(Gap::Now, other); // With all that its disk had not flushed.
    } else {
        script.act(Gap::Now, Action::Break);
    }
    script.wait(Cue::Amid(primary, Step::BitmapPage), 3_000);
    script.wait(Cue::Amid(primary, Step::LogBlock), 6);
    match script.way(3) {
        0 => script.wait(Cue::Answered(Asked::Write), 4),
        _ => script.wait(Cue::Writing(primary), 4),
    }
    script.lose_power(Gap::Now, primary);
    script.boot(Gap::Soon, other);
    script.boot(Gap::Soon, primary);
    script.act(Gap::Soon, Action::Join);
    script.wait_for_peace();
}

/// The same, when nobody waits for the log: two extents with writes that the peer lacks become idle, and leave at once.
fn page_of_idle_extents_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("protocol", "C");
    setup.volumes = 1;
    setup.separate_meta = true; // What is written to the data device is a client's write then, behind the log.
    setup.disk.al_extents = 2;
    setup.depth = 1; // Each of two clients has one write under way.
    setup.stragglers = None;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::Cold]);
    script.act(Gap::Now, Action::Stall(other, 3_000));
    for _ in 0..3 {
        script.wait(Cue::Answered(Asked::Write), 150); // It does not come: both are waiting.
    }
    script.clients(&[Taste::Nothing]);
    let factor = 100 + script.way(100) as u32;
    script.act(Gap::Now, Action::Slow(primary, factor));
    script.lose(Gap::Now, other);
    script.wait(Cue::Amid(primary, Step::BitmapPage), 3_000);
    for _ in 0..2 {
        script.wait(Cue::Answered(Asked::Write), 1);
    }
    script.clients(&[Taste::Cold]);
    script.wait(Cue::Amid(primary, Step::LogBlock), 100);
    script.wait(Cue::Writing(primary), 100); // The block is durable.
    script.lose_power(Gap::Now, primary);
    script.boot(Gap::Soon, other);
    script.boot(Gap::Soon, primary);
    script.wait_for_peace();
}

/// I10, I14: what only the Primary has is in its log only when its disk is given up for its metadata, with other extents
/// waiting to take their place.
pub(super) fn log_of_a_failing_disk(script: &mut Script<'_>, setup: &mut Setup) {
    setup.volumes = 1;
    setup.fences = false;
    setup.disk.al_extents = 2; // A write may touch two.
    if script.way(4) == 0 {
        return log_of_a_failing_disk_while_frozen(script, setup);
    }
    setup.set("protocol", "B");
    setup.set("fencing", if script.way(2) == 0 { "resource-and-stonith" } else { "dont-care" });
    setup.separate_meta = true; // No flush of the data is to fail.
    setup.depth = setup.depth.max(4);
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::Cold]);
    script.act(Gap::Now, Action::Stall(other, 3_000)); // It acks what it will not have.
    for _ in 0..6 {
        script.wait(Cue::Answered(Asked::Write), 150); // Until all slots are taken, and others wait.
    }
    let kind = if script.way(2) == 0 { DiskError::Flush } else { DiskError::Write };
    script.act(Gap::Now, Action::DiskErrors { host: primary, meta: true, kind, times: 1 });
    script.lose(Gap::Now, other);
    script.wait(Cue::Unfit(primary), 3_000);
    script.wait(Cue::Amid(primary, Step::LogBlock), 50); // It does not come.
    script.lose(Gap::Soon, primary);
    script.act(Gap::Now, Action::Mend(primary));
    script.boot(Gap::Soon, other);
    script.boot(Gap::Soon, primary);
    script.wait_for_peace();
}

/// The same, when I/O freezes.
fn log_of_a_failing_disk_while_frozen(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("protocol", if script.way(4) > 0 { "B" } else { "C" });
    setup.set("fencing", "resource-and-stonith");
    setup.depth = setup.depth.max(3);
    let primary = script.primary;
    script.clients(&[Taste::Cold]);
    script.pause(100);
    script.wait(Cue::Answered(Asked::Write), 200);
    script.act(Gap::Now, Action::Cut);
    script.wait(Cue::Answered(Asked::Write), 50);
    script.pause(100);
    let kind = if script.way(4) > 0 { DiskError::Flush } else { DiskError::Write };
    script.act(Gap::Now, Action::DiskErrors { host: primary, meta: true, kind, times: 1 });
    script.wait(Cue::Unfit(primary), 3_000);
    if script.way(3) == 0 {
        script.lose(Gap::Soon, primary);
        script.boot(Gap::Soon, primary);
    }
    script.act(Gap::Soon, Action::Join);
    script.admin(Gap::Soon, primary, Admin::Attach);
    script.wait_for_peace();
}
