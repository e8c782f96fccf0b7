//! `attach` and `detach` (S37, S38).

use super::super::Node;
use super::super::activity_log::ActivityLog;
use super::super::bitmap::Bitmap;
use super::super::command::{Command, DiskFacts, MetaPlace, Outcome};
use super::super::decision::attach as decide;
use super::super::effect::{Device, DiskOp, Effect, LogLevel};
use super::super::input::DiskFault;
use super::super::rules::{Manner, StateResult};
use super::super::shadow::Shadow;
use super::super::state::{Conn, Disk, Role, StateChange, flags};
use super::super::tickets::Purpose;
use super::super::uuids::uuids_text;
use super::super::volume::LocalDisk;
use super::super::worker::Work;
use super::{Job, Stage, TwoPhase, code, outcome_of, unknown_minor};
use crate::buffer::Buf;
use crate::config::options::{DiskOptions, Fencing};
use crate::meta::layout::{Layout, Placement};
use crate::meta::superblock::{MetaFlags, Superblock};
use crate::units::{SECTOR_BYTES, Sector, VolumeId, bits_of};

/// The bitmap is read in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;
/// The number of the read of the superblock; the pieces of the bitmap count on from the next.
const SUPERBLOCK_STEP: u32 = 0;

/// An attach under way.
#[derive(Debug)]
pub(in super::super) struct AttachJob {
    volume: VolumeId,
    facts: DiskFacts,
    options: DiskOptions,
    found: Option<Found>,
    /// The bitmap as read so far.
    bitmap: Option<Bitmap>,
    /// Pieces of the bitmap still to be read, and bytes already read.
    read_bytes: u64,
    failure: Option<Outcome>,
    /// A read is under way.
    reading: bool,
}

/// Valid metadata.
#[derive(Debug)]
struct Found {
    superblock: Superblock,
    layout: Layout,
    /// Sectors this disk can offer.
    offered: Sector,
    /// Size of the device from now on.
    size: Sector,
}

impl Node {
    /// `attach`.
    pub(super) fn step_attach(&mut self, job: &mut Job) -> Option<Outcome> {
        if matches!(job.stage, Stage::Start) {
            if self.is_attach_unanswered(job) {
                return None;
            }
            if let Some(refused) = self.start_attach(job) {
                return Some(refused);
            }
        }
        let Stage::Attaching(attach) = &mut job.stage else { return None };
        if attach.reading {
            return None;
        }
        let volume = attach.volume;
        if let Some(failure) = attach.failure.take() {
            self.force(volume, StateChange::disk(Disk::Diskless));
            self.effects.push_back(Effect::CloseDisk { volume });
            return Some(failure);
        }
        let Stage::Attaching(attach) = std::mem::replace(&mut job.stage, Stage::Start) else { return None };
        match self.finish_attach(*attach) {
            Ok(()) => self.after_work(job, outcome_of(StateResult::Success)),
            Err(failure) => {
                self.force(volume, StateChange::disk(Disk::Diskless));
                self.effects.push_back(Effect::CloseDisk { volume });
                Some(failure)
            }
        }
    }

    /// Whether the peer still owes its answer to an attach that has failed meanwhile: a state and a bitmap
    /// would be taken for the answer to the next one.
    fn is_attach_unanswered(&self, job: &Job) -> bool {
        let Command::Attach { volume, .. } = &job.command else { return false };
        self.volumes.get(volume).is_some_and(|v| v.marks.attach_unanswered && v.state.conn >= Conn::Connected)
    }

