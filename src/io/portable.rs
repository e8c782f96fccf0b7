//! The real [`Io`] where io_uring is forbidden: `poll` for sockets, threads for disks.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::net::RecvFlags;
use rustix::time::Timespec;

use super::devices::Table;
use super::disk::OpenedDisk;
use super::net::{Kind, Net};
use super::slots::Slots;
use super::wake::Waker;
use super::workers::Workers;
use super::{Completion, DeviceKey, Devices, Io, Op, SocketKey, Token, Unsent, clock};
use crate::buffer::Buf;
use crate::node::input::DiskFault;
use crate::units::Moment;

/// Sockets by `poll`, disks by threads.
pub struct PortableIo {
    workers: Workers,
    /// Operations on worker threads, with their memory.
    operations: Slots<Operation>,
    net: Net,
    receives: Vec<Receive>,
    devices: Table,
    inline: Vec<(Token, DeviceKey, Op)>,
    waker: Waker,
    ready: Vec<Completion>,
    now: Moment,
}

struct Operation {
    token: Token,
    device: DeviceKey,
    /// The buffer, and whether it is that of a read.
    memory: (Option<Buf>, bool),
}

/// A receive that waits for bytes.
struct Receive {
    socket: SocketKey,
    buf: Buf,
    from: usize,
}

/// What a polled descriptor stands for.
#[derive(Clone, Copy)]
enum Watched {
    Waker,
    Receive(SocketKey),
    Socket(SocketKey),
}

impl PortableIo {
    /// An implementation for the calling thread, woken by `waker`.
    #[must_use]
    pub fn new(waker: Waker) -> Self {
        Self {
            workers: Workers::new(WORKERS, waker.clone()),
            operations: Slots::default(),
            net: Net::default(),
            receives: Vec::new(),
            devices: Table::default(),
            inline: Vec::new(),
            waker,
            ready: Vec::new(),
            now: clock(),
        }
    }

    fn run_inline(&mut self) {
        let mut operations = std::mem::take(&mut self.inline);
        for (token, device, op) in operations.drain(..) {
            let result = self.devices.perform(device, op);
            self.end_disk(token, device, result);
        }
        self.inline = operations;
    }

    fn end_disk(&mut self, token: Token, device: DeviceKey, result: Result<Option<Buf>, DiskFault>) {
        self.devices.end(device);
        self.ready.push(Completion::Disk { token, result });
    }

    /// Waits for readiness, and returns what became ready.
    fn poll(&self, timeout: Option<Timespec>) -> io::Result<Vec<Watched>> {
        let mut watched = vec![Watched::Waker];
        let mut fds = vec![PollFd::new(&self.waker, PollFlags::IN)];
        for receive in &self.receives {
            if let Some(socket) = self.net.get(receive.socket) {
                watched.push(Watched::Receive(receive.socket));
                fds.push(PollFd::new(&socket.fd, PollFlags::IN));
            }
        }
        for (key, socket) in self.net.iter() {
            let flags = match socket.kind {
                Kind::Listener => PollFlags::IN,
                Kind::Dialing => PollFlags::OUT,
                Kind::Stream if socket.awaits_room() => PollFlags::OUT,
                Kind::Stream => continue,
            };
            watched.push(Watched::Socket(key));
            fds.push(PollFd::new(&socket.fd, flags));
        }
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = watched.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|(what, _)| what).collect())
    }

    fn became_ready(&mut self, what: Watched) {
        match what {
            Watched::Waker => {
                self.waker.clear();
                for (key, result) in self.workers.done() {
                    if let Some(Operation { token, device, memory: (buf, is_read) }) =
                        self.operations.remove(key)
                    {
                        self.end_disk(token, device, result.map(|()| buf.filter(|_| is_read)));
                    }
                }
                self.ready.push(Completion::Woken);
            }
            Watched::Receive(socket) => {
                if let Some(at) = self.receives.iter().position(|receive| receive.socket == socket) {
                    let receive = self.receives.swap_remove(at);
                    self.receive(receive);
                }
            }
            Watched::Socket(socket) => match self.net.get(socket).map(|socket| socket.kind) {
                Some(Kind::Listener) => self.net.accept(socket, &mut self.ready),
                Some(Kind::Dialing) => self.net.dialed(socket, &mut self.ready),
                Some(Kind::Stream) => self.net.unblock(socket),
                None => {}
            },
        }
    }

    fn receive(&mut self, receive: Receive) {
        let Receive { socket, mut buf, from } = receive;
        let Some(entry) = self.net.get(socket) else { return };
        let room = &mut buf.bytes_mut().expect("Io::recv asks for a single owner")[from..];
        let result = match rustix::net::recv(&entry.fd, room, RecvFlags::DONTWAIT) {
            Ok((count, _)) => Ok(count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                self.receives.push(Receive { socket, buf, from });
                return;
            }
            Err(error) => Err(error.raw_os_error()),
        };
        self.ready.push(Completion::Received { socket, buf, result });
    }
}

