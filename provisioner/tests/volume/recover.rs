//! The recovery drill: the TPM is gone, the keeper's key is not.

use std::process::Command;

use testkit::Swtpm;

use crate::bench::Bench;

#[test]
fn a_keeper_recovers_a_volume_onto_another_tpm() {
    let bench = Bench::new();
    let (identity, public) = bench.keeper("keeper");
    let (stranger, _) = bench.keeper("stranger");
    bench.create("edge-1.luks", &["--escrow-to", &public]);
    bench.create("edge-2.luks", &["--escrow-to", &public]);
    let other = Swtpm::start();
    other.extend(7, b"another board");

    let recover = |more: &[&str]| {
        let mut all = vec!["volume", "recover", "edge-1.luks"];
        all.extend(more);
        bench.with(&other, &all)
    };
    let wrong = recover(&["--identity", &stranger]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("none of these identities"), "{}", wrong.err);
    let swapped = recover(&[
        "--identity",
        &identity,
        "--escrow-file",
        "edge-2.luks.recovery.age",
    ]);
    assert_eq!(swapped.code, 1);
    assert!(swapped.err.contains("of the volume"), "{}", swapped.err);
    let registry = recover(&["--identity", &identity, "--volume-key", &"00".repeat(32)]);
    assert_eq!(registry.code, 1);
    assert!(registry.err.contains("another volume"), "{}", registry.err);

    let drill = recover(&["--identity", &identity, "--no-reseal"]);
    assert_eq!(drill.code, 0, "{}", drill.err);
    bench.opens("edge-1.luks", &[]);

    // What the header says of its seal anybody may have written: it is told, and not done.
    let before = bench.dump("edge-1.luks");
    let unsaid = recover(&["--identity", &identity]);
    assert_eq!(unsaid.code, 2, "{}", unsaid.err);
    assert!(
        unsaid.err.contains("if the header is right: --seal-pcrs 7\n"),
        "{}",
        unsaid.err
    );
    assert_eq!(bench.dump("edge-1.luks"), before);
    let done = recover(&["--identity", &identity, "--seal-pcrs", "7"]);
    assert_eq!(done.code, 0, "{}", done.err);
    let opened = bench.with(&other, &["volume", "cat", "edge-1.luks", "/psk"]);
    assert_eq!(opened.code, 0, "{}", opened.err);
    assert_eq!(
        bench.psk("edge-1.luks", &[]).code,
        1,
        "the old TPM opens it no more"
    );
    // The recovery key goes on opening, and verifies the header.
    assert_eq!(recover(&["--identity", &identity, "--no-reseal"]).code, 0);
}

#[test]
fn stock_tools_do_the_drill_too_and_show_shows_the_same_key() {
    let bench = Bench::new();
    let (identity, public) = bench.keeper("keeper");
    let made = bench.create(
        "edge-1.luks",
        &["--escrow-to", &public, "--escrow-file", "escrow.age"],
    );
    let text = Command::new("age")
        .current_dir(bench.dir())
        .args(["-d", "-i", &identity, "escrow.age"])
        .output()
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    let key = text.lines().find_map(|line| line.strip_prefix("key: ")).unwrap();
    assert!(bench.cryptsetup_opens("edge-1.luks", key.as_bytes()));

    let shown = bench.run(&[
        "volume",
        "recover",
        "edge-1.luks",
        "--identity",
        &identity,
        "--escrow-file",
        "escrow.age",
        "--no-reseal",
        "--show",
    ]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert_eq!(shown.out.lines().last().unwrap(), key);
    let hidden = bench.run(&[
        "volume",
        "recover",
        "edge-1.luks",
        "--identity",
        &identity,
        "--escrow-file",
        "escrow.age",
        "--no-reseal",
    ]);
    for said in [&made.out, &made.err, &hidden.out, &hidden.err] {
        assert!(!said.contains(key));
    }
    let json = bench.run(&[
        "volume",
        "recover",
        "edge-1.luks",
        "--identity",
        &identity,
        "--escrow-file",
        "escrow.age",
        "--no-reseal",
        "--show",
        "--json",
    ]);
    let events: Vec<serde_json::Value> = json
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.last().unwrap()["key"], key);
    bench.file("key", key);
    let opened = bench.run(&["volume", "verify", "edge-1.luks", "--recovery-key-file", "key"]);
    assert_eq!(opened.code, 0, "{}{}", opened.out, opened.err);
}
