//! `provisioner evidence log`, held to tpm2_eventlog on the same bytes: a real boot, and a log of the older format.
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

use std::{collections::BTreeMap, fs, process::Command};

use common::{DATA, run};
use serde_norway::Value;

/// What tpm2_eventlog prints, read as YAML.
fn stock(path: &str) -> Value {
    let output = Command::new("tpm2_eventlog")
        .args(["--eventlog-version=2", path])
        .output()
        .expect("tpm2_eventlog, from the Debian package tpm2-tools");
    assert!(output.status.success());
    let mut text = String::from_utf8(output.stdout).unwrap();
    if !text.contains("EventNum") {
        // tpm2-tools 5.4 neither numbers the events of the older format nor makes them a list.
        text = text.replace("\n  PCRIndex", "\n- PCRIndex");
    }
    serde_norway::from_str(&text).unwrap()
}

fn ours(path: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(dir.path(), &["evidence", "log", path, "--yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_norway::from_str(&ran.out).unwrap()
}

/// Text of a scalar: tpm2_eventlog leaves most unquoted.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_norway::to_string(other).unwrap().trim().to_owned(),
    }
}

/// tpm2-tools 5.4 puts each line of a boot loader's text in quotes of its own, within the text.
fn plain(value: &Value) -> Value {
    match value {
        Value::Mapping(map) => {
            let fields = map.iter().map(|(key, value)| match (key.as_str(), value) {
                (Some("String"), Value::String(text)) => {
                    let inner = |line| str::strip_suffix(str::strip_prefix(line, '"')?, '"');
                    let lines: Vec<_> = text.lines().map(|line| inner(line).unwrap_or(line)).collect();
                    let text = lines.join("\n").replace("\\0", "\0");
                    (key.clone(), Value::String(text.trim_end_matches('\n').to_owned()))
                }
                (Some("Algorithm[0]" | "Algorithm[1]" | "Algorithm[2]"), _) => (key.clone(), Value::Null),
                _ => (key.clone(), plain(value)),
            });
            Value::Mapping(fields.collect())
        }
        Value::Sequence(list) => list.iter().map(plain).collect(),
        other => Value::String(scalar(other)),
    }
}

fn assert_alike(path: &str, banks: usize) -> usize {
    let (stock, ours) = (stock(path), ours(path));
    let events = |value: &Value| value["events"].as_sequence().unwrap().clone();
    let (theirs, own) = (events(&stock), events(&ours));
    assert_eq!(theirs.len(), own.len());
    for (theirs, own) in theirs.iter().zip(&own) {
        let numbered = theirs.get("EventNum").is_some();
        for field in [
            "EventNum",
            "PCRIndex",
            "EventType",
            "DigestCount",
            "Digest",
            "Digests",
            "EventSize",
        ]
        .into_iter()
        .filter(|field| numbered || *field != "EventNum")
        {
            assert_eq!(
                theirs.get(field).map(plain),
                own.get(field).map(plain),
                "{field} of {theirs:?}"
            );
        }
        for field in ["SpecID", "Event"] {
            assert_eq!(theirs.get(field).map(plain), own.get(field).map(plain), "{field}");
        }
    }
    assert_eq!(plain(&stock["pcrs"]), plain(&ours["pcrs"]));
    assert_eq!(ours["pcrs"].as_mapping().unwrap().len(), banks);
    own.len()
}

#[test]
fn a_real_boot_reads_as_tpm2_eventlog_reads_it() {
    assert_eq!(assert_alike(&format!("{DATA}/ovmf-shim-grub.log"), 3), 51);
}

#[test]
fn the_replayed_pcrs_are_what_the_tpm_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = format!("{DATA}/ovmf-shim-grub.log");
    let ran = run(dir.path(), &["evidence", "log", &path, "--json"]);
    let log: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let held: BTreeMap<String, String> = fs::read_to_string(format!("{DATA}/ovmf-shim-grub.pcrs"))
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(pcr, value)| (pcr.to_owned(), format!("0x{value}")))
        .collect();
    let mut compared = 0;
    for (bank, pcrs) in log["pcrs"].as_object().unwrap() {
        for (pcr, value) in pcrs.as_object().unwrap() {
            assert_eq!(value, &held[&format!("{bank}:{pcr}")], "{bank} {pcr}");
            compared += 1;
        }
    }
    // 0 to 9 and 14, in three banks.
    assert_eq!(compared, 33);
}

#[test]
fn a_person_reads_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(
        dir.path(),
        &["evidence", "log", &format!("{DATA}/ovmf-shim-grub.log")],
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
    insta::assert_snapshot!("log_table", ran.out);
}

/// `TCG_PCClientPCREvent`.
fn sha1_event(pcr: u32, kind: u32, digest: [u8; 20], data: &[u8]) -> Vec<u8> {
    let mut out = [pcr.to_le_bytes(), kind.to_le_bytes()].concat();
    out.extend(digest);
    out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    out.extend(data);
    out
}

#[test]
fn the_older_format_reads_as_tpm2_eventlog_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.log");
    let log = [
        sha1_event(0, 1, [1; 20], b"POST CODE"),
        sha1_event(0, 8, [2; 20], b"v1"),
        sha1_event(
            4,
            0x8000_0007,
            [3; 20],
            b"Calling EFI Application from Boot Option",
        ),
        sha1_event(0, 4, [4; 20], &[0; 4]),
        sha1_event(4, 4, [4; 20], &[0; 4]),
    ];
    fs::write(&path, log.concat()).unwrap();
    assert_eq!(assert_alike(path.to_str().unwrap(), 1), 5);
}

#[test]
fn what_is_no_log_is_exit_2_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let real = fs::read(format!("{DATA}/ovmf-shim-grub.log")).unwrap();
    fs::write(dir.path().join("cut.log"), &real[..5000]).unwrap();
    fs::write(dir.path().join("empty.log"), b"").unwrap();
    let cut = run(dir.path(), &["evidence", "log", "cut.log"]);
    assert_eq!((cut.code, cut.out.as_str()), (2, ""));
    assert!(
        cut.err
            .contains("'cut.log' is no event log\n  cause: event 7 ends inside event"),
        "{}",
        cut.err
    );
    assert_eq!(run(dir.path(), &["evidence", "log", "empty.log"]).code, 2);
    assert_eq!(run(dir.path(), &["evidence", "log", "absent.log"]).code, 1);
    let both = run(dir.path(), &["evidence", "log", "cut.log", "--yaml", "--json"]);
    assert_eq!(both.code, 2);
}
