//! A pair of nodes whose worked scenarios are looked at step by step.
//!
//! A row is `state · generation · blocks out of sync · handlers since the row before`. UUIDs are named when
//! they first appear, `*` is the role bit, `+` the distance of a sync UUID, `JC` the just-created value;
//! `all` blocks are the device, `AL` a node's whole extent of the activity log, which is what a crash marks,
//! and `<5` at most five, while a resync runs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::lab::Lab;
use super::scenario::{Config, Step};
use super::stage::Stage;

const DERIVED: u64 = 1 << 48;
/// Blocks of an extent of the activity log.
const EXTENT: u64 = 1024;
/// Blocks of 4 KiB of the replicated device: a disk of 8 MiB less its internal metadata.
const DEVICE: u64 = 2038;

/// A pair whose steps are looked at.
pub(crate) struct Trace {
    pub(crate) lab: Lab,
    names: BTreeMap<String, u64>,
    /// Handlers called since the last row.
    handlers: [Vec<String>; 2],
}

impl Trace {
    pub(crate) fn new(config: Value) -> Self {
        let config: Config = serde_json::from_value(config).unwrap();
        let mut lab = Lab::new(&config, 1);
        lab.all_handlers = true;
        Self { lab, names: BTreeMap::new(), handlers: Default::default() }
    }

    /// In sync, the first node Primary, after T1: g1, r1.
    #[track_caller]
    pub(crate) fn synced(config: Value) -> Self {
        let mut trace = Self::new(config);
        trace.play("ab adm up r0; a adm primary --force r0");
        trace.forget_handlers();
        trace.shows("T1", IN_SYNC_PRIMARY, IN_SYNC);
        trace
    }

    /// The same, with resyncs slow enough to be looked at while they run.
    #[track_caller]
    pub(crate) fn slowly_synced(mut config: Value) -> Self {
        config["resync_rate"] = json!("40");
        Self::synced(config)
    }

    /// Plays steps, such as `a write 0 50`; after one that begins with `…` a resync is under way.
    pub(crate) fn play(&mut self, steps: &str) {
        for step in steps.split("; ") {
            if step == "quiet" {
                self.lab.wait_until_quiet();
                continue;
            }
            let (step, running) = step.strip_prefix("… ").map_or((step, false), |rest| (rest, true));
            let mut words = step.splitn(3, ' ');
            let [who, op, rest] = [(); 3].map(|()| words.next().unwrap_or_default());
            let mut list = vec![json!(who), json!(op)];
            match op {
                "adm" => list.push(json!(rest)),
                _ => list.extend(rest.split_whitespace().map(|number| json!(number.parse::<u64>().unwrap()))),
            }
            if running {
                list.push(json!("nowait"));
            }
            let step: Step = serde_json::from_value(Value::Array(list)).unwrap();
            let after = self.lab.play(&step);
            self.handlers[0].extend(after.handlers_a);
            self.handlers[1].extend(after.handlers_b);
        }
    }

    /// Handlers called so far do not matter.
    pub(crate) fn forget_handlers(&mut self) {
        self.lab.look(Vec::new());
        self.handlers = Default::default();
    }

    /// Plays steps; then both nodes look like that.
    #[track_caller]
    pub(crate) fn step(&mut self, steps: &str, a: &str, b: &str) {
        self.play(steps);
        self.shows(steps, a, b);
    }

