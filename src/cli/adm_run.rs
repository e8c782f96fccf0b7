//! Carries out the calls of a plan, or prints them (L8 to L10, L33, L38, L39, L43).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::codes::exit;
use super::console::{Console, Setting};
use super::plan::{Call, Program, Stage, Weight};
use super::{meta, setup, shell};

/// How calls are carried out.
#[derive(Clone, Debug, Default)]
pub(super) struct Manner {
    /// Print them, do not carry them out.
    pub(super) dry_run: bool,
    /// Print them, then carry them out.
    pub(super) verbose: bool,
    /// Print this variable with the resource's name before each (L38).
    pub(super) variable: Option<String>,
    /// The program in the place of `urbdsetup`.
    pub(super) setup: Option<String>,
    /// The program in the place of `urbdmeta`.
    pub(super) meta: Option<String>,
    /// How long calls may take.
    pub(super) limits: Limits,
    /// Variables for handlers.
    pub(super) environment: Vec<(String, String)>,
}

/// How long calls of each kind may take (L10); `None`: as long as they want.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// The quick ones.
    pub(super) short: Option<Duration>,
    /// Those that touch disks.
    pub(super) medium: Option<Duration>,
}

/// Carries out calls.
pub(super) struct Runner<'a, 'b> {
    /// How.
    pub(super) manner: Manner,
    /// Where the daemon is.
    pub(super) setting: &'a Setting,
    /// Where to print.
    pub(super) console: &'a mut Console<'b>,
}

/// Ends everything at once, with this exit code: a call ran out of time, or failed badly (L8, L10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop(pub i32);

impl Runner<'_, '_> {
    /// Runs calls until one fails; its exit code, or 0.
    ///
    /// # Errors
    /// [`Stop`] after an exit code of 20 or more.
    pub(super) fn in_turn(&mut self, calls: impl IntoIterator<Item = Call>) -> Result<i32, Stop> {
        for call in calls {
            let code = self.run(&call)?;
            if code >= exit::OTHER {
                return Err(Stop(code));
            }
            if code != exit::OK {
                return Ok(code);
            }
        }
        Ok(exit::OK)
    }

    /// Runs one call; its exit code, reported if it is 10 or more (L9).
    ///
    /// # Errors
    /// [`Stop`] when it runs out of time.
    pub(super) fn run(&mut self, call: &Call) -> Result<i32, Stop> {
        self.announce(call);
        if self.manner.dry_run {
            return Ok(exit::OK);
        }
        let code = self.execute(call)?;
        self.report(call, code);
        Ok(code)
    }

    /// Asks the daemon first, and the disk if that fails (L39, L39b).
    ///
    /// # Errors
    /// [`Stop`] when a call runs out of time, or the second fails badly.
    pub(super) fn with_fallback(&mut self, first: &Call, second: &Call) -> Result<i32, Stop> {
        self.announce(first);
        if self.manner.dry_run {
            self.announce(second);
            return Ok(exit::OK);
        }
        let outdate = first.words.first().is_some_and(|verb| verb == "outdate");
        let mut held_back = Vec::new();
        let mut console = self.console.holding_back(&mut held_back);
        let mut quiet = Runner { manner: self.manner.clone(), setting: self.setting, console: &mut console };
        let code = quiet.execute(first)?;
        let is_final = match code {
            exit::OK | exit::NO_DATA => true,
            exit::REFUSED => !outdate,
            _ => false,
        };
        if outdate && code == exit::TIMEOUT {
            // The disk is the daemon's; the offline tool would find no more in it than the daemon did.
            self.console.complain_line(meta::error::CommandError::Inconsistent.to_string());
            return Ok(code);
        }
        if is_final {
            if code != exit::OK && !outdate {
                self.console.complain(held_back);
                self.report(first, code);
            }
            return Ok(code);
        }
        self.in_turn([second.clone()])
    }

