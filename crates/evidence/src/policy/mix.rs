//! Policies of several parts.
//!
//! Owns: what may go together. Exact values hold always, and one of the golden sets, and the statement, and each rule. The
//! selection is all PCRs that any part is about; so each PCR of it is held by a value, a statement or a replayed log.

use std::collections::{BTreeMap, BTreeSet};

use domain::{HashAlg, PcrIndex, PcrSelection, PcrValue};

use super::{GoldenSet, More, PcrPolicy, PolicyError, Set, SetName, selection_of};
use crate::{eventlog::extend, rules::LogRules, statement::StatementPolicy};

/// Everything that a policy may ask of PCRs. At least one part is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mix {
    /// Values that always hold.
    pub exact: BTreeMap<PcrIndex, PcrValue>,
    /// Sets of which one holds, all over the same PCRs, none of them one of `exact`.
    pub golden: Vec<GoldenSet>,
    /// What was measured to get a golden set's values: digests in order. Never needed; a verdict names the event that
    /// differs by them.
    pub golden_events: BTreeMap<SetName, BTreeMap<PcrIndex, Vec<PcrValue>>>,
    /// A signed image statement holds.
    pub statement: Option<StatementPolicy>,
    /// Rules on the event log hold.
    pub log: Option<LogRules>,
}

impl PcrPolicy {
    /// Demands every part of `mix`, over all PCRs that any part is about.
    ///
    /// # Errors
    /// No part; a PCR that software resets; values of another bank; golden sets that do not go together, or with exact
    /// values; golden events that do not give the set's value; no image key; no rule.
    pub fn mixed(bank: HashAlg, mix: Mix) -> Result<Self, PolicyError> {
        let mut pcrs: BTreeSet<PcrIndex> = mix.exact.keys().copied().collect();
        if let Some(statement) = &mix.statement {
            if statement.keys.is_empty() {
                return Err(PolicyError::NoImageKey);
            }
            if statement.pcrs.is_empty() {
                return Err(PolicyError::Empty);
            }
            pcrs.extend(&statement.pcrs);
        }
        if let Some(log) = &mix.log {
            let about = log.pcrs();
            if about.is_empty() {
                return Err(PolicyError::NoRule);
            }
            pcrs.extend(about);
        }
        let sets = sets(bank, &mix)?;
        pcrs.extend(sets.iter().flat_map(|set| set.values.keys()));
        if let Some(index) = pcrs.iter().find(|index| index.is_resettable()) {
            return Err(PolicyError::Resettable(*index));
        }
        let more = More {
            exact: mix.exact.into_keys().collect(),
            golden_events: mix.golden_events,
            statement: mix.statement,
            log: mix.log,
        };
        Ok(Self {
            selection: PcrSelection::new(bank, pcrs).map_err(|_| PolicyError::Empty)?,
            sets: sets.into(),
            more: Some(more.into()),
            now: None,
        })
    }
}

/// Golden sets with the exact values in each of them; or those alone, if there are any.
fn sets(bank: HashAlg, mix: &Mix) -> Result<Vec<Set>, PolicyError> {
    if !mix.exact.is_empty() {
        selection_of(bank, &mix.exact)?;
    }
    if mix.golden.is_empty() {
        if let Some((set, index)) = first_of(&mix.golden_events) {
            return Err(PolicyError::GoldenEvents { set, index });
        }
        let exact = Set {
            name: None,
            until: None,
            values: mix.exact.clone(),
        };
        return Ok((!mix.exact.is_empty()).then_some(exact).into_iter().collect());
    }
    // The rules for sets on their own.
    PcrPolicy::golden(bank, mix.golden.clone())?;
    let mut sets = Vec::new();
    for golden in &mix.golden {
        if let Some(index) = golden.values.keys().find(|index| mix.exact.contains_key(index)) {
            return Err(PolicyError::Overlap(*index));
        }
        let mut values = golden.values.clone();
        values.extend(&mix.exact);
        sets.push(Set {
            name: Some(golden.name.clone()),
            until: golden.until,
            values,
        });
    }
    for (name, events) in &mix.golden_events {
        let set = mix.golden.iter().find(|set| set.name == *name);
        for (index, digests) in events {
            let value = set.and_then(|set| set.values.get(index));
            if !value.is_some_and(|value| replays(*index, digests, value)) {
                return Err(PolicyError::GoldenEvents {
                    set: name.clone(),
                    index: *index,
                });
            }
        }
    }
    Ok(sets)
}

fn first_of(events: &BTreeMap<SetName, BTreeMap<PcrIndex, Vec<PcrValue>>>) -> Option<(SetName, PcrIndex)> {
    let pairs = |(name, pcrs): (&SetName, &BTreeMap<PcrIndex, Vec<PcrValue>>)| {
        pcrs.first_key_value().map(|(index, _)| (name.clone(), *index))
    };
    events.iter().find_map(pairs)
}

/// Whether digests give a value: from zeros, or in PCR 0 from a locality of startup.
fn replays(index: PcrIndex, digests: &[PcrValue], value: &PcrValue) -> bool {
    let bank = value.bank();
    let localities: &[u8] = if index.get() == 0 { &[0, 3, 4] } else { &[0] };
    localities.iter().any(|locality| {
        let mut first = vec![0; bank.digest_len()];
        if let Some(last) = first.last_mut() {
            *last = *locality;
        }
        let first = PcrValue::new(bank, &first).ok();
        let end = digests.iter().try_fold(first, |state, digest| {
            state.map(|state| extend(&state, digest.as_bytes()))
        });
        end.flatten().as_ref() == Some(value)
    })
}
