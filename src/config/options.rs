//! Every option, once: its name, section, value and default (C66), and the structs that hold them.
//!
//! The parser, the dump, the suggestions in error messages and the command line all read the tables
//! that `options!` makes here; there is no second list. The structs are plain values: the daemon's
//! core takes the same ones. `Default` is the specification's default of every option.

use serde::{Deserialize, Serialize};

pub use super::values::{
    AfterSb0p, AfterSb1p, AfterSb2p, BecomePrimary, Fencing, Kind, MAX_MASK_BYTES, MAX_TEXT_BYTES, Number,
    OnCongestion, OnIoError, OnNoDataAccessible, Protocol, ReadBalancing, RrConflict, Secret, Unit,
    UsageCount, Value, ValueError,
};

/// The section an option belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// `global { }`
    Global,
    /// `net { }`: the connection.
    Net,
    /// `disk { }`: a volume's lower disk and its resynchronisation.
    Disk,
    /// `options { }`: the resource as a whole.
    Options,
    /// `startup { }`: what start scripts wait for.
    Startup,
    /// `handlers { }`: commands called on events.
    Handlers,
    /// `proxy { }`: passed on to DRBD Proxy; urbd has none.
    Proxy,
}

impl Section {
    /// The keyword that opens the section.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Net => "net",
            Self::Disk => "disk",
            Self::Options => "options",
            Self::Startup => "startup",
            Self::Handlers => "handlers",
            Self::Proxy => "proxy",
        }
    }

    /// Every section.
    pub const ALL: &'static [Self] =
        &[Self::Global, Self::Net, Self::Disk, Self::Options, Self::Startup, Self::Handlers, Self::Proxy];

    /// The options this section takes, those that urbd only tolerates included.
    pub fn options(self) -> impl Iterator<Item = &'static OptionSpec> {
        let own: &'static [OptionSpec] = match self {
            Self::Global => GlobalOptions::TABLE,
            Self::Net => NetOptions::TABLE,
            Self::Disk => DiskOptions::TABLE,
            Self::Options => ResourceOptions::TABLE,
            Self::Startup => StartupOptions::TABLE,
            Self::Handlers => HANDLERS,
            Self::Proxy => PROXY,
        };
        own.iter().chain(TOLERATED.iter().filter(move |spec| spec.section == self))
    }

    /// The option of this name in this section.
    #[must_use]
    pub fn option(self, name: &str) -> Option<&'static OptionSpec> {
        self.options().find(|spec| spec.name == name)
    }
}

/// What is known of one option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name in files and, behind `--`, in commands.
    pub name: &'static str,
    /// Where it stands.
    pub section: Section,
    /// What its value looks like.
    pub kind: Kind,
    /// What urbd does with it.
    pub support: Support,
}

impl OptionSpec {
    /// The default as text, `None` where there is none (handlers, tolerated options).
    #[must_use]
    pub fn default_text(&self) -> Option<String> {
        match self.section {
            Section::Global => GlobalOptions::default().get(self.name),
            Section::Net => NetOptions::default().get(self.name),
            Section::Disk => DiskOptions::default().get(self.name),
            Section::Options => ResourceOptions::default().get(self.name),
            Section::Startup => StartupOptions::default().get(self.name),
            Section::Handlers | Section::Proxy => None,
        }
    }

    /// Checks `text` without keeping it; `None` stands for an option without a value.
    ///
    /// # Errors
    /// Why it is no value of this option.
    pub fn check(&self, text: Option<&str>) -> Result<(), ValueError> {
        let kind = &self.kind;
        match kind {
            Kind::Bool | Kind::Flag => bool::parse(kind, text).map(drop),
            Kind::Number(_) => u64::parse(kind, text).map(drop),
            Kind::Word(words) | Kind::WordAnyCase(words) => {
                let text = text.ok_or(ValueError::Missing)?;
                let any_case = matches!(kind, Kind::WordAnyCase(_));
                let known =
                    words.iter().any(|word| *word == text || (any_case && word.eq_ignore_ascii_case(text)));
                if known { Ok(()) } else { Err(ValueError::UnknownWord { words }) }
            }
            Kind::Text { .. } => Option::<String>::parse(kind, text).map(drop),
            Kind::After => Option::<u32>::parse(kind, text).map(drop),
            Kind::Hosts => BecomePrimary::parse(kind, text).map(drop),
            Kind::Command => text.map(drop).ok_or(ValueError::Missing),
        }
    }
}

