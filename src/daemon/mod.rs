//! The daemon: one thread for each resource, and the control plane beside them.
//!
//! - [`process`]: the process: its sockets, its signals; [`settings`]: its own settings
//! - [`supervisor`]: carries out commands, with what it knows in [`registry`]
//! - [`nbd_front`]: NBD clients, up to the export they choose
//! - [`handlers`]: the programs called for events
//! - [`mailbox`]: what the control thread and a resource's thread tell each other
//! - [`thread`]: a resource's thread
//! - [`resource`]: its loop, which joins the ring ([`crate::io`]) and the core ([`crate::node`]);
//!   `nbd_io` and `link_io` are the two kinds of sockets it serves, `inbox` how both receive

pub mod discarded;
mod discarded_nbd;
#[cfg(test)]
mod double;
pub mod handlers;
mod inbox;
mod link_io;
pub mod mailbox;
pub mod nbd_front;
mod nbd_io;
mod options;
pub mod process;
pub mod registry;
pub mod resource;
pub mod settings;
pub mod supervisor;
pub mod thread;

#[cfg(test)]
mod tests;
