//! DRBD v08 metadata: bytes on disk to checked values and back. Pure, no I/O.
//!
//! - [`layout`]: where superblock, activity log and bitmap lie (M6..M18)
//! - [`superblock`]: the 4 KiB superblock (M19..M33) and the flag word
//! - [`uuid`]: the four generation UUIDs and what events do to them (M95..M97)

pub mod layout;
pub mod superblock;
pub mod uuid;

/// Every piece of metadata is read and written in aligned blocks of this many bytes (M3).
pub const BLOCK_BYTES: usize = 4096;
