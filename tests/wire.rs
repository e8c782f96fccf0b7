//! The wire format against the specification's bytes, against itself, and against rubbish.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use urbd::units::{Sector, VolumeId};
use urbd::wire::header::header_bytes;
use urbd::wire::packet::{
    AlgName, Protocol, QueueLimits, ResyncController, Sizes, SyncParam, Uuids, features,
};
use urbd::wire::{
    BlockAck, BlockId, BlockRange, BlockRequest, Command, Decoded, Dialect, DpFlags, Packet, Socket,
    StateWord, WireError, decode, encode,
};

const VERSIONS: [u8; 13] = [86, 87, 88, 89, 90, 93, 94, 95, 96, 97, 99, 100, 101];

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn dialect(socket: Socket) -> Dialect {
    Dialect { apv: 101, features: 0xf, peer_digest_bytes: 0, socket }
}

/// Decodes a complete packet and shows that encoding gives the same bytes back.
fn there_and_back(wire: &[u8], dialect: &Dialect) -> (VolumeId, Packet, usize) {
    let Decoded::Packet { volume, packet, consumed, payload_bytes } = decode(wire, dialect).unwrap() else {
        panic!("incomplete: {wire:02x?}");
    };
    assert_eq!(consumed, wire.len(), "the example is one packet without block data");
    let mut again = Vec::new();
    encode(&packet, volume, payload_bytes, dialect, &mut again);
    assert_eq!(again, wire, "{packet:?}");
    (volume, packet, payload_bytes)
}

fn example(text: &str, socket: Socket) -> Packet {
    there_and_back(&bytes(text), &dialect(socket)).1
}

#[test]
fn the_first_packets_are_the_eight_bytes_of_w8() {
    let before = Dialect::BEFORE_FEATURES;
    assert_eq!(there_and_back(&bytes("83740267 fff2 0000"), &before).1, Packet::InitialData);
    assert_eq!(there_and_back(&bytes("83740267 fff1 0000"), &before).1, Packet::InitialMeta);
}

#[test]
fn the_features_packet_has_the_bytes_of_section_11_2() {
    let wire = bytes(&format!("83740267 fffe0048 00000056 0000000f 00000065 00000000 {}", "00".repeat(56)));
    let packet = there_and_back(&wire, &Dialect::BEFORE_FEATURES).1;
    assert_eq!(packet, Packet::ConnectionFeatures { min: 86, max: 101, flags: 0xf });
    // W22: it is v80 whatever was agreed.
    let mut out = Vec::new();
    encode(&packet, VolumeId(0), 0, &dialect(Socket::Data), &mut out);
    assert_eq!(out, wire);
}

#[test]
fn authentication_and_protocol_have_the_bytes_of_sections_11_3_and_11_4() {
    let challenge = "87b5ccaef173dc2a9d5e0cdd1341bbed21551a0065b0e4c74de691d23742c2ae
        bff0f97e7af4126923922c874ee47511d310c2ee7c38503716bc7ca3b1850acb";
    assert_eq!(
        example(&format!("8620ec20 0000 0010 00000040 00000000 {challenge}"), Socket::Data),
        Packet::AuthChallenge(bytes(challenge))
    );
    let response = "2acb4fdfafe90f889d846e9a13205098 9fe2cfed";
    assert_eq!(
        example(&format!("8620ec20 0000 0011 00000014 00000000 {response}"), Socket::Data),
        Packet::AuthResponse(bytes(response))
    );
    let mut protocol = Protocol {
        protocol: 3,
        after_sb_0p: 0,
        after_sb_1p: 0,
        after_sb_2p: 0,
        conn_flags: 0,
        two_primaries: 0,
        integrity_alg: AlgName::default(),
    };
    let words = format!("00000003 {}", "00000000".repeat(5));
    let wire = format!("8620ec20 0000 000b 00000019 00000000 {words} 00");
    assert_eq!(example(&wire, Socket::Data), Packet::Protocol(protocol.clone()));
    protocol.integrity_alg = AlgName::new("md5").unwrap();
    let wire = format!("8620ec20 0000 000b 0000001c 00000000 {words} 6d643500");
    assert_eq!(example(&wire, Socket::Data), Packet::Protocol(protocol));
}

