//! What is refused: hard rules (S10), validity (S11) and soft rules (S12).

use super::sanitize::is_alone_outdated;
use super::{Context, StateResult};
use crate::config::values::Fencing;
use crate::node::state::{Conn, Disk, Role, State};

/// The rules that hold for every change of a volume (S10): H1 to H7, and no failing without a disk.
#[must_use]
pub fn hard_rules(os: State, ns: State) -> StateResult {
    if ns.disk == Disk::Failed && os.disk == Disk::Diskless {
        return StateResult::IsDiskless;
    }
    hard_rules_conn(os.conn, ns.conn)
}

/// H1 to H7 alone, for the connection's own state (S26). The first match decides.
#[must_use]
pub fn hard_rules_conn(old: Conn, new: Conn) -> StateResult {
    use Conn::*;
    if old == new {
        return StateResult::NothingToDo; // H1
    }
    if old == StandAlone {
        return match new {
            Disconnecting => StateResult::AlreadyStandalone, // H2
            Unconnected => StateResult::Success,
            _ => StateResult::NeedConnection, // H3
        };
    }
    if old < WFReportParams && new >= Connected {
        return StateResult::NeedConnection; // H4
    }
    if old.is_network_error() && !matches!(new, Unconnected | Disconnecting) {
        return StateResult::InTransientState; // H5
    }
    if old == Disconnecting && new != StandAlone {
        return StateResult::InTransientState; // H6
    }
    StateResult::Success // H7
}

/// Whether `ns`, sanitized, may be (S11). `os` is the current state: the fencing policy counts only
/// with a current disk of at least Inconsistent. The first match decides.
#[must_use]
pub fn validity(os: State, ns: State, ctx: &Context) -> StateResult {
    use StateResult as R;
    let primary = ns.role == Role::Primary;
    let one_primary_only = ctx.net_configured && !ctx.allow_two_primaries;
    let fencing = ctx.fencing_in_force(os);
    let verifying = ns.conn.is_verify();
    let rows = [
        /* V1  */ (one_primary_only && primary && ns.peer == Role::Primary, R::TwoPrimaries),
        /* V2  */ (one_primary_only && primary && ctx.any_peer_primary, R::OVolPeerPri),
        /* V3  */ (ns.role == Role::Secondary && ctx.open_count > 0, R::DeviceInUse),
        /* V4  */
        (primary && ns.conn < Conn::Connected && ns.disk < Disk::UpToDate, R::NoUpToDateDisk),
        /* V5  */
        (
            fencing != Fencing::DontCare && primary && ns.conn < Conn::Connected && ns.pdsk >= Disk::DUnknown,
            R::PrimaryNop,
        ),
        /* V6  */
        (primary && ns.disk <= Disk::Inconsistent && ns.pdsk <= Disk::Inconsistent, R::NoUpToDateDisk),
        /* V7  */ (ns.conn > Conn::Connected && ns.disk < Disk::Inconsistent, R::NoLocalDisk),
        /* V8  */ (ns.conn > Conn::Connected && ns.pdsk < Disk::Inconsistent, R::NoRemoteDisk),
        /* V9  */
        (
            ns.conn > Conn::Connected && ns.disk < Disk::UpToDate && ns.pdsk < Disk::UpToDate,
            R::NoUpToDateDisk,
        ),
        /* V10 */
        (
            matches!(ns.conn, Conn::Connected | Conn::WFBitMapS | Conn::SyncSource | Conn::PausedSyncS)
                && ns.disk == Disk::Outdated
                && !is_alone_outdated(ns.disk, ns.pdsk),
            R::ConnectedOutdates,
        ),
        /* V11 */ (verifying && !ctx.verify_alg_set, R::NoVerifyAlg),
        /* V12 */ (verifying && ctx.apv < 88, R::NotSupported),
        /* V13 */ (primary && ns.disk < Disk::UpToDate && ns.pdsk < Disk::UpToDate, R::NoUpToDateDisk),
        /* V14 */
        (
            matches!(ns.conn, Conn::StartingSyncS | Conn::StartingSyncT) && ns.pdsk == Disk::DUnknown,
            R::NeedConnection,
        ),
        /* V15 */ (ns.conn >= Conn::Connected && ns.pdsk == Disk::DUnknown, R::ConnectedOutdates),
    ];
    rows.into_iter().find_map(|(hit, result)| hit.then_some(result)).unwrap_or(R::Success)
}

