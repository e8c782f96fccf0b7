//! What attackers and broken programs can do to a live pair: nothing to anybody else.
//!
//! While one sends rubbish, a well-behaved client on the same daemon goes on writing and reading, and what it
//! reads is what it wrote. Afterwards the pair is connected, both disks are equal, the daemon's memory was
//! bounded all the time, and its log says what happened and who did it.
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use predicates::str::contains;
use urbd::units::VolumeId;
use urbd::wire::auth::CramHmac;
use urbd::wire::packet::CHALLENGE_BYTES;
use urbd::wire::{Decoded, Dialect, Packet, Socket, decode, encode};

mod pair;

use pair::{
    Client, Daemon, LIMIT, NBD_PORT, Pair, Setup, Stream, Traffic, command, pattern, same_on_both, wait_until,
};

const SECRET: &str = "known to two";
const AUTHENTICATED: &str = "net { cram-hmac-alg sha1; shared-secret \"known to two\"; }";
/// More than the clients' requests and answers may hold, with all that is around them.
const MEMORY_KIB: u64 = 300 << 10;

fn pair() -> Pair {
    pair_with(8 << 20, "")
}

fn pair_with(image_bytes: u64, settings: &str) -> Pair {
    let pair = Pair::with(&Setup { more: AUTHENTICATED, image_bytes, settings });
    pair.promote_a();
    pair
}

/// The end of every test: all is well.
fn all_is_well(pair: Pair, traffic: Traffic) {
    traffic.goes_on();
    traffic.stop();
    pair.a("cstate r0").success().stdout("Connected\n");
    pair.a("dstate r0").success().stdout("UpToDate/UpToDate\n");
    let memory = pair.a.memory_kib("VmHWM");
    assert!(memory < MEMORY_KIB, "the daemon had {memory} KiB");
    for node in [&pair.a, &pair.b] {
        let log = node.log();
        assert!(!log.contains("panicked"), "{log}");
    }
    wait_until("the volume is closed", || {
        pair.a.adm(&pair.file, "secondary r0").output().unwrap().status.success()
    });
    same_on_both(pair);
}

/// Whether the other side ends the connection; what it says until then does not matter.
fn is_ended(stream: &mut dyn Stream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

// ---------------------------------------------------------------------------------- the peer port

/// Connects from `from` to `to`; waits until somebody listens there.
fn dial(from: IpAddr, to: SocketAddr) -> TcpStream {
    let mut dialed = None;
    wait_until(&format!("somebody listens on {to}"), || {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        let connected = socket.connect(&to.into()).is_ok();
        dialed = Some(TcpStream::from(socket));
        connected
    });
    let stream = dialed.unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Somebody at the peer's address, who speaks the protocol as far as it suits.
struct Impostor {
    data: TcpStream,
    meta: TcpStream,
    received: Vec<u8>,
}

impl Impostor {
    /// Dials both sockets and says which is which.
    fn meet(from: IpAddr, to: SocketAddr) -> Self {
        let mut sockets = [Packet::InitialData, Packet::InitialMeta].map(|first| {
            let mut stream = dial(from, to);
            stream.write_all(&bytes_of(&first, &Dialect::BEFORE_FEATURES)).unwrap();
            stream
        });
        let [data, meta] = &mut sockets;
        let (data, meta) = (data.try_clone().unwrap(), meta.try_clone().unwrap());
        Self { data, meta, received: Vec::new() }
    }

    fn say(&mut self, packet: &Packet, dialect: &Dialect) {
        self.data.write_all(&bytes_of(packet, dialect)).unwrap();
    }

    fn hear(&mut self, dialect: &Dialect) -> Packet {
        loop {
            if let Decoded::Packet { packet, consumed, .. } = decode(&self.received, dialect).unwrap() {
                self.received.drain(..consumed);
                return packet;
            }
            let mut bytes = [0; 4096];
            let count = self.data.read(&mut bytes).unwrap();
            assert!(count > 0, "the node hung up");
            self.received.extend_from_slice(&bytes[..count]);
        }
    }

    /// Exchanges features, then proves that it knows this secret.
    fn authenticate(&mut self, secret: &str) {
        self.say(&Packet::ConnectionFeatures { min: 86, max: 101, flags: 0 }, &Dialect::BEFORE_FEATURES);
        assert!(matches!(self.hear(&Dialect::BEFORE_FEATURES), Packet::ConnectionFeatures { .. }));
        let dialect = spoken();
        let own = [7; CHALLENGE_BYTES];
        self.say(&Packet::AuthChallenge(own.to_vec()), &dialect);
        let Packet::AuthChallenge(theirs) = self.hear(&dialect) else { panic!("no challenge") };
        let response = CramHmac::new("sha1", secret.as_bytes()).unwrap().respond(&own, &theirs).unwrap();
        self.say(&Packet::AuthResponse(response), &dialect);
    }
}

/// The dialect after the features.
fn spoken() -> Dialect {
    Dialect { apv: 101, features: 0, peer_digest_bytes: 0, socket: Socket::Data }
}

fn bytes_of(packet: &Packet, dialect: &Dialect) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, VolumeId(0), 0, dialect, &mut bytes);
    bytes
}

