//! Reads that the peer asks for: a diskless or balancing Primary's, and a resync target's
//! (D66, D119, D120).

use std::collections::BTreeMap;

use super::Node;
use super::effect::{Device, DiskOp};
use super::input::DiskFault;
use super::state::Disk;
use super::tickets::Purpose;
use crate::buffer::Buf;
use crate::units::{Extent, VolumeId};
use crate::wire::packet::{BlockId, BlockRequest, Packet};

/// Reads of the peer under way at once, at most: a peer that asks without bound is cut off.
const MAX_PEER_READS: usize = 1 << 16;

/// What a read for the peer is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadKind {
    /// An application of the peer's.
    Application,
    /// A resync exchange.
    Resync { exchange: u64 },
    /// A resync exchange where only a difference is sent.
    Checksum { exchange: u64, digest: Vec<u8> },
    /// A block of a verify: only its digest is sent.
    Verify { block: u64 },
}

/// A read for the peer.
#[derive(Debug)]
pub(super) struct PeerRead {
    pub(super) volume: VolumeId,
    pub(super) extent: Extent,
    pub(super) block_id: BlockId,
    pub(super) kind: ReadKind,
}

/// The reads for the peer under way.
pub(super) type PeerReads = BTreeMap<u64, PeerRead>;

impl Node {
    /// Checks the range of a request of the peer's (W84). `None`: the connection was dropped.
    pub(super) fn requested_extent(&mut self, volume: VolumeId, request: BlockRequest) -> Option<Extent> {
        let Some(v) = self.volumes.get(&volume) else {
            self.unknown_volume("a read request", volume);
            return None;
        };
        let extent = Extent::of_bytes(request.sector, u64::from(request.size)).filter(|e| e.end() <= v.end);
        if extent.is_none() {
            let BlockRequest { sector, size, .. } = request;
            self.protocol_error(&format!(
                "a request for {size} bytes at sector {sector} is outside the device"
            ));
        }
        extent
    }

    /// P_DATA_REQUEST (D66, W154).
    pub(super) fn on_data_request(&mut self, volume: VolumeId, request: BlockRequest) {
        let Some(extent) = self.requested_extent(volume, request) else { return };
        let block_id = request.block_id;
        self.serve_read(PeerRead { volume, extent, block_id, kind: ReadKind::Application });
    }

    /// Reads for an application of the peer's, once no write of the peer is under way there: in protocols A
    /// and B it may have been answered, and is what the application expects to read (I25).
    fn serve_read(&mut self, read: PeerRead) {
        let serves = self.volumes.get(&read.volume).is_some_and(|v| v.state.disk == Disk::UpToDate);
        if !serves {
            return self.ack(read.volume, read.extent, read.block_id, Packet::NegDreply);
        }
        if !self.waits_for_peer(read.volume, read.extent) {
            return self.read_for_peer(read);
        }
        if self.link().waiting_reads.len() >= MAX_PEER_READS {
            return self.protocol_error("the peer asks for too many blocks at once");
        }
        self.link_mut().waiting_reads.push(read);
    }

    /// A write of the peer is done: reads that waited for it may start.
    pub(super) fn start_waiting_reads(&mut self) {
        for read in std::mem::take(&mut self.link_mut().waiting_reads) {
            self.serve_read(read);
        }
    }

    /// Starts a read for the peer.
    pub(super) fn read_for_peer(&mut self, read: PeerRead) {
        if self.link().peer_reads.len() >= MAX_PEER_READS {
            return self.protocol_error("the peer asks for too many blocks at once");
        }
        let (volume, extent) = (read.volume, read.extent);
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.dr += extent.bytes() / 1024;
            v.counters.ua += 1;
            v.counters.lo += 1;
        }
        let link = self.link_mut();
        link.next_io += 1;
        let io = link.next_io;
        link.peer_reads.insert(io, read);
        let op = DiskOp::Read { offset: extent.start().byte_offset(), len: extent.bytes() as usize };
        self.start_disk(volume, Device::Data, op, Purpose::PeerRead { io });
    }

    /// A read for the peer ended: send it, or say that it failed.
    pub(super) fn peer_read_done(&mut self, io: u64, result: Result<Option<Buf>, DiskFault>) {
        let Some(read) = self.link_mut().peer_reads.remove(&io) else { return };
        let PeerRead { volume, extent, block_id, kind } = read;
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.ua = v.counters.ua.saturating_sub(1);
            v.counters.lo = v.counters.lo.saturating_sub(1);
        }
        let data = match result {
            Ok(Some(data)) => Some(data),
            Ok(None) => None,
            Err(fault) => {
                self.read_fault(volume, &fault, "a read for the peer");
                None
            }
        };
        if !self.link().is_up() {
            return;
        }
        match (kind, data) {
            (ReadKind::Application, Some(data)) => {
                let digest = self.link().digest_of(data.bytes());
                let packet = Packet::DataReply { sector: extent.start(), block_id, digest };
                self.count_sent(volume, extent);
                self.send_data(volume, packet, Some(data));
            }
            (ReadKind::Application, None) => self.ack(volume, extent, block_id, Packet::NegDreply),
            (ReadKind::Resync { exchange }, data) => {
                self.serve_resync(volume, extent, block_id, exchange, data)
            }
            (ReadKind::Verify { block }, data) => self.answer_verify(volume, extent, block, data.as_ref()),
            (ReadKind::Checksum { exchange, digest }, data) => {
                self.serve_checksum(volume, extent, block_id, exchange, &digest, data);
            }
        }
    }

    /// Counts block data sent to the peer.
    pub(super) fn count_sent(&mut self, volume: VolumeId, extent: Extent) {
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.ns += extent.bytes() / 1024;
        }
    }
}
