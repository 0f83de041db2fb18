//! The whole of `apply` on a software TPM, with stock tools as judges: cryptsetup, tpm2-tools, SIGKILL, and a search for
//! the key in everything that was written.
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

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{DEMO, Station, provisioner};
use testkit::{Canary, Swtpm};

fn psk(station: &Station) -> String {
    let ran = station.run(&["volume", "cat", "out/kiosk-bern-01.luks", "/psk"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out
}

fn refused(station: &Station, arguments: &[&str], why: &str) {
    let ran = station.run(arguments);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains(why), "{}", ran.err);
    assert!(ran.err.contains("hint: "), "{}", ran.err);
}

#[test]
fn a_device_is_enrolled_once_and_stock_tools_agree() {
    let station = Station::new();
    let planned = station.run(&["plan", "demo.toml", "--json"]);
    assert_eq!(planned.code, 0, "{}", planned.err);
    assert!(!station.path().join("out").exists(), "a plan writes nothing");

    let first = station.run(&["apply", "demo.toml", "--json"]);
    assert_eq!(first.code, 0, "{}", first.err);
    let lines: Vec<serde_json::Value> = first
        .out
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let done = lines.last().unwrap();
    assert_eq!(done["event"], "done");
    assert_eq!(done["devices"][0]["outcome"], "enrolled");
    let planned: serde_json::Value = serde_json::from_str(&planned.out).unwrap();
    assert_eq!(lines[0]["plan"], planned["digest"]);

    // What tpm2-tools unseal, cryptsetup takes; anything else it does not.
    let secret = unseal_with_stock_tools(&station);
    assert!(test_passphrase(
        &station,
        data_encoding::BASE64.encode(&secret).as_bytes()
    ));
    assert!(!test_passphrase(
        &station,
        data_encoding::BASE64.encode(&[0; 32]).as_bytes()
    ));

    // tpm2-tools see the same attestation key, by name.
    let name = station.path().join("ak.name");
    let _public = station.tpm.tool(
        "tpm2_readpublic",
        &["-c", "0x81010020", "-n", name.to_str().unwrap()],
    );
    let shown = station.device("show");
    let name: String = fs::read(&name)
        .unwrap()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(shown["ak"], name);
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["last-attested-at"], serde_json::Value::Null);
    assert!(
        shown["proof"]
            .as_str()
            .unwrap()
            .contains("not which software runs")
    );

    let again = station.run(&["apply", "demo.toml"]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(
        again.out.contains("nothing to do, it is enrolled and works"),
        "{}",
        again.out
    );
    assert_eq!(station.device("show"), shown);
}

/// The 32 bytes under the volume's token, by tpm2-tools alone: systemd's primary, then the object in the token.
fn unseal_with_stock_tools(station: &Station) -> Vec<u8> {
    let dump = Command::new("cryptsetup")
        .args(["luksDump", "--dump-json-metadata"])
        .arg(station.volume())
        .output()
        .unwrap();
    let dump: serde_json::Value = serde_json::from_slice(&dump.stdout).unwrap();
    let token = &dump["tokens"]["0"];
    assert_eq!(token["type"], "systemd-tpm2");
    assert_eq!(token["tpm2-pcrs"], serde_json::json!([7]));
    let blob = data_encoding::BASE64
        .decode(token["tpm2-blob"].as_str().unwrap().as_bytes())
        .unwrap();
    let (private, public) = blob.split_at(2 + usize::from(u16::from_be_bytes([blob[0], blob[1]])));
    let file = |name: &str| station.tpm.dir().join(name).to_str().unwrap().to_owned();
    fs::write(file("private"), private).unwrap();
    fs::write(file("public"), public).unwrap();
    let tool = |program: &str, arguments: &[&str]| station.tpm.tool(program, arguments);
    let (primary, object) = (file("primary.ctx"), file("object.ctx"));
    let _made = tool("tpm2_createprimary", &["-C", "o", "-G", "ecc", "-c", &primary]);
    let _loaded = tool(
        "tpm2_load",
        &[
            "-C",
            &primary,
            "-r",
            &file("private"),
            "-u",
            &file("public"),
            "-c",
            &object,
        ],
    );
    let _flushed = tool("tpm2_flushcontext", &["-t"]);
    let secret = tool("tpm2_unseal", &["-c", &object, "-p", "pcr:sha256:7"]).stdout;
    assert_eq!(secret.len(), 32);
    let _flushed = tool("tpm2_flushcontext", &["-t"]);
    secret
}

fn test_passphrase(station: &Station, passphrase: &[u8]) -> bool {
    let mut child = Command::new("cryptsetup")
        .args(["open", "--test-passphrase", "--batch-mode", "--key-file", "-"])
        .arg(station.volume())
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(passphrase).unwrap();
    child.wait().unwrap().success()
}

/// The raw key must be in the volume's plaintext and on `volume cat`'s stdout, and nowhere else.
#[test]
fn the_key_is_nowhere_but_in_the_volume() {
    let station = Station::new();
    let mut said = String::new();
    let apply = station.run(&["apply", "demo.toml", "-v"]);
    assert_eq!(apply.code, 0, "{}", apply.err);
    let psk = psk(&station);
    assert!(psk.starts_with("sbx_"));
    for ran in [
        apply,
        station.run(&["apply", "demo.toml", "--json", "-v"]),
        station.run(&["plan", "demo.toml"]),
        station.run(&["device", "show", "kiosk-bern-01", "--manifest", "demo.toml"]),
        station.run(&["device", "list", "--manifest", "demo.toml"]),
        station.run(&["volume", "info", "out/kiosk-bern-01.luks"]),
        station.run(&["volume", "cat", "out/kiosk-bern-01.luks", "/device.toml"]),
    ] {
        assert_eq!(ran.code, 0, "{}", ran.err);
        said.push_str(&ran.out);
        said.push_str(&ran.err);
    }
    let canary = Canary::new("the PSK", psk.as_bytes());
    canary.assert_absent("output", &said);
    canary.assert_absent_below(station.path());
    canary.assert_absent_below(&station.tpm.dir());
    let digest = station.device("show")["psk"].as_str().unwrap().to_owned();
    assert!(said.contains(&digest), "the digest is what is shown");
}

#[test]
fn a_kill_at_any_time_leaves_nothing_registered_or_a_device_that_works() {
    let mut finished = 0;
    for nth in 0..14_u64 {
        let station = Station::new();
        let tcti = station.tpm.tcti();
        let mut child = provisioner(station.path(), &["apply", "demo.toml", "--tcti", &tcti])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(30 + 35 * nth));
        child.kill().unwrap();
        finished += u32::from(child.wait().unwrap().success());

        let shown = station.run(&["device", "show", "kiosk-bern-01", "--manifest", "demo.toml"]);
        match shown.code {
            0 => assert!(
                psk(&station).starts_with("sbx_"),
                "registered, so the key is there"
            ),
            // No device there, or not even a registry.
            1 => assert!(
                shown.err.contains("is not registered") || shown.err.contains("there is no registry"),
                "{}",
                shown.err
            ),
            code => panic!("{code}: {}", shown.err),
        }
        let again = station.run(&["apply", "demo.toml"]);
        assert_eq!(again.code, 0, "kill {nth}: {}", again.err);
        assert!(psk(&station).starts_with("sbx_"));
        assert_eq!(station.device("show")["state"], "active");
        let left: Vec<_> = fs::read_dir(station.path().join("out")).unwrap().collect();
        assert_eq!(left.len(), 2, "kill {nth}: the volume and its journal, {left:?}");
    }
    assert!(finished < 14, "no kill came in time");
}

