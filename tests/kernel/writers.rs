//! Writers that keep a device busy, so that a node can die in the middle of writes, and what a reader may find then.
//!
//! Each writer has [`BLOCKS`] blocks of its own and writes one after the other, over and over: write `n` of writer
//! `w` goes to block `n * STEP % BLOCKS` and fills it with the number `w << 56 | n`. So a block tells which write was
//! its last, and may hold nothing older than the last one that was reported as done.

use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::guest::Guest;
use super::lab::{HOST, poll};
use super::nbd::Nbd;

/// What runs in a guest.
const GUEST_WRITER: &str = include_str!("../data/kernel/guest-writer");
/// How many writers there are.
pub const WRITERS: usize = 4;
/// Blocks of each writer.
const BLOCKS: usize = 64;
const BLOCK_BYTES: usize = 4096;
/// From one write to the next, in blocks; with [`BLOCKS`] it has no common divisor, so that all get their turn.
const STEP: usize = 37;
/// Size of the range that all writers use together.
pub const RANGE_BYTES: usize = WRITERS * BLOCKS * BLOCK_BYTES;

/// How long some writes may take, a lost connection that has to be noticed included.
const WRITES_LIMIT: Duration = Duration::from_secs(40);

/// Writers at work on a device.
pub struct Writers {
    done: Arc<[AtomicU64; WRITERS]>,
    stop: Arc<AtomicBool>,
    /// For writers in a guest: the harness's side of the connections.
    reports: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
}

/// How many writes each writer was told are done.
#[derive(Clone, Copy, Debug)]
pub struct Done([u64; WRITERS]);

impl Writers {
    /// Writers here, on exports of an urbd, from byte `first` of the device on.
    pub fn on_exports(exports: [Nbd<UnixStream>; WRITERS], first: u64) -> Self {
        let done = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let work = |(writer, mut export): (usize, Nbd<UnixStream>)| {
            let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = done[writer].load(Ordering::Relaxed) + 1;
                    let block = writer * BLOCKS + place(number);
                    let data = word(writer, number).to_le_bytes().repeat(BLOCK_BYTES / 8);
                    if export.write(first + (block * BLOCK_BYTES) as u64, &data).is_err() {
                        return;
                    }
                    done[writer].store(number, Ordering::Relaxed);
                }
            })
        };
        let threads = exports.into_iter().enumerate().map(work).collect();
        Self { done, stop, reports: Vec::new(), threads }
    }

    /// Writers in a guest, from byte `first` of `device` on.
    pub fn in_guest(guest: &Guest, device: &str, first: u64) -> Self {
        let listener = TcpListener::bind((HOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        guest.write_file("/tmp/guest-writer", GUEST_WRITER);
        guest.sh(&format!(
            "perl /tmp/guest-writer {HOST} {port} {device} {first} {WRITERS} {BLOCKS} {BLOCK_BYTES} {STEP} \
             >/dev/console 2>&1 &"
        ));
        let done: Arc<[AtomicU64; WRITERS]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let mut reports = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..WRITERS {
            let (mut report, _) = listener.accept().unwrap();
            reports.push(report.try_clone().unwrap());
            let done = Arc::clone(&done);
            threads.push(std::thread::spawn(move || count(&mut report, &done)));
        }
        Self { done, stop: Arc::default(), reports, threads }
    }

    /// Waits until each writer has done `more` writes more.
    pub fn await_writes(&self, more: u64) {
        let goal = self.done().0.map(|number| number + more);
        poll(
            WRITES_LIMIT,
            || self.done().0.iter().zip(goal).all(|(number, goal)| *number >= goal).then_some(()),
            || format!("the writers do not come to {goal:?}: {:?}", self.done()),
        );
    }

    /// Lets the writers finish the write they are at. The device is closed on return.
    pub fn stop(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        for report in &self.reports {
            report.shutdown(Shutdown::Write).unwrap();
        }
        self.join()
    }

    /// What was done, once the node under the writers is dead.
    pub fn lost(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        for report in &self.reports {
            // Not more than what has arrived: a dead guest does not hang up.
            report.shutdown(Shutdown::Read).unwrap();
        }
        self.join()
    }

    fn join(mut self) -> Done {
        for thread in std::mem::take(&mut self.threads) {
            thread.join().unwrap();
        }
        self.done()
    }

    fn done(&self) -> Done {
        Done(self.done.each_ref().map(|number| number.load(Ordering::Relaxed)))
    }
}

impl Done {
    /// Checks the writers' range as a node reads it: every write that was reported is there, or a later one of the
    /// same block.
    pub fn check(&self, range: &[u8]) {
        for (writer, blocks) in range.chunks(BLOCKS * BLOCK_BYTES).enumerate() {
            let last = self.0[writer];
            for (block, data) in blocks.chunks(BLOCK_BYTES).enumerate() {
                let oldest = (last.saturating_sub(BLOCKS as u64 - 1)..=last)
                    .find(|number| *number > 0 && place(*number) == block);
                let Some(oldest) = oldest else { continue }; // not written yet, that we know of
                for found in data.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())) {
                    let number = found & (u64::MAX >> 8);
                    assert!(
                        found == word(writer, number) && place(number) == block && number >= oldest,
                        "block {block} of writer {writer} holds {found:#x}; it was told that {last} writes are \
                         done, and {oldest} was the last one there"
                    );
                }
            }
        }
    }
}

/// Which block write `number` goes to.
fn place(number: u64) -> usize {
    usize::try_from(number % BLOCKS as u64).unwrap() * STEP % BLOCKS
}

/// What it fills the block with.
const fn word(writer: usize, number: u64) -> u64 {
    (writer as u64) << 56 | number
}

/// Counts the reports of a writer in a guest, until it hangs up or nobody wants to hear more.
fn count(report: &mut TcpStream, done: &[AtomicU64; WRITERS]) {
    let mut writer = [0];
    report.read_exact(&mut writer).unwrap();
    let mut news = [0; 256];
    loop {
        match report.read(&mut news).unwrap() {
            0 => return,
            writes => done[usize::from(writer[0])].fetch_add(writes as u64, Ordering::Relaxed),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The range after these many writes.
    fn range(numbers: [u64; WRITERS]) -> Vec<u8> {
        let mut range = vec![0; RANGE_BYTES];
        for (writer, last) in numbers.into_iter().enumerate() {
            for number in 1..=last {
                let at = (writer * BLOCKS + place(number)) * BLOCK_BYTES;
                range[at..at + BLOCK_BYTES].copy_from_slice(&word(writer, number).to_le_bytes().repeat(512));
            }
        }
        range
    }

    #[test]
    fn writes_that_were_not_reported_may_be_there() {
        Done([0, 1, 63, 64]).check(&range([0, 1, 63, 64]));
        Done([0, 1, 63, 64]).check(&range([5, 2, 64, 130]));
    }

    #[test]
    #[should_panic(expected = "block 6 of writer 2")]
    fn a_reported_write_must_be_there() {
        // Block 6 is that of writes 14 and 78.
        Done([0, 0, 78, 0]).check(&range([0, 0, 77, 0]));
    }

    #[test]
    #[should_panic(expected = "block 37 of writer 0")]
    fn half_a_block_is_not_a_write() {
        let mut range = range([65, 0, 0, 0]);
        range[37 * BLOCK_BYTES + 8] ^= 0xff;
        Done([65, 0, 0, 0]).check(&range);
    }
}
