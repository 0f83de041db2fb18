//! SIGHUP on the program as an operator starts it: what follows the configuration, what stays and is named, and what a
//! mistake leaves as it was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{path::PathBuf, time::Duration};

use common::{
    Answer, ask,
    client::{Connection, request},
    program::{Running, folder},
    psk,
};
use testkit::upstream::{Gate, Reply, Step, Upstream};
use tokio::time::sleep;

struct Bench {
    _dir: tempfile::TempDir,
    path: PathBuf,
    /// The configuration, without what a test adds.
    text: String,
    running: Running,
    upstream: Upstream,
}

impl Bench {
    /// With these lines at the top of the configuration, and these at its end.
    async fn start(top: &str, end: &str) -> Self {
        let upstream = Upstream::json(r#"{"done":true}"#);
        let (dir, path) = folder(&upstream.url()).await;
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{top}\n{text}\n{end}\n")).unwrap();
        let running = Running::start(&path, &["--log", "json"]);
        Self {
            _dir: dir,
            path,
            text,
            running,
            upstream,
        }
    }

    /// Another configuration, and SIGHUP; comes back once it was taken or was not.
    async fn hup(&self, text: &str) {
        let before = self.reloads().await;
        std::fs::write(&self.path, text).unwrap();
        self.running.signal("-HUP");
        for _ in 0..500 {
            if self.reloads().await != before {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing came of SIGHUP");
    }

    async fn with(&self, top: &str, end: &str) {
        self.hup(&format!("{top}\n{}\n{end}\n", self.text)).await;
    }

    async fn metric(&self, name: &str) -> String {
        let text = ask(self.running.operators, "GET", "/metrics", &[], "")
            .await
            .text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
            .trim()
            .to_owned()
    }

    async fn reloads(&self) -> (String, String) {
        let ok = self.metric("attest_proxy_reloads_total{result=\"ok\"}").await;
        (
            ok,
            self.metric("attest_proxy_reloads_total{result=\"failed\"}").await,
        )
    }

    async fn generate(&self, len: usize) -> Answer {
        let body = body(len);
        ask(
            self.running.address,
            "POST",
            "/api/generate",
            &psk("plain"),
            &body,
        )
        .await
    }

    fn end(self) -> String {
        let (code, log) = self.running.end();
        assert_eq!(code, 0, "{log}");
        log
    }
}

fn body(len: usize) -> String {
    format!(r#"{{"model":"smollm2:135m","prompt":"{}"}}"#, "x".repeat(len))
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_on_requests_follow_on_open_connections_too() {
    let bench = Bench::start("", "[limits]\nbody-bytes = \"4KiB\"\nbody-memory = \"8KiB\"").await;
    let mut open = Connection::open(bench.running.address).await;
    let post = request("POST", "/api/generate", &psk("plain"), &body(3000));
    open.send(&post).await;
    assert_eq!(open.answer("POST").await.unwrap().status, 200);
    assert_eq!(bench.generate(6000).await.status, 413);
    bench.with("", "[limits]\nbody-bytes = \"16KiB\"").await;
    assert_eq!(bench.generate(6000).await.status, 200);
    let longer = request("POST", "/api/generate", &psk("plain"), &body(6000));
    open.send(&longer).await;
    assert_eq!(open.answer("POST").await.unwrap().status, 200);
    bench
        .with("", "[limits]\nbody-bytes = \"4KiB\"\nheader-count = 16")
        .await;
    open.send(&longer).await;
    assert_eq!(open.answer("POST").await.unwrap().status, 413);
    let mut many = psk("plain");
    many.extend((0..20).map(|nth| (format!("X-{nth}"), "y".to_owned())));
    let refused = ask(bench.running.address, "GET", "/api/version", &many, "").await;
    assert!([400, 431].contains(&refused.status), "{refused:?}");
    bench.with("", "").await;
    let taken = ask(bench.running.address, "GET", "/api/version", &many, "").await;
    assert_eq!(taken.status, 200);
    bench.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_on_connections_follow() {
    let bench = Bench::start("", "").await;
    let get = request("GET", "/api/version", &psk("plain"), "");
    let mut first = Connection::open(bench.running.address).await;
    first.send(&get).await;
    assert_eq!(first.answer("GET").await.unwrap().status, 200);
    let refused = || async {
        let answer = ask(bench.running.address, "GET", "/api/version", &psk("plain"), "").await;
        answer.status == 503
    };
    for limit in ["connections", "connections-per-peer"] {
        bench.with("", &format!("[limits]\n{limit} = 1")).await;
        assert!(refused().await, "{limit}");
        // Who is connected stays.
        first.send(&get).await;
        assert_eq!(first.answer("GET").await.unwrap().status, 200, "{limit}");
        bench.with("", "").await;
        assert!(!refused().await, "{limit}");
    }
    // A connection that waits already is held to the new patience.
    bench.with("", "[limits]\nidle-timeout = \"300ms\"").await;
    first.send(&get).await;
    assert_eq!(first.answer("GET").await.unwrap().status, 200);
    assert!(first.is_closed().await);
    bench.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_and_http2_follow() {
    let bench = Bench::start("", "").await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let speaks = || async {
        let mut connection = Connection::open(bench.running.address).await;
        connection.send(preface).await;
        connection.more().await;
        connection.finish().await;
        let said = connection.rest().await;
        !said.is_empty() && !said.starts_with("HTTP/1.1")
    };
    assert!(speaks().await);
    let mut fields = psk("plain");
    fields.push(("X-Forwarded-For".to_owned(), "203.0.113.9".to_owned()));
    let named = || ask(bench.running.address, "GET", "/api/version", &fields, "");
    assert_eq!(named().await.status, 200);
    bench
        .with("http2 = false\ntrusted-peers = [\"127.0.0.0/8\"]", "")
        .await;
    assert!(!speaks().await);
    assert_eq!(named().await.status, 200);
    let log = bench.end();
    let peers: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("\"outcome\":\"admitted\""))
        .map(|line| {
            if line.contains("203.0.113.9") {
                "believed"
            } else {
                "itself"
            }
        })
        .collect();
    assert_eq!(peers, ["itself", "believed"], "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_and_a_servers_places_follow() {
    let never = Gate::closed();
    let slow = Upstream::start(move |request| match request.target.as_str() {
        "/api/generate" => Reply::raw(vec![Step::Wait(never.clone())]),
        _ => Reply::json(200, "{}"),
    });
    let (_dir, path) = folder(&slow.url()).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let limits = "[limits]\nstreams = 1\n[queue]\nlength = 0\n";
    std::fs::write(&path, format!("{text}\n{limits}")).unwrap();
    let bench = Bench {
        running: Running::start(&path, &["--log", "json"]),
        path,
        text,
        upstream: slow,
        _dir,
    };
    let post = request("POST", "/api/generate", &psk("plain"), &body(10));
    let mut running = Connection::open(bench.running.address).await;
    running.send(&post).await;
    let in_flight = |many: usize| {
        let bench = &bench;
        async move {
            for _ in 0..300 {
                if bench.metric("attest_proxy_upstream_requests_in_flight").await == many.to_string() {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
            panic!("not {many} in flight");
        }
    };
    in_flight(1).await;
    assert_eq!(bench.generate(10).await.status, 503, "no place, and nobody waits");
    bench.with("", "[limits]\nstreams = 2\n[queue]\nlength = 0").await;
    let mut second = Connection::open(bench.running.address).await;
    second.send(&post).await;
    in_flight(2).await;
    assert_eq!(bench.generate(10).await.status, 503);
    // Now a request waits, for as long as the queue says, and is told.
    bench
        .with("", "[limits]\nstreams = 2\n[queue]\nlength = 4\nwait = \"200ms\"")
        .await;
    assert_eq!(bench.generate(10).await.status, 503);
    let mut third = Connection::open(bench.running.address).await;
    bench
        .with("", "[limits]\nstreams = 2\n[queue]\nlength = 4\nwait = \"30s\"")
        .await;
    third.send(&post).await;
    for _ in 0..300 {
        if bench.metric("attest_proxy_upstream_queue_requests").await == "1" {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    // More places are given to those who wait.
    bench.with("", "[limits]\nstreams = 3\n[queue]\nlength = 4").await;
    in_flight(3).await;
    // And the upstream's patience is the new one for what is sent from now on.
    bench
        .with("", "[limits]\nstreams = 4\nfirst-byte-timeout = \"200ms\"")
        .await;
    assert_eq!(bench.generate(10).await.status, 504);
    let received = bench.upstream.received();
    let sent = received.iter().filter(|one| one.target == "/api/generate");
    assert_eq!(sent.count(), 4);
    drop((running, second, third));
    bench.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_leaves_all_as_it_was_and_is_told() {
    let bench = Bench::start("", "[limits]\nbody-bytes = \"4KiB\"\nbody-memory = \"8KiB\"").await;
    let key = bench.path.with_file_name("fleet.key");
    let good = std::fs::read(&key).unwrap();
    let last = "attest_proxy_config_last_reload_successful";
    assert_eq!(bench.metric(last).await, "1");
    let mistakes: [(&str, &str); 4] = [
        (
            "[limits]\nbody-bytes = \"1MiB\"\nno-such-key = 1",
            "unknown field `no-such-key`",
        ),
        ("[limits]\nbody-bytes = \"1MiB\"\nconnections = 0", "at least 1"),
        ("[limits", "attest-proxy.toml:"),
        // All of the file is good, and something that it names is not.
        ("[limits]\nbody-bytes = \"1MiB\"", "not the base64 text"),
    ];
    for (nth, (end, _)) in mistakes.iter().enumerate() {
        if nth == 3 {
            std::fs::write(&key, "nonsense").unwrap();
        }
        bench.with("", end).await;
        let failed = bench
            .metric("attest_proxy_reloads_total{result=\"failed\"}")
            .await;
        assert_eq!(
            (failed, bench.metric(last).await),
            ((nth + 1).to_string(), "0".to_owned())
        );
        assert_eq!(bench.generate(6000).await.status, 413, "{end}");
        assert_eq!(bench.generate(100).await.status, 200, "{end}");
    }
    let ready = ask(bench.running.operators, "GET", "/readyz", &[], "").await;
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("those of before stay"), "{}", ready.text());
    std::fs::write(&key, good).unwrap();
    std::fs::remove_file(&bench.path).unwrap();
    let before = bench.reloads().await;
    bench.running.signal("-HUP");
    for _ in 0..500 {
        if bench.reloads().await != before {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.metric(last).await, "0");
    bench.with("", "[limits]\nbody-bytes = \"1MiB\"").await;
    assert_eq!(bench.metric(last).await, "1");
    assert_eq!(bench.generate(6000).await.status, 200);
    let log = bench.end();
    for (_, told) in mistakes {
        let told = serde_json::to_string(told).unwrap();
        assert!(log.contains(told.trim_matches('"')), "{told}: {log}");
    }
    let refused = log.lines().filter(|line| line.contains("nothing was reloaded"));
    assert_eq!(refused.count(), 5, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_change_is_named_and_stays() {
    let bench = Bench::start("", "").await;
    let waiting = "attest_proxy_config_keys_waiting_for_restart";
    assert_eq!(bench.metric(waiting).await, "0");
    let changed = bench
        .text
        .replace("https://llm.demo.example", "https://other.example");
    assert_ne!(changed, bench.text);
    let limits = "[limits]\nbody-bytes = \"4KiB\"\nbody-memory = \"8KiB\"\n";
    bench
        .hup(&format!(
            "registry-snapshot = {{ file = \"kept\" }}\n{changed}\n{limits}"
        ))
        .await;
    assert_eq!(bench.metric(waiting).await, "2");
    let challenge = ask(
        bench.running.address,
        "GET",
        "/attest/v1/challenge",
        &psk("kiosk"),
        "",
    )
    .await;
    assert_eq!(challenge.json()["audience"], "https://llm.demo.example");
    // The rest was taken.
    assert_eq!(bench.generate(100).await.status, 200);
    assert_eq!(bench.generate(6000).await.status, 413);
    bench.with("", "").await;
    assert_eq!(bench.metric(waiting).await, "0");
    let log = bench.end();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("until a restart"))
        .collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(
        told[0].contains("\"keys\":\"audience, registry-snapshot\""),
        "{}",
        told[0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_key_is_rotated_by_configuration_and_signal() {
    let bench = Bench::start("", "").await;
    let key = |name: &str, byte: u8| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = bench.path.with_file_name(name);
        let mut root = [byte; 32];
        root[0] = 1;
        std::fs::write(&path, data_encoding::BASE64.encode(&root)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    key("next.key", 7);
    let ready = || async {
        let text = ask(bench.running.operators, "GET", "/readyz", &[], "")
            .await
            .text();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["keys"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (id, before) = (id_of(&bench.text), ready().await);
    assert!(before.contains(&id), "{before}");
    let section = bench.text.split("[fleet-key]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let changed = bench.text.replace(
        &format!("[fleet-key]{section}"),
        &format!(
            "[fleet-key]\nid = \"next\"\nfile = \"next.key\"\n[previous-fleet-key]{section}\nuntil = 2100-01-01T00:00:00Z\n"
        ),
    );
    bench.hup(&changed).await;
    assert_eq!(ready().await, "key next");
    bench.end();
}

fn id_of(config: &str) -> String {
    let section = config.split("[fleet-key]").nth(1).unwrap();
    section
        .split("id = \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn model_servers_come_and_go_and_running_answers_stay() {
    let held = Gate::closed();
    let until = held.clone();
    let first = Upstream::start(move |request| match request.target.as_str() {
        "/api/generate" => Reply::raw(vec![
            Step::Wait(until.clone()),
            Step::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"from\":\"old\"}".to_vec()),
        ]),
        _ => Reply::json(200, "{}"),
    });
    let second = Upstream::json(r#"{"from":"new"}"#);
    let (_dir, path) = folder(&first.url()).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let bench = Bench {
        running: Running::start(&path, &["--log", "json"]),
        path,
        text,
        upstream: first,
        _dir,
    };
    let mut old = Connection::open(bench.running.address).await;
    old.send(&request("POST", "/api/generate", &psk("plain"), &body(10)))
        .await;
    for _ in 0..300 {
        if bench.metric("attest_proxy_upstream_requests_in_flight").await == "1" {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    // Another one alone: what is asked from now on goes there.
    let moved = bench.text.replace(&bench.upstream.url(), &second.url());
    bench.hup(&moved).await;
    assert_eq!(bench.generate(10).await.text(), r#"{"from":"new"}"#);
    held.open();
    assert_eq!(old.answer("POST").await.unwrap().text(), r#"{"from":"old"}"#);
    // Both of them, asked in rounds, of which there were none before.
    let one = format!("upstream = \"{}\"", bench.upstream.url());
    assert!(bench.text.contains(&one), "{}", bench.text);
    let both = bench.text.replace(&one, "upstream-poll = \"100ms\"");
    let tables =
        [&bench.upstream, &second].map(|server| format!("\n[[upstreams]]\nurl = \"{}\"\n", server.url()));
    bench.hup(&format!("{both}{}", tables.concat())).await;
    let well = "attest_proxy_upstream_servers{standing=\"well\"}";
    assert_eq!(bench.metric(well).await, "2");
    let asked = |server: &Upstream| server.received().iter().any(|one| one.target == "/api/tags");
    for _ in 0..300 {
        if asked(&bench.upstream) && asked(&second) {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!(asked(&bench.upstream) && asked(&second), "no round");
    // One that is gone is asked nothing more.
    bench.hup(&moved).await;
    assert_eq!(bench.metric(well).await, "1");
    sleep(Duration::from_millis(300)).await;
    let before = bench.upstream.received().len();
    sleep(Duration::from_millis(400)).await;
    assert_eq!(bench.upstream.received().len(), before);
    assert_eq!(bench.generate(10).await.text(), r#"{"from":"new"}"#);
    bench.end();
}
