//! The `systemd-tpm2` token in all its kinds: exact PCRs, a signed PCR policy, a PIN, a named storage root key.
//!
//! Owns: the JSON fields exactly as systemd writes them (`src/cryptsetup/cryptsetup-tokens/luks2-tpm2.c`,
//! `tpm2_make_luks2_json`), as far as systemd 261. What cannot be done is refused by name: pcrlock policies, secrets in several
//! shards, keys at other handles. A field that is not known is refused too: it may change what is asked of the TPM.
//! Only the form is judged here: keys, blobs and policies are for `tpm` to parse.
//! An attacker controls every field; a wrong one makes unsealing fail, it reveals nothing.

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use domain::{HashAlg, PcrIndex, PcrSelection};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{KeyslotId, PrimaryAlg, SealToken, SystemdTpm2, TokenError, token::TYPE};

/// The longest TPM object, in bytes: a TPM2B_PRIVATE and a TPM2B_PUBLIC have at most some hundred each.
pub(crate) const MAX_BLOB: usize = 4096;
/// The longest PEM of a policy key, in bytes.
const MAX_KEY: usize = 2048;
/// Where a serialized storage root key says that it is (TCG TPM v2.0 Provisioning Guidance 7.8).
const SRK_HANDLE: [u8; 4] = 0x8100_0001_u32.to_be_bytes();
/// The longest serialized storage root key, in bytes.
const MAX_SRK: usize = 1024;

/// A `systemd-tpm2` token of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tpm2Token {
    /// The keyslot whose passphrase is the base64 text of what the TPM releases.
    pub keyslot: KeyslotId,
    /// `TPM2B_PRIVATE` then `TPM2B_PUBLIC` of the sealed object, marshalled; then a `TPM2B_ENCRYPTED_SECRET` where the TPM has
    /// not imported it yet.
    pub blob: Vec<u8>,
    /// The bank of all PCRs here.
    pub bank: HashAlg,
    /// The PCRs that must be as they were.
    pub exact: Option<PcrSelection>,
    /// The PCRs that must be as a key approved.
    pub signed: Option<TokenSigned>,
    /// Whether a PIN is wanted, and how it is hashed.
    pub pin: TokenPin,
    /// The parent's algorithm.
    pub primary_alg: PrimaryAlg,
    /// The object's policy digest.
    pub policy_hash: [u8; 32],
    /// The TCG's storage root key at its handle, as tpm2-tss serializes it; systemd 252 neither writes nor reads it, and
    /// absent it means systemd's own.
    pub srk: Option<Vec<u8>>,
}

/// A signed PCR policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSigned {
    /// Which PCRs.
    pub pcrs: PcrSelection,
    /// The key, PEM.
    pub key_pem: Vec<u8>,
}

/// A token's PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPin {
    /// None.
    None,
    /// Hashed as it is: systemd 252.
    Plain,
    /// Derived with this salt first: later ones.
    Salted([u8; 32]),
}

impl Tpm2Token {
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

impl SealToken for Tpm2Token {
    fn keyslot(&self) -> KeyslotId {
        self.keyslot
    }

    fn object(&self) -> Result<serde_json::Value, TokenError> {
        let json = self.to_json().map_err(|e| TokenError::Malformed(e.to_string()))?;
        Self::from_json(json.clone()).map(|_| json)
    }
}

impl From<SystemdTpm2> for Tpm2Token {
    fn from(token: SystemdTpm2) -> Self {
        Self {
            keyslot: token.keyslot,
            blob: token.blob,
            bank: token.pcrs.bank(),
            exact: Some(token.pcrs),
            signed: None,
            pin: TokenPin::None,
            primary_alg: token.primary_alg,
            policy_hash: token.policy_hash,
            srk: None,
        }
    }
}

impl Serialize for Tpm2Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Raw {
            r#type: TYPE.to_owned(),
            keyslots: vec![self.keyslot],
            blob: Shards::One(BASE64.encode(&self.blob)),
            pcrs: self.exact.iter().flat_map(PcrSelection::iter).collect(),
            pcr_bank: Some(self.bank),
            primary_alg: Some(self.primary_alg),
            policy_hash: Shards::One(HEXLOWER.encode(&self.policy_hash)),
            pin: self.pin != TokenPin::None,
            tpm2_pubkey_pcrs: self.signed.iter().flat_map(|signed| signed.pcrs.iter()).collect(),
            tpm2_pubkey: self.signed.as_ref().map(|signed| BASE64.encode(&signed.key_pem)),
            tpm2_salt: match self.pin {
                TokenPin::Salted(salt) => Some(BASE64.encode(&salt)),
                TokenPin::None | TokenPin::Plain => None,
            },
            tpm2_srk: self.srk.as_ref().map(|srk| BASE64.encode(srk)),
            tpm2_pcrlock: false,
            tpm2_pcrlock_nv: None,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tpm2Token {
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
    blob: Shards,
    #[serde(rename = "tpm2-pcrs")]
    pcrs: Vec<PcrIndex>,
    // Both are absent in tokens of the first versions, which meant SHA-256 and ECC.
    #[serde(rename = "tpm2-pcr-bank", default, skip_serializing_if = "Option::is_none")]
    pcr_bank: Option<HashAlg>,
    #[serde(rename = "tpm2-primary-alg", default, skip_serializing_if = "Option::is_none")]
    primary_alg: Option<PrimaryAlg>,
    #[serde(rename = "tpm2-policy-hash")]
    policy_hash: Shards,
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
    #[serde(default, skip_serializing)]
    tpm2_pcrlock_nv: Option<serde_json::Value>,
}

/// A text; later versions of systemd write several where a secret is split over several policies.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Shards {
    One(String),
    Several(Vec<String>),
}

impl Shards {
    fn one(self) -> Result<String, TokenError> {
        match self {
            Self::One(text) => Ok(text),
            Self::Several(mut texts) => match (texts.pop(), texts.is_empty()) {
                (Some(text), true) => Ok(text),
                _ => Err(TokenError::Unsupported("a secret in several shards")),
            },
        }
    }
}

impl TryFrom<Raw> for Tpm2Token {
    type Error = TokenError;

