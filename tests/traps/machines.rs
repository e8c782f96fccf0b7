//! Two machines in the false world, and the few things that a schedule does with them.

use std::collections::BTreeSet;
use std::time::Duration;

use urbd::config::options::{DiskOptions, NetOptions, ResourceOptions};
use urbd::node::command::{Command, Outcome};
use urbd::node::status::VolumeStatus;
use urbd::sim::chaos::{apply_al, create_md};
use urbd::sim::client::{Client, Wish};
use urbd::sim::disk::{Device, SimDisk};
use urbd::sim::world::{Pending, World};
use urbd::units::VolumeId;

pub(crate) const VOLUME: VolumeId = VolumeId(0);
pub(crate) const BLOCK: u64 = 4096;
/// The machine that is Primary in the beginning.
pub(crate) const A: usize = 0;
/// The other one.
pub(crate) const B: usize = 1;
/// Whatever ends at all has ended by then.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// What the kernel's DRBD announces (W37).
const KERNEL_FEATURES: u32 = 0xf;
const DATA_BYTES: u64 = 40 << 20;
const META_BYTES: u64 = 1 << 20;

/// What both nodes show when all is well.
pub(crate) const IN_SYNC: [&str; 2] =
    ["Connected Primary/Secondary UpToDate/UpToDate", "Connected Secondary/Primary UpToDate/UpToDate"];

/// Two machines. Their metadata lie on devices of their own, so that no flush of the one saves the other.
pub(crate) struct Machines {
    pub(crate) world: World,
    net: NetOptions,
    disk: DiskOptions,
}

/// A request that is not answered yet.
pub(crate) struct Asked {
    client: Client,
    cookie: u64,
}

impl Machines {
    /// Connected and in sync, A Primary.
    pub(crate) fn in_sync() -> Self {
        Self::with(&[], &[])
    }

    /// The same with these options of `net` and `disk`.
    pub(crate) fn with(net: &[(&str, &str)], disk: &[(&str, &str)]) -> Self {
        Self::configured(net, disk).promoted()
    }

    /// The same with fewer slots in the activity log than extents on the device.
    pub(crate) fn with_few_slots() -> Self {
        Self::configured(&[], &[]).few_slots().promoted()
    }

    /// In sync, with no features but a kernel's.
    pub(crate) fn of_kernels(disk: &[(&str, &str)]) -> Self {
        Self::configured(&[], disk).kernels().promoted()
    }

    /// The same with fewer slots in the activity log than extents on the device.
    pub(crate) fn of_kernels_with_few_slots() -> Self {
        Self::configured(&[], &[]).few_slots().kernels().promoted()
    }

    fn few_slots(mut self) -> Self {
        self.disk.al_extents = 3;
        self
    }

    fn kernels(mut self) -> Self {
        self.world.mask_features(KERNEL_FEATURES);
        self
    }

    fn promoted(self) -> Self {
        let mut machines = self.connected();
        machines.command(A, Command::Primary { volume: VOLUME, force: true });
        machines.reach(IN_SYNC);
        machines.world.run_for(Duration::from_secs(1));
        machines
    }

    fn configured(net: &[(&str, &str)], disk: &[(&str, &str)]) -> Self {
        let mut machines =
            Self { world: World::new(1), net: NetOptions::default(), disk: DiskOptions::default() };
        let common = [("ping-int", "1"), ("ping-timeout", "3"), ("timeout", "20"), ("ko-count", "2")];
        for (name, value) in common.iter().chain(net) {
            machines.net.set(name, Some(value)).unwrap();
        }
        for (name, value) in [("c-plan-ahead", "0"), ("resync-rate", "100M")].iter().chain(disk) {
            machines.disk.set(name, Some(value)).unwrap();
        }
        machines
    }

    /// Connected, with fresh metadata.
    fn connected(self) -> Self {
        let mut machines = self;
        for host in [A, B] {
            let disk = SimDisk::with_meta("/dev/false", DATA_BYTES, META_BYTES);
            create_md(&disk);
            machines.world.add_disk(host, 0, disk);
            machines.up(host);
        }
        machines.run_until("the nodes meet", |machines| machines.shows(A).starts_with("Connected"));
        machines
    }

    /// `urbdadm up`.
    pub(crate) fn up(&mut self, host: usize) {
        self.world.new_resource(host, ResourceOptions::default());
        self.command(host, Command::NewMinor { volume: VOLUME, minor: 1 });
        self.attach(host);
        self.connect(host);
    }

    /// `urbdadm attach`, the activity log of a crash applied.
    pub(crate) fn attach(&mut self, host: usize) {
        apply_al(&self.world.disk(host, 0).unwrap()).unwrap();
        let pending = self.world.start_attach(host, VOLUME, self.disk.clone()).unwrap();
        self.ends(&pending);
    }

    /// `urbdadm connect`.
    pub(crate) fn connect(&mut self, host: usize) {
        let (local, peer) = (self.world.address(host), self.world.address(1 - host));
        let options = Box::new(self.net.clone());
        let (discard_my_data, tentative) = (false, false);
        self.command(host, Command::Connect { local, peer, options, discard_my_data, tentative });
    }

    /// Runs a command, which must succeed.
    #[track_caller]
    pub(crate) fn command(&mut self, host: usize, command: Command) {
        let pending = self.world.start(host, command);
        self.ends(&pending);
    }

    #[track_caller]
    fn ends(&mut self, pending: &Pending) {
        let outcome = self.world.finish(pending, LIMIT);
        assert!(outcome.as_ref().is_some_and(Outcome::is_success), "{outcome:?}");
    }

    #[track_caller]
    pub(crate) fn promote(&mut self, host: usize) {
        self.command(host, Command::Primary { volume: VOLUME, force: false });
    }

