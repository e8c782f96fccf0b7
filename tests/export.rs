//! The export of a live pair under other people's NBD clients: nbdinfo, nbdcopy, qemu-img, qemu-io, fio.
//!
//! Two daemons, connected and authenticated. What a client wrote is read back through the export, and is
//! the same on both disks in the end.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use assert_cmd::prelude::*;
use predicates::str::contains;

mod pair;

use pair::{Client, NBD_PORT, Pair, Setup, command, run, run_well, same_on_both, text, wait_until};

const AUTHENTICATED: &str = "net { cram-hmac-alg sha256; shared-secret \"a secret of two\"; }";

/// A pair with a as Primary and both disks UpToDate.
fn pair(image_bytes: u64) -> Pair {
    pair_on(image_bytes, "")
}

fn pair_on(image_bytes: u64, settings: &str) -> Pair {
    let pair = Pair::with(&Setup { more: AUTHENTICATED, image_bytes, settings });
    pair.promote_a();
    pair
}

/// The export of node a over TCP.
fn tcp_uri(pair: &Pair, export: &str) -> String {
    format!("nbd://{}:{NBD_PORT}/{export}", pair.addresses[0].ip())
}

/// Both ways to reach an export of node a.
fn uris(pair: &Pair, export: &str) -> [String; 2] {
    [pair.a.uri(export), tcp_uri(pair, export)]
}

