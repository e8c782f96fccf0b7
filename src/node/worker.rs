//! The worker: after-state-change work, metadata writes and ordered packets, strictly one after
//! the other (S8, D2).
//!
//! A piece of work may start disk operations, or a handler; the next one begins when all of them have ended.
//! A piece that has several steps puts them at the front of the queue, so that nothing comes
//! between. Packets for the data socket go through here while anything is queued, so that what a
//! state change causes is on the wire before the data admitted after it.

use std::collections::VecDeque;

use super::Node;
use super::command::CommandId;
use super::effect::{Device, DiskOp, Effect};
use super::input::SocketId;
use super::state::{Conn, Disk, State};
use super::transfer_log::ReqKey;
use crate::buffer::Buf;
use crate::units::{Sector, VolumeId};
use crate::wire::packet::Packet;

/// A piece of work.
#[derive(Debug)]
pub(super) enum Work {
    /// What a state change of a volume sets off (S24).
    AfterState { volume: VolumeId, old: State, new: State },
    /// What a change of the connection state sets off (S26).
    AfterConnection,
    /// Write the superblock, if it changed, behind all that was written before (M81).
    SyncMeta { volume: VolumeId },
    /// A block of metadata, within `SyncMeta`.
    MetaBlock { volume: VolumeId, offset: u64, block: Buf, fua: bool },
    /// Write the changed pages of the bitmap, or all.
    WriteBitmap { volume: VolumeId, all: bool },
    /// The bits are written, those of this size, within `SyncMeta`.
    BitsWritten { volume: VolumeId, end: Sector },
    /// Flush the data device, if it was written to.
    FlushData { volume: VolumeId },
    /// Flush the metadata device.
    FlushMeta { volume: VolumeId },
    /// Start a write of the peer that waited for its bits.
    StartPeerIo { io: u64 },
    /// The disk is durably Inconsistent: a write of the peer that it refused may be answered (T21).
    PeerWriteFailed { io: u64 },
    /// The same of an own write.
    LocalWriteFailed { key: ReqKey },
    /// Set all bits durably, as a full sync wants it (S61, M91).
    SetAllBits { volume: VolumeId },
    /// The bits themselves, within `SetAllBits`.
    SetBitsInCore { volume: VolumeId },
    /// Take FULL_SYNC off the superblock, within `SetAllBits`.
    ClearFullSync { volume: VolumeId },
    /// Make a new current UUID, durably, and tell the peer (S54, A9).
    NewGeneration { volume: VolumeId },
    /// The new generation is durable: unmirrored writes may be answered (T17).
    GenerationDurable { volume: VolumeId },
    /// Own UUIDs to the peer.
    SendUuids { volume: VolumeId, flags: u64 },
    /// Own state, as it is then, to the peer.
    SendState { volume: VolumeId },
    /// Own state as it was at the change that asked for it.
    SendStateOf { volume: VolumeId, state: State },
    /// Own sizes to the peer, with these dds flags.
    SendSizes { volume: VolumeId, flags: u16 },
    /// A new sync UUID as source, durable, then told (A6).
    SyncUuid { volume: VolumeId },
    /// Tell the target the sync UUID, within `SyncUuid`.
    SendSyncUuid { volume: VolumeId, uuid: u64 },
    /// Drop the connection and come back.
    Reset { why: &'static str },
    /// All bits are set for a full sync by command: go on with it (A18).
    FullSyncReady { volume: VolumeId },
    /// A packet to the peer, in order with the rest.
    Send { socket: SocketId, volume: VolumeId, packet: Box<Packet>, payload: Option<Buf> },
    /// The write of protocol A before this is queued on its socket (D30).
    AwaitNetwork { socket: SocketId, key: ReqKey },
    /// Send the bitmap, if the volume still waits for that in this exchange.
    SendBitmap { volume: VolumeId, exchange: u64, gate_closed: bool },
    /// The bitmap is sent: merge is over, wait for the sync UUID (S67).
    WaitSyncUuid { volume: VolumeId, exchange: u64 },
    /// Take over the sync UUID and begin as target (S57).
    TakeSyncUuid { volume: VolumeId, uuid: u64 },
    /// Prepare to begin the resync: the handler first (S58).
    StartResync { volume: VolumeId, exchange: u64, side: Conn },
    /// Begin the resync, if the handler just run has nothing against it (S58).
    BeginResync { volume: VolumeId, exchange: u64, side: Conn },
    /// Call a handler that something else waits for.
    CallHandler { call: u64, name: &'static str, volume: Option<VolumeId> },
    /// Run a handler and wait for it.
    RunHandler { name: &'static str, volume: VolumeId },
    /// The peer is fenced, and the generation that says so durable (S26.3).
    ThawFenced,
    /// The metadata of a beginning run is durable: requests may go out (I34).
    ResyncReady { volume: VolumeId },
    /// The data of a finished run is durable: say so (T1).
    ResyncDurable { volume: VolumeId },
    /// Continue with a peer state whose handshake had to write first (S66.13).
    ResumeHandshake { volume: VolumeId, word: u32, conn: Conn },
    /// The generation that was due is durable: continue with a peer state whose handshake waited for it (A9).
    ReceiveState { socket: SocketId, volume: VolumeId, word: u32, aborted: Option<Disk> },
    /// Let the data socket's input go on.
    Unhold { socket: SocketId },
    /// Send the own parameters to the peer that was just authenticated (S29).
    Introduce,
    /// Complete what the lost connection left open (section 4.4 of datapath.md).
    Sweep,
    /// The connection is torn down: look for the peer again, or not (S28.6).
    Reconnect,
    /// The disk failed: close it and say so (A19, A20).
    DropDisk { volume: VolumeId },
    /// The last step of a detach.
    CloseDisk { volume: VolumeId },
    /// The peer has declared both fresh disks equal (S31).
    TakeCurrentUuid { volume: VolumeId, current: u64 },
    /// Both fresh disks are declared equal (S48).
    SkipInitialSync { volume: VolumeId },
    /// What the gate was closed for is done.
    OpenGate { volume: VolumeId },
    /// The data is durable: make the change that the peer asked for, and answer.
    AnswerAsked { volume: VolumeId, number: u64 },
    /// Wake the command that waits for all work before this.
    Wake { command: CommandId },
}

/// The queue and the state of its head.
#[derive(Debug, Default)]
pub(super) struct Worker {
    queue: VecDeque<Work>,
    /// Disk operations of the piece under way.
    outstanding: u32,
    /// The head waits for something else than a disk; it is tried again when anything happens.
    blocked: bool,
    /// Exit code of the handler that the last piece ran.
    handler_exit: i32,
}

impl Worker {
    /// Appends work.
    pub(super) fn push(&mut self, work: Work) {
        self.queue.push_back(work);
    }

    /// Puts pieces before everything queued, in their order.
    pub(super) fn push_front(
        &mut self,
        works: impl IntoIterator<Item = Work, IntoIter: DoubleEndedIterator>,
    ) {
        for work in works.into_iter().rev() {
            self.queue.push_front(work);
        }
    }

    /// Puts pieces before everything queued that is not the rest of the piece under way: they may not write a superblock
    /// before one that is older, or count on one that is not written yet.
    pub(super) fn push_next(&mut self, works: [Work; 2]) {
        let rest = self.queue.iter().take_while(|work| matches!(work, Work::MetaBlock { .. })).count();
        let behind = self.queue.split_off(rest);
        self.queue.extend(works.into_iter().chain(behind));
    }

    /// Appends pieces; but before a head that waits for what they may bring about.
    pub(super) fn push_urgent(&mut self, works: [Work; 2]) {
        if std::mem::take(&mut self.blocked) {
            self.push_front(works);
        } else {
            self.queue.extend(works);
        }
    }

    /// Whether nothing is queued or under way.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.outstanding == 0
    }

    /// Whether work is queued that nothing stands in the way of.
    pub(super) fn can_run(&self) -> bool {
        !self.queue.is_empty() && self.outstanding == 0 && !self.blocked
    }

    /// A disk operation of the piece under way began.
    pub(super) const fn began(&mut self) {
        self.outstanding += 1;
    }

    /// A disk operation of the piece under way ended. A failure is dealt with where the disk is:
    /// the pieces that follow find no usable disk and do nothing.
    pub(super) const fn ended(&mut self) {
        self.outstanding -= 1;
    }

    /// The handler that the piece under way ran has ended.
    pub(super) const fn handler_ended(&mut self, exit: i32) {
        self.handler_exit = exit;
        self.outstanding -= 1;
    }

    /// Exit code of the handler that the last piece ran.
    pub(super) const fn handler_exit(&self) -> i32 {
        self.handler_exit
    }

    /// The queued work, for those who look for a certain piece.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Work> {
        self.queue.iter()
    }

    /// Takes out of the queue what may thaw the requests of all volumes: the first change of another volume's
    /// state, or the handshake by which that comes, or the generation or the handler that this waits for.
    fn take_progress_of_another(&mut self, volume: VolumeId) -> Vec<Work> {
        let of_another = |at: usize| match (self.queue.get(at), self.queue.get(at + 1)) {
            (
                Some(
                    Work::AfterState { volume: v, .. }
                    | Work::NewGeneration { volume: v }
                    | Work::ReceiveState { volume: v, .. }
                    | Work::CallHandler { volume: Some(v), .. },
                ),
                _,
            ) if *v != volume => Some(at..at + 1),
            (Some(Work::SetAllBits { volume: v }), Some(Work::ResumeHandshake { .. })) if *v != volume => {
                Some(at..at + 3)
            }
            _ => None,
        };
        let progress = (0..self.queue.len()).find_map(of_another).unwrap_or(0..0);
        let mut works: Vec<Work> = self.queue.drain(progress).collect();
        if let Some(&Work::CallHandler { volume: Some(volume), .. }) = works.first() {
            works.insert(0, Work::SyncMeta { volume }); // Before the handler is called (S63).
        }
        works
    }

    /// Takes the call of a handler that concerns all volumes out of the queue.
    fn take_fence_handler(&mut self) -> Option<Work> {
        let at = self.queue.iter().position(|work| matches!(work, Work::CallHandler { volume: None, .. }))?;
        self.queue.remove(at)
    }

    /// Takes the packets out of the queue, in their order.
    fn take_sends(&mut self) -> Vec<Work> {
        let is_send = |work: &Work| matches!(work, Work::Send { .. } | Work::AwaitNetwork { .. });
        if !self.queue.iter().any(is_send) {
            return Vec::new();
        }
        let (sends, rest): (Vec<Work>, Vec<Work>) = self.queue.drain(..).partition(is_send);
        self.queue = rest.into();
        sends
    }

    /// Whether the data socket stands still until another volume's handshake can go on.
    fn holds_up_for_another(&self, volume: VolumeId) -> bool {
        self.queue.iter().any(|work| match work {
            Work::ReceiveState { volume: v, .. }
            | Work::ResumeHandshake { volume: v, .. }
            | Work::CallHandler { volume: Some(v), .. } => *v != volume,
            _ => false,
        })
    }

    /// Drops packets for a socket that is gone.
    pub(super) fn forget_socket(&mut self, gone: SocketId) {
        self.queue.retain(|work| match work {
            Work::Send { socket, .. } | Work::AwaitNetwork { socket, .. } => *socket != gone,
            _ => true,
        });
    }
}

impl Node {
    /// Runs work until the queue is empty or its head has to wait.
    pub(super) fn run_worker(&mut self) {
        self.worker.blocked = false;
        while self.worker.outstanding == 0 && !self.worker.blocked {
            let Some(work) = self.worker.queue.pop_front() else { return };
            self.run_work(work);
        }
    }

