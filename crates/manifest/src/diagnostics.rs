//! What is wrong with a manifest, in the order of its text.
//!
//! Owns: positions and the rendering: `file:line:column`, the line with the span underlined, and a hint. Renders
//! without colour; who wants more has [`miette::Diagnostic`].

use std::{fmt, ops::Range};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

use crate::walk::Findings;

/// Everything that is wrong with one manifest; at least one finding.
#[derive(Debug, Serialize)]
pub struct Diagnostics {
    findings: Vec<Finding>,
    #[serde(skip)]
    source: NamedSource<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The problem, in lower case, without a full stop.
    pub message: String,
    /// What would be accepted, or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The manifest's name, as it was given.
    pub file: String,
    /// Where the span begins.
    #[serde(flatten)]
    pub position: Position,
    /// Byte offsets of what is meant; empty at the end of the text.
    pub span: Range<usize>,
}

/// A place in a text, as editors count: from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Diagnostics {
    pub(crate) fn new(file: &str, text: &str, findings: Findings) -> Self {
        let mut list = findings.into_vec();
        if list.is_empty() {
            // Unreachable while every reader that gives nothing says why; a wrong manifest must never pass as none.
            list.push((0..0, "the manifest cannot be read".to_owned(), None));
        }
        list.sort_by_key(|(span, _, _)| span.start);
        list.dedup();
        let findings = list
            .into_iter()
            .map(|(span, message, hint)| Finding {
                message,
                hint,
                file: file.to_owned(),
                position: Position::of(text, span.start),
                span: within(text, span),
            })
            .collect();
        Self {
            findings,
            source: NamedSource::new(file, text.to_owned()),
        }
    }

    /// What is wrong with a manifest beyond its text, as with a file that it names: byte spans, messages and hints, in
    /// the manner of its own findings. `text` must be the one that was parsed.
    #[must_use]
    pub fn about(
        file: &str,
        text: &str,
        list: impl IntoIterator<Item = (Range<usize>, String, Option<String>)>,
    ) -> Self {
        let mut findings = Findings::default();
        for (span, message, hint) in list {
            findings.push(span, message, hint);
        }
        Self::new(file, text, findings)
    }

    /// Every finding, in the order of the text.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The findings as text for a terminal, without colour; ends with a line feed.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let mut handler = GraphicalReportHandler::new_themed(GraphicalTheme::none())
                .with_width(110)
                .with_context_lines(1);
            if let Some(hint) = &finding.hint {
                handler = handler.with_footer(format!("hint: {hint}"));
            }
            let shown = Shown {
                finding,
                source: &self.source,
            };
            // Writing into a String does not fail; a finding that cannot be drawn is still told.
            if handler.render_report(&mut text, &shown).is_err() {
                text.push_str(&finding.to_string());
            }
            text.push('\n');
        }
        text
    }
}

impl Position {
    fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        Self {
            line: before.matches('\n').count().saturating_add(1),
            column: before
                .get(line_start..)
                .map_or(0, |line| line.chars().count())
                .saturating_add(1),
        }
    }
}

/// `file:line:column: message`, the form that editors and other programs know.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        write!(f, "{}:{line}:{column}: {}", self.file, self.message)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.findings.len() {
            1 => f.write_str("the manifest has 1 error"),
            n => write!(f, "the manifest has {n} errors"),
        }
    }
}

impl std::error::Error for Diagnostics {}

impl Diagnostic for Diagnostics {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.findings.iter().map(|finding| {
            let label = match &finding.hint {
                Some(hint) => format!("{}; hint: {hint}", finding.message),
                None => finding.message.clone(),
            };
            LabeledSpan::new_with_span(Some(label), finding.span.clone())
        })))
    }
}

/// One finding for the renderer, whose hint is drawn by us: miette would call it "help".
#[derive(Debug)]
struct Shown<'a> {
    finding: &'a Finding,
    source: &'a NamedSource<String>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.finding.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = LabeledSpan::new_primary_with_span(None, self.finding.span.clone());
        Some(Box::new(std::iter::once(span)))
    }
}

fn within(text: &str, span: Range<usize>) -> Range<usize> {
    let end = span.end.min(text.len());
    span.start.min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_from_one_and_in_characters() {
        let text = "a\nzürich = 1\n";
        let at = |offset| Position::of(text, offset);
        assert_eq!(at(0), Position { line: 1, column: 1 });
        assert_eq!(at(2), Position { line: 2, column: 1 });
        assert_eq!(at(10), Position { line: 2, column: 8 });
        assert_eq!(at(9999), Position { line: 3, column: 1 });
    }

    #[test]
    fn no_finding_is_still_a_finding() {
        let none = Diagnostics::new("x.toml", "", Findings::default());
        assert_eq!(none.findings().len(), 1);
        assert!(none.render().contains("the manifest cannot be read"));
    }
}
