//! How fast a resync target asks, and for what (D106, D107, D110 to D114).
//!
//! Ten times a second the [`Controller`] says how many blocks may be asked for; [`next_request`] makes
//! requests of them. Where the specification's rules can come to a halt (T11, T12) ours carry on: see
//! [`Controller::tick`].

use crate::units::{BLOCK_BYTES, BLOCK_SECTORS, BitIndex, RESYNC_EXTENT_SECTORS};

/// The options that steer the controller. They may have come from the peer (D115).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// `resync-rate`: KiB per second.
    pub resync_rate_kib_s: u32,
    /// `c-plan-ahead`: tenths of a second, which are ticks; 0 for a fixed rate.
    pub plan_ahead_ds: u32,
    /// `c-delay-target`: tenths of a second.
    pub delay_target_ds: u32,
    /// `c-fill-target`: sectors; 0 to go by the delay.
    pub fill_target_sectors: u32,
    /// `c-max-rate`: KiB per second.
    pub max_rate_kib_s: u32,
    /// `max-buffers`: pages of 4 KiB that this node has for requests.
    pub max_buffers: u32,
}

/// Longest plan in ticks: the largest `c-plan-ahead`.
const MAX_PLAN_TICKS: u32 = 300;
/// KiB per second that one block in each tick makes.
const KIB_S_PER_BLOCK: u64 = 40;

/// The resync controller of one volume (D110 to D113). A new one has nothing in flight and no plan.
#[derive(Clone, Debug, Default)]
pub struct Controller {
    /// Sectors asked for that have not arrived.
    in_flight: u64,
    /// Extra sectors planned for the coming ticks, a ring.
    plan: Vec<i64>,
    /// Where the ring's next slot is.
    next: usize,
    /// Sum of the plan.
    planned: i64,
    /// What was too little for a block: KiB per second of a fixed rate, sectors of a dynamic one.
    carried: u64,
    /// Blocks that the last tick allowed.
    allowed: u64,
}

impl Controller {
    /// Starts a tick: how many blocks may be asked for until the next one. `arrived` counts the
    /// sectors answered since the last tick, whatever the answer.
    ///
    /// Ours in place of T11: what is too little for a block is carried into the next tick, so that
    /// even the slowest rate gets on. Ours in place of T12: the caller counts negative answers as
    /// arrived, so that failures do not use up the window.
    #[must_use]
    pub fn tick(&mut self, rates: &Rates, arrived: u64) -> u64 {
        self.in_flight = self.in_flight.saturating_sub(arrived);
        let wanted = if rates.plan_ahead_ds == 0 {
            self.fixed(rates)
        } else {
            let sectors = self.dynamic(rates, arrived);
            let sectors = self.carried.saturating_add(sectors);
            self.carried = sectors % BLOCK_SECTORS;
            sectors / BLOCK_SECTORS
        };
        let room = u64::from(rates.max_buffers / 2).saturating_sub(self.in_flight / BLOCK_SECTORS); // D112
        self.allowed = wanted.min(room);
        self.allowed
    }

    /// Blocks were asked for (D109).
    pub fn requested(&mut self, blocks: u64) {
        self.in_flight = self.in_flight.saturating_add(blocks.saturating_mul(BLOCK_SECTORS));
    }

    /// The rate the last tick allowed, in KiB per second (D111.5).
    #[must_use]
    pub fn want_kib_s(&self) -> u64 {
        self.allowed * KIB_S_PER_BLOCK
    }

    /// Sectors asked for that have not arrived.
    #[must_use]
    pub fn in_flight_sectors(&self) -> u64 {
        self.in_flight
    }

    /// D110: blocks of a tick at a fixed rate.
    fn fixed(&mut self, rates: &Rates) -> u64 {
        if !self.plan.is_empty() {
            (self.plan, self.next, self.planned, self.carried) = (Vec::new(), 0, 0, 0);
        }
        let rate = self.carried + u64::from(rates.resync_rate_kib_s);
        self.carried = rate % KIB_S_PER_BLOCK;
        rate / KIB_S_PER_BLOCK
    }

