//! Appraisal of evidence by hand: files and a nonce, no registry, no challenge of ours, no earlier quote.
//!
//! Owns: the checks that can be made on what is at hand, each told as made and passed, made and failed, or **not made**
//! with the reason. What comes out is an [`Examination`], which never becomes an [`Attested`]: there is no conversion,
//! and the proxy takes no `Examination`. Its verdict claims no more than its list of checks.
//! Refuses: to take a key's attributes, scheme or qualified name on trust where the file does not hold them.
//! An attacker may have made every file but the policy. Who holds the key is not known here at all.
//! Limits today: RSASSA alone with SHA-1, and only when asked.
//!
//! [`Attested`]: crate::Attested

mod checks;
mod key;

use domain::{HashAlg, PcrValues};

use crate::{
    appraise::Evidence,
    policy::PcrPolicy,
    wire::{Attest, Attested, ParseError},
};

use checks::Examiner;
pub use key::{Key, NotAKey};

/// What is at hand.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The quote as `TPMS_ATTEST` or `TPM2B_ATTEST`; the signature as `TPMT_SIGNATURE`, or plain (an RSA signature's
    /// bytes, or `Ecdsa-Sig-Value` in DER); the PCR values concatenated in the order of the quote's selection.
    pub evidence: Evidence<'a>,
    /// The key that is said to have signed.
    pub key: &'a Key,
    /// What the quote must be bound to.
    pub qualifying_data: &'a [u8],
    /// What the PCRs must hold, if that is known.
    pub policy: Option<&'a PcrPolicy>,
    /// The event log that is said to explain the PCRs.
    pub event_log: Option<&'a [u8]>,
    /// The image statement, for a policy that wants one.
    pub image_statement: Option<&'a [u8]>,
    /// Whether SHA-1 is believed, in the quoted bank and under the signature.
    pub allow_sha1: bool,
}

/// Why files are not evidence at all, good or bad.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEvidence {
    /// No statement of a TPM.
    #[error("the quote is not a statement of a TPM: {0}")]
    Quote(ParseError),
    /// No signature.
    #[error("the signature is neither a TPM's nor a plain one of this key's kind: {0}")]
    Signature(ParseError),
    /// No public area.
    #[error("the key is not a public area: {0}")]
    Key(ParseError),
}

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A TPM's statement of the type quote.
    Quote,
    /// The key may attest: attributes, scheme, size.
    Key,
    /// The key made the signature.
    Signature,
    /// The quote names the key, under its parent, as its signer.
    Signer,
    /// The quote is bound to the nonce.
    QualifyingData,
    /// Which PCRs are quoted, of which banks.
    Selection,
    /// The PCR values are those that were quoted.
    PcrValues,
    /// The PCR values are the policy's.
    Policy,
    /// The event log replays to the quoted values.
    EventLog,
    /// The quote follows the last one of this key.
    Freshness,
    /// The key is the attestation key of a device that somebody enrolled.
    Identity,
}

impl Subject {
    /// A word for it, for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quote => "quote",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Signer => "signer",
            Self::QualifyingData => "qualifying-data",
            Self::Selection => "selection",
            Self::PcrValues => "pcr-values",
            Self::Policy => "policy",
            Self::EventLog => "event-log",
            Self::Freshness => "freshness",
            Self::Identity => "identity",
        }
    }
}

/// What came of a check. The sentences are for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Made, and passed.
    Passed(String),
    /// Made, and failed: every reason.
    Failed(Vec<String>),
    /// Not made, and why.
    NotMade(String),
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Of what.
    pub subject: Subject,
    /// What came of it.
    pub outcome: Outcome,
}

/// What the examined quote says, true or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// `qualifiedSigner`.
    pub qualified_signer: Vec<u8>,
    /// `extraData`.
    pub extra_data: Vec<u8>,
    /// The clock in milliseconds.
    pub clock: u64,
    /// Resets of the TPM.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Whether the clock is certain.
    pub safe: bool,
    /// The maker's firmware version.
    pub firmware_version: u64,
    /// The quoted selection as tpm2-tools write it; `None` for a statement that is no quote.
    pub selection: Option<String>,
}

/// Every check of one case, made or not, in their order.
#[derive(Debug, Clone)]
pub struct Examination {
    checks: Vec<Check>,
    statement: Statement,
    values: Vec<PcrValues>,
}

impl Examination {
    /// The checks.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether a check failed.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_))) > 0
    }

    /// How many checks passed, failed, and were not made.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        (
            self.count(|outcome| matches!(outcome, Outcome::Passed(_))),
            self.count(|outcome| matches!(outcome, Outcome::Failed(_))),
            self.count(|outcome| matches!(outcome, Outcome::NotMade(_))),
        )
    }

    /// What the quote says.
    #[must_use]
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The PCR values, one per quoted bank, if they are those that were quoted; else empty.
    #[must_use]
    pub fn quoted_values(&self) -> &[PcrValues] {
        &self.values
    }

    fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.checks.iter().filter(|check| is(&check.outcome)).count()
    }
}

/// Makes every check that can be made.
///
/// # Errors
/// The files are not evidence at all.
pub fn examine(case: &Case<'_>) -> Result<Examination, NotEvidence> {
    let quote = key::without_size(case.evidence.quote);
    let attest = Attest::parse(quote).map_err(NotEvidence::Quote)?;
    let mut statement = Statement {
        qualified_signer: attest.qualified_signer.to_vec(),
        extra_data: attest.extra_data.to_vec(),
        clock: attest.clock.clock,
        reset_count: attest.clock.reset_count,
        restart_count: attest.clock.restart_count,
        safe: attest.clock.safe,
        firmware_version: attest.firmware_version,
        selection: None,
    };
    let public = case.key.public().map_err(NotEvidence::Key)?;
    let (selection, digest) = match attest.attested {
        Attested::Quote { selection, digest } => (selection, digest),
        Attested::Certify { .. } | Attested::Creation { .. } => {
            let reason = "the TPM's statement certifies an object; it is no quote of PCRs";
            let checks = vec![Check {
                subject: Subject::Quote,
                outcome: Outcome::Failed(vec![reason.to_owned()]),
            }];
            return Ok(Examination {
                checks,
                statement,
                values: Vec::new(),
            });
        }
    };
    statement.selection = Some(selection.to_string());
    let examiner = Examiner {
        case,
        public,
        quote,
        attest,
        selection,
        digest,
    };
    let (checks, values) = examiner.all()?;
    Ok(Examination {
        checks,
        statement,
        values,
    })
}

/// The banks whose values anybody can collide.
pub(crate) fn is_weak(bank: HashAlg) -> bool {
    bank == HashAlg::Sha1
}
