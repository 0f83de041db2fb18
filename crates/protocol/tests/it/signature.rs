//! Request signatures: one profile is accepted, and every way of leaving it is refused for its own reason.
use data_encoding::BASE64;
use domain::{Sha256Digest, UnixTime};
use proptest::prelude::*;
use protocol::{
    Refusal,
    signature::{
        KeyError, MAX_HEADER_LEN, RequestParts, SessionKey, SignatureError, SignatureHeaders, SignedHeaders,
        sign, signature_base, verify, verify_head,
    },
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

type Change = fn(&mut SignedHeaders);

const SEED: [u8; 32] = [7; 32];
const NONCE: [u8; 16] = *b"0123456789abcdef";
const COMPONENTS: &str = r#"("@method" "@path" "@query" "content-digest" "attestation-session")"#;
const GOOD_PARAMS: &str = r#";created=1000;nonce="MDEyMzQ1Njc4OWFiY2RlZg==";alg="ed25519";tag="signalbox""#;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(seconds)
}

fn key() -> SessionKey {
    SessionKey::from_seed(&Zeroizing::new(SEED))
}

fn body() -> Sha256Digest {
    Sha256Digest::of(b"{}")
}

fn request(body: &Sha256Digest) -> RequestParts<'_> {
    RequestParts {
        method: "POST",
        path: "/api/chat",
        query: None,
        body_digest: body,
        session: "k1.token",
    }
}

fn good() -> SignedHeaders {
    sign(&key(), &request(&body()), at(1000), NONCE)
}

fn check(headers: &SignedHeaders, now: u64) -> Result<(), SignatureError> {
    verify(
        &key().public_key(),
        &request(&body()),
        &headers.as_headers(),
        at(now),
    )
    .map(|_| ())
}

/// Signs as the session's own client would, but with these components and parameters, base and all.
fn signed_with(components: &str, params: &str) -> SignedHeaders {
    let base = signature_base(&request(&body()), at(1000), &NONCE);
    let lines: Vec<&str> = base.lines().collect();
    let base = format!(
        "{}\n\"@signature-params\": {components}{params}",
        lines[..5].join("\n")
    );
    let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap();
    SignedHeaders {
        signature_input: format!("sbx={components}{params}"),
        signature: format!("sbx=:{}:", BASE64.encode(pair.sign(base.as_bytes()).as_ref())),
        content_digest: good().content_digest,
    }
}

#[test]
fn what_the_client_signs_the_proxy_accepts() {
    let body = body();
    let headers = good();
    let found = verify(
        &key().public_key(),
        &request(&body),
        &headers.as_headers(),
        at(1000),
    )
    .unwrap();
    assert_eq!(found.nonce(), &NONCE);
    assert_eq!(found.created(), at(1000));
    assert_eq!(found.public_key(), &key().public_key());
    assert_eq!(check(&signed_with(COMPONENTS, GOOD_PARAMS), 1000), Ok(()));
}

#[test]
fn parameters_may_stand_in_any_order_as_rfc_9421_has_it() {
    let params = r#";tag="signalbox";alg="ed25519";nonce="MDEyMzQ1Njc4OWFiY2RlZg==";created=1000"#;
    assert_eq!(check(&signed_with(COMPONENTS, params), 1000), Ok(()));
}

#[test]
fn the_clock_may_differ_by_thirty_seconds() {
    for now in [970, 1000, 1030] {
        assert_eq!(check(&good(), now), Ok(()), "{now}");
    }
    for now in [969, 1031] {
        let refused = SignatureError::Created {
            created: at(1000),
            now: at(now),
        };
        assert_eq!(check(&good(), now), Err(refused));
    }
}

#[test]
fn an_empty_query_signs_like_none_and_another_does_not() {
    let body = body();
    let headers = good();
    let with = |query| {
        let request = RequestParts {
            query,
            ..request(&body)
        };
        verify(&key().public_key(), &request, &headers.as_headers(), at(1000)).map(|_| ())
    };
    assert_eq!(with(Some("")), Ok(()));
    assert_eq!(with(Some("a=1")), Err(SignatureError::Forged));
}

