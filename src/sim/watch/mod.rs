//! A core under observation: every input that it takes and every effect that it wants goes by, and what no
//! core may do is noted (datapath.md 13).
//!
//! ```text
//!  Resource ── Input ──► Watched ──► Node          answers: one for each request, none while frozen (I7)
//!     ▲                   │ ▲ │                    tap: epochs, barriers and acks (I19, I20, I22, T8)
//!     └───── Effect ──────┘ │ └── Node::audit      complaints: what it says of the other node (I22, I24)
//!                           └─── Effect ── Node  reads: from good disks only; what fails is marked (D46, D47)
//! ```
//!
//! The world asks for [`Watched::wrong`] whenever it has looked after a resource.

mod answers;
mod complaints;
mod journal;
mod reads;
mod tap;

use answers::Answers;
pub use journal::Journal;
use reads::Reads;
use tap::Tap;

use crate::buffer::Buf;
use crate::daemon::resource::Core;
use crate::node::effect::Effect;
use crate::node::input::Input;
use crate::node::status::ResourceStatus;
use crate::node::{Node, RequestId};
use crate::units::Moment;
use crate::wire::packet::BlockId;

/// The core examines itself after so many inputs: seldom enough to cost little.
const AUDIT_EVERY: u32 = 16;

/// A core, and those who watch it.
pub struct Watched {
    node: Node,
    answers: Answers,
    tap: Tap,
    reads: Reads,
    /// I/O was suspended before the last input, and is after it.
    frozen: bool,
    inputs: u32,
    corrupts: bool,
    journal: Option<Journal>,
    wrong: Option<String>,
}

impl Watched {
    /// Watches this core from its beginning on, and writes down what goes in and out if there is a journal.
    /// `corrupts`: block data may change on their way, and it may say so.
    #[must_use]
    pub fn new(node: Node, journal: Option<Journal>, corrupts: bool) -> Self {
        let (answers, tap, reads) = (Answers::default(), Tap::default(), Reads::default());
        Self { node, answers, tap, reads, frozen: false, inputs: 0, corrupts, journal, wrong: None }
    }

    /// The core.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The first thing that it did and must not do.
    #[must_use]
    pub fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    fn note(&mut self, verdict: Result<(), String>) {
        if let Err(why) = verdict {
            self.wrong.get_or_insert(why);
        }
    }

    fn hears(&mut self, input: &Input) -> Result<(), String> {
        match input {
            Input::Request { id, request, .. } => {
                self.answers.asked(*id, request, self.tap.answered());
                Ok(())
            }
            Input::Packet { packet, .. } => self.tap.receives(packet),
            Input::Command { .. }
            | Input::Abandon(_)
            | Input::DiskDone { .. }
            | Input::Dialed(_)
            | Input::Accepted { .. }
            | Input::ListenFailed(_)
            | Input::SocketEnded { .. }
            | Input::SendStalled(_)
            | Input::SendQueueEmpty(_)
            | Input::HandlerDone { .. }
            | Input::Kept { .. }
            | Input::Timeout => Ok(()),
        }
    }

    fn wants(&mut self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Reply { id, result } => {
                let error = result.as_ref().err().copied();
                let mirrored = self.answers.answered(*id, error, self.frozen)?;
                self.tap.answers(mirrored);
                Ok(())
            }
            Effect::Send { volume, packet, payload, .. } => {
                let bytes = payload.as_ref().map_or(0, Buf::len);
                let Some(sent) = self.tap.sends(*volume, packet, bytes)? else { return Ok(()) };
                if let Some(request) = self.node.request_of(sent.id) {
                    self.answers.mirrored(request, &sent)?;
                }
                Ok(())
            }
            Effect::Log { .. } => complaints::check(effect, self.corrupts),
            Effect::Disk { .. }
            | Effect::Speak { .. }
            | Effect::Hold { .. }
            | Effect::SendTimeout { .. }
            | Effect::Listen { .. }
            | Effect::Unlisten
            | Effect::Dial { .. }
            | Effect::AbortDial
            | Effect::CloseDisk { .. }
            | Effect::CloseSocket(_)
            | Effect::CommandDone { .. }
            | Effect::Handler { .. }
            | Effect::Keep { .. }
            | Effect::StatusChanged => Ok(()),
        }
    }
}

impl Core for Watched {
    fn handle(&mut self, now: Moment, input: Input) {
        if let Some(journal) = &mut self.journal {
            journal.hears(now, &input);
        }
        let verdict = self.hears(&input);
        self.note(verdict);
        self.reads.hears(&self.node, &input);
        let frozen = self.node.is_suspended();
        self.node.handle(now, input);
        self.frozen = frozen && self.node.is_suspended();
        let verdict = self.reads.heard(&self.node);
        self.note(verdict);
        self.inputs += 1;
        if self.inputs >= AUDIT_EVERY {
            self.inputs = 0;
            let verdict = self.node.audit();
            self.note(verdict);
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.node.poll_effect()?;
        if let Some(journal) = &self.journal {
            journal.wants(&effect);
        }
        let verdict = self.wants(&effect).and_then(|()| self.reads.wants(&effect));
        self.note(verdict);
        Some(effect)
    }

    fn next_deadline(&self) -> Option<Moment> {
        self.node.next_deadline()
    }

    fn status(&self) -> ResourceStatus {
        self.node.status()
    }
}

/// A write as the other node is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    id: BlockId,
    sector: crate::units::Sector,
    epoch: Epoch,
}

/// An epoch of a connection, both counted from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Epoch {
    connection: u64,
    number: u64,
}

impl Epoch {
    /// Whether it is the same as `other` or an older one of the same connection.
    const fn is_not_after(self, other: Self) -> bool {
        self.connection == other.connection && self.number <= other.number
    }
}

/// Names a request, in words.
fn name_of(id: RequestId) -> String {
    format!("request {:x}", id.0)
}
