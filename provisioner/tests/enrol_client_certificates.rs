//! Client certificates, from the manifest into the registry: made by stock openssl, given at enrolment, replaced, taken away,
//! set right where the registry drifted, and refused where no device could use them.
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

use common::{DEMO, Ran, Station};
use registry::CertificateRule;
use serde_json::Value;

/// Runs a line of shell in the station's folder; what it prints.
fn shell(station: &Station, line: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", line])
        .current_dir(station.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A key and a certificate of its own, NAME.key and NAME.pem; the digest of the key as the docs tell to make it.
fn certified(station: &Station, name: &str) -> String {
    shell(
        station,
        &format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem -days 300 \
             -subj /CN={name} -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=clientAuth"
        ),
    );
    let line =
        format!("openssl x509 -in {name}.pem -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum");
    shell(station, &line).split(' ').next().unwrap().to_owned()
}

/// The demo's fleet with this rule and this certificate of its device.
fn declare(station: &Station, rule: &str, certificate: &str) {
    let policy = "[policies.kiosk]\n";
    let text = format!("{DEMO}{certificate}\n").replace(policy, &format!("{policy}{rule}\n"));
    fs::write(station.path().join("demo.toml"), text).unwrap();
}

fn apply(station: &Station) -> Ran {
    let ran = station.run(&["apply", "demo.toml", "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    ran
}

fn outcome(ran: &Ran) -> String {
    let done: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    done["devices"][0]["outcome"].as_str().unwrap().to_owned()
}

fn registry(station: &Station) -> (tokio::runtime::Runtime, std::sync::Arc<dyn registry::Registry>) {
    let url = format!("sqlite:{}", station.path().join("registry.db").display())
        .parse()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let fleet = "demo".parse().unwrap();
    let options = registry::Options::default();
    let opened = runtime.block_on(registry::open(&url, &options, &fleet)).unwrap();
    (runtime, opened)
}

#[test]
fn the_registry_follows_the_manifest() {
    let station = Station::new();
    let (one, two) = (certified(&station, "one"), certified(&station, "two"));
    declare(
        &station,
        "client-certificate = \"required\"",
        "client-certificate = \"one.pem\"",
    );
    let plan = station.run(&["plan", "demo.toml"]);
    assert!(
        plan.out.contains(&format!("cert   {one} (SHA-256 of its key)"))
            && plan.out.contains("CN=one, until "),
        "{}{}",
        plan.out,
        plan.err
    );
    assert!(
        plan.out.contains("is needed beside its pre-shared key"),
        "{}",
        plan.out
    );
    assert_eq!(outcome(&apply(&station)), "enrolled");
    let shown = station.device("show");
    assert_eq!(shown["client-certificate"], one);
    assert_eq!(shown["allows"]["client_certificate"], "required");
    let text = station.run(&["device", "show", "kiosk-bern-01", "--manifest", "demo.toml"]);
    assert!(text.out.contains(&one), "{}", text.out);
    assert_eq!(outcome(&apply(&station)), "unchanged");
    // A renewed certificate of the same key is the same.
    shell(
        &station,
        "openssl req -x509 -key one.key -out one.pem -days 600 -subj /CN=renewed -addext basicConstraints=CA:FALSE",
    );
    assert_eq!(outcome(&apply(&station)), "unchanged");

    declare(
        &station,
        "client-certificate = \"accepted\"",
        &format!("client-certificate = {{ key = \"{two}\" }}"),
    );
    assert_eq!(outcome(&apply(&station)), "updated");
    let rotated = station.device("show");
    assert_eq!(rotated["client-certificate"], two);
    assert_eq!(rotated["allows"]["client_certificate"], "accepted");
    assert_eq!(rotated["generation"], 2);
    assert_eq!(rotated["psk"], shown["psk"]);

    // What was changed beside the manifest is set right.
    {
        let (runtime, registry) = registry(&station);
        runtime.block_on(async {
            let id = "kiosk-bern-01".parse().unwrap();
            let stored = registry.device(&id).await.unwrap().unwrap();
            let mut record = stored.value;
            record.client_certificate = None;
            record.generation += 1;
            registry.update_device(record, stored.revision).await.unwrap();
            let name = "kiosk".parse().unwrap();
            let stored = registry.policy(&name).await.unwrap().unwrap();
            let mut policy = stored.value;
            policy.client_certificate = Some(CertificateRule::Required);
            policy.revision += 1;
            let put = registry.put_policy(&name, policy, Some(stored.revision)).await;
            put.unwrap();
        });
    }
    // A key that was taken away by hand is gone for good; the device gets another.
    let ended = station.run(&["apply", "demo.toml"]);
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert!(ended.err.contains("was taken from it before"), "{}", ended.err);
    let three = certified(&station, "three");
    declare(
        &station,
        "client-certificate = \"accepted\"",
        "client-certificate = \"three.pem\"",
    );
    assert_eq!(outcome(&apply(&station)), "updated");
    let mended = station.device("show");
    assert_eq!(mended["client-certificate"], three);
    assert_eq!(mended["allows"]["client_certificate"], "accepted");

    // Nothing said is none.
    declare(&station, "", "");
    let plan = station.run(&["plan", "demo.toml"]);
    assert!(plan.out.contains("no longer looked at"), "{}", plan.out);
    assert!(
        plan.out.contains("without its client certificate"),
        "{}",
        plan.out
    );
    assert_eq!(outcome(&apply(&station)), "updated");
    let bare = station.device("show");
    assert_eq!(bare["client-certificate"], Value::Null);
    assert_eq!(bare["allows"]["client_certificate"], Value::Null);
    assert_eq!(outcome(&apply(&station)), "unchanged");
}

#[test]
fn what_no_device_could_use_is_told_at_its_place_and_nothing_is_written() {
    let station = Station::new();
    certified(&station, "good");
    shell(
        &station,
        "cat good.pem good.key > both.pem
         openssl req -x509 -key good.key -out ca.pem -days 9 -subj /CN=ca -addext basicConstraints=critical,CA:TRUE",
    );
    let mut old = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    old.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let old = old.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    fs::write(station.path().join("old.pem"), old.pem()).unwrap();
    for (file, why) in [
        ("away.pem", "cannot read"),
        (
            "demo.toml",
            "has no client certificate: neither PEM nor a whole DER certificate",
        ),
        ("both.pem", "there is a private key in"),
        ("ca.pem", "it is a CA's certificate"),
        ("old.pem", "ended at 2021-01-01T00:00:00Z"),
    ] {
        declare(&station, "", &format!("client-certificate = \"{file}\""));
        for command in ["validate", "plan", "apply"] {
            let ran = station.run(&[command, "demo.toml"]);
            assert_eq!(ran.code, 2, "{command} {file}: {}", ran.err);
            for told in [why, "demo.toml:", "client-certificate = ", "hint: "] {
                assert!(ran.err.contains(told), "{command} {file}: {told}: {}", ran.err);
            }
        }
    }
    assert!(!station.path().join("registry.db").exists());
    assert!(!station.path().join("out").exists());
}
