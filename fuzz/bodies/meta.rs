//! The on-disk metadata.

use urbd::meta::BLOCK_BYTES;
use urbd::meta::activity_log::{
    Block, CONTEXT_SLOTS, Change, MAX_CHANGES, Transaction, Verdict, effective_slots, initialised_block,
    recover,
};
use urbd::meta::bitmap::{PAGE_WORDS, page_place, pages_of, words_of};
use urbd::meta::dump::{self, Heading};
use urbd::meta::dump_parse::Dump;
use urbd::meta::gi::{get_gi, set_gi, show_gi};
use urbd::meta::layout::{Layout, Placement, Striping};
use urbd::meta::superblock::Superblock;
use urbd::units::{AlExtent, Sector};

/// Bytes: placement, size of the device in sectors, sizes for an attach, then the block. A block
/// that is accepted describes areas inside the device that do not overlap, and survives a rewrite.
pub(crate) fn superblock(mut data: &[u8]) {
    let placement = placement(super::take_byte(&mut data));
    let capacity = super::take_number(&mut data);
    let (backing, configured) = (super::take_number(&mut data), super::take_number(&mut data));
    let mut block = [0; BLOCK_BYTES];
    let len = data.len().min(BLOCK_BYTES);
    block[..len].copy_from_slice(&data[..len]);

    let Ok((superblock, layout)) = Superblock::decode(&block, placement, capacity) else { return };
    check_layout(&layout, capacity);
    if let Ok(size) = superblock.check_attach(&layout, Sector::new(backing), Sector::new(configured)) {
        assert!(size.get() <= layout.max_data_sectors() && size.get() <= backing);
    }
    let rewritten = superblock.encode(&layout);
    assert_eq!(Superblock::decode(&rewritten, placement, capacity), Ok((superblock, layout)));
}

/// Fresh superblocks for each placement, some devices' sizes, and a striped log.
pub(crate) fn superblock_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let striped = Striping::new(2, 16).unwrap();
    for (placement, capacity, striping) in [
        (0_u8, 131_072_u64, Striping::DEFAULT),
        (0, 131_072, striped),
        (0, 1 << 41, Striping::DEFAULT),
        (1, 4096, Striping::DEFAULT),
        (1, 1 << 22, striped),
        (2, 262_144, Striping::DEFAULT),
        (5, 4 * 262_144, Striping::DEFAULT),
    ] {
        let layout = Layout::new(self::placement(placement), capacity, striping).unwrap();
        let block = Superblock::just_created(4096).encode(&layout);
        let numbers = [capacity, capacity, 0].map(u64::to_be_bytes).concat();
        seeds.push([&[placement], numbers.as_slice(), &block[..128]].concat());
    }
    seeds
}

/// Bytes: the text of a metadata dump. What was read can be written, and read back the same.
pub(crate) fn dump_text(data: &[u8]) {
    let Ok(dump) = Dump::parse(&String::from_utf8_lossy(data)) else { return };
    let superblock = dump.superblock;
    let fresh = Superblock::just_created(superblock.peer_max_bio_bytes);
    let changed = set_gi(&fresh, &get_gi(&superblock)).unwrap();
    assert_eq!(get_gi(&changed), get_gi(&superblock));
    let _ = show_gi(&superblock);

    // Any layout will do for the comments in the text.
    let layout = Layout::new(Placement::Flexible, 1 << 30, dump.striping).unwrap();
    let heading = Heading { time: "now", host: "alice", command: "dump-md" };
    let mut text = dump::head(&heading, &superblock, &layout, false);
    let words: Vec<u64> = dump.words().take(4096).collect();
    let mut body = dump::Body::default();
    for part in words.chunks(100) {
        body.push(part, &mut text);
    }
    body.finish(&mut text);
    let again = Dump::parse(&text).unwrap();
    assert_eq!((again.superblock, again.striping), (superblock, dump.striping));
    assert!(again.words().eq(words));
}

/// Dumps with every kind of row in the bitmap.
pub(crate) fn dump_text_seeds() -> Vec<Vec<u8>> {
    let heading =
        Heading { time: "2025-01-01", host: "alice", command: "drbdmeta 1 v08 /dev/x internal dump-md" };
    let layout = Layout::new(Placement::Internal, 1 << 22, Striping::DEFAULT).unwrap();
    let superblock = Superblock { la_size: Sector::new(1 << 21), ..Superblock::just_created(1 << 20) };
    let bitmaps = [vec![], vec![0; 512], vec![u64::MAX; 7], (0..99).map(|n| (n % 13) << (n % 60)).collect()];
    let mut seeds = Vec::new();
    for unclean in [false, true] {
        for words in &bitmaps {
            let mut text = dump::head(&heading, &superblock, &layout, unclean);
            let mut body = dump::Body::default();
            body.push(words, &mut text);
            body.finish(&mut text);
            seeds.push(text.into_bytes());
        }
    }
    seeds
}

