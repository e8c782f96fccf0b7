//! How another thread wakes a loop that waits: an eventfd, shared.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::EventfdFlags;

/// Wakes one loop, from any thread. Clones wake the same loop.
#[derive(Clone, Debug)]
pub struct Waker {
    fd: Arc<OwnedFd>,
}

impl Waker {
    /// A waker for a loop yet to be made.
    ///
    /// # Errors
    /// When the process or the system has no file descriptor left.
    pub fn new() -> std::io::Result<Self> {
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Makes the loop's next (or current) wait return `Completion::Woken`.
    pub fn wake(&self) {
        // The only failure is a counter about to overflow: then a wake-up is pending anyway.
        let _ = rustix::io::write(&*self.fd, &1_u64.to_ne_bytes());
    }

    /// Takes the wake-ups that came so far; whether there were some.
    pub(super) fn clear(&self) -> bool {
        let mut count = [0; 8];
        rustix::io::read(&*self.fd, &mut count).is_ok()
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
