//! Words as a shell wants them (L38a).

/// The words of a command line, escaped and joined by blanks.
#[must_use]
pub fn join_escaped<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Vec<u8> {
    let words: Vec<Vec<u8>> = words.into_iter().map(|word| escape(word.as_ref())).collect();
    words.join(&b' ')
}

/// A word with a backslash before every byte that is not plain, each byte of a multi-byte
/// character by itself. The result need not be UTF-8.
#[must_use]
pub fn escape(word: &str) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(word.len());
    for &byte in word.as_bytes() {
        if !(byte.is_ascii_alphanumeric() || b"%+-./:=@_".contains(&byte)) {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_plain_bytes_gets_a_backslash() {
        for (word, escaped) in [
            ("ipv6:[fd00::1]:7788", "ipv6:\\[fd00::1\\]:7788"),
            ("--cpu-mask=1,ff", "--cpu-mask=1\\,ff"),
            ("my res", "my\\ res"),
            ("--shared-secret=a'b$c", "--shared-secret=a\\'b\\$c"),
            ("a\nb", "a\\\nb"),
            ("", ""),
        ] {
            assert_eq!(escape(word), escaped.as_bytes(), "{word:?}");
        }
        assert_eq!(escape("é"), b"\\\xc3\\\xa9");
        assert_eq!(join_escaped(["a b", "", "c"]), b"a\\ b  c");
    }
}
