//! One volume of the pair through a life: what its copies may hold, what its nodes show, and the checks that
//! compare the two.

use std::time::Duration;

use super::super::disk::SimDisk;
use super::super::events::HostId;
use super::super::world::World;
use super::coverage::{Coverage, generation};
use super::oracle::{Oracle, Snapshot};
use super::setup::Setup;
use super::view::View;
use crate::units::{BitIndex, Moment, SECTOR_BYTES, VolumeId};

/// What an answer takes from a node to its client, at most, in the worst weather.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// A volume, as it is followed through a life.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) volume: VolumeId,
    pub(super) oracle: Oracle,
    pub(super) views: [View; 2],
    /// When the disk of a node was good for the last time.
    good_until: [Moment; 2],
    /// When its disk last lost what a flush that failed was about.
    lost_at: [Option<Moment>; 2],
    /// Since when, and until when, the program of a node last stood still (F6).
    stood_still: [(Moment, Moment); 2],
    /// Grows when the writes of a node begin or end to be on a copy for sure: by node and copy.
    pub(super) certainties: [[u64; 2]; 2],
    /// What the source had to have when this node became its target.
    target_since: [Option<Snapshot>; 2],
    /// How many blocks were out of sync when it became a target.
    target_lacked: [u64; 2],
    /// It went down as a target that had some of the blocks, and not all.
    half_filled: [bool; 2],
    /// The power failed while it was Primary, and the copies were not the same since.
    crashed_primary: [bool; 2],
    /// It was killed while it was Primary, and the copies were not the same since: what the power takes
    /// now is of that Primary, too.
    killed_primary: [bool; 2],
    /// It was Primary since the link was lost.
    promoted: [bool; 2],
    /// The peer let it in: they were both connected since it is.
    let_in: [bool; 2],
    /// Its disk may return errors.
    pub(super) faulty: [bool; 2],
    /// Its copy may have been written since the copies were the same, by a Primary here or by one without a disk.
    written: [bool; 2],
    /// The power failed, and the copies were not the same since.
    bereft: [bool; 2],
    /// This machine's program was killed, with what it had received and, without protocol C, was counted on.
    shed: [bool; 2],
    /// Its disk is a new one, or was.
    pub(super) replaced: [bool; 2],
    /// The disk that was replaced last.
    drawer: [Option<OldDisk>; 2],
    /// It had no disk for a while, and the copies were not the same since.
    diskless: [bool; 2],
    /// The administrator last gave its disk up in good order, with the peer's copy made sure of (T38).
    pub(super) detached: [bool; 2],
    /// What has to be durable on the copy that stays, when the other one is given up for it (T38).
    pledge: Option<Pledge>,
    /// A split brain is being resolved: one side loses by decision.
    pub(super) split_brain: bool,
    /// Discards failed on some disk.
    pub(super) discards_failed: bool,
    /// Reads failed on some disk.
    pub(super) reads_failed: bool,
    /// A copy was changed behind its node's back.
    pub(super) tampered: bool,
    /// An administrator gave up a copy.
    pub(super) invalidated: bool,
    /// He did so while the peer was not there to say that it has as good a one.
    given_up: [bool; 2],
    pub(super) coverage: Coverage,
}

/// A disk that was taken out of a machine.
#[derive(Debug)]
struct OldDisk {
    disk: SimDisk,
    /// What it had to have, and what held of it then.
    must: Snapshot,
    written: bool,
    crashed_primary: bool,
    killed_primary: bool,
}

/// A node was asked to give up a good copy in good order.
#[derive(Debug)]
struct Pledge {
    asked: HostId,
    stays: HostId,
    /// What the copy that stays had to have then, if it was good.
    then: Option<Snapshot>,
    /// The disk of the node whose copy stays was gone.
    is_only: bool,
}

/// Whose copies are good, or were when an answer that arrives now was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Good {
    copies: [bool; 2],
    /// As the node had heard that was asked before it stood still, until then.
    heard: [bool; 2],
    until: Moment,
}

