//! The activity log on disk: 4 KiB transaction blocks in a ring (M51..M59), and what the ring says
//! about hot extents after a crash (M66..M70).
//!
//! A block carries up to 64 changes "slot → new extent" and a window of the slots' content *before*
//! these changes. A hot set is recovered by replaying blocks from the oldest to the newest.

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::BLOCK_BYTES;
use super::layout::Striping;
use super::superblock::Marking;
use crate::units::AlExtent;

/// Most slot changes in one transaction (M52, D85).
pub const MAX_CHANGES: usize = 64;
/// Slots that one block describes in its context window (M56).
pub const CONTEXT_SLOTS: usize = 919;
/// Fewest slots of a log (M52).
pub const MIN_SLOTS: u16 = 67;
/// Most slots of a log: the numbers above are reserved (M52).
pub const MAX_SLOTS: u16 = 65_534;
/// Slots that a node uses unless told otherwise.
pub const DEFAULT_SLOTS: u16 = 1237;

const MAGIC: u32 = 0x69CB_65A2;
/// Magic of every sector of a legacy log (M73).
const LEGACY_MAGIC: u32 = 0x8374_0267;
const TYPE_UPDATE: u16 = 0;
const TYPE_INITIALISED: u16 = 0xFFFF;
const NO_SLOT: u16 = 0xFFFF;
/// Content of a free slot.
const FREE: u32 = 0xFFFF_FFFF;

/// A transaction block exactly as on disk, big-endian (M4.2).
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawBlock {
    magic: U32,
    tr_number: U32,
    crc32c: U32,
    transaction_type: U16,
    n_updates: U16,
    context_size: U16,
    context_start_slot_nr: U16,
    reserved: [u8; 16],
    update_slot_nr: [U16; MAX_CHANGES],
    update_extent_nr: [U32; MAX_CHANGES],
    context: [U32; CONTEXT_SLOTS],
}

const _: () = assert!(size_of::<RawBlock>() == BLOCK_BYTES);

/// A slot of the log takes up a new extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Number of the slot.
    pub slot: u16,
    /// The extent it holds from now on; `None` frees it.
    pub extent: Option<AlExtent>,
}

/// One transaction, as it goes to disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Number of the transaction: +1 each, wraps (M4.2).
    pub number: u32,
    /// Slots of the log at the time of writing.
    pub slots: u16,
    /// First slot of the context window.
    pub context_start: u16,
    /// What the slots from `context_start` on held before the changes, at most 919 of them.
    pub context: Vec<Option<AlExtent>>,
    /// The changes, at most 64.
    pub changes: Vec<Change>,
}

impl Transaction {
    /// The block to write.
    ///
    /// # Panics
    /// If there are more than 64 changes or 919 context entries: the log never makes such a one.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        assert!(self.changes.len() <= MAX_CHANGES && self.context.len() <= CONTEXT_SLOTS);
        let mut raw = RawBlock::new_zeroed();
        raw.tr_number.set(self.number);
        raw.transaction_type.set(TYPE_UPDATE);
        raw.n_updates.set(self.changes.len() as u16);
        raw.context_size.set(self.slots);
        raw.context_start_slot_nr.set(self.context_start);
        raw.update_slot_nr.fill(U16::new(NO_SLOT));
        raw.update_extent_nr.fill(U32::new(FREE));
        raw.context.fill(U32::new(FREE));
        for (i, change) in self.changes.iter().enumerate() {
            raw.update_slot_nr[i].set(change.slot);
            raw.update_extent_nr[i].set(to_raw(change.extent));
        }
        for (entry, extent) in raw.context.iter_mut().zip(&self.context) {
            entry.set(to_raw(*extent));
        }
        sealed(raw)
    }
}

/// What one block of the ring holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// Initialised, never used since: its arrays mean nothing (M54).
    Initialised,
    /// A transaction.
    Update(Transaction),
    /// Magic and checksum are right, the type is unknown (M67).
    UnknownType(u16),
    /// No log block, or torn, or damaged.
    Invalid,
}

impl Block {
    /// Reads a block (M67).
    #[must_use]
    pub fn decode(bytes: &[u8; BLOCK_BYTES]) -> Self {
        let raw: &RawBlock = zerocopy::transmute_ref!(bytes);
        if raw.magic.get() != MAGIC || raw.crc32c.get() != checksum(bytes) {
            return Self::Invalid;
        }
        match raw.transaction_type.get() {
            TYPE_INITIALISED => Self::Initialised,
            TYPE_UPDATE => Self::Update(transaction_of(raw)),
            other => Self::UnknownType(other),
        }
    }
}

