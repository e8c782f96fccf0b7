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

/// A place that wants pages back: called when the last owner of a [`Buf`] over them is gone.
pub trait Home {
    /// Takes back what [`Buf::pooled`] lent out.
    fn take_back(&self, pages: Vec<Page>);
}

/// A payload: bytes in aligned pages, shared within one thread.
///
/// Cloning shares the memory. [`Buf::bytes_mut`] works only while there is a single owner.
#[derive(Clone)]
pub struct Buf {
    memory: Rc<Memory>,
    start: usize,
    len: usize,
}

struct Memory {
    pages: Vec<Page>,
    home: Option<Rc<dyn Home>>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.take_back(std::mem::take(&mut self.pages));
        }
    }
}

impl Buf {
    /// A buffer of `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self::from_pages(zeroed_pages(len.div_ceil(PAGE_BYTES)), len)
    }

    /// A buffer over pages; their content stays as it is.
    ///
    /// # Panics
    /// If the pages hold fewer than `len` bytes.
    #[must_use]
    pub fn from_pages(pages: Vec<Page>, len: usize) -> Self {
        Self::over(pages, len, None)
    }

    /// A buffer over pages that go back to `home` when the last owner is gone; their content stays
    /// as it is.
    ///
    /// # Panics
    /// If the pages hold fewer than `len` bytes.
    #[must_use]
    pub fn pooled(pages: Vec<Page>, len: usize, home: Rc<dyn Home>) -> Self {
        Self::over(pages, len, Some(home))
    }

    fn over(pages: Vec<Page>, len: usize, home: Option<Rc<dyn Home>>) -> Self {
        assert!(pages.len() * PAGE_BYTES >= len, "{} pages cannot hold {len} bytes", pages.len());
        Self { memory: Rc::new(Memory { pages, home }), start: 0, len }
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
        &self.memory.pages.as_slice().as_bytes()[self.start..][..self.len]
    }

    /// The payload, to be written; `None` while the memory is shared.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let (start, len) = (self.start, self.len);
        Rc::get_mut(&mut self.memory)
            .map(|memory| &mut memory.pages.as_mut_slice().as_mut_bytes()[start..][..len])
    }

    /// `len` bytes of this payload from `start`, sharing its memory. Aligned as `start` is.
    ///
    /// # Panics
    /// If the payload ends before that.
    #[must_use]
    pub fn part(&self, start: usize, len: usize) -> Self {
        assert!(start <= self.len && len <= self.len - start, "{start}+{len} of {} bytes", self.len);
        Self { memory: Rc::clone(&self.memory), start: self.start + start, len }
    }
}

/// Fresh pages full of zeroes. Large runs come from the kernel untouched.
///
/// # Panics
/// When there is no memory left.
#[must_use]
pub fn zeroed_pages(count: usize) -> Vec<Page> {
    let pages = Page::new_vec_zeroed(count).unwrap_or_default();
    assert!(pages.len() == count, "out of memory for {count} pages");
    pages
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
    use std::cell::Cell;

    use super::*;

    #[test]
    fn memory_is_aligned_and_only_a_single_owner_writes() {
        let mut buf = Buf::copied(&[7; 5000]);
        assert_eq!(buf.bytes().as_ptr() as usize % PAGE_BYTES, 0);
        let shared = buf.clone();
        assert!(buf.bytes_mut().is_none());
        drop(shared);
        assert!(buf.bytes_mut().is_some());
    }

    #[test]
    fn a_part_shares_the_memory_of_the_whole() {
        let mut whole = Buf::zeroed(8192);
        whole.bytes_mut().unwrap()[5000] = 9;
        let part = whole.part(4096, 1024).part(512, 512);
        assert_eq!((part.len(), part.bytes()[5000 - 4096 - 512]), (512, 9));
        assert!(whole.bytes_mut().is_none());
    }

    #[test]
    fn pooled_pages_go_home_with_the_last_owner() {
        struct Counter(Cell<usize>);
        impl Home for Counter {
            fn take_back(&self, pages: Vec<Page>) {
                self.0.set(self.0.get() + pages.len());
            }
        }
        let home = Rc::new(Counter(Cell::new(0)));
        let first = Buf::pooled(zeroed_pages(2), 4097, Rc::clone(&home) as Rc<dyn Home>);
        let second = first.part(0, 512);
        drop(first);
        assert_eq!(home.0.get(), 0);
        drop(second);
        assert_eq!(home.0.get(), 2);
    }
}