#[test]
fn every_signed_part_counts() {
    let (body, other) = (body(), Sha256Digest::of(b"{ }"));
    let good_request = request(&body);
    let headers = good();
    let changed = [
        RequestParts {
            method: "GET",
            ..good_request
        },
        RequestParts {
            path: "/api/generate",
            ..good_request
        },
        RequestParts {
            query: Some("x"),
            ..good_request
        },
        RequestParts {
            session: "k1.other",
            ..good_request
        },
    ];
    for request in changed {
        let refused = verify(&key().public_key(), &request, &headers.as_headers(), at(1000)).unwrap_err();
        assert_eq!(refused, SignatureError::Forged);
    }
    let other_body = RequestParts {
        body_digest: &other,
        ..good_request
    };
    let refused = verify(&key().public_key(), &other_body, &headers.as_headers(), at(1000)).unwrap_err();
    assert_eq!(refused, SignatureError::Body);
}

#[test]
fn the_head_is_judged_before_the_body_is_there() {
    let body = body();
    let headers = good();
    let head = || {
        verify_head(
            &key().public_key(),
            &request(&body).head(),
            &headers.as_headers(),
            at(1000),
        )
        .unwrap()
    };
    assert!(head().with_body(&body).is_ok());
    assert_eq!(
        head().with_body(&Sha256Digest::of(b"")),
        Err(SignatureError::Body)
    );
}

#[test]
fn another_key_signs_nothing_here() {
    let other = SessionKey::from_seed(&Zeroizing::new([8; 32])).public_key();
    let refused = verify(&other, &request(&body()), &good().as_headers(), at(1000)).unwrap_err();
    assert_eq!(refused, SignatureError::Forged);
}

#[test]
fn a_small_order_key_signs_nothing_at_all() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut zero_s = [0; 64];
    zero_s[0] = 1;
    let headers = SignedHeaders {
        signature: format!("sbx=:{}:", BASE64.encode(&zero_s)),
        ..good()
    };
    let refused = verify(&identity, &request(&body()), &headers.as_headers(), at(1000)).unwrap_err();
    assert_eq!(refused, SignatureError::Key(KeyError::SmallOrder));
}

