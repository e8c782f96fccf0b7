//! Sockets: streams of bytes between two machines, or between a machine and a client on it.
//!
//! As with TCP, bytes arrive in order or not at all. What a machine sends while the link drops everything
//! is kept and arrives when the link is whole again; who sends to a socket that is closed learns of it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::events::{Event, HostId};
use super::io::Universe;
use crate::buffer::Buf;
use crate::io::slots::Slots;
use crate::io::{Completion, SocketKey, Unsent};
use crate::units::Moment;
use crate::wire::Command;

/// Bytes that may be on their way, or arrived and not received, before the network takes no more.
const WINDOW: usize = 1 << 20;
/// After so long a connection request that got no answer is sent again.
const KNOCK_AGAIN: Duration = Duration::from_secs(1);
/// So long after the link is whole again, what was held back is sent again.
const SEND_AGAIN: Duration = Duration::from_millis(200);

/// Who holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A resource of this machine.
    Host(HostId),
    /// A client program on this machine.
    Client(HostId),
}

/// The link between the two machines, and all sockets.
#[derive(Debug)]
pub(super) struct Network {
    sockets: Slots<SimSocket>,
    /// Whether what a machine sends gets to the other, by the number of the sender.
    passes: [bool; 2],
}

#[derive(Debug)]
struct SimSocket {
    owner: Owner,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Listener(SocketAddr),
    Dialing,
    Stream(Stream),
}

#[derive(Debug)]
struct Stream {
    /// The other end. It may be closed.
    peer: SocketKey,
    peer_owner: Owner,
    /// Sent, and not taken by the network.
    out: VecDeque<u8>,
    moved: u64,
    /// Bytes sent since the beginning.
    said: u64,
    /// Where the packets sent end, counted in bytes; those that were received are dropped now and then.
    packets: VecDeque<(u64, Command)>,
    /// Bytes received since the beginning.
    heard: u64,
    /// On the way to this end.
    wire: VecDeque<Segment>,
    wire_bytes: usize,
    /// Arrived, and not received.
    inbox: VecDeque<u8>,
    /// Nothing more will arrive: closed in good order, or with this error number.
    ended: Option<Result<(), i32>>,
    receiving: Option<(Buf, usize)>,
}

impl Stream {
    fn new(peer: SocketKey, peer_owner: Owner) -> Self {
        Self {
            peer,
            peer_owner,
            out: VecDeque::new(),
            moved: 0,
            said: 0,
            packets: VecDeque::new(),
            heard: 0,
            wire: VecDeque::new(),
            wire_bytes: 0,
            inbox: VecDeque::new(),
            ended: None,
            receiving: None,
        }
    }
}

#[derive(Debug)]
struct Segment {
    at: Moment,
    bytes: Vec<u8>,
    /// The other end was closed.
    last: bool,
}

/// The address of a machine.
#[must_use]
pub const fn address_of(host: HostId) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, host as u8 + 1))
}

impl Network {
    pub(super) fn new() -> Self {
        Self { sockets: Slots::default(), passes: [true; 2] }
    }

    fn stream(&mut self, key: SocketKey) -> Option<&mut Stream> {
        match &mut self.sockets.get_mut(key.0)?.kind {
            Kind::Stream(stream) => Some(stream),
            Kind::Listener(_) | Kind::Dialing => None,
        }
    }

    fn listener_at(&self, address: SocketAddr) -> Option<SocketKey> {
        let found = self
            .sockets
            .iter()
            .find(|(_, socket)| matches!(&socket.kind, Kind::Listener(at) if *at == address));
        found.map(|(key, _)| SocketKey(key))
    }

    /// The connections between the machines, by their ends.
    pub(super) fn ends_between_hosts(&self) -> Vec<(SocketKey, SocketKey)> {
        let ends = self.sockets.iter().filter_map(|(key, socket)| match (&socket.kind, socket.owner) {
            (Kind::Stream(Stream { peer, peer_owner: Owner::Host(1), .. }), Owner::Host(0)) => {
                Some((SocketKey(key), *peer))
            }
            (Kind::Stream(_) | Kind::Listener(_) | Kind::Dialing, _) => None,
        });
        ends.collect()
    }

