//! Whether what was seen is what was recorded, races of the kernel aside.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::allowed::{CRASH_FORGOTTEN, HOW_FAR, NEW_DISKS, is_unfinished};
use super::scenario::{After, Recorded, Scenario, Tags};
use super::stage::Stage;

/// What a sync UUID adds to the UUID it derives from.
const DERIVED: u64 = 1 << 48;

/// Why a difference is none (S72, S75): of two nodes that refuse each other, or one the other, the one that
/// is told first ends StandAlone and the other may not even have begun.
const WHO_REFUSES: &str = "which of two nodes that refuse each other ends StandAlone is a race";

/// Compares the steps of one scenario. Names of UUIDs keep their meaning from step to step.
pub(crate) struct Judge {
    names: BTreeMap<String, u64>,
    /// Handlers recorded and seen right after a cut: when a node notices it is its timers' business, so
    /// they count with those of the next step.
    early: [Vec<String>; 4],
    /// Differences that were allowed, by reason.
    pub(crate) allowed: Vec<&'static str>,
    /// Two Primaries meet, and the loser is to give up its role: whether it can, being refused already,
    /// is a race (S72).
    may_demote_early: bool,
    /// A new disk is filled, which is a new generation here.
    fills_new_disk: bool,
}

impl Judge {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let may_demote_early = scenario.id.starts_with("2pri/call-pri-lost-after-sb/");
        let fills_new_disk = NEW_DISKS.contains(&scenario.id.as_str());
        Self {
            names: BTreeMap::new(),
            early: Default::default(),
            allowed: Vec::new(),
            may_demote_early,
            fills_new_disk,
        }
    }

    /// Compares one step. The error says what was recorded.
    pub(crate) fn compare(&mut self, step: &Recorded, seen: &After) -> Result<(), String> {
        let early = std::mem::take(&mut self.early);
        if step.step.is_nowait() {
            return Ok(());
        }
        let alternatives = step.alternatives();
        if step.step.op() == "cut" {
            // The state right after it is a race.
            let first = alternatives[0];
            self.early =
                [&first.handlers_a, &first.handlers_b, &seen.handlers_a, &seen.handlers_b].map(Clone::clone);
            return Ok(());
        }
        let [recorded_a, recorded_b, seen_a, seen_b] = &early;
        let seen = with_earlier(seen, seen_a, seen_b);
        let mut reasons = Vec::new();
        let alternatives = alternatives.into_iter().cloned().flat_map(|after| {
            let demoted = if self.may_demote_early { demoted_early(&after) } else { Vec::new() };
            let renewed = self.fills_new_disk.then(|| with_new_generation(&after));
            std::iter::once(after).chain(demoted).chain(renewed)
        });
        for recorded in alternatives {
            let recorded = with_earlier(&recorded, recorded_a, recorded_b);
            let mut names = self.names.clone();
            match compare_one(
                &recorded,
                &seen,
                step.step.text(0),
                self.allowed.contains(&WHO_REFUSES),
                &mut names,
            ) {
                Ok(allowed) => {
                    self.names = names;
                    self.allowed.extend(allowed);
                    return Ok(());
                }
                Err(why) => reasons.push(format!("{why}\n     recorded: {recorded}")),
            }
        }
        Err(format!("{}\n     seen:     {seen}", reasons.join("\n   or ")))
    }

    /// Compares what the disks hold in the end.
    pub(crate) fn compare_data(&mut self, scenario: &Scenario, stage: &dyn Stage) -> Result<(), String> {
        for (block, recorded) in &scenario.data {
            let number = block.parse().map_err(|_| format!("no block {block}"))?;
            let seen = Tags { a: stage.tag(0, number), b: stage.tag(1, number) };
            let alternatives = recorded.alternatives();
            if alternatives.contains(&&seen) {
                continue;
            }
            if !alternatives.iter().any(|recorded| is_unfinished(&scenario.id, recorded, &seen)) {
                return Err(format!("block {block} holds {seen:?}, recorded: {alternatives:?}"));
            }
            self.allowed.push(HOW_FAR);
        }
        Ok(())
    }
}

/// What was seen in a step, the handlers of the step before included.
fn with_earlier(after: &After, a: &[String], b: &[String]) -> After {
    After {
        handlers_a: [a, &after.handlers_a].concat(),
        handlers_b: [b, &after.handlers_b].concat(),
        ..after.clone()
    }
}

/// What is to be seen where a disk with fresh metadata was filled, in place of which there may have been one with the current
/// UUID: that is history (F7). The kernel keeps it, and takes the disk that is put back for a copy.
fn with_new_generation(recorded: &After) -> After {
    let renewed = |gi: &Option<String>| {
        let (uuids, flags) = gi.as_deref()?.split_once(' ')?;
        let mut uuids: Vec<&str> = uuids.split(':').collect();
        let current = std::mem::replace(uuids.first_mut()?, "u99"); // No recording has so many.
        *uuids.last_mut()? = current;
        Some(format!("{} {flags}", uuids.join(":")))
    };
    After { gi_a: renewed(&recorded.gi_a), gi_b: renewed(&recorded.gi_b), ..recorded.clone() }
}

