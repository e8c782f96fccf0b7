//! Sub-headers exactly as on the wire: big-endian, packed (W26, sections 3 and 4.2).

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// P_CONNECTION_FEATURES (3.2).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawFeatures {
    pub(super) min: U32,
    pub(super) flags: U32,
    pub(super) max: U32,
    pub(super) pad: U32,
    pub(super) reserved: [U64; 7],
}

/// P_PROTOCOL without the name (3.4).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawProtocol {
    pub(super) protocol: U32,
    pub(super) after_sb_0p: U32,
    pub(super) after_sb_1p: U32,
    pub(super) after_sb_2p: U32,
    pub(super) conn_flags: U32,
    pub(super) two_primaries: U32,
}

/// P_SYNC_PARAM89 up to version 94 (3.5).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawSyncParam89 {
    pub(super) resync_rate: U32,
    pub(super) verify_alg: [u8; 64],
    pub(super) csums_alg: [u8; 64],
}

/// What version 95 appends to P_SYNC_PARAM89 (3.5).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawController {
    pub(super) plan_ahead: U32,
    pub(super) delay_target: U32,
    pub(super) fill_target: U32,
    pub(super) max_rate: U32,
}

/// P_SIZES without queue limits (3.5).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawSizes {
    pub(super) d_size: U64,
    pub(super) u_size: U64,
    pub(super) c_size: U64,
    pub(super) max_bio_size: U32,
    pub(super) queue_order_type: U16,
    pub(super) dds_flags: U16,
}

/// Queue limits behind [`RawSizes`] (3.5).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawQueueLimits {
    pub(super) physical_block_size: U32,
    pub(super) logical_block_size: U32,
    pub(super) alignment_offset: U32,
    pub(super) io_min: U32,
    pub(super) io_opt: U32,
    pub(super) discard_enabled: u8,
    pub(super) discard_zeroes_data: u8,
    pub(super) write_same_capable: u8,
    pub(super) pad: u8,
}

/// P_UUIDS (3.5).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawUuids {
    pub(super) current: U64,
    pub(super) bitmap: U64,
    pub(super) history: [U64; 2],
    pub(super) bits: U64,
    pub(super) flags: U64,
}

/// Data header (4.2).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawData {
    pub(super) sector: U64,
    pub(super) block_id: [u8; 8],
    pub(super) seq: U32,
    pub(super) flags: U32,
}

/// Data header of P_TRIM, P_ZEROES and P_WSAME (4.2).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawSizedData {
    pub(super) data: RawData,
    pub(super) size: U32,
}

/// Block request, and block ack with `last` as sequence number (4.2).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawBlock {
    pub(super) sector: U64,
    pub(super) block_id: [u8; 8],
    pub(super) size: U32,
    /// Ack: sequence number. Request: pad, ignored (W27).
    pub(super) last: U32,
}

/// Block descriptor (4.2).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawRange {
    pub(super) sector: U64,
    pub(super) size: U32,
    /// Ignored (W27).
    pub(super) pad: U32,
}

/// P_BARRIER, with `last` as pad, and P_BARRIER_ACK (4.2).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawBarrier {
    pub(super) barrier: [u8; 4],
    pub(super) last: U32,
}

/// Two words: state change requests and P_DELAY_PROBE (4.2).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawPair {
    pub(super) first: U32,
    pub(super) second: U32,
}

const _: () = assert!(size_of::<RawFeatures>() == 72);
const _: () = assert!(size_of::<RawProtocol>() == 24);
const _: () = assert!(size_of::<RawSyncParam89>() == 132);
const _: () = assert!(size_of::<RawController>() == 16);
const _: () = assert!(size_of::<RawSizes>() == 32);
const _: () = assert!(size_of::<RawQueueLimits>() == 24);
const _: () = assert!(size_of::<RawUuids>() == 48);
const _: () = assert!(size_of::<RawData>() == 24);
const _: () = assert!(size_of::<RawSizedData>() == 28);
const _: () = assert!(size_of::<RawBlock>() == 24);
const _: () = assert!(size_of::<RawRange>() == 16);
const _: () = assert!(size_of::<RawBarrier>() == 8);
const _: () = assert!(size_of::<RawPair>() == 8);
