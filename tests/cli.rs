//! The command line, from outside: without a daemon, with one, and with a pair on loopback.
//!
//! `tests/data/cli/dry-run.txt` is what `drbdadm` of drbd-utils 9.22, in its 8.4 personality, printed
//! for each command line on a host named boole. Blocks are `=== WORDS`, stdout lines behind `|`, stderr
//! lines behind `!`, and the exit code behind `=`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use assert_cmd::prelude::*;
use predicates::prelude::*;
use predicates::str::{contains, starts_with};

mod pair;

use pair::{ADM, Client, Daemon, LOCAL_ONLY, Pair, Setup, addresses, conf, minor, wait_until};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cli");

// ------------------------------------------------------------------------------ without a daemon

/// `urbdadm` for node boole, without a daemon, in the directory of the test data.
fn adm(words: &[&str]) -> Command {
    let mut command = Command::new(ADM);
    command.args(["--node", "boole", "--run-dir", "/nonexistent/urbd"]).args(words).current_dir(DATA);
    command.stdin(Stdio::null());
    command
}

#[test]
fn dry_runs_and_queries_are_word_for_word_those_of_drbdadm() {
    let golden = fs::read_to_string(Path::new(DATA).join("dry-run.txt")).unwrap();
    let mut wrong = String::new();
    for block in golden.split("=== ").skip(1) {
        let (words, expected) = block.split_once('\n').unwrap();
        let split: Vec<&str> = ["-c", "two.conf"].into_iter().chain(words.split(' ')).collect();
        let found = transcript(&adm(&split).output().unwrap()).replace(DATA, "DIR");
        if found != expected {
            wrong += &format!("=== {words}\n{found}--- drbdadm:\n{expected}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn transcript(output: &Output) -> String {
    let mut text = String::new();
    for (mark, bytes) in [('|', &output.stdout), ('!', &output.stderr)] {
        for line in String::from_utf8_lossy(bytes).lines() {
            text += &if line.is_empty() { format!("{mark}\n") } else { format!("{mark} {line}\n") };
        }
    }
    text + &format!("= {}\n", output.status.code().unwrap())
}

#[test]
fn a_daemon_that_does_not_run_is_named_with_its_socket() {
    let text = "urbdadm: the daemon does not answer on /nonexistent/urbd/control.sock: is urbd running?\n";
    adm(&["-c", "two.conf", "role", "r1"]).assert().code(20).stderr(starts_with(text));
    adm(&["proc"]).assert().code(20).stderr(text);
    adm(&["-c", "two.conf", "up", "r1"]).assert().code(1).stderr(starts_with(text));
}

#[test]
fn a_resource_without_a_daemon_is_asked_on_its_disk() {
    let disk = tempfile::tempdir().unwrap();
    let conf = conf(disk.path(), addresses(), "");
    image(disk.path());
    let words = |verb| ["-c".to_owned(), conf.display().to_string(), verb, "r0".to_owned()];
    let run = |verb: &str| {
        let mut command = Command::new(ADM);
        command.args(["--node", "a", "--run-dir", "/nonexistent/urbd"]).args(words(verb.to_owned()));
        command.stdin(Stdio::null()).assert()
    };
    run("dstate").code(1);
    let mut create = Command::new(ADM);
    create.args(["--node", "a", "-c"]).arg(&conf).args(["create-md", "--force", "r0"]);
    create.assert().success().stdout(contains("New drbd meta data block successfully created."));
    run("dstate").success().stdout("Inconsistent\n");
    run("get-gi").success().stdout(starts_with("0000000000000004:0000000000000000:"));
}

#[test]
fn a_configuration_that_cannot_be_read_or_is_wrong_has_its_exit_code() {
    adm(&["-c", "nowhere.conf", "up", "r0"]).assert().code(20).stderr(contains("nowhere.conf"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.conf");
    fs::write(&file, "resource r0 {\n  net { timeot 50; }\n}\n").unwrap();
    let bad = file.to_str().unwrap();
    adm(&["-c", bad, "sh-nop"])
        .assert()
        .code(10)
        .stderr(contains(format!("{bad}:2:")).and(contains("timeout")));
}

#[test]
fn a_configuration_may_come_from_standard_input() {
    let mut command = adm(&["-c", "-", "-d", "down", "all"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let text = fs::read(Path::new(DATA).join("two.conf")).unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "drbdsetup-84 down r0\ndrbdsetup-84 down r1\n");
}

#[test]
fn the_name_a_program_is_called_by_decides_which_tool_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let called = |name: &str| {
        let path = dir.path().join(name);
        std::os::unix::fs::symlink(ADM, &path).unwrap();
        let mut command = Command::new(path);
        command.stdin(Stdio::null());
        command
    };
    called("drbdadm").arg("nonsense").assert().code(1).stderr("drbdadm: Unknown command 'nonsense'\n");
    called("drbdsetup")
        .args(["new-minor", "r0", "1"])
        .assert()
        .code(20)
        .stderr(starts_with("Missing argument"));
    called("drbdmeta").arg("-").assert().code(20);
}

#[test]
fn help_version_and_completions_need_nothing() {
    adm(&["--version"]).assert().success().stdout(contains("DRBD_KERNEL_VERSION_CODE=0x08040b\n"));
    adm(&["help"]).assert().success().stdout(contains("COMMANDS:").and(contains("wait-sync")));
    adm(&["primary", "--help"])
        .assert()
        .success()
        .stdout(contains("OPTIONS FOR primary:\n  --force[=...]\n"));
    adm(&[]).assert().code(1).stdout(contains("USAGE:"));
    adm(&["completions", "bash"]).assert().success().stdout(contains("urbdadm"));
    adm(&["man"]).assert().success().stdout(contains(".TH urbdadm"));
    Command::new(env!("CARGO_BIN_EXE_urbd")).arg("--help").assert().success().stdout(contains("--run-dir"));
}

#[test]
fn wrong_settings_keep_the_daemon_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("s.toml");
    fs::write(&settings, "[nbd]\nlisen = []\n").unwrap();
    let mut urbd = Command::new(env!("CARGO_BIN_EXE_urbd"));
    urbd.arg("--settings").arg(&settings).arg("--run-dir").arg(dir.path().join("run"));
    urbd.assert().failure().stderr(contains("s.toml:2: ").and(contains("did you mean `listen`?")));
}

// -------------------------------------------------------------------------------- with one daemon

#[test]
fn a_second_daemon_on_the_same_run_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = Daemon::start(dir.path(), "a", LOCAL_ONLY);
    let mut second = Command::new(env!("CARGO_BIN_EXE_urbd"));
    second.args(["--node", "a", "--run-dir"]).arg(&first.run_dir);
    second.assert().failure().stderr(contains("another urbd runs on"));
    first.kill();
    // A daemon that was killed leaves its sockets; the next one takes their place.
    let again = Daemon::start(dir.path(), "a", LOCAL_ONLY);
    again.stop();
}

#[test]
fn garbage_on_the_control_socket_hurts_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), "a", LOCAL_ONLY);
    for garbage in [&b"GET / HTTP/1.0\r\n\r\n"[..], b"\0\0\0\0\n", b"{\"verb\":\"primary\"}\n", b"[[[[[[[[\n"]
    {
        let mut stream = UnixStream::connect(daemon.run_dir.join("control.sock")).unwrap();
        stream.write_all(garbage).unwrap();
        let mut answer = String::new();
        // What it has not read when it closes resets the connection: also an end.
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.starts_with("{\"refused\":"), "{answer}");
    }
    daemon.adm(&dir.path().join("none"), "proc").assert().success().stdout(starts_with("version: 8.4.11 "));
    daemon.stop();
}

