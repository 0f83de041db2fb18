//! The JSON of a declared policy. Exact values alone are `{"bank": .., "pcrs": {..}}`; every other part is a field that is
//! absent where the policy does not have it.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64;
use domain::{HashAlg, PcrIndex, PcrValue, ProfileName, Sha256Digest, UnixTime};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    DeclaredError, DeclaredPolicy, Mix,
    strict::{Object, present, present_list, unique_list, unique_map},
};
use crate::{
    policy::{GoldenSet, SetName},
    rules::{CommandLinePattern, KeyVariable, LogRules},
    statement::{ImageKey, Release, StatementPolicy},
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    bank: HashAlg,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "unique_map"
    )]
    pcrs: BTreeMap<PcrIndex, PcrValue>,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "unique_map"
    )]
    golden: BTreeMap<SetName, Object<SetForm>>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    statement: Option<Object<StatementForm>>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    log: Option<Object<LogForm>>,
    #[serde(default, skip_serializing_if = "is_false")]
    allow_sha1: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetForm {
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    until: Option<UnixTime>,
    #[serde(deserialize_with = "unique_map")]
    pcrs: BTreeMap<PcrIndex, PcrValue>,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "unique_map"
    )]
    events: BTreeMap<PcrIndex, Vec<PcrValue>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementForm {
    keys: Vec<KeyForm>,
    profile: ProfileName,
    least_release: Release,
    #[serde(deserialize_with = "unique_list")]
    pcrs: BTreeSet<PcrIndex>,
    #[serde(
        default,
        skip_serializing_if = "BTreeSet::is_empty",
        deserialize_with = "unique_list"
    )]
    revoked: BTreeSet<Sha256Digest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogForm {
    #[serde(default, skip_serializing_if = "is_false")]
    secure_boot: bool,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    keys: Option<Object<KeysForm>>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present_list"
    )]
    authorities: Option<BTreeSet<Sha256Digest>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    command_line: Vec<PatternForm>,
    #[serde(default, skip_serializing_if = "is_false")]
    no_debug_shell: bool,
    #[serde(
        default,
        skip_serializing_if = "BTreeSet::is_empty",
        deserialize_with = "unique_list"
    )]
    replays: BTreeSet<PcrIndex>,
}

/// The variables under their own names.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysForm {
    #[serde(
        rename = "PK",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present_list"
    )]
    pk: Option<BTreeSet<Sha256Digest>>,
    #[serde(
        rename = "KEK",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present_list"
    )]
    kek: Option<BTreeSet<Sha256Digest>>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present_list"
    )]
    db: Option<BTreeSet<Sha256Digest>>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present_list"
    )]
    dbx: Option<BTreeSet<Sha256Digest>>,
}

/// A key as base64 of its SubjectPublicKeyInfo; PEM is read too.
struct KeyForm(ImageKey);

/// A pattern as its text.
struct PatternForm(CommandLinePattern);

impl Form {
    pub(super) fn of(declared: &DeclaredPolicy) -> Self {
        let parts = declared.parts();
        let sets = parts.golden.iter().map(|set| {
            let events = parts.golden_events.get(&set.name);
            let form = SetForm {
                until: set.until,
                pcrs: set.values.clone(),
                events: events.cloned().unwrap_or_default(),
            };
            (set.name.clone(), Object(form))
        });
        Self {
            bank: declared.bank(),
            pcrs: parts.exact.clone(),
            golden: sets.collect(),
            statement: parts.statement.as_ref().map(StatementForm::of).map(Object),
            log: parts.log.as_ref().map(LogForm::of).map(Object),
            allow_sha1: declared.allows_sha1(),
        }
    }

    pub(super) fn into_policy(self) -> Result<DeclaredPolicy, DeclaredError> {
        let mut parts = Mix {
            exact: self.pcrs,
            statement: self.statement.map(|Object(form)| form.into_policy()),
            log: self.log.map(|Object(form)| form.into_rules()),
            ..Mix::default()
        };
        for (name, Object(form)) in self.golden {
            parts.golden_events.insert(name.clone(), form.events);
            parts.golden.push(GoldenSet {
                name,
                until: form.until,
                values: form.pcrs,
            });
        }
        DeclaredPolicy::new(self.bank, parts, self.allow_sha1)
    }
}

impl StatementForm {
    fn of(policy: &StatementPolicy) -> Self {
        Self {
            keys: policy.keys.iter().cloned().map(KeyForm).collect(),
            profile: policy.profile.clone(),
            least_release: policy.least_release,
            pcrs: policy.pcrs.clone(),
            revoked: policy.revoked.clone(),
        }
    }

    fn into_policy(self) -> StatementPolicy {
        StatementPolicy {
            keys: self.keys.into_iter().map(|KeyForm(key)| key).collect(),
            profile: self.profile,
            least_release: self.least_release,
            revoked: self.revoked,
            pcrs: self.pcrs,
        }
    }
}

impl LogForm {
    fn of(rules: &LogRules) -> Self {
        let of = |variable| rules.keys.get(&variable).cloned();
        let keys = KeysForm {
            pk: of(KeyVariable::Pk),
            kek: of(KeyVariable::Kek),
            db: of(KeyVariable::Db),
            dbx: of(KeyVariable::Dbx),
        };
        Self {
            secure_boot: rules.secure_boot,
            keys: (!rules.keys.is_empty()).then_some(Object(keys)),
            authorities: rules.authorities.clone(),
            command_line: rules.command_line.iter().cloned().map(PatternForm).collect(),
            no_debug_shell: rules.no_debug_shell,
            replays: rules.replays.clone(),
        }
    }

    fn into_rules(self) -> LogRules {
        let keys = self.keys.map(|Object(keys)| keys).unwrap_or_default();
        let keys = [
            (KeyVariable::Pk, keys.pk),
            (KeyVariable::Kek, keys.kek),
            (KeyVariable::Db, keys.db),
            (KeyVariable::Dbx, keys.dbx),
        ];
        LogRules {
            secure_boot: self.secure_boot,
            keys: keys
                .into_iter()
                .filter_map(|(variable, digests)| Some((variable, digests?)))
                .collect(),
            authorities: self.authorities,
            command_line: self
                .command_line
                .into_iter()
                .map(|PatternForm(pattern)| pattern)
                .collect(),
            no_debug_shell: self.no_debug_shell,
            replays: self.replays,
        }
    }
}

impl Serialize for KeyForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0.spki_der()))
    }
}

impl<'de> Deserialize<'de> for KeyForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let key = if text.trim_start().starts_with("-----BEGIN") {
            ImageKey::from_pem(&text)
        } else {
            let der = BASE64
                .decode(text.as_bytes())
                .map_err(|_| D::Error::custom("an image key is neither PEM nor base64"))?;
            ImageKey::from_spki_der(&der)
        };
        key.map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for PatternForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PatternForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}
