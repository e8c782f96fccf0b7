//! `connect` and `disconnect` (S39 to S41).

use super::super::Node;
use super::super::command::{Command, Outcome};
use super::super::link::{ChangeReply, NetConfig, Phase};
use super::super::rules::StateResult;
use super::super::state::{Conn, Disk, Role, StateChange};
use super::super::volume::Volume;
use super::{Job, Stage, code, outcome_of};
use crate::config::options::{DiskOptions, Fencing, NetOptions, Protocol};
use crate::wire::auth::CramHmac;
use crate::wire::digest::DigestAlg;

impl Node {
    /// `connect`: from now on the peer is looked for.
    pub(super) fn connect(&mut self, command: &Command) -> Outcome {
        let Command::Connect { local, peer, options, discard_my_data, tentative } = command else {
            return Outcome::of(Outcome::DONE);
        };
        if self.link().cstate != Conn::StandAlone || self.link().config.is_some() {
            return Outcome::with(code::NET_IN_USE, "disconnect it first");
        }
        if let Err(refused) = self.check_net_options(options, *discard_my_data) {
            return refused;
        }
        self.link_mut().config = Some(NetConfig {
            local: *local,
            peer: *peer,
            options: (**options).clone(),
            discard_my_data: *discard_my_data,
            tentative: *tentative,
        });
        self.look_for_peer();
        outcome_of(StateResult::Success)
    }

    /// Whether net options fit each other and the state (S40).
    pub(super) fn check_net_options(&self, options: &NetOptions, discard: bool) -> Result<(), Outcome> {
        if options.allow_two_primaries && options.protocol != Protocol::C {
            return Err(Outcome::with(code::PROTOCOL_C, "allow-two-primaries needs protocol C"));
        }
        let freezes = |v: &Volume| {
            v.disk.as_ref().is_some_and(|disk| disk.options.fencing == Fencing::ResourceAndStonith)
        };
        if options.protocol == Protocol::A && self.volumes.values().any(freezes) {
            return Err(Outcome::of(code::STONITH_AND_A));
        }
        if discard && self.volumes.values().any(|v| v.state.role == Role::Primary) {
            return Err(Outcome::of(code::DISCARD_PRIMARY));
        }
        if let Some(alg) = &options.cram_hmac_alg {
            let secret = options.shared_secret.as_ref().map_or("", |secret| secret.expose());
            CramHmac::new(alg, secret.as_bytes())
                .map_err(|error| Outcome::with(code::UNKNOWN_ALG, error.to_string()))?;
        }
        let algs =
            [(141, &options.data_integrity_alg), (144, &options.csums_alg), (146, &options.verify_alg)];
        for (number, alg) in algs {
            if let Some(name) = alg {
                DigestAlg::from_name(name).map_err(|error| Outcome::with(number, error.to_string()))?;
            }
        }
        Ok(())
    }

    /// Whether disk options fit the connection (S37.2, S78): what protocol A has answered is lost with this node's
    /// power, and a peer that fences it would go on without.
    pub(super) fn check_disk_options(&self, options: &DiskOptions) -> Result<(), Outcome> {
        let config = self.link().config.as_ref();
        let asynchronous = config.is_some_and(|config| config.options.protocol == Protocol::A);
        if asynchronous && options.fencing == Fencing::ResourceAndStonith {
            return Err(Outcome::of(code::STONITH_AND_A));
        }
        Ok(())
    }

    /// `disconnect`.
    pub(super) fn step_disconnect(&mut self, force: bool, job: &mut Job) -> Option<Outcome> {
        let cstate = self.link().cstate;
        if matches!(job.stage, Stage::Start) {
            if cstate == Conn::StandAlone {
                return Some(Outcome::with(code::UNKNOWN_CONNECTION, "unknown connection"));
            }
            let connected = matches!(self.link().phase, Phase::Up) && cstate == Conn::WFReportParams;
            if force || !connected {
                self.disconnect_hard();
                job.stage = Stage::Closing;
            } else if let Some(refused) = self.ask_to_part(false, job) {
                return Some(refused);
            }
        }
        if let Stage::Parting { outdate } = job.stage {
            self.poll_parting(outdate, job)
        } else {
            (self.link().cstate == Conn::StandAlone).then(|| Outcome::of(Outcome::DONE))
        }
    }

    /// Asks the peer to agree; its refusal if this node's own rules do not allow it (S41.1, 2).
    fn ask_to_part(&mut self, outdate: bool, job: &mut Job) -> Option<Outcome> {
        let part = StateChange::conn(Conn::Disconnecting);
        let part = if outdate { StateChange { disk: Some(Disk::Outdated), ..part } } else { part };
        let change = match self.check_connection(part) {
            Err(StateResult::PrimaryNop) => StateChange { pdsk: Some(Disk::Outdated), ..part },
            Ok(()) | Err(_) => part,
        };
        if let Err(refused) = self.check_connection(change) {
            if outdate && matches!(refused, StateResult::IsDiskless | StateResult::LowerThanOutdated) {
                self.disconnect_hard();
                job.stage = Stage::Closing;
                return None;
            }
            return Some(outcome_of(refused));
        }
        self.parting = change;
        self.ask_connection(change);
        job.stage = Stage::Parting { outdate };
        None
    }

    /// Waits for the peer's answer, or the end of the connection (S41.2, 3).
    fn poll_parting(&mut self, outdate: bool, job: &mut Job) -> Option<Outcome> {
        let answer = self.link().replies.get(&None).copied();
        match answer {
            Some(ChangeReply::Given(code)) if code >= 1 => {
                self.link_mut().replies.remove(&None);
                let change = self.parting;
                for volume in self.volume_ids() {
                    self.force(volume, change);
                }
                self.disconnect_hard();
                job.stage = Stage::Closing;
            }
            Some(ChangeReply::Given(_)) => {
                let link = self.link_mut();
                link.replies.remove(&None);
                link.disconnect_sent = false;
                if outdate {
                    // It does not want us gone even so: a Primary that has no other data (S41.2).
                    return Some(outcome_of(StateResult::CwFailedByPeer));
                }
                if let Some(refused) = self.ask_to_part(true, job) {
                    return Some(refused);
                }
            }
            Some(ChangeReply::Awaited | ChangeReply::Unneeded) => return None,
            None => {
                // The connection went away under the question.
                self.disconnect_hard();
                job.stage = Stage::Closing;
            }
        }
        (self.link().cstate == Conn::StandAlone).then(|| Outcome::of(Outcome::DONE))
    }
}
