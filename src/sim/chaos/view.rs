//! What a node shows of itself.

use crate::node::status::ResourceStatus;
use crate::units::VolumeId;

/// A node as seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// The machine is up, and has the resource.
    pub(super) there: bool,
    pub(super) conn: String,
    pub(super) role: String,
    pub(super) disk: String,
    pub(super) peer_disk: String,
    pub(super) suspended: Vec<String>,
    pub(super) uuids: [u64; 4],
    /// Whatever is under way: disk operations, requests sent to the peer and of the peer, clients' ones,
    /// epochs beside the current one.
    pub(super) under_way: [u64; 5],
    /// The size of the device in sectors.
    pub(super) sectors: u64,
    /// Blocks out of sync.
    pub(super) bits: u64,
}

impl View {
    /// What a node says of a volume, if it is up and says something.
    pub(super) fn of(status: Option<&ResourceStatus>, volume: VolumeId) -> Self {
        let Some(status) = status else { return Self::default() };
        let Some(v) = status.volumes.iter().find(|v| v.volume == volume.0).cloned() else {
            return Self { there: true, ..Self::default() };
        };
        let c = v.counters;
        Self {
            there: true,
            conn: v.cstate,
            role: v.role,
            disk: v.disk,
            peer_disk: v.peer_disk,
            suspended: status.suspended.clone(),
            uuids: v.uuids,
            under_way: [c.lo, c.pe, c.ua, c.ap, c.ep.saturating_sub(1)],
            sectors: v.size_sectors,
            bits: c.oos / 4,
        }
    }

    pub(super) fn is_primary(&self) -> bool {
        self.role == "Primary"
    }

    /// It has no disk attached, or says nothing.
    pub(super) fn has_no_disk(&self) -> bool {
        matches!(self.disk.as_str(), "Diskless" | "")
    }

    /// Its disk is given up.
    pub(super) fn has_failed_disk(&self) -> bool {
        matches!(self.disk.as_str(), "Failed" | "Diskless")
    }

    /// Its disk has what it was given, and keeps it.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.disk.as_str(), "Consistent" | "UpToDate" | "Negotiating")
    }

    pub(super) fn is_connected(&self) -> bool {
        ["Connected", "WFBitMap", "Verify"].iter().any(|word| self.conn.starts_with(word))
            || self.conn.contains("Sync")
    }

    pub(super) fn is_target(&self) -> bool {
        matches!(self.conn.as_str(), "WFBitMapT" | "WFSyncUUID" | "SyncTarget" | "PausedSyncT")
    }

    /// Without a connection, and done with what the last one left.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self.conn.as_str(), "StandAlone" | "WFConnection")
    }

    /// Connected with both disks good: writes go to both.
    pub(super) fn is_whole(&self) -> bool {
        self.conn == "Connected" && self.disk == "UpToDate" && self.peer_disk == "UpToDate"
    }

    /// Whether the generations of two disks have nothing in common that a handshake looks at (S64, rule 100).
    pub(super) fn is_unrelated(&self, other: &Self) -> bool {
        let [a, b] = [self, other].map(|view| view.uuids.map(|uuid| uuid & !1));
        let descends = |child: [u64; 4], parent: [u64; 4]| child[1..].contains(&parent[0]);
        let fresh = |uuids: [u64; 4]| uuids[0] <= 4;
        let forked = a[1] != 0 && a[1] == b[1];
        let history = a[2..].iter().any(|uuid| b[2..].contains(uuid));
        let related = fresh(a) || fresh(b) || a[0] == b[0] || forked || history;
        !related && !descends(a, b) && !descends(b, a)
    }

    /// As `/proc/drbd` shows it.
    pub(super) fn words(&self) -> String {
        if !self.there {
            return "absent".into();
        }
        let suspended =
            if self.suspended.is_empty() { String::new() } else { format!(" s:{:?}", self.suspended) };
        let [c, b, ..] = self.uuids;
        format!(
            "{} {} {}/{} {c:04x}:{b:04x} oos {}{suspended}",
            self.conn,
            self.role,
            self.disk,
            self.peer_disk,
            self.bits,
            c = c >> 48,
            b = b >> 48
        )
    }
}
