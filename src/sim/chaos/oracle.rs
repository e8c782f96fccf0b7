//! What each copy of the data may hold: the promises made to clients, by sector.
//!
//! Every sector that is written says which write it is of. A copy may hold a write unless one that it must
//! have began after that one had been answered: of writes under way together, either may be the last. A
//! loss of power takes from a copy what it must have down to what was flushed.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::disk::Device;
use super::super::events::HostId;
use crate::units::SECTOR_BYTES;

const SECTOR: usize = SECTOR_BYTES as usize;
const MAGIC: [u8; 4] = *b"wr\xb5\xd0";
/// Of a write that was not answered: it may take effect at any time.
const NEVER: u64 = u64::MAX;

/// Number of a write; 0 is what the device held before all writes.
pub type WriteId = u32;

/// The promises, and the writes they are about.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Counts what happens, so that each event has its own moment.
    tick: u64,
    writes: Vec<Written>,
    copies: [BTreeMap<u64, Must>; 2],
    /// What a copy had to have before its machine lost power, which has not found together with the other since.
    before: [Snapshot; 2],
    /// When what the clients of a node had seen was lost.
    unseen_at: [u64; 2],
    /// What the program of a node holds and may not have written yet, by sector: when that was submitted.
    held: [BTreeMap<u64, u64>; 2],
}

#[derive(Debug)]
struct Written {
    by: HostId,
    first: u64,
    sectors: u64,
    zeroes: bool,
    submitted: u64,
    answered: u64,
}

impl Written {
    /// The sectors that it is of.
    const fn range(&self) -> Range<u64> {
        self.first..self.first + self.sectors
    }
}

/// What a copy must have of a sector: a write that was submitted then, or one answered later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Must {
    now: u64,
    durable: u64,
    /// A client has seen this: later ones see nothing older, until a crash.
    seen: u64,
}

impl Must {
    /// No more than that, nor what was seen.
    fn down_to(self, then: Self) -> Self {
        Self { now: self.now.min(then.now), durable: self.durable.min(then.durable), seen: 0 }
    }
}

/// What a copy had to have at some moment.
pub type Snapshot = BTreeMap<u64, Must>;

impl Oracle {
    /// A client of a node asks to write these sectors.
    pub fn submit(&mut self, by: HostId, first: u64, sectors: u64, zeroes: bool) -> WriteId {
        self.tick += 1;
        self.writes.push(Written { by, first, sectors, zeroes, submitted: self.tick, answered: NEVER });
        self.writes.len() as WriteId
    }

    /// The bytes of a write.
    #[must_use]
    pub fn stamp(id: WriteId, first: u64, sectors: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(sectors as usize * SECTOR);
        for sector in first..first + sectors {
            let mut head = [0; 16];
            head[..4].copy_from_slice(&MAGIC);
            head[4..8].copy_from_slice(&id.to_be_bytes());
            head[8..].copy_from_slice(&sector.to_be_bytes());
            (0..SECTOR / head.len()).for_each(|_| bytes.extend_from_slice(&head));
        }
        bytes
    }

    /// The client was told that its write is done; these copies have it, and these durably.
    pub fn done(&mut self, id: WriteId, on: impl IntoIterator<Item = HostId>, durable: bool) {
        self.tick += 1;
        let write = &mut self.writes[id as usize - 1];
        write.answered = self.tick;
        let (submitted, range) = (write.submitted, write.range());
        for host in on {
            for sector in range.clone() {
                let must = self.copies[host].entry(sector).or_default();
                must.now = must.now.max(submitted);
                if durable {
                    must.durable = must.durable.max(submitted);
                }
            }
        }
    }

    /// The client was told that its write failed: whoever has seen it may see again what was there before.
    pub fn failed(&mut self, id: WriteId) {
        let write = &self.writes[id as usize - 1];
        for copy in &mut self.copies {
            let sectors = copy.range_mut(write.range());
            sectors.filter(|(_, must)| must.seen == write.submitted).for_each(|(_, must)| must.seen = 0);
        }
    }

