//! A node with an older disk meets a Primary without one (S31, S90).
//!
//! A Primary that has no disk knows whose data its clients have seen, and does not tell: it has no P_UUIDS to send,
//! and goes when those of the peer are others. Until then the state rules would have called the peer's disk UpToDate,
//! and a new data generation would part it for good from the data that it lacks (Z5, A9, A10). So a disk that may be
//! old stays what it is until the Primary has let it in: anything that the Primary says after it has looked at the
//! UUIDs proves that, and an empty state change makes it say something. A disk that is attached while the two are
//! connected needs none: the Primary answers what it is told of it.
//!
//! ```text
//!  the older disk                                 Primary, Diskless
//!  P_UUIDS, P_STATE (Outdated) ─────────────────► other UUIDs: StandAlone
//!                  ◄───────── P_STATE (Diskless)  the same: Connected
//!  P_STATE_CHG_REQ (nothing) ───────────────────►
//!    UpToDate      ◄──────────────── any answer
//! ```

use super::Node;
use super::link::ChangeReply;
use super::state::{Conn, Disk, Role, State};
use crate::units::VolumeId;
use crate::wire::packet::{Packet, StateWord};

impl Node {
    /// Whether what the peer's state says of this disk has to wait until the peer has let this node in. If so, it is
    /// asked, and its state is kept.
    pub(super) fn waits_for_acceptance(&mut self, volume: VolumeId, word: u32, peer: State) -> bool {
        let Some(v) = self.volumes.get_mut(&volume) else { return false };
        let may_be_old = matches!(v.state.disk, Disk::Outdated | Disk::Consistent | Disk::UpToDate);
        let meets_clients = peer.role == Role::Primary && peer.disk <= Disk::Failed;
        if v.state.conn >= Conn::Connected && v.state.disk == Disk::Negotiating {
            // Said before it heard that this disk is back; that it answers.
            return meets_clients && peer.pdsk <= Disk::Failed;
        }
        if v.state.conn != Conn::WFReportParams
            || !may_be_old
            || !meets_clients
            || peer.conn >= Conn::Connected
        {
            return false;
        }
        let asked = v.unaccepted.replace(word).is_some();
        if !asked {
            let nothing = Packet::StateChgReq { mask: StateWord(0), value: StateWord(0) };
            self.send_data(volume, nothing, None);
            self.link_mut().replies.insert(Some(volume), ChangeReply::Unneeded);
        }
        true
    }

    /// The peer has said something that it says only to whom it has let in.
    pub(super) fn accepted(&mut self, volume: VolumeId) {
        let word = self.volumes.get_mut(&volume).and_then(|v| v.unaccepted.take());
        let Some(Ok(peer)) = word.map(State::from_word) else { return };
        let Some(os) = self.volumes.get(&volume).map(|v| v.state) else { return };
        if os.conn == Conn::WFReportParams {
            self.accept_state(volume, os, peer, peer.disk, Conn::Connected);
        }
    }
}
