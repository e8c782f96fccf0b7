//! A machine with the in-kernel DRBD 8.4: Debian's User-Mode Linux kernel, run as an ordinary process.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::lab::{Lab, host_sh, poll};

const INIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kernel/guest-init");
const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kernel/guest-agent");
/// What User-Mode Linux lacks on processors with large register states; its comment says more.
const XSTATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kernel/uml-xstate.c");
/// What the agent prints once it listens.
const READY: &str = "guest-agent: ready";
const AGENT_PORT: u16 = 7001;
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// How long what the kernel logs may take to arrive.
const CONSOLE_LIMIT: Duration = Duration::from_secs(30);
/// How long a command in a guest may take, seconds.
const COMMAND_LIMIT_S: u64 = 60;

/// A running guest. Its root is the host's, read-only; a drop is a power failure.
pub struct Guest {
    name: String,
    tap: String,
    process: Child,
    agent: RefCell<BufReader<TcpStream>>,
}

/// What a command in a guest, or a program on the host, left.
pub struct Answer {
    /// The exit status.
    pub status: i32,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
}

impl Answer {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Both outputs, for messages.
    pub fn all(&self) -> String {
        format!("exit {}: {}{}", self.status, self.text(), String::from_utf8_lossy(&self.err))
    }

    /// Standard output; anything but exit status 0 fails the test.
    pub fn success(self, what: &str) -> String {
        assert!(self.status == 0, "{what}: {}", self.all());
        self.text()
    }
}

