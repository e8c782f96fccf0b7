//! The calls and answers of the control socket: one JSON object a line, pure values.
//!
//! The calls are modelled on `drbdsetup`'s commands (cli.md L59) and carry options the way a
//! command line does, as names and values: the daemon checks them against the same table.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::node::command::{MetaPlace, Outcome};
use crate::node::status::ResourceStatus;

/// Longest line of either side in bytes, the line break included.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// Largest device minor number (C51).
pub const MAX_MINOR: u32 = 1_048_575;
/// Largest volume number (C51).
pub const MAX_VOLUME: u16 = 65_534;
/// Longest resource name in bytes (C13).
pub const MAX_NAME_BYTES: usize = 128;

/// Options by name, in the order given; the last of a name counts. Values are as in a resource
/// file, booleans `yes` or `no`.
pub type Options = Vec<(String, String)>;

/// What the command line asks of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Call {
    /// What is kept of discarded data? Answered by [`Answer::Discarded`].
    Discarded,
    /// Create a resource, or do nothing if it exists.
    NewResource {
        /// Its name.
        resource: String,
        /// Resource options.
        options: Options,
    },
    /// Add a volume without a disk.
    NewMinor {
        /// The resource.
        resource: String,
        /// Device number of the new volume, unique on this node.
        minor: u32,
        /// Number of the new volume in the resource.
        volume: u16,
    },
    /// Remove a volume that has no disk.
    DelMinor {
        /// The device.
        minor: u32,
    },
    /// Remove a resource that has no volume.
    DelResource {
        /// The resource.
        resource: String,
    },
    /// Take a disk into use.
    Attach {
        /// The device.
        minor: u32,
        /// Path of the data device or file.
        disk: String,
        /// Path of the metadata device; that of the data device if internal.
        meta: String,
        /// Where on it the metadata is.
        place: MetaPlace,
        /// Disk options.
        options: Options,
    },
    /// Stop using the disk.
    Detach {
        /// The device.
        minor: u32,
        /// Do not wait for anything.
        force: bool,
    },
    /// Keep trying to connect.
    Connect {
        /// The resource.
        resource: String,
        /// Own address and port.
        local: SocketAddr,
        /// The peer's address and port.
        peer: SocketAddr,
        /// Net options.
        options: Options,
        /// This node's data loses a split brain (S76).
        discard_my_data: bool,
        /// Only find out what would happen (S39).
        tentative: bool,
    },
    /// Drop the connection.
    Disconnect {
        /// Own address and port, which name the connection (S36).
        local: SocketAddr,
        /// The peer's.
        peer: SocketAddr,
        /// Do not ask the peer.
        force: bool,
    },
    /// Change net options.
    NetOptions {
        /// Own address and port, which name the connection (S36).
        local: SocketAddr,
        /// The peer's.
        peer: SocketAddr,
        /// Options not given go back to their defaults, instead of staying.
        set_defaults: bool,
        /// The options.
        options: Options,
    },
    /// Change disk options.
    DiskOptions {
        /// The device.
        minor: u32,
        /// As for [`Call::NetOptions`].
        set_defaults: bool,
        /// The options.
        options: Options,
    },
    /// Change resource options.
    ResourceOptions {
        /// The resource.
        resource: String,
        /// As for [`Call::NetOptions`].
        set_defaults: bool,
        /// The options.
        options: Options,
    },
    /// Become Primary.
    Primary {
        /// The device.
        minor: u32,
        /// Take the local data for UpToDate.
        force: bool,
    },
    /// Begin a new data generation (S48).
    NewCurrentUuid {
        /// The device.
        minor: u32,
        /// Also declare both disks equal.
        clear_bitmap: bool,
    },
    /// Compare both disks (S47).
    Verify {
        /// The device.
        minor: u32,
        /// The sector to begin at, if not where the last one came to.
        start: Option<u64>,
        /// The sector to stop at, if not at the end.
        stop: Option<u64>,
    },
    /// One of the commands that need only the device.
    Minor {
        /// What to do.
        action: MinorAction,
        /// The device.
        minor: u32,
    },
    /// Stop and remove a resource (S50).
    Down {
        /// The resource.
        resource: String,
    },
    /// The status of a resource, or of all. Answered by [`Answer::Status`].
    Status {
        /// The resource; `None`: all.
        resource: Option<String>,
    },
    /// How a resource, or all, were configured. Answered by [`Answer::Configured`].
    Show {
        /// The resource; `None`: all.
        resource: Option<String>,
    },
    /// As [`Call::Status`], and again after each change, until the client closes the connection.
    Watch {
        /// The resource; `None`: all.
        resource: Option<String>,
    },
}

/// Commands whose only argument is the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MinorAction {
    /// Become Secondary.
    Secondary,
    /// Mark the local data Outdated.
    Outdate,
    /// Give up the local data for the peer's.
    Invalidate,
    /// Give up the peer's data for the local data.
    InvalidateRemote,
    /// Hold the resync.
    PauseSync,
    /// Go on with the resync.
    ResumeSync,
    /// Hold clients' requests.
    SuspendIo,
    /// Let clients' requests go on.
    ResumeIo,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What came of a command (S35).
    Outcome(Outcome),
    /// The resources asked for, by name; none if the one named does not exist.
    Status(Vec<ResourceStatus>),
    /// The resources asked for, by name; none if the one named does not exist.
    Configured(Vec<ResourceConfig>),
    /// What is kept of discarded data.
    Discarded(Vec<Discarded>),
    /// The call was no call, or not allowed; the daemon closes the connection.
    Refused(String),
}

