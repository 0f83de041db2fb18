//! What a client certificate counts for, on records at hand.

use std::sync::Arc;

use domain::{CertificateKeyDigest, FleetRoot};
use http::{HeaderMap, Method};
use protocol::{FleetKeys, KeyRing, Refusal, headers};
use registry::{CertificateRule, DeviceRecord, DeviceState, Snapshot};

use super::*;
use crate::gate::{
    Site, decide,
    tests::forge::{self, START},
};

fn key(name: &str) -> CertificateKeyDigest {
    CertificateKeyDigest::of(name.as_bytes())
}

/// Each device has the certificate of its name, but for `bare`, which has none.
fn records() -> Vec<DeviceRecord> {
    let tpm = forge::Tpm::new();
    let device = |name: &str, policy: &str, tpm| DeviceRecord {
        client_certificate: Some(key(name)),
        ..forge::device(name, policy, tpm)
    };
    let bare = forge::device("bare", "required", None);
    let kiosk = device("kiosk", "strict", Some(&tpm));
    vec![
        bare,
        kiosk,
        device("plain", "accepted", None),
        device("both", "required", None),
        device("blind", "open", None),
    ]
}

fn view(devices: Vec<DeviceRecord>, revision: u64, accepted: Option<CertificateRule>) -> View {
    let policy = |evidence, rule| {
        let mut policy = forge::policy(evidence);
        policy.client_certificate = rule;
        policy.revision = revision;
        policy
    };
    let policies = [
        ("strict", policy(true, Some(CertificateRule::Accepted))),
        ("accepted", policy(false, accepted)),
        ("required", policy(false, Some(CertificateRule::Required))),
        ("open", policy(false, None)),
    ];
    let policies = policies.map(|(name, policy)| (name.parse().unwrap(), policy));
    View::new(Snapshot::of(devices, policies, []), &View::default())
}

fn usual(devices: Vec<DeviceRecord>) -> View {
    view(devices, 1, Some(CertificateRule::Accepted))
}

fn ask(
    view: Option<&View>,
    psk: Option<&str>,
    certificate: Option<&str>,
    path: &str,
) -> Result<Admit, Refused> {
    let mut fields = HeaderMap::new();
    if let Some(psk) = psk {
        let text = if psk.is_empty() {
            String::new()
        } else {
            forge::psk_text(psk)
        };
        fields.insert(headers::PSK, text.parse().unwrap());
    }
    let keys = FleetKeys::derive("k1".parse().unwrap(), &FleetRoot::copy_from(&[1; 32]).unwrap());
    let world = World {
        view,
        keys: &KeyRing::new(keys, None),
        site: &Site {
            fleet: "demo".parse().unwrap(),
            audience: "https://llm.example".parse().unwrap(),
        },
        started_at: START,
    };
    let head = Head {
        method: if path.ends_with("/challenge") {
            &Method::GET
        } else {
            &Method::POST
        },
        path,
        query: None,
        target: path,
        headers: &fields,
        certificate: certificate.map(key),
    };
    decide(&head, &world, START)
}

const CHAT: &str = "/api/chat";

#[test]
fn a_certificate_stands_in_for_the_key_where_the_policy_says_so() {
    let view = usual(records());
    let admit = ask(Some(&view), None, Some("plain"), CHAT).unwrap();
    assert_eq!(admit.device.id().as_str(), "plain");
    assert!(matches!(admit.to, Grant::Upstream(_, Proof::Certificate)));
    let admit = ask(Some(&view), Some("both"), Some("both"), CHAT).unwrap();
    assert!(matches!(admit.to, Grant::Upstream(_, Proof::NotDemanded)));
    // Beside a key, one that nobody has is not looked at; nor is any where the policy is silent.
    for (psk, certificate) in [("plain", "stranger"), ("blind", "kiosk"), ("blind", "blind")] {
        assert!(
            ask(Some(&view), Some(psk), Some(certificate), CHAT).is_ok(),
            "{psk} {certificate}"
        );
    }
}

