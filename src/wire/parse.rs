//! Bodies of packets to values: the second half of [`super::decode`], with the checks of W84.

use zerocopy::big_endian::{I32, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::error::WireError;
use super::header::Command;
use super::packet::{
    AlgName, BlockAck, BlockId, BlockRange, BlockRequest, DpFlags, MAX_BLOCK_BYTES, MAX_SMALL_PACKET_BYTES,
    MAX_TRIM_BYTES, Packet, Protocol, QueueLimits, ResyncController, Sizes, StateWord, SyncParam, Uuids,
};
use super::raw::{
    RawBarrier, RawBlock, RawController, RawData, RawFeatures, RawPair, RawProtocol, RawQueueLimits,
    RawRange, RawSizedData, RawSizes, RawSyncParam89, RawUuids,
};
use crate::units::{SECTOR_BYTES, Sector};

/// A complete sub-header with what follows it, of a length that the command allows.
pub(super) struct Body<'a> {
    pub(super) command: Command,
    pub(super) bytes: &'a [u8],
    pub(super) apv: u8,
}

impl Body<'_> {
    pub(super) fn parse(&self, payload_bytes: usize) -> Result<Packet, WireError> {
        Ok(match self.command {
            Command::Data => self.data(payload_bytes)?,
            Command::DataReply => {
                let (sector, block_id, digest) = self.reply(payload_bytes)?;
                Packet::DataReply { sector, block_id, digest }
            }
            Command::RsDataReply => {
                let (sector, block_id, digest) = self.reply(payload_bytes)?;
                Packet::RsDataReply { sector, block_id, digest }
            }
            Command::Trim => {
                let (sector, block_id, seq, flags, size) = self.sized_data()?;
                Packet::Trim { sector, block_id, seq, flags, size }
            }
            Command::Zeroes => {
                let (sector, block_id, seq, flags, size) = self.sized_data()?;
                Packet::Zeroes { sector, block_id, seq, flags, size }
            }
            Command::WriteSame => {
                let (sector, block_id, seq, flags, size) = self.sized_data()?;
                self.block_size(payload_bytes as u64, MAX_BLOCK_BYTES as u64)?;
                let digest = self.after::<RawSizedData>().to_vec();
                Packet::WriteSame { sector, block_id, seq, flags, size, digest }
            }
            Command::DataRequest => Packet::DataRequest(self.request()?),
            Command::RsDataRequest => Packet::RsDataRequest(self.request()?),
            Command::RsThinReq => Packet::RsThinReq(self.request()?),
            Command::OvRequest => Packet::OvRequest(self.request()?),
            Command::CsumRsRequest => {
                Packet::CsumRsRequest { request: self.request()?, digest: self.after::<RawBlock>().to_vec() }
            }
            Command::OvReply => {
                Packet::OvReply { request: self.request()?, digest: self.after::<RawBlock>().to_vec() }
            }
            Command::RecvAck => Packet::RecvAck(self.ack()?),
            Command::WriteAck => Packet::WriteAck(self.ack()?),
            Command::RsWriteAck => Packet::RsWriteAck(self.ack()?),
            Command::Superseded => Packet::Superseded(self.ack()?),
            Command::RetryWrite => Packet::RetryWrite(self.ack()?),
            Command::NegAck => Packet::NegAck(self.ack()?),
            Command::NegDreply => Packet::NegDreply(self.ack()?),
            Command::NegRsDreply => Packet::NegRsDreply(self.ack()?),
            Command::OvResult => Packet::OvResult(self.ack()?),
            Command::RsIsInSync => Packet::RsIsInSync(self.ack()?),
            Command::RsCancel => Packet::RsCancel(self.ack()?),
            Command::Barrier => Packet::Barrier(self.raw::<RawBarrier>()?.barrier),
            Command::BarrierAck => {
                let raw = self.raw::<RawBarrier>()?;
                Packet::BarrierAck { barrier: raw.barrier, count: raw.last.get() }
            }
            Command::OutOfSync => Packet::OutOfSync(self.range(u64::from(u32::MAX))?),
            Command::RsDeallocated => Packet::RsDeallocated(self.range(MAX_BLOCK_BYTES as u64)?),
            Command::StateChgReq => {
                let (mask, value) = self.state_change()?;
                Packet::StateChgReq { mask, value }
            }
            Command::ConnStChgReq => {
                let (mask, value) = self.state_change()?;
                Packet::ConnStChgReq { mask, value }
            }
            Command::DelayProbe => {
                let raw = self.raw::<RawPair>()?;
                Packet::DelayProbe { seq: raw.first.get(), offset_us: raw.second.get() }
            }
            Command::State => Packet::State(StateWord(self.raw::<U32>()?.get())),
            Command::StateChgReply => Packet::StateChgReply(self.raw::<I32>()?.get()),
            Command::ConnStChgReply => Packet::ConnStChgReply(self.raw::<I32>()?.get()),
            Command::SyncUuid => Packet::SyncUuid(self.raw::<U64>()?.get()),
            Command::Uuids => self.uuids()?,
            Command::Sizes => self.sizes()?,
            Command::Protocol => Packet::Protocol(self.protocol()?),
            Command::ProtocolUpdate => Packet::ProtocolUpdate(self.protocol()?),
            Command::SyncParam | Command::SyncParam89 => self.sync_param()?,
            Command::AuthChallenge => Packet::AuthChallenge(self.bytes.to_vec()),
            Command::AuthResponse => Packet::AuthResponse(self.bytes.to_vec()),
            Command::Bitmap => Packet::Bitmap(self.bytes.to_vec()),
            Command::CompressedBitmap => Packet::CompressedBitmap(self.bytes.to_vec()),
            Command::Ping => Packet::Ping,
            Command::PingAck => Packet::PingAck,
            Command::UnplugRemote => Packet::UnplugRemote,
            Command::InitialData => Packet::InitialData,
            Command::InitialMeta => Packet::InitialMeta,
            Command::ConnectionFeatures => {
                let raw = self.raw::<RawFeatures>()?;
                Packet::ConnectionFeatures { min: raw.min.get(), max: raw.max.get(), flags: raw.flags.get() }
            }
        })
    }

    fn data(&self, payload_bytes: usize) -> Result<Packet, WireError> {
        let raw = self.raw::<RawData>()?;
        let flags = DpFlags(raw.flags.get());
        if payload_bytes != 0 {
            self.block_size(payload_bytes as u64, MAX_BLOCK_BYTES as u64)?;
        } else if !flags.contains(DpFlags::FLUSH) {
            return Err(WireError::EmptyWrite { flags: flags.0 });
        }
        Ok(Packet::Data {
            sector: self.sector(raw.sector, payload_bytes as u64)?,
            block_id: BlockId(raw.block_id),
            seq: raw.seq.get(),
            flags,
            digest: self.after::<RawData>().to_vec(),
        })
    }

    fn reply(&self, payload_bytes: usize) -> Result<(Sector, BlockId, Vec<u8>), WireError> {
        let raw = self.raw::<RawData>()?;
        let size = self.block_size(payload_bytes as u64, MAX_BLOCK_BYTES as u64)?;
        let digest = self.after::<RawData>().to_vec();
        Ok((self.sector(raw.sector, size)?, BlockId(raw.block_id), digest))
    }

    fn sized_data(&self) -> Result<(Sector, BlockId, u32, DpFlags, u32), WireError> {
        let raw = self.raw::<RawSizedData>()?;
        let size = self.block_size(u64::from(raw.size.get()), u64::from(MAX_TRIM_BYTES))?;
        let sector = self.sector(raw.data.sector, size)?;
        let flags = DpFlags(raw.data.flags.get());
        Ok((sector, BlockId(raw.data.block_id), raw.data.seq.get(), flags, raw.size.get()))
    }

    fn request(&self) -> Result<BlockRequest, WireError> {
        let raw = self.raw::<RawBlock>()?;
        let size = self.block_size(u64::from(raw.size.get()), MAX_BLOCK_BYTES as u64)?;
        let sector = self.sector(raw.sector, size)?;
        Ok(BlockRequest { sector, block_id: BlockId(raw.block_id), size: raw.size.get() })
    }

    /// An ack's size is not checked: a diskless peer's P_NEG_ACK may say anything (W127).
    fn ack(&self) -> Result<BlockAck, WireError> {
        let raw = self.raw::<RawBlock>()?;
        Ok(BlockAck {
            sector: self.sector(raw.sector, 0)?,
            block_id: BlockId(raw.block_id),
            size: raw.size.get(),
            seq: raw.last.get(),
        })
    }

    fn range(&self, max: u64) -> Result<BlockRange, WireError> {
        let raw = self.raw::<RawRange>()?;
        let size = self.block_size(u64::from(raw.size.get()), max)?;
        Ok(BlockRange { sector: self.sector(raw.sector, size)?, size: raw.size.get() })
    }

    fn state_change(&self) -> Result<(StateWord, StateWord), WireError> {
        let raw = self.raw::<RawPair>()?;
        Ok((StateWord(raw.first.get()), StateWord(raw.second.get())))
    }

    fn uuids(&self) -> Result<Packet, WireError> {
        let raw = self.raw::<RawUuids>()?;
        Ok(Packet::Uuids(Uuids {
            current: raw.current.get(),
            bitmap: raw.bitmap.get(),
            history: raw.history.map(U64::get),
            bits: raw.bits.get(),
            flags: raw.flags.get(),
        }))
    }

    fn sizes(&self) -> Result<Packet, WireError> {
        let raw = self.raw::<RawSizes>()?;
        let limits = self.after::<RawSizes>();
        let limits = if limits.is_empty() { None } else { Some(self.at::<RawQueueLimits>(limits)?) };
        Ok(Packet::Sizes(Sizes {
            d_size: self.sector(raw.d_size, 0)?.get(),
            u_size: self.sector(raw.u_size, 0)?.get(),
            c_size: self.sector(raw.c_size, 0)?.get(),
            max_bio_size: raw.max_bio_size.get(),
            queue_order_type: raw.queue_order_type.get(),
            dds_flags: raw.dds_flags.get(),
            limits: limits.map(|raw| QueueLimits {
                physical_block_size: raw.physical_block_size.get(),
                logical_block_size: raw.logical_block_size.get(),
                alignment_offset: raw.alignment_offset.get(),
                io_min: raw.io_min.get(),
                io_opt: raw.io_opt.get(),
                discard_enabled: raw.discard_enabled,
                discard_zeroes_data: raw.discard_zeroes_data,
                write_same_capable: raw.write_same_capable,
            }),
        }))
    }

    fn protocol(&self) -> Result<Protocol, WireError> {
        let raw = self.raw::<RawProtocol>()?;
        Ok(Protocol {
            protocol: raw.protocol.get(),
            after_sb_0p: raw.after_sb_0p.get(),
            after_sb_1p: raw.after_sb_1p.get(),
            after_sb_2p: raw.after_sb_2p.get(),
            conn_flags: raw.conn_flags.get(),
            two_primaries: raw.two_primaries.get(),
            integrity_alg: self.name(self.after::<RawProtocol>())?,
        })
    }

    fn sync_param(&self) -> Result<Packet, WireError> {
        let apv = self.apv;
        if apv < 89 {
            return Ok(Packet::SyncParam(SyncParam {
                resync_rate: self.raw::<U32>()?.get(),
                verify_alg: self.name(self.after::<U32>())?,
                csums_alg: AlgName::default(),
                controller: None,
            }));
        }
        let raw = self.raw::<RawSyncParam89>()?;
        let rest = self.after::<RawSyncParam89>();
        let controller = if apv < 95 { None } else { Some(self.at::<RawController>(rest)?) };
        Ok(Packet::SyncParam(SyncParam {
            resync_rate: raw.resync_rate.get(),
            verify_alg: self.name(&raw.verify_alg)?,
            csums_alg: self.name(&raw.csums_alg)?,
            controller: controller.map(|raw| ResyncController {
                plan_ahead: raw.plan_ahead.get(),
                delay_target: raw.delay_target.get(),
                fill_target: raw.fill_target.get(),
                max_rate: raw.max_rate.get(),
            }),
        }))
    }

    /// The name up to its NUL; what follows the NUL is padding. No bytes at all are no name.
    fn name(&self, field: &[u8]) -> Result<AlgName, WireError> {
        let error = || WireError::BadName { command: self.command };
        let text = match field.iter().position(|&byte| byte == 0) {
            Some(nul) => &field[..nul],
            None if field.is_empty() => field,
            None => return Err(error()),
        };
        str::from_utf8(text).ok().and_then(AlgName::new).ok_or_else(error)
    }

    /// `size` if it is a positive multiple of 512 and at most `max` (W84).
    fn block_size(&self, size: u64, max: u64) -> Result<u64, WireError> {
        if size == 0 || size > max || !size.is_multiple_of(SECTOR_BYTES) {
            return Err(WireError::BadSize { command: self.command, size, max });
        }
        Ok(size)
    }

    /// The sector, if `size` bytes from it end where a byte offset still fits in 64 bits; whether
    /// that is on the device, the core checks (W84).
    fn sector(&self, sector: U64, size: u64) -> Result<Sector, WireError> {
        let sector = Sector::new(sector.get());
        match sector.checked_add(size / SECTOR_BYTES) {
            Some(end) if end.get() <= MAX_SECTORS => Ok(sector),
            _ => Err(WireError::BadSector { command: self.command, sector: sector.get() }),
        }
    }

    fn raw<T: FromBytes + KnownLayout + Immutable + Unaligned>(&self) -> Result<&T, WireError> {
        self.at(self.bytes)
    }

    /// The structure at the start of `bytes`. The length check of `decode` made sure that it fits.
    fn at<'b, T: FromBytes + KnownLayout + Immutable + Unaligned>(
        &self,
        bytes: &'b [u8],
    ) -> Result<&'b T, WireError> {
        T::ref_from_prefix(bytes).map(|(raw, _)| raw).map_err(|_| WireError::BadLength {
            command: self.command,
            length: self.bytes.len() as u32,
            min: size_of::<T>(),
            max: MAX_SMALL_PACKET_BYTES,
        })
    }

    /// What follows the structure `T` at the start.
    fn after<T>(&self) -> &[u8] {
        self.bytes.get(size_of::<T>()..).unwrap_or_default()
    }
}

/// Sectors whose byte offsets fit in 64 bits.
const MAX_SECTORS: u64 = u64::MAX / SECTOR_BYTES;
