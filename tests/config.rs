//! The configuration language against recorded answers: the real `drbdadm` for what is right
//! (`tests/data/config/golden`, see `record.sh` there), and our own messages for what is wrong.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use urbd::cli::config_files::ConfigFiles;
use urbd::cli::shell::escape;
use urbd::config::dump::Dump;
use urbd::config::options::{AfterSb0p, AfterSb1p, AfterSb2p, BecomePrimary, Protocol};
use urbd::config::shell::{self, VolumeQuery};
use urbd::config::{
    Config, Host, LoadError, Local, MetaDisk, Node, Resource, SelectError, Volume, parse_str, parse_with,
};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config").join(name)
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no *.{extension} in {}", directory.display());
    paths
}

fn load(path: &Path) -> Config {
    ConfigFiles::new(path.to_str()).load().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The answers recorded for one file: what stood behind each `### ARGUMENTS`.
fn golden(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let mut answers: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("### ") {
            Some(exit) if exit.starts_with("exit ") => assert_eq!(exit, "exit 0", "{answers:?}"),
            Some(command) => answers.push((command.to_owned(), String::new())),
            None => {
                let (_, answer) = answers.last_mut().unwrap();
                answer.push_str(line);
                answer.push('\n');
            }
        }
    }
    answers
}

/// Our own answer to the command, in the tool's form.
fn answer(config: &Config, node: &Node, command: &str) -> String {
    let dump = Dump { config, node, expanded: command.starts_with("-v") };
    match command {
        "dump" | "-v dump" => dump.all(),
        "dump-xml" | "-v dump-xml" => dump.xml_all(),
        "-d up all" => up_all(config, node),
        "-d wait-connect all" => wait_all(config, node),
        "sh-resources" => shell::resources(config, node),
        "sh-mod-parms" => shell::mod_parms(config, node),
        "sh-udev minor-1" => {
            let (resource, volume) = config.by_minor(1, node).unwrap();
            shell::udev(config, resource, resource.host(node).unwrap(), volume)
        }
        _ => {
            let query = VolumeQuery::from_command(command.strip_suffix(" all").unwrap()).unwrap();
            each_volume(config, node)
                .map(|(_, host, volume)| query.answer(host, volume).unwrap() + "\n")
                .collect()
        }
    }
}

fn each_volume<'a>(
    config: &'a Config,
    node: &'a Node,
) -> impl Iterator<Item = (&'a Resource, &'a Host, &'a Volume)> {
    config.here(node).flat_map(move |resource| {
        let host = resource.host(node).unwrap();
        host.volumes.iter().map(move |volume| (resource, host, volume))
    })
}

fn words(words: &[&str], arguments: impl Iterator<Item = String>) -> String {
    let escaped = words.iter().map(|word| (*word).to_owned()).chain(arguments).map(|word| escape(&word));
    let line = escaped.collect::<Vec<_>>().join(&b' ');
    String::from_utf8(line).unwrap() + "\n"
}

/// The commands of `up`, in the order of L42. A resource without volumes has none.
fn up_all(config: &Config, node: &Node) -> String {
    let locals: Vec<Local<'_>> = config
        .here(node)
        .map(|resource| resource.for_node(node, None))
        .filter_map(Result::ok)
        .filter(|local| !local.volumes().is_empty())
        .collect();
    let mut out = String::new();
    for local in &locals {
        let name = local.resource.name.as_str();
        out += &words(&["drbdsetup-84", "new-resource", name], local.resource_arguments());
        for volume in local.volumes() {
            let (minor, id) = (volume.device.minor.to_string(), volume.id.to_string());
            out += &words(&["drbdsetup-84", "new-minor", name, &minor, &id], std::iter::empty());
        }
    }
    for local in &locals {
        for volume in local.volumes() {
            let minor = volume.device.minor.to_string();
            let (disk, meta) = (volume.disk.as_deref().unwrap(), volume.meta_path().unwrap());
            let index = volume.meta.drbdmeta_index();
            out += &words(&["drbdmeta", &minor, "v08", meta, &index, "apply-al"], std::iter::empty());
            let index = volume.meta.attach_index();
            out += &words(&["drbdsetup-84", "attach", &minor, disk, meta, &index], volume.arguments());
        }
    }
    for local in &locals {
        let (mine, theirs) = (local.host.address.to_string(), local.peer.address.to_string());
        let head = ["drbdsetup-84", "connect", &local.resource.name, &mine, &theirs];
        out += &words(&head, local.net_arguments());
    }
    out
}

