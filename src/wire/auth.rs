//! Challenge-response authentication, cram-hmac-alg (spec section 3.3).
//!
//! Each node proves that it knows the shared secret by an HMAC over random bytes of the other's
//! choice. The random bytes come from the caller; the order of the packets (W46) is the caller's.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use subtle::ConstantTimeEq;

use super::digest::{Digest, DigestAlg, UnknownAlg};
use super::error::Reaction;
use super::packet::{CHALLENGE_BYTES, MAX_CHALLENGE_BYTES};

/// Longest shared secret, in bytes (W41).
pub const MAX_SECRET_BYTES: usize = 63;

/// The shared secret with its hash (W41).
#[derive(Clone)]
pub struct CramHmac {
    alg: DigestAlg,
    keyed_hash: KeyedHash,
    secret: Box<[u8]>,
}

/// Why authentication is impossible or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// cram-hmac-alg names no hash that can be keyed.
    #[error("cram-hmac-alg: {0}")]
    Alg(#[from] UnknownAlg),
    /// The secret is longer than 63 bytes.
    #[error("the shared secret has {bytes} bytes; at most 63 are allowed")]
    SecretTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The peer's challenge has a forbidden length (W42).
    #[error("the peer's challenge has {bytes} bytes; 64 to 128 are allowed")]
    ChallengeLength {
        /// Its length.
        bytes: usize,
    },
    /// The peer sent this node's own challenge back (W45).
    #[error("the peer reflects this node's challenge: it may be this node itself, or an attacker")]
    Reflected,
    /// The response is not as long as the hash (W44): probably another algorithm.
    #[error("the peer's response has {found} bytes instead of {expected}: it may use another cram-hmac-alg")]
    ResponseLength {
        /// Length of the response.
        found: usize,
        /// Length of this node's hash.
        expected: usize,
    },
    /// The response is wrong (W44).
    #[error("the peer's response is wrong: the shared secrets differ")]
    WrongResponse,
}

impl AuthError {
    /// What it does to the connection attempt (3.8).
    #[must_use]
    pub const fn reaction(&self) -> Reaction {
        match self {
            Self::ResponseLength { .. } => Reaction::Retry,
            Self::Alg(_)
            | Self::SecretTooLong { .. }
            | Self::ChallengeLength { .. }
            | Self::Reflected
            | Self::WrongResponse => Reaction::StandAlone,
        }
    }
}

impl CramHmac {
    /// Hashes that can be keyed; a checksum cannot.
    pub const ALGS: &'static [DigestAlg] = &[
        DigestAlg::Md5,
        DigestAlg::Sha1,
        DigestAlg::Sha224,
        DigestAlg::Sha256,
        DigestAlg::Sha384,
        DigestAlg::Sha512,
    ];

    /// The secret to be used with the hash of this kernel crypto name.
    ///
    /// # Errors
    /// [`AuthError::Alg`] or [`AuthError::SecretTooLong`].
    pub fn new(alg: &str, secret: &[u8]) -> Result<Self, AuthError> {
        let known = DigestAlg::from_name(alg).ok();
        let (alg, keyed_hash) = known
            .and_then(|known| Some((known, keyed_hash(known)?)))
            .ok_or_else(|| UnknownAlg { name: alg.to_owned(), available: Self::ALGS })?;
        if secret.len() > MAX_SECRET_BYTES {
            return Err(AuthError::SecretTooLong { bytes: secret.len() });
        }
        Ok(Self { alg, keyed_hash, secret: secret.into() })
    }

    /// The response to the `received` challenge, given the challenge this node sent itself (W43).
    ///
    /// # Errors
    /// [`AuthError::ChallengeLength`] (W42) or [`AuthError::Reflected`] (W45).
    pub fn respond(&self, own: &[u8; CHALLENGE_BYTES], received: &[u8]) -> Result<Vec<u8>, AuthError> {
        if !(CHALLENGE_BYTES..=MAX_CHALLENGE_BYTES).contains(&received.len()) {
            return Err(AuthError::ChallengeLength { bytes: received.len() });
        }
        if received.starts_with(own) {
            return Err(AuthError::Reflected);
        }
        Ok(self.mac(received).to_vec())
    }

    /// Whether the peer's `response` answers the challenge this node sent (W44). The time this takes
    /// does not depend on where they differ.
    ///
    /// # Errors
    /// [`AuthError::ResponseLength`] or [`AuthError::WrongResponse`].
    pub fn verify(&self, own: &[u8; CHALLENGE_BYTES], response: &[u8]) -> Result<(), AuthError> {
        let expected = self.mac(own);
        if response.len() != expected.as_bytes().len() {
            let expected = expected.as_bytes().len();
            return Err(AuthError::ResponseLength { found: response.len(), expected });
        }
        if bool::from(expected.as_bytes().ct_eq(response)) { Ok(()) } else { Err(AuthError::WrongResponse) }
    }

    fn mac(&self, message: &[u8]) -> Digest {
        (self.keyed_hash)(&self.secret, message)
    }
}

