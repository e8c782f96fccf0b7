//! Courses of events that chance finds slowly: a window, told by what just happened, a loss that hits just
//! it, a change of roles before the return, and often a second loss (datapath.md 13.6).
//!
//! Some lives have one of them in their plan, with its hosts, times and variants drawn anew, between fewer
//! of the other actions; their configuration is made one in which the window exists.

use super::super::random::Random;
use super::cues::Cue;
use super::failing::{
    disk_fails_before_the_flush, failed_disk_of_the_peer, failing_disk_lost, given_up_for_the_peer,
    late_refusal, older_disk_comes_back, one_disk_of_a_resync_refuses, peer_refuses_the_only_copy,
    refused_by_a_paused_target, source_of_the_primary_lost, written_through_a_suspended_peer,
};
use super::marks::{
    full_sync_lost, log_of_a_failing_disk, new_primary_lost, page_under_way_lost, resync_comes_to_nothing,
};
use super::plan::{Action, Admin, DiskError, Planned};
use super::returning::{
    attached_for_the_primary, back_before_the_generation, both_given_up_at_once, new_disk_lost,
    only_copy_given_up,
};
use super::rivals::{frozen_under_a_later_one, writes_collide};
use super::script::{Gap, Script};
use super::setup::Setup;
use super::windows::{
    acked_while_it_waits, answered_too_late, barrier_at_a_failed_disk, copy_that_stays_is_lost,
    demoted_and_lost, end_unheard_twice, full_sync_begins, half_told_of_a_failed_disk,
    old_disk_meets_its_primary, refused_and_not_noted, refused_before_the_generation,
    refused_while_that_is_noted, source_lost_unheard, thawed_after_a_change_of_roles, thawed_alone,
    two_refused_by_a_slow_disk, two_volumes_thaw,
};
use super::workload::{Asked, Taste};
use crate::node::steps::Step;

/// Of a hundred lives so many have a template.
const SHARE: u64 = 65;

/// A course of events.
type Template = fn(&mut Script<'_>, &mut Setup);

/// A table of templates, each with its name and how often it is chosen.
macro_rules! weighted {
    ($($weight:literal $template:ident),* $(,)?) => { &[$((stringify!($template), $weight, $template)),*] };
}

const ALL: &[(&str, u64, Template)] = weighted![
    1 lost_together,
    1 lost_together_after_a_thaw,
    1 lost_between_ack_and_disk,
    2 disk_fails_before_the_flush,
    3 late_refusal,
    1 one_disk_of_a_resync_refuses,
    1 survivor_lost_as_source,
    1 killed_and_then_lost,
    1 demoted_over_a_slow_disk,
    1 slow_disk_lost,
    1 target_lost,
    1 thawed_and_lost,
    1 end_unheard,
    1 slow_write_at_the_meeting,
    1 tail_around_a_break,
    1 one_place_around_a_break,
    2 evictions_before_a_loss,
    3 failing_disk_lost,
    6 given_up_for_the_peer,
    1 older_disk_comes_back,
    1 failed_disk_of_the_peer,
    1 peer_refuses_the_only_copy,
    1 written_through_a_suspended_peer,
    1 source_of_the_primary_lost,
    3 new_primary_lost,
    1 full_sync_lost,
    2 resync_comes_to_nothing,
    3 new_disk_lost,
    1 attached_for_the_primary,
    1 back_before_the_generation,
    2 only_copy_given_up,
    1 both_given_up_at_once,
    3 page_under_way_lost,
    1 log_of_a_failing_disk,
    1 acked_while_it_waits,
    1 barrier_at_a_failed_disk,
    1 full_sync_begins,
    1 copy_that_stays_is_lost,
    1 two_volumes_thaw,
    1 refused_before_the_generation,
    1 old_disk_meets_its_primary,
    1 end_unheard_twice,
    1 refused_and_not_noted,
    1 demoted_and_lost,
    2 answered_too_late,
    1 refused_while_that_is_noted,
    1 source_lost_unheard,
    1 two_refused_by_a_slow_disk,
    1 frozen_under_a_later_one,
    3 writes_collide,
    1 thawed_after_a_change_of_roles,
    1 half_told_of_a_failed_disk,
    1 thawed_alone,
    1 refused_by_a_paused_target,
];

/// The names of the courses that a life may have in its plan.
pub fn courses() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, ..)| *name)
}