impl Good {
    /// For a request that was made then.
    pub(super) fn when(&self, asked: Moment) -> [bool; 2] {
        if asked < self.until { self.heard } else { self.copies }
    }
}

impl Book {
    pub(super) fn new(volume: VolumeId) -> Self {
        Self {
            volume,
            oracle: Oracle::default(),
            views: Default::default(),
            good_until: Default::default(),
            lost_at: Default::default(),
            stood_still: Default::default(),
            certainties: [[0; 2]; 2],
            target_since: Default::default(),
            target_lacked: [0; 2],
            half_filled: [false; 2],
            crashed_primary: [false; 2],
            killed_primary: [false; 2],
            promoted: [false; 2],
            let_in: [false; 2],
            faulty: [false; 2],
            written: [false; 2],
            bereft: [false; 2],
            shed: [false; 2],
            replaced: [false; 2],
            drawer: Default::default(),
            diskless: [false; 2],
            detached: [false; 2],
            pledge: None,
            split_brain: false,
            discards_failed: false,
            reads_failed: false,
            tampered: false,
            invalidated: false,
            given_up: [false; 2],
            coverage: Coverage::default(),
        }
    }

    /// The disk of a machine.
    pub(super) fn disk(&self, world: &World, host: HostId) -> SimDisk {
        match world.disk(host, self.volume.0) {
            Some(disk) => disk,
            None => unreachable!("each machine was given one"),
        }
    }

    /// The disk of a machine that is down is taken out. In its place comes the one that was taken out before, if the other
    /// node's is of its generation, or of one that followed it. Or a new one: `None`.
    pub(super) fn changes_disk(&mut self, world: &World, host: HostId) -> Option<SimDisk> {
        let followed = self.views[1 - host].uuids.map(|uuid| uuid & !1);
        self.half_filled[host] = false;
        let followed = |uuid: u64| followed.contains(&uuid);
        let is_older = |old: &mut OldDisk| generation(&old.disk).is_some_and(followed);
        if let Some(old) = self.drawer[host].take_if(is_older) {
            self.oracle.comes_back(host, old.must);
            self.written[host] = old.written;
            self.written[1 - host] = true; // What it has since then.
            self.crashed_primary[host] = old.crashed_primary;
            self.killed_primary[host] = old.killed_primary;
            return Some(old.disk);
        }
        self.drawer[host] = Some(OldDisk {
            disk: self.disk(world, host),
            must: self.oracle.snapshot(host),
            written: self.written[host],
            crashed_primary: self.crashed_primary[host],
            killed_primary: self.killed_primary[host],
        });
        self.oracle.blank(host);
        self.replaced[host] = true;
        None
    }

    /// Which copies a write of this node is on before its client hears of it; the peer's may only be in the
    /// memory of its program, in protocol B. A peer whose disk is gone refuses writes, and may say why later.
    fn reached(&self, host: HostId, setup: &Setup) -> [bool; 2] {
        let view = &self.views[host];
        let own = view.disk == "UpToDate";
        let takes = self.views[1 - host].disk == "UpToDate";
        let peer = takes && view.peer_disk == "UpToDate" && view.is_connected() && setup.is_received();
        if host == 0 { [own, peer] } else { [peer, own] }
    }

    /// A flush that failed may have taken with it what the disk had in its cache (F3), as a loss of power does.
    pub(super) fn heed_failed_flushes(&mut self, world: &World, host: HostId, now: Moment) {
        if self.disk(world, host).data().take_loss() {
            self.lost_at[host] = Some(now);
            self.bereft[host] = true;
            self.certainties.iter_mut().for_each(|copies| copies[host] += 1);
            self.oracle.lost_power(host);
        }
    }

