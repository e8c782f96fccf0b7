//! The comparison of two nodes' data generation UUIDs (S64, S65).
//!
//! Both nodes run it on their own, each seeing itself as `own`; the results mirror each other.

use std::fmt;

/// A volume's four generation UUIDs (S51).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uuids {
    /// Names the current data; its bit 0 says that the node is Primary.
    pub current: u64,
    /// What the bitmap counts from; 0 if it does not count from anything.
    pub bitmap: u64,
    /// Older generations, newest first.
    pub history: [u64; 2],
}

impl Uuids {
    /// The current UUID of fresh metadata (S52).
    pub const JUST_CREATED: u64 = 4;
    /// What a sync UUID adds to the bitmap UUID that it derives from (S56).
    pub const SYNC_OFFSET: u64 = 0x0001_0000_0000_0000;
}

impl From<[u64; 4]> for Uuids {
    /// Current, bitmap, newer and older history.
    fn from([current, bitmap, newer, older]: [u64; 4]) -> Self {
        Self { current, bitmap, history: [newer, older] }
    }
}

impl From<Uuids> for [u64; 4] {
    fn from(uuids: Uuids) -> Self {
        [uuids.current, uuids.bitmap, uuids.history[0], uuids.history[1]]
    }
}

impl fmt::Display for Uuids {
    /// As the log shows them: four numbers of 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [newer, older] = self.history;
        write!(f, "{:016X}:{:016X}:{newer:016X}:{older:016X}", self.current, self.bitmap)
    }
}

/// One node's part of the comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Side {
    /// Its UUIDs.
    pub uuids: Uuids,
    /// It crashed as Primary and was not in sync since (CRASHED_PRIMARY; of the peer: UUID flag 2).
    pub crashed: bool,
    /// It is Primary.
    pub primary: bool,
}

/// What the comparison needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// This node.
    pub own: Side,
    /// The other one.
    pub peer: Side,
    /// RESOLVE_CONFLICTS is set here: one of the two nodes has it (S29).
    pub resolve: bool,
    /// Agreed protocol version.
    pub apv: u32,
    /// Feature 0x4 is agreed.
    pub write_same: bool,
    /// The own bitmap counts for a target that took the sync UUID over, or may have done so: bits were cleared for it.
    /// Who comes with the generation before is another disk then, as one that is put back while its replacement is
    /// being filled.
    pub sync_uuid_taken: bool,
}

/// What the comparison says (S65).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// The same data: 0.
    InSync,
    /// This node has the newer data: 1, or 2 if all of it must be sent.
    Source {
        /// Every block, not only those with a bit set.
        full: bool,
    },
    /// The peer has the newer data: -1 or -2.
    Target {
        /// Every block, not only those with a bit set.
        full: bool,
    },
    /// Both changed their data since a generation that both know: 100.
    SplitBrain,
    /// The same without a common base of the bitmaps: -100.
    SplitBrainWithoutBase,
    /// They never had the same data: -1000.
    Unrelated,
    /// Cannot be told with a protocol older than this: -1000 - version.
    NeedsProtocol(u32),
    /// Cannot be told without this protocol and these features: below -0x10000.
    NeedsFeatures {
        /// The protocol version.
        protocol: u32,
        /// The feature flags.
        features: u32,
    },
}

impl Relation {
    /// The number that the log shows.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::InSync => 0,
            Self::Source { full } => 1 + full as i32,
            Self::Target { full } => -1 - full as i32,
            Self::SplitBrain => 100,
            Self::SplitBrainWithoutBase => -100,
            Self::Unrelated => -1000,
            Self::NeedsProtocol(version) => -1000 - version as i32,
            Self::NeedsFeatures { protocol, features } => {
                -(0x10000 + protocol as i32 + features as i32 * 256)
            }
        }
    }

    /// The same relation seen from the other node.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::Source { full } => Self::Target { full },
            Self::Target { full } => Self::Source { full },
            Self::InSync
            | Self::SplitBrain
            | Self::SplitBrainWithoutBase
            | Self::Unrelated
            | Self::NeedsProtocol(_)
            | Self::NeedsFeatures { .. } => self,
        }
    }
}