/// The configuration and the plan of a life, with a template in it if the seed says so, or the one that
/// every life is to have.
pub(super) fn suited(
    seed: u64,
    course: Option<&str>,
    mut setup: Setup,
    plan: Vec<Planned>,
) -> (Setup, Vec<Planned>) {
    let mut random = Random::new(seed ^ 0x7e3a_1a7e_0000_0000);
    let has_one = random.below(100) < SHARE;
    if !has_one && course.is_none() {
        return (setup, plan);
    }
    let drawn = random.below(ALL.iter().map(|(_, weight, _)| weight).sum());
    let template = course.map_or_else(|| nth_weighted(drawn), named);
    let Some(template) = template else { return (setup, plan) };
    let before = if random.below(3) == 0 { random.below(4) as usize } else { 0 };
    let (before, after) = plan.split_at(before.min(plan.len()));
    let after = &after[..random.below(after.len() as u64 + 1) as usize];
    let mut script = Script::new(&mut random, before);
    setup.be_one_primary();
    // Aimed faults may have come before it.
    script.cast(before.is_empty() && seed % 8 >= 6);
    template(&mut script, &mut setup);
    script.act(Gap::Later, Action::Clients(Taste::All));
    let (mut plan, end) = (script.plan, script.at);
    // What comes after it begins when it is over, and keeps its own times.
    let shift = |planned: &Planned| Planned { at: planned.at + end, ..*planned };
    plan.extend(after.iter().map(shift));
    (setup, plan)
}

fn named(course: &str) -> Option<Template> {
    ALL.iter().find(|(name, ..)| *name == course).map(|(.., template)| *template)
}

/// The template to which this number belongs, when each has as many as its weight.
fn nth_weighted(mut number: u64) -> Option<Template> {
    for (_, weight, template) in ALL {
        if number < *weight {
            return Some(*template);
        }
        number -= weight;
    }
    None
}

/// T3, I6: a flush or a durable write is answered, and both machines lose their power within some
/// milliseconds.
fn lost_together(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("protocol", "C");
    setup.set("fencing", "dont-care");
    let (primary, other) = (script.primary, script.other);
    let asked = [Asked::Flush, Asked::Flush, Asked::Durable][script.way(3) as usize];
    let taste = if asked == Asked::Flush { Taste::Flushes } else { Taste::Durable };
    script.clients(&[taste, taste, taste, Taste::All]);
    match script.way(4) {
        0 => script.stall(Gap::Soon, other, 60),
        1 => {}
        _ => script.slow(other),
    }
    script.pause(50);
    script.wait(Cue::Answered(Asked::Write), 500);
    script.wait(Cue::Answered(asked), 500);
    let gap = if script.way(3) == 0 { Gap::Soon } else { Gap::Now };
    let [first, second] = if script.way(2) == 0 { [primary, other] } else { [other, primary] };
    script.lose_power(gap, first);
    script.lose_power(gap, second);
    script.other_returns_first();
}

/// The same, when I/O was frozen and goes on.
fn lost_together_after_a_thaw(script: &mut Script<'_>, setup: &mut Setup) {
    setup.freeze_when_alone();
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::Flushes, Taste::Durable, Taste::OnePlace]);
    script.pause(50);
    match script.way(3) {
        0 => script.stall(Gap::Now, other, 60),
        1 => script.slow(other),
        _ => {}
    }
    if script.way(3) == 0 {
        script.admin(Gap::Soon, primary, Admin::SuspendIo);
        script.wait(Cue::Frozen(primary), 300);
        script.act(Gap::Soon, Action::Break);
        script.admin(Gap::Later, primary, Admin::ResumeIo);
    } else {
        script.wait(Cue::Answered(Asked::Write), 200);
        script.act(Gap::Now, Action::Break);
        script.wait(Cue::Frozen(primary), 3_000);
    }
    script.wait(Cue::Thawed(primary), 5_000);
    script.wait(Cue::Answered(Asked::Flush), 100);
    script.lose_power(Gap::Now, other);
    script.lose_power(Gap::Now, primary);
    script.other_returns_first();
}

