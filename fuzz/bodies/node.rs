//! The core against a hostile peer, a bad disk, and clients and operators who want everything at
//! once.
//!
//! The bytes are a list of [`Op`]s for one node. The seeds are real sessions: a second node plays
//! the peer while the ops of the first are recorded. Mutated, they go wrong in the middle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use urbd::buffer::Buf;
use urbd::config::options::{DiskOptions, NetOptions, ResourceOptions};
use urbd::meta::layout::{Layout, Placement, Striping};
use urbd::meta::superblock::Superblock;
use urbd::node::command::{Command, CommandId, DiskFacts, MetaPlace};
use urbd::node::input::DialFault;
use urbd::node::keep::{KeepAnswer, KeepAsk};
use urbd::node::{
    DiskFault, DiskOp, Effect, Input, Node, ReplyError, Request, RequestId, SocketEnd, SocketId, Ticket,
};
use urbd::units::{Extent, Moment, Sector, VolumeId};
use urbd::wire::{Decoded, Dialect, Packet, WireError, decode, encode};

/// Bytes: net options, then ops. Whatever the peer and the disk do, the node keeps to its own
/// contract (see [`Host::perform`]), and once they are gone everything asked of it is answered.
pub(crate) fn hostile_peer(mut data: &[u8]) {
    let mut host = Host::new(1, super::take_byte(&mut data));
    host.set_up();
    while let Some(op) = Op::take(&mut data) {
        host.apply(op);
    }
    host.wind_down();
}

/// Sessions with a well-behaved peer, in each direction, with and without authentication.
pub(crate) fn hostile_peer_seeds() -> Vec<Vec<u8>> {
    use Operator::{
        Close, Connect, Detach, Disconnect, Invalidate, NewUuid, OutdatePeer, Primary, PrimaryForce,
        Secondary,
    };
    let write = |block| Op::Request { kind: 1, block, blocks: 2 };
    let source = |session: &mut Session| {
        session.op(Op::Operator(PrimaryForce as u8));
        session.settle();
        for op in [write(3), write(100), Op::Request { kind: 2, block: 0, blocks: 0 }] {
            session.op(op);
        }
        session.op(Op::Request { kind: 0, block: 3, blocks: 1 });
        session.op(Op::Request { kind: 3, block: 16, blocks: 8 });
        session.op(Op::Request { kind: 4, block: 32, blocks: 8 });
        session.settle();
    };
    let mut seeds = Vec::new();
    for options in [0x02, 0x40, 0x4d, 0x62, 0x5a] {
        let mut session = Session::up(options);
        source(&mut session);
        session.op(Op::Operator(Close as u8));
        session.op(Op::Operator(Secondary as u8));
        session.settle();
        session.peer(Primary);
        session.settle();
        session.peer_request(1, 8, 3);
        session.peer_request(4, 64, 4);
        session.peer_request(3, 80, 4);
        session.settle();
        session.peer(Detach);
        session.settle();
        session.peer_request(0, 8, 3);
        session.peer_request(1, 9, 1);
        session.settle();
        seeds.push(session.ops);

        // The peer is lost and comes back: bitmaps, a resync from here to there.
        let mut session = Session::up(options);
        session.op(Op::Operator(NewUuid as u8));
        session.settle();
        session.op(Op::Operator(Primary as u8));
        session.settle();
        session.cut();
        session.op(write(5));
        session.op(write(90));
        session.settle();
        seeds.push(session.ops);

        // The other way round, and then split brain.
        let mut session = Session::up(options);
        session.peer(PrimaryForce);
        session.settle();
        session.cut();
        session.peer_request(1, 40, 2);
        session.settle();
        session.op(Op::Operator(Invalidate as u8));
        session.settle();
        session.op(Op::Operator(Disconnect as u8));
        session.settle();
        session.op(Op::Operator(PrimaryForce as u8));
        session.op(write(7));
        session.settle();
        session.op(Op::Operator(Connect as u8));
        session.op(Op::Operator(OutdatePeer as u8));
        session.settle();
        seeds.push(session.ops);
    }
    seeds
}

