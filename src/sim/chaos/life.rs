//! One life: the plan is carried out, clients work, and what is seen is checked.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::events::HostId;
use super::super::random::Random;
use super::super::world::{Pending, World};
use super::admin::Task;
use super::aim::{self, Aim};
use super::book::Book;
use super::patience::Patience;
use super::plan::{Action, Admin, Planned, draw};
use super::reach::{Reach, Situations};
use super::setup::Setup;
use super::templates::suited;
use super::view::View;
use super::workload::{Facts, Program, Taste};
use super::{Options, Report};
use crate::node::command::Command;
use crate::units::{Moment, VolumeId};

/// What the kernel's DRBD announces (W37): in some lives the nodes know nothing more of each other.
const KERNEL_FEATURES: u32 = 0xf;
const LIMIT: Duration = Duration::from_secs(30);
/// At least so long between two looks at whether the copies are the same.
const COMPARE_EVERY: Duration = Duration::from_millis(100);
const TRACE_LINES: usize = 200_000;

/// A life.
pub(super) struct Life {
    pub(super) world: World,
    pub(super) books: Vec<Book>,
    pub(super) setup: Setup,
    plan: Vec<Planned>,
    options: Options,
    /// What the clients do.
    pub(super) random: Random,
    pub(super) programs: Vec<Program>,
    pub(super) tasks: [VecDeque<Task>; 2],
    pub(super) pending: [Option<Pending>; 2],
    pub(super) seen: Option<u64>,
    pub(super) busy: bool,
    pub(super) taste: Taste,
    compared_at: Moment,
    compared: u64,
    requests: u64,
    trace: Vec<String>,
    pub(super) reach: Reach,
    /// What holds for this whole life.
    pub(super) traits: Situations,
    /// A disk of this machine was replaced while it was down.
    pub(super) blank: [bool; 2],
    /// No client may open the devices of this node now.
    pub(super) barred: [bool; 2],
    pub(super) patience: [Patience; 2],
    /// The link does what it should since then.
    pub(super) linked: Moment,
    /// The aimed faults, and whether they come before the plan.
    pub(super) aims: Vec<Aim>,
    aims_first: bool,
    /// The one that waits, and its number.
    pub(super) aim: Option<(usize, Aim)>,
}

