//! From two sockets to an authenticated peer: features and challenge-response (W35-W47), and the
//! search for the peer that comes before.

use std::net::IpAddr;
use std::time::Duration;

use super::Node;
use super::effect::{Effect, LogLevel};
use super::input::{DialFault, SocketEnd, SocketId};
use super::link::{Features, Phase};
use super::rendezvous::{Rendezvous, Step, Wish};
use super::worker::Work;
use crate::units::{Moment, VolumeId};
use crate::wire::auth::{AuthError, CramHmac};
use crate::wire::codec::Dialect;
use crate::wire::packet::{CHALLENGE_BYTES, Packet};
use crate::wire::{Phase as WirePhase, Reaction, Socket};

/// Protocol versions this node speaks (W223).
pub(super) const PROTOCOL_MIN: u32 = 100;
/// See [`PROTOCOL_MIN`].
pub(super) const PROTOCOL_MAX: u32 = 101;
/// Before the features are known, headers have this version's format (W18).
const FIRST_VERSION: u8 = 80;
/// Refused connections that are told of, and the time after which it counts anew.
const REFUSALS_TOLD: u32 = 20;
const REFUSALS_TIME: Duration = Duration::from_secs(10);
/// Pause after a failed greeting (W17).
const PAUSE: Duration = Duration::from_secs(1);

/// Which packet the greeting waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Await {
    Features,
    Challenge,
    Response,
    /// Our own introduction, behind the queued work.
    Introduction,
}

/// A greeting under way.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) waits_for: Await,
    pub(super) until: Moment,
    /// The own challenge (W42).
    challenge: [u8; CHALLENGE_BYTES],
}

impl Node {
    /// Begins to look for the peer.
    pub(super) fn start_meeting(&mut self) {
        let now = self.now;
        let link = self.link_mut();
        let Some(config) = &link.config else { return };
        let local = config.local;
        link.phase = Phase::Meeting(Rendezvous::new(now, config.times()));
        link.disconnect_sent = false;
        self.effects.push_back(Effect::Listen { local });
        self.rendezvous_tick();
    }

    /// Does what the search for the peer has due, and ends a pause or a greeting that took too long.
    pub(super) fn rendezvous_tick(&mut self) {
        let (now, toss) = (self.now, self.toss_if_meeting());
        match &mut self.link_mut().phase {
            Phase::Meeting(rendezvous) => {
                if rendezvous.deadline().is_some_and(|at| now >= at) {
                    let steps = rendezvous.tick(now, toss);
                    self.take_steps(steps);
                }
            }
            Phase::Greeting(greeting) if now >= greeting.until => {
                self.fail_greeting("the peer did not answer in time");
            }
            Phase::Pause { until } if now >= *until => self.start_meeting(),
            Phase::Idle | Phase::Greeting(_) | Phase::Up | Phase::Closing(_) | Phase::Pause { .. } => {}
        }
    }

    fn toss_if_meeting(&mut self) -> bool {
        matches!(self.link().phase, Phase::Meeting(_)) && self.toss()
    }

