//! Patience: what nothing stands in the way of is done (I8), and soon. It is watched while a life goes on, too: at its end
//! an administrator helps, and the peer is there again.

use std::time::Duration;

use super::super::events::HostId;
use super::book::Book;
use super::life::Life;
use super::plan::Action;
use super::view::View;
use crate::units::Moment;

/// Longer than anything takes on a machine that is well.
const PATIENCE: Duration = Duration::from_secs(5);

/// Since when nothing stands in the way of a node.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Its disks are slow.
    slow: bool,
    /// Its disks and its program do what they should since then, or from then on.
    steady: Moment,
    /// By volume: it has good data, is alone, and serves its clients since then.
    serves: Vec<Option<Moment>>,
    /// It is connected, its I/O is suspended for want of data, and there are data of all volumes, since then.
    could_thaw: Option<Moment>,
    /// By volume: it is the source of a target that is done since then.
    ends: Vec<Option<Moment>>,
}

impl Life {
    /// Something happens to a machine, or no longer does.
    pub(super) fn ease(&mut self, action: Action) {
        let now = self.world.now();
        let after = |ms: u32| now.after(Duration::from_millis(u64::from(ms)));
        if matches!(action, Action::Cut | Action::Join | Action::Break | Action::Silence(_)) {
            self.linked = now;
        }
        let (host, steady) = match action {
            Action::Stall(host, ms) | Action::Pause(host, ms) => (host, after(ms)),
            Action::Slow(host, _) | Action::Mend(host) | Action::Boot(host) => (host, now),
            _ => return,
        };
        let patience = &mut self.patience[host];
        patience.steady = patience.steady.max(steady);
        if let Action::Slow(_, factor) = action {
            patience.slow = factor > 1;
        }
    }

    /// Everything is healed.
    pub(super) fn eased(&mut self) {
        let steady = self.world.now();
        self.linked = steady;
        for patience in &mut self.patience {
            (patience.slow, patience.steady) = (false, steady);
        }
    }

    /// The nodes show something else than before.
    pub(super) fn note_what_could_go_on(&mut self) {
        let now = self.world.now();
        for (host, patience) in self.patience.iter_mut().enumerate() {
            patience.serves.resize(self.books.len(), None);
            for (since, book) in patience.serves.iter_mut().zip(&self.books) {
                hold(since, now, serves_alone(&book.views[host]));
            }
            hold(&mut patience.could_thaw, now, could_thaw(&self.books, host));
            patience.ends.resize(self.books.len(), None);
            for (since, book) in patience.ends.iter_mut().zip(&self.books) {
                hold(since, now, book.views[host].conn == "SyncSource" && book.views[1 - host].is_whole());
            }
        }
    }

    /// The nodes show something else than before: two that are well answer each other (I31).
    ///
    /// # Errors
    /// If one of them has waited for an answer that did not come.
    pub(super) fn part_for_a_reason(&self) -> Result<(), String> {
        let waits = |book: &Book| book.views.iter().any(|view| view.conn == "Timeout");
        let held = |book: &Book| book.views.iter().any(|view| !view.suspended.is_empty());
        if !self.books.iter().any(waits) || self.books.iter().any(held) {
            return Ok(());
        }
        let options = &self.setup.net;
        let limit = Duration::from_millis(u64::from(options.timeout_ds) * 100) * options.ko_count;
        let Some(before) = self.before(limit + Duration::from_secs(1)) else { return Ok(()) };
        let linked = self.linked.since(Moment::default()) < before;
        if linked && [0, 1].into_iter().all(|host| self.is_well(host, before)) {
            return Err(format!("two nodes that are well do not answer each other for {limit:?} (I31)"));
        }
        Ok(())
    }

    /// The time that has gone by until so long ago, if that is some.
    fn before(&self, span: Duration) -> Option<Duration> {
        self.world.now().since(Moment::default()).checked_sub(span)
    }

    /// Whether a machine does what it should since then.
    fn is_well(&self, host: HostId, before: Duration) -> bool {
        let Patience { slow, steady, .. } = self.patience[host];
        let faulty = self.books.iter().any(|book| book.faulty[host]);
        !slow && !faulty && steady.since(Moment::default()) < before
    }

    /// # Errors
    /// If something waits that nothing stands in the way of.
    pub(super) fn lose_patience(&self) -> Result<(), String> {
        let Some(before) = self.before(PATIENCE) else { return Ok(()) };
        let long = |since: Moment| since.since(Moment::default()) < before;
        let is_well = |host: HostId| self.is_well(host, before);
        for program in &self.programs {
            let patience = &self.patience[program.host];
            let serves = patience.serves.get(usize::from(program.volume.0)).copied().flatten();
            let waits = program.waits_since().is_some_and(long);
            if waits && is_well(program.host) && serves.is_some_and(long) {
                return Err(format!(
                    "{} is alone with good data, and does not answer a client for {PATIENCE:?} (I8)",
                    program.host
                ));
            }
        }
        for (host, patience) in self.patience.iter().enumerate() {
            if is_well(host) && patience.could_thaw.is_some_and(long) {
                return Err(format!(
                    "{host} has data of all volumes, and does not go on for {PATIENCE:?} (I8)"
                ));
            }
            let free = is_well(host) && is_well(1 - host) && long(self.linked);
            if free && patience.ends.iter().flatten().any(|since| long(*since)) {
                return Err(format!("{host} has not heard for {PATIENCE:?} that its target is done (I31)"));
            }
        }
        Ok(())
    }
}

/// Remembers since when something is so.
fn hold(since: &mut Option<Moment>, now: Moment, is_so: bool) {
    *since = is_so.then(|| since.unwrap_or(now));
}

fn serves_alone(view: &View) -> bool {
    view.is_alone() && view.disk == "UpToDate" && view.suspended.is_empty()
}

fn could_thaw(books: &[Book], host: HostId) -> bool {
    books.iter().map(|book| &book.views[host]).all(|view| {
        view.is_connected()
            && view.suspended == ["no-data"]
            && (view.disk == "UpToDate" || view.peer_disk == "UpToDate")
    })
}
