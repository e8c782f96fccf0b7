//! The false world: whole resources of two nodes on a clock, a network and disks that exist in memory only.
//!
//! What runs is the real loop ([`crate::daemon::resource`]) with the real core, NBD and wire bytes included;
//! only the third [`crate::io::Io`] is false. Everything that could differ between two runs (times, random
//! numbers, the order of events) comes from one seed, and time passes only when nothing is left to do.
//!
//! - [`world`]: the nodes, and how to let time pass for them; [`client`]: an NBD client of one
//! - [`io`]: the false ring; [`network`]: its sockets, as streams of bytes; [`disk`]: its disks
//! - [`events`]: what is going to happen when; [`random`]: chance, from the seed
//! - [`watch`]: who looks at all that goes into a core and comes out of it
//!
//! This world is well-behaved: operations end well and in short time, the link is whole, or drops
//! everything without a word; a machine that crashes keeps what its disk had completed.

pub mod chaos;
pub mod client;
mod corruption;
pub mod disk;
pub mod events;
pub mod io;
pub mod keep;
pub mod network;
pub mod random;
pub mod store;
pub mod watch;
pub mod weather;
pub mod world;

#[cfg(test)]
mod tests;
