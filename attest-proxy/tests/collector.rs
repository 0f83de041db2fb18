//! Spans at a collector of OpenTelemetry that others wrote: it takes them, and reads in them what was meant.

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
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{Rig, ask, forge::psk_text, psk};
use testkit::{Canary, upstream::Upstream};
use tokio::{net::TcpStream, time::sleep};

struct Collector {
    child: Child,
    address: SocketAddr,
    said: PathBuf,
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Collector {
    async fn start(dir: &Path) -> Self {
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/collector");
        let output = Command::new(install).stderr(Stdio::inherit()).output().unwrap();
        assert!(
            output.status.success(),
            "ci/collector installs rotel from PyPI (python3-venv)"
        );
        let program = String::from_utf8(output.stdout).unwrap();
        let (address, said) = (free(), dir.join("collector.out"));
        let child = Command::new(program.trim())
            .args(["start", "--exporter", "blackhole", "--debug-log", "traces"])
            .args([
                "--debug-log-verbosity",
                "detailed",
                "--pid-file",
                "pid",
                "--log-file",
                "log",
            ])
            .args(["--otlp-http-endpoint", &address.to_string()])
            .args(["--otlp-grpc-endpoint", &free().to_string()])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(File::create(&said).unwrap())
            .stderr(File::create(dir.join("collector.err")).unwrap())
            .spawn()
            .unwrap();
        let collector = Self { child, address, said };
        for _ in 0..500 {
            if TcpStream::connect(address).await.is_ok() {
                return collector;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("the collector does not listen");
    }

    /// The spans that it understood, each as the lines that it said of it.
    fn spans(&self) -> Vec<String> {
        let said = std::fs::read_to_string(&self.said).unwrap();
        said.split("Span #").skip(1).map(str::to_owned).collect()
    }
}

/// What it said of a span under this name.
fn of(span: &str, name: &str) -> String {
    let lines = span.lines().filter_map(|line| line.split_once(": "));
    let mut found = lines.filter(|(key, _)| key.trim().trim_start_matches("-> ").trim() == name);
    found
        .next()
        .unwrap_or_else(|| panic!("no {name}: {span}"))
        .1
        .trim()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_collector_understands_every_span_and_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path()).await;
    let more = format!(
        "[traces]\nendpoint = \"http://{}/v1/traces\"\nsample = 1.0\n",
        collector.address
    );
    let rig = Rig::with(
        Upstream::json(r#"{"done":true,"prompt_eval_count":7,"eval_count":3}"#),
        &more,
    )
    .await;
    let (trace, client) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let mut fields = psk("plain");
    fields.push(("traceparent".into(), format!("00-{trace}-{client}-01")));
    assert_eq!(rig.chat(&fields).await.status, 200);
    assert_eq!(rig.chat(&psk("stranger")).await.status, 401);
    for _ in 0..400 {
        if collector.spans().len() >= 3 {
            break;
        }
        sleep(Duration::from_millis(25)).await;
    }
    let spans = collector.spans();
    assert_eq!(spans.len(), 3, "{spans:?}");
    let find = |kind: &str, of_trace: bool| {
        let mut found = spans
            .iter()
            .filter(|span| of(span, "Kind") == kind && (of(span, "Trace ID") == trace) == of_trace);
        found.next().unwrap_or_else(|| panic!("no {kind}: {spans:?}"))
    };
    // Client -> proxy -> upstream, by W3C's context on both ways.
    let (server, call) = (find("SPAN_KIND_SERVER", true), find("SPAN_KIND_CLIENT", true));
    assert_eq!(of(server, "Parent ID"), client);
    assert_eq!(of(call, "Parent ID"), of(server, "ID"));
    let upstream = rig.upstream.received()[0].header("traceparent");
    assert_eq!(upstream, [format!("00-{trace}-{}-01", of(call, "ID"))]);
    assert_eq!(of(server, "Name"), "POST /api/chat");
    assert_eq!(of(server, "http.response.status_code"), "Int(200)");
    assert_eq!(of(server, "signalbox.device"), "Str(plain)");
    let nanos = |span: &str, name: &str| of(span, name).parse::<u64>().unwrap();
    assert!(nanos(server, "Start time") <= nanos(call, "Start time"));
    assert!(nanos(call, "End time") <= nanos(server, "End time"));
    let refused = find("SPAN_KIND_SERVER", false);
    assert_eq!(
        (
            of(refused, "Parent ID").as_str(),
            of(refused, "error.type").as_str()
        ),
        ("", "Str(psk-unknown)")
    );
    let said = std::fs::read(&collector.said).unwrap();
    let text = String::from_utf8_lossy(&said);
    assert!(text.contains("service.name: Str(attest-proxy)"), "{text}");
    for device in ["plain", "stranger"] {
        Canary::new("psk", psk_text(device).as_bytes()).assert_absent("spans", said.clone());
    }
    let metrics = ask(rig.operators, "GET", "/metrics", &[], "").await.text();
    assert!(
        metrics.contains("attest_proxy_trace_spans_total{result=\"sent\"} 3"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_does_not_understand_is_counted_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path()).await;
    // Another path than it has.
    let more = format!(
        "[traces]\nendpoint = \"http://{}/v2/traces\"\nsample = 1.0\n",
        collector.address
    );
    let rig = Rig::with(Upstream::json(r#"{"done":true}"#), &more).await;
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    for _ in 0..400 {
        let metrics = ask(rig.operators, "GET", "/metrics", &[], "").await.text();
        if metrics.contains("attest_proxy_trace_spans_total{result=\"dropped\"} 2") {
            assert!(collector.spans().is_empty());
            return;
        }
        sleep(Duration::from_millis(25)).await;
    }
    panic!("they were not counted");
}
