//! Packets to bytes and back, for an agreed version and feature set.
//!
//! ```text
//!   header (8 or 16) | sub-header | digest or variable part | block data
//!   `------------------ consumed ------------------------'   `payload_bytes'
//! ```
//!
//! [`decode`] works on whatever has arrived and says how many bytes it wants. Block data stays in
//! the stream: the caller receives it straight into an aligned buffer. Nothing is allocated before
//! its length was checked, and nothing at all for a data packet without digest.

use zerocopy::big_endian::{I32, U32, U64};

use super::emit::emit;
use super::error::WireError;
use super::header::{APV_BEFORE_FEATURES, APV_MIN, Command, Header, Socket, header_bytes};
use super::packet::{
    AlgName, CHALLENGE_BYTES, MAX_BLOCK_BYTES, MAX_CHALLENGE_BYTES, MAX_DIGEST_BYTES, MAX_SMALL_PACKET_BYTES,
    Packet, features,
};
use super::parse::Body;
use super::raw::{
    RawBarrier, RawBlock, RawController, RawData, RawFeatures, RawPair, RawProtocol, RawQueueLimits,
    RawRange, RawSizedData, RawSizes, RawSyncParam89, RawUuids,
};
use crate::units::VolumeId;

/// What both ends agreed on, as far as it shapes bytes. One for each socket and direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Agreed protocol version; [`APV_BEFORE_FEATURES`] until the peer's features were read (W18).
    pub apv: u8,
    /// Agreed feature flags, see [`features`].
    pub features: u32,
    /// Bytes of the digest before incoming block data: 0, or the size of the peer's integrity_alg
    /// (W50). Only [`decode`] uses it.
    pub peer_digest_bytes: usize,
    /// The socket the bytes come from. Only [`decode`] uses it.
    pub socket: Socket,
}

impl Dialect {
    /// The dialect of the first packets and the features (W18, W22): v80 headers, both roles.
    pub const BEFORE_FEATURES: Self =
        Self { apv: APV_BEFORE_FEATURES, features: 0, peer_digest_bytes: 0, socket: Socket::Data };

    pub(super) fn has(&self, feature: u32) -> bool {
        self.features & feature != 0
    }
}

/// What [`decode`] found at the start of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// No complete packet yet: call again with at least this many bytes in total.
    NeedMore(usize),
    /// A packet.
    Packet {
        /// The volume it is about; 0 for packets about the connection (W24).
        volume: VolumeId,
        /// Its content.
        packet: Packet,
        /// Bytes of header, sub-header and digest, to be dropped from the stream.
        consumed: usize,
        /// Bytes of block data that follow in the stream.
        payload_bytes: usize,
    },
}

/// Decodes the packet at the start of `bytes`.
///
/// # Errors
/// What the peer got wrong; [`WireError::reaction`] says what to do. The stream is unusable then.
pub fn decode(bytes: &[u8], dialect: &Dialect) -> Result<Decoded, WireError> {
    let header_bytes = header_bytes(dialect.apv);
    let Some(header) = Header::decode(bytes, dialect.apv)? else {
        return Ok(Decoded::NeedMore(header_bytes));
    };
    let command = expect_command(header.command, dialect)?;
    let limits = Limits::of(command, dialect);
    let body_bytes = limits.body_bytes(command, header.length)?;
    let consumed = header_bytes + body_bytes;
    let Some(body) = bytes.get(header_bytes..consumed) else {
        return Ok(Decoded::NeedMore(consumed));
    };
    let payload_bytes = header.length as usize - body_bytes;
    let packet = Body { command, bytes: body, apv: dialect.apv }.parse(payload_bytes)?;
    let volume = if command.is_connection_wide() { 0 } else { header.volume };
    Ok(Decoded::Packet { volume: VolumeId(volume), packet, consumed, payload_bytes })
}

/// Appends `packet` to `out`: header, sub-header, digest. `payload_bytes` of block data are counted
/// in the header; the caller sends them behind it.
///
/// # Panics
/// If block data is given for a packet that has none, or more than the version's header can count.
pub fn encode(packet: &Packet, volume: VolumeId, payload_bytes: usize, dialect: &Dialect, out: &mut Vec<u8>) {
    assert!(payload_bytes == 0 || packet.carries_payload(), "{} carries no block data", packet.name());
    let command = packet.command(dialect.apv);
    // W22: the first packets and the features always have the oldest header.
    let apv = if command.is_before_features() { APV_BEFORE_FEATURES } else { dialect.apv };
    let start = out.len();
    let body = start + header_bytes(apv);
    out.resize(body, 0);
    emit(packet, dialect, out);
    let length = u32::try_from(out.len() - body + payload_bytes);
    let volume = if command.is_connection_wide() { 0 } else { volume.0 };
    Header { volume, command: command.number(), length: length.expect("payloads are at most 1 MiB") }
        .encode(apv, &mut out[start..body]);
}

