//! The actions of a plan, carried out.

use std::time::Duration;

use super::super::events::HostId;
use super::super::io::Pace;
use super::super::store::Faults;
use super::super::weather::Weather;
use super::life::Life;
use super::plan::{Action, DiskError};
use super::reach::Class;
use crate::units::Moment;

impl Life {
    /// The action of this number happens.
    pub(super) fn act(&mut self, number: usize, action: Action) {
        self.meet_action(action);
        self.ease(action);
        match action {
            Action::Silence(host) => self.world.hold(host, true),
            Action::Cut => self.world.cut(),
            Action::Join => self.world.join(),
            Action::Break => drop(self.world.break_connection()),
            Action::Jitter(ms) => {
                let spread = Duration::from_millis(u64::from(ms)).max(Duration::from_micros(100));
                self.world.set_weather(Weather { spread, piece: 3000, ..Weather::default() });
            }
            Action::Slow(host, factor) => {
                self.world.set_pace(host, Pace { factor, stalled_until: Moment::default() });
            }
            Action::Stall(host, ms) => {
                let stalled_until = self.world.now().after(Duration::from_millis(u64::from(ms)));
                self.world.set_pace(host, Pace { factor: 1, stalled_until });
            }
            Action::Pause(host, ms) => self.pause(host, Duration::from_millis(u64::from(ms))),
            Action::Kill(host) => self.kill(host),
            Action::PowerLoss { host, all } => self.power_loss(host, all),
            Action::Boot(host) => self.boot(host),
            Action::Replace(host) => self.replace_disk(host, number),
            Action::DiskErrors { host, meta, kind, times } => {
                self.disk_errors(host, number, meta, kind, times);
            }
            Action::Mend(host) => self.mend(host),
            Action::Admin(host, admin) => self.order(host, admin, number),
            Action::Clients(taste) => self.taste = taste,
            Action::Await { .. } => {} // Done where time passes: in `Life::lead`.
        }
    }

    fn pause(&mut self, host: HostId, span: Duration) {
        let now = self.world.now();
        self.world.pause(host, span);
        self.books.iter_mut().for_each(|book| book.stands_still(host, now, now.after(span)));
    }

    fn kill(&mut self, host: HostId) {
        if self.world.is_up(host) {
            self.meet(Class::Kill, host);
        }
        self.world.crash(host);
        let (world, setup) = (&self.world, &self.setup);
        self.books.iter_mut().for_each(|book| book.killed(world, host, setup));
        self.gone(host);
    }

    pub(super) fn power_loss(&mut self, host: HostId, all: bool) {
        if self.world.is_up(host) {
            self.meet(Class::PowerLoss, host);
            self.books.iter_mut().for_each(|book| book.remember_cache(&self.world, host));
            self.world.lose_power(host, all);
            self.books.iter_mut().for_each(|book| book.lost_power(host));
            self.gone(host);
        }
    }

    /// A machine is down, with all that ran on it.
    fn gone(&mut self, host: HostId) {
        let now = self.world.now();
        self.books.iter_mut().for_each(|book| book.gone(host, now));
        self.tasks[host].clear();
        self.barred[host] = false;
        self.pending[host] = None;
        self.end_programs(host);
        self.seen = None;
    }

    pub(super) fn boot(&mut self, host: HostId) {
        if !self.world.is_up(host) {
            self.meet_return(host);
            self.world.boot(host);
            self.bring_up(host);
        }
    }

    /// The disk of a machine that is down is replaced by a new one, or by the one that was there before, while the other
    /// node has good data.
    fn replace_disk(&mut self, host: HostId, number: usize) {
        let count = self.books.len();
        // Nor while that is asked to give them up.
        let quiet = self.pending[1 - host].is_none() && self.world.on_the_way() == 0;
        let book = &mut self.books[number % count];
        if !self.world.is_up(host) && quiet && book.views[1 - host].disk == "UpToDate" {
            let old = book.changes_disk(&self.world, host);
            self.blank[host] = old.is_none();
            self.world.add_disk(host, book.volume.0, old.unwrap_or_else(|| self.setup.new_disk()));
        }
    }

    /// The disks of a machine are good ones again.
    pub(super) fn mend(&mut self, host: HostId) {
        for book in &mut self.books {
            book.mended(host);
            let disk = book.disk(&self.world, host);
            disk.devices().for_each(|device| device.set_faults(Faults::default()));
        }
    }

    fn disk_errors(&mut self, host: HostId, number: usize, meta: bool, kind: DiskError, times: u32) {
        let count = self.books.len();
        let book = &mut self.books[number % count];
        book.faults_begin(host);
        book.discards_failed |= kind == DiskError::Discard;
        book.reads_failed |= kind == DiskError::Read;
        let disk = book.disk(&self.world, host);
        let device = if meta { disk.meta() } else { disk.data() };
        device.set_faults(Faults {
            read: kind == DiskError::Read,
            write: kind == DiskError::Write,
            flush: kind == DiskError::Flush,
            discard: kind == DiskError::Discard,
            times,
            idle_flush: false,
        });
    }
}
