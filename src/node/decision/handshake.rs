//! The sync handshake: from the comparison of the UUIDs to what the two nodes do (S66).
//!
//! ```text
//!  decide(facts) ─► Verdict { actions, next: Done(outcome) }
//!               └─► Verdict { actions, next: TryDemotion(pending) } ─► pending.resume(demoted) ─► Verdict
//! ```
//! The caller carries out the actions in order before it looks at `next`: a handler may take long,
//! and what a demotion attempt meets depends on what happened meanwhile (S72).

use super::Action;
use super::after_sb::{self, Policies, Ruling};
use super::compare::{self, Comparison, Note, Relation, Uuids, compare};
use crate::config::values::RrConflict;
use crate::node::effect::LogLevel;
use crate::node::state::{Conn, Disk};

/// All that a handshake depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// UUIDs, roles, crash flags, and what the link has agreed on.
    pub compare: compare::Facts,
    /// The own disk as it is.
    pub disk: Disk,
    /// What the own disk is worth once negotiated (`new_state_tmp`); counts while `disk` is Negotiating.
    pub negotiated: Disk,
    /// The peer's disk; for one that negotiates, what it is really worth (S32.1).
    pub peer_disk: Disk,
    /// Own out-of-sync bits when the own UUIDs were sent (`comm_bm_set`).
    pub own_bits: u64,
    /// The peer's out-of-sync bits, as received with its UUIDs.
    pub peer_bits: u64,
    /// The flags received with the peer's UUIDs (S51).
    pub peer_flags: u64,
    /// Own bits set now.
    pub bits_set: u64,
    /// This attempt's own data loses a split brain.
    pub discard_my_data: bool,
    /// The after-sb policies.
    pub policies: Policies,
    /// The policies hold without a common base, too.
    pub always_asbp: bool,
    /// What becomes of a Primary that loses.
    pub rr_conflict: RrConflict,
    /// Only find out: the own wish, or the peer's (DRY_RUN).
    pub tentative: bool,
}

/// UUID flag: the sender's data loses a split brain (S51).
pub const FLAG_DISCARD_MY_DATA: u64 = 1;
/// UUID flag: the sender crashed as Primary (S51).
pub const FLAG_CRASHED_PRIMARY: u64 = 2;

/// A step towards the outcome, or the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do first, in this order.
    pub actions: Vec<Action>,
    /// What the UUIDs said; its corrections are to be stored whatever the outcome.
    pub comparison: Comparison,
    /// And then.
    pub next: Next,
}

/// What follows the actions of a [`Verdict`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The handshake is over.
    Done(Outcome),
    /// Try to become Secondary, at once and without waiting (S70), then [`Pending::resume`].
    TryDemotion(Box<Pending>),
}

/// The end of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No resync.
    Connected,
    /// This node is the source.
    SyncSource {
        /// Set all bits first (S61).
        full: bool,
    },
    /// This node is the target.
    SyncTarget {
        /// Set all bits first (S61).
        full: bool,
    },
    /// The nodes do not get together (S32.7).
    Refused(Refusal),
}

impl Outcome {
    /// The connection state to go to; `None` if refused.
    #[must_use]
    pub const fn conn(self) -> Option<Conn> {
        match self {
            Self::Connected => Some(Conn::Connected),
            Self::SyncSource { .. } => Some(Conn::WFBitMapS),
            Self::SyncTarget { .. } => Some(Conn::WFBitMapT),
            Self::Refused(_) => None,
        }
    }

    /// Whether all bits are to be set first (S66.13).
    #[must_use]
    pub const fn is_full(self) -> bool {
        matches!(self, Self::SyncSource { full: true } | Self::SyncTarget { full: true })
    }
}

/// Why a handshake was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The nodes never had the same data (S66.2).
    Unrelated,
    /// The link's protocol or features do not suffice (S66.3, S66.4).
    TooOld,
    /// A split brain that nothing resolved (S66.9).
    SplitBrain,
    /// The source's own data is no good (S66.10).
    SourceInconsistent,
    /// The target is Primary (S66.11).
    TargetPrimary,
    /// It was only a question (S66.12).
    Tentative,
}

/// A handshake that waits for the end of a demotion attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    facts: Facts,
    comparison: Comparison,
    primaries: u8,
}

impl Pending {
    /// Goes on: `demoted` says that the attempt returned 1 (S70, S71).
    #[must_use]
    pub fn resume(mut self, demoted: bool) -> Verdict {
        let mut actions = Vec::new();
        let ruling = if demoted {
            actions.push(Action::warn("Successfully gave up primary role."));
            self.facts.compare.own.primary = false;
            Ruling::DiscardMine
        } else {
            actions.push(Action::Handler("pri-lost-after-sb"));
            Ruling::TryDemotion
        };
        let ambiguous = self.comparison.relation == Relation::SplitBrainWithoutBase;
        let outcome = after_policies(&self.facts, ambiguous, self.primaries, ruling, &mut actions);
        Verdict { actions, comparison: self.comparison, next: Next::Done(outcome) }
    }
}

