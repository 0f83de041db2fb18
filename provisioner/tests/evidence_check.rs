//! `provisioner evidence check` on quotes that stock tpm2-tools made on a software TPM.
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

use std::{fs, path::PathBuf};

use common::{DATA, Ran, run};
use serde_json::Value;
use testkit::Swtpm;

const NONCE: &str = "5d0c1a00112233445566778899aabbcc";

/// A TPM with an AK under its EK, and the files that stock tools write of them.
struct Desk {
    tpm: Swtpm,
}

impl Desk {
    fn new(ak: &[&str]) -> Self {
        let tpm = Swtpm::start();
        tpm.extend(7, b"secure boot on");
        let desk = Self { tpm };
        desk.tool("tpm2_createek", &["-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub"]);
        let create = [
            &["-C", "ek.ctx", "-c", "ak.ctx", "-u", "ak.tpmt", "-f", "tpmt"][..],
            ak,
        ]
        .concat();
        desk.tool("tpm2_createak", &create);
        desk.tool(
            "tpm2_readpublic",
            &["-c", "ak.ctx", "-f", "tss", "-o", "ak.tpm2b", "-q", "ak.qname"],
        );
        desk.tool("tpm2_readpublic", &["-c", "ak.ctx", "-f", "pem", "-o", "ak.pem"]);
        desk
    }

    fn ecc() -> Self {
        Self::new(&["-G", "ecc", "-g", "sha256", "-s", "ecdsa"])
    }

    fn tool(&self, program: &str, arguments: &[&str]) {
        self.tpm.tool(program, arguments);
        self.tpm.tool("tpm2_flushcontext", &["-t"]);
    }

    fn quote(&self, selection: &str, more: &[&str]) {
        let quote = [
            "-c", "ak.ctx", "-l", selection, "-q", NONCE, "-m", "q", "-s", "q.sig", "-o", "q.pcrs",
        ];
        self.tool("tpm2_quote", &[&quote[..], more].concat());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tpm.dir().join(name)
    }

    fn check(&self, more: &[&str]) -> Ran {
        self.check_with("ak.tpm2b", more)
    }

    fn check_with(&self, ak: &str, more: &[&str]) -> Ran {
        let files = [
            "evidence",
            "check",
            "--ak",
            ak,
            "--quote",
            "q",
            "--signature",
            "q.sig",
            "--pcrs",
            "q.pcrs",
        ];
        run(&self.tpm.dir(), &[&files[..], more].concat())
    }

    /// The checks that failed.
    fn failed(&self, more: &[&str]) -> Vec<String> {
        let ran = self.check(&[&["--json", "--nonce", NONCE][..], more].concat());
        assert_eq!(ran.code, 3, "{}{}", ran.out, ran.err);
        let found: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(found["verdict"], "refused");
        let names = found["failed"].as_array().unwrap();
        names
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }
}

fn hex_of(path: PathBuf) -> String {
    data_encoding::HEXLOWER.encode(&fs::read(path).unwrap())
}

/// Without what differs from one TPM to the next: long hexadecimal numbers and the clock.
fn redact(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, run) = rest.split_at(start);
        let end = run.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(run.len());
        let (number, after) = run.split_at(end);
        out.push_str(before);
        out.push_str(if end > NONCE.len() { "<hex>" } else { number });
        rest = after;
    }
    out.push_str(rest);
    let (before, after) = out.split_once("clock ").unwrap();
    let (_, after) = after.split_once(' ').unwrap();
    format!("{before}clock <n> {after}")
}

