//! The command line of `urbdadm`, understood (L15 to L20).

use super::adm_verbs::{self, Action, GENERAL, VERBS, Verb};
use super::console::Setting;
use super::getopt::{self, OptionError, OptionSpec, Piece};
use super::plan::Extra;
use super::setup_verbs;

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The command; none was given if `None`.
    pub(super) verb: Option<&'static Verb>,
    /// What it is about, as typed.
    pub(super) targets: Vec<String>,
    /// Options and words for its helpers (L18, L20).
    pub(super) extra: Extra,
    /// `-d`
    pub(super) dry_run: bool,
    /// `-v`
    pub(super) verbose: bool,
    /// `-c`
    pub(super) config_file: Option<String>,
    /// `-t`
    pub(super) appended: Vec<String>,
    /// `-s`
    pub(super) setup_program: Option<String>,
    /// `-m`
    pub(super) meta_program: Option<String>,
    /// `-n`
    pub(super) variable: Option<String>,
    /// `-P`
    pub(super) peer: Option<String>,
    /// `-V`
    pub(super) version: bool,
    /// `-h`, `--help`
    pub(super) help: bool,
    /// The word `help` in the place of the command.
    pub(super) asks_for_help: bool,
    /// Where the daemon is, and which node this is.
    pub(super) setting: Setting,
}

/// What is wrong with a command line. The texts follow `PROGRAM: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UsageFault {
    /// An option that is none, or has the wrong form.
    #[error("{0}\ntry 'urbdadm help'")]
    Option(#[from] OptionError),
    /// An option of another command.
    #[error("unrecognized option '--{option}'\ntry 'urbdadm help {verb}'")]
    OtherVerbs {
        /// The option.
        option: &'static str,
        /// The command.
        verb: &'static str,
    },
    /// No such command.
    #[error("Unknown command '{word}'{suggestion}")]
    UnknownVerb {
        /// As typed.
        word: String,
        /// `; did you mean ...?`, or nothing.
        suggestion: String,
    },
    /// A word in front of the command that its helper does not take.
    #[error("'{word}' in front of '{verb}' is no option of it\ntry 'urbdadm help {verb}'")]
    Extra {
        /// The word.
        word: String,
        /// The command.
        verb: &'static str,
    },
    /// `-t` with a command that does not allow it (L17).
    #[error("The --config-to-test (-t) option is only allowed with the dump and sh-nop commands")]
    ConfigToTest,
    /// `-S`: no stacked resources here.
    #[error("stacked resources (-S) are not available in urbd")]
    Stacked,
}

