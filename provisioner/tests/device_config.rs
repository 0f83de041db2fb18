//! `device config`: the `edge.toml` of an enrolled device.
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

use common::{Ran, Station, run};
use testkit::Swtpm;

const CONFIG: [&str; 5] = ["device", "config", "kiosk-bern-01", "--manifest", "demo.toml"];

fn enrolled() -> Station {
    let station = Station::new();
    let applied = station.run(&["apply", "demo.toml"]);
    assert_eq!(applied.code, 0, "{}", applied.err);
    station
}

fn config(station: &Station, more: &[&str]) -> Ran {
    station.run(&[&CONFIG[..], more].concat())
}

fn inventory(station: &Station, tpm: &Swtpm, name: &str) -> serde_json::Value {
    let collected = run(
        station.path(),
        &["inventory", "collect", "--tcti", &tpm.tcti(), "--output", name],
    );
    assert_eq!(collected.code, 0, "{}", collected.err);
    serde_json::from_slice(&std::fs::read(station.path().join(name)).unwrap()).unwrap()
}

#[test]
fn registry_manifest_and_inventory_become_one_file() {
    let station = enrolled();
    let record = station.device("show");
    let inventory = inventory(&station, &station.tpm, "tpm.json");
    let more = [
        "--volume",
        "/dev/disk/by-partlabel/device",
        "--srk-public",
        "tpm.json",
        "--rollback-counter",
        "0x01800020",
    ];
    let told = config(&station, &[&more[..], &["--json"]].concat());
    assert_eq!(told.code, 0, "{}", told.err);
    let told: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    let config_of = &told["config"];
    assert_eq!(config_of["volume"], "/dev/disk/by-partlabel/device");
    assert_eq!(config_of["volume-key-digest"], record["volume-key"]);
    assert_eq!(config_of["rollback-counter"], "0x01800020");
    assert_eq!(told["fleet"], "demo");
    assert!(told["ak-handle"].as_str().unwrap().starts_with("0x81"));
    for key in inventory["storage-keys"].as_array().unwrap() {
        let template = key["template"].as_str().unwrap();
        assert_eq!(config_of["storage-keys"][template], key["name"], "{template}");
    }
    let written = config(&station, &[&more[..], &["--output", "edge.toml"]].concat());
    assert_eq!(written.code, 0, "{}", written.err);
    let text = std::fs::read_to_string(station.path().join("edge.toml")).unwrap();
    assert_eq!(told["toml"], text.as_str());
    assert!(text.contains("\n[storage-keys]\nsystemd-ecc = \"000b"), "{text}");
    assert!(!text.contains("sbx_"), "{text}");
}

#[test]
fn what_is_not_known_is_left_out() {
    let station = enrolled();
    let plain = config(&station, &[]);
    assert_eq!(plain.code, 0, "{}", plain.err);
    let volume = std::fs::canonicalize(station.volume()).unwrap();
    assert!(
        plain.out.contains(&format!("volume = {volume:?}\n")),
        "{}",
        plain.out
    );
    assert!(
        !plain.out.contains("storage-keys") && !plain.out.contains("rollback"),
        "{}",
        plain.out
    );
}

#[test]
fn another_tpms_storage_keys_are_not_pinned() {
    let station = enrolled();
    inventory(&station, &Swtpm::start(), "other.json");
    let refused = config(&station, &["--srk-public", "other.json", "--output", "edge.toml"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(
        refused.err.contains("the inventory is of another TPM"),
        "{}",
        refused.err
    );
    assert!(!station.path().join("edge.toml").exists());
    let unknown = station.run(&["device", "config", "kiosk-x", "--manifest", "demo.toml"]);
    assert_eq!(unknown.code, 1, "{}", unknown.err);
}
