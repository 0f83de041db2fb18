//! Cables that are pulled while clients stream: a server that is killed, hangs or talks garbage, a registry that is stopped
//! and comes back. Every request is answered or ends, nobody is admitted who must not be, and afterwards
//! nothing is held: no place, no memory of bodies, no descriptor.

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

use common::{CHAT, Rig, ask, psk};
use registry::DeviceState;
use testkit::{
    Etcd,
    upstream::{Reply, Step, Upstream},
};

const CLIENTS: usize = 40;
/// Connections that are kept for later; both of their ends are in this process.
const KEPT: usize = 4;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// An upstream of which every fifth answer is one of these ill ones.
fn ill() -> Upstream {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    Upstream::start(move |_| {
        let stream = Reply::stream(200, "application/x-ndjson").chunk("{\"done\":false}\n");
        match turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 5 {
            0 => stream.break_off(),
            1 => stream.pause(Duration::from_secs(60)),
            2 => Reply::raw(vec![Step::Bytes(b"\0garbage\r\n\r\n".to_vec()), Step::Close]),
            3 => Reply::raw(vec![Step::Reset]),
            _ => stream.pause(Duration::from_millis(20)).chunk("{\"done\":true}\n"),
        }
    })
}

/// So many clients at once, each asking a few times; the statuses that they got.
async fn load(rig: &Rig, device: &'static str) -> Vec<u16> {
    let address = rig.address;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            tokio::spawn(async move {
                let mut got = Vec::new();
                for _ in 0..4 {
                    got.push(ask(address, "POST", "/api/chat", &psk(device), CHAT).await.status);
                }
                got
            })
        })
        .collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.unwrap());
    }
    all
}

/// Nothing is held any more.
async fn at_rest(rig: &Rig, before: usize) {
    for _ in 0..400 {
        if rig.proxy.upstream.in_flight() == 0 && descriptors() <= before + 2 * KEPT + 4 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!(
        "{} in flight, {} descriptors where {before} were",
        rig.proxy.upstream.in_flight(),
        descriptors()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ill_server_under_load_leaves_nothing_behind() {
    let more = "[limits]\nfirst-byte-timeout = \"2s\"\nchunk-timeout = \"500ms\"\nupstream-idle = 4";
    let rig = Rig::with(ill(), more).await;
    let before = descriptors();
    let statuses = load(&rig, "plain").await;
    assert_eq!(statuses.len(), CLIENTS * 4);
    assert!(
        statuses.iter().all(|s| matches!(s, 200 | 502 | 503 | 504)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&200) && statuses.contains(&502), "{statuses:?}");
    at_rest(&rig, before).await;
    // Whatever the server does, who must quote stays out.
    assert!(load(&rig, "kiosk").await.iter().all(|s| *s == 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_stopped_killed_and_back_admits_nobody_whom_it_suspended() {
    let mut etcd = Etcd::start();
    let url = etcd.url().parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::on(
        Upstream::json("{\"done\":true}"),
        "[limits]\nupstream-idle = 4",
        dir,
        &url,
    )
    .await;
    let before = descriptors();
    assert_eq!(load(&rig, "plain").await, vec![200; CLIENTS * 4]);
    // Partitioned: the last snapshot serves, as long as it may.
    etcd.pause();
    assert_eq!(load(&rig, "plain").await, vec![200; CLIENTS * 4]);
    etcd.resume();
    rig.edit("plain", |record| record.state = DeviceState::Suspended)
        .await;
    rig.chat_until(&psk("plain"), 401).await;
    // Killed and started again: what it said last still holds.
    etcd.restart();
    let statuses = load(&rig, "plain").await;
    assert!(statuses.iter().all(|s| *s == 401), "{statuses:?}");
    assert!(load(&rig, "kiosk").await.iter().all(|s| *s == 401));
    at_rest(&rig, before + 4).await;
}
