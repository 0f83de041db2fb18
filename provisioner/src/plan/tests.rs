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

const DEMO: &str = include_str!("../../../manifests/examples/demo.toml");

fn want(change: impl FnOnce(String) -> String, force: bool) -> Wanted {
    let fleet = manifest::parse("demo.toml", &change(DEMO.to_owned())).unwrap();
    let choice = Choice {
        folder: "/fleet".into(),
        tcti: None,
        roots: BTreeMap::new(),
        policy_keys: BTreeMap::new(),
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
fn a_device_that_works_is_left_alone() {
    let plan = decide(&demo(), &enrolled(|_| {})).unwrap();
    assert!(plan.steps.is_empty());
    assert!(
        plan.to_string()
            .contains("nothing: it is enrolled and its volume opens")
    );
    let suspended = decide(&demo(), &enrolled(|record| record.state = DeviceState::Suspended)).unwrap();
    assert!(suspended.steps.is_empty());
    assert!(suspended.notes[0].contains("suspended"));
    let moved = decide(
        &demo(),
        &enrolled(|record| record.policy = "other".parse().unwrap()),
    )
    .unwrap();
    assert_eq!(moved.steps, [Step::UpdateRecord]);
    let settings = want(
        |text| text.replace("http://127.0.0.1:8080", "https://llm.example"),
        false,
    );
    let stale = decide(&settings, &enrolled(|_| {})).unwrap();
    assert!(stale.steps.is_empty());
    assert!(stale.notes[0].contains("/device.toml"));
}

#[test]
fn a_device_keeps_the_trust_that_it_was_registered_with() {
    let ek = EkDigest::of(b"ek");
    let listed = |text: String| {
        text.replace(
            "ek-trust = \"first-use\"",
            &format!("ek-trust = {{ allow = [\"{ek}\"] }}"),
        )
    };
    let says = |wanted: &Wanted, trust: registry::EkTrust| {
        let seen = enrolled(|record| {
            if let Some(tpm) = &mut record.tpm {
                tpm.ek_trust = trust;
            }
        });
        let plan = decide(wanted, &seen).unwrap();
        let said = plan
            .notes
            .iter()
            .filter(|note| note.contains("was registered as"));
        said.cloned().collect::<Vec<_>>()
    };
    let wanted = want(listed, false);
    assert_eq!(
        says(&wanted, registry::EkTrust::FirstUse),
        [
            "its endorsement key was registered as trusted on first use, and its record keeps that: what held at enrolment counts"
        ]
    );
    assert_eq!(says(&wanted, registry::EkTrust::Allowed), [""; 0]);
    assert_eq!(says(&demo(), registry::EkTrust::FirstUse), [""; 0]);
}

#[test]
fn a_registered_device_that_is_not_itself() {
    let other_ek = enrolled(|record| record.tpm.as_mut().unwrap().ek = EkDigest::of(b"other"));
    assert!(matches!(refusal(&demo(), &other_ek), Refusal::OtherEk { .. }));
    let no_tpm = enrolled(|record| record.tpm = None);
    assert!(matches!(
        refusal(&demo(), &no_tpm),
        Refusal::NoTpmRegistered { .. }
    ));
    let retired = enrolled(|record| record.state = DeviceState::Retired);
    assert!(matches!(refusal(&demo(), &retired), Refusal::Retired(_)));
    for ak in [AkSeen::Nothing, AkSeen::Unfit] {
        let seen = with_tpm(enrolled(|_| {}), |tpm| tpm.ak = ak);
        assert!(matches!(refusal(&forced(), &seen), Refusal::AkLost { .. }));
    }
    let other_ak = enrolled(|record| {
        record.tpm.as_mut().unwrap().ak_public = TpmPublic::try_from(vec![9; 80]).unwrap();
    });
    assert!(matches!(refusal(&demo(), &other_ak), Refusal::AkLost { .. }));
}

/// Force does not reach a registered device: its key cannot be made again.
#[test]
fn a_registered_devices_volume_is_never_overwritten() {
    let lost = Observed {
        volume: VolumeSeen::Nothing,
        ..enrolled(|_| {})
    };
    assert!(matches!(refusal(&forced(), &lost), Refusal::VolumeLost { .. }));
    let closed = Observed {
        volume: VolumeSeen::Closed {
            why: "sealed".to_owned(),
        },
        ..enrolled(|_| {})
    };
    assert!(matches!(
        refusal(&forced(), &closed),
        Refusal::VolumeForeign { .. }
    ));
    let other_psk = enrolled(|record| record.psk = PskSlots::only(PskDigest::of(b"other")));
    assert!(matches!(
        refusal(&forced(), &other_psk),
        Refusal::VolumeForeign { .. }
    ));
    let other_volume = enrolled(|record| record.volume_key = Some(VolumeKeyDigest::of(b"other")));
    assert!(matches!(
        refusal(&forced(), &other_volume),
        Refusal::VolumeForeign { .. }
    ));
}

const KEEPER: &str = "age12juhgqh2jqndkjcfje78apqq7l044c5kj7lzg5zuta05a7ynfv8qsl6xd6";

#[expect(clippy::needless_pass_by_value, reason = "as the other changes of a manifest")]
fn kept(text: String) -> String {
    text.replace(
        "[policies.kiosk]\n",
        &format!("[fleet.escrow]\nrecipients = [\"{KEEPER}\"]\n\n[policies.kiosk]\n"),
    )
}

/// A volume from before the fleet had keepers: what gives it a recovery key is told, and nothing is done to it.
#[test]
fn a_volume_without_its_recovery_key_is_told() {
    let plan = decide(&want(kept, false), &enrolled(|_| {})).unwrap();
    assert!(plan.steps.is_empty());
    let note = plan
        .notes
        .iter()
        .find(|note| note.contains("from before `fleet.escrow`"))
        .unwrap();
    assert!(
        note.contains(&format!(
            "volume reseal /fleet/out/kiosk-bern-01.luks --tcti swtpm:host=127.0.0.1,port=2321 --device kiosk-bern-01 \
             --escrow-to {KEEPER} --escrow-file /fleet/out/kiosk-bern-01.luks.recovery.age"
        )),
        "{note}"
    );
    let moved = Observed {
        recoverable: true,
        ..enrolled(|_| {})
    };
    let plan = decide(&want(kept, false), &moved).unwrap();
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("if it was moved to its keepers")),
        "{:?}",
        plan.notes
    );
    let whole = Observed {
        in_escrow: true,
        ..moved
    };
    let plan = decide(&want(kept, false), &whole).unwrap();
    assert!(
        !plan.notes.iter().any(|note| note.contains("recovery key")),
        "{:?}",
        plan.notes
    );
    // One that an interrupted run left without is made anew.
    let unregistered = Observed {
        registered: Registered::No,
        ..with_tpm(enrolled(|_| {}), |tpm| tpm.ek_owner = None)
    };
    let plan = decide(&want(kept, false), &unregistered).unwrap();
    assert!(
        plan.steps.contains(&Step::WriteVolume { replace_own: true }),
        "{:?}",
        plan.steps
    );
}

