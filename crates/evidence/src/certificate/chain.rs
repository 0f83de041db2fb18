//! From an EK certificate to a trusted root, or to where it breaks.
//!
//! Owns: the path of RFC 5280, section 6, as far as TPM makers use it, and what makes a certificate an endorsement
//! key's. Bounded: [`MAX_ISSUERS`] above the certificate, [`MAX_INTERMEDIATES_SENT`], and 64 signatures tried.
//! An attacker controls the certificate and the intermediates sent; the latter are never trusted, only used to get to a
//! root of the operator's.

use domain::UnixTime;

use super::{
    endorsed::EkCertificate,
    error::{ChainBreak, ChainError, NotAnEk},
    key::Key,
    parsed::Certificate,
    roots::Roots,
    signature::Fault,
};

/// How many issuers a chain may have, the root included.
pub const MAX_ISSUERS: usize = 6;
/// How many intermediates a device may send along with its certificate.
pub const MAX_INTERMEDIATES_SENT: usize = 8;
/// How many signatures are tried for one certificate.
const MAX_SIGNATURES: usize = 64;

/// Verifies an EK certificate: DER or PEM, padding behind it allowed, with the intermediates that came with it (as
/// Intel's and Microsoft's TPMs hold them). Fetches nothing. Ties the certificate to no EK yet:
/// [`EkCertificate::matches`] does.
///
/// # Errors
/// Where the chain breaks: the furthest place that was reached.
pub fn verify_ek_certificate(
    certificate: &[u8],
    intermediates_sent: &[&[u8]],
    roots: &Roots,
    now: UnixTime,
) -> Result<EkCertificate, ChainError> {
    let at_leaf = |reason| ChainError::new(0, "", reason);
    let leaf = Certificate::read(certificate).map_err(|error| at_leaf(ChainBreak::Unreadable(error)))?;
    let at_leaf = |reason| ChainError::new(0, leaf.subject.as_text(), reason);
    let count = intermediates_sent.len();
    if count > MAX_INTERMEDIATES_SENT {
        return Err(at_leaf(ChainBreak::TooManyIntermediates { count }));
    }
    let mut sent = Vec::with_capacity(count);
    for (index, bytes) in intermediates_sent.iter().enumerate() {
        let number = index.saturating_add(1);
        sent.push(
            Certificate::read(bytes)
                .map_err(|error| at_leaf(ChainBreak::IntermediateUnreadable { number, error }))?,
        );
    }
    is_an_ek(&leaf).map_err(|why| at_leaf(ChainBreak::NotAnEk(why)))?;
    is_acceptable(&leaf, now).map_err(at_leaf)?;
    if roots.anchors().is_empty() {
        return Err(at_leaf(ChainBreak::NoRoots));
    }
    let mut search = Search {
        roots,
        sent: &sent,
        now,
        signatures_left: MAX_SIGNATURES,
    };
    let mut path = vec![&leaf];
    search.climb(&mut path)?;
    EkCertificate::of(&path)
        .ok_or_else(|| at_leaf(ChainBreak::NotAnEk(NotAnEk::Key("unsupported".to_owned()))))
}

/// EK Credential Profile, with what makers leave out of it left out.
fn is_an_ek(leaf: &Certificate) -> Result<(), NotAnEk> {
    let extensions = &leaf.extensions;
    if extensions
        .basic_constraints
        .is_some_and(|constraints| constraints.ca)
    {
        return Err(NotAnEk::Ca);
    }
    match extensions.purposes {
        Some(purposes) if !purposes.ek_certificate => return Err(NotAnEk::Purpose),
        None if extensions.device.manufacturer.is_none() => return Err(NotAnEk::Unmarked),
        _ => {}
    }
    let decrypts = |rsa: bool| {
        // Some early P-256 certificates say keyEncipherment, as swtpm's did.
        extensions
            .key_usage
            .is_none_or(|usage| usage.key_encipherment() || (!rsa && usage.key_agreement()))
    };
    match &leaf.key {
        Key::Rsa { .. } if !decrypts(true) => Err(NotAnEk::KeyUsage),
        Key::Ec { .. } if !decrypts(false) => Err(NotAnEk::KeyUsage),
        Key::Rsa { .. } | Key::Ec { .. } => Ok(()),
        Key::Unsupported(what) => Err(NotAnEk::Key(what.clone())),
    }
}

/// What every certificate of a chain is asked.
fn is_acceptable(certificate: &Certificate, now: UnixTime) -> Result<(), ChainBreak> {
    let validity = certificate.validity;
    if now < validity.not_before {
        let not_before = validity.not_before;
        return Err(ChainBreak::NotYetValid { not_before, now });
    }
    if let Some(not_after) = validity.not_after.filter(|end| now > *end) {
        return Err(ChainBreak::Expired { not_after, now });
    }
    match &certificate.extensions.unknown_critical {
        Some(oid) => Err(ChainBreak::UnknownCritical { oid: oid.clone() }),
        None => Ok(()),
    }
}

