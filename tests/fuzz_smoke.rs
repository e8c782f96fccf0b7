//! The fuzz targets' bodies on stable Rust: seeds, their mutations, and random bytes.
//!
//! The real fuzzer (`make fuzz`, see `fuzz/README.md`) needs a nightly toolchain; this is what CI
//! always runs. All chance comes from one seed, printed on failure:
//!
//! - `URBD_SEED=n`: another seed (default 1)
//! - `URBD_FUZZ_RUNS=n`: inputs a body (default 50000)
//! - `URBD_FUZZ_SECONDS=n`: time limit a body, whichever comes first (default 5)
//! - `URBD_FUZZ_CORPUS=dir`: instead of running, write the seeds to `dir/TARGET/` for the fuzzer
#![allow(clippy::unwrap_used)]

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

use bodies::{BODIES, Body};

const MAX_INPUT_BYTES: usize = 16 << 10;

#[test]
fn every_parser_keeps_its_promises_on_mutated_input() {
    let (seed, runs) = (number("URBD_SEED", 1), number("URBD_FUZZ_RUNS", 50_000));
    let limit = Duration::from_secs(number("URBD_FUZZ_SECONDS", 5));
    if let Some(corpus) = std::env::var_os("URBD_FUZZ_CORPUS") {
        return BODIES.iter().for_each(|body| write_seeds(body, Path::new(&corpus)));
    }
    // The bodies share nothing: one thread each.
    std::thread::scope(|scope| {
        let bodies: Vec<_> =
            BODIES.iter().map(|body| scope.spawn(move || smoke(body, seed, runs, limit))).collect();
        let failures: Vec<_> = bodies.into_iter().filter_map(|body| body.join().unwrap().err()).collect();
        assert!(failures.is_empty(), "URBD_SEED={seed}\n{}", failures.join("\n"));
    });
}

#[test]
fn every_fuzz_target_has_a_body_and_a_place_in_the_manifest() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names: BTreeSet<String> = BODIES.iter().map(|body| body.name.to_owned()).collect();
    assert_eq!(names.len(), BODIES.len(), "a name is used twice");
    let targets: BTreeSet<String> = std::fs::read_dir(root.join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(targets, names, "fuzz_targets/ and the bodies differ");
    let manifest: toml::Table =
        toml::from_str(&std::fs::read_to_string(root.join("Cargo.toml")).unwrap()).unwrap();
    let bins: BTreeSet<String> = manifest["bin"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(bins, names, "the manifest and the bodies differ");
}

#[test]
fn every_body_has_seeds_and_accepts_them() {
    for body in BODIES {
        let seeds = (body.seeds)();
        assert!(!seeds.is_empty(), "{}", body.name);
        seeds.iter().for_each(|seed| (body.run)(seed));
    }
}

/// Runs one body; the error names the input that broke it.
fn smoke(body: &Body, seed: u64, runs: u64, limit: Duration) -> Result<(), String> {
    let seeds = (body.seeds)();
    let name_sum = body.name.bytes().fold(seed, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
    let mut random = Random(name_sum);
    let started = Instant::now();
    for run in 0..runs {
        if run % 16 == 0 && started.elapsed() > limit {
            println!("{}: {run} inputs in {limit:?}", body.name);
            break;
        }
        let input = random.input(&seeds);
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| (body.run)(&input))) {
            let (cause, hex) = (panic_text(&*cause), hex(&input));
            return Err(format!("{}, input {run}: {cause}\n{hex}", body.name));
        }
    }
    Ok(())
}

fn write_seeds(body: &Body, corpus: &Path) {
    let directory = corpus.join(body.name);
    std::fs::create_dir_all(&directory).unwrap();
    for (index, seed) in (body.seeds)().iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{index}")), seed).unwrap();
    }
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}

fn panic_text(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not zero.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        if self.below(16) == 0 {
            let len = self.below(512);
            return (0..len).map(|_| self.next() as u8).collect();
        }
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..1 + self.below(6) {
            self.mutate(&mut input, seeds);
        }
        input.truncate(MAX_INPUT_BYTES);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let len = self.below(input.len() - at + 1).min(64);
        match self.below(8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..at + len)),
            2 => {
                let copy = input[at..at + len].to_vec();
                input.splice(at..at, copy);
            }
            3 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            4 => input.insert(at, self.next() as u8),
            _ if at == input.len() => input.push(self.next() as u8),
            5 => input[at] ^= 1 << self.below(8),
            6 => input[at] = self.next() as u8,
            _ => self.overwrite_number(&mut input[at..]),
        }
    }

    /// A length, count or magic becomes an awkward one, in either byte order.
    fn overwrite_number(&mut self, target: &mut [u8]) {
        const AWKWARD: [u64; 12] =
            [0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
        let (number, width) = (AWKWARD[self.below(AWKWARD.len())], 1 << self.below(4));
        let bytes = number.to_be_bytes();
        let mut bytes = bytes[8 - width..].to_vec();
        if self.below(4) == 0 {
            bytes.reverse();
        }
        let len = width.min(target.len());
        target[..len].copy_from_slice(&bytes[..len]);
    }
}
