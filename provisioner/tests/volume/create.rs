//! Volumes of folders and images, as cryptsetup and our own commands see them.

use std::{fs, process::Command};

use crate::bench::{Bench, PSK};

#[test]
fn a_folder_becomes_a_volume_that_the_tpm_opens() {
    let bench = Bench::new();
    let ran = bench.create(
        "edge-1.luks",
        &["--json", "--authenticate-content", "--label", "for edge-1"],
    );
    let last: serde_json::Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "done");
    assert_eq!(last["volumes"][0]["seal"], "unsealed once and compared");
    assert!(
        ran.out.lines().any(|line| line.contains("\"progress\"")),
        "{}",
        ran.out
    );

    bench.opens("edge-1.luks", &[]);
    let listed = bench.with_tpm(&["volume", "ls", "edge-1.luks", "-R"]);
    assert_eq!(listed.code, 0, "{}", listed.err);
    assert!(listed.out.contains(" /etc/app/settings.toml\n"), "{}", listed.out);
    let line = listed.out.lines().find(|line| line.ends_with("/psk")).unwrap();
    assert!(
        line.starts_with("-rw-") && line.contains(&PSK.len().to_string()),
        "{line}"
    );

    let info = bench.run(&["volume", "info", "edge-1.luks"]);
    for words in [
        "aes-xts-plain64",
        "sealed to PCRs sha256:7",
        "for edge-1",
        "MAC",
        "4096 bytes",
    ] {
        assert!(info.out.contains(words), "{words}: {}", info.out);
    }
    let verified = bench.with_tpm(&["volume", "verify", "edge-1.luks", "--json"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    let verdict: serde_json::Value = serde_json::from_str(verified.out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&verdict["whole"], &verdict["content"]),
        (&true.into(), &"authentic".into())
    );

    // One bit of the data, which nothing but the content's MAC notices.
    let path = bench.path("edge-1.luks");
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.len() - 5000;
    bytes[place] ^= 1;
    fs::write(&path, bytes).unwrap();
    let broken = bench.with_tpm(&["volume", "verify", "edge-1.luks"]);
    assert_eq!(broken.code, 1, "{}", broken.out);
    assert!(broken.out.contains("BROKEN") && broken.out.contains("not the one that was written"));
}

