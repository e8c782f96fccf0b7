//! Random lives of a pair of nodes: everything that may go wrong goes wrong, and no promise may be broken.
//!
//! A seed gives the configuration (`setup`), what happens and when ([`plan`]), and what the clients do
//! (`workload`). While it happens, [`oracle`] knows what each copy may hold. Afterwards everything is
//! healed, and the pair has to find back to two equal copies.
//!
//! ```text
//!   seed ─► plan ───► life: faults, commands ─► World ◄─ requests ── workload
//!                      │                          │                     │
//!                      └── reach: what met what   └── states ─► checks ◄┘ oracle
//! ```
//!
//! What is checked: what clients were promised ([`oracle`], `book`), that some node knows of each block that
//! differs (`coverage`), that the pair finds together (`settle`) and a verify finds what differs
//! (`verified`); and, in any false world, what goes into a core and comes out of it
//! ([`super::watch`]).

mod acts;
mod admin;
mod aim;
mod aiming;
mod book;
mod coverage;
pub mod cues;
mod failing;
mod life;
mod marks;
pub mod oracle;
mod patience;
pub mod plan;
pub mod reach;
mod returning;
mod rivals;
mod script;
mod settle;
mod setup;
mod strikes;
mod templates;
mod verified;
mod view;
mod windows;
pub mod workload;

use std::collections::BTreeSet;
use std::time::Duration;

use life::Life;
pub use setup::{apply_al, create_md};
pub use templates::courses;

/// How a life is led.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Actions of the plan that are left out, by number.
    pub skip: BTreeSet<usize>,
    /// Besides the plan, faults that wait for a situation strike.
    pub aims: bool,
    /// Every life has this course of events in its plan: one of [`courses`].
    pub course: Option<String>,
    /// Keep a readable account of everything.
    pub trace: bool,
    /// And of all that goes into the cores and comes out of them.
    pub journal: bool,
}

/// What came of a life.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What went wrong.
    pub failure: Option<String>,
    /// The actions of the plan, in words.
    pub plan: Vec<String>,
    /// The account, if one was asked for.
    pub trace: Vec<String>,
    /// Requests that were answered.
    pub requests: u64,
    /// How often the copies were compared and found equal.
    pub compared: u64,
    /// Blocks that changed on their way between the nodes (F9).
    pub corrupted: u64,
    /// What the faults met.
    pub reach: reach::Reach,
    /// How long it took in the false world.
    pub lasted: Duration,
}

/// Leads the life of a seed.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    let mut life = Life::new(seed, options);
    let failure = life.lead().err();
    life.report(failure)
}

/// The same, where a panic is a failure like any other.
#[must_use]
pub fn run_guarded(seed: u64, options: &Options) -> Report {
    let mut life = Life::new(seed, options);
    let led = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life.lead()));
    let failure = match led {
        Ok(result) => result.err(),
        Err(panic) => Some(format!("panic: {}", words_of(panic.as_ref()))),
    };
    life.report(failure)
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words").to_owned()
}

/// Leaves out of a failing life's plan what it fails without; the actions that remain.
#[must_use]
pub fn shrink(seed: u64, options: &Options) -> Options {
    let mut options = options.clone();
    let whole = run_guarded(seed, &options);
    let count = whole.plan.len();
    let kind = whole.failure.as_deref().map(kind_of);
    loop {
        let before = options.skip.len();
        for number in 0..count {
            let mut fewer = options.clone();
            if fewer.skip.insert(number) && run_guarded(seed, &fewer).failure.as_deref().map(kind_of) == kind
            {
                options = fewer;
            }
        }
        if options.skip.len() == before {
            return options;
        }
    }
}

/// A failure without its numbers: what is still the same failure in another life.
fn kind_of(failure: &str) -> String {
    failure.split([':', '(']).next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).collect()
}
