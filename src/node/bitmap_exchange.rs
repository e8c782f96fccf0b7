//! The exchange of bitmaps before a resync (S67, wire.md section 5): the source sends first, the
//! target merges and sends the result back.

use super::Node;
use super::state::{Conn, Disk, StateChange};
use super::transfer_log::{Req, ReqKey};
use super::volume::Volume;
use super::worker::Work;
use crate::config::options::Protocol;
use crate::units::{BitIndex, VolumeId, bits_of};
use crate::wire::bitmap_code::{BitmapReceiver, BitmapSender, SetBits};
use crate::wire::packet::Packet;

/// Packets of a bitmap, of at most 4 KiB each, that are queued before the network has to take them: what
/// a huge device costs in memory.
const PIECE_PACKETS: usize = 64;

impl Node {
    /// A volume entered the exchange: ready to receive.
    pub(super) fn prepare_bitmap_exchange(&mut self, volume: VolumeId, conn: Conn) {
        let apv = self.link().apv;
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if matches!(conn, Conn::WFBitMapS | Conn::WFBitMapT) && v.bitmap_in.is_none() {
            v.bitmap_in = Some(BitmapReceiver::new(bits_of(v.end), apv));
            self.mark_what_the_peer_may_lack(volume);
        }
    }

    /// P_BITMAP or P_COMPRESSED_BITMAP: bits are or-ed in (W104).
    pub(super) fn on_bitmap(&mut self, volume: VolumeId, packet: &Packet) {
        let apv = self.link().apv;
        let Some(v) = self.volumes.get_mut(&volume) else { return self.unknown_volume("a bitmap", volume) };
        let conn = v.state.conn;
        if v.state.disk <= Disk::Negotiating || v.state.pdsk <= Disk::Failed {
            return; // It was on its way when a disk went, and the run with it.
        }
        // A disk that was detached and attached faster than a packet travels is answered twice: both answers count.
        if conn == Conn::WFSyncUUID && v.bitmap_in.is_none() {
            v.bitmap_in = Some(BitmapReceiver::new(bits_of(v.end), apv));
        }
        let (Some(receiver), Some(disk)) = (v.bitmap_in.as_mut(), v.disk.as_deref_mut()) else {
            return self.protocol_error(&format!("unexpected cstate ({conn}) in receive_bitmap"));
        };
        let bitmap = &mut disk.bitmap;
        let result = receiver.receive(packet, |bits| match bits {
            SetBits::Run { first, count } => {
                bitmap.set(BitIndex::new(first), BitIndex::new(first + count - 1));
            }
            SetBits::Word { index, word } => {
                bitmap.or_words(index, &[word]);
            }
        });
        match result {
            Ok(true) => {
                v.bitmap_in = None;
                self.bitmap_received(volume, conn);
            }
            Ok(false) => {}
            Err(error) => self.protocol_error(&error.to_string()),
        }
    }

    fn bitmap_received(&mut self, volume: VolumeId, conn: Conn) {
        let exchange = self.volumes.get(&volume).map_or(0, |v| v.exchange);
        match conn {
            Conn::WFBitMapT => {
                self.worker.push(Work::SendBitmap { volume, exchange, gate_closed: false });
                self.worker.push(Work::WaitSyncUuid { volume, exchange });
            }
            Conn::WFBitMapS => {
                // Behind the sending of our own, which may still wait for requests under way.
                self.worker.push(Work::StartResync { volume, exchange, side: Conn::SyncSource });
            }
            Conn::WFSyncUUID => {}
            other => self.protocol_error(&format!("unexpected cstate ({other}) in receive_bitmap")),
        }
    }

