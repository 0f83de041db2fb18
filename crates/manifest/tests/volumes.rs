//! Key stores and volumes: every key of a volume as it is accepted, and each mistake with its message and its hint.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test code"
)]

use manifest::{EkTrust, Fleet, KeyStore, SectorSize, Srk, TpmStore, parse};

const TPM: &str = r#"version = 1
[fleet]
name = "demo"
audience = "https://llm.demo.example"
registry = "sqlite:registry.db"
proxy = "http://127.0.0.1:8080"
escrow = { recipients = ["age1keeper"] }
[policies.kiosk]
models = ["*"]
[policies.kiosk.evidence.pcrs]
7 = "1111111111111111111111111111111111111111111111111111111111111111"
[policies.open]
models = ["*"]
[profiles.vm]
key-store = "tpm"
ek-trust = "first-use"
measured-boot = false
[profiles.vm.volume]
path = "out/{device}.luks"
size = "32MiB"
seal-pcrs = [7]
[[devices]]
id = "kiosk-01"
profile = "vm"
policy = "kiosk"
"#;

const OTP: &str = r#"version = 1
[fleet]
name = "demo"
audience = "https://llm.demo.example"
registry = "sqlite:registry.db"
proxy = "http://127.0.0.1:8080"
[policies.kiosk]
models = ["*"]
[policies.kiosk.evidence.pcrs]
7 = "1111111111111111111111111111111111111111111111111111111111111111"
[policies.open]
models = ["*"]
[profiles.pi]
key-store = "otp"
[profiles.pi.volume]
path = "out/{device}.luks"
size = "32MiB"
[[devices]]
id = "kiosk-01"
profile = "pi"
policy = "open"
"#;

fn fleet(text: &str) -> Fleet {
    parse("fleet.toml", text).unwrap_or_else(|wrong| panic!("{}", wrong.render()))
}

/// The manifest with one line exchanged: message, hint and place of its only finding.
fn one(text: &str, line: &str, instead: &str) -> (String, String, usize) {
    assert!(text.contains(line), "{line}");
    let Err(wrong) = parse("fleet.toml", &text.replace(line, instead)) else {
        panic!("accepted: {instead}");
    };
    assert_eq!(wrong.findings().len(), 1, "{}", wrong.render());
    let finding = &wrong.findings()[0];
    let hint = finding.hint.clone().unwrap_or_default();
    (finding.message.clone(), hint, finding.position.line)
}

