//! Requests one behind the other on one connection: each has its answer, in turn, and whoever leaves is noticed.

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
    client::{Connection, request},
    psk,
};
use testkit::upstream::{Reply, Step, Upstream};

fn chat() -> Vec<u8> {
    request("POST", "/api/chat", &psk("plain"), CHAT)
}

/// An upstream that says nothing for a long while.
fn silent() -> Upstream {
    Upstream::start(|_| Reply::raw(vec![Step::Pause(Duration::from_secs(60))]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_request_is_answered_before_the_invalid_one_behind_it() {
    let rig = Rig::with(
        Upstream::start(|_| {
            Reply::stream(200, "application/x-ndjson")
                .pause(Duration::from_millis(200))
                .chunk("{\"done\":true}\n")
        }),
        "",
    )
    .await;
    let bad: [&[u8]; 4] = [
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"\0\0\0\0",
        b"nonsense\r\n\r\n",
    ];
    for bad in bad {
        let mut connection = Connection::open(rig.address).await;
        connection.send(&[&chat()[..], bad].concat()).await;
        let first = connection.answer("POST").await.expect("an answer");
        assert!(first.complete && first.status == 200, "{first:?}");
        assert_eq!(first.text(), "{\"done\":true}\n");
        let second = connection.answer("GET").await.expect("a second answer");
        assert_eq!(second.status, 400);
        assert!(connection.is_closed().await);
    }
    assert_eq!(rig.upstream.received().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_in_one_piece_have_one_answer_each() {
    let rig = Rig::new().await;
    // More than is read ahead.
    let all = chat().repeat(400);
    assert!(all.len() > 4 * (16 << 10));
    let mut connection = Connection::open(rig.address).await;
    connection.send(&all).await;
    for n in 0..400 {
        let answer = connection.answer("POST").await.expect("an answer");
        assert!(answer.complete && answer.status == 200, "{n}: {answer:?}");
    }
    assert_eq!(rig.upstream.received().len(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_ahead_waits_while_an_answer_is_slow() {
    let rig = Rig::with(
        Upstream::start(|_| {
            (0..20).fold(Reply::stream(200, "application/x-ndjson"), |r, _| {
                r.pause(Duration::from_millis(10)).chunk("{}\n")
            })
        }),
        "",
    )
    .await;
    let mut connection = Connection::open(rig.address).await;
    connection.send(&chat()).await;
    // Byte by byte, while the first answer is on its way.
    for byte in chat() {
        connection.send(&[byte]).await;
    }
    for _ in 0..2 {
        let answer = connection.answer("POST").await.expect("an answer");
        assert_eq!(answer.text(), "{}\n".repeat(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_asked_for_more_and_leaves_is_noticed() {
    let more: [Vec<u8>; 5] = [
        Vec::new(),
        b"G".to_vec(),
        b"\r\n".to_vec(),
        chat(),
        [chat().repeat(20), b"POST /api".to_vec()].concat(),
    ];
    for (n, more) in more.iter().enumerate() {
        for apart in [false, true] {
            let rig = Rig::with(silent(), "").await;
            let mut connection = Connection::open(rig.address).await;
            if apart {
                connection.send(&chat()).await;
                rig.upstream
                    .until("the request to come", |u| u.received().len() == 1)
                    .await;
                connection.send(more).await;
            } else {
                connection.send(&[&chat()[..], more].concat()).await;
                rig.upstream
                    .until("the request to come", |u| u.received().len() == 1)
                    .await;
            }
            drop(connection);
            rig.upstream
                .until("it to be cut off", |u| u.abandoned() == 1)
                .await;
            assert_eq!(rig.upstream.received().len(), 1, "{n}, {apart}");
            assert_eq!(rig.proxy.upstream.in_flight(), 0);
        }
    }
}
