//! Client certificates of devices, and what they count for: what is accepted, and what is refused where.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use manifest::{CertificateRule, CertificateSource, parse};

const DEMO: &str = include_str!("../../../manifests/examples/demo.toml");
const KEY: &str = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";

/// The demo's device with `certificate`, under a policy with `rule`.
fn with(certificate: &str, rule: &str) -> String {
    let policy = "[policies.kiosk]\n";
    assert!(DEMO.contains(policy) && DEMO.ends_with("policy = \"kiosk\"\n"));
    format!("{DEMO}{certificate}\n").replace(policy, &format!("{policy}{rule}\n"))
}

/// The messages and the text at which each points.
fn findings(text: &str) -> Vec<(String, String)> {
    let wrong = parse("fleet.toml", text).unwrap_err();
    let list = wrong.findings().iter();
    list.map(|f| (f.message.clone(), text.get(f.span.clone()).unwrap().to_owned()))
        .collect()
}

fn hint(text: &str) -> String {
    let wrong = parse("fleet.toml", text).unwrap_err();
    assert_eq!(wrong.findings().len(), 1, "{}", wrong.render());
    wrong.findings()[0].hint.clone().unwrap()
}

#[test]
fn a_certificate_is_a_file_or_a_key() {
    let of = |certificate: &str| {
        let text = with(certificate, "");
        let fleet = parse("fleet.toml", &text).unwrap();
        fleet.devices[0].client_certificate.clone().map(|named| {
            assert!(certificate.ends_with(text.get(named.span).unwrap()));
            named.source
        })
    };
    assert_eq!(of(""), None);
    assert_eq!(
        of("client-certificate = \"certs/kiosk.pem\""),
        Some(CertificateSource::File("certs/kiosk.pem".to_owned()))
    );
    let key = Some(CertificateSource::Key(KEY.parse().unwrap()));
    assert_eq!(of(&format!("client-certificate = {{ key = \"{KEY}\" }}")), key);
    let upper = KEY.to_uppercase();
    assert_eq!(of(&format!("client-certificate = {{ key = \"{upper}\" }}")), key);
}

#[test]
fn a_policy_says_what_certificates_count_for() {
    let of = |rule: &str| {
        let certificate = "client-certificate = \"kiosk.pem\"";
        let fleet = parse("fleet.toml", &with(certificate, rule)).unwrap();
        fleet.policies.values().next().unwrap().client_certificate
    };
    assert_eq!(of(""), None);
    assert_eq!(of("client-certificate = \"never\""), None);
    assert_eq!(
        of("client-certificate = \"accepted\""),
        Some(CertificateRule::Accepted)
    );
    assert_eq!(
        of("client-certificate = \"required\""),
        Some(CertificateRule::Required)
    );
    let wrong = with("", "client-certificate = \"acepted\"");
    assert_eq!(hint(&wrong), "did you mean `accepted`?");
    assert_eq!(
        findings(&with("", "client-certificate = true")),
        [("expected a string, found a boolean".to_owned(), "true".to_owned())]
    );
}

#[test]
fn what_is_no_certificate_is_told_where_it_stands() {
    let print = "AB:CD:EF";
    let cases = [
        (format!("\"{KEY}\""), "this is a digest, and a file is named here"),
        (
            format!("\"{print}\""),
            "this is the fingerprint of a certificate, and the registry knows its key",
        ),
        ("\"\"".to_owned(), "\"\" is not the path of a file"),
        ("\"certs/\"".to_owned(), "\"certs/\" is not the path of a file"),
        ("7".to_owned(), "expected a string or a table, found an integer"),
        ("{}".to_owned(), "`key` is missing here"),
    ];
    for (value, message) in cases {
        let text = with(&format!("client-certificate = {value}"), "");
        assert_eq!(findings(&text), [(message.to_owned(), value)]);
    }
    let in_table = |key: &str| with(&format!("client-certificate = {{ key = \"{key}\" }}"), "");
    assert_eq!(
        findings(&in_table("00ff"))[0].0,
        "a SHA-256 digest is 64 hexadecimal digits"
    );
    assert!(
        findings(&in_table(print))[0]
            .0
            .contains("form of a certificate's fingerprint")
    );
    for text in [
        in_table("00ff"),
        in_table(print),
        with(&format!("client-certificate = \"{print}\""), ""),
    ] {
        assert!(
            hint(&text).contains("openssl x509 -in device.pem -pubkey"),
            "{text}"
        );
    }
    let bare = with(&format!("client-certificate = \"{KEY}\""), "");
    assert!(hint(&bare).contains(&format!("{{ key = \"{KEY}\" }}")));
}

#[test]
fn a_certificate_is_one_devices() {
    let second = "[[devices]]\nid = \"kiosk-bern-02\"\nprofile = \"kiosk-vm\"\npolicy = \"kiosk\"\n";
    for certificate in [
        "client-certificate = \"kiosk.pem\"".to_owned(),
        format!("client-certificate = {{ key = \"{KEY}\" }}"),
    ] {
        let text = with(&format!("{certificate}\n{second}{certificate}"), "");
        let (_, value) = certificate.split_once(" = ").unwrap();
        let message = "this is device `kiosk-bern-01`'s client certificate".to_owned();
        assert_eq!(findings(&text), [(message, value.to_owned())]);
        assert!(hint(&text).contains("one device's for good"));
    }
}

#[test]
fn a_policy_that_requires_one_takes_no_device_without() {
    let rule = "client-certificate = \"required\"";
    let text = with("", rule);
    let message = "policy `kiosk` requires a client certificate, and the device has none".to_owned();
    assert_eq!(findings(&text), [(message, "\"kiosk\"".to_owned())]);
    assert!(hint(&text).contains("give the device its `client-certificate`"));
    assert!(parse("fleet.toml", &with("client-certificate = \"k.pem\"", rule)).is_ok());
    // One that cannot be read is not told twice.
    assert_eq!(findings(&with("client-certificate = 7", rule)).len(), 1);
}

#[test]
fn what_a_file_is_told_for_looks_like_every_other_finding() {
    let text = with("client-certificate = \"kiosk.pem\"", "");
    let fleet = parse("fleet.toml", &text).unwrap();
    let span = fleet.devices[0].client_certificate.clone().unwrap().span;
    let finding = (
        span,
        "cannot read 'kiosk.pem'".to_owned(),
        Some("look".to_owned()),
    );
    let told = manifest::Diagnostics::about("fleet.toml", &text, [finding]);
    let line = text.lines().count();
    assert_eq!(
        told.findings()[0].to_string(),
        format!("fleet.toml:{line}:22: cannot read 'kiosk.pem'")
    );
    let drawn = told.render();
    assert!(
        drawn.contains("client-certificate = \"kiosk.pem\"") && drawn.contains("hint: look"),
        "{drawn}"
    );
}