    /// The checks before anything is read, and the first read (S37.1 to 6).
    fn start_attach(&mut self, job: &mut Job) -> Option<Outcome> {
        let Command::Attach { volume, disk, options } = &job.command else { return None };
        let (volume, facts, options) = (*volume, disk.clone(), (**options).clone());
        let Some(v) = self.volumes.get(&volume) else {
            self.effects.push_back(Effect::CloseDisk { volume });
            return Some(unknown_minor());
        };
        if v.state.disk != Disk::Diskless || v.disk.is_some() {
            return Some(Outcome::of(code::DISK_IN_USE));
        }
        if let Err(refused) = self.check_disk_options(&options) {
            self.effects.push_back(Effect::CloseDisk { volume });
            return Some(refused);
        }
        let result = self.change(volume, StateChange::disk(Disk::Attaching), Manner::SOFT);
        if result != StateResult::Success {
            self.effects.push_back(Effect::CloseDisk { volume });
            return Some(outcome_of(result));
        }
        let placement = placement(facts.meta);
        let at =
            placement.superblock_sector(facts.meta_bytes / SECTOR_BYTES).map(|sector| sector * SECTOR_BYTES);
        let attach = AttachJob {
            volume,
            facts,
            options,
            found: None,
            bitmap: None,
            read_bytes: 0,
            failure: at.as_ref().err().map(|error| Outcome::with(118, error.to_string())),
            reading: at.is_ok(),
        };
        if let Ok(offset) = at {
            let op = DiskOp::Read { offset, len: 4096 };
            self.start_disk(volume, Device::Meta, op, Purpose::Attach { step: SUPERBLOCK_STEP });
        }
        job.stage = Stage::Attaching(Box::new(attach));
        None
    }

    /// A read of the attach procedure ended.
    pub(in super::super) fn attach_read(
        &mut self,
        volume: VolumeId,
        step: u32,
        result: Result<Option<Buf>, DiskFault>,
    ) {
        let open_count = self.volumes.get(&volume).map_or(Sector::new(0), |v| v.end);
        let Some(Job { stage: Stage::Attaching(attach), .. }) = self.jobs.queue.front_mut() else { return };
        attach.reading = false;
        let next = match result {
            Ok(Some(data)) if step == SUPERBLOCK_STEP => attach.take_superblock(data.bytes(), open_count),
            Ok(Some(data)) => attach.take_bitmap(data.bytes()),
            Ok(None) | Err(_) => {
                let text = format!("reading the metadata of {} failed", attach.facts.path);
                Err(Outcome::with(118, text))
            }
        };
        match next {
            Ok(Some((offset, len))) => {
                attach.reading = true;
                let op = DiskOp::Read { offset, len };
                self.start_disk(volume, Device::Meta, op, Purpose::Attach { step: step + 1 });
            }
            Ok(None) => {}
            Err(failure) => attach.failure = Some(failure),
        }
        self.state_serial += 1;
    }

    /// Everything is read: decides what the disk is worth, and takes it into use (S37.7 to 14).
    fn finish_attach(&mut self, attach: AttachJob) -> Result<(), Outcome> {
        let AttachJob { volume, facts, options, found, bitmap, .. } = attach;
        let (Some(found), Some(bitmap)) = (found, bitmap) else {
            return Err(Outcome::of(118));
        };
        let Some(v) = self.volumes.get_mut(&volume) else { return Err(unknown_minor()) };
        let Found { mut superblock, layout, offered, size } = found;
        let state = v.state;
        let current = superblock.uuids.current;
        if !decide::is_acceptable(state, v.exposed_uuid, current, v.marks.newer_elsewhere) {
            return Err(Outcome::with(150, decide::unacceptable_text(v.exposed_uuid)));
        }
        let word = superblock.flags.bits();
        let decided = decide::decide(&decide::Facts {
            flags: word,
            counts_bits: superblock.uuids.bitmap != 0,
            was_primary: current & 1 != 0,
            role: state.role,
            susp_nod: state.susp_nod,
            pdsk: state.pdsk,
            fencing: options.fencing != Fencing::DontCare,
        });
        // A Primary that gets its disk back did not crash (S37.9), but no new generation tells of the bits that
        // its activity log has left.
        let has_bits = state.role == Role::Primary && bitmap.count() > 0;
        v.marks.crashed_primary = decided.crashed_primary || has_bits;
        v.marks.use_degr_wfc = decided.use_degr_wfc;
        v.marks.target_unheard = decided.target_unheard;
        v.marks.io_error = false;
        v.marks.sync_uuid_is_new = false;
        let grown = v.end.get() != 0 && size > v.end;
        v.marks.resync_after_negotiation = grown;
        v.end = size;
        superblock.mark_attached();
        if decided.full_sync {
            // With the flags that say why taken back, nothing but this tells of it until the bits are set (M91).
            superblock.flags = superblock.flags | MetaFlags::FULL_SYNC;
        }
        superblock.al_slots = options.al_extents;
        let all_set = bitmap.count() == bits_of(size) && size.get() > 0;
        let al = ActivityLog::new(options.al_extents, layout.striping());
        v.disk = Some(Box::new(LocalDisk {
            facts,
            layout,
            options,
            superblock,
            offered,
            dirty: true,
            marked_primary: word & flags::PRIMARY_IND != 0,
            bitmap,
            shadow: Shadow::default(),
            al,
            transaction: None,
            unflushed: true, // A daemon that was killed may have left data in a cache (T37).
            flushing: 0,
            last_flush: false,
            failed: false,
            spoiled: false,
        }));
        let text = format!("attached to UUIDs {}", uuids_text(v.uuids()));
        if decided.full_sync {
            self.say(LogLevel::Info, Some(volume), decide::FULL_SYNC_TEXT);
        }
        self.say(LogLevel::Info, Some(volume), text);
        self.take_disk(volume, &decided, all_set, state.conn);
        Ok(())
    }

