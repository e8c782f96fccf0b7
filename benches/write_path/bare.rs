//! The same load on bare disks, without a server between: what a mirror cannot beat.
//!
//! It goes through the ring that urbd uses for its own disks, with direct I/O and at the same depth.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use urbd::buffer::Buf;
use urbd::io::disk::{self, DiskPlace, OpenedDisk};
use urbd::io::portable::PortableIo;
use urbd::io::uring::UringIo;
use urbd::io::wake::Waker;
use urbd::io::{Completion, DeviceKey, Io, Op, Token};
use urbd::node::command::MetaPlace;

use super::load::{Kind, Load, Places, payload};

type AnyIo = dyn Io<Socket = OwnedFd, Disk = OpenedDisk>;

/// The ring and the open disks.
pub struct Bare {
    io: Box<AnyIo>,
    engine: &'static str,
    disks: Vec<DeviceKey>,
}

impl Bare {
    /// Opens and locks the disks at these paths.
    pub fn open(paths: &[&Path]) -> io::Result<Self> {
        let waker = Waker::new()?;
        let (mut io, engine): (Box<AnyIo>, _) = match UringIo::new(waker.clone()) {
            Ok(uring) => (Box::new(uring), "io_uring"),
            Err(_) => (Box::new(PortableIo::new(waker)), "threads, for io_uring is forbidden here"),
        };
        let mut disks = Vec::new();
        for path in paths {
            let place = DiskPlace { data: (*path).into(), meta: None, place: MetaPlace::Internal };
            let opened = disk::open(&place).map_err(io::Error::other)?;
            disks.push(io.attach(opened).data);
        }
        Ok(Self { io, engine, disks })
    }

    /// What moves the bytes.
    pub fn engine(&self) -> &'static str {
        self.engine
    }

    /// Carries out `count` requests, each on all of the first `copies` disks, and all ended on return; how long
    /// that took.
    pub fn run(
        &mut self,
        load: Load,
        places: &mut Places,
        copies: usize,
        count: u64,
    ) -> io::Result<Duration> {
        run(&mut *self.io, &self.disks[..copies], load, places, count)
    }

    /// Makes everything written so far durable.
    pub fn flush(&mut self) -> io::Result<()> {
        for disk in &self.disks {
            self.io.submit(Token(0), *disk, Op::Sync);
        }
        let mut left = self.disks.len();
        while left > 0 {
            left -= ended(&mut *self.io)?.len();
        }
        Ok(())
    }
}

fn run(
    io: &mut AnyIo,
    disks: &[DeviceKey],
    load: Load,
    places: &mut Places,
    count: u64,
) -> io::Result<Duration> {
    let written = Buf::copied(&payload(load.bytes));
    let mut memory: Vec<Buf> = match load.kind {
        Kind::Read => (0..load.depth * disks.len()).map(|_| Buf::zeroed(load.bytes as usize)).collect(),
        Kind::Write => Vec::new(),
    };
    // By slot: on how many disks its request is still under way.
    let mut under_way = vec![0_usize; load.depth];
    let mut idle: Vec<usize> = (0..load.depth).collect();
    let (mut unasked, mut unanswered) = (count, count);
    let start = Instant::now();
    while unanswered > 0 {
        while unasked > 0
            && let Some(slot) = idle.pop()
        {
            unasked -= 1;
            under_way[slot] = disks.len();
            let offset = places.take();
            for disk in disks {
                let op = match memory.pop() {
                    Some(into) => Op::Read { offset, into },
                    None => Op::Write { offset, data: written.clone(), fua: false },
                };
                io.submit(Token(slot as u64), *disk, op);
            }
        }
        for (token, read) in ended(io)? {
            memory.extend(read);
            let slot = token.0 as usize;
            under_way[slot] -= 1;
            if under_way[slot] == 0 {
                idle.push(slot);
                unanswered -= 1;
            }
        }
    }
    Ok(start.elapsed())
}

/// Waits for disk operations to end; the memory of those that read comes back.
fn ended(io: &mut AnyIo) -> io::Result<Vec<(Token, Option<Buf>)>> {
    let mut completions = Vec::new();
    io.wait(None, &mut completions)?;
    let mut ended = Vec::with_capacity(completions.len());
    for completion in completions {
        match completion {
            Completion::Disk { token, result: Ok(read) } => ended.push((token, read)),
            Completion::Disk { result: Err(fault), .. } => {
                return Err(io::Error::other(format!("{fault:?}")));
            }
            Completion::Woken => {}
            other @ (Completion::Received { .. }
            | Completion::Accepted { .. }
            | Completion::Dialed { .. }
            | Completion::Drained { .. }
            | Completion::SendFailed { .. }) => {
                return Err(io::Error::other(format!("{other:?} of a ring of disks")));
            }
        }
    }
    Ok(ended)
}
