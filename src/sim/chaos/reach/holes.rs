//! What many lives must have reached: every situation by every group of faults, but for what cannot be.

use super::super::plan::DiskError;
use super::situation::{OnTheWay, Situation};
use super::{Class, Reach, Side};
use crate::node::state::{Conn, Disk, Role};
use crate::node::steps::Step;

/// Faults of one number; crashes are told apart by whom they strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// A crash of the node in the situation.
    Struck,
    /// A crash of its peer.
    Other,
    /// A disk error at the node in the situation.
    Disk,
    /// A slow disk of either node.
    Slow,
    /// Something with the link.
    Link,
    /// A pause of either node.
    Pause,
    /// The return of the peer.
    Return,
    /// An administrator's command at either node.
    Command,
}

impl Group {
    /// All of them, in their order.
    pub const ALL: [Self; 8] = [
        Self::Struck,
        Self::Other,
        Self::Disk,
        Self::Slow,
        Self::Link,
        Self::Pause,
        Self::Return,
        Self::Command,
    ];

    /// The columns of the tables that it is the sum of.
    const fn columns(self) -> (&'static [Class], &'static [Side]) {
        const CRASHES: &[Class] = &[Class::Kill, Class::PowerLoss];
        const LINK: &[Class] = &[Class::Cut, Class::Silence, Class::Break, Class::Delay];
        const ERRORS: &[Class] = &[Class::ReadError, Class::WriteError, Class::FlushError];
        const COMMANDS: &[Class] =
            &[Class::Roles, Class::Disks, Class::Connections, Class::Syncs, Class::Suspensions];
        match self {
            Self::Struck => (CRASHES, &[Side::Struck]),
            Self::Other => (CRASHES, &[Side::Other]),
            Self::Disk => (ERRORS, &[Side::Struck]),
            Self::Slow => (&[Class::Slow], &Side::ALL),
            Self::Link => (LINK, &Side::ALL),
            Self::Pause => (&[Class::Pause], &Side::ALL),
            Self::Return => (&[Class::Return, Class::ReturnBlank], &Side::ALL),
            Self::Command => (COMMANDS, &Side::ALL),
        }
    }

    /// What strikes, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Struck => "F1, a crash of the node",
            Self::Other => "F1, a crash of the peer",
            Self::Disk => "F3, a disk error",
            Self::Slow => "F4, a slow disk",
            Self::Link => "F5, a fault of the link",
            Self::Pause => "F6, a pause",
            Self::Return => "F7, a return of the peer",
            Self::Command => "F8, a command",
        }
    }

    /// Why it cannot meet a situation, if it cannot.
    #[must_use]
    pub const fn cannot_meet(self, situation: Situation) -> Option<&'static str> {
        if let Some(why) = cannot_be(situation) {
            return Some(why);
        }
        match (self, situation) {
            (Self::Disk, Situation::OnTheWay(_)) => Some("a disk error is about an operation, not a packet"),
            (Self::Disk, Situation::Step(step)) if operation(step).is_none() => {
                Some("a disk error counts the operation that fails, and no other step")
            }
            (Self::Return, Situation::Step(step)) if needs_the_peer(step) => {
                Some("left to chance: the peer would have to be back within microseconds")
            }
            (Self::Return, Situation::Conn(Conn::StartingSyncS | Conn::StartingSyncT)) => {
                Some("left to chance: the peer would have to be back within a millisecond")
            }
            (Self::Return, Situation::Disk(Disk::Failed)) => {
                Some("left to chance: the peer would have to be back while the last operation ends")
            }
            (Self::Return, Situation::OnTheWay(_)) => Some("sockets vanish with the machine that was down"),
            _ => None,
        }
    }
}

/// Why there is no such situation in these lives, or none to be waited for.
const fn cannot_be(situation: Situation) -> Option<&'static str> {
    match situation {
        Situation::Role(Role::Unknown) | Situation::Disk(Disk::DUnknown) => Some("is said of a peer only"),
        Situation::Conn(Conn::Ahead | Conn::Behind) => Some("no life has thresholds of congestion (F11)"),
        Situation::OnTheWay(OnTheWay::OutOfSync) => {
            Some("left to chance: without Ahead, writes mostly wait for the bitmaps (T41)")
        }
        Situation::Conn(
            Conn::Unconnected
            | Conn::Disconnecting
            | Conn::Timeout
            | Conn::BrokenPipe
            | Conn::NetworkFailure
            | Conn::ProtocolError
            | Conn::TearDown,
        ) => Some("one of the names of 'lost connection being settled'"),
        _ => None,
    }
}

