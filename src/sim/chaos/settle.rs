//! The end of a life: everything is healed, an administrator does what is needed, and the pair has to find
//! back to two equal copies.

use std::time::Duration;

use super::super::events::HostId;
use super::super::io::Pace;
use super::super::store::Faults;
use super::super::weather::Weather;
use super::life::{Life, Task, VOLUME};
use super::view::View;
use crate::node::command::Command;

/// How often the administrator looks again.
const ROUNDS: u32 = 40;
const ROUND: Duration = Duration::from_secs(4);
/// The machine whose data are given up in a split brain.
const VICTIM: HostId = 1;

impl Life {
    /// Heals everything; then both copies have to become equal, and hold what was promised.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.say(|| "── everything is healed".into());
        self.busy = false;
        self.heal();
        for round in 0..ROUNDS {
            if self.wait_for("peace", ROUND, Self::is_settled).is_ok() {
                return self.compare();
            }
            self.help(round);
        }
        let words = self.views.each_ref().map(View::words);
        let why = self.unrest().unwrap_or_else(|| "an administrator is not done".into());
        Err(format!("after {ROUNDS} rounds of help the pair has not found together ({why}): {words:?}"))
    }

    fn heal(&mut self) {
        self.world.join();
        self.world.set_weather(Weather::default());
        for host in [0, 1] {
            self.world.set_pace(host, Pace::default());
            self.world.pause(host, Duration::ZERO);
            self.world.set_exit(host, "fence-peer", 1);
            let disk = self.disk(host);
            disk.devices().for_each(|device| device.set_faults(Faults::default()));
            self.boot(host);
        }
    }

    fn is_settled(&mut self) -> bool {
        self.tasks.iter().all(|tasks| tasks.is_empty())
            && self.views.iter().all(|view| view.suspended.is_empty())
            && self.unrest().is_none()
    }

    /// What an administrator does who looks at both nodes.
    fn help(&mut self, round: u32) {
        let under_way = [0, 1].map(|host| View::of(&mut self.world, host).under_way);
        self.say(|| format!("── help {round}; under way: {under_way:?}"));
        for host in [0, 1] {
            if !self.tasks[host].is_empty() {
                continue;
            }
            self.help_one(host, round);
        }
        // What still waits gets its chance before; then nobody needs a Primary.
        for host in [0, 1] {
            match round {
                3 => self.tasks[host].push_back(Task::EndClients),
                4.. if self.views[host].is_primary() => {
                    self.tasks[host].push_back(Task::Command(Command::Secondary { volume: VOLUME }));
                }
                _ => {}
            }
        }
        let apart = self.views.iter().any(|view| view.conn == "StandAlone");
        if apart && self.tasks.iter().all(|tasks| tasks.is_empty()) {
            if self.split_brain { self.resolve() } else { self.reconnect() }
        }
        if self.is_without_good_data() {
            // Only an administrator can know whose data is best; both are what they are.
            let better = usize::from(self.views[1].disk > self.views[0].disk);
            self.split_brain = true;
            self.tasks[better].push_back(Task::Command(Command::Primary { volume: VOLUME, force: true }));
        }
    }

    fn help_one(&mut self, host: HostId, round: u32) {
        let View { there, disk, peer_disk, suspended, conn, .. } = self.views[host].clone();
        if !there {
            return self.bring_up(host);
        }
        let lost = round > 3 && suspended.iter().any(|reason| reason == "no-data");
        if lost || suspended.iter().any(|reason| reason == "user") {
            self.tasks[host].push_back(Task::Command(Command::ResumeIo { volume: VOLUME }));
        }
        if conn.starts_with("Paused") {
            self.tasks[host].push_back(Task::Command(Command::ResumeSync { volume: VOLUME }));
        }
        if disk == "Diskless" || disk.is_empty() {
            // A split brain that an attach shows ends the attach, and the node goes on without a disk.
            if self.split_brain && conn == "Connected" {
                let disconnect = Task::Command(Command::Disconnect { force: false });
                let connect = Task::Connect { discard_my_data: host == VICTIM };
                self.tasks[host].extend([disconnect, Task::Attach, connect]);
            } else {
                self.tasks[host].push_back(Task::Attach);
            }
        }
        // Writes failed on this disk (pass_on): only a new connection brings the blocks.
        if round > 1 && conn == "Connected" && disk == "Inconsistent" && peer_disk == "UpToDate" {
            let disconnect = Task::Command(Command::Disconnect { force: false });
            self.tasks[host].extend([disconnect, Task::Connect { discard_my_data: false }]);
        }
    }

    fn reconnect(&mut self) {
        for host in [0, 1] {
            if self.views[host].conn == "StandAlone" {
                self.tasks[host].push_back(Task::Connect { discard_my_data: false });
            }
        }
    }

    /// The written procedure for a split brain: the second node gives up what it alone has.
    fn resolve(&mut self) {
        let volume = VOLUME;
        let victim = VICTIM;
        self.tasks[victim].extend([
            Task::EndClients,
            Task::Command(Command::Disconnect { force: true }),
            Task::Command(Command::Secondary { volume }),
            Task::Connect { discard_my_data: true },
        ]);
        if self.views[1 - victim].conn == "StandAlone" {
            self.tasks[1 - victim].push_back(Task::Connect { discard_my_data: false });
        }
    }

    fn is_without_good_data(&self) -> bool {
        let bad = |view: &View| matches!(view.disk.as_str(), "Inconsistent" | "Outdated" | "Consistent");
        self.views.iter().all(bad) && self.views.iter().all(|view| view.conn == "Connected")
    }
}