/// Bytes: number of blocks, then for each block a kind and content. Blocks with a right checksum
/// and any content are read, and read the same once rewritten; recovery says nothing that no
/// block says.
pub(crate) fn log_recovery(mut data: &[u8]) {
    let blocks = usize::from(super::take_byte(&mut data) % 12) + 1;
    let mut ring = vec![initialised_block(); blocks];
    for block in &mut ring {
        let kind = super::take_byte(&mut data);
        let len = usize::from(super::take_byte(&mut data)) * 16;
        let (content, rest) = data.split_at(len.min(data.len()));
        data = rest;
        if kind.is_multiple_of(4) {
            continue;
        }
        // What is not given stays as in a block without changes: all ones.
        block[16..].fill(0xff);
        block[4..4 + content.len().min(BLOCK_BYTES - 4)]
            .copy_from_slice(&content[..content.len().min(BLOCK_BYTES - 4)]);
        if kind % 4 != 1 {
            seal(block);
        }
    }
    let mut named = Vec::new();
    let mut corrupt = 0;
    for block in &ring {
        match Block::decode(block) {
            Block::Initialised => {}
            Block::Invalid | Block::UnknownType(_) => corrupt += 1,
            Block::Update(transaction) => {
                assert_eq!(Block::decode(&transaction.encode()), Block::Update(transaction.clone()));
                named.extend(transaction.context.iter().flatten());
                named.extend(transaction.changes.iter().filter_map(|change| change.extent));
            }
        }
    }
    let recovery = recover(&ring);
    assert_eq!(recovery.corrupt_blocks, corrupt);
    match recovery.verdict {
        Verdict::Hot(hot) | Verdict::Incomplete(hot) => {
            assert!(hot.iter().all(|extent| named.contains(extent)), "an extent out of nowhere");
        }
        Verdict::Empty => assert!(corrupt <= 1 && named.is_empty()),
        Verdict::NoUpdate => assert!(corrupt > 0 && corrupt < blocks),
        Verdict::Unusable => assert_eq!(corrupt, blocks),
        Verdict::Legacy => panic!("only `examine` looks for older formats"),
    }
}

/// Rings of transactions, with garbage, torn and unused blocks among them.
pub(crate) fn log_recovery_seeds() -> Vec<Vec<u8>> {
    let mut transaction = Transaction {
        number: u32::MAX - 1,
        slots: 67,
        context_start: 0,
        context: (0..67).map(|slot| (slot % 3 != 0).then(|| AlExtent::new(slot * 5))).collect(),
        changes: vec![
            Change { slot: 3, extent: Some(AlExtent::new(1000)) },
            Change { slot: 4, extent: None },
        ],
    };
    let mut seed = vec![7];
    for kind in [2, 2, 2, 0, 2, 1, 3, 2] {
        let block = transaction.encode();
        seed.extend([kind, 44]);
        seed.extend_from_slice(&block[4..4 + 44 * 16]);
        transaction.number = transaction.number.wrapping_add(1);
    }
    vec![
        seed.clone(),
        [&[1], &seed[1..1500]].concat(),
        vec![0, 2, 0],
        vec![3],
        vec![7, 1, 0, 2, 0, 0, 0, 1, 0],
    ]
}

/// Bytes: ring, slots and first number, whether the last write was torn, then transactions. What a
/// crash leaves on disk gives exactly the slots as they were after the last complete transaction.
pub(crate) fn log_crash(mut data: &[u8]) {
    let blocks = if super::take_byte(&mut data) & 1 == 0 { 8 } else { 16 };
    let configured = u32::from(super::take_byte(&mut data)) << 8 | u32::from(super::take_byte(&mut data));
    let slots = effective_slots(configured, Striping::new(1, blocks).unwrap());
    let mut number = super::take_number(&mut data) as u32;
    let torn = super::take_byte(&mut data);

    let mut ring = vec![initialised_block(); blocks as usize];
    let mut held = vec![None; usize::from(slots)];
    let mut before = held.clone();
    let mut window = 0;
    let mut written = 0;
    while !data.is_empty() {
        let count = usize::from(super::take_byte(&mut data)) % MAX_CHANGES + 1;
        let changes: Vec<Change> = (0..count).map(|_| change(&mut data, slots)).collect();
        let end = (window + CONTEXT_SLOTS).min(held.len());
        let context = held[window..end].to_vec();
        let context_start = window as u16;
        let transaction = Transaction { number, slots, context_start, context, changes };
        window = if end == held.len() { 0 } else { end };
        ring[number as usize % blocks as usize] = transaction.encode();
        before.clone_from(&held);
        for change in transaction.changes {
            held[usize::from(change.slot)] = change.extent;
        }
        number = number.wrapping_add(1);
        written += 1;
    }
    if torn != 0 && written > 0 {
        let newest = number.wrapping_sub(1) as usize % blocks as usize;
        ring[newest][4095 - usize::from(torn)] ^= torn;
        (held, written) = (before, written - 1);
    }
    let hot: Vec<AlExtent> = held.into_iter().flatten().collect();
    match recover(&ring).verdict {
        Verdict::Hot(recovered) => assert_eq!(recovered, hot),
        Verdict::Empty | Verdict::NoUpdate => assert_eq!(written, 0),
        other @ (Verdict::Unusable | Verdict::Incomplete(_) | Verdict::Legacy) => {
            panic!("{other:?} after a plain crash")
        }
    }
}

