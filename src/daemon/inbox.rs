//! The receiving half of a stream socket: headers are parsed in a buffer that takes many at once,
//! payloads end up in aligned memory of their own.
//!
//! What of a payload came along with the headers is copied; a large rest is received straight into
//! its place.

use crate::buffer::Buf;
use crate::io::pool::Pool;
use crate::io::{Io, SocketKey};

/// What has been received and not been used yet.
#[derive(Debug)]
pub(super) struct Inbox {
    /// `None` while a receive into it is under way.
    stream: Option<Buf>,
    /// The unused bytes of `stream`.
    start: usize,
    end: usize,
    payload: Option<Payload>,
    /// Bytes to be thrown away before anything else.
    skip: u64,
    receiving: Receiving,
}

/// A payload that is still incomplete.
#[derive(Debug)]
struct Payload {
    /// `None` while a receive into it is under way.
    buf: Option<Buf>,
    filled: usize,
}

impl Payload {
    fn is_complete(&self) -> bool {
        self.buf.as_ref().is_some_and(|buf| buf.len() == self.filled)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    No,
    Stream,
    Payload,
}

impl Inbox {
    /// An inbox that already holds `leftover`.
    pub(super) fn new(leftover: &[u8]) -> Self {
        let mut stream = Buf::zeroed(STREAM_BYTES.max(leftover.len() + ROOM_BYTES));
        if let Some(bytes) = stream.bytes_mut() {
            bytes[..leftover.len()].copy_from_slice(leftover);
        }
        Self {
            stream: Some(stream),
            start: 0,
            end: leftover.len(),
            payload: None,
            skip: 0,
            receiving: Receiving::No,
        }
    }

    /// The bytes that wait to be parsed: none while a payload is incomplete.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.stream {
            Some(stream) if self.payload.is_none() && self.skip == 0 => &stream.bytes()[self.start..self.end],
            Some(_) | None => &[],
        }
    }

    /// Whether nothing that was received waits to be used.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end && !self.payload_is_complete()
    }

    /// Drops parsed bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.end, "only what was there is parsed");
    }

    /// Throws the next `count` bytes of the stream away, also those yet to come.
    pub(super) fn skip(&mut self, count: u64) {
        self.skip += count;
        let here = self.skip.min((self.end - self.start) as u64);
        self.skip -= here;
        self.start += here as usize;
    }

    /// Begins a payload: the next `len` bytes of the stream, in memory of `pool`. Ask
    /// [`Inbox::take_payload`] for it.
    pub(super) fn begin_payload(&mut self, len: usize, pool: &Pool) {
        assert!(self.payload.is_none(), "one payload after the other");
        self.payload = Some(Payload { buf: Some(pool.buf(len)), filled: 0 });
        self.fill();
    }

    /// Whether a payload was begun and not taken.
    pub(super) const fn has_payload(&self) -> bool {
        self.payload.is_some()
    }

    /// Whether [`Inbox::take_payload`] would give it.
    pub(super) fn payload_is_complete(&self) -> bool {
        self.payload.as_ref().is_some_and(Payload::is_complete)
    }

    /// The payload that was begun, once it is complete.
    pub(super) fn take_payload(&mut self) -> Option<Buf> {
        self.payload.take_if(|payload| payload.is_complete()).and_then(|payload| payload.buf)
    }

    /// Moves what is there of the payload to its place.
    fn fill(&mut self) {
        let (Some(payload), Some(stream)) = (&mut self.payload, &self.stream) else { return };
        let Some(target) = payload.buf.as_mut().and_then(Buf::bytes_mut) else { return };
        let count = (self.end - self.start).min(target.len() - payload.filled);
        target[payload.filled..][..count].copy_from_slice(&stream.bytes()[self.start..][..count]);
        payload.filled += count;
        self.start += count;
    }

    /// Starts to receive, unless that is under way. What waits to be parsed is out of reach until
    /// something was received.
    pub(super) fn receive<I: Io>(&mut self, io: &mut I, socket: SocketKey) {
        if self.receiving != Receiving::No {
            return;
        }
        if let Some(payload) = &mut self.payload {
            let rest = payload.buf.as_ref().map_or(0, |buf| buf.len() - payload.filled);
            if rest >= DIRECT_BYTES
                && let Some(buf) = payload.buf.take()
            {
                self.receiving = Receiving::Payload;
                io.recv(socket, buf, payload.filled);
                return;
            }
        }
        self.make_room();
        if let Some(stream) = self.stream.take() {
            self.receiving = Receiving::Stream;
            io.recv(socket, stream, self.end);
        }
    }

    /// Moves the unused bytes to the front when little room is left behind them.
    fn make_room(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if stream.len() - self.end < ROOM_BYTES
            && let Some(bytes) = stream.bytes_mut()
        {
            bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Takes the memory of [`Inbox::receive`] back, with `count` more bytes in it.
    pub(super) fn received(&mut self, buf: Buf, count: usize) {
        match std::mem::replace(&mut self.receiving, Receiving::No) {
            Receiving::Payload => {
                if let Some(payload) = &mut self.payload {
                    payload.buf = Some(buf);
                    payload.filled += count;
                }
            }
            Receiving::Stream => {
                self.stream = Some(buf);
                self.end += count;
                self.skip(0);
                self.fill();
            }
            Receiving::No => {}
        }
    }
}

/// Size of the stream buffer: what one receive takes at most.
const STREAM_BYTES: usize = 128 << 10;
/// Room behind the unused bytes under which they are moved: more than any header needs.
const ROOM_BYTES: usize = 16 << 10;
/// From this length on the rest of a payload is received straight into its place.
const DIRECT_BYTES: usize = 16 << 10;
