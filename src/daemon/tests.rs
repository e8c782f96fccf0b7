//! The loop with a small core in place of the real one: what clients and the peer can do to it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::mailbox::{Message, NbdClient, Reply};
use super::resource::{Core, Resource};
use crate::buffer::Buf;
use crate::config::options::DiskOptions;
use crate::io::Completion;
use crate::io::disk::{DiskPlace, open};
use crate::io::uring::UringIo;
use crate::io::wake::Waker;
use crate::nbd::{Export, Session};
use crate::node::command::{Command, MetaPlace, Outcome};
use crate::node::effect::{Device, DiskOp, Effect, ReplyError};
use crate::node::input::{DiskFault, Input, Request, RequestId, SocketEnd, SocketId, Ticket};
use crate::node::status::ResourceStatus;
use crate::units::{Moment, Sector, VolumeId};
use crate::wire::codec::Dialect;
use crate::wire::{BlockId, DpFlags, Packet, Socket, encode};

const DISK_BYTES: u64 = 64 << 20;
const VOLUME: VolumeId = VolumeId(0);

/// A core that serves requests from one disk, and keeps everything else for the test to see.
#[derive(Default)]
struct Double {
    effects: VecDeque<Effect>,
    seen: Vec<Input>,
    tickets: u64,
    /// Which request each ticket belongs to.
    disk: std::collections::HashMap<u64, RequestId>,
    /// Reads that begin at this sector fail.
    bad_sector: Option<u64>,
    /// Largest request that came.
    largest_bytes: u64,
    /// Keep requests unanswered.
    mute: bool,
    /// Flushes that came.
    flushes: u32,
}

impl Double {
    fn disk(&mut self, id: RequestId, op: DiskOp) {
        self.tickets += 1;
        self.disk.insert(self.tickets, id);
        let ticket = Ticket(self.tickets);
        self.effects.push_back(Effect::Disk { ticket, volume: VOLUME, device: Device::Data, op });
    }

    fn request(&mut self, id: RequestId, request: Request) {
        match request {
            Request::Read { extent } => {
                self.largest_bytes = self.largest_bytes.max(extent.bytes());
                if self.bad_sector == Some(extent.start().get()) {
                    self.effects.push_back(Effect::Reply { id, result: Err(ReplyError::Io) });
                    return;
                }
                let (offset, len) = (extent.start().byte_offset(), extent.bytes() as usize);
                self.disk(id, DiskOp::Read { offset, len });
            }
            Request::Write { extent, data, fua } => {
                assert_eq!(data.len() as u64, extent.bytes());
                self.largest_bytes = self.largest_bytes.max(extent.bytes());
                self.disk(id, DiskOp::Write { offset: extent.start().byte_offset(), data, fua });
            }
            Request::Flush => {
                self.flushes += 1;
                self.disk(id, DiskOp::Flush);
            }
            Request::Trim { extent, .. } | Request::WriteZeroes { extent, .. } => {
                assert!(extent.bytes() <= 128 << 20);
                self.effects.push_back(Effect::Reply { id, result: Ok(None) });
            }
        }
    }
}

