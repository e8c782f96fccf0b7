//! What two in-kernel DRBD 8.4.11 nodes decided when they met, against the pure decisions.
//!
//! `tests/data/handshakes.jsonl` has a line for each meeting: for both nodes the UUIDs before (bit 0 of
//! the bitmap UUID included), the metadata flags, role, disk state (`null`: the disk is attached in this
//! step), number of changed blocks (`null`: not known), net options; then one or more recordings of what
//! came of it: connection state, role, disk, UUIDs and handlers.
//!
//! `tests/data/states_at_rest.txt` lists every state in which such a node came to rest, with the flags in
//! its metadata.
#![allow(clippy::unwrap_used)]

use serde::Deserialize;
use urbd::config::values::{AfterSb0p, AfterSb1p, AfterSb2p, RrConflict};
use urbd::node::decision::after_sb::Policies;
use urbd::node::decision::compare::{self, Side, Uuids};
use urbd::node::decision::handshake::{self, Facts, Next, Outcome, decide};
use urbd::node::decision::{Action, attach};
use urbd::node::rules::{Context, sanitize};
use urbd::node::state::{Conn, Disk, Role, State, flags};

#[derive(Deserialize)]
struct Meeting {
    id: String,
    a: Before,
    b: Before,
    after: Vec<After>,
}

#[derive(Deserialize)]
struct Before {
    uuids: [String; 4],
    flags: [u8; 7],
    role: String,
    disk: Option<String>,
    bits: Option<u64>,
    discard: bool,
    net: String,
    fencing: bool,
}

#[derive(Deserialize, Debug)]
struct After {
    a: End,
    b: End,
}

#[derive(Deserialize, Debug)]
struct End {
    cs: String,
    uuids: Option<[String; 4]>,
    handlers: Vec<String>,
}

/// One node before the meeting, typed.
#[derive(Clone, Copy)]
struct Node {
    side: Side,
    disk: Disk,
    bits: Option<u64>,
    discard: bool,
    policies: Policies,
    always_asbp: bool,
    rr_conflict: RrConflict,
    two_primaries: bool,
}

/// The flags in the order in which `get-gi` prints them.
const GI_FLAGS: [u32; 7] = [
    flags::CONSISTENT,
    flags::WAS_UP_TO_DATE,
    flags::PRIMARY_IND,
    flags::CONNECTED_IND,
    flags::FULL_SYNC,
    flags::PEER_OUT_DATED,
    flags::CRASHED_PRIMARY,
];

impl Before {
    fn typed(&self) -> Node {
        let uuids = Uuids::from(self.uuids.clone().map(|text| u64::from_str_radix(&text, 16).unwrap()));
        let primary = self.role == "Primary";
        let word = GI_FLAGS.iter().zip(self.flags).map(|(flag, set)| flag * u32::from(set)).sum();
        let attached = attach::decide(&attach::Facts {
            flags: word,
            counts_bits: uuids.bitmap != 0,
            was_primary: uuids.current & 1 != 0,
            role: Role::Secondary,
            susp_nod: false,
            pdsk: Disk::DUnknown,
            fencing: self.fencing,
        });
        let (disk, crashed) = match &self.disk {
            Some(name) => (named(&Disk::ALL, name, Disk::name), word & flags::CRASHED_PRIMARY != 0),
            None => (attached.disk, attached.crashed_primary),
        };
        let value = |name: &str| {
            let mut statements = self.net.split(';').map(|text| text.split_whitespace());
            let found = statements.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()));
            found.map(|value| value.unwrap_or("yes").to_owned())
        };
        fn word_of<T: Copy + Default>(all: &[T], text: Option<String>, name: fn(T) -> &'static str) -> T {
            text.map_or_else(T::default, |text| all.iter().copied().find(|v| name(*v) == text).unwrap())
        }
        Node {
            side: Side { uuids, crashed, primary },
            disk,
            bits: self.bits,
            discard: self.discard,
            policies: Policies {
                zero: word_of(AfterSb0p::ALL, value("after-sb-0pri"), AfterSb0p::as_str),
                one: word_of(AfterSb1p::ALL, value("after-sb-1pri"), AfterSb1p::as_str),
                two: word_of(AfterSb2p::ALL, value("after-sb-2pri"), AfterSb2p::as_str),
            },
            always_asbp: value("always-asbp").is_some_and(|v| v == "yes"),
            rr_conflict: word_of(RrConflict::ALL, value("rr-conflict"), RrConflict::as_str),
            two_primaries: value("allow-two-primaries").is_some_and(|v| v == "yes"),
        }
    }
}

