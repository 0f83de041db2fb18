//! The recipes beside the program: the unit of systemd, judged by systemd itself, and the container's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::process::{Command, Output};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/attest-proxy/");

fn analyze(args: &[&str]) -> (bool, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new("systemd-analyze")
        .args(args)
        .output()
        .expect("systemd-analyze of the Debian package systemd");
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    (status.success(), said)
}

#[test]
fn the_unit_is_well_formed_and_exposes_little() {
    let unit = format!("{FOLDER}attest-proxy.service");
    // Of ten points at most 1.5; a unit without hardening has 9.6.
    let (good, said) = analyze(&["security", "--offline=true", "--threshold=15", &unit]);
    assert!(good, "{said}");
    // With a program that is there, nothing is left to complain about.
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("attest-proxy.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains("ExecStart=/usr/bin/attest-proxy serve"));
    let text = text.replace("/usr/bin/attest-proxy", env!("CARGO_BIN_EXE_attest-proxy"));
    std::fs::write(&here, text).unwrap();
    let (good, said) = analyze(&["verify", "--man=no", here.to_str().unwrap()]);
    assert!(good && !said.contains("attest-proxy.service:"), "{said}");
}

#[test]
fn the_container_has_the_program_alone_and_no_root() {
    let text = std::fs::read_to_string(format!("{FOLDER}Containerfile")).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .collect();
    assert_eq!(lines[0], "FROM scratch");
    let words = |word: &str| lines.iter().filter(|l| l.starts_with(word)).count();
    assert_eq!(
        (words("FROM"), words("COPY"), words("RUN"), words("ADD")),
        (1, 1, 0, 0)
    );
    let user = lines.iter().find_map(|l| l.strip_prefix("USER ")).unwrap();
    let (uid, gid) = user.split_once(':').unwrap();
    assert!(uid.parse::<u32>().unwrap() > 0 && gid.parse::<u32>().unwrap() > 0);
    // A shell form would need a shell.
    for word in ["ENTRYPOINT ", "CMD "] {
        let arguments = lines.iter().find_map(|l| l.strip_prefix(word)).unwrap();
        let list: Vec<String> = serde_json::from_str(arguments).unwrap();
        assert!(!list.is_empty());
    }
}