/// Whether the step from `os` to `ns` may be taken now (S12). The *last* match decides.
#[must_use]
pub fn soft_rules(os: State, ns: State, ctx: &Context) -> StateResult {
    use StateResult as R;
    let starting_sync = matches!(ns.conn, Conn::StartingSyncS | Conn::StartingSyncT);
    let verifying = ns.conn.is_verify();
    let connection_progress = (os.conn == Conn::WFConnection && ns.conn == Conn::WFReportParams)
        || (os.conn == Conn::WFReportParams && ns.conn >= Conn::Connected);
    let promoted = os.role != Role::Primary && ns.role == Role::Primary;
    let disconnecting = ns.conn == Conn::Disconnecting;
    let both_up_to_date = os.disk == Disk::UpToDate && os.pdsk == Disk::UpToDate;
    let rows = [
        /* T1  */ (starting_sync && os.conn > Conn::Connected, R::ResyncRunning),
        /* T2  */ (disconnecting && os.conn == Conn::StandAlone, R::AlreadyStandalone),
        /* T3  */ (ns.disk > Disk::Attaching && os.disk == Disk::Diskless, R::IsDiskless),
        /* T4  */ (ns.conn == Conn::WFConnection && os.conn < Conn::Unconnected, R::NoNetConfig),
        /* T5  */
        (
            ns.disk == Disk::Outdated && os.disk < Disk::Outdated && os.disk != Disk::Attaching,
            R::LowerThanOutdated,
        ),
        /* T6  */ (disconnecting && os.conn == Conn::Unconnected, R::InTransientState),
        /* T7  */ (ctx.state_sent && !connection_progress, R::InTransientState),
        /* T8  */
        (
            promoted
                && ns.pdsk == Disk::UpToDate
                && !matches!(ns.disk, Disk::UpToDate | Disk::Diskless)
                && (ns.conn <= Conn::WFSyncUUID || ns.conn != os.conn)
                && !is_lasting(os, ns),
            R::InTransientState,
        ),
        // Ours: the kernel would take both copies for UpToDate without a look (X9).
        (verifying && !os.conn.is_verify() && !both_up_to_date, R::NoUpToDateDisk),
        // Ours: the kernel would call the worse copy UpToDate, and overwrite the better one with it (X9).
        (starting_sync && os.conn == Conn::Connected && overwrites_the_better(os, ns), R::NoUpToDateDisk),
        // Ours: the kernel would call a disk good that is still compared with the other one (Z6).
        (
            starting_sync && (os.disk == Disk::Negotiating || os.pdsk == Disk::Negotiating),
            R::InTransientState,
        ),
        // Ours: the own copy is the only one, whatever the peer's is called (T17, T21).
        (ctx.peer_refused && (ns.disk < os.disk || ns.conn == Conn::StartingSyncT), R::NoUpToDateDisk),
        // Ours: a Primary gives its copy up for one that is not here, which it has not heard yet (I3).
        (
            os.conn >= Conn::Connected
                && os.pdsk >= Disk::Inconsistent
                && ns.peer == Role::Primary
                && ns.disk < Disk::Inconsistent
                && ns.pdsk < Disk::Inconsistent,
            R::NoUpToDateDisk,
        ),
        // Ours: the peer, which has no disk, would be Primary on an old copy without a decision for it (X4).
        (
            os.peer != Role::Primary && ns.peer == Role::Primary && is_alone_outdated(ns.disk, ns.pdsk),
            R::NoUpToDateDisk,
        ),
        /* T9  */ (verifying && os.conn < Conn::Connected, R::NeedConnection),
        /* T10 */ (verifying && ns.conn != os.conn && os.conn > Conn::Connected, R::ResyncRunning),
        /* T11 */ (starting_sync && os.conn < Conn::Connected, R::NeedConnection),
        /* T12 */
        (
            matches!(ns.conn, Conn::SyncTarget | Conn::SyncSource) && os.conn < Conn::WFReportParams,
            R::NeedConnection,
        ),
        /* T13 */
        (
            disconnecting
                && ns.pdsk == Disk::Outdated
                && os.conn < Conn::Connected
                && os.pdsk > Disk::Outdated,
            R::OutdateWoConn,
        ),
    ];
    rows.into_iter().rev().find_map(|(hit, result)| hit.then_some(result)).unwrap_or(R::Success)
}

/// Whether a full resync that is asked for goes from the worse of the two copies to the better one.
fn overwrites_the_better(os: State, ns: State) -> bool {
    let (source, target) = match ns.conn {
        Conn::StartingSyncT => (os.pdsk, os.disk),
        _ => (os.disk, os.pdsk),
    };
    source >= Disk::Inconsistent && source < target
}

