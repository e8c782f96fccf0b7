//! One volume of a resource: its state vector, disk, bitmap, and what is under way on it.

use std::collections::VecDeque;

use super::activity_log::ActivityLog;
use super::bitmap::Bitmap;
use super::command::DiskFacts;
use super::effect::{Device, DiskOp};
use super::input::{Request, RequestId};
use super::ranges::Ranges;
use super::resync::Resync;
use super::shadow::Shadow;
use super::state::{Conn, Disk, Role, State};
use super::status::Counters;
use super::verify::{Verify, Wish};
use crate::config::options::DiskOptions;
use crate::meta::layout::Layout;
use crate::meta::superblock::Superblock;
use crate::units::{AL_EXTENT_SECTORS, Extent, Sector, VolumeId};
use crate::wire::bitmap_code::{BitmapReceiver, BitmapSender};

/// A device is marked as a whole in pieces of so many sectors.
const WHOLE_STEP: u64 = 1 << 30;

/// The peer's UUIDs as last received or as both agreed since (W180): `p_uuid` of S1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerUuids {
    pub(super) current: u64,
    pub(super) bitmap: u64,
    pub(super) history: [u64; 2],
    /// Bits set in the peer's bitmap when it sent them.
    pub(super) bits: u64,
    /// The flags of S51.
    pub(super) flags: u64,
}

/// A request that may not start yet.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) id: RequestId,
    pub(super) request: Request,
}

/// A write that holds its range.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) parked: Parked,
    /// The number under which it holds its range.
    pub(super) hold: u64,
}

/// The disk of a volume while it is attached.
pub(super) struct LocalDisk {
    pub(super) facts: DiskFacts,
    pub(super) layout: Layout,
    /// Sectors this disk can offer to the replicated device.
    pub(super) offered: Sector,
    pub(super) options: DiskOptions,
    /// The superblock as it shall be; written by `Work::SyncMeta`.
    pub(super) superblock: Superblock,
    /// The superblock in memory is newer than the one on disk.
    pub(super) dirty: bool,
    /// The one on disk has the Primary mark: what the bitmap on disk lacks, the activity log tells.
    pub(super) marked_primary: bool,
    /// Out-of-sync bits.
    pub(super) bitmap: Bitmap,
    /// Blocks that are in sync and that the peer may lose.
    pub(super) shadow: Shadow,
    /// The extents that may have writes under way.
    pub(super) al: ActivityLog,
    /// The activity-log transaction being written.
    pub(super) transaction: Option<super::activity::Transaction>,
    /// Writes ended since the last flush of the data device began, or that flush failed.
    pub(super) unflushed: bool,
    /// Flushes of the data device under way.
    pub(super) flushing: u32,
    /// It is about to be closed, and its data were flushed as far as it can.
    pub(super) last_flush: bool,
    /// A bitmap or superblock write failed, or an I/O error struck: the disk is on its way out.
    pub(super) failed: bool,
    /// It could not take a write that the other disk has, and is on its way out: nobody may call it good again.
    pub(super) spoiled: bool,
}

impl LocalDisk {
    /// Whether something that was written may not be durable: also while a flush that covers it is
    /// under way (T2, T37).
    pub(super) const fn needs_flush(&self) -> bool {
        self.unflushed || self.flushing > 0
    }

    /// Whether an operation is a flush of the device with the data.
    pub(super) const fn flushes_data(&self, device: Device, op: &DiskOp) -> bool {
        matches!(op, DiskOp::Flush) && (matches!(device, Device::Data) || !self.facts.separate_meta)
    }
}

