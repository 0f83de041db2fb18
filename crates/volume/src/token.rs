//! The `systemd-tpm2` token: which TPM object releases a keyslot's passphrase, and under which PCRs.
//!
//! Owns: the JSON fields exactly as systemd writes them (`src/cryptsetup/cryptsetup-tokens/luks2-tpm2.c`,
//! `tpm2_make_luks2_json`), for exact PCRs. A token that asks for more than we can do (PIN, signed policy, a stored
//! SRK handle) is not misread: it is a [`TokenError`].
//! An attacker controls every field; a wrong one makes unsealing fail, it reveals nothing.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use domain::{HashAlg, PcrIndex, PcrSelection};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The type that systemd, cryptsetup's plugin, dracut and mkinitcpio know.
pub(crate) const TYPE: &str = "systemd-tpm2";
/// The longest TPM object, in bytes: a TPM2B_PRIVATE and a TPM2B_PUBLIC have at most some hundred each.
const MAX_BLOB: usize = 4096;

/// The number of a keyslot, 0 to 31. In JSON a string, as LUKS2 wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyslotId(u8);

impl KeyslotId {
    /// The slot of the sealed secret.
    pub const SEALED: Self = Self(0);
    /// LUKS2 has 32 keyslots.
    const COUNT: u8 = 32;

    /// A slot by its number; `None` above 31.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < Self::COUNT {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Canonical decimal digits alone: `"01"` would be a second name for one slot.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let slot = Self::new(text.parse().ok()?)?;
        (slot.to_string() == text).then_some(slot)
    }
}

impl fmt::Display for KeyslotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for KeyslotId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyslotId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("a keyslot is \"0\" to \"31\""))
    }
}

/// Which primary key the sealed object is a child of: systemd's own template of that algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrimaryAlg {
    /// P-256; what systemd prefers.
    Ecc,
    /// RSA-2048.
    Rsa,
}

/// A `systemd-tpm2` token with exact PCRs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdTpm2 {
    /// The keyslot whose passphrase is the base64 text of what the TPM releases.
    pub keyslot: KeyslotId,
    /// `TPM2B_PRIVATE` then `TPM2B_PUBLIC` of the sealed object, marshalled.
    pub blob: Vec<u8>,
    /// Bank and PCRs of the policy.
    pub pcrs: PcrSelection,
    /// The parent's template.
    pub primary_alg: PrimaryAlg,
    /// The object's policy digest.
    pub policy_hash: [u8; 32],
}

/// Why a token of type `systemd-tpm2` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not the fields that systemd writes, or a value none of them takes.
    #[error("the systemd-tpm2 token is malformed: {0}")]
    Malformed(String),
    /// Well-formed, and asks for something that is not built.
    #[error("the systemd-tpm2 token uses {0}, which is not supported")]
    Unsupported(&'static str),
}

impl SystemdTpm2 {
    /// Reads the JSON object of a token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn from_json(json: serde_json::Value) -> Result<Self, TokenError> {
        let raw: Raw = serde_json::from_value(json).map_err(|e| TokenError::Malformed(e.to_string()))?;
        raw.try_into()
    }

    /// The JSON object of the token.
    ///
    /// # Errors
    /// Those of the JSON writer; none is known for these fields.
    pub fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}

impl Serialize for SystemdTpm2 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Raw {
            r#type: TYPE.to_owned(),
            keyslots: vec![self.keyslot],
            blob: BASE64.encode(&self.blob),
            pcrs: self.pcrs.iter().collect(),
            pcr_bank: Some(self.pcrs.bank()),
            primary_alg: Some(self.primary_alg),
            policy_hash: HEXLOWER.encode(&self.policy_hash),
            pin: false,
            tpm2_pubkey_pcrs: Vec::new(),
            tpm2_pubkey: None,
            tpm2_salt: None,
            tpm2_srk: None,
            tpm2_pcrlock: false,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SystemdTpm2 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Raw::deserialize(deserializer)?
            .try_into()
            .map_err(D::Error::custom)
    }
}

/// The token's own shape. Fields that a future systemd may add are refused: they may change what is asked of the TPM.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    r#type: String,
    keyslots: Vec<KeyslotId>,
    #[serde(rename = "tpm2-blob")]
    blob: String,
    #[serde(rename = "tpm2-pcrs")]
    pcrs: Vec<PcrIndex>,
    // Both are absent in tokens of the first versions, which meant SHA-256 and ECC.
    #[serde(rename = "tpm2-pcr-bank", default, skip_serializing_if = "Option::is_none")]
    pcr_bank: Option<HashAlg>,
    #[serde(rename = "tpm2-primary-alg", default, skip_serializing_if = "Option::is_none")]
    primary_alg: Option<PrimaryAlg>,
    #[serde(rename = "tpm2-policy-hash")]
    policy_hash: String,
    #[serde(rename = "tpm2-pin", default)]
    pin: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tpm2_pubkey_pcrs: Vec<PcrIndex>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tpm2_pubkey: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tpm2_salt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tpm2_srk: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tpm2_pcrlock: bool,
}

impl TryFrom<Raw> for SystemdTpm2 {
    type Error = TokenError;

