//! Two nodes in the false world, and what `drbdadm` and the rest of the recording did to them.

use std::time::Duration;

use serde_json::{Value, json};
use urbd::cli::meta::access::find;
use urbd::cli::meta::dialogue::{Answers, Dialogue};
use urbd::cli::meta::verbs::apply_al;
use urbd::cli::meta_device::MetaDevice;
use urbd::config::options::{DiskOptions, NetOptions, ResourceOptions};
use urbd::meta::gi;
use urbd::meta::layout::{Layout, Placement, Striping};
use urbd::meta::superblock::Superblock;
use urbd::node::command::{Command, Outcome};
use urbd::sim::client::{Client, Wish};
use urbd::sim::disk::SimDisk;
use urbd::sim::world::World;
use urbd::units::VolumeId;

use super::scenario::{After, Config, Step};
use super::stage::{
    BLOCK, COMMON_NET, HANDLERS, NEVER_QUIET, QUIET, Stage, WRITE_PATIENCE, is_quiet, tag_of,
};

const VOLUME: VolumeId = VolumeId(0);
const DISK_BYTES: usize = 8 << 20;
/// No command of the recordings took longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a program takes before the next one begins.
const COMMAND_TIME: Duration = Duration::from_millis(30);

/// The two nodes.
pub(crate) struct Lab {
    pub(crate) world: World,
    net: [NetOptions; 2],
    disk: DiskOptions,
    options: ResourceOptions,
    /// Number of the last write.
    writes: u32,
    /// Clients that hold the device open as a mount does.
    mounts: [Option<Client>; 2],
    /// Writes that were given up and are not answered.
    stuck: Vec<(Client, u64)>,
    whole: bool,
    /// Show all handlers, not only those that were recorded.
    pub(crate) all_handlers: bool,
}

impl Lab {
    pub(crate) fn new(config: &Config, seed: u64) -> Self {
        let mut world = World::new(seed);
        for host in [0, 1] {
            let disk = SimDisk::zeroed("/dev/ubda", DISK_BYTES);
            world.add_disk(host, 0, disk);
            for (handler, exit) in &config.handler_exit {
                world.set_exit(host, handler, *exit);
            }
        }
        let net = [&config.net_boole, &config.net_cardan].map(|own| {
            let mut options = NetOptions::default();
            let protocol = config.protocol.as_deref().unwrap_or("C");
            options.set("protocol", Some(protocol)).unwrap();
            for text in [COMMON_NET, &config.net, own] {
                each_option(text, |name, value| options.set(name, value).unwrap());
            }
            options
        });
        let mut disk = DiskOptions::default();
        let rate = config.resync_rate.as_deref().unwrap_or("400M");
        for text in [format!("c-plan-ahead 0; resync-rate {rate};"), config.disk.clone()] {
            each_option(&text, |name, value| disk.set(name, value).unwrap());
        }
        let mut options = ResourceOptions::default();
        each_option(&config.options, |name, value| options.set(name, value).unwrap());
        let lab = Self {
            world,
            net,
            disk,
            options,
            writes: 0,
            mounts: [None, None],
            stuck: Vec::new(),
            whole: true,
            all_handlers: false,
        };
        for host in [0, 1] {
            lab.create_md(host);
        }
        lab
    }

    /// What is to be seen now, the handlers called since the last time included.
    pub(crate) fn look(&mut self, codes: Vec<Value>) -> After {
        let [a, b] = [0, 1].map(|host| state(&mut self.world, host));
        let [gi_a, gi_b] = [0, 1].map(|host| generation(&mut self.world, host));
        let [handlers_a, handlers_b] = [0, 1].map(|host| self.handlers(host));
        After { rc: Value::Array(codes), a: Some(a), b: Some(b), gi_a, gi_b, handlers_a, handlers_b }
    }

    fn handlers(&mut self, host: usize) -> Vec<String> {
        let calls = self.world.take_handler_calls(host);
        let names = calls.iter().map(|call| call.name);
        names.filter(|name| self.all_handlers || HANDLERS.contains(name)).map(str::to_owned).collect()
    }

