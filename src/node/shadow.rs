//! Blocks that a resync target has, and may lose with its power: a kernel acknowledges them when its disk
//! took them, and nothing in its resync flushes (T1). To the run they are in sync; beside the bitmap this
//! node remembers them, in memory and in the bitmap on its disk, until the target must have flushed: until
//! the ack of a barrier that was sent after their acks. When the peer is lost before, they are out of sync; a
//! peer that parts in good order is trusted, as a kernel trusts it.
//!
//! Only a Primary sends barriers, and only its new generation makes bits count after a run has ended: a
//! Secondary source remembers its blocks until then, for there is no cure for what is lost later.

use super::Node;
use super::bitmap::Bitmap;
use super::state::{Conn, Disk, Role, State};
use super::volume::Volume;
use crate::meta::bitmap::{PAGE_WORDS, encode_words};
use crate::units::{BitIndex, Extent, Sector, VolumeId};

/// The blocks of one volume.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    /// Acknowledged since the barrier that is awaited was sent, or without one.
    young: Option<Box<Bitmap>>,
    /// Acknowledged before it was sent.
    old: Option<Box<Bitmap>>,
    /// The epoch whose barrier ack makes the old ones durable.
    awaited: Option<u32>,
}

impl Shadow {
    /// These bits were cleared because the peer said so.
    fn note(&mut self, end: Sector, first: BitIndex, last: BitIndex) {
        self.young.get_or_insert_with(|| Box::new(Bitmap::new(end))).set(first, last);
    }

    /// The barrier of this epoch is sent.
    fn barrier_sent(&mut self, epoch: u32) {
        if self.awaited.is_none() && self.young.is_some() {
            self.old = self.young.take();
            self.awaited = Some(epoch);
        }
    }

    /// The barrier of this epoch is acked: the blocks that are durable now.
    fn barrier_acked(&mut self, epoch: u32) -> Option<Box<Bitmap>> {
        let awaited = self.awaited.filter(|awaited| (epoch.wrapping_sub(*awaited) as i32) >= 0)?;
        debug_assert!(self.old.is_some(), "epoch {awaited} is awaited for nothing");
        self.awaited = None;
        self.old.take()
    }

    /// The device ends somewhere else.
    pub(super) fn resize(&mut self, end: Sector) {
        for bitmap in [&mut self.young, &mut self.old].into_iter().flatten() {
            bitmap.resize(end, false);
        }
    }

    /// The connection is gone, and no barrier ack comes from it.
    fn barrier_lost(&mut self) {
        self.awaited = None;
        let Some(old) = self.old.take() else { return };
        match &mut self.young {
            Some(young) => runs(&old).for_each(|(first, last)| _ = young.set(first, last)),
            None => self.young = Some(old),
        }
    }

    /// All blocks that the peer may lose; none is remembered any more.
    fn take(&mut self) -> impl Iterator<Item = Box<Bitmap>> {
        self.awaited = None;
        [self.young.take(), self.old.take()].into_iter().flatten()
    }

    /// Adds the bits to a page of the bitmap as it goes to the disk.
    pub(super) fn add_to_page(&self, page: u64, bytes: &mut [u8]) {
        for bitmap in [&self.young, &self.old].into_iter().flatten() {
            let mut words = [0; PAGE_WORDS];
            let count = bitmap.read_words(page * PAGE_WORDS as u64, &mut words);
            let mut added = vec![0; bytes.len()];
            encode_words(&words[..count], &mut added);
            bytes.iter_mut().zip(added).for_each(|(byte, added)| *byte |= added);
        }
    }
}

/// The runs of set bits.
fn runs(bitmap: &Bitmap) -> impl Iterator<Item = (BitIndex, BitIndex)> + '_ {
    let mut from = BitIndex::new(0);
    std::iter::from_fn(move || {
        let (first, last) = bitmap.next_set_run(from, u64::MAX)?;
        from = BitIndex::new(last.get() + 1);
        Some((first, last))
    })
}

impl Volume {
    /// The peer has these blocks since a resync; `durable`: and cannot lose them.
    pub(super) fn resynced(&mut self, extent: Extent, durable: bool) {
        self.set_in_sync(extent);
        let (end, state) = (self.end, self.state);
        let counts = state.role == Role::Primary || state.conn.is_sync_source();
        if let Some((first, last)) = extent.covered_bits(end)
            && let Some(disk) = self.usable_disk().filter(|_| counts && !durable)
        {
            disk.shadow.note(end, first, last);
        }
    }

    /// What the peer may lose is out of sync. Whether there was something.
    pub(super) fn distrust_peer(&mut self) -> bool {
        let Some(disk) = self.disk.as_deref_mut() else { return false };
        let mut any = false;
        for bitmap in disk.shadow.take() {
            for (first, last) in runs(&bitmap) {
                disk.bitmap.set(first, last);
                any = true;
            }
        }
        any
    }