#[test]
fn the_volume_parameters_have_the_bytes_of_section_11_5() {
    let param = format!(
        "8620ec20 0000 0023 00000094 00000000 00064000 637263333263 {} {} 00000000 0000000a 00000064 00019000",
        "00".repeat(58),
        "00".repeat(64)
    );
    assert_eq!(
        example(&param, Socket::Data),
        Packet::SyncParam(SyncParam {
            resync_rate: 409_600,
            verify_alg: AlgName::new("crc32c").unwrap(),
            csums_alg: AlgName::default(),
            controller: Some(ResyncController { plan_ahead: 0, ..ResyncController::default() }),
        })
    );
    let sizes = "8620ec20 0000 000d 00000038 00000000 0000000000003fb0 0000000000000000 0000000000003fb0
        0001fe00 0000 0000 00000200 00000200 00000000 00000200 00000000 01000000";
    assert_eq!(
        example(sizes, Socket::Data),
        Packet::Sizes(Sizes {
            d_size: 16304,
            u_size: 0,
            c_size: 16304,
            max_bio_size: 130_560,
            queue_order_type: 0,
            dds_flags: 0,
            limits: Some(QueueLimits { discard_enabled: 1, ..QueueLimits::default() }),
        })
    );
    let uuids = format!(
        "8620ec20 0000 000c 00000030 00000000 0000000000000004 {} 00000000000007f6 0000000000000000",
        "00".repeat(24)
    );
    assert_eq!(
        example(&uuids, Socket::Data),
        Packet::Uuids(Uuids { current: 4, bits: 0x7f6, ..Uuids::default() })
    );
    assert_eq!(
        example("8620ec20 0000 000e 00000004 00000000 0000c882", Socket::Data),
        Packet::State(StateWord(0xc882))
    );
}

#[test]
fn a_promotion_has_the_bytes_of_section_11_6() {
    let request = "8620ec20 0000 0012 00000008 00000000 00001e03 00001001";
    assert_eq!(
        example(request, Socket::Data),
        Packet::StateChgReq { mask: StateWord(0x1e03), value: StateWord(0x1001) }
    );
    let reply = "8620ec20 0000 001d 00000004 00000000 00000001";
    assert_eq!(example(reply, Socket::Meta), Packet::StateChgReply(1));
    let refusal = "8620ec20 0000 001d 00000004 00000000 fffffff2";
    assert_eq!(example(refusal, Socket::Meta), Packet::StateChgReply(-14));
    let bitmap = "8620ec20 0000 0024 00000004 00000000 b23fc506";
    assert_eq!(example(bitmap, Socket::Data), Packet::CompressedBitmap(vec![0xb2, 0x3f, 0xc5, 0x06]));
    let uuid = "8620ec20 0000 000f 00000008 00000000 10a007a714d233f1";
    assert_eq!(example(uuid, Socket::Data), Packet::SyncUuid(0x10a0_07a7_14d2_33f1));
}

#[test]
fn a_replicated_write_has_the_bytes_of_section_11_7() {
    let block_id = BlockId([0xc0, 0xa1, 0x4d, 0x8f, 0, 0, 0, 0]);
    let head =
        bytes("8620ec20 0000 0000 00001018 00000000 0000000000000000 c0a14d8f00000000 00000001 00000102");
    let (_, packet, payload_bytes) = there_and_back(&head, &dialect(Socket::Data));
    assert_eq!(payload_bytes, 4096);
    assert!(packet.carries_payload());
    let flags = DpFlags::RW_SYNC | DpFlags::SEND_WRITE_ACK;
    let write = Packet::Data { sector: Sector::new(0), block_id, seq: 1, flags, digest: Vec::new() };
    assert_eq!(packet, write);
    let ack = "8620ec20 0000 0016 00000018 00000000 0000000000000000 c0a14d8f00000000 00001000 00000100";
    assert_eq!(
        example(ack, Socket::Meta),
        Packet::WriteAck(BlockAck { sector: Sector::new(0), block_id, size: 4096, seq: 256 })
    );
    let barrier = "8620ec20 0000 0003 00000008 00000000 00000000 00000000";
    assert_eq!(example(barrier, Socket::Data), Packet::Barrier([0; 4]));
    let barrier_ack = "8620ec20 0000 001c 00000008 00000000 00000000 00000001";
    assert_eq!(example(barrier_ack, Socket::Meta), Packet::BarrierAck { barrier: [0; 4], count: 1 });
    let trim =
        "8620ec20 0000 0031 0000001c 00000000 0000000000000080 c0a14d8f00000000 00000002 00000142 00008000";
    assert_eq!(
        example(trim, Socket::Data),
        Packet::Trim { sector: Sector::new(128), block_id, seq: 2, flags: DpFlags(0x142), size: 32768 }
    );
}

