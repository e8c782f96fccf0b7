//! The rules of a state change (states.md section 2): what is corrected, what is refused, what needs
//! the peer's agreement. Pure functions of the old state, the wish and a [`Context`].
//!
//! - [`sanitize`](sanitize::sanitize): implicit corrections (S9)
//! - [`checks`]: hard rules (S10), validity (S11), soft rules (S12)
//! - [`StateResult`]: the numbers and messages of all outcomes (S11, S12, S15)
//! - here: the two entry points that put them together (S7 E1 and E2, S13, S14, S16, S17)

pub mod checks;
pub mod result;
pub mod sanitize;

use super::state::{Conn, Disk, Role, State, StateChange};
pub use crate::config::values::Fencing;
pub use checks::{hard_rules, hard_rules_conn, soft_rules, validity};
pub use result::StateResult;
pub use sanitize::{Warning, sanitize};

/// What the rules need to know besides the state vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The volume's fencing policy.
    pub fencing: Fencing,
    /// `on-no-data-accessible suspend-io` (S89).
    pub suspend_without_data: bool,
    /// A connection is configured.
    pub net_configured: bool,
    /// `allow-two-primaries`.
    pub allow_two_primaries: bool,
    /// The current state of any volume says that the peer is Primary.
    pub any_peer_primary: bool,
    /// How many have the device open.
    pub open_count: u32,
    /// `verify-alg` is set.
    pub verify_alg_set: bool,
    /// Agreed protocol version.
    pub apv: u32,
    /// A handshake is running: own state was sent, and some volume is still in WFReportParams.
    pub state_sent: bool,
    /// What the disk and the peer's disk are worth once negotiated (`new_state_tmp`).
    pub negotiated: (Disk, Disk),
    /// The data last shown to applications is the data on the own disk: `ed_uuid` equals the
    /// current UUID in the metadata, all 64 bits.
    pub exposed_is_current: bool,
    /// The peer's disk refused writes that the own one has, and is still called UpToDate.
    pub peer_refused: bool,
}

impl Default for Context {
    /// Default options, protocol 101, nothing open, no connection configured.
    fn default() -> Self {
        Self {
            fencing: Fencing::DontCare,
            suspend_without_data: false,
            net_configured: false,
            allow_two_primaries: false,
            any_peer_primary: false,
            open_count: 0,
            verify_alg_set: false,
            apv: 101,
            state_sent: false,
            negotiated: (Disk::Diskless, Disk::DUnknown),
            exposed_is_current: false,
            peer_refused: false,
        }
    }
}

impl Context {
    /// The fencing policy that counts: dont-care unless the current disk is at least Inconsistent (S9).
    #[must_use]
    pub fn fencing_in_force(&self, current: State) -> Fencing {
        if current.disk >= Disk::Inconsistent { self.fencing } else { Fencing::DontCare }
    }
}

/// How a change is meant (S7). The options that concern waiting are the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Skip validity and soft rules.
    pub hard: bool,
    /// Succeed without outdating where the disk is below Outdated (S13).
    pub ignore_outdate_failure: bool,
}

impl Manner {
    /// All rules apply.
    pub const SOFT: Self = Self { hard: false, ignore_outdate_failure: false };
    /// Only the hard rules apply.
    pub const HARD: Self = Self { hard: true, ignore_outdate_failure: false };
}

/// The verdict on an immediate change (S7 E1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immediate {
    /// Nothing would change: result 2.
    Nothing,
    /// Take this state; print the warning.
    Accepted {
        /// The new vector.
        ns: State,
        /// The last correction worth a warning.
        warning: Option<Warning>,
    },
    /// Refused.
    Refused(Refusal),
}

/// A refused change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub result: StateResult,
    /// The vector that was refused, for the log's `wanted` line.
    pub wanted: State,
    /// Whether a caller that wants refusals logged (VERBOSE) gets this one logged: refusals by hard
    /// rules and -18 are never logged (S7, S12).
    pub loggable: bool,
}