/// One volume.
pub(super) struct Volume {
    pub(super) id: VolumeId,
    pub(super) minor: u32,
    pub(super) state: State,
    pub(super) disk: Option<Box<LocalDisk>>,
    /// End of the replicated device: its size in sectors, 0 before it is known.
    pub(super) end: Sector,
    /// Clients that have it open.
    pub(super) open_count: u32,
    /// UUID of the data last shown to clients (`ed_uuid` of S1).
    pub(super) exposed_uuid: u64,
    /// The peer's copy at the last handshake.
    pub(super) peer_seen: Option<super::peer_seen::Seen>,
    pub(super) peer_uuids: Option<PeerUuids>,
    /// The state of a Primary without a disk that has not let this node in yet.
    pub(super) unaccepted: Option<u32>,
    /// Own out-of-sync bits when the own UUIDs were last sent (`comm_bm_set`).
    pub(super) bits_sent: u64,
    /// What the disks will be once the handshake of a late attach is through (`new_state_tmp`).
    pub(super) negotiated: Option<(Disk, Disk)>,
    pub(super) marks: Marks,
    /// New requests wait: a bitmap is about to be sent (T41), or the disk changes.
    pub(super) gate: u32,
    /// Requests that were admitted and taken back, before those that wait (D13).
    pub(super) postponed: VecDeque<Parked>,
    /// Requests that wait for admission (D5).
    pub(super) parked: VecDeque<Parked>,
    /// Writes that wait for an overlapping range (D11).
    pub(super) waiting: VecDeque<Parked>,
    /// Writes that hold their range and wait for the activity log (D8).
    pub(super) al_waiting: VecDeque<Admitted>,
    /// Writes whose extents are in the transaction being written.
    pub(super) al_commit: Vec<Admitted>,
    /// Writes that no transaction can hold.
    pub(super) al_refused: Vec<Admitted>,
    pub(super) ranges: Ranges,
    /// Number of the last range held.
    pub(super) last_hold: u64,
    /// Admitted, unfinished requests.
    pub(super) live: u32,
    /// Flushes that wait for the disk or a barrier ack.
    pub(super) flushes: Vec<PendingFlush>,
    pub(super) resync: Option<Resync>,
    /// Resyncs that were begun.
    pub(super) resync_runs: u64,
    /// Answers on this connection to the requests of runs that were broken off: they may still come.
    pub(super) late_answers: u64,
    /// Blocks of runs that were broken off on this connection before they were settled: the target's ack of
    /// each may still come.
    pub(super) unsettled: Vec<Extent>,
    pub(super) verify: Option<Verify>,
    /// What the next verify that this node asks for is to do.
    pub(super) verify_wish: Wish,
    /// Number of the last block of a verify.
    pub(super) verify_blocks: u64,
    /// Ways into a resync that were begun: what was queued for an earlier one, which came to nothing, is void.
    pub(super) exchange: u64,
    /// The one for which the own bitmap was, or is being, sent.
    pub(super) bitmap_sent_for: u64,
    pub(super) bitmap_in: Option<BitmapReceiver>,
    /// How far the own bitmap is sent, between two pieces.
    pub(super) bitmap_out: Option<BitmapSender>,
    /// Sequence numbers of W142.
    pub(super) seq_sent: u32,
    /// The highest sequence number the peer was seen to use (D178).
    seq_seen: u32,
    /// A change that the peer asks for, and that needs both copies durable first.
    pub(super) asked: Option<super::commands::Asked>,
    /// Own writes that wait for an overlapping one of the peer's, and whether they are in the activity log.
    pub(super) behind_peer: Vec<(Admitted, bool)>,
    /// What is to be kept before it is overwritten.
    pub(super) keeping: Option<super::keep::Keeping>,
    pub(super) counters: Counters,
}

/// Volatile marks of S1.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// Was Primary when it crashed, not in sync since.
    pub(super) crashed_primary: bool,
    /// A peer that attaches was told the own UUIDs before they were corrected, and is not told them again.
    pub(super) uuids_told: bool,
    /// A new generation is due as soon as I/O goes on.
    pub(super) new_uuid_due: bool,
    /// The peer was forced up (S21.11).
    pub(super) consider_resync: bool,
    /// This attempt's data loses a split brain.
    pub(super) discard_my_data: bool,
    /// Resync the grown area once both disks are there.
    pub(super) resync_after_negotiation: bool,
    /// Wait with the degraded timeout (S86).
    pub(super) use_degr_wfc: bool,
    /// Activity-log updates are suspended (D93).
    pub(super) al_suspended: bool,
    /// Unmirrored writes are not answered before the new generation is durable (T17).
    pub(super) hold_unmirrored: bool,
    /// Clients were told of a write that only the peer's disk has, and the generation of that may not be known yet.
    pub(super) newer_elsewhere: bool,
    /// The peer was Primary when the connection was lost.
    pub(super) peer_was_primary: bool,
    /// The peer's disk has refused a write that is done here, and is still called UpToDate: it is no copy (T17, T21).
    pub(super) peer_refused: bool,
    /// An I/O error was seen on this disk.
    pub(super) io_error: bool,
    /// The target of this run said it is done (T39).
    pub(super) target_said_done: bool,
    /// The peer was lost as the target of a run that it may have finished, unheard (T40).
    pub(super) target_unheard: bool,
    /// No target has taken the own sync UUID over since it was made, as far as anybody knows: no bit was cleared since.
    /// A restart forgets it.
    pub(super) sync_uuid_is_new: bool,
    /// A disk was announced on this connection, and the peer has not said yet what it makes of it.
    pub(super) attach_unanswered: bool,
    /// P_SYNC_UUID came before this node was ready for it (W199).
    pub(super) early_sync_uuid: Option<u64>,
}