    /// Puts the piece back: it has to wait until something else happened.
    fn block_on(&mut self, work: Work) {
        self.worker.queue.push_front(work);
        self.worker.blocked = true;
    }

    /// Puts the introduction back until a promotion has fenced; the handler for that may be queued behind it.
    fn wait_for_fencing(&mut self) {
        let Some(call) = self.worker.take_fence_handler() else { return self.block_on(Work::Introduce) };
        let notes = self.volume_ids().into_iter().map(|volume| Work::SyncMeta { volume }); // S63
        self.worker.push_front(notes.chain([call, Work::Introduce]).collect::<Vec<_>>());
    }

    /// Puts a bitmap back that waits for requests. If they are frozen, or wait for what comes on the data socket, what
    /// another volume's change sets off goes first, and what its handshake waits for: they may be what they need. So may
    /// the packets that are queued behind it, of requests that were sent once more.
    fn let_thaw(&mut self, volume: VolumeId, wait: Work) {
        let frozen = self.volumes.get(&volume).is_some_and(|v| v.state.is_suspended());
        let held_up = frozen || self.worker.holds_up_for_another(volume);
        let mut first = if held_up { self.worker.take_progress_of_another(volume) } else { Vec::new() };
        first.extend(self.worker.take_sends());
        if first.is_empty() {
            self.block_on(wait);
        } else {
            self.worker.push_front(first.into_iter().chain([wait]).collect::<Vec<_>>());
        }
    }

