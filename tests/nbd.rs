//! The NBD server side against other people's clients: `nbdinfo`, `nbdcopy`, `qemu-io`.
//!
//! A memory disk behind a unix socket, served by the crate's handshake, request decoder and
//! replies. `make setup` installs the clients.
#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command as Process, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use urbd::nbd::transmission::REQUEST_BYTES;
use urbd::nbd::{
    Command, Errno, Export, Exports, Incoming, Listed, Negotiation, Opened, Outcome, Purpose, Refusal,
    RefusalKind, Session,
};
use urbd::units::Extent;

const SIZE: usize = 8 << 20;
const REASON: &str = "r1 is Secondary here: run 'urbdadm primary r1' first";

/// The disk as `r0/0`, `r0`, read-only as `ro`, and as `bad` without its last 4 KiB; `r1/0` is
/// refused.
struct Volumes;

impl Exports for Volumes {
    fn lookup(&mut self, name: &str, _purpose: Purpose) -> Result<Export, Refusal> {
        let canonical = match name {
            "r0" | "r0/0" => "r0/0",
            "ro" | "bad" => name,
            "r1/0" => return Err(Refusal { kind: RefusalKind::Policy, reason: REASON.to_owned() }),
            _ => {
                return Err(Refusal { kind: RefusalKind::Unknown, reason: format!("no export {name:?}") });
            }
        };
        let mut export = Export::new(canonical, SIZE as u64);
        export.description = "memory disk".to_owned();
        export.read_only = name == "ro";
        Ok(export)
    }

    fn list(&mut self) -> Vec<Listed> {
        ["r0/0", "ro"].map(|name| Listed { name: name.to_owned(), description: "memory".to_owned() }).into()
    }
}

type Disk = Arc<Mutex<Vec<u8>>>;

/// A server on its own socket, for the duration of a test.
struct Server {
    directory: tempfile::TempDir,
    disk: Disk,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("nbd.sock")).unwrap();
        let disk: Disk = Arc::new(Mutex::new(vec![0; SIZE]));
        let served = Arc::clone(&disk);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let disk = Arc::clone(&served);
                // A client that goes away in mid-word is its own business.
                thread::spawn(move || stream.and_then(|stream| serve(stream, &disk)));
            }
        });
        Self { directory, disk }
    }

    fn uri(&self, export: &str) -> String {
        let socket = self.directory.path().join("nbd.sock");
        format!("nbd+unix:///{export}?socket={}", socket.display())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn serve(mut stream: UnixStream, disk: &Disk) -> io::Result<()> {
    let Some((opened, mut waiting)) = shake_hands(&mut stream)? else { return Ok(()) };
    let session = Session::new(&opened.export, opened.structured);
    let good_bytes = if opened.export.name == "bad" { SIZE - 4096 } else { SIZE };
    loop {
        let incoming = loop {
            if let Some(incoming) = session.decode(&waiting).map_err(io::Error::other)? {
                break incoming;
            }
            receive(&mut stream, &mut waiting)?;
        };
        waiting.drain(..REQUEST_BYTES);
        let payload_bytes = match incoming {
            Incoming::Request(request) => request.payload_bytes() as usize,
            Incoming::Refused(refused) => refused.skip_bytes as usize,
            Incoming::Disconnect => return Ok(()),
        };
        while waiting.len() < payload_bytes {
            receive(&mut stream, &mut waiting)?;
        }
        let payload: Vec<u8> = waiting.drain(..payload_bytes).collect();
        let reply = answer(&session, incoming, &payload, &mut disk.lock().unwrap(), good_bytes);
        stream.write_all(&reply)?;
    }
}

/// The opened export, and what the client already sent behind the handshake.
fn shake_hands(stream: &mut UnixStream) -> io::Result<Option<(Opened, Vec<u8>)>> {
    let mut negotiation = Negotiation::new();
    let mut waiting = Vec::new();
    loop {
        let result = negotiation.feed(&waiting, &mut Volumes);
        stream.write_all(&negotiation.take_output())?;
        let progress = result.map_err(io::Error::other)?;
        waiting.drain(..progress.consumed);
        match progress.outcome {
            Some(Outcome::Go(opened)) => return Ok(Some((opened, waiting))),
            Some(Outcome::Abort) => return Ok(None),
            None if waiting.is_empty() => receive(stream, &mut waiting)?,
            None => {}
        }
    }
}

fn receive(stream: &mut UnixStream, waiting: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 16 << 10];
    match stream.read(&mut chunk)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        len => {
            waiting.extend_from_slice(&chunk[..len]);
            Ok(())
        }
    }
}

/// Carries out one request. A trim leaves 0xdd behind, so that a test can tell it from a zeroing.
fn answer(
    session: &Session,
    incoming: Incoming,
    payload: &[u8],
    disk: &mut [u8],
    good_bytes: usize,
) -> Vec<u8> {
    let (mut out, replies) = (Vec::new(), session.replies());
    let bytes = |extent: Extent| {
        let start = extent.start().byte_offset() as usize;
        start..start + extent.bytes() as usize
    };
    let request = match incoming {
        Incoming::Request(request) => request,
        Incoming::Refused(refused) => {
            replies.error(&mut out, refused.cookie, refused.errno, refused.reason);
            return out;
        }
        Incoming::Disconnect => return out,
    };
    match request.command {
        Command::Read { extent } if bytes(extent).end > good_bytes => {
            replies.error(&mut out, request.cookie, Errno::Io, "the disk has a bad sector there");
            return out;
        }
        Command::Read { extent } => {
            replies.read_header(&mut out, request.cookie, request.offset(), extent.bytes() as u32);
            out.extend_from_slice(&disk[bytes(extent)]);
            return out;
        }
        Command::Write { extent, .. } => disk[bytes(extent)].copy_from_slice(payload),
        Command::WriteZeroes { extent, .. } => disk[bytes(extent)].fill(0),
        Command::Trim { extent, .. } => disk[bytes(extent)].fill(0xdd),
        Command::Flush => {}
    }
    replies.done(&mut out, request.cookie);
    out
}

