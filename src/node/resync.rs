//! A resync: what source and target have in common (datapath.md section 6).

use super::Node;
use super::effect::LogLevel;
use super::progress::Progress;
use super::ranges::Holder;
use super::resync_rate::Controller;
use super::rules::{Manner, StateResult};
use super::state::{Conn, Disk, State, StateChange};
use super::status::ResyncStatus;
use super::uuids::{JUST_CREATED, SYNC_UUID_OFFSET, uuids_text};
use super::volume::Volume;
use super::worker::Work;
use crate::units::{BitIndex, Extent, Moment, VolumeId};
use crate::wire::packet::{BlockRequest, Packet};

/// Handlers that may forbid a resync (S74).
const BEFORE_TARGET: &str = "before-resync-target";
/// See [`BEFORE_TARGET`].
const BEFORE_SOURCE: &str = "before-resync-source";
/// Requests the target may have waiting here, and acks that may be awaited of runs that were broken off; more is
/// an attack.
pub(super) const MAX_DEFERRED: usize = 1 << 16;

/// One block exchanged: asked for, and not yet settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) id: u64,
    pub(super) extent: Extent,
}

/// A request of the target that the source cannot serve yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deferred {
    pub(super) request: BlockRequest,
    pub(super) digest: Option<Vec<u8>>,
}

/// How far the end of a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Finish {
    /// Blocks are missing.
    #[default]
    No,
    /// All are here; this ping proves that the source knows it (W176).
    Pinging { ping: u64 },
    /// The result is being made durable (I34); whether it is that all blocks are here.
    Writing { whole: bool },
}

/// What a source can tell of how far its target is (T40).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TargetSeen {
    /// P_SYNC_UUID was sent.
    pub(super) told: bool,
    /// A ping of the target's was answered since.
    pinged: bool,
    /// No bit of this run was left at some time.
    clear: bool,
    /// It had this node's generation when the run began, and has asked for no block since: on its disk it may
    /// still be UpToDate (I34).
    unmoved: bool,
}

impl TargetSeen {
    /// Whether the target may be UpToDate with the same generation as this node, which has not heard of it:
    /// still, or again. It ends the run when nothing is missing, and a ping was answered.
    pub(super) const fn may_be_current(self) -> bool {
        self.unmoved || (self.pinged && self.clear)
    }

    /// It asks for a block: that it is Inconsistent is on its disk.
    pub(super) const fn asked(&mut self) {
        self.unmoved = false;
    }

    /// A ping of the target's was answered; `clear`: nothing was missing there then.
    pub(super) const fn answered_ping(&mut self, clear: bool) {
        self.pinged = true;
        self.clear |= clear;
    }

    /// So many bits are left.
    pub(super) const fn note_left(&mut self, bits: u64) {
        self.clear |= bits == 0;
    }
}

impl Volume {
    /// What a target asked for is answered, be it by a refusal: the window must not shrink by that (T12, I36).
    pub(super) fn resync_answered(&mut self, extent: Extent) {
        self.counters.pe = self.counters.pe.saturating_sub(1);
        if let Some(resync) = self.resync.as_mut() {
            resync.unanswered = resync.unanswered.saturating_sub(1);
            resync.arrived += u64::from(extent.sectors());
        }
    }
}

/// A resync under way on one volume.
#[derive(Debug)]
pub(super) struct Resync {
    /// Of the bits set when it began.
    progress: Progress,
    /// Bits whose exchange failed.
    pub(super) failed: u64,
    /// What must be durable before the first exchange is.
    pub(super) ready: bool,
    /// Whether this node sends the blocks.
    pub(super) source: bool,
    /// Number of this run: what is left of an earlier one must not be taken for its own.
    pub(super) run: u64,
    pub(super) exchanges: Vec<Exchange>,
    /// Target: exchanges whose block the source has written to since: what comes is old (T5).
    pub(super) outdated: Vec<u64>,
    /// Target: exchanges whose block was asked for and has not come; they count as pending (I36).
    pub(super) unanswered: u64,
    pub(super) last_exchange: u64,
    /// Source: what became of the target as far as can be told.
    pub(super) target: TargetSeen,
    /// Source: requests that wait for a range or for readiness.
    pub(super) deferred: Vec<Deferred>,
    /// Target: where the scan is.
    pub(super) cursor: BitIndex,
    pub(super) scanned: bool,
    pub(super) rescanned: bool,
    pub(super) controller: Controller,
    /// Target: blocks that may be asked for before the next tick.
    pub(super) budget: u64,
    /// Target: sectors asked for in this tick, and sectors that arrived.
    pub(super) arrived: u64,
    pub(super) next_tick: Option<Moment>,
    /// Target: written blocks that wait for a flush, and those the flush under way serves (T1).
    pub(super) unflushed: Vec<Exchange>,
    pub(super) flushing: Vec<Exchange>,
    pub(super) flush_at: Option<Moment>,
    pub(super) finish: Finish,
}

