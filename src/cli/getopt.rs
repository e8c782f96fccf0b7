//! Command lines read the way GNU getopt does: options anywhere, abbreviated, `--name=value` or
//! `--name value`, up to a lone `--` (L15, L61).
//!
//! clap reads `urbd`'s own command line. The three tools need this one, because scripts rely on what
//! it accepts: options of the helper among those of the tool, first matches of abbreviations, and
//! words in front of the command.

/// An option that a command line may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name, without dashes.
    pub name: &'static str,
    /// Its letter, if it has one.
    pub letter: Option<char>,
    /// Whether it takes a value.
    pub value: Value,
    /// One of the tool's own, as opposed to one that a helper command takes. Abbreviations that fit
    /// several of the latter mean the first (L18 c).
    pub general: bool,
}

impl OptionSpec {
    /// One of the tool's own options.
    #[must_use]
    pub const fn general(name: &'static str, letter: Option<char>, value: Value) -> Self {
        Self { name, letter, value, general: true }
    }

    /// An option of a command.
    #[must_use]
    pub const fn of_command(name: &'static str, value: Value) -> Self {
        Self { name, letter: None, value, general: false }
    }
}

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Never.
    None,
    /// Always, after `=` or as the next word.
    Required,
    /// If it comes with `=`: a boolean, `yes` when it stands alone.
    Optional,
}

/// A piece of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// An option, by its full name.
    Option {
        /// Its name.
        name: &'static str,
        /// Its value, if it came with one.
        value: Option<String>,
    },
    /// Any other word.
    Word(String),
    /// The lone `--`; after it there are only words.
    DashDash,
}

/// What is wrong with an option. The texts are GNU getopt's, to follow `PROGRAM: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No option has this name.
    #[error("unrecognized option '{0}'")]
    Unknown(String),
    /// No option has this letter.
    #[error("invalid option -- '{0}'")]
    UnknownLetter(char),
    /// Several options begin like this.
    #[error("option '{given}' is ambiguous; possibilities:{possibilities}")]
    Ambiguous {
        /// As given.
        given: String,
        /// ` '--a' '--b'`.
        possibilities: String,
    },
    /// The value is missing.
    #[error("option '--{0}' requires an argument")]
    ValueMissing(&'static str),
    /// The value is missing.
    #[error("option requires an argument -- '{0}'")]
    LetterValueMissing(char),
    /// There must be no value.
    #[error("option '--{0}' doesn't allow an argument")]
    ValueGiven(&'static str),
}

/// Takes a command line (without the program's name) apart.
///
/// # Errors
/// [`OptionError`], for the first option that is wrong.
pub fn parse(words: &[String], specs: &[OptionSpec]) -> Result<Vec<Piece>, OptionError> {
    let mut pieces = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            pieces.push(Piece::DashDash);
            pieces.extend(words.by_ref().cloned().map(Piece::Word));
        } else if let Some(long) = word.strip_prefix("--") {
            pieces.push(parse_long(word, long, &mut words, specs)?);
        } else if word.len() > 1 && word.starts_with('-') {
            parse_letters(&word[1..], &mut words, specs, &mut pieces)?;
        } else {
            pieces.push(Piece::Word(word.clone()));
        }
    }
    Ok(pieces)
}

fn parse_long<'a>(
    word: &str,
    long: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    specs: &[OptionSpec],
) -> Result<Piece, OptionError> {
    let (given, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (long, None),
    };
    let spec = find(word, given, specs)?;
    let value = match (spec.value, value) {
        (Value::None, Some(_)) => return Err(OptionError::ValueGiven(spec.name)),
        (Value::Required, None) => match rest.next() {
            Some(next) => Some(next.clone()),
            None => return Err(OptionError::ValueMissing(spec.name)),
        },
        (Value::None | Value::Required | Value::Optional, value) => value,
    };
    Ok(Piece::Option { name: spec.name, value })
}