/// What is kept of data that this node discarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// Its name: that of its files, and behind `discarded/` of its NBD export.
    pub name: String,
    /// The resource.
    pub resource: String,
    /// The volume.
    pub volume: u16,
    /// When it was begun: seconds since 1970.
    pub since_s: u64,
    /// The generation that was given up: current, bitmap and history UUIDs.
    pub generation: [u64; 4],
    /// The current UUID of the data that took its place.
    pub winner: u64,
    /// Size of the device.
    pub device_bytes: u64,
    /// What was to be kept.
    pub bytes: u64,
    /// What of it is not.
    pub missing_bytes: u64,
    /// Why the rest will not come.
    pub given_up: Option<String>,
    /// Name of the NBD export.
    pub export: String,
    /// The file with the blocks, each at its place.
    pub path: PathBuf,
}

/// How a resource was configured, by the calls made so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceConfig {
    /// Its name.
    pub name: String,
    /// Resource options.
    pub options: Options,
    /// The connection, unless it is StandAlone.
    pub connection: Option<ConnectionConfig>,
    /// The volumes, by number.
    pub volumes: Vec<VolumeConfig>,
}

/// How a connection was configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionConfig {
    /// Own address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub peer: SocketAddr,
    /// Net options.
    pub options: Options,
}

/// How a volume was configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeConfig {
    /// Number in the resource.
    pub volume: u16,
    /// Device number on this node.
    pub minor: u32,
    /// The disk, while one is attached.
    pub disk: Option<DiskConfig>,
}

/// How a disk was attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// Path of the data device or file.
    pub disk: String,
    /// Path of the metadata device.
    pub meta: String,
    /// Where on it the metadata is.
    pub place: MetaPlace,
    /// Disk options.
    pub options: Options,
}

/// Sets `changes` in `options`; with `set_defaults`, nothing else stays set.
pub fn merge(options: &mut Options, changes: &[(String, String)], set_defaults: bool) {
    if set_defaults {
        options.clear();
    }
    for (name, value) in changes {
        match options.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => options.push((name.clone(), value.clone())),
        }
    }
}

/// A message as one line of JSON, its line break included.
///
/// # Errors
/// If the message does not fit [`MAX_LINE_BYTES`]: the other side would refuse to read it.
pub fn to_line<T: Serialize>(message: &T) -> Result<Vec<u8>, MessageError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > MAX_LINE_BYTES {
        return Err(MessageError::TooLong);
    }
    Ok(line)
}

/// The message that a line holds.
///
/// # Errors
/// [`MessageError::Malformed`], with the place and what was expected.
pub fn from_line<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, MessageError> {
    Ok(serde_json::from_slice(line)?)
}

/// What can be wrong with a message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is longer than a line may be.
    #[error("a control message of more than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// It is not what belongs there.
    #[error("no control message: {0}")]
    Malformed(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_like_the_command_it_stands_for() {
        let call = Call::Primary { minor: 1, force: true };
        assert_eq!(to_line(&call).unwrap(), b"{\"verb\":\"primary\",\"minor\":1,\"force\":true}\n");
        let line = br#"{"verb":"minor","action":"pause-sync","minor":3}"#;
        let call: Call = from_line(line).unwrap();
        assert_eq!(call, Call::Minor { action: MinorAction::PauseSync, minor: 3 });
    }

    #[test]
    fn calls_and_answers_survive_the_way_through_a_line() {
        let call = Call::Attach {
            minor: 1,
            disk: "/dev/sdb1".into(),
            meta: "/dev/sdc1".into(),
            place: MetaPlace::Indexed(2),
            options: vec![("al-extents".into(), "301".into())],
        };
        assert_eq!(from_line::<Call>(&to_line(&call).unwrap()).unwrap(), call);
        let status = ResourceStatus { name: "r0".into(), protocol: 'C', ..ResourceStatus::default() };
        for answer in [Answer::Outcome(Outcome::with(-2, "no")), Answer::Status(vec![status])] {
            assert_eq!(from_line::<Answer>(&to_line(&answer).unwrap()).unwrap(), answer);
        }
    }

    #[test]
    fn unknown_verbs_and_fields_are_refused() {
        for line in [
            &br#"{"verb":"format","minor":1}"#[..],
            br#"{"verb":"primary","minor":1,"force":true,"really":true}"#,
            br#"{"verb":"primary","minor":-1,"force":true}"#,
            b"",
            b"\xff\xfe",
        ] {
            assert!(from_line::<Call>(line).is_err(), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_change_of_options_keeps_the_others_unless_defaults_are_asked_for() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut options = vec![pair("timeout", "60"), pair("ping-int", "5")];
        merge(&mut options, &[pair("timeout", "50"), pair("use-rle", "no")], false);
        assert_eq!(options, [pair("timeout", "50"), pair("ping-int", "5"), pair("use-rle", "no")]);
        merge(&mut options, &[pair("protocol", "A")], true);
        assert_eq!(options, [pair("protocol", "A")]);
    }
}
