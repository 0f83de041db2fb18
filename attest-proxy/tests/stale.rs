//! A registry that is away for longer than `registry-max-age`, while clients of every kind go on: they are served as long as the
//! last snapshot is good, then each of them is told 503, nothing reaches the upstream, and what runs goes on. When
//! the registry is back, so is everybody, without a restart.

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
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    CHAT, ask,
    client::{Connection, request},
    kiosk::{Kiosk, wall},
    program::{Running, folder_on},
    psk,
};
use registry::DeviceState;
use testkit::{
    Etcd,
    upstream::{Gate, Reply, Upstream},
};
use tokio::{task::JoinHandle, time::sleep};

const MORE: &str = "# registry-max-age, which the test sets";
const MAX_AGE: Duration = Duration::from_secs(6);
const CLIENTS: usize = 20;

/// What clients got, since it was last asked.
type Got = Arc<Mutex<BTreeMap<(u16, String), usize>>>;

/// One request after the other, with a key alone.
fn clients(address: SocketAddr, over: &Arc<AtomicBool>, got: &Got) -> Vec<JoinHandle<()>> {
    (0..CLIENTS)
        .map(|_| {
            let (over, got) = (Arc::clone(over), Arc::clone(got));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let mut connection = Connection::open(address).await;
                    connection
                        .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
                        .await;
                    let came = match connection.answer("POST").await {
                        Some(answer) if answer.complete => {
                            let retry = answer.header("retry-after").is_some();
                            assert!(answer.status != 503 || retry, "{answer:?}");
                            let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
                            (answer.status, code)
                        }
                        // Who is suspended while the answer begins may see it break off.
                        _ => (0, "cut".to_owned()),
                    };
                    *got.lock().unwrap().entry(came).or_default() += 1;
                    sleep(Duration::from_millis(40)).await;
                }
            })
        })
        .collect()
}

/// Waits until the load got this, and nothing else for half a second; what else it got on the way.
async fn until(got: &Got, status: u16, code: &str) -> BTreeMap<(u16, String), usize> {
    let (deadline, mut all) = (Instant::now() + Duration::from_secs(40), BTreeMap::new());
    while Instant::now() < deadline {
        got.lock().unwrap().clear();
        sleep(Duration::from_millis(500)).await;
        let now = got.lock().unwrap().clone();
        all.extend(now.clone());
        if now.len() == 1 && now.contains_key(&(status, code.to_owned())) {
            return all;
        }
    }
    panic!("never {status} {code} alone: {all:?}");
}

/// The registry goes by `away` and comes back by `back`.
async fn goes_and_comes_back(away: impl Fn(&mut Etcd), back: impl Fn(&mut Etcd)) {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::start(move |received| {
        if received.target == "/api/generate" {
            Reply::stream(200, "application/x-ndjson")
                .chunk("{\"response\":\"a\",\"done\":false}\n")
                .wait(&held)
                .chunk("{\"response\":\"\",\"done\":true}\n")
        } else {
            Reply::json(200, "{\"done\":true}")
        }
    });
    let mut etcd = Etcd::start();
    let dir = tempfile::tempdir().unwrap();
    let url = etcd.url().parse().unwrap();
    let (config, tpm, registry) = folder_on(&dir, &url, &upstream.url(), MORE).await;
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        format!("registry-max-age = \"{}s\"\n{text}", MAX_AGE.as_secs()),
    )
    .unwrap();
    let running = Running::start(&config, &["--log-level", "error"]);
    let address = running.address;
    let (over, got) = (Arc::new(AtomicBool::new(false)), Got::default());
    let load = clients(address, &over, &got);
    let mut kiosk = Kiosk::new(address, tpm);
    until(&got, 200, "").await;
    kiosk.open().await.unwrap();
    let mut stream = Connection::open(address).await;
    let body = r#"{"model":"smollm2:135m","prompt":"a"}"#;
    stream
        .send(&request("POST", "/api/generate", &psk("plain"), body))
        .await;
    assert_eq!(stream.head().await.unwrap().status, 200);
    stream.chunk().await.unwrap();

    away(&mut etcd);
    // The last sign of life was up to a third of the age before.
    sleep(MAX_AGE / 3).await;
    let signed = kiosk.signed("POST", "/api/chat", CHAT, wall());
    assert_eq!(ask(address, "POST", "/api/chat", &signed, CHAT).await.status, 200);
    let on_the_way = until(&got, 503, "registry-stale").await;
    assert!(
        on_the_way
            .keys()
            .all(|(status, code)| *status == 200 || (*status == 503 && code == "registry-stale")),
        "{on_the_way:?}"
    );
    // Nobody of any kind gets in, and nothing gets through.
    // Whether the server is well is asked all the while.
    let prompts = || upstream.received().iter().filter(|r| r.method == "POST").count();
    let reached = prompts();
    let signed = kiosk.signed("POST", "/api/chat", CHAT, wall());
    for (device, fields) in [
        ("plain", psk("plain")),
        ("kiosk", signed),
        ("stranger", psk("stranger")),
    ] {
        let answer = ask(address, "POST", "/api/chat", &fields, CHAT).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "registry-stale"),
            "{device}"
        );
    }
    let refused = kiosk.challenge().await.unwrap_err();
    assert_eq!((refused.status, refused.code().as_str()), (503, "registry-stale"));
    let ready = ask(running.operators, "GET", "/readyz", &[], "").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(prompts(), reached, "something got through");
    // What runs stood on a good snapshot when it began.
    gate.open();
    assert!(String::from_utf8_lossy(&stream.chunk().await.unwrap()).contains("true"));
    assert_eq!(stream.chunk().await.unwrap(), b"");

    back(&mut etcd);
    until(&got, 200, "").await;
    kiosk.open().await.unwrap();
    let signed = kiosk.signed("POST", "/api/chat", CHAT, wall());
    assert_eq!(ask(address, "POST", "/api/chat", &signed, CHAT).await.status, 200);
    // And what the registry says now is heard.
    let id = "plain".parse().unwrap();
    let mut record = registry.device(&id).await.unwrap().unwrap();
    record.value.state = DeviceState::Suspended;
    record.value.generation += 1;
    registry
        .update_device(record.value, record.revision)
        .await
        .unwrap();
    until(&got, 401, "psk-unknown").await;
    over.store(true, Ordering::Relaxed);
    for client in load {
        client.await.unwrap();
    }
    let (code, log) = running.end();
    assert!(code == 0 && !log.contains("panicked"), "{code}: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_too_long_refuses_all_until_it_is_back() {
    goes_and_comes_back(|etcd| etcd.pause(), |etcd| etcd.resume()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_dead_too_long_refuses_all_until_it_is_back() {
    goes_and_comes_back(Etcd::kill, Etcd::restart).await;
}
