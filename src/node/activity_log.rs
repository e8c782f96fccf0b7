//! The activity log at run time (D83..D95): which 4 MiB extents may have writes under way, so that
//! a crashed Primary knows what to resync. Pure: transactions come out as bytes.
//!
//! ```text
//!   free ──reserve──► pending ──commit──► in use (references > 0) ◄──probe──┐
//!    ▲                                      │ release the last               │
//!    │                                      ▼                                │
//!    └── an idle slot is the next victim ◄─ idle, still hot, least recently used first
//! ```
//!
//! A slot that takes up a new extent is *pending*: findable under neither number until the
//! transaction that names it is durable. At most one transaction is being written at any time, and
//! while it is, no new change starts (D88).

use std::collections::{BTreeMap, BTreeSet};

use crate::meta::BLOCK_BYTES;
use crate::meta::activity_log::{CONTEXT_SLOTS, Change, MAX_CHANGES, Transaction, effective_slots};
use crate::meta::layout::Striping;
use crate::units::AlExtent;

/// The answer to a request for extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// All extents are hot on disk, and referenced: go on.
    Hot,
    /// All extents are referenced, but some are named only by the pending changes: go on when the
    /// next transaction is committed.
    Pending,
    /// A transaction is being written and cold extents have to wait for its end (D88). Nothing
    /// was referenced.
    WaitForCommit,
    /// No slot, or no room in the transaction: try again after a commit or when references are
    /// dropped. Nothing was referenced.
    WaitForSlots,
    /// The request touches more extents than one transaction or the log can ever hold: split it
    /// (I16). Nothing was referenced.
    TooMany,
}

/// A transaction to be made durable, in the order of D90.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingTransaction {
    /// Extents that leave the active set: their bitmap pages must be written first, and their
    /// data flushed if it lies on another device (D90, M61, T2).
    pub evicted: Vec<AlExtent>,
    /// The block to write, after a flush and durably.
    pub block: Box<[u8; BLOCK_BYTES]>,
    /// Position in the ring; [`crate::meta::layout::Layout::al_block_byte`] gives the place on the
    /// metadata device.
    pub position: u32,
    /// Distance of the block from the start of the log area in bytes.
    pub area_byte: u64,
}

/// The set of hot extents of one volume.
#[derive(Clone, Debug)]
pub struct ActivityLog {
    striping: Striping,
    slots: Vec<Slot>,
    /// Committed extents and the slots that hold them.
    index: BTreeMap<AlExtent, u16>,
    /// Changes for the next transaction, or of the one being written.
    pending: BTreeMap<AlExtent, u16>,
    free: Vec<u16>,
    idle: IdleList,
    /// Idle or free slots that somebody waits for; no extent is given out until then (D87).
    starving: Option<usize>,
    writing: bool,
    number: u32,
    context_start: u16,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The committed extent: what the log on disk says.
    extent: Option<AlExtent>,
    /// The extent of a pending change.
    next: Option<AlExtent>,
    references: u32,
    /// Its place in the idle list, while it is there.
    idle_at: u64,
}

impl ActivityLog {
    /// An empty log with `configured` slots, as far as the ring permits (D83).
    ///
    /// The ring on disk must hold nothing but
    /// [`initialised_block`](crate::meta::activity_log::initialised_block)s: transactions are
    /// numbered from 0 again (M58, M93).
    #[must_use]
    pub fn new(configured: u32, striping: Striping) -> Self {
        // Fewer than any file may ask for are the simulator's, whose devices are small.
        let fewer = u16::try_from(configured).unwrap_or(u16::MAX).max(1);
        let count = effective_slots(configured, striping).min(fewer);
        Self {
            striping,
            slots: vec![Slot::default(); usize::from(count)],
            index: BTreeMap::new(),
            pending: BTreeMap::new(),
            free: (0..count).collect(),
            idle: IdleList::default(),
            starving: None,
            writing: false,
            number: 0,
            context_start: 0,
        }
    }

    /// Number of slots: the superblock's `al_slots`.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The fast path (D86): takes a reference if the extent is hot on disk and nobody starves.
    pub fn probe(&mut self, extent: AlExtent) -> bool {
        if self.starving.is_some() {
            return false;
        }
        let Some(&slot) = self.index.get(&extent) else { return false };
        self.reference(slot);
        true
    }

