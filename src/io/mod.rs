//! The ring: disks, sockets and time for one thread, by completion.
//!
//! [`Io`] is all that a resource's loop knows of the outside. Work is only queued by its methods;
//! [`Io::wait`] starts what was queued, waits, and hands out what ended. Whatever an operation
//! needs (memory, descriptors) belongs to the `Io` until its completion, so that nothing the
//! kernel still uses can be freed: dropping an `Io` first waits for what is under way.
//!
//! - [`uring`]: the real one, on io_uring
//! - [`portable`]: the real one where io_uring is forbidden, on poll and a few threads
//! - `sim`: the false world (a module of its own)
//! - [`disk`]: opening and measuring devices, before a loop has them
//! - [`pool`]: bounded memory for payloads
//!
//! This is the only folder with `unsafe`; each block says why it is sound.
#![allow(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use crate::buffer::Buf;
use crate::node::input::DiskFault;
use crate::units::Moment;

mod blocking;
mod devices;
pub mod disk;
mod net;
mod outbox;
pub mod pool;
pub mod portable;
pub mod slots;
pub mod uring;
pub mod wake;
mod workers;

#[cfg(test)]
mod tests;

use slots::Key;

/// Disks, sockets and time, for one thread.
///
/// Contract: an operation's memory comes back with its completion. A socket has at most one
/// receive under way. After [`Io::close`] nothing more is heard of a socket, after [`Io::detach`]
/// a disk's operations still complete.
pub trait Io {
    /// A connected socket as it comes from outside.
    type Socket;
    /// An open disk (data and metadata device) as it comes from outside.
    type Disk;

    /// The moment at which the last [`Io::wait`] returned: one clock for a whole turn of the loop.
    fn now(&self) -> Moment;

    /// Listens for connections, each reported by [`Completion::Accepted`], until closed.
    ///
    /// # Errors
    /// The operating system's error number: the address is taken, or does not exist here.
    fn listen(&mut self, local: SocketAddr) -> Result<SocketKey, i32>;

    /// Begins to connect from an ephemeral port of `local` to `remote`. Ends with
    /// [`Completion::Dialed`]; close the socket to give up.
    ///
    /// # Errors
    /// The operating system's error number, if it fails at once.
    fn dial(&mut self, local: IpAddr, remote: SocketAddr) -> Result<SocketKey, i32>;

    /// Takes over a connected socket.
    ///
    /// # Errors
    /// The operating system's error number; the socket is closed then.
    fn adopt(&mut self, socket: Self::Socket) -> Result<SocketKey, i32>;

    /// Receives at least one byte into `buf`, from its byte `from` on, up to its end. Ends with
    /// [`Completion::Received`]. The buffer must have a single owner.
    fn recv(&mut self, socket: SocketKey, buf: Buf, from: usize);

    /// Queues bytes, and a payload behind them. They go out with the next [`Io::wait`], or as soon
    /// as the network takes them; the queue is not bounded here.
    fn send(&mut self, socket: SocketKey, bytes: &[u8], payload: Option<Buf>);

    /// What waits to be sent.
    fn unsent(&self, socket: SocketKey) -> Unsent;

    /// Closes a socket of any kind. What is queued is given to the network as far as it takes it
    /// at once.
    fn close(&mut self, socket: SocketKey);

    /// Takes over an open disk.
    fn attach(&mut self, disk: Self::Disk) -> Devices;

    /// Starts an operation; ends with [`Completion::Disk`] and the same token. Operations run
    /// concurrently and in any order.
    fn submit(&mut self, token: Token, device: DeviceKey, op: Op);

    /// Closes a disk once nothing is under way on it.
    fn detach(&mut self, devices: Devices);

    /// Starts what was queued, and waits until something ended or `deadline` came. What ended is
    /// appended to `completions`: possibly nothing.
    ///
    /// # Errors
    /// When the system refuses to go on at all: the loop cannot continue.
    fn wait(&mut self, deadline: Option<Moment>, completions: &mut Vec<Completion>) -> std::io::Result<()>;
}

/// Names a socket, listening or connected. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketKey(pub Key);

/// Names an open device. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey(pub Key);

/// The devices of one disk; the same one twice if the metadata is internal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Devices {
    /// The device with the data.
    pub data: DeviceKey,
    /// The device with the metadata.
    pub meta: DeviceKey,
}

/// Names a disk operation; chosen by the caller, unique among those under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A disk operation. Offsets and lengths are in bytes, multiples of the logical block.
#[derive(Debug)]
pub enum Op {
    /// Fill `into`, which has a single owner.
    Read {
        /// From here.
        offset: u64,
        /// All of it.
        into: Buf,
    },
    /// Write these bytes.
    Write {
        /// To here.
        offset: u64,
        /// All of them.
        data: Buf,
        /// Complete only when they are on stable storage.
        fua: bool,
    },
    /// Complete when all writes completed before this began are on stable storage.
    Sync,
    /// Give back this space; it may read as anything afterwards.
    Discard {
        /// From here.
        offset: u64,
        /// So many bytes.
        len: u64,
    },
    /// Make this space read as zeroes.
    Zero {
        /// From here.
        offset: u64,
        /// So many bytes.
        len: u64,
        /// Whether the space may be given back.
        unmap: bool,
    },
}

/// Something that ended.
#[derive(Debug)]
pub enum Completion {
    /// A receive: how many bytes came, 0 at the end of the stream, or the error number.
    Received {
        /// The socket.
        socket: SocketKey,
        /// The memory of [`Io::recv`].
        buf: Buf,
        /// Bytes received.
        result: Result<usize, i32>,
    },
    /// Somebody connected.
    Accepted {
        /// The socket that listened.
        listener: SocketKey,
        /// The new one.
        socket: SocketKey,
        /// Where from.
        from: IpAddr,
    },
    /// A dial ended; after an error the socket is closed already.
    Dialed {
        /// The socket of [`Io::dial`].
        socket: SocketKey,
        /// Nothing, or the error number.
        result: Result<(), i32>,
    },
    /// All that was queued on this socket went to the network.
    Drained {
        /// The socket.
        socket: SocketKey,
    },
    /// Sending failed for good, with this error number.
    SendFailed {
        /// The socket; still to be closed.
        socket: SocketKey,
        /// The error number.
        errno: i32,
    },
    /// A disk operation ended.
    Disk {
        /// The caller's name for it.
        token: Token,
        /// The data of a read, nothing for the rest, or what went wrong.
        result: Result<Option<Buf>, DiskFault>,
    },
    /// Another thread wants attention.
    Woken,
}

/// What waits in a socket's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// Bytes that the network has not taken yet.
    pub bytes: usize,
    /// Bytes that it has taken since the socket exists: unchanged means no progress.
    pub moved: u64,
}

/// Which of the real implementations to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// io_uring, or the portable one where the system forbids it.
    #[default]
    Auto,
    /// io_uring only.
    Uring,
    /// The portable one only.
    Portable,
}

impl Backend {
    /// The choice named by the environment variable `URBD_IO` (`uring`, `portable`), else
    /// [`Backend::Auto`].
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var("URBD_IO").as_deref() {
            Ok("uring") => Self::Uring,
            Ok("portable") => Self::Portable,
            Ok(_) | Err(_) => Self::Auto,
        }
    }
}

/// This moment on the monotonic clock.
fn clock() -> Moment {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Monotonic time counts from the start of the machine: neither part is negative.
    Moment::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}