fn tpm(fleet: &Fleet) -> &TpmStore {
    match &fleet.profiles.values().next().unwrap().key_store {
        KeyStore::Tpm(store) => store,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_said_has_a_default() {
    let fleet = fleet(TPM);
    let store = tpm(&fleet);
    assert_eq!(store.ek_trust, EkTrust::FirstUse);
    assert!(store.seal.signed.is_none() && !store.seal.pin);
    assert_eq!(store.seal.rollback_counter, None);
    assert_eq!(store.seal.srk, Srk::Systemd252);
    let volume = &fleet.profiles.values().next().unwrap().volume;
    assert_eq!(volume.sector_size, SectorSize::B4096);
    assert!(volume.content.is_none() && volume.escrow_path.is_none());
}

#[test]
fn every_key_of_a_volume_in_a_tpm() {
    let all = "seal-pcrs = [7]\nseal-bank = \"sha384\"\nseal-signed = { public-key = \"k.pem\", pcrs = [11, 12] }\n\
               pin = true\nrollback-counter = \"0x01800021\"\nsrk = \"tcg\"\nsector-size = 512\ncontent = \"content/{device}\"\nescrow-path = \"vault/{device}.age\"";
    let fleet = fleet(&TPM.replace("seal-pcrs = [7]", all));
    let seal = &tpm(&fleet).seal;
    assert_eq!(seal.exact.unwrap().to_string(), "sha384:7");
    let signed = seal.signed.as_ref().unwrap();
    assert_eq!(signed.public_key, "k.pem");
    assert_eq!(signed.pcrs.to_string(), "sha384:11,12");
    assert!(seal.pin);
    assert_eq!(seal.srk, Srk::Tcg);
    assert_eq!(seal.rollback_counter, Some(0x0180_0021));
    let volume = &fleet.profiles.values().next().unwrap().volume;
    assert_eq!(volume.sector_size, SectorSize::B512);
    let id = &fleet.devices[0].id;
    assert_eq!(volume.content_for(id).unwrap(), "content/kiosk-01");
    assert_eq!(volume.escrow_path_for(id).unwrap(), "vault/kiosk-01.age");
}

#[test]
fn a_signed_policy_alone_is_enough_and_is_over_the_kernel_image_by_default() {
    let fleet = fleet(&TPM.replace("seal-pcrs = [7]", "seal-signed = { public-key = \"k.pem\" }"));
    let seal = &tpm(&fleet).seal;
    assert!(seal.exact.is_none());
    assert_eq!(seal.signed.as_ref().unwrap().pcrs.to_string(), "sha256:11");
}

#[test]
fn a_device_without_a_tpm() {
    let fleet = fleet(OTP);
    let (profile, policy) = fleet.of(&fleet.devices[0]).unwrap();
    assert_eq!(profile.key_store, KeyStore::Otp);
    assert!(!profile.measured_boot && policy.evidence.is_none());
    assert!(parse("x", &OTP.replace("\"otp\"", "\"otp\"\nmeasured-boot = false")).is_ok());
}

#[test]
fn a_device_without_a_tpm_gives_no_evidence() {
    let (message, hint, line) = one(OTP, "policy = \"open\"", "policy = \"kiosk\"");
    assert_eq!(
        message,
        "policy `kiosk` asks for evidence, and profile `pi` has no TPM that could give any"
    );
    assert_eq!(
        hint,
        "choose a policy without `evidence`, or a profile with `key-store = \"tpm\"`"
    );
    assert_eq!(line, 21, "it stands at the device");
    let with_tcti = "policy = \"open\"\ntcti = \"device:/dev/tpm0\"";
    let (message, hint, _) = one(OTP, "policy = \"open\"", with_tcti);
    assert_eq!(message, "profile `pi` has no TPM that could be reached");
    assert!(hint.contains("leave `tcti` out"), "{hint}");
}

#[test]
fn what_belongs_to_a_tpm_is_refused_without_one() {
    for key in [
        "tcti = \"device:/dev/tpm0\"",
        "ak-handle = \"0x81010020\"",
        "ek = \"rsa-2048\"",
        "ek-trust = \"first-use\"",
        "measured-boot = true",
    ] {
        let name = key.split(' ').next().unwrap();
        let (message, hint, line) = one(OTP, "key-store = \"otp\"", &format!("key-store = \"otp\"\n{key}"));
        assert_eq!(
            message,
            format!("`{name}` belongs to `key-store = \"tpm\"`, and this profile has no TPM")
        );
        assert!(hint.contains("has `volume` and nothing else"), "{hint}");
        assert_eq!(line, 15);
    }
    for key in [
        "seal-bank = \"sha256\"",
        "seal-pcrs = [7]",
        "seal-signed = { public-key = \"k.pem\" }",
        "pin = true",
        "srk = \"tcg\"",
    ] {
        let name = key.split(' ').next().unwrap();
        let (message, hint, _) = one(OTP, "size = \"32MiB\"", &format!("size = \"32MiB\"\n{key}"));
        assert!(message.starts_with(&format!("`{name}` belongs to")), "{message}");
        assert!(hint.contains("`content` and `escrow-path`"), "{hint}");
    }
}

#[test]
fn what_a_tpm_needs_is_missed() {
    assert_eq!(
        one(TPM, "ek-trust = \"first-use\"\n", "").0,
        "`ek-trust` is missing here"
    );
    assert_eq!(
        one(TPM, "measured-boot = false\n", "").0,
        "`measured-boot` is missing here"
    );
    let (message, hint, _) = one(TPM, "seal-pcrs = [7]\n", "");
    assert_eq!(message, "`seal-pcrs` is missing here");
    assert!(hint.contains("`seal-signed`"), "{hint}");
    let (message, hint, _) = one(TPM, "seal-pcrs = [7]", "seal-signed = { pcrs = [11] }");
    assert_eq!(message, "`public-key` is missing here");
    assert!(hint.contains("the key whose holder approves"), "{hint}");
}

#[test]
fn values_of_a_volume_that_are_refused() {
    let seal = "seal-pcrs = [7]";
    let with = |key: &str| one(TPM, seal, &format!("{seal}\n{key}"));
    for (key, message) in [
        ("srk = \"systemd\"", "`systemd` is not a storage key"),
        ("sector-size = 1024", "sectors cannot have 1024 bytes"),
        ("sector-size = \"4096\"", "expected an integer, found a string"),
        ("pin = \"1234\"", "expected true or false, found a string"),
        ("content = \"\"", "\"\" is not the path of a folder"),
        (
            "content = \"{serial}\"",
            "`{serial}` has a placeholder that is not known",
        ),
        ("escrow-path = \"vault/\"", "\"vault/\" is not the path of a file"),
        ("seal-signed = true", "expected a table, found a boolean"),
        (
            "seal-signed = { public-key = \"\" }",
            "\"\" is not the path of a file",
        ),
        (
            "seal-signed = { public-key = \"k.pem\", pcrs = [] }",
            "no PCR is selected, at least one is needed",
        ),
        (
            "seal-signed = { public-key = \"k.pem\", pcrs = [23] }",
            "PCR 23 can be reset by any program",
        ),
        (
            "seal-signed = { public-key = \"k.pem\", signature = \"s\" }",
            "unknown key `signature`",
        ),
    ] {
        assert_eq!(with(key).0, message, "{key}");
    }
    assert!(with("pin = \"1234\"").1.is_empty(), "a PIN has no place here");
    assert!(with("srk = \"systemd\"").1.contains("systemd-252"));
    assert!(with("sector-size = 1024").1.contains("512 or 4096"));
}

#[test]
fn an_escrow_file_has_a_keeper_and_a_place_of_its_own() {
    let seal = "seal-pcrs = [7]";
    let vault = "seal-pcrs = [7]\nescrow-path = \"vault/{device}.age\"";
    assert!(parse("x", &TPM.replace(seal, vault)).is_ok());
    let orphan = TPM.replace("escrow = { recipients = [\"age1keeper\"] }\n", "");
    let (message, hint, _) = one(&orphan, seal, vault);
    assert_eq!(message, "no volume of this fleet has a recovery key");
    assert!(hint.contains("[fleet.escrow]"), "{hint}");
    let (message, hint, _) = one(TPM, seal, "seal-pcrs = [7]\nescrow-path = \"out/{device}.luks\"");
    assert_eq!(
        message,
        "the volume of `kiosk-01` and the escrow file of `kiosk-01` would be the same file `out/kiosk-01.luks`"
    );
    assert_eq!(hint, "give each its own path");
    let two = format!("{TPM}[[devices]]\nid = \"kiosk-02\"\nprofile = \"vm\"\npolicy = \"kiosk\"\n");
    let (message, hint, _) = one(&two, seal, "seal-pcrs = [7]\nescrow-path = \"vault/all.age\"");
    assert_eq!(
        message,
        "devices `kiosk-01` and `kiosk-02` would write the same escrow file `vault/all.age`"
    );
    assert_eq!(hint, "put `{device}` into the path");
}

#[test]
fn a_rollback_counter_is_an_nv_index_of_the_owner() {
    for index in ["0x01c00000", "0x017fffff", "25165856", "0x1800020", "0x81010020"] {
        let line = format!("seal-pcrs = [7]\nrollback-counter = \"{index}\"");
        let (message, hint, at) = one(TPM, "seal-pcrs = [7]", &line);
        assert_eq!(message, format!("`{index}` is not an NV index of the owner"));
        assert!(hint.contains("0x01800020") && at > 1, "{hint}");
    }
    let line = "size = \"32MiB\"\nrollback-counter = \"0x01800020\"";
    let (message, _, _) = one(OTP, "size = \"32MiB\"", line);
    assert!(message.contains("rollback-counter"), "{message}");
}
