//! Commands about generations and resyncs: new-current-uuid, invalidate, pause, suspend (S43 to
//! S48).

use super::super::Node;
use super::super::command::Outcome;
use super::super::effect::LogLevel;
use super::super::rules::{Manner, StateResult};
use super::super::state::{Conn, Disk, Role, StateChange};
use super::super::uuids::JUST_CREATED;
use super::super::verify::Wish;
use super::super::volume::Volume;
use super::super::worker::Work;
use super::{Job, Stage, TwoPhase, code, outcome_of, unknown_minor};
use crate::units::{Sector, VolumeId};
use crate::wire::packet::Uuids;

impl Node {
    /// `new-current-uuid` (S48).
    pub(super) fn step_new_uuid(&mut self, volume: VolumeId, clear: bool, job: &mut Job) -> Option<Outcome> {
        let Some(v) = self.volumes.get(&volume) else { return Some(unknown_minor()) };
        if v.state.disk < Disk::Inconsistent {
            return Some(Outcome::of(code::NO_DISK));
        }
        let fresh = v.uuids()[0] & !1 == JUST_CREATED;
        let skip = v.state.conn == Conn::Connected && fresh && clear;
        if !skip && v.state.conn != Conn::StandAlone {
            return Some(Outcome::of(code::NOT_STANDALONE));
        }
        if skip {
            self.say(LogLevel::Info, Some(volume), "Preparing to skip initial sync");
        }
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.rotate_bitmap_uuid(0);
        }
        self.make_current_uuid(volume);
        if clear {
            if let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) {
                disk.bitmap.clear_all();
            }
            self.worker.push(Work::WriteBitmap { volume, all: false });
        }
        self.worker.push(Work::SyncMeta { volume });
        if skip {
            self.worker.push(Work::SendUuids { volume, flags: Uuids::SKIP_INITIAL_SYNC });
            self.worker.push(Work::SkipInitialSync { volume });
            self.worker.push(Work::SyncMeta { volume });
        }
        self.after_work(job, outcome_of(StateResult::Success))
    }

    /// Work: the peer has been told that both disks are equal: so they are (S48, W71).
    pub(in super::super) fn skipped_initial_sync(&mut self, volume: VolumeId) {
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.set_bitmap_uuid(0);
        }
        self.say(LogLevel::Info, Some(volume), "cleared bitmap UUID");
        self.peer_has_our_uuids(volume);
        let up = StateChange { pdsk: Some(Disk::UpToDate), ..StateChange::disk(Disk::UpToDate) };
        self.change(volume, up, Manner::HARD);
    }

    /// `invalidate` and `invalidate-remote` (S43).
    pub(super) fn step_invalidate(
        &mut self,
        volume: VolumeId,
        remote: bool,
        job: &mut Job,
    ) -> Option<Outcome> {
        let Some(state) = self.volumes.get(&volume).map(|v| v.state) else { return Some(unknown_minor()) };
        if matches!(job.stage, Stage::Start) && state.disk < Disk::Inconsistent {
            return Some(Outcome::of(code::NO_DISK));
        }
        let alone = state.conn == Conn::StandAlone
            && state.role == if remote { Role::Primary } else { Role::Secondary };
        if matches!(job.stage, Stage::Start | Stage::Draining | Stage::Flushing { .. }) {
            if !self.are_copies_durable(volume, job) {
                return None;
            }
            let change = match (alone, remote) {
                (true, false) => StateChange::disk(Disk::Inconsistent),
                (true, true) => StateChange::pdsk(Disk::Inconsistent),
                (false, false) => StateChange::conn(Conn::StartingSyncT),
                (false, true) => StateChange::conn(Conn::StartingSyncS),
            };
            job.stage = Stage::Asking { request: TwoPhase::new(volume, change), tries: 1, forced: alone };
        }
        let Stage::Asking { request, forced, .. } = &mut job.stage else { return None };
        let alone = *forced;
        let result = self.poll_request(request)?;
        self.open_gate(volume);
        if result == StateResult::Success && alone {
            self.worker.push(Work::SetAllBits { volume });
        }
        self.after_work(job, outcome_of(result))
    }

    /// `pause-sync` and `resume-sync` (S45).
    pub(super) fn pause_sync(&mut self, volume: VolumeId, pause: bool) -> Outcome {
        let Some(state) = self.volumes.get(&volume).map(|v| v.state) else { return unknown_minor() };
        let change = StateChange { user_isp: Some(pause), ..StateChange::NOTHING };
        let result = self.change(volume, change, Manner::SOFT);
        match (result, pause) {
            (StateResult::NothingToDo, true) => Outcome::of(code::PAUSE_SET),
            (StateResult::NothingToDo, false) if state.aftr_isp => Outcome::of(156),
            (StateResult::NothingToDo, false) if state.peer_isp => Outcome::of(157),
            (StateResult::NothingToDo, false) => Outcome::of(code::PAUSE_CLEAR),
            (_, _) => Outcome::of(Outcome::DONE),
        }
    }

    /// `verify` (S47). One that runs already is only told where to stop.
    pub(super) fn step_verify(
        &mut self,
        volume: VolumeId,
        start: Option<Sector>,
        stop: Option<Sector>,
        job: &mut Job,
    ) -> Option<Outcome> {
        let Some(v) = self.volumes.get_mut(&volume) else { return Some(unknown_minor()) };
        if matches!(job.stage, Stage::Start) {
            if let Some(verify) = v.verify.as_mut().filter(|_| v.state.conn == Conn::VerifyS) {
                verify.stop = stop;
            } else {
                v.verify_wish = Wish { start: start.unwrap_or(v.verify_wish.start), stop };
            }
            let request = TwoPhase::new(volume, StateChange::conn(Conn::VerifyS));
            job.stage = Stage::Asking { request, tries: 1, forced: false };
        }
        let Stage::Asking { request, .. } = &mut job.stage else { return None };
        self.poll_request(request).map(outcome_of)
    }

    /// `suspend-io` (S46).
    pub(super) fn suspend_io(&mut self, volume: VolumeId) -> Outcome {
        if !self.volumes.contains_key(&volume) {
            return unknown_minor();
        }
        let change = StateChange { susp: Some(true), ..StateChange::NOTHING };
        outcome_of(self.change(volume, change, Manner::SOFT))
    }

    /// `resume-io` (S46).
    pub(super) fn resume_io(&mut self, volume: VolumeId) -> Outcome {
        let Some(v) = self.volumes.get(&volume) else { return unknown_minor() };
        let connected = v.state.conn >= Conn::Connected;
        let change = StateChange {
            susp: Some(false),
            susp_nod: Some(false),
            susp_fen: Some(false),
            ..StateChange::NOTHING
        };
        if !connected {
            // The suspension is that of all volumes, and so is its end.
            let due = |v: &&Volume| v.marks.new_uuid_due || v.marks.hold_unmirrored;
            let volumes = self.volumes.values().filter(due).map(|v| v.id);
            volumes.for_each(|volume| self.worker.push(Work::NewGeneration { volume }));
        }
        let result = self.change(volume, change, Manner::SOFT);
        if result == StateResult::Success {
            if connected {
                self.settle_generations_due();
                self.resend_requests();
            } else {
                self.worker.push(Work::Sweep);
            }
        }
        outcome_of(result)
    }
}
