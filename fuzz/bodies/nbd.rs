//! NBD: the handshake and the requests.

use urbd::nbd::negotiation::MAX_WAITING_BYTES;
use urbd::nbd::transmission::{MAX_SKIP_BYTES, MAX_TRANSFER_BYTES, REQUEST_BYTES};
use urbd::nbd::{
    BlockSizes, Command, Cookie, Errno, Export, Exports, Incoming, Listed, Negotiation, NegotiationError,
    Outcome, Purpose, Refusal, RefusalKind, ReplyStyle, Session,
};

/// Bytes: length of a piece, then what a client sends. However the stream is cut, the server
/// sends the same and ends the same.
pub(crate) fn negotiation(mut data: &[u8]) {
    let piece = usize::from(super::take_byte(&mut data)) + 1;
    assert_eq!(shake_hands(data, data.len()), shake_hands(data, piece));
}

/// Handshakes as `nbd-client`, `qemu` and `libnbd` have them, and a lister.
pub(crate) fn negotiation_seeds() -> Vec<Vec<u8>> {
    let option = |number: u32, payload: &[u8]| {
        [b"IHAVEOPT", &number.to_be_bytes()[..], &(payload.len() as u32).to_be_bytes(), payload].concat()
    };
    let info = b"\0\0\0\x04r0/0\0\x03\0\x01\0\x02\0\x03";
    let meta = b"\0\0\0\x02r0\0\0\0\x01\0\0\0\x0fbase:allocation";
    let flags = |flags: u8| vec![0, 0, 0, flags];
    let clients = [
        vec![flags(3), option(1, b"r0/0")],
        vec![flags(0), option(1, b"r0")],
        vec![flags(3), option(11, b""), option(8, b""), option(10, meta), option(7, info)],
        vec![flags(1), option(5, b""), option(8, b""), option(9, meta), option(6, info), option(2, b"")],
        vec![flags(3), option(3, b""), option(7, b"\0\0\0\x02r1\0\0"), option(4, b"peek"), option(2, b"")],
    ];
    clients
        .into_iter()
        .flat_map(|client| [2, 255].map(|piece| [vec![piece], client.concat()].concat()))
        .collect()
}

type End = Result<Option<Outcome>, NegotiationError>;

fn shake_hands(input: &[u8], piece: usize) -> (Vec<u8>, End) {
    let mut negotiation = Negotiation::new();
    let mut sent = negotiation.take_output();
    let mut position = 0;
    while position < input.len() {
        let end = input.len().min(position + piece);
        let progress = negotiation.feed(&input[position..end], &mut Volumes);
        let output = negotiation.take_output();
        let full = output.len() >= MAX_WAITING_BYTES;
        sent.extend(output);
        match progress {
            Err(error) => return (sent, Err(error)),
            Ok(progress) if progress.outcome.is_some() => return (sent, Ok(progress.outcome)),
            Ok(progress) => {
                assert!(full || progress.consumed == end - position, "bytes are left for no reason");
                position += progress.consumed;
            }
        }
    }
    (sent, Ok(None))
}

struct Volumes;

impl Exports for Volumes {
    fn lookup(&mut self, name: &str, _purpose: Purpose) -> Result<Export, Refusal> {
        match name {
            "r0" | "r0/0" => Ok(Export::new("r0/0", 1 << 30)),
            "r1" => Err(Refusal { kind: RefusalKind::Policy, reason: "Secondary".to_owned() }),
            _ => Err(Refusal { kind: RefusalKind::Unknown, reason: name.repeat(100) }),
        }
    }

    fn list(&mut self) -> Vec<Listed> {
        vec![Listed { name: "r0/0".to_owned(), description: "a disk".to_owned() }]
    }
}

