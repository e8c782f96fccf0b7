//! What has to happen to metadata that was in use before it may be attached: "apply-al" (M66..M71,
//! M93, D95). A plan, to be carried out by whoever does the I/O:
//!
//! 1. the bits of [`Plan::mark`] set in the bitmap on disk, durably;
//! 2. the ring made anew if [`Plan::new_ring`], durably;
//! 3. the superblock [`Plan::superblock`], durably.

use super::activity_log::{Recovery, Verdict};
use super::superblock::{MetaFlags, Superblock};
use crate::units::AlExtent;

/// What to do, in the order of M93.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Extents whose bits must be set; `None` if the log is not to be applied.
    pub mark: Option<Vec<AlExtent>>,
    /// Fill the ring with initialised blocks.
    pub new_ring: bool,
    /// The superblock to write; `None` if it is as it should be.
    pub superblock: Option<Superblock>,
    /// What to tell the user.
    pub remark: Option<Remark>,
}

/// What is worth telling about the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// The log is damaged, but this node was no Primary: nothing is lost.
    DamageIgnored(Damage),
    /// Transactions may be missing: the whole device will be resynced.
    FullSync,
}

/// A log that no hot set can be read from (M69).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Damaged blocks, and no transaction among the others.
    #[error("No valid AL update transaction found.")]
    NoUpdate,
    /// Not one valid block.
    #[error("No usable activity log found. Do you need to create-md?")]
    Unusable,
    /// The log of DRBD 8.3 or older, which we do not read (M73a).
    #[error("The activity log was written by DRBD 8.3 or older: apply it with the real drbdmeta first.")]
    Legacy,
}

/// The plan for metadata whose log says `recovery` (see [`super::activity_log::examine`]).
///
/// # Errors
/// If this node was Primary and the log cannot tell where it was writing.
pub fn plan(superblock: &Superblock, recovery: &Recovery) -> Result<Plan, Damage> {
    let was_primary = superblock.flags.contains(MetaFlags::PRIMARY_IND);
    let mut clean = *superblock;
    clean.mark_clean();
    let changed = (clean != *superblock).then_some(clean);
    Ok(match &recovery.verdict {
        Verdict::Empty => {
            Plan { mark: None, new_ring: recovery.corrupt_blocks > 0, superblock: changed, remark: None }
        }
        Verdict::Hot(hot) => Plan {
            mark: was_primary.then(|| hot.clone()),
            new_ring: true,
            superblock: if was_primary { Some(clean) } else { changed },
            remark: None,
        },
        Verdict::Incomplete(_) if !was_primary => {
            Plan { mark: None, new_ring: true, superblock: changed, remark: None }
        }
        Verdict::Incomplete(hot) => {
            clean.flags = clean.flags | MetaFlags::FULL_SYNC;
            Plan {
                mark: Some(hot.clone()),
                new_ring: true,
                superblock: Some(clean),
                remark: Some(Remark::FullSync),
            }
        }
        Verdict::NoUpdate => return damaged(Damage::NoUpdate, was_primary, clean),
        Verdict::Unusable => return damaged(Damage::Unusable, was_primary, clean),
        Verdict::Legacy => return damaged(Damage::Legacy, was_primary, clean),
    })
}

fn damaged(damage: Damage, was_primary: bool, clean: Superblock) -> Result<Plan, Damage> {
    if was_primary {
        return Err(damage);
    }
    Ok(Plan {
        mark: None,
        new_ring: true,
        superblock: Some(clean),
        remark: Some(Remark::DamageIgnored(damage)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::superblock::Marking;

    fn superblock(flags: MetaFlags) -> Superblock {
        Superblock { flags, marking: Marking::Attached, ..Superblock::just_created(0) }
    }

    fn recovery(verdict: Verdict) -> Recovery {
        Recovery { verdict, corrupt_blocks: 0 }
    }

    #[test]
    fn a_crashed_primary_marks_its_hot_extents_and_stays_marked_as_primary() {
        let crashed = superblock(MetaFlags::CONSISTENT | MetaFlags::PRIMARY_IND);
        let hot = vec![AlExtent::new(3)];
        let plan = plan(&crashed, &recovery(Verdict::Hot(hot.clone()))).unwrap();
        assert_eq!(plan.mark, Some(hot));
        assert!(plan.new_ring);
        let written = plan.superblock.unwrap();
        assert!(written.is_clean());
        assert!(written.flags.contains(MetaFlags::PRIMARY_IND), "M71");
    }

    #[test]
    fn a_secondary_does_not_apply_what_the_log_says() {
        for flags in [MetaFlags::NONE, MetaFlags::CRASHED_PRIMARY] {
            let verdict = Verdict::Hot(vec![AlExtent::new(3)]);
            let plan = plan(&superblock(flags), &recovery(verdict)).unwrap();
            assert_eq!(plan.mark, None, "M70");
            assert!(plan.new_ring);
        }
    }

    #[test]
    fn applying_twice_changes_nothing_the_second_time() {
        let mut clean = superblock(MetaFlags::CONSISTENT);
        clean.mark_clean();
        let plan = plan(&clean, &recovery(Verdict::Empty)).unwrap();
        assert_eq!(plan, Plan { mark: None, new_ring: false, superblock: None, remark: None });
    }

    #[test]
    fn a_log_with_holes_leads_to_a_full_sync() {
        let crashed = superblock(MetaFlags::CONSISTENT | MetaFlags::PRIMARY_IND);
        let plan = plan(&crashed, &recovery(Verdict::Incomplete(vec![]))).unwrap();
        assert!(plan.superblock.unwrap().flags.need_full_sync());
        assert_eq!(plan.remark, Some(Remark::FullSync));
    }

    #[test]
    fn an_unreadable_log_stops_a_primary_only() {
        for verdict in [Verdict::NoUpdate, Verdict::Unusable] {
            let log = recovery(verdict);
            assert!(plan(&superblock(MetaFlags::PRIMARY_IND), &log).is_err());
            let ignored = plan(&superblock(MetaFlags::NONE), &log).unwrap();
            assert!(ignored.new_ring && ignored.superblock.unwrap().is_clean());
        }
        let legacy = plan(&superblock(MetaFlags::PRIMARY_IND), &recovery(Verdict::Legacy));
        assert_eq!(legacy, Err(Damage::Legacy));
    }
}
