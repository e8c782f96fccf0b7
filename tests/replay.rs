//! The recorded scenarios of `tests/decisions.rs` in real time: on two daemons, and on a daemon and an in-kernel DRBD.
//!
//! Real processes, resource files, tools, NBD clients, disks and sockets; compared after every step as in the
//! false world. One line of each group is replayed by default. `URBD_REPLAY=third` replays every third line,
//! `all` all of them, anything else those whose name contains it, and prints each step.

#![allow(clippy::unwrap_used)]
#![allow(dead_code)] // of the shared modules, each test binary uses a part

#[path = "decisions/allowed.rs"]
mod allowed;
#[path = "decisions/compare.rs"]
mod compare;
#[path = "kernel/mod.rs"]
mod harness;
#[path = "replay/kernel.rs"]
mod kernel;
#[path = "replay/pair.rs"]
mod pair;
#[path = "decisions/scenario.rs"]
mod scenario;
#[path = "replay/selection.rs"]
mod selection;
#[path = "decisions/stage.rs"]
mod stage;
#[path = "replay/urbd.rs"]
mod urbd;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use harness::Lab;
use kernel::{Kernel, Slot};
use pair::{Machine, Pair};
use scenario::{Scenario, scenarios};
use selection::Selection;
use stage::{Tally, Verdict, replay};
use urbd::Daemon;

/// A replay mostly waits for timers.
const PAIRS_OF_DAEMONS: usize = 8;
/// A guest costs more.
const PAIRS_WITH_A_KERNEL: usize = 4;
/// All lines, on a busy machine.
const LIMIT: Duration = Duration::from_secs(3600);

#[test]
fn two_daemons_decide_as_two_kernels_did() {
    Lab::run_within("two_daemons_decide_as_two_kernels_did", LIMIT, |lab| {
        run(lab, PAIRS_OF_DAEMONS, |worker, _, scenario, tell| {
            let [mut a, mut b] = [0, 1].map(|host| Daemon::new(lab, worker, host));
            play(lab, worker, scenario, [&mut a, &mut b], tell)
        });
    });
}

/// Which of the two is the kernel alternates.
#[test]
fn a_daemon_and_a_kernel_decide_as_two_kernels_did() {
    Lab::run_within("a_daemon_and_a_kernel_decide_as_two_kernels_did", LIMIT, |lab| {
        let guests: Vec<Slot> = (0..PAIRS_WITH_A_KERNEL).map(|_| Slot::default()).collect();
        run(lab, PAIRS_WITH_A_KERNEL, |worker, turn, scenario, tell| {
            let host = turn % 2;
            tell(format!("{} is the kernel", ["a", "b"][host]));
            let mut kernel = Kernel::new(lab, worker, &guests[worker]);
            let mut daemon = Daemon::new(lab, worker, 1 - host);
            let machines: [&mut dyn Machine; 2] =
                if host == 0 { [&mut kernel, &mut daemon] } else { [&mut daemon, &mut kernel] };
            let verdict = play(lab, worker, scenario, machines, tell);
            kernel.clear();
            verdict
        });
    });
}

#[test]
fn each_group_has_one_line_that_is_always_replayed() {
    selection::check(&scenarios());
}

fn play<'a>(
    lab: &'a Lab,
    worker: usize,
    scenario: &Scenario,
    machines: [&'a mut dyn Machine; 2],
    tell: &mut dyn FnMut(String),
) -> Verdict {
    let mut pair = Pair::new(lab, worker, &scenario.config, machines);
    let verdict = replay(scenario, &mut pair, &mut *tell);
    if verdict.failure.is_some() {
        tell(pair.logs());
    }
    verdict
}

/// Replays the selected lines, so many at a time. `play` is given the number of the worker, that of the line among
/// those selected, the scenario, and who wants to hear what happens.
fn run(
    lab: &Lab,
    workers: usize,
    play: impl Fn(usize, usize, &Scenario, &mut dyn FnMut(String)) -> Verdict + Sync,
) {
    let selection = Selection::wanted();
    let started = Instant::now();
    let all = scenarios();
    let lines: VecDeque<_> = selection.of(&all).into_iter().enumerate().collect();
    let queue = Mutex::new(lines);
    let tally = Mutex::new(Tally::default());
    let next = || queue.lock().unwrap().pop_front();
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (play, next, tally, selection) = (&play, &next, &tally, &selection);
            scope.spawn(move || {
                while let Some((turn, scenario)) = next() {
                    let began = Instant::now();
                    let mut story = String::new();
                    let mut tell = |step: String| story += &format!("{:>8.1?} {step}\n", began.elapsed());
                    let played = catch_unwind(AssertUnwindSafe(|| play(worker, turn, scenario, &mut tell)));
                    let verdict = played.unwrap_or_else(|cause| Verdict {
                        id: scenario.id.clone(),
                        allowed: Vec::new(),
                        failure: Some(format!("panicked: {}", words(cause.as_ref()))),
                    });
                    let excuse = selection::excuse(&verdict.id);
                    let shown = (verdict.failure.is_some() && excuse.is_none()) || selection.is_by_name();
                    let end = if verdict.failure.is_some() { "DIFFERS" } else { "agrees" };
                    println!("{:>6.1?} {} {end}", began.elapsed(), scenario.id);
                    if shown {
                        println!("{story}");
                    }
                    tally.lock().unwrap().count(scenario.group(), &verdict, excuse);
                }
            });
        }
    });
    println!("{:.0?}, {workers} pairs at a time", started.elapsed());
    lab.forget_logs(); // those of the lines that differ were shown
    tally.into_inner().unwrap().finish();
}

/// The message of a panic.
fn words(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}
