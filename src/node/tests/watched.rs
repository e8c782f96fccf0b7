//! Two nodes under random schedules, with a look at both after every single step: a disk operation takes effect or is
//! reported, a packet arrives, a client asks, the link breaks or is whole again, a disk fails. What must hold at
//! every instant is checked at every instant (datapath.md 13.2 and 13.3).

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::meta::activity_log::{Verdict, recover};
use crate::node::state::{Conn, Disk};
use crate::node::transfer_log::{Req, ReqKey};
use crate::units::AlExtent;
use crate::wire::packet::BlockId;

/// Blocks that are written to, some in each of the two extents of the activity log.
const PLACES: [u64; 12] = [0, 1, 2, 3, 4, 5, 1030, 1031, 1032, 1033, 1034, 1035];
const OK: Option<Result<Option<Buf>, ReplyError>> = Some(Ok(None));

/// A write of the client's.
struct Written {
    request: u64,
    extent: Extent,
    /// The newest epoch of writes that were answered when it was asked for.
    after: Option<u32>,
    /// The epoch it was last sent in.
    epoch: Option<u32>,
    answered: bool,
}

/// What is known of the writes that one connection carries.
#[derive(Default)]
struct Carried {
    last: Option<u32>,
    barrier_sent: bool,
    /// The writes of each epoch, and those that were acked.
    sent: BTreeMap<u32, Vec<(BlockId, usize)>>,
    acked: BTreeSet<[u8; 8]>,
    last_barrier_ack: Option<u32>,
}

struct Watch {
    world: World,
    chance: Chance,
    writes: Vec<Written>,
    carried: Carried,
    /// Writes that took effect on the Secondary's disk, or failed there, by number.
    arrived: BTreeSet<usize>,
    /// How much of what the nodes said has been looked at.
    heard: [usize; 2],
    /// The bits before the last step.
    bits: [BTreeSet<u64>; 2],
    seed: u64,
}

impl Watch {
    fn new(seed: u64, net: NetOptions) -> Self {
        let mut world = World::new(net);
        world.disk_options.al_extents = 1; // Each change of place is a change of the log.
        let mut world = world.in_sync();
        for host in &mut world.hosts {
            host.keeps = |_, _| true;
            host.said.clear();
        }
        let carried = Carried::default();
        let (arrived, heard, bits) = (BTreeSet::new(), [0; 2], Default::default());
        Self { world, chance: Chance(seed), writes: Vec::new(), carried, arrived, heard, bits, seed }
    }

    fn node(&self, host: usize) -> &Node {
        &self.world.hosts[host].node
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        panic!("seed {}: {what}\n{}\n{}", self.seed, self.world.states().join("\n"), self.world.logs());
    }

    /// Something happens, if there is something.
    fn step(&mut self) -> bool {
        let first = self.chance.below(6);
        let happened = (0..6).any(|turn| match (first + turn) % 6 {
            0 => self.take_effect(0),
            1 => self.take_effect(1),
            2 => self.report(0),
            3 => self.report(1),
            4 => self.deliver(0),
            _ => self.deliver(1),
        });
        self.check();
        happened
    }

    /// One operation that is under way is carried out, whichever.
    fn take_effect(&mut self, host: usize) -> bool {
        let count = self.world.hosts[host].kept.len() as u64;
        if count == 0 {
            return false;
        }
        let at = self.chance.below(count) as usize;
        let (ticket, device, op) = self.world.hosts[host].kept.remove(at).unwrap();
        if host == 1 && writes_data(device, &op) {
            self.check_order(&op);
        }
        let result = self.world.hosts[host].operate(device, op);
        self.world.hosts[host].done.push_back((ticket, result));
        true
    }

    fn report(&mut self, host: usize) -> bool {
        let count = self.world.hosts[host].done.len() as u64;
        if count == 0 {
            return false;
        }
        let at = self.chance.below(count) as usize;
        let (ticket, result) = self.world.hosts[host].done.remove(at).unwrap();
        self.world.input(host, Input::DiskDone { ticket, result });
        true
    }

    /// One packet arrives, or the network has taken all that was sent.
    fn deliver(&mut self, host: usize) -> bool {
        let sockets: Vec<SocketId> = self.world.hosts[host].ends.keys().copied().collect();
        let first = self.chance.below(2) as usize;
        (0..sockets.len()).any(|turn| {
            let socket = sockets[(first + turn) % sockets.len()];
            if self.world.deliver_packet(host, socket) {
                return true;
            }
            let end = self.world.hosts[host].ends.get_mut(&socket);
            let sent = end.is_some_and(|end| std::mem::take(&mut end.unsent) > 0);
            if sent {
                self.world.input(host, Input::SendQueueEmpty(socket));
            }
            sent
        })
    }

