//! Aimed faults: those that wait for a situation and strike just then.
//!
//! Many situations last for microseconds, and a plan by the clock meets them in one life of a thousand. An
//! aim brings a situation about ([`Recipe`]), waits for it at one node, and strikes: a fault of any class,
//! at that node or at the other. Afterwards the pair is helped to its feet, and the next aim follows.

use std::fmt;
use std::time::Duration;

use super::super::events::HostId;
use super::super::random::Random;
use super::plan::{Action, Admin, DiskError};
use super::reach::holes::operation;
use super::reach::situation::{OnTheWay, Suspension};
use super::reach::{Group, Situation};
use super::setup::Setup;
use crate::config::options::{Fencing, OnNoDataAccessible};
use crate::node::state::{Conn, Disk};
use crate::node::steps::Step;

/// How a situation is brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipe {
    /// Clients do it.
    Work,
    /// The Secondary goes, and comes back: a resync.
    Outage,
    /// The same, and one side does not want to sync yet.
    PausedOutage,
    /// The Secondary goes: the Primary is alone.
    Alone,
    /// A connection breaks: both look for each other.
    Reconnect,
    /// The Primary gives up its disk.
    Diskless,
    /// The Secondary gives up its disk and takes it again.
    LateAttach,
    /// The Secondary's data are declared void.
    Invalidate,
    /// The Secondary's disk is given up at once.
    Fail,
    /// The Secondary goes, and is declared outdated.
    Outdate,
    /// Blocks are compared.
    Verify,
    /// The administrator suspends I/O.
    Suspend,
    /// The Primary has no disk and loses the peer.
    NoData,
    /// The link is cut: the Primary fences.
    Fence,
}

/// Whose situation it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Primary,
    Secondary,
    Either,
}

/// What is aimed at: the situation, whose it is, how it comes about, and how often it is chosen.
type Target = (Situation, Whose, Recipe, u64);

const fn step(step: Step, whose: Whose, recipe: Recipe, weight: u64) -> Target {
    (Situation::Step(step), whose, recipe, weight)
}

const fn packet(packet: OnTheWay, whose: Whose, recipe: Recipe, weight: u64) -> Target {
    (Situation::OnTheWay(packet), whose, recipe, weight)
}

const fn conn(conn: Conn, whose: Whose, recipe: Recipe, weight: u64) -> Target {
    (Situation::Conn(conn), whose, recipe, weight)
}

const fn disk(disk: Disk, whose: Whose, recipe: Recipe, weight: u64) -> Target {
    (Situation::Disk(disk), whose, recipe, weight)
}

