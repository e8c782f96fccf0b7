//! A mutant's trial: seeds are run until one fails.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// How often a running program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Somebody pressed Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether somebody pressed Ctrl-C.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Heeds Ctrl-C from now on: what runs is ended, and what was found is told.
///
/// # Errors
/// If the signal cannot be had.
pub(crate) fn heed_interrupts() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// How a trial is held.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Seeds at most.
    pub(crate) limit: u64,
    /// Side by side.
    pub(crate) threads: usize,
    /// A trial in which no seed ends for so long hangs.
    pub(crate) patience: Duration,
    /// Every life has this course of events.
    pub(crate) course: Option<String>,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A seed failed.
    Found {
        /// Which.
        seed: u64,
        /// The words of the check.
        why: String,
    },
    /// No life ended any more: that is seen as well.
    Hangs,
    /// No seed failed.
    Survived,
    /// The program itself died, or the trial could not be held.
    Broken(String),
    /// Ctrl-C.
    Interrupted,
}

/// Runs the seeds of a trial.
///
/// # Errors
/// If the program cannot be started.
pub(crate) fn hold(program: &Path, rules: &Rules) -> anyhow::Result<Verdict> {
    let mut child = Command::new(program)
        .args(["--seeds", &format!("1..{}", rules.limit + 1), "--failures", "1"])
        .args(["--threads", &rules.threads.to_string()])
        .args(rules.course.iter().flat_map(|course| ["--course", course]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let failures = gather(child.stdout.take());
    let seeds = progress(child.stderr.take());
    let mut last = (0, Instant::now());
    loop {
        if let Some(status) = child.try_wait()? {
            if interrupted() {
                return Ok(Verdict::Interrupted);
            }
            let said = failures.join().unwrap_or_default();
            return Ok(match first_failure(&said) {
                Some(found) => found,
                // What a fault keeps from being reached is no failure of a seed.
                None if status.success() || said.contains("never reached: ") => Verdict::Survived,
                None => Verdict::Broken(format!("the simulator ended with {status}")),
            });
        }
        let now = seeds.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        if interrupted() || last.1.elapsed() > rules.patience {
            end(&mut child);
            return Ok(if interrupted() { Verdict::Interrupted } else { Verdict::Hangs });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits for a child that may be interrupted: whether it succeeded, and what it said on its standard
/// error.
///
/// # Errors
/// If it cannot be waited for.
pub(crate) fn wait(mut child: Child) -> anyhow::Result<(bool, String)> {
    let said = gather(child.stderr.take());
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status.success(), said.join().unwrap_or_default()));
        }
        if interrupted() {
            end(&mut child);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself just now.
    let _ = child.kill();
    let _ = child.wait();
}

/// The line `seed N: why` that was said first, or has the smallest number.
fn first_failure(said: &str) -> Option<Verdict> {
    let failures = said.lines().filter_map(|line| {
        let (seed, why) = line.strip_prefix("seed ")?.split_once(": ")?;
        Some((seed.parse().ok()?, why.to_owned()))
    });
    let (seed, why) = failures.min()?;
    Some(Verdict::Found { seed, why })
}

/// Reads all that a child says.
fn gather(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut said = String::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_string(&mut said); // What came until then is good.
        }
        said
    })
}

/// Reads the lines `N seeds, ...` that come now and then; the last number.
fn progress(pipe: Option<impl Read + Send + 'static>) -> Arc<AtomicU64> {
    let seeds = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&seeds);
    std::thread::spawn(move || {
        let Some(pipe) = pipe else { return };
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if let Some(number) = line.split(' ').next().and_then(|word| word.parse().ok()) {
                shared.store(number, Ordering::Relaxed);
            }
        }
    });
    seeds
}
