//! The payloads of handshake options, and the replies to options: bytes to values and back.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::export::{Export, Listed};
use super::{MAX_STRING_BYTES, sendable};

/// `IHAVEOPT`: begins every option, and is the second half of the greeting.
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// Option numbers (`NBD_OPT_*`).
pub(super) mod opt {
    pub(in crate::nbd) const EXPORT_NAME: u32 = 1;
    pub(in crate::nbd) const ABORT: u32 = 2;
    pub(in crate::nbd) const LIST: u32 = 3;
    pub(in crate::nbd) const STARTTLS: u32 = 5;
    pub(in crate::nbd) const INFO: u32 = 6;
    pub(in crate::nbd) const GO: u32 = 7;
    pub(in crate::nbd) const STRUCTURED_REPLY: u32 = 8;
    pub(in crate::nbd) const LIST_META_CONTEXT: u32 = 9;
    pub(in crate::nbd) const SET_META_CONTEXT: u32 = 10;
}

/// Reply types (`NBD_REP_*`).
pub(super) mod rep {
    pub(in crate::nbd) const ACK: u32 = 1;
    pub(in crate::nbd) const SERVER: u32 = 2;
    pub(in crate::nbd) const INFO: u32 = 3;
    pub(in crate::nbd) const ERR_UNSUP: u32 = (1 << 31) + 1;
    pub(in crate::nbd) const ERR_POLICY: u32 = (1 << 31) + 2;
    pub(in crate::nbd) const ERR_INVALID: u32 = (1 << 31) + 3;
    pub(in crate::nbd) const ERR_UNKNOWN: u32 = (1 << 31) + 6;
    pub(in crate::nbd) const ERR_SHUTDOWN: u32 = (1 << 31) + 7;
    pub(in crate::nbd) const ERR_TOO_BIG: u32 = (1 << 31) + 9;
}

/// Information types (`NBD_INFO_*`).
mod info {
    pub(super) const EXPORT: u16 = 0;
    pub(super) const NAME: u16 = 1;
    pub(super) const DESCRIPTION: u16 = 2;
    pub(super) const BLOCK_SIZE: u16 = 3;
}

/// An option's header exactly as on the wire.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawOption {
    pub(super) magic: U64,
    pub(super) option: U32,
    pub(super) payload_bytes: U32,
}
const _: () = assert!(size_of::<RawOption>() == 16);

/// The header of a reply to an option exactly as on the wire.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct RawReply {
    magic: U64,
    option: U32,
    kind: U32,
    payload_bytes: U32,
}
const _: () = assert!(size_of::<RawReply>() == 20);

/// What is wrong with an option's payload; goes to the client with `NBD_REP_ERR_INVALID`.
pub(super) type Malformed = &'static str;

/// The payload of `NBD_OPT_INFO` and `NBD_OPT_GO`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InfoRequest<'a> {
    pub(super) name: &'a str,
    wants_name: bool,
    wants_description: bool,
}

impl<'a> InfoRequest<'a> {
    /// Information requests that we do not know are ignored, as the protocol demands.
    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = payload;
        let name = string(counted(&mut rest)?)?;
        let count = usize::from(take::<U16>(&mut rest)?.get());
        let mut request = Self { name, wants_name: false, wants_description: false };
        for _ in 0..count {
            match take::<U16>(&mut rest)?.get() {
                info::NAME => request.wants_name = true,
                info::DESCRIPTION => request.wants_description = true,
                _ => {} // the others are sent anyway, or unknown
            }
        }
        nothing_left(rest)?;
        Ok(request)
    }

    /// The information replies: export and block sizes always, the rest on request.
    pub(super) fn answer(&self, out: &mut Vec<u8>, option: u32, export: &Export, flags: u16) {
        let mut item = |kind: u16, parts: &[&[u8]]| {
            let payload = [&kind.to_be_bytes(), parts.concat().as_slice()].concat();
            reply(out, option, rep::INFO, &payload);
        };
        item(info::EXPORT, &[&export.size_bytes.to_be_bytes(), &flags.to_be_bytes()]);
        let sizes = export.block_sizes;
        item(
            info::BLOCK_SIZE,
            &[&sizes.min().to_be_bytes(), &sizes.preferred().to_be_bytes(), &sizes.max().to_be_bytes()],
        );
        if self.wants_name {
            item(info::NAME, &[sendable(&export.name).as_bytes()]);
        }
        if self.wants_description && !export.description.is_empty() {
            item(info::DESCRIPTION, &[sendable(&export.description).as_bytes()]);
        }
    }
}