    /// The second node ends the resync that runs; the link breaks before the first hears of it.
    pub(crate) fn finish_unheard(&mut self) {
        // It asks whether the source has processed all acks (W203); its new generation follows the answer.
        let current = |world: &mut World| world.status(1).map(|status| status.volumes[0].uuids[0]);
        let before = current(&mut self.world);
        let answered = self.world.run_until(NEVER_QUIET, |world| current(world) != before);
        self.world.hold(1, true);
        let finished = self.world.run_until(NEVER_QUIET, |world| state(world, 1).starts_with("Connected"));
        assert!(answered && finished, "the target ends by itself");
        self.world.cut();
        self.whole = false;
    }

    /// The first node derives the sync UUID; the link breaks before the second hears of it.
    pub(crate) fn lose_sync_uuid(&mut self) {
        self.world.join();
        let bitmap = |world: &mut World| world.status(0).map(|status| status.volumes[0].uuids[1]);
        let before = bitmap(&mut self.world);
        let derived = self.world.run_until(NEVER_QUIET, |world| bitmap(world) != before);
        assert!(derived, "the first node becomes the source");
        self.world.cut();
    }

    pub(crate) fn wait_until_quiet(&mut self) {
        let whole = self.whole;
        let started = self.world.now();
        self.world.run_until(NEVER_QUIET, |world| {
            let since = world.changed_at().max(started);
            world.now().since(since) >= QUIET && is_quiet(&[0, 1].map(|host| state(world, host)), whole)
        });
        self.settle_stuck();
    }

    /// Writes that were given up end when they can.
    fn settle_stuck(&mut self) {
        let stuck = std::mem::take(&mut self.stuck);
        for (mut client, cookie) in stuck {
            if self.world.answer(&mut client, cookie, Duration::ZERO).is_some() || client.is_closed() {
                self.world.close(&client);
            } else {
                self.stuck.push((client, cookie));
            }
        }
    }

    fn act(&mut self, host: usize, step: &Step) -> Value {
        match step.op() {
            "adm" => {
                let codes = self.adm(host, step.text(0).trim_end_matches(" r0"));
                self.world.run_for(COMMAND_TIME);
                codes
            }
            "write" => json!(self.write(host, step.number(0), step.number(1))),
            "gi" => {
                self.set_gi(host, step.text(0));
                json!(0)
            }
            "open" => {
                self.mounts[host] = Some(self.world.open(host, VOLUME).unwrap());
                json!(0)
            }
            "close" => {
                let client = self.mounts[host].take().unwrap();
                self.world.close(&client);
                json!(0)
            }
            "cut" => {
                self.world.cut();
                self.whole = false;
                json!(0)
            }
            "join" => {
                // The outage had been noticed before the link came back.
                self.world.run_until(PATIENCE, |world| {
                    [0, 1].into_iter().all(|host| !state(world, host).starts_with("Connected"))
                });
                self.world.join();
                self.whole = true;
                json!(0)
            }
            "crash" => {
                self.world.crash(host);
                self.stuck.retain(|(client, _)| client.host() != host);
                self.mounts[host] = None;
                json!(0)
            }
            "boot" => {
                self.world.boot(host);
                json!(0)
            }
            other => panic!("no step {other}"),
        }
    }

    /// `dd` of so many blocks, direct, one after the other.
    fn write(&mut self, host: usize, block: u64, count: u64) -> i32 {
        self.writes += 1;
        let tag = format!("{}{:06}\n", ["a", "b"][host], self.writes);
        let data = tag.repeat(BLOCK as usize / tag.len()).into_bytes();
        let Ok(mut client) = self.world.open(host, VOLUME) else { return 1 };
        let end = self.world.now().after(WRITE_PATIENCE);
        for block in block..block + count {
            let cookie = self.world.ask(&mut client, Wish::Write { offset: block * BLOCK, data: &data });
            let left = end.since(self.world.now());
            match self.world.answer(&mut client, cookie, left) {
                Some(answer) if answer.error == 0 => {}
                Some(_) => {
                    self.world.close(&client);
                    return 1;
                }
                None => {
                    self.stuck.push((client, cookie));
                    return 124;
                }
            }
        }
        self.world.close(&client);
        self.world.run_for(Duration::from_millis(1));
        0
    }

