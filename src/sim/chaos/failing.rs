//! Templates of disks that fail or are given up, and of losses just then: see [`super::templates`].

use super::cues::Cue;
use super::plan::{Action, Admin, DiskError};
use super::script::{Gap, Script};
use super::setup::Setup;
use super::workload::{Asked, Taste};
use crate::config::options::Protocol;
use crate::node::steps::Step;

/// T10: the Secondary's disk fails, or is given up, when it has something in its cache; then its power fails.
pub(super) fn disk_fails_before_the_flush(script: &mut Script<'_>, setup: &mut Setup) {
    if script.way(3) == 0 {
        return flush_of_the_primary_fails(script, setup);
    }
    setup.set("fencing", "dont-care");
    setup.set("on-io-error", if script.way(4) == 0 { "pass_on" } else { "detach" });
    let (primary, other) = (script.primary, script.other);
    let host = if script.way(4) == 0 { primary } else { other };
    script.clients(&[Taste::All, Taste::OnePlace, Taste::Flushes]);
    script.pause(50);
    if script.way(3) == 0 {
        script.jitter(40); // What a node refuses may be known before why it does.
    }
    if script.way(2) == 0 {
        script.slow(host);
    }
    script.wait(Cue::Answered(Asked::Write), 200);
    script.wait(Cue::Unflushed(host), 50);
    let (meta, times) = (script.way(4) == 0, script.way(3) as u32);
    match script.way(8) {
        0 | 1 => script.admin(Gap::Now, host, Admin::Detach { force: true }),
        2 => script.admin(Gap::Now, host, Admin::Detach { force: false }),
        3 | 4 => {
            script.act(Gap::Now, Action::DiskErrors { host, meta, kind: DiskError::Write, times });
        }
        _ => {
            script.data_errors(host, DiskError::Flush, times);
        }
    }
    if script.way(2) == 0 {
        // What is written from now on would hide what was lost.
        script.clients(&[Taste::Nothing]);
    }
    script.wait(Cue::Unfit(host), 300);
    if script.way(3) == 0 {
        script.wait(Cue::Answered(Asked::Flush), 100);
    }
    let gap = if script.way(2) == 0 { Gap::Soon } else { Gap::Now };
    script.lose_power(gap, host);
    if script.way(3) == 0 {
        script.lose(Gap::Soon, 1 - host);
    }
    script.act(Gap::Now, Action::Mend(host));
    script.boot(Gap::Now, host);
    if script.way(3) == 0 {
        script.wait(Cue::Lonely(host), 500);
        script.admin(Gap::Now, host, Admin::Promote);
        script.wait(Cue::Primary(host), 500);
    }
    script.boot(Gap::Soon, 1 - host);
    script.wait_for_peace();
    if script.way(2) == 0 {
        script.lose(Gap::Soon, 1 - host);
        script.admin(Gap::Later, host, Admin::Promote);
    }
}

/// T10, F3: a flush of the Primary fails, with what was to be durable; its disk stays in use, as the worse one, or as the
/// source of a run that stands still.
fn flush_of_the_primary_fails(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("on-io-error", if script.way(4) == 0 { "detach" } else { "pass_on" });
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    script.wait(Cue::Answered(Asked::Write), 200);
    if script.way(2) == 0 {
        script.admin(Gap::Now, other, Admin::Disconnect { force: false });
        script.wait(Cue::Lonely(primary), 1_000);
        script.wait(Cue::Answered(Asked::Write), 200);
        script.admin(Gap::Now, primary, Admin::PauseSync);
        script.admin(Gap::Now, other, Admin::Connect);
        script.wait(Cue::Writing(other), 5_000); // A client's write: the run stands still.
    }
    for _ in 0..1 + script.way(4) {
        script.wait(Cue::Answered(Asked::Write), 100);
    }
    script.wait(Cue::Unflushed(primary), 100);
    script.data_errors(primary, DiskError::Flush, 1);
    script.clients(&[Taste::Flushes]);
    script.wait(Cue::Answered(Asked::Flush), 200);
    script.clients(&[Taste::Nothing]); // What is written from now on would hide what was lost.
    script.act(Gap::Now, Action::Mend(primary));
    script.admin(Gap::Soon, primary, Admin::ResumeSync);
    script.admin(Gap::Soon, primary, Admin::Attach);
    if script.way(2) == 0 {
        script.part(Gap::Soon);
        script.act(Gap::Soon, Action::Join);
    }
    script.wait_for_peace();
}

