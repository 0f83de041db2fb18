//! An upstream that fails: away, hung, broken off, stalled.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::time::Duration;

use common::{Answer, CHAT, Rig, psk};
use testkit::upstream::{Gate, Reply, Step, Upstream};

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_failures_have_their_own_codes() {
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/api/chat" => Reply::raw(vec![Step::Close]),
        "/api/generate" => Reply::raw(vec![Step::Bytes(b"garbage\r\n\r\n".to_vec()), Step::Close]),
        "/api/tags" => Reply::json(200, "not a list"),
        _ => Reply::raw(vec![Step::Wait(Gate::closed())]),
    });
    let rig = Rig::with(
        upstream,
        "[limits]\nfirst-byte-timeout = \"300ms\"\nstreams = 1\n[queue]\nlength = 0",
    )
    .await;
    refused(&rig.chat(&psk("plain")).await, 502, "upstream-failed");
    refused(
        &rig.post("/api/generate", &psk("plain"), CHAT).await,
        502,
        "upstream-failed",
    );
    refused(&rig.get("/api/tags", &psk("plain")).await, 502, "upstream-failed");
    refused(
        &rig.post("/api/embed", &psk("plain"), CHAT).await,
        504,
        "upstream-timeout",
    );
    let fields = psk("plain");
    let (first, second) = tokio::join!(
        rig.post("/api/embed", &fields, CHAT),
        rig.post("/api/embed", &fields, CHAT)
    );
    let (busy, slow) = if first.status == 503 {
        (first, second)
    } else {
        (second, first)
    };
    refused(&busy, 503, "overloaded");
    assert!(busy.header("retry-after").is_some());
    refused(&slow, 504, "upstream-timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_away_is_said_to_be() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let rig = Rig::new().await;
    let text = common::config(rig.dir.path(), &format!("http://{gone}"), &url(&rig), "");
    let settings = attest_proxy::config::Settings::parse(&rig.dir.path().join("x.toml"), &text).unwrap();
    let clock = rig.clock.clone();
    let clock = attest_proxy::clock::Clock::Other(std::sync::Arc::new(move || clock.now()));
    let server = attest_proxy::server::Server::bind(settings, clock).await.unwrap();
    let (address, operators, proxy) = (
        server.address().unwrap(),
        server.operator_address().unwrap(),
        server.proxy(),
    );
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(server.run(stopped));
    proxy.settled().await;
    let answer = common::ask(address, "POST", "/api/chat", &psk("plain"), CHAT).await;
    refused(&answer, 503, "no-upstream");
    assert!(answer.header("retry-after").is_some());
    let ready = common::ask(operators, "GET", "/readyz", &[], "").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["registry"], "ok");
    assert!(
        ready.json()["upstream"]
            .as_str()
            .unwrap()
            .contains("no connection")
    );
    task.abort();
}

fn url(rig: &Rig) -> registry::RegistryUrl {
    format!("sqlite:{}", rig.dir.path().join("registry.db").display())
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_ends_in_its_own_form() {
    let upstream = Upstream::start(|request| {
        let kind = if request.target == "/api/chat" {
            "application/x-ndjson"
        } else {
            "text/event-stream"
        };
        let kind = if request.target == "/api/embed" {
            "application/json"
        } else {
            kind
        };
        Reply::stream(200, kind).chunk("{\"half\":").break_off()
    });
    let rig = Rig::with(upstream, "").await;
    let answer = rig.chat(&psk("plain")).await;
    assert!(answer.complete && answer.status == 200);
    let last: serde_json::Value = serde_json::from_str(answer.text().trim().lines().last().unwrap()).unwrap();
    assert_eq!(last["code"], "upstream-failed");
    let answer = rig.post("/v1/chat/completions", &psk("plain"), CHAT).await;
    let text = answer.text();
    let last = text
        .trim()
        .lines()
        .last()
        .unwrap()
        .strip_prefix("data: ")
        .unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(last).unwrap()["error"]["code"],
        "upstream-failed"
    );
    // What has no form for it breaks off, so that nobody takes it for whole.
    let answer = rig.post("/api/embed", &psk("plain"), CHAT).await;
    assert!(!answer.complete, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_stalls_ends() {
    let upstream = Upstream::start(|_| {
        Reply::stream(200, "application/x-ndjson")
            .chunk("{}\n")
            .pause(Duration::from_secs(30))
    });
    let rig = Rig::with(upstream, "[limits]\nchunk-timeout = \"200ms\"").await;
    let answer = rig.chat(&psk("plain")).await;
    assert!(answer.text().contains("upstream-timeout"), "{}", answer.text());
    rig.upstream.until("the end of it", |u| u.abandoned() == 1).await;
}
