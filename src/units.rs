//! The units of everything else: addresses, runs, bits, moments. Pure values, no I/O.
//!
//! No bare integer crosses a module's border where one of these fits. Fields are private so that
//! each conversion has one door.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Bytes in a sector, on the wire and on disk, whatever the device below uses.
pub const SECTOR_BYTES: u64 = 512;
/// Bytes that one bit of the out-of-sync bitmap stands for.
pub const BLOCK_BYTES: u64 = 4096;
/// Sectors that one bit of the out-of-sync bitmap stands for.
pub const BLOCK_SECTORS: u64 = BLOCK_BYTES / SECTOR_BYTES;
/// Sectors of one activity-log extent (4 MiB).
pub const AL_EXTENT_SECTORS: u64 = (4 << 20) / SECTOR_BYTES;
/// Sectors of one resync extent (16 MiB).
pub const RESYNC_EXTENT_SECTORS: u64 = (16 << 20) / SECTOR_BYTES;

/// Address of a 512-byte sector on the *replicated* device (metadata lies outside this space).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sector(u64);

impl Sector {
    /// The sector with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number, counted from the start of the replicated device.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Its distance in bytes from the start of the replicated device.
    #[must_use]
    pub const fn byte_offset(self) -> u64 {
        self.0 * SECTOR_BYTES
    }

    /// The bit that covers this sector; rounds down, so eight sectors share a bit.
    #[must_use]
    pub const fn bit(self) -> BitIndex {
        BitIndex(self.0 / BLOCK_SECTORS)
    }

    /// The activity-log extent that covers this sector.
    #[must_use]
    pub const fn al_extent(self) -> AlExtent {
        AlExtent((self.0 / AL_EXTENT_SECTORS) as u32)
    }

    /// The sector `count` further on, or `None` past the end of the number space.
    #[must_use]
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl fmt::Display for Sector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A non-empty run of sectors on the replicated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    start: Sector,
    sectors: NonZeroU32,
}

impl Extent {
    /// The run of `sectors` from `start`. `None` for an empty run, or one past the number space.
    #[must_use]
    pub const fn new(start: Sector, sectors: u32) -> Option<Self> {
        match (NonZeroU32::new(sectors), start.checked_add(sectors as u64)) {
            (Some(sectors), Some(_)) => Some(Self { start, sectors }),
            _ => None,
        }
    }

    /// As [`Extent::new`], and `None` also for a run that ends past `device_end`.
    #[must_use]
    pub fn within(start: Sector, sectors: u32, device_end: Sector) -> Option<Self> {
        Self::new(start, sectors).filter(|extent| extent.end() <= device_end)
    }

    /// The run of `bytes` from `start`; `None` unless `bytes` is a positive multiple of 512.
    #[must_use]
    pub fn of_bytes(start: Sector, bytes: u64) -> Option<Self> {
        if !bytes.is_multiple_of(SECTOR_BYTES) {
            return None;
        }
        Self::new(start, u32::try_from(bytes / SECTOR_BYTES).ok()?)
    }

    /// First sector.
    #[must_use]
    pub const fn start(self) -> Sector {
        self.start
    }

    /// Number of sectors, at least 1.
    #[must_use]
    pub const fn sectors(self) -> u32 {
        self.sectors.get()
    }

    /// Length in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.sectors.get() as u64 * SECTOR_BYTES
    }

    /// First sector behind the run.
    #[must_use]
    pub const fn end(self) -> Sector {
        Sector(self.start.0 + self.sectors.get() as u64)
    }

    /// Whether the two runs share a sector.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// Whether the two runs touch a block in common, be it in different sectors.
    #[must_use]
    pub fn shares_block(self, other: Self) -> bool {
        let ((first, last), (other_first, other_last)) = (self.touched_bits(), other.touched_bits());
        first <= other_last && other_first <= last
    }

    /// Whether `other` lies wholly inside this run.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// The bits this run touches, even partly (outward rounding, T27): first and last, inclusive.
    #[must_use]
    pub const fn touched_bits(self) -> (BitIndex, BitIndex) {
        (self.start.bit(), Sector(self.end().0 - 1).bit())
    }

    /// The bits this run covers wholly (inward rounding, T27), first and last inclusive. The
    /// device's last, short block counts as covered if the run reaches `device_end`.
    #[must_use]
    pub const fn covered_bits(self, device_end: Sector) -> Option<(BitIndex, BitIndex)> {
        let first = self.start.0.div_ceil(BLOCK_SECTORS);
        let past_last = if self.end().0 >= device_end.0 {
            device_end.0.div_ceil(BLOCK_SECTORS)
        } else {
            self.end().0 / BLOCK_SECTORS
        };
        if first < past_last { Some((BitIndex(first), BitIndex(past_last - 1))) } else { None }
    }

    /// The activity-log extents this run touches: first and last, inclusive.
    #[must_use]
    pub const fn al_extents(self) -> (AlExtent, AlExtent) {
        (self.start.al_extent(), Sector(self.end().0 - 1).al_extent())
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start, self.sectors)
    }
}

/// Index of a bit of the out-of-sync bitmap: one for each 4 KiB block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitIndex(u64);

impl BitIndex {
    /// The bit with this index.
    #[must_use]
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// Its index.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// First sector of the block it stands for.
    #[must_use]
    pub const fn sector(self) -> Sector {
        Sector(self.0 * BLOCK_SECTORS)
    }
}

/// Number of bits a device of `end` sectors needs: one for each started block (W103).
#[must_use]
pub const fn bits_of(end: Sector) -> u64 {
    end.0.div_ceil(BLOCK_SECTORS)
}

/// Number of an activity-log extent: 4 MiB of the replicated device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlExtent(u32);

impl AlExtent {
    /// The extent with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Number of a volume within its resource, the same on both nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub u16);

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A point on the monotonic clock: nanoseconds since a start that only differences make visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment `ns` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `span` later (saturating: a deadline past the end of time never comes).
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I12, T27
    #[test]
    fn a_run_touches_outward_and_covers_inward() {
        let end = Sector::new(1000);
        let run = Extent::new(Sector::new(7), 10).unwrap();
        assert_eq!(run.touched_bits(), (BitIndex::new(0), BitIndex::new(2)));
        assert_eq!(run.covered_bits(end), Some((BitIndex::new(1), BitIndex::new(1))));
    }

    /// T27
    #[test]
    fn the_short_tail_block_counts_as_covered() {
        let end = Sector::new(1003);
        let tail = Extent::new(Sector::new(1000), 3).unwrap();
        assert_eq!(tail.covered_bits(end), Some((BitIndex::new(125), BitIndex::new(125))));
    }
}
