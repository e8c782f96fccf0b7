//! What lies at the start of a device that is about to get metadata (M116): data that nobody should
//! overwrite by mistake. Pure: it looks at bytes.

/// Bytes at the start of the device that are looked at.
pub const LOOK_BYTES: usize = 69_632;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// In words, as printed.
    pub what: &'static str,
    /// The kind, as far as the decision needs it.
    pub kind: Kind,
}

/// How much is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file system that says how large it is, in bytes.
    FileSystem(u64),
    /// Swap space.
    Swap,
    /// A physical volume of LVM.
    Lvm,
    /// Something unknown that is not zero.
    SomeData,
}

/// What the first bytes of a device look like; `None` if all of them are zero.
///
/// `start` should be [`LOOK_BYTES`] long; less is taken as if zeros followed.
#[must_use]
pub fn identify(start: &[u8]) -> Option<Existing> {
    if start.iter().all(|&byte| byte == 0) {
        return None;
    }
    let file_system = |what, bytes| Some(Existing { what, kind: Kind::FileSystem(bytes) });
    let view = View(start);
    let swap = |at: usize| view.is(at, b"SWAPSPACE2") || view.is(at, b"SWAP-SPACE");
    if swap(4096 - 10) || swap(8192 - 10) {
        return Some(Existing { what: "swap space signature", kind: Kind::Swap });
    }
    if view.is(536, b"LVM2") {
        return Some(Existing { what: "LVM2 physical volume signature", kind: Kind::Lvm });
    }
    if view.le(1080, 2) == 0xEF53 {
        return file_system(ext_name(&view), ext_bytes(&view));
    }
    if view.is(0, b"XFSB") {
        return file_system("xfs filesystem", view.be(4, 4).saturating_mul(view.be(8, 8)));
    }
    if view.is(32_768, b"JFS1") {
        return file_system("JFS filesystem", view.le(32_776, 8).saturating_mul(512));
    }
    if view.is(65_588, b"ReIsErFs") || view.is(65_588, b"ReIsEr2Fs") {
        let bytes = view.le(65_536, 4).saturating_mul(view.le(65_536 + 44, 2));
        return file_system("reiser filesystem", bytes);
    }
    Some(Existing { what: "some data", kind: Kind::SomeData })
}

fn ext_name(view: &View<'_>) -> &'static str {
    const HAS_JOURNAL: u64 = 4;
    if view.le(1116, 4) & HAS_JOURNAL != 0 { "ext3 filesystem" } else { "ext2 filesystem" }
}

/// Blocks times block size; the upper half of the number counts only with the 64-bit feature.
fn ext_bytes(view: &View<'_>) -> u64 {
    const WIDE: u64 = 0x80;
    let wide = view.le(1120, 4) & WIDE != 0;
    let upper = if wide { view.le(1024 + 0x150, 4) } else { 0 };
    let block = 1024u64 << view.le(1048, 4).min(16);
    (upper << 32 | view.le(1028, 4)).saturating_mul(block)
}

/// Bytes with zeros behind their end.
struct View<'a>(&'a [u8]);

impl View<'_> {
    fn is(&self, at: usize, signature: &[u8]) -> bool {
        self.0.get(at..at + signature.len()) == Some(signature)
    }

    fn byte(&self, at: usize) -> u64 {
        self.0.get(at).copied().map_or(0, u64::from)
    }

    fn le(&self, at: usize, bytes: usize) -> u64 {
        (0..bytes).rev().fold(0, |value, i| value << 8 | self.byte(at + i))
    }

    fn be(&self, at: usize, bytes: usize) -> u64 {
        (0..bytes).fold(0, |value, i| value << 8 | self.byte(at + i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; LOOK_BYTES];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    fn found(parts: &[(usize, &[u8])]) -> (&'static str, Kind) {
        let existing = identify(&device(parts)).unwrap();
        (existing.what, existing.kind)
    }

    #[test]
    fn an_empty_device_holds_nothing() {
        assert_eq!(identify(&device(&[])), None);
        assert_eq!(identify(&[]), None);
    }

    #[test]
    fn signatures_are_recognised_with_their_sizes() {
        let magic: &[u8] = &[0x53, 0xEF];
        let blocks: &[u8] = &1000u32.to_le_bytes();
        assert_eq!(
            found(&[(1080, magic), (1028, blocks), (1048, &[2])]),
            ("ext2 filesystem", Kind::FileSystem(4_096_000))
        );
        assert_eq!(
            found(&[(1080, magic), (1028, blocks), (1116, &[4])]),
            ("ext3 filesystem", Kind::FileSystem(1_024_000))
        );
        let wide = [(1080, magic), (1120, &[0x80][..]), (1024 + 0x150, &[1][..])];
        assert_eq!(found(&wide).1, Kind::FileSystem(1024 << 32));
        assert_eq!(
            found(&[(0, b"XFSB\0\0\x10\0\0\0\0\0\0\0\0\x05")]),
            ("xfs filesystem", Kind::FileSystem(20_480))
        );
        assert_eq!(found(&[(32_768, b"JFS1"), (32_776, &[8])]).1, Kind::FileSystem(4096));
        assert_eq!(
            found(&[(65_588, b"ReIsEr2Fs"), (65_536, &[3]), (65_580, &[0, 16])]).1,
            Kind::FileSystem(12_288)
        );
        assert_eq!(found(&[(4086, b"SWAPSPACE2")]).1, Kind::Swap);
        assert_eq!(found(&[(8182, b"SWAP-SPACE")]).1, Kind::Swap);
        assert_eq!(found(&[(536, b"LVM2")]).1, Kind::Lvm);
        assert_eq!(found(&[(65_588, b"ReIsEr3Fs")]), ("some data", Kind::SomeData));
        assert_eq!(found(&[(69_631, &[1])]).1, Kind::SomeData);
    }
}
