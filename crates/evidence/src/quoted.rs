//! Quoted PCR values against a policy.
//!
//! Owns: which set is theirs, and what to tell an operator where none is: that their set has ended, or how they differ
//! from the nearest one that is good. Only `appraise` calls it, with values that hash to the quoted digest.

use std::collections::BTreeSet;

use domain::{PcrIndex, PcrSelection, PcrValue, PcrValues, Sha256Digest};

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

impl<'a> Quoted<'a> {
    /// The golden set that these are of, if the policy has such; or the differences from the nearest one.
    pub(crate) fn compare(self, policy: &PcrPolicy) -> Result<Option<SetName>, Vec<Failure>> {
        let live = || policy.sets().filter(|set| policy.is_live(set));
        if policy.sets().next().is_none() {
            return Ok(None);
        }
        if let Some(set) = live().find(|set| self.differing(set).next().is_none()) {
            return Ok(set.name.clone());
        }
        let ended = policy
            .sets()
            .find(|set| self.differing(set).next().is_none())
            .and_then(|set| {
                let (set, until) = (set.name.clone()?, policy.end_of(set)?);
                Some(Failure::Ended { set, until })
            });
        if let Some(ended) = ended {
            return Err(vec![ended]);
        }
        let nearest = live().min_by_key(|set| self.differing(set).count());
        Err(nearest.map_or_else(
            || vec![Failure::AllEnded],
            |set| {
                let failure = |(index, expected, found)| Failure::Pcr {
                    index,
                    set: policy.name_for(set, index),
                    expected,
                    found,
                    cause: None,
                };
                self.differing(set).map(failure).collect()
            },
        ))
    }

    /// PCRs with the set's value and another that was found.
    fn differing(self, set: &Set) -> impl Iterator<Item = (PcrIndex, PcrValue, PcrValue)> {
        self.iter().filter_map(move |(index, value)| {
            let bank = self.selection.bank();
            let expected = set.value(index)?;
            if expected.bank() == bank && expected.as_bytes() == value {
                return None;
            }
            Some((index, *expected, PcrValue::new(bank, value).ok()?))
        })
    }

    fn iter(self) -> impl Iterator<Item = (PcrIndex, &'a [u8])> {
        let len = self.selection.bank().digest_len();
        self.selection.iter().zip(self.values.chunks_exact(len))
    }

    /// The values of some PCRs; `None` if one of them was not quoted, or there is none.
    pub(crate) fn only(self, pcrs: &BTreeSet<PcrIndex>) -> Option<PcrValues> {
        let selection = PcrSelection::new(self.selection.bank(), pcrs.iter().copied()).ok()?;
        let mut bytes = Vec::new();
        for (_, value) in self.iter().filter(|(index, _)| pcrs.contains(index)) {
            bytes.extend_from_slice(value);
        }
        PcrValues::new(selection, bytes).ok()
    }

    /// SHA-256 over the values of some PCRs, concatenated in ascending index; `None` as above.
    pub(crate) fn digest_of(self, pcrs: &BTreeSet<PcrIndex>) -> Option<Sha256Digest> {
        self.only(pcrs).map(|values| Sha256Digest::of(values.as_bytes()))
    }
}