    /// The client was told that its write is done, and the program of this node has received it (I2): as long
    /// as that lives, and can write, it will be on its copy.
    pub fn received(&mut self, id: WriteId, by: HostId) {
        let write = &self.writes[id as usize - 1];
        for sector in write.range() {
            let held = self.held[by].entry(sector).or_default();
            *held = (*held).max(write.submitted);
        }
    }

    /// The program of a node has written all that it had received.
    pub fn arrived(&mut self, host: HostId) {
        for (sector, submitted) in std::mem::take(&mut self.held[host]) {
            let must = self.copies[host].entry(sector).or_default();
            must.now = must.now.max(submitted);
        }
    }

    /// What the program of a node had received may never get to its copy.
    pub fn drops(&mut self, host: HostId) {
        self.held[host].clear();
    }

    /// What a copy must have at this moment.
    pub fn snapshot(&mut self, host: HostId) -> Snapshot {
        self.tick += 1;
        self.copies[host].clone()
    }

    /// What a copy had to have then is on its medium now.
    pub fn flushed(&mut self, host: HostId, then: &Snapshot) {
        for (sector, must) in then {
            let durable = &mut self.copies[host].entry(*sector).or_default().durable;
            *durable = (*durable).max(must.now);
        }
    }

    /// A machine lost power.
    pub fn lost_power(&mut self, host: HostId) {
        self.drops(host);
        for (sector, must) in &mut self.copies[host] {
            let before = self.before[host].entry(*sector).or_default();
            before.now = before.now.max(must.now);
            *must = Must { now: must.durable, durable: must.durable, seen: 0 };
        }
    }

    /// What only the copy of the `other` machine must have, or must once an answer under way has arrived, and this
    /// device has as well.
    pub fn remember(&mut self, host: HostId, other: HostId, device: &Device) {
        let answered = self.copies[other].iter().map(|(sector, must)| (*sector, must.now));
        let answered = answered.filter(|(sector, now)| self.holds(device, *sector, *now));
        let under_way = self.writes.iter().enumerate().filter(|(_, write)| write.answered == NEVER);
        let there = |id: WriteId, sector: u64| self.is_there(id, sector, device);
        let under_way = under_way.flat_map(|(at, write)| {
            let there = write.range().filter(move |sector| there(at as WriteId + 1, *sector));
            there.map(|sector| (sector, write.submitted))
        });
        let had: Vec<(u64, u64)> = answered
            .chain(under_way)
            .filter(|(sector, now)| *now > self.copies[host].get(sector).map_or(0, |must| must.now))
            .collect();
        for (sector, now) in had {
            let before = self.before[host].entry(sector).or_default();
            before.now = before.now.max(now);
        }
    }

    /// The copies are the same: what was before is of no account.
    pub fn at_peace(&mut self) {
        self.before.iter_mut().for_each(Snapshot::clear);
    }

    /// A machine's program was killed; what its disks had taken is there.
    pub fn killed(&mut self, host: HostId) {
        self.drops(host);
        self.unsees(host);
    }

    /// What the clients of a node have seen may go away, if it was not promised.
    pub fn unsees(&mut self, host: HostId) {
        self.tick += 1;
        self.unseen_at[host] = self.tick;
        self.copies[host].values_mut().for_each(|must| must.seen = 0);
    }

