//! For a person: a line per step, a bar where there is a terminal, colour where it is wanted, legible without either.

use std::{borrow::Cow, fmt::Write as _, io::IsTerminal as _, io::Write as _, time::Duration};

use clap::ColorChoice;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Event, Outcome, Reporter, Summary, progress::Bar};
use crate::{cli::Output, failure::Failure};

/// Tells a person.
pub(super) struct Human {
    quiet: bool,
    terminal: bool,
    colour: bool,
    bar: Option<ProgressBar>,
}

impl Human {
    pub(super) fn new(output: &Output) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let colour = match output.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none(),
        };
        Self {
            quiet: output.quiet,
            terminal,
            colour,
            bar: None,
        }
    }

    fn say(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.println(line);
        } else {
            // A terminal that went away does not stop an enrolment half-way.
            let _gone = writeln!(std::io::stderr(), "{line}");
        }
    }

    fn step(&mut self, device: &str, number: usize, of: usize, words: &str) {
        if !self.terminal {
            self.say(&format!("{device}: {number}/{of} {words}"));
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} [{bar:20}] {pos}/{len} {wide_msg}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_length(u64::try_from(of).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(number.saturating_sub(1)).unwrap_or(0));
        bar.set_prefix(device.to_owned());
        bar.set_message(words.to_owned());
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

impl Reporter for Human {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Done { devices } = event {
            self.clear();
            // What `apply` was asked for.
            let text: String = devices.iter().map(summary).collect();
            let _gone = std::io::stdout().write_all(text.as_bytes());
            return;
        }
        if self.quiet {
            return;
        }
        match event {
            Event::Started { fleet, devices, .. } => {
                let s = if *devices == 1 { "" } else { "s" };
                self.say(&format!("fleet {fleet}: {devices} device{s}"));
            }
            Event::PolicyPut { policy, revision } => {
                self.say(&format!("policy {policy}: registered, revision {revision}"));
            }
            Event::Note { device, note } => {
                let label = self.paint("33", "note:");
                self.say(&format!("{device}: {label} {note}"));
            }
            Event::Step {
                device,
                number,
                of,
                words,
                ..
            } => self.step(device.as_str(), *number, *of, words),
            Event::DeviceDone(done) => {
                self.clear();
                self.say(&format!("{}: {}", done.device, outcome(done.outcome)));
            }
            Event::Done { .. } => {}
        }
    }

    fn note(&mut self, note: &str) {
        if !self.quiet {
            let label = self.paint("33", "note:");
            self.say(&format!("{label} {}", printable(note)));
        }
    }

    fn progress(&mut self, doing: &'static str) -> Box<dyn volume::Progress> {
        if self.quiet || !self.terminal {
            return Box::new(());
        }
        Box::new(Bar::new(doing))
    }

    fn data(&mut self, text: &str, _json: &serde_json::Value) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        out.write_all(printable(text).as_bytes())
            .and_then(|()| out.flush())
            .map_err(Failure::Output)
    }

    fn failed(&mut self, failure: &Failure) {
        self.clear();
        let mut text = String::new();
        if let Failure::Manifest(diagnostics) = failure {
            text.push_str(&printable(&diagnostics.render()));
        }
        let message = printable(&failure.to_string()).into_owned();
        text.push_str(&format!("{} {message}\n", self.paint("1;31", "error:")));
        for cause in failure.causes() {
            text.push_str(&format!("  cause: {}\n", printable(&cause)));
        }
        if let Some(hint) = failure.hint() {
            let _never_fails = writeln!(text, "{} {}", self.paint("36", "hint:"), printable(&hint));
        }
        let _gone = std::io::stderr().write_all(text.as_bytes());
    }
}

/// Text in which nothing drives a terminal: a volume's header, a manifest, a TPM or a registry may have written it.
/// Control characters become their escapes.
fn printable(text: &str) -> Cow<'_, str> {
    let drives = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(drives) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if drives(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Enrolled => "enrolled",
        Outcome::Updated => "record changed",
        Outcome::Unchanged => "nothing to do, it is enrolled and works",
    }
}

fn summary(done: &Summary) -> String {
    let mut text = format!("device {}\n  {}\n", done.device, outcome(done.outcome));
    let mut line = |label: &str, value: &str| text.push_str(&format!("  {label:<7}{value}\n"));
    line("volume", &done.volume.display().to_string());
    line("policy", done.policy.as_str());
    line("PSK", &format!("{} (SHA-256)", done.psk));
    if let Some(ek) = done.ek {
        line("EK", &format!("{ek} (SHA-256)"));
    }
    if let Some(ak) = &done.ak {
        line("AK", &format!("{ak} (name)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printed_drives_a_terminal() {
        assert_eq!(printable("two\n\tlines, é\u{202f}"), "two\n\tlines, é\u{202f}");
        assert_eq!(
            printable("a\u{1b}[2Jb\u{9b}c\u{7}\r"),
            "a\\u{1b}[2Jb\\u{9b}c\\u{7}\\r"
        );
    }
}
