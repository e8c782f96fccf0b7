//! State changes that need the peer's consent (S16 to S20, wire.md section 8).

use super::super::Node;
use super::super::effect::LogLevel;
use super::super::link::ChangeReply;
use super::super::rules::{self, Immediate, Manner, Request, StateResult, immediate};
use super::super::state::{Conn, State, StateChange};
use super::super::worker::Work;
use super::giving_up::{begins_full_sync, gives_up_a_copy};
use crate::units::VolumeId;
use crate::wire::packet::{Packet, StateWord};

/// A change of one volume being asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct TwoPhase {
    pub(super) volume: VolumeId,
    pub(super) change: StateChange,
    sent: bool,
    /// The state serial when it last had to wait (S7, E2r).
    waited_at: Option<u64>,
}

impl TwoPhase {
    /// Asks for this change of this volume.
    pub(super) const fn new(volume: VolumeId, change: StateChange) -> Self {
        Self { volume, change, sent: false, waited_at: None }
    }
}

impl Node {
    /// Goes on with a request; its result once there is one (E2r: -18 waits for the next change).
    pub(super) fn poll_request(&mut self, request: &mut TwoPhase) -> Option<StateResult> {
        let result = if request.sent { self.poll_sent(request)? } else { self.poll_unsent(request)? };
        if result == StateResult::InTransientState {
            request.sent = false;
            request.waited_at = Some(self.state_serial);
            return None;
        }
        Some(result)
    }

    fn poll_unsent(&mut self, request: &mut TwoPhase) -> Option<StateResult> {
        if request.waited_at == Some(self.state_serial) {
            return None;
        }
        let TwoPhase { volume, change, .. } = *request;
        let Some(os) = self.volumes.get(&volume).map(|v| v.state) else {
            return Some(StateResult::UnknownError);
        };
        match rules::request(os, change, &self.context(volume)) {
            Request::Local => Some(self.change(volume, change, Manner::SOFT)),
            Request::Refused(refusal) => Some(refusal.result),
            Request::AskPeer => {
                if self.link().replies.contains_key(&Some(volume)) {
                    return None; // One request at a time for a volume (W196a).
                }
                let (mask, value) = change.to_words();
                let packet = Packet::StateChgReq { mask: StateWord(mask), value: StateWord(value) };
                self.send_data(volume, packet, None);
                self.link_mut().replies.insert(Some(volume), ChangeReply::Awaited);
                request.sent = true;
                None
            }
        }
    }

    fn poll_sent(&mut self, request: &mut TwoPhase) -> Option<StateResult> {
        let TwoPhase { volume, change, .. } = *request;
        let Some(os) = self.volumes.get(&volume).map(|v| v.state) else {
            return Some(StateResult::UnknownError);
        };
        let answer = self.link().replies.get(&Some(volume)).copied();
        match answer {
            Some(ChangeReply::Given(code)) => {
                self.link_mut().replies.remove(&Some(volume));
                if code == StateResult::Success.code() || (code > 1 && !begins_full_sync(change)) {
                    return Some(self.make_asked(volume, change));
                }
                self.log_refusal(volume, code);
                Some(StateResult::CwFailedByPeer)
            }
            // The answer will not come any more, or none is needed: go on alone (S17).
            None => Some(self.make_asked(volume, change)),
            Some(ChangeReply::Awaited | ChangeReply::Unneeded) => {
                match rules::recheck_while_waiting(os, change, &self.context(volume)) {
                    Some(StateResult::CwNoNeed) => {
                        self.link_mut().replies.insert(Some(volume), ChangeReply::Unneeded);
                        Some(self.make_asked(volume, change))
                    }
                    Some(_) | None => None,
                }
            }
        }
    }

    /// Makes a change that the peer was asked for. If it cannot be made any more, the peer, which may have made its side,
    /// is told what holds instead: it would take this disk for one that was given up.
    fn make_asked(&mut self, volume: VolumeId, change: StateChange) -> StateResult {
        let result = self.change(volume, change, Manner::SOFT);
        let connected = self.volumes.get(&volume).is_some_and(|v| v.state.conn >= Conn::Connected);
        if result != StateResult::Success && connected {
            self.worker.push(Work::SendState { volume }); // Not in a handshake, whose state it would be taken for.
        }
        result
    }

    fn log_refusal(&mut self, volume: VolumeId, code: i32) {
        let message = StateResult::from_code(code).map_or("unknown error", StateResult::message);
        let text = format!("Requested state change failed by peer: {message} ({code})");
        self.say(LogLevel::Info, Some(volume), text);
    }

