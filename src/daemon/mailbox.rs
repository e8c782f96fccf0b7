//! What the control thread and a resource's thread tell each other. Not on the data path.
//!
//! ```text
//!  supervisor ── ResourceHandle::send(Message) ──► queue + eventfd ──► resource thread
//!  supervisor ◄── reply of each message, Notice channel, status watch ── resource thread
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::io::disk::OpenedDisk;
use crate::io::wake::Waker;
use crate::nbd::Session;
use crate::node::command::{Command, Outcome};
use crate::node::keep::{KeepAnswer, KeepAsk};
use crate::node::status::ResourceStatus;
use crate::units::VolumeId;

/// What a resource's thread is told. `S` is an open socket, `D` an open disk: the simulator has
/// others than the real ones.
#[derive(Debug)]
pub enum Message<S = OwnedFd, D = OpenedDisk> {
    /// An administrator's command.
    Command {
        /// What to do.
        command: Command,
        /// The open devices that belong to a [`Command::Attach`]; they are closed if it fails.
        disk: Option<D>,
        /// Called once with what came of it.
        reply: Reply<Outcome>,
    },
    /// A client that has finished its negotiation. The thread owns it from now on, and gives the
    /// core a [`Command::Close`] when it is gone: the supervisor has opened the volume before.
    Client(NbdClient<S>),
    /// Asks for a snapshot with counters of this moment.
    Status {
        /// Called once with the snapshot.
        reply: Reply<ResourceStatus>,
    },
    /// A handler of [`Notice::Handler`] ended.
    HandlerDone {
        /// The number of the call.
        call: u64,
        /// Its exit code.
        exit: i32,
    },
    /// The answer to [`Notice::Keep`].
    Kept {
        /// Whose data.
        volume: VolumeId,
        /// What came of it.
        answer: KeepAnswer,
    },
    /// Read no more from any client. The volumes are closed once what is under way has ended.
    EndClients,
    /// Close clients and sockets and end the thread. Send [`Command::Down`] first for a stop in
    /// good order.
    Shutdown,
}

/// A client of the NBD server, in the transmission phase.
#[derive(Debug)]
pub struct NbdClient<S = OwnedFd> {
    /// The connection.
    pub socket: S,
    /// The volume it opened.
    pub volume: VolumeId,
    /// What its requests are checked against.
    pub session: Session,
    /// Bytes that came behind the negotiation: the first requests.
    pub leftover: Vec<u8>,
    /// Who it is, for the log.
    pub name: String,
}

/// What a resource's thread tells the supervisor on its own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Run a handler and answer with [`Message::HandlerDone`]; exit 0 where none is configured.
    Handler {
        /// The resource.
        resource: String,
        /// The number of the call.
        call: u64,
        /// The handler's name.
        name: &'static str,
        /// The volume it is about; `None` for the resource.
        volume: Option<VolumeId>,
    },
    /// Keep what is about to be overwritten, and answer with [`Message::Kept`], once for each.
    Keep {
        /// The resource.
        resource: String,
        /// Whose data.
        volume: VolumeId,
        /// What is asked.
        ask: KeepAsk,
    },
    /// The thread ended; `Err` says why it could not go on.
    Ended {
        /// The resource.
        resource: String,
        /// Nothing after [`Message::Shutdown`], else the reason.
        result: Result<(), String>,
    },
}

/// How to answer a message: called once, on the resource's thread.
pub struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    /// An answer that runs `then`.
    pub fn new(then: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(then))
    }

    /// Nobody waits for this answer.
    #[must_use]
    pub fn ignored() -> Self {
        Self::new(|_| ())
    }

    /// Gives the answer.
    pub fn send(self, answer: T) {
        (self.0)(answer);
    }
}

impl<T: Send + 'static> Reply<T> {
    /// An answer that a future waits for. The receiver gets an error if the thread ends first.
    #[must_use]
    pub fn awaited() -> (Self, tokio::sync::oneshot::Receiver<T>) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        (Self::new(move |answer| drop(sender.send(answer))), receiver)
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// The supervisor's end of a resource's thread. Clones talk to the same thread.
#[derive(Clone, Debug)]
pub struct ResourceHandle {
    name: Arc<str>,
    queue: Queue,
    waker: Waker,
    status: watch::Receiver<ResourceStatus>,
}

