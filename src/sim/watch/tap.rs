//! The wire as one node sees it: the epochs of its writes and of the peer's, their barriers and acks.
//!
//! - as sender: all writes of an epoch, then its barrier; numbers increase, none for an empty epoch (I20);
//!   barrier acks come in order, one for each barrier, with the count of what was sent (I22)
//! - as receiver: acks only for what was received; every ack that a write asked for goes out before its
//!   epoch's barrier ack; barrier acks in order, with the count of what was received (I22)
//!
//! A write that is refused in favour of one of the receiver's own does not count (W151), and its epoch is not acked before
//! that one is answered (T8).

use std::collections::{BTreeMap, VecDeque};

use super::{Epoch, Sent};
use crate::units::{Extent, Sector, VolumeId};
use crate::wire::packet::{BlockAck, BlockId, DpFlags, Packet};

/// Both directions of the connection.
#[derive(Debug, Default)]
pub(super) struct Tap {
    sender: Sender,
    receiver: Receiver,
}

/// A write packet.
struct Write {
    sector: Sector,
    id: BlockId,
    flags: DpFlags,
    /// How much it writes, if that is not the size of what comes with it.
    bytes: Option<u32>,
}

impl Write {
    fn of(packet: &Packet) -> Option<Self> {
        if let Packet::Data { sector, block_id, flags, .. } = packet {
            return Some(Self { sector: *sector, id: *block_id, flags: *flags, bytes: None });
        }
        let (Packet::Trim { sector, block_id, flags, size, .. }
        | Packet::Zeroes { sector, block_id, flags, size, .. }
        | Packet::WriteSame { sector, block_id, flags, size, .. }) = packet
        else {
            return None;
        };
        Some(Self { sector: *sector, id: *block_id, flags: *flags, bytes: Some(*size) })
    }
}

/// An ack of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Received.
    Received,
    /// Written, or failed: nothing more is said of it.
    Ended,
    /// Refused: it does not count.
    Refused,
}

/// Which write an ack is about, and what it says. Resync blocks have no number of their own (W89).
fn ack_of(packet: &Packet) -> Option<(BlockAck, Verdict)> {
    let found = if let Packet::RecvAck(ack) = packet {
        Some((*ack, Verdict::Received))
    } else if let Packet::WriteAck(ack) | Packet::RsWriteAck(ack) | Packet::NegAck(ack) = packet {
        Some((*ack, Verdict::Ended))
    } else if let Packet::Superseded(ack) | Packet::RetryWrite(ack) = packet {
        Some((*ack, Verdict::Refused))
    } else {
        None
    };
    found.filter(|(ack, _)| ack.block_id != BlockId::RESYNC)
}

impl Tap {
    /// The newest epoch with a write that was answered to its client.
    pub(super) const fn answered(&self) -> Option<Epoch> {
        self.sender.answered
    }

    /// A client's write is answered that was sent in this epoch.
    pub(super) fn answers(&mut self, sent: Option<Epoch>) {
        if let Some(epoch) = sent
            && self.sender.answered.is_none_or(|newest| !epoch.is_not_after(newest))
        {
            self.sender.answered = Some(epoch);
        }
    }

    /// The node sends a packet, with so many bytes. Returns the write that it is.
    ///
    /// # Errors
    /// If it may not.
    pub(super) fn sends(
        &mut self,
        volume: VolumeId,
        packet: &Packet,
        payload: usize,
    ) -> Result<Option<Sent>, String> {
        if let Some(write) = Write::of(packet) {
            let bytes = write.bytes.map_or(payload as u64, u64::from);
            let epoch = self.sender.write(write.id, volume, Extent::of_bytes(write.sector, bytes));
            return Ok(Some(Sent { id: write.id, sector: write.sector, epoch }));
        }
        if let Packet::Protocol(_) = packet {
            self.sender.connected(); // The first packet of both (W49).
        } else if let Packet::Barrier(number) = packet {
            self.sender.barrier(u32::from_be_bytes(*number))?;
        } else if let Packet::BarrierAck { barrier, count } = packet {
            self.receiver.ack_barrier(*barrier, *count)?;
        } else if let Some((ack, verdict)) = ack_of(packet) {
            let extent = Extent::of_bytes(ack.sector, u64::from(ack.size));
            let rivals = extent.map_or_else(Vec::new, |extent| self.sender.unanswered_at(volume, extent));
            self.receiver.ack(&ack, verdict, rivals)?;
        }
        Ok(None)
    }

