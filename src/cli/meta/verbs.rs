//! The commands on existing metadata (M117..M122). Each works on any [`MetaDevice`] and says what it
//! did through a [`Dialogue`]; `urbdadm` calls them in-process.

use super::super::meta_device::MetaDevice;
use super::access::{
    Found, clamp_size, clear_range, clear_ring, find, read, read_ring, require, require_room, sync, write,
};
use super::dialogue::Dialogue;
use super::error::CommandError;
use crate::meta::BLOCK_BYTES;
use crate::meta::activity_log::examine;
use crate::meta::bitmap::{
    AL_EXTENT_BITS, PAGE_WORDS, bits_of_extent, decode_words, encode_words, page_of_extent, page_place,
    pages_of, valid_mask,
};
use crate::meta::dump::{Body, Heading, bitmap_bytes, head};
use crate::meta::dump_parse::Dump;
use crate::meta::gi;
use crate::meta::layout::{Layout, Placement, Striping};
use crate::meta::recovery::{Plan, Remark, plan};
use crate::meta::superblock::MetaFlags;
use crate::units::{AlExtent, bits_of};

/// `get-gi`: the generation identifiers in a line.
///
/// # Errors
/// If there is no metadata.
pub fn get_gi(
    device: &mut dyn MetaDevice,
    placement: Placement,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let found = require(device, placement, false, dialogue)?;
    dialogue.say(&gi::get_gi(&found.superblock));
    Ok(())
}

/// `show-gi`: the same, explained.
///
/// # Errors
/// If there is no metadata.
pub fn show_gi(
    device: &mut dyn MetaDevice,
    placement: Placement,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let found = require(device, placement, false, dialogue)?;
    dialogue.print(&gi::show_gi(&found.superblock));
    Ok(())
}

/// `dstate`: the state of the data in a word.
///
/// # Errors
/// If there is no metadata.
pub fn dstate(
    device: &mut dyn MetaDevice,
    placement: Placement,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let found = require(device, placement, true, dialogue)?;
    dialogue.say(gi::dstate(found.superblock.flags));
    Ok(())
}

/// `read-dev-uuid`.
///
/// # Errors
/// If there is no metadata.
pub fn read_dev_uuid(
    device: &mut dyn MetaDevice,
    placement: Placement,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let found = require(device, placement, false, dialogue)?;
    dialogue.say(&format!("{:016X}", found.superblock.device_uuid));
    Ok(())
}

/// `write-dev-uuid`.
///
/// # Errors
/// If there is no metadata, or `uuid` is no hexadecimal number of at most 16 digits.
pub fn write_dev_uuid(
    device: &mut dyn MetaDevice,
    placement: Placement,
    uuid: &str,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let uuid = gi::parse_uuid(uuid)?;
    let mut found = require(device, placement, false, dialogue)?;
    found.superblock.device_uuid = uuid;
    found.store(device)
}

/// `set-gi`: changes UUIDs and flags, after a question (M119). Declining is no failure.
///
/// # Errors
/// If there is no metadata, or a field is malformed.
pub fn set_gi(
    device: &mut dyn MetaDevice,
    placement: Placement,
    list: &str,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let mut found = require(device, placement, false, dialogue)?;
    let changed = gi::set_gi(&found.superblock, list)?;
    dialogue.say(&format!("previously {}", gi::get_gi(&found.superblock)));
    dialogue.say(&format!("set GI to  {}", gi::get_gi(&changed)));
    if !dialogue.confirm("Write new GI to disk?") {
        dialogue.say("Operation canceled.");
        return Ok(());
    }
    found.superblock = changed;
    found.store(device)
}

/// `outdate`: the data is not the newest any more (M117).
///
/// # Errors
/// If there is no metadata, or the data is inconsistent.
pub fn outdate(
    device: &mut dyn MetaDevice,
    placement: Placement,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let mut found = require(device, placement, false, dialogue)?;
    if !found.superblock.flags.contains(MetaFlags::CONSISTENT) {
        return Err(CommandError::Inconsistent);
    }
    found.superblock.flags = found.superblock.flags - MetaFlags::WAS_UP_TO_DATE;
    found.store(device)
}