/// What the Secondary acked is not on its disk, and both are lost; or only the power of its disk is.
fn lost_between_ack_and_disk(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.set("protocol", if script.way(4) == 0 { "B" } else { "C" });
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::Durable, Taste::OnePlace, Taste::Cold]);
    script.pause(50);
    if script.way(2) == 0 {
        script.stall(Gap::Now, other, 100);
    }
    let asked = [Asked::Write, Asked::Durable][script.way(2) as usize];
    script.wait(Cue::Answered(asked), 100);
    if script.way(2) == 0 {
        script.wait(Cue::Writing(other), 10);
    }
    if script.way(4) == 0 {
        // Only the Primary is lost, and the other one has to finish what it said it had.
        script.lose(Gap::Now, primary);
        script.take_over();
    } else {
        script.lose(Gap::Now, other);
        script.lose(Gap::Now, primary);
        script.other_returns_first();
    }
}

/// T37: what the survivor took and never flushed is lost after it became the source.
fn survivor_lost_as_source(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.separate_meta |= script.way(4) > 0;
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::OnePlace]);
    script.pause(50);
    if script.way(3) == 0 {
        script.slow(other);
    }
    script.wait(Cue::Answered(Asked::Write), 200);
    script.wait(Cue::Unflushed(other), 5);
    script.lose(Gap::Now, primary);
    script.clients(&[Taste::Nothing, Taste::Nothing, Taste::All]);
    if script.way(3) == 0 {
        script.act(Gap::Soon, Action::Kill(other));
        script.boot(Gap::Soon, other);
    }
    script.take_over();
    if script.way(4) == 0 {
        script.wait(Cue::Target(primary), 2_000)
    } else {
        script.wait_for_peace()
    }
    script.lose_power(Gap::Soon, other);
    if script.way(4) == 0 {
        script.lose(Gap::Soon, primary);
        script.boot(Gap::Soon, primary);
    }
    script.boot(Gap::Soon, other);
    script.wait_for_peace();
}

/// A killed program leaves something in the cache of its disk, which is lost after it returned.
fn killed_and_then_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.separate_meta |= script.way(4) > 0;
    let (primary, other) = (script.primary, script.other);
    let host = if script.way(3) == 0 { other } else { primary };
    script.clients_write(&[Taste::All, Taste::OnePlace, Taste::Cold]);
    script.wait(Cue::Unflushed(host), 5);
    script.act(Gap::Now, Action::Kill(host));
    let quiet = script.way(3) > 0;
    if quiet {
        script.clients(&[Taste::Nothing]);
    }
    if script.way(3) == 0 {
        script.lose_power(Gap::Soon, 1 - host);
    }
    script.boot(Gap::Soon, host);
    if script.way(2) == 0 {
        script.wait(Cue::Lonely(host), 500);
        script.admin(Gap::Now, host, Admin::Promote);
        script.wait(Cue::Primary(host), 500);
    }
    script.boot(Gap::Soon, 1 - host);
    script.wait_for_peace();
    script.lose_power(Gap::Soon, host);
    script.boot(Gap::Soon, host);
    script.wait_for_peace();
}

