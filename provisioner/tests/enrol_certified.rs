//! `plan` and `apply` with EK certificates: a software TPM, certified by openssl as its maker would, the chain in its NV.
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

use std::fs;

use common::{DEMO, Ran, Station};

const CA: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n";
const EK: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyEncipherment\nextendedKeyUsage=2.23.133.8.1\n\
    subjectAltName=critical,dirName:tpm\n\
    [tpm]\n1.2.23.133.2.1=id:4E544300\n2.2.23.133.2.2=NPCT75x\n3.2.23.133.2.3=id:00070002\n";
const CHAIN: &str = "{ roots = \"roots\" }";

/// A station whose TPM has a certificate by an intermediate under a root. Nothing is in its NV yet.
fn station() -> Station {
    let station = Station::new();
    let dir = station.tpm.dir();
    fs::write(dir.join("ca.ext"), CA).unwrap();
    fs::write(dir.join("ek.ext"), EK).unwrap();
    for (name, issuer) in [("root", "root"), ("ca", "root"), ("stranger", "stranger")] {
        openssl(
            &station,
            &format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"),
        );
        openssl(
            &station,
            &format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"),
        );
        let by = if name == issuer {
            format!("-signkey {issuer}.key")
        } else {
            format!("-CA {issuer}.crt -CAkey {issuer}.key")
        };
        openssl(
            &station,
            &format!(
                "x509 -req -in {name}.csr -days 3650 -extfile ca.ext {by} -set_serial 7 -out {name}.crt"
            ),
        );
    }
    tool(
        &station,
        "tpm2_createek",
        &["-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub"],
    );
    tool(
        &station,
        "tpm2_readpublic",
        &["-c", "ek.ctx", "-f", "pem", "-o", "ek.pem"],
    );
    certify(&station, "ek.pem");
    openssl(&station, "x509 -in ca.crt -outform DER -out ca.der");
    trust(&station, "root");
    ask_for(&station, CHAIN);
    station
}

fn openssl(station: &Station, arguments: &str) {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let output = station.tpm.command("openssl").args(&arguments).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {err}");
}

fn tool(station: &Station, program: &str, arguments: &[&str]) {
    station.tpm.tool(program, arguments);
    station.tpm.tool("tpm2_flushcontext", &["-t"]);
}

/// Makes `ek.der`, a certificate for the key in `pem`.
fn certify(station: &Station, pem: &str) {
    openssl(
        station,
        &format!(
            "x509 -req -in ca.csr -force_pubkey {pem} -subj / -days 3650 -extfile ek.ext -CA ca.crt -CAkey ca.key \
             -set_serial 9 -outform DER -out ek.der"
        ),
    );
}

/// Puts a file into an NV index, with padding behind it as makers' indices have.
fn put(station: &Station, index: &str, file: &str) {
    write(station, index, file, 40);
}

/// Puts a file into an NV index that is no larger.
fn exactly(station: &Station, index: &str, file: &str) {
    write(station, index, file, 0);
}

fn write(station: &Station, index: &str, file: &str, padding: u64) {
    let size = fs::metadata(station.tpm.dir().join(file)).unwrap().len() + padding;
    let size = size.to_string();
    tool(
        station,
        "tpm2_nvdefine",
        &[
            index,
            "-C",
            "o",
            "-s",
            &size,
            "-a",
            "ownerwrite|authread|ownerread|no_da",
        ],
    );
    tool(station, "tpm2_nvwrite", &[index, "-C", "o", "-i", file]);
}

fn trust(station: &Station, name: &str) {
    let roots = station.path().join("roots");
    let _first_time = fs::remove_dir_all(&roots);
    fs::create_dir(&roots).unwrap();
    fs::copy(
        station.tpm.dir().join(format!("{name}.crt")),
        roots.join("maker.pem"),
    )
    .unwrap();
}

fn ask_for(station: &Station, trust: &str) {
    let asked = format!("ek-trust = {trust}");
    let text = DEMO.replace("ek-trust = \"first-use\"", &asked);
    assert!(text.contains(&asked), "the demo trusts on first use");
    fs::write(station.path().join("demo.toml"), text).unwrap();
}

/// What `plan` refuses with.
fn refusal(station: &Station) -> String {
    let Ran { code, out, err } = station.run(&["plan", "demo.toml"]);
    assert_eq!(code, 3, "{out}{err}");
    assert!(err.contains("hint: "), "{err}");
    let applied = station.run(&["apply", "demo.toml"]);
    assert_eq!(applied.code, 3, "{}", applied.err);
    assert!(!station.volume().exists() && !station.path().join("registry.db").exists());
    err
}

