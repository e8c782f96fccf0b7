//! The text of `/proc/drbd`, byte for byte as scripts grep it (L95 to L97, D135, D136).

use std::fmt::Write;

use crate::node::status::{Counters, ResourceStatus, ResyncStatus, VolumeStatus};

/// The whole text: two lines about the version, then the volumes of all resources by minor.
#[must_use]
pub fn render(resources: &[ResourceStatus]) -> String {
    let mut text = format!("{VERSION_LINE}\n{BUILD_LINE}\n");
    let mut volumes: Vec<_> = resources
        .iter()
        .flat_map(|resource| resource.volumes.iter().map(move |volume| (resource, volume)))
        .collect();
    volumes.sort_by_key(|(_, volume)| volume.minor);
    let mut previous = None;
    for (resource, volume) in volumes {
        if previous.is_none_or(|previous: u32| previous.checked_add(1) != Some(volume.minor)) {
            text.push('\n');
        }
        previous = Some(volume.minor);
        render_volume(&mut text, resource, volume);
    }
    text
}

/// First line: the version whose formats these are.
pub const VERSION_LINE: &str = "version: 8.4.11 (api:1/proto:86-101)";
/// Second line: what made it.
const BUILD_LINE: &str = concat!("urbd ", env!("CARGO_PKG_VERSION"));

fn render_volume(text: &mut String, resource: &ResourceStatus, volume: &VolumeStatus) {
    if is_unconfigured(volume) {
        let _ = writeln!(text, "{:2}: cs:Unconfigured", volume.minor);
        return;
    }
    let _ = writeln!(
        text,
        "{:2}: cs:{} ro:{}/{} ds:{}/{} {} {}",
        volume.minor,
        volume.cstate,
        volume.role,
        volume.peer_role,
        volume.disk,
        volume.peer_disk,
        protocol(resource),
        flags(resource, volume),
    );
    render_counters(text, &volume.counters);
    if let Some(resync) = &volume.resync
        && shows_progress(&volume.cstate)
    {
        render_progress(text, &volume.cstate, resync);
    }
}

/// Whether a volume counts as not configured: no connection and no disk (S36, L64).
#[must_use]
pub fn is_unconfigured(volume: &VolumeStatus) -> bool {
    volume.cstate == "StandAlone" && volume.disk == "Diskless" && volume.role == "Secondary"
}

/// The protocol's letter, or a space while no connection is configured (L96).
fn protocol(resource: &ResourceStatus) -> char {
    match resource.protocol {
        letter @ 'A'..='C' if resource.peer.is_some() => letter,
        _ => ' ',
    }
}

/// The six flag characters (S4, L96).
fn flags(resource: &ResourceStatus, volume: &VolumeStatus) -> String {
    let flag = |letter: char| if volume.paused.contains(letter) { letter } else { '-' };
    let suspended = if resource.suspended.is_empty() { 'r' } else { 's' };
    [suspended, flag('a'), flag('p'), flag('u'), '-', '-'].iter().collect()
}

fn render_counters(text: &mut String, c: &Counters) {
    let _ = writeln!(
        text,
        "    ns:{} nr:{} dw:{} dr:{} al:{} bm:{} lo:{} pe:{} ua:{} ap:{} ep:{} wo:{} oos:{}",
        c.ns, c.nr, c.dw, c.dr, c.al, c.bm, c.lo, c.pe, c.ua, c.ap, c.ep, c.wo, c.oos
    );
}

fn shows_progress(cstate: &str) -> bool {
    matches!(cstate, "SyncSource" | "SyncTarget" | "VerifyS" | "VerifyT")
}

fn render_progress(text: &mut String, cstate: &str, resync: &ResyncStatus) {
    let permille = permille_done(resync);
    let marks = permille / 50;
    let (done, open) = (usize::from(marks.saturating_sub(1)), usize::from(20 - marks.min(20)));
    let verb = if cstate.starts_with("Verify") { "verified:" } else { "sync'ed:" };
    let left = resync.left_bits.min(resync.total_bits);
    // More than 4 GiB are shown in MiB: 2^20 bits of 4 KiB.
    let (left, total, unit) = if resync.total_bits > 1 << 20 {
        ((left >> 10) * 4, (resync.total_bits >> 10) * 4, 'M')
    } else {
        (left * 4, resync.total_bits * 4, 'K')
    };
    let _ = writeln!(
        text,
        "\t[{}>{}] {verb}{:3}.{}% ({left}/{total}){unit}",
        "=".repeat(done),
        ".".repeat(open),
        permille / 10,
        permille % 10,
    );
    let finish = resync.finish_s.unwrap_or(0);
    let _ = write!(
        text,
        "\tfinish: {}:{:02}:{:02} speed: {} ({})",
        finish / 3600,
        finish % 3600 / 60,
        finish % 60,
        grouped(resync.speed_kib_s),
        grouped(resync.mean_kib_s)
    );
    if matches!(cstate, "SyncTarget" | "VerifyS") {
        let _ = write!(text, " want: {}", grouped(resync.want_kib_s));
    }
    text.push_str(" K/sec");
    text.push_str(if resync.stalled { " (stalled)\n" } else { "\n" });
}

