//! One life: the plan is carried out, clients work, and what is seen is checked.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::disk::SimDisk;
use super::super::events::HostId;
use super::super::io::Pace;
use super::super::random::Random;
use super::super::store::Faults;
use super::super::weather::Weather;
use super::super::world::{Pending, World};
use super::oracle::{Oracle, Snapshot};
use super::plan::{Action, Admin, DiskError, Planned, draw};
use super::setup::{Setup, apply_al};
use super::view::View;
use super::workload::{Facts, Program};
use super::{Options, Report};
use crate::node::command::Command;
use crate::units::{BitIndex, Moment, SECTOR_BYTES, VolumeId};

/// What the kernel's DRBD announces (W37): in some lives the nodes know nothing more of each other.
const KERNEL_FEATURES: u32 = 0xf;
pub(super) const VOLUME: VolumeId = VolumeId(0);
const LIMIT: Duration = Duration::from_secs(30);
/// At least so long between two looks at whether the copies are the same.
const COMPARE_EVERY: Duration = Duration::from_millis(100);
const TRACE_LINES: usize = 20_000;

/// Something an administrator does on a machine, one after the other.
#[derive(Debug)]
pub(super) enum Task {
    Make,
    Attach,
    Connect { discard_my_data: bool },
    EndClients,
    Command(Command),
}

/// A life.
pub(super) struct Life {
    pub(super) world: World,
    pub(super) oracle: Oracle,
    pub(super) setup: Setup,
    plan: Vec<Planned>,
    options: Options,
    /// What the clients do.
    random: Random,
    pub(super) programs: Vec<Program>,
    pub(super) tasks: [VecDeque<Task>; 2],
    pending: [Option<Pending>; 2],
    pub(super) views: [View; 2],
    seen: Option<u64>,
    /// Grows when the writes of a node begin or end to be on a copy for sure: by node and copy.
    certainties: [[u64; 2]; 2],
    /// What the source had to have when this node became its target.
    target_since: [Option<Snapshot>; 2],
    /// The power failed while it was Primary, and the copies were not the same since.
    crashed_primary: [bool; 2],
    /// It was Primary since the link was lost.
    promoted: [bool; 2],
    /// A split brain is being resolved: one side loses by decision.
    pub(super) split_brain: bool,
    /// Discards failed on some disk.
    discards_failed: bool,
    /// An administrator gave up a copy.
    invalidated: bool,
    pub(super) busy: bool,
    compared_at: Moment,
    compared: u64,
    requests: u64,
    trace: Vec<String>,
}

