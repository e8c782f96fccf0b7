//! The NBD server up to the chosen export: accept, negotiate, hand the socket to its resource.
//!
//! ```text
//!  accept ──► negotiate, at most 10 s ──► Command::Open ──► Message::Client: the resource's
//!  (tokio)      (nbd::negotiation)        (the core's word)  thread owns the socket
//! ```
//!
//! Before it has opened an export, a client costs a task, a socket and a buffer; how many there may
//! be at one time, and for how long, is bounded.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tracing::{debug, info, warn};

use super::discarded::{EXPORT_PREFIX, Store};
use super::discarded_nbd::{self, Place, Places};
use super::mailbox::{Message, NbdClient, Reply, ResourceHandle};
use crate::control::crowd::{Busy, Crowd};
use crate::control::texts::refusal_text;
use crate::nbd::{
    BlockSizes, Export, Exports, Listed, Negotiation, Opened, Outcome as Negotiated, Purpose, Refusal,
    RefusalKind, Session,
};
use crate::node::command::{Command, Outcome};
use crate::node::status::VolumeStatus;
use crate::units::{SECTOR_BYTES, VolumeId};

/// Name of the NBD socket within the run directory.
pub const SOCKET_NAME: &str = "nbd.sock";
/// How long a client may take to choose an export.
const NEGOTIATION_LIMIT: Duration = Duration::from_secs(10);
/// How long a resource may take to let a client in.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// Clients of one listener that negotiate at one time; for one more the oldest is sent away. Each has
/// its own count: whoever floods a TCP port must not disturb the local clients.
const MAX_NEGOTIATING: usize = 64;
/// Bytes read at once while negotiating.
const READ_BYTES: usize = 16 << 10;

/// A volume that exists now.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its resource.
    pub handle: ResourceHandle,
    /// Its latest status.
    pub status: VolumeStatus,
    /// Whether trims are worth sending: the local disk gives space back, or there is none.
    pub can_trim: bool,
    /// Logical block size of the local disk in bytes, 512 without one: a smaller request would be an
    /// error of the disk.
    pub block_bytes: u32,
}

/// Who knows the volumes: the supervisor.
pub trait Directory: Send + Sync + 'static {
    /// All volumes, by resource and number.
    fn volumes(&self) -> Vec<Volume>;
}

/// The server, shared by its listeners.
pub struct NbdFront {
    directory: Arc<dyn Directory>,
    discarded: Arc<Store>,
    places: Places,
    max_clients: u32,
}

