//! The house keeps its own rules (`CONTRIBUTING.md`): what clippy and rustc do not see.
//!
//! The checks are textual and cheap. Each lists all that is wrong, as `file:line: what`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

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
    let listed = fs::read_to_string(root().join("tests/data/rules.txt")).unwrap();
    let rules: BTreeSet<&str> =
        listed.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
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

/// A text file of the repository.
struct Source {
    /// Path from the repository's root.
    name: String,
    text: String,
}

impl Source {
    fn read(name: &str) -> Self {
        let text = fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), text }
    }

    /// Whether this is the file or in the folder of a module of the crate.
    fn is_in(&self, module: &str) -> bool {
        self.name == format!("src/{module}.rs") || self.name.starts_with(&format!("src/{module}/"))
    }

    /// Lines with their numbers from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().zip(1..).map(|(line, number)| (number, line))
    }

    /// Lines without their comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(number, line)| (number, line.split_at(comment_start(line)).0))
    }

    /// As [`Source::code`], up to the tests.
    fn production_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test_file = self.name.ends_with("/tests.rs")
            || self.name.ends_with("_tests.rs")
            || self.name.contains("/tests/");
        let marked = self.lines().filter(|(_, line)| line.trim() == "#[cfg(test)]");
        // A marked module with a body is the last thing in its file; other marked items are single.
        let tests = marked.map(|(number, _)| number).find(|number| {
            let mut following = self.text.lines().skip(*number);
            let item = following.find(|line| !line.trim().starts_with("#[")).unwrap_or_default();
            item.contains("mod ") && item.ends_with('{')
        });
        let end = match tests {
            _ if is_test_file => 0,
            Some(number) => number,
            None => usize::MAX,
        };
        self.code().take(end)
    }

    /// The comments of all lines that have one.
    fn comments(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(number, line)| (number, line.split_at(comment_start(line)).1))
    }

    /// Modules declared here that are files of their own, with the line of the declaration.
    fn declared_modules(&self) -> Vec<(String, usize)> {
        self.code()
            .filter_map(|(number, line)| {
                let (before, name) = line.trim().strip_suffix(';')?.rsplit_once("mod ")?;
                let visibility = before.is_empty() || before.starts_with("pub");
                (visibility && !name.contains(' ')).then(|| (name.to_owned(), number))
            })
            .collect()
    }

    /// Where the code of a module declared in line `at` is.
    fn module_file(&self, module: &str, at: usize) -> PathBuf {
        let path = Path::new(&self.name);
        let folder = path.parent().unwrap();
        let before = self.text.lines().nth(at.saturating_sub(2)).unwrap_or_default();
        if let Some(named) =
            before.trim().strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]"))
        {
            return folder.join(named);
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let folder =
            if ["lib", "mod", "main"].contains(&stem) { folder.to_owned() } else { folder.join(stem) };
        let file = folder.join(format!("{module}.rs"));
        if root().join(&file).exists() { file } else { folder.join(module).join("mod.rs") }
    }
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

/// The files under `src/`.
fn sources() -> Vec<Source> {
    all_rust().into_iter().filter(|source| source.name.starts_with("src/")).collect()
}

/// All Rust files of the repository.
fn all_rust() -> Vec<Source> {
    all_text().into_iter().filter(|source| source.name.ends_with(".rs")).collect()
}

/// All text files of the repository.
fn all_text() -> Vec<Source> {
    let mut names = Vec::new();
    list(Path::new(""), &mut names);
    let read = |name: String| Some(Source { text: fs::read_to_string(root().join(&name)).ok()?, name });
    names.into_iter().filter_map(read).collect()
}

fn list(folder: &Path, names: &mut Vec<String>) {
    /// Not part of the house: what is built, and what fuzzing leaves.
    const SKIPPED: [&str; 5] = [".git", "target", "corpus", "artifacts", "proptest-regressions"];
    let mut entries: Vec<_> = fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        let path = folder.join(&name);
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            list(&path, names);
        } else {
            names.push(path.into_os_string().into_string().unwrap());
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the comment of a line begins; its end if it has none.
fn comment_start(line: &str) -> usize {
    let mut quoted = false;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match c {
            '"' if before != '\\' && before != '\'' => quoted = !quoted,
            '/' if before == '/' && !quoted => return at - 1,
            _ => {}
        }
        before = c;
    }
    line.len()
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

/// The rules named in a comment: a letter of [`rules`](every_rule_that_is_cited_exists), a number,
/// perhaps a small letter.
fn cited_rules<'a>(comment: &'a str, letters: &BTreeSet<char>) -> impl Iterator<Item = &'a str> {
    let words = comment.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-');
    words.flat_map(|word| word.split('-')).filter(|word| {
        let Some(rest) = word.strip_prefix(|c| letters.contains(&c)) else { return false };
        let digits = rest.trim_end_matches(|c: char| c.is_ascii_lowercase());
        rest.len() - digits.len() <= 1 && !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
    })
}

/// Whether a quoted word of a document is a path of a source file or folder.
fn is_path_in_house(quoted: &str) -> bool {
    const FOLDERS: [&str; 8] =
        ["src/", "tests/", "benches/", "examples/", "fuzz/", "tools/", "docs/", ".ci/"];
    let plain = quoted.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    plain && (FOLDERS.iter().any(|folder| quoted.starts_with(folder)) || quoted.ends_with(".rs"))
}