/// Decides the handshake (S66), up to a demotion attempt if one is needed.
#[must_use]
pub fn decide(facts: &Facts) -> Verdict {
    let mut actions = vec![Action::info("drbd_sync_handshake:")];
    let comparison = compare(&facts.compare);
    log_comparison(facts, &comparison, &mut actions);
    let next = next_after_comparison(facts, &comparison, &mut actions);
    Verdict { actions, comparison, next }
}

/// Steps 2 to 7.
fn next_after_comparison(facts: &Facts, comparison: &Comparison, actions: &mut Vec<Action>) -> Next {
    let ambiguous = match standing(facts, comparison.relation, actions) {
        Err(refusal) => return Next::Done(Outcome::Refused(refusal)),
        Ok(Standing::Related(direction)) => return Next::Done(finish(facts, direction, actions)),
        Ok(Standing::SplitBrain { ambiguous }) => ambiguous,
    };
    actions.push(Action::Handler("initial-split-brain"));
    let primaries = u8::from(facts.compare.own.primary) + u8::from(facts.compare.peer.primary);
    let ruling = if ambiguous && !facts.always_asbp {
        Ruling::Undecided
    } else {
        after_sb::rule(facts.policies, &policy_facts(facts), actions)
    };
    if ruling == Ruling::TryDemotion {
        let pending = Pending { facts: *facts, comparison: *comparison, primaries };
        return Next::TryDemotion(Box::new(pending));
    }
    Next::Done(after_policies(facts, ambiguous, primaries, ruling, actions))
}

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    None,
    Push { full: bool },
    Pull { full: bool },
}

/// How the two nodes' data stand to each other, the disks considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// One goes on from the other.
    Related(Direction),
    /// Both went on by themselves; `ambiguous` without a common base of the bitmaps.
    SplitBrain { ambiguous: bool },
}

/// Step 1: what the log shows of the comparison.
fn log_comparison(facts: &Facts, comparison: &Comparison, actions: &mut Vec<Action>) {
    let own = |uuids: Uuids| Action::info(format!("self {uuids} bits:{} flags:0", facts.own_bits));
    let peer = |uuids: Uuids| {
        Action::info(format!("peer {uuids} bits:{} flags:{:X}", facts.peer_bits, facts.peer_flags))
    };
    actions.extend([own(facts.compare.own.uuids), peer(facts.compare.peer.uuids)]);
    if let Some(note) = comparison.note {
        let level = match note {
            Note::BothPrimary => LogLevel::Error,
            Note::PrimaryPresent => LogLevel::Warn,
            Note::MissedResyncFinished
            | Note::PeerFailedToWriteSyncUuid
            | Note::PeerMissedResyncFinished
            | Note::FailedToWriteSyncUuid
            | Note::LostSyncUuid
            | Note::SyncUuidDidNotGetThrough => LogLevel::Info,
        };
        actions.push(Action::Log(level, note.to_string()));
    }
    actions.extend(comparison.own_fix.map(own));
    actions.extend(comparison.peer_fix.map(peer));
    actions.push(Action::info(format!(
        "uuid_compare()={} by rule {}",
        comparison.relation.number(),
        comparison.rule
    )));
}

/// Steps 2 to 5: what cannot be, and what the disks decide in place of the UUIDs.
fn standing(facts: &Facts, relation: Relation, actions: &mut Vec<Action>) -> Result<Standing, Refusal> {
    let related = match relation {
        Relation::Unrelated => {
            actions.push(Action::error("Unrelated data, aborting!"));
            return Err(Refusal::Unrelated);
        }
        Relation::NeedsFeatures { protocol, features } => {
            actions.push(Action::error(format!("{NEEDS} {protocol} and feature flags {features:#x}")));
            return Err(Refusal::TooOld);
        }
        Relation::NeedsProtocol(protocol) => {
            actions.push(Action::error(format!("{NEEDS} {protocol}")));
            return Err(Refusal::TooOld);
        }
        Relation::InSync => Standing::Related(Direction::None),
        Relation::Source { full } => Standing::Related(Direction::Push { full }),
        Relation::Target { full } => Standing::Related(Direction::Pull { full }),
        Relation::SplitBrain => Standing::SplitBrain { ambiguous: false },
        Relation::SplitBrainWithoutBase => Standing::SplitBrain { ambiguous: true },
    };
    let full = match related {
        Standing::Related(Direction::Push { full } | Direction::Pull { full }) => full,
        Standing::Related(Direction::None) => false,
        Standing::SplitBrain { ambiguous } => ambiguous,
    };
    let (own, peer) = (usable_disk(facts), facts.peer_disk);
    if own > Disk::Inconsistent && peer == Disk::Inconsistent {
        actions.push(Action::info("Becoming sync source due to disk states."));
        return Ok(Standing::Related(Direction::Push { full }));
    }
    if own == Disk::Inconsistent && peer > Disk::Inconsistent {
        actions.push(Action::info("Becoming sync target due to disk states."));
        return Ok(Standing::Related(Direction::Pull { full }));
    }
    Ok(related)
}

