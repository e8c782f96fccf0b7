//! What a life begins with: how the pair is configured, and its disks.

use super::super::disk::{Device, SimDisk};
use super::super::random::Random;
use crate::cli::meta::dialogue::{Answers, Dialogue};
use crate::cli::meta::verbs;
use crate::cli::meta_device::MetaDevice;
use crate::config::options::{DiskOptions, NetOptions, Protocol, ResourceOptions};
use crate::meta::activity_log::initialised_block;
use crate::meta::layout::{Layout, Placement, Striping};
use crate::meta::superblock::Superblock;

/// Bytes of the data device: a few extents of the activity log more than it has slots, and a last block that
/// is not whole.
const DATA_BYTES: u64 = (20 << 20) + 5 * 512;
const META_BYTES: u64 = 1 << 20;

/// How the pair is configured.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) net: NetOptions,
    pub(super) disk: DiskOptions,
    pub(super) resource: ResourceOptions,
    pub(super) volumes: u16,
    /// `allow-two-primaries`, and both are promoted.
    pub(super) two_primaries: bool,
    pub(super) separate_meta: bool,
    /// What fence-peer answers: 7 (and the peer loses its power), or a failure.
    pub(super) fences: bool,
    /// One disk operation of so many takes much longer than the others.
    pub(super) stragglers: Option<u64>,
    /// Requests that a client may have under way.
    pub(super) depth: usize,
}

impl Setup {
    pub(super) fn draw(random: &mut Random) -> Self {
        let mut pick = |percent: u64| random.below(100) < percent;
        let mut net = NetOptions::default();
        let mut disk = DiskOptions::default();
        let mut resource = ResourceOptions::default();
        // The values are known to be in range.
        let mut set_net = |name: &str, value: &str| drop(net.set(name, Some(value)));
        set_net("connect-int", "1");
        set_net("ping-int", "1");
        set_net("ping-timeout", "3");
        set_net("timeout", if pick(50) { "20" } else { "9" });
        set_net("ko-count", if pick(50) { "2" } else { "7" });
        set_net("verify-alg", "crc32c");
        let asynchronous = pick(5);
        if asynchronous || pick(5) {
            set_net("protocol", if asynchronous { "A" } else { "B" });
        }
        let two_primaries = net.protocol == Protocol::C && pick(15);
        let mut set_net = |name: &str, value: &str| drop(net.set(name, Some(value)));
        if two_primaries {
            set_net("allow-two-primaries", "yes");
        }
        if pick(20) {
            set_net("data-integrity-alg", "crc32c");
        }
        if pick(25) {
            set_net("after-sb-0pri", if pick(50) { "discard-least-changes" } else { "discard-zero-changes" });
            set_net("after-sb-1pri", if pick(50) { "discard-secondary" } else { "consensus" });
        }
        if pick(20) {
            set_net("max-epoch-size", "4");
        }
        let volumes = if pick(25) { 2 } else { 1 };
        let mut set_disk = |name: &str, value: &str| drop(disk.set(name, Some(value)));
        let fencing = match pick(60) {
            true => "dont-care",
            // The tools refuse protocol A with the stricter one (154).
            false if asynchronous || pick(50) => "resource-only",
            false => "resource-and-stonith",
        };
        set_disk("fencing", fencing);
        set_disk("c-max-rate", "400M");
        if pick(30) {
            set_disk("c-plan-ahead", "0");
            set_disk("resync-rate", if pick(50) { "100M" } else { "400" });
        }
        if pick(20) {
            set_disk("on-io-error", "pass_on");
        }
        // Fewer slots than any file may ask for, so that extents are given up all the time.
        disk.al_extents = if pick(80) { 3 } else { 67 };
        if pick(30) {
            let _ = resource.set("on-no-data-accessible", Some("suspend-io"));
        }
        if pick(15) {
            let _ = net.set("max-buffers", Some("32"));
        }
        let (separate_meta, fences) = (pick(70), pick(70));
        if pick(15) {
            let _ = net.set("use-rle", Some("no"));
        }
        Self {
            net,
            disk,
            resource,
            volumes,
            two_primaries,
            separate_meta,
            fences,
            depth: 1 + random.below(4) as usize,
            stragglers: (random.below(3) == 0).then(|| 4 + random.below(60)),
        }
    }

