//! How a template is written down: what is done, to which of the two machines, and how long after the last.

use std::time::Duration;

use super::super::events::HostId;
use super::super::random::Random;
use super::cues::Cue;
use super::plan::{Action, Admin, DiskError, Planned, Weights, action};
use super::workload::{Asked, Taste};

/// A pair that is left alone has found together by then, mostly.
const PEACE: Duration = Duration::from_secs(8);

/// How long something comes after what was before it.
#[derive(Clone, Copy)]
pub(super) enum Gap {
    /// At the same moment, or so soon that what that began is under way.
    Now,
    /// Some disk operations later.
    Soon,
    /// When most of it is over.
    Later,
}

/// A template as it is written down: the machine that is Primary, the other one, and chance.
pub(super) struct Script<'a> {
    pub(super) random: &'a mut Random,
    pub(super) primary: HostId,
    pub(super) other: HostId,
    pub(super) at: Duration,
    noise: Weights,
    pub(super) plan: Vec<Planned>,
}

impl<'a> Script<'a> {
    pub(super) fn new(random: &'a mut Random, before: &[Planned]) -> Self {
        let noise = Weights::draw(random);
        let primary = usize::from(random.below(4) == 0);
        let at = before.last().map_or(Duration::from_millis(random.below(200)), |last| last.at);
        Self { random, primary, other: 1 - primary, at, noise, plan: before.to_vec() }
    }

    /// Lets some time pass, less than so many milliseconds.
    pub(super) fn pause(&mut self, most_ms: u64) {
        self.at += Duration::from_millis(self.random.below(most_ms));
    }

    /// One of `count` ways.
    pub(super) fn way(&mut self, count: u64) -> u64 {
        self.random.below(count)
    }

    pub(super) fn act(&mut self, gap: Gap, action: Action) {
        if self.random.below(60) == 0 {
            self.noise();
        }
        let ns = match gap {
            Gap::Now => self.random.below(2) * self.random.below(300_000),
            Gap::Soon => self.random.below(20_000_000),
            Gap::Later => self.random.below(1_500_000_000),
        };
        self.at += Duration::from_nanos(ns);
        self.plan.push(Planned { at: self.at, action });
    }

    fn noise(&mut self) {
        let action = action(self.random, self.noise);
        self.plan.push(Planned { at: self.at, action });
    }

    pub(super) fn admin(&mut self, gap: Gap, host: HostId, admin: Admin) {
        self.act(gap, Action::Admin(host, admin));
    }

    /// Waits for something that comes within so many milliseconds, or does not.
    pub(super) fn wait(&mut self, cue: Cue, ms: u64) {
        let limit = Duration::from_millis(ms);
        self.plan.push(Planned { at: self.at, action: Action::Await { cue, limit } });
    }

    pub(super) fn wait_for_peace(&mut self) {
        self.plan.push(Planned { at: self.at, action: Action::Await { cue: Cue::Whole, limit: PEACE } });
    }

    pub(super) fn lose_power(&mut self, gap: Gap, host: HostId) {
        let all = self.random.below(4) > 0;
        self.act(gap, Action::PowerLoss { host, all });
    }

    /// A machine is lost: its power, or the program only.
    pub(super) fn lose(&mut self, gap: Gap, host: HostId) {
        if self.random.below(3) == 0 { self.act(gap, Action::Kill(host)) } else { self.lose_power(gap, host) }
    }

    pub(super) fn boot(&mut self, gap: Gap, host: HostId) {
        self.act(gap, Action::Boot(host));
    }

    pub(super) fn stall(&mut self, gap: Gap, host: HostId, most_ms: u64) {
        let ms = 1 + self.random.below(most_ms) as u32;
        self.act(gap, Action::Stall(host, ms));
    }

    /// Packets take up to so many milliseconds, on each of the two sockets by itself.
    pub(super) fn jitter(&mut self, most_ms: u64) {
        let ms = 1 + self.random.below(most_ms) as u32;
        self.act(Gap::Now, Action::Jitter(ms));
    }

    /// Everything takes long on a machine's disks, and a flush as long as a write.
    pub(super) fn slow(&mut self, host: HostId) {
        let factor = 5 + self.random.below(60) as u32;
        self.act(Gap::Now, Action::Slow(host, factor));
    }