    /// D111: sectors of a tick, so that the goal is in flight when the plan is through.
    fn dynamic(&mut self, rates: &Rates, arrived: u64) -> u64 {
        let ticks = rates.plan_ahead_ds.min(MAX_PLAN_TICKS);
        if self.plan.len() != ticks as usize {
            (self.plan, self.next, self.planned, self.carried) = (vec![0; ticks as usize], 0, 0, 0);
        }
        let gap = goal(rates, ticks, self.in_flight, arrived)
            .saturating_sub(signed(self.in_flight))
            .saturating_sub(self.planned);
        let share = gap / i64::from(ticks);
        for slot in &mut self.plan {
            *slot = slot.saturating_add(share);
        }
        self.planned = self.planned.saturating_add(share.saturating_mul(i64::from(ticks)));
        let due = std::mem::take(&mut self.plan[self.next]);
        self.next = (self.next + 1) % self.plan.len();
        self.planned = self.planned.saturating_sub(due);
        let sectors = signed(arrived).saturating_add(due).max(0).unsigned_abs();
        sectors.min(sectors_per_tick(rates.max_rate_kib_s))
    }
}

/// D111.1: how many sectors should be in flight.
fn goal(rates: &Rates, ticks: u32, in_flight: u64, arrived: u64) -> i64 {
    if in_flight == 0 && arrived == 0 {
        signed(sectors_per_tick(rates.resync_rate_kib_s)).saturating_mul(i64::from(ticks))
    } else if rates.fill_target_sectors != 0 {
        i64::from(rates.fill_target_sectors)
    } else {
        signed(arrived).saturating_mul(i64::from(rates.delay_target_ds))
    }
}

/// Sectors in a tenth of a second.
fn sectors_per_tick(rate_kib_s: u32) -> u64 {
    u64::from(rate_kib_s) * 2 / 10
}

fn signed(sectors: u64) -> i64 {
    i64::try_from(sectors).unwrap_or(i64::MAX)
}

/// The next run of blocks to ask for, from `cursor` on: its first block and their number, at least 1
/// (D106, D107). `None` when no bit is set any more.
///
/// - `next_set` finds the first set bit at or behind another;
/// - `budget` is how many blocks may be asked for, taken for 1 if 0;
/// - `max_bytes` is the largest request the own disk takes;
/// - `granularity_bytes` is `rs-discard-granularity`, 0 if not in use: a request of exactly that size
///   is not extended.
///
/// The last block is the caller's to cut at the end of the device.
pub fn next_request(
    mut next_set: impl FnMut(BitIndex) -> Option<BitIndex>,
    cursor: BitIndex,
    budget: u64,
    max_bytes: u32,
    granularity_bytes: u32,
) -> Option<(BitIndex, u64)> {
    let first = next_set(cursor)?;
    let limit = (u64::from(max_bytes) / BLOCK_BYTES).min(budget).min(alignment_limit(first));
    let granularity = u64::from(granularity_bytes);
    let mut blocks = 1;
    while blocks < limit {
        let next = BitIndex::new(first.get() + blocks);
        let crosses = next.get().is_multiple_of(RESYNC_EXTENT_SECTORS / BLOCK_SECTORS);
        if crosses || blocks * BLOCK_BYTES == granularity || next_set(next) != Some(next) {
            break;
        }
        blocks += 1;
    }
    Some((first, blocks))
}

