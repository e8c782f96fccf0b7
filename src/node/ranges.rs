//! Which sector ranges of a volume are busy: writes under way and resync exchanges exclude each
//! other (D11, D54, W167).
//!
//! The reference locks 16 MiB extents for the resync; here it is exactly the range exchanged, held
//! until the block is settled on both nodes (T6), so that an application waits for nothing else.

use super::audit::overlap;
use crate::units::Extent;

/// Who holds a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A write of this node's clients, by transfer-log key or a number that stands for it.
    Write(u64),
    /// A resync exchange, by its number.
    Resync(u64),
    /// A block that a verify compares, by its number.
    Verify(u64),
}

/// The busy ranges of one volume. Few at a time: a scan beats a tree.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    held: Vec<(Extent, Holder)>,
}

impl Ranges {
    /// Whether `extent` overlaps a held range.
    pub(super) fn busy(&self, extent: Extent) -> bool {
        self.held.iter().any(|(held, _)| held.overlaps(extent))
    }

    /// Whether `extent` overlaps a range held by a write.
    pub(super) fn written(&self, extent: Extent) -> bool {
        self.held.iter().any(|(held, who)| matches!(who, Holder::Write(_)) && held.overlaps(extent))
    }

    /// Holds a range.
    pub(super) fn hold(&mut self, extent: Extent, holder: Holder) {
        self.held.push((extent, holder));
    }

    /// Lets a range go. Returns whether it was held.
    pub(super) fn release(&mut self, holder: Holder) -> bool {
        match self.held.iter().position(|(_, who)| *who == holder) {
            Some(at) => {
                self.held.swap_remove(at);
                true
            }
            None => false,
        }
    }

    /// Lets all exchanges of a resync or verify go (D101).
    pub(super) fn release_resync(&mut self) {
        self.held.retain(|(_, who)| matches!(who, Holder::Write(_)));
    }

    /// Number of ranges held by writes.
    pub(super) fn writes(&self) -> usize {
        self.held.iter().filter(|(_, who)| matches!(who, Holder::Write(_))).count()
    }

    /// Whether something holds a range.
    pub(super) fn holds(&self, holder: Holder) -> bool {
        self.held.iter().any(|(_, who)| *who == holder)
    }

    /// Whether no write holds a range together with another write (I23) or an exchange of a resync (I29). A
    /// verify waits for the writes in its range with the range held.
    pub(super) fn audit(&self) -> Result<(), String> {
        for (at, (extent, who)) in self.held.iter().enumerate() {
            for (other, whose) in &self.held[at + 1..] {
                let verifies = |holder: &Holder| matches!(holder, Holder::Verify(_));
                let writes = |holder: &Holder| matches!(holder, Holder::Write(_));
                if !verifies(who) && !verifies(whose) && (writes(who) || writes(whose)) {
                    overlap(&format!("{whose:?}, with {who:?}"), *other, *extent)?;
                }
            }
        }
        Ok(())
    }

    /// Number of ranges held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Sector;

    #[test]
    fn a_held_range_keeps_overlapping_ones_out_until_released() {
        let at = |start, sectors| Extent::new(Sector::new(start), sectors).unwrap();
        let mut ranges = Ranges::default();
        ranges.hold(at(8, 8), Holder::Write(1));
        assert!(ranges.busy(at(15, 1)) && !ranges.busy(at(16, 8)) && !ranges.busy(at(0, 8)));
        ranges.hold(at(16, 8), Holder::Resync(1));
        assert!(!ranges.written(at(16, 8)));
        ranges.release_resync();
        assert!(!ranges.busy(at(16, 8)));
        assert!(ranges.release(Holder::Write(1)));
        assert_eq!(ranges.len(), 0);
    }
}
