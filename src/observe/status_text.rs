//! What `status` prints (L69 to L73): version 8.4's lines, wrapped like the tool's.

use std::fmt::Write;

use super::explain::alarm;
use super::proc_drbd::permille_done;
use super::words::{connection_state, peer_role, replication_state, resource_role, resync_suspended};
use crate::node::status::{ResourceStatus, VolumeStatus};

/// What to show besides the states.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detail {
    /// Also what is as usual.
    pub verbose: bool,
    /// Also the counters.
    pub statistics: bool,
}

/// The text for these resources; an empty line follows each. `width` is the terminal's, in columns.
#[must_use]
pub fn render(resources: &[ResourceStatus], detail: Detail, width: usize) -> String {
    let mut text = String::new();
    for resource in resources {
        render_resource(&mut text, resource, detail, width);
        text.push('\n');
    }
    text
}

fn render_resource(text: &mut String, resource: &ResourceStatus, detail: Detail, width: usize) {
    let mut line = Line::new(text, 0, width);
    line.word(&resource.name);
    line.field("role", resource_role(resource));
    if detail.verbose || !resource.suspended.is_empty() {
        let reasons = resource.suspended.join(",");
        line.field("suspended", if reasons.is_empty() { "no" } else { &reasons });
    }
    line.end();
    if detail.verbose
        && detail.statistics
        && let Some(volume) = resource.volumes.first()
    {
        let mut line = Line::new(text, 4, width);
        line.field("write-ordering", write_ordering(volume.counters.wo));
        line.end();
    }
    for volume in &resource.volumes {
        render_device(text, resource, volume, detail, width);
    }
    render_connection(text, resource, detail, width);
    if let Some(alarm) = alarm(resource) {
        let _ = writeln!(text, "  {alarm}");
    }
}

fn render_device(
    text: &mut String,
    resource: &ResourceStatus,
    volume: &VolumeStatus,
    detail: Detail,
    width: usize,
) {
    let mut line = Line::new(text, 2, width);
    if names_volumes(resource, detail) {
        line.field("volume", volume.volume);
    }
    if detail.verbose {
        line.field("minor", volume.minor);
    }
    line.field("disk", &volume.disk);
    if detail.verbose {
        line.field("backing_dev", if volume.backing.is_empty() { "none" } else { &volume.backing });
    }
    if detail.statistics {
        let c = &volume.counters;
        line.next_line();
        if detail.verbose {
            line.field("size", volume.size_sectors / 2);
        }
        line.field("read", c.dr);
        line.field("written", c.dw);
        if detail.verbose {
            line.field("al-writes", c.al);
            line.field("bm-writes", c.bm);
            line.field("upper-pending", c.ap);
            line.field("lower-pending", c.lo);
        }
    }
    line.end();
}

fn render_connection(text: &mut String, resource: &ResourceStatus, detail: Detail, width: usize) {
    let connection = connection_state(&resource.cstate);
    let connected = connection == "Connected";
    let mut line = Line::new(text, 2, width);
    line.word("peer");
    if detail.verbose || !connected {
        line.field("connection", connection);
    }
    if detail.verbose || connected {
        line.field("role", if connected { peer_role(resource) } else { "Unknown" });
    }
    line.end();
    if connected || detail.verbose || detail.statistics {
        for volume in &resource.volumes {
            render_peer_device(text, resource, volume, detail, width);
        }
    }
}

fn render_peer_device(
    text: &mut String,
    resource: &ResourceStatus,
    volume: &VolumeStatus,
    detail: Detail,
    width: usize,
) {
    let mut line = Line::new(text, 4, width);
    if names_volumes(resource, detail) {
        line.field("volume", volume.volume);
    }
    line.field("replication", replication_state(&volume.cstate));
    line.field("peer-disk", &volume.peer_disk);
    if let Some(resync) = &volume.resync {
        let permille = permille_done(resync);
        line.field("done", format_args!("{}.{}0", permille / 10, permille % 10));
    }
    let suspended = resync_suspended(volume);
    if detail.verbose || suspended != "no" {
        line.next_line();
        line.field("resync-suspended", suspended);
    }
    if detail.statistics {
        let c = &volume.counters;
        line.next_line();
        line.field("received", c.nr);
        line.field("sent", c.ns);
        if detail.verbose || c.oos != 0 {
            line.field("out-of-sync", c.oos);
        }
        if detail.verbose {
            line.field("pending", c.pe);
            line.field("unacked", c.ua);
        }
    }
    line.end();
}

