//! What a template waits for: the windows that it wants to hit are told by what just happened, not by time.

use std::time::Duration;

use super::super::events::HostId;
use super::life::Life;
use super::reach::{OnTheWay, Situation, Situations};
use super::view::View;
use super::workload::Asked;
use crate::io::Op;
use crate::node::Node;
use crate::node::steps::Step;

/// Something that happens in the pair, or holds of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// Since it was waited for, some client was told that this is done.
    Answered(Asked),
    /// The data device of this machine holds something that a loss of power takes.
    Unflushed(HostId),
    /// A flush of the data device of this machine is under way.
    Flushing(HostId),
    /// A write to the data device of this machine is under way.
    Writing(HostId),
    /// Both nodes are in sync, and nothing else.
    Whole,
    /// This node has no connection, and has settled what that means.
    Lonely(HostId),
    /// This node is about to become the target of a resync.
    Meeting(HostId),
    /// This node is the target of a resync that moves data.
    Target(HostId),
    /// This node has good data of a resync whose source does not know it yet.
    Unheard(HostId),
    /// I/O is suspended on this node.
    Frozen(HostId),
    /// It is not, and the nodes are connected.
    Thawed(HostId),
    /// The disk of this node is no good any more.
    Unfit(HostId),
    /// This node is connected, and does not take the peer's disk for a good one.
    Doubtful(HostId),
    /// This node is Primary.
    Primary(HostId),
    /// This node is Secondary.
    Secondary(HostId),
    /// This node has done what it was told.
    Obeyed(HostId),
    /// This node is in the middle of this.
    Amid(HostId, Step),
    /// This node has refused a write of the other Primary, for an own one that the other one has not answered.
    Judges(HostId),
    /// This node holds a write of the peer's that waits for another one.
    Holds(HostId),
    /// This is on the way from this node, or to it.
    OnTheWay(HostId, OnTheWay),
}

impl Life {
    /// Lets time pass until that is so, but at most so long; how long it was.
    pub(super) fn await_cue(&mut self, cue: Cue, limit: Duration) -> Result<Duration, String> {
        let began = self.world.now();
        let before = self.answered();
        let until = began.after(limit);
        loop {
            self.work()?;
            if self.has_come(cue, before) {
                let took = self.world.now().since(began);
                self.say(|| format!("   {cue:?} after {took:?}"));
                return Ok(took);
            }
            if !self.step(until)? {
                self.say(|| format!("   {cue:?} does not come"));
                return Ok(limit);
            }
        }
    }

    /// How many requests were answered, by kind.
    fn answered(&self) -> [u64; Asked::KINDS] {
        let mut sum = [0; Asked::KINDS];
        for program in &self.programs {
            sum.iter_mut().zip(program.answered).for_each(|(sum, count)| *sum += count);
        }
        sum
    }

    fn has_come(&self, cue: Cue, before: [u64; Asked::KINDS]) -> bool {
        let on =
            |host: HostId, holds: fn(&View) -> bool| self.books.iter().any(|book| holds(&book.views[host]));
        match cue {
            Cue::Answered(asked) => self.answered()[asked as usize] > before[asked as usize],
            Cue::Unflushed(host) => {
                self.books.iter().any(|book| book.disk(&self.world, host).data().store().unflushed() > 0)
            }
            Cue::Flushing(host) => self.has_under_way(host, |op| matches!(op, Op::Sync)),
            Cue::Writing(host) => self.has_under_way(host, |op| matches!(op, Op::Write { .. })),
            Cue::Whole => self.all_views(View::is_whole),
            Cue::Lonely(host) => on(host, |view| matches!(view.conn.as_str(), "WFConnection" | "StandAlone")),
            Cue::Meeting(host) => {
                on(host, |view| matches!(view.conn.as_str(), "StartingSyncT" | "WFBitMapT" | "WFSyncUUID"))
            }
            Cue::Target(host) => on(host, |view| view.conn == "SyncTarget"),
            Cue::Unheard(host) => self.books.iter().any(|book| {
                let [one, other] = [&book.views[host], &book.views[1 - host]];
                one.is_whole() && other.conn == "SyncSource"
            }),
            Cue::Frozen(host) => on(host, |view| !view.suspended.is_empty()),
            Cue::Thawed(host) => on(host, |view| view.suspended.is_empty() && view.is_connected()),
            Cue::Unfit(host) => on(host, |view| view.disk != "UpToDate"),
            Cue::Doubtful(host) => on(host, |view| view.is_connected() && view.peer_disk != "UpToDate"),
            Cue::Primary(host) => on(host, View::is_primary),
            Cue::Secondary(host) => on(host, |view| view.role == "Secondary"),
            Cue::Obeyed(host) => self.is_obeyed(host),
            Cue::Amid(host, step) => Situations::hold(&self.world, host, Situation::Step(step)),
            Cue::Judges(host) => self.world.core(host).is_some_and(Node::has_refused_a_rival),
            Cue::Holds(host) => self.world.core(host).is_some_and(Node::has_waiting_peer_write),
            Cue::OnTheWay(host, packet) => Situations::hold(&self.world, host, Situation::OnTheWay(packet)),
        }
    }

    /// Whether such an operation is under way on a data device of a machine.
    fn has_under_way(&self, host: HostId, such: fn(&Op) -> bool) -> bool {
        let mut found = false;
        self.world.each_under_way(host, |device, op| {
            found |= such(op) && self.books.iter().any(|book| book.disk(&self.world, host).data().is(device));
        });
        found
    }
}
