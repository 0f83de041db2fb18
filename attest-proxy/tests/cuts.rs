//! Everything that the proxy ends before its time is counted, under the one word that says why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{
    CHAT, Rig, ask,
    client::{Connection, request},
    http2::{self, DATA, END_HEADERS, END_STREAM, HEADERS, PING, block, frame},
    program::{Running, folder},
    psk,
};
use registry::DeviceState;
use testkit::upstream::{Gate, Reply, Upstream};
use tokio::time::sleep;

/// Every sample of a family that is not 0, as its labels and its value.
async fn samples(operators: SocketAddr, family: &str) -> Vec<String> {
    let text = ask(operators, "GET", "/metrics", &[], "").await.text();
    let mine = text.lines().filter_map(|line| line.strip_prefix(family));
    mine.filter(|rest| !rest.ends_with(" 0"))
        .map(str::to_owned)
        .collect()
}

async fn until(operators: SocketAddr, family: &str, wanted: &[&str]) {
    let mut found = Vec::new();
    for _ in 0..500 {
        found = samples(operators, family).await;
        if found == wanted {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{family}: {found:?}, not {wanted:?}");
}

const CONNECTIONS: &str = "attest_proxy_connections_cut_total";
const ANSWERS: &str = "attest_proxy_answers_cut_total";

/// An answer of 25 MB.
fn long() -> Upstream {
    Upstream::start(|_| {
        (0..400).fold(Reply::stream(200, "application/x-ndjson"), |r, _| {
            r.chunk(vec![b'x'; 64 << 10])
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_ended_says_why_in_the_metrics() {
    let limits = "[limits]\nheader-timeout = \"200ms\"\nidle-timeout = \"200ms\"\nwrite-stall = \"300ms\"";
    let rig = Rig::with(long(), limits).await;
    let fresh = async || Connection::open(rig.address).await;
    assert!(fresh().await.is_closed().await);
    until(rig.operators, CONNECTIONS, &["{reason=\"idle\"} 1"]).await;

    let mut half = fresh().await;
    half.send(b"GET /api/version HTTP/1.1\r\nHost: a\r\n").await;
    assert!(half.more().await || half.is_closed().await);
    let seen = ["{reason=\"head\"} 1", "{reason=\"idle\"} 1"];
    until(rig.operators, CONNECTIONS, &seen).await;

    let mut deaf = fresh().await;
    deaf.send(&request("POST", "/api/chat", &psk("plain"), CHAT))
        .await;
    let seen = [
        "{reason=\"head\"} 1",
        "{reason=\"idle\"} 1",
        "{reason=\"write-stall\"} 1",
    ];
    until(rig.operators, CONNECTIONS, &seen).await;
    drop(deaf);

    // No window for the answer of one stream: that one ends.
    let mut connection = http2::Connection::open(rig.address, &[0, 4, 0, 0, 0, 0]).await;
    let mut head = http2::fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/api/chat"),
        (":authority", "a"),
    ]);
    head.extend(
        psk("plain")
            .into_iter()
            .map(|(name, value)| (name.to_lowercase(), value)),
    );
    connection
        .send(&frame(HEADERS, END_HEADERS, 1, &block(&head)))
        .await;
    connection
        .send(&frame(DATA, END_STREAM, 1, CHAT.as_bytes()))
        .await;
    assert_eq!(connection.outcome(1).await, http2::Outcome::Reset(8));
    drop(connection);
    let mut flood = http2::Connection::open(rig.address, &[]).await;
    for _ in 0..20_000 {
        if !flood.send(&frame(PING, 0, 0, &[0; 8])).await {
            break;
        }
    }
    assert!(flood.closes().await);
    let seen = [
        "{reason=\"head\"} 1",
        "{reason=\"idle\"} 1",
        "{reason=\"write-stall\"} 1",
        "{reason=\"flood\"} 1",
        "{reason=\"stream-stall\"} 1",
    ];
    until(rig.operators, CONNECTIONS, &seen).await;

    let mut other = fresh().await;
    other
        .send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        .await;
    assert_eq!(other.head().await.unwrap().status, 400);
    drop(other);
    let mut seen = seen.to_vec();
    seen.insert(3, "{reason=\"malformed\"} 1");
    until(rig.operators, CONNECTIONS, &seen).await;
    // The same from one who hears no refusal: it is listened to for 2 s, no longer.
    let mut stubborn = fresh().await;
    stubborn.send(b"GET / HTTP/1.1\nHost: a\r\n\r\n").await;
    stubborn.rest().await;
    seen.insert(3, "{reason=\"linger\"} 1");
    until(rig.operators, CONNECTIONS, &seen).await;
    // Those who took nothing lost their answers.
    until(rig.operators, ANSWERS, &["{reason=\"client-left\"} 2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_and_has_no_proxy_header_is_counted() {
    let upstream = Upstream::json("{}");
    let (dir, path) = folder(&upstream.url()).await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.path().join("tls.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let tls = "[tls]\ncert = \"tls.pem\"\nkey = \"tls.key\"\n[limits]\nhandshake-timeout = \"300ms\"";
    std::fs::write(&path, format!("proxy-protocol = [\"127.0.0.1\"]\n{text}\n{tls}")).unwrap();
    let running = Running::start_at(&path, &[], "ready: https://");
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
    // No TLS; TLS that never comes; no header; a header that never comes.
    for (sent, wanted) in [
        (
            &[&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat()[..],
            "{reason=\"handshake\"} 1",
        ),
        (header, "{reason=\"handshake\"} 2"),
    ] {
        let mut connection = Connection::open(running.address).await;
        connection.send(sent).await;
        connection.rest().await;
        until(running.operators, CONNECTIONS, &[wanted]).await;
    }
    for (sent, wanted) in [(&b"GET / HTTP/1.1\r\n\r\n"[..], 1), (b"PROXY", 2)] {
        let mut connection = Connection::open(running.address).await;
        connection.send(sent).await;
        connection.rest().await;
        let wanted = format!("{{reason=\"proxy-header\"}} {wanted}");
        until(
            running.operators,
            CONNECTIONS,
            &[&wanted, "{reason=\"handshake\"} 2"],
        )
        .await;
    }
    assert_eq!(running.end().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_before_its_end_says_why_in_the_metrics() {
    let never = Gate::closed();
    let upstream = Upstream::start(move |received| {
        let begun = Reply::stream(200, "application/x-ndjson").chunk("{\"n\":1}\n");
        if received.text().contains("break") {
            begun.break_off()
        } else {
            begun.wait(&never)
        }
    });
    let rig = Rig::with(upstream, "[limits]\nchunk-timeout = \"900ms\"").await;
    let broken = CHAT.replace("Gleis", "break");
    assert_eq!(rig.post("/api/chat", &psk("plain"), &broken).await.status, 200);
    until(rig.operators, ANSWERS, &["{reason=\"upstream-failed\"} 1"]).await;
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    let mut seen = vec![
        "{reason=\"upstream-failed\"} 1",
        "{reason=\"upstream-timeout\"} 1",
    ];
    until(rig.operators, ANSWERS, &seen).await;
    let begin = async || {
        let mut client = Connection::open(rig.address).await;
        client
            .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
            .await;
        assert_eq!(client.head().await.unwrap().status, 200);
        client
    };
    drop(begin().await);
    seen.push("{reason=\"client-left\"} 1");
    until(rig.operators, ANSWERS, &seen).await;
    let revoked = begin().await;
    rig.edit("plain", |device| device.state = DeviceState::Suspended)
        .await;
    seen.insert(2, "{reason=\"revoked\"} 1");
    until(rig.operators, ANSWERS, &seen).await;
    drop(revoked);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_in_vain_is_counted_as_waiting() {
    let never = Gate::closed();
    let upstream = Upstream::start(move |_| {
        Reply::stream(200, "application/x-ndjson")
            .chunk("{}\n")
            .wait(&never)
    });
    let rig = Rig::with(upstream, "[queue]\nwait = \"600ms\"\n[limits]\nstreams = 1").await;
    let begin = async || {
        let mut client = Connection::open(rig.address).await;
        client
            .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
            .await;
        client
    };
    let mut first = begin().await;
    first.head().await.unwrap();
    let answer = rig.chat(&psk("plain")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    const WAITS: &str = "attest_proxy_queue_wait_seconds_count";
    until(rig.operators, WAITS, &["{end=\"refused\"} 1"]).await;
    let bucket = samples(
        rig.operators,
        "attest_proxy_queue_wait_seconds_bucket{end=\"refused\",",
    )
    .await;
    assert_eq!(bucket[0], "le=\"1\"} 1", "half a second and more");
    let leaving = begin().await;
    while rig.proxy.upstream.queued().0 == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    drop(leaving);
    until(rig.operators, WAITS, &["{end=\"refused\"} 1", "{end=\"left\"} 1"]).await;
    let mut served = begin().await;
    while rig.proxy.upstream.queued().0 == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    drop(first);
    assert_eq!(served.head().await.unwrap().status, 200);
    let all = ["{end=\"served\"} 1", "{end=\"refused\"} 1", "{end=\"left\"} 1"];
    until(rig.operators, WAITS, &all).await;
}