/// T29: in protocol B the peer cannot write what it has acked, and loses the bit that tells of it; in protocol C
/// it has refused the write, and loses that its disk is not good any more (T21).
pub(super) fn late_refusal(script: &mut Script<'_>, setup: &mut Setup) {
    match script.way(8) {
        0 => return refused_behind_the_scan(script, setup),
        1 => return source_that_cannot_read_for_a_while(script, setup),
        2 => return verified_under_a_slow_write(script, setup),
        3 => return refused_behind_the_bitmap(script, setup),
        _ => {}
    }
    setup.volumes = 1;
    setup.set("protocol", if script.way(2) == 0 { "B" } else { "C" });
    setup.set("on-io-error", "pass_on");
    let other = script.other;
    script.clients(&[Taste::All, Taste::OnePlace, Taste::Durable]);
    script.pause(50);
    if script.way(2) == 0 {
        // Nothing of it gets into the metadata either.
        let (meta, kind) = (true, DiskError::Write);
        script.act(Gap::Now, Action::DiskErrors { host: other, meta, kind, times: 0 });
        script.jitter(20);
    }
    let times = 1 + script.way(2) as u32;
    script.data_errors(other, DiskError::Write, times);
    script.wait(Cue::Unfit(other), 500);
    if script.way(3) > 0 {
        script.clients(&[Taste::Nothing]);
    }
    let gap = if script.way(2) == 0 { Gap::Now } else { Gap::Soon };
    match script.way(4) {
        0 | 1 => script.lose(gap, other),
        2 => script.part(gap),
        // The disk comes back to the same connection, on which its writes are not settled.
        _ => script.admin(gap, other, Admin::Detach { force: true }),
    }
    script.act(Gap::Soon, Action::Mend(other));
    script.boot(Gap::Soon, other);
    script.act(Gap::Soon, Action::Join);
    script.admin(Gap::Soon, other, Admin::Attach);
    script.wait_for_peace();
}

/// T29, I10: in protocol A or B the peer's disk goes with writes under way, and is back on the same connection. What it
/// says of those is late: the bitmap of the resync is there before.
fn refused_behind_the_bitmap(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("protocol", if script.way(2) == 0 { "A" } else { "B" });
    setup.depth = setup.depth.max(6);
    let other = script.other;
    script.clients_write(&[Taste::All, Taste::OnePlace]);
    let late = 30 + script.way(170) as u32;
    script.act(Gap::Now, Action::Jitter(late));
    script.wait(Cue::Answered(Asked::Write), 200);
    script.admin(Gap::Now, other, Admin::Detach { force: true });
    script.wait(Cue::Unfit(other), 300);
    script.admin(Gap::Now, other, Admin::Attach);
    script.clients(&[Taste::Nothing]); // What is written from now on would mend it.
    script.wait(Cue::Whole, 4_000);
    script.act(Gap::Now, Action::Jitter(0));
    script.wait_for_peace();
}

/// T14, I31: a run has passed some blocks and is paused; the target cannot write there what a client writes. Nothing of the
/// run itself fails: it looks for them once more.
fn refused_behind_the_scan(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("on-io-error", "pass_on");
    setup.set("c-plan-ahead", "0");
    setup.set("resync-rate", "20000"); // A second for all: 500 blocks in a tick, the first ones first.
    setup.set("max-buffers", "2048");
    let (primary, other) = (script.primary, script.other);
    let pauses = if script.way(2) == 0 { primary } else { other };
    script.clients_write(&[Taste::OnePlace]);
    script.clients(&[Taste::Nothing]);
    script.wait(Cue::Answered(Asked::Write), 20);
    script.admin(Gap::Now, other, Admin::Invalidate);
    script.wait(Cue::Target(other), 5_000);
    script.wait(Cue::Amid(other, Step::ResyncFlush), 2_000); // The first blocks are there.
    script.admin(Gap::Now, pauses, Admin::PauseSync);
    script.wait(Cue::Obeyed(pauses), 500);
    script.wait(Cue::Lonely(primary), 150); // It does not come: no block of the run is under way.
    script.data_errors(other, DiskError::Write, 0); // Clients' writes only.
    script.clients(&[Taste::OnePlace]);
    for _ in 0..3 + script.way(3) {
        script.wait(Cue::Answered(Asked::Write), 100);
    }
    script.clients(&[Taste::Nothing]); // What is written from now on would mend it.
    script.wait(Cue::Lonely(primary), 50); // It does not come.
    script.act(Gap::Now, Action::Mend(other));
    script.admin(Gap::Soon, pauses, Admin::ResumeSync);
    script.wait_for_peace();
}

