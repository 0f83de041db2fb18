//! Distinguished names: for people to read, and to find an issuer by.
//!
//! Owns: the text form (made safe for a terminal: an attacker writes names) and the comparison, which is that of RFC
//! 5280, 7.1: letter case, runs of blanks and the kind of string do not count. A name proves nothing: it only says
//! whose key to try a signature with.

use std::fmt::Write as _;

use x509_parser::{
    asn1_rs::Tag,
    x509::{AttributeTypeAndValue, X509Name},
};

/// The longest name or value that is shown, in characters.
const MAX_SHOWN: usize = 160;

/// A subject's or an issuer's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    raw: Vec<u8>,
    folded: String,
    text: String,
}

impl Name {
    pub(super) fn read(name: &X509Name<'_>) -> Self {
        let mut text = String::new();
        let mut folded = String::new();
        for rdn in name.iter() {
            // The attributes of one RDN are a set: some makers do not sort it as DER wants.
            let mut set = Vec::new();
            for attribute in rdn.iter() {
                let value = text_of(attribute);
                let separator = if text.is_empty() { "" } else { ", " };
                let label = label(attribute);
                // Writing to a String cannot fail.
                let _ = write!(text, "{separator}{label}={value}");
                let words: Vec<String> = value.split_whitespace().map(str::to_lowercase).collect();
                set.push(format!("{}={}", attribute.attr_type(), words.join(" ")));
            }
            set.sort_unstable();
            folded.push_str(&set.join("+"));
            folded.push(';');
        }
        Self {
            raw: name.as_raw().to_vec(),
            folded,
            text: if text.is_empty() {
                "(no name)".to_owned()
            } else {
                shown(&text)
            },
        }
    }

    /// Whether a certificate by this issuer may have been issued by that subject.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.raw == other.raw || self.folded == other.folded
    }

    /// Safe to print.
    pub(super) fn as_text(&self) -> &str {
        &self.text
    }
}

/// The value of an attribute in whichever string type it came.
pub(super) fn text_of(attribute: &AttributeTypeAndValue<'_>) -> String {
    let bytes = attribute.as_slice();
    if attribute.attr_value().tag() == Tag::BmpString {
        let units: Vec<u16> = bytes
            .chunks_exact(2)
            .filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes))
            .collect();
        return String::from_utf16_lossy(&units);
    }
    String::from_utf8_lossy(bytes).into_owned()
}

/// Text by somebody else, for a terminal or a log: no control or direction characters, bounded.
pub(super) fn shown(text: &str) -> String {
    let mut safe: String = text
        .chars()
        .take(MAX_SHOWN)
        .map(|c| match c {
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '?',
            c if c.is_control() => '?',
            c => c,
        })
        .collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        safe.push('…');
    }
    safe
}

fn label(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        other => return shown(other),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use x509_parser::asn1_rs::FromDer as _;

    use super::*;

    /// A name of one RDN with these attributes of `2.5.4.x`: (x, string type, value).
    fn name(attributes: &[(u8, u8, &str)]) -> Name {
        let set: Vec<u8> = attributes
            .iter()
            .flat_map(|(kind, tag, value)| {
                let len = u8::try_from(value.len()).unwrap();
                [
                    &[0x30, len + 7, 6, 3, 0x55, 4, *kind, *tag, len][..],
                    value.as_bytes(),
                ]
                .concat()
            })
            .collect();
        let len = u8::try_from(set.len()).unwrap();
        let der = [&[0x30, len + 2, 0x31, len][..], &set].concat();
        Name::read(&X509Name::from_der(&der).unwrap().1)
    }

    #[test]
    fn case_blanks_order_and_kind_of_string_do_not_count() {
        let one = name(&[(3, 0x0c, "Maker  Root CA"), (10, 0x0c, "Maker")]);
        let other = name(&[(10, 0x13, "MAKER"), (3, 0x13, " maker root ca")]);
        assert!(one.is_same(&other));
        assert!(!one.is_same(&name(&[(3, 0x0c, "Maker Root CA")])));
        assert!(!one.is_same(&name(&[(3, 0x0c, "Maker RootCA"), (10, 0x0c, "Maker")])));
        assert!(!name(&[(3, 0x0c, "A")]).is_same(&name(&[(10, 0x0c, "A")])));
    }

    #[test]
    fn a_name_cannot_drive_a_terminal() {
        let hostile = name(&[(3, 0x0c, "ok\u{1b}[2J\n\u{202e}done")]);
        assert_eq!(hostile.as_text(), "CN=ok?[2J??done");
        let long = shown(&"x".repeat(MAX_SHOWN + 1));
        assert_eq!(long.chars().count(), MAX_SHOWN + 1);
        assert!(long.ends_with('…'));
        let utf16 = name(&[(3, 0x1e, "\0C\0A")]);
        assert_eq!(utf16.as_text(), "CN=CA");
    }

    #[test]
    fn an_empty_name_says_so() {
        let empty = Name::read(&X509Name::from_der(&[0x30, 0]).unwrap().1);
        assert_eq!(empty.as_text(), "(no name)");
    }
}
