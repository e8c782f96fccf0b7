//! `urbdmeta`: the metadata on a device, while nobody has it attached. Speaks as `drbdmeta` does (M9,
//! L91..L93).
//!
//! - [`verbs`], [`create`], [`last_known`]: the commands, on any
//!   [`MetaDevice`](super::meta_device::MetaDevice)
//! - [`access`], [`existing`]: what they share; what lies in the way of new metadata
//! - [`dialogue`], [`error`]: what is said and asked; failures and their exit codes

pub mod access;
pub mod create;
pub mod dialogue;
pub mod error;
pub mod existing;
pub mod last_known;
pub mod verbs;

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use self::create::{CreateOptions, create_md};
use self::dialogue::{Answers, Dialogue};
use self::error::CommandError;
use self::last_known::{LastKnown, check_resize, find_moved};
use super::meta_device::{Access, FileDevice, MinorLock};
use crate::meta::dump::Heading;
use crate::meta::dump_parse::MAX_DUMP_BYTES;
use crate::meta::layout::{Placement, Striping};

/// Exit code of wrong usage, and of devices that are not to be had.
const EXIT_USAGE: u8 = 20;

/// Reads and changes the meta data on a device that is not attached.
#[derive(Debug, Parser)]
#[command(name = "urbdmeta", version, infer_long_args = true, disable_help_subcommand = true)]
#[command(override_usage = "urbdmeta [OPTIONS] MINOR v08 DEVICE INDEX COMMAND [ARGUMENT]")]
#[command(after_help = COMMANDS)]
struct Options {
    /// Answer every question with yes
    #[arg(short, long)]
    force: bool,
    /// Go on where known data would be destroyed, without a question
    #[arg(long)]
    ignore_sanity_checks: bool,
    /// Do everything except writing
    #[arg(long)]
    dry_run: bool,
    /// The peer's largest request in bytes, up to 1048576 (create-md)
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    peer_max_bio_size: Option<u32>,
    /// Number of stripes of the activity log (create-md, restore-md)
    #[arg(long, value_name = "N")]
    al_stripes: Option<u32>,
    /// Size of a stripe of the activity log in KiB (create-md, restore-md)
    #[arg(long = "al-stripe-size-kB", value_name = "KIB")]
    al_stripe_size_kb: Option<u32>,
    /// Where the last known places of internal meta data are recorded
    #[arg(long, value_name = "DIR", default_value = "/var/lib/drbd")]
    state_dir: PathBuf,
    /// Accepted for the sake of drbdmeta's callers; changes nothing
    #[arg(short, long, action = clap::ArgAction::Count, hide = true)]
    verbose: u8,
    /// Accepted for the sake of drbdmeta's callers; changes nothing
    #[arg(long, hide = true)]
    quiet: bool,
    /// Accepted as by the other programs; changes nothing
    #[arg(long, env = "URBD_RUN_DIR", hide = true)]
    run_dir: Option<PathBuf>,
    /// Accepted as by the other programs; changes nothing
    #[arg(long, env = "URBD_NODE", hide = true)]
    node: Option<String>,
    /// Minor number, format, device, index, command and its argument
    #[arg(value_name = "WORD")]
    words: Vec<String>,
}

const COMMANDS: &str = "Commands:
  create-md             new meta data
  dump-md               all of it as text
  restore-md [FILE]     meta data from such a text
  verify-dump [FILE]    whether such a text is well-formed
  get-gi, show-gi       the generation identifiers and flags
  set-gi LIST           change them
  dstate                the state of the data
  apply-al              make meta data attachable after a crash
  outdate, invalidate   mark the data as outdated, as worthless
  read-dev-uuid, write-dev-uuid UUID
                        the identity of the meta data
  check-resize          move internal meta data after the device has grown
  wipe-md               remove the meta data

INDEX is internal, flex-external, or the number of a 128 MiB slot.";

/// A command of the tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    CreateMd,
    DumpMd,
    RestoreMd,
    VerifyDump,
    GetGi,
    ShowGi,
    SetGi,
    Dstate,
    ApplyAl,
    Outdate,
    Invalidate,
    ReadDevUuid,
    WriteDevUuid,
    CheckResize,
    WipeMd,
}

