//! The life of a pair, from fresh metadata to `down`, played on any two nodes and recorded step by step.
//!
//! The recording of two kernels is `tests/data/kernel/pair.txt`; every other pair must leave the same one.
//! A step has a line for each node: connection state, roles, disk states, then the generation UUIDs (current,
//! bitmap, two of history) and the flags of `get-gi`. UUIDs are named in order of appearance: `u1+` is u1 + 2^48,
//! as the UUID of a bitmap derives from a current one, `new` the just-created value, `0` an empty slot. `*` is the
//! role bit of the current UUID; in the other slots that bit depends on timing and is left out.

use std::path::Path;
use std::time::Duration;

use super::lab::{noise, poll};
use super::node::{Node, RESOURCE};

/// Size of each node's disk image.
pub const IMAGE_BYTES: usize = 64 << 20;
/// What the recording of two kernels is.
pub const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kernel/pair.txt");
/// Set to write [`GOLDEN`] instead of comparing with it.
pub const RECORD: &str = "URBD_RECORD";

/// How long a node may take to write down what it has already decided.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
/// The just-created UUID.
const JUST_CREATED: u64 = 4;
/// The distance from a current UUID to the bitmap UUID derived from it.
const BITMAP_STEP: u64 = 1 << 48;
/// The lowest bit of a UUID: its node was Primary.
const ROLE_BIT: u64 = 1;

/// The resource file: short timers, so that a test takes seconds. Each node is name, address and disk.
pub fn conf(net: &str, nodes: [(&str, &str, &str); 2]) -> String {
    let sections = nodes.map(|(name, address, disk)| {
        format!("on {name} {{ device minor 1; disk {disk}; address {address}:7788; meta-disk internal; }}")
    });
    format!(
        "resource {RESOURCE} {{
            disk {{ resync-rate 400M; c-plan-ahead 0; }}
            net {{ connect-int 2; ping-int 2; ping-timeout 10; timeout 15; {net} }}
            {}
            {}
        }}",
        sections[0], sections[1]
    )
}

/// Plays the whole script. `images` hold what is on the disks of the first and the second node.
///
/// The first node becomes Primary, then the second; both write, connected and alone. In the end both disks hold
/// what was written, byte for byte.
pub fn play(first: &dyn Node, second: &dyn Node, images: [&Path; 2]) {
    let mut play = Play::new(first, second);

    for node in [first, second] {
        node.adm(&format!("create-md --force {RESOURCE}"));
        node.adm(&format!("up {RESOURCE}"));
    }
    play.step("fresh metadata, up", "Connected", "Connected");

    first.adm(&format!("primary --force {RESOURCE}"));
    play.model = std::fs::read(images[0]).unwrap();
    play.model.truncate(usize::try_from(first.device_bytes()).unwrap());
    play.step("first primary --force", "Connected UpToDate/UpToDate", "Connected UpToDate/UpToDate");

    play.write(first, 1, 0, 256 << 10);
    play.write(first, 2, 20 << 20, 64 << 10);
    play.step("first writes", "Connected", "Connected");

    first.adm(&format!("disconnect {RESOURCE}"));
    play.step("first disconnect", "StandAlone", "WFConnection");
    play.write(first, 3, 128 << 10, 256 << 10);
    play.write(first, 4, 40 << 20, 512 << 10);
    play.step("first writes alone", "StandAlone", "WFConnection");
    first.adm(&format!("connect {RESOURCE}"));
    play.step("first connect", "Connected UpToDate/UpToDate", "Connected UpToDate/UpToDate");

    first.adm(&format!("secondary {RESOURCE}"));
    play.step("first secondary", "Secondary/Secondary", "Secondary/Secondary");
    second.adm(&format!("primary {RESOURCE}"));
    play.step("second primary", "Secondary/Primary", "Primary/Secondary");
    play.write(second, 5, 64 << 10, 128 << 10);
    play.write(second, 6, 33 << 20, 4 << 10);
    play.step("second writes", "Connected", "Connected");

    first.adm(&format!("disconnect {RESOURCE}"));
    play.step("first disconnect, being Secondary", "StandAlone", "WFConnection");
    play.write(second, 7, 50 << 20, 1 << 20);
    play.step("second writes alone", "StandAlone", "WFConnection");
    first.adm(&format!("connect {RESOURCE}"));
    play.step("first connect again", "Connected UpToDate/UpToDate", "Connected UpToDate/UpToDate");

    second.adm(&format!("secondary {RESOURCE}"));
    play.step("second secondary", "Secondary/Secondary", "Secondary/Secondary");
    second.adm(&format!("down {RESOURCE}"));
    play.step("second down", "WFConnection", "Unconfigured");
    first.adm(&format!("down {RESOURCE}"));
    play.step("first down", "Unconfigured", "Unconfigured");

    play.finish(images);
}

