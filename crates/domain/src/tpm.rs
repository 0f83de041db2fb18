//! A TPM object's public area and Name, as opaque bytes that travel between crates.
//!
//! Owns: their bounds. What the bytes mean is the business of `evidence`, which parses and checks them.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::encoding::b64;

/// The longest public area that any reader here accepts, in bytes (an RSA-4096 key has about 560).
pub const MAX_PUBLIC_LEN: usize = 1024;
/// The longest Name: a hash identifier and a SHA-512 digest.
pub const MAX_NAME_LEN: usize = 2 + 64;

/// Why bytes cannot be a TPM object's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} has {len} bytes, 1 to {max} are allowed")]
pub struct InvalidLength {
    /// What was read.
    pub what: &'static str,
    /// Its length in bytes.
    pub len: usize,
    /// The longest one allowed.
    pub max: usize,
}

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Box<[u8]>);

        impl $name {
            /// The bytes as the TPM marshals them.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl TryFrom<Vec<u8>> for $name {
            type Error = InvalidLength;

            fn try_from(bytes: Vec<u8>) -> Result<Self, InvalidLength> {
                match bytes.len() {
                    1..=$max => Ok(Self(bytes.into())),
                    len => Err(InvalidLength { what: $what, len, max: $max }),
                }
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), HEXLOWER.encode(&self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                b64::serialize(self, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                b64::deserialize(deserializer)
            }
        }
    };
}

opaque!(
    /// A marshalled `TPMT_PUBLIC` (TPM 2.0 Library part 2, 12.2.4), without the size of a `TPM2B_PUBLIC`.
    TpmPublic, "a TPM public area", MAX_PUBLIC_LEN
);
opaque!(
    /// A Name or qualified name (part 1, 16 "Names"): the hash algorithm's identifier, then the digest.
    TpmName, "a TPM name", MAX_NAME_LEN
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kept() {
        assert!(TpmPublic::try_from(vec![]).is_err());
        assert!(TpmPublic::try_from(vec![0; MAX_PUBLIC_LEN + 1]).is_err());
        assert!(TpmName::try_from(vec![0; MAX_NAME_LEN]).is_ok());
    }

    #[test]
    fn json_is_base64() {
        let name = TpmName::try_from(vec![0, 0x0b, 1]).unwrap();
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(json, "\"AAsB\"");
        assert_eq!(serde_json::from_str::<TpmName>(&json).unwrap(), name);
        assert!(serde_json::from_str::<TpmName>("\"AAs\"").is_err());
        assert!(serde_json::from_str::<TpmName>("\"\"").is_err());
    }
}