/// A flush that is not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingFlush {
    pub(super) id: RequestId,
    /// The local disk's part: under way, or ended well or badly. Without a disk it is bad.
    pub(super) local: Option<bool>,
    /// The newest epoch whose barrier ack it waits for (T3).
    pub(super) epoch: Option<u32>,
}

impl Volume {
    /// A new volume: no disk, no connection (S2).
    pub(super) fn new(id: VolumeId, minor: u32, state: State) -> Self {
        Self {
            id,
            minor,
            state,
            disk: None,
            end: Sector::new(0),
            open_count: 0,
            exposed_uuid: 0,
            peer_seen: None,
            peer_uuids: None,
            unaccepted: None,
            bits_sent: 0,
            negotiated: None,
            marks: Marks::default(),
            gate: 0,
            postponed: VecDeque::new(),
            parked: VecDeque::new(),
            waiting: VecDeque::new(),
            al_waiting: VecDeque::new(),
            al_commit: Vec::new(),
            al_refused: Vec::new(),
            ranges: Ranges::default(),
            last_hold: 0,
            live: 0,
            flushes: Vec::new(),
            resync: None,
            resync_runs: 0,
            late_answers: 0,
            unsettled: Vec::new(),
            verify: None,
            verify_wish: Wish::default(),
            verify_blocks: 0,
            exchange: 0,
            bitmap_sent_for: 0,
            bitmap_in: None,
            bitmap_out: None,
            seq_sent: 0,
            seq_seen: 0,
            asked: None,
            behind_peer: Vec::new(),
            keeping: None,
            counters: Counters::default(),
        }
    }

    /// The disk, if its state is Inconsistent or better: data I/O and bitmap work need that.
    pub(super) fn usable_disk(&mut self) -> Option<&mut LocalDisk> {
        let usable = self.has_usable_disk();
        self.disk.as_deref_mut().filter(|_| usable)
    }

    /// Whether there is a disk in such a state.
    pub(super) fn has_usable_disk(&self) -> bool {
        self.state.disk >= Disk::Inconsistent && self.disk.is_some()
    }

    /// The disk, if its bitmap is in use: also while the handshake of a late attach decides.
    pub(super) fn usable_or_negotiating(&mut self) -> Option<&mut LocalDisk> {
        let usable = self.state.disk >= Disk::Negotiating;
        self.disk.as_deref_mut().filter(|_| usable)
    }

    /// A write ended on the data device: the next flush has something to do. Noted at the end, not at
    /// the start: a flush covers only writes that ended before it was issued (T1).
    pub(super) fn note_written(&mut self) {
        if let Some(disk) = self.disk.as_deref_mut() {
            disk.unflushed = true;
        }
    }

    /// Takes the requests back that were to be admitted again, and those that wait for another's range.
    pub(super) fn take_unrouted(&mut self) -> VecDeque<Parked> {
        let waiting = std::mem::take(&mut self.waiting);
        self.live -= waiting.len() as u32; // Admitted already, unlike those that were postponed.
        let mut unrouted = std::mem::take(&mut self.postponed);
        unrouted.extend(waiting);
        unrouted
    }

    /// A way into a resync begins, with a bitmap exchange or without one.
    pub(super) fn begin_exchange(&mut self) {
        self.exchange += 1;
        self.bitmap_in = None;
        self.bitmap_out = None;
    }

