//! Which tool a process is: the name it was called by decides (L4).

use super::console::{Setting, arguments, run_and_exit};
use super::{adm, meta, setup};

/// One of the three tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Adm,
    Setup,
    Meta,
}

/// Runs the tool whose name this process was called by; `otherwise` where that is none of ours, such
/// as that of a copy.
pub fn main(otherwise: &str) -> ! {
    let (name, words) = arguments();
    let tool = tool(&name).or_else(|| tool(otherwise)).unwrap_or(Tool::Adm);
    let setting = Setting::of_process(if name.is_empty() { otherwise } else { &name });
    if tool == Tool::Meta {
        std::process::exit(i32::from(meta::run(std::env::args_os())));
    }
    run_and_exit(|console| match tool {
        Tool::Setup => setup::run(&words, &setting, console),
        Tool::Adm | Tool::Meta => adm::run(&words, &setting, console),
    })
}

/// The tool of this name: ours, or DRBD's, also with the suffix of its personality (`drbdsetup-84`).
fn tool(name: &str) -> Option<Tool> {
    match name.strip_suffix("-84").unwrap_or(name) {
        "urbdadm" | "drbdadm" => Some(Tool::Adm),
        "urbdsetup" | "drbdsetup" => Some(Tool::Setup),
        "urbdmeta" | "drbdmeta" => Some(Tool::Meta),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_are_known_under_both_families_of_names() {
        assert_eq!(tool("drbdadm"), Some(Tool::Adm));
        assert_eq!(tool("drbdsetup-84"), Some(Tool::Setup));
        assert_eq!(tool("urbdmeta"), Some(Tool::Meta));
        assert_eq!(tool("urbdadm.old"), None);
    }
}
