//! How a connection ends, and what has to be settled before the next one (S27, S28, section 4.4 of
//! datapath.md).

use super::Node;
use super::effect::{Effect, LogLevel};
use super::input::{SocketEnd, SocketId};
use super::link::{Closing, Phase};
use super::peer_write::{PeerIo, Stage};
use super::state::{Conn, StateChange};
use super::volume::Volume;
use super::worker::Work;
use crate::wire::{Phase as WirePhase, Reaction, Socket};

impl Node {
    /// The connection is lost for this reason; the first reason stays (H5).
    pub(super) fn lose_link(&mut self, reason: Conn, why: &str) {
        if !matches!(self.link().phase, Phase::Up) || self.link().close_due {
            return;
        }
        let text = format!("connection{} lost ({reason}): {why}", self.with_peer());
        self.say(LogLevel::Warn, None, text);
        for volume in self.volume_ids() {
            self.force(volume, StateChange::conn(reason));
        }
        if !self.link().cstate.is_network_error() && self.link().cstate != Conn::Disconnecting {
            self.set_cstate(reason);
        }
        self.close_link();
    }

    /// The peer sent what no peer may send: reconnect (W213).
    pub(super) fn protocol_error(&mut self, why: &str) {
        self.lose_link(Conn::ProtocolError, why);
    }

    /// Closes the sockets and begins to settle what was under way. A handshake that waits for a
    /// handler comes to its end first (S75).
    pub(super) fn close_link(&mut self) {
        if self.link().handshake.is_some() {
            self.link_mut().close_due = true;
            self.link_mut().alive.stop();
            return;
        }
        self.drop_sockets();
        let now = self.now;
        let link = self.link_mut();
        link.parted_at = Some(now);
        link.alive.stop();
        link.state_sent = false;
        link.replies.clear();
        let reads = std::mem::take(&mut link.peer_reads);
        link.waiting_reads.clear();
        link.phase = Phase::Closing(Closing::PeerIo);
        for read in reads.into_values() {
            if let Some(v) = self.volumes.get_mut(&read.volume) {
                v.counters.lo = v.counters.lo.saturating_sub(1);
            }
        }
        self.drop_unstarted_io();
        for volume in self.volume_ids() {
            self.forget_asked(volume);
            self.stop_resync(volume);
        }
        self.advance_teardown();
    }

