//! The wire format against what two in-kernel DRBD 8.4.11 nodes said to each other
//! (`tests/data/wire/README.md`): every packet decodes, and encodes to the same bytes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use urbd::wire::auth::CramHmac;
use urbd::wire::digest::DigestAlg;
use urbd::wire::packet::{Sizes, Uuids};
use urbd::wire::{
    BitmapReceiver, BitmapSender, BlockId, Decoded, Dialect, DpFlags, Packet, SetBits, Socket, decode, encode,
};

/// A packet and its block data.
struct Said {
    packet: Packet,
    payload: Vec<u8>,
}

/// What one end said on one socket.
struct Stream {
    said: Vec<Said>,
}

/// Both directions of a data socket, with the meta socket of the same connection.
struct Connection {
    /// What the dialer of the data socket said, then the acceptor.
    data: [Stream; 2],
    /// What the dialer of the meta socket said, then the acceptor.
    meta: [Stream; 2],
}

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Decodes everything and shows that it encodes to the same bytes, pads excepted (W27).
fn stream(name: &str, socket: Socket) -> Stream {
    let wire = file(name);
    let mut dialect = Dialect { socket, ..Dialect::BEFORE_FEATURES };
    let (mut at, mut said) = (0, Vec::new());
    while at < wire.len() {
        // W22: a meta socket has at most one packet of the old format, the dialer's first.
        if socket == Socket::Meta && wire[at] == 0x86 {
            dialect.apv = 101;
            dialect.features = 0xf;
        }
        let decoded = decode(&wire[at..], &dialect);
        let Ok(Decoded::Packet { volume, packet, consumed, payload_bytes }) = decoded else {
            panic!("{name} at byte {at}: {decoded:?}");
        };
        let mut again = Vec::new();
        encode(&packet, volume, payload_bytes, &dialect, &mut again);
        let mut head = wire[at..at + consumed].to_vec();
        blank_pads(&packet, &mut head);
        assert_eq!(again, head, "{name} at byte {at}: {packet:?}");
        at += consumed;
        let payload = wire[at..at + payload_bytes].to_vec();
        at += payload_bytes;
        // W22, W37: both nodes announce the same, so the features packet settles the dialect.
        if let Packet::ConnectionFeatures { min, max, flags } = packet {
            assert_eq!((min, max, flags), (86, 101, 0xf), "W36, W37");
            dialect.apv = 101;
            dialect.features = flags;
        }
        if let Packet::Protocol(protocol) | Packet::ProtocolUpdate(protocol) = &packet {
            let alg = DigestAlg::from_name(protocol.integrity_alg.as_str());
            dialect.peer_digest_bytes = alg.map_or(0, DigestAlg::digest_bytes);
        }
        said.push(Said { packet, payload });
    }
    Stream { said }
}

/// W27: the kernel leaves old bytes in the pads of requests and of out-of-sync descriptors.
fn blank_pads(packet: &Packet, head: &mut [u8]) {
    let pad = match packet {
        Packet::DataRequest(_)
        | Packet::RsDataRequest(_)
        | Packet::RsThinReq(_)
        | Packet::OvRequest(_)
        | Packet::CsumRsRequest { .. }
        | Packet::OvReply { .. } => 16 + 20,
        Packet::OutOfSync(_) | Packet::RsDeallocated(_) => 16 + 12,
        _ => return,
    };
    head[pad..pad + 4].fill(0);
}

fn connection(session: &str, number: usize) -> Connection {
    let part = |role: &str, number: usize, side: &str| format!("{session}.{number}.{role}.{side}.bin");
    Connection {
        data: ["dialer", "acceptor"].map(|side| stream(&part("data", 2 * number, side), Socket::Data)),
        meta: ["dialer", "acceptor"].map(|side| stream(&part("meta", 2 * number + 1, side), Socket::Meta)),
    }
}

fn all() -> Vec<(&'static str, Connection)> {
    [("digests", 0), ("digests", 1), ("plain", 0), ("plain", 1), ("mixed", 0)]
        .map(|(session, number)| (session, connection(session, number)))
        .into()
}

