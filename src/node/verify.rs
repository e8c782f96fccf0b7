//! Online verify: both disks are compared block by block while they are in use (datapath.md section 7,
//! W184 to W189).
//!
//! ```text
//!  VerifyS, who asked for it                      VerifyT
//!  ─────────────────────────                      ───────
//!  holds the block ── P_OV_REQUEST ─────────────► holds the block, reads it
//!  reads it        ◄────────── P_OV_REPLY digest
//!  compares        ── P_OV_RESULT (meta) ───────► marks it, if it differs
//!  marks it, if it differs
//! ```
//!
//! Each side holds a block until it is judged there: new writes of its clients wait, and it is read once
//! those under way are on both disks. So no write comes between the two reads, and what is reported
//! differs (D144). New writes wait from the moment in which the block is chosen, so that a client who
//! writes it again and again does not hold up the run (I31).

use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use super::effect::{Device, DiskOp, LogLevel};
use super::input::DiskFault;
use super::peer_read::{PeerRead, ReadKind};
use super::progress::Progress;
use super::ranges::Holder;
use super::resync_rate::Controller;
use super::resync_target::{TICK, rates};
use super::rules::Manner;
use super::state::{Conn, Disk, State, StateChange};
use super::status::ResyncStatus;
use super::tickets::Purpose;
use crate::buffer::Buf;
use crate::config::options::Protocol;
use crate::units::{BLOCK_SECTORS, Extent, Moment, Sector, VolumeId, bits_of};
use crate::wire::digest::DigestAlg;
use crate::wire::packet::{BlockAck, BlockId, BlockRequest, Packet};

/// Blocks that VerifyS may have under way here; more is an attack.
const MAX_BLOCKS: usize = 1 << 16;
/// Blocks that VerifyT reads at once.
const MAX_READS: usize = 256;

/// What a verify is to do, as the administrator wants it. In sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// Where to begin: where the last one came to, if it was not told (D145).
    pub(super) start: Sector,
    /// Where to stop, at the latest behind one block (D139).
    pub(super) stop: Option<Sector>,
}

/// How far one block is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Held; writes that began before are under way.
    Waiting,
    /// VerifyS: the peer was asked.
    Asked,
    /// VerifyS: the peer's digest is here, the own block is being read.
    Comparing(Vec<u8>),
    /// VerifyT: the block is being read.
    Reading,
    /// VerifyT: the digest is sent, the result is not here.
    Answered,
}

#[derive(Debug)]
struct Block {
    id: u64,
    extent: Extent,
    stage: Stage,
}

/// A verify under way on one volume.
#[derive(Debug)]
pub(super) struct Verify {
    progress: Progress,
    /// Blocks that are not judged.
    left: u64,
    /// Whether a block was chosen, or asked for.
    begun: bool,
    /// The first block behind those chosen or asked for.
    next: Sector,
    /// VerifyS: where to stop.
    pub(super) stop: Option<Sector>,
    /// The blocks under way, by their first sector.
    blocks: BTreeMap<Sector, Block>,
    /// Those that wait for writes.
    waiting: BTreeSet<Sector>,
    /// VerifyT: blocks being read.
    reading: usize,
    /// The last difference, as long as it may grow: first sector and the one behind it.
    found: Option<(Sector, Sector)>,
    /// VerifyS: blocks that the peer could not give.
    skipped: u64,
    controller: Controller,
    budget: u64,
    arrived: u64,
    next_tick: Option<Moment>,
    /// VerifyS: all is judged; this ping proves that the peer knows it (W188).
    ping: Option<u64>,
}

impl Verify {
    fn new(now: Moment, start: Sector, stop: Option<Sector>, total: u64) -> Self {
        Self {
            progress: Progress::new(now, total),
            left: total,
            begun: false,
            next: start,
            stop,
            blocks: BTreeMap::new(),
            waiting: BTreeSet::new(),
            reading: 0,
            found: None,
            skipped: 0,
            controller: Controller::default(),
            budget: 0,
            arrived: 0,
            next_tick: None,
            ping: None,
        }
    }

    /// When this run needs attention.
    pub(super) const fn deadline(&self) -> Option<Moment> {
        self.next_tick
    }

    /// The first block that is not judged.
    fn position(&self) -> Sector {
        self.blocks.keys().next().copied().unwrap_or(self.next)
    }

    /// VerifyS: blocks that the peer was asked for and has not given.
    pub(super) fn asked(&self) -> u64 {
        self.blocks.values().filter(|block| block.stage == Stage::Asked).count() as u64
    }

