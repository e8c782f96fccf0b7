//! A round with a disk that fails: a file with holes on a file system that gets full, in the middle of writes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::chance::Chance;
use super::life::Life;
use crate::harness::lab::host_sh;

/// Acknowledged writes before and after each event, at most.
const ACKS: u64 = 300;
/// Size of the file system.
const MIB: u64 = 28;

/// A small file system for one disk.
pub(crate) struct FullDisk {
    directory: PathBuf,
}

impl FullDisk {
    /// Makes it, in the lab's own mounts.
    pub(crate) fn mount(directory: &Path) -> Self {
        fs::create_dir(directory).unwrap();
        host_sh(&format!("mount -t tmpfs -o size={MIB}m tmpfs {}", directory.display()));
        Self { directory: directory.into() }
    }

    /// A new disk on it, all holes; the one before is gone.
    pub(crate) fn image(&self, bytes: u64) -> PathBuf {
        self.mend();
        let path = self.directory.join("disk.img");
        let _ = fs::remove_file(&path);
        File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    /// Takes all room that is left: a write into a hole fails from now on.
    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        let piece = vec![0xff; 4096];
        for _ in 0..MIB * 256 {
            if filler.write_all(&piece).is_err() {
                return;
            }
        }
        panic!("{} does not get full", self.directory.display());
    }

    /// Gives it back.
    fn mend(&self) {
        let _ = fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.directory.join("filler")
    }
}

/// Leads a round on a new pair whose `failing` side has its disk on `small`, to its verified end.
pub(crate) fn lead(small: &FullDisk, life: &mut Life<'_>, failing: usize, chance: Chance) {
    life.chance = chance;
    life.write();
    some_writes(life);
    life.say(&format!("the disk of {} gets full", life.node(failing).name()));
    small.fill();
    life.await_diskless(failing);
    some_writes(life);
    let dies = life.chance.one_in(2);
    if dies {
        let was_primary = failing == life.primary;
        life.kill(failing);
        if was_primary {
            let survivor = life.secondary();
            life.await_alone(survivor);
            life.promote(survivor);
            life.write();
        }
        some_writes(life);
        small.mend();
        life.revive(failing);
    } else {
        small.mend();
        life.attach(failing);
    }
    some_writes(life);
    life.await_sync();
    life.stop_writing();
    life.verify();
}

fn some_writes(life: &mut Life<'_>) {
    let acks = 1 + life.chance.below(ACKS);
    life.await_acks(acks);
}