/// One thing that happens to the node.
#[derive(Clone, Copy, Debug)]
enum Op<'a> {
    /// Bytes arrive on the socket with this index.
    Bytes { socket: u8, bytes: &'a [u8] },
    /// So many zero bytes arrive.
    Zeroes { socket: u8, len: u16 },
    /// The peer connects.
    Accept,
    /// The dial under way ends.
    Dialed { connected: bool },
    /// A disk operation ends: which one, and how.
    Disk { index: u8, how: u8 },
    /// All disk operations end well, in order.
    Disks,
    /// The next deadline comes.
    Deadline,
    /// Time passes.
    Sleep { ms: u16 },
    /// A client asks: read, write, flush, trim, zeroes; in blocks of 4 KiB.
    Request { kind: u8, block: u16, blocks: u8 },
    /// An [`Operator`] commands.
    Operator(u8),
    /// A socket ends.
    End { socket: u8 },
    /// A socket's queue is empty, or has not moved for long.
    Queue { socket: u8, stalled: bool },
}

impl<'a> Op<'a> {
    /// Takes one off the front; `None` at the end.
    fn take(data: &mut &'a [u8]) -> Option<Self> {
        let (&kind, rest) = data.split_first()?;
        *data = rest;
        let mut byte = || super::take_byte(data);
        Some(match kind % 12 {
            0 => {
                let (socket, len) = (byte(), usize::from(byte()) << 8 | usize::from(byte()));
                let (bytes, rest) = data.split_at(len.min(data.len()));
                *data = rest;
                Self::Bytes { socket, bytes }
            }
            1 => Self::Zeroes { socket: byte(), len: u16::from(byte()) << 8 | u16::from(byte()) },
            2 => Self::Accept,
            3 => Self::Dialed { connected: byte() & 1 != 0 },
            4 => Self::Disk { index: byte(), how: byte() },
            5 => Self::Disks,
            6 => Self::Deadline,
            7 => Self::Sleep { ms: u16::from(byte()) << 8 | u16::from(byte()) },
            8 => Self::Request {
                kind: byte(),
                block: u16::from(byte()) << 8 | u16::from(byte()),
                blocks: byte(),
            },
            9 => Self::Operator(byte()),
            10 => Self::End { socket: byte() },
            _ => Self::Queue { socket: byte(), stalled: byte() & 1 != 0 },
        })
    }

    /// The bytes from which [`Op::take`] makes it.
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes { socket, bytes } => {
                out.extend([0, socket]);
                out.extend((bytes.len() as u16).to_be_bytes());
                out.extend(bytes);
            }
            Self::Zeroes { socket, len } => {
                out.extend([1, socket]);
                out.extend(len.to_be_bytes());
            }
            Self::Accept => out.push(2),
            Self::Dialed { connected } => out.extend([3, u8::from(connected)]),
            Self::Disk { index, how } => out.extend([4, index, how]),
            Self::Disks => out.push(5),
            Self::Deadline => out.push(6),
            Self::Sleep { ms } => {
                out.push(7);
                out.extend(ms.to_be_bytes());
            }
            Self::Request { kind, block, blocks } => {
                out.extend([8, kind]);
                out.extend(block.to_be_bytes());
                out.push(blocks);
            }
            Self::Operator(which) => out.extend([9, which]),
            Self::End { socket } => out.extend([10, socket]),
            Self::Queue { socket, stalled } => out.extend([11, socket, u8::from(stalled)]),
        }
    }
}

/// What an operator can ask for.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Operator {
    Primary,
    PrimaryForce,
    Secondary,
    Disconnect,
    DisconnectForce,
    Connect,
    Detach,
    DetachForce,
    Attach,
    Invalidate,
    InvalidateRemote,
    NewUuid,
    OutdatePeer,
    Pause,
    Resume,
    Suspend,
    ResumeIo,
    Down,
    Close,
}

