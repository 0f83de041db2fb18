//! Every decision: what was seen, and the plan or the refusal that comes of it. Plans are golden texts.

use std::{collections::BTreeMap, ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use domain::{
    EkDigest, HashAlg, PcrIndex, PcrValue, PskDigest, TpmName, TpmPublic, UnixTime, VolumeKeyDigest,
};
use evidence::{DeclaredPolicy, GoldenSet, Mix};
use registry::{DeviceRecord, DeviceState, PskSlots, TpmIdentity, Version1, Versioned};

use super::{
    AkSeen, Choice, Irreversible, Observed, Plan, Refusal, Registered, Step, TpmSeen, VolumeSeen, Wanted,
    decide, policy_record, policy_step, wanted,
};
use crate::ports::Content;

mod certificates;
mod registered;
mod seals;

const DEMO: &str = include_str!("../../../../manifests/examples/demo.toml");

fn want(change: impl FnOnce(String) -> String, force: bool) -> Wanted {
    let fleet = manifest::parse("demo.toml", &change(DEMO.to_owned())).unwrap();
    let choice = Choice {
        folder: "/fleet".into(),
        tcti: None,
        roots: BTreeMap::new(),
        policy_keys: BTreeMap::new(),
        certificates: BTreeMap::new(),
        read_from: "/fleet".into(),
        force,
        force_uninitialised: false,
    };
    wanted(&fleet, &fleet.devices[0], &choice).unwrap().unwrap()
}

fn demo() -> Wanted {
    want(|text| text, false)
}

fn forced() -> Wanted {
    want(|text| text, true)
}

fn good_ak() -> AkSeen {
    AkSeen::Good {
        public: TpmPublic::try_from(vec![1; 80]).unwrap(),
        qualified_name: TpmName::try_from(vec![2; 34]).unwrap(),
    }
}

fn content() -> Content {
    Content {
        psk: PskDigest::of(b"psk"),
        config: Some(demo().config),
        volume_key: VolumeKeyDigest::of(b"key"),
    }
}

fn opens(ours: bool) -> VolumeSeen {
    VolumeSeen::Opens {
        content: content(),
        ours,
        as_wished: true,
    }
}

/// A TPM that was never used, an empty folder, an empty registry.
fn fresh() -> Observed {
    Observed {
        tpm: Some(TpmSeen {
            ek: EkDigest::of(b"ek"),
            certified: None,
            ek_owner: None,
            ak: AkSeen::Nothing,
            uninitialised: vec![],
            differing: vec![],
        }),
        volume: VolumeSeen::Nothing,
        recoverable: false,
        in_escrow: false,
        registered: Registered::No,
        certificate_owner: None,
        journal_entries: 0,
    }
}

/// The same with another TPM.
fn with_tpm(mut seen: Observed, change: impl FnOnce(&mut TpmSeen)) -> Observed {
    change(seen.tpm.as_mut().unwrap());
    seen
}

fn record() -> DeviceRecord {
    DeviceRecord {
        version: Version1,
        device: "kiosk-bern-01".parse().unwrap(),
        state: DeviceState::Active,
        policy: "kiosk".parse().unwrap(),
        profile: "kiosk-vm".parse().unwrap(),
        psk: PskSlots::only(PskDigest::of(b"psk")),
        client_certificate: None,
        tpm: Some(TpmIdentity {
            ek: EkDigest::of(b"ek"),
            ek_certificate: None,
            ek_certified: None,
            ek_trust: registry::EkTrust::FirstUse,
            ak_public: TpmPublic::try_from(vec![1; 80]).unwrap(),
            ak_qualified_name: TpmName::try_from(vec![2; 34]).unwrap(),
            manufacturer: "IBM".to_owned(),
            firmware_version: 1,
        }),
        measured_boot: false,
        volume_key: Some(VolumeKeyDigest::of(b"key")),
        wireguard: None,
        generation: 1,
        enrolled_at: UnixTime::from_secs(1),
    }
}

/// As after a good enrolment, with a change to the record.
fn enrolled(change: impl FnOnce(&mut DeviceRecord)) -> Observed {
    let mut record = record();
    change(&mut record);
    let seen = Observed {
        volume: opens(true),
        registered: Registered::Yes(Box::new(record)),
        ..fresh()
    };
    with_tpm(seen, |tpm| {
        tpm.ak = good_ak();
        tpm.ek_owner = Some("kiosk-bern-01".parse().unwrap());
    })
}

fn plan(wanted: &Wanted, seen: &Observed) -> Plan {
    let fleet = manifest::parse("demo.toml", DEMO).unwrap();
    let (name, policy) = fleet.policies.iter().next().unwrap();
    let policies = policy_step(name, policy_record(policy), None);
    Plan {
        fleet: fleet.name.clone(),
        policies: policies.into_iter().collect(),
        devices: vec![decide(wanted, seen).unwrap()],
    }
}

fn refusal(wanted: &Wanted, seen: &Observed) -> Refusal {
    let refusal = decide(wanted, seen).unwrap_err();
    assert!(!refusal.hint().is_empty());
    refusal
}

#[test]
fn a_fresh_device() {
    insta::assert_snapshot!(plan(&demo(), &fresh()));
}

#[test]
fn a_device_whose_key_alone_is_enough() {
    let only_key = |text: String| {
        let (before, rest) = text.split_once("[policies.kiosk.evidence]").unwrap();
        let (_, after) = rest.split_once("[profiles.kiosk-vm]").unwrap();
        format!("{before}[profiles.kiosk-vm]{after}")
    };
    insta::assert_snapshot!(decide(&want(only_key, false), &fresh()).unwrap());
}

#[test]
fn a_device_with_measured_boot_on_the_list_whose_pcrs_differ() {
    let ek = EkDigest::of(b"ek");
    let listed = |text: String| {
        text.replace(
            "ek-trust = \"first-use\"",
            &format!("ek-trust = {{ allow = [\"{ek}\"] }}"),
        )
        .replace("measured-boot = false", "measured-boot = true")
    };
    let seen = with_tpm(fresh(), |tpm| {
        tpm.differing = vec![PcrIndex::try_from(11).unwrap()];
    });
    insta::assert_snapshot!(decide(&want(listed, false), &seen).unwrap());
}

#[test]
fn things_in_the_way_with_force() {
    let seen = Observed {
        volume: VolumeSeen::Closed {
            why: "there is no LUKS2 header".to_owned(),
        },
        ..fresh()
    };
    let seen = with_tpm(seen, |tpm| tpm.ak = AkSeen::Unfit);
    assert_eq!(
        refusal(&demo(), &seen),
        Refusal::HandleTaken {
            handle: demo().tpm.unwrap().ak_handle
        }
    );
    let plan = plan(&forced(), &seen);
    assert_eq!(
        plan.devices[0].irreversible,
        [Irreversible::EvictKey, Irreversible::OverwriteVolume]
    );
    insta::assert_snapshot!(plan);
}

#[test]
fn what_cannot_be_undone_needs_this_very_plans_digest() {
    let seen = Observed {
        volume: opens(false),
        ..fresh()
    };
    let forced = plan(&forced(), &seen);
    let own = forced.digest();
    assert!(matches!(forced.confirm(None), Err(Refusal::Unconfirmed { own: o }) if o == own));
    let other = plan(&demo(), &fresh());
    assert!(matches!(forced.confirm(Some(&other.digest())), Err(Refusal::OtherPlan { own: o }) if o == own));
    assert!(forced.confirm(Some(&own)).is_ok());
    assert!(other.confirm(None).is_ok(), "a fresh enrolment asks for nothing");
    assert!(other.confirm(Some(&own)).is_err());
    assert_eq!(
        forced.digest(),
        plan(&super::tests::forced(), &seen).digest(),
        "the same world, the same digest"
    );
}

#[test]
fn an_interrupted_run_is_taken_up() {
    let seen = Observed {
        volume: opens(true),
        ..fresh()
    };
    let seen = with_tpm(seen, |tpm| tpm.ak = good_ak());
    let plan = decide(&demo(), &seen).unwrap();
    assert_eq!(plan.steps, [Step::Bind, Step::CheckVolume, Step::Enrol]);
    let other_settings = want(
        |text| text.replace("http://127.0.0.1:8080", "https://llm.example"),
        false,
    );
    let plan = decide(&other_settings, &seen).unwrap();
    let write = Step::WriteVolume { replace_own: true };
    assert_eq!(plan.steps, [Step::Bind, write, Step::CheckVolume, Step::Enrol]);
    assert!(plan.irreversible.is_empty());
}

#[test]
fn a_volume_that_is_not_ours_is_kept() {
    let path = Path::new("/fleet/out/kiosk-bern-01.luks").to_owned();
    for volume in [
        opens(false),
        VolumeSeen::Closed {
            why: "it is not a regular file".to_owned(),
        },
    ] {
        let seen = Observed { volume, ..fresh() };
        assert!(matches!(refusal(&demo(), &seen), Refusal::VolumeExists { path: p, .. } if p == path));
    }
}

#[test]
fn pcrs_that_nothing_measured_into() {
    let seven = PcrIndex::try_from(7).unwrap();
    let seen = with_tpm(fresh(), |tpm| tpm.uninitialised = vec![seven]);
    assert_eq!(refusal(&demo(), &seen), Refusal::Uninitialised(vec![seven]));
    let forced = Wanted {
        force_uninitialised: true,
        ..demo()
    };
    assert!(decide(&forced, &seen).is_ok());
    let sealed_already = Observed {
        volume: opens(true),
        ..seen
    };
    assert!(decide(&demo(), &sealed_already).is_ok(), "nothing is sealed");
}

#[test]
fn endorsement_keys() {
    let owner = "kiosk-basel-01".parse().unwrap();
    let seen = with_tpm(fresh(), |tpm| tpm.ek_owner = Some(owner));
    assert!(matches!(refusal(&demo(), &seen), Refusal::EkTaken { .. }));
    let other = EkDigest::of(b"other");
    let listed = |text: String| {
        text.replace(
            "ek-trust = \"first-use\"",
            &format!("ek-trust = {{ allow = [\"{other}\"] }}"),
        )
    };
    assert_eq!(
        refusal(&want(listed, false), &fresh()),
        Refusal::EkNotAllowed(EkDigest::of(b"ek"))
    );
}

#[test]
fn a_tpm_that_was_not_looked_at_is_no_reason_to_go_on() {
    let seen = Observed { tpm: None, ..fresh() };
    assert!(matches!(refusal(&demo(), &seen), Refusal::NotLookedAt { .. }));
}

#[test]
fn a_policy_that_differs_rises_by_one() {
    let fleet = manifest::parse("demo.toml", DEMO).unwrap();
    let (name, policy) = fleet.policies.iter().next().unwrap();
    let wanted = policy_record(policy);
    let new = policy_step(name, wanted.clone(), None).unwrap();
    assert_eq!((new.record.revision, new.replaces), (1, None));
    // A revision comes from a registry alone: ask one.
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("r.db").display())
        .parse()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let revision = runtime.block_on(async {
        let registry = registry::open(&url, &registry::Options::default(), &fleet.name)
            .await
            .unwrap();
        registry.put_policy(name, wanted.clone(), None).await.unwrap()
    });
    let stored = |revision_of_policy: u64| {
        let mut value = wanted.clone();
        value.revision = revision_of_policy;
        Some(Versioned { value, revision })
    };
    assert!(policy_step(name, wanted.clone(), stored(4)).is_none());
    // What the manifest does not say of client certificates is `never`, and told.
    let mut ruled = stored(4).unwrap();
    ruled.value.client_certificate = Some(registry::CertificateRule::Required);
    let edited = policy_step(name, wanted.clone(), Some(ruled)).unwrap();
    assert_eq!(
        (edited.record.revision, edited.record.client_certificate),
        (5, None)
    );
    assert!(
        edited.to_string().contains("certs  no longer looked at"),
        "{edited}"
    );
    let with = |parts: Mix| {
        let mut other = wanted.clone();
        other.evidence = Some(DeclaredPolicy::new(HashAlg::Sha256, parts, false).unwrap());
        other
    };
    let value = PcrValue::new(HashAlg::Sha256, &[9; 32]).unwrap();
    let more = BTreeMap::from([(PcrIndex::try_from(4).unwrap(), value)]);
    let mut tighter = wanted.evidence.as_ref().unwrap().parts().clone();
    tighter.exact.extend(more.clone());
    let tighter = with(tighter);
    let step = policy_step(name, tighter, stored(4)).unwrap();
    assert_eq!((step.record.revision, step.replaces), (5, Some(revision)));

    // Two policies that differ only in when a golden set ends are two revisions.
    let ending = |at: u64| {
        with(Mix {
            golden: vec![GoldenSet {
                name: "2026-09".parse().unwrap(),
                until: Some(UnixTime::from_secs(at)),
                values: more.clone(),
            }],
            ..Mix::default()
        })
    };
    let kept = || {
        Some(Versioned {
            value: ending(1000),
            revision,
        })
    };
    assert!(policy_step(name, ending(1000), kept()).is_none());
    let step = policy_step(name, ending(1001), kept()).unwrap();
    assert_eq!(step.record.revision, 2);
}

