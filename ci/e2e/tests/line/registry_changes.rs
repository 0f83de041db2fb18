//! The proxy follows the registry: what is suspended is refused at once, what is new is admitted, without a restart.

use testkit::Swtpm;

use crate::harness::{Backing, DEVICE, Line, boot, example, program};

#[test]
fn a_suspended_device_is_refused_at_once_and_resumed_on_sqlite() {
    suspended_and_resumed(Backing::Sqlite);
}

#[test]
fn a_suspended_device_is_refused_at_once_and_resumed_on_etcd() {
    suspended_and_resumed(Backing::Etcd);
}

#[test]
fn a_change_arrives_past_a_compaction_of_etcd() {
    let line = Line::start(Backing::Etcd);
    line.apply().succeeded();
    line.admitted();
    line.etcd.as_ref().unwrap().compact();
    line.device(&["suspend", DEVICE]).succeeded();
    assert_eq!(line.refused(), "psk-unknown");
}

fn suspended_and_resumed(backing: Backing) {
    let line = Line::start(backing);
    line.apply().succeeded();
    line.admitted();

    line.device(&["suspend", DEVICE]).succeeded();
    // The same answer as for a key that nobody has.
    assert_eq!(line.refused(), "psk-unknown");
    assert!(line.proxy_log().contains("suspended"), "the operator reads why");

    line.device(&["resume", DEVICE]).succeeded();
    line.admitted();
}

#[test]
fn a_new_device_is_admitted_without_a_restart_on_sqlite() {
    new_device(Backing::Sqlite);
}

#[test]
fn a_new_device_is_admitted_without_a_restart_on_etcd() {
    new_device(Backing::Etcd);
}

fn new_device(backing: Backing) {
    let line = Line::start(backing);
    line.apply().succeeded();
    line.admitted();

    let second = "kiosk-olten-02";
    let tpm = Swtpm::start();
    boot(&tpm);
    let more = format!(
        "\n[[devices]]\nid = \"{second}\"\nprofile = \"kiosk-vm\"\npolicy = \"kiosk\"\ntcti = \"{}\"\n",
        tpm.tcti()
    );
    std::fs::write(line.manifest(), example() + &more).unwrap();
    let mut command = program("provisioner");
    command
        .args([
            "--json",
            "apply",
            "--yes",
            "--device",
            second,
            "--registry",
            &line.registry,
        ])
        .arg(line.manifest());
    line.run(&mut command).succeeded();

    let answered = line.admitted_as(second, &tpm).json();
    assert_eq!(answered["session"]["device"], second);
    // Each volume opens on its own TPM alone.
    assert_ne!(line.ask_as(second, &line.tpm, &[]).code, Some(0));
    line.admitted();
}

#[test]
fn the_same_tpm_under_another_id_is_refused() {
    let line = Line::start(Backing::Sqlite);
    line.apply().succeeded();
    let twin = "kiosk-twin-99";
    let more = format!("\n[[devices]]\nid = \"{twin}\"\nprofile = \"kiosk-vm\"\npolicy = \"kiosk\"\n");
    std::fs::write(line.manifest(), example() + &more).unwrap();
    let mut command = program("provisioner");
    command.args([
        "--json",
        "apply",
        "--yes",
        "--device",
        twin,
        "--tcti",
        &line.tpm.tcti(),
    ]);
    let ended = line.run(command.args(["--registry", &line.registry]).arg(line.manifest()));
    assert_ne!(ended.code, Some(0), "{ended:?}");
    assert_ne!(
        line.device(&["show", twin]).code,
        Some(0),
        "nothing is registered under the second id"
    );
    line.admitted();
}

#[test]
fn a_policy_of_a_newer_writer_lets_nobody_in_and_the_operator_is_told() {
    let line = Line::start(Backing::Etcd);
    line.apply().succeeded();
    line.admitted();
    let etcd = line.etcd.as_ref().unwrap();
    let key = "/signalbox/v1/demo/policies/kiosk";
    let known = etcd.ctl(&["get", "--print-value-only", key]);
    let known = known.trim();
    let mut policy: serde_json::Value = serde_json::from_str(known).unwrap();
    let evidence = policy["evidence"]
        .as_object_mut()
        .expect("the kiosk's policy asks for evidence");
    evidence.insert("runtime-measurements".to_owned(), true.into());
    etcd.ctl(&["put", "--", key, &policy.to_string()]);

    assert_eq!(line.refused(), "psk-unknown");
    let log = line.proxy_log();
    let told = log
        .lines()
        .find(|entry| entry.contains("the device cannot be admitted"))
        .unwrap_or_else(|| panic!("the operator was not told: {log}"));
    assert!(
        told.contains(DEVICE) && told.contains("runtime-measurements"),
        "{told}"
    );

    etcd.ctl(&["put", "--", key, known]);
    line.admitted();
}
