//! Applies inheritance (C70..C77) and makes the checked resources.

use std::collections::BTreeMap;

use super::super::error::{Diagnostic, Sink};
use super::super::model::{Host, HostKind, Resource, Sections, Volume, Written};
use super::super::options::{
    BecomePrimary, DiskOptions, Kind, NetOptions, OnCongestion, Protocol, ResourceOptions, StartupOptions,
};
use super::super::source::SourceMap;
use super::draft::ResourceDraft;
use super::merge::{MergedHost, MergedVolume};
use super::settings::DISCARD_NODE;

/// Makes one resource of its draft; its `resync-after` waits for [`resync_after`].
pub(super) fn resource(
    draft: ResourceDraft,
    hosts: Vec<MergedHost>,
    common: Option<&Sections>,
    files: &SourceMap,
    sink: &mut Sink,
) -> Resource {
    let applied = inherit(&draft.sections, common);
    let mut net = NetOptions::default();
    let (mut options, mut startup) = (ResourceOptions::default(), StartupOptions::default());
    // Every value was checked where it was read; what fails here has its message already.
    for written in &applied.net {
        let _ = net.set(written.spec.name, written.value.as_deref());
    }
    for written in &applied.options {
        let _ = options.set(written.spec.name, written.value.as_deref());
    }
    for written in &applied.startup {
        let _ = startup.set(written.spec.name, written.value.as_deref());
    }
    let mut handlers = BTreeMap::new();
    for written in &applied.handlers {
        let command = written.value.clone().unwrap_or_default();
        handlers.entry(written.spec.name.to_owned()).or_insert(command);
    }
    check_network(&draft, &applied, &net, sink);
    check_startup(&draft, &net, &startup, &applied, sink);
    let place = (files.file(draft.open.file).canonical.clone(), files.position(draft.open).line);
    let hosts = hosts.into_iter().filter_map(|merged| host(merged, &applied.disk, sink)).collect();
    Resource {
        name: draft.name,
        defined_at: place,
        written: draft.sections,
        applied,
        options,
        startup,
        handlers,
        hosts,
        net,
    }
}

/// Translates each `resync-after` to the minor of that resource on the same host (C69). Unknown
/// names are dropped with a warning, as the tools do where nobody looks.
pub(super) fn resync_after(resources: &mut [Resource], sink: &mut Sink) {
    let minors = minors_by_host(resources);
    for resource in resources {
        let mut known_somewhere = false;
        for host in &mut resource.hosts {
            let keys = host_keys(host);
            for volume in &mut host.volumes {
                let Some(at) = volume.applied.iter().position(|written| written.spec.kind == Kind::After)
                else {
                    continue;
                };
                let written = volume.applied[at].clone();
                match find_minor(&minors, &keys, &written) {
                    Ok(minor) => {
                        known_somewhere = true;
                        volume.disk_options.resync_after_minor = Some(minor);
                    }
                    Err(problem) => {
                        volume.applied.remove(at);
                        volume.written.retain(|written| written.spec.kind != Kind::After);
                        sink.push(problem);
                    }
                }
            }
        }
        if !known_somewhere && !resource.hosts.is_empty() {
            for list in [&mut resource.written.disk, &mut resource.applied.disk] {
                list.retain(|written| written.spec.kind != Kind::After);
            }
        }
    }
}

/// Puts each inherited option that `own` lacks in front, one by one (C70, C77).
pub(super) fn put_in_front(own: &mut Vec<Written>, inherited: &[Written]) {
    for written in inherited {
        if !own.iter().any(|own| own.spec.name == written.spec.name) {
            own.insert(0, written.clone());
        }
    }
}

fn inherit(own: &Sections, common: Option<&Sections>) -> Sections {
    let mut all = own.clone();
    let Some(common) = common else { return all };
    put_in_front(&mut all.options, &common.options);
    put_in_front(&mut all.net, &common.net);
    put_in_front(&mut all.disk, &common.disk);
    put_in_front(&mut all.startup, &common.startup);
    put_in_front(&mut all.handlers, &common.handlers);
    put_in_front(&mut all.proxy, &common.proxy);
    all
}

fn host(merged: MergedHost, disk: &[Written], sink: &mut Sink) -> Option<Host> {
    let draft = merged.draft;
    Some(Host {
        kind: draft.kind,
        names: draft.names,
        address: draft.address?.value,
        alternate_address: draft.alternate_address.map(|at| at.value),
        volumes: merged.volumes.into_iter().map(|volume| build_volume(volume, disk, sink)).collect(),
        implicit_volume: merged.implicit,
        options: draft.options,
        span: draft.span,
    })
}

/// The host's own options first, then the resource's, then those of the resource's volume: each in
/// front of what is there, so that the first named wins (C72, C77).
fn build_volume(volume: MergedVolume, disk: &[Written], sink: &mut Sink) -> Volume {
    let mut applied = volume.options.clone();
    put_in_front(&mut applied, disk);
    for default in &volume.default_options {
        let winner = applied.iter().find(|written| written.spec.name == default.spec.name);
        if let Some(winner) = winner.filter(|winner| winner.value != default.value) {
            let message =
                format!("option '{}' has no effect here: another value goes first", default.spec.name);
            sink.push(Diagnostic::warning(default.span, message).note(winner.span, "this one"));
        }
    }
    put_in_front(&mut applied, &volume.default_options);
    let mut disk_options = DiskOptions::default();
    for written in applied.iter().filter(|written| written.spec.kind != Kind::After) {
        let _ = disk_options.set(written.spec.name, written.value.as_deref());
    }
    Volume {
        id: volume.id,
        device: volume.device.value,
        disk: volume.disk.value,
        meta: volume.meta.value,
        written: volume.options,
        applied,
        disk_options,
    }
}

