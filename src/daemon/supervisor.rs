//! The control plane's centre: carries out the calls of the control socket on the resources' threads.
//!
//! It plays the kernel module's part: it knows no resource file, starts empty, and does what
//! `urbdsetup` says. What a command means for the data is the core's decision; here is only what
//! concerns several resources (names, minors, addresses) or the machine (devices).

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::discarded::Store;
use super::handlers::{Event, Handlers};
use super::mailbox::{Message, Notice, ResourceHandle};
use super::nbd_front::{Directory, Volume};
use super::options;
use super::registry::{Registry, Target, check_name};
use crate::control::messages::{
    Answer, Call, ConnectionConfig, DiskConfig, MinorAction, Options, ResourceConfig, VolumeConfig, merge,
};
use crate::control::server::Service;
use crate::io::disk::{self, DiskError, DiskPlace, OpenedDisk};
use crate::node::command::{Command, DiskFacts, MetaPlace, Outcome};
use crate::node::keep::{KeepAnswer, KeepAsk};
use crate::node::status::ResourceStatus;
use crate::units::{Sector, VolumeId};

/// Starts the thread of a resource; tests start a double.
pub type Spawn = Box<
    dyn Fn(
            &str,
            crate::config::options::ResourceOptions,
            mpsc::UnboundedSender<Notice>,
        ) -> io::Result<ResourceHandle>
        + Send
        + Sync,
>;

/// Knows all resources, and serves the control socket.
pub struct Supervisor {
    registry: Mutex<Registry>,
    spawn: Spawn,
    notices: mpsc::UnboundedSender<Notice>,
    /// Counts resources that came and went: whoever watches all of them looks again.
    changes: watch::Sender<u64>,
    handlers: Handlers,
    discarded: Arc<Store>,
    /// The end has begun: no more commands, no more clients.
    stopping: AtomicBool,
}

/// What a client of [`Call::Watch`] has seen.
#[derive(Debug, Default)]
pub struct Watcher {
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    changes: watch::Receiver<u64>,
    resources: Vec<watch::Receiver<ResourceStatus>>,
    /// Whether something moves that the resources do not announce: the progress of a resync.
    moving: bool,
}

/// How often a watch sees the progress of a resync.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// How often to see whether the clients that were sent away are gone.
const CLOSE_INTERVAL: Duration = Duration::from_millis(50);
/// How long a clean stop may take before it becomes an unclean one.
const STOP_LIMIT: Duration = Duration::from_secs(12);

impl Supervisor {
    /// A supervisor without resources, and the notices its resources will send, to be given to
    /// [`Supervisor::attend`].
    #[must_use]
    pub fn new(
        spawn: Spawn,
        handlers: Handlers,
        discarded: Arc<Store>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Notice>) {
        let (notices, received) = mpsc::unbounded_channel();
        let changes = watch::Sender::new(0);
        let registry = Mutex::default();
        let stopping = AtomicBool::new(false);
        (Arc::new(Self { registry, spawn, notices, changes, handlers, discarded, stopping }), received)
    }

    /// Attends to what the resources' threads say on their own account, until all senders are gone.
    pub async fn attend(self: Arc<Self>, mut notices: mpsc::UnboundedReceiver<Notice>) {
        while let Some(notice) = notices.recv().await {
            match notice {
                Notice::Handler { resource, call, name, volume } => {
                    let this = Arc::clone(&self);
                    tokio::spawn(async move { this.handle(&resource, call, name, volume).await });
                }
                Notice::Keep { resource, volume, ask } => {
                    let this = Arc::clone(&self);
                    tokio::spawn(async move { this.keep(resource, volume, ask).await });
                }
                // Whoever asked for it removes the resource.
                Notice::Ended { result: Ok(()), .. } => {}
                Notice::Ended { resource, result: Err(reason) } => {
                    error!(resource, reason, "the resource's thread ended: it is gone from this node");
                    let this = Arc::clone(&self);
                    tokio::spawn(async move { this.forget_ended(&resource).await });
                }
            }
        }
    }