    /// The packets that a machine sent to the other and that were not received there.
    pub(super) fn each_packet(&self, from: HostId, mut look: impl FnMut(Command)) {
        for (_, socket) in self.sockets.iter() {
            let (Owner::Host(owner), Kind::Stream(stream)) = (socket.owner, &socket.kind) else { continue };
            if owner != from || stream.packets.is_empty() {
                continue;
            }
            if let Some(Kind::Stream(other)) = self.sockets.get(stream.peer.0).map(|socket| &socket.kind)
                && other.ended.is_none()
            {
                let unheard = stream.packets.iter().rev().take_while(|(end, _)| *end > other.heard);
                unheard.for_each(|(_, command)| look(*command));
            }
        }
    }

    /// Bytes on their way to a socket.
    pub(super) fn on_the_way_to(&self, key: SocketKey) -> usize {
        match self.sockets.get(key.0).map(|socket| &socket.kind) {
            Some(Kind::Stream(stream)) => stream.wire_bytes,
            Some(Kind::Listener(_) | Kind::Dialing) | None => 0,
        }
    }

    fn passes(&self, from: Owner, to: Owner) -> bool {
        match (from, to) {
            (Owner::Host(from), Owner::Host(to)) => from == to || self.passes[from],
            (Owner::Client(_), _) | (_, Owner::Client(_)) => true,
        }
    }
}

impl Universe {
    /// Makes the link from one machine drop everything, or be whole.
    pub(super) fn let_pass(&mut self, from: HostId, pass: bool) {
        self.network.passes[from] = pass;
        if !pass {
            return;
        }
        let again = self.now.after(SEND_AGAIN);
        for key in self.network.sockets.keys().into_iter().map(SocketKey) {
            if let Some(stream) = self.network.stream(key) {
                for segment in &mut stream.wire {
                    segment.at = segment.at.max(again);
                }
                if !stream.wire.is_empty() {
                    self.events.plan(again, Event::Arrive { to: key });
                }
            }
            self.flush(key);
        }
    }

    /// Bytes sent and not received yet, from one machine to the other: for a world that looks inside.
    #[must_use]
    pub(super) fn on_the_way(&self) -> usize {
        let between = |socket: &&SimSocket| matches!(socket.owner, Owner::Host(_));
        let sockets = self.network.sockets.iter().map(|(_, socket)| socket).filter(between);
        let streams = sockets.filter_map(|socket| match &socket.kind {
            Kind::Stream(stream) if matches!(stream.peer_owner, Owner::Host(_)) => {
                Some(stream.out.len() + stream.wire_bytes + stream.inbox.len())
            }
            Kind::Stream(_) | Kind::Listener(_) | Kind::Dialing => None,
        });
        streams.sum()
    }

    /// All sockets of a machine vanish: it crashed, and tells nobody.
    pub(super) fn vanish(&mut self, host: HostId) {
        for key in self.network.sockets.keys() {
            let owner = self.network.sockets.get(key).map(|socket| socket.owner);
            match owner {
                Some(Owner::Host(at)) if at == host => {
                    self.network.sockets.remove(key);
                }
                Some(Owner::Client(at)) if at == host => {
                    if let Some(stream) = self.network.stream(SocketKey(key)) {
                        stream.ended = Some(Err(libc::ECONNRESET));
                    }
                }
                Some(Owner::Host(_) | Owner::Client(_)) | None => {}
            }
        }
    }

    pub(super) fn listen(&mut self, host: HostId, local: SocketAddr) -> Result<SocketKey, i32> {
        if local.ip() != address_of(host) {
            return Err(libc::EADDRNOTAVAIL);
        }
        if self.network.listener_at(local).is_some() {
            return Err(libc::EADDRINUSE);
        }
        Ok(self.add(Owner::Host(host), Kind::Listener(local)))
    }

    pub(super) fn dial(&mut self, host: HostId, remote: SocketAddr) -> SocketKey {
        let from = self.add(Owner::Host(host), Kind::Dialing);
        let at = self.now.after(self.latency());
        self.events.plan(at, Event::Knock { from, remote });
        from
    }

    /// Two joined sockets: one for a resource, one for its client.
    pub(super) fn pair(&mut self, host: HostId) -> (SocketKey, SocketKey) {
        let near = self.add(Owner::Host(host), Kind::Dialing);
        let far = self.add(Owner::Client(host), Kind::Dialing);
        self.join_ends(near, far);
        (near, far)
    }