/// T38: a demotion while the Secondary's disk is slow; then that loses what it acked, and the roles change.
fn demoted_over_a_slow_disk(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::OnePlace, Taste::Durable]);
    script.pause(50);
    if script.way(2) == 0 {
        script.slow(other);
    }
    script.wait(Cue::Answered(Asked::Write), 200);
    if script.way(4) > 0 {
        // A write that is under way would keep the demotion waiting.
        script.clients(&[Taste::Nothing]);
        script.wait(Cue::Answered(Asked::Write), 5);
    }
    script.stall(Gap::Now, other, 2_000);
    script.admin(Gap::Now, primary, Admin::Demote);
    script.wait(Cue::Secondary(primary), 300);
    if script.way(4) == 0 {
        script.part(Gap::Now)
    } else {
        script.lose_power(Gap::Now, other)
    }
    if script.way(3) == 0 {
        script.lose(Gap::Soon, primary);
    }
    script.boot(Gap::Soon, other);
    script.act(Gap::Soon, Action::Join);
    script.boot(Gap::Soon, primary);
    script.wait_for_peace();
    script.clients(&[Taste::All]);
    let host = if script.way(2) == 0 { primary } else { other };
    script.admin(Gap::Soon, host, Admin::Promote);
}

/// I9: writes wait for the Secondary's disk, some acked and some not, when it is lost or the link is; then
/// the Primary is, and returns.
fn slow_disk_lost(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("protocol", ["C", "C", "B", "B"][script.way(4) as usize]);
    setup.depth = setup.depth.max(3);
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::OnePlace, Taste::Cold]);
    script.pause(50);
    match script.way(4) {
        0 => {}
        1 => script.slow(other),
        _ => {
            script.stall(Gap::Now, other, 3_000);
            script.pause(20);
        }
    }
    script.wait(Cue::Answered(Asked::Write), 30);
    if script.way(2) == 0 {
        script.wait(Cue::Unflushed(other), 5);
    }
    match script.way(3) {
        0 => script.part(Gap::Now),
        1 => script.lose(Gap::Now, other),
        _ => script.lose_power(Gap::Now, other),
    }
    if script.way(2) == 0 {
        // What is written from now on would hide what was lost.
        script.clients(&[Taste::Nothing]);
    }
    match script.way(4) {
        0 => {
            script.lose(Gap::Soon, primary);
            script.boot(Gap::Soon, primary);
        }
        1 => script.lose(Gap::Now, primary),
        2 => {
            script.wait(Cue::Lonely(primary), 3_000);
            script.lose(Gap::Now, primary);
        }
        _ => {}
    }
    script.boot(Gap::Soon, other);
    script.take_over();
    script.wait_for_peace();
}

/// T1: the target of a resync loses its power when it acked a block or a write, or when it is done; then the
/// source is lost, or not.
fn target_lost(script: &mut Script<'_>, setup: &mut Setup) {
    let (primary, other) = (script.primary, script.other);
    if script.way(2) == 0 {
        setup.set("c-plan-ahead", "0");
        setup.set("resync-rate", "400");
    }
    script.part(Gap::Soon);
    script.pause(1_000);
    script.act(Gap::Soon, Action::Join);
    script.wait(Cue::Target(other), 5_000);
    script.clients(&[Taste::All, Taste::OnePlace, Taste::OnePlace, Taste::Tail]);
    match script.way(4) {
        0 => script.wait(Cue::Answered(Asked::Write), 100),
        1 => {
            script.pause(200);
            script.wait(Cue::Answered(Asked::Write), 100);
        }
        2 => script.wait(Cue::Unheard(other), 1_000),
        _ => script.wait(Cue::Whole, 2_000),
    }
    if script.way(3) == 0 {
        script.stall(Gap::Now, other, 500);
        script.pause(20);
    }
    script.lose_power(Gap::Now, other);
    if script.way(2) == 0 {
        script.lose(Gap::Soon, primary);
        script.other_returns_first();
    } else {
        if script.way(2) == 0 {
            script.clients(&[Taste::Nothing]);
        }
        script.boot(Gap::Soon, other);
        script.wait_for_peace();
    }
}