/// T12, I31: the source cannot read as many blocks as may be asked for at once, and then it can: the run goes on.
fn source_that_cannot_read_for_a_while(script: &mut Script<'_>, setup: &mut Setup) {
    if script.way(2) == 0 {
        return mended_by_a_client(script, setup);
    }
    setup.be_plain();
    setup.set("on-io-error", "pass_on"); // The only good disk: it stays in use.
    setup.set("c-plan-ahead", "0");
    setup.set("resync-rate", "100M");
    setup.set("max-buffers", "512"); // 256 blocks in a tick: two seconds for all.
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::Cold]);
    script.clients(&[Taste::Nothing]); // A client's read that fails would mark bits of the source alone.
    script.wait(Cue::Answered(Asked::Write), 20);
    script.wait(Cue::Lonely(primary), 100); // It does not come: nothing is under way.
    script.admin(Gap::Now, other, Admin::Invalidate);
    script.wait(Cue::Target(other), 5_000);
    script.data_errors(primary, DiskError::Read, 0);
    let ticks = 150 + script.way(200);
    script.wait(Cue::Lonely(primary), ticks); // It does not come: some ticks.
    script.act(Gap::Now, Action::Mend(primary));
    script.wait_for_peace();
}

/// W180, I27: the source cannot read a block of a run, and a client writes it before the run ends: nothing is left of what
/// has failed.
fn mended_by_a_client(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("on-io-error", "pass_on"); // The only good disk: it stays in use.
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::OneBlock]);
    script.admin(Gap::Now, other, Admin::Disconnect { force: false });
    script.wait(Cue::Lonely(primary), 1_000);
    for taste in [Taste::OneBlock, Taste::Tail] {
        script.clients_write(&[taste]);
        for _ in 0..4 {
            script.wait(Cue::Answered(Asked::Write), 100);
        }
    }
    script.clients(&[Taste::Nothing]);
    script.wait(Cue::Answered(Asked::Write), 20); // Until nothing is under way.
    script.admin(Gap::Now, other, Admin::Connect);
    script.wait(Cue::Target(other), 5_000);
    script.data_errors(primary, DiskError::Read, 1); // Of the block, or of the tail.
    script.slow_write(other, 8_000); // The other one takes 0.2 to 2.5 s.
    script.clients_write(&[Taste::OneBlock]);
    for _ in 0..2 + script.way(3) {
        script.wait(Cue::Answered(Asked::Write), 100);
    }
    script.clients(&[Taste::Nothing]);
    script.wait_for_peace();
}

/// D144, I32: a write is on one of the disks and still under way on the other, slow one, when a verify comes to its block:
/// that waits for it, and finds no difference.
fn verified_under_a_slow_write(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("c-plan-ahead", "0");
    setup.set("resync-rate", "400M");
    setup.depth = 1; // No other write waits for it, which would clear the bit.
    let (primary, other) = (script.primary, script.other);
    let slow = if script.way(3) == 0 { primary } else { other };
    let asks = if script.way(2) == 0 { primary } else { other };
    script.clients_write(&[Taste::OnePlace]); // The first blocks: a verify begins there.
    script.clients(&[Taste::Nothing]);
    script.wait(Cue::Answered(Asked::Write), 20); // Until nothing is under way.
    let factor = 1_500 + script.way(1_500) as u32; // The write takes 45 to 460 ms: less than a timeout.
    script.act(Gap::Now, Action::Slow(slow, factor));
    script.clients(&[Taste::OnePlace]);
    script.wait(Cue::Writing(slow), 3_000); // Sent before the run: it clears no bit.
    script.clients(&[Taste::Nothing]); // What is written later would hide the mark.
    script.act(Gap::Now, Action::Slow(slow, 1)); // A read overtakes it.
    script.admin(Gap::Now, asks, Admin::Verify);
    script.wait(Cue::Amid(primary, Step::VerifyRead), 2_000);
    script.wait_for_peace();
    script.wait(Cue::Lonely(primary), 1_000); // It does not come: time to compare.
}

