//! The core: every decision one node takes about a resource. No I/O, no clock, no randomness of its
//! own.

pub mod activity_log;
pub mod bitmap;
pub mod command;
pub mod decision;
pub mod effect;
pub mod input;
pub mod resync_rate;
pub mod rules;
pub mod state;
pub mod status;

pub use command::{Command, CommandId, Outcome};
pub use effect::{Device, DiskOp, Effect, LogLevel, ReplyError};
pub use input::{DiskFault, Input, Request, RequestId, SocketEnd, SocketId, Ticket};
