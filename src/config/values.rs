//! What an option's value can be: its kinds, units, ranges and words, read from text and printed back.
//!
//! Plain values that depend on nothing else in the crate; [`options`](super::options) lists the
//! options themselves.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of an algorithm's name or a shared secret, at most (C65).
pub const MAX_TEXT_BYTES: usize = 63;
/// Bytes of a CPU mask, at most. The 9.22 tools stop at 31, the others go further (C65).
pub const MAX_MASK_BYTES: usize = 255;
/// The highest minor number a device can have (C51).
pub const MAX_MINOR: u32 = 1_048_575;
/// The highest number a volume can have (C51).
pub const MAX_VOLUME: u16 = 65_534;

/// Which form an option's value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`; a missing value means yes (C63).
    Bool,
    /// A bare word without a value.
    Flag,
    /// A number with an optional multiplier (C60).
    Number(Number),
    /// One of these words, compared exactly (C64).
    Word(&'static [&'static str]),
    /// One of these words, in either case, kept in upper case (C58).
    WordAnyCase(&'static [&'static str]),
    /// Any text of at most this many bytes (C65).
    Text {
        /// The limit.
        max_bytes: usize,
    },
    /// The device to wait for: `RESOURCE[/VOLUME]` in files, a minor number or -1 in commands (C69).
    After,
    /// Host names, or the word `both`.
    Hosts,
    /// A command line for the shell (C67).
    Command,
}

/// The numbers an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Smallest allowed value, in `unit`.
    pub min: u64,
    /// Largest allowed value, in `unit`.
    pub max: u64,
    /// What a bare number counts.
    pub unit: Unit,
    /// Whether a value outside the range becomes the nearest allowed one instead of an error (C62).
    pub clamp: bool,
}

impl Number {
    /// The numbers from `min` to `max`, in `unit`.
    #[must_use]
    pub const fn new(min: u64, max: u64, unit: Unit) -> Self {
        Self { min, max, unit, clamp: false }
    }

    /// As [`Number::new`], but a value outside is moved to the nearest end (C62).
    #[must_use]
    pub const fn clamped(min: u64, max: u64, unit: Unit) -> Self {
        Self { min, max, unit, clamp: true }
    }

    /// Reads `text`: decimal digits and at most one of `k K m M g G s` (C60). The result is in
    /// `unit`, rounded up.
    ///
    /// # Errors
    /// [`ValueError::NotANumber`], [`ValueError::OutOfRange`].
    pub fn parse(&self, text: &str) -> Result<u64, ValueError> {
        let amount = parse_amount(text, self.unit).ok_or(ValueError::NotANumber)?;
        if self.clamp {
            return Ok(amount.clamp(self.min, self.max));
        }
        if amount < self.min || amount > self.max {
            return Err(ValueError::OutOfRange { got: amount, range: *self });
        }
        Ok(amount)
    }

    /// Prints `amount` so that [`Number::parse`] reads it back: `102400k`, `60`.
    #[must_use]
    pub fn print(&self, amount: u64) -> String {
        format!("{amount}{}", self.unit.suffix())
    }
}

/// What a bare number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Pages of 4 KiB.
    Pages,
    /// Bytes.
    Bytes,
    /// Sectors of 512 bytes.
    Sectors,
    /// KiB in a second.
    KibPerSecond,
    /// Seconds.
    Seconds,
    /// Tenths of a second.
    Deciseconds,
    /// Thousandths of a second.
    Milliseconds,
}

