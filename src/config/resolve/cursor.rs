//! Walks the words of one statement and reports what does not belong there.

use super::super::error::{Diagnostic, Sink};
use super::super::lexer::TokenKind;
use super::super::parser::{Block, End, Node, Word};
use super::super::source::{SourceMap, Span};

/// Words that cannot be names unless quoted (C16, C19).
pub(super) const KEYWORDS: &[&str] = &[
    "global",
    "common",
    "resource",
    "on",
    "_this_host",
    "_remote_host",
    "_peer_node_id",
    "floating",
    "stacked-on-top-of",
    "ignore-on",
    "connection",
    "connection-mesh",
    "path",
    "host",
    "hosts",
    "port",
    "via",
    "peer",
    "proxy",
    "inside",
    "outside",
    "plugin",
    "options",
    "net",
    "disk",
    "startup",
    "handlers",
    "syncer",
    "volume",
    "device",
    "minor",
    "meta-disk",
    "flexible-meta-disk",
    "address",
    "node-id",
    "include",
    "skip",
    "template-file",
    "ipv4",
    "ipv6",
    "sdp",
    "ssocks",
    "sci",
    "yes",
    "no",
    "ask",
    "internal",
    "usage-count",
    "and",
];

/// The words of a statement, read from the left.
pub(super) struct Cursor<'n> {
    words: &'n [Word],
    end: &'n End,
    at: usize,
}

/// Reads every statement of a body with `handle`, which takes the words it understands. What it
/// leaves is the next statement behind a forgotten `;` (C25), or rubbish.
pub(super) fn each_statement<'n>(
    nodes: &'n [Node],
    files: &SourceMap,
    sink: &mut Sink,
    mut handle: impl FnMut(&mut Cursor<'n>, &mut Sink),
) {
    for node in nodes {
        if sink.is_full() {
            return; // Guessing what a million wrong words could mean would take for ever.
        }
        let mut cursor = Cursor { words: &node.words, end: &node.end, at: 0 };
        loop {
            let before = cursor.at;
            handle(&mut cursor, sink);
            if cursor.at == before {
                cursor.at += 1; // A handler that takes nothing must not hold us for ever.
            }
            if cursor.at >= cursor.words.len() || sink.is_full() || !cursor.split(files, sink) {
                break;
            }
        }
    }
}