impl Core for Double {
    fn handle(&mut self, _: Moment, input: Input) {
        match input {
            Input::Request { id, request, .. } if !self.mute => self.request(id, request),
            Input::DiskDone { ticket, result } => {
                if let Some(id) = self.disk.remove(&ticket.0) {
                    let result = result.map_err(|_| ReplyError::Io);
                    self.effects.push_back(Effect::Reply { id, result });
                } else {
                    self.seen.push(Input::DiskDone { ticket, result });
                }
            }
            Input::Command { id, command } => {
                if !matches!(command, Command::Close { .. }) {
                    let outcome = Outcome::of(Outcome::DONE);
                    self.effects.push_back(Effect::CommandDone { id, outcome });
                }
                self.seen.push(Input::Command { id, command });
            }
            other => self.seen.push(other),
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn next_deadline(&self) -> Option<Moment> {
        None
    }

    fn status(&self) -> ResourceStatus {
        ResourceStatus { name: "double".into(), ..ResourceStatus::default() }
    }
}

/// The loop, its ring and a way to turn it.
struct World {
    resource: Resource<Double>,
    io: UringIo,
    waker: Waker,
    completions: Vec<Completion>,
    _file: tempfile::NamedTempFile,
}

impl World {
    fn new() -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(DISK_BYTES).unwrap();
        let waker = Waker::new().unwrap();
        let mut world = Self {
            resource: Resource::new("double", Double::default()),
            io: UringIo::new(waker.clone()).unwrap(),
            waker,
            completions: Vec::new(),
            _file: file,
        };
        let place = DiskPlace { data: world._file.path().into(), meta: None, place: MetaPlace::Internal };
        let disk = open(&place).unwrap();
        let options = Box::new(DiskOptions::default());
        let command = Command::Attach { volume: VOLUME, disk: disk.facts.clone(), options };
        world.message(Message::Command { command, disk: Some(disk), reply: Reply::ignored() });
        world
    }

    fn message(&mut self, message: Message) {
        self.resource.message(&mut self.io, message);
    }

    /// A client that is past its negotiation.
    fn client(&mut self, structured: bool, leftover: &[u8]) -> UnixStream {
        let (near, far) = UnixStream::pair().unwrap();
        far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let session = Session::new(&Export::new("r0/0", DISK_BYTES), structured);
        self.message(Message::Client(NbdClient {
            socket: near.into(),
            volume: VOLUME,
            session,
            leftover: leftover.into(),
            name: "test".into(),
        }));
        far
    }

    /// Turns the loop until `done`; fails after ten seconds.
    fn until<T>(&mut self, mut done: impl FnMut(&mut Double) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(result) = done(self.resource.core_mut()) {
                return result;
            }
            assert!(Instant::now() < end, "the loop never got there");
            self.waker.wake();
            self.turn();
        }
    }

    /// Turns the loop until the thread has ended.
    fn while_running<T>(&mut self, thread: std::thread::JoinHandle<T>) -> T {
        self.until(|_| thread.is_finished().then_some(()));
        thread.join().unwrap()
    }

    fn turn(&mut self) {
        self.resource.turn(&mut self.io, &mut self.completions).unwrap();
    }

    /// Carries out an effect as if the core had wanted it.
    fn effect(&mut self, effect: Effect) {
        self.resource.core_mut().effects.push_back(effect);
        self.message(Message::HandlerDone { call: 0, exit: 0 });
    }
}

fn request(kind: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&0_u16.to_be_bytes());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes
}

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISC: u16 = 2;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;

/// Error number and cookie of a simple reply.
fn simple_reply(socket: &mut UnixStream) -> (u32, u64) {
    let mut reply = [0; 16];
    socket.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..4], 0x6744_6698_u32.to_be_bytes());
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    (number(&reply[4..8]) as u32, number(&reply[8..]))
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 3 + at / 517 + seed) as u8).collect()
}

#[test]
fn requests_longer_than_the_core_takes_are_split_and_joined() {
    let mut world = World::new();
    let mut client = world.client(false, &[]);
    let len = (5 << 20) + 512;
    let data = pattern(len, 1);
    let thread = std::thread::spawn(move || {
        client.write_all(&request(WRITE, 7, 4096, len as u32)).unwrap();
        // In odd pieces: neither header nor payload ends where a receive does.
        for piece in data.chunks(77_777) {
            client.write_all(piece).unwrap();
        }
        assert_eq!(simple_reply(&mut client), (0, 7));
        client.write_all(&request(READ, 8, 4096, len as u32)).unwrap();
        assert_eq!(simple_reply(&mut client), (0, 8));
        let mut back = vec![0; len];
        client.read_exact(&mut back).unwrap();
        assert!(back == data);
        client.write_all(&request(TRIM, 9, 0, 60 << 20)).unwrap();
        client.write_all(&request(FLUSH, 10, 0, 0)).unwrap();
        let mut done = [simple_reply(&mut client), simple_reply(&mut client)];
        done.sort_unstable();
        assert_eq!(done, [(0, 9), (0, 10)]);
    });
    world.while_running(thread);
    assert_eq!(world.resource.core_mut().largest_bytes, 1 << 20);
}

