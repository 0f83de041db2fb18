//! What the audit log says: one JSON object per line.
//!
//! Owns: the fields and their order. `open` begins a chain's part, `decision` is one per request, `end` follows when the answer to an
//! admitted one is over, `lost` tells how many could not be written, `close` ends a file in order.
//! Refuses: to hold a PSK or a token; of a PSK there are the first digits of its digest. Of a prompt there is nothing, unless the
//! operator asked for it, and then it is bounded. What a stranger controls is JSON text, cut before it comes here.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use domain::{DeviceId, PskDigest};
use http::Method;
use protocol::Refusal;
use serde::Serialize;

use crate::{account::ProofKind, gate::Who};

/// One thing to be written down.
#[derive(Debug)]
pub struct Event {
    /// Milliseconds since 1970.
    pub at: u64,
    /// What.
    pub what: What,
}

/// Something that is written down.
#[derive(Debug)]
pub enum What {
    /// A request was decided.
    Decision(Box<Decision>),
    /// The answer to an admitted request is over.
    End(Box<End>),
}

/// A decided request.
#[derive(Debug)]
pub struct Decision {
    /// The same in its end, and in the access log.
    pub request: String,
    /// `None`: admitted.
    pub refusal: Option<Refusal>,
    /// Whose it was.
    pub who: Who,
    /// For a refusal, the sentence of the operator's log.
    pub why: String,
    /// Every failed check of evidence, a JSON array.
    pub failed: Option<String>,
    /// The method, cut.
    pub method: Method,
    /// The path, cut and escaped.
    pub path: Cow<'static, str>,
    /// The model that was asked for.
    pub model: Option<Arc<str>>,
    /// What was shown beside the PSK.
    pub proof: ProofKind,
    /// From where the request came.
    pub peer: Option<IpAddr>,
    /// The body's text, where the operator asked for it: its first bytes, and whether that is all.
    pub prompt: Option<(String, bool)>,
    /// The client left before anything was decided.
    pub abandoned: bool,
}

/// The end of an answer.
#[derive(Debug)]
pub struct End {
    /// As in the decision.
    pub request: String,
    /// The answer's status.
    pub status: u16,
    /// Why an admitted request got no answer, or half of one.
    pub code: Option<&'static str>,
    /// Whether the client took all of it.
    pub complete: bool,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// From the head of the request to the end of the answer, in milliseconds.
    pub took: u64,
    /// Tokens of the prompt and of the answer.
    pub tokens: Option<(u64, u64)>,
}

/// What a part of a chain begins with.
#[derive(Debug, Serialize)]
pub(super) struct Open<'a> {
    pub(super) seq: u64,
    pub(super) at: String,
    pub(super) event: &'static str,
    pub(super) version: u8,
    pub(super) fleet: &'a str,
    pub(super) key: &'a str,
    pub(super) previous: String,
    /// Bytes of a line that a crash had cut off, and that were taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) torn: Option<u64>,
}

#[derive(Serialize)]
struct Plain {
    seq: u64,
    at: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
}

#[derive(Serialize)]
struct DecisionLine<'a> {
    seq: u64,
    at: String,
    event: &'static str,
    request: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a DeviceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    proof: ProofKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<IpAddr>,
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    prompt_cut: bool,
}

#[derive(Serialize)]
struct EndLine<'a> {
    seq: u64,
    at: String,
    event: &'static str,
    request: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    complete: bool,
    bytes: u64,
    millis: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
}

/// Milliseconds since 1970 as RFC 3339 in UTC.
#[must_use]
pub(super) fn time(millis: u64) -> String {
    let whole = domain::UnixTime::from_secs(millis / 1000).to_string();
    match whole.strip_suffix('Z') {
        Some(head) => format!("{head}.{:03}Z", millis % 1000),
        None => whole,
    }
}

/// Appends an object without its closing brace.
fn write(out: &mut Vec<u8>, line: &impl Serialize) {
    let start = out.len();
    // These have only strings for keys, and a vector takes everything.
    if serde_json::to_writer(&mut *out, line).is_err() {
        out.truncate(start);
        out.push(b'{');
    }
    if out.len() > start && out.last() == Some(&b'}') {
        out.pop();
    }
}

pub(super) fn write_open(out: &mut Vec<u8>, open: &Open<'_>) {
    write(out, open);
}

/// `close`, or `lost` with how many lines were.
pub(super) fn write_plain(out: &mut Vec<u8>, seq: u64, at: u64, lost: Option<u64>) {
    let event = if lost.is_some() { "lost" } else { "close" };
    let at = time(at);
    write(out, &Plain { seq, at, event, lost });
}

pub(super) fn write_event(out: &mut Vec<u8>, seq: u64, event: &Event) {
    let at = time(event.at);
    match &event.what {
        What::Decision(decision) => write_decision(out, seq, at, decision),
        What::End(end) => write(
            out,
            &EndLine {
                seq,
                at,
                event: "end",
                request: &end.request,
                status: end.status,
                code: end.code,
                complete: end.complete,
                bytes: end.bytes,
                millis: end.took,
                prompt_tokens: end.tokens.map(|(prompt, _)| prompt),
                output_tokens: end.tokens.map(|(_, output)| output),
            },
        ),
    }
}

fn write_decision(out: &mut Vec<u8>, seq: u64, at: String, decision: &Decision) {
    let (psk, id, device) = match &decision.who {
        Who::Nobody => (None, None, None),
        Who::Key(psk) => (Some(psk), None, None),
        Who::Unusable(psk, id) => (Some(psk), Some(id), None),
        Who::Device(psk, device) => (Some(psk), Some(device.id()), Some(device)),
    };
    let entry = device.map(|device| device.entry());
    write(
        out,
        &DecisionLine {
            seq,
            at,
            event: "decision",
            request: &decision.request,
            outcome: match decision.refusal {
                None if decision.abandoned => "abandoned",
                None => "admitted",
                Some(_) => "refused",
            },
            code: decision.refusal.map(Refusal::code),
            status: decision.refusal.map(Refusal::status),
            device: id,
            psk: psk.map(PskDigest::short),
            generation: entry.map(|entry| entry.record.generation),
            policy: entry.map(|entry| entry.record.policy.as_str()),
            revision: entry.map(|entry| entry.policy.revision),
            method: decision.method.as_str(),
            path: &decision.path,
            model: decision.model.as_deref(),
            proof: decision.proof,
            peer: decision.peer,
            why: &decision.why,
            failed: decision
                .failed
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok()),
            prompt: decision.prompt.as_ref().map(|(text, _)| text.as_str()),
            prompt_cut: decision.prompt.as_ref().is_some_and(|(_, whole)| !whole),
        },
    );
}
