//! The sockets of the replication link: bytes to packets, packets to bytes.
//!
//! What the peer makes us hold is bounded: payloads received, blocks being read for it, answers it
//! does not take. Over the bound its data socket is not read from, until memory returns. Answers
//! to requests of our own do not count there: they are bounded by what we asked for. The meta
//! socket carries small packets only and is always read.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::buffer::Buf;
use crate::io::pool::Pool;
use crate::io::{Io, SocketKey};
use crate::node::input::{DialFault, Input, SocketEnd, SocketId};
use crate::units::{Moment, VolumeId};
use crate::wire::codec::{Decoded, Dialect, decode, encode};
use crate::wire::{Packet, Socket};

use super::inbox::Inbox;

/// All sockets of the link.
#[derive(Debug)]
pub(super) struct LinkIo {
    sockets: Vec<PeerSocket>,
    listener: Option<SocketKey>,
    dial: Option<Dial>,
    /// Memory for what the peer sends on its own account.
    pool: Pool,
    /// Memory for its answers to us.
    answers: Pool,
    out: Vec<u8>,
}

#[derive(Debug)]
struct Dial {
    socket: SocketKey,
    give_up: Moment,
}

#[derive(Debug)]
struct PeerSocket {
    key: SocketKey,
    dialect: Dialect,
    inbox: Inbox,
    /// A packet whose payload is incomplete.
    header: Option<(VolumeId, Packet)>,
    /// Not read from, for want of memory or because the core held it: to be tried again.
    gated: bool,
    /// Not read from until the core says so.
    held: bool,
    /// How long bytes may wait without moving before that is reported.
    send_timeout: Option<Duration>,
    /// Bytes that had moved, and when that was, while some wait.
    waiting: Option<(u64, Moment)>,
}

impl LinkIo {
    pub(super) fn new() -> Self {
        Self {
            sockets: Vec::new(),
            listener: None,
            dial: None,
            pool: Pool::new(PEER_BYTES, KEPT_BYTES),
            answers: Pool::new(usize::MAX, KEPT_BYTES),
            out: Vec::new(),
        }
    }

    /// Listens; the input to feed if that fails.
    pub(super) fn listen<I: Io>(&mut self, io: &mut I, local: SocketAddr) -> Option<Input> {
        self.unlisten(io);
        match io.listen(local) {
            Ok(socket) => {
                self.listener = Some(socket);
                None
            }
            Err(errno) => {
                let why = std::io::Error::from_raw_os_error(errno);
                Some(Input::ListenFailed(format!("cannot listen on {local}: {why}")))
            }
        }
    }

    pub(super) fn unlisten<I: Io>(&mut self, io: &mut I) {
        if let Some(listener) = self.listener.take() {
            io.close(listener);
        }
    }

    /// Begins to dial; the input to feed if that fails at once.
    pub(super) fn dial<I: Io>(
        &mut self,
        io: &mut I,
        local: SocketAddr,
        remote: SocketAddr,
        timeout: Duration,
    ) -> Option<Input> {
        self.abort_dial(io);
        match io.dial(local.ip(), remote) {
            Ok(socket) => {
                self.dial = Some(Dial { socket, give_up: io.now().after(timeout) });
                None
            }
            Err(errno) => Some(Input::Dialed(Err(DialFault { errno }))),
        }
    }

    pub(super) fn abort_dial<I: Io>(&mut self, io: &mut I) {
        if let Some(dial) = self.dial.take() {
            io.close(dial.socket);
        }
    }

    /// A dial ended.
    pub(super) fn dialed(&mut self, socket: SocketKey, result: Result<(), i32>) -> Option<Input> {
        self.dial.take_if(|dial| dial.socket == socket)?;
        Some(Input::Dialed(match result {
            Ok(()) => Ok(self.add(socket)),
            Err(errno) => Err(DialFault { errno }),
        }))
    }

    /// Somebody connected.
    pub(super) fn accepted<I: Io>(&mut self, io: &mut I, socket: SocketKey, from: IpAddr) -> Option<Input> {
        if self.listener.is_none() || self.sockets.len() >= MAX_SOCKETS {
            io.close(socket);
            return None;
        }
        Some(Input::Accepted { socket: self.add(socket), from })
    }

