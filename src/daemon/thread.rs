//! A resource's thread: made by the supervisor, it owns the ring, the core and all between them.

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::mailbox::{Mailbox, Notice, ResourceHandle};
use super::resource::{Core, Resource, Woken};
use crate::io::disk::OpenedDisk;
use crate::io::portable::PortableIo;
use crate::io::uring::UringIo;
use crate::io::{Backend, Io};
use crate::units::Moment;

/// Starts a resource's thread. `make_core` runs on it, with the moment that its clock shows.
///
/// # Errors
/// When the system has no thread, descriptor or (with [`Backend::Uring`]) ring for it.
pub fn spawn<C: Core>(
    name: &str,
    backend: Backend,
    make_core: impl FnOnce(Moment) -> C + Send + 'static,
    notices: mpsc::UnboundedSender<Notice>,
) -> std::io::Result<ResourceHandle> {
    let (mailbox, handle) = Mailbox::new(name, notices)?;
    // The kernel takes 15 bytes of a thread's name.
    let thread_name: String = name.chars().take(15).collect();
    std::thread::Builder::new().name(thread_name).spawn(move || {
        let result = run(&mailbox, backend, make_core).map_err(|error| error.to_string());
        if let Err(why) = &result {
            warn!(resource = mailbox.name(), why, "the resource's loop cannot go on");
        }
        mailbox.notify(Notice::Ended { resource: mailbox.name().to_owned(), result });
    })?;
    Ok(handle)
}

fn run<C: Core>(
    mailbox: &Mailbox,
    backend: Backend,
    make_core: impl FnOnce(Moment) -> C,
) -> std::io::Result<()> {
    match backend {
        Backend::Portable => {}
        Backend::Uring | Backend::Auto => match UringIo::new(mailbox.waker()) {
            Ok(io) => return turn(mailbox, io, make_core),
            Err(error) if backend == Backend::Uring => return Err(error),
            Err(error) => {
                info!(resource = mailbox.name(), %error, "no io_uring here: poll and threads instead");
            }
        },
    }
    turn(mailbox, PortableIo::new(mailbox.waker()), make_core)
}

fn turn<C: Core, I: Io<Socket = std::os::fd::OwnedFd, Disk = OpenedDisk>>(
    mailbox: &Mailbox,
    mut io: I,
    make_core: impl FnOnce(Moment) -> C,
) -> std::io::Result<()> {
    let mut resource = Resource::new(mailbox.name(), make_core(io.now()));
    let mut completions = Vec::new();
    while !resource.is_finished() {
        let woken = resource.turn(&mut io, &mut completions)?;
        if woken == Woken::Yes {
            for message in mailbox.take() {
                resource.message(&mut io, message);
            }
        }
        for notice in resource.take_notices() {
            mailbox.notify(notice);
        }
        if let Some(status) = resource.take_status() {
            mailbox.publish(status);
        }
    }
    Ok(())
}
