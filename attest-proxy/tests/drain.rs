//! SIGTERM while answers run, in HTTP/2 and HTTP/1.1: nothing that was begun is dropped, nothing new is taken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use common::{
    CHAT, client,
    http2::{
        Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, block, fields, frame,
    },
    program::{Running, folder},
    psk,
};
use testkit::upstream::{Gate, Reply, Upstream};
use tokio::{net::TcpStream, time::sleep};

const ACK: u8 = 1;

fn held(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::start(move |_| {
        Reply::stream(200, "application/x-ndjson")
            .chunk("one\n")
            .wait(&gate)
            .chunk("two\n")
    })
}

async fn serving(upstream: &Upstream, more: &str) -> (tempfile::TempDir, Running) {
    let (dir, path) = folder(&upstream.url()).await;
    add(&path, more);
    let running = Running::start(&path, &[]);
    (dir, running)
}

fn add(path: &Path, more: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, format!("{text}\n{more}\n")).unwrap();
}

/// `POST /api/chat` on a stream.
fn chat(stream: u32) -> Vec<u8> {
    let mut all = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/api/chat"),
        (":authority", "a"),
    ]);
    all.extend(
        psk("plain")
            .into_iter()
            .map(|(name, value)| (name.to_lowercase(), value)),
    );
    let mut out = frame(HEADERS, END_HEADERS, stream, &block(&all));
    out.extend(frame(DATA, END_STREAM, stream, CHAT.as_bytes()));
    out
}

async fn until_refused(address: SocketAddr) {
    for _ in 0..500 {
        if TcpStream::connect(address).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("new connections are still taken");
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_http2_is_told_to_go_and_none_of_its_streams_is_dropped() {
    let gate = Gate::closed();
    let upstream = held(&gate);
    let (_dir, running) = serving(&upstream, "").await;
    let mut client = Connection::open(running.address, &[]).await;
    let mut idle = Connection::open(running.address, &[]).await;
    client.send(&chat(1)).await;
    client.send(&chat(3)).await;
    let (mut bodies, mut ended) = (BTreeMap::<u32, Vec<u8>>::new(), Vec::new());
    while bodies.values().filter(|body| &body[..] == b"one\n").count() < 2 {
        let frame = client.next().await.unwrap();
        if frame.kind == DATA {
            bodies.entry(frame.stream).or_default().extend(&frame.payload);
        }
    }
    running.signal("-TERM");
    until_refused(running.address).await;
    // Nothing runs on this one: it is closed, though it never says that it heard.
    assert!(idle.closes().await);
    // What was on its way when the signal came is answered too: the first word is that none more should be sent,
    // the last one which was the last that counted.
    let (mut last, mut late) = (Vec::new(), false);
    while ended.len() < 3 {
        let next = client
            .next()
            .await
            .unwrap_or_else(|| panic!("dropped: {bodies:?} {ended:?} {last:?}"));
        match next.kind {
            GOAWAY => {
                assert_eq!(number(&next.payload[4..8]), 0, "no error");
                last.push(number(&next.payload[..4]));
                if last.len() == 1 {
                    client.send(&chat(5)).await;
                }
            }
            PING if next.flags & ACK == 0 => {
                client.send(&frame(PING, ACK, 0, &next.payload)).await;
            }
            DATA => bodies.entry(next.stream).or_default().extend(&next.payload),
            RST_STREAM => panic!("stream {} was reset", next.stream),
            _ => {}
        }
        if bodies.get(&5).is_some_and(|body| body == b"one\n") && last.len() > 1 && !late {
            // This one comes after the last word.
            late = true;
            client.send(&chat(7)).await;
            gate.open();
        }
        if matches!(next.kind, DATA | HEADERS) && next.flags & END_STREAM != 0 {
            ended.push(next.stream);
        }
    }
    assert!(client.closes().await);
    assert_eq!(last, [u32::MAX >> 1, 5]);
    ended.sort_unstable();
    assert_eq!(ended, [1, 3, 5]);
    for stream in ended {
        assert_eq!(bodies[&stream], b"one\ntwo\n");
    }
    assert_eq!(upstream.received().len(), 3);
    let (code, log) = running.wait();
    assert_eq!(code, 0);
    assert!(!log.contains("cut off"), "{log}");
}

/// An answer of which the first half came.
async fn begun(address: SocketAddr) -> client::Connection {
    let mut client = client::Connection::open(address).await;
    client
        .send(&client::request("POST", "/api/chat", &psk("plain"), CHAT))
        .await;
    assert_eq!(client.head().await.unwrap().status, 200);
    assert_eq!(client.chunk().await.unwrap(), b"one\n");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_of_the_drain_time_what_still_runs_is_cut_off_and_said() {
    let upstream = held(&Gate::closed());
    let (_dir, running) = serving(&upstream, "[limits]\ndrain = \"300ms\"").await;
    let mut client = begun(running.address).await;
    running.signal("-TERM");
    assert_eq!(client.chunk().await, None, "cut off, not ended");
    let (code, log) = running.wait();
    assert_eq!(code, 0);
    assert!(log.contains("cut off at the end of the drain time"), "{log}");
    upstream
        .until("the end of its work", |u| u.abandoned() == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait() {
    let upstream = held(&Gate::closed());
    let (_dir, running) = serving(&upstream, "[limits]\ndrain = \"1h\"").await;
    let _client = begun(running.address).await;
    running.signal("-TERM");
    until_refused(running.address).await;
    running.signal("-TERM");
    let (code, log) = running.wait();
    assert_eq!(code, 1);
    assert!(log.contains("draining"), "{log}");
}