    /// Resync blocks that have not begun are dropped: they will come again. The peer's writes are
    /// carried out all the same: their sender may have answered its client, and be gone (I2). Except
    /// for those that wait for own ones (D179): their sender has not, and may send them anew on another
    /// connection, on which the two are judged once more.
    fn drop_unstarted_io(&mut self) {
        let rival = |io: &PeerIo| self.own_writes(io.volume, io.extent).next().is_some();
        let waiting: Vec<u64> = self
            .link()
            .peer_ios
            .iter()
            .filter(|(_, io)| io.stage == Stage::Waiting && (io.epoch.is_none() || rival(io)))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            let Some(io) = self.link_mut().peer_ios.remove(&id) else { continue };
            if let Some(v) = self.volumes.get_mut(&io.volume) {
                v.counters.ua = v.counters.ua.saturating_sub(1);
            }
            // Later epochs do not wait for what never comes (I21).
            if let Some(epoch) = io.epoch {
                self.link_mut().epochs.finished(epoch);
            }
        }
        self.forget_withheld();
        self.start_waiting_ios();
        // Own writes may have waited for one that was dropped.
        for volume in self.volume_ids() {
            self.route_those_behind(volume);
        }
    }

    /// Goes on with a teardown once the peer's writes have left the disk (S28.3).
    pub(super) fn advance_teardown(&mut self) {
        let link = self.link();
        if !matches!(link.phase, Phase::Closing(Closing::PeerIo))
            || !link.peer_ios.is_empty()
            || link.epoch_flushes > 0
        {
            return;
        }
        let link = self.link_mut();
        link.phase = Phase::Closing(Closing::Work);
        link.epochs = super::epochs::Epochs::default();
        link.in_sync_writes.clear();
        link.epoch_flush_failed = false;
        for v in self.volumes.values_mut() {
            v.peer_uuids = None;
            v.unaccepted = None;
            v.bitmap_in = None;
            v.counters.ua = 0;
        }
        // The data first: this node may be promoted, and then its disk is the only truth (T37).
        for volume in self.volume_ids() {
            self.worker.push(Work::FlushData { volume });
        }
        self.worker.push(Work::Sweep);
        for volume in self.volume_ids() {
            self.worker.push(Work::WriteBitmap { volume, all: false });
            self.worker.push(Work::SyncMeta { volume });
        }
        self.worker.push(Work::Reconnect);
    }

    /// Work: the requests that the connection left open. What was queued before, a new generation
    /// among it, is durable by now (D77).
    pub(super) fn sweep(&mut self) {
        self.distrust_lost_peer();
        let suspended = self.volumes.values().any(|v| v.state.is_suspended());
        if suspended {
            self.connection_lost_while_frozen();
        } else {
            self.connection_lost_requests();
        }
        self.say(LogLevel::Info, None, "Connection closed");
    }

    /// Work: looks for the peer again, or ends StandAlone (S28.6).
    pub(super) fn reconnect(&mut self) {
        if !matches!(self.link().phase, Phase::Closing(_)) {
            return;
        }
        self.link_mut().apv = 0;
        self.link_mut().resolver = false;
        self.link_mut().peer_digest = None;
        self.fence_lost_peer();
        if self.link().cstate == Conn::Disconnecting {
            return self.stand_alone();
        }
        self.look_for_peer();
    }

    /// Unconnected, then WFConnection.
    pub(super) fn look_for_peer(&mut self) {
        for conn in [Conn::Unconnected, Conn::WFConnection] {
            for volume in self.volume_ids() {
                self.force(volume, StateChange::conn(conn));
            }
            self.set_cstate(conn);
        }
        self.start_meeting();
    }

    /// Ends StandAlone: the network configuration is forgotten (S26.2).
    pub(super) fn stand_alone(&mut self) {
        self.drop_sockets();
        self.link_mut().phase = Phase::Idle;
        if self.link().cstate == Conn::StandAlone {
            return;
        }
        if self.link().cstate != Conn::Disconnecting {
            self.force_connection(Conn::Disconnecting);
        }
        self.force_connection(Conn::StandAlone);
        let link = self.link_mut();
        link.config = None;
        link.apv = 0;
        self.effects.push_back(Effect::StatusChanged);
    }

    /// Gives the connection up without asking the peer (HARD Disconnecting).
    pub(super) fn disconnect_hard(&mut self) {
        if self.link().cstate == Conn::StandAlone {
            return;
        }
        self.volumes.values_mut().filter(|v| v.state.conn >= Conn::Connected).for_each(Volume::parts);
        self.distrust_lost_peer();
        self.force_connection(Conn::Disconnecting);
        match self.link().phase {
            Phase::Up => self.close_link(),
            Phase::Closing(_) => {}
            Phase::Idle | Phase::Meeting(_) | Phase::Greeting(_) | Phase::Pause { .. } => self.stand_alone(),
        }
    }

    /// The peer tore the connection down in good order (W198, W208): its request was answered.
    pub(super) fn torn_down(&mut self) {
        if matches!(self.link().phase, Phase::Up) {
            self.set_cstate(Conn::TearDown);
            self.close_link();
        }
    }

    /// One of the two sockets of an established connection ended: so does the connection (W212).
    pub(super) fn lost_socket(&mut self, socket: SocketId, end: &SocketEnd) {
        let data = self.link().data == Some(socket);
        if self.link().disconnect_sent && data && matches!(end, SocketEnd::Closed | SocketEnd::Error(_)) {
            // The answer to our disconnect request may still be on the meta socket (W209).
            self.link_mut().data = None;
            let now = self.now;
            self.link_mut().alive.expect(now);
            return;
        }
        let phase = WirePhase::Established(if data { Socket::Data } else { Socket::Meta });
        match end {
            SocketEnd::Malformed(error) => match error.reaction(phase) {
                Reaction::StandAlone => self.refuse_peer(&error.to_string()),
                Reaction::ProtocolError => self.protocol_error(&error.to_string()),
                Reaction::NetworkFailure | Reaction::Retry | Reaction::CloseSocket => {
                    self.lose_link(Conn::NetworkFailure, &error.to_string());
                }
            },
            SocketEnd::Closed if data => self.lose_link(Conn::BrokenPipe, "the peer closed the data socket"),
            SocketEnd::Closed => self.lose_link(Conn::NetworkFailure, "the peer closed the meta socket"),
            SocketEnd::Error(errno) => {
                let reason = if data { Conn::BrokenPipe } else { Conn::NetworkFailure };
                self.lose_link(reason, &format!("network error {errno}"));
            }
        }
    }
}