impl Operator {
    const ALL: [Self; 19] = [
        Self::Primary,
        Self::PrimaryForce,
        Self::Secondary,
        Self::Disconnect,
        Self::DisconnectForce,
        Self::Connect,
        Self::Detach,
        Self::DetachForce,
        Self::Attach,
        Self::Invalidate,
        Self::InvalidateRemote,
        Self::NewUuid,
        Self::OutdatePeer,
        Self::Pause,
        Self::Resume,
        Self::Suspend,
        Self::ResumeIo,
        Self::Down,
        Self::Close,
    ];

    fn command(self, host: &Host) -> Command {
        let volume = VOLUME;
        match self {
            Self::Primary => Command::Primary { volume, force: false },
            Self::PrimaryForce => Command::Primary { volume, force: true },
            Self::Secondary => Command::Secondary { volume },
            Self::Disconnect => Command::Disconnect { force: false },
            Self::DisconnectForce => Command::Disconnect { force: true },
            Self::Connect => host.connect(),
            Self::Detach => Command::Detach { volume, force: false },
            Self::DetachForce => Command::Detach { volume, force: true },
            Self::Attach => attach(),
            Self::Invalidate => Command::Invalidate { volume },
            Self::InvalidateRemote => Command::InvalidateRemote { volume },
            Self::NewUuid => Command::NewCurrentUuid { volume, clear_bitmap: true },
            Self::OutdatePeer => Command::Outdate { volume },
            Self::Pause => Command::PauseSync { volume },
            Self::Resume => Command::ResumeSync { volume },
            Self::Suspend => Command::SuspendIo { volume },
            Self::ResumeIo => Command::ResumeIo { volume },
            Self::Down => Command::Down,
            Self::Close => Command::Close { volume },
        }
    }
}

const VOLUME: VolumeId = VolumeId(0);
const DISK_BYTES: usize = 1 << 20;
/// No single input makes a node of this size do more.
const MAX_EFFECTS: usize = 100_000;

/// A node, and what its shell keeps for it.
struct Host {
    node: Node,
    now: Moment,
    options: NetOptions,
    own: SocketAddr,
    peer: SocketAddr,
    disk: Vec<u8>,
    in_flight: VecDeque<(Ticket, DiskOp)>,
    sockets: Vec<End>,
    next_socket: u64,
    listening: bool,
    dialing: bool,
    next_id: u64,
    /// Bytes each open request must be answered with.
    requests: BTreeMap<u64, usize>,
    /// Whether a client has the volume open, and the command by which it asked for that.
    is_open: bool,
    opening: BTreeSet<u64>,
    commands: BTreeSet<u64>,
    handlers: VecDeque<u64>,
    asked: VecDeque<(VolumeId, KeepAsk)>,
    /// What was sent, for the other side of a session.
    sent: Vec<(SocketId, Vec<u8>)>,
}

/// A packet, the volume in its header, and its block data.
type Arrived = (VolumeId, Packet, Option<Buf>);

/// One end of a connection.
struct End {
    id: SocketId,
    dialect: Dialect,
    inbox: Vec<u8>,
    held: bool,
}