    /// Enters the state the disk deserves; with a connection the handshake decides (S37.13).
    fn take_disk(&mut self, volume: VolumeId, decided: &decide::Decision, all_set: bool, conn: Conn) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        v.marks.al_suspended = all_set && conn < Conn::Connected;
        v.marks.attach_unanswered = conn >= Conn::Connected;
        if conn >= Conn::Connected {
            v.negotiated = Some((decided.disk, decided.pdsk.unwrap_or(v.state.pdsk)));
            v.peer_uuids = None;
            self.force(volume, StateChange::disk(Disk::Negotiating));
        } else {
            let change = StateChange { pdsk: decided.pdsk, ..StateChange::disk(decided.disk) };
            self.force(volume, change);
        }
        if let Some(v) = self.volumes.get_mut(&volume) {
            let current = v.uuids()[0];
            v.set_current(current);
        }
        if decided.full_sync {
            self.worker.push(Work::SetAllBits { volume });
        }
        // The superblock says "attached" before any I/O (M93), and the bits that were set are on disk.
        self.close_gate(volume);
        self.worker.push(Work::WriteBitmap { volume, all: false });
        self.worker.push(Work::SyncMeta { volume });
        self.worker.push(Work::OpenGate { volume });
        let text = format!("size = {} KB", self.volumes.get(&volume).map_or(0, |v| v.end.get()) / 2);
        self.say(LogLevel::Info, Some(volume), text);
    }

    /// `detach`.
    pub(super) fn step_detach(&mut self, job: &mut Job) -> Option<Outcome> {
        let Command::Detach { volume, force } = job.command else { return None };
        let Some(state) = self.volumes.get(&volume).map(|v| v.state) else { return Some(unknown_minor()) };
        if matches!(job.stage, Stage::Detaching) {
            return (state.disk == Disk::Diskless).then(|| outcome_of(StateResult::Success));
        }
        if force {
            if state.disk == Disk::Diskless {
                return Some(outcome_of(StateResult::NothingToDo));
            }
            self.force(volume, StateChange::disk(Disk::Failed));
            job.stage = Stage::Detaching;
            return None;
        }
        if !self.are_copies_durable(volume, job) {
            return None;
        }
        if matches!(job.stage, Stage::Flushing { .. }) {
            let request = TwoPhase::new(volume, StateChange::disk(Disk::Failed));
            job.stage = Stage::Asking { request, tries: 1, forced: false };
        }
        let Stage::Asking { request, .. } = &mut job.stage else { return None };
        let result = self.poll_request(request)?;
        self.open_gate(volume);
        match result {
            StateResult::Success | StateResult::NothingToDo => {
                job.stage = Stage::Detaching;
                None
            }
            StateResult::IsDiskless => Some(outcome_of(StateResult::NothingToDo)),
            refused => Some(outcome_of(refused)),
        }
    }
}

