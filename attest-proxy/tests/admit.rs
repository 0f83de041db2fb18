//! What gets through, and how it arrives: on a real listener, with a real registry.

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

use common::{CHAT, Rig, client, psk, session_key, signed};
use testkit::upstream::{Gate, Reply, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_device_asks_with_its_psk_in_any_of_its_places() {
    let rig = Rig::new().await;
    let text = common::forge::psk_text("plain");
    for field in [
        ("X-Pre-Shared-Key", text.clone()),
        ("Authorization", format!("Bearer {text}")),
        ("x-api-key", text),
    ] {
        let answer = rig.chat(&[(field.0.to_owned(), field.1)]).await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, r#"{"done":true}"#),
            "{}",
            field.0
        );
    }
    assert_eq!(rig.upstream.received().len(), 3);
    // One connection serves them all.
    assert_eq!(rig.upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kiosk_asks_with_a_quote_in_the_request() {
    let mut rig = Rig::new().await;
    let challenge = rig.challenge("kiosk").await;
    assert_eq!(challenge.audience.as_str(), common::AUDIENCE);
    assert_eq!(
        challenge.select.iter().map(|i| i.get()).collect::<Vec<_>>(),
        [7, 11]
    );
    assert_eq!((challenge.expires_in, challenge.now), (60, rig.clock.now()));
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    let answer = rig.chat(&fields).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = rig
        .registry
        .seen(&"kiosk".parse().unwrap())
        .await
        .unwrap()
        .unwrap()
        .value;
    assert_eq!(
        (seen.reset_count, seen.restart_count, seen.at),
        (3, 2, rig.clock.now())
    );
    assert_eq!(seen.clock, rig.tpm.clock.clock);
    // A second one, and one on a route without a body and with a query.
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    assert_eq!(rig.chat(&fields).await.status, 200);
    let fields = rig.quoted("GET", "/api/version?x=1", "").await;
    assert_eq!(rig.get("/api/version?x=1", &fields).await.status, 200);
    // The query stays here.
    assert_eq!(rig.upstream.received().last().unwrap().target, "/api/version");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kiosk_asks_in_a_session() {
    let mut rig = Rig::new().await;
    let key = session_key(1);
    let granted = rig.session(&key).await;
    assert_eq!((granted.expires_in, granted.device.as_str()), (600, "kiosk"));
    for nth in 1..=3 {
        let fields = signed(
            &rig,
            "kiosk",
            &granted.session,
            &key,
            ("POST", "/api/chat", CHAT),
            nth,
        );
        assert_eq!(rig.chat(&fields).await.status, 200);
    }
    let fields = signed(
        &rig,
        "kiosk",
        &granted.session,
        &key,
        ("GET", "/api/version", ""),
        4,
    );
    assert_eq!(rig.get("/api/version", &fields).await.status, 200);
    assert_eq!(rig.upstream.received().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn none_of_our_headers_reaches_the_upstream() {
    let mut rig = Rig::new().await;
    let key = session_key(1);
    let granted = rig.session(&key).await;
    let mut fields = signed(
        &rig,
        "kiosk",
        &granted.session,
        &key,
        ("POST", "/api/chat", CHAT),
        1,
    );
    fields.push((
        "Authorization".into(),
        format!("Bearer {}", common::forge::psk_text("kiosk")),
    ));
    for (name, value) in [
        ("Cookie", "a=b"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Odd", "1"),
        ("Connection", "keep-alive, X-Request-Id"),
        ("X-Request-Id", "r"),
        (
            "Traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        ),
        ("TE", "trailers"),
        ("Origin", "http://evil"),
        ("Content-Type", "text/plain"),
        ("Accept", "*/*"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "x"),
    ] {
        fields.push((name.into(), value.into()));
    }
    assert_eq!(rig.chat(&fields).await.status, 200);
    let quoted = rig.quoted("POST", "/api/chat", CHAT).await;
    assert_eq!(rig.chat(&quoted).await.status, 200);
    let received = rig.upstream.received();
    let mut names: Vec<_> = received[0]
        .headers
        .iter()
        .map(|(n, _)| n.to_ascii_lowercase())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["accept", "content-length", "content-type", "host", "traceparent"]
    );
    assert_eq!(received[0].header("content-type"), ["application/json"]);
    let canary = testkit::Canary::new("psk", common::forge::psk_text("kiosk").as_bytes());
    let session = testkit::Canary::new("session", granted.session.as_bytes());
    for request in &received {
        assert!(canary.find_in("upstream", &request.everything()).is_empty());
        assert!(session.find_in("upstream", &request.everything()).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_gets_our_own_serialisation() {
    let rig = Rig::new().await;
    let body = "{ \"model\" :\t\"smollm2:135\\u006d\", \"prompt\":\"a\\u0062\" , \"shift\":true, \"unknown\":1, \"stop\":[ ], \"images\":[ ] }";
    assert_eq!(rig.post("/api/generate", &psk("plain"), body).await.status, 200);
    let received = rig.upstream.received();
    assert_eq!(
        received[0].text(),
        r#"{"model":"smollm2:135m","prompt":"ab","shift":true,"images":[]}"#
    );
    assert_eq!(
        received[0].header("content-length"),
        [received[0].body.len().to_string()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_arrives_whole() {
    let rig = Rig::new().await;
    let mut connection = client::Connection::open(rig.address).await;
    let psk = common::forge::psk_text("plain");
    connection
        .send(format!("POST /api/chat HTTP/1.1\r\nHost: a\r\nX-Pre-Shared-Key: {psk}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes())
        .await;
    for part in CHAT.as_bytes().chunks(20) {
        connection
            .send(format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap()).as_bytes())
            .await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    connection.send(b"0\r\n\r\n").await;
    assert_eq!(connection.answer("POST").await.unwrap().status, 200);
    let received = &rig.upstream.received()[0];
    assert_eq!(received.text(), CHAT);
    assert!(received.header("transfer-encoding").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_before_it_sends_is_told_to_go_on() {
    let rig = Rig::new().await;
    for (device, expected) in [("plain", 100), ("stranger", 401)] {
        let mut fields = psk(device);
        fields.push(("Expect".into(), "100-continue".into()));
        let bytes = client::request("POST", "/api/chat", &fields, CHAT);
        let (head, body) = bytes.split_at(bytes.len() - CHAT.len());
        let mut connection = client::Connection::open(rig.address).await;
        connection.send(head).await;
        assert_eq!(connection.head().await.unwrap().status, expected);
        if expected == 100 {
            connection.send(body).await;
            assert_eq!(connection.answer("POST").await.unwrap().status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_pass_chunk_by_chunk() {
    for kind in ["application/x-ndjson", "text/event-stream"] {
        let gates = [Gate::closed(), Gate::closed()];
        let reply = Reply::stream(200, kind)
            .chunk("one\n")
            .wait(&gates[0])
            .chunk("two\n")
            .wait(&gates[1])
            .chunk("three\n");
        let rig = Rig::with(Upstream::start(move |_| reply.clone()), "").await;
        let mut connection = client::Connection::open(rig.address).await;
        connection
            .send(&client::request("POST", "/api/chat", &psk("plain"), CHAT))
            .await;
        let head = connection.head().await.unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, Some(kind)));
        // Each chunk is here before the upstream may send the next one.
        assert_eq!(connection.chunk().await.unwrap(), b"one\n");
        gates[0].open();
        assert_eq!(connection.chunk().await.unwrap(), b"two\n");
        gates[1].open();
        assert_eq!(connection.chunk().await.unwrap(), b"three\n");
        assert_eq!(connection.chunk().await.unwrap(), b"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_upstreams_work() {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::start(move |request| match request.target.as_str() {
        // Before the first byte, and in mid-stream.
        "/api/generate" => Reply::raw(vec![testkit::upstream::Step::Wait(held.clone())]),
        _ => Reply::stream(200, "application/x-ndjson")
            .chunk("one\n")
            .wait(&held),
    });
    let rig = Rig::with(upstream, "").await;
    let mut connection = client::Connection::open(rig.address).await;
    connection
        .send(&client::request("POST", "/api/generate", &psk("plain"), CHAT))
        .await;
    rig.upstream
        .until("the request", |u| u.received().len() == 1)
        .await;
    drop(connection);
    rig.upstream.until("the end of it", |u| u.abandoned() == 1).await;
    let mut connection = client::Connection::open(rig.address).await;
    connection
        .send(&client::request("POST", "/api/chat", &psk("plain"), CHAT))
        .await;
    connection.head().await.unwrap();
    assert_eq!(connection.chunk().await.unwrap(), b"one\n");
    assert_eq!(rig.proxy.upstream.in_flight(), 1);
    drop(connection);
    rig.upstream.until("the end of it", |u| u.abandoned() == 2).await;
    assert_eq!(rig.proxy.upstream.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_the_devices_models_alone() {
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/api/show" => Reply::json(
            200,
            r#"{"template":"t","system":"secret","details":{"family":"llama"}}"#,
        ),
        "/v1/models" => Reply::json(200, r#"{"data":[{"id":"smollm2:135m"},{"id":"other"}]}"#),
        _ => Reply::json(200, r#"{"models":[{"model":"smollm2:135m"},{"model":"other"}]}"#),
    });
    let rig = Rig::with(upstream, "").await;
    for path in ["/api/tags", "/api/ps", "/v1/models"] {
        let answer = rig.get(path, &psk("plain")).await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.text().contains("smollm2") && !answer.text().contains("other"),
            "{}",
            answer.text()
        );
    }
    let shown = rig
        .post("/api/show", &psk("plain"), r#"{"model":"smollm2:135m"}"#)
        .await;
    assert_eq!(shown.text(), r#"{"details":{"family":"llama"}}"#);
    let denied = rig.post("/api/show", &psk("plain"), r#"{"name":"other"}"#).await;
    assert_eq!((denied.status, denied.code()), (403, "model-denied".into()));
    let head = client::ask(rig.address, "HEAD", "/", &psk("plain"), "").await;
    assert_eq!(head.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_is_admitted_without_a_restart() {
    let rig = Rig::new().await;
    assert_eq!(rig.chat(&psk("late")).await.status, 401);
    rig.registry
        .enrol(common::forge::device("late", "open", None))
        .await
        .unwrap();
    rig.chat_until(&psk("late"), 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alive_serves_request_after_request() {
    let rig = Rig::new().await;
    let mut connection = client::Connection::open(rig.address).await;
    for _ in 0..3 {
        connection
            .send(&client::request("POST", "/api/chat", &psk("plain"), CHAT))
            .await;
        assert_eq!(connection.answer("POST").await.unwrap().status, 200);
    }
    // A refusal that is not malformed leaves the connection open.
    connection
        .send(&client::request("GET", "/nowhere", &psk("plain"), ""))
        .await;
    assert_eq!(connection.answer("GET").await.unwrap().status, 404);
    // Two at once are answered in order.
    let two = [
        client::request("GET", "/api/version", &psk("plain"), ""),
        client::request("GET", "/x", &psk("plain"), ""),
    ];
    connection.send(&two.concat()).await;
    assert_eq!(connection.answer("GET").await.unwrap().status, 200);
    assert_eq!(connection.answer("GET").await.unwrap().status, 404);
}