/// Options that the daemon refuses together, or that name a host which is not there.
fn check_network(draft: &ResourceDraft, applied: &Sections, net: &NetOptions, sink: &mut Sink) {
    let place =
        |name: &str| applied.net.iter().find(|written| written.spec.name == name).map(|written| written.span);
    if net.allow_two_primaries && net.protocol != Protocol::C {
        let span = place("allow-two-primaries").unwrap_or(draft.span);
        sink.warning(
            span,
            format!("'allow-two-primaries' needs protocol C, but protocol is {}", net.protocol),
        );
    }
    if net.on_congestion == OnCongestion::PullAhead && net.protocol != Protocol::A {
        let span = place("on-congestion").unwrap_or(draft.span);
        sink.warning(
            span,
            format!("'on-congestion pull-ahead' needs protocol A, but protocol is {}", net.protocol),
        );
    }
    let shortest_ds = net.ping_int_s.min(net.connect_int_s) * 10;
    if net.timeout_ds >= shortest_ds {
        let span = place("timeout").or_else(|| place("ping-int")).or_else(|| place("connect-int"));
        let message =
            "'timeout' (tenths of a second) must be shorter than 'connect-int' and 'ping-int' (seconds)";
        sink.warning(span.unwrap_or(draft.span), message);
    }
    for written in &applied.net {
        let Some(node) = written.value.as_deref().and_then(|value| value.strip_prefix(DISCARD_NODE)) else {
            continue;
        };
        if written.spec.name == "after-sb-0pri" && !has_host(draft, node) {
            let message = format!("resource '{}' has no host '{node}' to discard", draft.name);
            sink.error(written.span, message);
        }
    }
}

/// `become-primary-on` names hosts of the resource, and both only where two may be Primary (C91).
fn check_startup(
    draft: &ResourceDraft,
    net: &NetOptions,
    startup: &StartupOptions,
    applied: &Sections,
    sink: &mut Sink,
) {
    let place = applied.startup.iter().find(|written| written.spec.name == "become-primary-on");
    let span = place.map_or(draft.span, |written| written.span);
    match &startup.become_primary_on {
        BecomePrimary::Nobody => {}
        BecomePrimary::Both => {
            if !net.allow_two_primaries {
                let message = format!(
                    "in resource '{}': 'become-primary-on both' needs 'allow-two-primaries'",
                    draft.name
                );
                sink.push(
                    Diagnostic::error(span, message).help("add 'allow-two-primaries;' to section 'net'"),
                );
            }
        }
        BecomePrimary::Hosts(hosts) => {
            for host in hosts.iter().filter(|host| !has_host(draft, host)) {
                let message = format!(
                    "in resource '{}': 'become-primary-on' names '{host}', which no 'on' section does",
                    draft.name
                );
                sink.error(span, message);
            }
        }
    }
}

fn has_host(draft: &ResourceDraft, name: &str) -> bool {
    draft.hosts.iter().any(|host| host.keys().iter().any(|key| key == name))
}

/// Minors of each resource's volumes on each host.
type Minors = BTreeMap<String, Vec<(Vec<String>, Vec<(u16, u32)>)>>;

fn minors_by_host(resources: &[Resource]) -> Minors {
    let volumes = |host: &Host| host.volumes.iter().map(|volume| (volume.id, volume.device.minor)).collect();
    resources
        .iter()
        .map(|resource| {
            let hosts = resource.hosts.iter().map(|host| (host_keys(host), volumes(host))).collect();
            (resource.name.clone(), hosts)
        })
        .collect()
}

/// What a host can be recognised by in another resource.
fn host_keys(host: &Host) -> Vec<String> {
    match host.kind {
        HostKind::Named => host.names.clone(),
        HostKind::Floating => vec![host.address.text.clone()],
    }
}

fn find_minor(minors: &Minors, keys: &[String], written: &Written) -> Result<u32, Diagnostic> {
    let value = written.value.as_deref().unwrap_or_default();
    let (name, volume) = match value.split_once('/') {
        Some((name, volume)) => (name, volume.parse::<u16>().ok()),
        None => (value, None),
    };
    let dropped =
        |why: &str| Diagnostic::warning(written.span, format!("'resync-after {value}' is left out: {why}"));
    let Some(hosts) = minors.get(name) else {
        return Err(dropped(&format!("there is no resource '{name}'")));
    };
    let here = hosts.iter().find(|(names, _)| names.iter().any(|name| keys.contains(name)));
    let Some((_, volumes)) = here else {
        return Err(dropped(&format!("resource '{name}' is not on host '{}'", keys.join(" "))));
    };
    match (volume, volumes.as_slice()) {
        (Some(volume), volumes) => volumes
            .iter()
            .find(|(id, _)| *id == volume)
            .map(|(_, minor)| *minor)
            .ok_or_else(|| dropped(&format!("resource '{name}' has no volume {volume}"))),
        (None, [(_, minor)]) => Ok(*minor),
        (None, volumes) => {
            let message =
                format!("'resync-after {name}' is ambiguous: '{name}' has {} volumes", volumes.len());
            Err(Diagnostic::error(written.span, message).help(format!("write '{name}/VOLUME'")))
        }
    }
}
