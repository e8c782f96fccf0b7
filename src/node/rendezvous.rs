//! How two nodes find each other: both listen and dial until they share a data and a meta socket
//! (wire.md section 1). The first packet of a dialer says which socket it wants to be.

use std::time::Duration;

use super::input::SocketId;
use crate::units::Moment;
use crate::wire::Packet;

/// A step the link has to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Start a dial.
    Dial,
    /// Stop the dial under way: the other side was faster.
    AbortDial,
    /// Send P_INITIAL_DATA on a socket we dialed.
    SendInitialData(SocketId),
    /// Send P_INITIAL_META on a socket we dialed.
    SendInitialMeta(SocketId),
    /// Close a socket.
    Close(SocketId),
    /// Both sockets are settled.
    Settled { data: SocketId, meta: SocketId },
}

/// What the first packet of an accepted socket asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Data,
    Meta,
}

/// Times of the rendezvous, from the net options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Between dials (connect-int).
    pub(super) connect: Duration,
    /// How long both sockets must have lived before they are trusted (W12).
    pub(super) settle: Duration,
    /// How long an accepted socket may stay silent (W9): 4 x ping-timeout.
    pub(super) first_packet: Duration,
}

/// An accepted socket whose first packet has not come.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    socket: SocketId,
    until: Moment,
}

/// At most this many silent sockets are kept: a flood of connections costs a fixed amount (W6).
const MAX_FRESH: usize = 8;

/// The search for a pair of sockets (W10).
#[derive(Debug)]
pub(super) struct Rendezvous {
    times: Times,
    data: Option<SocketId>,
    meta: Option<SocketId>,
    /// The resolver flag: we accepted the meta socket (W14).
    resolver: bool,
    fresh: Vec<Fresh>,
    dialing: bool,
    next_dial: Moment,
    settle_at: Option<Moment>,
    /// The features of a peer that settled first, on this data socket.
    early: Option<(SocketId, Packet)>,
}

impl Rendezvous {
    /// Begins to look for the peer; the first dial is due at once.
    pub(super) const fn new(now: Moment, times: Times) -> Self {
        Self {
            times,
            data: None,
            meta: None,
            resolver: false,
            fresh: Vec::new(),
            dialing: false,
            next_dial: now,
            settle_at: None,
            early: None,
        }
    }

    /// Whether this is the data socket of the pair to be.
    pub(super) fn is_data(&self, socket: SocketId) -> bool {
        self.data == Some(socket)
    }

    /// The peer settled before us, and its features are here: there is nothing left to check (W12).
    pub(super) fn peer_settled(&mut self, now: Moment, socket: SocketId, features: Packet) {
        self.early = Some((socket, features));
        self.check_pair(now);
    }

    /// Takes what the peer said already on the data socket of the pair.
    pub(super) fn take_early(&mut self) -> Option<Packet> {
        let (socket, features) = self.early.take()?;
        self.is_data(socket).then_some(features)
    }

    /// Whether this node accepted the meta socket (W14).
    pub(super) const fn is_resolver(&self) -> bool {
        self.resolver
    }

