//! Devices that the registry knows: what is left alone, and what is refused.

use super::*;

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
