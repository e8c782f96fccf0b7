//! A wish to change some fields of a state vector (S7): the "mask and value" of the specification.

use super::{
    AFTR_ISP_BIT, CONN_MASK, CONN_SHIFT, Conn, DISK_MASK, DISK_SHIFT, Disk, PDSK_SHIFT, PEER_ISP_BIT,
    PEER_SHIFT, ROLE_MASK, Role, SUSP_BIT, SUSP_FEN_BIT, SUSP_NOD_BIT, State, StateWordError, USER_ISP_BIT,
    conn_field, disk_field, is_set, role_field,
};

/// New values for some fields; `None` leaves a field as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StateChange {
    /// Own role.
    pub role: Option<Role>,
    /// The peer's role.
    pub peer: Option<Role>,
    /// Connection state.
    pub conn: Option<Conn>,
    /// Own disk.
    pub disk: Option<Disk>,
    /// The peer's disk.
    pub pdsk: Option<Disk>,
    /// Suspended by the user.
    pub susp: Option<bool>,
    /// Paused for a dependency.
    pub aftr_isp: Option<bool>,
    /// Paused by the peer.
    pub peer_isp: Option<bool>,
    /// Paused by the user.
    pub user_isp: Option<bool>,
    /// Suspended for want of data.
    pub susp_nod: Option<bool>,
    /// Suspended for fencing.
    pub susp_fen: Option<bool>,
}

impl StateChange {
    /// Changes nothing.
    pub const NOTHING: Self = Self {
        role: None,
        peer: None,
        conn: None,
        disk: None,
        pdsk: None,
        susp: None,
        aftr_isp: None,
        peer_isp: None,
        user_isp: None,
        susp_nod: None,
        susp_fen: None,
    };

    /// A change of the own role.
    #[must_use]
    pub const fn role(role: Role) -> Self {
        Self { role: Some(role), ..Self::NOTHING }
    }

    /// A change of the connection state.
    #[must_use]
    pub const fn conn(conn: Conn) -> Self {
        Self { conn: Some(conn), ..Self::NOTHING }
    }

    /// A change of the own disk.
    #[must_use]
    pub const fn disk(disk: Disk) -> Self {
        Self { disk: Some(disk), ..Self::NOTHING }
    }

    /// A change of the peer's disk.
    #[must_use]
    pub const fn pdsk(pdsk: Disk) -> Self {
        Self { pdsk: Some(pdsk), ..Self::NOTHING }
    }

    /// The change from whatever there is to exactly this vector.
    #[must_use]
    pub const fn to(state: State) -> Self {
        Self {
            role: Some(state.role),
            peer: Some(state.peer),
            conn: Some(state.conn),
            disk: Some(state.disk),
            pdsk: Some(state.pdsk),
            susp: Some(state.susp),
            aftr_isp: Some(state.aftr_isp),
            peer_isp: Some(state.peer_isp),
            user_isp: Some(state.user_isp),
            susp_nod: Some(state.susp_nod),
            susp_fen: Some(state.susp_fen),
        }
    }

    /// `state` with the wish in place, before any correction (S9).
    #[must_use]
    pub fn apply(self, state: State) -> State {
        State {
            role: self.role.unwrap_or(state.role),
            peer: self.peer.unwrap_or(state.peer),
            conn: self.conn.unwrap_or(state.conn),
            disk: self.disk.unwrap_or(state.disk),
            pdsk: self.pdsk.unwrap_or(state.pdsk),
            susp: self.susp.unwrap_or(state.susp),
            aftr_isp: self.aftr_isp.unwrap_or(state.aftr_isp),
            peer_isp: self.peer_isp.unwrap_or(state.peer_isp),
            user_isp: self.user_isp.unwrap_or(state.user_isp),
            susp_nod: self.susp_nod.unwrap_or(state.susp_nod),
            susp_fen: self.susp_fen.unwrap_or(state.susp_fen),
        }
    }

