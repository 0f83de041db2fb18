//! The command line without a TPM: help, wrong use, invalid manifests. Golden texts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

mod common;

use std::{fs, path::Path};

use common::{DEMO, run};

const BAD: &str = r#"version = 1
[fleet]
name = "demo"
audience = "https://llm.demo.example"
registry = "sqlite:registry.db"
proxy = "https://llm.demo.example"

[policies.kiosk]
modles = ["*"]

[profiles.vm]
key-store = "tpm"
ek-trust = "first-use"
measured-boot = false
volume = { path = "{device}.luks", size = "32MiB", seal-pcrs = [7, 24] }

[[devices]]
id = "kiosk"
profile = "vm"
policy = "kisok"
"#;

fn help(arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(dir.path(), arguments);
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out
}

#[test]
fn help_of_all_commands() {
    insta::assert_snapshot!("help", help(&["--help"]));
    insta::assert_snapshot!("help_apply", help(&["apply", "--help"]));
    insta::assert_snapshot!("help_device", help(&["device", "--help"]));
    insta::assert_snapshot!("help_device_config", help(&["device", "config", "--help"]));
    insta::assert_snapshot!("help_volume", help(&["volume", "--help"]));
    insta::assert_snapshot!("help_volume_create", help(&["volume", "create", "--help"]));
    insta::assert_snapshot!("help_volume_reseal", help(&["volume", "reseal", "--help"]));
    insta::assert_snapshot!("help_volume_recover", help(&["volume", "recover", "--help"]));
    insta::assert_snapshot!("help_inventory", help(&["inventory", "collect", "--help"]));
    insta::assert_snapshot!("help_evidence", help(&["evidence", "--help"]));
    insta::assert_snapshot!("help_evidence_check", help(&["evidence", "check", "--help"]));
    insta::assert_snapshot!("help_evidence_golden", help(&["evidence", "golden", "--help"]));
}

#[test]
fn version_schema_and_completions() {
    assert_eq!(
        help(&["--version"]),
        format!("provisioner {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(help(&["schema"]), manifest::json_schema());
    for shell in ["bash", "zsh", "fish"] {
        assert!(help(&["completions", shell]).contains("provisioner"), "{shell}");
    }
}

#[test]
fn wrong_use_is_exit_2() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &["appyl"][..],
        &["apply"],
        &["plan", "demo.toml", "--device", "Bern"],
        &["plan", "demo.toml", "--tcti", "cmd:sh"],
        &["device", "list"],
        &["device", "list", "--fleet", "demo"],
        &["apply", "demo.toml", "--registry-user", "root"],
        &["apply", "demo.toml", "--confirm", "yes"],
    ] {
        let ran = run(dir.path(), arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.err);
        assert!(ran.out.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_manifest_is_valid_or_told_all_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("demo.toml"), DEMO).unwrap();
    let good = run(dir.path(), &["validate", "demo.toml"]);
    assert_eq!(
        (good.code, good.out.as_str()),
        (
            0,
            "demo.toml: fleet demo is valid: 1 device, 1 profile, 1 policy\n"
        )
    );

    fs::write(dir.path().join("bad.toml"), BAD).unwrap();
    let told = run(dir.path(), &["validate", "bad.toml"]);
    assert_eq!((told.code, told.out.as_str()), (2, ""));
    insta::assert_snapshot!("invalid_manifest", told.err);

    let json = run(dir.path(), &["plan", "bad.toml", "--json"]);
    assert_eq!(json.code, 2);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&json["event"], &json["exit"]), (&"failed".into(), &2.into()));
    assert_eq!(json["findings"].as_array().unwrap().len(), 4);
    assert_eq!(
        (&json["findings"][0]["line"], &json["findings"][0]["column"]),
        (&8.into(), &1.into())
    );

    fs::write(dir.path().join("latin.toml"), b"version = 1 # Z\xfcrich\n").unwrap();
    assert_eq!(run(dir.path(), &["validate", "latin.toml"]).code, 2);
    assert_eq!(run(dir.path(), &["validate", "absent.toml"]).code, 1);
}

fn make_registry(path: &Path) {
    let url = format!("sqlite:{}", path.display()).parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = registry::Options::default();
    runtime
        .block_on(registry::open(&url, &options, &"demo".parse().unwrap()))
        .unwrap();
}

#[test]
fn a_device_or_registry_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("demo.toml"), DEMO).unwrap();
    let ran = run(dir.path(), &["plan", "demo.toml", "--device", "kiosk-basel-01"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("hint: it has: kiosk-bern-01"), "{}", ran.err);
    let ran = run(
        dir.path(),
        &[
            "device",
            "list",
            "--manifest",
            "demo.toml",
            "--registry",
            "postgres://x",
        ],
    );
    assert_eq!(ran.code, 2, "{}", ran.err);
    let ran = run(
        dir.path(),
        &[
            "device",
            "list",
            "--manifest",
            "demo.toml",
            "--registry",
            "sqlite:no/such/folder/r.db",
        ],
    );
    assert_eq!(ran.code, 1, "{}", ran.err);
    make_registry(&dir.path().join("registry.db"));
    let ran = run(dir.path(), &["device", "list", "--manifest", "demo.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "no device is registered\n"));
    let ran = run(
        dir.path(),
        &["device", "suspend", "kiosk-bern-01", "--manifest", "demo.toml"],
    );
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err
            .contains("error: device 'kiosk-bern-01' is not registered\nhint: "),
        "{}",
        ran.err
    );
}

#[test]
fn what_is_no_volume_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.luks"), "text").unwrap();
    let info = run(dir.path(), &["volume", "info", "x.luks"]);
    assert_eq!((info.code, info.out.as_str()), (1, ""));
    assert!(info.err.contains("there is no LUKS2 header"), "{}", info.err);
    let cat = run(dir.path(), &["volume", "cat", "absent.luks", "/psk", "--json"]);
    let failed: serde_json::Value = serde_json::from_str(&cat.out).unwrap();
    assert_eq!(
        (cat.code, &failed["event"], &failed["exit"]),
        (1, &"failed".into(), &1.into())
    );
}

#[test]
fn a_tpm_that_is_absent_is_exit_1_with_its_address() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("demo.toml"), DEMO).unwrap();
    let ran = run(
        dir.path(),
        &["apply", "demo.toml", "--tcti", "device:/dev/no-such-tpm"],
    );
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(
        ran.err.contains("no TPM answers at device:/dev/no-such-tpm"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("hint: "), "{}", ran.err);
    assert!(!dir.path().join("out").exists());
}

#[test]
fn libraries_say_nothing_while_a_tpm_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("demo.toml"), DEMO).unwrap();
    let ran = run(
        dir.path(),
        &["plan", "demo.toml", "--tcti", "swtpm:host=127.0.0.1,port=1"],
    );
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("error: "), "{}", ran.err);
}

#[test]
fn looking_makes_no_registry() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("demo.toml"), DEMO).unwrap();
    let ran = run(dir.path(), &["device", "list", "--manifest", "demo.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("there is no registry at"), "{}", ran.err);
    let ran = run(
        dir.path(),
        &["plan", "demo.toml", "--tcti", "device:/dev/no-such-tpm"],
    );
    assert_eq!(ran.code, 1);
    assert!(!dir.path().join("registry.db").exists());
}