/// T4: I/O is frozen, goes on with the same peer or with one that restarted, and that loses its power.
fn thawed_and_lost(script: &mut Script<'_>, setup: &mut Setup) {
    if script.way(4) == 0 {
        return run_doubted_while_frozen(script, setup);
    }
    setup.freeze_when_alone();
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::OnePlace, Taste::Flushes]);
    script.pause(50);
    if script.way(2) == 0 {
        script.stall(Gap::Now, other, 100);
    }
    script.wait(Cue::Answered(Asked::Write), 200);
    match script.way(4) {
        0 => script.lose(Gap::Now, other),
        _ => script.part(Gap::Now),
    }
    script.wait(Cue::Frozen(primary), 3_000);
    script.boot(Gap::Soon, other);
    script.act(Gap::Soon, Action::Join);
    script.wait(Cue::Thawed(primary), 5_000);
    if script.way(2) == 0 {
        script.wait(Cue::Answered(Asked::Write), 100);
    }
    script.lose_power(Gap::Now, other);
    if script.way(2) == 0 {
        script.clients(&[Taste::Nothing]);
    }
    if script.way(3) == 0 {
        script.lose(Gap::Soon, primary);
    }
    script.boot(Gap::Soon, other);
    script.boot(Gap::Soon, primary);
    script.wait_for_peace();
}

/// T1, T4: what a kernel may lose of a run is out of sync when it is lost while I/O is frozen, and the next handshake
/// goes by it. Nothing else says so: no client has written since the run.
fn run_doubted_while_frozen(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_one_primary();
    setup.set("fencing", "dont-care"); // The peer may have restarted (D80).
    setup.set("protocol", "C");
    setup.volumes = 1;
    setup.stragglers = None;
    setup.disk.al_extents = 67;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All, Taste::Cold]);
    script.admin(Gap::Now, other, Admin::Disconnect { force: false });
    script.wait(Cue::Lonely(primary), 1_000);
    script.wait(Cue::Answered(Asked::Write), 300);
    script.clients(&[Taste::Nothing]); // A barrier would settle it, a write under way mark it.
    script.wait(Cue::Answered(Asked::Write), 50);
    script.admin(Gap::Now, other, Admin::Connect);
    script.wait(Cue::Target(other), 5_000);
    script.wait_for_peace(); // The run has ended: the generations are equal.
    script.admin(Gap::Now, primary, Admin::SuspendIo);
    script.wait(Cue::Frozen(primary), 500);
    if script.way(2) == 0 {
        script.act(Gap::Now, Action::Break);
    } else {
        script.lose_power(Gap::Now, other);
    }
    script.wait(Cue::Lonely(primary), 5_000);
    script.boot(Gap::Soon, other);
    script.act(Gap::Soon, Action::Join);
    script.wait(Cue::Doubtful(primary), 1_500); // A run, with a core that is right.
    script.admin(Gap::Soon, primary, Admin::ResumeIo);
    script.wait_for_peace();
    script.wait(Cue::Lonely(primary), 1_000); // It does not come: time to compare.
}

/// T39, T40: the target is done, the source has not heard, and the link breaks; the source goes on alone and
/// is lost.
fn end_unheard(script: &mut Script<'_>, setup: &mut Setup) {
    if script.way(4) == 0 {
        return done_beside_an_own_bit(script, setup);
    }
    if script.way(3) == 0 {
        return last_write_of_a_run(script, setup);
    }
    let (primary, other) = (script.primary, script.other);
    script.part(Gap::Soon);
    script.pause(1_000);
    script.act(Gap::Soon, Action::Join);
    script.wait(Cue::Target(other), 5_000);
    match script.way(4) {
        // A write in sync, and a slow flush behind it.
        0 => {
            script.clients(&[Taste::OnePlace, Taste::All]);
            script.wait(Cue::Answered(Asked::Write), 100);
            script.stall(Gap::Now, other, 500);
        }
        1 => script.act(Gap::Soon, Action::Silence(other)),
        _ => {}
    }
    script.wait(Cue::Unheard(other), 2_000);
    if script.way(3) == 0 {
        script.lose_the_primary_twice();
    } else {
        script.part(Gap::Now);
    }
    if script.way(3) > 0 {
        script.wait(Cue::Answered(Asked::Write), 2_000);
    }
    script.lose(Gap::Soon, primary);
    script.take_over();
    script.wait_for_peace();
    if script.way(2) == 0 {
        script.lose(Gap::Soon, other);
        script.boot(Gap::Soon, other);
    }
}