impl AttachJob {
    /// Checks the superblock (M24); the next read, if the bitmap has to be read.
    fn take_superblock(&mut self, block: &[u8], shown: Sector) -> Result<Option<(u64, usize)>, Outcome> {
        let Ok(block) = <&[u8; 4096]>::try_from(block) else { return Err(Outcome::of(118)) };
        let capacity = self.facts.meta_bytes / SECTOR_BYTES;
        let (superblock, layout) = Superblock::decode(block, placement(self.facts.meta), capacity)
            .map_err(|error| Outcome::with(119, error.to_string()))?;
        if !superblock.is_clean() {
            let text = "the activity log has not been applied: urbdadm apply-al (attach does it)";
            return Err(Outcome::with(165, text));
        }
        let backing = Sector::new(self.facts.data_bytes / SECTOR_BYTES);
        let configured = Sector::new(self.options.size_sectors);
        let offered = superblock
            .check_attach(&layout, backing, configured)
            .map_err(|error| Outcome::with(i32::from(error.code()), error.to_string()))?;
        if shown.get() > offered.get() {
            let text = format!("the disk has {} sectors, the device in use {}", offered.get(), shown.get());
            return Err(Outcome::with(111, text));
        }
        // Without a peer the size agreed last stays; a first attach takes what there is (W58).
        // More than the disk has is none of a sound superblock, and has no bits.
        let last = superblock.la_size.min(offered);
        let size = match (last.get(), configured.get()) {
            (0, _) => offered,
            (_, 0) => Sector::new(last.get().min(offered.get())),
            (_, wanted) => Sector::new(wanted.min(offered.get())),
        };
        let full_sync = superblock.flags.need_full_sync();
        self.found = Some(Found { superblock, layout, offered, size });
        let mut bitmap = Bitmap::new(size);
        if last.get() == 0 || full_sync {
            bitmap.set_all();
            self.bitmap = Some(bitmap);
            return Ok(None);
        }
        // At a changed size the old bits stay, those of the added range are set (M48).
        self.bitmap = Some(Bitmap::new(last));
        Ok(self.next_piece())
    }

    fn next_piece(&self) -> Option<(u64, usize)> {
        let (found, bitmap) = (self.found.as_ref()?, self.bitmap.as_ref()?);
        let total = bitmap.pages() * 4096;
        let len = PIECE_BYTES.min(total.saturating_sub(self.read_bytes));
        (len > 0).then(|| (found.layout.bitmap_byte() + self.read_bytes, len as usize))
    }

    fn take_bitmap(&mut self, bytes: &[u8]) -> Result<Option<(u64, usize)>, Outcome> {
        let Some(bitmap) = self.bitmap.as_mut() else { return Err(Outcome::of(118)) };
        let first = self.read_bytes / 4096;
        for (page, bytes) in (first..).zip(bytes.chunks_exact(4096)) {
            bitmap.load_page(page, bytes);
        }
        self.read_bytes += bytes.len() as u64;
        let next = self.next_piece();
        if next.is_none()
            && let (Some(found), Some(bitmap)) = (&self.found, self.bitmap.as_mut())
            && found.size != bitmap.end()
        {
            bitmap.resize(found.size, true);
        }
        Ok(next)
    }
}

/// The layout's word for where the metadata lies.
fn placement(meta: MetaPlace) -> Placement {
    match meta {
        MetaPlace::Internal => Placement::Internal,
        MetaPlace::FlexExternal => Placement::Flexible,
        MetaPlace::Indexed(index) => Placement::Indexed(u8::try_from(index).unwrap_or(u8::MAX)),
    }
}
