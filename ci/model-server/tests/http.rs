//! The server as a client sees it: Ollama's and OpenAI's shapes, streamed and whole, with the scripted engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(extra: &[&str]) -> Self {
        // Plain HTTP only, but the client library wants to know whose TLS it would use.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut child = Command::new(env!("CARGO_BIN_EXE_model-server"))
            .arg("--scripted")
            .args(extra)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line
            .trim()
            .strip_prefix("ready: ")
            .expect("a ready line")
            .to_owned();
        Self { child, url }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, String, String) {
        let response = reqwest::Client::new()
            .post(format!("{}{path}", self.url))
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (response.status().as_u16(), kind, response.text().await.unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let response = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const QUESTION: &str = "Which platform does the train to Bern leave from?";

#[tokio::test]
async fn generate_streams_objects_and_counts_at_last() {
    let server = Server::start(&["--pace", "1"]);
    let (status, kind, text) = server
        .post(
            "/api/generate",
            &json!({"model": "smollm2:135m", "prompt": QUESTION}),
        )
        .await;
    assert_eq!((status, kind.as_str()), (200, "application/x-ndjson"));
    let objects: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, pieces) = objects.split_last().unwrap();
    assert!(pieces.len() > 5 && pieces.iter().all(|piece| piece["done"] == json!(false)));
    let said: String = pieces
        .iter()
        .map(|piece| piece["response"].as_str().unwrap())
        .collect();
    assert!(said.contains("platform 7"), "{said}");
    assert_eq!(last["done"], json!(true));
    assert_eq!(last["done_reason"], json!("stop"));
    assert_eq!(last["eval_count"], json!(pieces.len()));
    assert!(last["prompt_eval_count"].as_u64().unwrap() > 0 && last["total_duration"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn chat_answers_whole_when_asked_to() {
    let server = Server::start(&["--pace", "1"]);
    let body = json!({"model": "smollm2:135m", "stream": false, "messages": [{"role": "user", "content": QUESTION}]});
    let (status, _, text) = server.post("/api/chat", &body).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &answer["done"]), (200, &json!(true)));
    assert_eq!(answer["message"]["role"], json!("assistant"));
    assert!(
        answer["message"]["content"]
            .as_str()
            .unwrap()
            .contains("platform 7")
    );
}

#[tokio::test]
async fn num_predict_ends_an_answer() {
    let server = Server::start(&["--pace", "1"]);
    let body =
        json!({"model": "smollm2:135m", "stream": false, "prompt": QUESTION, "options": {"num_predict": 3}});
    let answer: Value = serde_json::from_str(&server.post("/api/generate", &body).await.2).unwrap();
    assert_eq!(
        (&answer["eval_count"], &answer["done_reason"]),
        (&json!(3), &json!("length"))
    );
}

#[tokio::test]
async fn openai_streams_events_with_usage_when_asked() {
    let server = Server::start(&["--pace", "1"]);
    let body = json!({
        "model": "smollm2:135m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": QUESTION}],
    });
    let (status, kind, text) = server.post("/v1/chat/completions", &body).await;
    assert_eq!((status, kind.as_str()), (200, "text/event-stream"));
    let events: Vec<&str> = text
        .split_terminator("\n\n")
        .map(|e| e.strip_prefix("data: ").unwrap())
        .collect();
    assert_eq!(*events.last().unwrap(), "[DONE]");
    let usage: Value = serde_json::from_str(events[events.len() - 2]).unwrap();
    assert!(usage["usage"]["completion_tokens"].as_u64().unwrap() > 5);
    let said: String = events[..events.len() - 2]
        .iter()
        .map(|event| {
            serde_json::from_str::<Value>(event).unwrap()["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(said.contains("platform 7"), "{said}");
}

#[tokio::test]
async fn openai_answers_whole_by_default() {
    let server = Server::start(&["--pace", "1"]);
    let body = json!({"model": "smollm2:135m", "messages": [{"role": "user", "content": QUESTION}]});
    let answer: Value = serde_json::from_str(&server.post("/v1/chat/completions", &body).await.2).unwrap();
    assert_eq!(answer["object"], json!("chat.completion"));
    assert_eq!(answer["choices"][0]["finish_reason"], json!("stop"));
}

#[tokio::test]
async fn lists_name_the_model() {
    let server = Server::start(&["--pace", "1"]);
    assert_eq!(
        server.get("/api/tags").await.1["models"][0]["name"],
        json!("smollm2:135m")
    );
    assert_eq!(
        server.get("/api/ps").await.1["models"][0]["model"],
        json!("smollm2:135m")
    );
    assert_eq!(
        server.get("/v1/models").await.1["data"][0]["id"],
        json!("smollm2:135m")
    );
    assert!(server.get("/api/version").await.1["version"].is_string());
    let shown = server.post("/api/show", &json!({"model": "smollm2:135m"})).await;
    assert!(
        shown.0 == 200 && shown.2.contains("quantization_level"),
        "{shown:?}"
    );
}

#[tokio::test]
async fn an_empty_prompt_only_loads() {
    let server = Server::start(&["--pace", "1"]);
    let (_, _, text) = server
        .post("/api/generate", &json!({"model": "smollm2:135m"}))
        .await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&answer["done"], &answer["done_reason"]),
        (&json!(true), &json!("load"))
    );
}

#[tokio::test]
async fn what_is_not_there_is_refused() {
    let server = Server::start(&["--pace", "1"]);
    let (status, _, text) = server
        .post("/api/generate", &json!({"model": "llama3:70b", "prompt": "x"}))
        .await;
    assert_eq!(
        (status, text.as_str()),
        (404, r#"{"error":"model 'llama3:70b' not found"}"#)
    );
    assert_eq!(server.post("/api/show", &json!({"model": "other"})).await.0, 404);
    assert_eq!(
        server.post("/api/chat", &json!({"messages": []})).await.0,
        400,
        "no model named"
    );
    assert_eq!(server.get("/api/pull").await.0, 404);
    assert_eq!(server.get("/api/generate").await.0, 405);
    let large = "x".repeat(1 << 21);
    assert_eq!(
        server
            .post(
                "/api/generate",
                &json!({"model": "smollm2:135m", "prompt": large})
            )
            .await
            .0,
        413
    );
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_model() {
    let server = Server::start(&["--pace", "50"]);
    let body = json!({"model": "smollm2:135m", "prompt": "words ".repeat(2000)});
    let client = reqwest::Client::new();
    let mut first = client
        .post(format!("{}/api/generate", server.url))
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert!(first.chunk().await.unwrap().is_some());
    drop(first);
    // Unless the model stopped, the next answer would wait for minutes.
    let body = json!({"model": "smollm2:135m", "prompt": "x", "options": {"num_predict": 1}});
    let second = tokio::time::timeout(
        std::time::Duration::from_secs(10),
        server.post("/api/generate", &body),
    );
    assert_eq!(second.await.expect("the model is free again").0, 200);
}