#[test]
fn every_packet_of_the_kernel_decodes_and_encodes_to_the_same_bytes() {
    let mut seen = BTreeMap::new();
    for (_, connection) in all() {
        for stream in connection.data.iter().chain(&connection.meta) {
            for said in &stream.said {
                *seen.entry(said.packet.name()).or_insert(0) += 1;
            }
        }
    }
    for expected in [
        "P_INITIAL_DATA",
        "P_INITIAL_META",
        "P_CONNECTION_FEATURES",
        "P_AUTH_CHALLENGE",
        "P_AUTH_RESPONSE",
        "P_PROTOCOL",
        "P_SYNC_PARAM89",
        "P_SIZES",
        "P_UUIDS",
        "P_STATE",
        "P_STATE_CHG_REQ",
        "P_STATE_CHG_REPLY",
        "P_CONN_ST_CHG_REQ",
        "P_CONN_ST_CHG_REPLY",
        "P_SYNC_UUID",
        "P_BITMAP",
        "P_COMPRESSED_BITMAP",
        "P_RS_DATA_REQUEST",
        "P_CSUM_RS_REQUEST",
        "P_RS_IS_IN_SYNC",
        "P_RS_THIN_REQ",
        "P_RS_DEALLOCATED",
        "P_RS_DATA_REPLY",
        "P_RS_WRITE_ACK",
        "P_OV_REQUEST",
        "P_OV_REPLY",
        "P_OV_RESULT",
        "P_DATA",
        "P_TRIM",
        "P_ZEROES",
        "P_WRITE_ACK",
        "P_RECV_ACK",
        "P_BARRIER",
        "P_BARRIER_ACK",
        "P_DATA_REQUEST",
        "P_DATA_REPLY",
        "P_PING",
        "P_PING_ACK",
        "P_UNPLUG_REMOTE",
    ] {
        assert!(seen.contains_key(expected), "no {expected} in {seen:#?}");
    }
}

#[test]
fn the_kernels_responses_answer_its_challenges() {
    // W41 to W44.
    for (session, connection) in all() {
        let alg = if session == "digests" { "sha1" } else { "sha256" };
        let auth = CramHmac::new(alg, b"secret").unwrap();
        for (challenger, responder) in [(0, 1), (1, 0)] {
            let challenge = connection.data[challenger].said.iter().find_map(|said| match &said.packet {
                Packet::AuthChallenge(bytes) => <[u8; 64]>::try_from(&bytes[..]).ok(),
                _ => None,
            });
            let response = connection.data[responder].said.iter().find_map(|said| match &said.packet {
                Packet::AuthResponse(bytes) => Some(bytes),
                _ => None,
            });
            assert_eq!(auth.verify(&challenge.unwrap(), response.unwrap()), Ok(()), "{session}");
        }
    }
}

#[test]
fn the_kernels_crc32_covers_exactly_the_block_data() {
    // W92, W93 for data-integrity-alg crc32.
    let mut checked = 0;
    for number in [0, 1] {
        for stream in &connection("digests", number).data {
            for said in &stream.said {
                let (Packet::Data { digest, .. }
                | Packet::DataReply { digest, .. }
                | Packet::RsDataReply { digest, .. }) = &said.packet
                else {
                    continue;
                };
                let own = DigestAlg::Crc32.digest(&said.payload);
                assert_eq!(own.as_bytes(), digest, "{:?}", said.packet);
                checked += usize::from(digest != &[0; 4]);
            }
        }
    }
    assert!(checked > 20, "only {checked} blocks with a telling digest");
}

