//! Steps in which the recordings themselves went wrong, or differ, or in which the kernel does less than it could.

use super::scenario::{Recorded, Tags};

/// Scenarios in which the recording's own `dd` failed on a Primary that is UpToDate, and wrote nothing; the
/// same step in other scenarios writes. The step is left out.
const UNRECORDED_WRITES: [&str; 2] = ["discard-my-data/no-split", "discard-my-data/newer-than-peer"];

/// Whether a step was not really recorded.
pub(crate) fn is_unrecorded_write(id: &str, step: &Recorded) -> bool {
    UNRECORDED_WRITES.contains(&id) && step.step.op() == "write"
}

/// The scenario whose recording shows how many blocks an interrupted resync had copied: [`HOW_FAR`].
const INTERRUPTED: &str = "resync/target-forced";

/// Scenarios in which a disk with fresh metadata is filled from one that has a generation, and nobody is Primary.
pub(crate) const NEW_DISKS: [&str; 2] = ["compare/20-new-and-old", "compare/20-zero-and-old"];

/// Why a difference is none: the recordings differ there themselves.
pub(crate) const HOW_FAR: &str = "how far a resync got before it was interrupted is a race";

/// Why a difference is none (A2): the kernel takes the mark off the disk with the next change of state, and believes it
/// should it crash before.
pub(crate) const CRASH_FORGOTTEN: &str = "that a crash as Primary is history is on the disk at once";

/// Whether a block that node b was to have from node a may be there or not.
pub(crate) fn is_unfinished(id: &str, recorded: &Tags, seen: &Tags) -> bool {
    let resynced = recorded.b.is_empty() || recorded.b == recorded.a;
    id == INTERRUPTED && resynced && seen.a == recorded.a && (seen.b.is_empty() || seen.b == seen.a)
}
