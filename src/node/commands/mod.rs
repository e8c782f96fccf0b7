//! Administrators' commands: one at a time for a resource (S36), each a small state machine that is
//! stepped whenever something happened.

mod attach;
mod giving_up;
mod network;
mod options;
mod role;
mod sync;
mod two_phase;

use std::collections::VecDeque;

use super::Node;
use super::command::{Command, CommandId, Outcome};
use super::effect::Effect;
use super::rules::StateResult;
use super::state::{Disk, Role, StateChange};
use super::volume::Volume;
use super::worker::Work;
use crate::units::{Moment, VolumeId};

pub(super) use attach::AttachJob;
pub(super) use giving_up::Asked;
use two_phase::TwoPhase;

/// Configuration errors of S35 that the core reports.
mod code {
    pub(super) const DISK_IN_USE: i32 = 124;
    pub(super) const NET_IN_USE: i32 = 125;
    pub(super) const UNKNOWN_MINOR: i32 = 127;
    pub(super) const NO_DISK: i32 = 138;
    pub(super) const PROTOCOL_C: i32 = 139;
    pub(super) const DISCARD_PRIMARY: i32 = 123;
    pub(super) const PAUSE_SET: i32 = 134;
    pub(super) const PAUSE_CLEAR: i32 = 135;
    pub(super) const NOT_STANDALONE: i32 = 151;
    pub(super) const MINOR_IN_USE: i32 = 160;
    pub(super) const MINOR_EXISTS: i32 = 161;
    pub(super) const UNKNOWN_CONNECTION: i32 = 162;
    pub(super) const STONITH_AND_A: i32 = 154;
    pub(super) const UNKNOWN_ALG: i32 = 120;
    pub(super) const VERIFY_RUNS: i32 = 149;
}

/// A command under way.
#[derive(Debug)]
pub(super) struct Job {
    id: CommandId,
    command: Command,
    /// The steps a composite command still has to do.
    rest: VecDeque<Command>,
    stage: Stage,
}

/// How far a command is.
#[derive(Debug)]
enum Stage {
    Start,
    /// A state change is being asked for; `tries` are left, `forced` says what was added to it.
    Asking {
        request: TwoPhase,
        tries: u32,
        forced: bool,
    },
    /// Waits for the transfer log to be empty (T38).
    Draining,
    /// Waits for the flush of the own disk.
    Flushing {
        done: bool,
    },
    /// Waits for the worker; then the outcome is this.
    Working {
        woken: bool,
        outcome: Outcome,
    },
    /// Waits for a moment, then goes on asking.
    Sleeping {
        until: Moment,
        promotion: Promotion,
    },
    /// The fence-peer handler runs; then whether it was a success.
    Fencing {
        promotion: Promotion,
        refused: StateResult,
        done: Option<bool>,
    },
    /// Reads the metadata.
    Attaching(Box<AttachJob>),
    /// The peer was asked to agree to a disconnect; `outdate` says that it was asked with our disk
    /// Outdated.
    Parting {
        outdate: bool,
    },
    /// Waits for StandAlone.
    Closing,
    /// Waits until the disk is gone.
    Detaching,
}

/// A promotion between two tries.
#[derive(Clone, Copy, Debug)]
struct Promotion {
    change: StateChange,
    tries: u32,
    forced: bool,
}

/// Commands queued and under way.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    queue: VecDeque<Job>,
}

impl Jobs {
    /// When a command that sleeps goes on.
    pub(super) fn deadline(&self) -> Option<Moment> {
        match self.queue.front()?.stage {
            Stage::Sleeping { until, .. } => Some(until),
            _ => None,
        }
    }
}