    /// When [`Rendezvous::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let dial = (!self.dialing && self.settle_at.is_none()).then_some(self.next_dial);
        let fresh = self.fresh.iter().map(|f| f.until).min();
        [dial, fresh, self.settle_at].into_iter().flatten().min()
    }

    /// Does what is due. `toss` is a random bit that breaks ties between two dialers (W10, W11).
    pub(super) fn tick(&mut self, now: Moment, toss: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        self.fresh.retain(|fresh| {
            let keep = now < fresh.until;
            if !keep {
                steps.push(Step::Close(fresh.socket));
            }
            keep
        });
        if let (Some(at), Some(data), Some(meta)) = (self.settle_at, self.data, self.meta)
            && now >= at
        {
            steps.extend(self.fresh.drain(..).map(|fresh| Step::Close(fresh.socket)));
            steps.push(Step::Settled { data, meta });
            self.settle_at = None;
            return steps;
        }
        if !self.dialing && self.settle_at.is_none() && now >= self.next_dial {
            self.dialing = true;
            self.next_dial = self.after_a_wait(now, toss);
            steps.push(Step::Dial);
        }
        steps
    }

    /// The time of the next dial: connect-int x 6/7 or x 8/7 (W10.3).
    fn after_a_wait(&self, now: Moment, toss: bool) -> Moment {
        now.after(self.times.connect * if toss { 8 } else { 6 } / 7)
    }

    /// A dial succeeded: the socket becomes what is missing (W10.1).
    pub(super) fn dialed(&mut self, now: Moment, socket: SocketId) -> Vec<Step> {
        self.dialing = false;
        if self.data.is_none() {
            self.data = Some(socket);
            // The peer answers by dialing the meta socket back (W13); if it does not, we dial it.
            self.check_pair(now);
            vec![Step::SendInitialData(socket)]
        } else if self.meta.is_none() {
            self.meta = Some(socket);
            self.resolver = false;
            self.check_pair(now);
            vec![Step::SendInitialMeta(socket)]
        } else {
            vec![Step::Close(socket)]
        }
    }

    /// A dial failed (W5): wait, then again.
    pub(super) const fn dial_failed(&mut self) {
        self.dialing = false;
    }

    /// Somebody connected to us. Of too many that say nothing the oldest gives way: the peer speaks at
    /// once.
    pub(super) fn accepted(&mut self, now: Moment, socket: SocketId) -> Vec<Step> {
        let oldest = (self.fresh.len() >= MAX_FRESH).then(|| self.fresh.remove(0));
        self.fresh.push(Fresh { socket, until: now.after(self.times.first_packet) });
        oldest.map(|oldest| Step::Close(oldest.socket)).into_iter().collect()
    }

    /// The first packet of an accepted socket; one already held in that role gives way (W11).
    pub(super) fn first_packet(
        &mut self,
        now: Moment,
        socket: SocketId,
        wish: Wish,
        toss: bool,
    ) -> Vec<Step> {
        let Some(at) = self.fresh.iter().position(|fresh| fresh.socket == socket) else {
            return vec![Step::Close(socket)];
        };
        self.fresh.remove(at);
        let slot = match wish {
            Wish::Data => &mut self.data,
            Wish::Meta => &mut self.meta,
        };
        let crossed = slot.replace(socket);
        if wish == Wish::Meta {
            self.resolver = true;
        }
        let mut steps: Vec<Step> = crossed.map(Step::Close).into_iter().collect();
        self.check_pair(now);
        if self.settle_at.is_some() && self.dialing {
            self.dialing = false;
            steps.push(Step::AbortDial);
        }
        if self.settle_at.is_none() {
            // Dial the missing one back at once (W13), unless a crossed dial says to wait (W11).
            self.next_dial = if crossed.is_some() && toss { self.after_a_wait(now, false) } else { now };
        }
        steps
    }

    /// A socket died while it was only half of a pair (W12, W19).
    pub(super) fn ended(&mut self, now: Moment, socket: SocketId) {
        self.fresh.retain(|fresh| fresh.socket != socket);
        if self.data == Some(socket) {
            self.data = None;
        }
        if self.meta == Some(socket) {
            self.meta = None;
        }
        self.check_pair(now);
    }

    /// Starts or stops the settle check (W12).
    fn check_pair(&mut self, now: Moment) {
        let both = self.data.is_some() && self.meta.is_some();
        let peer_settled = self.early.as_ref().is_some_and(|(socket, _)| self.is_data(*socket));
        let wait = if peer_settled { Duration::ZERO } else { self.times.settle };
        self.settle_at = both.then(|| now.after(wait));
    }

    /// All sockets held, to close them when the search is given up.
    pub(super) fn sockets(&self) -> Vec<SocketId> {
        self.fresh.iter().map(|fresh| fresh.socket).chain(self.data).chain(self.meta).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        connect: Duration::from_secs(10),
        settle: Duration::from_millis(500),
        first_packet: Duration::from_secs(2),
    };

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn the_node_that_comes_second_dials_data_and_the_first_dials_meta_back() {
        let mut first = Rendezvous::new(at(0), TIMES);
        assert_eq!(first.tick(at(0), false), [Step::Dial]);
        first.dial_failed();
        assert!(first.accepted(at(100), SocketId(1)).is_empty());
        assert!(first.first_packet(at(100), SocketId(1), Wish::Data, false).is_empty());
        assert_eq!(first.tick(at(100), false), [Step::Dial], "dials the meta socket at once");
        assert_eq!(first.dialed(at(101), SocketId(2)), [Step::SendInitialMeta(SocketId(2))]);
        assert_eq!(first.tick(at(600), false), []);
        assert_eq!(
            first.tick(at(601), false),
            [Step::Settled { data: SocketId(1), meta: SocketId(2) }],
            "both lived for the settle time (W12)"
        );
        assert!(!first.is_resolver(), "the dialer of the meta socket is not the resolver (W14)");
    }

    #[test]
    fn features_of_a_peer_that_settled_first_settle_the_pair() {
        let features = Packet::ConnectionFeatures { min: 100, max: 101, flags: 0 };
        let mut node = Rendezvous::new(at(0), TIMES);
        node.tick(at(0), false);
        node.dialed(at(1), SocketId(1));
        node.accepted(at(2), SocketId(2));
        node.first_packet(at(2), SocketId(2), Wish::Meta, false);
        node.peer_settled(at(501), SocketId(1), features.clone());
        assert_eq!(
            node.tick(at(501), false),
            [Step::Settled { data: SocketId(1), meta: SocketId(2) }],
            "not only at 502 ms"
        );
        assert_eq!(node.take_early(), Some(features));
        assert_eq!(node.take_early(), None);
    }

    #[test]
    fn features_on_a_socket_that_was_replaced_are_forgotten() {
        let mut node = Rendezvous::new(at(0), TIMES);
        node.tick(at(0), false);
        node.dialed(at(1), SocketId(1));
        node.peer_settled(at(2), SocketId(1), Packet::ConnectionFeatures { min: 100, max: 101, flags: 0 });
        node.accepted(at(3), SocketId(2));
        node.first_packet(at(3), SocketId(2), Wish::Data, false);
        assert_eq!(node.take_early(), None);
    }

    #[test]
    fn a_crossed_dial_replaces_the_held_socket() {
        let mut node = Rendezvous::new(at(0), TIMES);
        node.tick(at(0), false);
        node.dialed(at(1), SocketId(1));
        node.accepted(at(2), SocketId(2));
        assert_eq!(node.first_packet(at(2), SocketId(2), Wish::Data, false), [Step::Close(SocketId(1))]);
        node.accepted(at(3), SocketId(3));
        node.first_packet(at(3), SocketId(3), Wish::Meta, false);
        assert!(node.is_resolver(), "accepted the meta socket (W14)");
    }

    #[test]
    fn a_silent_connection_is_closed_and_a_flood_is_bounded() {
        let mut node = Rendezvous::new(at(0), TIMES);
        for id in 0..MAX_FRESH as u64 {
            assert!(node.accepted(at(0), SocketId(id)).is_empty());
        }
        assert_eq!(node.accepted(at(0), SocketId(99)), [Step::Close(SocketId(0))], "the oldest gives way");
        let closed = node.tick(at(2000), false);
        assert_eq!(closed.iter().filter(|s| matches!(s, Step::Close(_))).count(), MAX_FRESH);
    }

    #[test]
    fn a_socket_that_dies_while_settling_stops_the_settling() {
        let mut node = Rendezvous::new(at(0), TIMES);
        node.tick(at(0), false);
        node.dialed(at(1), SocketId(1));
        node.accepted(at(2), SocketId(2));
        node.first_packet(at(2), SocketId(2), Wish::Meta, false);
        node.ended(at(3), SocketId(1));
        assert!(node.tick(at(600), false).iter().all(|s| !matches!(s, Step::Settled { .. })));
    }
}
