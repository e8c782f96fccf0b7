//! One peer: the connection to it and what was agreed on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Node;
use super::conflict::EarlyWrite;
use super::effect::Effect;
use super::epochs::{EpochKey, Epochs};
use super::greeting::Greeting;
use super::input::SocketId;
use super::keepalive::KeepAlive;
use super::peer_write::PeerIo;
use super::rendezvous::{Rendezvous, Times};
use super::state::Conn;
use super::sync_handshake::Handshake;
use super::transfer_log::ReqKey;
use crate::buffer::Buf;
use crate::config::options::{NetOptions, Protocol};
use crate::units::{Extent, Moment, VolumeId};
use crate::wire::digest::DigestAlg;
use crate::wire::packet::{Packet, features};

/// Feature flags of W37.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features(pub(super) u32);

impl Features {
    const TRIM: u32 = 1;
    const WSAME: u32 = 4;
    const ZEROES: u32 = 8;
    /// No kernel has it: resync blocks are flushed before they are acknowledged.
    const RESYNC_IS_DURABLE: u32 = features::RESYNC_IS_DURABLE;

    /// What this node announces. Zeroes not with an integrity algorithm: the kernel's receiver
    /// would expect a digest (W40).
    pub(super) const fn ours(integrity: bool) -> Self {
        let always = Self::TRIM | Self::WSAME | Self::RESYNC_IS_DURABLE;
        Self(if integrity { always } else { always | Self::ZEROES })
    }

    /// What the peer acknowledges in a resync it cannot lose (T1).
    pub(super) const fn resync_is_durable(self) -> bool {
        self.0 & Self::RESYNC_IS_DURABLE != 0
    }

    /// Trims up to 128 MiB, and rule 41 of the UUID comparison.
    pub(super) const fn large_trims(self) -> bool {
        self.0 & Self::WSAME != 0
    }

    /// P_ZEROES is understood.
    pub(super) const fn zeroes(self) -> bool {
        self.0 & Self::ZEROES != 0
    }
}

/// How the connection is configured.
#[derive(Clone, Debug)]
pub(super) struct NetConfig {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) options: NetOptions,
    /// Single shot (S29i).
    pub(super) discard_my_data: bool,
    pub(super) tentative: bool,
}

impl NetConfig {
    pub(super) fn ping_timeout(&self) -> Duration {
        tenths(u64::from(self.options.ping_timeout_ds))
    }

    /// How long a step of the greeting may take (W12, W16): at least 5 s.
    pub(super) fn greeting_timeout(&self) -> Duration {
        (self.ping_timeout() * 5).max(Duration::from_secs(5))
    }

    pub(super) fn times(&self) -> Times {
        Times {
            connect: Duration::from_secs(u64::from(self.options.connect_int_s)),
            settle: match self.options.socket_check_timeout_ds {
                0 => self.ping_timeout(),
                ds => tenths(u64::from(ds)),
            },
            first_packet: self.ping_timeout() * 4,
        }
    }

    /// Without progress for so long a send queue is stalled (D172); 0 tries never give up.
    pub(super) fn send_timeout(&self) -> Duration {
        let tries = self.options.ko_count.max(1);
        tenths(u64::from(self.options.timeout_ds) * u64::from(tries))
    }

    /// A request unanswered for so long ends the connection (D173); `None` if that is off.
    pub(super) fn request_timeout(&self) -> Option<Duration> {
        let ds = u64::from(self.options.timeout_ds) * u64::from(self.options.ko_count);
        (ds > 0).then(|| tenths(ds))
    }
}

/// So many tenths of a second, the unit of the options' times.
const fn tenths(ds: u64) -> Duration {
    Duration::from_millis(ds * 100)
}

/// Where the connection stands. The states that users see are in `Link::cstate`.
#[derive(Debug)]
pub(super) enum Phase {
    /// Not looking for the peer.
    Idle,
    /// Looking for it.
    Meeting(Rendezvous),
    /// Both sockets are there; features and authentication.
    Greeting(Greeting),
    /// The parameters are exchanged, or being so.
    Up,
    /// Closed; what was under way is being settled.
    Closing(Closing),
    /// A greeting failed: a pause before the next attempt (W17).
    Pause { until: Moment },
}

