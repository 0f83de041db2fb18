//! The body policy as a whole: what is refused first, then what is forwarded.

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
    judge(to(path), path, body.as_bytes(), policy).map(|judged| String::from_utf8(judged.bytes).unwrap())
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
    let not_utf8 = b"{\"model\":\"smollm2:135m\",\"prompt\":\"\xff\"}";
    assert!(judge(to("/api/chat"), "/api/chat", not_utf8, &policy("")).is_err());
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
    let list = judge(to("/api/tags"), "/api/tags", b"x", &policy("")).unwrap();
    assert_eq!((list.bytes, list.model), (Vec::new(), None));
    let one = |path: &str| judge(to(path), path, b"", &policy(""));
    let good = one("/v1/models/smollm2:135m").unwrap();
    assert_eq!(good.bytes, b"");
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
        judge(to(&long), &long, b"", &any),
        Err(BodyError::Model(_))
    ));
}

#[test]
fn no_device_renders_prompts_or_searches_the_web() {
    for path in [
        "/api/generate",
        "/api/chat",
        "/v1/chat/completions",
        "/v1/completions",
    ] {
        let error = with(path, r#""_debug_render_only":true"#, &policy("")).unwrap_err();
        assert_eq!(error.refusal(), Refusal::OptionDenied, "{path}");
        assert_eq!(
            with(path, r#""_debug_render_only":false"#, &policy("")).unwrap(),
            ""
        );
    }
    for path in [
        "/v1/messages",
        "/v1/responses",
        "/v1/chat/completions",
        "/api/chat",
    ] {
        for kind in ["web_search", "web_search_20250305"] {
            let tools = format!(r#""tools":[{{"type":"function"}},{{"name":"x","type":"{kind}"}}]"#);
            let error = with(path, &tools, &policy("")).unwrap_err();
            assert_eq!(error.refusal(), Refusal::OptionDenied, "{path} {kind}");
        }
    }
    assert!(
        with(
            "/api/chat",
            r#""tools":[{"type":"function","function":{"name":"web_search"}}]"#,
            &policy("")
        )
        .is_ok()
    );
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
fn every_part_is_refused_under_each_of_its_names() {
    let parts = [
        ("raw", "/api/generate", r#""raw":true"#),
        ("system", "/api/generate", r#""system":"x""#),
        (
            "system",
            "/api/chat",
            r#""messages":[{"role":"user"},{"role":"system","content":"x"}]"#,
        ),
        ("system", "/api/chat", r#""messages":[{"role":"SyStem"}]"#),
        ("system", "/api/chat", r#""messages":[{"role":"system\n"}]"#),
        (
            "system",
            "/api/chat",
            r#""messages":[{"role":"<|im_start|>system"}]"#,
        ),
        (
            "system",
            "/v1/chat/completions",
            r#""messages":[{"role":"developer"}]"#,
        ),
        ("system", "/v1/responses", r#""instructions":"x""#),
        (
            "system",
            "/v1/responses",
            r#""input":[{"type":"message","role":"system"}]"#,
        ),
        (
            "system",
            "/v1/messages",
            r#""system":[{"type":"text","text":"x"}]"#,
        ),
        (
            "system",
            "/v1/messages",
            r#""messages":[{"role":"system","content":"x"}]"#,
        ),
        ("template", "/api/generate", r#""template":"{{ .Prompt }}""#),
        ("suffix", "/api/generate", r#""suffix":"x""#),
        ("suffix", "/v1/completions", r#""suffix":"x""#),
        ("context", "/api/generate", r#""context":[1]"#),
        ("images", "/api/generate", r#""images":["aGk="]"#),
        (
            "images",
            "/api/chat",
            r#""messages":[{"role":"user","images":["aGk="]}]"#,
        ),
        (
            "images",
            "/v1/chat/completions",
            r#""messages":[{"content":[{"type":"image_url","image_url":{"url":"data:x"}}]}]"#,
        ),
        (
            "images",
            "/v1/chat/completions",
            r#""messages":[{"content":[{"image_url":"data:x"}]}]"#,
        ),
        (
            "images",
            "/v1/responses",
            r#""input":[{"content":[{"type":"input_image"}]}]"#,
        ),
        (
            "images",
            "/v1/messages",
            r#""messages":[{"content":[{"type":"image","source":{}}]}]"#,
        ),
        (
            "images",
            "/v1/messages",
            r#""messages":[{"content":[{"type":"tool_result","content":[{"type":"image"}]}]}]"#,
        ),
        ("tools", "/api/chat", r#""tools":[{"type":"function"}]"#),
        ("tools", "/api/chat", r#""messages":[{"role":"tool"}]"#),
        (
            "tools",
            "/v1/chat/completions",
            r#""messages":[{"tool_calls":[{}]}]"#,
        ),
        (
            "tools",
            "/v1/messages",
            r#""messages":[{"content":[{"type":"tool_use"}]}]"#,
        ),
        (
            "tools",
            "/v1/responses",
            r#""input":[{"type":"function_call_output"}]"#,
        ),
        ("format", "/api/chat", r#""format":"json""#),
        (
            "format",
            "/v1/chat/completions",
            r#""response_format":{"type":"json_object"}"#,
        ),
        ("format", "/v1/responses", r#""text":{"format":{}}"#),
        ("think", "/api/chat", r#""think":"high""#),
        ("think", "/v1/chat/completions", r#""reasoning_effort":"low""#),
        ("think", "/v1/responses", r#""reasoning":{"effort":"low"}"#),
        ("think", "/v1/messages", r#""thinking":{"type":"enabled"}"#),
        ("logprobs", "/api/generate", r#""logprobs":true"#),
        ("logprobs", "/v1/chat/completions", r#""top_logprobs":2"#),
        ("runner", "/api/chat", r#""options":{"num_gpu":0}"#),
        ("runner", "/api/embed", r#""options":{"num_ctx":10}"#),
        ("keep-alive", "/api/embed", r#""keep_alive":0"#),
    ];
    for (part, path, body) in parts {
        let rules = rules(&format!("{{\"refuse\":[\"{part}\"]}}"));
        let error = with(path, body, &rules).unwrap_err();
        assert!(
            matches!(&error, BodyError::Part { part: found, .. } if found.word() == part),
            "{path} {body}: {error}"
        );
        assert_eq!(error.refusal(), Refusal::OptionDenied);
        assert!(
            with(path, body, &policy("")).is_ok(),
            "{path} {body} without the rule"
        );
    }
    for part in domain::Part::ALL {
        assert!(
            parts.iter().any(|(word, ..)| *word == part.word()),
            "{part} has no test"
        );
    }
}

#[test]
fn what_says_nothing_is_not_refused() {
    let all = rules(
        r#"{"refuse":["raw","system","template","suffix","context","images","tools","format","think","logprobs"]}"#,
    );
    for (path, body) in [
        (
            "/api/generate",
            r#""raw":false,"system":"","template":null,"suffix":"","context":[],"images":[],"format":"","think":false,"top_logprobs":0"#,
        ),
        (
            "/api/chat",
            r#""messages":[{"role":"user","content":"system","images":[],"tool_calls":[]},{"role":"assistant"}],"tools":[]"#,
        ),
        (
            "/v1/messages",
            r#""messages":[{"role":"user","content":[{"type":"text","text":"an image"}]}]"#,
        ),
        ("/v1/responses", r#""input":"hello","instructions":"""#),
    ] {
        assert_eq!(with(path, body, &all).unwrap(), body);
    }
}

#[test]
fn a_model_stays_loaded_within_the_policys_range() {
    let range = rules(r#"{"min_keep_alive":60,"max_keep_alive":600}"#);
    for (asked, forwarded) in [
        ("-1", "\"600s\""),
        ("-0.5", "\"600s\""),
        ("\"-1s\"", "\"600s\""),
        ("\"24h\"", "\"600s\""),
        ("601", "\"600s\""),
        ("1e300", "\"600s\""),
        ("18446744073709551615", "\"600s\""),
        ("9300000000", "\"600s\""),
        ("0", "\"60s\""),
        ("-0", "\"60s\""),
        ("\"0\"", "\"60s\""),
        ("\"59s999ms\"", "\"60s\""),
        ("59.9", "\"60s\""),
        ("600", "600"),
        ("\"5m\"", "\"5m\""),
        ("\"1m0.5s\"", "\"1m0.5s\""),
        ("null", "null"),
    ] {
        let out = with("/api/chat", &format!("\"keep_alive\":{asked}"), &range).unwrap();
        assert_eq!(out, format!("\"keep_alive\":{forwarded}"), "{asked}");
    }
    for unreadable in ["\"5\"", "\"soon\"", "\"\"", "true", "[]", "{}", "\"2562048h\""] {
        let error = with("/api/chat", &format!("\"keep_alive\":{unreadable}"), &range).unwrap_err();
        assert_eq!(error, BodyError::Unreadable("keep_alive"), "{unreadable}");
        assert_eq!(error.refusal(), Refusal::OptionDenied);
    }
    // Without an upper end, what would wrap around in Go is not let through.
    let least = rules(r#"{"min_keep_alive":60}"#);
    assert_eq!(
        with("/api/chat", "\"keep_alive\":-1", &least).unwrap(),
        "\"keep_alive\":-1"
    );
    for wraps in ["9300000000", "1e18", "18446744073709551615"] {
        assert!(
            with("/api/chat", &format!("\"keep_alive\":{wraps}"), &least).is_err(),
            "{wraps}"
        );
    }
    assert_eq!(
        with("/api/chat", "", &range).unwrap(),
        "",
        "absent stays the server's own"
    );
}

#[test]
fn contexts_are_cut_and_never_filled_in() {
    let rules = rules(r#"{"max_num_ctx":4096}"#);
    for (asked, forwarded) in [
        ("4097", "4096"),
        ("4096.5", "4096"),
        ("1e300", "4096"),
        ("18446744073709551615", "4096"),
        ("4096", "4096"),
        ("-5", "-5"),
        ("null", "null"),
    ] {
        let out = with(
            "/api/embed",
            &format!("\"options\":{{\"num_ctx\":{asked},\"seed\":1}}"),
            &rules,
        )
        .unwrap();
        assert_eq!(out, format!("\"options\":{{\"num_ctx\":{forwarded},\"seed\":1}}"));
    }
    for unreadable in ["\"4096\"", "true", "[1]"] {
        let error = with(
            "/api/chat",
            &format!("\"options\":{{\"num_ctx\":{unreadable}}}"),
            &rules,
        )
        .unwrap_err();
        assert_eq!(error, BodyError::Unreadable("num_ctx"), "{unreadable}");
    }
    assert_eq!(with("/api/chat", "\"options\":null", &rules).unwrap(), "");
}

#[test]
fn answers_are_bounded_on_every_route_whatever_is_asked() {
    let rules = rules(r#"{"max_num_predict":64}"#);
    for (path, asked, forwarded) in [
        ("/api/chat", "", r#""options":{"num_predict":64}"#),
        (
            "/api/chat",
            r#""options":null"#,
            r#""options":{"num_predict":64}"#,
        ),
        ("/api/chat", r#""options":{}"#, r#""options":{"num_predict":64}"#),
        (
            "/api/chat",
            r#""options":{"x":1}"#,
            r#""options":{"num_predict":64}"#,
        ),
        (
            "/api/generate",
            r#""options":{"num_predict":-1}"#,
            r#""options":{"num_predict":64}"#,
        ),
        (
            "/api/generate",
            r#""options":{"num_predict":-2,"seed":1}"#,
            r#""options":{"num_predict":64,"seed":1}"#,
        ),
        (
            "/api/generate",
            r#""options":{"num_predict":0.9}"#,
            r#""options":{"num_predict":64}"#,
        ),
        (
            "/api/generate",
            r#""options":{"seed":1,"num_predict":null}"#,
            r#""options":{"seed":1,"num_predict":64}"#,
        ),
        (
            "/api/generate",
            r#""options":{"num_predict":9223372036854775808}"#,
            r#""options":{"num_predict":64}"#,
        ),
        (
            "/api/generate",
            r#""options":{"num_predict":63}"#,
            r#""options":{"num_predict":63}"#,
        ),
        ("/v1/chat/completions", "", r#""max_tokens":64"#),
        (
            "/v1/chat/completions",
            r#""max_tokens":null"#,
            r#""max_tokens":64"#,
        ),
        (
            "/v1/chat/completions",
            r#""max_tokens":100"#,
            r#""max_tokens":64"#,
        ),
        // Ollama does not read the newer name: it must have the older one beside it.
        (
            "/v1/chat/completions",
            r#""max_completion_tokens":10"#,
            r#""max_completion_tokens":10,"max_tokens":10"#,
        ),
        (
            "/v1/chat/completions",
            r#""max_completion_tokens":100"#,
            r#""max_completion_tokens":64,"max_tokens":64"#,
        ),
        ("/v1/completions", r#""max_tokens":0"#, r#""max_tokens":64"#),
        ("/v1/responses", "", r#""max_output_tokens":64"#),
        ("/v1/messages", r#""max_tokens":1024"#, r#""max_tokens":64"#),
        ("/api/embed", "", ""),
        ("/v1/embeddings", "", ""),
    ] {
        assert_eq!(with(path, asked, &rules).unwrap(), forwarded, "{path} {asked}");
    }
    for (path, bad) in [
        ("/api/chat", r#""options":{"num_predict":"64"}"#),
        ("/v1/messages", r#""max_tokens":"64""#),
        ("/v1/chat/completions", r#""max_completion_tokens":[]"#),
    ] {
        let error = with(path, bad, &rules).unwrap_err();
        assert!(matches!(error, BodyError::Unreadable(_)), "{path} {bad}: {error}");
    }
}

#[test]
fn a_request_as_clients_send_it_is_not_changed() {
    let body = r#"{"model":"smollm2:135m","messages":[{"role":"system","content":"Grüezi\n\"x\""},{"role":"user","content":[{"type":"text","text":"a"}]}],"stream":true,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"Model":{"type":"string"}}}}}],"options":{"temperature":0.5,"stop":["x"]}}"#;
    assert_eq!(chat(body).unwrap(), body);
    let spaced = "{ \"model\" : \"smollm2:135\\u006d\",\n \"think\": null }";
    assert_eq!(chat(spaced).unwrap(), r#"{"model":"smollm2:135m","think":null}"#);
}

#[path = "tests_go.rs"]
mod go;
#[path = "tests_near.rs"]
mod near;
