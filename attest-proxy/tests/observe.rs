//! What others see of it: metrics that promtool accepts, a dashboard that shows what is there, traces, `top`.

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
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use common::{Rig, ask, client, forge, psk};
use serde_json::Value;
use testkit::{
    Canary,
    upstream::{Gate, Received, Reply, Upstream},
};

async fn metrics(rig: &Rig) -> String {
    ask(rig.operators, "GET", "/metrics", &[], "").await.text()
}

const ALL: &str = "[audit]\nfile = \"audit.jsonl\"\n[traces]\nendpoint = \"http://127.0.0.1:9/v1/traces\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn promtool_has_nothing_to_say_about_the_metrics() {
    let rig = Rig::with(Upstream::json(r#"{"done":true}"#), ALL).await;
    rig.chat(&psk("plain")).await;
    rig.chat(&psk("kiosk")).await;
    let text = metrics(&rig).await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool of the Debian package prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{said}\n{text}"
    );
    for name in ["kiosk", "plain", "smollm2", "/api/"] {
        assert!(!text.contains(name), "{name} is in\n{text}");
    }
    for line in [
        "attest_proxy_request_duration_seconds_count{route=\"inference\"} 1",
        "attest_proxy_time_to_first_byte_seconds_count 1",
        "attest_proxy_response_bytes_total ",
        "process_resident_memory_bytes ",
        "process_start_time_seconds ",
    ] {
        assert!(
            text.lines().any(|l| l.starts_with(line)),
            "{line} is not in\n{text}"
        );
    }
}