    /// Counts on, for something that a client asks for.
    pub fn asked(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// A copy is gone: there is a new disk in its place.
    pub fn blank(&mut self, host: HostId) {
        self.comes_back(host, Snapshot::new());
    }

    /// A copy is the one again that had to have this.
    pub fn comes_back(&mut self, host: HostId, then: Snapshot) {
        self.drops(host);
        self.copies[host] = then;
    }

    /// A copy was made the same as the other one; what that had to have when this began is durable. If they have
    /// `parted` before the end, nothing else is there for sure.
    pub fn synced(&mut self, source: HostId, target: HostId, began: &Snapshot, parted: bool) {
        self.tick += 1;
        let mut copy = self.copies[source].clone();
        for (sector, must) in &mut copy {
            must.durable = began.get(sector).map_or(0, |then| then.now);
            if parted {
                *must = Must { now: must.now.min(must.durable), seen: 0, ..*must };
            }
        }
        self.copies[target] = copy;
    }

    /// The same in protocols A and B: what the device lacks of it the program of the target has in memory only (I2), and
    /// the copy has to have what it had to `before`.
    pub fn synced_in_part(&mut self, target: HostId, before: &Snapshot, device: &Device) {
        let mut copy = std::mem::take(&mut self.copies[target]);
        for (sector, must) in &mut copy {
            if !self.holds(device, *sector, must.now) {
                let held = self.held[target].entry(*sector).or_default();
                *held = (*held).max(must.now);
                must.now = before.get(sector).map_or(0, |then| then.now).max(must.durable).min(must.now);
            }
        }
        self.copies[target] = copy;
    }

    /// A copy is about to become the other one, by decision: nothing else is asked of it any more.
    pub fn gives_up(&mut self, target: HostId, source: HostId) {
        self.tick += 1;
        let source = self.copies[source].clone();
        for (sector, must) in &mut self.copies[target] {
            *must = must.down_to(source.get(sector).copied().unwrap_or_default());
        }
    }

    /// A copy is given up together with what was on its way to the other one: that is what its device has.
    pub fn gives_up_what_lacks(&mut self, host: HostId, other: HostId, device: &Device) {
        self.tick += 1;
        let mut copy = std::mem::take(&mut self.copies[host]);
        for (sector, must) in &mut copy {
            *must = if self.holds(device, *sector, must.now) {
                Must { seen: 0, ..*must }
            } else {
                must.down_to(self.copies[other].get(sector).copied().unwrap_or_default())
            };
        }
        self.copies[host] = copy;
    }

    /// Both copies turned out to be the same.
    pub fn equal(&mut self) {
        self.tick += 1;
        for (one, other) in [(0, 1), (1, 0)] {
            for (sector, must) in self.copies[other].clone() {
                let own = self.copies[one].entry(sector).or_default();
                own.now = own.now.max(must.now);
            }
        }
    }

    /// A client read this, which it `asked` for then, when the copy had to have that (I25), if that was not lost since.
    /// The other node may be Primary as well, with `rivals` there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(
        &mut self,
        host: HostId,
        first: u64,
        bytes: &[u8],
        then: &Snapshot,
        asked: u64,
        rivals: bool,
    ) -> Result<(), String> {
        self.tick += 1;
        for (sector, bytes) in (first..).zip(bytes.chunks_exact(SECTOR)) {
            let must = then.get(&sector).copied().unwrap_or_default();
            let still = self.copies[host].get(&sector).copied().unwrap_or_default();
            let newest = self.check(sector, bytes, must.now.min(still.now).max(must.seen.min(still.seen)))?;
            // An answer may be older than the loss of what it tells.
            let early = rivals && self.is_under_way_elsewhere(host, newest);
            if asked > self.unseen_at[host] && !early {
                let seen = &mut self.copies[host].entry(sector).or_default().seen;
                *seen = (*seen).max(newest);
            }
        }
        Ok(())
    }

    /// Whether the write that was submitted then is another Primary's, and not answered: it gets to the two copies at
    /// different times, and a read of many sectors may be served by the other node, the next one by this one.
    fn is_under_way_elsewhere(&self, host: HostId, submitted: u64) -> bool {
        let at = self.writes.binary_search_by_key(&submitted, |write| write.submitted);
        at.is_ok_and(|at| self.writes[at].by != host && self.writes[at].answered == NEVER)
    }

