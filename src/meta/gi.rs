//! Generation identifiers as text: `get-gi`, `show-gi`, `dstate`, and what `set-gi` takes (M100..M101a,
//! M119).

use std::fmt::Write;

use super::superblock::{MetaFlags, Superblock};

/// The flags of the get-gi line, in its order (M100).
const FLAGS: [MetaFlags; 7] = [
    MetaFlags::CONSISTENT,
    MetaFlags::WAS_UP_TO_DATE,
    MetaFlags::PRIMARY_IND,
    MetaFlags::CONNECTED_IND,
    MetaFlags::FULL_SYNC,
    MetaFlags::PEER_OUTDATED,
    MetaFlags::CRASHED_PRIMARY,
];

const LEGEND_ABOVE: &str = "
       +--<  Current data generation UUID  >-
       |               +--<  Bitmap's base data generation UUID  >-
       |               |                 +--<  younger history UUID  >-
       |               |                 |         +-<  older history  >-
       V               V                 V         V
";

const LEGEND_BELOW: &str = "
                                                                    ^ ^ ^ ^ ^ ^ ^
                                      -<  Data consistency flag  >--+ | | | | | |
                             -<  Data was/is currently up-to-date  >--+ | | | | |
                                  -<  Node was/is currently primary  >--+ | | | |
                                  -<  Node was/is currently connected  >--+ | | |
         -<  Node was in the progress of setting all bits in the bitmap  >--+ | |
                        -<  The peer's disk was out-dated or inconsistent  >--+ |
      -<  This node was a crashed primary, and has not seen its peer since   >--+
";

/// The line of `get-gi`, without a line break: four UUIDs and seven flags (M100).
#[must_use]
pub fn get_gi(superblock: &Superblock) -> String {
    let mut line = superblock.uuids.to_string();
    for flag in FLAGS {
        line.push_str(if superblock.flags.contains(flag) { ":1" } else { ":0" });
    }
    line
}

/// A line of [`get_gi`] with what each of its fields means above and below it (M101).
#[must_use]
pub fn with_legend(line: &str) -> String {
    format!("{LEGEND_ABOVE}{line}{LEGEND_BELOW}")
}

/// The text of `show-gi` (M101, L93c).
#[must_use]
pub fn show_gi(superblock: &Superblock) -> String {
    let flags = superblock.flags;
    let mut text = with_legend(&get_gi(superblock)) + "\n";
    let crashed = if flags.contains(MetaFlags::CRASHED_PRIMARY) { " crashed" } else { "" };
    let role = if flags.contains(MetaFlags::PRIMARY_IND) { "Primary" } else { "Secondary" };
    let link = if flags.contains(MetaFlags::CONNECTED_IND) { "Connected" } else { "StandAlone" };
    let disk = match (flags.contains(MetaFlags::CONSISTENT), flags.contains(MetaFlags::WAS_UP_TO_DATE)) {
        (false, _) => "Inconsistent",
        (true, false) => "Outdated",
        (true, true) => "UpToDate",
    };
    let _ = write!(text, "flags:{crashed} {role}, {link}, {disk}");
    if flags.contains(MetaFlags::FULL_SYNC) {
        text.push_str(", need full sync");
    }
    if flags.contains(MetaFlags::PEER_OUTDATED) {
        text.push_str(", peer Outdated");
    }
    let clean = if flags.contains(MetaFlags::AL_CLEAN) { "clean" } else { "need apply-al" };
    let _ = writeln!(text, "\nmeta-data: {clean}");
    let sectors = superblock.la_size.get();
    if sectors == 0 {
        text.push_str("zero size device -- never seen peer yet?\n");
    } else {
        let size = scaled_kib(sectors / 2);
        let _ = writeln!(text, "last agreed size: {size} ({sectors} sectors)");
        let _ = writeln!(text, "last agreed max bio size: {} Byte", superblock.peer_max_bio_bytes);
    }
    text
}

/// The word of `dstate` (M101a).
#[must_use]
pub const fn dstate(flags: MetaFlags) -> &'static str {
    if !flags.contains(MetaFlags::CONSISTENT) {
        "Inconsistent"
    } else if !flags.contains(MetaFlags::WAS_UP_TO_DATE) {
        "Outdated"
    } else if flags.contains(MetaFlags::PEER_OUTDATED) {
        "UpToDate"
    } else {
        "Consistent"
    }
}