/// A request may grow past 2^k blocks only if it begins at a multiple of 2^(k+1): the largest power
/// of two that divides its first block is its limit.
fn alignment_limit(first: BitIndex) -> u64 {
    1_u64.checked_shl(first.get().trailing_zeros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The defaults (D114).
    const DEFAULTS: Rates = Rates {
        resync_rate_kib_s: 250,
        plan_ahead_ds: 20,
        delay_target_ds: 10,
        fill_target_sectors: 100,
        max_rate_kib_s: 102_400,
        max_buffers: 2048,
    };

    const FIXED: Rates = Rates { plan_ahead_ds: 0, ..DEFAULTS };

    #[test]
    fn the_first_tick_with_defaults_has_the_numbers_of_d114() {
        let mut controller = Controller::default();
        assert_eq!(controller.tick(&DEFAULTS, 0), 6);
        assert_eq!(controller.want_kib_s(), 240);
        assert_eq!(controller.planned, 950);
        assert!(controller.plan.iter().skip(1).all(|slot| *slot == 50) && controller.plan[0] == 0);
        assert_eq!(sectors_per_tick(102_400), 20_480);
    }

    #[test]
    fn the_plan_follows_d111_step_by_step() {
        let rates = Rates { plan_ahead_ds: 4, fill_target_sectors: 64, ..DEFAULTS };
        let mut controller = Controller::default();
        // G 50·4 = 200, share 50, due 50: R 50, 6 blocks, 2 sectors carried; S 150
        assert_eq!(controller.tick(&rates, 0), 6);
        controller.requested(6);
        // 16 arrived, 32 in flight: gap 64−32−150 = −118, share −29; slots 21 21 21 −29; due 21
        assert_eq!(controller.tick(&rates, 16), (16 + 21 + 2) / 8);
        assert_eq!((controller.plan.clone(), controller.planned), (vec![-29, 0, 21, 21], 13));
        assert_eq!(controller.carried, 39 % 8);
    }

    #[test]
    fn the_ceiling_and_the_buffers_limit_a_tick() {
        // D111.4, D112, I30
        let fast = Rates { resync_rate_kib_s: 4_000_000, max_buffers: 1 << 20, ..DEFAULTS };
        assert_eq!(Controller::default().tick(&fast, 0), 20_480 / 8);
        let few = Rates { max_buffers: 32, ..fast };
        let mut controller = Controller::default();
        assert_eq!(controller.tick(&few, 0), 16);
        controller.requested(16);
        assert_eq!(controller.tick(&few, 0), 0);
        assert_eq!(controller.tick(&few, 8 * 3), 3);
    }

    #[test]
    fn a_fixed_rate_is_kept_to_the_block_even_below_one_a_tick() {
        // D110, T11
        for rate in [1, 39, 40, 41, 250, 10_000] {
            let rates = Rates { resync_rate_kib_s: rate, ..FIXED };
            let mut controller = Controller::default();
            let blocks: u64 = (0..40).map(|_| controller.tick(&rates, 0)).sum();
            assert_eq!(blocks, u64::from(rate), "blocks in 4 s at {rate} KiB/s");
        }
    }

    #[test]
    fn the_slowest_dynamic_resync_still_gets_on() {
        // T11: less than a block each tick
        let slow = Rates { resync_rate_kib_s: 5, fill_target_sectors: 1, ..DEFAULTS };
        let mut controller = Controller::default();
        let mut done = 0;
        let mut asked = 0;
        for _ in 0..200 {
            let blocks = controller.tick(&slow, asked * 8);
            controller.requested(blocks);
            (asked, done) = (blocks, done + blocks);
        }
        assert!(done >= 8, "{done} blocks in 20 s");
    }

    #[test]
    fn changing_the_plan_starts_it_anew() {
        let mut controller = Controller::default();
        let _ = controller.tick(&DEFAULTS, 0);
        let _ = controller.tick(&FIXED, 0);
        assert_eq!((controller.planned, controller.plan.len()), (0, 0));
        let _ = controller.tick(&Rates { plan_ahead_ds: 7, ..DEFAULTS }, 0);
        assert_eq!(controller.plan.len(), 7);
    }

    #[test]
    fn behind_a_bottleneck_the_fill_target_stays_in_flight() {
        // A peer that answers 160 sectors a tick, whatever waits for it.
        let rates = Rates { fill_target_sectors: 960, ..DEFAULTS };
        let mut controller = Controller::default();
        let mut waiting = 0;
        let mut levels = Vec::new();
        for _ in 0..300 {
            let arrived = 160.min(waiting);
            let blocks = controller.tick(&rates, arrived);
            levels.push(controller.in_flight_sectors());
            controller.requested(blocks);
            waiting += blocks * 8 - arrived;
        }
        assert!(levels[200..].iter().all(|level| (860..1060).contains(level)), "{levels:?}");
    }

    fn request(bits: &BTreeSet<u64>, cursor: u64, budget: u64, max: u32, gran: u32) -> Option<(u64, u64)> {
        let next = |from: BitIndex| bits.range(from.get()..).next().map(|bit| BitIndex::new(*bit));
        next_request(next, BitIndex::new(cursor), budget, max, gran).map(|(bit, count)| (bit.get(), count))
    }

    #[test]
    fn requests_grow_as_far_as_their_alignment_allows() {
        // D107
        let all: BTreeSet<u64> = (0..10_000).collect();
        for (cursor, blocks) in
            [(1, 1), (2, 2), (3, 1), (4, 4), (6, 2), (8, 8), (96, 32), (512, 256), (0, 256)]
        {
            assert_eq!(request(&all, cursor, 1000, 1 << 20, 0), Some((cursor, blocks)));
        }
        let three: BTreeSet<u64> = [4, 5, 6].into();
        assert_eq!(request(&three, 0, 1000, 1 << 20, 0), Some((4, 3)));
        assert_eq!(request(&three, 7, 1000, 1 << 20, 0), None);
    }

    #[test]
    fn requests_stay_within_budget_size_granularity_and_extent() {
        // D107
        let all: BTreeSet<u64> = (0..20_000).collect();
        assert_eq!(request(&all, 0, 5, 1 << 20, 0), Some((0, 5)));
        assert_eq!(request(&all, 0, 0, 1 << 20, 0), Some((0, 1)));
        assert_eq!(request(&all, 0, 100, 32_768, 0), Some((0, 8)));
        assert_eq!(request(&all, 0, 100, 512, 0), Some((0, 1)));
        assert_eq!(request(&all, 0, 100, 1 << 20, 16_384), Some((0, 4)));
        // an extent of 16 MiB is 4096 blocks
        assert_eq!(request(&all, 8192 - 64, 10_000, 64 << 20, 0), Some((8192 - 64, 64)));
        assert_eq!(request(&all, 0, 10_000, 64 << 20, 0), Some((0, 4096)));
    }

    proptest! {
        #[test]
        fn requests_cover_each_set_bit_once_and_no_clear_one(
            bits in prop::collection::btree_set(0..9000_u64, 0..400), budget in 1..40_u64, max in 12..21_u32,
        ) {
            let mut asked = BTreeSet::new();
            let mut cursor = 0;
            while let Some((first, count)) = request(&bits, cursor, budget, 1 << max, 0) {
                prop_assert!(count >= 1 && count <= budget && count << 12 <= 1 << max);
                prop_assert_eq!(first / 4096, (first + count - 1) / 4096);
                for bit in first..first + count {
                    prop_assert!(asked.insert(bit));
                }
                cursor = first + count;
            }
            prop_assert_eq!(asked, bits);
        }

        /// I30
        #[test]
        fn no_options_and_no_arrivals_panic_or_exceed_the_window(
            rates in any::<[u32; 6]>(), arrivals in prop::collection::vec(any::<u64>(), 1..30),
        ) {
            let [rate, plan, delay, fill, max, buffers] = rates;
            let rates = Rates {
                resync_rate_kib_s: rate,
                plan_ahead_ds: plan % 400,
                delay_target_ds: delay,
                fill_target_sectors: fill,
                max_rate_kib_s: max,
                max_buffers: buffers,
            };
            let mut controller = Controller::default();
            for arrived in arrivals {
                let blocks = controller.tick(&rates, arrived);
                controller.requested(blocks);
                prop_assert!(controller.in_flight_sectors() / 8 <= u64::from(buffers / 2));
            }
        }
    }
}