#[test]
fn up_twice_fails_and_adjust_does_what_is_left_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = addresses();
    let file = conf(dir.path(), hosts, "");
    image(dir.path());
    let a = Daemon::start(dir.path(), "a", LOCAL_ONLY);
    let adm = |words: &str| a.adm(&file, words).assert();
    adm("create-md --force r0").success();
    adm("up r0").success();
    adm("up r0").code(1).stderr(contains("(161)"));
    adm("-d adjust r0").success().stdout("");
    adm("disconnect r0").success();
    adm("detach r0").success();
    let calls = adm("-d adjust r0").success().get_output().stdout.clone();
    let calls = String::from_utf8(calls).unwrap();
    let verbs: Vec<&str> = calls.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(verbs, [minor(hosts).to_string().as_str(), "attach", "connect"], "{calls}");
    adm("adjust r0").success();
    adm("-d adjust r0").success().stdout("");

    conf(dir.path(), hosts, "net { ping-int 3; connect-int 4; }");
    adm("-d adjust r0")
        .stdout(contains("net-options").and(contains("--set-defaults --ping-int=3 --connect-int=4")));
    adm("adjust r0").success();
    let show = Command::new(env!("CARGO_BIN_EXE_urbdsetup"))
        .args(["--run-dir", a.run_dir.to_str().unwrap(), "show", "r0"])
        .assert()
        .success();
    show.stdout(contains("ping-int        \t3;").and(contains("a.img")));
    adm("down r0").success();
    adm("down r0").success();
    adm("role r0").code(10).stderr(contains("(127)"));
    a.stop();
}