    /// Stops all resources in good order, or in bounded time.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let handles: Vec<_> = self.registry().entries().map(|entry| entry.handle.clone()).collect();
        let mut stops: JoinSet<()> = JoinSet::new();
        for handle in handles {
            stops.spawn(async move {
                let resource = handle.name().to_owned();
                let down = async {
                    end_clients(&handle).await;
                    handle.command(Command::Down, None).await
                };
                match tokio::time::timeout(STOP_LIMIT, down).await {
                    Ok(Some(outcome)) if outcome.is_success() => info!(resource, "down"),
                    Ok(Some(outcome)) => {
                        warn!(resource, code = outcome.code, info = ?outcome.info, "stopped without going down");
                    }
                    Ok(None) => warn!(resource, "its thread had ended"),
                    Err(_) => warn!(resource, limit = ?STOP_LIMIT, "stopped without going down in time"),
                }
                handle.send(Message::Shutdown);
                ended(&handle).await;
            });
        }
        if tokio::time::timeout(STOP_LIMIT + Duration::from_secs(3), stops.join_all()).await.is_err() {
            warn!("some resources did not stop in time");
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn handle(&self, resource: &str, call: u64, name: &str, volume: Option<VolumeId>) {
        let (target, peer) = {
            let registry = self.registry();
            let Some(entry) = registry.get(resource) else { return };
            let minor = volume
                .and_then(|volume| entry.config.volumes.iter().find(|known| known.volume == volume.0))
                .map(|known| format!("minor-{}", known.minor));
            let peer = entry.config.connection.as_ref().map(|connection| connection.peer);
            (minor.unwrap_or_else(|| resource.to_owned()), peer)
        };
        let exit = self.handlers.run(&Event { name, target, peer }).await;
        let handle = self.registry().get(resource).map(|entry| entry.handle.clone());
        if let Some(handle) = handle {
            handle.send(Message::HandlerDone { call, exit });
        }
    }

    /// Keeps what is about to be overwritten, on a thread that may wait for disks.
    async fn keep(&self, resource: String, volume: VolumeId, ask: KeepAsk) {
        let (store, name) = (Arc::clone(&self.discarded), resource.clone());
        let kept = tokio::task::spawn_blocking(move || store.answer(&name, volume.0, ask)).await;
        let answer = kept.unwrap_or_else(|error| KeepAnswer::Failed(error.to_string()));
        let handle = self.registry().get(&resource).map(|entry| entry.handle.clone());
        if let Some(handle) = handle {
            handle.send(Message::Kept { volume, answer });
        }
    }

    /// Forgets a resource whose thread could not go on.
    async fn forget_ended(&self, resource: &str) {
        let handle = self.registry().get(resource).map(|entry| entry.handle.clone());
        let Some(handle) = handle else { return };
        ended(&handle).await;
        self.bury_dead();
    }

    fn bury_dead(&self) {
        let dead = self.registry().bury_dead();
        if !dead.is_empty() {
            warn!(resources = ?dead, "removed: their threads have ended");
            self.changes.send_modify(|count| *count += 1);
        }
    }

    async fn outcome(&self, call: Call) -> Result<Outcome, Outcome> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Outcome::with(129, "urbd is stopping"));
        }
        self.bury_dead();
        match call {
            Call::NewResource { resource, options } => self.new_resource(&resource, options),
            Call::NewMinor { resource, minor, volume } => self.new_minor(&resource, minor, volume).await,
            Call::DelMinor { minor } => self.del_minor(minor).await,
            Call::DelResource { resource } => self.del_resource(&resource).await,
            Call::Attach { minor, disk, meta, place, options } => {
                self.attach(minor, DiskConfig { disk, meta, place, options }).await
            }
            Call::Detach { minor, force } => self.detach(minor, force).await,
            Call::Connect { resource, local, peer, options, discard_my_data, tentative } => {
                let connection = ConnectionConfig { local, peer, options };
                self.connect(&resource, connection, discard_my_data, tentative).await
            }
            Call::Disconnect { local, peer, force } => {
                self.refresh().await;
                let target = self.registry().connection(local, peer)?;
                command(&target, Command::Disconnect { force }, Wait::unless(force)).await
            }
            Call::NetOptions { local, peer, set_defaults, options } => {
                self.refresh().await;
                let target = self.registry().connection(local, peer)?;
                self.change_net_options(&target, set_defaults, &options).await
            }
            Call::DiskOptions { minor, set_defaults, options } => {
                self.change_disk_options(minor, set_defaults, &options).await
            }
            Call::ResourceOptions { resource, set_defaults, options } => {
                self.change_resource_options(&resource, set_defaults, &options).await
            }
            Call::Primary { minor, force } => {
                self.on_minor(minor, |volume| Command::Primary { volume, force }).await
            }
            Call::NewCurrentUuid { minor, clear_bitmap } => {
                self.on_minor(minor, |volume| Command::NewCurrentUuid { volume, clear_bitmap }).await
            }
            Call::Verify { minor, start, stop } => {
                let (start, stop) = (start.map(Sector::new), stop.map(Sector::new));
                self.on_minor(minor, |volume| Command::Verify { volume, start, stop }).await
            }
            // Goes past a command that waits for requests which wait for this.
            Call::Minor { action: MinorAction::ResumeIo, minor } => {
                let target = self.registry().minor(minor)?;
                command(&target, Command::ResumeIo { volume: target.volume }, Wait::No).await
            }
            Call::Minor { action, minor } => self.on_minor(minor, |volume| simple(action, volume)).await,
            Call::Down { resource } => self.down(&resource).await,
            Call::Status { .. } | Call::Show { .. } | Call::Watch { .. } | Call::Discarded => {
                Err(Outcome::with(137, "a query is no command"))
            }
        }
    }

    fn new_resource(&self, resource: &str, pairs: Options) -> Result<Outcome, Outcome> {
        check_name(resource)?;
        let options = options::resource(&pairs)?;
        let mut registry = self.registry();
        if registry.get(resource).is_some() {
            return Ok(Outcome::of(Outcome::DONE));
        }
        let handle = (self.spawn)(resource, options, self.notices.clone())
            .map_err(|error| Outcome::with(122, format!("cannot start the resource's thread: {error}")))?;
        let config =
            ResourceConfig { name: resource.to_owned(), options: pairs, ..ResourceConfig::default() };
        registry.insert(handle, config);
        drop(registry);
        self.changes.send_modify(|count| *count += 1);
        info!(resource, "resource created");
        Ok(Outcome::of(Outcome::DONE))
    }

    async fn new_minor(&self, resource: &str, minor: u32, volume: u16) -> Result<Outcome, Outcome> {
        let target = {
            // Taken at once, so that nobody else can get the same minor while the core decides.
            let mut registry = self.registry();
            let target = registry.volume_is_free(resource, minor, volume)?;
            if let Some(entry) = registry.get_mut(resource) {
                entry.config.volumes.push(VolumeConfig { volume, minor, disk: None });
                entry.config.volumes.sort_by_key(|known| known.volume);
            }
            target
        };
        let done = command(&target, Command::NewMinor { volume: target.volume, minor }, Wait::Yes).await;
        if !done.as_ref().is_ok_and(Outcome::is_success) {
            self.forget_volume(&target);
        }
        done
    }

    async fn del_minor(&self, minor: u32) -> Result<Outcome, Outcome> {
        let target = self.registry().minor(minor)?;
        let outcome = command(&target, Command::DelMinor { volume: target.volume }, Wait::Yes).await?;
        if outcome.is_success() {
            self.forget_volume(&target);
        }
        Ok(outcome)
    }

    async fn del_resource(&self, resource: &str) -> Result<Outcome, Outcome> {
        self.refresh().await;
        let handle = {
            let mut registry = self.registry();
            registry.resource(resource)?;
            let in_use = registry
                .get(resource)
                .map(|entry| (entry.config.connection.is_some(), !entry.config.volumes.is_empty()));
            match in_use {
                Some((true, _)) => return Err(Outcome::of(125)),
                Some((_, true)) => return Err(Outcome::of(159)),
                Some((false, false)) | None => registry.remove(resource),
            }
        };
        if let Some(entry) = handle {
            entry.handle.send(Message::Shutdown);
            ended(&entry.handle).await;
        }
        self.changes.send_modify(|count| *count += 1);
        Ok(Outcome::of(Outcome::DONE))
    }

    async fn attach(&self, minor: u32, config: DiskConfig) -> Result<Outcome, Outcome> {
        self.refresh().await;
        let target = self.registry().minor(minor)?;
        let disk_options = options::disk(&config.options)?;
        let place = disk_place(&config)?;
        let _turn = target.admin.lock().await;
        if self.is_attached(&target).await {
            return Err(Outcome::of(124));
        }
        let disk = open_disk(place).await?;
        let facts = disk.facts.clone();
        let options = Box::new(disk_options);
        let attach = Command::Attach { volume: target.volume, disk: facts.clone(), options };
        let outcome = target.handle.command(attach, Some(disk)).await.ok_or_else(gone)?;
        if outcome.is_success() {
            self.attached(&target, config, &facts);
        }
        Ok(outcome)
    }

    fn attached(&self, target: &Target, config: DiskConfig, facts: &DiskFacts) {
        info!(resource = target.handle.name(), volume = %target.volume, disk = config.disk, "disk attached");
        if let Some(entry) = self.registry().get_mut(target.handle.name()) {
            entry.block_bytes.insert(target.volume.0, facts.logical_block_bytes);
            if facts.discards {
                entry.without_discards.remove(&target.volume.0);
            } else {
                entry.without_discards.insert(target.volume.0);
            }
            if let Some(volume) = entry.volume_mut(target.volume) {
                volume.disk = Some(config);
            }
        }
    }

    async fn detach(&self, minor: u32, force: bool) -> Result<Outcome, Outcome> {
        let target = self.registry().minor(minor)?;
        let detach = Command::Detach { volume: target.volume, force };
        command(&target, detach, Wait::unless(force)).await
    }

    async fn connect(
        &self,
        resource: &str,
        connection: ConnectionConfig,
        discard_my_data: bool,
        tentative: bool,
    ) -> Result<Outcome, Outcome> {
        self.refresh().await;
        let net = options::net(&connection.options)?;
        let (local, peer) = (connection.local, connection.peer);
        let target = {
            let mut registry = self.registry();
            let target = registry.resource(resource)?;
            registry.addresses_are_free(local, peer)?;
            if let Some(entry) = registry.get_mut(resource) {
                if entry.config.connection.is_some() {
                    return Err(Outcome::of(125));
                }
                // Taken at once, so that nobody else can get the addresses while the core decides.
                entry.config.connection = Some(connection);
            }
            target
        };
        let connect = Command::Connect { local, peer, options: Box::new(net), discard_my_data, tentative };
        let done = command(&target, connect, Wait::Yes).await;
        if !done.as_ref().is_ok_and(Outcome::is_success)
            && let Some(entry) = self.registry().get_mut(resource)
        {
            entry.config.connection = None;
        }
        done
    }

    async fn change_net_options(
        &self,
        target: &Target,
        set_defaults: bool,
        changes: &Options,
    ) -> Result<Outcome, Outcome> {
        let current =
            self.config_of(target)?.connection.ok_or_else(|| Outcome::with(162, "unknown connection"))?;
        let mut pairs = current.options;
        merge(&mut pairs, changes, set_defaults);
        let change = Command::ChangeNetOptions { options: Box::new(options::net(&pairs)?) };
        let outcome = command(target, change, Wait::Yes).await?;
        if outcome.is_success()
            && let Some(entry) = self.registry().get_mut(target.handle.name())
            && let Some(connection) = &mut entry.config.connection
        {
            connection.options = pairs;
        }
        Ok(outcome)
    }

    async fn change_disk_options(
        &self,
        minor: u32,
        set_defaults: bool,
        changes: &Options,
    ) -> Result<Outcome, Outcome> {
        self.refresh().await;
        let target = self.registry().minor(minor)?;
        let volumes = self.config_of(&target)?.volumes;
        let disk = volumes.into_iter().find(|known| known.minor == minor).and_then(|known| known.disk);
        let mut pairs = disk.ok_or_else(|| Outcome::of(138))?.options;
        merge(&mut pairs, changes, set_defaults);
        let options = Box::new(options::disk(&pairs)?);
        let change = Command::ChangeDiskOptions { volume: target.volume, options };
        let outcome = command(&target, change, Wait::Yes).await?;
        if outcome.is_success() {
            self.change_volume(&target, |volume| {
                if let Some(disk) = &mut volume.disk {
                    disk.options = pairs;
                }
            });
        }
        Ok(outcome)
    }

    async fn change_resource_options(
        &self,
        resource: &str,
        set_defaults: bool,
        changes: &Options,
    ) -> Result<Outcome, Outcome> {
        let target = self.registry().resource(resource)?;
        let mut pairs = self.config_of(&target)?.options;
        merge(&mut pairs, changes, set_defaults);
        let options = Box::new(options::resource(&pairs)?);
        let outcome = command(&target, Command::ChangeResourceOptions { options }, Wait::Yes).await?;
        if outcome.is_success()
            && let Some(entry) = self.registry().get_mut(resource)
        {
            entry.config.options = pairs;
        }
        Ok(outcome)
    }

    async fn on_minor(&self, minor: u32, make: impl FnOnce(VolumeId) -> Command) -> Result<Outcome, Outcome> {
        let target = self.registry().minor(minor)?;
        command(&target, make(target.volume), Wait::Yes).await
    }

    async fn down(&self, resource: &str) -> Result<Outcome, Outcome> {
        let target = self.registry().resource(resource)?;
        let outcome = command(&target, Command::Down, Wait::Yes).await?;
        if outcome.is_success() {
            self.registry().remove(resource);
            target.handle.send(Message::Shutdown);
            ended(&target.handle).await;
            self.changes.send_modify(|count| *count += 1);
            info!(resource, "resource removed");
        }
        Ok(outcome)
    }

    async fn is_attached(&self, target: &Target) -> bool {
        let status = target.handle.status().await;
        let volume = status
            .and_then(|status| status.volumes.into_iter().find(|volume| volume.volume == target.volume.0));
        volume.is_some_and(|volume| volume.disk != "Diskless")
    }

    fn config_of(&self, target: &Target) -> Result<ResourceConfig, Outcome> {
        self.registry().get(target.handle.name()).map(|entry| entry.config.clone()).ok_or_else(gone)
    }

    fn change_volume(&self, target: &Target, change: impl FnOnce(&mut VolumeConfig)) {
        if let Some(entry) = self.registry().get_mut(target.handle.name())
            && let Some(volume) = entry.volume_mut(target.volume)
        {
            change(volume);
        }
    }

    fn forget_volume(&self, target: &Target) {
        if let Some(entry) = self.registry().get_mut(target.handle.name()) {
            entry.config.volumes.retain(|known| known.volume != target.volume.0);
        }
    }

    /// Learns which connections and disks have ended by themselves.
    async fn refresh(&self) {
        for status in self.statuses(None).await {
            if let Some(entry) = self.registry().get_mut(&status.name) {
                entry.forget_what_ended(&status);
            }
        }
    }

    /// Snapshots of this moment, by name.
    async fn statuses(&self, resource: Option<&str>) -> Vec<ResourceStatus> {
        let handles: Vec<_> = self.handles(resource);
        let mut statuses = Vec::with_capacity(handles.len());
        for handle in handles {
            statuses.extend(handle.status().await);
        }
        statuses
    }

    fn handles(&self, resource: Option<&str>) -> Vec<ResourceHandle> {
        let wanted = |name: &str| resource.is_none_or(|resource| resource == name);
        let registry = self.registry();
        registry.entries().map(|entry| entry.handle.clone()).filter(|handle| wanted(handle.name())).collect()
    }
}

