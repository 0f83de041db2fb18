//! Another way in for the same volume, and the end of the old one.

use std::process::Command;

use crate::bench::Bench;

#[test]
fn a_volume_moves_to_other_pcrs_and_a_pin() {
    let bench = Bench::new();
    bench.create("x.luks", &[]);
    let before = bench.dump("x.luks");
    bench.file("pin", "1234");
    let done = bench.with_tpm(&[
        "volume",
        "reseal",
        "x.luks",
        "--seal-pcrs",
        "11",
        "--new-pin-file",
        "pin",
        "--srk",
        "tcg",
    ]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("unsealed once and compared"), "{}", done.out);
    let after = bench.dump("x.luks");
    assert_ne!(before["keyslots"]["0"]["area"], after["keyslots"]["0"]["area"]);
    assert_eq!(
        after["keyslots"].as_object().unwrap().len(),
        1,
        "the old keyslot is gone"
    );
    bench.opens("x.luks", &["--pin-file", "pin"]);
    // PCR 7 may move now, and PCR 11 may not.
    bench.tpm.extend(7, b"new firmware");
    bench.opens("x.luks", &["--pin-file", "pin"]);
    // What is not said stays: PCR 11, the PIN, the storage key.
    let again = bench.with_tpm(&["volume", "reseal", "x.luks", "--pin-file", "pin"]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(
        again.out.contains("sha256:11 and a PIN, under tcg-ecc"),
        "{}",
        again.out
    );
    bench.opens("x.luks", &["--pin-file", "pin"]);
    bench.tpm.extend(11, b"another kernel");
    assert_eq!(bench.psk("x.luks", &["--pin-file", "pin"]).code, 1);
}

/// No MAC covers tokens: the one counts under which the TPM released the secret, wherever another was put before it.
#[test]
fn a_token_that_somebody_wrote_decides_nothing() {
    let bench = Bench::new();
    bench.create("x.luks", &[]);
    let token = |arguments: &[&str]| {
        let output = Command::new("cryptsetup")
            .current_dir(bench.dir())
            .arg("token")
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let ours = token(&["export", "--token-id", "0", "x.luks"]);
    let mut theirs: serde_json::Value = serde_json::from_str(&ours).unwrap();
    theirs["tpm2-pcrs"] = serde_json::json!([11]);
    bench.file("ours", &ours);
    bench.file("theirs", theirs.to_string());
    token(&["remove", "--token-id", "0", "x.luks"]);
    token(&["import", "--token-id", "0", "--json-file", "theirs", "x.luks"]);
    token(&["import", "--token-id", "5", "--json-file", "ours", "x.luks"]);
    let info = bench.run(&["volume", "info", "x.luks"]);
    assert!(
        info.out.contains("sha256:11") && info.out.contains("sha256:7"),
        "{}",
        info.out
    );
    let done = bench.with_tpm(&["volume", "reseal", "x.luks"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("to the values of sha256:7,"), "{}", done.out);
    bench.opens("x.luks", &[]);
    bench.tpm.extend(7, b"another system");
    assert_eq!(bench.psk("x.luks", &[]).code, 1);
}

/// A new recovery key takes the place of the old one's file, and of nothing else.
#[test]
fn a_new_recovery_key_replaces_no_other_file() {
    let bench = Bench::new();
    let (_, public) = bench.keeper("keeper");
    bench.create("a.luks", &["--escrow-to", &public]);
    bench.create("b.luks", &[]);
    bench.file("notes", "do not lose");
    let before = (bench.dump("a.luks"), bench.dump("b.luks"));
    for (volume, file, why) in [
        (
            "b.luks",
            "a.luks.recovery.age",
            "no recovery key that could be in it",
        ),
        ("a.luks", "notes", "no file that age has encrypted"),
    ] {
        let kept = std::fs::read(bench.path(file)).unwrap();
        let refused = bench.with_tpm(&[
            "volume",
            "reseal",
            volume,
            "--escrow-to",
            &public,
            "--escrow-file",
            file,
        ]);
        assert_eq!(refused.code, 2, "{}", refused.err);
        assert!(refused.err.contains(why), "{}", refused.err);
        assert_eq!(std::fs::read(bench.path(file)).unwrap(), kept);
        assert!(!bench.path(&format!("{file}.next")).exists());
    }
    assert_eq!((bench.dump("a.luks"), bench.dump("b.luks")), before);
}

#[test]
fn what_is_not_enough_changes_nothing() {
    let bench = Bench::new();
    let (identity, public) = bench.keeper("keeper");
    bench.create("x.luks", &["--escrow-to", &public]);
    let before = bench.dump("x.luks");
    let unmeasured = bench.with_tpm(&["volume", "reseal", "x.luks", "--seal-pcrs", "9"]);
    assert_eq!(unmeasured.code, 3, "{}", unmeasured.err);
    let shown = bench.run(&[
        "volume",
        "recover",
        "x.luks",
        "--identity",
        &identity,
        "--no-reseal",
        "--show",
    ]);
    bench.file("key", shown.out.lines().last().unwrap());
    // A passphrase, which is what the recovery key is to who does not say what it is, authenticates no header.
    let read = bench.run(&["volume", "cat", "x.luks", "/psk", "--passphrase-file", "key"]);
    assert_eq!(read.code, 0, "{}", read.err);
    assert!(read.err.contains("authenticates no header"), "{}", read.err);
    let refused = bench.run(&["volume", "reseal", "x.luks", "--passphrase-file", "key"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert_eq!(bench.dump("x.luks"), before);
    bench.opens("x.luks", &[]);
}

#[test]
fn a_volume_that_systemd_enrolled_is_read_only_by_name() {
    let bench = Bench::new();
    bench.file("x.luks", vec![0; 32 << 20]);
    bench.file("password", "password");
    let formatted = Command::new("cryptsetup")
        .current_dir(bench.dir())
        .args([
            "luksFormat",
            "--batch-mode",
            "--type",
            "luks2",
            "--pbkdf",
            "pbkdf2",
        ])
        .args(["--pbkdf-force-iterations", "1000", "x.luks", "password"])
        .output()
        .unwrap();
    assert!(formatted.status.success());
    let enrolled = Command::new("systemd-cryptenroll")
        .current_dir(bench.dir())
        .env("PASSWORD", "password")
        .arg(format!("--tpm2-device={}", bench.tpm.tcti()))
        .args(["--tpm2-pcrs=7", "x.luks"])
        .output()
        .unwrap_or_else(|e| panic!("systemd-cryptenroll: {e}: apt-get install systemd"));
    assert!(
        enrolled.status.success(),
        "{}",
        String::from_utf8_lossy(&enrolled.stderr)
    );
    bench.tpm.tool("tpm2_flushcontext", &["-l"]);
    for command in [
        &["volume", "verify", "x.luks"][..],
        &["volume", "reseal", "x.luks"],
    ] {
        let refused = bench.with_tpm(command);
        assert_eq!(refused.code, 1);
        assert!(refused.err.contains("nothing proves"), "{}", refused.err);
        assert!(refused.err.contains("--unauthenticated"), "{}", refused.err);
    }
    let read = bench.with_tpm(&["volume", "verify", "x.luks", "--unauthenticated"]);
    // There is no file system in it.
    assert_eq!(read.code, 1, "{}{}", read.out, read.err);
    assert!(read.out.contains("authenticates nothing"), "{}", read.out);
}
