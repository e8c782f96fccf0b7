//! Daemon and command line talk: what they say, and the two ends of the socket.
//!
//! ```text
//!  urbdadm, urbdsetup                                 urbd
//!  client ── one Call, a line of JSON ──► RUN_DIR/control.sock ──► server ──► supervisor
//!         ◄── one Answer a call; Watch: one for each change ──
//! ```
//!
//! - [`messages`]: the calls and answers, pure
//! - [`client`]: the blocking end, for the command line
//! - [`server`]: the daemon's end, on tokio
//! - [`crowd`]: room for connections, of this server and of others
//! - [`texts`]: what the numbers in an outcome mean

pub mod client;
pub mod crowd;
pub mod messages;
pub mod server;
pub mod texts;

use std::path::{Path, PathBuf};

/// Name of the control socket within the run directory.
pub const SOCKET_NAME: &str = "control.sock";

/// The control socket of the daemon that uses this run directory.
#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join(SOCKET_NAME)
}
