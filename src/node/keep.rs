//! Undo: before a node that discards its data is overwritten, what it alone has is kept.
//!
//! ```text
//!  handshake: loses a split brain ─► Begin: the blocks of its own bitmap ─► shell: is there room?
//!                                                                              │
//!  writes to blocks not kept yet wait ◄── Chunk, one after the other ──────────┘
//!     └─ go on when their chunk is durable in the file
//! ```
//! The device is kept in chunks of 4 MiB, in order, those first for which a write waits. When the
//! connection or the node is lost in the middle, the shell knows what is missing, and is asked when the
//! node becomes a target again.

use std::collections::{BTreeMap, VecDeque};

use super::Node;
use super::effect::{Effect, LogLevel};
use crate::units::{BitIndex, Extent, VolumeId, bits_of};

/// Blocks of 4 KiB in a chunk.
const CHUNK_BLOCKS: u64 = 1024;

/// Blocks of 4 KiB in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Blocks {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Blocks {
    /// The parts of a row that are not in a chunk.
    pub fn without_chunk(self, chunk: u64) -> impl Iterator<Item = Self> {
        let (begin, end) = (chunk * CHUNK_BLOCKS, (chunk + 1) * CHUNK_BLOCKS);
        let last = self.first + self.count;
        [(self.first, last.min(begin)), (self.first.max(end), last)]
            .into_iter()
            .filter(|(first, end)| first < end)
            .map(|(first, end)| Self { first, count: end - first })
    }
}

/// What the shell is asked for, about one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepAsk {
    /// Is there room for these blocks? Answered by [`KeepAnswer::Missing`], or [`KeepAnswer::Refused`].
    Begin {
        /// Path of the device with the data.
        path: String,
        /// Size of the replicated device in bytes.
        device_bytes: u64,
        /// The generation that is given up: current, bitmap and history UUIDs.
        generation: [u64; 4],
        /// The current UUID of the data that takes its place.
        winner: u64,
        /// What this node alone has.
        blocks: Vec<Blocks>,
    },
    /// What is missing of something that was begun before, and these data are to take the place of?
    /// Answered by [`KeepAnswer::Missing`].
    Resume {
        /// The current UUID of the data to come. With another one the blocks here may have changed since.
        winner: u64,
    },
    /// Keep these blocks durably. Answered by [`KeepAnswer::Kept`] or [`KeepAnswer::Failed`].
    Chunk {
        /// Its number: the device in parts of 4 MiB.
        chunk: u64,
        /// The blocks in it.
        blocks: Vec<Blocks>,
    },
}

/// What the shell answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepAnswer {
    /// These blocks are to be kept before they are overwritten.
    Missing(Vec<Blocks>),
    /// Nothing is kept; why not, in words, unless it is not configured.
    Refused(Option<String>),
    /// The chunk is durable.
    Kept {
        /// Its number.
        chunk: u64,
    },
    /// The chunk could not be kept, for this reason: the rest is not either.
    Failed(String),
}

/// What is still to be kept of a volume.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    chunks: BTreeMap<u64, Vec<Blocks>>,
    /// Chunks that a write waits for.
    demanded: VecDeque<u64>,
    under_way: Option<u64>,
    /// The shell has not said yet what there is to keep: everything waits.
    asked: bool,
}

impl Keeping {
    fn of(blocks: &[Blocks]) -> Self {
        let mut chunks: BTreeMap<u64, Vec<Blocks>> = BTreeMap::new();
        for run in blocks {
            let (mut first, end) = (run.first, run.first.saturating_add(run.count));
            while first < end {
                let chunk = first / CHUNK_BLOCKS;
                let count = end.min((chunk + 1) * CHUNK_BLOCKS) - first;
                chunks.entry(chunk).or_default().push(Blocks { first, count });
                first += count;
            }
        }
        Self { chunks, ..Self::default() }
    }

    /// Whether a write there has to wait; its chunks are kept first.
    fn blocks(&mut self, extent: Extent) -> bool {
        if self.asked {
            return true;
        }
        let (first, last) = extent.touched_bits();
        let within = first.get() / CHUNK_BLOCKS..=last.get() / CHUNK_BLOCKS;
        let mut some = false;
        for (chunk, runs) in self.chunks.range(within) {
            let touched = |run: &Blocks| run.first <= last.get() && first.get() < run.first + run.count;
            if runs.iter().any(touched) {
                some = true;
                if !self.demanded.contains(chunk) {
                    self.demanded.push_back(*chunk);
                }
            }
        }
        some
    }

    /// The next chunk to keep, if none is under way.
    fn next(&mut self) -> Option<(u64, Vec<Blocks>)> {
        if self.asked || self.under_way.is_some() {
            return None;
        }
        let demanded = std::iter::from_fn(|| self.demanded.pop_front()).find(|c| self.chunks.contains_key(c));
        let chunk = demanded.or_else(|| self.chunks.keys().next().copied())?;
        self.under_way = Some(chunk);
        Some((chunk, self.chunks.get(&chunk)?.clone()))
    }
}

