//! What a stranger may use: connections, their age, memory and time for bodies. Each bound is reached on the raw socket.

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

use common::{
    CHAT, Rig,
    client::{Connection, request},
    psk,
};
use testkit::upstream::{Gate, Reply, Upstream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::sleep,
};

fn version() -> Vec<u8> {
    request("GET", "/api/version", &psk("plain"), "")
}

/// The head of a chat whose body will have `length` bytes.
fn head(length: usize) -> Vec<u8> {
    let mut fields = psk("plain");
    fields.push(("Content-Length".into(), length.to_string()));
    request("PUT", "/", &fields, "")
        .strip_prefix(b"PUT /")
        .map(|rest| [b"POST /api/chat", rest].concat())
        .unwrap()
}

/// A chat of exactly `length` bytes.
fn long(length: usize) -> String {
    let empty = CHAT.len() - "Gleis?".len();
    CHAT.replace("Gleis?", &"x".repeat(length - empty))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_take_all_connections() {
    let rig = Rig::with(Upstream::json("{}"), "[limits]\nconnections-per-peer = 2").await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::from([127, 0, 0, 7], rig.address).await;
        connection.send(&version()).await;
        assert_eq!(connection.answer("GET").await.unwrap().status, 200);
        held.push(connection);
    }
    let mut third = Connection::from([127, 0, 0, 7], rig.address).await;
    let answer = third.answer("GET").await.unwrap();
    assert_eq!((answer.status, answer.code()), (503, "overloaded".into()));
    assert!(third.is_closed().await);
    // Another one is served all the same.
    let mut other = Connection::from([127, 0, 0, 8], rig.address).await;
    other.send(&version()).await;
    assert_eq!(other.answer("GET").await.unwrap().status, 200);
    drop(held);
    for _ in 0..200 {
        sleep(Duration::from_millis(10)).await;
        let mut next = Connection::from([127, 0, 0, 7], rig.address).await;
        next.send(&version()).await;
        if next.answer("GET").await.is_some_and(|a| a.status == 200) {
            return;
        }
    }
    panic!("the places were not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_takes_no_new_request_and_ends_its_last_answer() {
    let gate = Gate::closed();
    let open = gate.clone();
    let upstream = Upstream::start(move |received| {
        if received.target == "/api/chat" {
            Reply::stream(200, "application/x-ndjson")
                .chunk("1\n")
                .wait(&open)
                .chunk("2\n")
        } else {
            Reply::json(200, "{}")
        }
    });
    let rig = Rig::with(upstream, "[limits]\nconnection-age = \"700ms\"").await;
    let begun = Instant::now();
    let mut idle = Connection::open(rig.address).await;
    idle.send(&version()).await;
    assert_eq!(idle.answer("GET").await.unwrap().status, 200);
    let mut streaming = Connection::open(rig.address).await;
    streaming
        .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
        .await;
    assert_eq!(streaming.head().await.unwrap().status, 200);
    assert_eq!(streaming.chunk().await.unwrap(), b"1\n");
    assert!(idle.is_closed().await);
    assert!(begun.elapsed() >= Duration::from_millis(600) && begun.elapsed() < Duration::from_secs(5));
    sleep(Duration::from_millis(300)).await;
    gate.open();
    assert_eq!(streaming.chunk().await.unwrap(), b"2\n");
    assert_eq!(streaming.chunk().await.unwrap(), b"");
    assert!(streaming.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_cut_off_long_before_its_deadline() {
    let limits = "[limits]\nbody-grace = \"300ms\"\nbody-rate = \"4KiB\"\nbody-timeout = \"30s\"";
    let rig = Rig::with(Upstream::json("{}"), limits).await;
    let begun = Instant::now();
    let mut connection = Connection::open(rig.address).await;
    connection.send(&head(4000)).await;
    while connection.try_send(b" ").await && begun.elapsed() < Duration::from_secs(2) {
        sleep(Duration::from_millis(20)).await;
    }
    let answer = connection.answer("POST").await.unwrap();
    assert_eq!((answer.status, answer.code()), (400, "request-malformed".into()));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(rig.upstream.connections(), 0);
    // One that takes its time, and comes at that rate, arrives.
    let body = long(8000);
    let mut connection = Connection::open(rig.address).await;
    connection.send(&head(8000)).await;
    for part in body.as_bytes().chunks(1000) {
        connection.send(part).await;
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(connection.answer("POST").await.unwrap().status, 200);
    assert_eq!(rig.upstream.received()[0].body.len(), 8000);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_bodies_together_have_a_bound() {
    let limits = "[limits]\nbody-bytes = \"4KiB\"\nbody-memory = \"8KiB\"";
    let rig = Rig::with(Upstream::json("{}"), limits).await;
    let body = long(4000);
    let (early, late) = body.as_bytes().split_at(3000);
    let mut first = Connection::open(rig.address).await;
    first.send(&head(4000)).await;
    first.send(early).await;
    for _ in 0..500 {
        if rig.proxy.bodies.used() >= 6000 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rig.proxy.bodies.used(), 6000);
    let refused = rig.post("/api/chat", &psk("plain"), &long(3000)).await;
    assert_eq!((refused.status, refused.code()), (503, "overloaded".into()));
    assert!(refused.header("retry-after").is_some());
    first.send(late).await;
    assert_eq!(first.answer("POST").await.unwrap().status, 200);
    assert_eq!(
        rig.post("/api/chat", &psk("plain"), &long(3000)).await.status,
        200
    );
    assert_eq!(rig.proxy.bodies.used(), 0);
    assert_eq!(rig.upstream.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_connection_is_put_aside_and_loses_nothing() {
    let rig = Rig::new().await;
    let mut connection = Connection::open(rig.address).await;
    // Quiet before its first byte, after an answer, and in the middle of a head.
    for split in [0, 0, 9] {
        let bytes = version();
        connection.send(&bytes[..split]).await;
        sleep(Duration::from_millis(700)).await;
        connection.send(&bytes[split..]).await;
        let twice = [version(), version()].concat();
        connection.send(&twice).await;
        for _ in 0..3 {
            assert_eq!(connection.answer("GET").await.unwrap().status, 200);
        }
    }
    // A broken request is still seen after the rest.
    sleep(Duration::from_millis(700)).await;
    connection
        .send(b"GET /api/version HTTP/1.1\nHost: a\r\n\r\n")
        .await;
    assert_eq!(connection.answer("GET").await.unwrap().status, 400);
    assert!(connection.is_closed().await);
    assert_eq!(rig.upstream.received().len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_does_not_take_the_kernel_forgets_too() {
    let long = "x".repeat(4 << 20);
    let upstream = Upstream::start(move |_| Reply::json(200, &long));
    let rig = Rig::with(upstream, "[limits]\nwrite-stall = \"1s\"").await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut client = socket.connect(rig.address).await.unwrap();
    client
        .write_all(&request("POST", "/api/chat", &psk("plain"), CHAT))
        .await
        .unwrap();
    rig.upstream.until("it to be cut", |u| u.abandoned() == 1).await;
    // It begins to read: what it has itself is there, and then no more comes.
    let (mut room, mut got) = (vec![0; 64 << 10], 0);
    let end = loop {
        match client.read(&mut room).await {
            Ok(0) => break None,
            Ok(n) => got += n,
            Err(error) => break Some(error.kind()),
        }
    };
    assert_eq!(end, Some(std::io::ErrorKind::ConnectionReset));
    assert!(got < 64 << 10, "{got}");
}
