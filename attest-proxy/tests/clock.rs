//! The program's wall clock is set, forward and back, while it runs (by Debian's libfaketime, which leaves the monotonic clock
//! alone as the kernel would): sessions, quotes, streams and the registry's snapshot are in use all the while.
//! Nothing that was accepted is accepted again, streams go on, what the monotonic clock judges does not move, and
//! when the clock is right again so is everything else.

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
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use common::{
    Answer, CHAT, ask,
    client::{Connection, request},
    kiosk::{Kiosk, wall},
    program::{Running, folder_on},
    psk,
};
use domain::UnixTime;
use protocol::{headers, messages::Challenge};
use testkit::{
    Etcd,
    upstream::{Reply, Upstream},
};
use tokio::time::sleep;

/// Half an hour, a day.
const HALF: i64 = 1800;
const DAY: i64 = 86_400;

/// A clock that can be set.
struct Set(PathBuf);

impl Set {
    /// So many seconds off. Whole at once: the program reads it at any time.
    fn to(&self, offset: i64) {
        let beside = self.0.with_extension("new");
        std::fs::write(&beside, format!("{offset:+}\n")).unwrap();
        std::fs::rename(&beside, &self.0).unwrap();
    }
}

/// The program under a clock that can be set.
fn start(config: &Path, offset: i64) -> (Running, Set) {
    let clock = Set(config.with_file_name("clock"));
    clock.to(offset);
    let library = std::fs::read_dir("/usr/lib")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|path| path.exists())
        .expect("libfaketime is there (Debian package libfaketime)");
    let mut command = Command::new(env!("CARGO_BIN_EXE_attest-proxy"));
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock.0)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    (
        Running::start_by(command, config, &["--log-level", "error"], "ready: http://"),
        clock,
    )
}

fn off(offset: i64) -> UnixTime {
    UnixTime::from_secs(wall().as_secs().checked_add_signed(offset).unwrap())
}

