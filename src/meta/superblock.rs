//! The v08 superblock: 4096 bytes, big-endian, no checksum (M19..M33).
//!
//! [`RawSuperblock`] is the bytes; [`Superblock`] is what they mean once magic, bit size, striping
//! and layout are known to be right. Position and sizes are not part of it: they follow from the
//! device ([`Layout`]) and are written and compared, never believed (M26).

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

use zerocopy::byteorder::big_endian::{I32, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::BLOCK_BYTES;
use super::layout::{Layout, LayoutError, Placement, Striping};
use super::uuid::Uuids;
use crate::units::Sector;

/// Magic of v07 (at another position, M22).
pub const MAGIC_V07: u32 = 0x8374_026A;
/// Magic of v08 after apply-al (M19).
pub const MAGIC_V08: u32 = 0x8374_026B;
/// Magic of v08 once a DRBD 8.4 has attached it (M20).
pub const MAGIC_V08_UNCLEAN: u32 = 0x8374_026C;
/// Magic of v09.
pub const MAGIC_V09: u32 = 0x8374_026D;
/// Slots that create-md and restore-md record (M115).
pub const CREATED_AL_SLOTS: u32 = 257;
/// The only bit size of v08 in bytes (M24).
const BYTES_PER_BIT: u32 = 4096;

/// The superblock exactly as on disk (M2.1).
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawSuperblock {
    la_size_sect: U64,
    uuids: [U64; 4],
    device_uuid: U64,
    reserved: U64,
    flags: U32,
    magic: U32,
    md_size_sect: U32,
    al_offset: I32,
    al_nr_extents: U32,
    bm_offset: I32,
    bm_bytes_per_bit: U32,
    la_peer_max_bio_size: U32,
    al_stripes: U32,
    al_stripe_size_4k: U32,
    zero: [u8; 4000],
}

const _: () = assert!(size_of::<RawSuperblock>() == BLOCK_BYTES);

/// The flag word at byte 56 (M2.3). Unknown bits are kept (M23).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MetaFlags(u32);

impl MetaFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The data is a point-in-time consistent image.
    pub const CONSISTENT: Self = Self(0x001);
    /// The disk was being written as Primary.
    pub const PRIMARY_IND: Self = Self(0x002);
    /// The replication connection was up.
    pub const CONNECTED_IND: Self = Self(0x004);
    /// Treat every bit of the bitmap as set.
    pub const FULL_SYNC: Self = Self(0x008);
    /// The disk was Consistent or UpToDate.
    pub const WAS_UP_TO_DATE: Self = Self(0x010);
    /// The peer's disk is known to be Inconsistent or Outdated.
    pub const PEER_OUTDATED: Self = Self(0x020);
    /// This node crashed as Primary and has not been in sync with its peer since.
    pub const CRASHED_PRIMARY: Self = Self(0x040);
    /// The activity log has been applied.
    pub const AL_CLEAN: Self = Self(0x080);
    /// The activity log is not being kept.
    pub const AL_DISABLED: Self = Self(0x100);

    /// The flags of this word.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The word.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `flags` are set.
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether any of `flags` is set.
    #[must_use]
    pub const fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// This word with `flags` set or cleared.
    #[must_use]
    pub const fn with(self, flags: Self, on: bool) -> Self {
        Self(if on { self.0 | flags.0 } else { self.0 & !flags.0 })
    }

    /// Whether the bitmap on disk must not be trusted: every bit counts as set (M47, M2.3).
    #[must_use]
    pub const fn need_full_sync(self) -> bool {
        self.contains(Self::FULL_SYNC)
            || self.contains(Self::AL_DISABLED)
                && self.intersects(Self(Self::PRIMARY_IND.0 | Self::CRASHED_PRIMARY.0))
    }
}

impl BitOr for MetaFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for MetaFlags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The flags of the left side without those of the right.
impl Sub for MetaFlags {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Debug for MetaFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MetaFlags({:#x})", self.0)
    }
}

/// Which of the two v08 magics the block carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Marking {
    /// `…6B`: written by the tool, or by a clean detach of ours (M94).
    Clean,
    /// `…6C`: attached since the last apply-al (M20). Not the sign of a crash.
    Attached,
}

/// A checked v08 superblock. Sizes and offsets live in the [`Layout`] found together with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Last agreed size of the replicated device; 0 = never attached, the bitmap says nothing (M29).
    pub la_size: Sector,
    /// The generation UUIDs.
    pub uuids: Uuids,
    /// Random identity of this metadata, 0 if never set (M99).
    pub device_uuid: u64,
    /// The flag word.
    pub flags: MetaFlags,
    /// Which magic.
    pub marking: Marking,
    /// Configured activity-log slots.
    pub al_slots: u32,
    /// The peer's largest request last seen, in bytes, as stored.
    pub peer_max_bio_bytes: u32,
}