    fn try_from(raw: Raw) -> Result<Self, TokenError> {
        let malformed = |what: &str| TokenError::Malformed(what.to_owned());
        if raw.r#type != TYPE {
            return Err(malformed("the type is another"));
        }
        if raw.tpm2_pcrlock || raw.tpm2_pcrlock_nv.is_some() {
            return Err(TokenError::Unsupported("a pcrlock policy"));
        }
        if raw.keyslots.is_empty() {
            return Err(TokenError::Unsupported("a keyslot that was removed"));
        }
        let [keyslot] = raw.keyslots.as_slice() else {
            return Err(malformed("it names another number of keyslots than one"));
        };
        let bank = raw.pcr_bank.unwrap_or(HashAlg::Sha256);
        let select = |pcrs: Vec<PcrIndex>| {
            if pcrs.is_empty() {
                return Ok(None);
            }
            PcrSelection::new(bank, pcrs)
                .map(Some)
                .map_err(|e| TokenError::Malformed(e.to_string()))
        };
        let key = bytes(raw.tpm2_pubkey, MAX_KEY)
            .ok_or_else(|| malformed("tpm2_pubkey is not the base64 of a key"))?;
        let signed = match (select(raw.tpm2_pubkey_pcrs)?, key) {
            (None, None) => None,
            (Some(pcrs), Some(key_pem)) => Some(TokenSigned { pcrs, key_pem }),
            _ => return Err(malformed("tpm2_pubkey and tpm2_pubkey_pcrs want each other")),
        };
        let salt = match bytes(raw.tpm2_salt, 32) {
            Some(salt) => salt
                .map(<[u8; 32]>::try_from)
                .transpose()
                .map_err(|_| malformed("tpm2_salt is not 32 bytes"))?,
            None => return Err(malformed("tpm2_salt is not 32 bytes")),
        };
        let pin = match (raw.pin, salt) {
            (false, None) => TokenPin::None,
            (true, None) => TokenPin::Plain,
            (true, Some(salt)) => TokenPin::Salted(salt),
            (false, Some(_)) => return Err(malformed("tpm2_salt without a PIN")),
        };
        let exact = select(raw.pcrs)?;
        if exact.is_none() && signed.is_none() && pin == TokenPin::None {
            return Err(TokenError::Unsupported("no PCR at all"));
        }
        let srk = bytes(raw.tpm2_srk, MAX_SRK)
            .ok_or_else(|| malformed("tpm2_srk is not the base64 of a storage root key"))?;
        if srk.as_ref().is_some_and(|srk| !srk.starts_with(&SRK_HANDLE)) {
            return Err(TokenError::Unsupported(
                "a storage key at another handle than 0x81000001",
            ));
        }
        Ok(Self {
            keyslot: *keyslot,
            blob: bytes(Some(raw.blob.one()?), MAX_BLOB)
                .flatten()
                .ok_or_else(|| malformed("tpm2-blob is not the base64 of a TPM object"))?,
            bank,
            exact,
            signed,
            pin,
            primary_alg: raw.primary_alg.unwrap_or(PrimaryAlg::Ecc),
            policy_hash: HEXLOWER_PERMISSIVE
                .decode(raw.policy_hash.one()?.as_bytes())
                .ok()
                .and_then(|hash| hash.try_into().ok())
                .ok_or_else(|| malformed("tpm2-policy-hash is not 64 hexadecimal digits"))?,
            srk,
        })
    }
}