    /// What the peer might lose is none of this node's business any more.
    fn trust_peer(&mut self) {
        let Some(disk) = self.disk.as_deref_mut() else { return };
        for bitmap in disk.shadow.take() {
            forget_on_disk(&mut disk.bitmap, &bitmap);
        }
    }
}

/// The pages on disk have bits that need not be there any more.
fn forget_on_disk(bitmap: &mut Bitmap, shadow: &Bitmap) {
    for (first, last) in runs(shadow) {
        bitmap.changed_on_disk_only(first, last);
    }
}

impl Node {
    /// A barrier is sent: its ack will say that what the peer has now is durable.
    pub(super) fn shadow_barrier_sent(&mut self, epoch: u32) {
        for disk in self.volumes.values_mut().filter_map(|v| v.disk.as_deref_mut()) {
            disk.shadow.barrier_sent(epoch);
        }
    }

    /// A barrier was acked.
    pub(super) fn shadow_barrier_acked(&mut self, epoch: u32) {
        for disk in self.volumes.values_mut().filter_map(|v| v.disk.as_deref_mut()) {
            if let Some(durable) = disk.shadow.barrier_acked(epoch) {
                forget_on_disk(&mut disk.bitmap, &durable);
            }
        }
    }

    /// The connection breaks or ends in good order, this node is Primary no longer, or it is not and its run has
    /// ended well: what is out of sync after that would be so for good, as no generation makes it count.
    pub(super) fn note_shadow(&mut self, volume: VolumeId, old: State, new: State) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let parts = old.conn >= Conn::Connected && new.conn < Conn::Connected;
        let left = |is: fn(State) -> bool| is(old) && !is(new);
        let demoted = left(|state| state.role == Role::Primary);
        let synced = left(|state| state.conn.is_sync_source()) && new.pdsk == Disk::UpToDate;
        let counts = new.role == Role::Primary || new.conn.is_sync_source();
        if parts && new.conn.is_network_error() && new.conn != Conn::TearDown {
            if let Some(disk) = v.disk.as_deref_mut() {
                disk.shadow.barrier_lost(); // The sweep decides, when it is known whether I/O is frozen.
            }
        } else if parts || ((demoted || synced) && !counts) {
            v.trust_peer();
        }
    }

    /// The peer is lost, and with it what it may lose. While I/O is frozen it may come back without having
    /// lost anything, and no new generation makes the bits count: where it may be another one, this node
    /// counts as a crashed Primary, whose bits do (T4).
    pub(super) fn distrust_lost_peer(&mut self) {
        for volume in self.volume_ids() {
            let doubtful = self.may_lose_what_it_acked(volume);
            let Some(v) = self.volumes.get_mut(&volume) else { continue };
            let frozen = v.state.is_suspended();
            if doubtful || !frozen {
                let lost = v.distrust_peer();
                v.marks.crashed_primary |= lost && frozen;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Sector = Sector::new(1 << 20);

    fn bit(number: u64) -> BitIndex {
        BitIndex::new(number)
    }

    fn bits(bitmap: &Bitmap) -> Vec<u64> {
        runs(bitmap).flat_map(|(first, last)| first.get()..=last.get()).collect()
    }

    #[test]
    fn only_what_was_acknowledged_before_the_barrier_is_durable_with_its_ack() {
        let mut shadow = Shadow::default();
        shadow.barrier_sent(4);
        shadow.note(END, bit(3), bit(5));
        assert!(shadow.barrier_acked(4).is_none(), "sent before the acks");
        shadow.barrier_sent(5);
        shadow.note(END, bit(9), bit(9));
        shadow.barrier_sent(6);
        assert_eq!(shadow.barrier_acked(5).map(|b| bits(&b)), Some(vec![3, 4, 5]));
        assert!(shadow.barrier_acked(6).is_none(), "the ninth had no barrier of its own");
        shadow.barrier_sent(7);
        assert_eq!(shadow.barrier_acked(8).map(|b| bits(&b)), Some(vec![9]));
        assert_eq!(shadow.take().count(), 0);
    }

    #[test]
    fn epoch_numbers_wrap() {
        let mut shadow = Shadow::default();
        shadow.note(END, bit(1), bit(1));
        shadow.barrier_sent(u32::MAX);
        assert!(shadow.barrier_acked(u32::MAX - 1).is_none());
        assert!(shadow.barrier_acked(0).is_some());
    }

    #[test]
    fn the_page_on_disk_has_them() {
        let mut shadow = Shadow::default();
        shadow.note(END, bit(8), bit(8));
        shadow.barrier_sent(1);
        shadow.note(END, bit(1), bit(1));
        let mut page = vec![0; 4096];
        page[0] = 1;
        shadow.add_to_page(0, &mut page);
        assert_eq!(page[..3], [0b11, 1, 0]);
        let mut other = vec![0; 4096];
        shadow.add_to_page(1, &mut other);
        assert!(other.iter().all(|byte| *byte == 0));
    }
}