    /// For each copy a number that stays the same while every write of the node gets there before it is
    /// answered; `None` while that is not so.
    pub(super) fn certain_copies(&self, host: HostId, setup: &Setup) -> [Option<u64>; 2] {
        let reached = self.reached(host, setup);
        [0, 1].map(|copy| reached[copy].then_some(self.certainties[host][copy]))
    }

    /// Whose copies are good; `None` if a machine is away or has lost what it had taken, be it just now.
    pub(super) fn good_copies(&self, host: HostId, now: Moment) -> Option<Good> {
        let whole = self.views.iter().all(|view| view.there) && self.bereft == [false; 2];
        let lost_just_now = self.lost_at.iter().flatten().any(|at| now < at.after(ANSWER_TIME));
        let good = |copy: HostId, at: Moment| {
            let is_kept = copy != host && self.is_put_away(copy);
            is_kept || self.views[copy].is_good() || at < self.good_until[copy].after(ANSWER_TIME)
        };
        let (since, until) = self.stood_still[host];
        // Of its own disk a node knows at once; the peer's ack may have waited while it stood still.
        let heard = if now < until.after(ANSWER_TIME) { since } else { now };
        (whole && !lost_just_now).then(|| Good {
            copies: [0, 1].map(|copy| good(copy, now)),
            heard: [0, 1].map(|copy| good(copy, if copy == host { now } else { heard })),
            until,
        })
    }

    /// Whether a disk was detached in good order, so that it keeps what its node has told the peer of.
    fn is_put_away(&self, host: HostId) -> bool {
        self.views[host].has_failed_disk() && self.detached[host] && !self.faulty[host]
    }

    /// The program of a node stands still until then.
    pub(super) const fn stands_still(&mut self, host: HostId, now: Moment, until: Moment) {
        self.stood_still[host] = (now, until);
    }

    /// The disk of a machine returns errors from now on.
    pub(super) fn faults_begin(&mut self, host: HostId) {
        self.faulty[host] = true;
        self.pledge = None;
    }

    /// It returns none any more; the answers to what it has refused may be on their way.
    pub(super) fn mended(&mut self, host: HostId) {
        if std::mem::take(&mut self.faulty[host]) {
            self.certainties.iter_mut().for_each(|copies| copies[host] += 1);
        }
    }

    /// A node is asked to give up one of the copies, for the one that stays.
    pub(super) fn asks_to_give_up(&mut self, asked: HostId, stays: HostId, setup: &Setup) {
        let connected = self.views.iter().all(View::is_connected);
        let stays_good = self.views[stays].disk == "UpToDate";
        let then = (stays_good && setup.is_synchronous()).then(|| self.oracle.snapshot(stays));
        let is_only = self.views[stays].has_failed_disk();
        // One that fails by itself meanwhile is given up without a word.
        let good = connected && self.views[1 - stays].disk == "UpToDate" && !self.faulty[1 - stays];
        self.pledge = good.then_some(Pledge { asked, stays, then, is_only });
    }

    /// The node that was asked says that it has given the copy up, or has not.
    ///
    /// # Errors
    /// If it was the only one that a Primary had, then and now.
    pub(super) fn answers(&mut self, asked: HostId, gave_up: bool) -> Result<(), String> {
        let pledge = self.pledge.take_if(|pledge| pledge.asked == asked);
        let Some(Pledge { stays, then, is_only, .. }) = pledge.filter(|_| gave_up) else { return Ok(()) };
        if let Some(then) = then {
            self.oracle.flushed(stays, &then);
        }
        if is_only && self.views[stays].has_failed_disk() && self.views.iter().any(View::is_primary) {
            return Err(format!("the only copy is given up for that of {stays}, which has no disk"));
        }
        Ok(())
    }