impl Unit {
    /// The unit in words, for messages and help; empty for mere counts.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Pages => "pages of 4 KiB",
            Self::Bytes => "bytes",
            Self::Sectors => "sectors of 512 bytes",
            Self::KibPerSecond => "KiB per second",
            Self::Seconds => "seconds",
            Self::Deciseconds => "tenths of a second",
            Self::Milliseconds => "milliseconds",
        }
    }

    /// The letter printed behind a number in this unit (C60, C61).
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Sectors => "s",
            Self::KibPerSecond => "k",
            Self::Count
            | Self::Pages
            | Self::Bytes
            | Self::Seconds
            | Self::Deciseconds
            | Self::Milliseconds => "",
        }
    }

    /// What one unit weighs when a multiplier letter is present: bytes for sizes, 1 for the rest.
    const fn weight(self) -> u64 {
        match self {
            Self::Sectors => 512,
            Self::KibPerSecond => 1024,
            Self::Count
            | Self::Pages
            | Self::Bytes
            | Self::Seconds
            | Self::Deciseconds
            | Self::Milliseconds => 1,
        }
    }
}

/// Why a text is not a value of its option. The caller knows the option's name and the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The option needs a value.
    #[error("a value is missing")]
    Missing,
    /// The option takes no value.
    #[error("this option takes no value")]
    Unwanted,
    /// Not digits with an optional multiplier.
    #[error("not a number (digits, then at most one of k, M, G or s)")]
    NotANumber,
    /// Outside the option's range.
    #[error("{} is out of range: allowed are {}", range.print(*got), DisplayRange(range))]
    OutOfRange {
        /// The value in the option's unit.
        got: u64,
        /// The allowed values.
        range: Number,
    },
    /// Neither `yes` nor `no`.
    #[error("not 'yes' or 'no'")]
    NotBool,
    /// None of the option's words.
    #[error("not one of {}", words.join(", "))]
    UnknownWord {
        /// The allowed words.
        words: &'static [&'static str],
    },
    /// Too many bytes.
    #[error("longer than {max_bytes} bytes")]
    TooLong {
        /// The limit.
        max_bytes: usize,
    },
}

/// A secret: it travels like a text, but does not show up in debug output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, for the digest that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Which hosts a start script promotes (`become-primary-on`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BecomePrimary {
    /// None.
    #[default]
    Nobody,
    /// Both nodes; needs `allow-two-primaries` (C91).
    Both,
    /// These hosts.
    Hosts(Vec<String>),
}

impl BecomePrimary {
    /// Whether `host` is to be promoted.
    #[must_use]
    pub fn includes(&self, host: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Both => true,
            Self::Hosts(hosts) => hosts.iter().any(|name| name == host),
        }
    }
}

/// A type that an option's value has once it is read.
pub trait Value: Sized {
    /// Reads `text`; `None` when the option stands alone.
    ///
    /// # Errors
    /// Why `text` is no value of this `kind`.
    fn parse(kind: &Kind, text: Option<&str>) -> Result<Self, ValueError>;

    /// Prints the value so that [`Value::parse`] reads it back.
    fn print(&self, kind: &Kind) -> String;
}

impl Value for bool {
    fn parse(kind: &Kind, text: Option<&str>) -> Result<Self, ValueError> {
        match (kind, text) {
            (Kind::Flag, Some(_)) => Err(ValueError::Unwanted),
            (_, None | Some("yes")) => Ok(true),
            (_, Some("no")) => Ok(false),
            (_, Some(_)) => Err(ValueError::NotBool),
        }
    }

    fn print(&self, _kind: &Kind) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }
}

impl Value for u64 {
    fn parse(kind: &Kind, text: Option<&str>) -> Result<Self, ValueError> {
        let text = text.ok_or(ValueError::Missing)?;
        let Kind::Number(number) = kind else { return Err(ValueError::NotANumber) };
        number.parse(text)
    }

    fn print(&self, kind: &Kind) -> String {
        match kind {
            Kind::Number(number) => number.print(*self),
            _ => self.to_string(),
        }
    }
}

impl Value for u32 {
    fn parse(kind: &Kind, text: Option<&str>) -> Result<Self, ValueError> {
        Self::try_from(u64::parse(kind, text)?).map_err(|_| ValueError::NotANumber)
    }

    fn print(&self, kind: &Kind) -> String {
        u64::from(*self).print(kind)
    }
}

