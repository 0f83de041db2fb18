//! The body policy, held to a decoder that reads JSON as Go does.
//!
//! Each module is the proxy's own file. Beside them stands [`Go`]: keys in any case (and U+017F and U+212A for `s` and `k`), the last of
//! equal ones, null for nothing said. Whatever passes must mean to it what was judged.

#[path = "../../attest-proxy/src/body/duration.rs"]
mod duration;
#[path = "../../attest-proxy/src/body/error.rs"]
mod error;
#[path = "../../attest-proxy/src/body/fields.rs"]
mod fields;
#[path = "../../attest-proxy/src/body/keys.rs"]
mod keys;
#[path = "../../attest-proxy/src/body/known.rs"]
mod known;
#[path = "../../attest-proxy/src/body/number.rs"]
mod number;
#[path = "../../attest-proxy/src/body/place.rs"]
mod place;
#[path = "../../attest-proxy/src/body/reader.rs"]
mod reader;
#[path = "../../attest-proxy/src/body/rewrite.rs"]
mod rewrite;
#[path = "../../attest-proxy/src/body/rules.rs"]
mod rules;
#[path = "../../attest-proxy/src/body/seen.rs"]
mod seen;
#[path = "../../attest-proxy/src/body/text.rs"]
mod text;
#[path = "../../attest-proxy/src/body/verdicts.rs"]
mod verdicts;
#[path = "../../attest-proxy/src/body/written.rs"]
mod written;

use std::{fmt, sync::OnceLock};

use domain::{Endpoint, OptionRules};
use error::BodyError;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

const STRICT: &str = r#"{"min_keep_alive":60,"max_keep_alive":600,"max_num_ctx":4096,"max_num_predict":64,"refuse":["raw","system","images"]}"#;
/// Roles that no policy takes for a system prompt.
const ROLES: [&str; 5] = ["", "user", "assistant", "tool", "function"];

/// A body: the first byte says for which endpoint, and by which rules. What is forwarded is judged to itself, and Go finds in it, and in
/// what came, the judged model and nothing that the rules keep out.
pub fn request_body(data: &[u8]) {
    static RULES: OnceLock<OptionRules> = OnceLock::new();
    let Some((choice, body)) = data.split_first() else {
        return;
    };
    let Some(&endpoint) = Endpoint::ALL.get(usize::from(choice >> 1) % Endpoint::ALL.len()) else {
        return;
    };
    let strict = choice & 1 == 1;
    let free = OptionRules::default();
    let rules = if strict {
        RULES.get_or_init(|| serde_json::from_str(STRICT).expect("rules"))
    } else {
        &free
    };
    let Ok(once) = rewrite::rewrite(endpoint, body, rules) else {
        return;
    };
    let twice = rewrite::rewrite(endpoint, &once.bytes, rules).expect("what is forwarded is good");
    assert_eq!(once.bytes, twice.bytes, "a second look changes something");
    assert_eq!((&once.model, &once.name), (&twice.model, &twice.name));
    // Two of them, or none, are refused where the model is looked up.
    let model = match (once.model, once.name) {
        (Some(model), None) | (None, Some(model)) => model,
        _ => return,
    };
    for text in [body, &once.bytes] {
        let go: Go = serde_json::from_slice(text).expect("JSON");
        let found: Vec<&Go> = ["model", "name"].iter().filter_map(|key| go.field(key)).collect();
        let found: Vec<&str> = found.iter().filter_map(|go| go.text()).collect();
        // `name` is no field of most requests; where it is none, it does not travel.
        assert!(
            found.contains(&&*model),
            "Go finds {found:?}, judged was {model:?}"
        );
        if let Some(Go::Text(found)) = go.field("model") {
            assert_eq!(*found, model, "Go runs another model");
        }
    }
    if strict {
        let go: Go = serde_json::from_slice(&once.bytes).expect("JSON");
        within(endpoint, &go);
    }
}

/// What the strict rules keep out of what is forwarded, as Go reads it.
fn within(endpoint: Endpoint, go: &Go) {
    if !matches!(
        endpoint,
        Endpoint::Generate | Endpoint::Chat | Endpoint::OpenAiChat
    ) {
        return;
    }
    assert!(!matches!(go.field("raw"), Some(Go::Bool(true))), "raw");
    assert!(
        go.field("system").and_then(Go::text).is_none_or(str::is_empty),
        "system"
    );
    assert!(
        !go.field("images")
            .is_some_and(|images| !images.items().is_empty()),
        "images"
    );
    for message in go.field("messages").map(Go::items).unwrap_or_default() {
        let role = message.field("role").and_then(Go::text).unwrap_or_default();
        assert!(ROLES.contains(&role.to_lowercase().as_str()), "the role {role:?}");
        let images = message.field("images").map(Go::items).unwrap_or_default();
        assert!(images.is_empty(), "images");
    }
    if endpoint == Endpoint::OpenAiChat {
        let most = go.field("max_tokens").and_then(Go::number);
        assert!(most.is_some_and(|most| (1.0..65.0).contains(&most)), "max_tokens");
        return;
    }
    // A map of Go's has its keys as they are.
    let option = |name: &str| {
        go.field("options")
            .and_then(|options| options.exact(name))
            .and_then(Go::number)
    };
    assert!(option("num_ctx").is_none_or(|most| most < 4097.0), "num_ctx");
    assert!(
        option("num_predict").is_some_and(|most| (1.0..65.0).contains(&most)),
        "num_predict"
    );
    if let Some(seconds) = go.field("keep_alive").and_then(Go::number) {
        assert!((60.0..601.0).contains(&seconds), "keep_alive {seconds}");
    }
}

/// JSON with every key, in the order in which it came.
#[derive(Debug)]
enum Go {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Go {
    /// What the field of a structure has in the end.
    fn field(&self, name: &str) -> Option<&Self> {
        self.last(|key| fold(key) == name)
    }

    /// What a map has under a key in the end.
    fn exact(&self, name: &str) -> Option<&Self> {
        self.last(|key| key == name)
    }

    fn last(&self, is: impl Fn(&str) -> bool) -> Option<&Self> {
        let Self::Object(entries) = self else { return None };
        let said = entries
            .iter()
            .rev()
            .filter(|(key, value)| is(key) && !matches!(value, Self::Null));
        said.map(|(_, value)| value).next()
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
}

/// How `encoding/json` folds a key.
fn fold(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

impl<'de> Deserialize<'de> for Go {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Go;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Go, E> {
        Ok(Go::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Go, E> {
        Ok(Go::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Go, E> {
        Ok(Go::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Go, E> {
        Ok(Go::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Go, E> {
        Ok(Go::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Go, E> {
        Ok(Go::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Go, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Go::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Go, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            all.push(entry);
        }
        Ok(Go::Object(all))
    }
}
