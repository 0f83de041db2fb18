//! The headers of the contract, and how bytes travel in one.
//!
//! Owns: the names, and RFC 8941 byte sequences (`:b64:`, section 3.3.5), read strictly: exactly the text that
//! [`bytes`] writes, with no parameters and no other spelling.
//! An attacker controls every value; callers bound what they take.

use http::HeaderName;

/// The pre-shared key.
pub const PSK: HeaderName = HeaderName::from_static("x-pre-shared-key");
/// The pre-shared key of stock Anthropic clients.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// TPMS_ATTEST, as bytes.
pub const QUOTE: HeaderName = HeaderName::from_static("tpm-quote");
/// TPMT_SIGNATURE, as bytes.
pub const QUOTE_SIGNATURE: HeaderName = HeaderName::from_static("tpm-quote-signature");
/// The PCR values concatenated in ascending index, as bytes.
pub const QUOTE_PCRS: HeaderName = HeaderName::from_static("tpm-quote-pcrs");
/// The nonce that the quote answers, as bytes.
pub const QUOTE_NONCE: HeaderName = HeaderName::from_static("tpm-quote-nonce");
/// The session token.
pub const SESSION: HeaderName = HeaderName::from_static("attestation-session");
/// A new nonce in a refusal, as bytes.
pub const CHALLENGE: HeaderName = HeaderName::from_static("attestation-challenge");
/// RFC 9530.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// RFC 9421, section 4.1.
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// RFC 9421, section 4.2.
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");

/// Where a client gets a nonce: `GET`.
pub const CHALLENGE_PATH: &str = "/attest/v1/challenge";
/// Where a client opens a session: `POST`.
pub const SESSION_PATH: &str = "/attest/v1/session";

/// Why a header value is not a byte sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a byte sequence of RFC 8941: `:`, padded base64, `:`, and nothing else")]
pub struct NotBytes;

/// Writes a byte sequence: `:b64:`.
#[must_use]
pub fn bytes(value: &[u8]) -> String {
    let mut text = String::from(":");
    data_encoding::BASE64.encode_append(value, &mut text);
    text.push(':');
    text
}

/// Reads what [`bytes`] writes.
///
/// # Errors
/// Anything else: another type of item, parameters, spaces, base64 in another spelling.
pub fn parse_bytes(value: &[u8]) -> Result<Vec<u8>, NotBytes> {
    value
        .strip_prefix(b":")
        .and_then(|rest| rest.strip_suffix(b":"))
        .and_then(domain::encoding::b64::decode)
        .ok_or(NotBytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_one_spelling_is_read() {
        assert_eq!(bytes(b"abc"), ":YWJj:");
        assert_eq!(parse_bytes(b":YWJj:"), Ok(b"abc".to_vec()));
        assert_eq!(parse_bytes(b"::"), Ok(Vec::new()));
        for bad in [
            &b""[..],
            b":",
            b"YWJj",
            b" :YWJj:",
            b":YWJj: ",
            b":YWJj:;a",
            b":YWJj:, :YWJj:",
            b":YWI:",
            b":YW I=:",
            b":YWJ=:",
            b":YQ==YQ==:",
            b":YW-_:",
            b"\"abc\"",
            b"abc",
            b"1",
            b"?1",
            b":YWJj",
            b"\xff",
        ] {
            assert_eq!(parse_bytes(bad), Err(NotBytes), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_round_trip(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(parse_bytes(bytes(&value).as_bytes()), Ok(value));
        }

        #[test]
        fn what_is_read_is_what_is_written(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = parse_bytes(&text) {
                prop_assert_eq!(bytes(&value).into_bytes(), text);
            }
        }
    }
}
