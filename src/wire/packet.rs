//! Packets: one variant for every command of the protocol (spec section 4), with typed content.
//!
//! Block data is not part of a packet. It follows the sub-header (and the digest) in the stream;
//! [`Packet::carries_payload`] tells which packets have some.

use std::fmt;

use super::header::Command;
use crate::units::Sector;

/// Greatest number of block data bytes in one packet, and of bytes in one request (W84).
pub const MAX_BLOCK_BYTES: usize = 1 << 20;
/// Greatest range of a P_TRIM, P_ZEROES or P_WSAME, in bytes (W84).
pub const MAX_TRIM_BYTES: u32 = 128 << 20;
/// Greatest digest on the wire, in bytes (sha512).
pub const MAX_DIGEST_BYTES: usize = 64;
/// Greatest packet without block data, header included (W29).
pub const MAX_SMALL_PACKET_BYTES: usize = 4096;
/// Bytes of a challenge that this node sends (W42).
pub const CHALLENGE_BYTES: usize = 64;
/// Greatest challenge that is accepted, in bytes (W42).
pub const MAX_CHALLENGE_BYTES: usize = 128;

/// One packet, without the volume number (see [`super::encode`]) and without block data.
///
/// `digest` is empty if the sender has no integrity algorithm (W92).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// First packet of a dialed data socket (W7).
    InitialData,
    /// First packet of a dialed meta socket (W7).
    InitialMeta,
    /// Versions and features of the sender (3.2).
    ConnectionFeatures {
        /// Lowest version it speaks.
        min: u32,
        /// Highest version it speaks; 0 means the same as `min`.
        max: u32,
        /// Feature flags, see [`features`].
        flags: u32,
    },
    /// Random bytes to be authenticated: 64, up to 128 when received (W42).
    AuthChallenge(Vec<u8>),
    /// HMAC of the received challenge (W43).
    AuthResponse(Vec<u8>),
    /// Connection settings to be compared (W49).
    Protocol(Protocol),
    /// Connection settings to be adopted (W52).
    ProtocolUpdate(Protocol),
    /// Sync parameters: P_SYNC_PARAM below version 89, P_SYNC_PARAM89 from there on (3.5).
    SyncParam(SyncParam),
    /// Sizes and queue limits (3.5).
    Sizes(Sizes),
    /// Generation identifiers (3.5).
    Uuids(Uuids),
    /// The sender's state of the volume (3.7).
    State(StateWord),
    /// Request to change the volume's state, from the requester's point of view (W191).
    StateChgReq {
        /// The fields to change: all ones in each.
        mask: StateWord,
        /// The wanted values in those fields.
        value: StateWord,
    },
    /// Request to change the connection's state (W191); from version 100.
    ConnStChgReq {
        /// The fields to change: all ones in each.
        mask: StateWord,
        /// The wanted values in those fields.
        value: StateWord,
    },
    /// Result code of a [`Packet::StateChgReq`]: positive is success (section 8).
    StateChgReply(i32),
    /// Result code of a [`Packet::ConnStChgReq`]: positive is success (section 8).
    ConnStChgReply(i32),
    /// Start of a resync, with the sync UUID (W157).
    SyncUuid(u64),
    /// A replicated write; block data follows (section 6).
    Data {
        /// First sector.
        sector: Sector,
        /// The writer's opaque number for it.
        block_id: BlockId,
        /// The writer's sequence number (6.4).
        seq: u32,
        /// What is asked of the receiver (4.3).
        flags: DpFlags,
        /// Digest of the block data.
        digest: Vec<u8>,
    },
    /// Answer to a [`Packet::DataRequest`]; block data follows (W154).
    DataReply {
        /// Echo of the request.
        sector: Sector,
        /// Echo of the request.
        block_id: BlockId,
        /// Digest of the block data.
        digest: Vec<u8>,
    },
    /// A resync block; block data follows (W166).
    RsDataReply {
        /// First sector.
        sector: Sector,
        /// Echo of the request: all ones.
        block_id: BlockId,
        /// Digest of the block data.
        digest: Vec<u8>,
    },
    /// Discard; acknowledged like a write. Never has a digest (W95).
    Trim {
        /// First sector.
        sector: Sector,
        /// The writer's opaque number for it.
        block_id: BlockId,
        /// The writer's sequence number (6.4).
        seq: u32,
        /// What is asked of the receiver (4.3).
        flags: DpFlags,
        /// Affected bytes.
        size: u32,
    },
    /// Write zeroes; acknowledged like a write. Never has a digest (W95).
    Zeroes {
        /// First sector.
        sector: Sector,
        /// The writer's opaque number for it.
        block_id: BlockId,
        /// The writer's sequence number (6.4).
        seq: u32,
        /// What is asked of the receiver (4.3).
        flags: DpFlags,
        /// Affected bytes.
        size: u32,
    },
    /// Write one logical block again and again; that block follows (W38: rarely implemented).
    WriteSame {
        /// First sector.
        sector: Sector,
        /// The writer's opaque number for it.
        block_id: BlockId,
        /// The writer's sequence number (6.4).
        seq: u32,
        /// What is asked of the receiver (4.3).
        flags: DpFlags,
        /// Affected bytes.
        size: u32,
        /// Digest of the one block.
        digest: Vec<u8>,
    },
    /// Remote read (W154).
    DataRequest(BlockRequest),
    /// Resync request (W163).
    RsDataRequest(BlockRequest),
    /// Resync request that may be answered by [`Packet::RsDeallocated`] (W174).
    RsThinReq(BlockRequest),
    /// Resync request with the digest of the target's own block (W173).
    CsumRsRequest {
        /// The block.
        request: BlockRequest,
        /// csums-alg digest of the target's block.
        digest: Vec<u8>,
    },
    /// Verify request (W185).
    OvRequest(BlockRequest),
    /// Digest of the verified block (W186).
    OvReply {
        /// The block.
        request: BlockRequest,
        /// verify-alg digest; all zero bytes after a read error.
        digest: Vec<u8>,
    },
    /// Verdict about a verified block: [`BlockId::OV_EQUAL`] or [`BlockId::OV_DIFFERENT`] (W90).
    OvResult(BlockAck),
    /// Write received completely (W123).
    RecvAck(BlockAck),
    /// Write done (W123).
    WriteAck(BlockAck),
    /// Write done and marked in sync (W125); also acknowledges resync blocks (W168).
    RsWriteAck(BlockAck),
    /// Conflicting write treated as overwritten (W147).
    Superseded(BlockAck),
    /// Conflicting write has to be sent again (W150); from version 100.
    RetryWrite(BlockAck),
    /// Write or resync block failed; its size field is unreliable (W126, W127).
    NegAck(BlockAck),
    /// Remote read failed (W155).
    NegDreply(BlockAck),
    /// Resync or verify read failed; its block_id is unreliable (W91, W170).
    NegRsDreply(BlockAck),
    /// Resync block was equal; its block_id is unreliable (W91, W173).
    RsIsInSync(BlockAck),
    /// Resync request cancelled (W170); from version 96.
    RsCancel(BlockAck),
    /// End of a write epoch, with the writer's opaque number of it (W131, W136).
    Barrier([u8; 4]),
    /// Epoch complete (W137).
    BarrierAck {
        /// Echo of the barrier.
        barrier: [u8; 4],
        /// Writes received in the epoch.
        count: u32,
    },
    /// Keep-alive (W200).
    Ping,
    /// Answer to [`Packet::Ping`] (W201).
    PingAck,
    /// The range became out of sync (W117).
    OutOfSync(BlockRange),
    /// The requested resync block is all zero (W174).
    RsDeallocated(BlockRange),
    /// Hint to submit what is queued.
    UnplugRemote,
    /// Plain bitmap chunk: little-endian words, or nothing as end mark (W105, W106).
    Bitmap(Vec<u8>),
    /// Compressed bitmap chunk: encoding byte and code (W107).
    CompressedBitmap(Vec<u8>),
    /// Measurement; to be ignored.
    DelayProbe {
        /// Running number.
        seq: u32,
        /// Time of the measurement, in microseconds.
        offset_us: u32,
    },
}