/// S + L instead of S (RFC 8032, section 5.1.7): the same signature in a second spelling.
#[test]
fn a_malleated_signature_is_refused() {
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let headers = good();
    let text = headers
        .signature
        .strip_prefix("sbx=:")
        .unwrap()
        .strip_suffix(':')
        .unwrap();
    let mut signature = BASE64.decode(text.as_bytes()).unwrap();
    let mut carry = 0_u16;
    for (byte, add) in signature[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    let headers = SignedHeaders {
        signature: format!("sbx=:{}:", BASE64.encode(&signature)),
        ..headers
    };
    assert_eq!(check(&headers, 1000), Err(SignatureError::Forged));
}

#[test]
fn other_components_are_refused_though_they_are_rightly_signed() {
    for components in [
        r#"()"#,
        r#"("@method" "@path" "@query" "content-digest")"#,
        r#"("@path" "@method" "@query" "content-digest" "attestation-session")"#,
        r#"("@method" "@path" "@query" "content-digest" "attestation-session" "@authority")"#,
        r#"("@method" "@path" "@query" "content-digest" "attestation-session";sf)"#,
        r#"("@method";req "@path" "@query" "content-digest" "attestation-session")"#,
        r#"(@method "@path" "@query" "content-digest" "attestation-session")"#,
        r#"("@method" "@path" "@query" "content-digest" "x-other")"#,
    ] {
        let refused = check(&signed_with(components, GOOD_PARAMS), 1000).unwrap_err();
        // A token `@method` is not even a structured field.
        let expected = if components.starts_with("(@") {
            SignatureError::Syntax("signature-input")
        } else {
            SignatureError::Components
        };
        assert_eq!(refused, expected, "{components}");
    }
}

#[test]
fn other_parameters_are_refused_though_they_are_rightly_signed() {
    let nonce = r#"nonce="MDEyMzQ1Njc4OWFiY2RlZg==""#;
    for params in [
        String::new(),
        format!(r#";{nonce};alg="ed25519";tag="signalbox""#),
        r#";created=1000;alg="ed25519";tag="signalbox""#.to_owned(),
        format!(r#";created=1000;{nonce};tag="signalbox""#),
        format!(r#";created=1000;{nonce};alg="ed25519""#),
        format!(r#"{GOOD_PARAMS};keyid="k""#),
        format!(r#"{GOOD_PARAMS};expires=2000"#),
        GOOD_PARAMS.replace("ed25519", "hmac-sha256"),
        GOOD_PARAMS.replace("signalbox", "other"),
        GOOD_PARAMS.replace(r#""ed25519""#, "ed25519"),
        GOOD_PARAMS.replace("created=1000", "created=-1000"),
        GOOD_PARAMS.replace("created=1000", "created=1000.0"),
        GOOD_PARAMS.replace("created=1000", "created=@1000"),
        GOOD_PARAMS.replace("created=1000", r#"created="1000""#),
        GOOD_PARAMS.replace("MDEyMzQ1Njc4OWFiY2RlZg==", "MDEyMzQ1Njc4OWFiY2Rl"),
        GOOD_PARAMS.replace("MDEyMzQ1Njc4OWFiY2RlZg==", "MDEyMzQ1Njc4OWFiY2RlZh=="),
        GOOD_PARAMS.replace("\"MDEyMzQ1Njc4OWFiY2RlZg==\"", ":MDEyMzQ1Njc4OWFiY2RlZg==:"),
    ] {
        let refused = check(&signed_with(COMPONENTS, &params), 1000).unwrap_err();
        assert_eq!(refused, SignatureError::Parameters, "{params}");
        assert_eq!(Refusal::from(refused), Refusal::SignatureInvalid);
    }
}

#[test]
fn second_spellings_are_refused_though_they_are_rightly_signed() {
    for (components, params) in [
        (COMPONENTS.replace(' ', "  "), GOOD_PARAMS.to_owned()),
        (COMPONENTS.replace('(', "( "), GOOD_PARAMS.to_owned()),
        (COMPONENTS.to_owned(), GOOD_PARAMS.replace(';', "; ")),
        (COMPONENTS.to_owned(), GOOD_PARAMS.replace("1000", "01000")),
        (COMPONENTS.to_owned(), format!("{GOOD_PARAMS};created=1000")),
        (COMPONENTS.to_owned(), format!("{GOOD_PARAMS} ")),
    ] {
        let refused = check(&signed_with(&components, &params), 1000).unwrap_err();
        assert_eq!(
            refused,
            SignatureError::Syntax("signature-input"),
            "{components}{params}"
        );
        assert_eq!(Refusal::from(refused), Refusal::RequestMalformed);
    }
}

#[test]
fn exactly_one_signature_with_our_label() {
    let cases: [(&str, Change, SignatureError); 9] = [
        (
            "another label",
            |h| h.signature_input = h.signature_input.replace("sbx=", "sig="),
            SignatureError::Label("signature-input"),
        ),
        (
            "another label",
            |h| h.signature = h.signature.replace("sbx=", "sig="),
            SignatureError::Label("signature"),
        ),
        (
            "two",
            |h| {
                h.signature_input = format!(
                    "{0}, {1}",
                    h.signature_input,
                    h.signature_input.replace("sbx=", "b=")
                );
            },
            SignatureError::Label("signature-input"),
        ),
        (
            "two",
            |h| h.signature = format!("{}, b=:AA==:", h.signature),
            SignatureError::Label("signature"),
        ),
        (
            "the label twice",
            |h| h.signature = format!("{0}, {0}", h.signature),
            SignatureError::Syntax("signature"),
        ),
        (
            "an item",
            |h| h.signature_input = "sbx=1".to_owned(),
            SignatureError::Label("signature-input"),
        ),
        (
            "a text",
            |h| h.signature = "sbx=\"x\"".to_owned(),
            SignatureError::Label("signature"),
        ),
        (
            "a list",
            |h| h.signature = "sbx=(:AA==:)".to_owned(),
            SignatureError::Label("signature"),
        ),
        (
            "parameters",
            |h| h.signature.push_str(";a"),
            SignatureError::Label("signature"),
        ),
    ];
    for (what, change, expected) in cases {
        let mut headers = good();
        change(&mut headers);
        assert_eq!(check(&headers, 1000), Err(expected), "{what}");
    }
}

#[test]
fn content_digest_is_one_sha_256() {
    let good_digest = good().content_digest;
    for (digest, expected) in [
        (String::new(), SignatureError::Syntax("content-digest")),
        ("sha-512=:AA==:".to_owned(), SignatureError::Digest),
        ("sha-256=:AA==:".to_owned(), SignatureError::Digest),
        (format!("{good_digest}, sha-512=:AA==:"), SignatureError::Digest),
        (format!("{good_digest};q"), SignatureError::Digest),
        ("sha-256".to_owned(), SignatureError::Digest),
        (
            format!("{good_digest}, {good_digest}"),
            SignatureError::Syntax("content-digest"),
        ),
        (
            format!("{good_digest} "),
            SignatureError::Syntax("content-digest"),
        ),
        (
            good_digest.replace("sha-256", "SHA-256"),
            SignatureError::Syntax("content-digest"),
        ),
        (
            good_digest.replace("=:", ""),
            SignatureError::Syntax("content-digest"),
        ),
        (
            format!("a=\"{}\"", "x".repeat(MAX_HEADER_LEN)),
            SignatureError::Syntax("content-digest"),
        ),
    ] {
        let headers = SignedHeaders {
            content_digest: digest.clone(),
            ..good()
        };
        assert_eq!(check(&headers, 1000), Err(expected), "{digest}");
    }
    // A digest of another body, rightly spelled, is no longer what was signed.
    let other = sign(&key(), &request(&Sha256Digest::of(b"x")), at(1000), NONCE).content_digest;
    let headers = SignedHeaders {
        content_digest: other,
        ..good()
    };
    assert_eq!(check(&headers, 1000), Err(SignatureError::Forged));
}

#[test]
fn signatures_of_other_lengths_are_refused() {
    for len in [0, 63, 65] {
        let headers = SignedHeaders {
            signature: format!("sbx=:{}:", BASE64.encode(&vec![1; len])),
            ..good()
        };
        assert_eq!(check(&headers, 1000), Err(SignatureError::Forged));
    }
}

#[test]
fn the_test_signs_as_the_crate_does() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap();
    assert_eq!(pair.public_key().as_ref(), key().public_key());
    assert_eq!(signed_with(COMPONENTS, GOOD_PARAMS), good());
}

proptest! {
    #[test]
    fn every_request_round_trips(
        method in "[A-Z]{1,7}",
        path in "/[!-~&&[^?#]]{0,40}",
        query in proptest::option::of("[!-~&&[^#]]{0,40}"),
        session in "[!-~]{1,80}",
        body in proptest::collection::vec(any::<u8>(), 0..100),
        created in 0_u64..1 << 40,
        nonce in any::<[u8; 16]>(),
        seed in any::<[u8; 32]>(),
    ) {
        let digest = Sha256Digest::of(&body);
        let request = RequestParts { method: &method, path: &path, query: query.as_deref(), body_digest: &digest, session: &session };
        let key = SessionKey::from_seed(&Zeroizing::new(seed));
        let headers = sign(&key, &request, at(created), nonce);
        let found = verify(&key.public_key(), &request, &headers.as_headers(), at(created)).unwrap();
        prop_assert_eq!(found.nonce(), &nonce);
    }

    #[test]
    fn no_changed_byte_is_accepted(which in 0_usize..3, place in 0_usize..400, new in "[ -~]") {
        let mut headers = good();
        let text = match which {
            0 => &mut headers.content_digest,
            1 => &mut headers.signature_input,
            _ => &mut headers.signature,
        };
        let place = place % text.len();
        text.replace_range(place..=place, &new);
        if headers != good() {
            prop_assert!(check(&headers, 1000).is_err());
        }
    }

    #[test]
    fn no_text_panics(digest in ".{0,60}", input in ".{0,200}", signature in ".{0,100}") {
        let headers = SignatureHeaders { content_digest: &digest, signature_input: &input, signature: &signature };
        prop_assert!(verify(&key().public_key(), &request(&body()), &headers, at(1000)).is_err());
    }
}