impl ResourceHandle {
    /// Name of the resource.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands a message over; never waits. When the thread has ended, the message is dropped, and
    /// with it its reply.
    pub fn send(&self, message: Message) {
        if let Some(queue) = lock(&self.queue).as_mut() {
            queue.push_back(message);
            self.waker.wake();
        }
    }

    /// Sends a command, and waits for what comes of it; `None` if the thread ends first.
    ///
    /// # Cancel safety
    /// The command is carried out even if nobody waits for the outcome any more.
    pub async fn command(&self, command: Command, disk: Option<OpenedDisk>) -> Option<Outcome> {
        let (reply, outcome) = Reply::awaited();
        self.send(Message::Command { command, disk, reply });
        outcome.await.ok()
    }

    /// A snapshot with counters of this moment; `None` if the thread has ended.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn status(&self) -> Option<ResourceStatus> {
        let (reply, status) = Reply::awaited();
        self.send(Message::Status { reply });
        status.await.ok()
    }

    /// Whether the thread is no more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.status.has_changed().is_err()
    }

    /// Snapshots after each change of state, the latest only. Counters in them may be old.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<ResourceStatus> {
        self.status.clone()
    }
}

/// The thread's end.
#[derive(Debug)]
pub(super) struct Mailbox {
    name: Arc<str>,
    queue: Queue,
    waker: Waker,
    status: watch::Sender<ResourceStatus>,
    notices: mpsc::UnboundedSender<Notice>,
}

impl Mailbox {
    /// Both ends, for a thread about to start.
    pub(super) fn new(
        name: &str,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> std::io::Result<(Self, ResourceHandle)> {
        let name: Arc<str> = name.into();
        let waker = Waker::new()?;
        let queue = Queue::new(Mutex::new(Some(VecDeque::new())));
        let (status, watched) =
            watch::channel(ResourceStatus { name: name.to_string(), ..ResourceStatus::default() });
        let handle = ResourceHandle {
            name: Arc::clone(&name),
            queue: Arc::clone(&queue),
            waker: waker.clone(),
            status: watched,
        };
        Ok((Self { name, queue, waker, status, notices }, handle))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What wakes the loop that reads this mailbox.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Everything sent so far, in order.
    pub(super) fn take(&self) -> VecDeque<Message> {
        lock(&self.queue).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Tells those who watch.
    pub(super) fn publish(&self, status: ResourceStatus) {
        self.status.send_replace(status);
    }

    /// Tells the supervisor. A supervisor that is gone hears nothing.
    pub(super) fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }
}

impl Drop for Mailbox {
    /// Drops what nobody will read, now and later, so that those who wait for a reply learn it.
    fn drop(&mut self) {
        let unread = lock(&self.queue).take();
        drop(unread);
    }
}

/// Messages on their way; `None` once the thread has ended.
type Queue = Arc<Mutex<Option<VecDeque<Message>>>>;

fn lock(queue: &Queue) -> std::sync::MutexGuard<'_, Option<VecDeque<Message>>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_arrive_in_order_and_a_thread_that_ended_answers_nobody() {
        let (notices, _) = mpsc::unbounded_channel();
        let (mailbox, handle) = Mailbox::new("r0", notices).unwrap();
        handle.send(Message::HandlerDone { call: 1, exit: 0 });
        handle.send(Message::HandlerDone { call: 2, exit: 0 });
        let calls: Vec<_> = mailbox
            .take()
            .into_iter()
            .map(|message| match message {
                Message::HandlerDone { call, .. } => call,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(calls, [1, 2]);

        let (reply, waits) = Reply::awaited();
        handle.send(Message::Status { reply });
        drop(mailbox);
        assert!(waits.await.is_err(), "a message nobody read");
        assert_eq!(handle.status().await, None, "a message sent too late");
    }
}
