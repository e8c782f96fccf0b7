//! What can be wrong with bytes from the peer, and what the specification does about it.

use super::header::{Command, Socket};

/// Received bytes that are no valid packet. Each variant says where and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The header does not begin with a magic of the version in force (W23).
    #[error("header begins with {found:#010x}, which is no magic of protocol version {apv}")]
    BadMagic {
        /// The first four bytes.
        found: u32,
        /// The version in force.
        apv: u8,
    },
    /// The pad of a v100 header is not zero (W23).
    #[error("header pad is {found:#010x} instead of 0")]
    BadPad {
        /// The pad.
        found: u32,
    },
    /// A command without handler on this socket, or at this stage (W30, W31, W35).
    #[error("command {number:#06x} ({}) is not expected on the {socket:?} socket", command_name(*number))]
    UnexpectedCommand {
        /// The command number.
        number: u16,
        /// Where it came.
        socket: Socket,
    },
    /// The length field does not fit the command (W30, W31, W54).
    #[error("{} has length {length}, expected {min} to {max}", command.name())]
    BadLength {
        /// The command.
        command: Command,
        /// The length field, in bytes.
        length: u32,
        /// Least allowed length.
        min: usize,
        /// Greatest allowed length.
        max: usize,
    },
    /// A block size that is zero, too large, or no multiple of 512 (W84).
    #[error("{} is about {size} bytes; expected a multiple of 512 up to {max}", command.name())]
    BadSize {
        /// The command.
        command: Command,
        /// The size, in bytes.
        size: u64,
        /// The limit, in bytes.
        max: u64,
    },
    /// A sector number beyond any device (W84).
    #[error("{} names sector {sector}, beyond any device", command.name())]
    BadSector {
        /// The command.
        command: Command,
        /// The sector.
        sector: u64,
    },
    /// An algorithm name that is not printable ASCII of at most 63 bytes and a NUL (3.4, 3.5).
    #[error("{} carries a malformed algorithm name", command.name())]
    BadName {
        /// The command.
        command: Command,
    },
    /// A P_DATA without data that is no flush (section 4.3).
    #[error("P_DATA without data and without the FLUSH flag (flags {flags:#x})")]
    EmptyWrite {
        /// Its dp_flags.
        flags: u32,
    },
}

/// How far the connection is; decides the reaction to an error (section 3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// An accepted socket whose first packet is awaited (W9).
    FirstPacket,
    /// The peer's features are awaited (W35).
    Features,
    /// The peer's challenge is awaited (W42, W46).
    AuthChallenge,
    /// The peer's response is awaited (W44).
    AuthResponse,
    /// From P_PROTOCOL on, on this socket (W30, W31).
    Established(Socket),
}

/// What an error does to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Close this socket only; the attempt goes on (W9).
    CloseSocket,
    /// Close both, wait 1 s, try again (W17).
    Retry,
    /// Close both and reconnect at once, reason ProtocolError (W213).
    ProtocolError,
    /// Close both and reconnect at once, reason NetworkFailure (W213).
    NetworkFailure,
    /// Close both and stay down until the administrator connects again (W17).
    StandAlone,
}

impl WireError {
    /// What the specification does about this error in `phase` (W9, W23, W30, W31, W35, W42, W44, 3.8).
    #[must_use]
    pub const fn reaction(&self, phase: Phase) -> Reaction {
        let framing = matches!(self, Self::BadMagic { .. } | Self::BadPad { .. });
        match phase {
            Phase::FirstPacket => Reaction::CloseSocket,
            Phase::Features | Phase::AuthChallenge if framing => Reaction::Retry,
            Phase::Features | Phase::AuthChallenge => Reaction::StandAlone,
            Phase::AuthResponse => Reaction::Retry,
            Phase::Established(Socket::Data) => Reaction::ProtocolError,
            Phase::Established(Socket::Meta) => match self {
                Self::UnexpectedCommand { .. } => Reaction::StandAlone,
                Self::BadMagic { .. }
                | Self::BadPad { .. }
                | Self::BadLength { .. }
                | Self::BadSize { .. }
                | Self::BadSector { .. }
                | Self::BadName { .. }
                | Self::EmptyWrite { .. } => Reaction::NetworkFailure,
            },
        }
    }
}

fn command_name(number: u16) -> &'static str {
    Command::from_number(number).map_or("unknown", Command::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reaction_follows_the_table_of_handshake_failures() {
        let magic = WireError::BadMagic { found: 0, apv: 101 };
        let command = WireError::UnexpectedCommand { number: 0x99, socket: Socket::Meta };
        let length = WireError::BadLength { command: Command::Ping, length: 1, min: 0, max: 0 };
        for (error, phase, reaction) in [
            (&magic, Phase::FirstPacket, Reaction::CloseSocket),
            (&magic, Phase::Features, Reaction::Retry),
            (&command, Phase::Features, Reaction::StandAlone),
            (&length, Phase::AuthChallenge, Reaction::StandAlone),
            (&command, Phase::AuthResponse, Reaction::Retry),
            (&command, Phase::Established(Socket::Data), Reaction::ProtocolError),
            (&magic, Phase::Established(Socket::Data), Reaction::ProtocolError),
            (&command, Phase::Established(Socket::Meta), Reaction::StandAlone),
            (&length, Phase::Established(Socket::Meta), Reaction::NetworkFailure),
            (&magic, Phase::Established(Socket::Meta), Reaction::NetworkFailure),
        ] {
            assert_eq!(error.reaction(phase), reaction, "{error} in {phase:?}");
        }
    }

    #[test]
    fn an_error_names_the_command_and_what_was_expected() {
        let length = WireError::BadLength { command: Command::Uuids, length: 47, min: 48, max: 48 };
        assert_eq!(length.to_string(), "P_UUIDS has length 47, expected 48 to 48");
        let command = WireError::UnexpectedCommand { number: 0x16, socket: Socket::Data };
        assert_eq!(command.to_string(), "command 0x0016 (P_WRITE_ACK) is not expected on the Data socket");
    }
}
