//! The registry's snapshot on disk: a proxy that restarts while etcd is away.

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
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use attest_proxy::{clock::Clock, config::Settings, server::Server};
use common::{Rig, ask, forge, program::Running, psk};
use testkit::{Canary, etcd::Etcd, upstream::Upstream};

const KEPT: &str = "[registry-snapshot]\nfile = \"registry.snapshot\"\n";

/// A configuration whose registry nobody answers for, with the snapshot that a proxy before it kept.
async fn orphan(upstream: &Upstream, max_age: &str) -> (tempfile::TempDir, PathBuf, Etcd) {
    let etcd = Etcd::start();
    let url = etcd.url().parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // The registry's records.
    drop(Rig::on(Upstream::json("{}"), "", tempfile::tempdir().unwrap(), &url).await);
    let config = dir.path().join("attest-proxy.toml");
    let text =
        common::config(dir.path(), &upstream.url(), &url, KEPT).replace("\"30s\"", &format!("\"{max_age}\""));
    std::fs::write(&config, text).unwrap();
    let running = Running::start(&config, &["--log", "json"]);
    assert_eq!(chat(&running, "plain").await.0, 200);
    let kept = dir.path().join("registry.snapshot.alive");
    for _ in 0..200 {
        if kept.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(kept.exists(), "nothing was kept");
    etcd.pause();
    // Killed, not ended: what is on the disk must be enough.
    let mut running = running;
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    (dir, config, etcd)
}

async fn chat(running: &Running, device: &str) -> (u16, String) {
    let answer = ask(running.address, "POST", "/api/chat", &psk(device), common::CHAT).await;
    (
        answer.status,
        answer.json()["code"].as_str().unwrap_or_default().to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_the_registry_goes_on_until_the_snapshot_is_too_old() {
    let upstream = Upstream::json("{}");
    let (dir, config, mut etcd) = orphan(&upstream, "12s").await;
    let running = Running::start(&config, &["--log", "json"]);
    assert_eq!(chat(&running, "plain").await.0, 200);
    assert_eq!(chat(&running, "stranger").await, (401, "psk-unknown".into()));
    assert_eq!(chat(&running, "kiosk").await, (401, "evidence-missing".into()));
    let ready = ask(running.operators, "GET", "/readyz", &[], "").await;
    assert_eq!(ready.status, 200);
    assert!(
        ready.json()["registry"]
            .as_str()
            .unwrap()
            .contains("from the snapshot on disk")
    );
    let mut last = (200, String::new());
    for _ in 0..400 {
        last = chat(&running, "plain").await;
        if last.0 != 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(last, (503, "registry-stale".into()));
    // Too old is too old, also for the next one.
    assert_eq!(running.end().0, 0);
    let running = Running::start(&config, &["--log", "json"]);
    assert_eq!(chat(&running, "plain").await, (503, "registry-stale".into()));
    etcd.resume();
    etcd.restart();
    let mut back = false;
    for _ in 0..200 {
        back = chat(&running, "plain").await.0 == 200;
        if back {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(back, "it did not come back");
    let (_, log) = running.end();
    assert!(log.contains("more than `registry-max-age`"), "{log}");
    // 0600, and neither names nor digests to be read.
    for name in ["registry.snapshot", "registry.snapshot.alive"] {
        let path = dir.path().join(name);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        Canary::new("psk", forge::psk_text("plain").as_bytes()).assert_absent_below(&path);
        let bytes = std::fs::read(&path).unwrap();
        for word in [&b"kiosk"[..], b"plain", b"smollm2", b"version"] {
            assert!(!bytes.windows(word.len()).any(|w| w == word), "{name}");
        }
    }
}

/// What a start with these files says of a chat: without waiting for the registry, which is not there.
async fn status_with(config: &Path, now: Option<u64>) -> u16 {
    let text = std::fs::read_to_string(config).unwrap();
    let settings = Settings::parse(config, &text).unwrap();
    let clock = match now {
        None => Clock::System,
        Some(secs) => Clock::Other(Arc::new(move || domain::UnixTime::from_secs(secs))),
    };
    let server = Server::bind(settings, clock).await.unwrap();
    let address = server.address().unwrap();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(server.run(stopped));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let answer = ask(address, "POST", "/api/chat", &psk("plain"), common::CHAT).await;
    task.abort();
    answer.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_changed_old_or_anothers_is_not_believed() {
    let upstream = Upstream::json("{}");
    let (dir, config, _etcd) = orphan(&upstream, "10m").await;
    let file = dir.path().join("registry.snapshot");
    let good = std::fs::read(&file).unwrap();
    assert_eq!(status_with(&config, None).await, 200);
    for at in [0, 20, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&file, bad).unwrap();
        assert_eq!(status_with(&config, None).await, 503, "byte {at}");
    }
    for cut in [0, 5, good.len() - 1] {
        std::fs::write(&file, &good[..cut]).unwrap();
        assert_eq!(status_with(&config, None).await, 503, "cut at {cut}");
    }
    std::fs::write(&file, &good).unwrap();
    // The file of the time is not the file of the records.
    let alive = dir.path().join("registry.snapshot.alive");
    let time = std::fs::read(&alive).unwrap();
    std::fs::write(&file, &time).unwrap();
    assert_eq!(status_with(&config, None).await, 503);
    std::fs::write(&file, &good).unwrap();
    // A clock that ran on: too old, whatever the second file says.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert_eq!(status_with(&config, Some(now + 60)).await, 200);
    assert_eq!(status_with(&config, Some(now + 660)).await, 503);
    // Another fleet, another root.
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("fleet = \"demo\"", "fleet = \"other\"")).unwrap();
    assert_eq!(status_with(&config, None).await, 503);
    std::fs::write(&config, &text).unwrap();
    assert_eq!(status_with(&config, None).await, 200);
    let key = dir.path().join("fleet.key");
    let old = dir.path().join("old.key");
    std::fs::rename(&key, &old).unwrap();
    std::fs::write(&key, "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=\n").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(status_with(&config, None).await, 503);
    // But after a rotation the key of before still opens it.
    let rotated = text.replace("id = \"k1\"", "id = \"k2\"")
        + "\n[previous-fleet-key]\nid = \"k1\"\nfile = \"old.key\"\nuntil = 2099-01-01T00:00:00Z\n";
    std::fs::write(&config, rotated).unwrap();
    assert_eq!(status_with(&config, None).await, 200);
}
