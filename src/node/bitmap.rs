//! The out-of-sync bitmap in memory: one bit for each 4 KiB block that may differ from the peer's
//! (M40..M50, D129). Pure: pages are asked for and handed back as bytes.
//!
//! The words lie in pages of the on-disk size, with a count of set bits for each page. So counting
//! is free, a search skips clean pages, and the memory of a large device that is in sync is never
//! touched. For each page the bitmap knows whether its content on disk is older, and whether a
//! write of it is under way:
//!
//! ```text
//!            set                  begin_write             end_write(ok)
//!   clean ─────────► must write ─────────────► writing ─────────────────► clean
//!      └────clear──► lazy ────────────────────────┘ a change while writing makes it dirty again
//! ```

use crate::meta::bitmap::{
    PAGE_BITS, PAGE_WORDS, decode_words, encode_words, page_of_bit, pages_of, valid_mask, words_of,
};
use crate::units::{BLOCK_SECTORS, BitIndex, RESYNC_EXTENT_SECTORS, Sector, bits_of};

/// Bits of a resync extent (16 MiB).
pub const RESYNC_EXTENT_BITS: u64 = RESYNC_EXTENT_SECTORS / BLOCK_SECTORS;

/// How urgently a page's change must reach the disk (D129).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dirtiness {
    /// The disk has the same content, or a write with it is under way.
    Clean,
    /// Only bits were cleared: writing it late costs an extra resync, nothing else (M92).
    Lazy,
    /// Bits were set: it must be on disk before anything that relies on it.
    MustWrite,
}

/// The out-of-sync bits of one volume.
#[derive(Clone, Debug)]
pub struct Bitmap {
    end: Sector,
    words: Vec<u64>,
    page_counts: Vec<u32>,
    count: u64,
    must_write: PageSet,
    lazy: PageSet,
    writing: PageSet,
}

impl Bitmap {
    /// A bitmap for a device that ends at `end`, all bits clear, all pages clean.
    #[must_use]
    pub fn new(end: Sector) -> Self {
        let pages = pages_of(end) as usize;
        Self {
            end,
            words: vec![0; words_of(end) as usize],
            page_counts: vec![0; pages],
            count: 0,
            must_write: PageSet::new(pages),
            lazy: PageSet::new(pages),
            writing: PageSet::new(pages),
        }
    }

    /// End of the device it was made for.
    #[must_use]
    pub const fn end(&self) -> Sector {
        self.end
    }

    /// Number of bits.
    #[must_use]
    pub const fn bits(&self) -> u64 {
        bits_of(self.end)
    }

    /// Number of 64-bit words.
    #[must_use]
    pub const fn words(&self) -> u64 {
        self.words.len() as u64
    }

