//! `create-md`: new metadata, unless something is in the way (M115, M116).

use super::super::meta_device::MetaDevice;
use super::access::{Found, clear_range, clear_ring, find, read, read_block};
use super::dialogue::Dialogue;
use super::error::CommandError;
use super::existing::{Kind, LOOK_BYTES, identify};
use crate::meta::layout::{Layout, Placement, SLOT_SECTORS, Striping};
use crate::meta::superblock::{MAGIC_V07, Superblock, SuperblockError};

/// What is asked of new metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Striping of the activity log.
    pub striping: Striping,
    /// The peer's largest request to start with, in bytes.
    pub peer_max_bio_bytes: u32,
    /// Go on, without a question, where known data would be destroyed.
    pub ignore_sanity_checks: bool,
}

/// Makes new metadata, durably. Nothing outside the metadata area is touched.
///
/// # Errors
/// If somebody declined to overwrite what is there, if it must not be overwritten, or if the device
/// is unfit.
pub fn create_md(
    device: &mut dyn MetaDevice,
    placement: Placement,
    options: &CreateOptions,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    confirm_replacing(device, placement, dialogue)?;
    let layout = Layout::new(placement, device.sectors(), options.striping)?;
    check_data(device, &layout, options.ignore_sanity_checks, dialogue)?;

    let kib = layout.bitmap_area_bytes() / 1024;
    dialogue.warn(&format!("initializing bitmap ({kib} KB) to all zero"));
    dialogue.say("initializing activity log");
    clear_ring(device, &layout)?;
    clear_range(device, layout.bitmap_byte(), layout.bitmap_area_bytes())?;
    // The superblock makes the rest count, so the rest is durable first.
    super::access::sync(device)?;
    dialogue.say("Writing meta data...");
    let superblock = Superblock::just_created(options.peer_max_bio_bytes);
    Found { superblock, layout }.store(device)?;
    dialogue.say("New drbd meta data block successfully created.");
    Ok(())
}

/// Asks before metadata of any version is overwritten.
fn confirm_replacing(
    device: &mut dyn MetaDevice,
    placement: Placement,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let byte = placement.superblock_sector(device.sectors()).map(|sector| sector * 512);
    let (version, byte) = match find(device, placement)? {
        Ok(_) => ("v08", byte?),
        Err(SuperblockError::OtherVersion { version }) => (version, byte?),
        // A v08 block of another layout, or none: no metadata of this device.
        Err(_) => match old_fixed_block(device, placement)? {
            Some(byte) => ("v07", byte),
            None => return Ok(()),
        },
    };
    let question = match (placement, version) {
        (Placement::Internal, _) => {
            dialogue.warn("You want me to create a v08 style flexible-size internal meta data block.");
            dialogue.warn(&format!(
                "There appears to be a {version} flexible-size internal meta data block\n\
                 already in place on {} at byte offset {byte}",
                device.name()
            ));
            "Do you really want to overwrite the existing meta-data?".to_owned()
        }
        (Placement::Flexible | Placement::Indexed(_), "v08") => {
            "Valid meta data seems to be in place.\nDo you really want to overwrite?".to_owned()
        }
        (Placement::Flexible | Placement::Indexed(_), _) => {
            format!("Valid {version} meta-data found.\nDo you really want to overwrite?")
        }
    };
    if dialogue.confirm(&question) {
        return Ok(());
    }
    dialogue.say("Operation cancelled.");
    Err(CommandError::Declined)
}

/// The superblock of the old fixed-size internal metadata, 128 MiB from the end (M115).
fn old_fixed_block(device: &mut dyn MetaDevice, placement: Placement) -> Result<Option<u64>, CommandError> {
    let sector = (device.sectors() & !7).checked_sub(SLOT_SECTORS);
    let Some(byte) = sector.filter(|_| placement.is_internal()).map(|sector| sector * 512) else {
        return Ok(None);
    };
    let block = read_block(device, byte)?;
    Ok((block[28..32] == MAGIC_V07.to_be_bytes()).then_some(byte))
}

/// Looks at the start of the device, and asks or refuses if it is not empty (M116).
pub(super) fn check_data(
    device: &mut dyn MetaDevice,
    layout: &Layout,
    ignore: bool,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let mut start = vec![0; LOOK_BYTES];
    read(device, 0, &mut start)?;
    let Some(existing) = identify(&start) else { return Ok(()) };
    dialogue.print(&format!(
        "md_offset {}\nal_offset {}\nbm_offset {}\n\nFound {}\n",
        layout.superblock_byte(),
        layout.al_byte(),
        layout.bitmap_byte(),
        existing.what
    ));
    let internal = layout.placement().is_internal();
    let left_bytes = layout.max_data_sectors() * 512;
    let left = format!("{:12} kB left usable by current configuration\n", left_bytes / 1024);
    match existing.kind {
        Kind::SomeData => {
            dialogue.say("\n ==> This might destroy existing data! <==");
            proceed(dialogue)
        }
        Kind::FileSystem(_) | Kind::Swap | Kind::Lvm if !internal => {
            dialogue.say("\nThis would corrupt existing data.");
            refuse(ZERO_IT, ignore, dialogue)
        }
        Kind::FileSystem(bytes) => {
            let used = bytes.div_ceil(1024);
            dialogue.print(&format!("{used:12} kB data area apparently used\n{left}\n"));
            if bytes > left_bytes {
                dialogue.print(TRUNCATES);
                return refuse(USE_EXTERNAL, false, dialogue);
            }
            dialogue.print(FITS);
            proceed(dialogue)
        }
        Kind::Swap => {
            dialogue.print(&format!("{left}{TRUNCATES}"));
            refuse(ZERO_IT, ignore, dialogue)
        }
        Kind::Lvm => {
            dialogue.print(&format!(
                "{left}Could not determine the size of the actually used data area.\n\n{TRUNCATES}"
            ));
            refuse(ZERO_IT, ignore, dialogue)
        }
    }
}

const TRUNCATES: &str = "Device size would be truncated, which
would corrupt data and result in
'access beyond end of device' errors.
";
const ZERO_IT: &str = "If you want me to do this, you need to zero out the first part
of the device (destroy the content).
You should be very sure that you mean it.
";
const USE_EXTERNAL: &str = "You need to either
   * use external meta data (recommended)
   * shrink that filesystem first
   * zero out the device (destroy the filesystem)
";
const FITS: &str = "Even though it looks like this would place the new meta data into
unused space, you still need to confirm, as this is only a guess.
";

fn proceed(dialogue: &mut Dialogue<'_>) -> Result<(), CommandError> {
    if dialogue.confirm("Do you want to proceed?") {
        return Ok(());
    }
    dialogue.say("Operation canceled.");
    Err(CommandError::Declined)
}

/// No question: only `--ignore-sanity-checks` goes on, where it applies.
fn refuse(advice: &str, ignore: bool, dialogue: &mut Dialogue<'_>) -> Result<(), CommandError> {
    if ignore {
        dialogue.say("\nIgnoring sanity check on user request.\n");
        return Ok(());
    }
    dialogue.print(&format!("{advice}Operation refused.\n\n"));
    Err(CommandError::DataInTheWay)
}
