//! `wait-connect` and `wait-sync`: follow the daemon's status until it is as wished (L87, L88).

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::codes::exit;
use super::console::Console;
use crate::config::options::StartupOptions;
use crate::control::client::{Client, ClientError};
use crate::control::messages::{Answer, Call};
use crate::node::status::{ResourceStatus, VolumeStatus};
use crate::observe::proc_drbd::{grouped, is_unconfigured, permille_done};
use crate::observe::words::is_at_least_connected;

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The peer is connected, or will not be (StandAlone).
    Connect,
    /// Nothing is left to synchronise, or nothing ever will be (StandAlone).
    Sync,
}

/// How long to wait, for each of the three situations of S86.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds to wait for the peer; `None`: for ever.
    connect_s: Option<u64>,
    /// The same after this node crashed as a Primary without a peer.
    degraded_s: Option<u64>,
    /// The same when the peer's disk is known to be Outdated.
    outdated_s: Option<u64>,
    /// Go on waiting when the connection is StandAlone.
    wait_after_sb: bool,
    /// Seconds that overrule all that; `None`: nothing was asked for.
    overall_s: Option<u64>,
}

impl Limits {
    /// The limits of the `startup` section, and of `--timeout` where it was given; what is said
    /// of a time that had to be shortened (L88) goes to `notice`.
    #[must_use]
    pub fn new(startup: &StartupOptions, overall_s: Option<u64>, notice: &mut dyn FnMut(String)) -> Self {
        let some = |seconds: u32| (seconds != 0).then_some(u64::from(seconds));
        let connect_s = some(startup.wfc_timeout_s);
        // Who waits a bounded time for any peer waits no longer for one that is less likely to come.
        let mut bounded = |own: (&str, Option<u64>), longer: (&str, Option<u64>)| match (own.1, longer.1) {
            (own_s, None) => own_s,
            (Some(own_s), Some(longer_s)) if own_s <= longer_s => Some(own_s),
            (_, Some(longer_s)) => {
                let ((own, _), (longer, _)) = (own, longer);
                notice(format!("{own} has to be shorter than {longer}"));
                notice(format!("{own} implicitly set to {longer} ({longer_s}s)"));
                Some(longer_s)
            }
        };
        let degraded = ("degr-wfc-timeout", some(startup.degr_wfc_timeout_s));
        let degraded_s = bounded(degraded, ("wfc-timeout", connect_s));
        let outdated = ("outdated-wfc-timeout", some(startup.outdated_wfc_timeout_s));
        let outdated_s = bounded(outdated, ("degr-wfc-timeout", degraded_s));
        Self { connect_s, degraded_s, outdated_s, wait_after_sb: startup.wait_after_sb, overall_s }
    }

    /// How long to wait for the peer of a volume that is in this situation when the waiting begins.
    fn of(&self, volume: &VolumeStatus) -> Option<Duration> {
        let of_startup = if volume.peer_disk == "Outdated" {
            self.outdated_s
        } else if volume.degraded {
            self.degraded_s
        } else {
            self.connect_s
        };
        self.overall_s.or(of_startup).map(Duration::from_secs)
    }

    /// The limit that holds for several volumes: the longest.
    fn of_all(&self, volumes: &[(&ResourceStatus, &VolumeStatus)]) -> Option<Duration> {
        let each: Option<Vec<_>> = volumes.iter().map(|(_, volume)| self.of(volume)).collect();
        each.map(|limits| limits.into_iter().max().unwrap_or_default())
    }
}

