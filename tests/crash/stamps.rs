//! What is written, and what may be found: each sector tells who wrote it, where, and which write it was.
//!
//! A client has sectors of its own, and never two writes under way to one of them. So the ledger knows of each sector
//! which version must be there at least ([`Sector::settled`]), and which later ones may be there because nobody
//! said what became of them.

use std::fmt::Write as _;

/// Bytes of a sector.
pub(crate) const SECTOR_BYTES: usize = 512;
/// How many clients there are.
pub(crate) const CLIENTS: usize = 4;
/// What belongs to one client in one piece, in sectors; no write is longer.
pub(crate) const CHUNK: usize = 128;
const CHUNK_BYTES: u64 = (CHUNK * SECTOR_BYTES) as u64;
/// From one window to the next: an extent of the activity log.
const STRIDE_BYTES: u64 = 4 << 20;
const MAGIC: u64 = 0x7572_6264_7374_616d; // "urbdstam"

/// Which write of its client a sector holds: 0 before the first, [`Version::ZEROES`] marks a write of zeroes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Version {
    const ZEROES: u64 = 1 << 63;

    pub(crate) const fn data(number: u64) -> Self {
        Self(number)
    }

    pub(crate) const fn zeroes(number: u64) -> Self {
        Self(number | Self::ZEROES)
    }

    pub(crate) const fn is_zeroes(self) -> bool {
        self.0 & Self::ZEROES != 0
    }
}

/// Which part of a device is stamped: a window at the start of each of so many extents, in which the clients' chunks
/// take turns, so many of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground {
    pub(crate) windows: usize,
    pub(crate) rows: usize,
}

impl Ground {
    /// How many sectors each client has.
    pub(crate) const fn sectors(self) -> usize {
        self.windows * self.rows * CHUNK
    }

    /// How many bytes all clients have.
    pub(crate) const fn bytes(self) -> usize {
        self.sectors() * CLIENTS * SECTOR_BYTES
    }

    /// Where on the device, in bytes, a sector of a client is.
    pub(crate) const fn byte_of(self, client: usize, sector: usize) -> u64 {
        let (chunk, rest) = (sector / CHUNK, sector % CHUNK);
        let (window, row) = (chunk / self.rows, chunk % self.rows);
        window as u64 * STRIDE_BYTES
            + (row * CLIENTS + client) as u64 * CHUNK_BYTES
            + (rest * SECTOR_BYTES) as u64
    }

    /// Whose sector is at a byte of the device, if anybody's.
    pub(crate) const fn owner_of(self, byte: u64) -> Option<(usize, usize)> {
        let (window, rest) = ((byte / STRIDE_BYTES) as usize, byte % STRIDE_BYTES);
        let (chunk, rest) = ((rest / CHUNK_BYTES) as usize, rest % CHUNK_BYTES);
        let (row, client) = (chunk / CLIENTS, chunk % CLIENTS);
        if window >= self.windows || row >= self.rows {
            return None;
        }
        Some((client, (window * self.rows + row) * CHUNK + rest as usize / SECTOR_BYTES))
    }
}

/// What is known of a sector.
#[derive(Clone, Debug, Default)]
struct Sector {
    /// The last version that was acknowledged, or read.
    settled: Version,
    /// Later versions that were submitted, and not acknowledged.
    open: Vec<Version>,
}

/// What one client knows of its sectors.
#[derive(Clone, Debug)]
pub(crate) struct Sheet {
    pub(crate) client: usize,
    pub(crate) ground: Ground,
    sectors: Vec<Sector>,
    last: u64,
}

impl Sheet {
    /// For a device that holds zeroes.
    pub(crate) fn new(client: usize, ground: Ground) -> Self {
        Self { client, ground, sectors: vec![Sector::default(); ground.sectors()], last: 0 }
    }

    /// The number of the next write.
    pub(crate) const fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The bytes of a write.
    pub(crate) fn data(&self, first: usize, count: usize, version: Version) -> Vec<u8> {
        (first..first + count).flat_map(|sector| self.stamp(sector, version)).collect()
    }

    /// Before a write is sent.
    pub(crate) fn submitted(&mut self, first: usize, count: usize, version: Version) {
        for sector in &mut self.sectors[first..first + count] {
            sector.open.push(version);
        }
    }

    /// When it is acknowledged.
    pub(crate) fn acknowledged(&mut self, first: usize, count: usize, version: Version) {
        for sector in &mut self.sectors[first..first + count] {
            *sector = Sector { settled: version, open: Vec::new() };
        }
    }