#[test]
fn a_graceful_disconnect_has_the_bytes_of_section_11_8() {
    assert_eq!(
        example("8620ec20 0000 002a 00000008 00000000 000001f0 00000010", Socket::Data),
        Packet::ConnStChgReq { mask: StateWord(0x1f0), value: StateWord(0x10) }
    );
    let reply = "8620ec20 0000 002b 00000004 00000000 00000001";
    assert_eq!(example(reply, Socket::Meta), Packet::ConnStChgReply(1));
}

#[test]
fn lengths_follow_the_version() {
    // 3.4, 3.5 and 12.1; every length was accepted by the kernel.
    let param = Packet::SyncParam(SyncParam {
        resync_rate: 250,
        verify_alg: AlgName::new("md5").unwrap(),
        csums_alg: AlgName::default(),
        controller: None,
    });
    for (apv, command, length) in [
        (86, Command::SyncParam, 4),
        (87, Command::SyncParam, 4),
        (88, Command::SyncParam, 8),
        (89, Command::SyncParam89, 132),
        (94, Command::SyncParam89, 132),
        (95, Command::SyncParam89, 148),
        (101, Command::SyncParam89, 148),
    ] {
        let dialect = Dialect { apv, ..dialect(Socket::Data) };
        let mut out = Vec::new();
        encode(&param, VolumeId(0), 0, &dialect, &mut out);
        assert_eq!(param.command(apv), command);
        assert_eq!(out.len(), header_bytes(apv) + length, "version {apv}");
        out.push(0);
        let at = header_bytes(apv) - if apv >= 100 { 5 } else { 1 };
        out[at] += 1;
        if apv != 88 {
            assert!(matches!(decode(&out, &dialect), Err(WireError::BadLength { .. })), "W54 at {apv}");
        }
    }
    let sizes = Packet::Sizes(Sizes::default());
    for (flags, length) in [(0, 32), (features::WSAME, 56)] {
        let mut out = Vec::new();
        encode(&sizes, VolumeId(0), 0, &Dialect { features: flags, ..dialect(Socket::Data) }, &mut out);
        assert_eq!(out.len(), 16 + length);
    }
}

#[test]
fn malformed_packets_are_refused_before_anything_is_read() {
    let refused = |text: &str, socket| decode(&bytes(text), &dialect(socket)).unwrap_err();
    // W30, W31: no handler, or on the wrong socket.
    assert!(matches!(
        refused("8620ec20 0000 0005 00000000 00000000", Socket::Data),
        WireError::UnexpectedCommand { .. }
    ));
    assert!(matches!(
        refused("8620ec20 0000 0016 00000018 00000000", Socket::Data),
        WireError::UnexpectedCommand { .. }
    ));
    assert!(matches!(
        refused("8620ec20 0000 0000 00001018 00000000", Socket::Meta),
        WireError::UnexpectedCommand { .. }
    ));
    assert!(matches!(
        refused("8620ec20 0000 fffe 00000048 00000000", Socket::Data),
        WireError::UnexpectedCommand { .. }
    ));
    // W31: a ping has length 0; W84: at most 1 MiB of block data. The header is enough to see it.
    assert!(matches!(
        refused("8620ec20 0000 0013 00000001 00000000", Socket::Meta),
        WireError::BadLength { .. }
    ));
    assert!(matches!(
        refused("8620ec20 0000 0000 00100019 00000000", Socket::Data),
        WireError::BadLength { .. }
    ));
    assert!(matches!(
        refused("8620ec20 0000 0004 ffffffff 00000000", Socket::Data),
        WireError::BadLength { .. }
    ));
    // W84: sizes in sectors, positive, on a thinkable device.
    let request = |size: &str, sector: &str| {
        refused(
            &format!("8620ec20 0000 0008 00000018 00000000 {sector} ffffffffffffffff {size} 00000000"),
            Socket::Data,
        )
    };
    assert!(matches!(request("00000000", "0000000000000000"), WireError::BadSize { .. }));
    assert!(matches!(request("00000201", "0000000000000000"), WireError::BadSize { .. }));
    assert!(matches!(request("00100200", "0000000000000000"), WireError::BadSize { .. }));
    assert!(matches!(request("00000200", "ffffffffffffffff"), WireError::BadSector { .. }));
    assert!(matches!(request("00000200", "0080000000000000"), WireError::BadSector { .. }));
    // Section 4.3: a write without data must be a flush.
    let empty = |flags: &str| {
        bytes(&format!("8620ec20 0000 0000 00000018 00000000 {} 00000001 {flags}", "00".repeat(16)))
    };
    assert_eq!(
        decode(&empty("00000102"), &dialect(Socket::Data)),
        Err(WireError::EmptyWrite { flags: 0x102 })
    );
    assert!(decode(&empty("00000120"), &dialect(Socket::Data)).is_ok(), "W120");
}