impl Refusal {
    /// The log lines of a refusal (S15).
    #[must_use]
    pub fn log_lines(&self, current: State) -> [String; 3] {
        [
            format!("State change failed: {}", self.result.message()),
            current.dump_line("state"),
            self.wanted.dump_line("wanted"),
        ]
    }
}

/// Judges a change that is to happen now (S7 E1, with the leniency of S14).
#[must_use]
pub fn immediate(os: State, change: StateChange, ctx: &Context, manner: Manner) -> Immediate {
    let (ns, warning) = corrected(os, change, ctx, manner);
    if ns == os {
        return Immediate::Nothing;
    }
    let hard = hard_rules(os, ns);
    if !hard.is_success() {
        return Immediate::Refused(Refusal { result: hard, wanted: ns, loggable: false });
    }
    let soft = if manner.hard { StateResult::Success } else { lenient_rules(os, ns, ctx) };
    if soft.is_success() {
        Immediate::Accepted { ns, warning }
    } else {
        Immediate::Refused(refusal(soft, ns))
    }
}

/// The first step of a request (S7 E2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Not the peer's business: go on with [`immediate`].
    Local,
    /// Ask the peer first (S17), then [`immediate`] on the state of that moment.
    AskPeer,
    /// Refused without asking.
    Refused(Refusal),
}

/// Judges a requested change before anything is sent (S7 E2): a cluster-wide one must be valid
/// without leniency.
#[must_use]
pub fn request(os: State, change: StateChange, ctx: &Context) -> Request {
    let (ns, _) = corrected(os, change, ctx, Manner::SOFT);
    let hard = hard_rules(os, ns);
    if !hard.is_success() {
        return Request::Refused(Refusal { result: hard, wanted: ns, loggable: false });
    }
    if !is_cluster_wide(os, ns) {
        return Request::Local;
    }
    let strict = strict_rules(os, ns, ctx);
    if strict.is_success() { Request::AskPeer } else { Request::Refused(refusal(strict, ns)) }
}

/// Judges a request anew while the peer's answer is awaited, at each change of the state (S17):
/// `None` to wait on, [`StateResult::CwNoNeed`] to go on without the answer, or the refusal.
#[must_use]
pub fn recheck_while_waiting(os: State, change: StateChange, ctx: &Context) -> Option<StateResult> {
    let (ns, _) = corrected(os, change, ctx, Manner::SOFT);
    if !is_cluster_wide(os, ns) {
        return Some(StateResult::CwNoNeed);
    }
    let hard = hard_rules(os, ns);
    if !hard.is_success() {
        return Some(hard);
    }
    let strict = strict_rules(os, ns, ctx);
    (!strict.is_success()).then_some(strict)
}

/// Whether a volume's change, sanitized, needs the peer's agreement (S16).
#[must_use]
pub fn is_cluster_wide(os: State, ns: State) -> bool {
    let becomes = |conn| ns.conn == conn && os.conn != conn;
    let stays_connected = os.conn >= Conn::Connected
        && ns.conn >= Conn::Connected
        && ((ns.role == Role::Primary && os.role != Role::Primary)
            || becomes(Conn::StartingSyncT)
            || becomes(Conn::StartingSyncS)
            || (ns.disk == Disk::Failed && os.disk != Disk::Failed));
    stays_connected
        || (os.conn >= Conn::Connected && ns.conn == Conn::Disconnecting)
        || (os.conn == Conn::Connected && matches!(ns.conn, Conn::VerifyS | Conn::WFReportParams))
}

/// The wish in place and corrected (S9, S13).
fn corrected(os: State, change: StateChange, ctx: &Context, manner: Manner) -> (State, Option<Warning>) {
    let (mut ns, warning) = sanitize(os, change.apply(os), ctx);
    if manner.ignore_outdate_failure && ns.disk == Disk::Outdated && os.disk < Disk::Outdated {
        ns.disk = os.disk;
    }
    (ns, warning)
}

