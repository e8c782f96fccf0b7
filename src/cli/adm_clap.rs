//! Completions and the manual page, made from the same table by clap's generators.

use clap::{Arg, ArgAction, Command};
use clap_complete::Shell;

use super::adm_verbs::{GENERAL, Listed, Scope, VERBS, Verb};
use super::getopt::{OptionSpec, Value};

/// The completions for a shell of this name.
#[must_use]
pub(super) fn completions(shell: &str) -> Option<Vec<u8>> {
    let shell: Shell = shell.parse().ok()?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "urbdadm", &mut script);
    Some(script)
}

/// The manual page, as troff.
#[must_use]
pub(super) fn manual() -> Vec<u8> {
    let mut page = Vec::new();
    // Writing into memory does not fail.
    let _ = clap_mangen::Man::new(command()).render(&mut page);
    page
}

/// The command line as clap would have it.
fn command() -> Command {
    let subcommands = VERBS.iter().filter(|verb| verb.listed != Listed::Hidden).map(subcommand);
    Command::new("urbdadm")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Gives urbd's resources the state that their files describe")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(GENERAL.iter().map(|option| argument(option).global(true)))
        .subcommands(subcommands)
}

fn subcommand(verb: &Verb) -> Command {
    let general = |option: &OptionSpec| GENERAL.iter().any(|known| known.name == option.name);
    let options = verb.helper_options();
    let command = Command::new(verb.name)
        .about(verb.summary)
        .hide(verb.listed != Listed::Usual)
        .args(options.iter().filter(|option| !general(option)).map(argument));
    match verb.scope {
        Scope::None => command,
        Scope::Volumes | Scope::Resources | Scope::OneVolume | Scope::AllByDefault => {
            command.arg(Arg::new("resource").num_args(0..))
        }
    }
}

fn argument(option: &OptionSpec) -> Arg {
    let argument = Arg::new(option.name).long(option.name);
    let argument = match option.letter {
        Some(letter) => argument.short(letter),
        None => argument,
    };
    match option.value {
        Value::None => argument.action(ArgAction::SetTrue),
        Value::Required => argument.action(ArgAction::Set),
        Value::Optional => argument.action(ArgAction::Set).num_args(0..=1).require_equals(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_makes_a_sound_command_line() {
        command().debug_assert();
        let script = String::from_utf8(completions("bash").unwrap()).unwrap();
        assert!(script.contains("discard-my-data"));
        assert_eq!(completions("csh"), None);
        assert!(String::from_utf8(manual()).unwrap().contains("wait\\-sync"));
    }
}