    fn add(&mut self, owner: Owner, kind: Kind) -> SocketKey {
        SocketKey(self.network.sockets.insert(SimSocket { owner, kind }))
    }

    fn join_ends(&mut self, one: SocketKey, other: SocketKey) {
        let owners = [one, other].map(|key| self.network.sockets.get(key.0).map(|socket| socket.owner));
        let [Some(one_owner), Some(other_owner)] = owners else { return };
        for (key, peer, peer_owner) in [(one, other, other_owner), (other, one, one_owner)] {
            if let Some(socket) = self.network.sockets.get_mut(key.0) {
                socket.kind = Kind::Stream(Stream::new(peer, peer_owner));
            }
        }
    }

    /// A connection request arrives, or is lost and sent again.
    pub(super) fn knock(&mut self, from: SocketKey, remote: SocketAddr) {
        let Some(Owner::Host(host)) = self.network.sockets.get(from.0).map(|socket| socket.owner) else {
            return;
        };
        let other = 1 - host;
        let reaches =
            remote.ip() == address_of(other) && self.hosts[other].up && self.network.passes == [true; 2];
        if !reaches {
            let at = self.now.after(KNOCK_AGAIN);
            return self.events.plan(at, Event::Knock { from, remote });
        }
        let result = match self.network.listener_at(remote) {
            None => Err(libc::ECONNREFUSED),
            Some(listener) => {
                let socket = self.add(Owner::Host(other), Kind::Dialing);
                self.join_ends(socket, from);
                // The dialer does not know yet.
                if let Some(dialer) = self.network.sockets.get_mut(from.0) {
                    dialer.kind = Kind::Dialing;
                }
                let from = address_of(host);
                self.hosts[other].ready.push_back(Completion::Accepted { listener, socket, from });
                Ok(socket)
            }
        };
        let at = self.now.after(self.latency());
        self.events.plan(at, Event::DialEnds { socket: from, result });
    }

    pub(super) fn dial_ends(&mut self, socket: SocketKey, result: Result<SocketKey, i32>) {
        let owner = self.network.sockets.get(socket.0).map(|dialer| dialer.owner);
        let Some(Owner::Host(host)) = owner else {
            // The dialer gave up meanwhile: the other end learns of it.
            if let Ok(accepted) = result
                && let Some(stream) = self.network.stream(accepted)
            {
                let at = self.now;
                stream.wire.push_back(Segment { at, bytes: Vec::new(), last: true });
                self.events.plan(at, Event::Arrive { to: accepted });
            }
            return;
        };
        let result = match result {
            Ok(accepted) => {
                // What the other end sent meanwhile is kept with this end, from the beginning.
                let owner = Owner::Host(1 - host);
                if let Some(dialer) = self.network.sockets.get_mut(socket.0) {
                    dialer.kind = Kind::Stream(Stream::new(accepted, owner));
                }
                self.flush(accepted);
                if self.network.sockets.get(accepted.0).is_none()
                    && let Some(stream) = self.network.stream(socket)
                {
                    stream.ended = Some(Ok(()));
                }
                Ok(())
            }
            Err(errno) => {
                self.network.sockets.remove(socket.0);
                Err(errno)
            }
        };
        self.hosts[host].ready.push_back(Completion::Dialed { socket, result });
    }

    pub(super) fn recv(&mut self, socket: SocketKey, buf: Buf, from: usize) {
        if let Some(stream) = self.network.stream(socket) {
            stream.receiving = Some((buf, from));
            self.serve_receive(socket);
        }
    }

    pub(super) fn send(&mut self, socket: SocketKey, bytes: &[u8], payload: Option<&[u8]>) {
        let changed = payload.and_then(|payload| self.corrupt(socket, payload));
        let payload = changed.as_deref().or(payload);
        if let Some(stream) = self.network.stream(socket) {
            stream.out.extend(bytes);
            stream.out.extend(payload.unwrap_or_default());
            stream.said += (bytes.len() + payload.map_or(0, <[u8]>::len)) as u64;
            self.flush(socket);
        }
    }

