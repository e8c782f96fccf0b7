//! An NBD client that says what it is told to say, and traffic whose data is checked.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::{LIMIT, wait_until};

/// A socket of either kind. A read that takes longer than [`LIMIT`] fails.
pub trait Stream: Read + Write + Send {}
impl Stream for UnixStream {}
impl Stream for TcpStream {}

/// A client whose export is open, with simple replies.
pub struct Client {
    pub stream: Box<dyn Stream>,
    /// Size of the export.
    pub bytes: u64,
    cookie: u64,
}

/// NBD commands.
pub mod command {
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const ZEROES: u16 = 6;
}

impl Client {
    /// Opens `r0` with the shortest handshake there is.
    pub fn open(socket: &Path) -> Self {
        Self::begin(Box::new(Self::unix(socket)))
    }

    /// Opens `r0` over TCP.
    pub fn open_tcp(address: SocketAddr) -> Self {
        Self::begin(Box::new(Self::tcp(address)))
    }

    /// A connection to an NBD socket, nothing said.
    pub fn unix(socket: &Path) -> UnixStream {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// A connection to a TCP port, nothing said.
    pub fn tcp(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn begin(mut stream: Box<dyn Stream>) -> Self {
        stream.read_exact(&mut [0; 18]).unwrap();
        // Client flags, then NBD_OPT_EXPORT_NAME: answered with size, flags and zeroes.
        stream.write_all(b"\0\0\0\x01IHAVEOPT\0\0\0\x01\0\0\0\x02r0").unwrap();
        let mut answer = [0; 134];
        stream.read_exact(&mut answer).unwrap();
        let bytes = u64::from_be_bytes(answer[..8].try_into().unwrap());
        Self { stream, bytes, cookie: 0 }
    }

    /// Sends a request's header.
    pub fn request(&mut self, kind: u16, offset: u64, len: u32) -> io::Result<u64> {
        self.cookie += 1;
        let mut header = Vec::with_capacity(28);
        header.extend_from_slice(&0x2560_9513_u32.to_be_bytes());
        header.extend_from_slice(&0_u16.to_be_bytes());
        header.extend_from_slice(&kind.to_be_bytes());
        header.extend_from_slice(&self.cookie.to_be_bytes());
        header.extend_from_slice(&offset.to_be_bytes());
        header.extend_from_slice(&len.to_be_bytes());
        self.stream.write_all(&header)?;
        Ok(self.cookie)
    }

    /// Receives a simple reply: its cookie and error number.
    pub fn reply(&mut self) -> io::Result<(u64, u32)> {
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply)?;
        assert_eq!(reply[..4], 0x6744_6698_u32.to_be_bytes(), "the magic of a simple reply");
        let error = u32::from_be_bytes(reply[4..8].try_into().unwrap());
        Ok((u64::from_be_bytes(reply[8..].try_into().unwrap()), error))
    }

    fn succeeded(&mut self, cookie: u64) -> io::Result<()> {
        let reply = self.reply()?;
        if reply == (cookie, 0) { Ok(()) } else { Err(io::Error::other(format!("reply {reply:?}"))) }
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let cookie = self.request(command::WRITE, offset, data.len() as u32)?;
        self.stream.write_all(data)?;
        self.succeeded(cookie)
    }

    pub fn read(&mut self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let cookie = self.request(command::READ, offset, len as u32)?;
        self.succeeded(cookie)?;
        let mut data = vec![0; len];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }

    pub fn flush(&mut self) -> io::Result<()> {
        let cookie = self.request(command::FLUSH, 0, 0)?;
        self.succeeded(cookie)
    }
}

/// A well-behaved client that goes on writing and reading until it is stopped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<()>>,
}

impl Traffic {
    /// Starts on the lower half of the device.
    pub fn start(mut client: Client) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            let slots = client.bytes / 2 / SLOT_BYTES;
            let mut written = vec![None; slots as usize];
            let mut round = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                // A different slot each time, and each slot with different lengths and contents.
                let slot = round.wrapping_mul(7919) % slots;
                let len = 512 << (round % 6);
                client.write(slot * SLOT_BYTES, &pattern(round, len))?;
                written[slot as usize] = Some((round, len));
                let other = round.wrapping_mul(104_729) % slots;
                if let Some((seed, len)) = written[other as usize] {
                    let found = client.read(other * SLOT_BYTES, len)?;
                    assert!(found == pattern(seed, len), "slot {other} has other data than was written");
                }
                if round % 32 == 31 {
                    client.flush()?;
                }
                round += 1;
                count.store(round, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { stop, rounds, thread }
    }

    /// Waits until it has gone a good way from here.
    pub fn goes_on(&self) {
        let begin = self.rounds.load(Ordering::Relaxed);
        wait_until("the well-behaved client goes on", || {
            assert!(!self.thread.is_finished(), "the well-behaved client has ended");
            self.rounds.load(Ordering::Relaxed) >= begin + 20
        });
    }

    /// Ends it; it must not have met an error.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap();
    }
}

const SLOT_BYTES: u64 = 16 << 10;

/// Bytes that tell what they were made from, and look like nothing else.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}