#[test]
fn a_trim_that_has_to_be_durable_is_followed_by_a_flush() {
    let mut world = World::new();
    let mut client = world.client(false, &[]);
    let thread = std::thread::spawn(move || {
        client.write_all(&request(TRIM, 1, 0, 60 << 20)).unwrap();
        assert_eq!(simple_reply(&mut client), (0, 1));
        let mut durable = request(TRIM, 2, 0, 60 << 20);
        durable[5] = 1; // NBD_CMD_FLAG_FUA
        client.write_all(&durable).unwrap();
        assert_eq!(simple_reply(&mut client), (0, 2));
    });
    world.while_running(thread);
    assert_eq!(world.resource.core_mut().flushes, 1);
}

#[test]
fn the_first_error_of_a_split_read_is_its_answer_and_the_stream_goes_on() {
    for structured in [false, true] {
        let mut world = World::new();
        world.resource.core_mut().bad_sector = Some(2048 * 2);
        let mut client = world.client(structured, &[]);
        let thread = std::thread::spawn(move || {
            client.write_all(&request(READ, 1, 0, 4 << 20)).unwrap();
            if structured {
                let mut chunk = [0; 20 + 4];
                client.read_exact(&mut chunk).unwrap();
                assert_eq!(chunk[..8], [0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1]);
                assert_eq!(chunk[20..], 5_u32.to_be_bytes());
            } else {
                assert_eq!(simple_reply(&mut client), (5, 1));
                client.write_all(&request(FLUSH, 2, 0, 0)).unwrap();
                assert_eq!(simple_reply(&mut client), (0, 2));
            }
        });
        world.while_running(thread);
    }
}

#[test]
fn bytes_behind_the_negotiation_are_requests_and_refused_payload_is_skipped() {
    let mut world = World::new();
    let mut leftover = request(WRITE, 1, DISK_BYTES, 300_000 / 512 * 512);
    leftover.extend_from_slice(&pattern(1000, 0));
    let mut client = world.client(false, &leftover);
    let thread = std::thread::spawn(move || {
        client.write_all(&pattern(300_000 / 512 * 512 - 1000, 0)).unwrap();
        client.write_all(&request(FLUSH, 2, 0, 0)).unwrap();
        assert_eq!(simple_reply(&mut client), (28, 1));
        assert_eq!(simple_reply(&mut client), (0, 2));
    });
    world.while_running(thread);
}

#[test]
fn a_client_that_goes_is_closed_once_after_its_requests() {
    let goodbye: fn(UnixStream) = |mut client| {
        client.write_all(&request(WRITE, 1, 0, 512)).unwrap();
        client.write_all(&[1; 512]).unwrap();
        client.write_all(&request(DISC, 2, 0, 0)).unwrap();
        assert_eq!(simple_reply(&mut client), (0, 1), "what is in flight is finished first");
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    };
    let vanish: fn(UnixStream) = |mut client| {
        client.write_all(&request(READ, 1, 0, 2 << 20)).unwrap();
        client.write_all(&request(WRITE, 1, 0, 3 << 20)).unwrap();
        client.write_all(&[1; 1 << 20]).unwrap();
    };
    let babble: fn(UnixStream) = |mut client| {
        client.write_all(&[0xaa; 64]).unwrap();
        let mut rest = Vec::new();
        // The server may close with our bytes unread, which is a reset.
        let _ = client.read_to_end(&mut rest);
    };
    for behave in [goodbye, vanish, babble] {
        let mut world = World::new();
        let client = world.client(false, &[]);
        let thread = std::thread::spawn(move || behave(client));
        world.while_running(thread);
        let closes = |core: &mut Double| {
            let close = |input: &&Input| {
                matches!(input, Input::Command { command: Command::Close { volume: VOLUME }, .. })
            };
            core.seen.iter().filter(close).count()
        };
        world.until(|core| (closes(core) > 0).then_some(()));
        for _ in 0..3 {
            world.waker.wake();
            world.turn();
        }
        assert_eq!(closes(world.resource.core_mut()), 1);
    }
}

