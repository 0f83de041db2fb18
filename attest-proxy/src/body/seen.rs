//! What a value was, once it was read: as much of it as a policy can want to know.

use std::borrow::Cow;

/// The longest text that is kept for judging, in bytes; names of models and roles are shorter.
pub(super) const KEPT: usize = 512;

/// A number as JSON's reader gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

impl Number {
    /// Whether it is more than `most`, whichever way Go reads it.
    pub(super) fn exceeds(self, most: u32) -> bool {
        match self {
            Self::Signed(n) => n > i64::from(most),
            Self::Unsigned(n) => n > u64::from(most),
            Self::Float(n) => n > f64::from(most),
        }
    }

    /// Whether it is less than `least` once Go has cut off what is behind its point.
    pub(super) fn falls_short(self, least: u32) -> bool {
        match self {
            Self::Signed(n) => n < i64::from(least),
            Self::Unsigned(n) => n < u64::from(least),
            Self::Float(n) => n.trunc() < f64::from(least),
        }
    }
}

/// A value that was read and written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen<'de> {
    Null,
    Bool(bool),
    Number(Number),
    /// A text of at most [`KEPT`] bytes.
    Text(Cow<'de, str>),
    LongText,
    List {
        empty: bool,
    },
    Object {
        empty: bool,
    },
}

impl Seen<'_> {
    /// Whether Ollama would do the same without it: null, false, 0, and what is empty.
    pub(super) fn says_nothing(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) => true,
            Self::Number(number) => {
                !number.exceeds(0)
                    && !matches!(number, Number::Signed(n) if *n < 0)
                    && !matches!(number, Number::Float(n) if *n < 0.0)
            }
            Self::Text(text) => text.is_empty(),
            Self::List { empty } | Self::Object { empty } => *empty,
            Self::Bool(true) | Self::LongText => false,
        }
    }

    /// The text, if it is one that was kept.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}