/// Base64 of 1 to `most` bytes where there is any; `None` for another text.
fn bytes(text: Option<String>, most: usize) -> Option<Option<Vec<u8>>> {
    let Some(text) = text else {
        return Some(None);
    };
    let bytes = BASE64.decode(text.as_bytes()).ok()?;
    (1..=most).contains(&bytes.len()).then_some(Some(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// As systemd 254 writes it with everything.
    fn everything() -> Value {
        json!({
            "type": "systemd-tpm2", "keyslots": ["1"], "tpm2-blob": "AKsA/w==", "tpm2-pcrs": [7],
            "tpm2-pcr-bank": "sha256", "tpm2-primary-alg": "ecc", "tpm2-policy-hash": "cd".repeat(32), "tpm2-pin": true,
            "tpm2_pubkey_pcrs": [11], "tpm2_pubkey": "LS0t", "tpm2_salt": BASE64.encode(&[9; 32]), "tpm2_srk": "gQAAAQ=="
        })
    }

    fn with(field: &str, value: Value) -> Result<Tpm2Token, TokenError> {
        let mut json = everything();
        json[field] = value;
        Tpm2Token::from_json(json)
    }

    #[test]
    fn every_kind_round_trips() {
        let token = Tpm2Token::from_json(everything()).unwrap();
        assert_eq!(token.exact.unwrap().to_string(), "sha256:7");
        let signed = token.signed.as_ref().unwrap();
        assert_eq!(
            (signed.pcrs.to_string().as_str(), &signed.key_pem[..]),
            ("sha256:11", &b"---"[..])
        );
        assert_eq!(token.pin, TokenPin::Salted([9; 32]));
        assert_eq!(token.srk.as_deref(), Some(&[0x81, 0, 0, 1][..]));
        assert_eq!(token.object().unwrap(), everything());
        assert_eq!(SealToken::keyslot(&token).get(), 1);
        // Each that may be missing.
        for fields in [
            &["tpm2_srk"][..],
            &["tpm2_salt"],
            &["tpm2_pubkey", "tpm2_pubkey_pcrs"],
        ] {
            let mut json = everything();
            for field in fields {
                json.as_object_mut().unwrap().remove(*field);
            }
            let token = Tpm2Token::from_json(json.clone()).unwrap();
            assert_eq!(token.to_json().unwrap(), json);
            assert!(matches!(
                SystemdTpm2::try_from(token),
                Err(TokenError::Unsupported(_))
            ));
        }
        let signed_alone = with("tpm2-pcrs", json!([])).unwrap();
        assert_eq!(signed_alone.exact, None);
    }

    #[test]
    fn fields_that_do_not_fit_together_are_malformed() {
        let long = |len: usize| json!(BASE64.encode(&vec![0; len]));
        for (field, value) in [
            ("tpm2_salt", json!("AAAA")),
            ("tpm2_salt", long(33)),
            ("tpm2-pin", json!(false)),
            ("tpm2_pubkey_pcrs", json!([])),
            ("tpm2_pubkey_pcrs", json!([11, 11])),
            ("tpm2_pubkey", json!("")),
            ("tpm2_pubkey", json!(null)),
            ("tpm2_pubkey", long(MAX_KEY + 1)),
            ("tpm2_srk", json!("%")),
            ("tpm2_srk", long(MAX_SRK + 1)),
            ("tpm2-blob", long(MAX_BLOB + 1)),
            ("tpm2_new", json!(1)),
        ] {
            let refused = with(field, value);
            assert!(
                matches!(refused, Err(TokenError::Malformed(_))),
                "{field}: {refused:?}"
            );
        }
    }

    #[test]
    fn what_later_versions_can_express_is_read_or_refused_by_name() {
        let hash = "cd".repeat(32);
        for (field, value, what) in [
            ("tpm2_pcrlock", json!(true), "a pcrlock policy"),
            ("tpm2_pcrlock_nv", json!("AAAA"), "a pcrlock policy"),
            ("tpm2-blob", json!(["AAAA", "AAAA"]), "a secret in several shards"),
            ("tpm2-blob", json!([]), "a secret in several shards"),
            (
                "tpm2-policy-hash",
                json!([hash, hash]),
                "a secret in several shards",
            ),
            (
                "tpm2_srk",
                json!("gQAAAg=="),
                "a storage key at another handle than 0x81000001",
            ),
            ("keyslots", json!([]), "a keyslot that was removed"),
        ] {
            assert_eq!(with(field, value), Err(TokenError::Unsupported(what)), "{field}");
        }
        let plain = Tpm2Token::from_json(everything()).unwrap();
        for (field, value) in [
            ("tpm2_pcrlock", json!(false)),
            ("tpm2-blob", json!(["AKsA/w=="])),
            ("tpm2-policy-hash", json!([hash])),
        ] {
            assert_eq!(with(field, value).unwrap(), plain, "{field}");
        }
    }
}
