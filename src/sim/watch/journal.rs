//! What goes into a core and comes out of it, in words: for those who look for a bug.

use std::cell::RefCell;
use std::fmt::Debug;
use std::rc::Rc;

use crate::node::effect::Effect;
use crate::node::input::Input;
use crate::units::Moment;

/// A line is cut off behind so many characters: bitmaps and sets of options are long.
const LINE: usize = 400;

/// The journal of one core; both write into the same book.
#[derive(Clone, Debug)]
pub struct Journal {
    book: Rc<RefCell<Vec<String>>>,
    name: String,
    now: Moment,
}

impl Journal {
    /// Writes into this book, under this name.
    #[must_use]
    pub fn new(book: &Rc<RefCell<Vec<String>>>, name: impl Into<String>) -> Self {
        Self { book: Rc::clone(book), name: name.into(), now: Moment::default() }
    }

    /// An input, and its time.
    pub fn hears(&mut self, now: Moment, input: &Input) {
        self.now = now;
        self.note('<', input);
    }

    /// An effect of the last input.
    pub fn wants(&self, effect: &Effect) {
        self.note('>', effect);
    }

    fn note(&self, direction: char, what: &dyn Debug) {
        let at = self.now.since(Moment::default()).as_secs_f64();
        let text: String = format!("{what:?}").chars().take(LINE).collect();
        self.book.borrow_mut().push(format!("{at:12.6} {}{direction} {text}", self.name));
    }
}