/// What every CA is asked. `below` counts the intermediates under it that are not self-issued.
fn may_issue(ca: &Certificate, below: usize) -> Result<(), ChainBreak> {
    let extensions = &ca.extensions;
    let Some(constraints) = extensions.basic_constraints.filter(|constraints| constraints.ca) else {
        return Err(ChainBreak::NotACa);
    };
    if extensions.key_usage.is_some_and(|usage| !usage.cert_sign()) {
        return Err(ChainBreak::KeyUsage);
    }
    if extensions
        .purposes
        .is_some_and(|purposes| !purposes.ek_certificate && !purposes.any)
    {
        return Err(ChainBreak::Purpose);
    }
    if let Some(what) = extensions.unchecked_constraint {
        return Err(ChainBreak::UncheckedConstraint { what });
    }
    match constraints.path_len {
        Some(allowed) if usize::try_from(allowed).is_ok_and(|allowed| below > allowed) => {
            Err(ChainBreak::PathLength {
                allowed,
                found: below,
            })
        }
        _ => Ok(()),
    }
}

struct Search<'a> {
    roots: &'a Roots,
    sent: &'a [Certificate],
    now: UnixTime,
    signatures_left: usize,
}

impl<'a> Search<'a> {
    /// Extends the path from its last certificate to a root, depth first.
    fn climb(&mut self, path: &mut Vec<&'a Certificate>) -> Result<(), ChainError> {
        let Some(&child) = path.last() else { return Ok(()) };
        let depth = path.len().saturating_sub(1);
        let at_child = |reason| ChainError::new(depth, child.subject.as_text(), reason);
        if depth >= MAX_ISSUERS {
            return Err(at_child(ChainBreak::TooLong));
        }
        let candidates = self.candidates(child, path);
        let mut furthest: Option<ChainError> = None;
        for (issuer, is_root) in candidates {
            let outcome = match self.check(child, issuer, path) {
                Err((at_issuer, reason)) => {
                    let (depth, name) = if at_issuer {
                        (depth.saturating_add(1), &issuer.subject)
                    } else {
                        (depth, &child.subject)
                    };
                    Err(ChainError::new(depth, name.as_text(), reason))
                }
                Ok(()) => {
                    path.push(issuer);
                    if is_root { Ok(()) } else { self.climb(path) }
                }
            };
            let Err(error) = outcome else { return Ok(()) };
            if matches!(error.reason(), ChainBreak::TooMuchWork) {
                return Err(error);
            }
            path.truncate(depth.saturating_add(1));
            if furthest
                .as_ref()
                .is_none_or(|known| known.depth() < error.depth())
            {
                furthest = Some(error);
            }
        }
        let issuer = child.issuer.as_text().to_owned();
        Err(furthest.unwrap_or_else(|| {
            at_child(ChainBreak::NoIssuer { issuer }).with_urls(child.extensions.issuer_urls.clone())
        }))
    }

    /// Everybody with the issuer's name who is not on the path yet, and whether it is a root. Roots first, then those
    /// whose key identifier is the one that the certificate names: a CA may have had several keys.
    fn candidates(&self, child: &Certificate, path: &[&Certificate]) -> Vec<(&'a Certificate, bool)> {
        let roots = self.roots.anchors().iter().map(|root| (root, true));
        let others = self
            .roots
            .intermediates()
            .iter()
            .chain(self.sent)
            .map(|other| (other, false));
        let mut found: Vec<_> = roots
            .chain(others)
            .filter(|(issuer, _)| issuer.subject.is_same(&child.issuer))
            .filter(|(issuer, _)| !path.iter().any(|link| link.is_same_entity(issuer)))
            .collect();
        let wanted = &child.extensions.authority_key_id;
        found.sort_by_key(|(issuer, _)| wanted.is_some() && issuer.extensions.subject_key_id != *wanted);
        found
    }

    /// The error says whether it is the issuer's fault (`true`) or lies with the certificate below it.
    fn check(
        &mut self,
        child: &Certificate,
        issuer: &Certificate,
        path: &[&Certificate],
    ) -> Result<(), (bool, ChainBreak)> {
        let Some(left) = self.signatures_left.checked_sub(1) else {
            return Err((false, ChainBreak::TooMuchWork));
        };
        self.signatures_left = left;
        // SHA-1 is for intermediates, and only where the operator said so: never for the EK certificate itself.
        let sha1 = self.roots.allows_sha1() && path.len() > 1;
        child.signed_by(&issuer.key, sha1).map_err(|fault| {
            let reason = match fault {
                Fault::Wrong => ChainBreak::Signature {
                    issuer: issuer.subject.as_text().to_owned(),
                },
                Fault::Sha1 => ChainBreak::Sha1,
                Fault::KeySize(bits) => ChainBreak::KeySize { bits },
                Fault::Unsupported(what) => ChainBreak::Algorithm { what },
            };
            (false, reason)
        })?;
        let below = path.iter().skip(1).filter(|link| !link.is_self_issued()).count();
        is_acceptable(issuer, self.now)
            .and_then(|()| may_issue(issuer, below))
            .map_err(|reason| (true, reason))
    }
}
