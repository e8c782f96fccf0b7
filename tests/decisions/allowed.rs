//! Scenarios in which urbd does not do as the kernels did, and why.

use super::scenario::Recorded;

/// Scenario and reason. A scenario that agrees must not be on this list.
pub(crate) const NOT_YET: &[(&str, &str)] = &[
    ("2pri/call-pri-lost-after-sb/discard-younger-primary/22", "to be looked into"),
    ("diskless/io-error/peer-disconnect", "to be looked into"),
    ("diskless/suspend-io/peer-disconnect", "to be looked into"),
    ("fencing/resource-and-stonith/both-reboot-exit-1", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/both-reboot-exit-4", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/both-reboot-exit-5", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/both-reboot-exit-7", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/exit-1", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/exit-3", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/exit-4", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/exit-5", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/exit-7", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/force-exit-5", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/promote-exit-1", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/promote-exit-3", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/promote-exit-4", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/promote-exit-5", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/promote-exit-6", "fence-peer is not called yet"),
    ("fencing/resource-and-stonith/promote-exit-7", "fence-peer is not called yet"),
    ("fencing/resource-only/both-reboot-exit-1", "fence-peer is not called yet"),
    ("fencing/resource-only/both-reboot-exit-4", "fence-peer is not called yet"),
    ("fencing/resource-only/both-reboot-exit-5", "fence-peer is not called yet"),
    ("fencing/resource-only/both-reboot-exit-7", "fence-peer is not called yet"),
    ("fencing/resource-only/exit-3", "fence-peer is not called yet"),
    ("fencing/resource-only/exit-4", "fence-peer is not called yet"),
    ("fencing/resource-only/exit-5", "fence-peer is not called yet"),
    ("fencing/resource-only/exit-6", "fence-peer is not called yet"),
    ("fencing/resource-only/exit-7", "fence-peer is not called yet"),
    ("fencing/resource-only/force-exit-5", "fence-peer is not called yet"),
    ("fencing/resource-only/promote-exit-1", "fence-peer is not called yet"),
    ("fencing/resource-only/promote-exit-3", "fence-peer is not called yet"),
    ("fencing/resource-only/promote-exit-4", "fence-peer is not called yet"),
    ("fencing/resource-only/promote-exit-5", "fence-peer is not called yet"),
    ("fencing/resource-only/promote-exit-6", "fence-peer is not called yet"),
    ("fencing/resource-only/promote-exit-7", "fence-peer is not called yet"),
    ("frozen/link-returns", "fence-peer is not called yet"),
    ("frozen/peer-reboots", "fence-peer is not called yet"),
    ("frozen/resume-io", "fence-peer is not called yet"),
    ("outage/cut-join-no-writes", "to be looked into"),
    ("resync/target-forced", "to be looked into"),
    ("verify", "there is no online verify yet"),
    ("verify/without-alg", "there is no online verify yet"),
];

/// Scenarios in which the recording's own `dd` failed on a Primary that is UpToDate, and wrote nothing; the
/// same step in other scenarios writes. The step is left out.
const UNRECORDED_WRITES: [&str; 2] = ["discard-my-data/no-split", "discard-my-data/newer-than-peer"];

/// Whether a step was not really recorded.
pub(crate) fn is_unrecorded_write(id: &str, step: &Recorded) -> bool {
    UNRECORDED_WRITES.contains(&id) && step.step.op() == "write"
}

/// The excuse of a scenario.
pub(crate) fn not_yet(id: &str) -> Option<&'static str> {
    NOT_YET.iter().find(|(excused, _)| *excused == id).map(|(_, reason)| *reason)
}
