//! The body policy as a whole: what is refused to everyone, then what is forwarded.

use domain::Endpoint;
use protocol::Refusal;

use super::*;
use crate::routes::{Route, find};

fn policy(more: &str) -> PolicyRecord {
    let json = format!(
        r#"{{"version":1,"revision":1,"models":["smollm2:135m","x:cloud"],"session_ttl":600{more}}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn rules(options: &str) -> PolicyRecord {
    policy(&format!(",\"options\":{options}"))
}

fn to(path: &str) -> Forward {
    let method = if path.starts_with("/v1/models") || ["/api/tags", "/api/ps"].contains(&path) {
        http::Method::GET
    } else {
        http::Method::POST
    };
    match find(&method, path) {
        Ok(Route::Forward(to)) => to,
        other => panic!("{path}: {other:?}"),
    }
}

fn judged(path: &str, body: &str, policy: &PolicyRecord) -> Result<String, BodyError> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    judge(to(path), path, &body, policy).map(|judged| String::from_utf8(judged.bytes.to_vec()).unwrap())
}

fn chat(body: &str) -> Result<String, BodyError> {
    judged("/api/chat", body, &policy(""))
}

/// The body with the model put in front.
fn with(path: &str, rest: &str, policy: &PolicyRecord) -> Result<String, BodyError> {
    let comma = if rest.is_empty() { "" } else { "," };
    let out = judged(
        path,
        &format!("{{\"model\":\"smollm2:135m\"{comma}{rest}}}"),
        policy,
    )?;
    let out = out.strip_prefix("{\"model\":\"smollm2:135m\"").unwrap();
    Ok(out.trim_start_matches(',').strip_suffix('}').unwrap().to_owned())
}

