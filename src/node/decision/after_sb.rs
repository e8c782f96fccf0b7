//! Who gives way after a split brain: the after-sb policies (S69 to S73).

use super::Action;
use crate::config::values::{AfterSb0p, AfterSb1p, AfterSb2p};

/// The three policies, as this node sees them: the tool has turned `discard-node-NAME` into one of
/// the two sides already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policies {
    /// `after-sb-0pri`: nobody is Primary; also what the others build on.
    pub zero: AfterSb0p,
    /// `after-sb-1pri`.
    pub one: AfterSb1p,
    /// `after-sb-2pri`.
    pub two: AfterSb2p,
}

impl Policies {
    /// The numbers of the wire (S30): the policies for no, one and two Primaries.
    #[must_use]
    pub const fn to_wire(self) -> [u32; 3] {
        let zero = match self.zero {
            AfterSb0p::Disconnect => 0,
            AfterSb0p::DiscardYoungerPrimary => 1,
            AfterSb0p::DiscardOlderPrimary => 2,
            AfterSb0p::DiscardZeroChanges => 3,
            AfterSb0p::DiscardLeastChanges => 4,
            AfterSb0p::DiscardLocal => 5,
            AfterSb0p::DiscardRemote => 6,
        };
        let one = match self.one {
            AfterSb1p::Disconnect => 0,
            AfterSb1p::Consensus => 7,
            AfterSb1p::DiscardSecondary => 8,
            AfterSb1p::CallPriLostAfterSb => 9,
            AfterSb1p::ViolentlyAs0p => 10,
        };
        let two = match self.two {
            AfterSb2p::Disconnect => 0,
            AfterSb2p::CallPriLostAfterSb => 9,
            AfterSb2p::ViolentlyAs0p => 10,
        };
        [zero, one, two]
    }

    /// Reads the numbers of the wire as the *sender* means them; `None` if one has no meaning in its
    /// place.
    #[must_use]
    pub fn from_wire([zero, one, two]: [u32; 3]) -> Option<Self> {
        let named = |policies: Self, place: usize, number: u32| policies.to_wire()[place] == number;
        let none = Self::default();
        Some(Self {
            zero: *AfterSb0p::ALL.iter().find(|p| named(Self { zero: **p, ..none }, 0, zero))?,
            one: *AfterSb1p::ALL.iter().find(|p| named(Self { one: **p, ..none }, 1, one))?,
            two: *AfterSb2p::ALL.iter().find(|p| named(Self { two: **p, ..none }, 2, two))?,
        })
    }

    /// The same policies from the other node's point of view (S30): what is local to one is remote to
    /// the other.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        let zero = match self.zero {
            AfterSb0p::DiscardLocal => AfterSb0p::DiscardRemote,
            AfterSb0p::DiscardRemote => AfterSb0p::DiscardLocal,
            AfterSb0p::Disconnect
            | AfterSb0p::DiscardYoungerPrimary
            | AfterSb0p::DiscardOlderPrimary
            | AfterSb0p::DiscardZeroChanges
            | AfterSb0p::DiscardLeastChanges => self.zero,
        };
        Self { zero, ..self }
    }
}

/// What the policies look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Bit 0 of the own bitmap UUID: this node was Primary before its current generation began.
    pub own_was_primary: bool,
    /// The same of the peer.
    pub peer_was_primary: bool,
    /// Own out-of-sync bits when the own UUIDs were sent.
    pub own_bits: u64,
    /// The peer's, as received.
    pub peer_bits: u64,
    /// This node is Primary now.
    pub own_primary: bool,
    /// The peer is.
    pub peer_primary: bool,
    /// RESOLVE_CONFLICTS is set here; decides ties.
    pub resolve: bool,
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// This node's changes go: -1.
    DiscardMine,
    /// The peer's changes go: 1.
    DiscardPeers,
    /// No decision: -100.
    Undecided,
    /// This node, a Primary, loses if it can give up its role now; otherwise no decision (S70).
    TryDemotion,
}

impl Ruling {
    const fn of(mine: bool) -> Self {
        if mine { Self::DiscardMine } else { Self::DiscardPeers }
    }
}

/// Applies the policy for the number of nodes that are Primary now. Adds to `actions` what it logs.
#[must_use]
pub fn rule(policies: Policies, facts: &Facts, actions: &mut Vec<Action>) -> Ruling {
    match u8::from(facts.own_primary) + u8::from(facts.peer_primary) {
        0 => without_primary(policies.zero, facts, actions),
        1 => with_one_primary(policies, facts, actions),
        _ => with_two_primaries(policies, facts, actions),
    }
}

