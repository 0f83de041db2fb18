//! What the policy clamps: how long a model stays loaded, its context, and its answer.

use super::*;

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
