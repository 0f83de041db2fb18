//! serde_json as the judge: what it refuses is refused, and what is forwarded is what it would write, byte for byte.

use std::{collections::HashSet, fmt};

use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use super::*;
use crate::body::{known, rewrite};

/// JSON with every key, in the order in which it came.
enum Tree {
    Scalar(serde_json::Value),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Tree {
    /// Whether no object has a key twice, and none has a twin of a known key.
    fn is_strict(&self) -> bool {
        match self {
            Self::Scalar(_) => true,
            Self::List(items) => items.iter().all(Self::is_strict),
            Self::Object(entries) => {
                let mut keys = HashSet::new();
                entries
                    .iter()
                    .all(|(key, value)| keys.insert(key) && !known::is_twin(key) && value.is_strict())
            }
        }
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Scalar(value) => value.serialize(to),
            Self::List(items) => to.collect_seq(items),
            Self::Object(entries) => to.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(serde_json::Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Tree::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            all.push(entry);
        }
        Ok(Tree::Object(all))
    }
}

/// A free key, in which nothing is left out, with `inner` in it.
fn around(inner: &[u8]) -> Vec<u8> {
    [b"{\"tool_choice\":", inner, b"}"].concat()
}

fn agree(body: &[u8]) {
    let shown = || String::from_utf8_lossy(body);
    let rules = domain::OptionRules::default();
    let ours = rewrite::rewrite(Endpoint::OpenAiChat, body, &rules).map(|ours| ours.bytes.into_owned());
    let theirs = serde_json::from_slice::<Tree>(body)
        .ok()
        .filter(Tree::is_strict)
        .map(|tree| serde_json::to_vec(&tree).unwrap());
    assert_eq!(ours.as_ref().ok(), theirs.as_ref(), "{}: {ours:?}", shown());
}

/// Strings, numbers and what is near to them.
fn tokens() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?",
        "[0-9.eE+-]{1,6}",
        "\"([a-zé\u{20}-\u{7f}]{0,9}|\\\\[\"\\\\/bfnrtu]|\\\\u00[01][0-9a-fA-F]|\\\\u[dD][89abcCdD][0-9]{2}|\\\\ud83d\\\\ude0[0-9]){0,6}\"",
        "\"[a-z ]{20,50}[\"\\\\\n\u{1f}é]?[a-z]{0,40}\"",
        prop::sample::select(vec![
            "null",
            "true",
            "false",
            "nul",
            "True",
            "{}",
            "[]",
            "[[]]",
            "{\"a\":[{}]}",
            "NaN",
            "-",
            "'a'",
        ])
        .prop_map(str::to_owned),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    let space = prop::sample::select(vec!["", "", "", "", " ", "\n", "\t", "\r\n  ", "\u{b}", "\u{a0}"]);
    let key = prop::sample::select(vec![
        "a",
        "b",
        "model",
        "MODEL",
        "\u{17f}ystem",
        "Content-Type",
        "\\u0061",
        "a\\\"",
        "a\\/b",
        "a_long_key_of_some_more_bytes",
        "x\ty",
    ]);
    tokens().prop_recursive(4, 24, 5, move |inner| {
        let item =
            (space.clone(), inner.clone(), space.clone()).prop_map(|(a, item, b)| format!("{a}{item}{b}"));
        let entry = (space.clone(), key.clone(), space.clone(), item.clone())
            .prop_map(|(a, key, b, item)| format!("{a}\"{key}\"{b}:{item}"));
        prop_oneof![
            prop::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(entry, 0..4).prop_map(|entries| format!("{{{}}}", entries.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn serde_json_writes_what_is_forwarded_and_refuses_what_is_refused(text in texts()) {
        agree(&around(text.as_bytes()));
    }

    #[test]
    fn serde_json_refuses_what_is_refused_of_broken_texts(text in texts(), at in any::<prop::sample::Index>(), byte: u8, what in 0..3) {
        let mut body = around(text.as_bytes());
        let at = at.index(body.len());
        match what {
            0 => body[at] = byte,
            1 => body.insert(at, byte),
            _ => body.truncate(at),
        }
        // A key that became another one does not travel.
        prop_assume!(body.starts_with(b"{\"tool_choice\":") || serde_json::from_slice::<Tree>(&body).is_err());
        agree(&body);
    }
}

#[test]
fn it_nests_as_deep_as_serde_json_goes() {
    for depth in 120..135 {
        agree(&around(
            format!("{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes(),
        ));
        agree(&around(
            format!("{}0{}", "{\"a\":".repeat(depth), "}".repeat(depth)).as_bytes(),
        ));
    }
    let siblings = "[[[]],{\"a\":{}}],".repeat(100);
    agree(&around(format!("[{siblings}0]").as_bytes()));
}