    /// The next deadline comes.
    fn strike(&mut self) {
        let next = self.world.hosts.iter().filter_map(|host| host.node.next_deadline()).min();
        self.world.now = next.map_or(self.world.now, |next| self.world.now.max(next));
        for host in 0..2 {
            if self.node(host).next_deadline().is_some_and(|at| at <= self.world.now) {
                self.world.input(host, Input::Timeout);
                self.check();
            }
        }
    }

    /// The client writes somewhere.
    fn write(&mut self) {
        let at = self.chance.below(PLACES.len() as u64 - 2) as usize;
        let blocks = if PLACES[at + 2] == PLACES[at] + 2 { 1 + self.chance.below(3) } else { 1 };
        let extent = Extent::new(Sector::new(PLACES[at] * 8), blocks as u32 * 8).unwrap();
        let number = self.writes.len() as u64;
        let data = (number + 1).to_le_bytes().repeat(extent.bytes() as usize / 8);
        let after = self.writes.iter().filter(|w| w.answered).filter_map(|w| w.epoch).max();
        let request = self.world.submit(0, Request::Write { extent, data: Buf::copied(&data), fua: false });
        self.writes.push(Written { request, extent, after, epoch: None, answered: false });
        self.check();
    }

    fn break_link(&mut self) {
        self.world.cut = true;
        for host in 0..2 {
            let sockets: Vec<SocketId> = self.world.hosts[host].ends.keys().copied().collect();
            for socket in sockets {
                self.world.hosts[host].ends.remove(&socket);
                self.world.input(host, Input::SocketEnded { socket, end: SocketEnd::Error(104) });
                self.check_cover();
                self.check_clears();
            }
        }
        // What they said last nobody heard.
        self.carried = Carried::default();
        self.heard = [0, 1].map(|host: usize| self.world.hosts[host].said.len());
        self.check();
    }

    /// The number of the write whose data this is; `None` for what was there before.
    fn number(&self, bytes: &[u8]) -> Option<usize> {
        let number = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        number.checked_sub(1).filter(|number| *number < self.writes.len())
    }

    /// What must hold at every instant.
    fn check(&mut self) {
        self.listen();
        self.check_cover();
        self.check_clears();
        self.check_log();
        self.check_conflicts();
    }

    fn differs(&self, block: u64) -> bool {
        let at = block as usize * 4096;
        self.world.hosts[0].disk[at..at + 4096] != self.world.hosts[1].disk[at..at + 4096]
    }

    /// Whether a request or a write of the peer that is not settled covers a block.
    fn is_under_way(&self, block: u64) -> bool {
        let extent = Extent::new(Sector::new(block * 8), 8).unwrap();
        (0..2).any(|host| {
            let node = self.node(host);
            let own = node.log.iter().any(|(_, req)| req.kind.is_write() && req.extent.overlaps(extent));
            own || node.link().peer_ios.values().any(|io| io.extent.overlaps(extent))
        })
    }

    fn has_disk(&self, host: usize) -> bool {
        let v = &self.node(host).volumes[&VOLUME];
        v.disk.is_some() && v.state.disk >= Disk::Inconsistent
    }

    /// I9: where the copies differ a bit says so, or something is under way.
    fn check_cover(&self) {
        if !(self.has_disk(0) && self.has_disk(1)) {
            return;
        }
        for block in PLACES {
            let marked = (0..2).any(|host| self.world.is_out_of_sync(host, block));
            if !marked && self.differs(block) && !self.is_under_way(block) {
                self.fail(&format!("block {block} differs, and nobody knows"));
            }
        }
    }

    /// I11: a bit is cleared where the copies are the same, or a later write is under way.
    fn check_clears(&mut self) {
        for host in 0..2 {
            let set = PLACES.into_iter().filter(|block| self.world.is_out_of_sync(host, *block));
            let now: BTreeSet<u64> = set.collect();
            let before = std::mem::replace(&mut self.bits[host], now.clone());
            if !(self.has_disk(0) && self.has_disk(1)) {
                continue;
            }
            for block in before.difference(&now).copied() {
                if self.differs(block) && !self.is_under_way(block) {
                    self.fail(&format!("node {host} cleared the bit of block {block}, which differs"));
                }
            }
        }
    }

