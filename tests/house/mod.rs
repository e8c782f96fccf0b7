//! The sources of this repository, as texts: for the checks that read them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository.
pub(crate) struct Source {
    /// Path from the repository's root.
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn read(name: &str) -> Self {
        let text = fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), text }
    }

    /// Whether this is the file or in the folder of a module of the crate.
    pub(crate) fn is_in(&self, module: &str) -> bool {
        self.name == format!("src/{module}.rs") || self.name.starts_with(&format!("src/{module}/"))
    }

    /// Lines with their numbers from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().zip(1..).map(|(line, number)| (number, line))
    }

    /// Lines without their comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(number, line)| (number, line.split_at(comment_start(line)).0))
    }

    /// As [`Source::code`], up to the tests.
    pub(crate) fn production_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().take(self.production_lines())
    }

    /// How many lines come before the tests, which are the last thing in their file.
    pub(crate) fn production_lines(&self) -> usize {
        let is_test_file = self.name.starts_with("tests/")
            || self.name.ends_with("/tests.rs")
            || self.name.ends_with("_tests.rs")
            || self.name.contains("/tests/");
        let marked = self.lines().filter(|(_, line)| line.trim() == "#[cfg(test)]");
        // A marked module with a body is the last thing in its file; other marked items are single.
        let tests = marked.map(|(number, _)| number).find(|number| {
            let mut following = self.text.lines().skip(*number);
            let item = following.find(|line| !line.trim().starts_with("#[")).unwrap_or_default();
            item.contains("mod ") && item.ends_with('{')
        });
        match tests {
            _ if is_test_file => 0,
            Some(number) => number,
            None => usize::MAX,
        }
    }

    /// The comments of all lines that have one.
    pub(crate) fn comments(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(number, line)| (number, line.split_at(comment_start(line)).1))
    }

    /// Modules declared here that are files of their own, with the line of the declaration.
    pub(crate) fn declared_modules(&self) -> Vec<(String, usize)> {
        self.code()
            .filter_map(|(number, line)| {
                let (before, name) = line.trim().strip_suffix(';')?.rsplit_once("mod ")?;
                let visibility = before.is_empty() || before.starts_with("pub");
                (visibility && !name.contains(' ')).then(|| (name.to_owned(), number))
            })
            .collect()
    }

    /// Where the code of a module declared in line `at` is.
    pub(crate) fn module_file(&self, module: &str, at: usize) -> PathBuf {
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

/// The files under `src/`.
pub(crate) fn sources() -> Vec<Source> {
    all_rust().into_iter().filter(|source| source.name.starts_with("src/")).collect()
}

/// All Rust files of the repository.
pub(crate) fn all_rust() -> Vec<Source> {
    all_text().into_iter().filter(|source| source.name.ends_with(".rs")).collect()
}

/// All text files of the repository.
pub(crate) fn all_text() -> Vec<Source> {
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

pub(crate) fn root() -> &'static Path {
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

/// The rules of the specification that may be cited (`tests/data/rules.txt`).
pub(crate) fn rules() -> BTreeSet<String> {
    let listed = fs::read_to_string(root().join("tests/data/rules.txt")).unwrap();
    let words = listed.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
    words.map(str::to_owned).collect()
}

/// The rules named in a comment: one of these letters, a number,
/// perhaps a small letter.
pub(crate) fn cited_rules<'a>(comment: &'a str, letters: &BTreeSet<char>) -> impl Iterator<Item = &'a str> {
    let words = comment.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-');
    words.flat_map(|word| word.split('-')).filter(|word| {
        let Some(rest) = word.strip_prefix(|c| letters.contains(&c)) else { return false };
        let digits = rest.trim_end_matches(|c: char| c.is_ascii_lowercase());
        rest.len() - digits.len() <= 1 && !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
    })
}
