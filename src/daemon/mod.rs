//! The daemon: one thread for each resource, and the control plane beside them.
//!
//! - [`settings`]: its own settings
//! - [`handlers`]: the programs called for events

pub mod handlers;
pub mod settings;
