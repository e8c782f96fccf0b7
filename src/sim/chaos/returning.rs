//! Templates of disks that come and go while the other node has not heard of the last change, or has not noted it:
//! see [`super::templates`].

use super::super::events::HostId;
use super::cues::Cue;
use super::plan::{Action, Admin, DiskError};
use super::reach::OnTheWay;
use super::script::{Gap, Script};
use super::setup::Setup;
use super::workload::{Asked, Taste};

/// M48: a new disk is lost again before anything else made its bits durable; the good one may be, too.
pub(super) fn new_disk_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    if script.way(2) == 0 {
        return old_disk_put_back(script, setup);
    }
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::Cold]);
    script.pause(100);
    script.wait(Cue::Answered(Asked::Write), 200);
    script.lose_power(Gap::Soon, other);
    script.act(Gap::Now, Action::Replace(other));
    match script.way(3) {
        0 => script.lose(Gap::Soon, primary),
        1 => script.act(Gap::Soon, Action::Cut),
        _ => {}
    }
    script.boot(Gap::Soon, other);
    script.act(Gap::Soon, Action::PowerLoss { host: other, all: true });
    script.act(Gap::Now, Action::Join);
    script.boot(Gap::Soon, other);
    if script.way(2) == 0 {
        script.lose(Gap::Soon, primary);
        script.boot(Gap::Later, primary);
    }
    script.wait_for_peace();
}

/// F7, S64: a disk is replaced, and put back when the new one has long been in sync.
fn old_disk_put_back(script: &mut Script<'_>, setup: &mut Setup) {
    match script.way(3) {
        0 => return put_back_amid_a_resync(script, setup),
        1 => return put_back_into_its_generation(script, setup),
        _ => {}
    }
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::Cold, Taste::OnePlace]);
    script.pause(100);
    script.lose(Gap::Soon, other);
    script.wait(Cue::Lonely(primary), 5_000);
    script.wait(Cue::Answered(Asked::Write), 500); // Of a generation that the old one does not know.
    script.act(Gap::Soon, Action::Replace(other));
    script.boot(Gap::Now, other);
    script.wait(Cue::Whole, 8_000);
    script.wait(Cue::Answered(Asked::Write), 200);
    if script.way(4) == 0 {
        script.admin(Gap::Soon, other, Admin::Disconnect { force: false });
        script.wait(Cue::Lonely(primary), 500);
        script.wait(Cue::Answered(Asked::Write), 200);
    }
    script.lose(Gap::Soon, other);
    script.act(Gap::Soon, Action::Replace(other));
    if script.way(4) == 0 {
        script.lose(Gap::Soon, primary);
        script.boot(Gap::Later, primary);
    }
    script.boot(Gap::Soon, other);
    script.wait_for_peace();
    if script.way(2) == 0 {
        script.lose(Gap::Soon, primary);
        script.take_over();
        script.wait_for_peace();
    }
}

/// F7, W180: a disk is replaced while nobody writes, and put back when the new one has long been in sync: by then the other
/// one has got what the first one never will.
fn put_back_into_its_generation(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace, Taste::Cold]);
    if script.way(2) == 0 {
        script.admin(Gap::Now, primary, Admin::Demote);
        script.wait(Cue::Secondary(primary), 2_000);
        script.lose(Gap::Soon, other);
    } else {
        setup.freeze_when_alone();
        script.lose(Gap::Now, other);
        script.wait(Cue::Frozen(primary), 3_000);
    }
    script.act(Gap::Soon, Action::Replace(other));
    script.boot(Gap::Soon, other);
    if script.way(4) == 0 {
        script.wait(Cue::Meeting(other), 5_000);
    } else {
        script.wait(Cue::Whole, 8_000);
    }
    script.admin(Gap::Now, primary, Admin::Promote);
    script.wait(Cue::Primary(primary), 2_000);
    for _ in 0..4 {
        script.wait(Cue::Answered(Asked::Write), 300);
    }
    script.lose(Gap::Soon, other);
    script.act(Gap::Soon, Action::Replace(other));
    script.boot(Gap::Soon, other);
    script.wait_for_peace();
}

