//! What a core answers to its clients, and when: each request once, no write or flush while I/O is
//! suspended (I7; D13, D71, D80), and no write in the epoch of one that was answered before it was asked
//! for (I19, D32).

use super::{Epoch, Sent, name_of};
use crate::node::input::Request;
use crate::node::{ReplyError, RequestId};
use crate::units::Extent;

/// The requests that are not answered, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Answers {
    open: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    id: RequestId,
    what: What,
    /// The newest epoch with a write that was answered before this was asked for.
    after: Option<Epoch>,
    /// Where it was sent last.
    sent: Option<Epoch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Read,
    Write(Extent),
    Flush,
}

impl What {
    const fn of(request: &Request) -> Self {
        match request {
            Request::Read { .. } => Self::Read,
            Request::Write { extent, .. }
            | Request::Trim { extent, .. }
            | Request::WriteZeroes { extent, .. } => Self::Write(*extent),
            Request::Flush => Self::Flush,
        }
    }
}

impl Answers {
    /// A client asks for something; `after` is the newest epoch with an answered write.
    pub(super) fn asked(&mut self, id: RequestId, request: &Request, after: Option<Epoch>) {
        self.open.push(Asked { id, what: What::of(request), after, sent: None });
    }

    /// A client is answered. Returns where the write was sent, if it was one and was sent.
    ///
    /// # Errors
    /// If nobody asked for that, or the answer may not be given now. What was not begun may fail at any
    /// time, if nobody waits for it (D13).
    pub(super) fn answered(
        &mut self,
        id: RequestId,
        error: Option<ReplyError>,
        frozen: bool,
    ) -> Result<Option<Epoch>, String> {
        let Some(at) = self.open.iter().position(|asked| asked.id == id) else {
            return Err(format!("{} is answered once more, or nobody asked (I7)", name_of(id)));
        };
        let Asked { what, sent, .. } = self.open.remove(at);
        let withheld = match error {
            None | Some(ReplyError::Io | ReplyError::NoSpace) => what != What::Read,
            Some(ReplyError::Shutdown | ReplyError::OutOfRange) => false,
        };
        if frozen && withheld {
            return Err(format!("{what:?} is answered ({error:?}) while I/O is suspended (I7)"));
        }
        Ok(sent)
    }

    /// The write of this request is sent to the peer.
    ///
    /// # Errors
    /// If that is in an epoch with a write that had been answered before this one was asked for.
    pub(super) fn mirrored(&mut self, id: RequestId, sent: &Sent) -> Result<(), String> {
        let Some(asked) = self.open.iter_mut().find(|asked| asked.id == id) else { return Ok(()) };
        asked.sent = Some(sent.epoch);
        if asked.after.is_some_and(|after| sent.epoch.is_not_after(after)) {
            return Err(format!(
                "the write to sector {} is sent in an epoch with a write that was answered before (I19)",
                sent.sector
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Sector;
    use crate::wire::packet::BlockId;

    fn trim(first: u64) -> Request {
        Request::Trim { extent: Extent::new(Sector::new(first), 8).unwrap(), fua: false }
    }

    fn sent(number: u64) -> Sent {
        let epoch = Epoch { connection: 1, number };
        Sent { id: BlockId([0; 8]), sector: Sector::new(0), epoch }
    }

    #[test]
    fn a_request_is_answered_once() {
        let mut answers = Answers::default();
        answers.asked(RequestId(1), &Request::Flush, None);
        assert_eq!(answers.answered(RequestId(1), None, false), Ok(None));
        assert!(answers.answered(RequestId(1), None, false).is_err());
    }

    #[test]
    fn nothing_but_reads_and_what_never_began_is_answered_while_suspended() {
        let mut answers = Answers::default();
        let extent = Extent::new(Sector::new(0), 8).unwrap();
        for (id, request) in (0..).zip([Request::Read { extent }, trim(0), trim(8), Request::Flush]) {
            answers.asked(RequestId(id), &request, None);
        }
        assert!(answers.answered(RequestId(0), None, true).is_ok());
        assert!(answers.answered(RequestId(1), Some(ReplyError::Shutdown), true).is_ok());
        assert!(answers.answered(RequestId(2), None, true).is_err());
        assert!(answers.answered(RequestId(3), Some(ReplyError::Io), true).is_err());
    }

    #[test]
    fn a_write_goes_behind_the_barrier_of_those_answered_before_it() {
        let mut answers = Answers::default();
        answers.asked(RequestId(1), &trim(0), None);
        assert_eq!(answers.mirrored(RequestId(1), &sent(4)), Ok(()));
        let answered = answers.answered(RequestId(1), None, false).unwrap();
        assert_eq!(answered, Some(Epoch { connection: 1, number: 4 }));
        answers.asked(RequestId(2), &trim(0), answered);
        answers.asked(RequestId(3), &trim(0), answered);
        assert!(answers.mirrored(RequestId(2), &sent(4)).is_err());
        assert_eq!(answers.mirrored(RequestId(3), &sent(5)), Ok(()));
    }
}
