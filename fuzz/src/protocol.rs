//! Everything of the protocol that comes from a client.

use std::sync::LazyLock;

use data_encoding::BASE64URL_NOPAD;
use domain::{FleetRoot, Sha256Digest, UnixTime};
use http::{HeaderMap, HeaderName, HeaderValue};
use protocol::{
    FleetKeys, KeyRing, Refusal,
    credentials::{self, Presented},
    headers,
    messages::{Challenge, SessionGranted, SessionRequest},
    signature::{RequestParts, SessionKey, SignatureHeaders, sign, verify},
    token,
};
use ring::{hkdf, hmac};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

const ROOT: [u8; 32] = [0x42; 32];
const ROOT_ID: &str = "fuzz";

static KEYS: LazyLock<KeyRing> = LazyLock::new(|| {
    let root = FleetRoot::copy_from(&ROOT).expect("a root");
    KeyRing::new(FleetKeys::derive(ROOT_ID.parse().expect("an id"), &root), None)
});

/// The key that seals tokens, derived as the contract says.
static TOKEN_KEY: LazyLock<hmac::Key> = LazyLock::new(|| {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&ROOT);
    let info = [protocol::keys::TOKEN_LABEL];
    prk.expand(&info, hmac::HMAC_SHA256).expect("32 octets").into()
});

/// `:b64:`.
pub fn header_bytes(data: &[u8]) {
    if let Ok(value) = headers::parse_bytes(data) {
        assert_eq!(headers::bytes(&value).as_bytes(), data);
    }
}

/// Lines of `name: value`: what was read as a quote is what the headers say.
pub fn credentials(data: &[u8]) {
    let mut map = HeaderMap::new();
    for line in data.split(|octet| *octet == b'\n') {
        let Some(colon) = line.iter().position(|octet| *octet == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let value = value[1..].strip_prefix(b" ").unwrap_or(&value[1..]);
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            continue;
        };
        map.append(name, value);
    }
    match credentials::read(&map) {
        Ok(credentials) => {
            if let Presented::Quote(quote) = credentials.presented {
                assert_eq!(headers::bytes(&quote.quote), map[headers::QUOTE]);
                assert_eq!(headers::bytes(&quote.nonce), map[headers::QUOTE_NONCE]);
                assert!(!map.contains_key(headers::SESSION));
            }
        }
        Err(error) => assert!(matches!(
            error.into(),
            Refusal::PskMissing | Refusal::PskUnknown | Refusal::RequestMalformed
        )),
    }
}

/// A token as text, and the same bytes as claims under a true seal.
pub fn session_token(data: &[u8]) {
    let now = UnixTime::from_secs(0);
    if let Ok(text) = std::str::from_utf8(data) {
        let _refused = token::open(&KEYS, text, now);
    }
    let mut sealed = hmac::Context::with_key(&TOKEN_KEY);
    sealed.update(token::LABEL);
    sealed.update(&u32::try_from(ROOT_ID.len()).expect("short").to_be_bytes());
    sealed.update(ROOT_ID.as_bytes());
    sealed.update(data);
    let sealed = [data, sealed.sign().as_ref()].concat();
    let text = format!("{ROOT_ID}.{}", BASE64URL_NOPAD.encode(&sealed));
    match token::open(&KEYS, &text, now) {
        Ok(claims) => assert_eq!(token::mint(&KEYS, &claims), text),
        Err(error) => assert_ne!(error, token::OpenError::Forged, "the seal is true"),
    }
}

/// Three header values by lines: never a good signature, unless they are what the key signs.
pub fn request_signature(data: &[u8]) {
    let key = SessionKey::from_seed(&Zeroizing::new([7; 32]));
    let now = UnixTime::from_secs(1_700_000_000);
    let body_digest = Sha256Digest::of(b"");
    let request = RequestParts {
        method: "POST",
        path: "/api/chat",
        query: None,
        body_digest: &body_digest,
        session: "fuzz.token",
    };
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let headers = SignatureHeaders {
        content_digest: line(),
        signature_input: line(),
        signature: line(),
    };
    if let Ok(verified) = verify(&key.public_key(), &request, &headers, now) {
        let signed = sign(&key, &request, verified.created(), *verified.nonce());
        assert_eq!(signed.signature, headers.signature);
    }
}

/// The JSON bodies of both directions.
pub fn messages(data: &[u8]) {
    json::<SessionRequest>(data);
    json::<Challenge>(data);
    json::<SessionGranted>(data);
}

/// What parses is written in one spelling.
fn json<T: DeserializeOwned + Serialize>(data: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(data) {
        let text = serde_json::to_vec(&message).expect("a message");
        let again: T = serde_json::from_slice(&text).expect("what we wrote");
        assert_eq!(serde_json::to_vec(&again).expect("a message"), text);
    }
}
