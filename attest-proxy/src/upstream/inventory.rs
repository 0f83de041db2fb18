//! Which models a server has, and which are in its memory, as its lists tell. Pure.
//!
//! Owns: reading `/api/tags` and `/api/ps`, and when two names are one model: Ollama adds `:latest` to a name without a
//! tag, leaves its own registry's name out, and does not mind the case. A name that is not understood matches itself
//! alone; a wrong match costs a detour, since the server that gets the request judges the name again.

use std::{borrow::Cow, collections::HashSet};

use serde::Deserialize;

/// The longest list that is read, in bytes.
pub(super) const MAX_LIST: usize = 8 << 20;

/// What a server has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inventory {
    /// `None`: not known.
    pub(super) installed: Option<Models>,
    pub(super) loaded: Models,
}

/// Names of models, each in its one spelling.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Models(HashSet<Box<str>>);

impl Models {
    /// Reads a list. `None`: it is none.
    pub(super) fn parse(answer: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct List {
            models: Option<Vec<Item>>,
        }
        #[derive(Deserialize)]
        struct Item {
            name: Option<String>,
            model: Option<String>,
        }
        let list: List = serde_json::from_slice(answer).ok()?;
        let names = list
            .models
            .unwrap_or_default()
            .into_iter()
            .flat_map(|item| [item.name, item.model])
            .flatten();
        Some(Self(names.map(|name| canonical(&name).into()).collect()))
    }

    /// Whether a model is among them, by its name as [`canonical`] writes it.
    pub(super) fn has(&self, canonical: &str) -> bool {
        self.0.contains(canonical)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A model's name in its one spelling.
pub(super) fn canonical(name: &str) -> Cow<'_, str> {
    let mut short = name.trim();
    for registry in ["registry.ollama.ai/", "library/"] {
        if let Some((head, rest)) = short.split_at_checked(registry.len())
            && head.eq_ignore_ascii_case(registry)
        {
            short = rest;
        }
    }
    let tagged = short
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains([':', '@']));
    let upper = short.bytes().any(|b| b.is_ascii_uppercase());
    match (tagged, upper) {
        (true, false) => Cow::Borrowed(short),
        (true, true) => Cow::Owned(short.to_ascii_lowercase()),
        (false, _) => Cow::Owned(format!("{}:latest", short.to_ascii_lowercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_has_one_name() {
        for (name, one) in [
            ("llama3", "llama3:latest"),
            ("LLaMA3:8B", "llama3:8b"),
            ("llama3:8b", "llama3:8b"),
            ("library/llama3", "llama3:latest"),
            ("registry.ollama.ai/library/llama3:8b", "llama3:8b"),
            ("host:5000/me/x", "host:5000/me/x:latest"),
            (" x:1 ", "x:1"),
            ("hf.co/A/B:Q4", "hf.co/a/b:q4"),
            ("x@sha256", "x@sha256"),
            ("é", "é:latest"),
            ("", ":latest"),
        ] {
            assert_eq!(canonical(name), one);
            assert_eq!(canonical(one), one, "twice is as once");
        }
    }

    #[test]
    fn lists_are_read_as_ollama_writes_them() {
        let models =
            Models::parse(br#"{"models":[{"name":"a:1","model":"a:1","size":1},{"model":"B"},{"x":2}]}"#)
                .unwrap();
        assert!(models.has("a:1") && models.has("b:latest") && !models.has("a:latest"));
        assert_eq!(models.len(), 2);
        assert_eq!(Models::parse(br#"{"models":null}"#), Some(Models::default()));
        for bad in [&b"[]"[..], b"x", b"", br#"{"models":[7]}"#] {
            assert_eq!(Models::parse(bad), None);
        }
    }
}
