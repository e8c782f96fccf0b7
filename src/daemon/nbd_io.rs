//! The NBD clients of one resource: bytes to requests of the core, replies to bytes.
//!
//! A client's request may be longer than the core takes: it is split into parts, each a request of
//! the core, and answered when the last part is; the first error wins. How much a client may have
//! open is bounded, and so is the sum of all clients: who is over it is not read from, until
//! answers have gone out.

use std::collections::HashMap;

use tracing::{debug, info};

use super::inbox::Inbox;
use super::mailbox::NbdClient;
use crate::buffer::Buf;
use crate::io::pool::Pool;
use crate::io::slots::{Key, Slots};
use crate::io::{Io, SocketKey};
use crate::nbd::transmission::REQUEST_BYTES;
use crate::nbd::{Command, Cookie, Errno, Incoming, Refused, Request as NbdRequest, Session};
use crate::node::effect::ReplyError;
use crate::node::input::{Input, Request, RequestId};
use crate::units::{Extent, Sector, VolumeId};

/// All clients.
#[derive(Debug)]
pub(super) struct Front {
    clients: Slots<Client>,
    by_socket: HashMap<SocketKey, Key>,
    requests: Slots<OpenRequest>,
    /// What the core has of them: its request ids are keys of this table.
    parts: Slots<Part>,
    /// Clients to be stepped again at the end of the turn.
    again: Vec<Key>,
    /// Requests whose client is gone, not told to the core yet.
    abandoned: Vec<RequestId>,
    /// Sum of the clients' costs.
    cost: usize,
    /// Bytes of answers that the clients have not taken, at the beginning of this turn or sent since.
    unsent: usize,
    pool: Pool,
    out: Vec<u8>,
}

#[derive(Debug)]
struct Client {
    socket: SocketKey,
    volume: VolumeId,
    session: Session,
    inbox: Inbox,
    name: String,
    /// The request that is being given to the core part by part.
    current: Option<Current>,
    /// What its open requests hold, see [`cost_of`].
    cost: usize,
    open_requests: usize,
    /// No more requests are read.
    ended: bool,
    /// Nothing can be sent any more.
    broken: bool,
    /// Sent away: its requests have had their answers, whatever becomes of them.
    dismissed: bool,
    /// Is in [`Front::again`].
    listed: bool,
}

/// A request that addresses sectors, on its way to the core.
#[derive(Debug)]
struct Current {
    request: Key,
    kind: Kind,
    /// Number of the part that comes next, where it begins, and what is left from there on.
    index: usize,
    next: Sector,
    left_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Read,
    Write { fua: bool },
    Trim { fua: bool },
    WriteZeroes { fua: bool, may_trim: bool },
}

#[derive(Debug)]
struct OpenRequest {
    client: Key,
    cookie: Cookie,
    /// Where a read begins, and how long it is, in bytes.
    offset: u64,
    read_bytes: u64,
    cost: usize,
    /// Parts that the core has not answered, or that have not been given to it.
    left: usize,
    /// For writes, "outside the device" is a lack of space.
    is_write: bool,
    /// A flush follows the parts: neither disk nor peer has a durable trim.
    flush: bool,
    /// The data of a read: that of most reads has one part only.
    first: Option<Buf>,
    more: Vec<Option<Buf>>,
    error: Option<ReplyError>,
}

#[derive(Debug)]
struct Part {
    request: Key,
    index: usize,
}

/// What the loop does next with a client.
#[derive(Debug)]
pub(super) enum Step {
    /// Feed this to the core.
    Input(Input),
    /// Nothing more for now.
    Idle,
    /// The client is gone, and nothing of it is open any more: tell the core that it closed this
    /// volume.
    Closed(VolumeId),
}

impl Front {
    pub(super) fn new() -> Self {
        Self {
            clients: Slots::default(),
            by_socket: HashMap::new(),
            requests: Slots::default(),
            parts: Slots::default(),
            again: Vec::new(),
            abandoned: Vec::new(),
            cost: 0,
            unsent: 0,
            pool: Pool::new(TOTAL_COST, KEPT_BYTES),
            out: Vec::new(),
        }
    }

