//! What a node is in the middle of, for those who only look: the simulator counts what its faults meet.

use super::input::Ticket;
use super::link::Phase;
use super::peer_read::ReadKind;
use super::peer_write::{PeerKind, Stage};
use super::resync::Finish;
use super::tickets::{ActivityStep, Operation, PageFor, Purpose};
use super::transfer_log::ReqKey;
use super::volume::Volume;
use super::worker::Work;
use super::{Node, RequestId};
use crate::wire::packet::BlockId;

/// Defines the steps with their words, in the order of the table.
macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $words:literal,)+) => {
        /// Something that is begun and not ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Step { $($(#[$doc])* $step,)+ }

        impl Step {
            /// All of them, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$step,)+];

            /// What it is, in words.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Self::$step => $words,)+ }
            }
        }
    };
}

steps! {
    /// A client's read on the own disk.
    OwnRead = "read on the own disk",
    /// The activity log's transaction waits for bits to be written (D90).
    LogPages = "activity log: bitmap page",
    /// ... for the flush of bits and data (D90, T2).
    LogFlush = "activity log: flush before the block",
    /// ... for its block.
    LogBlock = "activity log: the block",
    /// A client's write on the own disk.
    OwnWrite = "write on the own disk",
    /// A mirrored write is answered, and the barrier of its epoch not sent (D23).
    AnsweredOpen = "answered, barrier not sent",
    /// A client's flush on the own disk.
    OwnFlush = "client's flush of the own disk",
    /// A flush that waits for a barrier ack (T3).
    FlushAwaitsPeer = "client's flush awaits barrier ack",
    /// A request that could be answered if I/O was not suspended (D33).
    Frozen = "request frozen",
    /// A write of this node and one of the peer's overlap, and one waits (section 9).
    Conflict = "write waits for the peer's",
    /// The peer's write on this disk.
    PeerWrite = "peer's write on this disk",
    /// The flush behind a barrier ack (D61).
    EpochFlush = "flush before barrier ack",
    /// A read for a client of the peer (D66).
    PeerRead = "read for the peer",
    /// A page of the bitmap that the worker writes.
    BitmapPage = "bitmap page",
    /// A flush that orders metadata (M81).
    MetaFlush = "flush of the metadata",
    /// A superblock, or the ring of the activity log made anew.
    MetaWrite = "superblock",
    /// A flush of the data outside of an epoch (T2, T10, T37).
    DataFlush = "flush of the data by the worker",
    /// A read of the attach procedure.
    AttachRead = "metadata being read",
    /// A new data generation is due and not durable (T17).
    Generation = "new generation not durable",
    /// Somebody waits for a handler.
    Handler = "handler awaited",
    /// What was under way on a lost connection is being settled (section 4.4 of datapath.md).
    Settling = "lost connection being settled",
    /// A resync source reads a block (D119).
    ResyncRead = "resync: read at the source",
    /// A resync target writes a block.
    ResyncWrite = "resync: write at the target",
    /// What a target wrote is being flushed before it is acknowledged (T1).
    ResyncFlush = "resync: flush at the target",
    /// A target has asked whether the source knows that nothing is left (W176).
    ResyncPinging = "resync: last bit cleared",
    /// The result of a resync is being made durable (I34).
    ResyncWriting = "resync: result not durable",
    /// A block read for a verify, on either side.
    VerifyRead = "verify: read",
}

impl Node {
    /// What is under way here; some steps more than once.
    pub fn each_step(&self, mut look: impl FnMut(Step)) {
        self.tickets.each(|operation| look(self.step_of(operation)));
        for (_, req) in self.log.iter() {
            let mirrored = req.kind.is_write() && req.net.used && !req.net.done;
            if req.completed && mirrored && !self.log.is_barrier_sent(req.epoch) {
                look(Step::AnsweredOpen);
            }
            let suspended = || self.volumes.get(&req.volume).is_some_and(|v| v.state.is_suspended());
            if !req.completed && req.legs_ended() && suspended() {
                look(Step::Frozen);
            }
        }
        self.volumes.values().for_each(|volume| volume.each_step(&mut look));
        let due = |work: &Work| matches!(work, Work::NewGeneration { .. } | Work::GenerationDurable { .. });
        if self.worker.iter().any(due) {
            look(Step::Generation);
        }
        if !self.handler_waits.is_empty() {
            look(Step::Handler);
        }
        let link = self.link();
        if matches!(link.phase, Phase::Closing(_)) {
            look(Step::Settling);
        }
        if self.has_refused_a_rival() || link.early_write.is_some() {
            look(Step::Conflict);
        }
    }

    /// Whether a write of the peer was refused for an own one, which the peer has not answered yet (D179).
    #[must_use]
    pub fn has_refused_a_rival(&self) -> bool {
        !self.link().withheld.is_empty()
    }

