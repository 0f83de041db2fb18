//! One mistake in a configuration file, shown where it is.
//!
//! Owns: `file:line:column`, the line with the span underlined, the hint below it.

use std::{fmt, ops::Range};

/// What is wrong in a configuration file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostic {
    file: String,
    message: String,
    hint: Option<&'static str>,
    place: Option<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
    text: String,
    width: usize,
}

impl Diagnostic {
    /// Something that is wrong with the file as a whole.
    pub(crate) fn whole(file: &str, message: impl Into<String>, hint: Option<&'static str>) -> Self {
        Self {
            file: file.into(),
            message: message.into(),
            hint,
            place: None,
        }
    }

    /// Something wrong at a byte range of `text`.
    pub(crate) fn at(
        file: &str,
        text: &str,
        span: Range<usize>,
        message: impl Into<String>,
        hint: Option<&'static str>,
    ) -> Self {
        let place = Place::find(text, &span);
        Self {
            place,
            ..Self::whole(file, message, hint)
        }
    }

    /// What the TOML reader found.
    pub(crate) fn from_toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        // The reader's messages can end with a list on a line of its own; one line is enough here.
        let message = error.message().trim_end().replace('\n', ", ");
        let hint = Some("`attest-proxy config --example` prints every key with its meaning");
        match error.span() {
            Some(span) => Self::at(file, text, span, message, hint),
            None => Self::whole(file, message, hint),
        }
    }
}

impl Place {
    fn find(text: &str, span: &Range<usize>) -> Option<Self> {
        let before = text.get(..span.start)?;
        let start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let line_text = text.get(start..)?.lines().next().unwrap_or_default();
        let lead = text.get(start..span.start)?;
        let marked = text.get(span.clone())?.lines().next().unwrap_or_default();
        Some(Self {
            line: before.matches('\n').count().saturating_add(1),
            column: lead.chars().count().saturating_add(1),
            text: line_text.to_owned(),
            width: marked.chars().count().max(1),
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            None => write!(f, "{}: {}", self.file, self.message)?,
            Some(Place {
                line,
                column,
                text,
                width,
            }) => {
                writeln!(f, "{}:{line}:{column}: {}", self.file, self.message)?;
                let gutter = line.to_string().len();
                writeln!(f, "{:gutter$} |", "")?;
                writeln!(f, "{line} | {text}")?;
                let lead = column.saturating_sub(1);
                write!(f, "{:gutter$} | {:lead$}{:^>width$}", "", "", "")?;
            }
        }
        match self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_is_underlined() {
        let text = "a = 1\nlisten = 7\n";
        let shown = Diagnostic::at(
            "p.toml",
            text,
            15..16,
            "not an address",
            Some("try 127.0.0.1:8080"),
        )
        .to_string();
        assert_eq!(
            shown,
            "p.toml:2:10: not an address\n  |\n2 | listen = 7\n  |          ^\nhint: try 127.0.0.1:8080"
        );
    }

    #[test]
    fn a_span_outside_the_text_shows_the_message_alone() {
        assert_eq!(Diagnostic::at("p", "", 4..9, "gone", None).to_string(), "p: gone");
    }
}
