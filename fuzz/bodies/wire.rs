//! The peer's protocol: packets in every dialect.

use urbd::units::{Sector, VolumeId};
use urbd::wire::header::{APV_MAX, APV_MIN, header_bytes};
use urbd::wire::packet::{
    AlgName, MAX_BLOCK_BYTES, MAX_SMALL_PACKET_BYTES, Protocol, QueueLimits, ResyncController, Sizes,
    SyncParam, Uuids, features,
};
use urbd::wire::{
    BlockAck, BlockId, BlockRange, BlockRequest, Decoded, Dialect, DpFlags, Packet, Socket, StateWord,
    decode, encode,
};

/// Bytes: the dialect, then a stream. Lengths are bounded, a packet does not depend on how much of
/// the stream has arrived, and encoding what was decoded and decoding that gives the same packet.
pub(crate) fn decoding(mut data: &[u8]) {
    let dialect = dialect(&mut data);
    loop {
        match decode(data, &dialect) {
            Err(_) => return,
            Ok(Decoded::NeedMore(wanted)) => {
                assert!(wanted > data.len() && wanted <= MAX_SMALL_PACKET_BYTES + MAX_DIGESTED_BYTES);
                return;
            }
            Ok(Decoded::Packet { volume, packet, consumed, payload_bytes }) => {
                assert!(consumed >= header_bytes(dialect.apv) && consumed <= data.len());
                assert!(payload_bytes <= MAX_BLOCK_BYTES);
                assert!(payload_bytes == 0 || packet.carries_payload());
                check_prefixes(&data[..consumed], &dialect);
                check_round_trip(&packet, volume, payload_bytes, &dialect);
                let Some(rest) = data.get(consumed + payload_bytes..) else { return };
                data = rest;
            }
        }
    }
}

/// One stream with every kind of packet in each of some dialects.
pub(crate) fn decoding_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (version, features, digest) in
        [(0, 0, 0), (1, 0, 1), (7, 0, 0), (9, 1, 0), (10, 1, 2), (14, 0, 4), (16, 15, 0), (16, 15, 3)]
    {
        for socket in [0, 1] {
            let head = [version, features, digest, socket];
            let dialect = dialect(&mut head.as_slice());
            // One seed for each packet, and one stream of what the socket takes.
            let mut stream = head.to_vec();
            for packet in packets(&dialect) {
                let payload = if packet.carries_payload() { 512 } else { 0 };
                let mut bytes = Vec::new();
                encode(&packet, VolumeId(1), payload, &dialect, &mut bytes);
                bytes.resize(bytes.len() + payload, 0x5a);
                if matches!(decode(&bytes, &dialect), Ok(Decoded::Packet { .. })) {
                    stream.extend_from_slice(&bytes);
                }
                seeds.push([&head, bytes.as_slice()].concat());
            }
            seeds.push(stream);
        }
    }
    seeds
}

/// A data packet's sub-header and digest go on top of the limit of small packets.
const MAX_DIGESTED_BYTES: usize = 128;
const DIGESTS: [usize; 6] = [0, 4, 16, 20, 32, 64];

/// Draws version, features, digest and socket. Version 0 is the dialect before the features.
fn dialect(data: &mut &[u8]) -> Dialect {
    let version = super::take_byte(data) % (APV_MAX - APV_MIN + 2);
    let features = u32::from(super::take_byte(data) & 15);
    let peer_digest_bytes = DIGESTS[usize::from(super::take_byte(data)) % DIGESTS.len()];
    let socket = if super::take_byte(data) & 1 == 0 { Socket::Data } else { Socket::Meta };
    match version {
        0 => Dialect { socket, ..Dialect::BEFORE_FEATURES },
        _ => Dialect { apv: APV_MIN + version - 1, features, peer_digest_bytes, socket },
    }
}

/// Any prefix asks for more, never for more than the packet needs, and errs never.
fn check_prefixes(bytes: &[u8], dialect: &Dialect) {
    let header = header_bytes(dialect.apv);
    for len in [0, 1, header - 1, header, bytes.len() - 1] {
        if len < bytes.len() {
            match decode(&bytes[..len], dialect) {
                Ok(Decoded::NeedMore(wanted)) => assert!(wanted > len && wanted <= bytes.len()),
                other => panic!("{len} of {} bytes gave {other:?}", bytes.len()),
            }
        }
    }
}

