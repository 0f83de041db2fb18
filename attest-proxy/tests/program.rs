//! The program as it is started: command line, exit codes, signals, log, and what it links.

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
    process::{Command, Output, Stdio},
    time::Duration,
};

use common::{
    ask, client, forge,
    program::{Running, folder},
    psk,
};
use testkit::{Canary, upstream::Upstream};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_attest-proxy"))
}

fn output(args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program().args(args).output().unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

#[test]
fn the_example_is_printed_and_parses() {
    let (code, out, err) = output(&["config", "--example"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, attest_proxy::config::EXAMPLE);
    attest_proxy::config::Settings::parse(Path::new("x.toml"), &out).unwrap();
}

#[test]
fn help_version_and_completions() {
    let (code, out, _) = output(&["--version"]);
    assert_eq!(
        (code, out.trim()),
        (0, concat!("attest-proxy ", env!("CARGO_PKG_VERSION")))
    );
    let (code, out, _) = output(&["--help"]);
    assert_eq!(code, 0);
    for word in [
        "serve",
        "check",
        "config",
        "completions",
        "Exit codes",
        "openssl rand",
    ] {
        assert!(out.contains(word), "{word} is not in\n{out}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = output(&["completions", shell]);
        assert!(code == 0 && out.contains("attest-proxy"), "{shell}");
    }
}

#[test]
fn wrong_use_and_wrong_files_have_their_codes() {
    assert_eq!(output(&[]).0, 2);
    assert_eq!(output(&["serve"]).0, 2);
    let (code, _, err) = output(&["serve", "--config", "/nonexistent.toml"]);
    assert!(code == 1 && err.contains("/nonexistent.toml"), "{err}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.toml");
    std::fs::write(&path, "listen = 7\n").unwrap();
    for command in ["serve", "check"] {
        let (code, out, err) = output(&[command, "--config", path.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("p.toml:1:10: ") && err.contains('^'), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_works() {
    let upstream = Upstream::json("{}");
    let (dir, path) = folder(&upstream.url()).await;
    let config = path.to_str().unwrap().to_owned();
    let (code, out, err) = output(&["check", "--config", &config]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("2 devices can be admitted, 0 cannot"), "{out}");
    let (code, out, _) = output(&["check", "--config", &config, "--json"]);
    let object: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (
            code,
            object["ok"].as_bool(),
            object["checks"].as_array().unwrap().len()
        ),
        (0, Some(true), 4)
    );
    // A key that others can read, a registry and an upstream that are not there.
    drop(upstream);
    std::fs::remove_file(dir.path().join("registry.db")).unwrap();
    Command::new("chmod")
        .args(["644", dir.path().join("fleet.key").to_str().unwrap()])
        .status()
        .unwrap();
    let (code, out, _) = output(&["check", "--config", &config, "--json"]);
    let object: serde_json::Value = serde_json::from_str(&out).unwrap();
    let bad: Vec<_> = object["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["ok"] == false)
        .collect();
    let names: Vec<_> = bad.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(
        (code, names),
        (1, vec!["fleet key", "registry", "upstream"]),
        "{out}"
    );
    assert!(!dir.path().join("registry.db").exists(), "check made a registry");
    let (code, _, err) = output(&["serve", "--config", &config]);
    assert!(code == 1 && err.contains("chmod 600"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_reloads_drains_and_logs_no_secret() {
    let upstream = Upstream::json(r#"{"done":true}"#);
    let (dir, path) = folder(&upstream.url()).await;
    let running = Running::start(&path, &["--log", "json"]);
    let prompt = "the canary of the prompt";
    let body = format!(r#"{{"model":"smollm2:135m","prompt":"{prompt}"}}"#);
    assert_eq!(
        ask(running.address, "POST", "/api/generate", &psk("plain"), &body)
            .await
            .status,
        200
    );
    assert_eq!(
        ask(running.address, "POST", "/api/generate", &psk("kiosk"), &body)
            .await
            .status,
        401
    );
    let twice = body.replace("\"prompt\"", "\"Prompt\"");
    assert_eq!(
        ask(running.address, "POST", "/api/generate", &psk("plain"), &twice)
            .await
            .status,
        400
    );
    let stranger = [(
        "X-Pre-Shared-Key".to_owned(),
        "sbx_a-stranger-of-32-characters-or-more".to_owned(),
    )];
    assert_eq!(
        ask(running.address, "GET", "/api/\u{1b}[31m", &stranger, "")
            .await
            .status,
        400
    );
    assert_eq!(
        ask(running.address, "GET", "/api/tags?secret=query", &stranger, "")
            .await
            .status,
        401
    );
    assert_eq!(
        ask(running.operators, "GET", "/readyz", &[], "").await.status,
        200
    );
    // A key that cannot be used is not taken, and the one of before stays.
    let key = dir.path().join("fleet.key");
    let good = std::fs::read(&key).unwrap();
    std::fs::write(&key, "nonsense").unwrap();
    running.signal("-HUP");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        ask(running.address, "GET", "/attest/v1/challenge", &psk("kiosk"), "")
            .await
            .status,
        200
    );
    std::fs::write(&key, good).unwrap();
    running.signal("-HUP");
    tokio::time::sleep(Duration::from_millis(200)).await;
    // An open connection that asks for nothing does not hold up the end.
    let idle = client::Connection::open(running.address).await;
    let (code, log) = running.end();
    drop(idle);
    assert_eq!(code, 0, "{log}");
    let lines: Vec<serde_json::Value> = log
        .lines()
        .filter(|l| l.starts_with('{'))
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let decisions: Vec<_> = lines.iter().filter(|l| l["target"] == "decision").collect();
    let one = |device: &str, outcome: &str| {
        decisions
            .iter()
            .find(|l| l["device"] == device && l["outcome"] == outcome)
            .unwrap_or_else(|| panic!("{log}"))
    };
    assert_eq!(one("plain", "admitted")["path"], "/api/generate");
    assert_eq!(one("kiosk", "refused")["code"], "evidence-missing");
    assert_eq!(one("kiosk", "refused")["status"], 401);
    assert!(
        one("plain", "refused")["why"]
            .as_str()
            .unwrap()
            .contains("case alone")
    );
    assert!(
        log.contains("nothing was reloaded") && log.contains("were read again"),
        "{log}"
    );
    for (name, secret) in [
        ("psk", forge::psk_text("plain")),
        ("psk", forge::psk_text("kiosk")),
        ("stranger's key", stranger[0].1.clone()),
        ("prompt", prompt.to_owned()),
        ("query", "secret=query".to_owned()),
    ] {
        assert!(
            Canary::new(name, secret.as_bytes())
                .find_in("log", log.as_bytes())
                .is_empty(),
            "{name} is in\n{log}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_the_whole_verdict_and_the_answer_none_of_it() {
    let upstream = Upstream::json("{}");
    let (_dir, path) = folder(&upstream.url()).await;
    let running = Running::start(&path, &[]);
    let challenge = ask(running.address, "GET", "/attest/v1/challenge", &psk("kiosk"), "")
        .await
        .json();
    let nonce = data_encoding::BASE64
        .decode(challenge["nonce"].as_str().unwrap().as_bytes())
        .unwrap();
    // Another TPM than the registered one, in another state, bound to something else.
    let mut tpm = forge::Tpm::new();
    tpm.extend();
    let evidence = tpm.quote(&[0; 32]);
    let fields = common::quote_headers(&evidence, &nonce);
    let answer = ask(running.address, "POST", "/api/chat", &fields, common::CHAT).await;
    assert_eq!((answer.status, answer.code()), (401, "evidence-invalid".into()));
    let (_, log) = running.end();
    let line = log.lines().find(|l| l.contains("evidence-invalid")).unwrap();
    for part in [
        "kiosk",
        "not by the registered AK",
        "answers another challenge",
        "PCR 11 differs",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
        assert!(!answer.text().contains(part));
    }
}

/// A certificate for `localhost`, made by openssl (Debian package openssl); its DER.
fn certificate(dir: &Path) -> Vec<u8> {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        // One that rustls takes as a server's and as its own authority.
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-out",
        &path("tls.pem"),
        "-keyout",
        &path("tls.key"),
    ];
    assert!(
        Command::new("openssl")
            .args(arguments)
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    let der = Command::new("openssl")
        .args(["x509", "-in", &path("tls.pem"), "-outform", "DER"])
        .output()
        .unwrap();
    der.stdout
}

/// The certificate that a TLS server shows, after a request that it answered with 200.
async fn shown(address: SocketAddr, trusted: &[u8]) -> Option<Vec<u8>> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.to_vec().into()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut tls = connector
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .ok()?;
    tls.write_all(&client::request("GET", "/api/version", &psk("plain"), ""))
        .await
        .unwrap();
    let mut head = [0; 12];
    tls.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    Some(tls.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_served_and_its_certificate_reloaded() {
    let upstream = Upstream::json("{}");
    let (dir, path) = folder(&upstream.url()).await;
    let first = certificate(dir.path());
    let plain = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        format!("{plain}\n[tls]\ncert = \"tls.pem\"\nkey = \"tls.key\"\n"),
    )
    .unwrap();
    let running = Running::start_at(&path, &[], "ready: https://");
    assert_eq!(shown(running.address, &first).await, Some(first.clone()));
    // Plain HTTP gets no answer there.
    let mut connection = client::Connection::open(running.address).await;
    connection
        .send(&client::request("GET", "/api/version", &psk("plain"), ""))
        .await;
    assert!(!connection.rest().await.contains("HTTP/1.1"));
    let second = certificate(dir.path());
    running.signal("-HUP");
    let mut taken = false;
    for _ in 0..100 {
        taken = shown(running.address, &second).await == Some(second.clone());
        if taken {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(taken, "the new certificate is not shown");
    assert_eq!(shown(running.address, &first).await, None);
    assert_eq!(running.end().0, 0);
    // A certificate that is not there is said at the start.
    std::fs::remove_file(dir.path().join("tls.pem")).unwrap();
    let (code, _, err) = output(&["serve", "--config", path.to_str().unwrap()]);
    assert!(code == 1 && err.contains("tls.pem"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_core_is_dumped() {
    let upstream = Upstream::json("{}");
    let (_dir, path) = folder(&upstream.url()).await;
    let running = Running::start(&path, &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.child.id())).unwrap();
    let core = limits
        .lines()
        .find(|l| l.starts_with("Max core file size"))
        .unwrap();
    let numbers: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"], "{core}");
    assert_eq!(running.end().0, 0);
}

#[test]
fn it_links_libc_and_nothing_else() {
    let Output { status, stdout, .. } = Command::new("readelf")
        .args(["-d", env!("CARGO_BIN_EXE_attest-proxy")])
        .output()
        .expect("readelf is there (Debian package binutils)");
    assert!(status.success());
    let text = String::from_utf8(stdout).unwrap();
    let needed: Vec<_> = text
        .lines()
        .filter(|l| l.contains("(NEEDED)"))
        .map(|l| l.split(['[', ']']).nth(1).unwrap())
        .collect();
    assert!(needed.contains(&"libc.so.6"), "{text}");
    for library in needed {
        let known =
            ["libc.so.6", "libm.so.6", "libgcc_s.so.1"].contains(&library) || library.starts_with("ld-linux");
        assert!(known, "it needs {library}");
    }
}