/// A text that may be empty: the empty one is "none" (C65).
impl Value for Option<String> {
    fn parse(kind: &Kind, text: Option<&str>) -> Result<Self, ValueError> {
        let text = text.ok_or(ValueError::Missing)?;
        if let Kind::Text { max_bytes } = *kind
            && text.len() > max_bytes
        {
            return Err(ValueError::TooLong { max_bytes });
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn print(&self, _kind: &Kind) -> String {
        self.clone().unwrap_or_default()
    }
}

impl Value for Option<Secret> {
    fn parse(kind: &Kind, text: Option<&str>) -> Result<Self, ValueError> {
        Ok(Option::<String>::parse(kind, text)?.map(Secret))
    }

    fn print(&self, _kind: &Kind) -> String {
        self.as_ref().map(|secret| secret.0.clone()).unwrap_or_default()
    }
}

/// The minor to wait for, as in commands: a number, or -1 for none (C66, C69).
impl Value for Option<u32> {
    fn parse(_kind: &Kind, text: Option<&str>) -> Result<Self, ValueError> {
        let text = text.ok_or(ValueError::Missing)?;
        if text == "-1" {
            return Ok(None);
        }
        let minors = Number::new(0, u64::from(MAX_MINOR), Unit::Count);
        let minor = minors.parse(text)?;
        Ok(u32::try_from(minor).ok())
    }

    fn print(&self, _kind: &Kind) -> String {
        self.map_or_else(|| "-1".to_owned(), |minor| minor.to_string())
    }
}

impl Value for BecomePrimary {
    fn parse(_kind: &Kind, text: Option<&str>) -> Result<Self, ValueError> {
        let hosts: Vec<String> =
            text.ok_or(ValueError::Missing)?.split_whitespace().map(str::to_owned).collect();
        match hosts.as_slice() {
            [] => Err(ValueError::Missing),
            [only] if only == "both" => Ok(Self::Both),
            _ => Ok(Self::Hosts(hosts)),
        }
    }

    fn print(&self, _kind: &Kind) -> String {
        match self {
            Self::Nobody => String::new(),
            Self::Both => "both".to_owned(),
            Self::Hosts(hosts) => hosts.join(" "),
        }
    }
}

/// Declares an option's words as an enum: the words, their order and the default in one place.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, default $default:ident
     $($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// The words, in the order of the specification.
            pub const WORDS: &'static [&'static str] = &[$($word),*];
            /// Every value, in the same order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word for this value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl Default for $name {
            fn default() -> Self { Self::$default }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Value for $name {
            fn parse(kind: &Kind, text: Option<&str>) -> Result<Self, ValueError> {
                let text = text.ok_or(ValueError::Missing)?;
                let any_case = matches!(kind, Kind::WordAnyCase(_));
                Self::ALL
                    .iter()
                    .copied()
                    .find(|value| {
                        let word = value.as_str();
                        word == text || (any_case && word.eq_ignore_ascii_case(text))
                    })
                    .ok_or(ValueError::UnknownWord { words: Self::WORDS })
            }

            fn print(&self, _kind: &Kind) -> String {
                self.as_str().to_owned()
            }
        }
    };
}

words! {
    /// When a write counts as done (`protocol`).
    Protocol, default C
    /// On the local disk and in the send buffer.
    A = "A",
    /// On the local disk and in the peer's memory.
    B = "B",
    /// On both disks.
    C = "C",
}

words! {
    /// Automatic repair of a split brain when nobody is Primary (`after-sb-0pri`).
    AfterSb0p, default Disconnect
    /// None: stay apart.
    Disconnect = "disconnect",
    /// The node that was Primary last loses.
    DiscardYoungerPrimary = "discard-younger-primary",
    /// The node that was Primary first loses.
    DiscardOlderPrimary = "discard-older-primary",
    /// A node without changes loses; with changes on both sides, disconnect.
    DiscardZeroChanges = "discard-zero-changes",
    /// The node with fewer changes loses.
    DiscardLeastChanges = "discard-least-changes",
    /// This node loses.
    DiscardLocal = "discard-local",
    /// The peer loses.
    DiscardRemote = "discard-remote",
}