/// Waits until the program's clock is so many seconds off: it tells in challenges.
async fn shows(kiosk: &Kiosk, offset: i64) {
    for _ in 0..200 {
        let answer = ask(kiosk.address, "GET", headers::CHALLENGE_PATH, &psk("kiosk"), "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let challenge: Challenge = serde_json::from_slice(&answer.body).unwrap();
        if challenge.now.distance(off(offset)) <= Duration::from_secs(2) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("its clock never was {offset} s off");
}

/// What was accepted, and must never be again.
#[derive(Default)]
struct Accepted(Vec<Vec<(String, String)>>);

impl Accepted {
    async fn again(&self, kiosk: &Kiosk, when: &str) {
        for (nth, fields) in self.0.iter().enumerate() {
            let answer = ask(kiosk.address, "POST", "/api/chat", fields, CHAT).await;
            assert_eq!(
                answer.status,
                401,
                "{when}: the {nth}th was accepted again: {}",
                answer.text()
            );
        }
    }

    async fn send(&mut self, kiosk: &Kiosk, fields: Vec<(String, String)>) -> Answer {
        let answer = ask(kiosk.address, "POST", "/api/chat", &fields, CHAT).await;
        if answer.status == 200 {
            self.0.push(fields);
        }
        answer
    }
}

/// A session and a quote by the program's own clock. Whether both were accepted.
async fn prove(kiosk: &mut Kiosk, accepted: &mut Accepted, offset: i64) -> bool {
    let mut all = true;
    match kiosk.open().await {
        Ok(()) => {
            let fields = kiosk.signed("POST", "/api/chat", CHAT, off(offset));
            all &= accepted.send(kiosk, fields).await.status == 200;
        }
        Err(answer) => {
            assert_eq!(answer.status, 401, "{}", answer.text());
            all = false;
        }
    }
    let fields = kiosk.quoted("POST", "/api/chat", CHAT).await.unwrap();
    let answer = accepted.send(kiosk, fields).await;
    assert!(matches!(answer.status, 200 | 401), "{}", answer.text());
    all && answer.status == 200
}

fn upstream() -> Upstream {
    Upstream::start(|received| {
        if received.target == "/api/generate" {
            (0..120).fold(Reply::stream(200, "application/x-ndjson"), |reply, n| {
                reply
                    .chunk(format!("{{\"response\":\"{n}\",\"done\":{}}}\n", n == 119))
                    .pause(Duration::from_millis(50))
            })
        } else {
            Reply::json(200, "{\"done\":true}")
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_makes_nothing_good_twice_and_ends_no_stream() {
    let (upstream, etcd) = (upstream(), Etcd::start());
    let dir = tempfile::tempdir().unwrap();
    let more = "[registry-snapshot]\nfile = \"registry.snapshot\"\n[audit]\nfile = \"audit.jsonl\"";
    let (config, tpm, _) = folder_on(&dir, &etcd.url().parse().unwrap(), &upstream.url(), more).await;
    let (running, clock) = start(&config, 0);
    let mut kiosk = Kiosk::new(running.address, tpm);
    let mut accepted = Accepted::default();
    shows(&kiosk, 0).await;
    // Where the wall clock cannot say when the start was, it is known to a second.
    sleep(Duration::from_secs(2)).await;
    assert!(prove(&mut kiosk, &mut accepted, 0).await);
    let mut stream = Connection::open(running.address).await;
    let body = r#"{"model":"smollm2:135m","prompt":"a"}"#;
    stream
        .send(&request("POST", "/api/generate", &psk("plain"), body))
        .await;
    assert_eq!(stream.head().await.unwrap().status, 200);

    // Where the clock was before, nothing new can be told from what was here: there it may be refused, for about a minute.
    for (offset, new) in [
        (90, true),
        (0, false),
        (HALF, true),
        (30, false),
        (-45, false),
        (0, false),
        (DAY, true),
        (0, false),
        (-DAY, true),
        (5, false),
        (365 * DAY, true),
        (0, false),
        (400, true),
    ] {
        clock.to(offset);
        shows(&kiosk, offset).await;
        let when = format!("{offset} s off");
        accepted.again(&kiosk, &when).await;
        // The snapshot's age is the monotonic clock's: no step makes it too old.
        let plain = ask(running.address, "POST", "/api/chat", &psk("plain"), CHAT).await;
        assert_eq!(plain.status, 200, "{when}: {}", plain.text());
        assert!(prove(&mut kiosk, &mut accepted, offset).await || !new, "{when}");
        accepted.again(&kiosk, &when).await;
    }
    let before = accepted.0.len();
    assert!(before >= 12, "{before}");
    for n in 0..120 {
        let chunk = stream.chunk().await.expect("the stream goes on");
        assert!(
            String::from_utf8_lossy(&chunk).contains(&format!("\"{n}\"")),
            "{chunk:?}"
        );
    }
    assert_eq!(stream.chunk().await.unwrap(), b"");
    accepted.again(&kiosk, "at the end").await;
    let (code, log) = running.end();
    assert!(code == 0 && !log.contains("panicked"), "{code}: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_started_with_a_wrong_clock_serves_when_it_is_set_right() {
    for wrong in [2 * DAY, -2 * DAY] {
        let (upstream, etcd) = (upstream(), Etcd::start());
        let dir = tempfile::tempdir().unwrap();
        let (config, tpm, _) = folder_on(&dir, &etcd.url().parse().unwrap(), &upstream.url(), "").await;
        let (running, clock) = start(&config, wrong);
        let mut kiosk = Kiosk::new(running.address, tpm);
        let mut accepted = Accepted::default();
        shows(&kiosk, wrong).await;
        assert!(prove(&mut kiosk, &mut accepted, wrong).await, "{wrong} s off");
        sleep(Duration::from_secs(2)).await;
        clock.to(0);
        shows(&kiosk, 0).await;
        accepted.again(&kiosk, "set right").await;
        assert!(
            prove(&mut kiosk, &mut accepted, 0).await,
            "{wrong} s off, then right"
        );
        accepted.again(&kiosk, "right").await;
        assert_eq!(running.end().0, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_the_clock_makes_an_old_snapshot_young() {
    let (upstream, etcd) = (upstream(), Etcd::start());
    let dir = tempfile::tempdir().unwrap();
    let more = "[registry-snapshot]\nfile = \"registry.snapshot\" # registry-max-age";
    let (config, tpm, _) = folder_on(&dir, &etcd.url().parse().unwrap(), &upstream.url(), more).await;
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("registry-max-age = \"6s\"\n{text}")).unwrap();
    let (running, clock) = start(&config, 0);
    let kiosk = Kiosk::new(running.address, tpm);
    shows(&kiosk, 0).await;
    let status = async |address| {
        ask(address, "POST", "/api/chat", &psk("plain"), CHAT)
            .await
            .status
    };
    assert_eq!(status(running.address).await, 200);
    let kept = dir.path().join("registry.snapshot.alive");
    while !kept.exists() {
        sleep(Duration::from_millis(20)).await;
    }
    etcd.pause();
    clock.to(DAY);
    assert_eq!(status(running.address).await, 200, "a day ahead is no older");
    clock.to(-DAY);
    let begun = std::time::Instant::now();
    while status(running.address).await == 200 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "a day behind, it stays young"
        );
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status(running.address).await, 503);
    // Nor does what is on the disk become young by it.
    assert_eq!(running.end().0, 0);
    for offset in [0, -DAY, DAY] {
        let (running, _clock) = start(&config, offset);
        assert_eq!(status(running.address).await, 503, "{offset} s off");
        drop(running);
    }
}
