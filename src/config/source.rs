//! Where configuration text comes from: the door to files that the caller opens, and the positions
//! in what came through it.

use std::fmt;

/// Bytes of one file, at most.
pub const MAX_FILE_BYTES: usize = 4 << 20;
/// Files of one configuration, at most.
pub const MAX_FILES: usize = 4096;

/// Gives the text of files. This module opens none itself.
pub trait Source {
    /// The main file, named as on the command line.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn open(&self, path: &str) -> Result<SourceText, SourceError>;

    /// The files that `pattern` names, in sorted order; `from` is the canonical path of the file
    /// with the `include` statement, whose directory a relative pattern starts from (C27, C28).
    ///
    /// # Errors
    /// A name without wildcards that cannot be opened. A pattern that fits nothing is no error (C30).
    fn include(&self, from: &str, pattern: &str) -> Result<Vec<SourceText>, SourceError>;
}

/// The content of one file.
#[derive(Clone, Debug)]
pub struct SourceText {
    /// The name for messages: as on the command line, or as the include pattern made it (C31).
    pub name: String,
    /// The canonical absolute path; a file is read once only (C29).
    pub canonical: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Why a file cannot be read, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// A source without files: every `include` fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Source for NoFiles {
    fn open(&self, path: &str) -> Result<SourceText, SourceError> {
        Err(SourceError(format!("'{path}' cannot be opened here")))
    }

    fn include(&self, _from: &str, pattern: &str) -> Result<Vec<SourceText>, SourceError> {
        Err(SourceError(format!("'{pattern}' cannot be opened here")))
    }
}

/// The files read, kept for messages.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    files: Vec<SourceFile>,
}

impl SourceMap {
    /// Adds a file. `None` if one of this canonical path is there already (C29), or if there is no
    /// room for another.
    pub fn add(&mut self, text: SourceText) -> Option<FileId> {
        if self.files.len() >= MAX_FILES || self.files.iter().any(|file| file.canonical == text.canonical) {
            return None;
        }
        let id = FileId(u32::try_from(self.files.len()).ok()?);
        self.files.push(SourceFile::new(text));
        Some(id)
    }

    /// The file `id`.
    #[must_use]
    pub fn file(&self, id: FileId) -> &SourceFile {
        &self.files[id.0 as usize]
    }

    /// Whether the limit on files is reached.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.files.len() >= MAX_FILES
    }

    /// Line and column where `span` starts.
    #[must_use]
    pub fn position(&self, span: Span) -> Position {
        self.file(span.file).position(span.start)
    }

    /// The text of `span`.
    #[must_use]
    pub fn text(&self, span: Span) -> &str {
        self.file(span.file).text.get(span.range()).unwrap_or_default()
    }
}

/// One file's text with its lines.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The name for messages.
    pub name: String,
    /// The canonical path.
    pub canonical: String,
    /// The text; bytes that are not UTF-8 became U+FFFD.
    pub text: String,
    line_starts: Vec<u32>,
}

impl SourceFile {
    fn new(source: SourceText) -> Self {
        let mut bytes = source.bytes;
        bytes.truncate(MAX_FILE_BYTES);
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(breaks.map(|(at, _)| at as u32 + 1)).collect();
        Self { name: source.name, canonical: source.canonical, text, line_starts }
    }

    fn position(&self, offset: u32) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts[line - 1] as usize;
        let before = self.text.get(start..offset as usize).unwrap_or_default();
        Position { line: line as u32, column: before.chars().count() as u32 + 1 }
    }
}

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(u32);

/// A run of bytes in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// Byte behind the last one.
    pub end: u32,
}

impl Span {
    /// The bytes as a range.
    #[must_use]
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The empty run right behind this one.
    #[must_use]
    pub const fn behind(self) -> Self {
        Self { file: self.file, start: self.end, end: self.end }
    }

    /// The run from the start of this one to the end of `last`, if both are in one file.
    #[must_use]
    pub fn to(self, last: Self) -> Self {
        if self.file == last.file { Self { end: last.end.max(self.end), ..self } } else { self }
    }
}

/// A place for people: both numbers count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> (SourceMap, FileId) {
        let mut map = SourceMap::default();
        let text = SourceText { name: "t".into(), canonical: "/t".into(), bytes: text.into() };
        let id = map.add(text).unwrap();
        (map, id)
    }

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        let (map, file) = map("ä b\nc\n");
        let at = |start| map.position(Span { file, start, end: start });
        assert_eq!(at(0), Position { line: 1, column: 1 });
        assert_eq!(at(3), Position { line: 1, column: 3 });
        assert_eq!(at(5), Position { line: 2, column: 1 });
        assert_eq!(at(7), Position { line: 3, column: 1 });
    }

    #[test]
    fn a_file_comes_in_once() {
        let (mut map, _) = map("");
        let again = SourceText { name: "other".into(), canonical: "/t".into(), bytes: vec![] };
        assert_eq!(map.add(again), None); // C29
    }
}