    /// Takes a client on. Drive it with [`Front::step`]. `Err` is the volume that a client which
    /// could not be taken on has open.
    pub(super) fn add<I: Io>(&mut self, io: &mut I, client: NbdClient<I::Socket>) -> Result<Key, VolumeId> {
        let NbdClient { socket, volume, session, leftover, name } = client;
        let socket = io.adopt(socket).map_err(|errno| {
            info!(client = name, errno, "cannot take the NBD client on");
            volume
        })?;
        debug!(client = name, %volume, "NBD client is served");
        let key = self.clients.insert(Client {
            socket,
            volume,
            session,
            inbox: Inbox::new(&leftover),
            name,
            current: None,
            cost: 0,
            open_requests: 0,
            ended: false,
            broken: false,
            dismissed: false,
            listed: false,
        });
        self.by_socket.insert(socket, key);
        Ok(key)
    }

    /// The client behind a socket.
    pub(super) fn client_of(&self, socket: SocketKey) -> Option<Key> {
        self.by_socket.get(&socket).copied()
    }

    /// Bytes came, or the connection ended (0 bytes, or an error). Step the client then.
    pub(super) fn received<I: Io>(&mut self, io: &mut I, key: Key, buf: Buf, result: Result<usize, i32>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        match result {
            Ok(count) if count > 0 => client.inbox.received(buf, count),
            Ok(_) | Err(_) => {
                // Without a goodbye: what has not begun need not begin any more.
                self.abandon_requests(|client| client == key);
                self.end(io, key, "the connection ended");
            }
        }
    }

    /// Sending failed. Step the client then.
    pub(super) fn broke<I: Io>(&mut self, io: &mut I, key: Key) {
        if let Some(client) = self.clients.get_mut(key) {
            client.broken = true;
            self.abandon_requests(|client| client == key);
            self.end(io, key, "the connection broke");
        }
    }

    /// Sends every client away at once: what it still waits for is answered with an error, as far as the
    /// network takes it. Step each of them then.
    pub(super) fn end_all<I: Io>(&mut self, io: &mut I) {
        let (errno, why) = errno_of(ReplyError::Shutdown, false);
        for key in self.requests.keys() {
            let Some(open) = self.requests.get(key) else { continue };
            if let Some(client) = self.clients.get(open.client).filter(|client| !client.broken) {
                self.out.clear();
                client.session.replies().error(&mut self.out, open.cookie, errno, why);
                io.send(client.socket, &self.out, None);
            }
        }
        self.abandon_requests(|_| true);
        for key in self.clients.keys() {
            let Some(client) = self.clients.get_mut(key) else { continue };
            (client.broken, client.dismissed) = (true, true);
            io.close(client.socket);
            self.end(io, key, "the volume is closed");
            self.list(key);
        }
    }

    /// Remembers the requests of those clients that are gone.
    fn abandon_requests(&mut self, gone: impl Fn(Key) -> bool) {
        for key in self.parts.keys() {
            let request = self.parts.get(key).and_then(|part| self.requests.get(part.request));
            if request.is_some_and(|open| gone(open.client)) {
                self.abandoned.push(RequestId(key.as_u64()));
            }
        }
    }