/// The block that fills the whole ring of an empty log (M54).
#[must_use]
pub fn initialised_block() -> [u8; BLOCK_BYTES] {
    let mut raw = RawBlock::new_zeroed();
    raw.transaction_type.set(TYPE_INITIALISED);
    sealed(raw)
}

/// Number of slots that a log with this ring can use for a configured number (M52, D83): the
/// context windows of all blocks but one, which may be torn, must cover them all.
#[must_use]
pub fn effective_slots(configured: u32, striping: Striping) -> u16 {
    let covered = (striping.blocks() as usize - 1).saturating_mul(CONTEXT_SLOTS);
    let most = covered.min(MAX_SLOTS as usize) as u32;
    configured.clamp(u32::from(MIN_SLOTS), most) as u16
}

/// What a log of the 8.4 format says after a crash (M69).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Never used since it was made, or only its very first transaction was torn.
    Empty,
    /// The content of the used slots, in the order of their numbers; repeats are possible.
    Hot(Vec<AlExtent>),
    /// Blocks are damaged, and no transaction can be read.
    NoUpdate,
    /// Not a single valid block.
    Unusable,
    /// There are transactions, but damage may hide others: the set cannot be trusted. A full sync
    /// must take its place (our rule at M69).
    Incomplete(Vec<AlExtent>),
    /// The log of DRBD 8.3 or older (M73), which we do not read.
    Legacy,
}

/// A verdict and the damage seen on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// What the log says.
    pub verdict: Verdict,
    /// Blocks that are no valid log blocks.
    pub corrupt_blocks: usize,
}

/// Reads the whole ring, given in ring order (see [`Striping::block_of`]), into the set of hot
/// extents (M67..M69).
#[must_use]
pub fn recover<'a>(ring: impl IntoIterator<Item = &'a [u8; BLOCK_BYTES]>) -> Recovery {
    let blocks: Vec<Block> = ring.into_iter().map(Block::decode).collect();
    let corrupt: Vec<usize> = (0..blocks.len())
        .filter(|&position| matches!(blocks[position], Block::Invalid | Block::UnknownType(_)))
        .collect();
    let mut updates: Vec<&Transaction> = blocks
        .iter()
        .filter_map(|block| match block {
            Block::Update(transaction) => Some(transaction),
            Block::Initialised | Block::UnknownType(_) | Block::Invalid => None,
        })
        .collect();
    let verdict = match updates.first().map(|first| first.number) {
        None if corrupt.is_empty() || corrupt == [0] && blocks.len() > 1 => Verdict::Empty,
        None if corrupt.len() == blocks.len() => Verdict::Unusable,
        None => Verdict::NoUpdate,
        Some(origin) => {
            // By difference, so that the wrap of the 32-bit number does no harm (M68).
            updates.sort_by_key(|update| update.number.wrapping_sub(origin) as i32);
            let hot = replay(&updates);
            let newest = updates.last().map_or(origin, |update| update.number);
            let next = newest.wrapping_add(1) as usize % blocks.len();
            // A torn newest transaction lies at the next position, and nothing depends on it.
            if corrupt.is_empty() || corrupt == [next] { Verdict::Hot(hot) } else { Verdict::Incomplete(hot) }
        }
    };
    Recovery { verdict, corrupt_blocks: corrupt.len() }
}

/// As [`recover`], after a look at which format the area has (M66): with a superblock that no 8.4
/// driver has touched, the default ring, and no 8.4 magic in its first two blocks, it is the log of
/// DRBD 8.3 or older, or none at all.
#[must_use]
pub fn examine(ring: &[[u8; BLOCK_BYTES]], marking: Marking, striping: Striping) -> Recovery {
    let has_magic = |block: &[u8; BLOCK_BYTES]| block[..4] == MAGIC.to_be_bytes();
    let current =
        marking == Marking::Attached || striping != Striping::DEFAULT || ring.iter().take(2).any(has_magic);
    if current {
        return recover(ring);
    }
    let mut sectors = ring.iter().flat_map(|block| block.chunks_exact(512));
    let legacy = sectors.any(|sector| sector[..4] == LEGACY_MAGIC.to_be_bytes());
    let verdict = if legacy { Verdict::Legacy } else { Verdict::Empty };
    Recovery { verdict, corrupt_blocks: ring.len() }
}