    #[track_caller]
    pub(crate) fn shows(&mut self, steps: &str, a: &str, b: &str) {
        let seen = self.lab.look(Vec::new());
        self.handlers[0].extend(seen.handlers_a);
        self.handlers[1].extend(seen.handlers_b);
        let handlers = std::mem::take(&mut self.handlers);
        let nodes = [(a, seen.a, seen.gi_a), (b, seen.b, seen.gi_b)];
        for (host, ((expected, state, gi), handlers)) in nodes.into_iter().zip(handlers).enumerate() {
            let [want_state, want_gi, want_bits, want_handlers] = parts(expected);
            let name = ["A", "B"][host];
            let status = self.lab.world.status(host);
            let suspended = status.as_ref().is_some_and(|status| !status.suspended.is_empty());
            let state = state.unwrap_or_default() + if suspended { " s---" } else { "" };
            assert_eq!(state, want_state, "{name} after {steps}");
            assert_eq!(handlers.join(", "), want_handlers, "{name} after {steps}");
            let Some(gi) = gi else {
                assert_eq!(want_gi, "", "{name} has no metadata after {steps}");
                continue;
            };
            let uuids = gi.split(' ').next().unwrap_or_default();
            self.compare_generation(want_gi, uuids, &format!("{name} after {steps}"));
            let bits = status.unwrap().volumes[0].counters.oos / 4;
            assert!(is_count(want_bits, bits), "{name} after {steps}: {bits} blocks, not {want_bits}");
        }
    }

    #[track_caller]
    fn compare_generation(&mut self, expected: &str, seen: &str, at: &str) {
        assert_eq!(expected.split(':').count(), 4, "{expected}");
        for (slot, (pattern, uuid)) in expected.split(':').zip(seen.split(':')).enumerate() {
            let uuid = u64::from_str_radix(uuid, 16).unwrap();
            let name = pattern.trim_end_matches(['*', '+']);
            let origin = (uuid & !1).wrapping_sub(DERIVED * pattern.matches('+').count() as u64);
            // The role bit of older values depends on timing.
            let role = slot > 0 || pattern.ends_with('*') == (uuid & 1 == 1);
            let known = match name {
                "0" => 0,
                "JC" => 4,
                name => {
                    assert!(self.names.contains_key(name) || origin > 4, "{at}: slot {slot} is empty");
                    *self.names.entry(name.to_owned()).or_insert(origin)
                }
            };
            assert!(role && known == origin, "{at}: {seen} is not {expected} in slot {slot}");
        }
    }
}

fn parts(row: &str) -> [&str; 4] {
    let mut parts = row.split('·').map(str::trim);
    [(); 4].map(|()| parts.next().unwrap_or_default())
}

/// Whether a number of blocks is what a row says; a resync that runs may have done some.
fn is_count(expected: &str, bits: u64) -> bool {
    match expected {
        "all" => bits == DEVICE,
        "AL" => bits == EXTENT,
        "<all" => 0 < bits && bits <= DEVICE,
        "<AL" => 0 < bits && bits <= EXTENT,
        number => match number.strip_prefix('<') {
            Some(number) => bits <= number.parse().unwrap(),
            None => bits == number.parse::<u64>().unwrap(),
        },
    }
}

pub(crate) const IN_SYNC_PRIMARY: &str = "Connected Primary/Secondary UpToDate/UpToDate · g1*:0:r1:JC · 0";
pub(crate) const IN_SYNC: &str = "Connected Secondary/Primary UpToDate/UpToDate · g1:0:r1:JC · 0";

/// After T4's first two rows: a resync of fifty blocks runs.
pub(crate) fn resync_of_fifty_runs() -> Trace {
    let mut trace = Trace::slowly_synced(json!({}));
    trace.step(
        "a cut; a write 0 50",
        "WFConnection Primary/Unknown UpToDate/DUnknown · g2*:g1*:r1:JC · 50",
        "WFConnection Secondary/Unknown UpToDate/DUnknown · g1:0:r1:JC · 0",
    );
    trace.step(
        "… a join",
        "SyncSource Primary/Secondary UpToDate/Inconsistent · g2*:g1+*:g1*:r1 · <50 · before-resync-source",
        "SyncTarget Secondary/Primary Inconsistent/UpToDate · g1+:0:r1:JC · <50 · before-resync-target",
    );
    trace
}

pub(crate) const RESYNCED_PRIMARY: &str =
    "Connected Primary/Secondary UpToDate/UpToDate · g2*:0:g1+*:g1* · 0";
pub(crate) const RESYNCED: &str =
    "Connected Secondary/Primary UpToDate/UpToDate · g2:0:g1+:g1* · 0 · after-resync-target";