/// Waits for all these devices; [`exit::OK`], [`exit::TIMEOUT`], or [`exit::REJECTED`] if one of them
/// does not exist.
///
/// # Errors
/// When the daemon stops answering.
pub fn run(
    mut client: Client,
    goal: Goal,
    minors: &[u32],
    limits: &Limits,
    console: &mut Console<'_>,
) -> Result<i32, ClientError> {
    let begin = Instant::now();
    client.send(&Call::Watch { resource: None })?;
    let mut progress = Progress::new();
    // When a resync was last seen to run, or to be about to.
    let mut settling = begin;
    let mut statuses = snapshot(client.receive(None)?)?;
    let mut limit = None;
    loop {
        let volumes: Vec<_> =
            minors.iter().filter_map(|minor| super::setup::volume_of(&statuses, *minor)).collect();
        if volumes.len() < minors.len() {
            progress.clear();
            console.complain_line("No such device: it is not configured on this node");
            return Ok(exit::REJECTED);
        }
        if !volumes.iter().all(|(_, volume)| is_reached(Goal::Sync, volume, limits)) {
            settling = Instant::now();
        }
        let settles = goal == Goal::Sync && volumes.iter().any(|(_, volume)| is_uneven(volume));
        let patience = if settles { SETTLE_LIMIT.saturating_sub(settling.elapsed()) } else { Duration::ZERO };
        if patience.is_zero() && volumes.iter().all(|(_, volume)| is_reached(goal, volume, limits)) {
            progress.clear();
            return Ok(exit::OK);
        }
        if goal == Goal::Sync {
            progress.show(&volumes, console);
        }
        let limit = *limit.get_or_insert_with(|| limits.of_all(&volumes));
        let left = limit.map(|limit| limit.saturating_sub(begin.elapsed()));
        if left == Some(Duration::ZERO) {
            progress.clear();
            return Ok(exit::TIMEOUT);
        }
        let reached = (!patience.is_zero()).then_some(patience);
        match client.receive(left.into_iter().chain(reached).min()) {
            Ok(answer) => statuses = snapshot(answer)?,
            Err(ClientError::TimedOut { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// How long a disk may be worse than UpToDate without a resync, before that counts as the end: between
/// two nodes that have just met, or one of which was promoted a moment ago (which the other may not have
/// heard yet), the resync is about to begin; after one with failed blocks it is not.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// Whether a resync can be expected: both disks are there, and one of them is not up to date.
fn is_uneven(volume: &VolumeStatus) -> bool {
    let good = |disk: &str| disk == "UpToDate";
    let bad = |disk: &str| matches!(disk, "Inconsistent" | "Outdated" | "Consistent");
    let (own, peer) = (volume.disk.as_str(), volume.peer_disk.as_str());
    volume.cstate == "Connected" && ((bad(own) && (good(peer) || bad(peer))) || (good(own) && bad(peer)))
}

fn snapshot(answer: Answer) -> Result<Vec<ResourceStatus>, ClientError> {
    match answer {
        Answer::Status(statuses) => Ok(statuses),
        other => Err(ClientError::Refused(format!("it answered something else: {other:?}"))),
    }
}

fn is_reached(goal: Goal, volume: &VolumeStatus, limits: &Limits) -> bool {
    let given_up = matches!(volume.cstate.as_str(), "StandAlone" | "Disconnecting")
        && (!limits.wait_after_sb || is_unconfigured(volume));
    let reached = match goal {
        Goal::Connect => is_at_least_connected(&volume.cstate),
        Goal::Sync => volume.cstate == "Connected",
    };
    reached || given_up
}

/// How far a resync is: a bar on a terminal, else a line now and then.
struct Progress {
    bar: Option<ProgressBar>,
    last_line: Option<(Instant, u16)>,
}

/// Time between two lines that tell the progress.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

impl Progress {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} [{bar:40}] {percent:>3}% {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar
        });
        Self { bar, last_line: None }
    }

    /// Shows the volume that is furthest behind.
    fn show(&mut self, volumes: &[(&ResourceStatus, &VolumeStatus)], console: &mut Console<'_>) {
        let running = volumes.iter().filter_map(|(resource, volume)| {
            let resync = volume.resync.as_ref()?;
            Some((permille_done(resync), *resource, *volume, resync))
        });
        let Some((permille, resource, volume, resync)) = running.min_by_key(|(permille, ..)| *permille)
        else {
            return;
        };
        let name = format!("{}/{} {}", resource.name, volume.volume, volume.cstate);
        let left = resync
            .finish_s
            .map_or_else(String::new, |s| format!(", {}:{:02}:{:02} left", s / 3600, s % 3600 / 60, s % 60));
        let text =
            format!("{} MiB left, {} KiB/s{left}", resync.left_bits / 256, grouped(resync.speed_kib_s));
        if let Some(bar) = &self.bar {
            bar.set_prefix(name);
            bar.set_position(u64::from(permille));
            bar.set_message(text);
            return;
        }
        let now = Instant::now();
        let due = self.last_line.is_none_or(|(at, last)| now - at >= LINE_INTERVAL && last != permille);
        if due {
            self.last_line = Some((now, permille));
            console.complain_line(format!("{name}: {}.{}% done, {text}", permille / 10, permille % 10));
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::control::messages::to_line;
    use crate::control::socket_path;
    use crate::node::status::ResyncStatus;

    fn status(cstate: &str) -> Vec<ResourceStatus> {
        let resync = cstate.starts_with("Sync").then(|| ResyncStatus {
            total_bits: 1 << 20,
            left_bits: 1 << 19,
            ..ResyncStatus::default()
        });
        let volume = VolumeStatus {
            minor: 1,
            cstate: cstate.into(),
            disk: "UpToDate".into(),
            role: "Primary".into(),
            resync,
            ..VolumeStatus::default()
        };
        vec![ResourceStatus { name: "r0".into(), volumes: vec![volume], ..ResourceStatus::default() }]
    }

    /// Waits against a daemon that goes through these states, and then says nothing more.
    fn wait_through(goal: Goal, states: &[&str], limits: &Limits) -> (i32, String) {
        wait_through_all(goal, &states.iter().map(|state| status(state)).collect::<Vec<_>>(), limits)
    }

    fn wait_through_all(goal: Goal, states: &[Vec<ResourceStatus>], limits: &Limits) -> (i32, String) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket_path(dir.path())).unwrap();
        let lines: Vec<_> =
            states.iter().map(|state| to_line(&Answer::Status(state.clone())).unwrap()).collect();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let daemon = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_until(b'\n', &mut Vec::new()).unwrap();
            lines.iter().for_each(|line| (&stream).write_all(line).unwrap());
            // Keeps the connection open until the waiting has ended.
            let _ = stopped.recv();
        });
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let client = Client::connect(dir.path()).unwrap();
        let code = run(client, goal, &[1], limits, &mut Console::new(&mut out, &mut err)).unwrap();
        drop(stop);
        daemon.join().unwrap();
        (code, String::from_utf8(err).unwrap())
    }

    fn limits(text: &[(&str, &str)], overall: Option<u64>) -> Limits {
        let mut startup = StartupOptions::default();
        text.iter().for_each(|(name, value)| startup.set(name, Some(value)).unwrap());
        Limits::new(&startup, overall, &mut |_| {})
    }

    #[test]
    fn waiting_for_the_peer_ends_when_it_is_there_in_any_state() {
        let for_ever = limits(&[], None);
        assert_eq!(
            wait_through(Goal::Connect, &["WFConnection", "WFReportParams", "SyncSource"], &for_ever).0,
            0
        );
        assert_eq!(wait_through(Goal::Connect, &["StandAlone"], &for_ever).0, 0);
    }

    #[test]
    fn waiting_for_a_resync_tells_how_far_it_is_and_ends_with_it() {
        let (code, err) = wait_through(Goal::Sync, &["SyncSource", "Connected"], &limits(&[], None));
        assert_eq!(code, 0);
        assert_eq!(err, "r0/0 SyncSource: 50.1% done, 2048 MiB left, 0 KiB/s\n");
        assert_eq!(wait_through(Goal::Sync, &["Connected"], &limits(&[], None)), (0, String::new()));
    }

    #[test]
    fn a_resync_about_to_begin_is_waited_for_and_one_that_never_does_is_not() {
        let mut uneven = status("Connected");
        uneven[0].volumes[0].peer_disk = "Inconsistent".into();
        let begin = Instant::now();
        let (code, err) = wait_through_all(
            Goal::Sync,
            &[uneven.clone(), status("SyncSource"), status("Connected")],
            &limits(&[], None),
        );
        assert!(code == 0 && err.starts_with("r0/0 SyncSource"), "{err}");
        assert!(begin.elapsed() < SETTLE_LIMIT);
        // The peer's promotion may not have been heard of yet.
        let mut fresh = uneven.clone();
        fresh[0].volumes[0].disk = "Inconsistent".into();
        let (code, err) = wait_through_all(
            Goal::Sync,
            &[fresh, status("SyncTarget"), status("Connected")],
            &limits(&[], None),
        );
        assert!(code == 0 && err.starts_with("r0/0 SyncTarget"), "{err}");
        assert_eq!(wait_through_all(Goal::Sync, &[uneven], &limits(&[], None)), (0, String::new()));
        assert!(begin.elapsed() >= SETTLE_LIMIT);
    }

    #[test]
    fn time_runs_out_with_exit_code_five() {
        assert_eq!(wait_through(Goal::Connect, &["WFConnection"], &limits(&[], Some(0))).0, 5);
        let short = limits(&[("wfc-timeout", "1")], None);
        assert_eq!(wait_through(Goal::Connect, &["WFConnection"], &short).0, 5);
    }

    #[test]
    fn after_a_split_brain_it_waits_on_only_if_told_to() {
        let patient = limits(&[("wait-after-sb", "yes")], Some(0));
        assert_eq!(wait_through(Goal::Connect, &["StandAlone"], &patient).0, 5);
    }

    /// The limits in seconds for any peer, in a degraded cluster and for an outdated peer, of times that
    /// are configured in this order (0: not at all); and how many notices there were.
    fn seconds(wfc: u32, degr: u32, outdated: u32) -> ([Option<u64>; 3], usize) {
        let startup = StartupOptions {
            wfc_timeout_s: wfc,
            degr_wfc_timeout_s: degr,
            outdated_wfc_timeout_s: outdated,
            ..StartupOptions::default()
        };
        let mut notices = 0;
        let limits = Limits::new(&startup, None, &mut |_| notices += 1);
        let [plain, mut degraded, mut outdated] = [0; 3].map(|_| VolumeStatus::default());
        degraded.degraded = true;
        outdated.peer_disk = "Outdated".into();
        let of = |volume| limits.of(volume).map(|limit| limit.as_secs());
        ([of(&plain), of(&degraded), of(&outdated)], notices)
    }

    #[test]
    fn a_degraded_cluster_and_an_outdated_peer_have_their_own_times_but_never_longer_ones() {
        assert_eq!(seconds(0, 0, 0), ([None; 3], 0));
        assert_eq!(seconds(0, 20, 0), ([None, Some(20), Some(20)], 2));
        assert_eq!(seconds(30, 20, 10), ([Some(30), Some(20), Some(10)], 0));
        assert_eq!(seconds(30, 0, 0), ([Some(30); 3], 4));
        assert_eq!(seconds(0, 0, 5), ([None, None, Some(5)], 0));
        assert_eq!(seconds(10, 20, 30), ([Some(10); 3], 4));
    }

    #[test]
    fn the_situation_when_the_waiting_begins_decides_how_long_it_is() {
        let mut degraded = status("WFConnection");
        degraded[0].volumes[0].degraded = true;
        // A handshake that fails clears the mark (S86); the time is still the short one.
        let states = [degraded, status("WFConnection")];
        let limits = limits(&[("degr-wfc-timeout", "1")], None);
        assert_eq!(wait_through_all(Goal::Connect, &states, &limits).0, 5);
    }
}
