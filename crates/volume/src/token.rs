//! The `systemd-tpm2` token: which TPM object releases a keyslot's passphrase, and under which PCRs.
//!
//! Owns: the simplest kind, exact PCRs alone, for callers that know no other. A token that asks for more (PIN, signed
//! policy, a stored SRK handle) is not misread: it is a [`TokenError`] here, and a [`Tpm2Token`] to whoever can do it.
//! An attacker controls every field; a wrong one makes unsealing fail, it reveals nothing.

use std::fmt;

use domain::PcrSelection;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{TokenPin, Tpm2Token};

/// The type that systemd, cryptsetup's plugin, dracut and mkinitcpio know.
pub(crate) const TYPE: &str = "systemd-tpm2";

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
        Tpm2Token::from_json(json)?.try_into()
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
        Tpm2Token::from(self.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SystemdTpm2 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Tpm2Token::deserialize(deserializer)?
            .try_into()
            .map_err(D::Error::custom)
    }
}

impl TryFrom<Tpm2Token> for SystemdTpm2 {
    type Error = TokenError;

    fn try_from(token: Tpm2Token) -> Result<Self, TokenError> {
        let what = match (&token.exact, &token.signed, token.pin, &token.srk) {
            (Some(pcrs), None, TokenPin::None, None) => {
                return Ok(Self {
                    keyslot: token.keyslot,
                    pcrs: *pcrs,
                    blob: token.blob,
                    primary_alg: token.primary_alg,
                    policy_hash: token.policy_hash,
                });
            }
            (_, _, TokenPin::Salted(_), _) => "a salted PIN",
            (_, _, TokenPin::Plain, _) => "a PIN",
            (_, Some(_), ..) => "a signed PCR policy",
            (_, _, _, Some(_)) => "a stored storage root key",
            (None, ..) => "no PCR at all",
        };
        Err(TokenError::Unsupported(what))
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use serde_json::{Value, json};

    use super::*;
    use crate::tpm2_token::MAX_BLOB;

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
            ("tpm2_srk", json!("AAAA")),
            ("tpm2_pcrlock", json!(true)),
            ("tpm2-pcrs", json!([])),
            ("keyslots", json!([])),
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
