//! urbd on the host's side of the lab: the daemon, and its commands.

use std::fs::{self, File};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::guest::Answer;
use super::lab::{Lab, poll};
use super::nbd::Nbd;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const CLIENT_LIMIT: Duration = Duration::from_secs(30);

/// A running daemon with its run directory, configuration file and log. A drop is `kill -9`.
pub struct Urbd {
    name: String,
    run_dir: PathBuf,
    conf: PathBuf,
    log: PathBuf,
    process: Child,
}

impl Urbd {
    /// Starts a daemon as node `name` with the resource file `conf` (its text) and settings (TOML text), and waits
    /// until it says that it is ready.
    pub fn start(lab: &Lab, name: &str, conf: &str, settings: &str) -> Self {
        let run_dir = lab.socket_dir(name);
        fs::create_dir_all(&run_dir).unwrap();
        let settings_path = lab.file(&format!("{name}.toml"));
        fs::write(&settings_path, settings).unwrap();
        let log = log(lab, name);

        let notify_path = run_dir.join("notify.sock");
        let _ = fs::remove_file(&notify_path);
        let notify = UnixDatagram::bind(&notify_path).unwrap();
        notify.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_urbd"))
            .arg("--settings")
            .arg(settings_path)
            .args(["--node", name, "--run-dir"])
            .arg(&run_dir)
            .env("NOTIFY_SOCKET", &notify_path)
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let mut urbd =
            Self { name: name.into(), run_dir, conf: lab.file(&format!("{name}.conf")), log, process };
        urbd.configure(conf);
        urbd.await_ready(&notify);
        urbd
    }

    /// The node's name, as in the `on NAME` sections.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `urbdadm` with these words, for this daemon.
    pub fn run_adm(&self, words: &str) -> Answer {
        let mut command = self.tool(env!("CARGO_BIN_EXE_urbdadm"));
        command.arg("-c").arg(&self.conf);
        answer(command.args(words.split_whitespace()))
    }

    /// `urbdadm` with these words; what it printed. Its failure fails the test.
    pub fn adm(&self, words: &str) -> String {
        self.run_adm(words).success(&format!("{}: urbdadm {words}", self.name))
    }

    /// Opens an export on the daemon's own socket.
    pub fn open(&self, export: &str) -> std::io::Result<Nbd<UnixStream>> {
        self.open_within(export, CLIENT_LIMIT)
    }

    /// As [`Self::open`]; no answer may take longer than `limit`.
    pub fn open_within(&self, export: &str, limit: Duration) -> std::io::Result<Nbd<UnixStream>> {
        let stream = UnixStream::connect(self.run_dir.join("nbd.sock"))?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Nbd::open(stream, export)
    }

    /// Replaces the resource file.
    pub fn configure(&self, conf: &str) {
        fs::write(&self.conf, format!("global {{ usage-count no; }}\n{conf}")).unwrap();
    }

    /// What daemon `name` has logged so far, in all its lives.
    pub fn log(lab: &Lab, name: &str) -> String {
        read(&log(lab, name))
    }

    /// Stops the daemon with SIGTERM; it must end by itself with status 0.
    pub fn stop(mut self) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = poll(
            STOP_LIMIT,
            || self.process.try_wait().unwrap(),
            || format!("{} ignores SIGTERM", self.name),
        );
        assert!(status.success(), "{} ended with {status}\n{}", self.name, read(&self.log));
    }

    /// Ends the daemon at once.
    pub fn kill(self) {
        drop(self);
    }

    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["--node", &self.name, "--run-dir"]).arg(&self.run_dir);
        command
    }

    fn await_ready(&mut self, notify: &UnixDatagram) {
        let end = Instant::now() + START_LIMIT;
        let mut message = [0; 512];
        loop {
            if let Ok(bytes) = notify.recv(&mut message)
                && message[..bytes].split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
            {
                break;
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("urbd {} ended with {status} before it was ready\n{}", self.name, read(&self.log));
            }
            assert!(Instant::now() < end, "urbd {} is not ready\n{}", self.name, read(&self.log));
        }
        UnixStream::connect(self.run_dir.join("control.sock")).expect("a ready daemon takes commands");
    }
}

impl Drop for Urbd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn log(lab: &Lab, name: &str) -> PathBuf {
    lab.file(&format!("{name}.urbd.log"))
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned()
}

/// Runs a program on the host's side to its end.
pub fn answer(command: &mut Command) -> Answer {
    let done = command.stdin(Stdio::null()).output().unwrap();
    Answer { status: done.status.code().unwrap_or(-1), out: done.stdout, err: done.stderr }
}
