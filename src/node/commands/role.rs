//! `primary`, `secondary` and `outdate` (S42, S44).

use std::time::Duration;

use super::super::Node;
use super::super::command::{CommandId, Outcome};
use super::super::effect::LogLevel;
use super::super::fencing::Fence;
use super::super::rules::StateResult;
use super::super::state::{Conn, Disk, Role, StateChange};
use super::super::transfer_log::Req;
use super::super::worker::Work;
use super::{Job, Promotion, Stage, TwoPhase, outcome_of, unknown_minor};
use crate::units::VolumeId;

/// How often a promotion is tried (S42.1).
const TRIES: u32 = 4;

impl Node {
    /// `primary`.
    pub(super) fn step_primary(&mut self, volume: VolumeId, force: bool, job: &mut Job) -> Option<Outcome> {
        if !self.volumes.contains_key(&volume) {
            return Some(unknown_minor());
        }
        match job.stage {
            Stage::Start => {
                self.ping(); // Finds out early whether the peer is dead (S42.0).
                let change = StateChange::role(Role::Primary);
                job.stage = asking(volume, Promotion { change, tries: TRIES, forced: false });
            }
            Stage::Sleeping { until, .. } if self.now < until => return None,
            Stage::Sleeping { promotion, .. } => job.stage = asking(volume, promotion),
            Stage::Fencing { done: None, .. } => return None,
            Stage::Fencing { promotion, refused, done: Some(fenced) } => {
                return self.after_fencing(volume, force, refused, fenced, promotion, job);
            }
            _ => {}
        }
        let Stage::Asking { request, tries, forced } = &mut job.stage else { return None };
        let result = self.poll_request(request)?;
        let promotion = Promotion { change: request.change, tries: *tries, forced: *forced };
        match result {
            StateResult::Success => self.promoted(volume, promotion.forced, job),
            StateResult::NothingToDo => Some(outcome_of(result)),
            refused => self.retry_promotion(volume, force, refused, promotion, job),
        }
    }

    /// A refused promotion: what may be tried next (S42.1 a to g).
    fn retry_promotion(
        &mut self,
        volume: VolumeId,
        force: bool,
        refused: StateResult,
        mut promotion: Promotion,
        job: &mut Job,
    ) -> Option<Outcome> {
        let disk = self.volumes.get(&volume).map_or(Disk::Diskless, |v| v.state.disk);
        let Promotion { change, tries, .. } = promotion;
        match refused {
            StateResult::CwFailedByPeer if change.pdsk.is_some() => promotion.change.pdsk = None,
            StateResult::NoUpToDateDisk
                if force && (Disk::Inconsistent..Disk::UpToDate).contains(&disk) && change.disk.is_none() =>
            {
                promotion.change.disk = Some(Disk::UpToDate);
                promotion.forced = true;
            }
            StateResult::NoUpToDateDisk if disk == Disk::Consistent && change.pdsk.is_none() => {
                return self.fence_and_retry(volume, force, refused, promotion, job);
            }
            StateResult::PrimaryNop if change.pdsk.is_none() => {
                return self.fence_and_retry(volume, force, refused, promotion, job);
            }
            StateResult::TwoPrimaries if tries == TRIES => {
                // The peer may just be giving the role up: once more after a ping's time (S42.1 f).
                let ds = self.link().config.as_ref().map_or(5, |c| c.options.ping_timeout_ds);
                let until = self.now.after(Duration::from_millis((u64::from(ds) + 1) * 100));
                promotion.tries = 1;
                job.stage = Stage::Sleeping { until, promotion };
                return None;
            }
            _ => return Some(self.refuse_promotion(volume, refused)),
        }
        self.next_try(volume, force, refused, promotion, job)
    }

    /// One try less; the refusal if none is left.
    fn next_try(
        &mut self,
        volume: VolumeId,
        force: bool,
        refused: StateResult,
        mut promotion: Promotion,
        job: &mut Job,
    ) -> Option<Outcome> {
        if promotion.tries <= 1 {
            return Some(self.refuse_promotion(volume, refused));
        }
        promotion.tries -= 1;
        job.stage = asking(volume, promotion);
        self.step_primary(volume, force, job)
    }

    /// The peer's disk could be as good as ours: fence it, then try again (S42.1 c and e).
    fn fence_and_retry(
        &mut self,
        volume: VolumeId,
        force: bool,
        refused: StateResult,
        promotion: Promotion,
        job: &mut Job,
    ) -> Option<Outcome> {
        match self.begin_fencing(Some(job.id)) {
            Fence::Ended(success) => self.after_fencing(volume, force, refused, success, promotion, job),
            Fence::Running => {
                job.stage = Stage::Fencing { promotion, refused, done: None };
                None
            }
        }
    }