words! {
    /// Automatic repair of a split brain when one node is Primary (`after-sb-1pri`).
    AfterSb1p, default Disconnect
    /// None: stay apart.
    Disconnect = "disconnect",
    /// Discard the Secondary if `after-sb-0pri` says the same.
    Consensus = "consensus",
    /// The Secondary loses.
    DiscardSecondary = "discard-secondary",
    /// Follow `after-sb-0pri`; if the Primary loses, call its handler.
    CallPriLostAfterSb = "call-pri-lost-after-sb",
    /// Follow `after-sb-0pri`, even against the Primary.
    ViolentlyAs0p = "violently-as0p",
}

words! {
    /// Automatic repair of a split brain when both nodes are Primary (`after-sb-2pri`).
    AfterSb2p, default Disconnect
    /// None: stay apart.
    Disconnect = "disconnect",
    /// Follow `after-sb-0pri`; call the handler of the Primary that loses.
    CallPriLostAfterSb = "call-pri-lost-after-sb",
    /// Follow `after-sb-0pri`, even against a Primary.
    ViolentlyAs0p = "violently-as0p",
}

words! {
    /// What to do when the data generations ask a Primary to become sync target (`rr-conflict`).
    RrConflict, default Disconnect
    /// Stay apart.
    Disconnect = "disconnect",
    /// Call the handler of the Primary that loses.
    CallPriLost = "call-pri-lost",
    /// Overwrite the Primary's data.
    Violently = "violently",
}

words! {
    /// What to do when the send buffer to the peer is congested (`on-congestion`).
    OnCongestion, default Block
    /// Wait.
    Block = "block",
    /// Disconnect replication for a while and resynchronise later; needs protocol A.
    PullAhead = "pull-ahead",
    /// Drop the connection.
    Disconnect = "disconnect",
}

words! {
    /// How the peer is kept from becoming Primary while apart (`fencing`).
    Fencing, default DontCare
    /// Not at all.
    DontCare = "dont-care",
    /// Call the fence-peer handler.
    ResourceOnly = "resource-only",
    /// Freeze I/O and call the fence-peer handler, which may shoot the peer.
    ResourceAndStonith = "resource-and-stonith",
}

words! {
    /// What a Primary does about an error of its own disk (`on-io-error`).
    OnIoError, default Detach
    /// Report the error to the user of the device.
    PassOn = "pass_on",
    /// Call the local-io-error handler, then detach.
    CallLocalIoError = "call-local-io-error",
    /// Drop the disk and go on with the peer's.
    Detach = "detach",
}

words! {
    /// Where a read goes when both disks are up to date (`read-balancing`).
    ReadBalancing, default PreferLocal
    /// To the local disk.
    PreferLocal = "prefer-local",
    /// To the peer.
    PreferRemote = "prefer-remote",
    /// In turn.
    RoundRobin = "round-robin",
    /// To the side with fewer requests under way.
    LeastPending = "least-pending",
    /// To the peer while the local disk is congested.
    WhenCongestedRemote = "when-congested-remote",
    /// In stripes of 32 KiB.
    Striping32K = "32K-striping",
    /// In stripes of 64 KiB.
    Striping64K = "64K-striping",
    /// In stripes of 128 KiB.
    Striping128K = "128K-striping",
    /// In stripes of 256 KiB.
    Striping256K = "256K-striping",
    /// In stripes of 512 KiB.
    Striping512K = "512K-striping",
    /// In stripes of 1 MiB.
    Striping1M = "1M-striping",
}

words! {
    /// What happens to requests while no disk has the data (`on-no-data-accessible`).
    OnNoDataAccessible, default IoError
    /// They fail.
    IoError = "io-error",
    /// They wait.
    SuspendIo = "suspend-io",
}