    fn try_from(raw: Raw) -> Result<Self, TokenError> {
        let malformed = |what: &str| TokenError::Malformed(what.to_owned());
        if raw.r#type != TYPE {
            return Err(malformed("the type is another"));
        }
        for (used, what) in [
            (raw.pin, "a PIN"),
            (raw.tpm2_salt.is_some(), "a salted PIN"),
            (
                raw.tpm2_pubkey.is_some() || !raw.tpm2_pubkey_pcrs.is_empty(),
                "a signed PCR policy",
            ),
            (raw.tpm2_srk.is_some(), "a stored storage root key"),
            (raw.tpm2_pcrlock, "a pcrlock policy"),
            (raw.pcrs.is_empty(), "no PCR at all"),
        ] {
            if used {
                return Err(TokenError::Unsupported(what));
            }
        }
        let [keyslot] = raw.keyslots.as_slice() else {
            return Err(malformed("it names another number of keyslots than one"));
        };
        let blob = BASE64
            .decode(raw.blob.as_bytes())
            .ok()
            .filter(|blob| (1..=MAX_BLOB).contains(&blob.len()))
            .ok_or_else(|| malformed("tpm2-blob is not the base64 of a TPM object"))?;
        let policy_hash = HEXLOWER_PERMISSIVE
            .decode(raw.policy_hash.as_bytes())
            .ok()
            .and_then(|hash| hash.try_into().ok())
            .ok_or_else(|| malformed("tpm2-policy-hash is not 64 hexadecimal digits"))?;
        let pcrs = PcrSelection::new(raw.pcr_bank.unwrap_or(HashAlg::Sha256), raw.pcrs)
            .map_err(|e| TokenError::Malformed(e.to_string()))?;
        Ok(Self {
            keyslot: *keyslot,
            blob,
            pcrs,
            primary_alg: raw.primary_alg.unwrap_or(PrimaryAlg::Ecc),
            policy_hash,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// As systemd 252 writes it.
    fn systemd_252() -> Value {
        json!({
            "type": "systemd-tpm2", "keyslots": ["1"], "tpm2-blob": "AKsA/w==", "tpm2-pcrs": [7, 11],
            "tpm2-pcr-bank": "sha256", "tpm2-primary-alg": "ecc", "tpm2-policy-hash": "cd".repeat(32), "tpm2-pin": false
        })
    }

    #[test]
    fn what_systemd_writes_round_trips() {
        let token = SystemdTpm2::from_json(systemd_252()).unwrap();
        assert_eq!(token.keyslot.get(), 1);
        assert_eq!(token.blob, [0, 0xab, 0, 0xff]);
        assert_eq!(token.pcrs.to_string(), "sha256:7,11");
        assert_eq!(token.policy_hash, [0xcd; 32]);
        assert_eq!(token.to_json().unwrap(), systemd_252());
    }

    #[test]
    fn absent_bank_and_primary_are_those_of_the_first_versions() {
        let mut json = systemd_252();
        let object = json.as_object_mut().unwrap();
        object.remove("tpm2-pcr-bank");
        object.remove("tpm2-primary-alg");
        assert_eq!(
            SystemdTpm2::from_json(json).unwrap(),
            SystemdTpm2::from_json(systemd_252()).unwrap()
        );
    }

    #[test]
    fn what_we_cannot_do_is_unsupported() {
        for (field, value) in [
            ("tpm2-pin", json!(true)),
            ("tpm2_salt", json!("AAAA")),
            ("tpm2_pubkey_pcrs", json!([11])),
            ("tpm2_pubkey", json!("AAAA")),
            ("tpm2_srk", json!("AAAA")),
            ("tpm2_pcrlock", json!(true)),
            ("tpm2-pcrs", json!([])),
        ] {
            let mut json = systemd_252();
            json[field] = value;
            let refused = SystemdTpm2::from_json(json);
            assert!(
                matches!(refused, Err(TokenError::Unsupported(_))),
                "{field}: {refused:?}"
            );
        }
    }

    #[test]
    fn what_nobody_writes_is_malformed() {
        let long = BASE64.encode(&[0; MAX_BLOB + 1]);
        for (field, value) in [
            ("type", json!("systemd-fido2")),
            ("keyslots", json!([])),
            ("keyslots", json!(["0", "1"])),
            ("keyslots", json!(["32"])),
            ("keyslots", json!(["01"])),
            ("keyslots", json!([0])),
            ("tpm2-blob", json!("")),
            ("tpm2-blob", json!("%")),
            ("tpm2-blob", json!(long)),
            ("tpm2-pcrs", json!([24])),
            ("tpm2-pcrs", json!([7, 7])),
            ("tpm2-pcr-bank", json!("md5")),
            ("tpm2-primary-alg", json!("dsa")),
            ("tpm2-policy-hash", json!("cd")),
            ("tpm2-new", json!(1)),
        ] {
            let mut json = systemd_252();
            json[field] = value;
            let refused = SystemdTpm2::from_json(json);
            assert!(
                matches!(refused, Err(TokenError::Malformed(_))),
                "{field}: {refused:?}"
            );
        }
    }
}
