//! Implicit corrections of a wanted state, in the order of S9.

use std::fmt;

use super::Context;
use crate::config::values::Fencing;
use crate::node::state::{Conn, Disk, Role, State};

/// A correction that is worth a line in the log once the change is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Warning {
    /// A verify ended because a disk went away (Z3).
    OnlineVerifyAborted,
    /// A resync ended because a disk went away (Z3).
    ResyncAborted,
    /// The link broke before it was known what the disk is worth (Z4).
    ConnectionLostNegotiating,
    /// The connection state wants a better own disk (Z6).
    ImplicitlyUpgradedDisk,
    /// The connection state wants a better disk on the peer (Z6).
    ImplicitlyUpgradedPdsk,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnlineVerifyAborted => "Online-verify aborted.",
            Self::ResyncAborted => "Resync aborted.",
            Self::ConnectionLostNegotiating => "Connection lost while negotiating, no data!",
            Self::ImplicitlyUpgradedDisk => "Implicitly upgraded disk",
            Self::ImplicitlyUpgradedPdsk => "Implicitly upgraded pdsk",
        })
    }
}

/// Corrects the wanted state `ns` of a volume in state `os` (S9). Returns the last warning.
#[must_use]
pub fn sanitize(os: State, mut ns: State, ctx: &Context) -> (State, Option<Warning>) {
    let mut warning = None;
    forget_absent_peer(&mut ns);
    drop_needless_pause(&mut ns);
    stop_sync_without_disk(os, &mut ns, &mut warning);
    settle_negotiation(os, &mut ns, ctx, &mut warning);
    promote_connected_disks(os, &mut ns);
    clamp_disks(&mut ns, &mut warning);
    suspend(os, &mut ns, ctx);
    pause_or_resume(&mut ns);
    (ns, warning)
}

/// Z1. Inconsistent and Outdated survive the loss of the connection.
fn forget_absent_peer(ns: &mut State) {
    if ns.conn < Conn::Connected {
        ns.peer_isp = false;
        ns.peer = Role::Unknown;
        if ns.pdsk > Disk::DUnknown || ns.pdsk < Disk::Inconsistent {
            ns.pdsk = Disk::DUnknown;
        }
    }
}

/// Z2.
fn drop_needless_pause(ns: &mut State) {
    if ns.is_unconfigured() {
        ns.aftr_isp = false;
    }
}

/// Z3. When the source of a resync loses its disk, Z5 would call the target's old data UpToDate, and a
/// Primary without a disk would read them: it counts as Inconsistent from here on. A run that does not even
/// begin, for want of a disk, changes nothing.
fn stop_sync_without_disk(os: State, ns: &mut State, warning: &mut Option<Warning>) {
    if ns.conn <= Conn::Connected || (ns.disk > Disk::Failed && ns.pdsk > Disk::Failed) {
        return;
    }
    *warning = Some(if ns.conn.is_verify() { Warning::OnlineVerifyAborted } else { Warning::ResyncAborted });
    let under_way = os.conn > Conn::Connected;
    let awaits_source = matches!(ns.conn, Conn::StartingSyncT | Conn::WFBitMapT | Conn::WFSyncUUID);
    if under_way && awaits_source && ns.pdsk <= Disk::Failed {
        ns.disk = ns.disk.min(Disk::Inconsistent);
    }
    let source = ns.conn.is_sync_source() || matches!(ns.conn, Conn::StartingSyncS | Conn::WFBitMapS);
    if under_way && source && ns.disk <= Disk::Failed {
        ns.pdsk = ns.pdsk.min(Disk::Inconsistent);
    }
    ns.conn = Conn::Connected;
}

/// Z4.
fn settle_negotiation(os: State, ns: &mut State, ctx: &Context, warning: &mut Option<Warning>) {
    if ns.conn < Conn::Connected && ns.disk == Disk::Negotiating && os.disk >= Disk::Negotiating {
        if ctx.exposed_is_current {
            (ns.disk, ns.pdsk) = ctx.negotiated;
        } else {
            (ns.disk, ns.pdsk) = (Disk::Diskless, Disk::DUnknown);
            *warning = Some(Warning::ConnectionLostNegotiating);
        }
    }
}