words! {
    /// Whether the tool may count its installations (`usage-count`); urbd never does (C40).
    UsageCount, default Ask
    /// Yes.
    Yes = "yes",
    /// No.
    No = "no",
    /// Ask.
    Ask = "ask",
}

/// The allowed values in words: `1 to 600 (tenths of a second)`.
struct DisplayRange<'a>(&'a Number);

impl fmt::Display for DisplayRange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.0.print(self.0.min), self.0.print(self.0.max))?;
        match self.0.unit.words() {
            "" => Ok(()),
            words => write!(f, " ({words})"),
        }
    }
}

/// The amount `text` stands for, in `unit`, rounded up; saturating, so that too many digits read as
/// "too big" and not as garbage.
fn parse_amount(text: &str, unit: Unit) -> Option<u64> {
    let (digits, multiplier) = match *text.as_bytes().last()? {
        b'k' | b'K' => (text.get(..text.len() - 1)?, Some(1 << 10)),
        b'm' | b'M' => (text.get(..text.len() - 1)?, Some(1 << 20)),
        b'g' | b'G' => (text.get(..text.len() - 1)?, Some(1 << 30)),
        b's' => (text.get(..text.len() - 1)?, Some(512)),
        _ => (text, None),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count = digits
        .bytes()
        .fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(match multiplier {
        None => count,
        Some(bytes) => count.saturating_mul(bytes).div_ceil(unit.weight()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Number = Number::new(250, 4_194_304, Unit::KibPerSecond);

    #[test]
    fn a_bare_number_counts_the_options_own_unit_and_a_suffix_counts_bytes() {
        // C60
        assert_eq!(RATE.parse("1500"), Ok(1500));
        assert_eq!(RATE.parse("10M"), Ok(10_240));
        assert_eq!(RATE.parse("1g"), Ok(1_048_576));
        assert_eq!(Number::new(1, 9, Unit::KibPerSecond).parse("1s"), Ok(1));
        assert_eq!(Number::new(0, 9_999, Unit::Sectors).parse("1k"), Ok(2));
        assert_eq!(Number::new(0, 9_999, Unit::Bytes).parse("2s"), Ok(1024));
        assert_eq!(Number::new(0, 99, Unit::Count).parse("0007"), Ok(7));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "abc", "0x5", "60T", "60 ", "-1", "+60", "k", "1kk", "1.5", "é", "1é"] {
            assert_eq!(RATE.parse(text), Err(ValueError::NotANumber), "{text:?}");
        }
    }

    #[test]
    fn too_many_digits_are_too_big_and_not_garbage() {
        let big = RATE.parse("99999999999999999999999999999999G");
        assert!(matches!(big, Err(ValueError::OutOfRange { .. })), "{big:?}");
    }

    #[test]
    fn a_range_error_names_the_range_and_the_unit() {
        let error = Number::new(1, 600, Unit::Deciseconds).parse("0").unwrap_err();
        assert_eq!(error.to_string(), "0 is out of range: allowed are 1 to 600 (tenths of a second)");
        let error = RATE.parse("249").unwrap_err();
        assert_eq!(error.to_string(), "249k is out of range: allowed are 250k to 4194304k (KiB per second)");
    }

    #[test]
    fn al_extents_outside_its_range_are_clamped() {
        // C62
        let extents = Number::clamped(67, 65_534, Unit::Count);
        assert_eq!(extents.parse("1"), Ok(67));
        assert_eq!(extents.parse("99999999"), Ok(65_534));
    }

    #[test]
    fn the_protocol_is_read_in_either_case() {
        // C58
        let kind = Kind::WordAnyCase(Protocol::WORDS);
        assert_eq!(Protocol::parse(&kind, Some("c")), Ok(Protocol::C));
        assert!(OnIoError::parse(&Kind::Word(OnIoError::WORDS), Some("Detach")).is_err());
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let secret = Secret::from("tiger".to_owned());
        assert!(!format!("{secret:?}").contains("tiger"));
        assert_eq!(secret.expose(), "tiger");
    }
}
