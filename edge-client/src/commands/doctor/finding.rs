//! What one check of `doctor` found, and how it is printed.

use std::fmt;

use serde::Serialize;

use crate::{answer::clean, error::Error, error::Exit, report};

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It works.
    Works,
    /// It works, and there is something to know.
    Note,
    /// It was refused, by the proxy or by this client's own rules.
    Refused,
    /// It does not work.
    Fails,
    /// It could not be checked.
    Waiting,
}

/// One line of `doctor`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    /// What was checked.
    pub(super) name: &'static str,
    /// How it stands.
    pub(super) state: State,
    /// In plain words.
    pub(super) text: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}

impl Finding {
    pub(super) fn works(name: &'static str, text: String) -> Self {
        Self {
            name,
            state: State::Works,
            text,
            hint: None,
        }
    }

    pub(super) fn note(name: &'static str, text: String, hint: &str) -> Self {
        Self {
            name,
            state: State::Note,
            text,
            hint: Some(hint.to_owned()),
        }
    }

    /// Something that is not there and that nothing here needs.
    pub(super) fn missing(name: &'static str, error: &Error, hint: &str) -> Self {
        Self::note(name, clean(&report::chain(error)), hint)
    }

    pub(super) fn waiting(name: &'static str, on: &str) -> Self {
        Self {
            name,
            state: State::Waiting,
            text: format!("not checked: {on} comes first"),
            hint: None,
        }
    }

    pub(super) fn failed(name: &'static str, error: &Error) -> Self {
        Self {
            name,
            state: if error.exit() == Exit::Refused {
                State::Refused
            } else {
                State::Fails
            },
            // What a volume's header or the proxy says can be in it.
            text: clean(&report::chain(error)),
            hint: error.hint(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Works => "ok",
            State::Note => "note",
            State::Refused => "REFUSED",
            State::Fails => "FAILS",
            State::Waiting => "-",
        };
        write!(f, "{state:<8}{:<9}{}", self.name, self.text)?;
        match &self.hint {
            Some(hint) => write!(f, "\n{:17}hint: {hint}", ""),
            None => Ok(()),
        }
    }
}