    /// References all extents `first` … `last` (inclusive) of one request, or none (D8). Cold ones
    /// become pending changes, shared with other requests of the same transaction.
    pub fn reserve(&mut self, first: AlExtent, last: AlExtent) -> Reserved {
        if u64::from(last.get()) - u64::from(first.get()) >= self.slots.len() as u64 {
            return Reserved::TooMany;
        }
        let touched = || (first.get()..=last.get()).map(AlExtent::new);
        let cold: Vec<AlExtent> = touched()
            .filter(|extent| !self.index.contains_key(extent) && !self.pending.contains_key(extent))
            .collect();
        if cold.len() > MAX_CHANGES {
            return Reserved::TooMany;
        }
        if self.starving.is_some() {
            return Reserved::WaitForSlots;
        }
        let shares_pending = touched().any(|extent| self.pending.contains_key(&extent));
        if self.writing && (shares_pending || !cold.is_empty()) {
            return Reserved::WaitForCommit;
        }
        // Idle slots that this very request will use are no victims.
        let kept = touched().filter_map(|extent| self.index.get(&extent));
        let kept = kept.filter(|&&slot| self.slots[usize::from(slot)].references == 0).count();
        let needed = cold.len() + kept;
        if cold.len() > self.room() || needed > self.available() {
            if self.pending.is_empty() {
                self.starving = Some(needed);
            }
            return Reserved::WaitForSlots;
        }
        // First the hits, so that none of them is chosen as a victim.
        for extent in touched() {
            let hit = self.index.get(&extent).or_else(|| self.pending.get(&extent)).copied();
            if let Some(slot) = hit {
                self.reference(slot);
            }
        }
        let starts = !cold.is_empty();
        cold.into_iter().for_each(|extent| self.start_change(extent));
        if starts || shares_pending { Reserved::Pending } else { Reserved::Hot }
    }

    /// Drops the references that a request holds on `first` … `last`, inclusive (D89). Returns
    /// whether a slot became idle, so that waiting requests may try again.
    ///
    /// # Panics
    /// If an extent is not referenced: the caller has lost count.
    pub fn release(&mut self, first: AlExtent, last: AlExtent) -> bool {
        let mut idle = false;
        for extent in (first.get()..=last.get()).map(AlExtent::new) {
            let slot = self.slot_of(extent);
            let entry = slot.map(|slot| &mut self.slots[usize::from(slot)]);
            let Some((slot, entry)) = slot.zip(entry).filter(|(_, entry)| entry.references > 0) else {
                panic!("extent {} released without a reference", extent.get());
            };
            entry.references -= 1;
            // A pending slot joins the idle ones when its transaction ends.
            if entry.references == 0 && entry.next.is_none() {
                entry.idle_at = self.idle.push(slot);
                idle = true;
            }
        }
        self.end_starvation();
        idle
    }

    /// Number of references on an extent, pending ones included (D97).
    #[must_use]
    pub fn references(&self, extent: AlExtent) -> u32 {
        self.slot_of(extent).map_or(0, |slot| self.slots[usize::from(slot)].references)
    }

    /// Whether the references are those that `expected` says, no number is in two slots, and every slot is
    /// either free, or idle, or in use (I15).
    ///
    /// # Errors
    /// What is not so.
    pub(super) fn audit(&self, expected: &BTreeMap<AlExtent, u32>) -> Result<(), String> {
        for (number, slot) in self.slots.iter().enumerate() {
            let extent = slot.next.or(slot.extent);
            let wanted = extent.and_then(|extent| expected.get(&extent)).copied().unwrap_or(0);
            if slot.references != wanted {
                return Err(format!(
                    "slot {number} has {} references for {extent:?}, and {wanted} requests are there",
                    slot.references
                ));
            }
            let place = match slot.next {
                Some(extent) => self.pending.get(&extent),
                None => slot.extent.and_then(|extent| self.index.get(&extent)),
            };
            if place.map(|at| usize::from(*at)) != extent.map(|_| number) {
                return Err(format!("slot {number} holds {extent:?}, which is found in {place:?}"));
            }
        }
        let used = self.slots.iter().filter(|slot| slot.references > 0 || slot.next.is_some()).count();
        let (free, idle, all) = (self.free.len(), self.idle.len(), self.slots.len());
        if used + free + idle != all {
            return Err(format!("{used} slots in use, {free} free, {idle} idle, of {all}"));
        }
        match expected.keys().find(|extent| self.slot_of(**extent).is_none()) {
            Some(missing) => Err(format!("{missing:?} has a request under way, and no slot")),
            None => Ok(()),
        }
    }