    /// What becomes of block data on the way from one node to the other, if they do not arrive as they are.
    fn corrupt(&mut self, socket: SocketKey, payload: &[u8]) -> Option<Vec<u8>> {
        let corruption = self.corruption.as_mut()?;
        let between = self.network.stream(socket).is_some_and(|s| matches!(s.peer_owner, Owner::Host(_)));
        let changed = if between { corruption.strike(payload) } else { None };
        self.corrupted += u64::from(changed.is_some());
        changed
    }

    /// Remembers which packet a resource sent last, if it was to its peer.
    pub(super) fn note_packet(&mut self, socket: SocketKey, bytes: &[u8]) {
        let Some(stream) = self.network.stream(socket) else { return };
        let (said, peer) = (stream.said, stream.peer);
        if matches!(stream.peer_owner, Owner::Client(_)) {
            return;
        }
        let heard = self.network.stream(peer).map_or(0, |other| other.heard);
        let (Some(stream), Some(command)) = (self.network.stream(socket), Command::of_packet(bytes)) else {
            return;
        };
        while stream.packets.pop_front_if(|(end, _)| *end <= heard).is_some() {}
        stream.packets.push_back((said, command));
    }

    pub(super) fn unsent(&self, socket: SocketKey) -> Unsent {
        match self.network.sockets.get(socket.0).map(|found| &found.kind) {
            Some(Kind::Stream(stream)) => Unsent { bytes: stream.out.len(), moved: stream.moved },
            Some(Kind::Listener(_) | Kind::Dialing) | None => Unsent::default(),
        }
    }

    pub(super) fn close(&mut self, socket: SocketKey) {
        self.flush(socket);
        let Some(closed) = self.network.sockets.remove(socket.0) else { return };
        if let Owner::Host(host) = closed.owner {
            self.forget(host, socket);
        }
        let Kind::Stream(Stream { peer, .. }) = closed.kind else { return };
        let at = self.now.after(self.latency());
        if let Some(other) = self.network.stream(peer) {
            let at = other.wire.back().map_or(at, |segment| segment.at.max(at));
            other.wire.push_back(Segment { at, bytes: Vec::new(), last: true });
            self.events.plan(at, Event::Arrive { to: peer });
        }
    }

    /// Nothing more is heard of a socket that was closed; what was accepted on it is closed too.
    fn forget(&mut self, host: HostId, closed: SocketKey) {
        let mut orphans = Vec::new();
        self.hosts[host].ready.retain(|completion| match completion {
            Completion::Received { socket, .. }
            | Completion::Dialed { socket, .. }
            | Completion::Drained { socket }
            | Completion::SendFailed { socket, .. } => *socket != closed,
            Completion::Accepted { listener, socket, .. } => {
                if *listener == closed {
                    orphans.push(*socket);
                }
                *listener != closed && *socket != closed
            }
            Completion::Disk { .. } | Completion::Woken => true,
        });
        for orphan in orphans {
            self.close(orphan);
        }
    }

    /// Gives the network what it takes.
    fn flush(&mut self, from: SocketKey) {
        let Some(owner) = self.network.sockets.get(from.0).map(|socket| socket.owner) else { return };
        let Some(stream) = self.network.stream(from) else { return };
        if stream.out.is_empty() {
            return;
        }
        let (peer, peer_owner) = (stream.peer, stream.peer_owner);
        let mut out = std::mem::take(&mut stream.out);
        let mut moved = 0;
        while !out.is_empty() {
            let (at, piece) = (self.now.after(self.latency()), self.piece());
            let Some(other) = self.network.stream(peer) else { break };
            let room = WINDOW.saturating_sub(other.wire_bytes + other.inbox.len()).min(piece).min(out.len());
            if room == 0 {
                break;
            }
            let bytes = take_front(&mut out, room);
            moved += room;
            let at = other.wire.back().map_or(at, |segment| segment.at.max(at));
            other.wire_bytes += room;
            other.wire.push_back(Segment { at, bytes, last: false });
            self.events.plan(at, Event::Arrive { to: peer });
        }
        let gone = self.network.sockets.get(peer.0).is_none();
        if gone && !out.is_empty() && self.is_reachable(owner, peer_owner) {
            moved += out.len();
            out.clear();
            let at = self.now.after(self.latency() * 2);
            self.events.plan(at, Event::Reset { socket: from });
        }
        let drained = out.is_empty();
        if let Some(stream) = self.network.stream(from) {
            stream.out = out;
            stream.moved += moved as u64;
        }
        if let (Owner::Host(host), true) = (owner, drained) {
            self.hosts[host].ready.push_back(Completion::Drained { socket: from });
        }
    }

