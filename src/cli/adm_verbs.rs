//! The commands of `urbdadm`: scope, options and what they do, as a table (L19, L28, L32).

use super::getopt::{OptionSpec, Value};
use super::setup_verbs::section_options;
use crate::config::options::Section;

/// A command of `urbdadm`.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub scope: Scope,
    /// What it does.
    pub action: Action,
    /// Options of its helper that it takes too (L19).
    pub options: VerbOptions,
    /// Where the help lists it.
    pub listed: Listed,
    /// For the help.
    pub summary: &'static str,
}

/// What the target words of a command may name (L28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Resources, or single volumes.
    Volumes,
    /// Whole resources only.
    Resources,
    /// One volume, which must be clear.
    OneVolume,
    /// Resources; all of them when nothing is named (L31).
    AllByDefault,
    /// Nothing: targets are ignored (L31).
    None,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A helper command about the device, of the same name.
    Minor,
    /// The same under the helper's own name.
    MinorAs(&'static str),
    /// A helper command about the device; the on-disk one where that fails (L39).
    MinorOrMeta,
    /// The on-disk command of the same name.
    Meta,
    /// `create-md`
    CreateMd,
    /// `set-gi`
    SetGi,
    /// `attach`
    Attach,
    /// `disk-options`
    DiskOptions,
    /// `connect`
    Connect,
    /// `net-options`, `disconnect`
    Connection,
    /// `new-resource`
    NewResource,
    /// `new-minor`
    NewMinor,
    /// `resource-options`, `down`, `status`
    Resource,
    /// `up`
    Up,
    /// `adjust`, `adjust-with-progress`
    Adjust,
    /// `resize`
    Resize,
    /// `check-resize`
    CheckResize,
    /// `wait-connect`, `wait-sync`
    Wait,
    /// `wait-con-int`
    WaitAll,
    /// A handler.
    Handler,
    /// `sh-b-pri`
    BecomePrimary,
    /// `explain`
    Explain,
    /// `discarded`
    Discarded,
    /// `sh-status`
    ShStatus,
    /// `proc`
    Proc,
    /// Something printed from the configuration alone.
    Print(Print),
    /// `hidden-commands`
    HiddenCommands,
    /// `completions`
    Completions,
    /// `man`
    Man,
}

/// What is printed from the configuration alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    /// `dump`
    Dump,
    /// `dump-xml`
    DumpXml,
    /// `sh-nop`
    Nothing,
    /// `sh-resources`
    Resources,
    /// `sh-resource`
    Resource,
    /// `sh-mod-parms`
    ModParms,
    /// `sh-dev`
    Device,
    /// `sh-udev`
    Udev,
    /// `sh-minor`
    Minor,
    /// `sh-ll-dev`
    LowerDevice,
    /// `sh-md-dev`
    MetaDevice,
    /// `sh-md-idx`
    MetaIndex,
    /// `sh-ip`
    Ip,
    /// `sh-lr-of`
    LowerResource,
}

/// Which helper options a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerbOptions {
    /// None.
    None,
    /// These.
    Own(&'static [OptionSpec]),
    /// Those of a section of the configuration, and these.
    Section(Section, &'static [OptionSpec]),
}

/// Where the help lists a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Among the usual commands.
    Usual,
    /// Among those for shell scripts.
    Script,
    /// Among those for events.
    Handler,
    /// Among those for experts.
    Expert,
    /// Nowhere.
    Hidden,
}

/// The command of this name, or of this old name (L35).
#[must_use]
pub fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

impl Verb {
    /// The helper options it takes.
    pub fn helper_options(&self) -> Vec<OptionSpec> {
        match self.options {
            VerbOptions::None => Vec::new(),
            VerbOptions::Own(own) => own.to_vec(),
            VerbOptions::Section(section, own) => own
                .iter()
                .copied()
                .chain(section_options(section))
                .filter(|spec| self.takes(spec.name))
                .collect(),
        }
    }

    /// `size` and `max-bio-bvecs` belong to attach alone (L19).
    fn takes(&self, option: &str) -> bool {
        self.action != Action::DiskOptions || !matches!(option, "size" | "max-bio-bvecs")
    }
}

/// `urbdadm`'s own options (L16), and the two that all programs of urbd have.
pub const GENERAL: &[OptionSpec] = &[
    OptionSpec::general("stacked", Some('S'), Value::None),
    OptionSpec::general("dry-run", Some('d'), Value::None),
    OptionSpec::general("verbose", Some('v'), Value::None),
    OptionSpec::general("config-file", Some('c'), Value::Required),
    OptionSpec::general("config-to-test", Some('t'), Value::Required),
    OptionSpec::general("drbdsetup", Some('s'), Value::Required),
    OptionSpec::general("drbdmeta", Some('m'), Value::Required),
    OptionSpec::general("drbd-proxy-ctl", Some('p'), Value::Required),
    OptionSpec::general("sh-varname", Some('n'), Value::Required),
    OptionSpec::general("peer", Some('P'), Value::Required),
    OptionSpec::general("version", Some('V'), Value::None),
    OptionSpec::general("setup-option", Some('W'), Value::Required),
    OptionSpec::general("help", Some('h'), Value::None),
    OptionSpec::general("node", None, Value::Required),
    OptionSpec::general("run-dir", None, Value::Required),
];

