//! A pair under crashes: who is Primary, which nodes live, what the clients know.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::chance::Chance;
use super::clients::{Acks, Clients, open};
use super::stamps::{CHUNK, CLIENTS, Ground, SECTOR_BYTES, Sheet, describe};
use crate::harness::Node;
use crate::harness::lab::{Lab, poll};
use crate::harness::node::{RESOURCE, STATE_LIMIT};

/// How many complaints of one check are shown.
const SHOWN: usize = 12;
/// What is compared at a time.
const PIECE: usize = 1 << 20;

/// One node of the pair.
pub(crate) struct Side<'a> {
    pub(crate) node: &'a dyn Node,
    /// The file that is its disk, or holds its data.
    pub(crate) image: PathBuf,
    /// The daemon's socket for clients; a kernel has none, and is never Primary here.
    pub(crate) socket: Option<PathBuf>,
}

impl<'a> Side<'a> {
    /// A daemon whose export clients may open.
    pub(crate) fn served(lab: &Lab, node: &'a dyn Node, image: PathBuf) -> Self {
        let socket = lab.socket_dir(node.name()).join("nbd.sock");
        Self { node, image, socket: Some(socket) }
    }

    /// A node that no client of this test opens.
    pub(crate) fn hidden(node: &'a dyn Node, image: PathBuf) -> Self {
        Self { node, image, socket: None }
    }
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kills: u64,
    pub(crate) promotions: u64,
    pub(crate) verified: u64,
}

/// A pair, its clients and its story.
pub(crate) struct Life<'a> {
    pub(crate) sides: [Side<'a>; 2],
    /// Which side is Primary, or was before it died.
    pub(crate) primary: usize,
    pub(crate) chance: Chance,
    pub(crate) tally: Tally,
    alive: [bool; 2],
    ground: Ground,
    sheets: Vec<Sheet>,
    clients: Option<Clients>,
    acks: Arc<Acks>,
    data_bytes: usize,
    begun: Instant,
}

impl<'a> Life<'a> {
    /// A pair that is Connected and UpToDate on both nodes, with the first one as Primary. Its device holds zeroes
    /// where the ground is. Without ground there are no clients here.
    pub(crate) fn of(sides: [Side<'a>; 2], ground: Ground) -> Self {
        let data_bytes = usize::try_from(sides[0].node.device_bytes()).unwrap();
        let last = ground.sectors().checked_sub(1);
        let end = last.map_or(0, |last| ground.byte_of(CLIENTS - 1, last) as usize + SECTOR_BYTES);
        assert!(end <= data_bytes, "the ground ends at {end}, the device at {data_bytes}");
        Self {
            sides,
            primary: 0,
            chance: Chance::new(0),
            tally: Tally::default(),
            alive: [true; 2],
            ground,
            sheets: (0..CLIENTS).map(|client| Sheet::new(client, ground)).collect(),
            clients: None,
            acks: Arc::default(),
            data_bytes,
            begun: Instant::now(),
        }
    }

    pub(crate) fn node(&self, side: usize) -> &'a dyn Node {
        self.sides[side].node
    }

    pub(crate) const fn secondary(&self) -> usize {
        1 - self.primary
    }

    pub(crate) fn can_be_primary(&self, side: usize) -> bool {
        self.sides[side].socket.is_some()
    }

    /// Size of the device.
    pub(crate) const fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// What the Primary has written to its disk since it was configured, in KiB.
    pub(crate) fn written_kib(&self) -> u64 {
        let proc_drbd = self.node(self.primary).proc_drbd();
        let field = proc_drbd.split_whitespace().find_map(|word| word.strip_prefix("dw:"));
        field.and_then(|kib| kib.parse().ok()).unwrap_or_else(|| panic!("no dw: in\n{proc_drbd}"))
    }