#[test]
fn a_client_that_is_sent_away_gets_an_error_for_all_that_it_waits_for() {
    let mut world = World::new();
    world.resource.core_mut().mute = true;
    let mut client = world.client(false, &[]);
    client.write_all(&request(READ, 1, 0, 4096)).unwrap();
    client.write_all(&request(FLUSH, 2, 0, 0)).unwrap();
    // Only half of its payload has come.
    client.write_all(&request(WRITE, 3, 0, 64 << 10)).unwrap();
    client.write_all(&[1; 32 << 10]).unwrap();
    let requests = |core: &mut Double| {
        let ids = core.seen.iter().filter_map(|input| match input {
            Input::Request { id, .. } => Some(*id),
            _ => None,
        });
        ids.collect::<Vec<_>>()
    };
    let asked = world.until(|core| Some(requests(core)).filter(|ids| ids.len() == 2));
    world.message(Message::EndClients);
    let mut answers: Vec<_> = (0..3).map(|_| simple_reply(&mut client)).collect();
    answers.sort_unstable();
    assert_eq!(answers, [(108, 1), (108, 2), (108, 3)], "NBD_ESHUTDOWN");
    assert!(client.read(&mut [0]).is_ok_and(|bytes| bytes == 0) || client.write(&[0]).is_err());
    let core = world.resource.core_mut();
    let told = core.seen.iter().find_map(|input| match input {
        Input::Abandon(ids) => Some(ids.clone()),
        _ => None,
    });
    assert_eq!(told, Some(asked.clone()));
    let close = |input: &Input| matches!(input, Input::Command { command: Command::Close { .. }, .. });
    assert!(core.seen.iter().any(close), "the volume is closed, whatever becomes of the requests");
    // What the core says afterwards finds nobody.
    for id in asked {
        world.effect(Effect::Reply { id, result: Err(ReplyError::Shutdown) });
    }
}

#[test]
fn a_client_that_takes_no_answers_is_not_read_from() {
    let mut world = World::new();
    let mut client = world.client(false, &[]);
    client.set_nonblocking(true).unwrap();
    let mut wanted = 0_u64;
    // 200 reads of 1 MiB, without taking one answer.
    for turn in 0..2000_u64 {
        if turn < 200 && client.write_all(&request(READ, turn, 0, 1 << 20)).is_ok() {
            wanted += 1;
        }
        world.waker.wake();
        world.turn();
    }
    let served = world.resource.core_mut().tickets;
    assert!(wanted == 200 && (32..=40).contains(&served), "{served} of {wanted} reads were started");
    client.set_nonblocking(false).unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..wanted {
            assert_eq!(simple_reply(&mut client).0, 0);
            client.read_exact(&mut vec![0; 1 << 20]).unwrap();
        }
    });
    world.while_running(thread);
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A connection of the link, as the test's end and the core's name for it.
fn peer(world: &mut World, kind: Socket) -> (TcpStream, SocketId, Dialect) {
    let local = SocketAddr::from(([127, 0, 0, 1], free_port()));
    world.effect(Effect::Listen { local });
    let stream = TcpStream::connect(local).unwrap();
    let socket = world.until(|core| {
        core.seen.iter().find_map(|input| match input {
            Input::Accepted { socket, .. } => Some(*socket),
            _ => None,
        })
    });
    world.resource.core_mut().seen.clear();
    let dialect = Dialect { apv: 101, features: 0, peer_digest_bytes: 0, socket: kind };
    world.effect(Effect::Speak { socket, dialect });
    (stream, socket, dialect)
}

fn data_packet(number: u64) -> Packet {
    Packet::Data {
        sector: Sector::new(number * 8),
        block_id: BlockId::from_number(number),
        seq: number as u32,
        flags: DpFlags::SEND_WRITE_ACK,
        digest: Vec::new(),
    }
}

fn packets(core: &Double) -> usize {
    core.seen.iter().filter(|input| matches!(input, Input::Packet { .. })).count()
}

