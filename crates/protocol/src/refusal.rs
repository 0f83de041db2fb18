//! Every way in which the proxy says no: one table from a refusal to a response.
//!
//! Owns: code, status, sentence and what goes with it. The sentence is all that a client gets: the operator's log has
//! the verdict with every failed check. `psk-unknown` is the answer for unknown, suspended and retired keys alike.
//! Called by the proxy, which turns a refusal into a response, and by clients, which read the code back.

use serde_json::json;

/// Which kind of API the refused path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"error": "<sentence>", "code": "<code>"}`, which Ollama's clients print.
    Ollama,
    /// `{"error": {"message", "type", "param", "code"}}`, for `/v1/*`.
    OpenAi,
}

struct Row {
    code: &'static str,
    status: u16,
    message: &'static str,
    retry_after: Option<u32>,
}

const fn row(code: &'static str, status: u16, message: &'static str) -> Row {
    Row {
        code,
        status,
        message,
        retry_after: None,
    }
}

const fn later(code: &'static str, status: u16, message: &'static str, seconds: u32) -> Row {
    Row {
        code,
        status,
        message,
        retry_after: Some(seconds),
    }
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident => $row:expr;)*) => {
        /// Why a request was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            /// Every refusal, in the order of the contract's table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            const fn row(self) -> Row {
                match self {
                    $(Self::$name => $row,)*
                }
            }
        }
    };
}

refusals! {
    /// No pre-shared key came with the request.
    PskMissing => row("psk-missing", 401, "this service needs a device's pre-shared key");
    /// The key is unknown, or its device suspended or retired.
    PskUnknown => row("psk-unknown", 401, "this pre-shared key is not known here");
    /// The device's policy asks for a quote or a session, and none came.
    EvidenceMissing => row("evidence-missing", 401, "this device must prove its state: answer the challenge with a TPM quote");
    /// The evidence is not what it should be: another key, no quote, not bound to this request.
    EvidenceInvalid => row("evidence-invalid", 401, "the TPM quote does not prove what it should");
    /// The nonce is too old, used, or not this device's, or the TPM's counters went back.
    EvidenceStale => row("evidence-stale", 401, "the TPM quote is not fresh: answer the new challenge");
    /// The PCRs are not what the device's policy expects.
    EvidenceMismatch => row("evidence-mismatch", 401, "the device is not in the state that its policy expects");
    /// The token is not ours, or what it says is no longer so.
    SessionInvalid => row("session-invalid", 401, "this session is not valid: open a new one");
    /// The token's time is over.
    SessionExpired => row("session-expired", 401, "this session has ended: open a new one");
    /// The request's signature does not fit it.
    SignatureInvalid => row("signature-invalid", 401, "the signature does not fit this request");
    /// The same signed request was accepted before.
    RequestReplayed => row("request-replayed", 401, "this signed request was seen before");
    /// Ollama has such a path, the proxy does not forward it.
    PathDenied => row("path-denied", 403, "this path is not served here");
    /// Ollama has no such path.
    PathUnknown => row("path-denied", 404, "there is no such path");
    /// The device's policy does not name the model.
    ModelDenied => row("model-denied", 403, "this device may not use this model");
    /// The device's policy forbids an option of the request.
    OptionDenied => row("option-denied", 403, "this device may not use an option of this request");
    /// Not a request that this contract knows. The connection is closed after it.
    RequestMalformed => row("request-malformed", 400, "this request is malformed");
    /// The body is longer than the proxy takes.
    BodyTooLarge => row("body-too-large", 413, "the body of this request is too large");
    /// Too many requests in this minute.
    RateLimited => later("rate-limited", 429, "too many requests: wait a little", 1);
    /// The device's tokens of the day are used up.
    BudgetSpent => later("budget-spent", 429, "this device's budget is used up for now", 60);
    /// The device has as many streams open as it may.
    TooManyStreams => later("too-many-streams", 429, "this device has too many answers running", 1);
    /// The registry has been out of reach for too long to trust what is remembered of it.
    RegistryStale => later("registry-stale", 503, "devices cannot be checked at the moment: try again soon", 5);
    /// The proxy has no room for more.
    Overloaded => later("overloaded", 503, "the service is busy: try again soon", 1);
    /// No model server is in reach.
    NoUpstream => later("no-upstream", 503, "no model server is in reach: try again soon", 5);
    /// The model server broke off or answered nonsense.
    UpstreamFailed => row("upstream-failed", 502, "the model server failed");
    /// The model server did not answer in time.
    UpstreamTimeout => row("upstream-timeout", 504, "the model server did not answer in time");
}

