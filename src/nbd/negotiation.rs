//! The handshake: fixed newstyle, as a state machine that sees bytes and makes bytes.
//!
//! ```text
//!  greeting ──► ClientFlags ──► OptionHeader ⇄ OptionPayload ──► Done(Go | Abort) or an error
//! ```
//!
//! Every option is answered: what is unknown with `NBD_REP_ERR_UNSUP`, what is malformed with
//! `NBD_REP_ERR_INVALID`. TLS and metadata contexts are not offered.

use zerocopy::FromBytes;

use super::export::{Export, Exports, Purpose, Refusal, RefusalKind};
use super::option::{self, InfoRequest, OPTION_MAGIC, RawOption, opt, rep};
use super::sendable;

/// Longest option payload in bytes; a longer one ends the connection.
pub const MAX_OPTION_BYTES: u32 = 64 << 10;
/// Options a client may send before it must have chosen an export.
pub const MAX_OPTIONS: u32 = 1024;
/// Replies of this many bytes waiting to be sent stop [`Negotiation::feed`] until
/// [`Negotiation::take_output`] takes them.
pub const MAX_WAITING_BYTES: usize = 64 << 10;

/// One client's handshake.
///
/// Contract of the driver: send what [`Negotiation::take_output`] gives, at the start and after
/// each [`Negotiation::feed`], also after an error or an outcome; feed what arrives, and feed the
/// unconsumed rest again once the output is taken, until there is an outcome.
#[derive(Debug)]
pub struct Negotiation {
    state: State,
    /// Received bytes of the piece that `state` waits for; never longer than that piece.
    gathered: Vec<u8>,
    output: Vec<u8>,
    no_zeroes: bool,
    client_flags: u32,
    structured: bool,
    options: u32,
}

/// How a handshake ends well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client opened an export: transmission begins with the next byte.
    Go(Opened),
    /// The client said good-bye (`NBD_OPT_ABORT`): close after the output is sent.
    Abort,
}

/// What the client opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The export.
    pub export: Export,
    /// The client's handshake flags (`NBD_FLAG_C_*`).
    pub client_flags: u32,
    /// Whether it negotiated structured replies.
    pub structured: bool,
}

/// How a handshake ends badly: send the output that waits, then close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// The client set flags that we did not offer.
    #[error("NBD client flags {flags:#x} are unknown: only {KNOWN_FLAGS:#x} are offered")]
    UnknownClientFlags {
        /// All flags it set.
        flags: u32,
    },
    /// The stream does not hold an option where one must start.
    #[error("NBD option magic is {found:#018x}: the client does not speak fixed newstyle")]
    BadOptionMagic {
        /// What stood there.
        found: u64,
    },
    /// An option's payload is longer than [`MAX_OPTION_BYTES`].
    #[error("NBD option {option} has {len_bytes} bytes: the limit is {MAX_OPTION_BYTES}")]
    OptionTooLong {
        /// Its number.
        option: u32,
        /// Its payload's length.
        len_bytes: u32,
    },
    /// The client haggles without end.
    #[error("NBD client sent more than {MAX_OPTIONS} options without opening an export")]
    TooManyOptions,
    /// `NBD_OPT_EXPORT_NAME` for a name that is not a string. It has no error reply.
    #[error("NBD export name is not valid: {why}")]
    BadExportName {
        /// What is wrong with it.
        why: &'static str,
    },
    /// `NBD_OPT_EXPORT_NAME` for an export that cannot be had. It has no error reply.
    #[error("NBD export {name:?} refused: {refusal}")]
    Refused {
        /// The name the client asked for.
        name: String,
        /// Why.
        #[source]
        refusal: Refusal,
    },
}

/// What one [`Negotiation::feed`] achieved.
#[derive(Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that are used up. Fewer than all: there is an outcome, or output waits.
    pub consumed: usize,
    /// Set once, by the feed that ends the handshake.
    pub outcome: Option<Outcome>,
}

impl Default for Negotiation {
    fn default() -> Self {
        Self::new()
    }
}

impl Negotiation {
    /// A new handshake; its output is the server's greeting.
    #[must_use]
    pub fn new() -> Self {
        let output =
            [&INIT_PASSWD.to_be_bytes()[..], &OPTION_MAGIC.to_be_bytes(), &HANDSHAKE_FLAGS.to_be_bytes()]
                .concat();
        Self {
            state: State::ClientFlags,
            gathered: Vec::new(),
            output,
            no_zeroes: false,
            client_flags: 0,
            structured: false,
            options: 0,
        }
    }

