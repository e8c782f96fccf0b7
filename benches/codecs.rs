//! What every request, packet and block of metadata passes through: codecs and the structures in memory.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput};

use urbd::config::{Source, SourceError, SourceText, load};
use urbd::meta::layout::{Layout, Placement, Striping};
use urbd::meta::superblock::Superblock;
use urbd::nbd::{Cookie, Export, ReplyStyle, Session};
use urbd::node::activity_log::{ActivityLog, Reserved};
use urbd::node::bitmap::Bitmap;
use urbd::units::{AlExtent, BLOCK_BYTES, BitIndex, SECTOR_BYTES, Sector, VolumeId};
use urbd::wire::packet::features;
use urbd::wire::{
    BitmapReceiver, BitmapSender, BlockAck, BlockId, Decoded, Dialect, DpFlags, Packet, SetBits, Socket,
    decode, encode,
};

/// Size of the device whose bitmap is looked at: 64 GiB, so the bitmap has 2 MiB.
const DEVICE_BYTES: u64 = 64 << 30;
const APV: u8 = 101;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_millis(1500))
        .configure_from_args();
    wire(&mut criterion);
    nbd(&mut criterion);
    bitmap(&mut criterion);
    bitmap_exchange(&mut criterion);
    activity_log(&mut criterion);
    superblock(&mut criterion);
    config(&mut criterion);
    criterion.final_summary();
}

/// The packets of the write path: data one way, acks the other; and the longest of a handshake.
fn wire(criterion: &mut Criterion) {
    let dialect = |socket| Dialect { apv: APV, features: features::WSAME, peer_digest_bytes: 0, socket };
    let data = Packet::Data {
        sector: Sector::new(0x1234_5678),
        block_id: BlockId::from_number(42),
        seq: 7,
        flags: DpFlags::SEND_WRITE_ACK,
        digest: Vec::new(),
    };
    let ack = Packet::WriteAck(BlockAck {
        sector: Sector::new(0x1234_5678),
        block_id: BlockId::from_number(42),
        size: 4096,
        seq: 7,
    });
    let barrier = Packet::BarrierAck { barrier: [1, 2, 3, 4], count: 32 };
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Elements(1));
    for (name, packet, payload_bytes, socket) in [
        ("P_DATA", data, 4096, Socket::Data),
        ("P_WRITE_ACK", ack, 0, Socket::Meta),
        ("P_BARRIER_ACK", barrier, 0, Socket::Meta),
    ] {
        let dialect = dialect(socket);
        let mut bytes = Vec::with_capacity(4096);
        encode(&packet, VolumeId(0), payload_bytes, &dialect, &mut bytes);
        let decoded = decode(&bytes, &dialect).unwrap();
        assert!(matches!(decoded, Decoded::Packet { packet: same, .. } if same == packet));
        let mut out = Vec::with_capacity(4096);
        group.bench_function(format!("encode {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                encode(black_box(&packet), VolumeId(0), payload_bytes, &dialect, &mut out);
            });
        });
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| decode(black_box(&bytes), &dialect));
        });
    }
    group.finish();
}

/// A client's request, checked against its export, and the answers.
fn nbd(criterion: &mut Criterion) {
    let session = Session::new(&Export::new("r0/0", DEVICE_BYTES), true);
    let mut group = criterion.benchmark_group("nbd");
    group.throughput(Throughput::Elements(1));
    for (name, command) in [("read", 0_u16), ("write", 1)] {
        let mut header = 0x2560_9513_u32.to_be_bytes().to_vec();
        header.extend([0, 0]);
        header.extend(command.to_be_bytes());
        header.extend(42_u64.to_be_bytes());
        header.extend((1_u64 << 30).to_be_bytes());
        header.extend(4096_u32.to_be_bytes());
        assert!(session.decode(&header).unwrap().is_some());
        group.bench_function(format!("parse {name}"), |bencher| {
            bencher.iter(|| session.decode(black_box(&header)));
        });
    }
    let mut out = Vec::with_capacity(4096);
    group.bench_function("reply to a write", |bencher| {
        bencher.iter(|| {
            out.clear();
            session.replies().done(&mut out, black_box(Cookie(42)));
        });
    });
    for (name, style) in [("simple", ReplyStyle::Simple), ("structured", ReplyStyle::Structured)] {
        group.bench_function(format!("reply to a read, {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                style.read_header(&mut out, black_box(Cookie(42)), 1 << 30, 4096);
            });
        });
    }
    group.finish();
}

