//! Certificates in files: what is taken of one, and every reason for which none is.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PublicKeyData as _, date_time_ymd};

use super::*;

const DEMO: &str = include_str!("../../../manifests/examples/demo.toml");
/// 2026-01-01.
const NOW: u64 = 1_767_225_600;

fn pem(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    change(&mut params);
    params.self_signed(key).unwrap().pem()
}

/// Two devices with these certificates, in a folder with these files.
fn of(certificates: [&str; 2], files: &[(&str, String)]) -> Result<Vec<Certificate>, Vec<Finding>> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let second = "[[devices]]\nid = \"second\"\nprofile = \"kiosk-vm\"\npolicy = \"kiosk\"\n";
    let [first_has, second_has] = certificates;
    let text = format!("{DEMO}{first_has}\n{second}{second_has}\n");
    let fleet = manifest::parse("demo.toml", &text).unwrap();
    let now = UnixTime::from_secs(NOW);
    let all = of_devices(&fleet.devices, dir.path(), now)?;
    Ok(all.into_values().collect())
}

fn wrong(text: &str) -> (String, String) {
    let files = [("kiosk.pem", text.to_owned())];
    let findings = of(["client-certificate = \"kiosk.pem\"", ""], &files).unwrap_err();
    let [(_, message, Some(hint))] = findings.as_slice() else {
        panic!("{findings:?}");
    };
    assert!(!hint.is_empty());
    (message.clone(), hint.clone())
}

fn note(change: impl FnOnce(&mut CertificateParams)) -> Option<String> {
    let files = [("kiosk.pem", pem(&KeyPair::generate().unwrap(), change))];
    let mut read = of(["client-certificate = \"kiosk.pem\"", ""], &files).unwrap();
    read.pop().unwrap().seen.unwrap().note
}

#[test]
fn the_first_certificate_of_a_file_is_the_devices() {
    let [key, issuer] = [(); 2].map(|()| KeyPair::generate().unwrap());
    let chain = [
        "a comment\n".to_owned(),
        pem(&key, |_| {}),
        pem(&issuer, |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
    ];
    let bare = CertificateKeyDigest::of(b"another");
    let named = [
        "client-certificate = \"kiosk.pem\"",
        &format!("client-certificate = {{ key = \"{bare}\" }}"),
    ];
    let read = of(named, &[("kiosk.pem", chain.concat())]).unwrap();
    let digest = CertificateKeyDigest::of(&key.subject_public_key_info());
    assert_eq!((read[0].key, read[1].key), (digest, bare));
    let seen = read[0].seen.as_ref().unwrap();
    assert_eq!(seen.ends.unwrap().to_string(), "2030-01-01T00:00:00Z");
    assert_eq!((seen.note.clone(), read[1].seen.clone()), (None, None));
}

#[test]
fn dates_that_matter_soon_are_noted() {
    let soon = note(|params| params.not_after = date_time_ymd(2026, 1, 20)).unwrap();
    assert!(soon.contains("ends at 2026-01-20T00:00:00Z"), "{soon}");
    assert_eq!(note(|params| params.not_after = date_time_ymd(2026, 3, 1)), None);
    let later = note(|params| params.not_before = date_time_ymd(2026, 1, 2)).unwrap();
    assert!(later.contains("good from 2026-01-02T00:00:00Z on"), "{later}");
}

#[test]
fn what_no_device_could_show_is_refused() {
    let key = KeyPair::generate().unwrap();
    let (ended, hint) = wrong(&pem(&key, |params| {
        params.not_after = date_time_ymd(2025, 12, 31);
    }));
    assert!(ended.ends_with("ended at 2025-12-31T00:00:00Z"), "{ended}");
    assert!(hint.contains("of the same key"), "{hint}");
    let (ca, _) = wrong(&pem(&key, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }));
    assert!(ca.ends_with("it is a CA's certificate"), "{ca}");
    let server = rcgen::ExtendedKeyUsagePurpose::ServerAuth;
    let (server, _) = wrong(&pem(&key, |params| params.extended_key_usages = vec![server]));
    assert!(server.ends_with("for clients of TLS"), "{server}");
}

#[test]
fn what_is_no_certificate_is_refused_without_repeating_it() {
    let key = KeyPair::generate().unwrap();
    let both = pem(&key, |_| {}) + &key.serialize_pem();
    let (secret, hint) = wrong(&both);
    assert!(secret.starts_with("there is a private key in '"), "{secret}");
    assert!(hint.contains("certificate alone"), "{hint}");
    for text in ["", "no PEM", &key.public_key_pem()] {
        let (message, _) = wrong(text);
        assert!(message.contains("has no client certificate: "), "{message}");
    }
    let junk = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert!(wrong(junk).0.ends_with("not an X.509 certificate"));
    let findings = of(["client-certificate = \"away.pem\"", ""], &[]).unwrap_err();
    assert!(findings[0].1.starts_with("cannot read '"), "{findings:?}");
    let findings = of(["client-certificate = \".\"", ""], &[]).unwrap_err();
    assert!(findings[0].1.starts_with("cannot read '"), "{findings:?}");
}

#[test]
fn one_key_is_one_devices_under_whatever_name() {
    let key = KeyPair::generate().unwrap();
    let files = [
        ("a.pem", pem(&key, |_| {})),
        (
            "b.pem",
            pem(&key, |params| params.not_after = date_time_ymd(2031, 1, 1)),
        ),
    ];
    let digest = CertificateKeyDigest::of(&key.subject_public_key_info());
    let by_key = format!("client-certificate = {{ key = \"{digest}\" }}");
    for second in ["client-certificate = \"b.pem\"", &by_key] {
        let findings = of(["client-certificate = \"a.pem\"", second], &files).unwrap_err();
        let [(span, message, _)] = findings.as_slice() else {
            panic!("{findings:?}");
        };
        assert_eq!(
            message,
            "the key of this client certificate is device `kiosk-bern-01`'s"
        );
        assert_eq!(span.len(), second.len() - "client-certificate = ".len());
    }
    // All of them are told at once.
    let findings = of(["client-certificate = \"x\"", "client-certificate = \"y\""], &[]).unwrap_err();
    assert_eq!(findings.len(), 2);
}
