//! The state vector of a volume (states.md section 1): what a node is, has, and believes of its peer.
//!
//! The names and numbers are in [`names`], partial changes in [`change`], views over several
//! volumes in [`aggregate`], the metadata flags that follow the state in [`flags`].

pub mod aggregate;
pub mod change;
pub mod flags;
pub mod names;

use std::fmt;

pub use change::StateChange;
pub use names::{Conn, Disk, Role};

/// One volume's state vector (S1). The three suspension flags belong to the resource and are shown
/// inside each volume's vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Own role.
    pub role: Role,
    /// The peer's role, as far as known.
    pub peer: Role,
    /// Replication and connection state.
    pub conn: Conn,
    /// Own disk. Never [`Disk::DUnknown`].
    pub disk: Disk,
    /// The peer's disk, as far as known.
    pub pdsk: Disk,
    /// I/O is suspended by the user.
    pub susp: bool,
    /// The resync waits for one that it comes after.
    pub aftr_isp: bool,
    /// The resync is paused by the peer.
    pub peer_isp: bool,
    /// The resync is paused by the local user.
    pub user_isp: bool,
    /// I/O is suspended because no UpToDate data can be reached.
    pub susp_nod: bool,
    /// I/O is suspended until the peer is known to be fenced.
    pub susp_fen: bool,
}

impl Default for State {
    fn default() -> Self {
        Self::NEW
    }
}

impl State {
    /// The vector of a new volume (S2).
    pub const NEW: Self = Self {
        role: Role::Secondary,
        peer: Role::Unknown,
        conn: Conn::StandAlone,
        disk: Disk::Diskless,
        pdsk: Disk::DUnknown,
        susp: false,
        aftr_isp: false,
        peer_isp: false,
        user_isp: false,
        susp_nod: false,
        susp_fen: false,
    };

    /// The 32-bit word of the wire and of netlink (S4).
    #[must_use]
    pub const fn to_word(self) -> u32 {
        self.role.number()
            | self.peer.number() << PEER_SHIFT
            | self.conn.number() << CONN_SHIFT
            | self.disk.number() << DISK_SHIFT
            | self.pdsk.number() << PDSK_SHIFT
            | bit(self.susp, SUSP_BIT)
            | bit(self.aftr_isp, AFTR_ISP_BIT)
            | bit(self.peer_isp, PEER_ISP_BIT)
            | bit(self.user_isp, USER_ISP_BIT)
            | bit(self.susp_nod, SUSP_NOD_BIT)
            | bit(self.susp_fen, SUSP_FEN_BIT)
    }

    /// Reads a word as the peer sends it (S4). Bits above the last flag are ignored.
    ///
    /// # Errors
    /// [`StateWordError`] if a field holds a number without a name.
    pub fn from_word(word: u32) -> Result<Self, StateWordError> {
        Ok(Self {
            role: role_field(word, "role", 0)?,
            peer: role_field(word, "peer", PEER_SHIFT)?,
            conn: conn_field(word)?,
            disk: disk_field(word, "disk", DISK_SHIFT)?,
            pdsk: disk_field(word, "pdsk", PDSK_SHIFT)?,
            susp: is_set(word, SUSP_BIT),
            aftr_isp: is_set(word, AFTR_ISP_BIT),
            peer_isp: is_set(word, PEER_ISP_BIT),
            user_isp: is_set(word, USER_ISP_BIT),
            susp_nod: is_set(word, SUSP_NOD_BIT),
            susp_fen: is_set(word, SUSP_FEN_BIT),
        })
    }

    /// Whether I/O is suspended for any reason.
    #[must_use]
    pub const fn is_suspended(self) -> bool {
        self.susp || self.susp_nod || self.susp_fen
    }

    /// Whether any flag pauses a resync.
    #[must_use]
    pub const fn is_sync_paused(self) -> bool {
        self.aftr_isp || self.peer_isp || self.user_isp
    }

    /// StandAlone, Diskless and Secondary (S2).
    #[must_use]
    pub fn is_unconfigured(self) -> bool {
        self.conn == Conn::StandAlone && self.disk == Disk::Diskless && self.role == Role::Secondary
    }