impl Node {
    /// A command arrived. Opens, closes and resume-io do not queue behind others.
    pub(super) fn on_command(&mut self, id: CommandId, command: Command) {
        match command {
            Command::Open { volume, read_only } => self.open(id, volume, read_only),
            Command::Close { volume } => {
                if let Some(v) = self.volumes.get_mut(&volume) {
                    v.open_count = v.open_count.saturating_sub(1);
                }
                self.effects.push_back(Effect::StatusChanged);
                self.state_serial += 1;
            }
            // The way out for a command that waits for requests which wait for this.
            Command::ResumeIo { volume } => {
                let outcome = self.resume_io(volume);
                self.effects.push_back(Effect::CommandDone { id, outcome });
            }
            command => {
                let rest = VecDeque::new();
                self.jobs.queue.push_back(Job { id, command, rest, stage: Stage::Start });
            }
        }
    }

    /// A client opens a volume: only a Primary's (D47).
    fn open(&mut self, id: CommandId, volume: VolumeId, _read_only: bool) {
        let name = self.name.clone();
        let outcome = match self.volumes.get_mut(&volume) {
            None => Outcome::with(code::UNKNOWN_MINOR, format!("resource {name} has no volume {volume}")),
            Some(v) if v.state.role != Role::Primary => Outcome::with(
                StateResult::NoUpToDateDisk.code(),
                format!(
                    "{name}/{volume} is Secondary on this node: make it Primary first (urbdadm primary {name})"
                ),
            ),
            Some(v) if v.end.get() == 0 => {
                Outcome::with(StateResult::NoUpToDateDisk.code(), format!("{name}/{volume} has no size yet"))
            }
            Some(v) => {
                v.open_count += 1;
                self.effects.push_back(Effect::StatusChanged);
                Outcome::of(StateResult::Success.code())
            }
        };
        self.effects.push_back(Effect::CommandDone { id, outcome });
    }

    /// Steps the commands until the first has to wait.
    pub(super) fn run_jobs(&mut self) {
        while let Some(mut job) = self.jobs.queue.pop_front() {
            let Some(outcome) = self.step(&mut job) else {
                self.jobs.queue.push_front(job);
                return;
            };
            match job.rest.pop_front() {
                Some(next) if outcome.is_success() || outcome.code == code::UNKNOWN_CONNECTION => {
                    job.command = next;
                    job.stage = Stage::Start;
                    self.jobs.queue.push_front(job);
                }
                Some(_) | None => {
                    let outcome = self.composite_outcome(&job, outcome);
                    self.effects.push_back(Effect::CommandDone { id: job.id, outcome });
                    self.effects.push_back(Effect::StatusChanged);
                }
            }
        }
    }

    /// The last step of `down` may find nothing to disconnect: that is success.
    fn composite_outcome(&self, job: &Job, outcome: Outcome) -> Outcome {
        let last_of_down = outcome.code == code::UNKNOWN_CONNECTION
            && matches!(job.command, Command::Disconnect { .. })
            && self.volumes.is_empty();
        if last_of_down { Outcome::of(Outcome::DONE) } else { outcome }
    }

    /// One step of a command; its outcome once it ended.
    fn step(&mut self, job: &mut Job) -> Option<Outcome> {
        if let Stage::Working { woken, outcome } = &job.stage {
            return woken.then(|| outcome.clone());
        }
        match &job.command {
            Command::NewMinor { volume, minor } => Some(self.new_minor(*volume, *minor)),
            Command::DelMinor { volume } => Some(self.del_minor(*volume)),
            Command::Attach { .. } => self.step_attach(job),
            Command::Detach { .. } => self.step_detach(job),
            Command::Connect { .. } => Some(self.connect(&job.command)),
            Command::Disconnect { force } => self.step_disconnect(*force, job),
            Command::Primary { volume, force } => self.step_primary(*volume, *force, job),
            Command::Secondary { volume } => self.step_secondary(*volume, job),
            Command::Outdate { volume } => self.step_outdate(*volume, job),
            Command::Invalidate { volume } => self.step_invalidate(*volume, false, job),
            Command::InvalidateRemote { volume } => self.step_invalidate(*volume, true, job),
            Command::NewCurrentUuid { volume, clear_bitmap } => {
                self.step_new_uuid(*volume, *clear_bitmap, job)
            }
            Command::PauseSync { volume } => Some(self.pause_sync(*volume, true)),
            Command::ResumeSync { volume } => Some(self.pause_sync(*volume, false)),
            Command::Verify { volume, start, stop } => self.step_verify(*volume, *start, *stop, job),
            Command::SuspendIo { volume } => Some(self.suspend_io(*volume)),
            Command::ChangeDiskOptions { .. }
            | Command::ChangeNetOptions { .. }
            | Command::ChangeResourceOptions { .. } => Some(self.change_options(&job.command)),
            Command::Open { .. } | Command::Close { .. } | Command::ResumeIo { .. } => {
                Some(Outcome::of(Outcome::DONE))
            }
            Command::Down => {
                job.rest = self.plan_down();
                Some(Outcome::of(Outcome::DONE))
            }
        }
    }