/// Z5. Ours: an Outdated disk stays that beside a node without one, which can say nothing of the data; the kernel
/// would call it UpToDate (X4). A Primary that it meets has looked at its generation, and goes if it is another.
fn promote_connected_disks(os: State, ns: &mut State) {
    if ns.conn >= Conn::Connected && ns.conn < Conn::Ahead {
        let met = |role: Role, was: Disk| {
            role == Role::Primary && (os.conn < Conn::Connected || was != Disk::Outdated)
        };
        let own = is_alone_outdated(ns.disk, ns.pdsk) && !met(ns.peer, os.disk);
        let peer = is_alone_outdated(ns.pdsk, ns.disk) && !met(ns.role, os.pdsk);
        for (disk, stays) in [(&mut ns.disk, own), (&mut ns.pdsk, peer)] {
            if matches!(*disk, Disk::Consistent | Disk::Outdated) && !stays {
                *disk = Disk::UpToDate;
            }
        }
    }
}

/// Whether a disk is Outdated and the other node has none.
pub(super) fn is_alone_outdated(disk: Disk, other: Disk) -> bool {
    disk == Disk::Outdated && other <= Disk::Failed
}

/// Z6.
fn clamp_disks(ns: &mut State, warning: &mut Option<Warning>) {
    let (disk, pdsk) = bounds(ns.conn);
    if disk.clamp(&mut ns.disk) {
        *warning = Some(Warning::ImplicitlyUpgradedDisk);
    }
    if pdsk.clamp(&mut ns.pdsk) {
        *warning = Some(Warning::ImplicitlyUpgradedPdsk);
    }
}

/// Z7 and Z8: suspend on entering the situation, not for being in it.
fn suspend(os: State, ns: &mut State, ctx: &Context) {
    let unfenced = |s: State| s.role == Role::Primary && s.conn < Conn::Connected && s.pdsk > Disk::Outdated;
    if ctx.fencing_in_force(os) == Fencing::ResourceAndStonith && unfenced(*ns) && !unfenced(os) {
        ns.susp_fen = true;
    }
    let without_data =
        |s: State| s.role == Role::Primary && s.disk < Disk::UpToDate && s.pdsk < Disk::UpToDate;
    if ctx.suspend_without_data && without_data(*ns) && !without_data(os) {
        ns.susp_nod = true;
    }
}

/// Z9 and Z9'.
fn pause_or_resume(ns: &mut State) {
    ns.conn = match (ns.is_sync_paused(), ns.conn) {
        (true, Conn::SyncSource) => Conn::PausedSyncS,
        (true, Conn::SyncTarget) => Conn::PausedSyncT,
        (false, Conn::PausedSyncS) => Conn::SyncSource,
        (false, Conn::PausedSyncT) => Conn::SyncTarget,
        (_, other) => other,
    };
}

/// The disk states that go with a connection state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    min: Disk,
    max: Disk,
}

impl Bounds {
    /// Brings `disk` within; true if that made it better.
    fn clamp(self, disk: &mut Disk) -> bool {
        let upgraded = *disk < self.min;
        *disk = (*disk).clamp(self.min, self.max);
        upgraded
    }
}

