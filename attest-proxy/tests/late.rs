//! What changes between a request's head and its body, and while its answer runs: nothing that was good at first is
//! good for longer than it should be.

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

use common::{
    CHAT, Rig,
    client::{Answer, Connection, request},
    http2, psk, session_key, signed,
};
use protocol::headers;
use registry::DeviceState;
use testkit::upstream::{Gate, Reply, Upstream};

const ASK: (&str, &str, &str) = ("POST", "/api/chat", CHAT);

/// A request of which the last byte is held back until the head was judged.
struct Held {
    connection: Connection,
    last: Vec<u8>,
}

impl Held {
    async fn send(rig: &Rig, fields: &[(String, String)]) -> Self {
        let mut bytes = request("POST", "/api/chat", fields, CHAT);
        let last = bytes.split_off(bytes.len() - 1);
        let mut connection = Connection::open(rig.address).await;
        connection.send(&bytes).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        Self { connection, last }
    }

    async fn finish(mut self) -> Answer {
        self.connection.send(&self.last).await;
        self.connection.answer("POST").await.unwrap()
    }
}

fn refused(answer: &Answer, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (401, code));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_held_back_does_not_outlive_the_memory_of_replays() {
    let mut rig = Rig::new().await;
    let key = session_key(1);
    let token = rig.session(&key).await.session;
    // By a client whose clock is ahead, as far as it may be.
    rig.clock.advance(Duration::from_secs(30));
    let fields = signed(&rig, "kiosk", &token, &key, ASK, 1);
    rig.clock.set(common::forge::START);
    assert_eq!(rig.chat(&fields).await.status, 200);
    rig.clock.advance(Duration::from_secs(60));
    let (replay, later) = (Held::send(&rig, &fields).await, Held::send(&rig, &fields).await);
    rig.clock.advance(Duration::from_secs(2));
    refused(&replay.finish().await, "request-replayed");
    rig.clock.advance(Duration::from_secs(40));
    refused(&later.finish().await, "signature-invalid");
    assert_eq!(rig.upstream.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_while_its_request_comes_admits_it_no_more() {
    let mut rig = Rig::new().await;
    let key = session_key(1);
    let granted = rig.session(&key).await;
    rig.clock.advance(Duration::from_secs(granted.expires_in - 1));
    let fields = signed(&rig, "kiosk", &granted.session, &key, ASK, 1);
    let held = Held::send(&rig, &fields).await;
    rig.clock.advance(Duration::from_secs(1));
    refused(&held.finish().await, "session-expired");

    let token = rig.session(&key).await.session;
    let fields = signed(&rig, "kiosk", &token, &key, ASK, 2);
    let held = Held::send(&rig, &fields).await;
    rig.tpm.clock.reset_count += 1;
    rig.session(&session_key(2)).await;
    refused(&held.finish().await, "session-invalid");
    assert_eq!(rig.upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_devices_running_streams_end() {
    for (kind, silent) in [
        ("application/x-ndjson", false),
        ("application/x-ndjson", true),
        ("text/event-stream", true),
    ] {
        let gate = Gate::closed();
        let reply = Reply::stream(200, kind).chunk("one\n").wait(&gate).chunk("two\n");
        let rig = Rig::with(Upstream::start(move |_| reply.clone()), "").await;
        let mut running = Connection::open(rig.address).await;
        running
            .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
            .await;
        assert_eq!(running.head().await.unwrap().status, 200);
        assert_eq!(running.chunk().await.unwrap(), b"one\n");
        // What becomes of others ends nothing.
        for device in ["kiosk", "plain"] {
            rig.edit(device, |d| d.state = DeviceState::Suspended).await;
            while rig.get(headers::CHALLENGE_PATH, &psk(device)).await.status != 401 {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
        if !silent {
            gate.open();
        }
        let last = String::from_utf8(running.chunk().await.unwrap()).unwrap();
        assert!(last.contains("psk-unknown"), "{kind}: {last}");
        assert_eq!(running.chunk().await.unwrap(), b"");
        assert_eq!(rig.proxy.upstream.in_flight(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_devices_streams_of_http2_end_each() {
    let gate = Gate::closed();
    let reply = Reply::stream(200, "application/x-ndjson")
        .chunk("one\n")
        .wait(&gate);
    let rig = Rig::with(Upstream::start(move |_| reply.clone()), "").await;
    let mut running = http2::Connection::open(rig.address, &[]).await;
    let length = CHAT.len().to_string();
    let mut head = http2::fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "proxy"),
        (":path", "/api/chat"),
        ("content-length", &length),
    ]);
    head.extend(psk("plain"));
    for stream in [1, 3] {
        let mut request = http2::frame(http2::HEADERS, http2::END_HEADERS, stream, &http2::block(&head));
        request.extend(http2::frame(
            http2::DATA,
            http2::END_STREAM,
            stream,
            CHAT.as_bytes(),
        ));
        running.send(&request).await;
    }
    let mut begun = 0;
    while begun < 2 {
        let frame = running.next().await.expect("two answers");
        begun += usize::from(frame.kind == http2::DATA);
    }
    rig.edit("plain", |d| d.state = DeviceState::Suspended).await;
    // In whichever order they end.
    let mut ended = Vec::new();
    let mut said = String::new();
    while ended.len() < 2 {
        let frame = running.next().await.expect("both end");
        if frame.kind == http2::DATA {
            said.push_str(&String::from_utf8(frame.payload).unwrap());
            if frame.flags & http2::END_STREAM != 0 {
                ended.push(frame.stream);
            }
        }
    }
    assert_eq!(said.matches("psk-unknown").count(), 2, "{said}");
    assert_eq!(rig.proxy.upstream.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_suspended_before_the_answer_begins_is_refused_in_words() {
    let (go, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(move |_| {
        held.lock()
            .unwrap()
            .recv_timeout(Duration::from_secs(20))
            .unwrap();
        Reply::json(200, "{}")
    });
    let rig = Rig::with(upstream, "").await;
    let mut running = Connection::open(rig.address).await;
    running
        .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
        .await;
    while rig.upstream.connections() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.edit("plain", |d| d.state = DeviceState::Suspended).await;
    while rig.get(headers::CHALLENGE_PATH, &psk("plain")).await.status != 401 {
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    go.send(()).unwrap();
    refused(&running.answer("POST").await.expect("an answer"), "psk-unknown");
}
