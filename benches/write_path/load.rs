//! What is asked of a disk: kind, size and depth of requests, and where they go.

use std::fmt;

/// One row of the result.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Reads or writes.
    pub kind: Kind,
    /// Bytes of a request.
    pub bytes: u32,
    /// Requests outstanding at any time.
    pub depth: usize,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads.
    Read,
    /// Writes; the answer means that every copy has it.
    Write,
}

impl Load {
    /// All rows, in the order in which they are measured.
    pub fn all() -> impl Iterator<Item = Self> {
        let sizes =
            [(Kind::Write, 4 << 10), (Kind::Write, 1 << 20), (Kind::Read, 4 << 10), (Kind::Read, 1 << 20)];
        sizes.into_iter().flat_map(|(kind, bytes)| [1, 32].map(|depth| Self { kind, bytes, depth }))
    }

    /// Requests that make a pass worth its time, with its beginning, its end and the flush behind it.
    pub fn batch(&self) -> u64 {
        match (self.bytes < 1 << 20, self.depth) {
            (true, 1) => 64,
            (true, _) => 1024,
            (false, 1) => 8,
            (false, _) => 96,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Read => "read",
            Kind::Write => "write",
        };
        let (size, unit) =
            if self.bytes >= 1 << 20 { (self.bytes >> 20, "MiB") } else { (self.bytes >> 10, "KiB") };
        write!(f, "{kind} {size} {unit}, depth {}", self.depth)
    }
}

/// Aligned places on a disk in random order, each once before any comes again.
#[derive(Clone, Debug)]
pub struct Places {
    offsets: Vec<u64>,
    next: usize,
}

impl Places {
    /// The places for requests of `bytes` on a disk of `disk_bytes`. The order depends on nothing else.
    pub fn new(disk_bytes: u64, bytes: u32) -> Self {
        let step = u64::from(bytes);
        let mut offsets: Vec<u64> = (0..disk_bytes / step).map(|place| place * step).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for last in (1..offsets.len()).rev() {
            // Knuth's MMIX generator; its upper bits are the good ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            offsets.swap(last, (state >> 33) as usize % (last + 1));
        }
        Self { offsets, next: 0 }
    }

    /// The next place, in bytes from the start of the disk.
    pub fn take(&mut self) -> u64 {
        let place = self.offsets[self.next];
        self.next = (self.next + 1) % self.offsets.len();
        place
    }
}

/// Bytes to write: nothing that a device could make smaller.
pub fn payload(bytes: u32) -> Vec<u8> {
    let words = (0..bytes / 4).map(|word| word.wrapping_mul(0x9e37_79b1) | 1);
    words.flat_map(u32::to_be_bytes).collect()
}
