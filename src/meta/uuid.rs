//! The four generation UUIDs of a volume and what each event does to them (M95..M97).
//!
//! Random numbers come from the caller: this module has no source of its own.

use std::fmt;

/// Current UUID of metadata that was just created and has never held data (M95).
pub const JUST_CREATED: u64 = 4;
/// The bit of the current UUID that says "written as Primary". Never part of the identity (M96).
pub const PRIMARY_BIT: u64 = 1;
/// What a SyncSource adds to its bitmap UUID to name the resync (M97).
const SYNC_STEP: u64 = 1 << 48;

/// Whether two UUIDs name the same generation: bit 0 does not count (M96).
#[must_use]
pub const fn same_generation(a: u64, b: u64) -> bool {
    a & !PRIMARY_BIT == b & !PRIMARY_BIT
}

/// The generation UUIDs as stored in the superblock and sent at the handshake. 0 = empty slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uuids {
    /// The generation of the data on this node; bit 0 tells whether it was written as Primary.
    pub current: u64,
    /// The generation that the bitmap counts from, 0 if the bitmap tracks nothing.
    pub bitmap: u64,
    /// Former generations, the youngest first.
    pub history: [u64; 2],
}

impl Uuids {
    /// The UUIDs that create-md writes (M97).
    #[must_use]
    pub const fn just_created() -> Self {
        Self { current: JUST_CREATED, bitmap: 0, history: [0; 2] }
    }

    /// Whether the data never had a generation (rules 10..30 of M98).
    #[must_use]
    pub const fn is_just_created(&self) -> bool {
        same_generation(self.current, JUST_CREATED)
    }

    /// The slots in the order of the disk and of the wire: current, bitmap, history.
    #[must_use]
    pub const fn to_array(self) -> [u64; 4] {
        [self.current, self.bitmap, self.history[0], self.history[1]]
    }

    /// The inverse of [`Uuids::to_array`].
    #[must_use]
    pub const fn from_array(slots: [u64; 4]) -> Self {
        Self { current: slots[0], bitmap: slots[1], history: [slots[2], slots[3]] }
    }

    /// Sets the current UUID, with bit 0 as the role commands (M96).
    pub const fn set_current(&mut self, uuid: u64, primary: bool) {
        self.current = (uuid & !PRIMARY_BIT) | primary as u64;
    }

    /// Pushes `uuid` into the history; the oldest one falls out (M95).
    pub const fn push_history(&mut self, uuid: u64) {
        self.history = [uuid, self.history[0]];
    }

    /// Moves the bitmap UUID into the history and empties its slot: end of a resync as SyncSource,
    /// and corrections 34 and 35 (M97, M98). Nothing happens if the slot is empty.
    pub const fn retire_bitmap(&mut self) {
        if self.bitmap != 0 {
            self.push_history(self.bitmap);
            self.bitmap = 0;
        }
    }

    /// A new data generation: the current UUID becomes the bitmap's, a non-zero old bitmap UUID
    /// is overwritten (M97 "new current UUID").
    pub const fn new_generation(&mut self, random: u64, primary: bool) {
        self.bitmap = self.current;
        self.set_current(random, primary);
    }

    /// A new generation on the administrator's command: the old bitmap UUID is kept as history.
    pub const fn new_generation_by_command(&mut self, random: u64, primary: bool) {
        self.retire_bitmap();
        self.new_generation(random, primary);
    }

    /// Skips the initial sync: both nodes take the same new generation with a clean bitmap (M97).
    pub const fn skip_initial_sync(&mut self, random: u64, primary: bool) {
        self.set_current(random, primary);
        self.bitmap = 0;
    }

    /// Starts a resync as its source, and returns the sync UUID to send (M97). `random` is used
    /// only where there is no bitmap UUID to count up from.
    #[must_use]
    pub const fn start_as_source(&mut self, random: u64) -> u64 {
        let sync = match self.bitmap {
            0 | JUST_CREATED => random,
            base => base.wrapping_add(SYNC_STEP),
        };
        self.retire_bitmap();
        self.bitmap = sync;
        sync
    }

    /// Starts a resync as its target: the data becomes a mixture named by the sync UUID (M97).
    pub const fn start_as_target(&mut self, sync_uuid: u64, primary: bool) {
        self.set_current(sync_uuid, primary);
        self.bitmap = 0;
    }

    /// Ends a resync as its target: the source's set as received at the handshake, with the sync
    /// UUID in the history (M97). The result equals the source's set but for bit 0.
    pub const fn finish_as_target(&mut self, source: &Self, primary: bool) {
        let sync_uuid = self.current;
        self.bitmap = source.bitmap;
        self.history = source.history;
        self.retire_bitmap();
        self.bitmap = sync_uuid;
        self.set_current(source.current, primary);
        self.retire_bitmap();
    }
}

/// Four upper-case 16-digit numbers, as `get-gi` prints them (M100).
impl fmt::Display for Uuids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [current, bitmap, young, old] = self.to_array();
        write!(f, "{current:016X}:{bitmap:016X}:{young:016X}:{old:016X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked sequence of M97, as the kernel went through it.
    #[test]
    fn a_disconnection_and_resync_leave_both_nodes_with_the_same_generations() {
        let mut source = Uuids { current: 0x0417_c324_1056_968d, ..Uuids::default() };
        let mut target = Uuids { current: 0x0417_c324_1056_968c, ..Uuids::default() };
        source.new_generation(0x2d01_0000_0000_9c9c, true);
        assert_eq!((source.current, source.bitmap), (0x2d01_0000_0000_9c9d, 0x0417_c324_1056_968d));

        let at_handshake = source;
        let sync = source.start_as_source(99);
        assert_eq!(sync, 0x0418_c324_1056_968d);
        assert_eq!(source.history[0], 0x0417_c324_1056_968d);
        target.start_as_target(sync, false);
        assert_eq!(target.current, 0x0418_c324_1056_968c);

        source.retire_bitmap();
        target.finish_as_target(&at_handshake, false);
        let identities = |u: Uuids| u.to_array().map(|slot| slot & !PRIMARY_BIT);
        assert_eq!(identities(source), identities(target));
        assert_eq!(source.bitmap, 0);
        assert_eq!(source.history, [0x0418_c324_1056_968d, 0x0417_c324_1056_968d]);
    }

    #[test]
    fn a_first_full_sync_is_named_by_a_random_number() {
        let mut source = Uuids { current: 0x11, bitmap: JUST_CREATED, history: [0; 2] };
        assert_eq!(source.start_as_source(0xABC0), 0xABC0);
        assert_eq!(source.history, [JUST_CREATED, 0]);
    }

    #[test]
    fn a_command_keeps_the_old_bitmap_generation_in_the_history() {
        let mut uuids = Uuids { current: 0x20, bitmap: 0x10, history: [0x8, 0x6] };
        uuids.new_generation_by_command(0x30, true);
        assert_eq!(uuids, Uuids { current: 0x31, bitmap: 0x20, history: [0x10, 0x8] });
    }

    #[test]
    fn bit_zero_is_no_part_of_the_identity() {
        assert!(same_generation(0x41, 0x40));
        assert!(!same_generation(0x41, 0x43));
    }
}
