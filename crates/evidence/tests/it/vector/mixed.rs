//! Policies of several parts: an image statement, rules on the event log.

use std::collections::{BTreeMap, BTreeSet};

use domain::{PcrIndex, Sha256Digest};
use evidence::{ImageKey, KeyVariable, LogRules, Mix, PcrPolicy, PolicyError, Release, StatementPolicy};
use serde::{Deserialize, Serialize};

use super::{Hex, Policy};

/// What an image statement must be.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub keys: Vec<Hex>,
    pub profile: String,
    pub least_release: u64,
    pub revoked: Vec<Hex>,
    pub pcrs: Vec<u8>,
}

/// What must be true of the boot.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    pub secure_boot: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, Vec<Hex>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Vec<Hex>>,
    pub command_line: Vec<String>,
    pub no_debug_shell: bool,
    pub replays: Vec<u8>,
}

impl Policy {
    pub(super) fn mixed(&self) -> Result<PcrPolicy, PolicyError> {
        let bank = self.bank();
        let (named, exact) = self.sets.iter().partition::<Vec<_>, _>(|set| set.name.is_some());
        let mix = Mix {
            exact: exact.first().map(|set| set.read(bank)).unwrap_or_default(),
            golden: named.into_iter().map(|set| set.golden(bank)).collect(),
            statement: self.statement.as_ref().map(Statement::read),
            log: self.rules.as_ref().map(Rules::read),
            ..Mix::default()
        };
        PcrPolicy::mixed(bank, mix)
    }
}

impl Statement {
    fn read(&self) -> StatementPolicy {
        StatementPolicy {
            keys: self
                .keys
                .iter()
                .map(|key| ImageKey::from_spki_der(&key.0).unwrap())
                .collect(),
            profile: self.profile.parse().unwrap(),
            least_release: Release::try_from(self.least_release).unwrap(),
            revoked: digests(&self.revoked),
            pcrs: indices(&self.pcrs),
        }
    }
}

impl Rules {
    fn read(&self) -> LogRules {
        LogRules {
            secure_boot: self.secure_boot,
            keys: self
                .keys
                .iter()
                .map(|(name, list)| (variable(name), digests(list)))
                .collect(),
            authorities: self.authorities.as_deref().map(digests),
            command_line: self
                .command_line
                .iter()
                .map(|line| line.parse().unwrap())
                .collect(),
            no_debug_shell: self.no_debug_shell,
            replays: indices(&self.replays),
        }
    }
}

fn variable(name: &str) -> KeyVariable {
    let all = [
        KeyVariable::Pk,
        KeyVariable::Kek,
        KeyVariable::Db,
        KeyVariable::Dbx,
    ];
    all.into_iter().find(|variable| variable.name() == name).unwrap()
}

fn digests(list: &[Hex]) -> BTreeSet<Sha256Digest> {
    let digest = |hex: &Hex| Sha256Digest::from_bytes(<[u8; 32]>::try_from(hex.0.as_slice()).unwrap());
    list.iter().map(digest).collect()
}

fn indices(list: &[u8]) -> BTreeSet<PcrIndex> {
    list.iter()
        .map(|i| PcrIndex::try_from(u64::from(*i)).unwrap())
        .collect()
}