#[test]
fn pads_of_requests_are_ignored_and_sent_as_zero() {
    // W27.
    let dirty =
        bytes("8620ec20 0000 0009 00000018 00000000 0000000000000008 ffffffffffffffff 00001000 deadbeef");
    let Ok(Decoded::Packet { packet, .. }) = decode(&dirty, &dialect(Socket::Data)) else { panic!() };
    let request = BlockRequest { sector: Sector::new(8), block_id: BlockId::RESYNC, size: 4096 };
    assert_eq!(packet, Packet::RsDataRequest(request));
    let mut out = Vec::new();
    encode(&packet, VolumeId(0), 0, &dialect(Socket::Data), &mut out);
    assert_eq!(out[..36], dirty[..36]);
    assert_eq!(out[36..], [0; 4]);
}

#[test]
fn connection_wide_packets_have_volume_zero() {
    // W24.
    let mut out = Vec::new();
    encode(&Packet::Ping, VolumeId(7), 0, &dialect(Socket::Meta), &mut out);
    encode(&Packet::StateChgReply(1), VolumeId(7), 0, &dialect(Socket::Meta), &mut out);
    assert_eq!(out[4..6], [0, 0]);
    assert_eq!(out[20..22], [0, 7]);
}

fn sector() -> impl Strategy<Value = Sector> {
    prop_oneof![0u64..1 << 20, 0u64..1 << 54].prop_map(Sector::new)
}

fn block_id() -> impl Strategy<Value = BlockId> {
    any::<[u8; 8]>().prop_map(BlockId)
}

fn name() -> impl Strategy<Value = AlgName> {
    "[!-~]{0,63}".prop_map(|text| AlgName::new(&text).unwrap())
}

fn digest() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=64)
}

fn block_bytes() -> impl Strategy<Value = u32> {
    (1u32..=2048).prop_map(|sectors| sectors * 512)
}

fn request() -> impl Strategy<Value = BlockRequest> {
    (sector(), block_id(), block_bytes()).prop_map(|(sector, block_id, size)| BlockRequest {
        sector,
        block_id,
        size,
    })
}

fn ack() -> impl Strategy<Value = BlockAck> {
    (sector(), block_id(), any::<u32>(), any::<u32>()).prop_map(|(sector, block_id, size, seq)| BlockAck {
        sector,
        block_id,
        size,
        seq,
    })
}

fn range() -> impl Strategy<Value = BlockRange> {
    (sector(), block_bytes()).prop_map(|(sector, size)| BlockRange { sector, size })
}

fn state_change() -> impl Strategy<Value = (StateWord, StateWord)> {
    any::<(u32, u32)>().prop_map(|(mask, value)| (StateWord(mask), StateWord(value)))
}

fn protocol(apv: u8) -> impl Strategy<Value = Protocol> {
    (any::<[u32; 6]>(), name()).prop_map(move |(words, name)| Protocol {
        protocol: words[0],
        after_sb_0p: words[1],
        after_sb_1p: words[2],
        after_sb_2p: words[3],
        conn_flags: words[4],
        two_primaries: words[5],
        integrity_alg: if apv >= 87 { name } else { AlgName::default() },
    })
}