impl Host {
    fn new(seed: u8, options: u8) -> Self {
        let mut state = u64::from(seed);
        let entropy = Box::new(move |bytes: &mut [u8]| {
            for byte in bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (state >> 56) as u8;
            }
        });
        let address = |last| SocketAddr::new(IpAddr::from([127, 0, 0, last]), 7788);
        let mut disk = vec![0; DISK_BYTES];
        let layout = Layout::new(Placement::Internal, DISK_BYTES as u64 / 512, Striping::DEFAULT).unwrap();
        let at = layout.superblock_byte() as usize;
        disk[at..at + 4096].copy_from_slice(&Superblock::just_created(4096).encode(&layout));
        for position in 0..layout.striping().blocks() {
            let at = layout.al_block_byte(position) as usize;
            disk[at..at + 4096].copy_from_slice(&urbd::meta::activity_log::initialised_block());
        }
        Self {
            node: Node::new("r0", ResourceOptions::default(), Moment::default(), entropy),
            now: Moment::default(),
            options: net_options(options),
            own: address(seed),
            peer: address(3 - seed),
            disk,
            in_flight: VecDeque::new(),
            sockets: Vec::new(),
            next_socket: 1,
            listening: false,
            dialing: false,
            next_id: 0,
            requests: BTreeMap::new(),
            is_open: false,
            opening: BTreeSet::new(),
            commands: BTreeSet::new(),
            handlers: VecDeque::new(),
            asked: VecDeque::new(),
            sent: Vec::new(),
        }
    }

    fn set_up(&mut self) {
        self.command(Command::NewMinor { volume: VOLUME, minor: 1 });
        self.command(attach());
        while !self.in_flight.is_empty() {
            self.apply(Op::Disks);
        }
        self.command(self.connect());
    }

    fn connect(&self) -> Command {
        Command::Connect {
            local: self.own,
            peer: self.peer,
            options: Box::new(self.options.clone()),
            discard_my_data: false,
            tentative: false,
        }
    }

    fn apply(&mut self, op: Op<'_>) {
        match op {
            Op::Bytes { socket, bytes } => self.arrive(socket, |inbox| inbox.extend_from_slice(bytes)),
            Op::Zeroes { socket, len } => {
                self.arrive(socket, |inbox| inbox.resize(inbox.len() + usize::from(len), 0));
            }
            Op::Accept if self.listening => {
                let socket = self.new_socket();
                self.input(Input::Accepted { socket, from: self.peer.ip() });
            }
            Op::Dialed { connected } if self.dialing => {
                self.dialing = false;
                let result = if connected { Ok(self.new_socket()) } else { Err(DialFault { errno: 111 }) };
                self.input(Input::Dialed(result));
            }
            Op::Accept | Op::Dialed { .. } => {}
            Op::Disk { index, how } => {
                let index = usize::from(index) % self.in_flight.len().max(1);
                if let Some((ticket, op)) = self.in_flight.remove(index) {
                    let result = match how % 8 {
                        0 => Err(DiskFault::Os(5)),
                        1 => Err(DiskFault::Unsupported),
                        2 => Err(DiskFault::Short),
                        _ => Ok(self.operate(op)),
                    };
                    self.input(Input::DiskDone { ticket, result });
                }
            }
            Op::Disks => {
                for (ticket, op) in std::mem::take(&mut self.in_flight) {
                    let result = Ok(self.operate(op));
                    self.input(Input::DiskDone { ticket, result });
                }
            }
            Op::Deadline => self.pass_to_deadline(),
            Op::Sleep { ms } => {
                self.now = self.now.after(Duration::from_millis(ms.into()));
                self.input(Input::Timeout);
            }
            Op::Request { kind, block, blocks } => self.request(kind, block, blocks),
            Op::Operator(which) => {
                match Operator::ALL[usize::from(which) % Operator::ALL.len()] {
                    // The client goes once it has its answers.
                    Operator::Close if !self.is_open || !self.requests.is_empty() => {}
                    operator => {
                        self.is_open &= !matches!(operator, Operator::Close);
                        self.command(operator.command(self));
                    }
                }
            }
            Op::End { socket } => {
                if let Some(index) = self.index(socket) {
                    let socket = self.sockets.remove(index).id;
                    self.input(Input::SocketEnded { socket, end: SocketEnd::Closed });
                }
            }
            Op::Queue { socket, stalled } => {
                if let Some(index) = self.index(socket) {
                    let id = self.sockets[index].id;
                    self.input(if stalled { Input::SendStalled(id) } else { Input::SendQueueEmpty(id) });
                }
            }
        }
    }

    /// Time jumps to the next deadline. What was due is done then: the next one lies in the future.
    fn pass_to_deadline(&mut self) {
        let Some(at) = self.node.next_deadline() else { return };
        self.now = self.now.max(at);
        for _ in 0..100 {
            self.input(Input::Timeout);
            if self.node.next_deadline().is_none_or(|next| next > self.now) {
                return;
            }
        }
        panic!("the deadline {:?} stays due for ever", self.node.next_deadline());
    }

    fn request(&mut self, kind: u8, block: u16, blocks: u8) {
        let sectors = (u32::from(blocks % 64) + 1) * 8;
        let extent = Extent::new(Sector::new(u64::from(block) * 8), sectors).unwrap();
        let bytes = extent.bytes() as usize;
        let (request, answer) = match kind % 5 {
            0 => (Request::Read { extent }, bytes),
            1 => (Request::Write { extent, data: Buf::zeroed(bytes), fua: kind & 8 != 0 }, 0),
            2 => (Request::Flush, 0),
            3 => (Request::Trim { extent, fua: kind & 8 != 0 }, 0),
            _ => (Request::WriteZeroes { extent, fua: false, may_trim: kind & 8 != 0 }, 0),
        };
        // Only a client that opened the volume asks anything of it.
        if !self.is_open {
            self.command(Command::Open { volume: VOLUME, read_only: false });
        }
        if !self.is_open {
            return;
        }
        self.next_id += 1;
        self.requests.insert(self.next_id, answer);
        self.input(Input::Request { id: RequestId(self.next_id), volume: VOLUME, request });
    }

    fn command(&mut self, command: Command) {
        self.next_id += 1;
        match command {
            Command::Close { .. } => {} // has no outcome
            Command::Open { .. } => {
                self.opening.insert(self.next_id);
                self.commands.insert(self.next_id);
            }
            _ => {
                self.commands.insert(self.next_id);
            }
        }
        self.input(Input::Command { id: CommandId(self.next_id), command });
    }

    fn new_socket(&mut self) -> SocketId {
        let id = SocketId(self.next_socket);
        self.next_socket += 1;
        self.sockets.push(End { id, dialect: Dialect::BEFORE_FEATURES, inbox: Vec::new(), held: false });
        id
    }

    fn index(&self, socket: u8) -> Option<usize> {
        (!self.sockets.is_empty()).then(|| usize::from(socket) % self.sockets.len())
    }

    fn index_of(&self, id: Option<SocketId>) -> Option<u8> {
        self.sockets.iter().position(|end| Some(end.id) == id).map(|index| index as u8)
    }

    fn arrive(&mut self, socket: u8, append: impl FnOnce(&mut Vec<u8>)) {
        if let Some(index) = self.index(socket) {
            append(&mut self.sockets[index].inbox);
            self.decode_all();
        }
    }

    fn input(&mut self, input: Input) {
        self.handle(input);
        // A hold may have ended.
        self.decode_all();
    }

    fn handle(&mut self, input: Input) {
        self.node.handle(self.now, input);
        self.perform();
        while let Some(call) = self.handlers.pop_front() {
            self.node.handle(self.now, Input::HandlerDone { call, exit: 0 });
            self.perform();
        }
        while let Some((volume, ask)) = self.asked.pop_front() {
            let answer = match ask {
                KeepAsk::Begin { blocks, .. } => KeepAnswer::Missing(blocks),
                KeepAsk::Resume { .. } => KeepAnswer::Missing(Vec::new()),
                KeepAsk::Chunk { chunk, .. } => KeepAnswer::Kept { chunk },
            };
            self.node.handle(self.now, Input::Kept { volume, answer });
            self.perform();
        }
    }

    /// Gives the node all packets that are complete, as the shell does.
    fn decode_all(&mut self) {
        while let Some((socket, decoded)) = self.next_packet() {
            match decoded {
                Ok((volume, packet, payload)) => {
                    self.handle(Input::Packet { socket, volume, packet, payload })
                }
                Err(error) => {
                    self.sockets.retain(|end| end.id != socket);
                    self.handle(Input::SocketEnded { socket, end: SocketEnd::Malformed(error) });
                }
            }
        }
    }

    fn next_packet(&mut self) -> Option<(SocketId, Result<Arrived, WireError>)> {
        for end in self.sockets.iter_mut().filter(|end| !end.held) {
            match decode(&end.inbox, &end.dialect) {
                Err(error) => return Some((end.id, Err(error))),
                Ok(Decoded::NeedMore(_)) => {}
                Ok(Decoded::Packet { volume, packet, consumed, payload_bytes }) => {
                    let Some(payload) = end.inbox.get(consumed..consumed + payload_bytes) else { continue };
                    let payload = (payload_bytes > 0).then(|| Buf::copied(payload));
                    end.inbox.drain(..consumed + payload_bytes);
                    return Some((end.id, Ok((volume, packet, payload))));
                }
            }
        }
        None
    }

    /// Takes the effects, and checks what the shell relies on: disk operations lie on the device
    /// and are whole sectors; tickets are unique; everything open is answered once.
    fn perform(&mut self) {
        let mut effects = 0;
        while let Some(effect) = self.node.poll_effect() {
            effects += 1;
            assert!(effects < MAX_EFFECTS, "the node does not come to rest");
            match effect {
                Effect::Reply { id, result } => {
                    let wanted = self.requests.remove(&id.0).expect("an answer to no request");
                    check_reply(result, wanted);
                }
                Effect::CommandDone { id, outcome } => {
                    assert!(self.commands.remove(&id.0), "an outcome of no command");
                    if self.opening.remove(&id.0) && outcome.is_success() {
                        self.is_open = true;
                    }
                }
                Effect::Disk { ticket, op, .. } => {
                    check_disk_op(&op);
                    assert!(self.in_flight.iter().all(|(other, _)| *other != ticket), "{ticket:?} twice");
                    self.in_flight.push_back((ticket, op));
                }
                Effect::Send { socket, volume, packet, payload } => {
                    self.send(socket, volume, &packet, payload);
                }
                Effect::Speak { socket, dialect } => self.on_end(socket, |end| end.dialect = dialect),
                Effect::Hold { socket, hold } => self.on_end(socket, |end| end.held = hold),
                Effect::Listen { .. } => self.listening = true,
                Effect::Unlisten => self.listening = false,
                Effect::Dial { .. } => {
                    assert!(!self.dialing, "a second dial");
                    self.dialing = true;
                }
                Effect::AbortDial => self.dialing = false,
                Effect::CloseSocket(socket) => self.sockets.retain(|end| end.id != socket),
                Effect::Handler { call, .. } => self.handlers.push_back(call),
                Effect::Keep { volume, ask } => self.asked.push_back((volume, ask)),
                Effect::CloseDisk { .. }
                | Effect::SendTimeout { .. }
                | Effect::Log { .. }
                | Effect::StatusChanged => {}
            }
        }
    }

    fn on_end(&mut self, socket: SocketId, act: impl FnOnce(&mut End)) {
        if let Some(end) = self.sockets.iter_mut().find(|end| end.id == socket) {
            act(end);
        }
    }

    fn send(&mut self, socket: SocketId, volume: VolumeId, packet: &Packet, payload: Option<Buf>) {
        let Some(end) = self.sockets.iter().find(|end| end.id == socket) else { return };
        let mut bytes = Vec::new();
        let len = payload.as_ref().map_or(0, Buf::len);
        encode(packet, volume, len, &end.dialect, &mut bytes);
        if let Some(payload) = payload {
            bytes.extend_from_slice(payload.bytes());
        }
        self.sent.push((socket, bytes));
    }

    fn operate(&mut self, op: DiskOp) -> Option<Buf> {
        match op {
            DiskOp::Read { offset, len } => {
                return Some(Buf::copied(&self.disk[offset as usize..offset as usize + len]));
            }
            DiskOp::Write { offset, data, .. } => {
                self.disk[offset as usize..offset as usize + data.len()].copy_from_slice(data.bytes());
            }
            DiskOp::Discard { offset, len } | DiskOp::Zero { offset, len, .. } => {
                self.disk[offset as usize..(offset + len) as usize].fill(0);
            }
            DiskOp::Flush => {}
        }
        None
    }

    /// The peer is gone for good and the disk works: nothing stays open.
    fn wind_down(&mut self) {
        for operator in [Operator::DisconnectForce, Operator::ResumeIo] {
            while !self.sockets.is_empty() {
                self.apply(Op::End { socket: 0 });
            }
            self.command(operator.command(self));
            for _ in 0..200 {
                if self.requests.is_empty() && self.commands.is_empty() {
                    return;
                }
                while !self.in_flight.is_empty() {
                    self.apply(Op::Disks);
                }
                self.apply(Op::Dialed { connected: false });
                self.apply(Op::Sleep { ms: 1000 });
            }
        }
        let status = self.node.status();
        assert!(self.requests.is_empty(), "requests {:?} are never answered: {status:?}", self.requests);
        assert!(self.commands.is_empty(), "commands {:?} never end: {status:?}", self.commands);
    }
}

