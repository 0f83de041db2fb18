//! Recovery keys, volumes that are locked, and what a seal is worth: what a person is told of them.

use super::*;

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
    // Firmware beside it says no more of the system, and firmware alone less.
    let firmware = says(&|text| measured(text).replace("seal-pcrs = [7]", "seal-pcrs = [0, 2, 7]"));
    assert!(firmware.contains("where Secure Boot is off"), "{firmware}");
    let blind = says(&|text| measured(text).replace("seal-pcrs = [7]", "seal-pcrs = [0, 2]"));
    assert!(
        blind.contains("any system that is started on this firmware has the key"),
        "{blind}"
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