/// F7, S64, I10: a disk is replaced, and put back when the new one has some of its blocks. The source has cleared bits for
/// that one, and the old disk has the generation before its sync UUID.
fn put_back_amid_a_resync(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("c-plan-ahead", "0");
    setup.set("resync-rate", "100M");
    setup.set("max-buffers", "512"); // 256 blocks in a tick: two seconds for all.
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace, Taste::Cold]);
    script.lose(Gap::Soon, other);
    script.wait(Cue::Lonely(primary), 5_000);
    for _ in 0..3 {
        script.wait(Cue::Answered(Asked::Write), 500); // Of a generation that the old one does not know.
    }
    if script.way(2) == 0 {
        script.clients(&[Taste::Nothing]);
    }
    script.act(Gap::Soon, Action::Replace(other));
    script.boot(Gap::Now, other);
    script.wait(Cue::Target(other), 5_000);
    if script.way(4) > 0 {
        script.pause(2_000);
    }
    script.lose(Gap::Now, other);
    script.act(Gap::Soon, Action::Replace(other));
    if script.way(3) == 0 {
        script.lose(Gap::Soon, primary);
        script.boot(Gap::Soon, primary);
    }
    script.boot(Gap::Soon, other);
    script.wait_for_peace();
}

/// I22: a disk fails while it negotiates, and is attached again before the peer has answered to the first announcement.
fn announced_again(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    // The Primary itself writes through the other disk meanwhile, and reads.
    let host = if script.way(2) == 0 { script.other } else { script.primary };
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    script.admin(Gap::Now, host, Admin::Detach { force: true });
    script.wait(Cue::Unfit(host), 300);
    script.wait(Cue::Obeyed(host), 500);
    let late = 50 + script.way(150) as u32;
    script.act(Gap::Now, Action::Jitter(late));
    let (meta, kind) = (true, if script.way(2) == 0 { DiskError::Write } else { DiskError::Flush });
    script.act(Gap::Now, Action::DiskErrors { host, meta, kind, times: 1 });
    script.admin(Gap::Now, host, Admin::Attach);
    script.wait(Cue::Obeyed(host), 1_000);
    script.admin(Gap::Now, host, Admin::Attach);
    script.wait(Cue::Obeyed(host), 2_000);
    script.act(Gap::Now, Action::Jitter(0));
    script.wait_for_peace();
}

/// S90, I35: the Primary loses its disk while the other one is away and nobody has noticed; then it writes through a
/// disk of the other one that was attached later, and gets its own back.
pub(super) fn attached_for_the_primary(script: &mut Script<'_>, setup: &mut Setup) {
    match script.way(8) {
        0 | 1 => return refused_behind_a_block(script, setup),
        2 => return announced_again(script, setup),
        _ => {}
    }
    setup.set("fencing", "dont-care");
    setup.volumes = 1;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace, Taste::Durable]);
    script.lose(Gap::Now, other);
    script.admin(Gap::Now, primary, Admin::Detach { force: true });
    script.wait(Cue::Unfit(primary), 300);
    script.act(Gap::Soon, Action::Cut);
    script.boot(Gap::Soon, other);
    script.wait(Cue::Lonely(other), 500);
    script.admin(Gap::Soon, other, Admin::Detach { force: false });
    script.wait(Cue::Lonely(primary), 5_000);
    script.act(Gap::Soon, Action::Join);
    script.wait(Cue::Thawed(other), 5_000);
    if script.way(4) == 0 {
        script.jitter(20);
    }
    script.admin(Gap::Soon, other, Admin::Attach);
    script.wait(Cue::Answered(Asked::Write), 2_000);
    script.pause(100);
    match script.way(4) {
        0 => script.lose(Gap::Soon, other),
        1 => script.part(Gap::Soon),
        _ => {}
    }
    script.admin(Gap::Soon, primary, Admin::Attach);
    script.act(Gap::Later, Action::Join);
    script.boot(Gap::Soon, other);
    script.wait_for_peace();
}

