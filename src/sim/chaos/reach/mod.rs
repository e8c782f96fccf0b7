//! Reach: what the faults of many lives met. Green seeds mean something only if they were where it hurts.
//!
//! Whenever a fault strikes, the situations that the struck node and its peer are in at that moment are
//! counted: a cell is a class of faults ([`class`]), a situation ([`situation`]), and whether it was the
//! struck node that was in it.

pub mod class;
pub mod holes;
pub mod situation;

use std::fmt::{self, Write as _};

pub use class::Class;
pub use holes::Group;
pub use situation::{OnTheWay, Situation, Situations};

const ROWS: usize = situation::COUNT;
const COLUMNS: usize = Class::ALL.len();
/// Letters of a row's words, and of a number.
const WORDS: usize = 36;
const NUMBER: usize = 7;

/// Whose situation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The struck node's; of a fault of the link, either node's.
    Struck,
    /// The other node's.
    Other,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Struck, Self::Other];
}

/// How often the faults of each class met each situation.
#[derive(Clone, Debug)]
pub struct Reach {
    /// By side, class and situation.
    met: Vec<u64>,
    /// How often each class struck.
    struck: [u64; COLUMNS],
}

impl Default for Reach {
    fn default() -> Self {
        Self { met: vec![0; Side::ALL.len() * COLUMNS * ROWS], struck: [0; COLUMNS] }
    }
}

const fn row_of(class: Class, side: Side) -> usize {
    (side as usize * COLUMNS + class as usize) * ROWS
}

impl Reach {
    /// A fault strikes while the struck node is in `here` and the other one in `there`.
    pub(super) fn strikes(&mut self, class: Class, here: Situations, there: Situations) {
        self.struck[class as usize] += 1;
        let sides = match class.is_of_one_machine() {
            true => [(Side::Struck, here), (Side::Other, there)],
            false => [(Side::Struck, here.and(there)), (Side::Other, Situations::default())],
        };
        for (side, situations) in sides {
            let cells = &mut self.met[row_of(class, side)..][..ROWS];
            situations.indexes().for_each(|index| cells[index] += 1);
        }
    }

    /// Adds what other lives met.
    pub fn add(&mut self, other: &Self) {
        self.met.iter_mut().zip(&other.met).for_each(|(own, more)| *own += more);
        self.struck.iter_mut().zip(other.struck).for_each(|(own, more)| *own += more);
    }

    /// How often a situation was met.
    #[must_use]
    pub fn met(&self, class: Class, side: Side, situation: Situation) -> u64 {
        self.met[row_of(class, side) + situation.index()]
    }

    /// How often a class struck.
    #[must_use]
    pub const fn struck(&self, class: Class) -> u64 {
        self.struck[class as usize]
    }

    fn table(&self, f: &mut fmt::Formatter<'_>, side: Side) -> fmt::Result {
        let classes: Vec<Class> = Class::ALL
            .iter()
            .copied()
            .filter(|class| side == Side::Struck || class.is_of_one_machine())
            .collect();
        let head = |cell: fn(Class) -> &'static str| {
            classes.iter().fold(String::new(), |mut line, class| {
                let _ = write!(line, "{:>NUMBER$}", cell(*class));
                line
            })
        };
        writeln!(f, "{:WORDS$}{}", "", head(Class::fault))?;
        let title = match side {
            Side::Struck => "the struck node, or either",
            Side::Other => "the other node",
        };
        writeln!(f, "{title:WORDS$}{}", head(Class::word))?;
        write!(f, "{:WORDS$}", "(struck)")?;
        classes.iter().try_for_each(|class| write!(f, "{:>NUMBER$}", self.struck(*class)))?;
        writeln!(f)?;
        for situation in Situation::all() {
            write!(f, "{situation:WORDS$}")?;
            for class in &classes {
                write!(f, "{:>NUMBER$}", self.met(*class, side, situation))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table(f, Side::Struck)?;
        writeln!(f)?;
        self.table(f, Side::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::state::Conn;
    use crate::node::steps::Step;

    const WRITE: Situation = Situation::Step(Step::OwnWrite);
    const PEER: Situation = Situation::Step(Step::PeerWrite);

    fn sets() -> (Situations, Situations) {
        ([WRITE].into_iter().collect(), [PEER].into_iter().collect())
    }

    #[test]
    fn a_fault_of_one_machine_is_counted_for_both_nodes_apart() {
        let mut reach = Reach::default();
        let (here, there) = sets();
        reach.strikes(Class::Kill, here, there);
        assert_eq!(reach.met(Class::Kill, Side::Struck, WRITE), 1);
        assert_eq!(reach.met(Class::Kill, Side::Other, PEER), 1);
        assert_eq!(reach.met(Class::Kill, Side::Other, WRITE), 0);
        assert_eq!(reach.met(Class::PowerLoss, Side::Struck, WRITE), 0);
        assert_eq!((reach.struck(Class::Kill), reach.struck(Class::Pause)), (1, 0));
    }

    #[test]
    fn a_fault_of_the_link_meets_either_node() {
        let mut reach = Reach::default();
        let (here, there) = sets();
        reach.strikes(Class::Cut, here, there);
        assert_eq!(reach.met(Class::Cut, Side::Struck, WRITE), 1);
        assert_eq!(reach.met(Class::Cut, Side::Struck, PEER), 1);
        assert_eq!(reach.met(Class::Cut, Side::Other, PEER), 0);
    }

    #[test]
    fn lives_add_up() {
        let (mut sum, mut one) = (Reach::default(), Reach::default());
        let ahead = Situation::Conn(Conn::Ahead);
        one.strikes(Class::Pause, [ahead].into_iter().collect(), Situations::default());
        sum.add(&one);
        sum.add(&one);
        assert_eq!((sum.met(Class::Pause, Side::Struck, ahead), sum.struck(Class::Pause)), (2, 2));
    }
}
