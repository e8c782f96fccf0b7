//! Fencing: the fence-peer handler, what its exit code changes, and the thaw of I/O that waited for it
//! (states.md section 8).

use super::Node;
use super::command::CommandId;
use super::effect::LogLevel;
use super::handlers::Waiter;
use super::rules::Manner;
use super::state::aggregate::{highest_disk, highest_fencing, highest_pdsk, resource_role};
use super::state::{Conn, Disk, Role, State, StateChange};
use super::worker::Work;
use crate::config::values::Fencing as Policy;

/// A call of fence-peer under way.
#[derive(Debug)]
pub(super) struct Fencing {
    policy: Policy,
    /// How often volumes had connected when it was called: its answer is of that time (S80).
    connect_count: u64,
    /// The promotion that waits for it.
    promotion: Option<CommandId>,
}

/// How the fence-peer procedure begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fence {
    /// It has ended already, with success or without.
    Ended(bool),
    /// The handler runs.
    Running,
}

impl Node {
    /// A connection was lost: a Primary whose peer's disk may still be good fences it (S28.5).
    pub(super) fn fence_lost_peer(&mut self) {
        if resource_role(self.states()) == Role::Primary && highest_pdsk(self.states()) >= Disk::DUnknown {
            self.begin_fencing(None);
        }
    }

    /// The fence-peer procedure (S79).
    pub(super) fn begin_fencing(&mut self, promotion: Option<CommandId>) -> Fence {
        if self.link().cstate >= Conn::WFReportParams {
            self.say(LogLevel::Error, None, "Expected cstate < C_WF_REPORT_PARAMS");
            return Fence::Ended(false);
        }
        let volumes = self
            .volumes
            .values()
            .map(|v| (v.state, v.disk.as_ref().map_or(Policy::DontCare, |disk| disk.options.fencing)));
        match highest_fencing(volumes) {
            None => {
                self.say(LogLevel::Warn, None, "Not fencing peer, I'm not even Consistent myself.");
                self.give_up_fencing();
                Fence::Ended(false)
            }
            Some(Policy::DontCare) => Fence::Ended(true),
            Some(policy @ (Policy::ResourceOnly | Policy::ResourceAndStonith)) => {
                let connect_count = self.link().connect_count;
                let fencing = Fencing { policy, connect_count, promotion };
                self.await_handler("fence-peer", None, Waiter::Fencing(fencing));
                Fence::Running
            }
        }
    }

    /// Without good data of its own this node has nothing to fence for: I/O does not wait for that.
    fn give_up_fencing(&mut self) {
        if let Some(volume) = self.volume_ids().first().copied() {
            self.force(volume, StateChange { susp_fen: Some(false), ..StateChange::NOTHING });
        }
        if !self.states().any(State::is_suspended) {
            self.worker.push(Work::Sweep);
        }
    }

    /// fence-peer has ended (S80).
    pub(super) fn fenced(&mut self, fencing: Fencing, exit: i32) {
        let (text, change) = self.meaning_of(&fencing, exit);
        match text {
            Some(text) => {
                self.say(LogLevel::Info, None, format!("fence-peer helper returned {exit} ({text})"))
            }
            None => self.say(LogLevel::Error, None, format!("fence-peer helper broken, returned {exit}")),
        }
        if self.link().cstate < Conn::WFReportParams && !self.link().state_sent {
            if self.link().connect_count != fencing.connect_count {
                self.say(LogLevel::Info, None, "Ignoring fence-peer exit code");
            } else if let Some(change) = change {
                self.change_connection(change, Manner::SOFT);
            }
        }
        if let Some(command) = fencing.promotion {
            let success = highest_pdsk(self.states()) <= Disk::Outdated;
            self.promotion_fenced(command, success);
        }
    }

    /// What an exit code says, in words and as a change; no words if the handler is broken.
    fn meaning_of(&mut self, fencing: &Fencing, exit: i32) -> (Option<&'static str>, Option<StateChange>) {
        let outdated = Some(StateChange::pdsk(Disk::Outdated));
        match exit {
            3 => (Some("peer is inconsistent or worse"), Some(StateChange::pdsk(Disk::Inconsistent))),
            4 => (Some("peer was fenced"), outdated),
            5 if highest_disk(self.states()) == Disk::UpToDate => {
                (Some("peer is unreachable, assumed to be dead"), outdated)
            }
            5 => (Some("peer unreachable, doing nothing since disk != UpToDate"), None),
            6 => {
                self.say(LogLevel::Warn, None, "Peer is primary, outdating myself.");
                (Some("peer is active"), Some(StateChange::disk(Disk::Outdated)))
            }
            7 => {
                if fencing.policy != Policy::ResourceAndStonith {
                    let text =
                        "fence-peer: the peer was stonithed, though the policy is not resource-and-stonith";
                    self.say(LogLevel::Error, None, text);
                }
                (Some("peer was stonithed"), outdated)
            }
            _ => (None, None),
        }
    }

    /// The peer is fenced: the new generation that was due is made, and then I/O goes on (S26.3, N5).
    pub(super) fn thaw_after_fencing(&mut self) {
        let frozen = self.states().any(|state| state.susp_fen);
        if !frozen || highest_pdsk(self.states()) > Disk::Outdated {
            return;
        }
        let mut steps = self.generations_due();
        steps.push(Work::ThawFenced);
        self.worker.push_front(steps);
    }

    /// Work: the new generation is durable: requests complete as local ones, new ones start.
    pub(super) fn thaw_fenced(&mut self) {
        if highest_pdsk(self.states()) > Disk::Outdated {
            return; // It came back meanwhile.
        }
        if let Some(volume) = self.volume_ids().first().copied() {
            self.force(volume, StateChange { susp_fen: Some(false), ..StateChange::NOTHING });
        }
        if !self.states().any(State::is_suspended) {
            self.worker.push_front([Work::Sweep]);
        }
    }

    /// The states of all volumes.
    pub fn states(&self) -> impl Iterator<Item = State> + '_ {
        self.volumes.values().map(|v| v.state)
    }
}
