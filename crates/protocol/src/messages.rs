//! The JSON messages of the contract's two endpoints.
//!
//! Owns: their field names. Requests refuse unknown fields, since a field that one end means and the other drops is
//! how checks get lost; answers tolerate them, so that a newer proxy can say more. All bytes are padded base64.
//! An attacker controls a [`SessionRequest`] whole; the proxy bounds the body before it is parsed.

use domain::{Audience, DeviceId, HashAlg, PcrIndex, UnixTime, encoding::b64};
use serde::{Deserialize, Serialize};

use crate::nonce::Opaque;

/// The longest event log that a session request carries, in bytes before base64. Real ones have 20 to 100 kB.
pub const MAX_EVENT_LOG: usize = 160 << 10;
/// The longest image statement that a session request carries, in bytes before base64. Real ones have 400.
pub const MAX_IMAGE_STATEMENT: usize = 4 << 10;

/// The answer to `GET /attest/v1/challenge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// To be quoted.
    pub nonce: Opaque,
    /// Whom the quote is for; a client signs for its own audience only.
    pub audience: Audience,
    /// The PCR bank that the policy wants.
    pub bank: HashAlg,
    /// The PCRs that the policy wants; none when the device needs no evidence.
    pub select: Vec<PcrIndex>,
    /// How long the nonce is good, in seconds.
    pub expires_in: u64,
    /// The proxy's clock.
    pub now: UnixTime,
}

/// The body of `POST /attest/v1/session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// TPMS_ATTEST.
    #[serde(with = "b64")]
    pub quote: Vec<u8>,
    /// TPMT_SIGNATURE.
    #[serde(with = "b64")]
    pub signature: Vec<u8>,
    /// The PCR values concatenated in ascending index.
    #[serde(with = "b64")]
    pub pcrs: Vec<u8>,
    /// The nonce that the quote answers.
    #[serde(with = "b64")]
    pub nonce: Vec<u8>,
    /// The Ed25519 public key of the session.
    #[serde(with = "b64")]
    pub public_key: Vec<u8>,
    /// The measured-boot log, where the policy wants it.
    #[serde(with = "optional_b64", default, skip_serializing_if = "Option::is_none")]
    pub event_log: Option<Vec<u8>>,
    /// The signed statement of the image, where the policy wants it.
    #[serde(with = "optional_b64", default, skip_serializing_if = "Option::is_none")]
    pub image_statement: Option<Vec<u8>>,
}

/// The answer to a [`SessionRequest`] that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionGranted {
    /// The token, opaque to the client.
    pub session: String,
    /// How long it is good, in seconds.
    pub expires_in: u64,
    /// Whom the proxy takes the client for.
    pub device: DeviceId,
}

/// `b64` for a field that may be absent; `null` is refused.
mod optional_b64 {
    use domain::encoding::b64;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(bytes) => b64::serialize(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        b64::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str =
        r#"{"quote":"AQ==","signature":"Ag==","pcrs":"Aw==","nonce":"BA==","public_key":"BQ=="}"#;

    #[test]
    fn a_session_request_has_the_contracts_fields() {
        let request: SessionRequest = serde_json::from_str(REQUEST).unwrap();
        assert_eq!(request.quote, [1]);
        assert_eq!(request.public_key, [5]);
        assert_eq!(request.event_log, None);
        assert_eq!(serde_json::to_string(&request).unwrap(), REQUEST);
        let with_log = REQUEST.replace('}', r#","event_log":"Bg==","image_statement":"Bw=="}"#);
        let request: SessionRequest = serde_json::from_str(&with_log).unwrap();
        assert_eq!(
            (request.event_log.as_deref(), request.image_statement.as_deref()),
            (Some(&[6][..]), Some(&[7][..]))
        );
        assert_eq!(serde_json::to_string(&request).unwrap(), with_log);
    }

    #[test]
    fn a_session_request_is_refused_when_anything_is_odd() {
        for (from, to) in [
            ("}", r#","admin":true}"#),
            ("}", r#","quote":"AQ=="}"#),
            ("}", r#","event_log":null}"#),
            (r#""quote":"AQ==","#, ""),
            ("AQ==", "AQ"),
            ("AQ==", "AR=="),
            (r#""AQ==""#, "[1]"),
        ] {
            let text = REQUEST.replacen(from, to, 1);
            assert!(serde_json::from_str::<SessionRequest>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_challenge_reads_as_the_contract_says() {
        let text = format!(
            r#"{{"nonce":"{}","audience":"https://llm.example","bank":"sha256","select":[7,11],"expires_in":60,"now":1700000000}}"#,
            data_encoding::BASE64.encode(&[7; 32])
        );
        let challenge: Challenge = serde_json::from_str(&text).unwrap();
        assert_eq!(challenge.nonce.as_bytes(), &[7; 32]);
        assert_eq!(serde_json::to_string(&challenge).unwrap(), text);
        for (from, to) in [
            ("[7,11]", "[24]"),
            ("sha256", "md5"),
            ("https://llm.example", "a b"),
        ] {
            assert!(serde_json::from_str::<Challenge>(&text.replace(from, to)).is_err());
        }
        let more = text.replace('{', r#"{"motd":"hello","#);
        assert_eq!(serde_json::from_str::<Challenge>(&more).unwrap(), challenge);
    }
}