    fn is_reachable(&self, from: Owner, to: Owner) -> bool {
        let up = match to {
            Owner::Host(host) | Owner::Client(host) => self.hosts[host].up,
        };
        up && self.network.passes(from, to) && self.network.passes(to, from)
    }

    /// What is due at a socket arrives.
    pub(super) fn arrive(&mut self, to: SocketKey) {
        let now = self.now;
        let Some(owner) = self.network.sockets.get(to.0).map(|socket| socket.owner) else { return };
        let passes = self.network.passes;
        let Some(stream) = self.network.stream(to) else { return };
        let open = match (stream.peer_owner, owner) {
            (Owner::Host(from), Owner::Host(_)) => passes[from],
            (Owner::Client(_), _) | (_, Owner::Client(_)) => true,
        };
        if !open {
            return; // Lost, and sent again once the link is whole.
        }
        while let Some(segment) = stream.wire.pop_front_if(|segment| segment.at <= now) {
            stream.wire_bytes -= segment.bytes.len();
            stream.inbox.extend(segment.bytes.as_slice());
            if segment.last && stream.ended.is_none() {
                stream.ended = Some(Ok(()));
            }
        }
        self.serve_receive(to);
    }

    /// A connection breaks; so many of the bytes on their way to this end get through.
    pub(super) fn break_end(&mut self, key: SocketKey, through: usize) {
        let Some(stream) = self.network.stream(key) else { return };
        let rest: Vec<u8> = stream.wire.drain(..).flat_map(|segment| segment.bytes).take(through).collect();
        stream.inbox.extend(rest);
        stream.wire_bytes = 0;
        stream.ended = Some(Err(libc::ECONNRESET));
        stream.out.clear();
        self.serve_receive(key);
    }

    /// The other machine does not know this connection any more.
    pub(super) fn reset(&mut self, socket: SocketKey) {
        if let Some(stream) = self.network.stream(socket) {
            stream.inbox.clear();
            stream.ended = Some(Err(libc::ECONNRESET));
            self.serve_receive(socket);
        }
    }

    /// Completes a receive, if there is something to be received.
    fn serve_receive(&mut self, key: SocketKey) {
        let Some(Owner::Host(host)) = self.network.sockets.get(key.0).map(|socket| socket.owner) else {
            return;
        };
        let Some(stream) = self.network.stream(key) else { return };
        if stream.inbox.is_empty() && stream.ended.is_none() {
            return;
        }
        let Some((mut buf, from)) = stream.receiving.take() else { return };
        let result = match (stream.inbox.is_empty(), stream.ended) {
            (true, Some(ended)) => ended.map(|()| 0),
            (false, _) | (true, None) => {
                let into = buf.bytes_mut().map(|bytes| &mut bytes[from..]).unwrap_or_default();
                let count = into.len().min(stream.inbox.len());
                into[..count].copy_from_slice(&take_front(&mut stream.inbox, count));
                stream.heard += count as u64;
                Ok(count)
            }
        };
        let peer = stream.peer;
        self.hosts[host].ready.push_back(Completion::Received { socket: key, buf, result });
        self.flush(peer);
    }

    /// Everything that arrived at a client's end; `None` once it ended and nothing is left.
    pub(super) fn take_arrived(&mut self, socket: SocketKey) -> Option<Vec<u8>> {
        let stream = self.network.stream(socket)?;
        if stream.inbox.is_empty() && stream.ended.is_some() {
            return None;
        }
        let arrived = stream.inbox.len();
        let bytes = take_front(&mut stream.inbox, arrived);
        let peer = stream.peer;
        self.flush(peer);
        Some(bytes)
    }
}

/// Takes so many bytes from the front.
fn take_front(queue: &mut VecDeque<u8>, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    let (front, back) = queue.as_slices();
    let in_front = count.min(front.len());
    bytes.extend_from_slice(&front[..in_front]);
    bytes.extend_from_slice(&back[..count - in_front]);
    queue.drain(..count);
    bytes
}