    /// Takes bytes from the client and answers what is complete.
    ///
    /// # Errors
    /// [`NegotiationError`]: the handshake is over; nothing more is consumed.
    pub fn feed(&mut self, input: &[u8], exports: &mut dyn Exports) -> Result<Progress, NegotiationError> {
        let mut consumed = 0;
        while !matches!(self.state, State::Done) && self.output.len() < MAX_WAITING_BYTES {
            let Some(piece) = self.gather(input, &mut consumed) else { break };
            let step = self.on_piece(&piece, exports);
            if !matches!(step, Ok(None)) {
                self.state = State::Done;
                return step.map(|outcome| Progress { consumed, outcome });
            }
        }
        Ok(Progress { consumed, outcome: None })
    }

    /// The bytes to send to the client now.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The piece that the state waits for, once it is complete.
    fn gather(&mut self, input: &[u8], consumed: &mut usize) -> Option<Vec<u8>> {
        let wanted = self.state.piece_bytes() - self.gathered.len();
        let fresh = &input[*consumed..];
        let taken = wanted.min(fresh.len());
        self.gathered.extend_from_slice(&fresh[..taken]);
        *consumed += taken;
        (taken == wanted).then(|| std::mem::take(&mut self.gathered))
    }

    fn on_piece(
        &mut self,
        piece: &[u8],
        exports: &mut dyn Exports,
    ) -> Result<Option<Outcome>, NegotiationError> {
        match self.state {
            State::ClientFlags => self.on_client_flags(piece).map(|()| None),
            State::OptionHeader => self.on_option_header(piece).map(|()| None),
            State::OptionPayload { option, .. } => {
                self.state = State::OptionHeader;
                self.on_option(option, piece, exports)
            }
            State::Done => Ok(None),
        }
    }

