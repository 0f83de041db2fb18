//! Hashes and the password-based key derivation of keyslots and digests.
//!
//! Owns: which hashes and costs exist here. The cost of a header from elsewhere is bounded before a single round is
//! run: an absurd iteration count is an error, not a stalled boot.
//! A sealed secret is 256 random bits, so its keyslot needs no stretching: 1000 rounds, as systemd does.

use openssl::{error::ErrorStack, hash::MessageDigest, pkcs5::pbkdf2_hmac};
use serde::{Deserialize, Serialize};

/// Rounds of what we write, for random secrets.
pub(crate) const ITERATIONS: u32 = 1000;
/// Most rounds that we run for one derivation; a fast machine makes about 3 million in a second.
pub(crate) const MAX_ITERATIONS: u32 = 20_000_000;
/// Bytes of a salt that we write.
pub(crate) const SALT_LEN: usize = 32;
/// The longest salt that we read.
pub(crate) const MAX_SALT: usize = 64;

/// A hash for derivation and anti-forensic diffusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hash {
    /// What cryptsetup uses for digests.
    Sha256,
    /// What systemd uses for keyslots.
    Sha512,
}

impl Hash {
    /// OpenSSL's name for it.
    pub(crate) fn message_digest(self) -> MessageDigest {
        match self {
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha512 => MessageDigest::sha512(),
        }
    }

    /// The hash of a name in a header, if it is one of ours.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }
}

/// PBKDF2 with bounded cost: the only constructor is [`Pbkdf2::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pbkdf2 {
    hash: Hash,
    iterations: u32,
    salt: Vec<u8>,
}

impl Pbkdf2 {
    /// Takes parameters; `None` when there are no rounds, too many, or the salt has no or too many bytes.
    pub(crate) fn new(hash: Hash, iterations: u32, salt: Vec<u8>) -> Option<Self> {
        let fits = (1..=MAX_ITERATIONS).contains(&iterations) && (1..=MAX_SALT).contains(&salt.len());
        fits.then_some(Self {
            hash,
            iterations,
            salt,
        })
    }

    /// Rounds: the cost of one derivation.
    pub(crate) const fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Fills `key`.
    pub(crate) fn derive(&self, password: &[u8], key: &mut [u8]) -> Result<(), ErrorStack> {
        // Bounded by the constructor, so the conversion keeps the value.
        let iterations = usize::try_from(self.iterations).unwrap_or(usize::MAX);
        pbkdf2_hmac(password, &self.salt, iterations, self.hash.message_digest(), key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7914 section 11: PBKDF2-HMAC-SHA-256 of "passwd", "salt", 1 round.
    #[test]
    fn matches_the_published_vector() {
        let mut key = [0; 64];
        let kdf = Pbkdf2::new(Hash::Sha256, 1, b"salt".to_vec()).unwrap();
        kdf.derive(b"passwd", &mut key).unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&key),
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc\
             49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"
        );
    }

    #[test]
    fn cost_and_salt_are_bounded() {
        assert!(Pbkdf2::new(Hash::Sha512, 0, vec![0; 32]).is_none());
        assert!(Pbkdf2::new(Hash::Sha512, MAX_ITERATIONS + 1, vec![0; 32]).is_none());
        assert!(Pbkdf2::new(Hash::Sha512, 1, vec![]).is_none());
        assert!(Pbkdf2::new(Hash::Sha512, 1, vec![0; MAX_SALT + 1]).is_none());
        assert_eq!(Hash::from_name("sha1"), None);
    }
}
