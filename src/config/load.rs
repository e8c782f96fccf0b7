//! Reads a configuration with all files it includes (C26..C32).

use std::sync::Arc;

use super::error::{Diagnostic, Report, Sink};
use super::model::Config;
use super::parser::{End, Node, parse};
use super::resolve::resolve;
use super::source::{FileId, MAX_FILE_BYTES, MAX_FILES, NoFiles, Source, SourceError, SourceMap, SourceText};

/// How deep files include one another, at most.
const MAX_INCLUDE_DEPTH: usize = 64;
/// Bytes of all files together, at most.
const MAX_TOTAL_BYTES: usize = 32 << 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The main file cannot be read; the tools' exit code is 20 (C6).
    #[error("cannot open '{path}': {source}")]
    Open {
        /// The file.
        path: String,
        /// Why.
        source: SourceError,
    },
    /// The text is wrong; the tools' exit code is 10 (C5).
    #[error("{0}")]
    Invalid(Report),
}

impl LoadError {
    /// The exit code of the tools for this error (C5).
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Open { .. } => 20,
            Self::Invalid(_) => 10,
        }
    }
}

/// Reads the file `path`, then each of `appended` as if its text followed (`-t FILE`, C9).
///
/// # Errors
/// [`LoadError::Open`] for a file that cannot be read, else all errors of all files.
pub fn load(source: &dyn Source, path: &str, appended: &[&str]) -> Result<Config, LoadError> {
    let mut loader = Loader::new(source);
    let mut main = None;
    for path in std::iter::once(path).chain(appended.iter().copied()) {
        let open = |source| LoadError::Open { path: path.to_owned(), source };
        let text = source.open(path).map_err(open)?;
        let canonical = text.canonical.clone();
        main.get_or_insert(canonical);
        loader.file(text, 0);
    }
    loader.finish(main.unwrap_or_default()).map_err(LoadError::Invalid)
}

/// Reads `text` as the file `name`, with includes from `source`.
///
/// # Errors
/// All errors of the text and of what it includes.
pub fn parse_with(source: &dyn Source, name: &str, text: &[u8]) -> Result<Config, Report> {
    let mut loader = Loader::new(source);
    let text = SourceText { name: name.to_owned(), canonical: name.to_owned(), bytes: text.to_vec() };
    loader.file(text, 0);
    loader.finish(name.to_owned())
}

/// Reads `text` as the file `name`. It cannot include others. Takes any text; never panics.
///
/// # Errors
/// All errors of the text.
pub fn parse_str(name: &str, text: &str) -> Result<Config, Report> {
    parse_with(&NoFiles, name, text.as_bytes())
}

struct Loader<'a> {
    source: &'a dyn Source,
    files: SourceMap,
    sink: Sink,
    nodes: Vec<Node>,
    bytes: usize,
}

impl<'a> Loader<'a> {
    fn new(source: &'a dyn Source) -> Self {
        Self { source, files: SourceMap::default(), sink: Sink::default(), nodes: Vec::new(), bytes: 0 }
    }

    fn finish(mut self, path: String) -> Result<Config, Report> {
        let resolved = resolve(&self.nodes, &self.files, &mut self.sink);
        let report = self.sink.finish(Arc::new(self.files));
        if report.has_errors() {
            return Err(report);
        }
        Ok(Config {
            path,
            global: resolved.global,
            common: resolved.common,
            resources: resolved.resources,
            unsupported: resolved.unsupported,
            warnings: report,
        })
    }

    /// Reads one file in place; a file that was read already is passed over (C29).
    fn file(&mut self, text: SourceText, depth: usize) {
        let bytes = text.bytes.len();
        let Some(file) = self.files.add(text) else { return };
        self.bytes += bytes.min(MAX_FILE_BYTES);
        let content = self.files.file(file).text.clone();
        let nodes = parse(file, &content, &mut self.sink);
        if bytes > MAX_FILE_BYTES {
            let start = super::source::Span { file, start: 0, end: 0 };
            self.sink.error(start, format!("this file is larger than {} MiB", MAX_FILE_BYTES >> 20));
        }
        for node in nodes {
            match node.words.as_slice() {
                [first, ..] if first.is("include") => self.include(&node, file, depth),
                _ => self.nodes.push(node),
            }
        }
    }

    fn include(&mut self, node: &Node, file: FileId, depth: usize) {
        let span = node.span();
        let [_, name] = node.words.as_slice() else {
            let at = node.words.get(2).map_or_else(|| span.behind(), |word| word.span);
            let error = Diagnostic::error(at, "'include' takes one file name or pattern");
            self.sink.push(error.help("put a pattern in double quotes: include \"drbd.d/*.res\";"));
            return;
        };
        if !name.is_text() {
            let error = Diagnostic::error(name.span, format!("unexpected '{}'", name.text));
            self.sink.push(error.help("put a pattern in double quotes: include \"drbd.d/*.res\";"));
            return;
        }
        if let End::Block(block) = &node.end {
            self.sink.error(block.open, "';' expected, but got '{'");
            return;
        }
        if depth >= MAX_INCLUDE_DEPTH || self.files.is_full() || self.bytes > MAX_TOTAL_BYTES {
            let message = format!(
                "too much to include: at most {MAX_INCLUDE_DEPTH} levels, {MAX_FILES} files and {} MiB",
                MAX_TOTAL_BYTES >> 20
            );
            self.sink.error(span, message);
            return;
        }
        let from = self.files.file(file).canonical.clone();
        match self.source.include(&from, &name.text) {
            Ok(texts) => {
                for text in texts {
                    self.file(text, depth + 1);
                }
            }
            Err(error) => self.sink.error(name.span, format!("cannot include '{}': {error}", name.text)), // C30
        }
    }
}
