//! The snapshot of a resource that `status`, `/proc/drbd` and the metrics are made of.

use serde::{Deserialize, Serialize};

/// A resource as seen from this node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// Name of the resource.
    pub name: String,
    /// State of the connection, in the tools' word (`StandAlone`, `WFConnection`, `Connected` …).
    pub cstate: String,
    /// Own and peer's address, while a connection is configured.
    pub local: Option<String>,
    /// The peer's address.
    pub peer: Option<String>,
    /// Replication protocol: `A`, `B` or `C`.
    pub protocol: char,
    /// Agreed protocol version while connected, else 0.
    pub agreed_version: u8,
    /// Seconds since the last connection ended, if there was one since the resource is up.
    #[serde(default)]
    pub parted_s: Option<u64>,
    /// Which flags suspend I/O: any of `user`, `no-data`, `fencing`.
    pub suspended: Vec<String>,
    /// The volumes, by number.
    pub volumes: Vec<VolumeStatus>,
}

/// A volume as seen from this node at one moment. States are the tools' words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Number in the resource.
    pub volume: u16,
    /// Device number on this node.
    pub minor: u32,
    /// The whole state word (S4).
    pub state_word: u32,
    /// Connection state of this volume.
    pub cstate: String,
    /// Own role.
    pub role: String,
    /// The peer's role.
    pub peer_role: String,
    /// Own disk state.
    pub disk: String,
    /// The peer's disk state.
    pub peer_disk: String,
    /// Why the resync waits: the flags a, p, u of S4.
    pub paused: String,
    /// Size of the replicated device in sectors, 0 if unknown.
    pub size_sectors: u64,
    /// Path of the backing device, empty without a disk.
    pub backing: String,
    /// Current, bitmap and the two history UUIDs.
    pub uuids: [u64; 4],
    /// The metadata flag word (S23).
    pub md_flags: u32,
    /// This node crashed as a Primary that had no peer, and has met none since (S86).
    #[serde(default)]
    pub degraded: bool,
    /// How many clients have it open.
    pub open_count: u32,
    /// The resync that runs, if one does.
    pub resync: Option<ResyncStatus>,
    /// The peer's copy as the last handshake showed it.
    #[serde(default)]
    pub peer_seen: Option<PeerSeen>,
    /// Where this copy may differ, while the peer is not connected: KiB out of sync in each of
    /// [`MAP_ZONES`] equal parts of the device. Empty if nothing is, or if it is not known.
    #[serde(default)]
    pub out_of_sync_map: Vec<u64>,
    /// Counters of `/proc/drbd` (datapath.md 12.4).
    pub counters: Counters,
}

/// Parts of the device in [`VolumeStatus::out_of_sync_map`].
pub const MAP_ZONES: u64 = 64;

/// The peer's copy as a handshake showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSeen {
    /// Its current, bitmap and history UUIDs.
    pub uuids: [u64; 4],
    /// KiB that its bitmap has out of sync.
    pub out_of_sync_kib: u64,
    /// Seconds since then.
    pub ago_s: u64,
    /// What the handshake found.
    pub finding: Finding,
}

/// What the last handshake found, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Both changed their data since they had the same, and no policy chose one (S66.9).
    SplitBrain,
    /// They never had the same data (S66.2).
    Unrelated,
    /// The side with the newer data is not in a state to give it (S66.10).
    SourceInconsistent,
    /// The side whose data would be discarded is Primary (S66.11).
    TargetPrimary,
    /// Refused for another reason.
    Refused,
    /// The copies are the same, or one follows from the other.
    Agreed,
}

/// A resync (or verify) under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResyncStatus {
    /// Bits to sync when it began.
    pub total_bits: u64,
    /// Bits still to sync.
    pub left_bits: u64,
    /// Bits that failed.
    pub failed_bits: u64,
    /// Seconds since it began, pauses included.
    pub elapsed_s: u64,
    /// Seconds it was paused.
    pub paused_s: u64,
    /// Speed of late, in KiB/s (D136).
    pub speed_kib_s: u64,
    /// Mean speed in KiB/s.
    pub mean_kib_s: u64,
    /// What the controller asks for in KiB/s; 0 on the source.
    pub want_kib_s: u64,
    /// Estimate of the seconds left, if there is one.
    pub finish_s: Option<u64>,
    /// Whether nothing moved for long.
    pub stalled: bool,
}

/// Counters as `/proc/drbd` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// KiB sent to the peer.
    pub ns: u64,
    /// KiB received from the peer.
    pub nr: u64,
    /// KiB written to the disk.
    pub dw: u64,
    /// KiB read from the disk.
    pub dr: u64,
    /// Activity-log transactions written.
    pub al: u64,
    /// Bitmap writes.
    pub bm: u64,
    /// Open references on the local disk.
    pub lo: u64,
    /// Requests the peer has not answered.
    pub pe: u64,
    /// Requests of the peer we have not answered.
    pub ua: u64,
    /// Clients' requests under way.
    pub ap: u64,
    /// Epochs alive.
    pub ep: u64,
    /// Write ordering: `b`, `f`, `d` or `n`.
    pub wo: char,
    /// Out of sync, in KiB.
    pub oos: u64,
}
