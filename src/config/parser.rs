//! Tokens to a tree of statements, whatever they say: `words ;` or `words { statements }`.
//!
//! The shape alone is checked here: braces and semicolons. What the words mean is the resolver's
//! matter. A mistake in one statement does not hide those behind it.

use super::error::{Diagnostic, Sink};
use super::lexer::{Lexer, Token, TokenKind};
use super::source::{FileId, Span};

/// How deep sections nest, at most; the language itself needs four levels.
pub const MAX_DEPTH: usize = 16;

/// One word of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its text, without quotes.
    pub text: String,
    /// What it is: a word, a string, a mark or unknown bytes.
    pub kind: TokenKind,
    /// Where it stands.
    pub span: Span,
    /// Whether a message about it exists already.
    pub broken: bool,
}

impl Word {
    /// Whether it is the bare word `keyword`; a quoted one is no keyword (C16, C18).
    #[must_use]
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text == keyword
    }

    /// Whether it can be a name or a value: a bare word or a string.
    #[must_use]
    pub const fn is_text(&self) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::Quoted)
    }
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its words, at least one.
    pub words: Vec<Word>,
    /// How it ends.
    pub end: End,
}

impl Node {
    /// The place of the first word.
    #[must_use]
    pub fn span(&self) -> Span {
        match (&self.words[..], &self.end) {
            ([first, ..], _) => first.span,
            ([], End::Semicolon(span) | End::Missing(span)) => *span,
            ([], End::Block(block)) => block.open,
        }
    }
}

/// How a statement ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With `;`.
    Semicolon(Span),
    /// With nothing, where a `;` was due; the message about it exists.
    Missing(Span),
    /// With a body in braces.
    Block(Block),
}

/// The body of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its `{`.
    pub open: Span,
    /// Its `}`, or where that was missed.
    pub close: Span,
    /// What stands between.
    pub nodes: Vec<Node>,
}

/// Reads a whole file. Always gives a tree; what is wrong with the text is in `sink`.
pub fn parse(file: FileId, text: &str, sink: &mut Sink) -> Vec<Node> {
    Parser { lexer: Lexer::new(file, text), sink, frames: vec![Frame::default()], words: Vec::new() }.run()
}

/// A body that is still open.
#[derive(Default)]
struct Frame {
    /// The words before its brace, and the brace; nothing at top level.
    head: Option<(Vec<Word>, Span)>,
    nodes: Vec<Node>,
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    sink: &'a mut Sink,
    /// Never empty: the first frame is the file's top level.
    frames: Vec<Frame>,
    words: Vec<Word>,
}

