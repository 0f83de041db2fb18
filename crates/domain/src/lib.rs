//! The words that every other crate speaks: one newtype per identifier, digest, PCR, time and secret.
//!
//! Owns: the parsing and printing of these values, and nothing that uses them. Pure: no I/O, no clock, no
//! randomness. Any crate may call it; it depends on none of ours.
//! An attacker controls the text and bytes given to the parsers; every parser bounds its input.

pub mod audience;
pub mod digest;
pub mod encoding;
pub mod generation;
pub mod id;
pub mod pcr;
pub mod secret;
pub mod time;
pub mod tpm;
pub mod usage;

pub use audience::Audience;
pub use digest::{
    CertificateDigest, CertificateKeyDigest, EkDigest, PskDigest, Sha256Digest, VolumeKeyDigest,
};
pub use generation::Generation;
pub use id::{DeviceId, FleetName, KeyId, PolicyName, ProfileName};
pub use pcr::{HashAlg, PcrIndex, PcrSelection, PcrValue, PcrValues};
pub use secret::{CredentialSecret, FleetRoot, Pin, Psk, SealedSecret, VolumeKey};
pub use time::UnixTime;
pub use tpm::{TpmName, TpmPublic};
pub use usage::{Endpoint, Limits, ModelPattern, OptionRules, Part};
