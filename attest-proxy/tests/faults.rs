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

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    CHAT, Rig, ask,
    process::Held,
    program::{Running, folder_on},
    psk,
};
use registry::DeviceState;
use testkit::{
    Etcd,
    upstream::{Reply, Step, Upstream},
};

const CLIENTS: usize = 40;
/// What may be resident in any fault, in KiB: 40 clients with prompts of 64 KiB, of which each is held twice, and the program.
const CEILING: u64 = 48 << 10;
/// What a second round of all faults may leave more than the first, in KiB.
const LEFT: u64 = 3 << 10;
/// Connections that are kept for later; both of their ends are in this process.
const KEPT: usize = 4;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// An upstream of which every fifth answer is one of these ill ones.
fn ill() -> Upstream {
    let turn = AtomicUsize::new(0);
    Upstream::start(move |_| {
        let stream = Reply::stream(200, "application/x-ndjson").chunk("{\"done\":false}\n");
        match turn.fetch_add(1, Ordering::Relaxed) % 5 {
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
    load_on(rig.address, device, CHAT.to_owned()).await
}

async fn load_on(address: SocketAddr, device: &'static str, body: String) -> Vec<u16> {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let body = body.clone();
            tokio::spawn(async move {
                let mut got = Vec::new();
                for _ in 0..4 {
                    got.push(
                        ask(address, "POST", "/api/chat", &psk(device), &body)
                            .await
                            .status,
                    );
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

/// What a server does with every request, by turns.
const ILLS: [&str; 6] = ["well", "breaks off", "hangs", "garbage", "resets", "endless head"];

fn answer(ill: usize) -> Reply {
    let stream = Reply::stream(200, "application/x-ndjson").chunk("{\"done\":false}\n");
    match ILLS[ill] {
        "well" => stream.chunk("{\"done\":true}\n"),
        "breaks off" => stream.break_off(),
        "hangs" => stream.pause(Duration::from_secs(60)),
        "garbage" => Reply::raw(vec![Step::Bytes(vec![0xff; 100_000]), Step::Close]),
        "resets" => Reply::raw(vec![Step::Reset]),
        _ => Reply::raw(vec![
            Step::Bytes(b"HTTP/1.1 200 OK\r\nX: ".to_vec()),
            Step::Bytes(vec![b'a'; 1 << 20]),
        ]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_has_a_ceiling_in_every_fault_and_stays_when_they_come_again() {
    let ill = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&ill);
    let upstream = Upstream::start(move |_| answer(now.load(Ordering::Relaxed)));
    let mut etcd = Etcd::start();
    let dir = tempfile::tempdir().unwrap();
    let more = "[limits]\nfirst-byte-timeout = \"1s\"\nchunk-timeout = \"300ms\"\nupstream-idle = 4";
    let url = etcd.url().parse().unwrap();
    let (config, _, _) = folder_on(&dir, &url, &upstream.url(), more).await;
    let running = Running::start(&config, &["--log-level", "error"]);
    let pid = running.child.id();
    let before = Held::by(pid).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let peak = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let mut peak = 0;
            while !over.load(Ordering::Relaxed) {
                peak = Held::by(pid).unwrap().resident.max(peak);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            peak
        }
    });
    let body = CHAT.replace("Gleis?", &"Gleis? ".repeat(9 << 10));
    let mut rounds = Vec::new();
    for _ in 0..2 {
        for (nth, name) in ILLS.iter().enumerate() {
            ill.store(nth, Ordering::Relaxed);
            let statuses = load_on(running.address, "plain", body.clone()).await;
            let good = |status: &u16| match *name {
                "well" | "hangs" | "breaks off" => matches!(status, 200 | 503),
                _ => matches!(status, 502 | 503),
            };
            assert!(statuses.iter().all(good), "{name}: {statuses:?}");
        }
        ill.store(0, Ordering::Relaxed);
        // Hung, then killed: the last snapshot serves.
        etcd.pause();
        let hung = load_on(running.address, "plain", body.clone()).await;
        etcd.resume();
        etcd.kill();
        let killed = load_on(running.address, "plain", body.clone()).await;
        etcd.restart();
        assert!(
            hung.iter().chain(&killed).all(|s| matches!(s, 200 | 503)),
            "{hung:?} {killed:?}"
        );
        let mut rest = Held::by(pid).unwrap();
        for _ in 0..100 {
            if rest.descriptors <= before.descriptors + KEPT + 4 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            rest = Held::by(pid).unwrap();
        }
        rounds.push(rest);
    }
    over.store(true, Ordering::Relaxed);
    let peak = peak.await.unwrap();
    println!("{before:?}, then {rounds:?}; at most {peak} KiB");
    assert!(peak < CEILING, "{peak} KiB");
    assert!(
        rounds
            .iter()
            .all(|rest| rest.descriptors <= before.descriptors + KEPT + 4),
        "{rounds:?}"
    );
    assert!(rounds[1].resident < rounds[0].resident + LEFT, "{rounds:?}");
    let (code, log) = running.end();
    assert!(code == 0 && !log.contains("panicked"), "{code}: {log}");
}
