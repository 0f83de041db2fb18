//! The names of models that a policy allows: as they are, or as patterns.
//!
//! Owns: the grammar, and what a pattern never means. What runs in a cloud leaves the house: only its literal name allows it.
//! An attacker chooses the names that are matched; matching takes at most pattern times name steps, both bounded.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name or pattern, in bytes.
pub const MODEL_LEN_MAX: usize = 256;

/// The most models that a policy names.
pub const MODELS_MAX: usize = 256;

/// What Ollama reads a name without a tag as.
const DEFAULT_TAG: &str = ":latest";

/// Why a text is not a name of a model and not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a model is 1 to {MODEL_LEN_MAX} visible ASCII characters")]
pub struct InvalidModelPattern;

/// One model, by its literal name, or several, by a pattern.
///
/// `*` alone is any model; in a longer pattern it stands for any characters but `/`, `?` for one. A name without a tag and the
/// same name with `:latest` are one, as they are for Ollama. No pattern means a name that ends in `:cloud` or `-cloud`
/// in any case, or one with characters that Ollama's names do not have: such a name is allowed by itself alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelPattern(Box<str>);

impl ModelPattern {
    /// The pattern's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for more than one name.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        self.0.contains(['*', '?'])
    }

    /// Whether a device with this pattern may use the model.
    #[must_use]
    pub fn allows(&self, model: &str) -> bool {
        if model.len() > MODEL_LEN_MAX + DEFAULT_TAG.len() {
            return false;
        }
        if !self.is_wild() {
            return *self.0 == *model
                || (is_plain(model) && without_latest(&self.0) == without_latest(model));
        }
        if !is_plain(model) || leaves(model) {
            return false;
        }
        let tagged = has_tag(model);
        *self.0 == *"*"
            || glob(self.0.as_bytes(), model.as_bytes())
            || (!tagged && glob(self.0.as_bytes(), format!("{model}{DEFAULT_TAG}").as_bytes()))
            || (tagged
                && without_latest(model) != model
                && glob(self.0.as_bytes(), without_latest(model).as_bytes()))
    }
}

/// Letters, digits and the marks of a model's name, all ASCII.
fn is_plain(model: &str) -> bool {
    let mark = |b: u8| matches!(b, b'.' | b'_' | b'-' | b':' | b'/' | b'@');
    !model.is_empty() && model.bytes().all(|b| b.is_ascii_alphanumeric() || mark(b))
}

/// Ollama does not mind the case of `cloud`.
fn leaves(model: &str) -> bool {
    [":cloud", "-cloud"].iter().any(|end| {
        model
            .len()
            .checked_sub(end.len())
            .and_then(|at| model.get(at..))
            .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    })
}

fn has_tag(model: &str) -> bool {
    model.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

fn without_latest(model: &str) -> &str {
    model.strip_suffix(DEFAULT_TAG).unwrap_or(model)
}

/// Matches with one point to come back to: the last `*`. An earlier one never has to take more.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0_usize, 0_usize);
    // Where the last `*` was, and how far it has taken the name.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p = p.saturating_add(1);
            }
            Some(b'?') if *byte != b'/' => (p, n) = (p.saturating_add(1), n.saturating_add(1)),
            Some(wanted) if wanted == byte && *wanted != b'?' => {
                (p, n) = (p.saturating_add(1), n.saturating_add(1));
            }
            _ => match star {
                // The star takes one more, unless that is a slash.
                Some((at, taken)) if name.get(taken).is_some_and(|b| *b != b'/') => {
                    star = Some((at, taken.saturating_add(1)));
                    (p, n) = (at.saturating_add(1), taken.saturating_add(1));
                }
                _ => return false,
            },
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

impl FromStr for ModelPattern {
    type Err = InvalidModelPattern;

    fn from_str(text: &str) -> Result<Self, InvalidModelPattern> {
        let fits = (1..=MODEL_LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(InvalidModelPattern)
        }
    }
}

impl TryFrom<String> for ModelPattern {
    type Error = InvalidModelPattern;

    fn try_from(text: String) -> Result<Self, InvalidModelPattern> {
        text.parse()
    }
}

impl From<ModelPattern> for String {
    fn from(pattern: ModelPattern) -> String {
        pattern.0.into()
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allows(pattern: &str, model: &str) -> bool {
        pattern.parse::<ModelPattern>().unwrap().allows(model)
    }

    #[test]
    fn texts_that_are_no_pattern() {
        for bad in ["", "a b", "a\n", "modèle", &"m".repeat(257)] {
            assert_eq!(bad.parse::<ModelPattern>(), Err(InvalidModelPattern), "{bad}");
        }
    }

    #[test]
    fn no_pattern_means_what_leaves_the_house() {
        for pattern in [
            "*",
            "gpt-oss:*",
            "gpt*",
            "*cloud",
            "*:cloud",
            "*-clou?",
            "x*",
            "gpt-oss:120b-clou?",
        ] {
            // Ollama trims its names and does not mind their case (its `parseSourceSuffix`).
            for cloud in [
                "gpt-oss:120b-cloud",
                "gpt-oss:120b-CLOUD",
                "x:cloud",
                "x:Cloud",
                "x-cloud",
                "x:cloud ",
                "x: cloud",
                "x:cloud\u{a0}",
                "x:cloud\n",
                "x\u{17f}",
                "",
            ] {
                assert!(!allows(pattern, cloud), "{pattern} {cloud:?}");
            }
        }
        assert!(allows("gpt-oss:120b-cloud", "gpt-oss:120b-cloud"));
        assert!(!allows("gpt-oss:120b-cloud", "gpt-oss:120b-CLOUD"));
        assert!(!allows("gpt-oss:120b", "gpt-oss:120b-cloud"));
    }

    #[test]
    fn patterns_stand_for_characters_within_a_segment() {
        for (pattern, model, fits) in [
            ("*", "hf.co/a/b:q4", true),
            ("llama3*", "llama3", true),
            ("llama3*", "llama3.2:1b", true),
            ("llama3*", "llama2", false),
            ("llama3:*", "llama3", true),
            ("llama3:?b", "llama3:8b", true),
            ("llama3:?b", "llama3:70b", false),
            ("*:*b", "qwen3:8b", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("hf.co/*/b", "hf.co/a/b", true),
            ("hf.co/*", "hf.co/a/b", false),
            ("llama*", "llama/other", false),
            ("a?c", "a/c", false),
            ("**", "a/b", false),
            ("**", "ab", true),
            ("L*", "llama3", false),
        ] {
            assert_eq!(allows(pattern, model), fits, "{pattern} {model}");
        }
    }

    #[test]
    fn a_name_without_a_tag_is_the_latest() {
        assert!(allows("llama3", "llama3:latest") && allows("llama3:latest", "llama3"));
        assert!(allows("llam?3", "llama3:latest") && allows("llama3:late*", "llama3"));
        assert!(!allows("llama3", "llama3:8b") && !allows("llama3:8b", "llama3"));
        assert!(!allows("llama3", "LLAMA3") && !allows("llama3", "llama3 "));
    }

    /// What the loop above should do, said by recursion.
    fn slow(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => slow(rest, name),
            (Some((b'*', rest)), Some((byte, tail))) => {
                slow(rest, name) || (*byte != b'/' && slow(pattern, tail))
            }
            (Some((b'?', rest)), Some((byte, tail))) => *byte != b'/' && slow(rest, tail),
            (Some((wanted, rest)), Some((byte, tail))) => wanted == byte && slow(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_recursion_says(pattern in "[ab/*?]{0,8}", name in "[ab/]{0,10}") {
            prop_assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), slow(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