/// The clamp table of Z6: bounds of the own disk and of the peer's.
fn bounds(conn: Conn) -> (Bounds, Bounds) {
    use Disk::*;
    let within = |min, max| Bounds { min, max };
    let exactly = |disk| Bounds { min: disk, max: disk };
    match conn {
        Conn::WFBitMapT | Conn::PausedSyncT | Conn::StartingSyncT | Conn::WFSyncUUID | Conn::Behind => {
            (within(Inconsistent, Outdated), exactly(UpToDate))
        }
        Conn::VerifyS | Conn::VerifyT => (exactly(UpToDate), exactly(UpToDate)),
        Conn::Connected => (within(Diskless, UpToDate), within(Diskless, UpToDate)),
        Conn::WFBitMapS | Conn::PausedSyncS | Conn::StartingSyncS | Conn::Ahead => {
            (exactly(UpToDate), within(Inconsistent, Consistent))
        }
        Conn::SyncTarget => (exactly(Inconsistent), exactly(UpToDate)),
        Conn::SyncSource => (exactly(UpToDate), exactly(Inconsistent)),
        Conn::StandAlone
        | Conn::Disconnecting
        | Conn::Unconnected
        | Conn::Timeout
        | Conn::BrokenPipe
        | Conn::NetworkFailure
        | Conn::ProtocolError
        | Conn::TearDown
        | Conn::WFConnection
        | Conn::WFReportParams => (within(Diskless, UpToDate), within(Inconsistent, DUnknown)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node::rules::any_context;
    use crate::node::state::any_state;

    const PAIR: State = State {
        role: Role::Primary,
        peer: Role::Secondary,
        conn: Conn::Connected,
        disk: Disk::UpToDate,
        pdsk: Disk::UpToDate,
        ..State::NEW
    };

    fn clean(os: State, ns: State) -> State {
        sanitize(os, ns, &Context::default()).0
    }

    #[test]
    fn losing_the_peer_keeps_only_what_is_known_to_last() {
        // Z1, X3
        for pdsk in Disk::ALL {
            let lost = State { conn: Conn::BrokenPipe, pdsk, peer_isp: true, ..PAIR };
            let ns = clean(PAIR, lost);
            let kept = matches!(pdsk, Disk::Inconsistent | Disk::Outdated);
            assert_eq!(ns.pdsk, if kept { pdsk } else { Disk::DUnknown }, "{pdsk}");
            assert_eq!((ns.peer, ns.peer_isp), (Role::Unknown, false));
        }
    }

    #[test]
    fn an_unconfigured_volume_waits_for_nobody() {
        // Z2
        let ns = clean(State::NEW, State { aftr_isp: true, ..State::NEW });
        assert!(!ns.aftr_isp);
        let attached = State { aftr_isp: true, disk: Disk::UpToDate, ..State::NEW };
        assert!(clean(State::NEW, attached).aftr_isp);
    }

    #[test]
    fn sync_and_verify_end_when_a_disk_goes() {
        // Z3
        for (conn, warning) in [
            (Conn::SyncSource, Warning::ResyncAborted),
            (Conn::WFBitMapT, Warning::ResyncAborted),
            (Conn::VerifyS, Warning::OnlineVerifyAborted),
            (Conn::VerifyT, Warning::OnlineVerifyAborted),
        ] {
            let os = State { conn, ..PAIR };
            for ns in [State { disk: Disk::Failed, ..os }, State { pdsk: Disk::Diskless, ..os }] {
                let (ns, got) = sanitize(os, ns, &Context::default());
                assert_eq!((ns.conn, got), (Conn::Connected, Some(warning)));
            }
        }
    }

    #[test]
    fn a_target_whose_source_lost_its_disk_has_old_data_and_is_not_taken_for_current() {
        for conn in [Conn::StartingSyncT, Conn::WFBitMapT, Conn::WFSyncUUID] {
            let os = State { conn, disk: Disk::Outdated, ..PAIR };
            let ns = clean(os, State { pdsk: Disk::Failed, ..os });
            assert_eq!((ns.conn, ns.disk), (Conn::Connected, Disk::Inconsistent));
        }
        for conn in [Conn::StartingSyncS, Conn::WFBitMapS, Conn::SyncSource, Conn::PausedSyncS] {
            let os = State { conn, pdsk: Disk::Consistent, ..PAIR };
            let ns = clean(os, State { disk: Disk::Failed, ..os });
            assert_eq!((ns.conn, ns.pdsk), (Conn::Connected, Disk::Inconsistent));
        }
    }

    #[test]
    fn a_run_without_a_source_does_not_spoil_the_only_disk() {
        // Z3
        let os = State { pdsk: Disk::Diskless, ..PAIR };
        assert_eq!(clean(os, State { conn: Conn::StartingSyncT, ..os }), os);
        let os = State { disk: Disk::Diskless, ..PAIR };
        assert_eq!(clean(os, State { conn: Conn::StartingSyncS, ..os }), os);
    }

    #[test]
    fn a_negotiating_disk_settles_when_the_link_breaks() {
        // Z4
        let os = State { disk: Disk::Negotiating, ..PAIR };
        let lost = State { conn: Conn::NetworkFailure, ..os };
        let ctx = Context {
            negotiated: (Disk::Consistent, Disk::Outdated),
            exposed_is_current: true,
            ..Context::default()
        };
        let (ns, warning) = sanitize(os, lost, &ctx);
        assert_eq!((ns.disk, ns.pdsk, warning), (Disk::Consistent, Disk::Outdated, None));
        let (ns, warning) = sanitize(os, lost, &Context { exposed_is_current: false, ..ctx });
        assert_eq!((ns.disk, ns.pdsk), (Disk::Diskless, Disk::DUnknown));
        assert_eq!(warning, Some(Warning::ConnectionLostNegotiating));
    }

    #[test]
    fn connecting_makes_outdated_data_current() {
        // Z5, X4
        let os = State { conn: Conn::WFReportParams, disk: Disk::Outdated, pdsk: Disk::DUnknown, ..PAIR };
        let os = State { role: Role::Secondary, peer: Role::Primary, ..os };
        let ns = clean(os, State { conn: Conn::Connected, pdsk: Disk::Diskless, ..os });
        assert_eq!((ns.disk, ns.pdsk), (Disk::UpToDate, Disk::Diskless));
        let consistent = State { disk: Disk::Consistent, peer: Role::Secondary, ..ns };
        assert_eq!(clean(os, consistent).disk, Disk::UpToDate);
        let ahead = clean(PAIR, State { conn: Conn::Ahead, ..PAIR });
        assert_eq!((ahead.disk, ahead.pdsk), (Disk::UpToDate, Disk::Consistent));
    }

    #[test]
    fn a_node_without_a_disk_makes_no_outdated_one_current() {
        let os = State { conn: Conn::WFReportParams, disk: Disk::Outdated, pdsk: Disk::DUnknown, ..PAIR };
        let os = State { role: Role::Secondary, peer: Role::Secondary, ..os };
        let met = clean(os, State { conn: Conn::Connected, pdsk: Disk::Diskless, ..os });
        assert_eq!((met.disk, met.pdsk), (Disk::Outdated, Disk::Diskless));
        let own = State { disk: Disk::Diskless, pdsk: Disk::Outdated, ..met };
        assert_eq!(clean(own, own).pdsk, Disk::Outdated, "nor the peer's");
        let primary = State { role: Role::Primary, ..own };
        assert_eq!(clean(own, primary).pdsk, Disk::Outdated, "nor does it by becoming Primary");
        let meets = State { conn: Conn::WFReportParams, pdsk: Disk::DUnknown, ..primary };
        assert_eq!(clean(meets, primary).pdsk, Disk::UpToDate, "it has seen its generation");
        let returned = State { pdsk: Disk::Consistent, ..met };
        assert_eq!(clean(met, returned).disk, Disk::UpToDate);
    }

    #[test]
    fn disks_are_clamped_as_the_table_says() {
        // Z6: conn number, disk min..max, pdsk min..max
        let targets = [14, 21, 12, 15, 23].map(|conn| (conn, (4, 5), (8, 8)));
        let sources = [13, 20, 11, 22].map(|conn| (conn, (8, 8), (4, 7)));
        let below = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|conn| (conn, (0, 8), (4, 6)));
        let rest = [
            (18, (8, 8), (8, 8)),
            (19, (8, 8), (8, 8)),
            (10, (0, 8), (0, 8)),
            (17, (4, 4), (8, 8)),
            (16, (8, 8), (4, 4)),
        ];
        let table: Vec<_> = targets.into_iter().chain(sources).chain(below).chain(rest).collect();
        assert_eq!(table.len(), 24);
        for (conn, disk, pdsk) in table {
            let (own, peer) = bounds(Conn::from_number(conn).unwrap());
            assert_eq!((own.min.number(), own.max.number()), disk, "disk in {conn}");
            assert_eq!((peer.min.number(), peer.max.number()), pdsk, "pdsk in {conn}");
        }
    }

    #[test]
    fn clamping_upwards_warns_and_the_last_warning_counts() {
        // X9
        let fresh = State { disk: Disk::Inconsistent, pdsk: Disk::Inconsistent, ..PAIR };
        let (ns, warning) = sanitize(fresh, State { conn: Conn::VerifyS, ..fresh }, &Context::default());
        assert_eq!((ns.disk, ns.pdsk), (Disk::UpToDate, Disk::UpToDate));
        assert_eq!(warning, Some(Warning::ImplicitlyUpgradedPdsk));
        let (_, warning) = sanitize(fresh, State { conn: Conn::StartingSyncS, ..fresh }, &Context::default());
        assert_eq!(warning, Some(Warning::ImplicitlyUpgradedDisk));
        let (ns, warning) = sanitize(PAIR, State { conn: Conn::WFBitMapT, ..PAIR }, &Context::default());
        assert_eq!((ns.disk, warning), (Disk::Outdated, None));
    }

    #[test]
    fn a_stonith_primary_freezes_when_it_loses_its_peer_and_only_then() {
        // Z7
        let ctx = Context { fencing: Fencing::ResourceAndStonith, ..Context::default() };
        let lost = State { conn: Conn::NetworkFailure, ..PAIR };
        let (ns, _) = sanitize(PAIR, lost, &ctx);
        assert!(ns.susp_fen);
        let thawed = State { susp_fen: false, ..ns };
        assert!(!sanitize(thawed, State { conn: Conn::Unconnected, ..thawed }, &ctx).0.susp_fen);
        let outdated = State { pdsk: Disk::Outdated, ..lost };
        assert!(!sanitize(PAIR, outdated, &ctx).0.susp_fen);
        let secondary = State { role: Role::Secondary, ..lost };
        assert!(!sanitize(PAIR, secondary, &ctx).0.susp_fen);
        assert!(!clean(PAIR, lost).susp_fen);
        // the policy counts only with a current disk of at least Inconsistent
        let diskless = State { disk: Disk::Diskless, ..PAIR };
        assert!(!sanitize(diskless, State { conn: Conn::NetworkFailure, ..diskless }, &ctx).0.susp_fen);
    }

    #[test]
    fn a_primary_without_data_freezes_if_told_so() {
        // Z8
        let ctx = Context { suspend_without_data: true, ..Context::default() };
        let diskless = State { disk: Disk::Diskless, ..PAIR };
        let lost = State { conn: Conn::NetworkFailure, ..diskless };
        assert!(sanitize(diskless, lost, &ctx).0.susp_nod);
        assert!(!clean(diskless, lost).susp_nod);
        let (ns, _) = sanitize(diskless, lost, &ctx);
        let thawed = State { susp_nod: false, ..ns };
        assert!(!sanitize(thawed, State { conn: Conn::Unconnected, ..thawed }, &ctx).0.susp_nod);
    }

    #[test]
    fn pauses_hold_and_release_the_sync() {
        // Z9, Z9'
        let source = State { conn: Conn::SyncSource, pdsk: Disk::Inconsistent, ..PAIR };
        let target = State { conn: Conn::SyncTarget, disk: Disk::Inconsistent, ..PAIR };
        for paused in [
            |s: State| State { aftr_isp: true, ..s },
            |s: State| State { peer_isp: true, ..s },
            |s: State| State { user_isp: true, ..s },
        ] {
            assert_eq!(clean(source, paused(source)).conn, Conn::PausedSyncS);
            assert_eq!(clean(target, paused(target)).conn, Conn::PausedSyncT);
        }
        let held = State { conn: Conn::PausedSyncT, ..target };
        assert_eq!(clean(held, held).conn, Conn::SyncTarget);
        let held = State { conn: Conn::PausedSyncS, ..source };
        assert_eq!(clean(held, held).conn, Conn::SyncSource);
    }

    #[test]
    fn scenario_c3_shows_the_states_of_a_returning_secondary() {
        let os = State {
            role: Role::Secondary,
            conn: Conn::WFReportParams,
            pdsk: Disk::DUnknown,
            peer: Role::Unknown,
            ..PAIR
        };
        let wanted = State { conn: Conn::WFBitMapT, pdsk: Disk::UpToDate, peer: Role::Primary, ..os };
        assert_eq!(
            clean(os, wanted).change_line(os).as_deref(),
            Some(
                "peer( Unknown -> Primary ) conn( WFReportParams -> WFBitMapT ) disk( UpToDate -> Outdated ) \
                 pdsk( DUnknown -> UpToDate )"
            )
        );
    }

    proptest! {
        #[test]
        fn a_corrected_state_needs_no_more_correction(
            os in any_state(), ns in any_state(), ctx in any_context(),
        ) {
            // What Z4 takes over is the outcome of an attach, which never is Negotiating or less
            // than a disk.
            let ctx = Context { negotiated: (ctx.negotiated.0.max(Disk::Inconsistent), ctx.negotiated.1), ..ctx };
            let (once, _) = sanitize(os, ns, &ctx);
            let (twice, warning) = sanitize(os, once, &ctx);
            // A resumed sync was clamped as a paused one: it is clamped once more (Z6 before Z9').
            let resumed = once.conn != ns.conn && matches!(once.conn, Conn::SyncSource | Conn::SyncTarget);
            // A disk given up by Z4 leaves a pause behind that Z2 had passed already.
            let given_up = ns.disk == Disk::Negotiating && once.disk == Disk::Diskless;
            let settled = if given_up { State { aftr_isp: twice.aftr_isp, ..once } } else { once };
            prop_assert!(resumed || twice == settled, "{once:?} {twice:?}");
            prop_assert_eq!(sanitize(os, twice, &ctx).0, twice);
            prop_assert_eq!(warning, None);
            let (own, peer) = bounds(twice.conn);
            prop_assert!((own.min..=own.max).contains(&twice.disk));
            prop_assert!((peer.min..=peer.max).contains(&twice.pdsk));
        }
    }
}