/// A log line that belongs to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// Rule 34; the corrected own UUIDs follow.
    MissedResyncFinished,
    /// Rule 36.
    PeerFailedToWriteSyncUuid,
    /// Rule 35; the corrected UUIDs of the peer follow.
    PeerMissedResyncFinished,
    /// Rule 37.
    FailedToWriteSyncUuid,
    /// Rule 41, without the feature (a warning).
    PrimaryPresent,
    /// Rule 41, two Primaries (an error).
    BothPrimary,
    /// Rule 51; the corrected UUIDs of the peer follow.
    LostSyncUuid,
    /// Rule 71; the corrected own UUIDs follow.
    SyncUuidDidNotGetThrough,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissedResyncFinished => {
                "was SyncSource, missed the resync finished event, corrected myself:"
            }
            Self::PeerFailedToWriteSyncUuid => "was SyncSource (peer failed to write sync_uuid)",
            Self::PeerMissedResyncFinished => {
                "was SyncTarget, peer missed the resync finished event, corrected peer:"
            }
            Self::FailedToWriteSyncUuid => "was SyncTarget (failed to write sync_uuid)",
            Self::PrimaryPresent => "Equivalent unrotated UUIDs, but current primary present.",
            Self::BothPrimary => "Equivalent unrotated UUIDs, but both are primary. Can not resolve this.",
            Self::LostSyncUuid => "Lost last syncUUID packet, corrected:",
            Self::SyncUuidDidNotGetThrough => "Last syncUUID did not get through, corrected:",
        })
    }
}

/// The result of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Comparison {
    /// What it says.
    pub relation: Relation,
    /// The rule that decided, as the log shows it.
    pub rule: u8,
    /// The own UUIDs turn out to be behind the facts: store these (rules 34, 71).
    pub own_fix: Option<Uuids>,
    /// The peer's UUIDs as received turn out to be behind the facts: take these (rules 35, 51).
    pub peer_fix: Option<Uuids>,
    /// What to log.
    pub note: Option<Note>,
}

impl Comparison {
    const fn of(rule: u8, relation: Relation) -> Self {
        Self { relation, rule, own_fix: None, peer_fix: None, note: None }
    }

    const fn noting(self, note: Note) -> Self {
        Self { note: Some(note), ..self }
    }

    const fn fixing_own(self, uuids: Uuids) -> Self {
        Self { own_fix: Some(uuids), ..self }
    }

    const fn fixing_peer(self, uuids: Uuids) -> Self {
        Self { peer_fix: Some(uuids), ..self }
    }
}

const IN_SYNC: Relation = Relation::InSync;
const PUSH: Relation = Relation::Source { full: false };
const PUSH_ALL: Relation = Relation::Source { full: true };
const PULL: Relation = Relation::Target { full: false };
const PULL_ALL: Relation = Relation::Target { full: true };
const TOO_OLD: Relation = Relation::NeedsProtocol(91);

/// Whether a current UUID is that of fresh metadata.
pub(in crate::node) const fn is_new(current: u64) -> bool {
    matches!(masked(current), 0 | Uuids::JUST_CREATED)
}

/// Compares the two nodes' UUIDs (S64). The first rule that matches decides.
#[must_use]
pub fn compare(facts: &Facts) -> Comparison {
    let (own, peer) = (masked(facts.own.uuids.current), masked(facts.peer.uuids.current));
    let fresh = Uuids::JUST_CREATED;
    if own == fresh && peer == fresh {
        return Comparison::of(10, IN_SYNC);
    }
    if is_new(own) && peer != fresh {
        return Comparison::of(20, PULL_ALL);
    }
    if own != fresh && is_new(peer) {
        return Comparison::of(30, PUSH_ALL);
    }
    if own == peer { same_current(facts) } else { different_current(facts) }
}

/// Rules 34 to 41: both have the same current UUID.
fn same_current(facts: &Facts) -> Comparison {
    let (own, peer) = (facts.own.uuids, facts.peer.uuids);
    // Whether a node has a bitmap UUID is asked of all 64 bits.
    match (own.bitmap != 0, peer.bitmap != 0) {
        (true, false) if facts.apv < 91 => Comparison::of(30, TOO_OLD),
        (true, false) if finished_by(own, peer) => {
            Comparison::of(34, PUSH).noting(Note::MissedResyncFinished).fixing_own(resync_finished(own))
        }
        (true, false) => Comparison::of(36, PUSH).noting(Note::PeerFailedToWriteSyncUuid),
        (false, true) if facts.apv < 91 => Comparison::of(30, TOO_OLD),
        (false, true) if finished_by(peer, own) => {
            Comparison::of(35, PULL).noting(Note::PeerMissedResyncFinished).fixing_peer(resync_finished(peer))
        }
        (false, true) => Comparison::of(37, PULL).noting(Note::FailedToWriteSyncUuid),
        (true, true) | (false, false) => after_crashes(facts),
    }
}

