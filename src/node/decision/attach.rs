//! What a disk is worth that is taken into use (S37, steps 7 and 9 to 12).

use crate::node::state::{Disk, Role, State, flags};

/// What the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The flag word of the metadata.
    pub flags: u32,
    /// There is a bitmap UUID: the bits count from an older generation, or from a sync UUID.
    pub counts_bits: bool,
    /// The current UUID is that of a Primary (S52).
    pub was_primary: bool,
    /// The own role at this moment.
    pub role: Role,
    /// I/O is suspended for want of data at this moment.
    pub susp_nod: bool,
    /// The peer's disk, as far as known at this moment.
    pub pdsk: Disk,
    /// The new disk options have a fencing policy other than dont-care.
    pub fencing: bool,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The volume's CRASHED_PRIMARY flag (step 9).
    pub crashed_primary: bool,
    /// The volume's USE_DEGR_WFC flag (step 10).
    pub use_degr_wfc: bool,
    /// The node went down as the source of a run that the target may have ended since (T40).
    pub target_unheard: bool,
    /// All bits count as set, whatever the bitmap on disk says (step 11).
    pub full_sync: bool,
    /// The own disk (step 12).
    pub disk: Disk,
    /// The peer's disk, where the metadata knows (step 12).
    pub pdsk: Option<Disk>,
}

/// Log line of an assumed full sync (step 11).
pub const FULL_SYNC_TEXT: &str = "Assuming that all blocks are out of sync (aka FullSync)";

/// Decides what the disk is worth (steps 9 to 12). While connected the result is only what the
/// handshake starts from (step 13): the disk becomes Negotiating.
#[must_use]
pub fn decide(facts: &Facts) -> Decision {
    let has = |flag| facts.flags & flag != 0;
    let primary = facts.role == Role::Primary;
    // A Primary that froze for want of data and gets its disk back did not crash.
    let crashed_primary =
        has(flags::CRASHED_PRIMARY) || (has(flags::PRIMARY_IND) && !(primary && facts.susp_nod));
    let peer_outdated = has(flags::PEER_OUT_DATED);
    let disk = match (has(flags::CONSISTENT), has(flags::WAS_UP_TO_DATE)) {
        (false, _) => Disk::Inconsistent,
        (true, false) => Disk::Outdated,
        (true, true) if peer_outdated || facts.pdsk == Disk::Outdated || !facts.fencing => Disk::UpToDate,
        (true, true) => Disk::Consistent,
    };
    Decision {
        crashed_primary,
        // Not of a Secondary whose peer had no disk, and was Primary: that has it to this day.
        target_unheard: has(flags::CONNECTED_IND)
            && facts.counts_bits
            && (peer_outdated || facts.was_primary || !has(flags::PRIMARY_IND)),
        use_degr_wfc: !primary && has(flags::PRIMARY_IND) && !has(flags::CONNECTED_IND),
        full_sync: has(flags::FULL_SYNC) || (crashed_primary && has(flags::AL_DISABLED)),
        disk,
        pdsk: peer_outdated.then_some(Disk::Outdated),
    }
}