/// I3: in the middle of a resync one disk cannot take a write that the other one takes.
pub(super) fn one_disk_of_a_resync_refuses(script: &mut Script<'_>, setup: &mut Setup) {
    if script.way(2) == 0 {
        return one_disk_of_a_verify_refuses(script, setup);
    }
    setup.set("on-io-error", "pass_on");
    setup.set("protocol", if script.way(2) == 0 { "B" } else { "C" });
    let (primary, other) = (script.primary, script.other);
    let host = if script.way(2) == 0 { other } else { primary };
    script.clients(&[Taste::All, Taste::OnePlace, Taste::Durable]);
    script.admin(Gap::Soon, other, Admin::Disconnect { force: false });
    script.wait(Cue::Lonely(primary), 500);
    script.wait(Cue::Answered(Asked::Write), 200);
    script.wait(Cue::Answered(Asked::Write), 200);
    if script.way(3) > 0 {
        script.slow(other);
    }
    script.admin(Gap::Soon, other, Admin::Connect);
    script.wait(Cue::Target(other), 3_000);
    let times = 1 + script.way(2) as u32;
    script.data_errors(host, DiskError::Write, times);
    script.wait(Cue::Answered(Asked::Write), 200);
    if script.way(2) == 0 {
        script.clients(&[Taste::Nothing]);
    }
    script.wait_for_peace();
}

/// D35, I11: a verify runs in protocol A or B, and the Primary's disk refuses a write that the peer has received. That calls
/// it in sync later, before it hears that the verify is over, and acks its epoch: the bit stays all the same.
fn one_disk_of_a_verify_refuses(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("protocol", if script.way(3) == 0 { "A" } else { "B" });
    setup.set("on-io-error", "pass_on");
    setup.set("c-plan-ahead", "0");
    setup.set("resync-rate", "400"); // It lasts.
    setup.depth = setup.depth.max(3);
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::Cold, Taste::Tail]); // Whole blocks: a part of one clears no bit.
    script.admin(Gap::Now, other, Admin::Verify); // The one that asked would tell at once that it is over.
    script.wait(Cue::Amid(primary, Step::VerifyRead), 2_000);
    let factor = 30 + script.way(100) as u32; // The own disk has refused a write before the peer's has it, or an older one.
    script.act(Gap::Now, Action::Slow(other, factor));
    script.pause(20);
    script.data_errors(primary, DiskError::Write, 0);
    script.wait(Cue::Unfit(primary), 500); // That is noted first, then told:
    let late = 100 + script.way(100) as u32;
    script.act(Gap::Now, Action::Jitter(late)); // ... late, while the peer still takes it for a verify.
    script.clients(&[Taste::Nothing]); // What is written from now on would mend it.
    script.pause(300);
    script.act(Gap::Now, Action::Mend(primary));
    script.act(Gap::Now, Action::Slow(other, 1));
    script.act(Gap::Now, Action::Jitter(0));
    script.wait(Cue::Whole, 1_500); // It does not come: time to look at what differs.
    script.act(Gap::Soon, Action::Break); // The bits tell what the next resync brings.
    script.wait_for_peace();
}

/// T21: the Primary's disk is given up after a write that it could not take, and the power fails before the peer
/// has heard of it.
pub(super) fn failing_disk_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.volumes = 1;
    setup.set("on-io-error", "detach");
    let primary = script.primary;
    script.clients(&[Taste::All, Taste::OnePlace]);
    script.pause(50);
    if script.way(3) > 0 {
        // The peer has the write long before the own disk has failed, and hears late of that.
        script.slow(primary);
        script.jitter(10);
    }
    script.wait(Cue::Answered(Asked::Write), 200);
    script.data_errors(primary, DiskError::Write, 1);
    script.wait(Cue::Unfit(primary), 300);
    if script.way(4) > 0 {
        script.wait(Cue::Answered(Asked::Write), 2);
    }
    if script.way(2) == 0 {
        script.act(Gap::Now, Action::Cut); // Nor does the peer hear of it later.
    }
    script.lose_power(Gap::Now, primary);
    script.act(Gap::Soon, Action::Join);
    script.boot(Gap::Soon, primary);
    script.wait_for_peace();
}