impl Resync {
    fn new(now: Moment, total: u64, run: u64) -> Self {
        Self {
            progress: Progress::new(now, total),
            failed: 0,
            ready: false,
            source: false,
            run,
            exchanges: Vec::new(),
            outdated: Vec::new(),
            unanswered: 0,
            last_exchange: run << 40,
            target: TargetSeen::default(),
            deferred: Vec::new(),
            cursor: BitIndex::new(0),
            scanned: false,
            rescanned: false,
            controller: Controller::default(),
            budget: 0,
            arrived: 0,
            next_tick: Some(now),
            unflushed: Vec::new(),
            flushing: Vec::new(),
            flush_at: None,
            finish: Finish::No,
        }
    }

    /// When this run needs attention.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let flush = self.flush_at.filter(|_| self.flushing.is_empty() && !self.unflushed.is_empty());
        [self.next_tick, flush].into_iter().flatten().min()
    }

    /// Begins an exchange.
    pub(super) fn begin(&mut self, extent: Extent) -> u64 {
        self.last_exchange += 1;
        self.exchanges.push(Exchange { id: self.last_exchange, extent });
        self.last_exchange
    }

    /// Ends an exchange, if it is under way.
    pub(super) fn end(&mut self, id: u64) -> Option<Exchange> {
        let at = self.exchanges.iter().position(|exchange| exchange.id == id)?;
        self.outdated.retain(|outdated| *outdated != id);
        Some(self.exchanges.swap_remove(at))
    }

    /// The source wrote there, and only says so: what was asked for before is old (T5).
    pub(super) fn outdate(&mut self, extent: Extent) {
        for exchange in self.exchanges.iter().filter(|exchange| exchange.extent.overlaps(extent)) {
            if !self.outdated.contains(&exchange.id) {
                self.outdated.push(exchange.id);
            }
        }
    }

    /// Whether this exchange brings what is the source's data still.
    pub(super) fn is_current(&self, id: u64) -> bool {
        !self.outdated.contains(&id)
    }

    /// Whether this exchange is under way.
    pub(super) fn has(&self, id: u64) -> bool {
        self.exchanges.iter().any(|exchange| exchange.id == id)
    }

    /// The exchange about exactly these sectors.
    pub(super) fn find(&self, start: crate::units::Sector) -> Option<Exchange> {
        self.exchanges.iter().copied().find(|exchange| exchange.extent.start() == start)
    }

    /// Sectors of the exchanges under way.
    pub(super) fn sectors_in_flight(&self) -> u64 {
        self.exchanges.iter().map(|exchange| u64::from(exchange.extent.sectors())).sum()
    }

    /// The figures for the status (D135, D136).
    pub(super) fn status(&self, now: Moment, set: u64, want_kib_s: u64) -> ResyncStatus {
        self.progress.status(now, set.saturating_sub(self.failed), self.failed, want_kib_s)
    }
}

impl Volume {
    /// A run is about to begin. Returns how many bits are set.
    fn prepare_run(&mut self, now: Moment, target: bool) -> u64 {
        let own = self.uuids()[0] & !1;
        let same = self.peer_uuids.is_some_and(|peer| peer.current & !1 == own);
        let total = self.bits_set();
        self.marks.target_said_done = false;
        self.late_answers = 0; // They came before the P_SYNC_UUID of this run.
        self.resync_runs += 1;
        let mut resync = Resync::new(now, total, self.resync_runs);
        resync.source = !target;
        resync.target.unmoved = !target && (same || self.state.conn == Conn::StartingSyncS);
        self.resync = Some(resync);
        total
    }
}

impl Node {
    /// Work: is about to become source or target; a handler may have something against it (S58).
    pub(super) fn start_resync(&mut self, volume: VolumeId, exchange: u64, side: Conn) {
        let Some(v) = self.volumes.get(&volume).filter(|v| v.exchange == exchange) else { return };
        if v.state.conn.is_resync_or_verify() {
            return self.say(LogLevel::Warn, Some(volume), "Resync already running!");
        }
        if v.state.conn < Conn::Connected || v.state.disk < Disk::Negotiating {
            return;
        }
        let name = if side == Conn::SyncTarget { BEFORE_TARGET } else { BEFORE_SOURCE };
        self.worker.push_front([
            Work::SyncMeta { volume },
            Work::RunHandler { name, volume },
            Work::BeginResync { volume, exchange, side },
        ]);
    }

