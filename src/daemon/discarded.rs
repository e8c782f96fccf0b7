//! What a node gave up in a split brain, kept as files (`[discard] keep`): an administrator's way back.
//!
//! In the directory there are, each time, `NAME.img`, sparse and of the device's size, in which each
//! kept block lies at its own place, and `NAME.json`, which says what it is and what is still missing.
//! Blocks are durable in the one before the other says so, and before they are overwritten on the disk.
//! To forget one, remove both files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::settings::DiscardSettings;
use crate::buffer::Buf;
use crate::control::messages::Discarded;
use crate::node::decision::compare::masked;
use crate::node::keep::{Blocks, KeepAnswer, KeepAsk};

/// Before this name of what was kept, in the name of its export.
pub const EXPORT_PREFIX: &str = "discarded/";
const BLOCK_BYTES: u64 = 4096;
/// Read at once.
const PIECE_BYTES: u64 = 1 << 20;
/// An index is no longer: more than the blocks of any disk in single rows.
const MAX_INDEX_BYTES: u64 = 256 << 20;

/// The files of a directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// Bytes that all of it may hold; none: nothing is kept.
    limit_bytes: Option<u64>,
    /// One at a time.
    busy: Mutex<()>,
}

/// What `NAME.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Index {
    resource: String,
    volume: u16,
    /// When it was begun: seconds since 1970.
    since_s: u64,
    /// The device it comes from, and its size.
    path: PathBuf,
    device_bytes: u64,
    generation: [u64; 4],
    winner: u64,
    /// All blocks, and those that are missing.
    blocks: Vec<Blocks>,
    missing: Vec<Blocks>,
    /// Why the rest will not come.
    given_up: Option<String>,
}

impl Store {
    /// The store of these settings.
    #[must_use]
    pub fn new(settings: &DiscardSettings) -> Self {
        Self {
            directory: settings.directory.clone(),
            limit_bytes: settings.keep.map(|size| size.bytes()),
            busy: Mutex::default(),
        }
    }

    /// Does what the core asks. Blocks: reads the disk and waits for the files to be durable.
    pub fn answer(&self, resource: &str, volume: u16, ask: KeepAsk) -> KeepAnswer {
        let Some(limit) = self.limit_bytes else { return KeepAnswer::Refused(None) };
        let _one = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        match ask {
            KeepAsk::Begin { path, device_bytes, generation, winner, blocks } => {
                let index = Index {
                    resource: resource.to_owned(),
                    volume,
                    since_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
                    path: path.into(),
                    device_bytes,
                    generation,
                    winner,
                    missing: blocks.clone(),
                    blocks,
                    given_up: None,
                };
                match self.begin(index, limit) {
                    Ok(missing) => KeepAnswer::Missing(missing),
                    Err(why) => KeepAnswer::Refused(Some(why)),
                }
            }
            KeepAsk::Resume { winner } => match self.unfinished(resource, volume) {
                Some((_, index)) if masked(index.winner) == masked(winner) => {
                    KeepAnswer::Missing(index.missing)
                }
                Some(_) => {
                    self.give_up(resource, volume, "other data than those it was begun for took its place");
                    KeepAnswer::Missing(Vec::new())
                }
                None => KeepAnswer::Missing(Vec::new()),
            },
            KeepAsk::Chunk { chunk, blocks } => match self.keep(resource, volume, chunk, &blocks) {
                Ok(()) => KeepAnswer::Kept { chunk },
                Err(why) => {
                    self.give_up(resource, volume, &why);
                    KeepAnswer::Failed(why)
                }
            },
        }
    }

