//! The aimed faults of a life, carried out one after the other.

use std::time::Duration;

use super::super::events::HostId;
use super::super::io::Pace;
use super::super::weather::Weather;
use super::admin::Task;
use super::aim::{Aim, Recipe, aftermath};
use super::life::Life;
use super::plan::Admin;
use super::reach::Situations;
use super::view::View;

/// How long an aim waits for its situation.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long the pair may take to be whole again, before the next aim.
const RECOVERY: Duration = Duration::from_secs(3);

impl Life {
    /// Carries all of them out. `first` is the number of the first, among the actions of the life.
    pub(super) fn lead_aims(&mut self, first: usize) -> Result<(), String> {
        for (number, aim) in (first..).zip(self.aims.clone()) {
            if self.is_left_out(number) {
                continue;
            }
            self.say(|| format!("── {number}: {aim}"));
            self.recover()?;
            self.lead_aim(number, aim)?;
        }
        Ok(())
    }

    fn lead_aim(&mut self, number: usize, mut aim: Aim) -> Result<(), String> {
        let mut random = aim.random.fork();
        let mut actions = aim.recipe.actions(&mut random);
        let last = actions.pop();
        for action in actions {
            self.act(number, action);
            self.run_for(Recipe::gap(&mut random))?;
        }
        // What the last of them sets off may be the moment.
        self.aim = Some((number, aim));
        if let Some(action) = last {
            self.act(number, action);
        }
        let until = self.world.now().after(PATIENCE);
        while self.aim.is_some() && self.step(until)? {}
        let met = self.aim.take().is_none();
        self.say(|| format!("── {number} {}", if met { "has struck" } else { "saw nothing to strike" }));
        if met {
            self.run_for(aftermath(&mut random))?;
        }
        self.relieve(random.below(2) == 0);
        self.run_for(aftermath(&mut random))
    }

    /// If what the aim waits for is there, it strikes.
    pub(super) fn take_aim(&mut self) {
        let Some((_, aim)) = &mut self.aim else { return };
        if !Situations::hold(&self.world, aim.node, aim.situation) || aim.random.below(aim.odds) > 0 {
            return;
        }
        if let Some((number, aim)) = self.aim.take() {
            self.say(|| format!("── {number}: now {:?}", aim.action));
            self.act(number, aim.action);
        }
    }

    /// What an aim left is taken away, but for what only an administrator can.
    fn relieve(&mut self, weather: bool) {
        self.world.join();
        if weather {
            self.world.set_weather(Weather::default());
        }
        for host in [0, 1] {
            self.world.set_pace(host, Pace::default());
            self.boot(host);
        }
    }

    /// An administrator helps the pair to its feet, if he can; the first node is Primary again.
    fn recover(&mut self) -> Result<(), String> {
        if self.is_ready() {
            return Ok(());
        }
        for host in [0, 1] {
            self.help_one(host, 0);
            if self.tasks[host].is_empty()
                && self.books.iter().any(|book| book.views[host].conn == "StandAlone")
            {
                self.tasks[host].push_back(Task::Connect { discard_my_data: false });
            }
        }
        let until = self.world.now().after(RECOVERY);
        while !self.all_views(View::is_whole) && self.step(until)? {}
        if self.all_views(View::is_whole) {
            self.make_primary(0)?;
            while !self.is_ready() && self.step(until)? {}
        }
        Ok(())
    }

    fn make_primary(&mut self, host: HostId) -> Result<(), String> {
        if !self.setup.two_primaries && self.books.iter().any(|book| book.views[1 - host].is_primary()) {
            self.order(1 - host, Admin::Demote, 0);
            let until = self.world.now().after(RECOVERY);
            while !self.tasks[1 - host].is_empty() && self.step(until)? {}
        }
        self.order(host, Admin::Promote, 0);
        if self.setup.two_primaries {
            self.order(1 - host, Admin::Promote, 0);
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let promoted = self.books.iter().all(|book| book.views[0].is_primary());
        promoted && self.all_views(View::is_whole)
    }
}