impl Superblock {
    /// What create-md writes (M115).
    #[must_use]
    pub const fn just_created(peer_max_bio_bytes: u32) -> Self {
        Self {
            la_size: Sector::new(0),
            uuids: Uuids::just_created(),
            device_uuid: 0,
            flags: MetaFlags::AL_CLEAN,
            marking: Marking::Clean,
            al_slots: CREATED_AL_SLOTS,
            peer_max_bio_bytes,
        }
    }

    /// Reads the block found at [`Placement::superblock_sector`] of a metadata device of
    /// `capacity` sectors (M24, M26, M27).
    ///
    /// # Errors
    /// If the block is no v08 superblock, or describes another layout than the device's size
    /// demands. `la_size` is not judged here: see [`Superblock::check_attach`].
    pub fn decode(
        block: &[u8; BLOCK_BYTES],
        placement: Placement,
        capacity: u64,
    ) -> Result<(Self, Layout), SuperblockError> {
        let raw: &RawSuperblock = zerocopy::transmute_ref!(block);
        let marking = marking_of(raw, block)?;
        let layout = layout_of(raw, placement, capacity)?;
        let superblock = Self {
            la_size: Sector::new(raw.la_size_sect.get()),
            uuids: Uuids::from_array(raw.uuids.map(U64::get)),
            device_uuid: raw.device_uuid.get(),
            flags: MetaFlags(raw.flags.get()),
            marking,
            al_slots: raw.al_nr_extents.get(),
            peer_max_bio_bytes: raw.la_peer_max_bio_size.get(),
        };
        Ok((superblock, layout))
    }

    /// The whole block to write at the layout's superblock position, unused bytes zero (M32).
    #[must_use]
    pub fn encode(&self, layout: &Layout) -> [u8; BLOCK_BYTES] {
        let mut raw = RawSuperblock::new_zeroed();
        raw.la_size_sect.set(self.la_size.get());
        raw.uuids = self.uuids.to_array().map(U64::new);
        raw.device_uuid.set(self.device_uuid);
        raw.flags.set(self.flags.0);
        raw.magic.set(match self.marking {
            Marking::Clean => MAGIC_V08,
            Marking::Attached => MAGIC_V08_UNCLEAN,
        });
        raw.md_size_sect.set(layout.md_size_sectors());
        raw.al_offset.set(layout.al_offset());
        raw.al_nr_extents.set(self.al_slots);
        raw.bm_offset.set(layout.bm_offset());
        raw.bm_bytes_per_bit.set(BYTES_PER_BIT);
        raw.la_peer_max_bio_size.set(self.peer_max_bio_bytes);
        raw.al_stripes.set(layout.striping().stripes());
        raw.al_stripe_size_4k.set(layout.striping().stripe_blocks());
        zerocopy::transmute!(raw)
    }

    /// Whether the metadata may be attached without recovering the activity log first (M21).
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.marking == Marking::Clean && self.flags.contains(MetaFlags::AL_CLEAN)
    }

    /// Marks the block as "in use by DRBD 8.4": what is on disk while attached (M94).
    pub fn mark_attached(&mut self) {
        self.marking = Marking::Attached;
        self.flags = self.flags - MetaFlags::AL_CLEAN;
    }

    /// Marks the block as clean: the log has been applied and is empty (M71).
    pub fn mark_clean(&mut self) {
        self.marking = Marking::Clean;
        self.flags = self.flags | MetaFlags::AL_CLEAN;
    }

    /// The peer's largest request to reckon with, in bytes: never below 4096 (M2.1).
    #[must_use]
    pub fn effective_peer_max_bio_bytes(&self) -> u32 {
        self.peer_max_bio_bytes.max(BYTES_PER_BIT)
    }

    /// Checks 7, 8 and 11 of M24: whether a backing device of `backing` sectors, with the
    /// `configured` size (0 = none), can be attached with this metadata. Returns the size that
    /// this node offers.
    ///
    /// # Errors
    /// The refusal, with DRBD's error code.
    pub fn check_attach(
        &self,
        layout: &Layout,
        backing: Sector,
        configured: Sector,
    ) -> Result<Sector, AttachError> {
        let available = layout.offered_size(backing.get());
        if configured > available {
            return Err(AttachError::SmallerThanConfigured { available, configured });
        }
        if !layout.is_attachable() {
            return Err(AttachError::MetaDeviceTooSmall { sectors: layout.capacity() });
        }
        let offered = if configured.get() > 0 { configured } else { available };
        let shrinks = self.flags.contains(MetaFlags::CONSISTENT) && offered < self.la_size;
        if shrinks && configured.get() == 0 {
            return Err(AttachError::ImplicitShrink { available, last_agreed: self.la_size });
        }
        Ok(offered)
    }
}