/// What urbd does with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It takes effect.
    Full,
    /// It is read and checked, but means nothing here; the text says why.
    Ignored(&'static str),
}

/// Why an option cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option in this section.
    #[error("unknown {} option '{name}'{}", section.keyword(), did_you_mean(*suggestion))]
    Unknown {
        /// The section searched.
        section: Section,
        /// The name given.
        name: String,
        /// The nearest name there is.
        suggestion: Option<&'static str>,
    },
    /// The option exists, the value does not fit.
    #[error("{name}: '{value}': {source}")]
    Value {
        /// The option.
        name: &'static str,
        /// The text given; empty when there was none.
        value: String,
        /// What is wrong with it.
        source: ValueError,
    },
}

/// Declares one section's options: a field, its default, the option's name and its value's form each.
macro_rules! options {
    ($(#[$meta:meta])* $struct:ident, $section:expr;
     $($(#[$doc:meta])* $field:ident: $type:ty = $default:expr, $name:literal, $kind:expr;)*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $struct {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Default for $struct {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $struct {
            /// The options of this struct, in the order of the fields.
            pub const TABLE: &'static [OptionSpec] = &[
                $(OptionSpec { name: $name, section: $section, kind: $kind, support: Support::Full },)*
            ];

            /// Sets the option `name` from text; `None` is an option without a value.
            ///
            /// # Errors
            /// An unknown name (with the nearest known one), or a value that does not fit.
            pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), OptionError> {
                match name {
                    $($name => {
                        self.$field = <$type as Value>::parse(&$kind, value)
                            .map_err(|source| bad_value($name, value, source))?;
                    })*
                    _ => return set_tolerated($section, name, value),
                }
                Ok(())
            }

            /// As [`Self::set`], from a command's `--name=value` or `--name`, taken apart at `=`.
            ///
            /// # Errors
            /// As [`Self::set`].
            pub fn set_from_cli(&mut self, name: &str, value: Option<&str>) -> Result<(), OptionError> {
                self.set(name.strip_prefix("--").unwrap_or(name), value)
            }

            /// The value of the option `name` as text that [`Self::set`] reads back.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<String> {
                match name {
                    $($name => Some(self.$field.print(&$kind)),)*
                    _ => None,
                }
            }

            /// Every option with its value as text.
            pub fn settings(&self) -> impl Iterator<Item = (&'static OptionSpec, String)> {
                Self::TABLE.iter().filter_map(|spec| Some((spec, self.get(spec.name)?)))
            }

            /// The options whose value differs from the default, with their value as text.
            pub fn changed(&self) -> impl Iterator<Item = (&'static OptionSpec, String)> {
                let default = Self::default();
                self.settings().filter(move |(spec, value)| default.get(spec.name).as_ref() != Some(value))
            }

            /// The arguments `--name=value` that turn the defaults into these options.
            pub fn cli_arguments(&self) -> impl Iterator<Item = String> {
                self.changed().map(|(spec, value)| format!("--{}={value}", spec.name))
            }
        }
    };
}

/// A number in the option's own unit.
const fn number(min: u64, max: u64, unit: Unit) -> Kind {
    Kind::Number(Number::new(min, max, unit))
}

/// An algorithm's name, or another short text.
const TEXT: Kind = Kind::Text { max_bytes: MAX_TEXT_BYTES };

