//! Why a metadata command was not carried out, and its exit code (M9.2).

use std::io;

use super::super::meta_device::OpenError;
use crate::meta::dump_parse::ParseError;
use crate::meta::gi::GiError;
use crate::meta::layout::LayoutError;
use crate::meta::recovery::Damage;

/// A command that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No valid metadata; some commands say so, others only exit (M118).
    #[error("No valid meta data found")]
    NotFound {
        /// Whether to say it.
        announce: bool,
    },
    /// A question was answered with no; the answer was already acknowledged.
    #[error("Operation cancelled.")]
    Declined,
    /// There is data that must not be overwritten; the reasons were already printed (M116).
    #[error("Operation refused.")]
    DataInTheWay,
    /// A dump of metadata whose log was not applied (M102g).
    #[error("Found meta data is \"unclean\", please apply-al first")]
    Unclean,
    /// The activity log cannot be applied (M69).
    #[error(transparent)]
    Damage(#[from] Damage),
    /// Only consistent data can be outdated (M117).
    #[error("Device is inconsistent.")]
    Inconsistent,
    /// Growth that leaves no trace of the old metadata (M131).
    #[error("no suitable meta data found :(")]
    NotRelocatable,
    /// The metadata at the old place is not the one that was there last (M131).
    #[error(
        "the meta data at the last known place has another device-uuid ({found:016X} instead of \
         {expected:016X}): use --force if it is the right one all the same"
    )]
    OtherDeviceUuid {
        /// As recorded.
        expected: u64,
        /// As found.
        found: u64,
    },
    /// An argument that makes no sense here.
    #[error("{text}")]
    Argument {
        /// What is wrong with it.
        text: String,
    },
    /// A wrong field of set-gi or write-dev-uuid.
    #[error(transparent)]
    Gi(#[from] GiError),
    /// The device cannot hold the metadata asked for.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A dump that cannot be restored.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The device failed.
    #[error("cannot {what} {len} bytes at byte {byte} of {name}: {source}")]
    Io {
        /// `read` or `write`.
        what: &'static str,
        /// The device.
        name: String,
        /// Position in bytes.
        byte: u64,
        /// Length in bytes.
        len: usize,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The device did not make it durable.
    #[error("cannot make the meta data on {name} durable: {source}")]
    Sync {
        /// The device.
        name: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The device is not to be had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A dump that cannot be read.
    #[error("open of '{name}' failed: {source}")]
    OpenDump {
        /// The file.
        name: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Wrong words on the command line.
    #[error("{text}")]
    Usage {
        /// What is wrong with them.
        text: String,
    },
}

impl CommandError {
    /// The exit code (M9.2).
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. }
            | Self::Declined
            | Self::Unclean
            | Self::Damage(_)
            | Self::NotRelocatable
            | Self::OtherDeviceUuid { .. } => 1,
            Self::Inconsistent => 5,
            Self::Argument { .. }
            | Self::Gi(_)
            | Self::Layout(_)
            | Self::Parse(_)
            | Self::Io { .. }
            | Self::Sync { .. } => 10,
            Self::Open(_) | Self::OpenDump { .. } | Self::Usage { .. } => 20,
            Self::DataInTheWay => 40,
        }
    }

    /// What to print on stderr, if it was not said already.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        match self {
            Self::NotFound { announce: false } | Self::Declined | Self::DataInTheWay => None,
            Self::NotFound { announce: true }
            | Self::Unclean
            | Self::Damage(_)
            | Self::Inconsistent
            | Self::NotRelocatable
            | Self::OtherDeviceUuid { .. }
            | Self::Argument { .. }
            | Self::Gi(_)
            | Self::Layout(_)
            | Self::Parse(_)
            | Self::Io { .. }
            | Self::Sync { .. }
            | Self::Open(_)
            | Self::OpenDump { .. }
            | Self::Usage { .. } => Some(self.to_string()),
        }
    }
}
