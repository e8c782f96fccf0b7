//! The command line.
//!
//! - [`adm`]: `urbdadm`. `adm_request` understands its words, with the commands in [`adm_verbs`];
//!   `adm_target` finds what they are about in the configuration ([`config_files`]); [`plan`] makes the
//!   helper calls of it, and `adm_run` carries them out
//! - [`setup`]: `urbdsetup`, one call to the daemon; its commands are in [`setup_verbs`]
//! - [`wait`]: the commands that wait; [`show`]: the longer texts
//! - [`meta`]: `urbdmeta`, the metadata on a device; [`meta_device`] is that device
//! - [`daemon`]: the command line of `urbd`
//! - [`tools`]: which of the tools a process is
//! - [`codes`]: what an outcome means to the user: text and exit code
//! - [`console`], [`getopt`], [`shell`]: streams and settings; command lines taken apart, and printed

pub mod adm;
mod adm_clap;
mod adm_help;
mod adm_links;
mod adm_request;
mod adm_run;
mod adm_target;
pub mod adm_verbs;
pub mod codes;
pub mod config_files;
pub mod console;
pub mod daemon;
mod discarded;
pub mod getopt;
pub mod meta;
pub mod meta_device;
pub mod plan;
pub mod setup;
pub mod setup_verbs;
pub mod shell;
pub mod show;
pub mod tools;
pub mod wait;
