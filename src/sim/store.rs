//! A device in memory, with a cache that a loss of power empties.
//!
//! What was written is there for all who read, and lost with the power unless a flush that began later
//! has ended; one that fails may take it, too. Sectors of 512 bytes are atomic and go to the medium in any order: of each one the medium
//! holds the version of the last flush, or any younger one.

use std::collections::{BTreeMap, HashMap};

use super::random::Random;
use crate::node::input::DiskFault;
use crate::units::{Moment, SECTOR_BYTES};

const SECTOR: usize = SECTOR_BYTES as usize;
const PAGE: usize = 4096;

/// A device. Pages that nobody wrote to are zeroes and take no memory.
#[derive(Clone, Debug)]
pub struct Store {
    len: u64,
    pages: HashMap<u64, Box<[u8; PAGE]>>,
    /// The sectors whose last version may not be on the medium.
    volatile: BTreeMap<u64, Versions>,
    /// Grows with each write.
    clock: u64,
    /// A flush that failed took something with it, and nobody has asked yet.
    has_lost: bool,
    /// Who rules whether operations fail; none: they do not.
    pub(super) faults: Faults,
    /// What begins from now on ends no earlier than that.
    pub(super) stalled_until: Moment,
}

/// The versions of a sector since the last flush, oldest first. The first is on the medium for sure.
#[derive(Clone, Debug)]
struct Versions(Vec<(u64, [u8; SECTOR])>);

/// What goes wrong on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Reads fail.
    pub read: bool,
    /// Writes fail.
    pub write: bool,
    /// Flushes fail.
    pub flush: bool,
    /// Discards and writes of zeroes fail.
    pub discard: bool,
    /// Flushes end well and do nothing: as if nobody had asked for one.
    pub idle_flush: bool,
    /// Only the next so many operations that would fail do; 0: all of them.
    pub times: u32,
}

impl Store {
    /// A device of zeroes.
    #[must_use]
    pub fn zeroed(len: u64) -> Self {
        Self {
            len,
            pages: HashMap::new(),
            volatile: BTreeMap::new(),
            clock: 0,
            has_lost: false,
            faults: Faults::default(),
            stalled_until: Moment::default(),
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no room at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What a read finds there.
    ///
    /// # Errors
    /// If the device ends before that.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskFault> {
        self.check(offset, into.len() as u64)?;
        for (page, at, part) in parts(offset, into.len()) {
            match self.pages.get(&page) {
                Some(bytes) => into[part.clone()].copy_from_slice(&bytes[at..at + part.len()]),
                None => into[part].fill(0),
            }
        }
        Ok(())
    }

    /// Writes whole sectors into the cache; their number in the order of writes.
    ///
    /// # Errors
    /// If the device ends before that.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<u64, DiskFault> {
        self.check(offset, data.len() as u64)?;
        self.clock += 1;
        for (page, at, part) in parts(offset, data.len()) {
            // A page that is not there is zeroes on the medium, too.
            if is_zero(&data[part.clone()]) && !self.pages.contains_key(&page) {
                continue;
            }
            let first = (page * PAGE as u64 + at as u64) / SECTOR_BYTES;
            for (number, sector) in (first..).zip(data[part].chunks_exact(SECTOR)) {
                self.remember(number, sector);
            }
        }
        self.put(offset, data);
        Ok(self.clock)
    }

    /// Writes past the cache, as before the machine was there.
    ///
    /// # Errors
    /// If the device ends before that.
    pub fn write_stable(&mut self, offset: u64, data: &[u8]) -> Result<(), DiskFault> {
        self.check(offset, data.len() as u64)?;
        let (first, end) = (offset / SECTOR_BYTES, (offset + data.len() as u64).div_ceil(SECTOR_BYTES));
        self.volatile.retain(|sector, _| !(first..end).contains(sector));
        self.clock += 1;
        self.put(offset, data);
        Ok(())
    }

    /// Everything up to this write is on the medium now.
    pub fn flushed(&mut self, until: u64) {
        self.volatile.retain(|_, Versions(versions)| {
            let kept = versions.iter().rposition(|(number, _)| *number <= until).unwrap_or(0);
            versions.drain(..kept);
            versions.len() > 1
        });
    }