    /// Requests whose client is gone, since the last call: the core may forget those that have not begun.
    pub(super) fn take_abandoned(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.abandoned)
    }

    /// Reads no more from a client. Its requests under way are finished.
    fn end<I: Io>(&mut self, io: &mut I, key: Key, why: &str) {
        let Some(client) = self.clients.get_mut(key).filter(|client| !client.ended) else { return };
        debug!(client = client.name, why, "NBD client ends");
        client.ended = true;
        if let Some(current) = client.current.take() {
            // The parts that will never be given count as answered.
            let parts = current.left_bytes.div_ceil(current.kind.part_bytes()) as usize;
            self.answered(io, current.request, parts);
        }
    }

    /// Does the next thing for a client: call until it is [`Step::Idle`] or [`Step::Closed`].
    pub(super) fn step<I: Io>(&mut self, io: &mut I, key: Key) -> Step {
        loop {
            let Some(client) = self.clients.get_mut(key) else { return Step::Idle };
            if client.ended {
                return self.bury(io, key);
            }
            if client.current.is_some() {
                if let Some(input) = self.next_part(key) {
                    return Step::Input(input);
                }
            } else if let Some(input) = self.next_request(io, key) {
                return Step::Input(input);
            }
            // Either the request's parts come next, or more bytes are needed for anything.
            let Some(client) = self.clients.get_mut(key) else { return Step::Idle };
            if client.ended || client.can_go_on() {
                continue;
            }
            if !client.listed {
                client.inbox.receive(io, client.socket);
            }
            return Step::Idle;
        }
    }

    /// Clients that may be able to go on at the end of a turn: step each.
    pub(super) fn take_again<I: Io>(&mut self, io: &I) -> Vec<Key> {
        self.unsent = self.clients.iter().map(|(_, client)| io.unsent(client.socket).bytes).sum();
        let again = std::mem::take(&mut self.again);
        for key in &again {
            if let Some(client) = self.clients.get_mut(*key) {
                client.listed = false;
            }
        }
        again
    }

    fn list(&mut self, key: Key) {
        if let Some(client) = self.clients.get_mut(key)
            && !client.listed
        {
            client.listed = true;
            self.again.push(key);
        }
    }

    /// Removes a client of which nothing is open any more.
    fn bury<I: Io>(&mut self, io: &mut I, key: Key) -> Step {
        let done = |client: &Client| {
            client.dismissed
                || client.open_requests == 0 && (client.broken || io.unsent(client.socket).bytes == 0)
        };
        if !self.clients.get(key).is_some_and(done) {
            return Step::Idle;
        }
        let Some(client) = self.clients.remove(key) else { return Step::Idle };
        self.by_socket.remove(&client.socket);
        io.close(client.socket);
        info!(client = client.name, volume = %client.volume, "NBD client is gone");
        Step::Closed(client.volume)
    }

    /// Parses the next request; the input if it goes to the core whole.
    fn next_request<I: Io>(&mut self, io: &mut I, key: Key) -> Option<Input> {
        let client = self.clients.get_mut(key)?;
        if client.inbox.bytes().len() < REQUEST_BYTES {
            return None;
        }
        let held = client.cost + io.unsent(client.socket).bytes;
        let full = held >= CLIENT_COST || self.cost + self.unsent >= TOTAL_COST;
        // One is always allowed, so that nobody can keep the others from working; a long one only while all
        // together hold little, so that many clients do not hold much.
        let waits = |bytes: u64| full && (held > 0 || bytes > SMALL_BYTES);
        match client.session.decode(client.inbox.bytes()) {
            Ok(Some(Incoming::Request(request))) if waits(data_bytes(request.command)) => self.list(key),
            Ok(Some(Incoming::Refused(_))) if waits(0) => self.list(key),
            Ok(Some(incoming)) => {
                client.inbox.consume(REQUEST_BYTES);
                match incoming {
                    Incoming::Request(request) => return self.open(key, request),
                    Incoming::Refused(refused) => self.refuse(io, key, refused),
                    Incoming::Disconnect => self.end(io, key, "it said goodbye"),
                }
            }
            Ok(None) => {}
            Err(error) => {
                info!(client = client.name, %error, "NBD client breaks the protocol");
                client.broken = true;
                self.end(io, key, "it broke the protocol");
            }
        }
        None
    }

    fn refuse<I: Io>(&mut self, io: &mut I, key: Key, refused: Refused) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.inbox.skip(refused.skip_bytes.into());
        self.out.clear();
        client.session.replies().error(&mut self.out, refused.cookie, refused.errno, refused.reason);
        io.send(client.socket, &self.out, None);
    }

    /// Opens a request. A flush goes to the core at once, the others part by part.
    fn open(&mut self, key: Key, request: NbdRequest) -> Option<Input> {
        let client = self.clients.get_mut(key)?;
        let (kind, extent) = match request.command {
            Command::Flush => (None, None),
            Command::Read { extent } => (Some(Kind::Read), Some(extent)),
            Command::Write { extent, fua } => (Some(Kind::Write { fua }), Some(extent)),
            Command::Trim { extent, fua } => (Some(Kind::Trim { fua }), Some(extent)),
            Command::WriteZeroes { extent, fua, may_trim } => {
                (Some(Kind::WriteZeroes { fua, may_trim }), Some(extent))
            }
        };
        let cost = cost_of(kind, extent);
        client.cost += cost;
        self.cost += cost;
        client.open_requests += 1;
        let parts = match (kind, extent) {
            (Some(kind), Some(extent)) => extent.bytes().div_ceil(kind.part_bytes()),
            (None, _) | (_, None) => 1,
        };
        let open = self.requests.insert(OpenRequest {
            client: key,
            cookie: request.cookie,
            offset: request.offset(),
            read_bytes: extent.filter(|_| matches!(kind, Some(Kind::Read))).map_or(0, Extent::bytes),
            cost,
            left: parts as usize,
            is_write: matches!(kind, Some(Kind::Write { .. } | Kind::WriteZeroes { .. })),
            flush: matches!(kind, Some(Kind::Trim { fua: true } | Kind::WriteZeroes { fua: true, .. })),
            first: None,
            more: Vec::new(),
            error: None,
        });
        let (Some(kind), Some(extent)) = (kind, extent) else {
            let volume = client.volume;
            return Some(self.part(open, 0, volume, Request::Flush));
        };
        client.current =
            Some(Current { request: open, kind, index: 0, next: extent.start(), left_bytes: extent.bytes() });
        self.next_part(key)
    }

    /// The next part of the current request, once its payload is there.
    fn next_part(&mut self, key: Key) -> Option<Input> {
        let client = self.clients.get_mut(key)?;
        let volume = client.volume;
        let current = client.current.as_mut()?;
        let bytes = current.left_bytes.min(current.kind.part_bytes());
        let payload = match current.kind {
            Kind::Write { .. } => {
                if !client.inbox.has_payload() {
                    client.inbox.begin_payload(bytes as usize, &self.pool);
                }
                Some(client.inbox.take_payload()?)
            }
            Kind::Read | Kind::Trim { .. } | Kind::WriteZeroes { .. } => None,
        };
        let extent = Extent::of_bytes(current.next, bytes)?;
        let (request, index) = (current.request, current.index);
        let content = match (current.kind, payload) {
            (Kind::Write { fua }, Some(data)) => Request::Write { extent, data, fua },
            (Kind::Read | Kind::Write { .. }, _) => Request::Read { extent },
            (Kind::Trim { fua }, _) => Request::Trim { extent, fua },
            (Kind::WriteZeroes { fua, may_trim }, _) => Request::WriteZeroes { extent, fua, may_trim },
        };
        current.next = extent.end();
        current.left_bytes -= bytes;
        current.index += 1;
        if current.left_bytes == 0 {
            client.current = None;
        }
        Some(self.part(request, index, volume, content))
    }

    fn part(&mut self, request: Key, index: usize, volume: VolumeId, content: Request) -> Input {
        let id = RequestId(self.parts.insert(Part { request, index }).as_u64());
        Input::Request { id, volume, request: content }
    }

    /// The core answered a part. What it is to be fed next for the same request, if anything.
    pub(super) fn reply<I: Io>(
        &mut self,
        io: &mut I,
        id: RequestId,
        result: Result<Option<Buf>, ReplyError>,
    ) -> Option<Input> {
        let part = self.parts.remove(Key::from_u64(id.0))?;
        let open = self.requests.get_mut(part.request)?;
        match result {
            Ok(data) if part.index == 0 => open.first = data,
            Ok(None) => {}
            Ok(data) => {
                if open.more.len() < part.index {
                    open.more.resize(part.index, None);
                }
                open.more[part.index - 1] = data;
            }
            Err(error) => drop(open.error.get_or_insert(error)),
        }
        if open.left == 1 && open.error.is_none() && std::mem::take(&mut open.flush) {
            let volume = self.clients.get(open.client)?.volume;
            return Some(self.part(part.request, 0, volume, Request::Flush));
        }
        self.answered(io, part.request, 1);
        None
    }

    /// So many parts of a request are done; with the last one the client gets its answer.
    fn answered<I: Io>(&mut self, io: &mut I, request: Key, parts: usize) {
        let Some(open) = self.requests.get_mut(request) else { return };
        open.left -= parts;
        if open.left > 0 {
            return;
        }
        let Some(open) = self.requests.remove(request) else { return };
        let key = open.client;
        self.cost -= open.cost;
        let Some(client) = self.clients.get_mut(key) else { return };
        client.cost -= open.cost;
        self.unsent += open.read_bytes as usize;
        client.open_requests -= 1;
        if !client.broken {
            self.out.clear();
            open.answer(io, client, &mut self.out);
        }
        if client.ended {
            self.list(key);
        }
    }
}

