//! `urbdsetup`: one command, one call to the daemon. `drbdsetup`'s words, texts and exit codes
//! (L59 to L73).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::codes::{exit, exit_code, report};
use super::console::{Console, Setting};
use super::getopt::{self, OptionSpec, Piece, Value};
use super::setup_verbs::{Action, Query, VERBS, Verb, find};
use super::{show, wait};
use crate::config::options::{Section, StartupOptions};
use crate::config::values::{Number, Unit};
use crate::control::client::{Client, ClientError};
use crate::control::messages::{Answer, Call, Options, ResourceConfig, merge};
use crate::meta::gi::with_legend;
use crate::node::command::{MetaPlace, Outcome};
use crate::node::status::{ResourceStatus, VolumeStatus};
use crate::observe::events2::Objects;
use crate::observe::{proc_drbd, status_json, status_text, words as words_of};

/// Runs `urbdsetup` with these words; the exit code.
pub fn run(words: &[String], setting: &Setting, console: &mut Console<'_>) -> i32 {
    run_within(words, setting, None, console).unwrap_or(exit::OTHER)
}

/// The same with a limit for the daemon's answer; `None` when it ran out.
pub fn run_within(
    words: &[String],
    setting: &Setting,
    limit: Option<Duration>,
    console: &mut Console<'_>,
) -> Option<i32> {
    match dispatch(words, setting, limit, console) {
        Ok(code) => Some(code),
        Err(Fault::Client(ClientError::TimedOut { .. })) if limit.is_some() => None,
        Err(Fault::Usage(text)) => {
            console.complain_line(text);
            Some(exit::OTHER)
        }
        Err(Fault::Client(error)) => {
            console.complain_line(format!("{}: {error}", setting.program));
            Some(exit::OTHER)
        }
    }
}

/// Why a command was not even given, or not answered.
#[derive(Debug)]
enum Fault {
    /// Wrong words.
    Usage(String),
    /// No daemon.
    Client(ClientError),
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

fn usage(text: impl Into<String>) -> Fault {
    Fault::Usage(text.into())
}

/// A command line, understood.
struct Line<'a> {
    verb: &'static Verb,
    /// The arguments, as many as the verb has.
    arguments: Vec<String>,
    /// The options, checked, with their values; the last of a name counts.
    options: Options,
    setting: &'a Setting,
    /// How long the daemon may take to answer.
    limit: Option<Duration>,
}

fn dispatch(
    words: &[String],
    setting: &Setting,
    limit: Option<Duration>,
    console: &mut Console<'_>,
) -> Result<i32, Fault> {
    let (setting, words) = general_options(words, setting)?;
    let Some(first) = words.first() else {
        console.print(general_usage(&setting.program));
        return Ok(exit::OTHER);
    };
    if matches!(first.as_str(), "help" | "--help" | "-h") {
        return Ok(help(words.get(1).map(String::as_str), &setting, console));
    }
    if matches!(first.as_str(), "--version" | "-V") {
        console.line(format!("urbdsetup {}", env!("CARGO_PKG_VERSION")));
        return Ok(exit::OK);
    }
    let Some((verb, rest)) = find_verb(&words) else {
        console.print(general_usage(&setting.program));
        console.line("invalid command");
        return Ok(exit::OTHER);
    };
    if rest.iter().any(|word| word == "--help") {
        return Ok(help(Some(verb.name), &setting, console));
    }
    let line = Line { limit, ..Line::parse(verb, &rest, &setting)? };
    line.carry_out(console)
}

/// `--run-dir` and `--node`, wherever they stand in front of the command.
fn general_options(words: &[String], setting: &Setting) -> Result<(Setting, Vec<String>), Fault> {
    let mut setting = setting.clone();
    let mut rest = words.to_vec();
    while let Some((name, taken, value)) = leading_general(&rest) {
        let Some(value) = value else {
            return Err(usage(format!("{}: option '{name}' requires an argument", setting.program)));
        };
        match name {
            "--run-dir" => setting.run_dir = value.into(),
            _ => setting.node = value,
        }
        rest.drain(..taken);
    }
    Ok((setting, rest))
}

