//! One `urbd` process.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{ADM, LIMIT, wait_until};

/// Settings of a daemon that listens on no TCP port.
pub const LOCAL_ONLY: &str = "[nbd]\nlisten = []\n";

/// A running daemon. A drop is `kill -9`; its log is shown if the test fails.
pub struct Daemon {
    pub node: String,
    pub run_dir: PathBuf,
    log: PathBuf,
    process: Child,
}

impl Daemon {
    /// Starts a daemon below `dir` and waits until it says that it is ready.
    pub fn start(dir: &Path, node: &str, settings: &str) -> Self {
        let run_dir = dir.join(format!("run-{node}"));
        fs::create_dir_all(&run_dir).unwrap();
        let file = dir.join(format!("{node}.toml"));
        fs::write(&file, settings).unwrap();
        let notify_path = run_dir.join("notify");
        let _ = fs::remove_file(&notify_path);
        let notify = UnixDatagram::bind(&notify_path).unwrap();
        notify.set_read_timeout(Some(LIMIT)).unwrap();
        let log = dir.join(format!("{node}.log"));
        let process = Command::new(env!("CARGO_BIN_EXE_urbd"))
            .args(["--node", node, "--run-dir"])
            .arg(&run_dir)
            .arg("--settings")
            .arg(file)
            .env("NOTIFY_SOCKET", &notify_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let mut message = [0; 64];
        let ready = notify.recv(&mut message);
        let shown = || fs::read_to_string(&log).unwrap_or_default();
        let bytes = ready.unwrap_or_else(|error| panic!("{node} is not ready ({error}):\n{}", shown()));
        assert_eq!(&message[..bytes], b"READY=1\n");
        Self { node: node.to_owned(), run_dir, log, process }
    }

    pub fn adm(&self, conf: &Path, words: &str) -> Command {
        let mut command = Command::new(ADM);
        command.args(["--node", &self.node, "--run-dir"]).arg(&self.run_dir).arg("-c").arg(conf);
        command.args(words.split(' ')).stdin(Stdio::null());
        command
    }

    /// Its NBD socket.
    pub fn nbd_sock(&self) -> PathBuf {
        self.run_dir.join("nbd.sock")
    }

    /// Its control socket.
    pub fn control_sock(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }

    /// An export of its unix socket, for NBD clients.
    pub fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.nbd_sock().display())
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line of the log with all these words.
    pub fn wait_log(&self, words: &[&str]) {
        wait_until(&format!("{} logs {words:?}", self.node), || {
            self.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
        });
    }

    /// A number of `/proc/PID/status`, in KiB: `VmRSS`, or `VmHWM`, its highest value.
    pub fn memory_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok()).unwrap()
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM: it must end by itself, with status 0.
    pub fn stop(self) {
        self.signal(rustix::process::Signal::TERM);
        self.ends();
    }

    /// After its SIGTERM: waits for its end.
    pub fn ends(mut self) {
        let end = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "{} ignores SIGTERM", self.node);
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}");
        assert!(!self.control_sock().exists());
    }

    pub fn kill(self) {
        drop(self);
    }

    /// `kill -9`, and it is gone.
    pub fn kill_now(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.node, fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}
