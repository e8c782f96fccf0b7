//! The commands of `urbdsetup`: their arguments and options, as a table (L59, C66, C68).

use super::getopt::{OptionSpec, Value};
use crate::config::options::{Kind, Section};
use crate::control::messages::MinorAction;

/// A command of `urbdsetup`.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub action: Action,
    /// The names of its arguments; one in brackets may be left out.
    pub arguments: &'static [&'static str],
    /// Options of its own.
    pub own_options: &'static [OptionSpec],
    /// The section whose options it takes besides.
    pub section: Option<Section>,
    /// For the help.
    pub summary: &'static str,
}

/// What a command of `urbdsetup` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `new-resource`
    NewResource,
    /// `new-minor`
    NewMinor,
    /// `del-minor`
    DelMinor,
    /// `del-resource`
    DelResource,
    /// `attach`
    Attach,
    /// `detach`
    Detach,
    /// `connect`
    Connect,
    /// `disconnect`
    Disconnect,
    /// `net-options`
    NetOptions,
    /// `disk-options`
    DiskOptions,
    /// `resource-options`
    ResourceOptions,
    /// `primary`
    Primary,
    /// `new-current-uuid`
    NewCurrentUuid,
    /// `verify`
    Verify,
    /// A command that needs only the device.
    Simple(MinorAction),
    /// `down`
    Down,
    /// `role`, `cstate`, `dstate`, `get-gi`, `show-gi`
    Query(Query),
    /// `sh-status`
    ShStatus,
    /// `status`
    Status,
    /// `show`
    Show,
    /// `proc`
    Proc,
    /// `wait-connect`
    WaitConnect,
    /// `wait-sync`
    WaitSync,
    /// `events2`
    Events,
    /// DRBD has it, and this version of urbd has not.
    NotYet,
}

/// A question about one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Own and peer's role.
    Role,
    /// State of the connection.
    Cstate,
    /// Own and peer's disk state.
    Dstate,
    /// Generation identifiers.
    GetGi,
    /// The same, explained.
    ShowGi,
}

/// The command of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

impl Verb {
    /// All options it takes.
    pub fn options(&self) -> impl Iterator<Item = OptionSpec> {
        let section = self.section.into_iter().flat_map(section_options);
        self.own_options.iter().copied().chain(section)
    }
}

/// The options of a section of the configuration, as options of a command.
pub fn section_options(section: Section) -> impl Iterator<Item = OptionSpec> {
    section.options().map(|spec| {
        let value = match spec.kind {
            Kind::Bool | Kind::Flag => Value::Optional,
            Kind::Number(_)
            | Kind::Word(_)
            | Kind::WordAnyCase(_)
            | Kind::Text { .. }
            | Kind::After
            | Kind::Hosts
            | Kind::Command => Value::Required,
        };
        OptionSpec::of_command(spec.name, value)
    })
}

const fn flag(name: &'static str) -> OptionSpec {
    OptionSpec::of_command(name, Value::None)
}

const fn boolean(name: &'static str) -> OptionSpec {
    OptionSpec::of_command(name, Value::Optional)
}

const fn with_value(name: &'static str) -> OptionSpec {
    OptionSpec::of_command(name, Value::Required)
}

/// A command about one device, without options.
const fn simple(name: &'static str, action: Action, summary: &'static str) -> Verb {
    Verb { name, action, arguments: MINOR, own_options: &[], section: None, summary }
}

const MINOR: &[&str] = &["minor"];
const RESOURCE: &[&str] = &["resource"];
const FORCE: &[OptionSpec] = &[boolean("force")];
const SET_DEFAULTS: &[OptionSpec] = &[flag("set-defaults")];
/// Options of the waiting commands; `timeout` is ours and overrides the other three.
const WAIT: &[OptionSpec] = &[
    with_value("wfc-timeout"),
    with_value("degr-wfc-timeout"),
    with_value("outdated-wfc-timeout"),
    boolean("wait-after-sb"),
    with_value("timeout"),
];

