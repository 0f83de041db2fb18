//! What a person sees of the demo. Legible without colour; colours on a terminal unless `NO_COLOR` is set.
//!
//! Owns: the one place of the demo that prints. With `--json` stdout is kept for the one object at the end, and all this goes to stderr.

use std::io::{IsTerminal, Write, stderr, stdout};

/// Where and how to print.
pub(crate) struct Report {
    to_stderr: bool,
    colour: bool,
}

/// How a word is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Bold,
    Good,
    Bad,
    Faint,
    Command,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Faint => "2",
            Self::Command => "36",
        }
    }
}

impl Report {
    pub(crate) fn new(to_stderr: bool) -> Self {
        let terminal = if to_stderr {
            stderr().is_terminal()
        } else {
            stdout().is_terminal()
        };
        Self {
            to_stderr,
            colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    /// A word in a style.
    pub(crate) fn styled(&self, style: Style, text: &str) -> String {
        if self.colour {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    /// A numbered step of the demo.
    pub(crate) fn step(&self, number: u32, title: &str) {
        self.line(&format!(
            "\n{}",
            self.styled(Style::Bold, &format!("{number}. {title}"))
        ));
    }

    /// Something that is up or went well, with what it is.
    pub(crate) fn good(&self, what: &str, detail: &str) {
        self.line(&format!(
            "   {} {what:<28} {detail}",
            self.styled(Style::Good, "ok")
        ));
    }

    /// A command as a person would type it.
    pub(crate) fn command(&self, command: &str) {
        self.line(&format!(
            "   {}",
            self.styled(Style::Command, &format!("$ {command}"))
        ));
    }

    /// Words beside the matter, line by line.
    pub(crate) fn faint(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("     {}", self.styled(Style::Faint, line)));
        }
    }

    /// Text of another program, indented.
    pub(crate) fn quoted(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("     {line}"));
        }
    }

    /// One line.
    pub(crate) fn line(&self, text: &str) {
        self.raw(&format!("{text}\n"));
    }

    /// Text as it comes, at once.
    pub(crate) fn raw(&self, text: &str) {
        // Nobody may be reading any more; the demo goes on to its end and its exit code.
        let _unread = if self.to_stderr {
            stderr().write_all(text.as_bytes())
        } else {
            let mut out = stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
    }

    /// The one object of `--json`.
    pub(crate) fn json(value: &serde_json::Value) {
        let _unread = writeln!(stdout(), "{value}");
    }
}
