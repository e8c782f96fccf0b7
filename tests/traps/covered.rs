//! I10: whenever a node crashes, somebody knows each block that its medium lacks, or has and the other one lacks.

use std::collections::BTreeSet;
use std::time::Duration;

use urbd::meta::activity_log::{Verdict, recover};
use urbd::meta::layout::{Layout, Placement, Striping};
use urbd::sim::random::Random;
use urbd::sim::store::Store;
use urbd::units::BitIndex;

use crate::machines::{A, B, BLOCK, Machines, VOLUME};

/// Blocks in 4 MiB.
const EXTENT: u64 = 1024;

/// What a node's media would be if its power failed now.
struct Remains {
    data: Store,
    meta: Store,
    layout: Layout,
    /// The extents that the activity log names.
    hot: BTreeSet<u64>,
}

impl Remains {
    fn of(machines: &Machines, host: usize, random: &mut Random, all: bool) -> Self {
        let mut data = machines.data(host).store().clone();
        let mut meta = machines.metadata(host).store().clone();
        data.lose_power(random, all);
        meta.lose_power(random, all);
        let layout = Layout::new(Placement::Flexible, meta.len() / 512, Striping::DEFAULT).unwrap();
        let ring: Vec<[u8; 4096]> = (layout.al_byte()..layout.al_byte() + layout.al_bytes())
            .step_by(4096)
            .map(|at| {
                let mut block = [0; 4096];
                meta.read_at(at, &mut block).unwrap();
                block
            })
            .collect();
        let hot = match recover(&ring).verdict {
            Verdict::Hot(extents) => extents.into_iter().map(|extent| u64::from(extent.get())).collect(),
            Verdict::Empty => BTreeSet::new(),
            broken => panic!("{broken:?}"),
        };
        Self { data, meta, layout, hot }
    }

    fn block(&self, block: u64) -> [u8; BLOCK as usize] {
        let mut bytes = [0; BLOCK as usize];
        self.data.read_at(block * BLOCK, &mut bytes).unwrap();
        bytes
    }

    /// Whether the bitmap on the medium, or the log beside it, names a block.
    fn names(&self, block: u64) -> bool {
        let mut byte = [0; 512];
        self.meta.read_at(self.layout.bitmap_byte() + block / 8 / 512 * 512, &mut byte).unwrap();
        self.is_hot(block) || byte[(block / 8 % 512) as usize] >> (block % 8) & 1 == 1
    }

    fn is_hot(&self, block: u64) -> bool {
        self.hot.contains(&(block / EXTENT))
    }
}

/// Looks at each node as if its power failed now.
#[track_caller]
fn check(machines: &Machines, random: &mut Random, blocks: &BTreeSet<u64>) {
    let all = random.below(2) == 0;
    let remains = [A, B].map(|host| Remains::of(machines, host, random, all));
    for host in [A, B] {
        let peer = 1 - host;
        for block in blocks.iter().copied() {
            let mut there = [0; BLOCK as usize];
            machines.world.disk(peer, 0).unwrap().read_at(block * BLOCK, &mut there).unwrap();
            if remains[host].block(block) == there {
                continue;
            }
            let core = machines.world.core(peer);
            let marked = core.and_then(|core| core.out_of_sync(VOLUME, BitIndex::new(block)));
            // The peer's sweep sets the bits of what it sent; its log on the medium names all of that (D36).
            let known = remains[host].names(block) || marked == Some(true) || remains[peer].is_hot(block);
            assert!(
                known,
                "at {:?}: block {block} would differ, and nobody would know",
                machines.world.now()
            );
        }
    }
}

/// I10: few slots, so that extents leave the log all the time; outages, so that bits matter; flushes, so that they do
/// not matter everywhere.
#[test]
fn at_each_instant_a_crash_of_either_node_leaves_nothing_unknown() {
    for seed in 1..3 {
        let mut random = Random::new(seed);
        let mut machines = Machines::with_few_slots();
        let mut blocks = BTreeSet::new();
        for round in 0..120_u64 {
            let block = random.below(9) * EXTENT + random.below(3);
            blocks.insert(block);
            let write = machines.start_write(A, block, round as u8 + 1);
            for _ in 0..random.below(20) {
                let until = machines.world.now().after(Duration::from_millis(20));
                machines.world.step(until);
                check(&machines, &mut random, &blocks);
            }
            if random.below(4) > 0 {
                machines.answered(write);
                check(&machines, &mut random, &blocks);
            }
            match random.below(24) {
                0 => machines.world.cut(),
                1 => drop(machines.world.break_connection()),
                2..6 => machines.world.join(),
                6 => machines.world.run_for(Duration::from_secs(3)),
                _ => {}
            }
        }
        machines.world.join();
        machines.settle();
        check(&machines, &mut random, &blocks);
        machines.assert_equal();
    }
}
