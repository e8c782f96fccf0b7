//! `urbd`: the daemon's command line.

use std::path::PathBuf;

use clap::Parser;

use super::codes::exit;
use super::console::{DEFAULT_RUN_DIR, NODE_VARIABLE, RUN_DIR_VARIABLE, Setting};
use crate::daemon::process::{Start, run};
use crate::daemon::settings::{Engine, Settings};
use crate::daemon::supervisor::Spawn;
use crate::daemon::thread;
use crate::io::Backend;
use crate::node::Node;
use crate::observe::logging;

/// Serves replicated block devices over NBD. It starts with no resource: `urbdadm up` configures them.
#[derive(Debug, Parser)]
#[command(name = "urbd", version)]
struct Options {
    /// Read the settings from this file (TOML) [default: /etc/urbd/urbd.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Be this node, as `on NODE` in the resource files [default: what uname -n prints]
    #[arg(long, env = NODE_VARIABLE, value_name = "NAME")]
    node: Option<String>,
    /// Keep the sockets control.sock and nbd.sock in this directory
    #[arg(long, env = RUN_DIR_VARIABLE, value_name = "DIR", default_value = DEFAULT_RUN_DIR)]
    run_dir: PathBuf,
}

/// Runs the daemon until a signal ends it; the exit code.
#[must_use]
pub fn main() -> i32 {
    let options = Options::parse();
    match start(options) {
        Ok(()) => exit::OK,
        Err(error) => {
            eprintln!("urbd: {error:#}");
            exit::USAGE
        }
    }
}

fn start(options: Options) -> anyhow::Result<()> {
    let settings = Settings::load(options.settings.as_deref())?;
    logging::init(&settings.log).map_err(|error| anyhow::anyhow!("[log] level: {error}"))?;
    let backend = match settings.io.engine {
        Engine::Auto => Backend::Auto,
        Engine::Uring => Backend::Uring,
        Engine::Portable => Backend::Portable,
    };
    let node = options.node.unwrap_or_else(|| Setting::of_process("urbd").node);
    run(Start { settings, node, run_dir: options.run_dir, spawn: spawn_with(backend) })?;
    Ok(())
}

/// Starts resources' threads with the real core.
fn spawn_with(backend: Backend) -> Spawn {
    Box::new(move |name, options, notices| {
        let owned = name.to_owned();
        let core = move |now| Node::new(owned, options, now, Box::new(fill_random));
        thread::spawn(name, backend, core, notices)
    })
}

/// Fills with the system's random bytes.
fn fill_random(bytes: &mut [u8]) {
    let done = getrandom::fill(bytes);
    // Without randomness two generations of data could get one name. The kernel blocks until it has
    // some, so this does not happen on any system that runs us.
    assert!(done.is_ok(), "the system gives no random bytes: {done:?}");
}