fn check_round_trip(packet: &Packet, volume: VolumeId, payload_bytes: usize, dialect: &Dialect) {
    // Below version 95 the header counts 16 bits; a peer may send the longer one, we do not.
    if dialect.apv < 95 && payload_bytes + MAX_SMALL_PACKET_BYTES > usize::from(u16::MAX) {
        return;
    }
    let mut bytes = vec![0xee];
    encode(packet, volume, payload_bytes, dialect, &mut bytes);
    let consumed = bytes.len() - 1;
    let expected = Decoded::Packet { volume, packet: packet.clone(), consumed, payload_bytes };
    assert_eq!(decode(&bytes[1..], dialect), Ok(expected));
}

/// One packet of each kind, as the dialect has it.
fn packets(dialect: &Dialect) -> Vec<Packet> {
    let sector = Sector::new(0x1234);
    let block_id = BlockId::from_number(0xfeed_0000_0001);
    let (seq, size, flags) = (7, 4096, DpFlags::FUA | DpFlags::FLUSH);
    let digest = vec![0xd1; dialect.peer_digest_bytes];
    let request = BlockRequest { sector, block_id, size };
    let ack = BlockAck { sector, block_id, size, seq };
    let range = BlockRange { sector, size };
    let (mask, value) = (StateWord(StateWord::ROLE), StateWord(1));
    let name = |text| AlgName::new(text).unwrap();
    let protocol = Protocol {
        protocol: 3,
        after_sb_0p: 0,
        after_sb_1p: 1,
        after_sb_2p: 0,
        conn_flags: Protocol::DISCARD_MY_DATA,
        two_primaries: 1,
        integrity_alg: if dialect.apv >= 87 { name("crc32c") } else { AlgName::default() },
    };
    let sizes = Sizes {
        d_size: 1 << 21,
        u_size: 0,
        c_size: 1 << 21,
        max_bio_size: 1 << 20,
        queue_order_type: 0,
        dds_flags: Sizes::FORCED,
        limits: (dialect.features & features::WSAME != 0).then(QueueLimits::default),
    };
    let sync_param = SyncParam {
        resync_rate: 250,
        verify_alg: name("sha256"),
        csums_alg: name("md5"),
        controller: Some(ResyncController::default()),
    };
    vec![
        Packet::InitialData,
        Packet::InitialMeta,
        Packet::ConnectionFeatures { min: 86, max: 101, flags: 15 },
        Packet::AuthChallenge(vec![0x41; 64]),
        Packet::AuthResponse(vec![0x42; 32]),
        Packet::Protocol(protocol.clone()),
        Packet::ProtocolUpdate(protocol),
        Packet::SyncParam(sync_param),
        Packet::Sizes(sizes),
        Packet::Uuids(Uuids { current: 5, bitmap: 4, history: [3, 2], bits: 100, flags: 2 }),
        Packet::State(StateWord(0x0001_10a6)),
        Packet::StateChgReq { mask, value },
        Packet::ConnStChgReq { mask, value },
        Packet::StateChgReply(1),
        Packet::ConnStChgReply(-2),
        Packet::SyncUuid(0xabcd),
        Packet::Data { sector, block_id, seq, flags, digest: digest.clone() },
        Packet::DataReply { sector, block_id, digest: digest.clone() },
        Packet::RsDataReply { sector, block_id: BlockId::RESYNC, digest: digest.clone() },
        Packet::Trim { sector, block_id, seq, flags: DpFlags::DISCARD, size },
        Packet::Zeroes { sector, block_id, seq, flags: DpFlags::ZEROES, size },
        Packet::WriteSame { sector, block_id, seq, flags: DpFlags::WSAME, size, digest },
        Packet::DataRequest(request),
        Packet::RsDataRequest(request),
        Packet::RsThinReq(request),
        Packet::CsumRsRequest { request, digest: vec![1; 20] },
        Packet::OvRequest(request),
        Packet::OvReply { request, digest: vec![2; 20] },
        Packet::OvResult(BlockAck { block_id: BlockId::OV_EQUAL, ..ack }),
        Packet::RecvAck(ack),
        Packet::WriteAck(ack),
        Packet::RsWriteAck(ack),
        Packet::Superseded(ack),
        Packet::RetryWrite(ack),
        Packet::NegAck(ack),
        Packet::NegDreply(ack),
        Packet::NegRsDreply(ack),
        Packet::RsIsInSync(ack),
        Packet::RsCancel(ack),
        Packet::Barrier([1, 2, 3, 4]),
        Packet::BarrierAck { barrier: [1, 2, 3, 4], count: 9 },
        Packet::Ping,
        Packet::PingAck,
        Packet::OutOfSync(range),
        Packet::RsDeallocated(range),
        Packet::UnplugRemote,
        Packet::Bitmap(vec![0xff; 64]),
        Packet::CompressedBitmap(vec![0x02, 0x80, 0x31, 0x07]),
        Packet::DelayProbe { seq: 1, offset_us: 2 },
    ]
}