/// `invalidate`: the data is worthless and all of it must be resynced (M117).
///
/// # Errors
/// If there is no metadata.
pub fn invalidate(
    device: &mut dyn MetaDevice,
    placement: Placement,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let mut found = require(device, placement, false, dialogue)?;
    let lost = MetaFlags::CONSISTENT | MetaFlags::WAS_UP_TO_DATE;
    found.superblock.flags = (found.superblock.flags - lost) | MetaFlags::FULL_SYNC;
    found.store(device)
}

/// `wipe-md`: makes the superblock zero, after a question (M120).
///
/// # Errors
/// If that was declined, or the device fails.
pub fn wipe_md(
    device: &mut dyn MetaDevice,
    placement: Placement,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let Ok(found) = find(device, placement)? else {
        dialogue.warn("There appears to be no drbd meta data to wipe out?");
        return Ok(());
    };
    if !dialogue.confirm("Do you really want to wipe out the DRBD meta data?") {
        dialogue.say("Operation cancelled.");
        return Err(CommandError::Declined);
    }
    dialogue.say("Wiping meta data...");
    write(device, found.layout.superblock_byte(), &[0; BLOCK_BYTES])?;
    sync(device)?;
    dialogue.say("DRBD meta data block successfully wiped out.");
    Ok(())
}

/// `apply-al`: makes metadata attachable after a crash (M66..M71). Idempotent.
///
/// # Errors
/// If there is no metadata, or the node was Primary and its log cannot be read.
pub fn apply_al(
    device: &mut dyn MetaDevice,
    placement: Placement,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let found = require(device, placement, true, dialogue)?;
    let ring = read_ring(device, &found.layout)?;
    let recovery = examine(&ring, found.superblock.marking, found.layout.striping());
    if (1..ring.len()).contains(&recovery.corrupt_blocks) {
        dialogue.warn(&format!("{} corrupt AL transactions found", recovery.corrupt_blocks));
    }
    let plan = plan(&found.superblock, &recovery)?;
    match plan.remark {
        Some(Remark::DamageIgnored(damage)) => {
            dialogue.warn(&damage.to_string());
            dialogue.warn("Error ignored, no need to apply the AL");
        }
        Some(Remark::FullSync) => {
            dialogue.warn("The activity log may lack transactions: the whole device counts as out-of-sync.")
        }
        None => {}
    }
    carry_out(device, &found, &plan, dialogue)
}

/// The plan, in the order of M93: bitmap, ring, superblock, each durable before the next.
fn carry_out(
    device: &mut dyn MetaDevice,
    found: &Found,
    plan: &Plan,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    match plan.mark.as_deref() {
        None => {}
        Some([]) => dialogue.warn("Nothing to do."),
        Some(extents) => {
            let bits = mark_extents(device, found, extents, dialogue)?;
            sync(device)?;
            let size = gi::scaled_kib(bits * 4);
            dialogue.warn(&format!("Marked additional {size} as out-of-sync based on AL."));
        }
    }
    if plan.new_ring {
        clear_ring(device, &found.layout)?;
        sync(device)?;
    }
    match plan.superblock {
        Some(superblock) => Found { superblock, ..*found }.store(device),
        None => Ok(()),
    }
}

/// Sets all bits of these extents on disk, and returns how many were clear before. Bits behind the
/// device's end are written as zero (M44).
fn mark_extents(
    device: &mut dyn MetaDevice,
    found: &Found,
    extents: &[AlExtent],
    dialogue: &mut Dialogue<'_>,
) -> Result<u64, CommandError> {
    let (bits, bytes) = (bits_of(found.superblock.la_size), bitmap_bytes(&found.superblock));
    let mut inside = Vec::new();
    for &extent in extents {
        let byte = bits_of_extent(extent).0.get() / 8;
        if byte >= bytes {
            let number = extent.get();
            dialogue.warn(&format!("extent {number} beyond end of bitmap! ({byte} >= {bytes})"));
        } else {
            inside.push(extent);
        }
    }
    inside.sort_unstable();
    inside.dedup();
    let mut marked = 0;
    for group in inside.chunk_by(|a, b| page_of_extent(*a) == page_of_extent(*b)) {
        let page = page_of_extent(group[0]);
        // The size was cut to what the bitmap covers, so the page exists.
        let Some(place) = page_place(&found.layout, page) else { continue };
        let (mut buf, mut words) = ([0; BLOCK_BYTES], [0; PAGE_WORDS]);
        read(device, place.byte, &mut buf[..place.bytes])?;
        decode_words(&buf, &mut words);
        for &extent in group {
            let first = bits_of_extent(extent).0.get() as usize / 64 % PAGE_WORDS;
            for (i, word) in words.iter_mut().enumerate().skip(first).take(AL_EXTENT_BITS as usize / 64) {
                let mask = valid_mask(page * PAGE_WORDS as u64 + i as u64, bits);
                marked += u64::from((mask & !*word).count_ones());
                *word |= mask;
            }
        }
        for (word, index) in words.iter_mut().zip(page * PAGE_WORDS as u64..) {
            *word &= valid_mask(index, bits);
        }
        encode_words(&words, &mut buf);
        write(device, place.byte, &buf[..place.bytes])?;
    }
    Ok(marked)
}

