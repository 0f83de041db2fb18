//! TLS towards clients: which HTTP is chosen, and a certificate that is replaced under open connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{net::SocketAddr, path::Path, process::Command, sync::Arc, time::Duration};

use common::{
    client::request,
    program::{Running, folder},
    psk,
};
use testkit::upstream::Upstream;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};
use tokio_rustls::client::TlsStream;

/// A new certificate in `dir`, and its DER.
fn certificate(dir: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("tls.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().to_vec()
}

async fn serving(upstream: &Upstream, lines: &str) -> (tempfile::TempDir, Running, Vec<u8>) {
    let (dir, path) = folder(&upstream.url()).await;
    let der = certificate(dir.path());
    let text = std::fs::read_to_string(&path).unwrap();
    let tls = "[tls]\ncert = \"tls.pem\"\nkey = \"tls.key\"\n";
    std::fs::write(&path, format!("{lines}\n{text}\n{tls}")).unwrap();
    let running = Running::start_at(&path, &[], "ready: https://");
    (dir, running, der)
}

/// A request by curl: what it prints of the answer's HTTP and status.
fn curl(dir: &Path, address: SocketAddr, more: &[&str]) -> String {
    let (name, key) = &psk("plain")[0];
    let output = Command::new("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"])
        .args(["--cacert", dir.join("tls.pem").to_str().unwrap()])
        .args(["-H", &format!("{name}: {key}")])
        .args(["--resolve", &format!("localhost:{}:127.0.0.1", address.port())])
        .args(more)
        .arg(format!("https://localhost:{}/api/version", address.port()))
        .output()
        .expect("curl is there (Debian package curl)");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_chooses_which_http_is_spoken() {
    let upstream = Upstream::json("{}");
    let (dir, running, _) = serving(&upstream, "").await;
    assert_eq!(curl(dir.path(), running.address, &["--http2"]), "2 200");
    assert_eq!(curl(dir.path(), running.address, &["--http1.1"]), "1.1 200");
    // Without ALPN, HTTP/2's preface means nothing.
    assert_ne!(
        curl(dir.path(), running.address, &["--no-alpn", "--http2"]),
        "2 200"
    );
    assert_eq!(running.end().0, 0);
    let (dir, running, _) = serving(&upstream, "http2 = false").await;
    assert_eq!(curl(dir.path(), running.address, &["--http2"]), "1.1 200");
    assert_eq!(running.end().0, 0);
}

async fn connect(address: SocketAddr, trusted: &[u8]) -> Option<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.to_vec().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .ok()
}

/// Asks on an open connection; the first bytes of the answer.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream
        .write_all(&request("GET", "/api/version", &psk("plain"), ""))
        .await
        .unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"{}") {
        let mut room = [0; 1024];
        let n = stream.read(&mut room).await.unwrap();
        assert!(n > 0, "the connection ended");
        read.extend_from_slice(&room[..n]);
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_live_through_a_new_certificate() {
    let upstream = Upstream::json("{}");
    let (dir, running, first) = serving(&upstream, "").await;
    let mut open = connect(running.address, &first).await.unwrap();
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200"));
    let second = certificate(dir.path());
    running.signal("-HUP");
    let mut renewed = None;
    for _ in 0..200 {
        renewed = connect(running.address, &second).await;
        if renewed.is_some() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(
        ask(&mut renewed.expect("the new certificate is shown"))
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(connect(running.address, &first).await.is_none());
    // Put aside in the meantime, the connection of before goes on.
    sleep(Duration::from_millis(600)).await;
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200"));
    drop(open);
    assert_eq!(running.end().0, 0);
}
