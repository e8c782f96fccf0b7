//! `urbdadm`: reads the configuration, works out what it means on this node, and gives the commands.
//! `drbdadm`'s words, texts and exit codes (L15 to L58).

use std::io::IsTerminal;

use super::adm_request::{Request, UsageFault};
use super::adm_run::{Limits, Manner, Runner, Stop};
use super::adm_verbs::{Action, Print, Scope, Verb};
use super::codes::exit;
use super::config_files::ConfigFiles;
use super::console::{Console, Setting};
use super::plan::{self, Call, Program, Resource, Volume};
use super::{adm_clap, adm_help, adm_links, adm_target, discarded, setup};
use crate::config::dump::Dump;
use crate::config::options::GlobalOptions;
use crate::config::shell::{VolumeQuery, mod_parms, resources as resource_names, udev};
use crate::config::{Config, Node};
use crate::node::status::ResourceStatus;
use crate::observe::explain::{Names, explain};
use adm_target::{Target, TargetFault};

/// Runs `urbdadm` with these words; the exit code.
pub fn run(words: &[String], setting: &Setting, console: &mut Console<'_>) -> i32 {
    let request = match Request::parse(words, setting) {
        Ok(request) => request,
        Err(fault) => return usage(&fault, setting, console),
    };
    if request.version {
        console.print(adm_help::version());
        return exit::OK;
    }
    if request.help {
        console.print(adm_help::help(request.verb, &setting.program));
        return exit::OK;
    }
    let Some(verb) = request.verb else {
        console.print(adm_help::help(None, &setting.program));
        return if request.asks_for_help { exit::OK } else { missing("No command specified", console) };
    };
    match verb.action {
        Action::HiddenCommands => console.print(adm_help::hidden_commands()),
        Action::Completions => return completions(&request, console),
        Action::Man => console.print(adm_clap::manual()),
        _ => return with_config(verb, &request, console),
    }
    exit::OK
}

fn usage(fault: &UsageFault, setting: &Setting, console: &mut Console<'_>) -> i32 {
    console.complain_line(format!("{}: {fault}", setting.program));
    exit::USAGE
}

fn missing(what: &str, console: &mut Console<'_>) -> i32 {
    console.line(format!("\n{what}"));
    exit::USAGE
}

fn completions(request: &Request, console: &mut Console<'_>) -> i32 {
    match request.targets.first().and_then(|shell| adm_clap::completions(shell)) {
        Some(script) => {
            console.print(script);
            exit::OK
        }
        None => missing("Name a shell: bash, elvish, fish, powershell or zsh", console),
    }
}

fn with_config(verb: &'static Verb, request: &Request, console: &mut Console<'_>) -> i32 {
    let setting = &request.setting;
    let needs_target = !matches!(verb.scope, Scope::None | Scope::AllByDefault);
    if needs_target && request.targets.is_empty() {
        console.print(adm_help::help(Some(verb), &setting.program));
        return missing("No resource names specified", console);
    }
    if verb.scope == Scope::None && !request.targets.is_empty() {
        console.complain_line("This command will ignore resource names!");
    }
    if verb.action == Action::Proc && !request.dry_run {
        return setup::run(&["proc".to_owned()], setting, console);
    }
    if verb.action == Action::Discarded {
        return discarded::list(setting, console);
    }
    let files = adm_links::files(verb, request);
    let config = match files.load() {
        Ok(config) => config,
        Err(error) => {
            let text = match &error {
                crate::config::LoadError::Invalid(report) => report.render(std::io::stderr().is_terminal()),
                open @ crate::config::LoadError::Open { .. } => format!("{open}\n"),
            };
            console.complain(text);
            return i32::from(error.exit_code());
        }
    };
    if tells_warnings(verb.action) && !config.warnings.is_empty() {
        console.complain(config.warnings.to_string());
    }
    let node = Node::named(&setting.node).with_addresses(adm_target::floating_here(&config));
    let mut adm = Adm { verb, request, config: &config, node: &node, files: &files, console };
    match adm.run() {
        Ok(code) | Err(Stop(code)) => code,
    }
}

/// A command about to be carried out.
struct Adm<'a, 'b> {
    verb: &'static Verb,
    request: &'a Request,
    config: &'a Config,
    node: &'a Node,
    files: &'a ConfigFiles,
    console: &'a mut Console<'b>,
}