impl Refusal {
    /// The code that clients match on. [`PathUnknown`](Self::PathUnknown) and [`PathDenied`](Self::PathDenied) share
    /// one and differ in status.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().status
    }

    /// The one sentence that the client gets.
    #[must_use]
    pub const fn message(self) -> &'static str {
        self.row().message
    }

    /// Whether the response carries a new nonce in `Attestation-Challenge`, so that a client can answer at once.
    #[must_use]
    pub const fn wants_challenge(self) -> bool {
        matches!(
            self,
            Self::EvidenceMissing
                | Self::EvidenceInvalid
                | Self::EvidenceStale
                | Self::EvidenceMismatch
                | Self::SessionInvalid
                | Self::SessionExpired
                | Self::SignatureInvalid
                | Self::RequestReplayed
        )
    }

    /// Whether the connection ends with the response: what follows on it cannot be trusted to be a request.
    #[must_use]
    pub const fn closes_connection(self) -> bool {
        matches!(self, Self::RequestMalformed)
    }

    /// `Retry-After` in seconds, unless the caller knows better.
    #[must_use]
    pub const fn retry_after(self) -> Option<u32> {
        self.row().retry_after
    }

    /// The response's JSON body.
    #[must_use]
    pub fn body(self, shape: ErrorShape) -> String {
        let (code, message) = (self.code(), self.message());
        match shape {
            ErrorShape::Ollama => json!({ "error": message, "code": code }),
            ErrorShape::OpenAi => json!({
                "error": { "message": message, "type": self.openai_type(), "param": null, "code": code }
            }),
        }
        .to_string()
    }

    /// The refusal that a code stands for, `path-denied` being [`PathDenied`](Self::PathDenied).
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|refusal| refusal.code() == code)
    }

    const fn openai_type(self) -> &'static str {
        match self.status() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500..=599 => "server_error",
            _ => "invalid_request_error",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The contract's table, row by row: code, status, with a challenge, connection closed, with `Retry-After`.
    const CONTRACT: &[(&str, u16, bool, bool, bool)] = &[
        ("psk-missing", 401, false, false, false),
        ("psk-unknown", 401, false, false, false),
        ("evidence-missing", 401, true, false, false),
        ("evidence-invalid", 401, true, false, false),
        ("evidence-stale", 401, true, false, false),
        ("evidence-mismatch", 401, true, false, false),
        ("session-invalid", 401, true, false, false),
        ("session-expired", 401, true, false, false),
        ("signature-invalid", 401, true, false, false),
        ("request-replayed", 401, true, false, false),
        ("path-denied", 403, false, false, false),
        ("path-denied", 404, false, false, false),
        ("model-denied", 403, false, false, false),
        ("option-denied", 403, false, false, false),
        ("request-malformed", 400, false, true, false),
        ("body-too-large", 413, false, false, false),
        ("rate-limited", 429, false, false, true),
        ("budget-spent", 429, false, false, true),
        ("too-many-streams", 429, false, false, true),
        ("registry-stale", 503, false, false, true),
        ("overloaded", 503, false, false, true),
        ("no-upstream", 503, false, false, true),
        ("upstream-failed", 502, false, false, false),
        ("upstream-timeout", 504, false, false, false),
    ];

    #[test]
    fn the_table_is_the_contracts() {
        let ours: Vec<_> = Refusal::ALL
            .iter()
            .map(|r| {
                (
                    r.code(),
                    r.status(),
                    r.wants_challenge(),
                    r.closes_connection(),
                    r.retry_after().is_some(),
                )
            })
            .collect();
        assert_eq!(ours, CONTRACT);
    }

    #[test]
    fn codes_read_back() {
        for refusal in Refusal::ALL {
            let back = Refusal::from_code(refusal.code()).unwrap();
            assert_eq!(back.code(), refusal.code());
            assert_eq!(back == *refusal, *refusal != Refusal::PathUnknown);
        }
        assert_eq!(Refusal::from_code("path-denied"), Some(Refusal::PathDenied));
        assert_eq!(Refusal::from_code("Psk-Missing"), None);
        assert_eq!(Refusal::from_code(""), None);
    }

    #[test]
    fn bodies_are_the_two_shapes() {
        assert_eq!(
            Refusal::PskMissing.body(ErrorShape::Ollama),
            r#"{"code":"psk-missing","error":"this service needs a device's pre-shared key"}"#
        );
        assert_eq!(
            Refusal::ModelDenied.body(ErrorShape::OpenAi),
            r#"{"error":{"code":"model-denied","message":"this device may not use this model","param":null,"type":"permission_error"}}"#
        );
    }

    #[test]
    fn openai_clients_know_every_type() {
        let types: BTreeSet<_> = Refusal::ALL.iter().map(|r| r.openai_type()).collect();
        assert_eq!(
            types.into_iter().collect::<Vec<_>>(),
            [
                "authentication_error",
                "invalid_request_error",
                "permission_error",
                "rate_limit_error",
                "server_error"
            ]
        );
    }

    #[test]
    fn sentences_are_short_and_tell_no_detail() {
        for refusal in Refusal::ALL {
            let text = refusal.message();
            assert!(text.len() < 100 && !text.ends_with('.'), "{text}");
            assert!(text.starts_with(char::is_lowercase), "{text}");
            assert!(!text.contains("suspended") && !text.contains("PCR"), "{text}");
        }
    }
}
