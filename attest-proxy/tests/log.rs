//! The operator's log of the running program, and whoever reads it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use common::{ask, client::Connection, client::request, psk};
use serde_json::Value;
use testkit::upstream::Upstream;

/// Kills it if a test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn metric(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_no_request_and_says_what_is_missing() {
    let upstream = Upstream::json(r#"{"done":true}"#);
    let (_dir, config) = common::program::folder(&upstream.url()).await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_attest-proxy"))
        .args(["serve", "--log", "json", "--config", config.to_str().unwrap()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map(Killed)
        .unwrap();
    let mut log = BufReader::new(child.0.stderr.take().unwrap());
    let mut begun = String::new();
    let mut find = |prefix: &str| -> SocketAddr {
        loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended: {begun}");
            if let Some(address) = line.trim().strip_prefix(prefix) {
                return address.parse().unwrap();
            }
            begun.push_str(&line);
        }
    };
    let operators = find("operators: http://");
    let address = find("ready: http://");
    // From here on nobody reads: the pipe takes 64 KiB, the program keeps a mebibyte.
    let metrics = async || ask(operators, "GET", "/metrics", &[], "").await.text();
    let path = format!("/api/{}", "x".repeat(120));
    let refused = request("GET", &path, &psk("plain"), "");
    let mut stranger = Connection::open(address).await;
    let mut sent: u64 = 0;
    let mut lost = 0;
    while lost == 0 {
        for _ in 0..100 {
            stranger.send(&refused).await;
            assert_eq!(stranger.answer("GET").await.unwrap().status, 404);
            sent += 1;
        }
        assert!(sent < 20_000, "nothing is ever dropped");
        lost = metric(&metrics().await, "attest_proxy_log_lost_total");
    }
    let chat = ask(address, "POST", "/api/chat", &psk("plain"), common::CHAT).await;
    assert_eq!(chat.status, 200);
    // Somebody reads again, up to the end.
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    let kill = |name: &str| {
        let pid = child.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    };
    kill("-TERM");
    let text = tokio::task::spawn_blocking(move || reading.join().unwrap())
        .await
        .unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let missing: u64 = lines
        .iter()
        .filter(|line| line["target"] == "log")
        .map(|line| line["lost"].as_u64().unwrap())
        .sum();
    let told = lines.iter().filter(|line| line["target"] == "decision").count();
    assert!(missing > 0, "{text}");
    // Every request is a line, or counted as missing.
    assert_eq!(u64::try_from(told).unwrap() + missing, sent + 1);
    assert!(lines.iter().any(|line| line["message"] == "draining"), "{text}");
}