impl NbdFront {
    /// A server for the directory's volumes with at most so many clients, and for what was discarded.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, discarded: Arc<Store>, max_clients: u32) -> Arc<Self> {
        Arc::new(Self { directory, discarded, places: Places::default(), max_clients })
    }

    /// Accepts clients of the unix socket for ever.
    pub async fn serve_unix(self: Arc<Self>, listener: UnixListener) {
        let mut crowd = Crowd::new(MAX_NEGOTIATING);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let pid = stream.peer_cred().ok().and_then(|client| client.pid());
                    let name = pid.map_or_else(|| "unix".to_owned(), |pid| format!("unix, process {pid}"));
                    self.spawn(stream, name, &mut crowd).await;
                }
                Err(error) => pause_after(&error).await,
            }
        }
    }

    /// Accepts clients of a TCP socket for ever.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let mut crowd = Crowd::new(MAX_NEGOTIATING);
        loop {
            match listener.accept().await {
                Ok((stream, from)) => self.spawn(stream, from.to_string(), &mut crowd).await,
                Err(error) => pause_after(&error).await,
            }
        }
    }

    async fn spawn<S: Socket>(self: &Arc<Self>, stream: S, name: String, crowd: &mut Crowd) {
        let clients: u32 = self.directory.volumes().iter().map(|volume| volume.status.open_count).sum();
        if clients >= self.max_clients {
            warn!(client = name, clients, "NBD client turned away: [nbd] max_clients is reached");
            return;
        }
        let Some((place, crowded)) = crowd.place().await else { return };
        if crowded {
            warn!(
                limit = MAX_NEGOTIATING,
                client = name,
                "too many NBD clients that open no export: sent the oldest away for this one"
            );
        }
        let front = Arc::clone(self);
        let task = tokio::spawn(async move {
            match tokio::time::timeout(NEGOTIATION_LIMIT, front.negotiate(stream)).await {
                Ok(Ok(Some(chosen))) => chosen.hand_over(name),
                Ok(Ok(None)) => debug!(client = name, "NBD client left without opening an export"),
                Ok(Err(error)) => info!(client = name, error = %error, "NBD negotiation failed"),
                Err(_) => {
                    info!(client = name, limit = ?NEGOTIATION_LIMIT, "NBD client took too long to choose")
                }
            }
            drop(place);
        });
        crowd.add(task.abort_handle(), Busy::default());
    }

    /// Leads the handshake to its end; `None` when the client leaves in good order.
    async fn negotiate<S: Socket>(&self, mut stream: S) -> Result<Option<Chosen>, FrontError> {
        let mut talk = Talk {
            negotiation: Negotiation::new(),
            input: Vec::new(),
            exports: Lookup {
                directory: Arc::clone(&self.directory),
                discarded: Arc::clone(&self.discarded),
                places: self.places.clone(),
                door: None,
            },
        };
        let mut chunk = vec![0; READ_BYTES];
        loop {
            stream.write_all(&talk.negotiation.take_output()).await?;
            if talk.input.is_empty() {
                match stream.read(&mut chunk).await? {
                    0 => return Ok(None),
                    bytes => talk.input.extend_from_slice(&chunk[..bytes]),
                }
            }
            let (back, step) = talk.step().await?;
            talk = back;
            match step {
                Ok(Step::More) => {}
                Ok(Step::Starved) => match stream.read(&mut chunk).await? {
                    0 => return Ok(None),
                    bytes => talk.input.extend_from_slice(&chunk[..bytes]),
                },
                Ok(Step::Ended(outcome)) => {
                    stream.write_all(&talk.negotiation.take_output()).await?;
                    return match outcome {
                        Negotiated::Abort => Ok(None),
                        Negotiated::Go(opened) => Chosen::new(stream, opened, talk).map(Some),
                    };
                }
                Err(error) => {
                    stream.write_all(&talk.negotiation.take_output()).await?;
                    return Err(error.into());
                }
            }
        }
    }
}

/// Opens the NBD socket of a run directory, for the owner only.
///
/// # Errors
/// When the socket cannot be made there.
pub fn bind_unix(socket: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// A socket of either kind, on its way from tokio to the resource's thread.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    fn into_fd(self) -> io::Result<OwnedFd>;
}

impl Socket for UnixStream {
    fn into_fd(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

impl Socket for TcpStream {
    fn into_fd(self) -> io::Result<OwnedFd> {
        // A reply is one small packet that somebody waits for.
        self.set_nodelay(true)?;
        // A client whose machine died must not hold the volume open for ever.
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(10))
            .with_retries(6);
        socket2::SockRef::from(&self).set_tcp_keepalive(&keepalive)?;
        self.into_std().map(OwnedFd::from)
    }
}

/// A handshake between two reads. It moves to a blocking thread for each step, because opening an
/// export waits for the resource's thread.
struct Talk {
    negotiation: Negotiation,
    /// Received and not consumed yet.
    input: Vec<u8>,
    exports: Lookup,
}

enum Step {
    /// Send the output, then go on with the rest of the input.
    More,
    /// Send the output, then read more.
    Starved,
    Ended(Negotiated),
}

impl Talk {
    async fn step(mut self) -> Result<(Self, Result<Step, crate::nbd::NegotiationError>), FrontError> {
        let done = tokio::task::spawn_blocking(move || {
            let result = self.negotiation.feed(&self.input, &mut self.exports).map(|progress| {
                self.input.drain(..progress.consumed);
                match progress.outcome {
                    Some(outcome) => Step::Ended(outcome),
                    None if progress.consumed == 0 => Step::Starved,
                    None => Step::More,
                }
            });
            (self, result)
        });
        done.await.map_err(|error| FrontError::Io(io::Error::other(error)))
    }
}

/// A client that has opened an export.
struct Chosen {
    socket: OwnedFd,
    opened: Opened,
    leftover: Vec<u8>,
    door: Door,
}

impl Chosen {
    fn new<S: Socket>(stream: S, opened: Opened, talk: Talk) -> Result<Self, FrontError> {
        let door = talk.exports.door.ok_or(FrontError::NotOpened)?;
        Ok(Self { socket: stream.into_fd()?, opened, leftover: talk.input, door })
    }