    /// Whether application writes go to the peer as data (S22, D16).
    #[must_use]
    pub fn mirrors_writes(self) -> bool {
        self.pdsk == Disk::UpToDate
            || (self.pdsk >= Disk::Inconsistent && self.conn >= Conn::WFBitMapT && self.conn < Conn::Ahead)
    }

    /// Whether application writes are announced to the peer as out-of-sync notices in place of data
    /// (S22). In both these states the peer's disk is clamped below UpToDate (S9 Z6), so no legal
    /// state mirrors and announces at once.
    #[must_use]
    pub fn announces_writes(self) -> bool {
        matches!(self.conn, Conn::Ahead | Conn::WFBitMapS)
    }

    /// Whether a write may be accepted: one of the two disks must be UpToDate (S22).
    #[must_use]
    pub fn accepts_writes(self) -> bool {
        self.disk == Disk::UpToDate || self.pdsk == Disk::UpToDate
    }

    /// Whether a range may be read from the own disk; `in_sync` says that none of its bits is set (S22).
    #[must_use]
    pub fn may_read_locally(self, in_sync: bool) -> bool {
        self.disk == Disk::UpToDate || (self.disk == Disk::Inconsistent && in_sync)
    }

    /// Whether the peer may be asked for data (S22).
    #[must_use]
    pub fn may_read_remotely(self) -> bool {
        self.pdsk == Disk::UpToDate
    }

    /// Whether the change from `old` to `self` lost the peer's data (S25).
    #[must_use]
    pub fn lost_peer_data_since(self, old: Self) -> bool {
        use Disk::*;
        match old.pdsk {
            Inconsistent | Consistent | UpToDate => {
                matches!(self.pdsk, Diskless | Attaching | Failed | Negotiating | Outdated | DUnknown)
            }
            DUnknown => matches!(self.pdsk, Diskless | Failed | Outdated),
            Diskless | Attaching | Failed | Negotiating | Outdated => false,
        }
    }

    /// The state log line: the fields that changed from `old` to `self` (S5), or `None` if none did.
    /// The suspension has its own line: [`State::suspension_change_line`].
    #[must_use]
    pub fn change_line(self, old: Self) -> Option<String> {
        let mut parts = Vec::new();
        let mut part = |name: &str, old: &dyn fmt::Display, new: &dyn fmt::Display, differs: bool| {
            if differs {
                parts.push(format!("{name}( {old} -> {new} )"));
            }
        };
        part("role", &old.role, &self.role, old.role != self.role);
        part("peer", &old.peer, &self.peer, old.peer != self.peer);
        part("conn", &old.conn, &self.conn, old.conn != self.conn);
        part("disk", &old.disk, &self.disk, old.disk != self.disk);
        part("pdsk", &old.pdsk, &self.pdsk, old.pdsk != self.pdsk);
        for (name, old, new) in [
            ("aftr_isp", old.aftr_isp, self.aftr_isp),
            ("peer_isp", old.peer_isp, self.peer_isp),
            ("user_isp", old.user_isp, self.user_isp),
        ] {
            part(name, &u8::from(old), &u8::from(new), old != new);
        }
        if parts.is_empty() { None } else { Some(parts.join(" ")) }
    }

    /// The log line of a change of the suspension, the three flags taken together (S5).
    #[must_use]
    pub fn suspension_change_line(self, old: Self) -> Option<String> {
        let (old, new) = (old.is_suspended(), self.is_suspended());
        (old != new).then(|| format!("susp( {} -> {} )", u8::from(old), u8::from(new)))
    }

    /// The line of an error dump (S4); `tag` is `state` for the current vector, `wanted` for the
    /// refused one.
    #[must_use]
    pub fn dump_line(self, tag: &str) -> String {
        format!(
            " {tag} = {{ cs:{} ro:{}/{} ds:{}/{} {}{}{} }}",
            self.conn,
            self.role,
            self.peer,
            self.disk,
            self.pdsk,
            self.flag_chars(),
            if self.susp_fen { 'F' } else { '-' },
            if self.susp_nod { 'N' } else { '-' },
        )
    }