/// The secret stays out of logs.
impl fmt::Debug for CramHmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CramHmac({}, secret hidden)", self.alg.name())
    }
}

/// Secret and message to HMAC.
type KeyedHash = fn(&[u8], &[u8]) -> Digest;

fn keyed_hash(alg: DigestAlg) -> Option<KeyedHash> {
    match alg {
        DigestAlg::Md5 => Some(keyed::<Hmac<md5::Md5>>),
        DigestAlg::Sha1 => Some(keyed::<Hmac<sha1::Sha1>>),
        DigestAlg::Sha224 => Some(keyed::<Hmac<sha2::Sha224>>),
        DigestAlg::Sha256 => Some(keyed::<Hmac<sha2::Sha256>>),
        DigestAlg::Sha384 => Some(keyed::<Hmac<sha2::Sha384>>),
        DigestAlg::Sha512 => Some(keyed::<Hmac<sha2::Sha512>>),
        DigestAlg::Crc32c | DigestAlg::Crc32 => None,
    }
}

fn keyed<M: Mac + KeyInit>(secret: &[u8], message: &[u8]) -> Digest {
    let mut mac = <M as KeyInit>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(message);
    Digest::of(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> [u8; CHALLENGE_BYTES] {
        std::array::from_fn(|index| index as u8)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn responses_match_the_check_values_of_section_11_3() {
        for (alg, response) in [
            ("sha1", "afe9485a34cf04a78c4f0101a2a0897 4b912de08"),
            ("sha256", "5f5d485f2228776ad7710aa47d15a4d61744dbb9a2a3e5647f5a1bbfcf8015e1"),
        ] {
            let auth = CramHmac::new(alg, b"secret").unwrap();
            let found = auth.respond(&[0; 64], &counting()).unwrap();
            assert_eq!(hex(&found), response.replace(' ', ""));
            assert_eq!(auth.verify(&counting(), &found), Ok(()));
        }
    }

    #[test]
    fn every_keyable_hash_authenticates_its_twin_and_refuses_a_stranger() {
        for alg in CramHmac::ALGS {
            let node = CramHmac::new(alg.name(), b"secret").unwrap();
            let stranger = CramHmac::new(alg.name(), b"sekret").unwrap();
            // W42, W43: all bytes of a longer challenge count.
            let challenge = [7; 128];
            let response = node.respond(&counting(), &challenge).unwrap();
            assert_eq!(response.len(), alg.digest_bytes());
            assert_ne!(response, node.respond(&counting(), &challenge[..127]).unwrap());
            let good = node.respond(&[0; 64], &counting()).unwrap();
            assert_eq!(node.verify(&counting(), &good), Ok(()));
            assert_eq!(stranger.verify(&counting(), &good), Err(AuthError::WrongResponse));
            let short = node.verify(&counting(), &good[1..]).unwrap_err();
            assert_eq!(short.reaction(), Reaction::Retry, "W44");
        }
    }

    #[test]
    fn a_reflected_or_badly_sized_challenge_is_never_answered() {
        let auth = CramHmac::new("sha1", b"secret").unwrap();
        assert_eq!(auth.respond(&counting(), &counting()), Err(AuthError::Reflected));
        let mut padded = counting().to_vec();
        padded.extend([1; 10]);
        assert_eq!(auth.respond(&counting(), &padded), Err(AuthError::Reflected), "W45: the first 64 bytes");
        for bytes in [0, 63, 129] {
            let error = auth.respond(&counting(), &vec![9; bytes]).unwrap_err();
            assert_eq!(error, AuthError::ChallengeLength { bytes });
            assert_eq!(error.reaction(), Reaction::StandAlone);
        }
    }

    #[test]
    fn an_unusable_setting_is_named() {
        let error = CramHmac::new("crc32c", b"secret").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cram-hmac-alg: algorithm \"crc32c\" is not available; use one of md5, sha1, sha224, sha256, sha384, sha512"
        );
        assert_eq!(CramHmac::new("sha1", &[b'x'; 64]).unwrap_err(), AuthError::SecretTooLong { bytes: 64 });
        assert!(!format!("{:?}", CramHmac::new("sha1", b"hunter2").unwrap()).contains("hunter2"));
    }
}