    fn all_chosen(&self, end: Sector, stops: bool) -> bool {
        let stopped = stops && self.begun && self.stop.is_some_and(|stop| self.next >= stop);
        self.next >= end || stopped
    }

    fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The figures for the status.
    pub(super) fn status(&self, now: Moment) -> ResyncStatus {
        self.progress.status(now, self.left, 0, self.controller.want_kib_s())
    }

    /// One block more is judged.
    fn count_judged(&mut self, now: Moment) {
        self.left = self.left.saturating_sub(1);
        self.progress.note(now, self.left);
    }

    /// A block differs: the run of differences that it does not continue, to be reported (D142).
    fn differs(&mut self, extent: Extent) -> Option<(Sector, Sector)> {
        match &mut self.found {
            Some((_, end)) if *end == extent.start() => {
                *end = extent.end();
                None
            }
            found => found.replace((extent.start(), extent.end())),
        }
    }

    /// A block is equal: the run of differences that ends at it.
    fn is_equal(&mut self, extent: Extent) -> Option<(Sector, Sector)> {
        self.found.take_if(|(_, end)| *end == extent.start())
    }
}

impl Node {
    /// Begins and ends a run with the state (S21.7, S21.9).
    pub(super) fn note_verify(&mut self, volume: VolumeId, old: State, new: State) {
        if old.conn.is_verify() && !new.conn.is_verify() {
            self.stop_verify(volume);
        }
        if old.conn.is_verify() || !new.conn.is_verify() {
            return;
        }
        let now = self.now;
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let blocks = bits_of(v.end);
        let asks = new.conn == Conn::VerifyS;
        let first = if asks { v.verify_wish.start.bit().get().min(blocks.saturating_sub(1)) } else { 0 };
        let start = Sector::new(first * BLOCK_SECTORS);
        let stop = v.verify_wish.stop.filter(|_| asks);
        let mut verify = Verify::new(now, start, stop, blocks - first.min(blocks));
        verify.next_tick = asks.then_some(now);
        v.verify = Some(verify);
        if asks {
            let text = format!("Starting Online Verify from sector {}", start.get());
            self.say(LogLevel::Info, Some(volume), text);
        }
    }

    /// The run ends where it is; the next one goes on from there (D145).
    fn stop_verify(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(verify) = v.verify.take() else { return };
        let (end, position) = (v.end, verify.position());
        // An answer that comes later is not waited for (I36).
        v.counters.pe = v.counters.pe.saturating_sub(verify.asked());
        v.ranges.release_resync();
        v.verify_wish = Wish { start: if position >= end { Sector::new(0) } else { position }, stop: None };
        self.report(volume, verify.found);
        if position < end {
            let text = format!("Online Verify reached sector {}", position.get());
            self.say(LogLevel::Info, Some(volume), text);
        }
        self.retry_waiting(volume);
    }

    /// Lets the runs go on whose time has come.
    pub(super) fn verify_tick(&mut self) {
        let now = self.now;
        let max_buffers = self.link().max_buffers();
        for volume in self.volume_ids() {
            let Some(v) = self.volumes.get_mut(&volume) else { continue };
            let Some(verify) = v.verify.as_mut() else { continue };
            if verify.next_tick.is_none_or(|at| now < at) {
                continue;
            }
            verify.next_tick = Some(now.after(TICK));
            if v.state.conn == Conn::VerifyS
                && let Some(disk) = v.disk.as_ref()
            {
                let arrived = std::mem::take(&mut verify.arrived);
                verify.budget = verify.controller.tick(&rates(&disk.options, max_buffers), arrived);
            }
            self.advance_verify(volume);
        }
    }

    /// Writes ended: blocks that waited for them may be read.
    pub(super) fn retry_verify(&mut self, volume: VolumeId) {
        if self.volumes.get(&volume).is_some_and(|v| v.verify.as_ref().is_some_and(Verify::is_waiting)) {
            self.advance_verify(volume);
        }
    }

    /// Goes on as far as it can.
    fn advance_verify(&mut self, volume: VolumeId) {
        self.serve_verify(volume);
        while self.choose_block(volume) {
            self.serve_verify(volume);
        }
        let stops = self.stops_early();
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(verify) = v.verify.as_mut() else { return };
        let asks = v.state.conn == Conn::VerifyS;
        let chosen = !asks || verify.all_chosen(v.end, stops);
        if chosen && !verify.is_waiting() {
            verify.next_tick = None; // Packets and reads wake it.
        }
        if asks && chosen && verify.blocks.is_empty() && verify.ping.is_none() {
            self.ping();
            let ping = self.link().alive.pings;
            if let Some(verify) = self.volumes.get_mut(&volume).and_then(|v| v.verify.as_mut()) {
                verify.ping = Some(ping);
            }
        }
    }

