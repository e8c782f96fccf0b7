//! Reads the text form of metadata (M8.1): what `restore-md` and `verify-dump` take.
//!
//! The whole text is checked before anything of it is used, and striping is judged like any other
//! (M18, M122).

use super::layout::Striping;
use super::superblock::{CREATED_AL_SLOTS, Marking, MetaFlags, Superblock};
use super::uuid::Uuids;
use crate::units::Sector;

/// Longest dump that is read, in bytes: a full bitmap of 1 TiB without one repetition is 90 MB.
pub const MAX_DUMP_BYTES: u64 = 1 << 32;

/// A dump that was read in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// What the superblock shall say.
    pub superblock: Superblock,
    /// The striping it was taken with.
    pub striping: Striping,
    /// The bitmap: how often, which word.
    pub runs: Vec<(u64, u64)>,
}

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    /// At the first token that does not belong where it stands.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut tokens = Tokens::new(text);
        tokens.keyword("version")?;
        let (line, version) = tokens.string()?;
        if version != "v08" {
            return Err(ParseError::Version { line, found: version.to_owned() });
        }
        tokens.symbol(";")?;
        tokens.keyword("uuid")?;
        tokens.symbol("{")?;
        let mut slots = [0; 4];
        for slot in &mut slots {
            *slot = tokens.hex(16)?;
            tokens.symbol(";")?;
        }
        tokens.keyword("flags")?;
        let flags = MetaFlags::from_bits(tokens.hex(8)? as u32);
        tokens.symbol(";")?;
        tokens.symbol("}")?;
        let la_size = Sector::new(tokens.item("la-size-sect")?);
        let (line, bytes) = (tokens.line, tokens.item("bm-byte-per-bit")?);
        if bytes != 4096 {
            return Err(ParseError::BitSize { line, found: bytes });
        }
        tokens.keyword("device-uuid")?;
        let device_uuid = tokens.hex(16)?;
        tokens.symbol(";")?;
        let peer_max_bio_bytes = tokens.item_u32("la-peer-max-bio-size")?;
        let stripes = tokens.item_u32("al-stripes")?;
        let (line, stripe_blocks) = (tokens.line, tokens.item_u32("al-stripe-size-4k")?);
        let striping = match (stripes, stripe_blocks) {
            (0, _) | (_, 0) => Err(ParseError::Striping { line }),
            _ => Striping::new(stripes, stripe_blocks).map_err(|_| ParseError::Striping { line }),
        }?;
        let runs = tokens.bitmap()?;
        tokens.end()?;
        let superblock = Superblock {
            la_size,
            uuids: Uuids::from_array(slots),
            device_uuid,
            flags,
            marking: Marking::Clean,
            al_slots: CREATED_AL_SLOTS,
            peer_max_bio_bytes,
        };
        Ok(Self { superblock, striping, runs })
    }

    /// The words of the bitmap in order; how many there are may be absurd, take what is needed.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().flat_map(|&(times, word)| {
            std::iter::repeat_n(word, usize::try_from(times).unwrap_or(usize::MAX))
        })
    }

    /// Number of words, saturating.
    #[must_use]
    pub fn word_count(&self) -> u64 {
        self.runs.iter().fold(0, |sum: u64, &(times, _)| sum.saturating_add(times))
    }
}

/// Why a dump was refused (M102c).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Something else stands where this was expected.
    #[error("Parse error in line {line}: {expected} expected, not {found}")]
    Unexpected {
        /// Number of the line, from 1.
        line: usize,
        /// What should stand there.
        expected: String,
        /// What does.
        found: String,
    },
    /// Metadata of another version.
    #[error("dump is '{found}' you requested 'v08'.")]
    Version {
        /// Number of the line, from 1.
        line: usize,
        /// The version named.
        found: String,
    },
    /// A bit that stands for something else than 4 KiB.
    #[error("line {line}: bm-byte-per-bit {found} is not supported, only 4096 is")]
    BitSize {
        /// Number of the line, from 1.
        line: usize,
        /// As given.
        found: u64,
    },
    /// A log smaller or larger than M18 allows.
    #[error("line {line}: the activity log's striping is outside the permitted 8 to 4194304 blocks")]
    Striping {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A number that does not fit its field.
    #[error("line {line}: {value} is too large for {field}")]
    TooLarge {
        /// Number of the line, from 1.
        line: usize,
        /// The item.
        field: &'static str,
        /// As given.
        value: u64,
    },
}

/// A token is a string, a symbol, or a run of anything else.
struct Tokens<'a> {
    rest: &'a str,
    /// Line of the token last taken.
    line: usize,
}