/// The content of all used slots after these transactions, from the oldest to the newest (M68).
fn replay(updates: &[&Transaction]) -> Vec<AlExtent> {
    let mut slots = vec![None; usize::from(MAX_SLOTS)];
    for update in updates {
        for (i, extent) in update.context.iter().enumerate() {
            let number = usize::from(update.context_start) + i;
            if extent.is_none() && number >= usize::from(update.slots) {
                continue; // no slot of that log: its entry says nothing
            }
            if let Some(slot) = slots.get_mut(number) {
                *slot = *extent;
            }
        }
        for change in &update.changes {
            if let Some(slot) = slots.get_mut(usize::from(change.slot)) {
                *slot = change.extent;
            }
        }
    }
    slots.into_iter().flatten().collect()
}

/// The entries that count (M68): context within the log's slots, or naming an extent; changes up
/// to their number, or naming a slot.
fn transaction_of(raw: &RawBlock) -> Transaction {
    let (start, size) = (raw.context_start_slot_nr.get(), raw.context_size.get());
    let described = usize::from(size.saturating_sub(start)).min(CONTEXT_SLOTS);
    let named = raw.context.iter().rposition(|entry| entry.get() != FREE).map_or(0, |last| last + 1);
    let context = raw.context[..described.max(named)].iter().map(|e| from_raw(e.get())).collect();
    let changes = (0..MAX_CHANGES)
        .filter(|&i| i < usize::from(raw.n_updates.get()) || raw.update_slot_nr[i].get() != NO_SLOT)
        .map(|i| Change {
            slot: raw.update_slot_nr[i].get(),
            extent: from_raw(raw.update_extent_nr[i].get()),
        })
        .collect();
    Transaction { number: raw.tr_number.get(), slots: size, context_start: start, context, changes }
}

/// The bytes of a block, with magic and checksum.
fn sealed(mut raw: RawBlock) -> [u8; BLOCK_BYTES] {
    raw.magic.set(MAGIC);
    raw.crc32c.set(0);
    let crc = checksum(raw.as_bytes());
    raw.crc32c.set(crc);
    zerocopy::transmute!(raw)
}