/// What is to be seen of a node that was recorded as refusing, as Primary, if it had been refused first: it
/// gives up the role, and goes on trying (S72).
fn demoted_early(recorded: &After) -> Vec<After> {
    let demoted = |state: &Option<String>, gi: &Option<String>, handlers: &[String]| {
        let rest = state.as_deref()?.strip_prefix("StandAlone Primary/")?;
        let gi = gi.as_ref()?.replacen(" 1:1:1:", " 1:1:0:", 1);
        let calls_all = handlers.contains(&"pri-lost-after-sb".to_owned());
        calls_all
            .then(|| (Some(format!("WFConnection Secondary/{rest}")), Some(gi), vec![handlers[0].clone()]))
    };
    let a = demoted(&recorded.a, &recorded.gi_a, &recorded.handlers_a);
    let b = demoted(&recorded.b, &recorded.gi_b, &recorded.handlers_b);
    let a = a.map(|(a, gi_a, handlers_a)| After { a, gi_a, handlers_a, ..recorded.clone() });
    let b = b.map(|(b, gi_b, handlers_b)| After { b, gi_b, handlers_b, ..recorded.clone() });
    a.into_iter().chain(b).collect()
}

/// Compares one alternative; what had to be allowed for it to agree.
fn compare_one(
    recorded: &After,
    seen: &After,
    command: &str,
    parted: bool,
    names: &mut BTreeMap<String, u64>,
) -> Result<Option<&'static str>, String> {
    let swapped = is_other_refusal(recorded, seen);
    let other_code = parted && is_other_code(&recorded.rc, &seen.rc, command);
    if recorded.rc != seen.rc && !other_code {
        return Err("exit codes differ".into());
    }
    if !swapped && (&recorded.a, &recorded.b) != (&seen.a, &seen.b) {
        return Err("states differ".into());
    }
    let mut forgotten = false;
    let generations = [(&recorded.gi_a, &seen.gi_a, &seen.a), (&recorded.gi_b, &seen.gi_b, &seen.b)];
    for (recorded, seen, state) in generations {
        let in_sync = state.as_deref().is_some_and(|state| state.ends_with(" UpToDate/UpToDate"));
        forgotten |= compare_generation(recorded.as_deref(), seen.as_deref(), in_sync, names)?;
    }
    let begins = |one: &[String], other: &[String]| one.starts_with(other) || other.starts_with(one);
    let handlers = [
        (&recorded.a, &seen.a, &recorded.handlers_a, &seen.handlers_a),
        (&recorded.b, &seen.b, &recorded.handlers_b, &seen.handlers_b),
    ];
    for (state, seen_state, recorded, seen) in handlers {
        if recorded != seen && (state == seen_state || !begins(recorded, seen)) {
            return Err("handlers differ".into());
        }
    }
    let refuses = (swapped || other_code).then_some(WHO_REFUSES);
    Ok(refuses.or(forgotten.then_some(CRASH_FORGOTTEN)))
}

/// Whether two nodes that do not get together differ only in which of them goes on trying.
fn is_other_refusal(recorded: &After, seen: &After) -> bool {
    let apart = |state: &Option<String>| -> Option<(bool, String)> {
        let (conn, rest) = state.as_deref()?.split_once(' ')?;
        let alone = conn == "StandAlone";
        (alone || conn == "WFConnection").then(|| (alone, rest.to_owned()))
    };
    let (Some(ra), Some(rb), Some(sa), Some(sb)) =
        (apart(&recorded.a), apart(&recorded.b), apart(&seen.a), apart(&seen.b))
    else {
        return false;
    };
    (ra.0 || rb.0) && (sa.0 || sb.0) && ra.1 == sa.1 && rb.1 == sb.1 && (ra.0, rb.0) != (sa.0, sb.0)
}

/// Whether the exit codes differ only as those of a node that went on trying and one that does not.
fn is_other_code(recorded: &Value, seen: &Value, command: &str) -> bool {
    let refusal = if command.starts_with("disconnect") {
        json!([10, 162])
    } else if command.contains("connect") {
        json!([10, 102])
    } else {
        return false;
    };
    let (Some(recorded), Some(seen)) = (recorded.as_array(), seen.as_array()) else { return false };
    let either = |code: &Value| *code == refusal || *code == json!([0]);
    recorded.len() == seen.len()
        && recorded
            .iter()
            .zip(seen)
            .all(|(recorded, seen)| recorded == seen || (either(recorded) && either(seen)))
}

/// Compares UUIDs, by the names they have, and flags. `in_sync`: both disks are UpToDate. Whether one of them shows a
/// crash that the other has forgotten.
fn compare_generation(
    recorded: Option<&str>,
    seen: Option<&str>,
    in_sync: bool,
    names: &mut BTreeMap<String, u64>,
) -> Result<bool, String> {
    let (Some(recorded), Some(seen)) = (recorded, seen) else {
        return if recorded == seen { Ok(false) } else { Err("metadata only here or there".into()) };
    };
    let (Some((patterns, flags)), Some((uuids, seen_flags))) =
        (recorded.split_once(' '), seen.split_once(' '))
    else {
        return Err("no flags".into());
    };
    let forgotten = in_sync && flags.strip_suffix('1').is_some_and(|rest| seen_flags == format!("{rest}0"));
    if flags != seen_flags && !forgotten {
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
    Ok(forgotten)
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
