//! The transition engine: one door for every change of a state vector (states.md section 2).
//!
//! A change is corrected, checked and applied in one step, together with what has to happen in the
//! same breath (S21). What it sets off afterwards is queued for the worker (S24).

use super::Node;
use super::effect::{Effect, LogLevel};
use super::rules::{Context, Immediate, Manner, StateResult, immediate};
use super::state::{Conn, Disk, Role, State, StateChange, flags};
use super::volume::Marks;
use super::worker::Work;
use crate::config::options;
use crate::units::VolumeId;

impl Node {
    /// What the rules need to know besides the state vectors.
    pub(super) fn context(&self, volume: VolumeId) -> Context {
        let link = self.link();
        let net = link.config.as_ref().map(|config| &config.options);
        let v = self.volumes.get(&volume);
        let disk = v.and_then(|v| v.disk.as_deref());
        Context {
            fencing: disk.map_or(options::Fencing::DontCare, |disk| disk.options.fencing),
            suspend_without_data: self.options.on_no_data_accessible
                == options::OnNoDataAccessible::SuspendIo,
            net_configured: net.is_some(),
            allow_two_primaries: net.is_some_and(|net| net.allow_two_primaries),
            any_peer_primary: self.volumes.values().any(|v| v.state.peer == Role::Primary),
            open_count: v.map_or(0, |v| v.open_count),
            verify_alg_set: net.is_some_and(|net| net.verify_alg.is_some()),
            apv: u32::from(link.apv),
            state_sent: link.state_sent,
            negotiated: v.and_then(|v| v.negotiated).unwrap_or((Disk::Diskless, Disk::DUnknown)),
            exposed_is_current: v.is_some_and(|v| v.exposed_uuid == v.uuids()[0] && !v.marks.newer_elsewhere),
            peer_refused: v.is_some_and(|v| v.marks.peer_refused),
        }
    }

    /// Changes a volume's state at once, if the rules allow it (S7, E1).
    pub(super) fn change(&mut self, volume: VolumeId, change: StateChange, manner: Manner) -> StateResult {
        let Some(old) = self.volumes.get(&volume).map(|v| v.state) else { return StateResult::UnknownError };
        let change = self.doubt_target(volume, old, change);
        match immediate(old, change, &self.context(volume), manner) {
            Immediate::Nothing => StateResult::NothingToDo,
            Immediate::Accepted { ns, warning } => {
                if let Some(warning) = warning {
                    self.say(LogLevel::Warn, Some(volume), warning.to_string());
                }
                self.apply(volume, old, ns);
                StateResult::Success
            }
            Immediate::Refused(refusal) => {
                if refusal.loggable {
                    for line in refusal.log_lines(old) {
                        self.say(LogLevel::Info, Some(volume), line);
                    }
                }
                refusal.result
            }
        }
    }

    /// Changes a volume's state, validity aside.
    pub(super) fn force(&mut self, volume: VolumeId, change: StateChange) -> StateResult {
        self.change(volume, change, Manner::HARD)
    }

    /// Changes the connection state of all volumes, validity aside, and of the link (E3, HARD).
    pub(super) fn force_connection(&mut self, conn: Conn) {
        for volume in self.volume_ids() {
            self.force(volume, StateChange::conn(conn));
        }
        self.set_cstate(conn);
    }

    /// Sets the link's own, coarse connection state.
    pub(super) fn set_cstate(&mut self, conn: Conn) {
        let old = self.link().cstate;
        if old != conn {
            self.link_mut().cstate = conn;
            self.state_serial += 1;
            let text = format!("conn( {old} -> {conn} )");
            self.say(LogLevel::Info, None, text);
            self.effects.push_back(Effect::StatusChanged);
        }
    }