fn wait_all(config: &Config, node: &Node) -> String {
    let line = |(resource, _, volume): (&Resource, &Host, &Volume)| {
        let local = resource.for_node(node, None).unwrap();
        let minor = volume.device.minor.to_string();
        words(&["drbdsetup-84", "wait-connect", &minor], local.wait_arguments())
    };
    each_volume(config, node).map(line).collect()
}

#[test]
fn we_print_what_the_real_drbdadm_prints() {
    let directory = data("good").canonicalize().unwrap();
    let mut compared = 0;
    for path in files(&directory, "conf") {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let node = Node::named(if stem == "classic" { "boole" } else { "alpha" });
        let config = load(&path);
        for (command, expected) in golden(&data("golden").join(format!("{stem}.txt"))) {
            let ours = answer(&config, &node, &command).replace(&format!("{}/", directory.display()), "DIR/");
            similar(&format!("{stem}: {command}"), &ours, &expected);
            compared += 1;
        }
    }
    assert!(compared >= 60, "only {compared} answers compared");
}

/// Compares line by line, so that a difference is easy to see.
fn similar(what: &str, ours: &str, expected: &str) {
    for (number, (ours, expected)) in ours.lines().zip(expected.lines()).enumerate() {
        assert_eq!(ours, expected, "{what}, line {}", number + 1);
    }
    assert_eq!(ours.lines().count(), expected.lines().count(), "{what}: number of lines\n{ours}");
}

#[test]
fn a_dump_reads_back_as_the_same_configuration() {
    for path in files(&data("good"), "conf") {
        let config = load(&path);
        let node = Node::named("alpha");
        let first = Dump { config: &config, node: &node, expanded: false }.all();
        let again = parse_str("dump", &first).unwrap_or_else(|report| panic!("{}: {report}", path.display()));
        let second = Dump { config: &again, node: &node, expanded: false }.all();
        let lines = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(lines(&second), lines(&first), "{}", path.display());
    }
}