impl<'a> Tokens<'a> {
    const fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    /// Skips blanks and comments.
    fn skip(&mut self) {
        loop {
            let blank = self.rest.find(|c: char| !matches!(c, ' ' | '\t' | '\r' | '\n'));
            let (skipped, rest) = self.rest.split_at(blank.unwrap_or(self.rest.len()));
            self.line += skipped.matches('\n').count();
            self.rest = rest;
            if !rest.starts_with('#') {
                return;
            }
            self.rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        }
    }

    /// The next token, empty at the end of the text.
    fn peek(&mut self) -> &'a str {
        self.skip();
        let end = match self.rest.as_bytes().first() {
            None => 0,
            Some(b'{' | b'}' | b';') => 1,
            Some(b'"') => {
                let inner = self.rest[1..].find(['"', '\n']).unwrap_or(self.rest.len() - 1);
                (inner + 2).min(self.rest.len())
            }
            Some(_) => {
                self.rest.find([' ', '\t', '\r', '\n', '{', '}', ';', '"', '#']).unwrap_or(self.rest.len())
            }
        };
        &self.rest[..end]
    }

    fn take(&mut self) -> &'a str {
        let token = self.peek();
        self.rest = &self.rest[token.len()..];
        token
    }

    fn unexpected(&mut self, expected: impl Into<String>) -> ParseError {
        let found = self.peek().trim_end();
        let found = match found.char_indices().nth(40) {
            Some((cut, _)) => format!("'{}…'", &found[..cut]),
            None if found.is_empty() => "the end of the file".to_owned(),
            None => format!("'{found}'"),
        };
        ParseError::Unexpected { line: self.line, expected: expected.into(), found }
    }

    fn expect(&mut self, token: &str, description: impl FnOnce() -> String) -> Result<(), ParseError> {
        if self.peek() != token {
            return Err(self.unexpected(description()));
        }
        self.take();
        Ok(())
    }

    fn keyword(&mut self, word: &str) -> Result<(), ParseError> {
        self.expect(word, || format!("keyword '{word}'"))
    }

    fn symbol(&mut self, symbol: &str) -> Result<(), ParseError> {
        self.expect(symbol, || format!("'{symbol}'"))
    }

    fn string(&mut self) -> Result<(usize, &'a str), ParseError> {
        let token = self.peek();
        let inner = token.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        let Some(inner) = inner.filter(|inner| (1..=20).contains(&inner.len())) else {
            return Err(self.unexpected("a string"));
        };
        self.take();
        Ok((self.line, inner))
    }

    /// `0x` and exactly this many digits.
    fn hex(&mut self, digits: usize) -> Result<u64, ParseError> {
        let token = self.peek();
        match hex_value(token, digits) {
            Some(value) => {
                self.take();
                Ok(value)
            }
            None if digits == 16 => Err(self.unexpected("a 16-digit hex number")),
            None => Err(self.unexpected("an 8-digit hex number")),
        }
    }

    fn number(&mut self) -> Result<u64, ParseError> {
        let token = self.peek();
        match decimal_value(token) {
            Some(value) => {
                self.take();
                Ok(value)
            }
            None => Err(self.unexpected("a number")),
        }
    }

    fn item(&mut self, name: &str) -> Result<u64, ParseError> {
        self.keyword(name)?;
        let value = self.number()?;
        self.symbol(";")?;
        Ok(value)
    }

    fn item_u32(&mut self, name: &'static str) -> Result<u32, ParseError> {
        let value = self.item(name)?;
        let line = self.line;
        u32::try_from(value).map_err(|_| ParseError::TooLarge { line, field: name, value })
    }

    fn bitmap(&mut self) -> Result<Vec<(u64, u64)>, ParseError> {
        self.keyword("bm")?;
        self.symbol("{")?;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        while self.peek() != "}" {
            let times = match decimal_value(self.peek()) {
                Some(times) => {
                    self.take();
                    self.keyword("times")?;
                    times
                }
                None => 1,
            };
            let word = self.hex(16)?;
            self.symbol(";")?;
            match runs.last_mut() {
                Some((count, last)) if *last == word => *count = count.saturating_add(times),
                _ => runs.push((times, word)),
            }
        }
        self.symbol("}")?;
        Ok(runs)
    }

    fn end(&mut self) -> Result<(), ParseError> {
        if self.peek().is_empty() { Ok(()) } else { Err(self.unexpected("end of file")) }
    }
}

fn hex_value(token: &str, digits: usize) -> Option<u64> {
    let hex = token.strip_prefix("0x")?;
    let well_formed = hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(hex, 16).ok().filter(|_| well_formed)
}

