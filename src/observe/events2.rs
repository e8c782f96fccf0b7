//! What `events2` prints: all objects first, then each change of one (L79 to L82, L86).

use std::collections::BTreeMap;
use std::fmt::Write;

use super::proc_drbd::permille_done;
use super::status_text::write_ordering;
use super::words::{connection_state, peer_role, replication_state, resource_role, resync_suspended};
use crate::node::status::{ResourceStatus, VolumeStatus};

/// The objects of a snapshot, in the order in which a reader gets to know them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    objects: BTreeMap<Key, Object>,
}

/// What follows the verb, up to and including what tells one object from the others.
type Key = (Kind, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Resource,
    Device,
    Connection,
    PeerDevice,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Object {
    /// Words that belong to the identity and are not printed when it is destroyed.
    more_identity: String,
    /// Whose changes are events.
    fields: Vec<(&'static str, String)>,
    /// What is printed along with an event.
    statistics: Vec<(&'static str, String)>,
}

impl Objects {
    /// The objects of these resources; `statistics` adds their counters.
    #[must_use]
    pub fn of(resources: &[ResourceStatus], statistics: bool) -> Self {
        let mut objects = BTreeMap::new();
        for status in resources {
            let name = format!("name:{}", status.name);
            let peer = format!("{name} peer-node-id:0 conn-name:peer");
            objects.insert((Kind::Resource, name.clone()), resource(status));
            if status.peer.is_some() {
                objects.insert((Kind::Connection, peer.clone()), connection(status));
            }
            for volume in &status.volumes {
                let number = volume.volume;
                objects.insert((Kind::Device, format!("{name} volume:{number}")), device(volume));
                if status.peer.is_some() {
                    objects
                        .insert((Kind::PeerDevice, format!("{peer} volume:{number}")), peer_device(volume));
                }
            }
        }
        if !statistics {
            objects.values_mut().for_each(|object| object.statistics.clear());
        }
        Self { objects }
    }

    /// The lines about what there is, to the one that ends them.
    #[must_use]
    pub fn dump(&self) -> Vec<String> {
        let mut lines: Vec<_> =
            self.objects.iter().map(|(key, object)| object.whole("exists", key)).collect();
        lines.push("exists -".to_owned());
        lines
    }

    /// The lines about what happened between `earlier` and this snapshot: what went, from the
    /// smallest to the largest, then what came and changed, from the largest to the smallest.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Vec<String> {
        let gone = earlier.objects.keys().rev().filter(|key| !self.objects.contains_key(*key));
        let mut lines: Vec<String> =
            gone.map(|(kind, identity)| format!("destroy {} {identity}", kind.word())).collect();
        for (key, object) in &self.objects {
            match earlier.objects.get(key) {
                None => lines.push(object.whole("create", key)),
                Some(old) => lines.extend(object.change(old, key)),
            }
        }
        lines
    }
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Device => "device",
            Self::Connection => "connection",
            Self::PeerDevice => "peer-device",
        }
    }
}

impl Object {
    fn whole(&self, verb: &str, key: &Key) -> String {
        self.line(verb, key, &self.fields)
    }

    fn change(&self, old: &Self, key: &Key) -> Option<String> {
        let changed: Vec<_> =
            self.fields.iter().filter(|field| !old.fields.contains(field)).cloned().collect();
        let none = changed.is_empty() && self.more_identity == old.more_identity;
        (!none).then(|| self.line("change", key, &changed))
    }

    fn line(&self, verb: &str, (kind, identity): &Key, fields: &[(&str, String)]) -> String {
        let mut line = format!("{verb} {} {identity}{}", kind.word(), self.more_identity);
        for (name, value) in fields.iter().chain(&self.statistics) {
            let _ = write!(line, " {name}:{value}");
        }
        line
    }
}

fn resource(status: &ResourceStatus) -> Object {
    let suspended = status.suspended.join(",");
    let ordering = status.volumes.first().map_or("none", |volume| write_ordering(volume.counters.wo));
    Object {
        fields: vec![
            ("role", resource_role(status).to_owned()),
            ("suspended", if suspended.is_empty() { "no".to_owned() } else { suspended }),
        ],
        statistics: vec![("write-ordering", ordering.to_owned())],
        ..Object::default()
    }
}