fn check_reply(result: Result<Option<Buf>, ReplyError>, wanted: usize) {
    if let Ok(data) = result {
        assert_eq!(data.map_or(0, |data| data.len()), wanted, "bytes of an answer");
    }
}

fn check_disk_op(op: &DiskOp) {
    let (offset, len) = match op {
        DiskOp::Read { offset, len } => (*offset, *len as u64),
        DiskOp::Write { offset, data, .. } => (*offset, data.len() as u64),
        DiskOp::Discard { offset, len } | DiskOp::Zero { offset, len, .. } => (*offset, *len),
        DiskOp::Flush => return,
    };
    assert!(offset.is_multiple_of(512) && len.is_multiple_of(512) && len > 0, "{op:?}");
    assert!(offset.checked_add(len).is_some_and(|end| end <= DISK_BYTES as u64), "{op:?} outside the device");
}

fn attach() -> Command {
    let disk = DiskFacts {
        data_bytes: DISK_BYTES as u64,
        meta_bytes: DISK_BYTES as u64,
        meta: MetaPlace::Internal,
        logical_block_bytes: 512,
        physical_block_bytes: 512,
        io_min_bytes: 0,
        io_opt_bytes: 0,
        max_io_bytes: 1 << 20,
        discards: true,
        separate_meta: false,
        path: "/dev/memory".into(),
    };
    let options = DiskOptions { c_plan_ahead_ds: 0, resync_rate_kib_s: 400 << 10, ..DiskOptions::default() };
    Command::Attach { volume: VOLUME, disk, options: Box::new(options) }
}