impl OpenRequest {
    fn answer<I: Io>(self, io: &mut I, client: &Client, out: &mut Vec<u8>) {
        let replies = client.session.replies();
        let len = |buf: &Option<Buf>| buf.as_ref().map_or(0, Buf::len) as u64;
        let got = len(&self.first) + self.more.iter().map(len).sum::<u64>();
        let error = self.error.or_else(|| (got != self.read_bytes).then_some(ReplyError::Io));
        if let Some(error) = error {
            let (errno, why) = errno_of(error, self.is_write);
            replies.error(out, self.cookie, errno, why);
            io.send(client.socket, out, None);
        } else if self.read_bytes > 0 {
            replies.read_header(out, self.cookie, self.offset, self.read_bytes as u32);
            io.send(client.socket, out, self.first);
            for more in self.more {
                io.send(client.socket, &[], more);
            }
        } else {
            replies.done(out, self.cookie);
            io.send(client.socket, out, None);
        }
    }
}

impl Client {
    /// Whether something can be done with the bytes that are here.
    fn can_go_on(&self) -> bool {
        match &self.current {
            Some(Current { kind: Kind::Write { .. }, .. }) => self.inbox.payload_is_complete(),
            Some(_) => true,
            None => !self.listed && self.inbox.bytes().len() >= REQUEST_BYTES,
        }
    }
}