fn leading_general(words: &[String]) -> Option<(&'static str, usize, Option<String>)> {
    let first = words.first()?;
    ["--run-dir", "--node"].into_iter().find_map(|name| {
        let behind = first.strip_prefix(name)?;
        match behind.strip_prefix('=') {
            Some(value) => Some((name, 1, Some(value.to_owned()))),
            None if behind.is_empty() => Some((name, 2.min(words.len()), words.get(1).cloned())),
            None => None,
        }
    })
}

/// The command among the words, and the other words: what it is about may come first (L59).
fn find_verb(words: &[String]) -> Option<(&'static Verb, Vec<String>)> {
    for at in 0..words.len().min(2) {
        if let Some(verb) = find(&words[at]) {
            let mut rest = words.to_vec();
            rest.remove(at);
            return Some((verb, rest));
        }
    }
    None
}

impl<'a> Line<'a> {
    fn parse(verb: &'static Verb, words: &[String], setting: &'a Setting) -> Result<Self, Fault> {
        let specs: Vec<OptionSpec> = verb.options().collect();
        let pieces =
            getopt::parse(words, &specs).map_err(|error| usage(format!("{}: {error}", setting.program)))?;
        let mut line = Self { verb, arguments: Vec::new(), options: Vec::new(), setting, limit: None };
        for piece in pieces {
            match piece {
                Piece::Word(word) => line.arguments.push(word),
                Piece::DashDash => {}
                Piece::Option { name, value } => {
                    let value = line.checked_value(name, value, &specs)?;
                    merge(&mut line.options, &[(name.to_owned(), value)], false);
                }
            }
        }
        line.check_arguments()?;
        Ok(line)
    }

    fn checked_value(
        &self,
        name: &'static str,
        value: Option<String>,
        specs: &[OptionSpec],
    ) -> Result<String, Fault> {
        let text = value.clone().unwrap_or_else(|| "yes".to_owned());
        let invalid = |why: &str| usage(format!("Option --{name}: invalid argument '{text}'{why}"));
        let known = self.verb.section.or(Some(Section::Startup)).and_then(|section| section.option(name));
        match known {
            Some(spec) => spec.check(value.as_deref()).map_err(|error| invalid(&format!(": {error}")))?,
            None if name == "timeout" => {
                text.parse::<u64>().map_err(|_| invalid(": not a number of seconds"))?;
            }
            None => {
                let boolean = specs.iter().any(|spec| spec.name == name && spec.value == Value::Optional);
                if boolean && text != "yes" && text != "no" {
                    return Err(invalid(": not 'yes' or 'no'"));
                }
            }
        }
        Ok(text)
    }

    fn check_arguments(&self) -> Result<(), Fault> {
        let names = self.verb.arguments;
        let needed = names.iter().filter(|name| !name.starts_with('[')).count();
        if let Some(missing) = names.iter().take(needed).nth(self.arguments.len()) {
            return Err(usage(format!("Missing argument '{missing}'\n{}", verb_usage(self.verb))));
        }
        if let Some(excess) = self.arguments.get(names.len()) {
            return Err(usage(format!("Excess argument '{excess}'\n{}", verb_usage(self.verb))));
        }
        Ok(())
    }

    fn carry_out(&self, console: &mut Console<'_>) -> Result<i32, Fault> {
        match self.verb.action {
            Action::Query(query) => self.query(query, console),
            Action::Status => self.status(console),
            Action::ShStatus => self.sh_status(console),
            Action::Show => self.show(console),
            Action::Proc => {
                let statuses = self.statuses(None)?;
                console.print(proc_drbd::render(&statuses));
                Ok(exit::OK)
            }
            Action::WaitConnect => self.wait(wait::Goal::Connect, console),
            Action::WaitSync => self.wait(wait::Goal::Sync, console),
            Action::Events => self.events(console),
            Action::NotYet => Err(usage(format!(
                "{}: this version of urbd has no {} yet",
                self.setting.program, self.verb.name
            ))),
            Action::NewResource
            | Action::NewMinor
            | Action::DelMinor
            | Action::DelResource
            | Action::Attach
            | Action::Detach
            | Action::Connect
            | Action::Disconnect
            | Action::NetOptions
            | Action::DiskOptions
            | Action::ResourceOptions
            | Action::Primary
            | Action::NewCurrentUuid
            | Action::Verify
            | Action::Simple(_)
            | Action::Down => self.command(console),
        }
    }