    /// Changes an option of the net or disk section, or of the resource, whose values are known to be in range.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let set = self.net.set(name, Some(value)).or_else(|_| self.disk.set(name, Some(value)));
        let set = set.or_else(|_| self.resource.set(name, Some(value)));
        debug_assert!(set.is_ok(), "{name} {value}");
    }

    /// One volume in protocol C, where what happens is what a template makes happen: the data device has nothing but data
    /// and ends within a block, no operation takes long by chance, no write waits for a slot of the activity log, and nobody is fenced.
    pub(super) fn be_plain(&mut self) {
        self.set("fencing", "dont-care");
        self.set("protocol", "C");
        self.volumes = 1;
        self.separate_meta = true;
        self.stragglers = None;
        self.disk.al_extents = 67;
    }

    /// A Primary that is alone freezes its I/O, and cannot fence: until the other one is back.
    pub(super) fn freeze_when_alone(&mut self) {
        self.set("protocol", "C");
        self.set("fencing", "resource-and-stonith");
        self.fences = false;
    }

    /// There is one Primary at any time.
    pub(super) fn be_one_primary(&mut self) {
        self.set("allow-two-primaries", "no");
        self.two_primaries = false;
    }

    /// Both nodes may be Primary.
    pub(super) fn be_two_primaries(&mut self) {
        self.set("protocol", "C");
        self.set("allow-two-primaries", "yes");
        self.two_primaries = true;
    }

    /// Whether a write is on both disks when it is answered.
    pub(super) fn is_synchronous(&self) -> bool {
        self.net.protocol == Protocol::C
    }

    /// Whether a write is held by the peer's program when it is answered (I2).
    pub(super) fn is_received(&self) -> bool {
        self.net.protocol != Protocol::A
    }

    /// A disk with fresh metadata.
    pub(super) fn new_disk(&self) -> SimDisk {
        let disk = if self.separate_meta {
            SimDisk::with_meta("/dev/false", DATA_BYTES, META_BYTES)
        } else {
            SimDisk::zeroed("/dev/false", DATA_BYTES as usize)
        };
        create_md(&disk);
        disk
    }
}

/// What `urbdadm create-md` does. A device too small for metadata is left as it is, and cannot be attached.
pub fn create_md(disk: &SimDisk) {
    let sectors = disk.meta().len() / 512;
    if let Ok(layout) = Layout::new(placement(disk), sectors, Striping::DEFAULT) {
        for offset in (layout.al_byte()..layout.al_byte() + layout.al_bytes()).step_by(4096) {
            let _ = disk.meta().write_at(offset, &initialised_block());
        }
        let superblock = Superblock::just_created(4096).encode(&layout);
        let _ = disk.meta().write_at(layout.superblock_byte(), &superblock);
    }
}

/// Where the metadata of a disk are.
pub(super) fn placement(disk: &SimDisk) -> Placement {
    if disk.meta().is(disk.data()) { Placement::Internal } else { Placement::Flexible }
}

/// What `urbdadm attach` does first: the activity log of a crash becomes bits.
///
/// # Errors
/// What the tool says.
pub fn apply_al(disk: &SimDisk) -> Result<(), String> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut dialogue = Dialogue::new(&mut out, &mut err, Answers::Force);
    let result = verbs::apply_al(&mut Tool(disk.meta().clone()), placement(disk), &mut dialogue);
    result.map_err(|error| format!("apply-al: {error:?}"))
}

/// A device as the offline tools see it.
struct Tool(Device);

impl MetaDevice for Tool {
    fn name(&self) -> &str {
        "/dev/false"
    }

    fn bytes(&self) -> u64 {
        self.0.len()
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
