//! The command line's end of the control socket: blocking, without a runtime.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::messages::{Answer, Call, MAX_LINE_BYTES, MessageError, from_line, to_line};
use super::socket_path;

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    socket: PathBuf,
}

/// Why the daemon did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the daemon does not answer on {}: is urbd running?", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket cannot be used.
    #[error("cannot connect to {}: {source}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the daemon on {} closed the connection before it answered: see its log", socket.display())]
    Closed {
        /// The socket.
        socket: PathBuf,
    },
    /// No answer within the time allowed.
    #[error("the daemon on {} did not answer in time", socket.display())]
    TimedOut {
        /// The socket.
        socket: PathBuf,
    },
    /// Reading or writing failed.
    #[error("talking to the daemon on {} failed: {source}", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon does not want to.
    #[error("the daemon refuses: {0}")]
    Refused(String),
    /// Its answer makes no sense: another version of urbd, most likely.
    #[error("the daemon's answer cannot be read (is it another version of urbd?): {0}")]
    Malformed(#[from] MessageError),
}

impl Client {
    /// Connects to the daemon of this run directory.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] or [`ClientError::Connect`].
    pub fn connect(run_dir: &Path) -> Result<Self, ClientError> {
        let socket = socket_path(run_dir);
        match UnixStream::connect(&socket) {
            Ok(stream) => Ok(Self { stream: BufReader::new(stream), socket }),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Err(ClientError::NotRunning { socket })
            }
            Err(source) => Err(ClientError::Connect { socket, source }),
        }
    }

    /// Makes a call and waits for its answer, without a limit of time.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is an error, an [`Answer::Outcome`] that failed is not.
    pub fn call(&mut self, call: &Call) -> Result<Answer, ClientError> {
        self.send(call)?;
        self.receive(None)
    }

    /// Sends a call; its answers are read with [`Client::receive`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn send(&mut self, call: &Call) -> Result<(), ClientError> {
        let line = to_line(call)?;
        let result = self.stream.get_mut().write_all(&line);
        result.map_err(|error| self.fault(error))
    }

    /// Waits for an answer, at most so long.
    ///
    /// # Errors
    /// [`ClientError`]; after [`ClientError::TimedOut`] the connection can still be used if the
    /// daemon had not begun to answer.
    pub fn receive(&mut self, limit: Option<Duration>) -> Result<Answer, ClientError> {
        let limit = limit.map(|limit| limit.max(Duration::from_millis(1)));
        self.stream.get_ref().set_read_timeout(limit).map_err(|error| self.fault(error))?;
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line);
        read.map_err(|error| self.fault(error))?;
        match line.last() {
            Some(b'\n') => match from_line(&line)? {
                Answer::Refused(reason) => Err(ClientError::Refused(reason)),
                answer => Ok(answer),
            },
            Some(_) if line.len() == MAX_LINE_BYTES => Err(MessageError::TooLong.into()),
            Some(_) | None => Err(ClientError::Closed { socket: self.socket.clone() }),
        }
    }

    fn fault(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut { socket },
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Closed { socket },
            _ => ClientError::Io { socket, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::node::command::Outcome;

    fn daemon_that_says(answer: &'static [u8]) -> (tempfile::TempDir, std::thread::JoinHandle<Vec<u8>>) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket_path(dir.path())).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = Vec::new();
            BufReader::new(&stream).read_until(b'\n', &mut line).unwrap();
            stream.write_all(answer).unwrap();
            line
        });
        (dir, thread)
    }

    const CALL: Call = Call::Status { resource: None };

    #[test]
    fn a_call_gets_its_answer() {
        let (dir, thread) = daemon_that_says(b"{\"outcome\":{\"code\":101,\"info\":[]}}\n");
        let answer = Client::connect(dir.path()).unwrap().call(&CALL).unwrap();
        assert_eq!(answer, Answer::Outcome(Outcome::of(Outcome::DONE)));
        assert_eq!(thread.join().unwrap(), b"{\"verb\":\"status\",\"resource\":null}\n");
    }

    #[test]
    fn a_daemon_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Client::connect(dir.path()).unwrap_err();
        assert!(matches!(error, ClientError::NotRunning { .. }));
        let text = error.to_string();
        assert!(text.ends_with("control.sock: is urbd running?"), "{text}");
        drop(UnixListener::bind(socket_path(dir.path())).unwrap());
        assert!(matches!(Client::connect(dir.path()), Err(ClientError::NotRunning { .. })), "a stale socket");
    }

    #[test]
    fn half_an_answer_and_a_wrong_one_are_errors() {
        let (dir, _thread) = daemon_that_says(b"{\"outcome\":");
        let error = Client::connect(dir.path()).unwrap().call(&CALL).unwrap_err();
        assert!(matches!(error, ClientError::Closed { .. }), "{error}");
        let (dir, _thread) = daemon_that_says(b"hello\n");
        let error = Client::connect(dir.path()).unwrap().call(&CALL).unwrap_err();
        assert!(matches!(error, ClientError::Malformed(_)), "{error}");
    }
}
