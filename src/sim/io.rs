//! The false ring: what a resource's loop gets in place of the kernel.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::corruption::Corruption;
use super::disk::{Device, SimDisk, bytes_of};
use super::events::{Event, Events, HostId};
use super::network::Network;
use super::random::Random;
use super::weather::Weather;
use crate::buffer::Buf;
use crate::io::slots::Slots;
use crate::io::{Completion, DeviceKey, Devices, Io, Op, SocketKey, Token, Unsent};
use crate::node::input::DiskFault;
use crate::node::keep::KeepAsk;
use crate::units::{Moment, VolumeId};
use crate::wire::{Decoded, Dialect, Packet, decode, encode};

/// Everything the machines share, and time.
#[derive(Debug)]
pub(super) struct Universe {
    pub(super) now: Moment,
    pub(super) random: Random,
    pub(super) events: Events,
    pub(super) network: Network,
    pub(super) weather: Weather,
    pub(super) hosts: [HostPart; 2],
    /// Handlers that ended, and are not reported: machine, call, exit code.
    pub(super) handlers_done: Vec<(HostId, u64, i32)>,
    /// The features that both nodes may agree on.
    pub(super) features: u32,
    /// One disk operation of so many takes much longer than the others, which overtake it.
    pub(super) stragglers: Option<u64>,
    /// Block data between the nodes are changed on their way.
    pub(super) corruption: Option<Corruption>,
    /// How many were.
    pub(super) corrupted: u64,
    /// Disk operations that were made to fail since somebody looked.
    pub(super) struck: Vec<Struck>,
    /// What the shells were asked to keep, and have not.
    pub(super) kept: Vec<(HostId, VolumeId, KeepAsk)>,
}

/// A disk operation that was made to fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Struck {
    pub(super) host: HostId,
    pub(super) token: Token,
    pub(super) kind: Failing,
}

/// What kind of operation was made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// A read.
    Read,
    /// A write, a discard or a write of zeroes.
    Write,
    /// A flush.
    Flush,
}

impl Failing {
    const fn of(op: &Op) -> Self {
        match op {
            Op::Read { .. } => Self::Read,
            Op::Write { .. } | Op::Discard { .. } | Op::Zero { .. } => Self::Write,
            Op::Sync => Self::Flush,
        }
    }
}

/// What the ring of one machine holds.
#[derive(Debug, Default)]
pub(super) struct HostPart {
    pub(super) up: bool,
    /// How often it was started.
    pub(super) boot: u64,
    /// What ended and was not reported.
    pub(super) ready: VecDeque<Completion>,
    devices: Slots<Device>,
    /// Its loop does not run before that.
    pub(super) paused_until: Moment,
    /// How the machine's disks do.
    pub(super) pace: Pace,
}

/// How fast a machine's disks are.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Every operation takes so many times what it takes a good disk.
    pub factor: u32,
    /// Nothing ends before that.
    pub stalled_until: Moment,
}

impl Default for Pace {
    fn default() -> Self {
        Self { factor: 1, stalled_until: Moment::default() }
    }
}

impl HostPart {
    pub(super) fn device(&self, key: DeviceKey) -> Option<&Device> {
        self.devices.get(key.0)
    }
}

impl Universe {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Moment::default(),
            random: Random::new(seed),
            events: Events::default(),
            network: Network::new(),
            weather: Weather::default(),
            hosts: Default::default(),
            handlers_done: Vec::new(),
            features: u32::MAX,
            stragglers: None,
            corruption: None,
            corrupted: 0,
            struck: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Starts or stops a machine.
    pub(super) fn set_up(&mut self, host: HostId, up: bool) {
        self.vanish(host);
        let part = &mut self.hosts[host];
        part.up = up;
        part.boot += 1;
        part.ready.clear();
        part.devices = Slots::default();
        part.pace = Pace::default();
    }

    /// The power of a machine fails: what its disks had not on the medium may be lost, and what was being
    /// written may have got there. With `all`, everything that can be lost is.
    pub(super) fn lose_power(&mut self, host: HostId, disks: &[SimDisk], all: bool) {
        let Self { events, random, hosts, .. } = self;
        let part = &hosts[host];
        if !all {
            for event in events.iter() {
                if let Event::Disk { host: of, boot, device, op, .. } = event
                    && (*of, *boot) == (host, part.boot)
                    && let Some(device) = part.devices.get(device.0)
                {
                    device.tear(op, random);
                }
            }
        }
        for device in disks.iter().flat_map(SimDisk::devices) {
            device.store_mut().lose_power(random, all);
        }
        self.set_up(host, false);
    }

