//! What the core is told: the one entry of data and events.

use std::net::IpAddr;

use super::command::{Command, CommandId};
use super::keep::KeepAnswer;
use crate::buffer::Buf;
use crate::units::{Extent, VolumeId};
use crate::wire::packet::Packet;

/// Everything that can happen to a node. Feed each to [`super::Node::handle`].
#[derive(Debug)]
pub enum Input {
    /// A client's request, from the NBD front. Answered by [`super::Effect::Reply`] with the same id.
    Request {
        /// Chosen by the front; unique among the requests it has open.
        id: RequestId,
        /// The volume it addresses.
        volume: VolumeId,
        /// What to do.
        request: Request,
    },
    /// An administrator's command. Answered by [`super::Effect::CommandDone`] with the same id.
    Command {
        /// Chosen by the caller; unique among the open commands.
        id: CommandId,
        /// What to do.
        command: Command,
    },
    /// A disk operation of [`super::Effect::Disk`] ended. Reads carry the data.
    DiskDone {
        /// The operation's ticket.
        ticket: Ticket,
        /// The data of a read, nothing for the rest, or what went wrong.
        result: Result<Option<Buf>, DiskFault>,
    },
    /// The dial of [`super::Effect::Dial`] ended.
    Dialed(Result<SocketId, DialFault>),
    /// Somebody connected to the listening socket.
    Accepted {
        /// The new socket; reading from it has begun.
        socket: SocketId,
        /// Where from.
        from: IpAddr,
    },
    /// Listening failed (W5): the address is taken, or does not exist here.
    ListenFailed(String),
    /// A packet arrived, with its block data if it has some.
    Packet {
        /// The socket it came from.
        socket: SocketId,
        /// The volume its header names (0 for packets about the connection).
        volume: VolumeId,
        /// The decoded packet.
        packet: Packet,
        /// Block data that followed it.
        payload: Option<Buf>,
    },
    /// A socket ended: closed by the peer, an error, or bytes that are no packet.
    SocketEnded {
        /// The socket; it is already closed and its id will not be used again.
        socket: SocketId,
        /// Why.
        end: SocketEnd,
    },
    /// Bytes queued on this socket have not moved for the send timeout (D172).
    SendStalled(SocketId),
    /// All bytes queued on this socket so far were accepted by the network.
    SendQueueEmpty(SocketId),
    /// Nobody waits for the answers of these requests any more: those that have not begun are answered with
    /// [`super::ReplyError::Shutdown`] at once, the others end as they would have.
    Abandon(Vec<RequestId>),
    /// A handler started by [`super::Effect::Handler`] left with this exit code.
    HandlerDone {
        /// The number of the call.
        call: u64,
        /// Its exit code; 0 also where no handler is configured (S74).
        exit: i32,
    },
    /// The answer to [`super::Effect::Keep`].
    Kept {
        /// Whose data.
        volume: VolumeId,
        /// What the shell says.
        answer: KeepAnswer,
    },
    /// The deadline of [`super::Node::next_deadline`] may have passed.
    Timeout,
}

/// Names a client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a disk operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names a socket of the replication link. Given out by the shell, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// A client's request. Data requests are at most 1 MiB, trims and zeroes at most 128 MiB (D3, D4):
/// the front splits larger ones.
#[derive(Debug)]
pub enum Request {
    /// Read these sectors.
    Read {
        /// The sectors.
        extent: Extent,
    },
    /// Write these sectors.
    Write {
        /// The sectors.
        extent: Extent,
        /// Exactly their bytes.
        data: Buf,
        /// Answer only when both nodes have it on stable storage.
        fua: bool,
    },
    /// Answer when everything answered before is on stable storage on both nodes.
    Flush,
    /// The content of these sectors is no longer needed.
    Trim {
        /// The sectors.
        extent: Extent,
        /// As for writes.
        fua: bool,
    },
    /// Fill with zeroes.
    WriteZeroes {
        /// The sectors.
        extent: Extent,
        /// As for writes.
        fua: bool,
        /// Whether the space may be given back.
        may_trim: bool,
    },
}

/// Why a disk operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// The operating system's error number, e.g. 5 for EIO.
    Os(i32),
    /// The device cannot do this at all (discard, flush).
    Unsupported,
    /// Fewer bytes than asked: the file ends before the device should.
    Short,
    /// The disk was closed before the operation began.
    Gone,
}

/// Why a dial failed. All are tried again (W5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialFault {
    /// The operating system's error number.
    pub errno: i32,
}

/// Why a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketEnd {
    /// The peer closed it in good order.
    Closed,
    /// The operating system reported an error (its number).
    Error(i32),
    /// What arrived is no packet; the text says what was wrong.
    Malformed(crate::wire::WireError),
}
