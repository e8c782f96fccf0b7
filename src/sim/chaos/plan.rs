//! What happens to a pair, and when: drawn before it begins, so that any part can be left out and the
//! rest stays as it is.

use std::fmt;
use std::time::Duration;

use super::super::events::HostId;
use super::super::random::Random;
use super::cues::Cue;
use super::workload::Taste;

/// Something that happens to the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// What this machine sends is lost (F5).
    Silence(HostId),
    /// The link drops everything.
    Cut,
    /// The link is whole.
    Join,
    /// One of the two connections breaks at some byte (F5).
    Break,
    /// Bytes take up to so many milliseconds, each piece for itself, and come in small pieces.
    Jitter(u32),
    /// A machine's disks take so many times as long (F4).
    Slow(HostId, u32),
    /// Nothing that is under way on a machine's disks ends for so many milliseconds.
    Stall(HostId, u32),
    /// A machine's program stands still for so many milliseconds (F6).
    Pause(HostId, u32),
    /// A machine's program is killed; its caches survive (F1).
    Kill(HostId),
    /// A machine loses power; with `all`, everything that was not flushed is lost (F1).
    PowerLoss {
        /// Which.
        host: HostId,
        /// Or each sector for itself.
        all: bool,
    },
    /// A machine starts, and brings the resource up.
    Boot(HostId),
    /// The disk of a machine that is down is replaced by a new one, or by the one before that (F7).
    Replace(HostId),
    /// The next so many operations of this kind fail on a device (F3).
    DiskErrors {
        /// Whose.
        host: HostId,
        /// On the device of the metadata.
        meta: bool,
        /// What fails.
        kind: DiskError,
        /// How often; 0: until the end.
        times: u32,
    },
    /// The disks of a machine have no errors any more.
    Mend(HostId),
    /// An administrator's command (F8).
    Admin(HostId, Admin),
    /// Clients ask for such things from now on.
    Clients(Taste),
    /// The plan goes on when this has come, and at the latest after so long; its clock stands still until then.
    Await {
        /// What is waited for.
        cue: Cue,
        /// How long at most.
        limit: Duration,
    },
}

/// What fails on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Flushes.
    Flush,
    /// Discards and writes of zeroes.
    Discard,
}

/// An administrator's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// `primary`
    Promote,
    /// `primary --force`
    ForcePromote,
    /// Ends the clients, then `secondary`.
    Demote,
    /// `detach`
    Detach {
        /// `--force`
        force: bool,
    },
    /// `attach`
    Attach,
    /// `disconnect`
    Disconnect {
        /// `--force`
        force: bool,
    },
    /// `connect`
    Connect,
    /// `outdate`
    Outdate,
    /// `pause-sync`
    PauseSync,
    /// `resume-sync`
    ResumeSync,
    /// `suspend-io`
    SuspendIo,
    /// `resume-io`
    ResumeIo,
    /// `verify`
    Verify,
    /// `disk-options --al-extents`, with fewer slots than any file may ask for
    FewSlots,
    /// `invalidate`
    Invalidate,
    /// `invalidate-remote`
    InvalidateRemote,
}

/// An action at its time.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Time since the beginning.
    pub at: Duration,
    /// What happens.
    pub action: Action,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:12.6}  {:?}", self.at.as_secs_f64(), self.action)
    }
}

/// The weights of the kinds of actions in a life: network, loops and disks that are slow, crashes, disk
/// errors, commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    network: u64,
    slowness: u64,
    crashes: u64,
    disk_errors: u64,
    commands: u64,
}

impl Weights {
    /// Drawn anew for each life, so that each kind rules some lives and is missing in others.
    pub(super) fn draw(random: &mut Random) -> Self {
        let mut one = |base: u64| match random.below(4) {
            0 => base / 10,
            1 | 2 => base,
            _ => base * 4,
        };
        Self {
            network: one(100),
            slowness: one(40),
            crashes: one(80),
            disk_errors: one(10),
            commands: one(60),
        }
    }
}

/// Draws what happens in a life.
#[must_use]
pub fn draw(random: &mut Random) -> Vec<Planned> {
    let weights = Weights::draw(random);
    let mut at = Duration::from_millis(random.below(200));
    let mut plan = Vec::new();
    let count = 3 + random.below(12);
    while (plan.len() as u64) < count {
        let mut own = random.fork();
        if own.below(4) == 0 {
            at = template(&mut own, at, &mut plan);
        } else {
            plan.push(Planned { at, action: action(&mut own, weights) });
            at += gap(&mut own);
        }
    }
    plan
}

/// Time until the next action: at once, in the middle of what the last one began (F2), or when that is over.
fn gap(random: &mut Random) -> Duration {
    match random.below(10) {
        0..3 => Duration::from_nanos(random.below(300_000)),
        3..6 => Duration::from_micros(random.below(20_000)),
        6..9 => Duration::from_micros(random.below(1_500_000)),
        _ => Duration::from_millis(random.below(15_000)),
    }
}