    fn hand_over(self, name: String) {
        info!(client = name, export = self.opened.export.name, "NBD client opened the export");
        let session = Session::new(&self.opened.export, self.opened.structured);
        let Self { socket, leftover, .. } = self;
        match self.door {
            Door::Volume(door) => {
                let volume = door.volume;
                door.pass(NbdClient { socket, volume, session, leftover, name });
            }
            Door::Discarded { image, place } => {
                discarded_nbd::Client { socket, session, leftover, image, place, name }.serve();
            }
        }
    }
}

/// What a client has opened.
enum Door {
    /// A volume.
    Volume(VolumeDoor),
    /// What was kept of discarded data.
    Discarded { image: std::fs::File, place: Place },
}

/// A volume held open for a client that is not yet the resource's own; closes it when dropped.
struct VolumeDoor {
    handle: Option<ResourceHandle>,
    volume: VolumeId,
}

impl VolumeDoor {
    /// Gives the client to the resource, which closes the volume when the client is gone.
    fn pass(mut self, client: NbdClient) {
        if let Some(handle) = self.handle.take() {
            handle.send(Message::Client(client));
        }
    }
}

impl Drop for VolumeDoor {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            close(&handle, self.volume);
        }
    }
}

fn close(handle: &ResourceHandle, volume: VolumeId) {
    let command = Command::Close { volume };
    handle.send(Message::Command { command, disk: None, reply: Reply::ignored() });
}

/// Answers the handshake's questions about exports.
struct Lookup {
    directory: Arc<dyn Directory>,
    discarded: Arc<Store>,
    places: Places,
    /// The export that was opened, the last if there were several.
    door: Option<Door>,
}

impl Exports for Lookup {
    fn lookup(&mut self, name: &str, purpose: Purpose) -> Result<Export, Refusal> {
        if let Some(kept) = name.strip_prefix(EXPORT_PREFIX) {
            return self.lookup_discarded(name, kept, purpose);
        }
        let volume = find(&self.directory.volumes(), name)?;
        if purpose == Purpose::Open {
            openable(&volume)?;
            self.door = Some(Door::Volume(open(&volume)?));
        }
        let mut export = Export::new(export_name(&volume), volume.status.size_sectors * SECTOR_BYTES);
        export.description = description(&volume.status);
        export.can_trim = volume.can_trim;
        let sizes = export.block_sizes;
        let min = sizes.min().max(volume.block_bytes);
        export.block_sizes = BlockSizes::new(min, sizes.preferred().max(min), sizes.max()).unwrap_or(sizes);
        Ok(export)
    }

    fn list(&mut self) -> Vec<Listed> {
        let volumes = self.directory.volumes();
        let listed =
            |volume: &Volume| Listed { name: export_name(volume), description: description(&volume.status) };
        let kept = self.discarded.list().into_iter().map(|kept| Listed {
            name: kept.export,
            description: "what was discarded, read-only; holes are not kept".into(),
        });
        volumes.iter().map(listed).chain(kept).collect()
    }
}

impl Lookup {
    fn lookup_discarded(&mut self, name: &str, kept: &str, purpose: Purpose) -> Result<Export, Refusal> {
        let (image, bytes) = self.discarded.open(kept).map_err(|error| Refusal {
            kind: RefusalKind::Unknown,
            reason: format!("nothing of that name is kept ({error}): 'urbdadm discarded' lists what is"),
        })?;
        if purpose == Purpose::Open {
            let place = self.places.take().ok_or_else(|| Refusal {
                kind: RefusalKind::Policy,
                reason: "too many clients read discarded data already".into(),
            })?;
            self.door = Some(Door::Discarded { image, place });
        }
        let mut export = Export::new(name, bytes);
        export.description = "what was discarded, read-only; holes are not kept".into();
        export.read_only = true;
        export.can_trim = false;
        Ok(export)
    }
}