impl Io for PortableIo {
    type Socket = OwnedFd;
    type Disk = OpenedDisk;

    fn now(&self) -> Moment {
        self.now
    }

    fn listen(&mut self, local: SocketAddr) -> Result<SocketKey, i32> {
        self.net.listen(local)
    }

    fn dial(&mut self, local: IpAddr, remote: SocketAddr) -> Result<SocketKey, i32> {
        self.net.dial(local, remote)
    }

    fn adopt(&mut self, socket: OwnedFd) -> Result<SocketKey, i32> {
        self.net.adopt(socket)
    }

    fn recv(&mut self, socket: SocketKey, buf: Buf, from: usize) {
        self.receives.push(Receive { socket, buf, from });
    }

    fn send(&mut self, socket: SocketKey, bytes: &[u8], payload: Option<Buf>) {
        self.net.send(socket, bytes, payload);
    }

    fn unsent(&self, socket: SocketKey) -> Unsent {
        self.net.unsent(socket)
    }

    fn close(&mut self, socket: SocketKey) {
        self.receives.retain(|receive| receive.socket != socket);
        // Nothing here names a descriptor in the kernel: there are no operations to cancel.
        self.net.close(socket);
    }

    fn attach(&mut self, disk: OpenedDisk) -> Devices {
        self.devices.attach(disk)
    }

    fn submit(&mut self, token: Token, device: DeviceKey, op: Op) {
        let Some(opened) = self.devices.begin(device) else {
            self.ready.push(Completion::Disk { token, result: Err(DiskFault::Gone) });
            return;
        };
        if opened.inline && matches!(op, Op::Read { .. } | Op::Write { .. } | Op::Sync) {
            self.inline.push((token, device, op));
            return;
        }
        let key = self.operations.insert(Operation { token, device, memory: (None, false) });
        // SAFETY: the memory goes into `operations` under `key`, untouched until `done` has
        // returned the key; `drop` lets the workers finish before `operations` goes.
        let memory = unsafe { self.workers.start(key, opened, op) };
        if let Some(operation) = self.operations.get_mut(key) {
            operation.memory = memory;
        }
    }

    fn detach(&mut self, devices: Devices) {
        self.devices.detach(devices);
    }

    fn wait(&mut self, deadline: Option<Moment>, completions: &mut Vec<Completion>) -> io::Result<()> {
        // Those that wait for room are found by `poll` itself.
        self.net.flush(&mut self.ready);
        self.run_inline();
        let timeout = if self.ready.is_empty() {
            deadline.map(|deadline| {
                let span = deadline.since(clock());
                Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: span.subsec_nanos().into() }
            })
        } else {
            Some(Timespec::default())
        };
        for what in self.poll(timeout)? {
            self.became_ready(what);
        }
        completions.append(&mut self.ready);
        self.now = clock();
        Ok(())
    }
}

impl Drop for PortableIo {
    fn drop(&mut self) {
        self.workers.finish();
    }
}

/// Threads for disk operations.
const WORKERS: usize = 8;