/// T6, I29: a Primary without its disk takes it back and is the target. Its clients' writes wait for blocks that come, and
/// its own disk refuses some: those bits stay, though the blocks are flushed behind that.
fn refused_behind_a_block(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("on-io-error", "pass_on");
    setup.set("c-plan-ahead", "0");
    setup.set("resync-rate", "100M"); // All blocks are asked for at once.
    setup.stragglers = Some(3 + script.way(3)); // Some block comes late, and the flush waits for it.
    setup.depth = 10; // Many writes wait for the blocks.
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All]);
    script.admin(Gap::Now, primary, Admin::Detach { force: true });
    script.wait(Cue::Unfit(primary), 300);
    for _ in 0..15 {
        script.wait(Cue::Answered(Asked::Write), 100); // On the other disk only.
    }
    script.clients(&[Taste::Cold]); // The first blocks of all extents, too.
    for _ in 0..15 {
        script.wait(Cue::Answered(Asked::Write), 100);
    }
    script.clients(&[Taste::Nothing]); // What is written before the blocks are asked for would clear their bits.
    script.wait(Cue::Whole, 100);
    script.admin(Gap::Now, primary, Admin::Attach);
    script.wait(Cue::Target(primary), 3_000);
    let ms = 350 + script.way(150) as u32;
    script.act(Gap::Now, Action::Stall(other, ms)); // The source reads nothing yet.
    script.wait(Cue::OnTheWay(primary, OnTheWay::ResyncRequest), 300);
    script.data_errors(primary, DiskError::Discard, 0); // Trims and zeroes only: the blocks get there.
    script.clients(&[Taste::Cold]);
    script.wait(Cue::Whole, 300); // It does not come: the writes wait.
    script.clients(&[Taste::Nothing]); // What is written from now on would hide it.
    script.wait(Cue::Whole, 1_000);
    script.act(Gap::Now, Action::Mend(primary));
    script.wait_for_peace();
    script.wait(Cue::Unfit(primary), 500); // It does not come: time to compare.
}

/// A9, C11: the Primary writes through the other one, which has not got to noting that in a new generation, when the
/// Primary's disk comes back, or tries to.
pub(super) fn back_before_the_generation(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("protocol", "C");
    setup.volumes = 1;
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::OnePlace, Taste::Durable]);
    script.pause(50);
    script.wait(Cue::Unflushed(other), 200);
    script.stall(Gap::Now, other, 1_500);
    script.admin(Gap::Now, other, Admin::Invalidate);
    script.admin(Gap::Soon, primary, Admin::Detach { force: true });
    script.wait(Cue::Unfit(primary), 300);
    script.wait(Cue::OnTheWay(primary, OnTheWay::Write), 200);
    script.pause(50);
    if script.way(2) == 0 {
        let (host, times) = (primary, 1);
        script.act(Gap::Now, Action::DiskErrors { host, meta: true, kind: DiskError::Write, times });
    }
    script.admin(Gap::Soon, primary, Admin::Attach);
    script.wait(Cue::Answered(Asked::Write), 2_000);
    match script.way(4) {
        0 => script.lose(Gap::Soon, primary),
        1 => script.lose(Gap::Soon, other),
        _ => {}
    }
    script.act(Gap::Soon, Action::Mend(primary));
    script.boot(Gap::Soon, other);
    script.boot(Gap::Soon, primary);
    script.admin(Gap::Later, primary, Admin::Attach);
    script.wait_for_peace();
}

/// T17, T21, I3: the other disk is gone, and has refused writes, but what it says of itself is late; the only copy is
/// to be given up, or is lost, and the old one comes back.
pub(super) fn only_copy_given_up(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("protocol", "C");
    setup.set("fencing", "dont-care");
    setup.volumes = 1;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace, Taste::Durable]);
    if script.way(4) == 0 {
        return old_copy_comes_back(script);
    }
    if script.way(2) == 0 {
        script.jitter(80); // What is said on one of the two sockets may come long before what is on the other.
        script.admin(Gap::Now, other, Admin::Detach { force: true });
        script.wait(Cue::Unfit(other), 300);
    } else {
        script.act(Gap::Now, Action::Silence(other));
        script.admin(Gap::Now, other, Admin::Detach { force: true });
        script.wait(Cue::Unfit(other), 300);
        script.act(Gap::Now, Action::Join);
    }
    script.wait(Cue::Answered(Asked::Write), 200);
    let force = script.way(3) == 0;
    script.admin(Gap::Now, primary, Admin::Detach { force });
    script.wait(Cue::Unfit(primary), 300);
    if script.way(3) == 0 {
        script.admin(Gap::Soon, other, Admin::Attach);
    } else {
        script.lose(Gap::Now, other);
        script.boot(Gap::Soon, other);
    }
    script.wait(Cue::Answered(Asked::Write), 3_000);
    script.admin(Gap::Soon, primary, Admin::Attach);
    script.wait_for_peace();
}

