//! What the peer answers: acks, negative acks, data, barrier acks (D73, D75, W124-W129).

use super::Node;
use super::effect::LogLevel;
use super::state::Disk;
use super::transfer_log::{Kind, ReqKey};
use crate::buffer::Buf;
use crate::units::{Extent, Sector, VolumeId};
use crate::wire::packet::{BlockAck, BlockId};

/// What an ack says of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The peer has the payload in memory (P_RECV_ACK).
    Received,
    /// The peer's disk has it (P_WRITE_ACK).
    Written,
    /// The same, and the peer marked it in sync (P_RS_WRITE_ACK).
    InSync,
    /// The peer could not write it (P_NEG_ACK).
    Failed,
}

impl Node {
    /// An ack of a write, or of a resync block (all ones, W89).
    pub(super) fn on_block_ack(&mut self, volume: VolumeId, ack: BlockAck, answer: Answer) {
        if ack.block_id == BlockId::RESYNC {
            return self.on_resync_ack(volume, ack, answer == Answer::InSync || answer == Answer::Written);
        }
        let key = ReqKey::from_block_id(ack.block_id);
        let known = self.log.get(key).filter(|req| {
            req.volume == volume && req.extent.start() == ack.sector && req.kind.is_write() && req.net.used
        });
        let Some(known) = known else {
            return self.on_unknown_ack(volume, ack, answer);
        };
        let was_pending = known.net.pending;
        let Some(req) = self.log.get_mut(key) else { return };
        req.net.pending = false;
        match answer {
            Answer::Received | Answer::Written => req.net.ok = true,
            Answer::InSync => {
                req.net.ok = true;
                self.log.set_in_sync(key);
            }
            Answer::Failed => req.net.ok = false,
        }
        if was_pending && let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.pe = v.counters.pe.saturating_sub(1);
        }
        if answer == Answer::Failed {
            self.peer_write_refused(key);
        }
        self.release_withheld(key);
        self.check_request(key);
    }

    /// An ack that fits no request: a late negative one marks its range, all others are an error
    /// (D73, I24).
    fn on_unknown_ack(&mut self, volume: VolumeId, ack: BlockAck, answer: Answer) {
        let extent = Extent::of_bytes(ack.sector, u64::from(ack.size));
        match (answer, extent, self.volumes.get(&volume)) {
            (Answer::Failed, Some(extent), Some(v)) if extent.end() <= v.end => {
                self.mark_out_of_sync(volume, extent);
            }
            _ => {
                let text = format!("an ack for sector {} that belongs to no request", ack.sector);
                self.protocol_error(&text);
            }
        }
    }

    /// P_DATA_REPLY: the data of a remote read (D43).
    pub(super) fn on_data_reply(
        &mut self,
        volume: VolumeId,
        sector: Sector,
        id: BlockId,
        digest: &[u8],
        data: Option<Buf>,
    ) {
        let key = ReqKey::from_block_id(id);
        let length = data.as_ref().map_or(0, |d| d.len() as u64);
        let fits = self.log.get(key).is_some_and(|req| {
            req.volume == volume
                && req.kind == Kind::Read
                && req.net.pending
                && req.extent.start() == sector
                && req.extent.bytes() == length
        });
        if !fits {
            return self.protocol_error(&format!("data for sector {sector} that nobody asked for"));
        }
        if !self.digest_fits(data.as_ref(), digest) {
            return;
        }
        let Some(req) = self.log.get_mut(key) else { return };
        req.data = data;
        self.remote_read_ended(volume, key, true);
    }

    /// P_NEG_DREPLY: the peer cannot serve the read (T7, W155).
    pub(super) fn on_neg_data_reply(&mut self, volume: VolumeId, ack: BlockAck) {
        let key = ReqKey::from_block_id(ack.block_id);
        let fits = self.log.get(key).is_some_and(|req| {
            req.volume == volume
                && req.kind == Kind::Read
                && req.net.pending
                && req.extent.start() == ack.sector
        });
        if !fits {
            return self
                .protocol_error(&format!("a refusal to read sector {} that nobody asked for", ack.sector));
        }
        self.remote_read_ended(volume, key, false);
    }

    fn remote_read_ended(&mut self, volume: VolumeId, key: ReqKey, ok: bool) {
        let Some(req) = self.log.get_mut(key) else { return };
        req.net.pending = false;
        req.net.ok = ok;
        req.net.done = true;
        let bytes = req.extent.bytes();
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.pe = v.counters.pe.saturating_sub(1);
            v.counters.nr += bytes / 1024;
        }
        if !ok && let Some(v) = self.volumes.get(&volume) {
            // Only with a local disk is there another way; without one the peer's word is final.
            let no_other = v.state.disk != Disk::UpToDate;
            if no_other {
                return self.fail_read(volume, key);
            }
        }
        self.check_request(key);
    }

    /// A read that neither copy can serve.
    fn fail_read(&mut self, volume: VolumeId, key: ReqKey) {
        let Some(req) = self.log.remove(key) else { return };
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.live -= 1;
        }
        self.retry_parked = true;
        self.reply(req.id, Err(super::ReplyError::Io));
    }

    /// Compares received data with the digest that came with it (W92, W94). On a mismatch the
    /// connection is dropped.
    pub(super) fn digest_fits(&mut self, data: Option<&Buf>, digest: &[u8]) -> bool {
        let Some(alg) = self.link().peer_digest else { return true };
        let fits = data.is_none_or(|data| alg.matches(data.bytes(), digest));
        if !fits {
            self.protocol_error("block data does not match its digest: it was changed on the way");
        }
        fits
    }

    /// P_BARRIER_ACK: the oldest epoch is on the peer's disk (D75).
    pub(super) fn on_barrier_ack(&mut self, barrier: [u8; 4], count: u32) {
        let number = u32::from_be_bytes(barrier);
        if let Err(why) = self.log.acked(number, count) {
            return self.protocol_error(&why);
        }
        self.shadow_barrier_acked(number);
        self.network_has_up_to(number);
        for key in self.log.writes_up_to(number) {
            let Some(req) = self.log.get_mut(key) else { continue };
            if req.net.used {
                if req.net.pending {
                    let text = format!("barrier ack for a write of sector {} not acked", req.extent.start());
                    self.say(LogLevel::Warn, None, text);
                    continue;
                }
                req.net.done = true;
                self.check_request(key);
            }
        }
        for volume in self.volume_ids() {
            self.check_flushes(volume);
        }
    }
}