fn device(volume: &VolumeStatus) -> Object {
    let c = &volume.counters;
    Object {
        more_identity: format!(" minor:{}", volume.minor),
        fields: vec![("disk", volume.disk.clone())],
        statistics: numbers(&[
            ("size", volume.size_sectors / 2),
            ("read", c.dr),
            ("written", c.dw),
            ("al-writes", c.al),
            ("bm-writes", c.bm),
            ("upper-pending", c.ap),
            ("lower-pending", c.lo),
        ]),
    }
}

fn connection(status: &ResourceStatus) -> Object {
    let state = connection_state(&status.cstate);
    let role = if state == "Connected" { peer_role(status) } else { "Unknown" };
    Object {
        fields: vec![("connection", state.to_owned()), ("role", role.to_owned())],
        statistics: vec![("congested", "no".to_owned())],
        ..Object::default()
    }
}

fn peer_device(volume: &VolumeStatus) -> Object {
    let c = &volume.counters;
    let mut fields = vec![
        ("replication", replication_state(&volume.cstate).to_owned()),
        ("peer-disk", volume.peer_disk.clone()),
        ("resync-suspended", resync_suspended(volume)),
    ];
    if let Some(resync) = &volume.resync {
        let permille = permille_done(resync);
        fields.push(("done", format!("{}.{}0", permille / 10, permille % 10)));
    }
    let statistics = numbers(&[
        ("received", c.nr),
        ("sent", c.ns),
        ("out-of-sync", c.oos),
        ("pending", c.pe),
        ("unacked", c.ua),
    ]);
    Object { fields, statistics, ..Object::default() }
}

fn numbers(values: &[(&'static str, u64)]) -> Vec<(&'static str, String)> {
    values.iter().map(|(name, value)| (*name, value.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::status_text::tests::resource as status;
    use super::*;
    use crate::node::status::ResyncStatus;

    fn objects(status: &[ResourceStatus]) -> Objects {
        Objects::of(status, false)
    }

    #[test]
    fn the_dump_names_every_object_and_ends_with_its_own_line() {
        assert_eq!(
            objects(&[status("WFConnection", 1)]).dump(),
            [
                "exists resource name:r0 role:Primary suspended:no",
                "exists device name:r0 volume:0 minor:1 disk:UpToDate",
                "exists connection name:r0 peer-node-id:0 conn-name:peer connection:Connecting role:Unknown",
                "exists peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Off \
                 peer-disk:UpToDate resync-suspended:no",
                "exists -",
            ]
        );
        assert_eq!(objects(&[]).dump(), ["exists -"]);
    }

    #[test]
    fn a_change_names_the_object_and_what_is_new() {
        let before = status("Connected", 1);
        let mut after = status("SyncSource", 1);
        after.volumes[0].role = "Secondary".into();
        after.volumes[0].resync =
            Some(ResyncStatus { total_bits: 1 << 20, left_bits: 1 << 19, ..ResyncStatus::default() });
        assert_eq!(
            objects(&[after.clone()]).since(&objects(&[before])),
            [
                "change resource name:r0 role:Secondary",
                "change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:SyncSource done:50.10",
            ]
        );
        assert_eq!(objects(&[after.clone()]).since(&objects(&[after])), [""; 0]);
    }

    #[test]
    fn what_goes_goes_from_the_smallest_to_the_largest() {
        let lines = objects(&[]).since(&objects(&[status("Connected", 1)]));
        let peer = "name:r0 peer-node-id:0 conn-name:peer";
        assert_eq!(
            lines,
            [
                format!("destroy peer-device {peer} volume:0"),
                format!("destroy connection {peer}"),
                "destroy device name:r0 volume:0".to_owned(),
                "destroy resource name:r0".to_owned(),
            ]
        );
        let back = objects(&[status("Connected", 1)]).since(&objects(&[]));
        assert!(back[0].starts_with("create resource name:r0 role:Primary"), "{back:?}");
    }

    #[test]
    fn statistics_come_with_events_and_are_none_themselves() {
        let mut later = status("Connected", 1);
        later.volumes[0].counters.dw = 7;
        let (before, after) = (Objects::of(&[status("Connected", 1)], true), Objects::of(&[later], true));
        assert_eq!(after.since(&before), [""; 0]);
        assert!(after.dump()[1].contains(" read:0 written:7 "), "{:?}", after.dump());
    }
}