/// All commands.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "new-resource",
        action: Action::NewResource,
        arguments: RESOURCE,
        own_options: &[],
        section: Some(Section::Options),
        summary: "Create a resource",
    },
    Verb {
        name: "new-minor",
        action: Action::NewMinor,
        arguments: &["resource", "minor", "volume"],
        own_options: &[],
        section: None,
        summary: "Add a volume to a resource",
    },
    simple("del-minor", Action::DelMinor, "Remove a volume that has no disk"),
    Verb {
        name: "del-resource",
        action: Action::DelResource,
        arguments: RESOURCE,
        own_options: &[],
        section: None,
        summary: "Remove a resource that has no volume",
    },
    Verb {
        name: "attach",
        action: Action::Attach,
        arguments: &["minor", "lower_dev", "meta_data_dev", "meta_data_index"],
        own_options: &[],
        section: Some(Section::Disk),
        summary: "Take a disk into use",
    },
    Verb {
        name: "disk-options",
        action: Action::DiskOptions,
        arguments: MINOR,
        own_options: SET_DEFAULTS,
        section: Some(Section::Disk),
        summary: "Change the options of an attached disk",
    },
    Verb {
        name: "detach",
        action: Action::Detach,
        arguments: MINOR,
        own_options: FORCE,
        section: None,
        summary: "Stop using the disk",
    },
    Verb {
        name: "connect",
        action: Action::Connect,
        arguments: &["resource", "local_addr", "remote_addr"],
        own_options: &[boolean("tentative"), boolean("dry-run"), boolean("discard-my-data")],
        section: Some(Section::Net),
        summary: "Keep trying to connect to the peer",
    },
    Verb {
        name: "net-options",
        action: Action::NetOptions,
        arguments: &["local_addr", "remote_addr"],
        own_options: SET_DEFAULTS,
        section: Some(Section::Net),
        summary: "Change the options of a connection",
    },
    Verb {
        name: "disconnect",
        action: Action::Disconnect,
        arguments: &["local_addr", "remote_addr"],
        own_options: FORCE,
        section: None,
        summary: "Drop the connection",
    },
    Verb {
        name: "resource-options",
        action: Action::ResourceOptions,
        arguments: RESOURCE,
        own_options: SET_DEFAULTS,
        section: Some(Section::Options),
        summary: "Change the options of a resource",
    },
    Verb {
        name: "primary",
        action: Action::Primary,
        arguments: MINOR,
        own_options: &[
            OptionSpec { name: "force", letter: None, value: Value::Optional, general: false },
            OptionSpec {
                name: "overwrite-data-of-peer",
                letter: Some('o'),
                value: Value::Optional,
                general: false,
            },
        ],
        section: None,
        summary: "Become Primary: the device can be written here",
    },
    simple("secondary", Action::Simple(MinorAction::Secondary), "Become Secondary"),
    simple("invalidate", Action::Simple(MinorAction::Invalidate), "Fetch all data from the peer"),
    simple("invalidate-remote", Action::Simple(MinorAction::InvalidateRemote), "Send all data to the peer"),
    simple("outdate", Action::Simple(MinorAction::Outdate), "Mark the local data Outdated"),
    simple("pause-sync", Action::Simple(MinorAction::PauseSync), "Hold the resync"),
    simple("resume-sync", Action::Simple(MinorAction::ResumeSync), "Go on with the resync"),
    simple("suspend-io", Action::Simple(MinorAction::SuspendIo), "Hold the clients' requests"),
    simple("resume-io", Action::Simple(MinorAction::ResumeIo), "Let the clients' requests go on"),
    Verb {
        name: "new-current-uuid",
        action: Action::NewCurrentUuid,
        arguments: MINOR,
        own_options: &[boolean("clear-bitmap")],
        section: None,
        summary: "Begin a new data generation",
    },
    Verb {
        name: "down",
        action: Action::Down,
        arguments: RESOURCE,
        own_options: &[],
        section: None,
        summary: "Stop and remove a resource",
    },
    simple("role", Action::Query(Query::Role), "Print own and peer's role"),
    simple("state", Action::Query(Query::Role), "The old name of role"),
    simple("cstate", Action::Query(Query::Cstate), "Print the state of the connection"),
    simple("dstate", Action::Query(Query::Dstate), "Print own and peer's disk state"),
    simple("get-gi", Action::Query(Query::GetGi), "Print the generation identifiers"),
    simple("show-gi", Action::Query(Query::ShowGi), "Print the generation identifiers, explained"),
    Verb {
        name: "show",
        action: Action::Show,
        arguments: &["[resource]"],
        own_options: &[flag("show-defaults")],
        section: None,
        summary: "Print how a resource was configured",
    },
    Verb {
        name: "status",
        action: Action::Status,
        arguments: &["[resource]"],
        own_options: &[flag("verbose"), flag("statistics"), flag("json"), with_value("color")],
        section: None,
        summary: "Print the state of a resource",
    },
    Verb {
        name: "sh-status",
        action: Action::ShStatus,
        arguments: &["[minor]"],
        own_options: &[],
        section: None,
        summary: "Print the state for a shell to evaluate",
    },
    Verb {
        name: "proc",
        action: Action::Proc,
        arguments: &[],
        own_options: &[],
        section: None,
        summary: "Print what /proc/drbd would say",
    },
    Verb {
        name: "wait-connect",
        action: Action::WaitConnect,
        arguments: MINOR,
        own_options: WAIT,
        section: None,
        summary: "Wait until the peer is connected",
    },
    Verb {
        name: "wait-sync",
        action: Action::WaitSync,
        arguments: MINOR,
        own_options: WAIT,
        section: None,
        summary: "Wait until a resync has ended",
    },
    Verb {
        name: "verify",
        action: Action::Verify,
        arguments: MINOR,
        own_options: &[with_value("start"), with_value("stop")],
        section: None,
        summary: "Compare both disks",
    },
    simple("resize", Action::NotYet, "Use a disk that has grown"),
    simple("check-resize", Action::NotYet, "Remember the size of the disk"),
    Verb {
        name: "events",
        action: Action::NotYet,
        arguments: &["[resource]"],
        own_options: &[],
        section: None,
        summary: "Print changes of state as they happen (old format)",
    },
    Verb {
        name: "events2",
        action: Action::Events,
        arguments: &["[resource]"],
        own_options: &[flag("timestamps"), flag("statistics"), flag("now")],
        section: None,
        summary: "Print changes of state as they happen",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_has_two_options_of_one_name() {
        for verb in VERBS {
            let mut names: Vec<_> = verb.options().map(|option| option.name).collect();
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "{}", verb.name);
        }
    }
}