    /// Whether any extent is referenced.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.slots.iter().all(|slot| slot.references == 0)
    }

    /// Whether the extent is in the active set on disk, as far as committed transactions tell.
    #[must_use]
    pub fn is_hot(&self, extent: AlExtent) -> bool {
        self.index.contains_key(&extent)
    }

    /// The active set on disk, as far as committed transactions tell.
    pub fn hot_extents(&self) -> impl Iterator<Item = AlExtent> + '_ {
        self.index.keys().copied()
    }

    /// The active set, and what is leaving it with the next transaction.
    pub fn covered(&self) -> impl Iterator<Item = AlExtent> + '_ {
        self.slots.iter().filter_map(|slot| slot.extent)
    }

    /// Whether changes wait for a transaction that has not begun.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.writing && !self.pending.is_empty()
    }

    /// Whether a transaction is being written.
    #[must_use]
    pub const fn is_writing(&self) -> bool {
        self.writing
    }

    /// Whether somebody starves, so that every request for extents is refused (D87).
    #[must_use]
    pub const fn is_starving(&self) -> bool {
        self.starving.is_some()
    }

    /// Begins a transaction of all pending changes; `None` if there is none, or one is being
    /// written. [`ActivityLog::commit`] must follow.
    pub fn begin_transaction(&mut self) -> Option<PendingTransaction> {
        if !self.has_pending() {
            return None;
        }
        self.writing = true;
        let window = usize::from(self.context_start)..self.slots.len();
        let changes: Vec<Change> =
            self.pending.iter().map(|(&extent, &slot)| Change { slot, extent: Some(extent) }).collect();
        let evicted = changes.iter().filter_map(|c| self.slots[usize::from(c.slot)].extent).collect();
        let transaction = Transaction {
            number: self.number,
            slots: self.slots.len() as u16,
            context_start: self.context_start,
            context: self.slots[window].iter().take(CONTEXT_SLOTS).map(|s| s.extent).collect(),
            changes,
        };
        let position = self.number % self.striping.blocks();
        Some(PendingTransaction {
            evicted,
            block: Box::new(transaction.encode()),
            position,
            area_byte: u64::from(self.striping.block_of(position)) * BLOCK_BYTES as u64,
        })
    }

    /// Ends the transaction: its extents are hot. After a failure (`ok` false) the position in the
    /// ring stays, and the changes are kept all the same (D90.5): the disk must be detached then,
    /// and no write that relied on the transaction may reach it (I17).
    ///
    /// # Panics
    /// If no transaction was begun.
    pub fn commit(&mut self, ok: bool) {
        assert!(self.writing, "commit without a transaction");
        self.writing = false;
        if ok {
            self.number = self.number.wrapping_add(1);
            let next = usize::from(self.context_start) + CONTEXT_SLOTS;
            self.context_start = if next < self.slots.len() { next as u16 } else { 0 };
        }
        self.settle_pending();
    }

    /// Makes the pending changes current without a transaction: `al-updates no` (D92), or a
    /// suspended log (D93).
    ///
    /// # Panics
    /// If a transaction is being written.
    pub fn commit_unlogged(&mut self) {
        assert!(!self.writing, "a transaction is being written");
        self.settle_pending();
    }

    /// Forgets the active set, as when the log is suspended (M64). The ring on disk keeps its
    /// content; the next transactions describe all slots anew.
    ///
    /// # Panics
    /// If an extent is referenced or a transaction is being written.
    pub fn clear(&mut self) {
        assert!(self.is_idle() && !self.writing, "the activity log is in use");
        self.slots.fill(Slot::default());
        self.index.clear();
        self.idle = IdleList::default();
        self.free = (0..self.slots.len() as u16).collect();
        self.starving = None;
    }

    fn slot_of(&self, extent: AlExtent) -> Option<u16> {
        self.index.get(&extent).or_else(|| self.pending.get(&extent)).copied()
    }

    fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Changes that the next transaction can still take.
    fn room(&self) -> usize {
        MAX_CHANGES - self.pending.len()
    }

    fn reference(&mut self, slot: u16) {
        let entry = &mut self.slots[usize::from(slot)];
        if entry.references == 0 && entry.next.is_none() {
            self.idle.remove(entry.idle_at);
        }
        entry.references += 1;
    }

    /// Gives the extent a free slot, else the one idle for the longest time (D84). Its old extent
    /// is cold at once, although it is active on disk until the commit.
    fn start_change(&mut self, extent: AlExtent) {
        let victim = self.free.pop().or_else(|| self.idle.pop());
        let Some(slot) = victim else { unreachable!("counted before: a slot is available") };
        let entry = &mut self.slots[usize::from(slot)];
        if let Some(old) = entry.extent {
            self.index.remove(&old);
        }
        entry.next = Some(extent);
        entry.references = 1;
        self.pending.insert(extent, slot);
    }

    fn settle_pending(&mut self) {
        for (extent, slot) in std::mem::take(&mut self.pending) {
            let entry = &mut self.slots[usize::from(slot)];
            entry.extent = Some(extent);
            entry.next = None;
            if entry.references == 0 {
                entry.idle_at = self.idle.push(slot);
            }
            self.index.insert(extent, slot);
        }
        self.end_starvation();
    }

    fn end_starvation(&mut self) {
        if self.starving.is_some_and(|needed| self.available() >= needed) {
            self.starving = None;
        }
    }
}