impl Service for Supervisor {
    type Watcher = Watcher;

    async fn call(self: Arc<Self>, call: Call) -> Answer {
        match call {
            Call::Status { resource } => Answer::Status(self.statuses(resource.as_deref()).await),
            Call::Show { resource } => {
                self.refresh().await;
                let wanted = |name: &str| resource.as_deref().is_none_or(|resource| resource == name);
                let registry = self.registry();
                let configs = registry.entries().map(|entry| entry.config.clone());
                Answer::Configured(configs.filter(|config| wanted(&config.name)).collect())
            }
            Call::Discarded => {
                let store = Arc::clone(&self.discarded);
                let listed = tokio::task::spawn_blocking(move || store.list()).await;
                Answer::Discarded(listed.unwrap_or_default())
            }
            call => Answer::Outcome(self.outcome(call).await.unwrap_or_else(|refused| refused)),
        }
    }

    async fn next_status(&self, resource: Option<&str>, watcher: &mut Watcher) -> Answer {
        if let Some(seen) = &mut watcher.seen {
            seen.changed().await;
        }
        // Subscribed before the snapshot: a change in between is seen twice rather than missed.
        let mut changes = self.changes.subscribe();
        changes.mark_unchanged();
        let mut resources: Vec<_> = self.handles(resource).iter().map(ResourceHandle::watch).collect();
        for resource in &mut resources {
            resource.mark_unchanged();
        }
        let statuses = self.statuses(resource).await;
        let moving = statuses.iter().flat_map(|status| &status.volumes).any(|volume| volume.resync.is_some());
        watcher.seen = Some(Seen { changes, resources, moving });
        Answer::Status(statuses)
    }
}