options! {
    /// The connection to the peer: section `net`.
    NetOptions, Section::Net;
    /// When a write counts as done.
    protocol: Protocol = Protocol::C, "protocol", Kind::WordAnyCase(Protocol::WORDS);
    /// How long an answer of the peer may take, in tenths of a second, 1 to 600.
    timeout_ds: u32 = 60, "timeout", number(1, 600, Unit::Deciseconds);
    /// Writes between two barriers, at most; 1 to 20000.
    max_epoch_size: u32 = 2048, "max-epoch-size", number(1, 20_000, Unit::Count);
    /// Pages of 4 KiB used to receive writes, at most; 32 to 131072.
    max_buffers: u32 = 2048, "max-buffers", number(32, 131_072, Unit::Pages);
    /// Pending requests on the Secondary that make it start its disk; 1 to 131072.
    unplug_watermark: u32 = 128, "unplug-watermark", number(1, 131_072, Unit::Count);
    /// Time between two attempts to connect, in seconds, 1 to 120.
    connect_int_s: u32 = 10, "connect-int", number(1, 120, Unit::Seconds);
    /// Time of silence after which the peer is asked for a sign of life, in seconds, 1 to 120.
    ping_int_s: u32 = 10, "ping-int", number(1, 120, Unit::Seconds);
    /// How long the answer to that question may take, in tenths of a second, 1 to 300.
    ping_timeout_ds: u32 = 5, "ping-timeout", number(1, 300, Unit::Deciseconds);
    /// Send buffer of the socket in bytes, up to 10 MiB; 0 lets the system choose.
    sndbuf_size_bytes: u32 = 0, "sndbuf-size", number(0, 10_485_760, Unit::Bytes);
    /// Receive buffer of the socket in bytes, up to 10 MiB; 0 lets the system choose.
    rcvbuf_size_bytes: u32 = 0, "rcvbuf-size", number(0, 10_485_760, Unit::Bytes);
    /// Multiples of the timeout a write may wait before the peer is dropped; 0 to 200, 0 is for ever.
    ko_count: u32 = 7, "ko-count", number(0, 200, Unit::Count);
    /// Whether both nodes may be Primary at the same time.
    allow_two_primaries: bool = false, "allow-two-primaries", Kind::Bool;
    /// Digest by which the peers prove that they know the secret; none: no proof.
    cram_hmac_alg: Option<String> = None, "cram-hmac-alg", TEXT;
    /// The secret.
    shared_secret: Option<Secret> = None, "shared-secret", TEXT;
    /// Split brain, nobody Primary.
    after_sb_0pri: AfterSb0p = AfterSb0p::Disconnect, "after-sb-0pri", Kind::Word(AfterSb0p::WORDS);
    /// Split brain, one node Primary.
    after_sb_1pri: AfterSb1p = AfterSb1p::Disconnect, "after-sb-1pri", Kind::Word(AfterSb1p::WORDS);
    /// Split brain, both nodes Primary.
    after_sb_2pri: AfterSb2p = AfterSb2p::Disconnect, "after-sb-2pri", Kind::Word(AfterSb2p::WORDS);
    /// Whether the split-brain policies decide even when the generations name a clear winner.
    always_asbp: bool = false, "always-asbp", Kind::Bool;
    /// When the generations would make a Primary the sync target.
    rr_conflict: RrConflict = RrConflict::Disconnect, "rr-conflict", Kind::Word(RrConflict::WORDS);
    /// Digest over the data of each write on its way; none: no check.
    data_integrity_alg: Option<String> = None, "data-integrity-alg", TEXT;
    /// Whether packets are collected to fill a segment.
    tcp_cork: bool = true, "tcp-cork", Kind::Bool;
    /// What to do when the connection is congested.
    on_congestion: OnCongestion = OnCongestion::Block, "on-congestion", Kind::Word(OnCongestion::WORDS);
    /// Sectors on their way to the peer that count as congestion, 0 to 20971520 (10 GiB); 0 is off.
    congestion_fill_sectors: u32 = 0, "congestion-fill", number(0, 20_971_520, Unit::Sectors);
    /// Active extents that count as congestion, 67 to 65534.
    congestion_extents: u32 = 1237, "congestion-extents", number(67, 65_534, Unit::Count);
    /// Digest by which a resync skips blocks that are equal; none: it copies all.
    csums_alg: Option<String> = None, "csums-alg", TEXT;
    /// Whether `csums-alg` serves only resyncs after a Primary's crash.
    csums_after_crash_only: bool = false, "csums-after-crash-only", Kind::Bool;
    /// Digest of the online verification; none: verification is refused.
    verify_alg: Option<String> = None, "verify-alg", TEXT;
    /// Whether the bitmap is sent run-length encoded.
    use_rle: bool = true, "use-rle", Kind::Bool;
    /// How long the check of a new socket may take, tenths of a second, 0 to 300; 0: as `ping-timeout`.
    socket_check_timeout_ds: u32 = 0, "socket-check-timeout", number(0, 300, Unit::Deciseconds);
}

