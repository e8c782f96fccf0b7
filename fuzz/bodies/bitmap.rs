//! The exchange of bitmaps: foreign chunks, and our own there and back.

use urbd::wire::Packet;
use urbd::wire::bitmap_code::{BitmapReceiver, BitmapSender, SetBits};

/// Versions with the short header, from run lengths on, and with the long header.
const VERSIONS: [u8; 4] = [86, 90, 99, 101];

/// Bytes: version, size of the bitmap, then chunks (kind, 16-bit length, content). Only bits that
/// exist are set, in order, and never more chunks than words are taken.
pub(crate) fn receiving(mut data: &[u8]) {
    let apv = VERSIONS[usize::from(super::take_byte(&mut data)) % VERSIONS.len()];
    // Up to 1 TiB of bits: the receiver holds no bitmap, so any size is cheap.
    let bits = (0..5).fold(0_u64, |sum, _| sum << 8 | u64::from(super::take_byte(&mut data)));
    let mut receiver = BitmapReceiver::new(bits, apv);
    let mut next_run = 0;
    while !receiver.is_complete() {
        let Some(packet) = chunk(&mut data) else { return };
        let mut next_word = 0;
        let result = receiver.receive(&packet, |set| match set {
            SetBits::Run { first, count } => {
                assert!(count > 0 && first >= next_run && first <= bits - count);
                next_run = first + count;
            }
            SetBits::Word { index, word } => {
                assert!(word != 0 && index >= next_word && index < bits.div_ceil(64));
                assert!(index * 64 + u64::from(word.ilog2()) < bits);
                next_word = index + 1;
            }
        });
        match result {
            Ok(done) => assert_eq!(done, receiver.is_complete()),
            Err(_) => return,
        }
    }
    assert!(receiver.receive(&Packet::Bitmap(Vec::new()), |_| panic!("it was complete")).is_err());
}

/// The examples of W111, plain chunks with their end mark, and a mixture.
pub(crate) fn receiving_seeds() -> Vec<Vec<u8>> {
    let chunk = |kind: u8, bytes: &[u8]| [&[kind], &(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let bits = |version: u8, bits: u64| [&[version], &bits.to_be_bytes()[3..]].concat();
    let mut seeds = vec![
        [bits(3, 2038), chunk(1, &[0xb2, 0x3f, 0xc5, 0x06])].concat(),
        [bits(1, 2038), chunk(1, &[0x22, 0x97, 0x37, 0x7e, 0x4e, 0x0d])].concat(),
        [bits(0, 2038), chunk(0, &[0xa5; 256]), chunk(0, &[])].concat(),
        [bits(3, 100), chunk(0, &[0; 16]), chunk(0, &[])].concat(),
    ];
    // Whole transfers of long bitmaps with noise in them, as our own sender cuts them.
    for (version, use_rle) in [(0, false), (1, true), (3, false), (3, true)] {
        let words = noisy_words(900);
        let mut sender = BitmapSender::new(57_600, VERSIONS[version], use_rle);
        let mut seed = bits(version as u8, 57_600);
        while let Some(packet) = sender.next_packet(lend(&words)) {
            match packet {
                Packet::Bitmap(bytes) => seed.extend(chunk(0, &bytes)),
                Packet::CompressedBitmap(bytes) => seed.extend(chunk(1, &bytes)),
                other => panic!("{other:?} is no chunk"),
            }
        }
        seeds.push(seed);
    }
    seeds
}

/// Bytes: version and compression, size, then runs of words. What our sender sends, our receiver
/// makes the same bitmap of, within the number of packets that plain chunks would need, and an
/// end mark.
pub(crate) fn round_trip(mut data: &[u8]) {
    let head = super::take_byte(&mut data);
    let (apv, use_rle) = (VERSIONS[usize::from(head) % VERSIONS.len()], head & 0x80 != 0);
    let cut = u64::from(super::take_byte(&mut data) & 63);
    let mut words = Vec::new();
    while let [kind, count, rest @ ..] = data {
        let word = match kind % 4 {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(*kind) << (count % 64),
            _ => u64::from(*kind).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(u32::from(*count)),
        };
        words.extend(std::iter::repeat_n(word, if kind & 0x40 != 0 { usize::from(*count) * 2 } else { 1 }));
        data = rest;
        if words.len() > 2000 {
            break;
        }
    }
    let bits = (words.len() as u64 * 64).saturating_sub(cut);
    let mut sender = BitmapSender::new(bits, apv, use_rle);
    let mut receiver = BitmapReceiver::new(bits, apv);
    let mut received = vec![0_u64; words.len()];
    let mut packets = 0;
    while let Some(packet) = sender.next_packet(lend(&words)) {
        assert!(!receiver.is_complete(), "a packet behind the last one");
        let result = receiver.receive(&packet, |set| or_into(&mut received, set));
        assert_eq!(result, Ok(receiver.is_complete()));
        packets += 1;
    }
    assert!(receiver.is_complete() && packets <= words.len() / 500 + 2);
    if let Some(last) = words.last_mut() {
        *last &= u64::MAX >> cut;
    }
    assert_eq!(received, words);
}

/// Long runs, noise, and both in turn.
pub(crate) fn round_trip_seeds() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..600_u16).flat_map(|n| [(n * 4 + 3) as u8 & 0xbf, n as u8]).collect();
    let runs = [0x40, 0xff, 0x41, 0x10, 0x40, 0xff, 0x02, 0x07];
    [0x80, 0x83, 0x03, 0x81]
        .into_iter()
        .flat_map(|head| {
            [
                vec![head, 10],
                [&[head, 0][..], &runs].concat(),
                [&[head, 26][..], &noise].concat(),
                [&[head, 63][..], &runs, &noise, &runs].concat(),
            ]
        })
        .collect()
}

fn chunk(data: &mut &[u8]) -> Option<Packet> {
    let [kind, high, low, rest @ ..] = data else { return None };
    let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (bytes, behind) = rest.split_at(len);
    *data = behind;
    let bytes = bytes.to_vec();
    Some(if kind & 1 == 0 { Packet::Bitmap(bytes) } else { Packet::CompressedBitmap(bytes) })
}

fn lend(words: &[u64]) -> impl FnMut(u64, &mut [u64]) {
    |first, into| into.copy_from_slice(&words[first as usize..first as usize + into.len()])
}

fn or_into(words: &mut [u64], set: SetBits) {
    match set {
        SetBits::Run { first, count } => {
            for bit in first..first + count {
                words[(bit / 64) as usize] |= 1 << (bit % 64);
            }
        }
        SetBits::Word { index, word } => words[index as usize] |= word,
    }
}

fn noisy_words(count: u64) -> Vec<u64> {
    (0..count).map(|n| if n % 300 < 200 { 0 } else { (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) }).collect()
}
