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

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{
    CHAT, Rig,
    client::{Connection, request},
    forge::psk_text,
    program::{Running, folder},
    psk,
};
use corpus::fill;
use testkit::upstream::{Received, Reply, Upstream};

/// What a smuggler puts behind its request: with a good key, and where nobody may go; then one that waits for the next
/// client's words.
const BEHIND: &str = "POST /api/pull HTTP/1.1\r\nHost: a\r\n{K}Content-Length: 2\r\n\r\n{}POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: 900\r\n\r\n";

struct Front(Child);

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx with one worker and one connection to `proxy` at a time, so that all clients share it.
async fn nginx(dir: &std::path::Path, proxy: SocketAddr) -> (Front, SocketAddr) {
    let address = free();
    let (conf, root) = (dir.join("nginx.conf"), dir.display());
    let text = format!(
        "pid {root}/pid;\nerror_log {root}/log;\nworker_processes 1;\nmaster_process off;\nevents {{}}\nhttp {{ access_log off; \
         client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root}; uwsgi_temp_path {root}; scgi_temp_path {root};\n\
         client_header_timeout 2s; client_body_timeout 2s; lingering_close off;\n\
         upstream gate {{ server {proxy} max_conns=1; keepalive 1; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://gate; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_set_header Host $http_host; proxy_request_buffering off; proxy_buffering off; proxy_read_timeout 5s; }} }} }}\n"
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = Command::new("nginx");
    command
        .args(["-p", &root.to_string(), "-c", conf.to_str().unwrap()])
        .args(["-g", "daemon off;"]);
    (started(command, address).await, address)
}

/// HAProxy with one thread and one connection to `proxy` at a time, which all clients share. `line`: how it speaks there.
async fn haproxy(dir: &std::path::Path, proxy: SocketAddr, line: &str) -> (Front, SocketAddr) {
    let address = free();
    let conf = dir.join("haproxy.cfg");
    let text = format!(
        "global\n    nbthread 1\n    maxconn 500\ndefaults\n    mode http\n    timeout connect 2s\n    timeout client 2s\n    timeout server 5s\n    \
         timeout http-request 2s\n    timeout http-keep-alive 2s\n    option http-keep-alive\n    http-reuse always\n\
         frontend door\n    bind {address}\n    default_backend gate\nbackend gate\n    server gate {proxy} maxconn 1 {line}\n"
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f", conf.to_str().unwrap()]);
    (started(command, address).await, address)
}

fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

async fn started(mut command: Command, address: SocketAddr) -> Front {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let front = Front(
        quiet
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?} (Debian packages nginx, haproxy; ci/setup): {e}")),
    );
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return front;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{command:?} does not listen");
}

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
    let (_front, address) = nginx(dir.path(), rig.address).await;
    pass(&rig.upstream, address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_past_haproxy_or_to_another_client() {
    let (rig, dir) = (rig().await, tempfile::tempdir().unwrap());
    let (_front, address) = haproxy(dir.path(), rig.address, "").await;
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
    let (_front, address) = haproxy(dir.path(), running.address, "proto h2").await;
    pass(&upstream, address).await;
}
