//! Hashes and the password-based key derivation of keyslots and digests.
//!
//! Owns: which hashes, functions and costs exist here. The cost of a header from elsewhere is bounded before a single
//! round is run: an absurd count of rounds or memory is an error, not a stalled boot.
//! A sealed secret is 256 random bits, so its keyslot needs no stretching: 1000 rounds of PBKDF2, as systemd does. What
//! people carry about has argon2id, within the memory that writing a volume may take.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use data_encoding::BASE64;
use openssl::{error::ErrorStack, hash::MessageDigest, pkcs5::pbkdf2_hmac};
use zeroize::Zeroize as _;

use crate::metadata;

/// Rounds of what we write, for random secrets.
pub(crate) const ITERATIONS: u32 = 1000;
/// Most rounds that we run for one derivation; a fast machine makes about 3 million in a second.
pub(crate) const MAX_ITERATIONS: u32 = 20_000_000;
/// Bytes of a salt that we write.
pub(crate) const SALT_LEN: usize = 32;
/// The lengths of a salt that we read: argon2 wants 8 bytes, and nobody has fewer.
const SALT_LENS: std::ops::RangeInclusive<usize> = 8..=64;
/// The most memory that argon2 may take, in KiB: 1 GiB, the most that cryptsetup writes by default.
const MAX_MEMORY: u32 = 1 << 20;
/// The most memory that argon2 may touch over all its passes, in KiB: 16 GiB, some ten seconds.
const MAX_TOUCHED: u64 = 16 << 20;
/// The most lanes.
const MAX_CPUS: u32 = 16;

/// A hash for derivation and anti-forensic diffusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// Its name in a header.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The hash of a name in a header, if it is one of ours.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|hash| hash.name() == name)
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
    /// Takes parameters; `None` when there are no rounds, too many, or the salt is too short or long.
    pub(crate) fn new(hash: Hash, iterations: u64, salt: Vec<u8>) -> Option<Self> {
        let iterations = u32::try_from(iterations).ok()?;
        let fits = (1..=MAX_ITERATIONS).contains(&iterations) && SALT_LENS.contains(&salt.len());
        fits.then_some(Self {
            hash,
            iterations,
            salt,
        })
    }

    /// Hash, rounds and salt.
    pub(crate) fn parameters(&self) -> (Hash, u32, &[u8]) {
        (self.hash, self.iterations, &self.salt)
    }

    /// Fills `key`.
    pub(crate) fn derive(&self, password: &[u8], key: &mut [u8]) -> Result<(), ErrorStack> {
        // Bounded by the constructor, so the conversion keeps the value.
        let iterations = usize::try_from(self.iterations).unwrap_or(usize::MAX);
        pbkdf2_hmac(password, &self.salt, iterations, self.hash.message_digest(), key)
    }
}

/// Argon2 with bounded cost: the only constructor is [`Argon2Kdf::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Argon2Kdf {
    algorithm: Algorithm,
    time: u32,
    memory: u32,
    cpus: u32,
    salt: Vec<u8>,
}

impl Argon2Kdf {
    /// Takes passes, KiB and lanes; `None` when one of them, or the salt's length, is out of bounds.
    pub(crate) fn new(
        algorithm: Algorithm,
        time: u64,
        memory: u64,
        cpus: u64,
        salt: Vec<u8>,
    ) -> Option<Self> {
        let [time, memory, cpus] = [time, memory, cpus].map(u32::try_from);
        let (time, memory, cpus) = (time.ok()?, memory.ok()?, cpus.ok()?);
        let fits = time >= 1
            && (1..=MAX_CPUS).contains(&cpus)
            && (cpus.saturating_mul(8)..=MAX_MEMORY).contains(&memory)
            && u64::from(time).saturating_mul(u64::from(memory)) <= MAX_TOUCHED
            && SALT_LENS.contains(&salt.len());
        fits.then_some(Self {
            algorithm,
            time,
            memory,
            cpus,
            salt,
        })
    }

    /// What we write for a recovery key: argon2id, 4 passes over 32 MiB.
    pub(crate) fn recovery(salt: [u8; SALT_LEN]) -> Option<Self> {
        Self::new(Algorithm::Argon2id, 4, 32 << 10, 1, salt.to_vec())
    }

