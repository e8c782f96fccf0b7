//! What `status --json` prints (L74): one array, an object for each resource.
//!
//! Fields of version 9 that version 8.4's protocol has no notion of keep the value they have on a
//! healthy pair of nodes: clients parse them.

use serde_json::{Value, json};

use super::proc_drbd::permille_done;
use super::status_text::write_ordering;
use super::words::{connection_state, peer_role, replication_state, resource_role, resync_suspended};
use crate::node::status::{ResourceStatus, VolumeStatus};

/// The text for these resources.
#[must_use]
pub fn render(resources: &[ResourceStatus]) -> String {
    let all: Vec<Value> = resources.iter().map(resource).collect();
    let mut text = format!("{:#}", Value::Array(all));
    text.push('\n');
    text
}

fn resource(status: &ResourceStatus) -> Value {
    let suspended = |reason: &str| status.suspended.iter().any(|known| known == reason);
    let connections = if status.peer.is_some() { vec![connection(status)] } else { Vec::new() };
    json!({
        "name": status.name,
        "node-id": 0,
        "role": resource_role(status),
        "suspended": !status.suspended.is_empty(),
        "suspended-user": suspended("user"),
        "suspended-no-data": suspended("no-data"),
        "suspended-fencing": suspended("fencing"),
        "suspended-quorum": false,
        "force-io-failures": false,
        "write-ordering": status.volumes.first().map_or("none", |volume| write_ordering(volume.counters.wo)),
        "devices": status.volumes.iter().map(device).collect::<Vec<_>>(),
        "connections": connections,
    })
}

fn device(volume: &VolumeStatus) -> Value {
    let c = &volume.counters;
    json!({
        "volume": volume.volume,
        "minor": volume.minor,
        "disk-state": volume.disk,
        "client": false,
        "open": volume.open_count > 0,
        "quorum": true,
        "size": volume.size_sectors / 2,
        "read": c.dr,
        "written": c.dw,
        "al-writes": c.al,
        "bm-writes": c.bm,
        "upper-pending": c.ap,
        "lower-pending": c.lo,
    })
}

fn connection(status: &ResourceStatus) -> Value {
    let state = connection_state(&status.cstate);
    let connected = state == "Connected";
    let host = |address: &Option<String>| address.as_deref().map_or(Value::Null, host);
    let pending: u64 = status.volumes.iter().map(|volume| volume.counters.pe).sum();
    json!({
        "peer-node-id": 1,
        "name": "peer",
        "connection-state": state,
        "congested": false,
        "peer-role": if connected { peer_role(status) } else { "Unknown" },
        "tls": false,
        "ap-in-flight": pending,
        "rs-in-flight": 0,
        "paths": [{
            "this_host": host(&status.local),
            "remote_host": host(&status.peer),
            "established": connected,
        }],
        "peer_devices": status.volumes.iter().map(peer_device).collect::<Vec<_>>(),
    })
}

fn host(address: &str) -> Value {
    let Some((ip, port)) = address.rsplit_once(':') else {
        return json!({ "address": address, "port": 0, "family": "ipv4" });
    };
    let family = if ip.contains(':') { "ipv6" } else { "ipv4" };
    let ip = ip.trim_matches(['[', ']']);
    json!({ "address": ip, "port": port.parse::<u16>().unwrap_or(0), "family": family })
}

fn peer_device(volume: &VolumeStatus) -> Value {
    let c = &volume.counters;
    let total_kib = volume.size_sectors / 2;
    let verify = volume.cstate.starts_with("Verify");
    let mut value = json!({
        "volume": volume.volume,
        "replication-state": replication_state(&volume.cstate),
        "peer-disk-state": volume.peer_disk,
        "peer-client": volume.peer_disk == "Diskless",
        "resync-suspended": resync_suspended(volume),
        "received": c.nr,
        "sent": c.ns,
        "out-of-sync": c.oos,
        "pending": c.pe,
        "unacked": c.ua,
        "has-sync-details": volume.resync.is_some() && !verify,
        "has-online-verify-details": volume.resync.is_some() && verify,
        "percent-in-sync": percent(total_kib.saturating_sub(c.oos), total_kib),
    });
    if let (Some(resync), Some(fields)) = (&volume.resync, value.as_object_mut()) {
        let mib = |kib: u64| (kib as f64 / 10.24).round() / 100.0;
        fields.extend([
            ("rs-total".to_owned(), json!(resync.total_bits * 8)),
            ("rs-dt-start-ms".to_owned(), json!(resync.elapsed_s * 1000)),
            ("rs-paused-ms".to_owned(), json!(resync.paused_s * 1000)),
            ("rs-failed".to_owned(), json!(resync.failed_bits * 8)),
            ("want".to_owned(), json!(mib(resync.want_kib_s))),
            ("db1/dt1 [MiB/s]".to_owned(), json!(mib(resync.speed_kib_s))),
            ("db/dt [MiB/s]".to_owned(), json!(mib(resync.mean_kib_s))),
            ("estimated-seconds-to-finish".to_owned(), json!(resync.finish_s.unwrap_or(0))),
            ("percent-resync-done".to_owned(), json!(f64::from(permille_done(resync)) / 10.0)),
        ]);
    }
    value
}

/// With two decimals; all of nothing is 100 %.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { (part as f64 * 10_000.0 / whole as f64).floor() / 100.0 }
}

#[cfg(test)]
mod tests {
    use super::super::status_text::tests::resource as status;
    use super::*;

    #[test]
    fn clients_find_names_types_and_nesting_as_they_know_them() {
        let mut pair = status("SyncSource", 1);
        pair.volumes[0].counters.oos = 524_254;
        pair.volumes[0].resync = Some(crate::node::status::ResyncStatus::default());
        let value: Value = serde_json::from_str(&render(&[pair])).unwrap();
        let resource = &value[0];
        assert_eq!(resource["name"], "r0");
        assert_eq!(resource["role"], "Primary");
        assert_eq!(resource["devices"][0]["size"], 1_048_508);
        let connection = &resource["connections"][0];
        assert_eq!(connection["connection-state"], "Connected");
        assert_eq!(connection["paths"][0]["remote_host"]["port"], 7789);
        let peer = &connection["peer_devices"][0];
        assert_eq!(peer["replication-state"], "SyncSource");
        assert_eq!(peer["has-sync-details"], true);
        assert_eq!(peer["percent-in-sync"], 50.0);
    }

    #[test]
    fn no_resource_is_an_empty_array_and_no_peer_an_empty_list() {
        assert_eq!(serde_json::from_str::<Value>(&render(&[])).unwrap(), json!([]));
        let alone = ResourceStatus { peer: None, ..status("StandAlone", 1) };
        let value: Value = serde_json::from_str(&render(&[alone])).unwrap();
        assert_eq!(value[0]["connections"], json!([]));
    }
}
