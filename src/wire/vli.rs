//! Variable-length integers for run lengths, and the bit stream they travel in (W108 to W110).

/// A row of the code table: `prefix_bits` low bits equal `prefix`, `data_bits` follow above them.
struct Row {
    prefix_bits: u32,
    prefix: u64,
    data_bits: u32,
    /// First run length that the row encodes.
    first: u64,
}

impl Row {
    const fn new(prefix_bits: u32, prefix: u64, data_bits: u32, first: u64) -> Self {
        Self { prefix_bits, prefix, data_bits, first }
    }

    const fn total_bits(&self) -> u32 {
        self.prefix_bits + self.data_bits
    }

    const fn last(&self) -> u64 {
        self.first + (1 << self.data_bits) - 1
    }
}

/// The complete table of W110.
const ROWS: [Row; 10] = [
    Row::new(1, 0x00, 1, 1),
    Row::new(2, 0x01, 1, 3),
    Row::new(3, 0x03, 2, 5),
    Row::new(4, 0x07, 3, 9),
    Row::new(5, 0x0f, 5, 17),
    Row::new(6, 0x1f, 8, 49),
    Row::new(8, 0x3f, 13, 305),
    Row::new(8, 0x7f, 21, 8497),
    Row::new(8, 0xbf, 34, 2_105_649),
    Row::new(8, 0xff, 56, 17_181_974_833),
];

/// Longest run that has a code; no device has that many blocks.
pub(super) const MAX_RUN: u64 = ROWS[9].last();

/// The code of a run of 1 to [`MAX_RUN`] bits, and how many bits it has.
pub(super) fn code_of(run: u64) -> Option<(u64, u32)> {
    let row = ROWS.iter().find(|row| run <= row.last()).filter(|row| run >= row.first)?;
    Some((((run - row.first) << row.prefix_bits) | row.prefix, row.total_bits()))
}

/// The run whose code the low bits of `bits` are, and how many bits the code has.
fn run_of(bits: u64) -> (u64, u32) {
    // The prefixes are complete: the last two rows differ from all others in their low 6 bits, and
    // between them the table covers every value of the low 8 bits.
    let row = ROWS.iter().find(|row| bits & mask(row.prefix_bits) == row.prefix).unwrap_or(&ROWS[9]);
    let data = (bits >> row.prefix_bits) & mask(row.data_bits);
    (row.first + data, row.total_bits())
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// Appends codes, least significant bit first (W109).
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    used_bits: usize,
    max_bits: usize,
}

impl BitWriter {
    /// A writer for at most `max_bytes`.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { bytes: Vec::new(), used_bits: 0, max_bits: max_bytes * 8 }
    }

    /// Appends the code of `run`; `false`, and nothing changed, if it does not fit.
    pub(super) fn push(&mut self, run: u64) -> bool {
        let Some((code, bits)) = code_of(run) else { return false };
        let end = self.used_bits + bits as usize;
        if end > self.max_bits {
            return false;
        }
        let shifted = u128::from(code) << (self.used_bits % 8);
        let first = self.used_bits / 8;
        self.bytes.resize(end.div_ceil(8), 0);
        for (byte, value) in self.bytes[first..].iter_mut().zip(shifted.to_le_bytes()) {
            *byte |= value;
        }
        self.used_bits = end;
        true
    }

    /// The bytes, and the number of unused bits in the last one.
    pub(super) fn finish(self) -> (Vec<u8>, u8) {
        let pad = self.bytes.len() * 8 - self.used_bits;
        (self.bytes, pad as u8)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Reads runs from a bit stream.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    next_bit: usize,
    valid_bits: usize,
}

impl<'a> BitReader<'a> {
    /// The stream of `bytes`, in the last of which `pad` bits are unused.
    pub(super) const fn new(bytes: &'a [u8], pad: u8) -> Self {
        Self { bytes, next_bit: 0, valid_bits: (bytes.len() * 8).saturating_sub(pad as usize) }
    }

    /// The next run; `None` at the end, `Some(None)` if the stream ends within a code.
    pub(super) fn next_run(&mut self) -> Option<Option<u64>> {
        if self.next_bit >= self.valid_bits {
            return None;
        }
        let mut window = [0; 16];
        let rest = &self.bytes[self.next_bit / 8..];
        let count = rest.len().min(9);
        window[..count].copy_from_slice(&rest[..count]);
        let (run, bits) = run_of((u128::from_le_bytes(window) >> (self.next_bit % 8)) as u64);
        self.next_bit += bits as usize;
        Some((self.next_bit <= self.valid_bits).then_some(run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rows_cover_every_run_and_every_prefix_without_gap() {
        for pair in ROWS.windows(2) {
            assert_eq!(pair[0].last() + 1, pair[1].first);
        }
        assert_eq!(MAX_RUN, 72_057_611_219_902_768);
        for bits in 0..=255 {
            assert!(ROWS.iter().any(|row| bits & mask(row.prefix_bits) == row.prefix), "{bits:#04x}");
        }
        assert_eq!(code_of(0), None);
        assert_eq!(code_of(MAX_RUN + 1), None);
    }

    #[test]
    fn both_ends_of_every_row_round_trip() {
        for row in &ROWS {
            for run in [row.first, row.first + 1, row.last()] {
                let (code, bits) = code_of(run).unwrap();
                assert_eq!(bits, row.total_bits());
                assert_eq!(run_of(code), (run, bits));
            }
        }
    }

    proptest! {
        #[test]
        fn a_stream_of_runs_round_trips(runs in prop::collection::vec((0u32..56, 1u64..=u64::MAX), 1..60)) {
            let runs: Vec<u64> = runs.iter().map(|&(bits, run)| run % (1 << bits) + 1).collect();
            let mut writer = BitWriter::new(4079);
            for &run in &runs {
                prop_assert!(writer.push(run));
            }
            let (bytes, pad) = writer.finish();
            let mut reader = BitReader::new(&bytes, pad);
            for &run in &runs {
                prop_assert_eq!(reader.next_run(), Some(Some(run)));
            }
            prop_assert_eq!(reader.next_run(), None);
        }
    }
}
