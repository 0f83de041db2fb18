//! What the policy refuses, and what is refused to everyone.

use super::*;

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

/// The usual form of a message is read by itself. One with white space in it is not of that form.
#[test]
fn a_message_as_everyone_writes_it_is_judged_as_any_other() {
    let refusing = rules(r#"{"refuse":["system","tools","images"]}"#);
    let long = format!("\"{}\"", "system".repeat(200));
    let values = [
        r#""user""#,
        r#""system""#,
        r#""System""#,
        r#""tool""#,
        r#""""#,
        r#""us\u0065r""#,
        r#""syste\u006d""#,
        r#""user\n""#,
        "null",
        r#""\x""#,
        "\"a\tb\"",
        "\"a",
        r#""Grüezi""#,
        &long,
    ];
    let rests = [
        "",
        r#","images":["x"]"#,
        r#","role":"user""#,
        r#","content":"x""#,
        ",",
        "}",
    ];
    // Where a text is malformed, it is so one byte later.
    let blame = |error: BodyError| match error {
        BodyError::Json(_) => BodyError::Json(String::new()),
        other => other,
    };
    for (role, content) in values
        .iter()
        .flat_map(|role| values.map(|content| (role, content)))
    {
        for rest in rests {
            let judged = |space: &str| {
                let message = format!("{{{space}\"role\":{role},\"content\":{content}{rest}}}");
                with(
                    "/api/chat",
                    &format!("\"messages\":[{message},{message}]"),
                    &refusing,
                )
                .map_err(blame)
            };
            assert_eq!(judged(""), judged(" "), "{role} {content} {rest}");
        }
    }
    let usual = r#""messages":[{"role":"user","content":"\"x\" é"}]"#;
    assert_eq!(with("/api/chat", usual, &refusing).unwrap(), usual);
}