    /// Runs stages: all calls of one, then the next unless one failed (L43). With `titles`, tells
    /// what is done, and goes on after a failure (L49).
    ///
    /// # Errors
    /// [`Stop`] when a call runs out of time.
    pub(super) fn stages(&mut self, stages: &[Stage], titles: Option<&[&str]>) -> Result<i32, Stop> {
        let titles = titles.filter(|_| !self.manner.dry_run);
        let mut code = exit::OK;
        let mut given_up: BTreeSet<&str> = BTreeSet::new();
        if titles.is_some() {
            self.console.print("[");
        }
        for (number, stage) in stages.iter().enumerate() {
            let title = titles.and_then(|titles| titles.get(number)).filter(|_| !stage.is_empty());
            if let Some(title) = title {
                self.console.print(format!("\n{title:>15}:"));
            }
            if self.stage(stage, &mut given_up, title.is_some())? {
                code = exit::USAGE;
                if titles.is_none() {
                    break;
                }
            }
        }
        if titles.is_some() {
            self.console.print("\n]\n");
        }
        Ok(code)
    }

    /// Whether a call of the stage failed.
    fn stage<'s>(
        &mut self,
        stage: &'s Stage,
        given_up: &mut BTreeSet<&'s str>,
        tell: bool,
    ) -> Result<bool, Stop> {
        let mut failed = false;
        let mut unclean = BTreeSet::new();
        let mut told: BTreeSet<(&str, bool)> = BTreeSet::new();
        for staged in stage {
            let resource = staged.call.resource.as_str();
            let skipped = given_up.contains(resource);
            if tell && told.insert((resource, skipped)) {
                let text = if skipped { format!(" [skipped:{resource}]") } else { format!(" {resource}") };
                self.console.print(text);
            }
            if skipped {
                let verb = verb(&staged.call);
                self.console.complain_line(format!(
                    "{}: {verb} {resource}: skipped due to earlier error",
                    self.setting.program
                ));
                continue;
            }
            if matches!(staged.weight, Weight::Attach(minor) if unclean.contains(&minor)) {
                continue;
            }
            let code = self.run(&staged.call)?;
            if code == exit::OK {
                continue;
            }
            failed = true;
            if tell {
                self.console.print(format!(":failed({}:{code})", verb(&staged.call)));
            }
            match staged.weight {
                Weight::Prerequisite => drop(given_up.insert(resource)),
                Weight::ApplyAl(minor) => drop(unclean.insert(minor)),
                Weight::Attach(_) | Weight::Plain => {}
            }
        }
        Ok(failed)
    }

    /// Runs an on-disk call and returns what it printed, nothing else; `None` if it fails.
    ///
    /// # Errors
    /// [`Stop`] when it runs out of time.
    pub(super) fn captured(&mut self, call: &Call) -> Result<Option<String>, Stop> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console::new(&mut out, &mut err);
        let mut quiet = Runner { manner: self.manner.clone(), setting: self.setting, console: &mut console };
        let code = quiet.execute(call)?;
        Ok((code == exit::OK).then(|| String::from_utf8_lossy(&out).trim().to_owned()))
    }

    /// Prints a call if calls are to be printed.
    pub(super) fn announce(&mut self, call: &Call) {
        if let Some(variable) = &self.manner.variable {
            self.console.print(format!("{variable}="));
            self.console.line(shell::escape(&call.resource));
        }
        if self.manner.dry_run || self.manner.verbose {
            let line = shell::join_escaped(self.words(call));
            self.console.line(line);
        }
    }

    fn report(&mut self, call: &Call, code: i32) {
        if code >= exit::REJECTED {
            let line = self.raw_line(call);
            self.console.complain_line(format!("Command '{line}' terminated with exit code {code}"));
        }
    }

    /// The call's words behind the name of its program.
    fn words<'c>(&'c self, call: &'c Call) -> impl Iterator<Item = &'c str> {
        let name = match call.program {
            Program::Setup => self.manner.setup.as_deref().unwrap_or(SETUP),
            Program::Meta => self.manner.meta.as_deref().unwrap_or(META),
            Program::Shell => SHELL,
        };
        std::iter::once(name).chain(call.words.iter().map(String::as_str))
    }

    /// The same without escapes, for messages.
    fn raw_line(&self, call: &Call) -> String {
        self.words(call).collect::<Vec<_>>().join(" ")
    }

    fn execute(&mut self, call: &Call) -> Result<i32, Stop> {
        let replaced = match call.program {
            Program::Setup => self.manner.setup.clone(),
            Program::Meta => self.manner.meta.clone(),
            Program::Shell => Some(SHELL.to_owned()),
        };
        if let Some(program) = replaced {
            return Ok(self.spawn(&program, call));
        }
        match call.program {
            Program::Setup => self.set_up(call),
            Program::Meta | Program::Shell => Ok(self.on_disk(call)),
        }
    }

    /// A call to the daemon, from within this process.
    fn set_up(&mut self, call: &Call) -> Result<i32, Stop> {
        let limit = limit_of(verb(call), &self.manner.limits);
        if let Some(code) = setup::run_within(&call.words, self.setting, limit, self.console) {
            return Ok(code);
        }
        let line = self.raw_line(call);
        let seconds = limit.map_or(0, |limit| limit.as_secs());
        self.console.complain_line(format!("Command '{line}' did not terminate within {seconds} seconds"));
        Err(Stop(exit::OTHER))
    }

    /// A call about metadata, from within this process.
    fn on_disk(&mut self, call: &Call) -> i32 {
        let words = std::iter::once(META).chain(call.words.iter().map(String::as_str)).map(OsString::from);
        let (out, err) = self.console.streams();
        i32::from(meta::run_with(words, out, err))
    }

    /// A program of its own.
    fn spawn(&mut self, program: &str, call: &Call) -> i32 {
        self.console.flush();
        let mut command = Command::new(program);
        command.args(&call.words).stdout(Stdio::piped()).stderr(Stdio::piped());
        if call.program == Program::Shell {
            command.envs(self.manner.environment.iter().map(|(name, value)| (name, value)));
        }
        match command.output() {
            Ok(output) => {
                let (out, err) = self.console.streams();
                let _ = out.write_all(&output.stdout);
                let _ = err.write_all(&output.stderr);
                output.status.code().unwrap_or(exit::OTHER)
            }
            Err(error) => {
                self.console
                    .complain_line(format!("{}: cannot run {program}: {error}", self.setting.program));
                exit::OTHER
            }
        }
    }
}