/// The magic, or what the block is instead (M19, M22).
fn marking_of(raw: &RawSuperblock, block: &[u8]) -> Result<Marking, SuperblockError> {
    match raw.magic.get() {
        MAGIC_V08 => Ok(Marking::Clean),
        MAGIC_V08_UNCLEAN => Ok(Marking::Attached),
        MAGIC_V09 => Err(SuperblockError::OtherVersion { version: "v09" }),
        found => {
            if block[28..32] == MAGIC_V07.to_be_bytes() {
                return Err(SuperblockError::OtherVersion { version: "v07" });
            }
            Err(SuperblockError::Magic { found })
        }
    }
}

/// The device's layout, if the block agrees with it in every field (M25..M27).
fn layout_of(raw: &RawSuperblock, placement: Placement, capacity: u64) -> Result<Layout, SuperblockError> {
    if raw.bm_bytes_per_bit.get() != BYTES_PER_BIT {
        return Err(SuperblockError::BitSize { found: raw.bm_bytes_per_bit.get() });
    }
    let striping = Striping::new(raw.al_stripes.get(), raw.al_stripe_size_4k.get())?;
    let layout = Layout::new(placement, capacity, striping)?;
    let (expected, found) = (layout.al_offset(), raw.al_offset.get());
    if found != expected {
        return Err(SuperblockError::AlOffset { expected, found });
    }
    let (expected, found) = (layout.bm_offset(), raw.bm_offset.get());
    if found != expected {
        return Err(SuperblockError::BmOffset { expected, found });
    }
    let (expected, found) = (layout.md_size_sectors(), raw.md_size_sect.get());
    let fits = match placement {
        Placement::Internal | Placement::Indexed(_) => found == expected,
        Placement::Flexible => found <= expected && i64::from(found) > i64::from(layout.bm_offset()),
    };
    if !fits {
        return Err(SuperblockError::MdSize { expected, found });
    }
    Ok(layout.with_recorded_size(found))
}

/// Why a block is not the superblock we look for (M24 checks 3 to 6; attach error 119).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// No known magic.
    #[error("no DRBD v08 superblock here (magic {found:#010x}): create one with create-md")]
    Magic {
        /// The word at byte 60.
        found: u32,
    },
    /// Metadata of a version that we do not speak (M147).
    #[error("the metadata is {version}, not v08: convert it with drbdmeta, or create new metadata")]
    OtherVersion {
        /// `v07` or `v09`.
        version: &'static str,
    },
    /// A bit that stands for something else than 4 KiB.
    #[error("unexpected bm_bytes_per_bit: {found} (expected 4096)")]
    BitSize {
        /// As stored, in bytes.
        found: u32,
    },
    /// The log is not where it must be.
    #[error("v08 al_offset: expected {expected}, found {found}")]
    AlOffset {
        /// Sectors from the superblock.
        expected: i32,
        /// As stored.
        found: i32,
    },
    /// The bitmap is not where it must be.
    #[error("strange bm_offset {found} (expected: {expected})")]
    BmOffset {
        /// Sectors from the superblock.
        expected: i32,
        /// As stored.
        found: i32,
    },
    /// The metadata has another size than the device demands.
    #[error("strange md_size_sect {found} (expected: {expected})")]
    MdSize {
        /// Sectors.
        expected: u32,
        /// As stored.
        found: u32,
    },
    /// The striping, or the device's size, permits no layout at all.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// A refusal to attach, with the error code of M24 and the text of M30a.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// Error 111.
    #[error(
        "Low.dev. smaller than requested DRBD-dev. size. \
         ({available} sectors available, {configured} configured)"
    )]
    SmallerThanConfigured {
        /// What the devices allow.
        available: Sector,
        /// The `disk-size` option.
        configured: Sector,
    },
    /// Error 112.
    #[error("Meta device too small. ({sectors} sectors)")]
    MetaDeviceTooSmall {
        /// Its size in sectors.
        sectors: u64,
    },
    /// Error 170.
    #[error(
        "Implicit device shrinking not allowed. \
         ({available} sectors available, {last_agreed} agreed last)"
    )]
    ImplicitShrink {
        /// What the devices allow.
        available: Sector,
        /// What the superblock records.
        last_agreed: Sector,
    },
}

impl AttachError {
    /// DRBD's number for it.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::SmallerThanConfigured { .. } => 111,
            Self::MetaDeviceTooSmall { .. } => 112,
            Self::ImplicitShrink { .. } => 170,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTORS: u64 = 131_072;

    fn layout() -> Layout {
        Layout::new(Placement::Internal, SECTORS, Striping::DEFAULT).unwrap()
    }