impl Packet {
    /// The command that carries this packet at version `apv`.
    #[must_use]
    pub const fn command(&self, apv: u8) -> Command {
        match self {
            Self::InitialData => Command::InitialData,
            Self::InitialMeta => Command::InitialMeta,
            Self::ConnectionFeatures { .. } => Command::ConnectionFeatures,
            Self::AuthChallenge(_) => Command::AuthChallenge,
            Self::AuthResponse(_) => Command::AuthResponse,
            Self::Protocol(_) => Command::Protocol,
            Self::ProtocolUpdate(_) => Command::ProtocolUpdate,
            Self::SyncParam(_) if apv < 89 => Command::SyncParam,
            Self::SyncParam(_) => Command::SyncParam89,
            Self::Sizes(_) => Command::Sizes,
            Self::Uuids(_) => Command::Uuids,
            Self::State(_) => Command::State,
            Self::StateChgReq { .. } => Command::StateChgReq,
            Self::ConnStChgReq { .. } => Command::ConnStChgReq,
            Self::StateChgReply(_) => Command::StateChgReply,
            Self::ConnStChgReply(_) => Command::ConnStChgReply,
            Self::SyncUuid(_) => Command::SyncUuid,
            Self::Data { .. } => Command::Data,
            Self::DataReply { .. } => Command::DataReply,
            Self::RsDataReply { .. } => Command::RsDataReply,
            Self::Trim { .. } => Command::Trim,
            Self::Zeroes { .. } => Command::Zeroes,
            Self::WriteSame { .. } => Command::WriteSame,
            Self::DataRequest(_) => Command::DataRequest,
            Self::RsDataRequest(_) => Command::RsDataRequest,
            Self::RsThinReq(_) => Command::RsThinReq,
            Self::CsumRsRequest { .. } => Command::CsumRsRequest,
            Self::OvRequest(_) => Command::OvRequest,
            Self::OvReply { .. } => Command::OvReply,
            Self::OvResult(_) => Command::OvResult,
            Self::RecvAck(_) => Command::RecvAck,
            Self::WriteAck(_) => Command::WriteAck,
            Self::RsWriteAck(_) => Command::RsWriteAck,
            Self::Superseded(_) => Command::Superseded,
            Self::RetryWrite(_) => Command::RetryWrite,
            Self::NegAck(_) => Command::NegAck,
            Self::NegDreply(_) => Command::NegDreply,
            Self::NegRsDreply(_) => Command::NegRsDreply,
            Self::RsIsInSync(_) => Command::RsIsInSync,
            Self::RsCancel(_) => Command::RsCancel,
            Self::Barrier(_) => Command::Barrier,
            Self::BarrierAck { .. } => Command::BarrierAck,
            Self::Ping => Command::Ping,
            Self::PingAck => Command::PingAck,
            Self::OutOfSync(_) => Command::OutOfSync,
            Self::RsDeallocated(_) => Command::RsDeallocated,
            Self::UnplugRemote => Command::UnplugRemote,
            Self::Bitmap(_) => Command::Bitmap,
            Self::CompressedBitmap(_) => Command::CompressedBitmap,
            Self::DelayProbe { .. } => Command::DelayProbe,
        }
    }

