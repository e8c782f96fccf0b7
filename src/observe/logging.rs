//! The daemon's log: lines on stderr, for the journal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::daemon::settings::{LogFormat, LogSettings};

/// Environment variable that overrides `[log] level` for one run.
pub const LEVEL_VARIABLE: &str = "URBD_LOG";

/// Sends all log lines of this process to stderr from now on.
///
/// # Errors
/// When the level is no level and no filter.
pub fn init(settings: &LogSettings) -> Result<(), ParseError> {
    let level = std::env::var(LEVEL_VARIABLE).unwrap_or_else(|_| settings.level.clone());
    let filter = EnvFilter::builder().parse(&level)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An earlier subscriber can only be a test's: its lines are as good.
    let _ = match settings.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}
