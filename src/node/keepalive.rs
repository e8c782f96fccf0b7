//! Proof of life: pings on the meta socket, and requests that stay unanswered (wire.md section 9,
//! D171 to D173).

use std::time::Duration;

use super::Node;
use super::input::SocketId;
use super::link::Phase;
use super::state::Conn;
use crate::units::{Moment, VolumeId};
use crate::wire::packet::Packet;

/// What is known of the peer's life.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeepAlive {
    /// Something was received last.
    heard: Moment,
    /// A ping is out since then.
    pinged: Option<Moment>,
    /// Pings sent on this connection, and their answers; who waits for one compares.
    pub(super) pings: u64,
    pub(super) pongs: u64,
    /// When to look next.
    next: Option<Moment>,
}

impl KeepAlive {
    /// A connection begins.
    pub(super) const fn start(&mut self, now: Moment) {
        *self = Self { heard: now, pinged: None, pings: 0, pongs: 0, next: Some(now) };
    }

    /// The connection ended.
    pub(super) const fn stop(&mut self) {
        self.next = None;
        self.pinged = None;
    }

    /// When to look next.
    pub(super) const fn deadline(&self) -> Option<Moment> {
        self.next
    }

    /// Something has to be heard within the ping timeout, as if a ping were out.
    pub(super) const fn expect(&mut self, now: Moment) {
        self.pinged = Some(now);
        self.next = Some(now);
    }

    /// Something was received on either socket (W200).
    pub(super) const fn heard(&mut self, now: Moment) {
        self.heard = now;
        if self.pinged.is_some() {
            self.pinged = Some(now); // It lives: the wait for the answer begins anew.
        }
    }
}

impl Node {
    /// Pings an idle peer, and gives up one that is dead.
    pub(super) fn keep_alive(&mut self) {
        if !matches!(self.link().phase, Phase::Up) {
            return;
        }
        let now = self.now;
        let Some(config) = &self.link().config else { return };
        let interval = Duration::from_secs(u64::from(config.options.ping_int_s));
        let patience = config.ping_timeout();
        let alive = self.link().alive;
        if alive.next.is_none_or(|at| now < at) {
            return;
        }
        match alive.pinged {
            Some(since) if now >= since.after(patience) => {
                return self.lose_link(Conn::NetworkFailure, "the peer does not answer pings");
            }
            None if now >= alive.heard.after(interval) => self.ping(),
            Some(_) | None => {}
        }
        if self.request_overdue() {
            return self.lose_link(Conn::Timeout, "the peer does not answer requests");
        }
        let alive = &mut self.link_mut().alive;
        let due = alive.pinged.map_or_else(|| alive.heard.after(interval), |since| since.after(patience));
        alive.next = Some(due.max(now.after(Duration::from_millis(1))).min(now.after(interval)));
    }

    /// Sends a ping and begins to wait for its answer.
    pub(super) fn ping(&mut self) {
        if !self.link().is_up() {
            return;
        }
        let now = self.now;
        self.send_meta(VolumeId(0), Packet::Ping);
        let alive = &mut self.link_mut().alive;
        alive.pings += 1;
        alive.pinged = Some(now);
        alive.next = Some(now);
    }

    /// The answer to a ping: all acks sent before it have been processed (W203).
    pub(super) fn on_ping_ack(&mut self) {
        let alive = &mut self.link_mut().alive;
        alive.pinged = None;
        alive.pongs += 1;
        self.pong_for_resync();
        self.pong_for_verify();
    }

    /// Whether a request, or a barrier, was not answered for too long (D173, W205).
    fn request_overdue(&self) -> bool {
        let link = self.link();
        let Some(limit) = link.config.as_ref().and_then(|config| config.request_timeout()) else {
            return false;
        };
        let now = self.now;
        if now.since(link.connected_at) < limit {
            return false;
        }
        let late = |sent_ns: u64| sent_ns != 0 && now.since(Moment::from_nanos(sent_ns)) >= limit;
        // What was sent on an earlier connection, and waits for frozen I/O to go on, this peer was never asked for.
        let oldest = self.log.iter().find(|(_, req)| req.net.used && req.net.pending && !req.net.lost);
        oldest.is_some_and(|(_, req)| late(req.sent_ns))
            || self.log.oldest_barrier().is_some_and(|barrier| late(barrier.sent_ns))
    }

    /// The network takes nothing any more (D172).
    pub(super) fn on_send_stalled(&mut self, socket: SocketId) {
        let link = self.link();
        if link.is_up() && (link.data == Some(socket) || link.meta == Some(socket)) {
            self.lose_link(Conn::Timeout, "the network takes no more data");
        }
    }
}
