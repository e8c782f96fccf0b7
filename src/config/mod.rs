//! The configuration language of DRBD 8.4 (`drbd.conf`, `global_common.conf`, `*.res`), pure: text in,
//! a [`Config`] that cannot be wrong or all errors at once out.
//!
//! - [`options`] and [`values`]: every option, once; the structs the daemon takes
//! - [`source`], [`lexer`], [`parser`]: text to tokens to a tree, with positions
//! - `resolve`: the tree's meaning, inheritance and checks; [`load()`] runs it all
//! - [`model`]: the result; [`select`] finds a node's own part in it
//! - [`dump`] (with `dump-xml`), [`shell`]: the result as text, as `drbdadm` prints it
//!
//! No file is opened here: a [`Source`] of the caller's gives the text.

pub mod dump;
pub mod error;
pub mod lexer;
pub mod load;
pub mod model;
pub mod options;
pub mod parser;
mod resolve;
pub mod select;
pub mod shell;
pub mod source;
pub mod values;
mod xml;

pub use error::{Diagnostic, Report, Severity};
pub use load::{LoadError, load, parse_str, parse_with};
pub use model::{
    Address, Config, Device, Family, Host, HostKind, MetaDisk, Resource, Sections, Unsupported, Volume,
    Written,
};
pub use select::{Local, Node, SelectError};
pub use source::{Source, SourceError, SourceText};
