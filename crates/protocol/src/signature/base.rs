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
    let [method, path, query, digest, session] = COMPONENTS;
    format!(
        "\"{method}\": {}\n\"{path}\": {}\n\"{query}\": ?{}\n\"{digest}\": {content_digest}\n\"{session}\": {}\n\"@signature-params\": {params}",
        head.method,
        head.path,
        head.query.unwrap_or_default(),
        head.session,
    )
}