    /// Whether a write of the peer waits here for another one.
    #[must_use]
    pub fn has_waiting_peer_write(&self) -> bool {
        self.link().peer_ios.values().any(|io| io.stage == Stage::Waiting && io.epoch.is_some())
    }

    /// Whose write this is, by the name that the peer acks it by.
    #[must_use]
    pub fn request_of(&self, id: BlockId) -> Option<RequestId> {
        self.log.get(ReqKey::from_block_id(id)).map(|req| req.id)
    }

    /// What a disk operation under way is for.
    #[must_use]
    pub fn step_of_operation(&self, ticket: Ticket) -> Option<Step> {
        self.tickets.get(ticket).map(|operation| self.step_of(operation))
    }

    fn step_of(&self, operation: &Operation) -> Step {
        match operation.purpose {
            Purpose::Local { key } => match self.log.get(key) {
                Some(req) if !req.kind.is_write() => Step::OwnRead,
                Some(_) | None => Step::OwnWrite,
            },
            Purpose::ClientFlush { .. } => Step::OwnFlush,
            Purpose::Work { meta } => match (meta, operation.flush) {
                (true, false) => Step::MetaWrite,
                (true, true) => Step::MetaFlush,
                (false, _) => Step::DataFlush,
            },
            Purpose::Page { user: PageFor::Work, .. } => Step::BitmapPage,
            Purpose::Page { user: PageFor::ActivityLog, .. } => Step::LogPages,
            Purpose::PeerWrite { io } | Purpose::PeerPreflush { io } => {
                match self.link().peer_ios.get(&io).map(|io| io.kind) {
                    Some(PeerKind::Resync { .. } | PeerKind::ResyncZeroes { .. }) => Step::ResyncWrite,
                    Some(PeerKind::Write | PeerKind::Discard | PeerKind::Zeroes { .. }) | None => {
                        Step::PeerWrite
                    }
                }
            }
            Purpose::PeerRead { io } => match self.link().peer_reads.get(&io).map(|read| &read.kind) {
                Some(ReadKind::Resync { .. } | ReadKind::Checksum { .. }) => Step::ResyncRead,
                Some(ReadKind::Verify { .. }) => Step::VerifyRead,
                Some(ReadKind::Application) | None => Step::PeerRead,
            },
            Purpose::VerifyRead { .. } => Step::VerifyRead,
            Purpose::EpochFlush { .. } => Step::EpochFlush,
            Purpose::ResyncFlush { .. } => Step::ResyncFlush,
            Purpose::Activity { step: ActivityStep::Flush } => Step::LogFlush,
            Purpose::Activity { step: ActivityStep::Block } => Step::LogBlock,
            Purpose::Attach { .. } => Step::AttachRead,
        }
    }
}

impl Volume {
    fn each_step(&self, look: &mut impl FnMut(Step)) {
        match self.resync.as_ref().map(|resync| resync.finish) {
            Some(Finish::Pinging { .. }) => look(Step::ResyncPinging),
            Some(Finish::Writing { .. }) => look(Step::ResyncWriting),
            Some(Finish::No) | None => {}
        }
        if self.flushes.iter().any(|flush| flush.local.is_some() && flush.epoch.is_some()) {
            look(Step::FlushAwaitsPeer);
        }
        if !self.behind_peer.is_empty() {
            look(Step::Conflict);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::ResourceOptions;
    use crate::node::effect::{Device, DiskOp, Effect};
    use crate::units::{Moment, VolumeId};

    #[test]
    fn an_operation_is_a_step_until_it_has_ended() {
        let mut node =
            Node::new("r0", ResourceOptions::default(), Moment::default(), Box::new(|bytes| bytes.fill(1)));
        let steps = |node: &Node| {
            let mut steps = Vec::new();
            node.each_step(|step| steps.push(step));
            steps
        };
        assert_eq!(steps(&node), []);
        node.start_disk(
            VolumeId(0),
            Device::Meta,
            DiskOp::Flush,
            Purpose::Activity { step: ActivityStep::Flush },
        );
        let Some(Effect::Disk { ticket: flush, .. }) = node.poll_effect() else { panic!("no operation") };
        node.start_work(VolumeId(0), Device::Meta, DiskOp::Flush);
        let Some(Effect::Disk { ticket: work, .. }) = node.poll_effect() else { panic!("no operation") };
        assert_eq!(steps(&node), [Step::LogFlush, Step::MetaFlush]);
        assert_eq!(node.step_of_operation(flush), Some(Step::LogFlush));
        node.on_disk_done(work, Ok(None));
        assert_eq!(node.step_of_operation(work), None);
        assert_eq!(steps(&node), [Step::LogFlush]);
    }

    #[test]
    fn the_words_of_the_steps_differ() {
        let words: std::collections::BTreeSet<&str> = Step::ALL.iter().map(|step| step.words()).collect();
        assert_eq!(words.len(), Step::ALL.len());
    }
}
