//! An upstream that is trusted and not well: what it may do wrong at each stage of an answer, and what becomes of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use common::{
    Answer, CHAT, Rig,
    client::{Connection, request},
    psk,
};
use testkit::upstream::{Gate, Reply, Step, Upstream};

const SHORT: &str = "[limits]\nfirst-byte-timeout = \"400ms\"\nchunk-timeout = \"400ms\"";

const EMBED: &str = r#"{"model":"smollm2:135m","input":"a"}"#;

fn bytes(text: &str) -> Step {
    Step::Bytes(text.as_bytes().to_vec())
}

/// What this upstream makes of a chat.
async fn chat(steps: &[Step]) -> Answer {
    let steps = steps.to_vec();
    let rig = Rig::with(Upstream::start(move |_| Reply::raw(steps.clone())), SHORT).await;
    let answer = rig.chat(&psk("plain")).await;
    assert_eq!(rig.proxy.upstream.in_flight(), 0);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_before_the_answer_has_its_code() {
    let wait = || Step::Wait(Gate::closed());
    let head = |more: &str| bytes(&format!("HTTP/1.1 200 OK\r\n{more}\r\n\r\n{{}}"));
    let drip: Vec<_> = "HTTP/1.1 200 OK\r\nX-A: "
        .bytes()
        .flat_map(|b| [Step::Bytes(vec![b]), Step::Pause(Duration::from_millis(40))])
        .chain([wait()])
        .collect();
    let informing: Vec<_> = (0..60)
        .flat_map(|_| {
            [
                bytes("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
                Step::Pause(Duration::from_millis(20)),
            ]
        })
        .collect();
    let many: String = (0..300).map(|n| format!("X-{n}: 1\r\n")).collect();
    let failed = (502, "upstream-failed");
    let late = (504, "upstream-timeout");
    for (name, steps, expected) in [
        ("closes", vec![Step::Close], failed),
        ("resets", vec![Step::Reset], failed),
        ("hangs", vec![wait()], late),
        (
            "speaks no HTTP",
            vec![bytes("SSH-2.0-x\r\n\r\n"), Step::Close],
            failed,
        ),
        (
            "speaks HTTP/2",
            vec![bytes("\0\0\x12\x04\0\0\0\0\0\0\0\0\0\0\0"), wait()],
            failed,
        ),
        ("sends noise", vec![Step::Bytes(vec![0xff; 5000]), wait()], failed),
        (
            "ends in its status",
            vec![bytes("HTTP/1.1 2"), Step::Close],
            failed,
        ),
        (
            "ends in its head",
            vec![bytes("HTTP/1.1 200 OK\r\nX: "), Step::Close],
            failed,
        ),
        (
            "resets in its head",
            vec![
                bytes("HTTP/1.1 200 OK\r\nX: "),
                Step::Pause(Duration::from_millis(20)),
                Step::Reset,
            ],
            failed,
        ),
        (
            "hangs in its head",
            vec![bytes("HTTP/1.1 200 OK\r\n"), wait()],
            late,
        ),
        ("drips its head", drip, late),
        (
            "has a long head",
            vec![head(&format!("X: {}", "a".repeat(40 << 10)))],
            failed,
        ),
        ("never ends its head", vec![head(&many), wait()], failed),
        ("informs for ever", informing, late),
        (
            "has a status that is none",
            vec![bytes("HTTP/1.1 999 \r\nContent-Length: 2\r\n\r\n{}")],
            failed,
        ),
        (
            "switches protocols",
            vec![
                bytes("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
                wait(),
            ],
            failed,
        ),
        (
            "has two lengths",
            vec![head("Content-Length: 2\r\nContent-Length: 3")],
            failed,
        ),
        (
            "has no number for a length",
            vec![head("Content-Length: two")],
            failed,
        ),
        ("has a negative length", vec![head("Content-Length: -2")], failed),
        (
            "is chunked and has a length",
            vec![head("Content-Length: 2\r\nTransfer-Encoding: chunked")],
            failed,
        ),
        (
            "is coded twice",
            vec![head("Transfer-Encoding: gzip, chunked")],
            failed,
        ),
        (
            "is chunked twice",
            vec![head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")],
            failed,
        ),
        (
            "is coded in no way we know",
            vec![head("Transfer-Encoding: x")],
            failed,
        ),
        ("folds a line", vec![head("X: a\r\n b")], failed),
        ("has a zero in a value", vec![head("X: a\0b")], failed),
        ("has a name with a space", vec![head("X Y: a")], failed),
        (
            "is busy",
            vec![bytes("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")],
            (503, "overloaded"),
        ),
    ] {
        let answer = chat(&steps).await;
        assert_eq!(
            (answer.status, &*answer.code()),
            expected,
            "an upstream that {name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_but_clear_passes() {
    for (name, head, more) in [
        (
            "goes on first",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
            "Content-Length: 2",
        ),
        (
            "gives hints first",
            "HTTP/1.1 103 Early\r\nX: 1\r\n\r\nHTTP/1.1 200 OK\r\n",
            "Content-Length: 2",
        ),
        ("is old", "HTTP/1.0 200 OK\r\n", "Content-Length: 2"),
        ("gives no reason", "HTTP/1.1 200\r\n", "Content-Length: 2"),
        (
            "says its length twice alike",
            "HTTP/1.1 200 OK\r\n",
            "Content-Length: 2\r\nContent-Length: 2",
        ),
        (
            "ends by closing",
            "HTTP/1.1 200 OK\r\n",
            "Content-Type: application/json",
        ),
    ] {
        let answer = chat(&[bytes(&format!("{head}{more}\r\n\r\n{{}}")), Step::Close]).await;
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.complete),
            (200, "{}", true),
            "an upstream that {name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_lacks_something_is_never_whole() {
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    for (name, text, end) in [
        (
            "is short",
            format!("{json}Content-Length: 10\r\n\r\n{{}}"),
            Step::Close,
        ),
        (
            "is short and resets",
            format!("{json}Content-Length: 10\r\n\r\n{{}}"),
            Step::Reset,
        ),
        (
            "is short and hangs",
            format!("{json}Content-Length: 10\r\n\r\n{{}}"),
            Step::Wait(Gate::closed()),
        ),
        (
            "lacks its last chunk",
            format!("{json}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n"),
            Step::Close,
        ),
        (
            "has no size for a chunk",
            format!("{json}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\nx\r\n"),
            Step::Close,
        ),
        (
            "has a chunk that is too long",
            format!("{json}Transfer-Encoding: chunked\r\n\r\n1\r\n{{}}\r\n0\r\n\r\n"),
            Step::Close,
        ),
        (
            "has a huge chunk",
            format!("{json}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{{}}"),
            Step::Close,
        ),
    ] {
        let steps = vec![bytes(&text), Step::Pause(Duration::from_millis(50)), end];
        let rig = Rig::with(Upstream::start(move |_| Reply::raw(steps.clone())), SHORT).await;
        let mut connection = Connection::open(rig.address).await;
        connection
            .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
            .await;
        // What is broken from its first bytes on may end before its head was written.
        if let Some(answer) = connection.answer("POST").await {
            assert_eq!(
                (answer.status, answer.complete),
                (200, false),
                "an upstream that {name}"
            );
        }
        // And it ends with the connection, so that nobody waits for the rest.
        connection.rest().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_answer_reaches_nobody() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    for pause in [0, 100] {
        let upstream = Upstream::start(move |_| {
            // At once, and while the connection is idle. What comes after the next request was sent is its answer.
            Reply::raw(if pause == 0 {
                vec![bytes(&format!("{good}{poison}"))]
            } else {
                vec![
                    bytes(good),
                    Step::Pause(Duration::from_millis(pause)),
                    bytes(poison),
                ]
            })
        });
        let rig = Rig::with(upstream, "").await;
        let mut connection = Connection::open(rig.address).await;
        for _ in 0..4 {
            connection
                .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
                .await;
            let answer = connection.answer("POST").await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
            tokio::time::sleep(Duration::from_millis(pause * 2)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_ends_as_its_client_expects() {
    for (path, kind, whole) in [
        ("/api/chat", "application/x-ndjson", "{\"a\":1}\n"),
        ("/v1/chat/completions", "text/event-stream", "data: {}\n\n"),
        ("/v1/messages", "text/event-stream", "event: ping\ndata: {}\n\n"),
        (
            "/v1/responses",
            "text/event-stream; charset=utf-8",
            "event: x\ndata: {}\n\n",
        ),
    ] {
        for (reply, code) in [
            (
                Reply::stream(200, kind).chunk(whole).break_off(),
                "upstream-failed",
            ),
            (
                Reply::stream(200, kind).chunk(whole).wait(&Gate::closed()),
                "upstream-timeout",
            ),
            (Reply::stream(200, kind).break_off(), "upstream-failed"),
        ] {
            let rig = Rig::with(Upstream::start(move |_| reply.clone()), SHORT).await;
            let answer = rig.post(path, &psk("plain"), CHAT).await;
            assert!(answer.status == 200 && answer.complete, "{path}: {answer:?}");
            let text = answer.text();
            let last = text.strip_prefix(whole).unwrap_or(&text);
            let data = match path {
                "/api/chat" => last,
                "/v1/chat/completions" => last.strip_prefix("data: ").unwrap(),
                _ => last.strip_prefix("event: error\ndata: ").unwrap(),
            };
            let object: serde_json::Value = serde_json::from_str(data).unwrap();
            let found = match path {
                "/api/chat" | "/v1/responses" => &object["code"],
                _ => &object["error"]["code"],
            };
            assert_eq!(found, code, "{path}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_drips_passes_as_it_comes() {
    let reply = (0..20).fold(Reply::stream(200, "application/x-ndjson"), |reply, n| {
        reply.chunk(format!("{n}\n")).pause(Duration::from_millis(60))
    });
    let rig = Rig::with(Upstream::start(move |_| reply.clone()), SHORT).await;
    let mut connection = Connection::open(rig.address).await;
    connection
        .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
        .await;
    connection.head().await.unwrap();
    let begun = Instant::now();
    for n in 0..20 {
        assert_eq!(connection.chunk().await.unwrap(), format!("{n}\n").as_bytes());
    }
    assert_eq!(connection.chunk().await.unwrap(), b"");
    // Longer than the longest gap in all, and never one gap long.
    assert!(begun.elapsed() > Duration::from_millis(400));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_upstreams_head_only_what_says_what_the_body_is_comes_back() {
    let upstream = Upstream::start(|_| {
        [
            "Server",
            "X-Powered-By",
            "Set-Cookie",
            "Access-Control-Allow-Origin",
            "Location",
            "Attestation-Challenge",
            "Keep-Alive",
            "Via",
        ]
        .iter()
        .fold(Reply::json(200, "{}"), |reply, name| reply.header(name, "secret"))
        .header("Cache-Control", "no-store")
    });
    let rig = Rig::with(upstream, "").await;
    let answer = rig.chat(&psk("plain")).await;
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-length", "content-type", "date"]);
    assert!(answer.headers.iter().all(|(_, value)| value != "secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_used_connection_ends_the_upstreams_work() {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::start(move |received| match received.target.as_str() {
        "/api/generate" => Reply::raw(vec![Step::Wait(held.clone())]),
        // An answer that is not a stream, of which only a part is there.
        "/api/embed" => Reply::raw(vec![
            bytes("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"),
            Step::Wait(held.clone()),
        ]),
        _ => Reply::json(200, "{}"),
    });
    let rig = Rig::with(upstream, "").await;
    for (nth, path) in ["/api/generate", "/api/embed"].into_iter().enumerate() {
        let mut connection = Connection::open(rig.address).await;
        connection
            .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
            .await;
        assert_eq!(connection.answer("POST").await.unwrap().status, 200);
        connection.send(&request("POST", path, &psk("plain"), CHAT)).await;
        rig.upstream
            .until("it", |u| u.received().len() == nth * 2 + 2)
            .await;
        if path == "/api/embed" {
            assert_eq!(connection.head().await.unwrap().status, 200);
        }
        drop(connection);
        rig.upstream
            .until("the end of it", |u| u.abandoned() == nth + 1)
            .await;
        assert_eq!(rig.proxy.upstream.in_flight(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_at_once_has_a_head_all_the_same() {
    // Without a form of its own for errors, and with nothing of its body there.
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n";
    // Every second one is good: a server of which answer after answer breaks is left out.
    let turn = AtomicUsize::new(0);
    let upstream = Upstream::start(move |received| match received.target.as_str() {
        "/api/embed" if turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => {
            Reply::raw(vec![bytes(head), Step::Close])
        }
        _ => Reply::json(200, "{}"),
    });
    let rig = Rig::with(upstream, SHORT).await;
    let mut cut = 0;
    for _ in 0..60 {
        let mut connection = Connection::open(rig.address).await;
        connection
            .send(&request("POST", "/api/embed", &psk("plain"), EMBED))
            .await;
        let answer = connection.answer("POST").await.expect("a head");
        assert!(matches!(answer.status, 200 | 502), "{answer:?}");
        cut += usize::from(!answer.complete);
    }
    assert!(cut > 10, "{cut}");
}