fn sync_param(apv: u8) -> impl Strategy<Value = SyncParam> {
    (any::<[u32; 5]>(), name(), name()).prop_map(move |(words, verify, csums)| SyncParam {
        resync_rate: words[0],
        verify_alg: if apv >= 88 { verify } else { AlgName::default() },
        csums_alg: if apv >= 89 { csums } else { AlgName::default() },
        controller: (apv >= 95).then_some(ResyncController {
            plan_ahead: words[1],
            delay_target: words[2],
            fill_target: words[3],
            max_rate: words[4],
        }),
    })
}

fn sizes(limits: bool) -> impl Strategy<Value = Sizes> {
    let sectors = || 0u64..1 << 54;
    (sectors(), sectors(), sectors(), any::<[u32; 6]>(), any::<[u8; 3]>()).prop_map(
        move |(d_size, u_size, c_size, words, bytes)| Sizes {
            d_size,
            u_size,
            c_size,
            max_bio_size: words[0],
            queue_order_type: (words[1] >> 16) as u16,
            dds_flags: words[1] as u16,
            limits: limits.then_some(QueueLimits {
                physical_block_size: words[2],
                logical_block_size: words[3],
                alignment_offset: words[4],
                io_min: words[5],
                io_opt: words[0],
                discard_enabled: bytes[0],
                discard_zeroes_data: bytes[1],
                write_same_capable: bytes[2],
            }),
        },
    )
}

fn uuids() -> impl Strategy<Value = Uuids> {
    any::<[u64; 6]>().prop_map(|words| Uuids {
        current: words[0],
        bitmap: words[1],
        history: [words[2], words[3]],
        bits: words[4],
        flags: words[5],
    })
}

