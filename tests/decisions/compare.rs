//! Whether what was seen is what was recorded, races of the kernel aside.

use std::collections::BTreeMap;

use serde_json::Value;

use super::lab::Lab;
use super::scenario::{After, Recorded, Scenario, Tags};

/// What a sync UUID adds to the UUID it derives from.
const DERIVED: u64 = 1 << 48;

/// Compares the steps of one scenario. Names of UUIDs keep their meaning from step to step.
pub struct Judge {
    names: BTreeMap<String, u64>,
    /// Handlers seen, and recorded, after a cut: when a node notices is its timers' business.
    early: [Vec<String>; 2],
    /// Differences that were allowed, by reason.
    pub allowed: Vec<&'static str>,
}

impl Judge {
    pub fn new(_scenario: &Scenario) -> Self {
        Self { names: BTreeMap::new(), early: [Vec::new(), Vec::new()], allowed: Vec::new() }
    }

    /// Compares one step. The error says what was recorded.
    pub fn compare(&mut self, step: &Recorded, seen: &After) -> Result<(), String> {
        if step.step.is_nowait() {
            return Ok(());
        }
        if step.step.op() == "cut" {
            // The state right after it is a race; the handlers count with the next step's.
            return Ok(());
        }
        let mut reasons = Vec::new();
        for recorded in step.alternatives() {
            let mut names = self.names.clone();
            match compare_one(recorded, seen, &mut names) {
                Ok(()) => {
                    self.names = names;
                    return Ok(());
                }
                Err(why) => reasons.push(format!("{why}\n     recorded: {recorded}")),
            }
        }
        Err(format!("{}\n     seen:     {seen}", reasons.join("\n   or ")))
    }

    /// Compares what the disks hold in the end.
    pub fn compare_data(&self, scenario: &Scenario, lab: &Lab) -> Result<(), String> {
        for (block, recorded) in &scenario.data {
            let number = block.parse().map_err(|_| format!("no block {block}"))?;
            let seen = Tags { a: lab.tag(0, number), b: lab.tag(1, number) };
            if !recorded.alternatives().contains(&&seen) {
                return Err(format!("block {block} holds {seen:?}, recorded: {:?}", recorded.alternatives()));
            }
        }
        Ok(())
    }
}

fn compare_one(recorded: &After, seen: &After, names: &mut BTreeMap<String, u64>) -> Result<(), String> {
    if recorded.rc != seen.rc {
        return Err("exit codes differ".into());
    }
    let states = [(&recorded.a, &seen.a), (&recorded.b, &seen.b)];
    if states.iter().any(|(recorded, seen)| recorded != seen) {
        return Err("states differ".into());
    }
    for (recorded, seen) in [(&recorded.gi_a, &seen.gi_a), (&recorded.gi_b, &seen.gi_b)] {
        compare_generation(recorded.as_deref(), seen.as_deref(), names)?;
    }
    for (recorded, seen) in
        [(&recorded.handlers_a, &seen.handlers_a), (&recorded.handlers_b, &seen.handlers_b)]
    {
        if recorded != seen {
            return Err("handlers differ".into());
        }
    }
    Ok(())
}

/// Compares UUIDs, by the names they have, and flags.
fn compare_generation(
    recorded: Option<&str>,
    seen: Option<&str>,
    names: &mut BTreeMap<String, u64>,
) -> Result<(), String> {
    let (Some(recorded), Some(seen)) = (recorded, seen) else {
        return if recorded == seen { Ok(()) } else { Err("metadata only here or there".into()) };
    };
    let (Some((patterns, flags)), Some((uuids, seen_flags))) =
        (recorded.split_once(' '), seen.split_once(' '))
    else {
        return Err("no flags".into());
    };
    if flags != seen_flags {
        return Err(format!("flags differ: {flags} recorded, {seen_flags} seen"));
    }
    for (slot, (pattern, uuid)) in patterns.split(':').zip(uuids.split(':')).enumerate() {
        let uuid = u64::from_str_radix(uuid, 16).map_err(|error| error.to_string())?;
        if slot == 0 && pattern.ends_with('*') != (uuid & 1 == 1) {
            return Err(format!("the role bit of the current UUID {pattern} differs"));
        }
        if !is_named(pattern.trim_end_matches('*'), uuid & !1, names) {
            return Err(format!("UUID {slot} is not {pattern} (of {patterns})"));
        }
    }
    Ok(())
}

/// Whether a value may have this name; a new name is given to it.
fn is_named(pattern: &str, value: u64, names: &mut BTreeMap<String, u64>) -> bool {
    match pattern {
        "0" => return value == 0,
        "new" => return value == 4,
        _ => {}
    }
    let base = pattern.trim_end_matches('+');
    let derived = (pattern.len() - base.len()) as u64;
    let origin = value.wrapping_sub(DERIVED.wrapping_mul(derived)) & !1;
    if base.len() == 16
        && let Ok(given) = u64::from_str_radix(base, 16)
    {
        return origin == given & !1;
    }
    match names.get(base) {
        Some(known) => *known == origin,
        None => {
            let unknown = value != 0 && value != 4 && !names.values().any(|known| *known == origin);
            if unknown {
                names.insert(base.to_owned(), origin);
            }
            unknown
        }
    }
}

#[allow(dead_code)]
fn is_refusal(_: &Value) -> bool {
    false
}
