//! `urbd`: the daemon.

fn main() {
    std::process::exit(urbd::cli::daemon::main());
}
