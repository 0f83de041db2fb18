//! `Expect: 100-continue`, and answers that come before the body did: the ways of "HTTP/1.1 must die" into a request's body.

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

use std::time::Duration;

use common::{Rig, client::Connection};
use corpus::{FOLLOWER, fill};

/// How long nothing must be said, and how long a word may take.
const SILENCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(5);

fn statuses(said: &str) -> Vec<u16> {
    let answers = said.split("HTTP/1.1 ").skip(1);
    answers.map(|a| a.get(..3).unwrap().parse().unwrap()).collect()
}

/// What is said to a head, then to what follows it. Of heads with an expectation that is one, and of those that are refused,
/// something is said at once.
async fn talk(rig: &Rig, head: &str, rest: &str, first: Duration) -> (Vec<u16>, Vec<u16>, bool) {
    let mut connection = Connection::open(rig.address).await;
    connection.send(&fill(head)).await;
    let (first, closed) = connection.watch(first, SILENCE).await;
    if closed {
        return (statuses(&first), Vec::new(), true);
    }
    // Whoever was refused hears no more.
    let answered = statuses(&first).iter().any(|s| *s >= 400);
    connection.send(&fill(rest)).await;
    let (second, closed) = connection
        .watch(if answered { SILENCE } else { PATIENCE }, SILENCE)
        .await;
    (statuses(&first), statuses(&second), closed)
}

fn head(fields: &str) -> String {
    format!("POST /api/chat HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_asked_for_once_its_head_was_admitted() {
    let rig = Rig::new().await;
    let behind = format!("{{B}}{FOLLOWER}");
    for expect in [
        "Expect: 100-continue",
        "expect: 100-CONTINUE",
        "Expect:100-continue \t",
        "Expect: 100-continue\r\nExpect: 100-continue",
    ] {
        let (first, second, closed) = talk(
            &rig,
            &head(&format!("{{K}}{expect}\r\nContent-Length: {{L}}\r\n")),
            &behind,
            PATIENCE,
        )
        .await;
        assert_eq!(
            (&first[..], &second[..], closed),
            (&[100][..], &[200, 200][..], false),
            "{expect}"
        );
    }
    assert_eq!(rig.upstream.received().len(), 8);
    // Chunks too; and who does not wait is not asked for more than it sent.
    let chunks = head("{K}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n");
    let (first, second, _) = talk(
        &rig,
        &chunks,
        &format!("{{X}}\r\n{{B}}\r\n0\r\n\r\n{FOLLOWER}"),
        PATIENCE,
    )
    .await;
    assert_eq!((first, second), (vec![100], vec![200, 200]));
    let at_once = format!(
        "{}{{B}}",
        head("{K}Expect: 100-continue\r\nContent-Length: {L}\r\n")
    );
    let (first, second, _) = talk(&rig, &at_once, FOLLOWER, PATIENCE).await;
    assert_eq!((first.last(), &second[..]), (Some(&200), &[200][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_that_is_none_is_ignored() {
    let rig = Rig::new().await;
    for expect in [
        "Expect: 100-continu",
        "Expect: y 100-continue",
        "Expect: 100-continue y",
        "Expect: 100-continue, 100-continue",
        "Expect: 100-continue;x",
        "Expect: \"100-continue\"",
        "Expect: 0100-continue",
        "Expect:",
    ] {
        let fields = format!("{{K}}{expect}\r\nContent-Length: {{L}}\r\n");
        let (first, second, closed) = talk(&rig, &head(&fields), &format!("{{B}}{FOLLOWER}"), SILENCE).await;
        assert_eq!(
            (&first[..], &second[..], closed),
            (&[][..], &[200, 200][..], false),
            "{expect}"
        );
    }
    assert_eq!(rig.upstream.received().len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_body_makes_no_request_of_the_body() {
    let rig = Rig::new().await;
    let hidden = "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: {L}\r\n\r\n{B}";
    let length = fill(hidden).len();
    for (fields, status) in [
        // No key, an unknown one, a device that owes evidence.
        (String::new(), 401),
        ("X-Pre-Shared-Key: sbx_unknown\r\n".to_owned(), 401),
        ("{K}Connection: close\r\nUpgrade: x\r\n".to_owned(), 400),
    ] {
        for expect in [
            "",
            "Expect: 100-continue\r\n",
            "Expect: 100-continue\r\nExpect: x\r\n",
        ] {
            let fields = format!("{fields}{expect}Content-Length: {length}\r\n");
            let (first, second, closed) = talk(&rig, &head(&fields), hidden, PATIENCE).await;
            assert_eq!(first, [status], "{fields}");
            assert!(second.is_empty(), "{fields}: {second:?}, {closed}");
        }
    }
    for path in ["/api/pull", "/nowhere", "/api/version"] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\n{{K}}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        let (first, second, _) = talk(&rig, &request, hidden, PATIENCE).await;
        assert!(first.len() == 1 && first[0] >= 400, "{path}: {first:?}");
        assert!(second.is_empty(), "{path}: {second:?}");
    }
    assert!(
        rig.upstream.received().is_empty(),
        "{:?}",
        rig.upstream.received()
    );
}
