//! The numbers and texts of state change results (S11, S12, S15).

use std::fmt;

/// Result of a state change. Positive codes are successes (S35).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum StateResult {
    /// Done.
    Success = 1,
    /// It was so already.
    NothingToDo = 2,
    /// Done, with the peer's agreement.
    CwSuccess = 3,
    /// The peer's agreement is not needed any more.
    CwNoNeed = 4,
    /// No result yet.
    UnknownError = 0,
    /// Both nodes would be Primary.
    TwoPrimaries = -1,
    /// No good data could be reached.
    NoUpToDateDisk = -2,
    /// A resync needs a local disk.
    NoLocalDisk = -4,
    /// A resync needs a disk on the peer.
    NoRemoteDisk = -5,
    /// Connected nodes are not Outdated.
    ConnectedOutdates = -6,
    /// A fencing node wants its peer outdated first.
    PrimaryNop = -7,
    /// A resync or verify runs.
    ResyncRunning = -8,
    /// There is no connection to drop.
    AlreadyStandalone = -9,
    /// The peer said no.
    CwFailedByPeer = -10,
    /// There is no disk.
    IsDiskless = -11,
    /// Somebody has the device open.
    DeviceInUse = -12,
    /// No connection is configured.
    NoNetConfig = -13,
    /// A verify needs an algorithm.
    NoVerifyAlg = -14,
    /// There is no connection.
    NeedConnection = -15,
    /// The disk is worth less than Outdated.
    LowerThanOutdated = -16,
    /// The peer's protocol is too old.
    NotSupported = -17,
    /// Not now.
    InTransientState = -18,
    /// Both nodes wanted something at once.
    ConcurrentStChg = -19,
    /// Another volume is Primary on the peer.
    OVolPeerPri = -20,
    /// A peer out of reach cannot be asked to be outdated.
    OutdateWoConn = -21,
}

impl StateResult {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::Success,
        Self::NothingToDo,
        Self::CwSuccess,
        Self::CwNoNeed,
        Self::UnknownError,
        Self::TwoPrimaries,
        Self::NoUpToDateDisk,
        Self::NoLocalDisk,
        Self::NoRemoteDisk,
        Self::ConnectedOutdates,
        Self::PrimaryNop,
        Self::ResyncRunning,
        Self::AlreadyStandalone,
        Self::CwFailedByPeer,
        Self::IsDiskless,
        Self::DeviceInUse,
        Self::NoNetConfig,
        Self::NoVerifyAlg,
        Self::NeedConnection,
        Self::LowerThanOutdated,
        Self::NotSupported,
        Self::InTransientState,
        Self::ConcurrentStChg,
        Self::OVolPeerPri,
        Self::OutdateWoConn,
    ];

    /// The number, as the wire and the tools know it.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i8 as i32
    }

    /// The result with this number; `None` for a number without a name (-3 among them).
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|result| result.code() == code)
    }

    /// Whether the change took place, or may.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.code() > 0
    }

    /// The text that the log and the tools show.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::NothingToDo => "Nothing to do",
            Self::CwSuccess => "Cluster wide state change succeeded",
            Self::CwNoNeed => "No cluster wide state change needed",
            Self::UnknownError => "unknown error.",
            Self::TwoPrimaries => "Multiple primaries not allowed by config",
            Self::NoUpToDateDisk => "Need access to UpToDate data",
            Self::NoLocalDisk => "Can not resync without local disk",
            Self::NoRemoteDisk => "Can not resync without remote disk",
            Self::ConnectedOutdates => "Refusing to be Outdated while Connected",
            Self::PrimaryNop => "Refusing to be Primary while peer is not outdated",
            Self::ResyncRunning => "Can not start OV/resync since it is already active",
            Self::AlreadyStandalone => "Can not disconnect a StandAlone device",
            Self::CwFailedByPeer => "State change was refused by peer node",
            Self::IsDiskless => "Device is diskless, the requested operation requires a disk",
            Self::DeviceInUse => "Device is held open by someone",
            Self::NoNetConfig => "Have no net/connection configuration",
            Self::NoVerifyAlg => "Need a verify algorithm to start online verify",
            Self::NeedConnection => "Need a connection to start verify or resync",
            Self::LowerThanOutdated => "Disk state is lower than outdated",
            Self::NotSupported => "Peer does not support protocol",
            Self::InTransientState => "In transient state, retry after next state change",
            Self::ConcurrentStChg => "Concurrent state changes detected and aborted",
            Self::OVolPeerPri => "Other vol primary on peer not allowed by config",
            Self::OutdateWoConn => "Need a connection for a graceful disconnect/outdate peer",
        }
    }
}

impl fmt::Display for StateResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}) {}", self.code(), self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_minus_three_has_no_name() {
        for code in -30..10 {
            let named = (-21..=4).contains(&code) && code != -3;
            assert_eq!(StateResult::from_code(code).map(StateResult::code), named.then_some(code));
        }
    }

    #[test]
    fn only_positive_codes_are_successes() {
        assert!(StateResult::ALL.into_iter().all(|result| result.is_success() == (result.code() >= 1)));
    }

    #[test]
    fn texts_are_those_that_scripts_look_for() {
        // S35
        assert_eq!(StateResult::NoUpToDateDisk.to_string(), "(-2) Need access to UpToDate data");
        assert_eq!(StateResult::LowerThanOutdated.to_string(), "(-16) Disk state is lower than outdated");
        assert_eq!(StateResult::NoLocalDisk.to_string(), "(-4) Can not resync without local disk");
    }
}