    /// Demote all, disconnect, detach all, delete all (S50).
    fn plan_down(&self) -> VecDeque<Command> {
        let ids = self.volume_ids();
        let mut plan: VecDeque<Command> = ids.iter().map(|&volume| Command::Secondary { volume }).collect();
        plan.push_back(Command::Disconnect { force: false });
        plan.extend(ids.iter().map(|&volume| Command::Detach { volume, force: false }));
        plan.extend(ids.iter().map(|&volume| Command::DelMinor { volume }));
        plan
    }

    fn new_minor(&mut self, volume: VolumeId, minor: u32) -> Outcome {
        if self.volumes.contains_key(&volume) {
            return Outcome::with(code::MINOR_EXISTS, format!("volume {volume} exists already"));
        }
        let conn = self.link().cstate;
        let state = super::state::State { conn, ..super::state::State::NEW };
        self.volumes.insert(volume, Volume::new(volume, minor, state));
        if self.link().is_up() {
            // Announced without a disk first (W25a).
            self.send_sync_param(volume);
            self.send_sizes(volume, 0);
            self.send_state(volume);
        }
        Outcome::of(Outcome::DONE)
    }

    fn del_minor(&mut self, volume: VolumeId) -> Outcome {
        let Some(v) = self.volumes.get(&volume) else { return unknown_minor() };
        if v.state.disk != Disk::Diskless || v.state.role != Role::Secondary {
            return Outcome::with(code::MINOR_IN_USE, "detach it and make it Secondary first");
        }
        self.fail_unbegun(volume, |_| true);
        self.refuse_asked(volume);
        self.volumes.remove(&volume);
        Outcome::of(Outcome::DONE)
    }

    /// Ends a command with this outcome once all work queued now is done.
    fn after_work(&mut self, job: &mut Job, outcome: Outcome) -> Option<Outcome> {
        self.worker.push(Work::Wake { command: job.id });
        job.stage = Stage::Working { woken: false, outcome };
        None
    }

    /// A command waits for the flush of the own disk, in front of work that may wait for the command.
    fn flush_for(&mut self, volume: VolumeId, job: &mut Job) {
        job.stage = Stage::Flushing { done: false };
        self.worker.push_urgent([Work::FlushData { volume }, Work::Wake { command: job.id }]);
    }

    /// Work: wakes the command that waits for it.
    pub(super) fn wake_command(&mut self, command: CommandId) {
        for job in &mut self.jobs.queue {
            if job.id == command
                && let Stage::Working { woken: done, .. } | Stage::Flushing { done } = &mut job.stage
            {
                *done = true;
                self.state_serial += 1;
            }
        }
    }
}

/// The outcome of a state change.
fn outcome_of(result: StateResult) -> Outcome {
    Outcome::of(result.code())
}

fn unknown_minor() -> Outcome {
    Outcome::with(code::UNKNOWN_MINOR, "unknown minor")
}
