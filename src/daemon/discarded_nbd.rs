//! Serves what was kept of discarded data: read-only, from a thread of its own for each client.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use crate::nbd::transmission::{Command, Incoming, REQUEST_BYTES};
use crate::nbd::{Errno, Session};
use crate::units::SECTOR_BYTES;

/// Clients at one time.
const MAX_CLIENTS: u32 = 16;
/// A client that takes nothing for so long is gone.
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// The places of clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<AtomicU32>);

/// A place that is taken.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicU32>);

impl Places {
    /// Takes a place, if one is free.
    #[must_use]
    pub(super) fn take(&self) -> Option<Place> {
        let more = |taken: u32| (taken < MAX_CLIENTS).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(Arc::clone(&self.0)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client that has opened an image.
#[derive(Debug)]
pub(super) struct Client {
    /// The connection.
    pub(super) socket: OwnedFd,
    /// What its requests are checked against.
    pub(super) session: Session,
    /// Bytes that came behind the negotiation.
    pub(super) leftover: Vec<u8>,
    /// What it reads.
    pub(super) image: File,
    /// Its place.
    pub(super) place: Place,
    /// Who it is, for the log.
    pub(super) name: String,
}

impl Client {
    /// Serves it on a thread of its own, until it goes.
    pub(super) fn serve(self) {
        let thread = std::thread::Builder::new().name("discarded".into());
        let started = thread.spawn(move || {
            let name = self.name.clone();
            match self.answer_all() {
                Ok(()) => info!(client = name, "NBD client of discarded data has left"),
                Err(error) => info!(client = name, %error, "NBD client of discarded data is gone"),
            }
        });
        if let Err(error) = started {
            warn!(%error, "cannot start a thread for an NBD client");
        }
    }

    fn answer_all(self) -> io::Result<()> {
        // Whatever kind it is: the calls used here are those of any stream socket.
        let _place = self.place;
        let mut stream = TcpStream::from(self.socket);
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(SEND_LIMIT))?;
        let mut input = self.leftover;
        let mut chunk = vec![0; 16 << 10];
        loop {
            let incoming = self.session.decode(&input).map_err(io::Error::other)?;
            let Some(incoming) = incoming else {
                match stream.read(&mut chunk)? {
                    0 => return Ok(()),
                    count => input.extend_from_slice(&chunk[..count]),
                }
                continue;
            };
            input.drain(..REQUEST_BYTES);
            let replies = self.session.replies();
            let mut out = Vec::new();
            match incoming {
                Incoming::Disconnect => return Ok(()),
                Incoming::Refused(refused) => {
                    skip(&mut stream, &mut input, refused.skip_bytes as usize)?;
                    replies.error(&mut out, refused.cookie, refused.errno, refused.reason);
                }
                Incoming::Request(request) => match request.command {
                    Command::Read { extent } => {
                        let offset = extent.start().get() * SECTOR_BYTES;
                        let mut data = vec![0; extent.bytes() as usize];
                        match self.image.read_exact_at(&mut data, offset) {
                            Ok(()) => {
                                replies.read_header(&mut out, request.cookie, offset, data.len() as u32);
                                out.append(&mut data);
                            }
                            Err(error) => {
                                replies.error(&mut out, request.cookie, Errno::Io, &error.to_string());
                            }
                        }
                    }
                    Command::Flush => replies.done(&mut out, request.cookie),
                    // The session refuses them: the export is read-only.
                    Command::Write { .. } | Command::Trim { .. } | Command::WriteZeroes { .. } => {
                        replies.error(&mut out, request.cookie, Errno::Perm, "the export is read-only");
                    }
                },
            }
            stream.write_all(&out)?;
        }
    }
}

/// Reads over the payload of a refused write.
fn skip(stream: &mut TcpStream, input: &mut Vec<u8>, mut count: usize) -> io::Result<()> {
    let at_hand = count.min(input.len());
    input.drain(..at_hand);
    count -= at_hand;
    let skipped = io::copy(&mut stream.take(count as u64), &mut io::sink())?;
    if skipped < count as u64 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