/// Idle slots in the order in which they became idle.
#[derive(Clone, Debug, Default)]
struct IdleList {
    by_time: BTreeSet<(u64, u16)>,
    clock: u64,
}

impl IdleList {
    /// Appends a slot as the most recently used one, and returns its place.
    fn push(&mut self, slot: u16) -> u64 {
        self.clock += 1;
        self.by_time.insert((self.clock, slot));
        self.clock
    }

    /// Takes out the slot at this place.
    fn remove(&mut self, place: u64) {
        let found = self.by_time.range((place, 0)..=(place, u16::MAX)).next().copied();
        if let Some(entry) = found {
            self.by_time.remove(&entry);
        }
    }

    /// Takes out the slot that has been idle for the longest time.
    fn pop(&mut self) -> Option<u16> {
        self.by_time.pop_first().map(|(_, slot)| slot)
    }

    fn len(&self) -> usize {
        self.by_time.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::activity_log::{Verdict, initialised_block, recover};
    use proptest::prelude::*;

    fn extent(number: u32) -> AlExtent {
        AlExtent::new(number)
    }

    /// The ring as a disk would hold it.
    struct Ring {
        striping: Striping,
        area: Vec<[u8; BLOCK_BYTES]>,
    }

    impl Ring {
        fn new(striping: Striping) -> Self {
            Self { striping, area: vec![initialised_block(); striping.blocks() as usize] }
        }

        fn write(&mut self, transaction: &PendingTransaction) {
            let block = (transaction.area_byte / BLOCK_BYTES as u64) as usize;
            self.area[block] = *transaction.block;
        }

        fn hot(&self) -> BTreeSet<AlExtent> {
            let blocks = self.striping.blocks();
            let ring = (0..blocks).map(|p| &self.area[self.striping.block_of(p) as usize]);
            match recover(ring).verdict {
                Verdict::Empty => BTreeSet::new(),
                Verdict::Hot(extents) => extents.into_iter().collect(),
                other
                @ (Verdict::NoUpdate | Verdict::Unusable | Verdict::Legacy | Verdict::Incomplete(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    }

    /// A request that holds, or waits for, its extents.
    #[derive(Clone, Copy, Debug)]
    struct Holder {
        first: u32,
        last: u32,
        committed: bool,
    }

    #[derive(Clone, Debug)]
    enum Op {
        Probe(u32),
        Reserve(u32, u32),
        Release(prop::sample::Index),
        Begin,
        Commit,
        Torn,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            3 => (0..400u32).prop_map(Op::Probe),
            8 => (0..400u32, 0..9u32).prop_map(|(first, more)| Op::Reserve(first, first + more)),
            8 => any::<prop::sample::Index>().prop_map(Op::Release),
            4 => Just(Op::Begin),
            4 => Just(Op::Commit),
            1 => Just(Op::Torn),
        ];
        prop::collection::vec(op, 1..300)
    }

    /// The world around the log, and the slow truth about it.
    struct World {
        log: ActivityLog,
        ring: Ring,
        writing: Option<PendingTransaction>,
        holders: Vec<Holder>,
    }

    impl World {
        fn new(slots: u32, striping: Striping) -> Self {
            let log = ActivityLog::new(slots, striping);
            Self { log, ring: Ring::new(striping), writing: None, holders: vec![] }
        }

        fn apply(&mut self, op: &Op) {
            match op {
                Op::Probe(number) => {
                    if self.log.probe(extent(*number)) {
                        self.holders.push(Holder { first: *number, last: *number, committed: true });
                    }
                }
                Op::Reserve(first, last) => self.reserve(*first, *last),
                Op::Release(which) => {
                    if !self.holders.is_empty() {
                        let holder = self.holders.swap_remove(which.index(self.holders.len()));
                        self.log.release(extent(holder.first), extent(holder.last));
                    }
                }
                Op::Begin => {
                    if self.writing.is_none() {
                        self.writing = self.log.begin_transaction();
                        if let Some(transaction) = &self.writing {
                            self.check_evicted(transaction);
                        }
                    }
                    assert_eq!(self.log.is_writing(), self.writing.is_some());
                }
                Op::Commit => {
                    if let Some(transaction) = self.writing.take() {
                        self.ring.write(&transaction);
                        self.log.commit(true);
                        self.holders.iter_mut().for_each(|holder| holder.committed = true);
                    }
                }
                // A crash while the block is being written: what is recovered must still cover.
                Op::Torn => {
                    if let Some(transaction) = &self.writing {
                        let block = (transaction.area_byte / BLOCK_BYTES as u64) as usize;
                        let before = self.ring.area[block];
                        self.ring.write(transaction);
                        self.ring.area[block][2048..].copy_from_slice(&before[2048..]);
                        self.check_cover();
                        self.ring.area[block] = before;
                    }
                }
            }
        }

        fn reserve(&mut self, first: u32, last: u32) {
            let before: Vec<u32> = (first..=last).map(|number| self.log.references(extent(number))).collect();
            let reserved = self.log.reserve(extent(first), extent(last));
            let granted = match reserved {
                Reserved::Hot | Reserved::Pending => 1,
                Reserved::WaitForCommit | Reserved::WaitForSlots => 0,
                Reserved::TooMany => panic!("nine extents are never too many"),
            };
            for (number, before) in (first..=last).zip(before) {
                assert_eq!(self.log.references(extent(number)), before + granted, "{reserved:?}");
            }
            if granted == 1 {
                self.holders.push(Holder { first, last, committed: reserved == Reserved::Hot });
            }
        }

        /// I14: what leaves the set has no reference. I16: at most 64 changes.
        fn check_evicted(&self, transaction: &PendingTransaction) {
            assert!(transaction.evicted.len() <= MAX_CHANGES);
            for gone in &transaction.evicted {
                let holds = |h: &Holder| (h.first..=h.last).contains(&gone.get()) && h.committed;
                assert!(!self.holders.iter().any(holds), "{gone:?} evicted in use");
            }
        }

        /// I13, I15: replay covers every committed reference; reference counts are exact.
        fn check_cover(&self) {
            let hot = self.ring.hot();
            for holder in self.holders.iter().filter(|holder| holder.committed) {
                for number in holder.first..=holder.last {
                    assert!(hot.contains(&extent(number)), "{number} is in use but not in the ring");
                }
            }
        }

        fn check(&self) {
            self.check_cover();
            let hot = self.ring.hot();
            assert!(self.log.hot_extents().all(|e| hot.contains(&e)));
            if self.log.pending.is_empty() {
                assert!(self.log.hot_extents().eq(hot.iter().copied()), "quiet, so equal");
            }
            for number in 0..410 {
                let holds = |h: &&Holder| (h.first..=h.last).contains(&number);
                let expected = self.holders.iter().filter(holds).count();
                assert_eq!(self.log.references(extent(number)) as usize, expected, "{number}");
            }
            let busy = self.log.slots.iter().filter(|s| s.references > 0 || s.next.is_some());
            let total = busy.count() + self.log.available();
            assert_eq!(total, self.log.slots(), "slot count constant (I15)");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn replaying_the_ring_covers_every_extent_in_use(
            ops in ops(),
            (slots, stripes, blocks) in prop_oneof![
                4 => Just((67u32, 1u32, 8u32)),
                4 => Just((67, 3, 3)),
                1 => Just((1237, 1, 8)), // Each look at so many slots takes long.
            ],
        ) {
            let striping = Striping::new(stripes, blocks).unwrap();
            let mut world = World::new(slots, striping);
            for op in &ops {
                world.apply(op);
                world.check();
            }
            // Liveness: with all references dropped and the transaction done, anything goes.
            world.apply(&Op::Begin);
            world.apply(&Op::Commit);
            for holder in std::mem::take(&mut world.holders) {
                world.log.release(extent(holder.first), extent(holder.last));
            }
            prop_assert!(world.log.is_idle());
            prop_assert!(!world.log.is_starving());
            prop_assert_eq!(world.log.reserve(extent(5000), extent(5020)), Reserved::Pending);
        }
    }

    #[test]
    fn a_second_request_shares_the_pending_change() {
        let mut log = ActivityLog::new(67, Striping::DEFAULT);
        assert_eq!(log.reserve(extent(4), extent(5)), Reserved::Pending);
        assert!(!log.probe(extent(4)), "only pending");
        assert_eq!(log.reserve(extent(5), extent(5)), Reserved::Pending);
        assert!(log.begin_transaction().is_some());
        assert_eq!(log.reserve(extent(5), extent(5)), Reserved::WaitForCommit);
        log.commit(true);
        assert!(log.probe(extent(4)));
        assert_eq!(log.reserve(extent(4), extent(5)), Reserved::Hot);
        assert_eq!(log.references(extent(5)), 3);
    }

    #[test]
    fn the_least_recently_used_extent_is_evicted_first() {
        let mut log = ActivityLog::new(67, Striping::DEFAULT);
        assert_eq!(log.reserve(extent(0), extent(63)), Reserved::Pending);
        log.commit_unlogged();
        assert_eq!(log.reserve(extent(64), extent(66)), Reserved::Pending);
        log.commit_unlogged();
        log.release(extent(1), extent(1));
        log.release(extent(0), extent(0));
        assert!(log.probe(extent(1)));
        log.release(extent(1), extent(1));
        assert_eq!(log.reserve(extent(99), extent(99)), Reserved::Pending);
        let transaction = log.begin_transaction().unwrap();
        assert_eq!(transaction.evicted, [extent(0)]);
    }

    #[test]
    fn a_starving_request_keeps_others_out_until_its_slots_are_free() {
        let mut log = ActivityLog::new(67, Striping::DEFAULT);
        for first in [0, 40] {
            let last = (first + 39).min(66);
            assert_eq!(log.reserve(extent(first), extent(last)), Reserved::Pending);
            log.commit_unlogged();
        }
        assert_eq!(log.reserve(extent(100), extent(101)), Reserved::WaitForSlots);
        assert!(!log.probe(extent(7)), "D87: hits fail too");
        assert!(log.release(extent(0), extent(0)));
        assert!(log.is_starving());
        log.release(extent(1), extent(1));
        assert!(!log.is_starving());
        assert_eq!(log.reserve(extent(100), extent(101)), Reserved::Pending);
    }

    #[test]
    fn a_full_transaction_makes_others_wait_without_starving() {
        let mut log = ActivityLog::new(1237, Striping::DEFAULT);
        assert_eq!(log.reserve(extent(0), extent(63)), Reserved::Pending);
        assert_eq!(log.reserve(extent(100), extent(100)), Reserved::WaitForSlots);
        assert!(!log.is_starving());
        assert_eq!(log.reserve(extent(200), extent(264)), Reserved::TooMany);
    }

    #[test]
    fn a_failed_transaction_does_not_move_the_ring_on() {
        let mut log = ActivityLog::new(67, Striping::DEFAULT);
        log.reserve(extent(1), extent(1));
        assert_eq!(log.begin_transaction().unwrap().position, 0);
        log.commit(false);
        log.reserve(extent(2), extent(2));
        assert_eq!(log.begin_transaction().unwrap().position, 0);
        log.commit(true);
        log.reserve(extent(3), extent(3));
        assert_eq!(log.begin_transaction().unwrap().position, 1);
    }

    #[test]
    fn a_cleared_log_forgets_its_extents_on_disk_too() {
        let mut world = World::new(67, Striping::DEFAULT);
        for op in [Op::Reserve(1, 3), Op::Begin, Op::Commit] {
            world.apply(&op);
        }
        world.log.release(extent(1), extent(3));
        world.holders.clear();
        world.log.clear();
        for op in [Op::Reserve(9, 9), Op::Begin, Op::Commit] {
            world.apply(&op);
        }
        assert_eq!(world.ring.hot(), BTreeSet::from([extent(9)]));
    }
}