    fn decode(block: &[u8; BLOCK_BYTES]) -> Result<(Superblock, Layout), SuperblockError> {
        Superblock::decode(block, Placement::Internal, SECTORS)
    }

    /// The annotated bytes of M12.
    #[test]
    fn the_superblock_of_a_crashed_primary_has_the_documented_bytes() {
        let superblock = Superblock {
            la_size: Sector::new(130_992),
            uuids: Uuids { current: 0x4e7f_de0f_d0a5_50bd, bitmap: 0x4dbd_e995_67c3_0846, history: [0; 2] },
            device_uuid: 0x9260_10fa_869b_619d,
            flags: MetaFlags::CONSISTENT | MetaFlags::PRIMARY_IND | MetaFlags::WAS_UP_TO_DATE,
            marking: Marking::Attached,
            al_slots: 1237,
            peer_max_bio_bytes: 4096,
        };
        let block = superblock.encode(&layout());
        assert_eq!(block[..8], [0, 0, 0, 0, 0, 1, 0xff, 0xb0]);
        assert_eq!(block[0x38..0x48], *b"\0\0\0\x13\x83\x74\x02\x6c\0\0\0\x50\xff\xff\xff\xc0");
        assert_eq!(block[0x48..0x58], *b"\0\0\x04\xd5\xff\xff\xff\xb8\0\0\x10\0\0\0\x10\0");
        assert_eq!(block[0x58..0x60], [0, 0, 0, 1, 0, 0, 0, 8]);
        assert!(block[0x60..].iter().all(|&byte| byte == 0));
        assert_eq!(decode(&block), Ok((superblock, layout())));
        assert!(!superblock.is_clean());
    }

    #[test]
    fn unknown_flags_survive_a_round_trip() {
        let mut superblock = Superblock::just_created(0);
        superblock.flags = MetaFlags::from_bits(0xF000_0091);
        superblock.mark_attached();
        let (read, _) = decode(&superblock.encode(&layout())).unwrap();
        assert_eq!(read.flags.bits(), 0xF000_0011);
    }

    #[test]
    fn a_block_that_contradicts_the_device_is_refused_field_by_field() {
        let good = Superblock::just_created(0).encode(&layout());
        let broken = |at: usize, bytes: [u8; 4]| {
            let mut block = good;
            block[at..at + 4].copy_from_slice(&bytes);
            decode(&block).unwrap_err()
        };
        assert!(matches!(broken(60, [0; 4]), SuperblockError::Magic { found: 0 }));
        assert_eq!(broken(60, MAGIC_V09.to_be_bytes()), SuperblockError::OtherVersion { version: "v09" });
        assert_eq!(broken(64, [0, 0, 0, 72]).to_string(), "strange md_size_sect 72 (expected: 80)");
        assert_eq!(broken(68, (-72i32).to_be_bytes()).to_string(), "v08 al_offset: expected -64, found -72");
        assert_eq!(broken(76, (-80i32).to_be_bytes()).to_string(), "strange bm_offset -80 (expected: -72)");
        assert_eq!(broken(80, [0, 0, 32, 0]), SuperblockError::BitSize { found: 8192 });
        assert!(matches!(broken(88, [0; 4]), SuperblockError::Layout(_)));
    }

    #[test]
    fn no_striping_recorded_means_the_default_log() {
        let mut block = Superblock::just_created(0).encode(&layout());
        block[88..96].fill(0);
        assert_eq!(decode(&block).unwrap().1.striping(), Striping::DEFAULT);
    }

    #[test]
    fn a_consistent_disk_is_not_shrunk_silently() {
        let mut superblock = Superblock::just_created(0);
        superblock.la_size = Sector::new(200_000);
        let backing = Sector::new(SECTORS);
        let none = Sector::new(0);
        let attach = |s: &Superblock, size| s.check_attach(&layout(), backing, size);
        assert_eq!(attach(&superblock, none), Ok(Sector::new(130_992)));
        superblock.flags = superblock.flags | MetaFlags::CONSISTENT;
        assert_eq!(attach(&superblock, none).unwrap_err().code(), 170);
        assert_eq!(attach(&superblock, Sector::new(100_000)), Ok(Sector::new(100_000)));
        assert_eq!(attach(&superblock, Sector::new(131_000)).unwrap_err().code(), 111);
    }

    #[test]
    fn a_disabled_log_means_full_sync_only_after_a_crash() {
        let disabled = MetaFlags::AL_DISABLED;
        assert!(!disabled.need_full_sync());
        assert!((disabled | MetaFlags::PRIMARY_IND).need_full_sync());
        assert!((disabled | MetaFlags::CRASHED_PRIMARY).need_full_sync());
        assert!(MetaFlags::FULL_SYNC.need_full_sync());
    }
}