/// The other node comes back, as the target of a run that begins, and stands still.
fn meets_and_pauses(script: &mut Script<'_>) {
    let other = script.other;
    script.admin(Gap::Now, other, Admin::PauseSync);
    script.admin(Gap::Now, other, Admin::Connect);
    script.wait(Cue::Thawed(other), 5_000);
    script.wait(Cue::Whole, 150); // It does not come.
}

/// T1, I27: a client's write brings the last block that the target lacks; the target is done, and loses its power before
/// the barrier of that write.
fn last_write_of_a_run(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.depth = 1;
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::Tail]);
    script.admin(Gap::Now, other, Admin::Disconnect { force: false });
    script.wait(Cue::Lonely(primary), 1_000);
    script.wait(Cue::Answered(Asked::Write), 300); // On one disk only: the last block, mostly.
    script.clients(&[Taste::Nothing]);
    script.wait(Cue::Answered(Asked::Write), 20);
    meets_and_pauses(script);
    script.clients(&[Taste::Tail]);
    script.wait(Cue::Answered(Asked::Write), 300); // It brings what is missing; its barrier comes 10 ms later.
    script.clients(&[Taste::Nothing]); // The next write would bring the barrier.
    script.admin(Gap::Now, other, Admin::ResumeSync);
    script.wait(Cue::Unheard(other), 300);
    script.act(Gap::Now, Action::PowerLoss { host: other, all: true });
    script.act(Gap::Now, Action::Kill(primary)); // Its cache survives, and with it the promise.
    script.other_returns(false);
}

/// T39, I31: the target is done while the source has a bit of its own, of a read that failed, and a write elsewhere that
/// is to clear bits: the source ends the run when that is settled.
fn done_beside_an_own_bit(script: &mut Script<'_>, setup: &mut Setup) {
    setup.be_plain();
    setup.set("on-io-error", "pass_on");
    setup.depth = setup.depth.max(3);
    let (primary, other) = (script.primary, script.other);
    script.clients_write(&[Taste::All]);
    script.admin(Gap::Now, other, Admin::Disconnect { force: false });
    script.wait(Cue::Lonely(primary), 1_000);
    script.wait(Cue::Answered(Asked::Write), 300);
    meets_and_pauses(script);
    script.data_errors(primary, DiskError::Read, 0); // The only good disk: it stays in use.
    script.wait(Cue::Whole, 200);
    script.clients(&[Taste::Nothing]); // A whole block that is written would clear its bit.
    script.act(Gap::Now, Action::Mend(primary)); // The run itself reads well.
    script.wait(Cue::Whole, 150); // All epochs are acked: the target waits for none.
    let factor = 20 + script.way(30) as u32; // That it is done gets to its disk late.
    script.act(Gap::Now, Action::Slow(other, factor));
    script.admin(Gap::Now, other, Admin::ResumeSync);
    script.wait(Cue::Amid(other, Step::ResyncWriting), 3_000);
    script.clients(&[Taste::Tail]); // In sync, elsewhere; the clients ask at once.
    script.wait(Cue::Unheard(other), 500);
    script.pause(20);
    script.clients(&[Taste::Nothing]);
    script.act(Gap::Now, Action::Slow(other, 1));
    script.wait_for_peace();
}

/// T41: the nodes meet while a write of one of them is under way on its slow disk.
fn slow_write_at_the_meeting(script: &mut Script<'_>, _setup: &mut Setup) {
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::All, Taste::Cold, Taste::OnePlace]);
    script.part(Gap::Soon);
    script.wait(Cue::Lonely(primary), 3_000);
    script.pause(200);
    script.stall(Gap::Now, primary, 3_000);
    script.pause(50);
    script.act(Gap::Soon, Action::Join);
    match script.way(4) {
        0 => {
            script.wait(Cue::Target(other), 5_000);
            script.lose(Gap::Soon, primary);
            script.boot(Gap::Soon, primary);
        }
        1 => {
            script.wait(Cue::Target(other), 5_000);
            script.part(Gap::Soon);
            script.act(Gap::Later, Action::Join);
        }
        _ => {}
    }
    script.wait_for_peace();
}

