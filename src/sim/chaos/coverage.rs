//! Coverage: where the copies differ, some node knows it (I9, I10, I18).
//!
//! Looked at while nothing is under way: then a block that differs is marked in the bitmap of a node that
//! has its disk, or the metadata of one that has not, or is down, will tell of it when it is attached again:
//! in its bitmap, or in its activity log, which the tools turn into bits first (M66, D95). Where the
//! generations demand a full sync, every block is marked.

use std::collections::{BTreeMap, BTreeSet};

use super::super::disk::{Device, SimDisk};
use super::super::events::HostId;
use super::super::world::World;
use super::book::Book;
use super::setup::placement;
use super::view::View;
use crate::cli::meta::dialogue::{Answers, Dialogue};
use crate::cli::meta::verbs;
use crate::cli::meta_device::MetaDevice;
use crate::meta::BLOCK_BYTES;
use crate::meta::superblock::Superblock;
use crate::node::decision::compare::{Facts, Relation, Side, Uuids, compare};
use crate::units::{BitIndex, SECTOR_BYTES};

const SECTOR: usize = SECTOR_BYTES as usize;

/// What was found the last time.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// What it was about: as long as all of it is the same, so is the verdict.
    looked_at: Option<([u64; 4], u64)>,
}

impl Book {
    /// Whether each block that differs is covered; nothing is under way. True if there was something new to
    /// look at.
    ///
    /// # Errors
    /// Where nobody knows of a difference.
    pub(super) fn check_coverage(&mut self, world: &World) -> Result<bool, String> {
        if self.tampered || !self.is_at_rest(world) {
            return Ok(false);
        }
        let disks = [0, 1].map(|host| self.disk(world, host));
        let devices = [disks[0].data(), disks[0].meta(), disks[1].data(), disks[1].meta()];
        let looked_at = Some((devices.map(|device| device.store().last_write()), world.changes()));
        if self.coverage.looked_at == looked_at {
            return Ok(false);
        }
        self.coverage.looked_at = looked_at;
        self.check_new_disks(world)?;
        let differing = self.differing(&disks);
        if differing.is_empty() {
            return Ok(true);
        }
        let knowledge = [0, 1].map(|host| Knowledge::of(self, world, host, &disks[host]));
        if self.is_full_sync_due(world, &knowledge) {
            return Ok(true);
        }
        let unknown = |sector: &&u64| {
            let block = BitIndex::new(**sector / 8);
            !(0..2).any(|host| knowledge[host].marks(self, world, host, block))
        };
        match differing.iter().find(unknown) {
            None => Ok(true),
            Some(sector) => Err(format!(
                "the copies differ in sector {sector}, and no node knows (I9, I10, I18): {:?}",
                self.views.each_ref().map(View::words)
            )),
        }
    }

    /// A new disk that was never compared with the other one marks all that some copy must have (M48). What it lacks
    /// is not seen in what differs, as the generations tell of it all.
    fn check_new_disks(&self, world: &World) -> Result<(), String> {
        for host in [0, 1] {
            let view = &self.views[host];
            if !self.replaced[host] || view.uuids[0] & !1 != Uuids::JUST_CREATED || !view.is_alone() {
                continue;
            }
            let marked = |sector: u64| self.marked(world, sector)[host] != Some(false);
            if let Some(sector) = self.oracle.sectors().find(|sector| !marked(*sector)) {
                return Err(format!("the new disk of {host} does not mark sector {sector} (M48)"));
            }
        }
        Ok(())
    }

    /// Both nodes are done with each other: connected, or each alone; or down. Writes whose epoch is not acked
    /// cover their sectors themselves.
    fn is_at_rest(&self, world: &World) -> bool {
        let steady = |host: HostId| {
            let view = &self.views[host];
            let down = !world.has_resource(host);
            let disk = matches!(
                view.disk.as_str(),
                "" | "Diskless" | "Inconsistent" | "Outdated" | "UpToDate" | "Consistent"
            );
            let settled = world.core(host).is_some_and(|core| !core.has_requests());
            down || (view.there && view.suspended.is_empty() && disk && settled)
        };
        let alone = |host: HostId| !world.has_resource(host) || self.views[host].is_alone();
        let connected = self.views.iter().all(|view| view.conn == "Connected");
        [0, 1].into_iter().all(steady) && (connected || [0, 1].into_iter().all(alone))
    }

    /// Whether the generations say that all blocks are sent, or that nobody can tell (S64).
    fn is_full_sync_due(&self, world: &World, knowledge: &[Knowledge; 2]) -> bool {
        let compared = |view: &View| view.conn == "Connected" && view.disk != "Diskless";
        if self.views.iter().all(compared) {
            return false;
        }
        let side = |host: usize| Side {
            uuids: Uuids::from(knowledge[host].uuids),
            crashed: false,
            primary: self.views[host].is_primary(),
        };
        let decided = |host: HostId| {
            let sync_uuid_taken = world.core(host).is_none_or(|core| core.is_sync_uuid_taken(self.volume));
            let (own, peer) = (side(host), side(1 - host));
            compare(&Facts { own, peer, resolve: host == 0, apv: 101, write_same: true, sync_uuid_taken })
                .relation
        };
        [0, 1].map(decided).into_iter().any(|relation| match relation {
            Relation::InSync | Relation::SplitBrain => false,
            Relation::Source { full } | Relation::Target { full } => full,
            Relation::SplitBrainWithoutBase
            | Relation::Unrelated
            | Relation::NeedsProtocol(_)
            | Relation::NeedsFeatures { .. } => true,
        })
    }

