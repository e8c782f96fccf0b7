//! The peer's states and what they change here (S32); the handshake they may call for is in
//! `sync_handshake.rs`. Here too: the dispatch of everything the peer sends.

use super::Node;
use super::decision::attach::{is_acceptable, unacceptable_text};
use super::input::SocketId;
use super::link::Phase;
use super::peer_ack::Answer;
use super::peer_write::{PeerKind, WritePacket};
use super::rules::{Manner, StateResult};
use super::state::{Conn, Disk, Role, State, StateChange};
use super::sync_handshake::Meeting;
use super::worker::Work;
use crate::buffer::Buf;
use crate::units::{Extent, VolumeId};
use crate::wire::packet::{BlockRange, DpFlags, Packet};

impl Node {
    /// A packet arrived on some socket.
    pub(super) fn on_packet(
        &mut self,
        socket: SocketId,
        volume: VolumeId,
        packet: Packet,
        payload: Option<Buf>,
    ) {
        let now = self.now;
        let link = self.link_mut();
        let (data, meta) = (link.data == Some(socket), link.meta == Some(socket));
        match link.phase {
            Phase::Meeting(_) => self.on_first_packet(socket, packet),
            Phase::Greeting(_) if data => self.on_greeting_packet(packet),
            Phase::Greeting(_) if meta => self.on_meta_packet(volume, packet),
            Phase::Up if data => {
                link.alive.heard(now);
                self.on_data_packet(volume, packet, payload);
            }
            Phase::Up if meta => {
                link.alive.heard(now);
                self.on_meta_packet(volume, packet);
            }
            Phase::Idle | Phase::Greeting(_) | Phase::Up | Phase::Closing(_) | Phase::Pause { .. } => {}
        }
    }

    fn on_data_packet(&mut self, volume: VolumeId, packet: Packet, payload: Option<Buf>) {
        if !self.link().protocol_checked && !matches!(packet, Packet::Protocol(_)) {
            let text = format!("expected P_PROTOCOL, got {}", packet.name());
            return self.protocol_error(&text);
        }
        match packet {
            Packet::Data { .. }
            | Packet::Trim { .. }
            | Packet::Zeroes { .. }
            | Packet::DataRequest(_)
            | Packet::StateChgReq { .. } => self.accepted(volume),
            Packet::ConnStChgReq { .. } => self.volume_ids().into_iter().for_each(|id| self.accepted(id)),
            _ => {}
        }
        match packet {
            Packet::Protocol(theirs) => self.on_protocol(&theirs),
            Packet::ProtocolUpdate(theirs) => self.on_protocol_update(&theirs),
            Packet::SyncParam(theirs) => self.on_sync_param(volume, &theirs),
            Packet::Sizes(theirs) => self.on_sizes(volume, &theirs),
            Packet::Uuids(theirs) => self.on_uuids(volume, &theirs),
            Packet::State(word) => self.on_state(volume, word.0),
            Packet::StateChgReq { mask, value } => self.on_change_request(Some(volume), mask.0, value.0),
            Packet::ConnStChgReq { mask, value } => self.on_change_request(None, mask.0, value.0),
            Packet::SyncUuid(uuid) => self.on_sync_uuid(volume, uuid),
            Packet::Data { sector, block_id, seq, flags, digest } => {
                if !self.digest_fits(payload.as_ref(), &digest) {
                    return;
                }
                let bytes = payload.as_ref().map_or(0, |d| d.len() as u64);
                let kind = PeerKind::Write;
                self.on_peer_write(
                    volume,
                    WritePacket { sector, bytes, block_id, seq, flags, kind },
                    payload,
                );
            }
            Packet::Trim { sector, block_id, seq, flags, size } => {
                let (bytes, kind) = (u64::from(size), PeerKind::Discard);
                self.on_peer_write(volume, WritePacket { sector, bytes, block_id, seq, flags, kind }, None);
            }
            Packet::Zeroes { sector, block_id, seq, flags, size } => {
                let kind = PeerKind::Zeroes { unmap: flags.contains(DpFlags::DISCARD) };
                let bytes = u64::from(size);
                self.on_peer_write(volume, WritePacket { sector, bytes, block_id, seq, flags, kind }, None);
            }
            Packet::DataRequest(request) => self.on_data_request(volume, request),
            Packet::DataReply { sector, block_id, digest } => {
                self.on_data_reply(volume, sector, block_id, &digest, payload);
            }
            Packet::RsDataRequest(request) | Packet::RsThinReq(request) => {
                self.on_resync_request(volume, request, None);
            }
            Packet::CsumRsRequest { request, digest } => {
                self.on_resync_request(volume, request, Some(digest))
            }
            Packet::RsDataReply { sector, digest, .. } => {
                self.on_resync_data(volume, sector, &digest, payload)
            }
            Packet::RsDeallocated(range) => self.on_resync_deallocated(volume, range),
            Packet::Barrier(number) => self.on_barrier(number),
            Packet::UnplugRemote => self.try_epochs(true),
            Packet::OutOfSync(range) => self.on_out_of_sync(volume, range),
            Packet::Bitmap(_) | Packet::CompressedBitmap(_) => self.on_bitmap(volume, &packet),
            Packet::DelayProbe { .. } => {}
            Packet::OvRequest(request) => self.on_verify_request(volume, request),
            Packet::OvReply { request, digest } => self.on_verify_reply(volume, request, digest),
            other => {
                let text = format!("unexpected packet {} on the data socket", other.name());
                self.protocol_error(&text);
            }
        }
    }

