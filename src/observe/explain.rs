//! What `explain` says: in plain words what state a resource is in, why, and what can be done.
//!
//! ```text
//!  both changed their data  ──► who wrote how much, where, what each choice loses, its commands
//!  the peer is away         ──► for how long, what waits for it
//!  a resync runs            ──► which way, how far
//!  I/O is frozen            ──► by what, how to go on
//! ```

use std::fmt::Write;

use super::proc_drbd::is_unconfigured;
use crate::node::status::{Finding, PeerSeen, ResourceStatus, VolumeStatus};

/// How the nodes and the command line tool are called.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// This node.
    pub here: &'a str,
    /// The other one.
    pub there: &'a str,
    /// The tool, as the user called it.
    pub adm: &'a str,
}

/// The explanation of a resource. Ends with a line break.
#[must_use]
pub fn explain(status: &ResourceStatus, names: Names<'_>) -> String {
    let mut text = Text { out: String::new(), status, names };
    text.line(format_args!("{} on {}", status.name, names.here));
    if status.volumes.iter().all(is_unconfigured) && status.cstate != "WFConnection" {
        text.say("  It is not up here: no disk, no connection. To take it up:");
        text.commands(&["up"]);
        return text.out;
    }
    text.frozen();
    text.connection();
    for volume in &status.volumes {
        text.volume(volume);
    }
    text.out
}

/// One line for `status`, if there is something that must not be overlooked.
#[must_use]
pub fn alarm(status: &ResourceStatus) -> Option<String> {
    let away = status.cstate == "StandAlone" || status.cstate == "WFConnection";
    let findings = status.volumes.iter().filter_map(|v| v.peer_seen).map(|seen| seen.finding);
    let worst = findings.filter(|finding| *finding != Finding::Agreed).min().filter(|_| away)?;
    let word = match worst {
        Finding::SplitBrain => "split-brain",
        Finding::Unrelated => "unrelated-data",
        Finding::SourceInconsistent | Finding::TargetPrimary | Finding::Refused | Finding::Agreed => {
            "handshake-refused"
        }
    };
    Some(format!("{word}: 'explain {}' says what to do", status.name))
}

struct Text<'a> {
    out: String,
    status: &'a ResourceStatus,
    names: Names<'a>,
}

