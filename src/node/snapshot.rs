//! The status of a resource, made on demand.

use super::Node;
use super::state::Conn;
use super::status::{ResourceStatus, VolumeStatus};
use super::volume::Volume;
use crate::config::options::Protocol;
use crate::units::{BitIndex, VolumeId};

impl Node {
    /// The resource as seen from here now.
    #[must_use]
    pub fn status(&self) -> ResourceStatus {
        let link = self.link();
        let config = link.config.as_ref();
        let state = self.volumes.values().next().map(|v| v.state);
        let flag = |set: Option<bool>, word: &str| set.unwrap_or(false).then(|| word.to_owned());
        ResourceStatus {
            name: self.name.clone(),
            cstate: link.cstate.connection_name().to_owned(),
            local: config.map(|config| config.local.to_string()),
            peer: config.map(|config| config.peer.to_string()),
            protocol: match link.protocol() {
                Protocol::A => 'A',
                Protocol::B => 'B',
                Protocol::C => 'C',
            },
            agreed_version: link.apv,
            parted_s: link.parted_at.map(|at| self.now.since(at).as_secs()),
            suspended: [
                flag(state.map(|s| s.susp), "user"),
                flag(state.map(|s| s.susp_nod), "no-data"),
                flag(state.map(|s| s.susp_fen), "fencing"),
            ]
            .into_iter()
            .flatten()
            .collect(),
            volumes: self.volumes.values().map(|v| self.volume_status(v)).collect(),
        }
    }

    /// Whether some client has a device open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.volumes.values().any(|v| v.open_count > 0)
    }

    /// Whether the node knows of a block that its peer's copy may differ; `None` without a disk.
    #[must_use]
    pub fn out_of_sync(&self, volume: VolumeId, block: BitIndex) -> Option<bool> {
        let disk = self.volumes.get(&volume)?.disk.as_ref()?;
        Some(disk.bitmap.is_set(block))
    }

    /// Whether the volume's bitmap counts for a target that has taken its sync UUID over, as far as this node can tell.
    #[must_use]
    pub fn is_sync_uuid_taken(&self, volume: VolumeId) -> bool {
        self.volumes.get(&volume).is_none_or(|v| !v.marks.sync_uuid_is_new)
    }

    /// Whether a request is not forgotten yet: its bits are not what they will be, as its epoch is not acked.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        self.log.iter().next().is_some()
    }

    /// Whether no request is answered at the moment, whatever comes of it (I7).
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        !self.volumes.is_empty() && self.volumes.values().all(|v| v.state.is_suspended())
    }

    fn volume_status(&self, v: &Volume) -> VolumeStatus {
        let state = v.state;
        let mut counters = v.counters;
        counters.oos = v.bits_set() * 4;
        counters.ap = u64::from(v.live);
        counters.ep = if state.conn >= Conn::Connected { self.link().epochs.len() as u64 } else { 1 };
        counters.wo = self.write_ordering();
        VolumeStatus {
            volume: v.id.0,
            minor: v.minor,
            state_word: state.to_word(),
            cstate: state.conn.to_string(),
            role: state.role.to_string(),
            peer_role: state.peer.to_string(),
            disk: state.disk.to_string(),
            peer_disk: state.pdsk.to_string(),
            paused: [(state.aftr_isp, 'a'), (state.peer_isp, 'p'), (state.user_isp, 'u')]
                .into_iter()
                .filter_map(|(set, letter)| set.then_some(letter))
                .collect(),
            size_sectors: v.end.get(),
            backing: v.disk.as_ref().map_or_else(String::new, |disk| disk.facts.path.clone()),
            uuids: v.uuids(),
            md_flags: v.disk.as_ref().map_or(0, |disk| disk.flags()),
            degraded: v.marks.use_degr_wfc,
            open_count: v.open_count,
            resync: v
                .resync
                .as_ref()
                .filter(|_| state.conn.is_sync())
                .map(|resync| {
                    let want =
                        if state.conn == Conn::SyncTarget { resync.controller.want_kib_s() } else { 0 };
                    resync.status(self.now, v.bits_set(), want)
                })
                .or_else(|| v.verify.as_ref().map(|verify| verify.status(self.now))),
            peer_seen: v.peer_seen_status(self.now),
            out_of_sync_map: v.out_of_sync_map(),
            counters,
        }
    }

    /// `f` flush, `d` drain: what the barrier acks of this node promise (D62).
    fn write_ordering(&self) -> char {
        let options = || self.volumes.values().filter_map(|v| v.disk.as_ref()).map(|disk| &disk.options);
        if options().all(|o| o.disk_flushes) {
            'f'
        } else if options().all(|o| o.disk_drain || o.disk_flushes) {
            'd'
        } else {
            'n'
        }
    }
}