/// Whether the socket has a handler for the command at this stage (W30, W31; no version check, W83).
fn expect_command(number: u16, dialect: &Dialect) -> Result<Command, WireError> {
    let expected = |command: &Command| {
        if dialect.apv < APV_MIN { command.is_before_features() } else { command.is_on(dialect.socket) }
    };
    Command::from_number(number)
        .filter(expected)
        .ok_or(WireError::UnexpectedCommand { number, socket: dialect.socket })
}

/// Lengths that a command allows (4.1, W29 to W31, W54).
#[derive(Clone, Copy)]
struct Limits {
    /// Sub-header and digest.
    min: usize,
    /// Greatest value of the length field.
    max: usize,
    /// Whether what exceeds `min` is block data.
    carries_payload: bool,
}

impl Limits {
    fn of(command: Command, dialect: &Dialect) -> Self {
        let small = MAX_SMALL_PACKET_BYTES - header_bytes(dialect.apv);
        match command {
            Command::Data | Command::DataReply | Command::RsDataReply => {
                Self::with_payload(size_of::<RawData>() + dialect.peer_digest_bytes)
            }
            Command::WriteSame => Self::with_payload(size_of::<RawSizedData>() + dialect.peer_digest_bytes),
            Command::Trim | Command::Zeroes => Self::exactly(size_of::<RawSizedData>()),
            Command::DataRequest | Command::RsDataRequest | Command::RsThinReq | Command::OvRequest => {
                Self::exactly(size_of::<RawBlock>())
            }
            Command::CsumRsRequest | Command::OvReply => {
                Self::between(size_of::<RawBlock>(), size_of::<RawBlock>() + MAX_DIGEST_BYTES)
            }
            Command::RecvAck
            | Command::WriteAck
            | Command::RsWriteAck
            | Command::Superseded
            | Command::RetryWrite
            | Command::NegAck
            | Command::NegDreply
            | Command::NegRsDreply
            | Command::OvResult
            | Command::RsIsInSync
            | Command::RsCancel => Self::exactly(size_of::<RawBlock>()),
            Command::Barrier | Command::BarrierAck => Self::exactly(size_of::<RawBarrier>()),
            Command::OutOfSync | Command::RsDeallocated => Self::exactly(size_of::<RawRange>()),
            Command::StateChgReq | Command::ConnStChgReq | Command::DelayProbe => {
                Self::exactly(size_of::<RawPair>())
            }
            Command::State => Self::exactly(size_of::<U32>()),
            Command::StateChgReply | Command::ConnStChgReply => Self::exactly(size_of::<I32>()),
            Command::SyncUuid => Self::exactly(size_of::<U64>()),
            Command::Uuids => Self::exactly(size_of::<RawUuids>()),
            Command::Sizes if dialect.has(features::WSAME) => {
                Self::exactly(size_of::<RawSizes>() + size_of::<RawQueueLimits>())
            }
            Command::Sizes => Self::exactly(size_of::<RawSizes>()),
            Command::Protocol | Command::ProtocolUpdate if dialect.apv >= 87 => {
                Self::between(size_of::<RawProtocol>() + 1, size_of::<RawProtocol>() + NAME_FIELD_BYTES)
            }
            Command::Protocol | Command::ProtocolUpdate => Self::exactly(size_of::<RawProtocol>()),
            Command::SyncParam | Command::SyncParam89 => Self::of_sync_param(dialect.apv),
            Command::AuthChallenge => Self::between(CHALLENGE_BYTES, MAX_CHALLENGE_BYTES),
            Command::AuthResponse => Self::between(1, MAX_DIGEST_BYTES),
            Command::Bitmap => Self::between(0, small),
            Command::CompressedBitmap => Self::between(2, small),
            Command::Ping
            | Command::PingAck
            | Command::UnplugRemote
            | Command::InitialData
            | Command::InitialMeta => Self::exactly(0),
            Command::ConnectionFeatures => Self::exactly(size_of::<RawFeatures>()),
        }
    }

    /// The layout follows the version, whichever of the two commands carries it (3.5).
    const fn of_sync_param(apv: u8) -> Self {
        match apv {
            0..88 => Self::exactly(4),
            88 => Self::between(4 + 1, 4 + NAME_FIELD_BYTES),
            89..95 => Self::exactly(size_of::<RawSyncParam89>()),
            _ => Self::exactly(size_of::<RawSyncParam89>() + size_of::<RawController>()),
        }
    }

    const fn exactly(bytes: usize) -> Self {
        Self::between(bytes, bytes)
    }

    const fn between(min: usize, max: usize) -> Self {
        Self { min, max, carries_payload: false }
    }

    const fn with_payload(min: usize) -> Self {
        Self { min, max: min + MAX_BLOCK_BYTES, carries_payload: true }
    }

    /// The part of `length` that belongs to the packet itself, at most 4 KiB.
    fn body_bytes(self, command: Command, length: u32) -> Result<usize, WireError> {
        let found = length as usize;
        if found < self.min || found > self.max {
            return Err(WireError::BadLength { command, length, min: self.min, max: self.max });
        }
        Ok(if self.carries_payload { self.min } else { found })
    }
}

/// An algorithm name with its NUL, as a field (3.5) and at most (3.4).
pub(super) const NAME_FIELD_BYTES: usize = AlgName::MAX_BYTES + 1;
