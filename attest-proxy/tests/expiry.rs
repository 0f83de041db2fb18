//! When certificates end: what `check` says and exits with, and what the running program's metrics and log say.

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
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::{
    ask,
    program::{Running, folder},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use testkit::upstream::Upstream;
use tokio::time::sleep;

/// A time so many days from now, as whole seconds and as rcgen has it.
fn in_days(days: i64) -> (u64, SystemTime) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = now.checked_add_signed(days * 86_400).unwrap();
    (at, UNIX_EPOCH + Duration::from_secs(at))
}

fn params(days: i64, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = in_days(days).1.into();
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

/// `tls.pem`, its leaf and the intermediate above it ending in so many days, and `tls.key`.
fn server(dir: &Path, leaf: i64, above: i64) {
    let (key, issuer_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let issuer = params(above, true).self_signed(&issuer_key).unwrap();
    let by = Issuer::new(params(above, true), issuer_key);
    let leaf = params(leaf, false).signed_by(&key, &by).unwrap();
    std::fs::write(dir.join("tls.pem"), leaf.pem() + &issuer.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
}

/// `ca.pem`, with a CA for each of these.
fn cas(dir: &Path, days: &[i64]) {
    let one = |days: &i64| {
        let key = KeyPair::generate().unwrap();
        params(*days, true).self_signed(&key).unwrap().pem()
    };
    std::fs::write(dir.join("ca.pem"), days.iter().map(one).collect::<String>()).unwrap();
}

async fn configured(upstream: &Upstream) -> (tempfile::TempDir, PathBuf) {
    let (dir, path) = folder(&upstream.url()).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let tls = "[tls]\ncert = \"tls.pem\"\nkey = \"tls.key\"\nclient-ca = \"ca.pem\"\n";
    std::fs::write(&path, format!("{text}\n{tls}")).unwrap();
    (dir, path)
}

fn check(config: &Path, more: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_attest-proxy"))
        .args(["check", "--config", config.to_str().unwrap()])
        .args(more)
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

/// Exit code, and of the two checks: whether it is well, whether it warns, what it says.
fn judged(config: &Path) -> (i32, [(bool, bool, String); 2]) {
    let (code, out) = check(config, &["--json"]);
    let object: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(object["ok"], code == 0);
    let of = |name: &str| {
        let all = object["checks"].as_array().unwrap();
        let one = all.iter().find(|check| check["name"] == name).unwrap();
        (
            one["ok"].as_bool().unwrap(),
            one["warning"].as_bool().unwrap(),
            one["detail"].as_str().unwrap().to_owned(),
        )
    };
    (code, [of("tls"), of("client ca")])
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_before_certificates_end_and_fails_after() {
    let upstream = Upstream::json("{}");
    let (dir, path) = configured(&upstream).await;
    let dir = dir.path();
    // Leaf and intermediate of the server, client CAs; then the exit code, and each as (well, warned, said).
    type Case<'a> = (
        (i64, i64),
        &'a [i64],
        i32,
        (bool, bool, &'a str),
        (bool, bool, &'a str),
    );
    let cases: [Case<'_>; 8] = [
        (
            (90, 900),
            &[900],
            0,
            (true, false, ", until 2"),
            (true, false, ", until 2"),
        ),
        (
            (13, 900),
            &[900],
            0,
            (true, true, " ends at 2"),
            (true, false, ", until 2"),
        ),
        (
            (15, 900),
            &[900],
            0,
            (true, false, ", until 2"),
            (true, false, ", until 2"),
        ),
        (
            (900, 13),
            &[900],
            0,
            (true, true, " ends at 2"),
            (true, false, ", until 2"),
        ),
        (
            (-1, 900),
            &[900],
            1,
            (false, false, "clients refuse it"),
            (true, false, ", until 2"),
        ),
        (
            (900, -1),
            &[900],
            1,
            (false, false, " ended at 2"),
            (true, false, ", until 2"),
        ),
        (
            (900, 900),
            &[13, 900],
            0,
            (true, false, ", until 2"),
            (true, true, " ends at 2"),
        ),
        (
            (900, 900),
            &[-1, 900],
            0,
            (true, false, ", until 2"),
            (true, true, "one of them ended"),
        ),
    ];
    for ((leaf, above), ca, code, tls, client_ca) in cases {
        server(dir, leaf, above);
        cas(dir, ca);
        let (exited, found) = judged(&path);
        assert_eq!(exited, code, "{leaf} {above} {ca:?}: {found:?}");
        for ((ok, warning, said), (is_ok, is_warning, says)) in found.iter().zip([tls, client_ca]) {
            assert_eq!(
                (*ok, *warning),
                (is_ok, is_warning),
                "{leaf} {above} {ca:?}: {said}"
            );
            assert!(said.contains(says), "{says}: {said}");
        }
    }
    cas(dir, &[-9, -1]);
    let (code, [_, (ok, _, said)]) = judged(&path);
    assert_eq!((code, ok), (1, false), "{said}");
    assert!(said.contains("still taken here"), "{said}");
    // For a person: a word at the beginning of the line.
    cas(dir, &[13]);
    let (code, out) = check(&path, &[]);
    assert_eq!(code, 0, "{out}");
    let of = |name: &str| out.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(of(" client ca ").starts_with("WARN  "), "{out}");
    assert!(of(" tls ").starts_with("ok    "), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_log_say_when_certificates_end_also_after_a_reload() {
    let upstream = Upstream::json("{}");
    let (dir, path) = configured(&upstream).await;
    server(dir.path(), 400, 500);
    cas(dir.path(), &[700, 600]);
    let running = Running::start_at(&path, &["--log", "json"], "ready: https://");
    let ends = || async {
        let text = ask(running.operators, "GET", "/metrics", &[], "").await.text();
        let of = |which: &str| {
            let name =
                format!("attest_proxy_tls_certificate_expiry_timestamp_seconds{{certificate=\"{which}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.map(|end| end.parse::<u64>().unwrap())
        };
        [of("server"), of("client_ca")]
    };
    let near = |end: Option<u64>, days: i64| end.unwrap().abs_diff(in_days(days).0) < 120;
    let [first, ca] = ends().await;
    assert!(near(first, 400) && near(ca, 600), "{first:?} {ca:?}");
    server(dir.path(), 300, 5);
    running.signal("-HUP");
    for _ in 0..500 {
        if ends().await[0] != first {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let [second, _] = ends().await;
    assert!(near(second, 5), "{second:?}");
    let (code, log) = running.end();
    assert_eq!(code, 0);
    let told = log
        .lines()
        .filter(|line| line.contains("the TLS certificate ends at"));
    assert_eq!(told.count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_no_certificate_is_measured() {
    let upstream = Upstream::json("{}");
    let (_dir, path) = folder(&upstream.url()).await;
    let running = Running::start(&path, &[]);
    let text = ask(running.operators, "GET", "/metrics", &[], "").await.text();
    assert!(!text.contains("certificate_expiry"), "{text}");
    assert_eq!(running.end().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_looks_at_the_certificates_by_which_others_know_us() {
    let upstream = Upstream::json("{}");
    let (dir, path) = folder(&upstream.url()).await;
    server(dir.path(), -1, 900);
    std::fs::rename(dir.path().join("tls.pem"), dir.path().join("etcd.pem")).unwrap();
    std::fs::rename(dir.path().join("tls.key"), dir.path().join("etcd.key")).unwrap();
    server(dir.path(), 5, 900);
    cas(dir.path(), &[900]);
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace(&upstream.url(), "https://127.0.0.1:9");
    let more = "[upstream-tls]\nca = \"ca.pem\"\ncert = \"tls.pem\"\nkey = \"tls.key\"\n\
                [registry-tls]\nca = \"ca.pem\"\ncert = \"etcd.pem\"\nkey = \"etcd.key\"\n";
    std::fs::write(&path, format!("{text}\n{more}")).unwrap();
    let (code, out) = check(&path, &[]);
    assert_eq!(code, 1, "{out}");
    let of = |name: &str| out.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(of(" upstream cert ").starts_with("WARN  "), "{out}");
    assert!(of(" registry cert ").starts_with("FAILED"), "{out}");
    assert!(of(" registry cert ").contains("etcd refuses it"), "{out}");
}
