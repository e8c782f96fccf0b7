//! A socket's queue of bytes to send: small pieces are joined, payloads stay where they are.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::AsFd;

use rustix::net::{SendAncillaryBuffer, SendFlags};

use super::Unsent;
use crate::buffer::Buf;

/// What waits to be sent on one socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that went already.
    gone: usize,
    bytes: usize,
    moved: u64,
    /// An emptied piece, kept for its memory.
    spare: Vec<u8>,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Payload(Buf),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Payload(buf) => buf.bytes(),
        }
    }
}

/// What came of an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it.
    All,
    /// The network takes no more at the moment.
    Blocked,
    /// The connection is broken.
    Failed(i32),
}

impl Outbox {
    pub(super) const fn unsent(&self) -> Unsent {
        Unsent { bytes: self.bytes, moved: self.moved }
    }

    pub(super) fn push(&mut self, bytes: &[u8], payload: Option<Buf>) {
        self.push_bytes(bytes);
        if let Some(payload) = payload.filter(|payload| !payload.is_empty()) {
            self.bytes += payload.len();
            if payload.len() <= JOIN_BYTES {
                self.joined(payload.len()).extend_from_slice(payload.bytes());
            } else {
                self.pieces.push_back(Piece::Payload(payload));
            }
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.joined(bytes.len()).extend_from_slice(bytes);
        }
    }

    /// The last piece, if it is one of bytes with room for `more`; else a new one.
    fn joined(&mut self, more: usize) -> &mut Vec<u8> {
        let fits = matches!(self.pieces.back(), Some(Piece::Bytes(last)) if last.len() + more <= PIECE_BYTES);
        if !fits {
            let mut fresh = std::mem::take(&mut self.spare);
            fresh.clear();
            self.pieces.push_back(Piece::Bytes(fresh));
        }
        match self.pieces.back_mut() {
            Some(Piece::Bytes(last)) => last,
            Some(Piece::Payload(_)) | None => unreachable!("the last piece is one of bytes, as made above"),
        }
    }

    /// Sends as much as `socket` takes without waiting.
    pub(super) fn flush(&mut self, socket: impl AsFd) -> Sent {
        while self.bytes > 0 {
            let mut slices: [IoSlice<'_>; MAX_SLICES] = std::array::from_fn(|_| IoSlice::new(&[]));
            let mut filled = 0;
            let mut offered = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                let skip = if filled == 0 { self.gone } else { 0 };
                let bytes = &piece.bytes()[skip..];
                *slice = IoSlice::new(bytes);
                filled += 1;
                offered += bytes.len();
                if offered >= MAX_OFFER_BYTES {
                    break;
                }
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let mut nothing = SendAncillaryBuffer::default();
            match rustix::net::sendmsg(&socket, &slices[..filled], &mut nothing, flags) {
                Ok(count) => self.advance(count),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Sent::Blocked,
                Err(error) => return Sent::Failed(error.raw_os_error()),
            }
        }
        Sent::All
    }

    fn advance(&mut self, count: usize) {
        self.bytes -= count;
        self.moved += count as u64;
        self.gone += count;
        while let Some(first) = self.pieces.front() {
            let len = first.bytes().len();
            if self.gone < len {
                return;
            }
            self.gone -= len;
            if let Some(Piece::Bytes(emptied)) = self.pieces.pop_front() {
                self.spare = emptied;
            }
        }
    }
}

/// Payloads up to this many bytes are copied: cheaper than a slice of their own.
const JOIN_BYTES: usize = 512;
/// Small pieces are joined up to this many bytes.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces offered to the network in one call.
const MAX_SLICES: usize = 128;
/// Bytes offered to the network in one call, after which no further piece is added.
const MAX_OFFER_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn pieces_arrive_whole_and_in_order_whatever_the_network_takes_at_once() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for round in 0..200_usize {
            let head = vec![round as u8; round % 40];
            let payload = Buf::copied(&vec![round as u8 ^ 0x55; round * 67 % 9000]);
            expected.extend_from_slice(&head);
            expected.extend_from_slice(payload.bytes());
            outbox.push(&head, Some(payload));
        }
        assert_eq!(outbox.unsent().bytes, expected.len());
        let total = expected.len();
        let read = move || {
            let mut got = vec![0; total];
            far.read_exact(&mut got).unwrap();
            got
        };
        // Nobody reads before the socket is full.
        assert!(matches!(outbox.flush(&near), Sent::Blocked), "the socket took everything at once");
        let reader = std::thread::spawn(read);
        loop {
            match outbox.flush(&near) {
                Sent::All => break,
                Sent::Blocked => {
                    let mut fd = [rustix::event::PollFd::new(&near, rustix::event::PollFlags::OUT)];
                    rustix::event::poll(&mut fd, None).unwrap();
                }
                Sent::Failed(errno) => panic!("errno {errno}"),
            }
        }
        assert_eq!(outbox.unsent(), Unsent { bytes: 0, moved: total as u64 });
        assert!(reader.join().unwrap() == expected);
    }

    #[test]
    fn a_broken_connection_is_told() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        let mut outbox = Outbox::default();
        outbox.push(b"lost", None);
        assert_eq!(outbox.flush(&near), Sent::Failed(libc::EPIPE));
    }
}