    /// Lets everything happen that is due; whether that was something.
    pub(super) fn run_due(&mut self) -> bool {
        let now = self.now;
        let mut some = false;
        while let Some(event) = self.events.take_due(now) {
            self.happen(event);
            some = true;
        }
        some
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { to } => self.arrive(to),
            Event::Knock { from, remote } => self.knock(from, remote),
            Event::DialEnds { socket, result } => self.dial_ends(socket, result),
            Event::Reset { socket } => self.reset(socket),
            Event::Disk { host, boot, token, device, op, begun } => {
                let part = &mut self.hosts[host];
                if part.boot == boot {
                    let device = part.devices.get(device.0);
                    let kind = Failing::of(&op);
                    let result = device.map_or(Err(DiskFault::Gone), |device| device.perform(op, begun));
                    if matches!(result, Err(DiskFault::Os(_))) {
                        self.struck.push(Struck { host, token, kind });
                    }
                    part.ready.push_back(Completion::Disk { token, result });
                }
            }
            Event::Keep { host, boot, volume, ask } => {
                if self.hosts[host].boot == boot {
                    self.kept.push((host, volume, ask));
                }
            }
            Event::Handler { host, boot, call, exit } => {
                if self.hosts[host].boot == boot {
                    self.handlers_done.push((host, call, exit));
                }
            }
        }
    }
}

/// The ring of one machine.
#[derive(Clone, Debug)]
pub struct SimIo {
    pub(super) universe: Rc<RefCell<Universe>>,
    pub(super) host: HostId,
}

/// A connected socket as it is handed to a resource.
#[derive(Debug)]
pub struct SimSocket(pub(super) SocketKey);

impl Io for SimIo {
    type Socket = SimSocket;
    type Disk = SimDisk;

    fn now(&self) -> Moment {
        self.universe.borrow().now
    }

    fn listen(&mut self, local: SocketAddr) -> Result<SocketKey, i32> {
        self.universe.borrow_mut().listen(self.host, local)
    }

    fn dial(&mut self, _local: IpAddr, remote: SocketAddr) -> Result<SocketKey, i32> {
        Ok(self.universe.borrow_mut().dial(self.host, remote))
    }

    fn adopt(&mut self, socket: SimSocket) -> Result<SocketKey, i32> {
        Ok(socket.0)
    }

    fn recv(&mut self, socket: SocketKey, buf: Buf, from: usize) {
        self.universe.borrow_mut().recv(socket, buf, from);
    }

    fn send(&mut self, socket: SocketKey, bytes: &[u8], payload: Option<Buf>) {
        let mut universe = self.universe.borrow_mut();
        let masked = mask_features(bytes, universe.features);
        let bytes = masked.as_deref().unwrap_or(bytes);
        universe.send(socket, bytes, payload.as_ref().map(Buf::bytes));
        universe.note_packet(socket, bytes);
    }

    fn unsent(&self, socket: SocketKey) -> Unsent {
        self.universe.borrow().unsent(socket)
    }

    fn close(&mut self, socket: SocketKey) {
        self.universe.borrow_mut().close(socket);
    }

    fn attach(&mut self, disk: SimDisk) -> Devices {
        let mut universe = self.universe.borrow_mut();
        let devices = &mut universe.hosts[self.host].devices;
        let data = DeviceKey(devices.insert(disk.data().clone()));
        let internal = disk.meta().is(disk.data());
        let meta = if internal { data } else { DeviceKey(devices.insert(disk.meta().clone())) };
        Devices { data, meta }
    }

    fn submit(&mut self, token: Token, device: DeviceKey, op: Op) {
        let mut universe = self.universe.borrow_mut();
        // 1 GB/s, and a little to begin with.
        let mut us = 30 + universe.random.below(120) + bytes_of(&op) / 1000;
        if let Some(one_in) = universe.stragglers
            && universe.random.below(one_in) == 0
        {
            us *= 2 + universe.random.below(60);
        }
        let HostPart { pace, boot, .. } = universe.hosts[self.host];
        let at = universe.now.after(Duration::from_micros(us * u64::from(pace.factor)));
        let at = at.max(pace.stalled_until);
        let found = universe.hosts[self.host].devices.get(device.0);
        let at = found.map_or(at, |device| at.max(device.store().stalled_until));
        let begun = found.map_or(0, |device| device.begin(&op));
        universe.events.plan(at, Event::Disk { host: self.host, boot, token, device, op, begun });
    }

    fn detach(&mut self, _devices: Devices) {
        // The disk is only a name: what is under way on it ends as ever.
    }

    fn wait(&mut self, _deadline: Option<Moment>, completions: &mut Vec<Completion>) -> std::io::Result<()> {
        completions.extend(self.universe.borrow_mut().hosts[self.host].ready.drain(..));
        Ok(())
    }
}

/// A packet that announces features, with no others than these; `None` if nothing changes.
fn mask_features(bytes: &[u8], mask: u32) -> Option<Vec<u8>> {
    if mask == u32::MAX {
        return None; // Nearly always: no packet need be read for that.
    }
    let Ok(Decoded::Packet { volume, packet, .. }) = decode(bytes, &Dialect::BEFORE_FEATURES) else {
        return None;
    };
    let Packet::ConnectionFeatures { min, max, flags } = packet else { return None };
    let mut masked = Vec::new();
    let packet = Packet::ConnectionFeatures { min, max, flags: flags & mask };
    encode(&packet, volume, 0, &Dialect::BEFORE_FEATURES, &mut masked);
    Some(masked)
}
