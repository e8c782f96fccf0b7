//! The end of a life: everything is healed, an administrator does what is needed, and the pair has to find
//! back to two equal copies.

use std::time::Duration;

use super::super::events::HostId;
use super::super::io::Pace;
use super::super::weather::Weather;
use super::admin::Task;
use super::book::Book;
use super::life::Life;
use super::plan::Admin;
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
        self.world.corrupt(0, None);
        self.busy = false;
        self.heal();
        for round in 0..ROUNDS {
            if self.reach(ROUND, Self::is_settled)? {
                self.compare()?;
                return self.verify_finds_what_differs();
            }
            self.help(round);
        }
        let views = self.books.iter().flat_map(|book| &book.views);
        let words: Vec<String> = views.map(View::words).collect();
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
            self.mend(host);
            self.boot(host);
        }
        self.eased();
    }

    fn is_settled(&mut self) -> bool {
        self.tasks.iter().all(|tasks| tasks.is_empty())
            && self.all_views(|view| view.suspended.is_empty())
            && self.unrest().is_none()
    }

    /// What an administrator does who looks at both nodes.
    fn help(&mut self, round: u32) {
        let under_way = [0, 1].map(|host| self.under_way(host));
        self.say(|| format!("── help {round}; under way: {under_way:?}"));
        for host in [0, 1] {
            if self.tasks[host].is_empty() {
                self.help_one(host, round);
            } else if round > 3 {
                self.resume_beside(host);
            }
        }
        // What still waits gets its chance before; then nobody needs a Primary.
        for host in [0, 1] {
            match round {
                3 => self.tasks[host].extend([Task::EndClients, Task::AwaitClosed(None), Task::LetIn]),
                4.. if self.books.iter().any(|book| book.views[host].is_primary()) => {
                    self.order(host, Admin::Demote, 0);
                }
                _ => {}
            }
        }
        let apart = !self.all_views(|view| view.conn != "StandAlone");
        if apart && self.tasks.iter().all(|tasks| tasks.is_empty()) {
            if self.is_split() { self.resolve() } else { self.reconnect() }
        }
        for number in 0..self.books.len() {
            let book = &mut self.books[number];
            if is_without_good_data(book, round > 9) {
                // Only an administrator can know whose data is best; both are what they are.
                let better = usize::from(book.views[1].disk > book.views[0].disk);
                book.split_brain = true;
                let force = Command::Primary { volume: book.volume, force: true };
                self.tasks[better].push_back(Task::Command(force));
            }
        }
    }

    fn is_split(&self) -> bool {
        self.books.iter().any(|book| book.split_brain)
    }

    pub(super) fn help_one(&mut self, host: HostId, round: u32) {
        if !self.world.has_resource(host) || self.books.iter().any(|book| book.views[host].disk.is_empty()) {
            return self.bring_up(host);
        }
        for number in 0..self.books.len() {
            self.help_volume(host, number, round);
        }
    }

    fn help_volume(&mut self, host: HostId, number: usize, round: u32) {
        let volume = self.books[number].volume;
        let View { disk, peer_disk, suspended, conn, .. } = self.books[number].views[host].clone();
        let split = self.is_split();
        let tasks = &mut self.tasks[host];
        // Data that never comes back, a peer that nobody could fence: somebody has to decide.
        let frozen_since = |reason: &str| match reason {
            "no-data" => round > 3,
            "fencing" => round > 5,
            _ => true,
        };
        if suspended.iter().any(|reason| frozen_since(reason)) {
            tasks.push_back(Task::Command(Command::ResumeIo { volume }));
        }
        if conn.starts_with("Paused") {
            tasks.push_back(Task::Command(Command::ResumeSync { volume }));
        }
        let disconnect = Task::Command(Command::Disconnect { force: false });
        if disk == "Diskless" {
            // An attach that shows a split brain, or that neither has good data, ends at once, and the node
            // goes on without a disk.
            if (split || round > 5) && conn == "Connected" {
                let connect = Task::Connect { discard_my_data: split && host == VICTIM };
                tasks.extend([disconnect, Task::Attach(volume), connect]);
            } else {
                tasks.push_back(Task::Attach(volume));
            }
        } else if round > 1 && conn == "Connected" && disk == "Inconsistent" && peer_disk == "UpToDate" {
            // Writes failed on this disk (pass_on): only a new connection brings the blocks.
            tasks.extend([disconnect, Task::Connect { discard_my_data: false }]);
        }
    }

    /// A command waits, perhaps for I/O that is suspended: from another shell it is let go.
    fn resume_beside(&mut self, host: HostId) {
        for book in &self.books {
            if !book.views[host].suspended.is_empty() {
                drop(self.world.start(host, Command::ResumeIo { volume: book.volume }));
            }
        }
    }

    fn stands_alone(&self, host: HostId) -> bool {
        self.books.iter().any(|book| book.views[host].conn == "StandAlone")
    }

    fn reconnect(&mut self) {
        for host in [0, 1] {
            if self.stands_alone(host) {
                self.tasks[host].push_back(Task::Connect { discard_my_data: false });
            }
        }
    }

    /// The written procedure for a split brain: the second node gives up what it alone has, with fresh
    /// metadata where the generations tell nothing of each other (S77).
    fn resolve(&mut self) {
        self.order(VICTIM, Admin::Disconnect { force: true }, 0);
        self.order(VICTIM, Admin::Demote, 0);
        for book in &self.books {
            let [survivor, victim] = &book.views;
            if victim.is_unrelated(survivor) {
                let detach = Command::Detach { volume: book.volume, force: false };
                let anew = [Task::Command(detach), Task::CreateMd(book.volume), Task::Attach(book.volume)];
                self.tasks[VICTIM].extend(anew);
            }
        }
        self.tasks[VICTIM].push_back(Task::Connect { discard_my_data: true });
        if self.stands_alone(1 - VICTIM) {
            self.tasks[1 - VICTIM].push_back(Task::Connect { discard_my_data: false });
        }
    }
}

/// Whether neither node has data that it calls good, and they know it of each other, or refuse each other
/// for it.
fn is_without_good_data(book: &Book, refusing: bool) -> bool {
    let bad = |view: &View| matches!(view.disk.as_str(), "Inconsistent" | "Outdated" | "Consistent");
    book.views.iter().all(bad) && (refusing || book.views.iter().all(|view| view.conn == "Connected"))
}
