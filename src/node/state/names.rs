//! Roles, disk states and connection states: numbers and names (S3).
//!
//! The numeric order is normative: every `<` and `>=` on these types is the specification's.
//! Mind that `DUnknown` lies between `Outdated` and `Consistent`, and `Primary` below `Secondary`.

use std::fmt;

/// Defines an enum whose variants have the specification's numbers and the tools' names.
macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $variant = $number,)+ }

        impl $name {
            /// All of them, in numeric order.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$variant),+];

            /// The number in the state word (S3).
            #[must_use]
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// The one with this number; `None` if the number has no name.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The tools' word for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

numbered! {
    /// Who may use the device.
    Role {
        /// Not known (the peer's only).
        Unknown = 0,
        /// Applications use the device here.
        Primary = 1,
        /// The device is a copy only.
        Secondary = 2,
    }
}

numbered! {
    /// What a disk is worth.
    Disk {
        /// No disk.
        Diskless = 0,
        /// The disk is being taken into use.
        Attaching = 1,
        /// The disk failed and is being given up.
        Failed = 2,
        /// Attached while connected; the handshake decides what it is worth.
        Negotiating = 3,
        /// Some blocks are current, some are not.
        Inconsistent = 4,
        /// A usable old state.
        Outdated = 5,
        /// Not known (the peer's only).
        DUnknown = 6,
        /// Was current at its last write; whether it still is depends on the peer.
        Consistent = 7,
        /// Current.
        UpToDate = 8,
    }
}

numbered! {
    /// Where the connection stands, and what replication does.
    Conn {
        /// No network configured.
        StandAlone = 0,
        /// Being closed for good.
        Disconnecting = 1,
        /// About to try again.
        Unconnected = 2,
        /// The peer did not answer in time.
        Timeout = 3,
        /// The data socket broke.
        BrokenPipe = 4,
        /// The network failed.
        NetworkFailure = 5,
        /// The peer broke the protocol.
        ProtocolError = 6,
        /// The peer closed the connection.
        TearDown = 7,
        /// Waiting for the peer.
        WFConnection = 8,
        /// The link is up; the parameters are being compared.
        WFReportParams = 9,
        /// Replication runs.
        Connected = 10,
        /// About to become the source of a full sync.
        StartingSyncS = 11,
        /// About to become the target of a full sync.
        StartingSyncT = 12,
        /// Source, exchanging bitmaps.
        WFBitMapS = 13,
        /// Target, exchanging bitmaps.
        WFBitMapT = 14,
        /// Target, waiting for the sync UUID.
        WFSyncUUID = 15,
        /// Resync source.
        SyncSource = 16,
        /// Resync target.
        SyncTarget = 17,
        /// Verify, asked for here.
        VerifyS = 18,
        /// Verify, asked for by the peer.
        VerifyT = 19,
        /// Resync source, paused.
        PausedSyncS = 20,
        /// Resync target, paused.
        PausedSyncT = 21,
        /// Announces writes in place of sending them.
        Ahead = 22,
        /// The peer is [`Conn::Ahead`].
        Behind = 23,
    }
}

impl Conn {
    /// A reason for which a connection ended (3..=7); the first one stays (S10 H5).
    #[must_use]
    pub fn is_network_error(self) -> bool {
        (Self::Timeout..=Self::TearDown).contains(&self)
    }

    /// Resync or verify, running or paused (16..=21).
    #[must_use]
    pub fn is_resync_or_verify(self) -> bool {
        (Self::SyncSource..=Self::PausedSyncT).contains(&self)
    }

    /// One of the four sync states proper, without verify.
    #[must_use]
    pub const fn is_sync(self) -> bool {
        matches!(self, Self::SyncSource | Self::SyncTarget | Self::PausedSyncS | Self::PausedSyncT)
    }

    /// `SyncSource` or `PausedSyncS`.
    #[must_use]
    pub const fn is_sync_source(self) -> bool {
        matches!(self, Self::SyncSource | Self::PausedSyncS)
    }

    /// `SyncTarget` or `PausedSyncT`.
    #[must_use]
    pub const fn is_sync_target(self) -> bool {
        matches!(self, Self::SyncTarget | Self::PausedSyncT)
    }

    /// `VerifyS` or `VerifyT`.
    #[must_use]
    pub const fn is_verify(self) -> bool {
        matches!(self, Self::VerifyS | Self::VerifyT)
    }

    /// What the tools print as the state of the *connection*: `WFReportParams` and all above mean
    /// that the link is up (S1).
    #[must_use]
    pub fn connection_name(self) -> &'static str {
        if self >= Self::WFReportParams { Self::Connected.name() } else { self.name() }
    }

    /// What the tools print as the *replication* state of a volume (S6).
    #[must_use]
    pub fn replication_name(self) -> &'static str {
        match self.max(Self::WFReportParams) {
            Self::WFReportParams => "Off",
            Self::Connected => "Established",
            other => other.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_those_of_the_table() {
        // S3
        let roles = ["Unknown", "Primary", "Secondary"];
        let disks = [
            "Diskless",
            "Attaching",
            "Failed",
            "Negotiating",
            "Inconsistent",
            "Outdated",
            "DUnknown",
            "Consistent",
            "UpToDate",
        ];
        let conns = [
            "StandAlone",
            "Disconnecting",
            "Unconnected",
            "Timeout",
            "BrokenPipe",
            "NetworkFailure",
            "ProtocolError",
            "TearDown",
            "WFConnection",
            "WFReportParams",
            "Connected",
            "StartingSyncS",
            "StartingSyncT",
            "WFBitMapS",
            "WFBitMapT",
            "WFSyncUUID",
            "SyncSource",
            "SyncTarget",
            "VerifyS",
            "VerifyT",
            "PausedSyncS",
            "PausedSyncT",
            "Ahead",
            "Behind",
        ];
        let all = |number: usize| u32::try_from(number).unwrap();
        for (number, name) in roles.into_iter().enumerate() {
            assert_eq!(Role::from_number(all(number)).map(Role::name), Some(name));
        }
        for (number, name) in disks.into_iter().enumerate() {
            assert_eq!(Disk::from_number(all(number)).map(Disk::name), Some(name));
        }
        for (number, name) in conns.into_iter().enumerate() {
            assert_eq!(Conn::from_number(all(number)).map(Conn::name), Some(name));
            assert_eq!(Conn::ALL[number].number(), all(number));
        }
        assert_eq!((Role::from_number(3), Disk::from_number(9), Conn::from_number(24)), (None, None, None));
    }

    #[test]
    fn the_order_has_the_traps_of_the_specification() {
        assert!(Disk::Outdated < Disk::DUnknown && Disk::DUnknown < Disk::Consistent);
        assert!(Role::Primary < Role::Secondary);
    }

    #[test]
    fn groups_are_the_ranges_of_s3() {
        let numbers = |test: fn(Conn) -> bool| -> Vec<u32> {
            Conn::ALL.into_iter().filter(|&c| test(c)).map(Conn::number).collect()
        };
        assert_eq!(numbers(Conn::is_network_error), [3, 4, 5, 6, 7]);
        assert_eq!(numbers(Conn::is_resync_or_verify), [16, 17, 18, 19, 20, 21]);
        assert_eq!(numbers(Conn::is_sync), [16, 17, 20, 21]);
        assert_eq!(numbers(Conn::is_sync_source), [16, 20]);
        assert_eq!(numbers(Conn::is_sync_target), [17, 21]);
        assert_eq!(numbers(Conn::is_verify), [18, 19]);
    }

    #[test]
    fn the_tools_have_their_own_words_for_the_link_and_for_replication() {
        assert_eq!(Conn::WFReportParams.connection_name(), "Connected");
        assert_eq!(Conn::SyncTarget.connection_name(), "Connected");
        assert_eq!(Conn::WFConnection.connection_name(), "WFConnection");
        assert_eq!(Conn::StandAlone.replication_name(), "Off");
        assert_eq!(Conn::Connected.replication_name(), "Established");
        assert_eq!(Conn::PausedSyncS.replication_name(), "PausedSyncS");
    }
}
