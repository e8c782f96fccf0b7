//! The two real implementations, held to the same behaviour.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::disk::{DiskPlace, OpenedDisk, open};
use super::pool::Pool;
use super::portable::PortableIo;
use super::uring::UringIo;
use super::wake::Waker;
use super::*;
use crate::node::command::MetaPlace;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

trait Real: Io<Socket = OwnedFd, Disk = OpenedDisk> {}
impl<T: Io<Socket = OwnedFd, Disk = OpenedDisk>> Real for T {}

/// Runs the test on both. A system without io_uring fails here, as it must: CI has it.
fn on_both(uring: impl Fn(&mut UringIo, Waker), portable: impl Fn(&mut PortableIo, Waker)) {
    let waker = Waker::new().unwrap();
    uring(&mut UringIo::new(waker.clone()).unwrap(), waker);
    let waker = Waker::new().unwrap();
    portable(&mut PortableIo::new(waker.clone()), waker);
}

/// Waits until `wanted` completions came; fails after ten seconds.
fn await_completions(io: &mut impl Real, wanted: usize) -> Vec<Completion> {
    let deadline = clock().after(Duration::from_secs(10));
    let mut completions = Vec::new();
    while completions.len() < wanted {
        io.wait(Some(deadline), &mut completions).unwrap();
        assert!(clock() < deadline, "only {completions:?} came");
    }
    completions
}

/// Turns the loop until nothing comes for a while.
fn settle(io: &mut impl Real) -> Vec<Completion> {
    let mut completions = Vec::new();
    loop {
        let before = completions.len();
        io.wait(Some(clock().after(Duration::from_millis(30))), &mut completions).unwrap();
        if completions.len() == before {
            return completions;
        }
    }
}

fn disk_of(directory: &Path, bytes: u64) -> (tempfile::NamedTempFile, OpenedDisk) {
    let file = tempfile::NamedTempFile::new_in(directory).unwrap();
    file.as_file().set_len(bytes).unwrap();
    let place = DiskPlace { data: file.path().into(), meta: None, place: MetaPlace::Internal };
    let disk = open(&place).unwrap();
    (file, disk)
}

/// A file system on a device, and one in memory where there is one.
fn directories() -> Vec<std::path::PathBuf> {
    let memory = Path::new("/dev/shm");
    let on_disk = std::env::temp_dir();
    std::iter::once(on_disk).chain(memory.is_dir().then(|| memory.into())).collect()
}

fn perform(io: &mut impl Real, device: DeviceKey, op: Op) -> Result<Option<Buf>, DiskFault> {
    io.submit(Token(77), device, op);
    for completion in await_completions(io, 1) {
        if let Completion::Disk { token: Token(77), result } = completion {
            return result;
        }
    }
    // A worker's result may come behind the wake-up that announced it.
    match await_completions(io, 1).pop() {
        Some(Completion::Disk { token: Token(77), result }) => result,
        other => panic!("{other:?}"),
    }
}

fn read(io: &mut impl Real, device: DeviceKey, offset: u64, len: usize) -> Result<Option<Buf>, DiskFault> {
    perform(io, device, Op::Read { offset, into: Buf::zeroed(len) })
}

#[test]
fn a_disk_gives_back_what_it_was_given() {
    fn script(io: &mut impl Real) {
        for directory in directories() {
            let (_file, disk) = disk_of(&directory, 1 << 20);
            let discards = disk.facts.discards;
            let devices = io.attach(disk);
            let device = devices.data;
            let pattern = Buf::copied(&(0..65536_u32).map(|i| (i / 7) as u8).collect::<Vec<_>>());
            for fua in [false, true] {
                let write = Op::Write { offset: 8192, data: pattern.clone(), fua };
                assert_eq!(perform(io, device, write), Ok(None));
            }
            assert_eq!(perform(io, device, Op::Sync), Ok(None));
            assert_eq!(read(io, device, 8192, 65536), Ok(Some(pattern.clone())));
            let sector = read(io, device, 8192 + 512, 512).unwrap().unwrap();
            assert_eq!(sector, pattern.part(512, 512));

            let zero = |offset, unmap| Op::Zero { offset, len: 4096, unmap };
            assert_eq!(perform(io, device, zero(8192, false)), Ok(None));
            assert_eq!(perform(io, device, zero(16384, true)), Ok(None));
            if discards {
                assert_eq!(perform(io, device, Op::Discard { offset: 32768, len: 4096 }), Ok(None));
            }
            let after = read(io, device, 8192, 65536).unwrap().unwrap();
            assert_eq!(after.part(0, 4096), Buf::zeroed(4096));
            assert_eq!(after.part(8192, 4096), Buf::zeroed(4096));
            assert_eq!(after.part(4096, 4096), pattern.part(4096, 4096));

            assert_eq!(read(io, device, (1 << 20) - 512, 1024), Err(DiskFault::Short));
            io.detach(devices);
            assert_eq!(read(io, device, 0, 512), Err(DiskFault::Gone));
        }
    }
    on_both(|io, _| script(io), |io, _| script(io));
}

