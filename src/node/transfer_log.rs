//! The transfer log: every request of this node that is not destroyed yet, in order, and the
//! epochs its writes belong to (datapath.md sections 1 and 4).

use std::collections::VecDeque;

use super::input::{Request, RequestId};
use super::volume::{Admitted, Parked};
use crate::buffer::Buf;
use crate::units::{Extent, VolumeId};
use crate::wire::packet::BlockId;

/// Names a request within the transfer log; grows by one for each, never reused, so that a late
/// ack can never meet a younger request (I24).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ReqKey(pub(super) u64);

impl ReqKey {
    /// The opaque id the request carries on the wire (W87).
    pub(super) const fn block_id(self) -> BlockId {
        BlockId(self.0.to_be_bytes())
    }

    /// The key an id that came back stands for, if it is one of ours.
    pub(super) const fn from_block_id(id: BlockId) -> Self {
        Self(u64::from_be_bytes(id.0))
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Trim,
    Zeroes { may_trim: bool },
}

impl Kind {
    /// Whether it changes the data, so that its fate concerns the bitmap.
    pub(super) const fn is_write(self) -> bool {
        !matches!(self, Self::Read)
    }
}

/// The copy on the local disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocalLeg {
    /// There is none.
    None,
    /// Under way.
    Pending,
    /// Ended.
    Done { ok: bool },
}

/// The copy at the peer (D18, section 4.1 of datapath.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NetLeg {
    /// There is one: the request was sent to the peer.
    pub(super) used: bool,
    /// Its answer is needed before the client's.
    pub(super) pending: bool,
    /// The peer has it (not necessarily durably, D74).
    pub(super) ok: bool,
    /// Nothing more is expected from this connection.
    pub(super) done: bool,
    /// The peer may mark the range in sync: it was asked to, and no block of it was out of sync since.
    pub(super) may_clear: bool,
    /// The peer marked the range in sync.
    pub(super) in_sync: bool,
    /// The connection it was sent on is gone, and I/O was frozen then: what the peer made of it
    /// is decided when I/O goes on.
    pub(super) lost: bool,
    /// It was sent once more then, and the peer may have had it before.
    pub(super) again: bool,
}

/// Which copies of a write are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copies {
    pub(super) local: bool,
    pub(super) peer: bool,
}

/// A request of this node's clients.
#[derive(Debug)]
pub(super) struct Req {
    /// The front's name for it.
    pub(super) id: RequestId,
    pub(super) volume: VolumeId,
    pub(super) kind: Kind,
    pub(super) extent: Extent,
    /// A write's bytes; a read's, once it has them.
    pub(super) data: Option<Buf>,
    pub(super) fua: bool,
    /// The epoch it was admitted in.
    pub(super) epoch: u32,
    pub(super) local: LocalLeg,
    pub(super) net: NetLeg,
    /// It holds references in the activity log.
    pub(super) in_al: bool,
    /// The number under which it holds its range in the conflict set; 0 if it does not.
    pub(super) hold: u64,
    /// The peer wants it again, once its own overlapping write is done (D180).
    pub(super) postponed: bool,
    /// The only good copy could not take it: that the other one did is no success.
    pub(super) spoiled: bool,
    /// Its client was answered.
    pub(super) completed: bool,
    /// Its bits were set for these good copies: a resync may have cleared them since.
    pub(super) marked_for: Option<Copies>,
    /// When it was sent to the peer, in nanoseconds of the node's clock; 0 before.
    pub(super) sent_ns: u64,
}

impl Req {
    /// The write as it was admitted, to be routed or admitted anew; `None` of a read, and of a write
    /// without its bytes.
    pub(super) fn into_admitted(self) -> Option<Admitted> {
        let Self { id, kind, extent, data, fua, hold, .. } = self;
        let request = match kind {
            Kind::Write => Request::Write { extent, data: data?, fua },
            Kind::Zeroes { may_trim } => Request::WriteZeroes { extent, fua, may_trim },
            Kind::Trim => Request::Trim { extent, fua },
            Kind::Read => return None,
        };
        Some(Admitted { parked: Parked { id, request }, hold })
    }