/// S69.
fn without_primary(policy: AfterSb0p, facts: &Facts, actions: &mut Vec<Action>) -> Ruling {
    match (policy, facts.own_was_primary, facts.peer_was_primary) {
        (AfterSb0p::Disconnect, _, _) => Ruling::Undecided,
        (AfterSb0p::DiscardYoungerPrimary, false, true) => Ruling::DiscardMine,
        (AfterSb0p::DiscardYoungerPrimary, true, false) => Ruling::DiscardPeers,
        (AfterSb0p::DiscardOlderPrimary, false, true) => Ruling::DiscardPeers,
        (AfterSb0p::DiscardOlderPrimary, true, false) => Ruling::DiscardMine,
        (AfterSb0p::DiscardYoungerPrimary | AfterSb0p::DiscardOlderPrimary, _, _) => {
            actions.push(Action::warn("Discard younger/older primary did not find a decision"));
            actions.push(Action::warn("Using discard-least-changes instead"));
            match zero_changes(facts) {
                Ruling::Undecided => least_changes(facts),
                decided => decided,
            }
        }
        (AfterSb0p::DiscardZeroChanges, _, _) => zero_changes(facts),
        (AfterSb0p::DiscardLeastChanges, _, _) => least_changes(facts),
        (AfterSb0p::DiscardLocal, _, _) => Ruling::DiscardMine,
        (AfterSb0p::DiscardRemote, _, _) => Ruling::DiscardPeers,
    }
}

/// S70.
fn with_one_primary(policies: Policies, facts: &Facts, actions: &mut Vec<Action>) -> Ruling {
    match policies.one {
        AfterSb1p::Disconnect => Ruling::Undecided,
        AfterSb1p::Consensus => match (without_primary(policies.zero, facts, actions), facts.own_primary) {
            (Ruling::DiscardMine, false) => Ruling::DiscardMine,
            (Ruling::DiscardPeers, true) => Ruling::DiscardPeers,
            _ => Ruling::Undecided,
        },
        AfterSb1p::DiscardSecondary => Ruling::of(!facts.own_primary),
        AfterSb1p::ViolentlyAs0p => without_primary(policies.zero, facts, actions),
        AfterSb1p::CallPriLostAfterSb => sparing_no_primary(policies.zero, facts, actions),
    }
}

/// S71.
fn with_two_primaries(policies: Policies, facts: &Facts, actions: &mut Vec<Action>) -> Ruling {
    match policies.two {
        AfterSb2p::Disconnect => Ruling::Undecided,
        AfterSb2p::ViolentlyAs0p => without_primary(policies.zero, facts, actions),
        AfterSb2p::CallPriLostAfterSb => sparing_no_primary(policies.zero, facts, actions),
    }
}

/// `call-pri-lost-after-sb`: a Primary that loses has to stop being one first.
fn sparing_no_primary(zero: AfterSb0p, facts: &Facts, actions: &mut Vec<Action>) -> Ruling {
    match without_primary(zero, facts, actions) {
        Ruling::DiscardMine if facts.own_primary => Ruling::TryDemotion,
        other => other,
    }
}

fn zero_changes(facts: &Facts) -> Ruling {
    match (facts.own_bits, facts.peer_bits) {
        (0, 0) => tie(facts),
        (_, 0) => Ruling::DiscardPeers,
        (0, _) => Ruling::DiscardMine,
        _ => Ruling::Undecided,
    }
}

fn least_changes(facts: &Facts) -> Ruling {
    match facts.own_bits.cmp(&facts.peer_bits) {
        std::cmp::Ordering::Less => Ruling::DiscardMine,
        std::cmp::Ordering::Greater => Ruling::DiscardPeers,
        std::cmp::Ordering::Equal => tie(facts),
    }
}

