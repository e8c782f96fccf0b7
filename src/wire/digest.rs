//! Digests of block data, for data-integrity-alg, verify-alg and csums-alg (W92, W93).
//!
//! Algorithms go by their kernel crypto names, and their bytes are those the kernel's crypto API
//! produces. For the two checksums that means little-endian words (W93), and for `crc32` neither
//! the customary initial value nor the final inversion: the register starts at 0 and is sent as it is.

use sha1::Digest as _;

/// A hash that can protect block data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestAlg {
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-32 as the kernel's crypto API computes it.
    Crc32,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// An algorithm name that this build does not provide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("algorithm {name:?} is not available; use one of {}", names(available))]
pub struct UnknownAlg {
    /// The name.
    pub name: String,
    /// What would be available in its place.
    pub available: &'static [DigestAlg],
}

impl DigestAlg {
    /// All algorithms.
    pub const ALL: &'static [Self] = &[
        Self::Crc32c,
        Self::Crc32,
        Self::Md5,
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
    ];

    /// The algorithm with this kernel crypto name.
    ///
    /// # Errors
    /// [`UnknownAlg`] names it and what is available. An empty name is no algorithm either: the
    /// caller treats "none" before (3.4).
    pub fn from_name(name: &str) -> Result<Self, UnknownAlg> {
        let found = Self::ALL.iter().copied().find(|alg| alg.name() == name);
        found.ok_or_else(|| UnknownAlg { name: name.to_owned(), available: Self::ALL })
    }

    /// Its kernel crypto name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32c => "crc32c",
            Self::Crc32 => "crc32",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of its digest.
    #[must_use]
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Crc32c | Self::Crc32 => 4,
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `data`, as it goes on the wire.
    #[must_use]
    pub fn digest(self, data: &[u8]) -> Digest {
        match self {
            Self::Crc32c => Digest::of(&crc32c::crc32c(data).to_le_bytes()),
            Self::Crc32 => Digest::of(&bare_crc32(data).to_le_bytes()),
            Self::Md5 => Digest::of(&md5::Md5::digest(data)),
            Self::Sha1 => Digest::of(&sha1::Sha1::digest(data)),
            Self::Sha224 => Digest::of(&sha2::Sha224::digest(data)),
            Self::Sha256 => Digest::of(&sha2::Sha256::digest(data)),
            Self::Sha384 => Digest::of(&sha2::Sha384::digest(data)),
            Self::Sha512 => Digest::of(&sha2::Sha512::digest(data)),
        }
    }

    /// Whether `digest` is that of `data`.
    #[must_use]
    pub fn matches(self, data: &[u8], digest: &[u8]) -> bool {
        self.digest(data).as_bytes() == digest
    }
}

/// The bytes of a digest, held in place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    bytes: [u8; Self::MAX_BYTES],
    len: u8,
}

impl Digest {
    const MAX_BYTES: usize = super::packet::MAX_DIGEST_BYTES;

    /// The digest bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// A copy for a packet.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    pub(super) fn of(digest: &[u8]) -> Self {
        let mut bytes = [0; Self::MAX_BYTES];
        bytes[..digest.len()].copy_from_slice(digest);
        Self { bytes, len: digest.len() as u8 }
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The register of CRC-32 started at 0 and not inverted at the end.
fn bare_crc32(data: &[u8]) -> u32 {
    // The crate inverts at both ends, so all ones stand for a register of 0.
    let mut hasher = crc32fast::Hasher::new_with_initial(u32::MAX);
    hasher.update(data);
    !hasher.finalize()
}

fn names(algs: &[DigestAlg]) -> String {
    algs.iter().map(|alg| alg.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(alg: DigestAlg, data: &[u8]) -> String {
        format!("{:?}", alg.digest(data))
    }

    #[test]
    fn crc32c_comes_out_little_endian() {
        // W93.
        assert_eq!(hex(DigestAlg::Crc32c, &[0; 4096]), "8941f998");
        // The check value of the catalogue, 0xe3069283.
        assert_eq!(hex(DigestAlg::Crc32c, b"123456789"), "839206e3");
    }

    #[test]
    fn crc32_is_the_bare_register() {
        assert_eq!(hex(DigestAlg::Crc32, &[0; 4096]), "00000000");
        // One byte 0x80 shifts a single bit through the register: the reversed polynomial itself.
        assert_eq!(hex(DigestAlg::Crc32, &[0x80]), "2083b8ed");
    }

    #[test]
    fn the_hashes_give_their_published_values() {
        assert_eq!(hex(DigestAlg::Md5, b"abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hex(DigestAlg::Sha1, b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            hex(DigestAlg::Sha256, b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn every_algorithm_goes_by_its_name_and_size() {
        for &alg in DigestAlg::ALL {
            assert_eq!(DigestAlg::from_name(alg.name()), Ok(alg));
            let digest = alg.digest(b"data");
            assert_eq!(digest.as_bytes().len(), alg.digest_bytes());
            assert!(alg.matches(b"data", digest.as_bytes()));
            assert!(!alg.matches(b"dato", digest.as_bytes()));
            assert!(!alg.matches(b"data", &digest.as_bytes()[1..]));
        }
    }

    #[test]
    fn an_unknown_algorithm_is_named_with_the_known_ones() {
        let error = DigestAlg::from_name("crc33").unwrap_err();
        assert_eq!(
            error.to_string(),
            "algorithm \"crc33\" is not available; use one of crc32c, crc32, md5, sha1, sha224, sha256, sha384, sha512"
        );
        assert!(DigestAlg::from_name("").is_err());
    }
}