    /// A node shows this now. Returns what is worth telling.
    ///
    /// # Errors
    /// If it may not.
    pub(super) fn see(
        &mut self,
        world: &World,
        setup: &Setup,
        host: HostId,
        view: View,
    ) -> Result<Option<String>, String> {
        let reached = [0, 1].map(|node| self.reached(node, setup));
        let before = std::mem::replace(&mut self.views[host], view);
        if before.is_good() {
            self.good_until[host] = world.now();
        }
        for (node, reached) in reached.into_iter().enumerate() {
            let now = self.reached(node, setup);
            for copy in [0, 1] {
                self.certainties[node][copy] += u64::from(reached[copy] != now[copy]);
            }
        }
        let words = self.views[host].words();
        let news = (words != before.words()).then_some(words);
        self.changed(world, setup, host, &before)?;
        Ok(news)
    }

    /// A node shows another state than before.
    fn changed(&mut self, world: &World, setup: &Setup, host: HostId, before: &View) -> Result<(), String> {
        let view = self.views[host].clone();
        if !view.is_connected() {
            self.pledge = None; // They do not hear of each other.
        }
        if before.is_whole() && !view.is_whole() {
            self.promoted[host] = false;
        }
        let new_generation = view.uuids[1] | 1 == before.uuids[0] | 1 && before.uuids[0] != 0;
        for node in [0, 1] {
            let (own, peer) = (&self.views[node], &self.views[1 - node]);
            let was_in = std::mem::replace(&mut self.let_in[node], own.is_connected());
            self.let_in[node] &= was_in || peer.is_connected();
            let made_it = node == host && new_generation && before.is_primary(); // As the peer's copy was given up (A9).
            let serves = made_it || own.is_primary() || (was_in && peer.is_primary());
            let alone = !own.is_whole() || (node == host && new_generation);
            // It may have lost its own copy just then, too.
            let good = own.is_good() || (made_it && before.is_good());
            self.written[node] |= serves && alone && good;
        }
        self.knows_that_it_is_half_filled(host, before)?;
        if view.disk == "Diskless" && before.disk != "Diskless" {
            self.diskless[host] = true;
            self.oracle.killed(host); // What nobody was promised went with the disk.
        }
        let is_left = before.is_primary() && !view.is_primary() && view.has_no_disk();
        if is_left && !(view.is_connected() && self.views[1 - host].is_good()) {
            self.oracle.unsees(host); // An older disk may be taken into use: nobody is there who has seen newer data.
        }
        // With pass_on a disk that failed is written on, and is the target of the one that is still called good.
        let spoiled = self.faulty[host] && view.disk == "Inconsistent" && !view.is_target();
        if (spoiled || self.has_given_up(host)) && before.is_good() && self.bereft[1 - host] {
            self.oracle.gives_up(host, 1 - host); // Both copies failed, that of the peer first.
        }
        if self.has_given_up(host) && self.loses_what_was_on_its_way(setup, host, before) {
            let device = self.disk(world, 1 - host);
            self.oracle.gives_up_what_lacks(host, 1 - host, device.data());
        }
        if view.disk != "UpToDate" || view.is_target() {
            self.oracle.drops(host); // A disk that cannot be written, or is written by the peer's decision.
        }
        if view.is_primary() {
            self.promoted[host] = true;
            if !before.is_primary() && view.disk == "Diskless" {
                // Whoever promotes a node without a disk decides for what the other one has, be it older.
                self.oracle.gives_up(host, 1 - host);
            }
            if self.split_brain && before.disk == "Inconsistent" && view.disk == "UpToDate" {
                self.oracle.blank(host); // By force, with whatever is there.
            }
            if !before.is_primary() && view.disk == "UpToDate" {
                let device = self.disk(world, host);
                // As long as writes of the peer are under way, its clients have to wait.
                if view.under_way[2] == 0 {
                    self.oracle.arrived(host);
                }
                self.oracle
                    .check_copy(host, device.data(), |_| false)
                    .map_err(|why| format!("{host} was promoted with data that is not there: {why}"))?;
            }
        }
        let alone = view.is_alone() && before.is_alone();
        if self.invalidated && alone && view.disk == "Inconsistent" && before.disk != "Inconsistent" {
            self.given_up[host] = true;
        }
        if view.is_target() && !before.is_target() {
            self.became_target(world, setup, host)?;
        }
        if !view.is_target() && before.is_target() {
            let began = self.target_since[host].take();
            if view.is_whole()
                && let Some(began) = began
            {
                // What it says is on its disk before (I34, M90).
                let on_disk = generation(&self.disk(world, host));
                if before.conn == "SyncTarget" && on_disk.is_some_and(|uuid| uuid != view.uuids[0] & !1) {
                    return Err(format!("{host} calls a run ended, and its metadata do not (I34, M90)"));
                }
                // A source that is gone meanwhile has written what the target never got.
                let parted = !self.views[1 - host].is_connected();
                let had = self.oracle.snapshot(host);
                self.oracle.synced(1 - host, host, &began, parted);
                if !setup.is_synchronous() {
                    self.oracle.synced_in_part(host, &had, self.disk(world, host).data());
                }
                let source = parted && self.written[1 - host];
                self.at_peace();
                self.written[1 - host] = source;
            }
        }
        Ok(())
    }

