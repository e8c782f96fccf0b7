//! urbd: a userspace replicated block device that speaks DRBD 8.4's formats.
//!
//! The tree follows the drawing in `ARCHITECTURE.md`:
//!
//! - pure values: [`units`], [`buffer`]
//! - pure formats: [`config`] (resource files), [`meta`] (on-disk metadata), [`wire`] (the peer's
//!   protocol), [`nbd`] (the clients' protocol)
//! - the core, sans-IO: [`node`]
//! - the shell: [`io`] (the ring), [`daemon`] (the loop and the supervisor), [`control`] (daemon and
//!   command line talk), [`cli`], [`observe`]
//! - the false world for tests: [`sim`]

pub mod buffer;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod io;
pub mod meta;
pub mod nbd;
pub mod node;
pub mod observe;
pub mod sim;
pub mod units;
pub mod wire;