impl Kind {
    /// Longest part that the core takes (D3, D4).
    const fn part_bytes(self) -> u64 {
        match self {
            Self::Read | Self::Write { .. } => 1 << 20,
            Self::Trim { .. } | Self::WriteZeroes { .. } => 128 << 20,
        }
    }
}

/// What an open request counts against the limits: its memory, and something for itself.
fn cost_of(kind: Option<Kind>, extent: Option<Extent>) -> usize {
    match (kind, extent) {
        (Some(Kind::Read | Kind::Write { .. }), Some(extent)) => REQUEST_COST + extent.bytes() as usize,
        (_, _) => REQUEST_COST,
    }
}

/// Length of the data that a command carries or asks for.
fn data_bytes(command: Command) -> u64 {
    match command {
        Command::Read { extent } | Command::Write { extent, .. } => extent.bytes(),
        Command::Flush | Command::Trim { .. } | Command::WriteZeroes { .. } => 0,
    }
}

fn errno_of(error: ReplyError, is_write: bool) -> (Errno, &'static str) {
    match error {
        ReplyError::Io => (Errno::Io, "neither copy of the data could do it"),
        ReplyError::Shutdown => (Errno::Shutdown, "the volume is not open for clients any more"),
        ReplyError::OutOfRange if is_write => (Errno::NoSpace, "the request ends behind the device"),
        ReplyError::OutOfRange => (Errno::Invalid, "the request ends behind the device"),
        ReplyError::NoSpace => (Errno::NoSpace, "there is no space left below"),
    }
}

/// What a client may have open, unsent answers included, before it is not read from. The longest
/// request is as long as this.
const CLIENT_COST: usize = 32 << 20;
/// What all clients of a resource may have open together, unsent answers included, before long requests
/// wait, and those of clients that have something open.
const TOTAL_COST: usize = 128 << 20;
/// A request up to this length is not a long one.
const SMALL_BYTES: u64 = 1 << 20;
/// Cost of a request without its data.
const REQUEST_COST: usize = 512;
/// Payload memory kept for the next requests.
const KEPT_BYTES: usize = 16 << 20;