/// Whether a disk that is not `UpToDate` stays so beside a good one, with no resync to wait for: it went on
/// after an error (`on-io-error pass_on`). Ours: the kernel's promotion would wait for ever (T8). What such a disk
/// lacks is marked, and read from the peer, as on a node that was Primary when the error came.
fn is_lasting(os: State, ns: State) -> bool {
    os.conn == Conn::Connected && ns.conn == os.conn && os.disk == Disk::Inconsistent && ns.disk == os.disk
}

#[cfg(test)]
mod tests {
    use super::*;
    use StateResult as R;

    const PAIR: State = State {
        role: Role::Primary,
        peer: Role::Secondary,
        conn: Conn::Connected,
        disk: Disk::UpToDate,
        pdsk: Disk::UpToDate,
        ..State::NEW
    };
    const COPY: State = State { role: Role::Secondary, ..PAIR };
    const ALONE: State = State {
        role: Role::Secondary,
        peer: Role::Unknown,
        conn: Conn::WFConnection,
        pdsk: Disk::DUnknown,
        ..PAIR
    };

    fn net() -> Context {
        Context { net_configured: true, verify_alg_set: true, ..Context::default() }
    }

    #[test]
    fn hard_rules_of_the_connection_match_the_table_everywhere() {
        // H1 to H7, by number
        for (old, oc) in Conn::ALL.into_iter().enumerate() {
            for (new, nc) in Conn::ALL.into_iter().enumerate() {
                let expected = match (old, new) {
                    _ if old == new => 2,
                    (0, 1) => -9,
                    (0, 2) => 1,
                    (0, _) => -15,
                    (1..=8, 10..) => -15,
                    (3..=7, 1 | 2) => 1,
                    (3..=7, _) => -18,
                    (1, 0) => 1,
                    (1, _) => -18,
                    _ => 1,
                };
                assert_eq!(hard_rules_conn(oc, nc).code(), expected, "{oc} -> {nc}");
            }
        }
    }

    #[test]
    fn a_missing_disk_cannot_fail() {
        let diskless = State { disk: Disk::Diskless, ..COPY };
        assert_eq!(hard_rules(diskless, State { disk: Disk::Failed, ..diskless }), R::IsDiskless);
        assert_eq!(hard_rules(COPY, State { disk: Disk::Failed, ..COPY }), R::NothingToDo);
    }

    #[test]
    fn each_row_of_the_validity_table_is_reached() {
        let v = |ns: State, ctx: &Context| validity(PAIR, ns, ctx);
        let both = State { peer: Role::Primary, ..PAIR };
        let other = Context { any_peer_primary: true, ..net() };
        assert_eq!(v(both, &other), R::TwoPrimaries); // V1
        assert_eq!(v(both, &Context { allow_two_primaries: true, ..other }), R::Success);
        assert_eq!(v(both, &Context { net_configured: false, ..other }), R::Success);
        assert_eq!(v(PAIR, &other), R::OVolPeerPri); // V2
        assert_eq!(v(COPY, &other), R::Success);
        assert_eq!(v(COPY, &Context { open_count: 1, ..net() }), R::DeviceInUse); // V3
        assert_eq!(v(PAIR, &Context { open_count: 1, ..net() }), R::Success);
        let lost = State { conn: Conn::WFConnection, peer: Role::Unknown, pdsk: Disk::DUnknown, ..PAIR };
        assert_eq!(v(State { disk: Disk::Consistent, ..lost }, &net()), R::NoUpToDateDisk); // V4
        let fence = Context { fencing: Fencing::ResourceOnly, ..net() };
        assert_eq!(v(lost, &fence), R::PrimaryNop); // V5
        assert_eq!(v(State { pdsk: Disk::Outdated, ..lost }, &fence), R::Success);
        assert_eq!(v(lost, &net()), R::Success);
        let poor = State { disk: Disk::Inconsistent, pdsk: Disk::Failed, ..PAIR };
        assert_eq!(v(poor, &net()), R::NoUpToDateDisk); // V6
        let syncing = State { conn: Conn::SyncSource, ..COPY };
        assert_eq!(v(State { disk: Disk::Negotiating, ..syncing }, &net()), R::NoLocalDisk); // V7
        assert_eq!(v(State { pdsk: Disk::Negotiating, ..syncing }, &net()), R::NoRemoteDisk); // V8
        let no_source = State { disk: Disk::Consistent, pdsk: Disk::Inconsistent, ..syncing };
        assert_eq!(v(no_source, &net()), R::NoUpToDateDisk); // V9
        assert_eq!(v(State { disk: Disk::Outdated, ..COPY }, &net()), R::ConnectedOutdates); // V10
        let alone = State { disk: Disk::Outdated, pdsk: Disk::Diskless, ..COPY };
        assert_eq!(v(alone, &net()), R::Success);
        assert_eq!(v(State { conn: Conn::WFBitMapT, disk: Disk::Outdated, ..COPY }, &net()), R::Success);
        let verify = State { conn: Conn::VerifyT, ..COPY };
        assert_eq!(v(verify, &Context { verify_alg_set: false, ..net() }), R::NoVerifyAlg); // V11
        assert_eq!(v(verify, &Context { apv: 87, ..net() }), R::NotSupported); // V12
        assert_eq!(v(verify, &Context { apv: 88, ..net() }), R::Success);
        let stale = State { disk: Disk::Consistent, pdsk: Disk::Consistent, ..PAIR };
        assert_eq!(v(stale, &net()), R::NoUpToDateDisk); // V13
        let unknown = State { pdsk: Disk::DUnknown, ..COPY };
        assert_eq!(v(State { conn: Conn::StartingSyncS, ..unknown }, &net()), R::NeedConnection); // V14
        assert_eq!(v(unknown, &net()), R::ConnectedOutdates); // V15
        assert_eq!(v(COPY, &net()), R::Success);
    }

