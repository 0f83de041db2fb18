//! OTLP in JSON: spans as a collector takes them at `POST /v1/traces`.
//!
//! Owns: the mapping of a finished span to the JSON form of `ExportTraceServiceRequest` (OpenTelemetry protocol 1.x): ids in hex,
//! 64-bit numbers as text, names by the semantic conventions for HTTP.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

/// A span that is over.
#[derive(Debug, Clone)]
pub struct Span {
    /// The trace.
    pub trace: [u8; 16],
    /// This span.
    pub id: [u8; 8],
    /// The one above it.
    pub parent: Option<[u8; 8]>,
    /// Method and route, never a stranger's path.
    pub name: String,
    /// Ours, or the call to the upstream.
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// See `start`.
    pub end: u64,
    /// Whether it failed on our side.
    pub failed: bool,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// On which side of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request to us.
    Server,
    /// The request of ours.
    Client,
}

/// A value.
#[derive(Debug, Clone)]
pub enum Attribute {
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Attribute {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// The body of one export.
#[must_use]
pub fn body(fleet: &str, spans: &[Span]) -> String {
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(&[
            ("service.name", "attest-proxy".into()),
            ("service.namespace", fleet.into()),
            ("service.version", env!("CARGO_PKG_VERSION").into()),
        ]) },
        "scopeSpans": [{
            "scope": { "name": "attest-proxy", "version": env!("CARGO_PKG_VERSION") },
            "spans": spans,
        }],
    }] })
    .to_string()
}

fn span(span: &Span) -> Value {
    let kind = match span.kind {
        Kind::Server => 2,
        Kind::Client => 3,
    };
    let mut value = json!({
        "traceId": HEXLOWER.encode(&span.trace),
        "spanId": HEXLOWER.encode(&span.id),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.to_string(),
        "attributes": attributes(&span.attributes),
        "status": if span.failed { json!({ "code": 2 }) } else { json!({}) },
    });
    if let (Some(parent), Some(object)) = (span.parent, value.as_object_mut()) {
        object.insert("parentSpanId".into(), HEXLOWER.encode(&parent).into());
    }
    value
}

fn attributes(pairs: &[(&'static str, Attribute)]) -> Value {
    pairs
        .iter()
        .map(|(key, value)| match value {
            Attribute::Text(text) => json!({ "key": key, "value": { "stringValue": text } }),
            Attribute::Number(number) => json!({ "key": key, "value": { "intValue": number.to_string() } }),
        })
        .collect()
}