/// Runs a client to its end.
fn run(program: &str, arguments: &[&str]) -> Output {
    match Process::new(program).args(arguments).output() {
        Ok(output) => output,
        Err(error) => panic!("cannot run {program} ({error}): 'make setup' installs it"),
    }
}

fn qemu_io(options: &[&str], commands: &[&str], uri: &str) -> Output {
    let commands = commands.iter().flat_map(|command| ["-c", command]);
    let arguments: Vec<&str> =
        ["-f", "raw"].iter().chain(options).copied().chain(commands).chain([uri]).collect();
    run("qemu-io", &arguments)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn nbdinfo_sees_the_export_as_it_is() {
    let server = Server::start();
    let output = run("nbdinfo", &["--json", &server.uri("r0")]);
    assert!(output.status.success(), "{}", text(&output));
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(info["structured"], true);
    let export = &info["exports"][0];
    assert_eq!(export["export-size"], SIZE);
    assert_eq!(export["description"], "memory disk");
    for (name, value) in [
        ("is_read_only", false),
        ("can_flush", true),
        ("can_fua", true),
        ("can_trim", true),
        ("can_zero", true),
        ("can_df", true),
        ("can_multi_conn", true),
        ("can_fast_zero", false),
    ] {
        assert_eq!(export[name], value, "{name}");
    }
    assert_eq!(export["block_size_minimum"], 512);
    assert_eq!(export["block_size_preferred"], 4096);
    assert_eq!(export["block_size_maximum"], 32 << 20);
}

#[test]
fn nbdinfo_lists_all_exports() {
    let server = Server::start();
    let output = run("nbdinfo", &["--list", "--json", &server.uri("")]);
    assert!(output.status.success(), "{}", text(&output));
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<_> = info["exports"].as_array().unwrap().iter().map(|e| &e["export-name"]).collect();
    assert_eq!(names, ["r0/0", "ro"]);
}

#[test]
fn a_refused_export_says_why_to_the_clients_user() {
    let server = Server::start();
    let output = qemu_io(&[], &["read 0 512"], &server.uri("r1%2F0"));
    assert!(!output.status.success());
    assert!(text(&output).contains(REASON), "{}", text(&output));
}

#[test]
fn nbdcopy_brings_an_image_there_and_back() {
    let server = Server::start();
    let (source, target) = (server.file("source"), server.file("target"));
    let mut image: Vec<u8> =
        (0..SIZE as u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    image[1 << 20..3 << 20].fill(0); // a hole: nbdcopy zeroes it without sending it
    std::fs::write(&source, &image).unwrap();
    server.disk.lock().unwrap().fill(0xff);

    let uri = server.uri("r0");
    let there = run("nbdcopy", &["--flush", source.to_str().unwrap(), &uri]);
    assert!(there.status.success(), "{}", text(&there));
    assert!(*server.disk.lock().unwrap() == image, "the disk differs from the image");

    let back = run("nbdcopy", &[&uri, target.to_str().unwrap()]);
    assert!(back.status.success(), "{}", text(&back));
    assert!(std::fs::read(&target).unwrap() == image, "the copy differs from the image");
}

#[test]
fn qemu_writes_zeroes_trims_flushes_and_reads_back() {
    let server = Server::start();
    let commands = [
        "write -P 0x5a 0 1M",
        "write -f -P 0xa5 64k 512",
        "write -z -u 128k 64k",
        "write -z 256k 64k",
        "discard 512k 64k",
        "flush",
        "read -P 0x5a 0 64k",
        "read -P 0xa5 64k 512",
        "read -P 0 128k 64k",
        "read -P 0 256k 64k",
    ];
    // Without a cache every command reaches the server as it is.
    let output = qemu_io(&["-t", "none", "-d", "unmap"], &commands, &server.uri("r0"));
    assert!(output.status.success() && !text(&output).contains("failed"), "{}", text(&output));
    let disk = server.disk.lock().unwrap();
    assert_eq!(disk[(64 << 10) - 1..(64 << 10) + 513], [&[0x5a][..], &[0xa5; 512], &[0x5a]].concat());
    assert!(disk[128 << 10..192 << 10].iter().all(|&byte| byte == 0));
    assert!(disk[512 << 10..576 << 10].iter().all(|&byte| byte == 0xdd), "a discard arrives as a trim");
}

#[test]
fn a_failed_read_is_an_error_and_the_connection_lives_on() {
    let server = Server::start();
    let bad = format!("read {} 4k", SIZE - 4096);
    let output = qemu_io(&[], &[&bad, "read -P 0 0 4k"], &server.uri("bad"));
    let text = text(&output);
    assert!(text.contains("read failed: Input/output error"), "{text}");
    assert!(text.contains("read 4096/4096 bytes at offset 0"), "{text}");
}

#[test]
fn a_read_only_export_cannot_be_opened_for_writing() {
    let server = Server::start();
    let uri = server.uri("ro");
    let output = qemu_io(&[], &["write 0 512"], &uri);
    assert!(!output.status.success() && text(&output).contains("Permission denied"), "{}", text(&output));
    let output = qemu_io(&["-r"], &["read -P 0 0 512"], &uri);
    assert!(output.status.success() && !text(&output).contains("failed"), "{}", text(&output));
}
