//! Packet headers (spec section 2.1) and command numbers (section 4.1).
//!
//! Three formats exist, chosen by the agreed protocol version; every header counts the bytes that
//! follow it. Until the versions are agreed (W18) and for the first packets (W22) it is v80.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::WireError;

/// The version in force until the peer's feature packet was read (W18).
pub const APV_BEFORE_FEATURES: u8 = 80;
/// Lowest version this crate speaks (W36).
pub const APV_MIN: u8 = 86;
/// Highest version this crate speaks (W36).
pub const APV_MAX: u8 = 101;

/// Which of the connection's two sockets (W1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Socket {
    /// The bulk socket.
    Data,
    /// The acknowledgement socket.
    Meta,
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Every command of the protocol that has a handler, with its number (spec table 4.1).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Command { $($(#[$doc])* $name = $number,)* }

        impl Command {
            /// All commands, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The command with this number, if any.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Its name in the specification.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

commands! {
    /// A replicated write.
    Data = 0x00, "P_DATA";
    /// Answer to a remote read.
    DataReply = 0x01, "P_DATA_REPLY";
    /// A resync block.
    RsDataReply = 0x02, "P_RS_DATA_REPLY";
    /// End of a write epoch.
    Barrier = 0x03, "P_BARRIER";
    /// Plain bitmap chunk.
    Bitmap = 0x04, "P_BITMAP";
    /// Hint to submit what is queued.
    UnplugRemote = 0x07, "P_UNPLUG_REMOTE";
    /// Remote read.
    DataRequest = 0x08, "P_DATA_REQUEST";
    /// Resync request.
    RsDataRequest = 0x09, "P_RS_DATA_REQUEST";
    /// Sync parameters, up to version 88.
    SyncParam = 0x0a, "P_SYNC_PARAM";
    /// Connection settings.
    Protocol = 0x0b, "P_PROTOCOL";
    /// Generation identifiers.
    Uuids = 0x0c, "P_UUIDS";
    /// Sizes and queue limits.
    Sizes = 0x0d, "P_SIZES";
    /// State word.
    State = 0x0e, "P_STATE";
    /// Start of a resync.
    SyncUuid = 0x0f, "P_SYNC_UUID";
    /// Authentication challenge.
    AuthChallenge = 0x10, "P_AUTH_CHALLENGE";
    /// Authentication response.
    AuthResponse = 0x11, "P_AUTH_RESPONSE";
    /// State change request for a volume.
    StateChgReq = 0x12, "P_STATE_CHG_REQ";
    /// Keep-alive.
    Ping = 0x13, "P_PING";
    /// Answer to a keep-alive.
    PingAck = 0x14, "P_PING_ACK";
    /// Write received.
    RecvAck = 0x15, "P_RECV_ACK";
    /// Write done.
    WriteAck = 0x16, "P_WRITE_ACK";
    /// Write done and marked in sync.
    RsWriteAck = 0x17, "P_RS_WRITE_ACK";
    /// Conflicting write treated as overwritten.
    Superseded = 0x18, "P_SUPERSEDED";
    /// Write failed.
    NegAck = 0x19, "P_NEG_ACK";
    /// Read failed.
    NegDreply = 0x1a, "P_NEG_DREPLY";
    /// Resync or verify read failed.
    NegRsDreply = 0x1b, "P_NEG_RS_DREPLY";
    /// Epoch complete.
    BarrierAck = 0x1c, "P_BARRIER_ACK";
    /// Answer to a state change request for a volume.
    StateChgReply = 0x1d, "P_STATE_CHG_REPLY";
    /// Verify request.
    OvRequest = 0x1e, "P_OV_REQUEST";
    /// Verify digest.
    OvReply = 0x1f, "P_OV_REPLY";
    /// Verify verdict.
    OvResult = 0x20, "P_OV_RESULT";
    /// Resync request with a digest.
    CsumRsRequest = 0x21, "P_CSUM_RS_REQUEST";
    /// Resync block was equal.
    RsIsInSync = 0x22, "P_RS_IS_IN_SYNC";
    /// Sync parameters, from version 89.
    SyncParam89 = 0x23, "P_SYNC_PARAM89";
    /// Compressed bitmap chunk.
    CompressedBitmap = 0x24, "P_COMPRESSED_BITMAP";
    /// Measurement; read and ignored.
    DelayProbe = 0x27, "P_DELAY_PROBE";
    /// Range became out of sync.
    OutOfSync = 0x28, "P_OUT_OF_SYNC";
    /// Resync request cancelled.
    RsCancel = 0x29, "P_RS_CANCEL";
    /// State change request for the connection.
    ConnStChgReq = 0x2a, "P_CONN_ST_CHG_REQ";
    /// Answer to a state change request for the connection.
    ConnStChgReply = 0x2b, "P_CONN_ST_CHG_REPLY";
    /// Conflicting write must be sent again.
    RetryWrite = 0x2c, "P_RETRY_WRITE";
    /// Changed connection settings.
    ProtocolUpdate = 0x2d, "P_PROTOCOL_UPDATE";
    /// Discard.
    Trim = 0x31, "P_TRIM";
    /// Resync request that allows a "deallocated" answer.
    RsThinReq = 0x32, "P_RS_THIN_REQ";
    /// Resync block is all zero.
    RsDeallocated = 0x33, "P_RS_DEALLOCATED";
    /// Write-same.
    WriteSame = 0x34, "P_WSAME";
    /// Write zeroes.
    Zeroes = 0x36, "P_ZEROES";
    /// First packet on the meta socket.
    InitialMeta = 0xfff1, "P_INITIAL_META";
    /// First packet on the data socket.
    InitialData = 0xfff2, "P_INITIAL_DATA";
    /// Versions and features.
    ConnectionFeatures = 0xfffe, "P_CONNECTION_FEATURES";
}

impl Command {
    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The command of the packet that begins with these bytes, in whichever format its header is (W21).
    #[must_use]
    pub fn of_packet(bytes: &[u8]) -> Option<Self> {
        let decode = |apv| Header::decode(bytes, apv).ok().flatten();
        decode(APV_MAX).or_else(|| decode(APV_BEFORE_FEATURES)).and_then(|h| Self::from_number(h.command))
    }

    /// Whether it is sent before the versions are agreed, and only then (W7, W22).
    #[must_use]
    pub const fn is_before_features(self) -> bool {
        matches!(self, Self::InitialData | Self::InitialMeta | Self::ConnectionFeatures)
    }

    /// Whether it is about the whole connection and so carries volume 0 (W24).
    #[must_use]
    pub const fn is_connection_wide(self) -> bool {
        matches!(
            self,
            Self::Protocol
                | Self::ProtocolUpdate
                | Self::AuthChallenge
                | Self::AuthResponse
                | Self::Barrier
                | Self::BarrierAck
                | Self::Ping
                | Self::PingAck
                | Self::ConnStChgReq
                | Self::ConnStChgReply
                | Self::DelayProbe
                | Self::InitialData
                | Self::InitialMeta
                | Self::ConnectionFeatures
        )
    }

    /// Whether the receiver of `socket` has a handler for it after the features exchange (table 4.1).
    #[must_use]
    pub const fn is_on(self, socket: Socket) -> bool {
        match self {
            Self::DelayProbe => true,
            Self::InitialData | Self::InitialMeta | Self::ConnectionFeatures => false,
            Self::Ping
            | Self::PingAck
            | Self::RecvAck
            | Self::WriteAck
            | Self::RsWriteAck
            | Self::Superseded
            | Self::NegAck
            | Self::NegDreply
            | Self::NegRsDreply
            | Self::BarrierAck
            | Self::StateChgReply
            | Self::OvResult
            | Self::RsIsInSync
            | Self::RsCancel
            | Self::ConnStChgReply
            | Self::RetryWrite => matches!(socket, Socket::Meta),
            Self::Data
            | Self::DataReply
            | Self::RsDataReply
            | Self::Barrier
            | Self::Bitmap
            | Self::UnplugRemote
            | Self::DataRequest
            | Self::RsDataRequest
            | Self::SyncParam
            | Self::Protocol
            | Self::Uuids
            | Self::Sizes
            | Self::State
            | Self::SyncUuid
            | Self::AuthChallenge
            | Self::AuthResponse
            | Self::StateChgReq
            | Self::OvRequest
            | Self::OvReply
            | Self::CsumRsRequest
            | Self::SyncParam89
            | Self::CompressedBitmap
            | Self::OutOfSync
            | Self::ConnStChgReq
            | Self::ProtocolUpdate
            | Self::Trim
            | Self::RsThinReq
            | Self::RsDeallocated
            | Self::WriteSame
            | Self::Zeroes => matches!(socket, Socket::Data),
        }
    }
}

/// A header in any of the three formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Volume number; 0 in the short formats.
    pub(super) volume: u16,
    /// Command number, known or not.
    pub(super) command: u16,
    /// Bytes after the header.
    pub(super) length: u32,
}

/// Bytes of a header at this version (W23).
#[must_use]
pub const fn header_bytes(apv: u8) -> usize {
    if apv >= 100 { size_of::<RawHeader100>() } else { size_of::<RawHeader80>() }
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` while it is incomplete.
    pub(super) fn decode(bytes: &[u8], apv: u8) -> Result<Option<Self>, WireError> {
        if apv >= 100 {
            let Ok((raw, _)) = RawHeader100::ref_from_prefix(bytes) else { return Ok(None) };
            return Self::from_v100(raw).map(Some);
        }
        let Ok((raw, _)) = RawHeader80::ref_from_prefix(bytes) else { return Ok(None) };
        if raw.magic.get() == MAGIC_V80 {
            let length = u32::from(raw.length.get());
            return Ok(Some(Self { volume: 0, command: raw.command.get(), length }));
        }
        match RawHeader95::ref_from_prefix(bytes) {
            Ok((raw, _)) if raw.magic.get() == MAGIC_V95 => {
                Ok(Some(Self { volume: 0, command: raw.command.get(), length: raw.length.get() }))
            }
            _ => Err(WireError::BadMagic { found: raw.magic.get(), apv }),
        }
    }

    fn from_v100(raw: &RawHeader100) -> Result<Self, WireError> {
        if raw.magic.get() != MAGIC_V100 {
            return Err(WireError::BadMagic { found: raw.magic.get(), apv: 100 });
        }
        if raw.pad.get() != 0 {
            return Err(WireError::BadPad { found: raw.pad.get() });
        }
        Ok(Self { volume: raw.volume.get(), command: raw.command.get(), length: raw.length.get() })
    }

    /// Writes the header in the format of version `apv` into `space`, which has its size (W21).
    ///
    /// # Panics
    /// If the length does not fit in the format: below version 95 no packet is longer than 64 KiB.
    pub(super) fn encode(self, apv: u8, space: &mut [u8]) {
        if apv >= 100 {
            let raw = RawHeader100 {
                magic: U32::new(MAGIC_V100),
                volume: U16::new(self.volume),
                command: U16::new(self.command),
                length: U32::new(self.length),
                pad: U32::ZERO,
            };
            space.copy_from_slice(raw.as_bytes());
        } else if apv >= 95 && self.length > V80_MAX_LENGTH_FROM_95 {
            let raw = RawHeader95 {
                magic: U16::new(MAGIC_V95),
                command: U16::new(self.command),
                length: U32::new(self.length),
            };
            space.copy_from_slice(raw.as_bytes());
        } else {
            let length = self.length as u16;
            assert!(u32::from(length) == self.length, "a packet of {} bytes at version {apv}", self.length);
            let raw = RawHeader80 {
                magic: U32::new(MAGIC_V80),
                command: U16::new(self.command),
                length: U16::new(length),
            };
            space.copy_from_slice(raw.as_bytes());
        }
    }
}

const MAGIC_V80: u32 = 0x8374_0267;
const MAGIC_V95: u16 = 0x835a;
const MAGIC_V100: u32 = 0x8620_ec20;
/// From version 95 on, longer packets take the v95 header (W21).
const V80_MAX_LENGTH_FROM_95: u32 = 32768;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader80 {
    magic: U32,
    command: U16,
    length: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader95 {
    magic: U16,
    command: U16,
    length: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader100 {
    magic: U32,
    volume: U16,
    command: U16,
    length: U32,
    pad: U32,
}

const _: () = assert!(size_of::<RawHeader80>() == 8);
const _: () = assert!(size_of::<RawHeader95>() == 8);
const _: () = assert!(size_of::<RawHeader100>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_names_its_command() {
        for &command in Command::ALL {
            assert_eq!(Command::from_number(command.number()), Some(command));
        }
        for reserved in [0x05, 0x06, 0x25, 0x26, 0x2e, 0x30, 0x35, 0x37, 0x40, 0x48, 0xffff] {
            assert_eq!(Command::from_number(reserved), None);
        }
    }

    #[test]
    fn the_header_format_follows_the_version_and_the_length() {
        for (apv, length, magic) in [
            (94, 40000, [0x83, 0x74]),
            (95, 32768, [0x83, 0x74]),
            (95, 32769, [0x83, 0x5a]),
            (99, 131096, [0x83, 0x5a]),
            (100, 4, [0x86, 0x20]),
        ] {
            let header = Header { volume: if apv >= 100 { 7 } else { 0 }, command: 2, length };
            let mut space = vec![0; header_bytes(apv)];
            header.encode(apv, &mut space);
            assert_eq!(space[..2], magic, "version {apv}, length {length}");
            assert_eq!(Header::decode(&space, apv), Ok(Some(header)));
            assert_eq!(Header::decode(&space[..7], apv), Ok(None));
        }
    }

    #[test]
    fn a_v100_pad_and_a_foreign_magic_are_framing_errors() {
        let mut space = [0; 16];
        Header { volume: 0, command: 0, length: 24 }.encode(101, &mut space);
        assert!(matches!(Header::decode(&space, 99), Err(WireError::BadMagic { .. })));
        space[15] = 1;
        assert_eq!(Header::decode(&space, 101), Err(WireError::BadPad { found: 1 }));
        assert!(matches!(Header::decode(&[0x83; 16], 101), Err(WireError::BadMagic { .. })));
    }
}
