//! The three headers as this crate's own client writes them, read without a parser for structured fields.
//!
//! Owns: a short way for the one spelling that nearly every request has. Refuses nothing: whatever is spelled otherwise (another order of
//! the parameters, say) goes to the parser, which alone tells what is wrong. What is read here the parser would read alike: a
//! property of `verify`'s tests. An attacker controls every byte.

use domain::{Sha256Digest, UnixTime, encoding::b64};

use super::{ALG, COMPONENTS, DIGEST_ALG, LABEL, MAX_HEADER_LEN, TAG};

/// The most digits of an Integer (RFC 8941, section 3.3.1).
const MAX_DIGITS: usize = 15;

/// `sha-256=:b64:`.
pub(super) fn digest(text: &str) -> Option<Sha256Digest> {
    let bytes = bytes(text.strip_prefix(DIGEST_ALG)?)?;
    bytes.try_into().ok().map(Sha256Digest::from_bytes)
}

/// `sbx=:b64:`.
pub(super) fn signature(text: &str) -> Option<Vec<u8>> {
    if text.len() > MAX_HEADER_LEN {
        return None;
    }
    bytes(text.strip_prefix(LABEL)?)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("=:")?.strip_suffix(':')?;
    b64::decode(text.as_bytes())
}

/// `sbx=(components);created=..;nonce="..";alg="ed25519";tag="signalbox"`: time, nonce, and all behind the first `=`.
pub(super) fn input(text: &str) -> Option<(UnixTime, [u8; 16], &str)> {
    let params = text.strip_prefix(LABEL)?.strip_prefix('=')?;
    let mut rest = params.strip_prefix('(')?;
    for (nth, name) in COMPONENTS.iter().enumerate() {
        if nth > 0 {
            rest = rest.strip_prefix(' ')?;
        }
        rest = rest.strip_prefix('"')?.strip_prefix(name)?.strip_prefix('"')?;
    }
    let (created, rest) = rest.strip_prefix(");created=")?.split_once(";nonce=\"")?;
    let (nonce, rest) = rest.split_once("\";alg=\"")?;
    let end = rest
        .strip_prefix(ALG)?
        .strip_prefix("\";tag=\"")?
        .strip_prefix(TAG)?;
    let nonce = b64::decode(nonce.as_bytes())?.try_into().ok()?;
    (end == "\"").then_some((seconds(created)?, nonce, params))
}

/// An Integer in its one spelling.
fn seconds(text: &str) -> Option<UnixTime> {
    let plain = text.len() <= MAX_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
    let once = text == "0" || !text.starts_with('0');
    (plain && once)
        .then(|| text.parse().ok().map(UnixTime::from_secs))
        .flatten()
}