/// The state of a script on its way.
struct Play<'a> {
    nodes: [&'a dyn Node; 2],
    /// What the device must hold.
    model: Vec<u8>,
    names: Names,
    /// How many resyncs each node had announced at the end of the last step.
    resyncs_seen: [usize; 2],
    /// The recording so far.
    trace: String,
    /// The steps of the golden recording still to come; `None` while recording it.
    golden: Option<Vec<String>>,
}

impl<'a> Play<'a> {
    fn new(first: &'a dyn Node, second: &'a dyn Node) -> Self {
        let golden = std::env::var_os(RECORD).is_none().then(|| {
            let text = std::fs::read_to_string(GOLDEN).unwrap();
            text.split_inclusive("\n\n").map(str::to_owned).collect::<Vec<_>>().into_iter().rev().collect()
        });
        Self {
            nodes: [first, second],
            model: Vec::new(),
            names: Names::default(),
            resyncs_seen: [0, 0],
            trace: String::new(),
            golden,
        }
    }

    /// Waits for both states, then compares what there is with the golden step.
    fn step(&mut self, title: &str, first: &str, second: &str) {
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
                let settled = wanted.as_ref().map_or(earlier == found, |wanted| *wanted == found);
                settled.then_some(())
            },
            || {
                format!("found:\n{}two kernels have:\n{}", self.snapshot(title, &mut self.names.clone()), {
                    wanted.clone().unwrap_or_default()
                })
            },
        );
        self.names = names;
        for (seen, node) in self.resyncs_seen.iter_mut().zip(self.nodes) {
            *seen = node.announced_resyncs().map_or(0, |all| all.len());
        }
        println!("{:5} ms  {title}", start.elapsed().as_millis());
        self.trace += &found;
    }

    /// The recording of this moment.
    fn snapshot(&self, title: &str, names: &mut Names) -> String {
        let mut text = format!("{title}\n");
        for (label, node) in ["first ", "second"].into_iter().zip(self.nodes) {
            let answer = node.run_adm(&format!("get-gi {RESOURCE}"));
            let generations =
                if answer.status == 0 { names.rename(answer.text().trim()) } else { answer.all() };
            text += &format!("  {label}  {:<58} {generations}\n", node.state().to_string());
        }
        let mut resyncs: Vec<Vec<u64>> = Vec::new();
        for (seen, node) in self.resyncs_seen.iter().zip(self.nodes) {
            resyncs.extend(node.announced_resyncs().map(|all| all[*seen..].to_vec()));
        }
        resyncs.dedup();
        for sizes in resyncs.iter().filter(|sizes| !sizes.is_empty()) {
            text += &format!("  resync  {sizes:?} KiB\n");
        }
        text + "\n"
    }

    /// Writes noise on `node`, which is Primary, and reads it back.
    fn write(&mut self, node: &dyn Node, seed: u64, at: usize, bytes: usize) {
        let data = noise(seed, bytes);
        node.write(at as u64, &data);
        self.model[at..at + bytes].copy_from_slice(&data);
        let read = node.read(at as u64, u32::try_from(bytes).unwrap());
        assert!(read == data, "{}: reads other bytes at {at} than it wrote", node.name());
    }

    fn finish(self, images: [&Path; 2]) {
        for image in images {
            let disk = std::fs::read(image).unwrap();
            if let Some(at) = (0..self.model.len()).find(|at| disk[*at] != self.model[*at]) {
                panic!("{} differs from what was written, first at byte {at}", image.display());
            }
        }
        match self.golden {
            Some(rest) => assert!(rest.is_empty(), "steps that did not come: {rest:?}"),
            None => std::fs::write(GOLDEN, self.trace).unwrap(),
        }
    }
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
