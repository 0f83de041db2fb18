//! A policy: what its devices must prove, and what they may do.

use evidence::DeclaredPolicy;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::Version1;

/// The shortest session that a policy may allow, in seconds.
pub const SESSION_TTL_MIN: u64 = 60;
/// The longest session that a policy may allow, in seconds.
pub const SESSION_TTL_MAX: u64 = 3600;

const MAX_MODELS: usize = 256;
const MAX_MODEL_LEN: usize = 256;

/// A policy as the manifest declared it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRecord {
    /// Always 1.
    pub version: Version1,
    /// Rises with every edit; sessions of an older revision end.
    pub revision: u64,
    /// The models that a device may use, by exact name; `*` is any. At most 256 of at most 256 bytes.
    #[serde(deserialize_with = "models")]
    pub models: Vec<String>,
    /// How long a session lasts, in seconds, [`SESSION_TTL_MIN`] to [`SESSION_TTL_MAX`].
    #[serde(deserialize_with = "session_ttl")]
    pub session_ttl: u64,
    /// What a quote must show. Absent: the pre-shared key alone is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<DeclaredPolicy>,
}

fn models<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let models = Vec::<String>::deserialize(deserializer)?;
    let fit = models.len() <= MAX_MODELS
        && models
            .iter()
            .all(|m| (1..=MAX_MODEL_LEN).contains(&m.len()) && !m.chars().any(char::is_control));
    if fit {
        Ok(models)
    } else {
        Err(D::Error::custom(format_args!(
            "models are at most {MAX_MODELS} names of 1 to {MAX_MODEL_LEN} bytes"
        )))
    }
}

fn session_ttl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = u64::deserialize(deserializer)?;
    if (SESSION_TTL_MIN..=SESSION_TTL_MAX).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(D::Error::custom(format_args!(
            "a session lasts {SESSION_TTL_MIN} to {SESSION_TTL_MAX} seconds, not {seconds}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Unreadable, decode};

    fn policy(evidence: &str) -> String {
        format!(
            r#"{{"version":1,"revision":1,"models":["smollm2:135m"],"session_ttl":600,"evidence":{evidence}}}"#
        )
    }

    fn read(json: &str) -> Result<PolicyRecord, Unreadable> {
        decode(json.as_bytes())
    }

    #[test]
    fn pcr_values_fit_their_bank() {
        let value = "ab".repeat(32);
        let good = read(&policy(&format!(
            r#"{{"bank":"sha256","pcrs":{{"7":"{value}"}}}}"#
        )))
        .unwrap();
        assert_eq!(good.evidence.unwrap().parts().exact.len(), 1);
        for bad in [
            r#"{"bank":"sha256","pcrs":{}}"#.to_owned(),
            format!(r#"{{"bank":"sha1","pcrs":{{"7":"{value}"}}}}"#),
            format!(r#"{{"bank":"sha256","pcrs":{{"24":"{value}"}}}}"#),
            format!(r#"{{"bank":"sha256","pcrs":{{"seven":"{value}"}}}}"#),
            format!(r#"{{"bank":"sha256","pcrs":{{"7":"{value}","7":"{value}"}}}}"#),
            format!(r#"{{"bank":"sha256","pcrs":{{"7":"{value}"}},"golden":[]}}"#),
            format!(r#"{{"bank":"sha256","pcrs":{{"16":"{value}"}}}}"#),
            format!(r#"{{"bank":"md5","pcrs":{{"7":"{value}"}}}}"#),
        ] {
            assert!(
                matches!(read(&policy(&bad)), Err(Unreadable::Malformed(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn sessions_and_model_lists_are_bounded() {
        let good = policy("null");
        assert!(read(&good).unwrap().evidence.is_none());
        for (from, to) in [
            ("600", "59".to_owned()),
            ("600", "3601".to_owned()),
            ("\"smollm2:135m\"", "\"\"".to_owned()),
            ("\"smollm2:135m\"", format!("\"{}\"", "m".repeat(257))),
            ("\"smollm2:135m\"", format!("\"m\"{}", ",\"m\"".repeat(256))),
        ] {
            let bad = good.replace(from, &to);
            assert!(
                matches!(read(&bad), Err(Unreadable::Malformed(_))),
                "{from} -> {to}"
            );
        }
    }
}
