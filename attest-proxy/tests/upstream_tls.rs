//! TLS towards the model servers: nginx (OpenSSL) and rustls as the servers, certificates that are to be believed and
//! others, and a CA that is replaced while the proxy runs.

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
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use attest_proxy::upstream::Standing;
use common::{
    Answer, CHAT, Rig, ask,
    program::{Running, folder},
    psk,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use testkit::upstream::{Gate, Reply, Upstream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

struct Ca(Issuer<'static, KeyPair>, rcgen::Certificate);

/// A certificate and its key.
struct Leaf(rcgen::Certificate, KeyPair);

impl Ca {
    fn new() -> Self {
        Self::named("ours")
    }

    fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        Self(Issuer::new(params, key), cert)
    }

    fn leaf(&self, name: &str, until: i32) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        Leaf(params.signed_by(&key, &self.0).unwrap(), key)
    }

    fn write(&self, path: &Path) {
        std::fs::write(path, self.1.pem()).unwrap();
    }
}

impl Leaf {
    fn write(&self, dir: &Path, name: &str) -> [PathBuf; 2] {
        let [cert, key] = ["pem", "key"].map(|end| dir.join(format!("{name}.{end}")));
        std::fs::write(&cert, self.0.pem()).unwrap();
        std::fs::write(&key, self.1.serialize_pem()).unwrap();
        [cert, key]
    }

    /// rustls's side of a server with it, which asks for certificates of `clients` if there is one.
    fn server(&self, clients: Option<&Ca>) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(ca.1.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(self.1.serialize_der().into());
        config.with_single_cert(vec![self.0.der().clone()], key).unwrap()
    }
}

/// TLS in front of `upstream`.
async fn front(config: ServerConfig, upstream: &Upstream) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, to) = (listener.local_addr().unwrap(), upstream.address());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut inner) = acceptor.accept(stream).await else {
                    return;
                };
                let mut behind = TcpStream::connect(to).await.unwrap();
                let _ = copy_bidirectional(&mut inner, &mut behind).await;
            });
        }
    });
    address
}

struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx with TLS in front of `upstream`; only for clients with a certificate of `client_ca`.
async fn nginx(
    dir: &Path,
    [cert, key]: &[PathBuf; 2],
    client_ca: &Path,
    upstream: &Upstream,
) -> (Nginx, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let (conf, root) = (dir.join("nginx.conf"), dir.display());
    let text = format!(
        "pid {root}/pid;\nerror_log {root}/log;\nmaster_process off;\nevents {{}}\nhttp {{ access_log off; \
         client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root}; uwsgi_temp_path {root}; scgi_temp_path {root};\n\
         server {{ listen {address} ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; ssl_verify_client on;\n\
         location / {{ proxy_pass {}; proxy_http_version 1.1; proxy_buffering off; proxy_set_header Seen-Host $http_host; \
         proxy_set_header Seen-Tls \"$ssl_protocol $ssl_client_verify\"; }} }} }}\n",
        cert.display(),
        key.display(),
        client_ca.display(),
        upstream.url(),
    );
    std::fs::write(&conf, text).unwrap();
    let child = Command::new("nginx")
        .args([
            "-p",
            &root.to_string(),
            "-c",
            conf.to_str().unwrap(),
            "-g",
            "daemon off;",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("nginx is there (Debian package nginx): {e}"));
    let nginx = Nginx(child);
    for _ in 0..500 {
        if TcpStream::connect(address).await.is_ok() {
            return (nginx, address);
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!(
        "nginx does not listen: {}",
        std::fs::read_to_string(dir.join("log")).unwrap_or_default()
    );
}

/// `[upstream-tls]` and servers at `urls`.
fn servers(urls: &[String], tls: &str) -> String {
    let of_each = |url: &String| format!("[[upstreams]]\nurl = \"{url}\"\n");
    let servers: String = urls.iter().map(of_each).collect();
    format!("[upstream-tls]\n{tls}\n{servers}")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain for {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_health_checks_travel_in_tls_with_our_certificate() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::start(move |received| match received.target.as_str() {
        "/api/chat" => Reply::stream(200, "application/x-ndjson")
            .chunk("{\"message\":{\"content\":\"Gleis\"}}\n")
            .wait(&held)
            .chunk("{\"done\":true}\n"),
        _ => Reply::json(200, r#"{"models":[{"name":"smollm2:135m"}]}"#),
    });
    let ca_file = dir.path().join("ca.pem");
    ca.write(&ca_file);
    let server = ca.leaf("ollama.test", 2100).write(dir.path(), "server");
    let [cert, key] = ca.leaf("proxy", 2100).write(dir.path(), "proxy");
    let (_nginx, address) = nginx(dir.path(), &server, &ca_file, &upstream).await;
    let tls = format!("ca = {ca_file:?}\ncert = {cert:?}\nkey = {key:?}\nserver-name = \"ollama.test\"");
    let rig = Rig::with(
        Upstream::json("{}"),
        &servers(&[format!("https://{address}")], &tls),
    )
    .await;
    until("a round", || {
        rig.proxy
            .upstream
            .servers()
            .iter()
            .all(|s| s.installed == Some(1))
    })
    .await;
    let (fields, opened) = (psk("plain"), async {
        upstream
            .until("the request", |u| u.received().iter().any(|r| r.method == "POST"))
            .await;
        gate.open();
    });
    let (answer, ()) = tokio::join!(rig.chat(&fields), opened);
    assert_eq!(answer.status, 200);
    assert!(answer.text().ends_with("{\"done\":true}\n"), "{}", answer.text());
    let received = upstream.received();
    let chat = received.iter().find(|r| r.method == "POST").unwrap();
    // What nginx 1.22 speaks by itself; rustls, below, speaks 1.3.
    assert_eq!(chat.header("seen-tls"), ["TLSv1.2 SUCCESS"]);
    assert_eq!(chat.header("seen-host"), [address.to_string()]);
    // One connection was enough: it is kept as others are.
    assert_eq!(rig.chat(&fields).await.status, 200);
}

/// What a request comes to, and what the log of the servers says, with `config` as the server's TLS.
async fn refused(config: ServerConfig, tls: &str) -> (Answer, String) {
    let upstream = Upstream::json(r#"{"done":true}"#);
    let address = front(config, &upstream).await;
    let rig = Rig::with(
        Upstream::json("{}"),
        &servers(&[format!("https://localhost:{}", address.port())], tls),
    )
    .await;
    let answer = rig.chat(&psk("plain")).await;
    let why = match &rig.proxy.upstream.round().await[..] {
        [(server, Err(error))] => format!("{server}: {error}"),
        other => panic!("{other:?}"),
    };
    assert!(upstream.received().is_empty(), "{:?}", upstream.received());
    until("ejection", || {
        rig.proxy.upstream.servers()[0].standing == Standing::Gone
    })
    .await;
    (answer, why)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_to_be_believed_is_told_nothing() {
    let (ca, other, dir) = (Ca::new(), Ca::named("theirs"), tempfile::tempdir().unwrap());
    let ca_file = dir.path().join("ca.pem");
    ca.write(&ca_file);
    let tls = format!("ca = {ca_file:?}");
    let right = |name| ca.leaf(name, 2100);
    let mut h2 = right("localhost").server(None);
    h2.alpn_protocols = vec![b"h2".to_vec()];
    for (what, config) in [
        ("UnknownIssuer", other.leaf("localhost", 2100).server(None)),
        // Of a CA that calls itself as ours does.
        ("BadSignature", Ca::new().leaf("localhost", 2100).server(None)),
        ("not valid for name \"localhost\"", right("gpu-2").server(None)),
        ("expired", ca.leaf("localhost", 2021).server(None)),
        // We have none.
        ("CertificateRequired", right("localhost").server(Some(&ca))),
        ("NoApplicationProtocol", h2),
    ] {
        let (answer, why) = refused(config, &tls).await;
        assert!([502, 503].contains(&answer.status), "{what}: {}", answer.text());
        assert!(
            why.starts_with("https://localhost:") && why.contains(what),
            "{what}: {why}"
        );
        assert!(!answer.text().contains("localhost"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_leaves_without_tls_where_the_server_speaks_none() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let ca_file = dir.path().join("ca.pem");
    ca.write(&ca_file);
    let upstream = Upstream::json("{}");
    let url = upstream.url().replace("http:", "https:");
    let more = format!(
        "limits.connect-timeout = \"300ms\"\n{}",
        servers(&[url], &format!("ca = {ca_file:?}"))
    );
    let rig = Rig::with(
        Upstream::json("{}"),
        &more.replace("limits.connect-timeout", "[limits]\nconnect-timeout"),
    )
    .await;
    let answer = rig.chat(&psk("plain")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "no-upstream"));
    assert!(
        upstream.received().iter().all(|r| r.method != "POST"),
        "{:?}",
        upstream.received()
    );
}

/// An answer that ends with its connection, which is closed as TLS closes, or torn.
async fn ended_by(torn: bool) -> Answer {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let ca_file = dir.path().join("ca.pem");
    ca.write(&ca_file);
    let acceptor = TlsAcceptor::from(Arc::new(ca.leaf("127.0.0.1", 2100).server(None)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).await.unwrap();
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n{\"n\":1}\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            if !torn {
                stream.shutdown().await.unwrap();
            }
        }
    });
    let more = servers(&[format!("https://{address}")], &format!("ca = {ca_file:?}"));
    let rig = Rig::with(
        Upstream::json("{}"),
        &more.replace("[[upstreams]]", "[[upstreams]]\nmax-streams = 9"),
    )
    .await;
    rig.chat(&psk("plain")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_somebody_cut_off_is_not_taken_for_whole() {
    let whole = ended_by(false).await;
    assert_eq!((whole.status, whole.text().as_str()), (200, "{\"n\":1}\n"));
    let torn = ended_by(true).await;
    assert!(torn.text().contains("upstream-failed"), "{}", torn.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_the_ca_again_and_check_names_what_is_wrong() {
    let (ca, other) = (Ca::new(), Ca::named("theirs"));
    let upstream = Upstream::json(r#"{"done":true}"#);
    let address = front(ca.leaf("localhost", 2100).server(None), &upstream).await;
    let (dir, path) = folder(&format!("https://localhost:{}", address.port())).await;
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[upstream-tls]\nca = \"ca.pem\"\n")).unwrap();
    let ca_file = dir.path().join("ca.pem");
    let check = || {
        let output = Command::new(env!("CARGO_BIN_EXE_attest-proxy"))
            .args(["check", "--config", path.to_str().unwrap()])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = check();
    assert_eq!(code, Some(1));
    assert!(
        said.contains("FAILED upstream tls   upstream-tls: cannot read the upstreams' CA"),
        "{said}"
    );
    other.write(&ca_file);
    let (code, said) = check();
    assert_eq!(code, Some(1));
    assert!(
        said.contains(&format!(
            "https://localhost:{}: no TLS with the upstream as localhost",
            address.port()
        )),
        "{said}"
    );
    assert!(said.contains("UnknownIssuer"), "{said}");
    ca.write(&ca_file);
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(&format!(
            "ok     upstream       https://localhost:{}",
            address.port()
        )),
        "{said}"
    );

    let running = Running::start(&path, &[]);
    let fields = psk("plain");
    let chat = || ask(running.address, "POST", "/api/chat", &fields, CHAT);
    assert_eq!(chat().await.status, 200);
    // Another CA: the connection that is kept is used no more.
    other.write(&ca_file);
    running.signal("-HUP");
    let mut status = 200;
    for _ in 0..200 {
        status = chat().await.status;
        if status != 200 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status, 503);
    // One that cannot be read changes nothing; the right one lets requests through again.
    std::fs::write(&ca_file, "none").unwrap();
    running.signal("-HUP");
    sleep(Duration::from_millis(300)).await;
    assert_eq!(chat().await.status, 503);
    ca.write(&ca_file);
    running.signal("-HUP");
    for _ in 0..400 {
        status = chat().await.status;
        if status == 200 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status, 200);
    let (code, log) = running.end();
    assert_eq!(code, 0);
    assert!(
        log.contains("nothing was reloaded") && log.contains("there is no certificate in"),
        "{log}"
    );
}