/// Words of a PromQL expression that could be a metric's name.
fn names(expression: &str) -> Vec<&str> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("attest_proxy_") || word.starts_with("process_"))
        .collect()
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if key == "expr" {
                    found.extend(value.as_str().map(str::to_owned));
                }
                expressions(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_dashboard_and_alerts_exists() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.path().join("tls.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let url = format!("sqlite:{}", dir.path().join("registry.db").display())
        .parse()
        .unwrap();
    let all = format!("{ALL}[tls]\ncert = \"tls.pem\"\nkey = \"tls.key\"\n");
    let rig = Rig::on(Upstream::json("{}"), &all, dir, &url).await;
    let text = metrics(&rig).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/attest-proxy/");
    let dashboard = std::fs::read_to_string(format!("{folder}grafana-dashboard.json")).unwrap();
    let mut found = Vec::new();
    expressions(&serde_json::from_str(&dashboard).unwrap(), &mut found);
    assert!(found.len() > 10, "{found:?}");
    let rules = format!("{folder}prometheus-alerts.yml");
    found.push(std::fs::read_to_string(&rules).unwrap());
    let mut seen = 0;
    for name in found.iter().flat_map(|expression| names(expression)) {
        let there = text
            .lines()
            .any(|line| !line.starts_with('#') && line.split(['{', ' ']).next() == Some(name));
        assert!(there, "{name} is not in\n{text}");
        seen += 1;
    }
    assert!(seen > 20);
    let promtool = Command::new("promtool")
        .args(["check", "rules", &rules])
        .output()
        .unwrap();
    assert!(promtool.status.success(), "{promtool:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_go_on_from_the_client_to_the_upstream_and_to_a_collector() {
    let collector = Upstream::json("{}");
    let more = format!(
        "[traces]\nendpoint = \"{}/v1/traces\"\nsample = 1.0\n",
        collector.url()
    );
    let rig = Rig::with(Upstream::json(r#"{"done":true}"#), &more).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut fields = psk("plain");
    fields.push(("traceparent".into(), format!("00-{trace}-00f067aa0ba902b7-00")));
    fields.push(("tracestate".into(), "vendor=1".into()));
    assert_eq!(rig.chat(&fields).await.status, 200);
    // A context that is none begins a new trace, and a refusal is recorded too.
    let mut bad = psk("plain");
    bad.push((
        "traceparent".into(),
        format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
    ));
    bad.push(("tracestate".into(), "vendor=2".into()));
    assert_eq!(rig.chat(&bad).await.status, 200);
    assert_eq!(rig.chat(&psk("stranger")).await.status, 401);
    let received = rig.upstream.received();
    let (first, second) = (&received[0], &received[1]);
    let sent = first.header("traceparent")[0].clone();
    assert!(
        sent.starts_with(&format!("00-{trace}-")) && sent.ends_with("-01"),
        "{sent}"
    );
    assert!(
        !sent.contains("00f067aa0ba902b7"),
        "the client's span is not ours"
    );
    assert_eq!(first.header("tracestate"), ["vendor=1"]);
    let begun = second.header("traceparent")[0].clone();
    assert!(
        !begun.contains(trace) && second.header("tracestate").is_empty(),
        "{begun}"
    );
    let spans = exported(&collector, 5).await;
    let of = |span: &str, parent: Option<&str>| {
        spans
            .iter()
            .find(|s| s["spanId"] == span && s["parentSpanId"].as_str() == parent)
            .unwrap_or_else(|| panic!("{span} under {parent:?}: {spans:#?}"))
    };
    let upstream_id = sent.split('-').nth(2).unwrap();
    let server = spans
        .iter()
        .find(|s| s["traceId"] == trace && s["kind"] == 2)
        .unwrap();
    assert_eq!(server["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(server["name"], "POST /api/chat");
    let call = of(upstream_id, server["spanId"].as_str());
    assert_eq!(
        (call["kind"].as_u64(), call["traceId"].as_str()),
        (Some(3), Some(trace))
    );
    let nanos = |span: &Value, key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    assert!(nanos(server, "startTimeUnixNano") <= nanos(call, "startTimeUnixNano"));
    assert!(nanos(call, "endTimeUnixNano") <= nanos(server, "endTimeUnixNano"));
    let attribute = |span: &Value, key: &str| {
        let all = span["attributes"].as_array().unwrap();
        all.iter()
            .find(|a| a["key"] == key)
            .map(|a| a["value"].as_object().unwrap().values().next().unwrap().clone())
    };
    assert_eq!(attribute(server, "http.response.status_code").unwrap(), "200");
    assert_eq!(attribute(server, "signalbox.device").unwrap(), "plain");
    let refused = spans
        .iter()
        .find(|s| attribute(s, "error.type").is_some_and(|v| v == "psk-unknown"))
        .unwrap();
    assert_eq!(refused["parentSpanId"].as_str(), None);
    for request in collector.received() {
        for device in ["plain", "stranger"] {
            Canary::new("psk", forge::psk_text(device).as_bytes())
                .assert_absent("spans", request.everything());
        }
    }
}

/// The spans that a collector was sent, once there are so many.
async fn exported(collector: &Upstream, least: usize) -> Vec<Value> {
    let spans = |requests: Vec<Received>| -> Vec<Value> {
        let bodies = requests.into_iter().map(|request| {
            assert_eq!(request.header("content-type"), ["application/json"]);
            serde_json::from_str::<Value>(&request.text()).unwrap()
        });
        bodies
            .flat_map(|body| {
                let scope = &body["resourceSpans"][0]["scopeSpans"][0];
                scope["spans"].as_array().unwrap().clone()
            })
            .collect()
    };
    for _ in 0..200 {
        let spans = spans(collector.received());
        if spans.len() >= least {
            return spans;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("too few spans: {:?}", collector.received());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_nothing_but_spans() {
    let more = "[traces]\nendpoint = \"http://127.0.0.1:9/v1/traces\"\nsample = 1.0\n";
    let rig = Rig::with(Upstream::json(r#"{"done":true}"#), more).await;
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    let mut lost = false;
    for _ in 0..100 {
        lost = metrics(&rig)
            .await
            .contains("attest_proxy_trace_spans_total{result=\"dropped\"} 2");
        if lost {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(lost, "{}", metrics(&rig).await);
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_traces_a_context_passes_if_it_is_one() {
    let rig = Rig::new().await;
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (value, passes) in [(good, true), ("00-zz", false)] {
        let mut fields = psk("plain");
        fields.push(("traceparent".into(), value.into()));
        assert_eq!(rig.chat(&fields).await.status, 200);
        let last = rig.upstream.received().pop().unwrap();
        assert_eq!(last.header("traceparent").len(), usize::from(passes), "{value}");
    }
    assert!(!metrics(&rig).await.contains("trace_spans"));
}

fn program(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_attest-proxy"))
        .args(args)
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_devices_streams_refusals_and_upstreams() {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::start(move |_| {
        Reply::stream(200, "application/x-ndjson")
            .chunk("one\n")
            .wait(&held)
    });
    let rig = Rig::with(upstream, "").await;
    let mut streaming = client::Connection::open(rig.address).await;
    streaming
        .send(&client::request("POST", "/api/chat", &psk("plain"), common::CHAT))
        .await;
    streaming.head().await.unwrap();
    streaming.chunk().await.unwrap();
    rig.chat(&psk("kiosk")).await;
    rig.chat(&psk("stranger")).await;
    let operators = rig.operators.to_string();
    let (code, out, err) = program(&["top", "--operators", &operators, "--once", "--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let top: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(top["streams"][0]["device"], "plain");
    assert_eq!(top["streams"][0]["model"], "smollm2:135m");
    assert_eq!(top["streams"][0]["bytes"], 4);
    assert_eq!(top["devices"][0]["device"], "plain");
    assert_eq!(
        (
            top["devices"][0]["running"].as_u64(),
            top["devices"][1]["refused"].as_u64()
        ),
        (Some(1), Some(1))
    );
    assert_eq!(top["refused"].as_array().unwrap().len(), 2);
    assert_eq!(top["upstreams"][0]["in_flight"], 1);
    let (code, out, _) = program(&["top", "--operators", &operators, "--once"]);
    assert_eq!(code, 0);
    for part in [
        "fleet demo",
        "kiosk",
        "smollm2:135m",
        "psk-unknown 1",
        "evidence-missing 1",
    ] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    gate.open();
    while streaming.chunk().await.is_some_and(|chunk| !chunk.is_empty()) {}
    let mut ended = false;
    for _ in 0..100 {
        let top = ask(rig.operators, "GET", "/top", &[], "").await.json();
        ended = top["streams"].as_array().unwrap().is_empty() && top["devices"][0]["running"] == 0;
        if ended {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(ended, "a stream that is over is still shown");
    let (code, out, _) = program(&["ready", "--operators", &operators]);
    assert_eq!((code, out.as_str()), (0, "ready\n"));
    let (code, out, err) = program(&["ready", "--operators", "127.0.0.1:9"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("no answer from the operators' listener"), "{err}");
    let (code, _, err) = program(&["top", "--operators", "127.0.0.1:9", "--once"]);
    assert!(
        code == 1 && err.contains("no answer from the operators' listener"),
        "{err}"
    );
    let (code, _, err) = program(&["top", "--operators", &rig.address.to_string(), "--once"]);
    assert!(
        code == 1 && err.contains("is not the operators' listener"),
        "{err}"
    );
    assert_eq!(program(&["top"]).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn top_draws_on_a_terminal_and_gives_it_back() {
    let rig = Rig::new().await;
    rig.chat(&psk("plain")).await;
    let socket = rig.dir.path().join("tmux");
    let tmux = |args: &[&str]| {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(&socket)
            .args(args)
            .output()
            .expect("the Debian package tmux");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let command = format!(
        "trap : INT; echo before; {} top --operators {} --interval 200ms; echo it ended with $?; sleep 60",
        env!("CARGO_BIN_EXE_attest-proxy"),
        rig.operators
    );
    tmux(&["new-session", "-d", "-x", "100", "-y", "30", "sh", "-c", &command]);
    let shows = |word: &str| {
        for _ in 0..200 {
            let screen = tmux(&["capture-pane", "-p"]);
            if screen.contains(word) {
                return screen;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{word} is not on the screen:\n{}", tmux(&["capture-pane", "-p"]));
    };
    let screen = shows("fleet demo");
    assert!(
        screen.contains("plain") && screen.contains("DEVICE") && !screen.contains("before"),
        "{screen}"
    );
    rig.chat(&psk("stranger")).await;
    shows("psk-unknown 1");
    // Keys are taken as they are pressed, and are not echoed.
    tmux(&["send-keys", "n"]);
    let screen = shows("by name");
    let at = |word: &str| screen.find(word).unwrap();
    assert!(at("kiosk") < at("plain"), "{screen}");
    tmux(&["resize-window", "-x", "60", "-y", "20"]);
    tmux(&["send-keys", "r"]);
    let screen = shows("by refused");
    assert!(
        !screen.contains("TOK IN") && screen.contains("REFUSED"),
        "{screen}"
    );
    tmux(&["send-keys", "C-c"]);
    let screen = shows("it ended with 0");
    assert!(
        screen.contains("before") && !screen.contains("fleet demo"),
        "{screen}"
    );
    tmux(&["kill-server"]);
}
