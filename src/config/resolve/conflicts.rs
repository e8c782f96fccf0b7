//! What two resources, or two hosts, must not share (C87..C89).

use std::collections::BTreeMap;

use super::super::error::{Diagnostic, Severity, Sink};
use super::super::model::MetaDisk;
use super::super::source::Span;
use super::merge::{MergedHost, MergedVolume};

/// Remembers who uses what on which host.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    used: BTreeMap<String, (Span, String)>,
    /// Paths of lower disks, with whether the statement stood outside of the hosts.
    disks: BTreeMap<String, (Span, String, bool)>,
    /// Metadata devices used as a whole, and in slots.
    whole: BTreeMap<String, Span>,
    slots: BTreeMap<String, Span>,
}

impl Conflicts {
    /// Notes what the hosts of a resource use, and reports what is used already.
    pub(super) fn add(&mut self, resource: &str, hosts: &[MergedHost], sink: &mut Sink) {
        for host in hosts {
            self.address(resource, host, sink);
            for key in host.draft.keys() {
                for volume in &host.volumes {
                    self.volume(resource, &key, volume, sink);
                }
            }
        }
    }

    fn address(&mut self, resource: &str, host: &MergedHost, sink: &mut Sink) {
        let Some(address) = &host.draft.address else { return };
        let key = if address.value.ip.is_loopback() {
            format!("address {} {}", host.draft.keys().join(" "), address.value) // Counted per host.
        } else {
            format!("address {}", address.value)
        };
        let what = format!("address {}", address.value.file_form());
        self.claim(key, &what, address.span, resource, sink); // C89
    }

    fn volume(&mut self, resource: &str, host: &str, volume: &MergedVolume, sink: &mut Sink) {
        let minor = volume.device.value.minor;
        let what = format!("minor number {minor} on host '{host}'");
        if self.claim(format!("minor {host} {minor}"), &what, volume.device.span, resource, sink)
            && let Some(name) = &volume.device.value.name
        {
            let what = format!("device {name} on host '{host}'");
            self.claim(format!("device {host} {name}"), &what, volume.device.span, resource, sink);
        }
        self.disk(resource, host, volume, sink);
        self.meta(resource, host, volume, sink);
    }

    fn disk(&mut self, resource: &str, host: &str, volume: &MergedVolume, sink: &mut Sink) {
        let Some(path) = &volume.disk.value else { return };
        let user = format!("in resource '{resource}'");
        let entry = (volume.disk.span, user, volume.disk_is_default);
        let Some((first, user, first_is_default)) = self.disks.get(&format!("{host} {path}")) else {
            self.disks.insert(format!("{host} {path}"), entry);
            return;
        };
        // The tools accept it inside of host sections (C88), so that is no more than a warning.
        let fatal = volume.disk_is_default || *first_is_default;
        let message = format!("disk {path} on host '{host}' is used twice");
        let mut diagnostic =
            Diagnostic::error(volume.disk.span, message).note(*first, format!("first used here, {user}"));
        if !fatal {
            diagnostic.severity = Severity::Warning;
        }
        sink.push(diagnostic.help("two volumes on one disk destroy each other's data"));
    }

    fn meta(&mut self, resource: &str, host: &str, volume: &MergedVolume, sink: &mut Sink) {
        let span = volume.meta.span;
        let (path, others) = match &volume.meta.value {
            MetaDisk::Internal => return,
            MetaDisk::Flexible(path) => {
                let what = format!("meta-disk {path} on host '{host}'");
                self.claim(format!("meta {host} {path}"), &what, span, resource, sink);
                self.whole.entry(format!("{host} {path}")).or_insert(span);
                (path, &self.slots)
            }
            MetaDisk::Indexed(path, slot) => {
                let what = format!("meta-disk {path} [{slot}] on host '{host}'");
                self.claim(format!("meta {host} {path}[{slot}]"), &what, span, resource, sink);
                self.slots.entry(format!("{host} {path}")).or_insert(span);
                (path, &self.whole)
            }
        };
        if let Some(other) = others.get(&format!("{host} {path}")) {
            let message = format!("meta-disk {path} on host '{host}' is used both as a whole and in slots");
            sink.push(Diagnostic::warning(span, message).note(*other, "used the other way here"));
        }
    }

    /// False, with a message, if `key` is taken already.
    fn claim(&mut self, key: String, what: &str, span: Span, resource: &str, sink: &mut Sink) -> bool {
        let user = format!("in resource '{resource}'");
        match self.used.get(&key) {
            None => {
                self.used.insert(key, (span, user));
                true
            }
            Some((first, user)) => {
                let error = Diagnostic::error(span, format!("{what} is used twice"));
                sink.push(error.note(*first, format!("first used here, {user}")));
                false
            }
        }
    }
}
