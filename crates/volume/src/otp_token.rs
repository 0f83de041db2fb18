//! The `signalbox-otp` token: what the secret of a keyslot is derived from on a device without a TPM.
//!
//! Owns: the fields of the token, version 1, as `docs/otp-volumes.md` has them. Nobody else knows the type: stock tools show
//! it, keep it, and leave it alone. Deriving is not this crate's work; the token says from what.
//! Refuses every field, version and label that this version does not write: they may mean another derivation.
//! An attacker controls every field; a wrong one derives another secret, which opens nothing and reveals nothing.

use data_encoding::BASE64;
use domain::DeviceId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::KeyslotId;

/// The type of the token.
pub(crate) const TYPE: &str = "signalbox-otp";
/// The only version so far, of the token and of the recipe that it names.
const VERSION: u32 = 1;
/// What the derivation of version 1 begins with.
const LABEL: &str = "signalbox/otp/1";
/// The largest number of a firmware key.
const MAX_KEY_ID: u32 = 15;

/// A `signalbox-otp` token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtpToken {
    /// The keyslot whose passphrase is the base64 text of the derived secret.
    pub keyslot: KeyslotId,
    /// The firmware's number of the OTP key, 1 to 15; 1 is the device key.
    pub key_id: u32,
    /// The device that the volume is for, part of the derivation.
    pub device: DeviceId,
    /// Random, made once for this volume, part of the derivation.
    pub salt: [u8; 32],
}

/// Why a token of type `signalbox-otp` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtpTokenError {
    /// Not the fields of version 1, or a value none of them takes.
    #[error("the signalbox-otp token is malformed: {0}")]
    Malformed(String),
    /// Made by a newer program, or for another derivation.
    #[error(
        "the signalbox-otp token has version {version}, recipe {recipe} and label {label:?}; only 1, 1 and {LABEL:?} are known"
    )]
    Unknown {
        /// Version of the token's fields.
        version: u32,
        /// Version of the message.
        recipe: u32,
        /// What the message begins with.
        label: String,
    },
}

impl OtpToken {
    /// Reads the JSON object of a token.
    ///
    /// # Errors
    /// [`OtpTokenError`].
    pub fn from_json(json: Value) -> Result<Self, OtpTokenError> {
        let malformed = |what: &str| OtpTokenError::Malformed(what.to_owned());
        // The version first: a newer one may have other fields.
        let version = json.get("version").and_then(Value::as_u64);
        if version.is_some_and(|version| version != u64::from(VERSION)) {
            return Err(OtpTokenError::Unknown {
                version: version.and_then(|v| v.try_into().ok()).unwrap_or(u32::MAX),
                recipe: 0,
                label: String::new(),
            });
        }
        let raw: Raw = serde_json::from_value(json).map_err(|e| malformed(&e.to_string()))?;
        if raw.r#type != TYPE {
            return Err(malformed("the type is another"));
        }
        if raw.recipe != VERSION || raw.label != LABEL {
            return Err(OtpTokenError::Unknown {
                version: raw.version,
                recipe: raw.recipe,
                label: raw.label,
            });
        }
        let [keyslot] = raw.keyslots.as_slice() else {
            return Err(malformed("it names another number of keyslots than one"));
        };
        if !(1..=MAX_KEY_ID).contains(&raw.key_id) {
            return Err(malformed("otp-key-id is not 1 to 15"));
        }
        let salt = BASE64
            .decode(raw.salt.as_bytes())
            .ok()
            .and_then(|salt| salt.try_into().ok())
            .ok_or_else(|| malformed("otp-salt is not the base64 of 32 bytes"))?;
        Ok(Self {
            keyslot: *keyslot,
            key_id: raw.key_id,
            device: raw.device,
            salt,
        })
    }

    /// The JSON object of the token.
    ///
    /// # Errors
    /// Those of the JSON writer; none is known for these fields.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(Raw {
            r#type: TYPE.to_owned(),
            keyslots: vec![self.keyslot],
            version: VERSION,
            label: LABEL.to_owned(),
            recipe: VERSION,
            key_id: self.key_id,
            device: self.device.clone(),
            salt: BASE64.encode(&self.salt),
        })
    }
}

/// The token's own shape.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    r#type: String,
    keyslots: Vec<KeyslotId>,
    version: u32,
    #[serde(rename = "otp-label")]
    label: String,
    #[serde(rename = "otp-recipe")]
    recipe: u32,
    #[serde(rename = "otp-key-id")]
    key_id: u32,
    #[serde(rename = "otp-device")]
    device: DeviceId,
    #[serde(rename = "otp-salt")]
    salt: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn documented() -> Value {
        json!({
            "type": "signalbox-otp", "keyslots": ["0"], "version": 1, "otp-label": "signalbox/otp/1", "otp-recipe": 1,
            "otp-key-id": 1, "otp-device": "edge-1", "otp-salt": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
        })
    }

    #[test]
    fn what_is_documented_round_trips() {
        let token = OtpToken::from_json(documented()).unwrap();
        assert_eq!(token.keyslot, KeyslotId::SEALED);
        assert_eq!(token.key_id, 1);
        assert_eq!(token.device.as_str(), "edge-1");
        assert_eq!(token.salt, [7; 32]);
        assert_eq!(token.to_json().unwrap(), documented());
    }

    #[test]
    fn other_versions_and_recipes_are_not_guessed_at() {
        for (field, value) in [
            ("version", json!(2)),
            ("version", json!(u64::MAX)),
            ("otp-recipe", json!(2)),
            ("otp-label", json!("signalbox/otp/2")),
        ] {
            let mut json = documented();
            json[field] = value;
            let refused = OtpToken::from_json(json);
            assert!(
                matches!(refused, Err(OtpTokenError::Unknown { .. })),
                "{field}: {refused:?}"
            );
        }
        let mut newer = documented();
        newer["version"] = json!(2);
        newer["otp-more"] = json!(true);
        assert!(matches!(
            OtpToken::from_json(newer),
            Err(OtpTokenError::Unknown { version: 2, .. })
        ));
    }

    #[test]
    fn what_nobody_writes_is_malformed() {
        for (field, value) in [
            ("type", json!("systemd-tpm2")),
            ("keyslots", json!([])),
            ("keyslots", json!(["0", "1"])),
            ("keyslots", json!(["00"])),
            ("keyslots", json!(["32"])),
            ("version", json!("1")),
            ("version", json!(-1)),
            ("otp-key-id", json!(0)),
            ("otp-key-id", json!(16)),
            ("otp-key-id", json!(4_294_967_297_u64)),
            ("otp-device", json!("Edge 1")),
            ("otp-device", json!("")),
            ("otp-salt", json!("")),
            (
                "otp-salt",
                json!("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="),
            ),
            ("otp-salt", json!("%")),
            ("otp-new", json!(1)),
        ] {
            let mut json = documented();
            json[field] = value;
            let refused = OtpToken::from_json(json);
            assert!(
                matches!(refused, Err(OtpTokenError::Malformed(_))),
                "{field}: {refused:?}"
            );
        }
        for field in [
            "keyslots",
            "version",
            "otp-label",
            "otp-recipe",
            "otp-key-id",
            "otp-device",
            "otp-salt",
        ] {
            let mut json = documented();
            json.as_object_mut().unwrap().remove(field);
            assert!(OtpToken::from_json(json).is_err(), "{field}");
        }
    }
}