#[test]
fn events_come_as_they_happen() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = addresses();
    let file = conf(dir.path(), addresses, "");
    let a = Daemon::start(dir.path(), "a", LOCAL_ONLY);
    let mut setup = Command::new(env!("CARGO_BIN_EXE_urbdsetup"));
    setup.args(["--run-dir", a.run_dir.to_str().unwrap()]);
    let mut events = setup.arg("events2").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "exists -");
    a.adm(&file, "new-resource r0").assert().success();
    assert_eq!(lines.next().unwrap(), "create resource name:r0 role:Secondary suspended:no");
    a.adm(&file, "new-minor r0").assert().success();
    let device = format!("create device name:r0 volume:0 minor:{} disk:Diskless", minor(addresses));
    assert_eq!(lines.next().unwrap(), device);
    a.adm(&file, "down r0").assert().success();
    assert_eq!(lines.next().unwrap(), "destroy device name:r0 volume:0");
    assert_eq!(lines.next().unwrap(), "destroy resource name:r0");
    a.stop();
    assert_eq!(lines.next(), None);
    assert_eq!(events.wait().unwrap().code(), Some(20), "the daemon is gone");
}

#[test]
fn a_disk_in_use_is_refused_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let file = conf(dir.path(), addresses(), "");
    image(dir.path());
    let (a, other) = (Daemon::start(dir.path(), "a", LOCAL_ONLY), tempfile::tempdir().unwrap());
    let thief = Daemon::start(other.path(), "a", LOCAL_ONLY);
    a.adm(&file, "create-md --force r0").assert().success();
    a.adm(&file, "up r0").assert().success();
    let up = thief.adm(&file, "up r0").assert().code(1);
    up.stderr(contains("a.img").and(contains("terminated with exit code")));
    thief.stop();
    a.stop();
}

#[test]
fn waiting_for_a_peer_that_does_not_come_ends_with_code_five() {
    let dir = tempfile::tempdir().unwrap();
    let file = conf(dir.path(), addresses(), "");
    image(dir.path());
    let a = Daemon::start(dir.path(), "a", LOCAL_ONLY);
    a.adm(&file, "create-md --force r0").assert().success();
    a.adm(&file, "up r0").assert().success();
    a.adm(&file, "wait-connect --timeout=1 r0").assert().code(5);
    a.adm(&file, "disconnect r0").assert().success();
    a.adm(&file, "wait-connect r0").assert().success();
    a.adm(&file, "wait-sync r0").assert().success();
    a.stop();
}

// ------------------------------------------------------------------------------------ with a pair

#[test]
fn a_pair_lives_from_create_md_to_down() {
    let pair = Pair::start();
    let (a, b) = (|words: &str| pair.a(words), |words: &str| pair.b(words));
    a("status r0").success().stdout(contains("disk:Inconsistent"));
    a("primary r0").code(17).stderr(contains("State change failed: (-2) Need access to UpToDate data"));
    a("-- --overwrite-data-of-peer primary r0").success();
    pair.wait_sync();
    a("role r0").success().stdout("Primary/Secondary\n");
    b("dstate r0").success().stdout("UpToDate/UpToDate\n");
    let minor = minor(pair.addresses);
    a(&format!("cstate minor-{minor}")).success().stdout("Connected\n");
    b("proc").success().stdout(contains(format!(
        "\n{minor:2}: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----\n"
    )));
    let status = "r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n    replication:Established peer-disk:UpToDate\n\n";
    a("status r0").success().stdout(status);
    a("sh-status").success().stdout(contains("\n_cstate=Connected\n_role=Primary\n_peer=Secondary\n"));
    b("primary r0").code(11).stderr(contains("(-1)"));

    a("secondary r0").success();
    b("primary r0").success();
    a("role r0").success().stdout("Secondary/Primary\n");
    b("secondary r0").success();
    let gi = |out: &[u8]| String::from_utf8_lossy(out).split(':').next().unwrap().to_owned();
    let (of_a, of_b) = (a("get-gi r0").success(), b("get-gi r0").success());
    assert_eq!(gi(&of_a.get_output().stdout), gi(&of_b.get_output().stdout));

    b("down r0").success();
    a("wait-connect --timeout=1 r0").code(5);
    a("down all").success();
    // Down, the disk itself is asked: consistent, up to date, not a crashed primary.
    a("get-gi r0").success().stdout(contains(":1:1:0:0:0:0:0\n"));
    pair.stop();
}

