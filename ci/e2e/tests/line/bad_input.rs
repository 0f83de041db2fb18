//! What a user does wrong: the exit code tells the kind, the message the place, and nothing is half done.

use std::fs;

use crate::harness::{Backing, DEVICE, Line, example, program};

/// A mistake in the manifest, and what must be said about it.
const MISTAKES: [(&str, &str, &str); 5] = [
    (
        "an unknown key",
        "session-ttl = \"10m\"",
        "session-ttl = \"10m\"\nsesion-tll = \"1m\"",
    ),
    ("a PCR out of range", "seal-pcrs = [7]", "seal-pcrs = [7, 24]"),
    ("a missing policy", "policy = \"kiosk\"", "policy = \"kisok\""),
    (
        "a missing profile",
        "profile = \"kiosk-vm\"",
        "profile = \"kiosk\"",
    ),
    ("no TOML at all", "version = 1", "version = = 1"),
];

#[test]
fn a_bad_manifest_is_exit_2_with_the_place_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.toml");
    let twice =
        example() + "\n[[devices]]\nid = \"kiosk-bern-01\"\nprofile = \"kiosk-vm\"\npolicy = \"kiosk\"\n";
    let mut cases = vec![("a duplicate device id", twice)];
    for (what, good, bad) in MISTAKES {
        let text = example().replace(good, bad);
        assert_ne!(text, example(), "{what}: the example has changed");
        cases.push((what, text));
    }
    for (what, text) in cases {
        fs::write(&path, text).unwrap();
        for command in ["validate", "plan", "apply"] {
            let output = program("provisioner").arg(command).arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{what}, {command}: {said}");
            let place = said.split("fleet.toml:").nth(1).unwrap_or_default();
            let mut numbers = place.split(|c: char| !c.is_ascii_digit());
            let whole = numbers.next().is_some_and(|line| !line.is_empty())
                && numbers.next().is_some_and(|column| !column.is_empty());
            assert!(whole, "{what}, {command}: no file:line:column in {said}");
        }
    }
}

#[test]
fn wrong_use_is_exit_2() {
    for name in ["provisioner", "attest-proxy", "edge-client"] {
        assert_eq!(
            program(name)
                .arg("--no-such-option")
                .output()
                .unwrap()
                .status
                .code(),
            Some(2),
            "{name}"
        );
        for asked in ["--help", "--version"] {
            let output = program(name).arg(asked).output().unwrap();
            assert!(
                output.status.success() && !output.stdout.is_empty(),
                "{name} {asked}"
            );
        }
    }
}

#[test]
fn an_absent_tpm_is_exit_1_and_nothing_is_registered() {
    let mut line = Line::start(Backing::Sqlite);
    line.tpm.kill();
    let failed = line.apply();
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_ne!(line.device(&["show", DEVICE]).code, Some(0));
    assert!(!line.volume(DEVICE).exists(), "a volume without a device");
    line.tpm.revive();
    crate::harness::boot(&line.tpm);
    line.apply().succeeded();
    line.admitted();
}

#[test]
fn pcrs_into_which_nothing_was_measured_are_not_sealed_to() {
    let line = Line::start(Backing::Sqlite);
    line.tpm.reset();
    let refused = line.apply();
    assert!(matches!(refused.code, Some(1 | 3)), "{refused:?}");
    assert_ne!(line.device(&["show", DEVICE]).code, Some(0));
}

#[test]
fn a_volume_that_is_there_is_not_overwritten() {
    let line = Line::start(Backing::Sqlite);
    fs::create_dir_all(line.volume(DEVICE).parent().unwrap()).unwrap();
    fs::write(line.volume(DEVICE), b"somebody's file").unwrap();
    let refused = line.apply();
    assert!(matches!(refused.code, Some(1..=3)), "{refused:?}");
    assert_eq!(fs::read(line.volume(DEVICE)).unwrap(), b"somebody's file");
    assert_ne!(line.device(&["show", DEVICE]).code, Some(0));
}

#[test]
fn an_unknown_device_is_an_error_and_not_an_empty_answer() {
    let line = Line::start(Backing::Sqlite);
    line.apply().succeeded();
    for action in ["show", "suspend", "resume"] {
        let failed = line.device(&[action, "kiosk-nowhere-00"]);
        assert_eq!(failed.code, Some(1), "{action}: {failed:?}");
        assert!(
            failed.json()["message"]
                .as_str()
                .unwrap()
                .contains("kiosk-nowhere-00"),
            "{failed:?}"
        );
    }
}

#[test]
fn the_example_configuration_of_the_proxy_parses() {
    let folder = tempfile::tempdir().unwrap();
    let example = program("attest-proxy")
        .args(["config", "--example"])
        .output()
        .unwrap();
    assert!(example.status.success());
    let text = String::from_utf8(example.stdout).unwrap();
    for key in [
        "listen",
        "operator-listen",
        "fleet",
        "audience",
        "registry",
        "upstream",
        "[fleet-key]",
    ] {
        assert!(text.contains(key), "{key} is not in the example");
    }
    let path = folder.path().join("attest-proxy.toml");
    fs::write(&path, text.replace("listen =", "lisen =")).unwrap();
    let refused = program("attest-proxy")
        .args(["serve", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("attest-proxy.toml:"), "no place in {said}");
}
