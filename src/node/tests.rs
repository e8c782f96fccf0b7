//! Two cores joined by the real wire format, on disks in memory and a clock that jumps to the next
//! deadline. Everything is instantaneous otherwise: what is tested is what the nodes decide.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use super::command::{Command, CommandId, DiskFacts, MetaPlace, Outcome};
use super::*;
use crate::buffer::Buf;
use crate::cli::meta::dialogue::{Answers, Dialogue};
use crate::cli::meta::verbs::apply_al;
use crate::cli::meta_device::MetaDevice;
use crate::config::options::{AfterSb0p, DiskOptions, NetOptions, ResourceOptions};
use crate::meta::activity_log::initialised_block;
use crate::meta::layout::{Layout, Placement, Striping};
use crate::meta::superblock::Superblock;
use crate::units::{Extent, Moment, Sector, VolumeId};
use crate::wire::{Decoded, Dialect, Packet, decode, encode};

mod copies;
mod durability;
mod failed_writes;
mod frozen;
mod giving_up;
mod greeting;
mod lies;
mod resyncing;
mod traps;
mod two_primaries;
mod verify;
mod waiting;
mod watched;

const VOLUME: VolumeId = VolumeId(0);
const DISK_BYTES: usize = 8 << 20;

/// One end of a connection.
struct End {
    peer: SocketId,
    dialect: Dialect,
    /// Bytes that arrived and are not decoded.
    inbox: Vec<u8>,
    held: bool,
    /// Bytes that went out since the node was last told that none are queued.
    unsent: usize,
}

/// A node with its disk and what the shell would keep for it.
struct Host {
    node: Node,
    disk: Vec<u8>,
    /// Nothing is kept of the data device: `disk` is the metadata.
    meta_only: bool,
    /// Most bytes that waited for the network on one socket.
    most_unsent: usize,
    ends: BTreeMap<SocketId, End>,
    listening: bool,
    outcomes: BTreeMap<u64, Outcome>,
    replies: BTreeMap<u64, Result<Option<Buf>, ReplyError>>,
    /// Disk operations that ended and were not reported.
    done: VecDeque<(Ticket, Result<Option<Buf>, DiskFault>)>,
    /// Which operations stay under way until [`World::release`].
    keeps: fn(Device, &DiskOp) -> bool,
    /// Those that do, not carried out yet.
    kept: VecDeque<(Ticket, Device, DiskOp)>,
    /// It never hears that its send queues are empty.
    network_is_busy: bool,
    /// Calls of handlers stay under way, these ones.
    slow_handlers: bool,
    calls: Vec<u64>,
    /// Which operations fail, and how.
    fails: fn(Device, &DiskOp) -> Option<DiskFault>,
    /// The operations, in the order in which they began.
    began: Vec<String>,
    /// What it sent, in order.
    said: Vec<Packet>,
    log: Vec<String>,
    next_id: u64,
}

struct World {
    now: Moment,
    hosts: [Host; 2],
    next_socket: u64,
    cut: bool,
    options: NetOptions,
    disk_options: DiskOptions,
}

fn address(host: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::from([127, 0, 0, host as u8 + 1]), 7788)
}

