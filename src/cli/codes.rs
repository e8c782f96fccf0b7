//! What an outcome's number means to the user: text and exit code (S35, L11 to L14).

use crate::control::texts::{refusal_text, rejection_text};
use crate::node::command::Outcome;

/// Exit codes of all programs.
pub mod exit {
    /// Done.
    pub const OK: i32 = 0;
    /// `urbdadm`: wrong usage, unknown resource, a failed stage of `up` (L7).
    pub const USAGE: i32 = 1;
    /// A wait timed out, or the disk is less than Outdated.
    pub const TIMEOUT: i32 = 5;
    /// The request was rejected, or the configuration is invalid.
    pub const REJECTED: i32 = 10;
    /// The state change was refused.
    pub const REFUSED: i32 = 11;
    /// A local disk is needed.
    pub const NO_DISK: i32 = 16;
    /// Access to UpToDate data is needed.
    pub const NO_DATA: i32 = 17;
    /// Everything else: usage of `urbdsetup`, no daemon, no such file.
    pub const OTHER: i32 = 20;
}

/// The exit code for an outcome (S35).
#[must_use]
pub const fn exit_code(code: i32) -> i32 {
    match code {
        1..=4 | Outcome::DONE => exit::OK,
        -2 => exit::NO_DATA,
        -4 => exit::NO_DISK,
        -16 => exit::TIMEOUT,
        -21..=0 => exit::REFUSED,
        102..=170 => exit::REJECTED,
        _ => exit::OTHER,
    }
}

/// What to print about an outcome that is no success; `None` for one that is (L12).
///
/// `object` is what the command addressed, as typed.
#[must_use]
pub fn report(object: &str, outcome: &Outcome) -> Option<String> {
    let code = outcome.code;
    let mut text = match code {
        1..=4 | Outcome::DONE => return None,
        -21..=0 => format!("{object}: State change failed: ({code}) {}\n", refusal_text(code)),
        102..=170 => format!("{object}: Failure: ({code}) {}\n", rejection_text(code)),
        _ => format!("{object}: Error code {code} unknown.\nIs urbd a newer version than this program?\n"),
    };
    if !outcome.info.is_empty() {
        text.push_str("additional info from kernel:\n");
        for line in &outcome.info {
            text.push_str(line);
            text.push('\n');
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_table_of_s35() {
        for (code, exit) in [
            (101, 0),
            (1, 0),
            (2, 0),
            (4, 0),
            (0, 11),
            (-1, 11),
            (-2, 17),
            (-4, 16),
            (-16, 5),
            (-21, 11),
            (-22, 20),
            (102, 10),
            (170, 10),
            (171, 20),
            (100, 20),
            (5, 20),
        ] {
            assert_eq!(exit_code(code), exit, "{code}");
        }
    }

    #[test]
    fn a_report_names_the_object_the_number_and_what_the_daemon_added() {
        assert_eq!(report("1", &Outcome::of(2)), None);
        assert_eq!(
            report("1", &Outcome::of(-2)).unwrap(),
            "1: State change failed: (-2) Need access to UpToDate data\n"
        );
        assert_eq!(
            report("r0", &Outcome::with(158, "unknown resource")).unwrap(),
            "r0: Failure: (158) Unknown resource\nadditional info from kernel:\nunknown resource\n"
        );
        assert!(report("1", &Outcome::of(99)).unwrap().starts_with("1: Error code 99 unknown."));
    }
}
