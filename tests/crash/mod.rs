//! The parts of the crash tests: stamped writes, clients that write them, and rounds of crashes.

#![allow(unreachable_pub)] // the crate is a test: nothing is reachable from outside

pub(crate) mod budget;
pub(crate) mod chance;
pub(crate) mod clients;
pub(crate) mod from_a_guest;
pub(crate) mod full_disk;
pub(crate) mod life;
pub(crate) mod load;
pub(crate) mod rounds;
pub(crate) mod stamps;
