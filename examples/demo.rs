//! Two nodes on this machine, from the first sync to a failover and back. No root, nothing to
//! configure: files as disks, loopback as network, unix sockets as NBD devices.
//!
//! What is acknowledged before the Primary is killed in the middle of a write stream must be there
//! on the other node. Each block carries its number in every word, so a lost or torn write cannot
//! look like a good one.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

#[allow(dead_code)]
#[path = "../tests/kernel/nbd.rs"]
mod nbd;

use nbd::Nbd;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const DISK_BYTES: u64 = 192 << 20;
const BLOCK: usize = 64 << 10;
/// Writes acknowledged before the Primary is killed.
const ENOUGH: u64 = 800;
/// No step takes longer: a demo that hangs is worse than one that fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let started = Instant::now();
    let stage = Stage::set()?;
    let result = play(&stage);
    if result.is_err() {
        for node in ["boole", "cardan"] {
            let log = std::fs::read_to_string(stage.file(&format!("{node}.log"))).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("--- end of {node}'s log");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
    result?;
    say(&format!("Done in {} s; everything is cleaned up.", started.elapsed().as_secs()));
    Ok(())
}

fn play(stage: &Stage) -> Result<()> {
    say("1. Two nodes, boole and cardan, each with a disk (a file) and fresh metadata.");
    for node in ["boole", "cardan"] {
        File::create(stage.file(&format!("{node}.img")))?.set_len(DISK_BYTES)?;
        stage.adm(node, &["create-md", "--force", "r0"])?;
    }
    let mut boole = stage.daemon("boole")?;
    let _cardan = stage.daemon("cardan")?;
    for node in ["boole", "cardan"] {
        stage.adm(node, &["up", "r0"])?;
    }
    stage.wait("boole", "cstate", "Connected")?;
    show(stage, "boole")?;

    say("2. boole becomes Primary; its disk is copied to cardan.");
    stage.adm("boole", &["primary", "--force", "r0"])?;
    stage.watch("boole", &["wait-sync", "r0"])?;
    stage.wait("boole", "dstate", "UpToDate/UpToDate")?;
    show(stage, "boole")?;

    say("3. Four clients write through NBD on boole; a write is on both disks before it is answered.");
    let written = write_until_killed(stage, &mut boole)?;
    let total: usize = written.iter().map(Vec::len).sum();
    say(&format!("   boole was killed (SIGKILL) in mid-stream: {total} writes of 64 KiB were acknowledged."));

    say("4. cardan takes over, and every acknowledged write is looked for there.");
    stage.wait("cardan", "cstate", "WFConnection")?;
    stage.adm("cardan", &["primary", "r0"])?;
    let mut client = stage.open("cardan")?;
    check(&mut client, &written)?;
    say(&format!("   All {total} are there, whole. The service goes on: cardan writes alone."));
    for number in 0..64 {
        client.write(number * BLOCK as u64, &block(number, !number))?;
    }
    client.flush()?;
    show(stage, "cardan")?;

    say("5. boole comes back: its activity log says where it may differ, and only that is copied.");
    let _boole = stage.daemon("boole")?;
    stage.adm("boole", &["up", "r0"])?;
    stage.wait("cardan", "cstate", "Connected")?;
    stage.wait("cardan", "dstate", "UpToDate/UpToDate")?;
    say(&format!("   boole's log: {}", stage.log_line("boole", "Began resync")?));
    show(stage, "cardan")?;
    drop(client);

    say("6. Both are taken down, and the two disks are compared byte by byte.");
    for node in ["cardan", "boole"] {
        stage.adm(node, &["down", "r0"])?;
    }
    let a = std::fs::read(stage.file("boole.img"))?;
    let b = std::fs::read(stage.file("cardan.img"))?;
    // Behind the data lies each node's own metadata, less than a mebibyte of it.
    let data = DISK_BYTES as usize - (1 << 20);
    if let Some(at) = (0..data).find(|at| a[*at] != b[*at]) {
        return Err(format!("the disks differ at byte {at}").into());
    }
    say("   They are equal.");
    say("Shown: a first sync, synchronous mirroring over NBD, the death of the Primary in the middle of\n\
         its work, a failover that lost nothing acknowledged, and a resync of only what could differ.");
    Ok(())
}

/// Four clients write stamped blocks until boole is killed in the middle of it. Returns, for each
/// client, the numbers of the blocks acknowledged.
fn write_until_killed(stage: &Stage, boole: &mut Daemon) -> Result<Vec<Vec<u64>>> {
    const CLIENTS: u64 = 4;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    for client in 0..CLIENTS {
        let mut nbd = stage.open("boole")?;
        let (acknowledged, stop, sender) = (Arc::clone(&acknowledged), Arc::clone(&stop), sender.clone());
        thread::spawn(move || {
            let blocks = nbd.bytes() / BLOCK as u64;
            let mut done = Vec::new();
            for number in (client..blocks).step_by(CLIENTS as usize) {
                let ended = stop.load(Ordering::Relaxed);
                if ended || nbd.write(number * BLOCK as u64, &block(number, number)).is_err() {
                    break;
                }
                done.push(number);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            let _ = sender.send(done);
        });
    }
    drop(sender);
    let until = Instant::now() + PATIENCE;
    while acknowledged.load(Ordering::Relaxed) < ENOUGH {
        if Instant::now() > until {
            stop.store(true, Ordering::Relaxed);
            return Err("the clients write too slowly".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    boole.child.kill()?;
    boole.child.wait()?;
    Ok(receiver.iter().collect())
}

/// Looks for every acknowledged block.
fn check(client: &mut Nbd<UnixStream>, written: &[Vec<u64>]) -> Result<()> {
    for number in written.iter().flatten() {
        if client.read(number * BLOCK as u64, BLOCK as u32)? != block(*number, *number) {
            return Err(format!("LOST: block {number} was acknowledged and is not there").into());
        }
    }
    Ok(())
}

/// A block that says all over which it is.
fn block(number: u64, stamp: u64) -> Vec<u8> {
    let words = (0..BLOCK as u64 / 16).flat_map(|word| [number << 16 | word, stamp ^ 0x5bd1_e995_9d1e_7a55]);
    words.flat_map(u64::to_be_bytes).collect()
}

/// The folder with everything, and the way to the programs.
struct Stage {
    dir: tempfile::TempDir,
    programs: PathBuf,
}

/// A running daemon; it ends with the demo.
struct Daemon {
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage {
    fn set() -> Result<Self> {
        let own = std::env::current_exe()?;
        let programs = own.parent().and_then(Path::parent).ok_or("no folder of programs")?.to_owned();
        if !programs.join("urbd").exists() {
            return Err(format!("{} has no urbd: run `make demo`", programs.display()).into());
        }
        let stage = Self { dir: tempfile::Builder::new().prefix("urbd-demo-").tempdir()?, programs };
        let on = |node: &str| -> Result<String> {
            let disk = stage.file(&format!("{node}.img"));
            Ok(format!(
                "    on {node} {{ device /dev/drbd1; disk {}; address 127.0.0.1:{}; meta-disk internal; }}\n",
                disk.display(),
                free_port()?
            ))
        };
        let conf = format!(
            "resource r0 {{\n    protocol C;\n    disk {{ c-plan-ahead 0; resync-rate 400M; }}\n    \
             net {{ cram-hmac-alg sha1; shared-secret \"demo\"; ping-int 2; connect-int 2; timeout 15; }}\n{}{}}}\n",
            on("boole")?,
            on("cardan")?
        );
        std::fs::write(stage.file("r0.res"), conf)?;
        std::fs::write(stage.file("urbd.toml"), "[nbd]\nlisten = []\n")?;
        Ok(stage)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn daemon(&self, node: &str) -> Result<Daemon> {
        std::fs::create_dir_all(self.file(node))?;
        let log = File::options().create(true).append(true).open(self.file(&format!("{node}.log")))?;
        let mut command = Command::new(self.programs.join("urbd"));
        command.arg("--settings").arg(self.file("urbd.toml"));
        command.args(["--node", node, "--run-dir"]).arg(self.file(node));
        let daemon = Daemon { child: command.stdin(Stdio::null()).stderr(log).spawn()? };
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(self.file(node).join("control.sock")).is_err() {
            if Instant::now() > until {
                return Err(format!("{node}'s daemon does not answer").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    fn command(&self, node: &str, words: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("urbdadm"));
        command.arg("-c").arg(self.file("r0.res")).args(["--node", node, "--run-dir"]).arg(self.file(node));
        command.args(words).stdin(Stdio::null());
        command
    }

    fn adm(&self, node: &str, words: &[&str]) -> Result<String> {
        let output = self.command(node, words).output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{node}: urbdadm {}: {why}", words.join(" ")).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command whose progress the reader watches.
    fn watch(&self, node: &str, words: &[&str]) -> Result<()> {
        let status = self.command(node, words).status()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{node}: urbdadm {}: {status}", words.join(" ")).into())
        }
    }

    /// Waits until a one-word command answers this.
    fn wait(&self, node: &str, verb: &str, wanted: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.adm(node, &[verb, "r0"])?;
            if answer.trim() == wanted {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("{node}: waited for {verb} {wanted}, it is {}", answer.trim()).into());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn open(&self, node: &str) -> Result<Nbd<UnixStream>> {
        Ok(Nbd::open(UnixStream::connect(self.file(node).join("nbd.sock"))?, "r0")?)
    }

    /// The last line of a node's log with these words, from there on.
    fn log_line(&self, node: &str, words: &str) -> Result<String> {
        let log = std::fs::read_to_string(self.file(&format!("{node}.log")))?;
        let line = log.lines().rev().find(|line| line.contains(words)).ok_or("no such line in the log")?;
        let from = line.find(words).unwrap_or(0);
        let to = line.find(" resource=").unwrap_or(line.len());
        Ok(line[from..to].to_owned())
    }
}

fn show(stage: &Stage, node: &str) -> Result<()> {
    for line in stage.adm(node, &["status", "r0"])?.lines().filter(|line| !line.is_empty()) {
        println!("      {node}: {line}");
    }
    Ok(())
}

fn say(text: &str) {
    println!("{text}");
    let _ = io::stdout().flush();
}

/// A port of loopback that nobody uses.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