options! {
    /// A volume's lower disk and its resynchronisation: section `disk`.
    DiskOptions, Section::Disk;
    /// Sectors of the lower disk to use, up to 1 PiB; 0 uses all.
    size_sectors: u64 = 0, "size", number(0, 2_199_023_255_552, Unit::Sectors);
    /// Segments of one request to the lower disk, at most, 0 to 128; 0 leaves it to the disk.
    max_bio_bvecs: u32 = 0, "max-bio-bvecs", number(0, 128, Unit::Count);
    /// What to do about an error of the lower disk.
    on_io_error: OnIoError = OnIoError::Detach, "on-io-error", Kind::Word(OnIoError::WORDS);
    /// How the peer is kept from becoming Primary while apart. DRBD 9 has it in `net`.
    fencing: Fencing = Fencing::DontCare, "fencing", Kind::Word(Fencing::WORDS);
    /// Whether writes are ordered by barriers to the lower disk.
    disk_barrier: bool = false, "disk-barrier", Kind::Bool;
    /// Whether writes are ordered by flushes of the lower disk.
    disk_flushes: bool = true, "disk-flushes", Kind::Bool;
    /// Whether writes are ordered by letting the lower disk run empty.
    disk_drain: bool = true, "disk-drain", Kind::Bool;
    /// Whether the metadata device is flushed.
    md_flushes: bool = true, "md-flushes", Kind::Bool;
    /// Speed of the resynchronisation in KiB per second, 1 to 8388608; used while `c-plan-ahead` is 0.
    resync_rate_kib_s: u32 = 250, "resync-rate", number(1, 8_388_608, Unit::KibPerSecond);
    /// The minor whose resynchronisation goes first. Files name a resource instead (C69).
    resync_after_minor: Option<u32> = None, "resync-after", Kind::After;
    /// Extents of 4 MiB in the activity log, 67 to 65534; a value outside is moved to the nearest end.
    al_extents: u32 = 1237, "al-extents", Kind::Number(Number::clamped(67, 65_534, Unit::Count));
    /// Whether the activity log is written.
    al_updates: bool = true, "al-updates", Kind::Bool;
    /// Whether discards that reads see as zeroes may be used for their aligned part.
    discard_zeroes_if_aligned: bool = true, "discard-zeroes-if-aligned", Kind::Bool;
    /// Whether the device declares that it has no WRITE SAME.
    disable_write_same: bool = false, "disable-write-same", Kind::Bool;
    /// How long a request to the lower disk may take, tenths of a second, 0 to 6000; 0 is for ever.
    disk_timeout_ds: u32 = 0, "disk-timeout", number(0, 6_000, Unit::Deciseconds);
    /// Where a read goes when both disks are up to date.
    read_balancing: ReadBalancing = ReadBalancing::PreferLocal, "read-balancing", Kind::Word(ReadBalancing::WORDS);
    /// Size of the runs of zeroes that a resync discards instead of writing, bytes, up to 1 MiB; 0 is off.
    rs_discard_granularity_bytes: u32 = 0, "rs-discard-granularity", number(0, 1_048_576, Unit::Bytes);
    /// How far the resync controller plans, tenths of a second, 0 to 300; 0: the speed is fixed.
    c_plan_ahead_ds: u32 = 20, "c-plan-ahead", number(0, 300, Unit::Deciseconds);
    /// Delay the controller aims at, tenths of a second, 1 to 100; used while `c-fill-target` is 0.
    c_delay_target_ds: u32 = 10, "c-delay-target", number(1, 100, Unit::Deciseconds);
    /// Sectors on their way that the controller aims at, 0 to 1048576.
    c_fill_target_sectors: u32 = 100, "c-fill-target", number(0, 1_048_576, Unit::Sectors);
    /// Fastest resync in KiB per second, 250 to 4194304.
    c_max_rate_kib_s: u32 = 102_400, "c-max-rate", number(250, 4_194_304, Unit::KibPerSecond);
    /// Speed in KiB per second to which application I/O may slow a resync, 0 to 4194304.
    c_min_rate_kib_s: u32 = 250, "c-min-rate", number(0, 4_194_304, Unit::KibPerSecond);
}