const TARGETS: &[Target] = &[
    step(Step::OwnRead, Whose::Primary, Recipe::Work, 2),
    step(Step::LogPages, Whose::Primary, Recipe::Alone, 7),
    step(Step::LogFlush, Whose::Primary, Recipe::Work, 2),
    step(Step::LogBlock, Whose::Primary, Recipe::Work, 3),
    step(Step::OwnWrite, Whose::Primary, Recipe::Work, 2),
    step(Step::OwnFlush, Whose::Primary, Recipe::Work, 2),
    step(Step::FlushAwaitsPeer, Whose::Primary, Recipe::Work, 1),
    step(Step::Frozen, Whose::Primary, Recipe::Suspend, 9),
    step(Step::PeerWrite, Whose::Secondary, Recipe::Work, 2),
    step(Step::EpochFlush, Whose::Secondary, Recipe::Work, 3),
    step(Step::PeerRead, Whose::Secondary, Recipe::Diskless, 5),
    step(Step::BitmapPage, Whose::Either, Recipe::Outage, 4),
    step(Step::MetaFlush, Whose::Either, Recipe::Outage, 1),
    step(Step::MetaWrite, Whose::Either, Recipe::Outage, 1),
    step(Step::DataFlush, Whose::Either, Recipe::Outage, 2),
    step(Step::AttachRead, Whose::Secondary, Recipe::LateAttach, 1),
    step(Step::Generation, Whose::Primary, Recipe::Alone, 2),
    step(Step::Handler, Whose::Either, Recipe::Outage, 2),
    step(Step::Settling, Whose::Either, Recipe::Reconnect, 1),
    step(Step::ResyncRead, Whose::Primary, Recipe::Outage, 5),
    step(Step::ResyncWrite, Whose::Secondary, Recipe::Outage, 5),
    step(Step::ResyncFlush, Whose::Secondary, Recipe::Outage, 5),
    step(Step::ResyncPinging, Whose::Secondary, Recipe::Outage, 6),
    step(Step::ResyncWriting, Whose::Secondary, Recipe::Outage, 6),
    step(Step::VerifyRead, Whose::Either, Recipe::Verify, 6),
    packet(OnTheWay::WriteAck, Whose::Primary, Recipe::Work, 2),
    packet(OnTheWay::BarrierAck, Whose::Primary, Recipe::Work, 1),
    packet(OnTheWay::Read, Whose::Primary, Recipe::Diskless, 7),
    packet(OnTheWay::Greeting, Whose::Either, Recipe::Reconnect, 3),
    packet(OnTheWay::Parameters, Whose::Either, Recipe::Reconnect, 5),
    packet(OnTheWay::Uuids, Whose::Either, Recipe::Reconnect, 4),
    packet(OnTheWay::State, Whose::Either, Recipe::Reconnect, 3),
    packet(OnTheWay::Bitmap, Whose::Either, Recipe::Outage, 6),
    packet(OnTheWay::SyncUuid, Whose::Primary, Recipe::Outage, 6),
    packet(OnTheWay::Request, Whose::Secondary, Recipe::Alone, 5),
    packet(OnTheWay::ResyncRequest, Whose::Secondary, Recipe::Outage, 4),
    packet(OnTheWay::ResyncReply, Whose::Secondary, Recipe::Outage, 4),
    packet(OnTheWay::ResyncAck, Whose::Secondary, Recipe::Outage, 4),
    packet(OnTheWay::VerifyRequest, Whose::Either, Recipe::Verify, 6),
    packet(OnTheWay::VerifyReply, Whose::Either, Recipe::Verify, 6),
    packet(OnTheWay::VerifyResult, Whose::Either, Recipe::Verify, 9),
    packet(OnTheWay::Ping, Whose::Either, Recipe::Work, 1),
    conn(Conn::WFReportParams, Whose::Either, Recipe::Reconnect, 7),
    conn(Conn::StartingSyncS, Whose::Primary, Recipe::Invalidate, 8),
    conn(Conn::StartingSyncT, Whose::Secondary, Recipe::Invalidate, 9),
    conn(Conn::WFBitMapS, Whose::Primary, Recipe::Outage, 5),
    conn(Conn::WFBitMapT, Whose::Secondary, Recipe::Outage, 5),
    conn(Conn::WFSyncUUID, Whose::Secondary, Recipe::Outage, 4),
    conn(Conn::SyncSource, Whose::Primary, Recipe::Outage, 3),
    conn(Conn::SyncTarget, Whose::Secondary, Recipe::Outage, 3),
    conn(Conn::VerifyS, Whose::Either, Recipe::Verify, 4),
    conn(Conn::VerifyT, Whose::Either, Recipe::Verify, 4),
    conn(Conn::PausedSyncS, Whose::Primary, Recipe::PausedOutage, 5),
    conn(Conn::PausedSyncT, Whose::Secondary, Recipe::PausedOutage, 5),
    disk(Disk::Diskless, Whose::Secondary, Recipe::LateAttach, 1),
    disk(Disk::Attaching, Whose::Secondary, Recipe::LateAttach, 2),
    disk(Disk::Failed, Whose::Secondary, Recipe::Fail, 5),
    disk(Disk::Negotiating, Whose::Secondary, Recipe::LateAttach, 7),
    disk(Disk::Outdated, Whose::Secondary, Recipe::Outdate, 3),
    (Situation::Suspended(Suspension::User), Whose::Either, Recipe::Suspend, 6),
];

/// Of lives with two Primaries.
const CONFLICT: Target = step(Step::Conflict, Whose::Either, Recipe::Work, 0);
/// Of lives in which I/O is suspended without data.
const NO_DATA: Target = (Situation::Suspended(Suspension::NoData), Whose::Primary, Recipe::NoData, 0);
/// Of lives in which I/O is suspended until the peer is fenced.
const FENCING: Target = (Situation::Suspended(Suspension::Fencing), Whose::Primary, Recipe::Fence, 0);

/// Requests that were under way then.
const FROZEN: Target = step(Step::Frozen, Whose::Primary, Recipe::Fence, 0);

