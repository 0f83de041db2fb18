//! slowhttptest (Debian's) against the program, with a good key: heads, bodies and readers that drip, and
//! ranges without end. All of its connections are cut, who comes from elsewhere is served all the while, and memory
//! stays under a ceiling.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{
    CHAT,
    client::{Connection, request},
    forge::psk_text,
    process::Held,
    program::{Running, folder},
    psk,
};
use testkit::upstream::{Reply, Upstream};
use tokio::time::sleep;

/// How many connections it opens: more than one peer may have.
const CONNECTIONS: usize = 300;
/// What may be resident meanwhile, in KiB: 48 MiB for heads and bodies that do not come (of which the allocator keeps some for a
/// moment after they are gone), and half a MiB more for each answer that is not taken, of as many as one peer may have (256).
const CEILING: u64 = 48 << 10;
const CEILING_OF_ANSWERS: u64 = CEILING + (128 << 10);
const LIMITS: &str = r#"
[limits]
header-timeout = "3s"
body-timeout = "6s"
body-rate = "1KiB"
body-grace = "2s"
write-stall = "3s"
idle-timeout = "5s"
"#;

/// A running slowhttptest; ended with its value.
struct Slow(Child);

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What came of an attack.
#[derive(Debug)]
struct Outcome {
    said: String,
    cut: bool,
    peak: Held,
    before: Held,
    served: usize,
    reached: usize,
}

/// Runs it in one mode against `path` with a good key, while an honest client from another address asks and asks.
async fn attack(mode: &[&str], path: &str, crowded: bool) -> Outcome {
    // Longer than what the kernel keeps for a reader that does not read.
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    let upstream = Upstream::start(move |received| {
        if received.target == "/api/version" {
            Reply::json(200, &long)
        } else {
            Reply::json(200, r#"{"done":true}"#)
        }
    });
    let (dir, config) = folder(&upstream.url()).await;
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}{LIMITS}")).unwrap();
    let running = Running::start(&config, &["--log-level", "error"]);
    let pid = running.child.id();
    let before = Held::by(pid).unwrap();
    let connections = CONNECTIONS.to_string();
    // The one field that it sends in every mode is where the key goes in.
    let cookie = format!("a=b\r\nX-Pre-Shared-Key: {}", psk_text("plain"));
    let url = format!("http://{}{path}", running.address);
    let log = dir.path().join("slow.log");
    let child = Command::new("slowhttptest")
        .args(mode)
        .args(["-c", &connections, "-r", "150", "-i", "1", "-l", "28", "-p", "3"])
        .args(["-j", &cookie, "-u", &url])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .expect("slowhttptest is there (Debian package slowhttptest)");
    let mut slow = Slow(child);
    let mut peak = before;
    let mut served = 0;
    // Cut is what the program has let go of; what the kernel still holds of it is bounded, and not the program's.
    let mut cut = false;
    while !cut && slow.0.try_wait().unwrap().is_none() {
        let mut honest = Connection::from([127, 0, 0, 2], running.address).await;
        honest
            .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
            .await;
        let answer = honest.answer("POST").await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        served += 1;
        let held = Held::by(pid).unwrap();
        peak.resident = peak.resident.max(held.resident);
        peak.descriptors = peak.descriptors.max(held.descriptors);
        peak.threads = peak.threads.max(held.threads);
        cut = crowded
            && peak.descriptors > before.descriptors + 100
            && held.descriptors < before.descriptors + 20;
        sleep(Duration::from_millis(50)).await;
    }
    let said = std::fs::read_to_string(&log).unwrap();
    let received = upstream.received();
    let reached = received
        .iter()
        .filter(|r| r.target == path && r.body != CHAT.as_bytes())
        .count();
    assert!(
        received.iter().all(|r| r.header("range").is_empty()),
        "a range came through"
    );
    let (code, log) = running.end();
    assert!(code == 0 && !log.contains("panicked"), "{code}: {log}");
    let outcome = Outcome {
        cut: cut || said.contains("No open connections left"),
        said,
        peak,
        before,
        served,
        reached,
    };
    println!("{mode:?}: {outcome:?}");
    outcome
}

/// What holds of every attack; `crowded`: of one that tries to stay.
fn held_out(outcome: &Outcome, crowded: bool, ceiling: u64) {
    assert!(outcome.cut, "{}", outcome.said);
    let many = outcome.peak.descriptors > outcome.before.descriptors + 100;
    assert!(many || !crowded, "{outcome:?}");
    assert!(outcome.served > 10, "{outcome:?}");
    assert!(outcome.peak.resident < ceiling, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_drip_are_cut() {
    held_out(&attack(&["-H"], "/api/chat", true).await, true, CEILING);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_drip_are_cut() {
    let mode = ["-B", "-s", "8192", "-x", "20", "-f", "application/json"];
    let outcome = attack(&mode, "/api/chat", true).await;
    held_out(&outcome, true, CEILING);
    assert_eq!(outcome.reached, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_drip_are_cut() {
    let mode = ["-X", "-w", "1", "-y", "512", "-z", "32", "-n", "1"];
    let outcome = attack(&mode, "/api/version", true).await;
    held_out(&outcome, true, CEILING_OF_ANSWERS);
    assert!(outcome.reached > 100, "none of them was served: {outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_without_end_are_cut() {
    // A head that is longer than heads may be, and one of which the ranges are not passed on.
    let outcome = attack(&["-R", "-t", "GET", "-b", "4000"], "/api/version", false).await;
    held_out(&outcome, false, CEILING);
    // Its probes are whole requests.
    assert!(outcome.reached < 20, "{outcome:?}");
    let outcome = attack(&["-R", "-t", "GET", "-b", "500"], "/api/version", false).await;
    held_out(&outcome, false, CEILING);
    assert!(outcome.reached > 100, "none of them was served: {outcome:?}");
}