options! {
    /// The resource as a whole: section `options`.
    ResourceOptions, Section::Options;
    /// CPUs to run on: hexadecimal digits and commas; none: all.
    cpu_mask: Option<String> = None, "cpu-mask", Kind::Text { max_bytes: MAX_MASK_BYTES };
    /// What happens to requests while no disk has the data.
    on_no_data_accessible: OnNoDataAccessible = OnNoDataAccessible::IoError, "on-no-data-accessible",
        Kind::Word(OnNoDataAccessible::WORDS);
}

options! {
    /// What start scripts wait for: section `startup`.
    StartupOptions, Section::Startup;
    /// How long to wait for the peer, seconds, 0 to 300000; 0 is for ever.
    wfc_timeout_s: u32 = 0, "wfc-timeout", number(0, 300_000, Unit::Seconds);
    /// The same when the peer was missing already before the restart.
    degr_wfc_timeout_s: u32 = 0, "degr-wfc-timeout", number(0, 300_000, Unit::Seconds);
    /// The same when the peer is known to be outdated.
    outdated_wfc_timeout_s: u32 = 0, "outdated-wfc-timeout", number(0, 300_000, Unit::Seconds);
    /// Whether to wait on after a split brain.
    wait_after_sb: bool = false, "wait-after-sb", Kind::Bool;
    /// Whether a stacked resource uses the timeouts above.
    stacked_timeouts: bool = false, "stacked-timeouts", Kind::Flag;
    /// Who is promoted after the wait.
    become_primary_on: BecomePrimary = BecomePrimary::Nobody, "become-primary-on", Kind::Hosts;
}

options! {
    /// The tools themselves: section `global` (C40).
    GlobalOptions, Section::Global;
    /// Whether addresses are taken as they are, without asking whether this machine has them.
    disable_ip_verification: bool = false, "disable-ip-verification", Kind::Flag;
    /// Devices to prepare for, 1 to 255; feeds `sh-mod-parms` only.
    minor_count: u32 = 32, "minor-count", number(1, 255, Unit::Count);
    /// Seconds between two lines of a countdown, 0 to 600.
    dialog_refresh_s: u32 = 1, "dialog-refresh", number(0, 600, Unit::Seconds);
    /// Read and kept; urbd never counts.
    usage_count: UsageCount = UsageCount::Ask, "usage-count", Kind::Word(UsageCount::WORDS);
    /// Seconds a quick helper command may take, 0 to 900; 0 is for ever.
    cmd_timeout_short_s: u32 = 5, "cmd-timeout-short", number(0, 900, Unit::Seconds);
    /// Seconds a helper command that touches disks may take (the real tools' default: C40).
    cmd_timeout_medium_s: u32 = 600, "cmd-timeout-medium", number(0, 900, Unit::Seconds);
    /// Seconds a long helper command may take.
    cmd_timeout_long_s: u32 = 0, "cmd-timeout-long", number(0, 900, Unit::Seconds);
    /// Whether an implicit volume's links carry its number (C75).
    udev_always_use_vnr: bool = false, "udev-always-use-vnr", Kind::Flag;
}

/// The handlers (C67). Unset ones are not called.
pub const HANDLERS: &[OptionSpec] = &[
    handler("pri-on-incon-degr"),
    handler("pri-lost-after-sb"),
    handler("pri-lost"),
    handler("initial-split-brain"),
    handler("split-brain"),
    handler("fence-peer"),
    handler("unfence-peer"),
    handler("local-io-error"),
    handler("before-resync-target"),
    handler("after-resync-target"),
    handler("before-resync-source"),
    handler("out-of-sync"),
];