    /// Whether a node that has given its disk up without protocol C just now lost with it what the peer never got: the
    /// peer's program died with what it had received, or the link broke with what was sent. Once a generation of its
    /// own tells of what the peer lacks, that is not shown to anybody who has seen it.
    fn loses_what_was_on_its_way(&self, setup: &Setup, host: HostId, before: &View) -> bool {
        let view = &self.views[host];
        let parts = (before.is_good() && before.uuids[1] == 0) || before.is_connected();
        let of_link = !setup.is_received() && !view.is_connected() && parts;
        of_link || (before.is_good() && self.shed[1 - host])
    }

    /// A node that went down in the middle of a resync calls its disk Inconsistent when it has it back (I34).
    fn knows_that_it_is_half_filled(&mut self, host: HostId, before: &View) -> Result<(), String> {
        let view = &self.views[host];
        if view.conn == "SyncTarget" && before.conn != "SyncTarget" {
            self.target_lacked[host] = view.bits;
        }
        if !view.there && before.there {
            let some = 1..self.target_lacked[host];
            self.half_filled[host] = before.conn == "SyncTarget" && some.contains(&before.bits);
        }
        let has_it_back = !matches!(view.disk.as_str(), "" | "Diskless" | "Attaching");
        if has_it_back && std::mem::take(&mut self.half_filled[host]) && view.disk != "Inconsistent" {
            return Err(format!(
                "{host} went down in the middle of a resync, and calls its disk {} (I34)",
                view.disk
            ));
        }
        Ok(())
    }

    /// This node's data is about to be overwritten: nothing that was promised may be lost by that,
    /// unless somebody decided so.
    fn became_target(&mut self, world: &World, setup: &Setup, target: HostId) -> Result<(), String> {
        let source = 1 - target;
        self.target_since[target] = Some(self.oracle.snapshot(source));
        let device = self.disk(world, source);
        // Without protocol C a Primary that crashed has writes that nobody else has.
        if self.split_brain || self.given_up[target] || !setup.is_synchronous() {
            self.oracle.gives_up(target, source);
            return Ok(());
        }
        // A crashed Primary that returns before the other was promoted is the source again, with what its disk kept (I5).
        if self.crashed_primary[source] && !self.promoted[target] {
            let others = self.oracle.check_others(source, target, device.data());
            let checked = others.and_then(|()| self.oracle.check_medium(source, device.data()));
            self.oracle.gives_up(target, source);
            return checked.map_err(|why| {
                format!("{target} is overwritten by a crashed Primary that never had a promised write: {why}")
            });
        }
        // One that lost power, and was promoted before the other came back, or is all that is left as that lost
        // its disk, has what was flushed: both failed.
        let checked = if self.bereft[source] && (self.promoted[source] || self.diskless[target]) {
            // A flush at one of two Primaries says nothing of what the other one wrote, and its peer lost.
            let flushed = if setup.two_primaries { source } else { target };
            let checked = self.oracle.check_medium(flushed, device.data());
            self.oracle.gives_up(target, source);
            checked
        } else {
            self.oracle.check_copy(target, device.data(), |_| false)
        };
        checked.map_err(|why| format!("{target} is overwritten by data that lacks a promised write: {why}"))
    }