#[test]
fn a_registry_of_etcd_holds_the_digest_and_not_the_key() {
    let etcd = testkit::etcd::Etcd::start();
    let endpoint = etcd.endpoint();
    let url = format!("etcd://{endpoint}");
    let station = Station::new();
    for outcome in ["enrolled", "unchanged"] {
        let ran = station.run(&["apply", "demo.toml", "--json", "--registry", &url]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let done: serde_json::Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
        assert_eq!(done["devices"][0]["outcome"], outcome);
    }
    assert!(!station.path().join("registry.db").exists());
    let list = ["device", "list", "--fleet", "demo", "--registry", &url];
    assert!(station.run(&list).out.starts_with("kiosk-bern-01"));
    let dump = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &endpoint, "get", "--prefix", "/signalbox/v1/demo/"])
        .output()
        .unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    let psk = psk(&station);
    assert!(
        dump.contains(&domain::PskDigest::of(psk.as_bytes()).to_string()),
        "{dump}"
    );
    Canary::new("the PSK", psk.as_bytes()).assert_absent("etcd", &dump);
}

#[test]
fn pcrs_that_nothing_measured_into_are_refused() {
    let station = Station::unmeasured();
    refused(
        &station,
        &["apply", "demo.toml"],
        "nothing was measured into PCR 7",
    );
    assert!(!station.path().join("out").exists());
    let forced = station.run(&["apply", "demo.toml", "--force-uninitialised-pcrs"]);
    assert_eq!(forced.code, 0, "{}", forced.err);
    assert!(
        forced.err.contains("PCR 11 is not what the policy expects"),
        "{}",
        forced.err
    );
}

