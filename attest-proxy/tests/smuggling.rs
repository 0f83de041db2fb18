//! The corpus of malformed, smuggled and odd requests, on the raw socket: what is refused reaches nobody, and whatever
//! follows it on its connection is never taken for a part of it, nor it for a part of what follows.

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
    collections::BTreeSet,
    time::{Duration, Instant},
};

use common::{Rig, client::Connection, psk};
use corpus::{Case, End, FOLLOWER, fill};

/// Where answers begin, and their statuses.
fn statuses(said: &str) -> Vec<u16> {
    let mut all = Vec::new();
    for part in said.split("HTTP/1.").skip(1) {
        let status = part.get(2..5).and_then(|s| s.parse().ok()).unwrap_or(0);
        // An interim answer is none.
        if status != 100 {
            all.push(status);
        }
    }
    all
}

/// How long a proxy that does not close may be silent before it is taken to wait for more.
const SILENCE: Duration = Duration::from_millis(300);

/// Sends bytes; what was answered, and how much of it the upstream saw. `enough` answers need not be waited for longer.
async fn play(rig: &Rig, bytes: &[u8], enough: usize) -> (Vec<u16>, usize, String) {
    let before = rig.upstream.received().len();
    let mut connection = Connection::open(rig.address).await;
    connection.send(bytes).await;
    let said = connection
        .rest_after(SILENCE, |said| statuses(said).len() >= enough)
        .await;
    (statuses(&said), rig.upstream.received().len() - before, said)
}

/// After how many answers no more can come. A case that is closed is waited for until it is.
const fn enough(case: &Case) -> usize {
    match case.end {
        End::InStep(_) => 2,
        End::Closed | End::ClosedWith(_) => 9,
    }
}

fn judge(case: &Case, answers: &[u16], reached: usize) -> bool {
    match case.end {
        End::Closed => (answers.is_empty() || answers == [400]) && reached == 0,
        End::ClosedWith(status) => answers == [status] && reached == 0,
        End::InStep(status) => answers == [status, 200] && reached == 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_end_here() {
    let rig = Rig::new().await;
    let cases = corpus::malformed();
    assert!(cases.len() > 500, "only {}", cases.len());
    let names: BTreeSet<_> = cases.iter().map(|c| &c.bytes).collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let bytes = [&case.bytes[..], &fill(FOLLOWER)].concat();
        let (answers, reached, said) = play(&rig, &bytes, enough(case)).await;
        if !judge(case, &answers, reached) {
            wrong.push(format!(
                "{}: wanted {:?}, got {answers:?} and {reached} reached the upstream: {said:.200}",
                case.name, case.end
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        names.len(),
        wrong.join("\n")
    );
    // Nothing that reached it has a field of ours, a length twice, or another path than was meant.
    for request in rig.upstream.received() {
        let seen = (request.method.as_str(), request.target.as_str());
        assert!(
            matches!(seen, ("POST", "/api/chat") | ("GET", "/api/version")),
            "{seen:?}"
        );
        assert!(
            request.header("x-pre-shared-key").is_empty() && request.header("transfer-encoding").is_empty()
        );
        assert!(request.header("content-length").len() <= 1 && request.body_complete);
    }
    // The same key in a plain request is still served.
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_in_the_wrong_place_is_a_request_of_its_own_or_none() {
    let rig = Rig::new().await;
    let mut wrong = Vec::new();
    for case in corpus::mutations::cases() {
        let bytes = [&case.bytes[..], &fill(FOLLOWER)].concat();
        let (answers, reached, said) = play(&rig, &bytes, enough(&case)).await;
        let right = match case.end {
            // Both may pass; neither may have become three.
            End::InStep(_) => answers == [200, 200] && reached == 2,
            _ => judge(&case, &answers, reached),
        };
        if !right {
            wrong.push(format!("{}: {answers:?}, {reached}: {said:.200}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_does_not_end_is_answered_at_once() {
    let rig = Rig::new().await;
    let head = fill("POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n");
    for case in corpus::chunks::cases() {
        // Nothing comes behind it; the head comes first, or with it.
        for split in [0, head.len()] {
            let mut connection = Connection::open(rig.address).await;
            connection.send(&case.bytes[..split]).await;
            if split > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            connection.send(&case.bytes[split..]).await;
            let begun = Instant::now();
            let answer = connection.answer("POST").await;
            let status = answer.map(|a| a.status);
            assert_eq!(status, Some(400), "{}", case.name);
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "{} was waited for",
                case.name
            );
        }
    }
    assert!(rig.upstream.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_first_is_answered_first() {
    let rig = Rig::new().await;
    let good = fill(FOLLOWER);
    let mut wrong = Vec::new();
    for case in corpus::malformed().iter().step_by(2) {
        // Two good ones and the bad one in one piece.
        let bytes = [&good[..], &good, &case.bytes, &good].concat();
        let (answers, reached, said) = play(&rig, &bytes, enough(case) + 2).await;
        let (first, rest) = answers.split_at(answers.len().min(2));
        if first != [200, 200] || reached < 2 || !judge(case, rest, reached - 2) {
            wrong.push(format!("{}: {answers:?}, {reached}: {said:.200}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_end_here_byte_by_byte_too() {
    let rig = Rig::new().await;
    // Where the reads split must not matter: every seventh case, in pieces of three bytes.
    for case in corpus::malformed()
        .iter()
        .step_by(7)
        .filter(|c| c.bytes.len() < 600)
    {
        let before = rig.upstream.received().len();
        let mut connection = Connection::open(rig.address).await;
        for piece in [&case.bytes[..], &fill(FOLLOWER)].concat().chunks(3) {
            if !connection.try_send(piece).await {
                break;
            }
            tokio::task::yield_now().await;
        }
        let said = connection.rest_after(SILENCE, |said| statuses(said).len() >= enough(case));
        let answers = statuses(&said.await);
        let reached = rig.upstream.received().len() - before;
        // A client that goes on sending to a closed connection may lose the answer to a reset.
        let lost = answers.is_empty() && reached == 0 && !matches!(case.end, End::InStep(_));
        assert!(
            lost || judge(case, &answers, reached),
            "{}: {answers:?}, {reached}",
            case.name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_that_are_right_are_served() {
    let rig = Rig::new().await;
    let mut wrong = Vec::new();
    for (name, bytes, wanted) in corpus::conforming::cases() {
        let (answers, reached, said) = play(&rig, &bytes, wanted).await;
        if answers != vec![200; wanted] || reached != wanted {
            wrong.push(format!("{name}: {answers:?}, {reached} reached: {said:.200}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