    fn on_meta_packet(&mut self, volume: VolumeId, packet: Packet) {
        let ack = packet.block_ack();
        self.take_meta_packet(volume, packet);
        if let Some(ack) = ack {
            self.saw_ack(volume, ack.seq);
        }
    }

    fn take_meta_packet(&mut self, volume: VolumeId, packet: Packet) {
        match packet {
            Packet::Ping => {
                self.send_meta(VolumeId(0), Packet::PingAck);
                self.answered_ping_as_source();
            }
            Packet::PingAck => self.on_ping_ack(),
            _ if !self.link().is_up() => {}
            Packet::RecvAck(ack) => self.on_block_ack(volume, ack, Answer::Received),
            Packet::WriteAck(ack) => self.on_block_ack(volume, ack, Answer::Written),
            Packet::RsWriteAck(ack) => self.on_block_ack(volume, ack, Answer::InSync),
            Packet::NegAck(ack) => self.on_block_ack(volume, ack, Answer::Failed),
            Packet::Superseded(ack) => self.on_conflict_ack(volume, ack, false),
            Packet::RetryWrite(ack) => self.on_conflict_ack(volume, ack, true),
            Packet::NegDreply(ack) => self.on_neg_data_reply(volume, ack),
            Packet::NegRsDreply(ack) => self.on_resync_refused(volume, ack, true),
            Packet::RsCancel(ack) => self.on_resync_refused(volume, ack, false),
            Packet::RsIsInSync(ack) => self.on_resync_equal(volume, ack),
            Packet::BarrierAck { barrier, count } => self.on_barrier_ack(barrier, count),
            Packet::StateChgReply(code) => self.on_change_reply(Some(volume), code),
            Packet::ConnStChgReply(code) => self.on_change_reply(None, code),
            Packet::OvResult(ack) => self.on_verify_result(volume, ack),
            Packet::DelayProbe { .. } => {}
            other => {
                let text = format!("unexpected packet {} on the meta socket", other.name());
                self.lose_link(Conn::NetworkFailure, &text);
            }
        }
    }

    /// P_OUT_OF_SYNC (D68, W117).
    fn on_out_of_sync(&mut self, volume: VolumeId, range: BlockRange) {
        let Some(v) = self.volumes.get_mut(&volume) else {
            return self.unknown_volume("P_OUT_OF_SYNC", volume);
        };
        let extent = Extent::of_bytes(range.sector, u64::from(range.size)).filter(|e| e.end() <= v.end);
        match extent {
            Some(extent) => {
                if let Some(resync) = v.resync.as_mut() {
                    resync.outdate(extent);
                }
                self.mark_out_of_sync(volume, extent);
            }
            None => self.protocol_error("P_OUT_OF_SYNC for sectors outside the device"),
        }
    }

