//! Client certificates in plans: given, kept, replaced, taken away; and keys that are somebody's already.

use domain::{CertificateKeyDigest, DeviceId};
use registry::CertificateRule;

use super::*;
use crate::certificates::{Certificate, Seen};

fn key(name: &str) -> CertificateKeyDigest {
    CertificateKeyDigest::of(name.as_bytes())
}

fn wanting(certificate: Option<&str>, rule: Option<CertificateRule>) -> Wanted {
    Wanted {
        certificate: certificate.map(|name| Certificate {
            key: key(name),
            seen: Some(Seen {
                subject: format!("CN={name}"),
                ends: Some(UnixTime::from_secs(1_893_456_000)),
                note: Some("a note on its dates".to_owned()),
            }),
        }),
        certificate_rule: rule,
        ..demo()
    }
}

/// A device whose record names this one; the key that is wanted is this device's or other's.
fn registered(certificate: Option<&str>, owner: Option<&str>) -> Observed {
    Observed {
        certificate_owner: owner.map(|id| id.parse::<DeviceId>().unwrap()),
        ..enrolled(|record| record.client_certificate = certificate.map(key))
    }
}

fn does(wanted: &Wanted, seen: &Observed) -> Vec<String> {
    let plan = decide(wanted, seen).unwrap();
    plan.steps.iter().map(|step| step.words(&plan)).collect()
}

#[test]
fn a_record_follows_the_manifest() {
    let (one, two) = (key("one").short(), key("two").short());
    let change = |what: &str| {
        vec![format!(
            "change the device's record to policy kiosk, profile kiosk-vm{what}; its sessions end"
        )]
    };
    let rule = Some(CertificateRule::Required);
    let wants = wanting(Some("two"), rule);
    assert_eq!(
        does(&wants, &registered(None, None)),
        change(&format!(", client certificate {two}"))
    );
    assert_eq!(
        does(&wants, &registered(Some("one"), None)),
        change(&format!(
            ", client certificate {two} in the place of {one}, which never comes back"
        ))
    );
    assert_eq!(
        does(&wanting(None, None), &registered(Some("one"), None)),
        change(&format!(
            ", without its client certificate {one}, which never comes back"
        ))
    );
    for (wants, has) in [(Some("two"), Some("two")), (None, None)] {
        let seen = registered(has, has.map(|_| "kiosk-bern-01"));
        assert_eq!(does(&wanting(wants, rule), &seen), [""; 0]);
    }
    // An edit of something else does not speak of what stays.
    let mut moved = registered(Some("two"), Some("kiosk-bern-01"));
    let Registered::Yes(record) = &mut moved.registered else {
        panic!("it is registered");
    };
    record.policy = "other".parse().unwrap();
    assert_eq!(does(&wants, &moved), change(""));
}

#[test]
fn a_plan_shows_whose_it_is_until_when_and_what_it_is_worth() {
    let plan = decide(&wanting(Some("one"), None), &fresh()).unwrap();
    let text = plan.to_string();
    let lines = format!(
        "  cert   {} (SHA-256 of its key)\n         CN=one, until 2030-01-01T00:00:00Z\n",
        key("one")
    );
    assert!(text.contains(&lines), "{text}");
    let json = serde_json::to_value(&plan).unwrap();
    let certificate = &json["target"]["client_certificate"];
    assert_eq!(certificate["key"], key("one").to_string());
    assert_eq!(certificate["registered"], serde_json::Value::Null);
    assert_eq!(certificate["ends"], 1_893_456_000);
    let without = serde_json::to_value(decide(&demo(), &fresh()).unwrap()).unwrap();
    assert_eq!(without["target"].get("client_certificate"), None);
    let notes = |rule: Option<CertificateRule>, evidence: bool| {
        let mut wanted = wanting(Some("one"), rule);
        if !evidence {
            wanted.evidence = None;
        }
        let notes = decide(&wanted, &fresh()).unwrap().notes;
        let at = notes
            .iter()
            .position(|note| note == "a note on its dates")
            .unwrap();
        notes.get(at + 1).cloned()
    };
    let said = notes(None, true).unwrap();
    assert!(said.contains("does not look at its client certificate"), "{said}");
    let said = notes(Some(CertificateRule::Accepted), true).unwrap();
    assert!(said.contains("asks for evidence"), "{said}");
    let said = notes(Some(CertificateRule::Accepted), false).unwrap();
    assert!(said.contains("without the pre-shared key"), "{said}");
    assert_eq!(notes(Some(CertificateRule::Required), true), None);
}

#[test]
fn a_key_is_one_devices_for_good() {
    let wants = wanting(Some("one"), Some(CertificateRule::Accepted));
    let others = Observed {
        certificate_owner: Some("another".parse().unwrap()),
        ..fresh()
    };
    for seen in [others, registered(Some("two"), Some("another"))] {
        assert!(matches!(
            refusal(&wants, &seen),
            Refusal::CertificateTaken { owner, .. } if owner.as_str() == "another"
        ));
    }
    for has in [None, Some("two")] {
        let ended = refusal(&wants, &registered(has, Some("kiosk-bern-01")));
        assert!(matches!(ended, Refusal::CertificateEnded { .. }));
        assert!(ended.hint().contains("never comes back"));
    }
}
