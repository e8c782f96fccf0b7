//! A few threads for disk operations that would make the loop wait.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::Op;
use super::blocking;
use super::disk::{DeviceKind, OpenedDevice};
use super::slots::Key;
use super::wake::Waker;
use crate::buffer::Buf;
use crate::node::input::DiskFault;

/// The threads, started when first needed.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    limit: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    waker: Waker,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    done: Vec<(Key, Result<(), DiskFault>)>,
    idle: usize,
    closed: bool,
}

#[derive(Debug)]
struct Job {
    key: Key,
    file: Arc<File>,
    kind: DeviceKind,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Read { memory: Memory, offset: u64 },
    Write { memory: Memory, offset: u64, fua: bool },
    Sync,
    Discard { offset: u64, len: u64 },
    Zero { offset: u64, len: u64, unmap: bool },
}

/// Address and length of a [`Buf`]'s bytes.
#[derive(Debug)]
struct Memory {
    start: *mut u8,
    len: usize,
}

// SAFETY: the address is used by one thread at a time: the worker that has the job. The loop that
// owns the `Buf` keeps it, and does not look at it, until it has taken the job's result.
unsafe impl Send for Memory {}

impl Workers {
    /// At most `limit` threads, which wake `waker` when something is done.
    pub(super) fn new(limit: usize, waker: Waker) -> Self {
        let shared = Shared { state: Mutex::default(), work: Condvar::new(), waker };
        Self { shared: Arc::new(shared), threads: Vec::new(), limit }
    }

    /// Starts `op`; `key` comes back with its result. Returns the operation's memory, and whether
    /// it is that of a read.
    ///
    /// # Safety
    /// The caller keeps the returned buffer, without sharing or touching its bytes, until
    /// [`Workers::done`] has returned `key` or [`Workers::finish`] has returned.
    pub(super) unsafe fn start(&mut self, key: Key, device: &OpenedDevice, op: Op) -> (Option<Buf>, bool) {
        let mut kept = (None, false);
        let work = match op {
            Op::Read { offset, mut into } => {
                let bytes = into.bytes_mut().expect("Io::submit asks for a single owner");
                let memory = Memory { start: bytes.as_mut_ptr(), len: bytes.len() };
                kept = (Some(into), true);
                Work::Read { memory, offset }
            }
            Op::Write { offset, data, fua } => {
                let memory = Memory { start: data.bytes().as_ptr().cast_mut(), len: data.len() };
                kept = (Some(data), false);
                Work::Write { memory, offset, fua }
            }
            Op::Sync => Work::Sync,
            Op::Discard { offset, len } => Work::Discard { offset, len },
            Op::Zero { offset, len, unmap } => Work::Zero { offset, len, unmap },
        };
        let job = Job { key, file: Arc::clone(&device.file), kind: device.kind, work };
        let mut state = self.shared.lock();
        state.jobs.push_back(job);
        let grow = state.idle < state.jobs.len() && self.threads.len() < self.limit;
        drop(state);
        if grow {
            self.grow();
        }
        self.shared.work.notify_one();
        kept
    }

    fn grow(&mut self) {
        let shared = Arc::clone(&self.shared);
        let builder = std::thread::Builder::new().name("urbd-disk".into());
        match builder.spawn(move || shared.work()) {
            Ok(thread) => self.threads.push(thread),
            // With other threads there, the work only takes longer; without any, do it here.
            Err(_) if self.threads.is_empty() => self.shared.work_off(),
            Err(_) => {}
        }
    }

    /// Results that came since the last call.
    pub(super) fn done(&self) -> Vec<(Key, Result<(), DiskFault>)> {
        std::mem::take(&mut self.shared.lock().done)
    }

    /// Waits until every job is done and every thread has ended.
    pub(super) fn finish(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A worker does not panic; if it did, it has let go of its job's memory all the same.
            let _ = thread.join();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a worker.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                let result = job.perform();
                state = self.lock();
                state.done.push((job.key, result));
                self.waker.wake();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }

    /// All jobs there are, on the caller's thread.
    fn work_off(&self) {
        loop {
            let Some(job) = self.lock().jobs.pop_front() else { return };
            let result = job.perform();
            self.lock().done.push((job.key, result));
            self.waker.wake();
        }
    }
}

impl Job {
    fn perform(&self) -> Result<(), DiskFault> {
        let fd = self.file.as_fd();
        match &self.work {
            Work::Read { memory, offset } => {
                // SAFETY: `Workers::start` made the pointer from a buffer with a single owner, and
                // its caller promised to keep it untouched until this job's result is taken.
                let into = unsafe { std::slice::from_raw_parts_mut(memory.start, memory.len) };
                blocking::read(fd, into, *offset)
            }
            Work::Write { memory, offset, fua } => {
                // SAFETY: as above; this slice is only read, and other owners of the buffer can
                // only read it too while the loop's table holds one of the references.
                let data = unsafe { std::slice::from_raw_parts(memory.start, memory.len) };
                blocking::write(fd, data, *offset, *fua)
            }
            Work::Sync => blocking::sync(fd),
            Work::Discard { offset, len } => blocking::discard(fd, self.kind, *offset, *len),
            Work::Zero { offset, len, unmap } => blocking::zero(fd, self.kind, *offset, *len, *unmap),
        }
    }
}