    /// Does this piece now.
    pub(super) fn run_work(&mut self, work: Work) {
        match work {
            Work::AfterState { volume, old, new } => self.after_state(volume, old, new),
            Work::AfterConnection => self.after_connection(),
            Work::SyncMeta { volume } => self.sync_meta(volume),
            Work::MetaBlock { volume, offset, block, fua } => self.meta_block(volume, offset, block, fua),
            Work::WriteBitmap { volume, all } => {
                if let Some(wait) = self.write_bitmap(volume, all) {
                    self.block_on(wait);
                }
            }
            Work::BitsWritten { volume, end } => self.bits_written(volume, end),
            Work::FlushData { volume } => self.flush_data(volume),
            Work::FlushMeta { volume } => self.start_work(volume, Device::Meta, DiskOp::Flush),
            Work::StartPeerIo { io } => self.start_peer_io(io),
            Work::PeerWriteFailed { io } => self.end_peer_write(io, false),
            Work::LocalWriteFailed { key } => self.end_local(key, false),
            Work::SetAllBits { volume } => self.set_all_bits(volume),
            Work::SetBitsInCore { volume } => self.set_bits_in_core(volume),
            Work::ClearFullSync { volume } => self.clear_full_sync(volume),
            Work::NewGeneration { volume } => self.new_generation(volume),
            Work::GenerationDurable { volume } => self.generation_durable(volume),
            Work::SendUuids { volume, flags } => self.send_uuids(volume, flags),
            Work::SendState { volume } => self.send_state(volume),
            Work::SendStateOf { volume, state } => self.send_state_of(volume, state),
            Work::SendSizes { volume, flags } => self.send_sizes(volume, flags),
            Work::SyncUuid { volume } => self.sync_uuid(volume),
            Work::SendSyncUuid { volume, uuid } => self.send_sync_uuid(volume, uuid),
            Work::Reset { why } => self.lose_link(Conn::NetworkFailure, why),
            Work::FullSyncReady { volume } => self.full_sync_ready(volume),
            Work::Send { socket, volume, packet, payload } => {
                self.effects.push_back(Effect::Send { socket, volume, packet: *packet, payload });
            }
            Work::AwaitNetwork { key, .. } => self.link_mut().unsent.push(key),
            Work::SendBitmap { volume, exchange, gate_closed } => {
                if let Some(wait) = self.send_bitmap(volume, exchange, gate_closed) {
                    self.let_thaw(volume, wait);
                }
            }
            Work::WaitSyncUuid { volume, exchange } => self.wait_sync_uuid(volume, exchange),
            Work::TakeSyncUuid { volume, uuid } => self.take_sync_uuid(volume, uuid),
            Work::StartResync { volume, exchange, side } => self.start_resync(volume, exchange, side),
            Work::BeginResync { volume, exchange, side } => self.begin_resync(volume, exchange, side),
            Work::CallHandler { call, name, volume } => {
                self.effects.push_back(Effect::Handler { call, name, volume });
            }
            Work::RunHandler { name, volume } => self.run_handler(name, volume),
            Work::ThawFenced => self.thaw_fenced(),
            Work::ResyncReady { volume } => self.resync_ready(volume),
            Work::ResyncDurable { volume } => self.resync_durable(volume),
            Work::ResumeHandshake { volume, word, conn } => self.resume_handshake(volume, word, conn),
            Work::ReceiveState { socket, volume, word, aborted } => {
                self.receive_state_late(socket, volume, word, aborted);
            }
            Work::Unhold { socket } => self.effects.push_back(Effect::Hold { socket, hold: false }),
            // A promotion that fences holds the state, as the peer's next state could change it (S29 f).
            Work::Introduce if self.is_fencing_promotion() => self.wait_for_fencing(),
            Work::Introduce => self.introduce(),
            Work::Sweep => self.sweep(),
            Work::Reconnect => self.reconnect(),
            Work::DropDisk { volume } => {
                if let Some(wait) = self.drop_disk(volume) {
                    self.block_on(wait);
                }
            }
            Work::CloseDisk { volume } => self.close_disk(volume),
            Work::TakeCurrentUuid { volume, current } => self.take_current_uuid(volume, current),
            Work::SkipInitialSync { volume } => self.skipped_initial_sync(volume),
            Work::OpenGate { volume } => self.open_gate(volume),
            Work::AnswerAsked { volume, number } => self.answer_asked(volume, number),
            Work::Wake { command } => self.wake_command(command),
        }
    }
}
