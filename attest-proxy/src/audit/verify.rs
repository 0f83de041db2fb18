//! `attest-proxy audit verify`: is the log whole, and if not, where does it break first.
//!
//! Owns: reading files in order as one chain. Every line must follow the one before it by hash and by number; with the fleet's keys
//! every MAC must hold, so that a log which was rewritten from end to end is seen. What a crash leaves, a last line without its end, is
//! told apart from a line that somebody changed: it is reported, and is no failure.
//! Limits: whole lines that are missing at the very end leave no trace in the files; [`Report::closed`] says whether the last file
//! was ended in order, and the metric `attest_proxy_audit_sequence` which number it must reach.
//! An attacker controls every byte of the files. One line is held at a time, and no longer than [`MAX_LINE`].

use std::{
    fmt,
    io::{self, BufRead, Read as _},
    sync::Arc,
};

use serde::Deserialize;

use super::chain::{Hash, Sealed};
use crate::keys::StorageKeys;

/// The longest line that is read, in bytes.
pub const MAX_LINE: u64 = 4 << 20;

/// Where a log breaks.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {why}")]
pub struct Broken {
    /// The file.
    pub file: String,
    /// Its line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: Breach,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Breach {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Longer than any line of a log.
    #[error("the line is longer than any of an audit log")]
    TooLong,
    /// No line of a log.
    #[error("not a line of an audit log")]
    Format,
    /// The first line does not say where it follows on.
    #[error("the file does not begin with an `open` line")]
    NoOpen,
    /// The line, or the one before it, was changed; or one in between was taken out or put in.
    #[error(
        "the line does not follow the one before it: it was changed, or lines were taken out or put in before it"
    )]
    Chain,
    /// The number does not follow.
    #[error("the line has the number {found}, {expected} was to come")]
    Sequence {
        /// What would follow.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The hashes fit, the MAC does not: written by someone without the fleet's key.
    #[error("the line was not written by a holder of the fleet key '{0}'")]
    Mac(String),
    /// A key that is not at hand.
    #[error("the line was written under the fleet key '{0}', which is not at hand")]
    UnknownKey(String),
    /// Bytes without a line end, and more files after them.
    #[error("the file ends in the middle of a line, and another one follows it")]
    TornBetween,
}

/// What was found in a log without a break.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Whole lines.
    pub lines: u64,
    /// Of these, decisions.
    pub decisions: u64,
    /// The first and the last number.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Lines that the proxy itself says it could not write.
    pub lost: u64,
    /// Whether the log is here from its beginning.
    pub from_the_beginning: bool,
    /// How often a chain begins anew after another one.
    pub gaps: u64,
    /// Last lines that crashes had cut off, and that a restart took away.
    pub crashes: u64,
    /// Bytes after the last line end: a crash in the middle of a write.
    pub torn: u64,
    /// Whether the last line is a `close`.
    pub closed: bool,
    /// Whether MACs were checked.
    pub authentic: bool,
}

#[derive(Deserialize)]
struct Line {
    seq: u64,
    event: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    previous: Option<String>,
    #[serde(default)]
    torn: Option<u64>,
    #[serde(default)]
    lost: Option<u64>,
}

/// Reads files, in order, as one chain. Without `keys`, MACs are not checked.
#[derive(Debug)]
pub struct Verifier<'a> {
    keys: Option<&'a [Arc<StorageKeys>]>,
    key: Option<&'a StorageKeys>,
    last: Option<(u64, Hash)>,
    report: Report,
}

impl<'a> Verifier<'a> {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(keys: Option<&'a [Arc<StorageKeys>]>) -> Self {
        Self {
            keys,
            key: None,
            last: None,
            report: Report {
                authentic: keys.is_some(),
                ..Report::default()
            },
        }
    }