    /// Work: becomes source or target, unless the handler that was just run forbids it (S58).
    pub(super) fn begin_resync(&mut self, volume: VolumeId, exchange: u64, side: Conn) {
        if self.volumes.get(&volume).is_none_or(|v| v.exchange != exchange) {
            return; // The nodes have met anew while the handler ran.
        }
        let target = side == Conn::SyncTarget;
        match (self.worker.handler_exit(), target) {
            (..=0, _) => {}
            (3, false) => {
                let text = "before-resync-source handler returned 3, ignored: no resync source says no";
                self.say(LogLevel::Info, Some(volume), text);
            }
            (exit, _) => {
                let name = if target { BEFORE_TARGET } else { BEFORE_SOURCE };
                let text = format!("{name} handler returned {exit}, dropping connection.");
                self.say(LogLevel::Error, Some(volume), text);
                return self.disconnect_hard();
            }
        }
        let now = self.now;
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if v.state.conn <= Conn::Connected || v.state.disk < Disk::Negotiating {
            return; // Connection or disk, or the peer's, lost while the handler ran.
        }
        let total = v.prepare_run(now, target);
        let change = if target {
            StateChange { disk: Some(Disk::Inconsistent), ..StateChange::conn(side) }
        } else {
            StateChange { pdsk: Some(Disk::Inconsistent), ..StateChange::conn(side) }
        };
        if self.change(volume, change, Manner::SOFT) != StateResult::Success {
            if let Some(v) = self.volumes.get_mut(&volume) {
                v.resync = None;
            }
            return;
        }
        let conn = self.volumes.get(&volume).map_or(side, |v| v.state.conn);
        let text = format!("Began resync as {conn} (will sync {} KB [{total} bits set]).", total * 4);
        self.say(LogLevel::Info, Some(volume), text);
        // Before the first block: the target is marked Inconsistent with the sync UUID (I34), and
        // what the source wrote as Secondary is durable (T37).
        self.worker.push(Work::FlushData { volume });
        self.worker.push(Work::SyncMeta { volume });
        self.worker.push(Work::ResyncReady { volume });
    }

    /// Work: the exchanges may begin.
    pub(super) fn resync_ready(&mut self, volume: VolumeId) {
        let now = self.now;
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(resync) = v.resync.as_mut() else { return };
        resync.ready = true;
        resync.next_tick = v.state.conn.is_sync_target().then_some(now);
        self.serve_deferred(volume);
    }

    /// The sync UUID of a beginning run, durable, then told (S56).
    pub(super) fn sync_uuid(&mut self, volume: VolumeId) {
        let random = self.fresh_uuid();
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let bitmap = v.uuids()[1];
        let uuid = if bitmap == 0 || bitmap == JUST_CREATED {
            random
        } else {
            bitmap.wrapping_add(SYNC_UUID_OFFSET)
        };
        v.rotate_bitmap_uuid(uuid);
        v.marks.sync_uuid_is_new = true;
        let text = format!("updated sync UUID {}", uuids_text(v.uuids()));
        self.say(LogLevel::Info, Some(volume), text);
        self.worker.push_front([Work::SyncMeta { volume }, Work::SendSyncUuid { volume, uuid }]);
    }

    /// Work: tells the target the sync UUID.
    pub(super) fn send_sync_uuid(&mut self, volume: VolumeId, uuid: u64) {
        if self.volumes.get_mut(&volume).is_some_and(|v| v.usable_disk().is_none_or(|disk| disk.failed)) {
            return; // It is not durable: the target would have a generation that nobody knows.
        }
        self.send_now(volume, Packet::SyncUuid(uuid));
        if let Some(resync) = self.volumes.get_mut(&volume).and_then(|v| v.resync.as_mut()) {
            resync.target.told = true;
        }
    }

    /// P_SYNC_UUID: taken over as soon as this node waits for it (S57, W199). It may come before the consent to a full
    /// sync, on the other socket; otherwise a run that it belongs to has come to nothing here.
    pub(super) fn on_sync_uuid(&mut self, volume: VolumeId, uuid: u64) {
        let asks = self.asks_for_full_sync(volume);
        let Some(v) = self.volumes.get_mut(&volume) else {
            return self.unknown_volume("P_SYNC_UUID", volume);
        };
        if v.state.disk < Disk::Negotiating || (v.state.conn <= Conn::Connected && !asks) {
            return self.say(LogLevel::Info, Some(volume), "Ignoring SyncUUID packet!");
        }
        v.marks.early_sync_uuid = Some(uuid);
        self.try_sync_uuid(volume);
    }

