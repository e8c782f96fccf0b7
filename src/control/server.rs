//! The daemon's end of the control socket, on tokio.
//!
//! Only root and the user that runs the daemon may give commands. A client that sends no valid
//! call is told so and loses its connection; nobody else notices.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tracing::{debug, info, warn};

use super::crowd::{Busy, Crowd};
use super::messages::{Answer, Call, MAX_LINE_BYTES, MessageError, from_line, to_line};

/// Connections served at the same time. For one more an idle one is ended, or it waits.
const MAX_CONNECTIONS: usize = 128;
/// How long a client may take to read an answer.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// What the server serves: the supervisor, or a double in tests.
pub trait Service: Send + Sync + 'static {
    /// Carries out a call other than [`Call::Watch`].
    ///
    /// # Cancel safety
    /// The server never cancels it: a command goes on when its client leaves.
    fn call(self: Arc<Self>, call: Call) -> impl Future<Output = Answer> + Send;

    /// The first snapshot for [`Call::Watch`], and after each return the next one that may differ.
    ///
    /// # Cancel safety
    /// Cancel safe.
    fn next_status(
        &self,
        resource: Option<&str>,
        watcher: &mut Self::Watcher,
    ) -> impl Future<Output = Answer> + Send;

    /// What one watching client has seen so far.
    type Watcher: Default + Send;
}

