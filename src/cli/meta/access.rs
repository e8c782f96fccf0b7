//! Finding metadata on a device, and writing parts of it: what the commands share.

use super::super::meta_device::MetaDevice;
use super::dialogue::Dialogue;
use super::error::CommandError;
use crate::meta::BLOCK_BYTES;
use crate::meta::activity_log::initialised_block;
use crate::meta::layout::{Layout, LayoutError, MIN_DEVICE_BYTES, Placement};
use crate::meta::superblock::{Superblock, SuperblockError};
use crate::units::Sector;

/// Bytes that are read or written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Valid metadata, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it says.
    pub superblock: Superblock,
    /// Where its parts are.
    pub layout: Layout,
}

impl Found {
    /// Writes the superblock, durably.
    ///
    /// # Errors
    /// If the device does not take it.
    pub fn store(&self, device: &mut dyn MetaDevice) -> Result<(), CommandError> {
        write(device, self.layout.superblock_byte(), &self.superblock.encode(&self.layout))?;
        sync(device)
    }
}

/// Looks for metadata at the one place where it may be (M13). The inner error says what is there
/// instead.
///
/// # Errors
/// If the device is too small or too large for any, or cannot be read.
pub fn find(
    device: &mut dyn MetaDevice,
    placement: Placement,
) -> Result<Result<Found, SuperblockError>, CommandError> {
    require_room(device)?;
    let byte = placement.superblock_sector(device.sectors())? * 512;
    let block = read_block(device, byte)?;
    Ok(Superblock::decode(&block, placement, device.sectors())
        .map(|(superblock, layout)| Found { superblock, layout }))
}

/// As [`find`], for commands that need metadata. What it says about a size beyond its own reach is
/// corrected, with a remark on stdout (M28).
///
/// # Errors
/// If there is none; `announce` tells whether the command says so (M118).
pub fn require(
    device: &mut dyn MetaDevice,
    placement: Placement,
    announce: bool,
    dialogue: &mut Dialogue<'_>,
) -> Result<Found, CommandError> {
    match find(device, placement)? {
        Ok(mut found) => {
            found.superblock.la_size = clamp_size(found.superblock.la_size, &found.layout, dialogue);
            Ok(found)
        }
        Err(reason) => {
            if !matches!(reason, SuperblockError::Magic { .. }) {
                dialogue.warn(&reason.to_string());
            }
            Err(CommandError::NotFound { announce })
        }
    }
}

/// The last agreed size, cut to what the layout permits, with a remark if it was larger (M28).
pub fn clamp_size(size: Sector, layout: &Layout, dialogue: &mut Dialogue<'_>) -> Sector {
    let most = Sector::new(layout.max_data_sectors());
    if size > most {
        dialogue.say(&format!("# la-size-sect was too big ({size}), truncated ({most})!"));
    }
    size.min(most)
}

/// Refuses a device below the minimum for any command (M14).
///
/// # Errors
/// With the tool's words.
pub fn require_room(device: &dyn MetaDevice) -> Result<(), CommandError> {
    if device.bytes() < MIN_DEVICE_BYTES {
        let text = format!("{} is only {} bytes. That's not enough.", device.name(), device.bytes());
        return Err(CommandError::Argument { text });
    }
    Ok(())
}

/// Reads one metadata block.
///
/// # Errors
/// If the device does not give it.
pub fn read_block(device: &mut dyn MetaDevice, byte: u64) -> Result<[u8; BLOCK_BYTES], CommandError> {
    let mut block = [0; BLOCK_BYTES];
    read(device, byte, &mut block)?;
    Ok(block)
}

/// Reads all blocks of the activity log, in ring order (M55).
///
/// # Errors
/// If the log is larger than any tool makes it, or cannot be read.
pub fn read_ring(
    device: &mut dyn MetaDevice,
    layout: &Layout,
) -> Result<Vec<[u8; BLOCK_BYTES]>, CommandError> {
    let blocks = layout.striping().blocks();
    if blocks > crate::meta::layout::Striping::MAX_CREATE_BLOCKS {
        return Err(CommandError::Layout(LayoutError::Striping {
            stripes: layout.striping().stripes(),
            stripe_blocks: layout.striping().stripe_blocks(),
        }));
    }
    (0..blocks).map(|position| read_block(device, layout.al_block_byte(position))).collect()
}

/// Fills the activity log with initialised blocks (M54). Not durable yet.
///
/// # Errors
/// If the device does not take them.
pub fn clear_ring(device: &mut dyn MetaDevice, layout: &Layout) -> Result<(), CommandError> {
    let block = initialised_block();
    let chunk = block.repeat(CHUNK_BYTES / BLOCK_BYTES);
    let (mut byte, mut left) = (layout.al_byte(), layout.al_bytes());
    while left > 0 {
        let now = left.min(CHUNK_BYTES as u64) as usize;
        write(device, byte, &chunk[..now])?;
        byte += now as u64;
        left -= now as u64;
    }
    Ok(())
}

/// Makes a range read as zero. What is zero already is not written, so that a sparse file stays
/// sparse. Not durable yet.
///
/// # Errors
/// If the device cannot be read or written.
pub fn clear_range(device: &mut dyn MetaDevice, mut byte: u64, mut left: u64) -> Result<(), CommandError> {
    let (mut chunk, zero) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    while left > 0 {
        let now = left.min(CHUNK_BYTES as u64) as usize;
        read(device, byte, &mut chunk[..now])?;
        if chunk[..now] != zero[..now] {
            write(device, byte, &zero[..now])?;
        }
        byte += now as u64;
        left -= now as u64;
    }
    Ok(())
}

/// Reads, and names the place if that fails.
///
/// # Errors
/// With position and length.
pub fn read(device: &mut dyn MetaDevice, byte: u64, buf: &mut [u8]) -> Result<(), CommandError> {
    let len = buf.len();
    device.read_at(byte, buf).map_err(|source| CommandError::Io {
        what: "read",
        name: device.name().to_owned(),
        byte,
        len,
        source,
    })
}

/// Writes, and names the place if that fails.
///
/// # Errors
/// With position and length.
pub fn write(device: &mut dyn MetaDevice, byte: u64, data: &[u8]) -> Result<(), CommandError> {
    device.write_at(byte, data).map_err(|source| CommandError::Io {
        what: "write",
        name: device.name().to_owned(),
        byte,
        len: data.len(),
        source,
    })
}

/// Makes everything written durable.
///
/// # Errors
/// If the device does not.
pub fn sync(device: &mut dyn MetaDevice) -> Result<(), CommandError> {
    device.sync().map_err(|source| CommandError::Sync { name: device.name().to_owned(), source })
}