/// The volume that an export's name means: `r0/0`, `r0` for volume 0, or nothing for the only one.
fn find(volumes: &[Volume], name: &str) -> Result<Volume, Refusal> {
    let unknown = |reason: String| Refusal { kind: RefusalKind::Unknown, reason };
    if name.is_empty() {
        return match volumes {
            [only] => Ok(only.clone()),
            _ => Err(unknown(format!("name one of the exports: {}", names(volumes)))),
        };
    }
    let (resource, number) = match name.rsplit_once('/') {
        Some((resource, number)) => (resource, number.parse().ok()),
        None => (name, Some(0)),
    };
    let found = volumes
        .iter()
        .find(|volume| volume.handle.name() == resource && Some(volume.status.volume) == number);
    found.cloned().ok_or_else(|| {
        unknown(format!("no volume {name:?} is configured on this node; there is: {}", names(volumes)))
    })
}

fn names(volumes: &[Volume]) -> String {
    let names: Vec<String> = volumes.iter().map(export_name).collect();
    if names.is_empty() { "none (urbdadm up RESOURCE configures one)".to_owned() } else { names.join(", ") }
}

fn export_name(volume: &Volume) -> String {
    format!("{}/{}", volume.handle.name(), volume.status.volume)
}

fn description(status: &VolumeStatus) -> String {
    let note = if status.role == PRIMARY { "" } else { "; only a Primary can be opened" };
    format!("{}, {}{note}", status.role, status.disk)
}

const PRIMARY: &str = "Primary";

/// Refuses what the core would refuse, in words for the user of the client.
fn openable(volume: &Volume) -> Result<(), Refusal> {
    let status = &volume.status;
    let resource = volume.handle.name();
    if status.role == PRIMARY {
        return Ok(());
    }
    let elsewhere = if status.peer_role == PRIMARY {
        format!(
            " The peer is Primary: open the export there, or run 'urbdadm secondary {resource}' there first."
        )
    } else {
        String::new()
    };
    Err(Refusal {
        kind: RefusalKind::Policy,
        reason: format!(
            "{} is {} on this node and cannot be opened: run 'urbdadm primary {resource}' here first.{elsewhere}",
            export_name(volume),
            status.role
        ),
    })
}

/// Asks the core to let a client in. Blocks; an answer that comes too late is undone.
fn open(volume: &Volume) -> Result<VolumeDoor, Refusal> {
    let id = VolumeId(volume.status.volume);
    let (answer, mut answered) = tokio::sync::oneshot::channel::<Outcome>();
    let handle = volume.handle.clone();
    let reply = Reply::new(move |outcome: Outcome| {
        if answer.send(outcome).is_err_and(|outcome| outcome.is_success()) {
            close(&handle, id);
        }
    });
    let command = Command::Open { volume: id, read_only: false };
    volume.handle.send(Message::Command { command, disk: None, reply });
    let limited = async { tokio::time::timeout(OPEN_LIMIT, &mut answered).await };
    let outcome = match tokio::runtime::Handle::current().block_on(limited) {
        Ok(Ok(outcome)) => Some(outcome),
        Ok(Err(_)) => None,
        Err(_) => {
            // From here on the answer is either in the channel, or will be refused by it.
            answered.close();
            answered.try_recv().ok()
        }
    };
    let name = export_name(volume);
    let refusal = |kind, why: &str| Err(Refusal { kind, reason: format!("{name} cannot be opened: {why}") });
    match outcome {
        Some(outcome) if outcome.is_success() => {
            Ok(VolumeDoor { handle: Some(volume.handle.clone()), volume: id })
        }
        Some(outcome) if outcome.info.is_empty() => refusal(RefusalKind::Policy, refusal_text(outcome.code)),
        Some(outcome) => refusal(RefusalKind::Policy, &outcome.info.join("; ")),
        None => refusal(RefusalKind::Shutdown, "it is being taken down, or changes its state: try again"),
    }
}

/// Why a client got no export.
#[derive(Debug, thiserror::Error)]
enum FrontError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Negotiation(#[from] crate::nbd::NegotiationError),
    #[error("the handshake chose an export without opening it")]
    NotOpened,
}

async fn pause_after(error: &io::Error) {
    warn!(%error, "cannot accept an NBD client");
    // Out of descriptors, most likely: let some be closed first.
    tokio::time::sleep(Duration::from_millis(100)).await;
}
