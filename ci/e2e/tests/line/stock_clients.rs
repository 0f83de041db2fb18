//! Stock clients, unchanged, through the proxy: ollama-python, ollama-js, openai-python, anthropic and langchain-ollama.
//!
//! Owns: what each of them must get. They are installed by `ci/clients/install`; the device's policy asks for no evidence, which
//! no stock client can give, and the key comes to them as people give it: a header, a bearer token, an API key.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Backing, Line, example, root};

const MODEL: &str = "smollm2:135m";

#[test]
fn stock_clients_work_and_understand_refusals() {
    let folder = install();
    let line = Line::start(Backing::Sqlite);
    fs::write(line.manifest(), without_evidence(&example())).unwrap();
    line.apply().succeeded();
    let python = folder.join("python/bin/python");
    let got = call(&line, Command::new(python).arg(root().join("ci/clients/call.py")));
    let answer = got["ollama chat"].as_str().unwrap().to_owned();
    assert!(answer.contains("platform"), "{answer}");

    for name in [
        "ollama generate",
        "ollama bearer",
        "openai chat",
        "anthropic message",
        "langchain invoke",
        "langchain async",
    ] {
        assert_eq!(got[name], json!(answer), "{name}");
    }
    for name in [
        "ollama chat stream",
        "openai chat stream",
        "anthropic stream",
        "langchain stream",
    ] {
        let parts: Vec<&str> = got[name]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert!(parts.len() > 3, "{name} came in one piece: {parts:?}");
        assert_eq!(parts.concat(), answer, "{name}");
    }
    assert!(!got["ollama generate stream"].as_array().unwrap().is_empty());
    for name in ["ollama list", "ollama ps", "openai models"] {
        assert_eq!(got[name], json!([MODEL]), "{name}");
    }
    assert_eq!(got["openai both"], json!(MODEL));
    assert_eq!(got["ollama show"], json!("llama"));
    let words = answer.split_whitespace().count();
    assert_eq!(got["ollama chat counts"], json!(words));
    assert_eq!(got["openai usage"], json!([words]));
    assert_eq!(got["langchain usage"], json!(words));
    assert_eq!(got["ollama options"], json!("length"));
    assert_eq!(got["ollama embed"], json!(2));
    assert_eq!(got["ollama embeddings"], json!(8));
    assert_eq!(got["openai embeddings"], json!([8, 8]));
    assert_eq!(got["langchain embed"], json!(2));
    assert!(got["openai completion"].is_string() && got["ollama leave early"].is_string());

    refused(&got, "ollama pull", "ResponseError", 403, "path is not served");
    refused(&got, "ollama delete", "ResponseError", 403, "path is not served");
    refused(&got, "ollama create", "ResponseError", 403, "path is not served");
    refused(
        &got,
        "ollama other model",
        "ResponseError",
        403,
        "may not use this model",
    );
    refused(&got, "ollama no key", "ResponseError", 401, "pre-shared key");
    refused(
        &got,
        "openai other model",
        "PermissionDeniedError",
        403,
        "may not use this model",
    );
    refused(
        &got,
        "openai wrong key",
        "AuthenticationError",
        401,
        "not known here",
    );
    refused(&got, "openai files", "NotFoundError", 404, "no such path");
    refused(
        &got,
        "anthropic other model",
        "PermissionDeniedError",
        403,
        "may not use this model",
    );
    refused(
        &got,
        "langchain other model",
        "ResponseError",
        403,
        "may not use this model",
    );
    assert_eq!(got["openai two keys"]["status"], json!(400));
    assert_eq!(got.len(), 38, "{:?}", got.keys());

    let got = call(&line, Command::new("node").arg(folder.join("call.mjs")));
    assert_eq!(got["js list"], json!([MODEL]));
    assert_eq!(got["js chat"], json!(answer));
    let parts: Vec<&str> = got["js chat stream"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(parts.concat(), answer);
    assert!(got["js generate"].is_string());
    assert_eq!(got["js embed"], json!(2));
    let aborted = &got["js abort"];
    assert!(
        aborted["raised"] == "AbortError" || aborted.as_u64() >= Some(1),
        "{aborted}"
    );
    refused(&got, "js pull", "ResponseError", 403, "path is not served");
    refused(
        &got,
        "js other model",
        "ResponseError",
        403,
        "may not use this model",
    );
    refused(&got, "js no key", "ResponseError", 401, "pre-shared key");
    assert_eq!(got.len(), 9, "{:?}", got.keys());
}

fn refused(got: &BTreeMap<String, Value>, name: &str, raised: &str, status: u16, says: &str) {
    let error = &got[name];
    assert_eq!(error["raised"], json!(raised), "{name}: {error}");
    assert_eq!(error["status"], json!(status), "{name}: {error}");
    assert!(error["says"].as_str().unwrap().contains(says), "{name}: {error}");
}

/// The example manifest without what its policy wants proven.
fn without_evidence(manifest: &str) -> String {
    let (before, rest) = manifest.split_once("[policies.kiosk.evidence]").unwrap();
    let (_, after) = rest.split_once("[profiles.").unwrap();
    format!("{before}[profiles.{after}")
}

fn install() -> PathBuf {
    let output = Command::new(root().join("ci/clients/install")).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Path::new(String::from_utf8(output.stdout).unwrap().trim()).to_owned()
}

/// What came of each thing that the program tried.
fn call(line: &Line, command: &mut Command) -> BTreeMap<String, Value> {
    let mut child = command
        .args([&line.proxy, MODEL])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe ends with the statement.
    writeln!(child.stdin.take().unwrap(), "{}", line.psk()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let tried: Value = serde_json::from_str(line).unwrap();
            (tried["try"].as_str().unwrap().to_owned(), tried["got"].clone())
        })
        .collect()
}