    /// Its name in the specification, for messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.command(super::header::APV_MAX).name()
    }

    /// The numbered ack, if it is one (W142).
    #[must_use]
    pub const fn block_ack(&self) -> Option<BlockAck> {
        match self {
            Self::OvResult(ack)
            | Self::RecvAck(ack)
            | Self::WriteAck(ack)
            | Self::RsWriteAck(ack)
            | Self::Superseded(ack)
            | Self::RetryWrite(ack)
            | Self::NegAck(ack)
            | Self::NegDreply(ack)
            | Self::NegRsDreply(ack)
            | Self::RsIsInSync(ack)
            | Self::RsCancel(ack) => Some(*ack),
            Self::InitialData
            | Self::InitialMeta
            | Self::ConnectionFeatures { .. }
            | Self::AuthChallenge(_)
            | Self::AuthResponse(_)
            | Self::Protocol(_)
            | Self::ProtocolUpdate(_)
            | Self::SyncParam(_)
            | Self::Sizes(_)
            | Self::Uuids(_)
            | Self::State(_)
            | Self::StateChgReq { .. }
            | Self::ConnStChgReq { .. }
            | Self::StateChgReply(_)
            | Self::ConnStChgReply(_)
            | Self::SyncUuid(_)
            | Self::Data { .. }
            | Self::DataReply { .. }
            | Self::RsDataReply { .. }
            | Self::Trim { .. }
            | Self::Zeroes { .. }
            | Self::WriteSame { .. }
            | Self::DataRequest(_)
            | Self::RsDataRequest(_)
            | Self::RsThinReq(_)
            | Self::CsumRsRequest { .. }
            | Self::OvRequest(_)
            | Self::OvReply { .. }
            | Self::Barrier(_)
            | Self::BarrierAck { .. }
            | Self::Ping
            | Self::PingAck
            | Self::OutOfSync(_)
            | Self::RsDeallocated(_)
            | Self::UnplugRemote
            | Self::Bitmap(_)
            | Self::CompressedBitmap(_)
            | Self::DelayProbe { .. } => None,
        }
    }

    /// Whether block data follows the packet in the stream (4.2).
    #[must_use]
    pub const fn carries_payload(&self) -> bool {
        matches!(
            self,
            Self::Data { .. } | Self::DataReply { .. } | Self::RsDataReply { .. } | Self::WriteSame { .. }
        )
    }
}

