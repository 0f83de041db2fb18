//! SHA-256 digests, one type for each thing that is digested, so that one cannot stand in for another.
//!
//! Owns: the hexadecimal text form (lowercase, 64 digits) of each. Digests are public values: they compare in
//! ordinary time. A PSK's digest finds its record, it never proves anything.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

/// Why a text is not a SHA-256 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest is 64 hexadecimal digits")]
pub struct InvalidDigest;

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Hashes `data` with SHA-256.
            #[must_use]
            pub fn of(data: &[u8]) -> Self {
                Self(Sha256::digest(data).into())
            }

            /// Takes 32 bytes that are already a SHA-256 digest.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first 12 hexadecimal digits: enough for a person to tell two apart in a log.
            #[must_use]
            pub fn short(&self) -> String {
                let mut text = data_encoding::HEXLOWER.encode(&self.0);
                text.truncate(12);
                text
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigest;

            fn from_str(text: &str) -> Result<Self, InvalidDigest> {
                if text.len() != 64 {
                    return Err(InvalidDigest);
                }
                let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| InvalidDigest)?;
                bytes.try_into().map(Self).map_err(|_| InvalidDigest)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

digest!(
    /// SHA-256 of something that has no type of its own: a body, an image, a plan.
    Sha256Digest
);
digest!(
    /// SHA-256 over the text of a pre-shared key.
    PskDigest
);
digest!(
    /// SHA-256 over the SubjectPublicKeyInfo (DER) of an endorsement key. The EK is known by its key, never by
    /// its TPM Name: one flipped attribute bit gives another Name for the same key.
    EkDigest
);
digest!(
    /// SHA-256 over a certificate's DER.
    CertificateDigest
);
digest!(
    /// SHA-256 over the SubjectPublicKeyInfo (DER) of a device's TLS client certificate. A renewed certificate of the
    /// same key is the same.
    CertificateKeyDigest
);
digest!(
    /// SHA-256 over a volume key.
    VolumeKeyDigest
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let d = Sha256Digest::of(b"abc");
        assert_eq!(
            d.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(d.to_string().parse::<Sha256Digest>().unwrap(), d);
        assert_eq!(d.to_string().to_uppercase().parse::<Sha256Digest>().unwrap(), d);
        assert_eq!(d.short(), "ba7816bf8f01");
    }

    #[test]
    fn refuses_other_lengths_and_letters() {
        let text = Sha256Digest::of(b"abc").to_string();
        assert!(text.get(..62).unwrap().parse::<Sha256Digest>().is_err());
        assert!(format!("{text}00").parse::<Sha256Digest>().is_err());
        assert!(text.replace('b', "g").parse::<Sha256Digest>().is_err());
        assert!("".parse::<Sha256Digest>().is_err());
    }

    #[test]
    fn json_is_the_hex_text() {
        let d = PskDigest::of(b"x");
        let json = serde_json::to_string(&d).unwrap();
        assert_eq!(json, format!("\"{d}\""));
        assert_eq!(serde_json::from_str::<PskDigest>(&json).unwrap(), d);
        assert!(serde_json::from_str::<PskDigest>("\"00\"").is_err());
    }
}
