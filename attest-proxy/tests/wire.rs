//! What a client's bytes and their pace may cost: split reads, bounded heads, slow and idle clients, places. What is
//! malformed or smuggled is in `smuggling.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::time::{Duration, Instant};

use common::{CHAT, Rig, client::Connection, forge::psk_text, psk};
use testkit::upstream::{Reply, Upstream};

/// A request with a good key: `{K}` is the key's field, `{B}` a body of `{L}` bytes.
fn fill(template: &str) -> Vec<u8> {
    template
        .replace("{K}", &format!("X-Pre-Shared-Key: {}\r\n", psk_text("plain")))
        .replace("{P}", &psk_text("plain"))
        .replace("{L}", &CHAT.len().to_string())
        .replace("{X}", &format!("{:x}", CHAT.len()))
        .replace("{B}", CHAT)
        .into_bytes()
}

/// What else a smuggler wants to get through.
const SMUGGLED: &str = "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: {L}\r\n\r\n{B}";

#[tokio::test(flavor = "multi_thread")]
async fn our_own_refusals_say_so_in_json() {
    let rig = Rig::new().await;
    let mut connection = Connection::open(rig.address).await;
    connection
        .send(&fill(
            "GET /api/version HTTP/1.1\r\nHost: a\r\nHost: b\r\n{K}\r\n",
        ))
        .await;
    let answer = connection.answer("GET").await.unwrap();
    assert_eq!((answer.status, answer.code()), (400, "request-malformed".into()));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(connection.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_split_anywhere_is_the_same_request() {
    let rig = Rig::new().await;
    let bytes = fill(SMUGGLED);
    for at in (1..bytes.len()).step_by(7) {
        let mut connection = Connection::open(rig.address).await;
        connection.send(&bytes[..at]).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        connection.send(&bytes[at..]).await;
        assert_eq!(
            connection.answer("POST").await.unwrap().status,
            200,
            "split at {at}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_while_sending_can_read_why() {
    let rig = Rig::with(Upstream::json("{}"), "[limits]\nbody-bytes = \"4KiB\"").await;
    let body = "x".repeat(6 << 20);
    for (device, status) in [("plain", 413), ("kiosk", 401), ("stranger", 401)] {
        let mut connection = Connection::open(rig.address).await;
        connection
            .send(&common::client::request("POST", "/api/chat", &psk(device), &body))
            .await;
        let answer = connection.answer("POST").await.expect("an answer");
        assert!(answer.complete && answer.status == status, "{device}: {answer:?}");
        assert!(connection.is_closed().await);
    }
    // Nobody is listened to for long.
    let begun = Instant::now();
    let mut connection = Connection::open(rig.address).await;
    connection
        .send(&fill(
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: 9999999\r\n\r\n",
        ))
        .await;
    assert_eq!(connection.answer("POST").await.unwrap().status, 413);
    let mut sent = 0;
    while connection.try_send(b"x").await {
        sent += 1;
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "still listening after {sent} bytes"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(1));
    assert!(rig.upstream.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded() {
    let rig = Rig::with(
        Upstream::json("{}"),
        "[limits]\nheader-bytes = \"8KiB\"\nheader-count = 16",
    )
    .await;
    let many: String = (0..20).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(10_000));
    for fields in [many, long] {
        let mut connection = Connection::open(rig.address).await;
        connection
            .send(&fill(&format!(
                "GET /api/version HTTP/1.1\r\nHost: a\r\n{{K}}{fields}\r\n"
            )))
            .await;
        let said = connection.rest().await;
        assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    }
    assert_eq!(rig.upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_idle_clients_are_cut_off() {
    let limits = "[limits]\nheader-timeout = \"300ms\"\nidle-timeout = \"600ms\"";
    let rig = Rig::with(Upstream::json("{}"), limits).await;
    for (start, least) in [("", 500), ("GET /api/ver", 250)] {
        let begun = Instant::now();
        let mut connection = Connection::open(rig.address).await;
        connection.send(start.as_bytes()).await;
        assert!(connection.is_closed().await);
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(least) && took < Duration::from_secs(3),
            "{start:?}: {took:?}"
        );
    }
    // One byte now and then does not help.
    let begun = Instant::now();
    let mut connection = Connection::open(rig.address).await;
    for byte in b"GET /api/version HTTP/1.1\r\nHost: a\r\n" {
        connection.send(&[*byte]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        if begun.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
    assert!(connection.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_long_is_not_idling() {
    let upstream = Upstream::start(|_| {
        Reply::stream(200, "application/x-ndjson")
            .pause(Duration::from_millis(900))
            .chunk("{}\n")
    });
    let limits = "[limits]\nheader-timeout = \"200ms\"\nidle-timeout = \"200ms\"";
    let rig = Rig::with(upstream, limits).await;
    let answer = rig.chat(&psk("plain")).await;
    assert!(answer.complete && answer.text() == "{}\n", "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_cut_off() {
    let upstream = Upstream::start(|_| {
        (0..400).fold(Reply::stream(200, "application/x-ndjson"), |r, _| {
            r.chunk(vec![b'x'; 64 << 10])
        })
    });
    let rig = Rig::with(upstream, "[limits]\nwrite-stall = \"400ms\"").await;
    let mut connection = Connection::open(rig.address).await;
    connection
        .send(&common::client::request("POST", "/api/chat", &psk("plain"), CHAT))
        .await;
    rig.upstream
        .until("it to be cut off", |u| u.abandoned() == 1)
        .await;
    assert_eq!(rig.proxy.upstream.in_flight(), 0);
    drop(connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded() {
    let rig = Rig::with(Upstream::json("{}"), "[limits]\nconnections = 2").await;
    let mut held = [
        Connection::open(rig.address).await,
        Connection::open(rig.address).await,
    ];
    for connection in &mut held {
        connection
            .send(&common::client::request("GET", "/api/version", &psk("plain"), ""))
            .await;
        assert_eq!(connection.answer("GET").await.unwrap().status, 200);
    }
    let mut third = Connection::open(rig.address).await;
    let answer = third.answer("GET").await.unwrap();
    assert_eq!((answer.status, answer.code()), (503, "overloaded".into()));
    assert!(third.is_closed().await);
    drop(held);
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let mut next = Connection::open(rig.address).await;
        next.send(&common::client::request("GET", "/api/version", &psk("plain"), ""))
            .await;
        if next.answer("GET").await.is_some_and(|a| a.status == 200) {
            return;
        }
    }
    panic!("the places were not given back");
}
