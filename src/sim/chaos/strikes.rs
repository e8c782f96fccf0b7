//! What a fault meets at the moment it strikes, for the table of [`super::reach`].

use super::super::events::HostId;
use super::admin::Task;
use super::life::Life;
use super::plan::Action;
use super::reach::{Class, Situation, Situations};

impl Life {
    /// An action of the plan is about to happen. Crashes and commands are counted where they are carried out.
    pub(super) fn meet_action(&mut self, action: Action) {
        match action {
            Action::Silence(host) => self.meet(Class::Silence, host),
            Action::Cut => self.meet(Class::Cut, 0),
            Action::Break => self.meet(Class::Break, 0),
            Action::Jitter(_) => self.meet(Class::Delay, 0),
            Action::Slow(host, _) | Action::Stall(host, _) => self.meet(Class::Slow, host),
            Action::Pause(host, _) => self.meet(Class::Pause, host),
            Action::Join
            | Action::Kill(_)
            | Action::PowerLoss { .. }
            | Action::Boot(_)
            | Action::Replace(_)
            | Action::DiskErrors { .. }
            | Action::Mend(_)
            | Action::Clients(_)
            | Action::Await { .. }
            | Action::Admin(..) => {}
        }
    }

    /// An administrator is about to do something on a machine.
    pub(super) fn meet_task(&mut self, host: HostId, task: &Task) {
        if let Some(class) = Class::of_task(task) {
            self.meet(class, host);
        }
    }

    /// A machine is about to return.
    pub(super) fn meet_return(&mut self, host: HostId) {
        let blank = std::mem::take(&mut self.blank[host]);
        self.meet(if blank { Class::ReturnBlank } else { Class::Return }, host);
    }

    /// A fault strikes here.
    pub(super) fn meet(&mut self, class: Class, host: HostId) {
        let [here, there] = [host, 1 - host].map(|host| Situations::of(&self.world, host).and(self.traits));
        self.reach.strikes(class, here, there);
    }

    /// Disk operations were made to fail: of the node with the disk, the operation itself counts and no
    /// other that happens to be under way.
    pub(super) fn meet_disk_errors(&mut self) {
        for (host, kind, step) in self.world.take_struck() {
            let step: Situations = step.into_iter().map(Situation::Step).collect();
            let here = Situations::of_states(&self.world, host).and(step).and(self.traits);
            let there = Situations::of(&self.world, 1 - host).and(self.traits);
            self.reach.strikes(Class::of_failing(kind), here, there);
        }
    }
}
