//! Where internal metadata was seen last, so that it can be found and moved when the device has grown
//! (M130..M134).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::meta_device::MetaDevice;
use super::access::{Found, clear_range, find, read, read_block, read_ring, require_room, sync, write};
use super::dialogue::Dialogue;
use super::error::CommandError;
use crate::meta::BLOCK_BYTES;
use crate::meta::dump::bitmap_bytes;
use crate::meta::layout::{Layout, MIN_DEVICE_BYTES, Placement};
use crate::meta::superblock::Superblock;

/// The longest bitmap that is moved at once, in bytes: that of 32 TiB.
const MAX_MOVED_BITMAP_BYTES: u64 = 1 << 30;

/// The file that records the last known place for one minor (M130).
#[derive(Clone, Debug)]
pub struct LastKnown {
    path: PathBuf,
}

/// What such a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Size of the device in bytes.
    pub bytes: u64,
    /// Its name then.
    pub device: String,
    /// The metadata's device-uuid, if it had one.
    pub device_uuid: Option<u64>,
}

impl LastKnown {
    /// The file of this minor in `directory` (for the real tool: `/var/lib/drbd`).
    #[must_use]
    pub fn of_minor(directory: &Path, minor: u32) -> Self {
        Self { path: directory.join(format!("drbd-minor-{minor}.lkbd")) }
    }

    /// What is recorded; `None` if nothing readable is.
    #[must_use]
    pub fn read(&self) -> Option<Record> {
        Record::parse(&std::fs::read_to_string(&self.path).ok()?)
    }

    /// Records what the device says now: rewritten for internal metadata, deleted if there is none
    /// any more or it is external. Where that directory does not exist, nothing is recorded.
    pub fn refresh(&self, device: &mut dyn MetaDevice, placement: Placement, dialogue: &mut Dialogue<'_>) {
        let result = match find(device, placement) {
            Ok(Ok(found)) if placement.is_internal() => {
                let record = Record {
                    bytes: device.bytes(),
                    device: device.name().to_owned(),
                    device_uuid: Some(found.superblock.device_uuid).filter(|&uuid| uuid != 0),
                };
                std::fs::write(&self.path, record.to_text())
            }
            Ok(_) => std::fs::remove_file(&self.path),
            Err(_) => return,
        };
        if let Err(error) = result.or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })
        {
            dialogue.warn(&format!("cannot update {}: {error}", self.path.display()));
        }
    }
}

impl Record {
    /// Reads the file's text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (bytes, device) = lines.next()?.split_once('\t')?;
        let uuid = lines.next().and_then(|line| line.strip_prefix("uuid:"));
        Some(Self {
            bytes: bytes.parse().ok()?,
            device: device.to_owned(),
            device_uuid: uuid.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()),
        })
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\t{}\n", self.bytes, self.device);
        if let Some(uuid) = self.device_uuid {
            text.push_str(&format!("uuid:\t{uuid:016X}\n"));
        }
        text
    }
}

/// Valid metadata at its last known place, on a device that has grown since. Whatever cannot be
/// read there is taken as "none" (M130).
pub fn find_moved(device: &mut dyn MetaDevice, record: &Record) -> Option<Found> {
    if record.bytes < MIN_DEVICE_BYTES || record.bytes >= device.bytes() {
        return None;
    }
    let sectors = record.bytes / 512;
    let byte = Placement::Internal.superblock_sector(sectors).ok()? * 512;
    let block = read_block(device, byte).ok()?;
    let (superblock, layout) = Superblock::decode(&block, Placement::Internal, sectors).ok()?;
    Some(Found { superblock, layout })
}

/// `check-resize`: moves internal metadata to where it belongs after the device has grown (M131,
/// M132). Nothing to do for metadata that is in its place.
///
/// # Errors
/// If there is no metadata at either place, if it is not the one recorded, or if it cannot be moved.
pub fn check_resize(
    device: &mut dyn MetaDevice,
    placement: Placement,
    record: Option<&Record>,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    require_room(device)?;
    if find(device, placement)?.is_ok() {
        return Ok(());
    }
    let record = record.filter(|_| placement.is_internal()).ok_or(CommandError::NotRelocatable)?;
    let old = find_moved(device, record).ok_or(CommandError::NotRelocatable)?;
    let found = old.superblock.device_uuid;
    let other = record.device_uuid.filter(|&uuid| uuid != found && !dialogue.is_forced());
    if let Some(expected) = other {
        return Err(CommandError::OtherDeviceUuid { expected, found });
    }
    move_metadata(device, &old, dialogue)
}

/// Copies log and bitmap, then writes the new superblock, then wipes the old one, each step durable
/// before the next (M134). All of it is read before anything is written, since the areas may
/// overlap. Byte 0 of the bitmap stays byte 0, whatever its new size (M133).
fn move_metadata(
    device: &mut dyn MetaDevice,
    old: &Found,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let layout = Layout::new(Placement::Internal, device.sectors(), old.layout.striping())?;
    let bitmap_len = bitmap_bytes(&old.superblock).min(old.layout.bitmap_area_bytes());
    if old.superblock.la_size.get() > layout.max_data_sectors() {
        let text = format!(
            "the device has grown too little: with the meta data moved there would be room for \
             {} sectors, but {} are in use",
            layout.max_data_sectors(),
            old.superblock.la_size
        );
        return Err(CommandError::Argument { text });
    }
    if bitmap_len > MAX_MOVED_BITMAP_BYTES {
        let text = "meta data of a device above 32 TiB cannot be moved".to_owned();
        return Err(CommandError::Argument { text });
    }
    dialogue.say("Moving the internal meta data to its proper location");
    let ring = read_ring(device, &old.layout)?;
    let mut bitmap = vec![0; bitmap_len as usize];
    read(device, old.layout.bitmap_byte(), &mut bitmap)?;

    for (position, block) in (0..).zip(&ring) {
        write(device, layout.al_block_byte(position), block)?;
    }
    write(device, layout.bitmap_byte(), &bitmap)?;
    let rest = layout.bitmap_area_bytes() - bitmap_len;
    clear_range(device, layout.bitmap_byte() + bitmap_len, rest)?;
    sync(device)?;
    let new = Found { superblock: old.superblock, layout };
    new.store(device)?;
    let old_byte = old.layout.superblock_byte();
    if old_byte + (BLOCK_BYTES as u64) <= layout.bitmap_byte() {
        write(device, old_byte, &[0; BLOCK_BYTES])?;
        sync(device)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_has_the_real_tools_format() {
        let text = "67108864\t/dev/loop0\nuuid:\tFEDCBA9876543210\n";
        let record = Record::parse(text).unwrap();
        assert_eq!(record.bytes, 67_108_864);
        assert_eq!(record.device, "/dev/loop0");
        assert_eq!(record.device_uuid, Some(0xFEDC_BA98_7654_3210));
        assert_eq!(record.to_text(), text);
        assert_eq!(Record::parse("67108864\tx\n").unwrap().device_uuid, None);
        for broken in ["", "x\ty\n", "12\n", "-1\ty\n"] {
            assert_eq!(Record::parse(broken), None, "{broken:?}");
        }
    }
}
