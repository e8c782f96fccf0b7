//! Shared, aligned memory for payloads: a value type, no I/O.
//!
//! A payload is received once and then written to disk and sent to the peer from the same memory.
//! [`Buf`] is that memory, 4 KiB-aligned so that it fits direct I/O, shared by reference count
//! within one thread. Only the unique owner may write into it.

use std::fmt;
use std::rc::Rc;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Alignment and allocation unit, in bytes.
pub const PAGE_BYTES: usize = 4096;

/// One aligned page. An array of these is how aligned memory is had without `unsafe`.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
pub struct Page([u8; PAGE_BYTES]);

/// A payload: `len` bytes at the start of aligned pages, shared within one thread.
///
/// Cloning shares the memory. [`Buf::bytes_mut`] works only while there is a single owner.
#[derive(Clone)]
pub struct Buf {
    pages: Rc<Vec<Page>>,
    len: usize,
}

impl Buf {
    /// A buffer of `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        // Allocated zeroed: large buffers come from the kernel as untouched zero pages.
        let pages = Page::new_vec_zeroed(len.div_ceil(PAGE_BYTES)).unwrap_or_default();
        assert!(pages.len() * PAGE_BYTES >= len, "out of memory for a payload of {len} bytes");
        Self { pages: Rc::new(pages), len }
    }

    /// A buffer over pages that somebody pooled; their content stays as it is.
    ///
    /// # Panics
    /// If the pages hold fewer than `len` bytes.
    #[must_use]
    pub fn from_pages(pages: Vec<Page>, len: usize) -> Self {
        assert!(pages.len() * PAGE_BYTES >= len, "{} pages cannot hold {len} bytes", pages.len());
        Self { pages: Rc::new(pages), len }
    }

    /// A buffer with a copy of `bytes`.
    #[must_use]
    pub fn copied(bytes: &[u8]) -> Self {
        let mut buf = Self::zeroed(bytes.len());
        if let Some(target) = buf.bytes_mut() {
            target.copy_from_slice(bytes);
        }
        buf
    }

    /// Length of the payload in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the payload is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The payload.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.pages.as_slice().as_bytes()[..self.len]
    }

    /// The payload, to be written; `None` while the memory is shared.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let len = self.len;
        Rc::get_mut(&mut self.pages).map(|pages| &mut pages.as_mut_slice().as_mut_bytes()[..len])
    }

    /// Gives the pages back to a pool if this was the last owner.
    #[must_use]
    pub fn into_pages(self) -> Option<Vec<Page>> {
        Rc::try_unwrap(self.pages).ok()
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes)", self.len)
    }
}

impl PartialEq for Buf {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Buf {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_only_a_single_owner_writes() {
        let mut buf = Buf::copied(&[7; 5000]);
        assert_eq!(buf.bytes().as_ptr() as usize % PAGE_BYTES, 0);
        let shared = buf.clone();
        assert!(buf.bytes_mut().is_none());
        drop(shared);
        assert!(buf.bytes_mut().is_some());
        assert_eq!(buf.into_pages().map(|p| p.len()), Some(2));
    }
}