    /// Whether nothing withholds its completion any more (D30), suspension apart.
    pub(super) const fn legs_ended(&self) -> bool {
        !matches!(self.local, LocalLeg::Pending) && !self.net.pending
    }

    /// Whether one of its legs succeeded (D31).
    pub(super) const fn succeeded(&self) -> bool {
        let Copies { local, peer } = self.copies();
        local || peer
    }

    /// Which of its copies are good.
    pub(super) const fn copies(&self) -> Copies {
        Copies { local: matches!(self.local, LocalLeg::Done { ok: true }), peer: self.net.ok }
    }

    /// Whether both copies are good.
    pub(super) const fn both_ok(&self) -> bool {
        let Copies { local, peer } = self.copies();
        local && peer
    }

    /// Whether it may leave the log (D34): answered, and its epoch acked if it was mirrored.
    pub(super) const fn destroyable(&self) -> bool {
        self.completed
            && !matches!(self.local, LocalLeg::Pending)
            && (!self.net.used || !self.kind.is_write() || self.net.done)
    }
}

/// An epoch whose barrier was sent and not acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SentEpoch {
    pub(super) number: u32,
    /// Writes sent in it that count.
    pub(super) writes: u32,
    /// Writes sent in it that do not: a peer may count them all the same (W151, T8).
    pub(super) withdrawn: u32,
    /// When its barrier was sent, in nanoseconds of the node's clock.
    pub(super) sent_ns: u64,
}

/// All live requests, and the sender's half of the epochs.
#[derive(Debug, Default)]
pub(super) struct TransferLog {
    /// Slot `i` holds the request with key `base + i`.
    slots: VecDeque<Option<Req>>,
    base: u64,
    live: usize,
    /// The epoch new writes are counted into (D14, D25).
    current: u32,
    /// Writes counted into it.
    current_writes: u32,
    /// The epoch of the last write sent on this connection, and its count.
    sending: Option<SentEpoch>,
    /// Epochs closed by a sent barrier, oldest first.
    barriers: VecDeque<SentEpoch>,
    /// Some request may be marked in sync by the peer, or was, and is not destroyed.
    some_may_clear: bool,
}

impl TransferLog {
    /// Adds a request and counts it into the current epoch (D14).
    pub(super) fn push(&mut self, mut req: Req) -> ReqKey {
        req.epoch = self.current;
        if req.kind.is_write() {
            self.current_writes += 1;
        }
        if self.slots.is_empty() && self.base == 0 {
            self.base = 1; // Key 0 stands for nothing.
        }
        let key = ReqKey(self.base + self.slots.len() as u64);
        self.slots.push_back(Some(req));
        self.live += 1;
        key
    }

    fn index(&self, key: ReqKey) -> Option<usize> {
        usize::try_from(key.0.checked_sub(self.base)?).ok()
    }

    /// The request, while it lives.
    pub(super) fn get(&self, key: ReqKey) -> Option<&Req> {
        self.slots.get(self.index(key)?)?.as_ref()
    }

    /// The request, while it lives.
    pub(super) fn get_mut(&mut self, key: ReqKey) -> Option<&mut Req> {
        let index = self.index(key)?;
        self.slots.get_mut(index)?.as_mut()
    }

    /// Takes the request out.
    pub(super) fn remove(&mut self, key: ReqKey) -> Option<Req> {
        let index = self.index(key)?;
        let req = self.slots.get_mut(index)?.take();
        if req.is_some() {
            self.live -= 1;
        }
        while matches!(self.slots.front(), Some(None)) {
            self.slots.pop_front();
            self.base += 1;
        }
        req
    }

    /// The peer is asked to mark this in sync once it has written it.
    pub(super) fn may_clear(&mut self, key: ReqKey) {
        self.some_may_clear = true;
        if let Some(req) = self.get_mut(key) {
            req.net.may_clear = true;
        }
    }

    /// The peer has written this, and marked it in sync.
    pub(super) fn set_in_sync(&mut self, key: ReqKey) {
        if let Some(req) = self.get_mut(key) {
            req.net.in_sync = req.net.may_clear;
        }
    }

