//! The parameters two nodes tell each other when they connect: protocol, sync parameters, sizes,
//! UUIDs (wire.md 3.4, 3.5; states.md 2.11).

use super::Node;
use super::decision::after_sb::Policies;
use super::decision::size::{self, Diskless};
use super::effect::LogLevel;
use super::greeting::{Await, Greeting};
use super::link::Phase;
use super::state::{Conn, Disk, Role, State, StateChange};
use super::uuids::JUST_CREATED;
use super::volume::PeerUuids;
use super::worker::Work;
use crate::config::options::{NetOptions, Protocol as Replication};
use crate::units::{Sector, VolumeId};
use crate::wire::digest::DigestAlg;
use crate::wire::packet::{
    AlgName, Packet, Protocol, QueueLimits, ResyncController, Sizes, StateWord, SyncParam, Uuids,
};

/// Largest block of data in one packet, in bytes (W63).
const MAX_BIO_BYTES: u32 = 1 << 20;

impl Node {
    /// Work: introduces this node to an authenticated peer (S29 e to i), unless that one has gone
    /// and another one is being greeted.
    pub(super) fn introduce(&mut self) {
        let (Phase::Greeting(Greeting { waits_for: Await::Introduction, .. }), Some(_)) =
            (&self.link().phase, self.link().data)
        else {
            return;
        };
        let now = self.now;
        let link = self.link_mut();
        link.phase = Phase::Up;
        link.state_sent = true;
        link.protocol_checked = false;
        link.connected_at = now;
        link.parted_at = None;
        link.alive.start(now);
        link.epochs = super::epochs::Epochs::default();
        link.own_digest = None;
        let (mut discard, mut timeout) = (false, std::time::Duration::from_secs(42));
        if let Some(config) = &mut link.config {
            discard = std::mem::take(&mut config.discard_my_data);
            timeout = config.send_timeout();
            link.own_digest =
                config.options.data_integrity_alg.as_deref().and_then(|n| DigestAlg::from_name(n).ok());
        }
        for socket in [self.link().data, self.link().meta].into_iter().flatten() {
            self.effects.push_back(super::Effect::SendTimeout { socket, timeout });
        }
        let protocol = self.protocol_packet(discard);
        self.send_now(VolumeId(0), protocol);
        for volume in self.volume_ids() {
            if let Some(v) = self.volumes.get_mut(&volume) {
                v.marks.discard_my_data = discard;
                v.marks.use_degr_wfc = false;
                v.peer_uuids = None;
                v.marks.early_sync_uuid = None;
            }
            self.send_sync_param(volume);
            self.send_sizes(volume, 0);
            self.send_uuids(volume, 0);
            self.send_state(volume);
        }
        self.set_cstate(Conn::WFReportParams);
        for volume in self.volume_ids() {
            self.force(volume, StateChange::conn(Conn::WFReportParams));
        }
        if self.volumes.is_empty() {
            self.link_mut().state_sent = false;
        }
        self.hold_data(false);
    }

    /// Sends P_PROTOCOL_UPDATE (W52).
    pub(super) fn send_protocol_update(&mut self) {
        let Some(config) = &self.link().config else { return };
        let packet = Packet::ProtocolUpdate(protocol_of(&config.options));
        let digest = config.options.data_integrity_alg.as_deref().and_then(|n| DigestAlg::from_name(n).ok());
        self.link_mut().own_digest = digest;
        self.send_now(VolumeId(0), packet);
    }

    fn protocol_packet(&self, discard: bool) -> Packet {
        let config = self.link().config.as_ref();
        let defaults = NetOptions::default();
        let options = config.map_or(&defaults, |config| &config.options);
        let tentative = config.is_some_and(|config| config.tentative);
        let conn_flags = if discard { Protocol::DISCARD_MY_DATA } else { 0 }
            | if tentative { Protocol::DRY_RUN } else { 0 };
        Packet::Protocol(Protocol { conn_flags, ..protocol_of(options) })
    }