    fn take_steps(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Dial => self.dial(),
                Step::AbortDial => self.effects.push_back(Effect::AbortDial),
                Step::SendInitialData(socket) => self.send_first(socket, Packet::InitialData),
                Step::SendInitialMeta(socket) => self.send_first(socket, Packet::InitialMeta),
                Step::Close(socket) => self.effects.push_back(Effect::CloseSocket(socket)),
                Step::Settled { data, meta } => self.start_greeting(data, meta),
            }
        }
    }

    fn dial(&mut self) {
        if let Some(config) = &self.link().config {
            let (local, remote) = (config.local, config.peer);
            let timeout = config.times().connect;
            self.effects.push_back(Effect::Dial { local, remote, timeout });
        }
    }

    fn send_first(&mut self, socket: SocketId, packet: Packet) {
        self.effects.push_back(Effect::Send { socket, volume: VolumeId(0), packet, payload: None });
    }

    /// A dial ended.
    pub(super) fn on_dialed(&mut self, result: Result<SocketId, DialFault>) {
        let now = self.now;
        match (&mut self.link_mut().phase, result) {
            (Phase::Meeting(rendezvous), Ok(socket)) => {
                let steps = rendezvous.dialed(now, socket);
                self.take_steps(steps);
            }
            (Phase::Meeting(rendezvous), Err(_)) => rendezvous.dial_failed(),
            (_, Ok(socket)) => self.effects.push_back(Effect::CloseSocket(socket)),
            (_, Err(_)) => {}
        }
    }

    /// Somebody connected. Only the configured peer may (W6).
    pub(super) fn on_accepted(&mut self, socket: SocketId, from: IpAddr) {
        let now = self.now;
        let link = self.link_mut();
        let expected = link.config.as_ref().map(|config| config.peer.ip());
        let (steps, why) = match &mut link.phase {
            Phase::Meeting(rendezvous) if expected == Some(from) => {
                let steps = rendezvous.accepted(now, socket);
                let crowded = !steps.is_empty();
                (steps, crowded.then_some("too many connections that say nothing, this was the oldest"))
            }
            // Both nodes dial: what was under way when they had met is of no use, and harmless.
            _ if expected == Some(from) => (vec![Step::Close(socket)], None),
            _ => (vec![Step::Close(socket)], Some("only the configured peer may connect")),
        };
        if let Some(why) = why {
            self.say_refused(from, why);
        }
        self.take_steps(steps);
    }

    /// Says that a connection from this address was closed, and why; not more often than is of use.
    fn say_refused(&mut self, from: IpAddr, why: &str) {
        let now = self.now;
        let refusals = &mut self.link_mut().refusals;
        let untold = if now < refusals.until { 0 } else { std::mem::take(refusals).untold };
        if refusals.told == 0 {
            refusals.until = now.after(REFUSALS_TIME);
        }
        let tell = refusals.told < REFUSALS_TOLD;
        if tell {
            refusals.told += 1;
        } else {
            refusals.untold += 1;
        }
        if untold > 0 {
            self.say(LogLevel::Warn, None, format!("closed {untold} more connections like those before"));
        }
        if tell {
            self.say(LogLevel::Warn, None, format!("closed a connection from {from}: {why}"));
        }
    }

    /// Where the peer is configured to be.
    fn peer_ip(&self) -> IpAddr {
        let config = self.link().config.as_ref();
        config.map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |config| config.peer.ip())
    }

    /// Listening failed: the address is no good, and trying again will not mend it (W5).
    pub(super) fn on_listen_failed(&mut self, why: &str) {
        let text = format!("cannot listen: {why}; going StandAlone");
        self.say(LogLevel::Error, None, text);
        self.stand_alone();
    }

    /// The first packet of a socket that is not yet part of a pair.
    ///
    /// The two nodes end their settle checks (W12) at slightly different times: the features of the
    /// one that was first come while the other still checks.
    pub(super) fn on_first_packet(&mut self, socket: SocketId, packet: Packet) {
        let (now, toss) = (self.now, self.toss());
        let Phase::Meeting(rendezvous) = &mut self.link_mut().phase else { return };
        let steps = match packet {
            Packet::InitialData => rendezvous.first_packet(now, socket, Wish::Data, toss),
            Packet::InitialMeta => rendezvous.first_packet(now, socket, Wish::Meta, toss),
            Packet::ConnectionFeatures { .. } if rendezvous.is_data(socket) => {
                rendezvous.peer_settled(now, socket, packet);
                Vec::new()
            }
            other => {
                rendezvous.ended(now, socket);
                let why = format!("{} is no packet to begin with", other.name());
                self.say_refused(self.peer_ip(), &why);
                vec![Step::Close(socket)]
            }
        };
        self.take_steps(steps);
        self.rendezvous_tick();
    }

    /// Both sockets are settled: say what this node can (W35).
    fn start_greeting(&mut self, data: SocketId, meta: SocketId) {
        let until = self.now.after(self.link().config.as_ref().map_or(PAUSE, |c| c.greeting_timeout()));
        let mut challenge = [0; CHALLENGE_BYTES];
        (self.entropy)(&mut challenge);
        let link = self.link_mut();
        let mut early = None;
        if let Phase::Meeting(rendezvous) = &mut link.phase {
            link.resolver = rendezvous.is_resolver();
            early = rendezvous.take_early();
        }
        link.data = Some(data);
        link.meta = Some(meta);
        link.phase = Phase::Greeting(Greeting { waits_for: Await::Features, until, challenge });
        let integrity = link.config.as_ref().is_some_and(|c| c.options.data_integrity_alg.is_some());
        let flags = Features::ours(integrity).0;
        self.effects.push_back(Effect::Unlisten);
        self.effects.push_back(Effect::AbortDial);
        self.speak(FIRST_VERSION, Features(0));
        let packet = Packet::ConnectionFeatures { min: PROTOCOL_MIN, max: PROTOCOL_MAX, flags };
        self.send_first(data, packet);
        if let Some(features) = early {
            self.on_greeting_packet(features);
        }
    }

    /// Tells the shell how both sockets are framed from now on.
    pub(super) fn speak(&mut self, apv: u8, features: Features) {
        let link = self.link();
        let peer_digest_bytes = link.peer_digest.map_or(0, |alg| alg.digest_bytes());
        for (socket, kind) in [(link.data, Socket::Data), (link.meta, Socket::Meta)] {
            if let Some(socket) = socket {
                let dialect = Dialect { apv, features: features.0, peer_digest_bytes, socket: kind };
                self.effects.push_back(Effect::Speak { socket, dialect });
            }
        }
    }

    /// A packet on the data socket during the greeting.
    pub(super) fn on_greeting_packet(&mut self, packet: Packet) {
        let Phase::Greeting(greeting) = &self.link().phase else { return };
        match (greeting.waits_for, packet) {
            (Await::Features, Packet::ConnectionFeatures { min, max, flags }) => {
                self.on_features(min, max, flags)
            }
            (Await::Challenge, Packet::AuthChallenge(theirs)) => self.on_challenge(&theirs),
            (Await::Response, Packet::AuthResponse(theirs)) => self.on_response(&theirs),
            (Await::Features, other) => self.refuse_peer(&format!(
                "expected the peer's features, got {}: it does not speak this protocol",
                other.name()
            )),
            (Await::Challenge, other) => self.refuse_peer(&format!(
                "expected an authentication challenge, got {}: is cram-hmac-alg configured on the peer?",
                other.name()
            )),
            (Await::Response, other) => {
                self.fail_greeting(&format!("expected an authentication response, got {}", other.name()));
            }
            (Await::Introduction, other) => {
                self.fail_greeting(&format!("{} before this node introduced itself", other.name()));
            }
        }
    }

    /// The version is the smaller maximum, the features are what both have (W36, W37).
    fn on_features(&mut self, min: u32, max: u32, flags: u32) {
        let max = if max == 0 { min } else { max };
        if max < PROTOCOL_MIN || min > PROTOCOL_MAX {
            let text = format!(
                "incompatible protocol versions: the peer speaks {min} to {max}, this node \
                 {PROTOCOL_MIN} to {PROTOCOL_MAX}"
            );
            return self.refuse_peer(&text);
        }
        let apv = max.min(PROTOCOL_MAX) as u8;
        let link = self.link_mut();
        let integrity = link.config.as_ref().is_some_and(|c| c.options.data_integrity_alg.is_some());
        let features = Features(flags & Features::ours(integrity).0);
        link.apv = apv;
        link.features = features;
        let authenticate = link.config.as_ref().is_some_and(|c| c.options.cram_hmac_alg.is_some());
        self.speak(apv, features);
        let text = format!("agreed on protocol version {apv}, feature flags {:#x}", features.0);
        self.say(LogLevel::Info, None, text);
        if authenticate { self.send_challenge() } else { self.introduce_soon() }
    }

    fn send_challenge(&mut self) {
        let until = self.now.after(self.link().config.as_ref().map_or(PAUSE, |c| c.greeting_timeout()));
        let link = self.link_mut();
        let (Phase::Greeting(greeting), Some(data)) = (&mut link.phase, link.data) else { return };
        greeting.waits_for = Await::Challenge;
        greeting.until = until;
        let packet = Packet::AuthChallenge(greeting.challenge.to_vec());
        self.send_first(data, packet);
    }

    fn secret(&self) -> Result<CramHmac, AuthError> {
        let options = self.link().config.as_ref().map(|config| &config.options);
        let alg = options.and_then(|o| o.cram_hmac_alg.as_deref()).unwrap_or_default();
        let secret = options.and_then(|o| o.shared_secret.as_ref()).map_or("", |secret| secret.expose());
        CramHmac::new(alg, secret.as_bytes())
    }

    /// What an authentication error leads to (3.8).
    fn auth_failed(&mut self, error: &AuthError) {
        let text = format!("authentication of the peer failed: {error}");
        match error.reaction() {
            Reaction::StandAlone => self.refuse_peer(&text),
            Reaction::Retry | Reaction::CloseSocket | Reaction::ProtocolError | Reaction::NetworkFailure => {
                self.fail_greeting(&text)
            }
        }
    }

    /// Answers the peer's challenge (W43), unless it only reflects ours (W45).
    fn on_challenge(&mut self, theirs: &[u8]) {
        let Phase::Greeting(greeting) = &mut self.link_mut().phase else { return };
        greeting.waits_for = Await::Response;
        let own = greeting.challenge;
        let response = self.secret().and_then(|secret| secret.respond(&own, theirs));
        match (response, self.link().data) {
            (Ok(response), Some(data)) => self.send_first(data, Packet::AuthResponse(response)),
            (Err(error), _) => self.auth_failed(&error),
            (Ok(_), None) => {}
        }
    }

    /// Checks the peer's response, in constant time (W44).
    fn on_response(&mut self, theirs: &[u8]) {
        let Phase::Greeting(greeting) = &self.link().phase else { return };
        let own = greeting.challenge;
        match self.secret().and_then(|secret| secret.verify(&own, theirs)) {
            Ok(()) => {
                self.say(LogLevel::Info, None, "the peer knows the shared secret");
                self.introduce_soon();
            }
            Err(error) => self.auth_failed(&error),
        }
    }

    /// The peer is who it should be: introduce the volumes as soon as all queued work is done, so
    /// that nothing changes between what is sent and what is on disk (M90, W34). The peer does not
    /// wait for that: what it says of itself stays in the socket meanwhile.
    fn introduce_soon(&mut self) {
        let link = self.link_mut();
        let Phase::Greeting(greeting) = &mut link.phase else { return };
        greeting.waits_for = Await::Introduction;
        greeting.until = Moment::from_nanos(u64::MAX);
        self.hold_data(true);
        self.worker.push(Work::Introduce);
    }

    /// The attempt failed for a reason that may pass: a pause, then another (W17).
    pub(super) fn fail_greeting(&mut self, why: &str) {
        let text = format!("connection attempt{} failed: {why}; trying again", self.with_peer());
        self.say(LogLevel::Warn, None, text);
        let until = self.now.after(PAUSE);
        self.drop_sockets();
        self.link_mut().phase = Phase::Pause { until };
    }

    /// The attempt failed for a reason that only an administrator can mend: StandAlone (3.8).
    pub(super) fn refuse_peer(&mut self, why: &str) {
        let text = format!("{why}; dropping the connection{}, going StandAlone", self.with_peer());
        self.say(LogLevel::Error, None, text);
        self.disconnect_hard();
    }

    /// " with" the peer, for messages.
    pub(super) fn with_peer(&self) -> String {
        self.link().config.as_ref().map_or_else(String::new, |config| format!(" with {}", config.peer))
    }

    /// Closes whatever sockets there are, of a pair or of a search.
    pub(super) fn drop_sockets(&mut self) {
        let link = self.link_mut();
        link.unsent.clear();
        link.bitmap_unsent = false;
        let mut sockets: Vec<SocketId> = link.data.take().into_iter().chain(link.meta.take()).collect();
        if let Phase::Meeting(rendezvous) = &link.phase {
            sockets.extend(rendezvous.sockets());
            self.effects.push_back(Effect::AbortDial);
            self.effects.push_back(Effect::Unlisten);
        }
        for socket in sockets {
            self.worker.forget_socket(socket);
            self.effects.push_back(Effect::CloseSocket(socket));
        }
    }

    /// A socket ended by itself.
    pub(super) fn on_socket_ended(&mut self, socket: SocketId, end: &SocketEnd) {
        let now = self.now;
        let link = self.link_mut();
        let ours = link.data == Some(socket) || link.meta == Some(socket);
        let wire_phase = match &link.phase {
            Phase::Greeting(Greeting { waits_for: Await::Features, .. }) => WirePhase::Features,
            Phase::Greeting(Greeting { waits_for: Await::Challenge, .. }) => WirePhase::AuthChallenge,
            Phase::Greeting(Greeting { waits_for: Await::Response, .. }) => WirePhase::AuthResponse,
            Phase::Greeting(Greeting { waits_for: Await::Introduction, .. })
            | Phase::Idle
            | Phase::Meeting(_)
            | Phase::Up
            | Phase::Closing(_)
            | Phase::Pause { .. } => WirePhase::FirstPacket,
        };
        match &mut link.phase {
            Phase::Meeting(rendezvous) => {
                rendezvous.ended(now, socket);
                if let SocketEnd::Malformed(error) = end {
                    self.say_refused(self.peer_ip(), &error.to_string());
                }
                return;
            }
            Phase::Greeting(_) if ours => {}
            Phase::Up if ours => return self.lost_socket(socket, end),
            Phase::Idle | Phase::Greeting(_) | Phase::Up | Phase::Closing(_) | Phase::Pause { .. } => return,
        }
        match end {
            SocketEnd::Malformed(error) => match error.reaction(wire_phase) {
                Reaction::StandAlone => self.refuse_peer(&error.to_string()),
                Reaction::CloseSocket
                | Reaction::Retry
                | Reaction::ProtocolError
                | Reaction::NetworkFailure => self.fail_greeting(&error.to_string()),
            },
            SocketEnd::Closed => self.fail_greeting("the peer closed the connection"),
            SocketEnd::Error(errno) => self.fail_greeting(&format!("network error {errno}")),
        }
    }
}
