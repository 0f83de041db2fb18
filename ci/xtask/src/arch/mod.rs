//! `cargo xtask arch`: is the house built as its documents say?
//!
//! Owns: the list of checks and their report. Each check reads the repository and returns findings; none changes a file.
//! Limits today: purity and threats are checked on text, not on resolved names; what hides behind a macro or an alias is not seen.

mod arrows;
mod headers;
mod purity;
mod source;
mod threats;

use std::path::Path;
use std::process::ExitCode;

use crate::arch::source::Workspace;

/// What is wrong, and where: `file:line: message`, or `file: message`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    place: String,
    message: String,
}

impl Finding {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
        }
    }
}

/// What one check looked at, in words, and what it found.
type Report = (String, Vec<Finding>);

/// A document or cargo itself cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchError {
    #[error("cannot read {0}: {1}")]
    Read(String, std::io::Error),
    #[error("cargo metadata failed: {0}")]
    Metadata(String),
    #[error("{0}: no table between {1} and {2}")]
    NoTable(&'static str, &'static str, &'static str),
}

/// Runs every check; exit code 1 if one found something.
pub(crate) fn run(root: &Path) -> ExitCode {
    match check(root) {
        Ok(reports) => print(&reports),
        Err(problem) => {
            say(&format!("error: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn check(root: &Path) -> Result<Vec<Report>, ArchError> {
    let workspace = Workspace::read(root)?;
    Ok(vec![
        found("arrows", arrows::check(&workspace)),
        headers::check(&workspace),
        purity::check(&workspace),
        found("threats", threats::check(&workspace)),
    ])
}

/// A document that cannot be read is a finding: the other checks still run.
fn found(name: &str, report: Result<Report, ArchError>) -> Report {
    report.unwrap_or_else(|problem| (name.to_owned(), vec![Finding::new(name, problem.to_string())]))
}

fn print(reports: &[Report]) -> ExitCode {
    let mut worst = ExitCode::SUCCESS;
    for (seen, findings) in reports {
        if findings.is_empty() {
            say(&format!("ok    {seen}"));
            continue;
        }
        worst = ExitCode::FAILURE;
        for finding in findings {
            say(&format!("error: {}: {}", finding.place, finding.message));
        }
        say(&format!("FAIL  {seen}: {} findings", findings.len()));
    }
    worst
}

#[expect(clippy::print_stdout, reason = "the one place of this check that prints")]
fn say(line: &str) {
    println!("{line}");
}
