//! The receiver's half of the epochs: when a P_BARRIER may be answered (datapath.md 3.3, W131-W141).
//!
//! A barrier ack says: all writes of the epoch are done and, where the disks are flushed, durable.
//! Flushes are shared: one that was issued after several epochs were done serves them all.

use std::collections::VecDeque;

/// Names an epoch within this connection; grows by one for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EpochKey(u64);

#[derive(Clone, Copy, Debug, Default)]
struct Epoch {
    /// The peer's opaque number, once its barrier came.
    barrier: Option<[u8; 4]>,
    /// Write packets received in it, whatever came of them (D61).
    size: u32,
    /// Writes not finished and answered.
    active: u32,
    /// Done writes are durable, or need not be.
    flushed: bool,
}

/// A barrier ack that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BarrierAckDue {
    pub(super) barrier: [u8; 4],
    pub(super) writes: u32,
}

/// Epochs received and not acked, oldest first; the last one is current.
#[derive(Debug)]
pub(super) struct Epochs {
    epochs: VecDeque<Epoch>,
    /// Key of the front epoch.
    base: u64,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { epochs: VecDeque::from([Epoch::default()]), base: 0 }
    }
}

impl Epochs {
    fn current(&mut self) -> &mut Epoch {
        if self.epochs.is_empty() {
            self.epochs.push_back(Epoch::default());
        }
        let last = self.epochs.len() - 1;
        &mut self.epochs[last]
    }

    /// A write was accepted into the current epoch.
    pub(super) fn accepted(&mut self) -> EpochKey {
        let epoch = self.current();
        epoch.size += 1;
        epoch.active += 1;
        EpochKey(self.base + self.epochs.len() as u64 - 1)
    }

    /// A write lost against one of this node's: it does not count, but the epoch is not done before
    /// [`Epochs::finished`] (T8, W153).
    pub(super) fn withheld(&mut self) -> EpochKey {
        let key = self.accepted();
        self.current().size -= 1;
        key
    }

    /// A write was refused for want of a disk: it counts all the same (D50).
    pub(super) fn refused(&mut self) {
        self.current().size += 1;
    }

    /// A write of this epoch is done and answered.
    pub(super) fn finished(&mut self, key: EpochKey) {
        let index = key.0.checked_sub(self.base).and_then(|i| usize::try_from(i).ok());
        if let Some(epoch) = index.and_then(|i| self.epochs.get_mut(i)) {
            assert!(epoch.active > 0, "more writes finished than were accepted");
            epoch.active -= 1;
        }
    }

    /// P_BARRIER arrived. An empty epoch stays unnamed and is not acked (W135).
    pub(super) fn barrier(&mut self, number: [u8; 4]) {
        let epoch = self.current();
        if epoch.size == 0 {
            return;
        }
        epoch.barrier = Some(number);
        self.epochs.push_back(Epoch::default());
    }

    /// Whether a write of `key`'s epoch may go to the disk: all older epochs are done (I21).
    pub(super) fn may_start(&self, key: EpochKey) -> bool {
        self.epochs.iter().zip(self.base..).take_while(|(_, k)| *k < key.0).all(|(e, _)| e.active == 0)
    }

    /// How many of the oldest epochs are named and done but not flushed; a flush issued now serves
    /// them.
    pub(super) fn done_unflushed(&self) -> usize {
        self.epochs.iter().take_while(|e| e.barrier.is_some() && e.active == 0).filter(|e| !e.flushed).count()
    }

    /// Key of the newest epoch a flush issued now will make durable.
    pub(super) fn flush_covers(&self) -> Option<EpochKey> {
        let done = self.epochs.iter().take_while(|e| e.barrier.is_some() && e.active == 0).count();
        (done > 0).then(|| EpochKey(self.base + done as u64 - 1))
    }

    /// A flush that covers all epochs up to `key` ended well (or none is configured).
    pub(super) fn flushed(&mut self, key: EpochKey) {
        for (epoch, k) in self.epochs.iter_mut().zip(self.base..) {
            if k <= key.0 {
                epoch.flushed = true;
            }
        }
    }

    /// The next barrier ack that may be sent; in order, one for each barrier (D61, W137).
    pub(super) fn next_ack(&mut self) -> Option<BarrierAckDue> {
        let front = self.epochs.front()?;
        let (Some(barrier), 0, true) = (front.barrier, front.active, front.flushed) else { return None };
        let writes = front.size;
        self.epochs.pop_front();
        self.base += 1;
        Some(BarrierAckDue { barrier, writes })
    }

    /// Whether the peer may count on writes that no flush has covered yet.
    pub(super) fn has_unflushed(&self) -> bool {
        self.epochs.iter().any(|epoch| epoch.size > 0 && !epoch.flushed)
    }

    /// Number of epochs alive, the current one included.
    pub(super) fn len(&self) -> usize {
        self.epochs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_is_acked_after_its_writes_and_the_flush_and_counts_refused_ones() {
        let mut epochs = Epochs::default();
        let a = epochs.accepted();
        epochs.refused();
        epochs.barrier([1; 4]);
        let b = epochs.accepted();
        assert!(!epochs.may_start(b), "the older epoch is not done");
        assert_eq!(epochs.flush_covers(), None);
        epochs.finished(a);
        assert!(epochs.may_start(b));
        let covers = epochs.flush_covers().unwrap();
        assert_eq!(epochs.next_ack(), None, "not flushed yet");
        epochs.flushed(covers);
        assert_eq!(epochs.next_ack(), Some(BarrierAckDue { barrier: [1; 4], writes: 2 }));
        assert_eq!(epochs.next_ack(), None);
    }

    #[test]
    fn an_empty_epoch_is_never_acked() {
        let mut epochs = Epochs::default();
        epochs.barrier([9; 4]);
        let a = epochs.accepted();
        epochs.finished(a);
        assert_eq!(epochs.flush_covers(), None, "the stray barrier must not name the next epoch");
    }

    #[test]
    fn one_flush_serves_all_epochs_done_when_it_was_issued_and_no_later_one() {
        let mut epochs = Epochs::default();
        for number in 0..3u8 {
            let key = epochs.accepted();
            epochs.barrier([number; 4]);
            epochs.finished(key);
        }
        let covers = epochs.flush_covers().unwrap();
        let late = epochs.accepted();
        epochs.barrier([3; 4]);
        epochs.finished(late);
        epochs.flushed(covers);
        assert!((0..3).all(|_| epochs.next_ack().is_some()));
        assert_eq!(epochs.next_ack(), None, "done during the flush: the next one's");
        assert_eq!(epochs.done_unflushed(), 1);
    }
}
