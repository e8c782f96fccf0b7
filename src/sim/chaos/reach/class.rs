//! The classes of faults: the columns of the table.

use super::super::super::io::Failing;
use super::super::admin::Task;
use crate::node::command::Command;

/// Defines the classes with their number in the specification and a short word, in the order of the table.
macro_rules! classes {
    ($($(#[$doc:meta])* $class:ident = $fault:literal, $word:literal, $words:literal;)+) => {
        /// A class of faults.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Class { $($(#[$doc])* $class,)+ }

        impl Class {
            /// All of them, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$class,)+];

            /// Its number, `F1` and so on (datapath.md 13.5).
            #[must_use]
            pub const fn fault(self) -> &'static str {
                match self { $(Self::$class => $fault,)+ }
            }

            /// At most six letters for the head of the table.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$class => $word,)+ }
            }

            /// What happens, in words.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Self::$class => $words,)+ }
            }
        }
    };
}

classes! {
    /// The program is killed.
    Kill = "F1", "kill", "a kill";
    /// The power fails.
    PowerLoss = "F1", "power", "a loss of power";
    /// A read fails.
    ReadError = "F3", "read", "a failing read";
    /// A write, a discard or a write of zeroes fails.
    WriteError = "F3", "write", "a failing write";
    /// A flush fails.
    FlushError = "F3", "flush", "a failing flush";
    /// The disks become slow, or stand still for a while.
    Slow = "F4", "slow", "a slow disk";
    /// The link drops everything.
    Cut = "F5", "cut", "a cut link";
    /// What one machine sends is lost.
    Silence = "F5", "silent", "a half-open link";
    /// One of the two connections breaks.
    Break = "F5", "break", "a broken connection";
    /// Bytes take their time.
    Delay = "F5", "delay", "a slow link";
    /// The program stands still.
    Pause = "F6", "pause", "a pause";
    /// A machine returns.
    Return = "F7", "return", "a return";
    /// A machine returns with a new disk.
    ReturnBlank = "F7", "blank", "a return with a new disk";
    /// `primary`, `secondary`
    Roles = "F8", "role", "primary or secondary";
    /// `attach`, `detach`, `outdate`, `invalidate`, `disk-options`
    Disks = "F8", "disk", "attach, detach, outdate, invalidate or disk-options";
    /// `connect`, `disconnect`
    Connections = "F8", "conn", "connect or disconnect";
    /// `pause-sync`, `resume-sync`, `verify`
    Syncs = "F8", "sync", "pause-sync, resume-sync or verify";
    /// `suspend-io`, `resume-io`
    Suspensions = "F8", "susp", "suspend-io or resume-io";
}

impl Class {
    /// Of a disk operation that was made to fail.
    pub(in super::super) const fn of_failing(kind: Failing) -> Self {
        match kind {
            Failing::Read => Self::ReadError,
            Failing::Write => Self::WriteError,
            Failing::Flush => Self::FlushError,
        }
    }

    /// Of what an administrator is about to do; `None` if the node hears nothing of it, or nothing new.
    pub(in super::super) const fn of_task(task: &Task) -> Option<Self> {
        match task {
            Task::Make
            | Task::NewMinor(_)
            | Task::CreateMd(_)
            | Task::EndClients
            | Task::AwaitClosed(_)
            | Task::LetIn => None,
            Task::Attach(_) => Some(Self::Disks),
            Task::Connect { .. } => Some(Self::Connections),
            Task::Command(command) => match command {
                Command::Primary { .. } | Command::Secondary { .. } => Some(Self::Roles),
                Command::Detach { .. }
                | Command::Outdate { .. }
                | Command::Invalidate { .. }
                | Command::InvalidateRemote { .. }
                | Command::ChangeDiskOptions { .. } => Some(Self::Disks),
                Command::Disconnect { .. } => Some(Self::Connections),
                Command::PauseSync { .. } | Command::ResumeSync { .. } | Command::Verify { .. } => {
                    Some(Self::Syncs)
                }
                Command::SuspendIo { .. } | Command::ResumeIo { .. } => Some(Self::Suspensions),
                Command::NewMinor { .. }
                | Command::DelMinor { .. }
                | Command::NewCurrentUuid { .. }
                | Command::ChangeNetOptions { .. }
                | Command::ChangeResourceOptions { .. }
                | Command::Open { .. }
                | Command::Close { .. }
                | Command::Down => None,
                Command::Attach { .. } => Some(Self::Disks),
                Command::Connect { .. } => Some(Self::Connections),
            },
        }
    }

    /// Whether it strikes a machine that is up: that one's situations count, and the other's.
    pub(super) const fn is_of_one_machine(self) -> bool {
        match self {
            Self::Cut | Self::Break | Self::Delay | Self::Return | Self::ReturnBlank => false,
            Self::Kill
            | Self::PowerLoss
            | Self::ReadError
            | Self::WriteError
            | Self::FlushError
            | Self::Slow
            | Self::Silence
            | Self::Pause
            | Self::Roles
            | Self::Disks
            | Self::Connections
            | Self::Syncs
            | Self::Suspensions => true,
        }
    }
}
