//! Administrators: what they do on a machine, one thing after the other.

use std::time::Duration;

use super::super::events::HostId;
use super::life::Life;
use super::plan::Admin;
use super::setup::{apply_al, create_md};
use super::workload::Program;
use crate::node::Node;
use crate::node::command::Command;
use crate::node::rules::StateResult;
use crate::units::{Moment, VolumeId};

/// Something an administrator does on a machine.
#[derive(Debug)]
pub(super) enum Task {
    Make,
    NewMinor(VolumeId),
    Attach(VolumeId),
    /// `create-md`, on a disk that is detached.
    CreateMd(VolumeId),
    Connect {
        discard_my_data: bool,
    },
    EndClients,
    /// Until no client has a device open, or this long.
    AwaitClosed(Option<Moment>),
    /// Clients may come again.
    LetIn,
    Command(Command),
}

/// A client whose requests are frozen does not go away.
const CLOSING: Duration = Duration::from_millis(200);

impl Life {
    /// What `up` does.
    pub(super) fn bring_up(&mut self, host: HostId) {
        let volumes = self.volumes();
        let tasks = &mut self.tasks[host];
        tasks.push_back(Task::Make);
        tasks.extend(volumes.iter().map(|volume| Task::NewMinor(*volume)));
        tasks.extend(volumes.iter().map(|volume| Task::Attach(*volume)));
        tasks.push_back(Task::Connect { discard_my_data: false });
    }

    /// The administrator of a machine does the next thing once the last is done; whether that was so.
    pub(super) fn administer(&mut self, host: HostId) -> Result<bool, String> {
        if self.pending[host].as_ref().is_some_and(|pending| pending.outcome().is_none()) {
            return Ok(false);
        }
        if let Some(outcome) = self.pending[host].take().and_then(|pending| pending.outcome()) {
            self.say(|| format!("   {host}: {} {}", outcome.code, outcome.info.join("; ")));
            let gave_up = outcome.code == StateResult::Success.code();
            self.books.iter_mut().try_for_each(|book| book.answers(host, gave_up))?;
        }
        if self.awaits_closing(host) {
            return Ok(false);
        }
        let Some(task) = self.tasks[host].pop_front() else { return Ok(false) };
        if self.world.is_up(host) {
            self.say(|| format!("   {host}: {task:?}").chars().take(160).collect());
            self.meet_task(host, &task);
            self.carry_out(host, task)?;
            self.observe()?;
        }
        Ok(true)
    }

    /// Whether the next thing is to wait for the clients, and they are still there.
    fn awaits_closing(&mut self, host: HostId) -> bool {
        let now = self.world.now();
        match self.tasks[host].front_mut() {
            Some(Task::AwaitClosed(until)) => {
                let open = self.world.core(host).is_some_and(Node::is_open);
                open && now < *until.get_or_insert(now.after(CLOSING))
            }
            _ => false,
        }
    }

