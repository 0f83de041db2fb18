//! Malformed and smuggled requests on the raw socket: each is answered 400 (or the connection is closed), the
//! connection ends with it, and nothing of it reaches the upstream.

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
async fn malformed_requests_end_here() {
    let rig = Rig::new().await;
    let corpus = [
        // Two lengths.
        (
            "CL and TE",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: {L}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "TE and CL",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
        ),
        (
            "two CL, equal",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: {L}\r\nContent-Length: {L}\r\n\r\n{B}",
        ),
        (
            "two CL, different",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: {L}\r\nContent-Length: 3\r\n\r\n{B}",
        ),
        (
            "CL list",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: {L}, {L}\r\n\r\n{B}",
        ),
        (
            "CL with a sign",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: +{L}\r\n\r\n{B}",
        ),
        (
            "negative CL",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: -1\r\n\r\n",
        ),
        (
            "TE twice",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
        ),
        (
            "TE identity",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: identity\r\n\r\n",
        ),
        (
            "TE gzip",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: gzip, chunked\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
        ),
        (
            "TE obfuscated",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: xchunked\r\n\r\n",
        ),
        (
            "TE with a space before its colon",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding : chunked\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
        ),
        (
            "TE on HTTP/1.0",
            "POST /api/chat HTTP/1.0\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
        ),
        // Lines.
        (
            "LF alone in the request line",
            "GET /api/version HTTP/1.1\nHost: a\r\n{K}\r\n",
        ),
        (
            "LF alone after a field",
            "GET /api/version HTTP/1.1\r\nHost: a\n{K}\r\n",
        ),
        (
            "LF alone at the end",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}\n",
        ),
        (
            "CR inside a value",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}X: a\rb\r\n\r\n",
        ),
        (
            "NUL inside a value",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}X: a\0b\r\n\r\n",
        ),
        (
            "a folded line",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}X: a\r\n b\r\n\r\n",
        ),
        (
            "a space before the first field",
            "GET /api/version HTTP/1.1\r\n Host: a\r\n{K}\r\n",
        ),
        (
            "a field without a colon",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}nonsense\r\n\r\n",
        ),
        (
            "a field without a name",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}: x\r\n\r\n",
        ),
        // Chunks.
        (
            "a chunk extension",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n{X};a=b\r\n{B}\r\n0\r\n\r\n",
        ),
        (
            "a chunk size with 0x",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n0x{X}\r\n{B}\r\n0\r\n\r\n",
        ),
        (
            "a chunk longer than it says",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n3\r\n{B}\r\n0\r\n\r\n",
        ),
        (
            "a chunk line with LF alone",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n{X}\n{B}\r\n0\r\n\r\n",
        ),
        (
            "a key in a trailer",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\nX-Pre-Shared-Key: {P}\r\n\r\n",
        ),
        (
            "an announced trailer",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Trailer: x\r\nTransfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
        ),
        // Host and target.
        ("no Host", "GET /api/version HTTP/1.1\r\n{K}\r\n"),
        ("no Host on HTTP/1.0", "GET /api/version HTTP/1.0\r\n{K}\r\n"),
        (
            "two Hosts",
            "GET /api/version HTTP/1.1\r\nHost: a\r\nHost: b\r\n{K}\r\n",
        ),
        ("an empty Host", "GET /api/version HTTP/1.1\r\nHost: \r\n{K}\r\n"),
        (
            "a Host with a path",
            "GET /api/version HTTP/1.1\r\nHost: a/b\r\n{K}\r\n",
        ),
        (
            "an absolute target",
            "GET http://b/api/version HTTP/1.1\r\nHost: a\r\n{K}\r\n",
        ),
        ("CONNECT", "CONNECT b:80 HTTP/1.1\r\nHost: a\r\n{K}\r\n"),
        ("an asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n{K}\r\n"),
        ("a fragment", "GET /api/version#x HTTP/1.1\r\nHost: a\r\n{K}\r\n"),
        (
            "HTTP/2 by prior knowledge, not quite",
            "PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n",
        ),
        (
            "PROXY of a stranger",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET /api/version HTTP/1.1\r\nHost: a\r\n{K}\r\n",
        ),
        ("HTTP/3.0", "GET /api/version HTTP/3.0\r\nHost: a\r\n{K}\r\n"),
        ("HTTP/0.9", "GET /api/version\r\n"),
        // Fields.
        (
            "an upgrade",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
        (
            "h2c",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}Upgrade: h2c\r\n\r\n",
        ),
        ("two keys", "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}{K}\r\n"),
        (
            "two different keys",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}Authorization: Bearer sbx_another\r\n\r\n",
        ),
        (
            "an underscore twin",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}X_Pre_Shared_Key: x\r\n\r\n",
        ),
        (
            "an underscore length",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}Content_Length: 3\r\n\r\n",
        ),
        (
            "Connection names the key",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}Connection: X-Pre-Shared-Key\r\n\r\n",
        ),
        (
            "an encoded body",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Encoding: gzip\r\nContent-Length: {L}\r\n\r\n{B}",
        ),
        (
            "GET with a body",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}Content-Length: 3\r\n\r\nabc",
        ),
        (
            "half a quote",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}TPM-Quote: :AQ==:\r\nContent-Length: {L}\r\n\r\n{B}",
        ),
    ];
    for (name, template) in corpus {
        let mut connection = Connection::open(rig.address).await;
        connection.send(&fill(&format!("{template}{SMUGGLED}"))).await;
        connection.finish().await;
        let said = connection.rest().await;
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 4") || said.starts_with("HTTP/1.0 4"),
            "{name}: {said}"
        );
        assert_eq!(
            said.matches("HTTP/1.").count(),
            usize::from(!said.is_empty()),
            "{name}: {said}"
        );
        assert_eq!(
            rig.upstream.connections(),
            0,
            "{name} reached the upstream: {:?}",
            rig.upstream.received()
        );
    }
    // The same key in a plain request does reach it.
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
}

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