    /// Gives a command, and reports what came of it.
    fn command(&self, console: &mut Console<'_>) -> Result<i32, Fault> {
        let call = self.call()?;
        let outcome = match self.ask(&call)? {
            Answer::Outcome(outcome) => outcome,
            other => return Err(usage(format!("the daemon answered something else: {other:?}"))),
        };
        // A resource that is not there is down already (S36).
        if self.verb.action == Action::Down && outcome.code == 158 {
            return Ok(exit::OK);
        }
        Ok(self.ended(&outcome, console))
    }

    fn ended(&self, outcome: &Outcome, console: &mut Console<'_>) -> i32 {
        if let Some(text) = report(&self.arguments[0], outcome) {
            console.complain(text);
        }
        exit_code(outcome.code)
    }

    fn call(&self) -> Result<Call, Fault> {
        let options = || self.section_options();
        Ok(match self.verb.action {
            Action::NewResource => Call::NewResource { resource: self.name(), options: options() },
            Action::NewMinor => Call::NewMinor {
                resource: self.name(),
                minor: parse_minor(&self.arguments[1])?,
                volume: parse_volume(&self.arguments[2])?,
            },
            Action::DelMinor => Call::DelMinor { minor: self.minor()? },
            Action::DelResource => Call::DelResource { resource: self.name() },
            Action::Attach => Call::Attach {
                minor: self.minor()?,
                disk: self.arguments[1].clone(),
                meta: self.arguments[2].clone(),
                place: parse_index(&self.arguments[3])?,
                options: options(),
            },
            Action::Detach => Call::Detach { minor: self.minor()?, force: self.is_set("force") },
            Action::Connect => Call::Connect {
                resource: self.name(),
                local: parse_address(&self.arguments[1])?,
                peer: parse_address(&self.arguments[2])?,
                options: options(),
                discard_my_data: self.is_set("discard-my-data"),
                tentative: self.is_set("tentative") || self.is_set("dry-run"),
            },
            Action::Disconnect => {
                let (local, peer) = self.addresses()?;
                Call::Disconnect { local, peer, force: self.is_set("force") }
            }
            Action::NetOptions => {
                let (local, peer) = self.addresses()?;
                let set_defaults = self.is_set("set-defaults");
                Call::NetOptions { local, peer, set_defaults, options: options() }
            }
            Action::DiskOptions => {
                let set_defaults = self.is_set("set-defaults");
                Call::DiskOptions { minor: self.minor()?, set_defaults, options: options() }
            }
            Action::ResourceOptions => {
                let set_defaults = self.is_set("set-defaults");
                Call::ResourceOptions { resource: self.name(), set_defaults, options: options() }
            }
            Action::Primary => {
                let force = self.is_set("force") || self.is_set("overwrite-data-of-peer");
                Call::Primary { minor: self.minor()?, force }
            }
            Action::NewCurrentUuid => {
                Call::NewCurrentUuid { minor: self.minor()?, clear_bitmap: self.is_set("clear-bitmap") }
            }
            Action::Verify => Call::Verify {
                minor: self.minor()?,
                start: self.sectors("start")?,
                stop: self.sectors("stop")?,
            },
            Action::Simple(action) => Call::Minor { action, minor: self.minor()? },
            Action::Down => Call::Down { resource: self.name() },
            Action::Query(_)
            | Action::ShStatus
            | Action::Status
            | Action::Show
            | Action::Proc
            | Action::WaitConnect
            | Action::WaitSync
            | Action::Events
            | Action::NotYet => return Err(usage("this command is no call")),
        })
    }

