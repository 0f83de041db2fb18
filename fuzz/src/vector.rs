//! The vectors of `crates/evidence/vectors`, as far as fuzzing needs them.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use domain::{HashAlg, PcrIndex, PcrValue, TpmName, TpmPublic};
use evidence::{AttestationKey, PcrPolicy};
use serde_json::Value;

/// One vector's bytes.
pub struct Vector(Value);

impl Vector {
    /// Reads the text of a file.
    #[must_use]
    pub fn read(text: &str) -> Self {
        Self(serde_json::from_str(text).expect("a vector is JSON"))
    }

    /// The bytes at a path such as `/ak/public`.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let text = self.0.pointer(path).and_then(Value::as_str).expect("a text");
        HEXLOWER.decode(text.as_bytes()).expect("hex")
    }

    /// The same, where a vector need not have them.
    #[must_use]
    pub fn bytes_at(&self, path: &str) -> Option<Vec<u8>> {
        self.0.pointer(path)?;
        Some(self.bytes(path))
    }

    /// The registered key.
    #[must_use]
    pub fn ak(&self) -> AttestationKey {
        let public = TpmPublic::try_from(self.bytes("/ak/public")).expect("a public area");
        let name = TpmName::try_from(self.bytes("/ak/qualified_name")).expect("a name");
        AttestationKey::new(&public, &name).expect("an attestation key")
    }

    /// The values of the first set, in the SHA-256 bank.
    #[must_use]
    pub fn policy(&self) -> PcrPolicy {
        let set = self.0.pointer("/policy/sets/0/values").and_then(Value::as_object);
        let values = set.expect("values").iter().map(|(index, value)| {
            let index = PcrIndex::try_from(index.parse::<u64>().expect("an index")).expect("a PCR");
            let value = PcrValue::from_hex(HashAlg::Sha256, value.as_str().expect("hex"));
            (index, value.expect("a value"))
        });
        PcrPolicy::exact(HashAlg::Sha256, values.collect::<BTreeMap<_, _>>()).expect("a policy")
    }
}
