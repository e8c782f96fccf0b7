//! Where mutants are built: a copy of the sources under `target/mutants/`, whose builds are incremental.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

use crate::list::{Edit, Mutant};

/// What a build needs.
const COPIED: [&str; 4] = ["Cargo.lock", "rust-toolchain.toml", "src", "examples/simulate.rs"];
/// What of the manifest has nothing to do with the simulator, and would be built as well.
const NEEDLESS: [&str; 4] = ["dev-dependencies", "bench", "lints", "bin"];
/// How a build differs from `make simulate`: as little as can be is done again for another mutant, and the
/// optimiser's last percents are not worth their time for few thousand seeds.
const PROFILE: [(&str, &str); 3] = [
    ("CARGO_PROFILE_SIMULATE_OPT_LEVEL", "2"),
    ("CARGO_PROFILE_SIMULATE_DEBUG", "false"),
    ("CARGO_PROFILE_SIMULATE_CODEGEN_UNITS", "256"),
];

/// The copy, and its builds.
#[derive(Debug)]
pub(crate) struct Workshop {
    root: PathBuf,
    folder: PathBuf,
}

impl Workshop {
    /// Opens the workshop of the sources under `root`, with the present state of them.
    ///
    /// # Errors
    /// What cannot be copied.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Self> {
        let workshop = Self { root: root.to_owned(), folder: root.join("target/mutants") };
        for name in COPIED {
            mirror(&root.join(name), &workshop.tree().join(name))?;
        }
        let mut manifest: toml::Table = toml::from_str(&fs::read_to_string(root.join("Cargo.toml"))?)?;
        manifest.retain(|section, _| !NEEDLESS.contains(&section));
        write(&workshop.tree().join("Cargo.toml"), toml::to_string(&manifest)?.as_bytes())?;
        Ok(workshop)
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Writes a mutation into the copy. Only one is in there at any time: see [`Workshop::repair`].
    ///
    /// # Errors
    /// If a text is not there exactly once, or on I/O errors.
    pub(crate) fn mutate(&self, mutant: &Mutant) -> anyhow::Result<()> {
        for Edit { file, find, put } in &mutant.edits {
            // From the copy: another edit may be in the same file.
            let place = self.tree().join(file);
            let text = fs::read_to_string(&place)?;
            if text.matches(find).count() != 1 {
                bail!("its text is not in {file} exactly once");
            }
            fs::write(&place, text.replacen(find, put, 1)).context("writing the mutated file")?;
        }
        Ok(())
    }

    /// Takes a mutation back.
    ///
    /// # Errors
    /// On I/O errors.
    pub(crate) fn repair(&self, mutant: &Mutant) -> anyhow::Result<()> {
        mutant
            .edits
            .iter()
            .try_for_each(|Edit { file, .. }| mirror(&self.root.join(file), &self.tree().join(file)))
    }

    /// Starts to build the simulator from the copy.
    ///
    /// # Errors
    /// If cargo cannot be started.
    pub(crate) fn build(&self) -> anyhow::Result<Child> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Command::new(cargo)
            .args([
                "build",
                "--offline",
                "--quiet",
                "--color",
                "never",
                "--profile",
                "simulate",
                "--example",
                "simulate",
            ])
            .current_dir(self.tree())
            .env("CARGO_TARGET_DIR", self.folder.join("build"))
            .envs(PROFILE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting cargo")
    }

    /// Puts what was just built aside, so that the next can be built meanwhile.
    ///
    /// # Errors
    /// On I/O errors.
    pub(crate) fn take(&self, name: &str) -> anyhow::Result<PathBuf> {
        let built = self.folder.join("build/simulate/examples/simulate");
        let place = self.folder.join("ready");
        fs::create_dir_all(&place)?;
        let place = place.join(name);
        fs::copy(&built, &place).with_context(|| format!("copying {}", built.display()))?;
        Ok(place)
    }
}

/// Makes `to` the same as `from`, but touches no file that is: cargo builds again what was touched.
fn mirror(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.is_dir() {
        return write(to, &fs::read(from).with_context(|| format!("reading {}", from.display()))?);
    }
    fs::create_dir_all(to)?;
    let names = |folder: &Path| -> std::io::Result<Vec<std::ffi::OsString>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    let wanted = names(from)?;
    for name in &wanted {
        mirror(&from.join(name), &to.join(name))?;
    }
    let gone = names(to)?.into_iter().filter(|name| !wanted.contains(name));
    for name in gone {
        remove(to, &name)?;
    }
    Ok(())
}

fn write(to: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(to, bytes).with_context(|| format!("writing {}", to.display()))
}

fn remove(folder: &Path, name: &OsStr) -> anyhow::Result<()> {
    let path = folder.join(name);
    if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
        .with_context(|| format!("removing {}", path.display()))
}
