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

/// tpm2-tools 5.4 puts each line of a boot loader's text in quotes of its own, within the text, and escapes it.
fn plain(value: &Value) -> Value {
    match value {
        Value::Mapping(map) => {
            let fields = map.iter().map(|(key, value)| match (key.as_str(), value) {
                (Some("String"), Value::String(text)) => {
                    let inner = |line| str::strip_suffix(str::strip_prefix(line, '"')?, '"');
                    let lines: Vec<_> = text.lines().map(|line| inner(line).unwrap_or(line)).collect();
                    let mut lines = lines.join("\n");
                    if text.starts_with('"') {
                        // Its escapes; the backslash itself last, and only here: ours are the text itself.
                        for (escape, meant) in [("\\0", "\0"), ("\\'", "'"), ("\\t", "\t"), ("\\\\", "\\")] {
                            lines = lines.replace(escape, meant);
                        }
                    }
                    (
                        key.clone(),
                        Value::String(lines.trim_end_matches('\n').to_owned()),
                    )
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

/// `TCG_PCR_EVENT2` with the digest of its data.
fn agile_event(pcr: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = [pcr, kind, 1].iter().flat_map(|n| n.to_le_bytes()).collect();
    out.extend([0x0b, 0]);
    out.extend(domain::Sha256Digest::of(data).as_bytes());
    out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    out.extend(data);
    out
}

fn agile_header() -> Vec<u8> {
    let mut data = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02\x01\0\0\0\x0b\0\x20\0".to_vec();
    data.push(0);
    sha1_event(0, 3, [0; 20], &data)
}

/// What old shims wrote: a variable, and bytes of their memory behind it.
fn variable_with_a_tail() -> Vec<u8> {
    let mut data = vec![7; 16];
    data.extend(2_u64.to_le_bytes());
    data.extend(20_u64.to_le_bytes());
    data.extend(b"d\0b\0");
    data.extend([9; 20]);
    data.extend([0, 0, 0, 0, 0, 0xaf]);
    data
}

#[test]
fn what_firmware_and_old_shims_write_reads_as_tpm2_eventlog_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("firmware.log");
    let mut described = vec![5];
    described.extend(b"BIOS\0");
    described.extend([1; 16]);
    let log = [
        agile_header(),
        agile_event(0, 1, b"ACPI DATA\0"),
        agile_event(0, 0x8000_000a, &described),
        agile_event(4, 0x8000_0007, b"Calling EFI Application from Boot Option\0"),
        agile_event(7, 0x8000_00e0, &variable_with_a_tail()),
        agile_event(9, 2, b"unused"),
    ];
    fs::write(&path, log.concat()).unwrap();
    assert_eq!(assert_alike(path.to_str().unwrap(), 1), 6);
}

/// Where tpm2_eventlog takes a text for two addresses, or shows it in hexadecimal, and leaves the locality of startup out.
#[test]
fn what_tpm2_eventlog_gets_wrong_is_right_here() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("measured.log");
    let log = [
        agile_header(),
        agile_event(0, 7, b"FIT Type 0x02 Measured S-CRTM\0"),
        agile_event(0, 5, b"Calling INT 19h"),
        agile_event(0, 5, b"\x01\x02"),
    ];
    fs::write(&path, log.concat()).unwrap();
    let events = &ours(path.to_str().unwrap())["events"];
    assert_eq!(events[1]["Event"], Value::from("FIT Type 0x02 Measured S-CRTM"));
    assert_eq!(events[2]["Event"], Value::from("Calling INT 19h"));
    assert_eq!(events[3]["Event"], Value::from("0102"));
    let table = run(dir.path(), &["evidence", "log", "measured.log"]);
    assert!(
        table
            .out
            .contains("EV_ACTION                         Calling INT 19h"),
        "{}",
        table.out
    );
}

#[test]
fn the_log_of_a_confidential_vm_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = agile_header();
    log[0] = 1;
    fs::write(dir.path().join("ccel"), log).unwrap();
    let ran = run(dir.path(), &["evidence", "log", "ccel"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err
            .contains("the log's header is about register 1, a TPM's is about PCR 0"),
        "{}",
        ran.err
    );
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

/// How one log of another machine compares.
#[derive(Default)]
struct Compared {
    fields: usize,
    known: BTreeMap<&'static str, usize>,
    unknown: Vec<String>,
}

impl Compared {
    fn field(&mut self, event: &Value, name: &str, stock: Option<&Value>, ours: Option<&Value>) {
        let empty = |value: &Value| matches!(value, Value::String(text) if text.is_empty() || text == "null");
        let (stock, ours) = (stock.map(plain), ours.map(plain));
        let kind = event["EventType"].as_str().unwrap_or_default();
        let text = |value: &Option<Value>| {
            value
                .as_ref()
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if stock == ours {
            self.fields += 1;
        } else if text(&stock).len() == 2048 && text(&ours).starts_with(&text(&stock)) {
            *self
                .known
                .entry("cut to 1,024 bytes by the stock tool")
                .or_default() += 1;
        } else if kind == "EV_S_CRTM_CONTENTS" && stock.as_ref().is_some_and(|s| s.get("BlobBase").is_some())
        {
            *self
                .known
                .entry("text taken for addresses by the stock tool")
                .or_default() += 1;
        } else if stock
            .as_ref()
            .is_some_and(|s| s.get("VariableData").is_some_and(empty))
        {
            *self.known.entry("an empty list").or_default() += 1;
        } else {
            self.unknown.push(format!("{name} of {kind}: {stock:?} {ours:?}"));
        }
    }
}

fn compare(stock: &Value, ours: &Value) -> Compared {
    let mut found = Compared::default();
    let events = |value: &Value| value["events"].as_sequence().cloned().unwrap_or_default();
    let (theirs, own) = (events(stock), events(ours));
    if theirs.len() != own.len() {
        found
            .unknown
            .push(format!("{} events, {} here", theirs.len(), own.len()));
    }
    for (theirs, own) in theirs.iter().zip(&own) {
        for (name, value) in own.as_mapping().unwrap() {
            let name = name.as_str().unwrap();
            if name != "EventNum" || theirs.get(name).is_some() {
                found.field(own, name, theirs.get(name), Some(value));
            }
        }
    }
    let located = own.iter().any(|event| {
        event["Event"]
            .get("StartupLocality")
            .and_then(Value::as_u64)
            .is_some_and(|locality| locality != 0)
    });
    for (bank, values) in ours["pcrs"].as_mapping().unwrap() {
        for (pcr, value) in values.as_mapping().unwrap() {
            let theirs = stock["pcrs"].get(bank).and_then(|values| values.get(pcr));
            if theirs.map(plain) != Some(plain(value)) && located && scalar(pcr) == "0" {
                *found
                    .known
                    .entry("locality of startup left out by the stock tool")
                    .or_default() += 1;
            } else {
                found.field(&Value::Null, "PCR", theirs, Some(value));
            }
        }
    }
    found
}

/// Every log in the folder that `ci/foreign` fetched, against the stock tool: a table, and no difference that is not known.
#[test]
#[ignore = "needs logs of other machines, which ci/foreign fetches"]
fn logs_of_other_machines_read_as_tpm2_eventlog_reads_them() {
    let folder = std::env::var("FOREIGN_LOGS").expect("FOREIGN_LOGS, a folder of event logs: run ci/foreign");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut unknown = Vec::new();
    let mut compared = 0;
    for path in &paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let path = path.to_str().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ran = run(dir.path(), &["evidence", "log", path, "--yaml"]);
        assert!(
            matches!(ran.code, 0 | 2),
            "{name}: exit {}: {}",
            ran.code,
            ran.err
        );
        let stock = Command::new("tpm2_eventlog")
            .args(["--eventlog-version=2", path])
            .output()
            .unwrap();
        if ran.code == 2 || !stock.status.success() {
            let said = if ran.code == 2 {
                ran.err.lines().last().unwrap_or_default()
            } else {
                "read here"
            };
            println!("{name:<55}  {said}; tpm2_eventlog: {}", stock.status);
            continue;
        }
        let found = compare(&self::stock(path), &serde_norway::from_str(&ran.out).unwrap());
        println!(
            "{name:<55}  {:>5} fields agree, known: {:?}",
            found.fields, found.known
        );
        unknown.extend(
            found
                .unknown
                .into_iter()
                .map(|difference| format!("{name}: {difference}")),
        );
        compared += 1;
    }
    assert!(compared > 0, "no log was compared");
    assert_eq!(unknown, Vec::<String>::new());
}