    /// The sectors of this write, if nothing younger is there, are on the medium now.
    pub fn written_through(&mut self, offset: u64, len: usize, number: u64) {
        for sector in offset / SECTOR_BYTES..(offset + len as u64) / SECTOR_BYTES {
            let Some(Versions(versions)) = self.volatile.get_mut(&sector) else { continue };
            let kept = versions.iter().rposition(|(known, _)| *known <= number).unwrap_or(0);
            versions.drain(..kept);
            if versions.len() == 1 {
                self.volatile.remove(&sector);
            }
        }
    }

    /// The number of the last write, which a flush that begins now is about. It grows with everything that
    /// changes what is there.
    #[must_use]
    pub const fn last_write(&self) -> u64 {
        self.clock
    }

    /// Sectors that a loss of power may change.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        self.volatile.len()
    }

    /// The power fails. With `all`, nothing that was not flushed survives; else each sector for itself
    /// keeps some version since the last flush.
    pub fn lose_power(&mut self, random: &mut Random, all: bool) {
        self.clock += 1;
        for (sector, Versions(versions)) in std::mem::take(&mut self.volatile) {
            let survivor = if all { 0 } else { random.below(versions.len() as u64) as usize };
            self.put(sector * SECTOR_BYTES, &versions[survivor].1);
        }
    }

    /// Whether a flush that failed took something with it since this was asked last.
    pub const fn take_loss(&mut self) -> bool {
        std::mem::replace(&mut self.has_lost, false)
    }

    /// A flush fails: what it was about may be gone, sector by sector, and no later flush brings it back (F3).
    pub fn flush_failed(&mut self, until: u64) {
        let mut random = Random::new(self.clock ^ until.rotate_left(32));
        if random.below(2) == 0 {
            return; // Nothing was lost this time.
        }
        self.clock += 1;
        for (sector, Versions(versions)) in std::mem::take(&mut self.volatile) {
            let (last, survivor) = (versions.len() - 1, random.below(versions.len() as u64) as usize);
            if versions[last].0 > until || survivor == last {
                self.volatile.insert(sector, Versions(versions));
                continue;
            }
            self.has_lost = true;
            self.put(sector * SECTOR_BYTES, &versions[survivor].1);
            if survivor > 0 {
                self.volatile.insert(sector, Versions(versions[..=survivor].to_vec()));
            }
        }
    }

    /// Copies the content of another device of the same size, as a replaced disk has it.
    pub fn copy_from(&mut self, other: &Self) {
        self.pages.clone_from(&other.pages);
        self.clock += 1;
        self.volatile.clear();
    }

    /// The pages that were ever written to, in no order.
    pub fn touched(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.keys().copied()
    }

    fn check(&self, offset: u64, len: u64) -> Result<(), DiskFault> {
        if offset.saturating_add(len) > self.len { Err(DiskFault::Short) } else { Ok(()) }
    }

    fn put(&mut self, offset: u64, data: &[u8]) {
        for (page, at, part) in parts(offset, data.len()) {
            let data = &data[part];
            match self.pages.get_mut(&page) {
                Some(bytes) => bytes[at..at + data.len()].copy_from_slice(data),
                None if is_zero(data) => {}
                None => {
                    let mut bytes = Box::new([0; PAGE]);
                    bytes[at..at + data.len()].copy_from_slice(data);
                    self.pages.insert(page, bytes);
                }
            }
        }
    }

    fn remember(&mut self, number: u64, sector: &[u8]) {
        let mut bytes = [0; SECTOR];
        bytes.copy_from_slice(sector);
        if let Some(Versions(versions)) = self.volatile.get_mut(&number) {
            versions.push((self.clock, bytes));
            return;
        }
        let mut before = [0; SECTOR];
        // Its device was checked to be that long.
        let _ = self.read_at(number * SECTOR_BYTES, &mut before);
        // Whichever version of equal ones survives, it is the same.
        if before != bytes {
            self.volatile.insert(number, Versions(vec![(0, before), (self.clock, bytes)]));
        }
    }
}