    fn query(&self, query: Query, console: &mut Console<'_>) -> Result<i32, Fault> {
        let minor = self.minor()?;
        let statuses = self.statuses(None)?;
        let Some((_, volume)) = volume_of(&statuses, minor) else {
            return Ok(self.ended(&Outcome::with(127, "unknown minor"), console));
        };
        let generations = || words_of::generations(volume);
        let text = match query {
            Query::Role => Some(words_of::role(volume)),
            Query::Cstate => Some(words_of::cstate(volume)),
            Query::Dstate => Some(words_of::dstate(volume)),
            Query::GetGi => generations(),
            Query::ShowGi => generations().map(|line| with_legend(&line)),
        };
        match text {
            Some(text) => {
                console.line(text);
                Ok(exit::OK)
            }
            None => {
                console.complain_line("Device has no disk");
                Ok(exit::USAGE)
            }
        }
    }

    fn status(&self, console: &mut Console<'_>) -> Result<i32, Fault> {
        let resource = self.named_resource();
        let statuses = self.statuses(resource)?;
        let json = self.is_set("json");
        if json {
            console.print(status_json::render(&statuses));
        } else {
            let detail = status_text::Detail {
                verbose: self.is_set("verbose"),
                statistics: self.is_set("statistics"),
            };
            console.print(status_text::render(&statuses, detail, TEXT_WIDTH));
        }
        match resource {
            Some(name) if statuses.is_empty() => {
                console.complain_line(format!("{name}: No such resource"));
                Ok(exit::REJECTED)
            }
            _ => Ok(exit::OK),
        }
    }

    fn sh_status(&self, console: &mut Console<'_>) -> Result<i32, Fault> {
        let statuses = self.statuses(None)?;
        let object = self.arguments.first().map_or("all", String::as_str);
        let number = parse_minor(object).ok();
        let mut found = object == "all";
        for resource in &statuses {
            for volume in &resource.volumes {
                if object == "all" || object == resource.name || number == Some(volume.minor) {
                    console.print(words_of::sh_status(resource, volume));
                    found = true;
                }
            }
        }
        if let (false, Some(minor)) = (found, number) {
            // A device that does not exist is a state like any other for a shell script.
            let volume = VolumeStatus { minor, ..unconfigured() };
            console.print(words_of::sh_status(&ResourceStatus::default(), &volume));
            found = true;
        }
        Ok(if found { exit::OK } else { exit::REJECTED })
    }

    fn show(&self, console: &mut Console<'_>) -> Result<i32, Fault> {
        let configs = configured(&self.setting.run_dir, None)?;
        let object = self.named_resource();
        let number = object.and_then(|object| parse_minor(object).ok());
        let wanted = |config: &&ResourceConfig| {
            object.is_none_or(|name| name == config.name)
                || config.volumes.iter().any(|volume| Some(volume.minor) == number)
        };
        for config in configs.iter().filter(wanted) {
            console.print(show::resource(config, self.is_set("show-defaults")));
        }
        if configs.is_empty() && object.is_none() {
            console.line("# No currently configured DRBD found.");
        }
        Ok(exit::OK)
    }

    fn wait(&self, goal: wait::Goal, console: &mut Console<'_>) -> Result<i32, Fault> {
        let minor = self.minor()?;
        let limits = self.limits(console);
        let client = self.client()?;
        Ok(wait::run(client, goal, &[minor], &limits, console)?)
    }

    /// Prints what there is, and then what happens, until the daemon ends.
    fn events(&self, console: &mut Console<'_>) -> Result<i32, Fault> {
        let resource = self.named_resource().map(str::to_owned);
        let (statistics, timestamps) = (self.is_set("statistics"), self.is_set("timestamps"));
        let mut client = self.client()?;
        client.send(&Call::Watch { resource })?;
        let mut known: Option<Objects> = None;
        loop {
            let Answer::Status(statuses) = client.receive(None)? else {
                return Err(usage("the daemon answered something else"));
            };
            let now = Objects::of(&statuses, statistics);
            let lines = known.as_ref().map_or_else(|| now.dump(), |earlier| now.since(earlier));
            let stamp = if timestamps { show::timestamp(SystemTime::now()) + " " } else { String::new() };
            lines.iter().for_each(|line| console.line(format!("{stamp}{line}")));
            // Whoever reads a pipe wants each line now, and ends this by closing it.
            if !console.flush() || self.is_set("now") {
                return Ok(exit::OK);
            }
            known = Some(now);
        }
    }