const fn boolean(name: &'static str) -> OptionSpec {
    OptionSpec::of_command(name, Value::Optional)
}

const FORCE: VerbOptions = VerbOptions::Own(&[boolean("force")]);
/// Ours: the waits of the real tool take their limits from the configuration only.
const WAIT: VerbOptions = VerbOptions::Own(&[OptionSpec::of_command("timeout", Value::Required)]);
/// Ours: what version 9 prints.
const STATUS: VerbOptions = VerbOptions::Own(&[
    OptionSpec::of_command("json", Value::None),
    OptionSpec::of_command("statistics", Value::None),
]);

const fn verb(
    name: &'static str,
    scope: Scope,
    action: Action,
    options: VerbOptions,
    listed: Listed,
    summary: &'static str,
) -> Verb {
    Verb { name, scope, action, options, listed, summary }
}

const fn plain(name: &'static str, scope: Scope, action: Action, summary: &'static str) -> Verb {
    verb(name, scope, action, VerbOptions::None, Listed::Usual, summary)
}

const fn script(name: &'static str, scope: Scope, action: Action, summary: &'static str) -> Verb {
    verb(name, scope, action, VerbOptions::None, Listed::Script, summary)
}

const fn handler(name: &'static str, scope: Scope) -> Verb {
    verb(name, scope, Action::Handler, VerbOptions::None, Listed::Handler, "Run the handler of this name")
}

const fn expert(
    name: &'static str,
    scope: Scope,
    action: Action,
    options: VerbOptions,
    summary: &'static str,
) -> Verb {
    verb(name, scope, action, options, Listed::Expert, summary)
}

use Scope::{AllByDefault, OneVolume, Resources, Volumes};