    /// These blocks are out of sync again: no older write clears their bits when its epoch is acked, be it that the
    /// peer marks it in sync only then. `by`: since this write; both nodes carry a later one out behind it.
    pub(super) fn outdate(&mut self, volume: VolumeId, extent: Extent, by: Option<ReqKey>) {
        if !std::mem::take(&mut self.some_may_clear) {
            return;
        }
        for (key, slot) in (self.base..).zip(self.slots.iter_mut()) {
            let Some(req) = slot.as_mut().filter(|req| req.net.may_clear) else { continue };
            let later = by.is_some_and(|by| key > by.0);
            req.net.may_clear = later || req.volume != volume || !req.extent.shares_block(extent);
            req.net.in_sync &= req.net.may_clear;
            self.some_may_clear |= req.net.may_clear;
        }
    }

    /// The local copies of writes that nobody else has (yet) count as failed.
    pub(super) fn fail_unmirrored(&mut self, volume: VolumeId) {
        for req in self.slots.iter_mut().flatten() {
            let held = req.volume == volume && req.kind.is_write() && !req.completed && !req.net.ok;
            if held && matches!(req.local, LocalLeg::Done { .. }) {
                req.local = LocalLeg::Done { ok: false };
            }
        }
    }

    /// The activity log of a volume is gone: no request holds references in it any more (D82).
    pub(super) fn forget_activity(&mut self, volume: VolumeId) {
        for req in self.slots.iter_mut().flatten().filter(|req| req.volume == volume) {
            req.in_al = false;
        }
    }

    /// Counts a request that is sent once more into the current epoch.
    pub(super) fn requeue(&mut self, key: ReqKey) {
        let current = self.current;
        let Some(req) = self.get_mut(key) else { return };
        req.epoch = current;
        if req.kind.is_write() {
            self.current_writes += 1;
        }
    }

