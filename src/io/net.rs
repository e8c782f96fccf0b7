//! Sockets as both real implementations see them: made, queued on, flushed and closed. What waits
//! for readiness is theirs.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::net::Shutdown;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::outbox::{Outbox, Sent};
use super::slots::{Key, Slots};
use super::{Completion, SocketKey, Unsent};
use crate::buffer::Buf;

/// All sockets of one loop.
#[derive(Debug, Default)]
pub(super) struct Net {
    sockets: Slots<Socket>,
    /// Those with something new to send.
    dirty: Vec<SocketKey>,
}

/// One socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    pub(super) kind: Kind,
    outbox: Outbox,
    /// Waits until the network takes more; nothing is sent before that.
    pub(super) blocked: bool,
    /// Sending failed; only closing is left.
    broken: bool,
    dirty: bool,
    /// Closed by its user; exists only until the kernel lets go of it.
    pub(super) closing: bool,
    /// Operations that name its descriptor: it must stay open until they are done.
    pub(super) operations: Vec<Key>,
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Listener,
    Dialing,
    Stream,
}

impl Net {
    pub(super) fn listen(&mut self, local: SocketAddr) -> Result<SocketKey, i32> {
        let socket = tcp(local).map_err(|error| number(&error))?;
        let listen = || {
            socket.set_reuse_address(true)?;
            socket.bind(&local.into())?;
            socket.listen(BACKLOG)
        };
        listen().map_err(|error| number(&error))?;
        Ok(self.add(socket.into(), Kind::Listener))
    }

    pub(super) fn dial(&mut self, local: IpAddr, remote: SocketAddr) -> Result<SocketKey, i32> {
        let socket = tcp(remote).map_err(|error| number(&error))?;
        let connect = || {
            socket.set_tcp_nodelay(true)?;
            socket.bind(&SocketAddr::new(local, 0).into())?;
            match socket.connect(&remote.into()) {
                Err(error)
                    if error.kind() != ErrorKind::WouldBlock
                        && error.raw_os_error() != Some(libc::EINPROGRESS) =>
                {
                    Err(error)
                }
                Ok(()) | Err(_) => Ok(()),
            }
        };
        connect().map_err(|error| number(&error))?;
        Ok(self.add(socket.into(), Kind::Dialing))
    }

    pub(super) fn adopt(&mut self, fd: OwnedFd) -> Result<SocketKey, i32> {
        let socket = RawSocket::from(fd);
        // Readiness is ours to await: a descriptor that refuses to wait would fail in the ring.
        socket.set_nonblocking(false).map_err(|error| number(&error))?;
        // Fails on a unix socket, where there is nothing to delay.
        let _ = socket.set_tcp_nodelay(true);
        Ok(self.add(socket.into(), Kind::Stream))
    }

    fn add(&mut self, fd: OwnedFd, kind: Kind) -> SocketKey {
        SocketKey(self.sockets.insert(Socket {
            fd,
            kind,
            outbox: Outbox::default(),
            blocked: kind == Kind::Dialing,
            broken: false,
            dirty: false,
            closing: false,
            operations: Vec::new(),
        }))
    }

    /// A socket that its user has not closed.
    pub(super) fn live(&mut self, socket: SocketKey) -> Option<&mut Socket> {
        self.sockets.get_mut(socket.0).filter(|socket| !socket.closing)
    }

    /// A socket that exists, perhaps only until its operations are done.
    pub(super) fn any(&mut self, socket: SocketKey) -> Option<&mut Socket> {
        self.sockets.get_mut(socket.0)
    }

    /// A socket that its user has not closed.
    pub(super) fn get(&self, socket: SocketKey) -> Option<&Socket> {
        self.sockets.get(socket.0).filter(|socket| !socket.closing)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketKey, &Socket)> {
        self.sockets.iter().map(|(key, socket)| (SocketKey(key), socket))
    }

    pub(super) fn keys(&self) -> Vec<SocketKey> {
        self.sockets.keys().into_iter().map(SocketKey).collect()
    }

    pub(super) fn unsent(&self, socket: SocketKey) -> Unsent {
        self.sockets.get(socket.0).map(|socket| socket.outbox.unsent()).unwrap_or_default()
    }

