//! The tool for metadata on devices that are not attached.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(urbd::cli::meta::run(std::env::args_os()))
}
