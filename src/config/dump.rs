//! The configuration as text, in the form `drbdadm dump` prints it (C98..C104).

use std::fmt::Write;

use super::model::{Config, Host, HostKind, MetaDisk, Resource, Sections, Volume, Written};
use super::options::{Kind, Section, UsageCount};
use super::select::Node;

/// Prints a configuration as `node` sees it.
#[derive(Clone, Copy, Debug)]
pub struct Dump<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The node, for the comments over the resources.
    pub node: &'a Node,
    /// What applies, with all that is inherited, instead of what was written (C76): `-v`.
    pub expanded: bool,
}

/// The order of the sections in a resource (C102).
pub(super) const ORDER: [Section; 6] =
    [Section::Options, Section::Net, Section::Disk, Section::Startup, Section::Proxy, Section::Handlers];

/// Command-time limits that are not worth a line (C98): what the manual calls the defaults.
const DOCUMENTED_TIMEOUTS_S: [u32; 3] = [5, 121, 600];

impl Dump<'_> {
    /// All of it: `dump all`.
    #[must_use]
    pub fn all(&self) -> String {
        let mut out = format!("# {}\n", self.config.path);
        if self.has_global() {
            out.push_str(&self.global());
            out.push('\n');
        }
        if let Some(common) = &self.config.common {
            out.push_str("common {\n");
            sections(&mut out, common);
            out.push_str("}\n\n");
        }
        for resource in &self.config.resources {
            out.push_str(&self.resource(resource));
        }
        out
    }

    /// One resource: `dump NAME`, with the blank line behind it.
    #[must_use]
    pub fn resource(&self, resource: &Resource) -> String {
        let name = quote(&resource.name);
        let (file, line) = &resource.defined_at;
        let ignored = if resource.is_on(self.node) { "not ignored" } else { "ignored" };
        let mut out = format!("# resource {name} on {}: {ignored}, not stacked\n", self.node.name);
        let _ = writeln!(out, "# defined at {file}:{line}\nresource {name} {{");
        for host in &resource.hosts {
            self.host(&mut out, host);
        }
        sections(&mut out, if self.expanded { &resource.applied } else { &resource.written });
        out.push_str("}\n\n");
        out
    }

    /// Whether `global` says anything that the dump shows (C98).
    pub(super) fn has_global(&self) -> bool {
        let options = &self.config.global.options;
        options.disable_ip_verification
            || self.minor_count().is_some()
            || options.dialog_refresh_s != 1
            || options.usage_count != UsageCount::Ask
    }

    /// The `minor-count`, if it was given.
    pub(super) fn minor_count(&self) -> Option<u32> {
        let global = &self.config.global;
        let given = global.written.iter().any(|written| written.spec.name == "minor-count");
        given.then_some(global.options.minor_count)
    }

    fn global(&self) -> String {
        let options = &self.config.global.options;
        let mut out = String::from("global {\n");
        let mut line = |text: String| {
            let _ = writeln!(out, "    {text};");
        };
        if options.disable_ip_verification {
            line("disable-ip-verification".to_owned());
        }
        if let Some(count) = self.minor_count() {
            line(format!("minor-count {count}"));
        }
        if options.dialog_refresh_s != 1 {
            line(format!("dialog-refresh {}", options.dialog_refresh_s));
        }
        if options.usage_count != UsageCount::Ask {
            line(format!("usage-count {}", options.usage_count));
        }
        let timeouts = [
            ("short", options.cmd_timeout_short_s),
            ("medium", options.cmd_timeout_medium_s),
            ("long", options.cmd_timeout_long_s),
        ];
        for ((name, seconds), documented) in timeouts.into_iter().zip(DOCUMENTED_TIMEOUTS_S) {
            if seconds != documented {
                line(format!("cmd-timeout-{name} {seconds}"));
            }
        }
        out.push_str("}\n");
        out
    }

    fn host(&self, out: &mut String, host: &Host) {
        let _ = match host.kind {
            HostKind::Named => {
                let names: Vec<String> = host.names.iter().map(|name| quote(name)).collect();
                writeln!(out, "    on {} {{", names.join(" "))
            }
            HostKind::Floating => writeln!(out, "    floating {} {{", host.address.file_form()),
        };
        section(out, 2, "options", &host.options);
        for volume in &host.volumes {
            if host.implicit_volume {
                self.volume(out, 2, volume);
            } else {
                let _ = writeln!(out, "        volume {} {{", volume.id);
                self.volume(out, 3, volume);
                out.push_str("        }\n");
            }
        }
        if host.kind == HostKind::Named {
            statement(out, 2, 16, "address", &host.address.file_form());
        }
        if let Some(address) = &host.alternate_address {
            statement(out, 2, 16, "alternate-link-address", &address.file_form());
        }
        out.push_str("    }\n");
    }

    fn volume(&self, out: &mut String, depth: usize, volume: &Volume) {
        section(out, depth, "disk", if self.expanded { &volume.applied } else { &volume.written });
        let width = if depth == 2 { 16 } else { 12 };
        let minor = volume.device.minor;
        let device = match self.device_name(volume) {
            Some(name) => format!("{} minor {minor}", quote(&name)),
            None => format!("minor {minor}"),
        };
        statement(out, depth, width, "device", &device);
        statement(
            out,
            depth,
            width,
            "disk",
            &volume.disk.as_deref().map_or_else(|| "none".to_owned(), quote),
        );
        match &volume.meta {
            MetaDisk::Internal => statement(out, depth, width, "meta-disk", "internal"),
            MetaDisk::Flexible(path) => statement(out, depth, 16, "meta-disk", &quote(path)),
            MetaDisk::Indexed(path, slot) => {
                statement(out, depth, 16, "meta-disk", &format!("{} [{slot}]", quote(path)));
            }
        }
    }

    /// The device's name: as written, or what applies.
    pub(super) fn device_name(&self, volume: &Volume) -> Option<String> {
        if self.expanded { Some(volume.device.path()) } else { volume.device.name.clone() }
    }
}