    pub(super) fn send(&mut self, key: SocketKey, bytes: &[u8], payload: Option<Buf>) {
        let Some(socket) = self.sockets.get_mut(key.0).filter(|socket| !socket.closing) else { return };
        socket.outbox.push(bytes, payload);
        if !socket.dirty {
            socket.dirty = true;
            self.dirty.push(key);
        }
    }

    /// The network may take more on this socket.
    pub(super) fn unblock(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key.0) else { return };
        socket.blocked = false;
        if !socket.dirty && socket.outbox.unsent().bytes > 0 {
            socket.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Sends what was queued, as far as the network takes it. Returns the sockets that wait for
    /// more room from now on.
    pub(super) fn flush(&mut self, ready: &mut Vec<Completion>) -> Vec<SocketKey> {
        let mut full = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            let Some(socket) = self.sockets.get_mut(key.0) else { continue };
            socket.dirty = false;
            if socket.blocked || socket.broken || socket.closing {
                continue;
            }
            match socket.outbox.flush(&socket.fd) {
                Sent::All => ready.push(Completion::Drained { socket: key }),
                Sent::Blocked => {
                    socket.blocked = true;
                    full.push(key);
                }
                Sent::Failed(errno) => {
                    socket.broken = true;
                    ready.push(Completion::SendFailed { socket: key, errno });
                }
            }
        }
        full
    }

    /// Ends a socket for its user. Returns the operations that still name it: once they are
    /// done, [`Net::release`] closes the descriptor.
    pub(super) fn close(&mut self, key: SocketKey) -> Vec<Key> {
        let Some(socket) = self.sockets.get_mut(key.0).filter(|socket| !socket.closing) else {
            return Vec::new();
        };
        if socket.kind == Kind::Stream && !socket.blocked && !socket.broken {
            socket.outbox.flush(&socket.fd);
        }
        socket.outbox = Outbox::default();
        // Wakes whatever waits on it. Fails if the connection is gone, which is as good.
        let _ = rustix::net::shutdown(&socket.fd, Shutdown::Both);
        socket.closing = true;
        let operations = socket.operations.clone();
        self.release(key);
        operations
    }

    /// Closes the descriptor of a closed socket that no operation names any more.
    pub(super) fn release(&mut self, key: SocketKey) {
        let done = |socket: &Socket| socket.closing && socket.operations.is_empty();
        if self.sockets.get(key.0).is_some_and(done) {
            self.sockets.remove(key.0);
        }
    }

    /// Takes all connections that wait at a listener.
    pub(super) fn accept(&mut self, listener: SocketKey, ready: &mut Vec<Completion>) {
        loop {
            let Some(socket) = self.live(listener) else { return };
            // Until the queue is empty: another error is of the connection that failed, except
            // for a lack of descriptors, where trying again at once would only spin.
            let Ok(fd) = rustix::net::accept_with(&socket.fd, rustix::net::SocketFlags::CLOEXEC) else {
                return;
            };
            let from = RawSocket::from(fd);
            let Some(address) = from.peer_addr().ok().and_then(|address| address.as_socket()) else {
                continue;
            };
            if let Ok(socket) = self.adopt(from.into()) {
                ready.push(Completion::Accepted { listener, socket, from: address.ip() });
            }
        }
    }

    /// A dialing socket became ready: connected, or failed.
    pub(super) fn dialed(&mut self, key: SocketKey, ready: &mut Vec<Completion>) {
        let Some(socket) = self.live(key) else { return };
        let verdict = rustix::net::sockopt::socket_error(&socket.fd)
            .and_then(|pending| pending)
            .and_then(|()| rustix::fs::fcntl_getfl(&socket.fd))
            .and_then(|flags| rustix::fs::fcntl_setfl(&socket.fd, flags - rustix::fs::OFlags::NONBLOCK));
        let result = verdict.map_err(rustix::io::Errno::raw_os_error);
        match result {
            Ok(()) => {
                socket.kind = Kind::Stream;
                self.unblock(key);
            }
            Err(_) => drop(self.close(key)),
        }
        ready.push(Completion::Dialed { socket: key, result });
    }
}

impl Socket {
    /// Whether it has more to send than the network took.
    pub(super) fn awaits_room(&self) -> bool {
        self.blocked && !self.broken && !self.closing
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }
}

/// A TCP socket of the address's family, not waiting: for connecting and for listening.
fn tcp(address: SocketAddr) -> std::io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn number(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;
