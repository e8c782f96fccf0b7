//! The sync handshake as it runs: facts, log lines, handlers that are waited for, and the outcome (S66).
//!
//! ```text
//!  begin ─► decide (pure) ─► next action: log, or a handler ─► outcome ─► accept, refuse, or once more
//!                                 ▲                 │ the data socket is held meanwhile
//!                                 └── HandlerDone ◄─┘
//! ```
//! While a handler runs, no packet of the data socket is processed, and pings are answered. The
//! connection may end meanwhile: its end is dealt with when the handshake is over, as the receiver
//! would (S75).

use std::collections::VecDeque;

use super::Node;
use super::decision::Action;
use super::decision::compare::{self, Relation, Side, Uuids, is_new, masked};
use super::decision::handshake::{Facts, Next, Outcome, decide};
use super::effect::Effect;
use super::handlers::Waiter;
use super::input::SocketId;
use super::parameters::policies_of;
use super::rules::{Manner, StateResult};
use super::state::{Conn, Disk, Role, State, StateChange};
use super::volume::Volume;
use crate::units::VolumeId;

/// The peer's state that calls for a handshake, and the own one it meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meeting {
    pub(super) volume: VolumeId,
    /// The peer's state as it came.
    pub(super) word: u32,
    /// The own state when it came.
    pub(super) os: State,
    pub(super) peer: State,
    /// What the peer's disk is really worth (S32.1).
    pub(super) peer_disk: Disk,
}

/// A handshake under way.
#[derive(Debug)]
pub(super) struct Handshake {
    meeting: Meeting,
    /// What is to be done before what comes next.
    actions: VecDeque<Action>,
    next: Option<Next>,
    /// Whether the outcome is the answer to a question of the peer's (S66.12).
    asked_by_peer: bool,
    /// Both sides changed their data: whoever becomes the target gives something up.
    discards: bool,
    /// The data socket that waits.
    held: Option<SocketId>,
}

impl Node {
    /// Begins the handshake that decides whose data counts.
    pub(super) fn begin_handshake(&mut self, meeting: Meeting) {
        let Some(facts) = self.handshake_facts(&meeting) else { return };
        let verdict = decide(&facts);
        self.tell_uncorrected_uuids(&meeting, &verdict.comparison);
        self.correct_uuids(meeting.volume, &verdict.comparison);
        let own_question = self.link().config.as_ref().is_some_and(|config| config.tentative);
        self.link_mut().handshake = Some(Handshake {
            meeting,
            actions: verdict.actions.into(),
            next: Some(verdict.next),
            asked_by_peer: facts.tentative && !own_question,
            discards: matches!(
                verdict.comparison.relation,
                Relation::SplitBrain | Relation::SplitBrainWithoutBase | Relation::Unrelated
            ),
            held: None,
        });
        self.run_handshake();
    }

    /// Goes on with the handshake until it waits for a handler, or is over.
    pub(super) fn run_handshake(&mut self) {
        loop {
            let Some(handshake) = self.link_mut().handshake.as_mut() else { return };
            let volume = handshake.meeting.volume;
            match handshake.actions.pop_front() {
                Some(Action::Log(level, text)) => self.say(level, Some(volume), text),
                Some(Action::Handler(name)) => return self.wait_in_handshake(volume, name),
                None => match handshake.next.take() {
                    Some(Next::TryDemotion(pending)) => {
                        let demote = StateChange::role(Role::Secondary);
                        let demoted = self.change(volume, demote, Manner::SOFT) == StateResult::Success;
                        let verdict = pending.resume(demoted);
                        if let Some(handshake) = self.link_mut().handshake.as_mut() {
                            handshake.actions = verdict.actions.into();
                            handshake.next = Some(verdict.next);
                        }
                    }
                    Some(Next::Done(outcome)) => {
                        self.note_peer_copy(volume, outcome);
                        return self.end_handshake(outcome);
                    }
                    None => return,
                },
            }
        }
    }

    /// Calls a handler; the peer's packets wait until it ends.
    fn wait_in_handshake(&mut self, volume: VolumeId, name: &'static str) {
        let data = self.link().data;
        if let Some(handshake) = self.link_mut().handshake.as_mut()
            && handshake.held.is_none()
            && let Some(socket) = data
        {
            handshake.held = Some(socket);
            self.effects.push_back(Effect::Hold { socket, hold: true });
        }
        self.await_handler(name, Some(volume), Waiter::Handshake);
    }