    fn limits(&self, console: &mut Console<'_>) -> wait::Limits {
        let mut startup = StartupOptions::default();
        for (name, value) in &self.options {
            // Checked when the line was read; `timeout` is ours.
            let _ = startup.set(name, Some(value));
        }
        let overall = self.option("timeout").and_then(|text| text.parse().ok());
        wait::Limits::new(&startup, overall, &mut |notice| console.complain_line(notice))
    }

    fn ask(&self, call: &Call) -> Result<Answer, ClientError> {
        let mut client = self.client()?;
        client.send(call)?;
        client.receive(self.limit)
    }

    fn client(&self) -> Result<Client, ClientError> {
        Client::connect(&self.setting.run_dir)
    }

    fn statuses(&self, resource: Option<&str>) -> Result<Vec<ResourceStatus>, Fault> {
        Ok(statuses_within(&self.setting.run_dir, resource, self.limit)?)
    }

    fn name(&self) -> String {
        self.arguments[0].clone()
    }

    /// The resource named, unless it is `all` or none.
    fn named_resource(&self) -> Option<&str> {
        self.arguments.first().map(String::as_str).filter(|name| *name != "all")
    }

    fn minor(&self) -> Result<u32, Fault> {
        parse_minor(&self.arguments[0])
    }

    fn addresses(&self) -> Result<(SocketAddr, SocketAddr), Fault> {
        Ok((parse_address(&self.arguments[0])?, parse_address(&self.arguments[1])?))
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A place on the device, in sectors.
    fn sectors(&self, name: &str) -> Result<Option<u64>, Fault> {
        let number = Number::new(0, 2_199_023_255_552, Unit::Sectors);
        let place = |text: &str| {
            let parsed = number.parse(text);
            parsed.map_err(|error| usage(format!("Option --{name}: invalid argument '{text}': {error}")))
        };
        self.option(name).map(place).transpose()
    }

    fn is_set(&self, name: &str) -> bool {
        self.option(name) == Some("yes")
    }

    /// The options that belong to the configuration, as opposed to the command.
    fn section_options(&self) -> Options {
        let Some(section) = self.verb.section else { return Vec::new() };
        self.options.iter().filter(|(name, _)| section.option(name).is_some()).cloned().collect()
    }
}

/// Columns of `status`: the real tool uses 80 whenever it does not print on a terminal (L72).
const TEXT_WIDTH: usize = 80;

/// How the daemon's resources, or one of them, were configured.
///
/// # Errors
/// When the daemon does not answer.
pub fn configured(run_dir: &Path, resource: Option<&str>) -> Result<Vec<ResourceConfig>, ClientError> {
    let mut client = Client::connect(run_dir)?;
    match client.call(&Call::Show { resource: resource.map(str::to_owned) })? {
        Answer::Configured(configs) => Ok(configs),
        other => Err(ClientError::Refused(format!("it answered something else: {other:?}"))),
    }
}

/// The states of all resources that the daemon has, or of one.
///
/// # Errors
/// When the daemon does not answer.
pub fn statuses(run_dir: &Path, resource: Option<&str>) -> Result<Vec<ResourceStatus>, ClientError> {
    statuses_within(run_dir, resource, None)
}

fn statuses_within(
    run_dir: &Path,
    resource: Option<&str>,
    limit: Option<Duration>,
) -> Result<Vec<ResourceStatus>, ClientError> {
    let mut client = Client::connect(run_dir)?;
    client.send(&Call::Status { resource: resource.map(str::to_owned) })?;
    match client.receive(limit)? {
        Answer::Status(statuses) => Ok(statuses),
        other => Err(ClientError::Refused(format!("it answered something else: {other:?}"))),
    }
}

/// The volume with this device number.
#[must_use]
pub fn volume_of(statuses: &[ResourceStatus], minor: u32) -> Option<(&ResourceStatus, &VolumeStatus)> {
    statuses.iter().find_map(|resource| {
        resource.volumes.iter().find(|volume| volume.minor == minor).map(|volume| (resource, volume))
    })
}

fn unconfigured() -> VolumeStatus {
    VolumeStatus {
        cstate: "StandAlone".into(),
        role: "Secondary".into(),
        disk: "Diskless".into(),
        ..VolumeStatus::default()
    }
}

/// A device number, also as `/dev/drbd1` (L99).
fn parse_minor(text: &str) -> Result<u32, Fault> {
    let number = text.strip_prefix("/dev/drbd").or_else(|| text.strip_prefix("minor-")).unwrap_or(text);
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| number.parse().ok())
        .flatten()
        .ok_or_else(|| usage(format!("Cannot determine minor device number of device '{text}'")))
}

