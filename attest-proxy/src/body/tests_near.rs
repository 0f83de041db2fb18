//! Bodies that are near to requests, and what holds for all of them.

use proptest::prelude::*;

use super::*;

/// JSON that is near to requests: known keys, their twins, escapes, numbers at the edges.
pub(super) fn near_requests() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "model",
        "MODEL",
        "mode\\u006c",
        "options",
        "num_ctx",
        "num_predict",
        "Num_Predict",
        "keep_alive",
        "\u{212a}eep_alive",
        "raw",
        "system",
        "\u{17f}ystem",
        "messages",
        "role",
        "content",
        "images",
        "max_tokens",
        "max_completion_tokens",
        "x",
        "stream",
        "tools",
        "type",
        "format",
    ]);
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "64",
        "65",
        "4097",
        "1e3",
        "1e300",
        "54e300",
        "0.5",
        "-0.5",
        "18446744073709551615",
        "9223372036854775808",
        "\"\"",
        "\"smollm2:135m\"",
        "\"other\"",
        "\"5m\"",
        "\"-1\"",
        "\"0\"",
        "\"system\"",
        "\"a\\u0000\\n\"",
        "\"\\ud83d\\ude00\"",
        "\"image\"",
        "\"100h\"",
    ])
    .prop_map(str::to_owned);
    let value = leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((key.clone(), inner), 0..4).prop_map(|entries| object(&entries)),
        ]
    });
    let key = prop::sample::select(vec![
        "options",
        "keep_alive",
        "raw",
        "system",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "stream",
        "x",
        "tools",
        "MODEL",
        "model",
        "images",
        "format",
        "prompt",
    ]);
    let stays = prop::option::of(prop::sample::select(vec![
        "0", "-1", "300", "601", "59.5", "\"5m\"", "\"100h\"", "\"-1s\"",
    ]));
    (prop::collection::vec((key, value), 0..4), stays).prop_map(|(mut entries, stays)| {
        entries.extend(stays.map(|time| ("keep_alive", time.to_owned())));
        entries.insert(entries.len() / 2, ("model", "\"smollm2:135m\"".to_owned()));
        object(&entries)
    })
}

fn object(entries: &[(&str, String)]) -> String {
    let entries: Vec<String> = entries
        .iter()
        .map(|(key, value)| format!("\"{key}\":{value}"))
        .collect();
    format!("{{{}}}", entries.join(","))
}

pub(super) const STRICT: &str = r#"{"min_keep_alive":60,"max_keep_alive":600,"max_num_ctx":4096,"max_num_predict":64,"refuse":["raw","system","images"]}"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What is forwarded is judged to itself: nothing is left that a second look would change or refuse.
    #[test]
    fn a_second_look_changes_nothing(body in near_requests(), nth in 0..14_usize) {
        let path = Endpoint::ALL[nth].path();
        prop_assume!(matches!(to(path).class, Class::Inference | Class::Show));
        for policy in [policy(""), rules(STRICT)] {
            if let Ok(once) = judged(path, &body, &policy) {
                prop_assert_eq!(judged(path, &once, &policy).unwrap(), once);
            }
        }
    }
}

/// Found by fuzzing: a number was read a little off, and written so.
#[test]
fn a_number_is_forwarded_to_its_last_digit() {
    for (came, goes) in [
        ("54e300", "5.4e+301"),
        ("0.1", "0.1"),
        ("5e-324", "5e-324"),
        ("123456789.12345678", "123456789.12345678"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("9007199254740993", "9007199254740993"),
    ] {
        let body = format!("{{\"model\":\"smollm2:135m\",\"options\":{{\"temperature\":{came}}}}}");
        let out = judged("/api/generate", &body, &policy("")).unwrap();
        assert_eq!(out, body.replace(came, goes));
    }
}