    /// The handshake is over: what becomes of the peer's state (S32.7, S32.8).
    fn end_handshake(&mut self, outcome: Outcome) {
        let Some(Handshake { meeting, asked_by_peer, held, discards, .. }) = self.link_mut().handshake.take()
        else {
            return;
        };
        if let Some(socket) = held {
            self.effects.push_back(Effect::Hold { socket, hold: false });
        }
        let Meeting { volume, word, os, peer, mut peer_disk } = meeting;
        let mut conn = outcome.conn();
        let mut aborted = None;
        if conn.is_none() {
            aborted = self.refused_handshake(volume, os, peer, asked_by_peer);
            if let Some(disk) = aborted {
                peer_disk = disk;
                conn = Some(super::state::Conn::Connected);
            }
        }
        if std::mem::take(&mut self.link_mut().close_due) {
            return self.close_link();
        }
        let (Some(conn), Some(v)) = (conn, self.volumes.get(&volume)) else { return };
        if v.state != os {
            return self.receive_state(volume, word, peer, aborted);
        }
        if matches!(outcome, Outcome::SyncTarget { .. }) {
            self.keep_before_sync(volume, discards, outcome.is_full());
        }
        if outcome.is_full() {
            self.write_before_handshake(volume, word, conn);
        } else {
            self.accept_state(volume, os, peer, peer_disk, conn);
        }
    }

    fn handshake_facts(&self, meeting: &Meeting) -> Option<Facts> {
        let v = self.volumes.get(&meeting.volume)?;
        let theirs = v.peer_uuids?;
        let link = self.link();
        let config = link.config.as_ref()?;
        let net = &config.options;
        let primary = |role: Role| role == Role::Primary;
        let own = Side {
            uuids: Uuids::from(v.uuids()),
            crashed: v.marks.crashed_primary,
            primary: primary(v.state.role),
        };
        let peer_side = Side {
            uuids: Uuids { current: theirs.current, bitmap: theirs.bitmap, history: theirs.history },
            crashed: theirs.flags & 2 != 0,
            primary: primary(meeting.peer.role),
        };
        Some(Facts {
            compare: compare::Facts {
                own,
                peer: peer_side,
                resolve: link.resolver,
                apv: u32::from(link.apv),
                write_same: link.features.large_trims(),
                sync_uuid_taken: self.is_sync_uuid_taken(meeting.volume),
            },
            disk: v.state.disk,
            negotiated: v.negotiated.map_or(Disk::Diskless, |(disk, _)| disk),
            peer_disk: meeting.peer_disk,
            own_bits: v.bits_sent,
            peer_bits: theirs.bits,
            peer_flags: theirs.flags,
            bits_set: v.bits_set(),
            discard_my_data: v.marks.discard_my_data,
            policies: policies_of(net),
            always_asbp: net.always_asbp,
            rr_conflict: net.rr_conflict,
            tentative: config.tentative || link.dry_run,
        })
    }

    /// The peer's disk is a new one. That which it replaces may have the own generation, and should it be put back, nobody
    /// could tell it from a copy (F7): what is written from now on is of a new one, which is on disk with the bits.
    pub(super) fn part_with_the_replaced(&mut self, volume: VolumeId) {
        let replaced =
            |v: &Volume| v.peer_uuids.is_some_and(|theirs| is_new(theirs.current)) && !is_new(v.uuids()[0]);
        let due = |v: &Volume| replaced(v) && v.state.disk >= Disk::Consistent && v.lacks_own_generation();
        if self.volumes.get(&volume).is_some_and(due) {
            self.make_current_uuid(volume);
        }
    }

    /// All bits are set, for a peer whose data are in the own history (rule 80): they count from there
    /// on, and a break before the run is under way is rule 51 or 71 (T40). A new disk has none, and its node is told the
    /// generation that has begun for it.
    pub(super) fn count_bits_from_peer(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(theirs) = v.peer_uuids else { return };
        if is_new(theirs.current) {
            return self.send_uuids(volume, 0);
        }
        let same = |uuid: u64| masked(uuid) == masked(theirs.current);
        let [current, bitmap, history @ ..] = v.uuids();
        let Some(known) = history.into_iter().find(|uuid| same(*uuid)) else { return };
        if same(current) || same(bitmap) {
            return;
        }
        v.rotate_bitmap_uuid(known);
        self.send_uuids(volume, 0);
    }

    /// A peer that attaches hears the own UUIDs behind the own decision only (A7): if that corrects them, it is told
    /// the ones that this decision is about, lest it decides otherwise.
    fn tell_uncorrected_uuids(&mut self, meeting: &Meeting, comparison: &compare::Comparison) {
        let attaches = meeting.os.conn >= Conn::Connected && meeting.os.pdsk <= Disk::Attaching;
        let tell = attaches && comparison.own_fix.is_some();
        if tell {
            self.send_uuids(meeting.volume, 0);
        }
        if let Some(v) = self.volumes.get_mut(&meeting.volume) {
            v.marks.uuids_told = tell;
        }
    }

    /// What the comparison found out about a sync UUID that did not get through (S64, rules 34, 35, 51, 71).
    fn correct_uuids(&mut self, volume: VolumeId, comparison: &compare::Comparison) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if let Some(fix) = comparison.own_fix
            && let Some(disk) = v.disk.as_deref_mut()
        {
            disk.superblock.uuids.bitmap = fix.bitmap;
            disk.superblock.uuids.history = fix.history;
            disk.dirty = true;
        }
        if let Some(fix) = comparison.peer_fix
            && let Some(theirs) = &mut v.peer_uuids
        {
            theirs.bitmap = fix.bitmap;
            theirs.history = fix.history;
        }
    }
}
