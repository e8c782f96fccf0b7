//! The command line.
//!
//! - [`codes`]: what an outcome means to the user: text and exit code
//! - [`getopt`], [`shell`]: command lines taken apart, and printed

pub mod codes;
pub mod getopt;
pub mod shell;
