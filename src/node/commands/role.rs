//! `primary`, `secondary` and `outdate` (S42, S44).

use std::time::Duration;

use super::super::Node;
use super::super::command::Outcome;
use super::super::effect::LogLevel;
use super::super::rules::StateResult;
use super::super::state::{Conn, Disk, Role, StateChange};
use super::super::transfer_log::Req;
use super::super::worker::Work;
use super::{Job, Stage, TwoPhase, outcome_of, unknown_minor};
use crate::units::VolumeId;

/// How often a promotion is tried (S42.1).
const TRIES: u32 = 4;

impl Node {
    /// `primary`.
    pub(super) fn step_primary(&mut self, volume: VolumeId, force: bool, job: &mut Job) -> Option<Outcome> {
        if !self.volumes.contains_key(&volume) {
            return Some(unknown_minor());
        }
        let promote = StateChange::role(Role::Primary);
        if let Stage::Sleeping { until, tries } = job.stage {
            if self.now < until {
                return None;
            }
            job.stage = Stage::Asking { request: TwoPhase::new(volume, promote), tries, forced: false };
        }
        if matches!(job.stage, Stage::Start) {
            self.ping(); // Finds out early whether the peer is dead (S42.0).
            job.stage =
                Stage::Asking { request: TwoPhase::new(volume, promote), tries: TRIES, forced: false };
        }
        let Stage::Asking { request, tries, forced } = &mut job.stage else { return None };
        let result = self.poll_request(request)?;
        let (change, tries, forced) = (request.change, *tries, *forced);
        match result {
            StateResult::Success => self.promoted(volume, forced, job),
            StateResult::NothingToDo => Some(outcome_of(result)),
            refused => self.retry_promotion(volume, force, refused, (change, tries, forced), job),
        }
    }

    /// A refused promotion: what may be tried next (S42.1 b to g).
    fn retry_promotion(
        &mut self,
        volume: VolumeId,
        force: bool,
        refused: StateResult,
        (mut change, tries, mut forced): (StateChange, u32, bool),
        job: &mut Job,
    ) -> Option<Outcome> {
        if tries <= 1 {
            return Some(self.refuse_promotion(volume, refused));
        }
        let disk = self.volumes.get(&volume).map_or(Disk::Diskless, |v| v.state.disk);
        match refused {
            StateResult::CwFailedByPeer if change.pdsk.is_some() => change.pdsk = None,
            StateResult::NoUpToDateDisk
                if force && (Disk::Inconsistent..Disk::UpToDate).contains(&disk) && change.disk.is_none() =>
            {
                change.disk = Some(Disk::UpToDate);
                forced = true;
            }
            StateResult::PrimaryNop if force && change.pdsk.is_none() => {
                self.say(LogLevel::Warn, Some(volume), "Forced into split brain situation!");
                change.pdsk = Some(Disk::Outdated);
            }
            StateResult::TwoPrimaries if tries == TRIES => {
                // The peer may just be giving the role up: once more after a ping's time (S42.1 f).
                let ds = self.link().config.as_ref().map_or(5, |c| c.options.ping_timeout_ds);
                let until = self.now.after(Duration::from_millis((u64::from(ds) + 1) * 100));
                job.stage = Stage::Sleeping { until, tries: 1 };
                return None;
            }
            _ => return Some(self.refuse_promotion(volume, refused)),
        }
        job.stage = Stage::Asking { request: TwoPhase::new(volume, change), tries: tries - 1, forced };
        self.step_primary(volume, force, job)
    }

    fn refuse_promotion(&mut self, volume: VolumeId, refused: StateResult) -> Outcome {
        let text = format!("State change failed: {}", refused.message());
        self.say(LogLevel::Info, Some(volume), text);
        outcome_of(refused)
    }

