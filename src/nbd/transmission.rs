//! The transmission phase, client to server: request headers, checked against the export.
//!
//! [`Session::decode`] is pure and keeps no state: given at least [`REQUEST_BYTES`] bytes it says
//! what they ask for, and how many payload bytes follow them in the stream. The caller drops the
//! header, gathers (or skips) that payload, and decodes the next one.

use std::fmt;

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::errno::Errno;
use super::export::{BlockSizes, Export};
use super::reply::ReplyStyle;
use crate::units::{Extent, SECTOR_BYTES, Sector};

/// Length of a request header in bytes.
pub const REQUEST_BYTES: usize = size_of::<RawRequest>();
/// Longest read or write that any export takes, in bytes. The protocol's advice for clients that
/// do not ask.
pub const MAX_TRANSFER_BYTES: u32 = 32 << 20;
/// Longest payload of a refused write that we read to its end, in bytes. Above it the connection
/// ends instead.
pub const MAX_SKIP_BYTES: u32 = 4 * MAX_TRANSFER_BYTES;

/// `NBD_REQUEST_MAGIC`.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;

/// A client's own name for a request: comes back in the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub u64);

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// What the next bytes of a client ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A valid request; [`Request::payload_bytes`] bytes of payload follow its header.
    Request(Request),
    /// A request that we answer with an error at once, after its payload has been skipped.
    Refused(Refused),
    /// `NBD_CMD_DISC`: finish what is in flight, then close. There is no reply.
    Disconnect,
}

/// A valid request: inside the export, aligned, no longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's name for it.
    pub cookie: Cookie,
    /// What to do.
    pub command: Command,
}

/// What to do, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read the extent.
    Read {
        /// Where.
        extent: Extent,
    },
    /// Write the payload that follows the header.
    Write {
        /// Where.
        extent: Extent,
        /// Durable before the reply.
        fua: bool,
    },
    /// Make every write replied to so far durable.
    Flush,
    /// The extent's content is no longer needed.
    Trim {
        /// Where.
        extent: Extent,
        /// Durable before the reply.
        fua: bool,
    },
    /// Make the extent read as zeroes.
    WriteZeroes {
        /// Where.
        extent: Extent,
        /// Durable before the reply.
        fua: bool,
        /// Whether a hole will do (`NBD_CMD_FLAG_NO_HOLE` was not set).
        may_trim: bool,
    },
}

impl Request {
    /// Bytes of payload that follow the header in the stream.
    #[must_use]
    pub fn payload_bytes(&self) -> u32 {
        match self.command {
            // A checked write is no longer than MAX_TRANSFER_BYTES, so this does not truncate.
            Command::Write { extent, .. } => extent.bytes() as u32,
            Command::Read { .. } | Command::Flush | Command::Trim { .. } | Command::WriteZeroes { .. } => 0,
        }
    }

    /// The sectors it is about; `None` for a flush.
    #[must_use]
    pub const fn extent(&self) -> Option<Extent> {
        match self.command {
            Command::Read { extent }
            | Command::Write { extent, .. }
            | Command::Trim { extent, .. }
            | Command::WriteZeroes { extent, .. } => Some(extent),
            Command::Flush => None,
        }
    }

    /// Distance of its first byte from the start of the export; 0 for a flush.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.extent().map_or(0, |extent| extent.start().byte_offset())
    }

    /// Its length in bytes; 0 for a flush.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.extent().map_or(0, Extent::bytes)
    }
}

/// A request that is answered with an error and does not reach the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The client's name for it.
    pub cookie: Cookie,
    /// The error for the reply.
    pub errno: Errno,
    /// The reason, for the message of a structured reply and for the log.
    pub reason: &'static str,
    /// Bytes of payload that follow the header and must be skipped before the next header.
    pub skip_bytes: u32,
}

/// A client that broke the protocol beyond repair: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransmissionError {
    /// The stream does not hold a request where one must start.
    #[error(
        "NBD request magic is {found:#010x}, not {REQUEST_MAGIC:#010x}: the client lost its place in the stream"
    )]
    BadMagic {
        /// What stood there.
        found: u32,
    },
    /// A write too long even to be skipped.
    #[error(
        "NBD write of {len_bytes} bytes: the limit is {MAX_TRANSFER_BYTES} bytes, and above {MAX_SKIP_BYTES} the connection ends"
    )]
    PayloadTooLong {
        /// Its length.
        len_bytes: u32,
    },
}

