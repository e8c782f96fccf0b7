//! Where superblock, activity log and bitmap lie (M6..M18): computed from the device's size, never
//! searched for.
//!
//! ```text
//! internal:  data … | bitmap | activity log | superblock | 0–7 spare sectors
//! external:  superblock | activity log | bitmap
//! ```

use std::fmt;
use std::str::FromStr;

use crate::units::{SECTOR_BYTES, Sector};

/// Sectors of a 4 KiB metadata block.
const BLOCK_SECTORS: u64 = 8;
/// Sectors of one slot of an indexed external metadata device: 128 MiB (M6).
pub const SLOT_SECTORS: u64 = 262_144;
/// Data sectors that one 4 KiB bitmap page covers: 128 MiB.
const PAGE_COVERS_SECTORS: u64 = 262_144;
/// Data sectors that one sector of bitmap covers.
const BITMAP_SECTOR_COVERS: u64 = 32_768;
/// The smallest device that any command works on, in bytes (M14).
pub const MIN_DEVICE_BYTES: u64 = 69_632;
/// The largest device that the formats are made for: 1 PiB, in sectors (M17).
pub const MAX_DEVICE_SECTORS: u64 = 1 << 41;
/// The smallest metadata device that can be attached, for the negative indexes, in sectors (M15).
const MIN_ATTACH_SECTORS: u64 = 2048;

/// Which of the placements of M6 a volume uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// At the end of the backing device (`internal`, index −3).
    Internal,
    /// A whole separate device (`flex-external`, index −2).
    Flexible,
    /// The numbered 128 MiB slot of a device shared by several volumes.
    Indexed(u8),
}

impl Placement {
    /// The index number used on the attach interface (M6).
    #[must_use]
    pub const fn index(self) -> i32 {
        match self {
            Self::Internal => -3,
            Self::Flexible => -2,
            Self::Indexed(slot) => slot as i32,
        }
    }

    /// Whether the metadata shares the backing device.
    #[must_use]
    pub const fn is_internal(self) -> bool {
        matches!(self, Self::Internal)
    }

    /// The superblock's first sector on a metadata device of `capacity` sectors (M8..M10).
    ///
    /// # Errors
    /// If the device is too small to hold it, or larger than the format allows.
    pub const fn superblock_sector(self, capacity: u64) -> Result<u64, LayoutError> {
        if capacity > MAX_DEVICE_SECTORS {
            return Err(LayoutError::TooLarge { sectors: capacity });
        }
        if capacity < MIN_DEVICE_BYTES / SECTOR_BYTES {
            return Err(LayoutError::TooSmall { bytes: capacity * SECTOR_BYTES });
        }
        match self {
            Self::Internal => Ok((capacity & !7) - BLOCK_SECTORS),
            Self::Flexible => Ok(0),
            Self::Indexed(slot) => {
                if capacity < SLOT_SECTORS * (slot as u64 + 1) {
                    return Err(LayoutError::NoSuchSlot { slot, sectors: capacity });
                }
                Ok(SLOT_SECTORS * slot as u64)
            }
        }
    }
}

/// The tool's words: `internal`, `flex-external`, or the slot's number (M6).
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal => f.write_str("internal"),
            Self::Flexible => f.write_str("flex-external"),
            Self::Indexed(slot) => write!(f, "{slot}"),
        }
    }
}

impl FromStr for Placement {
    type Err = LayoutError;

    fn from_str(word: &str) -> Result<Self, LayoutError> {
        match word {
            "internal" | "flex-internal" | "-3" => Ok(Self::Internal),
            "flex-external" | "flexible" | "-2" => Ok(Self::Flexible),
            number => number
                .parse()
                .map(Self::Indexed)
                .map_err(|_| LayoutError::UnknownPlacement { word: number.to_owned() }),
        }
    }
}

/// How the ring of activity-log blocks is spread over the stripes of a RAID (M18, M55).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Striping {
    stripes: u32,
    stripe_blocks: u32,
}