/// What `-d` calls the helpers, as `drbdadm` of 8.4 does (L32). `-s` and `-m` give them other names.
const SETUP: &str = "drbdsetup-84";
const META: &str = "drbdmeta";
const SHELL: &str = "/bin/sh";

/// The command within a call.
fn verb(call: &Call) -> &str {
    let at = match call.program {
        Program::Setup | Program::Shell => 0,
        Program::Meta => 4,
    };
    call.words.get(at).map_or("", String::as_str)
}

/// How long an `urbdsetup` call may take (L10).
fn limit_of(verb: &str, limits: &Limits) -> Option<Duration> {
    match verb {
        "connect" | "net-options" | "disconnect" | "new-resource" | "new-minor" | "resource-options"
        | "resize" | "verify" | "pause-sync" | "resume-sync" | "suspend-io" | "resume-io" | "role"
        | "cstate" | "status" | "new-current-uuid" => limits.short,
        "attach" | "disk-options" | "detach" | "primary" | "secondary" | "down" | "invalidate-remote" => {
            limits.medium
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Staged;
    use super::*;

    /// A stand-in helper that prints its words, and fails with the code that follows the word `exit`.
    const HELPER: &str = "/bin/echo";

    fn call(program: Program, words: &str, resource: &str) -> Call {
        let words = words.split_whitespace().map(str::to_owned).collect();
        Call { program, words, resource: resource.into() }
    }

    fn shell(script: &str, resource: &str) -> Call {
        Call { program: Program::Shell, words: vec!["-c".into(), script.into()], resource: resource.into() }
    }

    fn with_runner<T>(manner: &Manner, run: impl FnOnce(&mut Runner<'_, '_>) -> T) -> (T, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let setting =
            Setting { program: "urbdadm".into(), run_dir: "/nonexistent".into(), node: "boole".into() };
        let result = {
            let mut console = Console::new(&mut out, &mut err);
            run(&mut Runner { manner: manner.clone(), setting: &setting, console: &mut console })
        };
        (result, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_dry_run_prints_what_a_live_run_would_do() {
        let manner = Manner { dry_run: true, variable: Some("res".into()), ..Manner::default() };
        let (code, out, _) = with_runner(&manner, |runner| {
            runner.with_fallback(
                &call(Program::Setup, "dstate 1", "my res"),
                &call(Program::Meta, "1 v08 /dev/a internal dstate", "my res"),
            )
        });
        assert_eq!(code, Ok(0));
        let expected =
            "res=my\\ res\ndrbdsetup-84 dstate 1\nres=my\\ res\ndrbdmeta 1 v08 /dev/a internal dstate\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_helper_of_ones_own_takes_the_place_of_ours_also_in_what_is_printed() {
        let manner = Manner { verbose: true, setup: Some(HELPER.into()), ..Manner::default() };
        let (code, out, _) = with_runner(&manner, |runner| runner.run(&call(Program::Setup, "role 1", "r0")));
        assert_eq!((code, out.as_str()), (Ok(0), "/bin/echo role 1\nrole 1\n"));
    }

    #[test]
    fn the_first_failure_ends_a_turn_and_a_bad_one_everything() {
        let manner = Manner::default();
        let scripts = |codes: &[i32]| {
            codes.iter().map(|code| shell(&format!("echo {code}; exit {code}"), "r0")).collect::<Vec<_>>()
        };
        let (code, out, err) = with_runner(&manner, |runner| runner.in_turn(scripts(&[0, 11, 0])));
        assert_eq!((code, out.as_str()), (Ok(11), "0\n11\n"));
        assert_eq!(err, "Command '/bin/sh -c echo 11; exit 11' terminated with exit code 11\n");
        let (code, _, err) = with_runner(&manner, |runner| runner.in_turn(scripts(&[5])));
        assert_eq!((code, err.as_str()), (Ok(5), ""), "5 passes silently");
        let (code, ..) = with_runner(&manner, |runner| runner.in_turn(scripts(&[20])));
        assert_eq!(code, Err(Stop(20)));
    }

    #[test]
    fn the_disk_is_asked_where_the_daemon_cannot_tell() {
        let manner = Manner::default();
        let answer = |code: i32| {
            with_runner(&manner, |runner| {
                runner.with_fallback(
                    &shell(&format!("echo daemon >&2; exit {code}"), "r0"),
                    &shell("echo disk", "r0"),
                )
            })
        };
        let (code, out, err) = answer(20);
        assert_eq!((code, out.as_str(), err.as_str()), (Ok(0), "disk\n", ""));
        let (code, out, err) = answer(11);
        assert_eq!((code, out.as_str()), (Ok(11), ""));
        assert!(err.starts_with("daemon\nCommand '"), "{err}");
    }

    #[test]
    fn in_a_stage_a_failure_stops_what_depends_on_it_and_the_stages_behind() {
        let staged = |script: &str, resource, weight| Staged { call: shell(script, resource), weight };
        let first = vec![
            staged("echo r0 1; exit 10", "r0", Weight::Prerequisite),
            staged("echo r0 2", "r0", Weight::Prerequisite),
            staged("echo r1 1", "r1", Weight::ApplyAl(1)),
            staged("echo r1 2", "r1", Weight::Attach(1)),
        ];
        let second = vec![staged("echo later", "r1", Weight::Plain)];
        let stages = [first, second];
        let manner = Manner::default();
        let (code, out, err) = with_runner(&manner, |runner| runner.stages(&stages, None));
        assert_eq!((code, out.as_str()), (Ok(1), "r0 1\nr1 1\nr1 2\n"));
        assert!(err.ends_with("r0: skipped due to earlier error\n"), "{err}");

        let disks = vec![
            staged("exit 20", "r0", Weight::ApplyAl(1)),
            staged("echo never", "r0", Weight::Attach(1)),
            staged("echo other", "r0", Weight::Attach(2)),
        ];
        let (code, out, _) = with_runner(&manner, |runner| runner.stages(&[disks], None));
        assert_eq!((code, out.as_str()), (Ok(1), "other\n"));
    }

    #[test]
    fn progress_names_the_stages_with_work_and_what_failed() {
        let staged = |script: &str, resource| Staged { call: shell(script, resource), weight: Weight::Plain };
        let stages =
            [vec![staged("true", "r0")], Vec::new(), vec![staged("exit 10", "r0"), staged("true", "r1")]];
        let (code, out, _) = with_runner(&Manner::default(), |runner| {
            runner.stages(&stages, Some(&["create res", "adjust res", "adjust disk"]))
        });
        assert_eq!(code, Ok(1));
        assert_eq!(out, "[\n     create res: r0\n    adjust disk: r0:failed(-c:10) r1\n]\n");
    }
}