impl Text<'_> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.out, "{line}");
    }

    fn say(&mut self, line: &str) {
        self.line(format_args!("{line}"));
    }

    fn commands(&mut self, commands: &[&str]) {
        let (adm, name) = (self.names.adm, self.status.name.as_str());
        for command in commands {
            self.line(format_args!("          {adm} {command} {name}"));
        }
    }

    fn frozen(&mut self) {
        let there = self.names.there;
        for reason in &self.status.suspended {
            match reason.as_str() {
                "user" => {
                    self.say("  Requests are frozen because somebody asked for it (suspend-io). To go on:");
                    self.commands(&["resume-io"]);
                }
                "no-data" => {
                    self.say("  Requests are frozen: no copy of the data can be reached. They go on by");
                    self.say("  themselves when a disk or the peer is back. To fail them instead:");
                    self.commands(&["resume-io"]);
                }
                _ => {
                    self.say(
                        "  Requests are frozen: the peer is lost, and nothing has confirmed yet that it is",
                    );
                    self.line(format_args!(
                        "  fenced. Make sure that {there} does not write any more, only then:"
                    ));
                    self.commands(&["resume-io"]);
                }
            }
        }
    }

    fn connection(&mut self) {
        let there = self.names.there;
        let peer = self.status.peer.as_deref().map_or_else(String::new, |peer| format!(" at {peer}"));
        let parted = self.status.parted_s.map_or_else(
            || "They have not been connected since the resource was taken up here.".to_owned(),
            |seconds| format!("The connection ended {} ago.", span(seconds)),
        );
        match self.status.cstate.as_str() {
            "StandAlone" => {
                self.line(format_args!("  StandAlone: this node neither looks for {there} nor lets it in."));
                self.line(format_args!("  {parted}"));
                let refused = |v: &VolumeStatus| v.peer_seen.is_some_and(|s| s.finding != Finding::Agreed);
                if !self.status.volumes.iter().any(refused) {
                    self.say("  To look for it again:");
                    self.commands(&["connect"]);
                }
            }
            "WFConnection" | "Unconnected" => {
                self.line(format_args!("  {there} does not answer{peer}; this node keeps trying. {parted}"));
                self.line(format_args!("  Is {there} up, is the resource up there, can it be reached?"));
            }
            "WFReportParams" => {
                let protocol = self.status.protocol;
                self.line(format_args!("  Connected to {there}{peer}, protocol {protocol}."));
            }
            other => {
                self.line(format_args!(
                    "  The connection to {there} is being set up or torn down ({other})."
                ));
            }
        }
    }

    fn volume(&mut self, v: &VolumeStatus) {
        let size = kib(v.size_sectors / 2);
        self.line(format_args!("  Volume {} ({size}), {} here:", v.volume, v.role));
        self.disk(v);
        if v.cstate.starts_with("Verify") {
            return self.verify(v);
        }
        if v.resync.is_some() {
            return self.resync(v);
        }
        let connected = v.cstate == "Connected";
        match v.peer_seen {
            Some(seen) if !connected && seen.finding != Finding::Agreed => self.refusal(v, seen),
            Some(_) | None if v.counters.oos > 0 => self.out_of_sync(v, connected),
            Some(_) | None if connected => self.pair(v),
            Some(_) | None => {}
        }
    }

    fn disk(&mut self, v: &VolumeStatus) {
        let there = self.names.there;
        match v.disk.as_str() {
            "UpToDate" => self.say("    This copy is good."),
            "Inconsistent" => {
                self.say("    This copy is incomplete, partly old and partly new: of no use until a resync has ended.");
            }
            "Outdated" => {
                self.line(format_args!("    This copy is complete but old: {there} has newer data."))
            }
            "Consistent" => {
                self.line(format_args!(
                    "    This copy is complete; whether {there} has a newer one is not known."
                ));
            }
            "Diskless" => {
                self.line(format_args!(
                    "    No disk here: requests are served by {there}, while it is there."
                ));
            }
            other => self.line(format_args!("    The disk is {other}.")),
        }
    }

    fn resync(&mut self, v: &VolumeStatus) {
        let Some(resync) = &v.resync else { return };
        let Names { here, there, .. } = self.names;
        let target = matches!(v.cstate.as_str(), "SyncTarget" | "PausedSyncT");
        let (from, to) = if target { (there, here) } else { (here, there) };
        let left = kib(resync.left_bits * 4);
        let when = resync.finish_s.map_or_else(String::new, |s| format!(", done in about {}", span(s)));
        self.line(format_args!("    A resync runs from {from} to {to}: {left} to go{when}."));
        if !v.paused.is_empty() {
            self.say("    It is paused: by 'pause-sync' here or there, or behind another resource.");
        }
    }

    fn verify(&mut self, v: &VolumeStatus) {
        let there = self.names.there;
        let who = if v.cstate == "VerifyS" { "asked for here" } else { "asked for there" };
        let rest = v.resync.as_ref().map_or_else(String::new, |verify| {
            let when = verify.finish_s.map_or_else(String::new, |s| format!(", done in about {}", span(s)));
            format!(": {} to go{when}", kib(verify.left_bits * 4))
        });
        self.line(format_args!("    A verify, {who}, compares it with {there}'s{rest}."));
        if v.counters.oos > 0 {
            let oos = kib(v.counters.oos);
            self.line(format_args!("    {oos} are known to differ so far; they stay so when it ends."));
        }
    }

    fn out_of_sync(&mut self, v: &VolumeStatus, connected: bool) {
        let (there, oos) = (self.names.there, kib(v.counters.oos));
        if connected {
            self.line(format_args!("    {oos} are known to differ, and no resync runs. To start one:"));
            if v.role != "Primary" && v.peer_role != "Primary" {
                self.say("    (the Primary's data is copied: first make the node with the good data that)");
                return self.commands(&["primary", "disconnect", "connect"]);
            }
            return self.commands(&["disconnect", "connect"]);
        }
        self.line(format_args!("    {oos} here are not on {there}, as far as this node knows:"));
        self.map(v);
        self.say("    Only that is copied when the nodes meet again.");
    }

    fn pair(&mut self, v: &VolumeStatus) {
        let there = self.names.there;
        match (v.disk.as_str(), v.peer_disk.as_str()) {
            ("UpToDate", "UpToDate") => {
                self.line(format_args!(
                    "    {there}'s copy is equal; every write goes to both before it is answered."
                ));
            }
            ("Inconsistent", "Inconsistent") => {
                self.say(
                    "    Neither copy counts yet. On the node whose data is to count (the other's is lost):",
                );
                self.commands(&["primary --force"]);
            }
            (_, other) => self.line(format_args!("    {there}'s disk is {other}.")),
        }
    }

    /// Why the last handshake ended the connection.
    fn refusal(&mut self, v: &VolumeStatus, seen: PeerSeen) {
        let (there, ago) = (self.names.there, span(seen.ago_s));
        match seen.finding {
            Finding::SplitBrain => self.split_brain(v, seen),
            Finding::Unrelated => {
                self.line(format_args!(
                    "    {ago} ago {there} had data that never had to do with this copy: another"
                ));
                self.say("    disk, or new metadata. On the node whose data is to be overwritten:");
                self.commands(&["down", "create-md", "up"]);
            }
            Finding::SourceInconsistent => {
                self.line(format_args!(
                    "    {ago} ago the node with the newer data did not have it complete."
                ));
            }
            Finding::TargetPrimary => {
                self.line(format_args!(
                    "    {ago} ago the node with the older data was Primary. On it, with its"
                ));
                self.say("    clients stopped:");
                self.commands(&["secondary", "connect"]);
            }
            Finding::Refused | Finding::Agreed => {
                self.line(format_args!("    {ago} ago {there} was refused; the log says why."));
            }
        }
    }

    fn split_brain(&mut self, v: &VolumeStatus, seen: PeerSeen) {
        let Names { here, there, .. } = self.names;
        let (ours, theirs) = (kib(v.counters.oos), kib(seen.out_of_sync_kib));
        self.say("    SPLIT BRAIN: both nodes have written while they did not see each other.");
        self.line(format_args!("    Found {} ago. Since they last had the same data,", span(seen.ago_s)));
        self.line(format_args!("      {here} changed {ours}, counted in blocks of 4 KiB:"));
        self.map(v);
        self.line(format_args!("      {there} changed {theirs}, as it said then; only {there} knows where."));
        self.say("    One of the two has to go. Save what is needed of it first: it does not come back.");
        self.line(format_args!("    (a) Keep {here}'s data, lose the {theirs} of {there}."));
        self.line(format_args!("        On {there}, with its clients stopped:"));
        self.commands(&["secondary", "connect --discard-my-data"]);
        self.line(format_args!("        Then on {here}, if it is StandAlone:"));
        self.commands(&["connect"]);
        self.line(format_args!("    (b) Keep {there}'s data, lose the {ours} of {here}."));
        self.line(format_args!("        On {here}, with its clients stopped:"));
        self.commands(&["secondary", "connect --discard-my-data"]);
        self.line(format_args!("        Then on {there}, if it is StandAlone:"));
        self.commands(&["connect"]);
    }

    /// A picture of where this copy was changed: the device from its begin to its end.
    fn map(&mut self, v: &VolumeStatus) {
        let zones = v.out_of_sync_map.len() as u64;
        if zones == 0 {
            return;
        }
        let zone_kib = (v.size_sectors / 2).div_ceil(zones).max(1);
        let picture: String = v.out_of_sync_map.iter().map(|kib| shade(*kib, zone_kib)).collect();
        self.line(format_args!("      |{picture}| each sign is {}", kib(zone_kib)));
    }
}