/// A size as the tool abbreviates it, from KiB (M70a).
#[must_use]
pub fn scaled_kib(kib: u64) -> String {
    let (mut value, mut unit) = (kib, 0);
    while value >= 10_000 && unit < 3 {
        value = (value >> 10) + (value >> 9 & 1);
        unit += 1;
    }
    format!("{value} {}", ["KB", "MB", "GB", "TB"][unit])
}

/// Applies what `set-gi` was given: the fields of a get-gi line, empty ones keep their value, and
/// a missing tail does too (M119). Fields behind the eleventh are ignored.
///
/// # Errors
/// If a UUID is not 1 to 16 hexadecimal digits, or a flag neither `0` nor `1`.
pub fn set_gi(superblock: &Superblock, list: &str) -> Result<Superblock, GiError> {
    let mut changed = *superblock;
    let mut slots = superblock.uuids.to_array();
    for (i, field) in list.split(':').enumerate().filter(|(_, field)| !field.is_empty()) {
        if let Some(slot) = slots.get_mut(i) {
            *slot = parse_uuid(field)?;
        } else if let Some(&flag) = FLAGS.get(i - 4) {
            changed.flags = changed.flags.with(flag, parse_flag(field)?);
        }
    }
    changed.uuids = super::uuid::Uuids::from_array(slots);
    Ok(changed)
}

/// A UUID: 1 to 16 hexadecimal digits, with or without `0x`. Nothing else passes (M120).
///
/// # Errors
/// [`GiError::Uuid`] for anything else.
pub fn parse_uuid(text: &str) -> Result<u64, GiError> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let well_formed = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let value = u64::from_str_radix(digits, 16).ok().filter(|_| well_formed);
    value.ok_or_else(|| GiError::Uuid { text: text.to_owned() })
}

fn parse_flag(text: &str) -> Result<bool, GiError> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        other if other.parse::<u64>().is_ok() => Err(GiError::Flag { text: other.to_owned() }),
        other => Err(GiError::Uuid { text: other.to_owned() }),
    }
}

/// A field of `set-gi` or `write-dev-uuid` that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GiError {
    /// No hexadecimal number of at most 16 digits.
    #[error("'{text}' is not a number.")]
    Uuid {
        /// What was given.
        text: String,
    },
    /// A number, but no flag.
    #[error("'{text}' is not 0 or 1.")]
    Flag {
        /// What was given.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_abbreviated_as_the_tool_does() {
        assert_eq!(scaled_kib(65_496), "64 MB");
        assert_eq!(scaled_kib(8192), "8192 KB");
        assert_eq!(scaled_kib(9999), "9999 KB");
        assert_eq!(scaled_kib(10_752), "11 MB");
        assert_eq!(scaled_kib(0), "0 KB");
        assert_eq!(scaled_kib(u64::MAX / 2), "8589934592 TB");
    }

    /// The steps 02 and 03 of the golden operations.
    #[test]
    fn empty_fields_and_a_missing_tail_keep_their_values() {
        let start = Superblock::just_created(0);
        let list = "1111111111111110:2222222222222222:3333333333333334:4444444444444444:1:1";
        let first = set_gi(&start, list).unwrap();
        assert_eq!(get_gi(&first), format!("{list}:0:0:0:0:0"));
        let second = set_gi(&first, ":::::::1:1:0:1:1").unwrap();
        assert_eq!(get_gi(&second), format!("{list}:0:1:1:0:1"));
        assert!(second.flags.contains(MetaFlags::AL_CLEAN));
    }

    #[test]
    fn malformed_fields_are_refused() {
        let start = Superblock::just_created(0);
        for list in ["zz", " 4", "+4", "4 ", "00000000000000001", "0x", "4:-1"] {
            assert!(matches!(set_gi(&start, list), Err(GiError::Uuid { .. })), "{list}");
        }
        assert!(matches!(set_gi(&start, "::::2"), Err(GiError::Flag { .. })));
        assert!(set_gi(&start, "::::01").is_err());
    }

    #[test]
    fn a_healthy_secondary_counts_as_consistent() {
        let both = MetaFlags::CONSISTENT | MetaFlags::WAS_UP_TO_DATE;
        assert_eq!(dstate(both), "Consistent");
        assert_eq!(dstate(both | MetaFlags::PEER_OUTDATED), "UpToDate");
        assert_eq!(dstate(MetaFlags::CONSISTENT), "Outdated");
        assert_eq!(dstate(MetaFlags::WAS_UP_TO_DATE), "Inconsistent");
    }
}