    /// A machine is about to lose power: what its disk has in its cache was not promised, perhaps, and was there.
    pub(super) fn remember_cache(&mut self, world: &World, host: HostId) {
        let disk = self.disk(world, host);
        self.oracle.remember(host, 1 - host, disk.data());
    }

    /// A machine lost power.
    pub(super) fn lost_power(&mut self, host: HostId) {
        self.crashed_primary[host] |= self.views[host].is_primary() || self.killed_primary[host];
        self.bereft[host] = true;
        self.oracle.lost_power(host);
        if self.has_given_up(1 - host) {
            self.oracle.gives_up(1 - host, host); // Both copies failed: what was flushed is left.
        }
        if self.views[1 - host].disk != "UpToDate" {
            self.oracle.unsees(1 - host); // What its clients have seen was in the cache of the only good disk.
        }
    }

    /// The program of a machine was killed, and took with it what it had only received.
    pub(super) fn killed(&mut self, world: &World, host: HostId, setup: &Setup) {
        self.oracle.killed(host);
        self.shed[host] |= !setup.is_synchronous();
        if !setup.is_synchronous() && self.has_given_up(1 - host) {
            // Both failed: what had got to the disk is left.
            self.oracle.gives_up_what_lacks(1 - host, host, self.disk(world, host).data());
        }
    }

    /// Whether a node has no disk, without having made sure that the peer has all that it had.
    fn has_given_up(&self, host: HostId) -> bool {
        self.views[host].has_failed_disk() && !self.detached[host]
    }

    /// The copies are the same: what happened before is history.
    fn at_peace(&mut self) {
        self.oracle.at_peace();
        self.crashed_primary = [false; 2];
        self.killed_primary = [false; 2];
        self.bereft = [false; 2];
        self.shed = [false; 2];
        self.diskless = [false; 2];
        self.given_up = [false; 2];
        self.written = [false; 2];
        self.split_brain = false;
    }

    /// The nodes say that their copies went different ways.
    ///
    /// # Errors
    /// If they cannot have.
    pub(super) fn split(&mut self) -> Result<(), String> {
        let really = self.split_brain || self.written == [true; 2];
        self.split_brain = true;
        let [a, b] = self.written;
        really.then_some(()).ok_or_else(|| format!("a split brain that is none: written alone was {a}, {b}"))
    }

    /// A machine is down.
    pub(super) fn gone(&mut self, host: HostId, now: Moment) {
        self.pledge = None;
        if self.views[host].is_primary() {
            // It may have written alone for a moment; what it sent of that is on its way, and the other one goes by it.
            self.written[host] |= self.views[host].is_good();
            self.written[1 - host] |= self.let_in[1 - host];
        }
        if self.views[host].is_good() {
            self.good_until[host] = now;
        }
        for node in [0, 1] {
            self.certainties[node][host] += 1;
        }
        self.target_since[host] = None;
        self.killed_primary[host] |= self.views[host].is_primary();
        if self.views[host].is_whole() {
            self.promoted[host] = false;
        }
        self.views[host] = View::default();
    }

