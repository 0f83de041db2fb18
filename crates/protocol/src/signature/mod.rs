//! The signature on each request of a session: RFC 9421 with one profile, RFC 9530 for the body.
//!
//! Owns: exactly one signature, label `sbx`, components exactly [`COMPONENTS`] in this order, parameters exactly
//! `created`, `nonce` (16 bytes, base64), `alg="ed25519"` and `tag="signalbox"`; `Content-Digest` with `sha-256` alone.
//! Refuses: everything else that RFC 9421 allows. Each field must be spelled as RFC 8941 serialises it, so that
//! what was parsed is all that was there: no duplicates, no second spelling of a number, no stray spaces.
//! Called by the client ([`sign`]) and the proxy ([`verify`](fn@verify)). An attacker controls every header and the
//! request that they came with; the public key is the session's, out of a token that the fleet made.

mod base;
mod key;
mod usual;
mod verify;

use domain::{Sha256Digest, UnixTime};

pub use key::{KeyError, PUBLIC_KEY_LEN, SessionKey, check_public_key};
pub use verify::{
    MAX_HEADER_LEN, MAX_SKEW, SignatureError, SignedHead, VerifiedSignature, verify, verify_head,
};

/// The one label in `Signature-Input` and `Signature`.
pub const LABEL: &str = "sbx";
/// The covered components.
pub const COMPONENTS: [&str; 5] = [
    "@method",
    "@path",
    "@query",
    "content-digest",
    "attestation-session",
];
/// The `alg` parameter.
pub const ALG: &str = "ed25519";
/// The `tag` parameter.
pub const TAG: &str = "signalbox";
/// The member of `Content-Digest`.
pub const DIGEST_ALG: &str = "sha-256";

/// What of a request's head is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// The path of the request target, verbatim.
    pub path: &'a str,
    /// What follows the `?`, verbatim; `None` and the empty text sign alike.
    pub query: Option<&'a str>,
    /// The value of `Attestation-Session`.
    pub session: &'a str,
}

/// What of a request is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestParts<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// The path of the request target, verbatim.
    pub path: &'a str,
    /// What follows the `?`, verbatim; `None` and the empty text sign alike.
    pub query: Option<&'a str>,
    /// SHA-256 over the body as it was sent or received; over nothing when there is none.
    pub body_digest: &'a Sha256Digest,
    /// The value of `Attestation-Session`.
    pub session: &'a str,
}

impl<'a> RequestParts<'a> {
    /// The same without its body.
    #[must_use]
    pub const fn head(&self) -> RequestHead<'a> {
        RequestHead {
            method: self.method,
            path: self.path,
            query: self.query,
            session: self.session,
        }
    }
}

/// The three header values of a signed request, as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureHeaders<'a> {
    /// `Content-Digest`.
    pub content_digest: &'a str,
    /// `Signature-Input`.
    pub signature_input: &'a str,
    /// `Signature`.
    pub signature: &'a str,
}

/// The three header values that [`sign`] makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeaders {
    /// `Content-Digest`.
    pub content_digest: String,
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
}

impl SignedHeaders {
    /// Borrowed, as [`verify`](fn@verify) takes them.
    #[must_use]
    pub fn as_headers(&self) -> SignatureHeaders<'_> {
        SignatureHeaders {
            content_digest: &self.content_digest,
            signature_input: &self.signature_input,
            signature: &self.signature,
        }
    }
}

/// Signs a request of a session. `nonce` is fresh for each one; `created` is the proxy's time as the client knows it.
#[must_use]
pub fn sign(
    key: &SessionKey,
    request: &RequestParts<'_>,
    created: UnixTime,
    nonce: [u8; 16],
) -> SignedHeaders {
    let content_digest = base::content_digest(request.body_digest);
    let params = base::params(created, &nonce);
    let base = base::base(&request.head(), &content_digest, &params);
    SignedHeaders {
        signature: format!("{LABEL}={}", crate::headers::bytes(&key.sign(base.as_bytes()))),
        signature_input: format!("{LABEL}={params}"),
        content_digest,
    }
}

/// The signature base (RFC 9421, section 2.5) of a request: what is signed, for test vectors and other clients.
#[must_use]
pub fn signature_base(request: &RequestParts<'_>, created: UnixTime, nonce: &[u8; 16]) -> String {
    base::base(
        &request.head(),
        &base::content_digest(request.body_digest),
        &base::params(created, nonce),
    )
}
