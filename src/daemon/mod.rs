//! The daemon: one thread for each resource, and the control plane beside them.
//!
//! - [`settings`]: its own settings
//! - [`handlers`]: the programs called for events
//! - [`mailbox`]: what the control thread and a resource's thread tell each other
//! - [`thread`]: a resource's thread
//! - [`resource`]: its loop, which joins the ring ([`crate::io`]) and the core ([`crate::node`]);
//!   `nbd_io` and `link_io` are the two kinds of sockets it serves, `inbox` how both receive

pub mod handlers;
mod inbox;
mod link_io;
pub mod mailbox;
mod nbd_io;
pub mod resource;
pub mod settings;
pub mod thread;

#[cfg(test)]
mod tests;