fn names_volumes(resource: &ResourceStatus, detail: Detail) -> bool {
    detail.verbose || resource.volumes.len() > 1 || resource.volumes.iter().any(|volume| volume.volume != 0)
}

/// The word for `/proc/drbd`'s letter (L96).
#[must_use]
pub const fn write_ordering(letter: char) -> &'static str {
    match letter {
        'b' => "barrier",
        'f' => "flush",
        'd' => "drain",
        _ => "none",
    }
}

/// A line that wraps before a field that does not fit (L72).
struct Line<'a> {
    text: &'a mut String,
    indent: usize,
    width: usize,
    /// Columns used; only the indent: nothing was written yet.
    column: usize,
    empty: bool,
}

impl<'a> Line<'a> {
    fn new(text: &'a mut String, indent: usize, width: usize) -> Self {
        let _ = write!(text, "{:indent$}", "");
        Self { text, indent, width, column: indent, empty: true }
    }

    fn word(&mut self, word: &str) {
        if !self.empty && self.column + 1 + word.len() > self.width {
            self.next_line();
        }
        if !self.empty {
            self.text.push(' ');
            self.column += 1;
        }
        self.text.push_str(word);
        self.column += word.len();
        self.empty = false;
    }

    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        self.word(&format!("{name}:{value}"));
    }

    /// Goes on in a line of its own, deeper.
    fn next_line(&mut self) {
        let indent = self.indent + 4;
        let _ = write!(self.text, "\n{:indent$}", "");
        self.column = indent;
        self.empty = true;
    }

    fn end(self) {
        self.text.push('\n');
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::node::status::{Counters, ResyncStatus};

    pub(in crate::observe) fn resource(cstate: &str, volumes: u16) -> ResourceStatus {
        let volume = |volume| VolumeStatus {
            volume,
            minor: u32::from(volume) + 1,
            cstate: cstate.into(),
            role: "Primary".into(),
            peer_role: "Secondary".into(),
            disk: "UpToDate".into(),
            peer_disk: "UpToDate".into(),
            size_sectors: 2_097_016,
            backing: "/dev/sda7".into(),
            counters: Counters { wo: 'f', ..Counters::default() },
            ..VolumeStatus::default()
        };
        ResourceStatus {
            name: "r0".into(),
            cstate: cstate.into(),
            local: Some("10.1.1.31:7789".into()),
            peer: Some("10.1.1.32:7789".into()),
            volumes: (0..volumes).map(volume).collect(),
            ..ResourceStatus::default()
        }
    }

    fn plain(resource: ResourceStatus) -> String {
        render(&[resource], Detail::default(), 80)
    }

    #[test]
    fn a_healthy_pair_takes_four_lines_and_an_empty_one() {
        let text = plain(resource("Connected", 1));
        assert_eq!(
            text,
            "r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n    replication:Established peer-disk:UpToDate\n\n"
        );
    }

    #[test]
    fn without_a_connection_nothing_is_said_about_the_peers_disk() {
        let text = plain(resource("WFConnection", 1));
        assert_eq!(text, "r0 role:Primary\n  disk:UpToDate\n  peer connection:Connecting\n\n");
    }

    #[test]
    fn several_volumes_are_numbered_and_a_resync_has_its_percentage() {
        let mut status = resource("SyncSource", 2);
        status.suspended = vec!["user".into(), "no-data".into()];
        status.volumes[0].resync =
            Some(ResyncStatus { total_bits: 1 << 20, left_bits: 1 << 19, ..ResyncStatus::default() });
        status.volumes[1].cstate = "PausedSyncS".into();
        status.volumes[1].paused = "ua".into();
        assert_eq!(
            plain(status),
            "r0 role:Primary suspended:user,no-data\n  volume:0 disk:UpToDate\n  volume:1 disk:UpToDate\n  \
             peer role:Secondary\n    volume:0 replication:SyncSource peer-disk:UpToDate done:50.10\n    \
             volume:1 replication:PausedSyncS peer-disk:UpToDate\n        resync-suspended:user,dependency\n\n"
        );
    }

    #[test]
    fn lines_wrap_before_a_field_that_does_not_fit() {
        let detail = Detail { verbose: true, statistics: true };
        let text = render(&[resource("Connected", 1)], detail, 80);
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert!(
            text.contains(
                "\n      size:1048508 read:0 written:0 al-writes:0 bm-writes:0 upper-pending:0\n      lower-pending:0\n"
            ),
            "{text}"
        );
    }
}
