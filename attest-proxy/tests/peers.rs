//! Who speaks for others: PROXY headers and forwarded addresses, from those who may, from those who must not, and through
//! real proxies.

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
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use attest_proxy::{clock::Clock, config::Settings, server::Server};
use common::{
    CHAT, ask,
    client::{Connection, request},
    program::{Running, folder},
    psk,
};
use testkit::upstream::Upstream;
use tokio::{sync::watch, time::sleep};

const V2: [u8; 28] = *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\x00\x00\x01\x00\x50\x01\xbb";

fn hello() -> Vec<u8> {
    request("GET", "/api/version", &psk("plain"), "")
}

/// The program with lines at the front of its configuration.
async fn program(upstream: &Upstream, lines: &str, limits: &str) -> (tempfile::TempDir, Running) {
    let (dir, path) = folder(&upstream.url()).await;
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{lines}\n{text}\n{limits}\n")).unwrap();
    let running = Running::start(&path, &["--log", "json"]);
    (dir, running)
}

/// The clients that a log names.
fn clients(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["target"] == "decision")
        .map(|line| line["peer"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_peers_begin_with_a_proxy_header_and_count_as_whom_they_name() {
    let upstream = Upstream::json("{}");
    let lines = "proxy-protocol = [\"127.0.0.1\"]";
    let limits = "[limits]\nconnections-per-peer = 1\nhandshake-timeout = \"500ms\"";
    let (_dir, running) = program(&upstream, lines, limits).await;
    let announced = |header: &[u8]| [header, &hello()].concat();
    let mut first = Connection::open(running.address).await;
    first
        .send(&announced(b"PROXY TCP4 198.51.100.7 127.0.0.1 1234 80\r\n"))
        .await;
    assert_eq!(first.answer("GET").await.unwrap().status, 200);
    // One place for each client, not for each proxy.
    let mut same = Connection::open(running.address).await;
    same.send(&announced(b"PROXY TCP4 198.51.100.7 127.0.0.1 1235 80\r\n"))
        .await;
    assert_eq!(same.answer("GET").await.unwrap().status, 503);
    let mut other = Connection::open(running.address).await;
    other.send(&announced(&V2)).await;
    assert_eq!(other.answer("GET").await.unwrap().status, 200);
    let mut split = Connection::open(running.address).await;
    let bytes = announced(b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n");
    for byte in &bytes[..40] {
        split.send(&[*byte]).await;
    }
    split.send(&bytes[40..]).await;
    assert_eq!(split.answer("GET").await.unwrap().status, 200);
    // Without, with half of one, with one and a half: closed, and nothing said.
    for bytes in [
        hello(),
        V2[..20].to_vec(),
        announced(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n"),
    ] {
        let mut connection = Connection::open(running.address).await;
        connection.send(&bytes).await;
        assert!(connection.is_closed().await);
    }
    let mut twice = Connection::open(running.address).await;
    twice
        .send(&[b"PROXY TCP4 198.51.100.9 127.0.0.1 1 2\r\n", &V2[..], &hello()].concat())
        .await;
    let said = twice.rest().await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
    // Another peer must not send one, and need not.
    let mut stranger = Connection::from([127, 0, 0, 2], running.address).await;
    stranger.send(&announced(&V2)).await;
    let said = stranger.rest().await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
    let mut stranger = Connection::from([127, 0, 0, 3], running.address).await;
    stranger.send(&hello()).await;
    assert_eq!(stranger.answer("GET").await.unwrap().status, 200);
    assert_eq!(upstream.received().len(), 4);
    let (_, log) = running.end();
    for client in ["198.51.100.7", "192.0.2.7", "2001:db8::7", "127.0.0.3"] {
        assert!(clients(&log).contains(&client.to_owned()), "{client}: {log}");
    }
    assert_eq!(
        log.matches("should begin with a PROXY header").count(),
        2,
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_addresses_are_believed_from_trusted_peers_and_go_nowhere() {
    let upstream = Upstream::json("{}");
    let lines = "trusted-peers = [\"127.0.0.1\", \"10.0.0.0/8\"]";
    let (_dir, running) = program(&upstream, lines, "[limits]\nconnections-per-peer = 1").await;
    let mut fields = psk("plain");
    for (name, value) in [
        ("X-Forwarded-For", "1.2.3.4, 198.51.100.7, 10.1.1.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "other"),
        ("X-Real-IP", "1.2.3.4"),
        ("Forwarded", "for=1.2.3.4"),
    ] {
        fields.push((name.into(), value.into()));
    }
    let bytes = request("POST", "/api/chat", &fields, CHAT);
    // A trusted peer has no bound of its own: it stands for many.
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut trusted = Connection::open(running.address).await;
        trusted.send(&bytes).await;
        assert_eq!(trusted.answer("POST").await.unwrap().status, 200);
        held.push(trusted);
    }
    let mut stranger = Connection::from([127, 0, 0, 9], running.address).await;
    stranger.send(&bytes).await;
    assert_eq!(stranger.answer("POST").await.unwrap().status, 200);
    for received in upstream.received() {
        let head = String::from_utf8(received.head).unwrap().to_lowercase();
        assert!(
            !head.contains("forwarded") && !head.contains("x-real-ip"),
            "{head}"
        );
    }
    let (_, log) = running.end();
    assert_eq!(
        clients(&log),
        ["198.51.100.7", "198.51.100.7", "198.51.100.7", "127.0.0.9"],
        "{log}"
    );
}

/// A proxy from Debian, ended with its value.
struct Front(Child);

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

async fn start(program: &str, arguments: &[&str], address: SocketAddr) -> Front {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| {
            panic!("{program} is there (Debian packages nginx, libnginx-mod-stream, haproxy): {e}")
        });
    let front = Front(child);
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return front;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{program} does not listen");
}

/// The proxy behind one of Debian's, which comes from 127.0.0.1 for a client at 127.0.0.5.
async fn behind(front: impl AsyncFn(&Path, SocketAddr, SocketAddr) -> Front) {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::json("{}");
    let (_folder, running) = program(&upstream, "proxy-protocol = [\"127.0.0.1\"]", "").await;
    let address = free();
    let _front = front(dir.path(), address, running.address).await;
    for _ in 0..2 {
        let mut connection = Connection::from([127, 0, 0, 5], address).await;
        connection.send(&hello()).await;
        assert_eq!(connection.answer("GET").await.unwrap().status, 200);
    }
    let (_, log) = running.end();
    assert_eq!(clients(&log), ["127.0.0.5", "127.0.0.5"], "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_says_for_whom_it_speaks() {
    behind(async |dir, address, proxy| {
        let conf = dir.join("nginx.conf");
        let dir = dir.display();
        let text = format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\npid {dir}/pid;\nerror_log {dir}/log;\n\
             events {{}}\nstream {{ server {{ listen {address}; proxy_pass {proxy}; proxy_protocol on; }} }}\n"
        );
        std::fs::write(&conf, text).unwrap();
        let arguments = ["-p", &dir.to_string(), "-c", conf.to_str().unwrap(), "-g", "daemon off;"];
        start("nginx", &arguments, address).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_says_for_whom_it_speaks() {
    for version in ["send-proxy", "send-proxy-v2"] {
        behind(async |dir, address, proxy| {
            let conf = dir.join("haproxy.cfg");
            let text = format!(
                "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
                 listen front\n  bind {address}\n  server proxy {proxy} {version}\n"
            );
            std::fs::write(&conf, text).unwrap();
            start("haproxy", &["-f", conf.to_str().unwrap(), "-db"], address).await
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_behind_nginx_is_counted_by_its_clients() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::json("{}");
    let (_folder, running) = program(&upstream, "trusted-peers = [\"127.0.0.1\"]", "").await;
    let address = free();
    let conf = dir.path().join("nginx.conf");
    let root = dir.path().display();
    let text = format!(
        "pid {root}/pid;\nerror_log {root}/log;\nevents {{}}\nhttp {{ access_log off; \
         client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root}; uwsgi_temp_path {root}; scgi_temp_path {root};\n\
         server {{ listen {address}; location / {{ proxy_pass http://{}; \
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}\n",
        running.address
    );
    std::fs::write(&conf, text).unwrap();
    let arguments = [
        "-p",
        &root.to_string(),
        "-c",
        conf.to_str().unwrap(),
        "-g",
        "daemon off;",
    ];
    let _front = start("nginx", &arguments, address).await;
    let mut fields = psk("plain");
    fields.push(("X-Forwarded-For".into(), "1.2.3.4".into()));
    let mut connection = Connection::from([127, 0, 0, 5], address).await;
    connection
        .send(&request("GET", "/api/version", &fields, ""))
        .await;
    assert_eq!(connection.answer("GET").await.unwrap().status, 200);
    let (_, log) = running.end();
    assert_eq!(clients(&log), ["127.0.0.5"], "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_has_its_time_and_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::json("{}");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.path().join("tls.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let url = format!("sqlite:{}", dir.path().join("registry.db").display())
        .parse()
        .unwrap();
    let more = "[tls]\ncert = \"tls.pem\"\nkey = \"tls.key\"\n[limits]\nhandshakes = 1\nhandshake-timeout = \"700ms\"";
    let text = common::config(dir.path(), &upstream.url(), &url, more);
    let settings = Settings::parse(&dir.path().join("p.toml"), &text).unwrap();
    let server = Server::bind(settings, Clock::System).await.unwrap();
    let address = server.address().unwrap();
    let operators = server.operator_address().unwrap();
    let (_stop, stopped) = watch::channel(false);
    let task = tokio::spawn(server.run(stopped));
    let begun = std::time::Instant::now();
    let mut silent = Connection::open(address).await;
    let mut second = Connection::open(address).await;
    second.send(b"\x16\x03\x01").await;
    assert!(silent.is_closed().await && second.is_closed().await);
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(500) && took < Duration::from_secs(8),
        "{took:?}"
    );
    assert_eq!(ask(operators, "GET", "/healthz", &[], "").await.status, 200);
    task.abort();
}
