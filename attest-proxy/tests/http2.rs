//! HTTP/2 by prior knowledge: what is served, what is refused, and floods. Frames are made by hand; then the same is asked
//! by stock clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;
mod corpus;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use common::{
    CHAT, Rig,
    client::Connection as Plain,
    forge::psk_text,
    http2::{
        CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Outcome, PING, PREFACE,
        PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, fields, frame,
    },
    psk,
};
use corpus::downgrade::{and, chat, version, with, without};
use testkit::upstream::{Reply, Step, Upstream};
use tokio::time::{sleep, timeout};

/// A whole request.
fn request(stream: u32, all: &[(String, String)], body: &str) -> Vec<u8> {
    if body.is_empty() {
        return frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(all));
    }
    let mut out = frame(HEADERS, END_HEADERS, stream, &block(all));
    for part in body.as_bytes().chunks(16_000) {
        out.extend(frame(DATA, 0, stream, part));
    }
    out.extend(frame(DATA, END_STREAM, stream, b""));
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_head_ends_with_its_head() {
    // Its body is what GET would get, and does not come.
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 17\r\n\r\n";
    let rig = Rig::with(
        Upstream::start(|_| Reply::raw(vec![Step::Bytes(head.to_vec())])),
        "",
    )
    .await;
    let mut connection = Connection::open(rig.address, &[]).await;
    for stream in [1, 3] {
        let all = with(with(version(), ":method", "HEAD"), ":path", "/");
        connection.send(&request(stream, &all, "")).await;
        let outcome = timeout(Duration::from_secs(20), connection.outcome(stream));
        assert_eq!(outcome.await.unwrap(), Outcome::Answer(String::new()));
    }
    assert_eq!(rig.upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_served_beside_each_other() {
    let rig = Rig::new().await;
    let mut connection = Connection::open(rig.address, &[]).await;
    for stream in [1, 3, 5] {
        connection.send(&request(stream, &chat(), CHAT)).await;
    }
    assert_eq!(
        connection.outcome(5).await,
        Outcome::Answer("{\"done\":true}".into())
    );
    for received in rig.upstream.received() {
        let head = String::from_utf8(received.head.clone()).unwrap();
        assert!(head.starts_with("POST /api/chat HTTP/1.1\r\n"), "{head}");
        assert!(received.header("x-pre-shared-key").is_empty());
    }
    // Host may stand for `:authority`; a body may come without its length said.
    let all = without(&chat(), "content-length");
    connection.send(&request(7, &all, CHAT)).await;
    assert!(matches!(connection.outcome(7).await, Outcome::Answer(_)));
    let all = and(without(&chat(), ":authority"), "host", "proxy");
    connection.send(&request(9, &all, CHAT)).await;
    assert_eq!(
        connection.outcome(9).await,
        Outcome::Answer("{\"done\":true}".into())
    );
    for _ in 0..100 {
        if rig.upstream.received().len() == 5 {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{} requests came through", rig.upstream.received().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_end_here() {
    let rig = Rig::new().await;
    let key = psk_text("plain");
    for (name, all, body) in corpus::downgrade::cases() {
        let mut connection = Connection::open(rig.address, &[]).await;
        connection.send(&request(1, &all, body)).await;
        match connection.outcome(1).await {
            Outcome::Answer(body) if body.is_empty() => assert_eq!(name, "too long fields"),
            Outcome::Answer(body) => assert!(body.contains("\"request-malformed\""), "{name}: {body}"),
            Outcome::Reset(code) => assert!([1, 7, 8].contains(&code), "{name}: reset for {code}"),
            Outcome::Gone(_) => {}
        }
        assert_eq!(
            rig.upstream.connections(),
            0,
            "{name} reached the upstream: {:?}",
            rig.upstream.received()
        );
    }
    // A key in a trailer.
    let mut connection = Connection::open(rig.address, &[]).await;
    let all = without(&chat(), "content-length");
    connection
        .send(&frame(HEADERS, END_HEADERS, 1, &block(&all)))
        .await;
    connection.send(&frame(DATA, 0, 1, CHAT.as_bytes())).await;
    let trailers = block(&fields(&[("x-pre-shared-key", &key)]));
    connection
        .send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers))
        .await;
    match connection.outcome(1).await {
        Outcome::Answer(body) => assert!(body.contains("\"request-malformed\""), "{body}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.upstream.connections(), 0);
    // The same key in a plain request does reach it.
    connection.send(&request(3, &chat(), CHAT)).await;
    assert!(matches!(connection.outcome(3).await, Outcome::Answer(_)));
    assert_eq!(rig.upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_end_the_connection_and_no_other() {
    let rig = Rig::new().await;
    let stranger = block(&without(&version(), "x-pre-shared-key"));
    let open = |stream: u32, flags: u8| frame(HEADERS, flags, stream, &stranger);
    let resets = |n: u32| {
        let stream = 2 * n + 1;
        [
            open(stream, END_HEADERS | END_STREAM),
            frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        ]
        .concat()
    };
    type Make<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;
    let floods: [(&str, Make<'_>); 8] = [
        ("PING", Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        ("SETTINGS", Box::new(|_| frame(SETTINGS, 0, 0, &[]))),
        (
            "PRIORITY",
            Box::new(|n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 1])),
        ),
        (
            "WINDOW_UPDATE",
            Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ),
        ("unknown", Box::new(|_| frame(0xfe, 0, 0, &[0; 8]))),
        ("resets", Box::new(resets)),
        (
            "CONTINUATION",
            Box::new(|n| {
                if n == 0 {
                    open(1, 0)
                } else {
                    frame(CONTINUATION, 0, 1, &[])
                }
            }),
        ),
        (
            "a header block",
            Box::new(|n| {
                if n == 0 {
                    open(1, 0)
                } else {
                    frame(CONTINUATION, 0, 1, &block(&fields(&[("x", &"y".repeat(200))])))
                }
            }),
        ),
    ];
    for (name, make) in floods {
        let mut connection = Connection::open(rig.address, &[]).await;
        let mut sent = 0;
        for n in 0..20_000 {
            if !connection.send(&make(n)).await {
                break;
            }
            sent = n;
        }
        assert!(connection.closes().await, "{name}");
        assert!(sent < 19_999, "{name}: all was taken");
        let mut other = Connection::open(rig.address, &[]).await;
        other.send(&request(1, &version(), "")).await;
        assert!(matches!(other.outcome(1).await, Outcome::Answer(_)), "{name}");
    }
    // Pieces of a body that move nothing.
    let mut connection = Connection::open(rig.address, &[]).await;
    let all = without(&chat(), "content-length");
    connection
        .send(&frame(HEADERS, END_HEADERS, 1, &block(&all)))
        .await;
    while connection.send(&frame(DATA, 0, 1, b"")).await {}
    assert!(connection.closes().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded() {
    let rig = Rig::with(Upstream::json("{}"), "[limits]\nhttp2-streams = 2").await;
    let mut connection = Connection::open(rig.address, &[]).await;
    let all = without(&chat(), "content-length");
    for stream in [1, 3, 5] {
        connection
            .send(&frame(HEADERS, END_HEADERS, stream, &block(&all)))
            .await;
    }
    // REFUSED_STREAM: nothing of it was done.
    assert_eq!(connection.outcome(5).await, Outcome::Reset(7));
    connection
        .send(&frame(DATA, END_STREAM, 1, CHAT.as_bytes()))
        .await;
    assert_eq!(connection.outcome(1).await, Outcome::Answer("{}".into()));
    connection.send(&request(7, &all, CHAT)).await;
    assert_eq!(connection.outcome(7).await, Outcome::Answer("{}".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_nothing_is_cut_off_and_no_other() {
    let upstream = Upstream::start(|received| {
        if received.target == "/api/chat" {
            (0..400).fold(Reply::stream(200, "application/x-ndjson"), |r, _| {
                r.chunk(vec![b'x'; 64 << 10])
            })
        } else {
            Reply::json(200, "{}")
        }
    });
    let rig = Rig::with(upstream, "[limits]\nwrite-stall = \"500ms\"").await;
    // The client opens no window at all: SETTINGS_INITIAL_WINDOW_SIZE = 0.
    let mut connection = Connection::open(rig.address, &[0, 4, 0, 0, 0, 0]).await;
    connection.send(&request(1, &chat(), CHAT)).await;
    rig.upstream
        .until("it to be cut off", |u| u.abandoned() == 1)
        .await;
    // CANCEL.
    assert_eq!(connection.outcome(1).await, Outcome::Reset(8));
    connection.send(&request(3, &version(), "")).await;
    connection.send(&frame(WINDOW_UPDATE, 0, 3, &[0, 0, 1, 0])).await;
    assert_eq!(connection.outcome(3).await, Outcome::Answer("{}".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_idle_clients_are_cut_off() {
    let limits = "[limits]\nheader-timeout = \"300ms\"\nidle-timeout = \"600ms\"";
    let rig = Rig::with(Upstream::json("{}"), limits).await;
    // Half a preface, half a head, nothing.
    let begun = Instant::now();
    let mut plain = Plain::open(rig.address).await;
    plain.send(&PREFACE[..10]).await;
    assert!(plain.is_closed().await);
    let mut connection = Connection::open(rig.address, &[]).await;
    connection.send(&frame(HEADERS, 0, 1, &block(&version()))).await;
    assert!(connection.closes().await);
    let mut connection = Connection::open(rig.address, &[]).await;
    let mut said = None;
    while let Some(frame) = connection.next().await {
        if frame.kind == GOAWAY {
            said = Some(frame.payload[4..8].to_vec());
        }
    }
    assert_eq!(said, Some(vec![0; 4]), "it was told to go, without blame");
    // Pings do not make a client busy.
    let mut connection = Connection::open(rig.address, &[]).await;
    for _ in 0..20 {
        if !connection.send(&frame(PING, 0, 0, &[0; 8])).await {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!(connection.closes().await);
    assert!(begun.elapsed() < Duration::from_secs(12));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::json("{}");
    let url = format!("sqlite:{}", dir.path().join("registry.db").display())
        .parse()
        .unwrap();
    let text = common::config(dir.path(), &upstream.url(), &url, "").replacen(
        "fleet =",
        "http2 = false\nfleet =",
        1,
    );
    let settings = attest_proxy::config::Settings::parse(&dir.path().join("p.toml"), &text).unwrap();
    let server = attest_proxy::server::Server::bind(settings, attest_proxy::clock::Clock::System)
        .await
        .unwrap();
    let address = server.address().unwrap();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(server.run(stopped));
    let mut plain = Plain::open(address).await;
    plain.send(PREFACE).await;
    plain.send(&frame(SETTINGS, 0, 0, &[])).await;
    let said = plain.rest().await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_clients_are_served() {
    let rig = Rig::new().await;
    let url = format!("http://{}/api/chat", rig.address);
    let (name, key) = &psk("plain")[0];
    let body = rig.dir.path().join("body.json");
    let images = format!(r#"{{"model":"smollm2:135m","prompt":"{}"}}"#, "x".repeat(6 << 20));
    std::fs::write(&body, &images).unwrap();
    let header = format!("{name}: {key}");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .output()
            .unwrap_or_else(|e| panic!("{program} is there (Debian packages curl, nghttp2-client): {e}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{program}: {text} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    let file = format!("@{}", body.display());
    let curl = [
        "-sS",
        "--http2-prior-knowledge",
        "-H",
        &header,
        "--data-binary",
        &file,
        "-w",
        " %{http_version} %{http_code}",
        &url,
    ];
    let generate = url.replace("chat", "generate");
    let mut arguments = curl;
    arguments[8] = &generate;
    assert_eq!(run("curl", &arguments), "{\"done\":true} 2 200");
    assert_eq!(rig.upstream.received()[0].body.len(), images.len());
    // Without a key, in the same form as ever.
    let refused = run(
        "curl",
        &[
            "-sS",
            "--http2-prior-knowledge",
            "-w",
            " %{http_version} %{http_code}",
            &url,
        ],
    );
    assert!(
        refused.contains("psk-missing") && refused.ends_with(" 2 401"),
        "{refused}"
    );
    // An upgrade is refused, not followed.
    let upgraded = run(
        "curl",
        &[
            "-sS",
            "--http2",
            "-H",
            &header,
            "-w",
            " %{http_version} %{http_code}",
            &url,
        ],
    );
    assert!(upgraded.ends_with(" 1.1 400"), "{upgraded}");
    std::fs::write(&body, CHAT).unwrap();
    let path = body.to_str().unwrap();
    let said = run("nghttp", &["-H", &header, "-d", path, &url]);
    assert!(said.contains("{\"done\":true}"), "{said}");
    let said = run(
        "h2load",
        &[
            "-n", "300", "-c", "4", "-m", "10", "-H", &header, "-d", path, &url,
        ],
    );
    assert!(said.contains("300 succeeded, 0 failed, 0 errored"), "{said}");
    assert_eq!(rig.upstream.received().len(), 302);
}