impl Verb {
    fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "create-md" => Self::CreateMd,
            "dump-md" => Self::DumpMd,
            "restore-md" => Self::RestoreMd,
            "verify-dump" => Self::VerifyDump,
            "get-gi" => Self::GetGi,
            "show-gi" => Self::ShowGi,
            "set-gi" => Self::SetGi,
            "dstate" => Self::Dstate,
            "apply-al" => Self::ApplyAl,
            "outdate" => Self::Outdate,
            "invalidate" => Self::Invalidate,
            "read-dev-uuid" => Self::ReadDevUuid,
            "write-dev-uuid" => Self::WriteDevUuid,
            "check-resize" => Self::CheckResize,
            "wipe-md" => Self::WipeMd,
            _ => return None,
        })
    }

    const fn access(self) -> Access {
        match self {
            Self::DumpMd
            | Self::VerifyDump
            | Self::GetGi
            | Self::ShowGi
            | Self::Dstate
            | Self::ReadDevUuid => Access::Read,
            Self::CreateMd
            | Self::RestoreMd
            | Self::SetGi
            | Self::ApplyAl
            | Self::Outdate
            | Self::Invalidate
            | Self::WriteDevUuid
            | Self::CheckResize
            | Self::WipeMd => Access::Modify,
        }
    }

    /// How many arguments it takes at most.
    const fn arguments(self) -> usize {
        match self {
            Self::RestoreMd | Self::VerifyDump | Self::SetGi | Self::WriteDevUuid => 1,
            Self::CreateMd
            | Self::DumpMd
            | Self::GetGi
            | Self::ShowGi
            | Self::Dstate
            | Self::ApplyAl
            | Self::Outdate
            | Self::Invalidate
            | Self::ReadDevUuid
            | Self::CheckResize
            | Self::WipeMd => 0,
        }
    }
}

/// A command line that makes sense.
#[derive(Debug)]
struct Call {
    minor: Option<u32>,
    device: PathBuf,
    placement: Placement,
    verb: Verb,
    argument: Option<String>,
    striping: Option<Striping>,
}

/// Runs `urbdmeta` with the process's streams; the exit code. The first word of `args` is the name
/// it was called by.
pub fn run<I: IntoIterator<Item = OsString>>(args: I) -> u8 {
    let mut out = BufWriter::new(io::stdout().lock());
    run_with(args, &mut out, &mut io::stderr())
}

/// As [`run`], with other streams: for `urbdadm`, which runs it in-process.
pub fn run_with<I: IntoIterator<Item = OsString>>(args: I, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let options = match Options::try_parse_from(&args) {
        Ok(options) => options,
        Err(error) => return report_usage(&error, out, err),
    };
    if options.words.len() < 2 {
        let _ = writeln!(out, "{}", Options::command().render_help());
        return EXIT_USAGE;
    }
    let stdin = io::stdin();
    let mut terminal;
    let answers = if options.force {
        Answers::Force
    } else if stdin.is_terminal() {
        terminal = stdin.lock();
        Answers::Terminal(&mut terminal)
    } else {
        Answers::Nobody
    };
    let mut dialogue = Dialogue::new(out, err, answers);
    let result = perform(&options, &command_line(&args), &mut dialogue);
    let code = match result {
        Ok(()) => 0,
        Err(error) => {
            if let Some(message) = error.message() {
                dialogue.warn(&message);
            }
            error.exit_code()
        }
    };
    let _ = out.flush();
    code
}

fn report_usage(error: &clap::Error, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = write!(out, "{error}");
            0
        }
        _ => {
            let _ = write!(err, "{error}");
            EXIT_USAGE
        }
    }
}

