//! systemd's file of signatures, `tpm2-pcr-signature.json`.
//!
//! Owns: its grammar, read strictly: banks, and per bank entries of PCRs, key, policy and signature, and nothing else. A
//! bank or key that we do not know is no error: files carry several. Written in the same form.
//! An attacker may have written the file; a wrong entry makes unsealing fail, it releases nothing.

use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use domain::{HashAlg, PcrIndex, PcrSelection};
use serde::{Deserialize, Serialize};

use super::{Approval, PolicyKey, key::KeyFingerprint};

/// The largest file that is read, in bytes: an entry has about 600.
const MAX_LEN: usize = 1 << 20;
/// The banks whose entries are used.
const BANKS: [HashAlg; 3] = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384];

/// Why a text is no file of signatures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignatures {
    /// Longer than any such file.
    #[error("a file of PCR signatures has at most {MAX_LEN} bytes")]
    TooLong,
    /// Not JSON, or not of its shape.
    #[error("the file of PCR signatures is malformed: {0}")]
    Shape(String),
    /// A field of an entry does not hold what it should.
    #[error("the file of PCR signatures is malformed: entry {entry} of {bank}: {what}")]
    Entry {
        /// The bank's name as it stands there.
        bank: String,
        /// The entry, counted from 0.
        entry: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// Signatures over PCR policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySignatures {
    entries: Vec<Entry>,
    /// Of banks that no policy here can be of; kept to be written back.
    foreign: BTreeMap<String, Vec<RawEntry>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    pcrs: PcrSelection,
    key: KeyFingerprint,
    policy: [u8; 32],
    signature: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    pcrs: Vec<PcrIndex>,
    pkfp: String,
    pol: String,
    sig: String,
}

impl PolicySignatures {
    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`InvalidSignatures`].
    pub fn from_json(text: &[u8]) -> Result<Self, InvalidSignatures> {
        if text.len() > MAX_LEN {
            return Err(InvalidSignatures::TooLong);
        }
        let banks: BTreeMap<String, Vec<RawEntry>> =
            serde_json::from_slice(text).map_err(|e| InvalidSignatures::Shape(e.to_string()))?;
        let mut read = Self::default();
        for (name, raws) in banks {
            let Some(bank) = BANKS.into_iter().find(|bank| bank.name() == name) else {
                read.foreign.insert(name, raws);
                continue;
            };
            for (number, raw) in raws.into_iter().enumerate() {
                let entry = Entry::new(bank, &raw).map_err(|what| InvalidSignatures::Entry {
                    bank: name.clone(),
                    entry: number,
                    what,
                })?;
                read.entries.push(entry);
            }
        }
        Ok(read)
    }

    /// Adds what the holder of `key` signed for `approval` over these PCRs. Not verified here: a TPM does that.
    pub fn add(&mut self, pcrs: PcrSelection, key: &PolicyKey, approval: &Approval, signature: &[u8]) {
        let entry = Entry {
            pcrs,
            key: *key.fingerprint(),
            policy: *approval.message(),
            signature: signature.to_vec(),
        };
        if !self.entries.contains(&entry) {
            self.entries.push(entry);
        }
    }

    /// The JSON text, one bank after the other in the order of their names.
    ///
    /// # Errors
    /// Those of the JSON writer; none is known for these fields.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut banks = self.foreign.clone();
        for entry in &self.entries {
            banks
                .entry(entry.pcrs.bank().to_string())
                .or_default()
                .push(RawEntry {
                    pcrs: entry.pcrs.iter().collect(),
                    pkfp: entry.key.to_string(),
                    pol: HEXLOWER.encode(&entry.policy),
                    sig: BASE64.encode(&entry.signature),
                });
        }
        serde_json::to_string(&banks)
    }

    /// The signature over this policy by this key.
    pub(crate) fn find(&self, pcrs: &PcrSelection, key: &PolicyKey, policy: &[u8; 32]) -> Option<&[u8]> {
        self.entries
            .iter()
            .find(|entry| {
                entry.pcrs == *pcrs
                    && entry.key == *key.fingerprint()
                    && entry.policy == *policy
                    && entry.signature.len() == key.signature_len()
            })
            .map(|entry| entry.signature.as_slice())
    }
}

impl Entry {
    fn new(bank: HashAlg, raw: &RawEntry) -> Result<Self, &'static str> {
        let hex = |text: &str| -> Option<[u8; 32]> {
            HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
        };
        Ok(Self {
            pcrs: PcrSelection::new(bank, raw.pcrs.iter().copied())
                .map_err(|_| "pcrs are not one or more PCRs, each once")?,
            key: KeyFingerprint::from_bytes(hex(&raw.pkfp).ok_or("pkfp is not 64 hexadecimal digits")?),
            policy: hex(&raw.pol).ok_or("pol is not 64 hexadecimal digits")?,
            signature: BASE64
                .decode(raw.sig.as_bytes())
                .ok()
                .filter(|sig| (1..=512).contains(&sig.len()))
                .ok_or("sig is not the base64 of a signature")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn file() -> Value {
        json!({"sha256": [{"pcrs": [11], "pkfp": "ab".repeat(32), "pol": "cd".repeat(32), "sig": "AQID"}]})
    }

    fn read(value: &Value) -> Result<PolicySignatures, InvalidSignatures> {
        PolicySignatures::from_json(value.to_string().as_bytes())
    }

    #[test]
    fn what_systemd_measure_writes_round_trips() {
        let read_back = read(&file()).unwrap();
        let written: Value = serde_json::from_str(&read_back.to_json().unwrap()).unwrap();
        assert_eq!(written, file());
        let mut more = file();
        more["sm3_256"] = json!([{"pcrs": [11], "pkfp": "x", "pol": "y", "sig": "z"}]);
        more["sha384"] = file()["sha256"].clone();
        let written: Value = serde_json::from_str(&read(&more).unwrap().to_json().unwrap()).unwrap();
        assert_eq!(written, more);
    }

    #[test]
    fn anything_else_is_refused() {
        for (field, value) in [
            ("pcrs", json!([])),
            ("pcrs", json!([11, 11])),
            ("pkfp", json!("ab")),
            ("pol", json!("zz")),
            ("sig", json!("")),
            ("sig", json!("%")),
        ] {
            let mut bad = file();
            bad["sha256"][0][field] = value;
            assert!(
                matches!(read(&bad), Err(InvalidSignatures::Entry { entry: 0, .. })),
                "{field}"
            );
        }
        let mut more = file();
        more["sha256"][0]["extra"] = json!(1);
        let mut less = file();
        less["sha256"][0].as_object_mut().unwrap().remove("sig");
        for bad in [
            more,
            less,
            json!([]),
            json!({"sha256": {}}),
            json!({"sha256": [{"pcrs": [24]}]}),
        ] {
            assert!(matches!(read(&bad), Err(InvalidSignatures::Shape(_))), "{bad}");
        }
        let long = vec![b' '; MAX_LEN + 1];
        assert_eq!(
            PolicySignatures::from_json(&long),
            Err(InvalidSignatures::TooLong)
        );
    }

    proptest! {
        #[test]
        fn bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = PolicySignatures::from_json(&text);
        }
    }
}