#[test]
fn another_tpm_under_the_same_id_is_refused() {
    let mut station = Station::new();
    assert_eq!(station.run(&["apply", "demo.toml"]).code, 0);
    let before = station.device("show");
    let other = Swtpm::start();
    other.extend(7, b"signalbox demo: secure boot state");
    station.tpm = other;
    refused(
        &station,
        &["apply", "demo.toml", "--force"],
        "is registered with another endorsement key",
    );
    assert_eq!(station.device("show"), before);
}

#[test]
fn the_same_tpm_under_another_id_is_refused() {
    let station = Station::new();
    assert_eq!(station.run(&["apply", "demo.toml"]).code, 0);
    fs::write(
        station.path().join("other.toml"),
        DEMO.replace("kiosk-bern-01", "kiosk-basel-01"),
    )
    .unwrap();
    refused(
        &station,
        &["apply", "other.toml"],
        "belongs to device 'kiosk-bern-01'",
    );
    let two =
        format!("{DEMO}\n[[devices]]\nid = \"kiosk-basel-01\"\nprofile = \"kiosk-vm\"\npolicy = \"kiosk\"\n");
    fs::write(station.path().join("two.toml"), two).unwrap();
    refused(&station, &["plan", "two.toml"], "would be the same TPM");
    assert_eq!(
        station
            .run(&["plan", "two.toml", "--device", "kiosk-bern-01"])
            .code,
        0
    );
}

#[test]
fn a_file_in_the_way_is_overwritten_only_by_a_confirmed_plan() {
    let station = Station::new();
    fs::create_dir(station.path().join("out")).unwrap();
    fs::write(station.volume(), "theirs").unwrap();
    refused(
        &station,
        &["apply", "demo.toml"],
        "exists: there is no LUKS2 header",
    );
    refused(
        &station,
        &["apply", "demo.toml", "--force"],
        "the plan has steps that cannot be undone",
    );
    refused(
        &station,
        &["apply", "demo.toml", "--force", "--confirm", &"0".repeat(64)],
        "for another plan",
    );
    assert_eq!(fs::read(station.volume()).unwrap(), b"theirs");

    let plan = station.run(&["plan", "demo.toml", "--force", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
    assert_eq!(plan["needs-confirmation"], true);
    let digest = plan["digest"].as_str().unwrap();
    let ran = station.run(&["apply", "demo.toml", "--force", "--confirm", digest]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(psk(&station).starts_with("sbx_"));
}

#[test]
fn a_key_in_the_way_is_removed_only_by_a_confirmed_plan() {
    let station = Station::new();
    let primary = station.path().join("primary.ctx");
    let primary = primary.to_str().unwrap();
    let _made = station
        .tpm
        .tool("tpm2_createprimary", &["-C", "o", "-c", primary]);
    let _kept = station
        .tpm
        .tool("tpm2_evictcontrol", &["-C", "o", "-c", primary, "0x81010020"]);
    let _flushed = station.tpm.tool("tpm2_flushcontext", &["-t"]);
    refused(
        &station,
        &["apply", "demo.toml"],
        "0x81010020 holds something that is not an attestation key",
    );
    let plan = station.run(&["plan", "demo.toml", "--force", "--json"]);
    assert_eq!(plan.code, 0, "{}", plan.err);
    let plan: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
    let digest = plan["digest"].as_str().unwrap();
    let ran = station.run(&["apply", "demo.toml", "--force", "--confirm", digest]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn suspended_and_resumed_by_generations() {
    let station = Station::new();
    assert_eq!(station.run(&["apply", "demo.toml"]).code, 0);
    let suspended = station.device("suspend");
    assert_eq!(
        (&suspended["state"], &suspended["generation"]),
        (&"suspended".into(), &2.into())
    );
    let again = station.device("suspend");
    assert_eq!(
        (&again["changed"], &again["generation"]),
        (&false.into(), &2.into())
    );
    assert_eq!(station.device("show")["state"], "suspended");
    let apply = station.run(&["apply", "demo.toml"]);
    assert!(
        apply.err.contains("note: the device is suspended"),
        "{}",
        apply.err
    );
    assert_eq!(
        station.device("show")["state"],
        "suspended",
        "apply does not resume"
    );
    let resumed = station.device("resume");
    assert_eq!(
        (&resumed["state"], &resumed["generation"]),
        (&"active".into(), &3.into())
    );
}

#[test]
fn a_volume_whose_pcrs_moved_does_not_open() {
    let station = Station::new();
    assert_eq!(station.run(&["apply", "demo.toml"]).code, 0);
    station.tpm.extend(7, b"something else");
    let cat = station.run(&["volume", "cat", "out/kiosk-bern-01.luks", "/psk"]);
    assert_eq!((cat.code, cat.out.as_str()), (1, ""));
    assert!(cat.err.contains("sealed to"), "{}", cat.err);
    refused(
        &station,
        &["apply", "demo.toml", "--force"],
        "is not the volume of the registered device",
    );
}