/// Lets b die, and waits until a looks for it again.
fn lose_b(pair: &mut Pair) {
    pair.b.kill_now();
    wait_until("a looks for its peer", || {
        let output = pair.a.adm(&pair.file, "cstate r0").output().unwrap();
        output.stdout == b"WFConnection\n"
    });
}

/// Starts b again, and waits until the pair is whole.
fn bring_b_back(pair: &mut Pair) {
    pair.b = Daemon::start(pair.dir.path(), "b", &pair.settings[1]);
    pair.b("up r0").success();
    pair.wait_connect();
    pair.wait_sync();
}

#[test]
fn whoever_is_not_the_peer_gets_nowhere_on_the_peer_port() {
    let mut pair = pair();
    let traffic = Traffic::start(Client::open(&pair.a.nbd_sock()));
    let (port, peer) = (pair.addresses[0], pair.addresses[1].ip());
    // A connected node does not even listen.
    assert_eq!(TcpStream::connect(port).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    lose_b(&mut pair);

    let stranger = pair::addresses()[0].ip();
    assert!(is_ended(&mut dial(stranger, port)));
    pair.a.wait_log(&["WARN", &format!("closed a connection from {stranger}: only the configured peer")]);

    let first = bytes_of(&Packet::InitialData, &Dialect::BEFORE_FEATURES);
    let wrong_first = bytes_of(&Packet::AuthChallenge(vec![0; CHALLENGE_BYTES]), &Dialect::BEFORE_FEATURES);
    let features =
        bytes_of(&Packet::ConnectionFeatures { min: 86, max: 101, flags: 0 }, &Dialect::BEFORE_FEATURES);
    for (rubbish, words) in [
        (pattern(1, 64 << 10), "magic"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "magic"),
        (vec![0; 100], "magic"),
        (features, "no packet to begin with"),
        (wrong_first, "P_AUTH_CHALLENGE"),
        ([&first[..4], &[0xff; 4][..]].concat(), "0xffff"),
    ] {
        let mut stream = dial(peer, port);
        // It may be closed while there is more to write.
        let _ = stream.write_all(&rubbish);
        assert!(is_ended(&mut stream), "{words}");
        pair.a.wait_log(&["WARN", &format!("closed a connection from {peer}: "), words]);
    }
    for cut in [1, 7, first.len()] {
        let mut stream = dial(peer, port);
        stream.write_all(&first[..cut]).unwrap();
    }
    // What waits behind a good first packet is not read for ever.
    let mut greedy = dial(peer, port);
    greedy.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let _ = greedy.write_all(&[&first[..], &pattern(2, 32 << 20)].concat());
    traffic.goes_on();

    let descriptors = pair.a.descriptors();
    let crowd: Vec<TcpStream> = (0..200).map(|_| dial(peer, port)).collect();
    pair.a.wait_log(&[
        "WARN",
        &format!("closed a connection from {peer}: too many connections that say nothing"),
    ]);
    wait_until("silent connections are closed", || pair.a.descriptors() < descriptors + 30);
    traffic.goes_on();
    // The peer gets through the crowd.
    bring_b_back(&mut pair);
    drop((crowd, greedy));
    all_is_well(pair, traffic);
}

#[test]
fn an_impostor_at_the_peers_address_is_found_out() {
    let mut pair = pair();
    let traffic = Traffic::start(Client::open(&pair.a.nbd_sock()));
    let (port, peer) = (pair.addresses[0], pair.addresses[1]);
    lose_b(&mut pair);
    let again = |pair: &Pair| {
        wait_until("a has given up", || {
            pair.a.adm(&pair.file, "cstate r0").output().unwrap().stdout == b"StandAlone\n"
        });
        traffic.goes_on();
        pair.a("connect r0").success();
    };

    let mut stranger = Impostor::meet(peer.ip(), port);
    stranger.say(&Packet::ConnectionFeatures { min: 200, max: 300, flags: 0 }, &Dialect::BEFORE_FEATURES);
    pair.a.wait_log(&["ERROR", "the peer speaks 200 to 300", &peer.to_string(), "StandAlone"]);
    again(&pair);

    let mut liar = Impostor::meet(peer.ip(), port);
    liar.authenticate("known to nobody");
    pair.a.wait_log(&["authentication of the peer failed", &peer.to_string()]);
    again(&pair);

    let mut babbler = Impostor::meet(peer.ip(), port);
    babbler.hear(&Dialect::BEFORE_FEATURES);
    babbler.data.write_all(&pattern(3, 4096)).unwrap();
    pair.a.wait_log(&["WARN", "connection attempt with", &peer.to_string(), "magic"]);
    traffic.goes_on();

    // Even one who knows the secret: rubbish where P_PROTOCOL must come, and on the meta socket.
    for on_meta in [false, true] {
        let mut traitor = Impostor::meet(peer.ip(), port);
        traitor.authenticate(SECRET);
        assert!(matches!(traitor.hear(&spoken()), Packet::AuthResponse(_)));
        let stream = if on_meta { &mut traitor.meta } else { &mut traitor.data };
        stream.write_all(&pattern(4, 4096)).unwrap();
        let reason = if on_meta { "NetworkFailure" } else { "ProtocolError" };
        pair.a.wait_log(&["WARN", &format!("connection with {peer} lost ({reason})"), "magic"]);
        traffic.goes_on();
    }
    let silent = Impostor::meet(peer.ip(), port);
    pair.a.wait_log(&["WARN", "connection attempt with", "the peer did not answer in time"]);
    drop(silent);
    bring_b_back(&mut pair);
    all_is_well(pair, traffic);
}

// --------------------------------------------------------------------------------- the NBD sockets

/// A connection to each of a's two NBD sockets.
fn both_doors(pair: &Pair) -> [Box<dyn Stream>; 2] {
    [Box::new(Client::unix(&pair.a.nbd_sock())), Box::new(Client::tcp(nbd_address(pair)))]
}

fn nbd_address(pair: &Pair) -> SocketAddr {
    SocketAddr::new(pair.addresses[0].ip(), NBD_PORT)
}

/// An option's header, and a payload that need not be as long as it says.
fn option(number: u32, says: u32, payload: &[u8]) -> Vec<u8> {
    [b"\0\0\0\x03IHAVEOPT", &number.to_be_bytes()[..], &says.to_be_bytes(), payload].concat()
}

#[test]
fn rubbish_in_an_nbd_handshake_costs_only_its_sender() {
    let pair = pair();
    let traffic = Traffic::start(Client::open(&pair.a.nbd_sock()));
    let me = format!("process {}", std::process::id());
    for (rubbish, words) in [
        (pattern(1, 64 << 10), "flags"),
        (b"\xff\xff\xff\xff".to_vec(), "flags 0xffffffff are unknown"),
        (b"\0\0\0\x03NOTMAGIC\0\0\0\x01\0\0\0\0".to_vec(), "option magic"),
        (option(1, u32::MAX, b"r0"), "option 1 has 4294967295 bytes"),
        (option(7, 1 << 30, &[]), "option 7 has 1073741824 bytes"),
        (option(1, 3, b"r\xff\0"), "export name is not valid"),
        (option(1, 4, b"nope"), "export \"nope\" refused"),
    ] {
        for (mut stream, from) in both_doors(&pair).into_iter().zip([me.as_str(), "127."]) {
            let _ = stream.write_all(&rubbish);
            assert!(is_ended(&mut *stream), "{words}");
            pair.a.wait_log(&["NBD negotiation failed", from, words]);
        }
    }
    // Malformed options that are answered, truncated ones, and no end of options.
    for rubbish in [
        option(7, 6, b"\xff\xff\xff\xff\0\0"),
        option(6, 4, &[0; 2]),
        option(0xdead, 8, &[0; 8]),
        option(1, 100, b"r0"),
        b"\0\0\0".to_vec(),
        [&b"\0\0\0\x03"[..], &option(3, 0, &[])[4..].repeat(2000)].concat(),
    ] {
        for mut stream in both_doors(&pair) {
            let _ = stream.write_all(&rubbish);
        }
    }
    traffic.goes_on();

    let crowds: Vec<_> = (0..200).map(|_| both_doors(&pair)).collect();
    pair.a.wait_log(&["WARN", "too many NBD clients that open no export", &me]);
    pair.a.wait_log(&["WARN", "too many NBD clients that open no export", "127."]);
    // New clients get through the crowd.
    for mut client in [Client::open(&pair.a.nbd_sock()), Client::open_tcp(nbd_address(&pair))] {
        client.write(client.bytes - 4096, &[9; 4096]).unwrap();
        assert_eq!(client.read(client.bytes - 4096, 4096).unwrap(), [9; 4096]);
    }
    traffic.goes_on();
    drop(crowds);
    all_is_well(pair, traffic);
}

#[test]
fn rubbish_from_a_client_that_has_the_export_open_costs_only_its_sender() {
    let pair = pair();
    let traffic = Traffic::start(Client::open(&pair.a.nbd_sock()));
    let open = || [Client::open(&pair.a.nbd_sock()), Client::open_tcp(nbd_address(&pair))];
    let me = format!("process {}", std::process::id());
    for (mut client, from) in open().into_iter().zip([me.as_str(), "127."]) {
        let _ = client.stream.write_all(&pattern(5, 64 << 10));
        assert!(is_ended(&mut *client.stream));
        pair.a.wait_log(&["NBD client breaks the protocol", from, "magic"]);
    }
    for mut client in open() {
        client.request(command::WRITE, 0, u32::MAX).unwrap();
        assert!(is_ended(&mut *client.stream));
        pair.a.wait_log(&["NBD client breaks the protocol", "NBD write of 4294967295 bytes"]);
    }
    for mut client in open() {
        let end = client.bytes;
        let refused = [
            (command::READ, end, 512, 22),
            (command::READ, u64::MAX - 511, 512, 22),
            (command::READ, 0, u32::MAX, 22),
            (command::READ, 1, 512, 22),
            (command::READ, 0, 0, 22),
            (command::TRIM, 0, u32::MAX, 22),
            (command::ZEROES, end - 512, 1024, 28),
            (99, 0, 512, 22),
        ];
        for (kind, offset, len, errno) in refused {
            let cookie = client.request(kind, offset, len).unwrap();
            assert_eq!(client.reply().unwrap(), (cookie, errno), "command {kind} of {len} bytes at {offset}");
        }
        // The payload of a refused write is skipped; the connection goes on.
        let cookie = client.request(command::WRITE, end - 512, 4096).unwrap();
        client.stream.write_all(&[0xee; 4096]).unwrap();
        assert_eq!(client.reply().unwrap(), (cookie, 28));
        client.write(end - 8192, &[3; 4096]).unwrap();
        // Half a payload, half a header, and gone.
        client.request(command::WRITE, end - 4096, 4096).unwrap();
        client.stream.write_all(&[0xdd; 2048]).unwrap();
    }
    for mut client in open() {
        client.stream.write_all(&[0x25, 0x60, 0x95]).unwrap();
    }
    let mut client = Client::open(&pair.a.nbd_sock());
    assert_eq!(client.read(client.bytes - 8192, 4096).unwrap(), [3; 4096]);
    assert_eq!(client.read(client.bytes - 4096, 4096).unwrap(), [0; 4096], "half a write is none");
    drop(client);
    all_is_well(pair, traffic);
}

#[test]
fn clients_that_hold_what_they_can_leave_room_for_others_and_memory_is_bounded() {
    // Settings are appended to the section [nbd].
    let pair = pair_with(48 << 20, "max_clients = 80\n");
    let traffic = Traffic::start(Client::open(&pair.a.nbd_sock()));
    let mut greedy = Vec::new();
    for number in 0..60 {
        let mut client = Client::open(&pair.a.nbd_sock());
        match number % 3 {
            // An answer of 32 MiB that is not taken.
            0 => {
                client.request(command::READ, 0, 32 << 20).unwrap();
            }
            // Almost all of a long write.
            1 => {
                client.request(command::WRITE, 32 << 20, 8 << 20).unwrap();
                client.stream.write_all(&vec![0; 64 << 10]).unwrap();
            }
            // Requests that are refused, and nobody reads why.
            _ => {
                for _ in 0..200 {
                    client.request(99, 0, 0).unwrap();
                }
            }
        }
        greedy.push(client);
    }
    traffic.goes_on();
    for mut client in [Client::open(&pair.a.nbd_sock()), Client::open_tcp(nbd_address(&pair))] {
        client.write(client.bytes - (1 << 20), &vec![4; 1 << 20]).unwrap();
        assert_eq!(client.read(client.bytes - 4096, 4096).unwrap(), [4; 4096]);
    }
    // More than [nbd] max_clients are turned away.
    while greedy.len() < 80 - 1 {
        greedy.push(Client::open(&pair.a.nbd_sock()));
    }
    for from in [format!("process {}", std::process::id()), "127.".to_owned()] {
        wait_until("clients are turned away", || {
            let _waits = both_doors(&pair);
            let log = pair.a.log();
            log.lines().any(|line| line.contains("max_clients is reached") && line.contains(&from))
        });
    }
    traffic.goes_on();
    drop(greedy);
    all_is_well(pair, traffic);
}

// ------------------------------------------------------------------------------ the control socket

#[test]
fn rubbish_on_the_control_socket_costs_only_its_sender() {
    let pair = pair();
    let traffic = Traffic::start(Client::open(&pair.a.nbd_sock()));
    let connect = || {
        let stream = UnixStream::connect(pair.a.control_sock()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    };
    let me = format!("pid={}", std::process::id());
    for (rubbish, words) in [
        (pattern(1, 4096), ""),
        (b"{\"verb\":\"primary\",\"minor\":\"one\",\"force\":false}\n".to_vec(), "expected u32"),
        (b"{\"verb\":\"format-all-disks\"}\n".to_vec(), "format-all-disks"),
        (b"{\"verb\":\"down\",\"resource\":\"r0\",\"version\":2}\n".to_vec(), "version"),
        ([&b"["[..]].concat().repeat(100_000), ""),
        (vec![b'x'; 8 << 20], "more than 1048576 bytes"),
    ] {
        let mut stream = connect();
        let _ = stream.write_all(&rubbish);
        let _ = stream.write_all(b"\n");
        assert!(is_ended(&mut stream));
        pair.a.wait_log(&["a control client sent no valid call", &me, words]);
    }
    // What a client that died in mid-sentence wanted is not guessed.
    let mut stream = connect();
    stream.write_all(b"{\"verb\":\"down\",\"resource\":\"r0\"}").unwrap();
    drop(stream);
    let mut crowd: Vec<UnixStream> = (0..200).map(|_| connect()).collect();
    pair.a.wait_log(&["WARN", "too many control connections"]);
    // An administrator gets through the crowd, and so does one who watches.
    pair.a("status r0").success().stdout(contains("role:Primary"));
    let mut watch = connect();
    watch.write_all(b"{\"verb\":\"watch\",\"resource\":null}\n").unwrap();
    assert!(watch.read(&mut [0; 64]).unwrap() > 0);
    crowd.extend((0..200).map(|_| connect()));
    pair.a("pause-sync r0").success();
    assert!(watch.read(&mut [0; 64]).unwrap() > 0, "whoever watches is not idle");
    pair.a("resume-sync r0").success();
    drop(crowd);
    all_is_well(pair, traffic);
}