/// How much is done, in thousandths (D135).
#[must_use]
pub fn permille_done(resync: &ResyncStatus) -> u16 {
    let (total, left) = (resync.total_bits, resync.left_bits);
    if left > total {
        return if total == 0 { 1000 } else { 0 };
    }
    let shift = if total >= 1 << 32 { 16 } else { 10 };
    let undone = (left >> shift) * 1000 / (1 + (total >> shift));
    1000 - u16::try_from(undone).unwrap_or(1000).min(1000)
}

/// A number with a comma between each three digits.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource() -> ResourceStatus {
        ResourceStatus {
            name: "r0".into(),
            cstate: "Connected".into(),
            peer: Some("10.10.10.2:7788".into()),
            protocol: 'C',
            ..ResourceStatus::default()
        }
    }

    fn volume(minor: u32) -> VolumeStatus {
        VolumeStatus {
            minor,
            cstate: "Connected".into(),
            role: "Primary".into(),
            peer_role: "Secondary".into(),
            disk: "UpToDate".into(),
            peer_disk: "UpToDate".into(),
            counters: Counters { wo: 'f', ep: 1, ..Counters::default() },
            ..VolumeStatus::default()
        }
    }

    /// The example of L95.
    #[test]
    fn a_resync_looks_like_the_kernels() {
        let mut status = resource();
        status.volumes = vec![VolumeStatus {
            cstate: "SyncSource".into(),
            peer_disk: "Inconsistent".into(),
            resync: Some(ResyncStatus {
                total_bits: 262_127,
                left_bits: 131_063,
                speed_kib_s: 52_428,
                mean_kib_s: 51_200,
                finish_s: Some(10),
                ..ResyncStatus::default()
            }),
            counters: Counters {
                ns: 524_288,
                dw: 12,
                dr: 600_000,
                al: 1,
                bm: 200,
                lo: 2,
                pe: 4,
                ap: 2,
                ep: 1,
                wo: 'f',
                oos: 524_254,
                ..Counters::default()
            },
            ..volume(1)
        }];
        let text = render(&[status]);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "",
                " 1: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----",
                "    ns:524288 nr:0 dw:12 dr:600000 al:1 bm:200 lo:2 pe:4 ua:0 ap:2 ep:1 wo:f oos:524254",
                "\t[=========>..........] sync'ed: 50.4% (524252/1048508)K",
                "\tfinish: 0:00:10 speed: 52,428 (51,200) K/sec",
            ]
        );
    }

    #[test]
    fn minors_come_in_order_with_an_empty_line_at_each_gap() {
        let (mut r0, mut r1) = (resource(), resource());
        r0.volumes = vec![volume(10), volume(2)];
        r1.volumes = vec![volume(3)];
        let text = render(&[r0, r1]);
        let heads: Vec<&str> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with("    "))
            .map(|l| l.get(..3).unwrap_or(""))
            .collect();
        assert_eq!(heads, ["", " 2:", " 3:", "", "10:"]);
        assert!(text.starts_with("version: 8.4.11 (api:1/proto:86-101)\n"));
    }

    #[test]
    fn a_volume_without_disk_and_connection_is_unconfigured() {
        let mut status = ResourceStatus { peer: None, ..resource() };
        let bare = VolumeStatus {
            cstate: "StandAlone".into(),
            role: "Secondary".into(),
            disk: "Diskless".into(),
            ..volume(1)
        };
        status.volumes = vec![bare];
        assert!(render(&[status]).ends_with("\n\n 1: cs:Unconfigured\n"));
    }

    #[test]
    fn flags_and_protocol_have_their_columns() {
        let mut status = resource();
        status.suspended = vec!["user".into()];
        status.volumes = vec![VolumeStatus { paused: "pu".into(), ..volume(1) }];
        assert!(render(&[status.clone()]).contains(" C s-pu--\n"));
        status.peer = None;
        assert!(render(&[status]).contains("/UpToDate   s-pu--\n"));
    }

    #[test]
    fn the_bar_has_twenty_places_and_an_arrow_from_start_to_end() {
        for (left_bits, bar) in [
            (1 << 20, "[>....................]"),
            (0, "[===================>]"),
            (1 << 19, "[=========>..........]"),
        ] {
            let mut text = String::new();
            let resync = ResyncStatus { total_bits: 1 << 20, left_bits, ..ResyncStatus::default() };
            render_progress(&mut text, "SyncTarget", &resync);
            assert!(text.contains(bar), "{text}");
            assert!(text.contains(" want: 0 K/sec\n"), "{text}");
        }
    }

    #[test]
    fn more_than_four_gibibytes_are_shown_in_mebibytes() {
        let mut text = String::new();
        let resync = ResyncStatus {
            total_bits: 1 << 21,
            left_bits: 1 << 20,
            stalled: true,
            ..ResyncStatus::default()
        };
        render_progress(&mut text, "VerifyT", &resync);
        assert!(text.contains("verified: 50.1% (4096/8192)M\n"), "{text}");
        assert!(text.ends_with(" K/sec (stalled)\n"), "{text}");
    }

    #[test]
    fn nothing_left_of_nothing_is_all() {
        assert_eq!(permille_done(&ResyncStatus::default()), 1000);
        let more = ResyncStatus { total_bits: 5, left_bits: 9, ..ResyncStatus::default() };
        assert_eq!(permille_done(&more), 0);
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
    }
}
