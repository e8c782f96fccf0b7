//! The exchange of out-of-sync bitmaps (spec section 5): plain words, or run lengths.
//!
//! [`BitmapSender`] cuts a bitmap into packets and [`BitmapReceiver`] takes them apart. Both keep
//! the same two offsets, so that plain and compressed packets may alternate (W113): the next bit,
//! and the next word, which begins with or before that bit.
//!
//! The bitmap itself stays with the caller. It lends words (bit i of the device is bit `i % 64` of
//! word `i / 64`) and takes [`SetBits`].

use super::header::header_bytes;
use super::packet::{MAX_SMALL_PACKET_BYTES, Packet};
use super::vli::{BitReader, BitWriter, MAX_RUN};

/// Bits that a received packet sets (W104: received bits are OR-ed, never cleared).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetBits {
    /// A run of set bits, within the bitmap.
    Run {
        /// First bit.
        first: u64,
        /// Number of bits, at least 1.
        count: u64,
    },
    /// A word with at least one set bit; bits behind the end of the bitmap are clear.
    Word {
        /// Index of the word.
        index: u64,
        /// Its bits.
        word: u64,
    },
}

/// A bitmap packet that does not fit the bitmap: an error on the data socket, i.e. ProtocolError (W30).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BitmapError {
    /// A plain chunk of the wrong length (W105).
    #[error("plain bitmap chunk of {found} bytes at word {word}; expected {expected}")]
    ChunkLength {
        /// Bytes of the chunk.
        found: usize,
        /// Bytes it must have.
        expected: usize,
        /// Word where it belongs.
        word: u64,
    },
    /// An encoding other than run lengths (W107).
    #[error("compressed bitmap chunk with unknown code {0}")]
    UnknownCode(u8),
    /// The chunk ends within a code, or has none at all (W109).
    #[error("compressed bitmap chunk ends within a run length, at bit {bit} of the bitmap")]
    Truncated {
        /// Bits covered until then.
        bit: u64,
    },
    /// A run past the end of the bitmap (W108).
    #[error("compressed bitmap chunk with a run of {run} bits at bit {bit} of only {bits}")]
    PastEnd {
        /// Length of the run.
        run: u64,
        /// Where it starts.
        bit: u64,
        /// Bits of the bitmap.
        bits: u64,
    },
    /// A bitmap packet after the last one (W106, W112), or another packet within the bitmap (W102).
    #[error("{0} does not belong here in the bitmap exchange")]
    Unexpected(&'static str),
}

/// Where in the bitmap a transfer is.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// Bits of the bitmap.
    bits: u64,
    /// Next bit for a compressed packet.
    bit: u64,
    /// Next word for a plain packet.
    word: u64,
    /// Words of a full plain chunk (W105).
    chunk_words: u64,
}

impl Position {
    const fn new(bits: u64, apv: u8) -> Self {
        let room = MAX_SMALL_PACKET_BYTES - header_bytes(apv);
        Self { bits, bit: 0, word: 0, chunk_words: (room / 8) as u64 }
    }

    /// Words of the plain chunk that comes next.
    fn next_chunk_words(&self) -> u64 {
        (words_of(self.bits) - self.word).min(self.chunk_words)
    }

    /// After a plain chunk: the bits it covered (W113).
    fn advance_words(&mut self, words: u64) {
        self.word += words;
        self.bit = (self.word * 64).min(self.bits);
    }

    /// After a compressed chunk: a plain one would repeat the partly covered word (W113).
    const fn advance_to_bit(&mut self, bit: u64) {
        self.bit = bit;
        self.word = bit / 64;
    }

    const fn is_at_end(&self) -> bool {
        self.bit >= self.bits
    }

    /// The bits of word `index` that exist.
    const fn valid_bits(&self, index: u64) -> u64 {
        let rest = self.bits.saturating_sub(index * 64);
        if rest >= 64 { u64::MAX } else { (1 << rest) - 1 }
    }
}

