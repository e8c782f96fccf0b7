//! The on-disk metadata.

use urbd::meta::BLOCK_BYTES;
use urbd::meta::layout::{Layout, Placement, Striping};
use urbd::meta::superblock::Superblock;
use urbd::units::Sector;

/// Bytes: placement, size of the device in sectors, sizes for an attach, then the block. A block
/// that is accepted describes areas inside the device that do not overlap, and survives a rewrite.
pub(crate) fn superblock(mut data: &[u8]) {
    let placement = placement(super::take_byte(&mut data));
    let capacity = super::take_number(&mut data);
    let (backing, configured) = (super::take_number(&mut data), super::take_number(&mut data));
    let mut block = [0; BLOCK_BYTES];
    let len = data.len().min(BLOCK_BYTES);
    block[..len].copy_from_slice(&data[..len]);

    let Ok((superblock, layout)) = Superblock::decode(&block, placement, capacity) else { return };
    check_layout(&layout, capacity);
    if let Ok(size) = superblock.check_attach(&layout, Sector::new(backing), Sector::new(configured)) {
        assert!(size.get() <= layout.max_data_sectors() && size.get() <= backing);
    }
    let rewritten = superblock.encode(&layout);
    assert_eq!(Superblock::decode(&rewritten, placement, capacity), Ok((superblock, layout)));
}

/// Fresh superblocks for each placement, some devices' sizes, and a striped log.
pub(crate) fn superblock_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let striped = Striping::new(2, 16).unwrap();
    for (placement, capacity, striping) in [
        (0_u8, 131_072_u64, Striping::DEFAULT),
        (0, 131_072, striped),
        (0, 1 << 41, Striping::DEFAULT),
        (1, 4096, Striping::DEFAULT),
        (1, 1 << 22, striped),
        (2, 262_144, Striping::DEFAULT),
        (5, 4 * 262_144, Striping::DEFAULT),
    ] {
        let layout = Layout::new(self::placement(placement), capacity, striping).unwrap();
        let block = Superblock::just_created(4096).encode(&layout);
        let numbers = [capacity, capacity, 0].map(u64::to_be_bytes).concat();
        seeds.push([&[placement], numbers.as_slice(), &block[..128]].concat());
    }
    seeds
}

fn placement(byte: u8) -> Placement {
    match byte {
        0 => Placement::Internal,
        1 => Placement::Flexible,
        slot => Placement::Indexed(slot - 2),
    }
}

/// Superblock, log and bitmap are inside the device, whole sectors, and apart from each other and
/// from internal metadata's data.
fn check_layout(layout: &Layout, capacity: u64) {
    let bytes = capacity * 512;
    let superblock = (layout.superblock_byte(), BLOCK_BYTES as u64);
    let log = (layout.al_byte(), layout.al_bytes());
    let bitmap = (layout.bitmap_byte(), layout.bitmap_area_bytes());
    let areas = [superblock, log, bitmap];
    for (index, &(start, len)) in areas.iter().enumerate() {
        assert!(start.is_multiple_of(512) && len.is_multiple_of(512));
        assert!(start + len <= bytes, "{layout:?} reaches past the device's end");
        for &(other, other_len) in &areas[..index] {
            assert!(start + len <= other || other + other_len <= start, "{layout:?} overlaps itself");
        }
        if layout.placement().is_internal() {
            assert!(layout.max_data_sectors() * 512 <= start, "{layout:?} overlaps the data");
        }
    }
    let blocks = layout.striping().blocks();
    for position in [0, 1, blocks / 2, blocks - 1] {
        let at = layout.al_block_byte(position);
        assert!(at >= log.0 && at + BLOCK_BYTES as u64 <= log.0 + log.1);
    }
}