fn perform(options: &Options, command_line: &str, dialogue: &mut Dialogue<'_>) -> Result<(), CommandError> {
    let call = Call::new(options, dialogue)?;
    if call.verb == Verb::VerifyDump {
        return verbs::verify_dump(&read_dump(call.argument.as_deref())?, dialogue);
    }
    let _lock = call.minor.map(MinorLock::take).transpose()?;
    let exclusive = !matches!(call.placement, Placement::Indexed(_));
    let mut device = FileDevice::open(&call.device, call.verb.access(), exclusive)?;
    if device.is_held_by_others() {
        dialogue.warn(&format!(
            "# {} is in use: output might be stale, since it may be attached",
            call.device.display()
        ));
    }
    if options.dry_run {
        device.skip_writes();
    }
    let last_known = call.minor.map(|minor| LastKnown::of_minor(&options.state_dir, minor));
    let record = last_known.as_ref().and_then(LastKnown::read);
    let moved = record.as_ref().filter(|_| call.placement.is_internal()).and_then(|record| {
        let missing = matches!(access::find(&mut device, call.placement), Ok(Err(_)));
        find_moved(&mut device, record).filter(|_| missing)
    });
    if let Some(moved) = moved.filter(|_| call.verb != Verb::CheckResize) {
        dialogue.warn(&format!(
            "The device has grown: its meta data is still at byte offset {}. Use check-resize to move it.",
            moved.layout.superblock_byte()
        ));
        if call.verb == Verb::CreateMd && !dialogue.confirm("Create new meta data all the same?") {
            dialogue.say("Operation cancelled.");
            return Err(CommandError::Declined);
        }
    }
    let (device, placement) = (&mut device, call.placement);
    match call.verb {
        Verb::CreateMd => create_md(device, placement, &call.create_options(options), dialogue),
        Verb::DumpMd => {
            let (time, host) = (utc_now(), host_name());
            let heading = Heading { time: &time, host: &host, command: command_line };
            verbs::dump_md(device, placement, &heading, dialogue)
        }
        Verb::RestoreMd => {
            let text = read_dump(call.argument.as_deref())?;
            verbs::restore_md(device, placement, &text, call.striping, dialogue)
        }
        Verb::VerifyDump => Ok(()),
        Verb::GetGi => verbs::get_gi(device, placement, dialogue),
        Verb::ShowGi => verbs::show_gi(device, placement, dialogue),
        Verb::SetGi => verbs::set_gi(device, placement, call.required()?, dialogue),
        Verb::Dstate => verbs::dstate(device, placement, dialogue),
        Verb::ApplyAl => verbs::apply_al(device, placement, dialogue),
        Verb::Outdate => verbs::outdate(device, placement, dialogue),
        Verb::Invalidate => verbs::invalidate(device, placement, dialogue),
        Verb::ReadDevUuid => verbs::read_dev_uuid(device, placement, dialogue),
        Verb::WriteDevUuid => verbs::write_dev_uuid(device, placement, call.required()?, dialogue),
        Verb::CheckResize => check_resize(device, placement, record.as_ref(), dialogue),
        Verb::WipeMd => verbs::wipe_md(device, placement, dialogue),
    }?;
    if let Some(last_known) = last_known.filter(|_| call.verb.access() == Access::Modify && !options.dry_run)
    {
        last_known.refresh(device, placement, dialogue);
    }
    Ok(())
}

impl Call {
    /// Makes sense of the words (L91).
    fn new(options: &Options, dialogue: &mut Dialogue<'_>) -> Result<Self, CommandError> {
        let usage = |text: String| CommandError::Usage { text };
        let mut words = options.words.iter().map(String::as_str);
        let (minor, format) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match format {
            "v08" => {}
            "v06" | "v07" | "v09" => {
                return Err(usage(format!("Format '{format}' is not supported: only 'v08' is.")));
            }
            _ => return Err(usage(format!("Unknown format '{format}'."))),
        }
        let (Some(device), Some(index)) = (words.next(), words.next()) else {
            return Err(usage("Too few arguments for format".to_owned()));
        };
        let placement = parse_index(index)?;
        let word = words.next().ok_or_else(|| usage("command missing".to_owned()))?;
        let verb = Verb::of_word(word).ok_or_else(|| usage(format!("Unknown command '{word}'.")))?;
        let striping = parse_striping(options, verb)?;
        if options.peer_max_bio_size.is_some() && verb != Verb::CreateMd {
            let text = "The --peer-max-bio-size option is only allowed with create-md".to_owned();
            return Err(CommandError::Argument { text });
        }
        let argument = words.next().filter(|_| verb.arguments() > 0).map(str::to_owned);
        if options.words.len() > 5 + verb.arguments() {
            dialogue.warn("Ignoring additional arguments");
        }
        let minor = parse_minor(minor)?;
        Ok(Self { minor, device: PathBuf::from(device), placement, verb, argument, striping })
    }

    fn required(&self) -> Result<&str, CommandError> {
        let missing = || CommandError::Argument { text: "Required Argument missing".to_owned() };
        self.argument.as_deref().ok_or_else(missing)
    }

    fn create_options(&self, options: &Options) -> CreateOptions {
        CreateOptions {
            striping: self.striping.unwrap_or_default(),
            peer_max_bio_bytes: options.peer_max_bio_size.unwrap_or(0),
            ignore_sanity_checks: options.ignore_sanity_checks,
        }
    }
}