    fn carry_out(&mut self, host: HostId, task: Task) -> Result<(), String> {
        let there = self.world.has_resource(host);
        self.pending[host] = match task {
            Task::Make if !there => {
                self.world.new_resource(host, self.setup.resource.clone());
                None
            }
            Task::NewMinor(volume) if there => {
                let minor = u32::from(volume.0) + 1;
                Some(self.world.start(host, Command::NewMinor { volume, minor }))
            }
            Task::Attach(volume) if there => {
                let book = &self.books[usize::from(volume.0)];
                if book.views[host].has_no_disk() {
                    apply_al(&book.disk(&self.world, host))?;
                    self.world.start_attach(host, volume, self.setup.disk.clone())
                } else {
                    None
                }
            }
            Task::CreateMd(volume) => {
                let book = &self.books[usize::from(volume.0)];
                if book.views[host].has_no_disk() {
                    create_md(&book.disk(&self.world, host));
                }
                None
            }
            Task::Connect { discard_my_data } if there => {
                let (local, peer) = (self.world.address(host), self.world.address(1 - host));
                let options = Box::new(self.setup.net.clone());
                let connect = Command::Connect { local, peer, options, discard_my_data, tentative: false };
                let alone = self.books.iter().all(|book| book.views[host].conn == "StandAlone");
                alone.then(|| self.world.start(host, connect))
            }
            Task::EndClients => {
                for program in self.programs.iter_mut().filter(|program| program.host == host) {
                    program.close(&mut self.world);
                }
                self.barred[host] = true;
                None
            }
            Task::AwaitClosed(_) => None,
            Task::LetIn => {
                self.barred[host] = false;
                None
            }
            Task::Command(command) if there => {
                let stays = match command {
                    Command::Detach { volume, force: false } | Command::Invalidate { volume } => {
                        Some((volume, 1 - host))
                    }
                    Command::InvalidateRemote { volume } => Some((volume, host)),
                    _ => None,
                };
                if let Some((volume, stays)) = stays {
                    self.books[usize::from(volume.0)].asks_to_give_up(host, stays, &self.setup);
                }
                Some(self.world.start(host, command))
            }
            Task::Make | Task::NewMinor(_) | Task::Attach(_) | Task::Connect { .. } | Task::Command(_) => {
                None
            }
        };
        Ok(())
    }

    /// Somebody gives a command for all volumes, or for one of them, which `number` chooses.
    pub(super) fn order(&mut self, host: HostId, admin: Admin, number: usize) {
        let volumes = self.volumes();
        let volume = volumes[number % volumes.len()];
        let each = |command: fn(VolumeId) -> Command| -> Vec<Task> {
            volumes.iter().map(|volume| Task::Command(command(*volume))).collect()
        };
        let one = |command: Command| vec![Task::Command(command)];
        let tasks = match admin {
            Admin::Promote => each(|volume| Command::Primary { volume, force: false }),
            Admin::ForcePromote => {
                self.books.iter_mut().for_each(|book| book.split_brain = true);
                each(|volume| Command::Primary { volume, force: true })
            }
            Admin::Demote => {
                self.tasks[host].extend([Task::EndClients, Task::AwaitClosed(None)]);
                let mut tasks = each(|volume| Command::Secondary { volume });
                tasks.push(Task::LetIn);
                tasks
            }
            Admin::Detach { force } => {
                self.books[usize::from(volume.0)].detached[host] = !force;
                one(Command::Detach { volume, force })
            }
            Admin::Attach => vec![Task::Attach(volume)],
            Admin::Disconnect { force } => one(Command::Disconnect { force }),
            Admin::Connect => vec![Task::Connect { discard_my_data: false }],
            Admin::Outdate => each(|volume| Command::Outdate { volume }),
            Admin::PauseSync => each(|volume| Command::PauseSync { volume }),
            Admin::ResumeSync => each(|volume| Command::ResumeSync { volume }),
            Admin::SuspendIo => each(|volume| Command::SuspendIo { volume }),
            Admin::ResumeIo => each(|volume| Command::ResumeIo { volume }),
            Admin::Verify => one(Command::Verify { volume, start: None, stop: None }),
            Admin::FewSlots => {
                let mut options = Box::new(self.setup.disk.clone());
                options.al_extents = 2 + options.al_extents % 5;
                one(Command::ChangeDiskOptions { volume, options })
            }
            Admin::Invalidate => {
                self.books[usize::from(volume.0)].invalidated = true;
                one(Command::Invalidate { volume })
            }
            Admin::InvalidateRemote => {
                self.books[usize::from(volume.0)].invalidated = true;
                one(Command::InvalidateRemote { volume })
            }
        };
        self.tasks[host].extend(tasks);
    }

    /// The programs on a machine end with it.
    pub(super) fn end_programs(&mut self, host: HostId) {
        self.programs.iter_mut().filter(|program| program.host == host).for_each(Program::die);
    }
}