    /// The node receives a packet.
    ///
    /// # Errors
    /// If the other node may not have sent it.
    pub(super) fn receives(&mut self, packet: &Packet) -> Result<(), String> {
        if let Some(write) = Write::of(packet) {
            self.receiver.write(write.id, write.flags);
        } else if let Packet::Protocol(_) = packet {
            self.receiver = Receiver::default();
        } else if let Packet::Barrier(number) = packet {
            self.receiver.barrier(*number);
        } else if let Packet::BarrierAck { barrier, count } = packet {
            self.sender.acked(u32::from_be_bytes(*barrier), *count)?;
        } else if let Some((ack, verdict)) =
            ack_of(packet).filter(|(_, verdict)| *verdict != Verdict::Received)
        {
            if verdict == Verdict::Refused {
                self.sender.refused(ack.block_id);
            }
            self.sender.unanswered.remove(&ack.block_id.0);
            self.receiver.rival_is_answered(ack.block_id);
        }
        Ok(())
    }
}

/// The writes that this node sends.
#[derive(Debug, Default)]
struct Sender {
    /// The epoch that is open on the wire.
    epoch: Epoch,
    /// Writes sent in it, and how many of them were refused.
    open: Count,
    /// The last barrier's number.
    last: Option<u32>,
    /// Barriers that are not acked, oldest first.
    barriers: VecDeque<(u32, Count)>,
    /// The epochs of writes whose barrier is not acked.
    writes: BTreeMap<[u8; 8], u64>,
    /// The writes that the other node has not answered.
    unanswered: BTreeMap<[u8; 8], (VolumeId, Extent)>,
    answered: Option<Epoch>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    number: u64,
    writes: u32,
    refused: u32,
}

impl Sender {
    fn connected(&mut self) {
        let connection = self.epoch.connection + 1;
        let answered = self.answered;
        *self = Self { epoch: Epoch { connection, number: 0 }, answered, ..Self::default() };
    }

    /// Without an extent it is only a flush (W120).
    fn write(&mut self, id: BlockId, volume: VolumeId, extent: Option<Extent>) -> Epoch {
        self.open.writes += 1;
        if let Some(extent) = extent {
            self.unanswered.insert(id.0, (volume, extent));
        }
        self.writes.insert(id.0, self.epoch.number);
        self.epoch
    }

    fn barrier(&mut self, number: u32) -> Result<(), String> {
        if self.open.writes == 0 {
            return Err(format!("barrier {number} for an epoch without writes (I20)"));
        }
        if self.last.is_some_and(|last| (number.wrapping_sub(last) as i32) <= 0) {
            return Err(format!("barrier {number} after barrier {:?} (I20)", self.last));
        }
        self.last = Some(number);
        self.barriers.push_back((number, Count { number: self.epoch.number, ..self.open }));
        self.open = Count::default();
        self.epoch.number += 1;
        Ok(())
    }

    /// The writes to these sectors that are not answered.
    fn unanswered_at(&self, volume: VolumeId, extent: Extent) -> Vec<[u8; 8]> {
        let there = self.unanswered.iter().filter(|(_, (of, own))| *of == volume && own.overlaps(extent));
        there.map(|(id, _)| *id).collect()
    }

    fn refused(&mut self, id: BlockId) {
        let Some(epoch) = self.writes.get(&id.0).copied() else { return };
        if epoch == self.epoch.number {
            self.open.refused += 1;
        }
        for (_, count) in self.barriers.iter_mut().filter(|(_, count)| count.number == epoch) {
            count.refused += 1;
        }
    }