#[test]
fn several_targets_have_keys_of_their_own() {
    let bench = Bench::new();
    let ran = bench.with_tpm(&[
        "volume",
        "create",
        "a.luks",
        "b.luks",
        "c.luks",
        "--content",
        "content",
        "--seal-pcrs",
        "7,11",
        "--cipher",
        "adiantum",
        "--sector-size",
        "4096",
        "--json",
        "-q",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let last: serde_json::Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    let volumes = last["volumes"].as_array().unwrap();
    assert_eq!(volumes.len(), 3);
    for (nth, name) in ["a.luks", "b.luks", "c.luks"].into_iter().enumerate() {
        bench.opens(name, &[]);
        assert_eq!(
            bench.dump(name)["segments"]["0"]["encryption"],
            "xchacha12,aes-adiantum-plain64"
        );
        for field in ["uuid", "volume-key"] {
            assert!(
                volumes[..nth]
                    .iter()
                    .all(|other| other[field] != volumes[nth][field])
            );
        }
    }
}

#[test]
fn an_image_goes_in_as_it_is() {
    let bench = Bench::new();
    let image = bench.file("image.ext4", vec![0; 4 << 20]);
    let made = Command::new("mke2fs")
        .args(["-q", "-d"])
        .arg(bench.path("content"))
        .arg(&image)
        .output()
        .unwrap();
    assert!(made.status.success());
    let ran = bench.with_tpm(&[
        "volume",
        "create",
        "x.luks",
        "--image",
        "image.ext4",
        "--seal-pcrs",
        "7",
        "--sector-size",
        "512",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    bench.opens("x.luks", &[]);
    assert_eq!(bench.dump("x.luks")["segments"]["0"]["sector_size"], 512);
    assert!(ran.err.contains("no --escrow-to"), "{}", ran.err);
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_it_would() {
    let bench = Bench::new();
    let ran = bench.with_tpm(&[
        "volume",
        "create",
        "x.luks",
        "--content",
        "content",
        "--seal-pcrs",
        "7",
        "--dry-run",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out.contains("would write x.luks") && ran.out.contains("sha256:7"),
        "{}",
        ran.out
    );
    assert!(!bench.path("x.luks").exists());
}

#[test]
fn a_signed_policy_and_a_pin_are_sealed_to_under_both_storage_keys() {
    let bench = Bench::new();
    bench.builder("builder");
    bench.approve("builder", "signature.json");
    bench.file("pin", "tea at five\n");
    for srk in ["systemd-252", "tcg"] {
        let name = format!("{srk}.luks");
        bench.create(
            &name,
            &[
                "--seal-public-key",
                "builder.pem",
                "--pcr-signature",
                "signature.json",
                "--new-pin-file",
                "pin",
                "--srk",
                srk,
            ],
        );
        let open = ["--pcr-signature", "signature.json", "--pin-file", "pin"];
        bench.opens(&name, &open);
        let without = bench.psk(&name, &["--pin-file", "pin"]);
        assert_eq!(without.code, 1, "{}", without.err);
        let info = bench.run(&["volume", "info", &name]);
        assert!(
            info.out.contains("wants a PIN") && info.out.contains("approves"),
            "{}",
            info.out
        );
        assert!(!info.out.contains("unusable"), "{}", info.out);
        assert_eq!(bench.dump(&name)["tokens"]["0"]["tpm2-pin"], true);
    }
    // An update: other values, approved by the same key; no new seal.
    bench.tpm.extend(11, b"the next kernel");
    bench.approve("builder", "next.json");
    for srk in ["systemd-252", "tcg"] {
        bench.opens(
            &format!("{srk}.luks"),
            &["--pcr-signature", "next.json", "--pin-file", "pin"],
        );
    }
}

#[test]
fn the_same_seed_makes_the_same_secrets_for_a_tpm_that_is_not_here() {
    let bench = Bench::new();
    bench.file("seed", [9; 32]);
    let collected = bench.with_tpm(&["inventory", "collect", "-o", "tpm.json"]);
    assert_eq!(collected.code, 0, "{}", collected.err);
    for name in ["a.luks", "b.luks"] {
        let ran = bench.run(&[
            "volume",
            "create",
            name,
            "--content",
            "content",
            "--size",
            "32MiB",
            "--seal-pcrs",
            "7",
            "--srk-public",
            "tpm.json",
            "--seed-reproducible",
            "seed",
        ]);
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
    let read = |name| fs::read(bench.path(name)).unwrap();
    assert!(read("a.luks") == read("b.luks"), "the same seed, the same bytes");
    bench.opens("a.luks", &[]);
}

/// PCR 15 is zero until `unlock` closes the way behind a volume: it may be sealed to, beside a PCR that was measured into.
#[test]
fn the_pcr_that_closes_the_way_may_be_zero_beside_others() {
    let bench = Bench::new();
    let alone = bench.with_tpm(&[
        "volume",
        "create",
        "alone.luks",
        "--content",
        "content",
        "--seal-pcrs",
        "15",
    ]);
    assert_eq!(alone.code, 3, "{}", alone.err);
    assert!(alone.err.contains("PCR 15 is uninitialised"), "{}", alone.err);
    // Others are not: whoever starts a program on the machine sets them as he likes.
    bench.tpm.extend(16, b"debugging");
    let reset = bench.with_tpm(&[
        "volume",
        "create",
        "reset.luks",
        "--content",
        "content",
        "--seal-pcrs",
        "7,16",
    ]);
    assert_eq!(reset.code, 2, "{}", reset.err);
    assert!(reset.err.contains("reset by any program"), "{}", reset.err);
    assert!(!bench.path("alone.luks").exists() && !bench.path("reset.luks").exists());
    bench.create("x.luks", &["--seal-pcrs", "7,15"]);
    bench.opens("x.luks", &[]);
    bench.tpm.extend(15, b"closed");
    assert_eq!(bench.psk("x.luks", &[]).code, 1);
}
