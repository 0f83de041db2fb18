//! What the PCRs must hold.
//!
//! Owns: exact values of one selection. Refuses the PCRs that any software can reset (16 and 23), because they say
//! nothing, and a value of another bank. Whether a value is one that nothing was measured into is for the writer of
//! the policy to refuse or allow. Limits today: no golden sets, image statements or event-log rules.

use std::collections::BTreeMap;

use domain::{HashAlg, PcrIndex, PcrSelection, PcrValue};

/// Why values are not a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No PCR at all.
    #[error("a policy names at least one PCR")]
    Empty,
    /// A PCR that software resets at will.
    #[error("PCR {0} can be reset by any software, so it proves nothing")]
    Resettable(PcrIndex),
    /// A value of another bank.
    #[error("PCR {index} is given a {found} value in the {bank} bank")]
    Bank {
        /// The PCR.
        index: PcrIndex,
        /// The bank of the policy.
        bank: HashAlg,
        /// The bank of the value.
        found: HashAlg,
    },
}

/// Exact values for one selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrPolicy {
    selection: PcrSelection,
    values: BTreeMap<PcrIndex, PcrValue>,
}

impl PcrPolicy {
    /// Demands exactly these values of exactly these PCRs.
    ///
    /// # Errors
    /// No PCR, PCR 16 or 23, or a value of another bank.
    pub fn exact(bank: HashAlg, values: BTreeMap<PcrIndex, PcrValue>) -> Result<Self, PolicyError> {
        for (index, value) in &values {
            if index.is_resettable() {
                return Err(PolicyError::Resettable(*index));
            }
            if value.bank() != bank {
                return Err(PolicyError::Bank {
                    index: *index,
                    bank,
                    found: value.bank(),
                });
            }
        }
        let selection = PcrSelection::new(bank, values.keys().copied()).map_err(|_| PolicyError::Empty)?;
        Ok(Self { selection, values })
    }

    /// The PCRs that a quote must cover: these and no others.
    #[must_use]
    pub const fn selection(&self) -> PcrSelection {
        self.selection
    }

    /// The value that a PCR must have, if the policy names it.
    #[must_use]
    pub fn value(&self, index: PcrIndex) -> Option<&PcrValue> {
        self.values.get(&index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(bank: HashAlg, list: &[(u64, PcrValue)]) -> Result<PcrPolicy, PolicyError> {
        let values = list.iter().map(|(i, v)| (PcrIndex::try_from(*i).unwrap(), *v));
        PcrPolicy::exact(bank, values.collect())
    }

    fn sha256(fill: u8) -> PcrValue {
        PcrValue::new(HashAlg::Sha256, &[fill; 32]).unwrap()
    }

    #[test]
    fn a_policy_selects_what_it_names() {
        let policy = policy(HashAlg::Sha256, &[(11, sha256(1)), (7, sha256(2))]).unwrap();
        assert_eq!(policy.selection().to_string(), "sha256:7,11");
        let seven = PcrIndex::try_from(7).unwrap();
        assert_eq!(policy.value(seven), Some(&sha256(2)));
        assert_eq!(policy.value(PcrIndex::try_from(8).unwrap()), None);
    }

    #[test]
    fn an_empty_policy_is_none() {
        assert_eq!(policy(HashAlg::Sha256, &[]), Err(PolicyError::Empty));
    }

    #[test]
    fn resettable_pcrs_prove_nothing() {
        for index in [16, 23] {
            let refused = PolicyError::Resettable(PcrIndex::try_from(index).unwrap());
            let found = policy(HashAlg::Sha256, &[(7, sha256(1)), (index, sha256(1))]);
            assert_eq!(found, Err(refused));
        }
    }

    #[test]
    fn a_value_is_of_the_policys_bank() {
        let found = policy(HashAlg::Sha384, &[(7, sha256(1))]);
        assert!(matches!(
            found,
            Err(PolicyError::Bank {
                found: HashAlg::Sha256,
                ..
            })
        ));
    }
}