    /// The same wish as the other node sees it (S19). The sender's suspension and pause flags have
    /// no meaning here beyond `peer_isp`, and are left out.
    #[must_use]
    pub fn mirrored(self) -> Self {
        let peer_isp = match (self.aftr_isp, self.user_isp) {
            (None, None) => None,
            (aftr, user) => Some(aftr == Some(true) || user == Some(true)),
        };
        Self {
            role: self.peer,
            peer: self.role,
            conn: self.conn.map(mirrored_conn),
            disk: self.pdsk,
            pdsk: self.disk,
            peer_isp,
            ..Self::NOTHING
        }
    }

    /// Mask and value words for the wire (S4, S17).
    #[must_use]
    pub fn to_words(self) -> (u32, u32) {
        let flags = [
            (self.susp, SUSP_BIT),
            (self.aftr_isp, AFTR_ISP_BIT),
            (self.peer_isp, PEER_ISP_BIT),
            (self.user_isp, USER_ISP_BIT),
            (self.susp_nod, SUSP_NOD_BIT),
            (self.susp_fen, SUSP_FEN_BIT),
        ];
        let fields = [
            (self.role.map(Role::number), ROLE_MASK, 0),
            (self.peer.map(Role::number), ROLE_MASK, PEER_SHIFT),
            (self.conn.map(Conn::number), CONN_MASK, CONN_SHIFT),
            (self.disk.map(Disk::number), DISK_MASK, DISK_SHIFT),
            (self.pdsk.map(Disk::number), DISK_MASK, PDSK_SHIFT),
        ]
        .into_iter()
        .chain(flags.map(|(flag, at)| (flag.map(u32::from), 1, at)));
        fields.fold((0, 0), |(mask, value), (field, bits, shift)| match field {
            Some(number) => (mask | bits << shift, value | number << shift),
            None => (mask, value),
        })
    }

    /// Reads the mask and value words of the peer's request (S18).
    ///
    /// # Errors
    /// [`StateWordError`] if a masked field holds a number without a name, or the mask covers a
    /// field in part.
    pub fn from_words(mask: u32, value: u32) -> Result<Self, StateWordError> {
        let masked = |field, bits: u32, shift: u32| match mask >> shift & bits {
            0 => Ok(false),
            part if part == bits => Ok(true),
            part => Err(StateWordError::PartialMask { field, mask: part }),
        };
        let flag = |at| is_set(mask, at).then(|| is_set(value, at));
        let role = |field, shift| {
            masked(field, ROLE_MASK, shift)?.then(|| role_field(value, field, shift)).transpose()
        };
        let disk = |field, shift| {
            masked(field, DISK_MASK, shift)?.then(|| disk_field(value, field, shift)).transpose()
        };
        Ok(Self {
            role: role("role", 0)?,
            peer: role("peer", PEER_SHIFT)?,
            conn: masked("conn", CONN_MASK, CONN_SHIFT)?.then(|| conn_field(value)).transpose()?,
            disk: disk("disk", DISK_SHIFT)?,
            pdsk: disk("pdsk", PDSK_SHIFT)?,
            susp: flag(SUSP_BIT),
            aftr_isp: flag(AFTR_ISP_BIT),
            peer_isp: flag(PEER_ISP_BIT),
            user_isp: flag(USER_ISP_BIT),
            susp_nod: flag(SUSP_NOD_BIT),
            susp_fen: flag(SUSP_FEN_BIT),
        })
    }
}