/// Validity, then soft rules.
fn strict_rules(os: State, ns: State, ctx: &Context) -> StateResult {
    let valid = validity(os, ns, ctx);
    if valid.is_success() { soft_rules(os, ns, ctx) } else { valid }
}

/// The same, but what is already invalid in the same way may stay so (S14).
fn lenient_rules(os: State, ns: State, ctx: &Context) -> StateResult {
    let valid = validity(os, ns, ctx);
    if valid.is_success() || valid == validity(os, os, ctx) { soft_rules(os, ns, ctx) } else { valid }
}

fn refusal(result: StateResult, wanted: State) -> Refusal {
    Refusal { result, wanted, loggable: result != StateResult::InTransientState }
}

#[cfg(test)]
pub(in crate::node) use tests::any_context;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node::state::any_state;

    const PAIR: State = State {
        role: Role::Primary,
        peer: Role::Secondary,
        conn: Conn::Connected,
        disk: Disk::UpToDate,
        pdsk: Disk::UpToDate,
        ..State::NEW
    };
    const SECONDARY: State = State { role: Role::Secondary, ..PAIR };

    fn connected() -> Context {
        Context { net_configured: true, ..Context::default() }
    }

    fn refused(verdict: Immediate) -> Option<(StateResult, bool)> {
        match verdict {
            Immediate::Refused(refusal) => Some((refusal.result, refusal.loggable)),
            Immediate::Accepted { .. } | Immediate::Nothing => None,
        }
    }

    #[test]
    fn a_change_to_the_same_is_nothing_to_do() {
        let verdict = immediate(PAIR, StateChange::role(Role::Primary), &connected(), Manner::SOFT);
        assert_eq!(verdict, Immediate::Nothing);
        // S44: outdating while connected is undone by Z5, so nothing changes
        let outdate = immediate(SECONDARY, StateChange::disk(Disk::Outdated), &connected(), Manner::SOFT);
        assert_eq!(outdate, Immediate::Nothing);
    }

    #[test]
    fn hard_rules_hold_even_for_hard_changes_and_say_nothing() {
        let verdict = immediate(State::NEW, StateChange::conn(Conn::Connected), &connected(), Manner::HARD);
        assert_eq!(refused(verdict), Some((StateResult::NeedConnection, false)));
    }

    #[test]
    fn hard_changes_skip_validity() {
        let lose = StateChange::conn(Conn::NetworkFailure);
        let ctx = Context { fencing: Fencing::ResourceOnly, ..connected() };
        assert!(matches!(immediate(PAIR, lose, &ctx, Manner::HARD), Immediate::Accepted { .. }));
        assert_eq!(refused(immediate(PAIR, lose, &ctx, Manner::SOFT)), Some((StateResult::PrimaryNop, true)));
    }

    #[test]
    fn a_fencing_primary_without_its_peer_may_go_on_reconnecting() {
        // S14, S26: V5 fails before and after, so it is no reason to refuse
        let ctx = Context { fencing: Fencing::ResourceOnly, ..connected() };
        let mut state =
            State { conn: Conn::NetworkFailure, peer: Role::Unknown, pdsk: Disk::DUnknown, ..PAIR };
        for next in [Conn::Unconnected, Conn::WFConnection] {
            let Immediate::Accepted { ns, .. } =
                immediate(state, StateChange::conn(next), &ctx, Manner::SOFT)
            else {
                panic!("{next} refused");
            };
            state = ns;
        }
        assert_eq!((state.conn, state.pdsk), (Conn::WFConnection, Disk::DUnknown));
    }

    #[test]
    fn promotion_is_refused_or_granted_as_the_mixture_table_says() {
        // C13: own disk while disconnected -> primary
        let alone = |disk, pdsk| State {
            disk,
            pdsk,
            conn: Conn::StandAlone,
            peer: Role::Unknown,
            role: Role::Secondary,
            ..State::NEW
        };
        let promote = |state, fencing| {
            let ctx = Context { fencing, ..Context::default() };
            match immediate(state, StateChange::role(Role::Primary), &ctx, Manner::SOFT) {
                Immediate::Accepted { .. } => 1,
                Immediate::Nothing => 2,
                Immediate::Refused(refusal) => refusal.result.code(),
            }
        };
        let (care_not, fence) = (Fencing::DontCare, Fencing::ResourceOnly);
        assert_eq!(promote(alone(Disk::UpToDate, Disk::DUnknown), care_not), 1);
        assert_eq!(promote(alone(Disk::UpToDate, Disk::DUnknown), fence), -7);
        assert_eq!(promote(alone(Disk::UpToDate, Disk::Outdated), fence), 1);
        assert_eq!(promote(alone(Disk::UpToDate, Disk::Inconsistent), fence), 1);
        for disk in [Disk::Consistent, Disk::Outdated, Disk::Inconsistent, Disk::Diskless] {
            assert_eq!(promote(alone(disk, Disk::DUnknown), care_not), -2, "{disk}");
        }
    }

    #[test]
    fn outdating_follows_s44() {
        let outdate = |state| match immediate(
            state,
            StateChange::disk(Disk::Outdated),
            &Context::default(),
            Manner::SOFT,
        ) {
            Immediate::Accepted { .. } => 1,
            Immediate::Nothing => 2,
            Immediate::Refused(refusal) => refusal.result.code(),
        };
        let alone = |role, disk| State { role, disk, ..State::NEW };
        assert_eq!(outdate(alone(Role::Secondary, Disk::UpToDate)), 1);
        assert_eq!(outdate(alone(Role::Secondary, Disk::Consistent)), 1);
        assert_eq!(outdate(alone(Role::Secondary, Disk::Inconsistent)), -16);
        assert_eq!(outdate(alone(Role::Secondary, Disk::Diskless)), -16);
        assert_eq!(outdate(alone(Role::Primary, Disk::UpToDate)), -2);
    }

    #[test]
    fn a_teardown_that_cannot_outdate_still_tears_down() {
        // S13, S41
        let request = StateChange { disk: Some(Disk::Outdated), ..StateChange::conn(Conn::TearDown) };
        let inconsistent = State { disk: Disk::Inconsistent, ..SECONDARY };
        let lenient = Manner { ignore_outdate_failure: true, ..Manner::SOFT };
        assert_eq!(
            refused(immediate(inconsistent, request, &connected(), Manner::SOFT)),
            Some((StateResult::LowerThanOutdated, true))
        );
        let Immediate::Accepted { ns, .. } = immediate(inconsistent, request, &connected(), lenient) else {
            panic!("refused");
        };
        assert_eq!((ns.conn, ns.disk), (Conn::TearDown, Disk::Inconsistent));
    }

    #[test]
    fn what_concerns_both_nodes_needs_both() {
        // S16, every row
        let to = |change: StateChange| is_cluster_wide(SECONDARY, change.apply(SECONDARY));
        assert!(to(StateChange::role(Role::Primary)));
        assert!(to(StateChange::conn(Conn::StartingSyncT)));
        assert!(to(StateChange::conn(Conn::StartingSyncS)));
        assert!(to(StateChange::disk(Disk::Failed)));
        assert!(to(StateChange::conn(Conn::Disconnecting)));
        assert!(to(StateChange::conn(Conn::VerifyS)));
        assert!(to(StateChange::conn(Conn::WFReportParams)));
        assert!(!to(StateChange::conn(Conn::VerifyT)));
        assert!(!to(StateChange { user_isp: Some(true), ..StateChange::NOTHING }));
        assert!(!to(StateChange { susp: Some(true), ..StateChange::NOTHING }));
        assert!(!to(StateChange::disk(Disk::Outdated)));
        assert!(!is_cluster_wide(PAIR, State { role: Role::Secondary, ..PAIR }));
        let away = State { conn: Conn::WFConnection, ..SECONDARY };
        assert!(!is_cluster_wide(away, State { role: Role::Primary, ..away }));
        assert!(!is_cluster_wide(away, State { conn: Conn::Disconnecting, ..away }));
        let verifying = State { conn: Conn::VerifyS, ..SECONDARY };
        assert!(!is_cluster_wide(verifying, State { conn: Conn::WFReportParams, ..verifying }));
    }

    #[test]
    fn a_promotion_goes_on_alone_when_the_link_breaks_under_the_question() {
        // S17, C7
        let promote = StateChange::role(Role::Primary);
        assert_eq!(request(SECONDARY, promote, &connected()), Request::AskPeer);
        assert_eq!(recheck_while_waiting(SECONDARY, promote, &connected()), None);
        let lost = State { conn: Conn::WFConnection, pdsk: Disk::DUnknown, peer: Role::Unknown, ..SECONDARY };
        assert_eq!(recheck_while_waiting(lost, promote, &connected()), Some(StateResult::CwNoNeed));
        let busy = Context { state_sent: true, ..connected() };
        assert_eq!(recheck_while_waiting(SECONDARY, promote, &busy), Some(StateResult::InTransientState));
        assert_eq!(request(lost, promote, &connected()), Request::Local);
    }

    #[test]
    fn the_question_is_not_asked_when_the_answer_is_known() {
        let both = State { peer: Role::Primary, ..SECONDARY };
        let ctx = Context { any_peer_primary: true, ..connected() };
        let Request::Refused(refusal) = request(both, StateChange::role(Role::Primary), &ctx) else {
            panic!("asked");
        };
        assert_eq!(refusal.result, StateResult::TwoPrimaries);
        assert_eq!(
            refusal.log_lines(both)[0],
            "State change failed: Multiple primaries not allowed by config"
        );
        assert!(refusal.log_lines(both)[1].starts_with(" state = { cs:Connected ro:Secondary/Primary"));
        assert!(refusal.log_lines(both)[2].starts_with(" wanted = { cs:Connected ro:Primary/Primary"));
    }

    /// Every context.
    pub(in crate::node) fn any_context() -> impl Strategy<Value = Context> {
        (0..512u32, 0..3u32, 85..102u32, 0..9u32, 0..9u32).prop_map(|(bits, fencing, apv, disk, pdsk)| {
            let flag = |at: u32| bits >> at & 1 == 1;
            Context {
                fencing: [Fencing::DontCare, Fencing::ResourceOnly, Fencing::ResourceAndStonith]
                    [fencing as usize],
                suspend_without_data: flag(0),
                net_configured: flag(1),
                allow_two_primaries: flag(2),
                any_peer_primary: flag(3),
                open_count: bits >> 4 & 1,
                verify_alg_set: flag(5),
                apv,
                state_sent: flag(6),
                negotiated: (Disk::ALL[disk as usize], Disk::ALL[pdsk as usize]),
                exposed_is_current: flag(7),
                peer_refused: flag(8),
            }
        })
    }

    proptest! {
        #[test]
        fn no_state_and_no_wish_panics_and_accepted_states_obey_the_rules(
            os in any_state(), to in any_state(), ctx in any_context(), hard: bool, outdate: bool,
        ) {
            let manner = Manner { hard, ignore_outdate_failure: outdate };
            match immediate(os, StateChange::to(to), &ctx, manner) {
                Immediate::Nothing => {}
                Immediate::Accepted { ns, .. } => {
                    prop_assert!(ns != os);
                    prop_assert!(hard_rules(os, ns).is_success());
                    if !hard {
                        let valid = validity(os, ns, &ctx);
                        prop_assert!(valid.is_success() || valid == validity(os, os, &ctx));
                        prop_assert!(soft_rules(os, ns, &ctx).is_success());
                    }
                }
                Immediate::Refused(refusal) => {
                    prop_assert!(!refusal.result.is_success());
                    prop_assert!(!(refusal.loggable && refusal.result == StateResult::InTransientState));
                }
            }
            let _ = (request(os, StateChange::to(to), &ctx), recheck_while_waiting(os, StateChange::to(to), &ctx));
        }
    }
}