/// T38, I3: the Primary gives up its copy for the peer's, or has to, and the peer is lost.
pub(super) fn given_up_for_the_peer(script: &mut Script<'_>, setup: &mut Setup) {
    setup.volumes = 1;
    setup.set("fencing", "dont-care");
    let (primary, other) = (script.primary, script.other);
    if script.way(3) == 0 {
        setup.be_two_primaries();
        script.admin(Gap::Now, other, Admin::Promote);
        script.wait(Cue::Primary(other), 2_000);
    }
    script.clients(&[Taste::All, Taste::OnePlace]);
    script.pause(50);
    if script.way(2) == 0 {
        script.slow(other);
    }
    if script.way(3) == 0 {
        script.jitter(20);
    }
    script.wait(Cue::Answered(Asked::Write), 200);
    script.wait(Cue::Unflushed(other), 50);
    if script.way(6) == 0 {
        script.data_errors(other, DiskError::Flush, 1);
    }
    if script.way(6) == 0 {
        return last_writes_given_up(script);
    }
    let (who, gives_up) = match script.way(8) {
        0 | 1 => (primary, Admin::Invalidate),
        2 | 3 => (other, Admin::InvalidateRemote),
        4 | 5 => (primary, Admin::Detach { force: false }),
        _ => (primary, Admin::Detach { force: true }),
    };
    script.admin(Gap::Now, who, gives_up);
    script.wait(Cue::Unfit(primary), 300);
    if script.way(2) == 0 {
        script.clients(&[Taste::Nothing]);
    }
    if script.way(2) == 0 {
        script.lose_power(Gap::Now, other);
    } else {
        script.lose_the_other();
    }
    let own_first = script.way(3) == 0;
    if own_first {
        script.admin(Gap::Later, primary, Admin::Attach);
    }
    script.act(Gap::Soon, Action::Join);
    script.boot(Gap::Soon, other);
    if !own_first {
        script.act(Gap::Later, Action::Clients(Taste::All));
        script.admin(Gap::Later, primary, Admin::Attach);
    }
    script.wait_for_peace();
}

/// I3: what only the Primary's disk has is given up with it, before the peer is known to be lost.
fn last_writes_given_up(script: &mut Script<'_>) {
    let (primary, other) = (script.primary, script.other);
    script.act(Gap::Now, Action::Silence(primary));
    script.wait(Cue::Writing(primary), 50);
    script.admin(Gap::Soon, primary, Admin::Detach { force: true });
    script.wait(Cue::Lonely(primary), 5_000);
    script.act(Gap::Soon, Action::Join);
    script.boot(Gap::Soon, other);
    script.admin(Gap::Later, primary, Admin::Attach);
    script.wait_for_peace();
}

/// S31, S37.7: a node whose disk is older than the peer's shows the peer's data, loses it, and gets its disk back.
pub(super) fn older_disk_comes_back(script: &mut Script<'_>, setup: &mut Setup) {
    setup.volumes = 1;
    setup.set("fencing", "dont-care");
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::OnePlace]);
    let force = script.way(2) == 0;
    script.admin(Gap::Soon, other, Admin::Detach { force });
    script.wait(Cue::Unfit(other), 300);
    script.wait(Cue::Answered(Asked::Write), 200);
    if script.way(3) > 0 {
        script.lose(Gap::Soon, other);
        script.boot(Gap::Soon, other);
        script.wait(Cue::Lonely(other), 100);
        script.admin(Gap::Now, other, Admin::Detach { force: true });
    }
    script.wait(Cue::Thawed(other), 3_000);
    script.admin(Gap::Now, primary, Admin::Demote);
    script.wait(Cue::Secondary(primary), 2_000);
    script.admin(Gap::Now, other, Admin::Promote);
    script.wait(Cue::Primary(other), 2_000);
    script.wait(Cue::Answered(Asked::Write), 200);
    script.part(Gap::Soon);
    script.wait(Cue::Lonely(other), 5_000);
    script.admin(Gap::Now, other, Admin::Attach);
    script.pause(1_000);
    if script.way(2) == 0 {
        script.act(Gap::Soon, Action::Join);
    }
    script.wait_for_peace();
}

