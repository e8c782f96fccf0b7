//! An `urbd` daemon as a node of a scenario.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::harness::guest::Answer;
use super::harness::lab::{HOST, HOST_TOO};
use super::harness::nbd::Nbd;
use super::harness::urbd::answer;
use super::harness::{Lab, Urbd};
use super::pair::{DISK_BYTES, Machine, generation_of, port, state_in};
use super::stage::{BLOCK, WRITE_PATIENCE, tag_of};

const RESOURCE: &str = "r0";
/// How long a client that nobody waits for any more keeps its connection.
const STUCK: Duration = Duration::from_secs(600);

/// A daemon and its disk.
pub(crate) struct Daemon<'a> {
    lab: &'a Lab,
    name: String,
    address: String,
    minor: u32,
    disk: PathBuf,
    calls: PathBuf,
    conf: String,
    log_seen: usize,
    urbd: Option<Urbd>,
    mount: Option<Nbd<UnixStream>>,
}

impl<'a> Daemon<'a> {
    /// The daemon of a pair that is node a (0) or b (1).
    pub(crate) fn new(lab: &'a Lab, pair: usize, host: usize) -> Self {
        let name = format!("urbd{pair}{}", ["a", "b"][host]);
        // Minors have locks that the whole machine shares.
        let minor = 100 + (2 * pair + host) as u32;
        let disk = lab.file(&format!("{name}.img"));
        // A new one: a handler of the daemon before may outlive it, and only now come to write.
        static LAST: AtomicU32 = AtomicU32::new(0);
        let calls = lab.file(&format!("calls{}", LAST.fetch_add(1, Ordering::Relaxed)));
        fs::write(&calls, "").unwrap();
        let _ = fs::remove_file(&disk);
        File::create(&disk).unwrap().set_len(DISK_BYTES).unwrap();
        let log_seen = fs::read(lab.file(&format!("{name}.urbd.log"))).map_or(0, |log| log.len());
        let address = format!("{}:{}", [HOST, HOST_TOO][host], port(pair));
        Self {
            lab,
            name,
            address,
            minor,
            disk,
            calls,
            conf: String::new(),
            log_seen,
            urbd: None,
            mount: None,
        }
    }

    fn urbd(&self) -> &Urbd {
        self.urbd.as_ref().expect("a daemon that is alive")
    }
}

impl Machine for Daemon<'_> {
    fn section(&self) -> String {
        let Self { name, address, minor, disk, .. } = self;
        format!(
            "on {name} {{ device minor {minor}; disk {}; address {address}; meta-disk internal; }}\n",
            disk.display()
        )
    }

    fn calls(&self) -> String {
        self.calls.display().to_string()
    }

    fn start(&mut self, conf: &str) {
        self.conf = conf.to_owned();
        self.boot();
        self.urbd().adm(&format!("create-md --force {RESOURCE}"));
    }

    fn adm(&self, words: &str) -> Answer {
        self.urbd().run_adm(words)
    }

    fn state(&self) -> String {
        state_in(&self.urbd().adm("proc"), self.minor)
    }

    fn generation(&self) -> Option<String> {
        generation_of(&self.adm(&format!("get-gi {RESOURCE}")))
    }

    fn called(&self) -> String {
        fs::read_to_string(&self.calls).unwrap()
    }

    fn write(&mut self, block: u64, count: u64, data: &[u8]) -> i32 {
        let Ok(mut client) = self.urbd().open_within(RESOURCE, STUCK) else { return 1 };
        let (tell, written) = channel();
        let data = data.to_vec();
        std::thread::spawn(move || {
            let mut each = block..block + count;
            let done = each.try_for_each(|block| {
                client.write(block * BLOCK, &data)?;
                client.flush()
            });
            drop(client); // the device is closed before the next step
            let _ = tell.send(done);
        });
        match written.recv_timeout(WRITE_PATIENCE) {
            Ok(Ok(())) => 0,
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => 1,
            Err(RecvTimeoutError::Timeout) => 124,
        }
    }

    fn set_gi(&self, list: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_urbdmeta"));
        command.arg("--state-dir").arg(self.disk.parent().unwrap());
        command.args(["--force", &self.minor.to_string(), "v08"]).arg(&self.disk);
        answer(command.args(["internal", "set-gi", list])).success("set-gi");
    }

    fn open(&mut self) {
        self.mount = Some(self.urbd().open_within(RESOURCE, STUCK).unwrap());
    }

    fn close(&mut self) {
        self.mount = None;
    }

    fn crash(&mut self) {
        self.urbd.take().expect("a daemon that is alive").kill();
        self.mount = None;
    }

    fn boot(&mut self) {
        let settings =
            format!("[nbd]\nlisten = []\n[handlers]\nprogram = \"{}\"\n", env!("CARGO_BIN_EXE_urbdadm"));
        self.urbd = Some(Urbd::start(self.lab, &self.name, &self.conf, &settings));
    }

    fn tag(&self, block: u64) -> String {
        let mut bytes = [0; 8];
        File::open(&self.disk).unwrap().read_exact_at(&mut bytes, block * BLOCK).unwrap();
        tag_of(bytes)
    }

    fn log(&self) -> String {
        Urbd::log(self.lab, &self.name).split_off(self.log_seen)
    }
}