/// What a teardown still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// The peer's I/O is on the disk.
    PeerIo,
    /// The worker does the rest.
    Work,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) phase: Phase,
    pub(super) config: Option<NetConfig>,
    /// StandAlone to WFReportParams (S1).
    pub(super) cstate: Conn,
    pub(super) data: Option<SocketId>,
    pub(super) meta: Option<SocketId>,
    /// This node accepted the meta socket (W14).
    pub(super) resolver: bool,
    /// Agreed protocol version, 0 while not connected.
    pub(super) apv: u8,
    pub(super) features: Features,
    /// Own parameters are sent, and volumes are still in WFReportParams (S12, T7).
    pub(super) state_sent: bool,
    /// P_PROTOCOL was received and found equal.
    pub(super) protocol_checked: bool,
    /// The peer only wants to know what would happen (W51).
    pub(super) dry_run: bool,
    /// A disconnect request was sent: EOF may come before its answer (W209).
    pub(super) disconnect_sent: bool,
    pub(super) own_digest: Option<DigestAlg>,
    pub(super) peer_digest: Option<DigestAlg>,
    pub(super) alive: KeepAlive,
    pub(super) epochs: Epochs,
    /// A flush for barrier acks is under way on so many volumes, and whether one failed.
    pub(super) epoch_flushes: u32,
    pub(super) epoch_flush_failed: bool,
    /// When the barrier of a closed epoch goes out, if no write takes it along before.
    pub(super) barrier_at: Option<Moment>,
    /// The newest epoch that somebody was said to wait for.
    pub(super) hurried: Option<u32>,
    /// When the next flush for barrier acks may begin; flushes are shared.
    pub(super) epoch_flush_at: Option<Moment>,
    /// Writes answered as in sync whose epoch is not durable yet (T1).
    pub(super) in_sync_writes: Vec<(EpochKey, VolumeId, Extent)>,
    /// Own writes that met one of the peer's, and the epoch of that one (T8).
    pub(super) withheld: Vec<(ReqKey, EpochKey)>,
    /// A write of the peer that waits for acks sent before it (D178).
    pub(super) early_write: Option<EarlyWrite>,
    /// The peer's I/O under way here.
    pub(super) peer_ios: BTreeMap<u64, PeerIo>,
    pub(super) next_io: u64,
    /// Number of the next change that the peer asks for and that has to be prepared.
    pub(super) next_asked: u64,
    /// Reads for the peer under way.
    pub(super) peer_reads: super::peer_read::PeerReads,
    /// Reads for the peer that wait for writes of the peer to the same sectors.
    pub(super) waiting_reads: Vec<super::peer_read::PeerRead>,
    /// Answers to state change requests, by volume; `None` for the connection's.
    pub(super) replies: BTreeMap<Option<VolumeId>, ChangeReply>,
    /// Protocol A writes not yet taken by the network (D30).
    pub(super) unsent: Vec<ReqKey>,
    /// A piece of a bitmap waits to be taken by the network.
    pub(super) bitmap_unsent: bool,
    pub(super) connected_at: Moment,
    /// When the last connection ended.
    pub(super) parted_at: Option<Moment>,
    pub(super) refusals: Refusals,
    /// How often a volume went to Connected or beyond (S1).
    pub(super) connect_count: u64,
    /// The sync handshake that waits for a handler.
    pub(super) handshake: Option<Handshake>,
    /// The connection ended while a handshake waited: close it afterwards.
    pub(super) close_due: bool,
}

/// What is known of the answer to a state change request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeReply {
    /// Somebody waits for it.
    Awaited,
    /// It will come, and nobody needs it any more. The next request waits for it all the same: answers have
    /// no number (W196).
    Unneeded,
    /// The peer's code.
    Given(i32),
}

/// How many refused connections were told of lately: a flood must not fill the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusals {
    /// When the count begins anew.
    pub(super) until: Moment,
    pub(super) told: u32,
    pub(super) untold: u32,
}

