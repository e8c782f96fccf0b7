//! The decisions of states.md sections 5 and 6, and of an attach: facts in, verdict out.
//!
//! - [`compare`]: what the two nodes' UUIDs say about their data (S64)
//! - [`handshake`]: from there to source, target, connected or refused (S66)
//! - [`after_sb`]: who gives way after a split brain (S69 to S71)
//! - [`attach`]: what a disk is worth that comes back (S37)
//! - [`size`]: how big the device is that two nodes share (W58 to W61)

pub mod after_sb;
pub mod attach;
pub mod compare;
pub mod handshake;
pub mod size;

use super::effect::LogLevel;

/// Something to do on the way to a verdict, in the order given. The specification's handlers are
/// synchronous: what follows one waits for its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a line to the log.
    Log(LogLevel, String),
    /// Call this handler for the volume, and await its end.
    Handler(&'static str),
}

impl Action {
    fn info(text: impl Into<String>) -> Self {
        Self::Log(LogLevel::Info, text.into())
    }

    fn warn(text: impl Into<String>) -> Self {
        Self::Log(LogLevel::Warn, text.into())
    }

    fn error(text: impl Into<String>) -> Self {
        Self::Log(LogLevel::Error, text.into())
    }
}
