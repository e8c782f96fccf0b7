//! DRBD v08 metadata: bytes on disk to checked values and back. Pure, no I/O.
//!
//! - [`layout`]: where superblock, activity log and bitmap lie (M6..M18)
//! - [`superblock`]: the 4 KiB superblock (M19..M33) and the flag word
//! - [`uuid`]: the four generation UUIDs and what events do to them (M95..M97)
//! - [`bitmap`]: pages of the out-of-sync bitmap on disk (M40..M44)
//! - [`activity_log`]: transaction blocks and what they say after a crash (M51..M73)
//! - [`recovery`]: what to do with that before an attach: "apply-al"
//! - [`gi`], [`dump`], [`dump_parse`]: the texts of `get-gi`, `show-gi`, `dump-md` and `restore-md`

pub mod activity_log;
pub mod bitmap;
pub mod dump;
pub mod dump_parse;
pub mod gi;
pub mod layout;
pub mod recovery;
pub mod superblock;
pub mod uuid;

/// Every piece of metadata is read and written in aligned blocks of this many bytes (M3).
pub const BLOCK_BYTES: usize = 4096;
