//! The transmission phase, server to client: replies, simple or structured.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

use super::errno::Errno;
use super::sendable;
use super::transmission::{Cookie, cmd_flag};

/// How a client is answered: settled in the handshake by `NBD_OPT_STRUCTURED_REPLY`.
///
/// Every function appends to `out`. A read's data need not be copied: [`ReplyStyle::read_header`]
/// gives the bytes that go before it, and nothing goes behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyStyle {
    /// Simple replies only.
    Simple,
    /// Structured replies to reads, and to whatever failed: the error then carries its reason.
    /// Other successes stay simple, which is allowed and shorter.
    Structured,
}

impl ReplyStyle {
    /// The style of a client that did, or did not, negotiate structured replies.
    #[must_use]
    pub const fn of(structured: bool) -> Self {
        if structured { Self::Structured } else { Self::Simple }
    }

    /// Success of anything but a read.
    pub fn done(self, out: &mut Vec<u8>, cookie: Cookie) {
        simple(out, cookie, 0);
    }

    /// Success of a read: the bytes before its data, `len_bytes` long and read at `offset` bytes.
    /// The data must be complete: once this is sent there is no way to report an error.
    pub fn read_header(self, out: &mut Vec<u8>, cookie: Cookie, offset: u64, len_bytes: u32) {
        match self {
            Self::Simple => simple(out, cookie, 0),
            Self::Structured => {
                chunk(out, CHUNK_OFFSET_DATA, cookie, 8 + len_bytes);
                out.extend_from_slice(&offset.to_be_bytes());
            }
        }
    }

    /// Failure of anything. `message` tells the client's user why; simple replies lose it.
    pub fn error(self, out: &mut Vec<u8>, cookie: Cookie, errno: Errno, message: &str) {
        match self {
            Self::Simple => simple(out, cookie, errno.code()),
            Self::Structured => {
                let message = sendable(message).as_bytes();
                // At most MAX_STRING_BYTES: fits both length fields.
                chunk(out, CHUNK_ERROR, cookie, 6 + message.len() as u32);
                out.extend_from_slice(&errno.code().to_be_bytes());
                out.extend_from_slice(&(message.len() as u16).to_be_bytes());
                out.extend_from_slice(message);
            }
        }
    }

    /// The don't-fragment flag, if a read may carry it: our reads always have one chunk.
    pub(super) const fn dont_fragment_flag(self) -> u16 {
        match self {
            Self::Simple => 0,
            Self::Structured => cmd_flag::DF,
        }
    }
}

fn simple(out: &mut Vec<u8>, cookie: Cookie, error: u32) {
    let raw = RawSimpleReply { magic: SIMPLE_MAGIC.into(), error: error.into(), cookie: cookie.0.into() };
    out.extend_from_slice(raw.as_bytes());
}

/// The header of the only, and so last, chunk of a structured reply.
fn chunk(out: &mut Vec<u8>, kind: u16, cookie: Cookie, payload_bytes: u32) {
    let raw = RawChunk {
        magic: STRUCTURED_MAGIC.into(),
        flags: FLAG_DONE.into(),
        kind: kind.into(),
        cookie: cookie.0.into(),
        payload_bytes: payload_bytes.into(),
    };
    out.extend_from_slice(raw.as_bytes());
}

const SIMPLE_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;
const FLAG_DONE: u16 = 1 << 0;
const CHUNK_OFFSET_DATA: u16 = 1;
const CHUNK_ERROR: u16 = (1 << 15) + 1;

/// A simple reply's header exactly as on the wire.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct RawSimpleReply {
    magic: U32,
    error: U32,
    cookie: U64,
}
const _: () = assert!(size_of::<RawSimpleReply>() == 16);

/// A structured reply chunk's header exactly as on the wire.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct RawChunk {
    magic: U32,
    flags: U16,
    kind: U16,
    cookie: U64,
    payload_bytes: U32,
}
const _: () = assert!(size_of::<RawChunk>() == 20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nbd::MAX_STRING_BYTES;

    const COOKIE: Cookie = Cookie(0x1122_3344_5566_7788);

    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = vec![0xee];
        encode(&mut out);
        assert_eq!(out.remove(0), 0xee, "replies append");
        out
    }

    #[test]
    #[rustfmt::skip]
    fn simple_replies_match_the_document_byte_by_byte() {
        let done = [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
        assert_eq!(encoded(|out| ReplyStyle::Simple.done(out, COOKIE)), done);
        assert_eq!(encoded(|out| ReplyStyle::Simple.read_header(out, COOKIE, 4096, 512)), done);
        assert_eq!(encoded(|out| ReplyStyle::Structured.done(out, COOKIE)), done);
        let error = [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
        assert_eq!(encoded(|out| ReplyStyle::Simple.error(out, COOKIE, Errno::NoSpace, "full")), error);
    }

    #[test]
    #[rustfmt::skip]
    fn structured_replies_match_the_document_byte_by_byte() {
        assert_eq!(encoded(|out| ReplyStyle::Structured.read_header(out, COOKIE, 0x1000, 512)), [
            0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1, // magic, DONE, OFFSET_DATA
            0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
            0, 0, 2, 8, // 8 of the offset and 512 of data
            0, 0, 0, 0, 0, 0, 0x10, 0,
        ]);
        assert_eq!(encoded(|out| ReplyStyle::Structured.error(out, COOKIE, Errno::Shutdown, "bye")), [
            0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1, // magic, DONE, ERROR
            0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
            0, 0, 0, 9, 0, 0, 0, 108, 0, 3, b'b', b'y', b'e',
        ]);
    }

    #[test]
    fn an_endless_message_is_cut_to_the_protocols_limit() {
        let long = "é".repeat(100_000);
        let reply = encoded(|out| ReplyStyle::Structured.error(out, COOKIE, Errno::Io, &long));
        assert_eq!(reply.len(), 20 + 6 + MAX_STRING_BYTES);
    }
}
