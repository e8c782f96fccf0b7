//! What a command says, and asks (M113).

use std::io::{BufRead, Write};

/// The two streams of a command, and where its answers come from.
pub struct Dialogue<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    answers: Answers<'a>,
}

/// Who answers questions.
pub enum Answers<'a> {
    /// `--force`: yes to everything.
    Force,
    /// Nobody is there: no to everything.
    Nobody,
    /// Somebody at a terminal.
    Terminal(&'a mut dyn BufRead),
}

impl<'a> Dialogue<'a> {
    /// A dialogue over these streams.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write, answers: Answers<'a>) -> Self {
        Self { out, err, answers }
    }

    /// Prints on stdout as it is. A broken pipe is no error: whoever closed it has seen enough.
    pub fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
    }

    /// Prints a line on stdout.
    pub fn say(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}");
    }

    /// Prints a line on stderr.
    pub fn warn(&mut self, line: &str) {
        // What was said before comes first, also where both streams are the same file.
        let _ = self.out.flush();
        let _ = writeln!(self.err, "{line}");
    }

    /// Whether somebody forces the command.
    #[must_use]
    pub const fn is_forced(&self) -> bool {
        matches!(self.answers, Answers::Force)
    }

    /// Asks; only `--force`, or exactly `yes` at a terminal, means yes.
    pub fn confirm(&mut self, question: &str) -> bool {
        self.warn(&format!("\n{question}"));
        match &mut self.answers {
            Answers::Force => {
                self.warn("*** confirmation forced via --force option ***");
                true
            }
            Answers::Nobody => {
                self.warn("stdin not a TTY, not waiting for confirmation");
                false
            }
            Answers::Terminal(input) => {
                let _ = self.err.write_all(b"[need to type 'yes' to confirm] ");
                let _ = self.err.flush();
                let mut line = String::new();
                input.read_line(&mut line).is_ok() && line == "yes\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(input: &str) -> bool {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut input = input.as_bytes();
        Dialogue::new(&mut out, &mut err, Answers::Terminal(&mut input)).confirm("Sure?")
    }

    #[test]
    fn only_yes_is_yes() {
        assert!(ask("yes\n"));
        for other in ["y\n", "yes", "YES\n", " yes\n", "no\n", ""] {
            assert!(!ask(other), "{other:?}");
        }
    }
}
