//! A tree of decoded fields in the order of the bytes, written as YAML or JSON.
//!
//! Owns: the quoting. Every text is quoted in YAML, so that a digest of digits alone stays a text and nothing in a log
//! becomes YAML of its own.

use serde_json::Value;

/// A decoded value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// Text from the log, or of ours.
    Text(String),
    /// A decimal number.
    Number(u64),
    /// A number that is written in hexadecimal.
    Hex(u64),
    /// A PCR's value.
    Pcr(String),
    /// A list.
    List(Vec<Node>),
    /// Named fields in their order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Fields.
    pub(crate) fn map<const N: usize>(fields: [(&str, Self); N]) -> Self {
        Self::Map(fields.map(|(name, node)| (name.to_owned(), node)).into())
    }

    /// A field of a map.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(fields) = self else { return None };
        fields.iter().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// As JSON. Numbers in hexadecimal are text there, as 64 bits do not fit every reader's numbers.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Number(number) => (*number).into(),
            Self::Hex(number) => format!("{number:#x}").into(),
            Self::Pcr(value) => format!("0x{value}").into(),
            Self::List(list) => list.iter().map(Self::to_json).collect(),
            Self::Map(fields) => {
                let fields = fields.iter().map(|(name, node)| (name.clone(), node.to_json()));
                Value::Object(fields.collect())
            }
        }
    }

    /// As a YAML document.
    pub(crate) fn to_yaml(&self) -> String {
        let mut out = "---\n".to_owned();
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, indent: usize) {
        let pad = " ".repeat(indent);
        match self {
            Self::Map(fields) => {
                for (name, node) in fields {
                    out.push_str(&format!("{pad}{name}:"));
                    match node {
                        Self::Map(inner) if !inner.is_empty() => {
                            out.push('\n');
                            node.write(out, indent.saturating_add(2));
                        }
                        Self::List(inner) if !inner.is_empty() => {
                            out.push('\n');
                            node.write(out, indent);
                        }
                        plain => out.push_str(&format!(" {}\n", plain.scalar())),
                    }
                }
            }
            Self::List(list) => {
                for node in list {
                    match node {
                        Self::Map(inner) if !inner.is_empty() => {
                            let mut item = String::new();
                            node.write(&mut item, indent.saturating_add(2));
                            out.push_str(&format!("{pad}- {}", item.trim_start()));
                        }
                        plain => out.push_str(&format!("{pad}- {}\n", plain.scalar())),
                    }
                }
            }
            plain => out.push_str(&format!("{pad}{}\n", plain.scalar())),
        }
    }

    fn scalar(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Number(number) => number.to_string(),
            Self::Hex(number) => format!("{number:#x}"),
            Self::Pcr(value) => format!("0x{value}"),
            // Lists of lists do not occur.
            Self::List(_) => "[]".to_owned(),
            Self::Map(_) => "{}".to_owned(),
        }
    }
}

/// A double-quoted YAML scalar (YAML 1.2, 7.3.1).
fn quoted(text: &str) -> String {
    let mut out = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unprintable(c) => out.push_str(&escape(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What a terminal or YAML would take for more than a character, or YAML for none (`c-printable`, YAML 1.2, 5.1).
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(c: char) -> String {
    let code = u32::from(c);
    if code > 0xffff {
        format!("\\U{code:08x}")
    } else {
        format!("\\u{code:04x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_in_the_order_of_the_fields_and_quoted() {
        let node = Node::map([
            ("version", Node::Number(2)),
            (
                "events",
                Node::List(vec![
                    Node::map([("Digest", Node::text("1234")), ("Base", Node::Hex(255))]),
                    Node::map([("Names", Node::List(vec![Node::text("a: b")]))]),
                ]),
            ),
            (
                "pcrs",
                Node::Map(vec![("0".to_owned(), Node::Pcr("00ff".to_owned()))]),
            ),
            ("none", Node::List(vec![])),
        ]);
        let expected = "---\nversion: 2\nevents:\n- Digest: \"1234\"\n  Base: 0xff\n- Names:\n  - \"a: b\"\npcrs:\n  0: 0x00ff\nnone: []\n";
        assert_eq!(node.to_yaml(), expected);
    }

    #[test]
    fn no_text_escapes_its_quotes() {
        let text = "\"\\\n- x: 1\0\u{1b}[31m\u{202e}\u{1f600}\u{ffff}";
        let node = Node::text(text);
        assert_eq!(
            node.to_yaml(),
            "---\n\"\\\"\\\\\\n- x: 1\\0\\u001b[31m\\u202e\u{1f600}\\uffff\"\n"
        );
        assert_eq!(node.to_json(), Value::from(text));
    }
}