/// A number, `/dev/drbdN`, or `-` for none.
fn parse_minor(word: &str) -> Result<Option<u32>, CommandError> {
    if word == "-" {
        return Ok(None);
    }
    let number = word.strip_prefix("/dev/drbd").unwrap_or(word);
    number.parse().map(Some).map_err(|_| CommandError::Usage {
        text: format!("'{word}' is no minor number: use a number, /dev/drbdN, or - for none."),
    })
}

/// The tool's words only: attach's `flexible` is none of them (L91).
fn parse_index(word: &str) -> Result<Placement, CommandError> {
    let invalid = || CommandError::Usage { text: format!("'{word}' is not a valid index number.") };
    match word {
        "internal" | "flex-internal" => Ok(Placement::Internal),
        "flex-external" => Ok(Placement::Flexible),
        number => number.parse().map(Placement::Indexed).map_err(|_| invalid()),
    }
}

/// Striping from the options, `None` if neither is given (M18).
fn parse_striping(options: &Options, verb: Verb) -> Result<Option<Striping>, CommandError> {
    if options.al_stripes.is_none() && options.al_stripe_size_kb.is_none() {
        return Ok(None);
    }
    let wrong = |text: &str| CommandError::Argument { text: text.to_owned() };
    if !matches!(verb, Verb::CreateMd | Verb::RestoreMd) {
        return Err(wrong("The --al-stripe* options are only allowed with create-md and restore-md"));
    }
    let stripes = options.al_stripes.unwrap_or(1);
    let stripe_blocks = options.al_stripe_size_kb.unwrap_or(32) / 4;
    match u64::from(stripes) * u64::from(stripe_blocks) {
        0..8 => Err(wrong("invalid (too small) al-stripe* settings")),
        blocks if blocks > u64::from(Striping::MAX_CREATE_BLOCKS) => {
            Err(wrong("invalid (too large) al-stripe* settings"))
        }
        _ => Ok(Some(Striping::new(stripes, stripe_blocks)?)),
    }
}

/// The text of a dump, from a file or from standard input.
fn read_dump(file: Option<&str>) -> Result<String, CommandError> {
    let failed = |source| CommandError::OpenDump { name: file.unwrap_or("stdin").to_owned(), source };
    let mut text = String::new();
    match file {
        Some(name) => {
            let file = std::fs::File::open(Path::new(name)).map_err(failed)?;
            file.take(MAX_DUMP_BYTES).read_to_string(&mut text).map_err(failed)?;
        }
        None => {
            io::stdin().lock().take(MAX_DUMP_BYTES).read_to_string(&mut text).map_err(failed)?;
        }
    }
    Ok(text)
}

/// The command line as a comment in a dump: the program without its directory.
fn command_line(args: &[OsString]) -> String {
    let mut words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if let Some(program) = words.first_mut() {
        let name = Path::new(program.as_str()).file_name().map(|n| n.to_string_lossy().into_owned());
        *program = name.unwrap_or_else(|| "urbdmeta".to_owned());
    }
    words.join(" ").replace('\n', " ")
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `YYYY-MM-DD HH:MM:SS +0000 [seconds]`.
fn utc_now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs());
    utc_text(seconds)
}

fn utc_text(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of year 0, so that a leap day ends its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} +0000 [{seconds}]",
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc_text(0), "1970-01-01 00:00:00 +0000 [0]");
        assert_eq!(utc_text(1_795_388_743), "2026-11-22 23:05:43 +0000 [1795388743]");
        assert_eq!(utc_text(951_782_400), "2000-02-29 00:00:00 +0000 [951782400]");
        assert_eq!(utc_text(4_107_542_400), "2100-03-01 00:00:00 +0000 [4107542400]");
    }

    #[test]
    fn minors_are_numbers_device_names_or_none() {
        assert_eq!(parse_minor("7").unwrap(), Some(7));
        assert_eq!(parse_minor("/dev/drbd12").unwrap(), Some(12));
        assert_eq!(parse_minor("-").unwrap(), None);
        assert_eq!(parse_minor("xx").unwrap_err().exit_code(), 20);
    }

    #[test]
    fn the_attach_word_for_flexible_metadata_is_none_of_the_tools() {
        assert_eq!(parse_index("flex-external").unwrap(), Placement::Flexible);
        assert_eq!(parse_index("255").unwrap(), Placement::Indexed(255));
        for word in ["flexible", "256", "-2", ""] {
            let text = parse_index(word).unwrap_err().to_string();
            assert_eq!(text, format!("'{word}' is not a valid index number."));
        }
    }
}