/// Draws the net options, the same for both nodes.
fn net_options(bits: u8) -> NetOptions {
    let mut options = NetOptions::default();
    let mut set = |when: bool, name: &str, value: &str| {
        if when {
            options.set(name, Some(value)).unwrap();
        }
    };
    set(true, "protocol", ["A", "B", "C", "C"][usize::from(bits & 3)]);
    set(bits & 4 != 0, "cram-hmac-alg", "sha256");
    set(bits & 4 != 0, "shared-secret", "secret");
    set(bits & 8 != 0, "csums-alg", "crc32c");
    set(bits & 0x10 != 0, "allow-two-primaries", "yes");
    set(bits & 0x20 != 0, "data-integrity-alg", "sha1");
    set(bits & 0x40 != 0, "after-sb-0pri", "discard-zero-changes");
    set(bits & 0x40 != 0, "after-sb-1pri", "discard-secondary");
    set(bits & 0x80 != 0, "use-rle", "no");
    options
}

/// Two nodes, joined; the ops of the first are recorded.
struct Session {
    ops: Vec<u8>,
    host: Host,
    peer: Host,
    /// The host's and the peer's end of each connection.
    pairs: Vec<(SocketId, SocketId)>,
}

impl Session {
    fn up(options: u8) -> Self {
        let mut session = Self {
            ops: vec![options],
            host: Host::new(1, options),
            peer: Host::new(2, options),
            pairs: Vec::new(),
        };
        session.host.set_up();
        session.peer.set_up();
        session.settle();
        session
    }