fn is_zero(data: &[u8]) -> bool {
    const ZEROES: [u8; PAGE] = [0; PAGE];
    data.chunks(PAGE).all(|part| part == &ZEROES[..part.len()])
}

/// The pages that a range touches: number, offset in it, and the part of the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PAGE as u64) as usize;
        let count = (PAGE - within).min(len - done);
        (count > 0).then(|| {
            let part = done..done + count;
            done += count;
            (at / PAGE as u64, within, part)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(store: &Store, number: u64) -> u8 {
        let mut bytes = [0; SECTOR];
        store.read_at(number * SECTOR_BYTES, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a sector is never torn");
        bytes[0]
    }

    fn write(store: &mut Store, number: u64, sectors: usize, byte: u8) -> u64 {
        store.write_at(number * SECTOR_BYTES, &vec![byte; sectors * SECTOR]).unwrap()
    }

    #[test]
    fn what_was_not_flushed_may_be_lost_sector_by_sector() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut store = Store::zeroed(1 << 20);
            write(&mut store, 6, 4, 1);
            write(&mut store, 7, 1, 2);
            assert_eq!(store.unflushed(), 4);
            store.lose_power(&mut Random::new(seed), false);
            seen.insert([6, 7].map(|number| sector(&store, number)));
            assert_eq!(store.unflushed(), 0);
        }
        let all: std::collections::BTreeSet<_> =
            [0, 1].into_iter().flat_map(|a| [0, 1, 2].map(|b| [a, b])).collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn a_flush_keeps_what_was_written_before_it_began() {
        let mut store = Store::zeroed(1 << 20);
        write(&mut store, 3, 1, 1);
        let begun = store.last_write();
        write(&mut store, 3, 1, 2);
        write(&mut store, 4, 1, 3);
        store.flushed(begun);
        store.lose_power(&mut Random::new(1), true);
        assert_eq!([3, 4].map(|number| sector(&store, number)), [1, 0]);
    }

    /// F3: the error is told once, and what was behind it does not come back.
    #[test]
    fn a_flush_that_fails_may_take_with_it_what_it_was_about() {
        let mut seen = std::collections::BTreeSet::new();
        for byte in 1..100 {
            let mut store = Store::zeroed(1 << 20);
            for _ in 0..byte {
                write(&mut store, 100, 1, byte); // Chance goes by the number of writes.
            }
            store.flushed(store.last_write());
            write(&mut store, 6, 2, 1);
            let begun = store.last_write();
            write(&mut store, 8, 1, 3);
            store.flush_failed(begun);
            let now = [6, 7, 8, 100].map(|number| sector(&store, number));
            assert_eq!(now[2..], [3, byte], "what is younger, or was durable");
            assert_eq!(store.take_loss(), now[..2] != [1, 1]);
            assert!(!store.take_loss(), "that was asked");
            store.flushed(store.last_write());
            store.lose_power(&mut Random::new(1), true);
            assert_eq!(now, [6, 7, 8, 100].map(|number| sector(&store, number)));
            seen.insert([now[0], now[1]]);
        }
        assert_eq!(seen, [[0, 0], [0, 1], [1, 0], [1, 1]].into());
    }

    #[test]
    fn a_write_through_the_cache_takes_older_versions_with_it() {
        let mut store = Store::zeroed(1 << 20);
        write(&mut store, 3, 2, 1);
        let number = write(&mut store, 3, 1, 2);
        store.written_through(3 * SECTOR_BYTES, SECTOR, number);
        store.lose_power(&mut Random::new(1), true);
        assert_eq!([3, 4].map(|number| sector(&store, number)), [2, 0]);
    }

    #[test]
    fn what_lies_behind_the_end_is_refused() {
        let mut store = Store::zeroed(8192);
        assert_eq!(store.write_at(8192, &[0; SECTOR]), Err(DiskFault::Short));
        assert_eq!(store.read_at(u64::MAX, &mut [0; SECTOR]), Err(DiskFault::Short));
        assert!(store.write_at(7680, &[1; SECTOR]).is_ok());
    }
}
