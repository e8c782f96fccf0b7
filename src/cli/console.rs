//! Where a command prints, and what it runs with.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

/// Environment variable for `--run-dir`.
pub const RUN_DIR_VARIABLE: &str = "URBD_RUN_DIR";
/// Environment variable for `--node`.
pub const NODE_VARIABLE: &str = "URBD_NODE";
/// Where the daemon's sockets are, unless somebody says otherwise.
pub const DEFAULT_RUN_DIR: &str = "/run/urbd";

/// The two streams of a command. A broken pipe is no error: whoever closed it has seen enough.
pub struct Console<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl<'a> Console<'a> {
    /// A console of these streams.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { out, err }
    }

    /// Prints on stdout.
    pub fn print(&mut self, text: impl AsRef<[u8]>) {
        let _ = self.out.write_all(text.as_ref());
    }

    /// Prints on stdout, and a line break.
    pub fn line(&mut self, text: impl AsRef<[u8]>) {
        self.print(text);
        self.print("\n");
    }

    /// Prints on stderr.
    pub fn complain(&mut self, text: impl AsRef<[u8]>) {
        // What was printed before comes first, also where both streams are the same file.
        let _ = self.out.flush();
        let _ = self.err.write_all(text.as_ref());
    }

    /// Prints on stderr, and a line break.
    pub fn complain_line(&mut self, text: impl AsRef<[u8]>) {
        self.complain(text);
        self.complain("\n");
    }

    /// A console with the same stdout, and its stderr held back in `err`.
    pub fn holding_back<'b>(&'b mut self, err: &'b mut Vec<u8>) -> Console<'b> {
        Console { out: &mut *self.out, err }
    }

    /// Both streams, for a command that prints by itself.
    pub fn streams(&mut self) -> (&mut dyn Write, &mut dyn Write) {
        (&mut *self.out, &mut *self.err)
    }

    /// Gives everything printed to the system; whether stdout took it.
    pub fn flush(&mut self) -> bool {
        let _ = self.err.flush();
        self.out.flush().is_ok()
    }
}

/// What a program runs with, besides its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The name it was called by, for messages.
    pub program: String,
    /// Where the daemon's sockets are.
    pub run_dir: PathBuf,
    /// The name of this node.
    pub node: String,
}

impl Setting {
    /// The setting of this process: its environment, and `program` as the name.
    #[must_use]
    pub fn of_process(program: &str) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        Self {
            program: program.to_owned(),
            run_dir: variable(RUN_DIR_VARIABLE).map_or_else(|| DEFAULT_RUN_DIR.into(), PathBuf::from),
            node: variable(NODE_VARIABLE)
                .and_then(|name| name.into_string().ok())
                .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned()),
        }
    }
}

/// The words a process was called with: the name of the program, without its path, and the rest.
/// Words that are not UTF-8 keep what can be kept: no option or name we know has such bytes.
#[must_use]
pub fn arguments() -> (String, Vec<String>) {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let name = words.next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    (name, words.collect())
}

/// Runs `main` with this process' streams, and ends with its exit code.
pub fn run_and_exit(main: impl FnOnce(&mut Console<'_>) -> i32) -> ! {
    let code = {
        let (mut out, mut err) = (io::BufWriter::new(io::stdout()), io::stderr());
        let mut console = Console::new(&mut out, &mut err);
        let code = main(&mut console);
        console.flush();
        code
    };
    std::process::exit(code)
}