impl Host {
    fn new(seed: u64) -> Self {
        let mut state = seed;
        let entropy = Box::new(move |bytes: &mut [u8]| {
            for byte in bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (state >> 56) as u8;
            }
        });
        let mut disk = vec![0; DISK_BYTES];
        let layout = Layout::new(Placement::Internal, DISK_BYTES as u64 / 512, Striping::DEFAULT).unwrap();
        let block = Superblock::just_created(4096).encode(&layout);
        let at = layout.superblock_byte() as usize;
        disk[at..at + 4096].copy_from_slice(&block);
        let (log, blocks) = (layout.al_byte() as usize, layout.al_bytes() as usize / 4096);
        for block in disk[log..].chunks_exact_mut(4096).take(blocks) {
            block.copy_from_slice(&initialised_block());
        }
        Self {
            node: Node::new("r0", ResourceOptions::default(), Moment::default(), entropy),
            disk,
            meta_only: false,
            most_unsent: 0,
            ends: BTreeMap::new(),
            listening: false,
            outcomes: BTreeMap::new(),
            replies: BTreeMap::new(),
            done: VecDeque::new(),
            keeps: |_, _| false,
            network_is_busy: false,
            slow_handlers: false,
            calls: Vec::new(),
            kept: VecDeque::new(),
            fails: |_, _| None,
            began: Vec::new(),
            said: Vec::new(),
            log: Vec::new(),
            next_id: 0,
        }
    }

    /// Starts an operation: it ends at once, unless it is one of those that are kept.
    fn start(&mut self, ticket: Ticket, device: Device, op: DiskOp) {
        self.began.push(format!("{device:?} {op:?}"));
        if (self.keeps)(device, &op) {
            return self.kept.push_back((ticket, device, op));
        }
        let result = self.operate(device, op);
        self.done.push_back((ticket, result));
    }

    fn operate(&mut self, device: Device, op: DiskOp) -> Result<Option<Buf>, DiskFault> {
        if let Some(fault) = (self.fails)(device, &op) {
            return Err(fault);
        }
        if device == Device::Data && self.meta_only {
            return Ok(None);
        }
        match op {
            DiskOp::Read { offset, len } => {
                let at = offset as usize;
                Ok(Some(Buf::copied(&self.disk[at..at + len])))
            }
            DiskOp::Write { offset, data, .. } => {
                let at = offset as usize;
                self.disk[at..at + data.len()].copy_from_slice(data.bytes());
                Ok(None)
            }
            DiskOp::Flush => Ok(None),
            DiskOp::Discard { offset, len } | DiskOp::Zero { offset, len, .. } => {
                self.disk[offset as usize..(offset + len) as usize].fill(0);
                Ok(None)
            }
        }
    }

    /// What `apply-al` of the command line does before an attach: the activity log of a crash becomes bits.
    fn apply_al(&mut self) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut dialogue = Dialogue::new(&mut out, &mut err, Answers::Force);
        apply_al(&mut Tool(&mut self.disk), Placement::Internal, &mut dialogue).unwrap();
    }

    fn state(&self) -> String {
        let status = self.node.status();
        let v = &status.volumes[0];
        format!("{} {}/{} {}/{}", v.cstate, v.role, v.peer_role, v.disk, v.peer_disk)
    }
}

/// A disk as the offline tools see it.
struct Tool<'a>(&'a mut [u8]);

