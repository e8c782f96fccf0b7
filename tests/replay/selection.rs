//! Which lines are replayed in real time, and those that differ there for a reason.

use std::collections::BTreeSet;

use super::scenario::Scenario;

/// Says which lines; see `tests/replay.rs`.
const VARIABLE: &str = "URBD_REPLAY";

/// One line of each group: the one that shows most of what the group is about.
const ALWAYS: [&str; 34] = [
    "0pri/discard-least-changes/31a",
    "1pri/call-pri-lost-after-sb/discard-zero-changes/a02",
    "outdate/then-primary",
    "detach/primary-diskless",
    "new-current-uuid/skip-initial-sync",
    "fencing/resource-and-stonith/exit-7",
    "rr-conflict/violently",
    "mismatch/secret",
    "same/auth",
    "protocol-A",
    "protocol-B",
    "roles/2pri/discard-older-primary/elder-a",
    "compare/40-a-crashed",
    "frozen/link-returns",
    "diskless/suspend-io/peer-disconnect",
    "two/cut/disconnect/writes",
    "tentative",
    "verify",
    "pause/connected",
    "invalidate/disconnected",
    "down-up/secondary",
    "discard-my-data/newer-than-peer",
    "connect/twice",
    "role/repeated",
    "2pri/violently-as0p/discard-zero-changes/02/two",
    "manual/pri-ab/discard-a",
    "outage/cut-join",
    "switchover",
    "second-primary-refused",
    "two-primaries",
    "crash/primary-failover-return",
    "invalidate-remote",
    "open/secondary-refused",
    "resync/target-crash",
];

/// Lines that differ in real time, with the reason.
const IN_REAL_TIME: &[(&str, &str)] = &[];

/// A choice of lines.
pub(crate) enum Selection {
    /// [`ALWAYS`].
    OneOfEachGroup,
    Third,
    All,
    /// Those whose name contains it.
    Named(String),
}

impl Selection {
    /// What the environment asks for.
    pub(crate) fn wanted() -> Self {
        match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("") => Self::OneOfEachGroup,
            Ok("third") => Self::Third,
            Ok("all") => Self::All,
            Ok(name) => Self::Named(name.to_owned()),
        }
    }

    pub(crate) fn is_by_name(&self) -> bool {
        matches!(self, Self::Named(_))
    }

    pub(crate) fn of<'a>(&self, all: &'a [Scenario]) -> Vec<&'a Scenario> {
        let wanted = |number: usize, id: &str| match self {
            Self::OneOfEachGroup => ALWAYS.contains(&id),
            Self::Third => number.is_multiple_of(3),
            Self::All => true,
            Self::Named(name) => id.contains(name.as_str()),
        };
        all.iter().enumerate().filter(|(n, line)| wanted(*n, &line.id)).map(|(_, line)| line).collect()
    }
}

/// Why a line may differ.
pub(crate) fn excuse(id: &str) -> Option<&'static str> {
    IN_REAL_TIME.iter().find(|(excused, _)| *excused == id).map(|(_, reason)| *reason)
}

/// Every group has its line in [`ALWAYS`], and every excuse names a line.
pub(crate) fn check(all: &[Scenario]) {
    let groups: BTreeSet<&str> = all.iter().map(Scenario::group).collect();
    let chosen = Selection::OneOfEachGroup.of(all);
    assert_eq!(chosen.len(), ALWAYS.len(), "each name is that of a line");
    assert_eq!(chosen.into_iter().map(Scenario::group).collect::<BTreeSet<_>>(), groups);
    assert_eq!(groups.len(), ALWAYS.len());
    for (id, _) in IN_REAL_TIME {
        assert!(all.iter().any(|line| line.id == *id), "there is no scenario {id}");
    }
}
