//! Quoted PCR values against a policy's sets.
//!
//! Owns: which set is theirs, and what to tell an operator where none is: that their set has ended, or how they differ
//! from the nearest one that is good. Only `appraise` calls it, with values that hash to the quoted digest.

use domain::{PcrSelection, PcrValue};

use crate::{
    failure::Failure,
    policy::{PcrPolicy, Set, SetName},
};

/// Values that the TPM quoted, as many as the selection has.
#[derive(Clone, Copy)]
pub(crate) struct Quoted<'a> {
    pub(crate) selection: PcrSelection,
    pub(crate) values: &'a [u8],
}

impl Quoted<'_> {
    /// The golden set that these are of, if the policy has such; or the differences from the nearest one.
    pub(crate) fn compare(self, policy: &PcrPolicy) -> Result<Option<SetName>, Vec<Failure>> {
        let live = || policy.sets().filter(|set| policy.is_live(set));
        if let Some(set) = live().find(|set| self.differences(set).next().is_none()) {
            return Ok(set.name.clone());
        }
        let ended = policy
            .sets()
            .find(|set| self.differences(set).next().is_none())
            .and_then(|set| {
                let (set, until) = (set.name.clone()?, policy.end_of(set)?);
                Some(Failure::Ended { set, until })
            });
        if let Some(ended) = ended {
            return Err(vec![ended]);
        }
        let nearest = live().min_by_key(|set| self.differences(set).count());
        Err(nearest.map_or_else(|| vec![Failure::AllEnded], |set| self.differences(set).collect()))
    }

    fn differences(self, set: &Set) -> impl Iterator<Item = Failure> {
        let bank = self.selection.bank();
        let quoted = self
            .selection
            .iter()
            .zip(self.values.chunks_exact(bank.digest_len()));
        quoted.filter_map(move |(index, value)| {
            let expected = set.value(index)?;
            if expected.bank() == bank && expected.as_bytes() == value {
                return None;
            }
            Some(Failure::Pcr {
                index,
                set: set.name.clone(),
                expected: *expected,
                found: PcrValue::new(bank, value).ok()?,
            })
        })
    }
}