/// One client's open export: what its requests are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    size_bytes: u64,
    read_only: bool,
    can_trim: bool,
    block_sizes: BlockSizes,
    replies: ReplyStyle,
}

impl Session {
    /// The session of a client that opened `export`.
    #[must_use]
    pub fn new(export: &Export, structured: bool) -> Self {
        Self {
            // Bytes behind the last whole sector cannot be addressed: Extent counts sectors.
            size_bytes: export.size_bytes - export.size_bytes % SECTOR_BYTES,
            read_only: export.read_only,
            can_trim: export.can_trim,
            block_sizes: export.block_sizes,
            replies: ReplyStyle::of(structured),
        }
    }

    /// How to answer this client.
    #[must_use]
    pub const fn replies(&self) -> ReplyStyle {
        self.replies
    }

    /// What the header at the start of `input` asks for; `None` until all [`REQUEST_BYTES`] of it
    /// are there. The caller then drops exactly [`REQUEST_BYTES`] bytes, and the payload is next.
    ///
    /// # Errors
    /// [`TransmissionError`]: close the connection.
    pub fn decode(&self, input: &[u8]) -> Result<Option<Incoming>, TransmissionError> {
        let Ok((raw, _)) = RawRequest::ref_from_prefix(input) else {
            return Ok(None);
        };
        if raw.magic.get() != REQUEST_MAGIC {
            return Err(TransmissionError::BadMagic { found: raw.magic.get() });
        }
        let kind = raw.kind.get();
        if kind == cmd::DISC {
            return Ok(Some(Incoming::Disconnect));
        }
        let skip_bytes = if kind == cmd::WRITE { raw.len.get() } else { 0 };
        if skip_bytes > MAX_SKIP_BYTES {
            return Err(TransmissionError::PayloadTooLong { len_bytes: skip_bytes });
        }
        let cookie = Cookie(raw.cookie.get());
        Ok(Some(match self.command(raw) {
            Ok(command) => Incoming::Request(Request { cookie, command }),
            Err((errno, reason)) => Incoming::Refused(Refused { cookie, errno, reason, skip_bytes }),
        }))
    }

    fn command(&self, raw: &RawRequest) -> Result<Command, Reason> {
        let flags = raw.flags.get();
        let fua = flags & cmd_flag::FUA != 0;
        // FUA is valid on every command, and means nothing on those that write nothing.
        let only = |allowed: u16| match flags & !(allowed | cmd_flag::FUA) {
            0 => Ok(()),
            _ => Err((Errno::Invalid, "a command flag is unknown, or not valid for this command")),
        };
        match raw.kind.get() {
            cmd::READ => {
                only(self.replies.dont_fragment_flag())?;
                let extent = self.extent(raw, Errno::Invalid)?;
                self.within_transfer_limit(extent)?;
                Ok(Command::Read { extent })
            }
            cmd::WRITE => {
                only(0)?;
                self.writable()?;
                let extent = self.extent(raw, Errno::NoSpace)?;
                self.within_transfer_limit(extent)?;
                Ok(Command::Write { extent, fua })
            }
            // Offset and length are reserved; a client that leaves rubbish there still gets its flush.
            cmd::FLUSH => only(0).map(|()| Command::Flush),
            cmd::TRIM => {
                only(0)?;
                self.writable()?;
                if !self.can_trim {
                    return Err((Errno::Invalid, "this export does not offer trim"));
                }
                Ok(Command::Trim { extent: self.extent(raw, Errno::Invalid)?, fua })
            }
            cmd::WRITE_ZEROES => {
                // NBD_CMD_FLAG_FAST_ZERO is among the invalid ones: it is not advertised.
                only(cmd_flag::NO_HOLE)?;
                self.writable()?;
                let may_trim = flags & cmd_flag::NO_HOLE == 0;
                Ok(Command::WriteZeroes { extent: self.extent(raw, Errno::NoSpace)?, fua, may_trim })
            }
            _ => Err((Errno::Invalid, "unknown command, or one that was not negotiated")),
        }
    }

