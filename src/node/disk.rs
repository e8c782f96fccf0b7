//! A disk that fails or is given up (datapath.md section 10, S88, A19, A20).

use super::Node;
use super::effect::{Device, DiskOp, Effect, LogLevel};
use super::input::DiskFault;
use super::state::{Conn, Disk, Role, StateChange};
use super::worker::Work;
use crate::config::options::OnIoError;
use crate::units::VolumeId;

impl Node {
    /// A read failed: the `on-io-error` policy decides (D163).
    pub(super) fn read_fault(&mut self, volume: VolumeId, fault: &DiskFault, what: &str) {
        self.disk_fault(volume, fault, what, false);
    }

    /// A data operation failed. `follows` says that the peer has all that is on this disk, and more.
    fn disk_fault(&mut self, volume: VolumeId, fault: &DiskFault, what: &str, follows: bool) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        v.marks.io_error = true;
        let (state, path) = (v.state, v.disk.as_ref().map_or(String::new(), |d| d.facts.path.clone()));
        let policy = v.disk.as_ref().map(|disk| disk.options.on_io_error);
        let is_only_copy = !v.peer_has_all() && !follows;
        if state.disk <= Disk::Failed || *fault == DiskFault::Gone {
            return;
        }
        let text = format!("{what} on {path} failed: {}", fault_text(fault));
        self.say(LogLevel::Error, Some(volume), text);
        match policy {
            // The only good copy stays that, and the client hears of the error: called Inconsistent it would
            // be overwritten by older data at the next handshake (X11).
            Some(OnIoError::PassOn) if state.disk > Disk::Inconsistent && !is_only_copy => {
                self.force(volume, StateChange::disk(Disk::Inconsistent));
            }
            Some(OnIoError::PassOn) | None => {}
            Some(OnIoError::CallLocalIoError | OnIoError::Detach) => self.give_up_disk(volume, what),
        }
    }

    /// A read of a client failed, which the peer may serve (D45).
    pub(super) fn client_read_fault(&mut self, volume: VolumeId, fault: &DiskFault) {
        self.end_verify_of_a_bad_disk(volume);
        self.read_fault(volume, fault, "a read");
    }

    /// A verify would keep the disk UpToDate all the same (Z6).
    fn end_verify_of_a_bad_disk(&mut self, volume: VolumeId) {
        if self.volumes.get(&volume).is_some_and(|v| v.state.conn.is_verify()) {
            self.force(volume, StateChange::conn(Conn::Connected));
        }
    }

    /// A write failed, or a flush of such: what is on the disk is old.
    pub(super) fn write_fault(&mut self, volume: VolumeId, fault: &DiskFault, what: &str) {
        let Some(v) = self.volumes.get(&volume) else { return };
        // Without a connection: a Secondary whose generation is the peer's has nothing that the peer has not (T29).
        let alone = v.state.role == Role::Secondary && v.state.conn < Conn::Connected;
        let follows = alone && v.uuids()[1] == 0;
        self.end_verify_of_a_bad_disk(volume);
        self.disk_fault(volume, fault, what, follows);
    }

    /// A flush failed: what the cache had may be gone, and a later flush need not say so. Of a Primary's own writes
    /// the activity log has the extents (T2); where its disk stays in use they are out of sync: beside a good one it is
    /// Inconsistent from now on, as the only good copy it is the source, whose target hears of them in the next
    /// exchange of bitmaps. What the peer wrote it marks itself, as no barrier is acked (T10).
    pub(super) fn flush_fault(&mut self, volume: VolumeId, fault: &DiskFault) {
        self.write_fault(volume, fault, "a flush");
        let Some(v) = self.volumes.get(&volume) else { return };
        let state = v.state;
        if state.role != Role::Primary || state.disk < Disk::Inconsistent {
            return;
        }
        for extent in v.maybe_unflushed() {
            self.mark_out_of_sync(volume, extent);
        }
        if state.disk > Disk::Inconsistent
            && state.conn >= Conn::Connected
            && state.pdsk >= Disk::Inconsistent
        {
            self.protocol_error("a flush failed: the peer may have writes that this disk has lost");
        }
    }

    /// Answers a write that the disk refused. Whoever hears of it relies on the other disk from then on, and no
    /// new generation tells of that yet: this one is durably Inconsistent before, lest it is taken for UpToDate
    /// after a crash (T21, I35).
    pub(super) fn refuse_when_durable(&mut self, volume: VolumeId, answer: Work) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let elsewhere = v.state.conn >= Conn::Connected && v.peer_has_all();
        let usable = v.state.disk >= Disk::Inconsistent;
        let Some(disk) = v.disk.as_deref_mut().filter(|_| usable || elsewhere) else {
            return self.run_work(answer);
        };
        if elsewhere && disk.options.on_io_error != OnIoError::PassOn {
            disk.spoiled = true;
            disk.set_flags(disk.flags());
        }
        self.worker.push_next([Work::SyncMeta { volume }, answer]);
    }

    /// A metadata operation failed: without metadata the disk is of no use (D163).
    pub(super) fn meta_fault(&mut self, volume: VolumeId, fault: &DiskFault, what: &str) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if let Some(disk) = v.disk.as_deref_mut() {
            disk.failed = true; // Of one that is given up, too: what was to be written before is not there.
        }
        if v.state.disk <= Disk::Failed {
            return;
        }
        let text = format!("writing {what} failed: {}", fault_text(fault));
        self.say(LogLevel::Error, Some(volume), text);
        self.give_up_disk(volume, what);
    }

    fn give_up_disk(&mut self, volume: VolumeId, place: &str) {
        if self.volumes.get(&volume).is_none_or(|v| v.state.disk <= Disk::Failed) {
            return;
        }
        let text = format!("Local IO failed in {place}. Detaching...");
        self.say(LogLevel::Error, Some(volume), text);
        self.force(volume, StateChange::disk(Disk::Failed));
    }

    /// Whether the administrator wants to hear that the disk has failed.
    pub(super) fn calls_local_io_error(&self, volume: VolumeId) -> bool {
        let Some(v) = self.volumes.get(&volume) else { return false };
        v.disk.as_ref().is_some_and(|disk| {
            disk.options.on_io_error == OnIoError::CallLocalIoError && (v.marks.io_error || disk.failed)
        })
    }

    /// Work: the disk is Failed, or Diskless and still open: once nothing is under way on it, write what can
    /// be written, close it, and say Diskless (D164). Returns the piece again while something is under way.
    pub(super) fn drop_disk(&mut self, volume: VolumeId) -> Option<Work> {
        self.release_activity_waiters(volume);
        let busy = self.tickets.on_volume(volume) > 0;
        let v = self.volumes.get_mut(&volume)?;
        if v.disk.is_none() || !matches!(v.state.disk, Disk::Failed | Disk::Diskless) {
            return None;
        }
        let failed = v.state.disk == Disk::Failed;
        if busy || self.flush_before_close(volume) {
            return Some(Work::DropDisk { volume });
        }
        let v = self.volumes.get_mut(&volume)?;
        let clean = v.disk.as_ref().is_some_and(|disk| !disk.failed && !v.marks.io_error);
        if clean && failed {
            self.worker.push_front([
                Work::WriteBitmap { volume, all: false },
                Work::FlushMeta { volume },
                Work::SyncMeta { volume },
                Work::CloseDisk { volume },
            ]);
        } else {
            self.close_disk(volume);
        }
        None
    }

    /// Flushes the data once more before the disk is let go: afterwards nobody knows that the peer's last
    /// writes are in its cache, and their epochs would be called durable (T10). True if that began.
    fn flush_before_close(&mut self, volume: VolumeId) -> bool {
        let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) else {
            return false;
        };
        if !disk.options.disk_flushes || !disk.needs_flush() {
            return false;
        }
        if std::mem::replace(&mut disk.last_flush, true) {
            if self.link().is_up() && self.link().epochs.has_unflushed() {
                self.protocol_error("the disk is lost, and the last writes of the peer may not be durable");
            }
            return false;
        }
        self.start_work(volume, Device::Data, DiskOp::Flush);
        true
    }

    /// Work: the last step of a detach.
    pub(super) fn close_disk(&mut self, volume: VolumeId) {
        self.stop_resync(volume);
        self.stop_keeping(volume);
        self.force(volume, StateChange::disk(Disk::Diskless));
        // The activity log is gone, and with it the references of requests not settled yet (D82).
        self.log.forget_activity(volume);
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.disk = None;
            v.negotiated = None;
            v.behind_peer.iter_mut().for_each(|(_, in_al)| *in_al = false);
        }
        self.effects.push_back(Effect::CloseDisk { volume });
        self.release_activity_waiters(volume);
        self.forget_copies(volume);
    }

    /// What only the disk that was closed has of writes under way counts for nothing (I3): nobody can read
    /// it there, and no new generation will tell that it is newer than the peer's data (T17, I35). Unless
    /// the peer still takes them, such writes fail.
    fn forget_copies(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        v.marks.hold_unmirrored = false;
        self.log.fail_unmirrored(volume);
        self.recheck_requests();
    }
}

/// A fault in words.
fn fault_text(fault: &DiskFault) -> String {
    match fault {
        DiskFault::Os(errno) => std::io::Error::from_raw_os_error(*errno).to_string(),
        DiskFault::Unsupported => "the device cannot do this".into(),
        DiskFault::Short => "the device ends too early".into(),
        DiskFault::Gone => "the device is closed".into(),
    }
}
