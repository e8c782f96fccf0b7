//! What the volumes of a resource add up to (S6).

use super::{Conn, Disk, Role, State};
use crate::config::values::Fencing;

/// The resource's role: Primary if any volume is, else Secondary.
#[must_use]
pub fn resource_role(volumes: impl IntoIterator<Item = State>) -> Role {
    if volumes.into_iter().any(|v| v.role == Role::Primary) { Role::Primary } else { Role::Secondary }
}

/// The peer's role: Primary if any volume's peer is, else Secondary if any is, else Unknown.
#[must_use]
pub fn peer_role(volumes: impl IntoIterator<Item = State>) -> Role {
    volumes.into_iter().map(|v| v.peer).fold(Role::Unknown, |sum, peer| match (sum, peer) {
        (Role::Primary, _) | (_, Role::Primary) => Role::Primary,
        (Role::Secondary, _) | (_, Role::Secondary) => Role::Secondary,
        (Role::Unknown, Role::Unknown) => Role::Unknown,
    })
}

/// The best own disk; Diskless without volumes.
#[must_use]
pub fn highest_disk(volumes: impl IntoIterator<Item = State>) -> Disk {
    volumes.into_iter().map(|v| v.disk).max().unwrap_or(Disk::Diskless)
}

/// The best disk of the peer; Diskless without volumes.
#[must_use]
pub fn highest_pdsk(volumes: impl IntoIterator<Item = State>) -> Disk {
    volumes.into_iter().map(|v| v.pdsk).max().unwrap_or(Disk::Diskless)
}

/// The worst own disk; `None` (above everything) without volumes.
#[must_use]
pub fn lowest_disk(volumes: impl IntoIterator<Item = State>) -> Option<Disk> {
    volumes.into_iter().map(|v| v.disk).min()
}

/// The lowest connection state; `None` (above everything) without volumes.
#[must_use]
pub fn lowest_conn(volumes: impl IntoIterator<Item = State>) -> Option<Conn> {
    volumes.into_iter().map(|v| v.conn).min()
}

/// The strictest fencing policy among the volumes whose own disk is at least Consistent; `None` if
/// there is no such volume.
#[must_use]
pub fn highest_fencing(volumes: impl IntoIterator<Item = (State, Fencing)>) -> Option<Fencing> {
    let strictness = |policy: &Fencing| match policy {
        Fencing::DontCare => 0,
        Fencing::ResourceOnly => 1,
        Fencing::ResourceAndStonith => 2,
    };
    let counting = volumes.into_iter().filter(|(v, _)| v.disk >= Disk::Consistent);
    counting.map(|(_, policy)| policy).max_by_key(strictness)
}

/// The tools' words for why I/O is suspended: any of `user`, `no-data`, `fencing`.
#[must_use]
pub fn suspension_words(state: State) -> Vec<&'static str> {
    [(state.susp, "user"), (state.susp_nod, "no-data"), (state.susp_fen, "fencing")]
        .into_iter()
        .filter_map(|(set, word)| set.then_some(word))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: State = State { role: Role::Primary, peer: Role::Secondary, ..State::NEW };
    const B: State =
        State { disk: Disk::UpToDate, pdsk: Disk::Outdated, conn: Conn::Connected, ..State::NEW };

    #[test]
    fn one_primary_volume_makes_the_resource_primary() {
        assert_eq!(resource_role([B, A]), Role::Primary);
        assert_eq!(resource_role([B]), Role::Secondary);
        assert_eq!(resource_role([]), Role::Secondary);
    }

    #[test]
    fn the_peers_role_is_the_most_that_any_volume_knows() {
        let primary = State { peer: Role::Primary, ..State::NEW };
        assert_eq!(peer_role([B]), Role::Unknown);
        assert_eq!(peer_role([B, A]), Role::Secondary);
        assert_eq!(peer_role([primary, A]), Role::Primary);
        assert_eq!(peer_role([A, primary]), Role::Primary);
    }

    #[test]
    fn highest_and_lowest_go_by_number() {
        assert_eq!(highest_disk([A, B]), Disk::UpToDate);
        assert_eq!(highest_pdsk([A, B]), Disk::DUnknown);
        assert_eq!(lowest_disk([A, B]), Some(Disk::Diskless));
        assert_eq!(lowest_conn([A, B]), Some(Conn::StandAlone));
        assert_eq!((highest_disk([]), lowest_disk([]), lowest_conn([])), (Disk::Diskless, None, None));
    }

    #[test]
    fn fencing_counts_only_where_the_data_is_consistent() {
        use Fencing::*;
        assert_eq!(highest_fencing([(A, ResourceAndStonith), (B, ResourceOnly)]), Some(ResourceOnly));
        assert_eq!(highest_fencing([(B, ResourceAndStonith), (B, DontCare)]), Some(ResourceAndStonith));
        assert_eq!(highest_fencing([(A, ResourceAndStonith)]), None);
    }

    #[test]
    fn suspension_is_named_by_its_reasons() {
        let state = State { susp: true, susp_fen: true, ..A };
        assert_eq!(suspension_words(state), ["user", "fencing"]);
        assert!(suspension_words(A).is_empty());
    }
}