/// What precedes the version in steps 3 and 4.
const NEEDS: &str = "To resolve this both sides have to support at least protocol";

/// `mydisk`: the own disk, or what it is worth once negotiated.
fn usable_disk(facts: &Facts) -> Disk {
    if facts.disk == Disk::Negotiating { facts.negotiated } else { facts.disk }
}

fn policy_facts(facts: &Facts) -> after_sb::Facts {
    let compare::Facts { own, peer, resolve, .. } = facts.compare;
    after_sb::Facts {
        own_was_primary: own.uuids.bitmap & 1 == 1,
        peer_was_primary: peer.uuids.bitmap & 1 == 1,
        own_bits: facts.own_bits,
        peer_bits: facts.peer_bits,
        own_primary: own.primary,
        peer_primary: peer.primary,
        resolve,
    }
}

/// The rest of step 7, and steps 8 and 9: a split brain, after the policies. `TryDemotion` stands for
/// an attempt that failed.
///
/// After such an attempt the kernel still looks for discard-my-data in step 8. But a node is asked to
/// give up its role only where the policies have made the peer the winner: if the peer has the option
/// set, too, both nodes would become source. Ours leaves that split brain unresolved.
fn after_policies(
    facts: &Facts,
    ambiguous: bool,
    primaries: u8,
    ruling: Ruling,
    actions: &mut Vec<Action>,
) -> Outcome {
    let by_policy = match ruling {
        Ruling::DiscardMine => Some(Direction::Pull { full: ambiguous }),
        Ruling::DiscardPeers => Some(Direction::Push { full: ambiguous }),
        Ruling::Undecided | Ruling::TryDemotion => None,
    };
    if let Some(direction) = by_policy {
        actions.push(Action::warn(format!(
            "Split-Brain detected, {primaries} primaries, automatically solved. Sync from {} node",
            sender(direction)
        )));
        if ambiguous {
            actions.push(Action::warn("Doing a full sync, since UUIDs where ambiguous."));
        }
        return finish(facts, direction, actions);
    }
    let peer_discards = facts.peer_flags & FLAG_DISCARD_MY_DATA != 0;
    let by_hand = match (ruling, facts.discard_my_data, peer_discards) {
        (Ruling::TryDemotion, _, _) | (_, true, true) | (_, false, false) => None,
        (_, true, false) => Some(Direction::Pull { full: false }),
        (_, false, true) => Some(Direction::Push { full: false }),
    };
    if let Some(direction) = by_hand {
        actions.push(Action::warn(format!(
            "Split-Brain detected, manually solved. Sync from {} node",
            sender(direction)
        )));
        return finish(facts, direction, actions);
    }
    actions.push(Action::error("Split-Brain detected but unresolved, dropping connection!"));
    actions.push(Action::Handler("split-brain"));
    Outcome::Refused(Refusal::SplitBrain)
}

const fn sender(direction: Direction) -> &'static str {
    match direction {
        Direction::Pull { .. } => "peer",
        Direction::Push { .. } | Direction::None => "this",
    }
}

/// Steps 10 to 14: whether it may go that way.
fn finish(facts: &Facts, direction: Direction, actions: &mut Vec<Action>) -> Outcome {
    match direction {
        Direction::Push { .. } if usable_disk(facts) <= Disk::Inconsistent => {
            actions.push(Action::error("I shall become SyncSource, but I am inconsistent!"));
            return Outcome::Refused(Refusal::SourceInconsistent);
        }
        // The disk as it is, not as negotiated: a Primary that attaches its disk again has no data
        // of its own that applications could see change (X18).
        Direction::Pull { .. } if facts.compare.own.primary && facts.disk >= Disk::Consistent => {
            match facts.rr_conflict {
                RrConflict::CallPriLost | RrConflict::Disconnect => {
                    if facts.rr_conflict == RrConflict::CallPriLost {
                        actions.push(Action::Handler("pri-lost"));
                    }
                    actions.push(Action::error("I shall become SyncTarget, but I am primary!"));
                    return Outcome::Refused(Refusal::TargetPrimary);
                }
                RrConflict::Violently => {
                    actions.push(Action::warn("Becoming SyncTarget, violating the stable-dataassumption"))
                }
            }
        }
        Direction::Push { .. } | Direction::Pull { .. } | Direction::None => {}
    }
    if facts.tentative {
        actions.push(Action::info(dry_run_text(direction)));
        return Outcome::Refused(Refusal::Tentative);
    }
    let outcome = match direction {
        Direction::None => Outcome::Connected,
        Direction::Push { full } => Outcome::SyncSource { full },
        Direction::Pull { full } => Outcome::SyncTarget { full },
    };
    if outcome.is_full() {
        actions.push(Action::info("Writing the whole bitmap, full sync required after drbd_sync_handshake."));
    }
    if outcome == Outcome::Connected && facts.bits_set > 0 {
        actions.push(Action::info(format!("No resync, but {} bits in bitmap!", facts.bits_set)));
    }
    outcome
}

