//! The house keeps its own rules (`CONTRIBUTING.md`): what clippy and rustc do not see.
//!
//! The checks are textual and cheap. Each lists all that is wrong, as `file:line: what`.
#![allow(clippy::unwrap_used)]

mod house;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use house::{Source, all_rust, all_text, cited_rules, root, rules, sources};

/// The parts of `src/` that are pure: values and decisions, no I/O, clock, task or randomness.
const PURE: [&str; 7] =
    ["src/node/", "src/wire/", "src/nbd/", "src/meta/", "src/config/", "src/units.rs", "src/buffer.rs"];

/// What would make them impure. `std::net` is there for `SocketAddr` and `IpAddr` only.
const IMPURE: [&str; 26] = [
    "tokio",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os::",
    "Mutex",
    "RwLock",
    "Condvar",
    "fs::File",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ToSocketAddrs",
    "Instant",
    "SystemTime",
    "getrandom",
    "rand::",
    "rustix",
    "libc::",
    "socket2",
    "io_uring",
    "tracing",
];

/// Imports point inwards: a module of the crate, and what it may name of the others.
const MAY_NAME: [(&str, &[&str]); 13] = [
    ("units", &[]),
    ("buffer", &[]),
    ("config", &[]),
    ("meta", &["units"]),
    ("wire", &["units"]),
    ("nbd", &["units"]),
    ("node", &["buffer", "config", "meta", "units", "wire"]),
    ("io", &["buffer", "node", "units"]),
    ("control", &["config", "node", "units"]),
    ("observe", &["config", "daemon", "node", "units"]),
    ("daemon", &["buffer", "config", "control", "io", "meta", "nbd", "node", "observe", "units", "wire"]),
    ("cli", &["config", "control", "daemon", "io", "meta", "node", "observe", "units"]),
    ("sim", &["buffer", "cli", "config", "daemon", "io", "meta", "nbd", "node", "units", "wire"]),
];

/// No file under `src/` is longer, in lines.
const MAX_LINES: usize = 900;

#[test]
fn the_pure_modules_name_no_io_clock_task_or_randomness() {
    let mut found = Findings::default();
    for source in sources().iter().filter(|source| PURE.iter().any(|pure| source.name.starts_with(pure))) {
        for (number, code) in source.production_code() {
            for word in IMPURE.iter().filter(|word| names(code, word)) {
                found.add(source, number, format_args!("pure code names {word}: it belongs in the shell"));
            }
        }
    }
    found.must_be_none();
}

#[test]
fn imports_point_inwards() {
    let mut found = Findings::default();
    for source in sources() {
        let Some((module, allowed)) = MAY_NAME.iter().find(|(module, _)| source.is_in(module)) else {
            continue;
        };
        for (number, code) in source.production_code() {
            for named in code.split("crate::").skip(1).map(first_word) {
                let known = MAY_NAME.iter().any(|(module, _)| *module == named);
                if known && named != *module && !allowed.contains(&named) {
                    found.add(
                        &source,
                        number,
                        format_args!("{module} may not name {named}: imports point inwards"),
                    );
                }
            }
        }
    }
    found.must_be_none();
}

#[test]
fn every_module_of_the_crate_has_its_place_in_the_order_of_imports() {
    let lib = Source::read("src/lib.rs");
    let declared: BTreeSet<String> = lib.declared_modules().into_iter().map(|(name, _)| name).collect();
    let placed: BTreeSet<String> = MAY_NAME.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(declared, placed, "src/lib.rs and MAY_NAME of tests/tidy.rs list different modules");
}

#[test]
fn unsafe_code_is_in_io_only() {
    let mut found = Findings::default();
    for source in sources().iter().filter(|source| !source.name.starts_with("src/io/")) {
        for (number, code) in source.code() {
            if names(code, "unsafe") {
                found.add(source, number, format_args!("unsafe outside src/io/"));
            }
        }
    }
    found.must_be_none();
}

#[test]
fn production_code_has_no_placeholders_and_no_unwrap() {
    let mut found = Findings::default();
    for source in sources() {
        for (number, code) in source.production_code() {
            for word in ["todo!", "unimplemented!", "dbg!", ".unwrap()"] {
                if code.contains(word) {
                    found.add(&source, number, format_args!("{word} outside tests"));
                }
            }
        }
        for (number, line) in source.lines() {
            if ["FIXME", "XXX"].iter().any(|word| names(line, word)) {
                found.add(&source, number, format_args!("unfinished: {}", line.trim()));
            }
        }
    }
    found.must_be_none();
}