#[test]
fn a_certified_tpm_is_enrolled_and_its_maker_recorded() {
    let station = station();
    put(&station, "0x01c00002", "ek.der");
    put(&station, "0x01c00100", "ca.der");
    let planned = station.run(&["plan", "demo.toml"]);
    assert_eq!(planned.code, 0, "{}", planned.err);
    assert!(planned.out.contains("certified by its maker"), "{}", planned.out);
    assert!(planned.out.contains("NPCT75x"), "{}", planned.out);
    let applied = station.run(&["apply", "demo.toml"]);
    assert_eq!(applied.code, 0, "{}", applied.err);
    let shown = station.device("show");
    assert_eq!(shown["ek-trust"], "certified by its maker");
    let certified = &shown["ek-certified"];
    assert_eq!(certified["maker"], "NTC");
    assert_eq!(certified["model"], "NPCT75x");
    assert_eq!(certified["firmware"], "7.2");
    let digest = domain::CertificateDigest::of(&fs::read(station.tpm.dir().join("ek.der")).unwrap());
    assert_eq!(shown["ek-certificate"], digest.to_string());
    let text = station.run(&["device", "show", "kiosk-bern-01", "--manifest", "demo.toml"]);
    assert!(
        text.out
            .contains("  certified NTC NPCT75x, firmware 7.2, by root "),
        "{}",
        text.out
    );
    // What was enrolled stays: the same TPM again is nothing to do.
    let again = station.run(&["apply", "demo.toml"]);
    assert_eq!(again.code, 0, "{}", again.err);
}

#[test]
fn another_root_and_a_missing_intermediate_are_refused() {
    let station = station();
    put(&station, "0x01c00002", "ek.der");
    let told = refusal(&station);
    assert!(told.contains("the EK certificate is not trusted"), "{told}");
    put(&station, "0x01c00100", "ca.der");
    trust(&station, "stranger");
    let told = refusal(&station);
    assert!(told.contains("the EK certificate is not trusted: "), "{told}");
}

/// The TCG EK Credential Profile lets a chain go on in the next index where one is too small for it.
#[test]
fn an_intermediate_that_is_split_over_several_indices_is_put_together() {
    let station = station();
    let dir = station.tpm.dir();
    put(&station, "0x01c00002", "ek.der");
    let whole = fs::read(dir.join("ca.der")).unwrap();
    let (first, rest) = whole.split_at(whole.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    for (name, part) in [("first", first), ("second", second), ("third", third)] {
        fs::write(dir.join(name), part).unwrap();
    }
    exactly(&station, "0x01c00100", "first");
    let told = refusal(&station);
    assert!(told.contains("the EK certificate is not trusted"), "{told}");
    // The middle is missing: what is there is no certificate.
    exactly(&station, "0x01c00102", "third");
    refusal(&station);
    exactly(&station, "0x01c00101", "second");
    let applied = station.run(&["apply", "demo.toml"]);
    assert_eq!(applied.code, 0, "{}", applied.err);
    assert_eq!(station.device("show")["ek-trust"], "certified by its maker");
}

#[test]
fn denied_firmware_is_refused_with_the_rules_reason() {
    let station = station();
    put(&station, "0x01c00002", "ek.der");
    put(&station, "0x01c00100", "ca.der");
    let deny = |to: &str| {
        format!(
            "{{ roots = \"roots\", deny = [{{ maker = \"NTC\", from = \"7.0\", to = \"{to}\", reason = \"weak keys\" }}] }}"
        )
    };
    ask_for(&station, &deny("7.2"));
    let told = refusal(&station);
    assert!(
        told.contains("NTC firmware 7.2 is on the deny-list: weak keys"),
        "{told}"
    );
    ask_for(&station, &deny("7.1"));
    assert_eq!(station.run(&["plan", "demo.toml"]).code, 0);
}

#[test]
fn the_certificate_of_another_tpm_is_refused() {
    let station = station();
    openssl(
        &station,
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out other.key",
    );
    openssl(&station, "pkey -in other.key -pubout -out other.pem");
    certify(&station, "other.pem");
    put(&station, "0x01c00002", "ek.der");
    put(&station, "0x01c00100", "ca.der");
    let told = refusal(&station);
    assert!(told.contains("the EK certificate is not this device's"), "{told}");
    assert!(told.contains("copied from another TPM"), "{told}");
}

#[test]
fn a_tpm_without_a_certificate_is_refused_and_a_folder_without_a_root_too() {
    let station = station();
    let told = refusal(&station);
    assert!(told.contains("the device shows none"), "{told}");
    let roots = station.path().join("roots");
    fs::write(roots.join("maker.pem"), "no certificate").unwrap();
    let ran = station.run(&["validate", "demo.toml"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("there is no root certificate in"), "{}", ran.err);
    fs::remove_dir_all(&roots).unwrap();
    let ran = station.run(&["validate", "demo.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("cannot read"), "{}", ran.err);
}