/// What a tentative connect answers (S39).
fn dry_run_text(direction: Direction) -> String {
    let (role, full) = match direction {
        Direction::None => return "dry-run connect: No resync, would become Connected immediately.".into(),
        Direction::Push { full } => ("SyncSource", full),
        Direction::Pull { full } => ("SyncTarget", full),
    };
    let kind = if full { "full" } else { "bit-map based" };
    format!("dry-run connect: Would become {role}, doing a {kind} resync.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::config::values::{AfterSb0p, AfterSb1p, AfterSb2p};
    use crate::node::decision::compare::{any_facts as any_comparison, is_impossible};

    const G1: u64 = 0x1000;
    const G2: u64 = 0x2001;
    const G3: u64 = 0x3001;
    const R1: u64 = 0xa000;

    /// Two UpToDate Secondaries with these UUIDs, default options.
    fn facts(own: [u64; 4], peer: [u64; 4]) -> Facts {
        Facts {
            compare: compare::facts(own, peer),
            disk: Disk::UpToDate,
            negotiated: Disk::Diskless,
            peer_disk: Disk::UpToDate,
            own_bits: 0,
            peer_bits: 0,
            peer_flags: 0,
            bits_set: 0,
            discard_my_data: false,
            policies: Policies::default(),
            always_asbp: false,
            rr_conflict: RrConflict::Disconnect,
            tentative: false,
        }
    }

    /// C5: A was Primary when the link broke and changed 7 blocks; B was promoted later, 3 blocks.
    fn split_brain() -> Facts {
        Facts { own_bits: 7, peer_bits: 3, ..facts([G2, G1 | 1, R1, 4], [G3, G1, R1, 4]) }
    }

    fn without_base() -> Facts {
        facts([0x10, 0x20, 0x30, 0], [0x50, 0x60, 0x70, 0])
    }

    fn seen_by_peer(facts: Facts) -> Facts {
        Facts {
            compare: facts.compare.seen_by_peer(),
            disk: facts.peer_disk,
            peer_disk: usable_disk(&facts),
            own_bits: facts.peer_bits,
            peer_bits: facts.own_bits,
            discard_my_data: facts.peer_flags & FLAG_DISCARD_MY_DATA != 0,
            peer_flags: u64::from(facts.discard_my_data)
                | if facts.compare.own.crashed { FLAG_CRASHED_PRIMARY } else { 0 },
            policies: facts.policies.mirrored(),
            ..facts
        }
    }

    fn primary(facts: Facts) -> Facts {
        let mut facts = facts;
        facts.compare.own.primary = true;
        facts
    }

    fn peer_primary(facts: Facts) -> Facts {
        let mut facts = facts;
        facts.compare.peer.primary = true;
        facts
    }

    /// The outcome, and the handlers called on the way; `demoted` answers a demotion attempt.
    fn run(facts: Facts, demoted: bool) -> (Outcome, Vec<&'static str>) {
        let (outcome, actions) = run_actions(facts, demoted);
        let handlers = actions.iter().filter_map(|action| match action {
            Action::Handler(name) => Some(*name),
            Action::Log(..) => None,
        });
        (outcome, handlers.collect())
    }

    fn run_actions(facts: Facts, demoted: bool) -> (Outcome, Vec<Action>) {
        let Verdict { mut actions, next, .. } = decide(&facts);
        let outcome = match next {
            Next::Done(outcome) => outcome,
            Next::TryDemotion(pending) => {
                let rest = pending.resume(demoted);
                actions.extend(rest.actions);
                match rest.next {
                    Next::Done(outcome) => outcome,
                    Next::TryDemotion(_) => panic!("asked twice"),
                }
            }
        };
        (outcome, actions)
    }

    fn outcome(facts: Facts) -> Outcome {
        run(facts, false).0
    }

    fn lines(facts: Facts) -> Vec<String> {
        run_actions(facts, false)
            .1
            .into_iter()
            .map(|action| match action {
                Action::Log(_, text) => text,
                Action::Handler(name) => format!("<{name}>"),
            })
            .collect()
    }

    const PUSH: Outcome = Outcome::SyncSource { full: false };
    const PULL: Outcome = Outcome::SyncTarget { full: false };
    const PUSH_ALL: Outcome = Outcome::SyncSource { full: true };
    const PULL_ALL: Outcome = Outcome::SyncTarget { full: true };
    const UNRESOLVED: Outcome = Outcome::Refused(Refusal::SplitBrain);

    #[test]
    fn the_log_shows_what_was_compared() {
        // S66.1
        let f =
            Facts { own_bits: 5, peer_bits: 2, peer_flags: 10, ..facts([G2, G1 | 1, R1, 4], [G1, 0, R1, 4]) };
        assert_eq!(
            lines(f),
            [
                "drbd_sync_handshake:",
                "self 0000000000002001:0000000000001001:000000000000A000:0000000000000004 bits:5 flags:0",
                "peer 0000000000001000:0000000000000000:000000000000A000:0000000000000004 bits:2 flags:A",
                "uuid_compare()=1 by rule 70",
            ]
        );
    }

    #[test]
    fn a_correction_is_logged_with_the_corrected_uuids_and_handed_out() {
        // S64 rule 34
        let f = facts([G2, 0x50, 0x60, 4], [G2, 0, 0x50, 0x60]);
        let verdict = decide(&f);
        assert_eq!(verdict.comparison.own_fix, Some([G2, 0, 0x50, 0x60].into()));
        let shown = lines(f);
        assert_eq!(shown[3], "was SyncSource, missed the resync finished event, corrected myself:");
        assert!(shown[4].starts_with("self 0000000000002001:0000000000000000:0000000000000050:"));
        assert_eq!(shown[5], "uuid_compare()=1 by rule 34");
    }

    #[test]
    fn unrelated_data_is_refused_before_anything_else() {
        // S66.2, S77
        let f = Facts {
            disk: Disk::Inconsistent,
            discard_my_data: true,
            ..facts([0x10, 0x20, 0x30, 0x30], [0x50, 0x60, 0x70, 0x70])
        };
        assert_eq!(run(f, false), (Outcome::Refused(Refusal::Unrelated), vec![]));
        assert_eq!(lines(f).last().map(String::as_str), Some("Unrelated data, aborting!"));
    }

    #[test]
    fn missing_features_and_protocols_are_named() {
        // S66.3, S66.4
        let mut f = primary(facts([G1, 0, 0, 0], [G1, 0, 0, 0]));
        f.compare.own.crashed = true;
        f.compare.write_same = false;
        let last = |f| lines(f).pop().unwrap();
        assert_eq!(outcome(f), Outcome::Refused(Refusal::TooOld));
        assert_eq!(
            last(f),
            "To resolve this both sides have to support at least protocol 101 and feature flags 0x4"
        );
        let mut old = facts([G1, 0x20, 0, 0], [G1, 0, 0, 0]);
        old.compare.apv = 90;
        assert_eq!(outcome(old), Outcome::Refused(Refusal::TooOld));
        assert_eq!(last(old), "To resolve this both sides have to support at least protocol 91");
    }

    #[test]
    fn an_inconsistent_node_is_always_the_target() {
        // S66.5, X11: for every relation of the UUIDs
        for (uuids, full) in [
            (facts([G1, 0, R1, 4], [G1, 0, R1, 4]), false),
            (facts([G1, 0, R1, 4], [G2, G1, R1, 4]), false),
            (facts([G2, G1, R1, 4], [G1, 0, R1, 4]), false),
            (facts([4, 0, 0, 0], [G1, 0, R1, 4]), true),
            (split_brain(), false),
            (without_base(), true),
        ] {
            for good in [Disk::Outdated, Disk::Consistent, Disk::UpToDate] {
                let source = Facts { disk: good, peer_disk: Disk::Inconsistent, ..uuids };
                let target = Facts { disk: Disk::Inconsistent, peer_disk: good, ..uuids };
                assert_eq!(run(source, false), (Outcome::SyncSource { full }, vec![]));
                assert_eq!(run(target, false), (Outcome::SyncTarget { full }, vec![]));
                assert!(lines(source).contains(&"Becoming sync source due to disk states.".into()));
                assert!(lines(target).contains(&"Becoming sync target due to disk states.".into()));
            }
        }
    }

    #[test]
    fn split_brain_options_resolve_as_scenario_c5_says() {
        // (options, roles) -> A's and B's outcomes and handlers
        use AfterSb0p::*;
        use AfterSb1p::{Consensus, DiscardSecondary};
        let with = |zero, one, two, f: Facts| Facts { policies: Policies { zero, one, two }, ..f };
        let (off1, off2) = (AfterSb1p::Disconnect, AfterSb2p::Disconnect);
        let (call1, call2) = (AfterSb1p::CallPriLostAfterSb, AfterSb2p::CallPriLostAfterSb);
        let (as0p1, as0p2) = (AfterSb1p::ViolentlyAs0p, AfterSb2p::ViolentlyAs0p);
        let both = |f: Facts| (run(f, false), run(seen_by_peer(f), false));
        let init = "initial-split-brain";
        let solved = |a, b| ((a, vec![init]), (b, vec![init]));
        let lost = || (UNRESOLVED, vec![init, "split-brain"]);
        let sb = split_brain();
        let a_primary = primary(sb);
        let two = peer_primary(primary(sb));

        assert_eq!(both(sb), (lost(), lost()));
        assert_eq!(both(a_primary), (lost(), lost()));
        assert_eq!(both(with(DiscardYoungerPrimary, off1, off2, sb)), solved(PUSH, PULL));
        assert_eq!(both(with(DiscardOlderPrimary, off1, off2, sb)), solved(PULL, PUSH));
        assert_eq!(both(with(DiscardZeroChanges, off1, off2, sb)), (lost(), lost()));
        assert_eq!(both(with(DiscardLeastChanges, off1, off2, sb)), solved(PUSH, PULL));
        assert_eq!(both(with(DiscardLeastChanges, Consensus, off2, a_primary)), solved(PUSH, PULL));
        assert_eq!(both(with(DiscardOlderPrimary, Consensus, off2, a_primary)), (lost(), lost()));
        assert_eq!(both(with(Disconnect, DiscardSecondary, off2, a_primary)), solved(PUSH, PULL));
        let violent = with(DiscardOlderPrimary, as0p1, off2, a_primary);
        assert_eq!(both(violent), solved(Outcome::Refused(Refusal::TargetPrimary), PUSH));
        let violent = Facts { rr_conflict: RrConflict::Violently, ..violent };
        assert_eq!(both(violent), solved(PULL, PUSH));
        let asking = with(DiscardOlderPrimary, call1, off2, a_primary);
        let failed = (UNRESOLVED, vec![init, "pri-lost-after-sb", "split-brain"]);
        assert_eq!(both(asking), (failed.clone(), (PUSH, vec![init])));
        assert_eq!(run(asking, true), (PULL, vec![init]));
        assert_eq!(both(two), (lost(), lost()));
        let asking = with(DiscardLeastChanges, off1, call2, two);
        assert_eq!(both(asking), ((PUSH, vec![init]), failed));
        let violent = with(DiscardLeastChanges, off1, as0p2, two);
        assert_eq!(both(violent), solved(PUSH, Outcome::Refused(Refusal::TargetPrimary)));
        let violent = Facts { rr_conflict: RrConflict::Violently, ..violent };
        assert_eq!(both(violent), solved(PUSH, PULL));
    }

    #[test]
    fn an_ambiguous_split_brain_needs_always_asbp_and_a_full_sync() {
        // S66.7
        let policies = Policies { zero: AfterSb0p::DiscardLocal, ..Policies::default() };
        let f = Facts { policies, ..without_base() };
        assert_eq!(run(f, false), (UNRESOLVED, vec!["initial-split-brain", "split-brain"]));
        let f = Facts { always_asbp: true, ..f };
        assert_eq!(run(f, false), (PULL_ALL, vec!["initial-split-brain"]));
        assert_eq!(outcome(seen_by_peer(f)), PUSH_ALL);
        let shown = lines(f);
        assert_eq!(
            shown[shown.len() - 3..],
            [
                "Split-Brain detected, 0 primaries, automatically solved. Sync from peer node",
                "Doing a full sync, since UUIDs where ambiguous.",
                "Writing the whole bitmap, full sync required after drbd_sync_handshake.",
            ]
        );
    }

    #[test]
    fn discard_my_data_solves_what_the_policies_left() {
        // S66.8, S76, S77, X10
        for f in [split_brain(), without_base()] {
            let mine = Facts { discard_my_data: true, ..f };
            let theirs = Facts { peer_flags: FLAG_DISCARD_MY_DATA, ..f };
            let both = Facts { discard_my_data: true, ..theirs };
            assert_eq!(run(mine, false), (PULL, vec!["initial-split-brain"]));
            assert_eq!(run(theirs, false), (PUSH, vec!["initial-split-brain"]));
            assert_eq!(outcome(both), UNRESOLVED);
            assert!(
                lines(mine).contains(&"Split-Brain detected, manually solved. Sync from peer node".into())
            );
            assert!(
                lines(theirs).contains(&"Split-Brain detected, manually solved. Sync from this node".into())
            );
        }
        // a policy that decides wins over the option
        let policies = Policies { zero: AfterSb0p::DiscardRemote, ..Policies::default() };
        assert_eq!(outcome(Facts { discard_my_data: true, policies, ..split_brain() }), PUSH);
        // without a split brain the option means nothing
        let newer = facts([G2, G1, R1, 4], [G1, 0, R1, 4]);
        assert_eq!(outcome(Facts { discard_my_data: true, ..newer }), PUSH);
    }

    #[test]
    fn a_failed_demotion_is_not_mended_by_the_peers_discard_my_data() {
        // S70, S66.8: the peer has won by policy and becomes source whatever its option says
        let policies = Policies {
            zero: AfterSb0p::DiscardLocal,
            one: AfterSb1p::CallPriLostAfterSb,
            ..Policies::default()
        };
        let f = Facts { policies, peer_flags: FLAG_DISCARD_MY_DATA, ..primary(split_brain()) };
        let handlers = vec!["initial-split-brain", "pri-lost-after-sb", "split-brain"];
        assert_eq!(run(f, false), (UNRESOLVED, handlers));
        assert_eq!(outcome(seen_by_peer(f)), PUSH);
        assert_eq!(run(f, true).0, PULL);
    }

    #[test]
    fn an_unresolved_split_brain_says_so_and_calls_the_handler() {
        // S66.9
        let shown = lines(split_brain());
        assert_eq!(
            shown[shown.len() - 3..],
            [
                "<initial-split-brain>",
                "Split-Brain detected but unresolved, dropping connection!",
                "<split-brain>"
            ]
        );
    }

    #[test]
    fn an_inconsistent_node_is_never_the_source() {
        // S66.10, X19
        let f = facts([G2, G1, R1, 4], [G1, 0, R1, 4]);
        for disk in [Disk::Inconsistent, Disk::Failed] {
            let poor = Facts { disk, peer_disk: Disk::Inconsistent, ..f };
            assert_eq!(outcome(poor), Outcome::Refused(Refusal::SourceInconsistent), "{disk}");
            assert_eq!(
                lines(poor).last().map(String::as_str),
                Some("I shall become SyncSource, but I am inconsistent!")
            );
        }
        let poor = Facts { disk: Disk::Negotiating, negotiated: Disk::Inconsistent, ..f };
        let poor = Facts { peer_disk: Disk::Inconsistent, ..poor };
        assert_eq!(outcome(poor), Outcome::Refused(Refusal::SourceInconsistent));
    }

    #[test]
    fn a_primary_with_good_data_does_not_become_target_unasked() {
        // S66.11, X18
        let older = primary(facts([G1, 0, R1, 4], [G2, G1, R1, 4]));
        let with = |rr_conflict, disk| Facts { rr_conflict, disk, ..older };
        let refused = Outcome::Refused(Refusal::TargetPrimary);
        for disk in [Disk::Consistent, Disk::UpToDate] {
            assert_eq!(run(with(RrConflict::Disconnect, disk), false), (refused, vec![]));
            assert_eq!(run(with(RrConflict::CallPriLost, disk), false), (refused, vec!["pri-lost"]));
            assert_eq!(run(with(RrConflict::Violently, disk), false), (PULL, vec![]));
        }
        assert_eq!(outcome(with(RrConflict::Disconnect, Disk::Outdated)), PULL);
        let back = Facts { negotiated: Disk::UpToDate, ..with(RrConflict::Disconnect, Disk::Negotiating) };
        assert_eq!(run(back, false), (PULL, vec![]));
        assert_eq!(
            lines(with(RrConflict::CallPriLost, Disk::UpToDate))[4..],
            ["<pri-lost>", "I shall become SyncTarget, but I am primary!"]
        );
        assert_eq!(
            lines(with(RrConflict::Violently, Disk::UpToDate)).last().map(String::as_str),
            Some("Becoming SyncTarget, violating the stable-dataassumption")
        );
    }

    #[test]
    fn a_tentative_connect_only_says_what_would_be() {
        // S66.12, S39
        let tentative = |f| Facts { tentative: true, ..f };
        for (f, text) in [
            (
                facts([G1, 0, R1, 4], [G1, 0, R1, 4]),
                "dry-run connect: No resync, would become Connected immediately.",
            ),
            (
                facts([G2, G1, R1, 4], [G1, 0, R1, 4]),
                "dry-run connect: Would become SyncSource, doing a bit-map based resync.",
            ),
            (
                Facts { disk: Disk::Inconsistent, ..facts([4, 0, 0, 0], [G1, 0, R1, 4]) },
                "dry-run connect: Would become SyncTarget, doing a full resync.",
            ),
        ] {
            assert_eq!(run(tentative(f), false), (Outcome::Refused(Refusal::Tentative), vec![]));
            assert_eq!(lines(tentative(f)).last().map(String::as_str), Some(text));
        }
    }

    #[test]
    fn a_full_sync_writes_the_whole_bitmap_first() {
        // S66.13, S66.14, C1
        let f = Facts { disk: Disk::Inconsistent, ..facts([4, 0, 0, 0], [G1, 4, 0, 0]) };
        assert_eq!(outcome(f), PULL_ALL);
        assert_eq!(outcome(seen_by_peer(f)), PUSH_ALL);
        assert_eq!(PULL_ALL.conn(), Some(Conn::WFBitMapT));
        assert_eq!(PUSH.conn(), Some(Conn::WFBitMapS));
        assert!(PULL_ALL.is_full() && !PUSH.is_full() && !Outcome::Connected.is_full());
        assert_eq!(UNRESOLVED.conn(), None);
        // X19: two nodes whose current UUID is 0 both wait as targets
        let blank =
            Facts { disk: Disk::Inconsistent, peer_disk: Disk::Inconsistent, ..facts([0; 4], [0; 4]) };
        assert_eq!((outcome(blank), outcome(seen_by_peer(blank))), (PULL_ALL, PULL_ALL));
    }

    #[test]
    fn equal_nodes_connect_and_left_over_bits_are_mentioned() {
        // S66.14
        let f = facts([G1, 0, R1, 4], [G1, 0, R1, 4]);
        assert_eq!(run(f, false), (Outcome::Connected, vec![]));
        assert_eq!(Outcome::Connected.conn(), Some(Conn::Connected));
        assert_eq!(lines(f).len(), 4);
        let shown = lines(Facts { bits_set: 7, ..f });
        assert_eq!(shown.last().map(String::as_str), Some("No resync, but 7 bits in bitmap!"));
    }

    fn any_facts() -> impl Strategy<Value = Facts> {
        let disk = || select(Disk::ALL.to_vec());
        // What a negotiating disk is worth is known (S32.1, S37.13).
        let known =
            || select(Disk::ALL.into_iter().filter(|disk| *disk != Disk::Negotiating).collect::<Vec<_>>());
        (
            any_comparison(),
            (disk(), known(), known()),
            (0..3u64, 0..3u64, 0..2u64),
            (select(AfterSb0p::ALL), select(AfterSb1p::ALL), select(AfterSb2p::ALL)),
            select(RrConflict::ALL),
            any::<[bool; 4]>(),
        )
            .prop_map(
                |(compare, disks, (own_bits, peer_bits, bits_set), policies, rr_conflict, flags)| {
                    let crashed = if compare.peer.crashed { FLAG_CRASHED_PRIMARY } else { 0 };
                    Facts {
                        compare,
                        disk: disks.0,
                        negotiated: disks.1,
                        peer_disk: disks.2,
                        own_bits,
                        peer_bits,
                        // A promotion clears the option (S76): no Primary has it.
                        peer_flags: crashed | u64::from(flags[0] && !compare.peer.primary),
                        bits_set,
                        discard_my_data: flags[1] && !compare.own.primary,
                        policies: Policies { zero: policies.0, one: policies.1, two: policies.2 },
                        always_asbp: flags[2],
                        rr_conflict,
                        tentative: flags[3],
                    }
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, max_global_rejects: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn both_nodes_never_reach_verdicts_that_contradict(facts in any_facts(), demoted: bool) {
            prop_assume!(!is_impossible(&facts.compare));
            let (own, peer) = (run(facts, demoted).0, run(seen_by_peer(facts), demoted).0);
            let one_sided = |outcome| matches!(
                outcome,
                Outcome::Refused(Refusal::SourceInconsistent | Refusal::TargetPrimary | Refusal::SplitBrain)
            );
            match (own, peer) {
                (Outcome::Connected, other) | (other, Outcome::Connected) => {
                    prop_assert_eq!(other, Outcome::Connected);
                }
                (Outcome::SyncSource { full: a }, Outcome::SyncTarget { full: b })
                | (Outcome::SyncTarget { full: a }, Outcome::SyncSource { full: b }) => {
                    prop_assert_eq!(a, b);
                }
                (Outcome::Refused(a), Outcome::Refused(b)) => {
                    prop_assert!(a == b || one_sided(own) || one_sided(peer));
                }
                (Outcome::Refused(_), _) => prop_assert!(one_sided(own)),
                (_, Outcome::Refused(_)) => prop_assert!(one_sided(peer)),
                (Outcome::SyncSource { .. }, Outcome::SyncSource { .. })
                | (Outcome::SyncTarget { .. }, Outcome::SyncTarget { .. }) => {
                    prop_assert!(false, "{own:?} {peer:?}");
                }
            }
        }

        #[test]
        fn a_source_has_good_data_and_a_primary_target_asked_for_it(facts in any_facts(), demoted: bool) {
            match run(facts, demoted).0 {
                Outcome::SyncSource { .. } => prop_assert!(usable_disk(&facts) > Disk::Inconsistent),
                Outcome::SyncTarget { .. } => prop_assert!(
                    !facts.compare.own.primary
                        || facts.disk < Disk::Consistent
                        || facts.rr_conflict == RrConflict::Violently
                        || demoted
                ),
                Outcome::Connected | Outcome::Refused(_) => {}
            }
        }
    }
}