    /// The role is Primary: the generation, the mark on disk, and the peer's knowledge follow before
    /// any client may write (S42.2 to 5, M86, T37).
    fn promoted(&mut self, volume: VolumeId, forced: bool, job: &mut Job) -> Option<Outcome> {
        if let Some(config) = &mut self.link_mut().config {
            config.discard_my_data = false;
        }
        if forced {
            self.say(LogLevel::Warn, Some(volume), "Forced to consider local data as UpToDate!");
        }
        let Some(v) = self.volumes.get_mut(&volume) else { return Some(unknown_minor()) };
        let (state, [current, bitmap, ..]) = (v.state, v.uuids());
        if state.disk >= Disk::Inconsistent {
            let alone = state.conn < Conn::Connected || state.pdsk <= Disk::Failed;
            if forced || (alone && bitmap == 0) {
                self.make_current_uuid(volume);
            } else {
                v.set_current(current);
            }
        }
        // Clients may open it at once, but not write before that (M86).
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.gate += 1;
        }
        self.worker.push(Work::FlushData { volume });
        self.worker.push(Work::SyncMeta { volume });
        self.worker.push(Work::OpenGate { volume });
        if state.conn >= Conn::WFReportParams {
            if forced {
                self.worker.push(Work::SendUuids { volume, flags: 0 });
            }
            self.worker.push(Work::SendState { volume });
        }
        self.after_work(job, outcome_of(StateResult::Success))
    }

    /// `secondary`: all that was written is settled first, so that nothing is out of sync behind
    /// the back of a node that is no longer Primary (T38, M87).
    pub(super) fn step_secondary(&mut self, volume: VolumeId, job: &mut Job) -> Option<Outcome> {
        let Some(v) = self.volumes.get_mut(&volume) else { return Some(unknown_minor()) };
        if v.state.role == Role::Secondary {
            return Some(outcome_of(StateResult::NothingToDo));
        }
        if v.open_count > 0 {
            let text = format!("{} client(s) have it open", v.open_count);
            let code = StateResult::DeviceInUse.code();
            return Some(Outcome::with(code, text));
        }
        if matches!(job.stage, Stage::Start) {
            self.close_epoch();
            self.barrier_if_due();
            job.stage = Stage::Draining;
        }
        if matches!(job.stage, Stage::Draining) {
            let postponed = self.volumes.get(&volume).is_some_and(|v| !v.postponed.is_empty());
            let busy = postponed
                || self.log.iter().any(|(_, req)| req.volume == volume)
                || self.log.barriers_outstanding();
            if busy && self.holds_back(volume) {
                let text = "requests are held back while I/O is suspended: resume-io first";
                return Some(Outcome::with(StateResult::DeviceInUse.code(), text));
            }
            if busy {
                return None;
            }
            let request = TwoPhase::new(volume, StateChange::role(Role::Secondary));
            job.stage = Stage::Asking { request, tries: 1, forced: false };
        }
        let Stage::Asking { request, .. } = &mut job.stage else { return None };
        let result = self.poll_request(request)?;
        if result != StateResult::Success {
            return Some(self.refuse_promotion(volume, result));
        }
        if let Some(v) = self.volumes.get_mut(&volume) {
            let current = v.uuids()[0];
            v.set_current(current); // Takes the role bit back (S52).
        }
        if self.link().is_up() {
            self.worker.push(Work::SendState { volume });
        }
        self.worker.push(Work::SyncMeta { volume });
        self.after_work(job, outcome_of(StateResult::Success))
    }

    /// Whether requests of the volume are not completed for no other reason than a suspension.
    fn holds_back(&self, volume: VolumeId) -> bool {
        let held = |(_, req): (_, &Req)| req.volume == volume && !req.completed && req.legs_ended();
        self.volumes
            .get(&volume)
            .is_some_and(|v| v.state.is_suspended() && (!v.postponed.is_empty() || self.log.iter().any(held)))
    }

    /// `outdate` (S44).
    pub(super) fn step_outdate(&mut self, volume: VolumeId, job: &mut Job) -> Option<Outcome> {
        if !self.volumes.contains_key(&volume) {
            return Some(unknown_minor());
        }
        if matches!(job.stage, Stage::Start) {
            let request = TwoPhase::new(volume, StateChange::disk(Disk::Outdated));
            job.stage = Stage::Asking { request, tries: 1, forced: false };
        }
        let Stage::Asking { request, .. } = &mut job.stage else { return None };
        let result = self.poll_request(request)?;
        self.after_work(job, outcome_of(result))
    }
}
