//! The clients of a life: stamped writes to few places, and reads that know what they may find.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::super::client::{Answer, Client, Wish};
use super::super::events::HostId;
use super::super::random::Random;
use super::super::world::{Pending, World};
use super::book::Good;
use super::oracle::{Oracle, Snapshot, WriteId};
use crate::node::command::Command;
use crate::units::{Moment, SECTOR_BYTES, VolumeId};

/// Sectors in 4 MiB: an extent of the activity log.
const EXTENT: u64 = 8192;

/// A client program that opens the device whenever its node is Primary.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) host: HostId,
    pub(super) volume: VolumeId,
    client: Option<Client>,
    opening: Option<Pending>,
    requests: Vec<Request>,
    next_at: Moment,
    /// What it did since the last look, in words, if somebody wants to know.
    pub(super) account: Option<Vec<String>>,
    /// How many of its requests were answered well, by kind.
    pub(super) answered: [u64; Asked::KINDS],
}

/// A kind of request, for those who wait for the answer to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A write, durable or not.
    Write,
    /// A durable write.
    Durable,
    /// A flush.
    Flush,
}

impl Asked {
    /// How many there are.
    pub(super) const KINDS: usize = 3;
}

/// What clients ask for, mostly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Taste {
    /// Everything, everywhere.
    #[default]
    All,
    /// Nothing new.
    Nothing,
    /// Writes to the end of the device.
    Tail,
    /// Writes to the same few sectors.
    OnePlace,
    /// Writes of one and the same block.
    OneBlock,
    /// Writes, each to another extent of the activity log than the one before.
    Cold,
    /// Durable writes.
    Durable,
    /// Writes and flushes.
    Flushes,
}

/// A request that is not answered.
#[derive(Debug)]
struct Request {
    cookie: u64,
    kind: Kind,
    /// What held when it was sent: see [`Facts::copies`].
    copies: [Option<u64>; 2],
    /// So did this: the own disk was good.
    own_good: bool,
    at: Moment,
}

#[derive(Debug)]
enum Kind {
    Read {
        first: u64,
        then: Snapshot,
        asked: u64,
    },
    Write {
        id: WriteId,
        durable: bool,
    },
    /// What was there may be gone now, or not: nothing is promised.
    Trim,
    Flush {
        then: [Snapshot; 2],
    },
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { .. } => f.write_str("read"),
            Self::Write { id, durable: false } => write!(f, "write #{id}"),
            Self::Write { id, durable: true } => write!(f, "durable write #{id}"),
            Self::Trim => f.write_str("trim"),
            Self::Flush { .. } => f.write_str("flush"),
        }
    }
}

/// What is known of the pair when a client does something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Whether the program's node is up and Primary, and clients may open it.
    pub(super) open: bool,
    /// For each machine's copy a number that stays the same while every write of the program's node gets
    /// there before it is answered; `None` while that is not so.
    pub(super) copies: [Option<u64>; 2],
    /// Whose copies are good, if that is for sure.
    pub(super) good: Option<Good>,
    /// The disk of the program's node is good.
    pub(super) own_good: bool,
    /// The disks of the other node return no errors.
    pub(super) peer_sound: bool,
    /// The peer's disk has a write before that is answered, not only its program.
    pub(super) written: bool,
    /// The size of the device in sectors.
    pub(super) sectors: u64,
    /// Both nodes may be Primary.
    pub(super) two_primaries: bool,
    /// Requests that may be under way.
    pub(super) depth: usize,
    /// New requests are made.
    pub(super) busy: bool,
    /// Of what kind.
    pub(super) taste: Taste,
}

impl Program {
    pub(super) fn new(host: HostId, volume: VolumeId) -> Self {
        Self {
            host,
            volume,
            client: None,
            opening: None,
            requests: Vec::new(),
            next_at: Moment::default(),
            account: None,
            answered: [0; Asked::KINDS],
        }
    }

    /// When it wants to do something next.
    pub(super) const fn next_at(&self) -> Moment {
        self.next_at
    }

    /// Since when it waits for an answer.
    pub(super) fn waits_since(&self) -> Option<Moment> {
        self.requests.iter().map(|request| request.at).min()
    }

