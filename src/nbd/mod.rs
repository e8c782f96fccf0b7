//! The clients' protocol: NBD, fixed newstyle. Bytes to requests and back; no socket, no clock.
//!
//! ```text
//!  bytes ──► Negotiation ──► Outcome::Go(Opened) ──► Session ──► Request  ──► the core
//!                 │                                     │
//!                 ▼                                     ▼
//!          option replies                    ReplyStyle ──► reply bytes
//! ```
//!
//! - [`negotiation`]: the handshake, up to the chosen [`export`]
//! - [`transmission`]: request headers, checked against the export
//! - [`reply`]: what goes back, simple or structured
//! - [`errno`]: the error numbers that the protocol allows
//!
//! The reference is the public protocol document (`doc/proto.md` of the NBD project); names in
//! capitals, such as `NBD_OPT_GO`, are that document's.

pub mod errno;
pub mod export;
pub mod negotiation;
mod option;
pub mod reply;
pub mod transmission;

pub use errno::Errno;
pub use export::{BlockSizes, Export, Exports, Listed, Purpose, Refusal, RefusalKind};
pub use negotiation::{Negotiation, NegotiationError, Opened, Outcome};
pub use reply::ReplyStyle;
pub use transmission::{Command, Cookie, Incoming, Refused, Request, Session, TransmissionError};

/// Longest string that the protocol allows (names, descriptions, messages), in bytes.
pub const MAX_STRING_BYTES: usize = 4096;

/// The longest prefix of `text` that the protocol lets us send: no longer than
/// [`MAX_STRING_BYTES`], cut between characters, and free of NUL.
fn sendable(text: &str) -> &str {
    let text = text.split('\0').next().unwrap_or_default();
    let mut end = text.len().min(MAX_STRING_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_cut_between_characters_and_before_a_nul() {
        assert_eq!(sendable("r0/0"), "r0/0");
        assert_eq!(sendable("one\0two"), "one");
        let long = "x".repeat(MAX_STRING_BYTES - 1) + "é";
        assert_eq!(sendable(&long).len(), MAX_STRING_BYTES - 1);
    }
}