    /// Compares what was read with what may be there; from now on it must be what was read. Complains of each sector
    /// that holds anything else.
    pub(crate) fn check(&mut self, first: usize, data: &[u8]) -> Vec<String> {
        let mut wrong = Vec::new();
        for (sector, found) in (first..).zip(data.chunks(SECTOR_BYTES)) {
            let known = &self.sectors[sector];
            let mut allowed = [known.settled].into_iter().chain(known.open.iter().copied());
            match allowed.find(|version| self.stamp(sector, *version) == found) {
                Some(version) => self.acknowledged(sector, 1, version),
                None => wrong.push(format!(
                    "client {} sector {sector} (byte {:#x} of the device): acknowledged {}, later submitted {:?}, \
                     holds {}",
                    self.client,
                    self.ground.byte_of(self.client, sector),
                    told(known.settled),
                    known.open.iter().map(|version| told(*version)).collect::<Vec<_>>(),
                    describe(found)
                )),
            }
        }
        wrong
    }

    fn stamp(&self, sector: usize, version: Version) -> [u8; SECTOR_BYTES] {
        let mut stamp = [0; SECTOR_BYTES];
        if version == Version::default() || version.is_zeroes() {
            return stamp;
        }
        let byte = self.ground.byte_of(self.client, sector);
        let header = [MAGIC, self.client as u64, byte, version.0];
        // The rest follows from the header: a stamp is its own checksum.
        let mut filler =
            header.iter().fold(0, |sum: u64, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let filler = std::iter::from_fn(|| {
            filler = filler.wrapping_add(0x94d0_49bb_1331_11eb);
            Some(filler)
        });
        for (place, word) in stamp.chunks_mut(8).zip(header.into_iter().chain(filler)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        stamp
    }
}

/// A sector's contents in words.
pub(crate) fn describe(sector: &[u8]) -> String {
    if sector.iter().all(|byte| *byte == 0) {
        return "zeroes".into();
    }
    let word = |n: usize| u64::from_le_bytes(sector[n * 8..n * 8 + 8].try_into().unwrap());
    if word(0) == MAGIC {
        return format!("a stamp: write {} of client {} to byte {:#x}", word(3), word(1), word(2));
    }
    sector[..32].iter().fold("no stamp: ".into(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn told(version: Version) -> String {
    match version.0 {
        0 => "nothing".into(),
        number if version.is_zeroes() => format!("zeroes of write {}", number & !Version::ZEROES),
        number => format!("write {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUND: Ground = Ground { windows: 3, rows: 2 };

    #[test]
    fn every_sector_has_one_owner() {
        let mut seen = std::collections::BTreeSet::new();
        for client in 0..CLIENTS {
            for sector in 0..GROUND.sectors() {
                let byte = GROUND.byte_of(client, sector);
                assert_eq!(GROUND.owner_of(byte), Some((client, sector)));
                assert!(seen.insert(byte));
            }
        }
        assert_eq!(seen.len() * SECTOR_BYTES, GROUND.bytes());
        assert_eq!(GROUND.owner_of(3 * STRIDE_BYTES), None);
        assert_eq!(GROUND.owner_of(8 * CHUNK_BYTES), None);
    }

    #[test]
    fn only_what_was_acknowledged_or_is_open_may_be_there() {
        let mut sheet = Sheet::new(1, GROUND);
        let (one, two, three) = (Version::data(1), Version::data(2), Version::zeroes(3));
        sheet.submitted(130, 2, one);
        assert!(sheet.clone().check(130, &[0; 1024]).is_empty(), "not acknowledged: nothing need be there");
        sheet.acknowledged(130, 2, one);
        assert_eq!(sheet.clone().check(130, &[0; 1024]).len(), 2, "a lost write");
        sheet.submitted(131, 1, two);
        sheet.submitted(131, 1, three);
        for version in [one, two, three] {
            let found = [sheet.data(130, 1, one), sheet.data(131, 1, version)].concat();
            assert!(sheet.clone().check(130, &found).is_empty());
        }
        let second = sheet.data(131, 1, two);
        assert!(sheet.check(131, &second).is_empty());
        let first = sheet.data(131, 1, one);
        assert_eq!(sheet.check(131, &first).len(), 1, "what was read once must not go");
        let moved = sheet.data(132, 1, two);
        assert_eq!(sheet.check(131, &moved).len(), 1, "data of another place");
        let mut torn = second;
        torn[511] ^= 1;
        assert_eq!(sheet.check(131, &torn).len(), 1, "half a sector is no write");
    }
}