    fn derive(&self, password: &[u8], key: &mut [u8]) -> Result<(), KdfError> {
        let params =
            Params::new(self.memory, self.time, self.cpus, Some(key.len())).map_err(KdfError::Argon2)?;
        let count = params.block_count();
        // Asked for and not taken: memory that is not there is an error, never an abort.
        let mut blocks: Vec<Block> = Vec::new();
        blocks
            .try_reserve_exact(count)
            .map_err(|_| KdfError::Memory(self.memory))?;
        blocks.resize(count, Block::default());
        let done = Argon2::new(self.algorithm, Version::V0x13, params).hash_password_into_with_memory(
            password,
            &self.salt,
            key,
            &mut blocks,
        );
        blocks.iter_mut().for_each(Block::zeroize);
        done.map_err(KdfError::Argon2)
    }
}

/// Why a key could not be derived.
#[derive(Debug, thiserror::Error)]
pub enum KdfError {
    /// OpenSSL fails.
    #[error("OpenSSL fails")]
    OpenSsl(#[from] ErrorStack),
    /// Argon2 asks for memory that is not there.
    #[error("argon2 needs {0} KiB of memory, which are not there")]
    Memory(u32),
    /// Argon2 refuses its parameters.
    #[error("argon2 fails: {0}")]
    Argon2(argon2::Error),
}

/// The derivation of a keyslot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kdf {
    Pbkdf2(Pbkdf2),
    Argon2(Argon2Kdf),
}

impl Kdf {
    /// Fills `key`.
    pub(crate) fn derive(&self, password: &[u8], key: &mut [u8]) -> Result<(), KdfError> {
        match self {
            Self::Pbkdf2(kdf) => Ok(kdf.derive(password, key)?),
            Self::Argon2(kdf) => kdf.derive(password, key),
        }
    }

    /// What a derivation costs: rounds, or KiB that are touched, which take about as long.
    pub(crate) fn cost(&self) -> u64 {
        match self {
            Self::Pbkdf2(kdf) => u64::from(kdf.iterations),
            Self::Argon2(kdf) => u64::from(kdf.time).saturating_mul(u64::from(kdf.memory)),
        }
    }

    /// Its object in a header.
    pub(crate) fn to_metadata(&self) -> metadata::Kdf {
        match self {
            Self::Pbkdf2(kdf) => metadata::Kdf::Pbkdf2 {
                hash: kdf.hash.name().to_owned(),
                iterations: u64::from(kdf.iterations),
                salt: BASE64.encode(&kdf.salt),
            },
            Self::Argon2(kdf) => {
                let salt = BASE64.encode(&kdf.salt);
                let (time, memory, cpus) = (u64::from(kdf.time), u64::from(kdf.memory), u64::from(kdf.cpus));
                match kdf.algorithm {
                    Algorithm::Argon2i => metadata::Kdf::Argon2i {
                        time,
                        memory,
                        cpus,
                        salt,
                    },
                    Algorithm::Argon2d | Algorithm::Argon2id => metadata::Kdf::Argon2id {
                        time,
                        memory,
                        cpus,
                        salt,
                    },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    /// RFC 7914 section 11: PBKDF2-HMAC-SHA-256 of "Password", "NaCl", 80000 rounds; its other salt is too short here.
    #[test]
    fn pbkdf2_matches_the_published_vector() {
        let mut key = [0; 64];
        let kdf = Pbkdf2 {
            hash: Hash::Sha256,
            iterations: 80_000,
            salt: b"NaCl".to_vec(),
        };
        kdf.derive(b"Password", &mut key).unwrap();
        assert_eq!(
            hex(&key),
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56\
             a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d"
        );
    }

    #[test]
    fn cost_and_salt_are_bounded() {
        let pbkdf2 = |iterations, salt| Pbkdf2::new(Hash::Sha512, iterations, vec![0; salt]);
        assert!(pbkdf2(1, 8).is_some() && pbkdf2(20_000_000, 64).is_some());
        for (iterations, salt) in [(0, 32), (20_000_001, 32), (u64::MAX, 32), (1, 7), (1, 65)] {
            assert!(pbkdf2(iterations, salt).is_none());
        }
        let argon2 =
            |time, memory, cpus, salt| Argon2Kdf::new(Algorithm::Argon2id, time, memory, cpus, vec![0; salt]);
        assert!(argon2(4, 1 << 20, 4, 32).is_some());
        for (time, memory, cpus, salt) in [
            (0, 1 << 20, 4, 32),
            (17, 1 << 20, 4, 32),
            (1, (1 << 20) + 1, 4, 32),
            (1, u64::MAX, 1, 32),
            (1, 31, 4, 32),
            (1, 1024, 0, 32),
            (1, 1024, 17, 32),
            (1, 1024, 4, 7),
        ] {
            assert!(argon2(time, memory, cpus, salt).is_none());
        }
        assert_eq!(Hash::from_name("sha1"), None);
    }
}
