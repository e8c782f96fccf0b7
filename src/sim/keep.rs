//! What a machine keeps of the data that it discards: the shell's part, in memory.

use std::collections::BTreeMap;

use super::disk::SimDisk;
use crate::node::decision::compare::masked;
use crate::node::keep::{Blocks, KeepAnswer, KeepAsk};
use crate::units::VolumeId;

const BLOCK: u64 = 4096;

/// What was kept, the last time of each volume.
#[derive(Debug, Default)]
pub struct Kept {
    /// What is still missing.
    missing: BTreeMap<VolumeId, Vec<Blocks>>,
    /// The data that were to take the place.
    winners: BTreeMap<VolumeId, u64>,
    /// What was missing will not come any more.
    pub given_up: bool,
    /// The content of blocks.
    blocks: BTreeMap<(VolumeId, u64), Vec<u8>>,
    /// There is no room for anything.
    pub full: bool,
}

impl Kept {
    /// A block as it was before it was discarded.
    #[must_use]
    pub fn block(&self, volume: VolumeId, block: u64) -> Option<&[u8]> {
        self.blocks.get(&(volume, block)).map(Vec::as_slice)
    }

    /// How many blocks are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Whether something of a volume is still to be kept.
    #[must_use]
    pub fn is_missing(&self, volume: VolumeId) -> bool {
        self.missing.get(&volume).is_some_and(|missing| !missing.is_empty())
    }

    pub(super) fn answer(&mut self, disk: &SimDisk, volume: VolumeId, ask: KeepAsk) -> KeepAnswer {
        match ask {
            KeepAsk::Begin { .. } if self.full => KeepAnswer::Refused(Some("there is no room".into())),
            KeepAsk::Begin { blocks, winner, .. } => {
                self.winners.insert(volume, winner);
                self.given_up = false;
                self.blocks.retain(|(of, _), _| *of != volume);
                self.missing.insert(volume, blocks.clone());
                KeepAnswer::Missing(blocks)
            }
            KeepAsk::Resume { winner } => {
                if self.winners.get(&volume).is_none_or(|begun| masked(*begun) != masked(winner)) {
                    self.given_up |= self.is_missing(volume);
                    self.missing.remove(&volume);
                }
                KeepAnswer::Missing(self.missing.get(&volume).cloned().unwrap_or_default())
            }
            KeepAsk::Chunk { chunk, blocks } => {
                for block in blocks.iter().flat_map(|run| run.first..run.first + run.count) {
                    let mut bytes = vec![0; BLOCK as usize];
                    if disk.read_at(block * BLOCK, &mut bytes).is_err() {
                        return KeepAnswer::Failed("the disk does not read".into());
                    }
                    self.blocks.insert((volume, block), bytes);
                }
                let missing = self.missing.entry(volume).or_default();
                *missing = missing.iter().flat_map(|run| run.without_chunk(chunk)).collect();
                KeepAnswer::Kept { chunk }
            }
        }
    }
}
