//! The harness of the tests that need a real kernel: guests with the in-kernel DRBD, urbd beside them.
//!
//! [`Lab::run`] gives a test a network and a process tree of its own. In it, [`Guest`] is a machine with the
//! kernel's DRBD, and [`Urbd`] a daemon on the host's side of the same network. Both are a [`Node`], so that
//! [`script`] can play the same scripts on any pair and compare what it sees with a recording.

#![allow(dead_code, unused_imports)] // each test binary uses a part
#![allow(unreachable_pub)] // the crate is a test: nothing is reachable from outside
#![allow(clippy::unwrap_used)]

pub mod guest;
pub mod lab;
pub mod nbd;
pub mod node;
pub mod record;
pub mod script;
pub mod urbd;
pub mod writers;

pub use guest::Guest;
pub use lab::Lab;
pub use node::{KernelNode, Node, UrbdNode};
pub use urbd::Urbd;
