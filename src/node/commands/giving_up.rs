//! Before a copy of the data is given up, by `detach`, `invalidate` or `invalidate-remote`, on either node: the
//! other one has to be durable.
//!
//! ```text
//!  the node that orders it: gate closed ─► drained, barrier acked, own disk flushed ─► asks
//!  the node that is asked:                 the same ─► changes its state, answers ─► gate open
//! ```
//! What a node has written itself it makes durable at the peer by a barrier, and all that is on its own disk
//! by a flush: so whichever of the two copies stays, nothing of it is in a cache only.

use super::super::Node;
use super::super::rules::StateResult;
use super::super::state::{Conn, Disk, StateChange};
use super::super::transfer_log::Req;
use super::super::volume::Volume;
use super::super::worker::Work;
use super::{Job, Stage};
use crate::units::VolumeId;
use crate::wire::packet::Packet;

/// A change by which a copy is given up, as the peer has asked for it, from the view of this node.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Asked {
    /// Tells it from an earlier one, whose work is still queued.
    number: u64,
    change: StateChange,
    /// All requests have ended, and the own disk is being flushed.
    flushing: bool,
}

/// Whether one of the two copies will not count any more.
pub(super) fn gives_up_a_copy(change: StateChange) -> bool {
    begins_full_sync(change) || change.pdsk == Some(Disk::Failed)
}

/// Whether one copy is overwritten by the other. That there is "nothing to do" is no consent to that: a node says so
/// whose own disk is just gone (Z3).
pub(super) fn begins_full_sync(change: StateChange) -> bool {
    matches!(change.conn, Some(Conn::StartingSyncS | Conn::StartingSyncT))
}

impl Node {
    /// New requests wait, those under way end (D165), and both copies become durable: one of them will be
    /// the only one, and must not be one that is lost with a node's power (T38). Whether that is over; a disk that
    /// could not be flushed is Failed then.
    pub(super) fn are_copies_durable(&mut self, volume: VolumeId, job: &mut Job) -> bool {
        if matches!(job.stage, Stage::Start) {
            self.close_gate(volume);
            job.stage = Stage::Draining;
        }
        if matches!(job.stage, Stage::Draining) && self.is_peer_copy_durable(volume) {
            self.flush_for(volume, job);
        }
        !matches!(job.stage, Stage::Draining | Stage::Flushing { done: false })
    }

    /// Whether no request is under way, and all that the peer has got from this node is durable there; sees to it.
    fn is_peer_copy_durable(&mut self, volume: VolumeId) -> bool {
        let Some(v) = self.volumes.get(&volume) else { return true };
        if v.live > 0 && !v.state.is_suspended() {
            return false; // What a suspension withholds does not end.
        }
        let sent = |req: &Req| req.kind.is_write() && req.net.used && !req.net.lost;
        let unconfirmed = |req: &Req| req.volume == volume && sent(req) && !req.net.done;
        if self.log.iter().any(|(_, req)| unconfirmed(req)) {
            self.close_epoch();
            self.barrier_if_due();
            return false;
        }
        true
    }

    /// The peer asks for this change, which gives a copy up: it is made and answered when both are durable.
    pub(super) fn prepare_asked(&mut self, volume: VolumeId, change: StateChange) {
        self.close_gate(volume);
        let number = self.link().next_asked;
        self.link_mut().next_asked += 1;
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.asked = Some(Asked { number, change, flushing: false });
        }
    }

    /// Goes on with what the peer has asked for.
    pub(in super::super) fn poll_asked(&mut self) {
        let drains = |v: &Volume| v.asked.is_some_and(|asked| !asked.flushing);
        if !self.volumes.values().any(drains) {
            return;
        }
        for volume in self.volume_ids() {
            if !self.volumes.get(&volume).is_some_and(drains) || !self.is_peer_copy_durable(volume) {
                continue;
            }
            let asked = self.volumes.get_mut(&volume).and_then(|v| v.asked.as_mut());
            if let Some(Asked { number, flushing, .. }) = asked {
                *flushing = true;
                let answer = Work::AnswerAsked { volume, number: *number };
                self.worker.push_urgent([Work::FlushData { volume }, answer]);
            }
        }
    }

    /// Work: both copies are durable, one may be given up.
    pub(in super::super) fn answer_asked(&mut self, volume: VolumeId, number: u64) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if let Some(Asked { change, .. }) = v.asked.take_if(|asked| asked.number == number) {
            self.answer_change_request(Some(volume), change);
            self.open_gate(volume);
        }
    }

    /// What the peer has asked for is about a state that is no more, or it asks for something else: no to the first.
    pub(in super::super) fn refuse_asked(&mut self, volume: VolumeId) {
        if self.forget_asked(volume) {
            self.send_meta(volume, Packet::StateChgReply(StateResult::InTransientState.code()));
        }
    }

    /// The connection is gone: nobody waits for an answer. Whether there was something.
    pub(in super::super) fn forget_asked(&mut self, volume: VolumeId) -> bool {
        let asked = self.volumes.get_mut(&volume).and_then(|v| v.asked.take());
        if asked.is_some() {
            self.open_gate(volume);
        }
        asked.is_some()
    }

    /// Whether this node has asked to become the target of a full sync, and the answer to that counts.
    pub(in super::super) fn asks_for_full_sync(&self, volume: VolumeId) -> bool {
        let front = self.jobs.queue.front().map(|job| &job.stage);
        let Some(Stage::Asking { request, .. }) = front else { return false };
        request.volume == volume
            && request.change.conn == Some(Conn::StartingSyncT)
            && self.link().replies.contains_key(&Some(volume))
    }
}