fn parse_volume(text: &str) -> Result<u16, Fault> {
    text.parse().map_err(|_| usage(format!("{text} is not a valid volume number")))
}

/// Where the metadata is, in `drbdsetup`'s words (C54).
fn parse_index(text: &str) -> Result<MetaPlace, Fault> {
    match text {
        "internal" | "flex-internal" => Ok(MetaPlace::Internal),
        "flexible" | "flex-external" => Ok(MetaPlace::FlexExternal),
        slot => slot.parse().map(MetaPlace::Indexed).map_err(|_| {
            usage(format!("'{text}' is not a valid index: internal, flexible, or the number of a slot"))
        }),
    }
}

/// `[ipv4:]1.2.3.4[:7788]`, `[ipv6:][fd00::1][:7788]` (L59).
fn parse_address(text: &str) -> Result<SocketAddr, Fault> {
    let bare = text.strip_prefix("ipv4:").or_else(|| text.strip_prefix("ipv6:")).unwrap_or(text);
    if let Ok(address) = bare.parse::<SocketAddr>() {
        return Ok(address);
    }
    let ip = bare.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(bare);
    match ip.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, DEFAULT_PORT)),
        Err(_) => Err(usage(format!(
            "'{text}' is not an address such as ipv4:10.10.10.1:7788 or ipv6:[fd00::1]:7788"
        ))),
    }
}

/// The port of an address that names none.
const DEFAULT_PORT: u16 = 7788;

fn help(command: Option<&str>, setting: &Setting, console: &mut Console<'_>) -> i32 {
    match command {
        None => {
            console.print(general_usage(&setting.program));
            exit::OTHER
        }
        Some(name) => match find(name) {
            Some(verb) => {
                console.line(format!("{}.", verb.summary));
                console.print(verb_usage(verb));
                exit::OK
            }
            None => {
                console.print(general_usage(&setting.program));
                console.line("unknown command");
                exit::OTHER
            }
        },
    }
}

fn general_usage(program: &str) -> String {
    let mut text = format!(
        "USAGE: {program} [--run-dir DIR] command {{arguments}} [options]\n\n\
         Gives urbd, the daemon, one command. It reads no configuration file: urbdadm does.\n\nCommands:\n"
    );
    for verb in VERBS.iter().filter(|verb| verb.action != Action::NotYet) {
        text.push_str(&format!("  {:<18} {}\n", verb.name, verb.summary));
    }
    text.push_str("\nThe options of a command: help COMMAND.\n");
    text
}