/// Whether the data on this disk may be taken into use (step 7): where applications have seen data
/// that is not here, they must not see this. `exposed` is `ed_uuid`, `current` the metadata's current UUID. `newer`: the
/// peer has newer data still, of whatever generation.
#[must_use]
pub fn is_acceptable(state: State, exposed: u64, current: u64, newer: bool) -> bool {
    let in_use = state.role == Role::Primary || state.peer == Role::Primary;
    let shown = exposed == 0 || exposed & !1 == current & !1;
    state.pdsk == Disk::UpToDate || !in_use || (shown && !newer)
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

    fn with(flags: u32) -> Facts {
        Facts {
            flags,
            counts_bits: false,
            was_primary: false,
            role: Role::Secondary,
            susp_nod: false,
            pdsk: Disk::DUnknown,
            fencing: false,
        }
    }

    #[test]
    fn a_source_that_went_down_may_not_have_heard_the_end_of_its_run() {
        // T40
        for (flags, counts_bits, unheard) in [
            (flags::CONNECTED_IND, true, true),
            (flags::CONNECTED_IND, false, false),
            (flags::CONNECTED_IND | flags::PRIMARY_IND, true, false),
            (flags::CONNECTED_IND | flags::PRIMARY_IND | flags::PEER_OUT_DATED, true, true),
            (flags::CONSISTENT, true, false),
        ] {
            assert_eq!(decide(&Facts { counts_bits, ..with(flags) }).target_unheard, unheard);
        }
        // Its I/O was frozen when it lost the target: no generation was made.
        let frozen = with(flags::CONNECTED_IND | flags::PRIMARY_IND);
        assert!(decide(&Facts { counts_bits: true, was_primary: true, ..frozen }).target_unheard);
    }

    #[test]
    fn the_flags_say_what_the_disk_is_worth() {
        // step 12
        use flags::{CONSISTENT, PEER_OUT_DATED, WAS_UP_TO_DATE};
        let good = CONSISTENT | WAS_UP_TO_DATE;
        let worth = |flags, fencing| {
            let decision = decide(&Facts { fencing, ..with(flags) });
            (decision.disk, decision.pdsk)
        };
        for fencing in [false, true] {
            assert_eq!(worth(0, fencing), (Disk::Inconsistent, None));
            assert_eq!(worth(WAS_UP_TO_DATE, fencing).0, Disk::Inconsistent);
            assert_eq!(worth(CONSISTENT, fencing).0, Disk::Outdated);
            assert_eq!(worth(good | PEER_OUT_DATED, fencing), (Disk::UpToDate, Some(Disk::Outdated)));
        }
        assert_eq!(worth(good, false), (Disk::UpToDate, None));
        assert_eq!(worth(good, true), (Disk::Consistent, None));
        let fenced = Facts { fencing: true, pdsk: Disk::Outdated, ..with(good) };
        assert_eq!(decide(&fenced).disk, Disk::UpToDate);
    }

    #[test]
    fn a_primary_of_before_crashed_unless_it_only_waited_for_its_disk() {
        // step 9
        let crashed =
            |flags, role, susp_nod| decide(&Facts { role, susp_nod, ..with(flags) }).crashed_primary;
        assert!(crashed(flags::PRIMARY_IND, Role::Secondary, false));
        assert!(crashed(flags::PRIMARY_IND, Role::Secondary, true));
        assert!(crashed(flags::PRIMARY_IND, Role::Primary, false));
        assert!(!crashed(flags::PRIMARY_IND, Role::Primary, true));
        assert!(crashed(flags::CRASHED_PRIMARY, Role::Primary, true));
        assert!(!crashed(0, Role::Secondary, false));
    }

    #[test]
    fn the_degraded_timeout_is_for_a_primary_that_crashed_alone() {
        // step 10
        let degraded = |flags, role| decide(&Facts { role, ..with(flags) }).use_degr_wfc;
        assert!(degraded(flags::PRIMARY_IND, Role::Secondary));
        assert!(!degraded(flags::PRIMARY_IND | flags::CONNECTED_IND, Role::Secondary));
        assert!(!degraded(flags::PRIMARY_IND, Role::Primary));
        assert!(!degraded(0, Role::Secondary));
    }

    #[test]
    fn a_crash_without_an_activity_log_means_a_full_sync() {
        // step 11
        assert!(decide(&with(flags::FULL_SYNC)).full_sync);
        assert!(decide(&with(flags::PRIMARY_IND | flags::AL_DISABLED)).full_sync);
        assert!(!decide(&with(flags::AL_DISABLED)).full_sync);
        assert!(!decide(&with(flags::PRIMARY_IND)).full_sync);
    }

    #[test]
    fn a_crashed_sync_source_comes_back_as_scenario_c9_says() {
        let flags = flags::CONSISTENT | flags::WAS_UP_TO_DATE | flags::PEER_OUT_DATED | flags::PRIMARY_IND;
        let decision = decide(&Facts { fencing: true, ..with(flags) });
        assert_eq!((decision.disk, decision.pdsk), (Disk::UpToDate, Some(Disk::Outdated)));
        assert!(decision.crashed_primary);
    }

    #[test]
    fn applications_never_see_older_data_come_back() {
        // step 7
        let primary = State { role: Role::Primary, ..State::NEW };
        let connected = State { conn: Conn::Connected, pdsk: Disk::UpToDate, ..primary };
        assert!(!is_acceptable(primary, 0x20, 0x30, false));
        assert!(!is_acceptable(State { peer: Role::Primary, ..State::NEW }, 0x20, 0x30, false));
        assert!(is_acceptable(primary, 0x21, 0x20, false));
        assert!(is_acceptable(primary, 0, 0x30, false));
        assert!(is_acceptable(connected, 0x20, 0x30, false));
        assert!(is_acceptable(State::NEW, 0x20, 0x30, false));
        assert!(!is_acceptable(primary, 0x21, 0x20, true));
        assert!(is_acceptable(connected, 0x21, 0x20, true));
        assert_eq!(unacceptable_text(0x20), "Can only attach to data with current UUID=0000000000000020");
    }
}