/// I9: the peer's disk is given up while writes go there.
pub(super) fn failed_disk_of_the_peer(script: &mut Script<'_>, setup: &mut Setup) {
    if script.way(2) == 0 {
        return written_alone_before_the_ack(script, setup);
    }
    setup.set("on-io-error", if script.way(2) == 0 { "call-local-io-error" } else { "detach" });
    let other = script.other;
    script.clients(&[Taste::All, Taste::OnePlace]);
    script.pause(50);
    script.slow(other);
    script.wait(Cue::Writing(other), 200);
    if script.way(2) == 0 {
        script.admin(Gap::Now, other, Admin::Detach { force: true });
    } else {
        let kind = if script.way(2) == 0 { DiskError::Write } else { DiskError::Flush };
        script.data_errors(other, kind, 1);
    }
    script.wait(Cue::Unfit(other), 500);
    if script.way(2) == 0 {
        script.wait(Cue::Answered(Asked::Write), 50);
        script.lose_power(Gap::Soon, other);
        script.boot(Gap::Soon, other);
    }
    script.act(Gap::Soon, Action::Slow(other, 1));
    script.clients(&[Taste::All, Taste::Nothing]);
    script.admin(Gap::Later, other, Admin::Attach);
    script.wait_for_peace();
}

/// D35, I11: a verify runs, and the peer has called the last write in sync. It gives its disk up, and the Primary writes there
/// again, alone, before the barrier of the older write is acked: the bit of the newer one stays all the same.
fn written_alone_before_the_ack(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("c-plan-ahead", "0");
    setup.set("resync-rate", "400"); // It lasts, and does not get to the end of the device.
    setup.depth = 1; // What is under way is soon done.
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::Tail]);
    let asks = if script.way(2) == 0 { primary } else { other };
    script.admin(Gap::Now, asks, Admin::Verify);
    script.wait(Cue::Amid(primary, Step::VerifyRead), 2_000);
    for _ in 0..2 {
        script.wait(Cue::Answered(Asked::Write), 200); // Sent in the run.
    }
    script.clients(&[Taste::Nothing]);
    for _ in 0..2 {
        script.wait(Cue::Answered(Asked::Write), 2); // The last one: its barrier comes 10 ms behind it.
    }
    let ms = 200 + script.way(200) as u32; // Less than a timeout: the flush before the ack takes so long.
    script.act(Gap::Now, Action::Stall(other, ms));
    script.admin(Gap::Now, other, Admin::Detach { force: true });
    script.wait(Cue::Doubtful(primary), 50); // That is told at once.
    script.clients(&[Taste::Tail]);
    script.wait(Cue::Answered(Asked::Write), 100); // On one disk only.
    script.clients(&[Taste::Nothing]); // What is written after the ack would mark it again.
    script.wait(Cue::Whole, 1_000); // It does not come: time to look at what differs.
    script.admin(Gap::Soon, other, Admin::Attach);
    script.wait_for_peace();
}

/// I2, D30: the only disk is the peer's, and it cannot take what the peer has received.
pub(super) fn peer_refuses_the_only_copy(script: &mut Script<'_>, setup: &mut Setup) {
    setup.volumes = 1;
    if script.way(4) == 0 {
        return peer_gives_up_the_only_copy(script, setup);
    }
    setup.set("protocol", if script.way(4) > 0 { "B" } else { "C" });
    setup.set("on-io-error", "pass_on");
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::OnePlace]);
    let force = script.way(2) == 0;
    script.admin(Gap::Soon, primary, Admin::Detach { force });
    script.wait(Cue::Unfit(primary), 300);
    script.pause(2_000);
    script.wait(Cue::Answered(Asked::Write), 200);
    let times = 1 + script.way(2) as u32;
    script.data_errors(other, DiskError::Write, times);
    script.pause(50);
    if script.way(2) == 0 {
        script.clients(&[Taste::Nothing]);
    }
    script.admin(Gap::Later, primary, Admin::Attach);
    script.wait_for_peace();
}

