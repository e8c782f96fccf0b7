//! What is remembered of the peer's copy when it is gone: administrators resolve a split brain
//! without the other side in sight.

use super::Node;
use super::decision::handshake::{Outcome, Refusal};
use super::state::Conn;
use super::status::{Finding, MAP_ZONES, PeerSeen};
use super::volume::Volume;
use crate::units::{BitIndex, Moment, VolumeId};

/// The peer's copy at a handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    uuids: [u64; 4],
    bits: u64,
    at: Moment,
    finding: Finding,
}

impl Node {
    /// Remembers the peer's copy, and what the handshake made of it.
    pub(super) fn note_peer_copy(&mut self, volume: VolumeId, outcome: Outcome) {
        let finding = match outcome {
            Outcome::Refused(Refusal::SplitBrain) => Finding::SplitBrain,
            Outcome::Refused(Refusal::Unrelated) => Finding::Unrelated,
            Outcome::Refused(Refusal::SourceInconsistent) => Finding::SourceInconsistent,
            Outcome::Refused(Refusal::TargetPrimary) => Finding::TargetPrimary,
            Outcome::Refused(Refusal::TooOld | Refusal::Tentative) => Finding::Refused,
            Outcome::Connected | Outcome::SyncSource { .. } | Outcome::SyncTarget { .. } => Finding::Agreed,
        };
        let at = self.now;
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if let Some(peer) = v.peer_uuids {
            let uuids = [peer.current, peer.bitmap, peer.history[0], peer.history[1]];
            v.peer_seen = Some(Seen { uuids, bits: peer.bits, at, finding });
        }
    }
}

impl Volume {
    pub(super) fn peer_seen_status(&self, now: Moment) -> Option<PeerSeen> {
        let Seen { uuids, bits, at, finding } = self.peer_seen?;
        Some(PeerSeen { uuids, out_of_sync_kib: bits * 4, ago_s: now.since(at).as_secs(), finding })
    }

    /// KiB out of sync in each part of the device, while nobody mends that.
    pub(super) fn out_of_sync_map(&self) -> Vec<u64> {
        let Some(disk) = self.disk.as_deref() else { return Vec::new() };
        let bits = disk.bitmap.bits();
        if self.state.conn >= Conn::Connected || disk.bitmap.count() == 0 {
            return Vec::new();
        }
        let edge = |zone: u64| (u128::from(bits) * u128::from(zone) / u128::from(MAP_ZONES)) as u64;
        (0..MAP_ZONES)
            .map(|zone| match (edge(zone), edge(zone + 1)) {
                (first, end) if first < end => {
                    disk.bitmap.count_range(BitIndex::new(first), BitIndex::new(end - 1)) * 4
                }
                _ => 0,
            })
            .collect()
    }
}