/// Feature flags of [`Packet::ConnectionFeatures`] (W37).
pub mod features {
    /// P_TRIM; a kernel sends it even without this flag (W39).
    pub const TRIM: u32 = 0x1;
    /// P_RS_THIN_REQ and P_RS_DEALLOCATED.
    pub const THIN_RESYNC: u32 = 0x2;
    /// Queue limits in P_SIZES, trims of 128 MiB, rule 41 of the UUID comparison.
    pub const WSAME: u32 = 0x4;
    /// P_ZEROES.
    pub const WZEROES: u32 = 0x8;
    /// urbd's own, which a kernel does not have and so takes out of what is agreed (W37): blocks of a
    /// resync are durable before they are acknowledged (T1).
    pub const RESYNC_IS_DURABLE: u32 = 0x4000_0000;
}

/// Content of P_PROTOCOL and P_PROTOCOL_UPDATE (3.4). The values are the sender's point of view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// 1 = A, 2 = B, 3 = C.
    pub protocol: u32,
    /// Policy number for a split brain without Primary.
    pub after_sb_0p: u32,
    /// Policy number for a split brain with one Primary.
    pub after_sb_1p: u32,
    /// Policy number for a split brain with two Primaries.
    pub after_sb_2p: u32,
    /// Bit 0: discard my data; bit 1: dry run. See [`Protocol::DISCARD_MY_DATA`].
    pub conn_flags: u32,
    /// 1 if two Primaries are allowed, else 0.
    pub two_primaries: u32,
    /// Hash on the sender's outgoing block data; from version 87.
    pub integrity_alg: AlgName,
}

impl Protocol {
    /// The sender wants its data discarded.
    pub const DISCARD_MY_DATA: u32 = 1;
    /// The sender only wants to know the sync decision.
    pub const DRY_RUN: u32 = 2;
}