/// A packet of `command` as version `apv` can express it, with the bytes of its block data.
fn content(command: Command, apv: u8, digest_bytes: usize, wsame: bool) -> BoxedStrategy<(Packet, usize)> {
    let payload = (1usize..=2048).prop_map(|sectors| sectors * 512);
    // Before version 95 the header counts to 64 KiB only (W21, W63).
    let payload = payload.prop_map(move |bytes| if apv < 95 { bytes.min(32768) } else { bytes });
    let own_digest = move || prop::collection::vec(any::<u8>(), digest_bytes);
    let write = move || (sector(), block_id(), any::<u32>(), any::<u32>().prop_map(DpFlags), own_digest());
    let trim_bytes = (1u32..=(128 << 20) / 512).prop_map(|sectors| sectors * 512);
    let bare = |packet: Packet| Just((packet, 0)).boxed();
    fn alone<T: std::fmt::Debug>(
        content: impl Strategy<Value = T> + 'static,
        packet: impl Fn(T) -> Packet + 'static,
    ) -> BoxedStrategy<(Packet, usize)> {
        content.prop_map(move |content| (packet(content), 0)).boxed()
    }
    match command {
        Command::InitialData => bare(Packet::InitialData),
        Command::InitialMeta => bare(Packet::InitialMeta),
        Command::Ping => bare(Packet::Ping),
        Command::PingAck => bare(Packet::PingAck),
        Command::UnplugRemote => bare(Packet::UnplugRemote),
        Command::ConnectionFeatures => {
            alone(any::<[u32; 3]>(), |[min, max, flags]| Packet::ConnectionFeatures { min, max, flags })
        }
        Command::AuthChallenge => alone(prop::collection::vec(any::<u8>(), 64..=128), Packet::AuthChallenge),
        Command::AuthResponse => alone(prop::collection::vec(any::<u8>(), 1..=64), Packet::AuthResponse),
        Command::Bitmap => alone(prop::collection::vec(any::<u8>(), 0..=4080), Packet::Bitmap),
        Command::CompressedBitmap => {
            alone(prop::collection::vec(any::<u8>(), 2..=4080), Packet::CompressedBitmap)
        }
        Command::Protocol => alone(protocol(apv), Packet::Protocol),
        Command::ProtocolUpdate => alone(protocol(apv), Packet::ProtocolUpdate),
        Command::SyncParam | Command::SyncParam89 => alone(sync_param(apv), Packet::SyncParam),
        Command::Sizes => alone(sizes(wsame), Packet::Sizes),
        Command::Uuids => alone(uuids(), Packet::Uuids),
        Command::State => alone(any::<u32>(), |word| Packet::State(StateWord(word))),
        Command::StateChgReq => alone(state_change(), |(mask, value)| Packet::StateChgReq { mask, value }),
        Command::ConnStChgReq => alone(state_change(), |(mask, value)| Packet::ConnStChgReq { mask, value }),
        Command::StateChgReply => alone(any::<i32>(), Packet::StateChgReply),
        Command::ConnStChgReply => alone(any::<i32>(), Packet::ConnStChgReply),
        Command::SyncUuid => alone(any::<u64>(), Packet::SyncUuid),
        Command::Data => (write(), payload)
            .prop_map(|((sector, block_id, seq, flags, digest), bytes)| {
                (Packet::Data { sector, block_id, seq, flags, digest }, bytes)
            })
            .boxed(),
        Command::DataReply => (write(), payload)
            .prop_map(|((sector, block_id, _, _, digest), bytes)| {
                (Packet::DataReply { sector, block_id, digest }, bytes)
            })
            .boxed(),
        Command::RsDataReply => (write(), payload)
            .prop_map(|((sector, block_id, _, _, digest), bytes)| {
                (Packet::RsDataReply { sector, block_id, digest }, bytes)
            })
            .boxed(),
        Command::WriteSame => (write(), trim_bytes)
            .prop_map(|((sector, block_id, seq, flags, digest), size)| {
                (Packet::WriteSame { sector, block_id, seq, flags, size, digest }, 512)
            })
            .boxed(),
        Command::Trim => alone((write(), trim_bytes), |((sector, block_id, seq, flags, _), size)| {
            Packet::Trim { sector, block_id, seq, flags, size }
        }),
        Command::Zeroes => alone((write(), trim_bytes), |((sector, block_id, seq, flags, _), size)| {
            Packet::Zeroes { sector, block_id, seq, flags, size }
        }),
        Command::DataRequest => alone(request(), Packet::DataRequest),
        Command::RsDataRequest => alone(request(), Packet::RsDataRequest),
        Command::RsThinReq => alone(request(), Packet::RsThinReq),
        Command::OvRequest => alone(request(), Packet::OvRequest),
        Command::CsumRsRequest => {
            alone((request(), digest()), |(request, digest)| Packet::CsumRsRequest { request, digest })
        }
        Command::OvReply => {
            alone((request(), digest()), |(request, digest)| Packet::OvReply { request, digest })
        }
        Command::OvResult => alone(ack(), Packet::OvResult),
        Command::RecvAck => alone(ack(), Packet::RecvAck),
        Command::WriteAck => alone(ack(), Packet::WriteAck),
        Command::RsWriteAck => alone(ack(), Packet::RsWriteAck),
        Command::Superseded => alone(ack(), Packet::Superseded),
        Command::RetryWrite => alone(ack(), Packet::RetryWrite),
        Command::NegAck => alone(ack(), Packet::NegAck),
        Command::NegDreply => alone(ack(), Packet::NegDreply),
        Command::NegRsDreply => alone(ack(), Packet::NegRsDreply),
        Command::RsIsInSync => alone(ack(), Packet::RsIsInSync),
        Command::RsCancel => alone(ack(), Packet::RsCancel),
        Command::Barrier => alone(any::<[u8; 4]>(), Packet::Barrier),
        Command::BarrierAck => {
            alone(any::<([u8; 4], u32)>(), |(barrier, count)| Packet::BarrierAck { barrier, count })
        }
        Command::OutOfSync => alone(range(), Packet::OutOfSync),
        Command::RsDeallocated => alone(range(), Packet::RsDeallocated),
        Command::DelayProbe => {
            alone(any::<(u32, u32)>(), |(seq, offset_us)| Packet::DelayProbe { seq, offset_us })
        }
    }
}

/// Lowest version that has the command (table 4.1); P_SYNC_PARAM ends at 88.
fn exists_at(command: Command, apv: u8) -> bool {
    match command {
        Command::SyncParam => apv <= 88,
        Command::OvRequest | Command::OvReply | Command::OvResult => apv >= 88,
        Command::CsumRsRequest | Command::RsIsInSync | Command::SyncParam89 => apv >= 89,
        Command::CompressedBitmap => apv >= 90,
        Command::DelayProbe => apv >= 93,
        Command::OutOfSync | Command::RsCancel => apv >= 96,
        Command::ConnStChgReq | Command::ConnStChgReply | Command::RetryWrite | Command::ProtocolUpdate => {
            apv >= 100
        }
        _ => true,
    }
}