/// Logs that were used for a while, with few and with many slots, crashed and torn.
pub(crate) fn log_crash_seeds() -> Vec<Vec<u8>> {
    let work: Vec<u8> = (0..2000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut seeds = Vec::new();
    for (ring, configured, first) in [(0, 67_u16, 0_u64), (0, 6433, 0xffff_fff0), (1, 13_000, 7)] {
        for torn in [0, 1, 0x80] {
            for len in [3, 40, 2000] {
                let head = [&[ring], &configured.to_be_bytes()[..], &first.to_be_bytes(), &[torn]].concat();
                seeds.push([&head, &work[..len]].concat());
            }
        }
    }
    seeds
}

fn change(data: &mut &[u8], slots: u16) -> Change {
    let slot = u16::from(super::take_byte(data)) << 8 | u16::from(super::take_byte(data));
    let extent = super::take_byte(data);
    Change { slot: slot % slots, extent: (extent & 7 != 0).then(|| AlExtent::new(u32::from(extent))) }
}

/// Gives a block of any content the magic and the checksum of a log block (M53).
fn seal(block: &mut [u8; BLOCK_BYTES]) {
    block[..4].copy_from_slice(&0x69cb_65a2_u32.to_be_bytes());
    block[8..12].fill(0);
    let crc = !crc32c::crc32c_append(u32::MAX, block);
    block[8..12].copy_from_slice(&crc.to_be_bytes());
}

fn placement(byte: u8) -> Placement {
    match byte {
        0 => Placement::Internal,
        1 => Placement::Flexible,
        slot => Placement::Indexed(slot - 2),
    }
}

/// Superblock, log and bitmap are inside the device, whole sectors, and apart from each other and
/// from internal metadata's data.
fn check_layout(layout: &Layout, capacity: u64) {
    let bytes = capacity * 512;
    let superblock = (layout.superblock_byte(), BLOCK_BYTES as u64);
    let log = (layout.al_byte(), layout.al_bytes());
    let bitmap = (layout.bitmap_byte(), layout.bitmap_area_bytes());
    let areas = [superblock, log, bitmap];
    for (index, &(start, len)) in areas.iter().enumerate() {
        assert!(start.is_multiple_of(512) && len.is_multiple_of(512));
        assert!(start + len <= bytes, "{layout:?} reaches past the device's end");
        for &(other, other_len) in &areas[..index] {
            assert!(start + len <= other || other + other_len <= start, "{layout:?} overlaps itself");
        }
        if layout.placement().is_internal() {
            assert!(layout.max_data_sectors() * 512 <= start, "{layout:?} overlaps the data");
        }
    }
    // The bits of the largest device fit into the pages that have a place.
    let end = Sector::new(layout.max_data_sectors());
    for page in [0, pages_of(end) / 2, pages_of(end).saturating_sub(1)] {
        let words = words_of(end).saturating_sub(page * PAGE_WORDS as u64).min(PAGE_WORDS as u64);
        let place = page_place(layout, page);
        assert!(
            words == 0 || place.is_some_and(|place| place.bytes as u64 >= words * 8),
            "{layout:?} {page}"
        );
        if let Some(place) = place {
            assert!(place.byte >= bitmap.0 && place.byte + place.bytes as u64 <= bitmap.0 + bitmap.1);
        }
    }
    let blocks = layout.striping().blocks();
    for position in [0, 1, blocks / 2, blocks - 1] {
        let at = layout.al_block_byte(position);
        assert!(at >= log.0 && at + BLOCK_BYTES as u64 <= log.0 + log.1);
    }
}