#[test]
fn operations_under_way_complete_on_a_disk_that_is_being_closed() {
    fn script(io: &mut impl Real) {
        for directory in directories() {
            let (file, disk) = disk_of(&directory, 1 << 20);
            let devices = io.attach(disk);
            for block in 0..64 {
                let data = Buf::copied(&[block as u8 + 1; 4096]);
                io.submit(Token(block), devices.data, Op::Write { offset: block * 4096, data, fua: false });
            }
            io.detach(devices);
            let mut tokens: Vec<u64> = Vec::new();
            while tokens.len() < 64 {
                tokens.extend(await_completions(io, 1).into_iter().filter_map(
                    |completion| match completion {
                        Completion::Disk { token, result } => {
                            assert_eq!(result, Ok(None));
                            Some(token.0)
                        }
                        Completion::Woken => None,
                        other => panic!("{other:?}"),
                    },
                ));
            }
            tokens.sort_unstable();
            assert_eq!(tokens, (0..64).collect::<Vec<_>>());
            let content = std::fs::read(file.path()).unwrap();
            assert!((0..64).all(|block| content[block * 4096] == block as u8 + 1));
            // The lock went with the last operation.
            let place = DiskPlace { data: file.path().into(), meta: None, place: MetaPlace::Internal };
            assert!(open(&place).is_ok());
        }
    }
    on_both(|io, _| script(io), |io, _| script(io));
}

#[test]
fn bytes_sent_are_bytes_received_and_the_end_is_the_end() {
    fn script(io: &mut impl Real) {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let socket = io.adopt(near.into()).unwrap();
        let payload = Buf::copied(&vec![0xa5; 3 << 20]);
        io.send(socket, b"head", Some(payload.clone()));
        assert!(settle(io).is_empty(), "the queue cannot be empty yet");
        assert!(io.unsent(socket).bytes > 0 && io.unsent(socket).moved > 0);
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; 4 + (3 << 20)];
            far.read_exact(&mut got).unwrap();
            (far, got)
        });
        assert!(matches!(await_completions(io, 1)[..], [Completion::Drained { socket: s }] if s == socket));
        let (mut far, got) = reader.join().unwrap();
        assert!(got[..4] == *b"head" && got[4..] == *payload.bytes());

        io.recv(socket, Buf::zeroed(100), 10);
        far.write_all(b"hello").unwrap();
        match await_completions(io, 1).pop() {
            Some(Completion::Received { buf, result: Ok(5), .. }) => {
                assert_eq!(&buf.bytes()[10..15], b"hello");
            }
            other => panic!("{other:?}"),
        }
        drop(far);
        io.recv(socket, Buf::zeroed(100), 0);
        assert!(matches!(await_completions(io, 1)[..], [Completion::Received { result: Ok(0), .. }]));
        io.send(socket, b"nobody", None);
        let failed = await_completions(io, 1);
        assert!(matches!(failed[..], [Completion::SendFailed { errno: libc::EPIPE, .. }]), "{failed:?}");
        io.close(socket);
        assert!(settle(io).is_empty());
    }
    on_both(|io, _| script(io), |io, _| script(io));
}