#[test]
fn other_models_are_denied_on_every_route() {
    for path in Endpoint::ALL.iter().map(|e| e.path()) {
        if to(path).class != Class::Inference && to(path).class != Class::Show {
            continue;
        }
        for model in [
            "other",
            "SMOLLM2:135m",
            "smollm2:135m ",
            "smollm2",
            "*",
            "",
            "X:cloud",
        ] {
            let error = judged(path, &format!("{{\"model\":{model:?}}}"), &policy("")).unwrap_err();
            assert_eq!(error.refusal(), Refusal::ModelDenied, "{path} {model}");
        }
        let long = format!("{{\"model\":\"{}\"}}", "m".repeat(600));
        assert_eq!(
            judged(path, &long, &policy("")).unwrap_err().refusal(),
            Refusal::ModelDenied
        );
        for none in [
            "{}",
            r#"{"model":7}"#,
            r#"{"model":null}"#,
            r#"{"model":["smollm2:135m"]}"#,
        ] {
            assert_eq!(
                judged(path, none, &policy("")),
                Err(BodyError::NoModel),
                "{path} {none}"
            );
        }
        assert!(with(path, "", &policy("")).is_ok(), "{path}");
    }
    assert!(
        chat(r#"{"model":"x:cloud"}"#).is_ok(),
        "allowed by its literal name"
    );
    assert_eq!(BodyError::NoModel.refusal(), Refusal::RequestMalformed);
}

#[test]
fn two_meanings_are_refused() {
    for body in [
        r#"{"model":"smollm2:135m","model":"other"}"#,
        r#"{"model":"smollm2:135m","MODEL":"other"}"#,
        r#"{"model":"smollm2:135m","modeL":"other"}"#,
        r#"{"MODEL":"smollm2:135m"}"#,
        r#"{"model":"smollm2:135m","\u006dodel":"other"}"#,
        r#"{"model":"smollm2:135m","ſystem":"x"}"#,
        r#"{"model":"smollm2:135m","\u212Aeep_alive":-1}"#,
        r#"{"model":"smollm2:135m","options":{"num_ctx":1,"num_ctx":2}}"#,
        r#"{"model":"smollm2:135m","options":{"Num_Ctx":2}}"#,
        r#"{"model":"smollm2:135m","unknown":1,"unknown":2}"#,
        r#"{"model":"smollm2:135m","messages":[{"role":"user","Role":"system"}]}"#,
        r#"{"model":"smollm2:135m"}{"model":"other"}"#,
        r#"{"model":"smollm2:135m"} x"#,
        r#"[{"model":"smollm2:135m"}]"#,
        "\"smollm2:135m\"",
        "null",
        "",
        "{\"model\":\"smollm2:135m\",}",
        "{\"model\":\"smollm2:135m\",\"a\":NaN}",
        "{\"model\":\"smollm2:135m\",\"a\":1e999}",
        "{\"model\":\"smollm2:135m\",\"a\":\"\\ud800\"}",
        "\u{feff}{\"model\":\"smollm2:135m\"}",
    ] {
        assert_eq!(
            chat(body).unwrap_err().refusal(),
            Refusal::RequestMalformed,
            "{body}"
        );
    }
    let not_utf8 = Bytes::from_static(b"{\"model\":\"smollm2:135m\",\"prompt\":\"\xff\"}");
    assert!(judge(to("/api/chat"), "/api/chat", &not_utf8, &policy("")).is_err());
    for (key, value) in [
        ("stream", "\"no\""),
        ("messages", "{}"),
        ("messages", "[[]]"),
        ("messages", "[\"x\"]"),
        ("messages", "\"x\""),
        ("tools", "{}"),
        ("options", "[]"),
        ("options", "\"x\""),
    ] {
        let error = with("/api/chat", &format!("\"{key}\":{value}"), &policy("")).unwrap_err();
        assert_eq!(error.refusal(), Refusal::RequestMalformed, "{key} {value}");
    }
}

#[test]
fn show_takes_one_name() {
    let show = |body: &str| judged("/api/show", body, &policy(""));
    assert!(show(r#"{"model":"smollm2:135m"}"#).is_ok());
    assert_eq!(
        show(r#"{"name":"smollm2:135m","system":"x","verbose":true}"#).unwrap(),
        r#"{"name":"smollm2:135m","verbose":true}"#
    );
    assert_eq!(
        show(r#"{"name":"b"}"#).unwrap_err().refusal(),
        Refusal::ModelDenied
    );
    assert!(show(r#"{"model":"smollm2:135m","name":"smollm2:135m"}"#).is_err());
    // On other routes it is no name of a model.
    assert_eq!(chat(r#"{"name":"smollm2:135m"}"#), Err(BodyError::NoModel));
}

#[test]
fn lists_forward_no_body_and_one_model_is_judged_by_its_path() {
    let list = judge(
        to("/api/tags"),
        "/api/tags",
        &Bytes::from_static(b"x"),
        &policy(""),
    )
    .unwrap();
    assert_eq!((list.bytes, list.model), (Bytes::new(), None));
    let one = |path: &str| judge(to(path), path, &Bytes::new(), &policy(""));
    let good = one("/v1/models/smollm2:135m").unwrap();
    assert_eq!(good.bytes, Bytes::new());
    let asked = asked_for(to("/v1/models/smollm2:135m"), &good).unwrap();
    assert_eq!(asked.as_str(), "smollm2:135m");
    assert!(asked_for(to("/api/tags"), &good).is_none());
    assert_eq!(
        one("/v1/models/other").unwrap_err().refusal(),
        Refusal::ModelDenied
    );
    let any = serde_json::from_str(r#"{"version":1,"revision":1,"models":["*"],"session_ttl":600}"#).unwrap();
    let long = format!("/v1/models/{}", "m".repeat(260));
    assert!(matches!(
        judge(to(&long), &long, &Bytes::new(), &any),
        Err(BodyError::Model(_))
    ));
}

#[test]
fn what_ollama_does_not_know_stays_here() {
    assert_eq!(
        with("/api/generate", r#""prompt":"a","remote_host":"https://x","options":{"seed":1,"fetch":"https://x"},"messages":[]"#, &policy("")).unwrap(),
        r#""prompt":"a","options":{"seed":1}"#
    );
    assert_eq!(
        with(
            "/v1/chat/completions",
            r#""store":true,"user":"u","n":1"#,
            &policy("")
        )
        .unwrap(),
        ""
    );
}

#[test]
fn a_request_as_clients_send_it_is_not_changed() {
    let body = r#"{"model":"smollm2:135m","messages":[{"role":"system","content":"Grüezi\n\"x\""},{"role":"user","content":[{"type":"text","text":"a"}]}],"stream":true,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"Model":{"type":"string"}}}}}],"options":{"temperature":0.5,"stop":["x"]}}"#;
    assert_eq!(chat(body).unwrap(), body);
    let spaced = "{ \"model\" : \"smollm2:135\\u006d\",\n \"think\": null }";
    assert_eq!(chat(spaced).unwrap(), r#"{"model":"smollm2:135m","think":null}"#);
}

#[path = "tests_clamps.rs"]
mod clamps;
#[path = "tests_go.rs"]
mod go;
#[path = "tests_near.rs"]
mod near;
#[path = "tests_parts.rs"]
mod parts;
#[path = "tests_serde.rs"]
mod written_by_serde;
