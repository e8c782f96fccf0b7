//! Handler programs: what an event of the core calls, and how it ended (S74, L106).
//!
//! The daemon reads no resource file. As the kernel does, it calls one program with the event and
//! what it is about; `urbdadm` then finds the command line configured for the event.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use tracing::{info, warn};

use super::settings::HandlerSettings;

/// Exit code that stands for a handler killed at its time limit, as `timeout` has it.
pub const TIMED_OUT: i32 = 124;

/// Calls the handler program.
#[derive(Clone, Debug)]
pub struct Handlers {
    program: Option<PathBuf>,
    limit: Duration,
    node: String,
    run_dir: PathBuf,
}

/// An event to be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its name, e.g. `before-resync-target`.
    pub name: &'a str,
    /// `minor-N`, or the resource's name.
    pub target: String,
    /// The peer's address, if one is configured.
    pub peer: Option<SocketAddr>,
}

impl Handlers {
    /// The handlers of a daemon; `node` and `run_dir` lead the program back to it.
    #[must_use]
    pub fn new(settings: &HandlerSettings, node: &str, run_dir: &Path) -> Self {
        Self {
            program: settings.program.clone(),
            limit: Duration::from_secs(settings.time_limit_s),
            node: node.to_owned(),
            run_dir: run_dir.to_owned(),
        }
    }

    /// Runs the program to its end and returns its exit code: 0 without a program or when it cannot
    /// be started (S74), [`TIMED_OUT`] when it had to be killed, 128 and the signal when one ended it.
    ///
    /// # Cancel safety
    /// Kills the program when cancelled.
    pub async fn run(&self, event: &Event<'_>) -> i32 {
        let Some(program) = &self.program else { return 0 };
        info!(program = %program.display(), event = event.name, target = event.target, "helper command");
        let mut child = match self.command(program, event).spawn() {
            Ok(child) => child,
            Err(error) => {
                warn!(program = %program.display(), %error, "cannot start the handler program");
                return 0;
            }
        };
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let exit = match tokio::time::timeout(self.limit, child.wait()).await {
            Ok(Ok(status)) => {
                use std::os::unix::process::ExitStatusExt;
                status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
            }
            Ok(Err(error)) => {
                warn!(%error, "lost the handler program");
                0
            }
            Err(_) => {
                // The program may be a shell with children: they go with it.
                if let Some(group) = group {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait().await;
                warn!(event = event.name, limit = ?self.limit, "handler killed at its time limit");
                TIMED_OUT
            }
        };
        info!(event = event.name, target = event.target, exit, "helper command ended");
        exit
    }

    fn command(&self, program: &Path, event: &Event<'_>) -> Command {
        let mut command = Command::new(program);
        command
            .args([event.name, event.target.as_str()])
            .env_clear()
            .env("HOME", "/")
            .env("TERM", "linux")
            .env("PATH", "/sbin:/usr/sbin:/bin:/usr/bin")
            .env("URBD_NODE", &self.node)
            .env("URBD_RUN_DIR", &self.run_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(peer) = event.peer {
            command.env("DRBD_PEER_AF", if peer.is_ipv4() { "ipv4" } else { "ipv6" });
            command.env("DRBD_PEER_ADDRESS", peer.ip().to_string());
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/bin/sh` as the program: the event's name is then the script it runs, which need not be
    /// executable. (A fresh executable can be busy while another test's thread forks.)
    struct Shell {
        dir: tempfile::TempDir,
        handlers: Handlers,
    }

    impl Shell {
        fn new(script: &str, time_limit_s: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let text = format!("cd {}\n{script}\n", dir.path().display());
            std::fs::write(dir.path().join("script"), text).unwrap();
            let settings = HandlerSettings { program: Some("/bin/sh".into()), time_limit_s };
            let handlers = Handlers::new(&settings, "boole", Path::new("/run/urbd"));
            Self { dir, handlers }
        }

        async fn run(&self) -> i32 {
            let script = self.dir.path().join("script");
            self.handlers.run(&Event { name: script.to_str().unwrap(), ..event() }).await
        }

        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.dir.path().join(name)).unwrap()
        }
    }

    fn event() -> Event<'static> {
        Event {
            name: "before-resync-target",
            target: "minor-1".into(),
            peer: Some("10.10.10.2:7788".parse().unwrap()),
        }
    }

    #[tokio::test]
    async fn the_program_gets_event_target_and_environment_and_its_exit_code_is_the_answer() {
        let shell = Shell::new("echo \"$@\" >args; env >env; exit 7", 30);
        assert_eq!(shell.run().await, 7);
        assert_eq!(shell.read("args"), "minor-1\n");
        for line in ["HOME=/", "DRBD_PEER_AF=ipv4", "DRBD_PEER_ADDRESS=10.10.10.2", "URBD_RUN_DIR=/run/urbd"]
        {
            assert!(shell.read("env").lines().any(|found| found == line), "{line} in {}", shell.read("env"));
        }
    }

    #[tokio::test]
    async fn no_program_and_one_that_does_not_start_count_as_success() {
        let none = Handlers::new(&HandlerSettings::default(), "boole", Path::new("/"));
        assert_eq!(none.run(&event()).await, 0);
        let settings = HandlerSettings { program: Some("/nowhere/helper".into()), time_limit_s: 1 };
        assert_eq!(Handlers::new(&settings, "boole", Path::new("/")).run(&event()).await, 0);
    }

    #[tokio::test]
    async fn a_handler_that_hangs_is_killed_with_its_children() {
        let shell = Shell::new("sleep 1000 & sleep 1000", 1);
        assert_eq!(shell.run().await, TIMED_OUT);
    }

    #[tokio::test]
    async fn a_signal_is_told_apart_from_an_exit() {
        assert_eq!(Shell::new("kill -TERM $$", 30).run().await, 128 + 15);
    }
}
