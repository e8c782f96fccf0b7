//! What the core wants done: the one exit.

use std::net::SocketAddr;
use std::time::Duration;

use super::command::{CommandId, Outcome};
use super::input::{RequestId, SocketId, Ticket};
use super::keep::KeepAsk;
use crate::buffer::Buf;
use crate::units::VolumeId;
use crate::wire::codec::Dialect;
use crate::wire::packet::Packet;

/// Everything a node can ask of the shell. Carried out in the order given.
#[derive(Debug)]
pub enum Effect {
    /// Answer a client.
    Reply {
        /// The request.
        id: RequestId,
        /// The data of a read, nothing for the rest, or the error.
        result: Result<Option<Buf>, ReplyError>,
    },
    /// Start a disk operation; it is answered by `Input::DiskDone`. Operations run concurrently and
    /// in any order: what must come first, the core awaits first.
    Disk {
        /// Chosen by the core; unique among the operations under way.
        ticket: Ticket,
        /// Whose disk.
        volume: VolumeId,
        /// Which of its two devices.
        device: Device,
        /// What to do.
        op: DiskOp,
    },
    /// The volume's disk is no longer used: close it once nothing is under way on it.
    CloseDisk {
        /// Whose disk.
        volume: VolumeId,
    },
    /// Send a packet, behind all that was queued on this socket before.
    Send {
        /// Where.
        socket: SocketId,
        /// The volume for the header.
        volume: VolumeId,
        /// The packet.
        packet: Packet,
        /// Block data that follows it.
        payload: Option<Buf>,
    },
    /// From here on the socket speaks this dialect, in both directions: it applies to what is
    /// queued after this effect and to bytes not decoded yet.
    Speak {
        /// The socket.
        socket: SocketId,
        /// The new dialect.
        dialect: Dialect,
    },
    /// Stop (`hold`) or go on decoding what arrives on this socket. Takes effect before the next
    /// packet: bytes already received stay undecoded meanwhile. That is how the core makes the peer
    /// wait while it writes something that must be durable first.
    Hold {
        /// The socket.
        socket: SocketId,
        /// Whether to stop.
        hold: bool,
    },
    /// Report `Input::SendStalled` whenever bytes queued on this socket have not moved for so long
    /// (D172). Without this effect a socket is not watched.
    SendTimeout {
        /// The socket.
        socket: SocketId,
        /// How long.
        timeout: Duration,
    },
    /// Listen here, until [`Effect::Unlisten`].
    Listen {
        /// The node's own address.
        local: SocketAddr,
    },
    /// Stop listening.
    Unlisten,
    /// Connect from an ephemeral port of `local`'s address to `remote`; one dial at a time.
    Dial {
        /// The node's own address; its port is not used (W4).
        local: SocketAddr,
        /// The peer's address.
        remote: SocketAddr,
        /// When to give up.
        timeout: Duration,
    },
    /// Give up the dial under way; no `Input::Dialed` follows.
    AbortDial,
    /// Close a socket; no input from it follows. Bytes already queued are still given to the
    /// network, as far as it takes them at once.
    CloseSocket(SocketId),
    /// A command ended.
    CommandDone {
        /// The command.
        id: CommandId,
        /// What came of it.
        outcome: Outcome,
    },
    /// Run a handler; answered by `Input::HandlerDone`.
    Handler {
        /// The number of the call.
        call: u64,
        /// The handler's name, e.g. `before-resync-target`.
        name: &'static str,
        /// The volume it is about; `None` for the resource.
        volume: Option<VolumeId>,
    },
    /// Keep what is about to be overwritten; answered by `Input::Kept`, once for each.
    Keep {
        /// Whose data.
        volume: VolumeId,
        /// What is asked.
        ask: KeepAsk,
    },
    /// Something an operator reads: state changes and decisions, in words.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// The volume it is about; `None` for the resource.
        volume: Option<VolumeId>,
        /// The text.
        text: String,
    },
    /// The status changed: those who watch want a new snapshot.
    StatusChanged,
}

/// Which of a volume's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The one with the data.
    Data,
    /// The one with the metadata; the same device when the metadata is internal.
    Meta,
}

/// An operation on a device. Offsets and lengths are in bytes, multiples of 512.
#[derive(Debug)]
pub enum DiskOp {
    /// Read `len` bytes.
    Read {
        /// From here.
        offset: u64,
        /// So many.
        len: usize,
    },
    /// Write these bytes.
    Write {
        /// To here.
        offset: u64,
        /// The bytes.
        data: Buf,
        /// Complete only when they are on stable storage.
        fua: bool,
    },
    /// Complete when all writes completed before this began are on stable storage.
    Flush,
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

/// Why a client's request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// Neither copy could do it.
    Io,
    /// The volume is no longer open for clients here.
    Shutdown,
    /// The request lies outside the device.
    OutOfRange,
    /// Out of space below.
    NoSpace,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What was asked did not happen, or data is at risk.
    Error,
    /// Abnormal, but handled.
    Warn,
    /// A change an operator acts on.
    Info,
    /// Detail.
    Debug,
}
