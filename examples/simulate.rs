//! Leads random lives of a pair of nodes, by seed, and tells which of them broke a promise.
//!
//! ```text
//! cargo run --release --example simulate -- --seeds 1..10000
//! cargo run --release --example simulate -- --seed 4711 --trace
//! ```

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::PossibleValuesParser;
use urbd::sim::chaos::reach::Reach;
use urbd::sim::chaos::{Options, Report, courses, run_guarded, shrink};

/// Seeds of a run that has to reach everything.
const CI_SEEDS: u64 = 3000;

/// Random lives of two nodes: faults, crashes and commands at any moment, and clients that check what
/// they were promised.
#[derive(Parser)]
struct Arguments {
    /// The seeds to try: FIRST..END, without END.
    #[arg(long, default_value = "1..1000", value_parser = range)]
    seeds: Range<u64>,
    /// One seed only, with the plan of its life; on failure the fewest actions that make it fail.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// With --seed: tell everything that happens.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// With --seed and --trace: tell also each input and effect of the two cores.
    #[arg(long, requires = "trace")]
    journal: bool,
    /// With --seed: do not look for fewer actions.
    #[arg(long, requires = "seed")]
    whole: bool,
    /// How many run side by side; default: one for each core.
    #[arg(long)]
    threads: Option<usize>,
    /// Leave out the faults that wait for a situation, and demand not that 3000 seeds reach everything.
    #[arg(long)]
    no_aims: bool,
    /// Give every life this course of events, which some have anyway; and demand not that they reach
    /// everything.
    #[arg(long, value_parser = PossibleValuesParser::new(courses()))]
    course: Option<String>,
    /// Print what the faults met, also of fewer than 3000 seeds.
    #[arg(long)]
    reach: bool,
    /// Tell what was met less than so often, as that is what may become a hole.
    #[arg(long)]
    rarer_than: Option<u64>,
    /// Stop after so many failures.
    #[arg(long, default_value_t = 10)]
    failures: u64,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("write FIRST..END, as in 1..1000")?;
    let number = |text: &str| text.parse().map_err(|_| format!("'{text}' is no number"));
    Ok(number(first)?..number(end)?)
}

impl Arguments {
    fn options(&self) -> Options {
        Options { aims: !self.no_aims, course: self.course.clone(), ..Options::default() }
    }

    /// Whether the lives have to reach everything.
    const fn are_complete(&self) -> bool {
        !self.no_aims && self.course.is_none()
    }
}

fn main() {
    let arguments = Arguments::parse();
    let failed = match arguments.seed {
        Some(seed) => one(seed, &arguments),
        None => many(&arguments),
    };
    std::process::exit(i32::from(failed));
}

fn one(seed: u64, arguments: &Arguments) -> bool {
    let mut options = arguments.options();
    let mut report = run_guarded(seed, &options);
    if report.failure.is_some() && !arguments.whole {
        options = shrink(seed, &options);
    }
    options.trace = arguments.trace;
    options.journal = arguments.journal;
    report = run_guarded(seed, &options);
    println!("seed {seed}:");
    for (number, action) in report.plan.iter().enumerate() {
        let skipped = if options.skip.contains(&number) { "not needed" } else { "" };
        println!("{number:4} {action:60} {skipped}");
    }
    report.trace.iter().for_each(|line| println!("{line}"));
    println!(
        "{} requests answered, copies compared {} times, {:.1} s in the false world",
        report.requests,
        report.compared,
        report.lasted.as_secs_f64()
    );
    match &report.failure {
        Some(why) => println!("FAILED: {why}"),
        None => println!("good"),
    }
    report.failure.is_some()
}

/// What all lives came to.
#[derive(Default)]
struct Sum {
    requests: u64,
    compared: u64,
    corrupted: u64,
    lasted: Duration,
    reach: Reach,
}

fn many(arguments: &Arguments) -> bool {
    // A panic is a failure that is reported; its own words would only disturb.
    std::panic::set_hook(Box::new(|_| {}));
    let threads = arguments
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let options = arguments.options();
    let next = AtomicU64::new(arguments.seeds.start);
    let (failures, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let ended = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= arguments.seeds.end
                            || failures.load(Ordering::Relaxed) >= arguments.failures
                        {
                            return;
                        }
                        let report = run_guarded(seed, &options);
                        done.fetch_add(1, Ordering::Relaxed);
                        if let Some(why) = &report.failure {
                            failures.fetch_add(1, Ordering::Relaxed);
                            println!("seed {seed}: {why}");
                        }
                        add(&sum, &report);
                    }
                })
            })
            .collect();
        scope.spawn(|| progress(&done, &ended, began));
        for worker in workers {
            let _ = worker.join();
        }
        ended.store(true, Ordering::Relaxed);
    });
    let (done, failures) = (done.into_inner(), failures.into_inner());
    let seconds = began.elapsed().as_secs_f64();
    let sum = sum.into_inner().unwrap_or_default();
    println!(
        "{done} seeds in {seconds:.1} s ({:.0} a second): {failures} failed; {} requests answered, copies \
         compared {} times, {} blocks changed on their way, {:.1} days in the false world",
        done as f64 / seconds,
        sum.requests,
        sum.compared,
        sum.corrupted,
        sum.lasted.as_secs_f64() / 86_400.0
    );
    if arguments.reach || done >= CI_SEEDS {
        println!("\n{}", sum.reach);
    }
    let holes =
        if arguments.are_complete() && done >= CI_SEEDS { sum.reach.rarer_than(1) } else { Vec::new() };
    holes.iter().for_each(|hole| println!("never reached: {hole}"));
    if let Some(least) = arguments.rarer_than {
        sum.reach.rarer_than(least).iter().for_each(|hole| println!("seldom reached: {hole}"));
    }
    failures > 0 || !holes.is_empty()
}

fn add(sum: &Mutex<Sum>, report: &Report) {
    let Ok(mut sum) = sum.lock() else { return };
    sum.requests += report.requests;
    sum.compared += report.compared;
    sum.corrupted += report.corrupted;
    sum.lasted += report.lasted;
    sum.reach.add(&report.reach);
}

/// A line now and then.
fn progress(done: &AtomicU64, ended: &AtomicBool, began: Instant) {
    let mut next = Duration::from_secs(10);
    while !ended.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_millis(100));
        if began.elapsed() >= next {
            next += Duration::from_secs(10);
            let done = done.load(Ordering::Relaxed);
            eprintln!("{done} seeds, {:.0} a second", done as f64 / began.elapsed().as_secs_f64());
        }
    }
}
