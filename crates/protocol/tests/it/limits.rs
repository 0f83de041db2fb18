//! The last value that a limit allows, and the first that it does not.
use domain::{FleetRoot, PskDigest, Sha256Digest, UnixTime, secret::PSK_MAX_LEN};
use http::{HeaderMap, HeaderValue};
use protocol::{
    Fields, FleetKeys, KeyRing, Subject,
    credentials::{CredentialsError, read},
    headers, nonce,
    replay::Seen,
    signature::{RequestParts, SessionKey, SignatureError, SignatureHeaders, sign, verify},
    token::{MAX_LEN, OpenError, open},
};
use zeroize::Zeroizing;

fn keys() -> KeyRing {
    let root = FleetRoot::copy_from(&[1; 32]).unwrap();
    KeyRing::new(FleetKeys::derive("k1".parse().unwrap(), &root), None)
}

#[test]
fn the_longest_pre_shared_key_is_read_and_no_longer_one() {
    let refused = |len: usize| {
        let mut map = HeaderMap::new();
        map.insert(headers::PSK, HeaderValue::from_str(&"p".repeat(len)).unwrap());
        read(&map).err()
    };
    assert_eq!(refused(PSK_MAX_LEN), None);
    assert_eq!(refused(PSK_MAX_LEN + 1), Some(CredentialsError::PskImpossible));
}

#[test]
fn fields_are_done_only_at_the_end() {
    let mut fields = Fields::new(b"\0\0\0\x01ab");
    assert!(!fields.is_done());
    assert_eq!(fields.field(), Some(&b"a"[..]));
    assert!(!fields.is_done(), "an octet is left");
    assert_eq!(fields.fixed(), Some(*b"b"));
    assert!(fields.is_done());
}

#[test]
fn the_longest_token_is_looked_at_and_no_longer_one() {
    let opened = |id: &str| {
        let token = format!("{id}.{}", "A".repeat(1020));
        (token.len(), open(&keys(), &token, UnixTime::from_secs(0)))
    };
    assert_eq!(opened("k99"), (MAX_LEN, Err(OpenError::UnknownKey)));
    assert_eq!(opened("k999"), (MAX_LEN + 1, Err(OpenError::Malformed)));
}

#[test]
fn a_memory_is_empty_until_something_is_accepted() {
    let now = UnixTime::from_secs(1_000);
    let subject = Subject {
        fleet: &"demo".parse().unwrap(),
        audience: &"https://llm.example".parse().unwrap(),
        device: &"kiosk-01".parse().unwrap(),
        psk: &PskDigest::of(b"psk"),
    };
    let mut seen = Seen::new(now, 1);
    assert!(seen.is_empty());
    let nonce = nonce::issue(&keys(), &subject, now, [3; 8]);
    seen.accept_nonce(&nonce, now).unwrap();
    assert!(!seen.is_empty());
}

#[test]
fn the_longest_signature_header_is_parsed_and_no_longer_one() {
    let (key, now) = (
        SessionKey::from_seed(&Zeroizing::new([5; 32])),
        UnixTime::from_secs(1_000),
    );
    let request = RequestParts {
        method: "POST",
        path: "/api/chat",
        query: None,
        body_digest: &Sha256Digest::of(b""),
        session: "k1.token",
    };
    let signed = sign(&key, &request, now, [6; 16]);
    // Canonical, and of another label: what is parsed is refused for that.
    let refused = |label: &str| {
        let signature = format!("{label}=:{}:", "A".repeat(508));
        let headers = SignatureHeaders {
            signature: &signature,
            ..signed.as_headers()
        };
        let error = verify(&key.public_key(), &request, &headers, now).unwrap_err();
        (signature.len(), error)
    };
    assert_eq!(refused("a"), (512, SignatureError::Label("signature")));
    assert_eq!(refused("ab"), (513, SignatureError::Syntax("signature")));
}