    /// Reads the next file.
    ///
    /// # Errors
    /// The first line that breaks the chain.
    pub fn file(&mut self, name: &str, mut file: impl BufRead) -> Result<(), Broken> {
        let mut number = 0_u64;
        let mut line = Vec::new();
        loop {
            number = number.saturating_add(1);
            let broken = |why: Breach| Broken {
                file: name.into(),
                line: number,
                why,
            };
            if self.report.torn > 0 {
                return Err(broken(Breach::TornBetween));
            }
            line.clear();
            let read = (&mut file)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)
                .map_err(|e| broken(e.into()))?;
            if read == 0 {
                return Ok(());
            }
            match line.strip_suffix(b"\n") {
                Some(whole) => self.line(whole, number == 1).map_err(broken)?,
                None if u64::try_from(read).is_ok_and(|read| read >= MAX_LINE) => {
                    return Err(broken(Breach::TooLong));
                }
                None => {
                    self.report.torn = u64::try_from(read).unwrap_or(u64::MAX);
                    return Ok(());
                }
            }
        }
    }

    /// What all files together are.
    #[must_use]
    pub fn report(self) -> Report {
        self.report
    }

    fn line(&mut self, bytes: &[u8], first: bool) -> Result<(), Breach> {
        let sealed = Sealed::split(bytes).ok_or(Breach::Format)?;
        let line: Line = serde_json::from_slice(bytes).map_err(|_| Breach::Format)?;
        let opens = line.event == "open";
        if first && !opens {
            return Err(Breach::NoOpen);
        }
        let begins = opens && line.previous.as_deref() == Some(&Hash::NONE.to_string());
        let previous = match self.last {
            // A chain of its own: said in the report, because nothing shows what was between.
            Some(_) if begins && first => Hash::NONE,
            Some((_, hash)) => hash,
            None if begins => Hash::NONE,
            // Earlier files are not here: the line itself says what it follows.
            None => line
                .previous
                .as_deref()
                .and_then(Hash::parse)
                .ok_or(Breach::Format)?,
        };
        if !sealed.follows(&previous) {
            return Err(Breach::Chain);
        }
        let expected = match self.last {
            Some(_) if begins => 1,
            Some((seq, _)) => seq.saturating_add(1),
            None => line.seq,
        };
        if line.seq != expected {
            return Err(Breach::Sequence {
                expected,
                found: line.seq,
            });
        }
        self.authenticate(&sealed, &line)?;
        self.note(&line, begins);
        self.last = Some((line.seq, sealed.hash()));
        Ok(())
    }

    fn authenticate(&mut self, sealed: &Sealed<'_>, line: &Line) -> Result<(), Breach> {
        let Some(keys) = self.keys else { return Ok(()) };
        if let Some(id) = line.key.as_deref().filter(|_| line.event == "open") {
            let known = keys.iter().find(|key| key.id().as_str() == id);
            self.key = Some(
                known
                    .map(|key| &**key)
                    .ok_or_else(|| Breach::UnknownKey(escaped(id)))?,
            );
        }
        match self.key {
            Some(key) if sealed.is_by(key.audit()) => Ok(()),
            Some(key) => Err(Breach::Mac(key.id().to_string())),
            None => Err(Breach::NoOpen),
        }
    }

    fn note(&mut self, line: &Line, begins: bool) {
        let report = &mut self.report;
        if report.lines == 0 {
            report.first = line.seq;
            report.from_the_beginning = begins;
        } else if begins {
            report.gaps = report.gaps.saturating_add(1);
        }
        report.lines = report.lines.saturating_add(1);
        report.last = line.seq;
        report.closed = line.event == "close";
        report.crashes = report.crashes.saturating_add(line.torn.is_some().into());
        report.lost = report.lost.saturating_add(line.lost.unwrap_or(0));
        report.decisions = report.decisions.saturating_add((line.event == "decision").into());
    }
}

fn escaped(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lines, {} to {}, {} decisions",
            self.lines, self.first, self.last, self.decisions
        )?;
        if !self.authentic {
            write!(
                f,
                "\nnote: only the hashes were checked: with --config or --key, who wrote the lines is checked too"
            )?;
        }
        if !self.from_the_beginning {
            write!(f, "\nnote: earlier files exist and were not read")?;
        }
        if self.gaps > 0 {
            write!(
                f,
                "\nnote: {} times a chain begins anew: nothing shows whether lines are missing before it, or whether the files are in order",
                self.gaps
            )?;
        }
        if self.lost > 0 {
            write!(
                f,
                "\nnote: {} lines could not be written, as the proxy itself says",
                self.lost
            )?;
        }
        if self.crashes > 0 {
            write!(
                f,
                "\nnote: {} times a crash had cut off the last line",
                self.crashes
            )?;
        }
        if self.torn > 0 {
            write!(
                f,
                "\nnote: {} bytes at the end are the beginning of a line: a crash while it was written",
                self.torn
            )?;
        } else if !self.closed {
            write!(
                f,
                "\nnote: the last line is no `close`: the proxy runs, or it was killed, or lines were cut off; \
                 attest_proxy_audit_sequence has the number that it must have reached"
            )?;
        }
        Ok(())
    }
}
