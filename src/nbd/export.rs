//! What a client can open: an export, its properties, and the reasons to refuse it.

use super::transmission::MAX_TRANSFER_BYTES;
use crate::units::SECTOR_BYTES;

/// Everything a client learns about an export it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Canonical name, as it is listed: `r0/0` even if the client asked for `r0`.
    pub name: String,
    /// One line for humans; empty for none.
    pub description: String,
    /// Size in bytes, a multiple of the minimum block.
    pub size_bytes: u64,
    /// Whether writes are refused (`NBD_FLAG_READ_ONLY`).
    pub read_only: bool,
    /// Whether `NBD_CMD_TRIM` is offered.
    pub can_trim: bool,
    /// Limits on a request's alignment and length.
    pub block_sizes: BlockSizes,
}

impl Export {
    /// A writable export with trim and the default block sizes.
    #[must_use]
    pub fn new(name: impl Into<String>, size_bytes: u64) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            size_bytes,
            read_only: false,
            can_trim: true,
            block_sizes: BlockSizes::default(),
        }
    }

    /// The transmission flags that tell a client what this export can do.
    ///
    /// `NBD_FLAG_SEND_DF` stays clear unless structured replies were negotiated, as the protocol
    /// demands. `NBD_FLAG_CAN_MULTI_CONN` holds because all connections share one core: a flush
    /// on one covers the completed writes of all.
    #[must_use]
    pub fn transmission_flags(&self, structured: bool) -> u16 {
        let always = flag::HAS_FLAGS
            | flag::SEND_FLUSH
            | flag::SEND_FUA
            | flag::SEND_WRITE_ZEROES
            | flag::CAN_MULTI_CONN;
        let when = |condition: bool, bit: u16| if condition { bit } else { 0 };
        always
            | when(self.read_only, flag::READ_ONLY)
            | when(self.can_trim, flag::SEND_TRIM)
            | when(structured, flag::SEND_DF)
    }
}

/// Transmission flags (`NBD_FLAG_*`).
pub mod flag {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Writes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `NBD_CMD_FLUSH` works.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// `NBD_CMD_FLAG_FUA` works.
    pub const SEND_FUA: u16 = 1 << 3;
    /// `NBD_CMD_TRIM` works.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `NBD_CMD_WRITE_ZEROES` works.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// `NBD_CMD_FLAG_DF` works.
    pub const SEND_DF: u16 = 1 << 7;
    /// Several connections see one cache.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
}

/// Limits on a request, in bytes (`NBD_INFO_BLOCK_SIZE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    min: u32,
    preferred: u32,
    max: u32,
}

impl BlockSizes {
    /// Checked limits: `min` and `preferred` are powers of two, `512 <= min <= 64 KiB`,
    /// `min <= preferred <= max`, and `max` is a multiple of `min`, at most 32 MiB.
    #[must_use]
    pub const fn new(min: u32, preferred: u32, max: u32) -> Option<Self> {
        let valid = min.is_power_of_two()
            && preferred.is_power_of_two()
            && min as u64 >= SECTOR_BYTES
            && min <= 1 << 16
            && min <= preferred
            && preferred <= max
            && max.is_multiple_of(min)
            && max <= MAX_TRANSFER_BYTES;
        if valid { Some(Self { min, preferred, max }) } else { None }
    }

    /// Alignment that every offset and length must have.
    #[must_use]
    pub const fn min(self) -> u32 {
        self.min
    }

    /// Alignment at which requests are cheap.
    #[must_use]
    pub const fn preferred(self) -> u32 {
        self.preferred
    }

    /// Longest read or write; trims and zeroings may be longer.
    #[must_use]
    pub const fn max(self) -> u32 {
        self.max
    }
}

impl Default for BlockSizes {
    fn default() -> Self {
        Self { min: SECTOR_BYTES as u32, preferred: 4096, max: MAX_TRANSFER_BYTES }
    }
}

/// The exports that exist now. The handshake asks; whoever drives it answers.
pub trait Exports {
    /// The export of this name, or why it cannot be had. The empty name is the default export.
    ///
    /// [`Purpose::Open`] is asked last: an `Ok` means that the client has the export open from
    /// now on, until its connection ends.
    ///
    /// # Errors
    /// The [`Refusal`], whose reason the client shows to its user.
    fn lookup(&mut self, name: &str, purpose: Purpose) -> Result<Export, Refusal>;

    /// All exports, in the order in which a client shall list them.
    fn list(&mut self) -> Vec<Listed>;
}

/// Why the handshake asks for an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To describe it; the client may never open it.
    Describe,
    /// To open it for transmission.
    Open,
}

/// One line of `NBD_OPT_LIST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Canonical name.
    pub name: String,
    /// One line for humans; empty for none.
    pub description: String,
}

/// An export that cannot be had, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Which of the protocol's errors this is.
    pub kind: RefusalKind,
    /// The reason, for the client's user: what is wrong and what to do.
    pub reason: String,
}

/// The protocol's kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// No such export (`NBD_REP_ERR_UNKNOWN`).
    Unknown,
    /// It exists, and must not be opened now: for example its resource is Secondary
    /// (`NBD_REP_ERR_POLICY`).
    Policy,
    /// The server is going away (`NBD_REP_ERR_SHUTDOWN`).
    Shutdown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_follow_the_export_and_the_reply_style() {
        let mut export = Export::new("r0/0", 1 << 20);
        assert_eq!(export.transmission_flags(false), 0b1_0110_1101);
        assert_eq!(export.transmission_flags(true), 0b1_1110_1101);
        export.read_only = true;
        export.can_trim = false;
        assert_eq!(export.transmission_flags(false), 0b1_0100_1111);
    }

    #[test]
    fn block_sizes_that_break_the_protocols_rules_do_not_exist() {
        assert!(BlockSizes::new(4096, 4096, 1 << 20).is_some());
        for (min, preferred, max) in [
            (256, 4096, 1 << 20),
            (1000, 4096, 1 << 20),
            (512, 4000, 1 << 20),
            (4096, 512, 1 << 20),
            (512, 4096, 2048),
            (4096, 4096, 4096 + 512),
            (1 << 17, 1 << 17, 1 << 20),
            (512, 4096, 64 << 20),
        ] {
            assert_eq!(BlockSizes::new(min, preferred, max), None, "{min} {preferred} {max}");
        }
    }
}