    /// Stores the new state and does what belongs to the same step (S21).
    fn apply(&mut self, volume: VolumeId, old: State, new: State) {
        self.log_change(volume, old, new);
        self.share_suspension(new);
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        v.enter(new);
        if old.conn < Conn::Connected && new.conn >= Conn::Connected {
            self.links[0].connect_count += 1;
        }
        if (old.conn, old.disk, old.pdsk) != (new.conn, new.disk, new.pdsk) {
            self.refuse_asked(volume); // Two disks, or another connection, than it was asked of.
        }
        self.note_lost_target(volume, old, new);
        self.refresh_flags(volume, old, new);
        if self.loses_peer_data(volume, old, new)
            && let Some(v) = self.volumes.get_mut(&volume)
        {
            v.marks.hold_unmirrored = true; // Until the new generation is durable (T17).
        }
        if old.conn != Conn::WFBitMapS && new.conn == Conn::WFBitMapS {
            self.close_epoch();
            self.barrier_if_due(); // The bitmap may wait for its ack.
        }
        // Before anything that lets a write go: the peer hears of the change first.
        self.worker.push(Work::AfterState { volume, old, new });
        self.note_shadow(volume, old, new);
        self.note_resync_pause(volume, old, new);
        self.note_verify(volume, old, new);
        if old.mirrors_writes() != new.mirrors_writes() {
            self.close_epoch();
        }
        if old.conn == Conn::WFReportParams
            && new.conn != Conn::WFReportParams
            && self.volumes.values().all(|v| v.state.conn != Conn::WFReportParams)
        {
            self.link_mut().state_sent = false;
        }
        self.state_serial += 1;
        self.retry_parked = true;
        self.effects.push_back(Effect::StatusChanged);
    }

    fn log_change(&mut self, volume: VolumeId, old: State, new: State) {
        let lines = [new.change_line(old), new.suspension_change_line(old)];
        for line in lines.into_iter().flatten() {
            self.say(LogLevel::Info, Some(volume), line);
        }
    }

    /// The suspension flags belong to the resource: all volumes show the same.
    fn share_suspension(&mut self, new: State) {
        for v in self.volumes.values_mut() {
            v.state.susp = new.susp;
            v.state.susp_nod = new.susp_nod;
            v.state.susp_fen = new.susp_fen;
        }
    }

    /// The metadata flags follow the state (S23), and so does what clients have seen.
    fn refresh_flags(&mut self, volume: VolumeId, old: State, new: State) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Marks { crashed_primary, target_unheard, .. } = v.marks;
        let current = v.uuids()[0];
        let Some(disk) = v.disk.as_deref_mut() else { return };
        let mut word = flags::recompute(disk.flags(), new, crashed_primary, disk.options.al_updates);
        if target_unheard && new.disk >= Disk::Inconsistent {
            word |= flags::CONNECTED_IND; // As the run left it: that outlasts a restart (T40).
        }
        let changed = word != disk.flags();
        disk.set_flags(word);
        if new.disk >= Disk::Inconsistent && old.disk < Disk::Consistent && new.disk >= Disk::Consistent {
            v.exposed_uuid = current;
            v.marks.newer_elsewhere = false;
        }
        if changed {
            self.mark_meta(volume);
        }
    }

    /// Whether this change takes away the peer's copy of data that is being written, so that a new
    /// generation is due (A9, N1).
    pub(super) fn loses_peer_data(&self, volume: VolumeId, old: State, new: State) -> bool {
        let Some(v) = self.volumes.get(&volume) else { return false };
        // Called Inconsistent for a full sync, the peer may not have got to making that durable.
        let lost_early = old.conn == Conn::StartingSyncS && new.conn < Conn::Connected;
        // The peer, or its disk, was lost while this node had no disk to note that on.
        let alone = new.conn < Conn::Connected || new.pdsk < Disk::Inconsistent;
        let attached = matches!(old.disk, Disk::Attaching | Disk::Negotiating);
        let returned = attached && alone;
        // With fencing it is only Consistent then, and is written all the same.
        let good = if returned { Disk::Consistent } else { Disk::UpToDate };
        (new.lost_peer_data_since(old) || lost_early || returned)
            && new.disk >= good
            && v.disk.is_some()
            && (new.role == Role::Primary || new.peer == Role::Primary)
            && v.lacks_own_generation()
    }
}