#[test]
fn every_mistake_has_its_message() {
    let mut wrong = 0;
    for path in files(&data("bad"), "res") {
        let text = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let report = match parse_with(&urbd::config::source::NoFiles, name, &text) {
            Ok(config) => config.warnings,
            Err(report) => report,
        };
        assert_eq!(report.has_errors(), !name.starts_with("warnings"), "{name}");
        let golden = path.with_extension("txt");
        if std::env::var_os("URBD_BLESS").is_some() {
            fs::write(&golden, report.to_string()).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap();
        similar(name, &report.to_string(), &expected);
        wrong += report.diagnostics().len();
    }
    assert!(wrong > 100, "only {wrong} messages");
}

#[test]
fn the_program_tells_every_mistake_of_a_file_and_does_nothing_else() {
    for path in files(&data("bad"), "res") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut adm = std::process::Command::new(env!("CARGO_BIN_EXE_urbdadm"));
        let output = adm.current_dir(data("bad")).args(["-c", name, "dump"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let messages = fs::read_to_string(path.with_extension("txt")).unwrap();
        // The recorded messages are those of a reader without files: one that is missing is told otherwise.
        for message in messages.lines().filter(|line| !line.contains("cannot be opened here")) {
            // Second places are marked in the text, without a line of their own.
            let words = message.split_once(": ").unwrap().1;
            // Why a file cannot be opened is for the system to say.
            let words = words.strip_suffix(": 'nope/x.res' cannot be opened here").unwrap_or(words);
            assert!(said.contains(words), "{name}: {message} is not among\n{said}");
        }
        let fine = name.starts_with("warnings");
        assert_eq!(output.status.code(), Some(if fine { 0 } else { 10 }), "{name}: {said}");
        assert_eq!(output.stdout.is_empty(), !fine, "{name}");
    }
}

#[test]
fn a_message_is_one_line_and_then_the_marked_text() {
    let report = parse_str("r0.res", "resource r0 {\n  net {\n    crm-hmac-alg sha1;\n  }\n}\n").unwrap_err();
    let line = "r0.res:3:5: unknown option 'crm-hmac-alg'; did you mean 'cram-hmac-alg'?";
    assert_eq!(report.to_string(), format!("{line}\n"));
    let rendered = report.render(false);
    assert!(rendered.starts_with(&format!("{line}\n")), "{rendered}");
    assert!(rendered.contains("crm-hmac-alg sha1;") && rendered.contains("^^^^^^^^^^^^"), "{rendered}");
    assert!(report.render(true).contains("\u{1b}["));
}

#[test]
fn the_samples_are_free_of_errors_and_say_what_they_mean() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("resources.d");
    for path in files(&directory, "res") {
        load(&path);
    }
    let config = load(&directory.join("urbd.conf"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    let names: Vec<&str> = config.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["external", "minimal", "r0", "db"]);

    let local = config.local("r0", &Node::named("boole"), None).unwrap();
    assert_eq!(local.host.names, ["boole"]);
    assert_eq!(local.peer.address.socket(), "10.10.10.2:7788".parse().unwrap());
    assert_eq!(local.net.protocol, Protocol::C);
    assert!(local.net.allow_two_primaries);
    assert_eq!(local.net.shared_secret.as_ref().unwrap().expose(), "secret");
    assert_eq!(local.net.cram_hmac_alg.as_deref(), Some("sha1"));
    assert_eq!(local.net.after_sb_0pri, AfterSb0p::DiscardZeroChanges);
    assert_eq!(local.net.after_sb_1pri, AfterSb1p::DiscardSecondary);
    assert_eq!(local.net.after_sb_2pri, AfterSb2p::Disconnect);
    assert_eq!(local.resource.startup.wfc_timeout_s, 15);
    assert_eq!(local.resource.startup.degr_wfc_timeout_s, 60);
    assert_eq!(local.resource.startup.become_primary_on, BecomePrimary::Both);
    assert!(local.resource.handlers["local-io-error"].contains("notify-io-error.sh"));
    assert_eq!(local.resource.handlers.len(), 3);

    let db = config.local("db", &Node::named("cardan.example.com"), None).unwrap();
    assert_eq!(db.volumes()[1].disk_options.resync_after_minor, Some(1));
    assert_eq!(db.volumes()[0].disk_options.c_max_rate_kib_s, 102_400);
    let external = config.local("external", &Node::named("boole"), None).unwrap();
    assert_eq!(external.volumes()[0].meta, MetaDisk::Flexible("/dev/sdd1".to_owned()));
    assert_eq!(external.volumes()[1].meta, MetaDisk::Indexed("/dev/sdd2".to_owned(), 0));
    assert_eq!(external.net.congestion_fill_sectors, 409_600);
}

const HOSTS: &str = "
    on alpha { device /dev/drbd1; disk /dev/a; meta-disk internal; address 10.0.0.1:1; }
    on bravo { device /dev/drbd1; disk /dev/a; meta-disk internal; address 10.0.0.2:1; }";

#[test]
fn a_node_finds_itself_by_name_or_address_and_needs_one_peer() {
    // C79, C81, C82, C92
    let text = format!(
        "resource r0 {{ {HOSTS} }}
        resource three {{ {} on charlie {{ device /dev/drbd2; disk /dev/b; meta-disk internal; address 10.0.0.3:2; }} }}
        resource alone {{ on alpha {{ device /dev/drbd3; disk /dev/c; meta-disk internal; address 10.0.0.1:3; }} }}
        resource floats {{ device minor 4; disk /dev/d; meta-disk internal; floating 10.0.0.1:4; floating 10.0.0.2:4; }}
        resource twice {{ device minor 5; disk /dev/e; meta-disk internal; on alpha {{ address 10.0.0.1:5; }}
            on Alpha.example.com {{ address 10.0.0.2:5; }} }}
        resource other {{ device minor 6; disk /dev/f; meta-disk internal; on alpha {{ address sdp 10.0.0.1:6; }}
            on bravo {{ address sdp 10.0.0.2:6; }} }}
        resource top {{ stacked-on-top-of r0 {{ }} }}",
        HOSTS.replace("drbd1", "drbd2").replace("/dev/a", "/dev/b").replace(":1", ":2"),
    );
    let config = parse_str("t", &text).unwrap_or_else(|report| panic!("{report}"));
    let alpha = Node::named("alpha");
    let local = |name: &str, node: &Node, peer: Option<&str>| {
        config.local(name, node, peer).map(|local| (local.host.label(), local.peer.label()))
    };
    let pair = |host: &str, peer: &str| Ok((host.to_owned(), peer.to_owned()));
    assert_eq!(local("r0", &alpha, None), pair("alpha", "bravo"));
    assert_eq!(local("r0", &Node::named("BRAVO.example.com"), None), pair("bravo", "alpha"));
    assert!(matches!(local("r0", &Node::named("zulu"), None), Err(SelectError::NotDefined { .. })));
    assert!(matches!(local("nope", &alpha, None), Err(SelectError::NotDefined { .. })));
    assert!(matches!(local("three", &alpha, None), Err(SelectError::ManyPeers { .. })));
    assert_eq!(local("three", &alpha, Some("charlie")), pair("alpha", "charlie"));
    assert!(matches!(local("three", &alpha, Some("zulu")), Err(SelectError::NoSuchPeer { .. })));
    assert!(matches!(local("three", &alpha, Some("alpha")), Err(SelectError::PeerIsSelf { .. })));
    assert!(matches!(local("alone", &alpha, None), Err(SelectError::NoPeer { .. })));
    assert!(matches!(local("twice", &alpha, None), Err(SelectError::Twice { .. })));
    assert!(matches!(local("other", &alpha, None), Err(SelectError::Unsupported { .. })));
    assert!(matches!(local("top", &alpha, None), Err(SelectError::Unsupported { .. })));
    let here = Node::named("any").with_addresses(vec!["10.0.0.2".parse().unwrap()]);
    assert_eq!(local("floats", &here, None), pair("ipv4:10.0.0.2:4", "ipv4:10.0.0.1:4"));
    assert_eq!(local("floats", &Node::named("10.0.0.1"), None), pair("ipv4:10.0.0.1:4", "ipv4:10.0.0.2:4"));
}

#[test]
fn a_named_loser_of_a_split_brain_is_local_on_one_node_and_remote_on_the_other() {
    let config =
        parse_str("t", &format!("resource r0 {{ net {{ after-sb-0pri discard-node-bravo; }} {HOSTS} }}"))
            .unwrap();
    let policy = |node: &str| config.local("r0", &Node::named(node), None).unwrap().net.after_sb_0pri;
    assert_eq!(policy("alpha"), AfterSb0p::DiscardRemote);
    assert_eq!(policy("bravo"), AfterSb0p::DiscardLocal);
}

#[test]
fn an_unreadable_byte_in_a_comment_does_no_harm() {
    let text = [b"# f\xfcr \xff\n".as_slice(), format!("resource r0 {{ {HOSTS} }}").as_bytes()].concat();
    assert!(parse_with(&urbd::config::source::NoFiles, "t", &text).is_ok());
    let report = parse_with(&urbd::config::source::NoFiles, "t", b"resource \"\xff\" { }").unwrap_err();
    assert_eq!(report.to_string(), "t:1:10: this string is not valid UTF-8\n");
}

#[test]
fn a_huge_heap_of_mistakes_is_given_up_early() {
    let text = "a;\n".repeat(300_000) + &"net { b 1; } resource x { c; d 5 e }".repeat(50_000);
    let report = parse_str("t", &text).unwrap_err();
    assert_eq!(report.diagnostics().len(), 200);
    assert!(report.to_string().ends_with("the rest is not shown\n"));
}

#[test]
fn an_error_is_not_lost_behind_many_warnings() {
    let text = "resource r { options { auto-promote no; } }\n";
    let many: String = (0..300).map(|n| text.replace(" r ", &format!(" r{n} "))).collect();
    assert_eq!(parse_str("t", &many).unwrap().warnings.diagnostics().len(), 200);
    assert!(parse_str("t", &(many + "oops;")).unwrap_err().has_errors());
}

#[test]
fn wrong_text_and_a_missing_file_have_the_tools_exit_codes() {
    // C5
    let missing = ConfigFiles::new(Some("/nonexistent")).load().unwrap_err();
    assert_eq!(missing.exit_code(), 20);
    let wrong = ConfigFiles::new(data("bad/values.res").to_str()).load().unwrap_err();
    assert!(matches!(wrong, LoadError::Invalid(_)));
    assert_eq!(wrong.exit_code(), 10);
}

/// Pieces of the language, so that random text gets past the first word.
fn soup() -> impl Strategy<Value = String> {
    let pieces = [
        "resource",
        "r0",
        "common",
        "global",
        "{",
        "}",
        "{",
        "}",
        ";",
        ";",
        "on",
        "alpha",
        "bravo",
        "net",
        "disk",
        "syncer",
        "startup",
        "handlers",
        "options",
        "volume",
        "0",
        "1",
        "device",
        "minor",
        "/dev/drbd1",
        "meta-disk",
        "internal",
        "[",
        "]",
        ":",
        "address",
        "ipv6",
        "10.0.0.1",
        "7788",
        "fd00",
        "\"",
        "\"x\"",
        "\\",
        "#",
        "\n",
        "protocol",
        "C",
        "timeout",
        "60",
        "allow-two-primaries",
        "no-tcp-cork",
        "yes",
        "resync-after",
        "r0/1",
        "become-primary-on",
        "both",
        "floating",
        "proxy",
        "plugin",
        "skip",
        "include",
        "after-sb-0pri",
        "discard-node-alpha",
        "ä",
        "\u{fffd}",
        "'",
        "%eth0",
        "99999999999999999999999999",
        "stacked-on-top-of",
        "require-drbd-module-version-ge",
        "8.4.0",
        "flexible-meta-disk",
        "none",
        "ignore-on",
        "use-rle",
    ];
    prop::collection::vec((prop::sample::select(pieces.to_vec()), any::<bool>()), 0..200).prop_map(|pieces| {
        pieces
            .into_iter()
            .map(|(piece, space)| if space { format!("{piece} ") } else { piece.to_owned() })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_a_configuration_or_messages(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        survive(&bytes);
    }

    #[test]
    fn any_words_of_the_language_give_a_configuration_or_messages(text in soup()) {
        survive(text.as_bytes());
    }

    #[test]
    fn a_good_file_with_a_hole_gives_a_configuration_or_messages(at in 0_usize..2000, length in 0_usize..40) {
        let text = fs::read(data("good/inheritance.conf")).unwrap();
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        survive(&[&text[..at], &text[end..]].concat());
    }
}

/// Reads the text and prints all there is to print about it.
fn survive(text: &[u8]) {
    match parse_with(&urbd::config::source::NoFiles, "t", text) {
        Ok(config) => {
            assert!(!config.warnings.has_errors());
            let node = Node::named("alpha");
            let dump = Dump { config: &config, node: &node, expanded: true };
            assert!(!dump.all().is_empty() && !dump.xml_all().is_empty());
            assert!(config.warnings.is_empty() || !config.warnings.render(true).is_empty());
        }
        Err(report) => {
            assert!(report.has_errors());
            assert!(report.to_string().starts_with("t:"), "{report}");
            assert!(!report.render(true).is_empty());
        }
    }
}