#[test]
fn data_written_on_one_node_is_read_on_the_other() {
    let pair = Pair::start();
    pair.a("primary --force r0").success();
    let io = |node: &Daemon, command: &str| {
        Command::new("qemu-io").args(["-f", "raw", "-c", command, &node.uri("r0")]).output().unwrap()
    };
    let written = io(&pair.a, "write -P 0x5a 1M 256k");
    assert!(written.status.success(), "{written:?}");
    pair.wait_sync();

    let refused = io(&pair.b, "read 0 512");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(text.contains("Secondary") && text.contains("urbdadm primary r0"), "{text}");

    pair.a("secondary r0").success();
    pair.b("primary r0").success();
    let read = io(&pair.b, "read -P 0x5a 1M 256k");
    assert!(read.status.success() && !String::from_utf8_lossy(&read.stdout).contains("failed"), "{read:?}");
    pair.stop();
}

#[test]
fn a_split_brain_is_explained_and_the_written_procedure_mends_it() {
    let pair =
        Pair::with(&Setup { more: "net { ping-int 2; connect-int 2; timeout 15; }", ..Setup::default() });
    let (a, b) = (|words: &str| pair.a(words), |words: &str| pair.b(words));
    pair.promote_a();
    a("explain r0").success().stdout(contains("b's copy is equal"));
    let write = |node: &Daemon, what: &str| {
        let output =
            Command::new("qemu-io").args(["-f", "raw", "-c", what, &node.uri("r0")]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    a("disconnect r0").success();
    write(&pair.a, "write -P 1 0 64k");
    a("explain r0").success().stdout(contains("64 KiB here are not on b"));
    a("secondary r0").success();
    b("disconnect r0").success();
    b("primary r0").success();
    write(&pair.b, "write -P 2 4M 128k");
    a("connect r0").success();
    b("connect r0").success();
    wait_until("the nodes find the split brain", || {
        let output = pair.b.adm(&pair.file, "explain r0").output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("SPLIT BRAIN")
    });
    b("explain r0").success().stdout(
        contains("b changed 128 KiB")
            .and(contains("a changed 64 KiB, as it said then"))
            .and(contains("(a) Keep b's data, lose the 64 KiB of a."))
            .and(contains("connect --discard-my-data r0")),
    );
    b("status r0").success().stdout(contains("split-brain: 'explain r0' says what to do"));

    // To the letter: the isolated node first, then the sound one.
    a("secondary r0").success();
    // Where the first one is StandAlone already, there is nothing to disconnect.
    pair.a.adm(&pair.file, "disconnect r0").output().unwrap();
    a("-- --discard-my-data connect r0").success();
    let cstate = String::from_utf8(b("cstate r0").success().get_output().stdout.clone()).unwrap();
    if cstate.trim() == "StandAlone" {
        b("connect r0").success();
    }
    pair.wait_connect();
    pair.wait_sync();
    a("dstate r0").success().stdout("UpToDate/UpToDate\n");
    b("secondary r0").success();
    a("primary r0").success();
    write(&pair.a, "read -P 2 4M 128k");
    write(&pair.a, "read -P 0 0 64k");
    a("explain r0").success().stdout(contains("b's copy is equal"));
    pair.stop();
}

#[test]
fn what_a_split_brain_discards_is_kept_listed_and_served_read_only() {
    let kept = tempfile::tempdir().unwrap();
    let directory = kept.path().join("discarded");
    let settings = format!("[discard]\nkeep = \"1MiB\"\ndirectory = {directory:?}\n");
    let more = "net { ping-int 2; connect-int 2; timeout 15; }";
    let pair = Pair::with(&Setup { more, settings: &settings, ..Setup::default() });
    let (a, b) = (|words: &str| pair.a(words), |words: &str| pair.b(words));
    pair.promote_a();
    a("discarded").success().stdout(contains("Nothing is kept"));
    let qemu = |export: &str, what: &str| {
        let uri = pair.a.uri(export);
        Command::new("qemu-io").args(["-f", "raw", "-c", what, &uri]).output().unwrap()
    };
    let qemu_read = |export: &str, what: &str| {
        let uri = pair.a.uri(export);
        Command::new("qemu-io").args(["-r", "-f", "raw", "-c", what, &uri]).output().unwrap()
    };
    a("disconnect r0").success();
    assert!(qemu("r0", "write -P 1 64k 64k").status.success());
    a("secondary r0").success();
    b("disconnect r0").success();
    b("primary r0").success();
    let theirs = pair.b.uri("r0");
    let theirs = ["-f", "raw", "-c", "write -P 2 0 1M", &theirs];
    assert!(Command::new("qemu-io").args(theirs).output().unwrap().status.success());

    b("connect r0").success();
    a("-- --discard-my-data connect r0").success();
    pair.wait_connect();
    pair.wait_sync();
    a("discarded").success().stdout(
        contains("r0-0-1: r0/0 of ")
            .and(contains("64 KiB of "))
            .and(contains("complete"))
            .and(contains("nbdcopy 'nbd+unix:///discarded/r0-0-1?socket=")),
    );
    // The device has the other node's data; what was given up is there, and only that.
    assert!(!qemu("discarded/r0-0-1", "write -P 9 64k 4k").status.success(), "it is read-only");
    for read in ["read -P 1 64k 64k", "read -P 0 0 64k", "read -P 0 128k 1M"] {
        let output = qemu_read("discarded/r0-0-1", read);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("bytes at offset") && !text.contains("failed"), "{read}: {output:?}");
    }
    let copy = kept.path().join("copy.img");
    let uri = pair.a.uri("discarded/r0-0-1");
    let copied = Command::new("nbdcopy").args([&uri, copy.to_str().unwrap()]).output().unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let bytes = std::fs::read(&copy).unwrap();
    assert!(bytes[64 << 10..128 << 10].iter().all(|byte| *byte == 1));
    assert!(bytes[..64 << 10].iter().chain(&bytes[128 << 10..]).all(|byte| *byte == 0));

    for ending in ["img", "json"] {
        std::fs::remove_file(directory.join(format!("r0-0-1.{ending}"))).unwrap();
    }
    a("discarded").success().stdout(contains("Nothing is kept"));
    b("secondary r0").success();
    pair.stop();
}

#[test]
fn a_client_holds_its_volume_open_until_the_daemon_stops() {
    let pair = Pair::start();
    pair.a("primary --force r0").success();
    pair.wait_sync();
    let mut client = Client::open(&pair.a.nbd_sock());
    pair.a("secondary r0").code(11).stderr(contains("(-12) Device is held open by someone"));
    pair.a("down r0").code(11);
    let Pair { a, b, file, dir: _dir, .. } = pair;
    a.stop();
    assert!(client.stream.read_to_end(&mut Vec::new()).is_ok(), "the client is sent away");
    // In good order: the node left as a Secondary, and the peer keeps good data.
    let mut adm = Command::new(ADM);
    adm.args(["--node", "a", "--run-dir", "/nonexistent", "-c"]).arg(&file).args(["get-gi", "r0"]);
    adm.assert().success().stdout(contains(":1:1:0:0:0:0:0\n"));
    b.adm(&file, "dstate r0").assert().success().stdout("UpToDate/DUnknown\n");
    b.stop();
}

#[test]
fn inconsistent_data_cannot_become_outdated_whether_in_use_or_not() {
    let pair = Pair::start();
    pair.b("disconnect r0").success();
    pair.b("outdate r0").code(5).stdout("").stderr("Device is inconsistent.\n");
    pair.b("down r0").success();
    pair.b("outdate r0").code(5).stdout("").stderr("Device is inconsistent.\n");
    pair.stop();
}

#[test]
fn an_event_calls_the_handler_of_the_file_that_the_resource_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("handler.log");
    let handler = format!(
        "handlers {{ before-resync-target \"echo $DRBD_RESOURCE $DRBD_MINOR $DRBD_VOLUME $DRBD_PEER >>{}\"; }}",
        log.display()
    );
    let pair = Pair::with_in(
        dir,
        &Setup {
            more: &handler,
            settings: &format!("[handlers]\nprogram = \"{ADM}\"\n"),
            ..Setup::default()
        },
    );
    pair.a("primary --force r0").success();
    pair.wait_sync();
    // The handler is not waited for.
    let told = format!("r0 {} 0 a\n", minor(pair.addresses));
    wait_until("the handler is called", || fs::read_to_string(&log).unwrap_or_default() == told);
    pair.stop();
}

/// Makes the disk of node a.
fn image(dir: &Path) {
    pair::image(&dir.join("a.img"), 8 << 20);
}