/// Cuts a bitmap into packets, from the first bit to the last (W101).
#[derive(Clone, Debug)]
pub struct BitmapSender {
    at: Position,
    compress: bool,
    code_bytes: usize,
    state: Sending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Chunks,
    EndMark,
    Done,
}

impl BitmapSender {
    /// A sender for a bitmap of `bits` bits (W103) at version `apv`. With `use_rle`, and from
    /// version 90, chunks are compressed where that saves bytes (W114).
    #[must_use]
    pub const fn new(bits: u64, apv: u8, use_rle: bool) -> Self {
        let code_bytes = MAX_SMALL_PACKET_BYTES - header_bytes(apv) - 1;
        let at = Position::new(bits, apv);
        Self { at, compress: use_rle && apv >= 90, code_bytes, state: Sending::Chunks }
    }

    /// The next packet, or `None` after the last one. `words(first, into)` fills `into` with the
    /// bitmap's words from index `first` on. A bit that changes between two calls travels as it is when
    /// its chunk is cut.
    pub fn next_packet(&mut self, mut words: impl FnMut(u64, &mut [u64])) -> Option<Packet> {
        match self.state {
            Sending::Done => None,
            Sending::EndMark => {
                self.state = Sending::Done;
                Some(Packet::Bitmap(Vec::new()))
            }
            Sending::Chunks if self.compress => {
                Some(self.compressed_chunk(&mut words).unwrap_or_else(|| self.plain_chunk(&mut words)))
            }
            Sending::Chunks => Some(self.plain_chunk(&mut words)),
        }
    }

    /// Next bit to be sent; equals the number of bits at the end.
    #[must_use]
    pub const fn progress(&self) -> u64 {
        self.at.bit
    }

    fn plain_chunk(&mut self, words: &mut impl FnMut(u64, &mut [u64])) -> Packet {
        let count = self.at.next_chunk_words();
        let mut chunk = vec![0; count as usize];
        words(self.at.word, &mut chunk);
        let mut bytes = Vec::with_capacity(chunk.len() * 8);
        for (index, word) in (self.at.word..).zip(chunk) {
            bytes.extend_from_slice(&(word & self.at.valid_bits(index)).to_le_bytes());
        }
        self.at.advance_words(count);
        if self.at.is_at_end() {
            // The end mark is the empty chunk itself when there is nothing to send at all.
            self.state = if count == 0 { Sending::Done } else { Sending::EndMark };
        }
        Packet::Bitmap(bytes)
    }

    /// `None` if compression does not pay; the next plain chunk starts at the word boundary (W114).
    fn compressed_chunk(&mut self, words: &mut impl FnMut(u64, &mut [u64])) -> Option<Packet> {
        let mut runs = Runs::new(self.at.bits, words);
        let mut code = BitWriter::new(self.code_bytes);
        let start = self.at.bit;
        let (mut bit, first_value) = (start, runs.value_at(start)?);
        let mut value = first_value;
        while bit < self.at.bits {
            let run = (runs.end_of_run(bit, value) - bit).min(MAX_RUN);
            if !code.push(run) {
                break;
            }
            bit += run;
            value = !value;
        }
        if bit - start < 8 * code.len() as u64 {
            return None;
        }
        let (code, pad) = code.finish();
        let mut bytes = Vec::with_capacity(1 + code.len());
        bytes.push(CODE_RUN_LENGTHS | pad << 4 | if first_value { FIRST_RUN_SET } else { 0 });
        bytes.extend_from_slice(&code);
        self.at.advance_to_bit(bit);
        if self.at.is_at_end() {
            self.state = Sending::Done;
        }
        Some(Packet::CompressedBitmap(bytes))
    }
}

/// Takes the packets of one bitmap apart.
#[derive(Clone, Debug)]
pub struct BitmapReceiver {
    at: Position,
    done: bool,
}

