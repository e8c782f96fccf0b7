//! The daemon as a process: one for each run directory, its sockets, its signals, its end.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, info, warn};

use super::discarded::Store;
use super::handlers::Handlers;
use super::nbd_front::{self, NbdFront};
use super::settings::{DEFAULT_NBD_PORT, Settings};
use super::supervisor::{Spawn, Supervisor};
use crate::control::{server, socket_path};

/// What a daemon is started with.
pub struct Start {
    /// Its settings.
    pub settings: Settings,
    /// The name of this node.
    pub node: String,
    /// Where its sockets are.
    pub run_dir: PathBuf,
    /// How it starts the thread of a resource.
    pub spawn: Spawn,
}

/// Why a daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The run directory cannot be used.
    #[error("cannot use the run directory {}: {source}", path.display())]
    RunDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("another urbd runs on {} (process {owner}): stop it, or give this one another --run-dir", path.display())]
    Running {
        /// The run directory.
        path: PathBuf,
        /// The other's process number, if it could be read.
        owner: String,
    },
    /// A socket cannot be made.
    #[error("cannot listen on {place}: {source}")]
    Listen {
        /// The path or address.
        place: String,
        /// Why not.
        source: io::Error,
    },
    /// The system has no runtime for us.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// [`StartError`], before it was ready.
pub fn run(start: Start) -> Result<(), StartError> {
    let lock = claim(&start.run_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(64)
        .build()
        .map_err(StartError::Runtime)?;
    let result = runtime.block_on(serve(start));
    // A disk that hangs while it is opened must not hold up the end.
    runtime.shutdown_background();
    drop(lock);
    result
}

async fn serve(start: Start) -> Result<(), StartError> {
    let Start { settings, node, run_dir, spawn } = start;
    let mut signals = Signals::new().map_err(StartError::Runtime)?;
    let handlers = Handlers::new(&settings.handlers, &node, &run_dir);
    let discarded = Arc::new(Store::new(&settings.discard));
    let (supervisor, notices) = Supervisor::new(spawn, handlers, Arc::clone(&discarded));

    let control = socket_path(&run_dir);
    let nbd = run_dir.join(nbd_front::SOCKET_NAME);
    let at = |path: &Path| {
        let place = path.display().to_string();
        move |source| StartError::Listen { place, source }
    };
    let control_listener = server::bind(&control).map_err(at(&control))?;
    let nbd_listener = nbd_front::bind_unix(&nbd).map_err(at(&nbd))?;
    let tcp_listeners = bind_tcp(settings.nbd.listen.as_deref()).await?;

    let front = NbdFront::new(Arc::clone(&supervisor) as Arc<_>, discarded, settings.nbd.max_clients);
    tokio::spawn(Arc::clone(&supervisor).attend(notices));
    let mut doors = tokio::task::JoinSet::new();
    doors.spawn(Arc::clone(&front).serve_unix(nbd_listener));
    for listener in tcp_listeners {
        doors.spawn(Arc::clone(&front).serve_tcp(listener));
    }
    doors.spawn(server::serve(control_listener, Arc::clone(&supervisor)));

    info!(node, run_dir = %run_dir.display(), version = env!("CARGO_PKG_VERSION"), "urbd is ready");
    notify(NotifyState::Ready);
    let name = signals.next().await;
    info!(signal = name, "stopping");
    notify(NotifyState::Stopping);
    // No new clients and no new commands while everything goes down.
    doors.shutdown().await;
    let _ = std::fs::remove_file(&control);
    let _ = std::fs::remove_file(&nbd);
    tokio::select! {
        () = supervisor.stop() => info!("stopped"),
        again = signals.next() => warn!(signal = again, "stopped at once"),
    }
    Ok(())
}

/// The signals that end a daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}

/// Makes the run directory and takes it for this process; the lock lasts as long as the file is open.
fn claim(run_dir: &Path) -> Result<File, StartError> {
    let fault = |source| StartError::RunDir { path: run_dir.into(), source };
    std::fs::create_dir_all(run_dir).map_err(fault)?;
    let path = run_dir.join(LOCK_NAME);
    let file =
        File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let owner = std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
            return Err(StartError::Running { path: run_dir.into(), owner });
        }
        Err(std::fs::TryLockError::Error(source)) => return Err(fault(source)),
    }
    // For humans, and for the message above: the lock is what counts.
    let written = file.set_len(0).and_then(|()| io::Write::write_all(&mut &file, pid_line().as_bytes()));
    written.map_err(fault)?;
    Ok(file)
}

const LOCK_NAME: &str = "urbd.lock";

fn pid_line() -> String {
    format!("{}\n", std::process::id())
}

/// Listens where the settings say. The default address is only tried: two nodes on one machine do
/// without it.
async fn bind_tcp(listen: Option<&[SocketAddr]>) -> Result<Vec<TcpListener>, StartError> {
    let default = [SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_NBD_PORT))];
    let mut listeners = Vec::new();
    for &address in listen.unwrap_or(&default) {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                info!(%address, "NBD clients welcome");
                listeners.push(listener);
            }
            Err(error) if listen.is_none() => {
                warn!(%address, %error, "no TCP port for NBD clients: set [nbd] listen");
            }
            Err(source) => return Err(StartError::Listen { place: address.to_string(), source }),
        }
    }
    Ok(listeners)
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        debug!(%error, "cannot tell the service manager");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_has_one_daemon_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let first = claim(&run_dir).unwrap();
        let error = claim(&run_dir).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert!(claim(&run_dir).is_ok());
    }

    #[tokio::test]
    async fn an_address_that_was_asked_for_must_be_free_and_the_default_need_not() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind_tcp(Some(&[address])).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(bind_tcp(Some(&[])).await.unwrap().is_empty());
        let _maybe = TcpListener::bind((Ipv4Addr::LOCALHOST, DEFAULT_NBD_PORT)).await;
        assert!(bind_tcp(None).await.is_ok());
    }
}
