//! Tests of the supervisor: a small core on the real thread and ring.

use super::super::double::Double;
use super::super::settings::HandlerSettings;
use super::super::thread;
use super::*;
use crate::io::Backend;

/// Nothing is kept of what is discarded.
fn no_store() -> Arc<super::super::discarded::Store> {
    Arc::new(super::super::discarded::Store::new(&super::super::settings::DiscardSettings::default()))
}

fn supervisor() -> Arc<Supervisor> {
    let spawn: Spawn = Box::new(|name, _options, notices| {
        let owned = name.to_owned();
        thread::spawn(name, Backend::Portable, move |_| Double::new(&owned), notices)
    });
    let handlers = Handlers::new(&HandlerSettings::default(), "boole", Path::new("/nowhere"));
    let (supervisor, notices) = Supervisor::new(spawn, handlers, no_store());
    tokio::spawn(Arc::clone(&supervisor).attend(notices));
    supervisor
}

async fn code(supervisor: &Arc<Supervisor>, call: Call) -> i32 {
    match Arc::clone(supervisor).call(call).await {
        Answer::Outcome(outcome) => outcome.code,
        other => panic!("{other:?}"),
    }
}

fn new_resource(name: &str) -> Call {
    Call::NewResource { resource: name.into(), options: Vec::new() }
}

fn new_minor(name: &str, minor: u32, volume: u16) -> Call {
    Call::NewMinor { resource: name.into(), minor, volume }
}

fn attach(minor: u32, file: &Path) -> Call {
    let disk = file.display().to_string();
    Call::Attach { minor, meta: disk.clone(), disk, place: MetaPlace::Internal, options: Vec::new() }
}

fn connect(name: &str, local: &str, peer: &str) -> Call {
    Call::Connect {
        resource: name.into(),
        local: local.parse().unwrap(),
        peer: peer.parse().unwrap(),
        options: Vec::new(),
        discard_my_data: false,
        tentative: false,
    }
}

fn image() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    file
}

#[tokio::test]
async fn a_resource_lives_from_new_resource_to_down_and_can_come_again() {
    let s = supervisor();
    let file = image();
    for _ in 0..2 {
        assert_eq!(code(&s, new_resource("r0")).await, 101);
        assert_eq!(code(&s, new_minor("r0", 1, 0)).await, 101);
        assert_eq!(code(&s, attach(1, file.path())).await, 1);
        assert_eq!(code(&s, connect("r0", "127.0.0.1:1", "127.0.0.1:2")).await, 1);
        assert_eq!(code(&s, Call::Primary { minor: 1, force: true }).await, 1);
        let down = Call::Down { resource: "r0".into() };
        assert_eq!(code(&s, down.clone()).await, 101);
        assert_eq!(code(&s, down).await, 158);
    }
}

#[tokio::test]
async fn what_does_not_exist_or_exists_twice_has_its_number() {
    let s = supervisor();
    assert_eq!(code(&s, new_minor("r0", 1, 0)).await, 158);
    assert_eq!(code(&s, Call::Primary { minor: 1, force: false }).await, 127);
    assert_eq!(code(&s, new_resource("r/0")).await, 162);
    assert_eq!(code(&s, new_resource("r0")).await, 101);
    assert_eq!(code(&s, new_minor("r0", 1, 0)).await, 101);
    assert_eq!(code(&s, new_minor("r0", 1, 1)).await, 161);
    assert_eq!(code(&s, Call::DelResource { resource: "r0".into() }).await, 159);
    assert_eq!(code(&s, Call::DelMinor { minor: 1 }).await, 101);
    assert_eq!(code(&s, Call::DelMinor { minor: 1 }).await, 127);
    assert_eq!(code(&s, Call::DelResource { resource: "r0".into() }).await, 101);
}

#[tokio::test]
async fn a_disk_has_one_user_and_must_be_one() {
    let s = supervisor();
    let (file, meta) = (image(), image());
    assert_eq!(code(&s, new_resource("r0")).await, 101);
    for (minor, volume) in [(1, 0), (2, 1)] {
        assert_eq!(code(&s, new_minor("r0", minor, volume)).await, 101);
    }
    assert_eq!(code(&s, attach(1, Path::new("/nowhere/disk"))).await, 104);
    assert_eq!(code(&s, attach(1, Path::new("/dev/null"))).await, 107);
    assert_eq!(code(&s, attach(1, file.path())).await, 1);
    assert_eq!(code(&s, attach(1, meta.path())).await, 124);
    assert_eq!(code(&s, attach(2, file.path())).await, 114);
    let external = |meta: &str, place| Call::Attach {
        minor: 2,
        disk: meta.into(),
        meta: meta.into(),
        place,
        options: Vec::new(),
    };
    let same = meta.path().display().to_string();
    assert_eq!(code(&s, external(&same, MetaPlace::FlexExternal)).await, 116);
    assert_eq!(code(&s, Call::Detach { minor: 1, force: false }).await, 1);
    assert_eq!(code(&s, attach(2, file.path())).await, 1, "free again");
}

