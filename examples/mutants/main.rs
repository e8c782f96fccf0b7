//! The simulator's own examination: faults are put into the core on purpose, one at a time, and each has
//! to be found by some seed (`mutants/`).
//!
//! ```text
//! cargo run --example mutants                    all of them
//! cargo run --example mutants -- NAME..          these
//! cargo run --example mutants -- --list          what there is
//! cargo run --example mutants -- --check         only whether each still fits the sources
//! ```

mod list;
mod trial;
mod workshop;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Parser;
use list::{List, Mutant};
use trial::{Rules, Verdict};
use workshop::Workshop;

/// Deliberate faults in the core: does the simulator find them?
#[derive(Parser)]
struct Arguments {
    /// Only these, or those that break these rules (T2, I13); default: all.
    names: Vec<String>,
    /// Seeds for each, at most.
    #[arg(long, default_value_t = 20_000)]
    limit: u64,
    /// Seeds side by side; the next mutant is built meanwhile.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Give every life this course of events (see `simulate --help`): does it find the fault at all?
    #[arg(long)]
    course: Option<String>,
    /// A trial in which no seed ends for so many seconds hangs, and the fault counts as found.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// Only check that each occurs exactly once, and that all invariants are covered.
    #[arg(long)]
    check: bool,
    /// Only list them.
    #[arg(long)]
    list: bool,
}

/// A mutant whose build has ended.
struct Built {
    mutant: Mutant,
    program: Result<PathBuf, String>,
    took: Duration,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = List::read(&root.join("mutants"))?;
    let mistakes = list.mistakes(root);
    if !mistakes.is_empty() {
        bail!("the list does not fit the sources:\n  {}", mistakes.join("\n  "));
    }
    let chosen = choose(&list, &arguments.names)?;
    if arguments.check || arguments.list {
        for mutant in chosen.iter().filter(|_| arguments.list) {
            println!("{:<36} {:<16} {}", mutant.name, mutant.breaks.join(" "), mutant.what);
        }
        println!("{} mutants, each fits the sources", list.mutants.len());
        return Ok(());
    }
    let missed = examine(root, chosen, &arguments)?;
    std::process::exit(i32::from(missed));
}

fn choose(list: &List, names: &[String]) -> anyhow::Result<Vec<Mutant>> {
    let fits = |mutant: &Mutant, name: &String| mutant.name == *name || mutant.breaks.contains(name);
    if let Some(name) = names.iter().find(|name| !list.mutants.iter().any(|mutant| fits(mutant, name))) {
        bail!("no mutant is called {name}, or breaks it: --list shows them");
    }
    let chosen = |mutant: &&Mutant| names.is_empty() || names.iter().any(|name| fits(mutant, name));
    Ok(list.mutants.iter().filter(chosen).cloned().collect())
}

/// Tries all; whether any was not found.
fn examine(root: &Path, chosen: Vec<Mutant>, arguments: &Arguments) -> anyhow::Result<bool> {
    let rules = Rules {
        limit: arguments.limit,
        threads: arguments.threads,
        patience: Duration::from_secs(arguments.patience),
        course: arguments.course.clone(),
    };
    trial::heed_interrupts()?;
    let workshop = Workshop::open(root)?;
    let began = Instant::now();
    check_sound(&workshop, &rules)?;
    println!("without a fault: all good ({:.0} s)", began.elapsed().as_secs_f64());
    println!("{:<36} {:<16} {:>7} {:>6}  found by", "fault", "breaks", "seeds", "s");
    let count = chosen.len();
    let (mut found, mut not_found) = (0, Vec::new());
    for Built { mutant, program, took } in build_ahead(workshop, chosen) {
        let began = Instant::now();
        let verdict = match &program {
            Ok(program) => trial::hold(program, &rules)?,
            Err(why) => Verdict::Broken(why.clone()),
        };
        if verdict == Verdict::Interrupted || trial::interrupted() {
            break;
        }
        if let Ok(program) = program {
            let _ = std::fs::remove_file(program); // Each is some megabytes, and can be built again.
        }
        let (seeds, why) = words(&verdict, &rules);
        let seconds = (began.elapsed() + took).as_secs_f64();
        println!("{:<36} {:<16} {seeds:>7} {seconds:>6.1}  {why}", mutant.name, mutant.breaks.join(" "));
        match verdict {
            Verdict::Found { .. } | Verdict::Hangs => found += 1,
            Verdict::Survived | Verdict::Broken(_) | Verdict::Interrupted => not_found.push(mutant),
        }
    }
    println!("\n{found} of {count} faults found in {:.0} s", began.elapsed().as_secs_f64());
    for mutant in &not_found {
        println!("  NOT FOUND {}: {}", mutant.name, mutant.what);
    }
    if trial::interrupted() {
        println!("  interrupted: {} not tried", count - found - not_found.len());
    }
    Ok(found < count)
}

/// Without any fault no seed fails, or all that follows would mean nothing.
fn check_sound(workshop: &Workshop, rules: &Rules) -> anyhow::Result<()> {
    let (built, said) = trial::wait(workshop.build()?)?;
    if !built {
        bail!("the sources do not compile:\n{said}");
    }
    let rules = Rules { limit: rules.limit.min(300), ..rules.clone() };
    match trial::hold(&workshop.take("sound")?, &rules)? {
        Verdict::Survived => Ok(()),
        Verdict::Found { seed, why } => bail!("seed {seed} fails without any fault: {why}"),
        other => bail!("without any fault: {other:?}"),
    }
}

/// Builds one after the other, at most one ahead of those that are tried.
fn build_ahead(workshop: Workshop, mutants: Vec<Mutant>) -> Receiver<Built> {
    let (sender, receiver) = sync_channel(0);
    std::thread::spawn(move || {
        for mutant in mutants {
            let began = Instant::now();
            let program = build(&workshop, &mutant).unwrap_or_else(|error| Err(format!("{error:#}")));
            let gone = sender.send(Built { mutant, program, took: began.elapsed() }).is_err();
            if gone || trial::interrupted() {
                return;
            }
        }
    });
    receiver
}

/// Builds a mutant: its program, or why there is none.
fn build(workshop: &Workshop, mutant: &Mutant) -> anyhow::Result<Result<PathBuf, String>> {
    workshop.mutate(mutant)?;
    let (built, said) = trial::wait(workshop.build()?)?;
    workshop.repair(mutant)?;
    if built {
        return Ok(Ok(workshop.take(&mutant.name)?));
    }
    let error = said.lines().find(|line| line.starts_with("error")).unwrap_or("cargo failed");
    Ok(Err(format!("does not compile: {error}")))
}

/// What a verdict says in the table: seeds, and how it came to it.
fn words(verdict: &Verdict, rules: &Rules) -> (String, String) {
    const MOST: usize = 90;
    match verdict {
        Verdict::Found { seed, why } => (seed.to_string(), why.chars().take(MOST).collect()),
        Verdict::Hangs => ("?".into(), format!("no seed ended for {:?}", rules.patience)),
        Verdict::Survived => (rules.limit.to_string(), "NOT FOUND".into()),
        Verdict::Broken(why) => ("-".into(), format!("BROKEN: {why}")),
        Verdict::Interrupted => ("-".into(), "interrupted".into()),
    }
}