impl MetaDevice for Tool<'_> {
    fn name(&self) -> &str {
        "/dev/memory"
    }

    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, byte: u64, buf: &mut [u8]) -> std::io::Result<()> {
        buf.copy_from_slice(&self.0[byte as usize..byte as usize + buf.len()]);
        Ok(())
    }

    fn write_at(&mut self, byte: u64, data: &[u8]) -> std::io::Result<()> {
        self.0[byte as usize..byte as usize + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl World {
    fn new(options: NetOptions) -> Self {
        Self {
            now: Moment::default(),
            hosts: [Host::new(1), Host::new(2)],
            next_socket: 1,
            cut: false,
            options,
            disk_options: DiskOptions {
                c_plan_ahead_ds: 0,
                resync_rate_kib_s: 400 << 10,
                ..DiskOptions::default()
            },
        }
    }

    /// Two nodes that are up, as after `up` with fresh metadata.
    fn up(options: NetOptions) -> Self {
        Self::new(options).started()
    }

    fn started(self) -> Self {
        let mut world = self;
        for host in 0..2 {
            world.command(host, Command::NewMinor { volume: VOLUME, minor: 1 });
            world.attach(host);
            world.connect(host);
        }
        world.settle();
        world
    }

    fn attach(&mut self, host: usize) {
        self.attach_disk(host, DISK_BYTES as u64, MetaPlace::Internal);
    }

    /// Applies the activity log and attaches the disk.
    fn reattach(&mut self, host: usize) {
        self.hosts[host].apply_al();
        self.attach(host);
    }

    fn attach_command(&self, data_bytes: u64, meta: MetaPlace) -> Command {
        let options = Box::new(self.disk_options.clone());
        Command::Attach { volume: VOLUME, disk: facts(data_bytes, meta), options }
    }

    /// Applies the activity log and begins to attach the disk; this command's outcome is not waited for.
    fn begin_attach(&mut self, host: usize, id: u64) {
        self.hosts[host].apply_al();
        let command = self.attach_command(DISK_BYTES as u64, MetaPlace::Internal);
        self.input(host, Input::Command { id: CommandId(id), command });
    }

    fn attach_disk(&mut self, host: usize, data_bytes: u64, meta: MetaPlace) {
        let command = self.attach_command(data_bytes, meta);
        let outcome = self.command(host, command);
        assert!(outcome.is_success(), "{outcome:?}\n{}", self.logs());
    }

    fn connect(&mut self, host: usize) {
        self.connect_with(host, false);
    }

    fn connect_with(&mut self, host: usize, discard_my_data: bool) {
        let outcome = self.command(
            host,
            Command::Connect {
                local: address(host),
                peer: address(1 - host),
                options: Box::new(self.options.clone()),
                discard_my_data,
                tentative: false,
            },
        );
        assert!(outcome.is_success(), "{outcome:?}");
    }

    /// Runs a command to its end.
    fn command(&mut self, host: usize, command: Command) -> Outcome {
        self.hosts[host].next_id += 1;
        let id = self.hosts[host].next_id;
        let text = format!("{command:?}");
        self.input(host, Input::Command { id: CommandId(id), command });
        for _ in 0..10_000 {
            if let Some(outcome) = self.hosts[host].outcomes.remove(&id) {
                return outcome;
            }
            if !self.step() {
                break;
            }
        }
        panic!("{text} never ended\n{}", self.logs());
    }

    /// Gives a node a request without waiting for its end; the id is for [`World::reply`].
    fn submit(&mut self, host: usize, request: Request) -> u64 {
        self.hosts[host].next_id += 1;
        let id = self.hosts[host].next_id;
        self.input(host, Input::Request { id: RequestId(id), volume: VOLUME, request });
        id
    }

    /// The answer to a request, if it came.
    fn reply(&self, host: usize, id: u64) -> Option<Result<Option<Buf>, ReplyError>> {
        self.hosts[host].replies.get(&id).cloned()
    }

    /// Lets the operations end that were kept under way, and keeps none from now on.
    fn release(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.keeps = |_, _| false;
        for (ticket, device, op) in std::mem::take(&mut host.kept) {
            let result = host.operate(device, op);
            host.done.push_back((ticket, result));
        }
    }

    /// What was sent to a node stays on its way, or arrives from now on.
    fn hold(&mut self, host: usize, held: bool) {
        self.hosts[host].ends.values_mut().for_each(|end| end.held = held);
    }

    /// Lets the handlers under way end.
    fn end_handlers(&mut self, host: usize) {
        self.hosts[host].slow_handlers = false;
        for call in std::mem::take(&mut self.hosts[host].calls) {
            self.input(host, Input::HandlerDone { call, exit: 0 });
        }
    }

    fn request(&mut self, host: usize, request: Request) -> Result<Option<Buf>, ReplyError> {
        let id = self.submit(host, request);
        for _ in 0..10_000 {
            if let Some(reply) = self.hosts[host].replies.remove(&id) {
                return reply;
            }
            if !self.step() {
                break;
            }
        }
        panic!("a request never ended\n{}", self.logs());
    }

    fn write(&mut self, host: usize, block: u64, fill: u8) {
        assert_eq!(self.request(host, write_of(block, fill)), Ok(None), "{}", self.logs());
    }

    fn read(&mut self, host: usize, block: u64) -> u8 {
        let extent = Extent::new(Sector::new(block * 8), 8).unwrap();
        let data = self.request(host, Request::Read { extent }).unwrap().unwrap();
        data.bytes()[0]
    }

    fn input(&mut self, host: usize, input: Input) {
        self.hosts[host].node.handle(self.now, input);
        self.perform(host);
    }

    /// A node hears this on one of its two connections, as if from its peer.
    fn hear(&mut self, host: usize, meta: bool, packet: Packet, payload: Option<Buf>) {
        let link = self.hosts[host].node.link();
        let socket = if meta { link.meta } else { link.data };
        let socket = socket.expect("connected");
        self.input(host, Input::Packet { socket, volume: VOLUME, packet, payload });
    }

    /// Blocks that a node has out of sync.
    fn bits(&self, host: usize) -> u64 {
        self.hosts[host].node.status().volumes[0].counters.oos / 4
    }

    /// Whether a node has this block out of sync.
    fn is_out_of_sync(&self, host: usize, block: u64) -> bool {
        self.hosts[host].node.out_of_sync(VOLUME, crate::units::BitIndex::new(block)) == Some(true)
    }

    /// Carries out the effects of a node.
    fn perform(&mut self, host: usize) {
        while let Some(effect) = self.hosts[host].node.poll_effect() {
            match effect {
                Effect::Reply { id, result } => {
                    self.hosts[host].replies.insert(id.0, result);
                }
                Effect::Disk { ticket, device, op, .. } => self.hosts[host].start(ticket, device, op),
                Effect::Send { socket, volume, packet, payload } => {
                    self.send(host, socket, volume, packet, payload)
                }
                Effect::Speak { socket, dialect } => {
                    if let Some(end) = self.hosts[host].ends.get_mut(&socket) {
                        end.dialect = dialect;
                    }
                }
                Effect::Hold { socket, hold } => {
                    if let Some(end) = self.hosts[host].ends.get_mut(&socket) {
                        end.held = hold;
                    }
                }
                Effect::Listen { .. } => self.hosts[host].listening = true,
                Effect::Unlisten => self.hosts[host].listening = false,
                Effect::Dial { .. } => self.dial(host),
                Effect::CloseSocket(socket) => self.close(host, socket),
                Effect::CommandDone { id, outcome } => {
                    self.hosts[host].outcomes.insert(id.0, outcome);
                }
                Effect::Handler { call, .. } if self.hosts[host].slow_handlers => {
                    self.hosts[host].calls.push(call);
                }
                Effect::Handler { call, .. } => {
                    self.hosts[host].node.handle(self.now, Input::HandlerDone { call, exit: 0 });
                }
                Effect::Keep { volume, .. } => {
                    let answer = crate::node::keep::KeepAnswer::Refused(None);
                    self.hosts[host].node.handle(self.now, Input::Kept { volume, answer });
                }
                Effect::Log { text, .. } => self.hosts[host].log.push(text),
                Effect::CloseDisk { .. }
                | Effect::SendTimeout { .. }
                | Effect::AbortDial
                | Effect::StatusChanged => {}
            }
        }
    }

    fn send(
        &mut self,
        host: usize,
        socket: SocketId,
        volume: VolumeId,
        packet: Packet,
        payload: Option<Buf>,
    ) {
        let sender = &mut self.hosts[host];
        sender.said.push(packet.clone());
        let Some(end) = sender.ends.get_mut(&socket) else { return };
        let (peer, mut bytes) = (end.peer, Vec::new());
        encode(&packet, volume, payload.as_ref().map_or(0, Buf::len), &end.dialect, &mut bytes);
        if let Some(payload) = payload {
            bytes.extend_from_slice(payload.bytes());
        }
        end.unsent += bytes.len();
        sender.most_unsent = sender.most_unsent.max(end.unsent);
        if self.cut {
            return;
        }
        if let Some(end) = self.hosts[1 - host].ends.get_mut(&peer) {
            end.inbox.extend_from_slice(&bytes);
        }
    }

    fn dial(&mut self, host: usize) {
        if self.cut || !self.hosts[1 - host].listening {
            let fault = super::input::DialFault { errno: 111 };
            return self.hosts[host].node.handle(self.now, Input::Dialed(Err(fault)));
        }
        let (own, theirs) = (SocketId(self.next_socket), SocketId(self.next_socket + 1));
        self.next_socket += 2;
        let end =
            |peer| End { peer, dialect: Dialect::BEFORE_FEATURES, inbox: Vec::new(), held: false, unsent: 0 };
        self.hosts[host].ends.insert(own, end(theirs));
        self.hosts[1 - host].ends.insert(theirs, end(own));
        self.hosts[host].node.handle(self.now, Input::Dialed(Ok(own)));
        let from = address(host).ip();
        self.input(1 - host, Input::Accepted { socket: theirs, from });
    }

    fn close(&mut self, host: usize, socket: SocketId) {
        let Some(end) = self.hosts[host].ends.remove(&socket) else { return };
        // What was sent before is delivered first.
        self.deliver(1 - host);
        if self.hosts[1 - host].ends.remove(&end.peer).is_some() {
            self.input(1 - host, Input::SocketEnded { socket: end.peer, end: SocketEnd::Closed });
        }
    }

    /// Cuts the link: both nodes see it at once.
    fn cut(&mut self) {
        self.cut = true;
        for host in 0..2 {
            let sockets: Vec<SocketId> = self.hosts[host].ends.keys().copied().collect();
            for socket in sockets {
                self.hosts[host].ends.remove(&socket);
                self.input(host, Input::SocketEnded { socket, end: SocketEnd::Error(104) });
            }
        }
        self.settle();
    }

    fn join(&mut self) {
        self.cut = false;
        self.settle();
    }

    /// Delivers packets and disk completions; whether there was something.
    fn deliver(&mut self, host: usize) -> bool {
        let mut any = false;
        while let Some((ticket, result)) = self.hosts[host].done.pop_front() {
            self.input(host, Input::DiskDone { ticket, result });
            any = true;
        }
        let sockets: Vec<SocketId> = self.hosts[host].ends.keys().copied().collect();
        for socket in sockets {
            let busy = self.hosts[host].network_is_busy;
            let end = self.hosts[host].ends.get_mut(&socket).filter(|_| !busy);
            if end.is_some_and(|end| std::mem::take(&mut end.unsent) > 0) {
                self.input(host, Input::SendQueueEmpty(socket));
                any = true;
            }
            while self.deliver_packet(host, socket) {
                any = true;
            }
        }
        any
    }

    /// What is on its way arrives, and so does what that leads to; no time passes.
    fn deliver_all(&mut self) {
        while self.deliver(0) | self.deliver(1) {}
    }

    /// Delivers the next packet of a socket, if it is there and may be taken.
    fn deliver_packet(&mut self, host: usize, socket: SocketId) -> bool {
        let Some(end) = self.hosts[host].ends.get_mut(&socket).filter(|end| !end.held) else { return false };
        let decoded = decode(&end.inbox, &end.dialect).expect("our own packets are well formed");
        let Decoded::Packet { volume, packet, consumed, payload_bytes } = decoded else { return false };
        if end.inbox.len() < consumed + payload_bytes {
            return false;
        }
        let carries = packet.carries_payload() && payload_bytes > 0;
        let payload = carries.then(|| Buf::copied(&end.inbox[consumed..consumed + payload_bytes]));
        end.inbox.drain(..consumed + payload_bytes);
        self.input(host, Input::Packet { socket, volume, packet, payload });
        true
    }

    /// One step: delivers what is there, or jumps to the next deadline. False once nothing is left.
    fn step(&mut self) -> bool {
        if self.deliver(0) | self.deliver(1) {
            return true;
        }
        let Some(next) = self.hosts.iter().filter_map(|h| h.node.next_deadline()).min() else { return false };
        self.now = self.now.max(next);
        for host in 0..2 {
            if self.hosts[host].node.next_deadline().is_some_and(|at| at <= self.now) {
                self.input(host, Input::Timeout);
                // No two clocks strike at the same time: the other node may hear of it before its own does.
                self.deliver(1 - host);
            }
        }
        true
    }

    /// Goes on until something is so.
    fn step_until(&mut self, is_so: fn(&Self) -> bool) {
        for _ in 0..10_000 {
            if is_so(self) || !self.step() {
                break;
            }
        }
        assert!(is_so(self), "it never came to that\n{}", self.logs());
    }

    /// Lets 30 seconds pass.
    fn settle(&mut self) {
        self.run_for(std::time::Duration::from_secs(30));
    }

    /// Lets so much time pass.
    fn run_for(&mut self, span: std::time::Duration) {
        let until = self.now.after(span);
        for _ in 0..200_000 {
            if self.now >= until || !self.step() {
                return self.audit();
            }
        }
        panic!("never quiet\n{}", self.logs());
    }

    /// Both cores' own books are right.
    fn audit(&self) {
        for host in &self.hosts {
            if let Err(why) = host.node.audit() {
                panic!("{why}\n{}", self.logs());
            }
        }
    }

    fn states(&self) -> [String; 2] {
        [self.hosts[0].state(), self.hosts[1].state()]
    }

    fn logs(&self) -> String {
        format!("A:\n  {}\nB:\n  {}", self.hosts[0].log.join("\n  "), self.hosts[1].log.join("\n  "))
    }

    fn assert_states(&self, a: &str, b: &str) {
        assert_eq!(self.states(), [a, b], "\n{}", self.logs());
    }

    fn uuids(&self, host: usize) -> [u64; 4] {
        self.hosts[host].node.status().volumes[0].uuids.map(|uuid| uuid & !1)
    }

    fn assert_equal_disks(&self) {
        let end = self.hosts[0].node.status().volumes[0].size_sectors as usize * 512;
        let differs = (0..end).find(|at| self.hosts[0].disk[*at] != self.hosts[1].disk[*at]);
        assert_eq!(differs, None, "the disks differ at this byte\n{}", self.logs());
    }

    fn synced(options: NetOptions) -> Self {
        Self::new(options).in_sync()
    }

    /// Starts both nodes; the first becomes Primary, and the source of the first sync.
    fn in_sync(self) -> Self {
        let mut world = self.started();
        assert!(world.command(0, Command::Primary { volume: VOLUME, force: true }).is_success());
        world.settle();
        world
    }
}

/// What the shell finds out about a disk in memory.
fn facts(data_bytes: u64, meta: MetaPlace) -> DiskFacts {
    DiskFacts {
        data_bytes,
        meta_bytes: DISK_BYTES as u64,
        meta,
        logical_block_bytes: 512,
        physical_block_bytes: 512,
        io_min_bytes: 0,
        io_opt_bytes: 0,
        max_io_bytes: 1 << 20,
        discards: true,
        separate_meta: meta != MetaPlace::Internal,
        path: "/dev/memory".into(),
    }
}

/// A write of one whole block.
fn write_of(block: u64, fill: u8) -> Request {
    let extent = Extent::new(Sector::new(block * 8), 8).unwrap();
    Request::Write { extent, data: Buf::copied(&[fill; 4096]), fua: false }
}

fn plain() -> NetOptions {
    NetOptions::default()
}

/// No operation but writes of data.
fn writes_data(device: Device, op: &DiskOp) -> bool {
    device == Device::Data && matches!(op, DiskOp::Write { .. })
}

const IN_SYNC: [&str; 2] =
    ["Connected Primary/Secondary UpToDate/UpToDate", "Connected Secondary/Primary UpToDate/UpToDate"];

fn flushes_data(device: Device, op: &DiskOp) -> bool {
    device == Device::Data && matches!(op, DiskOp::Flush)
}

fn authenticated() -> NetOptions {
    let mut options = NetOptions::default();
    options.set("cram-hmac-alg", Some("sha1")).unwrap();
    options.set("shared-secret", Some("secret")).unwrap();
    options
}

/// A small generator of numbers: a schedule depends on the seed alone.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn fresh_nodes_connect_and_stay_inconsistent() {
    let world = World::up(plain());
    let both = "Connected Secondary/Secondary Inconsistent/Inconsistent";
    world.assert_states(both, both); // T1
}

#[test]
fn a_forced_promotion_starts_the_first_sync() {
    for options in [plain(), authenticated()] {
        let world = World::synced(options);
        world.assert_states(
            "Connected Primary/Secondary UpToDate/UpToDate",
            "Connected Secondary/Primary UpToDate/UpToDate",
        );
        let [g1, zero, r1, created] = world.uuids(0);
        assert_eq!((zero, created), (0, 4), "g1:0:r1:JC (T1)");
        assert_eq!(world.uuids(1), [g1, 0, r1, 4]);
        world.assert_equal_disks();
    }
}

#[test]
fn writes_reach_both_disks_and_a_switchover_needs_no_sync() {
    let mut world = World::synced(plain());
    world.write(0, 3, 7);
    world.write(0, 1000, 8);
    assert_eq!(world.request(0, Request::Flush), Ok(None));
    world.assert_equal_disks();
    let before = world.uuids(0);
    assert!(world.command(0, Command::Secondary { volume: VOLUME }).is_success(), "{}", world.logs());
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.write(1, 5, 9);
    assert_eq!(world.read(1, 3), 7);
    world.settle();
    world.assert_states(
        "Connected Secondary/Primary UpToDate/UpToDate",
        "Connected Primary/Secondary UpToDate/UpToDate",
    ); // T2
    assert_eq!(world.uuids(0), before);
    world.assert_equal_disks();
}

#[test]
fn a_cut_is_healed_by_a_resync_of_what_was_written() {
    let mut world = World::synced(plain());
    let [g1, ..] = world.uuids(0);
    world.cut();
    world.assert_states(
        "WFConnection Primary/Unknown UpToDate/DUnknown",
        "WFConnection Secondary/Unknown UpToDate/DUnknown",
    ); // T4
    let [g2, bitmap, ..] = world.uuids(0);
    assert!(g2 != g1 && bitmap == g1, "a new generation when the peer is lost (N1)");
    for block in 0..5 {
        world.write(0, block * 100, 42);
    }
    assert_eq!(world.hosts[0].node.status().volumes[0].counters.oos, 20);
    world.join();
    world.assert_states(
        "Connected Primary/Secondary UpToDate/UpToDate",
        "Connected Secondary/Primary UpToDate/UpToDate",
    );
    assert_eq!(world.uuids(0), [g2, 0, g1 + (1 << 48), g1], "T4, the last row");
    assert_eq!(world.uuids(1), [g2, 0, g1 + (1 << 48), g1]);
    assert!(
        world.hosts[1].log.iter().any(|l| l.contains("will sync 20 KB [5 bits set]")),
        "{}",
        world.logs()
    );
    world.assert_equal_disks();
}

#[test]
fn both_primaries_apart_is_a_split_brain_and_a_victim_can_be_named() {
    let mut world = World::synced(plain());
    world.cut();
    world.write(0, 1, 1);
    assert!(world.command(1, Command::Primary { volume: VOLUME, force: false }).is_success());
    world.write(1, 2, 2);
    world.join();
    let standalone = |s: &String| s.starts_with("StandAlone");
    assert!(world.states().iter().any(standalone), "{:?}\n{}", world.states(), world.logs());
    assert!(world.command(1, Command::Secondary { volume: VOLUME }).is_success());
    for host in 0..2 {
        world.command(host, Command::Disconnect { force: true });
    }
    world.connect_with(1, true);
    world.connect(0);
    world.settle();
    world.assert_states(
        "Connected Primary/Secondary UpToDate/UpToDate",
        "Connected Secondary/Primary UpToDate/UpToDate",
    ); // T5
    assert_eq!((world.read(0, 1), world.read(0, 2)), (1, 0));
    world.assert_equal_disks();
}

#[test]
fn an_automatic_policy_resolves_a_split_brain() {
    let options = NetOptions { after_sb_0pri: AfterSb0p::DiscardLeastChanges, ..plain() };
    let mut world = World::synced(options);
    world.cut();
    for block in 0..7 {
        world.write(0, block, 1);
    }
    world.command(0, Command::Secondary { volume: VOLUME });
    world.command(1, Command::Primary { volume: VOLUME, force: false });
    world.write(1, 20, 2);
    world.command(1, Command::Secondary { volume: VOLUME });
    world.join();
    let both = "Connected Secondary/Secondary UpToDate/UpToDate";
    world.assert_states(both, both);
    world.assert_equal_disks();
    assert_eq!(world.hosts[1].disk[0], 1, "the node with more changes won");
}

#[test]
fn a_graceful_disconnect_leaves_the_peer_looking_and_ends_standalone() {
    let mut world = World::synced(plain());
    assert!(world.command(1, Command::Disconnect { force: false }).is_success());
    world.settle();
    world.assert_states(
        "WFConnection Primary/Unknown UpToDate/DUnknown",
        "StandAlone Secondary/Unknown UpToDate/DUnknown",
    );
    world.write(0, 9, 9);
    world.connect(1);
    world.settle();
    world.assert_equal_disks();
    world.assert_states(
        "Connected Primary/Secondary UpToDate/UpToDate",
        "Connected Secondary/Primary UpToDate/UpToDate",
    );
}

#[test]
fn down_takes_everything_apart() {
    let mut world = World::synced(plain());
    world.write(0, 9, 9);
    let outcome = world.command(0, Command::Down);
    assert!(outcome.is_success(), "{outcome:?}\n{}", world.logs());
    assert!(world.hosts[0].node.status().volumes.is_empty());
    world.settle();
    assert_eq!(world.hosts[1].state(), "WFConnection Secondary/Unknown UpToDate/DUnknown");
}

#[test]
fn a_detached_primary_goes_on_through_its_peer_and_comes_back() {
    let mut world = World::synced(plain());
    assert!(
        world.command(0, Command::Detach { volume: VOLUME, force: false }).is_success(),
        "{}",
        world.logs()
    );
    world.settle();
    world.assert_states(
        "Connected Primary/Secondary Diskless/UpToDate",
        "Connected Secondary/Primary UpToDate/Diskless",
    ); // T14
    world.write(0, 4, 44);
    assert_eq!(world.read(0, 4), 44);
    world.hosts[0].apply_al();
    world.attach(0);
    world.settle();
    world.assert_states(
        "Connected Primary/Secondary UpToDate/UpToDate",
        "Connected Secondary/Primary UpToDate/UpToDate",
    );
    world.assert_equal_disks();
}

#[test]
fn a_wrong_secret_parts_both_for_good() {
    let mut world = World::new(authenticated());
    for host in 0..2 {
        world.command(host, Command::NewMinor { volume: VOLUME, minor: 1 });
        world.attach(host);
        world.connect(host);
        world.options.set("shared-secret", Some("other")).unwrap();
    }
    world.settle();
    let both = "StandAlone Secondary/Unknown Inconsistent/DUnknown";
    world.assert_states(both, both); // S75 (iv)
}
