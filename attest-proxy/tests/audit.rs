//! The audit log: what is in it, what shows that it was changed, what a crash and a full disk do to it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use common::{Rig, ask, forge, program::Running, psk};
use serde_json::Value;
use testkit::{
    Canary,
    upstream::{Gate, Reply, Upstream},
};

const AUDIT: &str = "[audit]\nfile = \"audit.jsonl\"\nfsync = \"10ms\"\n";

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// What is written is written soon.
fn wait_for(path: &Path, what: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let lines = lines(path);
        if what(&lines) {
            return lines;
        }
        assert!(Instant::now() < end, "not in time: {lines:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn count(lines: &[Value], event: &str) -> usize {
    lines.iter().filter(|line| line["event"] == event).count()
}

fn verify(args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_attest-proxy"))
        .args(["audit", "verify"])
        .args(args)
        .output()
        .unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

fn path_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn with_audit(config: &Path, more: &str) -> PathBuf {
    let plain = std::fs::read_to_string(config).unwrap();
    std::fs::write(config, format!("{plain}\n{AUDIT}{more}")).unwrap();
    config.parent().unwrap().join("audit.jsonl")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_a_line_and_no_secret_is_in_one() {
    let mut rig = Rig::with(Upstream::json(r#"{"done":true}"#), AUDIT).await;
    let prompt = "the canary of the prompt";
    let body = format!(r#"{{"model":"smollm2:135m","prompt":"{prompt}"}}"#);
    assert_eq!(rig.post("/api/generate", &psk("plain"), &body).await.status, 200);
    assert_eq!(rig.post("/api/generate", &psk("kiosk"), &body).await.status, 401);
    assert_eq!(rig.get("/api/tags?secret=query", &[]).await.status, 401);
    assert_eq!(rig.post("/api/pull", &psk("plain"), "{}").await.status, 403);
    let key = common::session_key(1);
    let session = rig.session(&key).await.session;
    let fields = common::signed(
        &rig,
        "kiosk",
        &session,
        &key,
        ("POST", "/api/chat", common::CHAT),
        1,
    );
    assert_eq!(rig.chat(&fields).await.status, 200);
    let fields = rig.quoted("POST", "/api/chat", common::CHAT).await;
    assert_eq!(rig.chat(&fields).await.status, 200);
    let file = rig.dir.path().join("audit.jsonl");
    rig.stop.send_replace(true);
    rig.ended().await;
    let lines = lines(&file);
    assert_eq!(lines[0]["event"], "open");
    assert_eq!(lines.last().unwrap()["event"], "close");
    for (nth, line) in lines.iter().enumerate() {
        assert_eq!(line["seq"], nth + 1);
    }
    // Four challenges and one session beside the six of above; three of all went upstream.
    assert_eq!(count(&lines, "end"), 3, "{lines:#?}");
    let decisions: Vec<_> = lines.iter().filter(|line| line["event"] == "decision").collect();
    let one = |path: &str, outcome: &str, proof: &str| {
        *decisions
            .iter()
            .find(|l| l["path"] == path && l["outcome"] == outcome && l["proof"] == proof)
            .unwrap_or_else(|| panic!("{path} {outcome} {proof}: {lines:#?}"))
    };
    let admitted = one("/api/generate", "admitted", "psk");
    assert_eq!(admitted["device"], "plain");
    assert_eq!(admitted["model"], "smollm2:135m");
    assert_eq!(
        (admitted["policy"].as_str(), admitted["revision"].as_u64()),
        (Some("open"), Some(1))
    );
    assert_eq!(admitted["psk"].as_str().unwrap().len(), 12);
    let end = lines
        .iter()
        .find(|l| l["event"] == "end" && l["request"] == admitted["request"])
        .unwrap();
    assert_eq!(
        (end["status"].as_u64(), end["complete"].as_bool()),
        (Some(200), Some(true))
    );
    let refused = one("/api/generate", "refused", "none");
    assert_eq!(
        (refused["code"].as_str(), refused["device"].as_str()),
        (Some("evidence-missing"), Some("kiosk"))
    );
    assert_eq!(one("/api/tags", "refused", "none")["code"], "psk-missing");
    assert_eq!(one("/api/pull", "refused", "none")["code"], "path-denied");
    assert_eq!(one("/api/chat", "admitted", "session")["device"], "kiosk");
    one("/api/chat", "admitted", "quote");
    let config = rig.dir.path().join("attest-proxy.toml");
    assert!(!config.exists());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let key = format!("k1={}", path_of(&rig.dir.path().join("fleet.key")));
    let (code, out, err) = verify(&["--key", &key, path_of(&file)]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("whole: ") && !out.contains("note"), "{out}");
    for (name, secret) in [
        ("psk", forge::psk_text("plain")),
        ("psk", forge::psk_text("kiosk")),
        ("session", session),
        ("prompt", prompt.to_owned()),
        ("query", "secret=query".to_owned()),
        ("root", "0123456789abcdef0123456789abcdef".to_owned()),
    ] {
        Canary::new(name, secret.as_bytes()).assert_absent_below(&file);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_written_only_where_the_operator_asks_and_are_cut() {
    let more = format!("{AUDIT}prompts = true\nprompt-bytes = \"48\"\n");
    let rig = Rig::with(Upstream::json(r#"{"done":true}"#), &more).await;
    let body = format!(
        r#"{{"model":"smollm2:135m","prompt":"Gleis {}"}}"#,
        "x".repeat(100)
    );
    assert_eq!(rig.post("/api/generate", &psk("plain"), &body).await.status, 200);
    let lines = wait_for(&rig.dir.path().join("audit.jsonl"), |l| count(l, "decision") == 1);
    let line = lines.iter().find(|l| l["event"] == "decision").unwrap();
    assert_eq!(line["prompt"], body[..48]);
    assert_eq!(line["prompt_cut"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_client_leaves_ends_incomplete() {
    let upstream = Upstream::start(|_| {
        Reply::stream(200, "application/x-ndjson")
            .chunk("one\n")
            .wait(&Gate::closed())
    });
    let rig = Rig::with(upstream, AUDIT).await;
    let mut streaming = common::client::Connection::open(rig.address).await;
    streaming
        .send(&common::client::request(
            "POST",
            "/api/chat",
            &psk("plain"),
            common::CHAT,
        ))
        .await;
    streaming.head().await.unwrap();
    streaming.chunk().await.unwrap();
    let file = rig.dir.path().join("audit.jsonl");
    // The admission is there before the end.
    let before = wait_for(&file, |l| count(l, "decision") == 1);
    assert_eq!(count(&before, "end"), 0);
    drop(streaming);
    let lines = wait_for(&file, |l| count(l, "end") == 1);
    let end = lines.iter().find(|l| l["event"] == "end").unwrap();
    assert_eq!(
        (end["complete"].as_bool(), end["code"].as_str()),
        (Some(false), Some("client-left"))
    );
    assert_eq!(end["bytes"], 4);
}

/// A log of some lines, closed in order, with its fleet's key beside it.
async fn some_log() -> (tempfile::TempDir, PathBuf, String) {
    let upstream = Upstream::json(r#"{"done":true}"#);
    let (dir, config) = common::program::folder(&upstream.url()).await;
    let file = with_audit(&config, "");
    let running = Running::start(&config, &[]);
    for _ in 0..3 {
        ask(running.address, "POST", "/api/chat", &psk("plain"), common::CHAT).await;
        ask(running.address, "POST", "/api/chat", &psk("kiosk"), common::CHAT).await;
    }
    let (code, log) = running.end();
    assert_eq!(code, 0, "{log}");
    (dir, file, path_of(&config).to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_broken_line_is_told_for_every_kind_of_change() {
    let (dir, file, config) = some_log().await;
    let good = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    assert!(lines.len() > 8, "{good}");
    let broken = dir.path().join("broken.jsonl");
    let try_it = |text: String| {
        std::fs::write(&broken, text).unwrap();
        verify(&["--config", &config, path_of(&broken)])
    };
    let without = |at: usize| {
        let mut lines = lines.clone();
        lines.remove(at);
        lines.join("\n") + "\n"
    };
    let edited = good.replacen("\"refused\"", "\"admitted\"", 1);
    let at = 1 + lines.iter().position(|l| l.contains("\"refused\"")).unwrap();
    let swapped = {
        let mut lines = lines.clone();
        lines.swap(4, 5);
        lines.join("\n") + "\n"
    };
    let doubled = {
        let mut lines = lines.clone();
        lines.insert(4, lines[3]);
        lines.join("\n") + "\n"
    };
    for (text, line, words) in [
        (edited, at, "does not follow"),
        (without(3), 4, "does not follow"),
        (without(0), 1, "does not begin with an `open` line"),
        (swapped, 5, "does not follow"),
        (doubled, 5, "does not follow"),
        (good.replacen("\n{", "\n\n{", 1), 2, "not a line of an audit log"),
        ("x".repeat(5 << 20), 1, "longer than any"),
    ] {
        let (code, out, err) = try_it(text);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(
            err.contains(&format!("broken.jsonl:{line}: ")) && err.contains(words),
            "{words}: {err}"
        );
    }
    // Cut inside the last line: a crash, which is no tampering.
    let (code, out, _) = try_it(good[..good.len() - 40].to_owned());
    assert!(
        code == 0 && out.contains("bytes at the end are the beginning of a line"),
        "{out}"
    );
    // Cut at a line: nothing in the file shows it but the missing end.
    let (code, out, _) = try_it(without(lines.len() - 1));
    assert!(code == 0 && out.contains("the last line is no `close`"), "{out}");
    // Nor can a torn file be followed by another.
    std::fs::write(&broken, &good[..good.len() - 40]).unwrap();
    let (code, _, err) = verify(&[path_of(&broken), path_of(&file)]);
    assert!(code == 1 && err.contains("in the middle of a line"), "{err}");
    let (code, out, _) = verify(&["--json", path_of(&file)]);
    let object: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (
            code,
            object["report"]["closed"].as_bool(),
            object["report"]["authentic"].as_bool()
        ),
        (0, Some(true), Some(false))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_written_anew_without_the_key_is_seen() {
    let (_dir, _, config) = some_log().await;
    // The same proxy under another root: every hash fits.
    let (other, forged, _) = some_log().await;
    let key = other.path().join("fleet.key");
    std::fs::write(&key, "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=\n").unwrap();
    std::fs::remove_file(&forged).unwrap();
    let running = Running::start(&other.path().join("attest-proxy.toml"), &[]);
    assert_eq!(running.end().0, 0);
    assert_eq!(
        verify(&[path_of(&forged)]).0,
        0,
        "the hashes alone do not show it"
    );
    let (code, _, err) = verify(&["--config", &config, path_of(&forged)]);
    assert!(
        code == 1 && err.contains(":1: ") && err.contains("not written by a holder"),
        "{err}"
    );
    let (code, _, err) = verify(&["--key", &format!("k9={}", path_of(&key)), path_of(&forged)]);
    assert!(code == 1 && err.contains("'k1', which is not at hand"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_proxy_leaves_a_log_that_goes_on() {
    let upstream = Upstream::json(r#"{"done":true}"#);
    let (_dir, config) = common::program::folder(&upstream.url()).await;
    let file = with_audit(&config, "");
    // Every admission is on the disk before its answer.
    let text = std::fs::read_to_string(&config)
        .unwrap()
        .replace("\"10ms\"", "\"each\"");
    std::fs::write(&config, text).unwrap();
    let mut answered = 0;
    for round in 0..3 {
        let mut running = Running::start(&config, &[]);
        for _ in 0..20 {
            let answer = ask(running.address, "POST", "/api/chat", &psk("plain"), common::CHAT).await;
            assert_eq!(answer.status, 200);
            answered += 1;
        }
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        if round == 1 {
            // As if the power had failed inside a line.
            let mut log = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
            log.write_all(b"{\"seq\":12,\"at\":\"20").unwrap();
            let (code, out, err) = verify(&["--config", path_of(&config), path_of(&file)]);
            assert!(code == 0 && out.contains("18 bytes at the end"), "{out}{err}");
        }
    }
    let (code, out, err) = verify(&["--config", path_of(&config), path_of(&file)]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("1 times a crash had cut off"), "{out}");
    let decisions = lines(&file).iter().filter(|l| l["outcome"] == "admitted").count();
    assert_eq!(decisions, answered, "an answered request is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_file_is_left_at_sighup_and_the_chain_goes_on() {
    let upstream = Upstream::json(r#"{"done":true}"#);
    let (dir, config) = common::program::folder(&upstream.url()).await;
    let file = with_audit(&config, "");
    let running = Running::start(&config, &[]);
    ask(running.address, "POST", "/api/chat", &psk("plain"), common::CHAT).await;
    let moved = dir.path().join("audit.1");
    std::fs::rename(&file, &moved).unwrap();
    running.signal("-HUP");
    wait_for(&file, |l| count(l, "open") == 1);
    ask(running.address, "POST", "/api/chat", &psk("plain"), common::CHAT).await;
    // The same file twice is not two files.
    running.signal("-HUP");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(running.end().0, 0);
    assert_eq!(count(&lines(&file), "open"), 1);
    let both = ["--config", path_of(&config), path_of(&moved), path_of(&file)];
    let (code, out, err) = verify(&both);
    assert!(code == 0 && !out.contains("note"), "{out}{err}");
    // In the other order, or with the first one missing lines, it is no chain.
    let (_, out, _) = verify(&[path_of(&file), path_of(&moved)]);
    assert!(
        out.contains("earlier files exist") && out.contains("1 times a chain begins anew"),
        "{out}"
    );
    let text = std::fs::read_to_string(&moved).unwrap();
    let shorter: Vec<_> = text.lines().take(2).collect();
    std::fs::write(&moved, shorter.join("\n") + "\n").unwrap();
    let (code, _, err) = verify(&both);
    assert!(code == 1 && err.contains("audit.jsonl:1: "), "{err}");
    let (code, out, _) = verify(&["--config", path_of(&config), path_of(&file)]);
    assert!(code == 0 && out.contains("earlier files exist"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_full_is_set_aside() {
    let rig = Rig::with(
        Upstream::json(r#"{"done":true}"#),
        &format!("{AUDIT}max-size = \"64KiB\"\n"),
    )
    .await;
    for _ in 0..300 {
        rig.get("/api/tags", &[]).await;
        rig.post("/api/chat", &psk("kiosk"), common::CHAT).await;
    }
    let file = rig.dir.path().join("audit.jsonl");
    wait_for(&file, |l| l.iter().any(|line| line["seq"].as_u64() > Some(600)));
    let mut files: Vec<String> = std::fs::read_dir(rig.dir.path())
        .unwrap()
        .map(|entry| path_of(&entry.unwrap().path()).to_owned())
        .filter(|name| name.contains("audit.jsonl."))
        .collect();
    files.sort();
    assert!(
        files.len() > 1 && files[0].ends_with("audit.jsonl.000000000001"),
        "{files:?}"
    );
    for full in &files {
        // At most one batch of lines more than it may have.
        assert!(std::fs::metadata(full).unwrap().len() < (192 << 10));
    }
    files.push(path_of(&file).to_owned());
    let args: Vec<&str> = files.iter().map(String::as_str).collect();
    let (code, out, err) = verify(&args);
    assert!(code == 0 && out.contains("600 decisions"), "{out}{err}");
}

/// 16 KiB and more.
fn long_chat() -> String {
    common::CHAT.replace("Gleis", &"Gleis ".repeat(3000))
}

/// Runs the proxy with files that may not grow beyond `kib`: a disk that is full.
fn full_at(kib: u32, config: &Path) -> Running {
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_attest-proxy")]);
    Running::start_by(command, config, &[], "ready: http://")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_recovers() {
    let upstream = Upstream::json(r#"{"done":true}"#);
    let (dir, config) = common::program::folder(&upstream.url()).await;
    let file = with_audit(&config, "prompts = true\n");
    let running = full_at(256, &config);
    let long = long_chat();
    let chat = async || ask(running.address, "POST", "/api/chat", &psk("plain"), &long).await;
    let mut answer = chat().await;
    for _ in 0..200 {
        if answer.status != 200 {
            break;
        }
        answer = chat().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((answer.status, answer.code()), (503, "overloaded".into()));
    let reached = upstream.received().len();
    assert_eq!(chat().await.status, 503);
    assert_eq!(
        upstream.received().len(),
        reached,
        "a request went upstream unwritten"
    );
    let ready = ask(running.operators, "GET", "/readyz", &[], "").await;
    assert_eq!(ready.status, 503);
    assert!(
        ready.json()["audit"].as_str().unwrap().contains("too large"),
        "{}",
        ready.text()
    );
    let metrics = ask(running.operators, "GET", "/metrics", &[], "").await.text();
    assert!(metrics.contains("attest_proxy_audit_failing 1"), "{metrics}");
    // Room is made.
    let moved = dir.path().join("audit.1");
    std::fs::rename(&file, &moved).unwrap();
    running.signal("-HUP");
    let mut status = 0;
    for _ in 0..200 {
        status = chat().await.status;
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status, 200, "it does not go on");
    assert_eq!(running.end().0, 0);
    assert_eq!(count(&lines(&file), "lost"), 1);
    let (code, out, err) = verify(&["--config", path_of(&config), path_of(&moved), path_of(&file)]);
    assert!(code == 0 && out.contains("could not be written"), "{out}{err}");
    let admitted = |path: &Path| lines(path).iter().filter(|l| l["outcome"] == "admitted").count();
    // `/readyz` and `/metrics` ask the upstream for its version.
    let chats = upstream.received().iter().filter(|r| r.method == "POST").count();
    assert_eq!(admitted(&moved) + admitted(&file), chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_drops_and_counts_where_the_operator_says_so() {
    let upstream = Upstream::json(r#"{"done":true}"#);
    let (_dir, config) = common::program::folder(&upstream.url()).await;
    with_audit(&config, "prompts = true\non-failure = \"drop\"\nqueue = 64\n");
    let running = full_at(256, &config);
    let long = long_chat();
    for _ in 0..120 {
        let answer = ask(running.address, "POST", "/api/chat", &psk("plain"), &long).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(
        ask(running.operators, "GET", "/readyz", &[], "").await.status,
        200
    );
    let metrics = ask(running.operators, "GET", "/metrics", &[], "").await.text();
    let lost = metrics
        .lines()
        .find_map(|line| line.strip_prefix("attest_proxy_audit_lost_total "))
        .unwrap();
    assert!(lost.parse::<u64>().unwrap() > 50, "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_log_and_what_another_writes_is_refused_at_the_start() {
    let upstream = Upstream::json(r#"{"done":true}"#);
    let (_dir, config) = common::program::folder(&upstream.url()).await;
    let file = with_audit(&config, "");
    let serve = || {
        let output = Command::new(env!("CARGO_BIN_EXE_attest-proxy"))
            .args(["serve", "--config", path_of(&config)])
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    std::fs::write(&file, "something else\n").unwrap();
    let (code, err) = serve();
    assert!(
        code == 1 && err.contains("does not end as an audit log does"),
        "{err}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "something else\n");
    std::fs::remove_file(&file).unwrap();
    let running = Running::start(&config, &[]);
    let (code, err) = serve();
    assert!(
        code == 1 && err.contains("is written by another process"),
        "{err}"
    );
    assert_eq!(running.end().0, 0);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let (code, err) = serve();
    assert!(code == 1 && err.contains("cannot open the audit log"), "{err}");
}
