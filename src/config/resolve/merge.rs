//! Gives each host its volumes: its own statements, and the resource's where it has none (C74).

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::{Diagnostic, Sink};
use super::super::model::{Device, MetaDisk, Written};
use super::super::source::Span;
use super::draft::{At, HostDraft, ResourceDraft, VolumeDraft, VolumesDraft};

/// A host with its complete volumes.
#[derive(Debug)]
pub(super) struct MergedHost {
    pub(super) draft: HostDraft,
    pub(super) implicit: bool,
    pub(super) volumes: Vec<MergedVolume>,
}

/// A volume that lacks nothing.
#[derive(Debug)]
pub(super) struct MergedVolume {
    pub(super) id: u16,
    pub(super) device: At<Device>,
    pub(super) disk: At<Option<String>>,
    /// Whether the disk is written outside of the host section (C88).
    pub(super) disk_is_default: bool,
    pub(super) meta: At<MetaDisk>,
    /// The options of the host's own volume section.
    pub(super) options: Vec<Written>,
    /// The options of the resource's volume section.
    pub(super) default_options: Vec<Written>,
}

/// Merges every host of a resource and reports what is missing.
pub(super) fn hosts(draft: &ResourceDraft, sink: &mut Sink) -> Vec<MergedHost> {
    let hosts: Vec<MergedHost> = draft.hosts.iter().map(|host| merge_host(draft, host, sink)).collect();
    same_volumes(draft, sink);
    hosts
}

fn merge_host(resource: &ResourceDraft, host: &HostDraft, sink: &mut Sink) -> MergedHost {
    let place = format!("resource '{}', {}", resource.name, host.label());
    if host.address.is_none() && !host.broken && !host.names.is_empty() {
        missing(host.span, &place, "address", "address 10.10.10.1:7788", sink);
    }
    mixed(&resource.volumes, &host.volumes, sink);
    let implicit = is_implicit(resource, host);
    let none = VolumeDraft::default();
    let mut volumes = Vec::new();
    for id in volume_ids(resource, host) {
        let (own_span, own) = match (implicit, host.volumes.explicit.get(&id)) {
            (true, _) => (host.span, &host.volumes.implicit),
            (false, Some((span, own))) => (*span, own),
            (false, None) => (host.span, &none),
        };
        let default = match (implicit, resource.volumes.explicit.get(&id)) {
            (true, _) => &resource.volumes.implicit,
            (false, Some((_, default))) => default,
            (false, None) => &none,
        };
        let place = if implicit { place.clone() } else { format!("{place}, volume {id}") };
        volumes.extend(merge_volume(id, own, default, own_span, (&place, host.broken), sink));
    }
    MergedHost { draft: host.clone(), implicit, volumes }
}

fn merge_volume(
    id: u16,
    own: &VolumeDraft,
    default: &VolumeDraft,
    span: Span,
    (place, broken): (&str, bool),
    sink: &mut Sink,
) -> Option<MergedVolume> {
    let broken = broken || own.broken || default.broken;
    let device = own.device.clone().or_else(|| default.device.clone());
    let disk = own.disk.clone().or_else(|| default.disk.clone());
    let diskless = disk.as_ref().is_some_and(|disk| disk.value.is_none());
    let meta = own.meta.clone().or_else(|| default.meta.clone());
    let meta = match (meta, diskless, &disk) {
        (None, true, Some(disk)) => Some(At { value: MetaDisk::Internal, span: disk.span }),
        (meta, _, _) => meta,
    };
    let checks = [
        (device.is_none(), "device", "device /dev/drbd1"),
        (disk.is_none(), "disk", "disk /dev/sdb1"),
        (meta.is_none(), "meta-disk", "meta-disk internal"),
    ];
    for (_, keyword, example) in checks.into_iter().filter(|(is_missing, ..)| *is_missing && !broken) {
        missing(span, place, keyword, example, sink); // C86
    }
    Some(MergedVolume {
        id,
        device: device?,
        disk: disk?,
        disk_is_default: own.disk.is_none(),
        meta: meta?,
        options: own.options.clone(),
        default_options: default.options.clone(),
    })
}

fn missing(span: Span, place: &str, keyword: &str, example: &str, sink: &mut Sink) {
    let error = Diagnostic::error(span, format!("in {place}: '{keyword}' is missing"));
    sink.push(error.help(format!("write '{example};'")));
}

/// Whether the host's only volume has no number in the text (C75).
fn is_implicit(resource: &ResourceDraft, host: &HostDraft) -> bool {
    host.volumes.explicit.is_empty() && resource.volumes.explicit.is_empty()
}

/// The volumes a host has: its own and those of the resource.
fn volume_ids(resource: &ResourceDraft, host: &HostDraft) -> BTreeSet<u16> {
    if is_implicit(resource, host) {
        let any = host.volumes.implicit.first_span().or_else(|| resource.volumes.implicit.first_span());
        return any.map(|_| 0).into_iter().collect();
    }
    host.volumes.explicit.keys().chain(resource.volumes.explicit.keys()).copied().collect()
}

/// Numbered volumes and statements without a number exclude each other (C90).
fn mixed(resource: &VolumesDraft, host: &VolumesDraft, sink: &mut Sink) {
    let implicit = host.implicit.first_span().or_else(|| resource.implicit.first_span());
    let explicit = host.explicit.values().chain(resource.explicit.values()).map(|(span, _)| *span).min();
    if let (Some(implicit), Some(explicit)) = (implicit, explicit) {
        sink.push(
            Diagnostic::error(implicit, "statements with and without a volume number must not be mixed")
                .note(explicit, "a numbered volume is here")
                .help("put the statement into a section 'volume N { }'"),
        );
    }
}

/// Every host has the same volumes (C90).
fn same_volumes(resource: &ResourceDraft, sink: &mut Sink) {
    let mut first_with: BTreeMap<u16, &HostDraft> = BTreeMap::new();
    for host in &resource.hosts {
        for id in volume_ids(resource, host) {
            first_with.entry(id).or_insert(host);
        }
    }
    for host in resource.hosts.iter().filter(|host| !host.broken && !host.volumes.implicit.broken) {
        let ids = volume_ids(resource, host);
        for (id, other) in first_with.iter().filter(|(id, _)| !ids.contains(id)) {
            let message =
                format!("in resource '{}', {}: volume {id} is missing", resource.name, host.label());
            sink.push(
                Diagnostic::error(host.span, message).note(other.span, format!("{} has it", other.label())),
            );
        }
        if let Some(other) = resource.hosts.first()
            && is_implicit(resource, host) != is_implicit(resource, other)
            && !ids.is_empty()
        {
            let message = format!(
                "in resource '{}': only one of '{}' and '{}' writes volume 0 with its number",
                resource.name,
                other.label(),
                host.label()
            );
            sink.push(Diagnostic::error(host.span, message).note(other.span, "the other one"));
        }
    }
}
