//! Bounded, recycled memory for payloads.
//!
//! A pool counts what it has lent out. It never refuses: its user asks [`Pool::has_room`] before it
//! takes on more work, and stops receiving while the answer is no. That is the back-pressure.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use crate::buffer::{Buf, Home, PAGE_BYTES, Page, zeroed_pages};

/// Memory for one kind of user: clients, or the peer. Clones share it.
#[derive(Clone)]
pub struct Pool {
    shelf: Rc<Shelf>,
}

impl Pool {
    /// A pool that has room until `budget_bytes` are lent out, and that keeps at most `kept_bytes`
    /// of returned memory for the next use.
    #[must_use]
    pub fn new(budget_bytes: usize, kept_bytes: usize) -> Self {
        Self {
            shelf: Rc::new(Shelf {
                classes: RefCell::default(),
                lent: Cell::new(0),
                kept: Cell::new(0),
                budget: budget_bytes / PAGE_BYTES,
                keep: kept_bytes / PAGE_BYTES,
            }),
        }
    }

    /// A buffer of `len` bytes with any content; it counts until its last owner is gone.
    #[must_use]
    pub fn buf(&self, len: usize) -> Buf {
        let count = len.div_ceil(PAGE_BYTES).max(1).next_power_of_two();
        let pages = self.shelf.take(count);
        self.shelf.lent.set(self.shelf.lent.get() + count);
        Buf::pooled(pages, len, Rc::clone(&self.shelf) as Rc<dyn Home>)
    }

    /// Whether less than the budget is lent out.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.shelf.lent.get() < self.shelf.budget
    }

    /// Bytes lent out.
    #[must_use]
    pub fn lent_bytes(&self) -> usize {
        self.shelf.lent.get() * PAGE_BYTES
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} of {} pages lent)", self.shelf.lent.get(), self.shelf.budget)
    }
}

/// Runs of pages by the power of two they hold; all numbers are pages.
struct Shelf {
    classes: RefCell<[Vec<Vec<Page>>; CLASSES]>,
    lent: Cell<usize>,
    kept: Cell<usize>,
    budget: usize,
    keep: usize,
}

impl Shelf {
    fn take(&self, count: usize) -> Vec<Page> {
        let class = count.trailing_zeros() as usize;
        let kept = self.classes.borrow_mut().get_mut(class).and_then(Vec::pop);
        match kept {
            Some(pages) => {
                self.kept.set(self.kept.get() - count);
                pages
            }
            None => zeroed_pages(count),
        }
    }
}

impl Home for Shelf {
    fn take_back(&self, pages: Vec<Page>) {
        let count = pages.len();
        self.lent.set(self.lent.get() - count);
        if self.kept.get() + count > self.keep {
            return;
        }
        if let Some(class) = self.classes.borrow_mut().get_mut(count.trailing_zeros() as usize) {
            class.push(pages);
            self.kept.set(self.kept.get() + count);
        }
    }
}

/// Classes 2^0 to 2^8 pages: up to 1 MiB is recycled, the longest request of the core.
const CLASSES: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_until_the_budget_is_lent_and_again_when_it_returns() {
        let pool = Pool::new(4 * PAGE_BYTES, 0);
        let bufs: Vec<Buf> = (0..4).map(|_| pool.buf(512)).collect();
        assert!(!pool.has_room());
        let shared = bufs[0].clone();
        drop(bufs);
        assert!(pool.has_room());
        assert_eq!(pool.lent_bytes(), PAGE_BYTES, "a shared page is still lent");
        drop(shared);
        assert_eq!(pool.lent_bytes(), 0);
    }

    #[test]
    fn returned_pages_are_used_again_up_to_the_limit() {
        let pool = Pool::new(1 << 30, 2 * PAGE_BYTES);
        let address = |buf: &Buf| buf.bytes().as_ptr() as usize;
        let (first, second) = (pool.buf(8192), pool.buf(4096));
        let (place, small) = (address(&first), address(&second));
        drop(first);
        drop(second);
        let third = pool.buf(5000);
        assert_eq!(address(&third), place);
        assert_eq!(pool.shelf.kept.get(), 0, "the small page at {small:#x} was over the limit");
    }

    #[test]
    fn memory_longer_than_a_class_is_counted_too() {
        let pool = Pool::new(1 << 20, 1 << 30);
        let long = pool.buf((2 << 20) + 1);
        assert_eq!((long.len(), pool.lent_bytes()), ((2 << 20) + 1, 4 << 20));
        drop(long);
        assert_eq!(pool.lent_bytes(), 0);
    }
}