/// S31, I25: the other disk has refused what clients were told is done, and what that node says of itself comes late; the
/// only copy is lost before, and the old one comes back: nobody is shown that.
fn old_copy_comes_back(script: &mut Script<'_>) {
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::Nothing]);
    for _ in 0..2 {
        script.wait(Cue::Answered(Asked::Write), 100); // Until nothing is on its way to the other one.
    }
    let late = 200 + script.way(50) as u32; // Less than a ping may take.
    script.act(Gap::Now, Action::Jitter(late));
    script.admin(Gap::Now, other, Admin::Detach { force: true });
    script.wait(Cue::Unfit(other), 300);
    script.wait(Cue::OnTheWay(other, OnTheWay::State), 20);
    script.act(Gap::Now, Action::Jitter(0)); // What is said now is soon there, but on the socket of the state.
    script.clients(&[Taste::All, Taste::Cold]);
    for _ in 0..2 + script.way(4) {
        script.wait(Cue::Answered(Asked::Write), 50); // Refused there, and of a new generation.
    }
    script.clients(&[Taste::Nothing]); // What is written later would hide what is lost.
    script.admin(Gap::Now, primary, Admin::Detach { force: true });
    script.wait(Cue::Unfit(primary), 300);
    if script.way(2) == 0 {
        script.act(Gap::Soon, Action::Kill(other)); // Its power would be an excuse: both copies failed.
        script.wait(Cue::Lonely(primary), 5_000);
        script.boot(Gap::Soon, other);
    } else {
        script.act(Gap::Soon, Action::Cut);
        script.wait(Cue::Lonely(other), 5_000);
        script.wait(Cue::Lonely(primary), 5_000);
        script.admin(Gap::Now, other, Admin::Attach); // Alone, it may.
        script.wait(Cue::Obeyed(other), 500);
        script.act(Gap::Soon, Action::Join);
    }
    script.wait(Cue::OnTheWay(other, OnTheWay::State), 5_000); // They meet.
    script.clients(&[Taste::All]);
    script.wait(Cue::Whole, 1_500); // It does not come: the clients have time to read.
    script.admin(Gap::Now, primary, Admin::Attach);
    script.admin(Gap::Soon, primary, Admin::Connect);
    script.wait_for_peace();
}

/// I3: a node asks to give up its copy for the peer's, whose disk goes at that moment, or the connection (W196).
pub(super) fn both_given_up_at_once(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.volumes = 1;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    let (asks, goes) = if script.way(4) == 0 { (primary, other) } else { (other, primary) };
    if script.way(2) == 0 {
        asked_before_the_news(script, asks, goes);
    } else {
        asked_while_it_goes(script, asks, goes);
    }
    match script.way(4) {
        0 => script.lose(Gap::Soon, goes),
        1 => script.part(Gap::Soon),
        _ => {}
    }
    script.act(Gap::Later, Action::Join);
    script.boot(Gap::Soon, goes);
    script.admin(Gap::Later, goes, Admin::Attach);
    script.wait_for_peace();
}

/// The copy that is to stay goes, or the connection, while its node is asked.
fn asked_while_it_goes(script: &mut Script<'_>, asks: HostId, goes: HostId) {
    script.jitter(20);
    let parts = script.way(3) == 0;
    if parts {
        let ms = 2_000 + script.way(1_000) as u32; // They meet again before that.
        script.act(Gap::Now, Action::Stall(goes, ms));
    } else if script.way(2) == 0 {
        script.slow(goes); // It is Failed for a while.
    }
    script.admin(Gap::Now, asks, Admin::Invalidate);
    script.wait(Cue::OnTheWay(asks, OnTheWay::Request), 1_000);
    if parts || script.way(2) == 0 {
        script.pause(20); // The one that is asked makes its copy durable first.
    }
    if parts {
        script.act(Gap::Now, Action::Break);
        script.wait(Cue::Lonely(asks), 500);
        script.wait(Cue::Thawed(asks), 2_000);
    } else {
        script.admin(Gap::Now, goes, Admin::Detach { force: true });
    }
    if !parts && script.way(2) == 0 {
        script.wait(Cue::Unfit(goes), 100);
        script.admin(Gap::Now, goes, Admin::Attach);
    }
    script.wait(Cue::Unfit(asks), 200);
}

/// The answer overtakes what is said of the disk: it has to say itself that there is no copy to go by.
fn asked_before_the_news(script: &mut Script<'_>, asks: HostId, goes: HostId) {
    let late = 40 + script.way(40) as u32;
    script.act(Gap::Now, Action::Jitter(late));
    script.admin(Gap::Now, goes, Admin::Detach { force: true });
    script.wait(Cue::OnTheWay(goes, OnTheWay::State), 500);
    script.act(Gap::Now, Action::Jitter(0)); // The state, and what is written after it, are behind on their socket.
    script.admin(Gap::Now, asks, Admin::Invalidate);
    script.wait(Cue::Obeyed(asks), 500);
}
