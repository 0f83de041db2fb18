//! Two replicas on one etcd: what a device uses at one of them, the other one knows of.

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
    net::SocketAddr,
    time::{Duration, Instant},
};

use attest_proxy::{clock::Clock, config::Settings, server::Server};
use common::{
    CHAT, Rig, ask,
    client::{Connection, request},
    config, psk,
};
use domain::Limits;
use registry::{RegistryUrl, SpentRecord};
use testkit::{
    Etcd,
    upstream::{Gate, Reply, Upstream},
};
use tokio::{sync::watch, time::sleep};

/// One replica, and where the other one listens. The upstream holds what begins at the first one.
struct Pair {
    one: Rig,
    other: SocketAddr,
    gate: Gate,
    _etcd: Etcd,
    _quick: Upstream,
    _stop: watch::Sender<bool>,
}

impl Pair {
    async fn with(limits: Limits, held: bool) -> Self {
        let etcd = Etcd::start();
        let url: RegistryUrl = etcd.url().replace("http://", "etcd://").parse().unwrap();
        let gate = Gate::closed();
        let (slow, quick) = (gate.clone(), || Upstream::json(r#"{"done":true}"#));
        let upstream = if held {
            Upstream::start(move |_| {
                Reply::stream(200, "application/x-ndjson")
                    .chunk("{\"n\":1}\n")
                    .wait(&slow)
                    .chunk("{\"done\":true}\n")
            })
        } else {
            quick()
        };
        let one = Rig::on(upstream, "", tempfile::tempdir().unwrap(), &url).await;
        let quick = quick();
        let path = one.dir.path().join("other.toml");
        let text = config(one.dir.path(), &quick.url(), &url, "");
        let settings = Settings::parse(&path, &text).unwrap();
        let turned = one.clock.clone();
        let server = Server::bind(settings, Clock::Other(std::sync::Arc::new(move || turned.now())))
            .await
            .unwrap();
        let (other, proxy) = (server.address().unwrap(), server.proxy());
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(server.run(stopped));
        one.edit_policy("open", |policy| policy.limits = limits).await;
        let id = "plain".parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        for follow in [&one.proxy.follow, &proxy.follow] {
            while follow
                .last_view()
                .device(&id)
                .is_none_or(|d| d.entry().policy.limits != limits)
            {
                assert!(Instant::now() < deadline, "the policy never came");
                sleep(Duration::from_millis(20)).await;
            }
        }
        Self {
            one,
            other,
            gate,
            _etcd: etcd,
            _quick: quick,
            _stop: stop,
        }
    }

    /// Asks the other one.
    async fn ask_other(&self) -> common::Answer {
        ask(self.other, "POST", "/api/chat", &psk("plain"), CHAT).await
    }

    /// Asks the other one until it answers so; how often it answered otherwise.
    async fn until_other(&self, status: u16) -> usize {
        for nth in 0..400 {
            if self.ask_other().await.status == status {
                return nth;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("it never answered {status}");
    }

    async fn record(&self, wanted: impl Fn(&SpentRecord) -> bool) -> SpentRecord {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let found = self.one.registry.spent(&"plain".parse().unwrap()).await.unwrap();
            if let Some(found) = found.map(|found| found.value).filter(&wanted) {
                return found;
            }
            assert!(Instant::now() < deadline, "never written");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minutes_requests_are_those_of_all_replicas() {
    let limits = Limits {
        requests_per_minute: 60.try_into().ok(),
        ..Limits::default()
    };
    let pair = Pair::with(limits, false).await;
    let mut passed = 0;
    while pair.one.chat(&psk("plain")).await.status == 200 {
        passed += 1;
    }
    assert!((60..90).contains(&passed), "{passed}");
    pair.record(|record| record.requests >= 60).await;
    // What the other one let through before it heard, and one a second.
    let late = pair.until_other(429).await;
    assert!(late < 20, "{late}");
    let over = pair.ask_other().await;
    assert_eq!((over.status, over.code().as_str()), (429, "rate-limited"));
    assert_eq!(over.header("ratelimit-limit"), Some("60"));
    assert!(over.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    // When there is one again, it is in the sum too.
    pair.until_other(200).await;
    let sum = pair.record(|record| record.requests > passed).await.requests;
    assert!(sum <= passed + 60, "{sum}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_run_at_one_replica_count_at_the_other_until_it_is_silent() {
    let limits = Limits {
        streams: 1.try_into().ok(),
        ..Limits::default()
    };
    let pair = Pair::with(limits, true).await;
    let begin = || async {
        let mut client = Connection::open(pair.one.address).await;
        client
            .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
            .await;
        assert_eq!(client.head().await.unwrap().status, 200);
        client
    };
    let running = begin().await;
    assert_eq!(pair.ask_other().await.status, 200, "nothing waits to hear of it");
    let record = pair.record(|record| !record.running.is_empty()).await;
    assert_eq!(
        record.running.values().map(|r| r.streams).collect::<Vec<_>>(),
        [1]
    );
    pair.until_other(429).await;
    let over = pair.ask_other().await;
    assert_eq!((over.status, over.code().as_str()), (429, "too-many-streams"));
    // It ended, and that is told.
    drop(running);
    pair.record(|record| record.running.is_empty()).await;
    pair.until_other(200).await;
    // A replica that is gone says nothing any more: what it had said is not believed for ever.
    let last = begin().await;
    pair.record(|record| !record.running.is_empty()).await;
    pair.until_other(429).await;
    pair.one.stop.send_replace(true);
    pair.one.clock.advance(Duration::from_secs(21));
    pair.until_other(200).await;
    drop(last);
    pair.gate.open();
}