    fn op(&mut self, op: Op<'_>) {
        op.put(&mut self.ops);
        self.host.apply(op);
    }

    fn peer(&mut self, operator: Operator) {
        self.peer.command(operator.command(&self.peer));
    }

    fn peer_request(&mut self, kind: u8, block: u16, blocks: u8) {
        self.peer.request(kind, block, blocks);
    }

    /// Both ends of every connection end.
    fn cut(&mut self) {
        while !self.host.sockets.is_empty() {
            self.op(Op::End { socket: 0 });
        }
        while !self.peer.sockets.is_empty() {
            self.peer.apply(Op::End { socket: 0 });
        }
    }

    /// Lets half a minute pass.
    fn settle(&mut self) {
        let until = self.host.now.after(Duration::from_secs(30));
        for _ in 0..3000 {
            if self.host.now >= until {
                return;
            }
            if !self.exchange() {
                self.pass_time();
            }
        }
    }

    /// Moves what can be moved at once; whether there was something.
    fn exchange(&mut self) -> bool {
        let mut any = false;
        if !self.host.in_flight.is_empty() {
            self.op(Op::Disks);
            any = true;
        }
        if !self.peer.in_flight.is_empty() {
            self.peer.apply(Op::Disks);
            any = true;
        }
        if self.host.dialing {
            self.op(Op::Dialed { connected: false });
        }
        if self.peer.dialing {
            self.connect();
        }
        for (socket, bytes) in std::mem::take(&mut self.host.sent) {
            let theirs = self.pairs.iter().find(|pair| pair.0 == socket).map(|pair| pair.1);
            if let Some(index) = self.peer.index_of(theirs) {
                self.peer.apply(Op::Bytes { socket: index, bytes: &bytes });
                any = true;
            }
            // The network took everything.
            if let Some(index) = self.host.index_of(Some(socket)) {
                self.op(Op::Queue { socket: index, stalled: false });
            }
        }
        for (socket, bytes) in std::mem::take(&mut self.peer.sent) {
            let ours = self.pairs.iter().find(|pair| pair.1 == socket).map(|pair| pair.0);
            if let Some(index) = self.host.index_of(ours) {
                self.deliver(index, &bytes);
                any = true;
            }
            if let Some(index) = self.peer.index_of(Some(socket)) {
                self.peer.apply(Op::Queue { socket: index, stalled: false });
            }
        }
        self.close_halves() || any
    }

