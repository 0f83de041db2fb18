//! Volumes as a manifest asks for them: every key of `[profiles.X.volume]` reaches the volume, a device without a TPM is enrolled, an
//! older volume gets its recovery key, and a kill at any time leaves no volume without its escrow file.
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
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{DEMO, Ran, Station, provisioner};
use testkit::FakeFirmware;

const VOLUME: &str = "out/kiosk-bern-01.luks";
const SEAL: &str = "seal-pcrs = [7]";

/// A fleet whose kiosks' volume has more keys.
fn volume(station: &Station, keys: &str, fleet: &str) {
    let text = DEMO
        .replace(SEAL, keys)
        .replace("[policies.kiosk]\n", &format!("{fleet}[policies.kiosk]\n"));
    fs::write(station.path().join("demo.toml"), text).unwrap();
}

/// A new keeper: its identity is in the file `keeper`.
fn keeper(station: &Station, name: &str) -> String {
    let output = Command::new("age-keygen")
        .output()
        .unwrap_or_else(|e| panic!("age-keygen: {e}: apt-get install age"));
    let identity = String::from_utf8(output.stdout).unwrap();
    let public = identity
        .lines()
        .find_map(|l| l.strip_prefix("# public key: "))
        .unwrap();
    fs::write(station.path().join(name), &identity).unwrap();
    public.to_owned()
}

fn escrow(public: &str) -> String {
    format!("[fleet.escrow]\nrecipients = [\"{public}\"]\n\n")
}

/// Whether the keeper's key opens the volume.
fn recovers(station: &Station, escrow_file: &str) -> Ran {
    station.run(&[
        "volume",
        "recover",
        VOLUME,
        "--identity",
        "keeper",
        "--escrow-file",
        escrow_file,
        "--no-reseal",
    ])
}

