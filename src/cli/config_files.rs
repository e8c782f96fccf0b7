//! Configuration from the file system: the default files, `-c FILE`, `-t FILE`, `-E FILE`, and what
//! they include (C6..C9, C26..C30).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::source::MAX_FILE_BYTES;
use crate::config::{Config, LoadError, Source, SourceError, SourceText, load};

/// The files looked for when none is named, best first.
pub const DEFAULT_FILES: [&str; 2] = ["/etc/urbd.conf", "/etc/drbd.conf"];

/// The name in messages of a configuration from standard input (C6).
const STDIN: &str = "STDIN";

/// Which files to read.
#[derive(Clone, Debug, Default)]
pub struct ConfigFiles {
    /// `-c FILE`; `-` is standard input. None: the first of [`DEFAULT_FILES`] that can be opened.
    pub main: Option<String>,
    /// `-t FILE`: read behind the main file, as if appended.
    pub appended: Vec<String>,
    /// `-E FILE`: passed over when included.
    pub excluded: Vec<String>,
}

impl ConfigFiles {
    /// The files that `-c` names, or the default ones.
    #[must_use]
    pub fn new(main: Option<&str>) -> Self {
        Self { main: main.map(str::to_owned), ..Self::default() }
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// A file that cannot be opened, or all that is wrong with the text.
    pub fn load(&self) -> Result<Config, LoadError> {
        let appended: Vec<&str> = self.appended.iter().map(String::as_str).collect();
        let excluded = self.excluded.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        let source = FileSystem { excluded };
        load(&source, &self.main_file(), &appended)
    }

    /// The main file's path.
    #[must_use]
    pub fn main_file(&self) -> String {
        let default = || DEFAULT_FILES.into_iter().find(|path| File::open(path).is_ok());
        match &self.main {
            Some(path) => path.clone(),
            None => default().unwrap_or(DEFAULT_FILES[1]).to_owned(),
        }
    }
}

/// The real files.
#[derive(Debug, Default)]
struct FileSystem {
    excluded: Vec<PathBuf>,
}

impl Source for FileSystem {
    fn open(&self, path: &str) -> Result<SourceText, SourceError> {
        if path == "-" {
            let bytes = read_bounded(io::stdin().lock()).map_err(|error| SourceError(error.to_string()))?;
            return Ok(SourceText { name: STDIN.to_owned(), canonical: STDIN.to_owned(), bytes });
        }
        read_file(Path::new(path), path)
    }

    fn include(&self, from: &str, pattern: &str) -> Result<Vec<SourceText>, SourceError> {
        let directory = match Path::new(from).parent() {
            Some(directory) if from != STDIN => directory.to_owned(),
            _ => PathBuf::new(),
        };
        if !pattern.contains(['*', '?', '[']) {
            let path = directory.join(pattern);
            if self.is_excluded(&path) {
                return Ok(Vec::new());
            }
            return Ok(vec![read_file(&path, pattern)?]);
        }
        let mut files = Vec::new();
        for path in matches(&directory, pattern)? {
            if path.is_dir() || self.is_excluded(&path) {
                continue;
            }
            // The name is what the pattern stands for, relative as it was written (C31).
            let name = if Path::new(pattern).is_absolute() {
                path.as_path()
            } else {
                path.strip_prefix(&directory).unwrap_or(&path)
            };
            files.push(read_file(&path, &name.to_string_lossy())?);
        }
        Ok(files)
    }
}

impl FileSystem {
    fn is_excluded(&self, path: &Path) -> bool {
        fs::canonicalize(path).is_ok_and(|path| self.excluded.contains(&path))
    }
}

/// The paths that fit, by the shell's rules, in the order of their bytes (C26, C28).
fn matches(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, SourceError> {
    let escaped = glob::Pattern::escape(&directory.to_string_lossy());
    let full = if Path::new(pattern).is_absolute() || escaped.is_empty() {
        pattern.to_owned()
    } else {
        format!("{escaped}/{pattern}")
    };
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let found = glob::glob_with(&full, options)
        .map_err(|error| SourceError(format!("not a pattern: {}", error.msg)))?;
    let mut paths = found
        .collect::<Result<Vec<PathBuf>, _>>()
        .map_err(|error| SourceError(format!("{}: {}", error.path().display(), error.error())))?;
    paths.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    Ok(paths)
}

fn read_file(path: &Path, name: &str) -> Result<SourceText, SourceError> {
    let fail = |error: io::Error| SourceError(error.to_string());
    let file = File::open(path).map_err(fail)?;
    if file.metadata().map_err(fail)?.is_dir() {
        return Err(SourceError("it is a directory".to_owned()));
    }
    let canonical = fs::canonicalize(path).map_err(fail)?.to_string_lossy().into_owned();
    let bytes = read_bounded(file).map_err(fail)?;
    Ok(SourceText { name: name.to_owned(), canonical, bytes })
}

/// Reads to the end, or one byte beyond the limit, which the parser then reports.
fn read_bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "on a { device /dev/drbd1; disk /dev/a; address 10.0.0.1:1; meta-disk internal; }";

    fn write(directory: &Path, name: &str, text: &str) -> String {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn names(config: &Config) -> Vec<&str> {
        config.resources.iter().map(|resource| resource.name.as_str()).collect()
    }

    #[test]
    fn patterns_are_taken_from_the_including_files_directory_in_sorted_order() {
        // C27, C28, C29, C30
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        let main =
            write(base, "main.conf", "include \"d/*.res\"; include \"nope/*.res\"; include main.conf;");
        write(base, "d/b.res", "include \"../extra.inc\"; resource b { }");
        write(base, "d/a.res", "resource a { }");
        write(base, "d/.hidden.res", "resource hidden { }");
        write(base, "extra.inc", "resource extra { }");
        let config = ConfigFiles::new(Some(&main)).load().unwrap();
        assert_eq!(names(&config), ["a", "extra", "b"]);
    }

    #[test]
    fn a_message_names_the_file_as_the_pattern_found_it() {
        // C31
        let directory = tempfile::tempdir().unwrap();
        let main = write(directory.path(), "main.conf", "include \"d/*.res\";\ninclude gone.res;\n");
        write(directory.path(), "d/r0.res", "\n  resurce r0 { }");
        let LoadError::Invalid(report) = ConfigFiles::new(Some(&main)).load().unwrap_err() else { panic!() };
        let text = report.to_string();
        let mut lines = text.lines();
        assert!(
            lines.next().unwrap().starts_with(&format!("{main}:2:9: cannot include 'gone.res'")),
            "{text}"
        );
        assert_eq!(
            lines.next().unwrap(),
            "d/r0.res:2:3: unknown keyword 'resurce' at top level; did you mean 'resource'?"
        );
    }

    #[test]
    fn a_new_version_of_a_file_can_be_tried_in_the_place_of_the_old_one() {
        // C9
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        let main = write(base, "main.conf", "include \"*.res\";");
        let old = write(base, "r0.res", &format!("resource r0 {{ {HOSTS} }}"));
        let new = write(base, "r0.new", &format!("resource r0 {{ {HOSTS} }}"));
        let mut files = ConfigFiles::new(Some(&main));
        files.appended = vec![new];
        assert!(files.load().is_err(), "r0 is there twice");
        files.excluded = vec![old];
        assert_eq!(names(&files.load().unwrap()), ["r0"]);
    }

    #[test]
    fn a_file_that_is_not_there_has_its_own_exit_code() {
        let error = ConfigFiles::new(Some("/nonexistent/urbd.conf")).load().unwrap_err();
        assert_eq!(error.exit_code(), 20); // C6
    }
}