    fn acked(&mut self, number: u32, writes: u32) -> Result<(), String> {
        // An epoch of which nothing counts is not acked (W135).
        while self
            .barriers
            .front()
            .is_some_and(|(oldest, count)| *oldest != number && count.writes == count.refused)
        {
            self.barriers.pop_front();
        }
        let Some((oldest, count)) = self.barriers.pop_front() else {
            return Err(format!("an ack of barrier {number}, which was not sent (I22)"));
        };
        if oldest != number || writes != count.writes - count.refused {
            return Err(format!(
                "an ack of barrier {number} with {writes} writes in place of {oldest} with {count:?} (I22)"
            ));
        }
        self.writes.retain(|_, epoch| *epoch > count.number);
        Ok(())
    }
}

/// The writes that this node receives.
#[derive(Debug, Default)]
struct Receiver {
    /// Epochs that are not acked, oldest first; the last one is open.
    epochs: VecDeque<Received>,
}

#[derive(Debug, Default)]
struct Received {
    barrier: Option<[u8; 4]>,
    writes: u32,
    refused: u32,
    /// Its writes, and whether an answer is owed: that one was received, or written.
    owed: BTreeMap<[u8; 8], Option<Verdict>>,
    /// The own writes for which some of it were refused, and which are not answered.
    rivals: Vec<[u8; 8]>,
}

impl Receiver {
    fn write(&mut self, id: BlockId, flags: DpFlags) {
        if self.epochs.back().is_none_or(|epoch| epoch.barrier.is_some()) {
            self.epochs.push_back(Received::default());
        }
        let Some(epoch) = self.epochs.back_mut() else { return };
        epoch.writes += 1;
        let owed = if flags.contains(DpFlags::SEND_WRITE_ACK) {
            Some(Verdict::Ended)
        } else {
            flags.contains(DpFlags::SEND_RECEIVE_ACK).then_some(Verdict::Received)
        };
        epoch.owed.insert(id.0, owed);
    }

    fn barrier(&mut self, number: [u8; 4]) {
        if let Some(epoch) = self.epochs.back_mut().filter(|epoch| epoch.barrier.is_none()) {
            epoch.barrier = Some(number);
        }
    }

    /// `rivals`: the own writes to these sectors that are not answered.
    fn ack(&mut self, ack: &BlockAck, verdict: Verdict, rivals: Vec<[u8; 8]>) -> Result<(), String> {
        let epoch = self.epochs.iter_mut().find(|epoch| epoch.owed.contains_key(&ack.block_id.0));
        let Some(epoch) = epoch else {
            return Err(format!(
                "sector {} is acked, and no write of an open epoch is meant (I22, I24)",
                ack.sector
            ));
        };
        if let Some(owed) = epoch.owed.get_mut(&ack.block_id.0)
            && (*owed == Some(verdict) || verdict != Verdict::Received)
        {
            *owed = None;
        }
        if verdict == Verdict::Refused {
            epoch.refused += 1;
            epoch.rivals.extend(rivals);
        }
        Ok(())
    }

    fn rival_is_answered(&mut self, id: BlockId) {
        self.epochs.iter_mut().for_each(|epoch| epoch.rivals.retain(|rival| *rival != id.0));
    }