fn info(station: &Station) -> serde_json::Value {
    let ran = station.run(&["volume", "info", VOLUME, "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

fn good(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn every_key_of_a_volume_reaches_it() {
    let station = Station::new();
    let public = keeper(&station, "keeper");
    let content = station.path().join("content/kiosk-bern-01");
    fs::create_dir_all(&content).unwrap();
    fs::write(content.join("page.html"), "a page").unwrap();
    fs::write(station.path().join("pin"), "1357\n").unwrap();
    let keys = "seal-pcrs = [7]\nsrk = \"tcg\"\nsector-size = 512\npin = true\ncontent = \"content/{device}\"\n\
                escrow-path = \"vault/{device}.age\"";
    volume(&station, keys, &escrow(&public));

    let unasked = station.run(&["apply", "demo.toml"]);
    assert_eq!(unasked.code, 2, "{}", unasked.err);
    assert!(unasked.err.contains("--pin-file"), "{}", unasked.err);
    let applied = station.run(&["apply", "demo.toml", "--pin-file", "pin"]);
    good(&applied);

    let info = info(&station);
    assert_eq!(info["sector-size"], 512);
    assert_eq!(info["tokens"][0]["storage-key"], "tcg");
    assert_eq!(info["tokens"][0]["pin"], true);
    let page = station.run(&["volume", "cat", VOLUME, "/page.html", "--pin-file", "pin"]);
    assert_eq!((page.code, page.out.as_str()), (0, "a page"), "{}", page.err);
    let key = station.run(&["volume", "cat", VOLUME, "/psk", "--pin-file", "pin"]);
    assert!(key.out.starts_with("sbx_"), "{}", key.err);
    good(&recovers(&station, "vault/kiosk-bern-01.age"));
    assert!(
        !station
            .path()
            .join("out/kiosk-bern-01.luks.recovery.age")
            .exists()
    );

    let again = station.run(&["apply", "demo.toml", "--pin-file", "pin"]);
    assert!(again.out.contains("nothing to do"), "{}{}", again.out, again.err);
    // Without the PIN nothing is known of it, and nothing is said to be wrong.
    let looked = station.run(&["plan", "demo.toml"]);
    good(&looked);
    assert!(
        looked.out.contains("was not looked into: it wants a PIN"),
        "{}",
        looked.out
    );

    fs::write(content.join("psk"), "not ours").unwrap();
    let refused = station.run(&["plan", "demo.toml"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("has a 'psk' of its own"), "{}", refused.err);
}

#[test]
fn where_the_profile_asks_volumes_are_counted() {
    let station = Station::new();
    volume(&station, "seal-pcrs = [7]\nrollback-counter = \"0x01800021\"", "");
    let planned = station.run(&["plan", "demo.toml"]);
    assert!(
        planned.out.contains("counted at NV index 0x01800021"),
        "{}",
        planned.out
    );
    good(&station.run(&["apply", "demo.toml"]));
    // A counter is at 1 when it is made; the volume is the next.
    assert_eq!(info(&station)["generation"], 2);
    let config = station.run(&[
        "--json",
        "device",
        "config",
        "kiosk-bern-01",
        "--manifest",
        "demo.toml",
    ]);
    assert!(config.out.contains("0x01800021"), "{}{}", config.out, config.err);
    let again = station.run(&["apply", "demo.toml"]);
    assert!(again.out.contains("nothing to do"), "{}{}", again.out, again.err);
}

#[test]
fn a_signed_policy_follows_updates_without_a_new_seal() {
    let station = Station::new();
    for arguments in [
        &["genrsa", "-out", "builder", "2048"][..],
        &["rsa", "-in", "builder", "-pubout", "-out", "builder.pem"],
    ] {
        let output = Command::new("openssl")
            .current_dir(station.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success());
    }
    volume(&station, "seal-signed = { public-key = \"none.pem\" }", "");
    let missing = station.run(&["validate", "demo.toml"]);
    assert_eq!(missing.code, 1, "{}", missing.err);
    assert!(missing.err.contains("none.pem"), "{}", missing.err);
    fs::write(station.path().join("none.pem"), "no key").unwrap();
    let wrong = station.run(&["validate", "demo.toml"]);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    assert!(wrong.err.contains("policy key"), "{}", wrong.err);

    volume(
        &station,
        "seal-signed = { public-key = \"builder.pem\", pcrs = [11] }",
        "",
    );
    let planned = station.run(&["plan", "demo.toml"]);
    good(&planned);
    assert!(
        planned.out.contains("values of sha256:11 that the key"),
        "{}",
        planned.out
    );
    // Nothing approves of the station's own state: the device's first opening is the proof.
    let applied = station.run(&["apply", "demo.toml"]);
    good(&applied);
    assert!(
        applied.err.contains("not unsealed, since no signature approves"),
        "{}",
        applied.err
    );
    assert_eq!(info(&station)["tokens"][0]["signed-pcrs"], "sha256:11");
    assert_eq!(station.device("show")["state"], "active");
    let closed = station.run(&["volume", "cat", VOLUME, "/psk"]);
    assert_eq!(closed.code, 1, "{}", closed.err);
    let again = station.run(&["plan", "demo.toml"]);
    good(&again);
    assert!(again.out.contains("was not looked into"), "{}", again.out);
}

/// The whole of it in one board: here the raw key's file stands in for the firmware, which it does with a warning.
#[test]
fn a_device_without_a_tpm_is_enrolled() {
    let station = Station::new();
    let board = FakeFirmware::with_key(&[0x41; 32]);
    fs::write(station.path().join("nvmem"), board.nvmem().unwrap()).unwrap();
    let (head, rest) = DEMO.split_once("[policies.kiosk.evidence]").unwrap();
    let (_, devices) = rest.split_once("[[devices]]").unwrap();
    let pi = format!(
        "{head}[profiles.kiosk-vm]\nkey-store = \"otp\"\n[profiles.kiosk-vm.volume]\npath = \"out/{{device}}.luks\"\n\
         size = \"20MiB\"\ncipher = \"adiantum\"\n[[devices]]{devices}"
    );
    fs::write(station.path().join("demo.toml"), pi).unwrap();
    let run = |what: &str| common::run(station.path(), &[what, "demo.toml", "--otp-nvmem", "nvmem"]);
    let planned = run("plan");
    good(&planned);
    assert!(
        planned.out.contains("no TPM") && planned.out.contains("guards "),
        "{}",
        planned.out
    );
    let applied = run("apply");
    good(&applied);
    assert!(applied.err.contains("raw device key was read"), "{}", applied.err);
    let shown = station.device("show");
    assert_eq!(
        (&shown["ek"], &shown["ak"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    let config = common::run(
        station.path(),
        &["volume", "cat", VOLUME, "/device.toml", "--otp-nvmem", "nvmem"],
    );
    good(&config);
    assert!(!config.out.contains("ak-handle"), "{}", config.out);
    let again = run("apply");
    assert!(again.out.contains("nothing to do"), "{}", again.out);
}

#[test]
fn an_older_volume_gets_its_recovery_key_and_keys_are_rotated() {
    let station = Station::new();
    good(&station.run(&["apply", "demo.toml"]));
    let public = keeper(&station, "keeper");
    volume(&station, SEAL, &escrow(&public));
    let planned = station.run(&["plan", "demo.toml"]);
    good(&planned);
    assert!(
        planned.out.contains("from before `fleet.escrow`") && planned.out.contains("volume reseal"),
        "{}",
        planned.out
    );
    let tcti = station.tpm.tcti();
    let reseal = |more: &[&str]| {
        let mut all = vec!["volume", "reseal", VOLUME, "--tcti", &tcti];
        all.extend(more);
        station.run(&all)
    };
    let file = "out/kiosk-bern-01.luks.recovery.age";
    let tokens = info(&station)["tokens"][0].clone();
    good(&reseal(&["--escrow-to", &public]));
    good(&recovers(&station, file));
    assert_eq!(info(&station)["tokens"][0], tokens, "the way in is as it was");
    let planned = station.run(&["plan", "demo.toml"]);
    assert!(!planned.out.contains("recovery key: `"), "{}", planned.out);

    // Another one: the old file opens it no more, the new one does, with a new seal too.
    fs::copy(station.path().join(file), station.path().join("old.age")).unwrap();
    good(&reseal(&["--escrow-to", &public, "--seal-pcrs", "7"]));
    good(&recovers(&station, file));
    assert_eq!(recovers(&station, "old.age").code, 1);
    let psk = station.run(&["volume", "cat", VOLUME, "/psk"]);
    assert!(psk.out.starts_with("sbx_"), "{}", psk.err);

    // As after a kill between the two.
    fs::copy(
        station.path().join(file),
        station.path().join(format!("{file}.next")),
    )
    .unwrap();
    let stopped = reseal(&["--escrow-to", &public]);
    assert_eq!(stopped.code, 2, "{}", stopped.err);
    assert!(stopped.err.contains("stopped in between"), "{}", stopped.err);
    good(&recovers(&station, file));
    fs::remove_file(station.path().join(format!("{file}.next"))).unwrap();
    let nobody = reseal(&["--escrow-to", "age1nobody"]);
    assert_eq!(nobody.code, 2, "{}", nobody.err);

    // Who recovers has seen the key: a new one, in its place.
    let all = [
        "volume",
        "recover",
        VOLUME,
        "--seal-pcrs",
        "7",
        "--identity",
        "keeper",
        "--tcti",
        &tcti,
        "--escrow-to",
        &public,
    ];
    fs::copy(station.path().join(file), station.path().join("older.age")).unwrap();
    good(&station.run(&all));
    good(&recovers(&station, file));
    assert_eq!(recovers(&station, "older.age").code, 1);
}

#[test]
fn a_kill_at_any_time_leaves_no_volume_without_its_escrow_file() {
    // After so many entries of the journal, and so many milliseconds more.
    const KILLS: [(usize, u64); 12] = [
        (0, 30),
        (1, 0),
        (2, 0),
        (3, 0),
        (3, 40),
        (3, 120),
        (3, 300),
        (3, 700),
        (4, 0),
        (5, 0),
        (5, 20),
        (6, 0),
    ];
    let (mut finished, mut seen) = (0, 0);
    for (nth, (entries, more)) in KILLS.into_iter().enumerate() {
        let station = Station::new();
        let public = keeper(&station, "keeper");
        volume(
            &station,
            "seal-pcrs = [7]\nescrow-path = \"vault/{device}.age\"",
            &escrow(&public),
        );
        let tcti = station.tpm.tcti();
        let mut child = provisioner(station.path(), &["apply", "demo.toml", "--tcti", &tcti])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let journal = station.path().join("out/kiosk-bern-01.luks.journal");
        let written = || fs::read(&journal).map_or(0, |text| text.iter().filter(|b| **b == b'\n').count());
        while written() < entries && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(2));
        }
        thread::sleep(Duration::from_millis(more));
        child.kill().unwrap();
        finished += usize::from(child.wait().unwrap().success());

        let file = "vault/kiosk-bern-01.age";
        if station.volume().exists() {
            seen += 1;
            let opened = recovers(&station, file);
            assert_eq!(opened.code, 0, "kill {nth}: {}", opened.err);
        }
        let shown = station.run(&["device", "show", "kiosk-bern-01", "--manifest", "demo.toml"]);
        assert!(
            shown.code == 0 && station.volume().exists() || shown.code == 1,
            "{}",
            shown.err
        );
        let again = station.run(&["apply", "demo.toml"]);
        assert_eq!(again.code, 0, "kill {nth}: {}", again.err);
        good(&recovers(&station, file));
        assert_eq!(station.device("show")["state"], "active");
        let psk = station.run(&["volume", "cat", VOLUME, "/psk"]);
        let digest = domain::PskDigest::of(psk.out.as_bytes()).to_string();
        assert_eq!(station.device("show")["psk"], digest);
        let left: Vec<_> = fs::read_dir(station.path().join("vault")).unwrap().collect();
        assert_eq!(left.len(), 1, "kill {nth}: {left:?}");
    }
    assert!(finished < KILLS.len(), "no kill came in time");
    assert!(seen > 0, "no kill left a volume");
}