/// All commands, in the order of the help (L23, L24).
#[rustfmt::skip]
pub const VERBS: &[Verb] = &[
    verb("attach", Volumes, Action::Attach, VerbOptions::Section(Section::Disk, &[]), Listed::Usual,
        "Take the disk into use"),
    verb("status", AllByDefault, Action::Resource, STATUS, Listed::Usual, "Print the state of resources"),
    verb("disk-options", Volumes, Action::DiskOptions, VerbOptions::Section(Section::Disk, &[]), Listed::Usual,
        "Change options of an attached disk, until the next adjust"),
    verb("detach", Volumes, Action::Minor, FORCE, Listed::Usual, "Stop using the disk"),
    verb("connect", Resources, Action::Connect,
        VerbOptions::Section(Section::Net, &[boolean("tentative"), boolean("discard-my-data")]), Listed::Usual,
        "Keep trying to connect to the peer"),
    verb("net-options", Resources, Action::Connection, VerbOptions::Section(Section::Net, &[]), Listed::Usual,
        "Change options of a connection, until the next adjust"),
    verb("disconnect", Resources, Action::Connection, FORCE, Listed::Usual, "Drop the connection"),
    plain("up", Volumes, Action::Up, "Configure resources as their files say: attach and connect"),
    verb("resource-options", Resources, Action::Resource, VerbOptions::Section(Section::Options, &[]),
        Listed::Usual, "Change options of a resource, until the next adjust"),
    plain("down", Resources, Action::Resource, "Stop and remove resources"),
    verb("primary", Volumes, Action::Minor, FORCE, Listed::Usual, "Become Primary: the data can be written here"),
    plain("secondary", Volumes, Action::Minor, "Become Secondary"),
    plain("invalidate", Volumes, Action::MinorOrMeta, "Give up the local data: fetch all from the peer"),
    plain("invalidate-remote", Volumes, Action::Minor, "Give up the peer's data: send all to it"),
    plain("outdate", Volumes, Action::MinorOrMeta, "Mark the local data Outdated"),
    plain("resize", Volumes, Action::Resize, "Use disks that have grown"),
    plain("verify", Volumes, Action::Minor, "Compare both disks"),
    plain("pause-sync", Volumes, Action::Minor, "Hold the resync"),
    plain("resume-sync", Volumes, Action::Minor, "Go on with the resync"),
    plain("adjust", Resources, Action::Adjust, "Change what runs into what the files say"),
    plain("adjust-with-progress", Resources, Action::Adjust, "The same, telling what is done"),
    verb("wait-connect", Volumes, Action::Wait, WAIT, Listed::Usual, "Wait until the peer is connected"),
    verb("wait-sync", Volumes, Action::Wait, WAIT, Listed::Usual, "Wait until a resync has ended"),
    plain("wait-con-int", Scope::None, Action::WaitAll, "Wait for the peers of all resources"),
    plain("role", Volumes, Action::Minor, "Print own and peer's role"),
    plain("cstate", Volumes, Action::Minor, "Print the state of the connection"),
    plain("dstate", Volumes, Action::MinorOrMeta, "Print own and peer's disk state"),
    plain("dump", AllByDefault, Action::Print(Print::Dump), "Print the configuration as understood"),
    plain("dump-xml", AllByDefault, Action::Print(Print::DumpXml), "Print the configuration as XML"),
    verb("create-md", Volumes, Action::CreateMd, FORCE, Listed::Usual, "Make new metadata on the disk"),
    plain("show-gi", Volumes, Action::MinorOrMeta, "Print the generation identifiers, explained"),
    plain("get-gi", Volumes, Action::MinorOrMeta, "Print the generation identifiers"),
    plain("dump-md", Volumes, Action::Meta, "Print the metadata as text"),
    plain("wipe-md", Volumes, Action::Meta, "Destroy the metadata"),
    plain("apply-al", Volumes, Action::Meta, "Apply the activity log to the bitmap on the disk"),
    plain("explain", Resources, Action::Explain, "Say in plain words what is going on, and what can be done"),
    plain("discarded", Scope::None, Action::Discarded, "List what is kept of data that this node discarded"),
    plain("proc", Scope::None, Action::Proc, "Print what /proc/drbd would say"),
    plain("hidden-commands", Scope::None, Action::HiddenCommands, "List the other commands"),

    script("sh-nop", Scope::None, Action::Print(Print::Nothing), "Check the configuration"),
    script("sh-resources", Scope::None, Action::Print(Print::Resources), "Names of this node's resources"),
    script("sh-resource", Resources, Action::Print(Print::Resource), "Name of the resource"),
    script("sh-mod-parms", Scope::None, Action::Print(Print::ModParms), "Parameters for the kernel module"),
    script("sh-dev", Volumes, Action::Print(Print::Device), "Paths of the devices"),
    script("sh-udev", OneVolume, Action::Print(Print::Udev), "What udev wants to know"),
    script("sh-minor", Volumes, Action::Print(Print::Minor), "Device numbers"),
    script("sh-ll-dev", Volumes, Action::Print(Print::LowerDevice), "Paths of the disks"),
    script("sh-md-dev", Volumes, Action::Print(Print::MetaDevice), "Paths of the metadata devices"),
    script("sh-md-idx", Volumes, Action::Print(Print::MetaIndex), "Places of the metadata"),
    script("sh-ip", Volumes, Action::Print(Print::Ip), "Own addresses"),
    script("sh-lr-of", Resources, Action::Print(Print::LowerResource), "The resource below a stacked one"),
    script("sh-b-pri", Resources, Action::BecomePrimary, "Become Primary where become-primary-on says so"),
    script("sh-status", Scope::None, Action::ShStatus, "The state for a shell to evaluate"),
    script("new-resource", Resources, Action::NewResource, "Create the resource only"),

    handler("before-resync-target", OneVolume),
    handler("after-resync-target", OneVolume),
    handler("before-resync-source", OneVolume),
    handler("pri-on-incon-degr", OneVolume),
    handler("pri-lost-after-sb", OneVolume),
    handler("fence-peer", Resources),
    handler("unfence-peer", Resources),
    handler("local-io-error", OneVolume),
    handler("pri-lost", OneVolume),
    handler("initial-split-brain", OneVolume),
    handler("split-brain", OneVolume),
    handler("out-of-sync", OneVolume),

    expert("sh-new-minor", Volumes, Action::NewMinor, VerbOptions::None, "Create the devices only"),
    expert("new-minor", Volumes, Action::NewMinor, VerbOptions::None, "Create the devices only"),
    expert("suspend-io", Volumes, Action::Minor, VerbOptions::None, "Hold the clients' requests"),
    expert("resume-io", Volumes, Action::Minor, VerbOptions::None, "Let the clients' requests go on"),
    expert("set-gi", OneVolume, Action::SetGi, VerbOptions::None, "Set generation identifiers: -- VALUE set-gi RES/VOL"),
    expert("new-current-uuid", OneVolume, Action::Minor, VerbOptions::Own(&[boolean("clear-bitmap")]),
        "Begin a new data generation"),
    expert("check-resize", Volumes, Action::CheckResize, VerbOptions::None, "Remember the size of the disk"),

    verb("state", Volumes, Action::MinorAs("role"), VerbOptions::None, Listed::Hidden, "The old name of role"),
    verb("outdate-peer", Resources, Action::Handler, VerbOptions::None, Listed::Hidden, "The old name of fence-peer"),
    verb("completions", Scope::None, Action::Completions, VerbOptions::None, Listed::Hidden,
        "Print completions for a shell: bash, zsh, fish"),
    verb("man", Scope::None, Action::Man, VerbOptions::None, Listed::Hidden, "Print the manual page"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_one_row() {
        let mut names: Vec<_> = VERBS.iter().map(|verb| verb.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn size_is_an_option_of_attach_and_not_of_disk_options() {
        let has = |verb: &str, option: &str| {
            find(verb).is_some_and(|verb| verb.helper_options().iter().any(|spec| spec.name == option))
        };
        assert!(has("attach", "size") && has("attach", "al-extents"));
        assert!(!has("disk-options", "size") && has("disk-options", "al-extents"));
        assert!(has("connect", "discard-my-data") && !has("net-options", "discard-my-data"));
        assert!(has("primary", "force") && !has("secondary", "force"));
    }
}
