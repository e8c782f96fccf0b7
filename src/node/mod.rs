//! The core: every decision one node takes about a resource. No I/O, no clock, no randomness of its
//! own.
//!
//! The shell feeds [`Input`]s to [`Node::handle`] and carries out the [`Effect`]s it drains from
//! [`Node::poll_effect`]. A write by finger: `request.rs` admits it, `activity.rs` makes its extents
//! hot, `route.rs` sends it to the disk and to the peer and collects the answers, `completion.rs`
//! answers the client and later forgets it. On the other node `peer_write.rs` receives it.
//!
//! Peers are a list with one entry. What belongs to a peer is in `link.rs`.

pub mod activity_log;
pub mod bitmap;
pub mod command;
pub mod decision;
pub mod effect;
pub mod input;
pub mod resync_rate;
pub mod rules;
pub mod state;
pub mod status;

mod acceptance;
mod activity;
mod after_state;
mod audit;
mod bitmap_exchange;
mod commands;
mod completion;
mod conflict;
mod disk;
mod engine;
mod epochs;
mod fencing;
mod greeting;
mod handlers;
mod handshake;
pub mod keep;
mod keepalive;
mod link;
mod metadata;
mod parameters;
mod peer_ack;
mod peer_read;
mod peer_seen;
mod peer_write;
mod progress;
mod ranges;
mod rendezvous;
mod request;
mod resync;
mod resync_source;
mod resync_target;
mod route;
mod shadow;
mod snapshot;
pub mod steps;
mod sync_handshake;
mod teardown;
mod tickets;
mod transfer_log;
mod uuids;
mod verify;
mod volume;
mod worker;

use std::collections::{BTreeMap, VecDeque};

pub use command::{Command, CommandId, Outcome};
pub use effect::{Device, DiskOp, Effect, LogLevel, ReplyError};
pub use input::{DiskFault, Input, Request, RequestId, SocketEnd, SocketId, Ticket};

use commands::Jobs;
use handlers::Waiter;
use link::Link;
use tickets::Tickets;
use transfer_log::TransferLog;
use volume::Volume;
use worker::Worker;

use crate::config::options::ResourceOptions;
use crate::units::{Moment, VolumeId};

/// Fills a slice with random bytes. The shell's is the system's; the simulator's has a seed.
pub type Entropy = Box<dyn FnMut(&mut [u8])>;

/// One node's half of a resource.
///
/// Contract: after each [`Node::handle`], drain [`Node::poll_effect`] to `None` before the next one.
pub struct Node {
    name: String,
    now: Moment,
    entropy: Entropy,
    options: ResourceOptions,
    volumes: BTreeMap<VolumeId, Volume>,
    /// The peers: one today.
    links: Vec<Link>,
    log: TransferLog,
    worker: Worker,
    tickets: Tickets,
    jobs: Jobs,
    effects: VecDeque<Effect>,
    /// The change that a disconnect under way asked the peer for.
    parting: state::StateChange,
    /// Counts accepted state changes: whoever waits for one compares.
    state_serial: u64,
    /// Parked requests may be admissible now.
    retry_parked: bool,
    /// Number of the last handler call.
    handler_calls: u64,
    /// Who waits for handlers, by the number of the call.
    handler_waits: BTreeMap<u64, Waiter>,
    /// When dirty superblocks are written at the latest (M82).
    meta_deadline: Option<Moment>,
}

impl Node {
    /// A resource without volumes and connection.
    #[must_use]
    pub fn new(name: impl Into<String>, options: ResourceOptions, now: Moment, entropy: Entropy) -> Self {
        Self {
            name: name.into(),
            now,
            entropy,
            options,
            volumes: BTreeMap::new(),
            links: vec![Link::new()],
            log: TransferLog::default(),
            worker: Worker::default(),
            tickets: Tickets::default(),
            jobs: Jobs::default(),
            effects: VecDeque::new(),
            parting: state::StateChange::NOTHING,
            state_serial: 0,
            retry_parked: false,
            handler_calls: 0,
            handler_waits: BTreeMap::new(),
            meta_deadline: None,
        }
    }

    /// Takes what happened. `now` never goes backwards.
    pub fn handle(&mut self, now: Moment, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Request { id, volume, request } => self.on_request(id, volume, request),
            Input::Command { id, command } => self.on_command(id, command),
            Input::Abandon(ids) => self.abandon(&ids),
            Input::DiskDone { ticket, result } => self.on_disk_done(ticket, result),
            Input::Dialed(result) => self.on_dialed(result),
            Input::Accepted { socket, from } => self.on_accepted(socket, from),
            Input::ListenFailed(why) => self.on_listen_failed(&why),
            Input::Packet { socket, volume, packet, payload } => {
                self.on_packet(socket, volume, packet, payload);
            }
            Input::SocketEnded { socket, end } => self.on_socket_ended(socket, &end),
            Input::SendStalled(socket) => self.on_send_stalled(socket),
            Input::SendQueueEmpty(socket) => self.on_send_queue_empty(socket),
            Input::HandlerDone { call, exit } => self.on_handler_done(call, exit),
            Input::Kept { volume, answer } => self.on_kept(volume, answer),
            Input::Timeout => {}
        }
        self.on_time();
        self.settle();
    }

    /// Lets everything go on that the input made possible.
    fn settle(&mut self) {
        loop {
            self.run_worker();
            self.advance_teardown();
            let serial = (self.state_serial, self.effects.len());
            self.run_jobs();
            self.poll_asked();
            if self.retry_parked {
                self.retry_parked = false;
                self.admit_parked();
            }
            let unchanged = serial == (self.state_serial, self.effects.len());
            if unchanged && !self.retry_parked && !self.worker.can_run() {
                return;
            }
        }
    }

    /// The next thing to carry out, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Node::handle`] with [`Input::Timeout`] at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let links = self.links.iter().filter_map(|link| link.deadline()).min();
        let volumes = self.volumes.values().filter_map(|v| v.resync.as_ref()?.deadline()).min();
        let verifies = self.volumes.values().filter_map(|v| v.verify.as_ref()?.deadline()).min();
        [links, volumes, verifies, self.jobs.deadline(), self.meta_deadline].into_iter().flatten().min()
    }

    /// The name of the resource.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does what is due by the clock.
    fn on_time(&mut self) {
        self.barrier_tick();
        self.early_write_tick();
        self.flush_for_barriers();
        self.keep_alive();
        self.rendezvous_tick();
        self.resync_tick();
        self.verify_tick();
        if self.meta_deadline.is_some_and(|at| self.now >= at) {
            self.meta_deadline = None;
            self.sync_all_meta();
        }
    }

    /// Says something to the operator.
    fn say(&mut self, level: LogLevel, volume: Option<VolumeId>, text: impl Into<String>) {
        self.effects.push_back(Effect::Log { level, volume, text: text.into() });
    }

    /// A random 64-bit number.
    fn random_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        (self.entropy)(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    /// A random bit.
    fn toss(&mut self) -> bool {
        self.random_u64() & 1 == 1
    }

    fn volume_ids(&self) -> Vec<VolumeId> {
        self.volumes.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests;