/// What cannot be looked into now is not condemned, and our own is replaced while nobody is registered with it.
#[test]
fn a_volume_that_is_locked_now() {
    let locked = |ours| VolumeSeen::Locked {
        why: "it wants a PIN (--pin-file)".to_owned(),
        ours,
    };
    let seen = Observed {
        volume: locked(false),
        ..enrolled(|_| {})
    };
    let plan = decide(&demo(), &seen).unwrap();
    assert!(plan.steps.is_empty());
    assert!(
        plan.notes[0].contains("was not looked into: it wants a PIN"),
        "{:?}",
        plan.notes
    );
    let seen = |ours| Observed {
        volume: locked(ours),
        ..fresh()
    };
    let plan = decide(&demo(), &seen(true)).unwrap();
    assert!(plan.steps.contains(&Step::WriteVolume { replace_own: true }) && plan.irreversible.is_empty());
    assert!(matches!(
        refusal(&demo(), &seen(false)),
        Refusal::VolumeExists { .. }
    ));
    let plan = decide(&forced(), &seen(false)).unwrap();
    assert_eq!(plan.irreversible, [Irreversible::OverwriteVolume]);
}

/// Exact words, because people decide by them.
#[test]
fn what_a_seal_protects_from_is_said() {
    let says = |change: &dyn Fn(String) -> String| {
        decide(&want(change, false), &fresh())
            .unwrap()
            .protects
            .join("\n")
    };
    let measured = |text: String| text.replace("measured-boot = false", "measured-boot = true");
    let unmeasured = says(&|text| text);
    assert!(
        unmeasured.contains("nothing measures this boot, so whoever starts a system of their own"),
        "{unmeasured}"
    );
    assert!(
        unmeasured.contains("no recovery key (no `fleet.escrow`)"),
        "{unmeasured}"
    );
    let secure_boot = says(&measured);
    assert!(
        secure_boot.contains("where Secure Boot is off, any SD card or USB stick"),
        "{secure_boot}"
    );
    let kernel = says(&|text| measured(text).replace("seal-pcrs = [7]", "seal-pcrs = [4, 7, 11]"));
    assert!(
        kernel.contains("an update of what they cover needs a new seal"),
        "{kernel}"
    );
    let pin = says(&|text| measured(text).replace("seal-pcrs = [7]", "seal-pcrs = [7]\npin = true"));
    assert!(pin.contains("and only with the PIN"), "{pin}");
    let escrow = says(&kept);
    assert!(!escrow.contains("no recovery key"), "{escrow}");
    let forced = Wanted {
        force_uninitialised: true,
        ..demo()
    };
    let forced = decide(&forced, &fresh()).unwrap().protects.join("\n");
    assert!(forced.contains("may hold nothing (forced)"), "{forced}");
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
