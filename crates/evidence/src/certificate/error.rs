//! Where a chain breaks, as data and as a sentence.
//!
//! Owns: the one sentence that an operator reads; it is whole, so none of these errors has a source to print after it.
//! An attacker controls the names in it, which are made safe for a terminal where they are read.

use domain::UnixTime;

use super::{CertificateError, MAX_INTERMEDIATES_SENT, MAX_ISSUERS};

/// A chain that does not reach a root, and the certificate at which it breaks: the furthest that was reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the chain of the EK certificate breaks at {}: {reason}", position(*.depth, .certificate))]
pub struct ChainError {
    depth: usize,
    certificate: String,
    reason: ChainBreak,
    issuer_urls: Vec<String>,
}

impl ChainError {
    pub(super) fn new(depth: usize, certificate: &str, reason: ChainBreak) -> Self {
        Self {
            depth,
            certificate: certificate.to_owned(),
            reason,
            issuer_urls: Vec::new(),
        }
    }

    pub(super) fn with_urls(self, issuer_urls: Vec<String>) -> Self {
        Self { issuer_urls, ..self }
    }

    /// How many certificates below this one: 0 is the EK certificate itself.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.depth
    }

    /// The subject of the certificate, safe to print.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What is wrong with it.
    #[must_use]
    pub const fn reason(&self) -> &ChainBreak {
        &self.reason
    }

    /// Where that certificate says its issuer's is published, safe to print. Nothing here fetches it, and nobody should
    /// without looking: whoever made the certificate chose the address.
    #[must_use]
    pub fn issuer_urls(&self) -> &[String] {
        &self.issuer_urls
    }

    /// What to do about it, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match (&self.reason, self.issuer_urls.as_slice()) {
            (ChainBreak::NoIssuer { .. }, [url, ..]) => Some(format!(
                "the certificate says that its issuer's is at {url}; compare it with what the maker publishes before it \
                 goes into the folder of roots"
            )),
            (ChainBreak::NoIssuer { .. } | ChainBreak::NoRoots, _) => {
                Some("put the maker's root and intermediate certificates into the folder of roots".to_owned())
            }
            (ChainBreak::Sha1, _) => {
                Some("allow SHA-1 for intermediates by name if this maker has nothing better".to_owned())
            }
            _ => None,
        }
    }
}

fn position(depth: usize, certificate: &str) -> String {
    match depth {
        0 => "the EK certificate itself".to_owned(),
        1 => format!("its issuer {certificate}"),
        _ => format!("{certificate}, {depth} above it"),
    }
}

/// What is wrong with a certificate of a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(CertificateError),
    /// One of the intermediates that were sent cannot be read.
    #[error("intermediate {number} of those sent with it cannot be read: {error}")]
    IntermediateUnreadable {
        /// Counted from 1.
        number: usize,
        /// Why.
        error: CertificateError,
    },
    /// More intermediates than anybody needs.
    #[error("{count} intermediates were sent with it, {MAX_INTERMEDIATES_SENT} are allowed")]
    TooManyIntermediates {
        /// How many.
        count: usize,
    },
    /// The folder holds no root.
    #[error("there is no root to trust")]
    NoRoots,
    /// Nobody of that name among roots and intermediates.
    #[error("no certificate of its issuer {issuer} is among the roots and intermediates")]
    NoIssuer {
        /// The issuer's name, safe to print.
        issuer: String,
    },
    /// There is an issuer of that name, and its key did not make the signature.
    #[error("its signature is not by the key of {issuer}")]
    Signature {
        /// The issuer's name, safe to print.
        issuer: String,
    },
    /// An algorithm, curve or key that is not checked here.
    #[error("its signature cannot be checked: {what} is not supported")]
    Algorithm {
        /// Which.
        what: String,
    },
    /// RSA keys of 2048 to 4096 bits may sign.
    #[error("its signature is by an RSA key of {bits} bits, 2048 to 4096 are allowed")]
    KeySize {
        /// The length of the issuer's modulus.
        bits: usize,
    },
    /// Anybody with some money can make two certificates with one SHA-1 signature.
    #[error("its signature is over a SHA-1 digest, which is forged for money")]
    Sha1,
    /// After its last second.
    #[error("it expired at {not_after} (now {now})")]
    Expired {
        /// Its last second.
        not_after: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// Before its first second.
    #[error("it holds only from {not_before} (now {now})")]
    NotYetValid {
        /// Its first second.
        not_before: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// RFC 5280, 4.2.1.9: `cA` is not set.
    #[error("it is not a CA's")]
    NotACa,
    /// RFC 5280, 4.2.1.3: `keyCertSign` is not set.
    #[error("its key usage does not allow to sign certificates")]
    KeyUsage,
    /// RFC 5280, 4.2.1.12: its purposes leave out EK certificates.
    #[error("its purposes do not include EK certificates")]
    Purpose,
    /// RFC 5280, 4.2.1.9: `pathLenConstraint`.
    #[error("it allows {allowed} intermediates below it, there are {found}")]
    PathLength {
        /// The constraint.
        allowed: u32,
        /// How many there are.
        found: usize,
    },
    /// RFC 5280, 4.2: an extension that must be understood and is not.
    #[error("it has a critical extension that is not understood: {oid}")]
    UnknownCritical {
        /// Which.
        oid: String,
    },
    /// It restricts what it issues, and that restriction is not checked here.
    #[error("it has {what}, which is not checked here")]
    UncheckedConstraint {
        /// The extension's name.
        what: &'static str,
    },
    /// A chain longer than any maker's.
    #[error("there are more than {MAX_ISSUERS} issuers above the EK certificate")]
    TooLong,
    /// Certificates of the same names made to keep the search busy.
    #[error("too many signatures would have to be tried")]
    TooMuchWork,
    /// A certificate, and not an endorsement key's.
    #[error("it is no EK certificate: {0}")]
    NotAnEk(NotAnEk),
}

/// Why a certificate is not an endorsement key's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEk {
    /// EK Credential Profile: the basic constraints of an EK certificate never say CA.
    #[error("it is a CA's")]
    Ca,
    /// It has purposes, and `tcg-kp-EKCertificate` (2.23.133.8.1) is not among them.
    #[error("its purposes do not include tcg-kp-EKCertificate (2.23.133.8.1)")]
    Purpose,
    /// It has neither purposes nor a TPM's maker in its alternative name.
    #[error("neither a purpose nor a TPM's maker in its alternative name says so")]
    Unmarked,
    /// An EK decrypts: `keyEncipherment` for RSA, `keyAgreement` for ECC.
    #[error("its key usage does not allow to decrypt")]
    KeyUsage,
    /// A key that no EK here has.
    #[error("its key is {0}, not RSA, P-256, P-384 or P-521")]
    Key(String),
}