#[test]
fn every_form_of_key_quote_signature_and_values_attests() {
    for (alg, hash, scheme) in [
        ("ecc", "sha256", "ecdsa"),
        ("ecc384", "sha384", "ecdsa"),
        ("rsa", "sha256", "rsassa"),
        ("rsa", "sha256", "rsapss"),
    ] {
        let desk = Desk::new(&["-G", alg, "-g", hash, "-s", scheme]);
        for signature in ["tss", "plain"] {
            for values in ["values", "serialized"] {
                desk.quote(
                    "sha256:0,1,2,3,4,5,6,7,8,9",
                    &["-f", signature, "-F", values, "-g", hash, "--scheme", scheme],
                );
                for ak in ["ak.tpm2b", "ak.tpmt", "ak.pem"] {
                    let ran = desk.check_with(ak, &["--nonce", NONCE]);
                    assert_eq!(
                        ran.code, 0,
                        "{alg} {scheme} {signature} {values} {ak}: {}{}",
                        ran.out, ran.err
                    );
                }
            }
        }
        let quote = fs::read(desk.path("q")).unwrap();
        let size = u16::try_from(quote.len()).unwrap().to_be_bytes();
        fs::write(desk.path("q"), [&size[..], &quote].concat()).unwrap();
        let ran = desk.check(&["--qualifying-data", NONCE, "--ek", "ek.pub"]);
        assert_eq!(ran.code, 0, "{}", ran.out);
        assert!(ran.out.contains("ok           signer "), "{}", ran.out);
    }
}

#[test]
fn the_report_names_every_check() {
    let desk = Desk::ecc();
    desk.quote("sha256:0,7", &[]);
    let bare = desk.check_with("ak.pem", &["--nonce", NONCE]);
    assert_eq!(bare.code, 0);
    insta::assert_snapshot!("check_bare_key", redact(&bare.out));
    let name = hex_of(desk.path("ak.qname"));
    let refused = desk.check(&["--nonce", "00ff", "--qualified-name", &name]);
    assert_eq!((refused.code, refused.err.as_str()), (3, ""));
    insta::assert_snapshot!("check_refused", redact(&refused.out));
    let policy = "pcrs = { 0 = \"0101010101010101010101010101010101010101010101010101010101010101\", 7 = \"0202020202020202020202020202020202020202020202020202020202020202\" }\n";
    fs::write(desk.path("policy.toml"), policy).unwrap();
    let ran = desk.check(&["--nonce", NONCE, "--policy", "policy.toml"]);
    assert_eq!(ran.code, 3);
    assert!(
        ran.out
            .contains("FAILED       policy           PCR 0 differs from the policy"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("\n                              PCR 7 differs from the policy"),
        "{}",
        ran.out
    );
}

#[test]
fn json_says_what_was_not_checked_too() {
    let desk = Desk::ecc();
    desk.quote("sha256:7", &[]);
    let ran = desk.check(&["--nonce", NONCE, "--json"]);
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &found["verdict"]), (0, &"attested".into()));
    assert_eq!(
        found["not-checked"],
        serde_json::json!(["signer", "policy", "event-log", "freshness", "identity"])
    );
    assert_eq!(found["quote"]["qualifying-data"], NONCE);
    assert_eq!(found["quote"]["selection"], "sha256:7");
    assert_eq!(found["pcrs"]["sha256"]["7"].as_str().unwrap().len(), 64);
}

#[test]
fn evidence_that_was_touched_is_refused_by_the_check_that_sees_it() {
    let desk = Desk::ecc();
    desk.quote("sha256:0,7", &["-F", "values"]);
    assert_eq!(desk.check(&["--nonce", NONCE]).code, 0);
    let flip = |file: &str, at: usize| {
        let mut bytes = fs::read(desk.path(file)).unwrap();
        bytes[at] ^= 1;
        fs::write(desk.path(file), bytes).unwrap();
    };
    for (file, at, by) in [
        ("q.sig", 20, &["signature"][..]),
        ("q.pcrs", 40, &["pcr-values"]),
        // The clock, and the first byte of the nonce.
        ("q", 6 + 36 + 18 + 3, &["signature"]),
        ("q", 6 + 36 + 2, &["signature", "qualifying-data"]),
    ] {
        flip(file, at);
        assert_eq!(desk.failed(&[]), by, "{file} {at}");
        flip(file, at);
    }
    let ran = desk.check(&["--nonce", "00"]);
    assert_eq!(ran.code, 3);
    let other = format!("000b{}", "00".repeat(32));
    assert_eq!(desk.failed(&["--qualified-name", &other]), ["signer"]);
    desk.tool(
        "tpm2_createak",
        &[
            "-C", "ek.ctx", "-G", "ecc", "-g", "sha256", "-s", "ecdsa", "-c", "o.ctx", "-u", "o.pub",
        ],
    );
    let other = desk.check_with("o.pub", &["--nonce", NONCE]);
    assert_eq!(other.code, 3);
    assert!(other.out.contains("is not this key's"), "{}", other.out);
    let values = fs::read(desk.path("q.pcrs")).unwrap();
    fs::write(desk.path("q.pcrs"), &values[..32]).unwrap();
    assert_eq!(desk.failed(&[]), ["pcr-values"]);
}

