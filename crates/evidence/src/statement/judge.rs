//! What a policy asks of a statement, and the check of one against quoted values.
//!
//! Owns: every reason against a statement. The digest is computed anew from the quoted values; what the statement says
//! of them is compared, never believed.

use std::collections::BTreeSet;

use domain::{HashAlg, PcrIndex, ProfileName, Sha256Digest};

use super::{ImageKey, READY, Release, SignedStatement, StatementError};
use crate::quoted::Quoted;

/// Which statements a policy takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementPolicy {
    /// The image keys: one, or two while the fleet changes over.
    pub keys: Vec<ImageKey>,
    /// Whose image it must be.
    pub profile: ProfileName,
    /// The oldest release that is still good.
    pub least_release: Release,
    /// Digests of statements that are no longer good, whatever their release.
    pub revoked: BTreeSet<Sha256Digest>,
    /// The PCRs that the statement must be about: these and no others.
    pub pcrs: BTreeSet<PcrIndex>,
}

/// What is wrong with a statement, or with what it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementRefused {
    /// None was sent.
    #[error("the policy wants an image statement, none was sent")]
    Missing,
    /// It cannot be read.
    #[error("the image statement cannot be read: {0}")]
    Unreadable(#[from] StatementError),
    /// It names a key that is none of the policy's.
    #[error("the image statement is by key {found}, which is not the fleet's image key")]
    Key {
        /// The key it names.
        found: Sha256Digest,
    },
    /// The signature is not that key's.
    #[error("the signature of the image statement is not by image key {key}")]
    Forged {
        /// The key.
        key: Sha256Digest,
    },
    /// It is about another profile's image.
    #[error("the image statement is for profile `{found}`, the policy wants `{expected}`")]
    Profile {
        /// The policy's.
        expected: ProfileName,
        /// The statement's.
        found: ProfileName,
    },
    /// It is about another phase of the boot.
    #[error("the image statement is for the phase `{}`, the policy wants `ready`", found.escape_debug())]
    Phase {
        /// The statement's.
        found: Box<str>,
    },
    /// The release is too old.
    #[error("the image is release {found}, the policy wants {least} at least")]
    Release {
        /// The policy's.
        least: Release,
        /// The statement's.
        found: Release,
    },
    /// The digest was revoked.
    #[error("the image of release {release} was revoked: digest {digest}")]
    Revoked {
        /// The statement's release.
        release: Release,
        /// The statement's digest.
        digest: Sha256Digest,
    },
    /// It is about other PCRs.
    #[error("the image statement is about {found}, the policy wants {expected}")]
    Pcrs {
        /// The policy's bank and PCRs.
        expected: String,
        /// The statement's.
        found: String,
    },
    /// The quoted PCRs are not those of the image.
    #[error(
        "the PCRs are not those of the image of release {release}: expected digest {expected}, found {found}"
    )]
    Digest {
        /// The statement's release.
        release: Release,
        /// The statement's digest.
        expected: Sha256Digest,
        /// The digest of the quoted values.
        found: Sha256Digest,
    },
}

impl StatementRefused {
    /// Whether it is no statement of the fleet's at all, rather than one that does not suit.
    pub(crate) const fn is_no_statement(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::Key { .. } | Self::Forged { .. })
    }
}

/// Judges what was sent. `quoted` is `None` where there are no values that a TPM quoted; then the rest is still checked,
/// and no release is told.
pub(crate) fn judge(
    policy: &StatementPolicy,
    bank: HashAlg,
    sent: Option<&[u8]>,
    quoted: Option<Quoted<'_>>,
) -> Result<Option<Release>, Vec<StatementRefused>> {
    let one = |refused| vec![refused];
    let bytes = sent.ok_or_else(|| one(StatementRefused::Missing))?;
    let signed = SignedStatement::parse(bytes).map_err(|error| one(error.into()))?;
    let found = *signed.key();
    let key = policy.keys.iter().find(|key| *key.digest() == found);
    let key = key.ok_or_else(|| one(StatementRefused::Key { found }))?;
    let statement = signed.verify(key).map_err(|error| match error {
        StatementError::Signature => one(StatementRefused::Forged { key: found }),
        error => one(error.into()),
    })?;

    let mut refused = Vec::new();
    if statement.profile != policy.profile {
        refused.push(StatementRefused::Profile {
            expected: policy.profile.clone(),
            found: statement.profile.clone(),
        });
    }
    if statement.phase() != READY {
        refused.push(StatementRefused::Phase {
            found: statement.phase.clone(),
        });
    }
    let release = statement.release;
    if release < policy.least_release {
        let least = policy.least_release;
        refused.push(StatementRefused::Release {
            least,
            found: release,
        });
    }
    let digest = statement.digest;
    if policy.revoked.contains(&digest) {
        refused.push(StatementRefused::Revoked { release, digest });
    }
    if statement.bank != bank || !statement.pcrs.iter().eq(&policy.pcrs) {
        refused.push(StatementRefused::Pcrs {
            expected: selection_text(bank, &policy.pcrs),
            found: selection_text(statement.bank, &statement.pcrs),
        });
    } else if let Some(quoted) = quoted {
        let found = quoted.digest_of(&policy.pcrs);
        if found != Some(digest) {
            // The policy's selection covers its statement's PCRs, so there is a digest.
            let found = found.unwrap_or_else(|| Sha256Digest::of(&[]));
            refused.push(StatementRefused::Digest {
                release,
                expected: digest,
                found,
            });
        }
    }
    if refused.is_empty() {
        Ok(quoted.map(|_| release))
    } else {
        Err(refused)
    }
}

/// `sha256:7,11`, as tpm2-tools write it.
fn selection_text<'a>(bank: HashAlg, pcrs: impl IntoIterator<Item = &'a PcrIndex>) -> String {
    let list: Vec<_> = pcrs.into_iter().map(ToString::to_string).collect();
    format!("{bank}:{}", list.join(","))
}