    /// The next write to the data device of a machine takes at least so many times as long, at most twice that; what comes
    /// behind it is soon done.
    pub(super) fn slow_write(&mut self, host: HostId, least: u64) {
        let factor = (least + self.random.below(least)) as u32;
        self.act(Gap::Now, Action::Slow(host, factor));
        self.wait(Cue::Writing(host), 3_000);
        self.act(Gap::Now, Action::Slow(host, 1));
    }

    pub(super) fn clients(&mut self, tastes: &[Taste]) {
        let taste = tastes[self.random.below(tastes.len() as u64) as usize];
        self.act(Gap::Now, Action::Clients(taste));
    }

    /// Clients ask for one of these, and have written something.
    pub(super) fn clients_write(&mut self, tastes: &[Taste]) {
        self.clients(tastes);
        self.pause(50);
        self.wait(Cue::Answered(Asked::Write), 200);
    }

    /// A connection breaks, or nothing gets through any more.
    pub(super) fn part(&mut self, gap: Gap) {
        let way = self.random.below(3);
        let action = [Action::Break, Action::Cut, Action::Silence(self.other)][way as usize];
        self.act(gap, action);
    }

    /// The Primary loses the other one: the link to it, or all of it.
    pub(super) fn lose_the_other(&mut self) {
        if self.way(2) == 0 { self.part(Gap::Now) } else { self.lose(Gap::Now, self.other) }
    }

    /// The Primary loses its power, again when it has come back alone, and then goes on alone.
    pub(super) fn lose_the_primary_twice(&mut self) {
        let primary = self.primary;
        for _ in 0..2 {
            self.lose_power(Gap::Now, primary);
            self.boot(Gap::Soon, primary);
            self.wait(Cue::Lonely(primary), 100);
            self.pause(20);
        }
        self.admin(Gap::Now, primary, Admin::Promote);
    }

    /// The next operations of this kind fail on the data device of a machine.
    pub(super) fn data_errors(&mut self, host: HostId, kind: DiskError, times: u32) {
        self.act(Gap::Now, Action::DiskErrors { host, meta: false, kind, times });
    }

    /// The pair is well, and the one that is to be Primary is.
    pub(super) fn cast(&mut self, fresh: bool) {
        if !fresh {
            self.act(Gap::Soon, Action::Join);
            self.boot(Gap::Now, 0);
            self.boot(Gap::Now, 1);
            self.wait_for_peace();
        }
        let (primary, other) = (self.primary, self.other);
        if !fresh || primary == 1 {
            self.admin(Gap::Now, other, Admin::Demote);
            self.wait(Cue::Secondary(other), 2_000);
            self.admin(Gap::Now, primary, Admin::Promote);
            self.wait(Cue::Primary(primary), 2_000);
        }
        if self.way(3) > 0 {
            self.pause(300);
        }
    }

    /// The other one takes over when it sees that it is alone, and the first returns; or that returns first.
    pub(super) fn take_over(&mut self) {
        let (primary, other) = (self.primary, self.other);
        if self.way(3) > 0 {
            self.wait(Cue::Lonely(other), 5_000);
            self.admin(Gap::Now, other, Admin::Promote);
            self.wait(Cue::Primary(other), 2_000);
        }
        self.act(Gap::Soon, Action::Join);
        self.boot(Gap::Soon, primary);
    }

    /// What returns of both: the other one first, and it is the only one for a while.
    pub(super) fn other_returns_first(&mut self) {
        self.act(Gap::Now, Action::Join);
        self.other_returns(true);
    }

    /// The other one returns and takes over, by force perhaps, which is a decision that excuses what is lost by it; then
    /// the first does.
    pub(super) fn other_returns(&mut self, may_force: bool) {
        let (primary, other) = (self.primary, self.other);
        self.boot(Gap::Soon, other);
        self.wait(Cue::Lonely(other), 500);
        let force = may_force && self.way(4) == 0;
        self.admin(Gap::Now, other, if force { Admin::ForcePromote } else { Admin::Promote });
        self.wait(Cue::Primary(other), 500);
        self.boot(Gap::Later, primary);
        self.wait_for_peace();
    }
}
