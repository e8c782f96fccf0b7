//! The command line.
//!
//! - [`codes`]: what an outcome means to the user: text and exit code
//! - [`config_files`]: the configuration, from files
//! - [`getopt`], [`shell`]: command lines taken apart, and printed

pub mod codes;
pub mod config_files;
pub mod getopt;
pub mod shell;