#[test]
fn the_kernels_verify_digests_are_crc32c_of_the_synced_blocks() {
    // W186 with verify-alg crc32c: the blocks are known from the first sync and the writes after it.
    let connection = connection("digests", 0);
    let mut disk = vec![0; 1 << 20];
    for said in connection.data.iter().flat_map(|stream| &stream.said) {
        if let Packet::Data { sector, .. } | Packet::RsDataReply { sector, .. } = &said.packet {
            let at = sector.byte_offset() as usize;
            disk[at..at + said.payload.len()].copy_from_slice(&said.payload);
        }
    }
    let mut checked = 0;
    for said in connection.data.iter().flat_map(|stream| &stream.said) {
        if let Packet::OvReply { request, digest } = &said.packet {
            let at = request.sector.byte_offset() as usize;
            let block = &disk[at..at + request.size as usize];
            assert_eq!(DigestAlg::Crc32c.digest(block).as_bytes(), digest, "{request:?}");
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} blocks");
    let verdicts = connection.meta.iter().flat_map(|stream| &stream.said);
    let equal = verdicts
        .filter(|said| matches!(&said.packet, Packet::OvResult(ack) if ack.block_id == BlockId::OV_EQUAL));
    assert_eq!(equal.count(), checked, "W90");
}

/// The bitmaps in a stream, each with its packets.
fn bitmaps(stream: &Stream, bits: u64) -> Vec<(Vec<Packet>, Vec<u64>)> {
    let mut found = Vec::new();
    let mut current: Option<(BitmapReceiver, Vec<Packet>, Vec<u64>)> = None;
    for said in &stream.said {
        let is_bitmap = matches!(said.packet, Packet::Bitmap(_) | Packet::CompressedBitmap(_));
        if !is_bitmap {
            assert!(current.is_none(), "W102: {} within a bitmap", said.packet.name());
            continue;
        }
        let (mut receiver, mut packets, mut words) = current.take().unwrap_or_else(|| {
            (BitmapReceiver::new(bits, 101), Vec::new(), vec![0; bits.div_ceil(64) as usize])
        });
        let done = receiver.receive(&said.packet, |set| match set {
            SetBits::Word { index, word } => words[index as usize] |= word,
            SetBits::Run { first, count } => {
                (first..first + count).for_each(|bit| words[bit as usize / 64] |= 1 << (bit % 64));
            }
        });
        packets.push(said.packet.clone());
        if done.unwrap() {
            found.push((packets, words));
        } else {
            current = Some((receiver, packets, words));
        }
    }
    assert!(current.is_none(), "a bitmap ends with the stream");
    found
}

#[test]
fn the_kernels_bitmaps_are_complete_and_ours_are_the_same_bytes() {
    // W101 to W115, mixed plain and compressed chunks included.
    let mut kinds = BTreeMap::new();
    for (session, connection) in all() {
        let c_size = connection.data[0].said.iter().find_map(|said| match &said.packet {
            Packet::Sizes(Sizes { c_size, .. }) if *c_size != 0 => Some(*c_size),
            _ => None,
        });
        let bits = c_size.unwrap().div_ceil(8);
        let sent = connection.data.each_ref().map(|stream| bitmaps(stream, bits));
        assert_eq!(sent[0].len(), sent[1].len(), "W101: both nodes send theirs");
        for (packets, words) in sent.iter().flatten() {
            let mut sender = BitmapSender::new(bits, 101, session != "plain");
            let ours: Vec<Packet> = std::iter::from_fn(|| {
                sender.next_packet(|first, into| into.copy_from_slice(&words[first as usize..][..into.len()]))
            })
            .collect();
            assert_eq!(&ours, packets, "{session}");
            let kind: String = packets
                .iter()
                .map(|packet| if matches!(packet, Packet::Bitmap(_)) { 'p' } else { 'c' })
                .collect();
            *kinds.entry((session, kind)).or_insert(0) += 1;
        }
        // P_UUIDS tells how many bits the sender has; its own bitmap, sent next, has as many.
        if session == "mixed" {
            let count: u32 = sent[0][0].1.iter().map(|word| word.count_ones()).sum();
            let said = connection.data.iter().flat_map(|stream| &stream.said).any(
                |said| matches!(&said.packet, Packet::Uuids(Uuids { bits, .. }) if *bits == u64::from(count)),
            );
            assert!(said, "{count} bits");
        }
    }
    assert!(kinds.keys().any(|(_, kind)| kind.starts_with('c') && kind.contains("cp")), "{kinds:?}");
    assert!(kinds.keys().any(|(session, kind)| *session == "plain" && kind.starts_with("pp")), "{kinds:?}");
}

#[test]
fn the_kernels_writes_carry_the_flags_the_specification_lists() {
    // W86, W123.
    let flags = |session: &str| -> Vec<DpFlags> {
        let connection = connection(session, 0);
        let flags =
            connection.data.iter().flat_map(|stream| &stream.said).filter_map(|said| match &said.packet {
                Packet::Data { flags, .. } => Some(*flags),
                Packet::Trim { flags, .. } => {
                    assert!(flags.contains(DpFlags::DISCARD));
                    Some(*flags)
                }
                Packet::Zeroes { flags, .. } => {
                    assert!(flags.contains(DpFlags::ZEROES));
                    Some(*flags)
                }
                _ => None,
            });
        flags.collect()
    };
    for session in ["digests", "plain"] {
        let flags = flags(session);
        assert!(!flags.is_empty());
        assert!(flags.iter().all(|flags| flags.contains(DpFlags::SEND_WRITE_ACK)), "{session}: {flags:?}");
    }
}
