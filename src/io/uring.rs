//! The real [`Io`]: one io_uring for disks and sockets.
//!
//! A turn costs one `io_uring_enter`, plus one `sendmsg` for each socket that has something to
//! send: sending never waits, and in line it needs neither a completion nor memory that outlives
//! the call. Disk operations and receives go through the ring; operations that would end up on a
//! kernel worker are done in line (memory-backed files) or on threads of our own (discards).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use io_uring::squeue::Entry;
use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};

use super::devices::Table;
use super::disk::OpenedDisk;
use super::net::{Kind, Net};
use super::slots::{Key, Slots};
use super::wake::Waker;
use super::workers::Workers;
use super::{Completion, DeviceKey, Devices, Io, Op, SocketKey, Token, Unsent, blocking, clock};
use crate::buffer::Buf;
use crate::node::input::DiskFault;
use crate::units::Moment;

/// The ring and all that it works on. Belongs to the thread that made it.
pub struct UringIo {
    /// Everything the kernel (or a worker) may still touch. Emptied before the ring goes.
    operations: Slots<Operation>,
    ring: IoUring,
    /// Entries for which the ring had no place.
    backlog: VecDeque<Entry>,
    net: Net,
    devices: Table,
    /// Operations to be done in line, after the sockets had their turn.
    inline: Vec<(Token, DeviceKey, Op)>,
    workers: Workers,
    waker: Waker,
    ready: Vec<Completion>,
    finished: Vec<(u64, i32)>,
    now: Moment,
    /// Something was queued that others wait for: start it even if the loop has more to do.
    urgent: bool,
    /// Turns since the kernel was last asked for completions.
    turns_without_enter: u32,
}

/// What is under way, with the memory it needs.
#[derive(Debug)]
enum Operation {
    Recv {
        socket: SocketKey,
        buf: Buf,
        from: usize,
    },
    Readiness {
        socket: SocketKey,
        of: Readiness,
    },
    Wake,
    Read {
        token: Token,
        device: DeviceKey,
        into: Buf,
        offset: u64,
        done: usize,
    },
    Write {
        token: Token,
        device: DeviceKey,
        data: Buf,
        offset: u64,
        done: usize,
        fua: bool,
    },
    Sync {
        token: Token,
        device: DeviceKey,
    },
    /// On a thread of ours, not in the ring. `true`: `memory` is that of a read.
    Worker {
        token: Token,
        device: DeviceKey,
        memory: (Option<Buf>, bool),
    },
}

/// What a socket is polled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Accept,
    Connect,
    Room,
}

impl UringIo {
    /// A ring for the calling thread, woken by `waker`.
    ///
    /// # Errors
    /// When the system forbids io_uring, or its kernel is too old (before 5.11).
    pub fn new(waker: Waker) -> io::Result<Self> {
        let ring = open_ring()?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let mut new = Self {
            operations: Slots::default(),
            ring,
            backlog: VecDeque::new(),
            net: Net::default(),
            devices: Table::default(),
            inline: Vec::new(),
            workers: Workers::new(WORKERS, waker.clone()),
            waker,
            ready: Vec::new(),
            finished: Vec::new(),
            now: clock(),
            urgent: false,
            turns_without_enter: 0,
        };
        new.watch_waker();
        Ok(new)
    }

    fn watch_waker(&mut self) {
        let key = self.operations.insert(Operation::Wake);
        let fd = Fd(self.waker.raw_fd());
        self.push(opcode::PollAdd::new(fd, libc::POLLIN as u32).build(), key);
    }

    fn watch_socket(&mut self, socket: SocketKey, of: Readiness) {
        let Some(entry) = self.net.live(socket) else { return };
        let events = match of {
            Readiness::Accept => libc::POLLIN,
            Readiness::Connect | Readiness::Room => libc::POLLOUT,
        };
        let key = self.operations.insert(Operation::Readiness { socket, of });
        entry.operations.push(key);
        let fd = Fd(entry.raw_fd());
        self.push(opcode::PollAdd::new(fd, events as u32).build(), key);
    }

    /// Hands an entry to the ring, or keeps it until there is room.
    fn push(&mut self, entry: Entry, key: Key) {
        self.backlog.push_back(entry.user_data(key.as_u64()));
        self.feed();
    }