    /// `drbdadm`: exit code, and the number in its message.
    fn adm(&mut self, host: usize, line: &str) -> Value {
        let words: Vec<&str> = line.split(' ').filter(|word| *word != "--").collect();
        let verb = *words.iter().find(|word| !word.starts_with("--")).unwrap();
        let has = |flag: &str| words.contains(&flag);
        let volume = VOLUME;
        let outcome = match verb {
            "up" => return self.up(host),
            "down" => return self.down(host),
            "create-md" => {
                self.create_md(host);
                return json!([0]);
            }
            "new" => {
                self.make(host);
                return json!([0]);
            }
            "attach" => self.attach(host),
            "connect" => self.connect(host, has("--discard-my-data"), has("--tentative")),
            "primary" => self.command(host, Command::Primary { volume, force: has("--force") }),
            "secondary" => self.command(host, Command::Secondary { volume }),
            "disconnect" => self.command(host, Command::Disconnect { force: has("--force") }),
            "detach" => self.command(host, Command::Detach { volume, force: has("--force") }),
            "outdate" => {
                let code = exit_code(self.command(host, Command::Outdate { volume }).code);
                return json!([code]);
            }
            "invalidate" => self.command(host, Command::Invalidate { volume }),
            "invalidate-remote" => self.command(host, Command::InvalidateRemote { volume }),
            "verify" => self.command(host, Command::Verify { volume, start: None, stop: None }),
            "pause-sync" => self.command(host, Command::PauseSync { volume }),
            "resume-sync" => self.command(host, Command::ResumeSync { volume }),
            "suspend-io" => self.command(host, Command::SuspendIo { volume }),
            "resume-io" => self.command(host, Command::ResumeIo { volume }),
            "new-current-uuid" => {
                self.command(host, Command::NewCurrentUuid { volume, clear_bitmap: has("--clear-bitmap") })
            }
            other => Outcome::with(-1000, format!("no command {other}")),
        };
        if outcome.is_success() { json!([0]) } else { json!([exit_code(outcome.code), outcome.code]) }
    }

    fn command(&mut self, host: usize, command: Command) -> Outcome {
        if !self.world.has_resource(host) {
            return Outcome::of(158);
        }
        let text = format!("{command:?}");
        self.world
            .command(host, command, PATIENCE)
            .unwrap_or_else(|| Outcome::with(-1000, format!("{text} never ended")))
    }

    fn up(&mut self, host: usize) -> Value {
        self.make(host);
        for outcome in [self.attach(host), self.connect(host, false, false)] {
            if !outcome.is_success() {
                return json!([exit_code(outcome.code), outcome.code]);
            }
        }
        json!([0])
    }

    /// The resource and its volume, without disk and connection.
    fn make(&mut self, host: usize) {
        if !self.world.has_resource(host) {
            self.world.new_resource(host, self.options.clone());
            self.command(host, Command::NewMinor { volume: VOLUME, minor: 1 });
        }
    }

    fn down(&mut self, host: usize) -> Value {
        if !self.world.has_resource(host) {
            return json!([0]);
        }
        let outcome = self.command(host, Command::Down);
        if !outcome.is_success() {
            return json!([exit_code(outcome.code), outcome.code]);
        }
        self.world.del_resource(host);
        json!([0])
    }

    fn attach(&mut self, host: usize) -> Outcome {
        let mut device = Device(self.world.disk(host, 0).unwrap());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut dialogue = Dialogue::new(&mut out, &mut err, Answers::Force);
        apply_al(&mut device, Placement::Internal, &mut dialogue).unwrap();
        let pending = self.world.start_attach(host, VOLUME, self.disk.clone()).unwrap();
        self.world.finish(&pending, PATIENCE).unwrap()
    }

    /// `connect`. That a connection is configured already is seen before the core is asked.
    fn connect(&mut self, host: usize, discard_my_data: bool, tentative: bool) -> Outcome {
        let status = self.world.status(host).unwrap();
        if status.cstate != "StandAlone" {
            return Outcome::of(102);
        }
        let (local, peer) = (self.world.address(host), self.world.address(1 - host));
        let options = Box::new(self.net[host].clone());
        self.command(host, Command::Connect { local, peer, options, discard_my_data, tentative })
    }

