//! Two machines with a resource each, and the time that passes for them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::info;

use super::client::{Answer, Client, Wish};
use super::corruption::Corruption;
use super::disk::{Device, SimDisk};
use super::events::{Event, HostId};
use super::io::{Failing, Pace, SimIo, SimSocket, Struck, Universe};
use super::keep::Kept;
use super::network::address_of;
use super::watch::{Journal, Watched};
use super::weather::Weather;
use crate::config::options::{DiskOptions, ResourceOptions};
use crate::daemon::mailbox::{Message, NbdClient, Notice, Reply};
use crate::daemon::resource::Resource;
use crate::io::{Completion, Op};
use crate::nbd::{Export, Session};
use crate::node::Node;
use crate::node::command::{Command, Outcome};
use crate::node::status::ResourceStatus;
use crate::node::steps::Step;
use crate::units::{Moment, SECTOR_BYTES, VolumeId};
use crate::wire;

/// The port of the resource on both machines.
const PORT: u16 = 7788;
/// How long a handler program runs.
const HANDLER_TIME: Duration = Duration::from_millis(20);
/// How long the shell takes to keep a chunk of what is discarded.
const KEEP_TIME: Duration = Duration::from_millis(2);
/// A loop that goes on so often at one moment has nothing to wait for.
const TURNS_AT_ONCE: u32 = 100_000;

/// The two machines.
pub struct World {
    universe: Rc<RefCell<Universe>>,
    hosts: [Host; 2],
    /// When the state of some node changed last, or a handler was called.
    changed_at: Moment,
    changes: u64,
    turns_at_once: u32,
    /// What goes into the cores and comes out, if it is asked for.
    book: Option<Rc<RefCell<Vec<String>>>>,
}

/// A machine. Disks and the exit codes of handlers outlive a crash.
struct Host {
    machine: Option<Machine>,
    disks: BTreeMap<u16, SimDisk>,
    exits: BTreeMap<String, i32>,
    calls: Vec<HandlerCall>,
    /// What was kept before it was discarded; outlives a crash.
    kept: Kept,
}

/// What runs on a machine that is up, while it has the resource.
struct Machine {
    resource: Resource<Watched>,
    io: SimIo,
    completions: Vec<Completion>,
}

/// A handler that was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerCall {
    /// The event.
    pub name: &'static str,
    /// The volume it is about; `None` for the resource.
    pub volume: Option<VolumeId>,
    /// When.
    pub at: Moment,
}

/// A command under way.
#[derive(Clone, Debug)]
pub struct Pending(Arc<Mutex<Option<Outcome>>>);