    /// Number of out-of-sync bits; 0 without a disk.
    pub(super) fn bits_set(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.bitmap.count())
    }

    /// Stores a new state, with what it says of the two copies (S21).
    pub(super) fn enter(&mut self, new: State) {
        let connected = |s: State| s.conn >= Conn::Connected;
        if connected(self.state) && !connected(new) {
            self.parts();
        }
        let old = std::mem::replace(&mut self.state, new);
        let shows_peer = |s: State| {
            s.conn >= Conn::Connected && s.disk < Disk::Inconsistent && s.pdsk > Disk::Inconsistent
        };
        let meets_disk = |s: State| s.conn >= Conn::Connected && s.disk.min(s.pdsk) >= Disk::Inconsistent;
        let became = |holds: fn(State) -> bool| !holds(old) && holds(new);
        if became(connected) {
            self.marks.al_suspended = false;
            self.reset_seq();
            self.late_answers = 0;
            self.unsettled.clear();
        }
        if became(shows_peer) && !self.marks.peer_refused {
            self.show_peer_data();
        }
        if became(|s| s.conn == Conn::WFBitMapT) {
            self.marks.crashed_primary = false; // What it alone has is given up for the peer's.
        }
        self.marks.peer_refused &= new.pdsk == Disk::UpToDate && new.conn >= Conn::Connected;
        if became(meets_disk) {
            self.marks.target_unheard = false; // The UUIDs have told.
        }
        let both_inconsistent = old.disk == Disk::Inconsistent && old.pdsk == Disk::Inconsistent;
        if both_inconsistent && old.peer == Role::Secondary && new.peer == Role::Primary {
            self.marks.consider_resync = true; // The peer was forced up (S21.11).
        }
        if old.conn != new.conn && (Conn::StartingSyncS..=Conn::WFBitMapT).contains(&new.conn) {
            self.begin_exchange();
        }
        if old.conn > Conn::Connected && new.conn <= Conn::Connected {
            self.marks.early_sync_uuid = None; // Of a run that has come to nothing.
        }
    }

    /// The connection is about to be lost.
    pub(super) fn parts(&mut self) {
        self.marks.peer_was_primary = self.state.peer == Role::Primary;
    }

    /// Whether the peer's disk has all that this node's clients have been told.
    pub(super) const fn peer_has_all(&self) -> bool {
        matches!(self.state.pdsk, Disk::UpToDate) && !self.marks.peer_refused
    }

    /// Whether this Primary has no disk, and the one that the peer comes with has not the data that its clients have seen.
    pub(super) fn meets_other_data(&self) -> bool {
        let State { conn, disk, pdsk, role, .. } = self.state;
        let fresh = conn < Conn::Connected || pdsk < Disk::Negotiating;
        let shown = |theirs: PeerUuids| {
            let shows = |uuid: u64| (self.exposed_uuid ^ uuid) & !1 == 0;
            // The generation of what only the peer has was lost on its way.
            shows(theirs.current) || (self.marks.newer_elsewhere && shows(theirs.bitmap))
        };
        fresh && disk < Disk::Inconsistent && role == Role::Primary && !self.peer_uuids.is_some_and(shown)
    }

    /// Connected without an own disk, to a peer that may be read: whoever opens this volume now is shown the peer's data,
    /// and no older ones may take their place (S31, S37.7).
    fn show_peer_data(&mut self) {
        if let Some(theirs) = self.peer_uuids
            && (self.exposed_uuid ^ theirs.current) & !1 != 0
        {
            self.exposed_uuid = theirs.current;
        }
    }

    /// Both sides count from the start (W142).
    pub(super) const fn reset_seq(&mut self) {
        self.seq_sent = 0;
        self.seq_seen = 0;
    }

    /// Notes a sequence number of the peer's.
    pub(super) const fn saw_seq(&mut self, seq: u32) {
        if (seq.wrapping_sub(self.seq_seen) as i32) > 0 {
            self.seq_seen = seq;
        }
    }

    /// Whether everything the peer numbered before `seq` was seen (D178).
    pub(super) const fn is_next_seq(&self, seq: u32) -> bool {
        (seq.wrapping_sub(1).wrapping_sub(self.seq_seen) as i32) <= 0
    }

    /// The next sequence number for a packet to the peer (W142).
    pub(super) const fn next_seq(&mut self) -> u32 {
        self.seq_sent = self.seq_sent.wrapping_add(1);
        self.seq_sent
    }

    /// Marks the run out of sync, outward (T27). Returns how many bits were new. Without a usable
    /// disk there is no bitmap, and nothing happens (T33).
    pub(super) fn set_out_of_sync(&mut self, extent: crate::units::Extent) -> u64 {
        let (first, last) = extent.touched_bits();
        self.usable_disk().map_or(0, |disk| disk.bitmap.set(first, last))
    }

    /// What may have been written here since the last good flush: the extents that the activity log has, and those that
    /// are leaving it (D90); without a log all.
    pub(super) fn maybe_unflushed(&self) -> Vec<Extent> {
        let Some(disk) = self.disk.as_deref() else { return Vec::new() };
        let (log, step) = match disk.options.al_updates {
            true => (disk.al.covered().map(|extent| u64::from(extent.get())).collect(), AL_EXTENT_SECTORS),
            false => ((0..self.end.get().div_ceil(WHOLE_STEP)).collect::<Vec<_>>(), WHOLE_STEP),
        };
        let extent = |number: u64| {
            let first = Sector::new(number * step);
            Extent::new(first, step.min(self.end.get().saturating_sub(first.get())) as u32)
        };
        log.into_iter().filter_map(extent).collect()
    }

    /// Whether reads or writes are admitted and not answered; a flush may wait for others.
    pub(super) fn has_io_under_way(&self) -> bool {
        self.live > self.flushes.len() as u32
    }

    /// Marks the wholly covered blocks of the run in sync, inward (T27).
    pub(super) fn set_in_sync(&mut self, extent: crate::units::Extent) -> u64 {
        let end = self.end;
        let Some((first, last)) = extent.covered_bits(end) else { return 0 };
        self.marks.sync_uuid_is_new = false;
        self.usable_disk().map_or(0, |disk| disk.bitmap.clear(first, last))
    }
}