    /// The sectors in which the copies differ, of those that clients wrote to.
    fn differing(&self, disks: &[SimDisk; 2]) -> BTreeSet<u64> {
        let mut sectors: BTreeSet<u64> = self.oracle.sectors().collect();
        let (mut one, mut other) = ([0; SECTOR], [0; SECTOR]);
        sectors.retain(|sector| {
            let offset = sector * SECTOR_BYTES;
            let there = disks[0].read_at(offset, &mut one).and(disks[1].read_at(offset, &mut other));
            there.is_ok() && one != other
        });
        sectors
    }
}

/// What the metadata of one node tell.
#[derive(Debug)]
struct Knowledge {
    uuids: [u64; 4],
    marks: Marks,
}

#[derive(Debug)]
enum Marks {
    /// The bitmap of the core.
    InCore,
    /// Those of a disk that is not attached, by 8 blocks.
    OnDisk(Vec<u8>),
    /// Every block.
    All,
}

impl Knowledge {
    fn of(book: &Book, world: &World, host: HostId, disk: &SimDisk) -> Self {
        let view = &book.views[host];
        let attached =
            world.core(host).is_some_and(|core| core.out_of_sync(book.volume, BitIndex::new(0)).is_some());
        if attached {
            return Self { uuids: view.uuids, marks: Marks::InCore };
        }
        // What the tools cannot read is no disk to attach, and nobody reads old data from it.
        as_attached(disk).unwrap_or(Self { uuids: [0; 4], marks: Marks::All })
    }

    fn marks(&self, book: &Book, world: &World, host: HostId, block: BitIndex) -> bool {
        match &self.marks {
            Marks::InCore => book.marked(world, block.get() * 8)[host] == Some(true),
            Marks::OnDisk(bits) => {
                let byte = bits.get((block.get() / 8) as usize).copied().unwrap_or(0);
                byte >> (block.get() % 8) & 1 == 1
            }
            Marks::All => true,
        }
    }
}

/// What a disk tells that is not attached, once `urbdadm attach` has applied its activity log.
fn as_attached(disk: &SimDisk) -> Option<Knowledge> {
    let mut overlay = Overlay { under: disk.meta(), written: BTreeMap::new() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut dialogue = Dialogue::new(&mut out, &mut err, Answers::Force);
    verbs::apply_al(&mut overlay, placement(disk), &mut dialogue).ok()?;
    let capacity = overlay.sectors();
    let place = placement(disk).superblock_sector(capacity).ok()?;
    let mut block = [0; BLOCK_BYTES];
    overlay.read_at(place * SECTOR_BYTES, &mut block).ok()?;
    let (superblock, layout) = Superblock::decode(&block, placement(disk), capacity).ok()?;
    let uuids = superblock.uuids.to_array();
    if superblock.flags.need_full_sync() || uuids[0] == Uuids::JUST_CREATED || superblock.la_size.get() == 0 {
        return Some(Knowledge { uuids, marks: Marks::All });
    }
    let mut bits = vec![0; layout.bitmap_area_bytes().min(BLOCK_BYTES as u64) as usize];
    overlay.read_at(layout.bitmap_byte(), &mut bits).ok()?;
    Some(Knowledge { uuids, marks: Marks::OnDisk(bits) })
}

/// The data generation of a disk that is not attached, if it can be read.
pub(super) fn generation(disk: &SimDisk) -> Option<u64> {
    as_attached(disk).map(|knowledge| knowledge.uuids[0] & !1)
}

/// A device as the tools would leave it, which stays as it is.
struct Overlay<'a> {
    under: &'a Device,
    written: BTreeMap<u64, [u8; SECTOR]>,
}

impl MetaDevice for Overlay<'_> {
    fn name(&self) -> &str {
        "/dev/false"
    }

    fn bytes(&self) -> u64 {
        self.under.len()
    }

    fn read_at(&mut self, byte: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.under.read_at(byte, buf).map_err(|fault| std::io::Error::other(format!("{fault:?}")))?;
        for (sector, part) in (byte / SECTOR_BYTES..).zip(buf.chunks_mut(SECTOR)) {
            if let Some(written) = self.written.get(&sector) {
                part.copy_from_slice(&written[..part.len()]);
            }
        }
        Ok(())
    }

    fn write_at(&mut self, byte: u64, data: &[u8]) -> std::io::Result<()> {
        for (sector, part) in (byte / SECTOR_BYTES..).zip(data.chunks_exact(SECTOR)) {
            let mut bytes = [0; SECTOR];
            bytes.copy_from_slice(part);
            self.written.insert(sector, bytes);
        }
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::setup::create_md;
    use super::*;

    #[test]
    fn fresh_metadata_mark_every_block_and_looking_changes_nothing() {
        let disk = SimDisk::with_meta("/dev/false", 20 << 20, 1 << 20);
        create_md(&disk);
        let before = disk.meta().store().last_write();
        assert!(matches!(as_attached(&disk).unwrap().marks, Marks::All));
        assert_eq!(disk.meta().store().last_write(), before);
    }

    #[test]
    fn what_is_written_over_a_device_is_read_back_and_not_there() {
        let disk = SimDisk::zeroed("/dev/false", 8192);
        let mut overlay = Overlay { under: disk.data(), written: BTreeMap::new() };
        overlay.write_at(512, &[7; 1024]).unwrap();
        let mut bytes = [1; 2048];
        overlay.read_at(0, &mut bytes).unwrap();
        assert!(bytes[..512] == [0; 512] && bytes[512..1536] == [7; 1024] && bytes[1536..] == [0; 512]);
        disk.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 2048]);
    }
}