    /// P_PROTOCOL: everything that decides over data must be equal (S30, W49).
    pub(super) fn on_protocol(&mut self, theirs: &Protocol) {
        let Some(config) = &self.link().config else { return };
        let ours = protocol_of(&config.options);
        let mirrored = |value: u32| match value {
            5 => 6,
            6 => 5,
            other => other,
        };
        let checks = [
            ("protocol", ours.protocol, theirs.protocol),
            ("after-sb-0pri", ours.after_sb_0p, mirrored(theirs.after_sb_0p)),
            ("after-sb-1pri", ours.after_sb_1p, mirrored(theirs.after_sb_1p)),
            ("after-sb-2pri", ours.after_sb_2p, mirrored(theirs.after_sb_2p)),
            ("allow-two-primaries", ours.two_primaries, theirs.two_primaries),
        ];
        if let Some((name, ..)) = checks.iter().find(|(_, own, peer)| own != peer) {
            return self
                .refuse_peer(&format!("incompatible {name} settings: they must be equal on both nodes"));
        }
        if ours.integrity_alg != theirs.integrity_alg {
            let text = "incompatible data-integrity-alg settings: they must be equal on both nodes";
            return self.refuse_peer(text);
        }
        self.adopt_peer_digest(theirs);
        let link = self.link_mut();
        link.protocol_checked = true;
        link.dry_run = theirs.conn_flags & Protocol::DRY_RUN != 0;
    }

    /// P_PROTOCOL_UPDATE: the peer's net options changed; they are taken over (W52).
    pub(super) fn on_protocol_update(&mut self, theirs: &Protocol) {
        self.adopt_peer_digest(theirs);
        let replication = match theirs.protocol {
            1 => Replication::A,
            2 => Replication::B,
            _ => Replication::C,
        };
        if let Some(config) = &mut self.link_mut().config {
            config.options.protocol = replication;
            config.options.allow_two_primaries = theirs.two_primaries != 0;
        }
    }

    fn adopt_peer_digest(&mut self, theirs: &Protocol) {
        let name = theirs.integrity_alg.as_str();
        let digest = if name.is_empty() { Ok(None) } else { DigestAlg::from_name(name).map(Some) };
        match digest {
            Ok(digest) => {
                let link = self.link_mut();
                link.peer_digest = digest;
                let (apv, features) = (link.apv, link.features);
                self.speak(apv, features);
            }
            Err(_) => self.refuse_peer(&format!("the peer's data-integrity-alg {name} is not known here")),
        }
    }

    /// Sends P_SYNC_PARAM89 (3.5).
    pub(super) fn send_sync_param(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get(&volume) else { return };
        let net = self.link().config.as_ref().map(|config| &config.options);
        let alg = |name: Option<&String>| name.and_then(|n| AlgName::new(n)).unwrap_or_default();
        let defaults = crate::config::options::DiskOptions::default();
        let disk = v.disk.as_ref().map_or(&defaults, |disk| &disk.options);
        let packet = SyncParam {
            resync_rate: disk.resync_rate_kib_s,
            verify_alg: alg(net.and_then(|n| n.verify_alg.as_ref())),
            csums_alg: alg(net.and_then(|n| n.csums_alg.as_ref())),
            controller: Some(ResyncController {
                plan_ahead: disk.c_plan_ahead_ds,
                delay_target: disk.c_delay_target_ds,
                fill_target: disk.c_fill_target_sectors,
                max_rate: disk.c_max_rate_kib_s,
            }),
        };
        self.send_now(volume, Packet::SyncParam(packet));
    }