#[test]
fn packets_and_their_payloads_arrive_whole_and_in_order_and_go_out_the_same_way() {
    let mut world = World::new();
    let (mut stream, socket, dialect) = peer(&mut world, Socket::Data);
    let sizes: Vec<usize> = (0..60).map(|round| [512, 4096, 65536, 1 << 20, 16384][round % 5]).collect();
    let mut bytes = Vec::new();
    for (number, size) in sizes.iter().enumerate() {
        encode(&data_packet(number as u64), VOLUME, *size, &dialect, &mut bytes);
        bytes.extend_from_slice(&pattern(*size, number));
        encode(&Packet::UnplugRemote, VOLUME, 0, &dialect, &mut bytes);
    }
    let outgoing = bytes.clone();
    let writer = std::thread::spawn(move || {
        for piece in outgoing.chunks(100_003) {
            stream.write_all(piece).unwrap();
        }
        stream
    });
    world.until(|core| (packets(core) == 120).then_some(()));
    let mut stream = writer.join().unwrap();
    let seen = std::mem::take(&mut world.resource.core_mut().seen);
    let mut number = 0;
    for input in seen {
        let Input::Packet { socket: from, volume, packet, payload } = input else { continue };
        assert_eq!((from, volume), (socket, VOLUME));
        if packet != Packet::UnplugRemote {
            assert_eq!(packet, data_packet(number as u64));
            assert!(payload.as_ref().unwrap().bytes() == pattern(sizes[number], number), "packet {number}");
            number += 1;
        } else {
            assert_eq!(payload, None);
        }
        world.effect(Effect::Send { socket, volume, packet, payload });
    }
    assert_eq!(number, 60);
    let total = bytes.len();
    let reader = std::thread::spawn(move || {
        let mut back = vec![0; total];
        stream.read_exact(&mut back).unwrap();
        back
    });
    assert!(world.while_running(reader) == bytes);
}