    fn after_fencing(
        &mut self,
        volume: VolumeId,
        force: bool,
        refused: StateResult,
        fenced: bool,
        mut promotion: Promotion,
        job: &mut Job,
    ) -> Option<Outcome> {
        match (refused, fenced) {
            (StateResult::NoUpToDateDisk, true) => promotion.change.disk = Some(Disk::UpToDate),
            (StateResult::PrimaryNop, false) if force => {
                self.say(LogLevel::Warn, Some(volume), "Forced into split brain situation!");
                promotion.change.pdsk = Some(Disk::Outdated);
            }
            _ => {}
        }
        self.next_try(volume, force, refused, promotion, job)
    }

    /// fence-peer, called for a promotion, has ended.
    pub(in super::super) fn promotion_fenced(&mut self, command: CommandId, success: bool) {
        for job in &mut self.jobs.queue {
            if job.id == command
                && let Stage::Fencing { done, .. } = &mut job.stage
            {
                *done = Some(success);
                self.state_serial += 1;
            }
        }
    }

    /// Whether a promotion waits for fence-peer.
    pub(in super::super) fn is_fencing_promotion(&self) -> bool {
        self.jobs.queue.front().is_some_and(|job| matches!(job.stage, Stage::Fencing { done: None, .. }))
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
        let (state, [current, ..]) = (v.state, v.uuids());
        if state.disk >= Disk::Inconsistent {
            let alone = state.conn < Conn::Connected || state.pdsk <= Disk::Failed;
            if forced || (alone && v.lacks_own_generation()) {
                self.make_current_uuid(volume);
            } else {
                v.set_current(current);
            }
        }
        // Clients may open it at once, but not write before that (M86).
        self.close_gate(volume);
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
        if matches!(job.stage, Stage::Start | Stage::Draining | Stage::Flushing { .. }) {
            match self.settle_own_writes(volume, job) {
                Err(refused) => return Some(refused),
                Ok(false) => return None,
                Ok(true) => {}
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

    /// Waits for what this Primary has written: until the transfer log is empty, and then for the flush of the own
    /// disk. A crash before the superblock says Secondary makes this node the source, whatever its cache lost
    /// (rule 40); and a disk that cannot be flushed fails while a generation is still made for that (A9).
    fn settle_own_writes(&mut self, volume: VolumeId, job: &mut Job) -> Result<bool, Outcome> {
        if matches!(job.stage, Stage::Start) {
            self.close_epoch();
            self.barrier_if_due();
            job.stage = Stage::Draining;
        }
        let admitted =
            self.volumes.get(&volume).is_some_and(|v| v.has_io_under_way() || !v.postponed.is_empty());
        let requests = admitted || self.log.iter().any(|(_, req)| req.volume == volume);
        if let Stage::Flushing { done } = job.stage {
            if done && requests {
                job.stage = Stage::Start; // A client came and went meanwhile.
                self.state_serial += 1;
            }
            return Ok(done && !requests);
        }
        let busy = requests || self.log.barriers_outstanding();
        if busy && self.holds_back(volume) {
            let text = "requests are held back while I/O is suspended: resume-io first";
            return Err(Outcome::with(StateResult::DeviceInUse.code(), text));
        }
        if !busy {
            self.flush_for(volume, job);
        }
        Ok(false)
    }

    /// Whether requests of the volume do not end for no other reason than a suspension: they are not completed, or
    /// wait for a barrier ack of a peer that is gone.
    fn holds_back(&self, volume: VolumeId) -> bool {
        let Some(v) = self.volumes.get(&volume).filter(|v| v.state.is_suspended()) else { return false };
        let alone = !self.link().is_up();
        let held =
            |(_, req): (_, &Req)| req.volume == volume && req.legs_ended() && (alone || !req.completed);
        !v.postponed.is_empty() || self.log.iter().any(held) || (alone && self.log.barriers_outstanding())
    }

    /// `outdate` (S44). While connected, Z5 would make the wish UpToDate: a disk that is less than
    /// Outdated is refused before that, or it would be called good by it.
    pub(super) fn step_outdate(&mut self, volume: VolumeId, job: &mut Job) -> Option<Outcome> {
        let Some(v) = self.volumes.get(&volume) else { return Some(unknown_minor()) };
        if matches!(job.stage, Stage::Start) {
            if v.state.disk < Disk::Outdated {
                return Some(outcome_of(StateResult::LowerThanOutdated));
            }
            let request = TwoPhase::new(volume, StateChange::disk(Disk::Outdated));
            job.stage = Stage::Asking { request, tries: 1, forced: false };
        }
        let Stage::Asking { request, .. } = &mut job.stage else { return None };
        let result = self.poll_request(request)?;
        self.after_work(job, outcome_of(result))
    }
}

/// The next try of a promotion.
const fn asking(volume: VolumeId, promotion: Promotion) -> Stage {
    let Promotion { change, tries, forced } = promotion;
    Stage::Asking { request: TwoPhase::new(volume, change), tries, forced }
}