    /// Takes over a sync UUID that arrived, once this node is ready for it.
    pub(super) fn try_sync_uuid(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if matches!(v.state.conn, Conn::WFSyncUUID | Conn::Behind)
            && let Some(uuid) = v.marks.early_sync_uuid.take()
        {
            self.worker.push(Work::TakeSyncUuid { volume, uuid });
        }
    }

    /// Work: the sync UUID replaces the current one, without rotation, and the run begins (S57).
    pub(super) fn take_sync_uuid(&mut self, volume: VolumeId, uuid: u64) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if !matches!(v.state.conn, Conn::WFSyncUUID | Conn::Behind) {
            return self.say(LogLevel::Info, Some(volume), "Ignoring SyncUUID packet!");
        }
        v.set_current(uuid);
        v.set_bitmap_uuid(0);
        let (exchange, text) = (v.exchange, format!("updated sync uuid {}", uuids_text(v.uuids())));
        self.say(LogLevel::Info, Some(volume), text);
        self.worker.push(Work::StartResync { volume, exchange, side: Conn::SyncTarget });
    }

    /// Work: all bits are set for a full sync by command (A18).
    pub(super) fn full_sync_ready(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get(&volume) else { return };
        let exchange = v.exchange;
        match v.state.conn {
            Conn::StartingSyncT => {
                // Should the source be lost before the run begins, nothing but this tells the next handshake.
                let given_up =
                    StateChange { disk: Some(Disk::Inconsistent), ..StateChange::conn(Conn::WFSyncUUID) };
                self.change(volume, given_up, Manner::SOFT);
                self.try_sync_uuid(volume);
            }
            Conn::StartingSyncS => {
                self.worker.push(Work::StartResync { volume, exchange, side: Conn::SyncSource });
            }
            _ => {}
        }
    }

    /// The connection is gone, or the disk: the run ends where it is; bits stay (D101).
    pub(super) fn stop_resync(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if let Some(resync) = v.resync.take() {
            v.counters.pe = v.counters.pe.saturating_sub(resync.unanswered);
            v.late_answers += resync.unanswered;
            let sent = resync.exchanges.iter().filter(|_| resync.source);
            v.unsettled.extend(sent.map(|exchange| exchange.extent));
            v.unsettled.truncate(MAX_DEFERRED);
        }
        v.ranges.release_resync();
        self.retry_waiting(volume);
    }

    /// Keeps the books of pauses when the state changes (D137).
    pub(super) fn note_resync_pause(&mut self, volume: VolumeId, old: State, new: State) {
        let now = self.now;
        let paused = |s: State| matches!(s.conn, Conn::PausedSyncS | Conn::PausedSyncT);
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if old.conn.is_sync() && !new.conn.is_sync() {
            return self.stop_resync(volume);
        }
        let Some(resync) = v.resync.as_mut() else { return };
        match (paused(old), paused(new)) {
            (false, true) => {
                resync.progress.pause(now);
                resync.next_tick = None;
            }
            (true, false) => {
                resync.progress.resume(now);
                resync.next_tick = new.conn.is_sync_target().then_some(now);
            }
            (false, false) | (true, true) => {}
        }
    }

    /// Bits were cleared: for the progress figures.
    pub(super) fn note_progress(&mut self, volume: VolumeId) {
        let now = self.now;
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let left = v.bits_set();
        if let Some(resync) = v.resync.as_mut() {
            resync.progress.note(now, left.saturating_sub(resync.failed));
            resync.target.note_left(left);
        }
    }

    /// Ends an exchange and lets its range go.
    pub(super) fn end_exchange(&mut self, volume: VolumeId, id: u64) -> Option<Exchange> {
        let v = self.volumes.get_mut(&volume)?;
        let exchange = v.resync.as_mut()?.end(id)?;
        v.ranges.release(Holder::Resync(id));
        self.retry_waiting(volume);
        Some(exchange)
    }

    /// Counts an exchange that failed: its bits stay (D126).
    pub(super) fn count_failed(&mut self, volume: VolumeId, extent: Extent) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let (first, last) = extent.touched_bits();
        let set = v.disk.as_ref().map_or(0, |disk| disk.bitmap.count_range(first, last));
        if let Some(resync) = v.resync.as_mut() {
            resync.failed += set;
        }
    }

    /// Says how a run ended (D134).
    pub(super) fn say_resync_done(&mut self, volume: VolumeId) {
        let now = self.now;
        let Some(v) = self.volumes.get(&volume) else { return };
        let Some(resync) = &v.resync else { return };
        let text = format!("Resync done {}", resync.progress.summary(now, resync.progress.total));
        let failed = resync.failed;
        self.say(LogLevel::Info, Some(volume), text);
        if failed > 0 {
            self.say(LogLevel::Warn, Some(volume), format!("            {failed} failed blocks"));
        }
    }
}