    fn add(&mut self, key: SocketKey) -> SocketId {
        self.sockets.push(PeerSocket {
            key,
            dialect: Dialect::BEFORE_FEATURES,
            inbox: Inbox::new(&[]),
            header: None,
            gated: false,
            held: false,
            send_timeout: None,
            waiting: None,
        });
        id_of(key)
    }

    pub(super) fn speak(&mut self, socket: SocketId, dialect: Dialect) {
        if let Some(socket) = self.socket(key_of(socket)) {
            socket.dialect = dialect;
        }
    }

    /// Stops, or goes on, to parse a socket's packets.
    pub(super) fn hold(&mut self, socket: SocketId, hold: bool) {
        if let Some(socket) = self.socket(key_of(socket)) {
            socket.gated |= socket.held && !hold;
            socket.held = hold;
        }
    }

    /// Watches for bytes that do not move.
    pub(super) fn set_send_timeout(&mut self, socket: SocketId, timeout: Duration) {
        if let Some(socket) = self.socket(key_of(socket)) {
            socket.send_timeout = Some(timeout);
        }
    }

    pub(super) fn send<I: Io>(
        &mut self,
        io: &mut I,
        socket: SocketId,
        volume: VolumeId,
        packet: &Packet,
        payload: Option<Buf>,
    ) {
        let key = key_of(socket);
        let Some(dialect) = self.socket(key).map(|socket| socket.dialect) else { return };
        self.out.clear();
        encode(packet, volume, payload.as_ref().map_or(0, Buf::len), &dialect, &mut self.out);
        io.send(key, &self.out, payload);
    }

    /// Closes a socket at the core's wish.
    pub(super) fn close<I: Io>(&mut self, io: &mut I, socket: SocketId) {
        let key = key_of(socket);
        self.sockets.retain(|socket| socket.key != key);
        io.close(key);
    }

    pub(super) fn close_all<I: Io>(&mut self, io: &mut I) {
        self.unlisten(io);
        self.abort_dial(io);
        for socket in std::mem::take(&mut self.sockets) {
            io.close(socket.key);
        }
    }

    /// Bytes came: parse them with [`LinkIo::next`]. Or the connection ended: the input says so.
    pub(super) fn received<I: Io>(
        &mut self,
        io: &mut I,
        key: SocketKey,
        buf: Buf,
        result: Result<usize, i32>,
    ) -> Option<Input> {
        let socket = self.socket(key)?;
        match result {
            Ok(0) => self.end(io, key, SocketEnd::Closed),
            Ok(count) => {
                socket.inbox.received(buf, count);
                None
            }
            Err(errno) => self.end(io, key, SocketEnd::Error(errno)),
        }
    }

    /// A socket is of no more use.
    pub(super) fn end<I: Io>(&mut self, io: &mut I, key: SocketKey, end: SocketEnd) -> Option<Input> {
        let at = self.sockets.iter().position(|socket| socket.key == key)?;
        self.sockets.swap_remove(at);
        io.close(key);
        Some(Input::SocketEnded { socket: id_of(key), end })
    }

    /// The next packet of a socket, or its end. `None` when more bytes, or memory, must come.
    /// `reading` are the bytes that disks are reading at the moment.
    pub(super) fn next<I: Io>(&mut self, io: &mut I, key: SocketKey, reading: usize) -> Option<Input> {
        let room = self.has_room(io, reading);
        let (pool, answers) = (self.pool.clone(), self.answers.clone());
        loop {
            let socket = self.socket(key)?;
            socket.gated = false;
            if socket.held {
                // The end of the connection is heard, unless there are packets before it.
                if socket.inbox.is_empty() {
                    socket.inbox.receive(io, key);
                }
                return None;
            }
            if let Some(payload) = socket.inbox.take_payload() {
                let (volume, packet) = socket.header.take()?;
                return Some(Input::Packet { socket: id_of(key), volume, packet, payload: Some(payload) });
            }
            if socket.header.is_none() {
                socket.gated = !room && socket.dialect.socket == Socket::Data;
                if socket.gated {
                    return None;
                }
                match decode(socket.inbox.bytes(), &socket.dialect) {
                    Ok(Decoded::NeedMore(_)) => {}
                    Ok(Decoded::Packet { volume, packet, consumed, payload_bytes }) => {
                        socket.inbox.consume(consumed);
                        if payload_bytes == 0 {
                            return Some(Input::Packet { socket: id_of(key), volume, packet, payload: None });
                        }
                        let answer = matches!(packet, Packet::DataReply { .. } | Packet::RsDataReply { .. });
                        socket.inbox.begin_payload(payload_bytes, if answer { &answers } else { &pool });
                        socket.header = Some((volume, packet));
                        continue;
                    }
                    Err(error) => return self.end(io, key, SocketEnd::Malformed(error)),
                }
            }
            socket.inbox.receive(io, key);
            return None;
        }
    }