/// The facts of `own` in a meeting with `peer`. Where it is not known how much changed, the node with
/// `resolve` is taken to have changed more.
fn facts(own: Node, peer: Node, resolve: bool) -> Facts {
    let bits = |node: Node, more: bool| node.bits.unwrap_or(if more { 1000 } else { 500 });
    Facts {
        compare: compare::Facts {
            own: own.side,
            peer: peer.side,
            resolve,
            apv: 101,
            write_same: true,
            sync_uuid_taken: false,
        },
        disk: own.disk,
        negotiated: Disk::Diskless,
        peer_disk: peer.disk,
        own_bits: bits(own, resolve),
        peer_bits: bits(peer, !resolve),
        peer_flags: u64::from(peer.discard) * handshake::FLAG_DISCARD_MY_DATA
            + u64::from(peer.side.crashed) * handshake::FLAG_CRASHED_PRIMARY,
        bits_set: 0,
        discard_my_data: own.discard,
        policies: own.policies,
        always_asbp: own.always_asbp,
        rr_conflict: own.rr_conflict,
        tentative: false,
    }
}

/// What one node decides: the outcome (`None`: it is asked to give up its role, which fails while the
/// link comes up), its UUIDs with corrections, and the handlers it calls.
struct Decided {
    outcome: Option<Outcome>,
    own: Uuids,
    handlers: Vec<&'static str>,
}

fn run(facts: Facts) -> Decided {
    let mut verdict = decide(&facts);
    let mut actions = verdict.actions;
    let mut outcome = None;
    match verdict.next {
        Next::Done(done) => outcome = Some(done),
        Next::TryDemotion(pending) => {
            verdict = pending.resume(false);
            actions.extend(verdict.actions);
        }
    }
    let handlers = actions.iter().filter_map(|action| match action {
        Action::Handler(name) => Some(*name),
        Action::Log(..) => None,
    });
    Decided {
        outcome,
        own: verdict.comparison.own_fix.unwrap_or(facts.compare.own.uuids),
        handlers: handlers.collect(),
    }
}

/// Whether `after` is what a resync from `source` leaves on both nodes (S56, S59), bit 0 aside. A sync
/// UUID that derives from nothing is random.
fn is_left_by_resync(source: Uuids, after: [u64; 4]) -> bool {
    let derived = source.bitmap & !1 != 0 && source.bitmap & !1 != Uuids::JUST_CREATED;
    let older = if source.bitmap & !1 == 0 { source.history[0] } else { source.bitmap };
    let sync_uuid = source.bitmap.wrapping_add(Uuids::SYNC_OFFSET);
    same(after[0], source.current)
        && after[1] == 0
        && (!derived || same(after[2], sync_uuid))
        && after[2] != 0
        && same(after[3], older)
}

const fn same(a: u64, b: u64) -> bool {
    a & !1 == b & !1
}

fn numbers(end: &End) -> [u64; 4] {
    end.uuids.clone().unwrap().map(|text| u64::from_str_radix(&text, 16).unwrap())
}