    /// The first four flag characters of `/proc/drbd` (S4): suspended, then the three pause flags.
    #[must_use]
    pub fn flag_chars(self) -> String {
        [
            if self.is_suspended() { 's' } else { 'r' },
            if self.aftr_isp { 'a' } else { '-' },
            if self.peer_isp { 'p' } else { '-' },
            if self.user_isp { 'u' } else { '-' },
        ]
        .iter()
        .collect()
    }
}

/// A state word, or a change, holds what no state has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateWordError {
    /// A field holds a number without a name (S3).
    #[error("the state word's field {field} holds {number}, which names no state")]
    UnknownNumber {
        /// The field.
        field: &'static str,
        /// The number.
        number: u32,
    },
    /// A change's mask covers a part of a field only.
    #[error("the state change's mask covers only the bits {mask:#x} of the field {field}")]
    PartialMask {
        /// The field.
        field: &'static str,
        /// The field's part of the mask.
        mask: u32,
    },
}

const ROLE_MASK: u32 = 0x3;
const CONN_MASK: u32 = 0x1f;
const DISK_MASK: u32 = 0xf;
const PEER_SHIFT: u32 = 2;
const CONN_SHIFT: u32 = 4;
const DISK_SHIFT: u32 = 9;
const PDSK_SHIFT: u32 = 13;
const SUSP_BIT: u32 = 17;
const AFTR_ISP_BIT: u32 = 18;
const PEER_ISP_BIT: u32 = 19;
const USER_ISP_BIT: u32 = 20;
const SUSP_NOD_BIT: u32 = 21;
const SUSP_FEN_BIT: u32 = 22;

const fn bit(flag: bool, at: u32) -> u32 {
    (flag as u32) << at
}

const fn is_set(word: u32, at: u32) -> bool {
    word >> at & 1 == 1
}

fn role_field(word: u32, field: &'static str, shift: u32) -> Result<Role, StateWordError> {
    let number = word >> shift & ROLE_MASK;
    Role::from_number(number).ok_or(StateWordError::UnknownNumber { field, number })
}

fn disk_field(word: u32, field: &'static str, shift: u32) -> Result<Disk, StateWordError> {
    let number = word >> shift & DISK_MASK;
    Disk::from_number(number).ok_or(StateWordError::UnknownNumber { field, number })
}

fn conn_field(word: u32) -> Result<Conn, StateWordError> {
    let number = word >> CONN_SHIFT & CONN_MASK;
    Conn::from_number(number).ok_or(StateWordError::UnknownNumber { field: "conn", number })
}