fn verb_usage(verb: &Verb) -> String {
    let mut text = format!("USAGE:\n urbdsetup {}", verb.name);
    for argument in verb.arguments {
        match argument.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(name) => text.push_str(&format!(" [{{{name}|all}}]")),
            None => text.push_str(&format!(" {{{argument}}}")),
        }
    }
    text.push('\n');
    for option in verb.options() {
        let value = match option.value {
            Value::None => "",
            Value::Required => "=VALUE",
            Value::Optional => "={yes|no}",
        };
        text.push_str(&format!("    [--{}{value}]\n", option.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting() -> Setting {
        Setting { program: "urbdsetup".into(), run_dir: "/nonexistent/urbd".into(), node: "boole".into() }
    }

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn call(line: &str) -> Result<Call, String> {
        let setting = setting();
        let words = words(line);
        let (verb, rest) = find_verb(&words).ok_or("no verb")?;
        let parsed = Line::parse(verb, &rest, &setting).and_then(|line| line.call());
        parsed.map_err(|fault| match fault {
            Fault::Usage(text) => text.lines().next().unwrap_or_default().to_owned(),
            Fault::Client(error) => error.to_string(),
        })
    }

    fn output(line: &str) -> (i32, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&words(line), &setting(), &mut Console::new(&mut out, &mut err));
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_connect_line_of_drbdadm_becomes_the_call_it_means() {
        let line = "connect r0 ipv4:10.10.10.1:7788 ipv6:[fd00::2]:7789 --protocol=C --allow-two-primaries \
                    --discard-my-data --timeout=50 --timeout=60";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            call(line).unwrap(),
            Call::Connect {
                resource: "r0".into(),
                local: "10.10.10.1:7788".parse().unwrap(),
                peer: "[fd00::2]:7789".parse().unwrap(),
                options: vec![
                    pair("protocol", "C"),
                    pair("allow-two-primaries", "yes"),
                    pair("timeout", "60")
                ],
                discard_my_data: true,
                tentative: false,
            }
        );
    }

    #[test]
    fn attach_takes_the_index_in_drbdsetups_words() {
        for (index, place) in [
            ("internal", MetaPlace::Internal),
            ("flexible", MetaPlace::FlexExternal),
            ("3", MetaPlace::Indexed(3)),
        ] {
            let Call::Attach { place: found, minor: 1, .. } =
                call(&format!("attach 1 /a /b {index}")).unwrap()
            else {
                panic!("no attach");
            };
            assert_eq!(found, place);
        }
        assert!(call("attach 1 /a /b slot").is_err());
    }

    #[test]
    fn what_a_command_is_about_may_come_first() {
        assert_eq!(call("1 primary -o").unwrap(), Call::Primary { minor: 1, force: true });
        assert_eq!(call("primary /dev/drbd7 --force=no").unwrap(), Call::Primary { minor: 7, force: false });
    }

    #[test]
    fn wrong_words_are_refused_with_the_tools_texts() {
        for (line, text) in [
            ("new-minor r0 1", "Missing argument 'volume'"),
            ("connect r0 1.2.3.4:1 1.2.3.4:2 --timeout=0", "Option --timeout: invalid argument '0': "),
            ("primary 1 --force=maybe", "Option --force: invalid argument 'maybe': not 'yes' or 'no'"),
            ("primary 1 --froce", "urbdsetup: unrecognized option '--froce'"),
            ("primary 1 2", "Excess argument '2'"),
            ("primary r0", "Cannot determine minor device number of device 'r0'"),
            ("disconnect here there", "'here' is not an address"),
        ] {
            let error = call(line).unwrap_err();
            assert!(error.starts_with(text), "{line}: {error}");
        }
    }

    #[test]
    fn usage_goes_to_stdout_and_a_missing_daemon_is_named() {
        let (code, out, _) = output("");
        assert!(code == 20 && out.starts_with("USAGE:"), "{out}");
        let (code, out, _) = output("frobnicate 1");
        assert!(code == 20 && out.ends_with("invalid command\n"), "{out}");
        assert_eq!(output("help primary").0, 0);
        assert_eq!(output("help frobnicate").0, 20);
        let (code, _, err) = output("role 1");
        assert_eq!(code, 20);
        assert_eq!(
            err,
            "urbdsetup: the daemon does not answer on /nonexistent/urbd/control.sock: is urbd running?\n"
        );
        let (code, _, err) = output("--run-dir=/elsewhere down r0");
        assert!(code == 20 && err.contains("/elsewhere/control.sock"), "{err}");
    }
}
