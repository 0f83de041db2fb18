//! How an answer that breaks in the middle says so: in the form of what its client is reading. Pure.
//!
//! Owns: the error object of each protocol (Ollama's NDJSON, OpenAI's completions and responses, Anthropic's messages),
//! and where it may stand. Stock clients fail on an empty line of NDJSON, so what is put in front of the object depends
//! on what passed last. An answer of known length, or of a type without such a form, has none: it breaks off.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use protocol::{ErrorShape, Refusal};
use serde_json::{Value, json};

/// Whose protocol a path speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `/api/*`.
    Ollama,
    /// `/v1/*`, but for the next two.
    OpenAi,
    /// `/v1/responses`.
    Responses,
    /// `/v1/messages`.
    Anthropic,
}

impl Dialect {
    /// Whose protocol this path speaks.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path {
            "/v1/messages" => Self::Anthropic,
            "/v1/responses" => Self::Responses,
            path if path.starts_with("/v1/") => Self::OpenAi,
            _ => Self::Ollama,
        }
    }
}

/// What is known of an answer that an error may have to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    kind: Kind,
    /// Line ends that passed last; an answer begins as if after an empty line.
    line_ends: u8,
    /// Events that passed, counted where the error must have a number.
    events: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ndjson,
    Sse(Dialect),
    /// It cannot be.
    None,
}

impl Form {
    pub(super) fn of(dialect: Dialect, headers: &HeaderMap) -> Self {
        let kind = match headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) {
            _ if headers.contains_key(header::CONTENT_LENGTH) => Kind::None,
            Some(t) if is(t, b"application/x-ndjson") => Kind::Ndjson,
            Some(t) if is(t, b"text/event-stream") => Kind::Sse(dialect),
            _ => Kind::None,
        };
        Self {
            kind,
            line_ends: 2,
            events: 0,
        }
    }

    /// Whether there is an error object for it.
    pub(super) fn has_errors(&self) -> bool {
        self.kind != Kind::None
    }

    /// These bytes passed.
    pub(super) fn passed(&mut self, data: &[u8]) {
        match self.kind {
            Kind::None => {}
            Kind::Sse(Dialect::Responses) => self.count(data),
            Kind::Ndjson | Kind::Sse(_) => {
                let mut visible = data.iter().rev().filter(|b| **b != b'\r');
                self.line_ends = match (visible.next(), visible.next()) {
                    (None, _) => self.line_ends,
                    (Some(b'\n'), None) => self.line_ends.saturating_add(1).min(2),
                    (Some(b'\n'), Some(b'\n')) => 2,
                    (Some(b'\n'), Some(_)) => 1,
                    (Some(_), _) => 0,
                };
            }
        }
    }

    fn count(&mut self, data: &[u8]) {
        for byte in data.iter().filter(|b| **b != b'\r') {
            if *byte != b'\n' {
                self.line_ends = 0;
            } else if self.line_ends < 2 {
                self.line_ends = self.line_ends.saturating_add(1);
                if self.line_ends == 2 {
                    self.events = self.events.saturating_add(1);
                }
            }
        }
    }

    /// What ends the answer. It stands on a line of its own even when the upstream broke off inside one.
    pub(super) fn error(&self, refusal: Refusal) -> Option<Bytes> {
        let dialect = match self.kind {
            Kind::None => return None,
            Kind::Ndjson => {
                let lead = if self.line_ends == 0 { "\n" } else { "" };
                return Some(format!("{lead}{}\n", refusal.body(ErrorShape::Ollama)).into());
            }
            Kind::Sse(dialect) => dialect,
        };
        let lead = match self.line_ends {
            0 => "\n\n",
            1 => "\n",
            _ => "",
        };
        let (event, data) = match dialect {
            Dialect::Anthropic => ("event: error\n", anthropic(refusal).to_string()),
            Dialect::Responses => ("event: error\n", self.responses(refusal).to_string()),
            Dialect::OpenAi | Dialect::Ollama => ("", refusal.body(ErrorShape::OpenAi)),
        };
        Some(format!("{lead}{event}data: {data}\n\n").into())
    }

    /// The `error` event of OpenAI's responses; its number follows the events that passed.
    fn responses(&self, refusal: Refusal) -> Value {
        json!({
            "type": "error",
            "code": refusal.code(),
            "message": refusal.message(),
            "param": null,
            "sequence_number": self.events,
        })
    }
}

fn anthropic(refusal: Refusal) -> Value {
    let kind = match refusal.status() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    };
    json!({
        "type": "error",
        "error": { "type": kind, "message": refusal.message(), "code": refusal.code() },
    })
}