    /// Number of 4 KiB pages.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.page_counts.len() as u64
    }

    /// Number of set bits.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Sets the bits `first` … `last`, inclusive; those behind the end are ignored. Returns how
    /// many changed.
    pub fn set(&mut self, first: BitIndex, last: BitIndex) -> u64 {
        self.change_range(first, last, |word, mask| word | mask)
    }

    /// Clears the bits `first` … `last`, inclusive. Returns how many changed.
    pub fn clear(&mut self, first: BitIndex, last: BitIndex) -> u64 {
        self.change_range(first, last, |word, mask| word & !mask)
    }

    /// Sets every bit. Every page must be written, also those whose bits were all set already:
    /// what the disk holds may be anything (M91).
    pub fn set_all(&mut self) {
        self.set(BitIndex::new(0), BitIndex::new(u64::MAX));
        self.must_write.insert_all();
        self.lazy.remove_all();
    }

    /// Clears every bit. Every page counts as changed.
    pub fn clear_all(&mut self) {
        self.clear(BitIndex::new(0), BitIndex::new(u64::MAX));
        for page in 0..self.page_counts.len() {
            self.mark(page, Dirtiness::Lazy);
        }
    }

    /// Whether the bit is set; `false` behind the end.
    #[must_use]
    pub fn is_set(&self, bit: BitIndex) -> bool {
        self.words.get((bit.get() / 64) as usize).is_some_and(|word| word >> (bit.get() % 64) & 1 == 1)
    }

    /// Whether any of the bits `first` … `last`, inclusive, is set.
    #[must_use]
    pub fn any(&self, first: BitIndex, last: BitIndex) -> bool {
        self.next_set(first).is_some_and(|bit| bit <= last)
    }

    /// The first set bit at or behind `from`.
    #[must_use]
    pub fn next_set(&self, from: BitIndex) -> Option<BitIndex> {
        let mut index = usize::try_from(from.get() / 64).ok().filter(|&i| i < self.words.len())?;
        let mut word = self.words[index] & (u64::MAX << (from.get() % 64));
        loop {
            if word != 0 {
                return Some(BitIndex::new(index as u64 * 64 + u64::from(word.trailing_zeros())));
            }
            index += 1;
            if index % PAGE_WORDS == 0 {
                let page = index / PAGE_WORDS;
                let skip = self.page_counts.get(page..)?.iter().position(|&count| count > 0)?;
                index = (page + skip) * PAGE_WORDS;
            }
            word = *self.words.get(index)?;
        }
    }

    /// The first run of set bits at or behind `from`, cut to at most `most` bits: first and last,
    /// inclusive.
    #[must_use]
    pub fn next_set_run(&self, from: BitIndex, most: u64) -> Option<(BitIndex, BitIndex)> {
        let first = self.next_set(from).filter(|_| most > 0)?;
        let limit = first.get().saturating_add(most).min(self.bits());
        let mut past = first.get() + 1;
        while past < limit {
            let ones = u64::from((self.words[(past / 64) as usize] >> (past % 64)).trailing_ones());
            past += ones;
            // A run goes on only through the end of a word.
            if ones == 0 || !past.is_multiple_of(64) {
                break;
            }
        }
        Some((first, BitIndex::new(past.min(limit) - 1)))
    }

    /// Number of set bits among `first` … `last`, inclusive.
    #[must_use]
    pub fn count_range(&self, first: BitIndex, last: BitIndex) -> u64 {
        let Some((first, last)) = self.clip(first, last) else { return 0 };
        let ones = |(index, mask): (usize, u64)| u64::from((self.words[index] & mask).count_ones());
        let count = |first, last| word_masks(first, last).map(ones).sum::<u64>();
        // Whole pages between the ends know their count.
        let (begin, end) = (first.div_ceil(PAGE_BITS), (last + 1) / PAGE_BITS);
        if begin >= end {
            return count(first, last);
        }
        let pages: u64 =
            self.page_counts[begin as usize..end as usize].iter().map(|&count| u64::from(count)).sum();
        let head = if first < begin * PAGE_BITS { count(first, begin * PAGE_BITS - 1) } else { 0 };
        let tail = if end * PAGE_BITS <= last { count(end * PAGE_BITS, last) } else { 0 };
        head + pages + tail
    }

    /// Number of set bits in a resync extent.
    #[must_use]
    pub fn weight(&self, resync_extent: u64) -> u32 {
        let Some(first) = resync_extent.checked_mul(RESYNC_EXTENT_BITS) else { return 0 };
        let last = first.saturating_add(RESYNC_EXTENT_BITS - 1);
        self.count_range(BitIndex::new(first), BitIndex::new(last)) as u32
    }

    /// Copies words from word `offset` on, as many as both sides hold, and returns their number.
    pub fn read_words(&self, offset: u64, out: &mut [u64]) -> usize {
        let source = usize::try_from(offset).ok().and_then(|offset| self.words.get(offset..));
        let source = source.unwrap_or(&[]);
        let len = source.len().min(out.len());
        out[..len].copy_from_slice(&source[..len]);
        len
    }

    /// Sets the bits of `words` from word `offset` on, as the peer's bitmap is taken in; what lies
    /// behind the end is ignored. Returns how many changed.
    pub fn or_words(&mut self, offset: u64, words: &[u64]) -> u64 {
        let Ok(offset) = usize::try_from(offset) else { return 0 };
        let len = self.words.len().saturating_sub(offset).min(words.len());
        let masks = (offset..).zip(words[..len].iter().copied()).filter(|&(_, word)| word != 0);
        let bits = self.bits();
        self.change_words(
            masks.map(|(index, word)| (index, word & valid_mask(index as u64, bits))),
            |word, mask| word | mask,
        )
    }

    /// Makes the bitmap fit a device that ends at `end`. Old bits stay; with `set_new` the bits of
    /// a grown part are set (M48, M135). Every page counts as changed, since the metadata moves.
    pub fn resize(&mut self, end: Sector, set_new: bool) {
        let old_bits = self.bits();
        if end < self.end {
            self.clear(BitIndex::new(bits_of(end)), BitIndex::new(u64::MAX));
        }
        self.end = end;
        let pages = pages_of(end) as usize;
        self.words.resize(words_of(end) as usize, 0);
        self.page_counts.resize(pages, 0);
        for set in [&mut self.must_write, &mut self.lazy, &mut self.writing] {
            set.resize(pages);
        }
        if set_new && self.bits() > old_bits {
            self.set(BitIndex::new(old_bits), BitIndex::new(u64::MAX));
        }
        self.must_write.insert_all();
        self.lazy.remove_all();
    }

    /// Replaces a page's bits with what the disk holds; garbage behind the end is dropped (M43).
    /// The page is clean afterwards. A short last page may be shorter than 4096 bytes.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn load_page(&mut self, page: u64, bytes: &[u8]) {
        let bits = self.bits();
        let (page, range) = self.page_range(page);
        let (start, target) = (range.start, &mut self.words[range]);
        // Memory of a page that is zero on both sides stays untouched.
        if self.page_counts[page] == 0 && bytes.iter().all(|&byte| byte == 0) {
            self.mark(page, Dirtiness::Clean);
            return;
        }
        target.fill(0);
        decode_words(bytes, target);
        let mut count = 0;
        for (index, word) in (start as u64..).zip(target) {
            *word &= valid_mask(index, bits);
            count += word.count_ones();
        }
        self.count = self.count - u64::from(self.page_counts[page]) + u64::from(count);
        self.page_counts[page] = count;
        self.mark(page, Dirtiness::Clean);
    }

    /// How urgently a page must be written.
    #[must_use]
    pub fn dirtiness(&self, page: u64) -> Dirtiness {
        if self.must_write.contains(page) {
            Dirtiness::MustWrite
        } else if self.lazy.contains(page) {
            Dirtiness::Lazy
        } else {
            Dirtiness::Clean
        }
    }

    /// Whether some page is being written.
    #[must_use]
    pub fn writes_any(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Whether a write of the page has begun and not ended.
    #[must_use]
    pub fn is_writing(&self, page: u64) -> bool {
        self.writing.contains(page)
    }

    /// Whether every bit that is set in the page has been written, as far as completed writes
    /// tell (M61); a flush may still be due.
    #[must_use]
    pub fn is_written(&self, page: u64) -> bool {
        !self.must_write.contains(page) && !self.writing.contains(page)
    }

    /// The pages whose content on disk is older, whether urgent or lazy, in order (D130).
    pub fn dirty_pages(&self) -> impl Iterator<Item = u64> + '_ {
        self.must_write.union(&self.lazy)
    }

    /// Whether any page is dirty, or still being written.
    #[must_use]
    pub fn has_unwritten_pages(&self) -> bool {
        !(self.must_write.is_empty() && self.lazy.is_empty() && self.writing.is_empty())
    }

    /// Begins to write a page: puts its bytes into `out` and counts it as clean. `false`, and
    /// nothing happens, while an earlier write of the page is under way: two writes of one page
    /// could reach the disk in the wrong order.
    ///
    /// # Panics
    /// If there is no such page.
    #[must_use]
    pub fn begin_write(&mut self, page: u64, out: &mut [u8]) -> bool {
        if self.writing.contains(page) {
            return false;
        }
        let (index, range) = self.page_range(page);
        encode_words(&self.words[range], out);
        self.mark(index, Dirtiness::Clean);
        self.writing.insert(page);
        true
    }

    /// Ends the write of a page. After a failure the page must be written again.
    pub fn end_write(&mut self, page: u64, ok: bool) {
        self.writing.remove(page);
        if !ok && page < self.pages() {
            self.mark(page as usize, Dirtiness::MustWrite);
        }
    }

    /// Bits that the pages on disk have and this bitmap has not need not be there any more: they are
    /// written when there is time.
    pub fn changed_on_disk_only(&mut self, first: BitIndex, last: BitIndex) {
        let Some((first, last)) = self.clip(first, last) else { return };
        for page in first / PAGE_BITS..=last / PAGE_BITS {
            if !self.must_write.contains(page) {
                self.mark(page as usize, Dirtiness::Lazy);
            }
        }
    }

    /// Counts a page as changed: it must be written although no bit changed.
    pub fn force_write(&mut self, page: u64) {
        if page < self.pages() {
            self.mark(page as usize, Dirtiness::MustWrite);
        }
    }

    fn clip(&self, first: BitIndex, last: BitIndex) -> Option<(u64, u64)> {
        let last = last.get().min(self.bits().checked_sub(1)?);
        (first.get() <= last).then_some((first.get(), last))
    }

    fn change_range(&mut self, first: BitIndex, last: BitIndex, change: impl Fn(u64, u64) -> u64) -> u64 {
        let Some((first, last)) = self.clip(first, last) else { return 0 };
        self.change_words(word_masks(first, last), change)
    }

    /// Applies `change(word, mask)` to the words given in ascending order, and keeps counts and
    /// dirtiness. Returns how many bits changed.
    fn change_words(
        &mut self,
        masks: impl Iterator<Item = (usize, u64)>,
        change: impl Fn(u64, u64) -> u64,
    ) -> u64 {
        let mut changed = 0;
        for (index, mask) in masks {
            let old = self.words[index];
            let new = change(old, mask);
            if new == old {
                continue;
            }
            let page = index / PAGE_WORDS;
            let (set, cleared) = ((new & !old).count_ones(), (old & !new).count_ones());
            self.words[index] = new;
            self.page_counts[page] = self.page_counts[page] + set - cleared;
            self.count = self.count + u64::from(set) - u64::from(cleared);
            let urgency = if set > 0 { Dirtiness::MustWrite } else { Dirtiness::Lazy };
            if urgency > self.dirtiness(page as u64) {
                self.mark(page, urgency);
            }
            changed += u64::from(set + cleared);
        }
        changed
    }

    fn mark(&mut self, page: usize, dirtiness: Dirtiness) {
        let page = page as u64;
        match dirtiness {
            Dirtiness::Clean => {
                self.must_write.remove(page);
                self.lazy.remove(page);
            }
            Dirtiness::Lazy if self.must_write.contains(page) => {}
            Dirtiness::Lazy => self.lazy.insert(page),
            Dirtiness::MustWrite => {
                self.lazy.remove(page);
                self.must_write.insert(page);
            }
        }
    }

    fn page_range(&self, page: u64) -> (usize, std::ops::Range<usize>) {
        assert!(page < self.pages(), "page {page} of a bitmap with {} pages", self.pages());
        let start = page as usize * PAGE_WORDS;
        (page as usize, start..self.words.len().min(start + PAGE_WORDS))
    }
}

