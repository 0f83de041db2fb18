//! A policy: what its devices must prove, and what they may do.

use std::collections::BTreeSet;

use domain::{Endpoint, Limits, ModelPattern, OptionRules, usage::MODELS_MAX};
use evidence::DeclaredPolicy;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::Version1;

/// The shortest session that a policy may allow, in seconds.
pub const SESSION_TTL_MIN: u64 = 60;
/// The longest session that a policy may allow, in seconds.
pub const SESSION_TTL_MAX: u64 = 3600;

/// A policy as the manifest declared it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRecord {
    /// Always 1.
    pub version: Version1,
    /// Rises with every edit; sessions of an older revision end.
    pub revision: u64,
    /// The models that a device may use, by name or pattern. At most [`MODELS_MAX`].
    #[serde(deserialize_with = "models")]
    pub models: Vec<ModelPattern>,
    /// The endpoints that a device may use. Absent: all that a policy can name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<BTreeSet<Endpoint>>,
    /// Which options a device may set, and how far.
    #[serde(default, skip_serializing_if = "OptionRules::is_none")]
    pub options: OptionRules,
    /// How much a device may use.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// How long a session lasts, in seconds, [`SESSION_TTL_MIN`] to [`SESSION_TTL_MAX`].
    #[serde(deserialize_with = "session_ttl")]
    pub session_ttl: u64,
    /// What the device's TLS client certificate counts for. Absent: it is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<CertificateRule>,
    /// What a quote must show. Absent: the pre-shared key alone is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<DeclaredPolicy>,
}

/// What a TLS client certificate counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateRule {
    /// It stands in for the pre-shared key, where the policy wants no evidence: evidence is bound to that key.
    Accepted,
    /// It is needed beside the pre-shared key.
    Required,
}

impl PolicyRecord {
    /// Whether a device may use an endpoint.
    #[must_use]
    pub fn allows_endpoint(&self, endpoint: Endpoint) -> bool {
        self.endpoints
            .as_ref()
            .is_none_or(|list| list.contains(&endpoint))
    }

    /// Whether a device may use a model.
    #[must_use]
    pub fn allows_model(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.allows(model))
    }
}

fn models<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ModelPattern>, D::Error> {
    let models = Vec::<ModelPattern>::deserialize(deserializer)?;
    if models.len() <= MODELS_MAX {
        Ok(models)
    } else {
        Err(D::Error::custom(format_args!(
            "at most {MODELS_MAX} models are named"
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

    #[test]
    fn a_record_of_before_allows_every_endpoint_and_option() {
        let record = read(&policy("null")).unwrap();
        assert!(
            Endpoint::ALL
                .iter()
                .all(|endpoint| record.allows_endpoint(*endpoint))
        );
        assert!(record.options.is_none() && record.limits.is_none());
        let json = serde_json::to_string(&record).unwrap();
        for key in ["endpoints", "options", "limits", "client_certificate"] {
            assert!(!json.contains(key), "{key} is written though it says nothing");
        }
    }

    #[test]
    fn endpoints_options_and_limits_are_read_whole_or_not_at_all() {
        let with = |more: &str| policy("null").replace("\"session_ttl\"", &format!("{more},\"session_ttl\""));
        let good = read(&with(
            r#""endpoints":["/api/chat"],"options":{"max_num_ctx":4096},"limits":{"streams":2}"#,
        ))
        .unwrap();
        assert!(good.allows_endpoint(Endpoint::Chat) && !good.allows_endpoint(Endpoint::Generate));
        assert_eq!(good.limits.streams.unwrap().get(), 2);
        assert!(
            !read(&with(r#""endpoints":[]"#))
                .unwrap()
                .allows_endpoint(Endpoint::Tags)
        );
        for bad in [
            r#""endpoints":["/api/pull"]"#,
            r#""endpoints":"/api/chat""#,
            r#""options":{"max_ctx":1}"#,
            r#""options":{"refuse":["everything"]}"#,
            r#""limits":{"streams":0}"#,
            r#""quota":{}"#,
            r#""client_certificate":"optional""#,
            r#""client_certificate":true"#,
        ] {
            assert!(matches!(read(&with(bad)), Err(Unreadable::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn models_are_names_and_patterns() {
        let record = read(&policy("null").replace("smollm2:135m", "smollm2:*")).unwrap();
        assert!(record.allows_model("smollm2:135m") && !record.allows_model("smollm2:cloud"));
        assert!(!record.allows_model("other"));
    }
}
