//! What `urbdadm` says about itself (L22 to L24).

use std::fmt::Write;

use super::adm_verbs::{GENERAL, Listed, Scope, VERBS, Verb};
use super::getopt::{OptionSpec, Value};
use super::shell;

/// The help on a command, or on all.
#[must_use]
pub(super) fn help(verb: Option<&Verb>, program: &str) -> String {
    let name = verb.map_or("COMMAND", |verb| verb.name);
    let target = match verb.map(|verb| verb.scope) {
        Some(Scope::None) => "",
        Some(Scope::AllByDefault) => " [{all|RESOURCE...}]",
        Some(Scope::OneVolume) => " {RESOURCE/VOLUME...}",
        Some(Scope::Volumes) => " {all|RESOURCE[/VOLUME]...}",
        Some(Scope::Resources) | None => " {all|RESOURCE...}",
    };
    let mut text = format!("\nUSAGE: {program} {name} [OPTION...]{target}\n");
    if let Some(verb) = verb {
        let _ = write!(text, "\n{}.\n", verb.summary);
    }
    text.push_str("\nGENERAL OPTIONS:\n");
    GENERAL.iter().for_each(|option| text.push_str(&option_line(option)));
    text.push('\n');
    match verb {
        Some(verb) => {
            let options = verb.helper_options();
            if !options.is_empty() {
                let _ = writeln!(text, "OPTIONS FOR {}:", verb.name);
                options.iter().for_each(|option| text.push_str(&option_line(option)));
                text.push('\n');
            }
        }
        None => {
            text.push_str("COMMANDS:\n");
            text.push_str(&list(Listed::Usual));
            text.push('\n');
        }
    }
    let _ = writeln!(text, "Version: {} (api:1)", env!("CARGO_PKG_VERSION"));
    text
}

/// The commands for scripts, events and experts.
#[must_use]
pub(super) fn hidden_commands() -> String {
    format!(
        "\nFor shell scripts:\n\n{}\nCalled by the daemon for events:\n\n{}\nFor experts and developers:\n\n{}\n",
        list(Listed::Script),
        list(Listed::Handler),
        list(Listed::Expert)
    )
}

fn list(listed: Listed) -> String {
    let verbs = VERBS.iter().filter(|verb| verb.listed == listed);
    verbs.map(|verb| format!("  {:<22} {}\n", verb.name, verb.summary)).collect()
}

fn option_line(option: &OptionSpec) -> String {
    let (value, letter_value) = match option.value {
        Value::None => ("", ""),
        Value::Required => ("=...", " ..."),
        Value::Optional => ("[=...]", ""),
    };
    let letter = option.letter.map_or_else(String::new, |letter| format!(", -{letter}{letter_value}"));
    format!("  --{}{value}{letter}\n", option.name)
}

/// Shell assignments: the versions whose formats these are, and ours.
#[must_use]
pub(super) fn version() -> Vec<u8> {
    let build = format!("DRBDADM_BUILDTAG=urbd {}", env!("CARGO_PKG_VERSION"));
    let lines = [
        build.as_str(),
        "DRBDADM_API_VERSION=1",
        "DRBD_KERNEL_VERSION_CODE=0x08040b",
        "DRBDADM_VERSION_CODE=0x091600",
        "DRBDADM_VERSION=9.22.0",
        concat!("URBD_VERSION=", env!("CARGO_PKG_VERSION")),
    ];
    lines.iter().flat_map(|line| [shell::escape(line), b"\n".to_vec()].concat()).collect()
}

/// What stands before all resources in `sh-status` (L57).
#[must_use]
pub(super) fn sh_status_head(config_path: &str) -> String {
    format!("_drbd_version=9.22.0\n_drbd_api=1\n_config_file={config_path}\n\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::adm_verbs::find;

    #[test]
    fn completions_of_others_find_the_options_where_they_look() {
        let text = help(find("primary"), "urbdadm");
        assert!(
            text.starts_with("\nUSAGE: urbdadm primary [OPTION...] {all|RESOURCE[/VOLUME]...}\n"),
            "{text}"
        );
        assert!(text.contains("\n  --config-file=..., -c ...\n"), "{text}");
        assert!(text.contains("\nOPTIONS FOR primary:\n  --force[=...]\n\n"), "{text}");
        assert!(!help(find("secondary"), "urbdadm").contains("OPTIONS FOR"));
    }

    #[test]
    fn a_shell_can_evaluate_the_version() {
        let text = String::from_utf8(version()).unwrap();
        assert!(text.lines().all(|line| line.split_once('=').is_some()), "{text}");
        assert!(text.starts_with("DRBDADM_BUILDTAG=urbd\\ "), "{text}");
    }
}