#[test]
fn no_file_holds_more_than_one_can_read() {
    let mut found = Findings::default();
    for source in sources() {
        let lines = source.lines().count();
        if lines > MAX_LINES {
            found.add(
                &source,
                lines,
                format_args!("more than {MAX_LINES} lines: split it where it holds two ideas"),
            );
        }
    }
    found.must_be_none();
}

#[test]
fn every_source_file_is_part_of_the_crate() {
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    let mut roots: Vec<PathBuf> = vec!["src/lib.rs".into()];
    roots.extend(sources().into_iter().filter(|s| s.name.starts_with("src/bin/")).map(|s| s.name.into()));
    while let Some(path) = roots.pop() {
        let source = Source::read(path.to_str().unwrap());
        roots.extend(
            source.declared_modules().into_iter().map(|(module, at)| source.module_file(&module, at)),
        );
        assert!(reached.insert(path), "{}: declared as a module twice", source.name);
    }
    let orphans: Vec<_> =
        sources().into_iter().filter(|s| !reached.contains(Path::new(&s.name))).map(|s| s.name).collect();
    assert!(orphans.is_empty(), "no `mod` leads to these files: {orphans:?}");
}

#[test]
fn every_rule_that_is_cited_exists() {
    let rules = rules();
    let letters: BTreeSet<char> = rules.iter().filter_map(|rule| rule.chars().next()).collect();
    let mut found = Findings::default();
    let mut cited = 0;
    for source in all_rust().iter().filter(|source| source.name != "tests/tidy.rs") {
        for (number, comment) in source.comments() {
            for rule in cited_rules(comment, &letters) {
                cited += 1;
                if !rules.contains(rule) {
                    found.add(
                        source,
                        number,
                        format_args!("cites {rule}, which tests/data/rules.txt does not list"),
                    );
                }
            }
        }
    }
    found.must_be_none();
    assert!(cited > 500, "the search for citations finds only {cited}: it is broken");
}

#[test]
fn nothing_in_the_house_points_outside_of_it() {
    let mut found = Findings::default();
    // Written in halves, so that this file passes.
    let outside =
        [concat!("/wo", "rk/"), concat!("far", "m-"), concat!("issue", " #"), concat!("/home", "/")];
    for source in all_text() {
        for (number, line) in source.lines() {
            for word in outside.iter().filter(|word| line.contains(**word)) {
                found.add(&source, number, format_args!("mentions {word}"));
            }
        }
    }
    found.must_be_none();
}

#[test]
fn the_documents_name_only_files_that_exist() {
    let mut found = Findings::default();
    let files = all_rust();
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "fuzz/README.md"] {
        let source = Source::read(name);
        for (number, line) in source.lines() {
            for path in line.split('`').skip(1).step_by(2).filter(|quoted| is_path_in_house(quoted)) {
                let bare = format!("/{path}");
                let known = root().join(path).exists()
                    || root().join("src").join(path).exists()
                    || (!path.contains('/') && files.iter().any(|file| file.name.ends_with(&bare)));
                if !known {
                    found.add(&source, number, format_args!("there is no {path}"));
                }
            }
        }
    }
    found.must_be_none();
}

/// All that a check found.
#[derive(Default)]
struct Findings(String);

impl Findings {
    fn add(&mut self, source: &Source, line: usize, what: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{}:{line}: {what}", source.name).unwrap();
    }

    #[track_caller]
    fn must_be_none(&self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

/// Whether `code` has `word` standing alone: neither part of a longer name, nor in quotes.
fn names(code: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let joined = before.is_some_and(is_name) || (word.ends_with(is_name) && after.is_some_and(is_name));
        !joined && code[..at].matches('"').count().is_multiple_of(2)
    })
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Whether a quoted word of a document is a path of a source file or folder.
fn is_path_in_house(quoted: &str) -> bool {
    const FOLDERS: [&str; 8] =
        ["src/", "tests/", "benches/", "examples/", "fuzz/", "tools/", "docs/", ".ci/"];
    let plain = quoted.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    plain && (FOLDERS.iter().any(|folder| quoted.starts_with(folder)) || quoted.ends_with(".rs"))
}
