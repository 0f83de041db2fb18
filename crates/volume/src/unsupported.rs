//! Why a well-formed header is not opened: each refusal with its name.
//!
//! Owns: the messages of `validate`, where the reasons are. They show names from the header, quoted and escaped;
//! an attacker controls those, bounded by the size of the JSON area.

use crate::KeyslotId;

/// LUKS2 has 32 keyslots and as many tokens.
pub(crate) const MAX_OBJECTS: usize = 32;

/// Why a well-formed header is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A field that is not known, or has another value than any that is: it may change how the bytes are to be understood.
    #[error("the header has a field that is not supported: {0}")]
    Field(String),
    /// `config.requirements` is there: the writer says that an old reader must not touch it.
    #[error("the header has requirements, which are not supported")]
    Requirements,
    /// A reencryption is under way, or says so.
    #[error("the volume is being reencrypted; finish that with cryptsetup first")]
    Reencryption,
    /// More keyslots or tokens than LUKS2 has.
    #[error("the header has more than {MAX_OBJECTS} keyslots or tokens")]
    TooMany,
    /// Not exactly one segment `0` of type `crypt`.
    #[error("the volume has another layout of data than one encrypted segment")]
    Segments,
    /// Integrity, flags, or an IV that does not begin at zero.
    #[error("the data segment has {0}, which is not supported")]
    SegmentOption(&'static str),
    /// Another cipher; also the null cipher.
    #[error("{place} is encrypted with {cipher:?}, which is not accepted")]
    Cipher {
        /// `the data segment` or a keyslot.
        place: Place,
        /// The cipher's name in the header.
        cipher: String,
    },
    /// A key of another length than its cipher's.
    #[error("{place} has a key of {bytes} bytes, which is not accepted")]
    KeySize {
        /// Which key.
        place: Place,
        /// Its length.
        bytes: u64,
    },
    /// Neither 512 nor 4096.
    #[error("the data segment has sectors of {0} bytes, only 512 and 4096 are accepted")]
    SectorSize(u64),
    /// Not exactly one digest for the data segment.
    #[error("{0} digests check the volume key, exactly one is needed")]
    Digests(usize),
    /// A digest that is not PBKDF2.
    #[error("the digest's type is {0:?}, only \"pbkdf2\" is accepted")]
    DigestType(String),
    /// A keyslot number that is none, or that the digest names and the header lacks.
    #[error("{0:?} is no keyslot")]
    KeyslotName(String),
    /// A key derivation of a kind that is not known.
    #[error("keyslot {0} has a key derivation that is neither pbkdf2 nor argon2i nor argon2id")]
    KdfType(KeyslotId),
    /// No keyslot holds the key of the data.
    #[error("no keyslot holds the volume key")]
    NoKeyslot,
    /// Not `luks2`.
    #[error("keyslot {0} is of type {1:?}, only \"luks2\" is accepted")]
    KeyslotType(KeyslotId, String),
    /// Another anti-forensic split than 4000 stripes.
    #[error("keyslot {0} has an anti-forensic split that is not supported")]
    Split(KeyslotId),
    /// Another hash than SHA-256 and SHA-512.
    #[error("{place} uses the hash {hash:?}, only sha256 and sha512 are accepted")]
    Hash {
        /// Where.
        place: Place,
        /// The hash's name in the header.
        hash: String,
    },
    /// A key derivation without rounds, or one that would stall the machine; or its salt is none.
    #[error("{0} has a key derivation with absurd parameters")]
    KdfCost(Place),
    /// A field that is not base64.
    #[error("{0} has a salt or digest that is not base64")]
    Base64(Place),
    /// Outside of its room, or not on its boundary.
    #[error("{0} lies outside of its room")]
    OutOfBounds(Place),
    /// The device ends before the data does.
    #[error("the volume needs {needed} bytes, {found} are there: it is cut off")]
    Truncated {
        /// Bytes to the end of the data segment.
        needed: u64,
        /// Bytes that there are.
        found: u64,
    },
}

/// A part of the header, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The data segment.
    Data,
    /// The digest of the volume key.
    Digest,
    /// A keyslot.
    Keyslot(KeyslotId),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data => f.write_str("the data segment"),
            Self::Digest => f.write_str("the digest"),
            Self::Keyslot(slot) => write!(f, "keyslot {slot}"),
        }
    }
}