fn find<'a>(word: &str, given: &str, specs: &'a [OptionSpec]) -> Result<&'a OptionSpec, OptionError> {
    if let Some(exact) = specs.iter().find(|spec| spec.name == given) {
        return Ok(exact);
    }
    let fits: Vec<&OptionSpec> = specs.iter().filter(|spec| spec.name.starts_with(given)).collect();
    match fits.as_slice() {
        [] => Err(OptionError::Unknown(word.to_owned())),
        [only] => Ok(only),
        [first, ..] if !fits.iter().any(|spec| spec.general) => Ok(first),
        _ => {
            let possibilities = fits.iter().map(|spec| format!(" '--{}'", spec.name)).collect();
            let given = word.split('=').next().unwrap_or(word).to_owned();
            Err(OptionError::Ambiguous { given, possibilities })
        }
    }
}

fn parse_letters<'a>(
    letters: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    specs: &[OptionSpec],
    pieces: &mut Vec<Piece>,
) -> Result<(), OptionError> {
    for (at, letter) in letters.char_indices() {
        let Some(spec) = specs.iter().find(|spec| spec.letter == Some(letter)) else {
            return Err(OptionError::UnknownLetter(letter));
        };
        if spec.value != Value::Required {
            pieces.push(Piece::Option { name: spec.name, value: None });
            continue;
        }
        let behind = &letters[at + letter.len_utf8()..];
        let value = if behind.is_empty() { rest.next().cloned() } else { Some(behind.to_owned()) };
        let value = Some(value.ok_or(OptionError::LetterValueMissing(letter))?);
        pieces.push(Piece::Option { name: spec.name, value });
        break;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: [OptionSpec; 7] = [
        OptionSpec::general("config-file", Some('c'), Value::Required),
        OptionSpec::general("verbose", Some('v'), Value::None),
        OptionSpec::general("version", Some('V'), Value::None),
        OptionSpec::of_command("verify-alg", Value::Required),
        OptionSpec::of_command("discard-zeroes-if-aligned", Value::Optional),
        OptionSpec::of_command("discard-my-data", Value::Optional),
        OptionSpec::of_command("force", Value::Optional),
    ];

    fn read(line: &str) -> Result<Vec<Piece>, OptionError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words, &SPECS)
    }

    fn option(name: &'static str, value: Option<&str>) -> Piece {
        Piece::Option { name, value: value.map(str::to_owned) }
    }

    fn word(text: &str) -> Piece {
        Piece::Word(text.into())
    }

    #[test]
    fn options_stand_anywhere_and_values_behind_an_equals_sign_or_in_the_next_word() {
        let expected = [
            option("config-file", Some("f")),
            word("connect"),
            option("discard-my-data", None),
            word("r0"),
            option("verify-alg", Some("")),
            option("config-file", Some("-")),
        ];
        assert_eq!(read("-cf connect --discard-my-data r0 --verify-alg= -c -").unwrap(), expected);
        let expected =
            [option("verbose", None), option("config-file", Some("v")), option("force", Some("no"))];
        assert_eq!(read("-vcv --force=no").unwrap(), expected);
    }

    #[test]
    fn behind_a_double_dash_there_are_only_words() {
        assert_eq!(
            read("-- --force -- primary").unwrap(),
            [Piece::DashDash, word("--force"), word("--"), word("primary")]
        );
        assert_eq!(read("-").unwrap(), [word("-")]);
    }

    #[test]
    fn an_abbreviation_means_the_first_of_the_helpers_options() {
        assert_eq!(read("--discard").unwrap(), [option("discard-zeroes-if-aligned", None)]);
        assert_eq!(
            read("--ver").unwrap_err().to_string(),
            "option '--ver' is ambiguous; possibilities: '--verbose' '--version' '--verify-alg'"
        );
    }

    #[test]
    fn wrong_options_are_named_as_getopt_names_them() {
        for (line, text) in [
            ("--start=0", "unrecognized option '--start=0'"),
            ("-f", "invalid option -- 'f'"),
            ("--verbose=1", "option '--verbose' doesn't allow an argument"),
            ("--verify-alg", "option '--verify-alg' requires an argument"),
            ("-c", "option requires an argument -- 'c'"),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), text);
        }
    }
}
