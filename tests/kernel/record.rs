//! What a pair of nodes went through, step by step, and the recording it is compared with.
//!
//! A step has a line for each node: connection state, roles, disk states, then the generation UUIDs (current,
//! bitmap, two of history) and the flags of `get-gi`; then the resyncs that began in it. UUIDs are named in order of
//! appearance: `u1+` is u1 + 2^48, as the UUID of a bitmap derives from a current one, `new` the just-created value,
//! `0` an empty slot. `*` is the role bit of the current UUID; in the other slots that bit depends on timing and is
//! left out. `[rest]` is the size of a resync that depends on timing, and was what [`Record::expect_rest`] said.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lab::{noise, poll};
use super::node::{Node, announced_resyncs};
use super::writers::{Done, RANGE_BYTES};

/// Where the recordings of two kernels are.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kernel");
/// Set to write the recording instead of comparing with it.
const RECORD: &str = "URBD_RECORD";

/// How long a node may take to write down what it has already decided.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
/// The just-created UUID.
const JUST_CREATED: u64 = 4;
/// The distance from a current UUID to the bitmap UUID derived from it.
const BITMAP_STEP: u64 = 1 << 48;
/// The lowest bit of a UUID: its node was Primary.
const ROLE_BIT: u64 = 1;

/// A script on its way.
pub struct Record<'a> {
    nodes: [&'a dyn Node; 2],
    /// What the device must hold.
    model: Vec<u8>,
    names: Names,
    /// How many resyncs each node had announced at the end of the last step.
    resyncs_seen: [usize; 2],
    /// The size of a resync to come that depends on timing, in KiB.
    rest: Option<u64>,
    /// The file with the recording of two kernels.
    file: PathBuf,
    /// The recording so far.
    trace: String,
    /// The steps of the golden recording still to come; `None` while recording it.
    golden: Option<Vec<String>>,
}

impl<'a> Record<'a> {
    /// Begins; `file` is the name of the recording.
    pub fn new(file: &str, first: &'a dyn Node, second: &'a dyn Node) -> Self {
        let file = Path::new(GOLDEN).join(file);
        let golden = std::env::var_os(RECORD).is_none().then(|| {
            let text = std::fs::read_to_string(&file).unwrap();
            text.split_inclusive("\n\n").map(str::to_owned).collect::<Vec<_>>().into_iter().rev().collect()
        });
        Self {
            nodes: [first, second],
            model: Vec::new(),
            names: Names::default(),
            resyncs_seen: [0, 0],
            rest: None,
            file,
            trace: String::new(),
            golden,
        }
    }

    /// From here on the device must hold what this node's disk image holds.
    pub fn begin_with(&mut self, image: &Path, device_bytes: u64) {
        self.model = std::fs::read(image).unwrap();
        self.model.truncate(usize::try_from(device_bytes).unwrap());
    }

    /// The resync to come sends as much as `source` has out of sync now, and not more than `most`, in KiB.
    pub fn expect_rest(&mut self, source: &dyn Node, most: u64) {
        let rest = source.out_of_sync_kib();
        assert!(
            (1..=most).contains(&rest),
            "{}: {rest} KiB are out of sync, not {most} at most",
            source.name()
        );
        self.rest = Some(rest);
    }

    /// Waits for both states, then compares what there is with the golden step.
    pub fn step(&mut self, title: &str, first: &str, second: &str) {
        let start = std::time::Instant::now();
        self.nodes[0].await_state(first);
        self.nodes[1].await_state(second);
        let wanted = self.golden.as_mut().map(|golden| golden.pop().expect("a step more than recorded"));
        let mut names = self.names.clone();
        let mut found = String::new();
        // A state shows up before its metadata is written: the step ends once the latter has caught up.
        poll(
            SETTLE_LIMIT,
            || {
                names = self.names.clone();
                let earlier = std::mem::replace(&mut found, self.snapshot(title, &mut names));
                let settled = wanted.as_ref().map_or(earlier == found, |wanted| is_as_wanted(wanted, &found));
                // What was logged and has not arrived yet counts as well.
                let is_all = || {
                    self.nodes.iter().for_each(|node| _ = node.whole_log());
                    self.snapshot(title, &mut names.clone()) == found
                };
                (settled && is_all()).then_some(())
            },
            || {
                format!("found:\n{}two kernels have:\n{}", self.snapshot(title, &mut self.names.clone()), {
                    wanted.clone().unwrap_or_default()
                })
            },
        );
        self.names = names;
        for (seen, node) in self.resyncs_seen.iter_mut().zip(self.nodes) {
            *seen = announced_resyncs(&node.log()).len();
        }
        println!("{:5} ms  {title}", start.elapsed().as_millis());
        self.trace += &found;
    }

