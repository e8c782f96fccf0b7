//! Clients that write stamps over NBD as fast as they are acknowledged, each with several requests under way.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::chance::Chance;
use super::stamps::{CHUNK, CLIENTS, SECTOR_BYTES, Sheet, Version};
use crate::harness::nbd::{CMD_FLUSH, CMD_READ, CMD_WRITE, CMD_ZEROES, FLAG_FUA, Nbd};

/// No reply may take longer: a peer that is lost in silence has to be noticed meanwhile.
const REPLY_LIMIT: Duration = Duration::from_secs(40);
/// How long some acknowledgements may take.
const ACKS_LIMIT: Duration = Duration::from_secs(60);
/// Requests under way of each client.
const DEPTH: usize = 4;
const EXPORT: &str = "r0";

/// Clients at work.
pub(crate) struct Clients {
    acks: Arc<Acks>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(Sheet, io::Result<()>)>>,
}

/// How many writes were acknowledged, of all clients together.
#[derive(Default)]
pub(crate) struct Acks {
    count: Mutex<u64>,
    more: Condvar,
}

impl Acks {
    pub(crate) fn count(&self) -> u64 {
        *self.count.lock().unwrap()
    }

    fn add(&self) {
        *self.count.lock().unwrap() += 1;
        self.more.notify_all();
    }

    /// Waits for a change, a moment at most, unless there are so many.
    fn reach(&self, goal: u64) -> bool {
        let moment = Duration::from_millis(50);
        let count = self.count.lock().unwrap();
        let (count, _) = self.more.wait_timeout_while(count, moment, |count| *count < goal).unwrap();
        *count >= goal
    }
}

impl Clients {
    /// Opens the export on a daemon's socket for each of the sheets' clients, and starts to write.
    pub(crate) fn start(socket: &Path, sheets: Vec<Sheet>, chance: &mut Chance, acks: &Arc<Acks>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = sheets
            .into_iter()
            .map(|sheet| {
                let export = open(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
                let worker = Worker {
                    export,
                    sheet,
                    chance: chance.split(),
                    acks: Arc::clone(acks),
                    under_way: BTreeMap::new(),
                };
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || worker.work(&stop))
            })
            .collect();
        Self { acks: Arc::clone(acks), stop, threads }
    }

    /// Waits until `more` writes more are acknowledged; the clients must meet no error.
    pub(crate) fn await_acks(&self, more: u64) {
        let (begin, end) = (self.acks.count(), Instant::now() + ACKS_LIMIT);
        while !self.acks.reach(begin + more) {
            let ended = self.threads.iter().position(JoinHandle::is_finished);
            assert!(
                ended.is_none(),
                "client {ended:?} has ended while its node is alive (see above, or its result)"
            );
            let got = self.acks.count() - begin;
            assert!(Instant::now() < end, "waited {ACKS_LIMIT:?} for {more} acknowledgements, got {got}");
        }
    }

    /// Lets the clients finish what is under way, and close. They must have met no error.
    pub(crate) fn stop(self) -> Vec<Sheet> {
        self.join(|client, ended| {
            if let Err(error) = ended {
                panic!("client {client}, whose node is alive: {error}");
            }
        })
    }

    /// When their node is dead: what they know.
    pub(crate) fn lost(self) -> Vec<Sheet> {
        self.join(|client, ended| {
            let in_time = !matches!(&ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            assert!(in_time, "client {client} waited {REPLY_LIMIT:?} for a node that is dead");
        })
    }

    fn join(self, judge: impl Fn(usize, io::Result<()>)) -> Vec<Sheet> {
        self.stop.store(true, Ordering::Relaxed);
        let ended: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        let mut sheets = Vec::with_capacity(CLIENTS);
        for (client, ended) in ended.into_iter().enumerate() {
            let (sheet, ended) = ended.unwrap_or_else(|_| panic!("client {client} failed, see above"));
            judge(client, ended);
            sheets.push(sheet);
        }
        sheets
    }
}

/// Opens the export.
pub(crate) fn open(socket: &Path) -> io::Result<Nbd<UnixStream>> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(REPLY_LIMIT))?;
    stream.set_write_timeout(Some(REPLY_LIMIT))?;
    Nbd::open(stream, EXPORT)
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
enum Request {
    Write { first: usize, count: usize, version: Version },
    Read { first: usize, count: usize },
    Flush,
}

