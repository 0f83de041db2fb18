//! The texts that are signed and sent: `Content-Digest`, the signature parameters, the signature base.
//!
//! Owns: their one spelling. Both ends build the base here, from the request and from the parameters in the order in
//! which they stand in the header (RFC 9421, section 2.5). No value can hold a line break: paths and header values
//! come from an HTTP parser that refuses them.

use data_encoding::BASE64;
use domain::{Sha256Digest, UnixTime};

use super::{ALG, COMPONENTS, DIGEST_ALG, RequestHead, TAG};
use crate::headers;

/// `sha-256=:b64:` (RFC 9530, section 2).
pub(super) fn content_digest(body: &Sha256Digest) -> String {
    format!("{DIGEST_ALG}={}", headers::bytes(body.as_bytes()))
}

/// The covered components and the parameters, in the order in which this crate writes them.
pub(super) fn params(created: UnixTime, nonce: &[u8; 16]) -> String {
    let [a, b, c, d, e] = COMPONENTS;
    // An Integer (RFC 9421, 2.3); what a time displays is for people.
    let (created, nonce) = (created.as_secs(), BASE64.encode(nonce));
    format!(r#"("{a}" "{b}" "{c}" "{d}" "{e}");created={created};nonce="{nonce}";alg="{ALG}";tag="{TAG}""#)
}

/// One line per component, then the parameters.
pub(super) fn base(head: &RequestHead<'_>, content_digest: &str, params: &str) -> String {
    let query = head.query.unwrap_or_default();
    let values = [
        [head.method, ""],
        [head.path, ""],
        ["?", query],
        [content_digest, ""],
        [head.session, ""],
    ];
    // With room for the names and the marks around them.
    let room = values.as_flattened().iter().map(|text| text.len()).sum::<usize>();
    let mut base = String::with_capacity(room.saturating_add(params.len()).saturating_add(128));
    for (name, value) in COMPONENTS.iter().zip(values) {
        for text in ["\"", name, "\": "].iter().chain(&value) {
            base.push_str(text);
        }
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(params);
    base
}