    /// A client that does not claim fixed newstyle is served all the same.
    fn on_client_flags(&mut self, piece: &[u8]) -> Result<(), NegotiationError> {
        let flags = piece.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte));
        if flags & !KNOWN_FLAGS != 0 {
            return Err(NegotiationError::UnknownClientFlags { flags });
        }
        self.client_flags = flags;
        self.no_zeroes = flags & FLAG_NO_ZEROES != 0;
        self.state = State::OptionHeader;
        Ok(())
    }

    fn on_option_header(&mut self, piece: &[u8]) -> Result<(), NegotiationError> {
        // A piece has the length that piece_bytes promised, so the header is whole.
        let Ok(raw) = RawOption::ref_from_bytes(piece) else { return Ok(()) };
        if raw.magic.get() != OPTION_MAGIC {
            return Err(NegotiationError::BadOptionMagic { found: raw.magic.get() });
        }
        let (option, len_bytes) = (raw.option.get(), raw.payload_bytes.get());
        if len_bytes > MAX_OPTION_BYTES {
            self.refuse(option, rep::ERR_TOO_BIG, "the option is longer than 65536 bytes");
            return Err(NegotiationError::OptionTooLong { option, len_bytes });
        }
        self.options += 1;
        if self.options > MAX_OPTIONS {
            self.refuse(option, rep::ERR_TOO_BIG, "too many options");
            return Err(NegotiationError::TooManyOptions);
        }
        self.state = State::OptionPayload { option, len_bytes };
        Ok(())
    }

    fn on_option(
        &mut self,
        option: u32,
        payload: &[u8],
        exports: &mut dyn Exports,
    ) -> Result<Option<Outcome>, NegotiationError> {
        match option {
            opt::EXPORT_NAME => return self.on_export_name(payload, exports).map(Some),
            opt::ABORT => {
                self.acknowledge(option);
                return Ok(Some(Outcome::Abort));
            }
            opt::GO => return Ok(self.on_info(option, payload, Purpose::Open, exports)),
            opt::INFO => return Ok(self.on_info(option, payload, Purpose::Describe, exports)),
            opt::LIST => self.on_list(payload, exports),
            opt::STRUCTURED_REPLY => self.on_structured_reply(payload),
            opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT => {
                self.on_meta_context(option, payload, exports);
            }
            opt::STARTTLS => {
                let hint = "this server has no TLS: use its unix socket, or a tunnel";
                self.refuse(option, rep::ERR_UNSUP, hint);
            }
            _ => self.refuse(option, rep::ERR_UNSUP, "this server does not know the option"),
        }
        Ok(None)
    }

    fn on_export_name(
        &mut self,
        payload: &[u8],
        exports: &mut dyn Exports,
    ) -> Result<Outcome, NegotiationError> {
        let name = option::string(payload).map_err(|why| NegotiationError::BadExportName { why })?;
        let export = exports
            .lookup(name, Purpose::Open)
            .map_err(|refusal| NegotiationError::Refused { name: name.to_owned(), refusal })?;
        self.output.extend_from_slice(&export.size_bytes.to_be_bytes());
        self.output.extend_from_slice(&export.transmission_flags(self.structured).to_be_bytes());
        if !self.no_zeroes {
            self.output.extend_from_slice(&[0; EXPORT_NAME_PADDING_BYTES]);
        }
        Ok(self.go(export))
    }

    fn on_info(
        &mut self,
        option: u32,
        payload: &[u8],
        purpose: Purpose,
        exports: &mut dyn Exports,
    ) -> Option<Outcome> {
        let request = match InfoRequest::parse(payload) {
            Ok(request) => request,
            Err(why) => {
                self.refuse(option, rep::ERR_INVALID, why);
                return None;
            }
        };
        let export = match exports.lookup(request.name, purpose) {
            Ok(export) => export,
            Err(refusal) => {
                self.refuse_export(option, &refusal);
                return None;
            }
        };
        let flags = export.transmission_flags(self.structured);
        request.answer(&mut self.output, option, &export, flags);
        self.acknowledge(option);
        match purpose {
            Purpose::Describe => None,
            Purpose::Open => Some(self.go(export)),
        }
    }

    fn on_list(&mut self, payload: &[u8], exports: &mut dyn Exports) {
        if !payload.is_empty() {
            return self.refuse(opt::LIST, rep::ERR_INVALID, NO_DATA);
        }
        for listed in exports.list() {
            option::reply_server(&mut self.output, &listed);
        }
        self.acknowledge(opt::LIST);
    }

    fn on_structured_reply(&mut self, payload: &[u8]) {
        if !payload.is_empty() {
            return self.refuse(opt::STRUCTURED_REPLY, rep::ERR_INVALID, NO_DATA);
        }
        self.structured = true;
        self.acknowledge(opt::STRUCTURED_REPLY);
    }

    /// Well-formed queries find no metadata context, which is a success with an empty list.
    fn on_meta_context(&mut self, option: u32, payload: &[u8], exports: &mut dyn Exports) {
        if !self.structured {
            return self.refuse(option, rep::ERR_INVALID, "structured replies come first");
        }
        match option::parse_meta_context(payload) {
            Err(why) => self.refuse(option, rep::ERR_INVALID, why),
            Ok(name) => match exports.lookup(name, Purpose::Describe) {
                Err(refusal) => self.refuse_export(option, &refusal),
                Ok(_) => self.acknowledge(option),
            },
        }
    }

    fn go(&self, export: Export) -> Outcome {
        Outcome::Go(Opened { export, client_flags: self.client_flags, structured: self.structured })
    }

    fn acknowledge(&mut self, option: u32) {
        option::reply(&mut self.output, option, rep::ACK, &[]);
    }

    fn refuse(&mut self, option: u32, kind: u32, why: &str) {
        option::reply(&mut self.output, option, kind, sendable(why).as_bytes());
    }

    fn refuse_export(&mut self, option: u32, refusal: &Refusal) {
        let kind = match refusal.kind {
            RefusalKind::Unknown => rep::ERR_UNKNOWN,
            RefusalKind::Policy => rep::ERR_POLICY,
            RefusalKind::Shutdown => rep::ERR_SHUTDOWN,
        };
        self.refuse(option, kind, &refusal.reason);
    }
}

/// Which piece of the client's bytes comes next.
#[derive(Clone, Copy, Debug)]
enum State {
    ClientFlags,
    OptionHeader,
    OptionPayload { option: u32, len_bytes: u32 },
    Done,
}

impl State {
    const fn piece_bytes(self) -> usize {
        match self {
            Self::ClientFlags => 4,
            Self::OptionHeader => size_of::<RawOption>(),
            Self::OptionPayload { len_bytes, .. } => len_bytes as usize,
            Self::Done => 0,
        }
    }
}

const NO_DATA: &str = "the option takes no data";
/// `NBDMAGIC`.
const INIT_PASSWD: u64 = 0x4e42_444d_4147_4943;
/// `NBD_FLAG_FIXED_NEWSTYLE`, and the client's answer to it.
const FLAG_FIXED_NEWSTYLE: u32 = 1 << 0;
/// `NBD_FLAG_NO_ZEROES`, and the client's answer to it.
const FLAG_NO_ZEROES: u32 = 1 << 1;
const KNOWN_FLAGS: u32 = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES;
const HANDSHAKE_FLAGS: u16 = KNOWN_FLAGS as u16;
/// Zeroes behind the answer to `NBD_OPT_EXPORT_NAME`, unless the client asked for none.
const EXPORT_NAME_PADDING_BYTES: usize = 124;

#[cfg(test)]
#[path = "negotiation_tests.rs"]
mod tests;