    /// P_SYNC_PARAM: algorithms must match, rates are taken over (W55, W56).
    pub(super) fn on_sync_param(&mut self, volume: VolumeId, theirs: &SyncParam) {
        let Some(v) = self.volumes.get(&volume) else { return self.ignore_volume("P_SYNC_PARAM", volume) };
        if v.state.conn == Conn::WFReportParams {
            let net = self.link().config.as_ref().map(|config| &config.options);
            let own = |name: Option<&String>| name.map_or("", String::as_str).to_owned();
            let (verify, csums) =
                (own(net.and_then(|n| n.verify_alg.as_ref())), own(net.and_then(|n| n.csums_alg.as_ref())));
            if theirs.verify_alg.as_str() != verify {
                return self
                    .refuse_peer("incompatible verify-alg settings: they must be equal on both nodes");
            }
            if theirs.csums_alg.as_str() != csums {
                return self.refuse_peer("incompatible csums-alg settings: they must be equal on both nodes");
            }
        }
        if let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) {
            disk.options.resync_rate_kib_s = theirs.resync_rate;
            if let Some(controller) = &theirs.controller {
                disk.options.c_plan_ahead_ds = controller.plan_ahead.min(300);
                disk.options.c_delay_target_ds = controller.delay_target;
                disk.options.c_fill_target_sectors = controller.fill_target;
                disk.options.c_max_rate_kib_s = controller.max_rate;
            }
        }
    }

    /// Sends P_SIZES (3.5).
    pub(super) fn send_sizes(&mut self, volume: VolumeId, dds_flags: u16) {
        if !self.link().is_up() {
            return;
        }
        let Some(v) = self.volumes.get(&volume) else { return };
        let attached = v.disk.as_ref().filter(|_| v.state.disk >= Disk::Negotiating);
        let limits = attached.map_or_else(QueueLimits::default, |disk| QueueLimits {
            physical_block_size: disk.facts.physical_block_bytes.max(512),
            logical_block_size: disk.facts.logical_block_bytes.max(512),
            alignment_offset: 0,
            io_min: disk.facts.io_min_bytes.max(512),
            io_opt: disk.facts.io_opt_bytes,
            discard_enabled: u8::from(disk.facts.discards),
            discard_zeroes_data: 0,
            write_same_capable: 0,
        });
        let packet = Sizes {
            d_size: attached.map_or(0, |disk| disk.offered.get()),
            u_size: attached.map_or(0, |disk| disk.options.size_sectors),
            c_size: v.end.get(),
            max_bio_size: attached.map_or(MAX_BIO_BYTES, |disk| disk.facts.max_io_bytes.min(MAX_BIO_BYTES)),
            queue_order_type: 0,
            dds_flags,
            limits: self.link().features.large_trims().then_some(limits),
        };
        self.send_now(volume, Packet::Sizes(packet));
    }

    /// P_SIZES: both nodes compute the same size (W58 to W62).
    pub(super) fn on_sizes(&mut self, volume: VolumeId, theirs: &Sizes) {
        let Some(v) = self.volumes.get(&volume) else { return self.ignore_volume("P_SIZES", volume) };
        let connected = v.state.conn > Conn::WFReportParams;
        let (old, state) = (v.end, v.state);
        let own = v.disk.as_ref().filter(|_| state.disk >= Disk::Negotiating);
        let Some(disk) = own else {
            return self.adopt_peer_size(volume, theirs);
        };
        let own_user = disk.options.size_sectors;
        let user = if connected { theirs.u_size } else { size::user_size(own_user, theirs.u_size) };
        let (offered, peer, last) = (disk.offered.get(), theirs.d_size, old.get());
        let agreed = size::agreed_size(offered, peer, last, user);
        let online = connected && state.pdsk != Disk::Diskless;
        if size::refuses_to_shrink(last, agreed, state.disk >= Disk::Outdated, online) {
            return self.refuse_peer(&size::too_small_text(agreed, last));
        }
        if size::asks_too_much(offered, peer, last, user) {
            let text = format!("the requested size of {user} sectors is more than the disks have: ignored");
            self.say(LogLevel::Error, Some(volume), text);
        }
        self.set_size(volume, Sector::new(agreed));
        if connected && theirs.c_size != agreed {
            self.send_sizes(volume, theirs.dds_flags);
        }
    }

    /// Without a disk the size is the peer's (W61).
    fn adopt_peer_size(&mut self, volume: VolumeId, theirs: &Sizes) {
        let Some(v) = self.volumes.get(&volume) else { return };
        let peer = size::Peer { d_size: theirs.d_size, u_size: theirs.u_size, c_size: theirs.c_size };
        let old = v.end.get();
        match size::diskless_size(old, v.state.role == Role::Primary, &peer) {
            Diskless::Keep => {}
            Diskless::KeepWithWarning => {
                let text = "the peer has no disk either: keeping the size of this device";
                self.say(LogLevel::Warn, Some(volume), text);
            }
            Diskless::Adopt(size) => self.set_size(volume, Sector::new(size)),
            Diskless::Refuse => self.refuse_peer(&size::too_small_text(theirs.d_size, old)),
        }
    }

    /// Takes a new device size: new bits are out of sync, old ones stay (M48).
    pub(super) fn set_size(&mut self, volume: VolumeId, end: Sector) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if v.end == end {
            return;
        }
        v.end = end;
        if let Some(disk) = v.disk.as_deref_mut() {
            disk.bitmap.resize(end, true);
            disk.shadow.resize(end);
            disk.dirty = true;
            self.worker.push(Work::SyncMeta { volume }); // Behind the bits of that size (M81).
        }
        let text = format!("size = {} KB ({} sectors)", end.get() / 2, end.get());
        self.say(LogLevel::Info, Some(volume), text);
    }

    /// P_UUIDS (S31).
    pub(super) fn on_uuids(&mut self, volume: VolumeId, theirs: &Uuids) {
        let Some(v) = self.volumes.get_mut(&volume) else { return self.ignore_volume("P_UUIDS", volume) };
        let Uuids { current, bitmap, history, bits, flags } = *theirs;
        v.peer_uuids = Some(PeerUuids { current, bitmap, history, bits, flags });
        let State { conn, disk, pdsk, role, .. } = v.state;
        if v.meets_other_data() {
            return self.refuse_other_data(volume);
        }
        if disk >= Disk::Inconsistent
            && conn == Conn::Connected
            && v.uuids()[0] == JUST_CREATED
            && flags & Uuids::SKIP_INITIAL_SYNC != 0
        {
            return self.skip_initial_sync(volume, current);
        }
        // Clients see the peer's data, unless nobody may read them.
        let shown = conn < Conn::Connected || pdsk != Disk::Inconsistent;
        if disk < Disk::Consistent && shown && (role == Role::Primary || conn >= Conn::Connected) {
            v.exposed_uuid = current;
        }
    }

    /// Clients here have seen data that are not the peer's, and there are no others (S31).
    pub(super) fn refuse_other_data(&mut self, volume: VolumeId) {
        let exposed = self.volumes.get(&volume).map_or(0, |v| v.exposed_uuid);
        self.refuse_peer(&format!("Can only connect to data with current UUID={exposed:016X}"));
    }

    /// The peer declares both fresh disks equal (S31, W71). Its further packets wait until the bitmap says so, too: a
    /// superblock that is UpToDate with the bits of a fresh disk would keep them for good.
    fn skip_initial_sync(&mut self, volume: VolumeId, current: u64) {
        self.say(LogLevel::Info, Some(volume), "Accepted new current UUID, preparing to skip initial sync");
        let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) else { return };
        disk.bitmap.clear_all();
        self.work_before_more_data([
            Work::WriteBitmap { volume, all: false },
            Work::FlushMeta { volume },
            Work::TakeCurrentUuid { volume, current },
        ]);
    }

    /// Work: the bitmap of a disk that the peer declares equal is empty, and its data are called good.
    pub(super) fn take_current_uuid(&mut self, volume: VolumeId, current: u64) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if v.state.disk < Disk::Inconsistent
            || v.state.conn != Conn::Connected
            || v.uuids()[0] != JUST_CREATED
        {
            return;
        }
        v.set_current(current);
        v.set_bitmap_uuid(0);
        let up = StateChange { pdsk: Some(Disk::UpToDate), ..StateChange::disk(Disk::UpToDate) };
        self.force(volume, up);
        self.peer_has_our_uuids(volume);
        self.worker.push(Work::SyncMeta { volume });
        self.worker.push(Work::SendUuids { volume, flags: 0 });
        // An older word of this disk may be on its way: the peer would believe it.
        self.worker.push(Work::SendState { volume });
    }

    /// Sends P_STATE with the present state.
    pub(super) fn send_state(&mut self, volume: VolumeId) {
        if let Some(state) = self.volumes.get(&volume).map(|v| v.state) {
            self.send_state_of(volume, state);
        }
    }

    /// Sends P_STATE with this state. Never Negotiating before P_UUIDS (W69): the caller sends them. And never
    /// Attaching: who has heard of that does not answer when the disk negotiates (A7).
    pub(super) fn send_state_of(&mut self, volume: VolumeId, mut state: State) {
        if state.disk == Disk::Attaching {
            state.disk = Disk::Diskless;
        }
        // That was to be on the disk before anybody hears of it, and the disk went: the next word tells (T21).
        let void = self.volumes.get(&volume).is_some_and(|v| {
            state.disk == Disk::Inconsistent && v.state.disk <= Disk::Failed && v.state.conn == state.conn
        });
        if self.link().is_up() && !void {
            self.send_now(volume, Packet::State(StateWord(state.to_word())));
        }
    }

    /// A parameter for a volume that is not here: skipped (W25).
    pub(super) fn ignore_volume(&mut self, what: &str, volume: VolumeId) {
        let text = format!("{what} packet received for volume {volume}, which is not configured locally");
        self.say(LogLevel::Warn, None, text);
    }
}

/// The after-split-brain policies among the net options.
pub(super) const fn policies_of(options: &NetOptions) -> Policies {
    Policies { zero: options.after_sb_0pri, one: options.after_sb_1pri, two: options.after_sb_2pri }
}

/// The options that P_PROTOCOL carries (3.4).
fn protocol_of(options: &NetOptions) -> Protocol {
    let policies = policies_of(options);
    let [after_sb_0p, after_sb_1p, after_sb_2p] = policies.to_wire();
    Protocol {
        protocol: match options.protocol {
            Replication::A => 1,
            Replication::B => 2,
            Replication::C => 3,
        },
        after_sb_0p,
        after_sb_1p,
        after_sb_2p,
        conn_flags: 0,
        two_primaries: u32::from(options.allow_two_primaries),
        integrity_alg: options.data_integrity_alg.as_deref().and_then(AlgName::new).unwrap_or_default(),
    }
}
