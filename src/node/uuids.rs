//! Generation UUIDs: how they rotate, and how the peer learns of them (states.md section 4).

use super::Node;
use super::effect::LogLevel;
use super::state::{Conn, Disk, Role, flags};
use super::volume::{PeerUuids, Volume};
use super::worker::Work;
use crate::units::VolumeId;
use crate::wire::packet::{Packet, Uuids};

/// What the sync UUID adds to the bitmap UUID it derives from (S56).
pub(super) const SYNC_UUID_OFFSET: u64 = 1 << 48;
/// The current UUID of fresh metadata.
pub(super) const JUST_CREATED: u64 = 4;

impl Volume {
    /// The own UUIDs: current, bitmap, the two of the history. Zero without a disk.
    pub(super) fn uuids(&self) -> [u64; 4] {
        self.disk.as_ref().map_or([0; 4], |disk| {
            let u = disk.superblock.uuids;
            [u.current, u.bitmap, u.history[0], u.history[1]]
        })
    }

    /// Stores the current UUID with the role bit (S52). What clients see follows it, unless that is the peer's
    /// data: of a target, or of a Primary whose disk is being attached.
    pub(super) fn set_current(&mut self, value: u64) {
        let bit = u64::from(self.state.role == Role::Primary);
        let value = (value & !1) | bit;
        if self.state.disk >= Disk::Consistent {
            self.exposed_uuid = value;
        }
        if let Some(disk) = self.disk.as_deref_mut() {
            disk.superblock.uuids.current = value;
            disk.dirty = true;
        }
    }

    /// Sets the bitmap UUID and leaves the history alone.
    pub(super) fn set_bitmap_uuid(&mut self, value: u64) {
        if let Some(disk) = self.disk.as_deref_mut() {
            disk.superblock.uuids.bitmap = value;
            disk.dirty = true;
        }
    }

    /// Sets the bitmap UUID; an old one goes into the history (S53).
    pub(super) fn rotate_bitmap_uuid(&mut self, value: u64) {
        if let Some(disk) = self.disk.as_deref_mut() {
            let uuids = &mut disk.superblock.uuids;
            if uuids.bitmap != 0 {
                uuids.history = [uuids.bitmap, uuids.history[0]];
            }
            uuids.bitmap = value;
            disk.dirty = true;
        }
    }

    /// A new current UUID: the old one becomes the bitmap UUID, without rotation (S54).
    pub(super) fn new_current(&mut self, random: u64) {
        let old = self.uuids()[0];
        self.set_bitmap_uuid(old);
        self.set_current(random);
    }

    /// A new current UUID during a run whose end was not heard of: the bitmap counts from the sync UUID
    /// if the target did not end it; if it did, it has the old current one, which goes into the older
    /// history (T40).
    fn new_current_beside_bitmap(&mut self, random: u64) {
        let old = self.uuids()[0];
        if let Some(disk) = self.disk.as_deref_mut() {
            disk.superblock.uuids.history[1] = old;
        }
        self.set_current(random);
    }

    /// Whether losing the peer or being promoted without one calls for a new current UUID: a bitmap
    /// UUID tells already that the data differ, unless the peer may have ended the run that it is of
    /// (N1, N3, T40).
    pub(super) fn lacks_own_generation(&self) -> bool {
        self.uuids()[1] == 0 || self.marks.target_unheard
    }
}

/// UUIDs as the log shows them.
pub(super) fn uuids_text(uuids: [u64; 4]) -> String {
    uuids.map(|uuid| format!("{uuid:016X}")).join(":")
}

impl Node {
    /// A random UUID that is none of the values with a meaning.
    pub(super) fn fresh_uuid(&mut self) -> u64 {
        loop {
            let uuid = self.random_u64();
            if uuid & !1 != 0 && uuid & !1 != JUST_CREATED {
                return uuid;
            }
        }
    }

