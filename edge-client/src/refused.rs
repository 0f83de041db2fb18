//! A refusal as it arrives: an HTTP response that is not an answer.
//!
//! Owns: reading it. The proxy's table is in `protocol`; a code that we do not know is kept as text, cleaned, because
//! it goes to a terminal. Whoever stands in front of the proxy may answer with anything.

use std::{fmt, time::Duration};

use http::{HeaderMap, header::RETRY_AFTER};
use protocol::{Refusal, headers, nonce::Opaque};
use serde::Deserialize;

use crate::{answer::clean, error::Exit};

/// What the proxy, or something before it, said instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The code as it came; `http-NNN` when none did.
    pub(crate) code: String,
    /// The sentence as it came.
    pub(crate) sentence: String,
    /// The refusal, if the code is one of the contract's.
    pub(crate) refusal: Option<Refusal>,
    /// When to come back.
    pub(crate) retry_after: Option<Duration>,
    /// A new nonce to answer.
    pub(crate) challenge: Option<Opaque>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Ollama { error: String, code: Option<String> },
    OpenAi { error: OpenAiError },
}

#[derive(Deserialize)]
struct OpenAiError {
    message: String,
    code: Option<String>,
}

impl Refused {
    /// Reads a response; `body` is its beginning at least.
    pub(crate) fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let (sentence, code) = match serde_json::from_slice(body) {
            Ok(Body::Ollama { error, code }) => (error, code),
            Ok(Body::OpenAi { error }) => (error.message, error.code),
            Err(_) => ("the answer is not one of attest-proxy's".to_owned(), None),
        };
        let code = code.unwrap_or_else(|| format!("http-{status}"));
        // One code stands for two refusals that differ in status.
        let refusal = match Refusal::from_code(&code) {
            Some(Refusal::PathDenied) if status == Refusal::PathUnknown.status() => {
                Some(Refusal::PathUnknown)
            }
            other => other,
        };
        Self {
            status,
            code: bounded(&code, 64),
            sentence: bounded(&sentence, 400),
            refusal,
            retry_after: header(headers, &RETRY_AFTER)
                .and_then(|text| text.parse().ok())
                .map(Duration::from_secs),
            challenge: header(headers, &headers::CHALLENGE)
                .and_then(|text| headers::parse_bytes(text.as_bytes()).ok())
                .and_then(|bytes| Opaque::try_from(bytes).ok()),
        }
    }

    /// What a person at the device can do about it.
    pub(crate) const fn hint(&self) -> Option<&'static str> {
        match self.refusal {
            Some(Refusal::PskUnknown) => {
                Some("the device is not registered at this proxy, or it was suspended or retired")
            }
            Some(Refusal::EvidenceMissing) => Some("leave --no-evidence away: this device has to quote"),
            Some(Refusal::EvidenceMismatch) => Some(
                "the device booted or runs something else than its policy expects; the operator's log names the PCR",
            ),
            Some(Refusal::EvidenceInvalid) => Some(
                "was the TPM cleared, or the volume moved from another device? the operator's log has the reason",
            ),
            Some(Refusal::EvidenceStale) => Some(
                "another program may be quoting on this device at the same time; the operator's log has the reason",
            ),
            Some(Refusal::ModelDenied) => Some("name a model that the device's policy allows with --model"),
            Some(Refusal::RegistryStale | Refusal::Overloaded | Refusal::NoUpstream) => {
                Some("try again in a little while")
            }
            _ => None,
        }
    }

    /// A refusal of the contract is 3; a service that fails, or an answer that is not the proxy's, is 1.
    pub(crate) const fn exit(&self) -> Exit {
        match self.refusal {
            Some(refusal) if refusal.status() < 500 => Exit::Refused,
            _ => Exit::Failed,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.exit() {
            Exit::Refused => "refused",
            _ => "not answered",
        };
        write!(f, "{what}: {} ({})", self.sentence, self.code)
    }
}

fn header<'a>(map: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    map.get(name).and_then(|value| value.to_str().ok())
}

/// Text for a terminal: one line, no control characters, not too long.
fn bounded(text: &str, max: usize) -> String {
    clean(text).replace('\n', " ").chars().take(max).collect()
}

#[cfg(test)]
mod tests {
    use protocol::ErrorShape;

    use super::*;

    fn read(status: u16, fields: &[(&'static str, &str)], body: &str) -> Refused {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.insert(*name, value.parse().unwrap());
        }
        Refused::read(status, &map, body.as_bytes())
    }

    #[test]
    fn every_refusal_of_the_contract_reads_back_in_both_shapes() {
        for refusal in Refusal::ALL {
            for shape in [ErrorShape::Ollama, ErrorShape::OpenAi] {
                let found = read(refusal.status(), &[], &refusal.body(shape));
                assert_eq!(found.refusal, Some(*refusal));
                assert_eq!(found.code, refusal.code());
                assert_eq!(found.sentence, refusal.message());
                let exit = if refusal.status() >= 500 {
                    Exit::Failed
                } else {
                    Exit::Refused
                };
                assert_eq!(found.exit(), exit);
            }
        }
    }

    #[test]
    fn headers_are_read_when_they_are_right() {
        let nonce = headers::bytes(&[7; 32]);
        let found = read(
            401,
            &[("attestation-challenge", &nonce), ("retry-after", "5")],
            "{}",
        );
        assert_eq!(found.challenge, Some(Opaque::try_from(vec![7; 32]).unwrap()));
        assert_eq!(found.retry_after, Some(Duration::from_secs(5)));
        let found = read(
            401,
            &[
                ("attestation-challenge", ":AQ==:"),
                ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"),
            ],
            "{}",
        );
        assert_eq!((found.challenge, found.retry_after), (None, None));
    }

    #[test]
    fn others_answers_are_kept_apart_and_cleaned() {
        let found = read(502, &[], "<html>bad gateway</html>");
        assert_eq!((found.code.as_str(), found.refusal), ("http-502", None));
        assert_eq!(
            found.to_string(),
            "not answered: the answer is not one of attest-proxy's (http-502)"
        );
        let found = read(404, &[], "{\"error\":\"model not found\"}");
        assert_eq!(
            (found.to_string().as_str(), found.exit()),
            ("not answered: model not found (http-404)", Exit::Failed)
        );
        let found = read(400, &[], "{\"error\":\"a\\u001b[2Jb\\nc\",\"code\":\"\\u0007x\"}");
        assert_eq!((found.sentence.as_str(), found.code.as_str()), ("a[2Jb c", "x"));
        assert_eq!(found.refusal, None);
        let found = read(400, &[], &format!("{{\"error\":\"{}\"}}", "x".repeat(9999)));
        assert_eq!(found.sentence.len(), 400);
    }
}
