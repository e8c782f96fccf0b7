//! What is wrong with a configuration, all of it at once: as plain lines and as marked snippets.

use std::fmt;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::source::{SourceMap, Span};

/// Messages kept for one configuration, at most; more would not help anybody.
const MAX_DIAGNOSTICS: usize = 200;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration can be used.
    Warning,
    /// It cannot.
    Error,
}

/// One message about one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub span: Span,
    /// What is wrong, in one line.
    pub message: String,
    /// Other places that belong to it, each with a line of text.
    pub notes: Vec<(Span, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, span, message: message.into(), notes: Vec::new(), help: None }
    }

    /// A warning at `span`.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// Adds another place.
    #[must_use]
    pub fn note(mut self, span: Span, text: impl Into<String>) -> Self {
        self.notes.push((span, text.into()));
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

/// Collects messages while a configuration is read.
#[derive(Debug, Default)]
pub struct Sink {
    diagnostics: Vec<Diagnostic>,
    dropped: usize,
}

impl Sink {
    /// Adds a message, unless it is there already or there are too many.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.contains(&diagnostic) {
            return;
        }
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        } else {
            self.dropped += 1;
            // An error must not get lost among warnings.
            if diagnostic.severity == Severity::Error
                && let Some(last) = self.diagnostics.last_mut()
            {
                *last = diagnostic;
            }
        }
    }

    /// Whether enough is wrong: what else there is would not be shown.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let last = self.diagnostics.last();
        self.diagnostics.len() >= MAX_DIAGNOSTICS && last.is_some_and(|last| last.severity == Severity::Error)
    }

    /// Adds an error.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::error(span, message));
    }

    /// Adds a warning.
    pub fn warning(&mut self, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::warning(span, message));
    }

    /// The report, in the order of the text.
    #[must_use]
    pub fn finish(mut self, files: Arc<SourceMap>) -> Report {
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.span.file, diagnostic.span.start));
        Report { files, diagnostics: self.diagnostics, dropped: self.dropped }
    }
}

/// Everything there is to say about a configuration, in the order of the text.
///
/// `Display` gives one line a message, `FILE:LINE:COLUMN: MESSAGE`.
#[derive(Clone, Debug)]
pub struct Report {
    files: Arc<SourceMap>,
    diagnostics: Vec<Diagnostic>,
    dropped: usize,
}

impl Report {
    /// The messages.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// Whether a message is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// The files the messages speak of.
    #[must_use]
    pub fn files(&self) -> &SourceMap {
        &self.files
    }

    /// For a terminal: each message as its plain line, then the marked text. `color` adds escape
    /// sequences.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for diagnostic in &self.diagnostics {
            out.push_str(&self.head_line(diagnostic));
            out.push('\n');
            out.push_str(&renderer.render(&[self.group(diagnostic)]));
            out.push_str("\n\n");
        }
        out.push_str(&self.tail());
        out
    }

    /// `FILE:LINE:COLUMN`.
    fn place(&self, span: Span) -> String {
        format!("{}:{}", self.files.file(span.file).name, self.files.position(span))
    }

    fn head_line(&self, diagnostic: &Diagnostic) -> String {
        let level = match diagnostic.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        format!("{}: {level}{}", self.place(diagnostic.span), diagnostic.message)
    }

    fn tail(&self) -> String {
        match self.dropped {
            0 => String::new(),
            _ => format!("more than {MAX_DIAGNOSTICS} messages; the rest is not shown\n"),
        }
    }

    /// The marked text, without a title: the plain line above it is the title.
    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let file = self.files.file(diagnostic.span.file);
        let mut snippet = Snippet::source(file.text.as_str())
            .path(file.name.as_str())
            .annotation(AnnotationKind::Primary.span(visible(diagnostic.span, &file.text)));
        for (span, text) in &diagnostic.notes {
            if span.file == diagnostic.span.file {
                let mark = AnnotationKind::Context.span(visible(*span, &file.text));
                snippet = snippet.annotation(mark.label(text.as_str()));
            }
        }
        let mut group = Group::with_level(level).element(snippet);
        for (span, text) in &diagnostic.notes {
            if span.file != diagnostic.span.file {
                group = group.element(Level::NOTE.message(format!("{}: {text}", self.place(*span))));
            }
        }
        match &diagnostic.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{}", self.head_line(diagnostic))?;
            for (span, text) in &diagnostic.notes {
                writeln!(f, "{}: {text}", self.place(*span))?;
            }
        }
        f.write_str(&self.tail())
    }
}

impl std::error::Error for Report {}

/// The bytes to mark: an empty run marks the character behind it, as far as there is one.
fn visible(span: Span, text: &str) -> std::ops::Range<usize> {
    let range = span.range();
    let start = range.start.min(text.len());
    let end = range.end.clamp(start, text.len());
    if start < end {
        return start..end;
    }
    let next = text.get(start..).and_then(|rest| rest.chars().next()).filter(|next| *next != '\n');
    start..start + next.map_or(0, char::len_utf8)
}