/// A fault that waits.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    /// Waits for this ...
    pub(super) situation: Situation,
    /// ... at this node,
    pub(super) node: HostId,
    pub(super) recipe: Recipe,
    /// and strikes so.
    pub(super) action: Action,
    /// Each moment at which the situation is there is taken with one chance of so many.
    pub(super) odds: u64,
    /// Chance, for times.
    pub(super) random: Random,
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { situation, node, recipe, action, .. } = self;
        write!(f, "after {recipe:?}, when {node} is in '{situation}': {action:?}")
    }
}

/// Draws the aims of a life; some have none.
pub(super) fn draw(random: &mut Random, setup: &Setup) -> Vec<Aim> {
    let count = [0, 2, 3, 4][random.below(4) as usize];
    (0..count).map(|_| draw_one(&mut random.fork(), setup)).collect()
}

fn draw_one(random: &mut Random, setup: &Setup) -> Aim {
    let (situation, whose, recipe, _) = target(random, setup);
    let node = match whose {
        Whose::Primary => 0,
        Whose::Secondary => 1,
        Whose::Either => random.below(2) as HostId,
    };
    let groups = Group::ALL.iter().filter(|group| **group != Group::Return);
    let group = groups.clone().nth(random.below(groups.count() as u64) as usize);
    let group = group.copied().unwrap_or(Group::Struck);
    let action = strike(group, situation, node, random);
    let odds = [1, 1, 3, 12][random.below(4) as usize];
    Aim { situation, node, recipe, action, odds, random: random.fork() }
}

fn target(random: &mut Random, setup: &Setup) -> Target {
    let no_data = setup.resource.on_no_data_accessible == OnNoDataAccessible::SuspendIo;
    let of_life = [
        (setup.two_primaries, CONFLICT),
        (no_data, NO_DATA),
        (setup.disk.fencing == Fencing::ResourceAndStonith, FENCING),
        (setup.disk.fencing == Fencing::ResourceAndStonith, FROZEN),
    ];
    for (_, target) in of_life.into_iter().filter(|(is, _)| *is) {
        if random.below(2) == 0 {
            return target;
        }
    }
    let mut left = random.below(TARGETS.iter().map(|(.., weight)| weight).sum());
    for target in TARGETS {
        if left < target.3 {
            return *target;
        }
        left -= target.3;
    }
    CONFLICT
}

/// A fault of this group, where `node` is in the situation.
fn strike(group: Group, situation: Situation, node: HostId, random: &mut Random) -> Action {
    let either = if random.below(2) == 0 { node } else { 1 - node };
    let ms = 1 + random.below(2_000) as u32;
    match group {
        Group::Struck => crash(node, random),
        Group::Other | Group::Return => crash(1 - node, random),
        Group::Disk => disk_error(situation, node, random),
        Group::Slow if random.below(2) == 0 => Action::Slow(either, 2 + ms / 10),
        Group::Slow => Action::Stall(either, ms),
        Group::Link => match random.below(6) {
            0 | 1 => Action::Cut,
            2 => Action::Silence(either),
            3 | 4 => Action::Break,
            _ => Action::Jitter(1 + ms % 60),
        },
        Group::Pause => Action::Pause(either, ms),
        Group::Command => Action::Admin(either, super::plan::command(random)),
    }
}

fn crash(host: HostId, random: &mut Random) -> Action {
    match random.below(3) {
        0 => Action::Kill(host),
        kind => Action::PowerLoss { host, all: kind == 1 },
    }
}

/// An error of the operation that is under way; without one, of the next.
fn disk_error(situation: Situation, host: HostId, random: &mut Random) -> Action {
    let (meta, kind) = match situation {
        Situation::Step(step) => match operation(step) {
            Some(([meta], kind)) => (*meta, kind),
            Some((devices, kind)) => (devices[random.below(devices.len() as u64) as usize], kind),
            None => any_error(random),
        },
        // The read of the attach is what a disk in that state does.
        Situation::Disk(Disk::Attaching) => (true, DiskError::Read),
        Situation::OnTheWay(_)
        | Situation::Conn(_)
        | Situation::Disk(_)
        | Situation::Role(_)
        | Situation::Suspended(_)
        | Situation::Trait(_) => any_error(random),
    };
    Action::DiskErrors { host, meta, kind, times: 1 }
}

fn any_error(random: &mut Random) -> (bool, DiskError) {
    let kind = [DiskError::Write, DiskError::Flush, DiskError::Read][random.below(3) as usize];
    (random.below(2) == 0, kind)
}

