//! What a disk is worth that is taken into use (S37, steps 7 and 9 to 12).

use crate::config::values::Fencing;
use crate::node::state::{Disk, Role, State, flags};

/// What the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The flag word of the metadata.
    pub flags: u32,
    /// The volume's state at this moment.
    pub state: State,
    /// The fencing policy of the new disk options.
    pub fencing: Fencing,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The volume's CRASHED_PRIMARY flag (step 9).
    pub crashed_primary: bool,
    /// The volume's USE_DEGR_WFC flag (step 10).
    pub use_degr_wfc: bool,
    /// All bits count as set, whatever the bitmap on disk says (step 11).
    pub assume_full_sync: bool,
    /// The own disk (step 12).
    pub disk: Disk,
    /// The peer's disk (step 12).
    pub pdsk: Disk,
}

/// Log line of an assumed full sync (step 11).
pub const FULL_SYNC_TEXT: &str = "Assuming that all blocks are out of sync (aka FullSync)";

/// Decides what the disk is worth (steps 9 to 12). While connected the result is only what the
/// handshake starts from (step 13): the disk becomes Negotiating.
#[must_use]
pub fn decide(facts: &Facts) -> Verdict {
    let has = |flag| facts.flags & flag != 0;
    let primary = facts.state.role == Role::Primary;
    // A Primary that froze for want of data and gets its disk back did not crash.
    let crashed_primary =
        has(flags::CRASHED_PRIMARY) || (has(flags::PRIMARY_IND) && !(primary && facts.state.susp_nod));
    let pdsk = if has(flags::PEER_OUT_DATED) { Disk::Outdated } else { facts.state.pdsk };
    let disk = match (has(flags::CONSISTENT), has(flags::WAS_UP_TO_DATE)) {
        (false, _) => Disk::Inconsistent,
        (true, false) => Disk::Outdated,
        (true, true) if pdsk == Disk::Outdated || facts.fencing == Fencing::DontCare => Disk::UpToDate,
        (true, true) => Disk::Consistent,
    };
    Verdict {
        crashed_primary,
        use_degr_wfc: !primary && has(flags::PRIMARY_IND) && !has(flags::CONNECTED_IND),
        assume_full_sync: has(flags::FULL_SYNC) || (crashed_primary && has(flags::AL_DISABLED)),
        disk,
        pdsk,
    }
}

/// Whether the data on this disk may be taken into use (step 7): where applications have seen data
/// that is not here, they must not see this. `exposed` is `ed_uuid`, `current` the metadata's current UUID.
#[must_use]
pub fn is_acceptable(state: State, exposed: u64, current: u64) -> bool {
    let in_use = state.role == Role::Primary || state.peer == Role::Primary;
    state.pdsk == Disk::UpToDate || exposed == 0 || !in_use || exposed & !1 == current & !1
}

/// Log line of a disk that is not (step 7).
#[must_use]
pub fn unacceptable_text(exposed: u64) -> String {
    format!("Can only attach to data with current UUID={exposed:016X}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::state::Conn;

    const NEW: Facts = Facts { flags: 0, state: State::NEW, fencing: Fencing::DontCare };

    fn with(flags: u32) -> Facts {
        Facts { flags, ..NEW }
    }

    #[test]
    fn the_flags_say_what_the_disk_is_worth() {
        // step 12
        use flags::{CONSISTENT, PEER_OUT_DATED, WAS_UP_TO_DATE};
        let good = CONSISTENT | WAS_UP_TO_DATE;
        let worth = |flags, fencing| {
            let verdict = decide(&Facts { fencing, ..with(flags) });
            (verdict.disk, verdict.pdsk)
        };
        for fencing in [Fencing::DontCare, Fencing::ResourceOnly, Fencing::ResourceAndStonith] {
            assert_eq!(worth(0, fencing).0, Disk::Inconsistent);
            assert_eq!(worth(WAS_UP_TO_DATE, fencing).0, Disk::Inconsistent);
            assert_eq!(worth(CONSISTENT, fencing).0, Disk::Outdated);
            assert_eq!(worth(good | PEER_OUT_DATED, fencing), (Disk::UpToDate, Disk::Outdated));
        }
        assert_eq!(worth(good, Fencing::DontCare), (Disk::UpToDate, Disk::DUnknown));
        assert_eq!(worth(good, Fencing::ResourceOnly), (Disk::Consistent, Disk::DUnknown));
        assert_eq!(worth(good, Fencing::ResourceAndStonith), (Disk::Consistent, Disk::DUnknown));
    }

    #[test]
    fn a_primary_of_before_crashed_unless_it_only_waited_for_its_disk() {
        // step 9
        let primary = State { role: Role::Primary, ..State::NEW };
        let frozen = State { susp_nod: true, ..primary };
        let crashed = |flags, state| decide(&Facts { state, ..with(flags) }).crashed_primary;
        assert!(crashed(flags::PRIMARY_IND, State::NEW));
        assert!(crashed(flags::PRIMARY_IND, primary));
        assert!(!crashed(flags::PRIMARY_IND, frozen));
        assert!(crashed(flags::CRASHED_PRIMARY, frozen));
        assert!(!crashed(0, State::NEW));
    }

    #[test]
    fn the_degraded_timeout_is_for_a_primary_that_crashed_alone() {
        // step 10
        let degraded =
            |flags, role| decide(&Facts { state: State { role, ..State::NEW }, ..with(flags) }).use_degr_wfc;
        assert!(degraded(flags::PRIMARY_IND, Role::Secondary));
        assert!(!degraded(flags::PRIMARY_IND | flags::CONNECTED_IND, Role::Secondary));
        assert!(!degraded(flags::PRIMARY_IND, Role::Primary));
        assert!(!degraded(0, Role::Secondary));
    }

    #[test]
    fn a_crash_without_an_activity_log_means_a_full_sync() {
        // step 11
        assert!(decide(&with(flags::FULL_SYNC)).assume_full_sync);
        assert!(decide(&with(flags::PRIMARY_IND | flags::AL_DISABLED)).assume_full_sync);
        assert!(!decide(&with(flags::AL_DISABLED)).assume_full_sync);
        assert!(!decide(&with(flags::PRIMARY_IND)).assume_full_sync);
    }

    #[test]
    fn a_crashed_sync_source_comes_back_as_scenario_c9_says() {
        let flags = flags::CONSISTENT | flags::WAS_UP_TO_DATE | flags::PEER_OUT_DATED | flags::PRIMARY_IND;
        let verdict = decide(&Facts { fencing: Fencing::ResourceOnly, ..with(flags) });
        assert_eq!((verdict.disk, verdict.pdsk), (Disk::UpToDate, Disk::Outdated));
        assert!(verdict.crashed_primary);
    }

    #[test]
    fn applications_never_see_older_data_come_back() {
        // step 7
        let primary = State { role: Role::Primary, ..State::NEW };
        let connected = State { conn: Conn::Connected, pdsk: Disk::UpToDate, ..primary };
        assert!(!is_acceptable(primary, 0x20, 0x30));
        assert!(!is_acceptable(State { peer: Role::Primary, ..State::NEW }, 0x20, 0x30));
        assert!(is_acceptable(primary, 0x21, 0x20));
        assert!(is_acceptable(primary, 0, 0x30));
        assert!(is_acceptable(connected, 0x20, 0x30));
        assert!(is_acceptable(State::NEW, 0x20, 0x30));
        assert_eq!(unacceptable_text(0x20), "Can only attach to data with current UUID=0000000000000020");
    }
}