impl Life {
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let mut random = Random::new(seed ^ 0x5eed_0000_0000_0000);
        let setup = Setup::draw(&mut random.fork());
        let plan = draw(&mut random.fork());
        let mut world = World::new(random.next_u64());
        if seed.is_multiple_of(4) {
            world.mask_features(KERNEL_FEATURES);
        }
        for host in [0, 1] {
            world.add_disk(host, 0, setup.new_disk());
            world.set_exit(host, "fence-peer", if setup.fences { 7 } else { 1 });
        }
        let mut programs: Vec<Program> = [0, 0, 1, 1].map(Program::new).into();
        if options.trace {
            programs.iter_mut().for_each(|program| program.account = Some(Vec::new()));
        }
        Self {
            world,
            oracle: Oracle::default(),
            setup,
            plan,
            options: options.clone(),
            random,
            programs,
            tasks: Default::default(),
            pending: Default::default(),
            views: Default::default(),
            seen: None,
            certainties: [[0; 2]; 2],
            target_since: Default::default(),
            crashed_primary: [false; 2],
            promoted: [false; 2],
            split_brain: false,
            discards_failed: false,
            invalidated: false,
            busy: false,
            compared_at: Moment::default(),
            compared: 0,
            requests: 0,
            trace: Vec::new(),
        }
    }

    pub(super) fn report(self, failure: Option<String>) -> Report {
        Report {
            failure,
            plan: self.plan.iter().map(ToString::to_string).collect(),
            trace: self.trace,
            requests: self.requests,
            compared: self.compared,
            lasted: self.world.now().since(Moment::default()),
        }
    }

    /// From fresh disks to the end.
    pub(super) fn lead(&mut self) -> Result<(), String> {
        self.begin()?;
        self.busy = true;
        let began = self.world.now();
        for (number, Planned { at, action }) in self.plan.clone().into_iter().enumerate() {
            self.run_until(began.after(at))?;
            if !self.options.skip.contains(&number) {
                self.say(|| format!("── {number}: {action:?}"));
                self.act(action);
            }
        }
        let rest = self.world.now().after(Duration::from_millis(200));
        self.run_until(rest)?;
        self.settle()
    }

    /// Both nodes up, in sync, the first Primary.
    fn begin(&mut self) -> Result<(), String> {
        let setup = format!("{:?}", self.setup);
        self.say(|| setup);
        for host in [0, 1] {
            self.bring_up(host);
        }
        // Not before all has been said: an older word of the peer would undo the next command.
        self.wait_for("the first connection", LIMIT, |life| {
            life.views.iter().all(|view| view.conn == "Connected") && life.world.on_the_way() == 0
        })?;
        let equal = Command::NewCurrentUuid { volume: VOLUME, clear_bitmap: true };
        self.tasks[0].push_back(Task::Command(equal));
        self.tasks[0].push_back(Task::Command(Command::Primary { volume: VOLUME, force: false }));
        self.wait_for("the first Primary", LIMIT, |life| {
            life.views.iter().all(View::is_whole) && life.views[0].is_primary()
        })
    }

    pub(super) fn bring_up(&mut self, host: HostId) {
        self.tasks[host].extend([Task::Make, Task::Attach, Task::Connect { discard_my_data: false }]);
    }

    /// Lets time pass until `done`.
    pub(super) fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), String> {
        let until = self.world.now().after(limit);
        while !done(self) {
            if !self.step(until)? {
                return if done(self) { Ok(()) } else { Err(format!("{what}: not within {limit:?}")) };
            }
        }
        Ok(())
    }

    fn run_until(&mut self, until: Moment) -> Result<(), String> {
        while self.step(until)? {}
        Ok(())
    }

    /// One step of the world, and all that follows from it. False once `until` is reached.
    fn step(&mut self, until: Moment) -> Result<bool, String> {
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
        self.observe()?;
        Ok(self.world.now() < until)
    }

    /// Which copies a write of this node is on before its client hears of it.
    fn reached(&self, host: HostId) -> [bool; 2] {
        let view = &self.views[host];
        let own = view.disk == "UpToDate";
        let peer = view.peer_disk == "UpToDate" && view.is_connected() && self.setup.is_synchronous();
        if host == 0 { [own, peer] } else { [peer, own] }
    }

    /// The clients do what they want to; when they want to do something next.
    fn work(&mut self) -> Result<Option<Moment>, String> {
        let mut next = None;
        let mut account = Vec::new();
        let reached = [0, 1].map(|host| self.reached(host));
        for program in &mut self.programs {
            let host = program.host;
            let facts = Facts {
                open: self.views[host].is_primary(),
                copies: [0, 1].map(|copy| reached[host][copy].then_some(self.certainties[host][copy])),
                depth: self.setup.depth,
                busy: self.busy,
            };
            self.requests += program.step(&mut self.world, &mut self.oracle, &mut self.random, facts)?;
            account.extend(program.account.iter_mut().flat_map(|account| account.drain(..)));
            if facts.busy && (facts.open || program.is_there()) {
                next = next.into_iter().chain([program.next_at()]).min();
            }
        }
        account.into_iter().for_each(|line| self.say(|| format!("      {line}")));
        Ok(next)
    }

    /// The administrator of a machine does the next thing once the last is done; whether that was so.
    fn administer(&mut self, host: HostId) -> Result<bool, String> {
        if self.pending[host].as_ref().is_some_and(|pending| pending.outcome().is_none()) {
            return Ok(false);
        }
        if let Some(outcome) = self.pending[host].take().and_then(|pending| pending.outcome()) {
            self.say(|| format!("   {host}: {} {}", outcome.code, outcome.info.join("; ")));
        }
        let Some(task) = self.tasks[host].pop_front() else { return Ok(false) };
        if !self.world.is_up(host) {
            return Ok(true);
        }
        self.say(|| format!("   {host}: {task:?}").chars().take(160).collect());
        let there = self.world.has_resource(host);
        self.pending[host] = match task {
            Task::Make if !there => {
                self.world.new_resource(host, self.setup.resource.clone());
                Some(self.world.start(host, Command::NewMinor { volume: VOLUME, minor: 1 }))
            }
            Task::Attach if there => {
                if self.views[host].disk == "Diskless" || self.views[host].disk.is_empty() {
                    let disk = self.disk(host);
                    apply_al(&disk)?;
                    self.world.start_attach(host, VOLUME, self.setup.disk.clone())
                } else {
                    None
                }
            }
            Task::Connect { discard_my_data } if there => {
                let (local, peer) = (self.world.address(host), self.world.address(1 - host));
                let options = Box::new(self.setup.net.clone());
                let connect = Command::Connect { local, peer, options, discard_my_data, tentative: false };
                (self.views[host].conn == "StandAlone").then(|| self.world.start(host, connect))
            }
            Task::EndClients => {
                for program in self.programs.iter_mut().filter(|program| program.host == host) {
                    program.close(&mut self.world);
                }
                None
            }
            Task::Command(command) if there => Some(self.world.start(host, command)),
            Task::Make | Task::Attach | Task::Connect { .. } | Task::Command(_) => None,
        };
        self.observe()?;
        Ok(true)
    }

    pub(super) fn disk(&self, host: HostId) -> SimDisk {
        match self.world.disk(host, 0) {
            Some(disk) => disk,
            None => unreachable!("each machine was given one"),
        }
    }

    fn act(&mut self, action: Action) {
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
            Action::Pause(host, ms) => self.world.pause(host, Duration::from_millis(u64::from(ms))),
            Action::Kill(host) => {
                self.world.crash(host);
                self.oracle.killed(host);
                self.gone(host);
            }
            Action::PowerLoss { host, all } => self.power_loss(host, all),
            Action::Boot(host) => self.boot(host),
            Action::DiskErrors { host, meta, kind, times } => self.disk_errors(host, meta, kind, times),
            Action::Admin(host, admin) => self.order(host, admin),
        }
    }

    pub(super) fn power_loss(&mut self, host: HostId, all: bool) {
        if !self.world.is_up(host) {
            return;
        }
        self.crashed_primary[host] |= self.views[host].is_primary();
        self.world.lose_power(host, all);
        self.oracle.lost_power(host);
        self.gone(host);
    }

    /// A machine is down, with all that ran on it.
    fn gone(&mut self, host: HostId) {
        for node in [0, 1] {
            self.certainties[node][host] += 1;
        }
        self.tasks[host].clear();
        self.pending[host] = None;
        self.target_since[host] = None;
        self.views[host] = View::default();
        self.programs.iter_mut().filter(|program| program.host == host).for_each(Program::die);
        self.seen = None;
    }

    pub(super) fn boot(&mut self, host: HostId) {
        if !self.world.is_up(host) {
            self.world.boot(host);
            self.bring_up(host);
        }
    }

    fn disk_errors(&mut self, host: HostId, meta: bool, kind: DiskError, times: u32) {
        self.discards_failed |= kind == DiskError::Discard;
        let disk = self.disk(host);
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

    fn order(&mut self, host: HostId, admin: Admin) {
        let volume = VOLUME;
        let command = match admin {
            Admin::Promote => Command::Primary { volume, force: false },
            Admin::Demote => {
                self.tasks[host].push_back(Task::EndClients);
                Command::Secondary { volume }
            }
            Admin::Detach => Command::Detach { volume, force: false },
            Admin::Attach => return self.tasks[host].push_back(Task::Attach),
            Admin::Disconnect => Command::Disconnect { force: false },
            Admin::Connect => {
                return self.tasks[host].push_back(Task::Connect { discard_my_data: false });
            }
            Admin::Outdate => Command::Outdate { volume },
            Admin::PauseSync => Command::PauseSync { volume },
            Admin::ResumeSync => Command::ResumeSync { volume },
            Admin::SuspendIo => Command::SuspendIo { volume },
            Admin::ResumeIo => Command::ResumeIo { volume },
            Admin::Invalidate => {
                self.invalidated = true;
                Command::Invalidate { volume }
            }
        };
        self.tasks[host].push_back(Task::Command(command));
    }

    /// Looks at both nodes, if anything changed.
    fn observe(&mut self) -> Result<(), String> {
        self.heed_handlers();
        if self.seen != Some(self.world.changes()) {
            self.seen = Some(self.world.changes());
            for host in [0, 1] {
                let reached = self.reached(host);
                let view = View::of(&mut self.world, host);
                let before = std::mem::replace(&mut self.views[host], view);
                let now = self.reached(host);
                for copy in [0, 1] {
                    self.certainties[host][copy] += u64::from(reached[copy] != now[copy]);
                }
                self.changed(host, &before)?;
            }
        }
        let now = self.world.now();
        if now >= self.compared_at.after(COMPARE_EVERY) && self.unrest().is_none() {
            self.compared_at = now;
            self.compare()?;
        }
        Ok(())
    }

    /// What a handler does besides its exit code.
    fn heed_handlers(&mut self) {
        for host in [0, 1] {
            for call in self.world.take_handler_calls(host) {
                self.say(|| format!("   {host}: handler {}", call.name));
                match call.name {
                    "initial-split-brain" => self.split_brain = true,
                    "fence-peer" if self.setup.fences && self.busy => self.power_loss(1 - host, false),
                    _ => {}
                }
            }
        }
    }

    /// A node shows another state than before.
    fn changed(&mut self, host: HostId, before: &View) -> Result<(), String> {
        let view = self.views[host].clone();
        if view.words() != before.words() {
            self.say(|| format!("   {host}: {}", view.words()));
        }
        if before.is_whole() && !view.is_whole() {
            self.promoted[host] = false;
        }
        if view.is_primary() {
            self.promoted[host] = true;
            if !before.is_primary() && view.disk == "UpToDate" {
                let device = self.disk(host);
                self.oracle
                    .check_copy(host, device.data())
                    .map_err(|why| format!("{host} was promoted with data that is not there: {why}"))?;
            }
        }
        if view.is_target() && !before.is_target() {
            self.became_target(host)?;
        }
        if !view.is_target() && before.is_target() {
            let began = self.target_since[host].take();
            if view.is_whole()
                && let Some(began) = began
            {
                self.oracle.synced(1 - host, host, &began);
                self.crashed_primary = [false; 2];
                self.split_brain = false;
            }
        }
        Ok(())
    }

    /// This node's data is about to be overwritten: nothing that was promised may be lost by that,
    /// unless somebody decided so.
    fn became_target(&mut self, target: HostId) -> Result<(), String> {
        let source = 1 - target;
        self.target_since[target] = Some(self.oracle.snapshot(source));
        // A crashed Primary that returns before the other was promoted is the source again, with what its
        // disk kept (I5). Whoever is Inconsistent is the target, whatever it has (X11). Without protocol C
        // a Primary that crashed has writes that nobody else has.
        let excused = self.split_brain
            || (self.crashed_primary[source] && !self.promoted[target])
            || self.views[target].disk == "Inconsistent"
            || !self.setup.is_synchronous();
        if excused {
            self.oracle.gives_up(target, source);
            return Ok(());
        }
        let device = self.disk(source);
        self.oracle
            .check_copy(target, device.data())
            .map_err(|why| format!("{target} is overwritten by data that lacks a promised write: {why}"))
    }

    /// Why the copies need not be the same at the moment, if they need not.
    pub(super) fn unrest(&mut self) -> Option<String> {
        if !self.views.iter().all(View::is_whole) {
            return Some("they are not in sync".into());
        }
        if self.programs.iter().any(Program::is_waiting) {
            return Some("a client waits for an answer".into());
        }
        if self.world.on_the_way() > 0 {
            return Some("bytes are on their way".into());
        }
        for host in [0, 1] {
            let mut operations = 0;
            self.world.each_under_way(host, |_, _| operations += 1);
            let counters = View::of(&mut self.world, host).under_way;
            if operations > 0 || counters != [0; 5] {
                return Some(format!("{host} has {operations} operations under way, counters {counters:?}"));
            }
        }
        None
    }

    /// Compares the copies.
    pub(super) fn compare(&mut self) -> Result<(), String> {
        let disks = [0, 1].map(|host| self.disk(host));
        for sector in self.oracle.sectors().collect::<Vec<_>>() {
            let content = disks.each_ref().map(|disk| {
                let mut bytes = [0; SECTOR_BYTES as usize];
                disk.read_at(sector * SECTOR_BYTES, &mut bytes).map(|()| bytes)
            });
            let block = BitIndex::new(sector / 8);
            let marked =
                [0, 1].map(|host| self.world.core(host).and_then(|core| core.out_of_sync(VOLUME, block)));
            // A failed discard is no error, and leaves its bits (D163); so does an invalidate that was cut
            // before any data moved (X9).
            if marked.contains(&Some(true)) && (self.discards_failed || self.invalidated) {
                continue;
            }
            if content[0] != content[1] {
                return Err(format!(
                    "the copies are called the same, but sector {sector} is not: {:?}, out of sync {marked:?}",
                    content.map(|bytes| bytes
                        .map(|bytes| u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])))
                ));
            }
            if marked.contains(&Some(true)) {
                return Err(format!(
                    "the copies are called the same, but sector {sector} is marked {marked:?}"
                ));
            }
        }
        self.oracle.equal();
        self.crashed_primary = [false; 2];
        self.split_brain = false;
        self.compared += 1;
        for (host, disk) in disks.iter().enumerate() {
            self.oracle
                .check_copy(host, disk.data())
                .map_err(|why| format!("{host} is in sync and lacks a promised write: {why}"))?;
        }
        Ok(())
    }

    pub(super) fn say(&mut self, text: impl FnOnce() -> String) {
        if self.options.trace && self.trace.len() < TRACE_LINES {
            let at = self.world.now().since(Moment::default()).as_secs_f64();
            self.trace.push(format!("{at:12.6} {}", text()));
        }
    }
}
