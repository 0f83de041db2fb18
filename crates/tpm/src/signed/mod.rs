//! Signed PCR policies: a secret sealed to a key instead of to values, and the values that this key approved of.
//!
//! Owns: the key ([`PolicyKey`]), systemd's file of signatures `tpm2-pcr-signature.json` ([`PolicySignatures`]), and what its
//! maker signs ([`approval`]). The TPM itself verifies a signature before it counts.
//! An attacker may replace the file, by an older one too: whatever the key once signed stays approved for as long as
//! something is sealed to it. A release that must not boot any more takes a new key, or the rollback index.

mod file;
mod key;
mod pem;

pub use file::{InvalidSignatures, PolicySignatures};
pub use key::{InvalidPolicyKey, KeyForm, PolicyKey};

use domain::{PcrIndex, PcrValues};

use crate::policy::PolicyDigest;

/// What the holder of a [`PolicyKey`] signs (RSASSA-PKCS1-v1_5 with SHA-256, over these 32 bytes as the message) so that
/// PCRs of these values release what is sealed to the key: the digest of PolicyPCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval([u8; 32]);

impl Approval {
    /// The message to sign: systemd's `pol`.
    #[must_use]
    pub const fn message(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Nothing was measured into one of the PCRs, so approving of it approves of every machine that does not measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "PCR {0} is uninitialised (all zero or all ones): approving of it approves of whatever does not measure"
)]
pub struct UninitialisedPcr(pub PcrIndex);

/// What to sign for these values.
///
/// # Errors
/// A value is all zero or all ones, unless `force_uninitialised`.
pub fn approval(pcrs: &PcrValues, force_uninitialised: bool) -> Result<Approval, UninitialisedPcr> {
    match pcrs.iter().find(|(_, value)| value.is_uninitialised()) {
        Some((index, _)) if !force_uninitialised => Err(UninitialisedPcr(index)),
        _ => Ok(Approval(PolicyDigest::START.pcr(pcrs).bytes())),
    }
}

#[cfg(test)]
mod tests {
    use domain::{HashAlg, PcrSelection};

    use super::*;

    #[test]
    fn values_that_nobody_measured_are_not_approved_unless_forced() {
        let eleven = PcrIndex::try_from(11).unwrap();
        let selection = PcrSelection::new(HashAlg::Sha256, [eleven]).unwrap();
        for (byte, fine) in [(0, false), (0xff, false), (1, true)] {
            let values = PcrValues::new(selection, vec![byte; 32]).unwrap();
            assert_eq!(approval(&values, false).is_ok(), fine);
            assert_eq!(
                *approval(&values, true).unwrap().message(),
                PolicyDigest::START.pcr(&values).bytes()
            );
        }
    }
}
