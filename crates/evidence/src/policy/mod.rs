//! What the PCRs must hold: exact values, any of several golden sets, what a signed image statement says, and rules on
//! the event log, in any mix.
//!
//! Owns: the one selection, which is all that the parts speak of, and which set is good at which time. Several sets at once let a roll-out overlap; a set with
//! an end is good before it and never after. [`PcrPolicy::at`] tells the time; a policy that was never told any accepts
//! no set that has an end.
//! Refuses the PCRs that any software can reset (16 and 23), because they say nothing, and a value of another bank.
//! Whether a value is one that nothing was measured into is for the writer of the policy to refuse or allow.

pub mod declared;
mod mix;
mod name;

use std::{collections::BTreeMap, sync::Arc};

use domain::{HashAlg, PcrIndex, PcrSelection, PcrValue, UnixTime};

pub use self::{
    declared::{DeclaredError, DeclaredPolicy},
    mix::Mix,
    name::{InvalidSetName, SetName},
};
use crate::{rules::LogRules, statement::StatementPolicy};

/// Why values are not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No PCR at all, or no set.
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
    /// A golden set of other PCRs than the first one's.
    #[error("golden set `{name}` is over {found}, the first one over {expected}")]
    Selection {
        /// The set.
        name: SetName,
        /// The first set's.
        expected: PcrSelection,
        /// This set's.
        found: PcrSelection,
    },
    /// Two golden sets of one name.
    #[error("there are two golden sets `{0}`")]
    Twice(SetName),
    /// A PCR with an exact value and one in each golden set.
    #[error("PCR {0} is given an exact value and golden sets too")]
    Overlap(PcrIndex),
    /// Events that are not those of a golden set's PCR.
    #[error("the events given for PCR {index} of golden set `{set}` do not replay to its value")]
    GoldenEvents {
        /// The set.
        set: SetName,
        /// The PCR.
        index: PcrIndex,
    },
    /// Image statements that nobody could sign.
    #[error("a policy that wants image statements names at least one image key")]
    NoImageKey,
    /// Rules on the event log, and none of them.
    #[error("the rules on the event log are none")]
    NoRule,
}

/// Values that a good device may have, with a name and perhaps an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenSet {
    /// What operators call it.
    pub name: SetName,
    /// The first second at which it is no longer good.
    pub until: Option<UnixTime>,
    /// The value of each PCR.
    pub values: BTreeMap<PcrIndex, PcrValue>,
}

/// The PCRs that a quote must cover, and the values that are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrPolicy {
    selection: PcrSelection,
    sets: Arc<[Set]>,
    more: Option<Arc<More>>,
    now: Option<UnixTime>,
}

/// What only some policies have.
#[derive(Debug, PartialEq, Eq)]
struct More {
    /// PCRs whose values are the same in every set, because they are exact ones.
    exact: Vec<PcrIndex>,
    golden_events: BTreeMap<SetName, BTreeMap<PcrIndex, Vec<PcrValue>>>,
    statement: Option<StatementPolicy>,
    log: Option<LogRules>,
}

/// A golden set, or the one nameless set of exact values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: Option<SetName>,
    until: Option<UnixTime>,
    values: BTreeMap<PcrIndex, PcrValue>,
}

impl PcrPolicy {
    /// Demands exactly these values of exactly these PCRs.
    ///
    /// # Errors
    /// No PCR, PCR 16 or 23, or a value of another bank.
    pub fn exact(bank: HashAlg, values: BTreeMap<PcrIndex, PcrValue>) -> Result<Self, PolicyError> {
        let selection = selection_of(bank, &values)?;
        let set = Set {
            name: None,
            until: None,
            values,
        };
        Ok(Self {
            selection,
            sets: [set].into(),
            more: None,
            now: None,
        })
    }

    /// Demands the values of any one golden set, all of them over the same PCRs.
    ///
    /// # Errors
    /// No set; sets over different PCRs; two of one name; what [`PcrPolicy::exact`] refuses.
    pub fn golden(bank: HashAlg, sets: Vec<GoldenSet>) -> Result<Self, PolicyError> {
        let first = sets.first().ok_or(PolicyError::Empty)?;
        let expected = selection_of(bank, &first.values)?;
        let mut names = std::collections::BTreeSet::new();
        for set in &sets {
            let found = selection_of(bank, &set.values)?;
            let name = set.name.clone();
            if found != expected {
                return Err(PolicyError::Selection {
                    name,
                    expected,
                    found,
                });
            }
            if !names.insert(&set.name) {
                return Err(PolicyError::Twice(name));
            }
        }
        let sets = sets.into_iter().map(|set| Set {
            name: Some(set.name),
            until: set.until,
            values: set.values,
        });
        Ok(Self {
            selection: expected,
            sets: sets.collect(),
            more: None,
            now: None,
        })
    }