impl Pending {
    /// Its outcome, once it has ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl World {
    /// Two machines that are up, without a resource and with a whole link.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let host = || Host {
            machine: None,
            disks: BTreeMap::new(),
            exits: BTreeMap::new(),
            calls: Vec::new(),
            kept: Kept::default(),
        };
        let mut universe = Universe::new(seed);
        for host in [0, 1] {
            universe.set_up(host, true);
        }
        Self {
            universe: Rc::new(RefCell::new(universe)),
            hosts: [host(), host()],
            changed_at: Moment::default(),
            changes: 0,
            turns_at_once: 0,
            book: None,
        }
    }

    /// From now on, what goes into new cores and comes out of them is written down.
    pub fn keep_journal(&mut self) {
        self.book = Some(Rc::default());
    }

    /// What was written down since it was last asked for.
    pub fn take_journal(&self) -> Vec<String> {
        self.book.as_ref().map(|book| book.take()).unwrap_or_default()
    }

    /// Gives a machine a disk.
    pub fn add_disk(&mut self, host: HostId, volume: u16, disk: SimDisk) {
        self.hosts[host].disks.insert(volume, disk);
    }

    /// The disk of a machine.
    #[must_use]
    pub fn disk(&self, host: HostId, volume: u16) -> Option<SimDisk> {
        self.hosts[host].disks.get(&volume).cloned()
    }

    /// From now on a handler leaves with this exit code.
    pub fn set_exit(&mut self, host: HostId, handler: &str, exit: i32) {
        self.hosts[host].exits.insert(handler.to_owned(), exit);
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.universe.borrow().now
    }

    /// When the state of some node changed last, or a handler was called.
    #[must_use]
    pub const fn changed_at(&self) -> Moment {
        self.changed_at
    }

    /// How often the state of some node changed, or a handler was called.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// Address and port of the resource on a machine.
    #[must_use]
    pub fn address(&self, host: HostId) -> SocketAddr {
        SocketAddr::new(address_of(host), PORT)
    }

    /// The link drops all packets, in both directions.
    pub fn cut(&mut self) {
        info!(now = ?self.now(), "the link is cut");
        self.hold(0, true);
        self.hold(1, true);
    }

    /// The link is whole.
    pub fn join(&mut self) {
        info!(now = ?self.now(), "the link is whole");
        self.hold(0, false);
        self.hold(1, false);
    }

    /// What this machine sends is held back, or not any more.
    pub fn hold(&mut self, from: HostId, hold: bool) {
        self.universe.borrow_mut().let_pass(from, !hold);
    }

    /// Bytes that were sent and are not received.
    #[must_use]
    pub fn on_the_way(&self) -> usize {
        let universe = self.universe.borrow();
        let unread = universe.hosts.iter().flat_map(|host| &host.ready).map(|completion| match completion {
            Completion::Received { result, .. } => result.unwrap_or(0),
            _ => 0,
        });
        universe.on_the_way() + unread.sum::<usize>()
    }

    /// The machine loses power. What its disk had completed stays.
    pub fn crash(&mut self, host: HostId) {
        info!(now = ?self.now(), host, "crash");
        self.hosts[host].machine = None;
        self.universe.borrow_mut().set_up(host, false);
    }

    /// The machine loses power, and with it what its disks had not flushed; with `all`, everything that
    /// may be lost is, else each sector may be lost or not, those being written included.
    pub fn lose_power(&mut self, host: HostId, all: bool) {
        info!(now = ?self.now(), host, all, "power failure");
        self.hosts[host].machine = None;
        let disks: Vec<SimDisk> = self.hosts[host].disks.values().cloned().collect();
        self.universe.borrow_mut().lose_power(host, &disks, all);
    }

    /// The machine's loop stands still for so long.
    pub fn pause(&mut self, host: HostId, span: Duration) {
        self.universe.borrow_mut().pause(host, span);
    }

    /// One of the connections between the machines breaks, at some byte in each direction; whether
    /// there was one.
    pub fn break_connection(&mut self) -> bool {
        self.universe.borrow_mut().break_one()
    }

    /// Both nodes agree on none but these features, as if one of them had no others.
    pub fn mask_features(&mut self, mask: u32) {
        self.universe.borrow_mut().features = mask;
    }

    /// From now on one disk operation of so many takes much longer than the others (F4).
    pub fn straggle(&mut self, one_in: Option<u64>) {
        self.universe.borrow_mut().stragglers = one_in;
    }

    /// From now on one block of so many changes on its way between the nodes, if somebody says how many (F9).
    pub fn corrupt(&mut self, seed: u64, one_in: Option<u64>) {
        let corruption = one_in.map(|one_in| Corruption::new(seed, one_in));
        self.universe.borrow_mut().corruption = corruption;
    }

    /// How many have changed.
    #[must_use]
    pub fn corrupted(&self) -> u64 {
        self.universe.borrow().corrupted
    }

    /// How the network does from now on.
    pub fn set_weather(&mut self, weather: Weather) {
        self.universe.borrow_mut().weather = weather;
    }

    /// How fast a machine's disks are from now on.
    pub fn set_pace(&mut self, host: HostId, pace: Pace) {
        self.universe.borrow_mut().hosts[host].pace = pace;
    }

    /// Looks at the operations that are under way on a machine's disks.
    pub fn each_under_way(&self, host: HostId, mut look: impl FnMut(&Device, &Op)) {
        let universe = self.universe.borrow();
        for event in universe.events.iter() {
            if let Event::Disk { host: of, boot, device, op, .. } = event
                && (*of, *boot) == (host, universe.hosts[host].boot)
                && let Some(device) = universe.hosts[host].device(*device)
            {
                look(device, op);
            }
        }
    }

    /// The disk operations that were made to fail since the last time: where, of which kind, and what they
    /// were for.
    pub fn take_struck(&self) -> Vec<(HostId, Failing, Option<Step>)> {
        let struck = std::mem::take(&mut self.universe.borrow_mut().struck);
        let step = |struck: &Struck| {
            let resource = &self.hosts[struck.host].machine.as_ref()?.resource;
            resource.core().node().step_of_operation(resource.ticket_of(struck.token)?)
        };
        struck.iter().map(|struck| (struck.host, struck.kind, step(struck))).collect()
    }

    /// Looks at the packets that a machine sent to the other and that were not received there.
    pub fn each_packet(&self, from: HostId, look: impl FnMut(wire::Command)) {
        self.universe.borrow().network.each_packet(from, look);
    }

    /// The core of a machine's resource, for those who check what it knows.
    #[must_use]
    pub fn core(&self, host: HostId) -> Option<&Node> {
        self.hosts[host].machine.as_ref().map(|machine| machine.resource.core().node())
    }

    /// What a machine's core did and must not do, if it did.
    #[must_use]
    pub fn wrong(&self, host: HostId) -> Option<&str> {
        self.hosts[host].machine.as_ref()?.resource.core().wrong()
    }

    /// The machine starts again, without the resource.
    pub fn boot(&mut self, host: HostId) {
        info!(now = ?self.now(), host, "boot");
        self.universe.borrow_mut().set_up(host, true);
    }

    /// Whether the machine is up.
    #[must_use]
    pub fn is_up(&self, host: HostId) -> bool {
        self.universe.borrow().hosts[host].up
    }

    /// Whether the machine knows the resource.
    #[must_use]
    pub fn has_resource(&self, host: HostId) -> bool {
        self.hosts[host].machine.is_some()
    }

    /// Makes the resource known on a machine, without volumes and connection.
    pub fn new_resource(&mut self, host: HostId, options: ResourceOptions) {
        let mut random = self.universe.borrow_mut().random.fork();
        let entropy = Box::new(move |bytes: &mut [u8]| random.fill(bytes));
        let node = Node::new("r0", options, self.now(), entropy);
        let io = SimIo { universe: Rc::clone(&self.universe), host };
        let journal = self.book.as_ref().map(|book| Journal::new(book, format!("r0@{host}")));
        let corrupts = self.universe.borrow().corruption.is_some();
        let resource = Resource::new(format!("r0@{host}"), Watched::new(node, journal, corrupts));
        self.hosts[host].machine = Some(Machine { resource, io, completions: Vec::new() });
    }

    /// The resource is forgotten on a machine; its sockets are closed.
    pub fn del_resource(&mut self, host: HostId) {
        self.message(host, Message::Shutdown);
        self.hosts[host].machine = None;
    }

    /// Starts a command.
    pub fn start(&mut self, host: HostId, command: Command) -> Pending {
        let disk = match &command {
            Command::Attach { volume, .. } => self.hosts[host].disks.get(&volume.0).cloned(),
            _ => None,
        };
        let outcome = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&outcome);
        let reply = Reply::new(move |answer| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        });
        self.message(host, Message::Command { command, disk, reply });
        Pending(outcome)
    }

    /// Starts to attach the machine's disk.
    pub fn start_attach(&mut self, host: HostId, volume: VolumeId, options: DiskOptions) -> Option<Pending> {
        let disk = self.hosts[host].disks.get(&volume.0)?.facts();
        Some(self.start(host, Command::Attach { volume, disk, options: Box::new(options) }))
    }

    /// Runs a command to its end; `None` if that does not come within `limit`.
    pub fn command(&mut self, host: HostId, command: Command, limit: Duration) -> Option<Outcome> {
        let pending = self.start(host, command);
        self.finish(&pending, limit)
    }

    /// Waits for a command.
    pub fn finish(&mut self, pending: &Pending, limit: Duration) -> Option<Outcome> {
        self.run_until(limit, |_| pending.outcome().is_some());
        pending.outcome()
    }

    /// What a machine kept before it was overwritten.
    #[must_use]
    pub const fn kept(&self, host: HostId) -> &Kept {
        &self.hosts[host].kept
    }

    /// The same, to be changed.
    pub const fn kept_mut(&mut self, host: HostId) -> &mut Kept {
        &mut self.hosts[host].kept
    }

    /// What a node says of itself; `None` without the resource.
    pub fn status(&mut self, host: HostId) -> Option<ResourceStatus> {
        self.hosts[host].machine.as_ref()?;
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        let reply = Reply::new(move |status| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        });
        self.message(host, Message::Status { reply });
        answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The handlers called since the last time.
    pub fn take_handler_calls(&mut self, host: HostId) -> Vec<HandlerCall> {
        std::mem::take(&mut self.hosts[host].calls)
    }

    /// A client opens a volume.
    ///
    /// # Errors
    /// What the node says if it may not.
    pub fn open(&mut self, host: HostId, volume: VolumeId) -> Result<Client, Outcome> {
        let pending = self.start(host, Command::Open { volume, read_only: false });
        let outcome = self.finish(&pending, Duration::from_secs(1));
        if !outcome.as_ref().is_some_and(Outcome::is_success) {
            return Err(outcome.unwrap_or_else(|| Outcome::of(0)));
        }
        Ok(self.let_in(host, volume))
    }

    /// Lets a client in whose [`Command::Open`] succeeded.
    pub fn let_in(&mut self, host: HostId, volume: VolumeId) -> Client {
        let status = self.status(host).unwrap_or_default();
        let sectors = status.volumes.iter().find(|v| v.volume == volume.0).map_or(0, |v| v.size_sectors);
        let (near, far) = self.universe.borrow_mut().pair(host);
        let session = Session::new(&Export::new("r0", sectors * SECTOR_BYTES), false);
        let (leftover, name) = (Vec::new(), "client".to_owned());
        let client = NbdClient { socket: SimSocket(near), volume, session, leftover, name };
        self.message(host, Message::Client(client));
        Client::new(host, far)
    }

    /// Sends a request of a client; the cookie under which it will be answered.
    pub fn ask(&mut self, client: &mut Client, wish: Wish<'_>) -> u64 {
        let (cookie, bytes) = client.request(wish);
        self.universe.borrow_mut().send(client.socket, &bytes, None);
        cookie
    }

    /// Waits for the answer to a request.
    pub fn answer(&mut self, client: &mut Client, cookie: u64, limit: Duration) -> Option<Answer> {
        let until = self.now().after(limit);
        loop {
            self.listen(client);
            if let Some(answer) = client.answer(cookie) {
                return Some(answer);
            }
            if client.closed {
                return None;
            }
            if !self.step(until) {
                self.listen(client);
                return client.answer(cookie);
            }
        }
    }

    /// The answers that have arrived at a client.
    pub fn hear(&mut self, client: &mut Client) -> Vec<Answer> {
        self.listen(client);
        client.take_answers()
    }

    fn listen(&mut self, client: &mut Client) {
        match self.universe.borrow_mut().take_arrived(client.socket) {
            Some(bytes) => client.take(&bytes),
            None => client.closed = true,
        }
    }

    /// A client goes.
    pub fn close(&mut self, client: &Client) {
        self.universe.borrow_mut().close(client.socket);
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Duration) {
        let until = self.now().after(span);
        while self.step(until) {}
    }

    /// Lets time pass until `done`, which is asked after each moment at which something happened;
    /// whether it came within `limit`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now().after(limit);
        loop {
            if done(self) {
                return true;
            }
            if !self.step(until) {
                return done(self);
            }
        }
    }

    /// Does what is to be done now, or goes on to the next moment at which there is something, but
    /// not beyond `until`. False once that is reached.
    ///
    /// # Panics
    /// If a loop never waits.
    pub fn step(&mut self, until: Moment) -> bool {
        if self.universe.borrow_mut().run_due() {
            self.report_handlers();
            return true;
        }
        for host in [0, 1] {
            if self.is_due(host) {
                self.turns_at_once += 1;
                assert!(self.turns_at_once < TURNS_AT_ONCE, "machine {host} never waits at {:?}", self.now());
                self.turn(host);
                return true;
            }
        }
        self.turns_at_once = 0;
        let deadlines: Vec<Moment> = [0, 1].into_iter().filter_map(|host| self.deadline(host)).collect();
        let next = deadlines.into_iter().chain(self.universe.borrow().events.next_at()).min();
        let mut universe = self.universe.borrow_mut();
        match next {
            Some(next) if next <= until => {
                universe.now = universe.now.max(next);
                true
            }
            Some(_) | None => {
                universe.now = universe.now.max(until);
                false
            }
        }
    }

    fn is_due(&self, host: HostId) -> bool {
        let now = self.now();
        self.deadline(host).is_some_and(|at| at <= now)
    }

    /// When the loop of a machine runs next, if nothing new happens.
    fn deadline(&self, host: HostId) -> Option<Moment> {
        let universe = self.universe.borrow();
        let machine = self.hosts[host].machine.as_ref()?;
        let part = &universe.hosts[host];
        let at = if part.ready.is_empty() { machine.resource.next_deadline()? } else { universe.now };
        Some(at.max(part.paused_until))
    }

    fn turn(&mut self, host: HostId) {
        if let Some(machine) = &mut self.hosts[host].machine {
            let Machine { resource, io, completions } = machine;
            // The false ring cannot fail.
            let _ = resource.turn(io, completions);
        }
        self.listen_to(host);
    }

    fn message(&mut self, host: HostId, message: Message<SimSocket, SimDisk>) {
        if let Some(machine) = &mut self.hosts[host].machine {
            machine.resource.message(&mut machine.io, message);
        }
        self.listen_to(host);
    }

    /// What a resource has to say on its own account.
    fn listen_to(&mut self, host: HostId) {
        let now = self.now();
        let Host { machine: Some(machine), calls, exits, .. } = &mut self.hosts[host] else { return };
        for notice in machine.resource.take_notices() {
            let (call, name, volume) = match notice {
                Notice::Handler { call, name, volume, .. } => (call, name, volume),
                Notice::Keep { volume, ask, .. } => {
                    let mut universe = self.universe.borrow_mut();
                    let boot = universe.hosts[host].boot;
                    universe.events.plan(now.after(KEEP_TIME), Event::Keep { host, boot, volume, ask });
                    continue;
                }
                Notice::Ended { .. } => continue,
            };
            let exit = exits.get(name).copied().unwrap_or(0);
            info!(?now, host, name, exit, "handler");
            calls.push(HandlerCall { name, volume, at: now });
            self.changed_at = now;
            self.changes += 1;
            let mut universe = self.universe.borrow_mut();
            let boot = universe.hosts[host].boot;
            universe.events.plan(now.after(HANDLER_TIME), Event::Handler { host, boot, call, exit });
        }
        if machine.resource.take_status().is_some() {
            self.changed_at = now;
            self.changes += 1;
        }
    }

    fn report_handlers(&mut self) {
        let done = std::mem::take(&mut self.universe.borrow_mut().handlers_done);
        for (host, call, exit) in done {
            self.message(host, Message::HandlerDone { call, exit });
        }
        let asked = std::mem::take(&mut self.universe.borrow_mut().kept);
        for (host, volume, ask) in asked {
            let Some(disk) = self.hosts[host].disks.get(&volume.0).cloned() else { continue };
            let answer = self.hosts[host].kept.answer(&disk, volume, ask);
            self.message(host, Message::Kept { volume, answer });
        }
    }
}
