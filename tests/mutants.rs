//! The list of deliberate faults (`mutants/`) fits the sources. Whether the simulator finds them is another
//! matter, and takes long: `make mutants`.

#[path = "../examples/mutants/list.rs"]
#[allow(dead_code)] // The rest of it is for the trials.
mod list;

use std::path::Path;

#[test]
fn each_deliberate_fault_has_its_place_and_every_invariant_its_fault() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = list::List::read(&root.join("mutants")).expect("the list can be read");
    let mistakes = list.mistakes(root);
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}
