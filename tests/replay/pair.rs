//! Two real nodes as a stage: steps become commands, and quiet is waited for by the clock.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::harness::Lab;
use super::harness::guest::Answer;
use super::harness::lab::poll;
use super::scenario::{After, Config, Step};
use super::stage::{BLOCK, COMMON_NET, HANDLERS, NEVER_QUIET, QUIET, Stage, is_quiet};

/// Bytes of each disk, metadata included.
pub(crate) const DISK_BYTES: u64 = 8 << 20;
/// Between two looks at the nodes.
const LOOK: Duration = Duration::from_millis(100);
/// How long an outage may stay unnoticed, on a busy machine.
const NOTICED: Duration = Duration::from_secs(60);
/// A resync without a slow rate, a dial and a handshake, or a fence-peer handler that is called again and again.
const SOON_QUIET: Duration = Duration::from_secs(90);

/// A node of either kind. It is made down, with a disk of zeroes.
pub(crate) trait Machine {
    /// Its section of the resource file.
    fn section(&self) -> String;
    /// The file to which its handlers append their names, as the node sees it.
    fn calls(&self) -> String;
    /// Starts it with a resource file (its text), and makes metadata.
    fn start(&mut self, conf: &str);
    /// Runs a `drbdadm` command line.
    fn adm(&self, words: &str) -> Answer;
    /// State as `/proc/drbd` shows it; `absent` without the resource, `down` without the node.
    fn state(&self) -> String;
    /// UUIDs and flags as `get-gi` prints them; nothing without a disk.
    fn generation(&self) -> Option<String>;
    /// What all handlers appended so far.
    fn called(&self) -> String;
    /// Writes blocks, one after the other, each durable before the next; the exit code of `dd`.
    fn write(&mut self, block: u64, count: u64, data: &[u8]) -> i32;
    /// Changes the metadata's UUIDs and flags while the resource is down.
    fn set_gi(&self, list: &str);
    /// Holds the device open, as a mount does.
    fn open(&mut self);
    /// Ends [`Self::open`].
    fn close(&mut self);
    /// A power failure.
    fn crash(&mut self);
    /// After [`Self::crash`].
    fn boot(&mut self);
    /// What the disk holds at the beginning of a block.
    fn tag(&self, block: u64) -> String;
    /// What it has logged since it was started.
    fn log(&self) -> String;
}

/// The two nodes of a scenario.
pub(crate) struct Pair<'a> {
    lab: &'a Lab,
    port: u16,
    machines: [&'a mut dyn Machine; 2],
    alive: [bool; 2],
    /// Whether the link is, nodes without power aside.
    whole: bool,
    /// Whether packets are dropped.
    cut: bool,
    /// How many calls of handlers have been seen.
    calls_seen: [usize; 2],
    /// Number of the last write.
    writes: u32,
    patience: Duration,
}