/// Whether a recording can come of what the two nodes decide.
fn explains(a: (Node, &Decided), b: (Node, &Decided), after: &After) -> bool {
    let ends = [(a, &after.a), (b, &after.b)];
    let connected = ends.iter().all(|(_, end)| end.cs == "Connected");
    if !connected && ends.iter().any(|(_, end)| end.cs == "Connected") {
        return false;
    }
    // V1 comes after the handshake, the check of the policies before it (S30).
    let vetoed = a.0.side.primary && b.0.side.primary && !a.0.two_primaries;
    let mismatch = a.0.policies != b.0.policies.mirrored() || a.0.two_primaries != b.0.two_primaries;
    let handlers_fit = ends.iter().all(|((_, decided), end)| {
        let recorded: Vec<_> = end.handlers.iter().filter(|name| *name != "fence-peer").collect();
        // A node whose peer has left already does not finish, or begin, its own handshake (S75).
        recorded == decided.handlers
            || (!connected
                && decided.handlers.iter().zip(&recorded).all(|(x, y)| x == *y)
                && recorded.len() < decided.handlers.len())
    });
    if !handlers_fit && !mismatch {
        return false;
    }
    let uuids_are = |a_uuids: Uuids, b_uuids: Uuids| {
        let eq =
            |uuids: Uuids, end| <[u64; 4]>::from(uuids).iter().zip(numbers(end)).all(|(x, y)| same(*x, y));
        eq(a_uuids, &after.a) && eq(b_uuids, &after.b)
    };
    match (a.1.outcome, b.1.outcome) {
        _ if vetoed || mismatch => !connected,
        (Some(Outcome::Connected), Some(Outcome::Connected)) => connected && uuids_are(a.1.own, b.1.own),
        (Some(Outcome::SyncSource { full: x }), Some(Outcome::SyncTarget { full: y })) if x == y => {
            connected && ends.iter().all(|(_, end)| is_left_by_resync(a.1.own, numbers(end)))
        }
        (Some(Outcome::SyncTarget { full: x }), Some(Outcome::SyncSource { full: y })) if x == y => {
            connected && ends.iter().all(|(_, end)| is_left_by_resync(b.1.own, numbers(end)))
        }
        (None | Some(Outcome::Refused(_)), _) | (_, None | Some(Outcome::Refused(_))) => !connected,
        (Some(_), Some(_)) => false,
    }
}

#[test]
fn two_kernels_that_meet_decide_what_the_tables_say() {
    let text = include_str!("data/handshakes.jsonl");
    let mut unexplained = Vec::new();
    let mut meetings = 0;
    for line in text.lines() {
        let meeting: Meeting = serde_json::from_str(line).unwrap();
        meetings += 1;
        let (a, b) = (meeting.a.typed(), meeting.b.typed());
        for after in &meeting.after {
            // Who has RESOLVE_CONFLICTS follows from who connected first, which was not recorded.
            let explained = [false, true].into_iter().any(|resolve| {
                let (x, y) = (run(facts(a, b, resolve)), run(facts(b, a, !resolve)));
                explains((a, &x), (b, &y), after)
            });
            if !explained {
                let (x, y) = (run(facts(a, b, false)), run(facts(b, a, true)));
                unexplained.push(format!(
                    "{}: {:?} {:?} / {:?} {:?}, recorded {after:?}",
                    meeting.id, x.outcome, x.handlers, y.outcome, y.handlers
                ));
            }
        }
    }
    assert!(meetings > 250, "{meetings} meetings");
    assert!(unexplained.is_empty(), "{}\n{}", unexplained.len(), unexplained.join("\n"));
}

/// The one of `all` with this name.
fn named<T: Copy>(all: &[T], name: &str, name_of: fn(T) -> &'static str) -> T {
    all.iter().copied().find(|value| name_of(*value) == name).unwrap()
}

#[test]
fn states_at_rest_need_no_correction_and_have_their_flags() {
    // S9, S23
    let text = include_str!("data/states_at_rest.txt");
    let mut states = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [conn, roles, disks, recorded] = words[..] else { panic!("{line}") };
        let (role, peer) = roles.split_once('/').unwrap();
        let (disk, pdsk) = disks.split_once('/').unwrap();
        let state = State {
            conn: named(&Conn::ALL, conn, Conn::name),
            role: named(&Role::ALL, role, Role::name),
            peer: named(&Role::ALL, peer, Role::name),
            disk: named(&Disk::ALL, disk, Disk::name),
            pdsk: named(&Disk::ALL, pdsk, Disk::name),
            user_isp: conn.starts_with("Paused"),
            ..State::NEW
        };
        assert_eq!(sanitize(state, state, &Context::default()), (state, None), "{line}");
        let set: Vec<bool> = recorded.split(':').map(|flag| flag == "1").collect();
        let word = flags::recompute(0, state, set[6], true);
        let ours: Vec<bool> = GI_FLAGS.iter().map(|flag| word & flag != 0).collect();
        assert_eq!(ours, set, "{line}");
        states += 1;
    }
    assert_eq!(states, 33);
}
