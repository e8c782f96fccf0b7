//! The list of deliberate faults: the files in `mutants/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

/// I1 to I36 of the rules.
const INVARIANTS: u32 = 36;

/// One deliberate fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    /// A few words with hyphens, as nobody else is called.
    pub(crate) name: String,
    /// What the program does wrong with it, in plain words.
    pub(crate) what: String,
    /// The rules it breaks, invariants first.
    pub(crate) breaks: Vec<String>,
    /// What is changed; mostly one place.
    #[serde(rename = "edit")]
    pub(crate) edits: Vec<Edit>,
}

/// A changed place.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// The file, from the root.
    pub(crate) file: String,
    /// The text that is replaced: it occurs once in the file.
    pub(crate) find: String,
    /// What is there instead.
    pub(crate) put: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    mutant: Vec<Mutant>,
    /// Invariants that nothing in urbd can break, and why.
    #[serde(default)]
    exempt: BTreeMap<String, String>,
}

/// All deliberate faults.
#[derive(Debug, Default)]
pub(crate) struct List {
    pub(crate) mutants: Vec<Mutant>,
    exempt: BTreeMap<String, String>,
}

impl List {
    /// Reads the pages in a folder, in the order of their names.
    ///
    /// # Errors
    /// Which page cannot be read, and why.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut pages = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                pages.push(path);
            }
        }
        pages.sort();
        let mut list = Self::default();
        for path in pages {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let page: Page = toml::from_str(&text).with_context(|| path.display().to_string())?;
            list.mutants.extend(page.mutant);
            list.exempt.extend(page.exempt);
        }
        Ok(list)
    }

    /// All that is wrong with the list, measured at the sources under `root`.
    pub(crate) fn mistakes(&self, root: &Path) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut names = BTreeSet::new();
        let mut sources: BTreeMap<&str, String> = BTreeMap::new();
        for mutant in &self.mutants {
            let name = &mutant.name;
            if !names.insert(name) {
                mistakes.push(format!("{name}: two have this name"));
            }
            if mutant.what.is_empty() || mutant.breaks.is_empty() {
                mistakes.push(format!("{name}: it does not say what it breaks"));
            }
            if mutant.edits.is_empty() {
                mistakes.push(format!("{name}: it changes nothing"));
            }
            for Edit { file, find, put } in &mutant.edits {
                if find == put {
                    mistakes.push(format!("{name}: its edit of {file} changes nothing"));
                }
                // A file that is missing holds no text, which is said below.
                let read = || fs::read_to_string(root.join(file)).unwrap_or_default();
                match sources.entry(file).or_insert_with(read).matches(find.as_str()).count() {
                    1 => {}
                    0 => mistakes.push(format!("{name}: its text is not in {file}: {find:?}")),
                    count => mistakes.push(format!("{name}: its text is {count} times in {file}: {find:?}")),
                }
            }
        }
        mistakes.extend(self.uncovered());
        mistakes
    }

    /// Invariants that no mutant breaks, although one could; and those that one does, although none can.
    fn uncovered(&self) -> Vec<String> {
        let broken: BTreeSet<&str> =
            self.mutants.iter().flat_map(|mutant| &mutant.breaks).map(String::as_str).collect();
        let all: Vec<String> = (1..=INVARIANTS).map(|number| format!("I{number}")).collect();
        let mut mistakes = Vec::new();
        for invariant in &all {
            match (broken.contains(invariant.as_str()), self.exempt.contains_key(invariant)) {
                (true, false) | (false, true) => {}
                (false, false) => mistakes.push(format!("{invariant}: no mutant breaks it")),
                (true, true) => mistakes.push(format!("{invariant}: exempt, but a mutant breaks it")),
            }
        }
        let unknown = self.exempt.keys().filter(|name| !all.contains(name));
        mistakes.extend(unknown.map(|name| format!("{name}: exempt, but no invariant")));
        mistakes
    }
}