    /// The peer answered a request (W196).
    pub(in super::super) fn on_change_reply(&mut self, volume: Option<VolumeId>, code: i32) {
        if let Some(volume) = volume {
            self.accepted(volume);
        }
        let replies = &mut self.link_mut().replies;
        match replies.get_mut(&volume) {
            Some(ChangeReply::Unneeded) => _ = replies.remove(&volume),
            Some(slot) => *slot = ChangeReply::Given(code),
            None => self.say(LogLevel::Warn, volume, format!("an answer ({code}) to no request of ours")),
        }
    }

    /// The peer asks for a change (W192 to W195). Answered at once, before its next packet (W196); only what gives up
    /// a copy of the data waits until the other one is durable.
    pub(in super::super) fn on_change_request(&mut self, volume: Option<VolumeId>, mask: u32, value: u32) {
        let change = match StateChange::from_words(mask, value) {
            Ok(change) => change.mirrored(),
            Err(error) => return self.protocol_error(&format!("a state change request: {error}")),
        };
        if let Some(volume) = volume {
            self.refuse_asked(volume); // Answers go in the order of the requests (W196a).
        }
        match volume {
            Some(volume) if gives_up_a_copy(change) && self.may_prepare(volume, change) => {
                self.prepare_asked(volume, change);
            }
            _ => self.answer_change_request(volume, change),
        }
    }

    /// Whether a change that the peer asks for would be made now.
    fn may_prepare(&self, volume: VolumeId, change: StateChange) -> bool {
        self.refuses_for_now(Some(volume)).is_none()
            && self.volumes.get(&volume).is_some_and(|v| {
                let verdict = immediate(v.state, change, &self.context(volume), Manner::SOFT);
                matches!(verdict, Immediate::Accepted { .. })
            })
    }

    /// Why no change is made for the peer at this time, whatever it is.
    fn refuses_for_now(&self, volume: Option<VolumeId>) -> Option<StateResult> {
        let link = self.link();
        if link.state_sent {
            Some(StateResult::InTransientState)
        } else if link.resolver && link.replies.get(&volume) == Some(&ChangeReply::Awaited) {
            Some(StateResult::ConcurrentStChg)
        } else {
            None
        }
    }

    /// Makes a change that the peer asks for, if the rules allow it, and answers.
    pub(super) fn answer_change_request(&mut self, volume: Option<VolumeId>, change: StateChange) {
        let result = match (self.refuses_for_now(volume), volume) {
            (Some(refused), _) => refused,
            (None, Some(volume)) if !self.volumes.contains_key(&volume) => {
                return self.unknown_volume("a state change request", volume);
            }
            (None, Some(volume)) => self.change(volume, change, Manner::SOFT),
            (None, None) => {
                let manner = Manner { ignore_outdate_failure: true, ..Manner::SOFT };
                self.change_connection(change, manner)
            }
        };
        let code = match result {
            StateResult::NothingToDo if begins_full_sync(change) => StateResult::NoUpToDateDisk.code(),
            other => other.code(),
        };
        match volume {
            Some(volume) => self.send_meta(volume, Packet::StateChgReply(code)),
            None => self.send_meta(VolumeId(0), Packet::ConnStChgReply(code)),
        }
        if volume.is_none() && result.is_success() && change.conn == Some(Conn::TearDown) {
            self.torn_down();
        }
    }

    /// A change of all volumes at once: all may, or none does (S26).
    pub(in super::super) fn change_connection(&mut self, change: StateChange, manner: Manner) -> StateResult {
        for volume in self.volume_ids() {
            let os: State = match self.volumes.get(&volume) {
                Some(v) => v.state,
                None => continue,
            };
            if let Immediate::Refused(refusal) = immediate(os, change, &self.context(volume), manner) {
                if refusal.loggable {
                    for line in refusal.log_lines(os) {
                        self.say(LogLevel::Info, Some(volume), line);
                    }
                }
                return refusal.result;
            }
        }
        for volume in self.volume_ids() {
            self.change(volume, change, manner);
        }
        self.worker.push(Work::AfterConnection);
        StateResult::Success
    }

    /// Whether all volumes allow this change of the connection, strictly; the first refusal if not.
    pub(super) fn check_connection(&self, change: StateChange) -> Result<(), StateResult> {
        for (volume, v) in &self.volumes {
            if let Request::Refused(refusal) = rules::request(v.state, change, &self.context(*volume)) {
                return Err(refusal.result);
            }
        }
        Ok(())
    }

    /// Asks the peer for a change of the whole connection (S20).
    pub(super) fn ask_connection(&mut self, change: StateChange) {
        let (mask, value) = change.to_words();
        let packet = Packet::ConnStChgReq { mask: StateWord(mask), value: StateWord(value) };
        self.send_data(VolumeId(0), packet, None);
        let link = self.link_mut();
        link.replies.insert(None, ChangeReply::Awaited);
        link.disconnect_sent = true;
    }
}
