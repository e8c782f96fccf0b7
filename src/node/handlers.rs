//! Handlers: the programs that the shell runs for events, and who waits for their end (S74).

use super::Node;
use super::effect::{Effect, LogLevel};
use super::fencing::Fencing;
use super::worker::Work;
use crate::units::VolumeId;

/// Who waits for the end of a handler.
#[derive(Debug)]
pub(super) enum Waiter {
    /// The sync handshake.
    Handshake,
    /// The worker: its next piece needs the exit code.
    Worker,
    /// The fence-peer procedure.
    Fencing(Fencing),
}

impl Node {
    /// Calls a handler that nothing waits for.
    pub(super) fn call_handler(&mut self, name: &'static str, volume: Option<VolumeId>) {
        let call = self.next_call();
        self.effects.push_back(Effect::Handler { call, name, volume });
    }

    /// Calls a handler once the metadata is written (S63). What goes on when it has ended is up to
    /// `waiter`.
    pub(super) fn await_handler(&mut self, name: &'static str, volume: Option<VolumeId>, waiter: Waiter) {
        let call = self.next_call();
        self.handler_waits.insert(call, waiter);
        for volume in self.volume_ids() {
            self.worker.push(Work::SyncMeta { volume });
        }
        self.worker.push(Work::CallHandler { call, name, volume });
    }

    /// Work: calls a handler and lets the worker wait for it. The exit code is for the next piece.
    pub(super) fn run_handler(&mut self, name: &'static str, volume: VolumeId) {
        let call = self.next_call();
        self.handler_waits.insert(call, Waiter::Worker);
        self.worker.began();
        self.effects.push_back(Effect::Handler { call, name, volume: Some(volume) });
    }

    /// A handler ended.
    pub(super) fn on_handler_done(&mut self, call: u64, exit: i32) {
        self.say(LogLevel::Debug, None, format!("handler call {call} left with exit code {exit}"));
        match self.handler_waits.remove(&call) {
            Some(Waiter::Handshake) => self.run_handshake(),
            Some(Waiter::Worker) => self.worker.handler_ended(exit),
            Some(Waiter::Fencing(fencing)) => self.fenced(fencing, exit),
            None => {}
        }
    }

    fn next_call(&mut self) -> u64 {
        self.handler_calls += 1;
        self.handler_calls
    }
}