impl Parser<'_> {
    fn run(mut self) -> Vec<Node> {
        loop {
            let token = self.lexer.next(self.sink);
            match token.kind {
                TokenKind::Word | TokenKind::Quoted | TokenKind::Mark | TokenKind::Unknown => {
                    self.words.push(Word {
                        text: token.text,
                        kind: token.kind,
                        span: token.span,
                        broken: token.broken,
                    });
                }
                TokenKind::Semicolon => self.semicolon(token.span),
                TokenKind::Open => self.open(token.span),
                TokenKind::Close => self.close(token.span),
                TokenKind::End => return self.end(&token),
            }
        }
    }

    fn push_node(&mut self, node: Node) {
        if let Some(frame) = self.frames.last_mut() {
            frame.nodes.push(node);
        }
    }

    fn semicolon(&mut self, span: Span) {
        if self.words.is_empty() {
            let error = Diagnostic::error(span, "stray ';'");
            self.sink.push(error.help("no ';' follows a '}'; remove it"));
            return;
        }
        let words = std::mem::take(&mut self.words);
        self.push_node(Node { words, end: End::Semicolon(span) });
    }

    /// Ends a statement at a place where a `;` was due.
    fn missing_semicolon(&mut self) {
        let words = std::mem::take(&mut self.words);
        let Some(last) = words.last() else { return };
        let at = last.span.behind();
        if !last.broken {
            self.sink.error(at, format!("missing ';' after '{}'", last.text));
        }
        self.push_node(Node { words, end: End::Missing(at) });
    }

    fn open(&mut self, span: Span) {
        let words = std::mem::take(&mut self.words);
        if words.first().is_some_and(|word| word.is("skip")) {
            self.skip_block(words.first().map_or(span, |word| word.span), "this skip"); // C33
            return;
        }
        if words.is_empty() {
            self.sink.error(span, "a section needs a name before its '{'");
        }
        if self.frames.len() > MAX_DEPTH {
            self.sink.error(span, format!("sections nest deeper than {MAX_DEPTH} levels"));
            self.skip_block(span, "this");
            return;
        }
        self.frames.push(Frame { head: Some((words, span)), nodes: Vec::new() });
    }

    /// Passes everything up to the brace that matches the one just read.
    fn skip_block(&mut self, start: Span, what: &str) {
        let mut depth = 1_usize;
        let mut ignored = Sink::default();
        while depth > 0 {
            match self.lexer.next(&mut ignored).kind {
                TokenKind::Open => depth += 1,
                TokenKind::Close => depth -= 1,
                TokenKind::End => {
                    self.sink.error(start, format!("{what} block is never closed with '}}'"));
                    return;
                }
                TokenKind::Word
                | TokenKind::Quoted
                | TokenKind::Semicolon
                | TokenKind::Mark
                | TokenKind::Unknown => {}
            }
        }
    }

    fn close(&mut self, span: Span) {
        self.missing_semicolon();
        if self.frames.len() == 1 {
            self.sink.error(span, "'}' without a '{' before it");
            return;
        }
        self.finish_frame(span);
    }

    fn finish_frame(&mut self, close: Span) {
        let Some(Frame { head: Some((words, open)), nodes }) = self.frames.pop() else { return };
        if !words.is_empty() {
            self.push_node(Node { words, end: End::Block(Block { open, close, nodes }) });
        }
    }

    fn end(mut self, end: &Token) -> Vec<Node> {
        self.missing_semicolon();
        while self.frames.len() > 1 {
            if let Some(Frame { head: Some((words, open)), .. }) = self.frames.last() {
                let name: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
                let message = format!("unexpected end of file: '{} {{' is not closed", name.join(" "));
                self.sink.push(Diagnostic::error(end.span, message).note(*open, "opened here")); // C24
            }
            self.finish_frame(end.span);
        }
        self.frames.pop().map(|frame| frame.nodes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{SourceMap, SourceText};
    use super::*;

    fn messages(text: &str) -> (Vec<Node>, Vec<String>) {
        let mut map = SourceMap::default();
        let source = SourceText { name: "t".into(), canonical: "t".into(), bytes: text.into() };
        let file = map.add(source).unwrap();
        let mut sink = Sink::default();
        let nodes = parse(file, text, &mut sink);
        let report = sink.finish(std::sync::Arc::new(map));
        (nodes, report.to_string().lines().map(str::to_owned).collect())
    }

    #[test]
    fn a_missing_semicolon_is_reported_behind_the_last_word() {
        let (nodes, messages) = messages("net { timeout 60 }"); // E6
        assert_eq!(messages, ["t:1:17: missing ';' after '60'"]);
        let End::Block(block) = &nodes[0].end else { panic!() };
        assert_eq!(block.nodes[0].words[1].text, "60");
    }

    #[test]
    fn the_end_of_the_file_closes_nothing_silently() {
        let (nodes, messages) = messages("resource r0 {\n  net {\n");
        assert_eq!(nodes.len(), 1);
        assert_eq!(
            messages,
            [
                "t:3:1: unexpected end of file: 'net {' is not closed",
                "t:2:7: opened here",
                "t:3:1: unexpected end of file: 'resource r0 {' is not closed",
                "t:1:13: opened here",
            ]
        ); // C24
    }

    #[test]
    fn a_skipped_block_may_hold_anything_with_matching_braces() {
        let (nodes, found) = messages("skip resource r1 { a { \"}\" ' } ; ; b }\nc;"); // C33
        assert_eq!(found, [] as [&str; 0]);
        assert_eq!(nodes.len(), 1);
        let (_, found) = messages("skip {\n {} ");
        assert_eq!(found, ["t:1:1: this skip block is never closed with '}'"]);
    }

    #[test]
    fn stray_marks_are_reported_one_by_one() {
        let (_, messages) = messages("a {};\n}\n{ x; }\nb;");
        assert_eq!(
            messages,
            [
                "t:1:5: stray ';'",
                "t:2:1: '}' without a '{' before it",
                "t:3:1: a section needs a name before its '{'"
            ]
        ); // C25
    }

    #[test]
    fn nesting_is_bounded() {
        let (_, found) = messages(&format!("{}{}", "a {".repeat(5000), "}".repeat(5000)));
        assert_eq!(found.len(), 1, "{found:?}");
        let (_, found) = messages(&"a {".repeat(5000));
        assert!(found.len() < 100);
    }
}