#[cfg(test)]
pub(in crate::node) use tests::any_state;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connected_pair() -> State {
        State {
            role: Role::Primary,
            peer: Role::Secondary,
            conn: Conn::Connected,
            disk: Disk::UpToDate,
            pdsk: Disk::UpToDate,
            ..State::NEW
        }
    }

    #[test]
    fn the_word_has_the_fields_where_the_wire_has_them() {
        // S4: 1 | 2<<2 | 10<<4 | 8<<9 | 8<<13
        assert_eq!(connected_pair().to_word(), 0x0001_10a9);
        let flags = State { susp: true, user_isp: true, susp_fen: true, ..connected_pair() };
        assert_eq!(flags.to_word(), 0x0001_10a9 | 1 << 17 | 1 << 20 | 1 << 22);
    }

    #[test]
    fn a_word_with_a_nameless_number_is_refused() {
        assert_eq!(
            State::from_word(24 << 4),
            Err(StateWordError::UnknownNumber { field: "conn", number: 24 })
        );
        assert_eq!(State::from_word(3), Err(StateWordError::UnknownNumber { field: "role", number: 3 }));
        assert!(State::from_word(9 << 9).is_err() && State::from_word(15 << 13).is_err());
    }

    #[test]
    fn a_new_volume_is_unconfigured() {
        // S2
        assert!(State::NEW.is_unconfigured());
        assert!(!State { role: Role::Primary, ..State::NEW }.is_unconfigured());
        assert_eq!(State::NEW.flag_chars(), "r---");
    }

    #[test]
    fn the_log_line_names_only_what_changed() {
        // S5, C3
        let lost =
            State { conn: Conn::BrokenPipe, peer: Role::Unknown, pdsk: Disk::DUnknown, ..connected_pair() };
        assert_eq!(
            lost.change_line(connected_pair()).as_deref(),
            Some("peer( Secondary -> Unknown ) conn( Connected -> BrokenPipe ) pdsk( UpToDate -> DUnknown )")
        );
        assert_eq!(lost.change_line(lost), None);
        let paused = State { user_isp: true, susp_fen: true, ..lost };
        assert_eq!(paused.change_line(lost).as_deref(), Some("user_isp( 0 -> 1 )"));
        assert_eq!(paused.suspension_change_line(lost).as_deref(), Some("susp( 0 -> 1 )"));
        assert_eq!(State { susp: true, ..paused }.suspension_change_line(paused), None);
    }

    #[test]
    fn dumps_and_flags_read_as_the_tools_expect() {
        // S4
        let state = State { susp_fen: true, peer_isp: true, ..connected_pair() };
        assert_eq!(
            state.dump_line("state"),
            " state = { cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate s-p-F- }"
        );
        assert_eq!(
            connected_pair().dump_line("wanted"),
            " wanted = { cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate r----- }"
        );
    }

    #[test]
    fn writes_are_mirrored_or_announced_as_s22_says() {
        for conn in Conn::ALL {
            for pdsk in Disk::ALL {
                let state = State { conn, pdsk, ..connected_pair() };
                let during_sync = (14..22).contains(&conn.number()) && pdsk.number() >= 4;
                assert_eq!(state.mirrors_writes(), pdsk == Disk::UpToDate || during_sync, "{state:?}");
                assert_eq!(state.announces_writes(), [22, 13].contains(&conn.number()), "{state:?}");
            }
        }
    }

    #[test]
    fn reads_stay_local_only_where_the_data_is_known_good() {
        let state = |disk, pdsk| State { disk, pdsk, ..connected_pair() };
        for disk in Disk::ALL {
            for pdsk in Disk::ALL {
                let s = state(disk, pdsk);
                assert_eq!(s.may_read_locally(false), disk == Disk::UpToDate);
                assert_eq!(s.may_read_locally(true), matches!(disk, Disk::UpToDate | Disk::Inconsistent));
                assert_eq!(s.may_read_remotely(), pdsk == Disk::UpToDate);
                assert_eq!(s.accepts_writes(), disk == Disk::UpToDate || pdsk == Disk::UpToDate);
            }
        }
    }

    #[test]
    fn an_inconsistent_peer_that_goes_away_is_no_loss() {
        // S25 and its note
        let (old, new) = (
            State { pdsk: Disk::Inconsistent, ..connected_pair() },
            State { pdsk: Disk::Inconsistent, conn: Conn::BrokenPipe, ..connected_pair() },
        );
        assert!(!new.lost_peer_data_since(old));
        let lost: Vec<_> = Disk::ALL
            .into_iter()
            .flat_map(|o| Disk::ALL.into_iter().map(move |n| (o, n)))
            .filter(|&(o, n)| {
                let at = |pdsk| State { pdsk, ..connected_pair() };
                at(n).lost_peer_data_since(at(o))
            })
            .collect();
        assert_eq!(lost.len(), 3 * 6 + 3);
        assert!(lost.contains(&(Disk::DUnknown, Disk::Outdated)));
        assert!(!lost.contains(&(Disk::DUnknown, Disk::Inconsistent)));
    }

    /// Every vector, legal or not.
    pub(in crate::node) fn any_state() -> impl Strategy<Value = State> {
        (0..3u32, 0..3u32, 0..24u32, 0..9u32, 0..9u32, 0..64u32).prop_map(
            |(role, peer, conn, disk, pdsk, flags)| {
                let word = role | peer << 2 | conn << 4 | disk << 9 | pdsk << 13 | flags << 17;
                State::from_word(word).unwrap()
            },
        )
    }

    proptest! {
        #[test]
        fn words_round_trip(state in any_state()) {
            prop_assert_eq!(State::from_word(state.to_word()), Ok(state));
        }

        #[test]
        fn no_word_panics(word: u32) {
            if let Ok(state) = State::from_word(word) {
                prop_assert_eq!(state.to_word(), word & 0x007f_ffff);
            }
        }
    }
}
