//! One JSON object per line on stdout. A failure is one too, the last.

use std::io::Write as _;

use serde::Serialize;
use serde_json::json;

use super::{Event, Reporter, progress::Ticks};
use crate::failure::Failure;

/// JSON lines.
pub(super) struct Lines;

impl Lines {
    fn line(value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value).map_err(|e| Failure::Output(e.into()))?;
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        out.write_all(&line)
            .and_then(|()| out.flush())
            .map_err(Failure::Output)
    }
}

impl Reporter for Lines {
    fn event(&mut self, event: &Event<'_>) {
        // A reader that went away does not stop an enrolment half-way.
        let _gone = Self::line(event);
    }

    fn note(&mut self, note: &str) {
        let _gone = Self::line(&json!({ "event": "note", "note": note }));
    }

    fn progress(&mut self, doing: &'static str) -> Box<dyn volume::Progress> {
        Box::new(Ticks::new(doing, |line| {
            let _gone = Self::line(line);
        }))
    }

    fn data(&mut self, _text: &str, json: &serde_json::Value) -> Result<(), Failure> {
        Self::line(json)
    }

    fn failed(&mut self, failure: &Failure) {
        let findings = match failure {
            Failure::Manifest(diagnostics) => serde_json::to_value(diagnostics).unwrap_or_default(),
            _ => serde_json::Value::Null,
        };
        let mut line = json!({
            "event": "failed",
            "message": failure.to_string(),
            "causes": failure.causes(),
            "hint": failure.hint(),
            "exit": failure.exit(),
        });
        if let (Some(line), Some(findings)) = (line.as_object_mut(), findings.get("findings")) {
            line.insert("findings".to_owned(), findings.clone());
        }
        let _gone = Self::line(&line);
    }
}