    /// Work: sends the whole bitmap, piece by piece, each once the network took the one before. No
    /// request is admitted meanwhile, and none is under way: every later write is in it, or announced
    /// after it (T41, D154). Returns the piece again while there is something to wait for.
    pub(super) fn send_bitmap(&mut self, volume: VolumeId, exchange: u64, gate_closed: bool) -> Option<Work> {
        let waits = self.link().bitmap_unsent || self.may_be_refused_late(volume);
        let v = self.volumes.get_mut(&volume)?;
        let void = v.exchange != exchange || (!gate_closed && v.bitmap_sent_for == exchange);
        if void || !matches!(v.state.conn, Conn::WFBitMapS | Conn::WFBitMapT) || v.disk.is_none() {
            if gate_closed {
                self.open_gate(volume);
            }
            return None;
        }
        v.bitmap_sent_for = exchange;
        // A flush changes nothing, and may wait for barriers of another volume's writes, which go behind this.
        let waits = waits || v.has_io_under_way();
        if !gate_closed {
            self.close_gate(volume);
        }
        if waits {
            return Some(Work::SendBitmap { volume, exchange, gate_closed: true });
        }
        if self.send_bitmap_piece(volume) {
            if let Some(v) = self.volumes.get_mut(&volume) {
                v.bitmap_out = None;
            }
            self.open_gate(volume);
            return None;
        }
        self.link_mut().bitmap_unsent = true;
        Some(Work::SendBitmap { volume, exchange, gate_closed: true })
    }

    /// Whether the peer may still refuse a write that its client takes for done, in protocol A or B: its bit would be
    /// set behind the bitmap, and the target would never ask for the block (T29). The barrier is sent.
    fn may_be_refused_late(&self, volume: VolumeId) -> bool {
        let open = |req: &Req| req.kind.is_write() && req.net.used && !req.net.done && !req.net.lost;
        self.link().config.as_ref().is_some_and(|config| config.options.protocol != Protocol::C)
            && self.log.iter().any(|(_, req)| req.volume == volume && open(req))
    }

    /// Sends the next packets of the bitmap. Whether they were the last.
    fn send_bitmap_piece(&mut self, volume: VolumeId) -> bool {
        let link = self.link();
        let (apv, use_rle) = (link.apv, link.config.as_ref().is_some_and(|c| c.options.use_rle));
        for _ in 0..PIECE_PACKETS {
            let Some(v) = self.volumes.get_mut(&volume) else { return true };
            let Some(disk) = &v.disk else { return true };
            let sender = v.bitmap_out.get_or_insert_with(|| BitmapSender::new(bits_of(v.end), apv, use_rle));
            let next = sender.next_packet(|index, words| {
                disk.bitmap.read_words(index, words);
            });
            let Some(packet) = next else { return true };
            self.send_now(volume, packet);
        }
        false
    }

    /// Work: the merged bitmap is sent: wait for the sync UUID (S67).
    pub(super) fn wait_sync_uuid(&mut self, volume: VolumeId, exchange: u64) {
        let waits = |v: &Volume| v.exchange == exchange && v.state.conn == Conn::WFBitMapT;
        if self.volumes.get(&volume).is_some_and(waits) {
            // Hard: another volume may still be at its handshake, which holds all others up (T7).
            self.force(volume, StateChange::conn(Conn::WFSyncUUID));
            self.try_sync_uuid(volume);
        }
    }

    /// The network took all that was queued: protocol A writes among it are sent (D30).
    pub(super) fn on_send_queue_empty(&mut self, socket: super::SocketId) {
        if self.link().data != Some(socket) {
            return;
        }
        self.link_mut().bitmap_unsent = false;
        for key in std::mem::take(&mut self.link_mut().unsent) {
            self.network_has(key);
        }
    }

    /// The barrier ack of an epoch tells that the network had its writes: that its queue is empty is told late, or
    /// never on a busy socket (D30, D75).
    pub(super) fn network_has_up_to(&mut self, epoch: u32) {
        for key in std::mem::take(&mut self.link_mut().unsent) {
            let Some(req) = self.log.get(key) else { continue };
            if (req.epoch.wrapping_sub(epoch) as i32) > 0 {
                self.link_mut().unsent.push(key);
            } else {
                self.network_has(key);
            }
        }
    }

    /// The network has taken a write of protocol A: that is as good as received (D30).
    fn network_has(&mut self, key: ReqKey) {
        // A negative ack, or an explicit one during a resync, may have come first.
        let Some(req) = self.log.get_mut(key).filter(|req| req.net.pending) else { return };
        req.net.pending = false;
        req.net.ok = true;
        let volume = req.volume;
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.pe = v.counters.pe.saturating_sub(1);
        }
        self.check_request(key);
    }
}