    /// The same policy at this time. Costs no allocation.
    #[must_use]
    pub fn at(&self, now: UnixTime) -> Self {
        Self {
            now: Some(now),
            ..self.clone()
        }
    }

    /// The PCRs that a quote must cover: these and no others.
    #[must_use]
    pub const fn selection(&self) -> PcrSelection {
        self.selection
    }

    /// Whether a device must send its event log.
    #[must_use]
    pub fn wants_event_log(&self) -> bool {
        self.log_rules().is_some()
    }

    /// Whether a device must send an image statement.
    #[must_use]
    pub fn wants_image_statement(&self) -> bool {
        self.statement().is_some()
    }

    pub(crate) fn statement(&self) -> Option<&StatementPolicy> {
        self.more.as_ref()?.statement.as_ref()
    }

    pub(crate) fn log_rules(&self) -> Option<&LogRules> {
        self.more.as_ref()?.log.as_ref()
    }

    /// The name of the set that the value of a PCR is of; none for an exact value.
    pub(crate) fn name_for(&self, set: &Set, index: PcrIndex) -> Option<SetName> {
        let exact = self.more.as_ref().is_some_and(|more| more.exact.contains(&index));
        set.name.clone().filter(|_| !exact)
    }

    /// The digests that give a golden set's value of a PCR, if the policy has them.
    pub(crate) fn golden_events(&self, set: &SetName, index: PcrIndex) -> Option<&[PcrValue]> {
        let events = self.more.as_ref()?.golden_events.get(set)?;
        events.get(&index).map(Vec::as_slice)
    }

    /// Golden sets, or one of exact values; none where the policy has neither.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &Set> {
        self.sets.iter()
    }

    /// Whether the set is good at the policy's time.
    pub(crate) fn is_live(&self, set: &Set) -> bool {
        self.end_of(set).is_none()
    }

    /// When the set ended, or ends if no time was told; `None` while it is good.
    pub(crate) fn end_of(&self, set: &Set) -> Option<UnixTime> {
        let until = set.until?;
        match self.now {
            Some(now) if now < until => None,
            _ => Some(until),
        }
    }
}

impl Set {
    pub(crate) fn value(&self, index: PcrIndex) -> Option<&PcrValue> {
        self.values.get(&index)
    }
}

fn selection_of(bank: HashAlg, values: &BTreeMap<PcrIndex, PcrValue>) -> Result<PcrSelection, PolicyError> {
    for (index, value) in values {
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
    PcrSelection::new(bank, values.keys().copied()).map_err(|_| PolicyError::Empty)
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

    fn golden(name: &str, pcr: u64, value: PcrValue) -> GoldenSet {
        GoldenSet {
            name: name.parse().unwrap(),
            until: None,
            values: BTreeMap::from([(PcrIndex::try_from(pcr).unwrap(), value)]),
        }
    }

    #[test]
    fn golden_sets_are_over_the_same_pcrs() {
        let sets = vec![golden("a", 7, sha256(1)), golden("b", 8, sha256(1))];
        let error = PcrPolicy::golden(HashAlg::Sha256, sets).unwrap_err();
        assert_eq!(
            error.to_string(),
            "golden set `b` is over sha256:8, the first one over sha256:7"
        );
    }

    #[test]
    fn golden_sets_have_their_own_names() {
        let sets = vec![golden("a", 7, sha256(1)), golden("a", 7, sha256(2))];
        let found = PcrPolicy::golden(HashAlg::Sha256, sets);
        assert_eq!(found, Err(PolicyError::Twice("a".parse().unwrap())));
    }

    #[test]
    fn golden_sets_keep_the_rules_of_exact_values() {
        let found = |sets| PcrPolicy::golden(HashAlg::Sha256, sets).unwrap_err();
        assert_eq!(found(vec![]), PolicyError::Empty);
        let sixteen = PcrIndex::try_from(16).unwrap();
        let bad = vec![golden("a", 16, sha256(1))];
        assert_eq!(found(bad), PolicyError::Resettable(sixteen));
        let sha384 = PcrValue::new(HashAlg::Sha384, &[1; 48]).unwrap();
        let bad = vec![golden("a", 7, sha256(1)), golden("b", 7, sha384)];
        assert!(matches!(found(bad), PolicyError::Bank { .. }));
    }
}