/// The export that `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT` are about.
///
/// The queries must be well-formed, and then find nothing: urbd has no metadata context.
pub(super) fn parse_meta_context(payload: &[u8]) -> Result<&str, Malformed> {
    let mut rest = payload;
    let name = string(counted(&mut rest)?)?;
    let queries = take::<U32>(&mut rest)?.get();
    for _ in 0..queries {
        // Each query takes at least its four length bytes, so this ends with the payload.
        string(counted(&mut rest)?)?;
    }
    nothing_left(rest)?;
    Ok(name)
}

/// A string of the protocol: UTF-8, no NUL, at most [`MAX_STRING_BYTES`].
pub(super) fn string(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.len() > MAX_STRING_BYTES {
        return Err("a string is longer than 4096 bytes");
    }
    if bytes.contains(&0) {
        return Err("a string contains a NUL");
    }
    std::str::from_utf8(bytes).map_err(|_| "a string is not UTF-8")
}

/// Appends one reply to `option`.
pub(super) fn reply(out: &mut Vec<u8>, option: u32, kind: u32, payload: &[u8]) {
    let raw = RawReply {
        magic: REPLY_MAGIC.into(),
        option: option.into(),
        kind: kind.into(),
        // Ours: a few fixed fields and at most two strings of MAX_STRING_BYTES.
        payload_bytes: (payload.len() as u32).into(),
    };
    out.extend_from_slice(raw.as_bytes());
    out.extend_from_slice(payload);
}

/// Appends one line of the answer to `NBD_OPT_LIST`.
pub(super) fn reply_server(out: &mut Vec<u8>, listed: &Listed) {
    let name = sendable(&listed.name);
    let payload =
        [&(name.len() as u32).to_be_bytes(), name.as_bytes(), sendable(&listed.description).as_bytes()]
            .concat();
    reply(out, opt::LIST, rep::SERVER, &payload);
}

/// Takes a fixed-size value off the front of `rest`.
fn take<'a, T: FromBytes + Immutable + KnownLayout + Unaligned>(
    rest: &mut &'a [u8],
) -> Result<&'a T, Malformed> {
    let (value, behind) = T::ref_from_prefix(rest).map_err(|_| TRUNCATED)?;
    *rest = behind;
    Ok(value)
}

/// Takes a 32-bit length and that many bytes off the front of `rest`.
fn counted<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let len = take::<U32>(rest)?.get() as usize;
    let (bytes, behind) = rest.split_at_checked(len).ok_or(TRUNCATED)?;
    *rest = behind;
    Ok(bytes)
}

fn nothing_left(rest: &[u8]) -> Result<(), Malformed> {
    if rest.is_empty() { Ok(()) } else { Err("bytes are left over behind the option's fields") }
}

const TRUNCATED: Malformed = "a field reaches past the end of the option";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_request_is_read_and_unknown_items_are_ignored() {
        let payload = b"\0\0\0\x04r0/0\0\x03\0\x02\x12\x34\0\x03";
        let request = InfoRequest { name: "r0/0", wants_name: false, wants_description: true };
        assert_eq!(InfoRequest::parse(payload), Ok(request));
        for short in 0..payload.len() {
            assert_eq!(InfoRequest::parse(&payload[..short]), Err(TRUNCATED));
        }
        assert!(InfoRequest::parse(b"\0\0\0\0\0\0!").is_err());
        assert!(InfoRequest::parse(b"\0\0\0\x02\xc3\x28\0\0").is_err());
        assert!(InfoRequest::parse(b"\0\0\0\x02a\0\0\0").is_err());
    }

    #[test]
    fn meta_context_queries_must_be_well_formed() {
        assert_eq!(parse_meta_context(b"\0\0\0\x02r0\0\0\0\x01\0\0\0\x05base:"), Ok("r0"));
        assert_eq!(parse_meta_context(b"\0\0\0\x02r0\0\0\0\0"), Ok("r0"));
        assert_eq!(parse_meta_context(b"\0\0\0\x02r0\xff\xff\xff\xff\0\0\0\x05base:"), Err(TRUNCATED));
        assert_eq!(parse_meta_context(b"\xff\xff\xff\xffr0"), Err(TRUNCATED));
        assert!(parse_meta_context(b"\0\0\0\x02r0\0\0\0\0more").is_err());
    }
}