    /// I13: what is being written on the Primary lies in extents that the log on its disk names.
    fn check_log(&self) {
        let host = &self.world.hosts[0];
        let extents = host.kept.iter().filter_map(|(_, device, op)| match op {
            DiskOp::Write { offset, .. } if *device == Device::Data => {
                Some(AlExtent::new((offset >> 22) as u32))
            }
            _ => None,
        });
        let wanted: BTreeSet<AlExtent> = extents.collect();
        if wanted.is_empty() {
            return;
        }
        let layout = Layout::new(Placement::Internal, DISK_BYTES as u64 / 512, Striping::DEFAULT).unwrap();
        let ring: Vec<[u8; 4096]> = host.disk[layout.al_byte() as usize..]
            .chunks_exact(4096)
            .take(layout.al_bytes() as usize / 4096)
            .map(|block| block.try_into().unwrap())
            .collect();
        let Verdict::Hot(hot) = recover(&ring).verdict else { self.fail("no log") };
        if let Some(cold) = wanted.iter().find(|extent| !hot.contains(extent)) {
            self.fail(&format!("a write into {cold:?}, which the log does not name: {hot:?}"));
        }
    }

    /// I23: no two mirrored writes to a block are under way together. I29: nor a write and a resync of it.
    fn check_conflicts(&self) {
        for host in 0..2 {
            let node = self.node(host);
            let writes = || node.log.iter().filter(|(_, req)| req.kind.is_write() && !req.completed);
            for (key, req) in writes() {
                let rival = |(other, with): (ReqKey, &Req)| {
                    other > key && req.net.used && with.net.used && with.extent.overlaps(req.extent)
                };
                if writes().any(rival) {
                    self.fail(&format!("two writes to {} are under way", req.extent));
                }
                let exchanges = node.volumes[&VOLUME].resync.iter().flat_map(|resync| &resync.exchanges);
                if exchanges.into_iter().any(|exchange| exchange.extent.overlaps(req.extent)) {
                    self.fail(&format!("a write to {} meets its resync on node {host}", req.extent));
                }
            }
        }
    }

    /// I21: on the Secondary a write takes effect only when all of older epochs have.
    fn check_order(&mut self, op: &DiskOp) {
        let DiskOp::Write { data, .. } = op else { return };
        let Some(number) = self.number(data.bytes()) else { return };
        let epoch = self.writes[number].epoch.unwrap_or(0);
        let mut older = self.carried.sent.range(..epoch).flat_map(|(_, writes)| writes);
        let overtaken = older.find(|(_, at)| !self.arrived.contains(at)).copied();
        if self.node(1).volumes[&VOLUME].state.conn == Conn::Connected
            && let Some((_, at)) = overtaken
        {
            self.fail(&format!("write {number} of epoch {epoch} overtakes write {at} of an older one"));
        }
        self.arrived.insert(number);
    }

    /// What the nodes said since the last look.
    fn listen(&mut self) {
        for host in 0..2 {
            let said = self.world.hosts[host].said[self.heard[host]..].to_vec();
            self.heard[host] += said.len();
            for packet in said {
                match packet {
                    Packet::Data { block_id, .. } if host == 0 => self.sends(block_id),
                    Packet::Barrier(number) if host == 0 => self.sends_barrier(u32::from_be_bytes(number)),
                    Packet::WriteAck(ack) | Packet::RsWriteAck(ack) | Packet::NegAck(ack) if host == 1 => {
                        self.carried.acked.insert(ack.block_id.0);
                    }
                    Packet::BarrierAck { barrier, count } if host == 1 => {
                        self.acks_barrier(u32::from_be_bytes(barrier), count);
                    }
                    _ => {}
                }
            }
        }
        for at in 0..self.writes.len() {
            if !self.writes[at].answered && self.world.reply(0, self.writes[at].request) == OK {
                self.writes[at].answered = true;
                self.check_answered(at);
            }
        }
    }

    /// I1: both copies have what was answered as written to both, or something later.
    fn check_answered(&self, at: usize) {
        let whole = self.node(0).volumes[&VOLUME].state;
        let whole =
            whole.conn == Conn::Connected && whole.pdsk == Disk::UpToDate && self.writes[at].epoch.is_some();
        if !whole || self.world.cut {
            return;
        }
        for (host, block) in (0..2).flat_map(|host| self.writes[at].blocks().map(move |block| (host, block)))
        {
            let on_disk = self.number(&self.world.hosts[host].disk[block as usize * 4096..]);
            if on_disk.is_none_or(|number| number < at) {
                self.fail(&format!(
                    "write {at} is answered, and block {block} of node {host} has {on_disk:?}"
                ));
            }
        }
    }

