//! docs/stock-tools.md says what stock tools can do. Its commands are run here exactly as they are written there.

use std::fs;
use std::process::Command;

use crate::harness::{Backing, DEVICE, Ended, Line, programs, root};

#[test]
fn an_admitted_call_with_curl_and_tpm2_tools_as_documented() {
    let line = Line::start(Backing::Sqlite);
    line.apply().succeeded();
    let ended = run(&line, "## An admitted call");
    assert!(ended.stdout.contains("platform 7"), "{ended:?}");
    // The document ends with the same request once more, which is refused.
    assert!(ended.stdout.contains("\"code\""), "{ended:?}");
    // Refused once: a stale quote raises an alert of the same name beside its refusal.
    let log = line.proxy_log();
    let refused = |code| log.matches(&format!("\"code\":\"{code}\"")).count();
    assert_eq!(refused("request-replayed") + refused("evidence-stale"), 1);
}

#[test]
fn the_volume_with_cryptsetup_and_tpm2_tools_as_documented() {
    let line = Line::start(Backing::Sqlite);
    line.apply().succeeded();
    let ended = run(&line, "## The sealed volume");
    assert!(ended.stdout.contains("the key fits"), "{ended:?}");
}

/// Runs every `bash` block of a section of the document, in order, as one script.
fn run(line: &Line, section: &str) -> Ended {
    let document = fs::read_to_string(root().join("docs/stock-tools.md")).unwrap();
    let (_, rest) = document
        .split_once(&format!("\n{section}\n"))
        .unwrap_or_else(|| panic!("no section {section}"));
    let text = rest.split("\n## ").next().unwrap();
    let blocks: Vec<&str> = text
        .split("```bash\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert!(!blocks.is_empty(), "no commands in {section}");
    let path = std::env::var("PATH").unwrap_or_default();
    let folder = line.path("stock");
    fs::create_dir(&folder).unwrap();
    let ended = line.run(
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", &blocks.concat()])
            .current_dir(&folder)
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", programs().display()))
            .env("TPM2TOOLS_TCTI", line.tpm.tcti())
            .env("PROXY", &line.proxy)
            .env("VOLUME", line.volume(DEVICE))
            .env("DEVICE", DEVICE)
            .env("FLEET", "demo"),
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}
