//! What a node says of the other one. Two nodes of the same kind understand each other: nothing that
//! happens to them makes one send what the other does not expect (I22, I24). The network of the false
//! world loses, delays and cuts; it changes nothing.

use crate::node::LogLevel;
use crate::node::effect::Effect;
use crate::node::state::{Disk, State};
use crate::wire::packet::Packet;

/// What ends a connection as a protocol error and is the fault of nobody.
const EXCEPT: [&str; 5] = [
    // A disk failed; the peer's bits tell of what it may have lost (T10).
    "a flush failed: the last writes of the peer may not be durable",
    "the disk is lost, and the last writes of the peer may not be durable",
    // The generation of a Primary that was alone is made first (T17).
    "a new data generation is due before the peer may come back",
    // A late attach that shows a split brain is refused by a state alone: the connection ends with it.
    "P_STATE of an attached disk without P_UUIDS before it",
    // A role that changes while a disk negotiates: they meet again.
    "both nodes took the same side of the resync",
];

/// What comes late where a disk was lost in the middle of a handshake: the bitmap of a node that does not know
/// that yet.
const AFTER_A_LOSS: [&str; 1] = ["in receive_bitmap"];

/// How a node says that it gives up its disk.
const DETACHING: &str = "Detaching...";

/// What else is said of a peer that is at fault.
const OF_PEERS: [&str; 3] = ["not acked", "an answer (", "belongs to no request"];

/// What is known of a connection.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// A disk was lost on either side since it began.
    disk_lost: bool,
}

impl Complaints {
    /// The node receives a packet.
    pub(super) fn receives(&mut self, packet: &Packet) {
        if let Packet::Protocol(_) = packet {
            self.disk_lost = false; // The first one of a connection (W49).
        } else if let Packet::State(word) = packet
            && let Ok(state) = State::from_word(word.0)
        {
            self.disk_lost |= matches!(state.disk, Disk::Failed | Disk::Diskless);
        }
    }

    /// The node wants this.
    ///
    /// # Errors
    /// If it blames the peer.
    pub(super) fn check(&mut self, effect: &Effect) -> Result<(), String> {
        self.disk_lost |= matches!(effect, Effect::CloseDisk { .. });
        let Effect::Log { level, text, .. } = effect else { return Ok(()) };
        self.disk_lost |= text.ends_with(DETACHING);
        let says = |list: &[&str]| list.iter().any(|words| text.contains(words));
        let grave = matches!(level, LogLevel::Warn | LogLevel::Error);
        let blames = text.contains("(ProtocolError)") || says(&OF_PEERS);
        let excused = says(&EXCEPT) || (self.disk_lost && says(&AFTER_A_LOSS));
        if grave && blames && !excused {
            return Err(format!("a node blames the other one (I22, I24): {text}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(why: &str) -> Effect {
        let text = format!("connection lost (ProtocolError): {why}");
        Effect::Log { level: LogLevel::Warn, volume: None, text }
    }

    #[test]
    fn only_disks_and_generations_excuse_a_protocol_error() {
        let mut complaints = Complaints::default();
        assert!(complaints.check(&lost("an ack for sector 8 that belongs to no request")).is_err());
        for why in EXCEPT {
            assert_eq!(complaints.check(&lost(why)), Ok(()));
        }
        let text = "connection lost (BrokenPipe): the peer closed it".to_owned();
        assert_eq!(complaints.check(&Effect::Log { level: LogLevel::Warn, volume: None, text }), Ok(()));
    }

    #[test]
    fn what_comes_late_is_excused_by_a_disk_that_was_lost_on_this_connection() {
        let mut complaints = Complaints::default();
        assert!(complaints.check(&lost(AFTER_A_LOSS[0])).is_err());
        let text = "Local IO failed in a write. Detaching...".to_owned();
        assert_eq!(complaints.check(&Effect::Log { level: LogLevel::Error, volume: None, text }), Ok(()));
        assert_eq!(complaints.check(&lost(AFTER_A_LOSS[0])), Ok(()));
    }
}