impl Link {
    /// A peer that is not configured.
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Idle,
            config: None,
            cstate: Conn::StandAlone,
            data: None,
            meta: None,
            resolver: false,
            apv: 0,
            features: Features::default(),
            state_sent: false,
            protocol_checked: false,
            dry_run: false,
            disconnect_sent: false,
            own_digest: None,
            peer_digest: None,
            alive: KeepAlive::default(),
            epochs: Epochs::default(),
            epoch_flushes: 0,
            epoch_flush_failed: false,
            withheld: Vec::new(),
            early_write: None,
            barrier_at: None,
            hurried: None,
            epoch_flush_at: None,
            in_sync_writes: Vec::new(),
            peer_ios: BTreeMap::new(),
            next_io: 0,
            next_asked: 0,
            peer_reads: BTreeMap::new(),
            waiting_reads: Vec::new(),
            replies: BTreeMap::new(),
            unsent: Vec::new(),
            bitmap_unsent: false,
            connected_at: Moment::default(),
            parted_at: None,
            refusals: Refusals::default(),
            connect_count: 0,
            handshake: None,
            close_due: false,
        }
    }

    /// Whether packets can be exchanged.
    pub(super) const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up)
    }

    /// Admitted requests at most (D5).
    pub(super) fn max_buffers(&self) -> u32 {
        self.config.as_ref().map_or(1_000_000, |config| config.options.max_buffers)
    }

    /// Writes in an epoch at most (D18).
    pub(super) fn max_epoch_size(&self) -> u32 {
        self.config.as_ref().map_or(u32::MAX, |config| config.options.max_epoch_size)
    }

    /// The configured replication protocol.
    pub(super) fn protocol(&self) -> Protocol {
        self.config.as_ref().map_or(Protocol::C, |config| config.options.protocol)
    }

    /// The digest of block data to be sent, empty if none is configured (W92).
    pub(super) fn digest_of(&self, data: &[u8]) -> Vec<u8> {
        self.own_digest.map_or_else(Vec::new, |alg| alg.digest(data).to_vec())
    }

    /// When this peer needs attention.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let phase = match &self.phase {
            Phase::Idle | Phase::Closing(_) => None,
            Phase::Meeting(rendezvous) => rendezvous.deadline(),
            Phase::Greeting(greeting) => Some(greeting.until),
            Phase::Up => self.alive.deadline(),
            Phase::Pause { until } => Some(*until),
        };
        let flush = self.epoch_flush_at.filter(|_| {
            self.epoch_flushes == 0 && !self.epoch_flush_failed && self.epochs.done_unflushed() > 0
        });
        let early = self.early_write.as_ref().map(|early| early.until);
        [phase, flush, self.barrier_at, early].into_iter().flatten().min()
    }
}

impl Node {
    /// The peer. There is one today.
    pub(super) fn link(&self) -> &Link {
        &self.links[0]
    }

    /// The peer. There is one today.
    pub(super) fn link_mut(&mut self) -> &mut Link {
        &mut self.links[0]
    }

    /// Stops to read the data socket, or goes on; without one there is nothing to do.
    pub(super) fn hold_data(&mut self, hold: bool) {
        if let Some(socket) = self.link().data {
            self.effects.push_back(Effect::Hold { socket, hold });
        }
    }

    /// Sends a packet on the data socket, behind the work that is queued (D2).
    pub(super) fn send_data(&mut self, volume: VolumeId, packet: Packet, payload: Option<Buf>) {
        let Some(socket) = self.link().data else { return };
        if self.worker.is_idle() {
            self.effects.push_back(Effect::Send { socket, volume, packet, payload });
        } else {
            let packet = Box::new(packet);
            self.worker.push(super::worker::Work::Send { socket, volume, packet, payload });
        }
    }

    /// Sends a packet on the data socket at once: for the worker itself.
    pub(super) fn send_now(&mut self, volume: VolumeId, packet: Packet) {
        if let Some(socket) = self.link().data {
            self.effects.push_back(Effect::Send { socket, volume, packet, payload: None });
        }
    }

    /// Sends a packet on the meta socket: acks and pings wait for nothing (W201).
    pub(super) fn send_meta(&mut self, volume: VolumeId, packet: Packet) {
        if let Some(socket) = self.link().meta {
            self.effects.push_back(Effect::Send { socket, volume, packet, payload: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_settle_for_the_ping_timeout_unless_their_check_has_a_time_of_its_own() {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 7788));
        let settle = |options: NetOptions| {
            let config = NetConfig {
                local: nowhere,
                peer: nowhere,
                options,
                discard_my_data: false,
                tentative: false,
            };
            config.times().settle
        };
        let patient = NetOptions { ping_timeout_ds: 100, ..NetOptions::default() };
        assert_eq!(settle(patient.clone()), Duration::from_secs(10), "W12");
        let checked = NetOptions { socket_check_timeout_ds: 1, ..patient };
        assert_eq!(settle(checked), Duration::from_millis(100));
    }
}
