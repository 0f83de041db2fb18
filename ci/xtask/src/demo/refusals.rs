//! Who is kept out: each case is tried for real, and the code that came back is compared with the contract's.
//!
//! Owns: the four cases. For each it shows what the stranger was told and what the operator reads in the proxy's log.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::demo::parts::{Parts, random};
use crate::demo::report::{Report, Style};
use crate::demo::tools::{Programs, run, succeed};
use crate::demo::yard::Yard;
use crate::demo::{DemoError, QUESTION};

/// How long a line may take to reach the log.
const SOON: Duration = Duration::from_secs(2);

/// One way not to get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    NoPsk,
    UnknownPsk,
    PskWithoutQuote,
    PcrExtended,
}

impl Case {
    /// Its name in the JSON at the end.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::NoPsk => "no-psk",
            Self::UnknownPsk => "unknown-psk",
            Self::PskWithoutQuote => "psk-without-quote",
            Self::PcrExtended => "pcr-extended",
        }
    }

    /// The refusal that the contract promises.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::NoPsk => "psk-missing",
            Self::UnknownPsk => "psk-unknown",
            Self::PskWithoutQuote => "evidence-missing",
            Self::PcrExtended => "evidence-mismatch",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::NoPsk => "no PSK",
            Self::UnknownPsk => "an unknown PSK",
            Self::PskWithoutQuote => "the right PSK without a quote",
            Self::PcrExtended => "the right PSK after PCR 11 was extended",
        }
    }
}

/// Tries all of them, the one that changes the TPM last.
pub(crate) fn all(
    programs: &Programs,
    parts: &Parts,
    yard: &Yard,
    report: &Report,
) -> Result<Vec<(Case, String)>, DemoError> {
    let unknown = format!("sbx_{}", BASE64URL_NOPAD.encode(&random()?));
    let mut outcomes = Vec::new();
    for case in [
        Case::NoPsk,
        Case::UnknownPsk,
        Case::PskWithoutQuote,
        Case::PcrExtended,
    ] {
        let log = yard.log("attest-proxy");
        let before = std::fs::read_to_string(&log).map_or(0, |text| text.len());
        report.line(&format!("   {}", report.styled(Style::Bold, case.title())));
        let refused = match case {
            Case::NoPsk => curl(parts, None, report)?,
            Case::UnknownPsk => curl(parts, Some(&unknown), report)?,
            Case::PskWithoutQuote => client(programs, parts, &["--no-evidence"], report)?,
            Case::PcrExtended => {
                report.command("tpm2_pcrevent 11 another-kernel");
                parts.extend(11, "signalbox demo: another kernel image")?;
                client(programs, parts, &[], report)?
            }
        };
        let style = if refused.code == case.expected() {
            Style::Good
        } else {
            Style::Bad
        };
        report.line(&format!(
            "     refused:      {}",
            report.styled(style, &refused.code)
        ));
        report.line(&format!("     they read:    {}", refused.told));
        for line in lines(&log, before, case.expected()) {
            report.line(&format!(
                "     operator log: {}",
                report.styled(Style::Faint, &line)
            ));
        }
        outcomes.push((case, refused.code));
    }
    Ok(outcomes)
}

/// What came to a log with this code in it, since it was so long. Lines reach it some milliseconds after the answer they are about.
fn lines(log: &Path, before: usize, code: &str) -> Vec<String> {
    let deadline = Instant::now() + SOON;
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let new = text.get(before..).unwrap_or_default().lines();
        let found: Vec<_> = new
            .filter(|line| line.contains(code))
            .map(str::to_owned)
            .collect();
        if !found.is_empty() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Refused {
    code: String,
    told: String,
}

/// A stranger with a stock tool.
fn curl(parts: &Parts, psk: Option<&str>, report: &Report) -> Result<Refused, DemoError> {
    let url = format!("{}/api/generate", parts.proxy);
    let body = json!({"model": parts.model, "prompt": QUESTION}).to_string();
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "30", "--data", &body]);
    match psk {
        None => report.command("curl $PROXY/api/generate --data @question.json"),
        Some(psk) => {
            // This key opens nothing: it was drawn a moment ago.
            command.arg("--header").arg(format!("X-Pre-Shared-Key: {psk}"));
            report.command(
                "curl $PROXY/api/generate --data @question.json --header \"X-Pre-Shared-Key: sbx_…\"",
            );
        }
    }
    let told = succeed(command.arg(url))?.trim().to_owned();
    Ok(Refused {
        code: code_in(&told),
        told,
    })
}

/// The device itself, with its own key out of its own volume.
fn client(programs: &Programs, parts: &Parts, more: &[&str], report: &Report) -> Result<Refused, DemoError> {
    let shown: Vec<&str> = ["edge-client ask"].iter().chain(more).copied().collect();
    report.command(&format!("{} \"{QUESTION}\"", shown.join(" ")));
    let mut command = programs.command("edge-client");
    let ended = run(command
        .args(["ask", "--json"])
        .args(more)
        .args(parts.client_arguments())
        .arg(QUESTION))?;
    if ended.code == Some(0) {
        return Ok(Refused {
            code: "admitted".to_owned(),
            told: ended.stdout,
        });
    }
    let told = ended
        .stdout
        .trim()
        .lines()
        .last()
        .unwrap_or(ended.stderr.trim())
        .to_owned();
    Ok(Refused {
        code: code_in(&told),
        told,
    })
}

/// `code` of the object, or of the `error` object in it.
fn code_in(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let code = value.get("code").or_else(|| value.get("error")?.get("code"));
    code.and_then(Value::as_str)
        .unwrap_or("no refusal code")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_read_from_either_shape() {
        assert_eq!(
            code_in(r#"{"error": "no", "code": "psk-missing"}"#),
            "psk-missing"
        );
        assert_eq!(
            code_in(r#"{"error": {"code": "evidence-missing", "message": "no"}}"#),
            "evidence-missing"
        );
        assert_eq!(code_in("<html>"), "no refusal code");
    }
}
