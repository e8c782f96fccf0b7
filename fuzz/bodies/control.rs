//! The control socket's messages.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use urbd::control::messages::{Answer, Call, MinorAction, from_line, to_line};
use urbd::node::command::MetaPlace;
use urbd::node::status::{ResourceStatus, VolumeStatus};

/// Bytes: a line. If it is a message of either side, it survives being written and read again.
pub(crate) fn messages(data: &[u8]) {
    check::<Call>(data);
    check::<Answer>(data);
}

/// A call of most kinds, and two answers.
pub(crate) fn messages_seeds() -> Vec<Vec<u8>> {
    let address = |text: &str| text.parse().unwrap();
    let (local, peer) = (address("10.1.1.1:7789"), address("[fd00::2]:7789"));
    let options = vec![("resync-rate".to_owned(), "100M".to_owned()), ("\u{e9}\"".to_owned(), String::new())];
    let resource = || "r0".to_owned();
    let calls = [
        Call::NewResource { resource: resource(), options: options.clone() },
        Call::NewMinor { resource: resource(), minor: 1, volume: 2 },
        Call::DelMinor { minor: 7 },
        Call::Attach {
            minor: 1,
            disk: "/dev/sdb1".to_owned(),
            meta: "/dev/sdc".to_owned(),
            place: MetaPlace::Indexed(3),
            options: options.clone(),
        },
        Call::Connect {
            resource: resource(),
            local,
            peer,
            options: options.clone(),
            discard_my_data: true,
            tentative: false,
        },
        Call::Disconnect { local, peer, force: true },
        Call::NetOptions { local, peer, set_defaults: true, options },
        Call::Primary { minor: 1, force: true },
        Call::Minor { action: MinorAction::InvalidateRemote, minor: 0 },
        Call::Down { resource: resource() },
        Call::Watch { resource: None },
    ];
    let status = ResourceStatus {
        name: resource(),
        protocol: 'C',
        volumes: vec![VolumeStatus::default()],
        ..ResourceStatus::default()
    };
    let answers = [Answer::Status(vec![status]), Answer::Refused("no such call".to_owned())];
    let lines = calls.iter().map(to_line).chain(answers.iter().map(to_line));
    lines.map(|line| line.unwrap()).collect()
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(line: &[u8]) {
    let Ok(message) = from_line::<T>(line) else { return };
    // Written out, it may be longer than it came, and then it is refused.
    let Ok(written) = to_line(&message) else { return };
    assert_eq!(written.iter().position(|&byte| byte == b'\n'), Some(written.len() - 1), "one line");
    assert_eq!(from_line::<T>(&written).unwrap(), message);
}