/// D47: the only disk is the peer's, and that is given up while reads are on their way to it.
fn peer_gives_up_the_only_copy(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("on-io-error", "detach");
    setup.depth = setup.depth.max(6);
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::OnePlace]);
    script.admin(Gap::Soon, primary, Admin::Detach { force: false });
    script.wait(Cue::Unfit(primary), 300);
    script.act(Gap::Now, Action::Jitter(60));
    let factor = 100 + script.way(100) as u32;
    script.act(Gap::Now, Action::Slow(other, factor)); // It takes a while to let go of its disk.
    script.wait(Cue::Amid(other, Step::PeerRead), 300);
    if script.way(2) == 0 {
        script.admin(Gap::Now, other, Admin::Detach { force: true });
    } else {
        let meta = script.way(2) == 0;
        script.act(Gap::Now, Action::DiskErrors { host: other, meta, kind: DiskError::Write, times: 1 });
    }
    script.wait(Cue::Unfit(other), 500);
    script.admin(Gap::Later, other, Admin::Attach);
    script.admin(Gap::Later, primary, Admin::Attach);
    script.wait_for_peace();
}

/// T17: a Primary without a disk writes through a peer whose own I/O is suspended, and its old disk comes back.
pub(super) fn written_through_a_suspended_peer(script: &mut Script<'_>, setup: &mut Setup) {
    setup.volumes = 1;
    setup.set("fencing", "dont-care");
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::OnePlace]);
    script.admin(Gap::Soon, other, Admin::SuspendIo);
    script.wait(Cue::Frozen(other), 300);
    let force = script.way(3) == 0;
    script.admin(Gap::Soon, primary, Admin::Detach { force });
    script.wait(Cue::Unfit(primary), 300);
    script.wait(Cue::Answered(Asked::Write), 300);
    match script.way(3) {
        0 => script.admin(Gap::Soon, primary, Admin::Attach),
        1 => script.lose(Gap::Soon, other),
        _ => {}
    }
    script.lose(Gap::Soon, primary);
    script.boot(Gap::Later, primary);
    script.boot(Gap::Soon, other);
    script.admin(Gap::Later, other, Admin::ResumeIo);
    script.wait_for_peace();
}

/// I1, I3: a Primary is the target of a resync, and loses its source with writes under way.
pub(super) fn source_of_the_primary_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", if script.way(2) == 0 { "dont-care" } else { "resource-and-stonith" });
    if setup.net.protocol == Protocol::A {
        setup.set("protocol", "C"); // Nobody may have both (154).
    }
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::OnePlace]);
    if script.way(4) == 0 {
        script.admin(Gap::Soon, primary, Admin::Invalidate);
    } else {
        let force = script.way(3) == 0;
        script.admin(Gap::Soon, primary, Admin::Detach { force });
        script.wait(Cue::Unfit(primary), 300);
        script.wait(Cue::Answered(Asked::Write), 200);
        script.admin(Gap::Soon, primary, Admin::Attach);
    }
    if script.way(3) > 0 {
        script.slow(other);
    }
    script.wait(Cue::Target(primary), 3_000);
    script.wait(Cue::Writing(primary), 50);
    script.lose_the_other();
    script.act(Gap::Later, Action::Join);
    script.boot(Gap::Now, other);
    script.wait_for_peace();
}