    /// Whether a device holds what the copy of a machine must have, but for the sectors that are excused.
    ///
    /// # Errors
    /// What it holds instead.
    pub fn check_copy(
        &self,
        host: HostId,
        device: &Device,
        excused: impl Fn(u64) -> bool,
    ) -> Result<(), String> {
        self.check_musts(host, device, |sector, must| (!excused(sector)).then_some(must.now))
    }

    /// Whether the device of a machine that lost power holds what only the copy of the other one ever had.
    ///
    /// # Errors
    /// What it holds instead.
    pub fn check_others(&self, host: HostId, other: HostId, device: &Device) -> Result<(), String> {
        let had = |of: &Snapshot, sector: u64| of.get(&sector).map_or(0, |must| must.now);
        self.check_musts(other, device, |sector, must| {
            let own = had(&self.before[host], sector).max(had(&self.copies[host], sector));
            (must.now > own).then_some(must.now)
        })
    }

    /// Whether a device holds what is on the medium of a machine for sure.
    ///
    /// # Errors
    /// What it holds instead.
    pub fn check_medium(&self, host: HostId, device: &Device) -> Result<(), String> {
        self.check_musts(host, device, |_, must| Some(must.durable))
    }

    fn check_musts(
        &self,
        host: HostId,
        device: &Device,
        of: impl Fn(u64, &Must) -> Option<u64>,
    ) -> Result<(), String> {
        let mut bytes = [0; SECTOR];
        for (sector, must) in &self.copies[host] {
            let Some(must) = of(*sector, must) else { continue };
            device.read_at(sector * SECTOR_BYTES, &mut bytes).map_err(|fault| format!("{fault:?}"))?;
            self.check(*sector, &bytes, must)?;
        }
        Ok(())
    }

    /// Whether a device holds a write, or others of its time or later in its place.
    #[must_use]
    pub fn is_written(&self, id: WriteId, device: &Device) -> bool {
        let write = &self.writes[id as usize - 1];
        write.range().all(|sector| self.holds(device, sector, write.submitted))
    }

    /// Whether a device holds just this write in a sector, and no other.
    fn is_there(&self, id: WriteId, sector: u64, device: &Device) -> bool {
        let mut bytes = [0; SECTOR];
        let read = device.read_at(sector * SECTOR_BYTES, &mut bytes).is_ok();
        let zeroes = self.writes[id as usize - 1].zeroes;
        read && decode(sector, &bytes) == Ok((!zeroes).then_some(id))
    }

    /// Whether a device holds what a copy must have of a sector.
    fn holds(&self, device: &Device, sector: u64, must: u64) -> bool {
        let mut bytes = [0; SECTOR];
        device.read_at(sector * SECTOR_BYTES, &mut bytes).is_ok() && self.check(sector, &bytes, must).is_ok()
    }

    /// Every sector that some copy must have something of.
    pub fn sectors(&self) -> impl Iterator<Item = u64> + '_ {
        self.copies.iter().flat_map(BTreeMap::keys).copied()
    }

    /// Whether a copy may hold this; when that write was submitted.
    fn check(&self, sector: u64, bytes: &[u8], must: u64) -> Result<u64, String> {
        let Some(id) = decode(sector, bytes)? else { return self.check_zeroes(sector, must) };
        let write = self
            .writes
            .get((id as usize).wrapping_sub(1))
            .filter(|write| write.range().contains(&sector) && !write.zeroes);
        let Some(write) = write else {
            return Err(format!("sector {sector} holds a write {id} that never was"));
        };
        if write.answered < must {
            return Err(format!(
                "sector {sector} holds write {id} (answered at {}), but must have one of {must} or later: {}",
                write.answered,
                self.of_sector(sector)
            ));
        }
        Ok(write.submitted)
    }

    /// Zeroes are what was there first, or of a write of zeroes.
    fn check_zeroes(&self, sector: u64, must: u64) -> Result<u64, String> {
        let of_write = self
            .writes
            .iter()
            .filter(|write| write.zeroes && write.range().contains(&sector))
            .any(|write| write.answered >= must);
        if must == 0 || of_write {
            return Ok(0);
        }
        Err(format!(
            "sector {sector} is empty, but must have a write of {must} or later: {}",
            self.of_sector(sector)
        ))
    }

    /// The last writes to a sector, in words.
    fn of_sector(&self, sector: u64) -> String {
        let all = self.writes.iter().enumerate();
        let of_sector = all.filter(|(_, write)| write.range().contains(&sector)).map(|(at, write)| {
            let end = if write.answered == NEVER { "…".to_owned() } else { write.answered.to_string() };
            let zeroes = if write.zeroes { " (zeroes)" } else { "" };
            format!("#{}{zeroes} {}-{end}", at + 1, write.submitted)
        });
        let texts: Vec<String> = of_sector.collect();
        texts[texts.len().saturating_sub(6)..].join(", ")
    }
}

