//! What a state change sets off, in the order of S24.

use super::Node;
use super::effect::LogLevel;
use super::state::{Conn, Disk, Role, State, StateChange, flags};
use super::volume::Volume;
use super::worker::Work;
use crate::units::VolumeId;

impl Node {
    /// Work: the after-actions of a volume's change, from the snapshot of that change.
    pub(super) fn after_state(&mut self, volume: VolumeId, old: State, new: State) {
        let mut steps = Vec::new();
        self.after_both_up_to_date(volume, old, new); // A2
        if entered(old, new, |s| {
            s.role == Role::Primary && s.disk < Disk::UpToDate && s.pdsk < Disk::UpToDate
        }) {
            self.call_handler("pri-on-incon-degr", Some(volume)); // A3
        }
        self.thaw(old, new); // A4, A5
        if entered(old, new, |s| s.conn.is_sync_source()) && new.disk >= Disk::Inconsistent {
            steps.push(Work::SyncUuid { volume }); // A6
        }
        if old.pdsk <= Disk::Attaching && new.pdsk > Disk::Attaching && new.pdsk != Disk::DUnknown {
            let told = self.volumes.get_mut(&volume).is_some_and(|v| std::mem::take(&mut v.marks.uuids_told));
            steps.extend((!told).then_some(Work::SendUuids { volume, flags: 0 })); // A7
            steps.push(Work::SendState { volume });
        }
        self.after_losing_peer_data(volume, old, new, &mut steps); // A9, A10
        self.after_demotion(volume, old, new, &mut steps); // A11, A12
        self.tell_the_peer(volume, old, new, &mut steps);
        if entered(old, new, |s| s.conn == Conn::WFBitMapS) {
            // Behind the state: a peer that had seen older generations decides anew.
            let exchange = self.volumes.get(&volume).map_or(0, |v| v.exchange);
            steps.push(Work::SendBitmap { volume, exchange, gate_closed: false }); // A8
        }
        self.after_disk_change(volume, old, new, &mut steps); // A18 to A20
        if Conn::Connected < old.conn && old.conn < Conn::Ahead && new.conn == Conn::Connected {
            steps.push(Work::WriteBitmap { volume, all: false }); // A26
        }
        steps.push(Work::SyncMeta { volume }); // A28
        self.worker.push_front(steps);
    }

    /// Both disks are UpToDate: a crash as Primary is history (A2), and so is a generation that was due when the peer was
    /// lost while I/O was frozen, be it frozen still.
    fn after_both_up_to_date(&mut self, volume: VolumeId, old: State, new: State) {
        let both = |s: State| s.disk == Disk::UpToDate && s.pdsk == Disk::UpToDate;
        if !entered(old, new, both) {
            return;
        }
        let being_made = self.is_generation_due(volume);
        // The peer may be lost again by now.
        let Some(v) = self.volumes.get_mut(&volume).filter(|v| both(v.state)) else { return };
        v.marks.crashed_primary = false;
        if let Some(disk) = v.disk.as_deref_mut() {
            disk.set_flags(disk.flags() & !flags::CRASHED_PRIMARY); // It would say so after the next crash.
        }
        if !being_made && std::mem::take(&mut v.marks.new_uuid_due) {
            v.marks.hold_unmirrored = false;
        }
        if let Some(peer) = &mut v.peer_uuids {
            peer.flags &= !2;
        }
    }

    /// I/O that was frozen goes on once all volumes are connected again, or the data is there
    /// again (A4, A5).
    fn thaw(&mut self, old: State, new: State) {
        let connected = self.volumes.values().all(|v| v.state.conn >= Conn::Connected);
        let mut change = StateChange::NOTHING;
        if new.susp_nod && self.data_is_back(old, new, connected) {
            change.susp_nod = Some(false);
        }
        if new.susp_fen && connected {
            change.susp_fen = Some(false);
        }
        if change != StateChange::NOTHING {
            if let Some(volume) = self.volume_ids().first().copied() {
                self.force(volume, change);
            }
            self.settle_generations_due();
            self.resend_requests();
        }
    }

    /// A new generation was due when I/O froze. With the peer back, which gets all that it missed, it
    /// is not any more; else it is made now. What waits for it to be durable would wait for ever (T17).
    pub(super) fn settle_generations_due(&mut self) {
        if self.states().any(State::is_suspended) {
            return;
        }
        let connected = self.states().all(|state| state.conn >= Conn::Connected);
        for v in self.volumes.values_mut().filter(|v| v.marks.new_uuid_due) {
            if connected && v.state.pdsk >= Disk::Inconsistent {
                v.marks.new_uuid_due = false;
                v.marks.hold_unmirrored = false;
            }
        }
        self.generations_due().into_iter().for_each(|work| self.worker.push(work));
    }

    /// Whether this change makes data accessible again: the connection is back, or the last disk, or
    /// that of the connected peer, or each volume has either. The kernel would leave the last to an administrator.
    fn data_is_back(&self, old: State, new: State, connected: bool) -> bool {
        let attached = matches!(old.disk, Disk::Attaching | Disk::Negotiating)
            && self.volumes.values().all(|v| v.state.disk == Disk::UpToDate);
        let peer_attached = old.pdsk < Disk::UpToDate && new.pdsk == Disk::UpToDate;
        let has_data = |v: &Volume| v.state.disk.max(v.state.pdsk) == Disk::UpToDate;
        let all_have = self.volumes.values().all(has_data);
        attached || (connected && (old.conn < Conn::Connected || peer_attached || all_have))
    }