    fn writable(&self) -> Result<(), Reason> {
        if self.read_only { Err((Errno::Perm, "the export is read-only")) } else { Ok(()) }
    }

    fn within_transfer_limit(&self, extent: Extent) -> Result<(), Reason> {
        if extent.bytes() > u64::from(self.block_sizes.max()) {
            return Err((Errno::Invalid, "longer than the export's maximum block size"));
        }
        Ok(())
    }

    /// The request's sectors: not empty, aligned, inside the export (else `past_end`).
    fn extent(&self, raw: &RawRequest, past_end: Errno) -> Result<Extent, Reason> {
        let (offset, len) = (raw.offset.get(), u64::from(raw.len.get()));
        if len == 0 {
            return Err((Errno::Invalid, "the length is zero"));
        }
        if offset.checked_add(len).is_none_or(|end| end > self.size_bytes) {
            return Err((past_end, "the request ends behind the end of the export"));
        }
        let align = u64::from(self.block_sizes.min());
        if !offset.is_multiple_of(align) || !len.is_multiple_of(align) {
            return Err((Errno::Invalid, "offset or length is not a multiple of the minimum block size"));
        }
        Extent::of_bytes(Sector::new(offset / SECTOR_BYTES), len)
            .ok_or((Errno::Invalid, "offset or length is not a multiple of 512 bytes"))
    }
}