    /// Whether the agreed version has the packet that ends a verify before the end (W188).
    fn stops_early(&self) -> bool {
        let apv = self.link().apv;
        apv >= 97 && apv != 100
    }

    /// VerifyS: holds the next block, if the controller lets it (D139). One at a time waits for writes.
    fn choose_block(&mut self, volume: VolumeId) -> bool {
        let window = u64::from(self.link().max_buffers()) / 2;
        let stops = self.stops_early();
        let Some(v) = self.volumes.get_mut(&volume) else { return false };
        let Some(verify) = v.verify.as_mut() else { return false };
        let may = v.state.conn == Conn::VerifyS
            && verify.budget > 0
            && (verify.blocks.len() as u64) < window
            && !verify.all_chosen(v.end, stops)
            && !verify.is_waiting();
        let sectors = v.end.get().saturating_sub(verify.next.get()).min(BLOCK_SECTORS);
        let Some(extent) = Extent::new(verify.next, sectors as u32).filter(|_| may) else { return false };
        verify.budget -= 1;
        verify.controller.requested(1);
        verify.begun = true;
        verify.next = extent.end();
        self.hold_block(volume, extent);
        true
    }

    fn hold_block(&mut self, volume: VolumeId, extent: Extent) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(verify) = v.verify.as_mut() else { return };
        v.verify_blocks += 1;
        let id = v.verify_blocks;
        verify.waiting.insert(extent.start());
        verify.blocks.insert(extent.start(), Block { id, extent, stage: Stage::Waiting });
        v.ranges.hold(extent, Holder::Verify(id));
    }

    /// Asks for, or reads, the blocks whose writes have ended.
    fn serve_verify(&mut self, volume: VolumeId) {
        let Some(verify) = self.volumes.get(&volume).and_then(|v| v.verify.as_ref()) else { return };
        let waiting: Vec<(Extent, u64)> = verify
            .waiting
            .iter()
            .filter_map(|sector| verify.blocks.get(sector))
            .take(MAX_READS.saturating_sub(verify.reading))
            .map(|block| (block.extent, block.id))
            .collect();
        for (extent, id) in waiting {
            if !self.is_written_everywhere(volume, extent) {
                continue;
            }
            let Some(v) = self.volumes.get_mut(&volume) else { return };
            let asks = v.state.conn == Conn::VerifyS;
            let Some(verify) = v.verify.as_mut() else { return };
            verify.waiting.remove(&extent.start());
            let Some(block) = verify.blocks.get_mut(&extent.start()) else { continue };
            if asks {
                block.stage = Stage::Asked;
                v.counters.pe += 1;
                let (sector, size) = (extent.start(), extent.bytes() as u32);
                let request = BlockRequest { sector, block_id: BlockId::RESYNC, size };
                self.send_data(volume, Packet::OvRequest(request), None);
            } else {
                block.stage = Stage::Reading;
                verify.reading += 1;
                let kind = ReadKind::Verify { block: id };
                self.read_for_peer(PeerRead { volume, extent, block_id: BlockId::RESYNC, kind });
            }
        }
    }

    /// Whether no write to these sectors is under way, of this node or of the peer, on either disk.
    fn is_written_everywhere(&self, volume: VolumeId, extent: Extent) -> bool {
        let own = self.volumes.get(&volume).is_some_and(|v| v.ranges.written(extent));
        // Answered before the peer's disk had it.
        let early = self.link().protocol() != Protocol::C && self.log.has_unsettled_write(volume, extent);
        !own && !early && !self.waits_for_peer(volume, extent)
    }

    /// P_OV_REQUEST (D140, W185).
    pub(super) fn on_verify_request(&mut self, volume: VolumeId, request: BlockRequest) {
        let Some(extent) = self.requested_extent(volume, request) else { return };
        let now = self.now;
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if v.state.disk != Disk::UpToDate || v.state.conn != Conn::VerifyT {
            return self.ack(volume, extent, request.block_id, Packet::NegRsDreply);
        }
        let whole = u64::from(extent.sectors()) == BLOCK_SECTORS || extent.end() == v.end;
        let one = extent.start().get().is_multiple_of(BLOCK_SECTORS)
            && u64::from(extent.sectors()) <= BLOCK_SECTORS
            && whole;
        let Some(verify) = v.verify.as_mut() else { return };
        if !one || verify.blocks.contains_key(&extent.start()) {
            return self
                .protocol_error(&format!("a verify request for {extent}, which is not the next block"));
        }
        if verify.blocks.len() >= MAX_BLOCKS {
            return self.protocol_error("the peer asks for too many blocks at once");
        }
        let first = !verify.begun;
        if first {
            let total = bits_of(v.end) - extent.start().bit().get();
            verify.begun = true;
            verify.left = total;
            verify.progress = Progress::new(now, total);
        }
        verify.next = verify.next.max(extent.end());
        verify.next_tick.get_or_insert(now.after(TICK));
        if first {
            let text = format!("Online Verify start sector: {}", extent.start().get());
            self.say(LogLevel::Info, Some(volume), text);
        }
        self.hold_block(volume, extent);
        self.advance_verify(volume);
    }

    /// VerifyT: a block was read, or could not be: its digest, or zeroes (W186).
    pub(super) fn answer_verify(&mut self, volume: VolumeId, extent: Extent, id: u64, data: Option<&Buf>) {
        let alg = self.verify_alg();
        let Some(verify) = self.volumes.get_mut(&volume).and_then(|v| v.verify.as_mut()) else { return };
        let Some(block) = verify.blocks.get_mut(&extent.start()).filter(|block| block.id == id) else {
            return; // Of a run that has ended.
        };
        block.stage = Stage::Answered;
        verify.reading = verify.reading.saturating_sub(1);
        let Some(alg) = alg else { return };
        let digest =
            data.map_or_else(|| vec![0; alg.digest_bytes()], |data| alg.digest(data.bytes()).to_vec());
        let (sector, size) = (extent.start(), extent.bytes() as u32);
        let request = BlockRequest { sector, block_id: BlockId::RESYNC, size };
        self.send_data(volume, Packet::OvReply { request, digest }, None);
        self.retry_verify(volume);
    }

    /// P_OV_REPLY: now the own block is read (D141).
    pub(super) fn on_verify_reply(&mut self, volume: VolumeId, reply: BlockRequest, digest: Vec<u8>) {
        let alg = self.verify_alg();
        let Some(v) = self.volumes.get_mut(&volume) else {
            return self.unknown_volume("P_OV_REPLY", volume);
        };
        let asked = v.state.conn == Conn::VerifyS;
        let Some(verify) = v.verify.as_mut().filter(|_| asked) else { return }; // It came too late.
        if alg.is_none_or(|alg| alg.digest_bytes() != digest.len()) {
            let text = format!("a verify digest of {} bytes", digest.len());
            return self.protocol_error(&text);
        }
        let block = verify
            .blocks
            .get_mut(&reply.sector)
            .filter(|block| block.stage == Stage::Asked && block.extent.bytes() == u64::from(reply.size));
        let Some(block) = block else {
            let sector = reply.sector.get();
            let text = format!("a verify reply for sector {sector} that nobody asked for");
            return self.protocol_error(&text);
        };
        block.stage = Stage::Comparing(digest);
        let (id, extent) = (block.id, block.extent);
        verify.arrived += u64::from(extent.sectors());
        v.counters.pe = v.counters.pe.saturating_sub(1);
        v.counters.dr += extent.bytes() / 1024;
        v.counters.lo += 1;
        let op = DiskOp::Read { offset: extent.start().byte_offset(), len: extent.bytes() as usize };
        let purpose = Purpose::VerifyRead { sector: extent.start(), block: id };
        self.start_disk(volume, Device::Data, op, purpose);
    }

    /// VerifyS: the own block was read: it is judged (D141, D142).
    pub(super) fn verify_read_done(
        &mut self,
        volume: VolumeId,
        sector: Sector,
        id: u64,
        result: &Result<Option<Buf>, DiskFault>,
    ) {
        let alg = self.verify_alg();
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.lo = v.counters.lo.saturating_sub(1);
        }
        if let Err(fault) = result {
            self.read_fault(volume, fault, "a read for the verify");
        }
        let Some(verify) = self.volumes.get_mut(&volume).and_then(|v| v.verify.as_mut()) else { return };
        let Some(block) = verify.blocks.get(&sector).filter(|block| block.id == id) else { return };
        let equal = match (&block.stage, result, alg) {
            (Stage::Comparing(digest), Ok(Some(data)), Some(alg)) => alg.matches(data.bytes(), digest),
            (_, Ok(_) | Err(_), _) => false,
        };
        let extent = block.extent;
        let verdict = if equal { BlockId::OV_EQUAL } else { BlockId::OV_DIFFERENT };
        self.ack(volume, extent, verdict, Packet::OvResult);
        self.judge(volume, sector, Some(equal));
        self.advance_verify(volume);
    }

    /// P_OV_RESULT (D142, W187).
    pub(super) fn on_verify_result(&mut self, volume: VolumeId, ack: BlockAck) {
        let Some(v) = self.volumes.get(&volume) else {
            return self.unknown_volume("P_OV_RESULT", volume);
        };
        let answered = v.state.conn == Conn::VerifyT
            && v.verify
                .as_ref()
                .and_then(|verify| verify.blocks.get(&ack.sector))
                .is_some_and(|block| block.stage == Stage::Answered);
        if !answered {
            return; // Only what was read in this run can be judged by it.
        }
        self.judge(volume, ack.sector, Some(ack.block_id != BlockId::OV_DIFFERENT));
        if self.volumes.get(&volume).is_some_and(|v| v.verify.as_ref().is_some_and(|verify| verify.left == 0))
        {
            self.finish_verify(volume);
        }
    }

    /// VerifyT could not give a block: that one is not verified. Whether there was such a block.
    pub(super) fn on_verify_refused(&mut self, volume: VolumeId, ack: BlockAck) -> bool {
        let Some(v) = self.volumes.get_mut(&volume) else { return false };
        let Some(verify) = v.verify.as_mut() else { return false };
        if verify.blocks.get(&ack.sector).is_none_or(|block| block.stage != Stage::Asked) {
            return false;
        }
        verify.skipped += 1;
        verify.arrived += BLOCK_SECTORS;
        v.counters.pe = v.counters.pe.saturating_sub(1);
        self.judge(volume, ack.sector, None);
        self.advance_verify(volume);
        true
    }

    /// The verdict about a block, which is let go: equal or not, or none.
    fn judge(&mut self, volume: VolumeId, sector: Sector, equal: Option<bool>) {
        let now = self.now;
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(verify) = v.verify.as_mut() else { return };
        let Some(block) = verify.blocks.remove(&sector) else { return };
        verify.count_judged(now);
        let ended = match equal {
            Some(true) => verify.is_equal(block.extent),
            Some(false) => verify.differs(block.extent),
            None => None,
        };
        if equal == Some(false) {
            // While the block is held: a write that waits for it may clear the bit again.
            self.mark_out_of_sync(volume, block.extent);
        }
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.ranges.release(Holder::Verify(block.id));
        }
        self.report(volume, ended);
        self.retry_waiting(volume);
    }

    /// Says what differs (D142).
    fn report(&mut self, volume: VolumeId, found: Option<(Sector, Sector)>) {
        let Some((start, end)) = found else { return };
        let (start, size) = (start.get(), end.get() - start.get());
        let text = format!("Out of sync: start={start}, size={size} (sectors)");
        self.say(LogLevel::Error, Some(volume), text);
    }

    /// A ping was answered: the peer has all results sent before it (W188).
    pub(super) fn pong_for_verify(&mut self) {
        let pongs = self.link().alive.pongs;
        for volume in self.volume_ids() {
            let verify = self.volumes.get(&volume).and_then(|v| v.verify.as_ref());
            if verify.and_then(|verify| verify.ping).is_some_and(|ping| pongs >= ping) {
                self.finish_verify(volume);
            }
        }
    }

    /// The run is over on this node (S59). VerifyT needs no ping: it has judged what it was told to.
    pub(super) fn finish_verify(&mut self, volume: VolumeId) {
        let now = self.now;
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let set = v.bits_set();
        let Some(verify) = v.verify.as_mut() else { return };
        let (found, skipped) = (verify.found.take(), verify.skipped);
        let judged = verify.progress.total.saturating_sub(verify.left);
        let text = format!("Online verify done {}", verify.progress.summary(now, judged));
        self.report(volume, found);
        self.say(LogLevel::Info, Some(volume), text);
        if skipped > 0 {
            let text =
                format!("Online verify could not compare {skipped} 4k blocks: the peer did not give them");
            self.say(LogLevel::Error, Some(volume), text);
        }
        if set > 0 {
            let text = format!("Online verify found {set} 4k block out of sync!");
            self.say(LogLevel::Error, Some(volume), text);
            self.call_handler("out-of-sync", Some(volume));
        }
        let change = StateChange { pdsk: Some(Disk::UpToDate), ..StateChange::conn(Conn::Connected) };
        self.change(volume, StateChange { disk: Some(Disk::UpToDate), ..change }, Manner::HARD);
    }

    fn verify_alg(&self) -> Option<DigestAlg> {
        let name = self.link().config.as_ref()?.options.verify_alg.as_ref()?;
        DigestAlg::from_name(name).ok()
    }
}
