//! The form of the files in `vectors/keys/`: public areas shown at enrolment, and what comes of them.

use std::{collections::BTreeMap, fs};

use domain::{TpmName, TpmPublic};
use evidence::{AkError, AttestationKey, EkError, EndorsementKey};
use serde::{Deserialize, Serialize};

use super::{Hex, folder, variant};

/// One file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyVector {
    pub title: String,
    pub role: Role,
    pub public: Hex,
    /// Of an AK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qualified_name: Option<Hex>,
    /// Whether a TPM has such a key, or somebody wrote the area by hand.
    pub made_by: Maker,
    pub verdict: KeyVerdict,
}

/// What the key is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    AttestationKey,
    EndorsementKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Maker {
    Tpm,
    Forger,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum KeyVerdict {
    Accepted {
        name: Hex,
        /// SHA-256 of an EK's SubjectPublicKeyInfo.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        spki_sha256: Option<Hex>,
    },
    Refused {
        reason: String,
        detail: Option<String>,
    },
}

impl KeyVector {
    /// What `AttestationKey::new` or `EndorsementKey::new` says.
    pub fn judge(&self) -> KeyVerdict {
        let public = TpmPublic::try_from(self.public.0.clone()).unwrap();
        let name = |name: &TpmName| Hex(name.as_bytes().to_vec());
        match self.role {
            Role::AttestationKey => {
                let qualified = self.qualified_name.clone().unwrap();
                match AttestationKey::new(&public, &TpmName::try_from(qualified.0).unwrap()) {
                    Ok(ak) => KeyVerdict::Accepted {
                        name: name(ak.name()),
                        spki_sha256: None,
                    },
                    Err(error) => KeyVerdict::Refused {
                        reason: variant(&error),
                        detail: match &error {
                            AkError::Lacks(attributes) => Some(attributes.to_string()),
                            AkError::UnknownAttributes(bits) => Some(format!("{bits:#x}")),
                            _ => None,
                        },
                    },
                }
            }
            Role::EndorsementKey => match EndorsementKey::new(&public) {
                Ok(ek) => KeyVerdict::Accepted {
                    name: name(ek.name()),
                    spki_sha256: Some(Hex(ek.digest().as_bytes().to_vec())),
                },
                Err(error) => KeyVerdict::Refused {
                    reason: variant(&error),
                    detail: match &error {
                        EkError::NotTheTemplate(alg) | EkError::Key(alg) => Some(alg.to_string()),
                        EkError::Malformed(_) => None,
                    },
                },
            },
        }
    }
}

/// Every vector of `vectors/keys`, by its file's name.
pub fn all() -> BTreeMap<String, KeyVector> {
    let files = fs::read_dir(folder().join("keys")).unwrap();
    let read = |entry: fs::DirEntry| {
        let path = entry.path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let vector = serde_json::from_slice(&fs::read(&path).unwrap());
        (
            name.clone(),
            vector.unwrap_or_else(|error| panic!("{name}: {error}")),
        )
    };
    files.map(|entry| read(entry.unwrap())).collect()
}