    #[track_caller]
    pub(crate) fn demote(&mut self, host: usize) {
        self.run_until("its clients are gone", |machines| machines.status(host).open_count == 0);
        self.command(host, Command::Secondary { volume: VOLUME });
    }

    pub(crate) fn status(&mut self, host: usize) -> VolumeStatus {
        let status = self.world.status(host);
        status.and_then(|status| status.volumes.into_iter().next()).unwrap_or_default()
    }

    /// Connection, roles and disks; without the resource hardly anything.
    pub(crate) fn shows(&mut self, host: usize) -> String {
        let v = self.status(host);
        format!("{} {}/{} {}/{}", v.cstate, v.role, v.peer_role, v.disk, v.peer_disk)
    }

    /// Blocks that a node has out of sync.
    pub(crate) fn bits(&mut self, host: usize) -> u64 {
        self.status(host).counters.oos / 4
    }

    /// Lets time pass until something is so; looked at after each moment at which something happened.
    #[track_caller]
    pub(crate) fn run_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let until = self.world.now().after(LIMIT);
        while !is_so(self) {
            assert!(self.world.step(until), "{what}: never; {:?}", [A, B].map(|host| self.shows(host)));
        }
    }

    /// Lets time pass until both nodes show this.
    #[track_caller]
    pub(crate) fn reach(&mut self, both: [&str; 2]) {
        self.run_until(&format!("{both:?}"), |machines| [A, B].map(|host| machines.shows(host)) == both);
    }

    /// The link drops everything, and both nodes have noticed it.
    #[track_caller]
    pub(crate) fn part(&mut self) {
        self.world.cut();
        self.wait_parted();
    }

    #[track_caller]
    pub(crate) fn wait_parted(&mut self) {
        self.run_until("the nodes notice", |machines| {
            [A, B].iter().all(|host| {
                let there = machines.world.has_resource(*host);
                !there || machines.shows(*host).starts_with("WFConnection")
            })
        });
    }

    /// Writes blocks of these bytes, one after the other, each answered.
    #[track_caller]
    pub(crate) fn write(&mut self, host: usize, blocks: std::ops::Range<u64>, byte: u8) {
        for block in blocks {
            let write = self.start_write(host, block, byte);
            self.answered(write);
        }
    }

    #[track_caller]
    pub(crate) fn start_write(&mut self, host: usize, block: u64, byte: u8) -> Asked {
        self.ask(host, Wish::Write { offset: block * BLOCK, data: &[byte; BLOCK as usize] })
    }

    /// Waits for the answer to a write, which must be good, and closes the volume.
    #[track_caller]
    pub(crate) fn answered(&mut self, mut write: Asked) {
        let answer = self.world.answer(&mut write.client, write.cookie, LIMIT);
        assert_eq!(answer.map(|answer| answer.error), Some(0));
        self.world.close(&write.client);
    }

    /// What a client reads.
    #[track_caller]
    pub(crate) fn read(&mut self, host: usize, block: u64) -> u8 {
        let mut client = self.world.open(host, VOLUME).unwrap();
        let wish = Wish::Read { offset: block * BLOCK, len: BLOCK as u32 };
        let cookie = self.world.ask(&mut client, wish);
        let answer = self.world.answer(&mut client, cookie, LIMIT).unwrap();
        self.world.close(&client);
        assert_eq!(answer.error, 0);
        same_byte(&answer.data)
    }

    /// What a machine's disk holds.
    #[track_caller]
    pub(crate) fn on_disk(&self, host: usize, block: u64) -> u8 {
        let mut bytes = [0; BLOCK as usize];
        self.world.disk(host, 0).unwrap().read_at(block * BLOCK, &mut bytes).unwrap();
        same_byte(&bytes)
    }

    /// Both disks hold the same data.
    #[track_caller]
    pub(crate) fn assert_equal(&mut self) {
        let touched = [A, B].map(|host| self.data(host).store().touched().collect::<Vec<_>>());
        let blocks: BTreeSet<u64> = touched.into_iter().flatten().collect();
        let differ: Vec<u64> =
            blocks.into_iter().filter(|n| self.on_disk(A, *n) != self.on_disk(B, *n)).collect();
        assert!(differ.is_empty(), "blocks that differ: {differ:?}");
    }

    /// A machine loses power, and with it everything that was not flushed.
    pub(crate) fn lose_power(&mut self, host: usize) {
        self.world.lose_power(host, true);
    }

    /// A machine that has no power gets it, and the resource.
    pub(crate) fn boot(&mut self, host: usize) {
        self.world.boot(host);
        self.up(host);
    }

    /// The device with a machine's data.
    pub(crate) fn data(&self, host: usize) -> Device {
        self.world.disk(host, 0).unwrap().data().clone()
    }

    /// The device with a machine's metadata.
    pub(crate) fn metadata(&self, host: usize) -> Device {
        self.world.disk(host, 0).unwrap().meta().clone()
    }

    /// Nothing that begins from now on ends on a device before so much time has passed; what is under
    /// way ends as ever.
    pub(crate) fn stall(&mut self, device: &Device, span: Duration) {
        device.stall(self.world.now().after(span));
    }

    /// Asks for something in the name of a client, without waiting for the answer.
    pub(crate) fn ask(&mut self, host: usize, wish: Wish<'_>) -> Asked {
        let mut client = self.world.open(host, VOLUME).unwrap();
        let cookie = self.world.ask(&mut client, wish);
        Asked { client, cookie }
    }

    /// Lets the nodes look for each other long enough, whatever comes of it.
    pub(crate) fn settle(&mut self) {
        self.world.run_for(Duration::from_secs(60));
    }
}

#[track_caller]
fn same_byte(bytes: &[u8]) -> u8 {
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a block is not of one write");
    bytes[0]
}