impl Request {
    /// Understands a command line without the program's name.
    ///
    /// # Errors
    /// [`UsageFault`].
    pub(super) fn parse(words: &[String], setting: &Setting) -> Result<Self, UsageFault> {
        let pieces = getopt::parse(words, &all_options())?;
        let mut request = Self::empty(setting);
        let (mut before, mut options, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Option { name, value } if is_general(name) => request.general(name, value)?,
                Piece::Option { name, value } => options.push((name, value)),
                Piece::Word(word) => plain.push(word),
                Piece::DashDash => {}
            }
        }
        // `help CMD`: the command is asked about, not given.
        if plain.first().is_some_and(|word| word == "help") {
            request.asks_for_help = true;
            request.help = true;
            plain.remove(0);
            request.verb = plain.first().and_then(|word| adm_verbs::find(word));
            return Ok(request);
        }
        if let Some(at) = plain.iter().position(|word| adm_verbs::find(word).is_some()) {
            request.targets = plain.split_off(at + 1);
            request.verb = plain.pop().and_then(|word| adm_verbs::find(&word));
            before = plain;
        } else if let Some(word) = plain.first()
            && !request.version
            && !request.help
        {
            return Err(unknown_verb(word));
        }
        if let Some(verb) = request.verb {
            let given = extra(verb, before, options)?;
            request.extra = Extra::new([given.words(), request.extra.words()].concat());
            let tests = matches!(verb.name, "dump" | "dump-xml" | "sh-nop");
            if !request.appended.is_empty() && !tests {
                return Err(UsageFault::ConfigToTest);
            }
        }
        Ok(request)
    }

    fn empty(setting: &Setting) -> Self {
        Self {
            verb: None,
            targets: Vec::new(),
            extra: Extra::default(),
            dry_run: false,
            verbose: false,
            config_file: None,
            appended: Vec::new(),
            setup_program: None,
            meta_program: None,
            variable: None,
            peer: None,
            version: false,
            help: false,
            asks_for_help: false,
            setting: setting.clone(),
        }
    }

    fn general(&mut self, name: &str, value: Option<String>) -> Result<(), UsageFault> {
        match name {
            "dry-run" => self.dry_run = true,
            "verbose" => self.verbose = true,
            "config-file" => self.config_file = value,
            "config-to-test" => self.appended.extend(value),
            "drbdsetup" => self.setup_program = value,
            "drbdmeta" => self.meta_program = value,
            // Anything but a plain name would be evaluated by the script that reads it (L17).
            "sh-varname" => self.variable = value.filter(|name| is_plain(name)),
            "peer" => self.peer = value,
            "setup-option" => {
                self.extra = Extra::new([self.extra.words(), &value.into_iter().collect::<Vec<_>>()].concat())
            }
            "version" => self.version = true,
            "help" => self.help = true,
            "node" => self.setting.node = value.unwrap_or_default(),
            "run-dir" => self.setting.run_dir = value.unwrap_or_default().into(),
            "stacked" => return Err(UsageFault::Stacked),
            _ => {}
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_general(name: &str) -> bool {
    GENERAL.iter().any(|spec| spec.name == name)
}

/// `urbdadm`'s own options, and those of all helpers, each once: the order decides what an
/// abbreviation means (L18 c).
fn all_options() -> Vec<OptionSpec> {
    let mut all: Vec<OptionSpec> = GENERAL.to_vec();
    for spec in VERBS.iter().flat_map(Verb::helper_options) {
        if !all.iter().any(|known| known.name == spec.name) {
            all.push(spec);
        }
    }
    all
}

fn unknown_verb(word: &str) -> UsageFault {
    let names = VERBS.iter().map(|verb| verb.name);
    let near = crate::config::options::nearest(word, names);
    let suggestion = near.map_or_else(String::new, |name| format!("; did you mean '{name}'?"));
    UsageFault::UnknownVerb { word: word.to_owned(), suggestion }
}

/// What goes to the helper: the options, which must be the command's, and then the words in front of
/// the command, translated where they are historical (L20).
///
/// The real tool passes any such word on, or drops it. A promotion without the `--force` that was
/// misspelt, or with another meaning, is too dangerous for either.
fn extra(
    verb: &'static Verb,
    before: Vec<String>,
    options: Vec<(&'static str, Option<String>)>,
) -> Result<Extra, UsageFault> {
    let allowed = verb.helper_options();
    let mut words = Vec::new();
    for (option, value) in options {
        if !allowed.iter().any(|spec| spec.name == option) {
            return Err(UsageFault::OtherVerbs { option, verb: verb.name });
        }
        words.push(value.map_or_else(|| format!("--{option}"), |value| format!("--{option}={value}")));
    }
    for word in before {
        let modern = match word.as_str() {
            "--" => continue,
            "--overwrite-data-of-peer" | "-o" => "--force".to_owned(),
            "--dry-run" => "--tentative".to_owned(),
            _ => word.clone(),
        };
        if !takes(verb, &modern) {
            return Err(UsageFault::Extra { word, verb: verb.name });
        }
        words.push(modern);
    }
    Ok(Extra::new(words))
}

/// Whether one of the helper commands behind `verb` takes this word.
fn takes(verb: &Verb, word: &str) -> bool {
    if verb.action == Action::SetGi {
        return !word.starts_with('-');
    }
    let Some(option) = word.strip_prefix("--") else { return false };
    let name = option.split('=').next().unwrap_or_default();
    let of_setup = |setup: &str| {
        setup_verbs::find(setup).is_some_and(|setup| setup.options().any(|spec| spec.name == name))
    };
    let helpers: &[&str] = match verb.action {
        Action::Up | Action::Adjust => &["new-resource", "attach", "connect"],
        _ => &[verb.name],
    };
    verb.helper_options().iter().any(|spec| spec.name == name) || helpers.iter().any(|setup| of_setup(setup))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let setting =
            Setting { program: "urbdadm".into(), run_dir: "/run/urbd".into(), node: "boole".into() };
        Request::parse(&words, &setting).map_err(|fault| fault.to_string())
    }

    fn extra(line: &str) -> Vec<String> {
        parse(line).unwrap().extra.words().to_vec()
    }

    #[test]
    fn options_stand_anywhere() {
        for line in
            ["connect --discard-my-data r0", "--discard-my-data connect r0", "connect r0 --discard-my-data"]
        {
            let request = parse(line).unwrap();
            assert_eq!(request.verb.map(|verb| verb.name), Some("connect"));
            assert_eq!(request.targets, ["r0"]);
            assert_eq!(request.extra.words(), ["--discard-my-data"]);
        }
        let request = parse("-c - -d --node=cardan --run-dir /x up all").unwrap();
        assert!(request.dry_run);
        assert_eq!(request.config_file.as_deref(), Some("-"));
        assert_eq!((request.setting.node.as_str(), request.setting.run_dir.to_str()), ("cardan", Some("/x")));
    }

    #[test]
    fn the_old_form_puts_the_helpers_options_in_front() {
        assert_eq!(extra("-- --discard-my-data connect r0"), ["--discard-my-data"]);
        assert_eq!(extra("-- --overwrite-data-of-peer primary r0"), ["--force"]);
        assert_eq!(extra("-- -o primary all"), ["--force"]);
        assert_eq!(extra("-- --force -- primary r0"), ["--force"]);
        assert_eq!(extra("-- --dry-run connect r0"), ["--tentative"]);
        assert_eq!(extra("-- 1:2:3:4 set-gi r0/0"), ["1:2:3:4"]);
        assert_eq!(extra("-- --discard-my-data up r0"), ["--discard-my-data"]);
    }

    #[test]
    fn a_word_that_no_helper_takes_is_refused_rather_than_dropped() {
        for line in
            ["-- --overwrite-data primary r0", "foo primary r0", "-- -d primary r0", "-- --force down r0"]
        {
            let error = parse(line).unwrap_err();
            assert!(error.contains("is no option of it"), "{line}: {error}");
        }
    }

    #[test]
    fn options_of_other_commands_and_of_none_have_the_tools_texts() {
        for (line, text) in [
            ("down --force r0", "unrecognized option '--force'\ntry 'urbdadm help down'"),
            ("verify --start=0 r0", "unrecognized option '--start=0'\ntry 'urbdadm help'"),
            ("primary -f r0", "invalid option -- 'f'\ntry 'urbdadm help'"),
            ("frobnicate r0", "Unknown command 'frobnicate'"),
            ("primry r0", "Unknown command 'primry'; did you mean 'primary'?"),
            (
                "-t x up r0",
                "The --config-to-test (-t) option is only allowed with the dump and sh-nop commands",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err(), text, "{line}");
        }
    }

    #[test]
    fn help_is_asked_for_in_three_ways() {
        assert!(parse("help primary").unwrap().asks_for_help);
        assert!(parse("primary --help").unwrap().help);
        assert!(parse("-h").unwrap().help);
        assert!(parse("").unwrap().verb.is_none());
    }
}