#[test]
fn every_refusal_has_a_sentence_and_a_hint() {
    let device: domain::DeviceId = "kiosk".parse().unwrap();
    for refusal in [
        Refusal::SameTpm {
            first: device.clone(),
            second: device.clone(),
            ek: EkDigest::of(b"ek"),
        },
        Refusal::State {
            device: device.clone(),
            state: "retired",
            wish: "resumed",
        },
        Refusal::NotRegistered(device),
    ] {
        let text = refusal.to_string();
        assert!(!text.ends_with('.') && !refusal.hint().is_empty(), "{text}");
    }
}

#[test]
fn a_path_that_is_no_text_has_a_digest_of_its_own() {
    let digest = |bytes: &[u8]| {
        let mut wanted = demo();
        wanted.volume = Path::new(OsStr::from_bytes(bytes)).to_owned();
        let devices = vec![decide(&wanted, &fresh()).unwrap()];
        let fleet = "demo".parse().unwrap();
        Plan {
            fleet,
            policies: vec![],
            devices,
        }
        .digest()
    };
    let nothing = domain::Sha256Digest::of(b"");
    assert_ne!(digest(b"/out\xff/k.luks"), nothing);
    assert_ne!(digest(b"/out\xff/k.luks"), digest(b"/out\xfe/k.luks"));
    assert_eq!(digest(b"/out\xff/k.luks"), digest(b"/out\xff/k.luks"));
}