/// CRC-32C with start value 0 and no final inversion, the checksum field taken as zero (M53).
fn checksum(block: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(u32::MAX, &block[..8]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    !crc32c::crc32c_append(crc, &block[12..])
}

const fn from_raw(extent: u32) -> Option<AlExtent> {
    if extent == FREE { None } else { Some(AlExtent::new(extent)) }
}

const fn to_raw(extent: Option<AlExtent>) -> u32 {
    match extent {
        Some(extent) => extent.get(),
        None => FREE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn update(number: u32, changes: &[(u16, u32)]) -> [u8; BLOCK_BYTES] {
        let changes = changes
            .iter()
            .map(|&(slot, extent)| Change { slot, extent: Some(AlExtent::new(extent)) })
            .collect();
        Transaction { number, slots: 67, context_start: 0, context: vec![], changes }.encode()
    }

    fn hot(ring: &[[u8; BLOCK_BYTES]]) -> Vec<u32> {
        match recover(ring).verdict {
            Verdict::Hot(extents) => extents.iter().map(|e| e.get()).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// M53, M12: the bytes of create-md.
    #[test]
    fn the_initialised_block_has_the_documented_checksum() {
        let block = initialised_block();
        assert_eq!(block[..16], *b"\x69\xcb\x65\xa2\0\0\0\0\x70\x9c\xc6\x51\xff\xff\0\0");
        assert!(block[16..].iter().all(|&byte| byte == 0));
        assert_eq!(Block::decode(&block), Block::Initialised);
    }

    #[test]
    fn the_context_is_applied_before_the_changes() {
        let context = vec![Some(AlExtent::new(7)), Some(AlExtent::new(8)), None];
        let change = Change { slot: 0, extent: Some(AlExtent::new(9)) };
        let block = Transaction { number: 0, slots: 67, context_start: 0, context, changes: vec![change] };
        let mut ring = [initialised_block(); 8];
        ring[0] = block.encode();
        assert_eq!(hot(&ring), [9, 8]);
    }

    #[test]
    fn a_ring_whose_number_wraps_is_read_in_the_right_order() {
        for start in [0xFFFF_FFFCu32, 0x7FFF_FFFC] {
            let mut ring = [initialised_block(); 8];
            for i in 0..8u32 {
                let number = start.wrapping_add(i);
                ring[number as usize % 8] = update(number, &[(0, i)]);
            }
            // The context of each block is free slots, so only the newest change remains.
            assert_eq!(hot(&ring), [7], "{start:#x}");
        }
    }

    #[test]
    fn a_torn_newest_transaction_changes_nothing() {
        let mut ring = [initialised_block(); 8];
        ring[0] = update(8, &[(3, 5)]);
        for number in 2..8 {
            ring[number as usize] = update(number, &[(number as u16, number)]);
        }
        ring[1] = update(9, &[(4, 6)]);
        ring[1][4000] ^= 1;
        let recovery = recover(&ring);
        assert_eq!(recovery.corrupt_blocks, 1);
        assert!(matches!(recovery.verdict, Verdict::Hot(_)));
    }

    #[test]
    fn damage_elsewhere_in_the_ring_is_not_trusted() {
        let mut ring = [initialised_block(); 8];
        ring[0] = update(0, &[(3, 5)]);
        ring[1] = update(1, &[(4, 6)]);
        ring[5][100] ^= 1;
        assert!(matches!(recover(&ring).verdict, Verdict::Incomplete(_)));
        ring[5] = initialised_block();
        ring[0][100] ^= 1;
        assert!(matches!(recover(&ring).verdict, Verdict::Incomplete(_)));
    }

    #[test]
    fn logs_without_a_transaction_are_told_apart() {
        let mut ring = [initialised_block(); 8];
        assert_eq!(recover(&ring), Recovery { verdict: Verdict::Empty, corrupt_blocks: 0 });
        ring[0][0] = 0;
        assert_eq!(recover(&ring), Recovery { verdict: Verdict::Empty, corrupt_blocks: 1 });
        ring[3][0] = 0;
        assert_eq!(recover(&ring), Recovery { verdict: Verdict::NoUpdate, corrupt_blocks: 2 });
        let zero = [[0; BLOCK_BYTES]; 8];
        assert_eq!(recover(&zero), Recovery { verdict: Verdict::Unusable, corrupt_blocks: 8 });
    }

    #[test]
    fn a_log_of_an_older_driver_is_recognised() {
        let verdict = |ring: &[[u8; BLOCK_BYTES]], marking| examine(ring, marking, Striping::DEFAULT).verdict;
        let mut ring = [[0; BLOCK_BYTES]; 8];
        assert_eq!(verdict(&ring, Marking::Clean), Verdict::Empty, "no log at all");
        assert_eq!(verdict(&ring, Marking::Attached), Verdict::Unusable);
        ring[3][512..516].copy_from_slice(&LEGACY_MAGIC.to_be_bytes());
        assert_eq!(verdict(&ring, Marking::Clean), Verdict::Legacy);
        ring[1] = initialised_block();
        assert_eq!(verdict(&ring, Marking::Clean), Verdict::NoUpdate);
    }

    #[test]
    fn the_number_of_slots_is_what_the_ring_can_describe() {
        assert_eq!(effective_slots(60_000, Striping::DEFAULT), 6433);
        assert_eq!(effective_slots(10, Striping::DEFAULT), 67);
        assert_eq!(effective_slots(1237, Striping::DEFAULT), 1237);
        assert_eq!(effective_slots(u32::MAX, Striping::new(1, 73).unwrap()), 65_534);
    }

    proptest! {
        #[test]
        fn a_transaction_survives_a_round_trip(
            number: u32,
            context in prop::collection::vec(prop::option::of(0..1000u32), 67),
            changes in prop::collection::vec((0..67u16, prop::option::of(0..1000u32)), 0..64),
        ) {
            let transaction = Transaction {
                number,
                slots: 67,
                context_start: 0,
                context: context.into_iter().map(|e| e.map(AlExtent::new)).collect(),
                changes: changes
                    .into_iter()
                    .map(|(slot, e)| Change { slot, extent: e.map(AlExtent::new) })
                    .collect(),
            };
            let bytes = transaction.encode();
            prop_assert_eq!(Block::decode(&bytes), Block::Update(transaction));
        }

        #[test]
        fn foreign_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 36..200)) {
            bytes.resize(BLOCK_BYTES, 0xFF);
            let mut block: [u8; BLOCK_BYTES] = bytes.try_into().unwrap();
            block[..4].copy_from_slice(&MAGIC.to_be_bytes());
            block[12..14].copy_from_slice(&TYPE_UPDATE.to_be_bytes());
            let crc = checksum(&block);
            block[8..12].copy_from_slice(&crc.to_be_bytes());
            let recovery = recover([&block]);
            prop_assert_eq!(recovery.corrupt_blocks, 0);
        }
    }
}
