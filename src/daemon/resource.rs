//! The one loop: waits for what ends, feeds the core, carries out what it wants.
//!
//! ```text
//!  Io::wait ──► Completion ──► inbox, nbd, wire ──► Input ──► Node::handle
//!      ▲                                                          │
//!      └───── Io::send, submit, … ◄──── Effect ◄── poll_effect ◄──┘
//! ```
//!
//! A write by finger: `turn` takes a `Received` of a client's socket, `Front::step` makes the
//! request of it, `feed` gives it to the core, `perform` hands the core's effects to the ring: the
//! disk write and the packet. Nothing in between waits, locks, or allocates without bound.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use tracing::{debug, error, info, warn};

use super::link_io::{LinkIo, socket_id};
use super::mailbox::{Message, Notice, Reply};
use super::nbd_io::{Front, Step};
use crate::io::pool::Pool;
use crate::io::slots::{Key, Slots};
use crate::io::{Completion, Devices, Io, Op, SocketKey, Token};
use crate::node::Node;
use crate::node::command::{Command, CommandId, Outcome};
use crate::node::effect::{Device, DiskOp, Effect, LogLevel};
use crate::node::input::{DiskFault, Input, SocketEnd, Ticket};
use crate::node::status::ResourceStatus;
use crate::units::{Moment, VolumeId};

/// What the loop needs of the core; the core is in `node`, and tests have a smaller one.
pub trait Core {
    /// Takes what happened.
    fn handle(&mut self, now: Moment, input: Input);
    /// The next thing to carry out, in order.
    fn poll_effect(&mut self) -> Option<Effect>;
    /// When to call [`Core::handle`] with [`Input::Timeout`] at the latest.
    fn next_deadline(&self) -> Option<Moment>;
    /// A snapshot.
    fn status(&self) -> ResourceStatus;
}

impl Core for Node {
    fn handle(&mut self, now: Moment, input: Input) {
        Self::handle(self, now, input);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        Self::poll_effect(self)
    }

    fn next_deadline(&self) -> Option<Moment> {
        Self::next_deadline(self)
    }

    fn status(&self) -> ResourceStatus {
        Self::status(self)
    }
}

/// A resource: the core, and all that stands between it and the ring.
#[derive(Debug)]
pub struct Resource<C> {
    name: String,
    core: C,
    link: LinkIo,
    front: Front,
    disks: HashMap<VolumeId, Devices>,
    /// Disk operations under way.
    operations: Slots<Operation>,
    /// Bytes of those that read.
    reading: usize,
    /// Memory for reads. Not bounded here: who asks is.
    reads: Pool,
    commands: HashMap<CommandId, PendingCommand>,
    last_command: u64,
    /// Inputs that came out of carrying out effects.
    inputs: VecDeque<Input>,
    notices: Vec<Notice>,
    status_changed: bool,
    stopping: bool,
}

#[derive(Debug)]
struct Operation {
    ticket: Ticket,
    read_bytes: usize,
}

#[derive(Debug)]
struct PendingCommand {
    reply: Reply<Outcome>,
    /// The volume whose disk came with the command.
    attaches: Option<VolumeId>,
}

impl<C: Core> Resource<C> {
    /// A resource that has no socket and no disk yet.
    pub fn new(name: impl Into<String>, core: C) -> Self {
        Self {
            name: name.into(),
            core,
            link: LinkIo::new(),
            front: Front::new(),
            disks: HashMap::new(),
            operations: Slots::default(),
            reading: 0,
            reads: Pool::new(usize::MAX, KEPT_BYTES),
            commands: HashMap::new(),
            last_command: 0,
            inputs: VecDeque::new(),
            notices: Vec::new(),
            status_changed: true,
            stopping: false,
        }
    }

