//! What the audit log says: one JSON object per line.
//!
//! Owns: the fields and their order. `open` begins a chain's part, `decision` is one per request, `end` follows when the answer to an
//! admitted one is over, `lost` tells how many could not be written, `close` ends a file in order.
//! A decision and an end are written where they fall, up to their number: that, and the chain, are the writer's.
//! Refuses: to hold a PSK or a token; of a PSK there are the first digits of its digest. Of a prompt there is nothing, unless the
//! operator asked for it, and then it is bounded. What a stranger controls is JSON text, cut before it comes here.

use std::net::IpAddr;

use http::Method;
use protocol::Refusal;

use crate::{
    account::{ProofKind, RequestNumber},
    clock::Moment,
    gate::Who,
    line::{self, Fields as _, Fraction, Json, key},
    verdict::Verdict,
};

/// Something that is written down.
#[derive(Debug)]
pub enum What<'a> {
    /// A request was decided.
    Decision(Decision<'a>),
    /// The answer to an admitted request is over.
    End(End),
}

/// A decided request.
#[derive(Debug)]
pub struct Decision<'a> {
    /// The same in its end, and in the access log.
    pub request: RequestNumber,
    /// `None`: admitted.
    pub refusal: Option<Refusal>,
    /// Whose it was.
    pub who: &'a Who,
    /// For a refusal, the sentence of the operator's log.
    pub why: &'a str,
    /// Every failed check of evidence.
    pub failed: Option<&'a Verdict>,
    /// The method, cut.
    pub method: &'a Method,
    /// The path, cut and escaped.
    pub path: &'a str,
    /// The model that was asked for.
    pub model: Option<&'a str>,
    /// What was shown beside the PSK.
    pub proof: ProofKind,
    /// From where the request came.
    pub peer: Option<IpAddr>,
    /// The body's text, where the operator asked for it: its first bytes, and whether that is all.
    pub prompt: Option<(&'a str, bool)>,
    /// The client left before anything was decided.
    pub abandoned: bool,
}

/// The end of an answer.
#[derive(Debug)]
pub struct End {
    /// As in the decision.
    pub request: RequestNumber,
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
#[derive(Debug)]
pub(super) struct Open<'a> {
    pub(super) fleet: &'a str,
    pub(super) key: &'a str,
    /// The hash that it follows.
    pub(super) previous: &'a str,
    /// Bytes of a line that a crash had cut off, and that were taken away.
    pub(super) torn: Option<u64>,
}

/// Begins a line: an object without its closing brace, to which its fields are appended.
pub(super) fn number(out: &mut Vec<u8>, seq: u64) {
    out.extend_from_slice(b"{\"seq\":");
    line::decimal(out, seq);
}

fn begin<'a>(out: &'a mut Vec<u8>, at: Moment, event: &str) -> Json<'a> {
    let mut line = Json(out);
    line.time(key!("at"), at, Fraction::Millis);
    line.word(key!("event"), event);
    line
}

pub(super) fn write_open(out: &mut Vec<u8>, at: Moment, open: &Open<'_>) {
    let mut line = begin(out, at, "open");
    line.number(key!("version"), 1);
    line.text(key!("fleet"), open.fleet);
    line.text(key!("key"), open.key);
    line.word(key!("previous"), open.previous);
    if let Some(torn) = open.torn {
        line.number(key!("torn"), torn);
    }
}

/// So many lines were not written.
pub(super) fn write_lost(out: &mut Vec<u8>, at: Moment, lost: u64) {
    begin(out, at, "lost").number(key!("lost"), lost);
}

pub(super) fn write_close(out: &mut Vec<u8>, at: Moment) {
    begin(out, at, "close");
}

/// Appends the fields of a line that come after its number.
pub(super) fn write(out: &mut Vec<u8>, at: Moment, what: &What<'_>) {
    match what {
        What::Decision(decision) => write_decision(begin(out, at, "decision"), decision),
        What::End(end) => write_end(begin(out, at, "end"), end),
    }
}

fn write_end(mut line: Json<'_>, end: &End) {
    line.word(key!("request"), end.request.text().as_str());
    line.number(key!("status"), end.status.into());
    if let Some(code) = end.code {
        line.word(key!("code"), code);
    }
    line.flag(key!("complete"), end.complete);
    line.number(key!("bytes"), end.bytes);
    line.number(key!("millis"), end.took);
    if let Some((prompt, output)) = end.tokens {
        line.number(key!("prompt_tokens"), prompt);
        line.number(key!("output_tokens"), output);
    }
}

fn write_decision(mut line: Json<'_>, decision: &Decision<'_>) {
    let (psk, id, device) = match decision.who {
        Who::Nobody => (None, None, None),
        Who::Key(psk) => (Some(psk), None, None),
        Who::Unusable(psk, id) => (Some(psk), Some(id), None),
        Who::Device(psk, device) => (Some(psk), Some(device.id()), Some(device)),
    };
    line.word(key!("request"), decision.request.text().as_str());
    line.word(
        key!("outcome"),
        match decision.refusal {
            None if decision.abandoned => "abandoned",
            None => "admitted",
            Some(_) => "refused",
        },
    );
    if let Some(refusal) = decision.refusal {
        line.word(key!("code"), refusal.code());
        line.number(key!("status"), refusal.status().into());
    }
    if let Some(id) = id {
        line.text(key!("device"), id.as_str());
    }
    if let Some(psk) = psk {
        line.digest(key!("psk"), psk);
    }
    if let Some(entry) = device.map(|device| device.entry()) {
        line.number(key!("generation"), entry.record.generation);
        line.text(key!("policy"), entry.record.policy.as_str());
        line.number(key!("revision"), entry.policy.revision);
    }
    line.text(key!("method"), decision.method.as_str());
    line.text(key!("path"), decision.path);
    if let Some(model) = decision.model {
        line.text(key!("model"), model);
    }
    line.word(key!("proof"), decision.proof.name());
    if let Some(peer) = decision.peer {
        line.address(key!("peer"), peer);
    }
    if !decision.why.is_empty() {
        line.text(key!("why"), decision.why);
    }
    if let Some(failed) = decision.failed {
        line.json(key!("failed"), &failed.to_json());
    }
    if let Some((prompt, whole)) = decision.prompt {
        line.text(key!("prompt"), prompt);
        if !whole {
            line.flag(key!("prompt_cut"), true);
        }
    }
}
