//! A string as it stands in a body.

use std::borrow::Cow;

/// A string, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text<'de> {
    /// Without escapes.
    Plain(&'de str),
    /// What stands between the quotes has so many escapes in it, each of two bytes and as our own serialisation writes them.
    Escaped(&'de str, usize),
    /// Written in another way than ours; this is what it says.
    Otherwise(String),
}

impl<'de> Text<'de> {
    /// The bytes of what it says.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Escaped(raw, escapes) => raw.len().saturating_sub(*escapes),
            Self::Otherwise(text) => text.len(),
        }
    }

    /// What it says.
    pub(super) fn get(&self) -> Cow<'de, str> {
        match self {
            Self::Plain(text) => Cow::Borrowed(text),
            Self::Escaped(raw, _) => Cow::Owned(unescaped(raw)),
            Self::Otherwise(text) => Cow::Owned(text.clone()),
        }
    }
}

/// Whether our own serialisation writes the escape with this letter, and never another one for what it says.
pub(super) const fn is_our_escape(letter: u8) -> bool {
    matches!(letter, b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't')
}

/// Where every escape is one of ours.
fn unescaped(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, escape)) = rest.split_once('\\') {
        text.push_str(before);
        let mut letters = escape.chars();
        text.extend(letters.next().map(|letter| match letter {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            itself => itself,
        }));
        rest = letters.as_str();
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_escapes_say_what_our_serialisation_means_by_them() {
        for letter in 0..=127_u8 {
            let quoted = format!("\"\\{}\"", char::from(letter));
            let read = serde_json::from_str::<String>(&quoted).ok();
            let is_ours = read
                .as_ref()
                .is_some_and(|text| serde_json::to_string(text).unwrap() == quoted);
            assert_eq!(is_our_escape(letter), is_ours, "{quoted}");
            if is_ours {
                let raw = quoted.get(1..3).unwrap();
                assert_eq!(Text::Escaped(raw, 1).get(), read.unwrap());
                assert_eq!(Text::Escaped(raw, 1).len(), 1);
            }
        }
        let raw = r#"é\\n\"\n\tx\\"#;
        assert_eq!(Text::Escaped(raw, 5).get(), "é\\n\"\n\tx\\");
        assert_eq!(Text::Escaped(raw, 5).len(), "é\\n\"\n\tx\\".len());
    }
}