    /// Everything that is kept, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Discarded> {
        let mut all: Vec<Discarded> =
            self.indexes().map(|(name, index)| self.describe(name, index)).collect();
        all.sort_by(|a, b| (a.since_s, &a.name).cmp(&(b.since_s, &b.name)));
        all
    }

    /// Opens what was kept under this name for reading; the size of the device as well.
    ///
    /// # Errors
    /// If there is no such thing.
    pub fn open(&self, name: &str) -> io::Result<(File, u64)> {
        if !is_plain(name) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let index = self.load(&self.index_path(name))?;
        Ok((File::open(self.image_path(name))?, index.device_bytes))
    }

    fn begin(&self, index: Index, limit: u64) -> Result<Vec<Blocks>, String> {
        let wanted = bytes_of(&index.blocks);
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let used: u64 = self.indexes().map(|(_, index)| bytes_of(&index.blocks)).sum();
        let free = limit.saturating_sub(used);
        if wanted > free {
            return Err(format!(
                "it needs {} KiB, and [discard] keep leaves {} KiB beside what {} holds ('urbdadm discarded' \
                 lists it)",
                wanted / 1024,
                free / 1024,
                self.directory.display()
            ));
        }
        let name = self.free_name(&index);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.and_then(|()| {
            let image =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.image_path(&name))?;
            image.set_len(index.device_bytes)?;
            image.sync_all()?;
            self.save(&name, &index)
        })
        .map_err(|error| format!("{}: {error}", self.image_path(&name).display()))?;
        Ok(index.blocks)
    }

    fn keep(&self, resource: &str, volume: u16, chunk: u64, blocks: &[Blocks]) -> Result<(), String> {
        let (name, mut index) =
            self.unfinished(resource, volume).ok_or("its files have been removed meanwhile")?;
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| format!("{path}: {error}")
        };
        let disk = open_as_the_engine(&index.path).map_err(at(&index.path))?;
        let image_path = self.image_path(&name);
        let image = OpenOptions::new().write(true).open(&image_path).map_err(at(&image_path))?;
        for run in blocks {
            let (mut offset, end) = (run.first * BLOCK_BYTES, (run.first + run.count) * BLOCK_BYTES);
            let end = end.min(index.device_bytes);
            while offset < end {
                let len = (end - offset).min(PIECE_BYTES);
                // Aligned memory of whole blocks, as direct I/O wants it.
                let mut buf = Buf::zeroed(len.next_multiple_of(BLOCK_BYTES) as usize);
                let bytes = buf.bytes_mut().ok_or("memory is shared")?;
                let got = read_fully(&disk, bytes, offset).map_err(at(&index.path))?;
                if (got as u64) < len {
                    return Err(format!("{}: it ends before the device does", index.path.display()));
                }
                image.write_all_at(&bytes[..len as usize], offset).map_err(at(&image_path))?;
                offset += len;
            }
        }
        image.sync_data().map_err(at(&image_path))?;
        index.missing = index.missing.iter().flat_map(|run| run.without_chunk(chunk)).collect();
        self.save(&name, &index).map_err(at(&self.index_path(&name)))
    }

    fn give_up(&self, resource: &str, volume: u16, why: &str) {
        if let Some((name, mut index)) = self.unfinished(resource, volume) {
            index.given_up = Some(why.to_owned());
            // It is in the log, too.
            let _ = self.save(&name, &index);
        }
    }

    /// The last that was begun of a volume, if something of it is missing.
    fn unfinished(&self, resource: &str, volume: u16) -> Option<(String, Index)> {
        let of_volume = |(_, index): &(String, Index)| index.resource == resource && index.volume == volume;
        let last =
            self.indexes().filter(of_volume).max_by(|a, b| (a.1.since_s, &a.0).cmp(&(b.1.since_s, &b.0)));
        last.filter(|(_, index)| index.given_up.is_none() && !index.missing.is_empty())
    }

    fn indexes(&self) -> impl Iterator<Item = (String, Index)> + '_ {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let path = entry.path();
            let name = path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
            Some((name, self.load(&path).ok()?))
        })
    }

    fn load(&self, path: &Path) -> io::Result<Index> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_INDEX_BYTES).read_to_end(&mut bytes)?;
        let index: Index = serde_json::from_slice(&bytes)?;
        let possible =
            is_within(&index.blocks, index.device_bytes) && is_within(&index.missing, index.device_bytes);
        possible.then_some(index).ok_or_else(|| io::Error::other("its blocks are not those of the device"))
    }

    /// Writes an index so that either the old one or the new one is there.
    fn save(&self, name: &str, index: &Index) -> io::Result<()> {
        let path = self.index_path(name);
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(index)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        File::open(&self.directory)?.sync_all()
    }

    fn describe(&self, name: String, index: Index) -> Discarded {
        Discarded {
            resource: index.resource,
            volume: index.volume,
            since_s: index.since_s,
            generation: index.generation,
            winner: index.winner,
            device_bytes: index.device_bytes,
            bytes: bytes_of(&index.blocks),
            missing_bytes: bytes_of(&index.missing),
            given_up: index.given_up,
            export: format!("{EXPORT_PREFIX}{name}"),
            path: self.image_path(&name),
            name,
        }
    }

    fn free_name(&self, index: &Index) -> String {
        let name = |number: u32| format!("{}-{}-{number}", index.resource, index.volume);
        let free = |name: &String| !self.index_path(name).exists() && !self.image_path(name).exists();
        (1..).map(name).find(free).unwrap_or_else(|| name(0))
    }

    fn index_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    fn image_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.img"))
    }
}

/// Whether this can be the name of a file here, and not lead elsewhere.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// Whether these are rows of blocks of the device, in order.
fn is_within(blocks: &[Blocks], device_bytes: u64) -> bool {
    let mut end = 0;
    blocks.iter().all(|run| {
        let begins = run.first >= end && run.count > 0;
        end = run.first.saturating_add(run.count);
        begins && end <= device_bytes.div_ceil(BLOCK_BYTES)
    })
}

fn bytes_of(blocks: &[Blocks]) -> u64 {
    blocks.iter().map(|run| run.count * BLOCK_BYTES).sum()
}

/// Opens a disk for reading past the page cache, where the engine writes past it, too: a page there could
/// be older than the disk.
fn open_as_the_engine(path: &Path) -> io::Result<File> {
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    match direct {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => File::open(path),
        other => other,
    }
}