/// The bit as a page number: which page a change of this bit dirties.
#[must_use]
pub const fn page_of(bit: BitIndex) -> u64 {
    page_of_bit(bit)
}

/// The words that hold the bits `first` … `last`, each with the mask of the bits meant.
fn word_masks(first: u64, last: u64) -> impl Iterator<Item = (usize, u64)> {
    let (first_word, last_word) = (first / 64, last / 64);
    (first_word..=last_word).map(move |word| {
        let low = if word == first_word { u64::MAX << (first % 64) } else { u64::MAX };
        let high = if word == last_word { u64::MAX >> (63 - last % 64) } else { u64::MAX };
        (word as usize, low & high)
    })
}

/// A set of pages: one bit each.
#[derive(Clone, Debug)]
struct PageSet {
    words: Vec<u64>,
    pages: usize,
}

impl PageSet {
    fn new(pages: usize) -> Self {
        Self { words: vec![0; pages.div_ceil(64)], pages }
    }

    fn resize(&mut self, pages: usize) {
        for page in pages..self.pages {
            self.remove(page as u64);
        }
        self.words.resize(pages.div_ceil(64), 0);
        self.pages = pages;
    }

    fn contains(&self, page: u64) -> bool {
        self.words.get((page / 64) as usize).is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    fn insert(&mut self, page: u64) {
        self.words[(page / 64) as usize] |= 1 << (page % 64);
    }

    fn remove(&mut self, page: u64) {
        if let Some(word) = self.words.get_mut((page / 64) as usize) {
            *word &= !(1 << (page % 64));
        }
    }

    fn insert_all(&mut self) {
        for (index, word) in self.words.iter_mut().enumerate() {
            *word = valid_mask(index as u64, self.pages as u64);
        }
    }

    fn remove_all(&mut self) {
        self.words.fill(0);
    }

    fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    fn union<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        self.words.iter().zip(&other.words).zip(0u64..).flat_map(|((a, b), index)| {
            let mut left = a | b;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| u64::from(left.trailing_zeros()))?;
                left &= left - 1;
                Some(index * 64 + bit)
            })
        })
    }
}