impl<'a, 'b> Adm<'a, 'b> {
    fn run(&mut self) -> Result<i32, Stop> {
        if let Some(modern) = modern_name(self.verb.name) {
            let (program, old) = (&self.request.setting.program, self.verb.name);
            self.console
                .complain_line(format!("'{program} {old}' is deprecated, use '{program} {modern}' instead."));
        }
        match self.verb.action {
            Action::Print(Print::Nothing) => return Ok(exit::OK),
            Action::Print(Print::Resources) => {
                self.console.print(resource_names(self.config, self.node));
                return Ok(exit::OK);
            }
            Action::Print(Print::ModParms) => {
                self.console.print(mod_parms(self.config, self.node));
                return Ok(exit::OK);
            }
            Action::Proc => {
                let call =
                    Call { program: Program::Setup, words: vec!["proc".into()], resource: String::new() };
                return self.runner(&[]).run(&call);
            }
            Action::Print(print @ (Print::Dump | Print::DumpXml)) if self.names_all() => {
                let dump = self.dump();
                let text = if print == Print::Dump { dump.all() } else { dump.xml_all() };
                self.console.print(text);
                return Ok(exit::OK);
            }
            Action::WaitAll => return self.wait_all(),
            Action::ShStatus => return self.sh_status(),
            _ => {}
        }
        if matches!(self.verb.action, Action::Up | Action::Adjust) {
            return self.staged();
        }
        self.target_by_target()
    }

    fn names_all(&self) -> bool {
        self.request.targets.first().is_none_or(|first| first == "all")
    }

