//! Judges what a TPM says: evidence in, [`Attested`] or every reason against it out. Also what enrolment needs to bind
//! an attestation key to an endorsement key: [`EndorsementKey`], [`ak_names`], [`make_credential`].
//!
//! Owns: the TPM's structures ([`wire`]), which keys may attest ([`AttestationKey`]), freshness ([`Continuity`]), PCR
//! policy ([`PcrPolicy`]), event logs ([`EventLog`]) with rules ([`LogRules`]), image statements ([`ImageStatement`]) and the order of the checks, which is in the types:
//! [`Quote`] -> [`SignedBy`] -> [`Fresh`] -> [`PcrsMatch`] -> [`Attested`]. No step can be skipped or made up outside.
//! Refuses: I/O, clocks, randomness (nonces, counters and entropy are arguments), and to name a device: the AK comes
//! from the registry, never from a request.
//! An attacker controls every byte of [`Evidence`], and the public areas shown at enrolment.
//! Limits today: event logs explain PCR 0 to 15 of Linux and UEFI; no confidential computing, no IMA lists.

pub mod ak;
pub mod appraise;
pub mod certificate;
pub mod credential;
pub mod ek;
pub mod eventlog;
pub mod explain;
pub mod failure;
pub mod freshness;
mod hash;
mod inputs;
pub mod names;
pub mod offline;
pub mod policy;
mod pss;
mod quoted;
mod recognise;
mod rsa;
pub mod rules;
pub mod statement;
pub mod storage;
pub mod wire;

pub use ak::{AkError, AttestationKey};
pub use appraise::{
    Attachments, Attested, Evidence, Expected, Fresh, PcrsMatch, Quote, SignedBy, appraise, appraise_with,
};
pub use certificate::{
    ChainError, DenyList, EkCertificate, EkTrustPolicy, EkTrusted, Roots, verify_ek_certificate,
};
pub use credential::{Credential, CredentialError, make_credential};
pub use ek::{EkAlg, EkError, EndorsementKey};
pub use eventlog::{EventLog, ProvenLog};
pub use explain::Cause;
pub use failure::{Failure, FailureClass, Rejected};
pub use freshness::{Continuity, Counters, Stale};
pub use names::ak_names;
pub use policy::{DeclaredError, DeclaredPolicy, GoldenSet, Mix, PcrPolicy, PolicyError, SetName};
pub use rules::{CommandLinePattern, KeyVariable, LogRefused, LogRules, RuleBroken};
pub use statement::{ImageKey, ImageStatement, Release, SignedStatement, StatementPolicy, StatementRefused};
pub use storage::{Duplicate, StorageKey, StorageKeyError, StorageTemplate};
