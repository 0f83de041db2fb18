//! A fleet with keepers: `apply` gives each volume a recovery key, and puts it into escrow before the volume is there.
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

use std::{fs, process::Command};

use common::{DEMO, Station};

#[test]
fn a_fleets_keepers_can_open_what_apply_made() {
    let station = Station::new();
    let output = Command::new("age-keygen")
        .output()
        .unwrap_or_else(|e| panic!("age-keygen: {e}: apt-get install age"));
    let identity = String::from_utf8(output.stdout).unwrap();
    let public = identity
        .lines()
        .find_map(|l| l.strip_prefix("# public key: "))
        .unwrap();
    fs::write(station.path().join("keeper"), &identity).unwrap();
    let bad = DEMO.replace(
        "[policies.kiosk]\n",
        "[fleet.escrow]\nrecipients = [\"age1nobody\"]\n\n[policies.kiosk]\n",
    );
    fs::write(station.path().join("demo.toml"), bad).unwrap();
    let refused = station.run(&["apply", "demo.toml"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("escrow"), "{}", refused.err);
    assert!(!station.volume().exists());

    let escrow = format!("[fleet.escrow]\nrecipients = [\"{public}\"]\n\n[policies.kiosk]\n");
    let fleet = DEMO
        .replace("[policies.kiosk]\n", &escrow)
        .replace("size = \"32MiB\"", "size = \"32MiB\"\ncipher = \"adiantum\"");
    fs::write(station.path().join("demo.toml"), fleet).unwrap();
    let planned = station.run(&["plan", "demo.toml"]);
    assert!(
        planned.out.contains(public) && planned.out.contains("adiantum"),
        "{}{}",
        planned.out,
        planned.err
    );
    let applied = station.run(&["apply", "demo.toml"]);
    assert_eq!(applied.code, 0, "{}", applied.err);
    let recovered = station.run(&[
        "volume",
        "recover",
        "out/kiosk-bern-01.luks",
        "--identity",
        "keeper",
        "--no-reseal",
    ]);
    assert_eq!(recovered.code, 0, "{}", recovered.err);
    assert!(recovered.err.contains("kiosk-bern-01"), "{}", recovered.err);
}