impl Life {
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let mut random = Random::new(seed ^ 0x5eed_0000_0000_0000);
        let (setup, plan) = (Setup::draw(&mut random.fork()), draw(&mut random.fork()));
        let (setup, plan) = suited(seed, options.course.as_deref(), setup, plan);
        let traits = Situations::of_life(&setup);
        let mut own = Random::new(seed ^ 0xa11e_d000_0000_0000);
        let aims = if options.aims { aim::draw(&mut own, &setup) } else { Vec::new() };
        let mut world = World::new(random.next_u64());
        if options.journal {
            world.keep_journal();
        }
        let mut chance = Random::new(seed ^ 0xc0de_0000_0000_0000);
        if setup.net.data_integrity_alg.is_some() && chance.below(3) == 0 {
            let one_in = 20 + chance.below(500);
            world.corrupt(chance.next_u64(), Some(one_in));
        }
        world.straggle(setup.stragglers);
        if seed.is_multiple_of(4) {
            world.mask_features(KERNEL_FEATURES);
        }
        let books: Vec<Book> = (0..setup.volumes).map(|number| Book::new(VolumeId(number))).collect();
        for host in [0, 1] {
            books.iter().for_each(|book| world.add_disk(host, book.volume.0, setup.new_disk()));
            world.set_exit(host, "fence-peer", if setup.fences { 7 } else { 1 });
        }
        let programs = [0, 0, 1, 1].into_iter();
        let mut programs: Vec<Program> =
            programs.flat_map(|host| books.iter().map(move |book| Program::new(host, book.volume))).collect();
        if options.trace {
            programs.iter_mut().for_each(|program| program.account = Some(Vec::new()));
        }
        Self {
            world,
            books,
            setup,
            plan,
            options: options.clone(),
            random,
            programs,
            tasks: Default::default(),
            pending: Default::default(),
            seen: None,
            busy: false,
            taste: Taste::default(),
            compared_at: Moment::default(),
            compared: 0,
            requests: 0,
            trace: Vec::new(),
            reach: Reach::default(),
            traits,
            blank: [false; 2],
            barred: [false; 2],
            patience: Default::default(),
            linked: Moment::default(),
            aims,
            aims_first: seed % 8 < 6,
            aim: None,
        }
    }

    pub(super) fn report(mut self, failure: Option<String>) -> Report {
        self.trace.append(&mut self.world.take_journal());
        Report {
            failure,
            plan: self
                .plan
                .iter()
                .map(ToString::to_string)
                .chain(self.aims.iter().map(ToString::to_string))
                .collect(),
            trace: self.trace,
            requests: self.requests,
            compared: self.compared,
            reach: self.reach,
            corrupted: self.world.corrupted(),
            lasted: self.world.now().since(Moment::default()),
        }
    }

    /// From fresh disks to the end.
    pub(super) fn lead(&mut self) -> Result<(), String> {
        self.begin()?;
        self.busy = true;
        let first = self.plan.len();
        if self.aims_first {
            self.lead_aims(first)?;
        }
        let mut began = self.world.now();
        for (number, Planned { at, action }) in self.plan.clone().into_iter().enumerate() {
            self.run_until(began.after(at))?;
            if self.is_left_out(number) {
                continue;
            }
            self.say(|| format!("── {number}: {action:?}"));
            match action {
                Action::Await { cue, limit } => began = began.after(self.await_cue(cue, limit)?),
                action => self.act(number, action),
            }
        }
        if !self.aims_first {
            self.lead_aims(first)?;
        }
        self.run_for(Duration::from_millis(200))?;
        self.settle()
    }

    /// Both nodes up, in sync, the first Primary; with two of them, both.
    fn begin(&mut self) -> Result<(), String> {
        let setup = format!("{:?}", self.setup);
        self.say(|| setup);
        for host in [0, 1] {
            self.bring_up(host);
        }
        // Not before all has been said: an older word of the peer would undo the next command.
        self.wait_for("the first connection", LIMIT, |life| {
            life.all_views(|view| view.conn == "Connected") && life.world.on_the_way() == 0
        })?;
        for volume in self.volumes() {
            let equal = Command::NewCurrentUuid { volume, clear_bitmap: true };
            self.tasks[0].push_back(Task::Command(equal));
        }
        self.wait_for("both disks to be called equal", LIMIT, |life| {
            life.all_views(View::is_whole) && life.world.on_the_way() == 0
        })?;
        self.order(0, Admin::Promote, 0);
        self.wait_for("the first Primary", LIMIT, |life| {
            life.all_views(View::is_whole) && life.books.iter().all(|book| book.views[0].is_primary())
        })?;
        if self.setup.two_primaries {
            self.order(1, Admin::Promote, 0);
            self.wait_for("the second Primary", LIMIT, |life| life.all_views(View::is_primary))?;
        }
        Ok(())
    }

    /// Whether this holds of every volume on both nodes.
    pub(super) fn all_views(&self, mut holds: impl FnMut(&View) -> bool) -> bool {
        self.books.iter().flat_map(|book| &book.views).all(&mut holds)
    }

    /// The volumes.
    pub(super) fn volumes(&self) -> Vec<VolumeId> {
        self.books.iter().map(|book| book.volume).collect()
    }

    /// Lets time pass until `done`.
    pub(super) fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        done: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), String> {
        if self.reach(limit, done)? { Ok(()) } else { Err(format!("{what}: not within {limit:?}")) }
    }

    /// Lets time pass until `done`; whether that came.
    pub(super) fn reach(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, String> {
        let until = self.world.now().after(limit);
        while !done(self) {
            if !self.step(until)? {
                return Ok(done(self));
            }
        }
        Ok(true)
    }

    /// Whether an action is one of those that are left out.
    pub(super) fn is_left_out(&self, number: usize) -> bool {
        self.options.skip.contains(&number)
    }

    pub(super) fn run_for(&mut self, span: Duration) -> Result<(), String> {
        self.run_until(self.world.now().after(span))
    }

    fn run_until(&mut self, until: Moment) -> Result<(), String> {
        while self.step(until)? {}
        Ok(())
    }

    /// One step of the world, and all that follows from it. False once `until` is reached.
    pub(super) fn step(&mut self, until: Moment) -> Result<bool, String> {
        for host in [0, 1] {
            while self.administer(host)? {}
        }
        let next = self.work()?;
        let now = self.world.now();
        if now >= until {
            return Ok(false);
        }
        // A program's moment is one at which something happens, too.
        let stop = next.filter(|at| *at > now).map_or(until, |at| at.min(until));
        self.world.step(stop);
        self.meet_disk_errors();
        self.blame()?;
        self.lose_patience()?;
        self.take_aim();
        self.observe()?;
        Ok(self.world.now() < until)
    }

    /// What a core did and must not do.
    fn blame(&self) -> Result<(), String> {
        let mut wrong = [0, 1].into_iter().filter_map(|host| Some((host, self.world.wrong(host)?)));
        wrong.next().map_or(Ok(()), |(host, why)| Err(format!("node {host}: {why}")))
    }

    /// The clients do what they want to; when they want to do something next.
    pub(super) fn work(&mut self) -> Result<Option<Moment>, String> {
        let mut next = None;
        let mut account = Vec::new();
        for program in &mut self.programs {
            let host = program.host;
            let book = &mut self.books[usize::from(program.volume.0)];
            let view = &book.views[host];
            let facts = Facts {
                open: view.is_primary() && !self.barred[host],
                copies: book.certain_copies(host, &self.setup),
                good: book.good_copies(host, self.world.now()),
                own_good: view.is_good(),
                peer_sound: !book.faulty[1 - host],
                written: self.setup.is_synchronous(),
                sectors: view.sectors,
                two_primaries: self.setup.two_primaries,
                depth: self.setup.depth,
                busy: self.busy && self.taste != Taste::Nothing,
                taste: self.taste,
            };
            self.requests += program.step(&mut self.world, &mut book.oracle, &mut self.random, facts)?;
            account.extend(program.account.iter_mut().flat_map(|account| account.drain(..)));
            if facts.busy && (facts.open || program.is_there()) {
                next = next.into_iter().chain([program.next_at()]).min();
            }
        }
        account.into_iter().for_each(|line| self.say(|| format!("      {line}")));
        Ok(next)
    }

    /// Looks at both nodes, if anything changed.
    pub(super) fn observe(&mut self) -> Result<(), String> {
        self.heed_handlers()?;
        let now = self.world.now();
        for book in &mut self.books {
            [0, 1].into_iter().for_each(|host| book.heed_failed_flushes(&self.world, host, now));
        }
        if self.seen != Some(self.world.changes()) {
            self.seen = Some(self.world.changes());
            for host in [0, 1] {
                let status = self.world.status(host);
                for number in 0..self.books.len() {
                    let book = &mut self.books[number];
                    let view = View::of(status.as_ref(), book.volume);
                    if let Some(words) = book.see(&self.world, &self.setup, host, view)? {
                        self.say(|| format!("   {host}/{number}: {words}"));
                    }
                }
            }
            self.note_what_could_go_on();
            self.part_for_a_reason()?;
        }
        if now >= self.compared_at.after(COMPARE_EVERY) && self.bustle().is_none() {
            self.compared_at = now;
            self.compare_what_is_whole()?;
            for book in &mut self.books {
                book.check_coverage(&self.world)?;
            }
        }
        Ok(())
    }

    /// What a handler does besides its exit code.
    ///
    /// # Errors
    /// If what it is called for is not so.
    fn heed_handlers(&mut self) -> Result<(), String> {
        for host in [0, 1] {
            for call in self.world.take_handler_calls(host) {
                self.say(|| format!("   {host}: handler {}", call.name));
                match call.name {
                    "initial-split-brain" => {
                        let meant = |book: &&mut Book| call.volume.is_none_or(|volume| volume == book.volume);
                        self.books.iter_mut().filter(meant).try_for_each(Book::split)?;
                    }
                    "fence-peer" if self.setup.fences && self.busy => self.power_loss(1 - host, false),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Why the copies of some volume need not be the same at the moment, if they need not.
    pub(super) fn unrest(&mut self) -> Option<String> {
        self.bustle().or_else(|| {
            let apart = |book: &&Book| !book.views.iter().all(View::is_whole);
            self.books.iter().find(apart).map(|book| format!("volume {} is not in sync", book.volume.0))
        })
    }

    /// What is under way somewhere, if something is.
    pub(super) fn bustle(&mut self) -> Option<String> {
        if self.programs.iter().any(Program::is_waiting) {
            return Some("a client waits for an answer".into());
        }
        if self.world.on_the_way() > 0 {
            return Some("bytes are on their way".into());
        }
        for host in [0, 1] {
            let mut operations = 0;
            self.world.each_under_way(host, |_, _| operations += 1);
            let counters = self.under_way(host);
            if operations > 0 || counters.iter().any(|of_volume| *of_volume != [0; 5]) {
                return Some(format!("{host} has {operations} operations under way, counters {counters:?}"));
            }
        }
        None
    }

    /// The counters of what is under way on a node, by volume.
    pub(super) fn under_way(&mut self, host: HostId) -> Vec<[u64; 5]> {
        let status = self.world.status(host);
        self.books.iter().map(|book| View::of(status.as_ref(), book.volume).under_way).collect()
    }

    /// Compares the copies of the volumes that are in sync; nothing is under way.
    fn compare_what_is_whole(&mut self) -> Result<(), String> {
        for book in self.books.iter_mut().filter(|book| book.views.iter().all(View::is_whole)) {
            book.compare(&self.world)?;
            self.compared += 1;
        }
        Ok(())
    }

    /// Compares the copies of all volumes.
    pub(super) fn compare(&mut self) -> Result<(), String> {
        for book in &mut self.books {
            book.compare(&self.world)?;
        }
        self.compared += 1;
        Ok(())
    }

    pub(super) fn say(&mut self, text: impl FnOnce() -> String) {
        if self.options.trace && self.trace.len() < TRACE_LINES {
            self.trace.append(&mut self.world.take_journal());
            let at = self.world.now().since(Moment::default()).as_secs_f64();
            self.trace.push(format!("{at:12.6} {}", text()));
        }
    }
}