impl Striping {
    /// One stripe of 8 blocks (32 KiB), what everybody uses unless told otherwise.
    pub const DEFAULT: Self = Self { stripes: 1, stripe_blocks: 8 };
    /// The largest log of the kernel, in 4 KiB blocks (M18).
    pub const MAX_BLOCKS: u32 = 4_194_304;
    /// The largest log that the tool creates, in 4 KiB blocks (M18).
    pub const MAX_CREATE_BLOCKS: u32 = 8192;
    /// The smallest log, in 4 KiB blocks (M18).
    pub const MIN_BLOCKS: u32 = 8;

    /// `stripes` stripes of `stripe_blocks` 4 KiB blocks each. Both 0 means the default (M24).
    ///
    /// # Errors
    /// If the product is outside 8 … 4194304 blocks.
    pub const fn new(stripes: u32, stripe_blocks: u32) -> Result<Self, LayoutError> {
        if stripes == 0 && stripe_blocks == 0 {
            return Ok(Self::DEFAULT);
        }
        let blocks = stripes as u64 * stripe_blocks as u64;
        if blocks < Self::MIN_BLOCKS as u64 || blocks > Self::MAX_BLOCKS as u64 {
            return Err(LayoutError::Striping { stripes, stripe_blocks });
        }
        Ok(Self { stripes, stripe_blocks })
    }

    /// Number of stripes.
    #[must_use]
    pub const fn stripes(self) -> u32 {
        self.stripes
    }

    /// Size of a stripe in 4 KiB blocks.
    #[must_use]
    pub const fn stripe_blocks(self) -> u32 {
        self.stripe_blocks
    }

    /// Number of 4 KiB blocks in the log: its ring's length.
    #[must_use]
    pub const fn blocks(self) -> u32 {
        self.stripes * self.stripe_blocks
    }

    /// The block of the log area that holds ring position `position` (M55).
    #[must_use]
    pub const fn block_of(self, position: u32) -> u32 {
        (position % self.stripes) * self.stripe_blocks + position / self.stripes
    }
}

impl Default for Striping {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Where everything lies on one metadata device. Byte positions count from the device's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    placement: Placement,
    striping: Striping,
    capacity: u64,
    superblock_sector: u64,
    al_offset: i32,
    bm_offset: i32,
    md_size_sectors: u32,
}

impl Layout {
    /// The one correct layout (M8..M10) for a metadata device of `capacity` sectors.
    ///
    /// # Errors
    /// If the device is too small or too large, or the striping does not fit the placement.
    pub fn new(placement: Placement, capacity: u64, striping: Striping) -> Result<Self, LayoutError> {
        let superblock_sector = placement.superblock_sector(capacity)?;
        let al_sectors = striping.blocks() * BLOCK_SECTORS as u32;
        // At most 2^25 sectors of log and 2^26 of bitmap: all of it fits 32 bits (M17, M18).
        let (al_offset, bm_offset, md_size_sectors) = match placement {
            Placement::Internal => {
                let bitmap = (BLOCK_SECTORS * capacity.div_ceil(PAGE_COVERS_SECTORS)) as u32;
                let below = bitmap + al_sectors;
                if u64::from(below) > superblock_sector {
                    return Err(LayoutError::TooSmall { bytes: capacity * SECTOR_BYTES });
                }
                (-(al_sectors as i32), -(below as i32), below + BLOCK_SECTORS as u32)
            }
            Placement::Flexible => {
                let bm_offset = BLOCK_SECTORS as u32 + al_sectors;
                if capacity <= u64::from(bm_offset) {
                    return Err(LayoutError::TooSmall { bytes: capacity * SECTOR_BYTES });
                }
                let size = u32::try_from(capacity).unwrap_or(!7);
                (BLOCK_SECTORS as i32, bm_offset as i32, size)
            }
            Placement::Indexed(_) => {
                if striping != Striping::DEFAULT {
                    return Err(LayoutError::IndexedStriping);
                }
                (BLOCK_SECTORS as i32, 72, SLOT_SECTORS as u32)
            }
        };
        Ok(Self { placement, striping, capacity, superblock_sector, al_offset, bm_offset, md_size_sectors })
    }