    /// Makes a new current UUID in memory; the caller has it written (S54).
    pub(super) fn make_current_uuid(&mut self, volume: VolumeId) {
        let random = self.fresh_uuid();
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let old_bitmap = v.uuids()[1];
        let unheard = std::mem::take(&mut v.marks.target_unheard);
        let beside = unheard && old_bitmap != 0;
        if unheard
            && v.state.conn < Conn::Connected
            && let Some(disk) = v.disk.as_deref_mut()
        {
            disk.set_flags(disk.flags() & !flags::CONNECTED_IND);
        }
        if beside {
            v.new_current_beside_bitmap(random);
        } else {
            v.new_current(random);
        }
        let text = format!("new current UUID {}", uuids_text(v.uuids()));
        if beside {
            let text = "the peer may have ended the resync, or not begun it: what is written from now on is new to it";
            self.say(LogLevel::Info, Some(volume), text);
        } else if old_bitmap != 0 {
            let was = format!("bm UUID was already set: {old_bitmap:016X}");
            self.say(LogLevel::Info, Some(volume), was);
        }
        self.say(LogLevel::Info, Some(volume), text);
    }

    /// The work that makes the new generations which were due when I/O froze.
    pub(super) fn generations_due(&self) -> Vec<Work> {
        let due = self.volumes.iter().filter(|(_, v)| v.marks.new_uuid_due);
        due.map(|(volume, _)| Work::NewGeneration { volume: *volume }).collect()
    }

    /// The peer's copy of the data is lost to us: a new generation, durable, then told (A9, N1).
    pub(super) fn new_generation(&mut self, volume: VolumeId) {
        if let Some(v) = self.volumes.get_mut(&volume).filter(|v| v.state.conn < Conn::Connected) {
            _ = v.distrust_peer(); // If that was not decided when it was lost.
        }
        let due = |v: &Volume| v.has_usable_disk() && v.lacks_own_generation();
        let due = self.volumes.get(&volume).is_some_and(due);
        let mut steps = vec![Work::GenerationDurable { volume }];
        if due {
            self.make_current_uuid(volume);
            steps = vec![
                Work::SyncMeta { volume },
                Work::GenerationDurable { volume },
                Work::SendUuids { volume, flags: 0 },
            ];
        }
        self.worker.push_front(steps);
    }

    /// Writes that the peer does not have may be answered: the generation that says so is durable
    /// (T17, I35).
    pub(super) fn generation_durable(&mut self, volume: VolumeId) {
        if let Some(v) = self.volumes.get_mut(&volume) {
            if v.disk.as_ref().is_some_and(|disk| disk.failed) {
                return; // It is not: what only this disk has counts for nothing, once it is closed (I3).
            }
            v.marks.hold_unmirrored = false;
            v.marks.new_uuid_due = false;
        }
        self.recheck_requests();
    }

    /// Sends P_UUIDS, if there is a disk to speak of (W67). `extra` is or-ed into the flags.
    pub(super) fn send_uuids(&mut self, volume: VolumeId, extra: u64) {
        if !self.link().is_up() {
            return;
        }
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if v.state.disk < Disk::Negotiating || v.disk.is_none() {
            return;
        }
        let [current, bitmap, h0, h1] = v.uuids();
        v.bits_sent = v.bits_set();
        let inconsistent = v.negotiated.is_some_and(|(disk, _)| disk == Disk::Inconsistent);
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let flags = extra
            | flag(v.marks.discard_my_data, Uuids::DISCARD_MY_DATA)
            | flag(v.marks.crashed_primary, Uuids::CRASHED_PRIMARY)
            | flag(inconsistent, Uuids::INCONSISTENT);
        let bits = v.bits_sent;
        self.send_now(volume, Packet::Uuids(Uuids { current, bitmap, history: [h0, h1], bits, flags }));
    }

    /// Takes the own UUIDs for the peer's too: a run ended well (W180).
    pub(super) fn peer_has_our_uuids(&mut self, volume: VolumeId) {
        if let Some(v) = self.volumes.get_mut(&volume) {
            let [current, bitmap, h0, h1] = v.uuids();
            v.peer_uuids = Some(PeerUuids { current, bitmap, history: [h0, h1], bits: 0, flags: 0 });
        }
    }
}
