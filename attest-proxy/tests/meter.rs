//! What a policy lets a device use, on the wire: requests in a minute, answers at a time, tokens in a day.

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
    Answer, CHAT, Rig,
    client::{Connection, request},
    psk,
};
use domain::Limits;
use registry::SpentRecord;
use testkit::upstream::{Gate, Reply, Upstream};

/// Tokens that the scripted server says an answer took.
const LAST: &str = "{\"message\":{\"content\":\"\"},\"done\":true,\"prompt_eval_count\":10,\"eval_count\":4}";

/// A proxy whose open policy, that of the device `plain`, has these limits.
async fn limited(upstream: Upstream, limits: Limits) -> Rig {
    let rig = Rig::with(upstream, "").await;
    rig.edit_policy("open", |policy| policy.limits = limits).await;
    let id = "plain".parse().unwrap();
    // The watch delivers the edit.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let view = rig.proxy.follow.last_view();
        if view
            .device(&id)
            .is_some_and(|d| d.entry().policy.limits == limits)
        {
            return rig;
        }
        assert!(std::time::Instant::now() < deadline, "the policy never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn number(answer: &Answer, name: &str) -> u64 {
    answer
        .header(name)
        .unwrap_or_else(|| panic!("no {name}: {answer:?}"))
        .parse()
        .unwrap()
}

fn refused(answer: &Answer, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (429, code));
    assert!(number(answer, "retry-after") >= 1);
    assert_eq!(number(answer, "ratelimit-remaining"), 0);
}

async fn spent(rig: &Rig, wanted: impl Fn(&SpentRecord) -> bool) -> SpentRecord {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(spent) = rig.registry.spent(&"plain".parse().unwrap()).await.unwrap()
            && wanted(&spent.value)
        {
            return spent.value;
        }
        assert!(std::time::Instant::now() < deadline, "never written");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_a_minute_has_are_told_when_to_come_again() {
    let limits = Limits {
        requests_per_minute: 2.try_into().ok(),
        ..Limits::default()
    };
    let rig = limited(Upstream::json("{}"), limits).await;
    for left in [1, 0] {
        let answer = rig.chat(&psk("plain")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(number(&answer, "ratelimit-limit"), 2);
        assert_eq!(number(&answer, "ratelimit-remaining"), left);
    }
    let over = rig.chat(&psk("plain")).await;
    refused(&over, "rate-limited");
    assert!((29..=30).contains(&number(&over, "retry-after")), "{over:?}");
    assert_eq!(rig.upstream.received().len(), 2);
    // Another device is none of its business, and a challenge costs nothing.
    let mut rig = rig;
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    assert_eq!(rig.chat(&fields).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_answer_too_many_waits_for_another_to_end() {
    let gate = Gate::closed();
    let script = gate.clone();
    let upstream = Upstream::start(move |_| {
        Reply::stream(200, "application/x-ndjson")
            .chunk("{\"message\":{\"content\":\"a\"}}\n")
            .wait(&script)
            .chunk(format!("{LAST}\n"))
    });
    let limits = Limits {
        streams: 1.try_into().ok(),
        ..Limits::default()
    };
    let rig = limited(upstream, limits).await;
    let mut running = Connection::open(rig.address).await;
    running
        .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
        .await;
    rig.upstream
        .until("the first request", |u| !u.received().is_empty())
        .await;
    refused(&rig.chat(&psk("plain")).await, "too-many-streams");
    gate.open();
    assert_eq!(running.answer("POST").await.unwrap().status, 200);
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_days_tokens_end_and_another_replica_knows() {
    let body: &'static str = LAST;
    let limits = Limits {
        output_tokens_per_day: 8.try_into().ok(),
        ..Limits::default()
    };
    let rig = limited(Upstream::json(body), limits).await;
    for _ in 0..2 {
        assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    }
    let over = rig.chat(&psk("plain")).await;
    refused(&over, "budget-spent");
    assert_eq!(number(&over, "ratelimit-limit"), 8);
    assert!(number(&over, "retry-after") <= 86_400);
    let written = spent(&rig, |spent| spent.output_tokens == 8).await;
    assert_eq!(written.prompt_tokens, 20);
    // Tomorrow.
    rig.clock.advance(Duration::from_secs(86_400));
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_ended_when_the_days_tokens_are() {
    let upstream = Upstream::start(|_| {
        let mut reply = Reply::stream(200, "application/x-ndjson");
        for _ in 0..6 {
            reply = reply.chunk("{\"message\":{\"content\":\"a\"}}\n");
        }
        reply.chunk(format!("{LAST}\n"))
    });
    let limits = Limits {
        output_tokens_per_day: 3.try_into().ok(),
        ..Limits::default()
    };
    let rig = limited(upstream, limits).await;
    let answer = rig.chat(&psk("plain")).await;
    assert_eq!(answer.status, 200);
    let lines: Vec<serde_json::Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[3]["code"], "budget-spent");
    refused(&rig.chat(&psk("plain")).await, "budget-spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_count_pays_for_what_it_got() {
    let gate = Gate::closed();
    let script = gate.clone();
    let upstream = Upstream::start(move |_| {
        Reply::stream(200, "application/x-ndjson")
            .chunk("{\"message\":{\"content\":\"a\"}}\n{\"message\":{\"content\":\"b\"}}\n")
            .wait(&script)
            .chunk(format!("{LAST}\n"))
    });
    let limits = Limits {
        output_tokens_per_day: 1000.try_into().ok(),
        ..Limits::default()
    };
    let rig = limited(upstream, limits).await;
    let mut leaving = Connection::open(rig.address).await;
    leaving
        .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
        .await;
    rig.upstream
        .until("the request", |u| !u.received().is_empty())
        .await;
    leaving.head().await.unwrap();
    leaving.chunk().await.unwrap();
    drop(leaving);
    let written = spent(&rig, |spent| spent.output_tokens > 0).await;
    assert_eq!(written.output_tokens, 2);
    assert_eq!(written.prompt_tokens, u64::try_from(CHAT.len()).unwrap() / 4);
}
