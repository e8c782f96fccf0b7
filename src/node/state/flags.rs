//! The metadata flag word that follows the state (S23).

use super::{Conn, Disk, Role, State};

/// The data is consistent (disk above Inconsistent).
pub const CONSISTENT: u32 = 0x001;
/// This node, or a diskless peer, is Primary.
pub const PRIMARY_IND: u32 = 0x002;
/// The nodes are connected.
pub const CONNECTED_IND: u32 = 0x004;
/// All blocks are out of sync, whatever the bitmap on disk says.
pub const FULL_SYNC: u32 = 0x008;
/// The data was current (disk above Outdated).
pub const WAS_UP_TO_DATE: u32 = 0x010;
/// The peer's data is known to be out of date.
pub const PEER_OUT_DATED: u32 = 0x020;
/// The node crashed as Primary and has not been in sync since.
pub const CRASHED_PRIMARY: u32 = 0x040;
/// The activity log has been applied to the bitmap.
pub const AL_CLEAN: u32 = 0x080;
/// The activity log is not kept.
pub const AL_DISABLED: u32 = 0x100;

/// The flag word after a change to `state`. `old` is the word so far; `crashed` the volume's
/// CRASHED_PRIMARY flag; `al_updates` the disk option.
///
/// Below Inconsistent the word is frozen: a Primary that lost its disk keeps [`PRIMARY_IND`] there.
#[must_use]
pub fn recompute(old: u32, state: State, crashed: bool, al_updates: bool) -> u32 {
    if state.disk < Disk::Inconsistent {
        return old;
    }
    let owner_of_diskless_primary = state.pdsk < Disk::Inconsistent && state.peer == Role::Primary;
    let rows = [
        (CONSISTENT, state.disk > Disk::Inconsistent),
        (PRIMARY_IND, state.role == Role::Primary || owner_of_diskless_primary),
        (CONNECTED_IND, state.conn > Conn::WFReportParams),
        (WAS_UP_TO_DATE, state.disk > Disk::Outdated),
        (PEER_OUT_DATED, (Disk::Inconsistent..=Disk::Outdated).contains(&state.pdsk)),
        (CRASHED_PRIMARY, crashed),
        (AL_CLEAN, false),
        (AL_DISABLED, !al_updates),
    ];
    rows.into_iter().fold(old, |word, (bit, set)| if set { word | bit } else { word & !bit })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: State = State {
        role: Role::Primary,
        peer: Role::Secondary,
        conn: Conn::Connected,
        disk: Disk::UpToDate,
        pdsk: Disk::UpToDate,
        ..State::NEW
    };

    #[test]
    fn a_connected_pair_has_the_words_of_scenario_c1() {
        assert_eq!(recompute(AL_CLEAN, PAIR, false, true), 0x17);
        let secondary = State { role: Role::Secondary, peer: Role::Primary, ..PAIR };
        assert_eq!(recompute(AL_CLEAN, secondary, false, true), 0x15);
    }

    #[test]
    fn the_word_is_frozen_without_a_usable_disk() {
        for disk in [Disk::Diskless, Disk::Attaching, Disk::Failed, Disk::Negotiating] {
            let gone = State { disk, role: Role::Secondary, conn: Conn::StandAlone, ..PAIR };
            assert_eq!(recompute(0x97, gone, true, false), 0x97);
        }
    }

    #[test]
    fn a_lost_sync_target_is_remembered_as_outdated() {
        // S83, C9
        let lost = State { conn: Conn::WFConnection, pdsk: Disk::Inconsistent, peer: Role::Unknown, ..PAIR };
        assert_eq!(
            recompute(0, lost, false, true),
            CONSISTENT | WAS_UP_TO_DATE | PEER_OUT_DATED | PRIMARY_IND
        );
    }

    #[test]
    fn the_owner_of_a_diskless_primarys_data_counts_as_primary() {
        // S90
        let owner = State { role: Role::Secondary, peer: Role::Primary, pdsk: Disk::Diskless, ..PAIR };
        assert_eq!(recompute(0, owner, false, true) & PRIMARY_IND, PRIMARY_IND);
    }

    #[test]
    fn each_bit_follows_its_own_cause() {
        for disk in [Disk::Inconsistent, Disk::Outdated, Disk::Consistent, Disk::UpToDate] {
            let word = recompute(0, State { disk, ..PAIR }, false, true);
            assert_eq!(word & CONSISTENT != 0, disk != Disk::Inconsistent);
            assert_eq!(word & WAS_UP_TO_DATE != 0, matches!(disk, Disk::Consistent | Disk::UpToDate));
        }
        assert_eq!(recompute(FULL_SYNC | 0x8000, PAIR, true, false) & !0x17, FULL_SYNC | 0x8000 | 0x140);
        let handshake = State { conn: Conn::WFReportParams, ..PAIR };
        assert_eq!(recompute(0, handshake, false, true) & CONNECTED_IND, 0);
    }
}