    /// The peer's dial ends.
    fn connect(&mut self) {
        let connected = self.host.listening;
        self.peer.apply(Op::Dialed { connected });
        if connected {
            self.pairs.push((SocketId(self.host.next_socket), SocketId(self.peer.next_socket - 1)));
            self.op(Op::Accept);
        }
    }

    /// Bytes for the host, long runs of zeroes as such.
    fn deliver(&mut self, socket: u8, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let zeroes = bytes.iter().take(usize::from(u16::MAX)).take_while(|&&byte| byte == 0).count();
            let len = if zeroes >= 64 {
                self.op(Op::Zeroes { socket, len: zeroes as u16 });
                zeroes
            } else {
                let run = bytes.windows(64).position(|window| window.iter().all(|&byte| byte == 0));
                let len = run.filter(|&at| at > 0).unwrap_or(bytes.len()).min(usize::from(u16::MAX));
                self.op(Op::Bytes { socket, bytes: &bytes[..len] });
                len
            };
            bytes = &bytes[len..];
        }
    }

    /// Where one end is closed, the other one ends.
    fn close_halves(&mut self) -> bool {
        for (ours, theirs) in self.pairs.clone() {
            match (self.host.index_of(Some(ours)), self.peer.index_of(Some(theirs))) {
                (Some(socket), None) => self.op(Op::End { socket }),
                (None, Some(socket)) => self.peer.apply(Op::End { socket }),
                (Some(_), Some(_)) => continue,
                (None, None) => {}
            }
            self.pairs.retain(|pair| pair.0 != ours);
            return true;
        }
        false
    }

    fn pass_time(&mut self) {
        let deadlines = [self.host.node.next_deadline(), self.peer.node.next_deadline()];
        let second = self.host.now.after(Duration::from_secs(1));
        let next = deadlines.into_iter().flatten().min().unwrap_or(second).max(self.host.now);
        let ms = next.since(self.host.now).as_nanos().div_ceil(1_000_000);
        self.op(Op::Sleep { ms: ms.clamp(1, 10_000) as u16 });
        self.peer.now = self.host.now;
        self.peer.handle(Input::Timeout);
    }
}
