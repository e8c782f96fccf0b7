//! Before the own copy of the data is given up, by `detach` or `invalidate`: the other one has to be durable.

use super::super::Node;
use super::super::transfer_log::Req;
use super::{Job, Stage};
use crate::units::VolumeId;

impl Node {
    /// New requests wait, those under way end (D165), and the peer acks the barrier of what it has: its copy
    /// will be the only one, and must not be one that it loses with its power (T38). Whether all that is so.
    pub(super) fn is_peer_copy_durable(&mut self, volume: VolumeId, job: &mut Job) -> bool {
        if matches!(job.stage, Stage::Start) {
            self.close_gate(volume);
            job.stage = Stage::Draining;
        }
        let Some(v) = self.volumes.get(&volume) else { return true };
        if !matches!(job.stage, Stage::Draining) || v.state.is_suspended() {
            return true; // What is withheld by a suspension does not end: what the disk does is waited for.
        }
        if v.live > 0 {
            return false;
        }
        let unconfirmed =
            |req: &Req| req.volume == volume && req.kind.is_write() && req.net.used && !req.net.done;
        if self.log.iter().any(|(_, req)| unconfirmed(req)) {
            self.close_epoch();
            self.barrier_if_due();
            return false;
        }
        true
    }
}