/// T27: the end of the device is written around a break, and in the resync that follows.
fn tail_around_a_break(script: &mut Script<'_>, setup: &mut Setup) {
    if script.way(2) == 0 {
        setup.set("c-plan-ahead", "0");
        setup.set("resync-rate", "400");
    }
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::Tail]);
    script.pause(100);
    script.part(Gap::Soon);
    script.pause(500);
    script.act(Gap::Soon, Action::Join);
    script.wait(Cue::Target(other), 5_000);
    match script.way(5) {
        0 => script.lose(Gap::Soon, primary),
        1 => script.lose(Gap::Soon, other),
        2 => script.part(Gap::Soon),
        _ => {}
    }
    script.act(Gap::Later, Action::Join);
    script.boot(Gap::Soon, other);
    script.boot(Gap::Soon, primary);
    script.wait_for_peace();
}

/// Writes that overlap, around a break.
fn one_place_around_a_break(script: &mut Script<'_>, setup: &mut Setup) {
    setup.depth = setup.depth.max(3);
    let (primary, other) = (script.primary, script.other);
    script.clients(&[Taste::OnePlace]);
    script.pause(100);
    match script.way(3) {
        0 => script.stall(Gap::Now, other, 300),
        1 => script.act(Gap::Now, Action::Jitter(20)),
        _ => {}
    }
    script.wait(Cue::Answered(Asked::Write), 100);
    if script.way(2) == 0 {
        script.wait(Cue::Writing(other), 20);
    }
    script.part(Gap::Now);
    match script.way(4) {
        0 => script.lose(Gap::Soon, other),
        1 => {
            script.lose(Gap::Soon, primary);
            script.take_over();
        }
        _ => {}
    }
    script.act(Gap::Later, Action::Join);
    script.boot(Gap::Soon, other);
    script.wait_for_peace();
}

/// T2: extents leave the log, and the Primary with metadata of its own loses its power.
fn evictions_before_a_loss(script: &mut Script<'_>, setup: &mut Setup) {
    setup.set("fencing", "dont-care");
    setup.separate_meta |= script.way(4) > 0;
    setup.disk.al_extents = 2 + script.way(2) as u32;
    let (primary, other) = (script.primary, script.other);
    if script.way(2) == 0 {
        setup.stragglers = Some(2 + script.way(4));
    }
    let parts = script.way(3);
    if parts == 0 {
        script.part(Gap::Soon);
    }
    script.clients(&[Taste::Cold, Taste::Cold, Taste::All]);
    script.pause(300);
    script.wait(Cue::Answered(Asked::Write), 500);
    if parts == 0 && script.way(2) == 0 {
        // Bits of extents that are not in use any more are written down while those leave.
        script.admin(Gap::Soon, primary, Admin::Disconnect { force: false });
        script.wait(Cue::Amid(primary, Step::BitmapPage), 50);
        script.wait(Cue::Amid(primary, Step::LogBlock), 20);
        script.pause(2);
    } else if parts == 1 {
        // What the peer lacks now is being written down while other extents leave.
        script.part(Gap::Now);
        script.wait(Cue::Amid(primary, Step::BitmapPage), 3_000);
        script.wait(Cue::Amid(primary, Step::LogBlock), 5);
    } else if script.way(3) == 0 {
        script.wait(Cue::Flushing(primary), 20);
    }
    script.lose_power(Gap::Now, primary);
    if script.way(4) == 0 {
        script.lose(Gap::Now, other);
        script.boot(Gap::Soon, other);
    }
    script.take_over();
    script.wait_for_peace();
}