    /// Number of live requests.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.live
    }

    /// As if so many epochs had been.
    #[cfg(test)]
    pub(super) const fn begin_at_epoch(&mut self, number: u32) {
        self.current = number;
    }

    /// All live requests, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ReqKey, &Req)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, slot)| slot.as_ref().map(|req| (ReqKey(self.base + i as u64), req)))
    }

    /// Keys of all live requests, oldest first.
    pub(super) fn keys(&self) -> Vec<ReqKey> {
        self.iter().map(|(key, _)| key).collect()
    }

    /// Whether a write to these sectors was sent that may not be on the peer's disk.
    pub(super) fn has_unsettled_write(&self, volume: VolumeId, extent: Extent) -> bool {
        self.iter().any(|(_, req)| {
            req.volume == volume
                && req.kind.is_write()
                && req.net.used
                && !req.net.done
                && req.extent.overlaps(extent)
        })
    }

    /// Writes counted into the current epoch.
    pub(super) const fn current_writes(&self) -> u32 {
        self.current_writes
    }

    /// The epoch that new writes are counted into.
    pub(super) const fn current_epoch(&self) -> u32 {
        self.current
    }

    /// Closes the current epoch if it has writes. Returns whether it did (D32, W133).
    pub(super) const fn close_epoch(&mut self) -> bool {
        if self.current_writes == 0 {
            return false;
        }
        self.current = self.current.wrapping_add(1);
        self.current_writes = 0;
        true
    }

    /// The barrier to send before anything of epoch `next` (D23), if the epoch sent last differs
    /// and has writes. After it that epoch waits for its ack.
    pub(super) fn barrier_before(&mut self, next: u32, now_ns: u64) -> Option<u32> {
        let sending = self.sending?;
        if sending.number == next {
            return None;
        }
        self.sending = None;
        if sending.writes > 0 {
            self.barriers.push_back(SentEpoch { sent_ns: now_ns, ..sending });
        }
        (sending.writes > 0 || sending.withdrawn > 0).then_some(sending.number)
    }

    /// A sent write does not count in its epoch any more: the peer refused it for a write of its own
    /// (W151). An epoch without writes is not acked.
    pub(super) fn withdraw(&mut self, epoch: u32) {
        let sent = self.barriers.iter_mut().chain(&mut self.sending).find(|sent| sent.number == epoch);
        if let Some(sent) = sent {
            sent.writes -= 1;
            sent.withdrawn += 1;
        }
        self.barriers.retain(|sent| sent.writes > 0);
    }

    /// Counts a write of `epoch` as sent; its barrier, if one was due, has been sent (D23).
    pub(super) const fn count_sent(&mut self, epoch: u32) {
        match &mut self.sending {
            Some(sending) => sending.writes += 1,
            None => self.sending = Some(SentEpoch { number: epoch, writes: 1, withdrawn: 0, sent_ns: 0 }),
        }
    }

    /// Takes a barrier ack: the oldest unacked epoch, if number and count are its own (D75). The
    /// kernel never acks an epoch of which it refused a write: a later one stands for it (W152).
    pub(super) fn acked(&mut self, number: u32, writes: u32) -> Result<(), String> {
        while let Some(oldest) = self.barriers.front() {
            let counts = oldest.writes..=oldest.writes + oldest.withdrawn;
            if oldest.number == number && counts.contains(&writes) {
                self.barriers.pop_front();
                return Ok(());
            }
            if oldest.number != number && oldest.withdrawn > 0 {
                self.barriers.pop_front();
                continue;
            }
            return Err(format!(
                "barrier ack for epoch {number} with {writes} writes, expected epoch {} with {}",
                oldest.number, oldest.writes
            ));
        }
        Err(format!("barrier ack for epoch {number}, but no barrier is outstanding"))
    }

    /// Keys of the writes of all epochs up to an acked one.
    pub(super) fn writes_up_to(&self, epoch: u32) -> Vec<ReqKey> {
        self.iter()
            .take_while(|(_, req)| (epoch.wrapping_sub(req.epoch) as i32) >= 0)
            .filter(|(_, req)| req.kind.is_write())
            .map(|(key, _)| key)
            .collect()
    }

    /// Whether every write admitted before now, in closed epochs, is barrier-acked.
    pub(super) fn barriers_outstanding(&self) -> bool {
        !self.barriers.is_empty() || self.sending.is_some_and(|sending| sending.writes > 0)
    }

    /// Whether the barrier of this epoch is sent and not acked.
    pub(super) fn is_barrier_sent(&self, epoch: u32) -> bool {
        self.barriers.iter().any(|sent| sent.number == epoch)
    }

    /// The newest epoch that was closed by a barrier and is not acked: a flush waits for it. Every
    /// write answered so far is in an epoch up to it (D32).
    pub(super) fn newest_barrier(&self) -> Option<u32> {
        self.barriers.back().map(|epoch| epoch.number)
    }

    /// The oldest epoch with writes sent whose barrier ack is missing.
    pub(super) fn oldest_unacked(&self) -> Option<u32> {
        let open = self.sending.filter(|sending| sending.writes > 0);
        self.barriers.front().copied().or(open).map(|epoch| epoch.number)
    }

    /// The oldest barrier that waits for its ack.
    pub(super) fn oldest_barrier(&self) -> Option<SentEpoch> {
        self.barriers.front().copied()
    }

    /// The connection is gone: nothing was sent on the next one yet. Epoch numbers go on (D25).
    pub(super) fn forget_connection(&mut self) {
        self.close_epoch();
        self.sending = None;
        self.barriers.clear();
        // What the peer called in sync on it may be out of sync by what it says on the next one.
        if std::mem::take(&mut self.some_may_clear) {
            for req in self.slots.iter_mut().flatten() {
                (req.net.may_clear, req.net.in_sync) = (false, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Sector;

    fn write() -> Req {
        Req {
            id: RequestId(1),
            volume: VolumeId(0),
            kind: Kind::Write,
            extent: Extent::new(Sector::new(0), 8).unwrap(),
            data: None,
            fua: false,
            epoch: 0,
            local: LocalLeg::None,
            net: NetLeg::default(),
            in_al: false,
            hold: 0,
            completed: false,
            marked_for: None,
            postponed: false,
            spoiled: false,
            sent_ns: 0,
        }
    }

    #[test]
    fn a_barrier_goes_between_epochs_and_never_for_an_empty_one() {
        let mut log = TransferLog::default();
        assert!(!log.close_epoch(), "an empty epoch is not closed");
        log.push(write());
        log.count_sent(0);
        log.push(write());
        log.count_sent(0);
        assert!(log.close_epoch());
        assert_eq!(log.barrier_before(log.current_epoch(), 5), Some(0));
        assert_eq!(log.barrier_before(log.current_epoch(), 5), None);
        assert_eq!(log.acked(0, 2), Ok(()));
        assert!(!log.barriers_outstanding());
    }

    #[test]
    fn a_barrier_ack_with_a_wrong_count_is_refused() {
        let mut log = TransferLog::default();
        log.push(write());
        log.count_sent(0);
        log.close_epoch();
        log.barrier_before(1, 0);
        assert!(log.acked(0, 2).is_err());
        assert!(log.acked(1, 1).is_err());
        assert_eq!(log.acked(0, 1), Ok(()));
    }

    /// T8, of a sender: whether a peer counts the writes that it refused is its own affair.
    #[test]
    fn an_epoch_with_refused_writes_may_be_counted_with_and_without_them() {
        for (count, fits) in [(1, true), (2, true), (0, false), (3, false)] {
            let mut log = TransferLog::default();
            for _ in 0..2 {
                log.push(write());
                log.count_sent(0);
            }
            log.close_epoch();
            log.barrier_before(1, 0);
            log.withdraw(0);
            assert_eq!(log.acked(0, count).is_ok(), fits, "{count}");
        }
    }

    /// T4: the bitmaps of the next connection decide, whatever a frozen write was told on this one.
    #[test]
    fn what_was_called_in_sync_is_forgotten_with_the_connection() {
        let mut log = TransferLog::default();
        let key = log.push(write());
        log.may_clear(key);
        log.set_in_sync(key);
        assert!(log.get(key).is_some_and(|req| req.net.in_sync));
        log.forget_connection();
        assert!(log.get(key).is_some_and(|req| !req.net.in_sync));
        log.set_in_sync(key);
        assert!(log.get(key).is_some_and(|req| !req.net.in_sync));
    }

    /// I11: whichever comes first, what the peer says of the older write, or the newer one's failure.
    #[test]
    fn a_write_does_not_clear_the_bits_of_a_later_one() {
        for marked_first in [false, true] {
            let mut log = TransferLog::default();
            let [older, newer] = [(); 2].map(|()| log.push(write()));
            log.may_clear(older);
            let extent = log.get(newer).map(|req| req.extent).unwrap();
            if marked_first {
                log.outdate(VolumeId(0), extent, Some(newer));
            }
            log.set_in_sync(older);
            if !marked_first {
                log.outdate(VolumeId(0), extent, None);
            }
            assert!(log.get(older).is_some_and(|req| !req.net.in_sync), "{marked_first}");
        }
    }

    /// D54, I11: what both nodes wrote behind the one that failed is in sync.
    #[test]
    fn a_write_clears_the_bits_of_an_older_one_that_failed() {
        let mut log = TransferLog::default();
        let [older, newer] = [(); 2].map(|()| log.push(write()));
        log.may_clear(newer);
        let extent = log.get(older).map(|req| req.extent).unwrap();
        log.outdate(VolumeId(0), extent, Some(older));
        log.set_in_sync(newer);
        assert!(log.get(newer).is_some_and(|req| req.net.in_sync));
    }

    /// I24
    #[test]
    fn keys_are_never_reused() {
        let mut log = TransferLog::default();
        let first = log.push(write());
        let second = log.push(write());
        assert!(log.remove(first).is_some());
        assert!(log.remove(first).is_none());
        let third = log.push(write());
        assert!(third > second);
        assert!(log.get(second).is_some());
        assert_eq!(log.len(), 2);
    }
}