/// The peer's half of a requested connection state (S19). What has no half becomes 0.
const fn mirrored_conn(conn: Conn) -> Conn {
    match conn {
        Conn::WFReportParams => Conn::WFReportParams,
        Conn::Connected => Conn::Connected,
        Conn::StartingSyncS => Conn::StartingSyncT,
        Conn::StartingSyncT => Conn::StartingSyncS,
        Conn::Disconnecting => Conn::TearDown,
        Conn::VerifyS => Conn::VerifyT,
        Conn::StandAlone
        | Conn::Unconnected
        | Conn::Timeout
        | Conn::BrokenPipe
        | Conn::NetworkFailure
        | Conn::ProtocolError
        | Conn::TearDown
        | Conn::WFConnection
        | Conn::WFBitMapS
        | Conn::WFBitMapT
        | Conn::WFSyncUUID
        | Conn::SyncSource
        | Conn::SyncTarget
        | Conn::VerifyT
        | Conn::PausedSyncS
        | Conn::PausedSyncT
        | Conn::Ahead
        | Conn::Behind => Conn::StandAlone,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node::state::any_state;

    #[test]
    fn a_promotion_is_the_peers_promotion_in_the_mirror() {
        // S19
        let wish = StateChange { disk: Some(Disk::UpToDate), ..StateChange::role(Role::Primary) };
        let seen = wish.mirrored();
        assert_eq!(
            seen,
            StateChange { peer: Some(Role::Primary), pdsk: Some(Disk::UpToDate), ..StateChange::NOTHING }
        );
        assert_eq!(seen.mirrored(), wish);
    }

    #[test]
    fn a_graceful_disconnect_tears_down_and_may_outdate_the_other_side() {
        // S19, S41
        let wish = StateChange { pdsk: Some(Disk::Outdated), ..StateChange::conn(Conn::Disconnecting) };
        assert_eq!(
            wish.mirrored(),
            StateChange { disk: Some(Disk::Outdated), ..StateChange::conn(Conn::TearDown) }
        );
    }

    #[test]
    fn connection_states_mirror_as_the_table_says() {
        let pairs = [(9, 9), (10, 10), (11, 12), (12, 11), (1, 7), (18, 19)];
        for conn in Conn::ALL {
            let expected = pairs.iter().find(|(from, _)| *from == conn.number()).map_or(0, |(_, to)| *to);
            assert_eq!(mirrored_conn(conn).number(), expected, "{conn}");
        }
    }

    #[test]
    fn a_pause_of_either_kind_is_the_peers_pause() {
        let wish = StateChange { user_isp: Some(true), aftr_isp: Some(false), ..StateChange::NOTHING };
        assert_eq!(wish.mirrored(), StateChange { peer_isp: Some(true), ..StateChange::NOTHING });
    }

    #[test]
    fn masks_are_whole_fields() {
        let (mask, value) = StateChange::role(Role::Primary).to_words();
        assert_eq!((mask, value), (3, 1));
        assert_eq!(StateChange::conn(Conn::Disconnecting).to_words(), (0x1f0, 0x10));
        assert_eq!(
            StateChange::from_words(1, 1),
            Err(StateWordError::PartialMask { field: "role", mask: 1 })
        );
        assert!(StateChange::from_words(0x1f0, 0x1f0).is_err());
        assert_eq!(StateChange::from_words(0, u32::MAX), Ok(StateChange::NOTHING));
    }

    proptest! {
        #[test]
        fn words_round_trip_and_apply_like_masks(from in any_state(), to in any_state(), keep: u32) {
            let mut wish = StateChange::to(to);
            if keep & 1 != 0 { wish.role = None; }
            if keep & 2 != 0 { wish.conn = None; }
            if keep & 4 != 0 { wish.disk = None; }
            if keep & 8 != 0 { wish.pdsk = None; }
            if keep & 16 != 0 { wish.susp_fen = None; }
            if keep & 32 != 0 { wish.user_isp = None; }
            let (mask, value) = wish.to_words();
            prop_assert_eq!(StateChange::from_words(mask, value), Ok(wish));
            prop_assert_eq!(wish.apply(from).to_word(), from.to_word() & !mask | value & mask);
        }

        #[test]
        fn no_words_panic(mask: u32, value: u32) {
            if let Ok(wish) = StateChange::from_words(mask, value) {
                let _ = wish.mirrored().to_words();
            }
        }
    }
}
