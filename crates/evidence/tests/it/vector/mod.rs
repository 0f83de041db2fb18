//! The form of the files in `vectors/`, which its README describes: what `examples/vectors` writes and `vectors.rs` reads.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code; each program uses its own part"
)]

pub mod checkquote;
pub mod keys;
pub mod mixed;

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use data_encoding::HEXLOWER;
use domain::{HashAlg, PcrIndex, PcrValue, TpmName, TpmPublic, UnixTime};
use evidence::{
    Attachments, AttestationKey, Attested, Continuity, Counters, Evidence, Expected, Failure, FailureClass,
    GoldenSet, PcrPolicy, Rejected, appraise_with,
};
use serde::{Deserialize, Serialize};

/// One file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    pub title: String,
    pub ak: Ak,
    pub qualifying_data: Hex,
    pub last: Option<Last>,
    pub policy: Policy,
    pub quote: Hex,
    pub signature: Hex,
    pub pcrs: Hex,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_log: Option<Hex>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_statement: Option<Hex>,
    pub verdict: Verdict,
    pub checkquote: Judged,
}

/// The registered key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ak {
    pub public: Hex,
    pub qualified_name: Hex,
}

/// The counters of the quote that was accepted last.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    pub reset_count: u32,
    pub restart_count: u32,
    pub clock: u64,
    pub safe: bool,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub bank: String,
    pub now: Option<u64>,
    pub sets: Vec<Set>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<mixed::Statement>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<mixed::Rules>,
}

/// Nameless: exact values, and then the only set.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    pub name: Option<String>,
    pub until: Option<u64>,
    pub values: BTreeMap<u8, Hex>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verdict {
    Attested {
        continuity: String,
        golden_set: Option<String>,
    },
    Refused {
        class: String,
        failures: Vec<Failed>,
    },
}

/// A failed check: its kind is the name of the variant of `Failure`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    pub kind: String,
    pub detail: Option<String>,
}

/// What `tpm2_checkquote` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judged {
    Accepts,
    Refuses,
}

/// Bytes, as lower-case hex.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = data_encoding::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        HEXLOWER.decode(text.as_bytes()).map(Self)
    }
}

impl From<Hex> for String {
    fn from(bytes: Hex) -> Self {
        HEXLOWER.encode(&bytes.0)
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl Vector {
    /// What `appraise` says.
    pub fn judge(&self) -> Verdict {
        let public = TpmPublic::try_from(self.ak.public.0.clone()).unwrap();
        let qualified = TpmName::try_from(self.ak.qualified_name.0.clone()).unwrap();
        let ak = AttestationKey::new(&public, &qualified).unwrap();
        let last = self.last.map(|last| Counters {
            reset_count: last.reset_count,
            restart_count: last.restart_count,
            clock: last.clock,
            safe: last.safe,
        });
        let expected = Expected {
            ak: &ak,
            qualifying_data: self.qualifying_data.0.first_chunk().unwrap(),
            last: last.as_ref(),
            policy: &self.policy.read(),
        };
        let evidence = Evidence {
            quote: &self.quote.0,
            signature: &self.signature.0,
            pcrs: &self.pcrs.0,
        };
        let attachments = Attachments {
            event_log: self.event_log.as_ref().map(|log| log.0.as_slice()),
            image_statement: self.image_statement.as_ref().map(|file| file.0.as_slice()),
        };
        match appraise_with(evidence, &expected, attachments) {
            Ok(attested) => Verdict::from(&attested),
            Err(rejected) => Verdict::from(&rejected),
        }
    }
}

impl Policy {
    pub fn read(&self) -> PcrPolicy {
        let bank = self.bank();
        let policy = match &self.sets[..] {
            _ if self.statement.is_some() || self.rules.is_some() => self.mixed(),
            [only] if only.name.is_none() => PcrPolicy::exact(bank, only.read(bank)),
            sets => {
                let sets = sets.iter().map(|set| set.golden(bank));
                PcrPolicy::golden(bank, sets.collect())
            }
        };
        let policy = policy.unwrap();
        match self.now {
            Some(now) => policy.at(UnixTime::from_secs(now)),
            None => policy,
        }
    }

    fn bank(&self) -> HashAlg {
        match self.bank.as_str() {
            "sha1" => HashAlg::Sha1,
            "sha256" => HashAlg::Sha256,
            "sha384" => HashAlg::Sha384,
            other => panic!("no bank {other}"),
        }
    }
}

impl Set {
    fn golden(&self, bank: HashAlg) -> GoldenSet {
        GoldenSet {
            name: self.name.as_ref().unwrap().parse().unwrap(),
            until: self.until.map(UnixTime::from_secs),
            values: self.read(bank),
        }
    }

    fn read(&self, bank: HashAlg) -> BTreeMap<PcrIndex, PcrValue> {
        let value = |(index, value): (&u8, &Hex)| {
            let index = PcrIndex::try_from(u64::from(*index)).unwrap();
            (index, PcrValue::new(bank, &value.0).unwrap())
        };
        self.values.iter().map(value).collect()
    }
}

impl From<&Attested> for Verdict {
    fn from(attested: &Attested) -> Self {
        let continuity = match attested.continuity() {
            Continuity::First => "first",
            Continuity::Continued => "continued",
            Continuity::Rebooted => "rebooted",
            Continuity::Resumed => "resumed",
        };
        Self::Attested {
            continuity: continuity.to_owned(),
            golden_set: attested.golden_set().map(ToString::to_string),
        }
    }
}

impl From<&Rejected> for Verdict {
    fn from(rejected: &Rejected) -> Self {
        let class = match rejected.class() {
            FailureClass::Invalid => "invalid",
            FailureClass::Stale => "stale",
            FailureClass::Mismatch => "mismatch",
        };
        Self::Refused {
            class: class.to_owned(),
            failures: rejected.failures().iter().map(Failed::from).collect(),
        }
    }
}

impl From<&Failure> for Failed {
    fn from(failure: &Failure) -> Self {
        let detail = match failure {
            Failure::NotAQuote { found } => Some((*found).to_owned()),
            Failure::Selection { found, .. } => Some(found.clone()),
            Failure::Stale(stale) => Some(variant(stale)),
            Failure::Statement(refused) => Some(variant(refused)),
            Failure::EventLog(refused) => Some(variant(refused)),
            Failure::Rule(broken) => Some(variant(broken)),
            Failure::Ended { set, .. } => Some(set.to_string()),
            Failure::Pcr { index, set, .. } => Some(match set {
                None => index.to_string(),
                Some(set) => format!("{index} of {set}"),
            }),
            _ => None,
        };
        Self {
            kind: variant(failure),
            detail,
        }
    }
}

/// `Failure::QualifyingData { .. }` is `qualifying-data`.
fn variant(of: &impl fmt::Debug) -> String {
    let debug = format!("{of:?}");
    let name: String = debug.chars().take_while(char::is_ascii_alphanumeric).collect();
    kebab(&name)
}

pub fn kebab(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Every vector of the folder, by its file's name.
pub fn all() -> BTreeMap<String, Vector> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    json.map(|path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let vector = serde_json::from_slice(&fs::read(&path).unwrap());
        (
            name.clone(),
            vector.unwrap_or_else(|error| panic!("{name}: {error}")),
        )
    })
    .collect()
}