    /// Compares the copies, which are called the same.
    ///
    /// # Errors
    /// Where they differ, or lack what was promised.
    pub(super) fn compare(&mut self, world: &World) -> Result<(), String> {
        if self.tampered {
            return Ok(());
        }
        // A resync leaves the source's generation at the target (W180).
        let [a, b] = self.views.each_ref().map(|view| view.uuids[0] & !1);
        if a != b && self.views.iter().all(View::is_whole) {
            return Err(format!(
                "the copies are called the same, but not their generation: {a:016X}, {b:016X}"
            ));
        }
        let disks = [0, 1].map(|host| self.disk(world, host));
        for sector in self.oracle.sectors() {
            let content = disks.each_ref().map(|disk| sector_of(disk, sector));
            let marked = self.marked(world, sector);
            // A failed discard is no error, and leaves its bits (D163).
            if marked.contains(&Some(true)) && self.discards_failed {
                continue;
            }
            if content[0] != content[1] {
                return Err(format!(
                    "the copies are called the same, but sector {sector} is not: {:?}, out of sync {marked:?}",
                    content.map(|bytes| bytes.map(stamp_of))
                ));
            }
            // What a verify cannot read counts as different (D142), and an invalidate that is cut before any data
            // moves leaves its bits (X9).
            if marked.contains(&Some(true)) && !self.reads_failed && !self.invalidated {
                return Err(format!(
                    "the copies are called the same, but sector {sector} is marked {marked:?}"
                ));
            }
        }
        self.oracle.equal();
        self.at_peace();
        let excused = |sector| self.discards_failed && self.marked(world, sector).contains(&Some(true));
        for (host, disk) in disks.iter().enumerate() {
            self.oracle
                .check_copy(host, disk.data(), excused)
                .map_err(|why| format!("{host} is in sync and lacks a promised write: {why}"))?;
        }
        Ok(())
    }

    /// Whether the bitmaps in memory mark a sector out of sync, by machine.
    pub(super) fn marked(&self, world: &World, sector: u64) -> [Option<bool>; 2] {
        let block = BitIndex::new(sector / 8);
        [0, 1].map(|host| world.core(host).and_then(|core| core.out_of_sync(self.volume, block)))
    }
}

fn sector_of(disk: &SimDisk, sector: u64) -> Option<[u8; SECTOR_BYTES as usize]> {
    let mut bytes = [0; SECTOR_BYTES as usize];
    disk.read_at(sector * SECTOR_BYTES, &mut bytes).ok().map(|()| bytes)
}

/// The number of the write that a sector is of.
fn stamp_of(bytes: [u8; SECTOR_BYTES as usize]) -> u32 {
    u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The peer's disk was good when it sent its ack, and is not when the node that stood still hears it.
    #[test]
    fn what_a_node_is_told_while_it_stands_still_counts_until_it_answers() {
        let at = |ms: u64| Moment::from_nanos(ms * 1_000_000);
        let mut book = Book::new(VolumeId(0));
        book.views =
            ["Failed", "Diskless"].map(|disk| View { there: true, disk: disk.into(), ..View::default() });
        book.good_until = [at(3_000), at(3_100)];
        let good =
            |book: &Book, host, asked, now| book.good_copies(host, at(now)).map(|good| good.when(at(asked)));
        assert_eq!(good(&book, 0, 2_000, 5_000), Some([false, false]));
        book.stands_still(0, at(2_900), at(4_900));
        assert_eq!(good(&book, 0, 2_000, 5_000), Some([false, true]));
        assert_eq!(good(&book, 0, 4_950, 5_000), Some([false, false]), "asked when it went on");
        assert_eq!(good(&book, 0, 2_000, 6_000), Some([false, false]), "it has gone on long ago");
        assert_eq!(good(&book, 1, 2_000, 5_000), Some([false, false]), "it is another node's");
        book.detached[1] = true;
        assert_eq!(
            good(&book, 0, 2_000, 6_000),
            Some([false, true]),
            "its ack was there before it was put away"
        );
        assert_eq!(
            good(&book, 1, 2_000, 6_000),
            Some([false, false]),
            "it does not answer by itself any more"
        );
        book.faulty[1] = true;
        assert_eq!(good(&book, 0, 2_000, 6_000), Some([false, false]), "it may have refused the write");
    }
}