    /// Whether it waits for answers.
    pub(super) fn is_waiting(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Whether it has the device open, or is about to.
    pub(super) const fn is_there(&self) -> bool {
        self.client.is_some() || self.opening.is_some()
    }

    /// Its machine is gone.
    pub(super) fn die(&mut self) {
        self.client = None;
        self.opening = None;
        self.requests.clear();
    }

    /// It closes the device; not if it is only about to open it.
    pub(super) fn close(&mut self, world: &mut World) {
        if let Some(client) = &self.client {
            world.close(client);
            self.die();
        }
    }

    /// Does what is to be done now.
    ///
    /// # Errors
    /// What is wrong with an answer.
    pub(super) fn step(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        random: &mut Random,
        facts: Facts,
    ) -> Result<u64, String> {
        let mut done = 0;
        if let Some(outcome) = self.opening.as_ref().and_then(Pending::outcome) {
            self.opening = None;
            if outcome.is_success() {
                self.client = Some(world.let_in(self.host, self.volume));
            }
        }
        if let Some(client) = &mut self.client {
            for answer in world.hear(client) {
                self.take(&answer, world, oracle, facts)?;
                done += 1;
            }
            if self.client.as_ref().is_some_and(Client::is_closed) {
                self.die();
            }
        }
        let now = world.now();
        if now < self.next_at || !facts.busy {
            return Ok(done);
        }
        self.next_at = now.after(pause(random));
        if self.client.is_none() && self.opening.is_none() && facts.open {
            let open = Command::Open { volume: self.volume, read_only: false };
            self.opening = Some(world.start(self.host, open));
        } else if self.client.is_some() && self.requests.len() < facts.depth {
            self.ask(world, oracle, random, facts);
        }
        Ok(done)
    }

    fn ask(&mut self, world: &mut World, oracle: &mut Oracle, random: &mut Random, facts: Facts) {
        let Some(client) = &mut self.client else { return };
        let sectors = facts.taste.place(random, facts.sectors);
        let (first, count) = (sectors.start, sectors.end - sectors.start);
        let (offset, len) = (first * SECTOR_BYTES, (count * SECTOR_BYTES) as u32);
        let (cookie, kind) = match facts.taste.kind(random) {
            0..6 => {
                let then = oracle.snapshot(self.host);
                (
                    world.ask(client, Wish::Read { offset, len }),
                    Kind::Read { first, then, asked: oracle.asked() },
                )
            }
            6 | 7 => {
                let then = [0, 1].map(|host| oracle.snapshot(host));
                (world.ask(client, Wish::Flush), Kind::Flush { then })
            }
            8 => {
                let id = oracle.submit(self.host, first, count, true);
                if random.below(2) == 0 {
                    (world.ask(client, Wish::Trim { offset, len }), Kind::Trim)
                } else {
                    let durable = id.is_multiple_of(4);
                    (
                        world.ask(client, Wish::WriteZeroes { offset, len, durable }),
                        Kind::Write { id, durable },
                    )
                }
            }
            kind => {
                let id = oracle.submit(self.host, first, count, false);
                let (data, durable) = (Oracle::stamp(id, first, count), kind < 11);
                let wish = match durable {
                    true => Wish::WriteDurably { offset, data: &data },
                    false => Wish::Write { offset, data: &data },
                };
                (world.ask(client, wish), Kind::Write { id, durable })
            }
        };
        if let Some(account) = &mut self.account {
            account.push(format!("{} asks {cookie}: {kind} at {first}+{count}", self.host));
        }
        let (copies, own_good, at) = (facts.copies, facts.own_good, world.now());
        self.requests.push(Request { cookie, kind, copies, own_good, at });
    }

    fn count(&mut self, kind: &Kind) {
        match kind {
            Kind::Write { durable, .. } => {
                self.answered[Asked::Write as usize] += 1;
                self.answered[Asked::Durable as usize] += u64::from(*durable);
            }
            Kind::Flush { .. } => self.answered[Asked::Flush as usize] += 1,
            Kind::Read { .. } | Kind::Trim => {}
        }
    }

    fn take(
        &mut self,
        answer: &Answer,
        world: &World,
        oracle: &mut Oracle,
        facts: Facts,
    ) -> Result<(), String> {
        let Some(at) = self.requests.iter().position(|request| request.cookie == answer.cookie) else {
            return Err(format!("an answer to no request: cookie {}", answer.cookie));
        };
        let Request { kind, copies: then, own_good, at, .. } = self.requests.swap_remove(at);
        if let Some(account) = &mut self.account {
            account
                .push(format!("{} is answered {}: {kind}, error {}", self.host, answer.cookie, answer.error));
        }
        let host = self.host;
        let got_it = |copy: &HostId| then[*copy].is_some() && then[*copy] == facts.copies[*copy];
        if answer.error != 0 {
            if let Kind::Write { id, .. } = kind {
                oracle.failed(id); // It may be there or not.
            }
            let peer_could = matches!(kind, Kind::Read { .. }) && facts.peer_sound && got_it(&(1 - host));
            return if peer_could {
                Err(format!("a read at {host} fails, and the peer is there with good data (I25, D45)"))
            } else {
                Ok(())
            };
        }
        let on_disk = |copy: &HostId| *copy == host || facts.written;
        let copies = [0, 1].into_iter().filter(got_it).filter(on_disk);
        self.count(&kind);
        match kind {
            Kind::Read { first, then, asked } => {
                oracle
                    .read(host, first, &answer.data, &then, asked, facts.two_primaries)
                    .map_err(|why| format!("a read at {host}: {why}"))?;
            }
            Kind::Write { id, durable } => {
                // In protocols A and B the peer need not have written it, unless there was no other copy (D30).
                if let Some(good) = facts.good.filter(|_| facts.written || !own_good) {
                    self.check_has_a_copy(id, world, oracle, good.when(at))?;
                }
                oracle.done(id, copies, durable);
                let received = [0, 1].into_iter().filter(got_it).filter(|copy| !on_disk(copy));
                received.for_each(|copy| oracle.received(id, copy));
            }
            Kind::Trim => {}
            // The flush of one of two Primaries says nothing of what the other one wrote to its own disk.
            Kind::Flush { then } => copies
                .filter(|copy| *copy == host || !facts.two_primaries)
                .for_each(|copy| oracle.flushed(copy, &then[copy])),
        }
        Ok(())
    }

    /// A write that is answered as done is on a good disk (I1, I3).
    fn check_has_a_copy(
        &self,
        id: WriteId,
        world: &World,
        oracle: &Oracle,
        good: [bool; 2],
    ) -> Result<(), String> {
        let has_it = |copy: HostId| {
            let disk = world.disk(copy, self.volume.0);
            good[copy] && disk.is_some_and(|disk| oracle.is_written(id, disk.data()))
        };
        if has_it(0) || has_it(1) {
            return Ok(());
        }
        Err(format!("write #{id} is answered as done, and is on no good disk ({good:?} are good)"))
    }
}

impl Taste {
    /// The kind of the next request: see [`Program::ask`].
    fn kind(self, random: &mut Random) -> u64 {
        match self {
            Self::All | Self::Nothing => random.below(20),
            Self::Tail | Self::OnePlace | Self::OneBlock | Self::Cold => {
                [0, 6, 8, 10, 12, 12, 12, 12][random.below(8) as usize]
            }
            Self::Durable => [9, 10, 10, 12][random.below(4) as usize],
            Self::Flushes => [6, 6, 12, 12, 12][random.below(5) as usize],
        }
    }