impl Guest {
    /// Boots guest `name` as 10.77.0.`number`. `disks` become /dev/ubda, /dev/ubdb …; `modules` are loaded besides
    /// DRBD's, named by their path in the kernel's module tree, without `.ko`.
    pub fn boot(lab: &Lab, name: &str, number: u8, disks: &[&Path], modules: &[&str]) -> Self {
        let tap = format!("tap{number}");
        let address = format!("10.77.0.{number}");
        // The same hardware address at each boot, known from the start: a guest that comes back is not looked for
        // where it was, and what its neighbours gave up asking for while it was away does not matter.
        let mac = format!("02:00:00:00:00:{number:02x}");
        host_sh(&format!(
            "ip tuntap add dev {tap} mode tap
             ip link set {tap} master br0
             ip link set {tap} up
             ip neighbour replace {address} lladdr {mac} dev br0 nud permanent"
        ));
        let mut command = Command::new("linux.uml");
        command
            .env("LD_PRELOAD", xstate(lab, name))
            .args(["mem=192M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "printk.time=1"])
            // gro=1: the driver drops merged frames otherwise, and the link crawls.
            .arg(format!("vec0:transport=tap,ifname={tap},depth=128,gro=1,mac={mac}"))
            .args(["con=null", "con0=null,fd:1"])
            .arg(format!("uml_dir={}", lab.socket_dir("uml").display()))
            .args([format!("init={INIT}"), format!("LAB_AGENT={AGENT}"), format!("LAB_NODE={name}")])
            .args([format!("LAB_IP={address}"), format!("LAB_MODULES={}", modules.join(","))])
            // Not the driver's synchronous mode: it writes each page for itself and waits for the host's disk each
            // time, minutes for a full sync on a busy one. What the guest flushes is synced without it, and what it
            // wrote outlives its power failure: the host goes on.
            .args(disks.iter().enumerate().map(|(n, disk)| format!("ubd{n}={}", disk.display())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let mut process = command.spawn().unwrap();
        let ready = follow(process.stdout.take().unwrap(), &console(lab, name));
        if ready.recv_timeout(BOOT_LIMIT).is_err() {
            stop(&mut process);
            let said = std::fs::read(console(lab, name)).unwrap_or_default();
            let last = String::from_utf8_lossy(&said[said.len().saturating_sub(2000)..]).into_owned();
            panic!("guest {name} did not boot; the end of its console:\n{last}");
        }
        let agent = TcpStream::connect((address.as_str(), AGENT_PORT)).unwrap();
        agent.set_read_timeout(Some(Duration::from_secs(COMMAND_LIMIT_S + 10))).unwrap();
        let agent = RefCell::new(BufReader::new(agent));
        Self { name: name.into(), tap, process, agent }
    }

    /// The host name in the guest, as in the `on NAME` sections.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs shell text in the guest.
    pub fn run(&self, script: &str) -> Answer {
        self.run_with(script, &[])
    }

    /// Runs shell text in the guest with `input` as its standard input.
    pub fn run_with(&self, script: &str, input: &[u8]) -> Answer {
        self.ask(COMMAND_LIMIT_S, script, input)
    }

    /// What a file in the guest holds, nothing if there is none. It costs much less than a command.
    pub fn read_file(&self, path: &str) -> String {
        self.ask(0, path, &[]).text()
    }

    /// Asks the agent, whose file says what it understands.
    fn ask(&self, limit_s: u64, script: &str, input: &[u8]) -> Answer {
        let mut agent = self.agent.borrow_mut();
        let header = format!("{limit_s} {} {}\n", script.len(), input.len());
        let request = [header.as_bytes(), script.as_bytes(), input].concat();
        agent.get_mut().write_all(&request).unwrap();
        let mut header = String::new();
        let got = agent.read_line(&mut header);
        assert!(matches!(got, Ok(1..)), "{}: no answer to: {script} ({got:?})", self.name);
        let numbers: Vec<i64> = header.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let &[status, out, err] = numbers.as_slice() else { panic!("{}: answered {header:?}", self.name) };
        let mut take = |bytes: i64| {
            let mut text = vec![0; usize::try_from(bytes).unwrap()];
            agent.read_exact(&mut text).unwrap();
            text
        };
        Answer { status: i32::try_from(status).unwrap(), out: take(out), err: take(err) }
    }

    /// Runs shell text in the guest; what it printed. Its failure fails the test.
    pub fn sh(&self, script: &str) -> String {
        self.run(script).success(&format!("{}: {script}", self.name))
    }

    /// Writes a file in the guest.
    pub fn write_file(&self, path: &str, text: &str) {
        self.run_with(&format!("cat > {path}"), text.as_bytes()).success(path);
    }

    /// Waits until all that the kernel has logged before this call is in [`Guest::console`]: it comes through a pipe and
    /// two processes, and may be late.
    pub fn await_console(&self, lab: &Lab) {
        let seen = Self::console(lab, &self.name).len();
        let mark = format!("the log of {} up to byte {seen} is read", self.name);
        self.sh(&format!("echo '<2>{mark}' >/dev/kmsg"));
        poll(
            CONSOLE_LIMIT,
            || Self::console(lab, &self.name)[seen..].contains(&mark).then_some(()),
            || format!("{}: the console does not show {mark:?}", self.name),
        );
    }

    /// What the kernel of guest `name` has logged in all its lives, as far as it has arrived here.
    pub fn console(lab: &Lab, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(console(lab, name)).unwrap()).into_owned()
    }

    /// Ends the guest at once; what its kernel had not written is lost.
    pub fn power_fail(self) {
        drop(self);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        stop(&mut self.process);
        let _ = Command::new("ip").args(["link", "delete", &self.tap]).status();
    }
}

fn console(lab: &Lab, name: &str) -> PathBuf {
    lab.file(&format!("{name}.console.log"))
}

/// Builds [`XSTATE`] for the lab's guests, with the compiler that Rust links with. Guests may boot side by side: the
/// library is there as a whole, or not.
fn xstate(lab: &Lab, name: &str) -> PathBuf {
    let library = lab.file("uml-xstate.so");
    if !library.exists() {
        let own = lab.file(&format!("uml-xstate.{name}.so"));
        let compile =
            Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&own).arg(XSTATE).status();
        assert!(compile.is_ok_and(|status| status.success()), "cc does not compile {XSTATE}");
        std::fs::rename(&own, &library).unwrap();
    }
    library
}

fn stop(process: &mut Child) {
    if let Some(group) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL); // a guest is several processes
    }
    let _ = process.wait();
}

/// Copies the console to a file; the receiver hears when the agent listens, and hangs up when the guest ends.
fn follow(console: impl Read + Send + 'static, path: &Path) -> mpsc::Receiver<()> {
    let (tell, ready) = mpsc::channel();
    let mut log = File::options().create(true).append(true).open(path).unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n') {
            let Ok(line) = line else { return };
            let _ = log.write_all(&[&line, b"\n".as_slice()].concat());
            if String::from_utf8_lossy(&line).trim_end() == READY {
                let _ = tell.send(());
            }
        }
    });
    ready
}