/// Rules 40 and 41: nothing was rotated; who crashed as Primary may have more.
fn after_crashes(facts: &Facts) -> Comparison {
    let (own, peer) = (facts.own, facts.peer);
    let crashed = (own.crashed, peer.crashed);
    if crashed == (false, false) {
        return Comparison::of(40, IN_SYNC);
    }
    if (own.primary || peer.primary) && !facts.write_same {
        let needs = Relation::NeedsFeatures { protocol: 101, features: 4 };
        return Comparison::of(41, needs).noting(Note::PrimaryPresent);
    }
    match (own.primary, peer.primary) {
        (true, true) => {
            return Comparison::of(41, Relation::SplitBrainWithoutBase).noting(Note::BothPrimary);
        }
        (true, false) => return Comparison::of(41, PUSH),
        (false, true) => return Comparison::of(41, PULL),
        (false, false) => {}
    }
    let relation = match crashed {
        (true, false) => PUSH,
        (false, true) => PULL,
        _ if facts.resolve => PULL,
        _ => PUSH,
    };
    Comparison::of(40, relation)
}

/// Rules 50 to 100: the current UUIDs differ.
fn different_current(facts: &Facts) -> Comparison {
    let (own, peer) = (facts.own.uuids, facts.peer.uuids);
    let (mine, theirs) = (masked(own.current), masked(peer.current));
    if mine == masked(peer.bitmap) {
        return Comparison::of(50, PULL);
    }
    if mine == masked(peer.history[0]) && sync_uuid_lost(peer, own, facts.apv) {
        if facts.apv < 91 {
            return Comparison::of(51, TOO_OLD);
        }
        return Comparison::of(51, PULL).noting(Note::LostSyncUuid).fixing_peer(sync_undone(peer));
    }
    if peer.history.into_iter().map(masked).any(|old| old == mine) {
        return Comparison::of(60, PULL_ALL);
    }
    if masked(own.bitmap) == theirs {
        return Comparison::of(70, PUSH);
    }
    // The kernel asks the UUIDs alone, and lets such a disk have the few blocks that its replacement lacked. The peer
    // takes a full sync, too: this node marks all, and both take what either has marked.
    if masked(own.history[0]) == theirs && sync_uuid_lost(own, peer, facts.apv) && !facts.sync_uuid_taken {
        if facts.apv < 91 {
            return Comparison::of(71, TOO_OLD);
        }
        return Comparison::of(71, PUSH).noting(Note::SyncUuidDidNotGetThrough).fixing_own(sync_undone(own));
    }
    if own.history.into_iter().map(masked).any(|old| old == theirs) {
        return Comparison::of(80, PUSH_ALL);
    }
    if masked(own.bitmap) == masked(peer.bitmap) && masked(own.bitmap) != 0 {
        return Comparison::of(90, Relation::SplitBrain);
    }
    // Unset history entries are compared as well: zero equals zero (X2).
    let shared = own.history.into_iter().any(|o| peer.history.into_iter().any(|p| masked(o) == masked(p)));
    Comparison::of(100, if shared { Relation::SplitBrainWithoutBase } else { Relation::Unrelated })
}

/// Without bit 0, which only says who was Primary.
pub const fn masked(uuid: u64) -> u64 {
    uuid & !1
}

/// Rules 34 and 35: `target` has in its history what `source` still has as bitmap UUID and newer
/// history, as after a resync whose end `source` did not hear of.
const fn finished_by(source: Uuids, target: Uuids) -> bool {
    masked(source.bitmap) == masked(target.history[0])
        && masked(source.history[0]) == masked(target.history[1])
}

/// The source's UUIDs after the end of the resync.
const fn resync_finished(source: Uuids) -> Uuids {
    Uuids { current: source.current, bitmap: 0, history: [source.bitmap, source.history[0]] }
}

/// X and Y: `source` rotated a sync UUID in that `target` never stored.
const fn sync_uuid_lost(source: Uuids, target: Uuids, apv: u32) -> bool {
    if apv >= 96 {
        masked(source.history[0]).wrapping_add(Uuids::SYNC_OFFSET) == masked(source.bitmap)
    } else {
        masked(target.history[0]) == masked(source.history[1])
    }
}

/// The source's UUIDs without that sync UUID.
const fn sync_undone(source: Uuids) -> Uuids {
    Uuids {
        current: source.current,
        bitmap: source.history[0],
        history: [source.history[1], source.history[1]],
    }
}