    #[test]
    fn the_first_violation_is_the_one_reported() {
        // X6: V1 before V3, V4 before V5
        let ns = State { peer: Role::Primary, conn: Conn::WFConnection, disk: Disk::Outdated, ..PAIR };
        let ctx = Context { fencing: Fencing::ResourceAndStonith, ..net() };
        assert_eq!(validity(PAIR, ns, &ctx), R::TwoPrimaries);
        assert_eq!(validity(PAIR, State { peer: Role::Unknown, ..ns }, &ctx), R::NoUpToDateDisk);
    }

    #[test]
    fn fencing_counts_for_a_node_that_has_data() {
        let ctx = Context { fencing: Fencing::ResourceOnly, ..net() };
        let lost = State { conn: Conn::WFConnection, pdsk: Disk::DUnknown, ..PAIR };
        assert_eq!(validity(State { disk: Disk::Attaching, ..lost }, lost, &ctx), R::Success);
        assert_eq!(validity(State { disk: Disk::Inconsistent, ..lost }, lost, &ctx), R::PrimaryNop);
    }

    #[test]
    fn each_row_of_the_soft_table_is_reached() {
        let s = |os: State, ns: State| soft_rules(os, ns, &net());
        let go = |os: State, conn| s(os, State { conn, ..os });
        let target = State { conn: Conn::SyncTarget, disk: Disk::Inconsistent, ..COPY };
        assert_eq!(go(target, Conn::StartingSyncT), R::ResyncRunning); // T1
        assert_eq!(go(target, Conn::StartingSyncS), R::ResyncRunning);
        let standalone = State { conn: Conn::StandAlone, ..ALONE };
        assert_eq!(go(standalone, Conn::Disconnecting), R::AlreadyStandalone); // T2
        let diskless = State { disk: Disk::Diskless, ..COPY };
        assert_eq!(s(diskless, COPY), R::IsDiskless); // T3
        assert_eq!(s(diskless, State { disk: Disk::Attaching, ..diskless }), R::Success);
        assert_eq!(go(standalone, Conn::WFConnection), R::NoNetConfig); // T4
        assert_eq!(s(diskless, State { disk: Disk::Outdated, ..diskless }), R::LowerThanOutdated); // T5
        let attaching = State { disk: Disk::Attaching, ..COPY };
        assert_eq!(s(attaching, State { disk: Disk::Outdated, ..attaching }), R::Success);
        let unconnected = State { conn: Conn::Unconnected, ..ALONE };
        assert_eq!(go(unconnected, Conn::Disconnecting), R::InTransientState); // T6
        let inconsistent = State { disk: Disk::Inconsistent, ..COPY };
        assert_eq!(s(inconsistent, State { role: Role::Primary, ..inconsistent }), R::Success); // Not T8.
        let begins = State { conn: Conn::WFBitMapT, ..inconsistent };
        assert_eq!(s(begins, State { role: Role::Primary, ..begins }), R::InTransientState); // T8
        let attached = State { disk: Disk::Negotiating, ..COPY };
        assert_eq!(s(attached, State { role: Role::Primary, ..attached }), R::InTransientState);
        assert_eq!(s(target, State { role: Role::Primary, ..target }), R::Success); // S42
        assert_eq!(s(diskless, State { role: Role::Primary, ..diskless }), R::Success);
        assert_eq!(go(inconsistent, Conn::StartingSyncS), R::NoUpToDateDisk); // X9
        assert_eq!(go(inconsistent, Conn::StartingSyncT), R::Success);
        for conn in [Conn::StartingSyncS, Conn::StartingSyncT] {
            assert_eq!(go(State { disk: Disk::Negotiating, ..COPY }, conn), R::InTransientState);
            assert_eq!(go(State { pdsk: Disk::Negotiating, ..COPY }, conn), R::InTransientState);
        }
        let better = State { pdsk: Disk::Consistent, ..COPY };
        assert_eq!(go(better, Conn::StartingSyncT), R::NoUpToDateDisk);
        assert_eq!(go(better, Conn::StartingSyncS), R::Success);
        let fresh = State { pdsk: Disk::Inconsistent, ..inconsistent };
        assert_eq!(go(fresh, Conn::StartingSyncT), R::Success);
        let refused = Context { peer_refused: true, ..net() };
        for given_up in [Disk::Inconsistent, Disk::Outdated, Disk::Failed] {
            let lower = State { disk: given_up, ..COPY };
            assert_eq!(soft_rules(COPY, lower, &refused), R::NoUpToDateDisk); // T17, T21
            assert_eq!(soft_rules(lower, COPY, &refused), R::Success);
        }
        let overwritten = State { conn: Conn::StartingSyncT, ..COPY };
        assert_eq!(soft_rules(COPY, overwritten, &refused), R::NoUpToDateDisk);
        let gone = |pdsk| State { peer: Role::Primary, disk: Disk::Failed, pdsk, ..COPY };
        let gives_up = |from: State, pdsk| s(State { peer: Role::Primary, ..from }, gone(pdsk));
        assert_eq!(gives_up(COPY, Disk::Diskless), R::NoUpToDateDisk); // I3
        assert_eq!(gives_up(COPY, Disk::UpToDate), R::Success);
        assert_eq!(gives_up(State { pdsk: Disk::Diskless, ..COPY }, Disk::Diskless), R::Success);
        let old = State { disk: Disk::Outdated, pdsk: Disk::Diskless, peer: Role::Secondary, ..COPY };
        assert_eq!(s(old, State { peer: Role::Primary, ..old }), R::NoUpToDateDisk); // X4
        assert_eq!(s(old, State { peer: Role::Primary, disk: Disk::UpToDate, ..old }), R::Success);
        assert_eq!(go(ALONE, Conn::VerifyS), R::NeedConnection); // T9
        assert_eq!(go(target, Conn::VerifyS), R::ResyncRunning); // T10
        let verifying = State { conn: Conn::VerifyS, ..COPY };
        assert_eq!(go(verifying, Conn::VerifyS), R::Success);
        assert_eq!(go(ALONE, Conn::StartingSyncS), R::NeedConnection); // T11
        assert_eq!(go(ALONE, Conn::SyncTarget), R::NeedConnection); // T12
        assert_eq!(go(ALONE, Conn::SyncSource), R::NeedConnection);
        let outdate = State { conn: Conn::Disconnecting, pdsk: Disk::Outdated, ..ALONE };
        assert_eq!(s(ALONE, outdate), R::OutdateWoConn); // T13
        assert_eq!(s(COPY, State { role: Role::Primary, ..COPY }), R::Success);
    }