    /// How many writes were acknowledged in all rounds.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acks.count()
    }

    pub(crate) fn say(&self, what: &str) {
        println!("{:>9.3} {what}", self.begun.elapsed().as_secs_f64());
    }

    // ------------------------------------------------------------------------------------ clients

    /// Clients begin to write on the Primary.
    pub(crate) fn write(&mut self) {
        assert!(self.clients.is_none(), "the clients of before are still there");
        let socket = self.sides[self.primary].socket.as_ref().expect("a node with an export");
        let sheets = std::mem::take(&mut self.sheets);
        self.clients = Some(Clients::start(socket, sheets, &mut self.chance, &self.acks));
    }

    /// Waits until so many more writes are acknowledged, and a random moment more.
    pub(crate) fn await_acks(&mut self, more: u64) {
        self.clients.as_ref().expect("clients are at work").await_acks(more);
        self.chance.spin(std::time::Duration::from_millis(2));
    }

    /// The clients end; none met an error.
    pub(crate) fn stop_writing(&mut self) {
        if let Some(clients) = self.clients.take() {
            self.sheets = clients.stop();
        }
    }

    // -------------------------------------------------------------------------------------- nodes

    /// `kill -9`, or the power failure of a guest.
    pub(crate) fn kill(&mut self, side: usize) {
        let role = if side == self.primary { "Primary" } else { "Secondary" };
        let node = self.node(side);
        self.say(&format!("kill {} ({role}), {} acknowledged", node.name(), self.acks.count()));
        node.crash();
        self.alive[side] = false;
        self.tally.kills += 1;
        if side == self.primary
            && let Some(clients) = self.clients.take()
        {
            self.sheets = clients.lost();
        }
    }

    /// Starts a dead node, with its resource.
    pub(crate) fn revive(&mut self, side: usize) {
        let node = self.node(side);
        self.say(&format!("start {}", node.name()));
        node.boot();
        node.adm(&format!("up {RESOURCE}"));
        self.alive[side] = true;
    }

    /// Makes this side Primary, as soon as it lets itself be.
    pub(crate) fn promote(&mut self, side: usize) {
        let node = self.node(side);
        self.say(&format!("primary {} ({})", node.name(), node.state()));
        let mut answer = String::new();
        poll(
            STATE_LIMIT,
            || {
                let done = node.run_adm(&format!("primary {RESOURCE}"));
                answer = done.all();
                (done.status == 0).then_some(())
            },
            || format!("{} does not become Primary: {}", node.name(), node.proc_drbd()),
        );
        self.primary = side;
        self.tally.promotions += 1;
    }

    /// Waits until a node has given its disk up, and lives on its peer's.
    pub(crate) fn await_diskless(&self, side: usize) {
        self.node(side).await_state("Connected Diskless/UpToDate");
        self.say(&format!("{} has given its disk up", self.node(side).name()));
    }

    /// Gives a node its disk back.
    pub(crate) fn attach(&self, side: usize) {
        self.say(&format!("attach {}", self.node(side).name()));
        self.node(side).adm(&format!("attach {RESOURCE}"));
    }

    /// Waits until both nodes are UpToDate and connected, both of them alive.
    pub(crate) fn await_sync(&self) {
        for side in &self.sides {
            side.node.await_state("Connected UpToDate/UpToDate");
        }
    }

    /// Waits until a node is in a resync, or has it behind it.
    pub(crate) fn await_resync(&self, side: usize) {
        let node = self.node(side);
        poll(
            STATE_LIMIT,
            || {
                let state = node.state();
                let seen = state.has("SyncSource") || state.has("SyncTarget");
                (seen || state.has("Connected UpToDate/UpToDate")).then_some(())
            },
            || format!("{}: waited for a resync, it is\n{}", node.name(), node.proc_drbd()),
        );
    }

    /// Waits until a node has noticed that its peer is gone.
    pub(crate) fn await_alone(&self, side: usize) {
        self.node(side).await_state("WFConnection");
    }

    // -------------------------------------------------------------------------------------- checks

    /// The end of a round: nobody writes, both nodes are well, every stamp is there, and both copies are equal.
    pub(crate) fn verify(&mut self) {
        self.await_sync();
        let socket = self.sides[self.primary].socket.as_ref().expect("a node with an export");
        let mut export = open(socket).unwrap();
        let window_bytes = self.ground.rows * CLIENTS * CHUNK * SECTOR_BYTES;
        let mut wrong = Vec::new();
        for window in 0..self.ground.windows {
            let first = self.ground.byte_of(0, window * self.ground.rows * CHUNK);
            let data = export.read(first, window_bytes as u32).unwrap();
            for (n, chunk) in data.chunks(CHUNK * SECTOR_BYTES).enumerate() {
                let byte = first + (n * CHUNK * SECTOR_BYTES) as u64;
                let (client, sector) = self.ground.owner_of(byte).expect("a byte of the ground");
                wrong.extend(self.sheets[client].check(sector, chunk));
            }
        }
        let count = wrong.len();
        wrong.truncate(SHOWN);
        assert!(
            wrong.is_empty(),
            "{} sectors on {} do not hold what they must:\n{}",
            count,
            self.node(self.primary).name(),
            wrong.join("\n")
        );
        self.compare();
        self.tally.verified += 1;
    }

    /// Both copies of the data, in the files below the nodes, are equal. Nothing writes.
    pub(crate) fn compare(&self) {
        let [a, b] = self.sides.each_ref().map(|side| File::open(&side.image).unwrap());
        let (mut of_a, mut of_b) = (vec![0; PIECE], vec![0; PIECE]);
        for at in (0..self.data_bytes).step_by(PIECE) {
            let bytes = PIECE.min(self.data_bytes - at);
            a.read_exact_at(&mut of_a[..bytes], at as u64).unwrap();
            b.read_exact_at(&mut of_b[..bytes], at as u64).unwrap();
            if of_a[..bytes] != of_b[..bytes] {
                self.complain_of_difference(at, &of_a[..bytes], &of_b[..bytes]);
            }
        }
    }

    fn complain_of_difference(&self, at: usize, of_a: &[u8], of_b: &[u8]) -> ! {
        let pairs = of_a.chunks(SECTOR_BYTES).zip(of_b.chunks(SECTOR_BYTES)).enumerate();
        let differing: Vec<_> = pairs.filter(|(_, (a, b))| a != b).collect();
        let lines: Vec<String> = differing
            .iter()
            .take(SHOWN)
            .map(|(n, (a, b))| {
                let byte = (at + n * SECTOR_BYTES) as u64;
                format!(
                    "byte {byte:#x} ({:?}): {} | {}",
                    self.ground.owner_of(byte),
                    describe(a),
                    describe(b)
                )
            })
            .collect();
        panic!(
            "the copies of {} and {} differ in {} sectors of this MiB:\n{}",
            self.node(0).name(),
            self.node(1).name(),
            differing.len(),
            lines.join("\n")
        );
    }

    /// Takes both nodes down in good order and compares once more.
    pub(crate) fn end(self) {
        self.node(self.primary).adm(&format!("secondary {RESOURCE}"));
        for side in &self.sides {
            side.node.adm(&format!("down {RESOURCE}"));
        }
        self.compare();
    }
}