impl Request {
    /// The sectors it touches.
    const fn range(self) -> (usize, usize) {
        match self {
            Self::Write { first, count, .. } | Self::Read { first, count } => (first, first + count),
            Self::Flush => (0, 0),
        }
    }

    const fn overlaps(self, other: Self) -> bool {
        let ((a, a_end), (b, b_end)) = (self.range(), other.range());
        a < b_end && b < a_end
    }
}

struct Worker {
    export: Nbd<UnixStream>,
    sheet: Sheet,
    chance: Chance,
    acks: Arc<Acks>,
    under_way: BTreeMap<u64, Request>,
}

impl Worker {
    /// Returns what it knows, and the connection's error if that ended it. What the node must not answer panics.
    fn work(mut self, stop: &AtomicBool) -> (Sheet, io::Result<()>) {
        let ended = self.write_until(stop);
        (self.sheet, ended)
    }

    fn write_until(&mut self, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let request = self.choose();
            while self.under_way.len() >= DEPTH
                || self.under_way.values().any(|other| other.overlaps(request))
            {
                self.take_reply()?;
            }
            self.send(request)?;
        }
        while !self.under_way.is_empty() {
            self.take_reply()?;
        }
        Ok(())
    }

    fn choose(&mut self) -> Request {
        let chance = &mut self.chance;
        let sectors = self.sheet.ground.sectors() as u64;
        // Half of all requests go to a few chunks: what is written again and again is what is easily lost.
        let chunks = if chance.one_in(2) { sectors / CHUNK as u64 } else { 2 };
        let chunk = chance.below(chunks) as usize * CHUNK;
        let (first, count) = match chance.below(10) {
            0..5 => (chance.below(16) as usize * 8, 8),
            5..8 => {
                let first = chance.below(CHUNK as u64 - 9) as usize;
                (first, 1 + chance.below(9) as usize)
            }
            _ => {
                let first = chance.below(8) as usize * 8;
                (first, 8 + chance.below(8) as usize * 8)
            }
        };
        let first = chunk + first;
        match chance.below(20) {
            0 => Request::Flush,
            1..3 => Request::Read { first, count },
            3 => Request::Write { first, count, version: Version::zeroes(self.sheet.number()) },
            _ => Request::Write { first, count, version: Version::data(self.sheet.number()) },
        }
    }

    fn send(&mut self, request: Request) -> io::Result<()> {
        let at = |first| self.sheet.ground.byte_of(self.sheet.client, first);
        let bytes = |count| (count * SECTOR_BYTES) as u32;
        let cookie = match request {
            Request::Flush => self.export.submit(0, CMD_FLUSH, 0, 0, &[])?,
            Request::Read { first, count } => {
                self.export.submit(0, CMD_READ, at(first), bytes(count), &[])?
            }
            Request::Write { first, count, version } => {
                let flags = if self.chance.one_in(10) { FLAG_FUA } else { 0 };
                let (command, data) = if version.is_zeroes() {
                    (CMD_ZEROES, Vec::new())
                } else {
                    (CMD_WRITE, self.sheet.data(first, count, version))
                };
                let (at, bytes) = (at(first), bytes(count));
                self.sheet.submitted(first, count, version);
                self.export.submit(flags, command, at, bytes, &data)?
            }
        };
        self.under_way.insert(cookie, request);
        Ok(())
    }

    fn take_reply(&mut self) -> io::Result<()> {
        let (cookie, error) = self.export.reply()?;
        let client = self.sheet.client;
        let request = self.under_way.remove(&cookie);
        let request = request.unwrap_or_else(|| panic!("client {client}: a reply to nothing ({cookie})"));
        assert!(error == 0, "client {client}: NBD error {error} for {request:?}");
        match request {
            Request::Flush => {}
            Request::Write { first, count, version } => {
                self.sheet.acknowledged(first, count, version);
                self.acks.add();
            }
            Request::Read { first, count } => {
                let data = self.export.data((count * SECTOR_BYTES) as u32)?;
                let wrong = self.sheet.check(first, &data);
                assert!(wrong.is_empty(), "a read while writes go on:\n{}", wrong.join("\n"));
            }
        }
        Ok(())
    }
}