/// Content of P_SYNC_PARAM and P_SYNC_PARAM89 (3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncParam {
    /// Fixed resync rate in KiB/s.
    pub resync_rate: u32,
    /// Hash for online verify; from version 88.
    pub verify_alg: AlgName,
    /// Hash for checksum-based resync; from version 89.
    pub csums_alg: AlgName,
    /// Resync controller; from version 95. `None` is sent as the defaults.
    pub controller: Option<ResyncController>,
}

/// Settings of the resync controller, in the units of section 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResyncController {
    /// Planning horizon in 0.1 s; 0 turns the controller off.
    pub plan_ahead: u32,
    /// Wanted delay in 0.1 s.
    pub delay_target: u32,
    /// Wanted fill level in sectors.
    pub fill_target: u32,
    /// Upper limit in KiB/s.
    pub max_rate: u32,
}

impl Default for ResyncController {
    fn default() -> Self {
        Self { plan_ahead: 20, delay_target: 10, fill_target: 100, max_rate: 102_400 }
    }
}

/// Content of P_SIZES (3.5). Sizes are in sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Sectors the backing device can provide; 0 if diskless.
    pub d_size: u64,
    /// Sectors the user asked for; 0 = no wish.
    pub u_size: u64,
    /// Current sectors of the replicated device; 0 = none yet, or "please answer".
    pub c_size: u64,
    /// Largest I/O of the backing device in bytes; does not limit what may be sent (W63).
    pub max_bio_size: u32,
    /// Always 0.
    pub queue_order_type: u16,
    /// [`Sizes::FORCED`] and [`Sizes::NO_RESYNC`].
    pub dds_flags: u16,
    /// Queue limits; present if and only if the WSAME feature was agreed.
    pub limits: Option<QueueLimits>,
}

impl Sizes {
    /// dds_flags: the resize was forced.
    pub const FORCED: u16 = 1;
    /// dds_flags: do not resync the new space (from version 93).
    pub const NO_RESYNC: u16 = 2;
}

/// Queue limits in P_SIZES (W64), in bytes where not said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Physical block size.
    pub physical_block_size: u32,
    /// Logical block size (W65).
    pub logical_block_size: u32,
    /// Alignment offset; 0 if diskless.
    pub alignment_offset: u32,
    /// Smallest sensible I/O.
    pub io_min: u32,
    /// Best I/O size, 0 = unknown.
    pub io_opt: u32,
    /// 1 if the device discards.
    pub discard_enabled: u8,
    /// 1 if discarded blocks read as zero.
    pub discard_zeroes_data: u8,
    /// 1 if P_WSAME may be sent to this node (W38).
    pub write_same_capable: u8,
}

impl Default for QueueLimits {
    /// A device of 512-byte blocks without discard.
    fn default() -> Self {
        Self {
            physical_block_size: 512,
            logical_block_size: 512,
            alignment_offset: 0,
            io_min: 512,
            io_opt: 0,
            discard_enabled: 0,
            discard_zeroes_data: 0,
            write_same_capable: 0,
        }
    }
}

/// Content of P_UUIDS (3.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uuids {
    /// Current UUID; bit 0 marks a Primary.
    pub current: u64,
    /// Bitmap UUID, 0 = none.
    pub bitmap: u64,
    /// The two history UUIDs, newest first.
    pub history: [u64; 2],
    /// Set bits in the sender's bitmap.
    pub bits: u64,
    /// [`Uuids::DISCARD_MY_DATA`] and the others.
    pub flags: u64,
}

impl Uuids {
    /// The sender wants its data discarded.
    pub const DISCARD_MY_DATA: u64 = 1;
    /// The sender is a crashed Primary.
    pub const CRASHED_PRIMARY: u64 = 2;
    /// The sender's Negotiating disk will be Inconsistent.
    pub const INCONSISTENT: u64 = 4;
    /// Skip the initial sync (W71).
    pub const SKIP_INITIAL_SYNC: u64 = 8;
}