/// Runs qemu-io without a cache, so that every command reaches the server as it is.
fn qemu_io(uri: &str, commands: &[&str]) -> String {
    let words = ["-t", "none", "-d", "unmap", "-f", "raw"].into_iter();
    let words: Vec<&str> =
        words.chain(commands.iter().flat_map(|command| ["-c", command])).chain([uri]).collect();
    let said = run_well("qemu-io", &words);
    assert!(!said.contains("failed"), "{said}");
    said
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

/// Bytes that no compression and no zero detection shortens, with two holes in them.
fn picture(bytes: usize) -> Vec<u8> {
    let words =
        (0..bytes as u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_be_bytes());
    let mut picture: Vec<u8> = words.collect();
    picture.resize(bytes, 0x77);
    picture[1 << 20..2 << 20].fill(0);
    picture[bytes - (64 << 10)..].fill(0);
    picture
}

#[test]
fn nbdinfo_finds_the_export_over_both_sockets_and_a_secondary_says_what_it_is() {
    let pair = pair(8 << 20);
    for uri in uris(&pair, "r0") {
        let info: serde_json::Value = serde_json::from_str(&run_well("nbdinfo", &["--json", &uri])).unwrap();
        assert_eq!(info["structured"], true);
        let export = &info["exports"][0];
        assert_eq!(export["export-size"], pair.data_bytes());
        assert_eq!(export["description"], "Primary, UpToDate");
        for flag in ["can_flush", "can_fua", "can_trim", "can_zero", "can_df", "can_multi_conn"] {
            assert_eq!(export[flag], true, "{flag}");
        }
        for flag in ["is_read_only", "can_cache", "can_fast_zero"] {
            assert_eq!(export[flag], false, "{flag}");
        }
        let sizes = ["minimum", "preferred", "maximum"].map(|kind| &export[format!("block_size_{kind}")]);
        assert_eq!(sizes, [512, 4096, 32 << 20]);
    }
    for uri in uris(&pair, "") {
        let list = run_well("nbdinfo", &["--list", "--json", &uri]);
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let names: Vec<_> = list["exports"].as_array().unwrap().iter().map(|e| &e["export-name"]).collect();
        assert_eq!(names, ["r0/0"]);
    }
    let unknown = run("qemu-img", &["info", &pair.a.uri("r1")]);
    assert!(!unknown.status.success() && text(&unknown).contains("there is: r0/0"), "{}", text(&unknown));

    let of_b = format!("nbd://{}:{NBD_PORT}/r0%2F0", pair.addresses[1].ip());
    for uri in [pair.b.uri("r0%2F0"), of_b] {
        // libnbd's programs only tell the kind of the refusal, qemu's also the words.
        let refused = run("nbdinfo", &["--size", &uri]);
        assert!(!refused.status.success() && text(&refused).contains("policy"), "{}", text(&refused));
        let refused = run("qemu-img", &["info", &uri]);
        let said = text(&refused);
        assert!(!refused.status.success(), "{said}");
        assert!(said.contains("r0/0 is Secondary on this node and cannot be opened"), "{said}");
        assert!(said.contains("The peer is Primary"), "{said}");
    }
    pair.stop();
}

#[test]
fn an_image_copied_in_is_the_same_to_every_client_and_on_both_disks() {
    let pair = pair(16 << 20);
    let dir = tempfile::tempdir().unwrap();
    let source = path(dir.path(), "source");
    let picture = picture(pair.data_bytes());
    fs::write(&source, &picture).unwrap();

    let [unix, tcp] = uris(&pair, "r0");
    run_well("nbdcopy", &["--flush", "--connections=4", &source, &unix]);
    run_well("qemu-img", &["compare", "-f", "raw", "-F", "raw", &source, &tcp]);
    for (name, uri) in [("over-unix", &unix), ("over-tcp", &tcp)] {
        let back = path(dir.path(), name);
        run_well("nbdcopy", &["--connections=4", uri, &back]);
        assert!(fs::read(back).unwrap() == picture, "{name}: what comes out differs from what went in");
    }
    let converted = path(dir.path(), "converted.qcow2");
    run_well("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &unix, &converted]);
    run_well("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", &converted, &source]);
    assert!(same_on_both(pair) == picture, "the disks hold something else");
}

#[test]
fn an_image_converted_onto_the_export_over_tcp_is_on_both_disks() {
    let pair = pair(16 << 20);
    let dir = tempfile::tempdir().unwrap();
    let (source, packed) = (path(dir.path(), "source"), path(dir.path(), "packed.qcow2"));
    let picture = picture(pair.data_bytes());
    fs::write(&source, &picture).unwrap();
    run_well("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &source, &packed]);
    // The export holds something where the image has nothing.
    qemu_io(&pair.a.uri("r0"), &["write -P 0xee 0 4M"]);
    let uri = tcp_uri(&pair, "r0");
    run_well("qemu-img", &["convert", "-n", "-f", "qcow2", "-O", "raw", &packed, &uri]);
    assert!(same_on_both(pair) == picture, "the disks hold something else");
}

#[test]
fn fio_verifies_what_it_wrote_over_the_unix_socket() {
    let pair = pair(64 << 20);
    fio(&pair.a.uri("r0"));
    same_on_both(pair);
}

#[test]
fn fio_verifies_what_it_wrote_over_tcp_also_without_io_uring() {
    let pair = pair_on(64 << 20, "[io]\nengine = \"portable\"\n");
    fio(&tcp_uri(&pair, "r0"));
    same_on_both(pair);
}

/// Writes and verifies with blocks of 4 KiB, 64 KiB, 1 MiB and all between, then with four clients at once.
fn fio(uri: &str) {
    let dir = tempfile::tempdir().unwrap();
    let job = path(dir.path(), "jobs.fio");
    let jobs = format!(
        "[global]\nioengine=nbd\nuri={uri}\nthread=1\niodepth=32\nrw=randwrite\n\
         verify=crc32c\ndo_verify=1\nverify_fatal=1\nrandseed=8411\n\
         [4k]\nbs=4k\noffset=0\nsize=6m\n\
         [64k]\nstonewall\nbs=64k\noffset=6m\nsize=8m\nfsync=16\n\
         [1m]\nstonewall\nbs=1m\noffset=14m\nsize=10m\n\
         [mixed]\nstonewall\nbssplit=4k/40:20k/20:64k/20:512k/10:1m/10\noffset=24m\nsize=12m\n\
         [four]\nstonewall\nbssplit=4k/60:16k/20:128k/20\noffset=36m\noffset_increment=6m\nsize=6m\nnumjobs=4\n"
    );
    fs::write(&job, jobs).unwrap();
    let report = path(dir.path(), "report.json");
    let aux = format!("--aux-path={}", dir.path().display());
    let output = run("fio", &["--output-format=json", "--output", &report, &aux, &job]);
    assert!(output.status.success(), "{}", text(&output));
    let report = fs::read_to_string(report).unwrap();
    // Notes of fio's come before what was asked for.
    let report: serde_json::Value = serde_json::from_str(&report[report.find('{').unwrap()..]).unwrap();
    let jobs = report["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 8);
    for job in jobs {
        let bytes = |kind: &str| job[kind]["io_bytes"].as_u64().unwrap();
        assert_eq!(job["error"], 0, "{}", job["jobname"]);
        assert!(bytes("write") >= 6 << 20, "{}: {} bytes written", job["jobname"], bytes("write"));
        assert_eq!(bytes("read"), bytes("write"), "{}: all that was written is verified", job["jobname"]);
    }
}

#[test]
fn trims_zeroes_and_durable_writes_reach_both_disks() {
    let pair = pair(16 << 20);
    for uri in uris(&pair, "r0") {
        qemu_io(
            &uri,
            &[
                "write -P 0x5a 0 8M",
                "write -f -P 0xa5 64k 512",
                "write -f -P 0xa6 65k 4k",
                "write -z 1M 64k",
                "write -z -u 2M 64k",
                "write -z -f 3M 512",
                "discard 4M 1M",
                "flush",
                "read -P 0x5a 0 64k",
                "read -P 0xa5 64k 512",
                "read -P 0xa6 65k 4k",
                "read -P 0 1M 64k",
                "read -P 0x5a 1088k 960k",
                "read -P 0 2M 64k",
                "read -P 0 3M 512",
                "discard 6M 512",
                "write -z 0 8M",
                "read -P 0 0 8M",
                "write -P 0x11 7M 1M",
            ],
        );
    }
    let data = same_on_both(pair);
    assert!(
        data[..7 << 20].iter().all(|&byte| byte == 0)
            && data[7 << 20..8 << 20].iter().all(|&byte| byte == 0x11)
    );
}

/// A client of node a that has sent three requests, while I/O is suspended.
fn waiting_client(pair: &Pair) -> Client {
    let mut client = Client::open(&pair.a.nbd_sock());
    client.write(0, &[1; 4096]).unwrap();
    pair.a("suspend-io r0").success();
    client.request(command::WRITE, 0, 4096).unwrap();
    client.stream.write_all(&[2; 4096]).unwrap();
    client.request(command::READ, 0, 512).unwrap();
    client.request(command::FLUSH, 0, 0).unwrap();
    client
}

#[test]
fn requests_of_a_suspended_device_wait_until_it_is_resumed() {
    let pair = pair(8 << 20);
    let mut client = waiting_client(&pair);
    pair.a("status r0").success().stdout(contains("suspended:user"));
    pair.a("resume-io r0").success();
    let mut cookies = Vec::new();
    for _ in 0..3 {
        let (cookie, error) = client.reply().unwrap();
        assert_eq!(error, 0);
        cookies.push(cookie);
        if cookie == 3 {
            client.stream.read_exact(&mut [0; 512]).unwrap();
        }
    }
    cookies.sort_unstable();
    assert_eq!(cookies, [2, 3, 4]);
    assert_eq!(client.read(0, 4096).unwrap(), [2; 4096]);
    drop(client);
    wait_until("the volume is closed", || {
        pair.a.adm(&pair.file, "secondary r0").output().unwrap().status.success()
    });
    assert_eq!(same_on_both(pair)[..4096], [2; 4096]);
}

#[test]
fn clients_of_a_suspended_device_get_errors_when_the_daemon_stops() {
    let pair = pair(8 << 20);
    let mut client = waiting_client(&pair);
    let (log, Pair { a, b, file, dir: _dir, .. }) = (pair.dir.path().join("a.log"), pair);
    a.signal(rustix::process::Signal::TERM);
    let mut replies: Vec<_> = (0..3).map(|_| client.reply().unwrap()).collect();
    replies.sort_unstable();
    assert_eq!(replies, [(2, 108), (3, 108), (4, 108)], "NBD_ESHUTDOWN");
    assert!(client.reply().is_err(), "the connection is closed");
    a.ends();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("down resource=\"r0\""), "in good order:\n{log}");
    b.adm(&file, "dstate r0").assert().success().stdout("UpToDate/DUnknown\n");
    b.stop();
}

#[test]
fn a_client_that_is_gone_does_not_keep_a_suspended_device_from_going_down() {
    let pair = pair(8 << 20);
    let client = waiting_client(&pair);
    pair.a("secondary r0").code(11).stderr(contains("(-12)"));
    drop(client);
    wait_until("the volume is closed", || {
        pair.a.adm(&pair.file, "down r0").output().unwrap().status.success()
    });
    assert_eq!(same_on_both(pair)[..4096], [1; 4096], "what never began is not there");
}
