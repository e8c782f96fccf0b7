//! `urbdsetup`, and every other tool under whose name it is called.

fn main() {
    urbd::cli::tools::main("urbdsetup");
}