impl<'a> Pair<'a> {
    /// Starts both nodes. Pairs with different numbers are independent.
    pub(crate) fn new(
        lab: &'a Lab,
        number: usize,
        config: &Config,
        machines: [&'a mut dyn Machine; 2],
    ) -> Self {
        let port = port(number);
        lab.join_port(port);
        let patience = if config.resync_rate.is_some() { NEVER_QUIET } else { SOON_QUIET };
        let sections = machines.each_ref().map(|machine| machine.section()).concat();
        let own = [&config.net_boole, &config.net_cardan];
        let mut pair = Self {
            lab,
            port,
            machines,
            alive: [true, true],
            whole: true,
            cut: false,
            calls_seen: [0, 0],
            writes: 0,
            patience,
        };
        for (machine, own) in pair.machines.iter_mut().zip(own) {
            machine.start(&conf(config, own, &machine.calls(), &sections));
        }
        pair
    }

    /// What both nodes have logged.
    pub(crate) fn logs(&self) -> String {
        let [a, b] = self.machines.each_ref().map(|machine| machine.log());
        format!("the log of a\n{a}\nthe log of b\n{b}")
    }

    fn states(&self) -> [String; 2] {
        [0, 1].map(|host| if self.alive[host] { self.machines[host].state() } else { "down".into() })
    }

    fn generation(&self, host: usize, states: &[String; 2]) -> Option<String> {
        let without =
            ["down", "absent"].contains(&states[host].as_str()) || states[host].contains(" Diskless/");
        if without { None } else { self.machines[host].generation() }
    }

    /// Everything that a step is compared by, but for what handlers were called.
    fn look(&self) -> [(String, Option<String>); 2] {
        let states = self.states();
        [0, 1].map(|host| (states[host].clone(), self.generation(host, &states)))
    }

    /// Until nothing is going on and has not changed for a while, or patience ends.
    fn wait_until_quiet(&self) {
        let end = Instant::now() + self.patience;
        let mut seen = self.states();
        let mut since = Instant::now();
        while Instant::now() < end {
            std::thread::sleep(LOOK);
            let looked = Instant::now();
            let now = self.states();
            if now != seen || !is_quiet(&now, self.whole) {
                (seen, since) = (now, looked);
            } else if looked - since >= QUIET {
                let before = self.look();
                std::thread::sleep(LOOK);
                if before == self.look() {
                    return;
                }
                since = Instant::now();
            }
        }
    }

    fn calls(&mut self, host: usize) -> Vec<String> {
        let text = self.machines[host].called();
        let all: Vec<&str> = text.lines().collect();
        let news = all.iter().skip(self.calls_seen[host]).map(|&name| name.to_owned()).collect();
        self.calls_seen[host] = all.len();
        news
    }

    /// A node without power says nothing, not even goodbye: the kernel it ran on must not speak for it.
    fn set_link(&mut self) {
        let cut = !self.whole || self.alive.contains(&false);
        if cut != self.cut {
            if cut {
                self.lab.cut_port(self.port)
            } else {
                self.lab.join_port(self.port)
            }
            self.cut = cut;
        }
    }

    fn act(&mut self, host: usize, step: &Step) -> Value {
        let machine = &mut self.machines[host];
        match step.op() {
            "adm" => return codes(&machine.adm(step.text(0))),
            "write" => {
                self.writes += 1;
                let tag = format!("{}{:06}\n", ["a", "b"][host], self.writes);
                let data = tag.repeat(BLOCK as usize / tag.len()).into_bytes();
                return json!(machine.write(step.number(0), step.number(1), &data));
            }
            "gi" => machine.set_gi(step.text(0)),
            "open" => machine.open(),
            "close" => machine.close(),
            "cut" => {
                self.whole = false;
                self.set_link();
            }
            "join" => {
                // The outage had been noticed before the link came back.
                poll(
                    NOTICED,
                    || self.states().iter().all(|state| !state.starts_with("Connected")).then_some(()),
                    || format!("the outage stays unnoticed: {:?}", self.states()),
                );
                self.whole = true;
                self.set_link();
            }
            "crash" => {
                self.alive[host] = false;
                self.set_link();
                self.machines[host].crash();
            }
            "boot" => {
                machine.boot();
                self.alive[host] = true;
                self.set_link();
            }
            other => panic!("no step {other}"),
        }
        json!(0)
    }

    fn await_resync(&self) {
        poll(
            self.patience,
            || {
                let states = self.states();
                let either = |name: &str| states.iter().any(|state| state.starts_with(name));
                (either("SyncSource") && either("SyncTarget")).then_some(())
            },
            || format!("no resync: {:?}", self.states()),
        );
    }
}

impl Stage for Pair<'_> {
    fn play(&mut self, step: &Step) -> After {
        let codes: Vec<Value> = step.hosts().into_iter().map(|host| self.act(host, step)).collect();
        if step.is_nowait() {
            self.await_resync();
            return After { rc: Value::Array(codes), ..After::default() };
        }
        // A cut was noticed later, but in a resync, which is not quiet.
        if step.op() != "cut" || self.states().iter().any(|state| state.starts_with("Sync")) {
            self.wait_until_quiet();
        }
        let [(a, gi_a), (b, gi_b)] = self.look();
        let [handlers_a, handlers_b] = [0, 1].map(|host| self.calls(host));
        After { rc: Value::Array(codes), a: Some(a), b: Some(b), gi_a, gi_b, handlers_a, handlers_b }
    }

    fn tag(&self, host: usize, block: u64) -> String {
        self.machines[host].tag(block)
    }
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        self.lab.join_port(self.port);
    }
}

/// The port of a pair's connections.
pub(crate) fn port(number: usize) -> u16 {
    7800 + number as u16
}

/// The line of a minor in the text of `/proc/drbd`, as states are compared.
pub(crate) fn state_in(proc_drbd: &str, minor: u32) -> String {
    let line = proc_drbd.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{minor}:")));
    let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    let field = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
    match (field("cs:"), field("ro:"), field("ds:")) {
        (Some(cstate), Some(roles), Some(disks)) => format!("{cstate} {roles} {disks}"),
        _ => "absent".into(),
    }
}

/// `get-gi`'s line, flags set off from UUIDs.
pub(crate) fn generation_of(answer: &Answer) -> Option<String> {
    let text = answer.text();
    let fields: Vec<&str> = text.trim().split(':').collect();
    let complete = answer.status == 0 && fields.len() == 11;
    complete.then(|| format!("{} {}", fields[..4].join(":"), fields[4..].join(":")))
}

/// Exit code, then the number in the message if there was one.
fn codes(answer: &Answer) -> Value {
    let said = String::from_utf8_lossy(&answer.err).into_owned() + &answer.text();
    let failure = said.split_once("Failure: (").or_else(|| said.split_once("State change failed: ("));
    let number = failure.and_then(|(_, rest)| rest.split_once(')')?.0.parse::<i32>().ok());
    match number {
        Some(number) if answer.status != 0 => json!([answer.status, number]),
        _ => json!([answer.status]),
    }
}

/// The resource file of a node.
fn conf(config: &Config, own: &str, calls: &str, sections: &str) -> String {
    let handler = |name: &str| {
        let exit = config.handler_exit.get(name).copied().unwrap_or(0);
        format!("{name} \"echo {name} >>{calls}; exit {exit}\";\n")
    };
    let handlers: String = HANDLERS.iter().map(|name| handler(name)).collect();
    let rate = config.resync_rate.as_deref().unwrap_or("400M");
    let protocol = config.protocol.as_deref().unwrap_or("C");
    format!(
        "resource r0 {{
            options {{ {} }}
            disk {{ resync-rate {rate}; c-plan-ahead 0; {} }}
            net {{ protocol {protocol}; {COMMON_NET} {} {own} }}
            handlers {{ {handlers} }}
            {sections}
        }}",
        config.options, config.disk, config.net
    )
}