impl BitmapReceiver {
    /// A receiver for a bitmap of `bits` bits (W103) at version `apv`.
    #[must_use]
    pub const fn new(bits: u64, apv: u8) -> Self {
        Self { at: Position::new(bits, apv), done: false }
    }

    /// Takes one packet of the exchange and gives the bits it sets to `set`. Returns whether the
    /// bitmap is complete.
    ///
    /// # Errors
    /// [`BitmapError`]; some bits of the packet may have been given to `set` already.
    pub fn receive(&mut self, packet: &Packet, mut set: impl FnMut(SetBits)) -> Result<bool, BitmapError> {
        match packet {
            _ if self.done => return Err(BitmapError::Unexpected(packet.name())),
            Packet::Bitmap(bytes) => self.plain_chunk(bytes, &mut set)?,
            Packet::CompressedBitmap(bytes) => self.compressed_chunk(bytes, &mut set)?,
            other => return Err(BitmapError::Unexpected(other.name())),
        }
        Ok(self.done)
    }

    /// Whether the whole bitmap was received.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.done
    }

    fn plain_chunk(&mut self, bytes: &[u8], set: &mut impl FnMut(SetBits)) -> Result<(), BitmapError> {
        let words = self.at.next_chunk_words();
        let expected = words as usize * 8;
        if bytes.len() != expected {
            return Err(BitmapError::ChunkLength { found: bytes.len(), expected, word: self.at.word });
        }
        let (chunks, _) = bytes.as_chunks::<8>();
        for (index, chunk) in (self.at.word..).zip(chunks) {
            let word = u64::from_le_bytes(*chunk) & self.at.valid_bits(index);
            if word != 0 {
                set(SetBits::Word { index, word });
            }
        }
        self.at.advance_words(words);
        // W106: only the empty chunk ends a bitmap whose last chunk was plain.
        self.done = words == 0;
        Ok(())
    }

    fn compressed_chunk(&mut self, bytes: &[u8], set: &mut impl FnMut(SetBits)) -> Result<(), BitmapError> {
        let Some((&head, code)) = bytes.split_first() else {
            return Err(BitmapError::Truncated { bit: self.at.bit });
        };
        if head & CODE_MASK != CODE_RUN_LENGTHS {
            return Err(BitmapError::UnknownCode(head & CODE_MASK));
        }
        let mut reader = BitReader::new(code, head >> 4 & PAD_MASK);
        let (mut bit, mut value) = (self.at.bit, head & FIRST_RUN_SET != 0);
        while let Some(run) = reader.next_run() {
            let run = run.ok_or(BitmapError::Truncated { bit })?;
            if run > self.at.bits - bit {
                return Err(BitmapError::PastEnd { run, bit, bits: self.at.bits });
            }
            if value {
                set(SetBits::Run { first: bit, count: run });
            }
            bit += run;
            value = !value;
        }
        if bit == self.at.bit {
            return Err(BitmapError::Truncated { bit });
        }
        self.at.advance_to_bit(bit);
        // W112: no end mark follows.
        self.done = self.at.is_at_end();
        Ok(())
    }
}

/// Finds runs in borrowed words, a window at a time.
struct Runs<'a, W> {
    bits: u64,
    words: &'a mut W,
    window: Vec<u64>,
    /// Index of the window's first word.
    base: u64,
}

impl<'a, W: FnMut(u64, &mut [u64])> Runs<'a, W> {
    const WINDOW_WORDS: u64 = 512;

    const fn new(bits: u64, words: &'a mut W) -> Self {
        Self { bits, words, window: Vec::new(), base: 0 }
    }

    /// `None` behind the end of the bitmap.
    fn value_at(&mut self, bit: u64) -> Option<bool> {
        (bit < self.bits).then(|| self.word(bit / 64) >> (bit % 64) & 1 != 0)
    }

