//! A node that checks its own books: whatever is counted is counted again, from what is under way.
//!
//! For those who watch a core, such as the simulator: nothing in the core itself needs it.

use std::collections::BTreeMap;

use super::Node;
use super::peer_write::Stage;
use super::ranges::Holder;
use super::request::extent_of;
use super::tickets::Purpose;
use super::volume::Volume;
use crate::units::{AlExtent, BLOCK_SECTORS, Extent};

impl Node {
    /// Checks every count that is kept against what it counts: references of the activity log, whose slots
    /// hold no number twice (I15), ranges that are held, of which no two writes overlap (I23, I29), the order of
    /// epochs (I21), what a target has asked for (I30), and the counters of what is under way (I36). Between two inputs all
    /// of that holds.
    ///
    /// # Errors
    /// What does not.
    pub fn audit(&self) -> Result<(), String> {
        for v in self.volumes.values() {
            let verdict = self.audit_activity(v).and_then(|()| self.audit_requests(v));
            let verdict = verdict.and_then(|()| self.audit_counters(v)).and_then(|()| self.audit_window(v));
            verdict.map_err(|why| format!("volume {}: {why}", v.id))?;
        }
        self.audit_epochs()
    }

    /// No write of the peer is on the disk before all of its earlier epochs have ended.
    fn audit_epochs(&self) -> Result<(), String> {
        let ios = || self.link().peer_ios.values();
        let newest = ios().filter(|io| io.stage == Stage::Started).filter_map(|io| io.epoch).max();
        let oldest = ios().filter_map(|io| io.epoch).min();
        match newest.zip(oldest) {
            Some((newest, oldest)) if oldest < newest => {
                Err(format!("a write of {newest:?} began before all of {oldest:?} have ended (I21)"))
            }
            _ => Ok(()),
        }
    }

    /// The activity log is referenced by every live request that was found hot, and by nothing else (I15).
    fn audit_activity(&self, v: &Volume) -> Result<(), String> {
        let Some(disk) = v.disk.as_deref() else { return Ok(()) };
        let logged = self.log.iter().filter(|(_, req)| req.volume == v.id && req.in_al);
        let behind = v.behind_peer.iter().filter(|(_, in_al)| *in_al).map(|(admitted, _)| admitted);
        let admitted = v.al_commit.iter().chain(behind).filter_map(|a| extent_of(&a.parked.request));
        let mut expected: BTreeMap<AlExtent, u32> = BTreeMap::new();
        for extent in logged.map(|(_, req)| req.extent).chain(admitted) {
            let (first, last) = extent.al_extents();
            for number in first.get()..=last.get() {
                *expected.entry(AlExtent::new(number)).or_default() += 1;
            }
        }
        disk.al.audit(&expected).map_err(|why| format!("activity log: {why} (I15)"))
    }

    /// Requests that are admitted and not finished, and the ranges that those which write hold.
    fn audit_requests(&self, v: &Volume) -> Result<(), String> {
        v.ranges.audit()?;
        let mut exchanges = v.resync.iter().flat_map(|resync| &resync.exchanges);
        if let Some(x) = exchanges.find(|x| !v.ranges.holds(Holder::Resync(x.id))) {
            return Err(format!("{} is exchanged, and its range is not held (I29)", x.extent));
        }
        let holding = v.al_waiting.len() + v.al_commit.len() + v.al_refused.len() + v.behind_peer.len();
        let open = || self.log.iter().filter(|(_, req)| req.volume == v.id && !req.completed);
        let live = open().count() + holding + v.waiting.len() + v.flushes.len();
        equal("admitted requests", u64::from(v.live), live)?;
        let held = open().filter(|(_, req)| req.hold != 0).count() + holding;
        equal("ranges held by writes", v.ranges.writes() as u64, held)
    }

    /// A target has asked for no more than half of its buffers, and counts what it has not got (D112, T12).
    fn audit_window(&self, v: &Volume) -> Result<(), String> {
        let Some(resync) = v.resync.as_ref().filter(|resync| !resync.source) else { return Ok(()) };
        let asked = resync.sectors_in_flight();
        let most = u64::from(self.link().max_buffers()) / 2 * BLOCK_SECTORS;
        if asked > most {
            return Err(format!("{asked} sectors are asked for, and {most} may be (I30)"));
        }
        // The controller counts whole blocks: the last one, asked for once in each of two scans, may be shorter.
        let slack = 2 * (v.end.get().next_multiple_of(BLOCK_SECTORS) - v.end.get());
        let counted = resync.controller.in_flight_sectors().saturating_sub(resync.arrived);
        let there = if resync.unanswered == 0 { 0 } else { asked };
        if counted > there + slack {
            return Err(format!("{counted} sectors count as under way, of {there} (I30, T12)"));
        }
        Ok(())
    }

    /// What users see of what is under way (I36).
    fn audit_counters(&self, v: &Volume) -> Result<(), String> {
        let link = self.link();
        let sent = self.log.iter().filter(|(_, req)| {
            let net = req.net;
            req.volume == v.id && net.used && net.pending && !net.lost
        });
        let asked = v.resync.as_ref().map_or(0, |resync| resync.unanswered as usize)
            + v.verify.as_ref().map_or(0, |verify| verify.asked() as usize);
        equal("unanswered packets (pe)", v.counters.pe, sent.count() + asked)?;
        let reads = link.peer_reads.values().filter(|read| read.volume == v.id).count();
        let writes = link.peer_ios.values().filter(|io| io.volume == v.id).count();
        let mut on_disk = 0;
        self.tickets.each(|operation| {
            let counted = matches!(
                operation.purpose,
                Purpose::Local { .. } | Purpose::PeerWrite { .. } | Purpose::VerifyRead { .. }
            );
            on_disk += usize::from(operation.volume == v.id && counted);
        });
        equal("disk operations (lo)", v.counters.lo, on_disk + reads)?;
        if link.is_up() {
            equal("unanswered requests of the peer (ua)", v.counters.ua, reads + writes)?;
        }
        Ok(())
    }
}

fn equal(what: &str, counted: u64, there: usize) -> Result<(), String> {
    if counted == there as u64 {
        return Ok(());
    }
    Err(format!("{counted} {what} are counted, and there are {there} (I36)"))
}

/// Two ranges that must not be held together.
pub(super) fn overlap(what: &str, one: Extent, other: Extent) -> Result<(), String> {
    if one.overlaps(other) {
        Err(format!("{what} holds {one} beside a write to {other} (I23, I29)"))
    } else {
        Ok(())
    }
}
