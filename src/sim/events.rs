//! What is going to happen, and when. Events of the same moment happen in the order they were planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use crate::io::{DeviceKey, Op, SocketKey, Token};
use crate::node::keep::KeepAsk;
use crate::units::{Moment, VolumeId};

/// Number of a machine: 0 or 1.
pub type HostId = usize;

/// Something that will happen.
#[derive(Debug)]
pub enum Event {
    /// Bytes are due at this socket.
    Arrive {
        /// The socket they go to.
        to: SocketKey,
    },
    /// A connection request reaches the other machine, if it can.
    Knock {
        /// The socket that dials.
        from: SocketKey,
        /// Where.
        remote: SocketAddr,
    },
    /// The answer to a connection request is back.
    DialEnds {
        /// The socket that dials.
        socket: SocketKey,
        /// The other end, or the error number.
        result: Result<SocketKey, i32>,
    },
    /// The peer answered bytes with a reset.
    Reset {
        /// The socket that learns of it.
        socket: SocketKey,
    },
    /// A disk operation takes effect and ends.
    Disk {
        /// Whose.
        host: HostId,
        /// How often that machine had been started: what was under way at a crash never ends.
        boot: u64,
        /// Name of the operation.
        token: Token,
        /// The device.
        device: DeviceKey,
        /// What to do.
        op: Op,
        /// What a flush is about: the last write before it began.
        begun: u64,
    },
    /// The shell has dealt with what was to be kept.
    Keep {
        /// Whose.
        host: HostId,
        /// See [`Event::Disk`].
        boot: u64,
        /// The volume.
        volume: VolumeId,
        /// What was asked.
        ask: KeepAsk,
    },
    /// A handler program ends.
    Handler {
        /// Whose.
        host: HostId,
        /// See [`Event::Disk`].
        boot: u64,
        /// Number of the call.
        call: u64,
        /// Its exit code.
        exit: i32,
    },
}

/// Events to come.
#[derive(Debug, Default)]
pub struct Events {
    heap: BinaryHeap<Planned>,
    planned: u64,
}

#[derive(Debug)]
struct Planned {
    at: Moment,
    number: u64,
    event: Event,
}

impl Events {
    /// Plans an event.
    pub fn plan(&mut self, at: Moment, event: Event) {
        self.planned += 1;
        self.heap.push(Planned { at, number: self.planned, event });
    }

    /// The events to come, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.heap.iter().map(|planned| &planned.event)
    }

    /// When the next event happens.
    #[must_use]
    pub fn next_at(&self) -> Option<Moment> {
        self.heap.peek().map(|planned| planned.at)
    }

    /// The next event, if it is due.
    pub fn take_due(&mut self, now: Moment) -> Option<Event> {
        self.next_at().filter(|at| *at <= now)?;
        self.heap.pop().map(|planned| planned.event)
    }
}

impl Ord for Planned {
    /// The earliest is the greatest, as the heap gives out the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Planned {}