#[derive(Debug)]
struct Sample {
    packet: Packet,
    volume: VolumeId,
    payload_bytes: usize,
    dialect: Dialect,
}

fn sample() -> impl Strategy<Value = Sample> {
    let digest_bytes = prop::sample::select(vec![0usize, 4, 16, 20, 32, 64]);
    (prop::sample::select(&VERSIONS[..]), digest_bytes, any::<bool>(), any::<u16>()).prop_flat_map(
        |(apv, digest_bytes, wsame, volume)| {
            let existing: Vec<Command> =
                Command::ALL.iter().copied().filter(|&command| exists_at(command, apv)).collect();
            prop::sample::select(existing).prop_flat_map(move |command| {
                let dialect = Dialect {
                    apv: if command.is_before_features() { 80 } else { apv },
                    features: if wsame { 0xf } else { 0xb },
                    peer_digest_bytes: if apv >= 87 { digest_bytes } else { 0 },
                    socket: if command.is_on(Socket::Meta) { Socket::Meta } else { Socket::Data },
                };
                let volume = if apv < 100 || command.is_connection_wide() { 0 } else { volume };
                content(command, apv, dialect.peer_digest_bytes, wsame).prop_map(
                    move |(packet, payload_bytes)| Sample {
                        packet,
                        volume: VolumeId(volume),
                        payload_bytes,
                        dialect,
                    },
                )
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn every_packet_round_trips_at_every_version(sample in sample()) {
        let Sample { packet, volume, payload_bytes, dialect } = sample;
        let mut wire = Vec::new();
        encode(&packet, volume, payload_bytes, &dialect, &mut wire);
        let head = wire.len();
        wire.extend_from_slice(&[0xa5; 40]);
        let decoded = decode(&wire, &dialect);
        prop_assert_eq!(decoded, Ok(Decoded::Packet { volume, packet, consumed: head, payload_bytes }));
    }

    #[test]
    fn a_partial_packet_asks_for_more_until_it_is_complete(sample in sample(), cut in 0.0..1.0f64) {
        let mut wire = Vec::new();
        encode(&sample.packet, sample.volume, sample.payload_bytes, &sample.dialect, &mut wire);
        let mut have = (wire.len() as f64 * cut) as usize;
        let mut calls = 0;
        while let Ok(Decoded::NeedMore(total)) = decode(&wire[..have], &sample.dialect) {
            prop_assert!(have < total && total <= wire.len(), "{} of {}", total, wire.len());
            have = total;
            calls += 1;
        }
        prop_assert!(calls <= 2, "one call for the header, one for the rest");
        let decoded = decode(&wire[..have], &sample.dialect);
        prop_assert!(matches!(decoded, Ok(Decoded::Packet { .. })), "{:?}", decoded);
        prop_assert_eq!(have, wire.len());
    }

    #[test]
    fn a_damaged_packet_never_panics(sample in sample(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut wire = Vec::new();
        encode(&sample.packet, sample.volume, sample.payload_bytes, &sample.dialect, &mut wire);
        let at = at.index(wire.len());
        wire[at] = byte;
        if let Ok(Decoded::NeedMore(total)) = decode(&wire, &sample.dialect) {
            prop_assert!(total <= 4096 + 64, "asked for {total} bytes");
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        command: u16,
        length in prop_oneof![0u32..100, any::<u32>()],
        apv in prop::sample::select(&VERSIONS[..]),
        meta: bool,
        digest_bytes in 0usize..=64,
    ) {
        let socket = if meta { Socket::Meta } else { Socket::Data };
        let dialect = Dialect { apv, features: 0xf, peer_digest_bytes: digest_bytes, socket };
        let _ = decode(&noise, &dialect);
        let number = Command::ALL[usize::from(command) % Command::ALL.len()].number();
        let mut wire = if apv >= 100 { bytes("8620ec20 0000") } else { bytes("835a") };
        wire.extend_from_slice(&number.to_be_bytes());
        wire.extend_from_slice(&length.to_be_bytes());
        wire.resize(header_bytes(apv), 0);
        wire.extend_from_slice(&noise);
        if let Ok(Decoded::NeedMore(total)) = decode(&wire, &dialect) {
            prop_assert!(total <= 4096, "asked for {total} bytes");
        }
    }
}
