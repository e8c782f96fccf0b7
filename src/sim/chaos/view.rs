//! What a node shows of itself.

use super::super::events::HostId;
use super::super::world::World;

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
    /// Blocks out of sync.
    pub(super) bits: u64,
}

impl View {
    pub(super) fn of(world: &mut World, host: HostId) -> Self {
        let Some(status) = world.status(host) else { return Self::default() };
        let Some(v) = status.volumes.into_iter().next() else {
            return Self { there: true, ..Self::default() };
        };
        let c = v.counters;
        Self {
            there: true,
            conn: v.cstate,
            role: v.role,
            disk: v.disk,
            peer_disk: v.peer_disk,
            suspended: status.suspended,
            uuids: v.uuids,
            under_way: [c.lo, c.pe, c.ua, c.ap, c.ep.saturating_sub(1)],
            bits: c.oos / 4,
        }
    }

    pub(super) fn is_primary(&self) -> bool {
        self.role == "Primary"
    }

    pub(super) fn is_connected(&self) -> bool {
        self.conn == "Connected" || self.conn.contains("Sync") || self.conn.starts_with("WFBitMap")
    }

    pub(super) fn is_target(&self) -> bool {
        matches!(self.conn.as_str(), "WFBitMapT" | "WFSyncUUID" | "SyncTarget" | "PausedSyncT")
    }

    /// Connected with both disks good: writes go to both.
    pub(super) fn is_whole(&self) -> bool {
        self.conn == "Connected" && self.disk == "UpToDate" && self.peer_disk == "UpToDate"
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