/// The options of DRBD Proxy; their values are passed on unread.
pub const PROXY: &[OptionSpec] = &[
    proxy("memlimit"),
    proxy("bwlimit"),
    proxy("sndbuf-size"),
    proxy("rcvbuf-size"),
    proxy("read-loops"),
    proxy("compression"),
    proxy("ping-timeout"),
];

/// Options that files may carry without an effect here: those of DRBD 9 alone, and one of 8.3.
pub const TOLERATED: &[OptionSpec] = &[
    nine(Section::Net, "allow-remote-read", Kind::Bool),
    nine(Section::Net, "transport", TEXT),
    nine(Section::Net, "load-balance-paths", Kind::Bool),
    nine(Section::Net, "tls", Kind::Bool),
    nine(Section::Net, "tls-keyring", TEXT),
    nine(Section::Net, "tls-privkey", TEXT),
    nine(Section::Net, "tls-certificate", TEXT),
    nine(Section::Net, "rdma-ctrl-rcvbuf-size", number(0, 10_485_760, Unit::Bytes)),
    nine(Section::Net, "rdma-ctrl-sndbuf-size", number(0, 10_485_760, Unit::Bytes)),
    nine(Section::Net, "_name", TEXT),
    nine(Section::Disk, "bitmap", Kind::Bool),
    nine(Section::Disk, "resync-without-replication", Kind::Bool),
    nine(Section::Disk, "peer-tiebreaker", Kind::Bool),
    nine(Section::Disk, "max-bio-size", number(512, 1_048_576, Unit::Bytes)),
    nine(Section::Disk, "block-size", number(512, 4096, Unit::Bytes)),
    nine(Section::Disk, "discard-granularity", number(0, 134_217_728, Unit::Bytes)),
    OptionSpec {
        name: "use-bmbv",
        section: Section::Disk,
        kind: Kind::Bool,
        support: Support::Ignored("DRBD 8.4 ignores it too"),
    },
    nine(Section::Options, "auto-promote", Kind::Bool),
    nine(Section::Options, "auto-promote-timeout", number(0, 600, Unit::Deciseconds)),
    nine(Section::Options, "peer-ack-window", number(2048, 204_800, Unit::Sectors)),
    nine(Section::Options, "peer-ack-delay", number(1, 10_000, Unit::Milliseconds)),
    nine(Section::Options, "twopc-timeout", number(50, 600, Unit::Deciseconds)),
    nine(Section::Options, "twopc-retry-timeout", number(1, 50, Unit::Deciseconds)),
    nine(Section::Options, "max-io-depth", number(4, 4_294_967_295, Unit::Count)),
    nine(Section::Options, "quorum", TEXT),
    nine(Section::Options, "quorum-minimum-redundancy", TEXT),
    nine(Section::Options, "on-no-quorum", Kind::Word(OnNoDataAccessible::WORDS)),
    nine(Section::Options, "on-suspended-primary-outdated", Kind::Word(&["disconnect", "force-secondary"])),
    nine(Section::Options, "drbd8-api-compatibility", Kind::Bool),
    nine(Section::Handlers, "quorum-lost", Kind::Command),
    nine(Section::Handlers, "disconnected", Kind::Command),
];

/// The word nearest to `name` among `words`, if it is near enough to be what was meant.
#[must_use]
pub fn nearest<'a>(name: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Beyond this length nothing we know is near, and the distance costs the product of the lengths.
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    words
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&lower, &word.to_ascii_lowercase()), word))
        .filter(|(distance, word)| *distance < word.len() && *distance <= word.len().div_ceil(4).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

const fn handler(name: &'static str) -> OptionSpec {
    OptionSpec { name, section: Section::Handlers, kind: Kind::Command, support: Support::Full }
}

const fn proxy(name: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        section: Section::Proxy,
        kind: Kind::Command,
        support: Support::Ignored("urbd has no proxy"),
    }
}