/// Reads until the memory is full, or the file ends.
fn read_fully(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERN: [u8; BLOCK_BYTES as usize] = [7; BLOCK_BYTES as usize];

    const RESUME: KeepAsk = KeepAsk::Resume { winner: 5 };

    struct Scene {
        dir: tempfile::TempDir,
        disk: PathBuf,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let disk = dir.path().join("disk");
            let file = File::create(&disk).unwrap();
            file.set_len(16 << 20).unwrap();
            for block in [3, 4, 1030] {
                file.write_all_at(&PATTERN, block * BLOCK_BYTES).unwrap();
            }
            Self { dir, disk }
        }

        fn store(&self, keep: &str) -> Store {
            Store::new(&DiscardSettings {
                keep: Some(keep.parse().unwrap()),
                directory: self.dir.path().join("discarded"),
            })
        }

        fn begin(&self, store: &Store) -> KeepAnswer {
            let blocks = vec![Blocks { first: 3, count: 2 }, Blocks { first: 1030, count: 1 }];
            let path = self.disk.to_str().unwrap().to_owned();
            let ask =
                KeepAsk::Begin { path, device_bytes: 16 << 20, generation: [1, 2, 3, 4], winner: 5, blocks };
            store.answer("r0", 0, ask)
        }
    }

    fn chunk(store: &Store, chunk: u64, first: u64, count: u64) -> KeepAnswer {
        store.answer("r0", 0, KeepAsk::Chunk { chunk, blocks: vec![Blocks { first, count }] })
    }

    #[test]
    fn what_is_kept_is_there_under_its_name_and_the_rest_is_known_to_be_missing() {
        let scene = Scene::new();
        let store = scene.store("1MiB");
        assert!(matches!(scene.begin(&store), KeepAnswer::Missing(blocks) if blocks.len() == 2));
        assert_eq!(chunk(&store, 1, 1030, 1), KeepAnswer::Kept { chunk: 1 });
        let [kept] = &store.list()[..] else { panic!("{:?}", store.list()) };
        assert_eq!((kept.bytes, kept.missing_bytes, kept.device_bytes), (12288, 8192, 16 << 20));
        // A daemon that starts again goes on where the last one stopped.
        let again = scene.store("1MiB");
        let missing = KeepAnswer::Missing(vec![Blocks { first: 3, count: 2 }]);
        assert_eq!(again.answer("r0", 0, RESUME), missing);
        assert_eq!(chunk(&again, 0, 3, 2), KeepAnswer::Kept { chunk: 0 });
        assert_eq!(again.answer("r0", 0, RESUME), KeepAnswer::Missing(Vec::new()));
        let (image, bytes) = again.open(&kept.name).unwrap();
        assert_eq!(bytes, 16 << 20);
        for (block, expected) in [(2, 0), (3, 7), (4, 7), (5, 0), (1030, 7)] {
            let mut found = [1; BLOCK_BYTES as usize];
            image.read_exact_at(&mut found, block * BLOCK_BYTES).unwrap();
            assert!(found.iter().all(|byte| *byte == expected), "block {block}");
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_not_begun() {
        let scene = Scene::new();
        let store = scene.store("16KiB");
        assert!(matches!(scene.begin(&store), KeepAnswer::Missing(_)));
        let KeepAnswer::Refused(Some(why)) = scene.begin(&store) else { panic!("there is no room") };
        assert!(why.starts_with("it needs 12 KiB, and [discard] keep leaves 4 KiB"), "{why}");
        let unset = Store::new(&DiscardSettings::default());
        assert_eq!(scene.begin(&unset), KeepAnswer::Refused(None));
    }

    #[test]
    fn a_disk_that_cannot_be_read_ends_it_with_the_reason() {
        let scene = Scene::new();
        let store = scene.store("1MiB");
        assert!(matches!(scene.begin(&store), KeepAnswer::Missing(_)));
        std::fs::remove_file(&scene.disk).unwrap();
        assert!(matches!(chunk(&store, 0, 3, 2), KeepAnswer::Failed(_)));
        assert!(store.list()[0].given_up.as_ref().unwrap().contains("No such file"));
        assert_eq!(store.answer("r0", 0, RESUME), KeepAnswer::Missing(Vec::new()));
    }

    #[test]
    fn names_do_not_lead_out_of_the_directory() {
        let store = Scene::new().store("1MiB");
        for name in ["", "..", "../disk", ".hidden", "a/b"] {
            assert!(store.open(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn an_index_with_impossible_figures_is_refused() {
        let scene = Scene::new();
        let store = scene.store("1MiB");
        scene.begin(&store);
        let json = std::fs::read_dir(scene.dir.path().join("discarded"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| p.to_string_lossy().ends_with(".json"))
            .unwrap();
        let text = std::fs::read_to_string(&json).unwrap();
        let bad = text.replace("\"count\":2", "\"count\":1152921504606846976");
        assert_ne!(text, bad);
        std::fs::write(&json, bad).unwrap();
        let answer = store.answer("r0", 0, RESUME);
        let listed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.list()));
        assert!(listed.is_ok() && answer == KeepAnswer::Missing(Vec::new()));
    }
}