type Reason = (Errno, &'static str);

/// Request types (`NBD_CMD_*`).
mod cmd {
    pub(super) const READ: u16 = 0;
    pub(super) const WRITE: u16 = 1;
    pub(super) const DISC: u16 = 2;
    pub(super) const FLUSH: u16 = 3;
    pub(super) const TRIM: u16 = 4;
    pub(super) const WRITE_ZEROES: u16 = 6;
}

/// Command flags (`NBD_CMD_FLAG_*`).
pub(super) mod cmd_flag {
    pub(in crate::nbd) const FUA: u16 = 1 << 0;
    pub(in crate::nbd) const NO_HOLE: u16 = 1 << 1;
    pub(in crate::nbd) const DF: u16 = 1 << 2;
}

/// A request header exactly as on the wire.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawRequest {
    magic: U32,
    flags: U16,
    kind: U16,
    cookie: U64,
    offset: U64,
    len: U32,
}
const _: () = assert!(size_of::<RawRequest>() == 28);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 1 << 30;

    fn session() -> Session {
        Session::new(&Export::new("r0/0", SIZE), true)
    }

    fn header(flags: u16, kind: u16, offset: u64, len: u32) -> Vec<u8> {
        let raw = RawRequest {
            magic: REQUEST_MAGIC.into(),
            flags: flags.into(),
            kind: kind.into(),
            cookie: 0x0102_0304_0506_0708.into(),
            offset: offset.into(),
            len: len.into(),
        };
        raw.as_bytes().to_vec()
    }

    fn decoded(session: &Session, flags: u16, kind: u16, offset: u64, len: u32) -> Incoming {
        session.decode(&header(flags, kind, offset, len)).unwrap().unwrap()
    }

    fn refusal(session: &Session, flags: u16, kind: u16, offset: u64, len: u32) -> (Errno, u32) {
        match decoded(session, flags, kind, offset, len) {
            Incoming::Refused(refused) => (refused.errno, refused.skip_bytes),
            other => panic!("accepted: {other:?}"),
        }
    }

    fn command(flags: u16, kind: u16, offset: u64, len: u32) -> Command {
        match decoded(&session(), flags, kind, offset, len) {
            Incoming::Request(request) => request.command,
            other => panic!("not accepted: {other:?}"),
        }
    }

    fn extent(start: u64, sectors: u32) -> Extent {
        Extent::new(Sector::new(start), sectors).unwrap()
    }

    #[test]
    fn a_write_header_is_read_byte_by_byte_as_the_document_lays_it_out() {
        #[rustfmt::skip]
        let bytes = [
            0x25, 0x60, 0x95, 0x13, // magic
            0x00, 0x01, // flags: FUA
            0x00, 0x01, // type: WRITE
            0xde, 0xad, 0xbe, 0xef, 0x00, 0x00, 0x00, 0x2a, // cookie
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, // offset
            0x00, 0x00, 0x04, 0x00, // length
            0xff, 0xff, // its payload begins
        ];
        let request = Request {
            cookie: Cookie(0xdead_beef_0000_002a),
            command: Command::Write { extent: extent(8, 2), fua: true },
        };
        assert_eq!(session().decode(&bytes), Ok(Some(Incoming::Request(request))));
        assert_eq!((request.payload_bytes(), request.offset(), request.len_bytes()), (1024, 4096, 1024));
        for short in 0..REQUEST_BYTES {
            assert_eq!(session().decode(&bytes[..short]), Ok(None));
        }
    }

    #[test]
    fn each_command_keeps_its_flags() {
        assert_eq!(command(0, cmd::READ, 512, 512), Command::Read { extent: extent(1, 1) });
        assert_eq!(command(0b101, cmd::READ, 0, 512), Command::Read { extent: extent(0, 1) });
        assert_eq!(command(0, cmd::WRITE, 0, 512), Command::Write { extent: extent(0, 1), fua: false });
        assert_eq!(command(1, cmd::FLUSH, 0, 0), Command::Flush);
        assert_eq!(
            command(1, cmd::TRIM, 0, 1 << 30),
            Command::Trim { extent: extent(0, 1 << 21), fua: true }
        );
        assert_eq!(
            command(0, cmd::WRITE_ZEROES, 0, 1 << 29),
            Command::WriteZeroes { extent: extent(0, 1 << 20), fua: false, may_trim: true }
        );
        assert_eq!(
            command(3, cmd::WRITE_ZEROES, 0, 512),
            Command::WriteZeroes { extent: extent(0, 1), fua: true, may_trim: false }
        );
        assert_eq!(decoded(&session(), 0, cmd::DISC, 7, 7), Incoming::Disconnect);
    }

    #[test]
    fn flags_that_are_unknown_or_belong_elsewhere_are_invalid() {
        let session = session();
        for (flags, kind) in [
            (cmd_flag::NO_HOLE, cmd::READ),
            (cmd_flag::DF, cmd::WRITE),
            (1 << 3, cmd::READ),         // REQ_ONE is for BLOCK_STATUS
            (1 << 4, cmd::WRITE_ZEROES), // FAST_ZERO is not advertised
            (1 << 15, cmd::TRIM),
            (cmd_flag::DF, cmd::FLUSH),
        ] {
            let skip = if kind == cmd::WRITE { 512 } else { 0 };
            assert_eq!(refusal(&session, flags, kind, 0, 512), (Errno::Invalid, skip), "{flags} {kind}");
        }
        let simple = Session::new(&Export::new("r0/0", SIZE), false);
        assert_eq!(refusal(&simple, cmd_flag::DF, cmd::READ, 0, 512), (Errno::Invalid, 0));
    }

    #[test]
    fn commands_that_are_not_offered_are_invalid() {
        for kind in [5, 7, 8, 9, u16::MAX] {
            assert_eq!(refusal(&session(), 0, kind, 0, 512), (Errno::Invalid, 0));
        }
        let mut export = Export::new("r0/0", SIZE);
        export.can_trim = false;
        assert_eq!(refusal(&Session::new(&export, false), 0, cmd::TRIM, 0, 512), (Errno::Invalid, 0));
    }

    #[test]
    fn past_the_end_reads_are_invalid_and_writes_find_no_space() {
        let session = session();
        for offset in [SIZE - 512, SIZE, u64::MAX - 1023, u64::MAX - 511] {
            assert_eq!(refusal(&session, 0, cmd::READ, offset, 1024), (Errno::Invalid, 0));
            assert_eq!(refusal(&session, 0, cmd::WRITE, offset, 1024), (Errno::NoSpace, 1024));
            assert_eq!(refusal(&session, 0, cmd::TRIM, offset, 1024), (Errno::Invalid, 0));
            assert_eq!(refusal(&session, 0, cmd::WRITE_ZEROES, offset, 1024), (Errno::NoSpace, 0));
        }
        assert_eq!(
            command(0, cmd::READ, SIZE - 512, 512),
            Command::Read { extent: extent(SIZE / 512 - 1, 1) }
        );
    }

    #[test]
    fn unaligned_or_empty_requests_are_invalid() {
        let session = session();
        for (offset, len) in [(1, 512), (512, 511), (512, 1), (0, 0)] {
            for kind in [cmd::READ, cmd::WRITE, cmd::TRIM, cmd::WRITE_ZEROES] {
                let skip = if kind == cmd::WRITE { len } else { 0 };
                assert_eq!(refusal(&session, 0, kind, offset, len), (Errno::Invalid, skip));
            }
        }
        let mut export = Export::new("r0/0", SIZE);
        export.block_sizes = BlockSizes::new(4096, 4096, 1 << 20).unwrap();
        assert_eq!(refusal(&Session::new(&export, false), 0, cmd::READ, 512, 4096), (Errno::Invalid, 0));
    }

    #[test]
    fn a_too_long_write_is_skipped_and_a_huge_one_ends_the_connection() {
        let session = session();
        let long = MAX_TRANSFER_BYTES + 512;
        assert_eq!(refusal(&session, 0, cmd::WRITE, 0, long), (Errno::Invalid, long));
        assert_eq!(refusal(&session, 0, cmd::READ, 0, long), (Errno::Invalid, 0));
        assert_eq!(
            session.decode(&header(0, cmd::WRITE, 0, MAX_SKIP_BYTES + 1)),
            Err(TransmissionError::PayloadTooLong { len_bytes: MAX_SKIP_BYTES + 1 })
        );
        assert!(matches!(command(0, cmd::WRITE, 0, MAX_TRANSFER_BYTES), Command::Write { .. }));
    }

    #[test]
    fn a_read_only_export_permits_reads_and_flushes_only() {
        let mut export = Export::new("r0/0", SIZE);
        export.read_only = true;
        let session = Session::new(&export, false);
        for kind in [cmd::WRITE, cmd::TRIM, cmd::WRITE_ZEROES] {
            assert_eq!(refusal(&session, 0, kind, 0, 512).0, Errno::Perm);
        }
        for kind in [cmd::READ, cmd::FLUSH] {
            assert!(matches!(decoded(&session, 0, kind, 0, 512), Incoming::Request(_)));
        }
    }

    #[test]
    fn a_lost_stream_is_an_error() {
        let mut bytes = header(0, cmd::READ, 0, 512);
        bytes[3] ^= 1;
        assert_eq!(session().decode(&bytes), Err(TransmissionError::BadMagic { found: 0x2560_9512 }));
    }

    proptest! {
        /// A request that is let through lies inside the export, aligned, with the payload length
        /// the header names: the slow oracle is plain wide arithmetic.
        #[test]
        fn only_requests_inside_the_export_reach_the_core(
            flags in prop_oneof![Just(0u16), 0u16..8, any::<u16>()],
            kind in prop_oneof![0u16..10, any::<u16>()],
            offset in prop_oneof![(0u64..5000).prop_map(|n| n * 512), 0..2 * SIZE, any::<u64>()],
            len in prop_oneof![(0u32..5000).prop_map(|n| n * 512), any::<u32>()],
            size in prop_oneof![Just(SIZE), 0u64..1 << 22],
        ) {
            let session = Session::new(&Export::new("x", size), true);
            match session.decode(&header(flags, kind, offset, len)) {
                Ok(Some(Incoming::Request(request))) => {
                    prop_assert_eq!(request.cookie, Cookie(0x0102_0304_0506_0708));
                    let follows = if kind == cmd::WRITE { len } else { 0 };
                    prop_assert_eq!(request.payload_bytes(), follows);
                    if let Some(extent) = request.extent() {
                        prop_assert_eq!(u128::from(extent.start().get()) * 512, u128::from(offset));
                        prop_assert_eq!(extent.bytes(), u64::from(len));
                        prop_assert!(u128::from(offset) + u128::from(len) <= u128::from(size));
                    }
                }
                Ok(Some(Incoming::Refused(refused))) => {
                    prop_assert_eq!(refused.skip_bytes, if kind == cmd::WRITE { len } else { 0 });
                }
                Ok(Some(Incoming::Disconnect)) => prop_assert_eq!(kind, cmd::DISC),
                Ok(None) => prop_assert!(false, "a whole header was there"),
                Err(error) => prop_assert_eq!(error, TransmissionError::PayloadTooLong { len_bytes: len }),
            }
        }
    }
}
