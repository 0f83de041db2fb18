//! A policy as an operator declares it: the one form that the manifest makes, the registry keeps and the proxy judges by.
//!
//! Owns: what may be declared at all ([`DeclaredPolicy::new`]) and its JSON. Whoever holds one holds a policy that can be
//! judged by: [`DeclaredPolicy::policy`] cannot fail. Two that mean the same are equal and have the same bytes, in whatever
//! order their author wrote the parts; so a revision rises only with a meaning.
//! Refuses: unknown fields at every depth, a key or list entry that comes twice, `null` and arrays in the place of an
//! object, lists that are there and empty, more than an appraisal should look through, and more bytes than a record has.
//! An attacker who can write to the registry controls the JSON.
//! Limits: that a value is one into which nothing was measured is for the manifest to refuse.

mod form;
mod strict;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use domain::{HashAlg, PcrIndex, PcrSelection, PcrValue};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use self::{form::Form, strict::Object};
use super::{Mix, PcrPolicy, PolicyError};

/// The longest policy, in bytes of JSON: a registry's record has room for it and what is beside it.
pub const MAX_DECLARED_LEN: usize = 48 * 1024;
/// The most golden sets at once: a roll-out has two.
pub const MAX_GOLDEN_SETS: usize = 32;
/// The most image keys at once: a change of keys has two.
pub const MAX_IMAGE_KEYS: usize = 8;
/// The most patterns for command lines.
pub const MAX_PATTERNS: usize = 64;

/// Why parts make no policy that can be declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeclaredError {
    /// They are no policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// More than an appraisal should look through.
    #[error("a policy has {most} {what} at most, not {found}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A list that is there and has nothing in it: no device could ever fulfil it.
    #[error("the list of {0} is there and empty")]
    EmptyList(&'static str),
    /// The same entry again.
    #[error("there is one of the {0} twice")]
    Twice(&'static str),
    /// Leave to believe SHA-1, where nothing is of SHA-1.
    #[error("SHA-1 is allowed, and the bank is {0}")]
    NoSha1(HashAlg),
    /// Longer than a record takes.
    #[error("the policy has {len} bytes as JSON, {MAX_DECLARED_LEN} at most")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
}

/// A policy that can be written down, sent, read and judged by. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredPolicy {
    parts: Mix,
    allow_sha1: bool,
    policy: PcrPolicy,
}

impl DeclaredPolicy {
    /// Declares all of `parts`, of PCRs of `bank`. `allow_sha1` says that SHA-1 is meant where the bank is of SHA-1.
    ///
    /// # Errors
    /// What [`PcrPolicy::mixed`] refuses, and what is beyond the bounds of this module.
    pub fn new(bank: HashAlg, mut parts: Mix, allow_sha1: bool) -> Result<Self, DeclaredError> {
        if allow_sha1 && bank != HashAlg::Sha1 {
            return Err(DeclaredError::NoSha1(bank));
        }
        bounded(&parts)?;
        arrange(&mut parts)?;
        let is_exact = parts
            == Mix {
                exact: parts.exact.clone(),
                ..Mix::default()
            };
        let policy = if is_exact {
            PcrPolicy::exact(bank, parts.exact.clone())?
        } else {
            PcrPolicy::mixed(bank, parts.clone())?
        };
        let declared = Self {
            parts,
            allow_sha1,
            policy,
        };
        let len = serde_json::to_vec(&declared).map_or(usize::MAX, |json| json.len());
        if len > MAX_DECLARED_LEN {
            return Err(DeclaredError::TooLong { len });
        }
        Ok(declared)
    }

    /// Declares exact values alone.
    ///
    /// # Errors
    /// As [`DeclaredPolicy::new`].
    pub fn exact(bank: HashAlg, values: BTreeMap<PcrIndex, PcrValue>) -> Result<Self, DeclaredError> {
        let parts = Mix {
            exact: values,
            ..Mix::default()
        };
        Self::new(bank, parts, false)
    }

    /// The one bank that is quoted.
    #[must_use]
    pub const fn bank(&self) -> HashAlg {
        self.policy.selection().bank()
    }

    /// The PCRs that a quote must cover: these and no others.
    #[must_use]
    pub const fn selection(&self) -> PcrSelection {
        self.policy.selection()
    }

    /// What it asks for: golden sets by name, keys by digest, patterns by their text.
    #[must_use]
    pub const fn parts(&self) -> &Mix {
        &self.parts
    }

    /// Whether its author said that SHA-1 is meant.
    #[must_use]
    pub const fn allows_sha1(&self) -> bool {
        self.allow_sha1
    }

    /// What evidence is judged by; see [`PcrPolicy::at`] for sets that end. A clone of it costs no allocation.
    #[must_use]
    pub const fn policy(&self) -> &PcrPolicy {
        &self.policy
    }
}

impl From<&DeclaredPolicy> for PcrPolicy {
    fn from(declared: &DeclaredPolicy) -> Self {
        declared.policy.clone()
    }
}

impl Serialize for DeclaredPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Form::of(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DeclaredPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(form) = Object::<Form>::deserialize(deserializer)?;
        form.into_policy().map_err(D::Error::custom)
    }
}

fn bounded(parts: &Mix) -> Result<(), DeclaredError> {
    at_most(MAX_GOLDEN_SETS, "golden sets", parts.golden.len())?;
    if let Some(statement) = &parts.statement {
        at_most(MAX_IMAGE_KEYS, "image keys", statement.keys.len())?;
    }
    let Some(log) = &parts.log else { return Ok(()) };
    at_most(MAX_PATTERNS, "patterns for command lines", log.command_line.len())?;
    if let Some((variable, _)) = log.keys.iter().find(|(_, digests)| digests.is_empty()) {
        return Err(DeclaredError::EmptyList(variable.name()));
    }
    if log.authorities.as_ref().is_some_and(BTreeSet::is_empty) {
        return Err(DeclaredError::EmptyList("authorities"));
    }
    Ok(())
}

fn at_most(most: usize, what: &'static str, found: usize) -> Result<(), DeclaredError> {
    if found > most {
        return Err(DeclaredError::TooMany { what, found, most });
    }
    Ok(())
}

/// Puts what has no order of its own into one.
fn arrange(parts: &mut Mix) -> Result<(), DeclaredError> {
    parts.golden.sort_by(|a, b| a.name.cmp(&b.name));
    parts.golden_events.retain(|_, events| !events.is_empty());
    if let Some(statement) = &mut parts.statement {
        statement.keys.sort_by_key(|key| *key.digest().as_bytes());
        if !statement.keys.is_sorted_by(|a, b| a != b) {
            return Err(DeclaredError::Twice("image keys"));
        }
    }
    if let Some(log) = &mut parts.log {
        log.command_line.sort_by_cached_key(ToString::to_string);
        if !log.command_line.is_sorted_by(|a, b| a != b) {
            return Err(DeclaredError::Twice("patterns for command lines"));
        }
    }
    Ok(())
}