    /// The same layout with the metadata size that a superblock records: a flexible metadata
    /// device may have grown since, and then only the recorded part is ours.
    #[must_use]
    pub(crate) const fn with_recorded_size(mut self, md_size_sectors: u32) -> Self {
        self.md_size_sectors = md_size_sectors;
        self
    }

    /// The placement it was made for.
    #[must_use]
    pub const fn placement(&self) -> Placement {
        self.placement
    }

    /// Striping of the activity log.
    #[must_use]
    pub const fn striping(&self) -> Striping {
        self.striping
    }

    /// Size of the metadata device in sectors.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Sectors from the superblock to the activity log, as stored.
    #[must_use]
    pub const fn al_offset(&self) -> i32 {
        self.al_offset
    }

    /// Sectors from the superblock to the bitmap, as stored.
    #[must_use]
    pub const fn bm_offset(&self) -> i32 {
        self.bm_offset
    }

    /// Sectors of the whole metadata area, as stored.
    #[must_use]
    pub const fn md_size_sectors(&self) -> u32 {
        self.md_size_sectors
    }

    /// Byte position of the superblock on the metadata device.
    #[must_use]
    pub const fn superblock_byte(&self) -> u64 {
        self.superblock_sector * SECTOR_BYTES
    }

    /// Byte position of the activity log on the metadata device.
    #[must_use]
    pub const fn al_byte(&self) -> u64 {
        self.superblock_sector.wrapping_add_signed(self.al_offset as i64) * SECTOR_BYTES
    }

    /// Bytes of the activity log.
    #[must_use]
    pub const fn al_bytes(&self) -> u64 {
        self.striping.blocks() as u64 * BLOCK_SECTORS * SECTOR_BYTES
    }

    /// Byte position of the activity-log block that holds ring position `position` (M55).
    #[must_use]
    pub const fn al_block_byte(&self, position: u32) -> u64 {
        self.al_byte() + self.striping.block_of(position) as u64 * BLOCK_SECTORS * SECTOR_BYTES
    }

    /// Byte position of the bitmap on the metadata device.
    #[must_use]
    pub const fn bitmap_byte(&self) -> u64 {
        self.superblock_sector.wrapping_add_signed(self.bm_offset as i64) * SECTOR_BYTES
    }

    /// Bytes reserved for the bitmap, a multiple of 512. With flexible metadata the last page may
    /// be cut short by the device's end (M3).
    #[must_use]
    pub const fn bitmap_area_bytes(&self) -> u64 {
        let sectors = match self.placement {
            Placement::Internal => (self.al_offset - self.bm_offset) as u64,
            Placement::Flexible | Placement::Indexed(_) => {
                self.md_size_sectors as u64 - self.bm_offset as u64
            }
        };
        sectors * SECTOR_BYTES
    }

    /// The largest replicated device that the metadata can describe, in sectors: the data area
    /// for internal metadata, what the bitmap covers for external.
    #[must_use]
    pub const fn max_data_sectors(&self) -> u64 {
        match self.placement {
            Placement::Internal => self.superblock_sector.wrapping_add_signed(self.bm_offset as i64),
            Placement::Flexible | Placement::Indexed(_) => {
                let covered = self.bitmap_area_bytes() / SECTOR_BYTES * BITMAP_SECTOR_COVERS;
                if covered < MAX_DEVICE_SECTORS { covered } else { MAX_DEVICE_SECTORS }
            }
        }
    }

    /// Size of the replicated device that this node can offer (M8..M10). `backing` is the
    /// backing device's size in sectors; for internal metadata it is this layout's own device.
    #[must_use]
    pub fn offered_size(&self, backing: u64) -> Sector {
        Sector::new(self.max_data_sectors().min(backing))
    }

    /// Whether the metadata device is large enough to be attached (M15, error 112).
    #[must_use]
    pub const fn is_attachable(&self) -> bool {
        match self.placement {
            Placement::Internal | Placement::Flexible => self.capacity >= MIN_ATTACH_SECTORS,
            Placement::Indexed(slot) => self.capacity >= SLOT_SECTORS * (slot as u64 + 1),
        }
    }
}

