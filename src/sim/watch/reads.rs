//! What disks are read for: a node serves the other one only from a disk that is UpToDate (D47), and marks what it could
//! not read for a client of its own, for a resync to rewrite it (D46).

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Node;
use crate::node::effect::{Device, DiskOp, Effect};
use crate::node::input::{Input, Ticket};
use crate::node::steps::Step;
use crate::units::{BitIndex, Extent, SECTOR_BYTES, Sector, VolumeId};
use crate::wire::packet::Packet;

/// The reads that are not answered.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Requests of the other node that met a disk which is not UpToDate.
    to_refuse: BTreeSet<[u8; 8]>,
    /// Reads of the data under way.
    under_way: BTreeMap<Ticket, (VolumeId, Extent)>,
    /// What a client's read just failed to get.
    failed: Option<(VolumeId, Extent)>,
}

impl Reads {
    /// The node is about to hear of this.
    pub(super) fn hears(&mut self, node: &Node, input: &Input) {
        if let Input::DiskDone { ticket, result } = input {
            let read = self.under_way.remove(ticket);
            let of_client = || node.step_of_operation(*ticket) == Some(Step::OwnRead);
            // A disk that is given up takes no marks any more.
            let failed =
                |volume: VolumeId| result.is_err() && of_client() && disk_of(node, volume) != "Failed";
            self.failed = read.filter(|(volume, _)| failed(*volume));
        } else if let Input::Packet { volume, packet, .. } = input {
            match packet {
                Packet::Protocol(_) => self.to_refuse.clear(), // A new connection.
                Packet::DataRequest(request) if disk_of(node, *volume) != "UpToDate" => {
                    self.to_refuse.insert(request.block_id.0);
                }
                _ => {}
            }
        }
    }

    /// It has heard of that.
    ///
    /// # Errors
    /// If it has a disk and does not mark there what it could not read.
    pub(super) fn heard(&mut self, node: &Node) -> Result<(), String> {
        let Some((volume, extent)) = self.failed.take() else { return Ok(()) };
        let (first, last) = extent.touched_bits();
        let is_unmarked = |bit: &u64| node.out_of_sync(volume, BitIndex::new(*bit)) == Some(false);
        match (first.get()..=last.get()).find(is_unmarked) {
            Some(bit) => Err(format!("block {bit} could not be read, and is not marked (D46)")),
            None => Ok(()),
        }
    }

    /// The node wants this.
    ///
    /// # Errors
    /// If it sends data of a disk that may lack some.
    pub(super) fn wants(&mut self, effect: &Effect) -> Result<(), String> {
        if let Effect::Disk { ticket, volume, device: Device::Data, op: DiskOp::Read { offset, len } } =
            effect
        {
            let extent = Extent::of_bytes(Sector::new(offset / SECTOR_BYTES), *len as u64);
            self.under_way.extend(extent.map(|extent| (*ticket, (*volume, extent))));
        } else if let Effect::Send { packet, .. } = effect {
            return self.sends(packet);
        }
        Ok(())
    }

    fn sends(&mut self, packet: &Packet) -> Result<(), String> {
        if let Packet::NegDreply(ack) = packet {
            self.to_refuse.remove(&ack.block_id.0);
        } else if let Packet::DataReply { sector, block_id, .. } = packet
            && self.to_refuse.contains(&block_id.0)
        {
            return Err(format!("sector {sector} is served, and the disk was not UpToDate when asked (D47)"));
        }
        Ok(())
    }
}

/// The state of the volume's disk; nothing if there is no such volume.
fn disk_of(node: &Node, volume: VolumeId) -> String {
    let status = node.status();
    status.volumes.into_iter().find(|v| v.volume == volume.0).map(|v| v.disk).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::ResourceOptions;
    use crate::node::input::SocketId;
    use crate::units::Moment;
    use crate::wire::packet::{BlockAck, BlockId, BlockRequest};

    /// A node without any disk.
    fn node() -> Node {
        Node::new("r0", ResourceOptions::default(), Moment::default(), Box::new(|bytes| bytes.fill(1)))
    }

    fn sends(packet: Packet) -> Effect {
        Effect::Send { socket: SocketId(1), volume: VolumeId(0), packet, payload: None }
    }

    #[test]
    fn what_meets_no_good_disk_is_refused_and_not_served() {
        let (mut reads, node) = (Reads::default(), node());
        let (sector, block_id) = (Sector::new(8), BlockId([7; 8]));
        let reply = || sends(Packet::DataReply { sector, block_id, digest: Vec::new() });
        assert_eq!(reads.wants(&reply()), Ok(()), "nobody asked while there was none");
        let packet = Packet::DataRequest(BlockRequest { sector, block_id, size: 4096 });
        reads
            .hears(&node, &Input::Packet { socket: SocketId(1), volume: VolumeId(0), packet, payload: None });
        assert!(reads.wants(&reply()).is_err());
        let ack = BlockAck { sector, block_id, size: 4096, seq: 0 };
        assert_eq!(reads.wants(&sends(Packet::NegDreply(ack))), Ok(()));
        assert_eq!(reads.wants(&reply()), Ok(()), "the next one of that name");
    }
}
