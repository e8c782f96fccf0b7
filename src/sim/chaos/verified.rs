//! Verify finds exactly what differs (I32): at the end of some lives, blocks of one disk are changed behind
//! its node's back.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::events::HostId;
use super::super::world::Pending;
use super::admin::Task;
use super::book::Book;
use super::life::Life;
use super::view::View;
use crate::node::command::Command;
use crate::units::{BLOCK_SECTORS, BitIndex, SECTOR_BYTES, Sector, VolumeId};

/// One life in so many ends with a verify.
const ONE_IN: u64 = 8;
/// Blocks compared: as many as show a beginning, a middle and an end.
const BLOCKS: u64 = 400;
/// With a slow resync rate and pauses.
const LIMIT: Duration = Duration::from_secs(60);

impl Life {
    /// The pair is in sync and does nothing. In some lives a verify of a part of a volume has to mark the
    /// blocks that were changed there, and no other.
    pub(super) fn verify_finds_what_differs(&mut self) -> Result<(), String> {
        let mut random = self.random.fork();
        let marked = |book: &Book| book.discards_failed || book.views.iter().any(|view| view.bits > 0);
        // Each of the nodes is Primary, of another volume, which came about while they were apart: with one Primary
        // allowed the nodes agree on nothing then (V2).
        let primary = |host: usize| self.books.iter().any(|book| book.views[host].is_primary());
        let at_odds = !self.setup.two_primaries && primary(0) && primary(1);
        if at_odds && self.books.iter().any(|book| book.views.iter().all(View::is_primary)) {
            return Err("both nodes are Primary of one volume, and only one may be".into());
        }
        let busy = ![0, 1].into_iter().all(|host| self.is_obeyed(host));
        if busy || self.books.iter().any(marked) || at_odds || random.below(ONE_IN) != 0 {
            return Ok(()); // A failed discard, or an invalidate, may have left bits, or is about to.
        }
        let number = random.below(self.books.len() as u64) as usize;
        let (volume, sectors) = (self.books[number].volume, self.books[number].views[0].sectors);
        let all = sectors.div_ceil(BLOCK_SECTORS);
        let first = random.below(all - BLOCKS / 2);
        let end = (first + BLOCKS).min(all);
        // Beside each other, at either end, or none; one just outside is not looked at.
        let mut changed: BTreeSet<u64> =
            (0..random.below(4)).map(|_| first + random.below(end - first)).collect();
        changed
            .extend(changed.first().map(|block| (block + 1).min(end - 1)).filter(|_| random.below(2) == 0));
        changed.extend([first, end - 1].into_iter().filter(|_| random.below(4) == 0));
        let outside = [first.checked_sub(1), Some(end).filter(|end| *end < all)];
        self.books[number].tampered = true;
        let disk = self.books[number].disk(&self.world, random.below(2) as usize);
        for block in changed.iter().copied().chain(outside.into_iter().flatten()) {
            let offset = block * BLOCK_SECTORS * SECTOR_BYTES;
            let _ = disk.data().write_at(offset, &[0xa5; SECTOR_BYTES as usize]);
        }
        let (start, stop) = (first * BLOCK_SECTORS, end * BLOCK_SECTORS);
        let stop = Some(Sector::new(stop)).filter(|stop| stop.get() < sectors);
        let asker = random.below(2) as usize;
        self.say(|| format!("── {asker} verifies {first}..{end} of volume {number}, changed: {changed:?}"));
        let verify = Command::Verify { volume, start: Some(Sector::new(start)), stop };
        self.tasks[asker].push_back(Task::Command(verify));
        self.wait_for("the end of a verify", LIMIT, |life| life.is_obeyed(asker) && life.unrest().is_none())?;
        self.marks_are(volume, number, &changed)
    }

    /// Whether a node has done all that it was told.
    pub(super) fn is_obeyed(&self, host: HostId) -> bool {
        let done = |pending: &Pending| pending.outcome().is_some();
        self.tasks[host].is_empty() && self.pending[host].as_ref().is_none_or(done)
    }

    fn marks_are(&self, volume: VolumeId, number: usize, changed: &BTreeSet<u64>) -> Result<(), String> {
        let all = self.books[number].views[0].sectors.div_ceil(BLOCK_SECTORS);
        for host in [0, 1] {
            let Some(core) = self.world.core(host) else { continue };
            let marked: BTreeSet<u64> = (0..all)
                .filter(|block| core.out_of_sync(volume, BitIndex::new(*block)) == Some(true))
                .collect();
            if marked != *changed {
                return Err(format!("a verify marks {marked:?} at {host}, and {changed:?} differ (I32)"));
            }
        }
        Ok(())
    }
}