/// The size two nodes agree on, or one keeps while it is alone (M136). All in sectors, 0 = unknown.
///
/// `offered` is what this node's devices allow, `peer` what the peer offers, `last_agreed` the
/// superblock's la_size, `configured` the `disk-size` option, which wins where it fits.
#[must_use]
pub fn effective_size(offered: Sector, peer: Sector, last_agreed: Sector, configured: Sector) -> Sector {
    let unknown = Sector::new(0);
    let known = |size: Sector| (size != unknown).then_some(size);
    let agreed = match (known(offered), known(peer), known(last_agreed)) {
        (Some(own), Some(theirs), _) => own.min(theirs),
        (own, theirs, Some(last)) => own.or(theirs).map_or(last, |limit| last.min(limit)),
        (own, theirs, None) => own.or(theirs).unwrap_or(unknown),
    };
    known(configured).filter(|&size| size <= agreed).unwrap_or(agreed)
}

/// Why there is no layout for a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Smaller than M14, or than log and bitmap need.
    #[error("the metadata device has only {bytes} bytes: that is not enough for the metadata")]
    TooSmall {
        /// Its size in bytes.
        bytes: u64,
    },
    /// Larger than M17.
    #[error("the device has {sectors} sectors: the metadata format ends at 1 PiB")]
    TooLarge {
        /// Its size in sectors.
        sectors: u64,
    },
    /// The device ends before the slot does (M16).
    #[error(
        "index {slot} needs a metadata device of {} MiB, this one has {sectors} sectors",
        128 * (u32::from(*slot) + 1)
    )]
    NoSuchSlot {
        /// The slot asked for.
        slot: u8,
        /// Size of the device in sectors.
        sectors: u64,
    },
    /// A log smaller or larger than M18 allows.
    #[error(
        "an activity log of {stripes} stripes of {stripe_blocks} blocks is outside the permitted \
         8 to 4194304 blocks of 4 KiB"
    )]
    Striping {
        /// Number of stripes.
        stripes: u32,
        /// Blocks of a stripe.
        stripe_blocks: u32,
    },
    /// Indexed metadata has no room for another log than the default one (M10).
    #[error("indexed external metadata cannot have a striped activity log: use flexible metadata")]
    IndexedStriping,
    /// Not one of the words of M6.
    #[error("`{word}` is no metadata index: use internal, flex-external or a number from 0 to 255")]
    UnknownPlacement {
        /// What was given.
        word: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of M1.3: backing bytes, md_offset, al_offset, bm_offset (bytes), md_size_sect,
    /// data sectors.
    const INTERNAL: [(u64, u64, u64, u64, u32, u64); 10] = [
        (1_048_576, 1_044_480, 1_011_712, 1_007_616, 80, 1968),
        (8_388_608, 8_384_512, 8_351_744, 8_347_648, 80, 16_304),
        (67_108_864, 67_104_768, 67_072_000, 67_067_904, 80, 130_992),
        (67_110_400, 67_104_768, 67_072_000, 67_067_904, 80, 130_992),
        (134_217_728, 134_213_632, 134_180_864, 134_176_768, 80, 262_064),
        (134_221_824, 134_217_728, 134_184_960, 134_176_768, 88, 262_064),
        (1_073_741_312, 1_073_733_632, 1_073_700_864, 1_073_668_096, 136, 2_097_008),
        (1_073_741_824, 1_073_737_728, 1_073_704_960, 1_073_672_192, 136, 2_097_016),
        (1_099_511_627_776, 1_099_511_623_680, 1_099_511_590_912, 1_099_478_036_480, 65_608, 2_147_418_040),
        (
            17_592_186_040_320,
            17_592_186_036_224,
            17_592_186_003_456,
            17_591_649_132_544,
            1_048_648,
            34_358_689_712,
        ),
    ];

    #[test]
    fn internal_metadata_lies_where_the_real_tool_puts_it() {
        for (bytes, md, al, bm, size, data) in INTERNAL {
            let layout = Layout::new(Placement::Internal, bytes / 512, Striping::DEFAULT).unwrap();
            assert_eq!(layout.superblock_byte(), md, "{bytes}");
            assert_eq!(layout.al_byte(), al, "{bytes}");
            assert_eq!(layout.bitmap_byte(), bm, "{bytes}");
            assert_eq!(layout.md_size_sectors(), size, "{bytes}");
            assert_eq!(layout.offered_size(bytes / 512), Sector::new(data), "{bytes}");
        }
    }

    #[test]
    fn a_striped_log_moves_the_bitmap_down() {
        let striping = Striping::new(4, 4).unwrap();
        let layout = Layout::new(Placement::Internal, 131_072, striping).unwrap();
        assert_eq!(layout.al_byte(), 67_039_232);
        assert_eq!(layout.bitmap_byte(), 67_035_136);
        assert_eq!(layout.md_size_sectors(), 144);
        assert_eq!(layout.max_data_sectors(), 130_928);
    }

    #[test]
    fn external_metadata_offers_what_its_bitmap_covers() {
        let huge = 34_359_738_368 / 512;
        for (md_bytes, backing, data) in [
            (1_048_576, 131_072, 131_072),
            (1_048_576, 131_075, 131_075),
            (1_048_576, huge, 64_749_568),
            (1_050_624, huge, 64_880_640),
            (1_052_672, huge, 65_011_712),
        ] {
            let layout = Layout::new(Placement::Flexible, md_bytes / 512, Striping::DEFAULT).unwrap();
            assert_eq!((layout.superblock_byte(), layout.al_byte()), (0, 4096));
            assert_eq!(layout.bitmap_byte(), 36_864);
            assert_eq!(layout.offered_size(backing), Sector::new(data));
        }
        let slot = Layout::new(Placement::Indexed(1), 524_288, Striping::DEFAULT).unwrap();
        assert_eq!(slot.superblock_byte(), 134_217_728);
        assert_eq!(slot.al_byte(), 134_221_824);
        assert_eq!(slot.bitmap_byte(), 134_254_592);
        assert_eq!(slot.max_data_sectors(), 8_587_575_296);
    }

    #[test]
    fn a_slot_that_the_device_does_not_hold_is_refused() {
        let short = Layout::new(Placement::Indexed(1), 262_144 + 8, Striping::DEFAULT);
        assert!(matches!(short, Err(LayoutError::NoSuchSlot { slot: 1, .. })));
    }

    #[test]
    fn a_device_below_68_kib_or_above_1_pib_is_refused() {
        for placement in [Placement::Internal, Placement::Flexible] {
            assert!(Layout::new(placement, 135, Striping::DEFAULT).is_err());
            assert!(Layout::new(placement, 136, Striping::DEFAULT).is_ok());
            assert!(Layout::new(placement, MAX_DEVICE_SECTORS, Striping::DEFAULT).is_ok());
            assert!(Layout::new(placement, MAX_DEVICE_SECTORS + 1, Striping::DEFAULT).is_err());
        }
        let large_log = Striping::new(1, 8192).unwrap();
        assert!(Layout::new(Placement::Internal, 2048, large_log).is_err());
    }

    #[test]
    fn striping_spreads_neighbours_of_the_ring_over_the_stripes() {
        let striping = Striping::new(3, 3).unwrap();
        let blocks: Vec<_> = (0..9).map(|position| striping.block_of(position)).collect();
        assert_eq!(blocks, [0, 3, 6, 1, 4, 7, 2, 5, 8]);
        assert!(Striping::new(1, 7).is_err());
        assert!(Striping::new(0, 8).is_err());
        assert_eq!(Striping::new(0, 0), Ok(Striping::DEFAULT));
    }

    #[test]
    fn the_agreed_size_is_the_smaller_one_and_a_lone_node_keeps_the_last_one() {
        let size = |own, peer, last, configured| {
            let [own, peer, last, configured] = [own, peer, last, configured].map(Sector::new);
            effective_size(own, peer, last, configured).get()
        };
        assert_eq!(size(100, 80, 60, 0), 80);
        assert_eq!(size(100, 0, 60, 0), 60);
        assert_eq!(size(50, 0, 60, 0), 50);
        assert_eq!(size(100, 0, 0, 0), 100);
        assert_eq!(size(100, 80, 60, 70), 70);
        assert_eq!(size(100, 80, 60, 90), 80);
    }
}