    fn dump(&self) -> Dump<'a> {
        let expanded = self.request.verbose || self.request.dry_run;
        Dump { config: self.config, node: self.node, expanded }
    }

    /// Targets are handled left to right; an unknown one ends it (L27).
    fn target_by_target(&mut self) -> Result<i32, Stop> {
        let mut worst = exit::OK;
        if self.names_all() {
            let targets = match adm_target::all(self.config, self.node, self.request.peer.as_deref()) {
                Ok(targets) => targets,
                Err(fault) => return Ok(self.refuse(&fault)),
            };
            for target in targets {
                worst = worst.max(self.one(&target)?);
            }
            return Ok(worst);
        }
        for word in &self.request.targets {
            match self.target(word) {
                Ok(target) => worst = worst.max(self.one(&target)?),
                Err(fault) => return Ok(self.refuse(&fault).max(worst)),
            }
        }
        Ok(worst)
    }

    fn target(&self, word: &str) -> Result<Target<'a>, TargetFault> {
        let target = adm_target::find(word, self.config, self.node, self.request.peer.as_deref())?;
        target.fits(self.verb)?;
        Ok(target)
    }

    fn refuse(&mut self, fault: &TargetFault) -> i32 {
        self.console.complain_line(fault.to_string());
        fault.exit_code()
    }

    /// `up` and `adjust`: stages over all targets (L42, L46a).
    fn staged(&mut self) -> Result<i32, Stop> {
        let found = if self.names_all() {
            adm_target::all(self.config, self.node, self.request.peer.as_deref())
        } else {
            self.request.targets.iter().map(|word| self.target(word)).collect()
        };
        let targets = match found.and_then(|targets| self.can_connect(targets)) {
            Ok(targets) => targets,
            Err(fault) => return Ok(self.refuse(&fault)),
        };
        let extra = &self.request.extra;
        let stages = if self.verb.action == Action::Up {
            let resources: Vec<_> = targets.iter().map(|target| (&target.view, target.only)).collect();
            plan::up(&resources, extra)
        } else {
            let resources: Vec<_> = targets.iter().map(|target| &target.view).collect();
            let running: Vec<_> = resources.iter().map(|resource| self.running(&resource.name)).collect();
            plan::adjust(&resources, &running, extra)
        };
        let titles = (self.verb.name == "adjust-with-progress").then_some(&ADJUST_TITLES[..]);
        let code = self.runner(&[]).stages(&stages, titles)?;
        if !self.request.dry_run {
            let views = targets.iter().map(|target| &target.view);
            adm_links::register(views, self.config, self.files, &self.request.setting);
        }
        Ok(code)
    }

    /// Each of these resources has a peer, and this machine its address (C83, C92).
    fn can_connect(&self, targets: Vec<Target<'a>>) -> Result<Vec<Target<'a>>, TargetFault> {
        for target in &targets {
            target.has_peer()?;
            if !self.request.dry_run && !self.config.global.options.disable_ip_verification {
                target.has_address()?;
            }
        }
        Ok(targets)
    }

    /// How the daemon has it configured; `None` also when there is no daemon.
    fn running(&self, resource: &str) -> Option<crate::control::messages::ResourceConfig> {
        setup::configured(&self.request.setting.run_dir, Some(resource)).ok()?.into_iter().next()
    }

    /// Everything but `up` and `adjust`, for one target.
    fn one(&mut self, target: &Target<'a>) -> Result<i32, Stop> {
        let resource = &target.view;
        let extra = self.request.extra.words();
        let calls: Vec<Call> = match self.verb.action {
            Action::Minor => {
                target.volumes().map(|volume| resource.minor(self.verb.name, volume, extra)).collect()
            }
            Action::MinorAs(name) => {
                target.volumes().map(|volume| resource.minor(name, volume, extra)).collect()
            }
            Action::DiskOptions => {
                target.volumes().map(|volume| resource.minor("disk-options", volume, extra)).collect()
            }
            Action::NewMinor => target.volumes().map(|volume| resource.new_minor(volume)).collect(),
            Action::Meta | Action::SetGi => {
                target.volumes().map(|volume| resource.meta(volume, self.verb.name, extra)).collect()
            }
            Action::Attach => target.volumes().flat_map(|volume| self.attach(resource, volume)).collect(),
            Action::Wait => {
                let options: Vec<_> = resource.startup.iter().chain(extra).cloned().collect();
                target.volumes().map(|volume| resource.minor(self.verb.name, volume, &options)).collect()
            }
            Action::NewResource => vec![resource.new_resource(&self.request.extra)],
            Action::Resource => vec![resource.setup([self.verb.name, &resource.name], extra)],
            Action::Connect | Action::Connection => match self.connection(target) {
                Ok(call) => vec![call],
                Err(fault) => return Ok(self.refuse(&fault)),
            },
            Action::MinorOrMeta => return self.minor_or_meta(target),
            Action::Resize => return self.resize(target),
            Action::CheckResize => return self.check_resize(target),
            Action::CreateMd => return self.create_md(target),
            Action::Explain => return Ok(self.explain(target)),
            Action::Handler => return self.handler(target),
            Action::BecomePrimary => return self.become_primary(target),
            Action::Print(print) => return Ok(self.print(print, target)),
            Action::Up
            | Action::Adjust
            | Action::WaitAll
            | Action::ShStatus
            | Action::Proc
            | Action::Discarded
            | Action::HiddenCommands
            | Action::Completions
            | Action::Man => return Ok(exit::OK),
        };
        let code = self.runner(&[]).in_turn(calls)?;
        self.keep_links(target, code);
        Ok(code)
    }

    /// `explain`: the state in words.
    fn explain(&mut self, target: &Target<'a>) -> i32 {
        let setting = &self.request.setting;
        let name = target.view.name.as_str();
        let status = match setup::statuses(&setting.run_dir, Some(name)) {
            Ok(statuses) => statuses.into_iter().next(),
            Err(error) => {
                self.console.complain_line(error.to_string());
                return exit::OTHER;
            }
        };
        let status = status.unwrap_or_else(|| ResourceStatus { name: name.to_owned(), ..Default::default() });
        let (here, there) = (target.host.label(), target.peer_name());
        let names = Names { here: &here, there: &there, adm: &setting.program };
        self.console.print(explain(&status, names));
        exit::OK
    }

    fn keep_links(&self, target: &Target<'a>, code: i32) {
        if self.request.dry_run || code != exit::OK {
            return;
        }
        let setting = &self.request.setting;
        match self.verb.name {
            "down" => adm_links::unregister(&target.view, setting),
            "new-resource" | "new-minor" | "sh-new-minor" => {
                adm_links::register(std::iter::once(&target.view), self.config, self.files, setting);
            }
            _ => {}
        }
    }

    fn attach(&self, resource: &Resource, volume: &Volume) -> Vec<Call> {
        vec![resource.meta(volume, "apply-al", &[]), resource.attach(volume, &self.request.extra)]
    }

    fn connection(&self, target: &Target<'a>) -> Result<Call, TargetFault> {
        target.has_peer()?;
        let resource = &target.view;
        let call = if self.verb.action == Action::Connect {
            if !self.request.dry_run && !self.config.global.options.disable_ip_verification {
                target.has_address()?;
            }
            resource.connect(&self.request.extra)
        } else {
            resource.connection(self.verb.name, self.request.extra.words())
        };
        call.ok_or(TargetFault::NoPeer { resource: resource.name.clone() })
    }

    fn minor_or_meta(&mut self, target: &Target<'a>) -> Result<i32, Stop> {
        let extra = self.request.extra.words();
        for volume in target.volumes() {
            let first = target.view.minor(self.verb.name, volume, extra);
            let second = target.view.meta(volume, self.verb.name, extra);
            let code = self.runner(&[]).with_fallback(&first, &second)?;
            if code != exit::OK {
                return Ok(code);
            }
        }
        Ok(exit::OK)
    }

    /// A failing `check-resize` is reported and forgiven (L39a).
    fn resize(&mut self, target: &Target<'a>) -> Result<i32, Stop> {
        for volume in target.volumes() {
            let resize = target.view.resize(volume, self.request.extra.words());
            let code = self.runner(&[]).in_turn([resize])?;
            if code != exit::OK {
                return Ok(code);
            }
            self.runner(&[]).run(&target.view.minor("check-resize", volume, &[]))?;
        }
        Ok(exit::OK)
    }

    /// What cannot be resized now is noted on the disk (L39a).
    fn check_resize(&mut self, target: &Target<'a>) -> Result<i32, Stop> {
        let mut worst = exit::OK;
        for volume in target.volumes() {
            let resize = target.view.resize(volume, self.request.extra.words());
            let check = target.view.minor("check-resize", volume, &[]);
            if self.request.dry_run {
                self.runner(&[]).in_turn([resize, check])?;
            } else if self.runner(&[]).captured(&resize)?.is_some() {
                self.runner(&[]).run(&check)?;
            } else {
                let on_disk = target.view.meta(volume, "check-resize", &[]);
                worst = worst.max(self.runner(&[]).in_turn([on_disk])?);
            }
        }
        Ok(worst)
    }

    /// The new metadata keeps the identity of the device it is on (L33).
    fn create_md(&mut self, target: &Target<'a>) -> Result<i32, Stop> {
        let mut worst = exit::OK;
        for volume in target.volumes() {
            let words = self.request.extra.words();
            let create = target.view.meta(volume, "create-md", words);
            if self.request.dry_run {
                self.runner(&[]).run(&create)?;
                continue;
            }
            let read = target.view.meta(volume, "read-dev-uuid", &[]);
            let old =
                self.runner(&[]).captured(&read)?.filter(|uuid| uuid.bytes().any(|digit| digit != b'0'));
            let code = self.runner(&[]).run(&create)?;
            worst = worst.max(code);
            if code != exit::OK {
                continue;
            }
            let Some(uuid) = old.or_else(random_uuid) else { continue };
            let write = target.view.meta(volume, "write-dev-uuid", &[uuid]);
            worst = worst.max(self.runner(&[]).run(&write)?);
        }
        Ok(worst)
    }

    fn handler(&mut self, target: &Target<'a>) -> Result<i32, Stop> {
        let name = if self.verb.name == "outdate-peer" { "fence-peer" } else { self.verb.name };
        let Some(text) = target.config.handlers.get(name) else { return Ok(exit::OK) };
        let environment = target.environment(&self.config.path);
        let words = vec!["-c".to_owned(), text.clone()];
        let call = Call { program: Program::Shell, words, resource: target.view.name.clone() };
        self.runner(&environment).run(&call)
    }

    /// Where `become-primary-on` names this node: up to five tries, a second apart (L56).
    fn become_primary(&mut self, target: &Target<'a>) -> Result<i32, Stop> {
        let wish = &target.config.startup.become_primary_on;
        if !target.host.names.iter().any(|name| wish.includes(name)) {
            return Ok(exit::OK);
        }
        for volume in target.volumes() {
            let call = target.view.minor("primary", volume, self.request.extra.words());
            let mut code = self.runner(&[]).run(&call)?;
            for _ in 1..5 {
                if code == exit::OK {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_secs(1));
                code = self.runner(&[]).run(&call)?;
            }
            if code != exit::OK {
                return Ok(code);
            }
        }
        Ok(exit::OK)
    }

    /// Waits for all peers with the configured patience; a boot goes on whatever comes of it (L89).
    fn wait_all(&mut self) -> Result<i32, Stop> {
        let targets = adm_target::all(self.config, self.node, None).unwrap_or_default();
        for target in &targets {
            for volume in target.volumes() {
                let call = target.view.minor("wait-connect", volume, &target.view.startup);
                self.runner(&[]).run(&call)?;
            }
        }
        Ok(exit::OK)
    }

    /// The state of everything, for a shell (L57).
    fn sh_status(&mut self) -> Result<i32, Stop> {
        if !self.request.dry_run {
            self.console.print(adm_help::sh_status_head(&self.config.path));
        }
        for target in adm_target::all(self.config, self.node, None).unwrap_or_default() {
            let (file, line) = &target.config.defined_at;
            self.console.print(format!(
                "_conf_res_name={}\n_conf_file_line={file}:{line}\n\n\
                 _stacked_on=\n_stacked_on_device=\n_stacked_on_minor=\n",
                target.view.name
            ));
            for volume in target.volumes() {
                self.console.line(format!("_conf_volume={}", volume.volume));
                let call = target.view.minor("sh-status", volume, &[]);
                let code = self.runner(&[]).run(&call)?;
                if code != exit::OK {
                    self.console.complain_line(format!("command sh-status exited with code {code}"));
                    return Ok(code);
                }
            }
        }
        Ok(exit::OK)
    }

    fn print(&mut self, print: Print, target: &Target<'a>) -> i32 {
        let query = match print {
            Print::Device => VolumeQuery::Device,
            Print::Minor => VolumeQuery::Minor,
            Print::LowerDevice => VolumeQuery::LowerDevice,
            Print::MetaDevice => VolumeQuery::MetaDevice,
            Print::MetaIndex => VolumeQuery::MetaIndex,
            Print::Ip => VolumeQuery::Ip,
            Print::Resource => {
                self.console.line(&target.view.name);
                return exit::OK;
            }
            Print::Udev => {
                for volume in target.config_volumes() {
                    self.console.print(udev(self.config, target.config, target.host, volume));
                }
                return exit::OK;
            }
            Print::Dump => {
                self.console.print(self.dump().resource(target.config));
                return exit::OK;
            }
            Print::DumpXml => {
                self.console.print(self.dump().xml_resource(target.config));
                return exit::OK;
            }
            Print::LowerResource => {
                self.console.complain_line("sh-lower-resource only available in stacked mode");
                return exit::USAGE;
            }
            Print::Nothing | Print::Resources | Print::ModParms => return exit::OK,
        };
        for volume in target.config_volumes() {
            match query.answer(target.host, volume) {
                Some(line) => self.console.line(line),
                None => {
                    self.console.complain_line(format!(
                        "The {} command requires a local disk, but the configuration gives none.",
                        self.verb.name
                    ));
                    return exit::REJECTED;
                }
            }
        }
        exit::OK
    }

    fn runner(&mut self, environment: &[(String, String)]) -> Runner<'_, 'b> {
        let request = self.request;
        let manner = Manner {
            dry_run: request.dry_run,
            verbose: request.verbose,
            variable: request.variable.clone(),
            setup: request.setup_program.clone(),
            meta: request.meta_program.clone(),
            limits: limits(&self.config.global.options),
            environment: environment.to_vec(),
        };
        Runner { manner, setting: &request.setting, console: self.console }
    }
}