/// D58, I9: the target of a resync that is paused cannot write what was in sync: its own bit alone makes it ask for that.
pub(super) fn refused_by_a_paused_target(script: &mut Script<'_>, setup: &mut Setup) {
    if script.way(3) == 0 {
        return block_of_a_lost_run(script, setup);
    }
    if script.way(4) == 0 {
        return outdated_while_inconsistent(script, setup);
    }
    let once = script.way(3) == 0;
    setup.set("fencing", "dont-care");
    setup.set("protocol", if script.way(4) == 0 { "B" } else { "C" });
    setup.set("on-io-error", "pass_on");
    setup.volumes = 1;
    setup.separate_meta = true; // No write to the metadata is to fail.
    let (primary, other) = (script.primary, script.other);
    let pauses = if script.way(2) == 0 { primary } else { other };
    script.clients_write(&[Taste::OnePlace]); // Two blocks are out of sync, and no others.
    script.admin(Gap::Now, other, Admin::Disconnect { force: false });
    script.wait(Cue::Lonely(primary), 1_000);
    script.wait(Cue::Answered(Asked::Write), 200);
    script.admin(Gap::Now, pauses, Admin::PauseSync);
    script.admin(Gap::Now, other, Admin::Connect);
    script.wait(Cue::Writing(other), 5_000); // A client's write: the run stands still.
    if once {
        // The one before it is good, and in sync when it is durable: not any more (I11).
        setup.depth = 1;
        script.clients(&[Taste::OneBlock]);
        for _ in 0..3 + script.way(4) {
            script.wait(Cue::Answered(Asked::Write), 100);
        }
        script.data_errors(other, DiskError::Write, 1);
        script.wait(Cue::Answered(Asked::Write), 100);
    } else {
        script.clients(&[Taste::Cold, Taste::All, Taste::Durable]);
        script.pause(20);
        script.data_errors(other, DiskError::Write, 0);
        for _ in 0..2 + script.way(3) {
            script.wait(Cue::Answered(Asked::Write), 100);
        }
    }
    script.clients(&[Taste::Nothing]); // What is written from now on would mend it.
    script.pause(50);
    script.act(Gap::Now, Action::Mend(other));
    script.admin(Gap::Soon, pauses, Admin::ResumeSync);
    script.wait_for_peace();
}

/// S44, X9, I3: the peer's disk lacks a write, and stays in use as Inconsistent. It is to be outdated, and is all that is left
/// then; or the good one is to be made the same.
fn outdated_while_inconsistent(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("on-io-error", "pass_on");
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::OneBlock]);
    script.data_errors(other, DiskError::Write, 1);
    script.wait(Cue::Unfit(other), 500);
    script.wait(Cue::Answered(Asked::Write), 200);
    script.clients(&[Taste::Nothing]); // What is written from now on would mend it.
    let (asked, admin) = match script.way(4) {
        0 => (primary, Admin::Invalidate),
        1 => (other, Admin::InvalidateRemote),
        _ => (other, Admin::Outdate),
    };
    script.admin(Gap::Now, asked, admin);
    script.wait(Cue::Obeyed(asked), 500);
    if admin != Admin::Outdate {
        return script.wait_for_peace();
    }
    script.lose(Gap::Soon, primary);
    script.take_over();
    script.wait_for_peace();
}

/// D54, I28: a block of a run that came to nothing is still on the target's slow disk, when the source has its own disk
/// back and writes there in the next run.
fn block_of_a_lost_run(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("on-no-data-accessible", "io-error");
    setup.depth = setup.depth.max(4);
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::OnePlace]); // Two blocks, which are asked for together.
    script.admin(Gap::Now, other, Admin::Disconnect { force: false });
    script.wait(Cue::Lonely(primary), 1_000);
    for _ in 0..3 {
        script.wait(Cue::Answered(Asked::Write), 200);
    }
    script.clients(&[Taste::Nothing]);
    script.wait(Cue::Answered(Asked::Write), 20); // Until nothing is under way.
    script.admin(Gap::Now, other, Admin::Connect);
    script.wait(Cue::Target(other), 5_000);
    script.slow_write(other, 1_500); // The block takes 45 to 460 ms: less than a timeout.
    script.admin(Gap::Now, other, Admin::PauseSync); // Nothing is asked for in the next run.
    script.admin(Gap::Now, primary, Admin::Detach { force: true });
    script.wait(Cue::Unfit(primary), 300);
    script.admin(Gap::Now, primary, Admin::Attach);
    script.wait(Cue::Obeyed(primary), 500);
    script.pause(10); // What is written before the run is only announced.
    script.clients(&[Taste::OnePlace]);
    for _ in 0..4 {
        script.wait(Cue::Answered(Asked::Write), 100); // A whole block clears its bit.
    }
    script.clients(&[Taste::Nothing]); // What is written later would hide what is lost.
    script.wait(Cue::Whole, 600); // It does not come: the old block ends.
    script.admin(Gap::Now, other, Admin::ResumeSync);
    script.wait_for_peace();
    script.wait(Cue::Lonely(primary), 1_000); // It does not come: time to compare.
}
