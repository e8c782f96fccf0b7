//! Values to bodies of packets: the second half of [`super::encode`].

use zerocopy::big_endian::{I32, U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use super::codec::{Dialect, NAME_FIELD_BYTES};
use super::packet::{AlgName, BlockId, BlockRequest, DpFlags, Packet, Protocol, Sizes, SyncParam, features};
use super::raw::{
    RawBarrier, RawBlock, RawController, RawData, RawFeatures, RawPair, RawProtocol, RawQueueLimits,
    RawRange, RawSizedData, RawSizes, RawSyncParam89, RawUuids,
};
use crate::units::Sector;

/// Appends sub-header and variable part of `packet`.
pub(super) fn emit(packet: &Packet, dialect: &Dialect, out: &mut Vec<u8>) {
    match packet {
        Packet::InitialData | Packet::InitialMeta | Packet::Ping | Packet::PingAck | Packet::UnplugRemote => {
        }
        &Packet::ConnectionFeatures { min, max, flags } => put(
            out,
            &RawFeatures {
                min: U32::new(min),
                flags: U32::new(flags),
                max: U32::new(max),
                pad: U32::ZERO,
                reserved: [U64::ZERO; 7],
            },
        ),
        Packet::AuthChallenge(bytes)
        | Packet::AuthResponse(bytes)
        | Packet::Bitmap(bytes)
        | Packet::CompressedBitmap(bytes) => out.extend_from_slice(bytes),
        Packet::Protocol(protocol) | Packet::ProtocolUpdate(protocol) => {
            put_protocol(out, protocol, dialect.apv);
        }
        Packet::SyncParam(param) => put_sync_param(out, param, dialect.apv),
        Packet::Sizes(sizes) => put_sizes(out, sizes, dialect),
        Packet::Uuids(uuids) => put(
            out,
            &RawUuids {
                current: U64::new(uuids.current),
                bitmap: U64::new(uuids.bitmap),
                history: uuids.history.map(U64::new),
                bits: U64::new(uuids.bits),
                flags: U64::new(uuids.flags),
            },
        ),
        Packet::State(word) => put(out, &U32::new(word.0)),
        Packet::StateChgReq { mask, value } | Packet::ConnStChgReq { mask, value } => {
            put_pair(out, mask.0, value.0);
        }
        &Packet::DelayProbe { seq, offset_us } => put_pair(out, seq, offset_us),
        Packet::StateChgReply(code) | Packet::ConnStChgReply(code) => put(out, &I32::new(*code)),
        Packet::SyncUuid(uuid) => put(out, &U64::new(*uuid)),
        Packet::Data { sector, block_id, seq, flags, digest } => {
            put(out, &raw_data(*sector, *block_id, *seq, *flags));
            out.extend_from_slice(digest);
        }
        Packet::DataReply { sector, block_id, digest } | Packet::RsDataReply { sector, block_id, digest } => {
            put(out, &raw_data(*sector, *block_id, 0, DpFlags::default()));
            out.extend_from_slice(digest);
        }
        &Packet::Trim { sector, block_id, seq, flags, size }
        | &Packet::Zeroes { sector, block_id, seq, flags, size } => {
            put(out, &RawSizedData { data: raw_data(sector, block_id, seq, flags), size: U32::new(size) });
        }
        Packet::WriteSame { sector, block_id, seq, flags, size, digest } => {
            let data = raw_data(*sector, *block_id, *seq, *flags);
            put(out, &RawSizedData { data, size: U32::new(*size) });
            out.extend_from_slice(digest);
        }
        Packet::DataRequest(request)
        | Packet::RsDataRequest(request)
        | Packet::RsThinReq(request)
        | Packet::OvRequest(request) => put_request(out, request),
        Packet::CsumRsRequest { request, digest } | Packet::OvReply { request, digest } => {
            put_request(out, request);
            out.extend_from_slice(digest);
        }
        Packet::OvResult(ack)
        | Packet::RecvAck(ack)
        | Packet::WriteAck(ack)
        | Packet::RsWriteAck(ack)
        | Packet::Superseded(ack)
        | Packet::RetryWrite(ack)
        | Packet::NegAck(ack)
        | Packet::NegDreply(ack)
        | Packet::NegRsDreply(ack)
        | Packet::RsIsInSync(ack)
        | Packet::RsCancel(ack) => put_block(out, ack.sector, ack.block_id, ack.size, ack.seq),
        &Packet::Barrier(barrier) => put(out, &RawBarrier { barrier, last: U32::ZERO }),
        &Packet::BarrierAck { barrier, count } => put(out, &RawBarrier { barrier, last: U32::new(count) }),
        Packet::OutOfSync(range) | Packet::RsDeallocated(range) => put(
            out,
            &RawRange { sector: U64::new(range.sector.get()), size: U32::new(range.size), pad: U32::ZERO },
        ),
    }
}

fn put_protocol(out: &mut Vec<u8>, protocol: &Protocol, apv: u8) {
    put(
        out,
        &RawProtocol {
            protocol: U32::new(protocol.protocol),
            after_sb_0p: U32::new(protocol.after_sb_0p),
            after_sb_1p: U32::new(protocol.after_sb_1p),
            after_sb_2p: U32::new(protocol.after_sb_2p),
            conn_flags: U32::new(protocol.conn_flags),
            two_primaries: U32::new(protocol.two_primaries),
        },
    );
    if apv >= 87 {
        put_name_and_nul(out, &protocol.integrity_alg);
    }
}

fn put_sync_param(out: &mut Vec<u8>, param: &SyncParam, apv: u8) {
    let resync_rate = U32::new(param.resync_rate);
    if apv < 89 {
        put(out, &resync_rate);
        if apv == 88 {
            put_name_and_nul(out, &param.verify_alg);
        }
        return;
    }
    let (verify_alg, csums_alg) = (name_field(&param.verify_alg), name_field(&param.csums_alg));
    put(out, &RawSyncParam89 { resync_rate, verify_alg, csums_alg });
    if apv >= 95 {
        let controller = param.controller.unwrap_or_default();
        put(
            out,
            &RawController {
                plan_ahead: U32::new(controller.plan_ahead),
                delay_target: U32::new(controller.delay_target),
                fill_target: U32::new(controller.fill_target),
                max_rate: U32::new(controller.max_rate),
            },
        );
    }
}

fn put_sizes(out: &mut Vec<u8>, sizes: &Sizes, dialect: &Dialect) {
    put(
        out,
        &RawSizes {
            d_size: U64::new(sizes.d_size),
            u_size: U64::new(sizes.u_size),
            c_size: U64::new(sizes.c_size),
            max_bio_size: U32::new(sizes.max_bio_size),
            queue_order_type: U16::new(sizes.queue_order_type),
            dds_flags: U16::new(sizes.dds_flags),
        },
    );
    if dialect.has(features::WSAME) {
        let limits = sizes.limits.unwrap_or_default();
        put(
            out,
            &RawQueueLimits {
                physical_block_size: U32::new(limits.physical_block_size),
                logical_block_size: U32::new(limits.logical_block_size),
                alignment_offset: U32::new(limits.alignment_offset),
                io_min: U32::new(limits.io_min),
                io_opt: U32::new(limits.io_opt),
                discard_enabled: limits.discard_enabled,
                discard_zeroes_data: limits.discard_zeroes_data,
                write_same_capable: limits.write_same_capable,
                pad: 0,
            },
        );
    }
}

fn put_request(out: &mut Vec<u8>, request: &BlockRequest) {
    put_block(out, request.sector, request.block_id, request.size, 0);
}

fn put_block(out: &mut Vec<u8>, sector: Sector, block_id: BlockId, size: u32, last: u32) {
    let (sector, size, last) = (U64::new(sector.get()), U32::new(size), U32::new(last));
    put(out, &RawBlock { sector, block_id: block_id.0, size, last });
}

fn put_pair(out: &mut Vec<u8>, first: u32, second: u32) {
    put(out, &RawPair { first: U32::new(first), second: U32::new(second) });
}

fn put_name_and_nul(out: &mut Vec<u8>, name: &AlgName) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.push(0);
}

/// The name, padded with NULs. [`AlgName`] keeps room for at least one.
fn name_field(name: &AlgName) -> [u8; NAME_FIELD_BYTES] {
    let mut field = [0; NAME_FIELD_BYTES];
    field[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
    field
}

fn raw_data(sector: Sector, block_id: BlockId, seq: u32, flags: DpFlags) -> RawData {
    RawData {
        sector: U64::new(sector.get()),
        block_id: block_id.0,
        seq: U32::new(seq),
        flags: U32::new(flags.0),
    }
}

fn put<T: IntoBytes + Immutable>(out: &mut Vec<u8>, raw: &T) {
    out.extend_from_slice(raw.as_bytes());
}
