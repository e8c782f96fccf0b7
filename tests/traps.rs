//! The traps of the data path (`T1` to `T41`), each as the one schedule that it takes, in virtual time.
//!
//! Each test leads two whole nodes through the exact course of a trap: what is under way, what is lost, who
//! is promoted, who returns. It ends with what an acknowledged write must read as, or with the moment by
//! which something must have ended. The comment of a test names the line of the core that it holds: without
//! that line it fails. Random lives (`make simulate`) find these slowly or never.
#![allow(clippy::unwrap_used)]

#[path = "traps/covered.rs"]
mod covered;
#[path = "traps/durable.rs"]
mod durable;
#[path = "traps/endless.rs"]
mod endless;
#[path = "traps/kernel_target.rs"]
mod kernel_target;
#[path = "traps/machines.rs"]
mod machines;
#[path = "traps/promised.rs"]
mod promised;
#[path = "traps/unheard.rs"]
mod unheard;