/// The operation on a disk that a step is, which may fail: on which of the devices (the metadata's or not), and
/// by which error. `None` of a step that is something else.
pub(in super::super) const fn operation(step: Step) -> Option<(&'static [bool], DiskError)> {
    const DATA: &[bool] = &[false];
    const META: &[bool] = &[true];
    const BOTH: &[bool] = &[true, false];
    match step {
        Step::OwnRead | Step::PeerRead | Step::ResyncRead | Step::VerifyRead => Some((DATA, DiskError::Read)),
        Step::AttachRead => Some((META, DiskError::Read)),
        Step::OwnWrite | Step::PeerWrite | Step::ResyncWrite => Some((DATA, DiskError::Write)),
        Step::LogPages | Step::LogBlock | Step::BitmapPage | Step::MetaWrite => {
            Some((META, DiskError::Write))
        }
        Step::OwnFlush | Step::EpochFlush | Step::DataFlush | Step::ResyncFlush => {
            Some((DATA, DiskError::Flush))
        }
        Step::MetaFlush => Some((META, DiskError::Flush)),
        Step::LogFlush => Some((BOTH, DiskError::Flush)),
        Step::AnsweredOpen
        | Step::FlushAwaitsPeer
        | Step::Frozen
        | Step::Conflict
        | Step::Generation
        | Step::Handler
        | Step::Settling
        | Step::ResyncPinging
        | Step::ResyncWriting => None,
    }
}

/// Whether a step is short, and begins only while the peer is there.
const fn needs_the_peer(step: Step) -> bool {
    matches!(
        step,
        Step::Conflict
            | Step::PeerWrite
            | Step::PeerRead
            | Step::EpochFlush
            | Step::ResyncRead
            | Step::ResyncWrite
            | Step::ResyncFlush
            | Step::ResyncWriting
            | Step::ResyncPinging
            | Step::VerifyRead
    )
}

impl Reach {
    /// How often a group of faults met a situation.
    #[must_use]
    pub fn met_by_group(&self, group: Group, situation: Situation) -> u64 {
        let (classes, sides) = group.columns();
        let cells = classes.iter().flat_map(|class| sides.iter().map(|side| (*class, *side)));
        cells.map(|(class, side)| self.met(class, side, situation)).sum()
    }

    /// The possible meetings that came about less than so often, in words.
    #[must_use]
    pub fn rarer_than(&self, least: u64) -> Vec<String> {
        let all = Situation::all().flat_map(|situation| Group::ALL.map(|group| (group, situation)));
        let rare = all.filter(|(group, situation)| {
            group.cannot_meet(*situation).is_none() && self.met_by_group(*group, *situation) < least
        });
        rare.map(|(group, situation)| {
            let times = self.met_by_group(group, situation);
            format!("{} in the situation '{situation}': {times} times", group.words())
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Situations;
    use super::*;

    #[test]
    fn a_situation_that_no_life_was_in_is_a_hole_for_each_group_that_can_meet_it() {
        let (write, ahead) = (Situation::Step(Step::OwnWrite), Situation::Conn(Conn::Ahead));
        let mut reach = Reach::default();
        let all: Situations = Situation::all().filter(|situation| *situation != write).collect();
        for class in Class::ALL {
            reach.strikes(*class, all, all);
        }
        let holes = reach.rarer_than(1);
        assert_eq!(holes.len(), Group::ALL.len(), "{holes:?}");
        assert!(holes.iter().all(|hole| hole.contains("write on the own disk': 0 times")), "{holes:?}");
        assert!(Group::Link.cannot_meet(ahead).is_some());
    }

    #[test]
    fn every_class_belongs_to_a_group() {
        for class in Class::ALL {
            assert!(Group::ALL.iter().any(|group| group.columns().0.contains(class)), "{class:?}");
        }
    }

    #[test]
    fn a_crash_is_told_apart_by_whom_it_strikes() {
        let write = Situation::Step(Step::OwnWrite);
        let mut reach = Reach::default();
        reach.strikes(Class::Kill, [write].into_iter().collect(), Situations::default());
        assert_eq!(reach.met_by_group(Group::Struck, write), 1);
        assert_eq!(reach.met_by_group(Group::Other, write), 0);
    }
}