/// Whether a content type is `kind`, with or without parameters.
fn is(value: &[u8], kind: &[u8]) -> bool {
    value.split_at_checked(kind.len()).is_some_and(|(head, rest)| {
        head.eq_ignore_ascii_case(kind) && matches!(rest.first(), None | Some(b';' | b' '))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(dialect: Dialect, fields: &[(&'static str, &'static str)]) -> Form {
        Form::of(
            dialect,
            &fields
                .iter()
                .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
                .collect(),
        )
    }

    fn ndjson() -> Form {
        form(Dialect::Ollama, &[("content-type", "application/x-ndjson")])
    }

    fn sse(path: &str) -> Form {
        form(
            Dialect::of(path),
            &[("content-type", "text/event-stream; charset=utf-8")],
        )
    }

    fn ended(mut form: Form, passed: &[&str]) -> String {
        for data in passed {
            form.passed(data.as_bytes());
        }
        String::from_utf8(form.error(Refusal::UpstreamFailed).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn the_form_follows_the_type() {
        assert_eq!(ndjson().kind, Kind::Ndjson);
        assert_eq!(sse("/v1/messages").kind, Kind::Sse(Dialect::Anthropic));
        for fields in [
            &[("content-type", "application/json")][..],
            &[("content-type", "application/x-ndjsonx")],
            &[("content-type", "application/x-ndjson"), ("content-length", "3")],
            &[],
        ] {
            let none = form(Dialect::Ollama, fields);
            assert!(!none.has_errors());
            assert_eq!(none.error(Refusal::UpstreamFailed), None);
        }
    }

    #[test]
    fn a_line_of_ndjson_is_never_empty() {
        for (passed, lead) in [
            (&[][..], ""),
            (&["{}\n"], ""),
            (&["{}", "\n"], ""),
            (&["{}\r\n"], ""),
            (&["{}"], "\n"),
            (&["{}\n{\"half"], "\n"),
            (&["{}\n", ""], ""),
        ] {
            let text = ended(ndjson(), passed);
            let object = text.strip_prefix(lead).unwrap().strip_suffix('\n').unwrap();
            let object: Value = serde_json::from_str(object).unwrap();
            assert_eq!(object["code"], "upstream-failed", "{passed:?}");
            assert!(object["error"].is_string() && !text.starts_with("\n\n"));
            assert_eq!(text.starts_with('\n'), lead == "\n", "{passed:?}");
        }
    }

    #[test]
    fn an_event_is_one_of_its_own() {
        for (passed, lead) in [
            (&[][..], ""),
            (&["data: {}\n\n"], ""),
            (&["data: {}\r\n\r\n"], ""),
            (&["data: {}\n", "\n"], ""),
            (&["data: {}\n"], "\n"),
            (&["data: {"], "\n\n"),
        ] {
            let text = ended(sse("/v1/chat/completions"), passed);
            let data = text.strip_prefix(lead).unwrap().strip_prefix("data: ").unwrap();
            let object: Value = serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
            assert_eq!(object["error"]["code"], "upstream-failed", "{passed:?}");
        }
    }

    #[test]
    fn each_protocol_has_its_own_object() {
        let text = ended(sse("/v1/messages"), &["event: ping\ndata: {}\n\n"]);
        let data = text.strip_prefix("event: error\ndata: ").unwrap();
        let object: Value = serde_json::from_str(data).unwrap();
        assert_eq!(
            (&object["type"], &object["error"]["type"]),
            (&json!("error"), &json!("api_error"))
        );
        let passed = [
            "event: a\ndata: {\"sequence_number\":0}\n",
            "\nevent: b\n",
            "data: {}\n\n",
        ];
        let text = ended(sse("/v1/responses"), &passed);
        let data = text.strip_prefix("event: error\ndata: ").unwrap();
        let object: Value = serde_json::from_str(data).unwrap();
        assert_eq!(
            (&object["type"], &object["sequence_number"], &object["code"]),
            (&json!("error"), &json!(2), &json!("upstream-failed"))
        );
        let kinds = [
            Refusal::PskUnknown,
            Refusal::ModelDenied,
            Refusal::BudgetSpent,
            Refusal::Overloaded,
            Refusal::UpstreamTimeout,
        ];
        assert_eq!(
            kinds.map(|refusal| anthropic(refusal)["error"]["type"].as_str().unwrap().to_owned()),
            [
                "authentication_error",
                "permission_error",
                "rate_limit_error",
                "overloaded_error",
                "timeout_error"
            ]
        );
    }

    proptest! {
        /// However the upstream cuts its bytes, the error stands where it would after all of them at once.
        #[test]
        fn chunks_do_not_matter(text in "[a\\r\\n]{0,12}", cuts in prop::collection::vec(0..13_usize, 0..4), path in 0..3_usize) {
            let path = ["/v1/responses", "/v1/messages", "/v1/completions"][path];
            for form in [sse(path), ndjson()] {
                let whole = ended(form, &[&text]);
                let mut cuts: Vec<_> = cuts.iter().map(|c| (*c).min(text.len())).collect();
                cuts.sort_unstable();
                let mut pieces = Vec::new();
                let mut from = 0;
                for cut in cuts {
                    pieces.push(text.get(from..cut).unwrap());
                    from = cut;
                }
                pieces.push(text.get(from..).unwrap());
                prop_assert_eq!(ended(form, &pieces), whole);
            }
        }
    }
}