/// The state word of P_STATE and of state change requests (4.6): bit fields, not interpreted here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StateWord(pub u32);

impl StateWord {
    /// Mask of the role field.
    pub const ROLE: u32 = 0x3;
    /// Mask of the field with the peer's role.
    pub const PEER: u32 = 0x3 << 2;
    /// Mask of the connection state.
    pub const CONN: u32 = 0x1f << 4;
    /// Mask of the disk state.
    pub const DISK: u32 = 0xf << 9;
    /// Mask of the field with the peer's disk state.
    pub const PDSK: u32 = 0xf << 13;
    /// I/O suspended by the user.
    pub const SUSP: u32 = 1 << 17;
    /// Resync paused: waits for another device.
    pub const AFTR_ISP: u32 = 1 << 18;
    /// Resync paused by the peer.
    pub const PEER_ISP: u32 = 1 << 19;
    /// Resync paused by the user.
    pub const USER_ISP: u32 = 1 << 20;
    /// I/O suspended: no data.
    pub const SUSP_NOD: u32 = 1 << 21;
    /// I/O suspended: fencing.
    pub const SUSP_FEN: u32 = 1 << 22;

    /// The role's number.
    #[must_use]
    pub const fn role(self) -> u8 {
        self.field(Self::ROLE)
    }

    /// The number of the peer's role.
    #[must_use]
    pub const fn peer(self) -> u8 {
        self.field(Self::PEER)
    }

    /// The connection state's number.
    #[must_use]
    pub const fn conn(self) -> u8 {
        self.field(Self::CONN)
    }

    /// The disk state's number.
    #[must_use]
    pub const fn disk(self) -> u8 {
        self.field(Self::DISK)
    }

    /// The number of the peer's disk state.
    #[must_use]
    pub const fn pdsk(self) -> u8 {
        self.field(Self::PDSK)
    }

    /// Whether any bit of `mask` is set.
    #[must_use]
    pub const fn has(self, mask: u32) -> bool {
        self.0 & mask != 0
    }

    /// The word with the field under `mask` set to `value` (surplus bits of `value` are dropped).
    #[must_use]
    pub const fn with(self, mask: u32, value: u32) -> Self {
        Self(self.0 & !mask | (value << mask.trailing_zeros()) & mask)
    }

    /// The word with the flag bits `mask` set or cleared.
    #[must_use]
    pub const fn with_flag(self, mask: u32, on: bool) -> Self {
        Self(if on { self.0 | mask } else { self.0 & !mask })
    }

    const fn field(self, mask: u32) -> u8 {
        ((self.0 & mask) >> mask.trailing_zeros()) as u8
    }
}

/// Flags of data packets (4.3). Unknown bits are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DpFlags(pub u32);

impl DpFlags {
    /// Synchronous write hint.
    pub const RW_SYNC: Self = Self(2);
    /// The receiver may mark the range in sync after writing.
    pub const MAY_SET_IN_SYNC: Self = Self(4);
    /// Hint to submit what is queued.
    pub const UNPLUG: Self = Self(8);
    /// The write must be durable before its ack.
    pub const FUA: Self = Self(16);
    /// Flush before this write.
    pub const FLUSH: Self = Self(32);
    /// P_TRIM always; P_ZEROES: may deallocate.
    pub const DISCARD: Self = Self(64);
    /// Answer with P_RECV_ACK.
    pub const SEND_RECEIVE_ACK: Self = Self(128);
    /// Answer with P_WRITE_ACK or P_RS_WRITE_ACK.
    pub const SEND_WRITE_ACK: Self = Self(256);
    /// P_WSAME only.
    pub const WSAME: Self = Self(512);
    /// P_ZEROES always.
    pub const ZEROES: Self = Self(1024);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What a peer of version `apv` understands of these flags (12.1).
    #[must_use]
    pub const fn known_at(self, apv: u8) -> Self {
        match apv {
            0..95 => Self(self.0 & Self::RW_SYNC.0),
            95..100 => Self(self.0 & 0x7f),
            _ => self,
        }
    }
}