#[test]
fn sha1_is_believed_only_when_asked_for() {
    let desk = Desk::new(&["-G", "rsa", "-g", "sha1", "-s", "rsassa"]);
    desk.quote("sha1:0,7+sha256:7", &["-g", "sha1"]);
    assert_eq!(desk.failed(&[]), ["key", "signature", "selection"]);
    let ran = desk.check(&["--nonce", NONCE, "--allow-sha1"]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    let bare = desk.check_with("ak.pem", &["--nonce", NONCE, "--allow-sha1"]);
    assert_eq!(bare.code, 0, "{}", bare.out);
}

#[test]
fn a_key_that_signs_anything_is_no_attestation_key() {
    let desk = Desk::ecc();
    let create = [
        "-C",
        "ek.ctx",
        "-G",
        "ecc:ecdsa-sha256",
        "-u",
        "s.pub",
        "-r",
        "s.priv",
        "-c",
        "ak.ctx",
    ];
    desk.tpm
        .tool("tpm2_createprimary", &["-Q", "-C", "o", "-c", "ek.ctx"]);
    desk.tool("tpm2_flushcontext", &["-t"]);
    desk.tool("tpm2_create", &create);
    desk.tool(
        "tpm2_readpublic",
        &["-c", "ak.ctx", "-f", "tss", "-o", "ak.tpm2b"],
    );
    desk.tool("tpm2_readpublic", &["-c", "ak.ctx", "-f", "pem", "-o", "ak.pem"]);
    desk.quote("sha256:7", &["-g", "sha256"]);
    assert_eq!(desk.failed(&[]), ["key"]);
    // The same key in PEM hides it, and the report says so.
    let bare = desk.check_with("ak.pem", &["--nonce", NONCE]);
    assert_eq!(bare.code, 0);
    assert!(bare.out.contains("not checked  key "), "{}", bare.out);
}

#[test]
fn what_is_no_evidence_is_exit_2_and_names_the_file() {
    let desk = Desk::ecc();
    desk.quote("sha256:7", &[]);
    for (file, what) in [
        ("q", "'q' is no quote"),
        ("q.sig", "'q.sig' is no signature"),
        ("ak.tpm2b", "'ak.tpm2b' is no attestation key"),
    ] {
        let good = fs::read(desk.path(file)).unwrap();
        for bad in [b"".to_vec(), b"not it".to_vec(), good[..good.len() - 1].to_vec()] {
            fs::write(desk.path(file), &bad).unwrap();
            let ran = desk.check(&["--nonce", NONCE]);
            assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{file}");
            assert!(ran.err.contains(what), "{}", ran.err);
        }
        fs::write(desk.path(file), good).unwrap();
    }
    for wrong in [
        &[][..],
        &["--nonce", ""],
        &["--nonce", "0"],
        &["--nonce", "xy"],
        &["--nonce", NONCE, "--qualifying-data", NONCE],
        &["--nonce", NONCE, "--ek", "ek.pub", "--qualified-name", "00"],
        &["--nonce", NONCE, "--ek", "ak.tpm2b"],
    ] {
        assert_eq!(desk.check(wrong).code, 2, "{wrong:?}");
    }
    let pem = desk.check_with("ak.pem", &["--nonce", NONCE, "--ek", "ek.pub"]);
    assert_eq!(pem.code, 2);
    assert!(pem.err.contains("from --ek and a key in PEM"), "{}", pem.err);
    assert_eq!(desk.check(&["--nonce", NONCE, "--policy", "absent.toml"]).code, 1);
    fs::write(desk.path("bad.toml"), "bank = \"sha256\"\n").unwrap();
    let policy = desk.check(&["--nonce", NONCE, "--policy", "bad.toml"]);
    assert_eq!(policy.code, 2);
    assert!(
        policy.err.contains("asks for evidence of nothing"),
        "{}",
        policy.err
    );
}

/// Measures what a log says into the SHA-256 bank, as that boot did.
fn replay(tpm: &Swtpm, dir: &std::path::Path) {
    let path = format!("{DATA}/ovmf-shim-grub.log");
    let ran = run(dir, &["evidence", "log", &path, "--json"]);
    let log: Value = serde_json::from_str(&ran.out).unwrap();
    let measured: Vec<String> = log["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["EventType"] != "EV_NO_ACTION")
        .map(|event| {
            let digests = event["Digests"].as_array().unwrap();
            let sha256 = digests.iter().find(|d| d["AlgorithmId"] == "sha256").unwrap();
            format!(
                "{}:sha256={}",
                event["PCRIndex"],
                sha256["Digest"].as_str().unwrap()
            )
        })
        .collect();
    let arguments: Vec<&str> = measured.iter().map(String::as_str).collect();
    tpm.tool("tpm2_pcrextend", &arguments);
}

#[test]
fn from_a_real_boot_to_a_policy_to_a_verdict() {
    let tpm = Swtpm::start();
    let dir = tpm.dir();
    replay(&tpm, &dir);
    let log = format!("{DATA}/ovmf-shim-grub.log");
    let golden = [
        "evidence",
        "golden",
        "--tcti",
        &tpm.tcti(),
        "--pcrs",
        "sha256:0,2,4,7,8,9,14",
        "--event-log",
        &log,
        "--name",
        "kiosk",
    ];
    let ran = run(&dir, &golden);
    assert_eq!(ran.code, 0, "{}", ran.err);
    insta::assert_snapshot!("golden", ran.out);
    fs::write(dir.join("policy.toml"), &ran.out).unwrap();

    // The snippet takes the place of the demo's own evidence.
    let (before, rest) = common::DEMO.split_once("# What the device must prove").unwrap();
    let (_, after) = rest.split_once("[profiles.kiosk-vm]\n").unwrap();
    let manifest = format!("{before}{}\n[profiles.kiosk-vm]\n{after}", ran.out);
    fs::write(dir.join("fleet.toml"), manifest).unwrap();
    let valid = run(&dir, &["validate", "fleet.toml"]);
    assert_eq!(valid.code, 0, "{}", valid.err);

    let desk = Desk { tpm };
    desk.tool("tpm2_createek", &["-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub"]);
    let create = [
        "-C", "ek.ctx", "-c", "ak.ctx", "-u", "ak.tpm2b", "-G", "ecc", "-g", "sha256", "-s", "ecdsa",
    ];
    desk.tool("tpm2_createak", &create);
    desk.quote("sha256:0,2,4,7,8,9,14", &[]);
    let all = [
        "--nonce",
        NONCE,
        "--ek",
        "ek.pub",
        "--policy",
        "policy.toml",
        "--event-log",
        &log,
    ];
    let ran = desk.check(&all);
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(
        ran.out.ends_with("not checked: freshness, identity\n"),
        "{}",
        ran.out
    );

    // Something is measured that no log knows of.
    desk.tpm.extend(8, b"init=/bin/sh");
    desk.quote("sha256:0,2,4,7,8,9,14", &[]);
    assert_eq!(desk.failed(&all[2..]), ["policy", "event-log"]);
}

/// Signs a statement about PCR 7 as docs/image-statements.md says, with openssl alone.
fn statement(desk: &Desk, release: u64, values: &[u8]) {
    let digest = domain::Sha256Digest::of(values);
    let signed = format!(
        r#"{{"bank":"sha256","digest":"{digest}","pcrs":[7],"phase":"ready","profile":"kiosk","release":{release}}}"#
    );
    fs::write(desk.path("statement.json"), &signed).unwrap();
    for arguments in [
        "pkey -in image.key -pubout -out image.pem",
        "pkey -in image.key -pubout -outform DER -out image.der",
        "dgst -sha256 -sign image.key -out signature statement.json",
    ] {
        openssl(desk, arguments);
    }
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let file = format!(
        r#"{{"statement":"{}","signature":"{}","key":"{}"}}"#,
        base64(signed.as_bytes()),
        base64(&fs::read(desk.path("signature")).unwrap()),
        domain::Sha256Digest::of(&fs::read(desk.path("image.der")).unwrap())
    );
    fs::write(desk.path("image.statement"), file).unwrap();
}

fn openssl(desk: &Desk, arguments: &str) {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let ran = desk.tpm.command("openssl").args(&arguments).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn image_statements_and_golden_sets_are_judged() {
    let desk = Desk::ecc();
    desk.quote("sha256:7", &[]);
    desk.tool("tpm2_pcrread", &["sha256:7", "-o", "seven"]);
    let values = fs::read(desk.path("seven")).unwrap();
    let seven = hex_of(desk.path("seven"));
    openssl(
        &desk,
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out image.key",
    );
    statement(&desk, 7, &values);
    let pem = fs::read_to_string(desk.path("image.pem")).unwrap();
    let policy = |least: u64| {
        let text = format!(
            "[statement]\nkeys = [\"\"\"\n{pem}\"\"\"]\nprofile = \"kiosk\"\nleast-release = {least}\npcrs = [7]\n"
        );
        fs::write(desk.path("policy.toml"), text).unwrap();
    };
    let asked = ["--policy", "policy.toml", "--image-statement", "image.statement"];
    policy(7);
    let ran = desk.check(&[&["--nonce", NONCE][..], &asked].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("the image is release 7"), "{}", ran.out);
    assert_eq!(desk.failed(&asked[..2]), ["policy"], "none was given");
    policy(8);
    let ran = desk.check(&[&["--nonce", NONCE][..], &asked].concat());
    assert_eq!(ran.code, 3);
    assert!(
        ran.out
            .contains("the image is release 7, the policy wants 8 at least"),
        "{}",
        ran.out
    );
    policy(7);
    statement(&desk, 7, &[1; 32]);
    assert_eq!(desk.failed(&asked), ["policy"]);

    let golden = |until: &str| {
        let other = "ab".repeat(32);
        let text = format!(
            "[golden.\"2026-09\"]\nuntil = {until}\npcrs = {{ 7 = \"{seven}\" }}\n[golden.\"2026-10\"]\npcrs = {{ 7 = \"{other}\" }}\n"
        );
        fs::write(desk.path("policy.toml"), text).unwrap();
    };
    golden("9999-01-01T00:00:00Z");
    let ran = desk.check(&["--nonce", NONCE, "--policy", "policy.toml"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("golden set `2026-09`"), "{}", ran.out);
    golden("2020-01-01T00:00:00Z");
    let ran = desk.check(&["--nonce", NONCE, "--policy", "policy.toml"]);
    assert_eq!(ran.code, 3, "{}", ran.out);
    assert!(
        ran.out
            .contains("golden set `2026-09`, which ended at 2020-01-01T00:00:00Z"),
        "{}",
        ran.out
    );
}

#[test]
fn rules_want_a_log() {
    let desk = Desk::ecc();
    desk.quote("sha256:7", &[]);
    fs::write(desk.path("policy.toml"), "[log]\nsecure-boot = true\n").unwrap();
    let ran = desk.check(&["--nonce", NONCE, "--policy", "policy.toml"]);
    assert_eq!(ran.code, 3, "{}", ran.out);
    assert!(ran.out.contains("event log"), "{}", ran.out);
    assert_eq!(desk.failed(&["--policy", "policy.toml"]), ["policy"]);
}