const _: () = assert!(PAGE_BITS == PAGE_WORDS as u64 * 64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A bit more than three pages, with a crooked end.
    const BITS: u64 = 3 * PAGE_BITS + 77;

    fn bit(index: u64) -> BitIndex {
        BitIndex::new(index)
    }

    fn end_of(bits: u64) -> Sector {
        Sector::new(bits * BLOCK_SECTORS)
    }

    #[derive(Clone, Debug)]
    enum Op {
        Set(u64, u64),
        Clear(u64, u64),
        Or(u64, Vec<u64>),
        Resize(u64, bool),
        Reload(u64),
        SetAll,
        ClearAll,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let range = || (0..BITS + 200, prop_oneof![0..200u64, 0..2 * PAGE_BITS]);
        let op = prop_oneof![
            8 => range().prop_map(|(first, len)| Op::Set(first, first + len)),
            8 => range().prop_map(|(first, len)| Op::Clear(first, first + len)),
            4 => (0..BITS / 64 + 10, prop::collection::vec(any::<u64>(), 0..4))
                .prop_map(|(offset, words)| Op::Or(offset, words)),
            1 => (1..BITS, any::<bool>()).prop_map(|(bits, set)| Op::Resize(bits, set)),
            2 => (0..4u64).prop_map(Op::Reload),
            1 => Just(Op::SetAll),
            1 => Just(Op::ClearAll),
        ];
        prop::collection::vec(op, 1..25)
    }

    fn apply(op: &Op, bitmap: &mut Bitmap, oracle: &mut BTreeSet<u64>) {
        let bits = bitmap.bits();
        let before = oracle.len();
        match op {
            Op::Set(first, last) => {
                let changed = bitmap.set(bit(*first), bit(*last));
                oracle.extend(*first..(*last + 1).min(bits).max(*first));
                assert_eq!(changed, (oracle.len() - before) as u64);
            }
            Op::Clear(first, last) => {
                let changed = bitmap.clear(bit(*first), bit(*last));
                oracle.retain(|b| !(first..=last).contains(&b));
                assert_eq!(changed, (before - oracle.len()) as u64);
            }
            Op::Or(offset, words) => {
                let changed = bitmap.or_words(*offset, words);
                for (i, word) in words.iter().enumerate() {
                    let base = (offset + i as u64) * 64;
                    oracle.extend((0..64).filter(|b| word >> b & 1 == 1).map(|b| base + b));
                }
                oracle.retain(|&b| b < bits);
                assert_eq!(changed, (oracle.len() - before) as u64);
            }
            Op::Resize(new, set_new) => {
                bitmap.resize(end_of(*new), *set_new);
                oracle.retain(|b| b < new);
                if *set_new {
                    oracle.extend(bits..(*new).max(bits));
                }
            }
            Op::Reload(page) => reload(bitmap, *page),
            Op::SetAll => {
                bitmap.set_all();
                oracle.extend(0..bits);
            }
            Op::ClearAll => {
                bitmap.clear_all();
                oracle.clear();
            }
        }
    }

    /// Writes a page out and reads it back, with garbage behind the end (M43).
    fn reload(bitmap: &mut Bitmap, page: u64) {
        if page >= bitmap.pages() {
            return;
        }
        let mut bytes = [0xEE; 4096];
        assert!(bitmap.begin_write(page, &mut bytes));
        bitmap.end_write(page, true);
        let valid = (bitmap.bits() - page * PAGE_BITS).min(PAGE_BITS) as usize;
        let tail = valid.div_ceil(8).min(4096);
        assert!(bytes[tail..].iter().all(|&byte| byte == 0), "M44");
        bytes[tail..].fill(0xFF);
        bitmap.load_page(page, &bytes);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_bitmap_agrees_with_a_plain_set(ops in ops(), probes in prop::collection::vec(0..BITS + 100, 8)) {
            let (mut bitmap, mut oracle) = (Bitmap::new(end_of(BITS)), BTreeSet::new());
            for op in &ops {
                apply(op, &mut bitmap, &mut oracle);
                prop_assert_eq!(bitmap.count(), oracle.len() as u64, "{:?}", op);
            }
            let mut cursor = Some(bit(0));
            let mut found = BTreeSet::new();
            while let Some((first, last)) = cursor.and_then(|from| bitmap.next_set_run(from, 1000)) {
                found.extend(first.get()..=last.get());
                cursor = Some(bit(last.get() + 1));
            }
            prop_assert!(found == oracle);
            for &probe in &probes {
                prop_assert_eq!(bitmap.is_set(bit(probe)), oracle.contains(&probe));
                let next = oracle.range(probe..).next().copied();
                prop_assert_eq!(bitmap.next_set(bit(probe)).map(BitIndex::get), next);
                let last = probe + 300;
                prop_assert_eq!(bitmap.any(bit(probe), bit(last)), next.is_some_and(|b| b <= last));
                let extent = probe / RESYNC_EXTENT_BITS;
                let in_extent = extent * RESYNC_EXTENT_BITS..(extent + 1) * RESYNC_EXTENT_BITS;
                prop_assert_eq!(bitmap.weight(extent) as usize, oracle.range(in_extent).count());
            }
        }

        #[test]
        fn what_is_on_disk_and_the_dirty_pages_always_make_up_the_bitmap(ops in ops()) {
            let end = end_of(BITS);
            let (mut bitmap, mut oracle) = (Bitmap::new(end), BTreeSet::new());
            let mut disk = vec![[0u8; 4096]; 4];
            for (i, op) in ops.iter().filter(|op| !matches!(op, Op::Resize(..) | Op::Reload(_))).enumerate() {
                apply(op, &mut bitmap, &mut oracle);
                if i % 3 == 0 {
                    let dirty: Vec<u64> = bitmap.dirty_pages().collect();
                    for page in dirty {
                        prop_assert!(bitmap.begin_write(page, &mut disk[page as usize]));
                        prop_assert!(!bitmap.begin_write(page, &mut [0; 4096]));
                        prop_assert!(!bitmap.is_written(page));
                        bitmap.end_write(page, true);
                    }
                }
                let mut read = Bitmap::new(end);
                for page in 0..4 {
                    read.load_page(page, &disk[page as usize]);
                    let dirtiness = bitmap.dirtiness(page);
                    let in_page = |map: &Bitmap, b: u64| map.is_set(bit(page * PAGE_BITS + b));
                    for b in (0..PAGE_BITS).step_by(61) {
                        let (now, then) = (in_page(&bitmap, b), in_page(&read, b));
                        match dirtiness {
                            Dirtiness::Clean => prop_assert_eq!(now, then),
                            Dirtiness::Lazy => prop_assert!(!now || then, "a set bit is only lazy"),
                            Dirtiness::MustWrite => {}
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_change_during_a_write_leaves_the_page_dirty() {
        let mut bitmap = Bitmap::new(end_of(BITS));
        bitmap.set(bit(5), bit(5));
        assert!(bitmap.begin_write(0, &mut [0; 4096]));
        assert_eq!(bitmap.dirtiness(0), Dirtiness::Clean);
        bitmap.set(bit(6), bit(6));
        bitmap.end_write(0, true);
        assert_eq!(bitmap.dirtiness(0), Dirtiness::MustWrite);
        assert!(!bitmap.is_written(0));
    }

    #[test]
    fn a_failed_write_leaves_the_page_to_be_written_again() {
        let mut bitmap = Bitmap::new(end_of(BITS));
        bitmap.clear_all();
        assert!(bitmap.begin_write(1, &mut [0; 4096]));
        bitmap.end_write(1, false);
        assert_eq!(bitmap.dirtiness(1), Dirtiness::MustWrite);
    }

    /// The devices of M50, whose last word the kernel forgets.
    #[test]
    fn the_last_word_of_a_device_with_a_round_number_of_bits_is_kept() {
        let mut bitmap = Bitmap::new(end_of(16_384));
        let mut page = [0u8; 4096];
        page[2047] = 0xF0;
        bitmap.load_page(0, &page);
        assert_eq!(bitmap.count(), 4);
        assert_eq!(bitmap.next_set(bit(0)), Some(bit(16_380)));
    }

    #[test]
    fn a_device_of_ten_tebibytes_is_searched_by_page() {
        let end = Sector::new(10 << 31);
        let mut bitmap = Bitmap::new(end);
        let last = bit(bitmap.bits() - 1);
        bitmap.set(last, last);
        for _ in 0..100 {
            assert_eq!(bitmap.next_set(bit(0)), Some(last));
        }
        assert_eq!(bitmap.dirty_pages().collect::<Vec<_>>(), [bitmap.pages() - 1]);
    }
}
