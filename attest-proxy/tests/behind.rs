//! The same corpus through Debian's nginx and HAProxy in front, set up as an ingress is: one connection to the proxy for all
//! clients, kept alive; HAProxy speaks HTTP/1 to it, and HTTP/2. Two parsers now read each request. Whatever the first makes of it, nothing that is not allowed reaches the
//! upstream, and no client is given what another one asked for.

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

use std::{net::SocketAddr, time::Duration};

use common::{
    CHAT, Rig,
    client::{Connection, request},
    forge::psk_text,
    fronts::{haproxy, nginx},
    program::{Running, folder},
    psk,
};
use corpus::fill;
use testkit::upstream::{Received, Reply, Upstream};

/// What a smuggler puts behind its request: with a good key, and where nobody may go; then one that waits for the next
/// client's words.
const BEHIND: &str = "POST /api/pull HTTP/1.1\r\nHost: a\r\n{K}Content-Length: 2\r\n\r\n{}POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: 900\r\n\r\n";

/// Says what it was asked.
fn echo(received: &Received) -> Reply {
    let asked = received.text();
    let mark = asked.split("mark-").nth(1).unwrap_or("none");
    let mark: String = mark.chars().take_while(char::is_ascii_digit).collect();
    Reply::json(200, &format!(r#"{{"asked":"{mark}","done":true}}"#))
}

/// A client that only wants its own answer.
async fn bystander(address: SocketAddr, nth: usize) -> Result<(), String> {
    let body = CHAT.replace("Gleis?", &format!("mark-{nth}"));
    let mut connection = Connection::open(address).await;
    connection
        .send(&request("POST", "/api/chat", &psk("plain"), &body))
        .await;
    let answer = connection.answer("POST").await.ok_or("no answer")?;
    let mark = nth.to_string();
    let own = answer.status == 200 && answer.json()["asked"] == mark;
    if own { Ok(()) } else { Err(format!("{answer:?}")) }
}

/// Whether a request may be seen behind the proxy.
fn allowed(seen: &Received) -> bool {
    let method = (seen.method.as_str(), seen.target.split('?').next().unwrap_or(""));
    let everything = String::from_utf8_lossy(&seen.everything()).into_owned();
    let body = match method {
        ("POST", "/api/chat") => {
            let plain = seen.text();
            plain == CHAT
                || plain.contains("mark-")
                    && plain.starts_with("{\"model\":\"smollm2:135m\"")
                    && plain.ends_with("}]}")
        }
        ("GET" | "HEAD", "/api/version" | "/api/tags" | "/api/ps" | "/v1/models") => seen.body.is_empty(),
        _ => false,
    };
    let lengths = seen.header("content-length").len() + seen.header("transfer-encoding").len();
    body && lengths <= 1
        && seen.header("host").len() == 1
        && !everything.contains(&psk_text("plain"))
        && !everything.contains("/api/pull")
        && seen
            .head
            .iter()
            .all(|b| *b >= b' ' || matches!(b, b'\r' | b'\n' | b'\t'))
}

async fn rig() -> Rig {
    Rig::with(Upstream::start(echo), "[limits]\nheader-timeout = \"5s\"").await
}

/// Sends everything through a front.
async fn pass(upstream: &Upstream, address: SocketAddr) {
    bystander(address, 0).await.unwrap();
    let odd = corpus::conforming::cases();
    let hostile = corpus::malformed()
        .into_iter()
        .map(|case| (case.name, case.bytes));
    let odd = odd.into_iter().map(|(name, bytes, _)| (name.to_owned(), bytes));
    let mut wrong = Vec::new();
    for (nth, (name, bytes)) in hostile.chain(odd).enumerate() {
        let before = upstream.received().len();
        let mut connection = Connection::open(address).await;
        connection.send(&[&bytes[..], &fill(BEHIND)].concat()).await;
        // The smuggler stays; another client comes, over the same connection between nginx and the proxy.
        let _ = connection.rest_after(Duration::from_millis(15), |_| false).await;
        if let Err(got) = bystander(address, nth + 1).await {
            wrong.push(format!("{name}: the next client got {got:.300}"));
        }
        for seen in upstream.received().iter().skip(before) {
            if !allowed(seen) {
                wrong.push(format!(
                    "{name}: reached the upstream: {:.600}",
                    String::from_utf8_lossy(&seen.everything())
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_past_nginx_or_to_another_client() {
    let (rig, dir) = (rig().await, tempfile::tempdir().unwrap());
    let (_front, address) = nginx(dir.path(), rig.address, 1).await;
    pass(&rig.upstream, address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_past_haproxy_or_to_another_client() {
    let (rig, dir) = (rig().await, tempfile::tempdir().unwrap());
    let (_front, address) = haproxy(dir.path(), rig.address, 1, "").await;
    pass(&rig.upstream, address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_past_haproxy_that_speaks_http2_to_us() {
    // All clients are streams of one connection: what one of them breaks is its own. A proxy in front is a trusted peer.
    let upstream = Upstream::start(echo);
    let (dir, path) = folder(&upstream.url()).await;
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("trusted-peers = [\"127.0.0.1\"]\n{text}")).unwrap();
    let running = Running::start(&path, &[]);
    let (_front, address) = haproxy(dir.path(), running.address, 1, "proto h2").await;
    pass(&upstream, address).await;
}