    fn create_md(&self, host: usize) {
        let disk = self.world.disk(host, 0).unwrap();
        let layout = Layout::new(Placement::Internal, DISK_BYTES as u64 / 512, Striping::DEFAULT).unwrap();
        for offset in (layout.al_byte()..layout.al_byte() + layout.al_bytes()).step_by(4096) {
            disk.write_at(offset, &urbd::meta::activity_log::initialised_block()).unwrap();
        }
        disk.write_at(layout.superblock_byte(), &Superblock::just_created(4096).encode(&layout)).unwrap();
    }

    fn set_gi(&self, host: usize, list: &str) {
        let mut device = Device(self.world.disk(host, 0).unwrap());
        let mut found = find(&mut device, Placement::Internal).unwrap().unwrap();
        found.superblock = gi::set_gi(&found.superblock, list).unwrap();
        found.store(&mut device).unwrap();
    }
}

impl Stage for Lab {
    fn play(&mut self, step: &Step) -> After {
        let codes: Vec<Value> = step.hosts().into_iter().map(|host| self.act(host, step)).collect();
        if step.is_nowait() {
            self.world.run_until(NEVER_QUIET, |world| {
                let states = [0, 1].map(|host| state(world, host));
                states.iter().any(|s| s.starts_with("SyncSource"))
                    && states.iter().any(|s| s.starts_with("SyncTarget"))
            });
            self.world.run_for(Duration::from_millis(300));
            return After { rc: Value::Array(codes), ..After::default() };
        }
        // A cut was noticed later, but in a resync, which is not quiet.
        let syncing = [0, 1].into_iter().any(|host| state(&mut self.world, host).starts_with("Sync"));
        if step.op() != "cut" || syncing {
            self.wait_until_quiet();
        }
        self.look(codes)
    }

    fn tag(&self, host: usize, block: u64) -> String {
        let mut bytes = [0; 8];
        self.world.disk(host, 0).unwrap().read_at(block * BLOCK, &mut bytes).unwrap();
        tag_of(bytes)
    }
}

/// State as `/proc/drbd` shows it, or what there is instead of the resource.
fn state(world: &mut World, host: usize) -> String {
    if !world.is_up(host) {
        return "down".into();
    }
    let Some(status) = world.status(host) else { return "absent".into() };
    let Some(v) = status.volumes.first() else { return "absent".into() };
    format!("{} {}/{} {}/{}", v.cstate, v.role, v.peer_role, v.disk, v.peer_disk)
}

/// UUIDs and flags as `get-gi` prints them; nothing without a disk.
fn generation(world: &mut World, host: usize) -> Option<String> {
    let status = world.status(host)?;
    let v = status.volumes.first().filter(|v| v.disk != "Diskless")?;
    let uuids = v.uuids.map(|uuid| format!("{uuid:016x}"));
    let flag = |bit: u32| if v.md_flags & bit == 0 { "0" } else { "1" };
    let flags = [0x1, 0x10, 0x2, 0x4, 0x8, 0x20, 0x40].map(flag);
    Some(format!("{} {}", uuids.join(":"), flags.join(":")))
}

/// Exit code of the tools (S35).
fn exit_code(code: i32) -> i32 {
    match code {
        1..=4 | 101 => 0,
        -2 => 17,
        -16 => 5,
        -4 => 16,
        -21..=0 => 11,
        102..=170 => 10,
        _ => 20,
    }
}

/// Options as a resource file has them.
fn each_option(text: &str, mut set: impl FnMut(&str, Option<&str>)) {
    for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
        match option.split_once(' ') {
            Some((name, value)) => set(name, Some(value.trim_matches('"'))),
            None => set(option, None),
        }
    }
}

/// The disk as the offline tools see it.
struct Device(SimDisk);

impl MetaDevice for Device {
    fn name(&self) -> &str {
        "/dev/ubda"
    }

    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, byte: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(byte, buf).map_err(|fault| std::io::Error::other(format!("{fault:?}")))
    }

    fn write_at(&mut self, byte: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write_at(byte, data).map_err(|fault| std::io::Error::other(format!("{fault:?}")))
    }

    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
