//! The whole path of a request, from NBD to both disks and back, beside the bare disks.
//!
//! Two daemons on loopback, authenticated, connected and in sync, and one NBD client on the Primary's unix
//! socket. Criterion reports urbd's time for each load. Every pass is followed by the same requests on bare disks of the same
//! kind on the same file system, so that whatever else the machine does meanwhile touches all alike; the
//! table at the end has the medians, and the medians of the ratios.
//!
//! `URBD_BENCH_DISKS` is `loop`, `file` or `auto` (loop devices where they can be had), `URBD_BENCH_DIR` a
//! folder on the file system to be measured.

#![allow(unreachable_pub)] // the crate is a program: nothing is reachable from outside
#![allow(clippy::unwrap_used)] // a benchmark ends with what goes wrong, as a test does

mod bare;
mod client;
mod disks;
#[path = "../../tests/pair/mod.rs"]
mod harness;
mod load;
mod pair;
mod report;

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};

use bare::Bare;
use client::Client;
use disks::Disks;
use load::{Load, Places};
use pair::Pair;
use report::{Round, Row, takes_both_disks};

/// The names of the disks: first the pair's, then the bare ones.
const DISKS: [&str; 4] = ["boole", "cardan", "bare-1", "bare-2"];

fn main() -> io::Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(12)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(8))
        .configure_from_args();
    // Built by the first load that is measured: a filter may leave none.
    let stage: RefCell<Option<Stage>> = RefCell::new(None);
    let mut rows = Vec::new();
    for load in Load::all() {
        rows.push(Row { load, rounds: measure(&mut criterion, &stage, load) });
    }
    criterion.final_summary();
    if let Some(stage) = stage.into_inner() {
        if let Some(table) = report::table(&rows) {
            println!("\n{}\n\n{table}\n{}", stage.description(), LEGEND);
        }
        stage.end()?;
    }
    Ok(())
}

const LEGEND: &str = "\
one disk, both disks: the same requests without urbd, on one bare disk, or on two at once as a mirror must.
urbd/one, urbd/both: urbd's speed as a part of that; medians of rounds in which all took turns.
All disks share one file system. The answer to a write means that both disks have it.";

/// Lets criterion time one load; all rounds, warm-up included.
fn measure(criterion: &mut Criterion, stage: &RefCell<Option<Stage>>, load: Load) -> Vec<Round> {
    let mut rounds = Vec::new();
    let mut places = None;
    let mut group = criterion.benchmark_group("end to end");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes: u64::from(load.bytes) });
    group.bench_function(load.to_string(), |bencher| {
        bencher.iter_custom(|batches| {
            let mut stage = stage.borrow_mut();
            let stage = stage.get_or_insert_with(|| expect("cannot set up", Stage::set_up()));
            let places =
                places.get_or_insert_with(|| [0; 3].map(|_| Places::new(stage.client.bytes(), load.bytes)));
            let round = expect("a load failed", stage.round(load, places, batches * load.batch()));
            rounds.push(round);
            // The time of one request, for each batch asked for.
            round.urbd.div_f64(load.batch() as f64)
        });
    });
    group.finish();
    rounds
}

/// Criterion has no way for errors.
fn expect<T>(what: &str, result: io::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// All that takes part.
struct Stage {
    client: Client,
    pair: Pair,
    bare: Bare,
    disks: Disks,
    _run_dir: tempfile::TempDir,
}

impl Stage {
    fn set_up() -> io::Result<Self> {
        let mut disks = Disks::new(&DISKS)?;
        // Not beside the disks: the path of a socket has at most 107 bytes.
        let run_dir = tempfile::tempdir()?;
        let pair = Pair::start(run_dir.path(), [disks.path(0), disks.path(1)]);
        let bare = Bare::open(&[disks.path(2), disks.path(3)])?;
        disks.forget_loops();
        let client = Client::open(&pair.nbd_socket());
        let mut stage = Self { client, pair, bare, disks, _run_dir: run_dir };
        stage.client.flush()?;
        stage.bare.flush()?;
        Ok(stage)
    }

    /// The same requests on everybody. What a pass leaves to be done is done before the next one, untimed.
    fn round(&mut self, load: Load, places: &mut [Places; 3], requests: u64) -> io::Result<Round> {
        let [for_urbd, for_one, for_both] = places;
        let urbd = self.client.run(load, for_urbd, requests)?;
        self.client.flush()?;
        let one_disk = self.bare.run(load, for_one, 1, requests)?;
        self.bare.flush()?;
        let mut both_disks = None;
        if takes_both_disks(load) {
            both_disks = Some(self.bare.run(load, for_both, 2, requests)?);
            self.bare.flush()?;
        }
        Ok(Round { requests, urbd, one_disk, both_disks })
    }

    fn description(&self) -> String {
        format!(
            "End to end: one NBD client, two urbd nodes on loopback (protocol C, sha1 authentication, in sync).\n\
             Disks: {} of {} MiB in {}, direct I/O, bare ones through {}.",
            self.disks.description,
            disks::DISK_BYTES >> 20,
            self.disks.folder().display(),
            self.bare.engine(),
        )
    }

    /// Stops everything. A mirror whose sides differ was no measurement.
    fn end(self) -> io::Result<()> {
        let bytes = self.client.bytes();
        self.pair.check();
        drop(self.client);
        self.pair.stop();
        match self.disks.difference(0, 1, bytes)? {
            None => Ok(()),
            Some(at) => Err(io::Error::other(format!("the two sides of the mirror differ at byte {at}"))),
        }
    }
}