    /// I19: a write asked for after another's answer is of a later epoch. I20: all of one epoch, its barrier, then
    /// the next, and epochs grow.
    fn sends(&mut self, id: BlockId) {
        let Some(req) = self.node(0).log.get(ReqKey::from_block_id(id)) else { return };
        let (epoch, request) = (req.epoch, req.id.0);
        let at = self.writes.iter().position(|write| write.request == request).expect("the client asked");
        self.writes[at].epoch = Some(epoch);
        if self.writes[at].after.is_some_and(|after| epoch <= after) {
            self.fail(&format!("write {at} is of epoch {epoch}, and came after the answer to one of it"));
        }
        if let Some(last) = self.carried.last {
            let fits = if epoch == last {
                !self.carried.barrier_sent
            } else {
                epoch > last && self.carried.barrier_sent
            };
            if !fits {
                self.fail(&format!("a write of epoch {epoch} after one of {last}"));
            }
        }
        if self.carried.last != Some(epoch) {
            (self.carried.last, self.carried.barrier_sent) = (Some(epoch), false);
        }
        self.carried.sent.entry(epoch).or_default().push((id, at));
    }

    /// I20: a barrier ends the epoch of the last write, once.
    fn sends_barrier(&mut self, number: u32) {
        if self.carried.last != Some(number) || std::mem::replace(&mut self.carried.barrier_sent, true) {
            self.fail(&format!("a barrier {number} after a write of {:?}", self.carried.last));
        }
    }

    /// I22: one barrier ack for each barrier, in order, after all acks of its epoch, with their number.
    fn acks_barrier(&mut self, number: u32, count: u32) {
        let writes = self.carried.sent.get(&number).cloned().unwrap_or_default();
        let acked = writes.iter().all(|(id, _)| self.carried.acked.contains(&id.0));
        let in_order = self.carried.last_barrier_ack.is_none_or(|last| last < number);
        if !acked || !in_order || writes.len() != count as usize {
            self.fail(&format!("barrier ack {number} for {count} of {} writes", writes.len()));
        }
        self.carried.last_barrier_ack = Some(number);
    }

    /// I8, I15, I27, I36: everything is answered, nothing is under way, held, counted or marked, and the copies are
    /// the same.
    fn check_the_end(&mut self) {
        for host in &mut self.world.hosts {
            host.fails = |_, _| None;
        }
        self.world.cut = false;
        for _ in 0..20_000 {
            if !self.step() {
                if self.world.states() == IN_SYNC.map(str::to_owned) && self.is_quiet() {
                    break;
                }
                self.strike();
            }
        }
        self.world.assert_states(IN_SYNC[0], IN_SYNC[1]);
        for (at, write) in self.writes.iter().enumerate() {
            assert_eq!(self.world.reply(0, write.request), OK, "seed {}: write {at}", self.seed);
        }
        for host in 0..2 {
            let v = &self.node(host).volumes[&VOLUME];
            let counters = self.node(host).status().volumes[0].counters;
            assert_eq!((v.live, v.ranges.len(), self.node(host).log.len()), (0, 0, 0), "seed {}", self.seed);
            assert_eq!([counters.lo, counters.pe, counters.ua, counters.ap, counters.oos], [0; 5]);
            assert!(v.disk.as_ref().unwrap().al.is_idle(), "seed {}", self.seed);
        }
        self.world.assert_equal_disks();
    }

    fn is_quiet(&self) -> bool {
        let answered = self.writes.iter().all(|write| write.answered);
        answered && (0..2).all(|host| self.node(host).log.len() == 0)
    }
}

impl Written {
    fn blocks(&self) -> std::ops::Range<u64> {
        let first = self.extent.start().get() / 8;
        first..first + u64::from(self.extent.sectors()) / 8
    }
}

fn seeds() -> std::ops::RangeInclusive<u64> {
    1..=std::env::var("URBD_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

#[test]
fn what_must_hold_at_every_instant_holds_while_writes_and_packets_race() {
    for seed in seeds() {
        let mut options = plain();
        options.set("max-epoch-size", Some(if seed % 2 == 0 { "2" } else { "2048" })).unwrap();
        let mut watch = Watch::new(seed, options);
        for _ in 0..80 {
            watch.write();
            for _ in 0..watch.chance.below(14) {
                watch.step();
            }
        }
        watch.check_the_end();
        assert_eq!(watch.arrived.len(), watch.writes.len(), "each was seen on the Secondary's disk");
    }
}

#[test]
fn and_while_the_link_breaks_and_blocks_are_fetched() {
    for seed in seeds() {
        let mut watch = Watch::new(seed, plain());
        for round in 0..120 {
            watch.write();
            for _ in 0..watch.chance.below(14) {
                if !watch.step() {
                    watch.strike();
                }
            }
            match watch.chance.below(16) {
                0 if !watch.world.cut => watch.break_link(),
                0..5 if watch.world.cut => watch.world.cut = false,
                _ if round == 60 => watch.world.cut = false,
                _ => {}
            }
        }
        watch.check_the_end();
    }
}
