//! The main job: a bare TPM becomes a device that asks and is answered; without its proof it is refused.

use crate::harness::{Backing, DEVICE, Line};

#[test]
fn a_device_is_provisioned_and_answered_on_sqlite() {
    provisioned_and_answered(Backing::Sqlite);
}

#[test]
fn a_device_is_provisioned_and_answered_on_etcd() {
    provisioned_and_answered(Backing::Etcd);
}

fn provisioned_and_answered(backing: Backing) {
    let line = Line::start(backing);
    let applied = line.apply().succeeded().json();
    assert_eq!(applied["event"], "done", "{applied}");
    assert_eq!(applied["devices"][0]["outcome"], "enrolled", "{applied}");

    let answered = line.admitted().json();
    assert_eq!(answered["session"]["device"], DEVICE, "{answered}");
    assert!(
        answered["answer"].as_str().unwrap().contains("platform 7"),
        "{answered}"
    );
    assert!(
        answered["session"]["expires_in"].as_u64().unwrap() > 0,
        "{answered}"
    );

    // Again: nothing to do, and nothing breaks.
    let applied = line.apply().succeeded().json();
    assert_eq!(applied["devices"][0]["outcome"], "unchanged", "{applied}");
    line.admitted();
}

#[test]
fn a_psk_without_a_quote_is_refused() {
    let line = Line::start(Backing::Sqlite);
    line.apply().succeeded();
    line.admitted();
    let refused = line.ask(&["--no-evidence"]);
    assert_eq!(
        (refused.code, refused.refusal().as_str()),
        (Some(3), "evidence-missing")
    );
}

#[test]
fn a_moved_pcr_is_named_to_the_operator_and_not_to_the_client() {
    let line = Line::start(Backing::Sqlite);
    line.apply().succeeded();
    line.admitted();
    line.tpm.extend(11, b"another kernel");
    let refused = line.ask(&[]);
    assert_eq!(
        (refused.code, refused.refusal().as_str()),
        (Some(3), "evidence-mismatch")
    );
    for told in [&refused.stdout, &refused.stderr] {
        assert!(!told.contains("PCR 11"), "the client was told which PCR: {told}");
    }
    let log = line.proxy_log();
    let entry = log
        .lines()
        .find(|entry| entry.contains("evidence-mismatch"))
        .expect("a line for the operator");
    assert!(entry.contains("PCR 11") && entry.contains(DEVICE), "{entry}");
}

#[test]
fn a_moved_pcr_of_the_seal_keeps_the_volume_shut() {
    let line = Line::start(Backing::Sqlite);
    line.apply().succeeded();
    line.tpm.extend(7, b"secure boot is off");
    let failed = line.ask(&[]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_eq!(
        line.proxy_log().matches("evidence-mismatch").count(),
        0,
        "the key never left the TPM"
    );
}

#[test]
fn after_a_reboot_with_the_same_measurements_the_device_is_admitted_again() {
    let line = Line::start(Backing::Sqlite);
    line.apply().succeeded();
    line.admitted();
    line.tpm.reset();
    crate::harness::boot(&line.tpm);
    line.admitted();
}