const fn tie(facts: &Facts) -> Ruling {
    Ruling::of(facts.resolve)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C5: A was Primary before and changed 7 blocks, B 3.
    const A: Facts = Facts {
        own_was_primary: true,
        peer_was_primary: false,
        own_bits: 7,
        peer_bits: 3,
        own_primary: false,
        peer_primary: false,
        resolve: false,
    };

    fn seen_by_peer(facts: Facts) -> Facts {
        Facts {
            own_was_primary: facts.peer_was_primary,
            peer_was_primary: facts.own_was_primary,
            own_bits: facts.peer_bits,
            peer_bits: facts.own_bits,
            own_primary: facts.peer_primary,
            peer_primary: facts.own_primary,
            resolve: !facts.resolve,
        }
    }

    fn ruling(policies: Policies, facts: Facts) -> i32 {
        match rule(policies, &facts, &mut Vec::new()) {
            Ruling::DiscardMine => -1,
            Ruling::DiscardPeers => 1,
            Ruling::Undecided => -100,
            Ruling::TryDemotion => -9,
        }
    }

    fn zero(policy: AfterSb0p, facts: Facts) -> i32 {
        ruling(Policies { zero: policy, ..Policies::default() }, facts)
    }

    #[test]
    fn zero_primaries_follow_the_table() {
        // S69
        let bits = |own_bits, peer_bits| Facts { own_bits, peer_bits, ..A };
        let was = |own_was_primary, peer_was_primary| Facts { own_was_primary, peer_was_primary, ..A };
        assert_eq!(zero(AfterSb0p::Disconnect, A), -100);
        assert_eq!(zero(AfterSb0p::DiscardYoungerPrimary, was(false, true)), -1);
        assert_eq!(zero(AfterSb0p::DiscardYoungerPrimary, was(true, false)), 1);
        assert_eq!(zero(AfterSb0p::DiscardOlderPrimary, was(false, true)), 1);
        assert_eq!(zero(AfterSb0p::DiscardOlderPrimary, was(true, false)), -1);
        assert_eq!(zero(AfterSb0p::DiscardZeroChanges, bits(0, 0)), 1);
        assert_eq!(zero(AfterSb0p::DiscardZeroChanges, Facts { resolve: true, ..bits(0, 0) }), -1);
        assert_eq!(zero(AfterSb0p::DiscardZeroChanges, bits(5, 0)), 1);
        assert_eq!(zero(AfterSb0p::DiscardZeroChanges, bits(0, 5)), -1);
        assert_eq!(zero(AfterSb0p::DiscardZeroChanges, bits(5, 5)), -100);
        assert_eq!(zero(AfterSb0p::DiscardLeastChanges, bits(3, 7)), -1);
        assert_eq!(zero(AfterSb0p::DiscardLeastChanges, bits(7, 3)), 1);
        assert_eq!(zero(AfterSb0p::DiscardLeastChanges, bits(7, 7)), 1);
        assert_eq!(zero(AfterSb0p::DiscardLeastChanges, Facts { resolve: true, ..bits(7, 7) }), -1);
        assert_eq!(zero(AfterSb0p::DiscardLocal, A), -1);
        assert_eq!(zero(AfterSb0p::DiscardRemote, A), 1);
    }

    #[test]
    fn an_undecided_age_falls_back_to_the_changes_and_says_so() {
        for policy in [AfterSb0p::DiscardYoungerPrimary, AfterSb0p::DiscardOlderPrimary] {
            for was in [false, true] {
                let same_age = Facts { own_was_primary: was, peer_was_primary: was, ..A };
                for (own_bits, peer_bits, resolve, expected) in [
                    (0, 0, true, -1),
                    (0, 0, false, 1),
                    (4, 0, true, 1),
                    (0, 4, false, -1),
                    (3, 4, false, -1),
                    (4, 3, true, 1),
                    (4, 4, true, -1),
                    (4, 4, false, 1),
                ] {
                    let facts = Facts { own_bits, peer_bits, resolve, ..same_age };
                    assert_eq!(zero(policy, facts), expected, "{facts:?}");
                }
                let mut actions = Vec::new();
                let policies = Policies { zero: policy, ..Policies::default() };
                let _ = rule(policies, &same_age, &mut actions);
                assert_eq!(
                    actions,
                    [
                        Action::warn("Discard younger/older primary did not find a decision"),
                        Action::warn("Using discard-least-changes instead"),
                    ]
                );
            }
        }
    }

    #[test]
    fn one_primary_follows_the_table() {
        // S70
        use AfterSb1p::*;
        let primary = Facts { own_primary: true, ..A };
        let secondary = Facts { peer_primary: true, ..A };
        let one = |one, zero, facts| ruling(Policies { zero, one, ..Policies::default() }, facts);
        let (mine, theirs) = (AfterSb0p::DiscardLocal, AfterSb0p::DiscardRemote);
        assert_eq!(one(Disconnect, mine, primary), -100);
        assert_eq!(one(Consensus, mine, secondary), -1);
        assert_eq!(one(Consensus, theirs, primary), 1);
        assert_eq!(one(Consensus, mine, primary), -100);
        assert_eq!(one(Consensus, theirs, secondary), -100);
        assert_eq!(one(DiscardSecondary, mine, primary), 1);
        assert_eq!(one(DiscardSecondary, theirs, secondary), -1);
        for (zero, expected) in [(mine, -1), (theirs, 1), (AfterSb0p::Disconnect, -100)] {
            assert_eq!(one(ViolentlyAs0p, zero, primary), expected);
            assert_eq!(one(ViolentlyAs0p, zero, secondary), expected);
            assert_eq!(one(CallPriLostAfterSb, zero, secondary), expected);
        }
        assert_eq!(one(CallPriLostAfterSb, mine, primary), -9);
        assert_eq!(one(CallPriLostAfterSb, theirs, primary), 1);
        assert_eq!(one(CallPriLostAfterSb, AfterSb0p::Disconnect, primary), -100);
    }

    #[test]
    fn two_primaries_follow_the_table() {
        // S71
        use AfterSb2p::*;
        let both = Facts { own_primary: true, peer_primary: true, ..A };
        let two = |two, zero| ruling(Policies { zero, two, ..Policies::default() }, both);
        let (mine, theirs) = (AfterSb0p::DiscardLocal, AfterSb0p::DiscardRemote);
        assert_eq!(two(Disconnect, mine), -100);
        assert_eq!((two(ViolentlyAs0p, mine), two(ViolentlyAs0p, theirs)), (-1, 1));
        assert_eq!((two(CallPriLostAfterSb, mine), two(CallPriLostAfterSb, theirs)), (-9, 1));
        assert_eq!(two(CallPriLostAfterSb, AfterSb0p::Disconnect), -100);
    }

    /// Every combination of policies.
    fn all_policies() -> Vec<Policies> {
        let mut all = Vec::new();
        for zero in AfterSb0p::ALL {
            for one in AfterSb1p::ALL {
                all.extend(AfterSb2p::ALL.iter().map(|two| Policies { zero: *zero, one: *one, two: *two }));
            }
        }
        all
    }

    #[test]
    fn policies_have_the_numbers_of_the_wire() {
        // S30
        for policies in all_policies() {
            assert_eq!(Policies::from_wire(policies.to_wire()), Some(policies));
            assert_eq!(policies.mirrored().mirrored(), policies);
        }
        let words: Vec<_> =
            (0..11).map(|n| Policies::from_wire([n, 0, 0]).map(|p| p.zero.as_str())).collect();
        assert_eq!(words[1], Some("discard-younger-primary"));
        assert_eq!(words[4], Some("discard-least-changes"));
        assert_eq!(words[7..], [None; 4]);
        assert_eq!(Policies::from_wire([0, 8, 10]).map(|p| p.one.as_str()), Some("discard-secondary"));
        assert_eq!(Policies::from_wire([0, 0, 8]), None);
        assert_eq!(Policies::from_wire([0, 1, 0]), None);
        let local = Policies { zero: AfterSb0p::DiscardLocal, ..Policies::default() };
        assert_eq!(local.mirrored().zero, AfterSb0p::DiscardRemote);
    }

    #[test]
    fn equal_configurations_never_make_both_nodes_give_way_or_neither() {
        // S73.1, over all policies and all facts
        for bits in 0..32u32 {
            let flag = |at: u32| bits >> at & 1 == 1;
            for (own_bits, peer_bits) in [(0, 0), (0, 2), (2, 0), (2, 2), (1, 2), (2, 1)] {
                let facts = Facts {
                    own_was_primary: flag(0),
                    peer_was_primary: flag(1),
                    own_bits,
                    peer_bits,
                    own_primary: flag(2),
                    peer_primary: flag(3),
                    resolve: flag(4),
                };
                for ours in all_policies() {
                    let (a, b) = (ruling(ours, facts), ruling(ours.mirrored(), seen_by_peer(facts)));
                    let mirrored = match a {
                        -1 | -9 => b == 1,
                        1 => b == -1 || b == -9,
                        _ => b == -100,
                    };
                    assert!(mirrored, "{facts:?} {ours:?}: {a} {b}");
                }
            }
        }
    }
}
