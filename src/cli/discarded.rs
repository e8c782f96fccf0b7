//! `urbdadm discarded`: what is kept of data that this node discarded, and how to get at it.

use std::time::{Duration, UNIX_EPOCH};

use super::codes::exit;
use super::console::{Console, Setting};
use super::show::timestamp;
use crate::control::client::{Client, ClientError};
use crate::control::messages::{Answer, Call, Discarded};

/// Lists it; the exit code.
pub(super) fn list(setting: &Setting, console: &mut Console<'_>) -> i32 {
    let asked =
        Client::connect(&setting.run_dir).and_then(|mut client| match client.call(&Call::Discarded)? {
            Answer::Discarded(kept) => Ok(kept),
            other => Err(ClientError::Refused(format!("it answered something else: {other:?}"))),
        });
    let kept = match asked {
        Ok(kept) => kept,
        Err(error) => {
            console.complain_line(format!("{}: {error}", setting.program));
            return exit::OTHER;
        }
    };
    if kept.is_empty() {
        console.line(
            "Nothing is kept: no data was discarded while '[discard] keep' in the settings allowed it.",
        );
        return exit::OK;
    }
    let socket = setting.run_dir.join("nbd.sock");
    for kept in &kept {
        console.line(describe(kept));
        console.line(format!(
            "    read it:   nbdcopy 'nbd+unix:///{}?socket={}' copy.img",
            kept.export,
            socket.display()
        ));
        console.line(format!("    forget it: rm {}", files(kept)));
    }
    exit::OK
}

fn describe(kept: &Discarded) -> String {
    let since = timestamp(UNIX_EPOCH + Duration::from_secs(kept.since_s));
    let (kib, missing) = (kept.bytes / 1024, kept.missing_bytes / 1024);
    let state = match (&kept.given_up, missing) {
        (Some(why), _) => format!("INCOMPLETE, {missing} KiB are missing: {why}"),
        (None, 0) => "complete".to_owned(),
        (None, _) => format!("{missing} KiB are still to come"),
    };
    format!(
        "{}: {}/{} of {since}, {kib} KiB of {} KiB, {state}\n    generation {:016X}, replaced by {:016X}",
        kept.name,
        kept.resource,
        kept.volume,
        kept.device_bytes / 1024,
        kept.generation[0],
        kept.winner,
    )
}

/// Both files, in the shell's braces.
fn files(kept: &Discarded) -> String {
    format!("{}.{{img,json}}", kept.path.with_extension("").display())
}