    /// Where the next request goes.
    fn place(self, random: &mut Random, device: u64) -> Range<u64> {
        match self {
            Self::Tail => {
                let first = device - device % 8 - [0, 0, 0, 8][random.below(4) as usize];
                first.min(device - 1)..device
            }
            Self::OnePlace => {
                let first = random.below(3) * 4;
                first..first + 4 + random.below(2) * 4
            }
            Self::OneBlock => 0..8,
            Self::Cold => {
                let first = random.below(device / EXTENT) * EXTENT + random.below(2) * 8;
                first..first + 8
            }
            Self::All | Self::Nothing | Self::Durable | Self::Flushes => place(random, device),
        }
    }
}

/// Time between two requests of a program.
fn pause(random: &mut Random) -> Duration {
    match random.below(8) {
        0 => Duration::from_micros(random.below(200)),
        1..6 => Duration::from_micros(random.below(4_000)),
        _ => Duration::from_micros(random.below(150_000)),
    }
}

/// A few sectors at one of few places, so that requests meet: some blocks at the beginning of each extent,
/// across the border of two, and the tail of the device (F10).
fn place(random: &mut Random, device: u64) -> Range<u64> {
    let extent = random.below(device.div_ceil(EXTENT)) * EXTENT;
    let base = match random.below(12) {
        0 => (extent + EXTENT - 4).min(device - 16),
        1 => device - 8 - device % 8,
        _ => extent + random.below(6) * 8,
    };
    let (skip, count) = match random.below(6) {
        0 => (random.below(8), 1),
        1 => (random.below(8), 1 + random.below(12)),
        2 => (0, 16),
        _ => (0, 8),
    };
    let end = (base + skip + count).min(device);
    (base + skip).min(end - 1)..end
}
