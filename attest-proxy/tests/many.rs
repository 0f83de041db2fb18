//! The program under very many connections: its memory has a ceiling, and a system without descriptors does not end it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{net::SocketAddr, process::Command, time::Duration};

use common::{
    ask,
    client::{Connection, request},
    process::Held,
    program::{Running, folder},
    psk,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::upstream::Upstream;
use tokio::time::sleep;

/// What 10,000 idle connections may cost, and none, in KiB of resident memory.
const CEILING: u64 = 100 << 10;
const IDLE: u64 = 24 << 10;

fn resident(pid: u32) -> u64 {
    Held::by(pid).expect("the program runs").resident
}

/// `many` connections from as many addresses as it takes, each with one refused request behind it.
async fn connect(address: SocketAddr, many: usize) -> Vec<Connection> {
    let hello = request("GET", "/api/version", &psk("stranger"), "");
    let mut held = Vec::with_capacity(many);
    for nth in 0..many {
        let host = u8::try_from(2 + nth / 250).unwrap();
        let mut connection = Connection::from([127, 0, 0, host], address).await;
        connection.send(&hello).await;
        held.push(connection);
        // What was accepted is read before the next come, so that no backlog grows over.
        if nth % 50 == 49 {
            for connection in &mut held[nth - 49..] {
                assert_eq!(connection.answer("GET").await.unwrap().status, 401);
            }
        }
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_stay_under_the_ceiling() {
    let limit = getrlimit(Resource::Nofile);
    assert!(
        limit.maximum.is_none_or(|most| most >= 10_500),
        "this test opens 10,000 connections: raise the hard limit of open files"
    );
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .unwrap();
    let upstream = Upstream::json("{}");
    let (_dir, path) = folder(&upstream.url()).await;
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[limits]\nconnections = 20000\n")).unwrap();
    let running = Running::start(&path, &["--log-level", "error"]);
    let before = resident(running.child.id());
    let mut held = connect(running.address, 10_000).await;
    sleep(Duration::from_secs(4)).await;
    let with = resident(running.child.id());
    println!("resident: {before} KiB idle, {with} KiB with 10,000 idle connections");
    assert!(before < IDLE, "{before} KiB without a connection");
    assert!(
        with < CEILING,
        "{with} KiB with 10,000 connections, {before} without"
    );
    // All of them still live, the first and the last too.
    for nth in [0, 5_000, 9_999] {
        held[nth]
            .send(&request("GET", "/api/version", &psk("plain"), ""))
            .await;
        assert_eq!(held[nth].answer("GET").await.unwrap().status, 200);
    }
    drop(held);
    assert_eq!(running.end().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_those_who_are_connected_are_served() {
    let upstream = Upstream::json("{}");
    let (_dir, path) = folder(&upstream.url()).await;
    let running = Running::start(&path, &[]);
    let pid = running.child.id().to_string();
    let mut first = Connection::open(running.address).await;
    let hello = request("GET", "/api/version", &psk("plain"), "");
    first.send(&hello).await;
    assert_eq!(first.answer("GET").await.unwrap().status, 200);
    let set = Command::new("prlimit")
        .args(["--nofile=40:4000", "--pid", &pid])
        .status()
        .expect("prlimit is there (Debian package util-linux)");
    assert!(set.success());
    let mut crowd = Vec::new();
    for _ in 0..80 {
        crowd.push(Connection::open(running.address).await);
    }
    sleep(Duration::from_millis(500)).await;
    for _ in 0..3 {
        first.send(&hello).await;
        assert_eq!(first.answer("GET").await.unwrap().status, 200);
    }
    drop(crowd);
    for _ in 0..3 {
        let answer = ask(running.address, "GET", "/api/version", &psk("plain"), "").await;
        assert_eq!(answer.status, 200);
    }
    let (code, log) = running.end();
    assert_eq!(code, 0, "{log}");
    assert_eq!(
        log.matches("cannot be accepted at the moment").count(),
        1,
        "{log}"
    );
}