/// The out-of-sync bitmap in memory.
fn bitmap(criterion: &mut Criterion) {
    let bits = DEVICE_BYTES / BLOCK_BYTES;
    let mut places = Chance::default();
    let mut group = criterion.benchmark_group("bitmap");
    for (name, run) in [("one bit", 1), ("a run of 256", 256)] {
        let mut bitmap = Bitmap::new(Sector::new(DEVICE_BYTES / SECTOR_BYTES));
        group.throughput(Throughput::Elements(run));
        group.bench_function(format!("set and clear {name}"), |bencher| {
            bencher.iter(|| {
                let first = places.below(bits - run);
                let (first, last) = (BitIndex::new(first), BitIndex::new(first + run - 1));
                bitmap.set(first, last) + bitmap.clear(first, last)
            });
        });
    }
    let bitmap = sparse_bitmap();
    group.throughput(Throughput::Bytes(bits / 8));
    group.bench_function("count all", |bencher| {
        bencher.iter(|| black_box(&bitmap).count_range(BitIndex::new(0), BitIndex::new(bits - 1)));
    });
    group.bench_function("find every run", |bencher| {
        bencher.iter(|| {
            let (mut next, mut runs) = (BitIndex::new(0), 0_u32);
            while let Some((_, last)) = bitmap.next_set_run(next, bits) {
                next = BitIndex::new(last.get() + 1);
                runs += 1;
            }
            runs
        });
    });
    let empty = Bitmap::new(Sector::new(DEVICE_BYTES / SECTOR_BYTES));
    group.bench_function("find nothing", |bencher| {
        bencher.iter(|| black_box(&empty).next_set(BitIndex::new(0)));
    });
    group.finish();
}

/// The bitmap as packets, plain and in run lengths, there and back. Throughput in bytes of the bitmap.
fn bitmap_exchange(criterion: &mut Criterion) {
    let bits = DEVICE_BYTES / BLOCK_BYTES;
    let bitmap = sparse_bitmap();
    let mut group = criterion.benchmark_group("bitmap exchange");
    group.throughput(Throughput::Bytes(bits / 8));
    for (name, compressed) in [("plain", false), ("run lengths", true)] {
        let send = || {
            let mut sender = BitmapSender::new(bits, APV, compressed);
            let mut packets = Vec::new();
            while let Some(packet) = sender.next_packet(|offset, words| {
                bitmap.read_words(offset, words);
            }) {
                packets.push(packet);
            }
            packets
        };
        let receive = |packets: &[Packet]| {
            let mut received = Bitmap::new(bitmap.end());
            let mut receiver = BitmapReceiver::new(bits, APV);
            for packet in packets {
                let taken = receiver.receive(packet, |bits| match bits {
                    SetBits::Run { first, count } => {
                        received.set(BitIndex::new(first), BitIndex::new(first + count - 1));
                    }
                    SetBits::Word { index, word } => {
                        received.or_words(index, &[word]);
                    }
                });
                taken.unwrap();
            }
            assert!(receiver.is_complete());
            received.count()
        };
        let packets = send();
        assert_eq!(receive(&packets), bitmap.count());
        assert_eq!(packets.iter().any(|packet| matches!(packet, Packet::CompressedBitmap(_))), compressed);
        group.bench_function(format!("encode, {name}"), |bencher| bencher.iter(send));
        group.bench_function(format!("decode, {name}"), |bencher| bencher.iter(|| receive(&packets)));
    }
    group.finish();
}

