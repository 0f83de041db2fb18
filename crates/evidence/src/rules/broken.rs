//! What is wrong with an event log, and which rules a true one breaks: as data, and as sentences with the event's number
//! and type. Texts out of a log are escaped and cut: they are anybody's.

use std::fmt;

use domain::{PcrIndex, Sha256Digest};

use super::secure_boot::KeyVariable;
use crate::eventlog::{Event, EventType, LogError, Unproven};

/// The most characters of a log's text in a sentence.
const MAX_TEXT: usize = 300;

/// Which event: `event 14, EV_EFI_VARIABLE_DRIVER_CONFIG`. The type is the log's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Its position in the log, from 0.
    pub number: usize,
    /// What it claims to be.
    pub kind: EventType,
}

impl From<&Event<'_>> for At {
    fn from(event: &Event<'_>) -> Self {
        Self {
            number: event.number,
            kind: event.kind,
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {}, {}", self.number, self.kind)
    }
}

/// Why an event log is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogRefused {
    /// None was sent.
    #[error("the policy has rules on the boot, no event log was sent")]
    Missing,
    /// It cannot be read.
    #[error("the event log cannot be read: {0}")]
    Unreadable(#[from] LogError),
    /// It does not replay to the quoted PCRs.
    #[error("the event log proves nothing: {0}")]
    Unproven(#[from] Unproven),
}

/// A rule that a proven log breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleBroken {
    /// An event, in a PCR that a rule is about, whose data is not what was measured.
    #[error("PCR {pcr} cannot be judged: {at} does not show what was measured")]
    Hidden {
        /// The PCR.
        pcr: PcrIndex,
        /// The event.
        at: At,
    },
    /// PCR 7 without the separator that ends the firmware's measurements.
    #[error("PCR 7 cannot be judged: it has no separator, the firmware never finished measuring")]
    NoSeparator,
    /// No event says whether Secure Boot is on.
    #[error("Secure Boot is not shown to be on: PCR 7 has no SecureBoot variable before its separator")]
    SecureBootUnknown,
    /// Secure Boot is off.
    #[error("Secure Boot is off: {at}, SecureBoot is not 1")]
    SecureBootOff {
        /// The event.
        at: At,
    },
    /// The firmware ran in its debug mode.
    #[error("the firmware is in debug mode: {at}")]
    DebugMode {
        /// The event.
        at: At,
    },
    /// shim was told not to verify, or not to use the firmware's keys.
    #[error("shim's verification is off: {at}, {variable} is set")]
    ShimOff {
        /// The event.
        at: At,
        /// `MokSBState` or `MokDBState`.
        variable: &'static str,
    },
    /// A key variable was not measured before the separator.
    #[error("{variable} was not measured: PCR 7 has no such variable before its separator")]
    KeysUnknown {
        /// The variable.
        variable: KeyVariable,
    },
    /// A key variable has a value that the policy does not list.
    #[error("{variable} is not one that the policy lists: {at}, SHA-256 of its value {found}")]
    Keys {
        /// The variable.
        variable: KeyVariable,
        /// The event.
        at: At,
        /// SHA-256 over the variable's value.
        found: Sha256Digest,
    },
    /// Nothing says what let the boot loader start.
    #[error("no boot loader authority was measured: PCR 7 has no variable after its separator")]
    AuthorityUnknown,
    /// Something that the policy does not list let a boot loader start, or was measured beside it.
    #[error(
        "boot loader authority is not one that the policy lists: {at}, {}, SHA-256 of its value {found}",
        text(name)
    )]
    Authority {
        /// The event.
        at: At,
        /// The variable's name; of what is no variable, `no variable`.
        name: String,
        /// SHA-256 over the variable's value; of what is no variable, over what was measured.
        found: Sha256Digest,
    },
    /// No readable command line was measured.
    #[error("no kernel command line was measured in PCR 8 or 12 in readable form")]
    CommandLineUnknown,
    /// A command line matches no pattern.
    #[error(
        "the kernel command line matches no pattern of the policy: {at}, `{}`",
        text(found)
    )]
    CommandLine {
        /// The event.
        at: At,
        /// The command line.
        found: String,
    },
    /// A command line asks for a shell, or for another first program.
    #[error("the boot was told to give a shell: {at}, `{}`", text(word))]
    DebugShell {
        /// The event.
        at: At,
        /// The word that does so.
        word: String,
    },
}

fn text(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_TEXT).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        out.push_str("...");
    }
    out
}