/// Opens the control socket for the owner only; a socket that a dead daemon left is replaced.
///
/// # Errors
/// When the socket cannot be made there.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Accepts clients for ever.
pub async fn serve<S: Service>(listener: UnixListener, service: Arc<S>) {
    let mut crowd = Crowd::new(MAX_CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Some((place, crowded)) = crowd.place().await else { return };
                if crowded {
                    warn!(limit = MAX_CONNECTIONS, "too many control connections: ended an idle one");
                }
                let (service, busy) = (Arc::clone(&service), Busy::default());
                let word = busy.clone();
                let task = tokio::spawn(async move {
                    if let Err(error) = connection(stream, service, &word).await {
                        debug!(%error, "control connection ended");
                    }
                    drop(place);
                });
                crowd.add(task.abort_handle(), busy);
            }
            Err(error) => {
                warn!(%error, "cannot accept a control connection");
                // Out of descriptors, most likely: let some be closed first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection<S: Service>(stream: UnixStream, service: Arc<S>, busy: &Busy) -> io::Result<()> {
    let client = stream.peer_cred()?;
    let (user, pid) = (client.uid(), client.pid().unwrap_or_default());
    let (read, mut write) = stream.into_split();
    let own = rustix::process::geteuid().as_raw();
    if user != 0 && user != own {
        let reason = format!("user {user} may not command urbd: become root, or user {own}");
        warn!(user, pid, "refused a control client: it is neither root nor the owner");
        return send(&mut write, &Answer::Refused(reason)).await;
    }
    let mut read = BufReader::new(read);
    loop {
        let call = match next_call(&mut read).await? {
            Some(Ok(call)) => call,
            Some(Err(error)) => {
                info!(user, pid, %error, "a control client sent no valid call");
                return send(&mut write, &Answer::Refused(error.to_string())).await;
            }
            None => return Ok(()),
        };
        debug!(?call, "control call");
        busy.set(true);
        match call {
            Call::Watch { resource } => return watch(read, write, service, resource).await,
            call => {
                // In a task of its own: a command must not be cut short when its client leaves.
                let done = tokio::spawn(Arc::clone(&service).call(call)).await;
                let answer =
                    done.unwrap_or_else(|error| Answer::Refused(format!("the call failed: {error}")));
                send(&mut write, &answer).await?;
                busy.set(false);
            }
        }
    }
}

/// The next call; `None` at the end of the connection.
async fn next_call(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Result<Call, MessageError>>> {
    let mut line = Vec::new();
    read.take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line).await?;
    Ok(match line.last() {
        None => None,
        Some(b'\n') => Some(from_line(&line)),
        Some(_) if line.len() == MAX_LINE_BYTES => Some(Err(MessageError::TooLong)),
        // A client that died in the middle of a line: what it meant must not be guessed.
        Some(_) => None,
    })
}

async fn watch<S: Service>(
    mut read: BufReader<OwnedReadHalf>,
    mut write: OwnedWriteHalf,
    service: Arc<S>,
    resource: Option<String>,
) -> io::Result<()> {
    let mut watcher = S::Watcher::default();
    let mut ignored = [0];
    loop {
        tokio::select! {
            answer = service.next_status(resource.as_deref(), &mut watcher) => {
                send(&mut write, &answer).await?;
            }
            // The end, or a byte that has no business here: a watch takes no further calls.
            _ = read.read(&mut ignored) => return Ok(()),
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let line = to_line(answer).map_err(io::Error::other)?;
    match tokio::time::timeout(WRITE_LIMIT, write.write_all(&line)).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::control::client::{Client, ClientError};
    use crate::control::socket_path;
    use crate::node::command::Outcome;
    use crate::node::status::ResourceStatus;

    /// Answers each call with its Debug text, and a watch with three snapshots.
    struct Echo;

    impl Service for Echo {
        type Watcher = u16;

        async fn call(self: Arc<Self>, call: Call) -> Answer {
            Answer::Outcome(Outcome::with(1, format!("{call:?}")))
        }

        async fn next_status(&self, resource: Option<&str>, seen: &mut u16) -> Answer {
            *seen += 1;
            if *seen > 3 {
                std::future::pending::<()>().await;
            }
            let name = format!("{} {seen}", resource.unwrap_or("all"));
            Answer::Status(vec![ResourceStatus { name, ..ResourceStatus::default() }])
        }
    }

    /// Runs `client` on another thread against a server of [`Echo`].
    fn with_server<T: Send + 'static>(client: impl FnOnce(&Path) -> T + Send + 'static) -> T {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = bind(&socket_path(dir.path())).unwrap();
            tokio::spawn(serve(listener, Arc::new(Echo)));
            let path = dir.path().to_owned();
            tokio::task::spawn_blocking(move || client(&path)).await.unwrap()
        })
    }

    #[test]
    fn several_calls_on_one_connection_are_answered_in_order() {
        let infos = with_server(|dir| {
            let mut client = Client::connect(dir).unwrap();
            [1, 2].map(|minor| match client.call(&Call::Primary { minor, force: false }).unwrap() {
                Answer::Outcome(outcome) => outcome.info.concat(),
                other => panic!("{other:?}"),
            })
        });
        assert_eq!(infos, [1, 2].map(|minor| format!("Primary {{ minor: {minor}, force: false }}")));
    }

    #[test]
    fn garbage_is_answered_and_costs_only_the_connection_it_came_on() {
        with_server(|dir| {
            let mut good = Client::connect(dir).unwrap();
            for garbage in [&b"hello\n"[..], b"{}\n", b"\0\xff\n", &[b'x'; MAX_LINE_BYTES + 1]] {
                let mut stream = std::os::unix::net::UnixStream::connect(socket_path(dir)).unwrap();
                let _ = stream.write_all(garbage);
                let mut answer = String::new();
                let _ = io::Read::read_to_string(&mut stream, &mut answer);
                assert!(answer.starts_with("{\"refused\":"), "{answer:?}");
            }
            assert!(good.call(&Call::Status { resource: None }).is_ok());
        });
    }

    #[test]
    fn a_watch_streams_until_the_client_leaves() {
        with_server(|dir| {
            let mut client = Client::connect(dir).unwrap();
            client.send(&Call::Watch { resource: Some("r0".into()) }).unwrap();
            for number in 1..=3 {
                let Answer::Status(resources) = client.receive(None).unwrap() else { panic!("no status") };
                assert_eq!(resources[0].name, format!("r0 {number}"));
            }
            let next = client.receive(Some(Duration::from_millis(20)));
            assert!(matches!(next, Err(ClientError::TimedOut { .. })), "{next:?}");
        });
    }

    #[test]
    fn the_socket_is_for_its_owner_and_replaces_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = socket_path(dir.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            drop(bind(&path).unwrap());
            let _listener = bind(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        });
    }
}