#[test]
fn sockets_connect_and_what_was_queued_before_goes_out() {
    fn script(io: &mut impl Real) {
        // Find a free port: the interface takes a fixed one, as DRBD's configuration does.
        let port = TcpListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let listener = io.listen(SocketAddr::new(LOCALHOST, port)).unwrap();
        assert!(io.listen(SocketAddr::new(LOCALHOST, port)).is_err());
        let dialed = io.dial(LOCALHOST, SocketAddr::new(LOCALHOST, port)).unwrap();
        io.send(dialed, b"early", None);
        let mut server = None;
        let mut connected = false;
        while server.is_none() || !connected {
            for completion in await_completions(io, 1) {
                match completion {
                    Completion::Accepted { listener: l, socket, from } => {
                        assert_eq!((l, from), (listener, LOCALHOST));
                        server = Some(socket);
                    }
                    Completion::Dialed { socket, result } => {
                        assert_eq!((socket, result), (dialed, Ok(())));
                        connected = true;
                    }
                    Completion::Drained { socket } => assert_eq!(socket, dialed),
                    other => panic!("{other:?}"),
                }
            }
        }
        let server = server.unwrap();
        io.recv(server, Buf::zeroed(16), 0);
        let received = loop {
            match await_completions(io, 1).pop() {
                Some(Completion::Received { buf, result: Ok(count), .. }) => break buf.part(0, count),
                Some(Completion::Drained { .. }) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(received.bytes(), b"early");
        io.close(server);
        io.close(listener);
        io.close(dialed);
        settle(io);
        let refused = io.dial(LOCALHOST, SocketAddr::new(LOCALHOST, port)).unwrap();
        match await_completions(io, 1).pop() {
            Some(Completion::Dialed { socket, result }) => {
                assert_eq!((socket, result), (refused, Err(libc::ECONNREFUSED)));
            }
            other => panic!("{other:?}"),
        }
    }
    on_both(|io, _| script(io), |io, _| script(io));
}

#[test]
fn nothing_is_heard_of_a_closed_socket_and_its_memory_returns() {
    fn script(io: &mut impl Real) {
        let pool = Pool::new(1 << 20, 1 << 20);
        let (near, mut far) = UnixStream::pair().unwrap();
        let socket = io.adopt(near.into()).unwrap();
        io.recv(socket, pool.buf(4096), 0);
        assert!(settle(io).is_empty());
        io.send(socket, b"last words", Some(pool.buf(4096)));
        io.close(socket);
        assert!(settle(io).is_empty());
        assert_eq!(pool.lent_bytes(), 0);
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).unwrap();
        assert_eq!((heard.len(), &heard[..10]), (10 + 4096, &b"last words"[..]));
        // Its key is dead for good.
        io.close(socket);
        io.send(socket, b"ghost", None);
        assert_eq!(io.unsent(socket), Unsent::default());
    }
    on_both(|io, _| script(io), |io, _| script(io));
}

#[test]
fn a_wait_ends_at_its_deadline_and_when_another_thread_wakes_it() {
    fn script(io: &mut impl Real, waker: Waker) {
        let deadline = clock().after(Duration::from_millis(20));
        let mut completions = Vec::new();
        io.wait(Some(deadline), &mut completions).unwrap();
        assert!(completions.is_empty() && clock() >= deadline && io.now() >= deadline);
        for _ in 0..3 {
            let remote = waker.clone();
            let thread = std::thread::spawn(move || remote.wake());
            assert!(matches!(await_completions(io, 1)[..], [Completion::Woken]));
            thread.join().unwrap();
        }
        assert!(settle(io).is_empty(), "a wake-up counts once");
    }
    on_both(script, script);
}

#[test]
fn dropping_the_ring_waits_for_what_is_under_way() {
    fn script(mut io: impl Real) {
        let pool = Pool::new(64 << 20, 64 << 20);
        let (near, _far) = UnixStream::pair().unwrap();
        let directory = std::env::temp_dir();
        let (file, disk) = disk_of(&directory, 64 << 20);
        let devices = io.attach(disk);
        let socket = io.adopt(near.into()).unwrap();
        io.recv(socket, pool.buf(4096), 0);
        io.listen(SocketAddr::new(LOCALHOST, 0)).unwrap();
        for block in 0..2000_u64 {
            let mut data = pool.buf(4096);
            data.bytes_mut().unwrap().fill(7);
            io.submit(Token(block), devices.data, Op::Write { offset: block * 4096, data, fua: false });
        }
        io.submit(Token(5000), devices.data, Op::Zero { offset: 32 << 20, len: 1 << 20, unmap: false });
        io.wait(Some(clock()), &mut Vec::new()).unwrap();
        drop(io);
        assert_eq!(pool.lent_bytes(), 0);
        drop(file);
    }
    script(UringIo::new(Waker::new().unwrap()).unwrap());
    script(PortableIo::new(Waker::new().unwrap()));
}
