//! A pipelining NBD client: on one connection, as many requests outstanding as a load asks for.

use std::io::{self, IoSlice};
use std::path::Path;
use std::time::{Duration, Instant};

use super::harness;
use super::load::{Kind, Load, Places, payload};

const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// The commands' numbers.
const READ: u16 = 0;
const WRITE: u16 = 1;
const REQUEST_BYTES: usize = 28;
const REPLY_BYTES: usize = 16;
/// Bytes of the number that a write begins with.
const NUMBER_BYTES: usize = size_of::<u64>();

/// An open export.
pub struct Client {
    /// Has done the handshake.
    inner: harness::Client,
    payload: Vec<u8>,
    /// Writes so far: each begins with its number, so that no two leave the same.
    writes: u64,
    /// Received, and not looked at yet: `space[start..end]`.
    space: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the request with this cookie is outstanding.
    outstanding: Vec<bool>,
}

impl Client {
    /// Opens `r0` of the daemon with this NBD socket.
    pub fn open(socket: &Path) -> Self {
        Self {
            inner: harness::Client::open(socket),
            payload: Vec::new(),
            writes: 0,
            space: vec![0; 256 << 10],
            start: 0,
            end: 0,
            outstanding: Vec::new(),
        }
    }

    /// Size of the export in bytes.
    pub fn bytes(&self) -> u64 {
        self.inner.bytes
    }

    /// Carries out `count` requests, all answered on return; how long that took.
    pub fn run(&mut self, load: Load, places: &mut Places, count: u64) -> io::Result<Duration> {
        if self.payload.len() != load.bytes as usize {
            self.payload = payload(load.bytes);
        }
        let (command, reply_bytes) = match load.kind {
            Kind::Read => (READ, load.bytes as usize),
            Kind::Write => (WRITE, 0),
        };
        self.outstanding.clear();
        self.outstanding.resize(load.depth, false);
        let mut unasked = count;
        let mut idle: Vec<usize> = (0..load.depth).collect();
        let start = Instant::now();
        loop {
            let now = idle.len().min(usize::try_from(unasked).unwrap_or(usize::MAX));
            unasked -= now as u64;
            let ready: Vec<usize> = idle.drain(..now).collect();
            self.ask(command, load.bytes, &ready, places)?;
            if !self.outstanding.contains(&true) {
                return Ok(start.elapsed());
            }
            self.take_replies(reply_bytes, &mut idle)?;
        }
    }

    /// Makes everything acknowledged so far durable on both nodes.
    pub fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }

    /// Sends one request for each of these cookies, with as few system calls as it takes.
    fn ask(&mut self, command: u16, bytes: u32, cookies: &[usize], places: &mut Places) -> io::Result<()> {
        let mut heads = Vec::with_capacity(cookies.len());
        for &cookie in cookies {
            self.outstanding[cookie] = true;
            self.writes += 1;
            heads.push((header(command, cookie as u64, places.take(), bytes), self.writes.to_be_bytes()));
        }
        let data = self.payload.get(NUMBER_BYTES..).unwrap_or_default();
        let mut slices = Vec::with_capacity(3 * heads.len());
        for (header, number) in &heads {
            slices.push(IoSlice::new(header));
            if command == WRITE {
                slices.extend([IoSlice::new(number), IoSlice::new(data)]);
            }
        }
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let sent = self.inner.stream.write_vectored(rest)?;
            IoSlice::advance_slices(&mut rest, sent);
        }
        Ok(())
    }

    /// Waits for at least one reply, takes all that are there, and puts their cookies into `idle`.
    fn take_replies(&mut self, data_bytes: usize, idle: &mut Vec<usize>) -> io::Result<()> {
        let before = idle.len();
        while idle.len() == before || self.end - self.start >= REPLY_BYTES {
            while self.end - self.start < REPLY_BYTES {
                self.receive()?;
            }
            let (reply, _) = self.space[self.start..]
                .split_first_chunk::<REPLY_BYTES>()
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let cookie = check_reply(reply)?;
            self.start += REPLY_BYTES;
            self.skip(data_bytes)?;
            match self.outstanding.get_mut(cookie) {
                Some(outstanding @ true) => *outstanding = false,
                Some(false) | None => {
                    return Err(io::Error::other(format!("nobody asked for reply {cookie:#x}")));
                }
            }
            idle.push(cookie);
        }
        Ok(())
    }

    /// Receives and drops the data of a read.
    fn skip(&mut self, bytes: usize) -> io::Result<()> {
        let mut left = bytes;
        loop {
            let here = left.min(self.end - self.start);
            self.start += here;
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.receive()?;
        }
    }

    /// Receives what is there, at least one byte.
    fn receive(&mut self) -> io::Result<()> {
        self.space.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        match self.inner.stream.read(&mut self.space[self.end..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => {
                self.end += bytes;
                Ok(())
            }
        }
    }
}

fn header(command: u16, cookie: u64, offset: u64, bytes: u32) -> [u8; REQUEST_BYTES] {
    let mut header = [0; REQUEST_BYTES];
    header[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    header[6..8].copy_from_slice(&command.to_be_bytes());
    header[8..16].copy_from_slice(&cookie.to_be_bytes());
    header[16..24].copy_from_slice(&offset.to_be_bytes());
    header[24..].copy_from_slice(&bytes.to_be_bytes());
    header
}

/// The cookie of a reply that reports success.
fn check_reply(reply: &[u8; REPLY_BYTES]) -> io::Result<usize> {
    let [magic, error, high, low] = [0, 4, 8, 12].map(|at| {
        let word = reply[at..].first_chunk().copied().unwrap_or_default();
        u32::from_be_bytes(word)
    });
    if magic != REPLY_MAGIC {
        return Err(io::Error::other(format!("{magic:#x} is no simple reply")));
    }
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error.cast_signed()));
    }
    usize::try_from(u64::from(high) << 32 | u64::from(low)).map_err(io::Error::other)
}