/// `dump-md`: all of it as text (M102). Unclean metadata only with `--force`, and then in a form that
/// cannot be restored (M102g).
///
/// # Errors
/// If there is no metadata, or it is unclean.
pub fn dump_md(
    device: &mut dyn MetaDevice,
    placement: Placement,
    heading: &Heading<'_>,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let found = require(device, placement, true, dialogue)?;
    let unclean = !found.superblock.is_clean();
    if unclean {
        if !dialogue.is_forced() {
            return Err(CommandError::Unclean);
        }
        dialogue.warn(&CommandError::Unclean.to_string());
    }
    let mut text = head(heading, &found.superblock, &found.layout, unclean);
    let mut body = Body::default();
    let (mut buf, mut words) = ([0; BLOCK_BYTES], [0; PAGE_WORDS]);
    for page in 0..pages_of(found.superblock.la_size) {
        let Some(place) = page_place(&found.layout, page) else { break };
        read(device, place.byte, &mut buf[..place.bytes])?;
        decode_words(&buf[..place.bytes], &mut words);
        body.push(&words[..place.bytes / 8], &mut text);
        dialogue.print(&text);
        text.clear();
    }
    body.finish(&mut text);
    dialogue.print(&text);
    Ok(())
}

/// `restore-md`: metadata from a dump (M122). The whole area is written: listed words, zeros behind
/// them, and an empty log, so the result is clean whatever was there.
///
/// # Errors
/// If the dump is unfit, if somebody declined to overwrite, or if the device fails. Nothing is
/// written before the whole dump was read.
pub fn restore_md(
    device: &mut dyn MetaDevice,
    placement: Placement,
    text: &str,
    striping: Option<Striping>,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    require_room(device)?;
    if find(device, placement)?.is_ok() && !dialogue.confirm("Valid meta-data in place, overwrite?") {
        return Err(CommandError::Declined);
    }
    let dump = Dump::parse(text)?;
    if striping.is_some() {
        dialogue.warn("override activity log striping from commandline");
    }
    let layout = Layout::new(placement, device.sectors(), striping.unwrap_or(dump.striping))?;
    super::create::check_data(device, &layout, false, dialogue)?;
    dialogue.warn("reinitializing");
    let mut superblock = dump.superblock;
    superblock.la_size = clamp_size(superblock.la_size, &layout, dialogue);
    if superblock.flags == MetaFlags::NONE {
        dialogue.warn(
            "The dump's flags are 0, as drbdmeta before 9.33 always writes them: the data will \
             count as Inconsistent. Use set-gi if you know better.",
        );
    }
    superblock.mark_clean();
    let found = Found { superblock, layout };
    write_bitmap(device, &found, &dump, dialogue)?;
    clear_ring(device, &layout)?;
    sync(device)?;
    found.store(device)?;
    dialogue.say("Successfully restored meta data");
    Ok(())
}

fn write_bitmap(
    device: &mut dyn MetaDevice,
    found: &Found,
    dump: &Dump,
    dialogue: &mut Dialogue<'_>,
) -> Result<(), CommandError> {
    let pages = pages_of(found.superblock.la_size);
    let bits = bits_of(found.superblock.la_size);
    if dump.word_count() > pages * PAGE_WORDS as u64 {
        dialogue.warn("Bitmap info too large, truncated!");
    }
    let mut source = dump.words();
    let (mut buf, mut words) = ([0; BLOCK_BYTES], [0; PAGE_WORDS]);
    for page in 0..pages {
        let Some(place) = page_place(&found.layout, page) else { break };
        for (word, index) in words.iter_mut().zip(page * PAGE_WORDS as u64..) {
            *word = source.next().unwrap_or(0) & valid_mask(index, bits);
        }
        encode_words(&words, &mut buf);
        write(device, place.byte, &buf[..place.bytes])?;
    }
    let written = (pages * BLOCK_BYTES as u64).min(found.layout.bitmap_area_bytes());
    let rest = found.layout.bitmap_area_bytes() - written;
    clear_range(device, found.layout.bitmap_byte() + written, rest)
}

