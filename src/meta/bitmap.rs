//! The out-of-sync bitmap on disk: 4 KiB pages of little-endian 64-bit words (M40..M44).
//!
//! Everything behind the last bit is padding: it may hold garbage when read, and is written as
//! zero.

use super::BLOCK_BYTES;
use super::layout::Layout;
use crate::units::{AlExtent, BitIndex, Sector, bits_of};

/// 64-bit words in a page.
pub const PAGE_WORDS: usize = BLOCK_BYTES / 8;
/// Bits in a page: it stands for 128 MiB of data.
pub const PAGE_BITS: u64 = BLOCK_BYTES as u64 * 8;
/// Bits of one activity-log extent (M4).
pub const AL_EXTENT_BITS: u64 = 1024;
/// Activity-log extents whose bits share a page.
const PAGE_AL_EXTENTS: u32 = (PAGE_BITS / AL_EXTENT_BITS) as u32;

/// Number of 64-bit words that the bits of a device of size `end` take (M42).
#[must_use]
pub const fn words_of(end: Sector) -> u64 {
    bits_of(end).div_ceil(64)
}

/// Number of pages that the bits of a device of size `end` take (M42).
#[must_use]
pub const fn pages_of(end: Sector) -> u64 {
    bits_of(end).div_ceil(PAGE_BITS)
}

/// The page that holds a bit.
#[must_use]
pub const fn page_of_bit(bit: BitIndex) -> u64 {
    bit.get() / PAGE_BITS
}

/// The page that holds all bits of an activity-log extent (D90: `extent >> 5`).
#[must_use]
pub const fn page_of_extent(extent: AlExtent) -> u64 {
    (extent.get() / PAGE_AL_EXTENTS) as u64
}

/// First and last bit of an activity-log extent, inclusive; the last may lie behind the device.
#[must_use]
pub const fn bits_of_extent(extent: AlExtent) -> (BitIndex, BitIndex) {
    let first = extent.get() as u64 * AL_EXTENT_BITS;
    (BitIndex::new(first), BitIndex::new(first + AL_EXTENT_BITS - 1))
}

/// Where a page lies on the metadata device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagePlace {
    /// Byte position on the metadata device.
    pub byte: u64,
    /// Bytes to read or write: 4096, or less for a page that the end of a flexible metadata device
    /// cuts off (M3); a multiple of 512.
    pub bytes: usize,
}

/// The place of a page, `None` behind the area that the layout reserves.
#[must_use]
pub fn page_place(layout: &Layout, page: u64) -> Option<PagePlace> {
    let offset = page.checked_mul(BLOCK_BYTES as u64)?;
    let left = layout.bitmap_area_bytes().checked_sub(offset).filter(|&left| left > 0)?;
    let bytes = left.min(BLOCK_BYTES as u64) as usize;
    Some(PagePlace { byte: layout.bitmap_byte() + offset, bytes })
}

/// The bits of a word that belong to a device of `bits` bits: those behind its end are 0.
#[must_use]
pub const fn valid_mask(word: u64, bits: u64) -> u64 {
    match bits.saturating_sub(word.saturating_mul(64)) {
        0 => 0,
        rest @ 1..=63 => (1 << rest) - 1,
        _ => u64::MAX,
    }
}

/// Reads words from the bytes of a page, as many as both sides hold.
pub fn decode_words(bytes: &[u8], words: &mut [u64]) {
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut array = [0; 8];
        array.copy_from_slice(chunk);
        *word = u64::from_le_bytes(array);
    }
}

/// Writes words into the bytes of a page; bytes without a word become zero (M44).
pub fn encode_words(words: &[u64], bytes: &mut [u8]) {
    let used = bytes.len().min(words.len() * 8);
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes[used..].fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::layout::{Placement, Striping};

    /// The worked bytes of M41.
    #[test]
    fn words_are_stored_with_their_lowest_byte_first() {
        let words = [1, 1 << 63, 0x0123_4567_89AB_CDEF];
        let mut bytes = [0xAA; 32];
        encode_words(&words, &mut bytes);
        assert_eq!(bytes[..9], [1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[15..24], [0x80, 0xEF, 0xCD, 0xAB, 0x89, 0x67, 0x45, 0x23, 0x01]);
        assert_eq!(bytes[24..], [0; 8]);
        let mut read = [7; 3];
        decode_words(&bytes, &mut read);
        assert_eq!(read, words);
    }

    #[test]
    fn bits_behind_the_end_are_not_valid() {
        assert_eq!(valid_mask(0, 64), u64::MAX);
        assert_eq!(valid_mask(0, 65), u64::MAX);
        assert_eq!(valid_mask(1, 65), 1);
        assert_eq!(valid_mask(2, 65), 0);
    }

    #[test]
    fn the_last_page_of_a_flexible_device_is_cut() {
        let layout = Layout::new(Placement::Flexible, 72 + 8 * 8 + 3, Striping::DEFAULT).unwrap();
        assert_eq!(page_place(&layout, 0), Some(PagePlace { byte: 36_864, bytes: 4096 }));
        assert_eq!(page_place(&layout, 8), Some(PagePlace { byte: 69_632, bytes: 1536 }));
        assert_eq!(page_place(&layout, 9), None);
        assert_eq!(page_place(&layout, u64::MAX), None);
    }

    #[test]
    fn extents_map_to_whole_runs_of_bits_in_one_page() {
        let (first, last) = bits_of_extent(AlExtent::new(33));
        assert_eq!((first.get(), last.get()), (33_792, 34_815));
        assert_eq!(page_of_bit(first), 1);
        assert_eq!(page_of_extent(AlExtent::new(33)), 1);
        assert_eq!(page_of_extent(AlExtent::new(31)), 0);
    }
}
