//! What a value was, once it was read: as much of it as a policy can want to know.

use std::borrow::Cow;

use super::{number::Number, text::Text};

/// The longest text that is kept for judging, in bytes; names of models and roles are shorter.
pub(super) const KEPT: usize = 512;

/// A value that was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen<'de> {
    Null,
    Bool(bool),
    Number(Number),
    /// A text of at most [`KEPT`] bytes.
    Text(Text<'de>),
    LongText,
    List {
        empty: bool,
    },
    Object {
        empty: bool,
    },
}

impl<'de> Seen<'de> {
    /// A text, kept if it is short.
    pub(super) fn of(text: Text<'de>) -> Self {
        if text.len() > KEPT {
            Self::LongText
        } else {
            Self::Text(text)
        }
    }

    /// Whether Ollama would do the same without it: null, false, 0, and what is empty.
    pub(super) fn says_nothing(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) => true,
            Self::Number(number) => {
                !number.exceeds(0)
                    && !matches!(number, Number::Signed(n) if *n < 0)
                    && !matches!(number, Number::Float(n) if *n < 0.0)
            }
            Self::Text(text) => text.len() == 0,
            Self::List { empty } | Self::Object { empty } => *empty,
            Self::Bool(true) | Self::LongText => false,
        }
    }

    /// The text, if it is one that was kept.
    pub(super) fn text(&self) -> Option<Cow<'de, str>> {
        match self {
            Self::Text(text) => Some(text.get()),
            _ => None,
        }
    }
}