impl Seen {
    async fn changed(&mut self) {
        let progress = async {
            match self.moving {
                true => tokio::time::sleep(PROGRESS_INTERVAL).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.changes.changed() => {}
            () = any_changed(&mut self.resources) => {}
            () = progress => {}
        }
    }
}

/// Returns when one of them changed or ended; never if there is none.
async fn any_changed(resources: &mut [watch::Receiver<ResourceStatus>]) {
    let mut waits: Vec<_> = resources.iter_mut().map(|resource| Box::pin(resource.changed())).collect();
    std::future::poll_fn(move |context| {
        let ready = waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready());
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

impl Directory for Supervisor {
    fn volumes(&self) -> Vec<Volume> {
        let mut volumes = Vec::new();
        if self.stopping.load(Ordering::Relaxed) {
            return volumes;
        }
        let registry = self.registry();
        for entry in registry.entries() {
            for status in entry.handle.watch().borrow().volumes.clone() {
                let can_trim = !entry.without_discards.contains(&status.volume);
                let block_bytes = entry.block_bytes.get(&status.volume).copied().unwrap_or(0);
                volumes.push(Volume { handle: entry.handle.clone(), status, can_trim, block_bytes });
            }
        }
        volumes
    }
}

/// Whether a command waits for those before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    /// A forced command is the way out when another one hangs.
    No,
}

impl Wait {
    const fn unless(force: bool) -> Self {
        if force { Self::No } else { Self::Yes }
    }
}

/// Gives a command to the core, one at a time for each resource (S36).
async fn command(target: &Target, command: Command, wait: Wait) -> Result<Outcome, Outcome> {
    let _turn = match wait {
        Wait::Yes => Some(target.admin.lock().await),
        Wait::No => None,
    };
    target.handle.command(command, None).await.ok_or_else(gone)
}

/// Sends the clients away, and returns once no volume is open any more.
async fn end_clients(handle: &ResourceHandle) {
    handle.send(Message::EndClients);
    let mut changes = handle.watch();
    while let Some(status) = handle.status().await {
        if status.volumes.iter().all(|volume| volume.open_count == 0) {
            return;
        }
        // A close need not be announced as a change.
        let _ = tokio::time::timeout(CLOSE_INTERVAL, changes.changed()).await;
    }
}

/// Returns once the resource's thread has dropped its end: its devices and sockets are closed.
async fn ended(handle: &ResourceHandle) {
    let mut status = handle.watch();
    while status.changed().await.is_ok() {}
}

fn gone() -> Outcome {
    Outcome::with(158, "the resource is being removed")
}

const fn simple(action: MinorAction, volume: VolumeId) -> Command {
    match action {
        MinorAction::Secondary => Command::Secondary { volume },
        MinorAction::Outdate => Command::Outdate { volume },
        MinorAction::Invalidate => Command::Invalidate { volume },
        MinorAction::InvalidateRemote => Command::InvalidateRemote { volume },
        MinorAction::PauseSync => Command::PauseSync { volume },
        MinorAction::ResumeSync => Command::ResumeSync { volume },
        MinorAction::SuspendIo => Command::SuspendIo { volume },
        MinorAction::ResumeIo => Command::ResumeIo { volume },
    }
}

/// Where a disk's parts are, or 116 where device and index do not go together.
fn disk_place(config: &DiskConfig) -> Result<DiskPlace, Outcome> {
    let internal = config.place == MetaPlace::Internal;
    if internal != (config.disk == config.meta) {
        let why = if internal {
            "internal metadata is on the data device itself"
        } else {
            "metadata outside the data needs a device of its own"
        };
        return Err(Outcome::with(116, why));
    }
    let meta = (!internal).then(|| config.meta.clone().into());
    Ok(DiskPlace { data: config.disk.clone().into(), meta, place: config.place })
}

/// Opens a disk on a thread of its own: a device may take its time.
async fn open_disk(place: DiskPlace) -> Result<OpenedDisk, Outcome> {
    let opening = tokio::task::spawn_blocking(move || {
        disk::open(&place).map_err(|error| Outcome::with(disk_code(&error, &place), error.to_string()))
    });
    opening.await.unwrap_or_else(|error| Err(Outcome::with(104, error.to_string())))
}

/// The number for a disk that cannot be used (S37.3): one for the data, one for the metadata.
fn disk_code(error: &DiskError, place: &DiskPlace) -> i32 {
    let (path, data, meta): (&Path, i32, i32) = match error {
        DiskError::Open { path, .. } | DiskError::Measure { path, .. } => (path, 104, 105),
        DiskError::Kind { path } => (path, 107, 108),
        DiskError::Busy { path } => (path, 114, 115),
    };
    if place.meta.as_deref() == Some(path) { meta } else { data }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
