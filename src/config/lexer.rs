//! Text to tokens (C10..C19). Nothing stops it: what is wrong becomes a message, and it goes on.

use super::error::{Diagnostic, Sink};
use super::source::{FileId, Span};

/// Bytes of a bare word, at most (C13).
pub const MAX_WORD_BYTES: usize = 128;
/// Bytes between two quotes, at most (C14).
pub const MAX_STRING_BYTES: usize = 255;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A run of word bytes (C13).
    Word,
    /// A double-quoted string (C14).
    Quoted,
    /// `{`
    Open,
    /// `}`
    Close,
    /// `;`
    Semicolon,
    /// `:`, `[` or `]`: parts of addresses and indices (C12).
    Mark,
    /// Bytes that mean nothing here (C12).
    Unknown,
    /// The end of the file.
    End,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its text, without quotes and backslashes.
    pub text: String,
    /// Where it stands.
    pub span: Span,
    /// Whether a message about it exists already, so that no other need follow.
    pub broken: bool,
}

/// Cuts a file into tokens.
#[derive(Debug)]
pub struct Lexer<'a> {
    file: FileId,
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of `text`.
    #[must_use]
    pub const fn new(file: FileId, text: &'a str) -> Self {
        Self { file, text, at: 0 }
    }

    /// The next token; [`TokenKind::End`] again and again at the end.
    pub fn next(&mut self, sink: &mut Sink) -> Token {
        self.skip_blank();
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            return self.token(TokenKind::End, start, false);
        };
        let kind = match first {
            '{' => TokenKind::Open,
            '}' => TokenKind::Close,
            ';' => TokenKind::Semicolon,
            ':' | '[' | ']' => TokenKind::Mark,
            '"' => return self.quoted(sink),
            _ if is_word(first) => return self.word(sink),
            _ => {
                self.advance_while(|c| !is_word(c) && !is_blank(c) && !"{};:[]\"#".contains(c));
                return self.token(TokenKind::Unknown, start, false);
            }
        };
        self.at += first.len_utf8();
        self.token(kind, start, false)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn advance_while(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    }

    /// Passes white space and comments (C10, C11).
    fn skip_blank(&mut self) {
        loop {
            self.advance_while(is_blank);
            if !self.rest().starts_with('#') {
                return;
            }
            self.advance_while(|c| c != '\n');
        }
    }

    fn word(&mut self, sink: &mut Sink) -> Token {
        let start = self.at;
        self.advance_while(is_word);
        let long = self.at - start > MAX_WORD_BYTES;
        let token = self.token(TokenKind::Word, start, long);
        if long {
            sink.error(token.span, format!("this word is longer than {MAX_WORD_BYTES} bytes"));
        }
        token
    }

    fn quoted(&mut self, sink: &mut Sink) -> Token {
        let start = self.at;
        let mut content = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        let mut closed = None;
        while let Some((offset, c)) = characters.next() {
            match c {
                '"' => {
                    closed = Some(offset + 1);
                    break;
                }
                '\n' => break,
                '\\' => match characters.next() {
                    Some((_, '\n')) | None => break,
                    Some((_, escaped)) => content.push(escaped),
                },
                _ => content.push(c),
            }
        }
        match closed {
            Some(length) => self.at = start + length,
            None => self.advance_while(|c| c != '\n'),
        }
        let mut token = self.token(TokenKind::Quoted, start, closed.is_none());
        if closed.is_none() {
            let message = "this string is not closed before the end of the line";
            sink.push(Diagnostic::error(token.span, message).help("end it with '\"'; a string has one line"));
        } else if content.len() > MAX_STRING_BYTES {
            token.broken = true;
            sink.error(token.span, format!("this string is longer than {MAX_STRING_BYTES} bytes"));
        } else if content.contains('\u{fffd}') {
            token.broken = true;
            sink.error(token.span, "this string is not valid UTF-8");
        }
        token.text = content;
        token
    }

    fn token(&self, kind: TokenKind, start: usize, broken: bool) -> Token {
        // Offsets fit: a file has at most `MAX_FILE_BYTES`, threefold with replacement characters.
        let span = Span { file: self.file, start: start as u32, end: self.at as u32 };
        Token { kind, text: self.text.get(start..self.at).unwrap_or_default().to_owned(), span, broken }
    }
}

/// White space: no form feed, no vertical tab (C10).
const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// What a bare word is made of (C13).
const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::super::source::{SourceMap, SourceText};
    use super::*;

    fn tokens(text: &str) -> (Vec<(TokenKind, String)>, usize) {
        let mut map = SourceMap::default();
        let source = SourceText { name: "t".into(), canonical: "t".into(), bytes: text.into() };
        let file = map.add(source).unwrap();
        let mut sink = Sink::default();
        let mut lexer = Lexer::new(file, text);
        let mut found = Vec::new();
        loop {
            let token = lexer.next(&mut sink);
            if token.kind == TokenKind::End {
                break;
            }
            found.push((token.kind, token.text));
        }
        (found, sink.finish(std::sync::Arc::new(map)).diagnostics().len())
    }

    #[test]
    fn a_comment_ends_a_word_and_a_string_keeps_its_hash() {
        // C11, E14
        let (found, errors) = tokens("abc#def\n\"a#b\" # x\n");
        let expected = [(TokenKind::Word, "abc".to_owned()), (TokenKind::Quoted, "a#b".to_owned())];
        assert_eq!(found, expected);
        assert_eq!(errors, 0);
    }

    #[test]
    fn a_backslash_removes_itself_and_keeps_the_next_byte() {
        // C14, E15
        let (found, errors) = tokens(r#""a\"b\\c\n\t x" """#);
        assert_eq!(found[0].1, r#"a"b\cnt x"#);
        assert_eq!(found[1].1, "");
        assert_eq!(errors, 0);
    }

    #[test]
    fn an_open_string_ends_with_its_line() {
        let (found, errors) = tokens("\"abc;\nnext;");
        assert_eq!(found[1], (TokenKind::Word, "next".to_owned()));
        assert_eq!(errors, 1);
    }

    #[test]
    fn a_form_feed_is_no_white_space() {
        let (found, _) = tokens("a\u{c}b");
        assert_eq!(found[1].0, TokenKind::Unknown); // C10
    }

    #[test]
    fn words_and_strings_have_limits() {
        let (_, errors) = tokens(&"w".repeat(MAX_WORD_BYTES));
        assert_eq!(errors, 0);
        let (_, errors) = tokens(&"w".repeat(MAX_WORD_BYTES + 1));
        assert_eq!(errors, 1);
        let (_, errors) = tokens(&format!("\"{}\"", "s".repeat(MAX_STRING_BYTES + 1)));
        assert_eq!(errors, 1);
    }
}