    /// The recording of this moment.
    fn snapshot(&self, title: &str, names: &mut Names) -> String {
        let mut text = format!("{title}\n");
        for (label, node) in ["first ", "second"].into_iter().zip(self.nodes) {
            let generations = names.rename(node.generations().trim());
            text += &format!("  {label}  {:<58} {generations}\n", node.state().to_string());
        }
        let size = |kib: &u64| if self.rest == Some(*kib) { "rest".into() } else { kib.to_string() };
        let sizes = |(seen, node): (&usize, &dyn Node)| {
            announced_resyncs(&node.log())[*seen..].iter().map(size).collect::<Vec<_>>().join(", ")
        };
        let mut resyncs: Vec<String> = self.resyncs_seen.iter().zip(self.nodes).map(sizes).collect();
        resyncs.dedup(); // both nodes announce the same
        for sizes in resyncs.iter().filter(|sizes| !sizes.is_empty()) {
            text += &format!("  resync  [{sizes}] KiB\n");
        }
        text + "\n"
    }

    /// Writes noise on `node`, which is Primary, and reads it back.
    pub fn write(&mut self, node: &dyn Node, seed: u64, at: usize, bytes: usize) {
        let data = noise(seed, bytes);
        node.write(at as u64, &data);
        self.model[at..at + bytes].copy_from_slice(&data);
        let read = node.read(at as u64, u32::try_from(bytes).unwrap());
        assert!(read == data, "{}: reads other bytes at {at} than it wrote", node.name());
    }

    /// Writers were at work from byte `first` on: `node` has every write they were told is done.
    pub fn written(&mut self, node: &dyn Node, first: usize, done: Done) {
        let range = node.read(first as u64, u32::try_from(RANGE_BYTES).unwrap());
        done.check(&range);
        self.model[first..first + RANGE_BYTES].copy_from_slice(&range);
    }

    /// The resource is down: both disks hold what was written, byte for byte.
    pub fn finish(self, images: [&Path; 2]) {
        for image in images {
            let disk = std::fs::read(image).unwrap();
            if let Some(at) = (0..self.model.len()).find(|at| disk[*at] != self.model[*at]) {
                panic!("{} differs from what was written, first at byte {at}", image.display());
            }
        }
        match self.golden {
            Some(rest) => assert!(rest.is_empty(), "steps that did not come: {rest:?}"),
            None => std::fs::write(self.file, self.trace).unwrap(),
        }
    }
}

/// Whether a step is as it was recorded. A node may have forgotten a crash as Primary (the last flag) where both disks are
/// UpToDate: the kernel takes it off the disk with the next change of state, urbd at once (A2).
fn is_as_wanted(wanted: &str, found: &str) -> bool {
    let forgotten = |line: &str| {
        let rest = line.strip_suffix('1').filter(|_| line.contains(" UpToDate/UpToDate "))?;
        Some(format!("{rest}0"))
    };
    let fits = |(wanted, found): (&str, &str)| wanted == found || forgotten(wanted).as_deref() == Some(found);
    wanted.lines().count() == found.lines().count() && wanted.lines().zip(found.lines()).all(fits)
}

/// Names for UUIDs, in order of appearance.
#[derive(Clone, Default)]
struct Names(Vec<u64>);

impl Names {
    /// Turns the output of `get-gi` into names and flags; what is not of that form stays as it is.
    fn rename(&mut self, get_gi: &str) -> String {
        let fields: Vec<&str> = get_gi.split(':').collect();
        let uuids: Vec<u64> =
            fields.iter().take(4).filter_map(|field| u64::from_str_radix(field, 16).ok()).collect();
        let &[current, bitmap, newer, older] = uuids.as_slice() else { return get_gi.into() };
        let role = if current & ROLE_BIT == 0 { "" } else { "*" };
        let [current, bitmap, newer, older] = [current, bitmap, newer, older].map(|uuid| self.name(uuid));
        format!("{current}{role}:{bitmap}:{newer}:{older} {}", fields[4..].concat())
    }

    fn name(&mut self, uuid: u64) -> String {
        let uuid = uuid & !ROLE_BIT;
        match uuid {
            0 => "0".into(),
            JUST_CREATED => "new".into(),
            _ => match (self.place(uuid), self.place(uuid.wrapping_sub(BITMAP_STEP))) {
                (Some(place), _) => format!("u{place}"),
                (None, Some(place)) => format!("u{place}+"),
                (None, None) => {
                    self.0.push(uuid);
                    format!("u{}", self.0.len())
                }
            },
        }
    }

    fn place(&self, uuid: u64) -> Option<usize> {
        self.0.iter().position(|known| *known == uuid).map(|at| at + 1)
    }
}