    fn feed(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: whatever the entry points to is owned by `operations` under the key in its
            // user data, which is removed only when the completion has come; `drop` awaits all
            // completions. Descriptors in entries stay open as long: `net` and `devices` count the
            // operations that name them. Moving a `Buf` does not move its pages.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    fn start_read(&mut self, token: Token, device: DeviceKey, mut into: Buf, offset: u64, done: usize) {
        let Some(fd) = self.devices.raw_fd(device) else { return };
        let rest = &mut into.bytes_mut().expect("Io::submit asks for a single owner")[done..];
        let entry = opcode::Read::new(Fd(fd), rest.as_mut_ptr(), ring_len(rest.len()))
            .offset(offset + done as u64)
            .build();
        let key = self.operations.insert(Operation::Read { token, device, into, offset, done });
        self.push(entry, key);
    }

    fn start_write(
        &mut self,
        (token, device): (Token, DeviceKey),
        data: Buf,
        offset: u64,
        done: usize,
        fua: bool,
    ) {
        let Some(fd) = self.devices.raw_fd(device) else { return };
        let rest = &data.bytes()[done..];
        let entry = opcode::Write::new(Fd(fd), rest.as_ptr(), ring_len(rest.len()))
            .offset(offset + done as u64)
            .rw_flags(if fua { libc::RWF_DSYNC } else { 0 })
            .build();
        let key = self.operations.insert(Operation::Write { token, device, data, offset, done, fua });
        self.push(entry, key);
    }

