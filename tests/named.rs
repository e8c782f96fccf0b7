//! Every invariant (I1 to I36), fault (F1 to F13) and trap (T1 to T41) of the data path is named by a test, or by
//! a checker or the plan of the simulator. `make named` shows where.
//!
//! What counts is a comment at or in a function or item of `tests/`, of the tests in `src/`, or of `src/sim/`; not a
//! comment about a whole file, and not production code. Whether the test tests it, only a reader can say.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // The rest of it is for tidy.rs.
mod house;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use house::{Source, all_rust, cited_rules, rules};

/// Rules that nothing can show here, and why.
const EXEMPT: [(&str, &str); 5] = [
    (
        "F11",
        "there are no congestion policies: `on-congestion` has no effect, so there is no Ahead and no Behind",
    ),
    ("T13", "there is no thin resync: `rs-discard-granularity` has no effect"),
    (
        "T15",
        "a resync does not give way to applications by counting who waits for the log: `c-min-rate` has no effect",
    ),
    ("T16", "ap_in_flight only serves congestion policies, and does not exist"),
    (
        "T23",
        "there is no disk-timeout, for nobody's I/O: a stuck disk of a Secondary costs the Primary its connection",
    ),
];

/// Where T is something else: an objection to a state change (the table of soft rules), or a worked example of
/// the states' chapter (traces T1 to T16).
const OTHER_T: [&str; 4] = ["src/node/rules/", "src/node/rules.rs", "src/node/tests.rs", "tests/decisions/"];

#[test]
fn each_invariant_fault_and_trap_is_named_by_a_test_or_a_checker() {
    let named = named();
    let all: Vec<String> = wanted().collect();
    let places = |rule: &String| named.get(rule).into_iter().flatten();
    for rule in &all {
        let list: Vec<&str> = places(rule).map(String::as_str).collect();
        println!("{rule:<4} {}", if list.is_empty() { "-".to_owned() } else { list.join("\n     ") });
    }
    let exempt = |rule: &String| EXEMPT.iter().any(|(name, _)| name == rule);
    let unnamed: Vec<&String> =
        all.iter().filter(|rule| !named.contains_key(*rule) && !exempt(rule)).collect();
    println!("\n{} of {} rules are named by a test or a checker", named.len(), all.len());
    for (rule, why) in EXEMPT {
        println!("  {rule} is not: {why}");
    }
    for rule in &unnamed {
        println!("  {rule} IS NOT, and nothing says why");
    }
    assert!(unnamed.is_empty(), "named by no test and no checker: {unnamed:?}");
    let both: Vec<&String> = all.iter().filter(|rule| exempt(rule) && named.contains_key(*rule)).collect();
    assert!(both.is_empty(), "exempt, but named: {both:?}");
    assert!(EXEMPT.iter().all(|(rule, _)| all.iter().any(|known| known == rule)), "an exempt rule is none");
}

#[test]
fn the_search_knows_what_a_comment_belongs_to() {
    let text = "\
//! About the file: I1.
struct Plan {
    /// Cut (I2).
    Cut,
}
/// What it is for: I3.
#[test]
fn first() {
    // I4
    let x = \"// I5\"; // I6
}";
    let source = Source { name: "tests/some.rs".into(), text: text.into() };
    let found: Vec<(String, String)> = citations(&source).collect();
    let expected = [("I2", "Cut"), ("I3", "first"), ("I4", "first"), ("I6", "first")];
    assert_eq!(found, expected.map(|(rule, item)| (rule.to_owned(), format!("some.rs {item}"))));
}

/// I1 to I36, F1 to F13, T1 to T41.
fn wanted() -> impl Iterator<Item = String> {
    let count = |letter: char| {
        let numbers =
            rules().into_iter().filter_map(move |rule| rule.strip_prefix(letter)?.parse::<u32>().ok());
        numbers.max().unwrap()
    };
    let all = ['I', 'F', 'T'].map(|letter| (letter, count(letter)));
    assert_eq!(all, [('I', 36), ('F', 13), ('T', 41)], "tests/data/rules.txt has changed");
    all.into_iter().flat_map(|(letter, last)| (1..=last).map(move |number| format!("{letter}{number}")))
}

/// The places at which each is named.
fn named() -> BTreeMap<String, BTreeSet<String>> {
    let wanted: BTreeSet<String> = wanted().collect();
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in all_rust().iter().filter(|source| !source.name.starts_with("tests/named.rs")) {
        let other_t = OTHER_T.iter().any(|place| source.name.starts_with(place));
        for (rule, place) in citations(source) {
            if wanted.contains(&rule) && !(other_t && rule.starts_with('T')) {
                named.entry(rule).or_default().insert(place);
            }
        }
    }
    named
}

/// The rules named in the tests and checkers of a file, each with its place.
fn citations(source: &Source) -> impl Iterator<Item = (String, String)> {
    let letters = BTreeSet::from(['I', 'F', 'T']);
    let is_checker = source.name.starts_with("src/sim/");
    let untested = !is_checker && !source.name.starts_with("src/") && !source.name.starts_with("tests/");
    let first = if is_checker { 0 } else { source.production_lines() };
    let lines: Vec<&str> = source.text.lines().collect();
    let about_items = source
        .comments()
        .filter(move |(number, comment)| !untested && *number > first && !comment.starts_with("//!"));
    let mut found = Vec::new();
    for (number, comment) in about_items {
        for rule in cited_rules(comment, &letters) {
            found.push((rule.to_owned(), format!("{} {}", short(&source.name), item_of(&lines, number))));
        }
    }
    found.into_iter()
}

/// The item that a line's comment is about: the next one, if that is what it stands before, or the function it is in.
fn item_of(lines: &[&str], number: usize) -> String {
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let at = number - 1;
    let mut item = lines[at];
    if is_comment(item) {
        let mut following =
            lines[at..].iter().skip_while(|line| is_comment(line) || line.trim().starts_with("#["));
        item = following.next().copied().unwrap_or_default();
    }
    // A `///` is always about what follows; other comments only if that is a function.
    if lines[at].trim_start().starts_with("///") || function(item).is_some() {
        return function(item).unwrap_or_else(|| first_name(item));
    }
    lines[..at].iter().rev().find_map(|line| function(line)).unwrap_or_else(|| first_name(item))
}

/// The name of the function that begins in a line.
fn function(line: &str) -> Option<String> {
    let (before, after) = line.split_once("fn ")?;
    let starts = before.trim().is_empty() || before.trim_start().starts_with("pub");
    starts.then(|| {
        after.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned()
    })
}

/// The first name of an item that is no function.
fn first_name(line: &str) -> String {
    const KEYWORDS: [&str; 8] = ["pub", "super", "crate", "struct", "enum", "const", "type", "mod"];
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.find(|word| !KEYWORDS.contains(word)).unwrap_or_default().to_owned()
}

/// A file's name without its first folder, which the reader can guess.
fn short(name: &str) -> String {
    let path = Path::new(name);
    path.components().skip(1).collect::<std::path::PathBuf>().display().to_string()
}