/// The extents of a write: hot ones, and cold ones that put others out.
fn activity_log(criterion: &mut Criterion) {
    let full = || {
        let mut log = ActivityLog::new(1237, Striping::DEFAULT);
        for number in 0..1237 {
            assert_eq!(touch(&mut log, AlExtent::new(number)), Reserved::Pending);
        }
        log
    };
    let mut places = Chance::default();
    let mut group = criterion.benchmark_group("activity log");
    group.throughput(Throughput::Elements(1));
    let mut log = full();
    group.bench_function("a hot extent", |bencher| {
        bencher.iter(|| {
            let extent = AlExtent::new(places.below(1237) as u32);
            assert!(log.probe(extent));
            log.release(extent, extent)
        });
    });
    let mut log = full();
    let mut next = 1237..;
    group.bench_function("a cold extent, with its block", |bencher| {
        bencher.iter(|| touch(&mut log, AlExtent::new(next.next().unwrap())));
    });
    group.finish();
}

/// One write into an extent that may be cold.
fn touch(log: &mut ActivityLog, extent: AlExtent) -> Reserved {
    let reserved = log.reserve(extent, extent);
    if log.has_pending() {
        black_box(log.begin_transaction());
        log.commit(true);
    }
    log.release(extent, extent);
    reserved
}

/// The superblock, there and back.
fn superblock(criterion: &mut Criterion) {
    let capacity = DEVICE_BYTES / SECTOR_BYTES;
    let layout = Layout::new(Placement::Internal, capacity, Striping::DEFAULT).unwrap();
    let superblock = Superblock::just_created(1 << 20);
    let block = superblock.encode(&layout);
    assert_eq!(Superblock::decode(&block, Placement::Internal, capacity).unwrap(), (superblock, layout));
    let mut group = criterion.benchmark_group("superblock");
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&superblock).encode(&layout)));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| Superblock::decode(black_box(&block), Placement::Internal, capacity));
    });
    group.finish();
}

/// The configuration in `resources.d`, from text in memory to a checked one.
fn config(criterion: &mut Criterion) {
    let files = Files::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("resources.d"));
    assert!(!load(&files, MAIN, &[]).unwrap().resources.is_empty());
    let mut group = criterion.benchmark_group("config");
    group.throughput(Throughput::Bytes(files.0.values().map(|text| text.len() as u64).sum()));
    group.bench_function("load resources.d", |bencher| {
        bencher.iter(|| load(&files, MAIN, &[]));
    });
    group.finish();
}

const MAIN: &str = "urbd.conf";

/// A folder of configuration files, by name.
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn read(folder: &Path) -> Self {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        Self(entries.map(|path| (name(&path), fs::read(&path).unwrap())).collect())
    }

    fn text(&self, name: &str) -> Option<SourceText> {
        let bytes = self.0.get(name)?.clone();
        Some(SourceText { name: name.to_owned(), canonical: name.to_owned(), bytes })
    }
}

impl Source for Files {
    fn open(&self, path: &str) -> Result<SourceText, SourceError> {
        self.text(path).ok_or_else(|| SourceError("no such file".to_owned()))
    }

    fn include(&self, _from: &str, pattern: &str) -> Result<Vec<SourceText>, SourceError> {
        let Some(suffix) = pattern.strip_prefix('*') else {
            return self.open(pattern).map(|text| vec![text]);
        };
        Ok(self.0.keys().filter(|name| name.ends_with(suffix)).filter_map(|name| self.text(name)).collect())
    }
}

/// A bitmap after a day without the peer: 20 000 scattered runs of up to 64 bits.
fn sparse_bitmap() -> Bitmap {
    let bits = DEVICE_BYTES / BLOCK_BYTES;
    let mut bitmap = Bitmap::new(Sector::new(DEVICE_BYTES / SECTOR_BYTES));
    let mut chance = Chance::default();
    for _ in 0..20_000 {
        let first = chance.below(bits - 64);
        bitmap.set(BitIndex::new(first), BitIndex::new(first + chance.below(64)));
    }
    bitmap
}

/// The same numbers in every run (Knuth's MMIX generator).
#[derive(Default)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
