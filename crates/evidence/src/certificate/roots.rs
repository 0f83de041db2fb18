//! The operator's folder of maker certificates.
//!
//! Owns: which certificates are trusted by being there (the self-signed ones) and which only help to reach those (all
//! others). Refuses to read the folder: the caller does, and passes names and bytes. A file that cannot be read is
//! reported by its name and left out, so that one odd file of a maker does not take down the others; a root that is
//! missing for that can only lead to a refusal.
//! An attacker controls nothing here, or the operator has lost already.

use std::collections::HashSet;

use domain::CertificateDigest;

use super::{
    parsed::{Certificate, CertificateError},
    reading::certificates_in,
    signature::Fault,
};

/// A file of the folder that could not be read, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}{}: {why}", .number.map(|n| format!(", certificate {n}")).unwrap_or_default())]
pub struct UnreadableFile {
    /// The file's name as the caller gave it.
    pub name: String,
    /// Which certificate of the file, counted from 1; `None` for the whole file.
    pub number: Option<usize>,
    /// What is wrong with it.
    pub why: CertificateError,
}

/// Trusted roots, and the intermediates that are at hand.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    anchors: Vec<Certificate>,
    intermediates: Vec<Certificate>,
    unreadable: Vec<UnreadableFile>,
    sha1: bool,
}

impl Roots {
    /// Reads files of DER or PEM, several certificates in each if need be: (name, content). Self-signed certificates
    /// are roots.
    #[must_use]
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut roots = Self::default();
        let mut known = HashSet::new();
        for (name, bytes) in files {
            let found = match certificates_in(bytes) {
                Ok(found) => found,
                Err(error) => {
                    roots.report(name, None, error.into());
                    continue;
                }
            };
            for (index, der) in found.into_iter().enumerate() {
                if !known.insert(CertificateDigest::of(&der)) {
                    continue;
                }
                match Certificate::of(der) {
                    Ok(certificate) if is_self_signed(&certificate) => roots.anchors.push(certificate),
                    Ok(certificate) => roots.intermediates.push(certificate),
                    Err(error) => roots.report(name, Some(index.saturating_add(1)), error),
                }
            }
        }
        roots
    }

    /// Lets a root or an intermediate sign an intermediate over SHA-1: some makers' old CAs have nothing better. The EK
    /// certificate itself is never believed over SHA-1.
    #[must_use]
    pub fn allowing_sha1_intermediates(self) -> Self {
        Self { sha1: true, ..self }
    }

    /// The files that could not be read, for the operator to see.
    #[must_use]
    pub fn unreadable(&self) -> &[UnreadableFile] {
        &self.unreadable
    }

    /// The subjects of the roots, safe to print.
    pub fn root_subjects(&self) -> impl Iterator<Item = &str> {
        self.anchors.iter().map(|root| root.subject.as_text())
    }

    /// How many intermediates are at hand.
    #[must_use]
    pub fn intermediate_count(&self) -> usize {
        self.intermediates.len()
    }

    pub(super) fn anchors(&self) -> &[Certificate] {
        &self.anchors
    }

    pub(super) fn intermediates(&self) -> &[Certificate] {
        &self.intermediates
    }

    pub(super) const fn allows_sha1(&self) -> bool {
        self.sha1
    }

    fn report(&mut self, name: &str, number: Option<usize>, why: CertificateError) {
        self.unreadable.push(UnreadableFile {
            name: name.to_owned(),
            number,
            why,
        });
    }
}

/// A root's own signature protects nothing, so any algorithm will do to tell it from a certificate of the same CA by
/// another key; one that cannot be checked here is believed to be its own.
fn is_self_signed(certificate: &Certificate) -> bool {
    certificate.is_self_issued()
        && match certificate.signed_by(&certificate.key, true) {
            Ok(()) | Err(Fault::Unsupported(_) | Fault::KeySize(_) | Fault::Sha1) => true,
            Err(Fault::Wrong) => false,
        }
}