impl<'n> Cursor<'n> {
    /// The next word, without taking it.
    pub(super) fn peek(&self) -> Option<&'n Word> {
        self.words.get(self.at)
    }

    /// Takes the next word.
    pub(super) fn take(&mut self) -> Option<&'n Word> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    /// Takes the next word if it is this bare word.
    pub(super) fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.peek().is_some_and(|word| word.is(keyword));
        self.at += usize::from(found);
        found
    }

    /// Takes all words that are left.
    pub(super) fn take_rest(&mut self) -> &'n [Word] {
        let rest = self.words.get(self.at..).unwrap_or_default();
        self.at = self.words.len();
        rest
    }

    /// Puts the last `count` words back.
    pub(super) const fn give_back(&mut self, count: usize) {
        self.at = self.at.saturating_sub(count);
    }

    /// Whether the statement ends in a body, however many words stand before it.
    pub(super) const fn has_body(&self) -> bool {
        matches!(self.end, End::Block(_))
    }

    /// Whether the word behind the next one is a path: `disk PATH`, not `disk { }`.
    pub(super) fn disk_path_follows(&self) -> bool {
        self.words.len() > self.at + 1 || !self.has_body()
    }

    /// The place of the last word taken, or of the first one.
    pub(super) fn last_span(&self) -> Span {
        match self.words.get(self.at.saturating_sub(1)) {
            Some(word) => word.span,
            None => self.end_span(),
        }
    }

    fn end_span(&self) -> Span {
        match self.end {
            End::Semicolon(span) | End::Missing(span) => *span,
            End::Block(block) => block.open,
        }
    }

    /// The body behind the words, once all of them are taken.
    pub(super) fn body(&self) -> Option<&'n Block> {
        match self.end {
            End::Block(block) if self.at >= self.words.len() => Some(block),
            End::Block(_) | End::Semicolon(_) | End::Missing(_) => None,
        }
    }

    /// Takes the body that must follow here.
    pub(super) fn expect_body(&mut self, what: &str, sink: &mut Sink) -> Option<&'n Block> {
        if self.body().is_none() {
            let at = self.peek().map_or_else(|| self.end_span(), |word| word.span);
            sink.error(at, format!("'{{' expected after '{what}'"));
            self.take_rest();
        }
        self.body()
    }

    /// Reports a body where a statement had to end.
    pub(super) fn expect_no_body(&self, sink: &mut Sink) {
        if let Some(block) = self.body() {
            sink.error(block.open, "';' expected, but got '{'");
        }
    }

    /// Takes a name or value: any word or string.
    pub(super) fn take_text(&mut self, what: &str, sink: &mut Sink) -> Option<&'n Word> {
        match self.peek() {
            Some(word) if word.is_text() => self.take(),
            Some(word) => {
                unexpected(word, sink);
                self.take_rest();
                None
            }
            None => {
                sink.error(self.last_span().behind(), format!("{what} expected"));
                None
            }
        }
    }

    /// Takes a name: a string, or a word that is neither a keyword nor a number (C16).
    pub(super) fn take_name(&mut self, what: &str, sink: &mut Sink) -> Option<&'n Word> {
        let word = self.take_text(what, sink)?;
        check_name(word, what, sink);
        Some(word)
    }

    /// Takes a whole number without a suffix, between `min` and `max`.
    pub(super) fn take_number(&mut self, what: &str, min: u64, max: u64, sink: &mut Sink) -> Option<u64> {
        let word = self.take_text(what, sink)?;
        let digits = !word.text.is_empty() && word.text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            sink.error(word.span, format!("{what} must be a number, but is '{}'", word.text));
            return None;
        }
        let number = word.text.parse().unwrap_or(u64::MAX);
        if (min..=max).contains(&number) {
            return Some(number);
        }
        sink.error(word.span, format!("{what} {} is out of range: allowed are {min} to {max}", word.text));
        None
    }

    /// What is left after a statement: another one behind a forgotten `;`. Tells whether to go on.
    fn split(&mut self, files: &SourceMap, sink: &mut Sink) -> bool {
        let (Some(previous), Some(next)) = (self.words.get(self.at - 1), self.words.get(self.at)) else {
            return false;
        };
        if !next.is_text() {
            unexpected(next, sink);
            return false;
        }
        if previous.broken {
            return true;
        }
        let behind = previous.span.behind();
        let error = Diagnostic::error(behind, format!("missing ';' after '{}'", previous.text));
        let file = files.file(behind.file);
        let comment = file.text.get(behind.start as usize..).is_some_and(|rest| rest.starts_with('#'));
        sink.push(if comment {
            error.help("'#' starts a comment; put a value with '#' in quotes")
        } else {
            error
        });
        true
    }
}

/// Reports a bare keyword or number where a name stands.
pub(super) fn check_name(word: &Word, what: &str, sink: &mut Sink) {
    let bare = word.kind == TokenKind::Word;
    let number = word.text.len() <= 8 && word.text.bytes().all(|byte| byte.is_ascii_digit());
    if bare && KEYWORDS.contains(&word.text.as_str()) {
        let message = format!("the keyword '{}' cannot be {what} unless it is quoted", word.text);
        sink.push(Diagnostic::error(word.span, message).help(format!("write \"{}\"", word.text)));
    } else if bare && number {
        let message = format!("the number {} cannot be {what} unless it is quoted", word.text);
        sink.push(Diagnostic::error(word.span, message).help(format!("write \"{}\"", word.text)));
    }
}

/// Reports a mark or unknown bytes.
pub(super) fn unexpected(word: &Word, sink: &mut Sink) {
    let text: String = word.text.chars().take(20).collect();
    let error = Diagnostic::error(word.span, format!("unexpected '{}'", text.escape_debug()));
    let help = if text.starts_with('\'') {
        "single quotes do not quote here; use \""
    } else if text.starts_with("//") || text.starts_with("/*") {
        "a comment starts with '#'"
    } else {
        "put a value with such characters in double quotes"
    };
    sink.push(error.help(help));
}