    /// One turn: waits until something ends or is due, and deals with all of it.
    ///
    /// # Errors
    /// When the ring cannot go on.
    pub fn turn<I: Io>(&mut self, io: &mut I, completions: &mut Vec<Completion>) -> std::io::Result<Woken> {
        io.wait(self.next_deadline(), completions)?;
        let mut woken = Woken::No;
        for completion in completions.drain(..) {
            if matches!(completion, Completion::Woken) {
                woken = Woken::Yes;
            }
            self.complete(io, completion);
        }
        self.on_time(io);
        self.resume(io);
        Ok(woken)
    }

    /// When the next turn has something to do at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        [self.core.next_deadline(), self.link.deadline()].into_iter().flatten().min()
    }

    /// Takes a message of the control thread.
    pub fn message<I: Io>(&mut self, io: &mut I, message: Message<I::Socket, I::Disk>) {
        match message {
            Message::Command { command, disk, reply } => self.command(io, command, disk, reply),
            Message::Client(client) => match self.front.add(io, client) {
                Ok(key) => self.serve(io, key),
                Err(volume) => self.closed(io, volume),
            },
            Message::Status { reply } => reply.send(self.core.status()),
            Message::HandlerDone { call, exit } => {
                self.feed(io, Input::HandlerDone { call, exit });
                self.resume(io); // The peer's packets may have waited for it.
            }
            Message::Kept { volume, answer } => self.feed(io, Input::Kept { volume, answer }),
            Message::EndClients => self.end_clients(io),
            Message::Shutdown => {
                self.stopping = true;
                self.end_clients(io);
                self.link.close_all(io);
            }
        }
    }

    /// Whether [`Message::Shutdown`] came, and nothing is under way any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.stopping && self.operations.is_empty()
    }

    /// The core, for those who only look.
    pub const fn core(&self) -> &C {
        &self.core
    }

    /// What an operation queued on the ring is for, for those who only look.
    pub fn ticket_of(&self, token: Token) -> Option<Ticket> {
        self.operations.get(Key::from_u64(token.0)).map(|operation| operation.ticket)
    }

    /// The core, for tests.
    #[cfg(test)]
    pub(super) fn core_mut(&mut self) -> &mut C {
        &mut self.core
    }

    /// What the supervisor has to be told since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// A snapshot, if the state changed since the last call.
    pub fn take_status(&mut self) -> Option<ResourceStatus> {
        std::mem::take(&mut self.status_changed).then(|| self.core.status())
    }

    fn end_clients<I: Io>(&mut self, io: &mut I) {
        self.front.end_all(io);
        self.abandon(io);
        self.resume(io);
    }

    fn command<I: Io>(&mut self, io: &mut I, command: Command, disk: Option<I::Disk>, reply: Reply<Outcome>) {
        let mut attaches = None;
        if let (Command::Attach { volume, .. }, Some(disk)) = (&command, disk) {
            if self.disks.contains_key(volume) {
                let text = format!("volume {volume} has a disk already: detach it first");
                return reply.send(Outcome::with(DISK_CONFIGURED, text));
            }
            self.disks.insert(*volume, io.attach(disk));
            attaches = Some(*volume);
        }
        self.last_command += 1;
        let id = CommandId(self.last_command);
        self.commands.insert(id, PendingCommand { reply, attaches });
        self.feed(io, Input::Command { id, command });
    }

    fn complete<I: Io>(&mut self, io: &mut I, completion: Completion) {
        match completion {
            Completion::Received { socket, buf, result } => {
                if let Some(client) = self.front.client_of(socket) {
                    self.front.received(io, client, buf, result);
                    self.abandon(io);
                    self.serve(io, client);
                } else if let Some(end) = self.link.received(io, socket, buf, result) {
                    self.feed(io, end);
                } else {
                    self.listen_to_peer(io, socket);
                }
            }
            Completion::Disk { token, result } => {
                if let Some(operation) = self.operations.remove(Key::from_u64(token.0)) {
                    self.reading -= operation.read_bytes;
                    self.feed(io, Input::DiskDone { ticket: operation.ticket, result });
                }
            }
            Completion::Drained { socket } => {
                if self.link.has(socket) {
                    // More may have been queued since: then the next one tells.
                    if io.unsent(socket).bytes == 0 {
                        self.feed(io, Input::SendQueueEmpty(socket_id(socket)));
                    }
                } else if let Some(client) = self.front.client_of(socket) {
                    self.serve(io, client);
                }
            }
            Completion::SendFailed { socket, errno } => {
                if let Some(client) = self.front.client_of(socket) {
                    self.front.broke(io, client);
                    self.abandon(io);
                    self.serve(io, client);
                } else if let Some(end) = self.link.end(io, socket, SocketEnd::Error(errno)) {
                    self.feed(io, end);
                }
            }
            Completion::Accepted { listener, socket, from } => {
                let input =
                    if self.link.is_listener(listener) { self.link.accepted(io, socket, from) } else { None };
                match input {
                    Some(input) => {
                        self.feed(io, input);
                        self.listen_to_peer(io, socket);
                    }
                    None => io.close(socket),
                }
            }
            Completion::Dialed { socket, result } => {
                if let Some(input) = self.link.dialed(socket, result) {
                    self.feed(io, input);
                    self.listen_to_peer(io, socket);
                }
            }
            Completion::Woken => {}
        }
    }

    /// Tells the core of requests whose client is gone.
    fn abandon<I: Io>(&mut self, io: &mut I) {
        let ids = self.front.take_abandoned();
        if !ids.is_empty() {
            self.feed(io, Input::Abandon(ids));
        }
    }

    /// Gives the core everything that a client has sent.
    fn serve<I: Io>(&mut self, io: &mut I, client: Key) {
        loop {
            match self.front.step(io, client) {
                Step::Input(input) => self.feed(io, input),
                Step::Idle => return,
                Step::Closed(volume) => return self.closed(io, volume),
            }
        }
    }

    fn closed<I: Io>(&mut self, io: &mut I, volume: VolumeId) {
        self.last_command += 1;
        let command = Command::Close { volume };
        self.feed(io, Input::Command { id: CommandId(self.last_command), command });
    }

    /// Gives the core everything that the peer has sent on a socket. Whether that was something.
    fn listen_to_peer<I: Io>(&mut self, io: &mut I, socket: SocketKey) -> bool {
        let mut some = false;
        while let Some(input) = self.link.next(io, socket, self.reading) {
            self.feed(io, input);
            some = true;
        }
        some
    }

    fn on_time<I: Io>(&mut self, io: &mut I) {
        let mut inputs = Vec::new();
        self.link.on_time(io, &mut inputs);
        for input in inputs {
            self.feed(io, input);
        }
        if self.core.next_deadline().is_some_and(|deadline| deadline <= io.now()) {
            self.feed(io, Input::Timeout);
        }
    }

    /// Goes on with those who waited for memory, or for the core.
    fn resume<I: Io>(&mut self, io: &mut I) {
        // What one socket says may release another.
        let mut progress = true;
        while std::mem::take(&mut progress) {
            for socket in self.link.gated() {
                progress |= self.listen_to_peer(io, socket);
            }
        }
        for client in self.front.take_again(io) {
            self.serve(io, client);
        }
    }

    /// The one entry to the core; carries out what comes of it.
    fn feed<I: Io>(&mut self, io: &mut I, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next {
            self.core.handle(io.now(), input);
            while let Some(effect) = self.core.poll_effect() {
                self.perform(io, effect);
            }
            next = self.inputs.pop_front();
        }
    }

    /// Carries an effect out. Only queues: never waits for disk or peer.
    fn perform<I: Io>(&mut self, io: &mut I, effect: Effect) {
        match effect {
            Effect::Reply { id, result } => {
                let next = self.front.reply(io, id, result);
                self.inputs.extend(next);
            }
            Effect::Disk { ticket, volume, device, op } => self.disk(io, ticket, volume, device, op),
            Effect::CloseDisk { volume } => {
                if let Some(devices) = self.disks.remove(&volume) {
                    io.detach(devices);
                }
            }
            Effect::Send { socket, volume, packet, payload } => {
                self.link.send(io, socket, volume, &packet, payload);
            }
            Effect::Hold { socket, hold } => self.link.hold(socket, hold),
            Effect::SendTimeout { socket, timeout } => self.link.set_send_timeout(socket, timeout),
            Effect::Speak { socket, dialect } => self.link.speak(socket, dialect),
            Effect::Listen { local } => self.listen(io, local),
            Effect::Unlisten => self.link.unlisten(io),
            Effect::Dial { local, remote, timeout } => {
                let failed = self.link.dial(io, local, remote, timeout);
                self.inputs.extend(failed);
            }
            Effect::AbortDial => self.link.abort_dial(io),
            Effect::CloseSocket(socket) => self.link.close(io, socket),
            Effect::CommandDone { id, outcome } => self.command_done(io, id, outcome),
            Effect::Handler { call, name, volume } => {
                let resource = self.name.clone();
                self.notices.push(Notice::Handler { resource, call, name, volume });
            }
            Effect::Keep { volume, ask } => {
                let resource = self.name.clone();
                self.notices.push(Notice::Keep { resource, volume, ask });
            }
            Effect::Log { level, volume, text } => self.log(level, volume, &text),
            Effect::StatusChanged => self.status_changed = true,
        }
    }

    fn listen<I: Io>(&mut self, io: &mut I, local: SocketAddr) {
        let failed = self.link.listen(io, local);
        self.inputs.extend(failed);
    }

    fn disk<I: Io>(&mut self, io: &mut I, ticket: Ticket, volume: VolumeId, device: Device, op: DiskOp) {
        let Some(devices) = self.disks.get(&volume) else {
            self.inputs.push_back(Input::DiskDone { ticket, result: Err(DiskFault::Gone) });
            return;
        };
        let device = match device {
            Device::Data => devices.data,
            Device::Meta => devices.meta,
        };
        let mut read_bytes = 0;
        let op = match op {
            DiskOp::Read { offset, len } => {
                read_bytes = len;
                Op::Read { offset, into: self.reads.buf(len) }
            }
            DiskOp::Write { offset, data, fua } => Op::Write { offset, data, fua },
            DiskOp::Flush => Op::Sync,
            DiskOp::Discard { offset, len } => Op::Discard { offset, len },
            DiskOp::Zero { offset, len, unmap } => Op::Zero { offset, len, unmap },
        };
        self.reading += read_bytes;
        let token = Token(self.operations.insert(Operation { ticket, read_bytes }).as_u64());
        io.submit(token, device, op);
    }

    fn command_done<I: Io>(&mut self, io: &mut I, id: CommandId, outcome: Outcome) {
        let Some(PendingCommand { reply, attaches }) = self.commands.remove(&id) else { return };
        if let Some(volume) = attaches
            && !outcome.is_success()
            && let Some(devices) = self.disks.remove(&volume)
        {
            io.detach(devices);
        }
        reply.send(outcome);
    }

    fn log(&self, level: LogLevel, volume: Option<VolumeId>, text: &str) {
        let resource = self.name.as_str();
        let volume = volume.map(|volume| volume.0);
        match level {
            LogLevel::Error => error!(resource, volume, "{text}"),
            LogLevel::Warn => warn!(resource, volume, "{text}"),
            LogLevel::Info => info!(resource, volume, "{text}"),
            LogLevel::Debug => debug!(resource, volume, "{text}"),
        }
    }
}

/// Whether another thread asked for attention during a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Look into the mailbox.
    Yes,
    /// It did not.
    No,
}

/// The outcome of an attach to a volume that has a disk (S35).
const DISK_CONFIGURED: i32 = 124;
/// Memory kept for the next reads.
const KEPT_BYTES: usize = 16 << 20;