/// `verify-dump`: whether a dump could be restored (M123).
///
/// # Errors
/// At the first thing that is wrong with it.
pub fn verify_dump(text: &str, dialogue: &mut Dialogue<'_>) -> Result<(), CommandError> {
    Dump::parse(text)?;
    dialogue.say("input file parsed ok");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::create::{CreateOptions, create_md};
    use super::super::dialogue::Answers;
    use super::*;
    use crate::cli::meta_device::MemoryDevice;
    use crate::meta::activity_log::{Change, Transaction};
    use crate::meta::superblock::{Marking, Superblock};

    const BYTES: usize = 4 << 20;

    /// Runs a command with nobody at the terminal; the result and what went to stderr.
    fn quietly<T>(command: impl FnOnce(&mut Dialogue<'_>) -> T) -> (T, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let result = command(&mut Dialogue::new(&mut out, &mut err, Answers::Nobody));
        (result, String::from_utf8(err).unwrap())
    }

    /// A device whose Primary crashed with extent 0 hot, and an extent that does not exist.
    fn crashed() -> (MemoryDevice, Layout) {
        let mut device = MemoryDevice::new(BYTES);
        let layout = Layout::new(Placement::Internal, device.sectors(), Striping::DEFAULT).unwrap();
        let options = CreateOptions::default();
        quietly(|d| create_md(&mut device, Placement::Internal, &options, d)).0.unwrap();
        let superblock = Superblock {
            la_size: layout.offered_size(u64::MAX),
            flags: MetaFlags::CONSISTENT | MetaFlags::PRIMARY_IND,
            marking: Marking::Attached,
            ..Superblock::just_created(0)
        };
        let extent = |number| Some(AlExtent::new(number));
        let changes = vec![Change { slot: 0, extent: extent(0) }, Change { slot: 1, extent: extent(99) }];
        let block = Transaction { number: 0, slots: 67, context_start: 0, context: vec![], changes };
        device.write_at(layout.al_block_byte(0), &block.encode()).unwrap();
        Found { superblock, layout }.store(&mut device).unwrap();
        device.trace.clear();
        (device, layout)
    }

    /// M93: each part is durable before the next begins.
    #[test]
    fn a_recovered_log_makes_bits_then_ring_then_superblock_durable() {
        let (mut device, layout) = crashed();
        let (result, said) = quietly(|d| apply_al(&mut device, Placement::Internal, d));
        result.unwrap();
        assert_eq!(
            device.trace,
            [
                Some(layout.bitmap_byte()),
                None,
                Some(layout.al_byte()),
                None,
                Some(layout.superblock_byte()),
                None
            ]
        );
        assert!(said.starts_with("extent 99 beyond end of bitmap! (12672 >= 4096)\n"), "{said}");
        let bits = layout.max_data_sectors() / 8;
        let page = &device.data[layout.bitmap_byte() as usize..][..4096];
        let set: u64 = page.iter().map(|byte| u64::from(byte.count_ones())).sum();
        assert_eq!(set, bits, "all bits of the device, none behind it (M44)");
    }

    #[test]
    fn a_crashed_primary_with_an_unreadable_log_is_not_recovered() {
        let (mut device, layout) = crashed();
        let start = layout.al_byte() as usize;
        device.data[start..start + layout.al_bytes() as usize].fill(0xAA);
        let before = device.data.clone();
        let (result, _) = quietly(|d| apply_al(&mut device, Placement::Internal, d));
        assert_eq!(result.unwrap_err().exit_code(), 1);
        assert!(device.data == before);
    }

    #[test]
    fn a_log_with_a_hole_sets_the_full_sync_mark() {
        let (mut device, layout) = crashed();
        device.data[layout.al_block_byte(5) as usize] = 0;
        let (result, said) = quietly(|d| apply_al(&mut device, Placement::Internal, d));
        result.unwrap();
        assert!(said.contains("1 corrupt AL transactions found"));
        let found = find(&mut device, Placement::Internal).unwrap().unwrap();
        assert!(found.superblock.is_clean() && found.superblock.flags.need_full_sync());
    }
}
