//! The verdict on refused evidence: every failed check, as data and as sentences for an operator.
//!
//! Owns: the wording and the class of each failure. Sentences go to the operator's log; of the answer to a client only
//! the class decides. They hold digests and names, which are no secrets.

use std::fmt;

use data_encoding::HEXLOWER;
use domain::{PcrIndex, PcrSelection, PcrValue, TpmName, UnixTime};

use crate::{
    explain::{Cause, meaning},
    freshness::Stale,
    policy::SetName,
    rules::{LogRefused, RuleBroken},
    statement::StatementRefused,
    wire::{ParseError, Scheme},
};

/// What kind of refusal a failure leads to. The greatest of several counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureClass {
    /// Genuine and fresh, but the PCRs are not the policy's: `evidence-mismatch`.
    Mismatch,
    /// Genuine, but older than what was seen, or the TPM was rolled back: `evidence-stale`.
    Stale,
    /// Not this AK's evidence for this challenge: `evidence-invalid`.
    Invalid,
}

/// One failed check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The quote is not a statement of a TPM.
    #[error("the quote cannot be read: {0}")]
    Quote(ParseError),
    /// The statement is of another type.
    #[error("the TPM's statement is {found}, not a quote")]
    NotAQuote {
        /// What it is.
        found: &'static str,
    },
    /// The signature is none.
    #[error("the signature cannot be read: {0}")]
    Signature(ParseError),
    /// The signature is of another scheme than the AK's.
    #[error("the signature is {found}, the registered AK signs {expected}")]
    Scheme {
        /// The AK's.
        expected: Scheme,
        /// The signature's.
        found: Scheme,
    },
    /// The signature is not the AK's over this quote.
    #[error("the signature over the quote is not by the registered AK {}", hex(ak_name.as_bytes()))]
    Forged {
        /// The registered AK.
        ak_name: TpmName,
    },
    /// `qualifiedSigner` is another key.
    #[error("the quote names another signer than the registered AK: expected {}, found {}", hex(expected.as_bytes()), hex(found))]
    Signer {
        /// The AK's qualified name.
        expected: TpmName,
        /// `qualifiedSigner`, at most 66 bytes.
        found: Vec<u8>,
    },
    /// `extraData` is not the expected qualifying data.
    #[error(
        "the quote answers another challenge, request or session: expected qualifying data {}, found {}",
        hex(expected),
        hex_or_none(found)
    )]
    QualifyingData {
        /// What the quote had to be bound to.
        expected: [u8; 32],
        /// `extraData`, at most 66 bytes.
        found: Vec<u8>,
    },
    /// The counters do not follow the last accepted ones.
    #[error("{0}")]
    Stale(Stale),
    /// Other PCRs are quoted than the policy wants.
    #[error("the quote covers {found}, the policy wants exactly {expected}")]
    Selection {
        /// The policy's.
        expected: PcrSelection,
        /// The quote's, as tpm2-tools would write it.
        found: String,
    },
    /// The PCR values sent do not fit the quoted selection.
    #[error("{found} bytes of PCR values were sent, {selection} has {expected}")]
    ValuesLength {
        /// The quoted selection.
        selection: PcrSelection,
        /// Bytes that its values have.
        expected: usize,
        /// Bytes sent.
        found: usize,
    },
    /// The PCR values sent are not those that the TPM quoted.
    #[error("the PCR values that were sent are not the ones that the TPM quoted")]
    PcrDigest,
    /// The PCRs are those of a golden set that is no longer good.
    #[error("the PCRs are those of golden set `{set}`, which ended at {until}")]
    Ended {
        /// The set.
        set: SetName,
        /// When it ended.
        until: UnixTime,
    },
    /// No golden set of the policy is good any longer.
    #[error("every golden set of the policy has ended")]
    AllEnded,
    /// A PCR has another value than the policy wants, or than the golden set that is nearest to what was found.
    #[error(
        "PCR {index} differs from {}: {}{}; expected {expected}, found {found}",
        policy_or(set.as_ref()), meaning(*index), after_semicolon(cause.as_ref())
    )]
    Pcr {
        /// Which.
        index: PcrIndex,
        /// The golden set, if the policy has such.
        set: Option<SetName>,
        /// The policy's value.
        expected: PcrValue,
        /// The quoted value.
        found: PcrValue,
        /// What the event log that was sent says of it, if it replays to this PCR.
        cause: Option<Cause>,
    },
    /// The image statement that the policy wants is not there or not good.
    #[error("{0}")]
    Statement(StatementRefused),
    /// The event log that the policy's rules need is not there or proves nothing.
    #[error("{0}")]
    EventLog(LogRefused),
    /// The boot broke a rule of the policy.
    #[error("{0}")]
    Rule(RuleBroken),
}

impl Failure {
    /// What the failure leads to.
    #[must_use]
    pub const fn class(&self) -> FailureClass {
        match self {
            Self::Statement(refused) if refused.is_no_statement() => FailureClass::Invalid,
            Self::EventLog(LogRefused::Unreadable(_) | LogRefused::Unproven(_)) => FailureClass::Invalid,
            Self::Selection { .. }
            | Self::Ended { .. }
            | Self::AllEnded
            | Self::Pcr { .. }
            | Self::Statement(_)
            | Self::EventLog(LogRefused::Missing)
            | Self::Rule(_) => FailureClass::Mismatch,
            Self::Stale(_) => FailureClass::Stale,
            Self::Quote(_)
            | Self::NotAQuote { .. }
            | Self::Signature(_)
            | Self::Scheme { .. }
            | Self::Forged { .. }
            | Self::Signer { .. }
            | Self::QualifyingData { .. }
            | Self::ValuesLength { .. }
            | Self::PcrDigest => FailureClass::Invalid,
        }
    }
}

/// Evidence that was refused, with every check that failed: at least one, in the order of the checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected(Vec<Failure>);

impl Rejected {
    /// A step's failures, at least one.
    pub(crate) const fn new(failures: Vec<Failure>) -> Self {
        Self(failures)
    }

    /// Passes where nothing failed.
    pub(crate) fn unless_empty(failures: Vec<Failure>) -> Result<(), Self> {
        if failures.is_empty() {
            Ok(())
        } else {
            Err(Self(failures))
        }
    }

    /// Adds the failures of later steps.
    pub(crate) fn and(mut self, more: impl IntoIterator<Item = Failure>) -> Self {
        self.0.extend(more);
        self
    }

    /// Every failed check, in the order of the checks.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.0
    }

    /// The gravest class of them.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        let gravest = self.0.iter().map(Failure::class).max();
        gravest.unwrap_or(FailureClass::Invalid)
    }
}

impl From<Failure> for Rejected {
    fn from(failure: Failure) -> Self {
        Self(vec![failure])
    }
}

/// The sentences, joined by `; `.
impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut joint = "";
        for failure in &self.0 {
            write!(f, "{joint}{failure}")?;
            joint = "; ";
        }
        Ok(())
    }
}

impl std::error::Error for Rejected {}

fn policy_or(set: Option<&SetName>) -> String {
    set.map_or_else(|| "the policy".to_owned(), |name| format!("golden set `{name}`"))
}

fn after_semicolon(cause: Option<&Cause>) -> String {
    cause.map(|cause| format!("; {cause}")).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn hex_or_none(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "none".to_owned()
    } else {
        hex(bytes)
    }
}
