//! `provisioner evidence golden` on software TPMs: what it refuses, and what it says without a log.
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

use common::{DATA, run};
use testkit::Swtpm;

#[test]
fn pcrs_into_which_nothing_was_measured_are_refused_unless_asked_for() {
    let tpm = Swtpm::start();
    tpm.extend(7, b"secure boot on");
    let golden = |more: &[&str]| {
        let tcti = tpm.tcti();
        run(
            &tpm.dir(),
            &[&["evidence", "golden", "--tcti", &tcti][..], more].concat(),
        )
    };
    let ran = golden(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(
        ran.err
            .contains("nothing was measured into PCR 0, 2, 4, 11\nhint: "),
        "{}",
        ran.err
    );
    let asked = golden(&["--pcrs", "sha256:7,11", "--allow-uninitialised"]);
    assert_eq!(asked.code, 0, "{}", asked.err);
    assert!(asked.out.contains("allow-uninitialised = true"));
    let plain = golden(&["--pcrs", "sha256:7"]);
    assert_eq!(plain.code, 0);
    insta::assert_snapshot!("golden_without_a_log", plain.out);

    for selection in ["sha256:7,16", "sha256:23"] {
        assert_eq!(golden(&["--pcrs", selection]).code, 2, "{selection}");
    }
    for selection in ["sha256", "sha256:", "sha256:24", "md5:7", "sha256:7,x"] {
        assert_eq!(golden(&["--pcrs", selection]).code, 2, "{selection}");
    }
    let absent = run(
        &tpm.dir(),
        &["evidence", "golden", "--tcti", "device:/dev/no-such-tpm"],
    );
    assert_eq!((absent.code, absent.out.as_str()), (1, ""));
}

#[test]
fn a_log_that_does_not_explain_a_value_is_told_beside_it() {
    let tpm = Swtpm::start();
    tpm.extend(7, b"secure boot on");
    let (tcti, log) = (tpm.tcti(), format!("{DATA}/ovmf-shim-grub.log"));
    let golden = [
        "evidence",
        "golden",
        "--tcti",
        &tcti,
        "--pcrs",
        "sha256:7",
        "--event-log",
        &log,
    ];
    let ran = run(&tpm.dir(), &golden);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out
            .contains("#   the event log does not explain this value: PCR 7 does not replay"),
        "{}",
        ran.out
    );
    let json = run(&tpm.dir(), &[&golden[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["explained-by-log"], false);
    assert_eq!(json["toml"], ran.out);
}
