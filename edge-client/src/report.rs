//! The one place that prints.
//!
//! Owns: data to stdout, everything else to stderr; an error as its chain of causes, then a `hint:` line; with `--json` one
//! object on stdout, for failures too. Legible without colour. No secret reaches this module: none can be formatted.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use serde_json::json;

use crate::{answer::clean, error::Error};

/// Writes data to stdout at once.
pub(crate) fn data(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Error::Stdout)
}

/// Writes a line of data to stdout.
pub(crate) fn line(text: &str) -> Result<(), Error> {
    data(&format!("{text}\n"))
}

/// Says something on the way.
pub(crate) fn note(text: &str) {
    aside(text);
}

/// Tells why a command was not done; returns its exit code.
pub(crate) fn failure(error: &Error, as_json: bool) -> ExitCode {
    let message = chain(error);
    let hint = error.hint();
    if as_json {
        let refused = error.refused();
        let object = json!({
            "error": message,
            "code": refused.map(|r| r.code.clone()),
            "status": refused.map(|r| r.status),
            "hint": hint,
        });
        // Nobody is left to tell when stdout is gone too.
        let _ = line(&object.to_string());
    }
    aside(&format!("error: {message}"));
    if let Some(hint) = hint {
        aside(&format!("hint: {hint}"));
    }
    error.exit().into()
}

/// A line for a person. Peers' words can be in it, so nothing in it drives a terminal; and a stderr that is full or gone is
/// no reason to end otherwise than without it.
fn aside(text: &str) {
    let _gone = writeln!(io::stderr(), "{}", clean(text));
}

/// An error and its causes in one line; a cause that the error says already is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::device::DeviceError;

    #[test]
    fn a_chain_says_everything_once() {
        let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let error = Error::Device(DeviceError::Unreadable {
            path: "/v".into(),
            source,
        });
        assert_eq!(chain(&error), "cannot open the volume /v: no such file");
        assert!(error.source().is_some());
    }
}
