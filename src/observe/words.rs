//! The short answers about a volume: role, states, generation identifiers, `sh-status` (L57, L64 to
//! L67), and the words of version 9 for version 8.4's states (L73).

use std::fmt::Write;

use super::proc_drbd::{is_unconfigured, permille_done};
use crate::node::status::{ResourceStatus, VolumeStatus};

/// What stands for the state of a volume that is not configured (L64).
pub const UNCONFIGURED: &str = "Unconfigured";

/// `Primary/Secondary`, own role first (L64).
#[must_use]
pub fn role(volume: &VolumeStatus) -> String {
    pair(volume, &volume.role, &volume.peer_role)
}

/// The state of the connection and the resync in one word (L65).
#[must_use]
pub fn cstate(volume: &VolumeStatus) -> String {
    if is_unconfigured(volume) { UNCONFIGURED.to_owned() } else { volume.cstate.clone() }
}

/// `UpToDate/Inconsistent`, own disk first (L66).
#[must_use]
pub fn dstate(volume: &VolumeStatus) -> String {
    pair(volume, &volume.disk, &volume.peer_disk)
}

fn pair(volume: &VolumeStatus, own: &str, peer: &str) -> String {
    if is_unconfigured(volume) { UNCONFIGURED.to_owned() } else { format!("{own}/{peer}") }
}

/// The four UUIDs and seven flags of `get-gi` (L67); `None` without a disk.
#[must_use]
pub fn generations(volume: &VolumeStatus) -> Option<String> {
    if volume.disk == "Diskless" {
        return None;
    }
    let mut line = volume.uuids.map(|uuid| format!("{uuid:016X}")).join(":");
    for bit in GI_FLAGS {
        let _ = write!(line, ":{}", u8::from(volume.md_flags & bit != 0));
    }
    Some(line)
}

/// The metadata flags of S23 in the order of `get-gi`: consistent, was-up-to-date, was-primary,
/// was-connected, full-sync, peer-outdated, crashed-primary.
pub const GI_FLAGS: [u32; 7] = [0x001, 0x010, 0x002, 0x004, 0x008, 0x020, 0x040];

/// The lines of `drbdsetup sh-status` for one volume (L57).
#[must_use]
pub fn sh_status(resource: &ResourceStatus, volume: &VolumeStatus) -> String {
    let mut text =
        format!("_minor={}\n_res_name={}\n_volume={}\n", volume.minor, resource.name, volume.volume);
    if is_unconfigured(volume) {
        text.push_str("_known=Unconfigured\n\n_cstate=Unconfigured\n_role=\n_peer=\n_disk=\n_pdsk=\n\n");
        text.push_str("_flags_susp=\n_flags_aftr_isp=\n_flags_peer_isp=\n_flags_user_isp=\n\n");
        text.push_str("_resynced_percent=\n\n_sh_status_process\n");
        return text;
    }
    let flag = |set: bool| if set { "1" } else { "" };
    let _ = write!(
        text,
        "_known=Configured\n\n_cstate={}\n_role={}\n_peer={}\n_disk={}\n_pdsk={}\n\n",
        volume.cstate, volume.role, volume.peer_role, volume.disk, volume.peer_disk
    );
    let _ = write!(
        text,
        "_flags_susp={}\n_flags_aftr_isp={}\n_flags_peer_isp={}\n_flags_user_isp={}\n\n",
        flag(!resource.suspended.is_empty()),
        flag(volume.paused.contains('a')),
        flag(volume.paused.contains('p')),
        flag(volume.paused.contains('u')),
    );
    let percent = volume.resync.as_ref().filter(|resync| resync.left_bits > 0).map(|resync| {
        let permille = permille_done(resync);
        format!("{}.{}", permille / 10, permille % 10)
    });
    let _ = write!(text, "_resynced_percent={}\n\n_sh_status_process\n", percent.unwrap_or_default());
    text
}

/// Version 9's word for the state of a connection: what replicates counts as `Connected`.
#[must_use]
pub fn connection_state(cstate: &str) -> &str {
    match cstate {
        "WFConnection" => "Connecting",
        _ if is_at_least_connected(cstate) => "Connected",
        "WFReportParams" => "Connected",
        other => other,
    }
}

/// Version 9's word for the state of replication.
#[must_use]
pub fn replication_state(cstate: &str) -> &str {
    match cstate {
        "Connected" => "Established",
        other if is_at_least_connected(other) => other,
        _ => "Off",
    }
}