/// Bytes: shape and size of the export, then what a client sends. A request that is let through
/// lies inside the export and is aligned; the decoder and the stream agree on payload lengths.
pub(crate) fn transmission(mut data: &[u8]) {
    let export = export(&mut data);
    let structured = super::take_byte(&mut data) & 1 != 0;
    let session = Session::new(&export, structured);
    loop {
        let Ok(Some(incoming)) = session.decode(data) else { return };
        let payload_bytes = match incoming {
            Incoming::Disconnect => return,
            Incoming::Request(request) => {
                check_request(&export, request.command);
                assert!(request.payload_bytes() <= export.block_sizes.max());
                request.payload_bytes()
            }
            Incoming::Refused(refused) => {
                assert!(refused.skip_bytes <= MAX_SKIP_BYTES);
                check_error(refused.cookie, refused.errno, refused.reason);
                refused.skip_bytes
            }
        };
        let Some(rest) = data.get(REQUEST_BYTES + payload_bytes as usize..) else { return };
        check_error(Cookie(7), Errno::Io, &String::from_utf8_lossy(rest));
        data = rest;
    }
}

/// Requests of every kind, valid and not, against three exports.
pub(crate) fn transmission_seeds() -> Vec<Vec<u8>> {
    let request = |flags: u16, kind: u16, offset: u64, len: u32, payload: &[u8]| {
        [
            &0x2560_9513_u32.to_be_bytes()[..],
            &flags.to_be_bytes(),
            &kind.to_be_bytes(),
            b"cookie!!",
            &offset.to_be_bytes(),
            &len.to_be_bytes(),
            payload,
        ]
        .concat()
    };
    let stream = [
        request(0, 0, 0, 4096, &[]),
        request(1, 1, 512, 512, &[0x5a; 512]),
        request(4, 0, 1 << 20, MAX_TRANSFER_BYTES, &[]),
        request(0, 1, u64::MAX, 3, b"abc"),
        request(0, 3, 0, 0, &[]),
        request(1, 4, 4096, 1 << 30, &[]),
        request(2, 6, 8192, 65536, &[]),
        request(0, 7, 0, 512, &[]),
        request(0, 2, 0, 0, &[]),
    ]
    .concat();
    [[0_u8, 0x40, 0, 0, 1], [3, 0, 0x10, 0, 0], [0x30, 0, 0xff, 0xff, 1]]
        .map(|export| [&export[..], &stream].concat())
        .into()
}

/// Draws an export: flags and alignment, then its size in 4 KiB blocks.
fn export(data: &mut &[u8]) -> Export {
    let shape = super::take_byte(data);
    let blocks = (0..3).fold(0_u64, |sum, _| sum << 8 | u64::from(super::take_byte(data)));
    let mut export = Export::new("x", blocks * 4096);
    export.read_only = shape & 1 != 0;
    export.can_trim = shape & 2 == 0;
    if shape & 0x10 != 0 {
        export.block_sizes = BlockSizes::new(4096, 4096, 1 << 20).unwrap();
    }
    export
}

fn check_request(export: &Export, command: Command) {
    let (extent, limit, writes) = match command {
        Command::Flush => return,
        Command::Read { extent } => (extent, export.block_sizes.max(), false),
        Command::Write { extent, .. } => (extent, export.block_sizes.max(), true),
        Command::Trim { extent, .. } | Command::WriteZeroes { extent, .. } => (extent, u32::MAX, true),
    };
    let align = u64::from(export.block_sizes.min());
    assert!(extent.end().byte_offset() <= export.size_bytes);
    assert!(extent.start().byte_offset().is_multiple_of(align) && extent.bytes().is_multiple_of(align));
    assert!(extent.bytes() <= u64::from(limit));
    assert!(!(writes && export.read_only));
}

/// The lengths in an error reply add up, whatever the message.
fn check_error(cookie: Cookie, errno: Errno, message: &str) {
    let mut out = Vec::new();
    ReplyStyle::Structured.error(&mut out, cookie, errno, message);
    let payload = u32::from_be_bytes(out[16..20].try_into().unwrap()) as usize;
    let text = usize::from(u16::from_be_bytes(out[24..26].try_into().unwrap()));
    assert_eq!((out.len(), payload), (20 + payload, 6 + text));
    assert!(message.starts_with(std::str::from_utf8(&out[26..]).unwrap()));
}