/// A value as it can stand in a file: bare if it can, else quoted (C101).
#[must_use]
pub fn quote(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if (1..=80).contains(&value.len()) && value.bytes().all(plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn sections(out: &mut String, all: &Sections) {
    for kind in ORDER {
        if kind == Section::Proxy {
            proxy(out, all);
        } else {
            section(out, 1, kind.keyword(), all.list(kind));
        }
    }
}

/// A section with its options, `depth` levels deep; nothing if it is empty.
fn section(out: &mut String, depth: usize, keyword: &str, list: &[Written]) {
    if list.is_empty() {
        return;
    }
    let indent = depth * 4;
    let _ = writeln!(out, "{:indent$}{keyword} {{", "");
    options(out, depth + 1, list);
    let _ = writeln!(out, "{:indent$}}}", "");
}

fn proxy(out: &mut String, all: &Sections) {
    if all.proxy.is_empty() && all.plugins.is_empty() {
        return;
    }
    out.push_str("    proxy {\n");
    options(out, 2, &all.proxy);
    if !all.plugins.is_empty() {
        out.push_str("        plugin {\n");
        for line in &all.plugins {
            let _ = writeln!(out, "            {line};");
        }
        out.push_str("        }\n");
    }
    out.push_str("    }\n");
}

/// Ordinary options in their order, then `stacked-timeouts`, then `become-primary-on` (C102).
fn options(out: &mut String, depth: usize, list: &[Written]) {
    for written in in_order(list) {
        match (&written.spec.kind, &written.value) {
            (_, None) => {
                let _ = writeln!(out, "{:indent$}{};", "", written.spec.name, indent = depth * 4);
            }
            (Kind::Hosts, Some(hosts)) => {
                let hosts: Vec<String> = hosts.split_whitespace().map(quote).collect();
                option(out, depth, written.spec.name, &hosts.join(" "));
            }
            (_, Some(value)) => option(out, depth, written.spec.name, &quote(value)),
        }
    }
}

/// The options of a section in the order in which they are printed.
pub(super) fn in_order(list: &[Written]) -> Vec<&Written> {
    let mut list: Vec<&Written> = list.iter().collect();
    list.sort_by_key(|written| match written.spec.kind {
        Kind::Flag => 1,
        Kind::Hosts => 2,
        Kind::Bool
        | Kind::Number(_)
        | Kind::Word(_)
        | Kind::WordAnyCase(_)
        | Kind::Text { .. }
        | Kind::After
        | Kind::Command => 0,
    });
    list
}

/// `NAME VALUE;`, the name up to column 24, the value at least three wide (C100).
fn option(out: &mut String, depth: usize, name: &str, value: &str) {
    statement(out, depth, 24_usize.saturating_sub(depth * 4), name, value);
}

fn statement(out: &mut String, depth: usize, width: usize, name: &str, value: &str) {
    let _ = writeln!(out, "{:indent$}{name:width$} {value:>3};", "", indent = depth * 4);
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn a_value_is_quoted_when_it_could_not_stand_bare() {
        // C101
        assert_eq!(quote("/dev/sdb1"), "/dev/sdb1");
        assert_eq!(quote(""), "\"\"");
        assert_eq!(quote("a#b"), "\"a#b\"");
        assert_eq!(quote("a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(quote(&"x".repeat(80)).len(), 80);
        assert_eq!(quote(&"x".repeat(81)).len(), 83);
    }
}