#[tokio::test]
async fn a_connection_is_addressed_by_its_addresses_until_it_is_standalone() {
    let s = supervisor();
    for name in ["r0", "r1"] {
        assert_eq!(code(&s, new_resource(name)).await, 101);
    }
    assert_eq!(code(&s, connect("r0", "127.0.0.1:1", "127.0.0.1:2")).await, 1);
    assert_eq!(code(&s, connect("r0", "127.0.0.1:1", "127.0.0.1:2")).await, 102);
    assert_eq!(code(&s, connect("r1", "127.0.0.1:3", "127.0.0.1:2")).await, 103);
    assert_eq!(code(&s, connect("r0", "127.0.0.1:3", "127.0.0.1:4")).await, 125);
    let disconnect = Call::Disconnect {
        local: "127.0.0.1:1".parse().unwrap(),
        peer: "127.0.0.1:2".parse().unwrap(),
        force: false,
    };
    assert_eq!(code(&s, disconnect.clone()).await, 101);
    assert_eq!(code(&s, disconnect).await, 162);
    assert_eq!(code(&s, connect("r1", "127.0.0.1:1", "127.0.0.1:2")).await, 1);
}

#[tokio::test]
async fn show_remembers_options_and_changes_add_to_them() {
    let s = supervisor();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(code(&s, new_resource("r0")).await, 101);
    let change =
        |set_defaults, options| Call::ResourceOptions { resource: "r0".into(), set_defaults, options };
    assert_eq!(code(&s, change(false, vec![pair("cpu-mask", "3")])).await, 101);
    assert_eq!(code(&s, change(false, vec![pair("on-no-data-accessible", "suspend-io")])).await, 101);
    assert_eq!(code(&s, change(false, vec![pair("cpu-musk", "3")])).await, 126);
    let shown = |answer| match answer {
        Answer::Configured(configs) => {
            configs.into_iter().next().map(|config: ResourceConfig| config.options)
        }
        other => panic!("{other:?}"),
    };
    let show = Call::Show { resource: None };
    let options = shown(Arc::clone(&s).call(show.clone()).await).unwrap();
    assert_eq!(options, [pair("cpu-mask", "3"), pair("on-no-data-accessible", "suspend-io")]);
    assert_eq!(code(&s, change(true, Vec::new())).await, 101);
    assert_eq!(shown(Arc::clone(&s).call(show).await), Some(Vec::new()));
}

#[tokio::test]
async fn a_watch_sees_resources_come_change_and_go() {
    let s = supervisor();
    let mut watcher = Watcher::default();
    let names = |answer| match answer {
        Answer::Status(all) => all.into_iter().map(|r| (r.name, r.volumes.len())).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(names(s.next_status(None, &mut watcher).await), []);
    assert_eq!(code(&s, new_resource("r0")).await, 101);
    assert_eq!(names(s.next_status(None, &mut watcher).await), [("r0".to_owned(), 0)]);
    assert_eq!(code(&s, new_minor("r0", 1, 0)).await, 101);
    assert_eq!(names(s.next_status(None, &mut watcher).await), [("r0".to_owned(), 1)]);
    assert_eq!(code(&s, Call::Down { resource: "r0".into() }).await, 101);
    assert_eq!(names(s.next_status(None, &mut watcher).await), []);
    let more = tokio::time::timeout(Duration::from_millis(50), s.next_status(None, &mut watcher)).await;
    assert!(more.is_err(), "nothing changed");
}

#[tokio::test]
async fn an_nbd_client_opens_a_primary_and_is_sent_away_at_the_end() {
    use std::io::{Read, Write};
    let s = supervisor();
    let file = image();
    assert_eq!(code(&s, new_resource("r0")).await, 101);
    assert_eq!(code(&s, new_minor("r0", 1, 0)).await, 101);
    assert_eq!(code(&s, attach(1, file.path())).await, 1);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nbd.sock");
    let front = super::super::nbd_front::NbdFront::new(Arc::clone(&s) as Arc<_>, no_store(), 8);
    tokio::spawn(front.serve_unix(super::super::nbd_front::bind_unix(&socket).unwrap()));

    // The greeting is answered with flags and NBD_OPT_GO for r0, without further questions.
    let open = move |socket: &Path| {
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        let mut go = vec![0, 0, 0, 3];
        go.extend_from_slice(b"IHAVEOPT\0\0\0\x07\0\0\0\x08\0\0\0\x02r0\0\0");
        stream.write_all(&go).unwrap();
        let mut head = [0; 20];
        stream.read_exact(&mut head).unwrap();
        let kind = u32::from_be_bytes(head[12..16].try_into().unwrap());
        let mut body = vec![0; u32::from_be_bytes(head[16..20].try_into().unwrap()) as usize];
        stream.read_exact(&mut body).unwrap();
        (stream, kind, body)
    };
    let at = socket.clone();
    let (_, kind, body) = tokio::task::spawn_blocking(move || open(&at)).await.unwrap();
    assert_eq!(kind, (1 << 31) + 2, "refused by policy");
    let reason = String::from_utf8(body).unwrap();
    assert!(reason.contains("Secondary") && reason.contains("urbdadm primary r0"), "{reason}");

    assert_eq!(code(&s, Call::Primary { minor: 1, force: true }).await, 1);
    let (mut stream, kind, body) = tokio::task::spawn_blocking(move || open(&socket)).await.unwrap();
    assert_eq!(kind, 3, "information about the export");
    assert_eq!(body[2..10], (1_u64 << 20).to_be_bytes(), "its size");
    let secondary = Call::Minor { action: MinorAction::Secondary, minor: 1 };
    assert_eq!(code(&s, secondary).await, -12);

    s.stop().await;
    let rest = tokio::task::spawn_blocking(move || stream.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(rest.is_ok(), "the connection ends");
    assert_eq!(code(&s, Call::Primary { minor: 1, force: true }).await, 129, "no more commands");
}