/// How full a part of the device is.
fn shade(kib: u64, zone_kib: u64) -> char {
    match (kib, kib * 4 / zone_kib) {
        (0, _) => '.',
        (_, 0) => '░',
        (_, 1 | 2) => '▒',
        (_, 3) => '▓',
        (_, _) => '█',
    }
}

/// KiB in words.
fn kib(kib: u64) -> String {
    match kib {
        0..10_240 => format!("{kib} KiB"),
        10_240..10_485_760 => format!("{} MiB", kib >> 10),
        _ => format!("{} GiB", kib >> 20),
    }
}

/// Seconds in words.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::status::ResyncStatus;

    const NAMES: Names<'_> = Names { here: "boole", there: "cardan", adm: "urbdadm" };

    fn volume() -> VolumeStatus {
        VolumeStatus {
            cstate: "Connected".into(),
            role: "Primary".into(),
            peer_role: "Secondary".into(),
            disk: "UpToDate".into(),
            peer_disk: "UpToDate".into(),
            size_sectors: 64 << 11,
            ..VolumeStatus::default()
        }
    }

    fn resource(cstate: &str, volume: VolumeStatus) -> ResourceStatus {
        ResourceStatus {
            name: "r0".into(),
            cstate: cstate.into(),
            peer: Some("10.0.0.2:7788".into()),
            protocol: 'C',
            volumes: vec![volume],
            ..ResourceStatus::default()
        }
    }

    fn split() -> ResourceStatus {
        let mut v = volume();
        v.cstate = "StandAlone".into();
        let finding = Finding::SplitBrain;
        v.peer_seen = Some(PeerSeen { uuids: [1; 4], out_of_sync_kib: 3 << 20, ago_s: 130, finding });
        v.counters.oos = 1028;
        v.out_of_sync_map = vec![0; 64];
        v.out_of_sync_map[0] = 4;
        v.out_of_sync_map[63] = 1024;
        ResourceStatus { parted_s: Some(7300), ..resource("StandAlone", v) }
    }

    #[test]
    fn a_sound_pair_needs_few_words() {
        let sound = resource("WFReportParams", volume());
        insta::assert_snapshot!(explain(&sound, NAMES));
        assert_eq!(alarm(&sound), None);
    }

    #[test]
    fn a_split_brain_names_what_each_choice_loses_and_its_commands() {
        insta::assert_snapshot!(explain(&split(), NAMES));
        assert_eq!(alarm(&split()).as_deref(), Some("split-brain: 'explain r0' says what to do"));
    }

    #[test]
    fn every_state_has_its_words() {
        let mut text = String::new();
        for disk in ["UpToDate", "Inconsistent", "Outdated", "Consistent", "Diskless", "Failed"] {
            let v = VolumeStatus { disk: disk.into(), cstate: "WFConnection".into(), ..volume() };
            text += &explain(&resource("WFConnection", v), NAMES);
        }
        for finding in
            [Finding::Unrelated, Finding::SourceInconsistent, Finding::TargetPrimary, Finding::Refused]
        {
            let mut status = split();
            let seen = status.volumes[0].peer_seen.map(|seen| PeerSeen { finding, ..seen });
            status.volumes[0].peer_seen = seen;
            text += &explain(&status, NAMES);
        }
        for reason in ["user", "no-data", "fencing"] {
            let suspended = vec![reason.to_owned()];
            text += &explain(&ResourceStatus { suspended, ..resource("WFReportParams", volume()) }, NAMES);
        }
        text += &explain(&ResourceStatus { name: "r0".into(), ..ResourceStatus::default() }, NAMES);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_verify_and_what_it_found_have_their_words() {
        let mut v = volume();
        v.counters.oos = 12;
        let mut text = explain(&resource("WFReportParams", v.clone()), NAMES);
        v.role = "Secondary".into();
        v.peer_role = "Secondary".into();
        text += &explain(&resource("WFReportParams", v.clone()), NAMES);
        v.resync = Some(ResyncStatus {
            total_bits: 1000,
            left_bits: 300,
            finish_s: Some(9),
            ..ResyncStatus::default()
        });
        for cstate in ["VerifyS", "VerifyT"] {
            v.cstate = cstate.into();
            text += &explain(&resource("WFReportParams", v.clone()), NAMES);
            v.counters.oos = 0;
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn spans_and_sizes_are_read_at_a_glance() {
        assert_eq!(
            [span(59), span(60), span(3_725), span(90_000)],
            ["59 s", "1 min", "1 h 2 min", "1 d 1 h"]
        );
        assert_eq!([kib(4), kib(20_480), kib(20 << 20)], ["4 KiB", "20 MiB", "20 GiB"]);
        assert_eq!([shade(0, 8), shade(1, 1024), shade(512, 1024), shade(1024, 1024)], ['.', '░', '▒', '█']);
    }
}