impl Recipe {
    /// What is done, when the first node is Primary.
    pub(super) fn actions(self, random: &mut Random) -> Vec<Action> {
        let [primary, secondary] = [0, 1];
        let admin = |admin| Action::Admin(secondary, admin);
        let disconnect = admin(Admin::Disconnect { force: false });
        match self {
            Self::Work => vec![],
            Self::Outage => vec![disconnect, admin(Admin::Connect)],
            Self::PausedOutage => {
                let who = random.below(2) as HostId;
                vec![disconnect, Action::Admin(who, Admin::PauseSync), admin(Admin::Connect)]
            }
            Self::Alone => vec![disconnect],
            Self::Reconnect => vec![Action::Break],
            Self::Diskless => vec![Action::Admin(primary, Admin::Detach { force: false })],
            Self::LateAttach => vec![admin(Admin::Detach { force: false }), admin(Admin::Attach)],
            Self::Invalidate => vec![admin(Admin::Invalidate)],
            Self::Fail => vec![admin(Admin::Detach { force: true })],
            Self::Outdate => vec![disconnect, admin(Admin::Outdate)],
            Self::Verify => vec![Action::Admin(random.below(2) as HostId, Admin::Verify)],
            Self::Suspend => {
                // With writes under way, mostly, which are frozen when the peer has answered them.
                let slow = Action::Slow(secondary, 10 + random.below(30) as u32);
                vec![slow, Action::Admin(primary, Admin::SuspendIo)]
            }
            Self::NoData => vec![Action::Admin(primary, Admin::Detach { force: false }), Action::Cut],
            Self::Fence => vec![Action::Cut],
        }
    }

    /// Time between two of these actions.
    pub(super) fn gap(random: &mut Random) -> Duration {
        Duration::from_micros(random.below(40_000))
    }
}

/// Time from a strike to the end of what it left: at once, soon, or when timeouts have passed.
pub(super) fn aftermath(random: &mut Random) -> Duration {
    match random.below(4) {
        0 => Duration::from_nanos(random.below(300_000)),
        1 | 2 => Duration::from_micros(random.below(20_000)),
        _ => Duration::from_micros(random.below(1_500_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::state::Role;

    #[test]
    fn whatever_can_be_reached_and_is_short_is_aimed_at() {
        let aimed = |situation: Situation| {
            [CONFLICT, NO_DATA, FENCING].iter().chain(TARGETS).any(|(target, ..)| *target == situation)
        };
        for step in Step::ALL {
            let long = matches!(step, Step::AnsweredOpen);
            assert!(long || aimed(Situation::Step(*step)), "{step:?}");
        }
        assert!(!aimed(Situation::Role(Role::Primary)), "a role is no moment");
    }

    #[test]
    fn a_disk_error_hits_the_operation_that_is_aimed_at() {
        let mut random = Random::new(1);
        let hit = |situation, random: &mut Random| match disk_error(situation, 1, random) {
            Action::DiskErrors { host, meta, kind, times } => (host, meta, kind, times),
            other => panic!("{other:?}"),
        };
        assert_eq!(hit(Situation::Step(Step::LogBlock), &mut random), (1, true, DiskError::Write, 1));
        assert_eq!(hit(Situation::Step(Step::EpochFlush), &mut random), (1, false, DiskError::Flush, 1));
        assert_eq!(hit(Situation::Disk(Disk::Attaching), &mut random), (1, true, DiskError::Read, 1));
    }

    #[test]
    fn aims_are_drawn_at_both_nodes_and_of_every_group() {
        let mut random = Random::new(3);
        let setup = Setup::draw(&mut random);
        let aims: Vec<Aim> = (0..400).map(|_| draw_one(&mut random, &setup)).collect();
        let some = |holds: fn(&Action) -> bool| aims.iter().any(|aim| holds(&aim.action));
        assert!(some(|action| matches!(action, Action::Kill(0))));
        assert!(some(|action| matches!(action, Action::PowerLoss { host: 1, .. })));
        assert!(some(|action| matches!(action, Action::DiskErrors { .. })));
        assert!(some(|action| matches!(action, Action::Stall(..))));
        assert!(some(|action| matches!(action, Action::Break)));
        assert!(some(|action| matches!(action, Action::Pause(..))));
        assert!(some(|action| matches!(action, Action::Admin(..))));
    }
}