    /// The peer lost its copy, or a diskless peer became Primary: a new generation (A9, A10).
    fn after_losing_peer_data(&mut self, volume: VolumeId, old: State, new: State, steps: &mut Vec<Work>) {
        if self.loses_peer_data(volume, old, new) {
            let suspended = self.volumes.get(&volume).is_some_and(|v| v.state.is_suspended());
            // With the peer there its disk may be back before I/O goes on, and was written past.
            if suspended && new.conn < Conn::Connected {
                if let Some(v) = self.volumes.get_mut(&volume) {
                    v.marks.new_uuid_due = true;
                }
            } else {
                steps.push(Work::NewGeneration { volume });
            }
        } else if self.serves_a_new_primary(volume, old, new) {
            steps.push(Work::NewGeneration { volume });
        } else if self.volumes.get(&volume).is_some_and(|v| v.marks.hold_unmirrored && !v.marks.new_uuid_due)
            && !self.is_generation_due(volume)
        {
            steps.push(Work::GenerationDurable { volume });
        }
    }

    /// Whether a new generation is still to be made or to become durable.
    pub(super) fn is_generation_due(&self, volume: VolumeId) -> bool {
        self.worker.iter().any(|work| match work {
            Work::NewGeneration { volume: v } | Work::GenerationDurable { volume: v } => *v == volume,
            Work::AfterState { volume: v, old, new } => {
                *v == volume
                    && (self.loses_peer_data(volume, *old, *new)
                        || self.serves_a_new_primary(volume, *old, *new))
            }
            _ => false,
        })
    }

    /// Whether a node without a disk became Primary, which writes to the own one alone (A10).
    fn serves_a_new_primary(&self, volume: VolumeId, old: State, new: State) -> bool {
        new.pdsk < Disk::Inconsistent
            && old.peer != Role::Primary
            && new.peer == Role::Primary
            && new.disk >= Disk::UpToDate
            && self.volumes.get(&volume).is_some_and(Volume::lacks_own_generation)
    }

    /// A demotion writes the data before the superblock takes the Primary mark back (A11, A12, M87, T38).
    fn after_demotion(&mut self, volume: VolumeId, old: State, new: State, steps: &mut Vec<Work>) {
        let own = old.role == Role::Primary && new.role == Role::Secondary;
        let diskless_peer =
            new.pdsk < Disk::Inconsistent && old.peer == Role::Primary && new.peer == Role::Secondary;
        if own || diskless_peer {
            steps.push(Work::FlushData { volume });
        }
    }

    /// Packets that announce a change to the peer (W100).
    fn tell_the_peer(&mut self, volume: VolumeId, old: State, new: State, steps: &mut Vec<Work>) {
        if new.conn < Conn::Connected {
            return;
        }
        if old.disk == Disk::Attaching && new.disk == Disk::Negotiating {
            steps.extend([Work::SendSizes { volume, flags: 0 }, Work::SendUuids { volume, flags: 0 }]); // A13
        }
        let spoiled =
            old.disk == Disk::UpToDate && new.disk == Disk::Inconsistent && !new.conn.is_sync_target();
        if spoiled {
            steps.push(Work::SyncMeta { volume }); // The peer goes on alone from then on (T21, I35).
        }
        if entered(old, new, |s| s.disk == Disk::Failed) && self.calls_local_io_error(volume) {
            steps.push(Work::RunHandler { name: "local-io-error", volume }); // Before the peer is told (A19).
        }
        let send_state = (old.disk == Disk::Attaching && new.disk == Disk::Negotiating)
            || (old.aftr_isp, old.user_isp) != (new.aftr_isp, new.user_isp) // A14
            || old.conn == Conn::WFReportParams // A16
            || entered(old, new, |s| s.conn == Conn::Ahead) // A17
            || entered(old, new, |s| s.disk == Disk::Failed) // A19
            || entered(old, new, |s| s.disk == Disk::Diskless) // A20
            || spoiled // A21
            || entered(old, new, |s| s.disk == Disk::Outdated && s.conn == Conn::Connected) // Ours: X4
            || (old.disk < Disk::UpToDate && old.conn >= Conn::SyncSource && new.conn == Conn::Connected) // A24
            || (old.conn == Conn::VerifyS && new.conn == Conn::Connected); // A25
        if send_state {
            steps.push(Work::SendStateOf { volume, state: new });
        }
    }

    /// Full syncs by command, and disks that fail (A18 to A20).
    fn after_disk_change(&mut self, volume: VolumeId, old: State, new: State, steps: &mut Vec<Work>) {
        if entered(old, new, |s| matches!(s.conn, Conn::StartingSyncS | Conn::StartingSyncT)) {
            steps.extend([Work::SetAllBits { volume }, Work::FullSyncReady { volume }]);
        }
        if entered(old, new, |s| s.disk == Disk::Failed) {
            steps.push(Work::DropDisk { volume });
        }
        if entered(old, new, |s| s.disk == Disk::Diskless) && old.disk != Disk::Diskless {
            self.say(LogLevel::Info, Some(volume), "the disk is detached");
            steps.push(Work::DropDisk { volume }); // A negotiation that ended badly leaves it open (Z4).
        }
    }

    /// Work: fencing succeeded, or a disconnect ended; dirty superblocks are written (S26).
    pub(super) fn after_connection(&mut self) {
        self.thaw_after_fencing();
        self.sync_all_meta();
    }
}

/// Whether the change made `condition` true.
fn entered(old: State, new: State, condition: impl Fn(State) -> bool) -> bool {
    !condition(old) && condition(new)
}