/// Which write a sector is of; `None` for zeroes.
fn decode(sector: u64, bytes: &[u8]) -> Result<Option<WriteId>, String> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let (head, rest) = bytes.split_at(16);
    let mut id = [0; 4];
    id.copy_from_slice(&head[4..8]);
    let whole =
        head[..4] == MAGIC && head[8..] == sector.to_be_bytes() && rest.chunks(16).all(|part| part == head);
    if whole {
        Ok(Some(u32::from_be_bytes(id)))
    } else {
        Err(format!("sector {sector} holds rubbish: {head:x?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::disk::SimDisk;
    use super::*;

    fn content(id: WriteId, sector: u64) -> Vec<u8> {
        Oracle::stamp(id, sector, 1)
    }

    fn reads(oracle: &mut Oracle, id: WriteId) -> bool {
        let then = oracle.snapshot(0);
        {
            let asked = oracle.asked();
            oracle.read(0, 5, &content(id, 5), &then, asked, true).is_ok()
        }
    }

    #[test]
    fn an_answered_write_hides_older_ones_and_not_those_under_way() {
        let mut oracle = Oracle::default();
        let (old, beside, new) = (oracle.submit(0, 5, 1, false), oracle.submit(0, 5, 1, false), 3);
        oracle.done(old, [0], false);
        assert_eq!(oracle.submit(0, 5, 1, false), new);
        oracle.done(new, [0], false);
        assert!(!reads(&mut oracle, old) && reads(&mut oracle, beside));
        assert!(reads(&mut oracle, new), "neither is the last for sure");
        oracle.done(beside, [0], false);
        assert!(reads(&mut oracle, beside) && reads(&mut oracle, new));
    }

    #[test]
    fn what_a_client_has_seen_does_not_go_away() {
        let mut oracle = Oracle::default();
        let first = oracle.submit(0, 5, 1, false);
        oracle.done(first, [0], false);
        let second = oracle.submit(0, 5, 1, false);
        assert!(reads(&mut oracle, second) && !reads(&mut oracle, first));
        oracle.killed(0);
        assert!(reads(&mut oracle, first), "it was not promised");
    }

    #[test]
    fn what_a_client_has_seen_of_a_write_that_failed_may_go_away() {
        let mut oracle = Oracle::default();
        let first = oracle.submit(0, 5, 1, false);
        oracle.done(first, [0], false);
        let second = oracle.submit(0, 5, 1, false);
        assert!(reads(&mut oracle, second) && !reads(&mut oracle, first));
        oracle.failed(first);
        assert!(!reads(&mut oracle, first), "another write");
        oracle.failed(second);
        assert!(reads(&mut oracle, first) && reads(&mut oracle, second));
    }

    #[test]
    fn the_other_primarys_write_may_be_seen_early_until_it_is_answered() {
        let mut oracle = Oracle::default();
        let first = oracle.submit(0, 5, 1, false);
        oracle.done(first, [0], false);
        let second = oracle.submit(1, 5, 1, false);
        assert!(reads(&mut oracle, second) && reads(&mut oracle, first));
        oracle.done(second, [1], false);
        assert!(reads(&mut oracle, first), "this copy need not have it yet");
        assert!(reads(&mut oracle, second) && !reads(&mut oracle, first));
    }

    #[test]
    fn power_takes_what_was_not_flushed() {
        let mut oracle = Oracle::default();
        let first = oracle.submit(0, 5, 1, false);
        oracle.done(first, [0], false);
        let then = oracle.snapshot(0);
        let second = oracle.submit(0, 5, 1, false);
        oracle.done(second, [0], false);
        oracle.flushed(0, &then);
        assert!(!reads(&mut oracle, first));
        oracle.lost_power(0);
        assert!(reads(&mut oracle, first) && reads(&mut oracle, second));
        assert!(oracle.read(0, 5, &[0; SECTOR], &oracle.copies[0].clone(), 0, false).is_err());
    }

    #[test]
    fn what_a_target_has_in_memory_only_goes_with_its_program() {
        let disk = SimDisk::zeroed("b", 64 * SECTOR_BYTES as usize);
        let mut oracle = Oracle::default();
        let old = oracle.submit(0, 5, 1, false);
        oracle.done(old, [0, 1], true);
        disk.data().write_at(5 * SECTOR_BYTES, &content(old, 5)).unwrap();
        let (began, had) = (oracle.snapshot(0), oracle.snapshot(1));
        let new = oracle.submit(0, 5, 1, false);
        oracle.done(new, [0], false);
        oracle.synced(0, 1, &began, false);
        assert!(oracle.check_copy(1, disk.data(), |_| false).is_err());
        oracle.synced_in_part(1, &had, disk.data());
        assert!(oracle.check_copy(1, disk.data(), |_| false).is_ok());
        oracle.arrived(1);
        assert!(oracle.check_copy(1, disk.data(), |_| false).is_err(), "it had time to write it");
    }

    #[test]
    fn what_a_cache_had_when_the_power_went_is_no_promise_of_it_though_answered_later() {
        for had in [false, true] {
            let disk = SimDisk::zeroed("b", 64 * SECTOR_BYTES as usize);
            let put = |id| disk.data().write_at(5 * SECTOR_BYTES, &content(id, 5)).unwrap();
            let mut oracle = Oracle::default();
            let old = oracle.submit(0, 5, 1, false);
            oracle.done(old, [0, 1], true);
            put(old);
            let new = oracle.submit(0, 5, 1, false);
            if had {
                put(new);
            }
            oracle.remember(1, 0, disk.data());
            put(old);
            oracle.lost_power(1);
            oracle.done(new, [0], false);
            assert_eq!(oracle.check_others(1, 0, disk.data()).is_ok(), had);
        }
    }

    #[test]
    fn what_was_received_is_there_once_written_unless_its_program_died() {
        for dies in [false, true] {
            let mut oracle = Oracle::default();
            let first = oracle.submit(0, 5, 1, false);
            oracle.done(first, [1], false);
            oracle.received(first, 0);
            if dies {
                oracle.killed(0);
            }
            let then = oracle.snapshot(0);
            assert!(oracle.read(0, 5, &[0; SECTOR], &then, 0, false).is_ok(), "it may be in memory only");
            oracle.arrived(0);
            let then = oracle.snapshot(0);
            assert_eq!(oracle.read(0, 5, &[0; SECTOR], &then, 0, false).is_ok(), dies);
        }
    }

    #[test]
    fn nothing_is_invented() {
        let mut oracle = Oracle::default();
        let first = oracle.submit(0, 5, 1, false);
        oracle.done(first, [0], false);
        let then = oracle.snapshot(0);
        assert!(oracle.read(0, 5, &content(7, 5), &then, 0, false).is_err());
        assert!(oracle.read(0, 6, &content(first, 6), &then, 0, false).is_err());
        let mut torn = content(first, 5);
        torn[300] ^= 1;
        assert!(oracle.read(0, 5, &torn, &then, 0, false).is_err());
    }
}
