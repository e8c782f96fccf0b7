//! A core for tests of the control plane: it obeys, keeps states in words, and knows no peer.

use std::collections::{BTreeMap, VecDeque};

use super::resource::Core;
use crate::node::command::{Command, CommandId, Outcome};
use crate::node::effect::{Effect, ReplyError};
use crate::node::input::Input;
use crate::node::status::{ResourceStatus, VolumeStatus};
use crate::units::{Moment, VolumeId};

/// A resource that does at once what it is told.
#[derive(Debug)]
pub(super) struct Double {
    name: String,
    volumes: BTreeMap<VolumeId, VolumeStatus>,
    connected: bool,
    effects: VecDeque<Effect>,
}

impl Double {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), volumes: BTreeMap::new(), connected: false, effects: VecDeque::new() }
    }

    fn cstate(&self) -> &'static str {
        if self.connected { "WFConnection" } else { "StandAlone" }
    }

    fn obey(&mut self, command: Command) -> Outcome {
        let open = self.volumes.values().any(|status| status.open_count > 0);
        let mut changed = |volume, change: &dyn Fn(&mut VolumeStatus)| match self.volumes.get_mut(&volume) {
            Some(status) => {
                change(status);
                Outcome::of(1)
            }
            None => Outcome::of(127),
        };
        match command {
            Command::NewMinor { volume, minor } => {
                let status = VolumeStatus {
                    volume: volume.0,
                    minor,
                    role: "Secondary".into(),
                    peer_role: "Unknown".into(),
                    disk: "Diskless".into(),
                    peer_disk: "DUnknown".into(),
                    ..VolumeStatus::default()
                };
                self.volumes.insert(volume, status);
                Outcome::of(Outcome::DONE)
            }
            Command::DelMinor { volume } => match self.volumes.remove(&volume) {
                Some(_) => Outcome::of(Outcome::DONE),
                None => Outcome::of(127),
            },
            Command::Attach { volume, disk, .. } => changed(volume, &|status| {
                status.disk = "UpToDate".into();
                status.size_sectors = disk.data_bytes / 512;
            }),
            Command::Detach { volume, .. } => {
                self.effects.push_back(Effect::CloseDisk { volume });
                changed(volume, &|status| status.disk = "Diskless".into())
            }
            Command::Primary { volume, .. } => changed(volume, &|status| status.role = "Primary".into()),
            Command::Secondary { .. } if open => Outcome::of(-12),
            Command::Secondary { volume } => changed(volume, &|status| status.role = "Secondary".into()),
            Command::Open { volume, .. } => changed(volume, &|status| status.open_count += 1),
            Command::Close { volume } => changed(volume, &|status| status.open_count -= 1),
            Command::Connect { .. } => {
                self.connected = true;
                Outcome::of(1)
            }
            Command::Disconnect { .. } => {
                self.connected = false;
                Outcome::of(Outcome::DONE)
            }
            Command::Down if open => Outcome::with(-12, "failed to demote"),
            Command::Down => {
                let volumes = std::mem::take(&mut self.volumes);
                self.effects.extend(volumes.into_keys().map(|volume| Effect::CloseDisk { volume }));
                Outcome::of(Outcome::DONE)
            }
            _ => Outcome::of(Outcome::DONE),
        }
    }

    fn done(&mut self, id: CommandId, outcome: Outcome) {
        self.effects.push_back(Effect::StatusChanged);
        self.effects.push_back(Effect::CommandDone { id, outcome });
    }
}

impl Core for Double {
    fn handle(&mut self, _now: Moment, input: Input) {
        match input {
            Input::Command { command: command @ Command::Close { .. }, .. } => {
                let _ = self.obey(command);
                self.effects.push_back(Effect::StatusChanged);
            }
            Input::Command { id, command } => {
                let outcome = self.obey(command);
                self.done(id, outcome);
            }
            Input::Request { id, .. } => {
                self.effects.push_back(Effect::Reply { id, result: Err(ReplyError::Io) });
            }
            _ => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn next_deadline(&self) -> Option<Moment> {
        None
    }

    fn status(&self) -> ResourceStatus {
        let cstate = self.cstate();
        let volumes =
            self.volumes.values().cloned().map(|volume| VolumeStatus { cstate: cstate.into(), ..volume });
        ResourceStatus {
            name: self.name.clone(),
            cstate: cstate.into(),
            volumes: volumes.collect(),
            ..ResourceStatus::default()
        }
    }
}