    fn start_sync(&mut self, token: Token, device: DeviceKey) {
        let Some(fd) = self.devices.raw_fd(device) else { return };
        let key = self.operations.insert(Operation::Sync { token, device });
        self.push(opcode::Fsync::new(Fd(fd)).flags(FsyncFlags::DATASYNC).build(), key);
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

    /// Starts what was queued, and takes what ended; waits for it if `wait`.
    fn enter(&mut self, wait: bool, deadline: Option<Moment>) -> io::Result<()> {
        self.urgent = false;
        self.turns_without_enter = 0;
        loop {
            self.feed();
            let all_fed = self.backlog.is_empty();
            let submitter = self.ring.submitter();
            let answer = if !wait || !all_fed {
                submitter.submit()
            } else if let Some(deadline) = deadline {
                let span = deadline.since(clock());
                let timeout = Timespec::new().sec(span.as_secs()).nsec(span.subsec_nanos());
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            } else {
                submitter.submit_and_wait(1)
            };
            match answer.map_err(|error| (error.raw_os_error(), error)) {
                // A timeout, a signal, or completions to be taken before more can start.
                Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => {}
                Err((_, error)) => return Err(error),
            }
            self.reap();
            if all_fed {
                return Ok(());
            }
        }
    }

    fn reap(&mut self) {
        let mut finished = std::mem::take(&mut self.finished);
        finished.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result())));
        for (user_data, result) in finished.drain(..) {
            // Cancellations have no operation of their own.
            if let Some(operation) = self.operations.remove(Key::from_u64(user_data)) {
                let result = usize::try_from(result).map_err(|_| -result);
                self.finish(Key::from_u64(user_data), operation, result);
            }
        }
        self.finished = finished;
    }

    fn finish(&mut self, key: Key, operation: Operation, result: Result<usize, i32>) {
        match operation {
            Operation::Recv { socket, buf, from } => {
                if self.let_go(socket, key) {
                    match result {
                        Err(libc::EAGAIN | libc::EINTR) => self.recv(socket, buf, from),
                        Ok(_) | Err(_) => self.ready.push(Completion::Received { socket, buf, result }),
                    }
                }
            }
            Operation::Readiness { socket, of } => {
                if self.let_go(socket, key) {
                    self.became_ready(socket, of);
                }
            }
            Operation::Wake => {
                self.waker.clear();
                self.watch_waker();
                self.take_worker_results();
                self.ready.push(Completion::Woken);
            }
            Operation::Read { token, device, into, offset, done } => {
                self.read_ended(token, device, into, offset, done, result);
            }
            Operation::Write { token, device, data, offset, done, fua } => {
                let total = result.map(|count| done + count);
                match total {
                    Ok(total) if total == data.len() => self.end_disk(token, device, Ok(None)),
                    Ok(total) if total > done => self.start_write((token, device), data, offset, total, fua),
                    Ok(_) => self.end_disk(token, device, Err(DiskFault::Short)),
                    Err(libc::EAGAIN | libc::EINTR) => {
                        self.start_write((token, device), data, offset, done, fua);
                    }
                    Err(errno) => self.end_disk(token, device, Err(fault(errno))),
                }
            }
            Operation::Sync { token, device } => match result {
                Ok(_) => self.end_disk(token, device, Ok(None)),
                Err(libc::EAGAIN | libc::EINTR) => self.start_sync(token, device),
                Err(errno) => self.end_disk(token, device, Err(fault(errno))),
            },
            Operation::Worker { .. } => unreachable!("a worker's operation is not in the ring"),
        }
    }

    fn read_ended(
        &mut self,
        token: Token,
        device: DeviceKey,
        into: Buf,
        offset: u64,
        done: usize,
        result: Result<usize, i32>,
    ) {
        match result.map(|count| done + count) {
            Ok(total) if total == into.len() => self.end_disk(token, device, Ok(Some(into))),
            Ok(total) if total > done => self.start_read(token, device, into, offset, total),
            Ok(_) => self.end_disk(token, device, Err(DiskFault::Short)),
            Err(libc::EAGAIN | libc::EINTR) => self.start_read(token, device, into, offset, done),
            Err(errno) => self.end_disk(token, device, Err(fault(errno))),
        }
    }

    /// An operation no longer names `socket`. Whether its user still has the socket.
    fn let_go(&mut self, socket: SocketKey, key: Key) -> bool {
        let Some(entry) = self.net.any(socket) else { return false };
        entry.operations.retain(|other| *other != key);
        let live = !entry.closing;
        self.net.release(socket);
        live
    }

    fn became_ready(&mut self, socket: SocketKey, of: Readiness) {
        match of {
            Readiness::Accept => {
                self.net.accept(socket, &mut self.ready);
                self.watch_socket(socket, Readiness::Accept);
            }
            Readiness::Connect => self.net.dialed(socket, &mut self.ready),
            Readiness::Room => self.net.unblock(socket),
        }
    }

    fn take_worker_results(&mut self) {
        for (key, result) in self.workers.done() {
            let Some(Operation::Worker { token, device, memory }) = self.operations.remove(key) else {
                continue;
            };
            let (buf, is_read) = memory;
            self.end_disk(token, device, result.map(|()| buf.filter(|_| is_read)));
        }
    }

    /// Asks the kernel to give up operations on sockets: their completions follow soon.
    fn cancel(&mut self, operations: Vec<Key>) {
        for key in operations {
            let entry = opcode::AsyncCancel::new(key.as_u64()).build();
            self.push(entry, NO_OPERATION);
            self.urgent = true;
        }
    }

    fn in_ring(&self) -> bool {
        self.operations.iter().any(|(_, operation)| !matches!(operation, Operation::Worker { .. }))
    }
}

impl Io for UringIo {
    type Socket = OwnedFd;
    type Disk = OpenedDisk;

    fn now(&self) -> Moment {
        self.now
    }

    fn listen(&mut self, local: SocketAddr) -> Result<SocketKey, i32> {
        let socket = self.net.listen(local)?;
        self.watch_socket(socket, Readiness::Accept);
        Ok(socket)
    }

    fn dial(&mut self, local: IpAddr, remote: SocketAddr) -> Result<SocketKey, i32> {
        let socket = self.net.dial(local, remote)?;
        self.watch_socket(socket, Readiness::Connect);
        Ok(socket)
    }

    fn adopt(&mut self, socket: OwnedFd) -> Result<SocketKey, i32> {
        self.net.adopt(socket)
    }

    fn recv(&mut self, socket: SocketKey, mut buf: Buf, from: usize) {
        let Some(entry) = self.net.live(socket).filter(|entry| entry.kind == Kind::Stream) else { return };
        let room = &mut buf.bytes_mut().expect("Io::recv asks for a single owner")[from..];
        let (start, len) = (room.as_mut_ptr(), ring_len(room.len()));
        let key = self.operations.insert(Operation::Recv { socket, buf, from });
        entry.operations.push(key);
        let fd = Fd(entry.raw_fd());
        self.push(opcode::Recv::new(fd, start, len).build(), key);
    }