#[test]
fn a_socket_that_speaks_nonsense_or_ends_is_reported_once() {
    for nonsense in [true, false] {
        let mut world = World::new();
        let (mut stream, socket, _) = peer(&mut world, Socket::Meta);
        if nonsense {
            stream.write_all(&[0x5a; 64]).unwrap();
        } else {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let end = world.until(|core| {
            core.seen.iter().find_map(|input| match input {
                Input::SocketEnded { socket: ended, end } if *ended == socket => Some(end.clone()),
                _ => None,
            })
        });
        assert_eq!(matches!(end, SocketEnd::Malformed(_)), nonsense, "{end:?}");
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it is closed");
        world.turn_idle();
        let ends = world.resource.core_mut().seen.iter();
        assert_eq!(ends.filter(|input| matches!(input, Input::SocketEnded { .. })).count(), 1);
    }
}

impl World {
    fn turn_idle(&mut self) {
        for _ in 0..5 {
            self.waker.wake();
            self.turn();
        }
    }
}

#[test]
fn a_held_socket_keeps_its_packets_until_it_is_released() {
    let mut world = World::new();
    let (mut stream, socket, dialect) = peer(&mut world, Socket::Data);
    world.effect(Effect::Hold { socket, hold: true });
    let mut bytes = Vec::new();
    for _ in 0..3 {
        encode(&Packet::UnplugRemote, VOLUME, 0, &dialect, &mut bytes);
    }
    stream.write_all(&bytes).unwrap();
    world.turn_idle();
    assert_eq!(packets(world.resource.core_mut()), 0);
    world.effect(Effect::Hold { socket, hold: false });
    world.until(|core| (packets(core) == 3).then_some(()));

    world.effect(Effect::Hold { socket, hold: true });
    drop(stream);
    world
        .until(|core| core.seen.iter().any(|input| matches!(input, Input::SocketEnded { .. })).then_some(()));
}

#[test]
fn a_peer_that_sends_more_than_we_may_hold_waits_and_goes_on() {
    let mut world = World::new();
    let (mut stream, _, dialect) = peer(&mut world, Socket::Data);
    stream.set_nonblocking(true).unwrap();
    let mut one = Vec::new();
    encode(&data_packet(1), VOLUME, 1 << 20, &dialect, &mut one);
    one.resize(one.len() + (1 << 20), 9);
    let all: Vec<u8> = one.repeat(100);
    let mut sent = 0;
    let mut push = |world: &mut World, turns: usize| {
        for _ in 0..turns {
            sent += stream.write(&all[sent..]).unwrap_or(0);
            world.waker.wake();
            world.turn();
        }
    };
    push(&mut world, 2000);
    let held = packets(world.resource.core_mut());
    assert!((60..=65).contains(&held), "{held} payloads of 1 MiB are held");
    // The core lets go of half: so many more come.
    let seen = &mut world.resource.core_mut().seen;
    seen.retain(|input| matches!(input, Input::Packet { .. }));
    seen.truncate(32);
    push(&mut world, 2000);
    assert!((60..=65).contains(&packets(world.resource.core_mut())));
    world.resource.core_mut().seen.clear();
    push(&mut world, 2000);
    assert_eq!(packets(world.resource.core_mut()), 100 - held - (held - 32));
}

#[test]
fn bytes_that_do_not_move_are_reported_and_a_drained_queue_too() {
    let mut world = World::new();
    let (mut stream, socket, _) = peer(&mut world, Socket::Data);
    world.effect(Effect::SendTimeout { socket, timeout: Duration::from_millis(50) });
    for number in 0..20 {
        let payload = Some(Buf::zeroed(1 << 20));
        world.effect(Effect::Send { socket, volume: VOLUME, packet: data_packet(number), payload });
    }
    world.resource.core_mut().seen.clear();
    world.until(|core| core.seen.iter().any(|input| matches!(input, Input::SendStalled(_))).then_some(()));
    let reader = std::thread::spawn(move || {
        stream.read_exact(&mut vec![0; 20 << 20]).unwrap();
        stream
    });
    world.until(|core| core.seen.iter().any(|input| matches!(input, Input::SendQueueEmpty(_))).then_some(()));
    drop(reader.join());
}

#[test]
fn a_dial_ends_in_a_socket_or_in_a_fault_and_an_aborted_one_in_nothing() {
    let mut world = World::new();
    let remote = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let dial = Effect::Dial { local, remote, timeout: Duration::from_secs(5) };
    world.effect(dial);
    let fault = world.until(|core| {
        core.seen.iter().find_map(|input| match input {
            Input::Dialed(Err(fault)) => Some(fault.errno),
            _ => None,
        })
    });
    assert_eq!(fault, libc::ECONNREFUSED);
    world.resource.core_mut().seen.clear();
    // 192.0.2.0/24 is for documentation: nobody answers (or the network refuses at once).
    let nowhere = SocketAddr::from(([192, 0, 2, 1], 7));
    let local = SocketAddr::from(([0, 0, 0, 0], 0));
    world.effect(Effect::Dial { local, remote: nowhere, timeout: Duration::from_millis(30) });
    world.until(|core| core.seen.iter().any(|input| matches!(input, Input::Dialed(Err(_)))).then_some(()));
    world.resource.core_mut().seen.clear();
    world.effect(Effect::Dial { local, remote: nowhere, timeout: Duration::from_secs(60) });
    world.effect(Effect::AbortDial);
    world.turn_idle();
    let dialed = |input: &&Input| matches!(input, Input::Dialed(Ok(_)));
    assert_eq!(world.resource.core_mut().seen.iter().filter(dialed).count(), 0);
}

#[test]
fn a_volume_without_a_disk_fails_its_operations_and_shutdown_ends_everything() {
    let mut world = World::new();
    let op = DiskOp::Flush;
    let ticket = Ticket(u64::MAX);
    world.effect(Effect::Disk { ticket, volume: VolumeId(9), device: Device::Meta, op });
    world.until(|core| {
        let gone = |input: &Input| {
            matches!(input, Input::DiskDone { ticket: Ticket(u64::MAX), result: Err(DiskFault::Gone) })
        };
        core.seen.iter().any(gone).then_some(())
    });
    world.resource.core_mut().mute = true;
    let mut client = world.client(false, &[]);
    client.write_all(&request(FLUSH, 2, 0, 0)).unwrap();
    world.turn_idle();
    world.message(Message::Shutdown);
    world.turn_idle();
    assert!(world.resource.is_finished());
    drop(world);
    assert_eq!(simple_reply(&mut client), (108, 2));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}
