//! The daemon's own settings: a TOML file in which everything is optional.
//!
//! ```toml
//! [nbd]
//! listen = ["127.0.0.1:10809"]   # besides nbd.sock in the run directory; [] for none
//! max_clients = 256
//!
//! [log]
//! level = "info"                 # error, warn, info, debug, trace, or a tracing filter
//! format = "text"                # or "json"
//!
//! [io]
//! engine = "auto"                # "uring" or "portable": insist on one
//!
//! [discard]
//! keep = "10GiB"                 # what discarded data may take, all together; nothing is kept without
//! directory = "/var/lib/urbd/discarded"
//!
//! [handlers]
//! program = "/usr/sbin/urbdadm"  # called as PROGRAM EVENT minor-N (S74); nothing is called without
//! time_limit_s = 300
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the settings are, unless the command line names another file.
pub const DEFAULT_PATH: &str = "/etc/urbd/urbd.toml";
/// Where NBD clients find the daemon, unless the settings say otherwise.
pub const DEFAULT_NBD_PORT: u16 = 10809;

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The NBD server.
    pub nbd: NbdSettings,
    /// The log.
    pub log: LogSettings,
    /// The I/O engine.
    pub io: IoSettings,
    /// What is kept of data that a split brain discards.
    pub discard: DiscardSettings,
    /// The handler program.
    pub handlers: HandlerSettings,
}

/// `[discard]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscardSettings {
    /// Bytes that all of it may take; nothing is kept without.
    pub keep: Option<Size>,
    /// Where it is kept.
    pub directory: PathBuf,
}

/// A number of bytes, as `500MB`, `10GiB` or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SizeText")]
pub struct Size(u64);

impl Size {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Bytes(u64),
    Text(String),
}

impl TryFrom<SizeText> for Size {
    type Error = String;

    fn try_from(text: SizeText) -> Result<Self, String> {
        match text {
            SizeText::Bytes(bytes) => Ok(Self(bytes)),
            SizeText::Text(text) => text.parse(),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, u64); 9] = [
            ("", 1),
            ("B", 1),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000),
        ];
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = (&text[..digits], text[digits..].trim());
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(n, factor)| n.checked_mul(factor));
        bytes.map(Self).ok_or_else(|| {
            format!("'{text}' is no size: write a number and B, KiB, MiB, GiB or TiB, as in 10GiB")
        })
    }
}

/// `[nbd]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NbdSettings {
    /// TCP addresses to listen on. Not set: the default address if it is free.
    pub listen: Option<Vec<SocketAddr>>,
    /// Most clients at one time.
    pub max_clients: u32,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// A level, or directives of a `tracing` filter.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For humans.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[io]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IoSettings {
    /// Which engine drives disks and sockets.
    pub engine: Engine,
}

/// What drives disks and sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// `io_uring` where the kernel allows it, else the portable one.
    #[default]
    Auto,
    /// `io_uring`; a resource cannot start where it is forbidden.
    Uring,
    /// `poll` and a pool of threads.
    Portable,
}

/// `[handlers]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HandlerSettings {
    /// The program to call for each event; none: each handler counts as successful.
    pub program: Option<PathBuf>,
    /// Seconds that a handler may run before it is killed.
    pub time_limit_s: u64,
}

impl Default for NbdSettings {
    fn default() -> Self {
        Self { listen: None, max_clients: 256 }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Default for DiscardSettings {
    fn default() -> Self {
        Self { keep: None, directory: PathBuf::from("/var/lib/urbd/discarded") }
    }
}

impl Default for HandlerSettings {
    fn default() -> Self {
        Self { program: None, time_limit_s: 300 }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Its content is wrong.
    #[error("{}:{line}: {message}{suggestion}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
        /// `; did you mean ...?`, or nothing.
        suggestion: String,
    },
}

impl Settings {
    /// Reads the settings. The file may be missing if nobody asked for it by name.
    ///
    /// # Errors
    /// [`SettingsError`], with file and line.
    pub fn load(named: Option<&Path>) -> Result<Self, SettingsError> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(source) => Err(SettingsError::Read { path: path.into(), source }),
        }
    }

    /// Understands the settings' text; `path` is for messages.
    ///
    /// # Errors
    /// [`SettingsError::Content`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            let message = error.message().trim().replace('\n', " ");
            let suggestion = suggestion(&message);
            SettingsError::Content { path: path.into(), line, message, suggestion }
        })
    }
}

/// The known word most like the unknown one, from serde's
/// ``unknown field `lisen`, expected one of `listen`, `max_clients` ``.
fn suggestion(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown").then(|| words.next()).flatten();
    let near = unknown.and_then(|unknown| {
        words
            .map(|known| (strsim::damerau_levenshtein(unknown, known), known))
            .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
            .min()
    });
    near.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("urbd.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_is_optional() {
        assert_eq!(parse("").unwrap(), Settings::default());
        let settings = parse(
            "[nbd]\nlisten = [\"127.0.0.1:1\", \"[::1]:2\"]\n[io]\nengine = \"portable\"\n\
             [handlers]\nprogram = \"/bin/true\"\n[log]\nformat = \"json\"",
        )
        .unwrap();
        assert_eq!(settings.nbd.listen.map(|listen| listen.len()), Some(2));
        assert_eq!(settings.nbd.max_clients, 256);
        assert_eq!(settings.io.engine, Engine::Portable);
        assert_eq!(settings.handlers.program.as_deref(), Some(Path::new("/bin/true")));
        assert_eq!(settings.log.format, LogFormat::Json);
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line_and_a_suggestion() {
        let error = parse("[nbd]\nmax_clients = 3\nlisten_on = []\n").unwrap_err();
        assert!(error.starts_with("urbd.toml:3: unknown field `listen_on`"), "{error}");
        let error = parse("[nbd]\n\nlisen = []\n").unwrap_err();
        assert!(error.starts_with("urbd.toml:3: "), "{error}");
        assert!(error.ends_with("; did you mean `listen`?"), "{error}");
        let error = parse("[io]\nengine = \"urin\"\n").unwrap_err();
        assert!(error.starts_with("urbd.toml:2: ") && error.ends_with("did you mean `uring`?"), "{error}");
    }

    #[test]
    fn what_is_no_toml_or_no_address_is_an_error_with_its_line() {
        let error = parse("[nbd]\nlisten = [\"localhost\"]\n").unwrap_err();
        assert!(error.starts_with("urbd.toml:2: "), "{error}");
        let error = parse("\n[nbd\n").unwrap_err();
        assert!(error.starts_with("urbd.toml:2: "), "{error}");
    }

    #[test]
    fn only_a_file_that_was_named_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none.toml");
        let error = Settings::load(Some(&missing)).unwrap_err();
        assert!(error.to_string().contains("none.toml"), "{error}");
    }
}
