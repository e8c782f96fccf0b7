//! What a node says of the other one. Two nodes of the same kind understand each other: nothing that
//! happens to them makes one send what the other does not expect (I22, I24). The network of the false
//! world loses, delays and cuts; it changes nothing.

use crate::node::LogLevel;
use crate::node::effect::Effect;

/// What ends a connection as a protocol error and is the fault of nobody.
const EXCEPT: [&str; 5] = [
    // A disk failed; the peer's bits tell of what it may have lost (T10).
    "a flush failed: ",
    "the disk is lost, and the last writes of the peer may not be durable",
    // The generation of a Primary that was alone is made first (T17).
    "a new data generation is due before the peer may come back",
    // A late attach that shows a split brain is refused by a state alone: the connection ends with it.
    "P_STATE of an attached disk without P_UUIDS before it",
    // A role that changes while a disk negotiates: they meet again.
    "both nodes took the same side of the resync",
];

/// What a network that changes block data excuses.
const OF_CORRUPTION: &str = "block data does not match its digest";

/// What else is said of a peer that is at fault.
const OF_PEERS: [&str; 3] = ["not acked", "an answer (", "belongs to no request"];

/// What is wrong with something that a node wants. `corrupts`: the network changes block data.
///
/// # Errors
/// If it blames the peer.
pub(super) fn check(effect: &Effect, corrupts: bool) -> Result<(), String> {
    let Effect::Log { level, text, .. } = effect else { return Ok(()) };
    let says = |list: &[&str]| list.iter().any(|words| text.contains(words));
    let grave = matches!(level, LogLevel::Warn | LogLevel::Error);
    let blames = text.contains("(ProtocolError)") || says(&OF_PEERS);
    let excused = says(&EXCEPT) || (corrupts && text.contains(OF_CORRUPTION));
    if grave && blames && !excused {
        return Err(format!("a node blames the other one (I22, I24): {text}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(why: &str) -> Effect {
        let text = format!("connection lost (ProtocolError): {why}");
        Effect::Log { level: LogLevel::Warn, volume: None, text }
    }

    #[test]
    fn only_disks_generations_and_the_network_excuse_a_protocol_error() {
        assert!(check(&lost("an ack for sector 8 that belongs to no request"), true).is_err());
        for why in EXCEPT {
            assert_eq!(check(&lost(why), false), Ok(()));
        }
        assert!(check(&lost(OF_CORRUPTION), false).is_err());
        assert_eq!(check(&lost(OF_CORRUPTION), true), Ok(()));
        let text = "connection lost (BrokenPipe): the peer closed it".to_owned();
        assert_eq!(check(&Effect::Log { level: LogLevel::Warn, volume: None, text }, false), Ok(()));
    }
}
