//! Image statements: what the PCRs hold when a release of an image is up, signed by the fleet's image key.
//!
//! Owns: the statement with its one spelling ([`ImageStatement::to_be_signed`]), the file that carries it with its
//! signature ([`SignedStatement`]), and what a policy asks of one ([`StatementPolicy`]). An OS update then needs no change in
//! the registry, and an old image ages out by its release. `docs/image-statements.md` is the format.
//! Refuses to sign: the image key stays with the image builder, which signs the bytes given here.
//! An attacker controls every byte of the file that a device sends. Whoever holds the image key decides which software is
//! good; it signs nothing else than statements.
//! Limits: ECDSA P-256 alone, because that is what HSMs, cloud key services, smart cards and TPMs all have.

mod judge;
mod key;
mod signed;

use std::fmt;

use domain::{HashAlg, PcrIndex, PcrSelection, PcrValues, ProfileName, Sha256Digest};
use serde::{Deserialize, Serialize};

pub(crate) use self::judge::judge;
pub use self::{
    judge::{StatementPolicy, StatementRefused},
    key::{ImageKey, KeyError},
    signed::{MAX_STATEMENT_LEN, SignedStatement, StatementError},
};

/// The phase in which a device asks: its boot is over.
pub const READY: &str = "ready";

/// The number of an image's release, rising with time; at most 2^53 - 1, so that every JSON reader has it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Release(u64);

/// A release above 2^53 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("release {0} is above 2^53 - 1")]
pub struct InvalidRelease(u64);

impl TryFrom<u64> for Release {
    type Error = InvalidRelease;

    fn try_from(number: u64) -> Result<Self, InvalidRelease> {
        if number < 1 << 53 {
            Ok(Self(number))
        } else {
            Err(InvalidRelease(number))
        }
    }
}

impl From<Release> for u64 {
    fn from(release: Release) -> Self {
        release.0
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// That these PCRs hold values of this digest when this release is in this phase.
///
/// Its fields are in the order of their names: that is the canonical form, which serde keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageStatement {
    bank: HashAlg,
    digest: Sha256Digest,
    pcrs: Vec<PcrIndex>,
    phase: Box<str>,
    profile: ProfileName,
    release: Release,
}

impl ImageStatement {
    /// States that `values` are those of a release. A policy takes statements of the phase [`READY`] alone.
    #[must_use]
    pub fn of(profile: ProfileName, release: Release, phase: &str, values: &PcrValues) -> Self {
        Self {
            bank: values.selection().bank(),
            digest: Sha256Digest::of(values.as_bytes()),
            pcrs: values.selection().iter().collect(),
            phase: phase.into(),
            profile,
            release,
        }
    }

    /// The canonical JSON that the image key signs, with ECDSA P-256 and SHA-256.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a structure of texts and numbers, with text for its keys, is always JSON"
    )]
    pub fn to_be_signed(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("JSON")
    }

    /// Reads canonical JSON and no other spelling.
    fn from_canonical(bytes: &[u8]) -> Result<Self, StatementError> {
        let statement: Self =
            serde_json::from_slice(bytes).map_err(|error| StatementError::Statement(error.to_string()))?;
        if statement.to_be_signed() != bytes {
            return Err(StatementError::NotCanonical);
        }
        // A selection names no PCR twice.
        if !statement.pcrs.is_sorted() || statement.selection().is_none() {
            return Err(StatementError::Pcrs);
        }
        Ok(statement)
    }

    /// The PCRs that the statement is about. `None` for none, which no statement that was read has.
    fn selection(&self) -> Option<PcrSelection> {
        PcrSelection::new(self.bank, self.pcrs.iter().copied()).ok()
    }

    /// SHA-256 over the values of the PCRs, concatenated in ascending index: what a policy can revoke.
    #[must_use]
    pub const fn digest(&self) -> &Sha256Digest {
        &self.digest
    }

    /// The release.
    #[must_use]
    pub const fn release(&self) -> Release {
        self.release
    }

    /// Whose image it is.
    #[must_use]
    pub const fn profile(&self) -> &ProfileName {
        &self.profile
    }

    /// The phase of the boot: any text, [`READY`] for one that a policy takes.
    #[must_use]
    pub fn phase(&self) -> &str {
        &self.phase
    }
}
