//! The text form of metadata: what `dump-md` writes (M102..M102g). Its reader is [`super::dump_parse`].
//!
//! The bitmap is fed in piece by piece, so that a large one never lies in memory as text.

use std::fmt::Write;

use super::layout::Layout;
use super::superblock::Superblock;

/// Words in a row of the bitmap's text.
const ROW_WORDS: usize = 4;
/// A comment with the position stands in front of every so many words.
const MARK_WORDS: u64 = 32;

/// What stands above the metadata as a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading<'a> {
    /// Local time, `YYYY-MM-DD HH:MM:SS +ZZZZ [seconds since 1970]`.
    pub time: &'a str,
    /// The host's name.
    pub host: &'a str,
    /// The command line that wrote it.
    pub command: &'a str,
}

/// Everything in front of the bitmap's words.
///
/// `unclean` puts in the line that makes the dump unusable on purpose (M102g).
#[must_use]
pub fn head(heading: &Heading<'_>, superblock: &Superblock, layout: &Layout, unclean: bool) -> String {
    let mut text = format!(
        "# DRBD meta data dump\n# {}\n# {}> {}\n#\n\nversion \"v08\";\n\n",
        heading.time, heading.host, heading.command
    );
    if unclean {
        text.push_str(
            "This_is_an_unclean_meta_data_dump._Don't_trust_the_bitmap.\n\
             # You should \"apply-al\" first, if you plan to restore this.\n\n",
        );
    }
    let [current, bitmap, young, old] = superblock.uuids.to_array();
    let _ = write!(
        text,
        "# md_size_sect {}\n# md_offset {}\n# al_offset {}\n# bm_offset {}\n\n\
         uuid {{\n    0x{current:016X}; 0x{bitmap:016X}; 0x{young:016X}; 0x{old:016X};\n    \
         flags 0x{:08X};\n}}\n\
         # al-extents {};\nla-size-sect {};\nbm-byte-per-bit 4096;\n\
         device-uuid 0x{:016X};\nla-peer-max-bio-size {};\n\
         al-stripes {};\nal-stripe-size-4k {};\n# bm-bytes {};\nbm {{\n",
        layout.md_size_sectors(),
        layout.superblock_byte(),
        layout.al_byte(),
        layout.bitmap_byte(),
        superblock.flags.bits(),
        superblock.al_slots,
        superblock.la_size.get(),
        superblock.device_uuid,
        superblock.peer_max_bio_bytes,
        layout.striping().stripes(),
        layout.striping().stripe_blocks(),
        bitmap_bytes(superblock),
    );
    text
}

/// Bytes of bitmap that a dump holds: whole pages for the last agreed size (M102e).
#[must_use]
pub const fn bitmap_bytes(superblock: &Superblock) -> u64 {
    super::bitmap::pages_of(superblock.la_size) * super::BLOCK_BYTES as u64
}

/// Writes the words of the bitmap (M102f), and what follows them.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Words written or held back so far.
    words: u64,
    bits_set: u64,
    /// The row that is not complete.
    row: Vec<u64>,
    run: Option<Run>,
}

/// Equal rows that are not written yet.
#[derive(Clone, Copy, Debug)]
struct Run {
    word: u64,
    start: u64,
    rows: u64,
}

impl Body {
    /// Takes in the next words and appends what can be written.
    pub fn push(&mut self, words: &[u64], text: &mut String) {
        for &word in words {
            self.bits_set += u64::from(word.count_ones());
            self.row.push(word);
            self.words += 1;
            if self.row.len() == ROW_WORDS {
                self.end_row(text);
            }
        }
    }

    /// Ends the bitmap and the dump.
    pub fn finish(mut self, text: &mut String) {
        self.flush_run(text);
        let rest = std::mem::take(&mut self.row);
        write_row(self.words - rest.len() as u64, &rest, text);
        let _ = writeln!(text, "}}\n# bits-set {};", self.bits_set);
    }

    fn end_row(&mut self, text: &mut String) {
        let row = std::mem::take(&mut self.row);
        let start = self.words - ROW_WORDS as u64;
        let uniform = row.iter().all(|&word| word == row[0]) && row[0] >> 32 == row[0] & 0xFFFF_FFFF;
        if let Some(run) = self.run.as_mut().filter(|run| uniform && run.word == row[0]) {
            run.rows += 1;
            return;
        }
        self.flush_run(text);
        if uniform {
            self.run = Some(Run { word: row[0], start, rows: 1 });
        } else {
            write_row(start, &row, text);
        }
    }

    fn flush_run(&mut self, text: &mut String) {
        let Some(run) = self.run.take() else { return };
        if run.rows == 1 {
            write_row(run.start, &[run.word; ROW_WORDS], text);
        } else {
            write_position(run.start, text);
            let _ = writeln!(text, "    {} times 0x{:016X};", run.rows * ROW_WORDS as u64, run.word);
        }
    }
}

fn write_row(start: u64, words: &[u64], text: &mut String) {
    if words.is_empty() {
        return;
    }
    write_position(start, text);
    text.push_str("   ");
    for word in words {
        let _ = write!(text, " 0x{word:016X};");
    }
    text.push('\n');
}

fn write_position(word: u64, text: &mut String) {
    if word.is_multiple_of(MARK_WORDS) {
        let _ = writeln!(text, "   # at {}kB", word * 64 * 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(words: &[u64]) -> String {
        let (mut body, mut text) = (Body::default(), String::new());
        for piece in words.chunks(7) {
            body.push(piece, &mut text);
        }
        body.finish(&mut text);
        text
    }

    #[test]
    fn equal_rows_are_counted_and_positions_stand_every_eight_mebibytes() {
        let mut words = vec![0; 64];
        words[5] = 1;
        assert_eq!(
            body(&words),
            "   # at 0kB\n    \
             0x0000000000000000; 0x0000000000000000; 0x0000000000000000; 0x0000000000000000;\n    \
             0x0000000000000000; 0x0000000000000001; 0x0000000000000000; 0x0000000000000000;\n    \
             56 times 0x0000000000000000;\n}\n# bits-set 1;\n"
        );
    }

    #[test]
    fn rows_of_unequal_halves_are_written_out() {
        let text = body(&[0x0000_0001_0000_0002; 8]);
        assert_eq!(text.matches("0x0000000100000002").count(), 8);
        assert!(body(&[0x0000_0002_0000_0002; 8]).contains("8 times 0x0000000200000002"));
    }

    #[test]
    fn an_empty_bitmap_has_an_empty_body() {
        assert_eq!(body(&[]), "}\n# bits-set 0;\n");
    }
}