#[cfg(test)]
pub(in crate::node::decision) use tests::{any_facts, facts, is_impossible};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFF: u64 = Uuids::SYNC_OFFSET;

    fn side(uuids: [u64; 4]) -> Side {
        Side { uuids: uuids.into(), crashed: false, primary: false }
    }

    /// Two Secondaries with these UUIDs, of today's protocol.
    pub(in crate::node::decision) fn facts(own: [u64; 4], peer: [u64; 4]) -> Facts {
        Facts {
            own: side(own),
            peer: side(peer),
            resolve: false,
            apv: 101,
            write_same: true,
            sync_uuid_taken: false,
        }
    }

    fn decides(own: [u64; 4], peer: [u64; 4]) -> (i32, u8) {
        let result = compare(&facts(own, peer));
        (result.relation.number(), result.rule)
    }

    impl Facts {
        /// The same situation as the other node sees it.
        pub(in crate::node::decision) fn seen_by_peer(self) -> Self {
            Self { own: self.peer, peer: self.own, resolve: !self.resolve, ..self }
        }
    }

    #[test]
    fn each_rule_decides_its_case() {
        let (c, b, h, i) = (0x100, 0x200, 0x300, 0x400);
        let (d, e) = (0x500, 0x600);
        assert_eq!(decides([4, 0, 0, 0], [5, 0, 0, 0]), (0, 10));
        assert_eq!(decides([4, 0, 0, 0], [c, b, 0, 0]), (-2, 20));
        assert_eq!(decides([0, 0, 0, 0], [0, 0, 0, 0]), (-2, 20));
        assert_eq!(decides([0, 0, 0, 0], [c, 0, 0, 0]), (-2, 20));
        assert_eq!(decides([4, 0, 0, 0], [0, 0, 0, 0]), (-2, 20));
        assert_eq!(decides([0, 0, 0, 0], [4, 0, 0, 0]), (2, 30));
        assert_eq!(decides([c, b, 0, 0], [4, 0, 0, 0]), (2, 30));
        assert_eq!(decides([c, 0, 0, 0], [1, 0, 0, 0]), (2, 30));
        assert_eq!(decides([c, b, h, 0], [c, 0, b, h]), (1, 34));
        assert_eq!(decides([c, 0, b, h], [c, b, h, 0]), (-1, 35));
        assert_eq!(decides([c, b, h, 0], [c, 0, h, b]), (1, 36));
        assert_eq!(decides([c, 0, h, b], [c, b, h, 0]), (-1, 37));
        assert_eq!(decides([c + 1, 0, h, 0], [c, 0, 0, 0]), (0, 40));
        assert_eq!(decides([c, b, h, 0], [c, h, 0, 0]), (0, 40));
        assert_eq!(decides([c, b, 0, 0], [d, c + 1, 0, 0]), (-1, 50));
        assert_eq!(decides([c, 0, e, 0], [d, c + OFF, c, h]), (-1, 51));
        assert_eq!(decides([c, 0, e, 0], [d, c + 2 * OFF, c, h]), (-2, 60));
        assert_eq!(decides([c, 0, e, 0], [d, e, h, c]), (-2, 60));
        assert_eq!(decides([d, c + 1, 0, 0], [c, b, 0, 0]), (1, 70));
        assert_eq!(decides([d, c + OFF, c, h], [c, 0, e, 0]), (1, 71));
        assert_eq!(decides([d, c + 2 * OFF, c, h], [c, 0, e, 0]), (2, 80));
        let taken = Facts { sync_uuid_taken: true, ..facts([d, c + OFF, c, h], [c, 0, e, 0]) };
        let Comparison { relation, rule, own_fix, .. } = compare(&taken);
        assert_eq!((relation.number(), rule, own_fix), (2, 80, None));
        assert_eq!(decides([d, e, h, c], [c, 0, e, 0]), (2, 80));
        assert_eq!(decides([c, b + 1, h, i], [d, b, 0, 0]), (100, 90));
        assert_eq!(decides([c, b, h, i], [d, e, i, 0]), (-100, 100));
        assert_eq!(decides([c, b, h, 0], [d, e, i, 0]), (-100, 100));
        assert_eq!(decides([c, 0, h, 0], [d, 0, i, 0]), (-100, 100));
        assert_eq!(decides([c, b, h, h], [d, e, i, i]), (-1000, 100));
    }

    #[test]
    fn bit_zero_of_a_bitmap_uuid_alone_counts_as_set_but_never_as_equal() {
        // The equal-current block asks for the raw value, the rest compares masked ones.
        assert_eq!(decides([8, 1, 0, 0], [8, 0, 0, 0]), (1, 34));
        assert_eq!(decides([8, 1, 2, 2], [10, 1, 6, 6]), (-1000, 100));
    }

    #[test]
    fn crashes_count_where_nothing_was_rotated() {
        // Rules 40 and 41: own crashed, peer crashed, own Primary, peer Primary, resolve
        let case = |crashed: (bool, bool), primary: (bool, bool), resolve, write_same| {
            let mut f = facts([8, 0, 0, 0], [9, 0, 0, 0]);
            (f.own.crashed, f.peer.crashed) = crashed;
            (f.own.primary, f.peer.primary) = primary;
            (f.resolve, f.write_same) = (resolve, write_same);
            let result = compare(&f);
            (result.relation.number(), result.rule, result.note)
        };
        let nobody = (false, false);
        assert_eq!(case(nobody, (true, true), false, false), (0, 40, None));
        assert_eq!(case((true, false), nobody, false, false), (1, 40, None));
        assert_eq!(case((false, true), nobody, true, false), (-1, 40, None));
        assert_eq!(case((true, true), nobody, true, true), (-1, 40, None));
        assert_eq!(case((true, true), nobody, false, true), (1, 40, None));
        let absent = (-66661, 41, Some(Note::PrimaryPresent));
        for crashed in [(true, false), (false, true), (true, true)] {
            for primary in [(true, false), (false, true), (true, true)] {
                assert_eq!(case(crashed, primary, true, false), absent);
            }
            assert_eq!(case(crashed, (true, true), true, true), (-100, 41, Some(Note::BothPrimary)));
            assert_eq!(case(crashed, (true, false), true, true), (1, 41, None));
            assert_eq!(case(crashed, (false, true), true, true), (-1, 41, None));
        }
    }

    #[test]
    fn old_protocols_refuse_what_they_cannot_tell() {
        let with = |apv, own, peer| {
            let result = compare(&Facts { apv, ..facts(own, peer) });
            (result.relation.number(), result.rule, result.note, result.own_fix, result.peer_fix)
        };
        let too_old = |rule| (-1091, rule, None, None, None);
        assert_eq!(with(90, [8, 2, 0, 0], [8, 0, 0, 0]), too_old(30));
        assert_eq!(with(90, [8, 0, 0, 0], [8, 2, 0, 0]), too_old(30));
        // 51 and 71 before protocol 96 ask the history in place of the offset
        let (target, source) = ([0x10, 0, 0x30, 0], [0x20, 0x50, 0x10, 0x30]);
        assert_eq!(with(90, target, source), too_old(51));
        assert_eq!(with(90, source, target), too_old(71));
        for apv in [91, 95] {
            assert_eq!(with(apv, target, source).1, 51);
            assert_eq!(with(apv, source, target).1, 71);
        }
        assert_eq!(with(96, target, source).1, 60);
        assert_eq!(with(96, source, target).1, 80);
    }

    #[test]
    fn corrections_put_the_uuids_where_the_missed_event_would_have() {
        let (c, b, h, i) = (0x100, 0x200, 0x300, 0x400);
        let fix = |own, peer| {
            let result = compare(&facts(own, peer));
            (result.own_fix.map(<[u64; 4]>::from), result.peer_fix.map(<[u64; 4]>::from))
        };
        assert_eq!(fix([c, b, h, i], [c, 0, b, h]), (Some([c, 0, b, h]), None)); // 34
        assert_eq!(fix([c, 0, b, h], [c, b, h, i]), (None, Some([c, 0, b, h]))); // 35
        assert_eq!(fix([c, 0, 0, 0], [b, c + OFF, c, i]), (None, Some([b, c, i, i]))); // 51
        assert_eq!(fix([b, c + OFF, c, i], [c, 0, 0, 0]), (Some([b, c, i, i]), None)); // 71
        assert_eq!(fix([c, b, 0, 0], [c, 0, h, i]), (None, None)); // 36
    }

    #[test]
    fn the_sync_offset_wraps() {
        let high = 0xffff_0000_0000_0010;
        assert_eq!(decides([high, 0, 0, 0], [0x20, 0x10, high, 0]), (-1, 51));
    }

    #[test]
    fn worked_scenarios_compare_as_section_10_says() {
        let (g1, g2, g3, g4, r1, jc) = (0x1000, 0x2000, 0x3000, 0x4000, 0xa000, 4);
        let star = |uuid| uuid | 1;
        let both = |own, peer| (decides(own, peer), decides(peer, own));
        // C1: after the forced promotion
        assert_eq!(both([star(g1), jc, 0, 0], [jc, 0, 0, 0]), ((2, 30), (-2, 20)));
        // C3: A crashed, B was promoted
        assert_eq!(both([g1, 0, r1, jc], [star(g2), g1, r1, jc]), ((-1, 50), (1, 70)));
        // C4
        assert_eq!(both([star(g2), star(g1), r1, jc], [g1, 0, r1, jc]), ((1, 70), (-1, 50)));
        // C5, C6
        assert_eq!(both([star(g2), star(g1), r1, jc], [star(g3), g1, r1, jc]), ((100, 90), (100, 90)));
        // C8: interrupted resync; C8b: the sync UUID was lost; C8c: the end was not heard
        let source = [star(g2), star(g1) + OFF, star(g1), r1];
        assert_eq!(both(source, [g1 + OFF, 0, r1, jc]), ((1, 70), (-1, 50)));
        assert_eq!(both(source, [g1, 0, r1, jc]), ((1, 71), (-1, 51)));
        assert_eq!(both(source, [g2, 0, g1 + OFF, star(g1)]), ((1, 34), (-1, 35)));
        // C8: B was forced up in between
        assert_eq!(both(source, [star(g4), g1 + OFF, r1, jc]), ((100, 90), (100, 90)));
        // C11: the Primary detached, the peer moved on
        assert_eq!(both([star(g1), 0, r1, jc], [g2, g1, r1, jc]), ((-1, 50), (1, 70)));
        // X2: young nodes without a common generation
        assert_eq!(both([g1, jc, 0, 0], [g2, jc, 0, 0]), ((100, 90), (100, 90)));
        assert_eq!(both([g1, r1, 0, 0], [g2, jc, 0, 0]), ((-100, 100), (-100, 100)));
    }

    /// Few values, so that coincidences are frequent.
    fn any_uuids() -> impl Strategy<Value = [u64; 4]> {
        let one = prop::sample::select(vec![
            0,
            1,
            4,
            5,
            0x10,
            0x11,
            0x20,
            0x21,
            0x30,
            0x40,
            0x10 + OFF,
            0x20 + OFF,
            0x30 + OFF,
        ]);
        prop::array::uniform4(one)
    }

    pub(in crate::node::decision) fn any_facts() -> impl Strategy<Value = Facts> {
        (any_uuids(), any_uuids(), 0..64u32, 86..102u32).prop_map(|(own, peer, bits, apv)| {
            let flag = |at: u32| bits >> at & 1 == 1;
            Facts {
                own: Side { uuids: own.into(), crashed: flag(0), primary: flag(1) },
                peer: Side { uuids: peer.into(), crashed: flag(2), primary: flag(3) },
                resolve: flag(4),
                apv,
                write_same: flag(5),
                sync_uuid_taken: false,
            }
        })
    }

    /// Each node's current UUID is an old one of the other's: no history leads there.
    pub(in crate::node::decision) fn is_impossible(facts: &Facts) -> bool {
        let knows = |own: Uuids, peer: Uuids| {
            [own.bitmap, own.history[0], own.history[1]].map(masked).contains(&masked(peer.current))
        };
        let (own, peer) = (facts.own.uuids, facts.peer.uuids);
        let unset = masked(own.current) == 0 && masked(peer.current) == 0;
        unset || (knows(own, peer) && knows(peer, own) && masked(own.current) != masked(peer.current))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, max_global_rejects: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn both_nodes_always_reach_mirrored_results(facts in any_facts()) {
            prop_assume!(!is_impossible(&facts));
            let (own, peer) = (compare(&facts), compare(&facts.seen_by_peer()));
            prop_assert_eq!(own.relation, peer.relation.mirrored(), "{:?} {:?}", own, peer);
            prop_assert_eq!(own.own_fix, peer.peer_fix);
            prop_assert_eq!(own.peer_fix, peer.own_fix);
        }

        #[test]
        fn only_the_rules_of_the_table_decide(facts in any_facts()) {
            let result = compare(&facts);
            let known = [10, 20, 30, 34, 35, 36, 37, 40, 41, 50, 51, 60, 70, 71, 80, 90, 100];
            prop_assert!(known.contains(&result.rule));
            let known = [0, 1, -1, 2, -2, 100, -100, -1000, -1091, -66661];
            prop_assert!(known.contains(&result.relation.number()));
        }
    }
}