    /// P_STATE (S32).
    fn on_state(&mut self, volume: VolumeId, word: u32) {
        if !self.volumes.contains_key(&volume) {
            return self.ignore_volume("P_STATE", volume);
        }
        match State::from_word(word) {
            Ok(peer) => self.receive_state(volume, word, peer, None),
            Err(error) => self.protocol_error(&format!("P_STATE: {error}")),
        }
    }

    /// What the peer's state changes here. `aborted` is its disk state if an earlier try has found that
    /// its attach comes to nothing (S32.8).
    pub(super) fn receive_state(&mut self, volume: VolumeId, word: u32, peer: State, aborted: Option<Disk>) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        // Its UUIDs came before it, or it has no disk to send a bitmap of; or it names the disk as announced.
        let answers = v.peer_uuids.is_some() || peer.disk < Disk::Negotiating || peer.pdsk > Disk::Failed;
        v.marks.attach_unanswered &= !answers;
        let os = v.state;
        let peer_flags = v.peer_uuids.map_or(0, |uuids| uuids.flags);
        let said = aborted.unwrap_or_else(|| real_peer_disk(peer.disk, peer_flags));
        if os.conn <= Conn::TearDown {
            return;
        }
        let both = os.disk == Disk::UpToDate && said == Disk::UpToDate;
        if is_unsettled(os, said) && os.conn >= Conn::SyncSource && peer.conn == Conn::Connected {
            return self.target_is_done(volume); // S32.3
        }
        if os.conn.is_sync_source() && peer.conn == Conn::Connected && said == Disk::Inconsistent {
            return self.target_has_failed(volume);
        }
        if os.conn == Conn::VerifyT && both && peer.conn == Conn::Connected {
            return self.finish_verify(volume); // S32.4
        }
        if peer.disk >= Disk::Inconsistent && peer.disk != Disk::DUnknown && v.peer_uuids.is_none() {
            return self.protocol_error("P_STATE of an attached disk without P_UUIDS before it"); // W67
        }
        if peer.disk >= Disk::Negotiating && peer.disk != Disk::DUnknown && v.meets_other_data() {
            return self.refuse_other_data(volume); // The own disk was there when its UUIDs came.
        }
        let peer_disk = worth_of_peer_disk(os, peer, said);
        let mut conn = if os.conn == Conn::WFReportParams { Conn::Connected } else { os.conn };
        if peer.conn == Conn::Ahead {
            conn = Conn::Behind;
        } else if os.conn.is_verify() && peer_disk == Disk::Inconsistent {
            conn = Conn::Connected; // Its disk has failed, and a verify would keep it UpToDate (Z6).
        }
        if self.needs_handshake(volume, os, peer) {
            if self.is_generation_due(volume)
                && let Some(socket) = self.link().data
            {
                self.hold_data(true);
                return self.worker.push(Work::ReceiveState { socket, volume, word, aborted });
            }
            return self.begin_handshake(Meeting { volume, word, os, peer, peer_disk });
        }
        if self.waits_for_acceptance(volume, word, peer) {
            return;
        }
        self.accept_state(volume, os, peer, peer_disk, conn);
    }

    /// Work: goes on with the state whose handshake had to wait for the generation of what was written without
    /// the peer's disk, which comes back (A9, C11). The old UUIDs would take that for the newer one.
    pub(super) fn receive_state_late(
        &mut self,
        socket: SocketId,
        volume: VolumeId,
        word: u32,
        aborted: Option<Disk>,
    ) {
        if self.link().data != Some(socket) || !self.link().is_up() {
            return;
        }
        self.hold_data(false); // First: the handshake may hold it again.
        if let Ok(peer) = State::from_word(word) {
            self.receive_state(volume, word, peer, aborted);
        }
    }

    /// Whether the peer's state calls for the sync handshake (S32.7).
    fn needs_handshake(&self, volume: VolumeId, os: State, peer: State) -> bool {
        let Some(v) = self.volumes.get(&volume) else { return false };
        v.peer_uuids.is_some()
            && peer.disk >= Disk::Negotiating
            && os.disk >= Disk::Negotiating
            && (os.conn < Conn::Connected
                || (os.conn == Conn::Connected
                    && (peer.disk == Disk::Negotiating || os.disk == Disk::Negotiating))
                || v.marks.consider_resync
                || (os.conn == Conn::Connected
                    && (Conn::StartingSyncS..=Conn::WFBitMapT).contains(&peer.conn)))
    }

    /// A full sync: all bits are set durably before the state says so (S66.13). The peer's further
    /// packets wait meanwhile.
    pub(super) fn write_before_handshake(&mut self, volume: VolumeId, word: u32, conn: Conn) {
        if conn == Conn::WFBitMapS {
            self.part_with_the_replaced(volume);
        }
        self.work_before_more_data([
            Work::SetAllBits { volume },
            Work::ResumeHandshake { volume, word, conn },
        ]);
    }

    /// Queues work that has to be done before the peer's further packets are read.
    pub(super) fn work_before_more_data(&mut self, work: impl IntoIterator<Item = Work>) {
        let Some(socket) = self.link().data else { return };
        self.hold_data(true);
        work.into_iter().for_each(|work| self.worker.push(work));
        self.worker.push(Work::Unhold { socket });
    }

    /// Work: goes on with the state whose handshake had to write.
    pub(super) fn resume_handshake(&mut self, volume: VolumeId, word: u32, conn: Conn) {
        let Some(v) = self.volumes.get(&volume) else { return };
        let os = v.state;
        if os.conn <= Conn::TearDown || !self.link().is_up() {
            return;
        }
        let Ok(peer) = State::from_word(word) else { return };
        let flags = v.peer_uuids.map_or(0, |uuids| uuids.flags);
        let peer_disk = real_peer_disk(peer.disk, flags);
        if conn == Conn::WFBitMapS {
            self.count_bits_from_peer(volume);
        }
        self.accept_state(volume, os, peer, peer_disk, conn);
    }

    /// A refused handshake: who drops what (S32.7). Returns the peer's disk state to go on with.
    pub(super) fn refused_handshake(
        &mut self,
        volume: VolumeId,
        os: State,
        peer: State,
        dry_run: bool,
    ) -> Option<Disk> {
        if os.disk == Disk::Negotiating {
            self.force(volume, StateChange::disk(Disk::Failed));
            return None;
        }
        if peer.disk == Disk::Negotiating {
            let text = "Disk attach process on the peer node was aborted.";
            self.say(super::LogLevel::Error, Some(volume), text);
            // Nothing else would tell the peer, whose disk would negotiate for ever.
            self.send_state(volume);
            return Some(Disk::Diskless);
        }
        if dry_run {
            self.link_mut().dry_run = false;
            self.protocol_error("the peer only wanted to know what would happen (tentative)");
        } else {
            self.disconnect_hard();
        }
        None
    }

    /// Takes over the peer's state (S32.8 to 13).
    pub(super) fn accept_state(
        &mut self,
        volume: VolumeId,
        os: State,
        peer: State,
        peer_disk: Disk,
        conn: Conn,
    ) {
        if conn == peer.conn && matches!(conn, Conn::WFBitMapS | Conn::WFBitMapT) {
            // A role changed between the two decisions, and each would wait for the other for ever.
            return self.lose_link(Conn::ProtocolError, "both nodes took the same side of the resync");
        }
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        v.marks.consider_resync = false;
        v.unaccepted = None;
        let mut ns = State {
            conn,
            peer: peer.role,
            pdsk: peer_disk,
            peer_isp: peer.aftr_isp || peer.user_isp,
            ..v.state
        };
        if matches!(ns.conn, Conn::Connected | Conn::WFBitMapS)
            && ns.disk == Disk::Negotiating
            && let Some((disk, _)) = v.negotiated
        {
            // The peer had the data when the attach began, and lost its disk (S37.7).
            let newer = v.marks.newer_elsewhere;
            if !is_acceptable(State { pdsk: peer_disk, ..ns }, v.exposed_uuid, v.uuids()[0], newer) {
                let text = unacceptable_text(v.exposed_uuid);
                self.say(super::LogLevel::Error, Some(volume), text);
                _ = self.force(volume, StateChange::disk(Disk::Failed));
                return;
            }
            ns.disk = disk;
        }
        if ns.pdsk == Disk::Consistent
            && os.is_suspended()
            && ns.conn == Conn::Connected
            && os.conn < Conn::Connected
            && v.marks.new_uuid_due
        {
            return self.refuse_to_thaw(volume);
        }
        let establishes = os.conn < Conn::Connected && ns.conn >= Conn::Connected;
        let manner = if establishes { Manner::SOFT } else { Manner::HARD };
        let result = self.change(volume, StateChange::to(ns), manner);
        if !matches!(result, StateResult::Success | StateResult::NothingToDo) {
            let text = format!("the peer's state is not acceptable here: {}", result.message());
            return self.refuse_peer(&text);
        }
        let now_conn = self.volumes.get(&volume).map_or(Conn::StandAlone, |v| v.state.conn);
        if os.conn > Conn::WFReportParams
            && now_conn > Conn::Connected
            && peer.conn <= Conn::Connected
            && peer.disk != Disk::Negotiating
        {
            // We want a resync, and the peer has not decided yet (S32.12).
            self.worker.push(Work::SendUuids { volume, flags: 0 });
            self.worker.push(Work::SendState { volume });
        }
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.marks.discard_my_data = false;
        }
        self.prepare_bitmap_exchange(volume, now_conn);
        self.worker.push(Work::SyncMeta { volume });
    }

    /// Frozen I/O may not go on with a peer that is only Consistent: a new generation first
    /// (S32.10).
    fn refuse_to_thaw(&mut self, volume: VolumeId) {
        self.say(
            super::LogLevel::Error,
            Some(volume),
            "Aborting Connect, can not thaw IO with an only Consistent peer",
        );
        // What it acknowledged and did not confirm by a barrier ack it may have lost: the bits tell. The
        // log is of all volumes, so each of them that this node writes to gets a new generation, be it that another
        // one was connected already, and none was due any more: bits without one are no reason for a resync when
        // the peer comes back.
        self.connection_lost_requests();
        for v in self.volumes.values_mut() {
            v.marks.new_uuid_due |= v.state.role == Role::Primary;
        }
        self.generations_due().into_iter().for_each(|work| self.worker.push(work));
        self.force(volume, StateChange { susp: Some(false), ..StateChange::NOTHING });
        self.protocol_error("a new data generation is due before the peer may come back");
    }
}

