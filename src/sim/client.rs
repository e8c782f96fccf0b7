//! An NBD client: requests as bytes, replies as bytes, past the negotiation.

use super::events::HostId;
use crate::io::SocketKey;

/// A client that has a volume open.
#[derive(Debug)]
pub struct Client {
    pub(super) host: HostId,
    pub(super) socket: SocketKey,
    last_cookie: u64,
    /// What arrived and is not understood yet.
    inbox: Vec<u8>,
    /// The reads under way: cookie, and how many bytes come.
    reads: Vec<(u64, usize)>,
    replies: Vec<Answer>,
    pub(super) closed: bool,
}

/// A reply to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which request.
    pub cookie: u64,
    /// 0, or the error number.
    pub error: u32,
    /// The data of a read that went well.
    pub data: Vec<u8>,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    /// Bytes.
    Read {
        /// From here.
        offset: u64,
        /// So many.
        len: u32,
    },
    /// Write these bytes.
    Write {
        /// To here.
        offset: u64,
        /// All of them.
        data: &'a [u8],
    },
    /// Write these bytes; they are durable when that is answered.
    WriteDurably {
        /// To here.
        offset: u64,
        /// All of them.
        data: &'a [u8],
    },
    /// Give this space back.
    Trim {
        /// From here.
        offset: u64,
        /// So many bytes.
        len: u32,
    },
    /// Make this space read as zeroes.
    WriteZeroes {
        /// From here.
        offset: u64,
        /// So many bytes.
        len: u32,
        /// They are durable when that is answered.
        durable: bool,
    },
    /// Make all writes that were answered durable.
    Flush,
}

const REQUEST_MAGIC: u32 = 0x2560_9513;
/// `NBD_CMD_FLAG_FUA`.
const FUA: u16 = 1;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// Bytes of a reply before the data.
const REPLY_BYTES: usize = 16;

impl Client {
    pub(super) fn new(host: HostId, socket: SocketKey) -> Self {
        Self {
            host,
            socket,
            last_cookie: 0,
            inbox: Vec::new(),
            reads: Vec::new(),
            replies: Vec::new(),
            closed: false,
        }
    }

    /// The bytes of a request, and its cookie.
    pub(super) fn request(&mut self, wish: Wish<'_>) -> (u64, Vec<u8>) {
        self.last_cookie += 1;
        let cookie = self.last_cookie;
        let (flags, kind, offset, len, data): (u16, u16, _, _, &[u8]) = match wish {
            Wish::Read { offset, len } => (0, 0, offset, len, &[]),
            Wish::Write { offset, data } => (0, 1, offset, data.len() as u32, data),
            Wish::WriteDurably { offset, data } => (FUA, 1, offset, data.len() as u32, data),
            Wish::Flush => (0, 3, 0, 0, &[]),
            Wish::Trim { offset, len } => (0, 4, offset, len, &[]),
            Wish::WriteZeroes { offset, len, durable } => {
                (if durable { FUA } else { 0 }, 6, offset, len, &[])
            }
        };
        if kind == 0 {
            self.reads.push((cookie, len as usize));
        }
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend_from_slice(&flags.to_be_bytes());
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&cookie.to_be_bytes());
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(data);
        (cookie, bytes)
    }

    /// Takes what arrived.
    ///
    /// # Panics
    /// If that is not what a server may say.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        while self.inbox.len() >= REPLY_BYTES {
            let number = |range: std::ops::Range<usize>| {
                self.inbox[range].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
            };
            assert_eq!(number(0..4), u64::from(REPLY_MAGIC), "the server's reply has no magic");
            let (error, cookie) = (number(4..8) as u32, number(8..16));
            let read = self.reads.iter().position(|(known, _)| *known == cookie);
            let len = read.filter(|_| error == 0).map_or(0, |at| self.reads[at].1);
            if self.inbox.len() < REPLY_BYTES + len {
                return;
            }
            if let Some(at) = read {
                self.reads.swap_remove(at);
            }
            let mut message: Vec<u8> = self.inbox.drain(..REPLY_BYTES + len).collect();
            let data = message.split_off(REPLY_BYTES);
            self.replies.push(Answer { cookie, error, data });
        }
    }

    /// The machine it runs on.
    #[must_use]
    pub const fn host(&self) -> HostId {
        self.host
    }

    /// Whether the server has gone.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// All answers that are there.
    pub(super) fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.replies)
    }

    /// The answer to a request, once it is there.
    pub fn answer(&mut self, cookie: u64) -> Option<Answer> {
        let at = self.replies.iter().position(|answer| answer.cookie == cookie)?;
        Some(self.replies.swap_remove(at))
    }
}
