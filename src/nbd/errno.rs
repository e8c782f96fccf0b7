//! The error numbers that an NBD reply may carry.

use std::fmt;

/// Why a request failed, as the protocol numbers it ("Error values").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Errno {
    /// `NBD_EPERM`: a write on a read-only export.
    Perm = 1,
    /// `NBD_EIO`: the disks (ours, and the peer's if it was asked) could not do it.
    Io = 5,
    /// `NBD_ENOMEM`: the protocol asks us to avoid it.
    NoMemory = 12,
    /// `NBD_EINVAL`: the client asked for something impossible.
    Invalid = 22,
    /// `NBD_ENOSPC`: a write past the end, or no room below.
    NoSpace = 28,
    /// `NBD_EOVERFLOW`: an unfragmented read that is too long.
    Overflow = 75,
    /// `NBD_ENOTSUP`: only for a fast zero that would not be fast.
    NotSupported = 95,
    /// `NBD_ESHUTDOWN`: the server goes away, or the export lost its role.
    Shutdown = 108,
}

impl Errno {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The nearest protocol error for an `errno` of the operating system (Linux numbers).
    ///
    /// The protocol allows a handful; what it does not know becomes [`Errno::Io`], so that a
    /// client sees an I/O error and never an error that claims to be its own fault.
    #[must_use]
    pub const fn from_os(errno: i32) -> Self {
        match errno {
            1 | 13 | 30 => Self::Perm,      // EPERM, EACCES, EROFS
            12 => Self::NoMemory,           // ENOMEM
            22 => Self::Invalid,            // EINVAL
            27 | 28 | 122 => Self::NoSpace, // EFBIG, ENOSPC, EDQUOT
            75 => Self::Overflow,           // EOVERFLOW
            108 => Self::Shutdown,          // ESHUTDOWN
            _ => Self::Io,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Perm => "operation not permitted",
            Self::Io => "input/output error",
            Self::NoMemory => "cannot allocate memory",
            Self::Invalid => "invalid argument",
            Self::NoSpace => "no space left on device",
            Self::Overflow => "value too large",
            Self::NotSupported => "operation not supported",
            Self::Shutdown => "server is being shut down",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_and_file_limits_are_lack_of_space_and_the_unknown_is_an_io_error() {
        assert_eq!(Errno::from_os(122), Errno::NoSpace);
        assert_eq!(Errno::from_os(27), Errno::NoSpace);
        assert_eq!(Errno::from_os(121), Errno::Io); // EREMOTEIO
        assert_eq!(Errno::from_os(95), Errno::Io, "a disk's ENOTSUP is not the client's fast zero");
        assert_eq!(Errno::Shutdown.code(), 108);
    }
}