    #[test]
    fn a_running_handshake_allows_only_its_own_progress() {
        // T7
        let ctx = Context { state_sent: true, ..net() };
        for (os, oc) in Conn::ALL.into_iter().map(|conn| (State { conn, ..COPY }, conn)) {
            for nc in Conn::ALL {
                let progress =
                    (oc.number(), nc.number()) == (8, 9) || (oc.number() == 9 && nc.number() >= 10);
                let ns = State { conn: nc, ..os };
                let free = soft_rules(os, ns, &net());
                let held = soft_rules(os, ns, &ctx);
                if progress {
                    assert_eq!(held, free);
                } else {
                    assert!(!held.is_success(), "{oc} -> {nc}");
                }
            }
        }
        let demote = State { role: Role::Secondary, ..PAIR };
        assert_eq!(soft_rules(PAIR, demote, &ctx), R::InTransientState); // S72
    }

    #[test]
    fn the_last_objection_is_the_one_reported() {
        // X6: T5 overrides T3; T13 overrides T6
        let diskless = State { disk: Disk::Diskless, ..ALONE };
        assert_eq!(
            soft_rules(diskless, State { disk: Disk::Outdated, ..diskless }, &net()),
            R::LowerThanOutdated
        );
        let unconnected = State { conn: Conn::Unconnected, ..ALONE };
        let outdate = State { conn: Conn::Disconnecting, pdsk: Disk::Outdated, ..unconnected };
        assert_eq!(soft_rules(unconnected, outdate, &net()), R::OutdateWoConn);
    }
}