impl Node {
    /// This node is about to become the target of a resync: asks the shell to keep what it gives up by
    /// that, or what is left of an earlier time.
    pub(super) fn keep_before_sync(&mut self, volume: VolumeId, discards: bool, full: bool) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let generation = v.uuids();
        let winner = v.peer_uuids.as_ref().map_or(0, |theirs| theirs.current);
        let Some(disk) = v.disk.as_deref() else { return };
        let ask = if discards {
            let blocks =
                if full { vec![Blocks { first: 0, count: bits_of(v.end) }] } else { runs(&disk.bitmap) };
            let (path, device_bytes) = (disk.facts.path.clone(), v.end.get() * 512);
            KeepAsk::Begin { path, device_bytes, generation, winner, blocks }
        } else if v.keeping.is_none() {
            KeepAsk::Resume { winner }
        } else {
            return;
        };
        v.keeping = Some(Keeping { asked: true, ..Keeping::default() });
        self.effects.push_back(Effect::Keep { volume, ask });
    }

    /// Whether a write to the local disk has to wait until what it overwrites is kept.
    pub(super) fn waits_for_keeping(&mut self, volume: VolumeId, extent: Extent) -> bool {
        let Some(keeping) = self.volumes.get_mut(&volume).and_then(|v| v.keeping.as_mut()) else {
            return false;
        };
        let waits = keeping.blocks(extent);
        self.keep_next(volume);
        waits
    }

    /// The shell has answered.
    pub(super) fn on_kept(&mut self, volume: VolumeId, answer: KeepAnswer) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(keeping) = v.keeping.as_mut() else { return };
        match answer {
            KeepAnswer::Missing(blocks) => {
                let left: u64 = blocks.iter().map(|run| run.count).sum();
                *keeping = Keeping::of(&blocks);
                if left > 0 {
                    let text = format!("keeping {} KiB before they are overwritten", left * 4);
                    self.say(LogLevel::Info, Some(volume), text);
                }
            }
            KeepAnswer::Kept { chunk } => {
                keeping.chunks.remove(&chunk);
                if keeping.under_way == Some(chunk) {
                    keeping.under_way = None;
                }
            }
            KeepAnswer::Refused(why) => {
                v.keeping = None;
                if let Some(why) = why {
                    let text = format!("what is discarded here is not kept: {why}");
                    self.say(LogLevel::Warn, Some(volume), text);
                }
            }
            KeepAnswer::Failed(why) => {
                v.keeping = None;
                let text = format!("what is discarded here is not kept any further: {why}");
                self.say(LogLevel::Error, Some(volume), text);
            }
        }
        let done = self.volumes.get_mut(&volume).is_some_and(|v| {
            v.keeping.take_if(|keeping| !keeping.asked && keeping.chunks.is_empty()).is_some()
        });
        if done {
            self.say(LogLevel::Info, Some(volume), "all that is discarded here is kept, or nothing was");
        }
        self.release_kept(volume);
        self.keep_next(volume);
    }

    /// The disk goes: what is missing is asked for when it is a target again.
    pub(super) fn stop_keeping(&mut self, volume: VolumeId) {
        if self.volumes.get_mut(&volume).and_then(|v| v.keeping.take()).is_some() {
            self.release_kept(volume);
        }
    }

    /// Writes that waited go on, as far as they may.
    fn release_kept(&mut self, volume: VolumeId) {
        self.start_waiting_ios();
        self.route_those_behind(volume);
    }

    fn keep_next(&mut self, volume: VolumeId) {
        let keeping = self.volumes.get_mut(&volume).and_then(|v| v.keeping.as_mut());
        if let Some((chunk, blocks)) = keeping.and_then(Keeping::next) {
            self.effects.push_back(Effect::Keep { volume, ask: KeepAsk::Chunk { chunk, blocks } });
        }
    }
}

/// The set bits of a bitmap, in rows.
fn runs(bitmap: &super::bitmap::Bitmap) -> Vec<Blocks> {
    let mut runs: Vec<Blocks> = Vec::new();
    let mut from = BitIndex::new(0);
    while let Some(bit) = bitmap.next_set(from) {
        match runs.last_mut() {
            Some(run) if run.first + run.count == bit.get() => run.count += 1,
            _ => runs.push(Blocks { first: bit.get(), count: 1 }),
        }
        from = BitIndex::new(bit.get() + 1);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Sector;

    fn extent(block: u64, blocks: u64) -> Extent {
        Extent::of_bytes(Sector::new(block * 8), blocks * 4096).unwrap()
    }

    #[test]
    fn only_what_is_wanted_holds_a_write_up_and_what_it_waits_for_comes_first() {
        let mut keeping = Keeping::of(&[
            Blocks { first: 10, count: 2 },
            Blocks { first: 1020, count: 8 },
            Blocks { first: 5000, count: 1 },
        ]);
        assert!(!keeping.blocks(extent(0, 10)) && !keeping.blocks(extent(12, 100)));
        assert!(keeping.blocks(extent(5000, 1)));
        assert_eq!(keeping.next(), Some((4, vec![Blocks { first: 5000, count: 1 }])));
        assert_eq!(keeping.next(), None, "one after the other");
        keeping.under_way = None;
        keeping.chunks.remove(&4);
        assert!(!keeping.blocks(extent(5000, 1)));
        let first = vec![Blocks { first: 10, count: 2 }, Blocks { first: 1020, count: 4 }];
        assert_eq!(keeping.next(), Some((0, first)));
        assert!(keeping.blocks(extent(1026, 1)), "a row reaches into the next chunk");
    }

    #[test]
    fn everything_waits_until_it_is_known_what_is_to_be_kept() {
        let mut keeping = Keeping { asked: true, ..Keeping::default() };
        assert!(keeping.blocks(extent(0, 1)) && keeping.next().is_none());
    }
}
