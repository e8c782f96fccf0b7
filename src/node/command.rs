//! Administrators' commands and their outcomes (states.md section 3).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::options::{DiskOptions, NetOptions, ResourceOptions};
use crate::units::{Sector, VolumeId};

/// Names a command under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What an administrator asks of one resource.
#[derive(Clone, Debug)]
pub enum Command {
    /// Add a volume, without a disk.
    NewMinor {
        /// Its number in the resource.
        volume: VolumeId,
        /// Its device number on this node.
        minor: u32,
    },
    /// Remove a volume that has no disk and is Secondary.
    DelMinor {
        /// The volume.
        volume: VolumeId,
    },
    /// Take the disk into use; the shell has opened it already.
    Attach {
        /// The volume.
        volume: VolumeId,
        /// What the shell found out about the devices.
        disk: DiskFacts,
        /// The disk options.
        options: Box<DiskOptions>,
    },
    /// Stop using the disk.
    Detach {
        /// The volume.
        volume: VolumeId,
        /// Do not wait for anything.
        force: bool,
    },
    /// Keep trying to connect.
    Connect {
        /// The node's own address and port.
        local: SocketAddr,
        /// The peer's.
        peer: SocketAddr,
        /// The net options.
        options: Box<NetOptions>,
        /// This node's data loses a split brain (S76).
        discard_my_data: bool,
        /// Only find out what would happen (S39).
        tentative: bool,
    },
    /// Drop the connection and do not try again.
    Disconnect {
        /// Do not ask the peer.
        force: bool,
    },
    /// Become Primary.
    Primary {
        /// The volume.
        volume: VolumeId,
        /// Take the local data for UpToDate.
        force: bool,
    },
    /// Become Secondary.
    Secondary {
        /// The volume.
        volume: VolumeId,
    },
    /// Mark the local data Outdated.
    Outdate {
        /// The volume.
        volume: VolumeId,
    },
    /// Give up the local data for the peer's.
    Invalidate {
        /// The volume.
        volume: VolumeId,
    },
    /// Give up the peer's data for the local data.
    InvalidateRemote {
        /// The volume.
        volume: VolumeId,
    },
    /// Begin a new data generation (S48).
    NewCurrentUuid {
        /// The volume.
        volume: VolumeId,
        /// Also declare both disks equal.
        clear_bitmap: bool,
    },
    /// Hold the resync.
    PauseSync {
        /// The volume.
        volume: VolumeId,
    },
    /// Go on with the resync.
    ResumeSync {
        /// The volume.
        volume: VolumeId,
    },
    /// Compare both disks (S47). In sectors.
    Verify {
        /// The volume.
        volume: VolumeId,
        /// Where to begin; where the last one came to if not given.
        start: Option<Sector>,
        /// Where to stop; the end if not given.
        stop: Option<Sector>,
    },
    /// Hold clients' requests.
    SuspendIo {
        /// The volume.
        volume: VolumeId,
    },
    /// Let clients' requests go on.
    ResumeIo {
        /// The volume.
        volume: VolumeId,
    },
    /// Change the disk options of an attached volume.
    ChangeDiskOptions {
        /// The volume.
        volume: VolumeId,
        /// All of them, new.
        options: Box<DiskOptions>,
    },
    /// Change the net options.
    ChangeNetOptions {
        /// All of them, new.
        options: Box<NetOptions>,
    },
    /// Change the resource options.
    ChangeResourceOptions {
        /// All of them, new.
        options: Box<ResourceOptions>,
    },
    /// A client wants to open the volume; counts as a user of the device until `Close`.
    Open {
        /// The volume.
        volume: VolumeId,
        /// Whether it only wants to read.
        read_only: bool,
    },
    /// A client that had it open is gone. Has no outcome.
    Close {
        /// The volume.
        volume: VolumeId,
    },
    /// Stop everything in good order, for the end of the daemon or `down`: demote, disconnect, detach.
    Down,
}

/// What the shell found out about a disk before the core attaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// Size of the data device in bytes.
    pub data_bytes: u64,
    /// Size of the metadata device in bytes; that of the data device if internal.
    pub meta_bytes: u64,
    /// Where the metadata lies.
    pub meta: MetaPlace,
    /// Logical block size of the data device in bytes (512 or 4096).
    pub logical_block_bytes: u32,
    /// Physical block size in bytes.
    pub physical_block_bytes: u32,
    /// Smallest efficient I/O in bytes, 0 if unknown.
    pub io_min_bytes: u32,
    /// Best I/O size in bytes, 0 if unknown.
    pub io_opt_bytes: u32,
    /// Largest single I/O the device takes, in bytes.
    pub max_io_bytes: u32,
    /// Whether discards give space back.
    pub discards: bool,
    /// Whether data and metadata are on different devices.
    pub separate_meta: bool,
    /// Path of the backing device, for messages.
    pub path: String,
}

/// Where a volume's metadata lies (metadata.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaPlace {
    /// At the end of the data device.
    Internal,
    /// A metadata device of its own.
    FlexExternal,
    /// A fixed slot of 128 MiB on a shared metadata device.
    Indexed(u32),
}

/// What came of a command: the number that `drbdsetup` maps to an exit code and a text (S35), and
/// further lines for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// 101 and 1 to 4: done; 0 and below: the state machine refused; 102 to 170: configuration errors.
    pub code: i32,
    /// More about it, in words.
    pub info: Vec<String>,
}

impl Outcome {
    /// A configuration command that succeeded.
    pub const DONE: i32 = 101;

    /// An outcome with no further words.
    #[must_use]
    pub const fn of(code: i32) -> Self {
        Self { code, info: Vec::new() }
    }

    /// An outcome with one line for the user.
    #[must_use]
    pub fn with(code: i32, info: impl Into<String>) -> Self {
        Self { code, info: vec![info.into()] }
    }

    /// Whether what was asked was done, or was so already.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.code, 1..=4 | Self::DONE)
    }
}