    fn send(&mut self, socket: SocketKey, bytes: &[u8], payload: Option<Buf>) {
        self.net.send(socket, bytes, payload);
    }

    fn unsent(&self, socket: SocketKey) -> Unsent {
        self.net.unsent(socket)
    }

    fn close(&mut self, socket: SocketKey) {
        let operations = self.net.close(socket);
        self.cancel(operations);
    }

    fn attach(&mut self, disk: OpenedDisk) -> Devices {
        self.devices.attach(disk)
    }

    fn submit(&mut self, token: Token, device: DeviceKey, op: Op) {
        let Some(opened) = self.devices.begin(device) else {
            self.ready.push(Completion::Disk { token, result: Err(DiskFault::Gone) });
            return;
        };
        match op {
            Op::Discard { .. } | Op::Zero { .. } => {
                let memory = (None, false);
                let key = self.operations.insert(Operation::Worker { token, device, memory });
                // SAFETY: these two have no memory.
                unsafe { self.workers.start(key, opened, op) };
            }
            op if opened.inline => self.inline.push((token, device, op)),
            Op::Read { offset, into } => self.start_read(token, device, into, offset, 0),
            Op::Write { offset, data, fua } => self.start_write((token, device), data, offset, 0, fua),
            Op::Sync => self.start_sync(token, device),
        }
        self.urgent = true;
    }

    fn detach(&mut self, devices: Devices) {
        self.devices.detach(devices);
    }

    fn wait(&mut self, deadline: Option<Moment>, completions: &mut Vec<Completion>) -> io::Result<()> {
        for full in self.net.flush(&mut self.ready) {
            self.watch_socket(full, Readiness::Room);
        }
        self.run_inline();
        let idle = self.ready.is_empty();
        self.turns_without_enter += 1;
        if idle || self.urgent || self.turns_without_enter >= MAX_TURNS_WITHOUT_ENTER {
            self.enter(idle, deadline)?;
        }
        completions.append(&mut self.ready);
        self.now = clock();
        Ok(())
    }
}

impl Drop for UringIo {
    fn drop(&mut self) {
        for socket in self.net.keys() {
            self.close(socket);
        }
        let waits: Vec<Key> = self
            .operations
            .iter()
            .filter(|(_, operation)| matches!(operation, Operation::Wake))
            .map(|(key, _)| key)
            .collect();
        self.cancel(waits);
        self.workers.finish();
        while self.in_ring() {
            self.inline.clear();
            if self.drain().is_err() {
                // The kernel may still use the memory: rather lose it than have it used again.
                std::mem::forget(std::mem::take(&mut self.operations));
            }
        }
    }
}

impl UringIo {
    /// Waits for completions and drops them, for the end.
    fn drain(&mut self) -> io::Result<()> {
        self.feed();
        match self.ring.submit_and_wait(1) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {
                return Err(error);
            }
            Ok(_) | Err(_) => {}
        }
        let finished: Vec<u64> = self.ring.completion().map(|entry| entry.user_data()).collect();
        for user_data in finished {
            self.operations.remove(Key::from_u64(user_data));
        }
        Ok(())
    }
}

/// The fastest kind of ring that this kernel has.
fn open_ring() -> io::Result<IoUring> {
    let newest = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(2 * RING_ENTRIES)
        .dontfork()
        .build(RING_ENTRIES);
    newest
        .or_else(|_| IoUring::builder().setup_coop_taskrun().setup_taskrun_flag().build(RING_ENTRIES))
        .or_else(|_| IoUring::new(RING_ENTRIES))
}

/// The ring counts bytes in 32 bits; what does not fit is a rest to be continued.
fn ring_len(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(1 << 30)
}

fn fault(errno: i32) -> DiskFault {
    blocking::fault(rustix::io::Errno::from_raw_os_error(errno))
}

/// Entries of the submission queue.
const RING_ENTRIES: u32 = 1024;
/// Threads for discards and zeroing.
const WORKERS: usize = 2;
/// However busy the loop is in line, the kernel is asked at least this often.
const MAX_TURNS_WITHOUT_ENTER: u32 = 4;
/// User data of entries whose completion nobody awaits.
const NO_OPERATION: Key = Key::from_u64(u64::MAX);