/// Whether the peer says that its disk is as good as this one, which this node does not take for granted (S32.3).
const fn is_unsettled(os: State, said: Disk) -> bool {
    matches!(os.pdsk, Disk::Inconsistent | Disk::Consistent)
        && matches!((os.disk, said), (Disk::UpToDate, Disk::UpToDate))
}

/// What the peer's disk is worth, of which it `said` this, where it does not know yet what this node knows.
fn worth_of_peer_disk(os: State, peer: State, said: Disk) -> Disk {
    let connected = os.conn == Conn::Connected;
    let decides = peer.conn > Conn::Connected && peer.conn < Conn::SyncSource;
    let has_ended = os.pdsk == Disk::UpToDate && said == Disk::Inconsistent && peer.conn > Conn::SyncSource;
    let waits_for_bitmap = matches!(peer.conn, Conn::WFBitMapT | Conn::WFSyncUUID | Conn::StartingSyncT);
    let old = matches!(said, Disk::Outdated | Disk::Consistent);
    if is_unsettled(os, said) && os.conn > Conn::Connected && decides {
        Disk::Inconsistent // S32.3
    } else if connected && has_ended {
        Disk::UpToDate // S32.5
    } else if connected && os.disk <= Disk::Failed && waits_for_bitmap && old {
        Disk::Inconsistent // Its source is gone, and Z5 would call its old data good.
    } else {
        said
    }
}

/// What the peer's disk is worth while it is Negotiating (S32.1).
const fn real_peer_disk(disk: Disk, flags: u64) -> Disk {
    match disk {
        Disk::Negotiating if flags & 4 != 0 => Disk::Inconsistent,
        Disk::Negotiating => Disk::Consistent,
        other => other,
    }
}