/// Something that happens.
pub(super) fn action(random: &mut Random, weights: Weights) -> Action {
    let host = random.below(2) as HostId;
    let Weights { network, slowness, crashes, disk_errors, commands } = weights;
    let mut left = random.below(network + slowness + crashes + disk_errors + commands);
    let mut within = |weight: u64| {
        let hit = left < weight;
        left = left.saturating_sub(weight);
        hit
    };
    if within(network) {
        match random.below(10) {
            0 => Action::Silence(host),
            1..4 => Action::Cut,
            4..6 => Action::Join,
            6..9 => Action::Break,
            _ => Action::Jitter(random.below(60) as u32),
        }
    } else if within(slowness) {
        match random.below(4) {
            0 => Action::Slow(host, 1 + random.below(200) as u32),
            1 | 2 => Action::Stall(host, random.below(3_000) as u32),
            _ => Action::Pause(host, random.below(3_000) as u32),
        }
    } else if within(crashes) {
        match random.below(11) {
            0 | 1 => Action::Kill(host),
            2..6 => Action::PowerLoss { host, all: random.below(2) == 0 },
            6 => Action::Replace(host),
            _ => Action::Boot(host),
        }
    } else if within(disk_errors) {
        let kind = [DiskError::Read, DiskError::Write, DiskError::Flush, DiskError::Discard]
            [random.below(4) as usize];
        let (meta, times) = (random.below(3) == 0, random.below(3) as u32);
        Action::DiskErrors { host, meta, kind, times }
    } else {
        Action::Admin(host, command(random))
    }
}

pub(super) fn command(random: &mut Random) -> Admin {
    const ALL: [(u64, Admin); 17] = [
        (6, Admin::Promote),
        (5, Admin::Demote),
        (2, Admin::Detach { force: false }),
        (1, Admin::Detach { force: true }),
        (3, Admin::Attach),
        (2, Admin::Disconnect { force: false }),
        (1, Admin::Disconnect { force: true }),
        (1, Admin::Verify),
        (1, Admin::FewSlots),
        (3, Admin::Connect),
        (1, Admin::Outdate),
        (1, Admin::PauseSync),
        (2, Admin::ResumeSync),
        (1, Admin::SuspendIo),
        (2, Admin::ResumeIo),
        (1, Admin::Invalidate),
        (1, Admin::InvalidateRemote),
    ];
    let mut left = random.below(ALL.iter().map(|(weight, _)| weight).sum());
    for (weight, admin) in ALL {
        if left < weight {
            return admin;
        }
        left -= weight;
    }
    Admin::Promote
}

/// A course of events that chance finds slowly: a window, a loss that hits just it, a change of roles, and
/// often a second loss (datapath.md 13.6). Returns when it is over.
fn template(random: &mut Random, at: Duration, plan: &mut Vec<Planned>) -> Duration {
    let (host, other) = if random.below(3) == 0 { (1, 0) } else { (0, 1) };
    let all = random.below(2) == 0;
    let killed = random.below(4) == 0;
    let crash = |host| if killed { Action::Kill(host) } else { Action::PowerLoss { host, all } };
    let course: &[Action] = &match random.below(8) {
        // The Primary is lost, the other takes over, the first returns; then the second is lost.
        0 => vec![
            crash(host),
            Action::Admin(other, Admin::Promote),
            Action::Boot(host),
            Action::PowerLoss { host: other, all },
            Action::Boot(other),
        ],
        // The Primary is lost and returns first.
        1 => {
            vec![crash(host), Action::Boot(host), Action::PowerLoss { host: other, all }, Action::Boot(other)]
        }
        // A link breaks, the Primary goes on alone and is lost; the other takes over; both meet.
        2 => vec![
            Action::Cut,
            crash(host),
            Action::Admin(other, Admin::Promote),
            Action::Join,
            Action::Boot(host),
        ],
        // An outage, and a resync that is cut in the middle.
        3 => vec![
            Action::Cut,
            Action::Join,
            Action::Break,
            Action::PowerLoss { host: other, all },
            Action::Boot(other),
        ],
        // The Secondary is lost and returns.
        4 => vec![crash(other), Action::Boot(other), crash(host), Action::Boot(host)],
        // A switchover with the demoted node lost.
        5 => vec![
            Action::Admin(host, Admin::Demote),
            crash(other),
            Action::Boot(other),
            Action::Admin(other, Admin::Promote),
        ],
        // Both lose power.
        6 => vec![
            Action::PowerLoss { host, all },
            Action::PowerLoss { host: other, all },
            Action::Boot(other),
            Action::Boot(host),
        ],
        // The target finishes, and the source does not hear of it.
        _ => vec![
            Action::Cut,
            Action::Join,
            Action::Silence(other),
            crash(host),
            Action::Join,
            Action::Admin(other, Admin::Promote),
            Action::Boot(host),
        ],
    };
    let mut at = at;
    for action in course {
        plan.push(Planned { at, action: *action });
        at += gap(random);
    }
    at
}
