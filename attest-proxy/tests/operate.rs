//! What operators see and do: probes, metrics, a registry that is away, draining, reloading, TLS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{sync::Arc, time::Duration};

use attest_proxy::{clock::Clock, config::Settings, server::Server};
use common::{Rig, ask, client, psk};
use testkit::{
    etcd::Etcd,
    upstream::{Gate, Reply, Upstream},
};

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_tell_the_truth() {
    let rig = Rig::new().await;
    assert_eq!(ask(rig.operators, "GET", "/healthz", &[], "").await.status, 200);
    let ready = ask(rig.operators, "GET", "/readyz", &[], "").await;
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (200, Some(true)));
    rig.chat(&psk("plain")).await;
    rig.chat(&psk("stranger")).await;
    let metrics = ask(rig.operators, "GET", "/metrics", &[], "").await;
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = metrics.text();
    for line in [
        "attest_proxy_requests_total{outcome=\"admitted\",code=\"\",status=\"\"} 1",
        "attest_proxy_requests_total{outcome=\"refused\",code=\"psk-unknown\",status=\"401\"} 1",
        "attest_proxy_registry_devices{usable=\"true\"} 2",
        "attest_proxy_ready 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(
        !text.contains("plain\"") && !text.contains("kiosk"),
        "a device is named in\n{text}"
    );
    assert_eq!(ask(rig.operators, "GET", "/x", &[], "").await.status, 404);
    assert_eq!(ask(rig.operators, "POST", "/metrics", &[], "x").await.status, 405);
    // Not on the clients' port.
    assert_eq!(rig.get("/metrics", &psk("plain")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::json("{}");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("etcd://127.0.0.1:{port}").parse().unwrap();
    let text = common::config(dir.path(), &upstream.url(), &url, "");
    let settings = Settings::parse(&dir.path().join("p.toml"), &text).unwrap();
    let server = Server::bind(settings, Clock::Other(Arc::new(|| common::forge::START)))
        .await
        .unwrap();
    let (address, operators) = (server.address().unwrap(), server.operator_address().unwrap());
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(server.run(stopped));
    let answer = ask(address, "POST", "/api/chat", &psk("plain"), common::CHAT).await;
    assert_eq!((answer.status, answer.code()), (503, "registry-stale".into()));
    assert!(answer.header("retry-after").is_some());
    // Nothing is told to someone without a key either way.
    assert_eq!(
        ask(address, "POST", "/api/chat", &[], common::CHAT).await.status,
        401
    );
    assert_eq!(ask(operators, "GET", "/healthz", &[], "").await.status, 200);
    let ready = ask(operators, "GET", "/readyz", &[], "").await;
    assert_eq!(
        (ready.status, ready.json()["registry"].as_str()),
        (503, Some("it was not reached yet"))
    );
    // But for the probe's own question.
    assert!(upstream.received().iter().all(|r| r.target == "/api/version"));
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_falls_silent_is_believed_for_a_while_and_no_longer() {
    let etcd = Etcd::start();
    let url = etcd.url().parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::on(Upstream::json("{}"), "", dir, &url).await;
    drop(rig);
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::json("{}");
    let text = common::config(dir.path(), &upstream.url(), &url, "").replace("\"30s\"", "\"2s\"");
    let settings = Settings::parse(&dir.path().join("p.toml"), &text).unwrap();
    let server = Server::bind(settings, Clock::Other(Arc::new(|| common::forge::START)))
        .await
        .unwrap();
    let (address, operators, proxy) = (
        server.address().unwrap(),
        server.operator_address().unwrap(),
        server.proxy(),
    );
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(server.run(stopped));
    tokio::time::timeout(Duration::from_secs(10), proxy.settled())
        .await
        .unwrap();
    let chat = || async { ask(address, "POST", "/api/chat", &psk("plain"), common::CHAT).await };
    // Quiet is not silent: it stays fresh far longer than its greatest age.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(chat().await.status, 200);
    etcd.pause();
    assert_eq!(chat().await.status, 200, "the last snapshot is good for a while");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let answer = chat().await;
    assert_eq!((answer.status, answer.code()), (503, "registry-stale".into()));
    assert_eq!(ask(operators, "GET", "/readyz", &[], "").await.status, 503);
    etcd.resume();
    let mut back = false;
    for _ in 0..200 {
        back = chat().await.status == 200;
        if back {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(back, "it did not come back");
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_ends_no_stream() {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::start(move |_| {
        Reply::stream(200, "application/x-ndjson")
            .chunk("one\n")
            .wait(&held)
            .chunk("two\n")
    });
    let mut rig = Rig::with(upstream, "").await;
    let mut streaming = client::Connection::open(rig.address).await;
    let mut idle = client::Connection::open(rig.address).await;
    streaming
        .send(&client::request("POST", "/api/chat", &psk("plain"), common::CHAT))
        .await;
    streaming.head().await.unwrap();
    assert_eq!(streaming.chunk().await.unwrap(), b"one\n");
    rig.stop.send_replace(true);
    assert!(idle.is_closed().await);
    let mut refused = false;
    for _ in 0..100 {
        refused = tokio::net::TcpStream::connect(rig.address).await.is_err();
        if refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refused, "new connections are still taken");
    let ready = ask(rig.operators, "GET", "/readyz", &[], "").await;
    assert_eq!(
        (ready.status, ready.json()["draining"].as_bool()),
        (503, Some(true))
    );
    gate.open();
    assert_eq!(streaming.chunk().await.unwrap(), b"two\n");
    assert_eq!(streaming.chunk().await.unwrap(), b"");
    rig.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_does_not_wait_forever() {
    let upstream = Upstream::start(|_| {
        Reply::stream(200, "application/x-ndjson")
            .chunk("one\n")
            .wait(&Gate::closed())
    });
    let mut rig = Rig::with(upstream, "[limits]\ndrain = \"300ms\"").await;
    let mut streaming = client::Connection::open(rig.address).await;
    streaming
        .send(&client::request("POST", "/api/chat", &psk("plain"), common::CHAT))
        .await;
    streaming.head().await.unwrap();
    rig.stop.send_replace(true);
    rig.ended().await;
}