    /// The first bit from `bit` on that does not have this value, at most the bitmap's end.
    fn end_of_run(&mut self, bit: u64, value: bool) -> u64 {
        let flip = if value { u64::MAX } else { 0 };
        let mut index = bit / 64;
        // Ones where the run ends; the bits before `bit` do not count.
        let mut ends = (self.word(index) ^ flip) & (u64::MAX << (bit % 64));
        while ends == 0 {
            index += 1;
            if index * 64 >= self.bits {
                return self.bits;
            }
            ends = self.word(index) ^ flip;
        }
        (index * 64 + u64::from(ends.trailing_zeros())).min(self.bits)
    }

    fn word(&mut self, index: u64) -> u64 {
        if !(self.base..self.base + self.window.len() as u64).contains(&index) {
            let count = (words_of(self.bits) - index).min(Self::WINDOW_WORDS);
            self.window.resize(count as usize, 0);
            self.base = index;
            (self.words)(index, &mut self.window);
        }
        self.window[(index - self.base) as usize]
    }
}

/// Words that hold `bits` bits (W103).
const fn words_of(bits: u64) -> u64 {
    bits.div_ceil(64)
}

/// The only code: runs of variable-length integers (W107).
const CODE_RUN_LENGTHS: u8 = 2;
const CODE_MASK: u8 = 0x0f;
const PAD_MASK: u8 = 0x07;
const FIRST_RUN_SET: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The slow twin: a bit is a bool.
    #[derive(Clone, Debug, PartialEq)]
    struct Bits(Vec<bool>);

    impl Bits {
        fn of_runs(runs: &[(bool, usize)]) -> Self {
            Self(runs.iter().flat_map(|&(value, count)| vec![value; count]).collect())
        }

        fn words(&self) -> impl FnMut(u64, &mut [u64]) {
            |first, into| {
                for (index, word) in (first as usize..).zip(into) {
                    // Rubbish behind the end, which must never travel.
                    let bit = |bit: usize| self.0.get(index * 64 + bit).copied().unwrap_or(true);
                    *word = (0..64).map(|at| u64::from(bit(at)) << at).sum();
                }
            }
        }

        fn set(&mut self, bits: SetBits) {
            match bits {
                SetBits::Run { first, count } => {
                    assert!(count > 0);
                    self.0[first as usize..(first + count) as usize].fill(true);
                }
                SetBits::Word { index, word } => {
                    assert_ne!(word, 0);
                    for at in (0..64).filter(|at| word >> at & 1 != 0) {
                        self.0[index as usize * 64 + at] = true;
                    }
                }
            }
        }
    }

    fn packets(bits: &Bits, apv: u8, use_rle: bool) -> Vec<Packet> {
        let mut sender = BitmapSender::new(bits.0.len() as u64, apv, use_rle);
        std::iter::from_fn(|| sender.next_packet(bits.words())).collect()
    }

    fn received(packets: &[Packet], count: usize, apv: u8) -> Bits {
        let mut receiver = BitmapReceiver::new(count as u64, apv);
        let mut result = Bits(vec![false; count]);
        for (index, packet) in packets.iter().enumerate() {
            let done = receiver.receive(packet, |bits| result.set(bits)).unwrap();
            assert_eq!(done, index + 1 == packets.len(), "packet {index} of {}", packets.len());
        }
        assert!(receiver.is_complete());
        result
    }

    #[test]
    fn the_examples_of_w111_come_out_byte_for_byte() {
        let all_set = Bits::of_runs(&[(true, 2038)]);
        assert_eq!(packets(&all_set, 101, true), [Packet::CompressedBitmap(vec![0xb2, 0x3f, 0xc5, 0x06])]);
        let few_set = Bits::of_runs(&[(false, 10), (true, 20), (false, 2008)]);
        let expected = Packet::CompressedBitmap(vec![0x22, 0x97, 0x37, 0x7e, 0x4e, 0x0d]);
        assert_eq!(packets(&few_set, 101, true), std::slice::from_ref(&expected));
        assert_eq!(received(&[expected], 2038, 101), few_set);
    }

    #[test]
    fn plain_chunks_have_the_size_of_their_version_and_an_end_mark() {
        // W105, W106.
        for (apv, full) in [(101, 4080), (99, 4088), (86, 4088)] {
            let bits = Bits(vec![true; full * 8 + 65]);
            let sent = packets(&bits, apv, false);
            let sizes: Vec<usize> = sent
                .iter()
                .map(|packet| match packet {
                    Packet::Bitmap(bytes) => bytes.len(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(sizes, [full, 16, 0], "version {apv}");
            assert_eq!(received(&sent, bits.0.len(), apv), bits);
        }
        let Packet::Bitmap(bytes) = &packets(&Bits::of_runs(&[(false, 9), (true, 1)]), 101, false)[0] else {
            panic!()
        };
        assert_eq!(bytes[..], [0, 2, 0, 0, 0, 0, 0, 0], "bit 9 is bit 1 of byte 1, the tail is clear");
    }

    #[test]
    fn an_empty_bitmap_still_travels() {
        // W115.
        let clear = Bits(vec![false; 2038]);
        assert_eq!(packets(&clear, 101, true).len(), 1);
        assert_eq!(packets(&clear, 101, false).len(), 2);
        assert_eq!(packets(&clear, 89, true).len(), 2, "no compression before version 90");
        assert_eq!(received(&packets(&clear, 101, true), 2038, 101), clear);
    }

    #[test]
    fn what_does_not_compress_goes_plain_from_the_word_boundary() {
        // W113, W114: a long run, then noise of ever changing runs of one bit.
        let mut runs = vec![(false, 40_000)];
        runs.extend((0..80_000).map(|index| (index % 3 == 0, 1)));
        runs.push((true, 100_000));
        let bits = Bits::of_runs(&runs);
        let sent = packets(&bits, 101, true);
        assert!(sent.iter().any(|packet| matches!(packet, Packet::Bitmap(_))));
        assert!(matches!(sent.last(), Some(Packet::CompressedBitmap(_))), "and no end mark");
        assert_eq!(received(&sent, bits.0.len(), 101), bits);
    }

    #[test]
    fn a_huge_clear_bitmap_is_one_code() {
        // A 1 PiB device; scanning it would take long, so the lender says where the only set bit is.
        let bits = 1 << 38;
        let mut receiver = BitmapReceiver::new(bits, 101);
        let mut code = BitWriter::new(100);
        assert!(code.push(bits - 1) && code.push(1));
        let (code, pad) = code.finish();
        let mut packet = vec![CODE_RUN_LENGTHS | pad << 4];
        packet.extend(code);
        let mut found = Vec::new();
        let done = receiver.receive(&Packet::CompressedBitmap(packet), |bits| found.push(bits));
        assert_eq!(done, Ok(true));
        assert_eq!(found, [SetBits::Run { first: bits - 1, count: 1 }]);
    }

    #[test]
    fn malformed_chunks_are_errors() {
        let try_one = |packet: Packet| BitmapReceiver::new(2038, 101).receive(&packet, |_| {}).unwrap_err();
        assert!(matches!(
            try_one(Packet::Bitmap(vec![0; 248])),
            BitmapError::ChunkLength { found: 248, expected: 256, word: 0 }
        ));
        assert_eq!(try_one(Packet::CompressedBitmap(vec![0x83, 0])), BitmapError::UnknownCode(3));
        assert_eq!(try_one(Packet::CompressedBitmap(vec![])), BitmapError::Truncated { bit: 0 });
        assert_eq!(try_one(Packet::CompressedBitmap(vec![0x02])), BitmapError::Truncated { bit: 0 });
        // One valid bit is no code.
        assert_eq!(try_one(Packet::CompressedBitmap(vec![0x72, 0])), BitmapError::Truncated { bit: 0 });
        // 2038 clear bits, then one more, whatever its value.
        assert!(matches!(
            try_one(Packet::CompressedBitmap(vec![0x12, 0x3f, 0xc5, 0x06])),
            BitmapError::PastEnd { run: 1, bit: 2038, bits: 2038 }
        ));
        assert_eq!(try_one(Packet::Ping), BitmapError::Unexpected("P_PING"), "W102");
        let mut receiver = BitmapReceiver::new(2038, 101);
        let whole = Packet::CompressedBitmap(vec![0xb2, 0x3f, 0xc5, 0x06]);
        assert_eq!(receiver.receive(&whole, |_| {}), Ok(true));
        assert_eq!(
            receiver.receive(&Packet::Bitmap(vec![]), |_| {}),
            Err(BitmapError::Unexpected("P_BITMAP")),
            "W112: no end mark"
        );
    }

    fn some_bits() -> impl Strategy<Value = Bits> {
        let run = prop_oneof![1usize..4, 1usize..70, 1usize..3000, Just(40_000usize)];
        let noisy = prop_oneof![Just(0usize), 0usize..70_000];
        (prop::collection::vec((any::<bool>(), run), 1..80), noisy, any::<u64>()).prop_map(
            |(mut runs, noise, seed)| {
                // A stretch of pseudo-random bits makes the sender fall back to plain chunks.
                let mut state = seed | 1;
                runs.extend((0..noise).map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state & 1 != 0, 1)
                }));
                runs.rotate_left(noise / 2);
                Bits::of_runs(&runs)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_bitmap_arrives_as_it_was(bits in some_bits(), use_rle: bool, apv in 86u8..=101) {
            let sent = packets(&bits, apv, use_rle);
            prop_assert_eq!(received(&sent, bits.0.len(), apv), bits);
        }

        #[test]
        fn any_mixture_of_chunks_arrives(bits in some_bits(), plain in prop::collection::vec(any::<bool>(), 1..20)) {
            let count = bits.0.len();
            let mut sender = BitmapSender::new(count as u64, 101, true);
            let mut sent = Vec::new();
            for &plain in plain.iter().cycle() {
                match sender.state {
                    Sending::Chunks if plain => sent.push(sender.plain_chunk(&mut bits.words())),
                    _ => match sender.next_packet(bits.words()) {
                        Some(packet) => sent.push(packet),
                        None => break,
                    },
                }
            }
            prop_assert_eq!(received(&sent, count, 101), bits);
        }

        #[test]
        fn runs_are_found_as_a_naive_search_finds_them(bits in some_bits(), at in any::<prop::sample::Index>()) {
            let at = at.index(bits.0.len());
            let mut words = bits.words();
            let mut runs = Runs::new(bits.0.len() as u64, &mut words);
            for value in [false, true] {
                let naive = bits.0[at..].iter().position(|&bit| bit != value).map_or(bits.0.len(), |run| at + run);
                prop_assert_eq!(runs.end_of_run(at as u64, value), naive as u64);
            }
        }

        #[test]
        fn arbitrary_chunks_never_panic_nor_set_bits_behind_the_end(
            count in 1u64..5000,
            chunks in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..100)), 1..10),
        ) {
            let mut receiver = BitmapReceiver::new(count, 101);
            let mut result = Bits(vec![false; count as usize]);
            for (plain, mut bytes) in chunks {
                let packet = if plain {
                    bytes.resize((count as usize).div_ceil(64) * 8, 0xff);
                    Packet::Bitmap(bytes)
                } else {
                    if let Some(head) = bytes.first_mut() {
                        *head = *head & 0xf0 | CODE_RUN_LENGTHS;
                    }
                    Packet::CompressedBitmap(bytes)
                };
                let _ = receiver.receive(&packet, |bits| result.set(bits));
            }
        }
    }
}