    fn has_room<I: Io>(&self, io: &I, reading: usize) -> bool {
        let unsent: usize = self.sockets.iter().map(|socket| io.unsent(socket.key).bytes).sum();
        self.pool.has_room() && reading + unsent < READ_BYTES
    }

    /// Sockets that were not read from, and perhaps may be: try [`LinkIo::next`] on each.
    pub(super) fn gated(&self) -> Vec<SocketKey> {
        self.sockets.iter().filter(|socket| socket.gated).map(|socket| socket.key).collect()
    }

    /// Whether `key` is one of these sockets.
    pub(super) fn has(&self, key: SocketKey) -> bool {
        self.sockets.iter().any(|socket| socket.key == key)
    }

    /// Whether `key` is the listening socket.
    pub(super) fn is_listener(&self, key: SocketKey) -> bool {
        self.listener == Some(key)
    }

    /// Looks at the clock after a wait: a dial that takes too long, queues that do not move.
    pub(super) fn on_time<I: Io>(&mut self, io: &mut I, inputs: &mut Vec<Input>) {
        let now = io.now();
        if let Some(dial) = self.dial.take_if(|dial| now >= dial.give_up) {
            io.close(dial.socket);
            inputs.push(Input::Dialed(Err(DialFault { errno: libc::ETIMEDOUT })));
        }
        for socket in &mut self.sockets {
            let unsent = io.unsent(socket.key);
            socket.waiting = match socket.waiting {
                _ if unsent.bytes == 0 => None,
                Some((moved, since)) if moved == unsent.moved => {
                    if socket.send_timeout.is_some_and(|timeout| now.since(since) >= timeout) {
                        inputs.push(Input::SendStalled(id_of(socket.key)));
                        Some((moved, now))
                    } else {
                        Some((moved, since))
                    }
                }
                Some(_) | None => Some((unsent.moved, now)),
            };
        }
    }

    /// When [`LinkIo::on_time`] has something to say at the latest.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let stalls = self.sockets.iter().filter_map(|socket| {
            let ((_, since), timeout) = socket.waiting.zip(socket.send_timeout)?;
            Some(since.after(timeout))
        });
        stalls.chain(self.dial.as_ref().map(|dial| dial.give_up)).min()
    }

    fn socket(&mut self, key: SocketKey) -> Option<&mut PeerSocket> {
        self.sockets.iter_mut().find(|socket| socket.key == key)
    }
}

fn id_of(key: SocketKey) -> SocketId {
    SocketId(key.0.as_u64())
}

fn key_of(id: SocketId) -> SocketKey {
    SocketKey(crate::io::slots::Key::from_u64(id.0))
}

/// The names match one to one.
pub(super) fn socket_id(key: SocketKey) -> SocketId {
    id_of(key)
}

/// Payloads of the peer that may be held before it is not read from.
const PEER_BYTES: usize = 64 << 20;
/// Bytes being read from disks, or waiting to be sent to the peer, before it is not read from. More
/// than clients alone can have read (they are bounded too), so that they cannot silence the peer.
const READ_BYTES: usize = 256 << 20;
/// Payload memory kept for the next packets.
const KEPT_BYTES: usize = 16 << 20;
/// Sockets at a time: two in use, and those that have not said yet what they are. The core has a smaller
/// limit of its own.
const MAX_SOCKETS: usize = 16;