impl std::ops::BitOr for DpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

/// An opaque number for a request: echoed byte for byte, never interpreted by the echoing side (W87).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub [u8; 8]);

impl BlockId {
    /// All ones: resync and verify traffic (W89).
    pub const RESYNC: Self = Self([0xff; 8]);
    /// In P_OV_RESULT: the block is equal on both nodes (W90).
    pub const OV_EQUAL: Self = Self(0x1267_u64.to_be_bytes());
    /// In P_OV_RESULT: the block differs (W90).
    pub const OV_DIFFERENT: Self = Self(0x1268_u64.to_be_bytes());

    /// The id that carries a number of our own choice.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number.to_be_bytes())
    }

    /// The number put in by [`BlockId::from_number`]; check it against what was sent (W87).
    #[must_use]
    pub const fn number(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

/// A block of the device that is asked for (4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRequest {
    /// First sector.
    pub sector: Sector,
    /// Opaque id, to be echoed; all ones for resync and verify.
    pub block_id: BlockId,
    /// Bytes, a multiple of 512, at most 1 MiB.
    pub size: u32,
}

/// Answer about a block, on the meta socket (4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockAck {
    /// Echo of the request's sector.
    pub sector: Sector,
    /// Echo of the request's id.
    pub block_id: BlockId,
    /// Bytes; unchecked (W127).
    pub size: u32,
    /// The sender's sequence number (W142).
    pub seq: u32,
}

/// A range without an id (4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRange {
    /// First sector.
    pub sector: Sector,
    /// Bytes, a multiple of 512.
    pub size: u32,
}

/// A kernel crypto name as it travels: printable ASCII, at most 63 bytes; empty = none (3.4, 3.5).
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct AlgName(Box<str>);

impl AlgName {
    /// Longest name in bytes, without its NUL.
    pub const MAX_BYTES: usize = 63;

    /// The name `text`; `None` if it is longer than 63 bytes or not printable ASCII.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = text.len() <= Self::MAX_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names no algorithm.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for AlgName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for AlgName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_word_of_the_specification_reads_as_it_says() {
        // Section 4.6: Secondary, peer Primary, Connected, UpToDate/UpToDate.
        let word = StateWord(0x0001_10a6);
        assert_eq!((word.role(), word.peer(), word.conn(), word.disk(), word.pdsk()), (2, 1, 10, 8, 8));
        let built = StateWord::default()
            .with(StateWord::ROLE, 2)
            .with(StateWord::PEER, 1)
            .with(StateWord::CONN, 10)
            .with(StateWord::DISK, 8)
            .with(StateWord::PDSK, 8);
        assert_eq!(built, word);
        // W216: frozen by fencing.
        assert!(StateWord(0x0041_10a9).has(StateWord::SUSP_FEN));
        assert_eq!(word.with_flag(StateWord::USER_ISP, true).0, 0x0011_10a6);
    }

    #[test]
    fn flags_shrink_to_what_an_old_peer_knows() {
        let all = DpFlags(0x7fe);
        assert_eq!(all.known_at(94), DpFlags::RW_SYNC);
        assert_eq!(all.known_at(95), DpFlags(0x7e));
        assert_eq!(all.known_at(100), all);
    }

    #[test]
    fn an_algorithm_name_is_short_printable_ascii() {
        assert_eq!(AlgName::new("crc32c").map(|name| name.to_string()), Some("crc32c".to_string()));
        assert_eq!(AlgName::new(""), Some(AlgName::default()));
        assert_eq!(AlgName::new(&"x".repeat(64)), None);
        assert_eq!(AlgName::new("md5\n"), None);
    }
}