const fn nine(section: Section, name: &'static str, kind: Kind) -> OptionSpec {
    OptionSpec { name, section, kind, support: Support::Ignored("it is an option of DRBD 9") }
}

/// Sets an option that has no field: checks the value, or reports that there is no such option.
fn set_tolerated(section: Section, name: &str, value: Option<&str>) -> Result<(), OptionError> {
    match section.option(name) {
        Some(spec) => spec.check(value).map_err(|source| bad_value(spec.name, value, source)),
        None => Err(OptionError::Unknown {
            section,
            name: name.to_owned(),
            suggestion: nearest(name, section.options().map(|spec| spec.name)),
        }),
    }
}

fn bad_value(name: &'static str, value: Option<&str>, source: ValueError) -> OptionError {
    OptionError::Value { name, value: value.unwrap_or_default().to_owned(), source }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|word| format!("; did you mean '{word}'?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_own_option_accepts() {
        for section in Section::ALL {
            for spec in section.options().filter(|spec| spec.support == Support::Full) {
                let Some(text) = spec.default_text() else { continue };
                if matches!(spec.kind, Kind::Flag | Kind::Hosts) {
                    continue; // no text stands for "absent"
                }
                assert_eq!(spec.check(Some(&text)), Ok(()), "{}", spec.name);
            }
        }
    }

    #[test]
    fn no_section_names_an_option_twice() {
        for section in Section::ALL {
            let mut names: Vec<_> = section.options().map(|spec| spec.name).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{section:?}");
        }
    }

    #[test]
    fn changed_options_survive_the_way_through_a_command_line() {
        let mut net = NetOptions::default();
        for (name, value) in [
            ("protocol", Some("a")),
            ("timeout", Some("50")),
            ("allow-two-primaries", None),
            ("cram-hmac-alg", Some("sha1")),
            ("shared-secret", Some("a b")),
            ("after-sb-0pri", Some("discard-zero-changes")),
            ("congestion-fill", Some("1M")),
        ] {
            net.set_from_cli(name, value).unwrap();
        }
        let arguments: Vec<String> = net.cli_arguments().collect();
        assert!(arguments.contains(&"--congestion-fill=2048s".to_owned()), "{arguments:?}");
        let mut again = NetOptions::default();
        for argument in &arguments {
            let (name, value) = argument.split_once('=').unwrap();
            again.set_from_cli(name, Some(value)).unwrap();
        }
        assert_eq!(again, net);
    }

    #[test]
    fn options_survive_serialisation() {
        let mut disk = DiskOptions::default();
        disk.set("resync-rate", Some("10M")).unwrap();
        disk.set("resync-after", Some("3")).unwrap();
        let text = serde_json::to_string(&disk).unwrap();
        assert_eq!(serde_json::from_str::<DiskOptions>(&text).unwrap(), disk);
        assert_eq!(serde_json::from_str::<NetOptions>("{}").unwrap(), NetOptions::default());
    }

    #[test]
    fn an_unknown_name_comes_with_the_nearest_known_one() {
        let error = NetOptions::default().set("crm-hmac-alg", Some("sha1")).unwrap_err();
        assert_eq!(error.to_string(), "unknown net option 'crm-hmac-alg'; did you mean 'cram-hmac-alg'?");
        let error = NetOptions::default().set("zzz", None).unwrap_err();
        assert_eq!(error.to_string(), "unknown net option 'zzz'");
    }

    #[test]
    fn a_bad_value_names_the_option_and_its_range() {
        let error = NetOptions::default().set("timeout", Some("0")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "timeout: '0': 0 is out of range: allowed are 1 to 600 (tenths of a second)"
        );
        assert!(DiskOptions::default().set("timeout", Some("1")).is_err());
    }

    #[test]
    fn options_of_drbd_9_are_checked_and_then_ignored() {
        let mut options = ResourceOptions::default();
        options.set("auto-promote", Some("no")).unwrap();
        assert!(options.set("auto-promote", Some("maybe")).is_err());
        assert_eq!(options, ResourceOptions::default());
    }
}