#[test]
fn every_other_certificate_is_as_none_to_the_client_and_named_to_the_operator() {
    let mut devices = records();
    let mut off = forge::device("off", "accepted", None);
    off.client_certificate = Some(key("off"));
    off.state = DeviceState::Suspended;
    devices.push(off);
    let view = usual(devices);
    let missing = Refusal::PskMissing;
    let unknown = Refusal::PskUnknown;
    for (psk, certificate, path, refusal, told) in [
        (None, Some("stranger"), CHAT, missing, "no device has it"),
        (
            None,
            Some("off"),
            CHAT,
            missing,
            "device 'off': the device is suspended",
        ),
        (
            None,
            Some("kiosk"),
            CHAT,
            missing,
            "device 'kiosk': its policy wants evidence",
        ),
        (
            None,
            Some("both"),
            CHAT,
            missing,
            "wants the pre-shared key beside",
        ),
        (None, Some("blind"), CHAT, missing, "does not look at"),
        (
            None,
            Some("plain"),
            "/attest/v1/challenge",
            missing,
            "bound to the pre-shared key",
        ),
        (
            None,
            Some("plain"),
            "/attest/v1/session",
            missing,
            "bound to the pre-shared key",
        ),
        (
            None,
            Some("plain"),
            "/api/pull",
            Refusal::PathDenied,
            "list of paths",
        ),
        (Some(""), Some("plain"), CHAT, missing, "no pre-shared key"),
        (
            Some("stranger"),
            Some("plain"),
            CHAT,
            unknown,
            "no device has this pre-shared key",
        ),
        (
            Some("plain"),
            Some("both"),
            CHAT,
            unknown,
            "certificate is device 'both's",
        ),
        (
            Some("plain"),
            Some("off"),
            CHAT,
            unknown,
            "certificate is device 'off's",
        ),
        (Some("both"), None, CHAT, unknown, "none came"),
        (
            Some("both"),
            Some("plain"),
            CHAT,
            unknown,
            "certificate is device 'plain's",
        ),
        (
            Some("both"),
            Some("stranger"),
            CHAT,
            unknown,
            "not the one on record",
        ),
        (Some("bare"), Some("stranger"), CHAT, unknown, "none on record"),
        (
            Some("kiosk"),
            Some("plain"),
            CHAT,
            unknown,
            "certificate is device 'plain's",
        ),
        (
            Some("kiosk"),
            Some("kiosk"),
            CHAT,
            Refusal::EvidenceMissing,
            "wants evidence",
        ),
    ] {
        let refused = ask(Some(&view), psk, certificate, path).unwrap_err();
        assert_eq!(
            refused.refusal, refusal,
            "{psk:?} {certificate:?}: {}",
            refused.why
        );
        assert!(
            refused.why.contains(told),
            "{psk:?} {certificate:?}: {}",
            refused.why
        );
    }
    // Whatever of ours comes beside it, it is a request that lacks its key.
    for name in STRIPPED.clone() {
        let mut fields = HeaderMap::new();
        fields.insert(name.clone(), "".parse().unwrap());
        let head = Head {
            method: &Method::POST,
            path: CHAT,
            query: None,
            target: CHAT,
            headers: &fields,
            certificate: Some(key("plain")),
        };
        assert_eq!(alone(&head), None, "{name}");
    }
    let refused = ask(None, None, Some("plain"), CHAT).unwrap_err();
    assert_eq!(refused.refusal, Refusal::RegistryStale);
}

#[test]
fn what_a_certificate_admitted_ends_with_it() {
    let now = usual(records());
    let admitted =
        |psk: Option<&str>, certificate: &str| ask(Some(&now), psk, Some(certificate), CHAT).unwrap().footing;
    let alone = admitted(None, "plain");
    let beside = admitted(Some("both"), "both");
    let changed = |name: &str, change: fn(&mut DeviceRecord)| {
        let mut devices = records();
        let device = devices.iter_mut().find(|d| d.device.as_str() == name).unwrap();
        device.generation = 2;
        change(device);
        usual(devices)
    };
    assert!(alone.holds(&now, START) && beside.holds(&now, START));
    let other: fn(&mut DeviceRecord) = |d| d.client_certificate = Some(key("renewed"));
    let none: fn(&mut DeviceRecord) = |d| d.client_certificate = None;
    let off: fn(&mut DeviceRecord) = |d| d.state = DeviceState::Suspended;
    for change in [other, none, off] {
        assert!(!alone.holds(&changed("plain", change), START));
        assert!(!beside.holds(&changed("both", change), START));
    }
    // Any edit ends what stands on a certificate alone; beside a key, the key is what an edit may keep.
    assert!(!alone.holds(&changed("plain", |_| {}), START));
    assert!(beside.holds(&changed("both", |_| {}), START));
    for rule in [None, Some(CertificateRule::Required)] {
        assert!(!alone.holds(&view(records(), 2, rule), START));
    }
    let device = Arc::clone(now.device(&"plain".parse().unwrap()).unwrap());
    let by_key = Footing {
        proven: (0, START),
        psk: Some(device.entry().record.psk.current),
        device,
        certificate: None,
    };
    assert!(by_key.holds(&changed("plain", none), START));
}
