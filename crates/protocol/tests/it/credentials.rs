//! Credentials: three sets of headers are a way to ask; every other set is refused for its own reason.
use domain::PskDigest;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use protocol::{
    Refusal,
    credentials::{CredentialsError, MAX_VALUE_LEN, Presented, QuoteHeaders, STRIPPED, read},
    headers,
};

const PSK: &str = "sbx_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const QUOTE: &[(&str, &str)] = &[
    ("tpm-quote", ":AQ==:"),
    ("tpm-quote-signature", ":Ag==:"),
    ("tpm-quote-pcrs", ":Aw==:"),
    ("tpm-quote-nonce", ":BA==:"),
];
const SESSION: &[(&str, &str)] = &[
    ("attestation-session", "k1.token"),
    ("content-digest", "sha-256=:AA==:"),
    ("signature-input", "sbx=()"),
    ("signature", "sbx=:AA==:"),
];

fn map(fields: &[&[(&str, &str)]]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().copied().flatten() {
        map.append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    map
}

fn psk() -> (&'static str, &'static str) {
    ("x-pre-shared-key", PSK)
}

fn refused(fields: &[&[(&str, &str)]]) -> CredentialsError {
    read(&map(fields)).unwrap_err()
}

#[test]
fn the_key_may_stand_in_three_places() {
    let bearer = format!("Bearer {PSK}");
    let lower = format!("bearer {PSK}");
    for fields in [
        &[psk()][..],
        &[("x-api-key", PSK)],
        &[("authorization", &bearer)],
        &[("authorization", &lower)],
        &[psk(), ("x-api-key", PSK), ("authorization", &bearer)],
    ] {
        let map = map(&[fields]);
        let found = read(&map).unwrap();
        assert_eq!(found.psk, PskDigest::of(PSK.as_bytes()));
        assert_eq!(found.presented, Presented::PskOnly);
    }
}

#[test]
fn a_quote_is_all_four_headers() {
    let map = map(&[&[psk()], QUOTE]);
    let expected = Presented::Quote(QuoteHeaders {
        quote: vec![1],
        signature: vec![2],
        pcrs: vec![3],
        nonce: vec![4],
    });
    assert_eq!(read(&map).unwrap().presented, expected);
}

#[test]
fn a_session_is_all_four_headers() {
    let map = map(&[&[psk()], SESSION]);
    let expected = Presented::Session {
        token: "k1.token",
        content_digest: "sha-256=:AA==:",
        signature_input: "sbx=()",
        signature: "sbx=:AA==:",
    };
    assert_eq!(read(&map).unwrap().presented, expected);
}

#[test]
fn no_key_is_its_own_refusal() {
    for fields in [
        &[][..],
        &[("x-pre-shared-key", "")],
        &[("authorization", "Bearer ")],
    ] {
        let error = refused(&[fields]);
        assert_eq!(error, CredentialsError::PskMissing);
        assert_eq!(Refusal::from(error), Refusal::PskMissing);
    }
    assert_eq!(refused(&[QUOTE]), CredentialsError::PskMissing);
    assert_eq!(refused(&[SESSION]), CredentialsError::PskMissing);
}

#[test]
fn an_impossible_key_is_refused_like_an_unknown_one() {
    for text in ["a b", "a\tb", &"x".repeat(257)] {
        let error = refused(&[&[("x-pre-shared-key", text)]]);
        assert_eq!(error, CredentialsError::PskImpossible);
        assert_eq!(Refusal::from(error), Refusal::PskUnknown);
    }
    let mut map = HeaderMap::new();
    map.insert(headers::PSK, HeaderValue::from_bytes(b"caf\xc3\xa9").unwrap());
    assert_eq!(read(&map).unwrap_err(), CredentialsError::PskImpossible);
}

#[test]
fn two_keys_are_malformed() {
    let other = "x".repeat(40);
    let bearer = format!("Bearer {other}");
    for second in [("x-api-key", other.as_str()), ("authorization", bearer.as_str())] {
        let error = refused(&[&[psk(), second]]);
        assert_eq!(error, CredentialsError::TwoPsks);
        assert_eq!(Refusal::from(error), Refusal::RequestMalformed);
    }
}

#[test]
fn another_scheme_is_malformed() {
    for value in [
        "Basic dXNlcjpwYXNz",
        "Bearer",
        PSK,
        "Bearer  doublespace",
        "Bearér x",
        "",
    ] {
        let mut map = map(&[&[psk()]]);
        map.insert(
            "authorization",
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
        let error = read(&map).unwrap_err();
        assert_eq!(error, CredentialsError::NotBearer, "{value}");
        assert_eq!(Refusal::from(error), Refusal::RequestMalformed);
    }
}

#[test]
fn any_field_twice_is_malformed() {
    let all = [
        &[psk()][..],
        QUOTE,
        SESSION,
        &[("authorization", "Bearer x"), ("x-api-key", PSK)],
    ]
    .concat();
    for field in all {
        let fields = [vec![psk()], vec![field, field]].concat();
        let error = refused(&[&fields]);
        assert_eq!(
            error,
            CredentialsError::Repeated(HeaderName::try_from(field.0).unwrap())
        );
        assert_eq!(Refusal::from(error), Refusal::RequestMalformed);
    }
}

#[test]
fn half_a_set_is_malformed() {
    for full in [QUOTE, SESSION] {
        for without in full {
            let half: Vec<_> = full.iter().filter(|f| f != &without).copied().collect();
            let error = refused(&[&[psk()], &half]);
            let missing = HeaderName::try_from(without.0).unwrap();
            assert_eq!(error, CredentialsError::Half { missing });
            assert_eq!(Refusal::from(error), Refusal::RequestMalformed);
            assert!(matches!(
                refused(&[&[psk(), *without]]),
                CredentialsError::Half { .. }
            ));
        }
    }
}

#[test]
fn a_session_beside_a_quote_is_malformed() {
    let error = refused(&[&[psk()], QUOTE, SESSION]);
    assert_eq!(error, CredentialsError::Both);
    assert_eq!(Refusal::from(error), Refusal::RequestMalformed);
}

#[test]
fn underscore_twins_are_malformed() {
    for ours in &STRIPPED {
        if !ours.as_str().contains('-') {
            continue;
        }
        let twin = ours.as_str().replacen('-', "_", 1);
        let error = refused(&[&[psk(), (&twin, PSK)]]);
        assert_eq!(error, CredentialsError::Twin(HeaderName::try_from(twin).unwrap()));
        assert_eq!(Refusal::from(error), Refusal::RequestMalformed);
    }
    assert!(read(&map(&[&[psk(), ("x_other_header", "fine")]])).is_ok());
}

#[test]
fn values_are_what_their_header_carries() {
    let long = headers::bytes(&[0; MAX_VALUE_LEN]);
    for (place, value) in [(0, "AQ=="), (1, ":AQ=:"), (2, "1"), (3, long.as_str())] {
        let mut fields = QUOTE.to_vec();
        fields[place].1 = value;
        let error = refused(&[&[psk()], &fields]);
        assert_eq!(
            error,
            CredentialsError::Value(HeaderName::try_from(fields[place].0).unwrap())
        );
        assert_eq!(Refusal::from(error), Refusal::RequestMalformed);
    }
    let long = "x".repeat(MAX_VALUE_LEN + 1);
    for value in ["a\tb", long.as_str()] {
        let mut fields = SESSION.to_vec();
        fields[0].1 = value;
        assert_eq!(
            refused(&[&[psk()], &fields]),
            CredentialsError::Value(headers::SESSION)
        );
    }
    let mut map = map(&[&[psk()], SESSION]);
    map.insert(headers::SIGNATURE, HeaderValue::from_bytes(b"\xff").unwrap());
    assert_eq!(
        read(&map).unwrap_err(),
        CredentialsError::Value(headers::SIGNATURE)
    );
}

#[test]
fn errors_do_not_show_the_key() {
    let secret = format!("{PSK} x");
    for error in [
        refused(&[&[("x-pre-shared-key", &secret)]]),
        refused(&[&[psk(), ("x-api-key", "other")]]),
        refused(&[&[("authorization", PSK)]]),
    ] {
        assert!(!format!("{error} {error:?}").contains(PSK));
    }
}

#[test]
fn everything_that_is_read_is_stripped() {
    for (name, _) in [
        &[psk(), ("authorization", ""), ("x-api-key", "")][..],
        QUOTE,
        SESSION,
    ]
    .concat()
    {
        assert!(STRIPPED.iter().any(|s| s == name), "{name}");
    }
}

proptest! {
    #[test]
    fn any_set_of_headers_is_one_way_to_ask_or_refused(present in any::<[bool; 8]>()) {
        let all = [QUOTE, SESSION].concat();
        let chosen: Vec<_> = all.iter().zip(present).filter(|(_, p)| *p).map(|(f, _)| *f).collect();
        let map = map(&[&[psk()], &chosen]);
        let allowed = matches!(present, [false, false, false, false, false, false, false, false])
            || matches!(present, [true, true, true, true, false, false, false, false])
            || matches!(present, [false, false, false, false, true, true, true, true]);
        prop_assert_eq!(read(&map).is_ok(), allowed);
    }

    #[test]
    fn no_values_panic(values in proptest::collection::vec(proptest::collection::vec(0x20_u8..=0xff, 0..60), 12)) {
        let mut map = HeaderMap::new();
        for (name, value) in STRIPPED.iter().zip(&values) {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                map.insert(name.clone(), value);
            }
        }
        let _ = read(&map).is_ok();
    }
}