/// 1 to 19 decimal digits; a minus in front wraps modulo 2^64 (M8.1).
fn decimal_value(token: &str) -> Option<u64> {
    let digits = token.strip_prefix('-').unwrap_or(token);
    let well_formed = (1..=19).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let value: u64 = digits.parse().ok().filter(|_| well_formed)?;
    Some(if token.starts_with('-') { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::dump::{Body, Heading, head};
    use crate::meta::layout::{Layout, Placement};
    use proptest::prelude::*;

    const GOOD: &str = "version \"v08\"; uuid { 0x0000000000000004; 0x00000000000000aB;\n\
        0x0000000000000000; 0x0000000000000001; flags 0x00000091; } # comment\n\
        la-size-sect 130992; bm-byte-per-bit 4096; device-uuid 0x0000000000000007;\n\
        la-peer-max-bio-size 4096; al-stripes 1; al-stripe-size-4k 8;\n\
        bm { 2 times 0x0000000000000001; 0 times 0x0000000000000009; 0x0000000000000002; }";

    fn error(text: &str) -> String {
        Dump::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_dump_is_read_item_by_item() {
        let dump = Dump::parse(GOOD).unwrap();
        assert_eq!(dump.superblock.uuids.to_array(), [4, 0xAB, 0, 1]);
        assert_eq!(dump.superblock.flags.bits(), 0x91);
        assert_eq!(dump.superblock.la_size.get(), 130_992);
        assert_eq!(dump.words().collect::<Vec<_>>(), [1, 1, 2]);
        assert_eq!(dump.word_count(), 3);
    }

    #[test]
    fn errors_name_the_line_and_what_was_expected() {
        assert_eq!(error("bm bad"), "Parse error in line 1: keyword 'version' expected, not 'bm'");
        assert_eq!(error("version \"v09\";"), "dump is 'v09' you requested 'v08'.");
        let with = |from: &str, to: &str| error(&GOOD.replacen(from, to, 1));
        assert_eq!(
            with("0x00000000000000aB", "0xaB"),
            "Parse error in line 1: a 16-digit hex number expected, not '0xaB'"
        );
        assert!(with("0x00000091", "0x91").contains("line 2: an 8-digit hex number expected"));
        assert!(with("130992", "0x1FBD0").contains("a number expected, not '0x1FBD0'"));
        assert!(with("al-stripes 1", "al-stripes 0").contains("striping"));
        assert!(with("size-4k 8", "size-4k 7").contains("striping"));
        assert!(with("4096", "8192").contains("bm-byte-per-bit 8192"));
        assert!(with("max-bio-size 4096", "max-bio-size -1").contains("too large"));
        assert!(error(&format!("{GOOD}\njunk")).contains("line 6: end of file expected"));
        assert!(error(&GOOD[..GOOD.len() - 1]).contains("the end of the file"));
        let unclean = "This_is_an_unclean_meta_data_dump._Don't_trust_the_bitmap.\nuuid";
        assert!(with("uuid", unclean).contains("keyword 'uuid' expected"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            slots in any::<[u64; 4]>(),
            (flags, device_uuid, peer_max_bio_bytes) in any::<(u32, u64, u32)>(),
            pattern in prop::collection::vec((0..40usize, prop_oneof![Just(0), Just(u64::MAX), any::<u64>()]), 0..12),
        ) {
            let mut words: Vec<u64> =
                pattern.iter().flat_map(|&(n, word)| std::iter::repeat_n(word, n)).collect();
            words.resize(512, 0);
            let superblock = Superblock {
                la_size: Sector::new(130_992),
                uuids: Uuids::from_array(slots),
                device_uuid,
                flags: MetaFlags::from_bits(flags),
                peer_max_bio_bytes,
                ..Superblock::just_created(0)
            };
            let layout = Layout::new(Placement::Internal, 131_072, Striping::DEFAULT).unwrap();
            let heading = Heading { time: "now", host: "here", command: "test" };
            let mut text = head(&heading, &superblock, &layout, false);
            let mut body = Body::default();
            body.push(&words, &mut text);
            body.finish(&mut text);
            let dump = Dump::parse(&text).unwrap();
            prop_assert_eq!(dump.superblock, superblock);
            prop_assert_eq!(dump.striping, Striping::DEFAULT);
            prop_assert!(dump.words().eq(words));
        }

        #[test]
        fn foreign_text_never_panics(text in "[ -~\n{};\"]{0,200}") {
            let _ = Dump::parse(&text);
            let _ = Dump::parse(&format!("version \"v08\"; uuid {{ {text}"));
        }
    }
}