/// The commands that apply the configuration, or check it, tell what is doubtful about it; the others
/// would only repeat it.
const fn tells_warnings(action: Action) -> bool {
    matches!(
        action,
        Action::Up | Action::Adjust | Action::Print(Print::Dump | Print::DumpXml | Print::Nothing)
    )
}

/// What a command is called today, if it has an old name (L35).
fn modern_name(verb: &str) -> Option<&'static str> {
    match verb {
        "state" => Some("role"),
        "outdate-peer" => Some("fence-peer"),
        _ => None,
    }
}

/// The titles of `adjust`'s stages (L49).
const ADJUST_TITLES: [&str; 5] = ["create res", "adjust res", "prepare disk", "adjust disk", "adjust net"];

/// The limits of the `global` section; 0 is for ever (C40).
fn limits(options: &GlobalOptions) -> Limits {
    let limit = |seconds: u32| (seconds != 0).then(|| std::time::Duration::from_secs(seconds.into()));
    Limits { short: limit(options.cmd_timeout_short_s), medium: limit(options.cmd_timeout_medium_s) }
}

/// 16 hexadecimal digits; `None` without a source of randomness.
fn random_uuid() -> Option<String> {
    getrandom::u64().ok().map(|uuid| format!("{uuid:016X}"))
}