    fn ack_barrier(&mut self, barrier: [u8; 4], count: u32) -> Result<(), String> {
        let number = u32::from_be_bytes(barrier);
        let counts = |epoch: &Received| epoch.writes > epoch.refused;
        while self.epochs.front().is_some_and(|epoch| epoch.barrier.is_some() && !counts(epoch)) {
            self.epochs.pop_front();
        }
        let Some(epoch) = self.epochs.pop_front().filter(|epoch| epoch.barrier == Some(barrier)) else {
            return Err(format!("barrier {number} is acked out of turn (I22)"));
        };
        if count != epoch.writes - epoch.refused {
            return Err(format!(
                "barrier {number} is acked with {count} writes of {}, {} refused (I22)",
                epoch.writes, epoch.refused
            ));
        }
        if epoch.owed.values().any(Option::is_some) {
            return Err(format!("barrier {number} is acked before its writes: {:?} (I22)", epoch.owed));
        }
        if !epoch.rivals.is_empty() {
            return Err(format!(
                "barrier {number} is acked before what one of its writes was refused for (T8)"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trim(id: u8) -> Packet {
        let (sector, block_id) = (Sector::new(8), BlockId([id; 8]));
        Packet::Trim { sector, block_id, seq: 1, flags: DpFlags::SEND_WRITE_ACK, size: 4096 }
    }

    fn ack(id: u8) -> BlockAck {
        BlockAck { sector: Sector::new(8), block_id: BlockId([id; 8]), size: 4096, seq: 1 }
    }

    const fn barrier_ack(number: u8, count: u32) -> Packet {
        Packet::BarrierAck { barrier: [0, 0, 0, number], count }
    }

    /// Plays what a node sends (true) and receives; whether the last was the only one that is wrong.
    fn fails_at_the_end(steps: &[(bool, Packet)]) -> bool {
        let mut tap = Tap::default();
        let verdicts: Vec<bool> = steps
            .iter()
            .map(|(sends, packet)| match sends {
                true => tap.sends(VolumeId(0), packet, 0).is_err(),
                false => tap.receives(packet).is_err(),
            })
            .collect();
        verdicts.iter().position(|wrong| *wrong) == Some(steps.len() - 1)
    }

    #[test]
    fn a_barrier_has_writes_and_a_greater_number_than_the_last() {
        let barrier = |number| (true, Packet::Barrier([0, 0, 0, number]));
        assert!(fails_at_the_end(&[barrier(1)]));
        assert!(fails_at_the_end(&[(true, trim(1)), barrier(1), barrier(2)]));
        assert!(fails_at_the_end(&[(true, trim(1)), barrier(1), (true, trim(2)), barrier(1)]));
        assert!(!fails_at_the_end(&[(true, trim(1)), barrier(1), (true, trim(2)), barrier(2)]));
    }

    #[test]
    fn a_barrier_ack_has_the_count_of_what_was_sent_without_what_was_refused() {
        let begin = [(true, trim(1)), (true, trim(2)), (true, Packet::Barrier([0, 0, 0, 1]))];
        let with = |more: &[(bool, Packet)]| fails_at_the_end(&[&begin, more].concat());
        assert!(!with(&[(false, barrier_ack(1, 2))]));
        assert!(with(&[(false, barrier_ack(1, 1))]));
        assert!(with(&[(false, barrier_ack(2, 2))]));
        assert!(!with(&[(false, Packet::Superseded(ack(2))), (false, barrier_ack(1, 1))]));
    }

    #[test]
    fn a_receiver_acks_each_write_before_its_barrier_and_nothing_else() {
        let begin = [(false, trim(1)), (false, trim(2)), (false, Packet::Barrier([0, 0, 0, 1]))];
        let with = |more: &[(bool, Packet)]| fails_at_the_end(&[&begin, more].concat());
        let both = [(true, Packet::WriteAck(ack(1))), (true, Packet::NegAck(ack(2)))];
        assert!(!with(&[&both[..], &[(true, barrier_ack(1, 2))]].concat()));
        assert!(with(&[&both[..], &[(true, barrier_ack(1, 1))]].concat()));
        assert!(with(&[(true, Packet::WriteAck(ack(1))), (true, barrier_ack(1, 2))]));
        assert!(with(&[(true, Packet::WriteAck(ack(3)))]));
        let late = [(true, barrier_ack(1, 2)), (true, Packet::WriteAck(ack(2)))];
        assert!(with(&[&both[..], &late].concat()), "after the barrier's ack");
    }

    #[test]
    fn an_epoch_is_not_acked_before_what_one_of_its_writes_was_refused_for() {
        let begin = [
            (true, trim(7)),
            (false, trim(1)),
            (false, trim(2)),
            (false, Packet::Barrier([0, 0, 0, 1])),
            (true, Packet::WriteAck(ack(1))),
            (true, Packet::RetryWrite(ack(2))),
        ];
        let with = |more: &[(bool, Packet)]| fails_at_the_end(&[&begin, more].concat());
        assert!(with(&[(true, barrier_ack(1, 1))]));
        assert!(!with(&[(false, Packet::WriteAck(ack(7))), (true, barrier_ack(1, 1))]));
    }
}