/// Whether two nodes have agreed to replicate: `Connected`, or any of the resync and verify states.
#[must_use]
pub fn is_at_least_connected(cstate: &str) -> bool {
    matches!(
        cstate,
        "Connected"
            | "StartingSyncS"
            | "StartingSyncT"
            | "WFBitMapS"
            | "WFBitMapT"
            | "WFSyncUUID"
            | "SyncSource"
            | "SyncTarget"
            | "PausedSyncS"
            | "PausedSyncT"
            | "VerifyS"
            | "VerifyT"
            | "Ahead"
            | "Behind"
    )
}

/// The role of a whole resource: Primary if one of its volumes is.
#[must_use]
pub fn resource_role(resource: &ResourceStatus) -> &'static str {
    if resource.volumes.iter().any(|volume| volume.role == "Primary") { "Primary" } else { "Secondary" }
}

/// The peer's role for a whole resource.
#[must_use]
pub fn peer_role(resource: &ResourceStatus) -> &str {
    let roles = resource.volumes.iter().map(|volume| volume.peer_role.as_str());
    roles.clone().find(|role| *role == "Primary").or_else(|| roles.clone().next()).unwrap_or("Unknown")
}

/// Why a resync waits: `no`, or `user`, `peer`, `dependency` (L70).
#[must_use]
pub fn resync_suspended(volume: &VolumeStatus) -> String {
    let reasons: Vec<&str> = [('u', "user"), ('p', "peer"), ('a', "dependency")]
        .into_iter()
        .filter_map(|(letter, reason)| volume.paused.contains(letter).then_some(reason))
        .collect();
    if reasons.is_empty() { "no".to_owned() } else { reasons.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::status::ResyncStatus;

    fn volume() -> VolumeStatus {
        VolumeStatus {
            minor: 1,
            cstate: "SyncTarget".into(),
            role: "Secondary".into(),
            peer_role: "Primary".into(),
            disk: "Inconsistent".into(),
            peer_disk: "UpToDate".into(),
            ..VolumeStatus::default()
        }
    }

    #[test]
    fn own_side_comes_first() {
        assert_eq!(role(&volume()), "Secondary/Primary");
        assert_eq!(dstate(&volume()), "Inconsistent/UpToDate");
        assert_eq!(cstate(&volume()), "SyncTarget");
    }

    #[test]
    fn generations_have_the_flags_in_the_tools_order() {
        let with = |md_flags| {
            let uuids = [0xA1B2_C3D4_E5F6_0718, 4, 0, 1];
            generations(&VolumeStatus { uuids, md_flags, ..volume() }).unwrap()
        };
        // Consistent, WasUpToDate, PrimaryInd as bits 0, 4 and 1 of S23.
        let text = "A1B2C3D4E5F60718:0000000000000004:0000000000000000:0000000000000001:1:1:1:0:0:0:0";
        assert_eq!(with(0x13), text);
        assert!(with(0x40).ends_with(":0:0:0:0:0:0:1"));
        assert!(with(0x28).ends_with(":0:0:0:0:1:1:0"));
        assert_eq!(generations(&VolumeStatus { disk: "Diskless".into(), ..volume() }), None);
    }

    #[test]
    fn sh_status_is_shell_assignments() {
        let resource = ResourceStatus { name: "r0".into(), ..ResourceStatus::default() };
        let resync = ResyncStatus { total_bits: 1 << 20, left_bits: 1 << 19, ..ResyncStatus::default() };
        let volume = VolumeStatus { resync: Some(resync), paused: "u".into(), ..volume() };
        let text = sh_status(&resource, &volume);
        for line in [
            "_minor=1",
            "_known=Configured",
            "_cstate=SyncTarget",
            "_pdsk=UpToDate",
            "_flags_susp=",
            "_flags_user_isp=1",
            "_resynced_percent=50.1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn states_translate_to_version_nine() {
        for (cstate, connection, replication) in [
            ("StandAlone", "StandAlone", "Off"),
            ("WFConnection", "Connecting", "Off"),
            ("WFReportParams", "Connected", "Off"),
            ("Connected", "Connected", "Established"),
            ("SyncSource", "Connected", "SyncSource"),
        ] {
            assert_eq!((connection_state(cstate), replication_state(cstate)), (connection, replication));
        }
    }
}
