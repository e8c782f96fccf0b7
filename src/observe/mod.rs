//! What people and programs see of a running daemon: the log, and the texts a status is shown as.
//!
//! - [`logging`]: where log lines go
//! - [`proc_drbd`]: the text of `/proc/drbd`
//! - [`status_text`], [`status_json`]: what `status` prints
//! - [`events2`]: what `events2` prints as it happens
//! - [`words`]: the short answers: roles, states, generation identifiers, `sh-status`
//!
//! All but the first are pure.

pub mod events2;
pub mod explain;
pub mod logging;
pub mod proc_drbd;
pub mod status_json;
pub mod status_text;
pub mod words;
